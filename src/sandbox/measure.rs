//! Processor time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A reading this young stands for a new one. Reading the clock of a thread is a system call, and
/// executions that follow each other closely would pay for two each.
const FRESH: Duration = Duration::from_micros(20);

thread_local! {
    /// The last reading on this thread, and when it was taken.
    static LAST: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// The processor time that this thread has used up to `now`, at the beginning of something.
///
/// May be late by up to 20 µs, where the thread was interrupted in the last 20 µs: what is measured
/// from it is then short by as much, and never too long.
pub(super) fn cpu_time_at_beginning(now: Instant) -> Duration {
    match LAST.get() {
        Some((then, cpu_time)) if now.saturating_duration_since(then) < FRESH => {
            cpu_time + now.saturating_duration_since(then)
        }
        _ => thread_cpu_time(),
    }
}

/// The processor time that this thread has used, at the end of something.
pub(super) fn cpu_time_at_end() -> Duration {
    let cpu_time = thread_cpu_time();
    LAST.set(Some((Instant::now(), cpu_time)));
    cpu_time
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_young_reading_is_never_too_early() {
        let first = cpu_time_at_end();
        let began = cpu_time_at_beginning(Instant::now());
        let read = thread_cpu_time();
        assert!(first <= began, "{first:?} {began:?}");
        assert!(began <= read + FRESH, "{began:?} {read:?}");
    }
}
