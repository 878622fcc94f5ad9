//! Where approvals are kept.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Answer, Approval, ApprovalStatus, Wanted};
use crate::execution::{BoxFuture, Decision};

/// Where approvals are kept: in memory ([`MemoryApprovals`](super::MemoryApprovals)), or for every
/// process (`queue::Queue`, with the feature `queue`).
pub trait Approvals: Send + Sync {
    /// Looks for what was said about a subject; where that is an approval for once, uses it up, in
    /// the same step for all processes. Where nothing was said, opens a question, at most
    /// `max_pending` for one tenant; only whoever opened it hears [`Answer::Asked`].
    ///
    /// # Errors
    /// [`ApprovalError::Full`], and where it cannot be read or written.
    fn ask<'a>(
        &'a self,
        wanted: Wanted,
        expires: Duration,
        max_pending: u32,
    ) -> BoxFuture<'a, Result<Answer, ApprovalError>>;

    /// Gives back an approval for once that was used up for a request that did not run after all.
    ///
    /// # Errors
    /// Where it cannot be written. That it is not there is none.
    fn give_back(&self, id: Uuid) -> BoxFuture<'_, Result<(), ApprovalError>>;

    /// Answers; an answer that was given can be changed as long as it holds. A job that waits for it
    /// goes on, or is dead.
    ///
    /// # Errors
    /// [`ApprovalError::NotFound`] and [`ApprovalError::Over`], and where it cannot be written.
    fn decide<'a>(
        &'a self,
        id: Uuid,
        decision: Decision,
        by: &'a str,
    ) -> BoxFuture<'a, Result<Approval, ApprovalError>>;

    /// One approval.
    ///
    /// # Errors
    /// [`ApprovalError::NotFound`], and where it cannot be read.
    fn approval(&self, id: Uuid) -> BoxFuture<'_, Result<Approval, ApprovalError>>;

    /// Approvals, the last asked for first.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn approvals<'a>(
        &'a self,
        filter: &'a ApprovalFilter,
    ) -> BoxFuture<'a, Result<Vec<Approval>, ApprovalError>>;

    /// Waits until an approval is not pending any more, in this process or another.
    ///
    /// # Errors
    /// As [`approval`](Approvals::approval).
    fn answered(&self, id: Uuid) -> BoxFuture<'_, Result<Approval, ApprovalError>>;

    /// Removes what has been over since before then, and gives how many.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn forget(&self, before: DateTime<Utc>) -> BoxFuture<'_, Result<usize, ApprovalError>>;

    /// What time it is, here.
    fn now(&self) -> DateTime<Utc>;

    /// Whether the approvals of jobs are kept here, so that what
    /// [`Control::approved`](crate::Control::approved) says is found here, too, and more exactly.
    fn keeps_jobs(&self) -> bool {
        false
    }
}

/// Which approvals are wanted. All that are named must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApprovalFilter {
    /// One of these; any where empty.
    pub status: Vec<ApprovalStatus>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this skill, by name.
    pub skill: Option<String>,
    /// Of this job.
    pub job: Option<Uuid>,
    /// Asked for before this one: where to go on with the next page.
    pub before: Option<Uuid>,
    /// At most so many; 100 unless set, and at most 10,000.
    pub limit: Option<usize>,
}

impl ApprovalFilter {
    /// How many to give.
    pub(crate) fn most(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, 10_000)
    }

    /// Whether it is wanted.
    pub(crate) fn fits(&self, approval: &Approval, now: DateTime<Utc>) -> bool {
        let is = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
        };
        (self.status.is_empty() || self.status.contains(&approval.status_at(now)))
            && is(&self.tenant, approval.wanted.tenant.as_deref())
            && is(&self.skill, Some(&approval.wanted.skill.name))
            && self.job.is_none_or(|job| approval.wanted.job == Some(job))
            && self.before.is_none_or(|before| approval.id < before)
    }
}

/// Why an approval could not be asked for, or given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalError {
    /// There is no such approval.
    #[error("there is no approval {0}")]
    NotFound(Uuid),
    /// It is used up, or its time is over.
    #[error("approval {id} is {status}, and cannot be answered any more")]
    Over {
        /// The approval.
        id: Uuid,
        /// How it stands.
        status: ApprovalStatus,
    },
    /// It was for a job, once, which has ended.
    #[error("job {job} is {status}, and cannot be approved")]
    JobEnded {
        /// The job.
        job: Uuid,
        /// Where it stands.
        status: &'static str,
    },
    /// The tenant has as many open questions as it may.
    #[error("{0} approvals are waiting for an answer already, as many as may")]
    Full(u32),
    /// It must be in the audit, which cannot be written.
    #[error("answers must be in the audit: {0}")]
    Audit(String),
    /// It cannot be kept.
    #[error("approvals cannot be kept: {0}")]
    Store(String),
}
