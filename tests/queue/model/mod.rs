//! Random operations, with workers that crash and clocks that jump, against a model small enough to
//! be read, on each store.
//!
//! `SKILLHOST_RUNS=5000 cargo test --profile quick --test queue model` runs so many seeds on each;
//! `SKILLHOST_SEED=7` runs the operations of one. What fails is made shorter as far as it goes on
//! failing, and printed with its seed.

mod check;
mod job;
mod live;
mod operation;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use skillhost::queue::{
    Bounds, JobStatus, Maintenance, NewJob, Priority, Queue, Replay, RetryPolicy, ScopeKind, Worker,
};
use uuid::Uuid;

use self::job::Model;
use self::live::Live;
use self::operation::{Action, Op, Script, ops};
use crate::place::{
    BoxFuture, Database, Fixture, Gate, OnServer, Place, TestClock, Working, job, scripted,
};

const QUEUES: [&str; 2] = ["x", "y"];
const TENANTS: [&str; 3] = ["a", "b", "c"];
const LEASE: u64 = 1_000;
/// How long a job that is put off waits, in seconds.
const SNOOZE: u64 = 100;

fn seconds(count: u64) -> chrono::Duration {
    chrono::Duration::seconds(i64::try_from(count).expect("it is small"))
}

/// A key that somebody holds.
struct Held {
    tenant: usize,
    key: u64,
    job: Uuid,
    /// Until then; until the job has ended where there is none.
    until: Option<DateTime<Utc>>,
    /// That moment was there once, and the clock went back since: whether anybody noticed is not said.
    had_passed: bool,
}

/// A worker that died, and the jobs that it has.
struct Dead {
    until: DateTime<Utc>,
    jobs: Vec<Uuid>,
}

struct World {
    queue: Queue,
    clock: Arc<TestClock>,
    database: Box<dyn Database>,
    jobs: Vec<Model>,
    keys: Vec<Held>,
    dead: Vec<Dead>,
    live: [Option<Live>; 2],
    /// The queues as those workers have them.
    theirs: [Option<Queue>; 2],
    bounds: [Option<u32>; 3],
    paused_queues: [bool; 2],
    paused_tenants: [bool; 3],
    /// Jobs of our own that take from dead workers what they had.
    rescues: u64,
}

type Checked = Result<(), String>;

fn same<T: PartialEq + Debug>(what: &str, real: T, model: T) -> Checked {
    match real == model {
        true => Ok(()),
        false => Err(format!("{what}: it is {real:?}, and should be {model:?}")),
    }
}

impl World {
    fn now(&self) -> DateTime<Utc> {
        self.queue.now()
    }

    fn worker(&self) -> skillhost::queue::WorkerBuilder {
        Worker::builder(self.queue.clone()).lease(Duration::from_secs(LEASE))
    }

    async fn until_empty(&self, worker: skillhost::queue::WorkerBuilder) -> Checked {
        let worker = worker.until_empty().build();
        let done = worker.run(std::future::pending()).await;
        done.map(drop).map_err(|error| error.to_string())
    }

    fn advance(&mut self, by: u64) {
        self.clock.advance(Duration::from_secs(by));
        let now = self.now();
        for held in &mut self.keys {
            held.had_passed |= held.until.is_some_and(|until| until <= now);
        }
    }

    /// What has to be done from time to time.
    async fn tick(&mut self) -> Checked {
        let rescue = NewJob::maintenance(Maintenance::Rescue).queue("own");
        self.queue
            .submit(rescue)
            .await
            .map_err(|error| error.to_string())?;
        self.until_empty(self.worker().queues(["own"])).await?;
        self.rescues += 1;
        let now = self.now();
        let expired = self.dead.extract_if(.., |dead| dead.until <= now);
        let mut lost: Vec<Uuid> = expired.flat_map(|dead| dead.jobs).collect();
        for live in self.live.iter_mut().flatten() {
            if !live.is_lost && live.until <= now {
                live.is_lost = true;
                lost.extend(live.jobs.iter().map(|(task, _)| task.job));
            }
        }
        for model in self
            .jobs
            .iter_mut()
            .filter(|model| lost.contains(&model.id))
        {
            model.fail(now);
        }
        for model in &mut self.jobs {
            let waits = model.status.is_waiting() || model.status == JobStatus::Paused;
            if waits && model.deadline.is_some_and(|deadline| deadline <= now) {
                model.status = JobStatus::Dead;
            }
        }
        Ok(())
    }

