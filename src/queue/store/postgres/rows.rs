//! Jobs, and what belongs to them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::{Error, Row as SqlRow};
use uuid::Uuid;

use super::super::{AttemptRow, Body, EventRow, Flags, Result, Row, Shared, WorkerRow};
use super::inbox::{write_changes, write_tally};
use super::pieces::pieces;
use super::transaction::{Value, Writing};
use crate::queue::counters::{Counter, Tally};
use crate::queue::engine::settle::uncounted_kept;
use crate::queue::error::QueueError;
use crate::queue::time::Micros;

/// The columns of a job's state, in the order in which [`row`] reads them.
pub(super) const COLUMNS: &str = "jobs.seq, jobs.id, jobs.lane, jobs.kind, jobs.status, jobs.cause, \
    jobs.priority, jobs.attempts, jobs.max_attempts, jobs.fence, jobs.worker, jobs.created_at, \
    jobs.updated_at, jobs.scheduled_at, jobs.due_at, jobs.started_at, jobs.completed_at, \
    jobs.deadline, jobs.cancel_requested, jobs.flags, jobs.lacking_since";

/// Reads a job's state.
pub(super) fn row(found: &SqlRow) -> Result<Row> {
    Ok(Row {
        seq: found.try_get(0)?,
        id: found.try_get(1)?,
        lane: found.try_get(2)?,
        kind: name(found, 3)?,
        status: name(found, 4)?,
        cause: found.try_get(5)?,
        priority: name(found, 6)?,
        attempts: small(found, 7)?,
        max_attempts: small(found, 8)?,
        fence: found.try_get(9)?,
        worker: found.try_get(10)?,
        created: found.try_get(11)?,
        updated: found.try_get(12)?,
        scheduled: found.try_get(13)?,
        due: found.try_get(14)?,
        started: found.try_get(15)?,
        completed: found.try_get(16)?,
        deadline: found.try_get(17)?,
        cancel_requested: found.try_get(18)?,
        flags: Flags(found.try_get(19)?),
        lacking_since: found.try_get(20)?,
    })
}

/// Reads a name that is one of an enum's.
pub(super) fn name<T: std::str::FromStr>(found: &SqlRow, index: usize) -> Result<T>
where
    T::Err: std::fmt::Display,
{
    let text: &str = found.try_get(index)?;
    text.parse()
        .map_err(|error: T::Err| QueueError::Damaged(error.to_string()))
}

/// Reads a number of 32 bits.
pub(super) fn small(found: &SqlRow, index: usize) -> Result<u32> {
    let number: i64 = found.try_get(index)?;
    u32::try_from(number).map_err(|_| QueueError::Damaged(format!("{number} is out of range")))
}

/// One column of many rows.
macro_rules! column {
    ($rows:expr, |$row:ident| $value:expr) => {
        Box::new($rows.iter().map(|$row| $value).collect::<Vec<_>>()) as Value
    };
}
pub(super) use column;

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

pub(super) fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

