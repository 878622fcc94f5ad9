//! The links that stand in the host's own folders: what they lead to is used as if it stood there.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::apart::Identity;

/// A folder that was changed no longer ago when it was read may have been changed again at the same time, as its clock
/// counts.
const RECENT: Duration = Duration::from_secs(2);
/// The folders of which it is kept.
const MAX_KEPT: usize = 100;

/// The links in folders, read anew where a folder has changed.
#[derive(Debug, Default)]
pub(super) struct Led(Mutex<HashMap<PathBuf, Kept>>);

#[derive(Debug)]
struct Kept {
    of: (Identity, SystemTime),
    links: Arc<[PathBuf]>,
}

impl Led {
    /// The links in a folder, by their paths. Blocks.
    ///
    /// # Errors
    /// Where it cannot be read, though it is there.
    pub fn from(&self, folder: &Path, metadata: &fs::Metadata) -> io::Result<Arc<[PathBuf]>> {
        let now = SystemTime::now();
        let changed = metadata.modified()?;
        let of = ((metadata.dev(), metadata.ino()), changed);
        // Whatever is in it was put there whole: a panicking holder cannot have left it in between.
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = lock().get(folder)
            && kept.of == of
        {
            return Ok(Arc::clone(&kept.links));
        }
        let mut links = Vec::new();
        let entries = match fs::read_dir(folder) {
            // It is gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_symlink() {
                links.push(entry.path());
            }
        }
        let links: Arc<[PathBuf]> = links.into();
        let is_past = now.duration_since(changed).is_ok_and(|age| age > RECENT);
        let mut kept = lock();
        if is_past && (kept.len() < MAX_KEPT || kept.contains_key(folder)) {
            let links = Arc::clone(&links);
            kept.insert(folder.to_owned(), Kept { of, links });
        }
        Ok(links)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_is_read_again_where_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let led = Led::default();
        let count = || {
            let metadata = fs::metadata(folder.path()).unwrap();
            led.from(folder.path(), &metadata).unwrap().len()
        };
        let age = |seconds| {
            let then = SystemTime::now() - Duration::from_secs(seconds);
            let file = fs::File::open(folder.path()).unwrap();
            file.set_modified(then).unwrap();
        };
        fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(count(), 0);
        symlink("a", folder.path().join("b")).unwrap();
        assert_eq!(count(), 1);
        age(100);
        assert_eq!((count(), count()), (1, 1));
        symlink("a", folder.path().join("c")).unwrap();
        assert_eq!(count(), 2);
        age(50);
        assert_eq!(count(), 2);
    }
}
