//! Whatever runs requests.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::request::is_much_with;
use super::{
    Ask, Cause, Clamped, Event, ExecutionRequest, ExecutionResult, Failure, Observer,
    SkillIdentity, moment, stopped,
};
use crate::grant::{Denial, Grants};
use crate::limits::{LimitOverrides, Limits};
use crate::skill::{Description, SkillRef, Tool};
use crate::turns::Party;
use crate::turns::aside::let_go;
use crate::usage::{ResourceUsage, Unreported};

/// How a caller holds on to a running execution.
#[derive(Clone, Default)]
pub struct Control {
    /// Cancels the execution. Dropping its future does so as well, but then there is no result.
    pub cancellation: Option<CancellationToken>,
    /// Gets this execution's events, beside the host's own observer.
    pub observer: Option<Arc<dyn Observer>>,
    /// Whether somebody approved this very request, after it had been
    /// [rejected](crate::execution::Rejection::Approval) for want of that. The host itself asks
    /// nobody; this is for what wraps it.
    pub approved: bool,
    /// The job that the request belongs to, where it comes from a queue. An approval that is asked
    /// for is then the job's.
    pub job: Option<Uuid>,
    /// Who is asked where a rule of the policy asks, before whoever the guard asks otherwise.
    pub ask: Option<Arc<dyn Ask>>,
    /// How long it has waited for its turn already, before the host.
    pub waited: Duration,
    /// Who handed the request in, for the record: a token's id, a user of the machine.
    pub caller: Option<Arc<str>>,
    /// What the request came to, where an outer guard has looked. No part of the interface.
    #[doc(hidden)]
    pub resolved: Option<Box<(Uuid, Resolution)>>,
}

impl Control {
    /// Cancels with this token.
    #[must_use]
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.cancellation = Some(token);
        self
    }

    /// Says that somebody approved this very request.
    #[must_use]
    pub fn approved(mut self, approved: bool) -> Self {
        self.approved = approved;
        self
    }

    /// Says which job the request belongs to.
    #[must_use]
    pub fn job(mut self, job: Uuid) -> Self {
        self.job = Some(job);
        self
    }

    /// Says who handed the request in, for the record.
    #[must_use]
    pub fn caller(mut self, caller: impl Into<Arc<str>>) -> Self {
        self.caller = Some(caller.into());
        self
    }

    /// Says who is asked where a rule of the policy asks.
    #[must_use]
    pub fn ask(mut self, ask: Arc<dyn Ask>) -> Self {
        self.ask = Some(ask);
        self
    }

    /// What a request comes to, as `inner` has it. Its digest and its tool are put into the request, so
    /// that what was looked at is what runs.
    ///
    /// This is for what wraps an [`Execute`]: the outermost that asks makes ready what the request
    /// needs, and those further in get the same answer. Limits that one of them sets in it, and in
    /// the request, are what those further in see.
    ///
    /// # Errors
    /// As [`Execute::ready`] and [`Execute::resolve`]. Such a request must not go on to `inner`, where it
    /// might be found a moment later: [`refuse`](Control::refuse) it.
    pub async fn resolve<'c>(
        &'c mut self,
        inner: &dyn Execute,
        request: &mut ExecutionRequest,
    ) -> Result<&'c mut Resolution, Failure> {
        if self.resolution(request).is_none() {
            self.resolved = None;
            let deadline = request.deadline.map(moment);
            tokio::select! {
                biased;
                stopped = stopped(deadline, self.cancellation.as_ref()) => {
                    return Err(stopped.failure("while its skill was loaded"));
                }
                ready = inner.ready(request) => ready?,
            }
            let resolution = inner.resolve(request)?;
            request.skill = resolution.skill.digest.into();
            request
                .tool
                .get_or_insert_with(|| resolution.tool().name.clone());
            self.resolved = Some(Box::new((request.request_id, resolution)));
        }
        match &mut self.resolved {
            Some(known) => Ok(&mut known.1),
            None => Err(Failure::new(Cause::NotLoaded, "it was not looked up")),
        }
    }

    /// What this request comes to, where somebody has [asked](Control::resolve).
    pub fn resolution(&self, request: &ExecutionRequest) -> Option<&Resolution> {
        let (id, resolution) = &**self.resolved.as_ref()?;
        let same = *id == request.request_id
            && request.tool.as_deref() == Some(resolution.tool().name.as_str())
            && matches!(&request.skill, SkillRef::Digest(digest) if *digest == resolution.skill.digest);
        same.then_some(resolution)
    }

    /// Ends a request that is not to run: the observer is told, as of every end.
    ///
    /// This is for what wraps an [`Execute`]; `resolution` is what it knows of the request, and may be
    /// left out where it was asked for with [`resolve`](Control::resolve).
    pub fn refuse(
        &self,
        request: ExecutionRequest,
        resolution: Option<&Resolution>,
        failure: Failure,
    ) -> ExecutionResult {
        self.refuse_after(request, resolution, failure, ResourceUsage::default())
    }

    /// The same where something was spent on it.
    pub(crate) fn refuse_after(
        &self,
        request: ExecutionRequest,
        resolution: Option<&Resolution>,
        failure: Failure,
        spent: ResourceUsage,
    ) -> ExecutionResult {
        let mut request = request;
        if is_much_with(Some(&request.input), &request.attachments) {
            let party = Party::of(request.tenant.as_deref(), &request.skill.to_string());
            let input = std::mem::take(&mut request.input);
            let_go(&party, (input, std::mem::take(&mut request.attachments)));
        }
        let resolution = resolution.or(self.resolution(&request));
        let compile_time = match resolution {
            Some(resolution) => spent.compile_time + resolution.unreported.take(),
            None => spent.compile_time,
        };
        let usage = ResourceUsage {
            compile_time,
            queue_wait: request.queue_wait,
            waiting_time: self.waited + spent.waiting_time,
            ..spent
        };
        let status = failure.status();
        if let Some(observer) = &self.observer {
            let event = Event::Finished {
                status,
                failure: Some(&failure),
                usage: &usage,
            };
            observer.observe(request.request_id, &event);
        }
        ExecutionResult {
            request_id: request.request_id,
            status,
            tool: match resolution {
                Some(resolution) => Some(resolution.tool().name.clone()),
                None => request.tool,
            },
            output: None,
            attachments: Vec::new(),
            failure: Some(failure),
            usage,
            limits: match resolution {
                Some(resolution) => resolution.limits,
                None => Limits::resolve(&Limits::ceiling(), &[&request.limits], &Limits::default()),
            },
            skill: resolution.map(|resolution| Arc::clone(&resolution.skill)),
            clamped: Vec::new(),
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    /// Sends events here.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("cancellation", &self.cancellation.is_some())
            .field("observer", &self.observer.is_some())
            .field("approved", &self.approved)
            .field("job", &self.job)
            .field("ask", &self.ask)
            .field("caller", &self.caller)
            .finish()
    }
}

