//! Putting one installed version in the place of another, on any file system.
//!
//! Where the system can, the two change places at once. Where it cannot (NFS and some others), the
//! old one is moved aside first, under a name that tells where it belongs: it still counts as
//! installed for as long as nothing stands in its place, also where whoever was at it was killed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::TempDir;

/// How the name of a folder begins that is being replaced.
const REPLACED: &str = ".replaced-";

/// Puts what stands aside in the place of what is installed. The caller sees to it that nobody else
/// does the same.
///
/// # Errors
/// Where that cannot be done; what was installed then still is.
pub(super) fn replace(aside: TempDir, target: &Path) -> io::Result<()> {
    replace_by(aside, target, |aside, target| {
        renameat_with(CWD, aside, CWD, target, RenameFlags::EXCHANGE)
    })
}

fn replace_by(
    aside: TempDir,
    target: &Path,
    exchange: impl FnOnce(&Path, &Path) -> rustix::io::Result<()>,
) -> io::Result<()> {
    let old = match exchange(aside.path(), target) {
        // Whoever looks meanwhile finds the one or the other.
        Ok(()) => aside.keep(),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let old = moved_aside(target)?;
            fs::rename(target, &old)?;
            if let Err(error) = fs::rename(aside.path(), target) {
                fs::rename(&old, target)?;
                return Err(error);
            }
            // It now stands under its own name: nothing is left to clean up.
            let _ = aside.keep();
            old
        }
        Err(error) => return Err(error.into()),
    };
    // Whoever changes the library next tries once more.
    if let Err(error) = fs::remove_dir_all(&old) {
        tracing::warn!("`{}` stays behind: {error}", old.display());
    }
    Ok(())
}

/// Where a folder stands while it is being replaced.
fn moved_aside(target: &Path) -> io::Result<PathBuf> {
    let name = target.file_name().and_then(|name| name.to_str());
    let name = name.ok_or(io::ErrorKind::InvalidFilename)?;
    Ok(target.with_file_name(format!("{REPLACED}{name}")))
}

/// Where a version is: in its own place, or where nothing stands there, moved aside.
pub(super) fn place(target: PathBuf) -> PathBuf {
    match moved_aside(&target) {
        Ok(aside) if !target.exists() && aside.exists() => aside,
        _ => target,
    }
}

/// Whether a folder is one that was moved aside, and that nothing has taken the place of.
pub(super) fn is_still_meant(folder: &Path) -> bool {
    home(folder).is_some_and(|home| !home.exists())
}

/// Puts a folder back to where it was, or removes it where another has taken its place. `None` where
/// it is none that was moved aside. Nobody else may change the library meanwhile.
pub(super) fn settle(folder: &Path) -> Option<io::Result<()>> {
    let home = home(folder)?;
    Some(match home.exists() {
        true => fs::remove_dir_all(folder),
        false => fs::rename(folder, home),
    })
}

/// Where a folder that was moved aside belongs; `None` where it is none that was.
pub(super) fn home(folder: &Path) -> Option<PathBuf> {
    let name = folder.file_name()?.to_str()?.strip_prefix(REPLACED)?;
    Some(folder.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with an installed `a@1`, and another one aside.
    fn places() -> (TempDir, TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a@1");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("what"), "old").unwrap();
        let aside = tempfile::tempdir_in(folder.path()).unwrap();
        fs::write(aside.path().join("what"), "new").unwrap();
        (folder, aside, target)
    }

    fn entries(folder: &TempDir) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn the_new_one_stands_in_the_place_of_the_old_one_with_and_without_exchange() {
        for error in [None, Some(Errno::INVAL), Some(Errno::NOSYS)] {
            let (folder, aside, target) = places();
            match error {
                None => replace(aside, &target).unwrap(),
                Some(error) => replace_by(aside, &target, |_, _| Err(error)).unwrap(),
            }
            assert_eq!(fs::read_to_string(target.join("what")).unwrap(), "new");
            assert_eq!(entries(&folder), 1, "{error:?}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let (folder, aside, target) = places();
        assert!(replace_by(aside, &target, |_, _| Err(Errno::ACCESS)).is_err());
        assert_eq!(fs::read_to_string(target.join("what")).unwrap(), "old");
        assert_eq!(entries(&folder), 1);

        let (folder, aside, target) = places();
        // The new one is gone by the time that it is to be moved.
        let failed = replace_by(aside, &target, |aside, _| {
            fs::remove_dir_all(aside).unwrap();
            Err(Errno::INVAL)
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(target.join("what")).unwrap(), "old");
        assert_eq!(entries(&folder), 1);
    }

    #[test]
    fn what_was_moved_aside_is_found_and_put_back() {
        let (folder, aside, target) = places();
        drop(aside);
        let moved = moved_aside(&target).unwrap();
        assert!(!is_still_meant(&target) && settle(&target).is_none());
        fs::rename(&target, &moved).unwrap();
        assert!(is_still_meant(&moved));
        assert_eq!(place(target.clone()), moved);
        settle(&moved).unwrap().unwrap();
        assert_eq!(place(target.clone()), target);
        assert_eq!(fs::read_to_string(target.join("what")).unwrap(), "old");
        // The new one had come, and only the removal of the old one was left.
        fs::create_dir(&moved).unwrap();
        assert!(!is_still_meant(&moved));
        settle(&moved).unwrap().unwrap();
        assert_eq!(entries(&folder), 1);
    }
}
