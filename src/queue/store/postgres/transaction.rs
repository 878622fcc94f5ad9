//! One transaction on one connection.
//!
//! Statements that give nothing back are sent without waiting for their answers, so that a
//! transaction costs as many round trips as it has questions. All answers are in before it commits.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Error, Row as SqlRow, Statement};

use super::super::{Result, Shared};
use super::directory::Directory;
use super::failure::{Remedy, remedy};
use super::inbox::{read_changes, read_tally};
use super::rows::limit;
use crate::queue::error::QueueError;

/// The most rows of the inbox that are taken at a time. Each is a transaction of up to some thousand
/// jobs, or a piece of a larger one; hardly ever are there so many.
const INBOX: i64 = 256;
/// The most bytes of the inbox that are taken at a time, one row more aside: some ten thousand jobs.
const INBOX_BYTES: i64 = 1 << 20;

/// The statements that a connection has prepared.
#[derive(Default)]
pub(super) struct Statements {
    known: Mutex<HashMap<String, Statement>>,
    answers: AtomicU64,
}

impl Statements {
    async fn get(&self, client: &Client, sql: &str) -> std::result::Result<Statement, Error> {
        let known = self.lock().get(sql).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let made = client.prepare(sql).await?;
        self.lock().insert(sql.to_owned(), made.clone());
        Ok(made)
    }

    /// How many answers have come in: whether a transaction goes on.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Statement>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long others may be in the way before it is [`Remedy::Again`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Long,
    Short,
}

/// A value for a statement that is sent and left to itself.
pub(super) type Value = Box<dyn ToSql + Sync + Send>;

/// A statement that was sent.
struct Sent<'c> {
    answer: Pin<Box<dyn Future<Output = std::result::Result<u64, Error>> + Send + 'c>>,
    /// How many rows it must change.
    expected: Option<(u64, &'static str)>,
    done: Option<std::result::Result<u64, Error>>,
}

/// One transaction that writes.
pub(super) struct Writing<'c> {
    client: &'c Client,
    statements: &'c Statements,
    pub directory: &'c Directory,
    serial: bool,
    sent: Vec<Sent<'c>>,
    /// The lowest rank in line, by lane, where it is known.
    pub first: HashMap<i64, i64>,
    /// Whether something was written.
    pub wrote: bool,
    /// What was taken from the inbox, and nobody asked for yet.
    taken: Option<Shared>,
    /// Whether rows were locked since the inbox was looked into: then there may be more in it about
    /// them.
    locked: bool,
    /// Whether there is more in the inbox.
    pub more: bool,
    /// The number of a transaction before which nothing is left in the inbox. Holds once this one
    /// is committed.
    pub floor: String,
    /// What is to be done about the error that ended it, if one did.
    pub remedy: Option<Remedy>,
}

impl<'c> Writing<'c> {
    /// Within a transaction that was begun.
    pub fn within(
        client: &'c Client,
        statements: &'c Statements,
        directory: &'c Directory,
        serial: bool,
        floor: String,
    ) -> Self {
        Writing {
            client,
            statements,
            directory,
            serial,
            sent: Vec::new(),
            first: HashMap::new(),
            wrote: false,
            taken: None,
            locked: true,
            more: false,
            floor,
            remedy: None,
        }
    }

    pub fn serial(&self) -> bool {
        self.serial
    }

    /// Begins. A serial one (`lock`) has no other beside it.
    pub async fn begin(&mut self, lock: Option<i64>, wait: Wait) -> Result<()> {
        let sql = match (lock, wait) {
            // As long as a deadlock takes to be noticed.
            (None, Wait::Long) => "BEGIN; SET LOCAL lock_timeout TO '1s'".to_owned(),
            (None, Wait::Short) => "BEGIN; SET LOCAL lock_timeout TO '20ms'".to_owned(),
            (Some(lock), Wait::Long) => {
                format!(
                    "BEGIN; SET LOCAL lock_timeout TO '10s'; SELECT pg_advisory_xact_lock({lock}); \
                     SET LOCAL lock_timeout TO '3s'"
                )
            }
            (Some(lock), Wait::Short) => {
                let begun = self.client.batch_execute("BEGIN").await;
                self.check(begun)?;
                let got = self
                    .query("SELECT pg_try_advisory_xact_lock($1)", &[&lock])
                    .await?;
                let got = match got.first() {
                    Some(row) => self.get(row, 0)?,
                    None => false,
                };
                if !got {
                    self.remedy = Some(Remedy::Again);
                    return Err(QueueError::Unavailable("others are at it".to_owned()));
                }
                return Ok(());
            }
        };
        let begun = self.client.batch_execute(&sql).await;
        self.check(begun)
    }

    /// Waits for all answers; the number of the transaction, where something was written.
    pub async fn finish(&mut self) -> Result<Option<String>> {
        let asked = if self.wrote {
            let sql = "SELECT pg_current_xact_id_if_assigned()::text";
            let asked = async {
                let statement = self.statements.get(self.client, sql).await?;
                self.client.query_one(&statement, &[]).await?.try_get(0)
            };
            Some(asked.await)
        } else {
            None
        };
        // What went wrong first is what it is about.
        self.settle().await?;
        match asked {
            Some(number) => self.check(number),
            None => Ok(None),
        }
    }

