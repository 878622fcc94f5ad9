//! The threads on which calls to the file system block.
//!
//! They are the host's own and bounded in number, so that a disk which does not answer holds up
//! those who use it and nobody else; and nothing waits for them when the host goes. Whoever waits for a
//! thread waits in turns between tenants, or skills without one: what one of them wants is not in the way of others'.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::classify::Stop;
use crate::turns::line::{Line, Ticket, Whose};
use crate::turns::{ANYTHING, Party, Places};

/// Threads at most. One thread reads some 3 GB a second from the page cache, so more are only for
/// disks that make one wait.
const THREADS: u32 = 16;
/// What may wait for a thread. Each execution has a few calls at once, so that no more are waiting than a
/// full host has; but what a guest was told is done stays in line when its execution is over.
const MAX_WAITING: u32 = 10_000;

/// A bounded pool of threads, and the host's budget of open files.
pub(crate) struct Disk {
    /// Made when something is granted for the first time. It drives nothing: only its pool for
    /// blocking calls is used.
    runtime: OnceLock<Runtime>,
    pool: Arc<Pool>,
    max_waiting: u32,
    open_files: AtomicU64,
    max_open_files: u64,
}

/// What is done, and what waits for a thread.
struct Pool {
    line: Mutex<Line<Job>>,
    threads: Places,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    /// Nothing is done or dropped under the lock that is not the line's own.
    fn lock(&self) -> MutexGuard<'_, Line<Job>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread of the pool, for as long as there is something to be done.
struct Thread {
    pool: Arc<Pool>,
    /// For whom it does what it does; `None` once it is given back.
    does: Option<Option<Whose>>,
}

impl Thread {
    /// Does something, and then whatever is next, until nothing waits.
    fn work(mut self, mut job: Job) {
        loop {
            job();
            let Some(next) = self.next() else { return };
            job = next;
        }
    }

    /// Takes on what is next, or is given back.
    fn next(&mut self) -> Option<Job> {
        let mut line = self.pool.lock();
        if let Some(whose) = self.does.take() {
            line.finish(whose.as_ref());
        }
        let (job, whose) = line.next(&self.pool.threads)?;
        self.does = Some(Some(whose));
        Some(job)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Where it never came to it: the host is going, or the system has no thread.
        if let Some(whose) = self.does.take() {
            self.pool.lock().finish(whose.as_ref());
        }
    }
}

/// Something that blocks, on its way. Where this is dropped before a thread has begun it, it is not
/// done at all, unless it is to be done to its end; what was begun goes on to its end.
pub(crate) struct Doing<T> {
    done: oneshot::Receiver<std::thread::Result<T>>,
    /// Where it waits, until it is taken out.
    waits: Option<(Arc<Pool>, Ticket)>,
}

/// Why nothing came of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undone {
    Panicked,
    /// The host is going, and its threads with it.
    Gone,
}

impl From<Undone> for Stop {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Panicked => Stop::Panicked,
            Undone::Gone => Stop::Cancelled,
        }
    }
}

impl<T> Future for Doing<T> {
    type Output = Result<T, Undone>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.done).poll(context));
        self.waits = None;
        Poll::Ready(match done {
            Ok(done) => done.map_err(|_| Undone::Panicked),
            Err(_) => Err(Undone::Gone),
        })
    }
}

impl<T> Drop for Doing<T> {
    fn drop(&mut self) {
        if let Some((pool, ticket)) = self.waits.take() {
            let job = pool.lock().leave(&ticket);
            // What it holds may have something to be done in turn, once the lock is free.
            drop(job);
        }
    }
}

impl Disk {
    /// A pool without threads, and a budget of half the files that this process may have open.
    pub fn new() -> Self {
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Disk {
            runtime: OnceLock::new(),
            pool: Arc::new(Pool {
                line: Mutex::default(),
                threads: Places(THREADS),
            }),
            max_waiting: MAX_WAITING,
            open_files: AtomicU64::new(0),
            max_open_files: allowed.map_or(u64::MAX, |files| files / 2),
        }
    }

