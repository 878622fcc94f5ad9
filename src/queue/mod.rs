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

mod dead;
mod maintenance;
mod scope;
mod statistics;
mod subscription;

mod worker;

pub use attempt::Attempt;
pub use dead::{DeadLetter, Replay, ReplayVersion};
pub use engine::submit::Submitted;
pub use error::QueueError;
pub use event::{EventBatch, JobEvent, JobEventKind};
pub use handle::{Bounds, Queue, QueueBuilder};
pub use job::{
    Callback, DEFAULT_QUEUE, Due, Job, JobStatus, Key, KeyScope, Kind, Maintenance, Mode, NewJob,
    Priority, UnknownName, Work,
};
pub use maintenance::Pruned;
pub use outcome::Outcome;
pub use retry::{MAX_ATTEMPTS, Retry, RetryCause, RetryError, RetryPolicy};
pub use scope::{RateInfo, ScopeInfo};
pub use statistics::{Counts, Statistics, Times, WorkerInfo};
pub use store::{Filter, ScopeKind};
pub use subscription::Subscription;
pub use time::{Clock, SystemClock};
pub use worker::{
    Done, Handler, HandlerFailure, Keep, Settled, Task, Worker, WorkerBuilder, WorkerError,
};
