//! How much fuel a guest gets from one look at the clock to the next.
//!
//! The slowest code there is takes more than a thousand times as long for a unit of fuel as the quickest, and a guest
//! must be stopped in time whichever it runs. So the clock is looked at often enough for the slowest. What is quick is
//! then looked at every few microseconds, which takes up to a tenth of its time. Hence a guest gets more fuel at once
//! while all of this holds: what it had last was used up quickly; nobody waits for its thread; and even the slowest
//! code would have used up what it gets before its time is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Fuel between two looks at the clock. 200,000 units are some 4 to 150 µs of most computing, and up to some 8 ms where
/// each unit is as slow as can be (`fuel.rs`, `cargo bench --bench deadline`); a look costs under 1 µs
/// (`cargo bench --bench enforce`).
const BETWEEN_LOOKS: u64 = 200_000;
/// The same for a guest that begins in a crowd.
const IN_A_CROWD: u64 = 50_000;
/// The same, at most, for one whose fuel is used up quickly. Who is slow all of a sudden keeps its thread for some 60 ms,
/// once.
const AT_MOST: u64 = 1_600_000;

/// What was used up in less than this is used up quickly.
const QUICK: Duration = Duration::from_micros(70);
/// What took more than this was not.
const SLOW: Duration = Duration::from_micros(300);
/// The time of a unit of fuel of the slowest code, and somewhat more (`cargo bench --bench deadline`).
const SLOWEST: Duration = Duration::from_nanos(50);

/// How long each guest that computes should have in one round, where there is a thread for each.
pub(super) const ROUND: Duration = Duration::from_millis(2);

/// What a guest gets: set by whoever looks at the clock, and handed out where the guest goes on.
#[derive(Debug)]
pub(super) struct Pace {
    share: Duration,
    first: u64,
    fuel: AtomicU64,
}

impl Pace {
    /// For a guest that begins when each has this long in a round.
    ///
    /// No turn is shorter than from one look to the next, and a guest whose time is up is stopped when its
    /// turn comes. In a crowd the looks of all others stand between the two, and are closer to each other:
    /// from where each has less than 1 ms, down to a quarter (`cargo bench --bench deadline`).
    pub fn new(share: Duration) -> Arc<Self> {
        let fuel = u128::from(BETWEEN_LOOKS) * share.as_micros() / 1_000;
        let first = u64::try_from(fuel)
            .unwrap_or(u64::MAX)
            .clamp(IN_A_CROWD, BETWEEN_LOOKS);
        Arc::new(Pace {
            share,
            first,
            fuel: AtomicU64::new(first),
        })
    }

    /// How long each had in a round when the guest began.
    pub fn share_at_first(&self) -> Duration {
        self.share
    }

    /// What it gets until the next look.
    pub fn fuel(&self) -> u64 {
        self.fuel.load(Ordering::Relaxed)
    }

    /// What it had since the last look has taken so long, it has so much time left, and each has this long in a round.
    pub fn look(&self, took: Duration, left: Duration, share: Duration) {
        let now = self.fuel();
        let next = match took {
            _ if share < ROUND || took > SLOW => self.first,
            _ if took < QUICK => (now * 2).min(AT_MOST),
            _ => now,
        };
        let is_in_time = SLOWEST.as_nanos() * u128::from(next) <= left.as_nanos();
        let next = if is_in_time { next } else { self.first };
        if next != now {
            self.fuel.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn looks_are_closer_in_a_crowd() {
        let with = |micros| Pace::new(Duration::from_micros(micros)).fuel();
        assert_eq!([1_000, 500, 250].map(with), [200_000, 100_000, 50_000]);
        assert_eq!(
            [u64::MAX, 4_000, 40, 0].map(with),
            [200_000, 200_000, 50_000, 50_000]
        );
    }

    /// What it gets after looks that were so many µs apart, with a minute left and nobody else there.
    fn after(pace: &Pace, looks: &[u32]) -> u64 {
        for micros in looks {
            pace.look(MICRO * *micros, MINUTE, ROUND);
        }
        pace.fuel()
    }

    #[test]
    fn who_is_quick_is_looked_at_less_often() {
        let pace = Pace::new(ROUND);
        assert_eq!(after(&pace, &[8]), 400_000);
        assert_eq!(after(&pace, &[16]), 800_000);
        assert_eq!(after(&pace, &[32]), 1_600_000);
        assert_eq!(
            after(&pace, &[64, 64]),
            1_600_000,
            "and no less often than that"
        );
        assert_eq!(after(&pace, &[150]), 1_600_000);
        assert_eq!(after(&pace, &[301]), 200_000, "at once where it is slow");
        assert_eq!(after(&pace, &[150]), 200_000);
    }

    #[test]
    fn who_keeps_others_waiting_is_not() {
        let pace = Pace::new(ROUND);
        assert_eq!(after(&pace, &[8, 16]), 800_000);
        pace.look(8 * MICRO, MINUTE, ROUND - MICRO);
        assert_eq!(pace.fuel(), 200_000);
        let in_a_crowd = Pace::new(MICRO);
        in_a_crowd.look(2 * MICRO, MINUTE, MICRO);
        assert_eq!(in_a_crowd.fuel(), 50_000);
        assert_eq!(after(&in_a_crowd, &[2]), 100_000, "once they are gone");
    }

    /// The slowest code takes up to 50 ns for each unit.
    #[test]
    fn who_could_be_late_is_not() {
        let pace = Pace::new(ROUND);
        assert_eq!(after(&pace, &[8, 16, 32]), 1_600_000);
        pace.look(64 * MICRO, Duration::from_millis(80), ROUND);
        assert_eq!(pace.fuel(), 1_600_000);
        pace.look(64 * MICRO, Duration::from_millis(80) - MICRO, ROUND);
        assert_eq!(pace.fuel(), 200_000);
        pace.look(8 * MICRO, Duration::from_millis(20), ROUND);
        assert_eq!(pace.fuel(), 400_000);
        pace.look(8 * MICRO, Duration::ZERO, ROUND);
        assert_eq!(pace.fuel(), 200_000);
    }
}
