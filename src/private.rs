//! Folders for this user alone.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
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

/// In a folder with this bit, only the owner of a file can move it away.
const STICKY: u32 = 0o1000;

/// Whether nobody else can move away, or put something into the place of, what this user makes in a folder.
///
/// # Errors
/// Who could, and what to do about it.
pub(crate) fn keeps_what_is_in_it(folder: &Path) -> io::Result<()> {
    let metadata = fs::metadata(folder)?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        let why = format!(
            "it belongs to another user, number {owner}, who could take away what is made there"
        );
        return Err(io::Error::other(why));
    }
    if mode & 0o022 != 0 && mode & STICKY == 0 {
        let what = match owner == rustix::process::geteuid().as_raw() {
            true => "run `chmod 700` on it, or set its sticky bit where others use it, too",
            // It may be mounted so.
            false => "set its sticky bit, as with mode 1777, or name another folder",
        };
        let why = format!(
            "others may write in it (mode {mode:o}), and could take away what is made there; {what}"
        );
        return Err(io::Error::other(why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_in_which_others_write_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let with = |mode| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            keeps_what_is_in_it(folder.path()).map_err(|error| error.to_string())
        };
        for mode in [0o700, 0o755, 0o1777] {
            assert_eq!(with(mode), Ok(()));
        }
        for mode in [0o770, 0o702, 0o777] {
            assert!(with(mode).unwrap_err().contains("`chmod 700`"));
        }
    }

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
