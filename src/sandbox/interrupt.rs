//! Stops a guest whose time is up or that was cancelled, whether it computes or waits, and meters
//! the processor time it takes.
//!
//! A computing guest hands control back each time it has used up a slice of fuel
//! ([`fuel_between_checks`]): wasmtime suspends it and its future wakes itself. [`Interruptible`]
//! sees that wake-up, reads the clock, and resumes the guest at once, without a turn through the
//! executor, until a time slice is over; only then do others get their turn. So a check costs two
//! switches of stack and a look at the clock, and a hundred spinning guests still take turns in
//! fractions of a millisecond. One that does not hand it back is stopped all the same (`preempt.rs`), and those that
//! are long about it keep some threads only ([`gate`]).
//!
//! A guest that waits in a host call is not running; a timer stops it. One that makes host calls
//! without end uses hardly any fuel, and hands control back at the border (`state::Border`).

pub(super) mod conduct;
pub(super) mod debt;
pub(super) mod gate;
pub(super) mod pace;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::classify::Stop;
use super::measure;
use super::preempt::{self, Code};
use conduct::Conduct;
use debt::{MOST_OWED, Owed};
use gate::{AGAIN, Passage, Place, long, others_run, pass};
use pace::Looks;

/// Fuel between two looks at the clock, of a guest of whose skill nothing else is known (`pace.rs`). 200,000 units
/// are some 10 to 150 µs of most computing, and up to some 8 ms where each unit is as slow as can be (`fuel.rs`,
/// `cargo bench --bench deadline`); a look costs well under 1 µs (`cargo bench --bench enforce`).
const FUEL_BETWEEN_CHECKS: u64 = 200_000;
/// The same for a guest that begins in a crowd.
const FUEL_BETWEEN_CHECKS_IN_A_CROWD: u64 = 50_000;

/// How long before the end of its time a guest that waits is looked at. The runtime's timers are over at whole
/// milliseconds, and what waits for them is woken at whole milliseconds again: up to 2 ms late, and hardly ever less
/// than this (`cargo bench --bench deadline`).
const EARLIER: Duration = Duration::from_micros(750);

/// How long a guest keeps a thread at most, so that whatever else the executor has to do is not kept
/// waiting: even beside guests that spin on each of its threads, a trivial execution takes hardly
/// longer (`cargo bench --bench beside`). No turn is shorter than from one look to the next.
pub(super) const MAX_SLICE: Duration = Duration::from_micros(200);

/// Fuel between two looks at the clock, for a guest that begins when each has this long in a round.
///
/// No turn is shorter than from one look to the next, and a guest whose time is up is stopped when its
/// turn comes. In a crowd the looks of all others stand between the two, and are closer to each other:
/// from where each has less than 1 ms, down to a quarter (`cargo bench --bench deadline`). Elsewhere, they are as many
/// times further apart as its skill's pace says (`pace.rs`).
pub(super) fn fuel_between_checks(share: Duration, times: u32) -> u64 {
    match in_a_crowd(share) {
        FUEL_BETWEEN_CHECKS => FUEL_BETWEEN_CHECKS * u64::from(times),
        less => less,
    }
}

fn in_a_crowd(share: Duration) -> u64 {
    let fuel = u128::from(FUEL_BETWEEN_CHECKS) * share.as_micros() / 1_000;
    u64::try_from(fuel)
        .unwrap_or(u64::MAX)
        .clamp(FUEL_BETWEEN_CHECKS_IN_A_CROWD, FUEL_BETWEEN_CHECKS)
}

/// For how long a guest may compute without a look at the clock that begins when each has this long in a round: as many
/// times longer as it is from one look to the next, in a crowd as elsewhere.
fn kept(share: Duration) -> Duration {
    let share = in_a_crowd(share) as f64 / FUEL_BETWEEN_CHECKS as f64;
    preempt::KEPT.mul_f64(share)
}

/// How many turns a guest gives up that has taken so much time, where a slice was its due: between two looks at the
/// clock, or in one long instruction, it may take that of many. It is last of those who compute meanwhile.
fn owed(taken: Duration, slice: Duration) -> u32 {
    let slices = taken.as_nanos() / slice.as_nanos().max(1);
    let more = u32::try_from(slices).unwrap_or(u32::MAX).saturating_sub(1);
    more.min(MOST_OWED)
}

