//! Changing the policy file: one process at a time, and whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use skillhost::Policy;
use skillhost::limits::display_bytes;
use skillhost::policy::MAX_POLICY_BYTES;

use super::PolicyFile;
use super::text::edited;
use crate::cli::complaint::Complaint;
use crate::cli::exit::Exit;
use crate::cli::explain;

/// Changes the policy. Of several processes that do so, one waits for the other.
///
/// # Errors
/// Those of the change, and where the file cannot be read or written.
pub fn edit<T>(
    file: &PolicyFile,
    change: impl FnOnce(&mut Policy) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    // Where a link leads: the link is to stay one.
    let path = fs::canonicalize(file.path()).unwrap_or_else(|_| file.path().to_owned());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed("cannot make", folder))?;
    // What would not be read is not written.
    Policy::check_folder(&path).map_err(explain::policy)?;
    let _lock = lock(&path)?;
    sweep(folder);
    let policy = Policy::read(&path).map_err(explain::policy)?;
    let text = match &policy {
        Some(_) => fs::read_to_string(&path).map_err(failed("cannot read", &path))?,
        None => String::new(),
    };
    let before = policy.unwrap_or_default();
    let mut after = before.clone();
    let result = change(&mut after)?;
    if after == before {
        return Ok(result);
    }
    let text = edited(&text, &before, &after)?;
    if text.len() as u64 > MAX_POLICY_BYTES {
        let most = display_bytes(MAX_POLICY_BYTES);
        let message = format!("the policy would be larger than {most}");
        return Err(Complaint::usage(message)
            .hint("take out what is no longer needed: `skillhost policy revoke NAME --all`")
            .into());
    }
    write(folder, &path, &text).map_err(failed("cannot write", &path))?;
    Ok(result)
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Complaint + 'a {
    move |error| {
        // Whatever is written aside has a name that says nothing.
        let why = error.to_string();
        let why = why.split(" at path \"").next().unwrap_or_default();
        let message = format!("{what} `{}`: {why}", path.display());
        Complaint::new(Exit::Host, message).hint(explain::mend(path.parent().unwrap_or(path)))
    }
}

/// Holds others off until it is dropped. The file stays: to remove it would be to let two in.
fn lock(path: &Path) -> Result<File, Complaint> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.cast_signed())
        .open(&path);
    opened
        .and_then(|file| file.lock().map(|()| file))
        .map_err(failed("cannot lock", &path))
}

/// What the names of files begin with that are written aside.
const ASIDE: &str = ".policy-";
/// When one that is still there was left behind, by a process that was killed.
const LEFT_BEHIND: Duration = Duration::from_secs(60 * 60);

/// Removes what was left behind of a policy that was being written.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let is_aside = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(ASIDE.as_bytes());
        let is_old = |metadata: fs::Metadata| {
            let age = metadata
                .modified()
                .ok()
                .and_then(|time| time.elapsed().ok());
            metadata.is_file() && age.is_some_and(|age| age > LEFT_BEHIND)
        };
        if is_aside && entry.metadata().is_ok_and(is_old) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes aside and renames, so that a reader sees the old or the new.
fn write(folder: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    let mut aside = tempfile::Builder::new().prefix(ASIDE).tempfile_in(folder)?;
    aside.write_all(text.as_bytes())?;
    if let Ok(metadata) = fs::metadata(path) {
        let mode = metadata.permissions().mode() & 0o755;
        aside
            .as_file()
            .set_permissions(Permissions::from_mode(mode))?;
    }
    aside.as_file().sync_all()?;
    aside.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}