/// The host itself is broken: the request may be fine, and nothing can be said about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The WebAssembly engine could not be set up.
    #[error("the WebAssembly engine cannot be set up: {0}")]
    Engine(String),
    /// A certificate that was to be trusted is none.
    #[error("a certificate cannot be added: {0}")]
    Certificate(String),
    /// A folder or file of the host's own could not be used.
    #[error("{what} `{path}`: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file or folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What this execution needs of the host's could not be used, such as the file in which skills keep what they store.
    /// Those that need none of it are not concerned.
    #[error("{what} `{path}`: {source}")]
    Unavailable {
        /// What was being done.
        what: &'static str,
        /// With which file or folder.
        path: std::path::PathBuf,
        /// What the system, or a library, said.
        source: std::io::Error,
    },
    /// Something that cannot be, was.
    #[error("internal error: {0}")]
    Internal(String),
}

/// A boxed future, as trait objects need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whatever runs requests: the host, and everything that wraps it.
pub trait Execute: Send + Sync {
    /// Runs one request. A result of any status carries the usage up to its end. Before anything of the
    /// guest's runs, the observer gets [`Event::Started`](super::Event::Started): by that, others tell what ran
    /// from what did not.
    ///
    /// Dropping the future stops the guest; the observer still gets [`Event::Finished`](super::Event::Finished).
    ///
    /// # Errors
    /// Only where the host itself is broken.
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>>;

    /// Which skill and which tool a request means now, and under which limits it would run. Cheap,
    /// and runs nothing.
    ///
    /// What wraps an `Execute` decides by this, and then puts the digest into the request, so that
    /// what was looked at is what runs.
    ///
    /// # Errors
    /// [`Cause::NotLoaded`](super::Cause::NotLoaded) or
    /// [`Cause::UnknownTool`](super::Cause::UnknownTool).
    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure>;

