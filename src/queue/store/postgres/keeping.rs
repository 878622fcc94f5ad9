//! Schedules, policies, and what is removed in the end.

use tokio_postgres::Row as SqlRow;

use super::super::{Flags, PolicyRow, Result, Row, ScheduleRow};
use super::rows::{COLUMNS, column, limit};
use super::transaction::{Value, Writing};
use crate::queue::counters::{HOURS, RUN, WAIT};
use crate::queue::error::QueueError;
use crate::queue::job::JobStatus;
use crate::queue::time::Micros;

pub(super) const SCHEDULE: &str = "name, recurrence, tenant, job, outline, created, last, next";
/// As [`SCHEDULE`], with the outline in the place of the job.
pub(super) const OUTLINE: &str =
    "name, recurrence, tenant, coalesce(outline, job), NULL::text, created, last, next";

pub(super) fn schedule(found: &SqlRow) -> Result<ScheduleRow> {
    Ok(ScheduleRow {
        name: found.try_get(0)?,
        recurrence: found.try_get(1)?,
        tenant: found.try_get(2)?,
        job: found.try_get(3)?,
        outline: found.try_get(4)?,
        created: found.try_get(5)?,
        last: found.try_get(6)?,
        next: found.try_get(7)?,
    })
}

impl Writing<'_> {
    pub(super) async fn put_policy_now(&mut self, policy: &PolicyRow) -> Result<()> {
        let with: Vec<Value> = vec![
            Box::new(policy.kind.clone()),
            Box::new(policy.name.clone()),
            Box::new(policy.policy.clone()),
        ];
        self.send(
            "INSERT INTO policies (kind, name, policy) VALUES ($1, $2, $3) \
             ON CONFLICT (kind, name) DO UPDATE SET policy = excluded.policy",
            with,
        )
        .await
    }

    pub(super) async fn remove_policy_now(&mut self, kind: &str, name: &str) -> Result<bool> {
        self.wrote = true;
        let removed = self
            .query(
                "DELETE FROM policies WHERE kind = $1 AND name = $2 RETURNING 1",
                &[&kind, &name],
            )
            .await?;
        Ok(!removed.is_empty())
    }

    pub(super) async fn put_schedule_now(&mut self, schedule: &ScheduleRow) -> Result<()> {
        let with: Vec<Value> = vec![
            Box::new(schedule.name.clone()),
            Box::new(schedule.recurrence.clone()),
            Box::new(schedule.tenant.clone()),
            Box::new(schedule.job.clone()),
            Box::new(schedule.outline.clone()),
            Box::new(schedule.created),
            Box::new(schedule.last),
            Box::new(schedule.next),
        ];
        self.send(
            "INSERT INTO schedules (name, recurrence, tenant, job, outline, created, last, next) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO UPDATE \
             SET recurrence = excluded.recurrence, tenant = excluded.tenant, \
             job = excluded.job, outline = excluded.outline, \
             created = excluded.created, last = excluded.last, next = excluded.next",
            with,
        )
        .await
    }

    pub(super) async fn schedules_beside_now(&mut self, tenant: &str, name: &str) -> Result<usize> {
        let found = self
            .query(
                "SELECT count(*) FROM schedules WHERE tenant = $1 AND name <> $2",
                &[&tenant, &name],
            )
            .await?;
        let count: i64 = match found.first() {
            Some(row) => self.get(row, 0)?,
            None => 0,
        };
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    pub(super) async fn remove_schedule_now(&mut self, name: &str) -> Result<bool> {
        self.wrote = true;
        let removed = self
            .query(
                "DELETE FROM schedules WHERE name = $1 RETURNING 1",
                &[&name],
            )
            .await?;
        Ok(!removed.is_empty())
    }

    pub(super) async fn due_schedules_now(
        &mut self,
        now: Micros,
        most: usize,
    ) -> Result<Vec<ScheduleRow>> {
        let sql = format!(
            "SELECT {SCHEDULE} FROM (SELECT name AS one, next AS due, \
             row_number() OVER (PARTITION BY tenant ORDER BY next, name) AS turn \
             FROM schedules WHERE next IS NOT NULL AND next <= $1 \
             ORDER BY turn, due LIMIT $2) AS chosen JOIN schedules ON name = one ORDER BY turn, due"
        );
        let found = self.query(&sql, &[&now, &limit(most)]).await?;
        found.iter().map(schedule).collect()
    }

    pub(super) async fn ended_now(
        &mut self,
        statuses: &[JobStatus],
        before: Micros,
        most: usize,
    ) -> Result<Vec<Row>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE status = $1 AND completed_at IS NOT NULL \
             AND completed_at < $2 \
             AND (flags & {} = 0 OR NOT EXISTS (SELECT FROM callbacks WHERE job = jobs.seq)) \
             ORDER BY completed_at, seq LIMIT $3 FOR UPDATE OF jobs",
            Flags::CALLBACK.0
        );
        let mut ended = Vec::new();
        for status in statuses {
            let left = limit(most.saturating_sub(ended.len()));
            let found = self
                .query(&sql, &[&status.as_str(), &before, &left])
                .await?;
            ended.extend(self.rows(&found)?);
        }
        Ok(ended)
    }

    pub(super) async fn forget_events_now(&mut self, before: Micros, most: usize) -> Result<usize> {
        self.wrote = true;
        let found = self
            .query(
                // From the first on without a gap, also where a clock was set back.
                "WITH first AS (SELECT id, at FROM events ORDER BY id LIMIT $2), \
                 gone AS (DELETE FROM events WHERE id IN (SELECT id FROM first) AND id < \
                 coalesce((SELECT min(id) FROM first WHERE at >= $1), 9223372036854775807) \
                 RETURNING 1) SELECT count(*) FROM gone",
                &[&before, &limit(most)],
            )
            .await?;
        let gone: i64 = match found.first() {
            Some(row) => self.get(row, 0)?,
            None => 0,
        };
        usize::try_from(gone)
            .map_err(|_| QueueError::Internal("fewer than no events were removed".to_owned()))
    }

    pub(super) async fn forget_keys_now(&mut self, now: Micros, most: usize) -> Result<usize> {
        self.wrote = true;
        let gone = self
            .query(
                "DELETE FROM keys WHERE (tenant, \"key\") IN (SELECT tenant, \"key\" FROM keys \
                 WHERE until <= $1 AND (tenant, \"key\") IN (SELECT tenant, \"key\" FROM keys \
                 WHERE until <= $1 ORDER BY until LIMIT $2) \
                 ORDER BY tenant COLLATE \"C\", \"key\" COLLATE \"C\" FOR UPDATE) RETURNING 1",
                &[&now, &limit(most)],
            )
            .await?;
        Ok(gone.len())
    }

    pub(super) async fn insert_callbacks_now(&mut self, callbacks: &[(i64, i64)]) -> Result<()> {
        let with = vec![
            column!(callbacks, |callback| callback.0),
            column!(callbacks, |callback| callback.1),
        ];
        self.send(
            "INSERT INTO callbacks (seq, job) SELECT * FROM unnest($1::bigint[], $2::bigint[])",
            with,
        )
        .await
    }

    pub(super) async fn remove_callbacks_now(&mut self, callbacks: &[i64]) -> Result<()> {
        self.send(
            "DELETE FROM callbacks WHERE seq = ANY($1::bigint[])",
            vec![column!(callbacks, |callback| *callback)],
        )
        .await
    }

    pub(super) async fn forget_hours_now(&mut self, before: i64) -> Result<()> {
        let with: Vec<Value> = vec![Box::new(vec![HOURS, WAIT, RUN]), Box::new(before)];
        self.send(
            "DELETE FROM counters WHERE kind = ANY($1::text[]) AND number < $2",
            with,
        )
        .await
    }
}
