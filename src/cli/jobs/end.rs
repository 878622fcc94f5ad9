//! What a job came to, as `run` would show it.

use std::path::Path;

use serde_json::json;
use skillhost::execution::{Phase, Rejection};
use skillhost::queue::{Job, JobStatus, Queue, Work};
use skillhost::{Cause, ExecutionResult, Failure, Limit, LimitOverrides, Limits};

use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::explain;
use crate::cli::run::{Report, View, without_run};

/// How the end of a job is shown.
pub struct Shown<'a> {
    /// Whether a program reads it.
    pub json: bool,
    /// Where attachments go.
    pub out: Option<&'a Path>,
    /// What was typed for the skill.
    pub typed: &'a Path,
}

/// The result of a job that has ended: of one that is dead, as far as its last attempt tells.
///
/// # Errors
/// Where the queue cannot be read.
pub async fn result(queue: &Queue, job: &Job) -> anyhow::Result<ExecutionResult> {
    let known = match job.status {
        JobStatus::Completed => queue
            .result(job.id)
            .await
            .map_err(explain::queue)?
            .and_then(|result| serde_json::from_value(result).ok()),
        JobStatus::Dead if !is_own(job) => last_failure(queue, job).await?,
        _ => None,
    };
    Ok(match known {
        Some(known) => known,
        None if job.status == JobStatus::Completed => ExecutionResult {
            failure: None,
            status: skillhost::Status::Success,
            ..without_run(Failure::new(Cause::NotLoaded, ""), Limits::default())
        },
        None => without_run(failure(job), Limits::default()),
    })
}

/// Whether it died of something that no attempt tells.
fn is_own(job: &Job) -> bool {
    let cause = job.cause.as_deref().unwrap_or_default();
    matches!(
        cause,
        "deadline" | "approval_refused" | "approval_expired" | "worker_lost" | "result_too_large"
    )
}

async fn last_failure(queue: &Queue, job: &Job) -> anyhow::Result<Option<ExecutionResult>> {
    let attempts = queue.attempts(job.id).await.map_err(explain::queue)?;
    Ok(attempts.into_iter().next_back().and_then(|attempt| {
        let details = attempt.details;
        serde_json::from_value(json!({
            "request_id": job.id,
            "status": attempt.status,
            "tool": details.get("tool"),
            "output": null,
            "failure": details.get("failure")?,
            "usage": details.get("usage")?,
            "limits": details.get("limits")?,
            "skill": details.get("skill"),
            "stderr": details.get("stderr").cloned().unwrap_or_else(|| json!("")),
        }))
        .ok()
    }))
}

/// Why a job ended of which no attempt tells.
pub fn failure(job: &Job) -> Failure {
    let cause = job.cause.as_deref().unwrap_or_default();
    let phase = Phase::Waiting;
    match (job.status, cause) {
        (JobStatus::Cancelled, _) => {
            Failure::new(Cause::Cancelled { phase }, "the job was cancelled")
        }
        (_, "deadline") => {
            let cause = Cause::Timeout {
                limit: Limit::Deadline,
                allowed: 0,
                phase,
            };
            Failure::new(cause, "the job's deadline passed before it was done")
        }
        (_, "approval_refused" | "approval_expired") => {
            let message = match cause {
                "approval_refused" => "somebody refused to let the job run",
                _ => "nobody answered in time whether the job may run",
            };
            let cause = Cause::Rejected {
                reason: Rejection::Approval,
                retry_at: None,
            };
            Failure::new(cause, message)
        }
        (_, "worker_lost") => Failure::new(
            Cause::HostPanic,
            "every worker that took the job died before it was done",
        ),
        (_, "result_too_large") => {
            Failure::new(Cause::HostPanic, "the job's result is too large to be kept")
        }
        (_, cause) => Failure::new(
            Cause::NotLoaded,
            format!("the job is dead, of the cause `{cause}`"),
        ),
    }
}

/// How a command ends that waited for a job.
pub fn exit(result: &ExecutionResult) -> Exit {
    Exit::of(result.status, result.failure.as_ref())
}

/// Shows what a job came to, and gives the exit code that goes with it.
///
/// # Errors
/// Where the queue cannot be read, or the output not be written.
pub async fn show_end(
    queue: &Queue,
    job: &Job,
    shown: &Shown<'_>,
    console: Console,
) -> anyhow::Result<Exit> {
    let result = result(queue, job).await?;
    let name = match &result.skill {
        Some(skill) => skill.name.clone(),
        None => job.skill.clone().unwrap_or_default(),
    };
    let view = View::new(console, &name);
    let own = match &job.submitted.work {
        Work::Execution { request } => request.grants.directories.as_slice(),
        _ => &[],
    };
    let report = Report {
        console,
        json: shown.json,
        out: shown.out,
        typed: shown.typed,
        // That of the worker, wherever it ran.
        policy: None,
        asked: match &job.submitted.work {
            Work::Execution { request } => request.limits,
            _ => LimitOverrides::default(),
        },
        denials_told: false,
        input_hints: &[],
        own,
        is_job: true,
    };
    report.show(&result, &view)
}
