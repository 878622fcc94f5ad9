//! A queue of a test's own, on a store, with a clock that the test sets.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use skillhost::queue::{
    Attempt, Clock, Done, HandlerFailure, Job, JobEvent, JobStatus, NewJob, Queue, QueueBuilder,
    RetryPolicy, Task, Worker, WorkerBuilder, WorkerError,
};
use skillhost::{
    Cause, Control, Event, Execute, ExecutionRequest, ExecutionResult, Failure, HostError,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::postgres::Postgres;

/// A boxed future, as traits need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How long anything may take: long, for machines that have other things to do.
pub const LONG: Duration = Duration::from_secs(60);

/// A store that queues can be kept in.
pub trait Fixture: Send + Sync {
    fn name(&self) -> &'static str;
    /// A database of its own, empty.
    fn database(&self) -> BoxFuture<'_, Box<dyn Database>>;
}

/// One database, which goes with this.
pub trait Database: Send + Sync {
    fn open<'a>(&'a self, builder: QueueBuilder) -> BoxFuture<'a, Queue>;
}

/// Every store.
pub fn stores() -> Vec<Box<dyn Fixture>> {
    vec![Box::new(SqliteFile), Box::new(OnServer)]
}

/// On the PostgreSQL server that the tests start.
pub struct OnServer;

impl Fixture for OnServer {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn database(&self) -> BoxFuture<'_, Box<dyn Database>> {
        Box::pin(async {
            // The first to ask waits until it runs.
            let server = tokio::task::spawn_blocking(Postgres::shared);
            let server = server.await.expect("PostgreSQL can be started");
            Box::new(server.database().await) as Box<dyn Database>
        })
    }
}

impl Database for crate::postgres::Database<'static> {
    fn open<'a>(&'a self, builder: QueueBuilder) -> BoxFuture<'a, Queue> {
        Box::pin(async move {
            let url = self.url();
            builder.connect(&url).await.expect("it can be reached")
        })
    }
}

struct SqliteFile;

impl Fixture for SqliteFile {
    fn name(&self) -> &'static str {
        "SQLite"
    }

    fn database(&self) -> BoxFuture<'_, Box<dyn Database>> {
        Box::pin(async {
            let folder = tempfile::tempdir().expect("a folder");
            Box::new(folder) as Box<dyn Database>
        })
    }
}

impl Database for tempfile::TempDir {
    fn open<'a>(&'a self, builder: QueueBuilder) -> BoxFuture<'a, Queue> {
        Box::pin(async move {
            builder
                .open(self.path().join("queue.db"))
                .expect("the file can be opened")
        })
    }
}

/// A clock that stands still until it is told to go on.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(TestClock(AtomicI64::new(1_800_000_000_000_000)))
    }

    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).expect("a short time");
        self.0.fetch_add(by, Ordering::SeqCst);
    }

    pub fn set_back(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).expect("a short time");
        self.0.fetch_sub(by, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0.load(Ordering::SeqCst)).expect("it is in range")
    }
}

/// A queue, and what belongs to it.
pub struct Place {
    pub queue: Queue,
    pub clock: Arc<TestClock>,
    pub database: Box<dyn Database>,
}

impl Place {
    pub async fn new(store: &dyn Fixture) -> Self {
        let (database, clock) = (store.database().await, TestClock::new());
        let queue = database.open(Queue::builder().clock(clock.clone())).await;
        Place {
            queue,
            clock,
            database,
        }
    }

    /// Another handle, as another process would have it.
    pub async fn another(&self) -> Queue {
        let builder = Queue::builder().clock(self.clock.clone());
        self.database.open(builder).await
    }

    /// A worker that has a handler `work`, which does what its payload says (see [`scripted`]).
    pub fn worker(&self) -> WorkerBuilder {
        Worker::builder(self.queue.clone()).handler("work", scripted)
    }

    /// Lets a worker work until nothing is left that can start.
    pub async fn work(&self, worker: WorkerBuilder) -> Done {
        let worker = worker.until_empty().build();
        worker.run(pending()).await.expect("it works")
    }

    pub async fn submit(&self, job: NewJob) -> Uuid {
        self.queue.submit(job).await.expect("it is accepted").id
    }

    pub async fn job(&self, id: Uuid) -> Job {
        self.queue.job(id).await.expect("it is there")
    }

    pub async fn status(&self, id: Uuid) -> JobStatus {
        self.job(id).await.status
    }

    pub async fn attempts(&self, id: Uuid) -> Vec<Attempt> {
        self.queue.attempts(id).await.expect("it is there")
    }

    pub async fn events(&self) -> Vec<JobEvent> {
        events(&self.queue).await
    }

