//! What every request is answered from.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::executions::{LARGE_LOOKS, LOOKS};
use super::extract::{FETCHES, READS};
use super::metrics::{Measured, Metrics};
use super::places::Places;
use super::rate::Rates;
use super::sent::Sent;
use super::settings::Settings;
use crate::audit::AuditSink;
use crate::execution::HostError;
use crate::policy::guard::Breakers;
use crate::queue::callback::{CallbackSettings, Callbacks};
use crate::queue::{Answers, Queue};
use crate::serve::caller::Tenancy;
use crate::serve::token::Tokens;
use crate::turns::threads::Threads;
use crate::{Execute, InstalledSkills};

/// What the door for HTTP is made of: see [`router`](super::router()).
///
/// Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Service {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub execute: Arc<dyn Execute>,
    pub queue: Queue,
    pub skills: Option<InstalledSkills>,
    pub policy: Option<ReadPolicy>,
    pub answers: Answers,
    /// Where what is refused at submission is written down.
    pub audit: Option<Arc<dyn AuditSink>>,
    pub breakers: Option<Breakers>,
    pub tokens: Tokens,
    /// Whether nobody gets in without a token, whether there are any or not.
    pub closed: bool,
    pub callbacks: Callbacks,
    pub settings: Settings,
    pub metrics: Metrics,
    pub rates: Rates,
    /// Event streams that are open.
    pub streams: Places<Tenancy>,
    /// Set once the server is to stop: it is not ready any more, and streams end.
    pub stopping: CancellationToken,
    /// Set once what runs has had its time: what does not end with its connection ends by this.
    pub cut: CancellationToken,
    /// KiB of bodies that may still be read.
    pub bodies: Arc<tokio::sync::Semaphore>,
    /// Large answers that are not taken yet.
    pub sent: Sent<Tenancy>,
    /// Where it is looked whether requests would be admitted.
    pub looks: Threads,
    /// Large requests are looked at here.
    pub large_looks: Threads,
    /// Where large ones are read.
    pub reads: Threads,
    /// Where is read what may be much of what is kept.
    pub fetches: Threads,
}

/// Gives the policy that holds, as text.
pub(super) type ReadPolicy = Arc<dyn Fn() -> Option<Arc<crate::Policy>> + Send + Sync>;

/// Sets up a [`Service`].
pub struct ServiceBuilder {
    execute: Arc<dyn Execute>,
    queue: Queue,
    skills: Option<InstalledSkills>,
    policy: Option<ReadPolicy>,
    audit: Option<(Arc<dyn AuditSink>, bool)>,
    breakers: Option<Breakers>,
    closed: bool,
    callbacks: CallbackSettings,
    settings: Settings,
}

impl Service {
    /// A door to what executes skills, and to a queue.
    pub fn builder(execute: Arc<dyn Execute>, queue: Queue) -> ServiceBuilder {
        ServiceBuilder {
            execute,
            queue,
            skills: None,
            policy: None,
            audit: None,
            breakers: None,
            closed: false,
            callbacks: CallbackSettings::default(),
            settings: Settings::default(),
        }
    }

    /// What executes skills, counted in the metrics: for a worker beside the door.
    pub fn executor(&self) -> Arc<dyn Execute> {
        Arc::clone(&self.inner.execute)
    }

    /// The tokens that let somebody in.
    pub fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Cancelled once [`stop`](Service::stop) was called.
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stopping.clone()
    }

    /// Says that no more requests should come: it is not ready any more, and event streams end, so
    /// that their clients go elsewhere.
    pub fn stop(&self) {
        self.inner.stopping.cancel();
    }
}

impl ServiceBuilder {
    /// Where skills are listed, installed and removed. Without it, none of that can be done here.
    #[must_use]
    pub fn skills(mut self, skills: InstalledSkills) -> Self {
        self.skills = Some(skills);
        self
    }

    /// The policy that is shown to administrators.
    #[must_use]
    pub fn policy(
        mut self,
        policy: impl Fn() -> Option<Arc<crate::Policy>> + Send + Sync + 'static,
    ) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// Writes answers to what waits for somebody's word down here. Where it is `required`, nothing is
    /// answered that cannot be. Executions are written down by
    /// [`Audited`](crate::audit::Audited) around what executes.
    #[must_use]
    pub fn audit(mut self, audit: Arc<dyn AuditSink>, required: bool) -> Self {
        self.audit = Some((audit, required));
        self
    }

    /// The circuits that are shown to administrators and in the metrics: those of the
    /// [policy](crate::policy::CurrentPolicy::breakers) that what executes goes by.
    #[must_use]
    pub fn breakers(mut self, breakers: Breakers) -> Self {
        self.breakers = Some(breakers);
        self
    }

    /// Lets nobody in without a token, also where none was ever made. Without this, everybody is the
    /// operator until the first token is made; so do this wherever others than this machine's own
    /// processes can connect.
    #[must_use]
    pub fn closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// Which callbacks may be asked for.
    #[must_use]
    pub fn callbacks(mut self, callbacks: CallbackSettings) -> Self {
        self.callbacks = callbacks;
        self
    }

    /// Limits on requests and connections.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The service.
    ///
    /// # Errors
    /// Where a certificate for callbacks is none.
    pub fn build(self) -> Result<Service, HostError> {
        let metrics = Metrics::new();
        let execute = Measured::new(self.execute, metrics.clone());
        let bodies = (self.settings.bodies_bytes >> 10).clamp(1, u32::MAX as usize >> 4);
        let written = self.audit.as_ref().map(|(audit, _)| Arc::clone(audit));
        let answers = Answers::new(self.queue.clone());
        let answers = match self.audit {
            Some((audit, required)) => answers.audit(audit, required),
            None => answers,
        };
        Ok(Service {
            inner: Arc::new(Inner {
                execute: Arc::new(execute),
                answers,
                audit: written,
                breakers: self.breakers,
                tokens: Tokens::new(self.queue.clone()),
                queue: self.queue,
                skills: self.skills,
                policy: self.policy,
                closed: self.closed,
                callbacks: Callbacks::new(self.callbacks)?,
                rates: Rates::new(&self.settings),
                streams: Places::new(self.settings.streams),
                sent: Sent::new(self.settings.answers_bytes),
                settings: self.settings,
                metrics,
                stopping: CancellationToken::new(),
                cut: CancellationToken::new(),
                bodies: Arc::new(tokio::sync::Semaphore::new(bodies)),
                looks: Threads::new(LOOKS),
                large_looks: Threads::new(LARGE_LOOKS),
                reads: Threads::new(READS),
                fetches: Threads::new(FETCHES),
            }),
        })
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("closed", &self.inner.closed)
            .finish_non_exhaustive()
    }
}
