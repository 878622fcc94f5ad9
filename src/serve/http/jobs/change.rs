//! Jobs, stepped in with.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::extract::{Answer, Asked, Asks, Named};
use super::super::problem::{Problem, ProblemKind};
use super::super::state::Service;
use super::read::need_own;
use crate::queue::{JobStatus, Keep, Priority, QueueError};
use crate::serve::caller::Scope;

/// Where a job stands now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stands {
    /// The job.
    id: Uuid,
    /// Its status; one that runs is asked to stop, and is cancelled once it has.
    status: JobStatus,
}

/// The answer for the one job that was asked for.
pub(crate) fn stands(
    id: Uuid,
    answers: Vec<Result<JobStatus, QueueError>>,
) -> Result<Response, Problem> {
    let answer = answers.into_iter().next();
    let status = answer.unwrap_or(Err(QueueError::NotFound(id)))?;
    Ok(Answer(Stands { id, status }).into_response())
}

/// Cancel a job
///
/// One that runs is asked to stop, and is cancelled once it has.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "Where it stands", body = Stands))
)]
pub(crate) async fn cancel(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    need_own(&service, asks.need(Scope::Jobs)?, id).await?;
    stands(id, service.inner.queue.cancel(&[id]).await?)
}

/// Pause a job that waits
#[utoipa::path(
    post, path = "/v1/jobs/{id}/pause", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "Where it stands", body = Stands))
)]
pub(crate) async fn pause(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    need_own(&service, asks.need(Scope::Jobs)?, id).await?;
    stands(id, service.inner.queue.pause(&[id]).await?)
}

/// Let a paused job go on
///
/// Not one that waits for somebody's word: see the approvals.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/resume", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "Where it stands", body = Stands))
)]
pub(crate) async fn resume(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    need_own(&service, asks.need(Scope::Jobs)?, id).await?;
    stands(id, service.inner.queue.resume(&[id]).await?)
}

/// A job's priority.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetPriority {
    /// How urgent it is.
    priority: Priority,
}

/// Give a job another priority
#[utoipa::path(
    put, path = "/v1/jobs/{id}/priority", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    request_body = SetPriority,
    responses((status = 200, description = "Where it stands", body = Stands))
)]
pub(crate) async fn priority(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
    asked: Asked<SetPriority>,
) -> Result<Response, Problem> {
    need_own(&service, asks.need(Scope::Jobs)?, id).await?;
    let queue = &service.inner.queue;
    stands(id, queue.set_priority(&[id], asked.value.priority).await?)
}

/// Until when a job is put off: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snooze {
    /// So many milliseconds from now: at most ten years.
    #[serde(default)]
    #[schema(maximum = 315_360_000_000_i64)]
    for_ms: Option<u64>,
    /// Until then.
    #[serde(default)]
    until: Option<DateTime<Utc>>,
}

/// Put a job off that waits
#[utoipa::path(
    post, path = "/v1/jobs/{id}/snooze", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    request_body = Snooze,
    responses((status = 200, description = "Where it stands", body = Stands))
)]
pub(crate) async fn snooze(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
    asked: Asked<Snooze>,
) -> Result<Response, Problem> {
    need_own(&service, asks.need(Scope::Jobs)?, id).await?;
    let queue = &service.inner.queue;
    let longest = TimeDelta::days(3_650);
    let until = match (asked.value.for_ms, asked.value.until) {
        (Some(wait), None) => i64::try_from(wait)
            .ok()
            .map(TimeDelta::milliseconds)
            .filter(|wait| *wait <= longest)
            .map(|wait| queue.now() + wait),
        (None, Some(until)) => Some(until),
        _ => None,
    };
    let Some(until) = until else {
        let detail = "name either `for_ms`, of at most ten years, or `until`";
        return Err(Problem::new(ProblemKind::InvalidBody, detail));
    };
    stands(id, queue.snooze(&[id], until).await?)
}

/// How long what ended or happened is kept: what is older is removed. At least one of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prune {
    /// Completed and cancelled jobs, in milliseconds since they ended.
    #[serde(default)]
    completed_after_ms: Option<u64>,
    /// Dead ones, in milliseconds since they died.
    #[serde(default)]
    dead_after_ms: Option<u64>,
    /// Events, in milliseconds since they happened.
    #[serde(default)]
    events_after_ms: Option<u64>,
}

/// How much was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pruned {
    /// Jobs, with their attempts and results.
    jobs: usize,
    /// Events.
    events: usize,
}

/// Remove jobs that ended long ago, and old events: of every tenant
#[utoipa::path(
    post, path = "/v1/jobs/prune", tag = "jobs",
    request_body = Prune,
    responses((status = 200, description = "How much was removed", body = Pruned))
)]
pub(crate) async fn prune(
    State(service): State<Service>,
    asks: Asks,
    asked: Asked<Prune>,
) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    let age = |milliseconds: Option<u64>| milliseconds.map(Duration::from_millis);
    let keep = Keep {
        completed: age(asked.value.completed_after_ms),
        dead: age(asked.value.dead_after_ms),
        events: age(asked.value.events_after_ms),
    };
    if [keep.completed, keep.dead, keep.events]
        .iter()
        .all(Option::is_none)
    {
        let detail = "name one of `completed_after_ms`, `dead_after_ms` and `events_after_ms`";
        return Err(Problem::new(ProblemKind::InvalidBody, detail));
    }
    let pruned = service.inner.queue.prune(keep).await?;
    let (jobs, events) = (pruned.jobs, pruned.events);
    Ok(Answer(Pruned { jobs, events }).into_response())
}
