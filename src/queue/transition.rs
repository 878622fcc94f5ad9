//! What becomes of a job: every change of its state, as one pure function.
//!
//! [`transition`] takes where a job stands, what happened and what time it is, and says where it
//! stands then. Stores write that down and decide nothing. The drawing in ARCHITECTURE.md is held
//! against it by a test.

use super::event::JobEventKind;
use super::job::JobStatus;
use super::outcome::{
    APPROVAL_NEEDED, HOST_UNAVAILABLE, NO_HOST, NOT_LOADED, Outcome, Verdict, WORKER_LOST,
};
use super::retry::{Retry, RetryCause};
use super::time::{DAY, Micros, SECOND, span};

/// How long a job waits at most that needs something of its worker's host that could not be used.
const SELDOM: Micros = 600 * SECOND;

/// Where a job stands, as far as decisions need it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    pub status: JobStatus,
    pub cause: Option<String>,
    /// Attempts that were used up.
    pub attempts: u32,
    /// Attempts that it may use.
    pub max_attempts: u32,
    /// When it may run next.
    pub due: Micros,
    pub deadline: Option<Micros>,
    pub cancel_requested: bool,
    /// Since when each worker that took it lacked its skill.
    pub lacking_since: Option<Micros>,
}

/// What happened to a job.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trigger<'a> {
    /// A worker takes it.
    Claim,
    /// Its worker says how the attempt ended.
    End {
        outcome: &'a Outcome,
        retry: &'a Retry,
    },
    /// Its worker's lease expired.
    Lost {
        retry: &'a Retry,
        /// Whether its tool is marked destructive and not idempotent.
        destructive: bool,
    },
    /// Its deadline passed while it waited.
    Expire,
    Cancel,
    Pause,
    Resume,
    /// Somebody answered whether it may run.
    Answer {
        approved: bool,
    },
    /// Nobody answered whether it may run as long as that could be done.
    Unanswered,
    /// Not before then.
    Snooze {
        until: Micros,
    },
}

/// Where a job stands then.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub status: JobStatus,
    pub cause: Option<String>,
    pub attempts: u32,
    pub due: Micros,
    pub cancel_requested: bool,
    pub lacking_since: Option<Micros>,
    /// What is told to whoever watches.
    pub event: JobEventKind,
}

/// A job that stands where this cannot happen to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Impossible {
    pub status: JobStatus,
}

/// Where a job stands after what happened.
///
/// # Errors
/// Where it cannot happen to a job that stands there.
pub(crate) fn transition(
    job: &Standing,
    trigger: Trigger<'_>,
    now: Micros,
) -> Result<Change, Impossible> {
    use JobEventKind as Event;
    use JobStatus::{Cancelled, Dead, Failed, Paused, Pending, Running};
    let impossible = Err(Impossible { status: job.status });
    let stays = Change {
        status: job.status,
        cause: job.cause.clone(),
        attempts: job.attempts,
        due: job.due,
        cancel_requested: job.cancel_requested,
        // Whatever happens but one thing, it begins anew.
        lacking_since: None,
        event: Event::Started,
    };
    let waiting = job.status.is_waiting();
    Ok(match trigger {
        Trigger::Claim if waiting && job.due <= now => Change {
            status: Running,
            cause: None,
            lacking_since: job.lacking_since,
            ..stays
        },
        Trigger::Expire if waiting || job.status == Paused => Change {
            status: Dead,
            cause: Some("deadline".to_owned()),
            event: Event::Dead,
            ..stays
        },
        Trigger::Cancel if waiting || job.status == Paused => Change {
            status: Cancelled,
            cause: None,
            event: Event::Cancelled,
            ..stays
        },
        Trigger::Cancel if job.status == Running => Change {
            cancel_requested: true,
            lacking_since: job.lacking_since,
            event: Event::CancelRequested,
            ..stays
        },
        Trigger::Pause if waiting => Change {
            status: Paused,
            cause: None,
            event: Event::Paused,
            ..stays
        },
        Trigger::Resume
            if job.status == Paused && job.cause.as_deref() != Some(APPROVAL_NEEDED) =>
        {
            Change {
                status: Pending,
                cause: None,
                due: job.due.max(now),
                event: Event::Resumed,
                ..stays
            }
        }
        Trigger::Answer { approved }
            if job.status == Paused && job.cause.as_deref() == Some(APPROVAL_NEEDED) =>
        {
            if approved {
                Change {
                    status: Pending,
                    cause: None,
                    due: now,
                    event: Event::Approved,
                    ..stays
                }
            } else {
                Change {
                    status: Dead,
                    cause: Some("approval_refused".to_owned()),
                    event: Event::Dead,
                    ..stays
                }
            }
        }
        Trigger::Unanswered
            if job.status == Paused && job.cause.as_deref() == Some(APPROVAL_NEEDED) =>
        {
            Change {
                status: Dead,
                cause: Some("approval_expired".to_owned()),
                event: Event::Dead,
                ..stays
            }
        }
        Trigger::Snooze { until } if waiting => Change {
            due: until,
            event: Event::Snoozed,
            ..stays
        },
        Trigger::End { outcome, retry } if job.status == Running => {
            let verdict = outcome.verdict(now);
            ended(job, verdict, outcome.is_destructive(), retry, stays, now)
        }
        Trigger::Lost { retry, destructive } if job.status == Running => {
            let verdict = Verdict::Again {
                on: RetryCause::WorkerLost,
                cause: WORKER_LOST,
                after: None,
            };
            ended(job, verdict, destructive, retry, stays, now)
        }
        Trigger::Claim
        | Trigger::Expire
        | Trigger::Cancel
        | Trigger::Pause
        | Trigger::Resume
        | Trigger::Answer { .. }
        | Trigger::Unanswered
        | Trigger::Snooze { .. }
        | Trigger::End { .. }
        | Trigger::Lost { .. } => return impossible,
    })
    .map(|change| match change.status {
        // Whoever asked for it to be cancelled asked that it does not run again.
        Pending | Failed | Paused if change.cancel_requested => Change {
            status: Cancelled,
            cause: None,
            event: Event::Cancelled,
            ..change
        },
        _ => change,
    })
}

