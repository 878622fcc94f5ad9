//! What the queue does, once for every store: each operation within one transaction of [`Rows`].
//!
//! An operation that answers with an error of its own (there is no such job, it cannot be paused) has
//! written nothing, so that others in the same transaction are not lost with it.

mod absorb;
pub(crate) mod approve;
pub(crate) mod claim;
pub(crate) mod control;
pub(crate) mod fire;
pub(crate) mod keep;
pub(crate) mod lease;
pub(crate) mod settle;
pub(crate) mod submit;
pub(crate) mod tick;

use super::event::JobEventKind;
use super::job::JobStatus;
use super::store::{EventRow, Result, Row, Rows, Shared};
use super::time::Micros;
use super::transition::{Change, Standing};

pub(crate) use absorb::absorb;

/// Writes down what everybody writes: now where that is allowed, else for the next who may.
pub(crate) async fn record(rows: &mut dyn Rows, shared: Shared, now: Micros) -> Result<()> {
    if shared.is_empty() {
        return Ok(());
    }
    if rows.is_serial() {
        absorb(rows, shared, now).await
    } else {
        rows.defer(&shared).await
    }
}

/// Takes in what others put aside, all of it.
pub(crate) async fn catch_up(rows: &mut dyn Rows, now: Micros) -> Result<()> {
    while let Some(shared) = rows.take_deferred().await? {
        absorb(rows, shared, now).await?;
    }
    Ok(())
}

impl Row {
    /// Where it stands, as far as decisions need it.
    pub fn standing(&self) -> Standing {
        Standing {
            status: self.status,
            cause: self.cause.clone(),
            attempts: self.attempts,
            max_attempts: self.max_attempts,
            due: self.due,
            deadline: self.deadline,
            cancel_requested: self.cancel_requested,
            lacking_since: self.lacking_since,
        }
    }

    /// Lets it stand there.
    fn apply(&mut self, change: Change, now: Micros) {
        self.status = change.status;
        self.cause = change.cause;
        self.attempts = change.attempts;
        self.due = change.due;
        self.cancel_requested = change.cancel_requested;
        self.lacking_since = change.lacking_since;
        self.updated = now;
        if change.status.is_terminal() {
            self.completed = Some(now);
        }
    }
}

/// An event of a job that stands there now.
fn event(row: &Row, kind: JobEventKind, attempt: Option<u32>, now: Micros) -> EventRow {
    let data = match (&row.cause, row.status) {
        (Some(cause), JobStatus::Failed | JobStatus::Pending) => {
            serde_json::json!({"cause": cause, "scheduled_at": super::time::moment(row.due)})
                .to_string()
        }
        (Some(cause), _) => serde_json::json!({"cause": cause}).to_string(),
        (None, _) => String::new(),
    };
    EventRow {
        job: row.id,
        kind,
        at: now,
        attempt,
        data,
    }
}
