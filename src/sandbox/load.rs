//! From a component's bytes to one that is compiled, bound and ready, by way of the cache.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wasmtime::component;

use super::cache::{Cache, Entry, Lock};
use super::compile::{self, Checked, CompileError, CompileSettings, Isolation};
use super::compilers::{Compilers, Compiling};
use super::contract::{self, Component, Misfit};
use super::engine::{Engines, Tier};
use crate::execution::HostError;
use crate::skill::{Description, Digest};

/// Something that happens while a component is compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompileEvent {
    /// It is not in the cache, and is now being compiled.
    Started {
        /// The component's size in bytes.
        component_bytes: u64,
    },
    /// Another host or process is compiling it, or this host as many others as it may
    /// ([`CompileSettings::at_once`]); waiting for that.
    Waiting {
        /// The component's size in bytes.
        component_bytes: u64,
    },
    /// That is over; what another made is there, or else [`Started`](CompileEvent::Started) or another
    /// [`Waiting`](CompileEvent::Waiting) comes next. It does not come where nobody wants the component any more.
    Waited {
        /// How long that took.
        took: Duration,
    },
    /// It was compiled.
    Finished {
        /// How long that took.
        took: Duration,
    },
}

/// How often to look whether another is done compiling.
const LOOK: Duration = Duration::from_millis(10);
/// How long to wait for it, where compiling itself has no bound.
const PATIENCE: Duration = Duration::from_secs(120);

/// Hears of compilations.
pub(crate) type OnCompile = Arc<dyn Fn(&CompileEvent) + Send + Sync>;

/// Makes components ready.
pub(crate) struct Loader {
    pub engines: Arc<Engines>,
    pub cache: Option<Arc<Cache>>,
    pub settings: CompileSettings,
    on_compile: Option<OnCompile>,
    compilers: Compilers,
}

/// A component that is ready.
pub(crate) struct Ready {
    pub component: Arc<Component>,
    /// What it answered to `describe` when it was asked for the first time, where that is kept.
    pub description: Option<Description>,
    /// What compiling it or reading it from the cache took.
    pub took: Duration,
}

/// A component from the cache, and what it answered to `describe`, where that is kept.
type Loaded = (Arc<Component>, Option<Description>);