    /// Rows were locked.
    pub fn lock_taken(&mut self) {
        self.locked = true;
    }

    /// Notes an error, and says it.
    pub fn failed(&mut self, error: Error) -> QueueError {
        self.remedy.get_or_insert(remedy(&error));
        error.into()
    }

    pub fn check<T>(&mut self, answer: std::result::Result<T, Error>) -> Result<T> {
        answer.map_err(|error| self.failed(error))
    }

    /// Asks, and waits for the answer.
    pub async fn query(&mut self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<SqlRow>> {
        let asked = async {
            let statement = self.statements.get(self.client, sql).await?;
            self.client.query(&statement, with).await
        };
        let answer = asked.await;
        self.statements.answered();
        self.check(answer)
    }

    /// Asks for one row, or none.
    pub async fn query_opt(
        &mut self,
        sql: &str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<SqlRow>> {
        Ok(self.query(sql, with).await?.into_iter().next())
    }

    /// A column of a row.
    pub fn get<'r, T: FromSql<'r>>(&mut self, row: &'r SqlRow, index: usize) -> Result<T> {
        let value = row.try_get(index);
        self.check(value)
    }

    /// Sends a statement. What becomes of it is known when the transaction ends.
    pub async fn send(&mut self, sql: &str, with: Vec<Value>) -> Result<()> {
        self.send_expecting(sql, with, None).await
    }

    /// Sends a statement that must change so many rows.
    pub async fn send_expecting(
        &mut self,
        sql: &str,
        with: Vec<Value>,
        expected: Option<(u64, &'static str)>,
    ) -> Result<()> {
        self.wrote = true;
        let prepared = self.statements.get(self.client, sql).await;
        let statement = self.check(prepared)?;
        let client = self.client;
        let mut answer: Sent<'c> = Sent {
            answer: Box::pin(async move { client.execute_raw(&statement, with).await }),
            expected,
            done: None,
        };
        // The first poll puts it on its way.
        std::future::poll_fn(|context| {
            if let Poll::Ready(done) = answer.answer.as_mut().poll(context) {
                answer.done = Some(done);
            }
            Poll::Ready(())
        })
        .await;
        self.sent.push(answer);
        Ok(())
    }

    /// Waits for the answers of all that was sent.
    pub async fn settle(&mut self) -> Result<()> {
        for sent in std::mem::take(&mut self.sent) {
            let done = match sent.done {
                Some(done) => done,
                None => sent.answer.await,
            };
            self.statements.answered();
            let changed = self.check(done)?;
            if let Some((expected, what)) = sent.expected
                && changed != expected
            {
                self.remedy.get_or_insert(Remedy::None);
                return Err(QueueError::Internal(format!(
                    "{what}: {changed} rows instead of {expected}"
                )));
            }
        }
        Ok(())
    }

    /// Takes what others put aside, at once and summed up: as much of it as one transaction does.
    pub async fn look_into_inbox(&mut self) -> Result<()> {
        self.locked = false;
        let floor = self.floor.clone();
        let rows = self
            .query(
                "WITH taken AS (DELETE FROM inbox WHERE (transaction, id) IN \
                 (SELECT transaction, id FROM (SELECT transaction, id, sum(bytes) OVER (\
                  ORDER BY transaction, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before \
                  FROM (SELECT transaction, id, octet_length(tally) + octet_length(changes) AS bytes \
                  FROM inbox WHERE transaction >= $1::text::xid8 ORDER BY transaction, id LIMIT $2) \
                  AS first) AS summed WHERE coalesce(before, 0) < $3) \
                 RETURNING transaction, id, tally, changes) \
                 SELECT pg_snapshot_xmin(pg_current_snapshot())::text, taken.tally, taken.changes \
                 FROM (SELECT 1) AS one LEFT JOIN taken ON true \
                 ORDER BY taken.transaction, taken.id",
                &[&floor, &INBOX, &INBOX_BYTES],
            )
            .await?;
        let mut shared = self.taken.take().unwrap_or_default();
        let (mut count, mut bytes) = (0, 0);
        for row in &rows {
            let tally: Option<&[u8]> = self.get(row, 1)?;
            let changes: Option<&[u8]> = self.get(row, 2)?;
            if let (Some(tally), Some(changes)) = (tally, changes) {
                shared.tally.extend(read_tally(tally)?);
                read_changes(changes, &mut shared)?;
                count += 1;
                bytes += limit(tally.len() + changes.len());
            }
        }
        self.more = count >= INBOX || bytes >= INBOX_BYTES;
        if count > 0 {
            self.wrote = true;
        }
        if !self.more
            && let Some(row) = rows.first()
        {
            self.floor = self.get(row, 0)?;
        }
        if !shared.is_empty() {
            self.taken = Some(shared);
        }
        Ok(())
    }

    /// What was taken from the inbox, and looks into it again where rows were locked since, or where
    /// there is more.
    pub async fn deferred(&mut self) -> Result<Option<Shared>> {
        let look = self.locked || (self.more && self.taken.is_none());
        if look && self.serial {
            self.look_into_inbox().await?;
        }
        Ok(self.taken.take())
    }

    /// What was taken from the inbox.
    pub fn taken(&mut self) -> Option<Shared> {
        self.taken.take()
    }
}
