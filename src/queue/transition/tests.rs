mod properties;

use std::collections::BTreeSet;

use serde_json::Value;
use uuid::Uuid;

use super::super::outcome::{CAUSES, NOT_MARKED, SHUTDOWN};
use super::super::retry::RetryPolicy;
use super::super::time::{SECOND, moment};
use super::*;
use crate::execution::{Phase, Rejection};
use crate::{Cause, ExecutionResult, Failure, Limit, Limits, ResourceUsage, Status};

const NOW: Micros = 1_800_000_000 * SECOND;

fn standing(status: JobStatus) -> Standing {
    Standing {
        status,
        cause: None,
        attempts: 0,
        max_attempts: 5,
        due: NOW - SECOND,
        deadline: None,
        cancel_requested: false,
        lacking_since: None,
    }
}

/// A plan without chance: 5 s, 15 s, 45 s, 135 s.
fn plan() -> Retry {
    Retry::plan(plain(), 0)
}

fn plain() -> RetryPolicy {
    RetryPolicy {
        jitter: 0.0,
        ..RetryPolicy::default()
    }
}

fn executed(cause: Option<Cause>) -> Outcome {
    Outcome::Executed {
        result: Box::new(ExecutionResult {
            request_id: Uuid::nil(),
            status: cause.as_ref().map_or(Status::Success, Cause::status),
            tool: None,
            output: None,
            attachments: Vec::new(),
            failure: cause.map(|cause| Failure::new(cause, "so it was")),
            usage: ResourceUsage::default(),
            limits: Limits::default(),
            skill: None,
            clamped: Vec::new(),
            stdout: String::new(),
            stderr: String::new(),
        }),
        destructive: false,
    }
}

fn marked_destructive(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Executed { result, .. } => Outcome::Executed {
            result,
            destructive: true,
        },
        other => other,
    }
}

fn skill_error(retryable: bool, retry_after_ms: Option<u64>) -> Cause {
    Cause::SkillError {
        retryable,
        retry_after_ms,
        code: None,
        details: None,
    }
}

fn rejected(reason: Rejection, retry_at: Option<Micros>) -> Cause {
    Cause::Rejected {
        reason,
        retry_at: retry_at.map(moment),
    }
}

fn timeout(limit: Limit) -> Cause {
    Cause::Timeout {
        limit,
        allowed: 1,
        phase: Phase::Run,
    }
}

fn exhausted(limit: Limit) -> Cause {
    Cause::ResourceExhausted {
        limit,
        allowed: 1,
        requested: None,
        backtrace: Vec::new(),
    }
}

/// What the table of the design says of a first attempt under the default policy.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Row {
    Completed,
    /// `failed`, to be tried again so much later; one attempt used up.
    Again(Micros),
    /// Dead at once; one attempt used up.
    Dead,
    /// Back to the queue until so much later; none used up.
    Back(Micros),
    /// Waits for somebody's word; none used up.
    Ask,
    Cancelled,
}

