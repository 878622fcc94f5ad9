//! Dead letters: jobs that will not be tried again by themselves.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::extract::{Answer, Asked, Asks, Named, Parameters, answered, fetched};
use super::idempotency::once;
use super::jobs::read::{JobPage, listed, need_own, page, page_of};
use super::jobs::submit::{Accepted, located};
use super::jobs::view::{AttemptView, JobDetails};
use super::openapi::Idempotent;
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::LimitOverrides;
use crate::queue::{Filter, JobStatus, Replay, ReplayVersion, RetryPolicy};
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
    /// Those that were replayed, or those that were not.
    replayed: Option<bool>,
    /// Where to go on: the `next` of the page before.
    cursor: Option<i64>,
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
            replayed: self.replayed,
            cursor: self.cursor,
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
    listed(&service, caller, which.filter(caller)?).await
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

async fn letter(service: &Service, id: Uuid) -> Result<Letter, Problem> {
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
    let caller = asks.need(Scope::Jobs)?;
    need_own(&service, caller, id).await?;
    let all = service.clone();
    let show = async move { Ok(Answer(letter(&all, id).await?).into_response()) };
    fetched(&service, caller, show).await?
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

impl HowReplayed {
    fn replay(self, caller: &Caller) -> Result<Replay, Problem> {
        if let Some(retry) = &self.retry {
            retry
                .check_untrusted()
                .map_err(|error| Problem::from(error).at("/retry/destructive"))?;
        }
        Ok(Replay {
            limits: self.limits,
            version: match self.version {
                Version::Same => ReplayVersion::Same,
                Version::Current => ReplayVersion::Current,
            },
            retry: self.retry,
            caller: Some(caller.name()),
        })
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
    need_own(&service, caller, id).await?;
    let answer = async {
        let replay = asked.value.replay(caller)?;
        let submitted = service.inner.queue.replay(id, &replay).await?;
        Ok(located(submitted.id, Accepted::from(submitted)))
    };
    once(&service, caller, asked.key.as_ref(), answer).await
}

/// Which dead jobs are replayed, and how. At most 1,000 at a time: ask again with `next`, as `cursor`,
/// while there is one.
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
    /// Also those that were replayed before.
    #[serde(default)]
    again: bool,
    /// Where to go on: the `next` of the answer before.
    #[serde(default)]
    cursor: Option<i64>,
    /// How they are replayed.
    #[serde(default)]
    how: HowReplayed,
}

/// What became of the replay of one of many.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Replayed {
    /// The dead job.
    dead: Uuid,
    /// The new job; nothing where there is a problem.
    id: Option<Uuid>,
    /// Whether the new job was there already.
    existing: bool,
    /// Why it cannot be replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<Problem>,
}

impl Replayed {
    fn not(dead: Uuid, problem: Problem) -> Self {
        Replayed {
            dead,
            id: None,
            existing: false,
            problem: Some(problem),
        }
    }
}

/// What became of many replays.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplayedMany {
    /// One for each dead job, the last submitted first.
    jobs: Vec<Replayed>,
    /// Where to go on, as `cursor`; nothing where no others fit.
    next: Option<i64>,
}

