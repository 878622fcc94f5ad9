//! Telling other processes that something was written, and noticing that they did.
//!
//! One connection for both, beside those that write: a notification within a transaction would make
//! all transactions that have one commit one after the other.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::{AsyncMessage, Error};

use super::clock::ServerClock;
use super::connect::{Connector, Purpose};
use super::failure::describe;

/// How far apart notifications of one process are, at least.
const APART: Duration = Duration::from_millis(2);
/// How often those who wait look without having been told.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait before another connection is tried.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the server is asked for the time: machines do not count it at quite the same pace, nor
/// while they sleep.
const CLOCK: Duration = Duration::from_secs(60);

/// Lets other processes know.
#[derive(Clone, Default)]
pub(super) struct Herald(Arc<News>);

#[derive(Default)]
struct News {
    wake: Notify,
    /// How often something was said to have changed.
    told: AtomicU64,
    /// How much of that the server knows.
    sent: watch::Sender<u64>,
}

impl Herald {
    /// Says that something changed: soon, and once for all who say so meanwhile.
    pub fn tell(&self) {
        self.0.told.fetch_add(1, Ordering::SeqCst);
        self.0.wake.notify_one();
    }

    /// Waits until the server knows of all that was told; not longer than others take to notice by
    /// themselves.
    pub async fn flush(&self) {
        let told = self.0.told.load(Ordering::SeqCst);
        let mut sent = self.0.sent.subscribe();
        // Whether it was sent or they noticed makes no difference.
        let _ = tokio::time::timeout(LOOK, sent.wait_for(|sent| *sent >= told)).await;
    }

    /// Waits until there is something to be sent; gives how much was told by then.
    async fn news(&self) -> u64 {
        loop {
            let told = self.0.told.load(Ordering::SeqCst);
            if told > *self.0.sent.borrow() {
                return told;
            }
            self.0.wake.notified().await;
        }
    }

    fn was_sent(&self, told: u64) {
        self.0.sent.send_replace(told);
    }
}

/// Listens until it is dropped.
pub(super) struct Notice(JoinHandle<()>);

impl Notice {
    /// Bumps `changed` whenever another process says that something changed, and now and then.
    pub fn start(
        connector: Connector,
        herald: Herald,
        clock: Option<ServerClock>,
        changed: watch::Sender<u64>,
    ) -> Self {
        Notice(tokio::spawn(async move {
            loop {
                let Err(error) = listen(&connector, &herald, clock.as_ref(), &changed).await;
                tracing::debug!(
                    error = describe(&error),
                    "notifications of the queue are interrupted"
                );
                bump(&changed);
                tokio::time::sleep(PAUSE).await;
            }
        }))
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn bump(changed: &watch::Sender<u64>) {
    changed.send_modify(|generation| *generation = generation.wrapping_add(1));
}

/// Ends what is spawned with whoever spawned it.
struct Polled(JoinHandle<Option<Error>>);

impl Drop for Polled {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(
    connector: &Connector,
    herald: &Herald,
    clock: Option<&ServerClock>,
    changed: &watch::Sender<u64>,
) -> Result<std::convert::Infallible, Error> {
    let (client, mut connection) = connector.open().await?;
    let own = Arc::new(AtomicI32::new(0));
    let (process, told) = (own.clone(), changed.clone());
    let mut polled = Polled(tokio::spawn(async move {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(said))) => {
                    if said.process_id() != process.load(Ordering::Relaxed) {
                        bump(&told);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(error),
                None => return None,
            }
        }
    }));
    // The name of the schema was checked: nothing in it needs quoting.
    let channel = format!("\"skillhost_{}\"", connector.target.schema);
    let greeting = connector.greeting(Purpose::Listen);
    client
        .batch_execute(&format!("{greeting} LISTEN {channel}"))
        .await?;
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await?;
    own.store(pid.try_get(0)?, Ordering::Relaxed);
    bump(changed);
    let notify = format!("NOTIFY {channel}");
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut measured = Instant::now();
    loop {
        tokio::select! {
            told = herald.news() => {
                client.batch_execute(&notify).await?;
                herald.was_sent(told);
                tokio::time::sleep(APART).await;
            }
            _ = look.tick() => {
                bump(changed);
                if let Some(clock) = clock
                    && measured.elapsed() >= CLOCK
                {
                    clock.measure(&client).await?;
                    measured = Instant::now();
                }
            }
            ended = &mut polled.0 => {
                if let Ok(Some(error)) = ended {
                    return Err(error);
                }
                // Closed by the server: the next statement says so.
                client.batch_execute("").await?;
            }
        }
    }
}
