//! What is submitted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::error::QueueError;
use super::job::{Maintenance, Priority, Work, names};
use super::retry::RetryPolicy;
use crate::ExecutionRequest;
use crate::execution::is_much_with;
use crate::grant::Grants;

/// What is asked of a job beside its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Mode {
    /// Nobody will ask: of a completed one the output is not kept.
    FireAndForget,
    /// Somebody waits, or asks later.
    #[default]
    Wait,
    /// The result is sent to the job's callback.
    Deferred,
}
names!(Mode, "mode",
    FireAndForget => "fire_and_forget", Wait => "wait", Deferred => "deferred");

/// Where the result of a deferred job is sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Callback {
    /// An `http` or `https` URL. The same rules hold for its addresses as for a skill's requests.
    pub url: String,
    /// The name of the secret that signs it, in the worker's own keeping; the worker's default
    /// secret where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may carry a token in its query.
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        write!(f, "Callback({url:?})")
    }
}

/// Makes a second submission the same job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Key {
    /// The key, unique within the tenant: 1 to 255 bytes.
    pub key: String,
    /// How long it holds.
    #[serde(default)]
    pub scope: KeyScope,
}

/// How long an idempotency key holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum KeyScope {
    /// Until the job has ended.
    #[default]
    Unfinished,
    /// For so many seconds after it was submitted, whether it has ended or not.
    PeriodS(u64),
}

/// When a job may run first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Due {
    /// At once.
    #[default]
    Now,
    /// So long after it was submitted.
    AfterMs(u64),
    /// Then.
    At(DateTime<Utc>),
}

/// A job that is to be submitted.
///
/// ```
/// use skillhost::ExecutionRequest;
/// use skillhost::queue::{NewJob, Priority};
///
/// let request = ExecutionRequest::new("text-stats", serde_json::json!({"text": "to be"}));
/// let job = NewJob::execution(request)
///     .priority(Priority::High)
///     .queue("nightly")
///     .delay(std::time::Duration::from_secs(60))
///     .tag("report");
/// assert_eq!(job.queue, "nightly");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    /// Its id. Random and ordered by time (UUID version 7) unless set.
    #[serde(default = "new_id")]
    pub id: Uuid,
    /// What it does.
    pub work: Work,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// The queue: 1 to 64 of `a-z`, `A-Z`, `0-9`, `_`, `-` and `.`; `default` unless set.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// On whose behalf: an organisation or account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// On whose behalf: a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it may run first.
    #[serde(default)]
    pub due: Due,
    /// The moment after which its result is of no use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// How it is tried again. Unless set: as the tool's settings say, else the queue's, else
    /// [`RetryPolicy::default`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// How many attempts it has in all, whatever else holds for how it is tried again: 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// What makes a second submission the same job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// To filter by: at most 20, each 1 to 64 bytes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// The caller's own notes, which the queue does not read: at most 64, with names of at most 255 characters and values
    /// of at most 1,024.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What is asked of it beside its work.
    #[serde(default)]
    pub mode: Mode,
    /// Where the result goes, in [`Mode::Deferred`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
    /// Waits to be resumed rather than for a worker.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What bounds and statistics on a skill hold for, where that is not [`Work::skill`]: the skill's
    /// name, where the work refers to it by a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skill: Option<String>,
    /// The dead job that this one replays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<Uuid>,
    /// The schedule that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Who submitted it, for the record: a token's id, a user of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The trace that it belongs to: a `traceparent` of W3C Trace Context, which its callback carries
    /// on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// What the systems that took part in the trace say of it: a `tracestate` of W3C Trace Context, which
    /// goes with `trace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_state: Option<String>,
}

pub(crate) fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// The queue that a job goes to unless it says otherwise.
pub const DEFAULT_QUEUE: &str = "default";

fn default_queue() -> String {
    DEFAULT_QUEUE.to_owned()
}

impl NewJob {
    /// Whether it takes long to write it out.
    pub(crate) fn is_much(&self) -> bool {
        match &self.work {
            Work::Execution { request } => is_much_with(Some(&request.input), &request.attachments),
            Work::Custom { payload, .. } => is_much_with(Some(payload), &[]),
            Work::Maintenance { .. } | Work::Callback { .. } => false,
        }
    }

