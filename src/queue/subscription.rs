//! Events as they come.

use tokio::sync::watch;

use super::error::QueueError;
use super::event::EventBatch;
use super::handle::Queue;

/// The most events of one batch.
const BATCH: usize = 1_000;

/// Events from a cursor on: first those that are there, then those that come, with no gap and no
/// repeat in between.
pub struct Subscription {
    queue: Queue,
    changed: watch::Receiver<u64>,
    cursor: i64,
}

impl Queue {
    /// Follows the events after a cursor; 0 is before the first.
    ///
    /// ```no_run
    /// # async fn example(queue: skillhost::queue::Queue) -> Result<(), skillhost::queue::QueueError> {
    /// let mut events = queue.subscribe(queue.last_event().await?);
    /// loop {
    ///     for event in events.next().await?.events {
    ///         println!("{} {} {}", event.id, event.job, event.kind);
    ///     }
    /// }
    /// # }
    /// ```
    pub fn subscribe(&self, after: i64) -> Subscription {
        Subscription {
            changed: self.changes(),
            queue: self.clone(),
            cursor: after,
        }
    }
}

impl Subscription {
    /// The last event that was given: where to go on later.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// The next events: at least one, and at most 1,000. Waits until there are some.
    ///
    /// # Errors
    /// Where events after the cursor are no longer kept, or the store cannot be read.
    pub async fn next(&mut self) -> Result<EventBatch, QueueError> {
        loop {
            self.changed.mark_unchanged();
            let batch = self.queue.events(self.cursor, BATCH).await?;
            self.cursor = batch.cursor;
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            if self.changed.changed().await.is_err() {
                return Err(QueueError::Closed);
            }
        }
    }
}
