//! Directories, through `wasi:filesystem`.

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::NotGranted;
use crate::execution::HostError;
use crate::grant::{Capability, Denial, DirectoryGrant, Mode};

/// Whether the directory is there.
pub(super) fn openable(grant: &DirectoryGrant) -> Result<(), Denial> {
    match std::fs::metadata(&grant.host) {
        Err(error) => Err(denial(grant, &format!("cannot be opened: {error}"))),
        Ok(metadata) if !metadata.is_dir() => Err(denial(grant, "is not a directory")),
        Ok(_) => Ok(()),
    }
}

/// Opens the directory and hands it to the guest under its guest path.
pub(super) fn grant(wasi: &mut WasiCtxBuilder, grant: &DirectoryGrant) -> Result<(), NotGranted> {
    openable(grant).map_err(NotGranted::Denied)?;
    let permissions = match grant.mode {
        Mode::Ro => FsPerms::ReadOnly,
        Mode::Rw => FsPerms::ReadWrite,
    };
    match wasi.preopened_dir(&grant.host, &grant.guest, permissions) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.downcast::<std::io::Error>() {
            Ok(error) if is_exhausted(&error) => NotGranted::Host(HostError::Io {
                what: "cannot open",
                path: grant.host.clone(),
                source: error,
            }),
            Ok(error) => NotGranted::Denied(denial(grant, &format!("cannot be opened: {error}"))),
            Err(error) => {
                NotGranted::Denied(denial(grant, &format!("cannot be opened: {error:#}")))
            }
        }),
    }
}

/// Whether the process or the machine has run out of files or memory: no fault of the grant's.
fn is_exhausted(error: &std::io::Error) -> bool {
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
