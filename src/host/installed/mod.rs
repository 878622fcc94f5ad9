//! A host with the library of installed skills behind it.

mod listing;
mod policy;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::skill::Known;
use super::{Host, LoadError, Skill, admission};
use crate::execution::{
    Admission, BoxFuture, Cause, Control, Execute, ExecutionRequest, ExecutionResult, Failure,
    HostError, Resolution, moment, stopped,
};
use crate::limits::LimitOverrides;
use crate::sandbox::CompileError;
use crate::skill::{Digest, Installed, Library, LibraryError, Package, Packages, SkillRef};
use crate::usage::ResourceUsage;

use listing::Listings;
pub use listing::{ListedSkill, Listing};
use policy::PolicyFile;

/// How long what was looked up holds: what is installed, and what the policy says.
const HOLD: Duration = Duration::from_secs(1);

/// How often it is said that a skill is still needed.
const SAY: Duration = Duration::from_secs(3_600);

/// Executes installed skills, each of which is loaded when it is first asked for. Cheap to clone;
/// every clone is the same.
///
/// A skill that is installed, replaced or removed meanwhile, also by another process, is so here
/// within a second: a bare name then means another version, and what is no longer installed is
/// forgotten. So it is with the policy file, where one is named. A skill that was
/// [added](InstalledSkills::add) can be executed by its digest.
///
/// ```no_run
/// use skillhost::{ExecutionRequest, Execute, Control, Host, InstalledSkills, skill::Library};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let library = Library::new("/var/lib/my-agent/skills");
/// let skills = InstalledSkills::builder(Host::builder().build()?, library).build();
/// for listed in skills.list().await?.newest() {
///     println!("{}: {}", listed.identity.name, listed.description.description);
/// }
/// let request = ExecutionRequest::new("text-stats", serde_json::json!({"text": "to be"}));
/// println!("{}", skills.execute(request, Control::default()).await?.status);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct InstalledSkills {
    inner: Arc<Inner>,
}

struct Inner {
    host: Host,
    library: Library,
    packages: Option<Packages>,
    policy: Option<PolicyFile>,
    listings: Listings,
    /// When it was last said that a skill is needed.
    needed: Mutex<HashMap<Digest, Instant>>,
    /// What stays loaded, installed or not.
    added: Mutex<HashSet<Digest>>,
    /// What is being loaded, by how it is referred to.
    loading: Mutex<HashMap<SkillRef, Loading>>,
}

/// What loading a skill comes to, once it has.
type Loading = watch::Receiver<Option<Result<Digest, Arc<Missing>>>>;

/// Puts [`InstalledSkills`] together.
#[must_use]
pub struct InstalledSkillsBuilder {
    host: Host,
    library: Library,
    packages: Option<Packages>,
    policy: Option<PolicyFile>,
}

impl InstalledSkillsBuilder {
    /// Finds skills by digest also among those that are kept for jobs, and keeps there what is
    /// loaded, so that a job that dies of it can be replayed with exactly that.
    pub fn packages(mut self, packages: Packages) -> Self {
        self.packages = Some(packages);
        self
    }

    /// Reads the policy from this file again whenever it has changed. It need not be there at first. Once
    /// a policy holds, a file that is gone, is empty or cannot be used changes nothing, and is warned of:
    /// one with nothing but a comment takes everything back that it said.
    ///
    /// It is first read when the first request comes: who wants to hear now what is wrong with it
    /// reads it now, and gives it to the host.
    pub fn policy(mut self, file: impl Into<PathBuf>) -> Self {
        self.policy = Some(PolicyFile::new(file.into()));
        self
    }

    /// As [`policy`](Self::policy), for a file that must be there: one that is gone changes nothing.
    pub fn policy_that_must_be(mut self, file: impl Into<PathBuf>) -> Self {
        self.policy = Some(PolicyFile::new(file.into()).required());
        self
    }

    /// Puts it together. Nothing is read yet.
    pub fn build(self) -> InstalledSkills {
        InstalledSkills {
            inner: Arc::new(Inner {
                host: self.host,
                library: self.library,
                packages: self.packages,
                policy: self.policy,
                listings: Listings::default(),
                needed: Mutex::default(),
                added: Mutex::default(),
                loading: Mutex::default(),
            }),
        }
    }
}

/// Why a skill is not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// It is none, or cannot be run here.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The library does not take it.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// What was spent on a skill that cannot be had. Of all who waited for it, one takes it.
type Spent = Arc<Mutex<ResourceUsage>>;

