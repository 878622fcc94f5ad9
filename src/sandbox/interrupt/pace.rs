//! How far apart the looks at the clock are, of a skill whose units of fuel are soon over.
//!
//! Most of a look's cost is that the guest is suspended and resumed, and what the processor forgets by that. Between
//! two looks is the same fuel for every guest, and so as little time for one that reads what is in a cache (4 µs) as
//! much for one that reads from memory (8 ms). So where the last execution of a skill came to each of its looks sooner
//! than it had to, the next one has up to [`MOST`] times the fuel from one to the next. A guest may behave otherwise
//! than the one before it: it is late then, and stopped all the same (`preempt.rs`); and for a while, no other of its
//! skill has more.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::super::preempt;
use super::gate::Known;

/// How long it should be from one look to the next. What a look costs is less than 1 % of that (`cargo bench --bench
/// enforce`), and three of them fit into a turn ([`MAX_SLICE`](super::MAX_SLICE)).
const AIM: Duration = Duration::from_micros(64);
/// As many times more fuel there is between two looks, at most.
const MOST: u32 = 4;
/// As many stretches take as long together as one of them with as much more fuel.
const WINDOW: usize = MOST as usize;
/// How long it may be from one look to the next, even where it is longest, as long as there is as much more fuel
/// between the two: no longer than until a guest is first interrupted, and some for what else takes a while.
const LONGEST: Duration = Duration::from_millis(4);
/// After how many looks an execution says something of the next one; and any does that was longer than that once.
const ENOUGH: u32 = 100;

/// What the last execution of a skill that came to enough looks says of the next one.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Pace {
    times: AtomicU32,
    /// Whether one was late at its looks lately. Others may be soon there, and the next one late again.
    late: Known,
}

/// The looks of an execution.
#[derive(Debug, Default)]
pub(super) struct Looks {
    count: u32,
    /// From each to the next, together.
    taken: Duration,
    /// The last of them, the newest last; how many of this turn; and what those came to together when it began.
    last: [Duration; WINDOW],
    of_turn: usize,
    carried: Duration,
    /// The longest of this turn, and of all, but for the first, in which the guest is instantiated: of each, of two
    /// together that follow one another, and so on. That is how long it would have been with as many times the fuel.
    longest_of_turn: [Duration; WINDOW],
    longest: [Duration; WINDOW],
}

impl Looks {
    /// It has come to the next one after this time.
    pub fn add(&mut self, stretch: Duration) {
        self.taken += stretch;
        if self.count > 0 {
            self.last.rotate_left(1);
            self.last[WINDOW - 1] = stretch;
            self.of_turn += 1;
            let mut together = Duration::ZERO;
            let newest_first = self.last.iter().rev();
            for (last, longest) in newest_first.zip(&mut self.longest_of_turn) {
                together += *last;
                *longest = together.max(*longest);
            }
        }
        self.count = self.count.saturating_add(1);
    }

    /// That was all of this turn, in which it had the processor for so long: the system may have taken the thread away.
    pub fn end_turn(&mut self, had: Duration) {
        let count = std::mem::take(&mut self.of_turn);
        if count == 0 {
            return;
        }
        let of_turn = std::mem::take(&mut self.longest_of_turn);
        for (at, (longest, of_turn)) in self.longest.iter_mut().zip(of_turn).enumerate() {
            // One of a turn is in that; of several, the first can be of those before.
            let before = if at == 0 {
                Duration::ZERO
            } else {
                self.carried
            };
            *longest = of_turn.min(had + before).max(*longest);
        }
        for last in &mut self.last[WINDOW - count.min(WINDOW)..] {
            *last = had.min(*last);
        }
        self.carried = self.last.iter().sum();
    }
}

impl Pace {
    /// As many times more fuel is between two looks of a guest that begins now: 1 to [`MOST`].
    pub fn times(&self, now: Instant) -> u32 {
        match preempt::SUPPORTED && !self.is_late(now) {
            true => self.times.load(Ordering::Relaxed).max(1),
            false => 1,
        }
    }

