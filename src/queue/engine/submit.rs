//! Jobs come in.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::super::counters::{Happened, Tally};
use super::super::event::JobEventKind;
use super::super::job::JobStatus;
use super::super::store::{Body, EventRow, KeyRow, LaneKey, Place, Result, Row, Rows, Shared};
use super::super::time::Micros;
use super::record;

/// A job that was looked at and written as rows.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    /// Its lane and number are filled in.
    pub row: Row,
    pub lane: LaneKey,
    pub body: Body,
    pub key: Option<KeyRow>,
    pub tags: Vec<String>,
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// The job: the one submitted, or the one that has its key.
    pub id: Uuid,
    /// Whether it was there already.
    pub existing: bool,
}

/// Stores jobs, except those whose key is taken.
pub(crate) async fn submit(
    rows: &mut dyn Rows,
    jobs: &[&Prepared],
    now: Micros,
) -> Result<Vec<Submitted>> {
    let holders = taken(rows, jobs, now).await?;
    let mut answers = Vec::with_capacity(jobs.len());
    let mut fresh: Vec<(usize, &Prepared)> = Vec::with_capacity(jobs.len());
    let mut keys: Vec<LaneKey> = Vec::new();
    let mut index: HashMap<&LaneKey, usize> = HashMap::new();
    for (number, job) in jobs.iter().enumerate() {
        if let Some(&id) = holders.get(&number) {
            answers.push(Submitted { id, existing: true });
            continue;
        }
        answers.push(Submitted {
            id: job.row.id,
            existing: false,
        });
        let at = *index.entry(&job.lane).or_insert_with_key(|lane| {
            keys.push((*lane).clone());
            keys.len() - 1
        });
        fresh.push((at, job));
    }
    if fresh.is_empty() {
        return Ok(answers);
    }
    let lanes = rows.lanes(&keys).await?;
    let stored: Vec<(Row, &Body)> = fresh
        .iter()
        .map(|(at, job)| {
            let lane = lanes[*at].id;
            let row = job.row.clone();
            (Row { lane, ..row }, &job.body)
        })
        .collect();
    let seqs = rows.insert_jobs(&stored).await?;
    let tags: Vec<(i64, &str)> = fresh
        .iter()
        .zip(&seqs)
        .flat_map(|((_, job), seq)| job.tags.iter().map(|tag| (*seq, tag.as_str())))
        .collect();
    if !tags.is_empty() {
        rows.insert_tags(&tags).await?;
    }
    let mut shared = Shared {
        tally: Tally::default(),
        places: Vec::with_capacity(fresh.len()),
        events: Vec::with_capacity(fresh.len()),
    };
    let mut moved: HashMap<(i64, JobStatus), i64> = HashMap::new();
    for ((row, _), seq) in stored.iter().zip(&seqs) {
        *moved.entry((row.lane, row.status)).or_default() += 1;
        if row.status == JobStatus::Pending {
            shared.places.push(Place {
                seq: *seq,
                lane: row.lane,
                priority: row.priority,
                due: row.due,
            });
        }
        shared.events.push(EventRow {
            job: row.id,
            kind: JobEventKind::Submitted,
            at: now,
            attempt: None,
            data: String::new(),
        });
    }
    for ((lane, status), by) in moved {
        shared
            .tally
            .add(super::super::counters::Counter::Jobs(lane, status), by);
    }
    let count = i64::try_from(fresh.len()).unwrap_or(i64::MAX);
    shared.tally.happened(Happened::Submitted, now, count);
    record(rows, shared, now).await?;
    Ok(answers)
}

/// Takes the keys of those that have one; by number, the jobs that have them already. Within one
/// call, too, the first of two with one key is the job.
async fn taken(
    rows: &mut dyn Rows,
    jobs: &[&Prepared],
    now: Micros,
) -> Result<HashMap<usize, Uuid>> {
    let mut first: HashMap<(&str, &str), (usize, Uuid)> = HashMap::new();
    let mut holders = HashMap::new();
    let mut keys = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        let Some(key) = &job.key else { continue };
        match first.get(&(key.tenant.as_str(), key.key.as_str())) {
            Some(&(before, _)) => {
                holders.insert(number, jobs[before].row.id);
            }
            None => {
                first.insert((&key.tenant, &key.key), (number, key.job));
                keys.push((number, key.clone()));
            }
        }
    }
    if keys.is_empty() {
        return Ok(holders);
    }
    // In one order everywhere, so that two who submit the same keys do not wait for each other.
    keys.sort_by(|(_, a), (_, b)| (&a.tenant, &a.key).cmp(&(&b.tenant, &b.key)));
    let asked: Vec<KeyRow> = keys.iter().map(|(_, key)| key.clone()).collect();
    let found = rows.take_keys(&asked, now).await?;
    let mut replaced: HashMap<Uuid, Uuid> = HashMap::new();
    for ((number, key), holder) in keys.iter().zip(found) {
        if let Some(holder) = holder {
            holders.insert(*number, holder);
            replaced.insert(key.job, holder);
        }
    }
    for holder in holders.values_mut() {
        if let Some(other) = replaced.get(holder) {
            *holder = *other;
        }
    }
    Ok(holders)
}

/// Ids that stand twice in one call.
pub(crate) fn duplicate(jobs: &[Prepared]) -> Option<Uuid> {
    let mut seen = BTreeSet::new();
    jobs.iter()
        .map(|job| job.row.id)
        .find(|id| !seen.insert(*id))
}
