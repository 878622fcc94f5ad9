//! Scratch directories: private to one execution, and gone when it ends.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use cap_fs_ext::{DirExt, OsMetadataExt};
use cap_std::fs::Dir;
use tokio::sync::watch;

/// What the folders of hosts are called, before a number.
pub(super) const PREFIX: &str = "skillhost-scratch-";
/// A file in it that is locked for as long as the host lives.
const LOCK: &str = "lock";
/// How often the removal of a folder is begun anew, as a write that was under way when its guest
/// was stopped may still put something into it.
const ATTEMPTS: usize = 100;

/// Directories that may wait to be removed. While there are more, nobody gets a new one: whoever fills
/// them faster than they can be emptied waits for that, within its own time.
const MAX_LEAVING: usize = 256;

/// Where a host makes scratch directories.
pub(crate) struct ScratchRoot {
    pub(super) base: PathBuf,
    folder: Mutex<Option<Arc<Folder>>>,
    /// How many wait to be removed, or are being removed.
    leaving: watch::Sender<usize>,
    /// To the thread that removes them. It ends when this goes and all is done; nobody waits for it.
    remover: OnceLock<mpsc::Sender<Leaving>>,
}

/// A directory on its way out. It is counted until it is gone.
struct Leaving {
    scratch: Option<Scratch>,
    leaving: watch::Sender<usize>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        drop(self.scratch.take());
        self.leaving.send_modify(|leaving| *leaving -= 1);
    }
}

/// A host's own folder, of mode 0700.
struct Folder {
    path: PathBuf,
    made: AtomicU64,
    /// Locked while the host lives: what is not locked was left by one that was killed.
    _lock: File,
}

/// One scratch directory. Removed, with all that is in it, when it is dropped; that blocks.
pub(super) struct Scratch {
    pub path: PathBuf,
    /// Goes with the last of its directories.
    _folder: Arc<Folder>,
}

impl ScratchRoot {
    /// In a folder of the host's, `base`. Nothing is made before it is needed.
    pub fn new(base: PathBuf) -> Self {
        ScratchRoot {
            base,
            folder: Mutex::default(),
            leaving: watch::Sender::new(0),
            remover: OnceLock::new(),
        }
    }

    /// Waits until a directory may be made.
    pub(super) async fn room(&self) {
        self.wait(MAX_LEAVING).await;
    }

    /// Waits until all that were given up are gone.
    pub(in crate::sandbox) async fn cleared(&self) {
        self.wait(1).await;
    }

    /// Waits until fewer than so many are left to be removed.
    async fn wait(&self, fewer: usize) {
        // The sender is here, so this does not fail.
        let _ = self
            .leaving
            .subscribe()
            .wait_for(|leaving| *leaving < fewer)
            .await;
    }

    /// Removes a directory, on a thread of its own: neither an answer nor whoever uses the disk waits for
    /// it. What a process leaves that ends meanwhile is swept by the next host.
    pub(super) fn remove(&self, scratch: Scratch) {
        self.leaving.send_modify(|leaving| *leaving += 1);
        let leaving = Leaving {
            scratch: Some(scratch),
            leaving: self.leaving.clone(),
        };
        let remover = self.remover.get_or_init(|| {
            let (sender, receiver) = mpsc::channel::<Leaving>();
            let removes = std::thread::Builder::new()
                .name("skillhost-scratch".into())
                .spawn(move || receiver.into_iter().for_each(drop));
            if let Err(error) = removes {
                tracing::warn!("no thread removes scratch directories: {error}");
            }
            sender
        });
        // Without a thread, it is removed here after all, where the error is dropped.
        let _ = remover.send(leaving);
    }