    pub fn is_late(&self, now: Instant) -> bool {
        self.late.is(now)
    }

    /// One is late at its looks: for a while, none has more fuel to there. May be called where a signal is handled, once
    /// [`Known::prepare`] was called.
    pub fn note_late(&self, now: Instant) {
        self.late.note(now);
    }

    /// From an execution that had so many times more fuel between its looks.
    pub(super) fn learn(&self, looks: &Looks, times: u32, now: Instant) {
        let times = times.max(1);
        if looks.longest[0] > LONGEST {
            self.note_late(now);
        }
        if looks.count < ENOUGH {
            return;
        }
        let fit = |aim: Duration, stretch: Duration| {
            let one = (stretch / times).max(Duration::from_nanos(1));
            u32::try_from(aim.as_nanos() / one.as_nanos()).unwrap_or(MOST)
        };
        // With more fuel than it had, several of its stretches are one: one instruction that moves megabytes takes
        // milliseconds, and no longer with more fuel. With as much or less, each is as much shorter.
        let longest = |more: &u32| looks.longest[more.div_ceil(times) as usize - 1];
        let lasting = (times + 1..=MOST)
            .rev()
            .find(|more| longest(more) <= LONGEST);
        let lasting = lasting.unwrap_or_else(|| fit(LONGEST, looks.longest[0]).min(times));
        let fit = fit(AIM, looks.taken / looks.count).min(lasting);
        self.times.store(fit.clamp(1, MOST), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pace: &Pace, stretches: impl IntoIterator<Item = Duration>) -> u32 {
        after_turns(
            pace,
            stretches.into_iter().map(|stretch| (stretch, stretch)),
        )
    }

    /// After turns of one look each, in which it had the processor for so long.
    fn after_turns(pace: &Pace, turns: impl IntoIterator<Item = (Duration, Duration)>) -> u32 {
        let mut looks = Looks::default();
        for (stretch, had) in turns {
            looks.add(stretch);
            looks.end_turn(had);
        }
        let now = Instant::now();
        pace.learn(&looks, pace.times(now), now);
        pace.times(now)
    }

    fn each(micros: u64, count: usize) -> impl Iterator<Item = Duration> {
        std::iter::repeat_n(Duration::from_micros(micros), count)
    }

    /// What they are where guests can be stopped between two looks.
    fn if_supported(times: u32) -> u32 {
        if preempt::SUPPORTED { times } else { 1 }
    }

    #[test]
    fn who_is_soon_at_the_next_look_has_more_fuel_to_there() {
        let pace = Pace::default();
        assert_eq!(pace.times(Instant::now()), 1);
        assert_eq!(after(&pace, each(4, 99)), 1, "that says too little");
        assert_eq!(after(&pace, each(4, 100)), if_supported(4));
        // The same guest, with that.
        assert_eq!(after(&pace, each(16, 100)), if_supported(4));
        assert_eq!(after(&pace, each(0, 1_000)), if_supported(4));
        if preempt::SUPPORTED {
            assert_eq!(after(&pace, each(64, 100)), 4);
            assert_eq!(after(&pace, each(100, 100)), 2);
            assert_eq!(after(&pace, each(80, 100)), 1);
        }
    }

    #[test]
    fn who_is_late_once_has_no_more_for_a_while() {
        let soon = || each(4, 10_000);
        for late in [
            // Of as much time, or as little, as there may be.
            soon().chain(each(4_100, 1)).collect::<Vec<_>>(),
            each(4, 1).chain(each(30_000, 1)).collect(),
            each(4_000, 500).chain(each(8_000, 1)).collect(),
        ] {
            let pace = Pace::default();
            assert_eq!(after(&pace, late), 1);
            // Others of its skill may be soon there meanwhile.
            assert_eq!(after(&pace, soon()), 1);
            let later = Instant::now() + Duration::from_secs(61);
            assert_eq!(pace.times(later), if_supported(4));
        }
        // With four times the fuel it takes four times as long: without, it would not be late.
        let pace = Pace::default();
        assert_eq!(after(&pace, soon()), if_supported(4));
        if preempt::SUPPORTED {
            assert_eq!(after(&pace, each(16, 10_000).chain(each(3_900, 1))), 4);
            assert_eq!(after(&pace, each(16, 10_000).chain(each(4_100, 1))), 1);
        }
    }

    #[test]
    fn who_lost_the_thread_meanwhile_was_not_late() {
        let pace = Pace::default();
        let (soon, away) = (Duration::from_micros(4), Duration::from_millis(20));
        let turns = std::iter::repeat_n((soon, soon), 10_000).chain([(away, soon)]);
        assert_eq!(after_turns(&pace, turns), if_supported(4));
    }

    #[test]
    fn one_long_stretch_is_not_longer_with_more_fuel() {
        let soon = || each(4, 1_000);
        for (stretches, times) in [
            (
                soon()
                    .chain(each(3_600, 1))
                    .chain(soon())
                    .collect::<Vec<_>>(),
                4,
            ),
            // Several that would be one, with so much fuel.
            (soon().chain(each(1_500, 2)).chain(soon()).collect(), 4),
            (soon().chain(each(1_500, 3)).chain(soon()).collect(), 2),
            (soon().chain(each(1_300, 3)).chain(soon()).collect(), 4),
            (soon().chain(each(2_100, 2)).chain(soon()).collect(), 1),
            // And that would not.
            (
                (0..9)
                    .flat_map(|_| each(3_600, 1).chain(each(4, 1_000)))
                    .collect(),
                4,
            ),
        ] {
            let pace = Pace::default();
            assert_eq!(
                after(&pace, stretches.clone()),
                if_supported(times),
                "{stretches:?}"
            );
        }
        // From twice the fuel on, there is as much more as there may be.
        let pace = Pace::default();
        if preempt::SUPPORTED {
            assert_eq!(after(&pace, each(30, 100)), 2);
            assert_eq!(after(&pace, each(8, 1_000).chain(each(3_600, 1))), 4);
            assert_eq!(after(&pace, each(120, 100)), 2);
            assert_eq!(after(&pace, each(8, 1_000).chain(each(2_100, 2))), 2);
        }
    }

    /// A short turn between two long ones takes nothing from either.
    #[test]
    fn stretches_of_several_turns_are_one_as_well() {
        let pace = Pace::default();
        let [long, short] = [3_000, 4].map(Duration::from_micros);
        let soon = std::iter::repeat_n((short, short), 10_000);
        let turns = soon.chain([(long, long), (short, short), (long, long), (short, short)]);
        assert_eq!(after_turns(&pace, turns), if_supported(2));
    }

    /// Nor what follows it in the next turn.
    #[test]
    fn who_lost_the_thread_is_not_late_by_that_afterwards() {
        let pace = Pace::default();
        let (soon, away) = (Duration::from_micros(4), Duration::from_millis(20));
        let turns = std::iter::repeat_n((soon, soon), 100_000);
        let turns = turns.chain([(away, soon), (soon, soon), (soon, soon)]);
        assert_eq!(after_turns(&pace, turns), if_supported(4));
    }

    #[test]
    fn who_took_long_to_begin_was_not_late() {
        let pace = Pace::default();
        assert_eq!(
            after(&pace, each(20_000, 1).chain(each(4, 10_000))),
            if_supported(4)
        );
    }

    #[test]
    fn one_that_was_found_late_counts_as_well() {
        let pace = Pace::default();
        assert_eq!(after(&pace, each(4, 100)), if_supported(4));
        Known::prepare();
        let now = Instant::now();
        pace.note_late(now);
        assert_eq!(pace.times(now), 1);
    }
}
