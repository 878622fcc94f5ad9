//! An [`Execute`] whose every request is written down.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use uuid::Uuid;

use super::hashing::{hashed_input, hashed_output};
use super::{AuditError, AuditSink, Entry, Hashed, Heard, Secret, What, Who};
use crate::execution::{
    Admission, BoxFuture, Cause, Clamped, Control, Event, Execute, ExecutionRequest,
    ExecutionResult, Failure, HostError, Observer, Rejection, Resolution, SkillIdentity, Status,
    is_much_with,
};
use crate::grant::{Denial, Grants};
use crate::limits::{LimitOverrides, Limits};
use crate::skill::SkillRef;
use crate::turns::Party;
use crate::turns::aside::aside;
use crate::usage::ResourceUsage;

/// When to try again where an entry could not be written.
const AGAIN: TimeDelta = TimeDelta::seconds(5);

/// Writes an entry for each request of another [`Execute`], also for one that is rejected, and for one
/// whose future is dropped (of one whose input is large, once that was polled). It belongs around everything else.
///
/// ```
/// use std::sync::Arc;
/// use skillhost::audit::{AuditError, AuditSink, Audited, Entry};
///
/// struct Printed;
///
/// impl AuditSink for Printed {
///     fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
///         println!("{}", entry.what.kind());
///         Ok(())
///     }
/// }
///
/// # fn example(host: skillhost::Host) {
/// let audited = Audited::new(Arc::new(host), Arc::new(Printed)).required(true);
/// # let _ = audited;
/// # }
/// ```
pub struct Audited {
    inner: Arc<dyn Execute>,
    sink: Arc<dyn AuditSink>,
    required: bool,
}

impl Audited {
    /// Writes down what this executes.
    pub fn new(inner: Arc<dyn Execute>, sink: Arc<dyn AuditSink>) -> Self {
        Audited {
            inner,
            sink,
            required: false,
        }
    }

    /// Whether nothing may run that cannot be written down. Then a request is rejected where entries
    /// cannot be written, and where that shows only after it ran, its answer is withheld:
    /// [`Rejection::Audit`] either way.
    #[must_use]
    pub fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// The hash of an input that is large. Where nobody waits for it any more, that is what is written down.
    async fn hash_aside(
        &self,
        request: ExecutionRequest,
        watch: &Arc<Watch>,
        asked: &ExecutionRequest,
    ) -> (ExecutionRequest, Hashed) {
        let pending = Pending {
            sink: Arc::clone(&self.sink),
            inner: Arc::clone(&self.inner),
            input: Hashed::of(b""),
            watch: Arc::clone(watch),
            asked: Box::new(asked.clone()),
            told: false,
            broken: false,
        };
        let hash = |(request, mut pending): (_, Pending<_, _>)| {
            pending.input = hashed_input(&request);
            (request, pending)
        };
        let (request, mut pending) = aside(&party(asked), (request, pending), hash).await;
        pending.told = true;
        (request, pending.input)
    }

    fn pending(
        &self,
        input: Hashed,
        watch: Arc<Watch>,
        asked: Box<ExecutionRequest>,
    ) -> PendingHere<'_> {
        Pending {
            sink: &*self.sink,
            input,
            watch,
            inner: &*self.inner,
            asked,
            told: false,
            broken: false,
        }
    }

    /// What this comes to, once it is written down.
    fn written<'a>(
        &'a self,
        pending: PendingHere<'a>,
        running: BoxFuture<'a, Result<ExecutionResult, HostError>>,
    ) -> Written<'a> {
        Written {
            audited: self,
            running,
            pending: Some(pending),
        }
    }

    /// What there is to answer, once that was to be written down.
    fn answer(&self, result: ExecutionResult, written: Result<(), AuditError>) -> ExecutionResult {
        match written {
            Err(error) if self.required => self.withheld(result, &error),
            _ => result,
        }
    }

    fn withheld(&self, mut result: ExecutionResult, error: &AuditError) -> ExecutionResult {
        let cause = Cause::Rejected {
            reason: Rejection::Audit,
            // It has run: another try would run it twice.
            retry_at: None,
        };
        let failure = Failure::new(
            cause,
            format!(
                "it ran ({}), and the answer is withheld: {error}",
                result.status
            ),
        );
        result.status = failure.status();
        result.failure = Some(failure.hint(HINT));
        result.output = None;
        result.attachments = Vec::new();
        result.stdout = String::new();
        result.stderr = String::new();
        result
    }
}