/// Every outcome that there is, with its row of the table and the cause that is shown.
fn table() -> Vec<(Outcome, Row, Option<&'static str>)> {
    let first = 5 * SECOND;
    let trap = Cause::Trap {
        trap: "unreachable_code_reached".to_owned(),
        backtrace: Vec::new(),
    };
    let input = Cause::InvalidInput {
        pointer: String::new(),
    };
    let tool = Cause::UnknownTool {
        available: Vec::new(),
    };
    let output = Cause::InvalidOutput {
        pointer: String::new(),
    };
    let failed = |retryable, retry_after_ms| Outcome::Failed {
        message: "so it was".to_owned(),
        retryable,
        retry_after_ms,
    };
    let cause = |cause| executed(Some(cause));
    let later = NOW + 77 * SECOND;
    vec![
        (executed(None), Row::Completed, None),
        (Outcome::Done(Value::Null), Row::Completed, None),
        // The skill says "retry", with a delay or not; trap; timeout.
        (
            cause(skill_error(true, None)),
            Row::Again(first),
            Some("retryable_error"),
        ),
        (
            cause(skill_error(true, Some(90_000))),
            Row::Again(90 * SECOND),
            Some("retryable_error"),
        ),
        (
            failed(true, None),
            Row::Again(first),
            Some("retryable_error"),
        ),
        (
            failed(true, Some(0)),
            Row::Again(0),
            Some("retryable_error"),
        ),
        (cause(trap), Row::Again(first), Some("trap")),
        (
            cause(Cause::HostPanic),
            Row::Again(first),
            Some("host_panic"),
        ),
        (
            cause(timeout(Limit::WallTime)),
            Row::Again(first),
            Some("timeout"),
        ),
        // The same try would end the same way.
        (
            cause(skill_error(false, None)),
            Row::Dead,
            Some("skill_error"),
        ),
        (failed(false, None), Row::Dead, Some("skill_error")),
        (cause(input), Row::Dead, Some("invalid_input")),
        (cause(tool), Row::Dead, Some("unknown_tool")),
        (cause(output), Row::Dead, Some("invalid_output")),
        (cause(exhausted(Limit::Fuel)), Row::Dead, Some("fuel")),
        (
            cause(exhausted(Limit::Memory)),
            Row::Dead,
            Some(Limit::Memory.as_str()),
        ),
        (
            cause(exhausted(Limit::Output)),
            Row::Dead,
            Some(Limit::Output.as_str()),
        ),
        (cause(timeout(Limit::Deadline)), Row::Dead, Some("deadline")),
        (Outcome::TooLarge, Row::Dead, Some("result_too_large")),
        // Denied by policy.
        (
            cause(rejected(Rejection::Grant, None)),
            Row::Dead,
            Some("rejected"),
        ),
        (
            cause(rejected(Rejection::Hook, None)),
            Row::Dead,
            Some("rejected"),
        ),
        (
            cause(rejected(Rejection::Ceiling, None)),
            Row::Dead,
            Some("over_ceiling"),
        ),
        // Too much for now.
        (
            cause(rejected(Rejection::Rate, Some(later))),
            Row::Back(77 * SECOND),
            Some("rate"),
        ),
        (
            cause(rejected(Rejection::QueueFull, Some(later))),
            Row::Back(77 * SECOND),
            Some("queue_full"),
        ),
        (
            cause(rejected(Rejection::WaitedTooLong, Some(later))),
            Row::Back(77 * SECOND),
            Some("waited_too_long"),
        ),
        (
            cause(rejected(Rejection::Exhausted, Some(later))),
            Row::Back(77 * SECOND),
            Some("exhausted"),
        ),
        (
            cause(rejected(Rejection::CircuitOpen, Some(later))),
            Row::Back(77 * SECOND),
            Some("circuit_open"),
        ),
        (
            cause(rejected(Rejection::CircuitOpen, None)),
            Row::Back(10 * SECOND),
            Some("circuit_open"),
        ),
        // Approval needed.
        (
            cause(rejected(Rejection::Approval, None)),
            Row::Ask,
            Some(APPROVAL_NEEDED),
        ),
        // It passes by itself.
        (
            cause(rejected(Rejection::Hook, Some(later))),
            Row::Back(77 * SECOND),
            Some("rejected"),
        ),
        (
            cause(rejected(Rejection::Hook, Some(NOW - SECOND))),
            Row::Back(0),
            Some("rejected"),
        ),
        (
            Outcome::Released { cause: SHUTDOWN },
            Row::Back(0),
            Some("shutdown"),
        ),
        (
            Outcome::Released { cause: NOT_MARKED },
            Row::Back(0),
            Some("not_marked"),
        ),
        // Not on this worker.
        (
            cause(Cause::NotLoaded),
            Row::Back(10 * SECOND),
            Some(NOT_LOADED),
        ),
        (Outcome::Elsewhere, Row::Back(10 * SECOND), Some(NOT_LOADED)),
        (
            Outcome::Released { cause: NO_HOST },
            Row::Back(10 * SECOND),
            Some(NO_HOST),
        ),
        // The host is broken.
        (
            cause(Cause::HostError),
            Row::Back(5 * SECOND),
            Some("host_error"),
        ),
        (
            Outcome::Released {
                cause: "host_error",
            },
            Row::Back(5 * SECOND),
            Some("host_error"),
        ),
        // What it needs is.
        (
            Outcome::Released {
                cause: HOST_UNAVAILABLE,
            },
            Row::Back(5 * SECOND),
            Some("host_unavailable"),
        ),
        (
            Outcome::Snoozed {
                until: moment(later),
            },
            Row::Back(77 * SECOND),
            None,
        ),
        (
            cause(Cause::Cancelled { phase: Phase::Run }),
            Row::Cancelled,
            None,
        ),
        (Outcome::Cancelled, Row::Cancelled, None),
    ]
}

