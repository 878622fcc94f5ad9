//! Who writes: a task with a connection of its own, that does all that is waiting in one transaction.
//!
//! Each process has two. One does what only one may do at a time, under a lock that all processes
//! share: claims and control; it takes in what others put aside. The other does what runs side by
//! side: submissions and settlements.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::super::Result;
use super::connect::{Connector, Purpose};
use super::directory::Directory;
use super::failure::{Remedy, describe};
use super::notice::Herald;
use super::transaction::{Statements, Wait, Writing};
use crate::queue::engine::absorb;
use crate::queue::error::QueueError;
use crate::queue::operation::{Group, Operation};
use crate::queue::time::{Clock, micros};

/// How long an operation waits for a server that cannot be reached, or for others to be out of its
/// way.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that a transaction may wait for an answer. Each of its statements does a bounded part
/// of what is asked of it, however much that is.
const ANSWER: Duration = Duration::from_secs(60);
/// How long to wait before the next try: this at first, then twice as long each time.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest to wait before the next try.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a transaction is tried that others are in the way of, before it makes room.
const TRIES: usize = 2;
/// How long it makes room.
const LATER: Duration = Duration::from_millis(100);
/// After so many transactions that put something aside, or this long after one, somebody who writes
/// sees to it that it is taken in, though nobody claims.
const ASIDE: usize = 64;
/// See [`ASIDE`].
const ASIDE_FOR: Duration = Duration::from_millis(500);

/// What a committer is asked for.
enum Request {
    Operation(Operation),
    /// One that others were in the way of: by itself, and until then.
    Again(Operation, Instant),
    /// Takes in what was put aside. `None` asks only where nobody else is at it.
    CatchUp(Option<oneshot::Sender<()>>),
}

/// Hands operations to the task.
#[derive(Clone)]
pub(super) struct Committer(mpsc::UnboundedSender<Request>);

/// What both have in common.
pub(super) struct Shop {
    pub connector: Connector,
    pub directory: Directory,
    pub clock: Arc<dyn Clock>,
    pub changed: watch::Sender<u64>,
    pub herald: Herald,
}

impl Committer {
    /// Starts the one for what only one may do at a time.
    pub fn serial(shop: Arc<Shop>, client: (Client, JoinHandle<()>)) -> Self {
        Committer::start(shop, client, None)
    }

    /// Starts the one for what runs side by side.
    pub fn concurrent(
        shop: Arc<Shop>,
        client: (Client, JoinHandle<()>),
        serial: &Committer,
    ) -> Self {
        Committer::start(shop, client, Some(serial.clone()))
    }

    fn start(
        shop: Arc<Shop>,
        (client, task): (Client, JoinHandle<()>),
        serial: Option<Committer>,
    ) -> Self {
        let (send, receive) = mpsc::unbounded_channel();
        let worker = Task {
            lock: shop.connector.target.lock("serial"),
            shop,
            session: Some(Session {
                client,
                statements: Arc::default(),
                _task: Aborted(task),
            }),
            floor: "0".to_owned(),
            serial,
            aside: 0,
            again: send.downgrade(),
        };
        drop(tokio::spawn(worker.run(receive)));
        Committer(send)
    }

    pub fn send(&self, operation: Operation) {
        if let Err(refused) = self.0.send(Request::Operation(operation))
            && let Request::Operation(operation) = refused.0
        {
            operation.fail(QueueError::Closed);
        }
    }

    /// Has what was put aside taken in; whether it was.
    pub async fn catch_up(&self) -> bool {
        let (done, waits) = oneshot::channel();
        self.0.send(Request::CatchUp(Some(done))).is_ok() && waits.await.is_ok()
    }
}

