//! The threads on which calls to the file system block.
//!
//! They are the host's own, so that a disk which does not answer holds up those who use it and nobody else.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::classify::Stop;
use crate::turns::Party;
use crate::turns::threads::{Doing, Kind, Threads, Undone};

const THREADS: Kind = Kind {
    name: "skillhost-disk",
    // One thread reads some 3 GB a second from the page cache, so more are only for disks that make one wait.
    threads: 16,
    // A disk of one tenant's that does not answer leaves some of them to others.
    each: 12,
    // Each execution has a few calls at once, so that no more are waiting than a full host has; but what a guest
    // was told is done stays in line when its execution is over.
    max_waiting: 10_000,
    stack_bytes: None,
};

/// A bounded pool of threads, and the host's budget of open files.
pub(crate) struct Disk {
    threads: Threads,
    open_files: AtomicU64,
    max_open_files: u64,
}

impl From<Undone> for Stop {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Panicked => Stop::Panicked,
            Undone::Gone => Stop::Cancelled,
        }
    }
}

impl Disk {
    /// A pool without threads, and a budget of half the files that this process may have open.
    pub fn new() -> Self {
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Disk {
            threads: Threads::new(THREADS),
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
        self.threads.spawn(party, work)
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
        self.threads.spawn_to_end(party, work)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_given_back() {
        let mut disk = Disk::new();
        disk.max_open_files = 2;
        assert!(disk.open() && disk.open() && !disk.open());
        disk.close();
        assert!(disk.open());
    }
}
