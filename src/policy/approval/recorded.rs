//! Approvals whose answers are written down, through whichever door they come.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use super::{Answer, Approval, ApprovalError, ApprovalFilter, ApprovalStatus, Approvals, Wanted};
use crate::audit::{AuditError, AuditSink, Decided, Entry, What, Who};
use crate::execution::{BoxFuture, Decision};

/// The most approvals that are looked through for those that were answered together.
const MAX_ALIKE: usize = 10_000;

/// Writes each answer down that is given to other [`Approvals`].
///
/// ```
/// use std::sync::Arc;
/// use skillhost::audit::AuditSink;
/// use skillhost::policy::{Approvals, MemoryApprovals, RecordedApprovals};
///
/// # fn example(audit: Arc<dyn AuditSink>) {
/// let approvals = Arc::new(MemoryApprovals::default());
/// let approvals: Arc<dyn Approvals> = Arc::new(RecordedApprovals::new(approvals, audit));
/// # let _ = approvals;
/// # }
/// ```
#[derive(Clone)]
pub struct RecordedApprovals {
    inner: Arc<dyn Approvals>,
    audit: Arc<dyn AuditSink>,
    required: bool,
    caller: Option<Arc<str>>,
}

impl RecordedApprovals {
    /// Writes down what is answered to these.
    pub fn new(inner: Arc<dyn Approvals>, audit: Arc<dyn AuditSink>) -> Self {
        RecordedApprovals {
            inner,
            audit,
            required: false,
            caller: None,
        }
    }

    /// Says who hands these answers in: a token's id, a user of the machine. `by` is whom the answer is of.
    #[must_use]
    pub fn caller(mut self, caller: impl Into<Arc<str>>) -> Self {
        self.caller = Some(caller.into());
        self
    }

    /// Whether nothing may be answered that cannot be written down. Without this, that it could not be
    /// is told in the log.
    #[must_use]
    pub fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// Writes an answer down.
    fn record(&self, approval: &Approval) -> Result<(), AuditError> {
        let wanted = &approval.wanted;
        let until = approval.until.to_rfc3339_opts(SecondsFormat::Secs, true);
        self.audit.record(&Entry {
            who: Who {
                tenant: wanted.tenant.as_deref(),
                user: wanted.user.as_deref(),
                session: wanted.session.as_deref(),
                request: Some(wanted.request),
                caller: self.caller.as_deref(),
                ..Who::default()
            },
            what: What::ApprovalDecided(Decided {
                approval: Some(approval.id),
                job: wanted.job,
                skill: Some(&wanted.skill),
                tool: Some(&wanted.tool),
                rule: Some(&wanted.rule),
                // Whoever waited for it may have used it up already.
                decision: match approval.status {
                    ApprovalStatus::Used => ApprovalStatus::Approved.as_str(),
                    status => status.as_str(),
                },
                by: approval.decided_by.as_deref(),
                until: (!approval.once).then_some(&until),
            }),
        })
    }

    /// Writes an answer down that was given to these approvals in another way than by
    /// [`decide`](Approvals::decide): with the job that waited for it.
    ///
    /// # Errors
    /// [`ApprovalError::Audit`], where it must be written down and cannot be.
    pub fn told(&self, approval: &Approval) -> Result<(), ApprovalError> {
        match self.record(approval) {
            Ok(()) => Ok(()),
            Err(error) if self.required => Err(ApprovalError::Audit(error.to_string())),
            Err(error) => {
                tracing::error!(%error, approval = %approval.id, "an answer is not in the audit");
                Ok(())
            }
        }
    }

    /// Makes sure that an answer can be written down, where it must be.
    ///
    /// # Errors
    /// [`ApprovalError::Audit`], where it is known that it cannot.
    pub fn ready(&self) -> Result<(), ApprovalError> {
        match self.required {
            true => self.audit.ready().map_err(|error| {
                let message = format!("{error}; nothing was answered");
                ApprovalError::Audit(message)
            }),
            false => Ok(()),
        }
    }
}

impl Approvals for RecordedApprovals {
    fn ask<'a>(
        &'a self,
        wanted: Wanted,
        expires: Duration,
        max_pending: u32,
    ) -> BoxFuture<'a, Result<Answer, ApprovalError>> {
        self.inner.ask(wanted, expires, max_pending)
    }

    fn give_back(&self, id: Uuid) -> BoxFuture<'_, Result<(), ApprovalError>> {
        self.inner.give_back(id)
    }

    fn decide<'a>(
        &'a self,
        id: Uuid,
        decision: Decision,
        by: &'a str,
    ) -> BoxFuture<'a, Result<Approval, ApprovalError>> {
        Box::pin(async move {
            self.ready()?;
            let approval = self.inner.decide(id, decision, by).await?;
            self.told(&approval)?;
            if matches!(decision, Decision::For(_)) {
                // What holds for a time answers all that ask the same.
                let alike = ApprovalFilter {
                    status: vec![ApprovalStatus::Approved],
                    tenant: approval.wanted.tenant.clone(),
                    limit: Some(MAX_ALIKE),
                    ..ApprovalFilter::default()
                };
                for other in self.inner.approvals(&alike).await? {
                    if other.id != approval.id
                        && other.wanted.subject == approval.wanted.subject
                        && other.decided_at == approval.decided_at
                    {
                        self.told(&other)?;
                    }
                }
            }
            Ok(approval)
        })
    }

    fn approval(&self, id: Uuid) -> BoxFuture<'_, Result<Approval, ApprovalError>> {
        self.inner.approval(id)
    }

    fn approvals<'a>(
        &'a self,
        filter: &'a ApprovalFilter,
    ) -> BoxFuture<'a, Result<Vec<Approval>, ApprovalError>> {
        self.inner.approvals(filter)
    }

    fn answered(&self, id: Uuid) -> BoxFuture<'_, Result<Approval, ApprovalError>> {
        self.inner.answered(id)
    }

    fn forget(&self, before: DateTime<Utc>) -> BoxFuture<'_, Result<usize, ApprovalError>> {
        self.inner.forget(before)
    }

    fn now(&self) -> DateTime<Utc> {
        self.inner.now()
    }

    fn keeps_jobs(&self) -> bool {
        self.inner.keeps_jobs()
    }
}
