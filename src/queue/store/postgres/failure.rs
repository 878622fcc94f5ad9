//! What PostgreSQL and the way to it refuse, and what follows from it.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::queue::error::QueueError;

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Others were in the way: the same again.
    Again,
    /// The connection is gone: the same again on another.
    Reconnect,
    /// It will not go.
    None,
}

pub(super) fn remedy(error: &Error) -> Remedy {
    let Some(code) = error.code() else {
        // What this end refuses (a value that does not fit) leaves the connection as it is; all else
        // that is not the server's word is the end of the connection.
        let local = error
            .source()
            .is_some_and(|source| source.downcast_ref::<std::io::Error>().is_none());
        return if error.is_closed() || !local {
            Remedy::Reconnect
        } else {
            Remedy::None
        };
    };
    if [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
    ]
    .contains(code)
    {
        return Remedy::Again;
    }
    let ended = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::QUERY_CANCELED,
    ];
    if ended.contains(code) || code.code().starts_with("08") {
        return Remedy::Reconnect;
    }
    Remedy::None
}

impl From<Error> for QueueError {
    fn from(error: Error) -> Self {
        let text = describe(&error);
        let Some(code) = error.code() else {
            return match remedy(&error) {
                Remedy::None => QueueError::Internal(format!("PostgreSQL: {text}")),
                _ => QueueError::Unavailable(text),
            };
        };
        if *code == SqlState::UNIQUE_VIOLATION
            && error.as_db_error().and_then(|said| said.constraint()) == Some("jobs_id_key")
        {
            return QueueError::Invalid("there is a job of the same id already".to_owned());
        }
        match &code.code()[..2] {
            // Disk full; out of memory and connections are for now, too.
            "53" if *code == SqlState::DISK_FULL => QueueError::Full(text),
            "XX" if *code != SqlState::INTERNAL_ERROR => QueueError::Damaged(text),
            // Connection, authorisation, resources, intervention, system; what others hold.
            "08" | "28" | "3D" | "40" | "53" | "55" | "57" | "58" | "25" => {
                QueueError::Unavailable(text)
            }
            "42" if *code == SqlState::INSUFFICIENT_PRIVILEGE => QueueError::Unavailable(text),
            _ => QueueError::Internal(format!("PostgreSQL: {text}")),
        }
    }
}

/// What an error says, its causes with it. The server's details are left out: they quote values.
pub(super) fn describe(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!(
            "{} (SQLSTATE {})",
            crate::text::shortened(said.message(), 300),
            said.code().code()
        );
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
