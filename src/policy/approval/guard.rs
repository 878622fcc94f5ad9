//! An [`Execute`] that asks before it executes what the rules say is to be asked about.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::{CurrentPolicy, Policy};
use super::{
    Action, Answer, Approval, ApprovalError, ApprovalPolicy, ApprovalStatus, Approvals,
    RecordedApprovals, Wanted,
};
use crate::audit::{Approved, AuditSink, Entry, What, Who};
use crate::execution::{
    Admission, Ask, BoxFuture, Cause, Control, Execute, ExecutionRequest, ExecutionResult, Failure,
    HostError, Phase, Question, Rejection, Resolution, Status,
};
use crate::limits::Limit;

/// When to try again where as many questions are open as may be.
const FULL: TimeDelta = TimeDelta::minutes(1);

/// Asks before another [`Execute`] runs what the rules ask about.
///
/// It stands around whatever bounds executions, so that a request that waits for an answer takes up
/// nobody's place; a request that is then not admitted gives its approval back.
///
/// ```
/// use std::sync::Arc;
/// use skillhost::policy::guard::Guards;
/// use skillhost::policy::{Approving, MemoryApprovals};
///
/// # fn example(host: skillhost::Host) {
/// let policy = host.current_policy().clone();
/// let approvals = Arc::new(MemoryApprovals::default());
/// let guards = Guards::new(policy.clone())
///     .approval(move |inner| Arc::new(Approving::new(inner, policy, approvals)));
/// let guarded = guards.around(Arc::new(host));
/// # let _ = guarded;
/// # }
/// ```
pub struct Approving {
    inner: Arc<dyn Execute>,
    store: Arc<dyn Approvals>,
    policy: CurrentPolicy,
    ask: Option<Arc<dyn Ask>>,
    audit: Option<Arc<dyn AuditSink>>,
}

/// What follows for a request.
enum Ruling {
    /// It may run; this was used up for it.
    Run(Option<Uuid>),
    Not(Failure),
}

impl Approving {
    /// Asks before this executes what the policy says is to be asked about, and keeps the answers there.
    /// Without a policy, everything is allowed.
    pub fn new(inner: Arc<dyn Execute>, policy: CurrentPolicy, store: Arc<dyn Approvals>) -> Self {
        Approving {
            inner,
            store,
            policy,
            ask: None,
            audit: None,
        }
    }

    /// Asks this where a request does not say who is to be asked.
    #[must_use]
    pub fn ask(mut self, ask: Arc<dyn Ask>) -> Self {
        self.ask = Some(ask);
        self
    }

