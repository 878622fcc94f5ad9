//! What all descriptors of one execution share: threads to block on, quotas, and whom to tell of
//! refusals.

use std::io;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{FsError, StreamError};

use crate::grant::{Capability, Clock, Denial, DirectoryGrant, Remedy};
use crate::limits::{Limit, Limits};
use crate::sandbox::capability::Refusals;
use crate::sandbox::classify::Stop;
use crate::sandbox::disk::Disk;
use crate::text::named;
use crate::turns::Party;
use crate::turns::threads::{Doing, Undone};

/// Calls of one execution that may be on the threads for the disk at once.
const TURNS: usize = 4;

/// See the module.
pub(super) struct Shared {
    disk: Arc<Disk>,
    /// For whom it is done what they do.
    party: Party,
    turns: Arc<Semaphore>,
    refusals: Refusals,
    open_files: Quota,
    created_files: Quota,
    write_bytes: Quota,
    /// Where the clocks stand still, and with them the times of files: when.
    still: Option<SystemTime>,
    /// The first limit that was met, which ends the execution whatever the guest makes of it.
    met: OnceLock<Stop>,
    /// Whether the log says that no more files can be had.
    told_of_files: AtomicBool,
    /// Whether the last error that the guest was told of is that a disk has no room, and it wrote and made nothing since.
    full: AtomicBool,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// The guest hears of it.
    Code(ErrorCode),
    /// The execution ends.
    Stop(Stop),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Code(error.into())
    }
}

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Self {
        Fault::Code(code)
    }
}

impl From<rustix::io::Errno> for Fault {
    fn from(error: rustix::io::Errno) -> Self {
        Fault::from(io::Error::from(error))
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Fault::Stop(stop)
    }
}

impl From<Fault> for FsError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Code(code) => code.into(),
            Fault::Stop(stop) => FsError::trap(stop),
        }
    }
}

impl From<Fault> for StreamError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Code(code) => StreamError::LastOperationFailed(code.into()),
            Fault::Stop(stop) => StreamError::Trap(stop.into()),
        }
    }
}

struct Quota {
    limit: Limit,
    allowed: u64,
    used: AtomicU64,
}

impl Quota {
    fn new(limit: Limit, limits: &Limits) -> Self {
        Quota {
            limit,
            allowed: limits.get(limit),
            used: AtomicU64::new(0),
        }
    }