/// Hands control back once, as a guest does that has used up a slice of fuel.
pub(super) async fn hand_back() {
    let mut handed_back = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut handed_back, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

pin_project_lite::pin_project! {
    /// A future that is stopped when its time is up or it is cancelled.
    pub(super) struct Interruptible<'a, F, S> {
        #[pin]
        future: F,
        deadline: Instant,
        cancellation: Option<&'a CancellationToken>,
        // What of it can be stopped where it does not come back.
        guest: Option<Guest<'a>>,
        // How it came to its looks, where it came to any.
        looks: Option<Box<Looks>>,
        // Where it waits, of a skill that is known to keep its thread for long.
        place: Option<Place>,
        again: Option<Pin<Box<tokio::time::Sleep>>>,
        // How long the guest may keep the thread before others get their turn. Asked at each turn,
        // as the number of the others changes.
        slice: S,
        cpu_time: &'a mut Duration,
        signal: Arc<Signal>,
        waker: Waker,
        // How many turns it, and those of its skill before it, have had that were others'.
        owed: Owed<'a>,
        // Set up when the guest waits for the first time, and not for one that never does.
        timer: Option<Pin<Box<tokio::time::Sleep>>>,
        cancelled: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    }
}

/// A guest that can be stopped where it does not come back.
#[derive(Clone, Copy)]
struct Guest<'a> {
    code: &'a Code,
    conduct: &'a Conduct,
    /// After how long.
    kept: Duration,
    /// As many times more fuel is between its looks, where it is no crowd that says how much.
    times: Option<u32>,
}

/// Tells a wake-up that came while the guest was being polled (it yielded) from one that comes
/// later (what it waits for is there).
struct Signal {
    woken: AtomicBool,
    outer: Mutex<Option<Waker>>,
}

impl Signal {
    fn outer(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        // A waker cannot be left half set: what a panicking holder left is still good.
        self.outer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        let outer = self.outer().take();
        if let Some(waker) = outer {
            waker.wake();
        }
    }
}

impl<'a, F: Future, S: Fn() -> Duration> Interruptible<'a, F, S> {
    pub fn new(
        future: F,
        deadline: Instant,
        cancellation: Option<&'a CancellationToken>,
        slice: S,
        cpu_time: &'a mut Duration,
    ) -> Self {
        let signal = Arc::new(Signal {
            woken: AtomicBool::new(false),
            outer: Mutex::new(None),
        });
        let waker = Waker::from(Arc::clone(&signal));
        Interruptible {
            future,
            deadline,
            cancellation,
            guest: None,
            looks: None,
            place: None,
            again: None,
            slice,
            cpu_time,
            signal,
            waker,
            owed: Owed::default(),
            timer: None,
            cancelled: None,
        }
    }

    /// The future runs a guest of this code, which began when each had this long in a round, with as many times more
    /// fuel between its looks.
    pub fn preempted(
        self,
        code: &'a Code,
        conduct: &'a Conduct,
        share: Duration,
        times: u32,
    ) -> Self {
        Interruptible {
            guest: Some(Guest {
                code,
                conduct,
                kept: kept(share),
                times: (in_a_crowd(share) == FUEL_BETWEEN_CHECKS).then_some(times),
            }),
            owed: Owed::by(&conduct.debt, self.deadline),
            ..self
        }
    }
}

