//! Jobs, as they are shown: without what an operator granted them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::LimitOverrides;
use crate::queue::schedule::own_name;
use crate::queue::{Attempt, Job, JobStatus, Key, Kind, Mode, Priority, Retry, Work};

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobView {
    /// Its id.
    pub id: Uuid,
    /// What kind of work it is.
    pub kind: Kind,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it is dead, paused or waits for its retry: the name of a cause, such as `trap`, `fuel` or
    /// `worker_lost`.
    pub cause: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// Its queue.
    pub queue: String,
    /// On whose behalf: an organisation or account.
    pub tenant: Option<String>,
    /// On whose behalf: a person.
    pub user: Option<String>,
    /// The name of the skill.
    pub skill: Option<String>,
    /// The tool, where one was named.
    pub tool: Option<String>,
    /// Attempts that were used up.
    pub attempts: u32,
    /// Attempts that it may use.
    pub max_attempts: u32,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it may run next, or could.
    pub scheduled_at: DateTime<Utc>,
    /// When its last attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// When its result is of no use any more.
    pub deadline: Option<DateTime<Utc>>,
    /// Somebody asked to cancel it, and it still runs.
    pub cancel_requested: bool,
    /// To filter by.
    pub tags: BTreeSet<String>,
    /// Notes of whoever submitted it.
    pub labels: BTreeMap<String, String>,
    /// What is asked of it beside its work.
    pub mode: Mode,
    /// The host that its result is sent to.
    pub callback: Option<String>,
    /// It is dead, and was submitted once more as another job.
    pub replayed: bool,
    /// The dead job that this one replays.
    pub replay_of: Option<Uuid>,
    /// The schedule that made it.
    pub schedule: Option<String>,
}

/// A job with what it was submitted with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobDetails {
    /// The job.
    #[serde(flatten)]
    pub job: JobView,
    /// Its input.
    pub input: Option<Value>,
    /// The names of its attachments.
    pub attachments: Vec<String>,
    /// The limits that were asked for.
    pub limits: LimitOverrides,
    /// The session that it belongs to.
    pub session: Option<String>,
    /// What makes a second submission the same job.
    pub key: Option<Key>,
    /// How it is tried again, with every delay.
    pub retry: Retry,
    /// The last word on how far it has come: `percent`, `step` and `details`.
    pub progress: Option<Value>,
}

impl JobView {
    /// What is shown of a job. `schedule` is the name that its owner gave the schedule.
    pub fn new(job: Job) -> Self {
        let submitted = job.submitted;
        JobView {
            id: job.id,
            kind: job.kind,
            status: job.status,
            cause: job.cause,
            priority: job.priority,
            queue: job.queue,
            tenant: job.tenant,
            user: job.user,
            skill: job.skill,
            tool: job.tool,
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            created_at: job.created_at,
            updated_at: job.updated_at,
            scheduled_at: job.scheduled_at,
            started_at: job.started_at,
            completed_at: job.completed_at,
            deadline: job.deadline,
            cancel_requested: job.cancel_requested,
            tags: submitted.tags,
            labels: submitted.labels,
            mode: submitted.mode,
            // A URL may carry a token in its path or query.
            callback: submitted.callback.and_then(|callback| {
                let url: url::Url = callback.url.parse().ok()?;
                Some(url.host_str()?.to_owned())
            }),
            replayed: job.replayed,
            replay_of: submitted.replay_of,
            schedule: submitted.schedule.map(|name| own_name(&name).to_owned()),
        }
    }
}

impl JobDetails {
    /// What is shown of a job that is looked at by itself.
    pub fn new(mut job: Job, progress: Option<Value>) -> Self {
        let (retry, key) = (job.retry.clone(), job.submitted.key.take());
        let request = match &mut job.submitted.work {
            Work::Execution { request } => Some(std::mem::replace(
                request.as_mut(),
                crate::ExecutionRequest::new("none", Value::Null),
            )),
            _ => None,
        };
        let mut details = JobDetails {
            job: JobView::new(job),
            input: None,
            attachments: Vec::new(),
            limits: LimitOverrides::default(),
            session: None,
            key,
            retry,
            progress,
        };
        if let Some(request) = request {
            details.input = Some(request.input);
            details.attachments = request.attachments.into_iter().map(|a| a.name).collect();
            details.limits = request.limits;
            details.session = request.session;
        }
        details
    }
}

/// One try at a job, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptView {
    /// Which try, counted from 1. One that was not used up has the number of the next.
    attempt: u32,
    /// Whether it was used up.
    counted: bool,
    /// When it began.
    started_at: DateTime<Utc>,
    /// When it ended.
    ended_at: DateTime<Utc>,
    /// How it ended: the status of an execution, or `released`, `snoozed`, `worker_lost`.
    status: String,
    /// Why there was no output.
    #[schema(value_type = Option<crate::Failure>)]
    failure: Option<Value>,
    /// What it cost.
    #[schema(value_type = Option<crate::ResourceUsage>)]
    usage: Option<Value>,
    /// The limits that applied.
    #[schema(value_type = Option<crate::Limits>)]
    limits: Option<Value>,
    /// The skill that ran.
    #[schema(value_type = Option<crate::SkillIdentity>)]
    skill: Option<Value>,
}

impl AttemptView {
    pub fn new(attempt: Attempt) -> Self {
        let failure = attempt.told_failure();
        let mut details = attempt.details;
        let mut take = |name: &str| {
            let value = details.get_mut(name).map(Value::take);
            value.filter(|value| !value.is_null())
        };
        AttemptView {
            attempt: attempt.attempt,
            counted: attempt.counted,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            status: attempt.status,
            failure,
            usage: take("usage"),
            limits: take("limits"),
            skill: take("skill"),
        }
    }
}