    /// Takes so much, or nothing where that is more than is left.
    fn take(&self, amount: u64) -> Result<(), Stop> {
        let mut asked = 0;
        let taken = self
            .used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                asked = used.saturating_add(amount);
                (asked <= self.allowed).then_some(asked)
            });
        match taken {
            Ok(_) => Ok(()),
            Err(_) => Err(Stop::Limit {
                limit: self.limit,
                allowed: self.allowed,
                requested: Some(asked),
            }),
        }
    }

    fn give_back(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// The guest was told of an error.
    pub fn told(&self, code: ErrorCode) {
        let full = matches!(code, ErrorCode::InsufficientSpace | ErrorCode::Quota);
        self.full.store(full, Ordering::Relaxed);
    }

    /// The guest has written or made something: where a disk was full before, it has gone on.
    pub fn had_room(&self) {
        self.full.store(false, Ordering::Relaxed);
    }

    /// Whether the last error that the guest was told of is that a disk has no room, and it wrote and made nothing since.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub fn new(disk: Arc<Disk>, party: Party, refusals: Refusals, limits: &Limits) -> Self {
        Shared {
            disk,
            party,
            turns: Arc::new(Semaphore::new(TURNS)),
            refusals,
            open_files: Quota::new(Limit::OpenFiles, limits),
            created_files: Quota::new(Limit::CreatedFiles, limits),
            write_bytes: Quota::new(Limit::WriteBytes, limits),
            still: None,
            met: OnceLock::new(),
            told_of_files: AtomicBool::new(false),
            full: AtomicBool::new(false),
        }
    }

    /// By this clock.
    pub fn by(mut self, clock: Clock) -> Self {
        self.still = match clock {
            Clock::System => None,
            Clock::Still(time) => Some(time.into()),
        };
        self
    }

    /// The time that every file has, where the clocks stand still.
    pub fn still(&self) -> Option<SystemTime> {
        self.still
    }

    /// Files that were made, and bytes that were written.
    pub fn used(&self) -> (u64, u64) {
        (self.created_files.used(), self.write_bytes.used())
    }

    /// Has something done on a thread that may block. Once begun it runs to its end; where nobody waits
    /// for it any more, it is not begun.
    pub async fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> io::Result<Doing<Result<T, Fault>>> {
        let turn = self.turn().await?;
        self.disk.spawn(&self.party, move || {
            let done = work();
            drop(turn);
            done
        })
    }

    /// The same for what a guest was told is done.
    pub async fn start_to_end<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> io::Result<Doing<Result<T, Fault>>> {
        let turn = self.turn().await?;
        self.disk.spawn_to_end(&self.party, move || {
            let done = work();
            drop(turn);
            done
        })
    }

    async fn turn(&self) -> io::Result<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        turn.map_err(io::Error::other)
    }

    /// Has something done on a thread that may block, and waits for it.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        done(self.start(work).await?.await)
    }

    /// Has something done whether or not anybody waits for it.
    pub fn finish(&self, work: impl FnOnce() + Send + 'static) {
        if let Err(error) = self.disk.spawn_to_end(&self.party, work) {
            tracing::warn!("the last write of a skill is lost: {error}");
        }
    }

    /// Closes something on a thread that may block. Nobody waits for it.
    pub fn close(&self, closing: impl FnOnce() + Send + 'static) {
        // Where no thread can be had, it is closed here after all.
        let _ = self.disk.spawn_to_end(&self.party, closing);
    }

    /// The right to have one more file open.
    pub fn open(self: &Arc<Self>) -> Result<Open, Fault> {
        self.note(self.open_files.take(1))?;
        if !self.disk.open() {
            self.open_files.give_back(1);
            // A guest may ask without end.
            if !self.told_of_files.swap(true, Ordering::Relaxed) {
                tracing::warn!("this host has as many files open for skills as it may");
            }
            return Err(ErrorCode::Busy.into());
        }
        Ok(Open {
            shared: Arc::clone(self),
            counted: true,
        })
    }

    /// Counts a file, directory or link that is about to be made.
    pub fn create(&self) -> Result<(), Stop> {
        self.note(self.created_files.take(1))
    }

    /// It was not made after all.
    pub fn not_created(&self) {
        self.created_files.give_back(1);
    }

    /// Counts bytes that are about to be written.
    pub fn write(&self, bytes: u64) -> Result<(), Stop> {
        self.note(self.write_bytes.take(bytes))
    }

    /// The limit that was met, if one was.
    pub fn met(&self) -> Option<Stop> {
        self.met.get().copied()
    }

    fn note(&self, taken: Result<(), Stop>) -> Result<(), Stop> {
        taken.inspect_err(|stop| {
            // Only the first one is told.
            let _ = self.met.set(*stop);
        })
    }

    /// Notes that a guest wanted to write where it may only read.
    pub fn read_only(&self, grant: &DirectoryGrant) -> Fault {
        self.refusals.add(self.refusals.asker().write_denied(grant));
        ErrorCode::NotPermitted.into()
    }

    /// Notes that a guest's path led out of what it may touch.
    pub fn escape(&self, grant: &DirectoryGrant, path: &str) -> Fault {
        let shown = named(path, 200);
        let (reason, remedy, hint) = if climbs_out(path) {
            (
                format!("the path `{shown}` leads out of the directory"),
                Remedy::Skill,
                "no grant changes that: a path stays in its directory; another directory is granted under a guest \
                 path of its own, by which the skill has to ask for it",
            )
        } else {
            (
                format!("a link on the path `{shown}` leads out of the directory"),
                Remedy::Operator,
                "no grant changes where a link leads: grant the directory that it leads to under a guest path of \
                 its own, and have the skill ask for that; a link by an absolute path leads out wherever that is, \
                 and one that `ln -sr` makes only where it does",
            )
        };
        self.refuse(grant, reason, remedy, hint)
    }

    /// Notes that a guest wanted to make a link, or to move one, so that it would lead out of what it may touch.
    pub fn leading_out(&self, grant: &DirectoryGrant, target: &str) -> Fault {
        let reason = format!(
            "a link to `{}` may lead out of the directory",
            named(target, 200)
        );
        let hint = "no grant changes that: a link that a skill makes or moves is neither absolute nor has `..` in it";
        self.refuse(grant, reason, Remedy::Skill, hint)
    }

    /// Notes that a guest wanted to open something that is no file, directory or link.
    pub fn special(&self, grant: &DirectoryGrant, path: &str, kind: &str) -> Fault {
        let path = named(path, 200);
        let reason = format!("`{path}` is {kind}: only files and directories can be opened");
        let hint = "no grant changes that; put a file there";
        self.refuse(grant, reason, Remedy::Operator, hint)
    }

    fn refuse(&self, grant: &DirectoryGrant, reason: String, remedy: Remedy, hint: &str) -> Fault {
        self.refusals.add(Denial {
            capability: Capability::Directory,
            subject: grant.guest.clone(),
            reason,
            remedy,
            grant: None,
            hint: hint.into(),
        });
        ErrorCode::NotPermitted.into()
    }
}

