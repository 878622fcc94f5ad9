//! The threads on which calls to the file system block.
//!
//! They are the host's own and bounded in number, so that a disk which does not answer holds up
//! those who use it and nobody else; and nothing waits for them when the host goes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinHandle};

/// Threads at most. One thread reads some 3 GB a second from the page cache, so more are only for
/// disks that make one wait.
const THREADS: usize = 16;
/// What may wait for a thread. Each execution has a few calls at once, so that no more are waiting than a
/// full host has; but those of a disk that does not answer stay in line when their execution is over.
const MAX_WAITING: usize = 10_000;

/// A bounded pool of threads, and the host's budget of open files.
pub(crate) struct Disk {
    /// Made when something is granted for the first time. It drives nothing: only its pool for
    /// blocking calls is used.
    runtime: OnceLock<Runtime>,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
    open_files: AtomicU64,
    max_open_files: u64,
}

/// Something that blocks, on its way. Where this is dropped before a thread has begun it, it is not
/// done at all; what was begun goes on to its end.
pub(crate) struct Doing<T>(JoinHandle<T>);

impl<T> Future for Doing<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Doing<T> {
    fn drop(&mut self) {
        // Of what was begun or is done this changes nothing.
        self.0.abort();
    }
}

/// A place among those who wait, given back when it is dropped.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Disk {
    /// A pool without threads, and a budget of half the files that this process may have open.
    pub fn new() -> Self {
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Disk {
            runtime: OnceLock::new(),
            waiting: Arc::default(),
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
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Doing<T>> {
        if self.waiting.load(Ordering::Relaxed) >= self.max_waiting {
            return Err(rustix::io::Errno::BUSY.into());
        }
        self.spawn_to_end(work).map(Doing)
    }

    /// Runs something that blocks, whether or not anybody waits for it: what a guest was told is done,
    /// and what gives back. Of that there is no more than its budgets allow.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn spawn_to_end<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(Arc::clone(&self.waiting));
        let runtime = match self.runtime.get() {
            Some(runtime) => runtime,
            None => {
                let runtime = Builder::new_current_thread()
                    .max_blocking_threads(THREADS)
                    .thread_name("skillhost-disk")
                    .build()?;
                if let Err(second) = self.runtime.set(runtime) {
                    // Another thread was first.
                    second.shutdown_background();
                }
                self.runtime
                    .get()
                    .ok_or_else(|| io::Error::other("no threads for the disk"))?
            }
        };
        Ok(runtime.spawn_blocking(move || {
            drop(waiting);
            work()
        }))
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
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn shutting_down_waits_for_nothing() {
        let disk = Disk::new();
        let (release, held) = mpsc::channel::<()>();
        let (started, starts) = mpsc::channel();
        for _ in 0..2 * THREADS {
            let started = started.clone();
            let _ = disk.spawn_to_end(move || started.send(()));
        }
        for _ in 0..2 * THREADS {
            starts.recv().unwrap();
        }
        // It has begun, and waits, as a call to a dead network drive would.
        let stuck = disk.spawn(move || {
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
        for _ in 0..THREADS {
            let (held, started) = (Arc::clone(&held), started.clone());
            let waits = move || {
                let _ = started.send(());
                drop(held.lock().map(|held| held.recv()));
            };
            drop(disk.spawn_to_end(waits).unwrap());
        }
        (0..THREADS).for_each(|_| starts.recv().unwrap());
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
        let wanted = disk.spawn(say("wanted")).unwrap();
        drop(disk.spawn(say("unwanted")).unwrap());
        drop(disk.spawn_to_end(say("to its end")).unwrap());
        drop(done);
        drop(release);
        let mut said: Vec<_> = does.iter().collect();
        said.sort_unstable();
        assert_eq!(said, ["to its end", "wanted"]);
        drop(wanted);
    }

    #[test]
    fn no_more_waits_than_may() {
        let mut disk = Disk::new();
        disk.max_waiting = 2;
        let release = held_up(&disk);
        let waiting = [disk.spawn(|| ()).unwrap(), disk.spawn(|| ()).unwrap()];
        let refused = disk.spawn(|| ()).err().unwrap();
        assert_eq!(
            refused.raw_os_error(),
            Some(rustix::io::Errno::BUSY.raw_os_error())
        );
        drop(release);
        for one in waiting {
            disk.runtime.get().unwrap().block_on(one).unwrap();
        }
        assert!(disk.spawn(|| ()).is_ok());
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
