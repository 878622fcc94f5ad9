//! Executes skills that are loaded when the first job needs them.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use skillhost::execution::BoxFuture;
use skillhost::skill::{Digest, Library, LibraryError, Package, SkillRef};
use skillhost::{
    Admission, Cause, CompileSettings, Control, Execute, ExecutionRequest, ExecutionResult,
    Failure, Host, HostError, LoadError, Resolution,
};

use crate::cli::packages::Packages;
use crate::cli::policy::PolicyFile;

/// How long what was looked up holds: which version a name means, and what the policy says.
const HOLD: Duration = Duration::from_secs(1);

/// How often it is said that a skill is still needed.
const SAY: Duration = Duration::from_secs(3_600);

/// A host with the library of installed skills behind it, and what was kept for jobs.
pub struct Lazy {
    host: Host,
    library: Library,
    packages: Packages,
    /// `None`: nothing is granted for good.
    policy: Option<PolicyFile>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    names: HashMap<SkillRef, (Digest, Instant)>,
    /// When it was last said that a skill is needed.
    needed: HashMap<Digest, Instant>,
    /// When the policy was last looked at, and what its file looked like.
    policy: Option<(Instant, Option<Look>)>,
}

/// What tells one state of a file from another.
type Look = (u64, u64, SystemTime);

/// Why a skill cannot be executed.
enum Missing {
    Elsewhere(String),
    Broken(HostError),
}

impl Lazy {
    /// A host that loads from there.
    pub fn new(
        host: Host,
        library: Library,
        packages: Packages,
        policy: Option<PolicyFile>,
    ) -> Self {
        Lazy {
            host,
            library,
            packages,
            policy,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest that a reference means now, its skill being loaded.
    async fn loaded(self: &Arc<Self>, reference: &SkillRef) -> Result<Digest, Missing> {
        let known = match reference {
            SkillRef::Digest(digest) => Some(*digest),
            SkillRef::Name { .. } => {
                let known = self.known();
                let found = known.names.get(reference);
                found
                    .filter(|(_, at)| at.elapsed() < HOLD)
                    .map(|(digest, _)| *digest)
            }
        };
        if let Some(digest) = known
            && self.host.skill(&digest.into()).is_some()
        {
            self.still_needed(digest);
            return Ok(digest);
        }
        let (this, wanted) = (Arc::clone(self), reference.clone());
        let package = tokio::task::spawn_blocking(move || this.package(&wanted))
            .await
            .map_err(|error| Missing::Broken(HostError::Internal(error.to_string())))??;
        let digest = match package {
            Looked::Loaded(digest) => digest,
            Looked::Read(package) => {
                let digest = package.digest;
                match self.host.load_package(*package).await {
                    Ok(_) => digest,
                    Err(LoadError::Host(error)) => return Err(Missing::Broken(error)),
                    Err(error) => {
                        let message = format!("`{reference}` cannot be loaded: {error}");
                        return Err(Missing::Elsewhere(message));
                    }
                }
            }
        };
        if matches!(reference, SkillRef::Name { .. }) {
            let entry = (digest, Instant::now());
            self.known().names.insert(reference.clone(), entry);
        }
        Ok(digest)
    }

    /// Says from time to time that a skill that is loaded is needed.
    fn still_needed(&self, digest: Digest) {
        let mut known = self.known();
        let said = known.needed.entry(digest).or_insert_with(Instant::now);
        if said.elapsed() > SAY {
            *said = Instant::now();
            drop(known);
            self.packages.needed(&digest);
        }
    }

    /// Looks a skill up, and reads it unless it is loaded.
    fn package(&self, reference: &SkillRef) -> Result<Looked, Missing> {
        let most = CompileSettings::default().max_component_bytes;
        let missing = |error: LibraryError| Missing::Elsewhere(error.to_string());
        let package = match self.library.find(reference) {
            Ok(installed) if self.host.skill(&installed.digest.into()).is_some() => {
                return Ok(Looked::Loaded(installed.digest));
            }
            Ok(_) => self.library.read(reference, most).map_err(missing)?,
            Err(error @ LibraryError::NotInstalled { .. }) => {
                let SkillRef::Digest(digest) = reference else {
                    return Err(missing(error));
                };
                return match self.packages.read(digest) {
                    Some(package) => Ok(Looked::Read(Box::new(package))),
                    None => Err(missing(error)),
                };
            }
            Err(error) => return Err(missing(error)),
        };
        // So that what dies of it can be replayed with exactly this, also after an update.
        if let Err(error) = self.packages.keep(&package, SystemTime::now()) {
            tracing::warn!("{error}");
        }
        Ok(Looked::Read(Box::new(package)))
    }

    /// Reads the policy again where its file has changed. One that cannot be read changes nothing.
    fn refresh_policy(&self) {
        let Some(file) = &self.policy else { return };
        {
            let mut known = self.known();
            if matches!(&known.policy, Some((at, _)) if at.elapsed() < HOLD) {
                return;
            }
            let look = std::fs::metadata(file.path())
                .and_then(|file| Ok((file.ino(), file.len(), file.modified()?)))
                .ok();
            match &mut known.policy {
                Some((at, before)) if *before == look => {
                    *at = Instant::now();
                    return;
                }
                before => *before = Some((Instant::now(), look)),
            }
        }
        match file.read() {
            Ok(policy) => self.host.set_policy(policy),
            Err(error) => tracing::warn!("the policy cannot be used, and stays as it was: {error}"),
        }
    }
}

enum Looked {
    Loaded(Digest),
    Read(Box<Package>),
}

/// Shared by all that a worker does at once.
pub struct Shared(pub Arc<Lazy>);

impl Execute for Shared {
    fn execute<'a>(
        &'a self,
        mut request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        Box::pin(async move {
            self.0.refresh_policy();
            match self.0.loaded(&request.skill).await {
                Ok(digest) => request.skill = digest.into(),
                Err(Missing::Broken(error)) => return Err(error),
                Err(Missing::Elsewhere(message)) => {
                    let failure = Failure::new(Cause::NotLoaded, message);
                    return Ok(control.refuse(request, None, failure));
                }
            }
            self.0.host.execute_with(request, control).await
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        let known = self.0.known().names.get(&request.skill).copied();
        match known {
            // The version that it was last looked up as, which need not be the newest that is loaded.
            Some((digest, _)) => {
                let mut request = request.clone();
                request.skill = digest.into();
                self.0.host.resolve(&request)
            }
            None => self.0.host.resolve(request),
        }
    }

    fn can_execute(&self, request: &ExecutionRequest) -> Admission {
        self.0.host.can_execute(request)
    }

    fn ready<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.0.refresh_policy();
            // Why it is not there is told when it is to be executed.
            let _ = self.0.loaded(&request.skill).await;
        })
    }
}
