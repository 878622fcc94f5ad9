//! What became of one attempt.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::retry::RetryCause;
use super::time::{Micros, SECOND, micros};
use crate::execution::Rejection;
use crate::{Cause, ExecutionResult, Limit};

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// A skill was executed, or was not admitted.
    Executed {
        /// The answer.
        result: Box<ExecutionResult>,
        /// Whether the tool is marked destructive and not idempotent by its author.
        destructive: bool,
    },
    /// A handler did it.
    Done(Value),
    /// A handler could not do it.
    Failed {
        /// What went wrong, in a sentence.
        message: String,
        /// Whether another try may help.
        retryable: bool,
        /// How long to wait before that, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// Not now: again then, no attempt used up.
    Snoozed {
        /// When.
        until: DateTime<Utc>,
    },
    /// This worker has no handler for it: back to the queue for another, no attempt used up; dead
    /// after its deadline or a day.
    Elsewhere,
    /// What it came to is too large to be kept.
    TooLarge,
    /// It stopped because it was told to.
    Cancelled,
    /// Its worker had to cut it short, and its tool is marked destructive and not idempotent: as if
    /// the worker had died.
    CutShort,
    /// Its worker hands it back, no attempt used up.
    Released {
        /// Why, as the name of a cause, such as `shutdown`.
        cause: &'static str,
    },
}

/// What follows from an outcome, attempts and deadline aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Completed,
    /// Another try, where the policy has one on this cause.
    Again {
        on: RetryCause,
        cause: &'static str,
        after: Option<Micros>,
    },
    /// The same try would end the same way.
    Dead(&'static str),
    /// Back to the queue until then, no attempt used up.
    Back {
        cause: &'static str,
        until: Micros,
    },
    Snoozed {
        until: Micros,
    },
    /// Somebody has to say whether it may run.
    Ask,
    Cancelled,
}

/// How long a job waits for another worker when this one lacks its skill.
const ELSEWHERE: Micros = 10 * SECOND;
/// How long a job waits that was rejected for now, where it was not said until when.
const LATER: Micros = 10 * SECOND;
/// How long a job waits when its worker's host is broken.
const BROKEN: Micros = 5 * SECOND;

impl Outcome {
    pub(crate) fn verdict(&self, now: Micros) -> Verdict {
        match self {
            Outcome::Done(_) => Verdict::Completed,
            Outcome::Failed {
                retryable,
                retry_after_ms,
                ..
            } => error(*retryable, *retry_after_ms),
            Outcome::Snoozed { until } => Verdict::Snoozed {
                until: micros(*until),
            },
            Outcome::Elsewhere => elsewhere(now),
            Outcome::TooLarge => Verdict::Dead("result_too_large"),
            Outcome::Cancelled => Verdict::Cancelled,
            Outcome::CutShort => Verdict::Again {
                on: RetryCause::WorkerLost,
                cause: "cut_short",
                after: None,
            },
            Outcome::Released { cause } => {
                let until = match *cause {
                    HOST_ERROR | HOST_UNAVAILABLE => now + BROKEN,
                    NO_HOST => now + ELSEWHERE,
                    _ => now,
                };
                Verdict::Back { cause, until }
            }
            Outcome::Executed { result, .. } => match &result.failure {
                None => Verdict::Completed,
                Some(failure) => failed(&failure.cause, now),
            },
        }
    }

    /// Whether it completes its job.
    pub(crate) fn is_success(&self) -> bool {
        match self {
            Outcome::Done(_) => true,
            Outcome::Executed { result, .. } => result.failure.is_none(),
            _ => false,
        }
    }

    /// Whether nobody knows how much of it was done, and doing it twice does harm.
    pub(crate) fn is_destructive(&self) -> bool {
        matches!(
            self,
            Outcome::CutShort
                | Outcome::Executed {
                    destructive: true,
                    ..
                }
        )
    }
}

/// The cause of a job that its worker handed back because its host is broken.
pub(crate) const HOST_ERROR: &str = "host_error";
/// The cause of a job that needs something of its worker's host that could not be used.
pub(crate) const HOST_UNAVAILABLE: &str = "host_unavailable";
/// The cause of a job whose skill or handler its worker does not have.
pub(crate) const NOT_LOADED: &str = "not_loaded";
/// The cause of a job whose worker executes no skills.
pub(crate) const NO_HOST: &str = "no_host";
/// The cause of a job that waits for somebody's word.
pub(crate) const APPROVAL_NEEDED: &str = "approval_needed";
/// The cause of a job whose worker died.
pub(crate) const WORKER_LOST: &str = "worker_lost";
/// The cause of a job that its worker handed back because it stopped.
pub(crate) const SHUTDOWN: &str = "shutdown";
/// The cause of a job of which could not be written down that it does harm when it is done twice.
pub(crate) const NOT_MARKED: &str = "not_marked";

