//! Setting a host up.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use super::{Host, Inner};
use crate::egress::{Egress, NameServers, Roots};
use crate::execution::{ExecutionRequest, HostError, Observer, SkillIdentity};
use crate::grant::Mode;
use crate::limits::{Limits, MIB};
use crate::policy::{CurrentPolicy, Policy};
use crate::sandbox::{
    Apart, Backing, Cache, CompileEvent, CompileSettings, Disk, EngineSettings, Engines, Isolation,
    Loader, OnCompile, Runner, ScratchRoot,
};
use crate::secret::Secrets;
#[cfg(feature = "storage")]
use crate::storage::Storage;

/// Asked before each execution.
pub(super) type Before =
    Arc<dyn Fn(&ExecutionRequest, &SkillIdentity) -> Result<(), Refusal> + Send + Sync>;

/// A hook's "no".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub message: String,
    /// When another try would be admitted, where that is known.
    pub retry_at: Option<DateTime<Utc>>,
}

impl<T: Into<String>> From<T> for Refusal {
    fn from(message: T) -> Self {
        Refusal {
            message: message.into(),
            retry_at: None,
        }
    }
}

/// Sets up a [`Host`].
///
/// ```
/// use skillhost::{Host, Limits};
///
/// let host = Host::builder()
///     .ceiling(Limits { memory_bytes: 128 << 20, ..Limits::ceiling() })
///     .concurrency(8)
///     .before(|request, skill| match request.tenant {
///         Some(_) => Ok(()),
///         None => Err(format!("{} runs for tenants only", skill.name).into()),
///     })
///     .build()?;
/// # Ok::<(), skillhost::HostError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct HostBuilder {
    cache: Option<PathBuf>,
    cache_bytes: u64,
    scratch: Option<PathBuf>,
    apart: Vec<(PathBuf, Mode)>,
    for_operator: bool,
    concurrency: u32,
    default_limits: Limits,
    ceiling: Limits,
    stack_bytes: u64,
    compile: CompileSettings,
    on_compile: Option<OnCompile>,
    observer: Option<Arc<dyn Observer>>,
    before: Option<Before>,
    name_servers: NameServers,
    roots: Roots,
    certificates: Vec<Vec<u8>>,
    policy: Option<Policy>,
    secrets: Secrets,
    #[cfg(feature = "storage")]
    storage: Option<PathBuf>,
}

impl Default for HostBuilder {
    fn default() -> Self {
        HostBuilder {
            cache: None,
            cache_bytes: 2048 * MIB,
            scratch: None,
            apart: Vec::new(),
            for_operator: false,
            concurrency: 1_000,
            default_limits: Limits::default(),
            ceiling: Limits::ceiling(),
            stack_bytes: Limits::default().stack_bytes,
            compile: CompileSettings::default(),
            on_compile: None,
            observer: None,
            before: None,
            name_servers: NameServers::default(),
            roots: Roots::default(),
            certificates: Vec::new(),
            policy: None,
            secrets: Secrets::default(),
            #[cfg(feature = "storage")]
            storage: None,
        }
    }
}

impl HostBuilder {
    /// Keeps compiled components in this folder, which must be this user's and closed to others
    /// (it is made with mode 0700). Without one, each host compiles for itself.
    ///
    /// What is in the folder is native code and is run: see the documentation on the compiled
    /// cache in `ARCHITECTURE.md`.
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// How large the compiled cache may grow, in bytes. Default 2 GiB. What was not used for
    /// longest goes first.
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Makes scratch directories in this folder. Default: the system's folder for temporary files.
    ///
    /// The host makes a folder of its own there, of mode 0700, when a scratch directory is granted
    /// for the first time, and removes those that were left by hosts that were killed. It makes none where others could
    /// take that away: where the folder is another user's, and not root's, or others may write in it and it has no sticky
    /// bit.
    pub fn scratch(mut self, folder: impl Into<PathBuf>) -> Self {
        self.scratch = Some(folder.into());
        self
    }

    /// Never grants a directory that contains this folder or file, or that lies in it, in this mode or a
    /// wider one: with [`Mode::Ro`] not at all, with [`Mode::Rw`] not to be written. May be called
    /// several times. What links lead to that stand in a folder of which that holds in both modes is held to it, too,
    /// and what lies beneath one that is mounted elsewhere; but a link that was named itself is held to its own mode.
    ///
    /// The folders of the compiled cache and of scratch directories, and the file of what skills keep,
    /// stand apart without saying so, in both modes. An embedder adds where it keeps its policy, its
    /// secrets, its queue, and the library and packages of [`InstalledSkills`](super::InstalledSkills).
    /// A request that is granted such a directory is rejected.
    pub fn never_grant(mut self, path: impl Into<PathBuf>, mode: Mode) -> Self {
        self.apart.push((path.into(), mode));
        self
    }

    /// Whether the operator reads the failures, such as at a terminal. Then they name paths of the host (of
    /// directories that are granted, and of files of secrets), and flags of `skillhost run`.
    ///
    /// Off by default, as whoever runs a skill through a server need not know the paths, and has no flags: the
    /// log has the paths then, at the level of a warning.
    pub fn for_operator(mut self, reads: bool) -> Self {
        self.for_operator = reads;
        self
    }

    /// How many executions may be in flight at once; more wait for a free slot. Default 1,000, at
    /// least 1. Each slot reserves 4 GiB of address space (not of memory).
    pub fn concurrency(mut self, executions: u32) -> Self {
        self.concurrency = executions.max(1);
        self
    }

