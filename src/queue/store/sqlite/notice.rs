//! Noticing that somebody wrote, this process or another.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use tokio::sync::watch;

use super::super::Result;
use super::connect;
use crate::queue::error::QueueError;

/// How often to look where the system does not tell. Where it tells, this is what is behind it.
const LOOK: Duration = Duration::from_millis(if cfg!(target_os = "linux") { 100 } else { 5 });

/// Looks whether the file changed, and bumps `changed` if so.
pub(crate) struct Notice {
    stop: Arc<AtomicBool>,
}

impl Notice {
    pub fn start(path: &Path, changed: watch::Sender<u64>) -> Result<Self> {
        let connection = connect(path, false)?;
        let told = watched(path);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name("skillhost-notice".to_owned())
            .spawn(move || {
                let mut last = version(&connection);
                while !stopped.load(Ordering::Relaxed) {
                    wait(told.as_ref());
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
        Ok(Notice { stop })
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        // It ends at its next look, has nothing to lose, and nobody waits for it.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A number that changes when another connection has written. 0 where it cannot be read; the next
/// look tells.
fn version(connection: &Connection) -> i64 {
    connection
        .prepare_cached("PRAGMA data_version")
        .and_then(|mut pragma| pragma.query_row([], |row| row.get(0)))
        .unwrap_or(0)
}

/// Asks the system to tell of writes to the log. It may not be there yet, or be made anew: then the
/// looks in between find out.
#[cfg(target_os = "linux")]
fn watched(path: &Path) -> Option<OwnedFd> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let told = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    add_watch(&told, Path::new(&log), WatchFlags::MODIFY).ok()?;
    Some(told)
}

#[cfg(not(target_os = "linux"))]
fn watched(_: &Path) -> Option<OwnedFd> {
    None
}

/// Waits until the system tells, or for a while.
fn wait(told: Option<&OwnedFd>) {
    let Some(told) = told else {
        std::thread::sleep(LOOK);
        return;
    };
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(LOOK.subsec_nanos()),
    };
    let mut polled = [PollFd::new(told, PollFlags::IN)];
    match poll(&mut polled, Some(&timeout)) {
        Ok(0) => {}
        Ok(_) => {
            // What it tells does not matter, only that it does.
            let mut told_of = [0_u8; 4096];
            while matches!(rustix::io::read(told, &mut told_of), Ok(read) if read > 0) {}
        }
        Err(_) => std::thread::sleep(LOOK),
    }
}
