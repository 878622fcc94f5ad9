//! Directories, through `wasi:filesystem`.

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

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
pub(super) fn grant(wasi: &mut WasiCtxBuilder, grant: &DirectoryGrant) -> Result<(), Denial> {
    openable(grant)?;
    let permissions = match grant.mode {
        Mode::Ro => FsPerms::ReadOnly,
        Mode::Rw => FsPerms::ReadWrite,
    };
    wasi.preopened_dir(&grant.host, &grant.guest, permissions)
        .map_err(|error| denial(grant, &format!("cannot be opened: {error:#}")))?;
    Ok(())
}

fn denial(grant: &DirectoryGrant, reason: &str) -> Denial {
    Denial {
        capability: Capability::Directory,
        subject: grant.guest.clone(),
        reason: format!("`{}` {reason}", grant.host.display()),
        hint: "grant a directory that exists and that this user may read".into(),
    }
}
