//! One try at a job.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// One try at a job, that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which try, counted from 1. One that was not used up has the number of the next.
    pub attempt: u32,
    /// Whether it was used up.
    pub counted: bool,
    /// Who tried.
    pub worker: Uuid,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// How it ended: a [`Status`](crate::Status) of an execution, `success` or `failed` for a
    /// handler, or `released`, `snoozed`, `worker_lost`.
    pub status: String,
    /// What else is known: `failure`, `usage`, `limits`, `grants` and `skill`, whose digest is the
    /// one that ran.
    #[serde(flatten)]
    pub details: Value,
}

impl Attempt {
    /// What went wrong, as whoever submitted the job may hear it: where the host was broken, without what broke it,
    /// which may name files of the host's. That is in [`details`](Self::details), for the operator.
    #[must_use]
    pub fn told_failure(&self) -> Option<Value> {
        let mut failure = self.details.get("failure")?.clone();
        let is_broken = failure["fault"] == "host"
            && matches!(failure["kind"].as_str(), None | Some("host_error"));
        if is_broken {
            failure["message"] = "the host is broken; its log says why".into();
        }
        (!failure.is_null()).then_some(failure)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_file_of_a_broken_host_is_told() {
        let of = |details| Attempt {
            attempt: 1,
            counted: false,
            worker: Uuid::nil(),
            started_at: DateTime::UNIX_EPOCH,
            ended_at: DateTime::UNIX_EPOCH,
            status: "released".to_owned(),
            details,
        };
        for (failure, is_told) in [
            (
                json!({"fault": "host", "message": "`/srv/storage.db`"}),
                false,
            ),
            (
                json!({"fault": "host", "kind": "host_error", "message": "`/srv/storage.db`"}),
                false,
            ),
            (
                json!({"fault": "host", "kind": "host_panic", "message": "a panic"}),
                true,
            ),
            (
                json!({"fault": "skill", "kind": "trap", "message": "a trap"}),
                true,
            ),
            (json!({"message": "given back: stopping"}), true),
        ] {
            let told = of(json!({"failure": failure})).told_failure();
            let told = told.expect("it failed");
            assert_eq!(told == failure, is_told, "{told}");
            assert!(!told.to_string().contains("storage.db"), "{told}");
        }
        assert_eq!(of(json!({"failure": null})).told_failure(), None);
        assert_eq!(of(json!({"usage": {}})).told_failure(), None);
    }
}
