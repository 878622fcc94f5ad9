//! What is kept, for how long, and what is put back.

use std::collections::{BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::super::counters::{Counter, Tally, hour};
use super::super::error::QueueError;
use super::super::event::JobEventKind;
use super::super::job::JobStatus;
use super::super::store::{AttemptRow, Body, EventRow, Flags, LaneKey, Result, Row, Rows, Shared};
use super::super::time::Micros;
use super::submit::{Prepared, Submitted, submit};
use super::{absorb, catch_up};

/// What is to be removed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Removal {
    /// Completed and cancelled jobs that ended before then.
    pub completed: Option<Micros>,
    /// Dead ones.
    pub dead: Option<Micros>,
    /// Events from before then.
    pub events: Option<Micros>,
    /// Statistics of hours before the one of then.
    pub hours: Option<Micros>,
}

/// How much was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    pub jobs: usize,
    pub events: usize,
    pub keys: usize,
}

/// Removes what is old, up to so many of each.
pub(crate) async fn prune(
    rows: &mut dyn Rows,
    removal: Removal,
    most: usize,
    now: Micros,
) -> Result<Removed> {
    catch_up(rows, now).await?;
    let mut removed = Removed::default();
    let kinds: [(&[JobStatus], Option<Micros>); 2] = [
        (
            &[JobStatus::Completed, JobStatus::Cancelled],
            removal.completed,
        ),
        (&[JobStatus::Dead], removal.dead),
    ];
    for (statuses, before) in kinds {
        let Some(before) = before else { continue };
        let old = rows.ended(statuses, before, most - removed.jobs).await?;
        removed.jobs += old.len();
        remove(rows, &old, Vec::new(), now).await?;
    }
    if let Some(before) = removal.events {
        removed.events = rows.forget_events(before, most).await?;
    }
    removed.keys = rows.forget_keys(now, most).await?;
    if let Some(before) = removal.hours {
        rows.forget_hours(hour(before)).await?;
    }
    Ok(removed)
}

/// Removes dead jobs; gives those that were not dead, or not there.
pub(crate) async fn discard(
    rows: &mut dyn Rows,
    ids: &[Uuid],
    now: Micros,
) -> Result<Vec<(Uuid, Option<JobStatus>)>> {
    let found = rows.jobs(ids).await?;
    // Once nobody else can change them, so that what happened to them before stands before.
    catch_up(rows, now).await?;
    let refused = ids
        .iter()
        .filter_map(|id| match found.iter().find(|row| row.id == *id) {
            Some(row) if row.status == JobStatus::Dead => None,
            Some(row) => Some((*id, Some(row.status))),
            None => Some((*id, None)),
        })
        .collect();
    let dead: Vec<Row> = found
        .into_iter()
        .filter(|row| row.status == JobStatus::Dead)
        .collect();
    let mut events = Vec::with_capacity(dead.len());
    for row in &dead {
        events.push(EventRow {
            job: row.id,
            kind: JobEventKind::Discarded,
            at: now,
            attempt: None,
            data: owner(rows, row).await?,
        });
    }
    remove(rows, &dead, events, now).await?;
    Ok(refused)
}

/// Whose a job was, for the event that outlives it.
async fn owner(rows: &mut dyn Rows, row: &Row) -> Result<String> {
    let lanes = rows.lanes_by_id(&[row.lane]).await?;
    let Some(lane) = lanes.first() else {
        return Ok(String::new());
    };
    let tenants = rows.scopes(&[lane.tenant]).await?;
    Ok(match tenants.first() {
        Some(tenant) if !tenant.name.is_empty() => {
            serde_json::json!({"tenant": tenant.name}).to_string()
        }
        _ => String::new(),
    })
}

async fn remove(
    rows: &mut dyn Rows,
    jobs: &[Row],
    events: Vec<EventRow>,
    now: Micros,
) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let mut tally = Tally::default();
    for job in jobs {
        tally.moved(job.lane, Some(job.status), None);
        if job.status == JobStatus::Dead {
            let cause = job.cause.clone().unwrap_or_default();
            tally.add(Counter::Dead(job.lane, cause), -1);
        }
    }
    rows.delete_jobs(jobs).await?;
    let shared = Shared {
        tally,
        events,
        places: Vec::new(),
    };
    absorb(rows, shared, now).await
}

