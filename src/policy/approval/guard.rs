//! An [`Execute`] that asks before it executes what the rules say is to be asked about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{SecondsFormat, TimeDelta};
use uuid::Uuid;

use super::super::CurrentPolicy;
use super::said::{Decided, Said, allowed, rejected};
use super::{
    Answer, Approval, ApprovalError, ApprovalPolicy, Approvals, RecordedApprovals, Wanted,
};
use crate::audit::{Approved, AuditSink, Entry, What, Who};
use crate::execution::{
    Admission, Ask, BoxFuture, Control, Event, Execute, ExecutionRequest, ExecutionResult, Failure,
    HostError, Observer, Question, Rejection, Resolution, moment, stopped,
};
use crate::limits::LimitOverrides;

/// When to try again where as many questions are open as may be.
const FULL: TimeDelta = TimeDelta::minutes(1);

/// Asks before another [`Execute`] runs what the rules ask about.
///
/// It stands around whatever bounds executions, so that a request that waits for an answer takes up
/// nobody's place. A request that ends, or is dropped, before [`Event::Started`] was told of it gives its
/// approval back.
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
    /// The store, where what is answered is written down.
    recorded: Option<RecordedApprovals>,
}

/// What follows for a request.
enum Ruling {
    /// It may run, with this approval where there is one.
    Run(Option<Box<Approval>>),
    Not(Box<Failure>),
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
            recorded: None,
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
        let recorded = RecordedApprovals::new(self.store, Arc::clone(&audit));
        self.store = Arc::new(recorded.clone());
        self.recorded = Some(recorded);
        self.audit = Some(audit);
        self
    }

    /// Whether anything may be asked or denied.
    fn has_rules(&self) -> bool {
        Decided::may_be(&self.policy)
    }

    fn decide(&self, resolution: &Resolution, tenant: Option<&str>) -> Option<Decided> {
        Decided::of(&self.policy, resolution, tenant)
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
        decided: &Decided,
        request: &ExecutionRequest,
        resolution: &Resolution,
        control: &Control,
    ) -> Ruling {
        if decided.denied {
            return Ruling::Not(Box::new(decided.denial()));
        }
        if control.approved && !self.store.keeps_jobs() {
            return Ruling::Run(None);
        }
        let (policy, title) = (&decided.policy.approval, &decided.title);
        let asked = self.asked(policy, request, resolution, control, title);
        let message = match asked.await {
            Ok(ruling) => return ruling,
            Err(ApprovalError::Full(most)) => {
                format!("not admitted: it needs an approval, and {most} wait for an answer already")
            }
            Err(error) => format!("not admitted: it needs an approval, and {error}"),
        };
        let again = self.store.now().checked_add_signed(FULL);
        let title = title.clone();
        Ruling::Not(Box::new(rejected(
            Rejection::Approval,
            again,
            message,
            title,
            None,
        )))
    }

    async fn asked(
        &self,
        policy: &ApprovalPolicy,
        request: &ExecutionRequest,
        resolution: &Resolution,
        control: &Control,
        title: &str,
    ) -> Result<Ruling, ApprovalError> {
        // Nobody is bothered about what would not be admitted whatever is answered.
        let hopeless = tokio::select! {
            biased;
            stopped = stopped(None, control.cancellation.as_ref()) => {
                Some(stopped.failure("before an approval was asked for"))
            }
            hopeless = self.inner.hopeless(request) => hopeless,
        };
        if let Some(refusal) = hopeless {
            return Ok(Ruling::Not(Box::new(refusal)));
        }
        let wanted = Wanted::new(request, resolution, title.to_owned(), control.job);
        if let Some(denied) = self.denied(resolution, request) {
            return Ok(denied);
        }
        let first = self.look(policy, &wanted, control).await?;
        let (Answer::Asked(approval) | Answer::Pending(approval)) = first else {
            return Ok(ruled(first, title, control.job));
        };
        // A job is paused instead, so that it holds up no worker.
        if control.job.is_some() {
            return Ok(ruled(Answer::Pending(approval), title, control.job));
        }
        match self
            .wait(policy, request, resolution, control, &approval)
            .await?
        {
            Waited::Stopped(failure) => Ok(Ruling::Not(failure)),
            Waited::Answered => {
                // Before an approval is used up: the rules of meanwhile hold.
                if let Some(denied) = self.denied(resolution, request) {
                    return Ok(denied);
                }
                let answer = self.look(policy, &wanted, control).await?;
                Ok(ruled(answer, title, None))
            }
            Waited::Over => Ok(ruled(Answer::Pending(approval), title, None)),
        }
    }

    /// What follows where a rule denies it by now, whatever the rules said when it came.
    fn denied(&self, resolution: &Resolution, request: &ExecutionRequest) -> Option<Ruling> {
        let decided = self.decide(resolution, request.tenant.as_deref())?;
        decided
            .denied
            .then(|| Ruling::Not(Box::new(decided.denial())))
    }

    /// Looks for what was said, and writes it down where that opens a question.
    async fn look(
        &self,
        policy: &ApprovalPolicy,
        wanted: &Wanted,
        control: &Control,
    ) -> Result<Answer, ApprovalError> {
        let asked = self
            .store
            .ask(wanted.clone(), policy.expires, policy.max_pending);
        let answer = asked.await?;
        if let Answer::Asked(approval) = &answer {
            self.record(
                Who {
                    tenant: wanted.tenant.as_deref(),
                    user: wanted.user.as_deref(),
                    session: wanted.session.as_deref(),
                    request: Some(wanted.request),
                    caller: control.caller.as_deref(),
                    job: control.job,
                },
                What::ApprovalAsked(Approved {
                    approval: approval.id,
                    skill: &wanted.skill,
                    tool: &wanted.tool,
                    subject: &wanted.subject.to_string(),
                    rule: &wanted.rule,
                }),
            );
        }
        Ok(answer)
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
        if ask.is_some_and(|ask| ask.asks_afterwards()) || (ask.is_none() && policy.wait.is_zero())
        {
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
                    // From elsewhere, as long as one waits where nobody is asked here.
                    None => {
                        tokio::time::sleep(policy.wait).await;
                        None
                    }
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
            stopped = stopped(request.deadline.map(moment), control.cancellation.as_ref()) => {
                let failure = stopped.failure("while it waited for an approval");
                Ok(Waited::Stopped(Box::new(failure)))
            }
            elsewhere = self.store.answered(approval.id) => elsewhere.map(|_| Waited::Answered),
            decision = here => match decision {
                Some((decision, by)) => {
                    // Whoever is asked here answers where the request came from.
                    match (&self.recorded, &control.caller) {
                        (Some(recorded), Some(caller)) => {
                            let recorded = recorded.clone().caller(Arc::clone(caller));
                            recorded.decide(approval.id, decision, &by).await?
                        }
                        _ => self.store.decide(approval.id, decision, &by).await?,
                    };
                    Ok(Waited::Answered)
                }
                None => Ok(Waited::Over),
            },
            () = tokio::time::sleep(patience) => Ok(Waited::Over),
        }
    }
}