    /// Writes down what is asked, and what is answered here.
    #[must_use]
    pub fn audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.store = Arc::new(RecordedApprovals::new(self.store, Arc::clone(&audit)));
        self.audit = Some(audit);
        self
    }

    /// Whether something may be asked or denied, and by which policy.
    fn rules(&self) -> Option<Arc<Policy>> {
        let policy = self.policy.load();
        policy
            .as_ref()
            .filter(|policy| !policy.approval.allows_all())
            .cloned()
    }

    fn record(&self, who: Who<'_>, what: What<'_>) {
        if let Some(audit) = &self.audit
            && let Err(error) = audit.record(&Entry { who, what })
        {
            // The execution itself is what a required audit rejects.
            tracing::warn!(%error, "an approval is not in the audit");
        }
    }

    async fn rule_on(
        &self,
        policy: &ApprovalPolicy,
        request: &ExecutionRequest,
        resolution: &Resolution,
        control: &Control,
    ) -> Ruling {
        let (action, rule) = policy.decide(resolution, request.tenant.as_deref());
        let title = rule.map(|(number, rule)| rule.title(number));
        let Some(title) = title else {
            return Ruling::Run(None);
        };
        match action {
            Action::Allow => Ruling::Run(None),
            Action::Deny => {
                let message = format!("not admitted: {title} denies it");
                Ruling::Not(rejected(Rejection::Refused, None, message, title, None))
            }
            Action::Ask if control.approved && !self.store.keeps_jobs() => Ruling::Run(None),
            Action::Ask => match self
                .asked(policy, request, resolution, control, &title)
                .await
            {
                Ok(ruling) => ruling,
                Err(ApprovalError::Full(most)) => {
                    let message = format!(
                        "not admitted: it needs an approval, and {most} wait for an answer already"
                    );
                    let again = self.store.now().checked_add_signed(FULL);
                    Ruling::Not(rejected(Rejection::Approval, again, message, title, None))
                }
                Err(error) => {
                    let message = format!("not admitted: it needs an approval, and {error}");
                    let again = self.store.now().checked_add_signed(FULL);
                    Ruling::Not(rejected(Rejection::Approval, again, message, title, None))
                }
            },
        }
    }

    async fn asked(
        &self,
        policy: &ApprovalPolicy,
        request: &ExecutionRequest,
        resolution: &Resolution,
        control: &Control,
        title: &str,
    ) -> Result<Ruling, ApprovalError> {
        let wanted = Wanted::new(request, resolution, title.to_owned(), control.job);
        let first = self.look(policy, &wanted).await?;
        let Answer::Pending(approval) = first else {
            return Ok(self.ruled(first, title));
        };
        if approval.wanted.request == request.request_id {
            self.record(
                Who::of(request),
                What::ApprovalAsked(Approved {
                    approval: approval.id,
                    skill: &resolution.skill,
                    tool: &resolution.tool().name,
                    subject: &approval.wanted.subject.to_string(),
                    rule: title,
                }),
            );
        }
        // A job is paused instead, so that it holds up no worker.
        if control.job.is_some() {
            return Ok(self.ruled(Answer::Pending(approval), title));
        }
        match self
            .wait(policy, request, resolution, control, &approval)
            .await?
        {
            Waited::Stopped(failure) => Ok(Ruling::Not(failure)),
            Waited::Answered => Ok(self.ruled(self.look(policy, &wanted).await?, title)),
            Waited::Over => Ok(self.ruled(Answer::Pending(approval), title)),
        }
    }

    async fn look(
        &self,
        policy: &ApprovalPolicy,
        wanted: &Wanted,
    ) -> Result<Answer, ApprovalError> {
        self.store
            .ask(wanted.clone(), policy.expires, policy.max_pending)
            .await
    }

    /// Waits for an answer: of whoever is asked here, or from elsewhere.
    async fn wait(
        &self,
        policy: &ApprovalPolicy,
        request: &ExecutionRequest,
        resolution: &Resolution,
        control: &Control,
        approval: &Approval,
    ) -> Result<Waited, ApprovalError> {
        let ask = control.ask.as_ref().or(self.ask.as_ref());
        if ask.is_none() && policy.wait.is_zero() {
            return Ok(Waited::Over);
        }
        let question = Question {
            approval: approval.id,
            skill: &resolution.skill,
            tool: resolution.tool(),
            request,
            rule: &approval.wanted.rule,
            until: approval.until,
        };
        let here = async {
            match ask {
                Some(ask) => match ask.ask(question).await {
                    Some(decision) => Some((decision, ask.who().to_owned())),
                    // From elsewhere, if anybody waits for that.
                    None if policy.wait.is_zero() => None,
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        let patience = match ask {
            // Whoever is asked here has as long as the question is open.
            Some(_) => (approval.until - self.store.now())
                .to_std()
                .unwrap_or_default(),
            None => policy.wait,
        };
        tokio::select! {
            biased;
            () = stopped(control.cancellation.as_ref()) => {
                let cause = Cause::Cancelled { phase: Phase::Waiting };
                Ok(Waited::Stopped(Failure::new(cause, "cancelled while it waited for an approval")))
            }
            () = passed(request.deadline) => {
                let cause = Cause::Timeout {
                    limit: Limit::Deadline,
                    allowed: 0,
                    phase: Phase::Waiting,
                };
                let message = "the deadline passed while it waited for an approval";
                Ok(Waited::Stopped(Failure::new(cause, message)))
            }
            elsewhere = self.store.answered(approval.id) => elsewhere.map(|_| Waited::Answered),
            decision = here => match decision {
                Some((decision, by)) => {
                    self.store.decide(approval.id, decision, &by).await?;
                    Ok(Waited::Answered)
                }
                None => Ok(Waited::Over),
            },
            () = tokio::time::sleep(patience) => Ok(Waited::Over),
        }
    }

    fn ruled(&self, answer: Answer, title: &str) -> Ruling {
        let title = title.to_owned();
        match answer {
            Answer::Approved(approval) => Ruling::Run(approval.once.then_some(approval.id)),
            Answer::Refused(approval) => {
                let by = approval.decided_by.as_deref().unwrap_or("somebody");
                let by = crate::text::printable(by, false);
                let message = format!("not admitted: {by} refused it");
                let id = Some(approval.id);
                Ruling::Not(rejected(Rejection::Refused, None, message, title, id))
            }
            Answer::Pending(approval) => {
                let id = approval.id;
                let message = format!("not admitted: {title} asks for an approval of it");
                let failure = rejected(Rejection::Approval, None, message, title, Some(id));
                Ruling::Not(failure.hint(format!(
                    "`skillhost approvals approve {id}` approves it, once; then try again"
                )))
            }
        }
    }
}

enum Waited {
    Answered,
    /// Nobody answered in time.
    Over,
    Stopped(Failure),
}

fn rejected(
    reason: Rejection,
    retry_at: Option<DateTime<Utc>>,
    message: String,
    rule: String,
    approval: Option<Uuid>,
) -> Failure {
    Failure {
        rule: Some(rule),
        approval,
        ..Failure::new(Cause::Rejected { reason, retry_at }, message)
    }
}

async fn stopped(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn passed(deadline: Option<DateTime<Utc>>) {
    match deadline {
        Some(deadline) => {
            let left = (deadline - Utc::now()).to_std().unwrap_or(Duration::ZERO);
            tokio::time::sleep(left).await;
        }
        None => std::future::pending().await,
    }
}

impl Execute for Approving {
    fn execute<'a>(
        &'a self,
        mut request: ExecutionRequest,
        mut control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        let Some(policy) = self.rules() else {
            return self.inner.execute(request, control);
        };
        Box::pin(async move {
            let resolution = match control.resolve(&*self.inner, &mut request).await {
                Ok(resolution) => resolution.clone(),
                // What is not known cannot be approved, and so must not run.
                Err(failure) => return Ok(control.refuse(request, None, failure)),
            };
            let ruling = self
                .rule_on(&policy.approval, &request, &resolution, &control)
                .await;
            let used = match ruling {
                Ruling::Run(used) => used,
                Ruling::Not(failure) => return Ok(control.refuse(request, None, failure)),
            };
            let ended = self.inner.execute(request, control).await;
            if let Some(id) = used
                && let Ok(result) = &ended
                && result.status == Status::Rejected
                && let Err(error) = self.store.give_back(id).await
            {
                tracing::warn!(%error, "an approval that was not needed is used up");
            }
            ended
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.inner.resolve(request)
    }

    /// Says as well what a rule says. Nobody is asked, and no approval is used up.
    fn can_execute(&self, request: &ExecutionRequest) -> Admission {
        let mut admission = self.inner.can_execute(request);
        if admission.refusal.is_none()
            && let Some(policy) = self.rules()
            && let Ok(resolution) = self.inner.resolve(request)
        {
            let (action, rule) = policy
                .approval
                .decide(&resolution, request.tenant.as_deref());
            let title = rule.map(|(number, rule)| rule.title(number));
            admission.refusal = match (action, title) {
                (Action::Deny, Some(title)) => {
                    let message = format!("not admitted: {title} denies it");
                    Some(rejected(Rejection::Refused, None, message, title, None))
                }
                (Action::Ask, Some(title)) => {
                    let message = format!("not admitted yet: {title} asks for an approval of it");
                    Some(rejected(Rejection::Approval, None, message, title, None))
                }
                _ => None,
            };
        }
        admission
    }

    fn ready<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, ()> {
        self.inner.ready(request)
    }

    fn is_destructive(&self, request: &ExecutionRequest) -> bool {
        self.inner.is_destructive(request)
    }
}

impl ApprovalStatus {
    /// Whether it can still be answered, or an answer be changed.
    pub fn is_open(self) -> bool {
        !matches!(self, ApprovalStatus::Used | ApprovalStatus::Expired)
    }
}
