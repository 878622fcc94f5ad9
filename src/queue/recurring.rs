//! Work that comes up again and again.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::QueueError;
use super::handle::Queue;
use super::job::Work;
use super::new_job::NewJob;
use super::policies::policy_for;
use super::prepare::{check_submitted, prepare};
use super::schedule::Schedule;
use super::store::ScheduleRow;
use super::time::{micros, moment};

type Result<T> = std::result::Result<T, QueueError>;

/// The most schedules of one tenant, and of nobody's.
pub const MAX_SCHEDULES: usize = 1_000;
/// The most bytes of a schedule's job, as JSON: 256 KiB. It is submitted again and again, and nobody asks for it then.
pub const MAX_SCHEDULED_BYTES: usize = 256 << 10;

/// A schedule, with the job that each firing submits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recurring {
    /// Its name: 1 to 64 of `a-z`, `A-Z`, `0-9`, `_`, `-` and `.`.
    pub name: String,
    /// When.
    pub schedule: Schedule,
    /// What each firing submits, as a new job with an id of its own.
    pub job: NewJob,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it fired last.
    pub last: Option<DateTime<Utc>>,
    /// When it fires next.
    pub next: Option<DateTime<Utc>>,
}

impl Queue {
    /// Adds a schedule, or replaces the one of this name. Any worker fires it, and each firing is
    /// made once, however many workers there are. A job that does not say how it is tried again is
    /// tried as the settings of its tool and queue say now.
    ///
    /// # Errors
    /// Where the name or the job cannot be accepted, the job has more than [`MAX_SCHEDULED_BYTES`], or than one may have
    /// here, the job's tenant has [`MAX_SCHEDULES`] others, or the store cannot be written.
    pub async fn put_schedule(
        &self,
        name: &str,
        schedule: Schedule,
        mut job: NewJob,
    ) -> Result<Recurring> {
        let is_name = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !is_name {
            return Err(QueueError::Invalid(format!(
                "the schedule's name {:?} is not 1 to 64 of a-z, A-Z, 0-9, _, - and .",
                crate::text::shortened(name, 100)
            )));
        }
        check_submitted(&job)?;
        if job.key.is_some() {
            return Err(QueueError::Invalid(
                "a schedule's jobs cannot share an idempotency key".to_owned(),
            ));
        }
        if job.retry.is_none() {
            job.retry = Some((*policy_for(&*self.policies().await?, &job)).clone());
        }
        let now = self.now();
        let most = self.max_job_bytes().min(MAX_SCHEDULED_BYTES);
        prepare(&job, |_| Arc::default(), most, micros(now))?;
        let json = |error: serde_json::Error| QueueError::Internal(error.to_string());
        let row = Arc::new(ScheduleRow {
            name: name.to_owned(),
            recurrence: serde_json::to_string(&schedule).map_err(json)?,
            tenant: job.tenant.clone().unwrap_or_default(),
            job: serde_json::to_string(&job).map_err(json)?,
            outline: Some(serde_json::to_string(&outline(job)).map_err(json)?),
            created: micros(now),
            last: None,
            next: schedule.next_after(now).map(micros),
        });
        let written = row.clone();
        self.write(move |rows, _| {
            let row = written.clone();
            Box::pin(async move {
                let others = rows.schedules_beside(&row.tenant, &row.name).await?;
                if others >= MAX_SCHEDULES {
                    return Ok(Err(QueueError::TooMany {
                        what: "schedules of one tenant",
                        most: MAX_SCHEDULES,
                    }));
                }
                rows.put_schedule(&row).await.map(Ok)
            })
        })
        .await??;
        recurring(&row)
    }

    /// The schedule of this name.
    ///
    /// # Errors
    /// Where there is no such schedule, or the store cannot be read.
    pub async fn schedule(&self, name: &str) -> Result<Recurring> {
        match self.reads().schedule(name).await? {
            Some(row) => recurring(&row),
            None => Err(QueueError::Unknown {
                what: "schedule",
                name: name.to_owned(),
            }),
        }
    }

    /// Schedules whose jobs are of this tenant, or every schedule, by name. What may be large of their
    /// jobs is left out: inputs, attachments, payloads. [`Queue::schedule`] has it.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn schedules(&self, tenant: Option<&str>) -> Result<Vec<Recurring>> {
        self.reads()
            .schedules(tenant)
            .await?
            .iter()
            .map(recurring)
            .collect()
    }

    /// Removes a schedule. Jobs that it submitted stay.
    ///
    /// # Errors
    /// Where there is no such schedule.
    pub async fn remove_schedule(&self, name: &str) -> Result<()> {
        let wanted: Arc<str> = name.into();
        let removed = self
            .write(move |rows, _| {
                let name = wanted.clone();
                Box::pin(async move { rows.remove_schedule(&name).await })
            })
            .await?;
        match removed {
            true => Ok(()),
            false => Err(QueueError::Unknown {
                what: "schedule",
                name: name.to_owned(),
            }),
        }
    }
}

/// A job without what may be large of it.
fn outline(mut job: NewJob) -> NewJob {
    match &mut job.work {
        Work::Execution { request } => {
            request.input = Value::Null;
            request.attachments = Vec::new();
        }
        Work::Custom { payload, .. } => *payload = Value::Null,
        _ => {}
    }
    job
}

fn recurring(row: &ScheduleRow) -> Result<Recurring> {
    let damaged = |error: serde_json::Error| {
        QueueError::Damaged(format!("the schedule `{}`: {error}", row.name))
    };
    Ok(Recurring {
        name: row.name.clone(),
        schedule: serde_json::from_str(&row.recurrence).map_err(damaged)?,
        job: serde_json::from_str(&row.job).map_err(damaged)?,
        created_at: moment(row.created),
        last: row.last.map(moment),
        next: row.next.map(moment),
    })
}