/// What follows from an answer for a request, or for this job.
fn ruled(answer: Answer, title: &str, job: Option<Uuid>) -> Ruling {
    let title = title.to_owned();
    match answer {
        Answer::Approved(approval) => Ruling::Run(Some(Box::new(approval))),
        Answer::Refused(approval) => {
            let by = approval.decided_by.as_deref().unwrap_or("somebody");
            let by = crate::text::printable(by, false);
            let message = format!("not admitted: {by} refused it");
            let id = Some(approval.id);
            let failure = rejected(Rejection::Refused, None, message, title, id);
            Ruling::Not(Box::new(failure.hint(taken_back(&approval))))
        }
        Answer::Asked(approval) | Answer::Pending(approval) => {
            let id = approval.id;
            let message = format!("not admitted: {title} asks for an approval of it");
            let failure = rejected(Rejection::Approval, None, message, title, Some(id));
            // A job is paused, and goes on when the answer comes.
            let then = match job {
                Some(_) => "the job goes on by itself",
                None => "try again",
            };
            Ruling::Not(Box::new(failure.hint(format!(
                "`skillhost approvals approve {id}` approves it, once; then {then}"
            ))))
        }
    }
}

/// What takes a refusal back, and until when it holds. What is said of a job, once, is for that job alone,
/// which is dead by then.
fn taken_back(refused: &Approval) -> String {
    let (id, until) = (refused.id, refused.until);
    let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
    let how = match refused.wanted.job {
        Some(_) => " --for 1h",
        None => "",
    };
    format!("that holds until {until}; `skillhost approvals approve {id}{how}` takes it back")
}

/// An approval for once that was used up for a request which has not started yet. Given back where it is
/// dropped so.
struct Used {
    store: Arc<dyn Approvals>,
    id: Uuid,
    started: Arc<Started>,
}

/// Hears whether a request starts.
struct Started {
    yes: AtomicBool,
    next: Option<Arc<dyn Observer>>,
}

impl Observer for Started {
    fn observe(&self, request_id: Uuid, event: &Event<'_>) {
        if matches!(event, Event::Started) {
            self.yes.store(true, Ordering::Release);
        }
        if let Some(next) = &self.next {
            next.observe(request_id, event);
        }
    }

