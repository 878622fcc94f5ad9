//! One try at a job.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// One try at a job, that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which try, counted from 1. One that was not used up has the number of the next.
    pub attempt: u32,
    /// Whether it was used up.
    pub counted: bool,
    /// Who tried.
    pub worker: Uuid,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// How it ended: a [`Status`](crate::Status) of an execution, `success` or `failed` for a
    /// handler, or `released`, `snoozed`, `worker_lost`.
    pub status: String,
    /// What else is known: `failure`, `usage`, `limits`, `grants` and `skill`, whose digest is the
    /// one that ran.
    #[serde(flatten)]
    pub details: Value,
}
