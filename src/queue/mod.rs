//! A durable queue of jobs: priorities, retries by cause, dead letters; in a SQLite file or in
//! PostgreSQL.

pub mod job;
mod new_job;
pub mod retry;
pub mod schedule;

pub mod callback;

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
mod open;
mod policies;
mod prepare;

mod answers;
mod approvals;
mod bounds;
mod dead;
mod list;
mod maintenance;
mod measure;
#[cfg(feature = "serve")]
mod note;
mod recurring;
mod statistics;
mod subscription;
mod tenants;

mod worker;

pub use answers::{AnswerError, Answers};
pub use attempt::Attempt;
pub use bounds::{Bounds, RateInfo, ScopeInfo};
pub use dead::{DeadLetter, Replay, ReplayVersion};
pub use engine::submit::Submitted;
pub use error::QueueError;
pub use event::{EventBatch, JobEvent, JobEventKind};
pub use handle::Queue;
pub use job::{Job, JobStatus, Kind, Maintenance, Priority, UnknownName, Work};
pub use list::Page;
pub use maintenance::Pruned;
pub use new_job::{Callback, DEFAULT_QUEUE, Due, Key, KeyScope, Mode, NewJob};
#[cfg(feature = "serve")]
pub(crate) use note::Note;
pub use open::QueueBuilder;
pub use outcome::{CAUSES, Outcome};
#[cfg(feature = "serve")]
pub(crate) use prepare::{
    MAX_LABELS, MAX_NAME_CHARS, MAX_TAGS, MAX_VALUE_CHARS, check_label, has_at_most,
};
pub use recurring::{MAX_SCHEDULED_BYTES, MAX_SCHEDULES, Recurring};
pub use retry::{MAX_ATTEMPTS, Retry, RetryCause, RetryError, RetryPolicy};
pub use statistics::{Counts, Statistics, Times, WorkerInfo};
pub use store::{Filter, ScopeKind};
pub use subscription::Subscription;
pub use tenants::TenantCounts;
pub use time::{Clock, SystemClock};
pub use worker::{
    CallbackSender, Done, Handler, HandlerFailure, Keep, Settled, Task, Worker, WorkerBuilder,
    WorkerError,
};
