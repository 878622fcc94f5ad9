//! Answers for what waits for somebody's word, through whichever door they come.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::error::QueueError;
use super::handle::Queue;
use super::job::JobStatus;
use crate::audit::{AuditError, AuditSink, Decided, Entry, What, Who};
use crate::execution::Decision;
use crate::policy::{Approval, ApprovalError, ApprovalFilter, Approvals, RecordedApprovals};

/// Among how many approvals of a job those are looked for that were answered with it.
const OF_JOB: usize = 20;

/// Answers for approvals, and for jobs that wait for one, each written down where an audit is kept. Cheap
/// to clone.
///
/// ```no_run
/// use std::sync::Arc;
/// use skillhost::audit::{Audit, AuditSettings};
/// use skillhost::execution::Decision;
/// use skillhost::queue::{Answers, Queue};
///
/// # async fn example(waiting: uuid::Uuid) -> Result<(), Box<dyn std::error::Error>> {
/// let audit = Audit::open("/var/lib/my-agent/audit", AuditSettings::default())?;
/// let answers = Answers::new(Queue::open("queue.db")?).audit(Arc::new(audit), true);
/// answers.decide(waiting, Decision::Once, "alice").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Answers {
    queue: Queue,
    audit: Option<Written>,
    caller: Option<Arc<str>>,
}

#[derive(Clone)]
struct Written {
    sink: Arc<dyn AuditSink>,
    required: bool,
    approvals: RecordedApprovals,
}

/// Why jobs could not be answered for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// It must be written down, and cannot be.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
}

impl Answers {
    /// Answers for what waits in this queue, of which nothing is written down.
    pub fn new(queue: Queue) -> Self {
        Answers {
            queue,
            audit: None,
            caller: None,
        }
    }

    /// Writes each answer down here. Where it is `required`, nothing is answered that cannot be.
    #[must_use]
    pub fn audit(mut self, sink: Arc<dyn AuditSink>, required: bool) -> Self {
        let approvals = RecordedApprovals::new(Arc::new(self.queue.clone()), Arc::clone(&sink));
        self.audit = Some(Written {
            sink,
            required,
            approvals: approvals.required(required),
        });
        match self.caller.take() {
            Some(caller) => self.caller(caller),
            None => self,
        }
    }

    /// Says who hands these answers in, for what is written down: a token's id, a user of the machine. `by`
    /// is whom the answer is of.
    #[must_use]
    pub fn caller(mut self, caller: impl Into<Arc<str>>) -> Self {
        let caller = caller.into();
        self.audit = self.audit.map(|written| Written {
            approvals: written.approvals.caller(Arc::clone(&caller)),
            ..written
        });
        self.caller = Some(caller);
        self
    }

    /// Answers for an approval, and for the job that waits for it.
    ///
    /// # Errors
    /// As [`Approvals::decide`], and [`ApprovalError::Audit`].
    pub async fn decide(
        &self,
        approval: Uuid,
        decision: Decision,
        by: &str,
    ) -> Result<Approval, ApprovalError> {
        match &self.audit {
            Some(written) => written.approvals.decide(approval, decision, by).await,
            None => Approvals::decide(&self.queue, approval, decision, by).await,
        }
    }

    /// Answers for jobs, each by itself, and for the approvals that they wait for: once.
    ///
    /// # Errors
    /// As [`Queue::answer`], and [`ApprovalError::Audit`].
    pub async fn answer(
        &self,
        jobs: &[Uuid],
        approved: bool,
        by: &str,
    ) -> Result<Vec<Result<JobStatus, QueueError>>, AnswerError> {
        let Some(written) = &self.audit else {
            return Ok(self.queue.answer(jobs, approved, by).await?);
        };
        written.approvals.ready()?;
        let before = Approvals::now(&self.queue);
        let answers = self.queue.answer(jobs, approved, by).await?;
        let answered = jobs
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_ok());
        // All of them have taken effect: each is written down, whatever became of the one before.
        let mut failed = None;
        for (job, _) in answered {
            if let Err(error) = self.told_of(written, *job, approved, by, before).await {
                failed.get_or_insert(error);
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(answers),
        }
    }

    /// Writes down what was answered for a job.
    async fn told_of(
        &self,
        written: &Written,
        job: Uuid,
        approved: bool,
        by: &str,
        before: DateTime<Utc>,
    ) -> Result<(), AnswerError> {
        let of_job = ApprovalFilter {
            job: Some(job),
            limit: Some(OF_JOB),
            ..ApprovalFilter::default()
        };
        let mut told = false;
        for approval in self.queue.approvals(&of_job).await? {
            let now = approval.decided_at.is_some_and(|at| at >= before);
            if now && approval.decided_by.as_deref() == Some(by) {
                written.approvals.told(&approval)?;
                told = true;
            }
        }
        match told {
            true => Ok(()),
            false => self.told_of_job(written, job, approved, by).await,
        }
    }

    /// Writes down the answer for a job of which no approval is kept: whoever ran it asks elsewhere.
    async fn told_of_job(
        &self,
        written: &Written,
        job: Uuid,
        approved: bool,
        by: &str,
    ) -> Result<(), AnswerError> {
        let found = self.queue.job(job).await?;
        let entry = Entry {
            who: Who {
                tenant: found.tenant.as_deref(),
                caller: self.caller.as_deref(),
                ..Who::default()
            },
            what: What::ApprovalDecided(Decided {
                approval: None,
                job: Some(job),
                skill: None,
                tool: None,
                rule: None,
                decision: if approved { "approved" } else { "refused" },
                by: Some(by),
                until: None,
            }),
        };
        match written.sink.record(&entry) {
            Ok(()) => Ok(()),
            Err(error) if written.required => Err(unwritten(&error).into()),
            Err(error) => {
                tracing::error!(%error, %job, "an answer is not in the audit");
                Ok(())
            }
        }
    }
}

fn unwritten(error: &AuditError) -> ApprovalError {
    ApprovalError::Audit(error.to_string())
}
