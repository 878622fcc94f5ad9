//! The threads on which calls to the file system block.
//!
//! They are the host's own and bounded in number, so that a disk which does not answer holds up
//! those who use it and nobody else; and nothing waits for them when the host goes.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Threads at most. One thread reads some 3 GB a second from the page cache, so more are only for
/// disks that make one wait.
const THREADS: usize = 16;

/// A bounded pool of threads, and the host's budget of open files.
pub(crate) struct Disk {
    /// Made when something is granted for the first time. It drives nothing: only its pool for
    /// blocking calls is used.
    runtime: OnceLock<Runtime>,
    open_files: AtomicU64,
    max_open_files: u64,
}

impl Disk {
    /// A pool without threads, and a budget of half the files that this process may have open.
    pub fn new() -> Self {
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Disk {
            runtime: OnceLock::new(),
            open_files: AtomicU64::new(0),
            max_open_files: allowed.map_or(u64::MAX, |files| files / 2),
        }
    }

    /// Runs something that blocks. It runs to its end even if nobody waits for that any more.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
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
        Ok(runtime.spawn_blocking(work))
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
            // Each waits for the others' end, as a call to a dead network drive would.
            let _ = disk.spawn(move || started.send(()));
        }
        for _ in 0..2 * THREADS {
            starts.recv().unwrap();
        }
        let stuck = disk.spawn(move || held.recv()).unwrap();
        let began = Instant::now();
        drop(disk);
        assert!(began.elapsed().as_secs() < 5);
        drop(release);
        drop(stuck);
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
