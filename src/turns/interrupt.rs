//! Stopping what takes long and does not wait: what reads, searches or checks a value.
//!
//! It looks now and then whether it is to end, and then leaves by unwinding. Where a program is built to abort on panics, it
//! goes on to its end.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// It looks at the time once in so much work, in units of what a small subschema takes: of some 20 ns.
const LOOK: u32 = 256;
/// How often what it took so far is written down.
const METERED: Duration = Duration::from_millis(1);

/// Until when a check may go on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Until {
    pub moment: Option<Instant>,
    /// Whether somebody else has said that it is to end.
    pub stopped: Arc<AtomicBool>,
    /// Where what it takes is written down, for whoever does not wait until it has ended.
    pub meter: Option<Meter>,
}

impl Until {
    /// The same, but no later than this thread has [time](within) for.
    pub(crate) fn here(&self) -> Until {
        let moments = [self.moment, PATIENCE.get()];
        Until {
            moment: moments.into_iter().flatten().min(),
            ..self.clone()
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.moment.is_some_and(|moment| moment <= now)
    }
}

/// The processor time of a check that goes on.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    /// The clock of the thread that asks.
    pub clock: fn() -> Duration,
    /// What it showed at the beginning.
    pub began: Duration,
    /// What has passed on it since, in ns.
    pub used: Arc<AtomicU64>,
}

impl Meter {
    fn read(&self) {
        let used = (self.clock)().saturating_sub(self.began);
        let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        self.used.store(used, Ordering::Relaxed);
    }
}

/// A check was left before its end, as its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted;

/// Why a check is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Interrupted,
    /// A text is too long to be matched.
    TooLong,
}

/// When a check ends.
enum Ends {
    Until(Until),
    /// So long after the first look at the time.
    Within(Duration),
    At(Instant),
}

struct Running {
    ends: Ends,
    /// The work since the last look at the time.
    work: u32,
    metered: Option<Instant>,
}

impl Running {
    fn is_over(&mut self, work: u32) -> bool {
        self.work = self.work.saturating_add(work);
        if self.work < LOOK {
            return false;
        }
        self.work = 0;
        let now = Instant::now();
        match &self.ends {
            Ends::Until(until) => {
                if let Some(meter) = &until.meter
                    && (self.metered).is_none_or(|metered| now.duration_since(metered) >= METERED)
                {
                    meter.read();
                    self.metered = Some(now);
                }
                until.is_over(now)
            }
            Ends::Within(span) => {
                self.ends = Ends::At(now + *span);
                false
            }
            Ends::At(moment) => *moment <= now,
        }
    }
}

thread_local! {
    /// Of the check on this thread, where it may be interrupted.
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
    /// Until when somebody waits for what this thread does.
    static PATIENCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does something for somebody who waits until then: what is checked meanwhile, whoever asks for it, ends by then.
#[cfg(feature = "serve")]
pub(crate) fn within<T>(patience: Instant, work: impl FnOnce() -> T) -> T {
    struct Before(Option<Instant>);
    impl Drop for Before {
        fn drop(&mut self) {
            PATIENCE.set(self.0);
        }
    }
    let before = Before(PATIENCE.get());
    PATIENCE.set(Some(
        before.0.map_or(patience, |before| before.min(patience)),
    ));
    work()
}

/// Runs a check, and leaves it when its time is over.
pub(crate) fn until<T>(until: &Until, check: impl FnOnce() -> T) -> Result<T, Left> {
    // So that what is over already does not begin.
    run(Ends::Until(until.clone()), LOOK, check)
}

/// The same of one that may take so long from its first look at the time, to which most that are asked for so do not come.
pub(crate) fn for_at_most<T>(span: Duration, check: impl FnOnce() -> T) -> Result<T, Left> {
    run(Ends::Within(span), 0, check)
}

fn run<T>(ends: Ends, work: u32, check: impl FnOnce() -> T) -> Result<T, Left> {
    let running = Running {
        ends,
        work,
        metered: None,
    };
    let before = RUNNING.replace(Some(running));
    // The validator is only read, and whatever else the check made is dropped by leaving it.
    let checked = catch_unwind(AssertUnwindSafe(check));
    RUNNING.set(before);
    checked.map_err(|why| match why.downcast::<Left>() {
        Ok(left) => *left,
        Err(panic) => resume_unwind(panic),
    })
}

/// The same for what ends in no other way.
pub(crate) fn in_time<T>(ends: &Until, work: impl FnOnce() -> T) -> Result<T, Interrupted> {
    until(ends, work).map_err(|_| Interrupted)
}

/// Called again and again by whatever takes long, before so much work of it, in units of some 20 ns.
pub(crate) fn look(work: u32) {
    let is_over = RUNNING.with_borrow_mut(|running| {
        let running = running.as_mut();
        running.is_some_and(|running| running.is_over(work))
    });
    if is_over && cfg!(panic = "unwind") {
        resume_unwind(Box::new(Left::Interrupted));
    }
}

/// Leaves the check, as it cannot be said whether a text that is so long matches; or says that it does not, where a check
/// cannot be left.
pub(crate) fn too_long() -> bool {
    match cfg!(panic = "unwind") {
        true => resume_unwind(Box::new(Left::TooLong)),
        false => false,
    }
}
