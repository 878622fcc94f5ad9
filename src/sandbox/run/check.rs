//! What is checked for an execution beside its guest, and may take long: its input and its output, against schemas
//! that are the skill's.
//!
//! It is done on threads of its own, as many as there are processors but at least two, so that it holds up no other
//! execution; and within the execution's time, at whose end the thread goes on with somebody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Runner;
use crate::execution::{Cause, Failure, Phase, Stopped, stopped};
use crate::limits::{Limit, Limits};
use crate::sandbox::classify::{self, Circumstances};
use crate::sandbox::flight::Flight;
use crate::sandbox::measure;
use crate::skill::CHECKING_STACK;
use crate::turns::Party;
use crate::turns::interrupt::{Interrupted, Meter, Until};
use crate::turns::threads::{Kind, Undone};

/// What may wait for a thread.
const MAX_WAITING: u32 = 10_000;
/// For how long a check that is told to end is waited for, so that all that it took is known. It looks several times in a
/// millisecond.
const PARTING: Duration = Duration::from_millis(5);

const INPUT: &str = "while its input was checked";
const OUTPUT: &str = "while the skill's output was checked";

pub(super) fn threads(cores: u32) -> Kind {
    // Where there is one processor, there are two all the same: one for anybody else.
    let threads = cores.max(2);
    Kind {
        name: "skillhost-check",
        threads,
        each: threads / 2,
        max_waiting: MAX_WAITING,
        stack_bytes: Some(CHECKING_STACK),
    }
}

/// For whom something is checked.
pub(crate) struct For<'a> {
    /// Whom the skill is run for.
    pub tenant: Option<&'a str>,
    /// Its name.
    pub skill: &'a str,
    pub cancellation: Option<&'a CancellationToken>,
}

/// Why something was not checked to its end.
enum Unchecked {
    Stopped(Stopped),
    Undone(Undone),
    /// No thread can be had.
    NoThread(std::io::Error),
}

/// What came of a check.
struct Checked<T> {
    ended: Result<T, Unchecked>,
    cpu_time: Duration,
    /// Whether it had a thread at all.
    begun: bool,
}

/// Has a check end where nobody waits for it any more.
struct StopsIt(Arc<AtomicBool>);

impl Drop for StopsIt {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Runner {
    /// Checks an input, before anything else is done: for no longer than its time would be, were it running by then.
    pub async fn check_input<T: Send + 'static>(
        &self,
        flight: &mut Flight,
        whose: &For<'_>,
        check: impl FnOnce(&Until) -> Result<T, Interrupted> + Send + 'static,
    ) -> Result<T, Failure> {
        let (ends, limit) = flight.ends(Instant::now());
        flight.waits();
        let checked = self.check(ends, whose, check).await;
        flight.waited();
        flight.usage.cpu_time += checked.cpu_time;
        let ended = checked.ended;
        ended.map_err(|why| failure(why, &flight.limits, limit, Phase::Waiting, INPUT))
    }

