//! The thread that writes.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

use super::super::super::operation::{Group, Operation};
use super::super::{Answer, Result};
use super::{Sqlite, named};
use crate::queue::error::QueueError;
use crate::queue::time::{Clock, micros};

/// Takes operations, and does all that are waiting in one transaction.
pub(crate) struct Writer {
    operations: Option<mpsc::UnboundedSender<Operation>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Opens the file and begins to write. `changed` is bumped after every transaction.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, changed: watch::Sender<u64>) -> Result<Self> {
        let mut store = Sqlite::open(path)?;
        let (operations, mut waiting) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("skillhost-queue".to_owned())
            .spawn(move || {
                while let Some(first) = waiting.blocking_recv() {
                    let mut group = Group::new(first);
                    while !group.is_full()
                        && let Ok(next) = waiting.try_recv()
                    {
                        group.add(next);
                    }
                    let before = store.connection.total_changes();
                    write(&mut store, group, &*clock);
                    if store.connection.total_changes() != before {
                        store.turns.ring();
                        changed.send_modify(|generation| *generation = generation.wrapping_add(1));
                    }
                }
            })
            .map_err(|error| {
                QueueError::Unavailable(format!("cannot start a thread to write: {error}"))
            })?;
        Ok(Writer {
            operations: Some(operations),
            thread: Some(thread),
        })
    }

    /// Hands an operation over.
    pub fn send(&self, operation: Operation) {
        if let Some(operations) = &self.operations
            && let Err(refused) = operations.send(operation)
        {
            refused.0.fail(QueueError::Closed);
        }
    }
}

impl Drop for Writer {
    /// What was handed over is still done.
    fn drop(&mut self) {
        self.operations = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported where it happened, and every operation was answered.
            let _ = thread.join();
        }
    }
}

/// Does all or nothing, and tells everybody; where one of several spoils it for the others, each by
/// itself.
pub(super) fn write(store: &mut Sqlite, mut group: Group, clock: &dyn Clock) {
    let done = attempt(store, &mut group, clock);
    match done {
        Ok(()) => group.succeed(),
        Err(error) => {
            store.roll_back();
            if spoilt_by_one(&error) && group.len() > 1 {
                for operation in group.into_operations() {
                    write(store, Group::new(operation), clock);
                }
            } else {
                group.fail(named(&store.path, error));
            }
        }
    }
}

/// Whether one operation is at fault, rather than the file.
fn spoilt_by_one(error: &QueueError) -> bool {
    !matches!(
        error,
        QueueError::Full(_)
            | QueueError::Damaged(_)
            | QueueError::NoDatabase(_)
            | QueueError::Unavailable(_)
            | QueueError::Closed
    )
}

fn attempt(store: &mut Sqlite, group: &mut Group, clock: &dyn Clock) -> Result<()> {
    store.begin()?;
    now(group.run(store, micros(clock.now())))?;
    store.commit()
}

/// The answer of a store that answers at once.
fn now<T>(mut answer: Answer<'_, T>) -> Result<T> {
    match answer
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(answer) => answer,
        Poll::Pending => Err(QueueError::Internal(
            "a store that answers at once did not".to_owned(),
        )),
    }
}