impl<F: Future, S: Fn() -> Duration> Future for Interruptible<'_, F, S> {
    type Output = Result<F::Output, Stop>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let turn_began = Instant::now();
        let mut this = self.project();
        let cancelled = || {
            this.cancellation
                .is_some_and(CancellationToken::is_cancelled)
        };
        if turn_began < *this.deadline && !cancelled() && this.owed.give_up(turn_began) {
            return give_others_a_turn(context, false);
        }
        // One that may not pass waits, as for anything else.
        let known = this
            .guest
            .filter(|guest| guest.conduct.known.is(turn_began));
        let passage = known.map(|_| pass(this.place, context.waker()));
        if known.is_none() {
            *this.place = None;
        }
        let may_pass = !matches!(passage, Some(None));
        let passage = passage.flatten();
        if may_pass {
            *this.again = None;
        }
        let began = measure::cpu_time(turn_began);
        let mut turn = || {
            let mut now = turn_began;
            let mut slice = None;
            loop {
                if now >= *this.deadline {
                    return Poll::Ready(Err(Stop::TimeIsUp));
                }
                if this
                    .cancellation
                    .is_some_and(CancellationToken::is_cancelled)
                {
                    return Poll::Ready(Err(Stop::Cancelled));
                }
                if !may_pass {
                    break;
                }
                let guest = this.future.as_mut();
                let mut inner = Context::from_waker(this.waker);
                // The store is dropped after a panic, so nothing half done is ever seen.
                let poll = || catch_unwind(AssertUnwindSafe(|| guest.poll(&mut inner)));
                let (polled, stop) = match *this.guest {
                    Some(guest) => {
                        let until = preempt::Until {
                            deadline: *this.deadline,
                            cancellation: *this.cancellation,
                            kept: guest.kept,
                            times: guest.times.unwrap_or(1),
                            conduct: guest.conduct,
                        };
                        preempt::preemptible(guest.code, now, until, poll)
                    }
                    None => (poll(), None),
                };
                if let Some(stop) = stop {
                    return Poll::Ready(Err(stop));
                }
                match polled {
                    Err(_) => return Poll::Ready(Err(Stop::Panicked)),
                    Ok(Poll::Ready(output)) => return Poll::Ready(Ok(output)),
                    Ok(Poll::Pending) => {}
                }
                if !this.signal.woken.swap(false, Ordering::Acquire) {
                    *this.signal.outer() = Some(context.waker().clone());
                    // It may have been woken before there was anybody to pass that on to.
                    if !this.signal.woken.swap(false, Ordering::Acquire) {
                        break;
                    }
                    this.signal.outer().take();
                }
                let looked = std::mem::replace(&mut now, Instant::now());
                let slice = *slice.get_or_insert_with(|| match known {
                    // Others that wait for the same keep it for as long, or longer.
                    Some(guest) if passage.as_ref().is_some_and(Passage::is_waited_for) => {
                        long(guest.kept)
                    }
                    _ => (this.slice)(),
                });
                // Where the next look would be further past the slice's end than this one is before it,
                // the turn ends now.
                let stretch = now.duration_since(looked);
                this.looks.get_or_insert_default().add(stretch);
                let half = stretch / 2;
                let taken = now.duration_since(turn_began);
                if taken + half >= slice && now < *this.deadline {
                    return give_others_a_turn(context, passage.is_some());
                }
            }
            if !may_pass {
                let again = || Box::pin(tokio::time::sleep(AGAIN));
                if this
                    .again
                    .get_or_insert_with(again)
                    .as_mut()
                    .poll(context)
                    .is_ready()
                {
                    *this.again = None;
                    context.waker().wake_by_ref();
                }
            }
            // It waits, and does not run: from here a timer and the token must stop it.
            let deadline = *this.deadline;
            let timer = this.timer.get_or_insert_with(|| {
                let earlier = deadline.checked_sub(EARLIER).unwrap_or(deadline);
                Box::pin(tokio::time::sleep_until(earlier.into()))
            });
            if timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Stop::TimeIsUp));
                }
                timer.as_mut().reset(deadline.into());
                if timer.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(Stop::TimeIsUp));
                }
            }
            if let Some(token) = *this.cancellation {
                let cancelled = this
                    .cancelled
                    .get_or_insert_with(|| Box::pin(token.clone().cancelled_owned()));
                if cancelled.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(Stop::Cancelled));
                }
            }
            Poll::Pending
        };
        let result = turn();
        let now = Instant::now();
        let taken = measure::cpu_time(now).saturating_sub(began);
        **this.cpu_time += taken;
        if may_pass {
            // By its own time: that the thread was taken away is not its doing. Also of one that waits now, as it may
            // have gone from a long stretch to that, and of one that has ended, as the next one may do the same.
            this.owed.add(owed(taken, (this.slice)()));
        }
        if let Some(looks) = this.looks {
            looks.end_turn(taken);
        }
        if let Some(guest) = this.guest
            && let Some(times) = guest.times
            && let Some(looks) = this.looks
            && result.is_ready()
        {
            guest.conduct.pace.learn(looks, times, now);
        }
        result
    }
}

/// Wakes this task again when the runtime has run what else is ready, and has looked at its timers and sockets. A
/// task that woke itself would stay ahead of those: with a guest that spins on each of its threads, the runtime looks
/// at them every 61 turns only. But a task that is woken so stays on its thread, and where others keep theirs for
/// long, that may be one of those: then it wakes itself, and another thread can take it, where there is another.
fn give_others_a_turn<T>(context: &mut Context<'_>, has_passed: bool) -> Poll<T> {
    if others_run(has_passed) && has_threads() {
        context.waker().wake_by_ref();
        return Poll::Pending;
    }
    let turn = std::pin::pin!(tokio::task::yield_now());
    // Pending, and what it wakes is this task, whose own future is polled then.
    let _ = turn.poll(context);
    Poll::Pending
}

/// Whether this runtime has more than one thread.
fn has_threads() -> bool {
    let runtime = tokio::runtime::Handle::try_current();
    runtime.is_ok_and(|runtime| runtime.metrics().num_workers() > 1)
}
