//! Attempts end.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::super::callback::{DELAYS, delay_before};
use super::super::counters::{Counter, Happened, Measure, Tally};
use super::super::error::QueueError;
use super::super::job::{JobStatus, Kind, Work};
use super::super::new_job::NewJob;
use super::super::outcome::Outcome;
use super::super::prepare::prepare;
use super::super::retry::{Retry, RetryPolicy};
use super::super::store::{AttemptRow, Flags, Lane, Place, Result, Row, Rows, Shared};
use super::super::time::Micros;
use super::super::transition::{Trigger, transition};
use super::record;
use super::submit::Prepared;

/// How one attempt ended, as its worker says.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub job: Uuid,
    pub seq: i64,
    pub fence: i64,
    pub worker: Uuid,
    pub outcome: Arc<Outcome>,
    pub retry: Arc<Retry>,
    /// How it ended, in a word.
    pub status: &'static str,
    /// JSON for the record of the attempt.
    pub details: Arc<str>,
    /// JSON of the result, to be kept if it completes the job.
    pub result: Option<Arc<str>>,
}

/// Where a job stands after one attempt at it.
pub(crate) type Settled = Result<JobStatus>;

/// The most records of attempts that were not used up, of one job.
const UNCOUNTED: i64 = 100;

/// Settles attempts, each by itself: one that is no longer its worker's is refused, and changes
/// nothing.
pub(crate) async fn settle(
    rows: &mut dyn Rows,
    endings: &[&Ending],
    now: Micros,
) -> Result<Vec<Settled>> {
    let seqs: Vec<i64> = endings.iter().map(|ending| ending.seq).collect();
    let mut found: HashMap<i64, Row> = rows
        .jobs_by_seq(&seqs)
        .await?
        .into_iter()
        .map(|row| (row.seq, row))
        .collect();
    let mut writes = Writes::default();
    let mut answers = Vec::with_capacity(endings.len());
    for ending in endings {
        let is_theirs = |row: &Row| {
            row.status == JobStatus::Running
                && row.fence == ending.fence
                && row.worker == Some(ending.worker)
                && row.id == ending.job
        };
        // One that is no longer its worker's leaves the row to who has it now, whose end may be among these, too.
        let theirs = match found.get(&ending.seq) {
            Some(row) if is_theirs(row) => found.remove(&ending.seq),
            _ => None,
        };
        let Some(row) = theirs else {
            answers.push(Err(QueueError::Stale(ending.job)));
            continue;
        };
        let trigger = Trigger::End {
            outcome: &ending.outcome,
            retry: &ending.retry,
        };
        let status = writes.end(
            row,
            trigger,
            ending.status,
            ending.details.clone(),
            ending.result.clone(),
            now,
        )?;
        answers.push(Ok(status));
    }
    writes.write(rows, now).await?;
    Ok(answers)
}

/// What the ends of attempts change.
#[derive(Default)]
pub(super) struct Writes {
    rows: Vec<Row>,
    attempts: Vec<AttemptRow>,
    results: Vec<(i64, Arc<str>)>,
    shared: Shared,
    /// How many stopped running, by lane.
    stopped: HashMap<i64, i64>,
    tally: Tally,
}

impl Writes {
    /// One attempt ended.
    pub fn end(
        &mut self,
        mut row: Row,
        trigger: Trigger<'_>,
        status: &str,
        details: Arc<str>,
        result: Option<Arc<str>>,
        now: Micros,
    ) -> Result<JobStatus> {
        let change = transition(&row.standing(), trigger, now).map_err(|impossible| {
            QueueError::Internal(format!(
                "job {} is {}, and an attempt at it ended",
                row.id, impossible.status
            ))
        })?;
        let (from, kind) = (row.status, change.event);
        let number = row.attempts + 1;
        let counted = change.attempts > row.attempts;
        let started = row.started.unwrap_or(now);
        self.attempts.push(AttemptRow {
            job: row.seq,
            fence: row.fence,
            number,
            counted,
            worker: row.worker.unwrap_or_default(),
            started,
            ended: now,
            status: status.to_owned(),
            details,
        });
        row.apply(change, now);
        row.worker = None;
        self.shared
            .tally
            .moved(row.lane, Some(from), Some(row.status));
        *self.stopped.entry(row.lane).or_default() += 1;
        self.tally.took(Measure::Run, now, now - started);
        if counted && row.status != JobStatus::Completed {
            self.tally.happened(Happened::FailedAttempts, now, 1);
        }
        ended(&row, &mut self.tally, now);
        if row.status.is_waiting() {
            self.shared.places.push(place(&row));
        }
        self.shared
            .events
            .push(super::event(&row, kind, Some(number), now));
        if row.status == JobStatus::Completed
            && let Some(result) = result
            && !row.flags.has(Flags::FORGET)
        {
            self.results.push((row.seq, result));
        }
        let status = row.status;
        self.rows.push(row);
        Ok(status)
    }

