//! The queue in a SQLite file.
//!
//! One connection writes, on a thread of its own, in transactions that each take in all that is
//! waiting to be written (group commit); `synchronous=FULL`, so that what was acknowledged survives a
//! power cut. Readers have connections of their own (write-ahead log). Other processes may use the
//! file at the same time.

mod answers;
mod approvals;
mod keeping;
mod known;
mod lines;
mod list;
mod many;
mod notes;
mod notice;
mod read;
mod rows;
mod turns;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rusqlite_migration::{M, Migrations};

use tokio::sync::watch;

use super::{Answer, Lane, LaneKey, Reads, Result, Store};
use crate::private::make_folder;
use crate::queue::error::QueueError;
use crate::queue::operation::Operation;
use crate::queue::time::Clock;

use known::Known;
use notice::Notice;
use read::Reader;
use turns::Turns;
use writer::Writer;

/// How long another process may hold the file before we give up: `SQLITE_BUSY` reaches nobody while
/// others do their work.
const BUSY: Duration = Duration::from_secs(30);

/// SQLite's number for files whose free pages are given back when that is asked for, some at a time.
const INCREMENTAL: i64 = 2;

/// Bytes of a page in a file that is made. Each page is written by a call of its own: twice the usual
/// size makes them fewer, and costs a job that comes alone next to nothing.
const PAGE: i64 = 8_192;

/// How many bytes the log has before what stands in it is carried over into the file.
const LOG: i64 = 32 << 20;

/// The schema, step by step. What was released never changes.
const STEPS: &[&str] = &[
    include_str!("1.sql"),
    include_str!("2.sql"),
    include_str!("3.sql"),
    include_str!("4.sql"),
    include_str!("5.sql"),
];

/// A queue in a file.
pub(crate) struct SqliteStore {
    writer: Writer,
    reader: Reader,
    _notice: Notice,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens a file, making it if it is not there. `changed` is bumped whenever it was written.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, changed: &watch::Sender<u64>) -> Result<Self> {
        Ok(SqliteStore {
            writer: Writer::open(path, clock, changed.clone())?,
            reader: Reader::new(path),
            _notice: Notice::start(path, changed.clone())?,
            path: path.to_owned(),
        })
    }
}

impl Store for SqliteStore {
    fn send(&self, operation: Operation) {
        self.writer.send(operation);
    }

    fn reads(&self) -> &dyn Reads {
        &self.reader
    }

    fn settles_together(&self) -> bool {
        true
    }

    fn vacuum(&self) -> Answer<'_, ()> {
        let path = self.path.clone();
        Box::pin(async move {
            let vacuum = tokio::task::spawn_blocking(move || {
                let connection = connect(&path, true)?;
                let vacuum = || -> rusqlite::Result<()> {
                    let mode: i64 =
                        connection.pragma_query_value(None, "auto_vacuum", |read| read.get(0))?;
                    if mode != INCREMENTAL {
                        // The file of an earlier release: written anew once, while others wait.
                        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
                        connection.execute_batch("VACUUM")?;
                    }
                    // Nobody is in the way of this, nor it of anybody.
                    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
                };
                vacuum().map_err(|error| at(&path, error))
            });
            vacuum
                .await
                .map_err(|error| QueueError::Internal(format!("the vacuum failed: {error}")))?
        })
    }
}

/// One connection, with what it knows by heart.
pub(crate) struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// How long it waits for others, all in all.
    patience: Duration,
    turns: Turns,
    /// Lanes are never removed.
    lanes: HashMap<LaneKey, Lane>,
    lanes_by_id: HashMap<i64, Lane>,
    known: Known,
    /// SQLite's own count of what others wrote.
    others: i64,
}

/// The most lanes to know by heart; more are looked up.
const LANES: usize = 10_000;

