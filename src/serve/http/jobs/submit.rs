//! Jobs come in.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::bounded;
use super::super::executions::{Execution, look};
use super::super::extract::{Answer, Asked, Asks};
use super::super::idempotency::once;
use super::super::openapi::{CallbackUrl, Idempotent, Labels, QueueName, SkillReference, Tag};
use super::super::problem::{Problem, ProblemKind};
use super::super::state::Service;
use super::super::trace::Trace;
use crate::queue::callback::Callbacks;
use crate::queue::{
    Callback, DEFAULT_QUEUE, Due, Key, Mode, NewJob, Priority, RetryPolicy, Submitted, Work,
};
use crate::serve::caller::{Caller, Scope};
use crate::skill::SkillRef;
use crate::{Attachment, LimitOverrides};

/// The most jobs of one batch.
const MAX_BATCH: usize = 1_000;

/// A job that is to be submitted. What it may touch is the policy's to say, and on whose behalf it runs
/// is the token's.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewJob)]
pub(crate) struct Submission {
    /// The skill: `name`, `name@version`, or `sha256:` and the digest.
    #[schema(value_type = SkillReference)]
    skill: SkillRef,
    /// The tool; may be left out where the skill has one only.
    #[serde(default, deserialize_with = "bounded::name")]
    #[schema(max_length = 255)]
    tool: Option<String>,
    /// The input: an object that fits the tool's schema.
    #[serde(default)]
    #[schema(value_type = Object)]
    input: Map<String, Value>,
    /// Binary data beside the input.
    #[serde(default)]
    attachments: Vec<Attachment>,
    /// Limits, under those that the operator allows.
    #[serde(default)]
    limits: LimitOverrides,
    /// On whose behalf within the tenant: a person.
    #[serde(default, deserialize_with = "bounded::name")]
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$"
    )]
    user: Option<String>,
    /// The conversation or session that this belongs to.
    #[serde(default, deserialize_with = "bounded::name")]
    #[schema(max_length = 255)]
    session: Option<String>,
    /// How urgent it is, against other jobs of the tenant.
    #[serde(default)]
    priority: Priority,
    /// The queue; `default` unless named.
    #[serde(default = "default_queue")]
    #[schema(value_type = QueueName)]
    queue: String,
    /// Run it no sooner than so many milliseconds from now: at most ten years.
    #[serde(default)]
    #[schema(maximum = 315_360_000_000_i64)]
    delay_ms: Option<u64>,
    /// Run it no sooner than then; not beside `delay_ms`.
    #[serde(default)]
    at: Option<DateTime<Utc>>,
    /// The moment after which its result is of no use.
    #[serde(default)]
    deadline: Option<DateTime<Utc>>,
    /// How many attempts it has in all; as set for the tool or the queue, or 5.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    max_attempts: Option<u32>,
    /// How it is tried again, in every detail; not beside `max_attempts`.
    #[serde(default)]
    retry: Option<RetryPolicy>,
    /// Makes a second submission the same job.
    #[serde(default)]
    key: Option<Key>,
    /// Words to find it by.
    #[serde(default, deserialize_with = "bounded::tags")]
    #[schema(value_type = Vec<Tag>, max_items = 20)]
    tags: BTreeSet<String>,
    /// Your own notes, which nothing here reads: at most 64, with names of at most 255 characters and values of at most
    /// 1,024.
    #[serde(default, deserialize_with = "bounded::labels")]
    #[schema(value_type = Labels)]
    labels: BTreeMap<String, String>,
    /// Do not keep its output.
    #[serde(default)]
    forget: bool,
    /// Send the result to this URL, `http` or `https`, to an address that is public.
    #[serde(default)]
    #[schema(value_type = Option<CallbackUrl>)]
    callback: Option<String>,
    /// Let it wait until it is resumed.
    #[serde(default)]
    paused: bool,
}

fn default_queue() -> String {
    DEFAULT_QUEUE.to_owned()
}

impl Submission {
    /// Whether it says when it runs, or which submissions are the same.
    pub fn has_time(&self) -> bool {
        self.at.is_some()
            || self.delay_ms.is_some()
            || self.deadline.is_some()
            || self.key.is_some()
            || self.paused
    }