/// Ends a task with it.
struct Aborted(JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Session {
    client: Client,
    statements: Arc<Statements>,
    _task: Aborted,
}

/// How an attempt at a transaction ended.
enum Ended {
    /// Whether anything was written.
    Committed(bool),
    /// It only took in what was put aside, a part of it: there is more.
    TakenIn,
    /// Nothing was done.
    Undone(QueueError, Remedy),
    /// It was asked to commit, and did not answer: the number of the transaction.
    Unknown(String),
}

struct Task {
    shop: Arc<Shop>,
    lock: i64,
    session: Option<Session>,
    /// The number of a transaction before which nothing is left in the inbox.
    floor: String,
    /// Who takes in what this one puts aside; `None` for itself.
    serial: Option<Committer>,
    /// Transactions since somebody was asked to.
    aside: usize,
    /// Where to put what is to be done later.
    again: mpsc::WeakUnboundedSender<Request>,
}

impl Task {
    async fn run(mut self, mut waiting: mpsc::UnboundedReceiver<Request>) {
        let mut held: Option<Request> = None;
        let mut since: Option<Instant> = None;
        loop {
            let first = match held.take() {
                Some(held) => held,
                None => {
                    let next = match since {
                        Some(at) => tokio::time::timeout_at(at, waiting.recv()).await,
                        None => Ok(waiting.recv().await),
                    };
                    match next {
                        Ok(Some(next)) => next,
                        Ok(None) => break,
                        Err(_) => {
                            since = None;
                            self.ask_to_catch_up();
                            continue;
                        }
                    }
                }
            };
            let mut catching: Vec<Option<oneshot::Sender<()>>> = Vec::new();
            let mut group: Option<Group> = None;
            let mut keys = Keys::default();
            let mut next = Some(first);
            let mut again = None;
            while let Some(request) = next.take() {
                match request {
                    Request::CatchUp(done) => catching.push(done),
                    Request::Again(operation, until) => {
                        if group.is_none() {
                            again = Some(until);
                            group = Some(Group::new(operation));
                        } else {
                            held = Some(Request::Again(operation, until));
                        }
                        break;
                    }
                    Request::Operation(operation) => {
                        if !keys.admit(&operation) {
                            held = Some(Request::Operation(operation));
                            break;
                        }
                        match &mut group {
                            Some(group) => group.add(operation),
                            None => group = Some(Group::new(operation)),
                        }
                    }
                }
                if group.as_ref().is_some_and(Group::is_full) {
                    break;
                }
                next = waiting.try_recv().ok();
            }
            match group {
                Some(group) => {
                    self.write(group, again).await;
                    self.aside += 1;
                }
                None => {
                    let waited_for = catching.iter().any(Option::is_some);
                    self.absorb(if waited_for { Wait::Long } else { Wait::Short })
                        .await;
                }
            }
            // Whoever asked may have gone.
            for done in catching.into_iter().flatten() {
                let _ = done.send(());
            }
            if self.serial.is_some() {
                if self.aside >= ASIDE {
                    since = None;
                    self.ask_to_catch_up();
                } else if self.aside > 0 {
                    since.get_or_insert_with(|| Instant::now() + ASIDE_FOR);
                }
            }
        }
    }

    fn ask_to_catch_up(&mut self) {
        self.aside = 0;
        if let Some(serial) = &self.serial {
            // If it is gone, so is the store.
            let _ = serial.0.send(Request::CatchUp(None));
        }
    }

    /// Does all or nothing, and tells everybody; where one of several spoils it for the others, each
    /// by itself. `again` is until when one is tried that others were in the way of before.
    async fn write(&mut self, mut group: Group, again: Option<Instant>) {
        let until = again.unwrap_or_else(|| Instant::now() + PATIENCE);
        let wait = if again.is_some() && self.serial.is_some() {
            Wait::Short
        } else {
            Wait::Long
        };
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, remedy) = match self.attempt(Some(&mut group), wait).await {
                Ended::Committed(wrote) => {
                    // First: whoever is answered may ask whether others were told.
                    if wrote {
                        self.tell();
                    }
                    group.succeed();
                    return;
                }
                Ended::TakenIn => {
                    tries -= 1;
                    self.tell();
                    continue;
                }
                Ended::Unknown(transaction) => match self.was_committed(&transaction).await {
                    Ok(true) => {
                        self.tell();
                        group.succeed();
                        return;
                    }
                    Ok(false) => (
                        QueueError::Unavailable("the connection was lost".to_owned()),
                        Remedy::Reconnect,
                    ),
                    Err(error) => {
                        group.fail(error);
                        return;
                    }
                },
                Ended::Undone(error, remedy) => (error, remedy),
            };
            let alone = group.len() == 1;
            match remedy {
                Remedy::None if alone => return group.fail(error),
                Remedy::Again | Remedy::Reconnect if Instant::now() >= until => {
                    return group.fail(error);
                }
                Remedy::None => return self.write_each(group).await,
                Remedy::Again if tries >= TRIES && !alone => return self.write_each(group).await,
                // It holds up nobody but itself.
                Remedy::Again if tries >= TRIES || again.is_some() => {
                    return self.write_later(group, until);
                }
                Remedy::Again | Remedy::Reconnect => {}
            }
            tracing::debug!(%error, "a transaction of the queue is tried again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn write_each(&mut self, group: Group) {
        for operation in group.into_operations() {
            Box::pin(self.write(Group::new(operation), None)).await;
        }
    }

    /// Puts an operation behind those that wait.
    fn write_later(&self, group: Group, until: Instant) {
        let again = self.again.clone();
        drop(tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            for operation in group.into_operations() {
                match again.upgrade() {
                    Some(again) => {
                        if let Err(mpsc::error::SendError(Request::Again(operation, _))) =
                            again.send(Request::Again(operation, until))
                        {
                            operation.fail(QueueError::Closed);
                        }
                    }
                    None => operation.fail(QueueError::Closed),
                }
            }
        }));
    }

    /// Takes in what was put aside. Where nobody waits for it, only if nobody else is at it.
    async fn absorb(&mut self, wait: Wait) {
        let mut until = Instant::now() + PATIENCE;
        let mut pause = PAUSE;
        while Instant::now() < until {
            match self.attempt(None, wait).await {
                Ended::Committed(true) => return self.tell(),
                Ended::Committed(false) => return,
                Ended::TakenIn => {
                    self.tell();
                    until = Instant::now() + PATIENCE;
                    continue;
                }
                // It is there or it is not: whoever reads looks again.
                Ended::Unknown(_) | Ended::Undone(_, Remedy::None) => return,
                Ended::Undone(error, _) => {
                    tracing::debug!(%error, "what was put aside is still there");
                    if wait == Wait::Short {
                        return;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Lets everybody know that something changed.
    fn tell(&self) {
        let changed = &self.shop.changed;
        changed.send_modify(|generation| *generation = generation.wrapping_add(1));
        self.shop.herald.tell();
    }

    async fn attempt(&mut self, group: Option<&mut Group>, wait: Wait) -> Ended {
        let mut session = match self.session.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => match self.connect().await {
                Ok(session) => session,
                Err(error) => return Ended::Undone(error, Remedy::Reconnect),
            },
        };
        let mut committing = None;
        let statements = session.statements.clone();
        let attempted = self.transact(&mut session, group, wait, &mut committing);
        let ended = match answering(attempted, &statements).await {
            Some(ended) => ended,
            None => match committing {
                Some(transaction) => Ended::Unknown(transaction),
                None => Ended::Undone(
                    QueueError::Unavailable("the server does not answer".to_owned()),
                    Remedy::Reconnect,
                ),
            },
        };
        match &ended {
            Ended::Committed(_) | Ended::TakenIn => self.session = Some(session),
            Ended::Undone(_, Remedy::Again | Remedy::None) => {
                if session.client.batch_execute("ROLLBACK").await.is_ok() {
                    self.session = Some(session);
                }
            }
            // Closed as it is dropped, and what it held with it.
            Ended::Undone(_, Remedy::Reconnect) | Ended::Unknown(_) => {}
        }
        ended
    }

    /// One transaction. `committing` is set before it is asked to commit.
    async fn transact(
        &mut self,
        session: &mut Session,
        group: Option<&mut Group>,
        wait: Wait,
        committing: &mut Option<String>,
    ) -> Ended {
        let serial = self.serial.is_none();
        let (client, statements) = (&session.client, &session.statements);
        let directory = self.shop.directory.clone();
        let floor = self.floor.clone();
        let mut rows = Writing::within(client, statements, &directory, serial, floor);
        let done = async {
            rows.begin(serial.then_some(self.lock), wait).await?;
            // With the lock held: the moments of serial transactions are in their order.
            let now = micros(self.shop.clock.now());
            if serial {
                rows.look_into_inbox().await?;
                if let Some(shared) = rows.taken() {
                    absorb(&mut rows, shared, now).await?;
                }
            }
            // What is asked comes behind all of it, in a transaction of its own: so none of them is
            // long, and others have their turn in between.
            let more = rows.more;
            if !more && let Some(group) = group {
                group.run(&mut rows, now).await?;
            }
            rows.finish().await.map(|transaction| (transaction, more))
        };
        let (transaction, more) = match done.await {
            Ok(done) => done,
            Err(error) => {
                let remedy = rows.remedy.unwrap_or(match error {
                    // Of another connection, that looks for lanes.
                    QueueError::Unavailable(_) => Remedy::Again,
                    _ => Remedy::None,
                });
                return Ended::Undone(error, remedy);
            }
        };
        let floor = rows.floor.clone();
        drop(rows);
        // Of what was only taken in nobody has to know whether it was: the next looks again.
        let transaction = transaction.filter(|_| !more);
        *committing = transaction.clone();
        match session.client.batch_execute("COMMIT").await {
            Ok(()) => {
                self.floor = floor;
                match more {
                    true => Ended::TakenIn,
                    false => Ended::Committed(transaction.is_some()),
                }
            }
            Err(error) => match transaction {
                // It makes no difference.
                None => Ended::Undone(error.into(), Remedy::Reconnect),
                // The end of a connection may come after the commit; any other word of the server
                // is that it was rolled back.
                Some(transaction) => match super::failure::remedy(&error) {
                    Remedy::Reconnect => Ended::Unknown(transaction),
                    remedy => Ended::Undone(error.into(), remedy),
                },
            },
        }
    }

    async fn connect(&self) -> Result<Session> {
        let connected = self.shop.connector.connect(Purpose::Write).await;
        let (client, task) = connected.map_err(|error| {
            QueueError::Unavailable(format!(
                "{}: {}",
                self.shop.connector.target.name(),
                describe(&error)
            ))
        })?;
        Ok(Session {
            client,
            statements: Arc::default(),
            _task: Aborted(task),
        })
    }

    /// Asks the server whether a transaction that did not answer was committed.
    ///
    /// # Errors
    /// Where nobody can tell.
    async fn was_committed(&mut self, transaction: &str) -> Result<bool> {
        let until = Instant::now() + PATIENCE * 2;
        let mut pause = PAUSE;
        while Instant::now() < until {
            let asked = match self.connect().await {
                Ok(session) => {
                    let asked = session
                        .client
                        .query_one("SELECT pg_xact_status($1::text::xid8)", &[&transaction])
                        .await
                        .and_then(|row| row.try_get::<_, Option<String>>(0));
                    self.session = Some(session);
                    asked.ok()
                }
                Err(_) => None,
            };
            match asked.flatten().as_deref() {
                Some("committed") => return Ok(true),
                Some("aborted") => return Ok(false),
                // It has not noticed yet that nobody is there, or cannot be reached.
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(QueueError::Unavailable(format!(
            "the connection was lost while transaction {transaction} was committed, and nobody can \
             tell whether it was"
        )))
    }
}

/// Waits for a transaction as long as it gets answers.
async fn answering<T>(transaction: impl Future<Output = T>, statements: &Statements) -> Option<T> {
    let mut transaction = std::pin::pin!(transaction);
    let mut before = statements.answers();
    loop {
        match tokio::time::timeout(ANSWER, transaction.as_mut()).await {
            Ok(ended) => return Some(ended),
            Err(_) if statements.answers() == before => return None,
            Err(_) => before = statements.answers(),
        }
    }
}

/// Keys are taken in one order, and given back in one order: not both in one transaction, or two
/// processes could wait for each other.
#[derive(Default)]
struct Keys {
    takes: bool,
    gives: bool,
}

impl Keys {
    /// Whether an operation may join those before it.
    fn admit(&mut self, operation: &Operation) -> bool {
        let (takes, gives) = match operation {
            Operation::Submit(jobs, _) => (jobs.iter().any(|job| job.key.is_some()), false),
            Operation::Settle(..) => (false, true),
            _ => (false, false),
        };
        if (takes && self.gives) || (gives && self.takes) {
            return false;
        }
        self.takes |= takes;
        self.gives |= gives;
        true
    }
}
