//! One circuit: pure.

use std::time::{Duration, Instant};

use super::{BreakerSettings, CircuitState};

/// How many parts the window has. Outcomes leave it a part at a time.
const PARTS: u32 = 10;
/// How often the pause is doubled at most.
const MAX_DOUBLINGS: u32 = 4;

/// The right to try once. Handed back with what came of it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a probe that is not handed back keeps the circuit from closing for a pause"]
pub struct Pass {
    /// Which probe it is; `None` while the circuit is closed.
    probe: Option<u64>,
}

impl Pass {
    /// A pass where there is no circuit.
    pub fn free() -> Self {
        Pass { probe: None }
    }
}

/// A circuit. Starts out closed.
#[derive(Debug, Clone)]
pub struct Circuit {
    phase: Phase,
    /// How often it opened without having closed in between, less one.
    doublings: u32,
    /// Tells a probe from those of earlier times.
    next_probe: u64,
}

#[derive(Debug, Clone)]
enum Phase {
    Closed(Window),
    Open {
        until: Instant,
    },
    HalfOpen {
        /// The first probe since it is so: what came before belongs to another time.
        first: u64,
        /// The last probe, while it is under way, and until when no other is made beside it.
        probe: Option<(u64, Instant)>,
        succeeded: u32,
    },
}

/// Outcomes by the part of time in which they came.
#[derive(Debug, Clone)]
struct Window {
    began: Instant,
    /// The part that is counted in, from `began` on.
    part: u64,
    succeeded: [u32; PARTS as usize],
    failed: [u32; PARTS as usize],
}

impl Window {
    fn new(now: Instant) -> Self {
        Window {
            began: now,
            part: 0,
            succeeded: [0; PARTS as usize],
            failed: [0; PARTS as usize],
        }
    }

    /// Forgets what has left the window, and gives the part that `now` is in.
    fn turn(&mut self, now: Instant, settings: &BreakerSettings) -> usize {
        let length = (settings.window / PARTS).max(Duration::from_micros(100));
        let passed = now.saturating_duration_since(self.began).as_micros();
        let part = u64::try_from(passed / length.as_micros().max(1)).unwrap_or(u64::MAX);
        let parts = u64::from(PARTS);
        if part >= self.part.saturating_add(parts) {
            self.succeeded = [0; PARTS as usize];
            self.failed = [0; PARTS as usize];
            self.part = part;
        }
        while self.part < part {
            self.part += 1;
            let at = slot(self.part);
            self.succeeded[at] = 0;
            self.failed[at] = 0;
        }
        slot(self.part)
    }

    /// How many outcomes there are, and how many of them are failures.
    fn sums(&self) -> (u64, u64) {
        let sum = |parts: &[u32]| parts.iter().map(|&count| u64::from(count)).sum::<u64>();
        let failed = sum(&self.failed);
        (failed + sum(&self.succeeded), failed)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "less than PARTS")]
fn slot(part: u64) -> usize {
    (part % u64::from(PARTS)) as usize
}

impl Circuit {
    /// A closed circuit without outcomes.
    pub fn new(now: Instant) -> Self {
        Circuit {
            phase: Phase::Closed(Window::new(now)),
            doublings: 0,
            next_probe: 0,
        }
    }