/// Why a skill cannot be had.
enum Missing {
    /// It is not here, and may be elsewhere; or it is here, and cannot be loaded.
    Here(Failure, Spent),
    Broken(HostError),
}

impl InstalledSkills {
    /// A host, and the library that it loads from.
    pub fn builder(host: Host, library: Library) -> InstalledSkillsBuilder {
        InstalledSkillsBuilder {
            host,
            library,
            packages: None,
            policy: None,
        }
    }

    /// The host that loads and runs.
    pub fn host(&self) -> &Host {
        &self.inner.host
    }

    /// The library that is loaded from. After a change of it, [`refresh`](Self::refresh) sees that
    /// the change is known at once.
    pub fn library(&self) -> &Library {
        &self.inner.library
    }

    /// Loads a skill that need not be installed. From then on it can be executed by its digest,
    /// whatever becomes of the library.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn add(&self, package: Package) -> Result<Skill, LoadError> {
        let skill = self.inner.host.load_package(package).await?;
        lock(&self.inner.added).insert(skill.digest());
        Ok(skill)
    }

    /// Installs a skill, which is loaded first to see that it is one. It is known here at once, and kept
    /// for jobs where others are. With `replace`, it takes the place of another one of its name and
    /// version.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub async fn install(
        &self,
        package: Package,
        replace: bool,
    ) -> Result<Installed, InstallError> {
        let loaded = self.inner.host.load_package(package.clone()).await?;
        let inner = Arc::clone(&self.inner);
        let installed = tokio::task::spawn_blocking(move || {
            let description = loaded.description();
            let installed = inner.library.install(&package, description, replace)?;
            // A job that names it may be claimed as soon as it is known, and never load it again.
            inner.keep(&package);
            Ok::<_, LibraryError>(installed)
        });
        let installed = installed
            .await
            .map_err(|error| LoadError::Host(HostError::Internal(error.to_string())))??;
        self.refresh().await?;
        Ok(installed)
    }

    /// The installed skill that a reference means now, loaded.
    ///
    /// # Errors
    /// [`Cause::NotLoaded`], with the reason, or [`Cause::HostError`].
    pub async fn load(&self, reference: &SkillRef) -> Result<Skill, Failure> {
        let gone = || Failure::new(Cause::NotLoaded, format!("`{reference}` is gone"));
        match self.loaded(reference).await {
            Ok(digest) => self.inner.host.skill(&digest.into()).ok_or_else(gone),
            Err(missing) => Err(missed(missing)),
        }
    }

    /// Looks at the policy file every second, also while no requests come: those that wait hear at once of
    /// a bound that was raised. It never ends; where no file is followed, it does nothing.
    pub async fn follow_policy(&self) {
        if self.inner.policy.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(HOLD).await;
            self.inner.refresh_policy();
        }
    }

    /// The digest that a reference means now, its skill being loaded. Where whoever asks gives up, loading
    /// goes on, so that who asks again need not wait for all of it again. Compiling has a bound of its own,
    /// and the same is loaded once, whoever asks.
    async fn loaded(&self, reference: &SkillRef) -> Result<Digest, Missing> {
        if let Some(digest) = self.there(reference).await {
            return Ok(digest);
        }
        let mut loading = {
            let mut all = lock(&self.inner.loading);
            match all.get(reference) {
                Some(loading) => loading.clone(),
                None => {
                    let loading = self.begin_to_load(reference.clone());
                    all.insert(reference.clone(), loading.clone());
                    loading
                }
            }
        };
        match loading.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(digest))) => Ok(*digest),
            Ok(Some(Err(missing))) => Err(match &**missing {
                Missing::Here(failure, spent) => Missing::Here(failure.clone(), Arc::clone(spent)),
                Missing::Broken(error) => Missing::Broken(HostError::Internal(error.to_string())),
            }),
            Ok(None) | Err(_) => {
                // Whoever loaded it is gone, with the runtime that it was on.
                lock(&self.inner.loading).remove(reference);
                let message = "loading a skill came to no end".to_owned();
                Err(Missing::Broken(HostError::Internal(message)))
            }
        }
    }

    /// Loads a skill on a task of its own.
    fn begin_to_load(&self, reference: SkillRef) -> Loading {
        let (tell, loading) = watch::channel(None);
        let skills = self.clone();
        tokio::spawn(async move {
            let loaded = skills.load_now(&reference).await.map_err(Arc::new);
            lock(&skills.inner.loading).remove(&reference);
            // Whoever asked may have given up.
            let _ = tell.send(Some(loaded));
        });
        loading
    }

    /// The digest that a reference means now, where its skill is loaded.
    async fn there(&self, reference: &SkillRef) -> Option<Digest> {
        let digest = match reference {
            SkillRef::Digest(digest) => *digest,
            SkillRef::Name { .. } => {
                let listing = self.listing_for_lookup().await?;
                listing.find(reference)?.identity.digest
            }
        };
        self.inner.host.skill(&digest.into())?;
        self.inner.still_needed(digest);
        Some(digest)
    }

    async fn load_now(&self, reference: &SkillRef) -> Result<Digest, Missing> {
        let (inner, wanted) = (Arc::clone(&self.inner), reference.clone());
        let package = tokio::task::spawn_blocking(move || inner.package(&wanted))
            .await
            .map_err(|error| Missing::Broken(HostError::Internal(error.to_string())))??;
        let package = match package {
            Found::Loaded(digest) => return Ok(digest),
            Found::Read(package) => package,
        };
        let digest = package.digest;
        match self.inner.host.load_package(*package).await {
            Ok(_) => Ok(digest),
            Err(LoadError::Host(error)) => Err(Missing::Broken(error)),
            Err(LoadError::Compile(CompileError::Child(error))) => {
                tracing::error!(error, "a skill cannot be compiled");
                Err(not_here(format!(
                    "`{reference}` cannot be compiled here; the host's log says why"
                )))
            }
            Err(error) => {
                let message = format!("`{reference}` cannot be loaded: {error}");
                let mut failure = Failure::new(Cause::NotLoaded, message);
                failure.fault = error.fault();
                Err(Missing::Here(failure, Arc::new(Mutex::new(error.usage()))))
            }
        }
    }

    /// What is installed, as far as it can be known; why not is told where a skill is not found.
    async fn listing_for_lookup(&self) -> Option<Arc<Listing>> {
        match self.known_listing() {
            Some(listing) => Some(listing),
            None => self.refresh().await.ok(),
        }
    }
}