fn end(job: &Standing, outcome: &Outcome, retry: &Retry) -> Change {
    transition(job, Trigger::End { outcome, retry }, NOW).expect("it runs")
}

fn lose(job: &Standing, destructive: bool, retry: &Retry) -> Change {
    transition(job, Trigger::Lost { retry, destructive }, NOW).expect("it runs")
}

#[test]
fn every_row_of_the_table_holds() {
    for (outcome, row, cause) in table() {
        let change = end(&standing(JobStatus::Running), &outcome, &plan());
        // Those who ask for the dead ones know of each, but of that of a question.
        if let Some(cause) = cause
            && cause != APPROVAL_NEEDED
        {
            let is_known =
                CAUSES.contains(&cause) || serde_json::from_value::<Limit>(cause.into()).is_ok();
            assert!(is_known, "{cause}");
        }
        let (status, attempts, due) = match row {
            Row::Completed => (JobStatus::Completed, 1, None),
            Row::Again(after) => (JobStatus::Failed, 1, Some(NOW + after)),
            Row::Dead => (JobStatus::Dead, 1, None),
            Row::Back(after) => (JobStatus::Pending, 0, Some(NOW + after)),
            Row::Ask => (JobStatus::Paused, 0, None),
            Row::Cancelled => (JobStatus::Cancelled, 1, None),
        };
        assert_eq!(change.status, status, "{outcome:?}");
        assert_eq!(change.attempts, attempts, "{outcome:?}");
        assert_eq!(change.cause.as_deref(), cause, "{outcome:?}");
        if let Some(due) = due {
            assert_eq!(change.due, due, "{outcome:?}");
        }
    }
}

#[test]
fn a_lost_worker_costs_an_attempt_and_the_last_one_the_job() {
    let retry = plan();
    let mut job = standing(JobStatus::Running);
    for attempts in 1..5 {
        let change = lose(&job, false, &retry);
        assert_eq!(change.status, JobStatus::Failed);
        assert_eq!(change.attempts, attempts);
        job.attempts = change.attempts;
    }
    let change = lose(&job, false, &retry);
    assert_eq!(change.status, JobStatus::Dead);
    assert_eq!(change.cause.as_deref(), Some(WORKER_LOST));
    assert_eq!(change.attempts, 5);
}

#[test]
fn the_stored_delays_are_waited_and_then_there_are_no_more() {
    let retry = plan();
    let outcome = executed(Some(skill_error(true, None)));
    let mut job = standing(JobStatus::Running);
    for seconds in [5, 15, 45, 135] {
        let change = end(&job, &outcome, &retry);
        assert_eq!(change.status, JobStatus::Failed);
        assert_eq!(change.due, NOW + seconds * SECOND);
        job.attempts = change.attempts;
    }
    assert_eq!(end(&job, &outcome, &retry).status, JobStatus::Dead);
}