fn ended(
    job: &Standing,
    verdict: Verdict,
    destructive: bool,
    retry: &Retry,
    stays: Change,
    now: Micros,
) -> Change {
    use JobEventKind as Event;
    use JobStatus::{Cancelled, Completed, Dead, Failed, Paused, Pending};
    let too_late = |at: Micros| job.deadline.is_some_and(|deadline| at >= deadline);
    let dead = |cause: &str, attempts: u32| Change {
        status: Dead,
        cause: Some(cause.to_owned()),
        attempts,
        event: Event::Dead,
        ..stays.clone()
    };
    let used = job.attempts.saturating_add(1);
    match verdict {
        Verdict::Completed => Change {
            status: Completed,
            cause: None,
            attempts: used,
            event: Event::Completed,
            ..stays
        },
        Verdict::Cancelled => Change {
            status: Cancelled,
            cause: None,
            attempts: used,
            event: Event::Cancelled,
            ..stays
        },
        Verdict::Dead(cause) => dead(cause, used),
        Verdict::Again { on, cause, after } => {
            let may = retry.policy.on.contains(&on)
                && (!destructive || retry.policy.destructive)
                && used < job.max_attempts;
            // What a skill asks for is its word, and not a way to keep a job for ever.
            let delay = after
                .map(|after| after.min(DAY))
                .or_else(|| retry.delay_after(used).map(span));
            match delay {
                Some(delay) if may && !too_late(now.saturating_add(delay)) => Change {
                    status: Failed,
                    cause: Some(cause.to_owned()),
                    attempts: used,
                    due: now.saturating_add(delay),
                    event: Event::Failed,
                    ..stays
                },
                _ => dead(cause, used),
            }
        }
        Verdict::Back { cause, until } => {
            let lacking = matches!(cause, NOT_LOADED | NO_HOST | HOST_UNAVAILABLE);
            let lacking_since = lacking.then(|| job.lacking_since.unwrap_or(now).min(now));
            let until = match lacking_since {
                // It may run each time up to where that is missed: ever more seldom.
                Some(since) if cause == HOST_UNAVAILABLE => {
                    let seldom = now.saturating_add(now.saturating_sub(since).min(SELDOM));
                    // As long as there is time.
                    if too_late(seldom) {
                        until
                    } else {
                        until.max(seldom)
                    }
                }
                _ => until,
            };
            // A skill, or something else, that no worker has: for a day, or until the deadline.
            if too_late(until)
                || lacking_since.is_some_and(|since| until >= since.saturating_add(DAY))
            {
                return dead(cause, job.attempts);
            }
            Change {
                status: Pending,
                cause: Some(cause.to_owned()),
                due: until,
                lacking_since,
                event: Event::Released,
                ..stays
            }
        }
        Verdict::Snoozed { until } if too_late(until) => dead("deadline", job.attempts),
        Verdict::Snoozed { until } => Change {
            status: Pending,
            cause: None,
            due: until,
            event: Event::Snoozed,
            ..stays
        },
        Verdict::Ask => Change {
            status: Paused,
            cause: Some(APPROVAL_NEEDED.to_owned()),
            event: Event::Paused,
            ..stays
        },
    }
}

#[cfg(test)]
mod tests;
