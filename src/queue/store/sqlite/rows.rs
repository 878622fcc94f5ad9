//! Jobs, and what belongs to them.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::types::Value as Sql;
use rusqlite::{OptionalExtension as _, Row as SqlRow, params};
use uuid::Uuid;

use super::super::{AttemptRow, Body, EventRow, Flags, KeyRow, Result, Row, Shared, WorkerRow};
use super::Sqlite;
use super::many::insert;
use crate::queue::counters::{Counter, Tally};
use crate::queue::engine::settle::uncounted_kept;
use crate::queue::error::QueueError;
use crate::queue::job::JobStatus;
use crate::queue::time::Micros;

/// The columns of a job's state, in the order in which [`row`] reads them.
pub(super) const COLUMNS: &str = "seq, id, lane, kind, status, cause, priority, attempts, \
    max_attempts, fence, worker, created_at, updated_at, scheduled_at, due_at, started_at, \
    completed_at, deadline, cancel_requested, flags, lacking_since";

/// Reads a job's state.
pub(super) fn row(found: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        seq: found.get(0)?,
        id: uuid(found, 1)?,
        lane: found.get(2)?,
        kind: name(found, 3)?,
        status: name(found, 4)?,
        cause: found.get(5)?,
        priority: name(found, 6)?,
        attempts: found.get(7)?,
        max_attempts: found.get(8)?,
        fence: found.get(9)?,
        worker: optional_uuid(found, 10)?,
        created: found.get(11)?,
        updated: found.get(12)?,
        scheduled: found.get(13)?,
        due: found.get(14)?,
        started: found.get(15)?,
        completed: found.get(16)?,
        deadline: found.get(17)?,
        cancel_requested: found.get(18)?,
        flags: Flags(found.get(19)?),
        lacking_since: found.get(20)?,
    })
}

pub(super) fn uuid(found: &SqlRow<'_>, index: usize) -> rusqlite::Result<Uuid> {
    found.get::<_, [u8; 16]>(index).map(Uuid::from_bytes)
}

pub(super) fn optional_uuid(found: &SqlRow<'_>, index: usize) -> rusqlite::Result<Option<Uuid>> {
    let bytes: Option<[u8; 16]> = found.get(index)?;
    Ok(bytes.map(Uuid::from_bytes))
}

