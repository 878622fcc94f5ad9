//! What a skill keeps from one execution to the next.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Context;

/// Keys and values that are there again the next time, for this skill and the
/// tenant that it runs for. [`Context::storage`] gives it.
///
/// The host grants it (`--storage`), and a skill declares in its `skill.toml`
/// that it wants it (`[grants]`, `storage = true`). A key has 1 to 1,024 bytes;
/// how many keys and bytes there may be is a limit of the execution, which ends
/// where it is met.
///
/// ```
/// use skills_sdk::prelude::*;
///
/// /// Counts how often it was called.
/// #[tool]
/// fn visit(ctx: &Context) -> Result<i64, Failure> {
///     let storage = ctx.storage();
///     storage.set_json("last", &ctx.request_id())?;
///     Ok(storage.increment("visits", 1)?)
/// }
///
/// let ctx = skills_sdk::testing::TestContext::new();
/// assert_eq!(visit(&ctx), Ok(1));
/// assert_eq!(visit(&ctx), Ok(2));
/// # fn main() {}
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Storage<'c> {
    context: &'c Context,
}

/// Why something could not be kept or read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageError {
    /// No storage is granted.
    Denied,
    /// The value is not what it was taken for.
    Value {
        /// Of which key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host could not do it.
    Failed {
        /// What the host says.
        reason: String,
    },
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("the host grants no storage"),
            Self::Value { key, reason } => write!(f, "the value of `{key}`: {reason}"),
            Self::Failed { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for StorageError {}

impl<'c> Storage<'c> {
    pub(crate) fn new(context: &'c Context) -> Self {
        Self { context }
    }

    /// The value of a key, or `None` where it has none.
    ///
    /// # Errors
    /// Where no storage is granted, or the host cannot read it.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.context.surroundings.get_kept(key)
    }

    /// The value of a key, read as JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get), and where the value is no JSON of that type.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StorageError> {
        let Some(value) = self.get(key)? else {
            return Ok(None);
        };
        let read = serde_json::from_slice(&value);
        read.map(Some).map_err(|error| unfit(key, &error))
    }

    /// Gives a key a value, in place of the one that it may have.
    ///
    /// # Errors
    /// Where no storage is granted, the key is empty or too long, or the host
    /// cannot keep it.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), StorageError> {
        self.context.surroundings.keep(key, value.as_ref())
    }

    /// Gives a key a value, written as JSON.
    ///
    /// # Errors
    /// As [`set`](Self::set), and where the value has no JSON form.
    pub fn set_json(
        &self,
        key: &str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), StorageError> {
        self.set(
            key,
            serde_json::to_vec(value).map_err(|error| unfit(key, &error))?,
        )
    }

    /// Takes a key away, where it is there.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.context.surroundings.delete_kept(key)
    }

    /// All keys, in alphabetical order.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn keys(&self) -> Result<Vec<String>, StorageError> {
        let mut keys = self.context.surroundings.kept_keys()?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// The values of several keys, in one call to the host; `None` in the place of
    /// each that has none.
    ///
    /// # Errors
    /// As [`get`](Self::get), and where there are more than 1,000 of them.
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.context.surroundings.get_many_kept(keys)
    }

    /// Adds to a number, which is 0 where the key has no value, and gives the sum.
    /// Nobody gets between, also not another process.
    ///
    /// # Errors
    /// As [`set`](Self::set), and where the value is no number, or the sum too large.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, StorageError> {
        self.context.surroundings.increment_kept(key, delta)
    }

    /// Changes the value of a key. Where somebody else changes it meanwhile, it is
    /// done again with what is there then, so `change` may be called several times.
    ///
    /// ```
    /// # let context = skills_sdk::testing::TestContext::new();
    /// let storage = context.storage();
    /// storage.update("log", |before| {
    ///     let mut log = before.unwrap_or_default();
    ///     log.extend_from_slice(b"one more line\n");
    ///     log
    /// })?;
    /// # Ok::<(), skills_sdk::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn update(
        &self,
        key: &str,
        change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<(), StorageError> {
        self.context.surroundings.update_kept(key, change)
    }
}

fn unfit(key: &str, error: &serde_json::Error) -> StorageError {
    StorageError::Value {
        key: key.to_owned(),
        reason: error.to_string(),
    }
}