    /// How it stands. One whose pause is over is half-open, whether or not somebody has asked.
    pub fn state(&self, now: Instant) -> CircuitState {
        match &self.phase {
            Phase::Closed(_) => CircuitState::Closed,
            Phase::Open { until } if now < *until => CircuitState::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// Whether nothing is known that a new circuit would not know.
    pub fn is_idle(&mut self, now: Instant, settings: &BreakerSettings) -> bool {
        match &mut self.phase {
            Phase::Closed(window) => {
                window.turn(now, settings);
                window.sums().0 == 0
            }
            _ => false,
        }
    }

    /// How long nothing goes through from `now` on; zero where something may.
    pub fn pause_left(&self, now: Instant) -> Duration {
        match &self.phase {
            Phase::Open { until } => until.saturating_duration_since(now),
            Phase::Closed(_) | Phase::HalfOpen { .. } => Duration::ZERO,
        }
    }

    /// Whether it may be tried at `now`. While a probe is under way no other is made, for as long as
    /// the pause; one that takes longer counts all the same once it ends.
    ///
    /// # Errors
    /// How long to wait before asking again.
    pub fn allow(&mut self, now: Instant, settings: &BreakerSettings) -> Result<Pass, Duration> {
        if let Phase::Open { until } = &self.phase {
            if now < *until {
                return Err(*until - now);
            }
            self.phase = Phase::HalfOpen {
                first: self.next_probe,
                probe: None,
                succeeded: 0,
            };
        }
        match &mut self.phase {
            Phase::HalfOpen { probe, .. } => {
                if let Some((_, given_up)) = probe
                    && now < *given_up
                {
                    // Its answer may come at any time, and should not be asked for all the time.
                    let wait = (*given_up - now).min(settings.pause / 10);
                    return Err(wait.max(Duration::from_millis(1)));
                }
                let number = self.next_probe;
                self.next_probe += 1;
                *probe = Some((number, now + settings.pause.max(Duration::from_millis(1))));
                Ok(Pass {
                    probe: Some(number),
                })
            }
            _ => Ok(Pass { probe: None }),
        }
    }

    /// What was tried went well.
    pub fn record_success(&mut self, pass: Pass, now: Instant, settings: &BreakerSettings) {
        match &mut self.phase {
            Phase::Closed(window) if pass.probe.is_none() => {
                let part = window.turn(now, settings);
                window.succeeded[part] = window.succeeded[part].saturating_add(1);
            }
            Phase::HalfOpen {
                first,
                probe,
                succeeded,
            } if pass.probe.is_some_and(|number| number >= *first) => {
                end(probe, &pass);
                *succeeded += 1;
                if *succeeded >= settings.probes {
                    self.phase = Phase::Closed(Window::new(now));
                    self.doublings = 0;
                }
            }
            // From before it opened: that was another time.
            _ => {}
        }
    }

    /// What was tried failed. `random` is from 0 up to 1, and lengthens the pause by up to half.
    pub fn record_failure(
        &mut self,
        pass: Pass,
        now: Instant,
        settings: &BreakerSettings,
        random: f64,
    ) {
        match &mut self.phase {
            Phase::Closed(window) if pass.probe.is_none() => {
                let part = window.turn(now, settings);
                window.failed[part] = window.failed[part].saturating_add(1);
                let (all, failed) = window.sums();
                let enough = all >= u64::from(settings.minimum.max(1));
                if enough && failed as f64 >= settings.failure_rate * all as f64 {
                    self.open(now, settings, random);
                }
            }
            Phase::HalfOpen { first, .. } if pass.probe.is_some_and(|number| number >= *first) => {
                self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
                self.open(now, settings, random);
            }
            _ => {}
        }
    }

    /// What was tried came to nothing that says anything: a probe may be made by another.
    pub fn withdraw(&mut self, pass: Pass) {
        if let Phase::HalfOpen { probe, .. } = &mut self.phase {
            end(probe, &pass);
        }
    }

    fn open(&mut self, now: Instant, settings: &BreakerSettings, random: f64) {
        let pause = settings.pause.saturating_mul(1 << self.doublings);
        let pause = pause.saturating_add(pause.mul_f64(random.clamp(0.0, 1.0) / 2.0));
        self.phase = Phase::Open { until: now + pause };
    }
}

/// Makes room for another probe, where this was the last.
fn end(probe: &mut Option<(u64, Instant)>, pass: &Pass) {
    if let (Some((under_way, _)), Some(number)) = (&*probe, pass.probe)
        && *under_way == number
    {
        *probe = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings {
        window: Duration::from_secs(10),
        minimum: 4,
        failure_rate: 0.5,
        pause: Duration::from_secs(8),
        probes: 2,
    };

    fn pass(circuit: &mut Circuit, now: Instant) -> Pass {
        circuit.allow(now, &SETTINGS).unwrap()
    }

    fn fail(circuit: &mut Circuit, now: Instant) {
        let pass = pass(circuit, now);
        circuit.record_failure(pass, now, &SETTINGS, 0.0);
    }

    fn succeed(circuit: &mut Circuit, now: Instant) {
        let pass = pass(circuit, now);
        circuit.record_success(pass, now, &SETTINGS);
    }

    fn opened(began: Instant) -> Circuit {
        let mut circuit = Circuit::new(began);
        for _ in 0..4 {
            fail(&mut circuit, began);
        }
        assert_eq!(circuit.state(began), CircuitState::Open);
        circuit
    }

    #[test]
    fn it_opens_by_rate_and_count() {
        let now = Instant::now();
        let mut circuit = Circuit::new(now);
        for _ in 0..3 {
            fail(&mut circuit, now);
            assert_eq!(circuit.state(now), CircuitState::Closed, "too few");
        }
        let mut circuit = Circuit::new(now);
        for _ in 0..10 {
            succeed(&mut circuit, now);
        }
        for _ in 0..9 {
            fail(&mut circuit, now);
            assert_eq!(circuit.state(now), CircuitState::Closed, "less than half");
        }
        fail(&mut circuit, now);
        assert_eq!(circuit.state(now), CircuitState::Open);
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let now = Instant::now();
        let mut circuit = Circuit::new(now);
        for second in 0..20 {
            // Never more than three within ten seconds.
            fail(&mut circuit, now + Duration::from_secs(4 * second));
        }
        let later = now + Duration::from_secs(80);
        assert_eq!(circuit.state(later), CircuitState::Closed);
        assert!(!circuit.is_idle(later, &SETTINGS));
        assert!(circuit.is_idle(later + Duration::from_secs(12), &SETTINGS));
    }

    #[test]
    fn one_probe_at_a_time_closes_it() {
        let began = Instant::now();
        let mut circuit = opened(began);
        let wait = circuit.allow(began, &SETTINGS).unwrap_err();
        assert_eq!(wait, SETTINGS.pause);
        let now = began + SETTINGS.pause;
        assert_eq!(circuit.state(now), CircuitState::HalfOpen);
        let probe = pass(&mut circuit, now);
        assert!(circuit.allow(now, &SETTINGS).is_err());
        circuit.record_success(probe, now, &SETTINGS);
        assert_eq!(circuit.state(now), CircuitState::HalfOpen);
        succeed(&mut circuit, now);
        assert_eq!(circuit.state(now), CircuitState::Closed);
        assert!(circuit.is_idle(now, &SETTINGS), "it begins anew");
    }

    #[test]
    fn a_bad_probe_doubles_the_pause_and_chance_lengthens_it() {
        let began = Instant::now();
        let mut circuit = opened(began);
        let mut now = began + SETTINGS.pause;
        for factor in [2, 4, 8, 16, 16] {
            let probe = pass(&mut circuit, now);
            circuit.record_failure(probe, now, &SETTINGS, 0.5);
            let wait = circuit.allow(now, &SETTINGS).unwrap_err();
            assert_eq!(wait, (SETTINGS.pause * factor).mul_f64(1.25));
            now += wait;
        }
        succeed(&mut circuit, now);
        succeed(&mut circuit, now);
        for _ in 0..4 {
            fail(&mut circuit, now);
        }
        let wait = circuit.allow(now, &SETTINGS).unwrap_err();
        assert_eq!(wait, SETTINGS.pause, "as at first");
    }

    #[test]
    fn a_probe_that_comes_to_nothing_makes_room_for_another() {
        let began = Instant::now();
        let mut circuit = opened(began);
        let now = began + SETTINGS.pause;
        let probe = pass(&mut circuit, now);
        circuit.withdraw(probe);
        let overdue = pass(&mut circuit, now);
        let later = now + SETTINGS.pause;
        let probe = pass(&mut circuit, later);
        circuit.withdraw(overdue);
        assert!(circuit.allow(later, &SETTINGS).is_err(), "one at a time");
        circuit.record_failure(probe, later, &SETTINGS, 0.0);
        assert_eq!(circuit.state(later), CircuitState::Open);
        assert_eq!(circuit.pause_left(later), 2 * SETTINGS.pause);
    }

    /// Under traffic another probe begins as soon as the last is overdue, so that none would ever count
    /// if only the last did.
    #[test]
    fn probes_that_take_longer_than_the_pause_close_it_under_traffic() {
        let began = Instant::now();
        let takes = SETTINGS.pause * 3;
        let mut circuit = opened(began);
        let mut now = began + SETTINGS.pause;
        let mut under_way: VecDeque<(Instant, Pass)> = VecDeque::new();
        let given_up = now + takes * 2;
        while circuit.state(now) != CircuitState::Closed {
            assert!(now < given_up, "it never closes");
            if let Ok(pass) = circuit.allow(now, &SETTINGS) {
                under_way.push_back((now + takes, pass));
            }
            now += SETTINGS.pause / 8;
            while under_way.front().is_some_and(|(ends, _)| *ends <= now) {
                let (_, probe) = under_way.pop_front().unwrap();
                circuit.record_success(probe, now, &SETTINGS);
            }
        }
        // What is still under way was let through by a circuit that was not closed.
        for (_, probe) in under_way {
            circuit.record_failure(probe, now, &SETTINGS, 0.0);
        }
        assert!(circuit.is_idle(now, &SETTINGS));
    }

    #[test]
    fn an_overdue_probe_that_fails_opens_it_and_one_of_earlier_times_does_not() {
        let began = Instant::now();
        let mut circuit = opened(began);
        let mut now = began + SETTINGS.pause;
        let (first, second) = (pass(&mut circuit, now), {
            now += SETTINGS.pause;
            pass(&mut circuit, now)
        });
        circuit.record_failure(first, now, &SETTINGS, 0.0);
        assert_eq!(circuit.state(now), CircuitState::Open);
        now += 2 * SETTINGS.pause;
        let probe = pass(&mut circuit, now);
        circuit.record_failure(second, now, &SETTINGS, 0.0);
        assert_eq!(circuit.state(now), CircuitState::HalfOpen, "another time");
        circuit.record_success(probe, now, &SETTINGS);
        succeed(&mut circuit, now);
        assert_eq!(circuit.state(now), CircuitState::Closed);
    }

    /// What failed together is not tried again together.
    #[test]
    fn a_pause_is_lengthened_by_up_to_half() {
        for (random, longer) in [(0.0, 1.0), (0.5, 1.25), (1.0, 1.5), (7.0, 1.5)] {
            let now = Instant::now();
            let mut circuit = Circuit::new(now);
            for _ in 0..SETTINGS.minimum {
                let pass = circuit.allow(now, &SETTINGS).unwrap();
                circuit.record_failure(pass, now, &SETTINGS, random);
            }
            let wait = circuit.allow(now, &SETTINGS).unwrap_err();
            assert_eq!(wait, SETTINGS.pause.mul_f64(longer), "{random}");
        }
    }

    proptest! {
        /// Whatever happens in whatever order: an open circuit lets nothing through before its
        /// time, there is one probe at a time, and where everything succeeds it closes.
        #[test]
        fn it_keeps_its_word(steps in prop::collection::vec((0_u64..6_000, 0_u8..4, 0.0..1.0), 1..200)) {
            let mut now = Instant::now();
            let mut circuit = Circuit::new(now);
            let mut closed_at: Option<Instant> = None;
            let mut held: Vec<Pass> = Vec::new();
            for (wait, what, random) in steps {
                now += Duration::from_millis(wait);
                let before = circuit.state(now);
                match (what, held.pop()) {
                    (0, Some(held)) => circuit.record_success(held, now, &SETTINGS),
                    (1, Some(held)) => circuit.record_failure(held, now, &SETTINGS, random),
                    (2, Some(held)) => circuit.withdraw(held),
                    (_, kept) => {
                        held.extend(kept);
                        let allowed = circuit.allow(now, &SETTINGS);
                        if before == CircuitState::Open {
                            prop_assert!(allowed.is_err());
                            prop_assert!(closed_at.is_some_and(|until| now < until));
                        }
                        if before == CircuitState::Closed {
                            prop_assert!(allowed.is_ok());
                        }
                        held.extend(allowed);
                    }
                }
                if before != CircuitState::Open && circuit.state(now) == CircuitState::Open {
                    let wait = circuit.allow(now, &SETTINGS).unwrap_err();
                    prop_assert!(wait >= SETTINGS.pause && wait <= SETTINGS.pause * 24);
                    closed_at = Some(now + wait);
                }
            }
            now += SETTINGS.pause * 24;
            for _ in 0..SETTINGS.probes {
                now += SETTINGS.pause;
                succeed(&mut circuit, now);
            }
            prop_assert_eq!(circuit.state(now), CircuitState::Closed);
        }
    }
}