/// All that [`Job::cause`](super::Job::cause) may be of a dead job, beside the names of limits
/// ([`Limit::as_str`](crate::Limit::as_str)). A job that was handed back dies of the same cause where its deadline comes
/// first.
///
/// ```
/// use skillhost::queue::CAUSES;
///
/// assert!(CAUSES.contains(&"worker_lost"));
/// assert!(CAUSES.is_sorted());
/// ```
pub const CAUSES: &[&str] = &[
    "approval_expired",
    "approval_refused",
    "circuit_open",
    "cut_short",
    "deadline",
    "exhausted",
    HOST_ERROR,
    "host_panic",
    HOST_UNAVAILABLE,
    "invalid_input",
    "invalid_output",
    NO_HOST,
    NOT_LOADED,
    NOT_MARKED,
    "over_ceiling",
    "queue_full",
    "rate",
    "rejected",
    "result_too_large",
    "retryable_error",
    SHUTDOWN,
    "skill_error",
    "timeout",
    "trap",
    "unknown_tool",
    "waited_too_long",
    WORKER_LOST,
];

fn error(retryable: bool, retry_after_ms: Option<u64>) -> Verdict {
    let (on, cause) = match retryable {
        true => (RetryCause::RetryableError, "retryable_error"),
        false => (RetryCause::SkillError, "skill_error"),
    };
    let after = retry_after_ms.map(|after| {
        Micros::try_from(after).map_or(Micros::MAX, |after| after.saturating_mul(1_000))
    });
    Verdict::Again { on, cause, after }
}

fn elsewhere(now: Micros) -> Verdict {
    Verdict::Back {
        cause: NOT_LOADED,
        until: now + ELSEWHERE,
    }
}

/// Retry by cause.
fn failed(cause: &Cause, now: Micros) -> Verdict {
    let again = |on: RetryCause, cause| Verdict::Again {
        on,
        cause,
        after: None,
    };
    match cause {
        Cause::SkillError {
            retryable,
            retry_after_ms,
            ..
        } => error(*retryable, *retry_after_ms),
        Cause::Trap { .. } => again(RetryCause::Trap, "trap"),
        Cause::HostPanic => again(RetryCause::Trap, "host_panic"),
        // Its own deadline: no later try can meet it.
        Cause::Timeout {
            limit: Limit::Deadline,
            ..
        } => Verdict::Dead("deadline"),
        Cause::Timeout { .. } => again(RetryCause::Timeout, "timeout"),
        Cause::InvalidOutput { .. } => again(RetryCause::InvalidOutput, "invalid_output"),
        Cause::ResourceExhausted { limit, .. } => {
            again(RetryCause::ResourceExhausted, limit.as_str())
        }
        Cause::InvalidInput { .. } => Verdict::Dead("invalid_input"),
        Cause::UnknownTool { .. } => Verdict::Dead("unknown_tool"),
        Cause::NotLoaded => elsewhere(now),
        // With a time, there are too many that wait for an answer to ask for one more.
        Cause::Rejected {
            reason: Rejection::Approval,
            retry_at: None,
        } => Verdict::Ask,
        Cause::Rejected {
            reason: Rejection::Ceiling,
            ..
        } => Verdict::Dead("over_ceiling"),
        Cause::Rejected { reason, retry_at } if reason.is_temporary() => Verdict::Back {
            cause: reason.as_str(),
            until: retry_at.map_or(now + LATER, |at| micros(at).max(now)),
        },
        Cause::Rejected {
            retry_at: Some(at), ..
        } => Verdict::Back {
            cause: "rejected",
            until: micros(*at).max(now),
        },
        Cause::Rejected { .. } => Verdict::Dead("rejected"),
        Cause::Cancelled { .. } => Verdict::Cancelled,
        Cause::HostError => Verdict::Back {
            cause: HOST_ERROR,
            until: now + BROKEN,
        },
    }
}