/// Submits what does a dead job's work once more, and marks that one.
pub(crate) async fn resubmit(
    rows: &mut dyn Rows,
    dead: Uuid,
    again: &[Prepared],
    now: Micros,
) -> Result<Result<Submitted>> {
    let found = rows.jobs(&[dead]).await?.pop();
    // Once nobody else can change it, so that what happened to it before stands before.
    catch_up(rows, now).await?;
    let Some(mut row) = found else {
        return Ok(Err(QueueError::NotFound(dead)));
    };
    if row.status != JobStatus::Dead {
        return Ok(Err(QueueError::Conflict {
            id: dead,
            status: row.status,
            wanted: "replayed: only dead jobs can",
        }));
    }
    let again: Vec<&Prepared> = again.iter().collect();
    let submitted = submit(rows, &again, now).await?.pop();
    let Some(submitted) = submitted else {
        return Err(QueueError::Internal("a job was not answered".to_owned()));
    };
    if submitted.existing {
        return Ok(Ok(submitted));
    }
    row.flags = row.flags.with(Flags::REPLAYED, true);
    rows.update_jobs(&[row]).await?;
    let shared = Shared {
        events: vec![EventRow {
            job: dead,
            kind: JobEventKind::Replayed,
            at: now,
            attempt: None,
            data: serde_json::json!({"as": submitted.id}).to_string(),
        }],
        ..Shared::default()
    };
    absorb(rows, shared, now).await?;
    Ok(Ok(submitted))
}

/// A dead letter that comes from elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub row: Row,
    pub lane: LaneKey,
    pub body: Body,
    pub attempts: Vec<AttemptRow>,
    pub tags: Vec<String>,
}

/// Puts dead letters back that came from elsewhere; gives how many were not there already.
pub(crate) async fn import(rows: &mut dyn Rows, letters: &[Letter], now: Micros) -> Result<usize> {
    catch_up(rows, now).await?;
    let ids: Vec<Uuid> = letters.iter().map(|letter| letter.row.id).collect();
    let mut known: HashSet<Uuid> = rows.jobs(&ids).await?.iter().map(|row| row.id).collect();
    let new: Vec<&Letter> = letters
        .iter()
        .filter(|letter| known.insert(letter.row.id))
        .collect();
    if new.is_empty() {
        return Ok(0);
    }
    let keys: BTreeSet<LaneKey> = new.iter().map(|letter| letter.lane.clone()).collect();
    let keys: Vec<LaneKey> = keys.into_iter().collect();
    let lanes = rows.lanes(&keys).await?;
    let lanes: HashMap<&LaneKey, i64> = keys
        .iter()
        .zip(&lanes)
        .map(|(key, lane)| (key, lane.id))
        .collect();
    let mut shared = Shared::default();
    let mut stored = Vec::with_capacity(new.len());
    for letter in &new {
        let lane = lanes.get(&letter.lane).copied();
        let lane =
            lane.ok_or_else(|| QueueError::Internal("a lane was not answered".to_owned()))?;
        let row = Row {
            lane,
            ..letter.row.clone()
        };
        shared.tally.moved(lane, None, Some(row.status));
        let cause = row.cause.clone().unwrap_or_default();
        shared.tally.add(Counter::Dead(lane, cause), 1);
        stored.push((row, &letter.body));
    }
    let seqs = rows.insert_jobs(&stored).await?;
    let mut attempts = Vec::new();
    let mut tags: Vec<(i64, &str)> = Vec::new();
    for (letter, &seq) in new.iter().zip(&seqs) {
        attempts.extend(letter.attempts.iter().map(|attempt| AttemptRow {
            job: seq,
            ..attempt.clone()
        }));
        tags.extend(letter.tags.iter().map(|tag| (seq, tag.as_str())));
    }
    rows.insert_attempts(&attempts).await?;
    rows.insert_tags(&tags).await?;
    absorb(rows, shared, now).await?;
    Ok(new.len())
}
