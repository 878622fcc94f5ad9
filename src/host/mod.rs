//! The host: loads skills, and runs requests.

mod admission;
mod builder;
mod fitting;
mod installed;
mod lacking;
mod load;
mod skill;
mod told;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use rustix::fs::Access;

use crate::execution::{
    Admission, BoxFuture, Cause, Control, Event, Execute, ExecutionRequest, ExecutionResult,
    Failure, Fault, HostError, Observer, Resolution, Status,
};
use crate::grant::{Denial, Grants};
use crate::json::is_much;
use crate::limits::{LimitOverrides, Limits};
use crate::policy::guard::Breakers;
use crate::policy::{CurrentPolicy, Policy};
use crate::private::{can_be_made, keeps_what_is_in_it};
use crate::sandbox::{Flight, For, Loader, Plan, Runner};
use crate::secret::Secrets;
use crate::skill::{Digest, SkillRef};
use crate::turns::Party;
use crate::turns::aside::let_go;

use admission::Admitted;
use builder::Before;
pub use builder::{HostBuilder, Refusal};
pub use installed::{InstallError, InstalledSkills, InstalledSkillsBuilder, ListedSkill, Listing};
pub use load::LoadError;
pub use skill::Skill;
use skill::Skills;

/// Loads skills and runs requests. Cheap to clone; every clone is the same host, and tasks and
/// threads share it freely.
///
/// Its methods that return futures want a tokio runtime with time enabled, and where a skill is
/// granted the network, with I/O as well (`enable_all`).
///
/// The first host of a process sets handlers for signals, which stay: the engine's, for `SIGSEGV`, `SIGILL` and `SIGFPE`,
/// and one for `SIGURG`, by which a thread of the host's interrupts guests that do not come back by themselves. Each
/// hands on to the one that was there before what is not its own. Whoever sets one later does likewise, and blocks
/// none of them on a thread that runs skills; where `SIGURG` is ignored, or handled by another alone, such a guest keeps
/// its thread. A system call on a thread that runs skills, such as in an observer, may end with `EINTR`, as the standard
/// library allows for. The thread that interrupts is not there in a process that was forked from this one: skills run
/// in one that was started anew.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    loader: Loader,
    runner: Runner,
    default_limits: Limits,
    ceiling: Limits,
    observer: Option<Arc<dyn Observer>>,
    before: Option<Before>,
    policy: CurrentPolicy,
    secrets: Secrets,
    /// Whether there is a place for what skills keep.
    keeps: bool,
    skills: ArcSwap<Skills>,
    /// One lock for each component that is being loaded, so that it is loaded once.
    loading: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// For the blocking forms. Made when the first of them is called.
    runtime: OnceLock<tokio::runtime::Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime waits for its threads when it is dropped, which inside another is a panic.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Host {
    /// Sets up a host.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// A loaded skill: of a bare name, the highest version that is loaded.
    pub fn skill(&self, reference: &SkillRef) -> Option<Skill> {
        self.inner.skills.load().find(reference).cloned()
    }

    /// Every loaded skill, by name and then by version, the newest first.
    pub fn skills(&self) -> Vec<Skill> {
        let skills = self.inner.skills.load();
        let mut all: Vec<Skill> = skills.by_name.values().flatten().cloned().collect();
        // Stable: the versions of one name keep their order.
        all.sort_by(|a, b| a.identity().name.cmp(&b.identity().name));
        all
    }

    /// Forgets a loaded skill. Executions in flight go on.
    pub fn unload(&self, digest: &Digest) -> Option<Skill> {
        let mut removed = None;
        self.inner.skills.rcu(|skills| {
            let mut skills = Skills::clone(skills);
            removed = skills.remove(digest);
            skills
        });
        removed
    }

    /// The policy that holds, where there is one.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.inner.policy.get()
    }

    /// The policy that holds, whatever takes its place: for what wraps this host, and goes by the
    /// same.
    pub fn current_policy(&self) -> &CurrentPolicy {
        &self.inner.policy
    }

    /// The circuits of its skills, and of the hosts that they send requests to. The latter are
    /// looked at here; the former by the [guards](crate::policy::guard::Guards) around it.
    pub fn breakers(&self) -> Breakers {
        self.inner.policy.breakers()
    }

    /// Whether what is granted is there to be given, as far as can be seen without giving it: that each
    /// directory is one, and neither is nor contains nor lies in one of the host's own. What a skill
    /// declares has no part in it.
    ///
    /// Blocks for as long as the disk does.
    ///
    /// # Errors
    /// The first that cannot be given.
    pub fn openable(&self, grants: &Grants) -> Result<(), Denial> {
        self.inner.runner.openable(grants, &self.around(grants))
    }

    /// Whether scratch directories could be made in this folder, as far as that shows without making one: it is there or
    /// could be made, and nobody else may write in it, or only as in the system's folder for temporary files.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check_scratch(folder: impl AsRef<Path>) -> Result<(), HostError> {
        let folder = folder.as_ref();
        let there = match folder.symlink_metadata() {
            Ok(_) => keeps_what_is_in_it(folder).and_then(|()| {
                let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
                Ok(rustix::fs::access(folder, access)?)
            }),
            Err(_) => can_be_made(folder),
        };
        there.map_err(|source| HostError::Unavailable {
            what: "cannot make scratch directories in",
            path: folder.to_owned(),
            source,
        })
    }

    /// Puts a policy in the place of the one that held, or takes it away. It holds for requests
    /// that are admitted from now on.
    pub fn set_policy(&self, policy: Option<Policy>) {
        self.inner.policy.set(policy);
    }

    /// Runs one request.
    ///
    /// Dropping the future stops the guest; the observers still get [`Event::Finished`].
    ///
    /// # Errors
    /// Only where the host itself is broken. What becomes of the request is in the result.
    pub fn execute(
        &self,
        request: ExecutionRequest,
    ) -> impl Future<Output = Result<ExecutionResult, HostError>> + Send + '_ {
        self.execute_with(request, Control::default())
    }

    /// Runs one request that can be cancelled or watched.
    ///
    /// # Errors
    /// Only where the host itself is broken.
    #[allow(
        clippy::manual_async_fn,
        reason = "the request would be moved once more, into a future around this one"
    )]
    pub fn execute_with(
        &self,
        mut request: ExecutionRequest,
        control: Control,
    ) -> impl Future<Output = Result<ExecutionResult, HostError>> + Send + '_ {
        // No `async fn`, whose future would hold the request twice.
        async move {
            let cancellation = control.cancellation.as_ref();
            // Held rather than cloned: threads that run the same skill then share no counter.
            let skills = self.inner.skills.load();
            let skill = skills.find(&request.skill);
            let known = skill.map(|skill| &skill.inner.known);
            let limits = self.limits(&request.limits, known);
            let observers = [self.inner.observer.clone(), control.observer];
            // Declared before the flight, and so dropped after it: see `Runner::run`.
            let mut slot = None;
            let mut flight = Flight::new(request.request_id, observers, limits, request.deadline);
            flight.usage.queue_wait = request.queue_wait;
            flight.usage.waiting_time = control.waited;
            if let Some(skill) = skill {
                flight.usage.compile_time = skill.unreported_compile_time();
            }
            let clamped = self.clamped(&request.limits, known);
            let admitted = match skill {
                Some(skill) => {
                    let known = &skill.inner.known;
                    let admitted =
                        self.admit_in_time(&mut flight, &mut request, known, &limits, cancellation);
                    admitted.await.map(|admitted| (skill, admitted))
                }
                None => Err(admission::not_loaded(&request)),
            };
            let ended = match admitted {
                Err(failure) => Err(failure),
                Ok((skill, admitted)) => {
                    let Admitted {
                        tool,
                        schemas,
                        ref input,
                        ..
                    } = admitted;
                    request.tool.get_or_insert_with(|| tool.name.clone());
                    flight.tell(&Event::Admitted {
                        skill: skill.identity(),
                        tool: &tool.name,
                        limits: &limits,
                        grants: admitted.grants(),
                    });
                    told::of_admission(&request, &limits, admitted.grants());
                    if !clamped.is_empty() {
                        flight.tell(&Event::Clamped { clamped: &clamped });
                    }
                    let plan = Plan {
                        asker: &skill.inner.known.asker,
                        tool: &tool.name,
                        tenant: request.tenant.as_deref(),
                        input,
                        attachments: std::mem::take(&mut request.attachments),
                        grants: admitted.grants(),
                        around: self.around(admitted.grants()),
                        secrets: self.wanted(admitted.grants()),
                        skill: skill.digest(),
                        attempt: request.attempt,
                        cancellation,
                    };
                    let (runner, component) = (&self.inner.runner, &skill.inner.component);
                    // Pinned where it is made, as awaiting it would move it, and it is large.
                    let ran = pin!(runner.run(&mut slot, component, &mut flight, plan)).await;
                    let answer = match ran {
                        Ok(answer) => answer,
                        Err(error) => {
                            let failure = Failure::new(Cause::HostError, error.to_string());
                            flight.finish(Some(&failure));
                            return Err(error);
                        }
                    };
                    match answer {
                        Ok(answer) => {
                            let output = schemas.output.as_ref();
                            match fitting::taken_at_once(&flight, output, answer) {
                                Ok(taken) => taken,
                                Err(left) => {
                                    let whose = For {
                                        tenant: request.tenant.as_deref(),
                                        skill: &skill.identity().name,
                                        cancellation,
                                    };
                                    let taken =
                                        self.taken_in_time(&mut flight, whose, output, left);
                                    // It is seldom, and large.
                                    Box::pin(taken).await
                                }
                            }
                        }
                        Err(failure) => Err(failure),
                    }
                }
            };
            // Whoever waits to run goes on now: what an answer takes is there no longer than its slot.
            drop(slot);
            let (output, attachments, failure) = match ended {
                Ok((output, attachments)) => (Some(output), attachments, None),
                Err(failure) => {
                    let denied = std::mem::take(&mut flight.denials);
                    let mut failure = failure.after(denied);
                    if let Some(skill) = skill {
                        failure = self.of_policy(&skill.inner.known, &request.grants, failure);
                    }
                    if failure.status() == Status::Failed
                        && failure.fault != Fault::Host
                        && !flight.usage.wall_time.is_zero()
                        && let Some(skill) = skill
                    {
                        failure = self.with_what_it_lacks(skill, &request.grants, &flight, failure);
                    }
                    if let Some((limit, allowed)) = failure.limit()
                        && allowed >= self.inner.ceiling.get(limit)
                    {
                        let hint = "this host allows no more: give it less to do";
                        failure.hint = Some(hint.to_owned());
                    }
                    if !self.inner.runner.for_operator() {
                        failure = failure.without_flags();
                    }
                    (None, Vec::new(), Some(failure))
                }
            };
            if is_much(&request.input) {
                let party = Party::of(request.tenant.as_deref(), &request.skill.to_string());
                let_go(&party, std::mem::take(&mut request.input));
            }
            let status = flight.finish(failure.as_ref());
            Ok(ExecutionResult {
                request_id: request.request_id,
                status,
                tool: request.tool,
                output,
                attachments,
                failure,
                usage: std::mem::take(&mut flight.usage),
                limits,
                clamped,
                skill: skill.map(|skill| Arc::clone(&skill.inner.known.identity)),
                stdout: std::mem::take(&mut flight.stdout),
                stderr: std::mem::take(&mut flight.stderr),
            })
        }
    }

    /// Waits until the scratch directories of executions that have ended are gone. An answer does not wait
    /// for that; a program that is about to end may want to, for no longer than it likes. What is left
    /// behind is removed when a host next makes a scratch directory in the same folder.
    pub async fn cleared(&self) {
        self.inner.runner.cleared().await;
    }

    /// Closes the file in which skills keep what they keep, as dropping the last clone of the host does: for a program
    /// that is about to end, and does not drop it. What an execution is using at that moment stays open; where none
    /// is, nothing is left beside the file, unless others have it open. The next execution opens it again.
    pub fn close_storage(&self) {
        self.inner.runner.close_storage();
    }

    /// [`execute`](Host::execute) for callers without an async runtime. Blocks the thread; may be
    /// called from anywhere, though inside an async runtime it keeps one of its threads.
    ///
    /// # Errors
    /// Only where the host itself is broken.
    pub fn execute_blocking(
        &self,
        request: ExecutionRequest,
    ) -> Result<ExecutionResult, HostError> {
        self.block_on(self.execute(request))?
    }

    fn block_on<T: Send>(&self, future: impl Future<Output = T> + Send) -> Result<T, HostError> {
        let runtime = match self.inner.runtime.get() {
            Some(runtime) => runtime,
            None => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name("skillhost")
                    .enable_all()
                    .build()
                    .map_err(|error| HostError::Internal(format!("no runtime: {error}")))?;
                if let Err(second) = self.inner.runtime.set(runtime) {
                    // Another thread was first.
                    second.shutdown_background();
                }
                self.inner
                    .runtime
                    .get()
                    .ok_or_else(|| HostError::Internal("no runtime".into()))?
            }
        };
        if tokio::runtime::Handle::try_current().is_err() {
            return Ok(runtime.block_on(future));
        }
        // A runtime cannot be entered from within another, but from a thread of its own it can.
        std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join())
            .map_err(|_| HostError::Internal("a blocking call panicked".into()))
    }
}

