//! The queue, from the outside.

use std::path::Path;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::attempt::Attempt;
use super::engine::control::{Action, act};
use super::engine::submit::{Prepared, Submitted, duplicate};
use super::error::QueueError;
use super::event::{EventBatch, JobEvent};
use super::job::{Job, JobStatus, Kind, Priority};
use super::new_job::NewJob;
use super::open::QueueBuilder;
use super::operation::Operation;
use super::policies::{Policies, policy_for};
use super::prepare::{check_submitted, prepare, soon_enough};
use super::store::{AttemptRow, EventRow, Flags, Found, Reads, Rows, Store};
use super::time::{Clock, micros, moment};
use crate::turns::Party;
use crate::turns::aside::aside_if;

type Result<T> = std::result::Result<T, QueueError>;

/// More jobs than that are written out where that holds up nobody.
const FEW: usize = 20;

/// A durable queue of jobs. Cheap to clone, and safe to share; every clone is the same queue.
///
/// ```no_run
/// use skillhost::ExecutionRequest;
/// use skillhost::queue::{NewJob, Queue};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = Queue::open("queue.db")?;
/// let request = ExecutionRequest::new("text-stats", serde_json::json!({"text": "to be"}));
/// let submitted = queue.submit(NewJob::execution(request)).await?;
/// // Some worker, in this process or another, does it.
/// let job = queue.wait(submitted.id).await?;
/// println!("{}: {:?}", job.status, queue.result(job.id).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Queue {
    pub(super) inner: Arc<Inner>,
    /// Who steps in, for the record.
    pub(super) by: Option<Arc<str>>,
}

pub(super) struct Inner {
    pub store: Box<dyn Store>,
    pub clock: Arc<dyn Clock>,
    /// Bumped whenever the store may have changed.
    pub changed: watch::Sender<u64>,
    pub max_result_bytes: usize,
    pub max_job_bytes: usize,
    pub policies: Mutex<Policies>,
}

impl Queue {
    /// How to open a queue that is set up otherwise.
    pub fn builder() -> QueueBuilder {
        QueueBuilder::default()
    }

