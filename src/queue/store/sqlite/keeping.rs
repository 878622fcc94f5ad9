//! Schedules, policies, and what is removed in the end.

use rusqlite::types::Value as Sql;
use rusqlite::{Row as SqlRow, params};

use super::super::{Flags, PolicyRow, Result, Row, ScheduleRow};
use super::rows::{COLUMNS, limit, row};
use super::{INCREMENTAL, Sqlite};
use crate::queue::counters::{HOURS, RUN, WAIT};
use crate::queue::job::JobStatus;
use crate::queue::time::Micros;

pub(super) const SCHEDULE: &str = "name, recurrence, tenant, job, outline, created, last, next";
/// As [`SCHEDULE`], with the outline in the place of the job.
pub(super) const OUTLINE: &str =
    "name, recurrence, tenant, coalesce(outline, job), NULL, created, last, next";

pub(super) fn schedule(found: &SqlRow<'_>) -> rusqlite::Result<ScheduleRow> {
    Ok(ScheduleRow {
        name: found.get(0)?,
        recurrence: found.get(1)?,
        tenant: found.get(2)?,
        job: found.get(3)?,
        outline: found.get(4)?,
        created: found.get(5)?,
        last: found.get(6)?,
        next: found.get(7)?,
    })
}

impl Sqlite {
    pub(super) fn put_policy_now(&self, policy: &PolicyRow) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO policies (kind, name, policy) VALUES (?1, ?2, ?3)",
            )?
            .execute([&policy.kind, &policy.name, &policy.policy])?;
        Ok(())
    }

    pub(super) fn remove_policy_now(&self, kind: &str, name: &str) -> Result<bool> {
        let removed = self
            .connection
            .prepare_cached("DELETE FROM policies WHERE kind = ?1 AND name = ?2")?
            .execute([kind, name])?;
        Ok(removed == 1)
    }

    pub(super) fn put_schedule_now(&self, schedule: &ScheduleRow) -> Result<()> {
        self.connection
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO schedules ({SCHEDULE}) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
            ))?
            .execute(params![
                schedule.name,
                schedule.recurrence,
                schedule.tenant,
                schedule.job,
                schedule.outline,
                schedule.created,
                schedule.last,
                schedule.next,
            ])?;
        Ok(())
    }

    pub(super) fn schedules_beside_now(&self, tenant: &str, name: &str) -> Result<usize> {
        let count: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM schedules WHERE tenant = ?1 AND name <> ?2")?
            .query_row([tenant, name], |found| found.get(0))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    pub(super) fn remove_schedule_now(&self, name: &str) -> Result<bool> {
        let removed = self
            .connection
            .prepare_cached("DELETE FROM schedules WHERE name = ?1")?
            .execute([name])?;
        Ok(removed == 1)
    }

    pub(super) fn due_schedules_now(&self, now: Micros, most: usize) -> Result<Vec<ScheduleRow>> {
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT {SCHEDULE} FROM (SELECT name AS one, next AS due, \
             row_number() OVER (PARTITION BY tenant ORDER BY next, name) AS turn \
             FROM schedules WHERE next IS NOT NULL AND next <= ?1 \
             ORDER BY turn, due LIMIT ?2) AS chosen JOIN schedules ON name = one ORDER BY turn, due"
        ))?;
        let found = select.query_map(params![now, limit(most)], schedule)?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    pub(super) fn ended_now(
        &self,
        statuses: &[JobStatus],
        before: Micros,
        most: usize,
    ) -> Result<Vec<Row>> {
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM jobs WHERE status = ?1 AND completed_at IS NOT NULL \
             AND completed_at < ?2 \
             AND (flags & {} = 0 OR NOT EXISTS (SELECT 1 FROM callbacks WHERE job = jobs.seq)) \
             ORDER BY completed_at LIMIT ?3",
            Flags::CALLBACK.0
        ))?;
        let mut ended = Vec::new();
        for status in statuses {
            let left = limit(most - ended.len());
            let name = Sql::Text(status.as_str().to_owned());
            for found in select.query_map(params![name, before, left], row)? {
                ended.push(found?);
            }
        }
        Ok(ended)
    }

    pub(super) fn forget_events_now(&self, before: Micros, most: usize) -> Result<usize> {
        Ok(self
            .connection
            .prepare_cached(
                // From the first on without a gap, also where a clock was set back.
                "WITH first AS (SELECT id, at FROM events ORDER BY id LIMIT ?2) \
                 DELETE FROM events WHERE id IN (SELECT id FROM first) AND id < \
                 coalesce((SELECT min(id) FROM first WHERE at >= ?1), 9223372036854775807)",
            )?
            .execute(params![before, limit(most)])?)
    }

    pub(super) fn forget_keys_now(&self, now: Micros, most: usize) -> Result<usize> {
        Ok(self
            .connection
            .prepare_cached(
                "DELETE FROM keys WHERE (tenant, \"key\") IN (SELECT tenant, \"key\" FROM keys \
                 WHERE until IS NOT NULL AND until <= ?1 LIMIT ?2)",
            )?
            .execute(params![now, limit(most)])?)
    }

    pub(super) fn insert_callbacks_now(&self, callbacks: &[(i64, i64)]) -> Result<()> {
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO callbacks (seq, job) VALUES (?1, ?2)")?;
        for (seq, job) in callbacks {
            insert.execute([seq, job])?;
        }
        Ok(())
    }

    pub(super) fn remove_callbacks_now(&self, callbacks: &[i64]) -> Result<()> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM callbacks WHERE seq = ?1")?;
        for seq in callbacks {
            delete.execute([seq])?;
        }
        Ok(())
    }

    /// Frees pages at the end of the file, as far as it was made so that this can be done.
    pub(super) fn shrink_now(&self, pages: usize) -> Result<usize> {
        let mode: i64 = self
            .connection
            .pragma_query_value(None, "auto_vacuum", |found| found.get(0))?;
        if mode != INCREMENTAL {
            return Ok(0);
        }
        let mut vacuum = self
            .connection
            .prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        // A page a row.
        let mut freed = vacuum.query([])?;
        while freed.next()?.is_some() {}
        let left: i64 = self
            .connection
            .pragma_query_value(None, "freelist_count", |found| found.get(0))?;
        Ok(usize::try_from(left).unwrap_or(0))
    }

    pub(super) fn forget_hours_now(&self, before: i64) -> Result<()> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM counters WHERE kind = ?1 AND number < ?2")?;
        for kind in [HOURS, WAIT, RUN] {
            delete.execute(params![kind, before])?;
        }
        Ok(())
    }
}
