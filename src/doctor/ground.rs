//! Where the hostile guests run: a host of its own, in a folder of its own.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use rustix::fs::StatVfsMountFlags;
use serde_json::json;
use uuid::Uuid;

use super::grants::secret::secrets;
use super::handmade::{Handmade, TOOL};
use crate::egress::NameServers;
use crate::execution::{
    BoxFuture, Cause, Control, Event, ExecutionRequest, ExecutionResult, HostError, Observer,
};
use crate::grant::Capability;
use crate::host::{Host, HostBuilder, LoadError, Skill};
use crate::limits::{Limit, LimitOverrides};
use crate::sandbox::Isolation;
use crate::text::{printable, shortened};

use super::check::{Finding, Kind};

/// One probe: what is tried, and how. A limit or a grant that is added gets an entry with its name.
pub(super) struct Probe {
    pub kind: Kind,
    /// The field of `Limits`, the capability, or what else is looked at.
    pub name: &'static str,
    /// What is tried, in at most 28 characters.
    pub tried: &'static str,
    pub probe: for<'g> fn(&'g Ground) -> BoxFuture<'g, Result<Finding, Trouble>>,
}

/// Why something could not be tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the guest could not be made: {0}")]
    Text(String),
    #[error("the guest could not be loaded: {0}")]
    Load(#[from] LoadError),
    #[error("the guest could not be run: {0}")]
    Host(#[from] HostError),
    #[error("`{}`: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// An error of the file system with the path that it is about.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Trouble + '_ {
    move |source| Trouble::Io {
        path: path.to_owned(),
        source,
    }
}

/// Whether the file system there forbids to run what is in it.
pub(super) fn cannot_run_code(folder: &Path) -> Result<bool, Trouble> {
    let mount = rustix::fs::statvfs(folder).map_err(|error| at(folder)(error.into()))?;
    Ok(mount.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// What every probe is given.
pub(super) struct Ground {
    pub host: Host,
    /// Where components are compiled on the host that is examined.
    pub isolation: Isolation,
    /// Executions that the host that is examined may have in flight.
    pub concurrency: u32,
    /// The compiled cache that is examined.
    pub cache: Option<PathBuf>,
    folder: tempfile::TempDir,
}

/// One execution, as its caller saw it.
pub(super) struct Run {
    pub result: ExecutionResult,
    pub heard: Heard,
    /// From the moment at which the wall time began until the caller had the answer.
    pub took: Duration,
    /// Of that, for how long others had the processor, which says nothing of this host.
    pub waited: Duration,
}

/// What the guest said while it ran. Each record counts for 16 bytes beside its text.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Heard {
    started: Option<Moment>,
    pub log_bytes: u64,
    pub progress_bytes: u64,
    /// What was refused to it last.
    pub denied: Option<Capability>,
}

/// What each record of chatter counts for beside its text.
pub(super) const RECORD: u64 = 16;

/// A moment, and for how long the thread had waited for a processor by then.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    thread: ThreadId,
    waited: Duration,
}

impl Moment {
    fn now() -> Self {
        // Where the kernel does not say, it has not waited.
        let waited = std::fs::read_to_string("/proc/thread-self/schedstat")
            .ok()
            .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse().ok())
            .map_or(Duration::ZERO, Duration::from_nanos);
        Moment {
            at: Instant::now(),
            thread: std::thread::current().id(),
            waited,
        }
    }

    fn since(self, earlier: Moment) -> Duration {
        self.at.saturating_duration_since(earlier.at)
    }

    /// Nothing where the earlier moment is one of another thread.
    fn waited_since(self, earlier: Moment) -> Duration {
        if self.thread == earlier.thread {
            self.waited.saturating_sub(earlier.waited)
        } else {
            Duration::ZERO
        }
    }
}

#[derive(Default)]
struct Listener(Mutex<Heard>);

impl Observer for Listener {
    fn observe(&self, _request: Uuid, event: &Event<'_>) {
        // Figures only: whatever a panicking holder left can be used.
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started => heard.started = Some(Moment::now()),
            Event::Denied { denial } => heard.denied = Some(denial.capability),
            Event::Log { message, .. } => heard.log_bytes += message.len() as u64 + RECORD,
            Event::Progress(progress) => {
                let details = progress.details.as_ref().map_or(0, |details| details.len());
                heard.progress_bytes += (progress.step.len() + details) as u64 + RECORD;
            }
            _ => {}
        }
    }
}