    /// Opens a queue in a SQLite file.
    ///
    /// # Errors
    /// As [`QueueBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Queue> {
        Queue::builder().open(path)
    }

    /// Connects to a queue in a PostgreSQL database, by a `postgres://` URL.
    ///
    /// # Errors
    /// As [`QueueBuilder::connect`].
    #[cfg(feature = "postgres")]
    pub async fn connect(url: &str) -> Result<Queue> {
        Queue::builder().connect(url).await
    }

    /// Opens a queue by a `postgres://` URL, or the path of a SQLite file.
    ///
    /// # Errors
    /// As [`QueueBuilder::at`].
    pub async fn at(database: &str) -> Result<Queue> {
        Queue::builder().at(database).await
    }

    /// Stores a job. Once this has answered, it is not lost, whatever dies.
    ///
    /// # Errors
    /// Where the job cannot be accepted, or the store cannot be written.
    pub async fn submit(&self, job: NewJob) -> Result<Submitted> {
        let submitted = self.submit_all(vec![job]).await?;
        submitted
            .first()
            .copied()
            .ok_or_else(|| QueueError::Internal("a job was not answered".to_owned()))
    }

    /// Stores jobs: all, or none of them.
    ///
    /// # Errors
    /// Where one of the jobs cannot be accepted, or the store cannot be written.
    pub async fn submit_all(&self, jobs: Vec<NewJob>) -> Result<Vec<Submitted>> {
        let prepared = self.prepare_all(jobs).await?;
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        let (prepared, (reply, answer)) = (Arc::new(prepared), oneshot::channel());
        let asked = Operation::Submit(prepared.clone(), reply);
        self.inner.store.send(asked);
        answered(answer).await
    }

    /// Says of a job whether [`submit`](Queue::submit) would accept it, and stores nothing. So
    /// whoever submits many in several calls can look at all of them first.
    ///
    /// # Errors
    /// Where it would not be accepted, or the store cannot be read.
    pub async fn check(&self, job: &NewJob) -> Result<()> {
        check_submitted(job)?;
        let policies = self.policies().await?;
        let now = micros(self.inner.clock.now());
        let policy = |job: &NewJob| policy_for(&policies, job);
        prepare(job, policy, self.inner.max_job_bytes, now).map(drop)
    }

    async fn prepare_all(&self, jobs: Vec<NewJob>) -> Result<Vec<Prepared>> {
        jobs.iter().try_for_each(check_submitted)?;
        self.prepare_own(jobs).await
    }

    /// Also of what the queue alone submits.
    pub(super) async fn prepare_own(&self, jobs: Vec<NewJob>) -> Result<Vec<Prepared>> {
        let now = micros(self.inner.clock.now());
        let policies = self.policies().await?;
        let max_bytes = self.inner.max_job_bytes;
        let is_much = jobs.len() > FEW || jobs.iter().any(NewJob::is_much);
        let tenant = jobs.first().and_then(|job| job.tenant.clone());
        let prepare_each = move |jobs: Vec<NewJob>| {
            let policy = |job: &NewJob| policy_for(&policies, job);
            let prepared = jobs.iter().map(|job| prepare(job, policy, max_bytes, now));
            prepared.collect::<Result<Vec<_>>>()
        };
        let party = || Party::of(tenant.as_deref(), "");
        let prepared = aside_if(is_much, party, jobs, prepare_each).await?;
        if let Some(id) = duplicate(&prepared) {
            return Err(QueueError::Invalid(format!("two of them have the id {id}")));
        }
        Ok(prepared)
    }

    /// Stores jobs within a transaction of the caller's own, on the same PostgreSQL database: they
    /// are there once it is committed, and only then. Call [`Queue::wake`] after that; else workers
    /// notice within a second.
    ///
    /// # Errors
    /// As [`Queue::submit_all`], and where the queue is not in PostgreSQL. Where the store cannot be
    /// written, the caller's transaction cannot go on.
    #[cfg(feature = "postgres")]
    pub async fn submit_in(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Submitted>> {
        let Some(store) = self.inner.store.postgres() else {
            return Err(QueueError::Invalid(
                "only a queue in PostgreSQL can be part of its transactions".to_owned(),
            ));
        };
        let prepared = self.prepare_all(jobs).await?;
        let prepared: Vec<&Prepared> = prepared.iter().collect();
        store.submit_in(transaction, &prepared).await
    }

    /// Has workers look for what was submitted by [`Queue::submit_in`].
    #[cfg(feature = "postgres")]
    pub fn wake(&self) {
        if let Some(store) = self.inner.store.postgres() {
            store.wake();
        }
    }

    /// A job.
    ///
    /// # Errors
    /// Where there is no such job.
    pub async fn job(&self, id: Uuid) -> Result<Job> {
        self.find(id).await.and_then(job)
    }

    async fn find(&self, id: Uuid) -> Result<Found> {
        let found = self.reads().find(&[id]).await?;
        found.into_iter().next().ok_or(QueueError::NotFound(id))
    }

    /// What a job came to: of an execution, an [`ExecutionResult`](crate::ExecutionResult) as JSON;
    /// `None` where it has not completed, or its result is not kept.
    ///
    /// # Errors
    /// Where there is no such job.
    pub async fn result(&self, id: Uuid) -> Result<Option<Value>> {
        let found = self.find(id).await?;
        let (result, _) = self.reads().result(found.row.seq).await?;
        result.map(|result| read(id, &result)).transpose()
    }

    /// The last word of a job on how far it has come: `percent`, `step` and `details`.
    ///
    /// # Errors
    /// Where there is no such job.
    pub async fn progress(&self, id: Uuid) -> Result<Option<Value>> {
        let found = self.find(id).await?;
        let (_, progress) = self.reads().result(found.row.seq).await?;
        progress.map(|progress| read(id, &progress)).transpose()
    }

    /// Every attempt at a job, in order.
    ///
    /// # Errors
    /// Where there is no such job.
    pub async fn attempts(&self, id: Uuid) -> Result<Vec<Attempt>> {
        let found = self.find(id).await?;
        let attempts = self.reads().attempts(found.row.seq).await?;
        attempts
            .into_iter()
            .map(|attempt| Attempt::from_row(id, attempt))
            .collect()
    }

    /// What people did to a job, in order: who paused, put off, resumed, approved or cancelled it, gave it
    /// another priority, replayed it; at most the last 100. What workers did stands in its
    /// [attempts](Queue::attempts). Events are kept for a while only.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn history(&self, id: Uuid) -> Result<Vec<JobEvent>> {
        let events = self.reads().history(id, HISTORY).await?;
        events
            .into_iter()
            .map(|(number, event)| JobEvent::from_row(number, event))
            .collect()
    }

    /// Waits until a job has ended, in this process or another; also where no worker runs and its deadline
    /// passes.
    ///
    /// # Errors
    /// Where there is no such job, or the store cannot be used.
    pub async fn wait(&self, id: Uuid) -> Result<Job> {
        self.wait_for_end(id).await?;
        self.job(id).await
    }

    /// The same, and reads nothing of it.
    pub(crate) async fn wait_for_end(&self, id: Uuid) -> Result<()> {
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.mark_unchanged();
            // Of the job itself nothing is read until then: it may be large.
            let found = self.reads().status(id).await?;
            let (status, deadline) = found.ok_or(QueueError::NotFound(id))?;
            if status.is_terminal() {
                return Ok(());
            }
            tokio::select! {
                alive = changed.changed() => {
                    if alive.is_err() {
                        return Err(QueueError::Closed);
                    }
                }
                expired = self.expire(deadline.map(moment)) => expired?,
            }
        }
    }

    /// This queue, in whose events it stands who [cancels](Queue::cancel), pauses, resumes or puts off jobs,
    /// or gives them another priority.
    #[must_use]
    pub fn by(&self, who: &str) -> Queue {
        Queue {
            inner: self.inner.clone(),
            by: Some(who.into()),
        }
    }

    /// Waits until other processes know of what was done here, so that they need not find out by
    /// themselves, which takes them up to a second. For whoever ends right after it was answered: a
    /// notification that was not sent by then is lost. [`Queue::cancel`] and what else steps in has done
    /// so when it answers.
    pub async fn flush(&self) {
        if let Err(error) = self.inner.store.flush().await {
            tracing::debug!(%error, "other processes will notice by themselves");
        }
    }

    /// Cancels jobs, each by itself. One that runs is asked to stop, and is cancelled once it has.
    ///
    /// # Errors
    /// Where the store cannot be written; of each job, where there is none or it has ended.
    pub async fn cancel(&self, ids: &[Uuid]) -> Result<Vec<Result<JobStatus>>> {
        self.act(ids, Action::Cancel, Value::Null).await
    }

    /// Pauses waiting jobs, each by itself.
    ///
    /// # Errors
    /// As [`Queue::cancel`].
    pub async fn pause(&self, ids: &[Uuid]) -> Result<Vec<Result<JobStatus>>> {
        self.act(ids, Action::Pause, Value::Null).await
    }

    /// Lets paused jobs go on, each by itself.
    ///
    /// # Errors
    /// As [`Queue::cancel`].
    pub async fn resume(&self, ids: &[Uuid]) -> Result<Vec<Result<JobStatus>>> {
        self.act(ids, Action::Resume, Value::Null).await
    }

    /// Answers for jobs that wait for somebody's word: they run, or are dead.
    ///
    /// # Errors
    /// As [`Queue::cancel`].
    pub async fn answer(
        &self,
        ids: &[Uuid],
        approved: bool,
        by: &str,
    ) -> Result<Vec<Result<JobStatus>>> {
        let note = serde_json::json!({"by": by});
        self.act(ids, Action::Answer { approved }, note).await
    }

    /// Puts waiting jobs off, each by itself.
    ///
    /// # Errors
    /// As [`Queue::cancel`]; and where that is more than ten years away.
    pub async fn snooze(
        &self,
        ids: &[Uuid],
        until: DateTime<Utc>,
    ) -> Result<Vec<Result<JobStatus>>> {
        let until = soon_enough(micros(until), micros(self.now()))?;
        self.act(ids, Action::Snooze { until }, Value::Null).await
    }

    /// Gives jobs another priority, each by itself.
    ///
    /// # Errors
    /// As [`Queue::cancel`].
    pub async fn set_priority(
        &self,
        ids: &[Uuid],
        priority: Priority,
    ) -> Result<Vec<Result<JobStatus>>> {
        self.act(ids, Action::SetPriority(priority), Value::Null)
            .await
    }

    async fn act(
        &self,
        ids: &[Uuid],
        action: Action,
        note: Value,
    ) -> Result<Vec<Result<JobStatus>>> {
        let note = match &self.by {
            Some(by) if note.is_null() => serde_json::json!({"by": **by}),
            _ => note,
        };
        let (ids, note) = (Arc::new(ids.to_vec()), Arc::new(note));
        let done = self
            .write(move |rows, now| {
                let (ids, note) = (ids.clone(), note.clone());
                Box::pin(async move { act(rows, &ids, action, &note, now).await })
            })
            .await;
        self.flush().await;
        done
    }

    /// Events after a cursor, in order: at most so many, and at most 10,000. 0 is before the first.
    ///
    /// # Errors
    /// Where events after the cursor are no longer kept.
    pub async fn events(&self, after: i64, most: usize) -> Result<EventBatch> {
        let most = most.clamp(1, 10_000);
        let mut found = self.reads().events(after, most + 1).await?;
        let has_more = found.len() > most;
        found.truncate(most);
        // Numbers have no gaps, so a gap is what was removed.
        let next = found.first().map(|(id, _)| *id);
        let (oldest, last) = match next {
            Some(id) if id == after + 1 => (id, id),
            _ => self.reads().event_bounds().await?,
        };
        let gone = if oldest == 0 { last } else { oldest - 1 };
        if after < gone && next != Some(after + 1) {
            return Err(QueueError::CursorTooOld {
                cursor: after,
                oldest: gone + 1,
            });
        }
        let cursor = found.last().map_or(after, |(id, _)| *id);
        let events = found
            .into_iter()
            .map(|(id, event)| JobEvent::from_row(id, event))
            .collect::<Result<_>>()?;
        Ok(EventBatch {
            events,
            cursor,
            has_more,
        })
    }

    /// The number of the last event: the cursor of what is still to come.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn last_event(&self) -> Result<i64> {
        Ok(self.reads().event_bounds().await?.1)
    }

    /// Waits until something may have changed since `seen` was taken from here.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// What time it is, by the queue's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.inner.clock.now()
    }

    pub(super) fn max_result_bytes(&self) -> usize {
        self.inner.max_result_bytes
    }

    pub(super) fn max_job_bytes(&self) -> usize {
        self.inner.max_job_bytes
    }

    pub(super) fn reads(&self) -> &dyn Reads {
        self.inner.store.reads()
    }

    /// Does something in a serial transaction.
    pub(super) async fn write<T, F>(&self, call: F) -> Result<T>
    where
        F: for<'a> FnMut(&'a mut dyn Rows, super::time::Micros) -> super::store::Answer<'a, T>
            + Send
            + 'static,
        T: Send + 'static,
    {
        let (operation, answer) = Operation::other(call);
        self.inner.store.send(operation);
        answered(answer).await
    }
}