    fn admits(&self, request_id: Uuid, event: &Event<'_>) -> bool {
        let next = self.next.as_ref();
        next.is_none_or(|next| next.admits(request_id, event))
    }
}

impl Used {
    /// From now on, what starts is heard.
    fn watch(store: &Arc<dyn Approvals>, id: Uuid, control: &mut Control) -> Self {
        let started = Arc::new(Started {
            yes: AtomicBool::new(false),
            next: control.observer.take(),
        });
        control.observer = Some(Arc::clone(&started) as Arc<dyn Observer>);
        Used {
            store: Arc::clone(store),
            id,
            started,
        }
    }

    /// It has ended, and whoever waits for that finds the approval as it then is.
    async fn settle(self) {
        if self.is_needless() {
            give_back(&*self.store, self.id).await;
            // Not once more.
            self.started.yes.store(true, Ordering::Release);
        }
    }

    fn is_needless(&self) -> bool {
        !self.started.yes.load(Ordering::Acquire)
    }
}

async fn give_back(store: &dyn Approvals, id: Uuid) {
    if let Err(error) = store.give_back(id).await {
        tracing::warn!(%error, "an approval that was not needed is used up");
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        if !self.is_needless() {
            return;
        }
        let (store, id) = (Arc::clone(&self.store), self.id);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { give_back(&*store, id).await })),
            Err(_) => tracing::warn!("an approval that was not needed is used up: nothing runs"),
        }
    }
}

enum Waited {
    Answered,
    /// Nobody answered in time.
    Over,
    Stopped(Box<Failure>),
}

impl Execute for Approving {
    fn execute<'a>(
        &'a self,
        mut request: ExecutionRequest,
        mut control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        if Said::is_nothing(&self.policy) {
            return self.inner.execute(request, control);
        }
        // Most are looked up already and may run, which takes no future of its own.
        let said = control
            .resolution(&request)
            .map(|resolution| Said::of(&self.policy, resolution, request.tenant.as_deref()));
        match said {
            Some(Said::Nothing) => return self.inner.execute(request, control),
            Some(Said::Allowed(rule)) => {
                allowed(&control, &request, &rule, None);
                return self.inner.execute(request, control);
            }
            Some(Said::Not(_)) | None => {}
        }
        Box::pin(async move {
            let resolution = match control.resolve(&*self.inner, &mut request).await {
                Ok(resolution) => resolution,
                // What is not known cannot be approved, and so must not run.
                Err(failure) => return Ok(control.refuse(request, None, failure)),
            };
            let decided = match Said::of(&self.policy, resolution, request.tenant.as_deref()) {
                Said::Nothing => return self.inner.execute(request, control).await,
                Said::Allowed(rule) => {
                    allowed(&control, &request, &rule, None);
                    return self.inner.execute(request, control).await;
                }
                Said::Not(decided) => decided,
            };
            let resolution = resolution.clone();
            let ruling = Box::pin(self.rule_on(&decided, &request, &resolution, &control)).await;
            let approval = match ruling {
                Ruling::Run(approval) => approval,
                Ruling::Not(failure) => return Ok(control.refuse(request, None, *failure)),
            };
            let id = approval.as_ref().map(|approval| approval.id);
            allowed(&control, &request, &decided.title, id);
            let used = match approval {
                Some(approval) if approval.once => {
                    Used::watch(&self.store, approval.id, &mut control)
                }
                _ => return self.inner.execute(request, control).await,
            };
            let ended = self.inner.execute(request, control).await;
            used.settle().await;
            ended
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.inner.resolve(request)
    }

    /// Says as well what a rule says. Nobody is asked, and no approval is used up.
    fn can_execute_within(&self, request: &ExecutionRequest, limits: &LimitOverrides) -> Admission {
        let mut admission = self.inner.can_execute_within(request, limits);
        if admission.refusal.is_none()
            && self.has_rules()
            && let Ok(resolution) = self.inner.resolve(request)
            && let Some(decided) = self.decide(&resolution, request.tenant.as_deref())
        {
            admission.refusal = Some(match decided.denied {
                true => decided.denial(),
                false => decided.unasked(format!(
                    "not admitted yet: {} asks for an approval of it",
                    decided.title
                )),
            });
        }
        admission
    }

    fn hopeless<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Option<Failure>> {
        self.inner.hopeless(request)
    }

    fn ready<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Result<(), Failure>> {
        self.inner.ready(request)
    }

    fn is_destructive(&self, request: &ExecutionRequest) -> bool {
        self.inner.is_destructive(request)
    }
}
