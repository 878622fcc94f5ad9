//! Approvals that are kept with the queue, so that any process can answer.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::engine::approve::{approval, ask, decide, give_back};
use super::error::QueueError;
use super::handle::Queue;
use super::store::ApprovalQuery;
use super::time::{micros, moment};
use crate::execution::{BoxFuture, Decision};
use crate::policy::{
    Answer, Approval, ApprovalError, ApprovalFilter, ApprovalStatus, Approvals, Wanted,
};

type Result<T> = std::result::Result<T, ApprovalError>;

/// How many are removed in one transaction.
const BATCH: usize = 500;
/// How long to wait for an answer before looking whether the question is still open.
const LOOK: Duration = Duration::from_secs(60);

impl From<QueueError> for ApprovalError {
    fn from(error: QueueError) -> Self {
        ApprovalError::Store(error.to_string())
    }
}

/// Approvals are kept in the queue's database, beside its jobs: on PostgreSQL, any process on any
/// machine can answer. An approval of a job's and the job that is paused for it are one thing: to
/// answer the one is to answer the other.
impl Approvals for Queue {
    fn ask<'a>(
        &'a self,
        wanted: Wanted,
        expires: Duration,
        max_pending: u32,
    ) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move {
            let fresh = Arc::new(Approval::new(wanted, expires, self.now()));
            self.write(move |rows, now| {
                let fresh = fresh.clone();
                Box::pin(async move { ask(rows, &fresh, max_pending, now).await })
            })
            .await?
        })
    }

    fn give_back(&self, id: Uuid) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.write(move |rows, _| Box::pin(async move { give_back(rows, id).await }))
                .await?;
            Ok(())
        })
    }

    fn decide<'a>(
        &'a self,
        id: Uuid,
        decision: Decision,
        by: &'a str,
    ) -> BoxFuture<'a, Result<Approval>> {
        let by: Arc<str> = by.into();
        Box::pin(async move {
            self.write(move |rows, now| {
                let by = by.clone();
                Box::pin(async move { decide(rows, id, decision, &by, now).await })
            })
            .await?
        })
    }

    fn approval(&self, id: Uuid) -> BoxFuture<'_, Result<Approval>> {
        Box::pin(async move {
            match self.reads().approval(id).await? {
                Some(found) => Ok(approval(found)?),
                None => Err(ApprovalError::NotFound(id)),
            }
        })
    }

    fn approvals<'a>(&'a self, filter: &'a ApprovalFilter) -> BoxFuture<'a, Result<Vec<Approval>>> {
        Box::pin(async move {
            let query = ApprovalQuery {
                status: filter.status.clone(),
                tenant: filter.tenant.clone(),
                skill: filter.skill.clone(),
                job: filter.job,
                before: filter.before,
                most: filter.most(),
                now: micros(self.now()),
            };
            let mut approvals = Vec::new();
            for found in self.reads().approvals(&query).await? {
                approvals.push(approval(found)?);
            }
            Ok(approvals)
        })
    }

    fn answered(&self, id: Uuid) -> BoxFuture<'_, Result<Approval>> {
        Box::pin(async move {
            let mut changed = self.changes();
            loop {
                changed.mark_unchanged();
                let approval = Approvals::approval(self, id).await?;
                if approval.status_at(self.now()) != ApprovalStatus::Pending {
                    return Ok(approval);
                }
                if let Ok(Err(_)) = tokio::time::timeout(LOOK, changed.changed()).await {
                    return Err(QueueError::Closed.into());
                }
            }
        })
    }

    fn forget(&self, before: DateTime<Utc>) -> BoxFuture<'_, Result<usize>> {
        let before = micros(before);
        Box::pin(async move {
            let mut count = 0;
            loop {
                let removed = self
                    .write(move |rows, _| {
                        Box::pin(async move { rows.forget_approvals(before, BATCH).await })
                    })
                    .await?;
                count += removed;
                if removed < BATCH {
                    return Ok(count);
                }
            }
        })
    }

    fn now(&self) -> DateTime<Utc> {
        // To the microsecond, as it is kept.
        moment(micros(Queue::now(self)))
    }

    fn keeps_jobs(&self) -> bool {
        true
    }
}
