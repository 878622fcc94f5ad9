//! Takes a thread back from a guest that does not give it back by itself.
//!
//! A guest is stopped where it looks at its fuel, and most come to such a place within a fraction of a millisecond
//! (`interrupt.rs`). Code can be made that does not, for seconds: of a few instructions a compiler may make very much
//! code, or code that it goes through again and again, or put the work of many places into one. So a thread of the
//! host's own, the *watch*, looks at those that are running a guest. One whose guest has not come back for [`TICK`],
//! or whose time is up, it interrupts with a signal, as Go's runtime does with a goroutine that does not yield
//! (`runtime/preempt.go`). The signal's handler runs on the guest's thread, sees whether it is the guest's own code
//! that was interrupted ([`code`]), and if the guest is to be stopped sends it on to a place in its code that traps:
//! for the engine it is a guest that met `unreachable`.
//!
//! A guest that computes for [`KEPT`], or less in a crowd, without coming back is stopped, whatever time it has left:
//! others wait for that thread.

mod code;
mod signal;

use std::ptr;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering, compiler_fence, fence,
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::classify::Stop;
use super::interrupt::conduct::Conduct;
use super::interrupt::gate::{Known, long};
use crate::execution::HostError;
use code::At;
pub(super) use code::Code;
pub(super) use signal::SUPPORTED;

/// After how long without its coming back a guest is interrupted for the first time, and how often from there. The
/// slowest guests that compilers make take some 8 ms from one look at the clock to the next (`fuel.rs`).
const TICK: Duration = Duration::from_millis(5);
/// How much later than its time is up a guest is interrupted that did not see so itself.
const GRACE: Duration = Duration::from_millis(1);
/// How long to wait at least before one is interrupted again.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long a guest may have the processor, in code of its own, without coming back, where it has it for itself. What
/// the kernel does for it meanwhile, such as to make memory that it touches, is not counted: that takes some 100 ms
/// where it touches little of much.
pub(super) const KEPT: Duration = Duration::from_millis(200);
/// How much of that is counted each time it is interrupted, at most: what the host did for it since the last time,
/// such as to fill memory, is in it, too.
const COUNTED: Duration = Duration::from_millis(50);
/// After how many looks at threads of which none runs a guest the watch sleeps, until one does.
const IDLE_LOOKS: u32 = 20;

/// A thread that runs guests, as the watch sees it. Times are in nanoseconds since the watch began.
struct Seat {
    thread: signal::Id,
    /// When its guest was last given the thread, or 0 where it has none.
    began: AtomicU64,
    /// When that guest's time is up.
    deadline: AtomicU64,
}

/// A thread's seat, for as long as the thread lives.
struct Registered(Arc<Seat>);

impl Registered {
    /// This thread's, which the watch looks at from here on.
    fn new() -> Self {
        let seat = Arc::new(Seat {
            thread: signal::Id::of_this_thread(),
            began: AtomicU64::new(0),
            deadline: AtomicU64::new(u64::MAX),
        });
        watch().seats().push(Arc::clone(&seat));
        Registered(seat)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        watch().seats().retain(|seat| !Arc::ptr_eq(seat, &self.0));
    }
}

thread_local! {
    static SEAT: Registered = Registered::new();
    /// The guest that this thread runs. What the signal's handler reads: it is neither made when it is first needed, nor
    /// ever destroyed.
    static TURN: AtomicPtr<Turn<'static>> = const { AtomicPtr::new(ptr::null_mut()) };
}

/// Until when a guest may go on that does not come back.
#[derive(Clone, Copy)]
pub(super) struct Until<'a> {
    pub deadline: Instant,
    pub cancellation: Option<&'a CancellationToken>,
    /// How long it may have the processor.
    pub kept: Duration,
    /// As many times more fuel is between its looks at the clock.
    pub times: u32,
    /// Where it is written down how it behaved.
    pub conduct: &'a Conduct,
}

impl Until<'_> {
    /// It has had the processor for so long: writes that down before others of its skill do the same, where it is long.
    fn note(&self, had: Duration, now: Instant) {
        let long = long(self.kept);
        if had >= long {
            self.conduct.pace.note_late(now);
        }
        // With more fuel to the next look it takes as much longer, and no other has that from here on.
        if had >= long * self.times {
            self.conduct.known.note(now);
        }
    }
}

/// One stretch of a guest on a thread, from where it is given the thread to where it comes back.
struct Turn<'a> {
    code: &'a Code,
    until: Until<'a>,
    /// What the guest has had the processor for, as far as that is known.
    kept: Kept,
    /// Why it was stopped.
    stopped: AtomicU8,
}

