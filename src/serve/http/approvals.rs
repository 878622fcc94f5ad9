//! Approvals: jobs that wait for somebody's word.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::extract::{Answer, Asks, Named, Parameters};
use super::jobs::change::{Stands, stands};
use super::jobs::read::{JobPage, listed, own, page};
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::queue::{Filter, JobStatus};
use crate::serve::caller::Scope;

/// The cause of a job that waits for somebody's word.
const CAUSE: &str = "approval_needed";

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Submitted before this one: the `next` of the page before.
    before: Option<Uuid>,
    /// How many at most; 100 unless set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// List jobs that wait for somebody's word
#[utoipa::path(
    get, path = "/v1/approvals", tag = "approvals",
    params(Which),
    responses((status = 200, description = "A page of jobs", body = JobPage))
)]
pub(super) async fn list(
    State(service): State<Service>,
    asks: Asks,
    Parameters(which): Parameters<Which>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Approve)?;
    let filter = Filter {
        status: vec![JobStatus::Paused],
        cause: Some(CAUSE.to_owned()),
        tenant: caller.tenant().map(str::to_owned),
        before: which.before,
        limit: Some(page(which.limit)?),
        ..Filter::default()
    };
    Ok(Answer(listed(&service, filter).await?).into_response())
}

async fn answer(
    service: &Service,
    asks: &Asks,
    id: Uuid,
    approved: bool,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Approve)?;
    let job = own(service, caller, id).await?;
    if job.status != JobStatus::Paused || job.cause.as_deref() != Some(CAUSE) {
        let detail = "the job does not wait for anybody's word";
        return Err(Problem::new(ProblemKind::Conflict, detail).job_status(job.status));
    }
    let queue = &service.inner.queue;
    stands(id, queue.answer(&[id], approved, &caller.name()).await?)
}

/// Let a job run that waits for somebody's word
#[utoipa::path(
    post, path = "/v1/approvals/{id}/approve", tag = "approvals",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "Where it stands", body = Stands))
)]
pub(super) async fn approve(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    answer(&service, &asks, id, true).await
}

/// Refuse a job that waits for somebody's word: it is dead
#[utoipa::path(
    post, path = "/v1/approvals/{id}/refuse", tag = "approvals",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "Where it stands", body = Stands))
)]
pub(super) async fn refuse(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    answer(&service, &asks, id, false).await
}