/// Replay many dead jobs
///
/// Each by itself: one that cannot be replayed has its problem in the answer, and the others are
/// replayed. Those that were replayed before are left out unless `again` is true.
#[utoipa::path(
    post, path = "/v1/dead-letters/replay", tag = "dead letters",
    params(Idempotent),
    request_body = ReplayMany,
    responses((status = 202, description = "The new jobs", body = ReplayedMany))
)]
pub(super) async fn replay_many(
    State(service): State<Service>,
    asks: Asks,
    asked: Asked<ReplayMany>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let answer = async {
        let wanted = asked.value;
        let replay = wanted
            .how
            .replay(caller)
            .map_err(|problem| problem.within("/how"))?;
        let which = Which {
            cause: wanted.cause,
            queue: wanted.queue,
            skill: wanted.skill,
            tag: wanted.tag,
            replayed: (!wanted.again).then_some(false),
            cursor: wanted.cursor,
            limit: Some(1_000),
        };
        let found = service.inner.queue.ids(&which.filter(caller)?).await?;
        let mut jobs: Vec<Replayed> = Vec::with_capacity(found.items.len());
        let mut away: Option<Problem> = None;
        for dead in found.items {
            let replayed = match &away {
                None => service.inner.queue.replay(dead, &replay).await,
                // As the one before ended, so would this one.
                Some(problem) => {
                    jobs.push(Replayed::not(dead, problem.clone()));
                    continue;
                }
            };
            match replayed {
                Ok(submitted) => jobs.push(Replayed {
                    dead,
                    id: Some(submitted.id),
                    existing: submitted.existing,
                    problem: None,
                }),
                Err(error) => {
                    let problem = Problem::from(error);
                    if problem.status() == StatusCode::SERVICE_UNAVAILABLE {
                        away = Some(problem.clone());
                    }
                    jobs.push(Replayed::not(dead, problem));
                }
            }
        }
        if let Some(problem) = away
            && jobs.iter().all(|job| job.id.is_none())
        {
            return Err(problem);
        }
        let next = found.next;
        let mut response = Answer(ReplayedMany { jobs, next }).into_response();
        *response.status_mut() = StatusCode::ACCEPTED;
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
    need_own(&service, asks.need(Scope::Jobs)?, id).await?;
    let answers = service.inner.queue.discard(&[id]).await?;
    answers.into_iter().next().unwrap_or(Ok(()))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Which dead jobs are removed. At most 1,000 at a time: ask again with `next`, as `cursor`, while there is
/// one.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DiscardMany {
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
    /// Those that were replayed, or those that were not.
    #[serde(default)]
    replayed: Option<bool>,
    /// Whichever they are, where nothing else is said.
    #[serde(default)]
    all: bool,
    /// Where to go on: the `next` of the answer before.
    #[serde(default)]
    cursor: Option<i64>,
}

/// How many dead jobs were removed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DiscardedMany {
    /// How many.
    discarded: usize,
    /// Where to go on, as `cursor`; nothing where no others fit.
    next: Option<i64>,
}

/// Remove many dead jobs for good
#[utoipa::path(
    post, path = "/v1/dead-letters/discard", tag = "dead letters",
    request_body = DiscardMany,
    responses((status = 200, description = "How many are removed", body = DiscardedMany))
)]
pub(super) async fn discard_many(
    State(service): State<Service>,
    asks: Asks,
    asked: Asked<DiscardMany>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let wanted = asked.value;
    let named = [&wanted.cause, &wanted.queue, &wanted.skill, &wanted.tag];
    let says = named.iter().any(|name| name.is_some()) || wanted.replayed.is_some();
    if says == wanted.all {
        let detail = "say which: by `cause`, `queue`, `skill`, `tag` or `replayed`; or `all`, and none of them";
        return Err(Problem::new(ProblemKind::InvalidBody, detail));
    }
    let which = Which {
        cause: wanted.cause,
        queue: wanted.queue,
        skill: wanted.skill,
        tag: wanted.tag,
        replayed: wanted.replayed,
        cursor: wanted.cursor,
        limit: Some(1_000),
    };
    let found = service.inner.queue.ids(&which.filter(caller)?).await?;
    let answers = service.inner.queue.discard(&found.items).await?;
    // Others were removed, or are no longer dead, by somebody else meanwhile.
    let discarded = answers.iter().filter(|answer| answer.is_ok()).count();
    let next = found.next;
    Ok(Answer(DiscardedMany { discarded, next }).into_response())
}

/// A page of dead letters, with all that it takes to understand them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Export {
    /// The last submitted first.
    letters: Vec<Letter>,
    /// Where to go on, as `cursor`; nothing where this is the last page.
    next: Option<i64>,
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
    let filter = which.filter(caller)?;
    let queue = service.inner.queue.clone();
    let found = async move {
        let found = page_of(&queue, &filter).await?;
        let ids: Vec<Uuid> = found.jobs.iter().map(|job| job.id).collect();
        Ok::<_, Problem>((ids, found.next))
    };
    let (ids, next) = fetched(&service, caller, found).await??;
    let mut letters = Vec::with_capacity(ids.len());
    for id in ids {
        let (all, whose) = (service.clone(), caller.clone());
        let one = async move {
            need_own(&all, &whose, id).await?;
            letter(&all, id).await
        };
        // Each in a time of its own: all of them may take longer than one may.
        match fetched(&service, caller, one).await? {
            Ok(letter) => letters.push(letter),
            // It was removed meanwhile.
            Err(problem) if problem.status() == ProblemKind::NotFound.status() => {}
            Err(problem) => return Err(problem),
        }
    }
    let is_large = !letters.is_empty();
    Ok(answered(caller, is_large, Export { letters, next }).await)
}
