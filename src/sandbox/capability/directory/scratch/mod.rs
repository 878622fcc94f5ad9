//! Scratch directories: private to one execution, and gone when it ends.

mod clearing;
mod turns;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use cap_fs_ext::{DirExt, OsMetadataExt};
use cap_std::fs::Dir;
use rustix::fs::{AtFlags, CWD, FileType, Mode, RawDir, mkdirat, unlinkat};
use rustix::io::Errno;
use tokio::sync::watch;

use crate::private::{keeps_what_is_in_it, make_folder};
use clearing::{Clearing, is_itself_or_above};
pub(super) use turns::Owner;
use turns::{Turns, Waiting};

/// What the folders of hosts are called, before a number.
pub(super) const PREFIX: &str = "skillhost-scratch-";
/// A file in it that is locked for as long as the host lives.
const LOCK: &str = "lock";
/// How often the removal of a folder is begun anew, as somebody else may still put something into it.
const ATTEMPTS: usize = 100;
/// What is removed of one owner's before it is the next one's turn: entries, and folders by themselves. What
/// an execution leaves by default is less.
const SLICE: usize = 4_096;

/// Where a host makes scratch directories.
pub(crate) struct ScratchRoot {
    pub(super) base: PathBuf,
    folder: Mutex<Option<Arc<Folder>>>,
    /// How many of whose wait to be removed, or are being removed.
    waiting: watch::Sender<Waiting>,
    /// To the thread that removes them. It ends when this goes and all is done; nobody waits for it.
    remover: OnceLock<mpsc::Sender<Leaving>>,
}

/// A directory on its way out. It is counted until it is gone.
struct Leaving {
    scratch: Option<Scratch>,
    owner: Owner,
    waiting: watch::Sender<Waiting>,
}

impl Leaving {
    /// Removes something of it. Returns whether that was the last, or no more of it goes.
    fn step(&mut self) -> bool {
        self.scratch
            .as_mut()
            .is_none_or(|scratch| scratch.step(SLICE))
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        drop(self.scratch.take());
        self.waiting
            .send_modify(|waiting| waiting.remove(&self.owner));
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
    /// What the guest gets: the folder with the number 0 in `own`.
    pub path: PathBuf,
    /// A folder that the guest never sees, in which it is taken apart.
    own: PathBuf,
    owner: Owner,
    clearing: Clearing,
    is_gone: bool,
    /// Goes with the last of its directories.
    _folder: Arc<Folder>,
}

impl ScratchRoot {
    /// In a folder of the host's, `base`. Nothing is made before it is needed.
    pub fn new(base: PathBuf) -> Self {
        ScratchRoot {
            base,
            folder: Mutex::default(),
            waiting: watch::Sender::new(Waiting::default()),
            remover: OnceLock::new(),
        }
    }

    /// Waits until a directory may be made for this one: until not too many of its own are left.
    pub(super) async fn room(&self, owner: &Owner) {
        self.wait(|waiting| waiting.has_room_for(owner)).await;
    }

    /// Waits until all that were given up are gone.
    pub(in crate::sandbox) async fn cleared(&self) {
        self.wait(Waiting::is_empty).await;
    }

    async fn wait(&self, until: impl Fn(&Waiting) -> bool) {
        // The sender is here, so this does not fail.
        let _ = self
            .waiting
            .subscribe()
            .wait_for(|waiting| until(waiting))
            .await;
    }