    /// The limits where neither the request nor the skill names one.
    pub fn default_limits(mut self, limits: Limits) -> Self {
        self.default_limits = limits;
        self
    }

    /// What no request gets past. Default [`Limits::ceiling`].
    pub fn ceiling(mut self, limits: Limits) -> Self {
        self.ceiling = limits;
        self
    }

    /// The stack of every guest, in bytes, from 64 KiB to 16 MiB; a value outside is moved to the
    /// nearer end. Default 512 KiB.
    pub fn stack_bytes(mut self, bytes: u64) -> Self {
        self.stack_bytes = bytes.clamp(64 << 10, 16 << 20);
        self
    }

    /// How components are compiled.
    pub fn compile(mut self, settings: CompileSettings) -> Self {
        self.compile = settings;
        self
    }

    /// Hears of compilations, which take seconds for a large component.
    pub fn on_compile(mut self, hear: impl Fn(&CompileEvent) + Send + Sync + 'static) -> Self {
        self.on_compile = Some(Arc::new(hear));
        self
    }

    /// Gets the events of all executions.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Asked before each execution that would otherwise be admitted; may refuse it.
    pub fn before(
        mut self,
        hook: impl Fn(&ExecutionRequest, &SkillIdentity) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.before = Some(Arc::new(hook));
        self
    }

    /// Who is asked for the addresses of names that a skill connects to. Default the system's.
    pub fn name_servers(mut self, servers: NameServers) -> Self {
        self.name_servers = servers;
        self
    }

    /// Whose certificates are trusted inside TLS. Default [`Roots::Bundled`].
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Trusts one more authority, or several: their certificates in PEM form.
    pub fn certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.push(pem.into());
        self
    }

    /// What skills are granted beside what a request grants. Without one, nothing is.
    ///
    /// A skill for whose name the policy has grants, and whose digest is not confirmed for them, is
    /// rejected. [`Host::set_policy`] puts another in its place.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Where the values of secrets are found, which a policy may say as well. Nowhere, unless it is
    /// said.
    pub fn secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// Keeps what skills are granted to keep (`wasi:keyvalue`) in this SQLite file, which is made when
    /// something is kept for the first time, of mode 0600. Other processes may use it, too. Without
    /// one, nobody can be granted storage.
    #[cfg(feature = "storage")]
    pub fn storage(mut self, file: impl Into<PathBuf>) -> Self {
        self.storage = Some(file.into());
        self
    }

    /// Sets the host up.
    ///
    /// Of the process it changes what comes of two signals: of the one by which guests are interrupted, and, where nothing
    /// was set for it, of `SIGXFSZ`, which is ignored, so that a write past the process's file-size limit fails and does
    /// not end the process. Processes that it starts afterwards ignore that one, too, unless they set it back.
    ///
    /// # Errors
    /// Where the engine cannot be set up, the compiled cache cannot be used, or a certificate that
    /// was to be added is none.
    pub fn build(self) -> Result<Host, HostError> {
        let stack_bytes = usize::try_from(self.stack_bytes)
            .map_err(|_| HostError::Engine("the stack is too large".into()))?;
        let policy = CurrentPolicy::new(self.policy);
        policy.set_capacity(self.concurrency);
        let egress = Egress::new(
            self.name_servers,
            self.roots,
            &self.certificates,
            Some(Arc::new(policy.breakers())),
        )?;
        let engines = Engines::new(EngineSettings {
            concurrency: self.concurrency,
            stack_bytes,
            compiles: matches!(self.compile.isolation, Isolation::InProcess),
        })?;
        let cache = match &self.cache {
            Some(folder) => Some(Arc::new(Cache::open(
                folder,
                self.cache_bytes,
                engines.compatibility(),
            )?)),
            None => None,
        };
        let scratch = self.scratch.unwrap_or_else(std::env::temp_dir);
        let mut apart = self.apart;
        apart.extend(self.cache.map(|folder| (folder, Mode::Ro)));
        if let Isolation::Child { program, .. } = &self.compile.isolation {
            apart.push((program.clone(), Mode::Rw));
        }
        // A name that is in it, and that nobody has: what lies beside is nobody's.
        apart.push((scratch.join("skillhost-scratch"), Mode::Ro));
        #[cfg(feature = "storage")]
        apart.extend(self.storage.clone().map(|file| (file, Mode::Ro)));
        let secrets = self.secrets.files();
        apart.extend(secrets.map(|file| (file.to_owned(), Mode::Ro)));
        let backing = Backing {
            disk: Arc::new(Disk::new()),
            apart: Arc::new(Apart::new(apart)),
            for_operator: self.for_operator,
            scratch: Arc::new(ScratchRoot::new(scratch)),
            egress,
            #[cfg(feature = "storage")]
            storage: self.storage.map(|file| Arc::new(Storage::new(file))),
            #[cfg(not(feature = "storage"))]
            storage: None,
        };
        let stack = |limits: Limits| Limits {
            stack_bytes: self.stack_bytes,
            ..limits
        };
        Ok(Host {
            inner: Arc::new(Inner {
                loader: Loader::new(engines, cache, self.compile, self.on_compile),
                keeps: backing.storage.is_some(),
                runner: Runner::new(backing),
                default_limits: stack(self.default_limits),
                ceiling: stack(self.ceiling),
                observer: self.observer,
                before: self.before,
                policy,
                secrets: self.secrets,
                skills: ArcSwap::default(),
                loading: Mutex::default(),
                runtime: OnceLock::new(),
            }),
        })
    }
}
