//! Directories, through `wasi:filesystem`, implemented on cap-std: every path is resolved beneath a
//! directory that was granted, by the kernel where it can.
//!
//! wasmtime-wasi's own implementation is not used: it opens whatever there is and waits at a FIFO
//! for ever, reads whole directories into memory, knows no quota, and blocks on threads that a
//! runtime waits for when it ends.

mod apart;
mod carry;
mod descriptor;
mod fuzzing;
mod host;
mod led;
mod listing;
mod metadata;
mod mounts;
mod scratch;
mod shared;
mod stream;
mod way;

use std::io;
use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};

use super::{Backing, NotGranted, Own, Refusals};
use crate::execution::HostError;
use crate::exhaustion::is_exhausted;
use crate::grant::{Capability, Denial, DirectoryGrant, Grants, Mode, Remedy, SCRATCH};
use crate::limits::Limits;
use crate::sandbox::classify::Stop;
use crate::sandbox::state::State;
use crate::text::named;
use crate::turns::Party;

pub(crate) use apart::{Apart, Around};
use descriptor::{Directory, Origin, Refused};
pub use fuzzing::{carry_below, open_below};
pub(crate) use scratch::ScratchRoot;
use scratch::{Owner, Scratch};
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

/// A scratch directory that is removed, on a thread apart, when this is dropped.
pub(in crate::sandbox) struct Removal {
    scratch: Option<Scratch>,
    root: Arc<ScratchRoot>,
}

impl Drop for Removal {
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take() {
            self.root.remove(scratch);
        }
    }
}

