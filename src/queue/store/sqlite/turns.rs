//! Who is next to write, among processes.
//!
//! SQLite's own lock goes to whoever asks at the right moment: beside a process that writes all the
//! time, others that ask now and then wait for seconds. So who wants to write first takes a lock on a
//! file beside the database, and gives it back once it has SQLite's: while one waits for that, the
//! others do not ask for it. It is a courtesy, and nothing rests on it.
//!
//! The same file is a bell: one byte is written to it after each transaction that changed anything.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Result, beside};
use crate::queue::error::QueueError;

/// How soon to ask again at first.
const PAUSE: Duration = Duration::from_micros(50);
/// And at the latest.
const LONGEST: Duration = Duration::from_millis(1);

/// The file beside a database.
pub(super) fn file(path: &Path) -> PathBuf {
    beside(path, "-lock")
}

/// The lock on a file of its own.
///
/// Closing a file gives up all of a process's locks on it, those of SQLite too; then another process
/// that comes and goes would take the log that we write for one that nobody writes, and remove it. So
/// it is not the database's.
pub(super) struct Turns(File);

impl Turns {
    /// Opens the file beside a database. Whoever may open it can lock it, and keep others waiting: so
    /// that is nobody but who may write the database.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(file(path));
        let opened = opened.map_err(|error| {
            QueueError::Unavailable(format!("cannot lock `{}`: {error}", path.display()))
        })?;
        close_to_others(&opened, path);
        Ok(Turns(opened))
    }

    /// Lets one at a time open a database: switching to a write-ahead log, and bringing the schema up
    /// to date, are not for two at once.
    ///
    /// # Errors
    /// Where somebody else has the lock until then.
    pub fn alone(&self, path: &Path, until: Instant) -> Result<()> {
        let why = match self.lock(until) {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {
                "another process has held it for too long; `fuser` or `lsof` tells which".to_owned()
            }
            Err(TryLockError::Error(error)) => error.to_string(),
        };
        Err(QueueError::Unavailable(format!(
            "cannot lock `{}`: {why}",
            file(path).display()
        )))
    }

    /// Waits for its turn; not longer than until then, should somebody sleep in theirs.
    pub fn wait(&self, until: Instant) {
        // Nothing rests on it.
        let _ = self.lock(until);
    }

    fn lock(&self, until: Instant) -> std::result::Result<(), TryLockError> {
        let mut pause = PAUSE;
        loop {
            match self.0.try_lock() {
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST);
                }
                locked => return locked,
            }
        }
    }

    /// Lets those know who watch the file, in any process, that something was written.
    pub fn ring(&self) {
        // They look from time to time, too.
        let _ = self.0.write_at(&[0], 0);
    }

    /// Lets the next have theirs.
    pub fn end(&self) {
        // Where it was not ours, there is nothing to give back.
        let _ = self.0.unlock();
    }
}

/// Takes from who may not write the database what an earlier release let them do with the file beside it.
fn close_to_others(opened: &File, path: &Path) {
    let mode = |found: std::io::Result<std::fs::Metadata>| Some(found.ok()?.permissions().mode());
    let (Some(now), Some(database)) = (mode(opened.metadata()), mode(std::fs::metadata(path)))
    else {
        return;
    };
    // A group that may write one may write the other.
    let writers = database & 0o022;
    let allowed = 0o600 | writers | (writers << 1);
    if now & 0o777 & !allowed != 0 {
        // It may be another user's; then it is for them.
        let _ = opened.set_permissions(std::fs::Permissions::from_mode(now & allowed));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::super::Sqlite;

    #[test]
    fn who_writes_now_and_then_is_not_kept_waiting_by_who_writes_all_the_time() {
        const TIMES: u64 = 20;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("queue.db");
        let mut seldom = Sqlite::open(&path).expect("it opens");
        let mut busy = Sqlite::open(&path).expect("it opens");
        let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
        let write = |store: &mut Sqlite| {
            store.begin().expect("it begins");
            store
                .connection
                .execute("UPDATE numbers SET last = last + 1", [])
                .expect("it writes");
            store.commit().expect("it commits");
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    write(&mut busy);
                    written.fetch_add(1, Ordering::SeqCst);
                }
            });
            while written.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let before = written.load(Ordering::SeqCst);
            for _ in 0..TIMES {
                write(&mut seldom);
            }
            let others = written.load(Ordering::SeqCst) - before;
            stop.store(true, Ordering::SeqCst);
            // One each, and a few while this thread has no processor.
            assert!(others < 50 * TIMES, "{others} others wrote meanwhile");
        });
    }
}
