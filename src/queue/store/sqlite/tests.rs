//! What the file is held to, and what is said where somebody else holds it.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;

use super::{Sqlite, turns};
use crate::queue::error::QueueError;
use crate::queue::store::reads::Reads as _;

/// How long a test waits for who holds something.
const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn what_is_acknowledged_is_on_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(&folder.path().join("queue.db")).expect("it opens");
    let read = |name| -> i64 {
        let read = store
            .connection
            .pragma_query_value(None, name, |row| row.get(0));
        read.expect("it can be read")
    };
    // 2 is FULL: with a write-ahead log, each commit is synced.
    assert_eq!(read("synchronous"), 2);
    let mode: String = store
        .connection
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .expect("it can be read");
    assert_eq!(mode, "wal");
}

#[test]
fn nobody_can_lock_the_file_who_may_not_write_the_database() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    let lock = turns::file(&path);
    let mode = |path: &std::path::Path| {
        let found = std::fs::metadata(path).expect("it is there");
        found.permissions().mode() & 0o777
    };
    let set = |path: &std::path::Path, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("it is ours");
    };
    drop(Sqlite::open(&path).expect("it opens"));
    assert_eq!(mode(&lock), 0o600);
    // As an earlier release left it.
    set(&lock, 0o644);
    drop(Sqlite::open(&path).expect("it opens"));
    assert_eq!(mode(&lock), 0o600);
    // A group that shares the database shares it.
    set(&path, 0o660);
    set(&lock, 0o664);
    drop(Sqlite::open(&path).expect("it opens"));
    assert_eq!(mode(&lock), 0o660);
}

#[test]
fn who_finds_the_lock_taken_does_not_wait_for_ever_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    drop(Sqlite::open(&path).expect("it opens"));
    let held = std::fs::File::open(turns::file(&path)).expect("it is there");
    held.lock().expect("nobody else has it");
    let error = Sqlite::open_within(&path, MOMENT)
        .err()
        .expect("it is held");
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("queue.db-lock"), "{text}");
    assert!(text.contains("another process"), "{text}");
    held.unlock().expect("it was locked");
    Sqlite::open_within(&path, MOMENT).expect("nobody holds it any more");
}

#[test]
fn who_finds_the_database_locked_is_told_which_and_waits_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    let patience = 10 * MOMENT;
    let mut store = Sqlite::open_within(&path, patience).expect("it opens");
    let holder = Connection::open(&path).expect("it opens");
    holder
        .execute_batch("BEGIN IMMEDIATE")
        .expect("nobody else writes");
    // Both: somebody sleeps in their turn, and SQLite's own lock is held.
    let turn = std::fs::File::open(turns::file(&path)).expect("it is there");
    turn.lock().expect("nobody else has it");
    let began = Instant::now();
    let (operation, answer) =
        crate::queue::operation::Operation::other(|rows, _| rows.forget_notes(0, 1));
    let group = crate::queue::operation::Group::new(operation);
    super::writer::write(&mut store, group, &crate::queue::time::SystemClock);
    let took = began.elapsed();
    let error = answer
        .blocking_recv()
        .expect("it answers")
        .expect_err("it is held");
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("queue.db`: database is locked"), "{text}");
    assert!(text.contains("another process"), "{text}");
    // One wait for both, and not one for each.
    assert!(took >= patience, "{took:?}");
    assert!(took < 2 * patience, "{took:?}");
    holder.execute_batch("ROLLBACK").expect("it was begun");
}

#[tokio::test]
async fn who_reads_a_damaged_database_is_told_which() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    let (changed, clock) = (watch::Sender::new(0), Arc::new(crate::queue::SystemClock));
    let store = super::SqliteStore::open(&path, clock, &changed).expect("it opens");
    // The log first, so that what is read is the file.
    let checkpoint = Connection::open(&path).expect("it opens");
    checkpoint
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("nobody reads");
    let bytes = std::fs::metadata(&path).expect("it is there").len();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("it is ours");
    let noise = vec![0xa5; usize::try_from(bytes).expect("it is small") - 8_192];
    file.write_all_at(&noise, 8_192).expect("it is ours");
    let error = store.reader.lanes().await.expect_err("it is damaged");
    assert!(matches!(error, QueueError::Damaged(_)), "{error:?}");
    assert!(error.to_string().contains("queue.db"), "{error}");
}