    /// Checks what a guest answered, in what is left of its time.
    pub async fn check_output<T: Send + 'static>(
        &self,
        flight: &mut Flight,
        whose: &For<'_>,
        check: impl FnOnce(&Until) -> Result<T, Interrupted> + Send + 'static,
    ) -> Result<T, Failure> {
        let began = flight.began.unwrap_or_else(Instant::now);
        let (ends, limit) = flight.ends(began);
        flight.answers = true;
        let checked = self.check(ends, whose, check).await;
        flight.answered();
        flight.usage.cpu_time += checked.cpu_time;
        let (phase, during) = match checked.begun {
            true => (Phase::Run, OUTPUT),
            // Others had all the threads, which says nothing about this skill.
            false => (Phase::Waiting, "while its output waited to be checked"),
        };
        let ended = checked.ended;
        ended.map_err(|why| failure(why, &flight.limits, limit, phase, during))
    }

    /// What comes of a check that is no execution's; `None` where it does not come to its end.
    pub async fn checked<T: Send + 'static>(
        &self,
        ends: Instant,
        whose: &For<'_>,
        check: impl FnOnce(&Until) -> Result<T, Interrupted> + Send + 'static,
    ) -> Option<T> {
        self.check(ends, whose, check).await.ended.ok()
    }

    async fn check<T: Send + 'static>(
        &self,
        ends: Instant,
        whose: &For<'_>,
        check: impl FnOnce(&Until) -> Result<T, Interrupted> + Send + 'static,
    ) -> Checked<T> {
        let party = Party::of(whose.tenant, whose.skill);
        let mut until = Until {
            moment: Some(ends),
            ..Until::default()
        };
        let _stops_it = StopsIt(Arc::clone(&until.stopped));
        let stop = Arc::clone(&until.stopped);
        let has_begun = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&has_begun);
        let used = Arc::new(AtomicU64::new(0));
        let metered = Arc::clone(&used);
        let measured = move || {
            begins.store(true, Ordering::Relaxed);
            let before = measure::thread_cpu_time();
            until.meter = Some(Meter {
                clock: measure::thread_cpu_time,
                began: before,
                used: metered,
            });
            let checked = check(&until);
            (checked, measure::thread_cpu_time().saturating_sub(before))
        };
        let mut doing = match self.checks.spawn(&party, measured) {
            Ok(doing) => doing,
            Err(error) => {
                return Checked {
                    ended: Err(Unchecked::NoThread(error)),
                    cpu_time: Duration::ZERO,
                    begun: false,
                };
            }
        };
        let (done, stopped) = tokio::select! {
            biased;
            done = &mut doing => (Some(done), None),
            stopped = stopped(Some(ends.into()), whose.cancellation) => {
                stop.store(true, Ordering::Relaxed);
                let begun = has_begun.load(Ordering::Relaxed);
                let parting = async { tokio::time::timeout(PARTING, doing).await.ok() };
                (if begun { parting.await } else { None }, Some(stopped))
            }
        };
        let (ended, cpu_time) = match done {
            Some(Ok((Ok(_), cpu_time))) if stopped.is_some() => (None, cpu_time),
            Some(Ok((Ok(checked), cpu_time))) => (Some(Ok(checked)), cpu_time),
            Some(Ok((Err(Interrupted), cpu_time))) => (None, cpu_time),
            Some(Err(undone)) => (Some(Err(Unchecked::Undone(undone))), Duration::ZERO),
            // What it took when it last looked, a few ms ago at most.
            None => (None, Duration::from_nanos(used.load(Ordering::Relaxed))),
        };
        Checked {
            // It looks at the time by itself, and may have come first.
            ended: ended
                .unwrap_or_else(|| Err(Unchecked::Stopped(stopped.unwrap_or(Stopped::Deadline)))),
            cpu_time,
            begun: has_begun.load(Ordering::Relaxed),
        }
    }
}

fn failure(why: Unchecked, limits: &Limits, limit: Limit, phase: Phase, during: &str) -> Failure {
    match why {
        Unchecked::Stopped(Stopped::Deadline) => {
            classify::timeout_during(limit, limits, phase, during)
        }
        Unchecked::Stopped(Stopped::Cancelled) => {
            Failure::new(Cause::Cancelled { phase }, format!("cancelled {during}"))
        }
        Unchecked::Undone(undone) => {
            let circumstances = Circumstances {
                phase,
                limits,
                time_limit: limit,
            };
            classify::stopped(undone.into(), circumstances, Vec::new())
        }
        Unchecked::NoThread(error) => {
            classify::exhausted(&format!("there is no thread to check it on: {error}"))
        }
    }
}

/// The failure of a request whose input takes longer to check than it may take to run, or than until its deadline.
pub(crate) fn input_takes_too_long(limits: &Limits, limit: Limit) -> Failure {
    classify::timeout_during(limit, limits, Phase::Waiting, INPUT)
}