    /// How many more a tenant may have running.
    fn room(&self, tenant: usize) -> usize {
        let Some(bound) = self.bounds[tenant] else {
            return usize::MAX;
        };
        let theirs = |model: &&Model| model.tenant == tenant && model.status == JobStatus::Running;
        let running = self.jobs.iter().filter(theirs).count();
        usize::try_from(bound)
            .expect("it is small")
            .saturating_sub(running)
    }

    /// Jobs that can start, each by itself.
    fn ready(&mut self) -> impl Iterator<Item = &mut Model> {
        let now = self.queue.now();
        let (queues, tenants) = (self.paused_queues, self.paused_tenants);
        let full = [0, 1, 2].map(|tenant| self.room(tenant) == 0);
        self.jobs.iter_mut().filter(move |model| {
            model.status.is_waiting()
                && model.due <= now
                && !queues[model.queue]
                && !tenants[model.tenant]
                && !full[model.tenant]
        })
    }

    /// How many of them one gets who asks for so many.
    fn startable(&mut self, most: usize) -> usize {
        let mut ready = [0_usize; 3];
        for model in self.ready() {
            ready[model.tenant] += 1;
        }
        let each = (0..3).map(|tenant| ready[tenant].min(self.room(tenant)));
        each.sum::<usize>().min(most)
    }

    /// Somebody got this one.
    fn started(&mut self, id: Uuid) -> Checked {
        let taken = self.ready().find(|model| model.id == id);
        let taken = taken.ok_or(format!("{id} could not start, and did"))?;
        taken.status = JobStatus::Running;
        Ok(())
    }

    async fn apply(&mut self, op: Op) -> Checked {
        let text = |error: skillhost::queue::QueueError| error.to_string();
        let now = self.now();
        match op {
            Op::Submit { .. } => self.submit(op).await,
            Op::Act(action, index) => self.act(action, index).await,
            Op::Replay(index) => self.replay(index).await,
            Op::Discard(index) => {
                let Some(model) = self.jobs.get(index) else {
                    return Ok(());
                };
                let (id, dead) = (model.id, model.status == JobStatus::Dead);
                let answers = self.queue.discard(&[id]).await.map_err(text)?;
                if dead {
                    self.jobs.remove(index);
                }
                same("discarded", answers[0].is_ok(), dead)
            }
            Op::Scope(kind, index, paused) => {
                let name = match kind {
                    ScopeKind::Queue => {
                        self.paused_queues[index] = paused;
                        QUEUES[index]
                    }
                    _ => {
                        self.paused_tenants[index] = paused;
                        TENANTS[index]
                    }
                };
                self.queue.pause_all(kind, name, paused).await.map_err(text)
            }
            Op::Advance(by) => {
                self.advance(by);
                Ok(())
            }
            Op::SetBack(by) => {
                self.clock.set_back(Duration::from_secs(by));
                Ok(())
            }
            Op::Work(concurrency) => {
                self.tick().await?;
                while let Some(model) = self.ready().next() {
                    model.run(now);
                }
                let worker = self.worker().concurrency(concurrency);
                self.until_empty(worker.handler("work", scripted)).await
            }
            Op::Crash(most) => {
                self.tick().await?;
                let count = self.startable(most);
                let mut gate = Gate::new();
                let worker = self.worker().concurrency(most).handler("work", gate.deaf());
                let working = Working::start(worker);
                let mut passes = Vec::new();
                let mut jobs = Vec::new();
                for _ in 0..count {
                    let (task, pass) = gate.next().await;
                    passes.push(pass);
                    jobs.push(task.job);
                }
                working.die(&self.queue).await;
                let until = now + seconds(LEASE);
                for id in &jobs {
                    self.started(*id)?;
                }
                self.dead.push(Dead { until, jobs });
                Ok(())
            }
            Op::Begin(which, most) => self.begin(which, most).await,
            Op::Finish(which) => self.finish(which).await,
            Op::Bound(tenant, most) => {
                self.bounds[tenant] = most;
                let bounds = Bounds {
                    concurrency: Some(most),
                    ..Bounds::default()
                };
                let bounded = self
                    .queue
                    .set_bounds(ScopeKind::Tenant, TENANTS[tenant], bounds);
                bounded.await.map_err(text)
            }
        }
    }

