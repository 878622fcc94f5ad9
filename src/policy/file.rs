//! Reading a policy from disk.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{Policy, PolicyError};

/// The largest policy file, in bytes.
pub const MAX_POLICY_BYTES: u64 = 4 << 20;

/// The bits of a mode that let others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// In a folder with this bit, only the owner of a file can replace it.
const STICKY: u32 = 0o1000;

impl Policy {
    /// Reads a policy file: `Ok(None)` where there is none.
    ///
    /// The file must be a regular one of at most 4 MiB. It and the folder that it is in must belong
    /// to this user or to root, and be writable by nobody else: whoever can write it grants. A
    /// symbolic link is followed, and both ends of it are held to that.
    ///
    /// # Errors
    /// What is wrong with the file, with the line where there is one.
    pub fn read(path: impl AsRef<Path>) -> Result<Option<Self>, PolicyError> {
        let path = path.as_ref();
        match read(path) {
            Ok(None) => Ok(None),
            Ok(Some(text)) => text
                .parse()
                .map(Some)
                .map_err(|error: PolicyError| error.in_file(path)),
            Err(error) => Err(error.in_file(path)),
        }
    }

    /// Whether the folder of a policy file that is yet to be made is one from which it would be
    /// [read](Self::read).
    ///
    /// # Errors
    /// What is wrong with the folder.
    pub fn check_folder(path: impl AsRef<Path>) -> Result<(), PolicyError> {
        let path = path.as_ref();
        folder_closed_to_others(path).map_err(|error| error.in_file(path))
    }
}

/// The text of the file, where there is one.
fn read(path: &Path) -> Result<Option<String>, PolicyError> {
    // Not blocking: opening a FIFO would otherwise wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // Whoever put a link there wants what it leads to to hold.
        Err(rustix::io::Errno::NOENT) if path.is_symlink() => return Err(leads_nowhere(path)),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(PolicyError::new("it is not a regular file"));
    }
    closed_to_others("it", path, &metadata)?;
    let real = std::fs::canonicalize(path).map_err(failed)?;
    for place in [path, &real] {
        folder_closed_to_others(place)?;
    }
    if metadata.len() > MAX_POLICY_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(MAX_POLICY_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_POLICY_BYTES {
        return Err(too_large());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(PolicyError::new("it is not UTF-8")),
    }
}

fn leads_nowhere(link: &Path) -> PolicyError {
    let target = std::fs::read_link(link).unwrap_or_default();
    let target = crate::text::named(&target.to_string_lossy(), 1_000);
    PolicyError::new(format!(
        "it is a symbolic link to `{target}`, which is not there"
    ))
    .hint(
        "put the policy where the link leads, or remove the link: without both, nothing is granted",
    )
}

fn failed(error: std::io::Error) -> PolicyError {
    let failed = PolicyError::new(format!("it cannot be read: {error}"));
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => failed.hint(
            "this user must be able to read it and to enter the folders that it is in: `ls -ld` shows who may",
        ),
        _ => failed,
    }
}

/// Whether nobody else can put another file in the place of this one.
fn folder_closed_to_others(path: &Path) -> Result<(), PolicyError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let metadata = std::fs::metadata(folder).map_err(failed)?;
    if metadata.mode() & STICKY != 0 {
        return Ok(());
    }
    closed_to_others("the folder that it is in", folder, &metadata)
}

fn too_large() -> PolicyError {
    PolicyError::new(format!(
        "it is too large; {} are allowed",
        crate::limits::display_bytes(MAX_POLICY_BYTES)
    ))
}

fn closed_to_others(
    what: &str,
    path: &Path,
    metadata: &std::fs::Metadata,
) -> Result<(), PolicyError> {
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(PolicyError::new(format!(
            "{what} belongs to another user, number {owner}, who could grant anything"
        ))
        .hint("it must belong to this user or to root: look at what it grants, and make a copy, which is this user's"));
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        let path = path.to_string_lossy();
        let path = crate::grant::shell_word(&path).into_owned();
        return Err(PolicyError::new(format!(
            "{what} can be written by others (mode {:o}), who could grant anything",
            metadata.mode() & 0o7777
        ))
        .hint(format!("close it to them: `chmod go-w {path}`")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        fs::write(&path, "[skills.a.grants]\nconfig.x = 1\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        folder
    }

    fn error(path: &Path) -> PolicyError {
        Policy::read(path).unwrap_err()
    }

    #[test]
    fn a_file_is_read_and_none_is_none() {
        let folder = folder();
        let path = folder.path().join("policy.toml");
        let policy = Policy::read(&path).unwrap().unwrap();
        assert_eq!(policy.skills["a"].grants.config["x"], "1");
        let link = folder.path().join("link.toml");
        symlink("policy.toml", &link).unwrap();
        assert_eq!(Policy::read(&link).unwrap(), Some(policy));
        assert_eq!(Policy::read(folder.path().join("none.toml")), Ok(None));
        let nowhere = folder.path().join("nowhere.toml");
        symlink("none.toml", &nowhere).unwrap();
        let error = error(&nowhere);
        assert!(error.message.contains("link to `none.toml`"), "{error}");
        assert!(
            error
                .hint
                .is_some_and(|hint| hint.contains("remove the link"))
        );
    }

    #[test]
    fn one_that_others_can_write_is_refused() {
        let folder = folder();
        let path = folder.path().join("policy.toml");
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = error(&path);
            assert!(error.message.contains("written by others"), "{error}");
            assert!(error.hint.unwrap().contains("chmod go-w"));
        }
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(error(&path).message.contains("the folder"));
        // So is one that is yet to be made.
        let none = folder.path().join("none.toml");
        let refused = Policy::check_folder(&none).unwrap_err();
        assert!(refused.message.contains("the folder"), "{refused}");
        // Where only the owner of a file can replace it, that is no matter.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(Policy::read(&path).is_ok());
        assert_eq!(Policy::check_folder(&none), Ok(()));
    }

    #[test]
    fn what_cannot_be_used_says_what_to_do() {
        let denied = failed(std::io::ErrorKind::PermissionDenied.into());
        assert!(denied.hint.is_some_and(|hint| hint.contains("`ls -ld`")));
        assert_eq!(failed(std::io::Error::other("x")).hint, None);
        if !rustix::process::geteuid().is_root() {
            // Nobody else gives a file away.
            return;
        }
        let folder = folder();
        let path = folder.path().join("policy.toml");
        std::os::unix::fs::chown(&path, Some(1_234), None).unwrap();
        let error = error(&path);
        assert!(
            error.message.contains("another user, number 1234"),
            "{error}"
        );
        assert!(error.hint.is_some_and(|hint| hint.contains("make a copy")));
    }

    #[test]
    fn what_is_no_file_does_not_hold_it_up() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let fifo = std::ffi::CString::new(at("fifo").to_str().unwrap()).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &*fifo, Mode::RWXU).unwrap();
        fs::create_dir(at("folder")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("fifo", at("to-fifo")).unwrap();
        for name in ["fifo", "folder", "to-fifo"] {
            let error = error(&at(name));
            assert!(error.message.contains("not a regular file"), "{error}");
        }
        assert!(error(&at("loop")).message.contains("cannot be read"));
        assert!(
            error(Path::new("/dev/zero"))
                .message
                .contains("not a regular")
        );
        let large = fs::File::create(at("large")).unwrap();
        large.set_len(MAX_POLICY_BYTES + 1).unwrap();
        large
            .set_permissions(Permissions::from_mode(0o600))
            .unwrap();
        assert!(error(&at("large")).message.contains("too large"));
    }
}