enum Found {
    Loaded(Digest),
    Read(Box<Package>),
}

impl Inner {
    /// Looks a skill up, reads it unless it is loaded, and keeps it. Blocks.
    fn package(&self, reference: &SkillRef) -> Result<Found, Missing> {
        let found = self.find(reference)?;
        if let Found::Read(package) = &found {
            self.keep(package);
        }
        Ok(found)
    }

    /// Looks a skill up, and reads it unless it is loaded. Blocks.
    fn find(&self, reference: &SkillRef) -> Result<Found, Missing> {
        let most = self.host.inner.loader.settings.max_component_bytes;
        let missing = |error: LibraryError| not_here(told(&error));
        let package = match self.library.find(reference) {
            Ok(installed) if self.host.skill(&installed.digest.into()).is_some() => {
                return Ok(Found::Loaded(installed.digest));
            }
            Ok(_) => self.library.read(reference, most).map_err(missing)?,
            Err(error @ LibraryError::NotInstalled { .. }) => {
                let SkillRef::Digest(digest) = reference else {
                    return Err(missing(error));
                };
                let kept = self.packages.as_ref();
                kept.and_then(|packages| packages.read(digest, most))
                    .ok_or_else(|| missing(error))?
            }
            Err(error) => return Err(missing(error)),
        };
        Ok(Found::Read(Box::new(package)))
    }

    /// What is known of a skill that was read, where what it says of itself was kept. Blocks.
    fn known(&self, package: Package) -> Option<Known> {
        let installed = self.library.find(&package.digest.into()).ok()?;
        let description = self.library.description(&installed).ok()??;
        let schemas = description.check_again().ok()?;
        let Package {
            digest, manifest, ..
        } = package;
        Some(Known::new(
            &self.host,
            digest,
            description,
            schemas,
            manifest,
        ))
    }

    /// Keeps a skill, so that what dies of it can be replayed with exactly this, also after an update.
    /// Blocks.
    fn keep(&self, package: &Package) {
        if let Some(packages) = &self.packages
            && let Err(error) = packages.keep(package, SystemTime::now())
        {
            tracing::warn!("{error}");
        }
    }

    /// Says from time to time that a skill that is loaded is needed.
    fn still_needed(&self, digest: Digest) {
        let Some(packages) = &self.packages else {
            return;
        };
        let mut needed = lock(&self.needed);
        let said = needed.entry(digest).or_insert_with(Instant::now);
        if said.elapsed() > SAY {
            *said = Instant::now();
            drop(needed);
            packages.needed(&digest);
        }
    }

    /// Puts a policy in force that has changed.
    fn refresh_policy(&self) {
        if let Some(file) = &self.policy
            && let Some(policy) = file.changed(self.host.policy().is_some())
        {
            self.host.set_policy(policy);
        }
    }
}

