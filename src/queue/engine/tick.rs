//! What has to be done from time to time, by whichever worker comes first.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::job::JobStatus;
use super::super::outcome::{APPROVAL_NEEDED, WORKER_LOST};
use super::super::retry::{Retry, RetryPolicy};
use super::super::store::{Flags, Result, Row, Rows, Shared};
use super::super::time::Micros;
use super::super::transition::{Trigger, transition};
use super::settle::{Writes, ended, release};
use super::{absorb, catch_up};

/// How many jobs of a dead worker are put back in one transaction.
const BATCH: usize = 512;

/// What a tick did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ticked {
    /// Jobs that were taken from dead workers.
    pub rescued: usize,
    /// Jobs that died of it.
    pub died: Vec<Died>,
    /// Whether there may be more of either.
    pub more: bool,
}

/// A job that died without an attempt of whoever found it dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Died {
    pub job: Uuid,
    /// Whether its deadline passed while it waited, rather than that its worker died.
    pub expired: bool,
}

/// Puts jobs of dead workers through the state machine, and ends those whose deadline passed.
pub(crate) async fn tick(rows: &mut dyn Rows, now: Micros) -> Result<Ticked> {
    catch_up(rows, now).await?;
    // Also where no worker has room to ask for jobs.
    super::fire::fire(rows, now).await?;
    let mut done = Ticked::default();
    for worker in rows.expired_workers(now).await? {
        done.rescued += rescue(rows, worker, BATCH - done.rescued, &mut done.died, now).await?;
        if done.rescued >= BATCH {
            done.more = true;
            break;
        }
    }
    let overdue = rows.overdue(now, BATCH).await?;
    done.more |= overdue.len() >= BATCH;
    let asked: Vec<Uuid> = overdue
        .iter()
        .filter(|row| row.cause.as_deref() == Some(APPROVAL_NEEDED))
        .map(|row| row.id)
        .collect();
    done.died.extend(expire(rows, overdue, now).await?);
    for job in asked {
        super::approve::withdraw(rows, job, now).await?;
    }
    super::approve::catch_answers(rows, BATCH, now).await?;
    Ok(done)
}

/// Takes jobs from a worker that died; forgets the worker once it has none.
pub(crate) async fn rescue(
    rows: &mut dyn Rows,
    worker: Uuid,
    most: usize,
    died: &mut Vec<Died>,
    now: Micros,
) -> Result<usize> {
    let lost = rows.jobs_of(worker, most).await?;
    let count = lost.len();
    lose(rows, lost, died, now).await?;
    if count < most {
        rows.remove_worker(worker).await?;
    }
    Ok(count)
}

/// Takes jobs from a worker that has them by the store's account and not by its own: it was not told
/// that it got them, or could not write down how they ended.
pub(crate) async fn take_strays(
    rows: &mut dyn Rows,
    worker: Uuid,
    known: &HashSet<(i64, i64)>,
    done: &mut Ticked,
    now: Micros,
) -> Result<()> {
    let mut strays = rows.jobs_of(worker, known.len() + BATCH).await?;
    strays.retain(|row| !known.contains(&(row.seq, row.fence)));
    done.rescued += strays.len();
    lose(rows, strays, &mut done.died, now).await
}

/// Puts jobs through the state machine whose attempt nobody will settle.
async fn lose(
    rows: &mut dyn Rows,
    lost: Vec<Row>,
    died: &mut Vec<Died>,
    now: Micros,
) -> Result<()> {
    let seqs: Vec<i64> = lost.iter().map(|row| row.seq).collect();
    let bodies: HashMap<i64, _> = rows.bodies(&seqs).await?.into_iter().collect();
    // Of what it last had: an earlier attempt may have been another version's.
    let mut admitted: HashMap<(i64, i64), String> = rows
        .admissions(&seqs)
        .await?
        .into_iter()
        .map(|(seq, fence, details)| ((seq, fence), details))
        .collect();
    let mut writes = Writes::default();
    for row in lost {
        // One that cannot be read is not tried again, and the others do not wait for it.
        let retry: Retry = bodies
            .get(&row.seq)
            .and_then(|body| serde_json::from_str(&body.retry).ok())
            .unwrap_or_else(|| Retry::plan(RetryPolicy::attempts(1), 0));
        let trigger = Trigger::Lost {
            retry: &retry,
            destructive: row.flags.has(Flags::DESTRUCTIVE),
        };
        let mut details: Map<String, Value> = admitted
            .remove(&(row.seq, row.fence))
            .and_then(|details| serde_json::from_str(&details).ok())
            .unwrap_or_default();
        details.insert(
            "failure".to_owned(),
            json!({"message": "its worker died, or lost touch with the queue"}),
        );
        let job = row.id;
        let status = writes.end(
            row,
            trigger,
            WORKER_LOST,
            Value::Object(details).to_string().into(),
            None,
            now,
        )?;
        if status == JobStatus::Dead {
            let expired = false;
            died.push(Died { job, expired });
        }
    }
    writes.write(rows, now).await
}

/// Forgets a worker that stops. Jobs that are still its own, because their end could not be written
/// down, are taken from it.
pub(crate) async fn leave(rows: &mut dyn Rows, worker: Uuid, now: Micros) -> Result<()> {
    catch_up(rows, now).await?;
    // It tells of nothing any more.
    let mut died = Vec::new();
    while rescue(rows, worker, BATCH, &mut died, now).await? >= BATCH {}
    Ok(())
}

async fn expire(rows: &mut dyn Rows, overdue: Vec<Row>, now: Micros) -> Result<Vec<Died>> {
    let mut shared = Shared::default();
    let mut changed = Vec::with_capacity(overdue.len());
    for mut row in overdue {
        let Ok(change) = transition(&row.standing(), Trigger::Expire, now) else {
            continue;
        };
        super::control::unplace(rows, &row).await?;
        let (from, kind) = (row.status, change.event);
        row.apply(change, now);
        shared.tally.moved(row.lane, Some(from), Some(row.status));
        ended(&row, &mut shared.tally, now);
        shared.events.push(super::event(&row, kind, None, now));
        changed.push(row);
    }
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    rows.update_jobs(&changed).await?;
    release(rows, &changed, now).await?;
    absorb(rows, shared, now).await?;
    let died = changed.iter().map(|row| Died {
        job: row.id,
        expired: true,
    });
    Ok(died.collect())
}
