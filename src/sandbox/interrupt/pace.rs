//! How far apart the looks at the clock are, of a skill whose units of fuel are soon over.
//!
//! Most of a look's cost is that the guest is suspended and resumed, and what the processor forgets by that. Between
//! two looks is the same fuel for every guest, and so as little time for one that reads what is in a cache (4 µs) as
//! much for one that reads from memory (8 ms). So where the last execution of a skill came to its looks sooner than
//! it had to, the next one has up to [`MOST`] times the fuel from one to the next. A guest may behave otherwise than
//! the one before it: it is late then, and stopped all the same (`preempt.rs`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::super::preempt;

/// How long it should be from one look to the next. What a look costs is 2 % of that (`cargo bench --bench enforce`),
/// and eight of them fit into a turn ([`MAX_SLICE`](super::MAX_SLICE)).
const AIM: Duration = Duration::from_micros(25);
/// As many times more fuel there is between two looks, at most.
const MOST: u32 = 4;
/// From how long on it is slow from one look to the next.
const SLOW: Duration = Duration::from_micros(100);
/// The part of an execution's time from which on what is slow counts: a quarter. The system may take the thread away
/// now and then, or make the memory that is touched for the first time.
const SLOW_PART: u32 = 4;
/// How long an execution is slow that says something of the next one,
const SLOW_FOR: Duration = Duration::from_millis(5);
/// and after how many looks any other does.
const ENOUGH: u32 = 100;

/// What the last execution of a skill that came to enough looks says of the next one.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Pace(AtomicU32);

/// The looks of an execution.
#[derive(Debug, Default)]
pub(super) struct Looks {
    count: u32,
    /// From each to the next, together; and of that, what was slow.
    taken: Duration,
    slow: Duration,
}

impl Looks {
    /// It has come to the next one after this time.
    pub fn add(&mut self, stretch: Duration) {
        self.count = self.count.saturating_add(1);
        self.taken += stretch;
        if stretch >= SLOW {
            self.slow += stretch;
        }
    }
}

impl Pace {
    /// As many times more fuel is between two looks of a guest that begins now: 1 to [`MOST`].
    pub fn times(&self) -> u32 {
        match preempt::SUPPORTED {
            true => self.0.load(Ordering::Relaxed).max(1),
            false => 1,
        }
    }

    /// From an execution that had so many times more fuel between its looks.
    pub(super) fn learn(&self, looks: &Looks, times: u32) {
        let is_slow = looks.slow * SLOW_PART > looks.taken;
        if is_slow && looks.slow >= SLOW_FOR {
            // Its looks are few, as they are far apart.
            return self.0.store(1, Ordering::Relaxed);
        }
        if looks.count < ENOUGH {
            return;
        }
        let one = (looks.taken / looks.count / times.max(1)).max(Duration::from_nanos(1));
        let fit = u32::try_from(AIM.as_nanos() / one.as_nanos()).unwrap_or(MOST);
        let times = if is_slow { 1 } else { fit.clamp(1, MOST) };
        self.0.store(times, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pace: &Pace, stretches: impl IntoIterator<Item = Duration>) -> u32 {
        let mut looks = Looks::default();
        stretches.into_iter().for_each(|stretch| looks.add(stretch));
        pace.learn(&looks, pace.times());
        pace.times()
    }

    fn each(micros: u64, count: usize) -> impl Iterator<Item = Duration> {
        std::iter::repeat_n(Duration::from_micros(micros), count)
    }

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn who_is_soon_at_the_next_look_has_more_fuel_to_there() {
        let pace = Pace::default();
        assert_eq!(pace.times(), 1);
        assert_eq!(after(&pace, each(4, 99)), 1, "that says too little");
        assert_eq!(after(&pace, each(4, 100)), 4);
        // The same guest, with that.
        assert_eq!(after(&pace, each(16, 100)), 4);
        assert_eq!(after(&pace, each(0, 1_000)), 4);
        assert_eq!(after(&pace, each(48, 100)), 2);
        assert_eq!(after(&pace, each(80, 100)), 1);
    }

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn who_is_late_has_no_more() {
        let pace = Pace::default();
        assert_eq!(after(&pace, each(4, 100)), 4);
        // The thread was taken away from it.
        assert_eq!(after(&pace, each(10, 10_000).chain(each(9_000, 3))), 4);
        assert_eq!(after(&pace, each(10, 10_000).chain(each(9_000, 4))), 1);
        assert_eq!(after(&pace, each(4, 100)), 4);
        assert_eq!(after(&pace, each(120, 40)), 4, "that says too little");
        assert_eq!(after(&pace, each(30_000, 1)), 1);
    }
}
