//! Approvals.

use tokio_postgres::Row as SqlRow;
use uuid::Uuid;

use super::super::{ApprovalQuery, ApprovalRow, Result};
use super::read::Pool;
use super::rows::{limit, name};
use super::transaction::{Value, Writing};
use crate::policy::Subject;
use crate::queue::error::QueueError;
use crate::queue::time::Micros;

const COLUMNS: &str = "id, subject, status, tenant, skill, job, asked_at, until, once, \
    decided_at, decided_by, wanted, awaited";

fn approval(found: &SqlRow) -> Result<ApprovalRow> {
    let subject: &[u8] = found.try_get(1)?;
    let subject: [u8; 32] = subject
        .try_into()
        .map_err(|_| QueueError::Damaged("an approval is bound to nothing".to_owned()))?;
    Ok(ApprovalRow {
        id: found.try_get(0)?,
        subject: Subject::from_bytes(subject),
        status: name(found, 2)?,
        tenant: found.try_get(3)?,
        skill: found.try_get(4)?,
        job: found.try_get(5)?,
        asked: found.try_get(6)?,
        until: found.try_get(7)?,
        once: found.try_get(8)?,
        decided: found.try_get(9)?,
        decided_by: found.try_get(10)?,
        wanted: found.try_get(11)?,
        awaited: found.try_get(12)?,
    })
}

/// Reads those that are wanted.
pub(super) async fn list(pool: &Pool, query: &ApprovalQuery) -> Result<Vec<ApprovalRow>> {
    let statuses: Vec<&str> = query.status.iter().map(|status| status.as_str()).collect();
    let sql = format!(
        "SELECT {COLUMNS} FROM approvals WHERE ($2::text IS NULL OR tenant = $2) \
         AND ($3::text IS NULL OR skill = $3) AND ($4::uuid IS NULL OR job = $4) \
         AND ($5::uuid IS NULL OR id < $5) AND (cardinality($7::text[]) = 0 \
         OR CASE WHEN status <> 'used' AND until <= $1 THEN 'expired' ELSE status END = ANY($7)) \
         ORDER BY id DESC LIMIT $6"
    );
    let rows = pool
        .query(
            &sql,
            &[
                &query.now,
                &query.tenant,
                &query.skill,
                &query.job,
                &query.before,
                &limit(query.most),
                &statuses,
            ],
        )
        .await?;
    rows.iter().map(approval).collect()
}

/// Reads one.
pub(super) async fn one(pool: &Pool, id: Uuid) -> Result<Option<ApprovalRow>> {
    let sql = format!("SELECT {COLUMNS} FROM approvals WHERE id = $1");
    pool.query(&sql, &[&id])
        .await?
        .first()
        .map(approval)
        .transpose()
}

impl Writing<'_> {
    pub(super) async fn approval_now(&mut self, id: Uuid) -> Result<Option<ApprovalRow>> {
        let sql = format!("SELECT {COLUMNS} FROM approvals WHERE id = $1");
        self.query(&sql, &[&id])
            .await?
            .first()
            .map(approval)
            .transpose()
    }

    pub(super) async fn approvals_on_now(&mut self, subject: &Subject) -> Result<Vec<ApprovalRow>> {
        let sql = format!("SELECT {COLUMNS} FROM approvals WHERE subject = $1 ORDER BY id");
        let subject: &[u8] = subject.bytes();
        self.query(&sql, &[&subject])
            .await?
            .iter()
            .map(approval)
            .collect()
    }

    pub(super) async fn approvals_of_job_now(&mut self, job: Uuid) -> Result<Vec<ApprovalRow>> {
        let sql = format!("SELECT {COLUMNS} FROM approvals WHERE job = $1 ORDER BY id");
        self.query(&sql, &[&job])
            .await?
            .iter()
            .map(approval)
            .collect()
    }

    pub(super) async fn put_approval_now(&mut self, row: &ApprovalRow) -> Result<()> {
        let with: Vec<Value> = vec![
            Box::new(row.id),
            Box::new(row.subject.bytes().to_vec()),
            Box::new(row.status.as_str()),
            Box::new(row.tenant.clone()),
            Box::new(row.skill.clone()),
            Box::new(row.job),
            Box::new(row.asked),
            Box::new(row.until),
            Box::new(row.once),
            Box::new(row.decided),
            Box::new(row.decided_by.clone()),
            Box::new(row.wanted.clone()),
            Box::new(row.awaited),
        ];
        self.send(
            &format!(
                "INSERT INTO approvals ({COLUMNS}) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
                 ON CONFLICT (id) DO UPDATE SET status = excluded.status, until = excluded.until, \
                 once = excluded.once, awaited = excluded.awaited, \
                 wanted = excluded.wanted, decided_at = excluded.decided_at, \
                 decided_by = excluded.decided_by"
            ),
            with,
        )
        .await
    }

    pub(super) async fn pending_approvals_now(&mut self, tenant: &str, now: Micros) -> Result<i64> {
        let found = self
            .query(
                "SELECT count(*) FROM approvals \
                 WHERE status = 'pending' AND tenant = $1 AND until > $2",
                &[&tenant, &now],
            )
            .await?;
        match found.first() {
            Some(row) => self.get(row, 0),
            None => Ok(0),
        }
    }

    pub(super) async fn awaited_approvals_now(
        &mut self,
        now: Micros,
        most: usize,
    ) -> Result<Vec<ApprovalRow>> {
        let sql = format!(
            "(SELECT {COLUMNS} FROM approvals WHERE awaited AND status IN ('approved', 'refused') \
             ORDER BY until LIMIT $2) UNION ALL \
             (SELECT {COLUMNS} FROM approvals WHERE awaited AND status = 'pending' \
             AND until <= $1 ORDER BY until LIMIT $2)"
        );
        self.query(&sql, &[&now, &limit(most)])
            .await?
            .iter()
            .map(approval)
            .collect()
    }

    pub(super) async fn forget_approvals_now(
        &mut self,
        before: Micros,
        most: usize,
    ) -> Result<usize> {
        self.wrote = true;
        let gone = self
            .query(
                "DELETE FROM approvals WHERE id IN \
                 (SELECT id FROM approvals WHERE until < $1 LIMIT $2) RETURNING 1",
                &[&before, &limit(most)],
            )
            .await?;
        Ok(gone.len())
    }
}
