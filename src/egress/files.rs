//! How many connections all executions of a host have at once: each is one of the files that the process may have open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of the files that the process may have open, those that may be connections of guests: a quarter. Half are for files
/// that guests open, and what is left for the host's own.
const PART: u64 = 4;

/// Connections, sockets and look-ups of names that may be open at once.
#[derive(Debug)]
pub(super) struct Files {
    open: AtomicU64,
    most: u64,
}

/// Some of them, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    files: Arc<Files>,
    count: u64,
}

impl Files {
    /// As many as this process may have.
    pub fn of_this_process() -> Arc<Self> {
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Files::new(allowed.map_or(u64::MAX, |files| files / PART))
    }

    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Files {
            open: AtomicU64::new(0),
            most,
        })
    }

    /// So many more, unless these are too many.
    pub fn take(self: &Arc<Self>, count: u64) -> Option<Taken> {
        let more = |open| Some(count.saturating_add(open)).filter(|open| *open <= self.most);
        let taken = self
            .open
            .try_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Taken {
            files: Arc::clone(self),
            count,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.files.open.fetch_sub(self.count, Ordering::Relaxed);
    }
}