    /// The job that it comes to for this caller.
    pub fn job(self, callbacks: &Callbacks, caller: &Caller) -> Result<NewJob, Problem> {
        let invalid = |detail: &'static str, at: &str| {
            Err(Problem::new(ProblemKind::InvalidBody, detail).at(at))
        };
        if self.at.is_some() && self.delay_ms.is_some() {
            return invalid("`at` and `delay_ms` do not go together", "/at");
        }
        if self.retry.is_some() && self.max_attempts.is_some() {
            return invalid("`retry` and `max_attempts` do not go together", "/retry");
        }
        if self.forget && self.callback.is_some() {
            return invalid("`forget` and `callback` do not go together", "/forget");
        }
        let request = Execution {
            skill: self.skill,
            tool: self.tool,
            input: self.input,
            attachments: self.attachments,
            limits: self.limits,
            user: self.user,
            session: self.session,
            deadline: self.deadline,
            labels: BTreeMap::new(),
        };
        let mut job = NewJob::execution(request.request(caller));
        job.priority = self.priority;
        job.queue = self.queue;
        job.due = match (self.delay_ms, self.at) {
            (Some(delay), _) => Due::AfterMs(delay),
            (None, Some(at)) => Due::At(at),
            (None, None) => Due::Now,
        };
        job.retry = self.retry;
        job.attempts = self.max_attempts;
        job.key = self.key;
        job.tags = self.tags;
        job.labels = self.labels;
        job.paused = self.paused;
        if self.forget {
            job.mode = Mode::FireAndForget;
        }
        if let Some(url) = self.callback {
            let checked = callbacks.check(&url);
            checked.map_err(|error| {
                Problem::new(ProblemKind::InvalidBody, error.to_string()).at("/callback")
            })?;
            job = job.callback(Callback { url, secret: None });
        }
        job.check_untrusted()?;
        Ok(job.caller(caller.name()))
    }
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// The job: the one submitted, or the one that has its key.
    id: Uuid,
    /// Whether it was there already.
    existing: bool,
}

/// Submit a job
///
/// Once this has answered, the job is not lost, whatever dies. It is refused where its skill or tool is
/// not there.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs",
    params(Idempotent),
    request_body = Submission,
    responses((status = 202, description = "It is accepted", body = Accepted,
        headers(("Location" = String, description = "The job"))))
)]
pub(crate) async fn submit(
    State(service): State<Service>,
    asks: Asks,
    asked: Asked<Submission>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let key = asked.key.as_ref();
    let answer = async {
        let mut job = asked.value.job(&service.inner.callbacks, caller)?;
        look_at(&service, caller, &mut job).await?;
        let ids = key.map(|key| vec![key.job(caller, 0)]);
        let accepted = store(&service, &asks.trace, vec![job], ids).await?;
        let Some(accepted) = accepted.first().copied() else {
            return Err(Problem::new(ProblemKind::Internal, "nothing was accepted"));
        };
        Ok(located(accepted.id, accepted))
    };
    once(&service, caller, key, answer).await
}

/// An answer that says where the job is.
pub(crate) fn located(job: Uuid, answer: impl Serialize) -> Response {
    let mut response = Answer(answer).into_response();
    if response.status().is_success() {
        *response.status_mut() = StatusCode::ACCEPTED;
        if let Ok(place) = HeaderValue::try_from(format!("/v1/jobs/{job}")) {
            response.headers_mut().insert(LOCATION, place);
        }
    }
    response
}

/// Looks whether a job could be executed, once its skill is there.
pub(crate) async fn look_at(
    service: &Service,
    caller: &Caller,
    job: &mut NewJob,
) -> Result<(), Problem> {
    make_ready(service, job).await;
    look_on(service, caller, job).await
}

/// Has the skill of a job loaded, so that it can be looked at.
async fn make_ready(service: &Service, job: &NewJob) {
    if let Work::Execution { request } = &job.work {
        // One whose skill cannot be had is looked at all the same, and refused for that.
        let _ = service.inner.execute.ready(request).await;
    }
}

/// The same of one whose skill is ready. However the client spelled its skill, and whether it named the
/// tool: what is bounded, paused and set for them holds for the job.
async fn look_on(service: &Service, caller: &Caller, job: &mut NewJob) -> Result<(), Problem> {
    if let Work::Execution { request } = &mut job.work {
        // They are the job's, and what is bounded and allowed for them is looked at as the worker will.
        request.tenant.clone_from(&job.tenant);
        request.user.clone_from(&job.user);
        request.deadline = job.deadline;
        let looked = look(service, caller, request).await;
        (request.tenant, request.user, request.deadline) = (None, None, None);
        let admission = looked?;
        job.skill = admission.skill.map(|skill| skill.name.clone());
        request.tool = request.tool.take().or(admission.tool);
    }
    Ok(())
}