    /// A job that does this, at once, with normal priority.
    pub fn new(work: Work) -> Self {
        NewJob {
            id: new_id(),
            work,
            priority: Priority::Normal,
            queue: default_queue(),
            tenant: None,
            user: None,
            due: Due::Now,
            deadline: None,
            retry: None,
            attempts: None,
            key: None,
            tags: BTreeSet::new(),
            labels: BTreeMap::new(),
            mode: Mode::Wait,
            callback: None,
            paused: false,
            skill: None,
            replay_of: None,
            schedule: None,
            caller: None,
            trace: None,
            trace_state: None,
        }
    }

    /// A job that executes a skill, for the request's tenant and user and under its deadline.
    pub fn execution(mut request: ExecutionRequest) -> Self {
        let (tenant, user) = (request.tenant.take(), request.user.take());
        let deadline = request.deadline.take();
        NewJob {
            tenant,
            user,
            deadline,
            ..NewJob::new(Work::Execution {
                request: Box::new(request),
            })
        }
    }

    /// A job for the handler of this name.
    pub fn custom(name: impl Into<String>, payload: Value) -> Self {
        NewJob::new(Work::Custom {
            name: name.into(),
            payload,
        })
    }

    /// A job that tidies the queue.
    pub fn maintenance(task: Maintenance) -> Self {
        NewJob::new(Work::Maintenance { task })
    }

    /// Says what there is in it that nobody should be able to submit who is not trusted with the
    /// queue and the host. A door checks by this whatever it made of what a client sent, beside what
    /// it decides itself: on whose behalf the job is, which queues it may go to and how large it is.
    ///
    /// Such a job executes a skill and nothing else, with nothing granted beyond the host's policy. It
    /// is neither another skill's in bounds and statistics, nor a replay or a schedule's.
    ///
    /// ```
    /// use skillhost::ExecutionRequest;
    /// use skillhost::queue::{Maintenance, NewJob};
    ///
    /// let request = ExecutionRequest::new("text-stats", serde_json::json!({"text": "to be"}));
    /// assert!(NewJob::execution(request).check_untrusted().is_ok());
    /// assert!(NewJob::maintenance(Maintenance::Vacuum).check_untrusted().is_err());
    /// ```
    ///
    /// # Errors
    /// [`QueueError::Invalid`] with the first of them.
    pub fn check_untrusted(&self) -> Result<(), QueueError> {
        let refuse = |what: &str| Err(QueueError::Invalid(what.to_owned()));
        let Work::Execution { request } = &self.work else {
            return refuse("only executions of skills can be submitted here");
        };
        if request.grants != Grants::default() {
            return refuse("what a skill may touch cannot be said here");
        }
        if request.tenant.is_some() || request.user.is_some() || request.deadline.is_some() {
            return refuse("tenant, user and deadline are the job's, and not its request's");
        }
        if self.skill.is_some() || self.schedule.is_some() || self.replay_of.is_some() {
            return refuse("`skill`, `schedule` and `replay_of` are set by the queue's own side");
        }
        if self.caller.is_some() {
            return refuse("`caller` is set by whoever lets it in");
        }
        self.retry
            .as_ref()
            .map_or(Ok(()), RetryPolicy::check_untrusted)
    }

    /// What bounds and statistics on a skill hold for; empty for none.
    pub fn skill(&self) -> String {
        self.skill.clone().unwrap_or_else(|| self.work.skill())
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the queue.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Sets the tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Sets the user.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Says who submitted it, for the record.
    #[must_use]
    pub fn caller(mut self, caller: impl Into<String>) -> Self {
        self.caller = Some(caller.into());
        self
    }

    /// Runs no sooner than so long after it was submitted.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.due = Due::AfterMs(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Runs no sooner than then.
    #[must_use]
    pub fn at(mut self, at: DateTime<Utc>) -> Self {
        self.due = Due::At(at);
        self
    }

    /// Sets the moment after which the result is of no use.
    #[must_use]
    pub fn deadline(mut self, deadline: DateTime<Utc>) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets how it is tried again.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Sets how many attempts it has in all, and nothing else of how it is tried again.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Makes a second submission with this key the same job, until this one has ended.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(Key {
            key: key.into(),
            scope: KeyScope::Unfinished,
        });
        self
    }

    /// Makes every submission with this key within the period the same job.
    #[must_use]
    pub fn key_for(mut self, key: impl Into<String>, period: Duration) -> Self {
        self.key = Some(Key {
            key: key.into(),
            scope: KeyScope::PeriodS(period.as_secs()),
        });
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets the mode.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sends the result there.
    #[must_use]
    pub fn callback(mut self, callback: Callback) -> Self {
        self.mode = Mode::Deferred;
        self.callback = Some(callback);
        self
    }
}
