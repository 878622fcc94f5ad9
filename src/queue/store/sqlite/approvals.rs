//! Approvals.

use rusqlite::types::Value as Sql;
use rusqlite::{OptionalExtension as _, Row as SqlRow, params};
use uuid::Uuid;

use super::super::{ApprovalQuery, ApprovalRow, Result};
use super::Sqlite;
use super::rows::{limit, name, optional_uuid, uuid};
use crate::policy::Subject;
use crate::queue::time::Micros;

pub(super) const COLUMNS: &str = "id, subject, status, tenant, skill, job, asked_at, until, once, \
    decided_at, decided_by, wanted, awaited";

pub(super) fn approval(found: &SqlRow<'_>) -> rusqlite::Result<ApprovalRow> {
    Ok(ApprovalRow {
        id: uuid(found, 0)?,
        subject: Subject::from_bytes(found.get(1)?),
        status: name(found, 2)?,
        tenant: found.get(3)?,
        skill: found.get(4)?,
        job: optional_uuid(found, 5)?,
        asked: found.get(6)?,
        until: found.get(7)?,
        once: found.get(8)?,
        decided: found.get(9)?,
        decided_by: found.get(10)?,
        wanted: found.get(11)?,
        awaited: found.get(12)?,
    })
}

/// Which are wanted, and with which values.
pub(super) fn select(query: &ApprovalQuery) -> (String, Vec<Sql>) {
    let statuses: Vec<String> = query
        .status
        .iter()
        .map(|status| format!("'{status}'"))
        .collect();
    let status = match statuses.is_empty() {
        true => String::new(),
        false => format!(
            "AND CASE WHEN status <> 'used' AND until <= ?1 THEN 'expired' ELSE status END IN ({}) ",
            statuses.join(", ")
        ),
    };
    let text = |text: &Option<String>| text.clone().map_or(Sql::Null, Sql::Text);
    let id = |id: Option<Uuid>| id.map_or(Sql::Null, |id| Sql::Blob(id.as_bytes().to_vec()));
    let sql = format!(
        "SELECT {COLUMNS} FROM approvals WHERE (?2 IS NULL OR tenant = ?2) \
         AND (?3 IS NULL OR skill = ?3) AND (?4 IS NULL OR job = ?4) \
         AND (?5 IS NULL OR id < ?5) AND ?1 IS NOT NULL {status}ORDER BY id DESC LIMIT ?6"
    );
    let values = vec![
        Sql::Integer(query.now),
        text(&query.tenant),
        text(&query.skill),
        id(query.job),
        id(query.before),
        limit(query.most),
    ];
    (sql, values)
}

impl Sqlite {
    fn approvals_where(&self, condition: &str, value: &[u8]) -> Result<Vec<ApprovalRow>> {
        let sql = format!("SELECT {COLUMNS} FROM approvals WHERE {condition} ORDER BY id");
        let mut select = self.connection.prepare_cached(&sql)?;
        let found = select.query_map([value], approval)?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    pub(super) fn approval_now(&self, id: Uuid) -> Result<Option<ApprovalRow>> {
        let sql = format!("SELECT {COLUMNS} FROM approvals WHERE id = ?1");
        let mut select = self.connection.prepare_cached(&sql)?;
        Ok(select.query_row([id.as_bytes()], approval).optional()?)
    }

    pub(super) fn approvals_on_now(&self, subject: &Subject) -> Result<Vec<ApprovalRow>> {
        self.approvals_where("subject = ?1", subject.bytes())
    }

    pub(super) fn approvals_of_job_now(&self, job: Uuid) -> Result<Vec<ApprovalRow>> {
        self.approvals_where("job = ?1", job.as_bytes())
    }

    pub(super) fn put_approval_now(&self, row: &ApprovalRow) -> Result<()> {
        self.connection
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO approvals ({COLUMNS}) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
            ))?
            .execute(params![
                row.id.as_bytes(),
                row.subject.bytes(),
                row.status.as_str(),
                row.tenant,
                row.skill,
                row.job.as_ref().map(Uuid::as_bytes),
                row.asked,
                row.until,
                row.once,
                row.decided,
                row.decided_by,
                row.wanted,
                row.awaited,
            ])?;
        Ok(())
    }

    pub(super) fn pending_approvals_now(&self, tenant: &str, now: Micros) -> Result<i64> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM approvals \
                 WHERE status = 'pending' AND tenant = ?1 AND until > ?2",
            )?
            .query_row(params![tenant, now], |found| found.get(0))?)
    }

    pub(super) fn awaited_approvals_now(
        &self,
        now: Micros,
        most: usize,
    ) -> Result<Vec<ApprovalRow>> {
        let mut found = Vec::new();
        // By the index, the few that were answered and those that nobody answered apart.
        for condition in ["status IN ('approved', 'refused')", "status = 'pending'"] {
            let before = match condition.contains("pending") {
                true => now,
                false => Micros::MAX,
            };
            let mut select = self.connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM approvals WHERE awaited = 1 AND {condition} \
                 AND until <= ?1 ORDER BY until LIMIT ?2"
            ))?;
            for row in select.query_map(params![before, limit(most)], approval)? {
                found.push(row?);
            }
        }
        Ok(found)
    }

    pub(super) fn forget_approvals_now(&self, before: Micros, most: usize) -> Result<usize> {
        Ok(self
            .connection
            .prepare_cached(
                "DELETE FROM approvals WHERE id IN \
                 (SELECT id FROM approvals WHERE until < ?1 LIMIT ?2)",
            )?
            .execute(params![before, limit(most)])?)
    }
}
