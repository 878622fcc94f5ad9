//! What ends the waiting for something: a deadline, or somebody who cancels.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Cause, Failure, Phase};
use crate::limits::Limit;

/// When a deadline is, by the clock that waits.
pub(crate) fn moment(deadline: DateTime<Utc>) -> Instant {
    let left = (deadline - Utc::now()).to_std().unwrap_or(Duration::ZERO);
    let now = Instant::now();
    // A deadline beyond what the clock can hold is none that anybody lives to see.
    now.checked_add(left)
        .unwrap_or(now + Duration::from_secs(u32::MAX.into()))
}

/// What most wait for.
pub(crate) const TO_RUN: &str = "while it waited to run";

/// What ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    Deadline,
    Cancelled,
}

impl Stopped {
    /// The failure of a request that did not come to run; `during` says what it was waiting for, such as
    /// `while it waited to run`.
    pub fn failure(self, during: &str) -> Failure {
        let phase = Phase::Waiting;
        match self {
            Stopped::Deadline => {
                let (limit, allowed) = (Limit::Deadline, 0);
                let cause = Cause::Timeout {
                    limit,
                    allowed,
                    phase,
                };
                Failure::new(cause, format!("the request's deadline passed {during}"))
            }
            Stopped::Cancelled => {
                Failure::new(Cause::Cancelled { phase }, format!("cancelled {during}"))
            }
        }
    }
}

/// Waits until the deadline passes or somebody cancels; for ever where there is neither.
pub(crate) async fn stopped(
    deadline: Option<Instant>,
    cancellation: Option<&CancellationToken>,
) -> Stopped {
    let passed = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let cancelled = async {
        match cancellation {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = cancelled => Stopped::Cancelled,
        () = passed => Stopped::Deadline,
    }
}