/// Reads a name that is one of an enum's.
pub(super) fn name<T: std::str::FromStr>(found: &SqlRow<'_>, index: usize) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = found.get_ref(index)?.as_str()?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}

impl Sqlite {
    /// The next numbers of a kind; the first of them.
    fn numbers(&self, name: &str, count: usize) -> Result<i64> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let last: i64 = self
            .connection
            .prepare_cached("UPDATE numbers SET last = last + ?2 WHERE name = ?1 RETURNING last")?
            .query_row(params![name, count], |found| found.get(0))?;
        Ok(last - count + 1)
    }

    pub(super) fn insert_jobs_now(&mut self, jobs: &[(Row, &Body)]) -> Result<Vec<i64>> {
        let first = self.numbers("job", jobs.len())?;
        let seqs: Vec<i64> = (first..).take(jobs.len()).collect();
        let numbered: Vec<(i64, &Row, &Body)> = seqs
            .iter()
            .zip(jobs)
            .map(|(&seq, (job, body))| (seq, job, *body))
            .collect();
        let inserted = insert(
            &self.connection,
            "INSERT INTO jobs (seq, id, lane, kind, status, cause, priority, attempts, \
             max_attempts, fence, worker, created_at, updated_at, scheduled_at, due_at, \
             started_at, completed_at, deadline, cancel_requested, flags)",
            20,
            &numbered,
            |_| 0,
            |values, (seq, job, _)| {
                values.give(params![
                    seq,
                    job.id.as_bytes(),
                    job.lane,
                    job.kind.as_str(),
                    job.status.as_str(),
                    job.cause,
                    job.priority.as_str(),
                    job.attempts,
                    job.max_attempts,
                    job.fence,
                    job.worker.as_ref().map(Uuid::as_bytes),
                    job.created,
                    job.updated,
                    job.scheduled,
                    job.due,
                    job.started,
                    job.completed,
                    job.deadline,
                    job.cancel_requested,
                    job.flags.0,
                ])
            },
        );
        match inserted {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
            {
                return Err(self.twice(jobs, first, error));
            }
            inserted => inserted?,
        }
        insert(
            &self.connection,
            "INSERT INTO bodies (seq, submitted, retry)",
            3,
            &numbered,
            |(_, _, body)| body.submitted.len() + body.retry.len(),
            |values, (seq, _, body)| values.give(params![seq, body.submitted, body.retry]),
        )?;
        for (seq, job, body) in numbered {
            if job.status == JobStatus::Pending {
                self.known.keep(Row {
                    seq,
                    lacking_since: None,
                    ..job.clone()
                });
                self.known.keep_body(seq, body);
            }
        }
        Ok(seqs)
    }

    /// Which of these jobs is there already, or stands among them twice. `first` is the number of the
    /// first of them.
    fn twice(&self, jobs: &[(Row, &Body)], first: i64, error: rusqlite::Error) -> QueueError {
        let there = |id: Uuid| -> rusqlite::Result<bool> {
            let mut select = self
                .connection
                .prepare_cached("SELECT seq FROM jobs WHERE id = ?1")?;
            let found = select.query_row([id.as_bytes()], |found| found.get::<_, i64>(0));
            Ok(found.optional()?.is_some_and(|seq| seq < first))
        };
        let mut seen = HashSet::new();
        for (job, _) in jobs {
            match there(job.id) {
                Ok(false) if seen.insert(job.id) => {}
                Ok(_) => {
                    return QueueError::Invalid(format!("there is a job {} already", job.id));
                }
                Err(error) => return error.into(),
            }
        }
        error.into()
    }

    pub(super) fn insert_tags_now(&self, tags: &[(i64, &str)]) -> Result<()> {
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO tags (tag, seq) VALUES (?2, ?1)")?;
        for (seq, tag) in tags {
            insert.execute(params![seq, tag])?;
        }
        Ok(())
    }

    pub(super) fn jobs_now(&self, ids: &[Uuid]) -> Result<Vec<Row>> {
        let mut select = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.extend(select.query_row([id.as_bytes()], row).optional()?);
        }
        Ok(found)
    }

    pub(super) fn jobs_by_seq_now(&self, seqs: &[i64]) -> Result<Vec<Row>> {
        let mut select = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE seq = ?1"))?;
        let mut found = Vec::with_capacity(seqs.len());
        for &seq in seqs {
            match self.known.row(seq) {
                Some(known) => found.push(known.clone()),
                None => found.extend(select.query_row([seq], row).optional()?),
            }
        }
        Ok(found)
    }

    pub(super) fn overdue_now(&self, now: Micros, most: usize) -> Result<Vec<Row>> {
        self.rows(
            &format!(
                "SELECT {COLUMNS} FROM jobs WHERE deadline <= ?1 \
                 AND deadline IS NOT NULL AND status IN ('pending', 'failed', 'paused') \
                 ORDER BY deadline LIMIT ?2"
            ),
            [Sql::Integer(now), limit(most)],
        )
    }

    pub(super) fn jobs_of_now(&self, worker: Uuid, most: usize) -> Result<Vec<Row>> {
        self.rows(
            &format!("SELECT {COLUMNS} FROM jobs WHERE worker = ?1 ORDER BY seq LIMIT ?2"),
            [Sql::Blob(worker.as_bytes().to_vec()), limit(most)],
        )
    }

    fn rows<const N: usize>(&self, sql: &str, with: [Sql; N]) -> Result<Vec<Row>> {
        let mut select = self.connection.prepare_cached(sql)?;
        let found = select.query_map(rusqlite::params_from_iter(with), row)?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    /// Those that come to stand alike, one behind the other, are written by one statement.
    pub(super) fn update_jobs_now(&mut self, jobs: &[Row]) -> Result<()> {
        let mut update = self.connection.prepare_cached(
            "UPDATE jobs SET status = ?3, cause = ?4, priority = ?5, attempts = ?6, fence = ?7, \
             worker = ?8, updated_at = ?9, due_at = ?10, started_at = ?11, completed_at = ?12, \
             cancel_requested = ?13, flags = ?14, lacking_since = ?15 WHERE seq BETWEEN ?1 AND ?2",
        )?;
        let mut jobs: Vec<&Row> = jobs.iter().collect();
        jobs.sort_by_key(|job| job.seq);
        for alike in jobs.chunk_by(|job, next| next.seq == job.seq + 1 && alike(job, next)) {
            let [job, ..] = alike else { continue };
            let last = alike.last().map_or(job.seq, |last| last.seq);
            let changed = update.execute(params![
                job.seq,
                last,
                job.status.as_str(),
                job.cause,
                job.priority.as_str(),
                job.attempts,
                job.fence,
                job.worker.as_ref().map(Uuid::as_bytes),
                job.updated,
                job.due,
                job.started,
                job.completed,
                job.cancel_requested,
                job.flags.0,
                job.lacking_since,
            ])?;
            if changed != alike.len() {
                return Err(QueueError::Internal(format!(
                    "of jobs {} to {last}, {} were there, and {changed} are",
                    job.seq,
                    alike.len()
                )));
            }
        }
        for job in jobs {
            if job.status == JobStatus::Running {
                self.known.keep(job.clone());
            } else {
                self.known.forget(job.seq);
            }
        }
        Ok(())
    }

    pub(super) fn delete_jobs_now(&mut self, jobs: &[Row]) -> Result<()> {
        for table in [
            "results",
            "progress",
            "admissions",
            "tags",
            "bodies",
            "callbacks",
            "jobs",
        ] {
            let mut delete = self
                .connection
                .prepare_cached(&format!("DELETE FROM {table} WHERE seq = ?1"))?;
            for job in jobs {
                delete.execute([job.seq])?;
            }
        }
        let mut attempts = self
            .connection
            .prepare_cached("DELETE FROM attempts WHERE job = ?1")?;
        let mut keys = self
            .connection
            .prepare_cached("DELETE FROM keys WHERE job = ?1 AND until IS NULL")?;
        for job in jobs {
            self.known.forget(job.seq);
            attempts.execute([job.seq])?;
            keys.execute([job.id.as_bytes()])?;
        }
        Ok(())
    }

    pub(super) fn bodies_now(&self, seqs: &[i64]) -> Result<Vec<(i64, Body)>> {
        let mut select = self
            .connection
            .prepare_cached("SELECT submitted, retry FROM bodies WHERE seq = ?1")?;
        let mut bodies = Vec::with_capacity(seqs.len());
        for &seq in seqs {
            if let Some(known) = self.known.body(seq) {
                bodies.push((seq, known.clone()));
                continue;
            }
            let body = select
                .query_row([seq], |found| {
                    Ok(Body {
                        submitted: found.get(0)?,
                        retry: found.get(1)?,
                    })
                })
                .optional()?;
            bodies.extend(body.map(|body| (seq, body)));
        }
        Ok(bodies)
    }

    pub(super) fn take_keys_now(&self, keys: &[KeyRow], now: Micros) -> Result<Vec<Option<Uuid>>> {
        let mut take = self.connection.prepare_cached(
            "INSERT INTO keys (tenant, \"key\", job, until) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (tenant, \"key\") DO UPDATE SET job = excluded.job, until = excluded.until \
             WHERE until <= ?5",
        )?;
        let mut holder = self
            .connection
            .prepare_cached("SELECT job FROM keys WHERE tenant = ?1 AND \"key\" = ?2")?;
        keys.iter()
            .map(|key| {
                let job = key.job.as_bytes();
                let taken = take.execute(params![key.tenant, key.key, job, key.until, now])?;
                if taken == 1 {
                    return Ok(None);
                }
                let found = holder.query_row([&key.tenant, &key.key], |found| uuid(found, 0))?;
                Ok(Some(found))
            })
            .collect()
    }

    pub(super) fn release_keys_now(&self, jobs: &[Uuid]) -> Result<()> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM keys WHERE job = ?1 AND until IS NULL")?;
        for job in jobs {
            delete.execute([job.as_bytes()])?;
        }
        Ok(())
    }

    pub(super) fn insert_attempts_now(&self, attempts: &[AttemptRow]) -> Result<()> {
        insert(
            &self.connection,
            "INSERT INTO attempts (job, fence, number, counted, worker, started, ended, status, \
             details)",
            9,
            attempts,
            |attempt| attempt.details.len(),
            |values, attempt| {
                values.give(params![
                    attempt.job,
                    attempt.fence,
                    attempt.number,
                    attempt.counted,
                    attempt.worker.as_bytes(),
                    attempt.started,
                    attempt.ended,
                    attempt.status,
                    attempt.details,
                ])
            },
        )?;
        let mut forget = self.connection.prepare_cached(
            "DELETE FROM attempts WHERE job = ?1 AND fence <= ?2 AND counted = 0",
        )?;
        for attempt in attempts {
            if !attempt.counted && attempt.fence > uncounted_kept() {
                forget.execute([attempt.job, attempt.fence - uncounted_kept()])?;
            }
        }
        Ok(())
    }

    pub(super) fn insert_results_now(&self, results: &[(i64, Arc<str>)]) -> Result<()> {
        insert(
            &self.connection,
            "INSERT INTO results (seq, result)",
            2,
            results,
            |(_, result)| result.len(),
            |values, (seq, result)| values.give(params![seq, result]),
        )?;
        Ok(())
    }

    pub(super) fn put_admissions_now(&self, admissions: &[(i64, i64, String)]) -> Result<()> {
        let mut put = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO admissions (seq, fence, details) VALUES (?1, ?2, ?3)",
        )?;
        for (seq, fence, details) in admissions {
            put.execute(params![seq, fence, details])?;
        }
        Ok(())
    }

    pub(super) fn admissions_now(&self, seqs: &[i64]) -> Result<Vec<(i64, i64, String)>> {
        let mut select = self
            .connection
            .prepare_cached("SELECT fence, details FROM admissions WHERE seq = ?1")?;
        let mut admissions = Vec::new();
        for &seq in seqs {
            let found = select.query_row([seq], |read| Ok((seq, read.get(0)?, read.get(1)?)));
            admissions.extend(found.optional()?);
        }
        Ok(admissions)
    }

    pub(super) fn put_progress_now(&self, progress: &[(i64, String)]) -> Result<()> {
        let mut put = self
            .connection
            .prepare_cached("INSERT OR REPLACE INTO progress (seq, progress) VALUES (?1, ?2)")?;
        for (seq, progress) in progress {
            put.execute(params![seq, progress])?;
        }
        Ok(())
    }

    pub(super) fn add_counters_now(&self, tally: &Tally) -> Result<()> {
        let mut add = self.connection.prepare_cached(
            "INSERT INTO counters (kind, number, name, value) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (kind, number, name) DO UPDATE SET value = value + excluded.value",
        )?;
        for (counter, by) in &tally.0 {
            let (kind, number, name) = counter.columns();
            add.execute(params![kind, number, name, by])?;
        }
        Ok(())
    }

    pub(super) fn counters_now(&self, counters: &[Counter]) -> Result<Vec<i64>> {
        let mut select = self.connection.prepare_cached(
            "SELECT value FROM counters WHERE kind = ?1 AND number = ?2 AND name = ?3",
        )?;
        counters
            .iter()
            .map(|counter| {
                let (kind, number, name) = counter.columns();
                let value = select
                    .query_row(params![kind, number, name], |found| found.get(0))
                    .optional()?;
                Ok(value.unwrap_or(0))
            })
            .collect()
    }

    pub(super) fn insert_events_now(&self, events: &[EventRow]) -> Result<()> {
        let first = self.numbers("event", events.len())?;
        let numbered: Vec<(i64, &EventRow)> = (first..).zip(events).collect();
        insert(
            &self.connection,
            "INSERT INTO events (id, job, kind, at, attempt, data)",
            6,
            &numbered,
            |(_, event)| event.data.len(),
            |values, (id, event)| {
                values.give(params![
                    id,
                    event.job.as_bytes(),
                    event.kind.as_str(),
                    event.at,
                    event.attempt,
                    event.data,
                ])
            },
        )?;
        Ok(())
    }

    pub(super) fn put_worker_now(&self, worker: &WorkerRow) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO workers (id, name, started, lease_until) \
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                worker.id.as_bytes(),
                worker.name,
                worker.started,
                worker.lease_until
            ])?;
        Ok(())
    }

    pub(super) fn renew_now(&self, worker: Uuid, until: Micros) -> Result<bool> {
        let changed = self
            .connection
            .prepare_cached("UPDATE workers SET lease_until = ?2 WHERE id = ?1")?
            .execute(params![worker.as_bytes(), until])?;
        Ok(changed == 1)
    }

    pub(super) fn remove_worker_now(&self, worker: Uuid) -> Result<()> {
        self.connection
            .prepare_cached("DELETE FROM workers WHERE id = ?1")?
            .execute([worker.as_bytes()])?;
        Ok(())
    }

    pub(super) fn expired_workers_now(&self, now: Micros) -> Result<Vec<Uuid>> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id FROM workers WHERE lease_until <= ?1 LIMIT 100")?;
        let found = select.query_map([now], |found| uuid(found, 0))?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    /// Every transaction here is serial: nothing is ever put aside.
    pub(super) fn defer_now(&self, _: &Shared) -> Result<()> {
        Err(QueueError::Internal(
            "a serial store put something aside".to_owned(),
        ))
    }
}

/// Whether all that changes of a job is the same of both.
fn alike(job: &Row, other: &Row) -> bool {
    let same = Row {
        seq: job.seq,
        id: job.id,
        lane: job.lane,
        kind: job.kind,
        max_attempts: job.max_attempts,
        created: job.created,
        scheduled: job.scheduled,
        deadline: job.deadline,
        ..other.clone()
    };
    same == *job
}

pub(super) fn limit(most: usize) -> Sql {
    Sql::Integer(i64::try_from(most).unwrap_or(i64::MAX))
}