    /// Makes an empty directory. Blocks.
    ///
    /// The first time, what hosts that were killed have left behind is removed.
    pub(super) fn make(&self) -> io::Result<Scratch> {
        let folder = self.folder()?;
        let number = folder.made.fetch_add(1, Ordering::Relaxed);
        let path = folder.path.join(number.to_string());
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch {
            path,
            _folder: folder,
        })
    }

    fn folder(&self) -> io::Result<Arc<Folder>> {
        // Either there or not: a panicking holder cannot have left it in between.
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &*folder {
            return Ok(Arc::clone(folder));
        }
        fs::create_dir_all(&self.base)?;
        // Gone again where it cannot be locked.
        let kept = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(PermissionsExt::from_mode(0o700))
            .tempdir_in(&self.base)?;
        let path = kept.path().to_owned();
        // It gets its name when it is locked: one that is there and not locked is nobody's.
        let aside = path.join(format!("{LOCK}.new"));
        let lock = File::create_new(&aside)?;
        lock.lock()?;
        fs::rename(aside, path.join(LOCK))?;
        let path = kept.keep();
        let made = Arc::new(Folder {
            path,
            made: AtomicU64::new(0),
            _lock: lock,
        });
        *folder = Some(Arc::clone(&made));
        // Beside, and once its own is there: nobody waits for the rubbish of others.
        let base = self.base.clone();
        let swept = std::thread::Builder::new()
            .name("skillhost-sweep".into())
            .spawn(move || sweep(&base));
        if let Err(error) = swept {
            tracing::debug!("old scratch directories stay behind: {error}");
        }
        Ok(made)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            let path = self.path.display();
            tracing::warn!("the scratch directory `{path}` stays behind: {error}");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            let path = self.path.display();
            tracing::warn!("the folder `{path}` stays behind: {error}");
        }
    }
}

/// Removes the folders of hosts that are no more.
fn sweep(base: &Path) {
    let entries = Dir::open_ambient_dir(base, cap_std::ambient_authority())
        .and_then(|base| base.entries().map(|entries| (base, entries)));
    let Ok((base, entries)) = entries else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if let Err(error) = sweep_one(&base, &name) {
            tracing::debug!("an old scratch directory stays behind: {error}");
        }
    }
}

fn sweep_one(base: &Dir, name: &OsStr) -> io::Result<()> {
    // Others may put what they like into a base such as `/tmp`, so only a directory of this user's
    // own is touched, and it is held by its handle rather than by its name.
    let Ok(folder) = base.open_dir_nofollow(name) else {
        return Ok(());
    };
    let metadata = folder.dir_metadata()?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Ok(());
    }
    let lock = match folder.open(LOCK) {
        Ok(lock) => Some(lock.into_std()),
        // One that has no lock is just being made, or was left half removed.
        Err(_) if is_old(&metadata) => None,
        Err(_) => return Ok(()),
    };
    // Held until it is gone.
    if lock.as_ref().is_none_or(|lock| lock.try_lock().is_ok()) {
        clear(&folder)?;
        gone(folder.remove_file(LOCK))?;
        base.remove_dir(name)?;
    }
    Ok(())
}

/// Whether it was last changed a day ago or longer.
fn is_old(metadata: &cap_std::fs::Metadata) -> bool {
    let changed = metadata.modified().map(|time| time.into_std().elapsed());
    matches!(changed, Ok(Ok(age)) if age > Duration::from_secs(24 * 3600))
}

/// Removes a directory of this host's and all that is in it.
fn remove(path: &Path) -> io::Result<()> {
    let dir = Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
    let mut ended = Ok(());
    for _ in 0..ATTEMPTS {
        clear(&dir)?;
        // The last to go: without it, what is left is nobody's to remove.
        gone(dir.remove_file(LOCK))?;
        ended = fs::remove_dir(path);
        match &ended {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            _ => break,
        }
    }
    ended
}

