//! Approvals: what waits for somebody's word, whichever process asked.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::extract::{Answer, Asked, Asks, Named, Parameters, answered, fetched};
use super::jobs::change::stands;
use super::jobs::read::{page, page_of, with_own};
use super::jobs::view::JobView;
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::execution::Decision;
use crate::policy::{Approval, ApprovalError, ApprovalFilter, ApprovalStatus, Approvals};
use crate::queue::{AnswerError, Filter, Job, JobStatus};
use crate::serve::caller::Scope;

/// The cause of a job that waits for somebody's word.
const CAUSE: &str = "approval_needed";

impl From<ApprovalError> for Problem {
    fn from(error: ApprovalError) -> Self {
        let kind = match &error {
            ApprovalError::NotFound(_) => ProblemKind::NotFound,
            ApprovalError::Over { .. } | ApprovalError::JobEnded { .. } => ProblemKind::Conflict,
            ApprovalError::Audit(_) => {
                tracing::error!(%error, "an answer is not in the audit");
                let detail = "answers must be in the audit, which cannot be written now";
                return Problem::new(ProblemKind::Unavailable, detail)
                    .retry_after(Duration::from_secs(5));
            }
            error => {
                tracing::warn!(%error, "approvals cannot be used");
                let detail = "approvals cannot be used now; nothing was changed";
                return Problem::new(ProblemKind::Unavailable, detail)
                    .retry_after(Duration::from_secs(1));
            }
        };
        Problem::new(kind, error.to_string())
    }
}

impl From<AnswerError> for Problem {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Queue(error) => error.into(),
            AnswerError::Approval(error) => error.into(),
        }
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Asked for before this one: the `next` of the page before.
    before: Option<Uuid>,
    /// Where to go on with the jobs: the `next_jobs` of the page before.
    cursor: Option<i64>,
    /// Those that stand so, rather than open questions. Jobs are listed where it is left out.
    #[param(inline)]
    status: Option<ApprovalStatus>,
    /// How many at most, of approvals and of jobs; 100 unless set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// What waits for somebody's word.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApprovalPage {
    /// Open questions, unless others were asked for, the last asked for first: skill, tool, input, who
    /// asked, until when it can be answered.
    #[schema(value_type = Vec<Object>)]
    approvals: Vec<Value>,
    /// Where to go on, as `before`; nothing where this is the last page.
    next: Option<Uuid>,
    /// Jobs that wait, the last submitted first; at most as many as were asked for.
    jobs: Vec<JobView>,
    /// Where to go on with the jobs, as `cursor`; nothing where these are the last.
    next_jobs: Option<i64>,
}

/// An approval as it is shown: without what an operator granted.
fn shown(approval: &Approval) -> Result<Value, Problem> {
    let mut shown = serde_json::to_value(approval).map_err(|error| {
        tracing::error!(%error, "an approval cannot be written");
        Problem::new(ProblemKind::Internal, "an approval cannot be written")
    })?;
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("grants");
    }
    Ok(shown)
}

/// List what waits for somebody's word
#[utoipa::path(
    get, path = "/v1/approvals", tag = "approvals",
    params(Which),
    responses((status = 200, description = "What waits", body = ApprovalPage))
)]
pub(super) async fn list(
    State(service): State<Service>,
    asks: Asks,
    Parameters(which): Parameters<Which>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Approve)?;
    let limit = page(which.limit)?;
    let tenant = caller.tenant().map(str::to_owned);
    let status = which.status;
    let wanted = ApprovalFilter {
        status: vec![status.unwrap_or(ApprovalStatus::Pending)],
        tenant: tenant.clone(),
        before: which.before,
        limit: Some(limit + 1),
        ..ApprovalFilter::default()
    };
    // First the jobs: what they wait for is asked before they do.
    let (jobs, next_jobs) = match status {
        Some(_) => (Vec::new(), None),
        None => {
            let waiting = Filter {
                status: vec![JobStatus::Paused],
                cause: Some(CAUSE.to_owned()),
                tenant,
                cursor: which.cursor,
                limit: Some(limit),
                ..Filter::default()
            };
            let queue = service.inner.queue.clone();
            let page = async move { page_of(&queue, &waiting).await };
            let page = fetched(&service, caller, page).await??;
            (page.jobs, page.next)
        }
    };
    let mut found = service.inner.queue.approvals(&wanted).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.id);
    let approvals = found.iter().map(shown).collect::<Result<_, _>>()?;
    let page = ApprovalPage {
        approvals,
        next,
        jobs,
        next_jobs,
    };
    Ok(answered(caller, !page.jobs.is_empty(), page).await)
}

/// Show one approval, whether it still waits or not
#[utoipa::path(
    get, path = "/v1/approvals/{id}", tag = "approvals",
    params(("id" = Uuid, Path, description = "The approval")),
    responses((status = 200, description = "The approval", body = Object))
)]
pub(super) async fn show(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Approve)?;
    let found = service.inner.queue.approval(id).await?;
    match caller.may_see(found.wanted.tenant.as_deref()) {
        true => Ok(Answer(shown(&found)?).into_response()),
        false => Err(ApprovalError::NotFound(id).into()),
    }
}

async fn answer(
    service: &Service,
    asks: &Asks,
    id: Uuid,
    decision: Decision,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Approve)?;
    let queue = &service.inner.queue;
    let (by, approved) = (caller.name(), decision != Decision::Refuse);
    tracing::info!(%id, approved, by, "an approval is answered");
    let answers = service.inner.answers.clone().caller(by.as_str());
    match queue.approval(id).await {
        Ok(found) if caller.may_see(found.wanted.tenant.as_deref()) => {
            let answered = answers.decide(id, decision, &by).await?;
            return Ok(Answer(shown(&answered)?).into_response());
        }
        Ok(_) | Err(ApprovalError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    // It may be a job's.
    let stands_at = |job: Job| (job.status, job.cause);
    let (status, cause) = with_own(service, caller, id, stands_at).await?;
    if status != JobStatus::Paused || cause.as_deref() != Some(CAUSE) {
        let detail = "the job does not wait for anybody's word";
        return Err(Problem::new(ProblemKind::Conflict, detail).job_status(status));
    }
    stands(id, answers.answer(&[id], approved, &by).await?)
}

/// For how long.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HowApproved {
    /// The same request may run as often as it likes for so many milliseconds: at most 366 days; once
    /// unless set. Of a job by its own id it is for this job alone.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 31_622_400_000_i64)]
    for_ms: Option<u64>,
}

/// Let something run that waits for somebody's word
#[utoipa::path(
    post, path = "/v1/approvals/{id}/approve", tag = "approvals",
    params(("id" = Uuid, Path, description = "The approval, or the job that waits for it")),
    request_body = HowApproved,
    responses((status = 200, description = "How it stands", body = Object))
)]
pub(super) async fn approve(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
    asked: Asked<HowApproved>,
) -> Result<Response, Problem> {
    let decision = match asked.value.for_ms {
        None => Decision::Once,
        Some(time) => Decision::for_time(Duration::from_millis(time)).map_err(|error| {
            Problem::new(ProblemKind::InvalidBody, error.to_string()).at("/for_ms")
        })?,
    };
    answer(&service, &asks, id, decision).await
}

/// Refuse what waits for somebody's word: a job of it is dead
#[utoipa::path(
    post, path = "/v1/approvals/{id}/refuse", tag = "approvals",
    params(("id" = Uuid, Path, description = "The approval, or the job that waits for it")),
    responses((status = 200, description = "How it stands", body = Object))
)]
pub(super) async fn refuse(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    answer(&service, &asks, id, Decision::Refuse).await
}