    /// Runs something that blocks, unless nobody waits for it any more when a thread is free.
    ///
    /// # Errors
    /// Where no thread can be had, or too much waits for one.
    pub fn spawn<T: Send + 'static>(
        &self,
        party: &Party,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Doing<T>> {
        let (done, doing) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !done.is_closed() {
                let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
            }
        });
        let ticket = self.begin(party, job, self.max_waiting)?;
        Ok(Doing {
            done: doing,
            waits: ticket.map(|ticket| (Arc::clone(&self.pool), ticket)),
        })
    }

    /// Runs something that blocks, whether or not anybody waits for it: what a guest was told is done,
    /// and what gives back. Of that there is no more than its budgets allow.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn spawn_to_end<T: Send + 'static>(
        &self,
        party: &Party,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Doing<T>> {
        let (done, doing) = oneshot::channel();
        let job: Job = Box::new(move || {
            let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
        });
        self.begin(party, job, u32::MAX)?;
        Ok(Doing {
            done: doing,
            waits: None,
        })
    }

    /// Begins something, or has it wait where no more than so many do already.
    fn begin(&self, party: &Party, job: Job, max_waiting: u32) -> io::Result<Option<Ticket>> {
        let runtime = self.runtime()?;
        let mut line = self.pool.lock();
        // Whoever waits does so because there is no thread: each that ends takes on the next.
        if let Some(whose) = line.start(party.name(), ANYTHING, &self.pool.threads) {
            drop(line);
            let pool = Arc::clone(&self.pool);
            let does = Some(whose);
            let thread = Thread { pool, does };
            runtime.spawn_blocking(move || thread.work(job));
            return Ok(None);
        }
        if line.waiting() >= max_waiting {
            drop(line);
            return Err(rustix::io::Errno::BUSY.into());
        }
        Ok(Some(line.wait(party.name(), ANYTHING, job)))
    }

    fn runtime(&self) -> io::Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(THREADS as usize)
            .thread_name("skillhost-disk")
            .build()?;
        if let Err(second) = self.runtime.set(runtime) {
            // Another thread was first.
            second.shutdown_background();
        }
        let runtime = self.runtime.get();
        runtime.ok_or_else(|| io::Error::other("no threads for the disk"))
    }

    /// Takes one file from the budget. Give it back with [`close`](Disk::close).
    pub fn open(&self) -> bool {
        self.open_files
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < self.max_open_files).then_some(open + 1)
            })
            .is_ok()
    }

    /// Gives a file back to the budget.
    pub fn close(&self) {
        self.open_files.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // Nobody takes it on any more.
        let left = std::mem::take(&mut *self.pool.lock());
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    fn party(name: &str) -> Party {
        Party::of(Some(name), "words")
    }

    #[test]
    fn shutting_down_waits_for_nothing() {
        let disk = Disk::new();
        let (release, held) = mpsc::channel::<()>();
        let (started, starts) = mpsc::channel();
        for _ in 0..2 * THREADS {
            let started = started.clone();
            let _ = disk.spawn_to_end(&party("a"), move || started.send(()));
        }
        for _ in 0..2 * THREADS {
            starts.recv().unwrap();
        }
        // It has begun, and waits, as a call to a dead network drive would.
        let stuck = disk.spawn(&party("a"), move || {
            let _ = started.send(());
            held.recv()
        });
        let stuck = stuck.unwrap();
        starts.recv().unwrap();
        let began = Instant::now();
        drop(disk);
        assert!(began.elapsed().as_secs() < 5);
        drop(release);
        drop(stuck);
    }

    /// Takes all threads until what it gives is dropped.
    fn held_up(disk: &Disk) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let (started, starts) = mpsc::channel();
        for _ in 0..disk.pool.threads.0 {
            let (held, started) = (Arc::clone(&held), started.clone());
            let waits = move || {
                let _ = started.send(());
                drop(held.lock().map(|held| held.recv()));
            };
            drop(disk.spawn_to_end(&party("a"), waits).unwrap());
        }
        (0..disk.pool.threads.0).for_each(|_| starts.recv().unwrap());
        release
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_begun() {
        let disk = Disk::new();
        let release = held_up(&disk);
        let (done, does) = mpsc::channel();
        let say = |what: &'static str| {
            let done = done.clone();
            move || done.send(what)
        };
        let wanted = disk.spawn(&party("a"), say("wanted")).unwrap();
        drop(disk.spawn(&party("a"), say("unwanted")).unwrap());
        drop(disk.spawn_to_end(&party("a"), say("to its end")).unwrap());
        drop(done);
        drop(release);
        let mut said: Vec<_> = does.iter().collect();
        said.sort_unstable();
        assert_eq!(said, ["to its end", "wanted"]);
        drop(wanted);
    }

    /// Neither a thread nor what it holds is kept for what nobody waits for.
    #[test]
    fn what_is_given_up_leaves_the_line() {
        let disk = Disk::new();
        let release = held_up(&disk);
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let waiting = disk.spawn(&party("a"), move || drop(holds)).unwrap();
        assert_eq!(
            (disk.pool.lock().waiting(), Arc::strong_count(&held)),
            (1, 2)
        );
        drop(waiting);
        assert_eq!(
            (disk.pool.lock().waiting(), Arc::strong_count(&held)),
            (0, 1)
        );
        drop(release);
    }

    #[test]
    fn whoever_wants_much_is_not_in_the_way_of_others() {
        let mut disk = Disk::new();
        Arc::get_mut(&mut disk.pool).unwrap().threads = Places(1);
        let release = held_up(&disk);
        let (done, does) = mpsc::channel();
        for name in ["a", "a", "a", "a", "b", "c", "c"] {
            let done = done.clone();
            let say = move || done.send(name);
            drop(disk.spawn_to_end(&party(name), say).unwrap());
        }
        drop(done);
        drop(release);
        let said: Vec<_> = does.iter().collect();
        assert_eq!(said, ["a", "b", "c", "a", "c", "a", "a"]);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let mut disk = Disk::new();
        Arc::get_mut(&mut disk.pool).unwrap().threads = Places(1);
        let panics = disk.spawn(&party("a"), || panic!("as it may")).unwrap();
        let fine = disk.spawn(&party("a"), || 7).unwrap();
        let runtime = disk.runtime.get().unwrap();
        let panicked: Result<(), Undone> = runtime.block_on(panics);
        assert_eq!(panicked, Err(Undone::Panicked));
        assert_eq!(runtime.block_on(fine), Ok(7));
    }

    #[test]
    fn no_more_waits_than_may() {
        let mut disk = Disk::new();
        disk.max_waiting = 2;
        let release = held_up(&disk);
        let waiting = [(); 2].map(|()| disk.spawn(&party("a"), || ()).unwrap());
        let refused = disk.spawn(&party("b"), || ()).err().unwrap();
        assert_eq!(
            refused.raw_os_error(),
            Some(rustix::io::Errno::BUSY.raw_os_error())
        );
        drop(release);
        for one in waiting {
            disk.runtime.get().unwrap().block_on(one).unwrap();
        }
        assert!(disk.spawn(&party("b"), || ()).is_ok());
    }

    #[test]
    fn the_budget_is_given_back() {
        let mut disk = Disk::new();
        disk.max_open_files = 2;
        assert!(disk.open() && disk.open() && !disk.open());
        disk.close();
        assert!(disk.open());
    }
}