/// What a writer answers.
pub(super) async fn answered<T>(answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    answer.await.unwrap_or(Err(QueueError::Closed))
}

fn read<T: serde::de::DeserializeOwned>(id: Uuid, json: &str) -> Result<T> {
    serde_json::from_str(json)
        .map_err(|error| QueueError::Damaged(format!("what is kept of job {id}: {error}")))
}

fn some(name: String) -> Option<String> {
    Some(name).filter(|name| !name.is_empty())
}

/// The most characters of what went wrong that a job has; its attempts have all of it.
const MOST_OF_AN_ERROR: usize = 300;
/// The most events in the history of a job.
const HISTORY: usize = 100;

/// A job, as it is shown.
pub(super) fn job(found: Found) -> Result<Job> {
    let Found {
        row,
        body,
        lane,
        error,
    } = found;
    let submitted: NewJob = read(row.id, &body.submitted)?;
    Ok(Job {
        id: row.id,
        kind: row.kind,
        status: row.status,
        cause: row.cause,
        error: error.map(|error| crate::text::shortened(&error, MOST_OF_AN_ERROR).to_string()),
        priority: row.priority,
        queue: lane.queue,
        tenant: some(lane.tenant),
        user: submitted.user.clone(),
        skill: some(lane.skill).filter(|_| row.kind != Kind::Callback),
        tool: submitted.work.tool().map(str::to_owned),
        attempts: row.attempts,
        max_attempts: row.max_attempts,
        created_at: moment(row.created),
        updated_at: moment(row.updated),
        scheduled_at: moment(row.due),
        started_at: row.started.map(moment),
        completed_at: row.completed.map(moment),
        deadline: row.deadline.map(moment),
        worker: row.worker,
        cancel_requested: row.cancel_requested,
        replayed: row.flags.has(Flags::REPLAYED),
        retry: read(row.id, &body.retry)?,
        submitted,
    })
}

impl Attempt {
    fn from_row(job: Uuid, row: AttemptRow) -> Result<Self> {
        Ok(Attempt {
            attempt: row.number,
            counted: row.counted,
            worker: row.worker,
            started_at: moment(row.started),
            ended_at: moment(row.ended),
            status: row.status,
            details: read(job, &row.details)?,
        })
    }
}

impl JobEvent {
    pub(super) fn from_row(id: i64, row: EventRow) -> Result<Self> {
        Ok(JobEvent {
            id,
            job: row.job,
            kind: row.kind,
            at: moment(row.at),
            attempt: row.attempt,
            data: match row.data.as_str() {
                "" => Value::Null,
                // One that cannot be read must not keep anybody from those behind it.
                data => serde_json::from_str(data).unwrap_or_else(|_| data.into()),
            },
        })
    }
}