    /// Waits for this event of this job.
    pub async fn until(&self, id: Uuid, kind: skillhost::queue::JobEventKind) {
        let mut events = self.queue.subscribe(0);
        loop {
            let batch = events.next().await.expect("events");
            let is_it = |event: &JobEvent| event.job == id && event.kind == kind;
            if batch.events.iter().any(is_it) {
                return;
            }
        }
    }
}

/// Every event that there is.
pub async fn events(queue: &Queue) -> Vec<JobEvent> {
    let (mut all, mut cursor) = (Vec::new(), 0);
    loop {
        let batch = queue.events(cursor, 100).await.expect("events");
        all.extend(batch.events);
        cursor = batch.cursor;
        if !batch.has_more {
            return all;
        }
    }
}

/// A job for the handler `work`, whose payload is an object of what to do: `fail` or `retry` with a
/// message, `after_ms` for a delay that is asked for, `until` for the attempt that succeeds.
pub fn job(payload: Value) -> NewJob {
    NewJob::custom("work", payload)
}

/// A job that succeeds.
pub fn good() -> NewJob {
    job(json!({}))
}

/// An object so many levels deep.
pub fn nested(depth: usize) -> Value {
    (1..depth).fold(json!({}), |inner, _| json!({"a": inner}))
}

/// Retries without a wait.
pub fn at_once(attempts: u32) -> RetryPolicy {
    RetryPolicy {
        base_ms: 0,
        jitter: 0.0,
        ..RetryPolicy::attempts(attempts)
    }
}

pub async fn scripted(task: Task) -> Result<Value, HandlerFailure> {
    let payload = &task.payload;
    if payload["until"]
        .as_u64()
        .is_some_and(|attempt| u64::from(task.attempt) >= attempt)
    {
        return Ok(json!(task.attempt));
    }
    if let Some(message) = payload["fail"].as_str() {
        return Err(HandlerFailure::permanent(message));
    }
    if let Some(message) = payload["retry"].as_str() {
        return Err(HandlerFailure::Failed {
            message: message.to_owned(),
            retryable: true,
            retry_after: payload["after_ms"].as_u64().map(Duration::from_millis),
        });
    }
    if let Some(ms) = payload["snooze_ms"].as_u64() {
        return Err(HandlerFailure::Snooze(Duration::from_millis(ms)));
    }
    Ok(payload.clone())
}

/// A handler that writes down which jobs came, by their payload.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<Value>>>);

impl Seen {
    pub fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
    }

    pub fn names(&self) -> String {
        let names: Vec<String> = self
            .take()
            .iter()
            .map(|value| value.as_str().unwrap_or("?").to_owned())
            .collect();
        names.join(" ")
    }

    pub fn handler(
        &self,
    ) -> impl Fn(Task) -> std::future::Ready<Result<Value, HandlerFailure>> + Send + Sync + 'static
    {
        let seen = self.0.clone();
        move |task| {
            seen.lock().expect("nobody panicked").push(task.payload);
            std::future::ready(Ok(Value::Null))
        }
    }
}

/// What a job at a [`Gate`] waits for.
pub type Pass = oneshot::Sender<Result<Value, HandlerFailure>>;

/// A handler whose jobs wait until the test lets them go.
pub struct Gate {
    sender: mpsc::UnboundedSender<(Task, Pass)>,
    arrived: mpsc::UnboundedReceiver<(Task, Pass)>,
}

type Handled = Pin<Box<dyn Future<Output = Result<Value, HandlerFailure>> + Send>>;

impl Gate {
    pub fn new() -> Self {
        let (sender, arrived) = mpsc::unbounded_channel();
        Gate { sender, arrived }
    }

    /// Ends with what the test says; once it is cancelled, with an error.
    pub fn handler(&self) -> impl Fn(Task) -> Handled + Send + Sync + 'static {
        let sender = self.sender.clone();
        move |task| {
            let (pass, passed) = oneshot::channel();
            let cancelled = task.cancellation.clone();
            let _ = sender.send((task, pass));
            Box::pin(async move {
                tokio::select! {
                    answer = passed => answer.unwrap_or(Ok(Value::Null)),
                    () = cancelled.cancelled() => Err(HandlerFailure::permanent("cancelled")),
                }
            })
        }
    }

    /// As [`Gate::handler`], but deaf: nothing but the test ends it.
    pub fn deaf(&self) -> impl Fn(Task) -> Handled + Send + Sync + 'static {
        let sender = self.sender.clone();
        move |task| {
            let (pass, passed) = oneshot::channel();
            let _ = sender.send((task, pass));
            Box::pin(async move { passed.await.unwrap_or(Ok(Value::Null)) })
        }
    }

    /// The next job that arrives.
    pub async fn next(&mut self) -> (Task, Pass) {
        let next = tokio::time::timeout(LONG, self.arrived.recv()).await;
        next.expect("a job arrives in time").expect("it is open")
    }

    /// A job that has arrived already.
    pub fn try_next(&mut self) -> Option<(Task, Pass)> {
        self.arrived.try_recv().ok()
    }
}

