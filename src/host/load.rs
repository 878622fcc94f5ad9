//! Loading skills.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Host;
use super::skill::{Known, Loaded, Skill, Skills};
use crate::execution::{Failure, Fault, HostError};
use crate::limits::Limits;
use crate::sandbox::{CompileError, Component, LoadFault, Misfit, Ready, Surface};
use crate::skill::{Description, DescriptionError, Digest, Package, PackageError, ToolSchemas};
use crate::usage::{ResourceUsage, Unreported};

/// A skill that cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// It cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It does not fit the contract.
    #[error("it does not fit this host: {0}")]
    Misfit(#[from] Misfit),
    /// It did not answer when asked what it is.
    #[error("it did not describe itself: {}", .failure.message)]
    Describe {
        /// Why not.
        failure: Box<Failure>,
        /// What it has cost to compile it, and to ask.
        usage: Box<ResourceUsage>,
    },
    /// What it says of itself cannot be believed.
    #[error("its description of itself is not acceptable: {0}")]
    Description(#[from] DescriptionError),
    /// `SKILL.md` and the component disagree about its name.
    #[error("its SKILL.md names it {document:?}, and the component says {component:?}")]
    Name {
        /// The name in `SKILL.md`.
        document: String,
        /// The name that the component gives.
        component: String,
    },
    /// The host itself is broken.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl LoadError {
    /// Whose fault it is: the skill's, where whatever loads it would find the same; or else the host's.
    pub fn fault(&self) -> Fault {
        match self {
            LoadError::Describe { failure, .. } => failure.fault,
            LoadError::Package(PackageError::Io { .. })
            | LoadError::Compile(CompileError::Child(_))
            | LoadError::Host(_) => Fault::Host,
            LoadError::Package(_)
            | LoadError::Compile(_)
            | LoadError::Misfit(_)
            | LoadError::Description(_)
            | LoadError::Name { .. } => Fault::Skill,
        }
    }

    /// What was spent on it, as far as it is known.
    pub fn usage(&self) -> ResourceUsage {
        match self {
            LoadError::Describe { usage, .. } => (**usage).clone(),
            _ => ResourceUsage::default(),
        }
    }
}

impl From<LoadFault> for LoadError {
    fn from(fault: LoadFault) -> Self {
        match fault {
            LoadFault::Compile(error) => error.into(),
            LoadFault::Misfit(misfit) => misfit.into(),
            LoadFault::Host(error) => error.into(),
        }
    }
}

impl Host {
    /// Loads a skill from a `.wasm` file or a folder: reads it, compiles it unless that was done
    /// before, asks it what it is, and checks the answer. Loading it again gives the same skill.
    ///
    /// Where the future is dropped, a child process that compiles is killed
    /// ([`Isolation::Child`](crate::Isolation::Child)); in this process compiling goes on to its end.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load(&self, path: impl AsRef<Path>) -> Result<Skill, LoadError> {
        let path = path.as_ref().to_owned();
        let max = self.inner.loader.settings.max_component_bytes;
        let package = blocking(move || Package::read(&path, max)).await??;
        self.load_package(package).await
    }

    /// Loads a lone component from memory.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load_bytes(&self, component: impl Into<Arc<[u8]>>) -> Result<Skill, LoadError> {
        self.load_package(Package::from_bytes(component)).await
    }

    /// Loads a skill that was read.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load_package(&self, package: Package) -> Result<Skill, LoadError> {
        if let Some(skill) = self.skill(&package.digest.into()) {
            agree(&package, &skill.identity().name)?;
            return Ok(skill);
        }
        let key = package.component_digest;
        let gate = Gate {
            host: self,
            key,
            lock: Arc::clone(lock(&self.inner.loading).entry(key).or_default()),
        };
        let _alone = gate.lock.lock().await;
        match self.skill(&package.digest.into()) {
            Some(skill) => agree(&package, &skill.identity().name).map(|()| skill),
            None => self.load_alone(package).await,
        }
    }

    async fn load_alone(&self, package: Package) -> Result<Skill, LoadError> {
        let host = self.clone();
        let component = Arc::clone(&package.component);
        let digest = package.component_digest;
        let unwanted = CancellationToken::new();
        // Cancelled where this future is dropped.
        let _wanted = unwanted.clone().drop_guard();
        let with_kept = |mut ready: Ready| {
            let kept = ready.description.take().and_then(checked_again);
            (ready, kept)
        };
        let find = move || Ok(host.inner.loader.find(&digest)?.map(with_kept));
        let found: Result<_, LoadError> = blocking(find).await?;
        let (ready, kept) = match found? {
            Some(found) => found,
            None => {
                let host = self.clone();
                let place = self.inner.loader.place(component.len() as u64).await?;
                let load = move || {
                    let loader = &host.inner.loader;
                    let ready = loader.load(&component, &digest, &place, &unwanted)?;
                    Ok::<_, LoadError>(with_kept(ready))
                };
                blocking(load).await??
            }
        };
        let (description, schemas) = match kept {
            Some(kept) => kept,
            None => {
                let description = self.describe(&ready.component, ready.took).await?;
                // A skill's schemas may take some time to be made ready.
                let checked = blocking(move || description.check().map(|made| (description, made)));
                let (description, schemas) = checked.await??;
                if let Some(cache) = &self.inner.loader.cache {
                    let context_bytes = ready.component.context_bytes;
                    cache.describe(&package.component_digest, context_bytes, &description)?;
                }
                (description, schemas)
            }
        };
        agree(&package, &description.name)?;
        let known = Known::new(self, package.digest, description, schemas, package.manifest);
        let skill = Skill {
            inner: Arc::new(Loaded {
                known,
                component: ready.component,
                component_bytes: package.component.len() as u64,
                unreported: Arc::new(Unreported::new(ready.took)),
            }),
        };
        self.inner.skills.rcu(|skills| {
            let mut skills = Skills::clone(skills);
            skills.insert(&skill);
            skills
        });
        Ok(skill)
    }

    /// Asks a component what it is: under the default limits, with nothing granted.
    async fn describe(
        &self,
        component: &Component,
        compile_time: Duration,
    ) -> Result<Description, LoadError> {
        let limits = Limits {
            attachment_bytes: 0,
            ..Limits::resolve(&self.inner.ceiling, &[], &self.inner.default_limits)
        };
        let (described, usage) = self.inner.runner.describe(component, limits).await?;
        described.map_err(|failure| LoadError::Describe {
            failure: Box::new(failure),
            usage: Box::new(ResourceUsage {
                compile_time,
                ..usage
            }),
        })
    }

    /// What a component imports and exports, without compiling it or running any of it; also one
    /// that does not fit this host.
    ///
    /// # Errors
    /// Where it is no component, or too large.
    pub fn surface(&self, package: &Package) -> Result<(Surface, Option<Misfit>), CompileError> {
        let surface =
            crate::sandbox::check(&package.component, &self.inner.loader.settings)?.surface;
        let misfit = crate::sandbox::misfit(&surface);
        Ok((surface, misfit))
    }

    /// [`load`](Host::load) for callers without an async runtime.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load_blocking(&self, path: impl AsRef<Path>) -> Result<Skill, LoadError> {
        let path = path.as_ref().to_owned();
        self.block_on(self.load(path))?
    }

    /// [`load_package`](Host::load_package) for callers without an async runtime.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load_package_blocking(&self, package: Package) -> Result<Skill, LoadError> {
        self.block_on(self.load_package(package))?
    }
}

