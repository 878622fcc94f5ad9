//! Dead letters: jobs that will not be tried again by themselves.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::extract::{Answer, Asked, Asks, Named, Parameters};
use super::idempotency::once;
use super::jobs::read::{JobPage, listed, own, page};
use super::jobs::submit::{Accepted, located};
use super::jobs::view::{AttemptView, JobDetails};
use super::openapi::Idempotent;
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::LimitOverrides;
use crate::queue::{Filter, Job, JobStatus, Replay, ReplayVersion, RetryPolicy};
use crate::serve::caller::{Caller, Scope};

/// Which dead letters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Dead of this cause.
    cause: Option<String>,
    /// From this queue.
    queue: Option<String>,
    /// Of the skill of this name.
    skill: Option<String>,
    /// With this tag.
    tag: Option<String>,
    /// Submitted before this one: the `next` of the page before.
    before: Option<Uuid>,
    /// How many at most; 100 unless set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl Which {
    fn filter(self, caller: &Caller) -> Result<Filter, Problem> {
        Ok(Filter {
            status: vec![JobStatus::Dead],
            cause: self.cause,
            queue: self.queue,
            skill: self.skill,
            tag: self.tag,
            before: self.before,
            tenant: caller.tenant().map(str::to_owned),
            limit: Some(page(self.limit)?),
            ..Filter::default()
        })
    }
}

/// List dead letters
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "dead letters",
    params(Which),
    responses((status = 200, description = "A page of dead jobs", body = JobPage))
)]
pub(super) async fn list(
    State(service): State<Service>,
    asks: Asks,
    Parameters(which): Parameters<Which>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let page = listed(&service, which.filter(caller)?).await?;
    Ok(Answer(page).into_response())
}

/// How many are dead of what.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Causes {
    /// By cause.
    causes: BTreeMap<String, u64>,
}

/// Count dead letters by cause
#[utoipa::path(
    get, path = "/v1/dead-letters/causes", tag = "dead letters",
    responses((status = 200, description = "How many are dead of what", body = Causes))
)]
pub(super) async fn causes(
    State(service): State<Service>,
    asks: Asks,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let counts = service.inner.queue.counts_of(caller.tenant()).await?;
    let causes = counts.dead_by_cause;
    Ok(Answer(Causes { causes }).into_response())
}

/// A dead job with every attempt at it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Letter {
    /// The job.
    job: JobDetails,
    /// Every attempt, with its failure, usage, limits and digest.
    attempts: Vec<AttemptView>,
}

async fn letter(service: &Service, job: Job) -> Result<Letter, Problem> {
    let id = job.id;
    let letter = service.inner.queue.dead_letter(id).await?;
    let progress = service.inner.queue.progress(id).await?;
    let attempts = letter.attempts.into_iter().map(AttemptView::new).collect();
    Ok(Letter {
        job: JobDetails::new(letter.job, progress),
        attempts,
    })
}

/// Look at a dead letter: the job, and every attempt at it
#[utoipa::path(
    get, path = "/v1/dead-letters/{id}", tag = "dead letters",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "The dead letter", body = Letter))
)]
pub(super) async fn show(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    let job = own(&service, asks.need(Scope::Jobs)?, id).await?;
    Ok(Answer(letter(&service, job).await?).into_response())
}

/// Which version of a skill a replay executes.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Version {
    /// The digest that ran; as the job was submitted where none ran.
    #[default]
    Same,
    /// The one that goes by the skill's name now.
    Current,
}

/// How a dead job is replayed.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HowReplayed {
    /// Limits to raise, or lower; the others stay as they were requested.
    #[serde(default)]
    limits: LimitOverrides,
    /// Which version of the skill.
    #[serde(default)]
    version: Version,
    /// How it is tried again; as the dead job unless set.
    #[serde(default)]
    retry: Option<RetryPolicy>,
}

impl From<HowReplayed> for Replay {
    fn from(how: HowReplayed) -> Self {
        Replay {
            limits: how.limits,
            version: match how.version {
                Version::Same => ReplayVersion::Same,
                Version::Current => ReplayVersion::Current,
            },
            retry: how.retry,
        }
    }
}

