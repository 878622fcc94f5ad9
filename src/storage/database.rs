//! The file, and who may use it at a time.
//!
//! One connection writes, in [turns](super::turns); readers have connections of their own (write-ahead log), and wait
//! for no writer. Other processes may use the file at the same time: whoever finds it busy waits as long as its
//! execution has time. What was acknowledged survives the end of the process, however that comes;
//! `synchronous=NORMAL` is not waited for at each change, so the last of them may be lost in a power cut, which
//! leaves the file whole.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rusqlite_migration::{M, Migrations};

use super::turns::{Turn, Turns};
use super::{Owner, StorageError};
use crate::exhaustion::is_exhausted;
use crate::private::make_folder;
use crate::turns::Party;

/// How the file is made, and made newer.
const STEPS: &[&str] = &[include_str!("1.sql")];
/// Readers that are kept open.
const READERS: usize = 4;
/// How long to wait for others where the file is opened.
const OPENING: Duration = Duration::from_secs(30);

/// What skills keep.
#[derive(Debug)]
pub(crate) struct Storage {
    path: PathBuf,
    /// Whether the file is known to be there, as it has to be. Held only while it is made.
    made: Mutex<bool>,
    turns: Arc<Turns>,
    writer: Mutex<Option<Connection>>,
    readers: Mutex<Vec<Connection>>,
}

type Result<T> = std::result::Result<T, StorageError>;

impl Storage {
    /// In this file, which is made when something is kept for the first time.
    pub fn new(path: PathBuf) -> Self {
        Storage {
            path,
            made: Mutex::default(),
            turns: Arc::default(),
            writer: Mutex::default(),
            readers: Mutex::default(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file, and whoever closes it last puts into it what stands beside it. Connections that are in use are
    /// left to whoever uses them, and stay open. The next call opens it again, and makes it where it is gone by then.
    pub fn close(&self) {
        self.close_idle();
        // Whoever holds it is making the file.
        if let Some(mut made) = lock_free(&self.made) {
            *made = false;
        }
    }

    fn close_idle(&self) {
        if let Some(mut writer) = lock_free(&self.writer) {
            *writer = None;
        }
        lock(&self.readers).clear();
    }

    /// Waits, without a thread, until it is this party's turn to change something: to be held until that is done. May
    /// be dropped at any point.
    pub async fn turn(&self, party: &Party) -> Turn {
        self.turns.turn(party).await
    }

    /// Changes something, as a whole or not at all. Whoever has its [`turn`](Storage::turn) waits for nobody of this
    /// process here.
    pub(super) fn write<T>(
        &self,
        owner: &Owner,
        work: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut writer = lock(&self.writer);
        let left = time_left(owner)?;
        let connection = match &mut *writer {
            Some(connection) => connection,
            none => {
                let connection = self.open()?;
                *lock(&self.made) = true;
                none.insert(connection)
            }
        };
        let done = (|| -> Result<T> {
            connection.busy_timeout(left)?;
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })();
        if matches!(done, Err(StorageError::Broken | StorageError::Unusable(_))) {
            // Perhaps the next one is better off with another connection.
            *writer = None;
            *lock(&self.made) = false;
        }
        done
    }

    /// Looks at something, as it is at one moment.
    pub(super) fn read<T>(
        &self,
        owner: &Owner,
        work: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let left = time_left(owner)?;
        let kept = lock(&self.readers).pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.reader()?,
        };
        let done = (|| -> Result<T> {
            connection.busy_timeout(left)?;
            let transaction = connection.transaction()?;
            work(&transaction)
        })();
        if !matches!(done, Err(StorageError::Broken | StorageError::Unusable(_))) {
            let mut readers = lock(&self.readers);
            if readers.len() < READERS {
                readers.push(connection);
            }
        }
        done
    }

    /// Another connection. Whoever opens the file first makes it; whoever writes then is not waited for.
    fn reader(&self) -> Result<Connection> {
        let mut made = lock(&self.made);
        if *made && self.path.exists() {
            drop(made);
            return self.connect();
        }
        if *made {
            // Nothing more is kept in the one that was moved or removed.
            self.close_idle();
        }
        let connection = self.open()?;
        *made = true;
        Ok(connection)
    }

    /// Opens the file for writing, and brings it up to date.
    fn open(&self) -> Result<Connection> {
        let made = || -> std::io::Result<File> {
            use std::os::unix::fs::OpenOptionsExt as _;
            if let Some(folder) = self.path.parent().filter(|it| !it.as_os_str().is_empty()) {
                make_folder(folder)?;
            }
            // For this user alone; the files beside it get the same mode.
            let made = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&self.path);
            if let Err(error) = made
                && error.kind() != std::io::ErrorKind::AlreadyExists
            {
                return Err(error);
            }
            // One process at a time: the change to a write-ahead log waits for nobody. Not the file
            // itself, as closing it would give up what SQLite has locked of it.
            let turn = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.path.with_extension("lock"))?;
            turn.lock()?;
            Ok(turn)
        };
        let _turn = made().map_err(|error| {
            let why = (!is_exhausted(&error)).then(|| error.to_string());
            self.not_opened(&error, why)
        })?;
        let mut connection = self.connect()?;
        migrate(&mut connection).map_err(|error| {
            let why = match &error {
                rusqlite_migration::Error::RusqliteError { err, .. } => self.why(err),
                other => Some(other.to_string()),
            };
            self.not_opened(&error, why)
        })?;
        Ok(connection)
    }

    fn connect(&self) -> Result<Connection> {
        let connect = || -> rusqlite::Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(OPENING)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
            Ok(connection)
        };
        connect().map_err(|error| self.not_opened(&error, self.why(&error)))
    }

    /// What is wrong with the file itself, where it is that, and not what the machine has no more of for now.
    fn why(&self, error: &rusqlite::Error) -> Option<String> {
        match error.sqlite_error_code() {
            // What the system says of it is not in the error.
            Some(ErrorCode::CannotOpen) => {
                let mut options = std::fs::OpenOptions::new();
                let opened = options.read(true).write(true).open(&self.path);
                let error = opened.err().filter(|error| {
                    // It may not have been made for the same reason.
                    !is_exhausted(error) && error.kind() != std::io::ErrorKind::NotFound
                })?;
                Some(error.to_string())
            }
            Some(code) => is_of_the_file(code).then(|| error.to_string()),
            None => None,
        }
    }

    fn not_opened(&self, error: &dyn std::error::Error, why: Option<String>) -> StorageError {
        tracing::error!("the storage of skills, `{}`: {error}", self.path.display());
        why.map_or(StorageError::Broken, StorageError::Unusable)
    }
}

/// Whether it is the file that is wrong, whoever asks for whatever.
fn is_of_the_file(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotADatabase
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
    )
}

fn migrate(connection: &mut Connection) -> rusqlite_migration::Result<()> {
    let steps = STEPS.iter().map(|step| M::up(step)).collect();
    Migrations::new(steps).to_latest(connection)
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    // A transaction that a panic left open was rolled back when it was dropped.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], where nobody holds it.
fn lock_free<T>(held: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match held.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Nothing is begun any more for an execution that has ended.
pub(super) fn time_left(owner: &Owner) -> Result<Duration> {
    match owner.deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(StorageError::TimeIsUp),
        left => Ok(left),
    }
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // Waited for as long as there was time.
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StorageError::TimeIsUp,
            code => {
                tracing::error!("the storage of skills: {error}");
                match code.is_some_and(is_of_the_file) {
                    true => StorageError::Unusable(error.to_string()),
                    false => StorageError::Broken,
                }
            }
        }
    }
}