/// The failure of a request whose skill cannot be had.
fn not_here(message: String) -> Missing {
    Missing::Here(Failure::new(Cause::NotLoaded, message), Spent::default())
}

fn missed(missing: Missing) -> Failure {
    match missing {
        Missing::Here(failure, _) => failure,
        Missing::Broken(error) => {
            tracing::error!(%error, "the host is broken");
            Failure::new(Cause::HostError, "the host is broken; its log says why")
        }
    }
}

/// What is told of an error of the library to whoever asked for a skill, who may be anybody: not what
/// names files of the host.
fn told(error: &LibraryError) -> String {
    match error {
        LibraryError::NotInstalled { .. }
        | LibraryError::Ambiguous { .. }
        | LibraryError::Occupied { .. } => error.to_string(),
        _ => {
            tracing::error!(%error, "the library of skills cannot be used");
            "the library of skills cannot be used; the host's log says why".to_owned()
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Execute for InstalledSkills {
    fn execute<'a>(
        &'a self,
        mut request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        Box::pin(async move {
            self.inner.refresh_policy();
            let (deadline, cancellation) = (request.deadline, control.cancellation.as_ref());
            let loaded = tokio::select! {
                biased;
                stopped = stopped(deadline.map(moment), cancellation) => {
                    let failure = stopped.failure("while its skill was loaded");
                    return Ok(control.refuse(request, None, failure));
                }
                loaded = self.loaded(&request.skill) => loaded,
            };
            match loaded {
                Ok(digest) => request.skill = digest.into(),
                Err(Missing::Broken(error)) => return Err(error),
                Err(Missing::Here(failure, spent)) => {
                    let spent = std::mem::take(&mut *lock(&spent));
                    return Ok(control.refuse_after(request, None, failure, spent));
                }
            }
            self.inner.host.execute_with(request, control).await
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        let SkillRef::Name { .. } = &request.skill else {
            return self.inner.host.resolve(request);
        };
        // A name means what is installed, and not what happens to be loaded.
        let listing = self.inner.listings.latest();
        match listing
            .as_ref()
            .and_then(|listing| listing.find(&request.skill))
        {
            Some(listed) => self.inner.host.resolve_as(request, &listed.identity.digest),
            None => Err(admission::not_loaded(request)),
        }
    }

    /// A skill that is not loaded yet is read, and judged by what it said of itself when it was installed. Of one
    /// of which that was not kept, this says that it is not loaded: have it made [`ready`](Execute::ready) first.
    fn can_execute_within(&self, request: &ExecutionRequest, limits: &LimitOverrides) -> Admission {
        self.inner.refresh_policy();
        let host = &self.inner.host;
        let as_digest = |digest: Digest| {
            let skill = host.skill(&digest.into());
            let known = skill.as_ref().map(|skill| &skill.inner.known);
            host.admission(request, limits, known)
        };
        let there = match &request.skill {
            SkillRef::Digest(digest) => Some(*digest),
            name @ SkillRef::Name { .. } => {
                (self.known_listing()).and_then(|listing| Some(listing.find(name)?.identity.digest))
            }
        };
        if let Some(digest) = there.filter(|digest| host.skill(&(*digest).into()).is_some()) {
            return as_digest(digest);
        }
        match self.inner.find(&request.skill) {
            Ok(Found::Loaded(digest)) => as_digest(digest),
            Ok(Found::Read(package)) => {
                host.admission(request, limits, self.inner.known(*package).as_ref())
            }
            Err(missing) => Admission {
                refusal: Some(missed(missing)),
                ..host.admission(request, limits, None)
            },
        }
    }

    fn hopeless<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Option<Failure>> {
        let host = &self.inner.host;
        let skill = match &request.skill {
            SkillRef::Digest(_) => host.skill(&request.skill),
            // A name means what is installed, and not what happens to be loaded.
            name @ SkillRef::Name { .. } => {
                let listing = self.inner.listings.latest();
                let found = listing.as_ref().and_then(|listing| listing.find(name));
                found.and_then(|found| host.skill(&found.identity.digest.into()))
            }
        };
        Box::pin(host.hopeless_in(request, skill))
    }

    fn ready<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            self.inner.refresh_policy();
            self.loaded(&request.skill)
                .await
                .map_err(missed)
                .map(|_| ())
        })
    }
}

impl fmt::Debug for InstalledSkills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstalledSkills")
            .field("library", &self.inner.library)
            .field("host", &self.inner.host)
            .finish_non_exhaustive()
    }
}
