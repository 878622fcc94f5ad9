//! What is checked for an execution beside its guest, and may take long: its input and its output, against schemas
//! that are the skill's.
//!
//! It is done on threads of its own, as many as there are processors, so that it holds up no other execution. It is
//! within the execution's time: whoever waits for the answer gets it when that is up, though what a thread has begun
//! goes on to its end, which the schema module bounds.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Runner;
use crate::execution::{Cause, Failure, Phase, Stopped, stopped};
use crate::limits::Limit;
use crate::sandbox::classify::{self, Circumstances};
use crate::sandbox::flight::Flight;
use crate::sandbox::measure;
use crate::skill::CHECKING_STACK;
use crate::turns::Party;
use crate::turns::threads::{Kind, Undone};

/// What may wait for a thread.
const MAX_WAITING: u32 = 10_000;

pub(super) fn threads(cores: u32) -> Kind {
    Kind {
        name: "skillhost-check",
        threads: cores,
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

impl Runner {
    /// Checks an input, before anything else is done. As long as its time would be were it running by then, it
    /// waits for that.
    pub async fn check_input<T: Send + 'static>(
        &self,
        flight: &mut Flight,
        whose: &For<'_>,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (ends, limit) = flight.ends(Instant::now());
        flight.waits();
        let checked = self.checked(ends, whose, check).await;
        flight.waited();
        ended(
            flight,
            checked,
            limit,
            Phase::Waiting,
            "while its input was checked",
        )
    }

    /// Checks what a guest answered, in what is left of its time.
    pub async fn check_output<T: Send + 'static>(
        &self,
        flight: &mut Flight,
        whose: &For<'_>,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let began = flight.began.unwrap_or_else(Instant::now);
        let (ends, limit) = flight.ends(began);
        let checked = self.checked(ends, whose, check).await;
        flight.answered();
        ended(
            flight,
            checked,
            limit,
            Phase::Run,
            "while the skill's output was checked",
        )
    }

    /// What comes of a check, and the processor time that it took.
    async fn checked<T: Send + 'static>(
        &self,
        ends: Instant,
        whose: &For<'_>,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Duration), Unchecked> {
        let party = Party::of(whose.tenant, whose.skill);
        let measured = move || {
            let before = measure::thread_cpu_time();
            let checked = check();
            (checked, measure::thread_cpu_time().saturating_sub(before))
        };
        let doing = self.checks.spawn(&party, measured);
        let doing = doing.map_err(Unchecked::NoThread)?;
        tokio::select! {
            biased;
            checked = doing => checked.map_err(Unchecked::Undone),
            stopped = stopped(Some(ends.into()), whose.cancellation) => Err(Unchecked::Stopped(stopped)),
        }
    }
}

fn ended<T>(
    flight: &mut Flight,
    checked: Result<(T, Duration), Unchecked>,
    limit: Limit,
    phase: Phase,
    during: &str,
) -> Result<T, Failure> {
    let limits = &flight.limits;
    match checked {
        Ok((checked, cpu_time)) => {
            flight.usage.cpu_time += cpu_time;
            Ok(checked)
        }
        Err(Unchecked::Stopped(Stopped::Deadline)) => {
            Err(classify::timeout_during(limit, limits, phase, during))
        }
        Err(Unchecked::Stopped(Stopped::Cancelled)) => {
            let message = format!("cancelled {during}");
            Err(Failure::new(Cause::Cancelled { phase }, message))
        }
        Err(Unchecked::Undone(undone)) => {
            let circumstances = Circumstances {
                phase,
                limits,
                time_limit: limit,
            };
            Err(classify::stopped(undone.into(), circumstances, Vec::new()))
        }
        Err(Unchecked::NoThread(error)) => Err(classify::exhausted(&format!(
            "there is no thread to check it on: {error}"
        ))),
    }
}
