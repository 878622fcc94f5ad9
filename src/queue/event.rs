//! What happened to jobs, in order.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::job::names;

/// What happened to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum JobEventKind {
    /// It was submitted.
    Submitted,
    /// A worker took it.
    Started,
    /// It says how far it has come.
    Progress,
    /// It is done.
    Completed,
    /// An attempt failed, and there will be another.
    Failed,
    /// Its worker gave it back, no attempt used up.
    Released,
    /// It waits until later, no attempt used up.
    Snoozed,
    /// It waits until somebody resumes it, or says whether it may run.
    Paused,
    /// It goes on.
    Resumed,
    /// Somebody said that it may run.
    Approved,
    /// Its priority changed.
    Reprioritized,
    /// Somebody asked to cancel it while it ran.
    CancelRequested,
    /// It was cancelled.
    Cancelled,
    /// It will not be tried again by itself.
    Dead,
    /// Another job replays it.
    Replayed,
    /// It was removed.
    Discarded,
}
names!(JobEventKind, "kind of event",
    Submitted => "submitted", Started => "started", Progress => "progress",
    Completed => "completed", Failed => "failed", Released => "released", Snoozed => "snoozed",
    Paused => "paused", Resumed => "resumed", Approved => "approved",
    Reprioritized => "reprioritized", CancelRequested => "cancel_requested",
    Cancelled => "cancelled", Dead => "dead", Replayed => "replayed", Discarded => "discarded");

/// One thing that happened to one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct JobEvent {
    /// Increasing, in the order in which things became visible.
    pub id: i64,
    /// The job.
    pub job: Uuid,
    /// What happened.
    pub kind: JobEventKind,
    /// When.
    pub at: DateTime<Utc>,
    /// Which attempt, where one was going on or ended, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Details: the cause, the progress, who did it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

/// A bounded part of the event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct EventBatch {
    /// The events, in order.
    pub events: Vec<JobEvent>,
    /// Where to go on reading.
    pub cursor: i64,
    /// Whether there is more already.
    pub has_more: bool,
}