impl Directories {
    /// Opens what is granted to a skill that runs for this tenant. May be dropped at any point.
    pub(super) async fn open(
        grants: &Grants,
        around: &Arc<Around>,
        tenant: Option<&str>,
        backing: &Backing,
        refusals: &Refusals,
        limits: &Limits,
    ) -> Result<Self, NotGranted> {
        if grants.directories.is_empty() && !grants.scratch {
            return Ok(Directories::default());
        }
        let party = Party::of(tenant, refusals.asker().name());
        let shared = Shared::new(Arc::clone(&backing.disk), party, refusals.clone(), limits);
        let shared = shared.by(grants.clock.unwrap_or_default());
        let shared = Arc::new(shared);
        let mut directories = Directories::default();
        for grant in &grants.directories {
            let origin = Origin {
                shared: Arc::clone(&shared),
                grant: Arc::new(grant.clone()),
                is_scratch: false,
            };
            let around = (Arc::clone(&backing.apart), Arc::clone(around));
            directories
                .add(origin, around, backing.for_operator)
                .await?;
        }
        if grants.scratch {
            let root = Arc::clone(&backing.scratch);
            let owner = Owner::new(tenant, refusals.asker().name());
            root.room(&owner).await;
            let made = shared.run(move || Ok(root.make(owner))).await;
            let scratch = match made {
                Ok(Ok(scratch)) => scratch,
                Ok(Err(error)) if is_exhausted(&error) => {
                    let why = "there is no room for a scratch directory at the moment";
                    return Err(NotGranted::Exhausted(why.into()));
                }
                Ok(Err(error)) => {
                    return Err(NotGranted::Host(HostError::Unavailable {
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
                root: Arc::clone(&backing.scratch),
            });
            let origin = Origin {
                shared: Arc::clone(&shared),
                grant: Arc::new(grant),
                is_scratch: true,
            };
            let around = (Arc::new(Apart::nothing()), Arc::default());
            let named = backing.for_operator;
            directories.add(origin, around, named).await?;
        }
        directories.shared = Some(shared);
        Ok(directories)
    }

    async fn add(
        &mut self,
        origin: Origin,
        (apart, around): (Arc<Apart>, Arc<Around>),
        for_operator: bool,
    ) -> Result<(), NotGranted> {
        let (shared, grant) = (Arc::clone(&origin.shared), Arc::clone(&origin.grant));
        // The outer error is the grant's, the inner one the execution's.
        let opened = shared.run(move || Directory::ambient(origin, &apart, &around));
        let opened = opened.await;
        match opened {
            Ok(Ok(directory)) => {
                self.granted.push(Arc::new(directory));
                Ok(())
            }
            Ok(Err(Refused::Error(error))) if is_exhausted(&error) => {
                let guest = &grant.guest;
                let why = format!("`{guest}` cannot be opened at the moment: {}", error.kind());
                Err(NotGranted::Exhausted(why))
            }
            Ok(Err(refused)) => {
                let denial = denial(&grant, &refused, for_operator);
                Err(NotGranted::Denied(denial))
            }
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

    /// The guest was told of an error.
    pub fn told(&self, code: types::ErrorCode) {
        if let Some(shared) = &self.shared {
            shared.told(code);
        }
    }

    /// Whether the last error that the guest was told of is that a disk has no room, and it made nothing since.
    pub fn found_full(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_full())
    }

    /// Files that were made, and bytes that were written.
    pub fn used(&self) -> (u64, u64) {
        self.shared.as_ref().map_or((0, 0), |shared| shared.used())
    }
}

/// Whether the directory is there, and may be granted. Blocks.
pub(super) fn openable(
    grant: &DirectoryGrant,
    around: &Around,
    backing: &Backing,
) -> Result<(), Denial> {
    match descriptor::open_ambient(grant, &backing.apart, around) {
        Ok(_) => Ok(()),
        // Whether it may be granted cannot be seen now, and will be when it is opened.
        Err(Refused::Error(error)) if is_exhausted(&error) => Ok(()),
        Err(refused) => Err(denial(grant, &refused, backing.for_operator)),
    }
}

fn not_granted(fault: Fault) -> NotGranted {
    match fault {
        Fault::Stop(stop) => NotGranted::Stopped(stop),
        Fault::Code(code) => NotGranted::Exhausted(format!(
            "a directory cannot be opened at the moment: {code}"
        )),
    }
}

fn denial(grant: &DirectoryGrant, refused: &Refused, for_operator: bool) -> Denial {
    let (reason, hint) = match refused {
        Refused::Apart(why) => (
            why.clone(),
            "grant a directory beside it, or a smaller one with nothing of the host's own in it: what the host itself runs, \
             reads and keeps is no skill's",
        ),
        Refused::Unread(why) => (
            why.clone(),
            match for_operator {
                true => {
                    "no directory can be granted until this user can read that folder: give it to this user, or move it away"
                }
                false => {
                    "no directory can be granted until the operator sees to it: the host's log says which folder it is"
                }
            },
        ),
        Refused::OfTheKernel => (
            "is made up by the kernel".into(),
            "grant a directory with files of its own, and none such as `/proc` or `/sys`",
        ),
        Refused::Link(name) => (
            format!(
                "is led to by the link `{}`, which stands where skills may write",
                named(&name.to_string_lossy(), 255)
            ),
            "grant the directory by its own path: whoever may write where a link stands decides where it leads",
        ),
        Refused::Error(error) => (
            match error.kind() {
                io::ErrorKind::NotADirectory => "is not a directory".into(),
                _ => format!("cannot be opened: {error}"),
            },
            "grant a directory that exists and that this user may read",
        ),
    };
    let host = grant.host.display();
    let reason = if for_operator {
        format!("`{host}` {reason}")
    } else {
        let guest = &grant.guest;
        tracing::warn!(%guest, %host, "a directory that is granted {reason}");
        match refused {
            Refused::Apart(_) => {
                "what is granted there is the host's own, or has that in it".into()
            }
            Refused::Unread(_) => {
                "what is granted there may be the host's own: what is its own cannot be read".into()
            }
            Refused::Link(_) => {
                "what is granted there is led to by a link that skills may have put there".into()
            }
            _ => format!("what is granted there {reason}"),
        }
    };
    Denial {
        capability: Capability::Directory,
        subject: grant.guest.clone(),
        reason,
        remedy: Remedy::Operator,
        grant: None,
        hint: hint.into(),
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

    use super::*;

    /// What others hold for now is no reason to take the host for broken.
    #[test]
    fn what_ran_out_is_told_from_what_is_broken() {
        let exhausted = not_granted(Fault::Code(ErrorCode::Busy));
        assert!(
            matches!(exhausted, NotGranted::Exhausted(_)),
            "{exhausted:?}"
        );
    }
}
