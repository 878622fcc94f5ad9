//! Stopping a check that has begun.
//!
//! The library cannot be interrupted. But it calls whoever has a keyword of their own: so each subschema is given one that
//! is always fulfilled, and that [looks](look) whether the check is to end.

use jsonschema::{Keyword, ValidationError};
use serde_json::Value;

use crate::turns::interrupt::look;

/// What each subschema is given. No schema of a skill's may have it.
pub(super) const KEYWORD: &str = "skillhost:interrupt";

/// The keyword.
pub(super) struct Look {
    work: u32,
}

impl Look {
    /// For a subschema that makes so much work (see [`Graph::with_keyword`](super::cost::Graph::with_keyword)).
    pub fn after(work: &Value) -> Self {
        let work = work.get("$comment").and_then(Value::as_str);
        let work = work.and_then(|work| work.parse::<u64>().ok());
        Look {
            work: work.map_or(1, |work| u32::try_from(work).unwrap_or(u32::MAX)),
        }
    }
}

impl<'i> Keyword<'i> for Look {
    fn validate(&self, _: &'i Value) -> Result<(), ValidationError<'i>> {
        look(self.work);
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        look(self.work);
        true
    }
}