    async fn submit(&mut self, op: Op) -> Checked {
        let Op::Submit {
            script,
            queue,
            tenant,
            key,
            period,
            delay,
            deadline,
            attempts,
            backoff,
            paused,
        } = op
        else {
            return Ok(());
        };
        let payload = match script {
            Script::Succeeds => json!({}),
            Script::Fails => json!({"fail": "no"}),
            Script::Until(good) => json!({"retry": "no", "until": good}),
            Script::Snoozes => json!({"snooze_ms": SNOOZE * 1_000}),
        };
        let now = self.now();
        let deadline = deadline.map(|after| now + seconds(after));
        let mut new = job(payload)
            .queue(QUEUES[queue])
            .tenant(TENANTS[tenant])
            .delay(Duration::from_secs(delay))
            .retry(RetryPolicy {
                base_ms: backoff * 1_000,
                factor: 1.0,
                jitter: 0.0,
                ..RetryPolicy::attempts(attempts)
            });
        new.deadline = deadline;
        new.paused = paused;
        let id = new.id;
        let mut held = None;
        if let Some(key) = key {
            let name = key.to_string();
            new = match period {
                Some(period) => new.key_for(name, Duration::from_secs(period)),
                None => new.key(name),
            };
            let ended = |id: Uuid| {
                let model = self.jobs.iter().find(|model| model.id == id);
                model.is_none_or(|model| model.status.is_terminal())
            };
            let mut keys = self.keys.iter();
            held = keys.position(|held| {
                held.tenant == tenant
                    && held.key == key
                    && match held.until {
                        Some(until) => until > now,
                        None => !ended(held.job),
                    }
            });
        }
        let submitted = self.queue.submit(new).await;
        let submitted = submitted.map_err(|error| error.to_string())?;
        if held.is_some_and(|held| self.keys[held].had_passed && submitted.id == id) {
            held = None;
        }
        let holder = held.map(|held| self.keys[held].job);
        same("submitted", submitted.id, holder.unwrap_or(id))?;
        if holder.is_none() {
            if let Some(key) = key {
                self.keys
                    .retain(|held| (held.tenant, held.key) != (tenant, key));
                self.keys.push(Held {
                    tenant,
                    key,
                    job: id,
                    until: period.map(|period| now + seconds(period)),
                    had_passed: false,
                });
            }
            self.jobs.push(Model {
                id,
                status: match paused {
                    true => JobStatus::Paused,
                    false => JobStatus::Pending,
                },
                attempts: 0,
                due: now + seconds(delay),
                cancel_requested: false,
                script,
                queue,
                tenant,
                replay_of: None,
                deadline,
                max_attempts: attempts,
                backoff,
            });
        }
        Ok(())
    }

    async fn act(&mut self, action: Action, index: usize) -> Checked {
        let now = self.now();
        let Some(model) = self.jobs.get(index) else {
            return Ok(());
        };
        // Who has it is told at some moment, and answers at some other: that is tried elsewhere.
        if matches!(action, Action::Cancel) && self.is_live(model.id) {
            return Ok(());
        }
        let model = &mut self.jobs[index];
        let (ids, queue) = ([model.id], &self.queue);
        let waits = model.status.is_waiting();
        let later = now + seconds(SNOOZE);
        let (answers, possible) = match action {
            Action::Cancel => (queue.cancel(&ids).await, !model.status.is_terminal()),
            Action::Pause => (queue.pause(&ids).await, waits),
            Action::Resume => (queue.resume(&ids).await, model.status == JobStatus::Paused),
            Action::Snooze => (queue.snooze(&ids, later).await, waits),
            Action::Urgent => (
                queue.set_priority(&ids, Priority::Critical).await,
                !model.status.is_terminal(),
            ),
        };
        let answers = answers.map_err(|error| error.to_string())?;
        same("possible", answers[0].is_ok(), possible)?;
        if !possible {
            return Ok(());
        }
        match action {
            Action::Cancel if model.status == JobStatus::Running => model.cancel_requested = true,
            Action::Cancel => model.status = JobStatus::Cancelled,
            Action::Pause => model.status = JobStatus::Paused,
            Action::Resume => {
                model.status = JobStatus::Pending;
                model.due = model.due.max(now);
            }
            Action::Snooze => model.due = later,
            Action::Urgent => {}
        }
        Ok(())
    }