#[test]
fn what_may_do_harm_twice_is_not_repeated_unless_the_job_says_so() {
    let bold = Retry::plan(
        RetryPolicy {
            destructive: true,
            ..plain()
        },
        0,
    );
    for (outcome, row, cause) in table() {
        let outcome = marked_destructive(outcome);
        if !matches!((&outcome, row), (Outcome::Executed { .. }, Row::Again(_))) {
            continue;
        }
        let job = standing(JobStatus::Running);
        let change = end(&job, &outcome, &plan());
        assert_eq!(change.status, JobStatus::Dead, "{outcome:?}");
        assert_eq!(change.cause.as_deref(), cause);
        assert_eq!(end(&job, &outcome, &bold).status, JobStatus::Failed);
    }
    let job = standing(JobStatus::Running);
    assert_eq!(lose(&job, true, &plan()).status, JobStatus::Dead);
    assert_eq!(lose(&job, true, &bold).status, JobStatus::Failed);
}

#[test]
fn a_policy_can_repeat_what_is_not_repeated_by_default_and_the_other_way_round() {
    let all = Retry::plan(
        RetryPolicy {
            on: RetryCause::ALL.iter().copied().collect(),
            ..plain()
        },
        0,
    );
    let none = Retry::plan(
        RetryPolicy {
            on: BTreeSet::new(),
            ..plain()
        },
        0,
    );
    let job = standing(JobStatus::Running);
    for (outcome, row, cause) in table() {
        let repeatable = matches!(
            cause,
            Some("skill_error" | "invalid_output" | "fuel" | "memory_bytes" | "output_bytes")
        ) || matches!(row, Row::Again(_));
        if repeatable {
            assert_eq!(end(&job, &outcome, &all).status, JobStatus::Failed);
            assert_eq!(end(&job, &outcome, &none).status, JobStatus::Dead);
        } else {
            assert_eq!(
                end(&job, &outcome, &all),
                end(&job, &outcome, &plan()),
                "{outcome:?}"
            );
        }
    }
}

#[test]
fn nothing_is_put_off_past_the_deadline() {
    for (outcome, row, _) in table() {
        let (Row::Again(after) | Row::Back(after)) = row else {
            continue;
        };
        let mut job = standing(JobStatus::Running);
        job.deadline = Some(NOW + after);
        assert_eq!(end(&job, &outcome, &plan()).status, JobStatus::Dead);
        job.deadline = Some(NOW + after + 1);
        assert_ne!(end(&job, &outcome, &plan()).status, JobStatus::Dead);
    }
}

#[test]
fn a_skill_that_nobody_has_is_waited_for_a_day() {
    for outcome in [
        Outcome::Elsewhere,
        executed(Some(Cause::NotLoaded)),
        Outcome::Released { cause: NO_HOST },
    ] {
        let mut job = standing(JobStatus::Running);
        // However long ago it was due.
        job.due = NOW - 30 * DAY;
        let change = end(&job, &outcome, &plan());
        assert_eq!(change.status, JobStatus::Pending);
        assert_eq!(change.lacking_since, Some(NOW));
        job.lacking_since = Some(NOW + 10 * SECOND - DAY + 1);
        let change = end(&job, &outcome, &plan());
        assert_eq!(change.status, JobStatus::Pending);
        assert_eq!(change.lacking_since, job.lacking_since);
        job.lacking_since = Some(NOW + 10 * SECOND - DAY);
        let change = end(&job, &outcome, &plan());
        assert_eq!(change.status, JobStatus::Dead);
        assert_eq!(change.attempts, 0, "nobody tried");
        // Also where a clock was set back meanwhile.
        job.lacking_since = Some(NOW + 30 * DAY);
        assert_eq!(end(&job, &outcome, &plan()).lacking_since, Some(NOW));
    }
}