/// Why a component could not be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadFault {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Loader {
    /// A loader for these engines.
    pub fn new(
        engines: Engines,
        cache: Option<Arc<Cache>>,
        settings: CompileSettings,
        on_compile: Option<OnCompile>,
    ) -> Self {
        Loader {
            engines: Arc::new(engines),
            cache,
            on_compile,
            compilers: Compilers::new(settings.at_once),
            settings,
        }
    }

    /// A component that was compiled before. Blocks.
    pub fn find(&self, digest: &Digest) -> Result<Option<Ready>, LoadFault> {
        let began = Instant::now();
        let loaded = match &self.cache {
            Some(cache) => self.cached(cache, digest)?,
            None => None,
        };
        match (&loaded, &self.cache) {
            (Some(_), _) => tracing::trace!(%digest, "the compiled code is in the cache"),
            (None, Some(_)) => tracing::trace!(%digest, "the compiled code is not in the cache"),
            (None, None) => {}
        }
        Ok(loaded.map(|loaded| ready(loaded, began)))
    }

    /// Waits until a component of so many bytes may be compiled. Before anybody is kept from compiling the same, and on no
    /// thread: as many as like may wait.
    pub async fn place(&self, component_bytes: u64) -> Result<Compiling, HostError> {
        if let Some(place) = self.compilers.free(component_bytes) {
            return Ok(place);
        }
        self.tell(CompileEvent::Waiting { component_bytes });
        let began = Instant::now();
        let place = self.compilers.next(component_bytes).await;
        let took = began.elapsed();
        self.tell(CompileEvent::Waited { took });
        place.ok_or_else(|| HostError::Internal("nothing is compiled any more".into()))
    }

    /// Makes a component ready, by one that has a place. Blocks for as long as it takes to compile it, or for another to;
    /// a child process that compiles is killed when `unwanted` is cancelled, and nobody is waited for any more.
    pub fn load(
        &self,
        component: &[u8],
        digest: &Digest,
        _place: &Compiling,
        unwanted: &CancellationToken,
    ) -> Result<Ready, LoadFault> {
        let began = Instant::now();
        let Some(cache) = &self.cache else {
            return self
                .uncached(component, unwanted)
                .map(|component| ready((component, None), began));
        };
        let _lock = self.alone(cache, component, digest, unwanted)?;
        // Whoever had the lock before may have made the entry.
        if let Some(loaded) = self.cached(cache, digest)? {
            return Ok(ready(loaded, began));
        }
        let aside = cache.aside()?;
        let context_bytes = self.compile(component, &aside, unwanted)?;
        // Opened before it gets its name: from then on another process may make room of it.
        let component = self.open(&aside, context_bytes);
        if matches!(component, Ok(_) | Err(LoadFault::Misfit(_))) {
            // Also where it does not fit, so that it need not be compiled again to find that out.
            cache.insert(digest, context_bytes, aside)?;
        }
        Ok(ready((component?, None), began))
    }

    /// Waits until nobody else is compiling this. Who takes longer than compiling may (a process can
    /// be stopped, and never go on) is not waited for: two may make an entry, it is only a waste.
    fn alone(
        &self,
        cache: &Cache,
        component: &[u8],
        digest: &Digest,
        unwanted: &CancellationToken,
    ) -> Result<Option<Lock>, LoadFault> {
        if let Some(lock) = cache.try_lock(digest)? {
            return Ok(Some(lock));
        }
        let patience = match self.settings.isolation {
            Isolation::Child { wall_time, .. } => wall_time,
            Isolation::InProcess => PATIENCE,
        };
        self.tell(CompileEvent::Waiting {
            component_bytes: component.len() as u64,
        });
        let began = Instant::now();
        let lock = loop {
            std::thread::sleep(LOOK);
            if unwanted.is_cancelled() {
                let message = "nobody wants it any more".to_owned();
                return Err(CompileError::Stopped(message).into());
            }
            if let Some(lock) = cache.try_lock(digest)? {
                break Some(lock);
            }
            if began.elapsed() > patience {
                tracing::warn!(
                    "another process does not come to the end of compiling; not waited for"
                );
                break None;
            }
        };
        self.tell(CompileEvent::Waited {
            took: began.elapsed(),
        });
        Ok(lock)
    }

    fn tell(&self, event: CompileEvent) {
        if let Some(on_compile) = &self.on_compile {
            on_compile(&event);
        }
    }

    /// The component as it stands in the cache, if it does. An entry that the engine refuses is
    /// none.
    fn cached(&self, cache: &Cache, digest: &Digest) -> Result<Option<Loaded>, LoadFault> {
        let Some(entry) = cache.find(digest) else {
            return Ok(None);
        };
        let Entry {
            code,
            context_bytes,
            description,
        } = entry;
        if context_bytes > self.settings.max_context_bytes {
            return Ok(None);
        }
        match self.open(&code, context_bytes) {
            Ok(component) => Ok(Some((component, description))),
            Err(LoadFault::Misfit(misfit)) => Err(misfit.into()),
            Err(error) => {
                tracing::warn!("an entry of the compiled cache is made anew: {error}");
                Ok(None)
            }
        }
    }

    fn uncached(
        &self,
        component: &[u8],
        unwanted: &CancellationToken,
    ) -> Result<Arc<Component>, LoadFault> {
        let folder = tempfile::Builder::new()
            .prefix("skillhost-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir()
            .map_err(|source| HostError::Io {
                what: "cannot make a folder in",
                path: std::env::temp_dir(),
                source,
            })?;
        let code = folder.path().join("code.cwasm");
        let compiled = self.compile(component, &code, unwanted);
        let opened = compiled.and_then(|context_bytes| self.open(&code, context_bytes));
        // By their names, as no file may be left to be opened, with which the folder would be looked through.
        let _ = std::fs::remove_file(&code);
        let _ = std::fs::remove_dir(folder.path());
        opened
    }

    /// Compiles to a file, once it is clear that the result can be used. Gives the bytes of the contexts
    /// of its instances.
    fn compile(
        &self,
        component: &[u8],
        output: &Path,
        unwanted: &CancellationToken,
    ) -> Result<u64, LoadFault> {
        let Checked {
            surface,
            context_bytes,
        } = compile::check(component, &self.settings)?;
        if let Some(misfit) = contract::misfit(&surface) {
            return Err(misfit.into());
        }
        self.tell(CompileEvent::Started {
            component_bytes: component.len() as u64,
        });
        let began = Instant::now();
        let engine = &self.engines.any()?.engine;
        let isolation = &self.settings.isolation;
        compile::compile(engine, component, isolation, output, unwanted)?;
        self.tell(CompileEvent::Finished {
            took: began.elapsed(),
        });
        Ok(context_bytes)
    }

    /// Maps compiled code into memory. It goes into the pool, or where its shape does not fit, is
    /// made on demand.
    fn open(&self, code: &Path, context_bytes: u64) -> Result<Arc<Component>, LoadFault> {
        let refused = match self.engines.pooled() {
            Some(tier) => match deserialize(code, tier) {
                Ok(component) => return Ok(Component::bind(&component, tier, context_bytes)?),
                Err(error) => Some(error),
            },
            None => None,
        };
        if let Some(error) = refused {
            tracing::debug!("a component does not fit the pool: {error:#}");
        }
        let tier = self.engines.on_demand()?;
        let component = deserialize(code, tier)
            .map_err(|error| HostError::Engine(format!("compiled code is refused: {error:#}")))?;
        Ok(Component::bind(&component, tier, context_bytes)?)
    }
}

fn ready((component, description): Loaded, began: Instant) -> Ready {
    Ready {
        component,
        description,
        took: began.elapsed(),
    }
}

fn deserialize(code: &Path, tier: &Tier) -> wasmtime::Result<component::Component> {
    // SAFETY: the file holds what `Engine::precompile_component` made, unchanged:
    // - it stands in the compiled cache, whose folder belongs to this user and is closed to others
    //   (`Cache::open`), or in a temporary folder of mode 0700 made for this one call;
    // - it was written aside for this call, or written aside and renamed by another, and then its
    //   length, owner and mode were checked against the record written after it (`Cache::find`);
    // - wasmtime checks that it was made by the same version with the same settings;
    // - nothing writes to it once it has its name: entries are replaced by renaming and removed by
    //   unlinking, and a mapping outlives both.
    // Another process of the same user could break this; that is outside the promise (see the
    // documentation of the cache).
    unsafe { component::Component::deserialize_file(&tier.engine, code) }
}