impl Ground {
    pub fn new(
        isolation: Isolation,
        concurrency: u32,
        cache: Option<PathBuf>,
    ) -> Result<Self, Trouble> {
        let folder = tempfile::Builder::new()
            .prefix("skillhost-doctor-")
            .tempdir()
            .map_err(at(&std::env::temp_dir()))?;
        // Nothing could be tried there, and each probe would say so in words of its own.
        if cannot_run_code(folder.path())? {
            let noexec = io::Error::other("it is mounted `noexec`, and compiled code is run there");
            return Err(at(folder.path())(noexec));
        }
        let scratch = scratch(folder.path());
        std::fs::create_dir(&scratch).map_err(at(&scratch))?;
        Ok(Ground {
            host: Host::builder()
                .concurrency(2)
                .scratch(scratch)
                .secrets(secrets())
                .storage(folder.path().join("storage.db"))
                .build()?,
            isolation,
            concurrency,
            cache,
            folder,
        })
    }

    /// The same with a host of another stack, which is set for a whole host.
    pub fn with_stack(&self, bytes: u64) -> Result<Self, Trouble> {
        self.with(Host::builder().stack_bytes(bytes))
    }

    /// The same with a host that asks this server for the addresses of names.
    pub fn with_names(&self, server: SocketAddr) -> Result<Self, Trouble> {
        let servers = NameServers::Servers(vec![server]);
        self.with(Host::builder().name_servers(servers))
    }

    fn with(&self, host: HostBuilder) -> Result<Self, Trouble> {
        let isolation = self.isolation.clone();
        let ground = Ground::new(isolation, self.concurrency, self.cache.clone())?;
        let host = host.concurrency(1).build()?;
        Ok(Ground { host, ..ground })
    }

    /// Folders that what the host keeps lies in.
    pub fn own_folders(&self) -> [PathBuf; 2] {
        [self.folder.path().to_owned(), std::env::temp_dir()]
    }

    /// The folder in which scratch directories are made.
    pub fn scratch(&self) -> PathBuf {
        scratch(self.folder.path())
    }

    /// A new folder for one probe.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Trouble> {
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path).map_err(at(&path))?;
        Ok(path)
    }

    /// Compiles a guest and loads it.
    pub async fn load(&self, guest: &Handmade) -> Result<Skill, Trouble> {
        let component = guest.component().map_err(Trouble::Text)?;
        Ok(self.host.load_bytes(component).await?)
    }

    /// Runs the tool of a skill. The number is for the guest to go by: it finds it in its local 8,
    /// as which attempt at the request this is.
    pub async fn run(
        &self,
        skill: &Skill,
        number: u32,
        limits: LimitOverrides,
    ) -> Result<Run, Trouble> {
        self.request(numbered(skill, number).limits(limits)).await
    }

    /// Runs a request.
    pub async fn request(&self, request: ExecutionRequest) -> Result<Run, Trouble> {
        let listener = Arc::new(Listener::default());
        let control = Control::default().observer(listener.clone());
        let result = self.host.execute_with(request.tool(TOOL), control).await?;
        let ended = Moment::now();
        let heard = *listener.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Run {
            took: heard
                .started
                .map_or(Duration::ZERO, |started| ended.since(started)),
            waited: heard
                .started
                .map_or(Duration::ZERO, |started| ended.waited_since(started)),
            result,
            heard,
        })
    }
}

fn scratch(folder: &Path) -> PathBuf {
    folder.join("scratch-directories")
}

/// A request that carries a number for the guest to go by.
pub(super) fn numbered(skill: &Skill, number: u32) -> ExecutionRequest {
    ExecutionRequest {
        attempt: number,
        ..ExecutionRequest::new(skill.digest(), json!({}))
    }
}

/// The limit that ended an execution, and its value, if it was one.
pub(super) fn met(result: &ExecutionResult) -> Option<(Limit, u64)> {
    match result.failure.as_ref()?.cause {
        Cause::ResourceExhausted { limit, allowed, .. } | Cause::Timeout { limit, allowed, .. } => {
            Some((limit, allowed))
        }
        _ => None,
    }
}

/// How an execution ended, to stand in a sentence.
pub(super) fn ended(result: &ExecutionResult) -> String {
    match &result.failure {
        None => "it succeeded".into(),
        Some(failure) => {
            let message = printable(&failure.message, false).into_owned();
            format!(
                "it ended with `{}`: {}",
                result.status,
                shortened(&message, 200)
            )
        }
    }
}
