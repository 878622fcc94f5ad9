//! A durable queue of jobs: priorities, retries by cause, dead letters; in a SQLite file or in
//! PostgreSQL.

pub mod job;
pub mod retry;

mod attempt;
mod event;
mod outcome;
mod transition;

mod counters;
mod fair;
mod time;

mod error;
mod operation;
mod store;

mod engine;

mod handle;
mod prepare;

pub use attempt::Attempt;
pub use engine::submit::Submitted;
pub use error::QueueError;
pub use event::{EventBatch, JobEvent, JobEventKind};
pub use handle::{Bounds, Queue, QueueBuilder};
pub use job::{
    Callback, DEFAULT_QUEUE, Due, Job, JobStatus, Key, KeyScope, Kind, Maintenance, Mode, NewJob,
    Priority, UnknownName, Work,
};
pub use outcome::Outcome;
pub use retry::{MAX_ATTEMPTS, Retry, RetryCause, RetryError, RetryPolicy};
pub use store::{Filter, ScopeKind};
pub use time::{Clock, SystemClock};