/// How long a guest has computed since it was given the thread, in nanoseconds.
struct Kept {
    /// When it was given the thread.
    began: Instant,
    /// When it was last interrupted, as a time since then, and how long the thread had had the processor by then.
    at: AtomicU64,
    user: AtomicU64,
    own: AtomicU64,
    all: AtomicU64,
}

/// For how long a guest has had the processor that does not come back, without what the kernel did for it meanwhile.
#[derive(Debug, PartialEq, Eq)]
struct Had {
    /// In code of its own.
    own: Duration,
    /// In the host's as well, which works for it.
    all: Duration,
}

impl Kept {
    fn new(began: Instant) -> Self {
        Kept {
            began,
            at: AtomicU64::new(0),
            user: AtomicU64::new(0),
            own: AtomicU64::new(0),
            all: AtomicU64::new(0),
        }
    }

    /// It was interrupted while it did this, when the thread had had the processor for so long: what it has had of that.
    /// What it had before it was first interrupted is not known; nor is where it was between that and the next time,
    /// and it counts as having been where it is found.
    fn interrupted(&self, at: At, user: Duration, now: Instant) -> Had {
        let now = nanos(now.saturating_duration_since(self.began)).max(1);
        let before = self.at.swap(now, Ordering::Relaxed);
        let user = nanos(user);
        let user_before = self.user.swap(user, Ordering::Relaxed);
        let since = match before {
            0 => 0,
            // The kernel estimates the one, from where the thread was at its ticks, and may make up for what it had
            // estimated before.
            before => user
                .saturating_sub(user_before)
                .min(now.saturating_sub(before)),
        };
        let own = match at {
            At::Elsewhere => 0,
            At::Guest | At::Entering => since.min(nanos(COUNTED)),
        };
        let add = |sum: &AtomicU64, since| {
            Duration::from_nanos(sum.fetch_add(since, Ordering::Relaxed) + since)
        };
        Had {
            own: add(&self.own, own),
            all: add(&self.all, since),
        }
    }
}

const NOT_STOPPED: u8 = 0;
const TIME_IS_UP: u8 = 1;
const CANCELLED: u8 = 2;
const DID_NOT_YIELD: u8 = 3;

impl Turn<'_> {
    /// Called by the signal's handler where this turn was interrupted at `pc`: where to go on instead, if it is stopped.
    ///
    /// If `pc` is in the guest's own code, this thread holds no lock of the host's, and is in the midst of nothing.
    /// What is called below is then called as if the guest had called it.
    fn interrupted(&self, pc: usize) -> Option<usize> {
        // System calls, and nothing else.
        let (user, now) = (signal::user_time(), Instant::now());
        let at = self.code.at(pc);
        let had = self.kept.interrupted(at, user, now);
        self.until.note(had.all, now);
        if at != At::Guest {
            return None;
        }
        let trap = self.code.trap()?;
        let stopped = if now >= self.until.deadline {
            TIME_IS_UP
        } else if self
            .until
            .cancellation
            .is_some_and(CancellationToken::is_cancelled)
        {
            CANCELLED
        } else if had.own >= self.until.kept {
            DID_NOT_YIELD
        } else {
            return None;
        };
        self.stopped.store(stopped, Ordering::Relaxed);
        Some(trap)
    }

    fn stop(&self) -> Option<Stop> {
        match self.stopped.load(Ordering::Relaxed) {
            NOT_STOPPED => None,
            TIME_IS_UP => Some(Stop::TimeIsUp),
            CANCELLED => Some(Stop::Cancelled),
            _ => Some(Stop::DidNotYield {
                kept: self.until.kept,
            }),
        }
    }
}

/// A time in nanoseconds, for 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What was there before a guest was given the thread. There is something where one runs another.
struct Before<'s> {
    seat: &'s Seat,
    began: u64,
    deadline: u64,
    turn: *mut Turn<'static>,
}

impl Drop for Before<'_> {
    fn drop(&mut self) {
        // The turn that ends stays as it is until the handler no longer finds it.
        set_turn(self.turn);
        self.seat.deadline.store(self.deadline, Ordering::Relaxed);
        self.seat.began.store(self.began, Ordering::Relaxed);
    }
}