/// Stores jobs, all or none, under these ids where there are any. Those that are there already under
/// their ids were stored by the same request before.
async fn store(
    service: &Service,
    trace: &Trace,
    mut jobs: Vec<NewJob>,
    ids: Option<Vec<Uuid>>,
) -> Result<Vec<Accepted>, Problem> {
    let queue = &service.inner.queue;
    let (trace, state) = (trace.parent.to_string(), trace.state.as_deref());
    for job in &mut jobs {
        job.trace = Some(trace.clone());
        job.trace_state = state.map(str::to_owned);
    }
    let Some(ids) = ids else {
        let submitted = queue.submit_all(jobs).await?;
        return Ok(submitted.into_iter().map(Accepted::from).collect());
    };
    let there = queue.tenants(&ids).await?;
    for (job, id) in jobs.iter_mut().zip(&ids) {
        job.id = *id;
    }
    jobs.retain(|job| !there.contains_key(&job.id));
    let mut submitted = queue.submit_all(jobs).await?.into_iter();
    let accepted = ids.into_iter().map(|id| match there.contains_key(&id) {
        true => Some(Accepted { id, existing: true }),
        false => submitted.next().map(Accepted::from),
    });
    let accepted: Option<Vec<Accepted>> = accepted.collect();
    accepted.ok_or_else(|| Problem::new(ProblemKind::Internal, "a job was not answered"))
}

impl From<Submitted> for Accepted {
    fn from(submitted: Submitted) -> Self {
        Accepted {
            id: submitted.id,
            existing: submitted.existing,
        }
    }
}

/// Jobs that are submitted together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    /// At least one, and at most 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    #[serde(deserialize_with = "few_too_many")]
    pub jobs: Vec<Submission>,
}

/// Jobs, of which no more are kept than it takes to see that they are too many: each takes more than its text.
fn few_too_many<'de, D: Deserializer<'de>>(jobs: D) -> Result<Vec<Submission>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Vec<Submission>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of jobs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut jobs = Vec::new();
            while jobs.len() <= MAX_BATCH
                && let Some(job) = all.next_element()?
            {
                jobs.push(job);
            }
            while all.next_element::<IgnoredAny>()?.is_some() {}
            Ok(jobs)
        }
    }

    jobs.deserialize_seq(Few)
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AcceptedBatch {
    /// One for each job, in their order.
    jobs: Vec<Accepted>,
}

/// Submit many jobs: all, or none of them
#[utoipa::path(
    post, path = "/v1/jobs/batch", tag = "jobs",
    params(Idempotent),
    request_body = Batch,
    responses((status = 202, description = "All are accepted", body = AcceptedBatch))
)]
pub(crate) async fn batch(
    State(service): State<Service>,
    asks: Asks,
    asked: Asked<Batch>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let key = asked.key.as_ref();
    let answer = async {
        let jobs = asked.value.jobs;
        if !(1..=MAX_BATCH).contains(&jobs.len()) {
            let detail = format!("a batch has 1 to {MAX_BATCH} jobs");
            return Err(Problem::new(ProblemKind::InvalidBody, detail).at("/jobs"));
        }
        let mut ready = Vec::with_capacity(jobs.len());
        // Many are of a kind: each skill is made ready once, and yet each input looked at.
        let mut skills = HashSet::new();
        for (number, submission) in jobs.into_iter().enumerate() {
            let is_new = skills.insert(submission.skill.clone());
            let within = |problem: Problem| problem.within(&format!("/jobs/{number}"));
            let mut job = submission
                .job(&service.inner.callbacks, caller)
                .map_err(within)?;
            if is_new {
                make_ready(&service, &job).await;
            }
            look_on(&service, caller, &mut job).await.map_err(within)?;
            ready.push(job);
            // Each may be large: others have their turn in between.
            tokio::task::consume_budget().await;
        }
        let ids = key.map(|key| {
            (0..ready.len())
                .map(|place| key.job(caller, place))
                .collect()
        });
        let jobs = store(&service, &asks.trace, ready, ids).await?;
        let mut response = Answer(AcceptedBatch { jobs }).into_response();
        *response.status_mut() = StatusCode::ACCEPTED;
        Ok(response)
    };
    once(&service, caller, key, answer).await
}