/// In whose turn it is that something is done about a request.
fn party(asked: &ExecutionRequest) -> Party {
    Party::of(asked.tenant.as_deref(), &asked.skill.to_string())
}

/// Writes down what a request came to.
fn record(
    watch: &Watch,
    input: Hashed,
    asked: &SkillRef,
    result: &ExecutionResult,
) -> Result<(), AuditError> {
    let output = hashed_output(result);
    let noted = watch.noted();
    watch.sink.record(&Entry {
        who: watch.who.who(),
        what: What::Execution {
            input,
            output,
            result,
            heard: noted.heard(asked),
        },
    })
}

/// Waits until all is written down of which nobody waits for the answer any more: what is large is hashed on threads of
/// this process, and ends with it. Called where a process is about to end, once nothing is executed any more. False
/// where that takes longer than `at_most`.
///
/// ```
/// use std::time::Duration;
///
/// assert!(skillhost::audit::settle(Duration::from_secs(5)));
/// ```
pub fn settle(at_most: Duration) -> bool {
    crate::turns::aside::settle(at_most)
}

const HINT: &str = "the policy requires an audit: see that its folder can be written";

fn unwritable(error: &AuditError) -> Failure {
    let cause = Cause::Rejected {
        reason: Rejection::Audit,
        retry_at: Utc::now().checked_add_signed(AGAIN),
    };
    Failure::new(cause, format!("not admitted: {error}")).hint(HINT)
}

impl Execute for Audited {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        mut control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        if self.required
            && let Err(error) = self.sink.ready()
        {
            let refused = control.refuse(request, None, unwritable(&error));
            return Box::pin(std::future::ready(Ok(refused)));
        }
        let watch = Arc::new(Watch {
            next: control.observer.take(),
            noted: Mutex::default(),
            sink: Arc::clone(&self.sink),
            required: self.required,
            who: Owned::of(&request, &control),
            skill: OnceLock::new(),
        });
        control.observer = Some(Arc::clone(&watch) as Arc<dyn Observer>);
        let asked = Box::new(asked(&request));
        if is_much_with(Some(&request.input), &request.attachments) {
            return Box::pin(async move {
                let (request, input) = self.hash_aside(request, &watch, &asked).await;
                let pending = self.pending(input, watch, asked);
                let running = self.inner.execute(request, control);
                self.written(pending, running).await
            });
        }
        let pending = self.pending(hashed_input(&request), watch, asked);
        // Not within a future of ours: the request would go in and out of that, which takes longer than anything else
        // here.
        let running = self.inner.execute(request, control);
        Box::pin(self.written(pending, running))
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.inner.resolve(request)
    }

    fn can_execute_within(&self, request: &ExecutionRequest, limits: &LimitOverrides) -> Admission {
        let mut admission = self.inner.can_execute_within(request, limits);
        if self.required
            && admission.refusal.is_none()
            && let Err(error) = self.sink.ready()
        {
            admission.refusal = Some(unwritable(&error));
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

/// What an execution comes to, once that is written down. By hand, as a small one: the result goes through it without
/// being kept. Once it is ready, it has let go of all that it held, whoever keeps it: the observer is heard no more.
struct Written<'a> {
    audited: &'a Audited,
    /// What runs, or what writes it down aside. Dropped before what then says so.
    running: BoxFuture<'a, Result<ExecutionResult, HostError>>,
    /// There until what ran has ended.
    pending: Option<PendingHere<'a>>,
}

impl Future for Written<'_> {
    type Output = Result<ExecutionResult, HostError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let ended = ready!(this.running.as_mut().poll(context));
            // It holds nothing, and is never ready.
            this.running = Box::pin(std::future::pending());
            let Some(mut pending) = this.pending.take() else {
                // It was written down aside.
                return Poll::Ready(ended);
            };
            let result = match ended {
                Ok(result) => result,
                Err(error) => {
                    pending.broken = true;
                    drop(pending);
                    return Poll::Ready(Err(error));
                }
            };
            pending.told = true;
            let (input, watch) = (pending.input, &pending.watch);
            let skill = &pending.asked.skill;
            if !is_much_with(result.output.as_ref(), &result.attachments) {
                let written = record(watch, input, skill, &result);
                return Poll::Ready(Ok(this.audited.answer(result, written)));
            }
            let (watch, skill) = (Arc::clone(watch), skill.clone());
            let (audited, party) = (this.audited, party(&pending.asked));
            this.running = Box::pin(async move {
                // Also where nobody waits for it any more.
                let recorded = aside(&party, result, move |result| {
                    let written = record(&watch, input, &skill, &result);
                    (result, written)
                });
                let (result, written) = recorded.await;
                Ok(audited.answer(result, written))
            });
        }
    }
}

