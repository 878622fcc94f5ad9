//! Opening a queue.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::error::QueueError;
use super::handle::{Inner, Queue};
use super::store::Store;
#[cfg(feature = "postgres")]
use super::store::postgres::PostgresStore;
use super::store::sqlite::SqliteStore;
use super::time::{Clock, SystemClock};

type Result<T> = std::result::Result<T, QueueError>;

/// How to open a queue.
pub struct QueueBuilder {
    clock: Option<Arc<dyn Clock>>,
    max_job_bytes: usize,
    max_result_bytes: usize,
}

impl Default for QueueBuilder {
    fn default() -> Self {
        QueueBuilder {
            clock: None,
            max_job_bytes: 16 << 20,
            max_result_bytes: 64 << 20,
        }
    }
}

impl QueueBuilder {
    /// Tells the time. Unless set: the system's clock, and on PostgreSQL the server's, so that all
    /// workers agree about it.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The most bytes of a job as JSON, its input and attachments included; 16 MiB unless set.
    #[must_use]
    pub fn max_job_bytes(mut self, bytes: usize) -> Self {
        self.max_job_bytes = bytes;
        self
    }

    /// The most bytes of a result as JSON; 64 MiB unless set. A job whose result is larger is dead,
    /// of the cause `result_too_large`.
    #[must_use]
    pub fn max_result_bytes(mut self, bytes: usize) -> Self {
        self.max_result_bytes = bytes;
        self
    }

    /// Opens a queue in a SQLite file, making it where it is not there and bringing it up to date
    /// where an older release made it.
    ///
    /// # Errors
    /// Where the file cannot be used, or a newer release made it.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Queue> {
        crate::file_size::have_writes_fail();
        let changed = watch::Sender::new(0);
        let clock = self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock));
        let store = SqliteStore::open(path.as_ref(), clock.clone(), &changed)?;
        Ok(self.with(Box::new(store), clock, changed))
    }

    /// Connects to a queue in a PostgreSQL database, 13 or newer, by a `postgres://` URL; makes its
    /// tables where they are not there, in a schema of their own, and brings them up to date where
    /// an older release made them.
    ///
    /// # Errors
    /// Where the database cannot be used, or a newer release made its tables.
    #[cfg(feature = "postgres")]
    pub async fn connect(self, url: &str) -> Result<Queue> {
        let changed = watch::Sender::new(0);
        let store = PostgresStore::connect(url, self.clock.clone(), &changed).await?;
        let clock = store.clock();
        Ok(self.with(Box::new(store), clock, changed))
    }

    /// Opens a queue in a PostgreSQL database where this is a `postgres://` or `postgresql://` URL,
    /// else in the SQLite file of this path.
    ///
    /// # Errors
    /// As [`QueueBuilder::open`]; where the library was built without PostgreSQL and this is its URL.
    pub async fn at(self, database: &str) -> Result<Queue> {
        if !(database.starts_with("postgres://") || database.starts_with("postgresql://")) {
            return self.open(database);
        }
        #[cfg(feature = "postgres")]
        return self.connect(database).await;
        #[cfg(not(feature = "postgres"))]
        Err(QueueError::Unavailable(
            "this was built without PostgreSQL; build it with the feature `postgres`".to_owned(),
        ))
    }

    fn with(
        self,
        store: Box<dyn Store>,
        clock: Arc<dyn Clock>,
        changed: watch::Sender<u64>,
    ) -> Queue {
        Queue {
            inner: Arc::new(Inner {
                store,
                clock,
                changed,
                max_result_bytes: self.max_result_bytes,
                max_job_bytes: self.max_job_bytes,
                policies: Mutex::default(),
            }),
            by: None,
        }
    }
}
