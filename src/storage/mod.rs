//! What skills keep: keys and values, for each skill and tenant, in one SQLite file.
//!
//! Kept under a skill's *name*, and not its digest: what it keeps must outlive its updates. Whether a
//! digest gets at what is kept under its name is a matter of consent, like every other grant.

#[cfg(feature = "storage")]
mod database;
#[cfg(feature = "storage")]
mod entries;
#[cfg(feature = "storage")]
mod turns;

#[cfg(not(feature = "storage"))]
mod absent;

use std::sync::Arc;
use std::time::Instant;

use crate::limits::{Limit, Limits};

#[cfg(not(feature = "storage"))]
pub(crate) use absent::Storage;
#[cfg(feature = "storage")]
pub(crate) use database::Storage;

/// The longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 1_024;
/// The most keys that one call names. One call at a time writes, so that this bounds how long others wait.
pub(crate) const MAX_BATCH_KEYS: usize = 1_000;
/// The longest name of a bucket, in bytes.
pub(crate) const MAX_BUCKET_BYTES: usize = 64;
/// The bucket that is meant where none is named.
pub(crate) const DEFAULT_BUCKET: &str = "default";

/// Whose data it is, how much of it there may be, and how long there is time to get at it.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub skill: Arc<str>,
    pub tenant: Option<Arc<str>>,
    pub quota: Quota,
    pub deadline: Instant,
}

/// How much one owner may keep, in all buckets together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub keys: u64,
    /// Of keys and values together.
    pub bytes: u64,
    /// Of one value.
    pub value_bytes: u64,
    /// Of values that are read at once.
    pub read_bytes: u64,
}

impl Quota {
    pub fn new(limits: &Limits) -> Self {
        Quota {
            keys: limits.storage_keys,
            bytes: limits.storage_bytes,
            value_bytes: limits.storage_value_bytes,
            read_bytes: limits.host_bytes,
        }
    }
}

/// A place for a value.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub bucket: Arc<str>,
    pub key: String,
}

/// One page of keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub keys: Vec<String>,
    /// The key behind which the next one begins.
    pub next: Option<String>,
}

/// What tells one state of a key from every other; `None` where it is not there.
pub(crate) type Version = Option<i64>;

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StorageError {
    #[error("the {limit} limit of {allowed} was met")]
    Quota {
        limit: Limit,
        allowed: u64,
        asked: u64,
    },
    #[error("the key is empty, or longer than {MAX_KEY_BYTES} bytes")]
    Key,
    #[error("one call may name {MAX_BATCH_KEYS} keys, and this one names {0}")]
    TooManyKeys(usize),
    #[error("the value is no whole number")]
    NotANumber,
    #[error("the sum is too large for a number of 64 bits")]
    Overflow,
    #[error("the time is up")]
    TimeIsUp,
    /// For now, or for this one. What is wrong is for the operator, who finds it in the log.
    #[error("the host's storage cannot be used")]
    Broken,
    /// The file cannot be used by anybody: what is wrong with it, for the operator alone.
    #[error("the host's storage cannot be used: {0}")]
    Unusable(String),
}

/// Whether a text can be the name of a bucket: 1 to 64 letters, digits, `-`, `_` and `.`.
pub(crate) fn is_bucket(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_BUCKET_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

/// Whether a text can be a key.
pub(crate) fn check_key(key: &str) -> Result<(), StorageError> {
    match (1..=MAX_KEY_BYTES).contains(&key.len()) {
        true => Ok(()),
        false => Err(StorageError::Key),
    }
}