impl Writing<'_> {
    /// Jobs that were locked.
    pub(super) fn rows(&mut self, found: &[SqlRow]) -> Result<Vec<Row>> {
        self.lock_taken();
        found.iter().map(row).collect()
    }

    pub(super) async fn insert_jobs_now(&mut self, jobs: &[(Row, &Body)]) -> Result<Vec<i64>> {
        let mut seqs = Vec::with_capacity(jobs.len());
        for piece in pieces(jobs, |(_, body)| body.submitted.len() + body.retry.len()) {
            seqs.extend(self.insert_piece(piece).await?);
        }
        Ok(seqs)
    }

    async fn insert_piece(&mut self, jobs: &[(Row, &Body)]) -> Result<Vec<i64>> {
        self.wrote = true;
        let of = |read: fn(&Row) -> i64| jobs.iter().map(|(row, _)| read(row)).collect::<Vec<_>>();
        let maybe = |read: fn(&Row) -> Option<i64>| {
            jobs.iter().map(|(row, _)| read(row)).collect::<Vec<_>>()
        };
        let ids: Vec<Uuid> = jobs.iter().map(|(row, _)| row.id).collect();
        let workers: Vec<Option<Uuid>> = jobs.iter().map(|(row, _)| row.worker).collect();
        let names = |read: fn(&Row) -> &'static str| {
            jobs.iter().map(|(row, _)| read(row)).collect::<Vec<_>>()
        };
        let causes: Vec<Option<&str>> = jobs.iter().map(|(row, _)| row.cause.as_deref()).collect();
        let cancels: Vec<bool> = jobs.iter().map(|(row, _)| row.cancel_requested).collect();
        let submitted: Vec<&str> = jobs.iter().map(|(_, body)| &*body.submitted).collect();
        let retries: Vec<&str> = jobs.iter().map(|(_, body)| &*body.retry).collect();
        let found = self
            .query(
                "WITH given AS MATERIALIZED (SELECT nextval('job_numbers') AS seq, ordered.* FROM \
                 (SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], \
                 $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::uuid[], \
                 $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], \
                 $16::bigint[], $17::bigint[], $18::boolean[], $19::bigint[], $20::text[], \
                 $21::text[]) WITH ORDINALITY AS given (id, lane, kind, status, cause, priority, \
                 attempts, max_attempts, fence, worker, created_at, updated_at, scheduled_at, \
                 due_at, started_at, completed_at, deadline, cancel_requested, flags, submitted, \
                 retry, place) ORDER BY place) AS ordered), \
                 put AS (INSERT INTO jobs (seq, id, lane, kind, status, cause, priority, attempts, \
                 max_attempts, fence, worker, created_at, updated_at, scheduled_at, due_at, \
                 started_at, completed_at, deadline, cancel_requested, flags) \
                 SELECT seq, id, lane, kind, status, cause, priority, attempts, max_attempts, \
                 fence, worker, created_at, updated_at, scheduled_at, due_at, started_at, \
                 completed_at, deadline, cancel_requested, flags FROM given), \
                 put_bodies AS (INSERT INTO bodies (seq, submitted, retry) \
                 SELECT seq, submitted, retry FROM given) \
                 SELECT seq FROM given ORDER BY place",
                &[
                    &ids,
                    &of(|row| row.lane),
                    &names(|row| row.kind.as_str()),
                    &names(|row| row.status.as_str()),
                    &causes,
                    &names(|row| row.priority.as_str()),
                    &of(|row| i64::from(row.attempts)),
                    &of(|row| i64::from(row.max_attempts)),
                    &of(|row| row.fence),
                    &workers,
                    &of(|row| row.created),
                    &of(|row| row.updated),
                    &of(|row| row.scheduled),
                    &of(|row| row.due),
                    &maybe(|row| row.started),
                    &maybe(|row| row.completed),
                    &maybe(|row| row.deadline),
                    &cancels,
                    &of(|row| row.flags.0),
                    &submitted,
                    &retries,
                ],
            )
            .await?;
        found.iter().map(|found| self.get(found, 0)).collect()
    }

    pub(super) async fn insert_tags_now(&mut self, tags: &[(i64, &str)]) -> Result<()> {
        for tags in pieces(tags, |tag| tag.1.len()) {
            let with = vec![
                column!(tags, |tag| tag.1.to_owned()),
                column!(tags, |tag| tag.0),
            ];
            self.send(
                "INSERT INTO tags (tag, seq) SELECT * FROM unnest($1::text[], $2::bigint[])",
                with,
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn jobs_now(&mut self, ids: &[Uuid]) -> Result<Vec<Row>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE id = ANY($1::uuid[]) ORDER BY seq FOR UPDATE"
        );
        let found = self.query(&sql, &[&ids]).await?;
        let rows = self.rows(&found)?;
        let by_id: HashMap<Uuid, &Row> = rows.iter().map(|row| (row.id, row)).collect();
        Ok(ids
            .iter()
            .filter_map(|id| by_id.get(id).map(|row| (*row).clone()))
            .collect())
    }

    pub(super) async fn jobs_by_seq_now(&mut self, seqs: &[i64]) -> Result<Vec<Row>> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE seq = ANY($1::bigint[]) ORDER BY seq FOR UPDATE"
        );
        let found = self.query(&sql, &[&seqs]).await?;
        let rows = self.rows(&found)?;
        let by_seq: HashMap<i64, &Row> = rows.iter().map(|row| (row.seq, row)).collect();
        Ok(seqs
            .iter()
            .filter_map(|seq| by_seq.get(seq).map(|row| (*row).clone()))
            .collect())
    }

    pub(super) async fn overdue_now(&mut self, now: Micros, most: usize) -> Result<Vec<Row>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE deadline <= $1 \
             AND deadline IS NOT NULL AND status IN ('pending', 'failed', 'paused') \
             ORDER BY deadline LIMIT $2 FOR UPDATE"
        );
        let found = self.query(&sql, &[&now, &limit(most)]).await?;
        self.rows(&found)
    }

    pub(super) async fn jobs_of_now(&mut self, worker: Uuid, most: usize) -> Result<Vec<Row>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE worker = $1 AND worker IS NOT NULL \
             ORDER BY seq LIMIT $2 FOR UPDATE"
        );
        let found = self.query(&sql, &[&worker, &limit(most)]).await?;
        self.rows(&found)
    }

    pub(super) async fn update_jobs_now(&mut self, jobs: &[Row]) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let with = vec![
            column!(jobs, |job| job.seq),
            column!(jobs, |job| job.status.as_str()),
            column!(jobs, |job| job.cause.clone()),
            column!(jobs, |job| job.priority.as_str()),
            column!(jobs, |job| i64::from(job.attempts)),
            column!(jobs, |job| job.fence),
            column!(jobs, |job| job.worker),
            column!(jobs, |job| job.updated),
            column!(jobs, |job| job.due),
            column!(jobs, |job| job.started),
            column!(jobs, |job| job.completed),
            column!(jobs, |job| job.cancel_requested),
            column!(jobs, |job| job.flags.0),
            column!(jobs, |job| job.lacking_since),
        ];
        self.send_expecting(
            "UPDATE jobs SET status = new.status, cause = new.cause, priority = new.priority, \
             attempts = new.attempts, fence = new.fence, worker = new.worker, \
             updated_at = new.updated_at, due_at = new.due_at, started_at = new.started_at, \
             completed_at = new.completed_at, cancel_requested = new.cancel_requested, \
             flags = new.flags, lacking_since = new.lacking_since FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], \
             $6::bigint[], $7::uuid[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], \
             $12::boolean[], $13::bigint[], $14::bigint[]) AS new (seq, status, cause, priority, \
             attempts, fence, worker, updated_at, due_at, started_at, completed_at, \
             cancel_requested, flags, lacking_since) \
             WHERE jobs.seq = new.seq",
            with,
            Some((count(jobs.len()), "a job was there, and is gone")),
        )
        .await
    }

    pub(super) async fn delete_jobs_now(&mut self, jobs: &[Row]) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        for sql in [
            "DELETE FROM results WHERE seq = ANY($1::bigint[])",
            "DELETE FROM progress WHERE seq = ANY($1::bigint[])",
            "DELETE FROM admissions WHERE seq = ANY($1::bigint[])",
            "DELETE FROM tags WHERE seq = ANY($1::bigint[])",
            "DELETE FROM bodies WHERE seq = ANY($1::bigint[])",
            "DELETE FROM callbacks WHERE seq = ANY($1::bigint[])",
            "DELETE FROM attempts WHERE job = ANY($1::bigint[])",
            "DELETE FROM jobs WHERE seq = ANY($1::bigint[])",
        ] {
            self.send(sql, vec![column!(jobs, |job| job.seq)]).await?;
        }
        self.send(
            "DELETE FROM keys WHERE job = ANY($1::uuid[]) AND until IS NULL",
            vec![column!(jobs, |job| job.id)],
        )
        .await
    }

    pub(super) async fn bodies_now(&mut self, seqs: &[i64]) -> Result<Vec<(i64, Body)>> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let found = self
            .query(
                "SELECT bodies.seq, submitted, retry FROM bodies \
                 JOIN unnest($1::bigint[]) WITH ORDINALITY AS asked (seq, place) \
                 ON bodies.seq = asked.seq ORDER BY place",
                &[&seqs],
            )
            .await?;
        let read = |found: &SqlRow| -> std::result::Result<(i64, Body), Error> {
            let body = Body {
                submitted: found.try_get::<_, &str>(1)?.into(),
                retry: found.try_get::<_, &str>(2)?.into(),
            };
            Ok((found.try_get(0)?, body))
        };
        let bodies = found.iter().map(read).collect();
        self.check(bodies)
    }

    pub(super) async fn insert_attempts_now(&mut self, attempts: &[AttemptRow]) -> Result<()> {
        for piece in pieces(attempts, |attempt| attempt.details.len()) {
            self.insert_attempts_of(piece).await?;
        }
        Ok(())
    }

    async fn insert_attempts_of(&mut self, attempts: &[AttemptRow]) -> Result<()> {
        let with = vec![
            column!(attempts, |attempt| attempt.job),
            column!(attempts, |attempt| attempt.fence),
            column!(attempts, |attempt| i64::from(attempt.number)),
            column!(attempts, |attempt| attempt.counted),
            column!(attempts, |attempt| attempt.worker),
            column!(attempts, |attempt| attempt.started),
            column!(attempts, |attempt| attempt.ended),
            column!(attempts, |attempt| attempt.status.clone()),
            column!(attempts, |attempt| attempt.details.to_string()),
        ];
        self.send(
            "INSERT INTO attempts (job, fence, number, counted, worker, started, ended, status, \
             details) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], \
             $4::boolean[], $5::uuid[], $6::bigint[], $7::bigint[], $8::text[], $9::text[])",
            with,
        )
        .await?;
        let old: Vec<(i64, i64)> = attempts
            .iter()
            .filter(|attempt| !attempt.counted && attempt.fence > uncounted_kept())
            .map(|attempt| (attempt.job, attempt.fence - uncounted_kept()))
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        self.send(
            "DELETE FROM attempts USING unnest($1::bigint[], $2::bigint[]) AS old (job, fence) \
             WHERE attempts.job = old.job AND attempts.fence <= old.fence AND NOT counted",
            vec![column!(old, |old| old.0), column!(old, |old| old.1)],
        )
        .await
    }

    pub(super) async fn insert_results_now(&mut self, results: &[(i64, Arc<str>)]) -> Result<()> {
        for results in pieces(results, |result| result.1.len()) {
            self.send(
                "INSERT INTO results (seq, result) SELECT * FROM unnest($1::bigint[], $2::text[])",
                vec![
                    column!(results, |result| result.0),
                    column!(results, |result| result.1.to_string()),
                ],
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn put_admissions_now(
        &mut self,
        admissions: &[(i64, i64, String)],
    ) -> Result<()> {
        if admissions.is_empty() {
            return Ok(());
        }
        self.send(
            "INSERT INTO admissions (seq, fence, details) \
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[]) ON CONFLICT (seq) \
             DO UPDATE SET fence = excluded.fence, details = excluded.details",
            vec![
                column!(admissions, |one| one.0),
                column!(admissions, |one| one.1),
                column!(admissions, |one| one.2.clone()),
            ],
        )
        .await
    }

    pub(super) async fn admissions_now(&mut self, seqs: &[i64]) -> Result<Vec<(i64, i64, String)>> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let found = self
            .query(
                "SELECT seq, fence, details FROM admissions WHERE seq = ANY($1::bigint[])",
                &[&seqs],
            )
            .await?;
        found
            .iter()
            .map(|read| Ok((read.try_get(0)?, read.try_get(1)?, read.try_get(2)?)))
            .collect()
    }

    pub(super) async fn put_progress_now(&mut self, progress: &[(i64, String)]) -> Result<()> {
        if progress.is_empty() {
            return Ok(());
        }
        // The last word on each counts.
        let last: HashMap<i64, &str> = progress
            .iter()
            .map(|(seq, word)| (*seq, word.as_str()))
            .collect();
        let mut last: Vec<(i64, &str)> = last.into_iter().collect();
        last.sort_unstable();
        self.send(
            "INSERT INTO progress (seq, progress) SELECT * FROM unnest($1::bigint[], $2::text[]) \
             ON CONFLICT (seq) DO UPDATE SET progress = excluded.progress",
            vec![
                column!(last, |word| word.0),
                column!(last, |word| word.1.to_owned()),
            ],
        )
        .await
    }

    pub(super) async fn defer_now(&mut self, shared: &Shared) -> Result<()> {
        let mut tally = Some(write_tally(&shared.tally));
        let mut places = pieces(&shared.places, |_| 0);
        let mut events = pieces(&shared.events, |event| event.data.len());
        loop {
            let (places, events) = (places.next(), events.next());
            if tally.is_none() && places.is_none() && events.is_none() {
                return Ok(());
            }
            let counted = tally.take();
            let with: Vec<Value> = vec![
                Box::new(counted.unwrap_or_else(|| write_tally(&Tally::default()))),
                Box::new(write_changes(
                    places.unwrap_or_default(),
                    events.unwrap_or_default(),
                )),
            ];
            self.send("INSERT INTO inbox (tally, changes) VALUES ($1, $2)", with)
                .await?;
        }
    }

    pub(super) async fn add_counters_now(&mut self, tally: &Tally) -> Result<()> {
        let changes: Vec<(&'static str, i64, String, i64)> = tally
            .0
            .iter()
            .filter(|(_, by)| **by != 0)
            .map(|(counter, by)| {
                let (kind, number, name) = counter.columns();
                (kind, number, name, *by)
            })
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.send(
            "INSERT INTO counters (kind, number, name, value) \
             SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[]) \
             ON CONFLICT (kind, number, name) \
             DO UPDATE SET value = counters.value + excluded.value",
            vec![
                column!(changes, |change| change.0),
                column!(changes, |change| change.1),
                column!(changes, |change| change.2.clone()),
                column!(changes, |change| change.3),
            ],
        )
        .await
    }

    pub(super) async fn counters_now(&mut self, counters: &[Counter]) -> Result<Vec<i64>> {
        if counters.is_empty() {
            return Ok(Vec::new());
        }
        let columns: Vec<(&'static str, i64, String)> =
            counters.iter().map(Counter::columns).collect();
        let kinds: Vec<&str> = columns.iter().map(|column| column.0).collect();
        let numbers: Vec<i64> = columns.iter().map(|column| column.1).collect();
        let names: Vec<&str> = columns.iter().map(|column| column.2.as_str()).collect();
        let found = self
            .query(
                "SELECT coalesce(counters.value, 0) \
                 FROM unnest($1::text[], $2::bigint[], $3::text[]) WITH ORDINALITY \
                 AS asked (kind, number, name, place) LEFT JOIN counters \
                 ON counters.kind = asked.kind AND counters.number = asked.number \
                 AND counters.name = asked.name ORDER BY place",
                &[&kinds, &numbers, &names],
            )
            .await?;
        found.iter().map(|found| self.get(found, 0)).collect()
    }

    pub(super) async fn insert_events_now(&mut self, events: &[EventRow]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let mut with = vec![
            column!(events, |event| event.job),
            column!(events, |event| event.kind.as_str()),
            column!(events, |event| event.at),
            column!(events, |event| event.attempt.map(i64::from)),
            column!(events, |event| event.data.clone()),
        ];
        with.push(Box::new(limit(events.len())));
        self.send_expecting(
            "WITH given AS (UPDATE numbers SET last = last + $6 WHERE name = 'event' \
             RETURNING last) INSERT INTO events (id, job, kind, at, attempt, data) \
             SELECT given.last - $6 + new.place, new.job, new.kind, new.at, new.attempt, new.data \
             FROM given CROSS JOIN unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], \
             $5::text[]) WITH ORDINALITY AS new (job, kind, at, attempt, data, place)",
            with,
            Some((count(events.len()), "events were not all written")),
        )
        .await
    }

    pub(super) async fn put_worker_now(&mut self, worker: &WorkerRow) -> Result<()> {
        let with: Vec<Value> = vec![
            Box::new(worker.id),
            Box::new(worker.name.clone()),
            Box::new(worker.started),
            Box::new(worker.lease_until),
        ];
        self.send(
            "INSERT INTO workers (id, name, started, lease_until) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, started = excluded.started, \
             lease_until = excluded.lease_until",
            with,
        )
        .await
    }

    pub(super) async fn renew_now(&mut self, worker: Uuid, until: Micros) -> Result<bool> {
        self.wrote = true;
        let renewed = self
            .query(
                "UPDATE workers SET lease_until = $2 WHERE id = $1 RETURNING 1",
                &[&worker, &until],
            )
            .await?;
        Ok(!renewed.is_empty())
    }

    pub(super) async fn remove_worker_now(&mut self, worker: Uuid) -> Result<()> {
        let with: Vec<Value> = vec![Box::new(worker)];
        self.send("DELETE FROM workers WHERE id = $1", with).await
    }

    pub(super) async fn expired_workers_now(&mut self, now: Micros) -> Result<Vec<Uuid>> {
        let found = self
            .query(
                "SELECT id FROM workers WHERE lease_until <= $1 LIMIT 100",
                &[&now],
            )
            .await?;
        found.iter().map(|found| self.get(found, 0)).collect()
    }
}