    /// Removes a directory, on a thread of its own: neither an answer nor whoever uses the disk waits for
    /// it. What a process leaves that ends meanwhile is swept by the next host.
    pub(super) fn remove(&self, scratch: Scratch) {
        self.waiting
            .send_modify(|waiting| waiting.add(&scratch.owner));
        let leaving = Leaving {
            owner: scratch.owner.clone(),
            scratch: Some(scratch),
            waiting: self.waiting.clone(),
        };
        let remover = self.remover.get_or_init(|| {
            let (sender, receiver) = mpsc::channel::<Leaving>();
            let removes = std::thread::Builder::new()
                .name("skillhost-scratch".into())
                .spawn(move || remove_in_turns(&receiver));
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
    pub(super) fn make(&self, owner: Owner) -> io::Result<Scratch> {
        let folder = self.folder()?;
        let number = folder.made.fetch_add(1, Ordering::Relaxed);
        let own = folder.path.join(number.to_string());
        let path = own.join("0");
        let mut private = DirBuilder::new();
        private.mode(0o700).create(&own)?;
        if let Err(error) = private.create(&path) {
            // It is empty.
            let _ = fs::remove_dir(own);
            return Err(error);
        }
        Ok(Scratch {
            path,
            own,
            owner,
            clearing: Clearing::of_one(),
            is_gone: false,
            _folder: folder,
        })
    }

    fn folder(&self) -> io::Result<Arc<Folder>> {
        // Either there or not: a panicking holder cannot have left it in between.
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &*folder {
            return Ok(Arc::clone(folder));
        }
        make_folder(&self.base)?;
        // What somebody else moves away is never removed.
        keeps_what_is_in_it(&self.base)?;
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

/// Removes what comes, owner by owner, until nothing more can come.
fn remove_in_turns(coming: &mpsc::Receiver<Leaving>) {
    let mut turns = Turns::default();
    loop {
        if turns.is_empty() {
            let Ok(leaving) = coming.recv() else {
                return;
            };
            turns.add(leaving.owner.clone(), leaving);
        }
        for leaving in coming.try_iter() {
            turns.add(leaving.owner.clone(), leaving);
        }
        if let Some(mut leaving) = turns.next()
            && !leaving.step()
        {
            turns.put_back(leaving.owner.clone(), leaving);
        }
    }
}

impl Scratch {
    /// Removes so much of it at most. Returns whether that was the last, or no more of it goes.
    fn step(&mut self, most: usize) -> bool {
        let cleared = self.clear(most);
        if let Err(error) = &cleared {
            let path = self.own.display();
            tracing::warn!("the scratch directory `{path}` stays behind: {error}");
        }
        self.is_gone = cleared.unwrap_or(true);
        self.is_gone
    }

    fn clear(&mut self, most: usize) -> io::Result<bool> {
        let own = clearing::open(CWD, &self.own)?;
        let is_empty = self.clearing.step(own.as_fd(), most)?;
        if is_empty {
            fs::remove_dir(&self.own)?;
        }
        Ok(is_empty)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        while !self.is_gone {
            self.step(usize::MAX);
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
        clear(folder.as_fd())?;
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
        clear(dir.as_fd())?;
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

/// Removes all that is in a host's folder but a file that is called as a lock.
fn clear(folder: BorrowedFd<'_>) -> io::Result<()> {
    let listed = clearing::open(folder, Path::new("."))?;
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut entries = RawDir::new(&listed, &mut buffer);
    let mut clearing = Clearing::default();
    let mut aside: Option<(String, OwnedFd)> = None;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type());
        let is_called = |other: &str| name.to_bytes() == other.as_bytes();
        let stays = is_called(LOCK) && kind != FileType::Directory
            || aside.as_ref().is_some_and(|(aside, _)| is_called(aside));
        if stays || is_itself_or_above(name) {
            continue;
        }
        let (_, own) = match &mut aside {
            Some(aside) => aside,
            none => none.insert(make_aside(folder)?),
        };
        clearing.take(own.as_fd(), listed.as_fd(), name, kind)?;
    }
    if let Some((name, own)) = aside {
        while !clearing.step(own.as_fd(), usize::MAX)? {}
        unlinkat(folder, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Makes a folder in which the others are taken apart, under a name that is free. One that is there was left
/// by a host that was killed at the same.
fn make_aside(folder: BorrowedFd<'_>) -> io::Result<(String, OwnedFd)> {
    for number in 0_u64.. {
        let name = format!("aside-{number}");
        match mkdirat(folder, &name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            made => {
                made?;
                let own = clearing::open(folder, Path::new(&name))?;
                return Ok((name, own));
            }
        }
    }
    Err(Errno::EXIST.into())
}

/// What somebody else removed is gone as well.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use turns::MAX_OF_ONE;

    use super::*;

    fn owner(tenant: &str) -> Owner {
        Owner::new(Some(tenant), "a-skill")
    }

    #[test]
    fn a_deep_and_wide_directory_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let root = ScratchRoot::new(base.path().join("scratch"));
        let scratch = root.make(owner("acme")).unwrap();
        let path = scratch.path.clone();
        let mut dir = Dir::open_ambient_dir(&path, cap_std::ambient_authority()).unwrap();
        // As the host's own are called.
        for name in ["1", "2", "7"] {
            dir.create_dir(name).unwrap();
            dir.write(format!("{name}/file"), "x").unwrap();
        }
        dir.write("4", "a file").unwrap();
        // Deeper than a path can say, and than this process may have files open.
        for depth in 0..3_000 {
            dir.write("file", "x").unwrap();
            dir.symlink_contents("/", "root").unwrap();
            dir.create_dir("3").unwrap();
            if depth % 100 == 0 {
                dir.create_dir("other").unwrap();
            }
            dir = dir.open_dir("3").unwrap();
        }
        drop(dir);
        drop(scratch);
        assert!(!path.exists());
        drop(root);
        let left: Vec<_> = fs::read_dir(base.path().join("scratch")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn others_cannot_write_where_it_is_made() {
        let base = tempfile::tempdir().unwrap();
        let root = ScratchRoot::new(base.path().join("scratch"));
        let mode = || fs::metadata(&root.base).unwrap().permissions().mode() & 0o777;
        drop(root.make(owner("acme")).unwrap());
        assert_eq!(mode(), 0o700);
        let root = ScratchRoot::new(base.path().join("open"));
        fs::create_dir(&root.base).unwrap();
        let with = |mode| fs::set_permissions(&root.base, PermissionsExt::from_mode(mode)).unwrap();
        // As the system's own folder for temporary files is. Where they could take it away there is none; nor is that
        // folder closed to them: it may be theirs as much as anybody's.
        for (mode, made) in [(0o1777, true), (0o775, false), (0o777, false)] {
            with(mode);
            let root = ScratchRoot::new(base.path().join("open"));
            let scratch = root.make(owner("acme"));
            let error = scratch.as_ref().err().map(ToString::to_string);
            assert_eq!(scratch.is_ok(), made, "{error:?}");
            let told = format!("others may write in it (mode {mode:o})");
            assert!(error.is_none_or(|error| error.contains(&told)));
            let kept = fs::metadata(&root.base).unwrap().permissions().mode();
            assert_eq!(kept & 0o7777, mode);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_what_others_left() {
        let base = tempfile::tempdir().unwrap();
        let root = ScratchRoot::new(base.path().into());
        let acme = owner("acme");
        // As many as would have been given up by executions, while the disk does not get on with them.
        for _ in 0..MAX_OF_ONE {
            root.waiting.send_modify(|waiting| waiting.add(&acme));
        }
        let room = tokio::time::timeout(Duration::from_secs(3600), root.room(&acme)).await;
        assert!(room.is_err());
        for other in [owner("mill"), Owner::new(None, "a-skill")] {
            let room = tokio::time::timeout(Duration::ZERO, root.room(&other)).await;
            assert!(room.is_ok(), "{other:?}");
        }
        root.waiting.send_modify(|waiting| waiting.remove(&acme));
        root.room(&acme).await;
    }

    #[tokio::test]
    async fn what_is_given_up_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let root = ScratchRoot::new(base.path().into());
        let mut paths = Vec::new();
        for (tenant, files) in [("acme", 2 * SLICE), ("mill", 1), ("acme", 1)] {
            let scratch = root.make(owner(tenant)).unwrap();
            fs::create_dir(scratch.path.join("folder")).unwrap();
            for number in 0..files {
                File::create(scratch.path.join(number.to_string())).unwrap();
            }
            paths.push(scratch.own.clone());
            root.remove(scratch);
        }
        root.cleared().await;
        assert!(paths.iter().all(|path| !path.exists()));
    }

    /// One slice of a giant is removed, and then it is the next one's turn.
    #[test]
    fn a_giant_goes_in_slices() {
        let base = tempfile::tempdir().unwrap();
        let root = ScratchRoot::new(base.path().into());
        let leaving = |tenant: &str, files: usize| {
            let scratch = root.make(owner(tenant)).unwrap();
            for number in 0..files {
                File::create(scratch.path.join(number.to_string())).unwrap();
            }
            root.waiting
                .send_modify(|waiting| waiting.add(&scratch.owner));
            Leaving {
                owner: scratch.owner.clone(),
                scratch: Some(scratch),
                waiting: root.waiting.clone(),
            }
        };
        let mut giant = leaving("acme", 2 * SLICE);
        let path = giant.scratch.as_ref().unwrap().path.clone();
        let left = || fs::read_dir(&path).unwrap().count();
        assert!(!giant.step());
        assert!(left() > 0 && left() < 2 * SLICE, "{}", left());
        assert!(leaving("mill", 100).step());
        assert!(!giant.step());
        assert!(giant.step());
        assert!(!path.exists());
        assert!(!root.waiting.borrow().is_empty(), "it is counted");
        drop(giant);
        assert!(root.waiting.borrow().is_empty());
    }

    #[test]
    fn what_a_dead_host_left_is_swept_and_what_a_living_one_has_is_not() {
        let base = tempfile::tempdir().unwrap();
        let living = ScratchRoot::new(base.path().into());
        let kept = living.make(owner("acme")).unwrap();
        let dead = base.path().join("skillhost-scratch-dead");
        // Some were in use, some were being taken apart, and some by one that swept and was killed itself.
        for folder in [
            "0/0/inner",
            "1/7/inner/inner",
            "1/8",
            "aside-0/3/4",
            "guests/own",
        ] {
            fs::create_dir_all(dead.join(folder)).unwrap();
            fs::write(dead.join(folder).join("file"), "x").unwrap();
        }
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
        let (one, other) = (
            root.make(owner("acme")).unwrap(),
            root.make(owner("acme")).unwrap(),
        );
        assert_ne!(one.path, other.path);
        for path in [
            &one.path,
            &one.own,
            &base.path().join(one.own.parent().unwrap()),
        ] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o700
            );
        }
    }
}