impl Sqlite {
    /// Opens a file to write; makes it, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self> {
        Sqlite::open_within(path, BUSY)
    }

    /// Opens a file, and waits no longer than so for others who hold it, now or later.
    fn open_within(path: &Path, patience: Duration) -> Result<Self> {
        let until = Instant::now() + patience;
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            make_folder(parent).map_err(|error| {
                QueueError::Unavailable(format!("cannot make `{}`: {error}", parent.display()))
            })?;
        }
        if path.is_dir() {
            return Err(QueueError::Unavailable(format!(
                "`{}` is a folder, and no database file",
                path.display()
            )));
        }
        private(path)?;
        let turns = Turns::open(path)?;
        turns.alone(path, until)?;
        let mut connection = connect_within(path, true, left(until))?;
        migrate(&mut connection, path)?;
        turns.end();
        Ok(Sqlite {
            connection,
            path: path.to_owned(),
            patience,
            turns,
            lanes: HashMap::new(),
            lanes_by_id: HashMap::new(),
            known: Known::default(),
            others: 0,
        })
    }

    /// Begins a transaction that nobody else's can run beside.
    fn begin(&mut self) -> Result<()> {
        let until = Instant::now() + self.patience;
        self.turns.wait(until);
        // What was waited for the turn is not waited again.
        self.connection.busy_timeout(left(until))?;
        let begun = self.run("BEGIN IMMEDIATE");
        self.turns.end();
        begun?;
        let others = others(&self.connection)?;
        if self.others != others {
            self.others = others;
            self.known.clear();
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(self.run("COMMIT")?)
    }

    fn roll_back(&mut self) {
        // What was learnt may have been undone.
        self.lanes.clear();
        self.lanes_by_id.clear();
        self.known.clear();
        if !self.connection.is_autocommit()
            && let Err(error) = self.run("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }

    fn run(&self, statement: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute([])?;
        Ok(())
    }
}

/// A number that changes with what other connections commit, and with nothing that this one does.
fn others(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}

/// How long it is until then.
fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// Opens a connection.
pub(crate) fn connect(path: &Path, write: bool) -> Result<Connection> {
    connect_within(path, write, BUSY)
}

/// Opens a connection that waits no longer than so for others who hold the file.
fn connect_within(path: &Path, write: bool, busy: Duration) -> Result<Connection> {
    let flags = if write {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    };
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| at(path, error))?;
    let set = || -> rusqlite::Result<()> {
        connection.busy_timeout(busy)?;
        let pages: i64 = connection.pragma_query_value(None, "page_count", |read| read.get(0))?;
        if write && pages == 0 {
            // For a file that nothing is in yet; another would be written for nothing.
            connection.pragma_update(None, "page_size", PAGE)?;
            connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        }
        connection.set_prepared_statement_cache_capacity(128);
        // The same statement, the same plan: else statements are prepared anew as values change.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -65_536)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        if write {
            // A checkpoint writes each page once, however often it changed: rarer is cheaper.
            let page: i64 = connection.pragma_query_value(None, "page_size", |read| read.get(0))?;
            connection.pragma_update(None, "wal_autocheckpoint", LOG / page.max(1))?;
        } else {
            connection.pragma_update(None, "query_only", true)?;
        }
        Ok(())
    };
    set().map_err(|error| at(path, error))?;
    Ok(connection)
}

/// Makes the file readable for its owner alone: requests and results stand in it.
fn private(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(QueueError::Unavailable(format!(
            "cannot make `{}`: {error}",
            path.display()
        ))),
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let steps: Vec<M<'_>> = STEPS.iter().map(|step| M::up(step)).collect();
    let known = steps.len();
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| at(path, error))?;
    let known_version = i64::try_from(known).unwrap_or(i64::MAX);
    if found > known_version {
        return Err(QueueError::TooNew {
            database: path.display().to_string(),
            found,
            known: known_version,
        });
    }
    if found == known_version {
        return Ok(());
    }
    let migrated = Migrations::new(steps).to_latest(connection);
    migrated.map_err(|error| {
        QueueError::Unavailable(format!(
            "cannot bring `{}` up to date: {error}",
            path.display()
        ))
    })
}

/// A file of the same name with this at its end.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn at(path: &Path, error: rusqlite::Error) -> QueueError {
    named(path, error.into())
}

/// An error of the file, with its name where that is not in it.
fn named(path: &Path, error: QueueError) -> QueueError {
    let name = path.display().to_string();
    let with_name = |what: String| match what.contains(&name) {
        true => what,
        false => format!("`{name}`: {what}"),
    };
    match error {
        QueueError::Unavailable(what) => QueueError::Unavailable(with_name(what)),
        QueueError::Damaged(what) => QueueError::Damaged(with_name(what)),
        QueueError::NoDatabase(what) => QueueError::NoDatabase(with_name(what)),
        QueueError::Full(what) => QueueError::Full(with_name(what)),
        other => other,
    }
}

impl From<rusqlite::Error> for QueueError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => QueueError::Full(text),
            Some(ErrorCode::DatabaseCorrupt) => QueueError::Damaged(text),
            Some(ErrorCode::NotADatabase) => QueueError::NoDatabase(text),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                QueueError::Unavailable(format!(
                    "{text}: another process has held it for too long; `fuser` or `lsof` tells which"
                ))
            }
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory,
            ) => QueueError::Unavailable(text),
            _ => QueueError::Internal(format!("SQLite: {text}")),
        }
    }
}

#[cfg(test)]
mod tests;