    /// Whether a request would be admitted now, with which limits and grants, and what is missing.
    /// Runs nothing, and is cheap, but where directories or secrets are granted: whether they are there is
    /// looked at on the disk, so that async code calls it where blocking is allowed. What waits, or is
    /// counted, says how it stands at this moment.
    ///
    /// Not to be implemented: what wraps an `Execute` asks by [`can_execute_within`](Execute::can_execute_within), and so
    /// that is what has to answer.
    fn can_execute(&self, request: &ExecutionRequest) -> Admission {
        self.can_execute_within(request, &request.limits)
    }

    /// The same with these limits in the place of the request's own: what wraps an `Execute` and lowers them says so,
    /// and need not copy the request, which may be large.
    fn can_execute_within(&self, request: &ExecutionRequest, limits: &LimitOverrides) -> Admission {
        let bounded = ExecutionRequest {
            limits: *limits,
            ..request.without_data()
        };
        let (resolution, refusal) = match self.resolve(&bounded) {
            Ok(resolution) => (Some(resolution), None),
            Err(failure) => (None, Some(failure)),
        };
        Admission {
            refusal,
            limits: match &resolution {
                Some(resolution) => resolution.limits,
                None => Limits::resolve(&Limits::ceiling(), &[limits], &Limits::default()),
            },
            tool: match &resolution {
                Some(resolution) => Some(resolution.tool().name.clone()),
                None => request.tool.clone(),
            },
            clamped: Vec::new(),
            skill: resolution.map(|resolution| resolution.skill),
            grants: Grants::default(),
            from_policy: Grants::default(),
            missing: Vec::new(),
        }
    }

    /// Why a request is not admitted whatever anybody says of it: for what it is itself, such as an input that does not
    /// fit, or a grant that its skill does not declare. `None` where it is not, and where that is not known.
    ///
    /// No disk is looked at, and no hook asked. An input that takes long to check is checked no longer than the
    /// execution may take.
    fn hopeless<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Option<Failure>> {
        let _ = request;
        Box::pin(std::future::ready(None))
    }

    /// Makes ready what a request needs, where that comes late: a skill that is loaded when it is
    /// first asked for.
    ///
    /// # Errors
    /// Why it cannot be had: [`Cause::NotLoaded`](super::Cause::NotLoaded), or
    /// [`Cause::HostError`](super::Cause::HostError) where the host itself is broken.
    fn ready<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Result<(), Failure>> {
        let _ = request;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether the tool that the request names is marked destructive and not idempotent by its
    /// author. A queue does not try such a one again by itself. False where that is not known.
    fn is_destructive(&self, request: &ExecutionRequest) -> bool {
        self.resolve(request)
            .is_ok_and(|resolution| resolution.tool().marked_destructive)
    }
}

/// What a request comes to: exactly one skill, one of its tools, and limits.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The skill.
    pub skill: Arc<SkillIdentity>,
    /// What the skill says of itself.
    pub description: Arc<Description>,
    /// Where the tool stands among the skill's.
    pub(crate) tool: usize,
    /// The limits that would apply.
    pub limits: Limits,
    /// The limits that the skill wishes for itself, where it does. [Not all](LimitOverrides::of_a_skill) of
    /// that counts.
    pub wished: Option<Arc<LimitOverrides>>,
    /// Whether the wall time is the request's own, or its tenant's, and not the one that the skill has for
    /// everybody.
    pub time_asked: bool,
    /// What loading the skill took.
    pub(crate) unreported: Arc<Unreported>,
}

impl Resolution {
    /// The tool.
    pub fn tool(&self) -> &Tool {
        &self.description.tools[self.tool]
    }
}

/// Whether a request would be admitted, and under which conditions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Admission {
    /// Why not, if not.
    pub refusal: Option<Failure>,
    /// The limits that would apply.
    pub limits: Limits,
    /// The limits that are lower than what the request, or its skill, asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clamped: Vec<Clamped>,
    /// The skill, where it is loaded.
    pub skill: Option<Arc<SkillIdentity>>,
    /// The tool, where it could be determined.
    pub tool: Option<String>,
    /// What the skill could touch. Where it is refused, what of it is granted already.
    pub grants: Grants,
    /// The part of it that comes from the host's policy; the rest is the request's, or a default.
    pub from_policy: Grants,
    /// What the skill declares and was not granted. It may run without.
    pub missing: Vec<Denial>,
}

impl Admission {
    /// Whether the request would be admitted.
    pub fn is_admitted(&self) -> bool {
        self.refusal.is_none()
    }
}
