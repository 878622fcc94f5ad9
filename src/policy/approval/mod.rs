//! Approval: what runs only once somebody has said that it may.
//!
//! Rules of the policy allow, ask or deny; the first that matches holds, and where none does, a request
//! is allowed. An approval names one [`Subject`]: exactly this skill by its digest, this tool, this
//! input with its attachments, this tenant and these grants. It holds once, or for a time, and cannot
//! be used for anything else.
//!
//! Modules, in the order in which to read them:

mod rules;
mod subject;

mod record;
mod store;

mod memory;
mod recorded;

mod said;

mod guard;
mod unasked;

pub use guard::Approving;
pub use memory::MemoryApprovals;
pub use record::{Answer, Approval, ApprovalStatus, Attached, UnknownStatus, Wanted};
pub use recorded::RecordedApprovals;
pub use rules::{Action, ApprovalPolicy, ApprovalRule};
pub use store::{ApprovalError, ApprovalFilter, Approvals};
pub use subject::Subject;

#[cfg_attr(not(feature = "queue"), allow(unused_imports))]
pub(crate) use record::{Step, decided, step};
pub(super) use rules::{Place, check, span};
pub(super) use unasked::Unasked;