    async fn replay(&mut self, index: usize) -> Checked {
        let Some(model) = self.jobs.get(index).cloned() else {
            return Ok(());
        };
        let replayed = self.queue.replay(model.id, &Replay::default()).await;
        same(
            "replayed",
            replayed.is_ok(),
            model.status == JobStatus::Dead,
        )?;
        let Ok(replayed) = replayed else {
            return Ok(());
        };
        let going_on = self
            .jobs
            .iter()
            .any(|other| other.replay_of == Some(model.id) && !other.status.is_terminal());
        same("there already", replayed.existing, going_on)?;
        if !going_on {
            self.jobs.push(Model {
                id: replayed.id,
                status: JobStatus::Pending,
                attempts: 0,
                due: self.now(),
                cancel_requested: false,
                replay_of: Some(model.id),
                deadline: None,
                ..model
            });
        }
        Ok(())
    }
}

/// SQLite's files, in memory where that is to be had: what is written is tried elsewhere, and this is
/// about order.
struct InMemory;

impl Fixture for InMemory {
    fn name(&self) -> &'static str {
        "SQLite"
    }

    fn database(&self) -> BoxFuture<'_, Box<dyn Database>> {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let folder = folder.expect("a folder");
        Box::pin(std::future::ready(Box::new(folder) as Box<dyn Database>))
    }
}

/// Does these things, and says at which of them the queue left the model.
async fn run(ops: &[Op], store: &dyn Fixture) -> Checked {
    let Place {
        queue,
        clock,
        database,
    } = Place::new(store).await;
    let mut world = World {
        queue,
        clock,
        database,
        jobs: Vec::new(),
        keys: Vec::new(),
        dead: Vec::new(),
        live: [None, None],
        theirs: [None, None],
        bounds: [None; 3],
        paused_queues: [false; 2],
        paused_tenants: [false; 3],
        rescues: 0,
    };
    let mut checked = Ok(());
    for (number, op) in ops.iter().enumerate() {
        checked = match world.apply(*op).await {
            Ok(()) => world.check().await,
            error => error,
        };
        if let Err(error) = &mut checked {
            *error = format!("after operation {number}, {op:?}: {error}");
            break;
        }
    }
    if checked.is_ok() {
        checked = world.check_events().await;
    }
    for live in world.live.iter_mut().filter_map(Option::take) {
        live.working.die(&world.queue).await;
    }
    // Closing takes a moment that nobody has to wait for.
    tokio::task::spawn_blocking(move || drop(world));
    checked
}

/// The same failure with less.
async fn shrunk(mut ops: Vec<Op>, mut error: String, store: &dyn Fixture) -> (Vec<Op>, String) {
    let mut at = 0;
    while at < ops.len() {
        let mut fewer = ops.clone();
        fewer.remove(at);
        match run(&fewer, store).await {
            Err(other) => (ops, error) = (fewer, other),
            Ok(()) => at += 1,
        }
    }
    (ops, error)
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_does_what_a_small_model_does_on_sqlite() {
    many_runs(&InMemory, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_does_what_a_small_model_does_on_postgresql() {
    many_runs(&OnServer, 100).await;
}

/// As many runs as were asked for, or else so many.
async fn many_runs(store: &dyn Fixture, otherwise: u64) {
    let seeds: Vec<u64> = match number("SKILLHOST_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first: u64 = Utc::now().timestamp_micros().unsigned_abs();
            let runs = number("SKILLHOST_RUNS").unwrap_or(otherwise);
            (0..runs).map(|run| first.wrapping_add(run)).collect()
        }
    };
    let began = std::time::Instant::now();
    let mut runs = 0;
    for &seed in &seeds {
        // A slow machine does fewer of them, unless it was told how many.
        if began.elapsed() > Duration::from_secs(45) && number("SKILLHOST_RUNS").is_none() {
            break;
        }
        runs += 1;
        let ops = ops(seed);
        if let Err(error) = run(&ops, store).await {
            let (ops, error) = shrunk(ops, error, store).await;
            panic!(
                "on {}, SKILLHOST_SEED={seed}: {error}\n{ops:#?}",
                store.name()
            );
        }
    }
    println!(
        "{runs} runs on {} in {:?}, from seed {}",
        store.name(),
        began.elapsed(),
        seeds[0]
    );
}
