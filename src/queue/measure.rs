//! For the benchmarks: one step of a worker by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::engine::claim::Wanted;
use super::engine::settle::Ending;
use super::error::QueueError;
use super::handle::{Queue, answered};
use super::operation::Operation;
use super::outcome::Outcome;
use super::retry::{Retry, RetryPolicy};
use super::store::WorkerRow;
use super::time::HOUR;

impl Queue {
    /// Takes so many jobs as a worker does, gives them back, and says how long the taking took.
    ///
    /// # Errors
    /// Where there are not so many that may start.
    #[doc(hidden)]
    pub async fn take_and_release(&self, most: usize) -> Result<Duration, QueueError> {
        let worker = Uuid::now_v7();
        self.write(move |rows, now| {
            let row = WorkerRow {
                id: worker,
                name: "benchmark".to_owned(),
                started: now,
                lease_until: now + HOUR,
            };
            Box::pin(async move { rows.put_worker(&row).await })
        })
        .await?;
        let wanted = Wanted {
            worker,
            lease: HOUR,
            most,
            ..Wanted::default()
        };
        let began = Instant::now();
        let (reply, answer) = oneshot::channel();
        self.inner.store.send(Operation::Claim(wanted, reply));
        let claimed = answered(answer).await?.rows;
        let took = began.elapsed();
        if claimed.len() != most {
            return Err(QueueError::Internal(format!(
                "{} of {most} jobs were taken",
                claimed.len()
            )));
        }
        let endings = claimed
            .into_iter()
            .map(|claimed| Ending {
                job: claimed.row.id,
                seq: claimed.row.seq,
                fence: claimed.row.fence,
                worker,
                outcome: Outcome::Released { cause: "shutdown" }.into(),
                retry: Retry::plan(RetryPolicy::default(), 0).into(),
                status: "released",
                details: "{}".into(),
                result: None,
            })
            .collect();
        let (reply, answer) = oneshot::channel();
        let endings = Arc::new(endings);
        self.inner.store.send(Operation::Settle(endings, reply));
        answered(answer).await?;
        self.write(move |rows, _| Box::pin(async move { rows.remove_worker(worker).await }))
            .await?;
        Ok(took)
    }
}
