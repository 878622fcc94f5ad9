//! What goes in and what comes out: [`ExecutionRequest`], [`ExecutionResult`], [`Failure`], the
//! trait [`Execute`], and the events on the way.

mod ask;
mod event;
mod execute;
mod failure;
mod ran;
mod request;
mod result;
mod scrub;
mod waiting;

pub use ask::{ApprovalTimeError, Ask, Decision, Question};
pub use event::{Event, Level, Observer, Progress};
pub use execute::{Admission, BoxFuture, Control, Execute, HostError, Resolution};
pub use failure::{Cause, Failure, Fault, Frame, Phase, Rejection};
pub(crate) use failure::{MAX_MISSING, MAX_RETRY_AFTER_MS, RAISE_IT};
#[cfg(feature = "queue")]
pub(crate) use ran::Ran;
pub(crate) use request::is_much_with;
pub use request::{Attachment, ExecutionRequest};
pub use result::{Clamped, ExecutionResult, SkillIdentity, Status};
pub(crate) use waiting::{Stopped, TO_RUN, moment, stopped};
