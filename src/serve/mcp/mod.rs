//! The door for agents that speak the Model Context Protocol (MCP).
//!
//! An [`McpServer`] offers the tools of skills to any number of clients. It is given what executes
//! (a host, or whatever wraps one) and the installed skills, and adds nothing but the protocol:
//!
//! ```no_run
//! use std::sync::Arc;
//! use skillhost::serve::{Caller, mcp::McpServer};
//! use skillhost::{Host, InstalledSkills, skill::Library};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let library = Library::new("/var/lib/my-agent/skills");
//! let skills = InstalledSkills::builder(Host::builder().build()?, library).build();
//! let server = McpServer::builder(Arc::new(skills.clone()), skills).build();
//! // Until the client closes its end.
//! server.serve(Caller::operator(), tokio::io::empty(), tokio::io::sink()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Modules, in the order in which to read them:

mod settings;

mod catalog;
#[cfg(feature = "serve")]
mod message;
mod name;

mod kept;

mod content;
mod input;

mod fuzzing;

mod approval;
mod question;

mod notify;
mod progress_token;

mod call;

mod builtin;
mod search;

mod resources;
mod tasks;

mod unfit;

mod session;
mod untaken;

#[cfg(feature = "serve")]
mod asked;
#[cfg(feature = "serve")]
mod body;
#[cfg(feature = "serve")]
mod http;
#[cfg(feature = "serve")]
mod patient;
mod stdio;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::service::{QuitReason, ServerInitializeError, serve_server};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::Execute;
use crate::host::InstalledSkills;
use crate::serve::Caller;
use crate::turns::Party;
use crate::turns::threads::{self, Threads};

#[cfg(feature = "serve")]
pub(super) use asked::Asks;
pub use catalog::ChosenSkill;
#[doc(hidden)]
pub use fuzzing::call as call_in;
#[cfg(feature = "serve")]
pub use http::{HttpSettings, McpService};
#[cfg(feature = "serve")]
pub(super) use http::{Measured, unread};
#[cfg(feature = "serve")]
pub(super) use message::Begins;
pub use session::McpSession;
pub use settings::{KeptBounds, McpSettings, UntakenBounds};
pub use tasks::{TASK_QUEUE, Tasks};

use catalog::{Catalog, Catalogs};
use kept::{Kept, Owner};
use question::Questions;
use search::Index;
use untaken::Answers;

/// Offers the tools of skills to clients. Cheap to clone; every clone is the same server.
#[derive(Clone)]
pub struct McpServer {
    inner: Arc<Inner>,
}

/// Threads on which files of skills and outputs that are kept are read, and tools are searched, in turns between tenants.
const READS: threads::Kind = threads::Kind {
    name: "mcp-reads",
    threads: 4,
    each: 2,
    max_waiting: 1_000,
    stack_bytes: None,
};

/// For how long a client that has asked for nothing waits until it is known what is installed: where the descriptions are
/// not kept, that may take long.
const LOOKING: Duration = Duration::from_secs(1);

/// What all sessions share.
struct Inner {
    execute: Arc<dyn Execute>,
    skills: InstalledSkills,
    /// `None`: all that is installed.
    chosen: Option<Vec<ChosenSkill>>,
    settings: McpSettings,
    tasks: Option<Tasks>,
    catalogs: Catalogs,
    kept: Kept,
    questions: Questions,
    index: Index,
    /// What reads files, or makes much of little.
    reads: Threads,
    /// How many calls of each owner may still be made at once.
    permits: Mutex<HashMap<Owner, Weak<Semaphore>>>,
    /// What answers take that nobody has read.
    answers: Arc<Answers>,
    /// How many calls run.
    running: watch::Sender<usize>,
}

/// A call that runs.
struct Running<'a>(&'a watch::Sender<usize>);

