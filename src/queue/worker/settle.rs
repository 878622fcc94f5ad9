//! Attempts that ended are settled, many together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::engine::settle::Ending;
use super::super::error::QueueError;
use super::super::handle::{Queue, answered};
use super::super::job::JobStatus;
use super::super::operation::Operation;
use super::Settled;

/// An attempt that came to its end, and is to be settled.
pub(super) struct Ended {
    pub ending: Ending,
    pub broken: Option<String>,
    /// What is told of it, where somebody hears it.
    pub told: Option<Box<Settled>>,
}

/// Attempts that were settled, or could not be.
pub(super) struct Written {
    /// In this order.
    pub endings: Arc<Vec<Ending>>,
    pub told: Vec<Option<Box<Settled>>>,
    pub settled: Vec<Result<JobStatus, QueueError>>,
}

/// What went wrong, by the details of an attempt.
pub(super) fn message(details: &str) -> Option<String> {
    let details: serde_json::Value = serde_json::from_str(details).ok()?;
    Some(details.get("failure")?.get("message")?.as_str()?.to_owned())
}

/// Settles attempts, however long it takes until that can be written.
pub(super) async fn settle(
    queue: &Queue,
    endings: &Arc<Vec<Ending>>,
) -> Vec<Result<JobStatus, QueueError>> {
    let mut wait = Duration::from_millis(20);
    loop {
        let (reply, answer) = oneshot::channel();
        let asked = Operation::Settle(endings.clone(), reply);
        queue.inner.store.send(asked);
        match answered(answer).await {
            Ok(settled) => return settled,
            Err(error @ (QueueError::Full(_) | QueueError::Unavailable(_))) => {
                tracing::warn!(%error, attempts = endings.len(), "they cannot be settled yet");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(2));
            }
            Err(error) if endings.len() <= 1 => return vec![Err(error)],
            // One of them spoilt it for the others.
            Err(_) => break,
        }
    }
    let mut settled = Vec::with_capacity(endings.len());
    for ending in endings.iter() {
        let alone = Arc::new(vec![ending.clone()]);
        settled.extend(Box::pin(settle(queue, &alone)).await);
    }
    settled
}
