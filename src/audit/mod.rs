//! The audit: one line of JSON for each execution, approval, change of a grant, use of a secret and
//! change of a breaker, in files that show when somebody changed them.
//!
//! Inputs and outputs are not in it, but their hashes and sizes are. The lines of one process at a
//! time stand in one *chain*: each has a hash over itself and the one before it, and the *head*, in a
//! file of its own, says how many there are. [`verify`] finds a line that was changed, removed, moved
//! or repeated, and a tail or a file that is gone.
//!
//! Whoever may write the folder can write a chain anew from its beginning; see SECURITY.md.
//!
//! Modules, in the order in which to read them:

mod entry;
mod line;

mod chain;
mod head;

mod folder;
mod tail;

mod log;
mod take;
mod writing;

mod read;

mod explain;
mod finding;
mod verify;

mod guard;
mod hashing;

pub use entry::{Approved, Change, Decided, Entry, Hashed, Heard, Secret, What, Who};
pub use finding::{ChainReport, Finding, FindingKind, Verification};
pub use folder::{AuditError, is_in};
pub use guard::{Audited, refused, settle};
pub use hashing::{hashed_input, hashed_output};
pub use log::{Audit, AuditSettings};
pub use read::{Filter, Kind, Record, read};
pub use verify::verify;

/// What keeps an audit.
///
/// [`Audit`] keeps it in files; an embedder may send it elsewhere.
pub trait AuditSink: Send + Sync {
    /// Writes an entry down. Called on the path of every execution: be quick.
    ///
    /// # Errors
    /// Where it could not be written.
    fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError>;

    /// Whether entries can be written, as far as that is known without writing one. After one could
    /// not be, this is where it is tried again.
    ///
    /// # Errors
    /// Where it is known that they cannot.
    fn ready(&self) -> Result<(), AuditError> {
        Ok(())
    }
}