/// Hears what let an execution run, what was refused to it, each use of a secret, and what it cost, should
/// nobody be there to take its result.
struct Watch {
    next: Option<Arc<dyn Observer>>,
    noted: Mutex<Noted>,
    sink: Arc<dyn AuditSink>,
    required: bool,
    who: Owned,
    /// What runs, once that is known, where it may use secrets.
    skill: OnceLock<SkillIdentity>,
}

/// What was heard.
#[derive(Default)]
struct Noted {
    usage: ResourceUsage,
    denials: Vec<Denial>,
    allowed_by: Option<String>,
    approval: Option<Uuid>,
    limits: Option<Limits>,
    clamped: Vec<Clamped>,
}

impl Noted {
    fn heard<'a>(&'a self, asked: &'a SkillRef) -> Heard<'a> {
        Heard {
            asked: Some(asked),
            denials: &self.denials,
            allowed_by: self.allowed_by.as_deref(),
            approval: self.approval,
            clamped: &self.clamped,
        }
    }
}

impl Watch {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that a secret is about to be used. False where it must be written down, and cannot be.
    fn secret(&self, name: &str, host: &str) -> bool {
        let secret = Secret {
            name,
            host,
            skill: self.skill.get(),
        };
        let entry = Entry {
            who: self.who.who(),
            what: What::Secret(secret),
        };
        let written = self.sink.record(&entry);
        if let Err(error) = &written {
            tracing::error!(%error, "the use of a secret is not in the audit");
        }
        written.is_ok() || !self.required
    }
}

impl Observer for Watch {
    fn observe(&self, request_id: Uuid, event: &Event<'_>) {
        match event {
            // It is told once.
            Event::Admitted {
                skill,
                grants,
                limits,
                ..
            } => {
                if !grants.secrets.is_empty() {
                    drop(self.skill.set((*skill).clone()));
                }
                self.noted().limits = Some(**limits);
            }
            Event::Clamped { clamped } => self.noted().clamped.extend_from_slice(clamped),
            // Whoever wraps this and knows of no `admits` has only told of it.
            Event::SecretUsed { secret, to, .. } => {
                self.secret(secret, to);
            }
            // Refusals are bounded where they are made.
            Event::Denied { denial } => self.noted().denials.push((*denial).clone()),
            Event::Allowed { rule, approval } => {
                let mut noted = self.noted();
                noted.allowed_by = Some((*rule).to_owned());
                noted.approval = *approval;
            }
            _ => {}
        }
        // Whoever gets another result has it from there.
        if let Event::Finished {
            status,
            failure,
            usage,
        } = event
            && (*status == Status::Cancelled
                || failure.is_some_and(|failure| failure.cause == Cause::HostError))
        {
            self.noted().usage = (*usage).clone();
        }
        if let Some(next) = &self.next {
            next.observe(request_id, event);
        }
    }

    fn admits(&self, request_id: Uuid, event: &Event<'_>) -> bool {
        if let Event::SecretUsed { secret, to, .. } = event
            && !self.secret(secret, to)
        {
            return false;
        }
        let next = self.next.as_ref();
        next.is_none_or(|next| next.admits(request_id, event))
    }
}

