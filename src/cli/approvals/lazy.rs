//! Approvals whose database is opened when the first is asked for: most runs need none.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use skillhost::execution::{BoxFuture, Decision};
use skillhost::policy::{Answer, Approval, ApprovalError, ApprovalFilter, Approvals, Wanted};
use skillhost::queue::Queue;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::cli::database::{Database, DatabaseArgs};
use crate::cli::{Session, explain};

type Result<T> = std::result::Result<T, ApprovalError>;

/// Approvals in a database that is not open yet.
pub struct LazyApprovals {
    database: Database,
    queue: OnceCell<Queue>,
}

impl LazyApprovals {
    /// Those in this database.
    ///
    /// # Errors
    /// Where its name makes no sense.
    pub fn new(args: &DatabaseArgs, session: &Session) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(LazyApprovals {
            database: args.database(session)?,
            queue: OnceCell::new(),
        }))
    }

    async fn queue(&self) -> Result<&Queue> {
        self.queue
            .get_or_try_init(|| async {
                let opened = self.database.open().await;
                opened.map_err(|error| ApprovalError::Store(explain::queue(error).message))
            })
            .await
    }
}

impl Approvals for LazyApprovals {
    fn ask<'a>(
        &'a self,
        wanted: Wanted,
        expires: Duration,
        max_pending: u32,
    ) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move { self.queue().await?.ask(wanted, expires, max_pending).await })
    }

    fn give_back(&self, id: Uuid) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.queue().await?.give_back(id).await })
    }

    fn decide<'a>(
        &'a self,
        id: Uuid,
        decision: Decision,
        by: &'a str,
    ) -> BoxFuture<'a, Result<Approval>> {
        Box::pin(async move { self.queue().await?.decide(id, decision, by).await })
    }

    fn approval(&self, id: Uuid) -> BoxFuture<'_, Result<Approval>> {
        Box::pin(async move { self.queue().await?.approval(id).await })
    }

    fn approvals<'a>(&'a self, filter: &'a ApprovalFilter) -> BoxFuture<'a, Result<Vec<Approval>>> {
        Box::pin(async move { self.queue().await?.approvals(filter).await })
    }

    fn answered(&self, id: Uuid) -> BoxFuture<'_, Result<Approval>> {
        Box::pin(async move { self.queue().await?.answered(id).await })
    }

    fn forget(&self, before: DateTime<Utc>) -> BoxFuture<'_, Result<usize>> {
        Box::pin(async move { self.queue().await?.forget(before).await })
    }

    fn now(&self) -> DateTime<Utc> {
        match self.queue.get() {
            Some(queue) => Approvals::now(queue),
            None => Utc::now(),
        }
    }

    fn keeps_jobs(&self) -> bool {
        true
    }
}