impl Execute for Host {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        Box::pin(self.execute_with(request, control))
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.resolve_in(request, self.inner.skills.load().find(&request.skill))
    }

    fn can_execute_within(&self, request: &ExecutionRequest, limits: &LimitOverrides) -> Admission {
        let skill = self.skill(&request.skill);
        let known = skill.as_ref().map(|skill| &skill.inner.known);
        self.admission(request, limits, known)
    }

    fn hopeless<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Option<Failure>> {
        Box::pin(self.hopeless_in(request, self.skill(&request.skill)))
    }
}

impl Host {
    /// What a request comes to that means the skill of this digest.
    fn resolve_as(
        &self,
        request: &ExecutionRequest,
        digest: &Digest,
    ) -> Result<Resolution, Failure> {
        self.resolve_in(request, self.inner.skills.load().by_digest.get(digest))
    }

    fn resolve_in(
        &self,
        request: &ExecutionRequest,
        skill: Option<&Skill>,
    ) -> Result<Resolution, Failure> {
        let Some(skill) = skill else {
            return Err(admission::not_loaded(request));
        };
        let tool = skill.inner.known.tool_index(request.tool.as_deref())?;
        Ok(Resolution {
            skill: Arc::clone(&skill.inner.known.identity),
            description: Arc::clone(&skill.inner.known.description),
            tool,
            limits: self.limits(&request.limits, Some(&skill.inner.known)),
            wished: skill.inner.known.wished.clone(),
            time_asked: request.limits.wall_time.is_some(),
            unreported: Arc::clone(&skill.inner.unreported),
        })
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("skills", &self.skills())
            .finish_non_exhaustive()
    }
}
