//! Skills that jobs need, kept by digest.
//!
//! A job that was submitted with a path must run also once the file is gone, and a dead letter can
//! be replayed with exactly what ran. So whoever submits keeps what a path led to, and a worker what it
//! runs, in a folder of their own, apart from the installed skills: nothing in it has a name that a
//! person could run by mistake. Each is in a folder called by its digest. The folder's time says until
//! when it is known to be needed: the moment of its last use, or the time of the last job that was
//! submitted for it. What was not needed for [`Packages::KEPT`] is removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::digest::Digest;
use super::library::LibraryError;
use super::package::Package;
use crate::private::make_folder;

/// A folder of skills by digest, which jobs need: each is kept for 30 days after it was last needed.
#[derive(Debug, Clone)]
pub struct Packages {
    folder: PathBuf,
}

impl Packages {
    /// How long after it was last needed a skill is kept: 30 days.
    pub const KEPT: Duration = Duration::from_secs(30 * 86_400);

    /// Those in a folder, which is made when the first is kept.
    pub fn new(folder: PathBuf) -> Self {
        Packages { folder }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// Keeps a skill that is needed until then, or longer.
    ///
    /// # Errors
    /// [`LibraryError::Io`], where it cannot be written.
    pub fn keep(&self, package: &Package, until: SystemTime) -> Result<(), LibraryError> {
        self.write(package, until)
            .map_err(|source| LibraryError::Io {
                what: "cannot keep a skill in",
                path: self.folder.clone(),
                source,
            })
    }

    fn write(&self, package: &Package, until: SystemTime) -> io::Result<()> {
        let target = self.path(&package.digest);
        if !target.is_dir() {
            make_folder(&self.folder)?;
            let aside = tempfile::Builder::new()
                .prefix(".keeping-")
                .tempdir_in(&self.folder)?;
            let texts = [
                ("skill.toml", &package.manifest_text),
                ("SKILL.md", &package.document_text),
            ];
            fs::write(aside.path().join("skill.wasm"), &package.component)?;
            for (file, text) in texts {
                if let Some(text) = text {
                    fs::write(aside.path().join(file), text.as_bytes())?;
                }
            }
            match fs::rename(aside.path(), &target) {
                // It now stands under its own name: nothing is left to clean up.
                Ok(()) => drop(aside.keep()),
                // Somebody else was faster, with the same.
                Err(_) if target.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        touch(&target, until)
    }

    /// Reads a skill that is kept, and makes sure that it is the one. `None` where it is not, or
    /// cannot be read.
    pub fn read(&self, digest: &Digest, max_component_bytes: u64) -> Option<Package> {
        let path = self.path(digest);
        let package = Package::read(&path, max_component_bytes).ok()?;
        if package.digest != *digest {
            tracing::warn!("`{}` was changed, and is not used", path.display());
            return None;
        }
        self.needed(digest);
        Some(package)
    }

    /// Says that a skill is needed now.
    pub fn needed(&self, digest: &Digest) {
        // Where that fails, it is removed a little early.
        let _ = touch(&self.path(digest), SystemTime::now());
    }

    /// Removes what nobody has needed for long; gives how many. What cannot be removed stays.
    pub fn sweep(&self) -> usize {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return 0;
        };
        let now = SystemTime::now();
        let mut removed = 0;
        for entry in entries.flatten() {
            let needed = entry.metadata().and_then(|metadata| metadata.modified());
            let old = needed.is_ok_and(|needed| {
                now.duration_since(needed)
                    .is_ok_and(|unneeded| unneeded > Self::KEPT)
            });
            if old && fs::remove_dir_all(entry.path()).is_ok() {
                removed += 1;
            }
        }
        removed
    }
}

/// Says until when a folder is needed, unless it is needed longer.
fn touch(folder: &Path, until: SystemTime) -> io::Result<()> {
    let opened = fs::File::open(folder)?;
    if opened.metadata()?.modified()? < until {
        opened.set_modified(until)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skill_is_kept_as_long_as_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let packages = Packages::new(folder.path().join("packages"));
        assert_eq!(packages.sweep(), 0);
        let package =
            Package::from_parts("bytes".as_bytes(), Some("[limits]\nfuel = 1".into()), None)
                .unwrap();
        let now = SystemTime::now();
        packages
            .keep(&package, now + Duration::from_secs(86_400))
            .unwrap();
        packages.keep(&package, now).unwrap();
        let read = packages.read(&package.digest, 100).unwrap();
        assert_eq!(read.digest, package.digest);
        assert_eq!(packages.sweep(), 0);
        let path = packages.path(&package.digest);
        let opened = fs::File::open(&path).unwrap();
        assert!(opened.metadata().unwrap().modified().unwrap() > now + Duration::from_secs(80_000));
        opened
            .set_modified(now - Packages::KEPT - Duration::from_secs(60))
            .unwrap();
        assert_eq!(packages.sweep(), 1);
        assert!(packages.read(&package.digest, 100).is_none());
    }

    #[test]
    fn what_was_changed_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let packages = Packages::new(folder.path().to_owned());
        let package = Package::from_bytes("bytes".as_bytes());
        packages.keep(&package, SystemTime::now()).unwrap();
        let component = packages.path(&package.digest).join("skill.wasm");
        fs::write(component, "other bytes").unwrap();
        assert!(packages.read(&package.digest, 100).is_none());
    }
}
