//! What can go wrong.

use uuid::Uuid;

use super::job::JobStatus;
use super::retry::RetryError;

/// Why the queue could not do what was asked. Nothing of it was done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// A job that cannot be accepted.
    #[error("the job cannot be accepted: {0}")]
    Invalid(String),
    /// A retry policy that makes no sense.
    #[error("the retry policy cannot be accepted: {0}")]
    Retry(#[from] RetryError),
    /// There is no such job.
    #[error("there is no job {0}")]
    NotFound(Uuid),
    /// There is no such thing.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// There are as many as there may be.
    #[error("there are {most} {what} already, as many as there may be")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// The job stands where this cannot be done.
    #[error("job {id} is {status}, and cannot be {wanted}")]
    Conflict {
        /// The job.
        id: Uuid,
        /// Where it stands.
        status: JobStatus,
        /// What was wanted, as in "cannot be paused".
        wanted: &'static str,
    },
    /// The attempt is not this worker's any more: its lease expired, and the job went on without it.
    #[error("job {0} is no longer this worker's: its lease expired")]
    Stale(Uuid),
    /// The worker's lease expired; it must begin anew.
    #[error("this worker's lease expired")]
    LeaseExpired,
    /// The events after this cursor are not kept any more.
    #[error("events after {cursor} are no longer kept; the oldest is {oldest}")]
    CursorTooOld {
        /// The cursor.
        cursor: i64,
        /// The oldest event that there is.
        oldest: i64,
    },
    /// The database was made by a newer release.
    #[error(
        "the database {database} has schema version {found}, and this release knows up to {known}; use a newer release"
    )]
    TooNew {
        /// Which database.
        database: String,
        /// The version of its schema.
        found: i64,
        /// The newest version that this release knows.
        known: i64,
    },
    /// There is no room left.
    #[error(
        "the database cannot be written: {0}; nothing was changed, and it goes on once there is room"
    )]
    Full(String),
    /// The database is damaged.
    #[error("the database is damaged: {0}; keep a copy of it before you do anything")]
    Damaged(String),
    /// The file is no database of SQLite's.
    #[error("the file is no database: {0}")]
    NoDatabase(String),
    /// The database cannot be reached, opened or written now.
    #[error("the database cannot be used: {0}")]
    Unavailable(String),
    /// The queue was shut down.
    #[error("the queue is shut down")]
    Closed,
    /// Something that cannot be, was.
    #[error("internal error: {0}")]
    Internal(String),
}
