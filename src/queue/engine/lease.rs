//! What a worker writes while it works.

use std::collections::HashMap;

use uuid::Uuid;

use super::super::event::JobEventKind;
use super::super::job::JobStatus;
use super::super::store::{EventRow, Flags, Result, Row, Rows, Shared};
use super::super::time::Micros;
use super::record;

/// What is known of a running attempt.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub seq: i64,
    pub fence: i64,
    pub worker: Uuid,
    /// How far it has come, as JSON, where it says so.
    pub progress: Option<String>,
    /// What runs, under which limits and with which grants, as JSON, where that is new. It is all that is
    /// known of an attempt that nobody settles.
    pub admitted: Option<String>,
}

/// Writes down that a job's tool must not be called twice by itself. False where the job is not this
/// worker's any more.
pub(crate) async fn mark_destructive(
    rows: &mut dyn Rows,
    seq: i64,
    fence: i64,
    worker: Uuid,
) -> Result<bool> {
    let found = rows.jobs_by_seq(&[seq]).await?.into_iter().find(|row| {
        row.status == JobStatus::Running && row.fence == fence && row.worker == Some(worker)
    });
    let Some(mut row) = found else {
        return Ok(false);
    };
    row.flags = row.flags.with(Flags::DESTRUCTIVE, true);
    rows.update_jobs(&[row]).await?;
    Ok(true)
}

/// Writes down what runs and how far it has come, where jobs are still their worker's.
pub(crate) async fn report(rows: &mut dyn Rows, reports: &[Report], now: Micros) -> Result<()> {
    let seqs: Vec<i64> = reports.iter().map(|report| report.seq).collect();
    let found: HashMap<i64, Row> = rows
        .jobs_by_seq(&seqs)
        .await?
        .into_iter()
        .map(|row| (row.seq, row))
        .collect();
    let mut shared = Shared::default();
    let mut progress = Vec::new();
    let mut admissions = Vec::new();
    for report in reports {
        let Some(row) = found.get(&report.seq).filter(|row| {
            row.status == JobStatus::Running
                && row.fence == report.fence
                && row.worker == Some(report.worker)
        }) else {
            continue;
        };
        if let Some(admitted) = &report.admitted {
            admissions.push((row.seq, row.fence, admitted.clone()));
        }
        let Some(said) = &report.progress else {
            continue;
        };
        progress.push((row.seq, said.clone()));
        shared.events.push(EventRow {
            job: row.id,
            kind: JobEventKind::Progress,
            at: now,
            attempt: Some(row.attempts + 1),
            data: said.clone(),
        });
    }
    rows.put_admissions(&admissions).await?;
    rows.put_progress(&progress).await?;
    record(rows, shared, now).await
}