#[test]
fn whatever_else_happens_the_wait_for_a_skill_begins_anew() {
    for (outcome, ..) in table() {
        let mut job = standing(JobStatus::Running);
        job.lacking_since = Some(NOW - SECOND);
        let change = end(&job, &outcome, &plan());
        let lacks = matches!(
            change.cause.as_deref(),
            Some(NOT_LOADED | NO_HOST | HOST_UNAVAILABLE)
        );
        assert_eq!(change.lacking_since.is_some(), lacks, "{outcome:?}");
    }
    let mut job = standing(JobStatus::Pending);
    job.lacking_since = Some(NOW - SECOND);
    let claimed = transition(&job, Trigger::Claim, NOW).unwrap();
    assert_eq!(claimed.lacking_since, job.lacking_since);
    let paused = transition(&job, Trigger::Pause, NOW).unwrap();
    assert_eq!(paused.lacking_since, None);
}

/// It may run each time as far as to where that is missed.
#[test]
fn what_a_host_lacks_is_asked_for_ever_more_seldom() {
    let lacks = Outcome::Released {
        cause: HOST_UNAVAILABLE,
    };
    let mut job = standing(JobStatus::Running);
    for (since, wait) in [(0, 5), (5, 5), (10, 10), (20, 20), (599, 599), (601, 600)] {
        job.lacking_since = Some(NOW - since * SECOND);
        let change = end(&job, &lacks, &plan());
        assert_eq!(change.due, NOW + wait * SECOND, "{since}");
        assert_eq!(change.lacking_since, job.lacking_since);
    }
    // Up to its deadline.
    job.lacking_since = Some(NOW - 300 * SECOND);
    for (left, status) in [(200, JobStatus::Pending), (4, JobStatus::Dead)] {
        job.deadline = Some(NOW + left * SECOND);
        let change = end(&job, &lacks, &plan());
        assert_eq!(change.status, status, "{left}");
    }
    job.deadline = None;
    job.lacking_since = Some(NOW + 600 * SECOND - DAY);
    let change = end(&job, &lacks, &plan());
    assert_eq!((change.status, change.attempts), (JobStatus::Dead, 0));
    assert_eq!(change.cause.as_deref(), Some("host_unavailable"));
}

#[test]
fn only_an_answer_ends_the_wait_for_one() {
    let mut job = standing(JobStatus::Paused);
    job.cause = Some(APPROVAL_NEEDED.to_owned());
    assert!(transition(&job, Trigger::Resume, NOW).is_err());
    let approved = transition(&job, Trigger::Answer { approved: true }, NOW).unwrap();
    assert_eq!(approved.status, JobStatus::Pending);
    assert_eq!(approved.due, NOW);
    let refused = transition(&job, Trigger::Answer { approved: false }, NOW).unwrap();
    assert_eq!(refused.status, JobStatus::Dead);
    assert_eq!(refused.cause.as_deref(), Some("approval_refused"));
    let unanswered = transition(&job, Trigger::Unanswered, NOW).unwrap();
    assert_eq!(unanswered.status, JobStatus::Dead);
    assert_eq!(unanswered.cause.as_deref(), Some("approval_expired"));
    job.cause = None;
    assert!(transition(&job, Trigger::Answer { approved: true }, NOW).is_err());
    assert_eq!(
        transition(&job, Trigger::Resume, NOW).unwrap().status,
        JobStatus::Pending
    );
}

#[test]
fn who_was_put_off_keeps_its_time_over_a_pause() {
    let mut job = standing(JobStatus::Pending);
    job.due = NOW + 60 * SECOND;
    job.status = transition(&job, Trigger::Pause, NOW).unwrap().status;
    let resumed = transition(&job, Trigger::Resume, NOW + SECOND).unwrap();
    assert_eq!(resumed.due, NOW + 60 * SECOND);
    let resumed = transition(&job, Trigger::Resume, NOW + 61 * SECOND).unwrap();
    assert_eq!(resumed.due, NOW + 61 * SECOND);
}

#[test]
fn nobody_takes_what_is_not_due() {
    for status in [JobStatus::Pending, JobStatus::Failed] {
        let mut job = standing(status);
        job.due = NOW + 1;
        assert!(transition(&job, Trigger::Claim, NOW).is_err());
        assert!(transition(&job, Trigger::Claim, NOW + 1).is_ok());
    }
}
