//! Processor time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long a reading is good for. Reading the clock of a thread is a system call, and executions
/// that follow each other closely would pay for two each.
const FRESH: Duration = Duration::from_micros(20);

thread_local! {
    /// The last reading on this thread, and when it was taken.
    static LAST: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// The processor time that this thread has used up to `now`.
///
/// Up to 20 µs after a reading of the thread's clock, what has passed since is added to it. So it
/// may be late by as much where the thread was interrupted meanwhile, and is never early. What is
/// measured with it is right to 20 µs.
pub(super) fn cpu_time(now: Instant) -> Duration {
    if let Some((then, cpu_time)) = LAST.get() {
        let since = now.saturating_duration_since(then);
        if since < FRESH {
            return cpu_time + since;
        }
    }
    let cpu_time = thread_cpu_time();
    LAST.set(Some((now, cpu_time)));
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
    fn it_is_never_early_and_hardly_late() {
        for _ in 0..1_000 {
            let first = thread_cpu_time();
            let told = cpu_time(Instant::now());
            let read = thread_cpu_time();
            assert!(first <= told, "{first:?} {told:?}");
            assert!(told <= read + FRESH, "{told:?} {read:?}");
        }
    }

    #[test]
    fn it_goes_on_while_the_thread_computes() {
        let first = cpu_time(Instant::now());
        let began = thread_cpu_time();
        while thread_cpu_time() - began < Duration::from_millis(2) {}
        let told = cpu_time(Instant::now()) - first;
        assert!(told + FRESH >= Duration::from_millis(2), "{told:?}");
    }
}
