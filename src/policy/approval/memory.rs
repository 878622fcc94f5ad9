//! Approvals of one process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Answer, Approval, ApprovalError, ApprovalFilter, ApprovalStatus, Approvals, Step, Wanted,
    decided, step,
};
use crate::execution::{BoxFuture, Decision};

type Result<T> = std::result::Result<T, ApprovalError>;

/// The most approvals that are kept; of more, those that are over go first.
const MAX_KEPT: usize = 100_000;

/// Approvals in memory: gone with the process, and known to no other. Cheap to clone; every clone is
/// the same.
#[derive(Clone)]
pub struct MemoryApprovals {
    inner: Arc<Inner>,
}

struct Inner {
    kept: Mutex<Vec<Approval>>,
    changed: watch::Sender<u64>,
    clock: Box<dyn Fn() -> DateTime<Utc> + Send + Sync>,
}

impl Default for MemoryApprovals {
    fn default() -> Self {
        MemoryApprovals::with_clock(Utc::now)
    }
}

impl std::fmt::Debug for MemoryApprovals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryApprovals")
            .field("kept", &self.lock().len())
            .finish_non_exhaustive()
    }
}

impl MemoryApprovals {
    /// Told the time by this.
    pub fn with_clock(clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        MemoryApprovals {
            inner: Arc::new(Inner {
                kept: Mutex::default(),
                changed: watch::Sender::new(0),
                clock: Box::new(clock),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Approval>> {
        self.inner
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.inner
            .changed
            .send_modify(|generation| *generation = generation.wrapping_add(1));
    }

    fn ask_now(&self, wanted: Wanted, expires: Duration, max_pending: u32) -> Result<Answer> {
        let now = self.now();
        let mut kept = self.lock();
        let same: Vec<usize> = (0..kept.len())
            .filter(|index| kept[*index].wanted.subject == wanted.subject)
            .collect();
        let found: Vec<Approval> = same.iter().map(|index| kept[*index].clone()).collect();
        match step(&found, wanted.job, now) {
            Step::Use(index) => {
                let approval = &mut kept[same[index]];
                if approval.once {
                    approval.status = ApprovalStatus::Used;
                }
                Ok(Answer::Approved(found[index].clone()))
            }
            Step::Refused(index) => Ok(Answer::Refused(found[index].clone())),
            Step::Pending(index) => Ok(Answer::Pending(found[index].clone())),
            Step::New => {
                let open = kept.iter().filter(|other| {
                    other.wanted.tenant == wanted.tenant
                        && other.status_at(now) == ApprovalStatus::Pending
                });
                if open.count() >= max_pending as usize {
                    return Err(ApprovalError::Full(max_pending));
                }
                if kept.len() >= MAX_KEPT {
                    kept.retain(|other| !is_over(other, now));
                }
                if kept.len() >= MAX_KEPT {
                    return Err(ApprovalError::Store("there are too many".to_owned()));
                }
                let approval = Approval::new(wanted, expires, now);
                kept.push(approval.clone());
                Ok(Answer::Pending(approval))
            }
        }
    }

    fn find(&self, id: Uuid) -> Result<Approval> {
        let kept = self.lock();
        let found = kept.iter().find(|approval| approval.id == id).cloned();
        found.ok_or(ApprovalError::NotFound(id))
    }
}

fn is_over(approval: &Approval, now: DateTime<Utc>) -> bool {
    matches!(
        approval.status_at(now),
        ApprovalStatus::Used | ApprovalStatus::Expired
    )
}

impl Approvals for MemoryApprovals {
    fn ask<'a>(
        &'a self,
        wanted: Wanted,
        expires: Duration,
        max_pending: u32,
    ) -> BoxFuture<'a, Result<Answer>> {
        let answer = self.ask_now(wanted, expires, max_pending);
        self.tell();
        Box::pin(std::future::ready(answer))
    }

    fn give_back(&self, id: Uuid) -> BoxFuture<'_, Result<()>> {
        for approval in self.lock().iter_mut().filter(|approval| approval.id == id) {
            if approval.status == ApprovalStatus::Used {
                approval.status = ApprovalStatus::Approved;
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn decide<'a>(
        &'a self,
        id: Uuid,
        decision: Decision,
        by: &'a str,
    ) -> BoxFuture<'a, Result<Approval>> {
        let now = self.now();
        let mut kept = self.lock();
        let answer = match kept.iter_mut().find(|approval| approval.id == id) {
            None => Err(ApprovalError::NotFound(id)),
            Some(approval) => match decided(approval, decision, by, now) {
                Some(after) => {
                    *approval = after.clone();
                    Ok(after)
                }
                None => Err(ApprovalError::Over {
                    id,
                    status: approval.status_at(now),
                }),
            },
        };
        drop(kept);
        self.tell();
        Box::pin(std::future::ready(answer))
    }

    fn approval(&self, id: Uuid) -> BoxFuture<'_, Result<Approval>> {
        Box::pin(std::future::ready(self.find(id)))
    }

    fn approvals<'a>(&'a self, filter: &'a ApprovalFilter) -> BoxFuture<'a, Result<Vec<Approval>>> {
        let now = self.now();
        let kept = self.lock();
        let found = kept
            .iter()
            .rev()
            .filter(|approval| filter.fits(approval, now));
        let found = found.take(filter.most()).cloned().collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn answered(&self, id: Uuid) -> BoxFuture<'_, Result<Approval>> {
        let mut changed = self.inner.changed.subscribe();
        Box::pin(async move {
            loop {
                changed.mark_unchanged();
                let approval = self.find(id)?;
                if approval.status_at(self.now()) != ApprovalStatus::Pending {
                    return Ok(approval);
                }
                if changed.changed().await.is_err() {
                    return Ok(approval);
                }
            }
        })
    }

    fn forget(&self, before: DateTime<Utc>) -> BoxFuture<'_, Result<usize>> {
        let mut kept = self.lock();
        let count = kept.len();
        kept.retain(|approval| {
            let used = approval.status == ApprovalStatus::Used;
            let since = match approval.decided_at {
                Some(at) if used => at,
                _ => approval.until,
            };
            since >= before
        });
        Box::pin(std::future::ready(Ok(count - kept.len())))
    }

    fn now(&self) -> DateTime<Utc> {
        (self.inner.clock)()
    }
}