impl<'a> Running<'a> {
    fn begin(running: &'a watch::Sender<usize>) -> Self {
        running.send_modify(|calls| *calls += 1);
        Running(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}

/// Puts an [`McpServer`] together.
#[must_use]
pub struct McpServerBuilder {
    execute: Arc<dyn Execute>,
    skills: InstalledSkills,
    chosen: Option<Vec<ChosenSkill>>,
    settings: McpSettings,
    tasks: Option<Tasks>,
}

impl McpServerBuilder {
    /// Offers these skills only. All that are installed, the highest version of each, unless this is
    /// called.
    pub fn only(mut self, chosen: Vec<ChosenSkill>) -> Self {
        self.chosen = Some(chosen);
        self
    }

    /// Bounds and choices.
    pub fn settings(mut self, settings: McpSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Offers tasks, which a queue carries. Workers that take jobs of [`TASK_QUEUE`] do them.
    pub fn tasks(mut self, tasks: Tasks) -> Self {
        self.tasks = Some(tasks);
        self
    }

    /// Puts it together. Nothing is read or opened yet.
    pub fn build(self) -> McpServer {
        McpServer {
            inner: Arc::new(Inner {
                execute: self.execute,
                skills: self.skills,
                chosen: self.chosen,
                kept: Kept::new(self.settings.kept),
                answers: Answers::new(self.settings.untaken),
                settings: self.settings,
                tasks: self.tasks,
                catalogs: Catalogs::default(),
                questions: Questions::default(),
                index: Index::default(),
                reads: Threads::new(READS),
                permits: Mutex::default(),
                running: watch::Sender::default(),
            }),
        }
    }
}

/// Why a session with a client has ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum McpError {
    /// The client did not begin as the protocol wants it, or was gone before.
    #[error("the client did not begin a session: {0}")]
    Begin(Box<ServerInitializeError>),
    /// What is answered cannot be written.
    #[error("cannot write what is answered: {0}")]
    Write(io::Error),
    /// Something that cannot be, was.
    #[error("internal error: {0}")]
    Internal(String),
}

impl McpServer {
    /// A server of the tools of these skills, which `execute` executes: the skills themselves, or what
    /// wraps them.
    pub fn builder(execute: Arc<dyn Execute>, skills: InstalledSkills) -> McpServerBuilder {
        McpServerBuilder {
            execute,
            skills,
            chosen: None,
            settings: McpSettings::default(),
            tasks: None,
        }
    }

    /// The answers to one client, for any transport of the `rmcp` crate.
    pub fn session(&self, caller: Caller) -> McpSession {
        McpSession::new(
            Arc::clone(&self.inner),
            Some(caller),
            CancellationToken::new(),
        )
    }

    /// [`serve`](Self::serve) at standard input and output. Nothing else may write to the latter.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn serve_stdio(&self, caller: Caller) -> Result<(), McpError> {
        let (read, write) = rmcp::transport::io::stdio_pipes();
        self.serve(caller, read, write).await
    }

    /// Serves one client over a pair of streams, one message a line, until the client closes its end.
    /// What runs then is stopped.
    ///
    /// # Errors
    /// Where the client does not begin as the protocol wants it, or the first answer to it cannot be written.
    pub async fn serve(
        &self,
        caller: Caller,
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), McpError> {
        self.inner.looked().await;
        let transport = stdio::Paced::new(read, write, self.inner.settings.message_bytes);
        let running = match serve_server(self.session(caller), transport).await {
            Ok(running) => running,
            // Whoever is gone before anything was said wanted nothing.
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(ServerInitializeError::TransportError { error, .. }) => {
                let error = error.error.downcast::<io::Error>();
                return match error.map_or_else(io::Error::other, |error| *error) {
                    // Whoever is gone does not read either.
                    error if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                    error => Err(McpError::Write(error)),
                };
            }
            Err(error) => return Err(McpError::Begin(Box::new(error))),
        };
        match running.waiting().await {
            Ok(QuitReason::JoinError(error)) | Err(error) => {
                Err(McpError::Internal(error.to_string()))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Waits until no call runs: after a client is gone, or was cut off, until what it had called was
    /// stopped and written down.
    pub async fn idle(&self) {
        let mut running = self.inner.running.subscribe();
        // It does not fail, as the other end is here.
        let _ = running.wait_for(|calls| *calls == 0).await;
    }

    /// The largest message that is read, in bytes.
    #[cfg(feature = "serve")]
    pub(super) fn message_bytes(&self) -> usize {
        self.inner.settings.message_bytes
    }
}

impl Inner {
    /// What is offered now.
    async fn catalog(&self) -> Result<Arc<Catalog>, ErrorData> {
        let chosen = self.chosen.as_deref();
        self.catalogs
            .current(&self.skills, chosen, self.settings.plain_names)
            .await
            .map_err(|error| {
                tracing::error!("{error}");
                ErrorData::internal_error("the installed skills cannot be read", None)
            })
    }

    /// Sees to it that something is known of what is offered, against which changes are told.
    async fn looked(&self) {
        if self.catalogs.latest().is_none() {
            // Whoever asks for it is told why it cannot be read, or waits for as long as that takes.
            let _ = tokio::time::timeout(LOOKING, self.catalog()).await;
        }
    }

    /// Reads something on a thread that holds up nobody, in turns between tenants.
    async fn reading<T: Send + 'static>(
        &self,
        caller: &Caller,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ErrorData> {
        let party = Party::of(caller.tenant(), "");
        let doing = self.reads.spawn(&party, work).map_err(|error| {
            tracing::error!(%error, "nothing can be read for a client of MCP");
            ErrorData::internal_error("too much is read already; ask again in a second", None)
        })?;
        let failed = |_| ErrorData::internal_error("reading failed", None);
        doing.await.map_err(failed)
    }

    /// Leave to make one call, unless so many are made already.
    fn permit(&self, owner: &Owner) -> Option<OwnedSemaphorePermit> {
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        let semaphore = match permits.get(owner).and_then(Weak::upgrade) {
            Some(semaphore) => semaphore,
            None => {
                permits.retain(|_, semaphore| semaphore.strong_count() > 0);
                let semaphore = Arc::new(Semaphore::new(self.settings.concurrent_calls));
                permits.insert(Owner::clone(owner), Arc::downgrade(&semaphore));
                semaphore
            }
        };
        drop(permits);
        semaphore.try_acquire_owned().ok()
    }

    /// Changes of what is offered, from what somebody knows: from now on, where that is nothing.
    async fn changes(self: &Arc<Self>, known: Option<Arc<Catalog>>) -> Option<Changes> {
        Some(Changes {
            changes: self.skills.subscribe().await.ok()?,
            known,
            looked: false,
            server: Arc::clone(self),
        })
    }
}

/// Changes of what is offered.
struct Changes {
    server: Arc<Inner>,
    changes: tokio::sync::watch::Receiver<Arc<crate::host::Listing>>,
    known: Option<Arc<Catalog>>,
    /// Whether what is known was ever compared: it may have changed before.
    looked: bool,
}

impl Changes {
    /// Waits for the next; `None` where there will be none any more.
    async fn next(&mut self) -> Option<()> {
        loop {
            if std::mem::replace(&mut self.looked, true) {
                self.changes.changed().await.ok()?;
            }
            self.changes.mark_unchanged();
            let Ok(now) = self.server.catalog().await else {
                continue;
            };
            let known = self.known.replace(Arc::clone(&now));
            if known.is_some_and(|known| !known.has_the_skills_of(&now)) {
                return Some(());
            }
        }
    }
}