    /// Writes it all down.
    pub async fn write(mut self, rows: &mut dyn Rows, now: Micros) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        rows.update_jobs(&self.rows).await?;
        rows.insert_attempts(&self.attempts).await?;
        if !self.results.is_empty() {
            rows.insert_results(&self.results).await?;
        }
        release(rows, &self.rows, now).await?;
        let ids: Vec<i64> = self.stopped.keys().copied().collect();
        for Lane {
            id,
            queue,
            tenant,
            skill,
            ..
        } in rows.lanes_by_id(&ids).await?
        {
            let count = self.stopped.get(&id).copied().unwrap_or_default();
            for scope in [queue, tenant, skill] {
                self.shared.tally.add(Counter::Running(scope), -count);
            }
        }
        self.shared.tally.extend(self.tally);
        record(rows, self.shared, now).await
    }
}

/// The place of a job that waits.
pub(super) fn place(row: &Row) -> Place {
    Place {
        seq: row.seq,
        lane: row.lane,
        priority: row.priority,
        due: row.due,
    }
}

/// Counts a job that has come to its end.
pub(super) fn ended(row: &Row, tally: &mut Tally, now: Micros) {
    let what = match row.status {
        JobStatus::Completed => Happened::Completed,
        JobStatus::Cancelled => Happened::Cancelled,
        JobStatus::Dead => {
            let cause = row.cause.clone().unwrap_or_default();
            tally.add(Counter::Dead(row.lane, cause), 1);
            Happened::Dead
        }
        _ => return,
    };
    tally.happened(what, now, 1);
}

/// Gives back what jobs held that have come to their end, and lets their callbacks be sent.
pub(super) async fn release(rows: &mut dyn Rows, changed: &[Row], now: Micros) -> Result<()> {
    let having = |flag: Flags| -> Vec<&Row> {
        changed
            .iter()
            .filter(|row| row.status.is_terminal() && row.flags.has(flag))
            .collect()
    };
    let keyed: Vec<Uuid> = having(Flags::KEY).iter().map(|row| row.id).collect();
    if !keyed.is_empty() {
        rows.release_keys(&keyed).await?;
    }
    let told: Vec<i64> = changed
        .iter()
        .filter(|row| row.status.is_terminal() && row.kind == Kind::Callback)
        .map(|row| row.seq)
        .collect();
    if !told.is_empty() {
        rows.remove_callbacks(&told).await?;
    }
    let called: Vec<i64> = having(Flags::CALLBACK).iter().map(|row| row.seq).collect();
    if !called.is_empty() {
        call_back(rows, &called, now).await?;
    }
    Ok(())
}

/// Submits jobs that send results to where they were asked for.
async fn call_back(rows: &mut dyn Rows, ended: &[i64], now: Micros) -> Result<()> {
    let mut jobs = Vec::with_capacity(ended.len());
    let mut tells_of = HashMap::with_capacity(ended.len());
    for (seq, body) in rows.bodies(ended).await? {
        let job: NewJob = match serde_json::from_str(&body.submitted) {
            Ok(job) => job,
            Err(error) => {
                // The others that ended are not to wait for it.
                tracing::error!(%error, "a job that ended cannot be read, nor its callback be sent");
                continue;
            }
        };
        let Some(callback) = job.callback else {
            continue;
        };
        let work = Work::Callback {
            job: job.id,
            callback,
        };
        let sending = NewJob {
            tenant: job.tenant,
            user: job.user,
            queue: job.queue,
            trace: job.trace,
            trace_state: job.trace_state,
            retry: Some(callback_policy()),
            ..NewJob::new(work)
        };
        let mut sending = prepare(&sending, |_| Default::default(), usize::MAX, now)?;
        sending.body.retry = serde_json::to_string(&callback_retry(sending.row.id))
            .map_err(|error| QueueError::Internal(error.to_string()))?
            .into();
        tells_of.insert(sending.row.id, seq);
        jobs.push(sending);
    }
    let jobs: Vec<&Prepared> = jobs.iter().collect();
    super::submit::submit(rows, &jobs, now).await?;
    // What they tell of is kept until they have.
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.row.id).collect();
    let sent = rows.jobs(&ids).await?;
    let callbacks: Vec<(i64, i64)> = sent
        .iter()
        .filter_map(|row| Some((row.seq, *tells_of.get(&row.id)?)))
        .collect();
    rows.insert_callbacks(&callbacks).await
}

/// As the specification of Standard Webhooks recommends.
fn callback_retry(id: Uuid) -> Retry {
    let id = id.to_string();
    let delays_ms = (1..)
        .map_while(|attempts| delay_before(attempts, &id, None))
        .map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
        .collect();
    Retry {
        policy: callback_policy(),
        delays_ms,
    }
}

fn callback_policy() -> RetryPolicy {
    let attempts = u32::try_from(DELAYS.len() + 1).unwrap_or(u32::MAX);
    RetryPolicy::attempts(attempts)
}

/// How many records of attempts that were not used up are kept.
pub(crate) fn uncounted_kept() -> i64 {
    UNCOUNTED
}
