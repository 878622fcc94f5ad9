//! Folders for this user alone.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes a folder where it is not there, and those that it is in, which nobody else may enter. One that is there stays as
/// it is.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether a folder that is not there could be made. What has to be made to see that is taken away again; it is the
/// outermost one of those that are missing.
///
/// # Errors
/// What the system says to that.
pub(crate) fn can_be_made(folder: &Path) -> io::Result<()> {
    let missing = folder
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && fs::symlink_metadata(above).is_err());
    let Some(outermost) = missing.last() else {
        return match fs::metadata(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_symlink() => {
                Err(io::Error::other("it is a symbolic link that leads nowhere"))
            }
            _ => Ok(()),
        };
    };
    match DirBuilder::new().mode(0o700).create(outermost) {
        // Should somebody else have put something into it meanwhile, it stays.
        Ok(()) => fs::remove_dir(outermost).or(Ok(())),
        // Somebody else was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_made_is_not_there_afterwards() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("a/b/c");
        assert!(can_be_made(&folder).is_ok());
        assert!(!outer.path().join("a").exists());
        assert!(can_be_made(outer.path()).is_ok() && outer.path().is_dir());
        fs::write(outer.path().join("file"), "").unwrap();
        assert!(can_be_made(&outer.path().join("file/a")).is_err());
        assert!(can_be_made(Path::new("/proc/nope/audit")).is_err());
        std::os::unix::fs::symlink("nowhere", outer.path().join("link")).unwrap();
        assert!(can_be_made(&outer.path().join("link")).is_err());
        assert!(can_be_made(&outer.path().join("link/a")).is_err());
    }
}
