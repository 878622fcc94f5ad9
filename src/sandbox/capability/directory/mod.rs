//! Directories, through `wasi:filesystem`, implemented on cap-std: every path is resolved beneath a
//! directory that was granted, by the kernel where it can.
//!
//! wasmtime-wasi's own implementation is not used: it opens whatever there is and waits at a FIFO
//! for ever, reads whole directories into memory, knows no quota, and blocks on threads that a
//! runtime waits for when it ends.

mod descriptor;
mod fuzzing;
mod host;
mod listing;
mod scratch;
mod shared;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};

use super::{Backing, NotGranted, Own, Refusals};
use crate::execution::HostError;
use crate::grant::{Capability, Denial, DirectoryGrant, Grants, Mode, SCRATCH};
use crate::limits::Limits;
use crate::sandbox::classify::Stop;
use crate::sandbox::state::State;

use descriptor::{Directory, Origin};
pub use fuzzing::open_below;
use scratch::Scratch;
pub(crate) use scratch::ScratchRoot;
use shared::{Fault, Shared};

/// Puts our implementation in the place of wasmtime-wasi's.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    preopens::add_to_linker::<State, Own>(linker, State::called)?;
    types::add_to_linker::<State, Own>(linker, State::called)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The directories of one execution.
#[derive(Default)]
pub(in crate::sandbox) struct Directories {
    granted: Vec<Arc<Directory>>,
    shared: Option<Arc<Shared>>,
    scratch: Option<Removal>,
}

/// How long an answer waits for its scratch directory to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// A scratch directory that is to be removed, on a thread that may block, even where this is only
/// dropped.
pub(in crate::sandbox) struct Removal {
    scratch: Option<Scratch>,
    shared: Arc<Shared>,
}

impl Removal {
    /// Waits until the directory is gone, or for five seconds.
    pub async fn done(mut self) {
        let scratch = self.scratch.take();
        let Ok(removing) = self.shared.start_now(move || drop(scratch)) else {
            return;
        };
        // It goes on without us: an answer is not kept back by a disk that does not answer.
        if tokio::time::timeout(PATIENCE, removing).await.is_err() {
            tracing::warn!("a scratch directory is still being removed");
        }
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take() {
            self.shared.finish(move || drop(scratch));
        }
    }
}

impl Directories {
    /// Opens what is granted. May be dropped at any point.
    pub(super) async fn open(
        grants: &Grants,
        backing: &Backing,
        refusals: &Refusals,
        limits: &Limits,
    ) -> Result<Self, NotGranted> {
        if grants.directories.is_empty() && !grants.scratch {
            return Ok(Directories::default());
        }
        let shared = Shared::new(Arc::clone(&backing.disk), refusals.clone(), limits);
        let shared = Arc::new(shared);
        let mut directories = Directories::default();
        for grant in &grants.directories {
            directories.add(&shared, grant.clone()).await?;
        }
        if grants.scratch {
            let root = Arc::clone(&backing.scratch);
            let made = shared.run(move || Ok(root.make())).await;
            let scratch = match made {
                Ok(Ok(scratch)) => scratch,
                Ok(Err(error)) => {
                    return Err(NotGranted::Host(HostError::Io {
                        what: "cannot make a scratch directory in",
                        path: backing.scratch.base.clone(),
                        source: error,
                    }));
                }
                Err(fault) => return Err(not_granted(fault)),
            };
            let grant = DirectoryGrant {
                host: scratch.path.clone(),
                guest: SCRATCH.into(),
                mode: Mode::Rw,
            };
            directories.scratch = Some(Removal {
                scratch: Some(scratch),
                shared: Arc::clone(&shared),
            });
            directories.add(&shared, grant).await?;
        }
        directories.shared = Some(shared);
        Ok(directories)
    }

    async fn add(&mut self, shared: &Arc<Shared>, grant: DirectoryGrant) -> Result<(), NotGranted> {
        let origin = Origin {
            shared: Arc::clone(shared),
            grant: Arc::new(grant.clone()),
        };
        // The outer error is the grant's, the inner one the execution's.
        let opened = shared.run(move || Directory::ambient(origin)).await;
        match opened {
            Ok(Ok(directory)) => {
                self.granted.push(Arc::new(directory));
                Ok(())
            }
            Ok(Err(error)) if is_exhausted(&error) => Err(NotGranted::Host(HostError::Io {
                what: "cannot open",
                path: grant.host,
                source: error,
            })),
            Ok(Err(error)) => Err(NotGranted::Denied(denial(&grant, &reason(&error)))),
            Err(fault) => Err(not_granted(fault)),
        }
    }

    /// The scratch directory, for whoever sees to its removal once the guest is gone.
    pub fn take_scratch(&mut self) -> Option<Removal> {
        self.scratch.take()
    }

    fn granted(&self) -> Vec<Arc<Directory>> {
        self.granted.clone()
    }

    /// The limit that was met, if one was.
    pub fn stop(&self) -> Option<Stop> {
        self.shared.as_ref()?.met()
    }

    /// Files that were made, and bytes that were written.
    pub fn used(&self) -> (u64, u64) {
        self.shared.as_ref().map_or((0, 0), |shared| shared.used())
    }
}

/// Whether the directory is there.
pub(super) fn openable(grant: &DirectoryGrant) -> Result<(), Denial> {
    match std::fs::metadata(&grant.host) {
        Err(error) => Err(denial(grant, &reason(&error))),
        Ok(metadata) if !metadata.is_dir() => Err(denial(grant, NO_DIRECTORY)),
        Ok(_) => Ok(()),
    }
}

fn not_granted(fault: Fault) -> NotGranted {
    match fault {
        Fault::Stop(stop) => NotGranted::Stopped(stop),
        Fault::Code(code) => NotGranted::Host(HostError::Internal(format!(
            "a directory cannot be opened: {code}"
        ))),
    }
}

const NO_DIRECTORY: &str = "is not a directory";

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotADirectory => NO_DIRECTORY.to_owned(),
        _ => format!("cannot be opened: {error}"),
    }
}

/// Whether the process or the machine has run out of files or memory: no fault of the grant's.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| {
        [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&Errno::from_raw_os_error(code))
    })
}

fn denial(grant: &DirectoryGrant, reason: &str) -> Denial {
    Denial {
        capability: Capability::Directory,
        subject: grant.guest.clone(),
        reason: format!("`{}` {reason}", grant.host.display()),
        hint: "grant a directory that exists and that this user may read".into(),
    }
}