/// A request that has no entry yet; where it is dropped so, it gets one.
struct Pending<S, I>
where
    S: Deref<Target = dyn AuditSink>,
    I: Deref<Target = dyn Execute>,
{
    sink: S,
    inner: I,
    input: Hashed,
    /// The request without what is large in it.
    asked: Box<ExecutionRequest>,
    watch: Arc<Watch>,
    told: bool,
    /// Whether it ended because the host is broken.
    broken: bool,
}

/// One for whose end somebody waits.
type PendingHere<'a> = Pending<&'a (dyn AuditSink + 'static), &'a (dyn Execute + 'static)>;

impl<S, I> Drop for Pending<S, I>
where
    S: Deref<Target = dyn AuditSink>,
    I: Deref<Target = dyn Execute>,
{
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let resolution = self.inner.resolve(&self.asked).ok();
        let noted = self.watch.noted();
        let (input, usage, heard) = (self.input, &noted.usage, noted.heard(&self.asked.skill));
        let skill = resolution.as_ref().map(|found| &*found.skill);
        let tool = resolution.as_ref().map(|found| found.tool().name.as_str());
        // One that did not come to run has those that it would have had.
        let limits = noted.limits.as_ref();
        let limits = limits.or(resolution.as_ref().map(|found| &found.limits));
        let what = match self.broken {
            true => What::Broken {
                input,
                skill,
                tool,
                limits,
                usage,
                heard,
            },
            false => What::Dropped {
                input,
                skill,
                tool,
                limits,
                usage,
                heard,
            },
        };
        let entry = Entry {
            who: self.watch.who.who(),
            what,
        };
        if let Err(error) = self.sink.record(&entry) {
            tracing::error!(%error, "a request that was dropped is not in the audit");
        }
    }
}

/// By this it can be looked up what a request came to.
fn asked(request: &ExecutionRequest) -> ExecutionRequest {
    // With the id that there is: to make one takes random numbers.
    ExecutionRequest {
        request_id: request.request_id,
        skill: request.skill.clone(),
        tool: request.tool.clone(),
        input: serde_json::Value::Null,
        attachments: Vec::new(),
        limits: request.limits,
        grants: Grants::default(),
        tenant: request.tenant.clone(),
        user: None,
        session: None,
        deadline: None,
        attempt: request.attempt,
        queue_wait: Duration::ZERO,
        labels: BTreeMap::new(),
    }
}

/// On whose behalf, once the request is gone.
struct Owned {
    tenant: Option<String>,
    user: Option<String>,
    session: Option<String>,
    request: Uuid,
    caller: Option<Arc<str>>,
    job: Option<Uuid>,
}

impl Owned {
    fn of(request: &ExecutionRequest, control: &Control) -> Self {
        Owned {
            tenant: request.tenant.clone(),
            user: request.user.clone(),
            session: request.session.clone(),
            request: request.request_id,
            caller: control.caller.clone(),
            job: control.job,
        }
    }

    fn who(&self) -> Who<'_> {
        Who {
            tenant: self.tenant.as_deref(),
            user: self.user.as_deref(),
            session: self.session.as_deref(),
            request: Some(self.request),
            caller: self.caller.as_deref(),
            job: self.job,
        }
    }
}

/// Writes down that a request was refused before it came to an execution: when a job of it was submitted.
/// `control` says who handed it in, and `skill` is the one that it is for, where that is known.
///
/// # Errors
/// Where it could not be written.
pub fn refused(
    sink: &dyn AuditSink,
    request: &ExecutionRequest,
    skill: Option<Arc<SkillIdentity>>,
    control: &Control,
    failure: &Failure,
) -> Result<(), AuditError> {
    let mut result = control.refuse(request.without_data(), None, failure.clone());
    result.skill = skill.or(result.skill);
    let heard = Heard {
        asked: Some(&request.skill),
        ..Heard::default()
    };
    sink.record(&Entry {
        who: Owned::of(request, control).who(),
        what: What::Execution {
            input: hashed_input(request),
            output: None,
            result: &result,
            heard,
        },
    })
}
