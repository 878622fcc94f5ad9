//! Does what is in the queue.

mod attempt;
mod callback;
mod details;
mod handler;
mod heard;
mod reports;
mod run;
mod settle;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::error::QueueError;
use super::handle::Queue;
use super::job::JobStatus;
use crate::Execute;

pub use callback::CallbackSender;
pub use handler::{Handler, HandlerFailure, Task};

/// Takes jobs from a queue and does them, so many at once, until it is told to stop.
///
/// ```no_run
/// use std::sync::Arc;
/// use skillhost::Host;
/// use skillhost::queue::{Queue, Worker};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let host = Host::builder().build()?;
/// host.load("text-stats.wasm").await?;
/// let worker = Worker::builder(Queue::open("queue.db")?)
///     .execute(Arc::new(host))
///     .concurrency(4)
///     .build();
/// let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
/// worker.run(stop).await?;
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    settings: Settings,
}

/// Sets up a [`Worker`].
pub struct WorkerBuilder {
    settings: Settings,
}

struct Settings {
    queue: Queue,
    execute: Option<Arc<dyn Execute>>,
    handlers: HashMap<String, Arc<dyn Handler>>,
    callbacks: Option<CallbackSender>,
    queues: Option<Vec<String>>,
    concurrency: usize,
    lease: Duration,
    grace: Duration,
    name: String,
    keep: Keep,
    until_empty: bool,
    on_settled: Option<OnSettled>,
    on_stopping: Option<OnStopping>,
}

type OnSettled = Arc<dyn Fn(&Settled) + Send + Sync>;
type OnStopping = Arc<dyn Fn(usize) + Send + Sync>;

/// An attempt that a worker brought to its end, or a job that it found dead.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The job.
    pub job: Uuid,
    /// Its skill, or the name of its handler.
    pub skill: String,
    /// Its tool, where one is named and there was an attempt.
    pub tool: Option<String>,
    /// Which attempt it was, counted from 1; 0 where the worker found it dead: its deadline had passed, or the worker
    /// that had it died.
    pub attempt: u32,
    /// How the attempt ended, as [`Attempt::status`](super::Attempt::status); `expired` where the job's deadline had
    /// passed while it waited, `lost` where its worker died.
    pub ended: &'static str,
    /// Where the job stands now.
    pub status: JobStatus,
    /// What went wrong, in a sentence, where something did.
    pub message: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// How long what has ended is kept. A worker removes what is older by itself; but no job before the
/// callback is over that tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Completed and cancelled jobs, with their results; 7 days by default.
    pub completed: Option<Duration>,
    /// Dead jobs; for ever by default.
    pub dead: Option<Duration>,
    /// Events; 7 days by default.
    pub events: Option<Duration>,
}

impl Default for Keep {
    fn default() -> Self {
        let week = Duration::from_secs(7 * 86_400);
        Keep {
            completed: Some(week),
            dead: None,
            events: Some(week),
        }
    }
}

impl WorkerBuilder {
    /// What executes skills. A worker without one takes jobs all the same, and gives executions back
    /// for others.
    #[must_use]
    pub fn execute(mut self, execute: Arc<dyn Execute>) -> Self {
        self.settings.execute = Some(execute);
        self
    }

    /// Does custom jobs of this name.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>, handler: impl Handler + 'static) -> Self {
        self.settings
            .handlers
            .insert(name.into(), Arc::new(handler));
        self
    }

    /// Sends callbacks. A worker without this does not take them.
    #[must_use]
    pub fn callbacks(mut self, callbacks: CallbackSender) -> Self {
        self.settings.callbacks = Some(callbacks);
        self
    }

    /// The queues that it serves; all of them unless set.
    #[must_use]
    pub fn queues<T: Into<String>>(mut self, queues: impl IntoIterator<Item = T>) -> Self {
        self.settings.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// How many jobs it does at once: at least 1; as many as there are processors unless set.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.settings.concurrency = concurrency.max(1);
        self
    }

    /// How long its claims hold without being renewed: at least 1 second; 30 seconds unless set. It
    /// renews them every third of that. A worker that dies is noticed so much later.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.max(Duration::from_secs(1));
        self
    }

    /// How long running jobs may go on once it was told to stop; 25 seconds unless set. What is left
    /// then is interrupted, and goes back to the queue with no attempt used up.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// A name for people; the machine's and the process's number unless set.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// How long what has ended is kept.
    #[must_use]
    pub fn keep(mut self, keep: Keep) -> Self {
        self.settings.keep = keep;
        self
    }

    /// Stops by itself once nothing is waiting that could start now.
    #[must_use]
    pub fn until_empty(mut self) -> Self {
        self.settings.until_empty = true;
        self
    }

    /// Hears of each attempt that was settled, and of each job that the worker found dead: its deadline had passed
    /// while it waited, or the worker that had it died ([`Settled::attempt`] is 0 then). It is called on the worker's
    /// own task, and must not block.
    #[must_use]
    pub fn on_settled(mut self, hear: impl Fn(&Settled) + Send + Sync + 'static) -> Self {
        self.settings.on_settled = Some(Arc::new(hear));
        self
    }

    /// Hears, once it was told to stop and whenever one of them ends after that, how many jobs it still
    /// waits for. It is called on the worker's own task, and must not block.
    #[must_use]
    pub fn on_stopping(mut self, hear: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.settings.on_stopping = Some(Arc::new(hear));
        self
    }

    /// The worker.
    pub fn build(self) -> Worker {
        Worker {
            settings: self.settings,
        }
    }
}

impl Worker {
    /// Sets up a worker for a queue.
    pub fn builder(queue: Queue) -> WorkerBuilder {
        let concurrency = std::thread::available_parallelism().map_or(1, usize::from);
        WorkerBuilder {
            settings: Settings {
                queue,
                execute: None,
                handlers: HashMap::new(),
                callbacks: None,
                queues: None,
                concurrency,
                lease: Duration::from_secs(30),
                grace: Duration::from_secs(25),
                name: format!("{}:{}", machine(), std::process::id()),
                keep: Keep::default(),
                until_empty: false,
                on_settled: None,
                on_stopping: None,
            },
        }
    }

    /// Works until `stop` is ready: then it takes no more, lets what runs finish for the grace
    /// period, interrupts the rest and gives it back.
    ///
    /// # Errors
    /// Where the queue cannot be used, or the host is broken. What it had taken has been given back,
    /// or will be by another worker once its lease has expired.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Done, WorkerError> {
        self.run_and_hurry(stop, std::future::pending()).await
    }

    /// As [`Worker::run`]; where `hurry` is ready while it waits for what runs, it waits no longer.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_and_hurry(
        self,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<Done, WorkerError> {
        run::run(self.settings, stop, hurry).await
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.settings.name)
            .field("concurrency", &self.settings.concurrency)
            .finish_non_exhaustive()
    }
}

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Attempts that it settled.
    pub settled: u64,
    /// Attempts with which the job completed.
    pub completed: u64,
    /// Jobs that died of an attempt, or that it found dead: their deadline had passed while they waited, or the worker
    /// that had them died.
    pub died: u64,
    /// Attempts that another one follows: a job may have had several.
    pub retried: u64,
    /// Jobs that it gave back when it stopped.
    pub released: u64,
}

/// Why a worker stopped that nobody told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The host is broken. Nothing is used up of what it could not do.
    #[error("the host is broken, so that the worker stopped: {0}")]
    Host(String),
}

/// The machine's name, where the system tells it.
fn machine() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