/// Whether a path leads out of its directory by itself, whatever the links on it are.
pub(super) fn climbs_out(path: &str) -> bool {
    let mut depth = 0_usize;
    !Path::new(path).components().all(|part| match part {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::ParentDir => match depth.checked_sub(1) {
            Some(above) => {
                depth = above;
                true
            }
            None => false,
        },
        Component::RootDir | Component::Prefix(_) => false,
    })
}

/// What came of work on another thread.
pub(super) fn done<T>(done: Result<Result<T, Fault>, Undone>) -> Result<T, Fault> {
    done.unwrap_or_else(|undone| Err(Stop::from(undone).into()))
}

/// The right to have one file open. Given back when it is dropped.
pub(super) struct Open {
    shared: Arc<Shared>,
    counted: bool,
}

impl Open {
    /// The guest has let go of its file: it counts no longer against its limit, but against the
    /// host's until this is dropped.
    pub fn let_go(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.shared.open_files.give_back(1);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.let_go();
        self.shared.disk.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::capability::Chatter;

    #[test]
    fn what_is_refused_says_why_and_who_can_change_it() {
        let grant: DirectoryGrant = "/srv:/data".parse().unwrap();
        let refused = |refuse: &dyn Fn(&Shared) -> Fault| {
            let refusals = Refusals::new(Arc::default(), Chatter::unheard().listeners());
            let (disk, party) = (Arc::new(Disk::new()), Party::of(None, "words"));
            let shared = Shared::new(disk, party, refusals.clone(), &Limits::default());
            refuse(&shared);
            let [denial] = <[Denial; 1]>::try_from(refusals.take()).unwrap();
            assert_eq!(denial.capability, Capability::Directory);
            assert_eq!(denial.subject, "/data");
            (denial.remedy, denial.reason)
        };
        for (path, remedy, reason) in [
            (
                "../x",
                Remedy::Skill,
                "the path `../x` leads out of the directory",
            ),
            (
                "a/../../x",
                Remedy::Skill,
                "the path `a/../../x` leads out of the directory",
            ),
            (
                "/x",
                Remedy::Skill,
                "the path `/x` leads out of the directory",
            ),
            // It stays within, and so it is a link on it that does not.
            (
                "a/../x",
                Remedy::Operator,
                "a link on the path `a/../x` leads out of the directory",
            ),
            (
                "x",
                Remedy::Operator,
                "a link on the path `x` leads out of the directory",
            ),
        ] {
            let found = refused(&|shared| shared.escape(&grant, path));
            assert_eq!(found, (remedy, reason.to_owned()), "{path}");
        }
        assert_eq!(
            refused(&|shared| shared.leading_out(&grant, "../x")),
            (
                Remedy::Skill,
                "a link to `../x` may lead out of the directory".to_owned()
            )
        );
        assert_eq!(
            refused(&|shared| shared.special(&grant, "x", "a FIFO")),
            (
                Remedy::Operator,
                "`x` is a FIFO: only files and directories can be opened".to_owned()
            )
        );
        assert_eq!(refused(&|shared| shared.read_only(&grant)).0, Remedy::Grant);
    }
}
