//! Work of the embedder's own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What a handler is given.
#[derive(Clone)]
pub struct Task {
    /// The job.
    pub job: Uuid,
    /// What was submitted for the handler.
    pub payload: Value,
    /// Which attempt it is, counted from 1.
    pub attempt: u32,
    /// On whose behalf.
    pub tenant: Option<String>,
    /// The moment after which the result is of no use.
    pub deadline: Option<DateTime<Utc>>,
    /// Cancelled when the job is, or when the worker has to stop.
    pub cancellation: CancellationToken,
    pub(super) report: Arc<dyn Fn(Value) + Send + Sync>,
}

impl Task {
    /// Says how far it has come: `percent` from 0 to 100, and a few words. Only the last of what is
    /// said within a fifth of a second is kept.
    pub fn progress(&self, percent: f64, step: &str) {
        let percent = percent.clamp(0.0, 100.0);
        (self.report)(serde_json::json!({"percent": percent, "step": step}));
    }
}

/// Why a handler could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerFailure {
    /// It failed.
    Failed {
        /// Why, in a sentence.
        message: String,
        /// Whether another try may help.
        retryable: bool,
        /// How long to wait before that; a day at most.
        retry_after: Option<Duration>,
    },
    /// Not now: again so much later, no attempt used up.
    Snooze(Duration),
}

impl HandlerFailure {
    /// Another try may help.
    pub fn retryable(message: impl Into<String>) -> Self {
        HandlerFailure::Failed {
            message: message.into(),
            retryable: true,
            retry_after: None,
        }
    }

    /// Another try would end the same way.
    pub fn permanent(message: impl Into<String>) -> Self {
        HandlerFailure::Failed {
            message: message.into(),
            retryable: false,
            retry_after: None,
        }
    }
}

/// Does custom jobs. Any `async fn(Task) -> Result<Value, HandlerFailure>` is one. It must bear being
/// called again for the same job: a worker may die between doing it and writing that down.
///
/// ```
/// use skillhost::queue::{HandlerFailure, Queue, Task, Worker};
///
/// async fn greet(task: Task) -> Result<serde_json::Value, HandlerFailure> {
///     match task.payload["name"].as_str() {
///         Some(name) => Ok(serde_json::json!({"greeting": format!("hello, {name}")})),
///         None => Err(HandlerFailure::permanent("the payload has no `name`")),
///     }
/// }
///
/// # fn example(queue: Queue) {
/// let worker = Worker::builder(queue).handler("greet", greet).build();
/// # drop(worker);
/// # }
/// ```
pub trait Handler: Send + Sync {
    /// Does it.
    fn handle(
        &self,
        task: Task,
    ) -> Pin<Box<dyn Future<Output = Result<Value, HandlerFailure>> + Send>>;
}

impl<F, R> Handler for F
where
    F: Fn(Task) -> R + Send + Sync,
    R: Future<Output = Result<Value, HandlerFailure>> + Send + 'static,
{
    fn handle(
        &self,
        task: Task,
    ) -> Pin<Box<dyn Future<Output = Result<Value, HandlerFailure>> + Send>> {
        Box::pin(self(task))
    }
}