/// Tells the handler which guest this thread runs. Nothing that comes before it is done after it, or the other way
/// around.
fn set_turn(turn: *mut Turn<'static>) -> *mut Turn<'static> {
    compiler_fence(Ordering::SeqCst);
    let before = TURN.with(|current| {
        // This thread and its handler alone use it.
        let before = current.load(Ordering::Relaxed);
        current.store(turn, Ordering::Relaxed);
        before
    });
    compiler_fence(Ordering::SeqCst);
    before
}

/// Gives a guest the thread, which is `run`: from `now`, until it comes back by itself or is stopped; then what
/// stopped it is there, too, and what it came back with is of no use.
pub(super) fn preemptible<T>(
    code: &Code,
    now: Instant,
    until: Until<'_>,
    run: impl FnOnce() -> T,
) -> (T, Option<Stop>) {
    let turn = Turn {
        code,
        until,
        kept: Kept::new(now),
        stopped: AtomicU8::new(NOT_STOPPED),
    };
    // A thread that ends is not watched any more; nor does it run guests, but for one in a destructor of its own.
    let seat = SEAT.try_with(|seat| Arc::as_ptr(&seat.0));
    let before = seat.ok().map(|seat| {
        // SAFETY: the thread's own seat is there until the thread ends, which it does not within this function.
        let seat = unsafe { &*seat };
        let watch = watch();
        let before = Before {
            seat,
            began: seat.began.load(Ordering::Relaxed),
            deadline: seat.deadline.load(Ordering::Relaxed),
            turn: set_turn(ptr::from_ref(&turn).cast_mut().cast()),
        };
        seat.deadline
            .store(watch.nanos(until.deadline), Ordering::Relaxed);
        seat.began.store(watch.nanos(now).max(1), Ordering::Relaxed);
        watch.wake();
        before
    });
    let came_back = run();
    drop(before);
    let stop = turn.stop();
    (came_back, stop)
}

/// What interrupts guests.
struct Watch {
    began: Instant,
    seats: Mutex<Vec<Arc<Seat>>>,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

fn watch() -> &'static Watch {
    static WATCH: OnceLock<Watch> = OnceLock::new();
    WATCH.get_or_init(|| Watch {
        // A time before any that is given.
        began: Instant::now() - Duration::from_nanos(1),
        seats: Mutex::default(),
        asleep: AtomicBool::new(false),
        thread: OnceLock::new(),
    })
}

/// Begins to watch, for all hosts of this process.
///
/// # Errors
/// Where the system has no thread for it, or no handler can be set.
pub(super) fn begin() -> Result<(), HostError> {
    static BEGUN: Mutex<bool> = Mutex::new(false);
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    if *begun || !signal::SUPPORTED {
        return Ok(());
    }
    let failed = |error| HostError::Engine(format!("guests cannot be watched: {error}"));
    Known::prepare();
    signal::handle().map_err(failed)?;
    let watch_thread = std::thread::Builder::new()
        .name("skillhost-watch".into())
        .stack_size(128 << 10);
    let watching = signal::with_none(|| watch_thread.spawn(|| watch().watch())).map_err(failed)?;
    // It is not waited for: it ends with the process.
    let _ = watch().thread.set(watching.thread().clone());
    *begun = true;
    Ok(())
}

impl Watch {
    fn nanos(&self, time: Instant) -> u64 {
        nanos(time.saturating_duration_since(self.began))
    }

    fn seats(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called when a guest has been given a thread.
    fn wake(&self) {
        // Either this sees that the watch sleeps, or the watch sees the guest before it does.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn watch(&self) {
        let mut idle = 0;
        loop {
            let pause = match self.look(Instant::now()) {
                Some(pause) => {
                    idle = 0;
                    pause
                }
                None if idle < IDLE_LOOKS => {
                    idle += 1;
                    TICK
                }
                None => {
                    self.asleep.store(true, Ordering::Relaxed);
                    fence(Ordering::SeqCst);
                    let is_empty = |seat: &Arc<Seat>| seat.began.load(Ordering::Relaxed) == 0;
                    if self.seats().iter().all(is_empty) {
                        std::thread::park();
                    }
                    self.asleep.store(false, Ordering::Relaxed);
                    idle = 0;
                    continue;
                }
            };
            std::thread::sleep(pause);
        }
    }

    /// Interrupts those that have not come back for long, or whose time is up; and says when to look again. `None` if no
    /// thread runs a guest.
    fn look(&self, now: Instant) -> Option<Duration> {
        let now = self.nanos(now);
        let mut next = None;
        for seat in self.seats().iter() {
            let began = seat.began.load(Ordering::Relaxed);
            if began == 0 {
                continue;
            }
            let late = seat.deadline.load(Ordering::Relaxed);
            let late = late.saturating_add(nanos(GRACE));
            let until_late = Duration::from_nanos(late.saturating_sub(now));
            let away = Duration::from_nanos(now.saturating_sub(began));
            if until_late.is_zero() || away >= TICK {
                seat.thread.interrupt();
            }
            // No sooner: where many take turns, some time is up at any moment, and most see so themselves.
            let again = until_late.clamp(LOOK_AGAIN, TICK);
            next = Some(next.map_or(again, |next: Duration| next.min(again)));
        }
        next
    }
}

#[cfg(test)]
pub(super) mod tests;
