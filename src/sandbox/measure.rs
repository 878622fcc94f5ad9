//! Processor time.

mod unbroken;

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use unbroken::Watch;

/// How long a reading is good for. What a hypervisor or an interrupt takes of the processor meanwhile is seen at the next
/// reading only.
const FRESH: Duration = Duration::from_micros(50);
/// Where the two clocks could not be read within so short a time, the reading is not kept.
const TOGETHER: Duration = Duration::from_micros(10);

thread_local! {
    /// The last reading on this thread, and when it was taken.
    static LAST: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// The processor time that this thread has used up to `now`, which is a moment ago.
///
/// Reading the clock of a thread is a system call, and executions that follow each other closely would each pay for
/// two. While the thread has had its processor all along since the last reading (see [`unbroken`]), what has
/// passed since is added to that, up to 50 µs. It is never early, and late by less than 10 µs, or by what a hypervisor
/// took since then.
pub(super) fn cpu_time(now: Instant) -> Duration {
    let watch = Watch::get();
    if let (Some(watch), Some((then, cpu_time))) = (watch, LAST.get())
        && watch.holds()
    {
        let since = now.saturating_duration_since(then);
        if since < FRESH {
            return cpu_time + since;
        }
    }
    let watched = watch.is_some_and(|watch| watch.begin());
    let before = Instant::now();
    let cpu_time = thread_cpu_time();
    let kept = watched && before.elapsed() < TOGETHER;
    LAST.set(kept.then_some((before, cpu_time)));
    cpu_time
}

/// The same by a system call, whenever it is asked.
pub(super) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time that is told, with the clock read before and after it.
    fn look() -> (Duration, Duration, Duration) {
        let first = thread_cpu_time();
        let told = cpu_time(Instant::now());
        (first, told, thread_cpu_time())
    }

    /// Looks for that long: it is never early, seldom late, and never late by more than a reading is good for. Says how
    /// long that took of the processor.
    fn compute(time: Duration) -> Duration {
        let (began, started) = (Instant::now(), thread_cpu_time());
        let (mut looks, mut late) = (0, 0);
        while began.elapsed() < time {
            let (first, told, read) = look();
            assert!(first <= told, "{first:?} {told:?}");
            assert!(told <= read + FRESH + TOGETHER, "{told:?} {read:?}");
            looks += 1;
            late += u32::from(told > read + TOGETHER);
        }
        assert!(late <= looks / 100 + 1, "{late} of {looks}");
        thread_cpu_time() - started
    }

    #[test]
    fn it_is_never_early_and_hardly_late() {
        let used = compute(Duration::from_millis(100));
        assert!(used > Duration::ZERO);
    }

    #[test]
    fn it_goes_on_while_the_thread_computes() {
        let first = cpu_time(Instant::now());
        let began = thread_cpu_time();
        while thread_cpu_time() - began < Duration::from_millis(2) {}
        let told = cpu_time(Instant::now()) - first;
        assert!(told + TOGETHER >= Duration::from_millis(2), "{told:?}");
    }

    #[test]
    fn a_thread_that_waits_uses_none() {
        for _ in 0..20 {
            let first = cpu_time(Instant::now());
            std::thread::sleep(FRESH / 2);
            let told = cpu_time(Instant::now()) - first;
            let (_, _, read) = look();
            assert!(told <= read - first + TOGETHER, "{told:?} {read:?}");
        }
    }

    /// Threads that take each other's processor: what the others had of it counts for none.
    #[test]
    fn what_others_had_of_the_processor_is_left_out() {
        const TIME: Duration = Duration::from_millis(200);
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let used: Vec<Duration> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores * 4)
                .map(|_| scope.spawn(|| compute(TIME)))
                .collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap());
            ended.collect()
        });
        let starved = used.iter().filter(|used| **used < TIME / 2).count();
        assert!(starved > cores, "they shared the processors: {used:?}");
    }
}