/// A worker that runs on.
pub struct Working {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Done, WorkerError>>,
}

impl Working {
    pub fn start(worker: WorkerBuilder) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = worker.build();
        let task = tokio::spawn(worker.run(async {
            let _ = stopped.await;
        }));
        Working { stop, task }
    }

    /// Tells it to stop, and waits until it has.
    pub async fn stop(self) -> Result<Done, WorkerError> {
        let _ = self.stop.send(());
        self.task.await.expect("it does not panic")
    }

    /// Tells it to stop, and lets what it has end by this: so it takes nothing more. Waits until it has
    /// stopped.
    pub async fn finish(self, end: impl FnOnce()) -> Result<Done, WorkerError> {
        let _ = self.stop.send(());
        end();
        self.task.await.expect("it does not panic")
    }

    /// Waits until it stops by itself.
    pub async fn ended(self) -> Result<Done, WorkerError> {
        let _stop = self.stop;
        self.task.await.expect("it does not panic")
    }

    /// It is gone from one moment to the next. What it had handed over to be written is written all
    /// the same, as by a process that was killed a moment later; after this, that is over.
    pub async fn die(self, queue: &Queue) {
        self.task.abort();
        let _ = self.task.await;
        queue.cancel(&[]).await.expect("it can be written");
    }
}

/// An answer as a host gives it: `cause` is that of a failure as JSON, or null.
pub fn answer(request: &ExecutionRequest, cause: &Value) -> ExecutionResult {
    let failure = match cause {
        Value::Null => Value::Null,
        cause => {
            let mut failure = cause.clone();
            failure["fault"] = json!("skill");
            failure["message"] = json!("so it was");
            failure
        }
    };
    let status = serde_json::from_value(failure.clone())
        .ok()
        .map_or(skillhost::Status::Success, |failure: skillhost::Failure| {
            failure.cause.status()
        });
    let mut result = json!({
        "request_id": request.request_id,
        "status": status,
        "tool": request.tool,
        "output": if failure.is_null() { json!("done") } else { Value::Null },
        "usage": skillhost::ResourceUsage::default(),
        "limits": skillhost::Limits::default(),
        "skill": Value::Null,
    });
    result["failure"] = failure;
    serde_json::from_value(result).expect("it is a result")
}

/// Answers one after the other; the last again and again.
pub struct Scripted {
    pub answers: Mutex<VecDeque<Result<Value, String>>>,
    pub destructive: bool,
    /// Whether what is broken are only things that this request needs, and only shows when it has begun.
    pub lacks: bool,
    pub calls: Mutex<Vec<ExecutionRequest>>,
    /// Of each call, whether it was said to be approved.
    pub approved: Mutex<Vec<bool>>,
}

impl Scripted {
    pub fn new(answers: impl IntoIterator<Item = Result<Value, String>>) -> Self {
        Scripted {
            answers: Mutex::new(answers.into_iter().collect()),
            destructive: false,
            lacks: false,
            calls: Mutex::default(),
            approved: Mutex::default(),
        }
    }
}

impl Execute for Scripted {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        let mut approved = self.approved.lock().expect("nobody panicked");
        approved.push(control.approved);
        drop(approved);
        let mut answers = self.answers.lock().expect("nobody panicked");
        let next = match answers.len() {
            0 => Ok(Value::Null),
            1 => answers[0].clone(),
            _ => answers.pop_front().expect("there is one"),
        };
        let answered = next
            .map(|cause| answer(&request, &cause))
            .map_err(|why| match self.lacks {
                true => HostError::Unavailable {
                    what: "cannot use",
                    path: "storage".into(),
                    source: std::io::Error::other(why),
                },
                false => HostError::Internal(why),
            });
        if self.lacks
            && let Some(observer) = &control.observer
        {
            observer.observe(request.request_id, &Event::Started);
        }
        self.calls.lock().expect("nobody panicked").push(request);
        Box::pin(std::future::ready(answered))
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<skillhost::Resolution, Failure> {
        let message = format!("no skill `{}` is loaded", request.skill);
        Err(Failure::new(Cause::NotLoaded, message))
    }

    fn is_destructive(&self, _: &ExecutionRequest) -> bool {
        self.destructive
    }
}
