//! Schedules submit jobs.

use super::super::error::QueueError;
use super::super::new_job::{Due, NewJob};
use super::super::prepare::prepare;
use super::super::schedule::{Schedule, due};
use super::super::store::{Result, Rows, ScheduleRow};
use super::super::time::{HOUR, Micros, micros, moment};
use super::submit::{Prepared, submit};

/// How many schedules fire in one transaction.
const MOST: usize = 100;
/// How many bytes of jobs they submit in one, before the others have to wait for the next: whoever else submits something
/// waits meanwhile.
const MOST_BYTES: usize = 4 << 20;

/// Submits what schedules say is to be submitted by now, of tenants in turn, of each the earliest first. Only one such transaction runs at a time,
/// so that no firing is made twice, however many workers look.
pub(crate) async fn fire(rows: &mut dyn Rows, now: Micros) -> Result<()> {
    let mut bytes = 0;
    for mut schedule in rows.due_schedules(now, MOST).await? {
        if bytes >= MOST_BYTES {
            break;
        }
        match fired(&schedule, now) {
            Ok((jobs, next)) => {
                bytes += schedule.job.len().saturating_mul(jobs.len());
                let jobs: Vec<&Prepared> = jobs.iter().collect();
                submit(rows, &jobs, now).await?;
                schedule.last = Some(now);
                schedule.next = next;
            }
            Err(error) => {
                // The others are not to wait for it.
                tracing::error!(name = schedule.name, %error, "a schedule cannot fire");
                schedule.next = Some(now + HOUR);
            }
        }
        rows.put_schedule(&schedule).await?;
    }
    Ok(())
}

/// The jobs of a schedule, and when it is to be asked again.
fn fired(row: &ScheduleRow, now: Micros) -> Result<(Vec<Prepared>, Option<Micros>)> {
    let damaged = |error: serde_json::Error| QueueError::Damaged(error.to_string());
    let schedule: Schedule = serde_json::from_str(&row.recurrence).map_err(damaged)?;
    let template: NewJob = serde_json::from_str(&row.job).map_err(damaged)?;
    let last = row.last.unwrap_or(row.created);
    let firings = due(&schedule, Some(moment(last)), moment(now));
    let jobs = firings
        .times
        .iter()
        .map(|time| {
            let job = NewJob {
                id: super::super::new_job::new_id(),
                // Its place in line is that of its time.
                due: Due::At(*time),
                schedule: Some(row.name.clone()),
                ..template.clone()
            };
            prepare(&job, |_| Default::default(), usize::MAX, now)
        })
        .collect::<Result<_>>()?;
    Ok((jobs, firings.next.map(micros)))
}
