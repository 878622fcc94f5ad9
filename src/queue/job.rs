//! What is kept in the queue.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::new_job::{Callback, NewJob};
use super::retry::Retry;
use crate::ExecutionRequest;
pub use crate::names::UnknownName;
pub(super) use crate::names::names;
use crate::skill::SkillRef;

/// Where a job stands. See the drawing in ARCHITECTURE.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum JobStatus {
    /// Waits for a worker, or for its time.
    Pending,
    /// A worker has it.
    Running,
    /// Done.
    Completed,
    /// The last attempt failed; it waits for the next.
    Failed,
    /// Waits until somebody resumes it, or answers whether it may run.
    Paused,
    /// Somebody cancelled it.
    Cancelled,
    /// It will not be tried again by itself.
    Dead,
}

/// How urgent a job is, against other jobs of its tenant in its queue. One that waits rises: see
/// [`Priority::head_start`].
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Priority {
    /// Behind everything else, for up to an hour and a half.
    Low,
    /// What is not said otherwise.
    #[default]
    Normal,
    /// Before normal jobs that came up to half an hour earlier.
    High,
    /// Before normal jobs that came up to an hour earlier.
    Critical,
}

impl Priority {
    /// How much earlier than it did a job counts as having come. Jobs are taken in that order, so a
    /// low one waits at most 90 minutes for critical ones that come after it: nothing starves.
    pub const fn head_start(self) -> Duration {
        Duration::from_secs(match self {
            Priority::Low => 0,
            Priority::Normal => 30 * 60,
            Priority::High => 60 * 60,
            Priority::Critical => 90 * 60,
        })
    }
}

/// What kind of work a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Kind {
    /// An execution of a skill.
    Execution,
    /// Tidying of the queue itself.
    Maintenance,
    /// Work of the embedder's own.
    Custom,
    /// Sending a result to where it was asked for.
    Callback,
}

names!(JobStatus, "status of a job",
    Pending => "pending", Running => "running", Completed => "completed", Failed => "failed",
    Paused => "paused", Cancelled => "cancelled", Dead => "dead");
names!(Priority, "priority",
    Low => "low", Normal => "normal", High => "high", Critical => "critical");
names!(Kind, "kind of job",
    Execution => "execution", Maintenance => "maintenance", Custom => "custom",
    Callback => "callback");

impl JobStatus {
    /// Whether nothing will happen to it by itself any more.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            JobStatus::Completed | JobStatus::Cancelled | JobStatus::Dead
        )
    }

    /// Whether a worker may take it once it is due.
    pub const fn is_waiting(self) -> bool {
        matches!(self, JobStatus::Pending | JobStatus::Failed)
    }
}

/// What callbacks have in the place of a skill, so that who sends none passes them over.
pub(crate) const CALLBACKS: &str = "(callbacks)";

/// What a job does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Work {
    /// Executes a skill.
    Execution {
        /// The request. Its tenant and user are the job's; its attempt, queue wait and deadline are
        /// set anew at every attempt.
        request: Box<ExecutionRequest>,
    },
    /// Tidies the queue.
    Maintenance {
        /// What of it.
        task: Maintenance,
    },
    /// Calls the handler that the embedder registered under this name
    /// ([`WorkerBuilder::handler`](super::WorkerBuilder::handler)).
    Custom {
        /// The handler's name.
        name: String,
        /// What it gets.
        #[serde(default)]
        payload: Value,
    },
    /// Sends the result of a deferred job to where it was asked for. The queue submits it itself,
    /// together with the end of that job.
    Callback {
        /// The job that ended.
        job: Uuid,
        /// Where to.
        callback: Callback,
    },
}

/// A task that keeps the queue itself in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Maintenance {
    /// Removes jobs that ended before that many seconds ago, with their attempts and events.
    Prune {
        /// Completed and cancelled ones, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        completed_after_s: Option<u64>,
        /// Dead ones, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dead_after_s: Option<u64>,
    },
    /// Gives room back to the file system.
    Vacuum,
    /// Puts jobs of workers that died back into the queue. Workers do so by themselves, too.
    Rescue,
}

impl Work {
    /// What kind of work it is.
    pub fn kind(&self) -> Kind {
        match self {
            Work::Execution { .. } => Kind::Execution,
            Work::Maintenance { .. } => Kind::Maintenance,
            Work::Custom { .. } => Kind::Custom,
            Work::Callback { .. } => Kind::Callback,
        }
    }

    /// What bounds on a skill hold for: the skill's name, whatever its version, or the handler's. For
    /// callbacks, of all skills, `(callbacks)`. Of a skill that is referred to by a digest alone, the
    /// digest: whoever knows its name sets [`NewJob::skill`].
    pub fn skill(&self) -> String {
        match self {
            Work::Execution { request } => match &request.skill {
                SkillRef::Name { name, .. } => name.clone(),
                SkillRef::Digest(_) => request.skill.to_string(),
            },
            Work::Maintenance { .. } => String::new(),
            Work::Callback { .. } => CALLBACKS.to_owned(),
            Work::Custom { name, .. } => name.clone(),
        }
    }

    /// The tool that is called, where one is named.
    pub fn tool(&self) -> Option<&str> {
        match self {
            Work::Execution { request } => request.tool.as_deref(),
            _ => None,
        }
    }
}

/// A job as the queue knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What kind of work it is.
    pub kind: Kind,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it is dead, paused or waits for its retry: the name of a cause, such as `trap`, `fuel` or
    /// `worker_lost`.
    pub cause: Option<String>,
    /// What went wrong with its last attempt, in a sentence that may be cut, while it has a cause.
    #[serde(default)]
    pub error: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// Its queue.
    pub queue: String,
    /// On whose behalf: an organisation or account.
    pub tenant: Option<String>,
    /// On whose behalf: a person.
    pub user: Option<String>,
    /// The skill's name, or its digest where no more is known, or the name of the handler.
    pub skill: Option<String>,
    /// The tool, where one is named.
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
    /// Who has it.
    pub worker: Option<Uuid>,
    /// Somebody asked to cancel it, and its worker has not answered yet.
    pub cancel_requested: bool,
    /// It is dead, and was submitted once more as another job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// How it is tried again, with every delay.
    pub retry: Retry,
    /// As it was submitted: its work, tags, labels and the rest.
    pub submitted: NewJob,
}

impl Job {
    /// Whether it will be tried again by itself.
    pub fn can_retry(&self) -> bool {
        !self.is_terminal() && self.attempts < self.max_attempts
    }

    /// Whether it waits for somebody's word on whether it may run.
    pub fn waits_for_approval(&self) -> bool {
        self.status == JobStatus::Paused
            && self.cause.as_deref() == Some(super::outcome::APPROVAL_NEEDED)
    }

    /// Whether nothing will happen to it by itself any more.
    pub fn is_terminal(&self) -> bool {
        self.status.is_terminal()
    }

    /// How long ago it was submitted.
    pub fn age(&self, now: DateTime<Utc>) -> Duration {
        (now - self.created_at).to_std().unwrap_or_default()
    }

    /// How long its last attempt took, or takes until now.
    pub fn duration(&self, now: DateTime<Utc>) -> Option<Duration> {
        let end = self.completed_at.unwrap_or(now);
        Some((end - self.started_at?).to_std().unwrap_or_default())
    }
}
