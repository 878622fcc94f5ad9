//! Noticing that somebody wrote, this process or another.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;

use super::super::Result;
use super::{connect, others};
use crate::queue::error::QueueError;

/// How often to look where the system does not tell. Where it tells, this is what is behind it.
const LOOK: Duration = Duration::from_millis(if cfg!(target_os = "linux") { 100 } else { 5 });

/// Looks whether the file changed, and bumps `changed` if so.
pub(crate) struct Notice {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// Tells the thread to end.
struct Stop {
    stopped: AtomicBool,
    told: Option<Told>,
}

impl Notice {
    pub fn start(path: &Path, changed: watch::Sender<u64>) -> Result<Self> {
        let connection = connect(path, false)?;
        let stop = Arc::new(Stop {
            stopped: AtomicBool::new(false),
            told: Told::watching(path),
        });
        let stopping = stop.clone();
        let thread = std::thread::Builder::new()
            .name("skillhost-notice".to_owned())
            .spawn(move || {
                let mut last = version(&connection);
                while !stopping.stopped.load(Ordering::Relaxed) {
                    match &stopping.told {
                        Some(told) => told.wait(),
                        None => std::thread::sleep(LOOK),
                    }
                    let now = version(&connection);
                    if now != last {
                        last = now;
                        changed.send_modify(|generation| *generation = generation.wrapping_add(1));
                    }
                }
            })
            .map_err(|error| {
                QueueError::Unavailable(format!("cannot start a thread to look: {error}"))
            })?;
        Ok(Notice {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.stop.stopped.store(true, Ordering::Relaxed);
        if let Some(told) = &self.stop.told {
            told.wake();
        }
        if let Some(thread) = self.thread.take() {
            // It was woken, and has nothing to lose.
            let _ = thread.join();
        }
    }
}

/// A number that changes when another connection has written. 0 where it cannot be read; the next
/// look tells.
fn version(connection: &Connection) -> i64 {
    others(connection).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
use elsewhere::Told;
#[cfg(target_os = "linux")]
use linux::Told;

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;

    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
    use rustix::fd::OwnedFd;
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

    use super::super::turns;
    use super::LOOK;

    /// What the system tells of, and what wakes who waits for it.
    pub(super) struct Told {
        writes: OwnedFd,
        end: OwnedFd,
    }

    impl Told {
        /// Asks the system to tell when a writer rings: once for each transaction, where the log would
        /// tell of every page. Should one not ring, the looks in between find out.
        pub fn watching(path: &Path) -> Option<Self> {
            let writes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
            add_watch(&writes, turns::file(path), WatchFlags::MODIFY).ok()?;
            let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
            Some(Told { writes, end })
        }

        /// Waits until the system tells, or somebody wakes it, or for a while.
        pub fn wait(&self) {
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(LOOK.subsec_nanos()),
            };
            let mut polled = [
                PollFd::new(&self.writes, PollFlags::IN),
                PollFd::new(&self.end, PollFlags::IN),
            ];
            match poll(&mut polled, Some(&timeout)) {
                Ok(0) => {}
                Ok(_) => {
                    // What it tells does not matter, only that it does.
                    let mut told_of = [0_u8; 4096];
                    while matches!(rustix::io::read(&self.writes, &mut told_of), Ok(read) if read > 0)
                    {
                    }
                }
                Err(_) => std::thread::sleep(LOOK),
            }
        }

        /// Wakes who waits, now and from now on.
        pub fn wake(&self) {
            // It fails only where it counted to its end, and then it wakes all the same.
            let _ = rustix::io::write(&self.end, &1_u64.to_ne_bytes());
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::path::Path;

    /// Nothing tells here.
    pub(super) enum Told {}

    impl Told {
        pub fn watching(_: &Path) -> Option<Self> {
            None
        }

        pub fn wait(&self) {
            match *self {}
        }

        pub fn wake(&self) {
            match *self {}
        }
    }
}