/// Replay a dead job
///
/// As a new job, linked to the dead one, which stays. While that has not ended, it is the answer to
/// every further replay.
#[utoipa::path(
    post, path = "/v1/dead-letters/{id}/replay", tag = "dead letters",
    params(("id" = Uuid, Path, description = "The dead job"), Idempotent),
    request_body = HowReplayed,
    responses((status = 202, description = "The new job", body = Accepted,
        headers(("Location" = String, description = "The job"))))
)]
pub(super) async fn replay(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
    asked: Asked<HowReplayed>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    own(&service, caller, id).await?;
    let answer = async {
        let replay = Replay::from(asked.value);
        let submitted = service.inner.queue.replay(id, &replay).await?;
        Ok(located(submitted.id, Accepted::from(submitted)))
    };
    once(&service, caller, asked.key.as_ref(), answer).await
}

/// Which dead jobs are replayed, and how. At most 1,000 at a time: ask again while `more` is true.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayMany {
    /// Dead of this cause.
    #[serde(default)]
    cause: Option<String>,
    /// From this queue.
    #[serde(default)]
    queue: Option<String>,
    /// Of the skill of this name.
    #[serde(default)]
    skill: Option<String>,
    /// With this tag.
    #[serde(default)]
    tag: Option<String>,
    /// Submitted before this one: the `next` of the answer before.
    #[serde(default)]
    before: Option<Uuid>,
    /// How they are replayed.
    #[serde(default)]
    how: HowReplayed,
}

/// What became of many replays.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Replayed {
    /// The new jobs, those that were there already included.
    jobs: Vec<Accepted>,
    /// Where to go on, as `before`; nothing where all that fit were replayed.
    next: Option<Uuid>,
}

/// Replay many dead jobs
#[utoipa::path(
    post, path = "/v1/dead-letters/replay", tag = "dead letters",
    params(Idempotent),
    request_body = ReplayMany,
    responses((status = 202, description = "The new jobs", body = Replayed))
)]
pub(super) async fn replay_many(
    State(service): State<Service>,
    asks: Asks,
    asked: Asked<ReplayMany>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let answer = async {
        let wanted = asked.value;
        let which = Which {
            cause: wanted.cause,
            queue: wanted.queue,
            skill: wanted.skill,
            tag: wanted.tag,
            before: wanted.before,
            limit: Some(1_000),
        };
        let found = listed(&service, which.filter(caller)?).await?;
        let replay = Replay::from(wanted.how);
        let mut jobs = Vec::with_capacity(found.jobs.len());
        for job in &found.jobs {
            let submitted = service.inner.queue.replay(job.id, &replay).await?;
            jobs.push(Accepted::from(submitted));
        }
        let next = found.next;
        let mut response = Answer(Replayed { jobs, next }).into_response();
        *response.status_mut() = axum::http::StatusCode::ACCEPTED;
        Ok(response)
    };
    once(&service, caller, asked.key.as_ref(), answer).await
}

/// Remove a dead job for good
#[utoipa::path(
    delete, path = "/v1/dead-letters/{id}", tag = "dead letters",
    params(("id" = Uuid, Path, description = "The dead job")),
    responses((status = 204, description = "It is removed"))
)]
pub(super) async fn discard(
    State(service): State<Service>,
    asks: Asks,
    Named(id): Named<Uuid>,
) -> Result<Response, Problem> {
    own(&service, asks.need(Scope::Jobs)?, id).await?;
    let answers = service.inner.queue.discard(&[id]).await?;
    answers.into_iter().next().unwrap_or(Ok(()))?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

/// A page of dead letters, with all that it takes to understand them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Export {
    /// The last submitted first.
    letters: Vec<Letter>,
    /// Where to go on, as `before`; nothing where this is the last page.
    next: Option<Uuid>,
}

/// Export dead letters, with their inputs and attempts
#[utoipa::path(
    get, path = "/v1/dead-letters/export", tag = "dead letters",
    params(Which),
    responses((status = 200, description = "A page of dead letters", body = Export))
)]
pub(super) async fn export(
    State(service): State<Service>,
    asks: Asks,
    Parameters(which): Parameters<Which>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let found = listed(&service, which.filter(caller)?).await?;
    let mut letters = Vec::with_capacity(found.jobs.len());
    for job in &found.jobs {
        match own(&service, caller, job.id).await {
            Ok(job) => letters.push(letter(&service, job).await?),
            // It was removed meanwhile.
            Err(problem) if problem.status() == ProblemKind::NotFound.status() => {}
            Err(problem) => return Err(problem),
        }
    }
    let next = found.next;
    Ok(Answer(Export { letters, next }).into_response())
}
