//! Jobs, looked at.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::extract::{Answer, Asks, Named, Parameters, fetched, json};
use super::super::problem::{Problem, ProblemKind};
use super::super::state::Service;
use super::view::{AttemptView, JobDetails, JobView};
use crate::ExecutionResult;
use crate::queue::{Filter, Job, JobStatus, Kind, Queue, QueueError};
use crate::serve::caller::{Caller, Scope};

/// How many jobs a page has at most.
const MAX_PAGE: usize = 1_000;
/// How long an answer may be waited for.
const MAX_WAIT_MS: u64 = 60_000;

/// Which jobs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Of this status.
    status: Option<JobStatus>,
    /// Of this kind.
    kind: Option<Kind>,
    /// In this queue.
    queue: Option<String>,
    /// Of the skill of this name.
    skill: Option<String>,
    /// With this tag.
    tag: Option<String>,
    /// Dead, paused or waiting for this cause.
    cause: Option<String>,
    /// Dead ones that were replayed, or that were not.
    replayed: Option<bool>,
    /// Where to go on: the `next` of the page before.
    cursor: Option<i64>,
    /// How many at most; 100 unless set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl Which {
    pub fn filter(self, caller: &Caller) -> Result<Filter, Problem> {
        Ok(Filter {
            status: self.status.into_iter().collect(),
            kind: self.kind,
            queue: self.queue,
            tenant: caller.tenant().map(str::to_owned),
            skill: self.skill,
            tag: self.tag,
            cause: self.cause,
            replayed: self.replayed,
            cursor: self.cursor,
            limit: Some(page(self.limit)?),
            ..Filter::default()
        })
    }
}

/// How many a page has.
pub(crate) fn page(limit: Option<usize>) -> Result<usize, Problem> {
    match limit {
        None => Ok(100),
        Some(limit) if (1..=MAX_PAGE).contains(&limit) => Ok(limit),
        Some(_) => {
            let detail = format!("`limit` is 1 to {MAX_PAGE}");
            Err(Problem::new(ProblemKind::InvalidRequest, detail))
        }
    }
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobPage {
    /// The last submitted first.
    pub jobs: Vec<JobView>,
    /// Where to go on, as `cursor`; nothing where this is the last page. It holds also where jobs are
    /// removed meanwhile.
    pub next: Option<i64>,
}

/// One page of those that fit: fewer than were asked for where they are large.
pub(crate) async fn page_of(queue: &Queue, filter: &Filter) -> Result<JobPage, Problem> {
    let page = queue.list(filter).await?;
    let jobs = page.items.into_iter().map(JobView::new).collect();
    let next = page.next;
    Ok(JobPage { jobs, next })
}

/// The same as an answer.
pub(crate) async fn listed(
    service: &Service,
    caller: &Caller,
    filter: Filter,
) -> Result<Response, Problem> {
    let queue = service.inner.queue.clone();
    let page = async move { Ok(Answer(page_of(&queue, &filter).await?).into_response()) };
    fetched(service, caller, page).await?
}

/// List jobs
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs",
    params(Which),
    responses((status = 200, description = "A page of jobs", body = JobPage))
)]
pub(crate) async fn list(
    State(service): State<Service>,
    asks: Asks,
    Parameters(which): Parameters<Which>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    listed(&service, caller, which.filter(caller)?).await
}

/// Makes sure that this caller may see a job, of which nothing else is read.
pub(crate) async fn need_own(service: &Service, caller: &Caller, id: Uuid) -> Result<(), Problem> {
    let tenants = service.inner.queue.tenants(&[id]).await?;
    match tenants.get(&id) {
        Some(tenant) if caller.may_see(tenant.as_deref()) => Ok(()),
        _ => Err(QueueError::NotFound(id).into()),
    }
}

/// Does something with a job that this caller may see, where it holds up nobody: it may be large. Of one that it may
/// not see, there is none.
pub(crate) async fn with_own<T: Send + 'static>(
    service: &Service,
    caller: &Caller,
    id: Uuid,
    work: impl FnOnce(Job) -> T + Send + 'static,
) -> Result<T, Problem> {
    need_own(service, caller, id).await?;
    let queue = service.inner.queue.clone();
    let fetch = async move { queue.job(id).await.map(work) };
    Ok(fetched(service, caller, fetch).await??)
}

/// Look at a job
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "The job", body = JobDetails))
)]
pub(crate) async fn show(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    need_own(&service, caller, id).await?;
    let queue = service.inner.queue.clone();
    let show = async move {
        let job = queue.job(id).await?;
        let progress = queue.progress(id).await?;
        Ok(Answer(JobDetails::new(job, progress)).into_response())
    };
    fetched(&service, caller, show).await?
}

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Patience {
    /// Wait for its end for so many milliseconds, rather than not at all.
    #[param(maximum = 60_000)]
    wait_ms: Option<u64>,
}

/// Get what a job came to
///
/// Of an execution, the result with its output. A job that has not ended, or ended without a result, is
/// a conflict that says where it stands.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/result", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job"), Patience),
    responses((status = 200, description = "What it came to", body = ExecutionResult))
)]
pub(crate) async fn result(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
    Parameters(patience): Parameters<Patience>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let wait = patience.wait_ms.unwrap_or(0);
    if wait > MAX_WAIT_MS {
        let detail = format!("`wait_ms` is at most {MAX_WAIT_MS}");
        return Err(Problem::new(ProblemKind::InvalidRequest, detail));
    }
    // No more of it than that is kept while it is waited for.
    let stands = |job: Job| (job.status, job.cause);
    let (mut status, mut cause) = with_own(&service, caller, id, stands).await?;
    let queue = &service.inner.queue;
    if !status.is_terminal() && wait > 0 {
        let ended = tokio::select! {
            ended = tokio::time::timeout(Duration::from_millis(wait), queue.wait_for_end(id)) => {
                ended.ok()
            }
            () = service.inner.stopping.cancelled() => None,
        };
        if let Some(ended) = ended {
            ended?;
            (status, cause) = with_own(&service, caller, id, stands).await?;
        }
    }
    if status == JobStatus::Completed {
        let queue = queue.clone();
        let result = async move {
            let result = queue.result(id).await?;
            Ok::<_, QueueError>(result.map(|result| result.to_string()))
        };
        return match fetched(&service, caller, result).await?? {
            Some(result) => Ok(json(result)),
            None => {
                let detail = "the job is completed, and its output was not to be kept";
                Err(Problem::new(ProblemKind::Conflict, detail).job_status(status))
            }
        };
    }
    let detail = match (cause, status.is_terminal()) {
        (Some(cause), true) => format!(
            "the job is {status}, of the cause `{cause}`; `GET /v1/jobs/{id}/attempts` has its failures"
        ),
        (None, true) => format!("the job is {status}"),
        (_, false) => format!("the job has not ended: it is {status}"),
    };
    Err(Problem::new(ProblemKind::Conflict, detail).job_status(status))
}

/// Every try at a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptList {
    /// In order.
    pub attempts: Vec<AttemptView>,
}

/// List the attempts at a job
#[utoipa::path(
    get, path = "/v1/jobs/{id}/attempts", tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "The attempts", body = AttemptList))
)]
pub(crate) async fn attempts(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    need_own(&service, caller, id).await?;
    let attempts = service.inner.queue.attempts(id).await?;
    let attempts = attempts.into_iter().map(AttemptView::new).collect();
    Ok(Answer(AttemptList { attempts }).into_response())
}