/// Removes all that is in a directory but a file that is called as a lock, however deep it is nested:
/// what lies two levels down is moved up, so that neither the stack nor the number of open files grows
/// with the depth.
fn clear(dir: &Dir) -> io::Result<()> {
    let mut moved = 0_u64;
    loop {
        let mut empty = true;
        for entry in dir.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            if name == LOCK && entry.file_type()?.is_file() {
                continue;
            }
            empty = false;
            if !entry.file_type()?.is_dir() {
                gone(dir.remove_file(&name))?;
                continue;
            }
            let inner = dir.open_dir(&name)?;
            for child in inner.entries()? {
                let child = child?;
                let child_name = child.file_name();
                if !child.file_type()?.is_dir() {
                    gone(inner.remove_file(&child_name))?;
                    continue;
                }
                // A name may be taken by something of the guest's.
                loop {
                    moved += 1;
                    match inner.rename(&child_name, dir, format!("moved-{moved}")) {
                        Err(error) if is_taken(&error) => {}
                        done => break done?,
                    }
                }
            }
            gone(dir.remove_dir(&name))?;
        }
        if empty {
            return Ok(());
        }
    }
}

/// What somebody else removed is gone as well.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists
            | io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_and_wide_directory_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let root = ScratchRoot::new(base.path().join("scratch"));
        let scratch = root.make().unwrap();
        let path = scratch.path.clone();
        let mut dir = Dir::open_ambient_dir(&path, cap_std::ambient_authority()).unwrap();
        for name in ["moved-1", "moved-2", "moved-7"] {
            dir.create_dir(name).unwrap();
            dir.write(format!("{name}/file"), "x").unwrap();
        }
        dir.write("moved-4", "a file").unwrap();
        // Deeper than a path can say, and than this process may have files open.
        for depth in 0..3_000 {
            dir.write("file", "x").unwrap();
            dir.symlink_contents("/", "root").unwrap();
            dir.create_dir("moved-3").unwrap();
            if depth % 100 == 0 {
                dir.create_dir("other").unwrap();
            }
            dir = dir.open_dir("moved-3").unwrap();
        }
        drop(dir);
        drop(scratch);
        assert!(!path.exists());
        drop(root);
        let left: Vec<_> = fs::read_dir(base.path().join("scratch")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_gets_one_while_too_many_are_left() {
        let base = tempfile::tempdir().unwrap();
        let root = ScratchRoot::new(base.path().into());
        // As many as would have been given up by executions, while the disk does not get on with them.
        root.leaving.send_modify(|leaving| *leaving += MAX_LEAVING);
        let room = tokio::time::timeout(Duration::from_secs(3600), root.room()).await;
        assert!(room.is_err());
        root.leaving.send_modify(|leaving| *leaving -= MAX_LEAVING);
        root.room().await;
        let (path, scratch) = {
            let scratch = root.make().unwrap();
            (scratch.path.clone(), scratch)
        };
        fs::write(path.join("file"), "x").unwrap();
        root.remove(scratch);
        root.cleared().await;
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_host_left_is_swept_and_what_a_living_one_has_is_not() {
        let base = tempfile::tempdir().unwrap();
        let living = ScratchRoot::new(base.path().into());
        let kept = living.make().unwrap();
        let dead = base.path().join("skillhost-scratch-dead");
        fs::create_dir_all(dead.join("0/inner")).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        fs::set_permissions(&dead, fs::Permissions::from_mode(0o700)).unwrap();
        // A trap: it looks like one of ours, and leads to somebody's documents.
        let documents = base.path().join("documents");
        fs::create_dir(&documents).unwrap();
        fs::write(documents.join(LOCK), "").unwrap();
        fs::set_permissions(&documents, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&documents, base.path().join("skillhost-scratch-x")).unwrap();
        let unrelated = base.path().join("other");
        fs::create_dir(&unrelated).unwrap();
        // The living host sweeps, too, on a thread of its own, and may be at it just now.
        for _ in 0..100_000 {
            sweep(base.path());
            if !dead.exists() {
                break;
            }
            std::thread::yield_now();
        }
        assert!(!dead.exists());
        assert!(kept.path.exists() && unrelated.exists());
        assert!(documents.join(LOCK).exists());
    }

    #[test]
    fn each_is_private_and_of_its_own() {
        let base = tempfile::tempdir().unwrap();
        let root = ScratchRoot::new(base.path().into());
        let (one, other) = (root.make().unwrap(), root.make().unwrap());
        assert_ne!(one.path, other.path);
        for path in [one.path.as_path(), one.path.parent().unwrap()] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o700
            );
        }
    }
}
