//! Reading a value from the host's environment, or from a file that is closed to others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use super::{MAX_SECRET_BYTES, SecretError, SecretSource, SecretValue, Secrets, value};

/// The bits of a mode that let others read or write.
const OPEN_TO_OTHERS: u32 = 0o077;

impl Secrets {
    /// Whether the secret of this name has a value, where an execution would look for it: what this `policy` names
    /// goes before what is kept. Blocks on the disk.
    ///
    /// # Errors
    /// Why it has none.
    pub fn check(
        &self,
        name: &str,
        policy: Option<&BTreeMap<String, SecretSource>>,
    ) -> Result<(), SecretError> {
        value(name, &self.of(name, policy)).map(|_| ())
    }
}

/// A variable of the host's environment.
pub(super) fn variable(name: &str) -> Result<SecretValue, SecretError> {
    match std::env::var(name) {
        Ok(value) => SecretValue::new(value),
        Err(std::env::VarError::NotPresent) => Err(SecretError::NotSet(name.to_owned())),
        Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::Characters),
    }
}

/// A file that holds one value.
pub(super) fn file(path: &Path) -> Result<SecretValue, SecretError> {
    let Some(text) = contents(path, MAX_SECRET_BYTES + 2)? else {
        return Err(SecretError::Io {
            what: "cannot read",
            path: path.to_owned(),
            source: rustix::io::Errno::NOENT.into(),
        });
    };
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    SecretValue::new(value.to_owned())
}

/// The text of a file that only this user or root may read; `None` where there is none.
pub(super) fn contents(path: &Path, most: usize) -> Result<Option<Zeroizing<String>>, SecretError> {
    let failed = |source: std::io::Error| SecretError::Io {
        what: "cannot read",
        path: path.to_owned(),
        source,
    };
    let open = |reason: &str| SecretError::Open {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    // Not blocking: opening a FIFO would otherwise wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(std::io::Error::other("it is not a regular file")));
    }
    if ![0, rustix::process::geteuid().as_raw()].contains(&metadata.uid()) {
        return Err(open("belongs to another user"));
    }
    if metadata.mode() & OPEN_TO_OTHERS != 0 {
        return Err(open(&format!(
            "is open to others (mode {:o})",
            metadata.mode() & 0o7777
        )));
    }
    // As large as it can become, so that it never moves and leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most.saturating_add(1)));
    file.take(most.saturating_add(1) as u64)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > most {
        return Err(SecretError::TooLong);
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(SecretError::Characters)
        }
    }
}
