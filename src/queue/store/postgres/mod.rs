//! The queue in PostgreSQL, 13 or newer: any number of processes on any number of machines.
//!
//! Each process writes on two connections, in transactions that each take in all that is waiting to
//! be written (group commit). Submissions and settlements of all processes run side by side: what
//! everybody would have to write (counters, places in line, the numbers of events) they put aside in
//! `inbox`. Claims and control run one at a time, under a lock, and take that in first.
//!
//! Whoever asked to commit and was not answered is asked for by the number of its transaction: what
//! is told as done is done, and what was done is not done twice.

mod answers;
mod approvals;
mod clock;
mod committer;
mod connect;
mod directory;
mod failure;
mod inbox;
mod keeping;
mod keys;
mod lines;
mod list;
mod notes;
mod notice;
mod pieces;
mod read;
mod rows;
mod schema;
mod transaction;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_postgres::Transaction;

use super::{Answer, LaneKey, Reads, Result, Store};
use crate::queue::engine::submit::{Prepared, Submitted, submit};
use crate::queue::error::QueueError;
use crate::queue::operation::Operation;
use crate::queue::time::{Clock, micros};

use clock::ServerClock;
use committer::{Committer, Shop};
use connect::{Connector, Purpose, Target};
use directory::Directory;
use failure::describe;
use notice::{Herald, Notice};
use read::{Pool, Reader};
use transaction::{Statements, Writing};

/// What fills and empties.
const TABLES: &[&str] = &[
    "jobs",
    "bodies",
    "results",
    "progress",
    "admissions",
    "attempts",
    "keys",
    "tags",
    "ready",
    "later",
    "inbox",
    "counters",
    "events",
    "numbers",
    "scopes",
    "shares",
    "lanes",
    "workers",
    "approvals",
    "callbacks",
];

/// A queue in a database.
pub(crate) struct PostgresStore {
    serial: Committer,
    concurrent: Committer,
    reader: Reader,
    shop: Arc<Shop>,
    _notice: Notice,
}

impl PostgresStore {
    /// Connects to a database, and brings its tables up to date. `changed` is bumped whenever it was
    /// written, by whomever. Without a clock, the server's is used: all workers agree about it.
    ///
    /// # Errors
    /// `Unavailable` where it cannot be reached, or the URL makes no sense; `TooNew`.
    pub async fn connect(
        url: &str,
        clock: Option<Arc<dyn Clock>>,
        changed: &watch::Sender<u64>,
    ) -> Result<Self> {
        let connector = Connector::new(Target::parse(url)?).await?;
        let unreachable = |error: tokio_postgres::Error| {
            QueueError::Unavailable(format!("{}: {}", connector.target.name(), describe(&error)))
        };
        let mut first = connector
            .connect(Purpose::Write)
            .await
            .map_err(unreachable)?;
        schema::migrate(&mut first.0, &connector).await?;
        let (clock, server): (Arc<dyn Clock>, _) = match clock {
            Some(clock) => (clock, None),
            None => {
                let server = ServerClock::ask(&first.0).await.map_err(unreachable)?;
                (Arc::new(server.clone()), Some(server))
            }
        };
        let second = connector
            .connect(Purpose::Write)
            .await
            .map_err(unreachable)?;
        let pool = Pool::new(connector.clone())?;
        let herald = Herald::default();
        let shop = Arc::new(Shop {
            connector: connector.clone(),
            directory: Directory::new(pool.clone()),
            clock,
            changed: changed.clone(),
            herald: herald.clone(),
        });
        let serial = Committer::serial(shop.clone(), first);
        let concurrent = Committer::concurrent(shop.clone(), second, &serial);
        let notice = Notice::start(connector, herald, server, changed.clone());
        Ok(PostgresStore {
            reader: Reader {
                pool,
                serial: serial.clone(),
            },
            serial,
            concurrent,
            shop,
            _notice: notice,
        })
    }

    /// The clock by which this store's times are told.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.shop.clock.clone()
    }

    /// Submits jobs within a transaction of the caller's own: they are there once it is committed.
    /// Nothing that others need is held until then, keys that are new aside.
    ///
    /// Call [`wake`](PostgresStore::wake) after it is committed; else workers notice within a second.
    ///
    /// # Errors
    /// The caller's transaction cannot go on then.
    pub async fn submit_in(
        &self,
        transaction: &Transaction<'_>,
        jobs: &[&Prepared],
    ) -> Result<Vec<Submitted>> {
        let keys: Vec<LaneKey> = jobs.iter().map(|job| job.lane.clone()).collect();
        self.shop.directory.lanes(&keys).await?;
        let found = transaction
            .query_one(
                "SELECT current_setting('search_path'), set_config('search_path', $1, true)",
                &[&format!("\"{}\"", self.shop.connector.target.schema)],
            )
            .await?;
        let before: String = found.try_get(0)?;
        let statements = Statements::default();
        let mut rows = Writing::within(
            transaction.client(),
            &statements,
            &self.shop.directory,
            false,
            String::new(),
        );
        let submitted = submit(&mut rows, jobs, micros(self.shop.clock.now())).await?;
        rows.settle().await?;
        transaction
            .query_one("SELECT set_config('search_path', $1, true)", &[&before])
            .await?;
        Ok(submitted)
    }

    /// Has workers look, here and elsewhere.
    pub fn wake(&self) {
        let changed = &self.shop.changed;
        changed.send_modify(|generation| *generation = generation.wrapping_add(1));
        self.shop.herald.tell();
    }
}

impl Store for PostgresStore {
    fn send(&self, operation: Operation) {
        if operation.is_serial() {
            self.serial.send(operation);
        } else {
            self.concurrent.send(operation);
        }
    }

    fn reads(&self) -> &dyn Reads {
        &self.reader
    }

    /// Makes the room of what was removed usable again; what is at the end of a table goes back to
    /// the file system. Nobody waits for it.
    fn vacuum(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let connected = self.shop.connector.connect(Purpose::Listen).await;
            let (client, _task) = connected.map_err(|error| {
                QueueError::Unavailable(format!(
                    "{}: {}",
                    self.shop.connector.target.name(),
                    describe(&error)
                ))
            })?;
            for table in TABLES {
                client
                    .batch_execute(&format!("VACUUM (ANALYZE) {table}"))
                    .await?;
            }
            Ok(())
        })
    }

    fn flush(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.shop.herald.flush().await;
            Ok(())
        })
    }

    fn postgres(&self) -> Option<&PostgresStore> {
        Some(self)
    }
}