/// One of those who want to load a component. The last one to leave, also by being dropped, takes
/// the lock with it.
struct Gate<'a> {
    host: &'a Host,
    key: Digest,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        let mut loading = lock(&self.host.inner.loading);
        // One count is the map's and one is this gate's own.
        if Arc::strong_count(&self.lock) == 2 {
            loading.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A map of locks: a panicking holder cannot have left it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A description that was kept, which was checked before it was. One that does not pass again is not
/// the skill's fault, which is asked anew.
fn checked_again(kept: Description) -> Option<(Description, Vec<ToolSchemas>)> {
    match kept.check_again() {
        Ok(schemas) => Some((kept, schemas)),
        Err(error) => {
            tracing::warn!(
                "what the compiled cache has of a skill's description is no use: {error}"
            );
            None
        }
    }
}

/// Whether `SKILL.md`, where there is one, and the component give the skill one name.
fn agree(package: &Package, component: &str) -> Result<(), LoadError> {
    match &package.document {
        Some(document) if document.name != component => Err(LoadError::Name {
            document: document.name.clone(),
            component: component.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Runs something that blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HostError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| HostError::Internal(format!("a blocking task failed: {error}")))
}

#[cfg(all(test, feature = "doctor"))]
impl Host {
    /// What the cache has of a component's description.
    pub(crate) fn kept(&self, component: &Digest) -> Option<Description> {
        let cache = self.inner.loader.cache.as_ref()?;
        cache.find(component)?.description
    }

    /// Keeps this as the description of a skill that is loaded.
    pub(crate) fn keep(&self, skill: &Skill, component: &Digest, description: &Description) {
        let cache = self.inner.loader.cache.as_ref().unwrap();
        let context_bytes = skill.inner.component.context_bytes;
        cache
            .describe(component, context_bytes, description)
            .unwrap();
    }
}
