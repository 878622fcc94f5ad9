//! Keeping the queue in order.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::engine::keep::{Removal, Removed, prune};
use super::engine::tick::tick;
use super::error::QueueError;
use super::handle::Queue;
use super::job::Maintenance;
use super::statistics::KEPT_HOURS;
use super::time::{HOUR, Micros, micros, span};
use super::worker::Keep;
use crate::policy::Approvals as _;

type Result<T> = std::result::Result<T, QueueError>;

/// How many are removed in one transaction, so that nobody waits long for it.
const BATCH: usize = 500;
/// How many pages of a file are given back in one transaction.
const PAGES: usize = 1_000;
/// How often whoever waits looks at the clock.
const LOOK: Duration = Duration::from_secs(1);
/// How long approvals are kept that are over.
const APPROVALS: chrono::TimeDelta = chrono::TimeDelta::days(30);

/// How much was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Jobs, with their attempts and results.
    pub jobs: usize,
    /// Events.
    pub events: usize,
}

impl Queue {
    /// Removes what ended longer ago than is to be kept.
    ///
    /// # Errors
    /// Where the store cannot be written. What was removed before that stays removed.
    pub async fn prune(&self, keep: Keep) -> Result<Pruned> {
        let now = micros(self.now());
        let before = |age: Option<Duration>| age.map(|age| now.saturating_sub(span(age)));
        let removal = Removal {
            completed: before(keep.completed),
            dead: before(keep.dead),
            events: before(keep.events),
            hours: Some(now - Micros::from(KEPT_HOURS) * HOUR),
        };
        let mut pruned = Pruned::default();
        loop {
            let Removed { jobs, events, keys } = self
                .write(move |rows, now| {
                    Box::pin(async move { prune(rows, removal, BATCH, now).await })
                })
                .await?;
            pruned.jobs += jobs;
            pruned.events += events;
            if jobs < BATCH && events < BATCH && keys < BATCH {
                let over = self.now() - APPROVALS;
                if let Err(error) = self.forget(over).await {
                    tracing::warn!(%error, "old approvals cannot be removed");
                }
                return Ok(pruned);
            }
        }
    }

    /// Waits until this moment has come by the queue's clock (where it has already, a second), and ends all
    /// that has waited past its deadline, as workers do from time to time. For whoever waits for a job with
    /// a deadline where no worker may run, as [`Queue::wait`] does. Without a moment, it waits for ever.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn expire(&self, deadline: Option<DateTime<Utc>>) -> Result<()> {
        let Some(deadline) = deadline else {
            return std::future::pending().await;
        };
        let left = || (deadline - self.now()).to_std().ok();
        let mut wait = left().unwrap_or(LOOK);
        loop {
            // Another clock than the system's may go at another pace.
            tokio::time::sleep(wait.clamp(Duration::from_millis(1), LOOK)).await;
            match left() {
                Some(left) if !left.is_zero() => wait = left,
                _ => break,
            }
        }
        self.write(|rows, now| Box::pin(async move { tick(rows, now).await }))
            .await
            .map(drop)
    }

    /// Does a maintenance task, and says what was done.
    pub(super) async fn maintain(&self, task: &Maintenance) -> Result<Value> {
        match task {
            Maintenance::Prune {
                completed_after_s,
                dead_after_s,
            } => {
                let pruned = self
                    .prune(Keep {
                        completed: completed_after_s.map(Duration::from_secs),
                        dead: dead_after_s.map(Duration::from_secs),
                        events: None,
                    })
                    .await?;
                Ok(json!({"jobs": pruned.jobs}))
            }
            Maintenance::Vacuum => {
                let mut left = usize::MAX;
                loop {
                    let now_left = self
                        .write(|rows, _| Box::pin(async move { rows.shrink(PAGES).await }))
                        .await?;
                    // What others free meanwhile is for the next time.
                    if now_left == 0 || now_left >= left {
                        break;
                    }
                    left = now_left;
                }
                self.inner.store.vacuum().await?;
                Ok(json!({}))
            }
            Maintenance::Rescue => {
                let mut rescued = 0;
                loop {
                    let ticked = self
                        .write(|rows, now| Box::pin(async move { tick(rows, now).await }))
                        .await?;
                    rescued += ticked.rescued;
                    if !ticked.more {
                        return Ok(json!({"rescued": rescued}));
                    }
                }
            }
        }
    }
}
