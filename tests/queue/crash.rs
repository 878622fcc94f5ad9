//! Worker processes that are killed, again and again, while jobs come in, on each store; and a
//! PostgreSQL that is restarted and cuts connections meanwhile.
//!
//! `SKILLHOST_CRASHES=200 cargo test --profile quick --test queue crash` kills 200 of them on each store,
//! and disturbs the server 200 times; without that it is 15 and 6. The processes are this program,
//! started again.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use skillhost::queue::{
    Filter, HandlerFailure, JobEventKind, JobStatus, NewJob, Queue, QueueError, RetryPolicy, Task,
    Work, Worker, WorkerBuilder,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::place::{Gate, LONG, TestClock, Working, at_once, events, good, scripted};
use crate::postgres::{Database, Durability, Postgres, Stop};

/// Says to a process of ours that it is to work on this database: a path, or a URL.
const WORKS: &str = "SKILLHOST_TEST_WORKS_ON";
/// Jobs that are submitted at a time.
const JOBS: usize = 60;
/// How long a worker's claims hold.
const LEASE: Duration = Duration::from_secs(1);
/// So many attempts that a job outlives every death; only what fails by itself is dead.
const ATTEMPTS: u32 = 1_000;

fn crashes(otherwise: usize) -> usize {
    match std::env::var("SKILLHOST_CRASHES") {
        Ok(count) => count.parse().expect("SKILLHOST_CRASHES is a number"),
        Err(_) => otherwise,
    }
}

/// Does what its payload says: fails for good, fails the first time, or succeeds.
async fn work(task: Task) -> Result<serde_json::Value, HandlerFailure> {
    // Some take a while, so that a process that is killed has some of them.
    if task.payload["slow"] == json!(true) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    match task.payload["kind"].as_str() {
        Some("dead") => Err(HandlerFailure::permanent("as it should")),
        Some("twice") if task.attempt == 1 => Err(HandlerFailure::retryable("once more")),
        _ => Ok(task.payload),
    }
}

fn worker(queue: Queue) -> WorkerBuilder {
    Worker::builder(queue).concurrency(8).lease(LEASE)
}

/// This test is a worker where the variable says so; else it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_works() {
    let Ok(url) = std::env::var(WORKS) else {
        return;
    };
    let queue = Queue::at(&url).await.expect("it can be opened");
    println!("\nworks");
    let worker = worker(queue).handler("work", work).build();
    worker.run(pending()).await.expect("it works");
}

/// A worker process, killed at the latest when this is dropped.
struct Process(Child);

impl Process {
    fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("it is running"))
            .args(["--exact", "--nocapture", "crash::a_process_that_works"])
            .env(WORKS, url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it can be started again");
        let output = child.stdout.take().expect("it is piped");
        let process = Process(child);
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        assert!(lines.any(|line| line == "works"), "it does not work");
        process
    }
}

impl Process {
    /// Whether it has jobs at this moment.
    async fn is_busy(&self, queue: &Queue) -> bool {
        let statistics = queue.statistics(1).await.expect("statistics");
        let ours = format!(":{}", self.0.id());
        let identities: Vec<Uuid> = statistics
            .workers
            .iter()
            .filter(|worker| worker.name.ends_with(&ours))
            .map(|worker| worker.id)
            .collect();
        let filter = Filter {
            status: vec![JobStatus::Running],
            ..Filter::default()
        };
        let running = queue.list(&filter).await.expect("a list").items;
        let workers = running.iter().filter_map(|job| job.worker);
        let count = workers.filter(|worker| identities.contains(worker)).count();
        count > 0
    }

    /// SIGKILL.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn batch() -> Vec<NewJob> {
    let retry = RetryPolicy {
        base_ms: 1,
        factor: 1.0,
        ..RetryPolicy::attempts(ATTEMPTS)
    };
    (0..JOBS)
        .map(|number| {
            let kind = ["good", "good", "twice", "dead"][number % 4];
            let payload = json!({"kind": kind, "slow": number % 3 == 0});
            NewJob::custom("work", payload)
                .tenant(["a", "b", "c"][number % 3])
                .retry(retry.clone())
        })
        .collect()
}

/// What each job that was acknowledged is to come to.
type Expected = BTreeMap<Uuid, String>;

fn kind(job: &NewJob) -> String {
    let Work::Custom { payload, .. } = &job.work else {
        unreachable!("they are custom");
    };
    payload["kind"].as_str().expect("it has one").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_however_often_workers_are_killed_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    kill_workers(&path.to_string_lossy()).await;
    let database = rusqlite::Connection::open(&path).expect("it can be opened");
    let verdict: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it answers");
    assert_eq!(verdict, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_however_often_workers_are_killed_on_postgresql() {
    let server = tokio::task::spawn_blocking(Postgres::shared).await;
    let database = server.expect("it can be started").database().await;
    kill_workers(&database.url()).await;
    sound(&database).await;
}

/// Kills workers while jobs come in and are done, and sees that all came out well.
async fn kill_workers(url: &str) {
    let queue = Queue::at(url).await.expect("it can be opened");
    let stop = CancellationToken::new();
    let submitting = tokio::spawn(submit_until(queue.clone(), stop.clone()));
    let mut workers = [Process::start(url), Process::start(url)];
    let count = crashes(15);
    for crash in 0..count {
        // At some moment while jobs are done: after so many more events.
        let mut subscription = queue.subscribe(queue.last_event().await.expect("events"));
        let mut left = 7 * crash % 40 + 1;
        while left > 0 {
            let batch = tokio::time::timeout(LONG, subscription.next()).await;
            let batch = batch.expect("it goes on").expect("events");
            left = left.saturating_sub(batch.events.len());
        }
        // Every other time, in the middle of something for sure: whatever the others hit.
        let victim = &mut workers[crash % 2];
        if crash % 2 == 0 {
            let busy = async { while !victim.is_busy(&queue).await {} };
            let waited = tokio::time::timeout(LONG, busy).await;
            waited.expect("it gets jobs");
        }
        victim.kill();
        *victim = Process::start(url);
    }
    stop.cancel();
    let (expected, unsure) = submitting.await.expect("it does not panic");
    assert!(unsure.is_empty(), "nothing was in the way of the store");
    all_end(&queue, &expected).await;
    drop(workers);
    let lost = check(&queue, &expected).await;
    assert!(
        lost >= count / 4,
        "{count} were killed, and {lost} attempts lost"
    );
}

/// What was running when the server went is taken from a worker that cannot renew its lease meanwhile,
/// and that worker settles none of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_expires_while_the_server_is_away_is_lost() {
    const RUNNING: usize = 4;
    let server = tokio::task::spawn_blocking(|| Postgres::start(Durability::Full)).await;
    let server = server.expect("it can be started");
    let database = server.database().await;
    let clock = TestClock::new();
    let open = || Queue::builder().clock(clock.clone());
    let connect = async || {
        let queue = open().connect(&database.url()).await;
        queue.expect("it can be reached")
    };
    let queue = connect().await;
    let mut gate = Gate::new();
    // A lease that it would renew only long after this test, however slow the machine is: one that is over
    // and that nobody has taken yet can be renewed. As many as it does at once: it does not ask for more.
    let lease = LONG * 10;
    let cut_off = worker(connect().await).lease(lease).concurrency(RUNNING);
    let cut_off = Working::start(cut_off.handler("work", gate.deaf()));
    // It renews its lease for the first time as it begins, before it settles anything. That is over before the
    // server goes; a renewal that is on its way then would be made good afterwards.
    let begins = good();
    let id = begins.id;
    queue.submit(begins).await.expect("it is acknowledged");
    let (_, pass) = gate.next().await;
    pass.send(Ok(json!("it has begun"))).expect("it waits");
    let ended = tokio::time::timeout(LONG, queue.wait(id)).await;
    let begun = ended.expect("it ends").expect("it is there");
    assert_eq!(begun.status, JobStatus::Completed);
    let jobs: Vec<NewJob> = (0..RUNNING).map(|_| good().retry(at_once(3))).collect();
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
    queue.submit_all(jobs).await.expect("it is acknowledged");
    let mut passes = Vec::new();
    for _ in 0..RUNNING {
        passes.push(gate.next().await.1);
    }
    tokio::task::block_in_place(|| server.stop(Stop::Kill));
    clock.advance(lease * 2);
    tokio::task::block_in_place(|| server.start_again());
    // Somebody else finds them, and does them.
    let other = Working::start(worker(connect().await).handler("work", scripted));
    for id in &ids {
        let ended = tokio::time::timeout(LONG, queue.wait(*id)).await;
        let job = ended.expect("it ends").expect("it is there");
        assert_eq!(job.status, JobStatus::Completed);
    }
    other.stop().await.expect("it works");
    for pass in passes {
        pass.send(Ok(json!("too late"))).expect("it waits");
    }
    let done = cut_off.stop().await.expect("it works");
    assert_eq!(done.settled, 1, "none but the one it began with");
    for id in ids {
        let attempts = queue.attempts(id).await.expect("it is there");
        let ends: Vec<&str> = attempts.iter().map(|one| one.status.as_str()).collect();
        assert_eq!(ends, ["worker_lost", "success"]);
        let result = queue.result(id).await.expect("it is there");
        assert_eq!(result, Some(json!({"output": {}})));
    }
}

/// What is done to a server that works, in turn.
#[derive(Debug, Clone, Copy)]
enum Disturbance {
    Cut,
    Restart(Stop),
}

const DISTURBANCES: [Disturbance; 6] = [
    Disturbance::Cut,
    Disturbance::Restart(Stop::Immediate),
    Disturbance::Cut,
    Disturbance::Restart(Stop::Kill),
    Disturbance::Cut,
    Disturbance::Restart(Stop::Fast),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_done_twice_however_often_the_server_goes() {
    let server = tokio::task::spawn_blocking(|| Postgres::start(Durability::Full)).await;
    let server = server.expect("it can be started");
    let database = server.database().await;
    let (done, mut progress) = mpsc::unbounded_channel();
    let mut workers = Vec::new();
    for _ in 0..2 {
        let queue = Queue::at(&database.url()).await.expect("it can be reached");
        let done = done.clone();
        workers.push(Working::start(worker(queue).handler("work", move |task| {
            // Nobody listens any more once all was disturbed.
            let _ = done.send(());
            work(task)
        })));
    }
    // Somebody who submits all the time, and writes down what is acknowledged.
    let queue = Queue::at(&database.url()).await.expect("it can be reached");
    let stop = CancellationToken::new();
    let submitting = tokio::spawn(submit_until(queue.clone(), stop.clone()));
    for turn in 0..crashes(DISTURBANCES.len()) {
        // At some moment: after so many more have begun.
        for _ in 0..(20 + 17 * turn % 60) {
            let begun = tokio::time::timeout(LONG, progress.recv()).await;
            begun.expect("it goes on").expect("the workers are there");
        }
        match DISTURBANCES[turn % DISTURBANCES.len()] {
            Disturbance::Cut => assert!(database.cut().await > 0),
            Disturbance::Restart(how) => tokio::task::block_in_place(|| server.restart(how)),
        }
    }
    stop.cancel();
    let (mut expected, unsure) = submitting.await.expect("it does not panic");
    assert!(!expected.is_empty());
    // What was not acknowledged is there or not; if it is, it is as good as any.
    for job in unsure {
        if queue.job(job.id).await.is_ok() {
            expected.insert(job.id, kind(&job));
        }
    }
    all_end(&queue, &expected).await;
    for worker in workers {
        worker.stop().await.expect("it works");
    }
    check(&queue, &expected).await;
    drop(queue);
    sound(&database).await;
}

/// What was acknowledged, and what was neither acknowledged nor refused for good.
async fn submit_until(queue: Queue, stop: CancellationToken) -> (Expected, Vec<NewJob>) {
    let (mut expected, mut unsure) = (Expected::new(), Vec::new());
    while !stop.is_cancelled() {
        let jobs = batch();
        let last = jobs.last().expect("there are some").id;
        match queue.submit_all(jobs.clone()).await {
            Ok(_) => expected.extend(jobs.iter().map(|job| (job.id, kind(job)))),
            Err(QueueError::Unavailable(_)) => unsure.extend(jobs),
            Err(error) => panic!("{error}"),
        }
        // Not much faster than they are worked off, or the test takes for ever; but what waits for a
        // lease to expire holds up nobody.
        tokio::select! {
            _ = tokio::time::timeout(LEASE / 5, queue.wait(last)) => {}
            () = stop.cancelled() => {}
        }
    }
    (expected, unsure)
}

/// Waits until each has ended, and sees that it did as it should.
async fn all_end(queue: &Queue, expected: &Expected) {
    for (&id, kind) in expected {
        let ended = tokio::time::timeout(Duration::from_secs(120), queue.wait(id)).await;
        let job = ended.expect("it ends").expect("it is there");
        let status = if kind == "dead" {
            JobStatus::Dead
        } else {
            JobStatus::Completed
        };
        assert_eq!(job.status, status, "{kind}: {:?}", job.cause);
    }
}

/// That every index has what its table has, by PostgreSQL's own check.
async fn sound(database: &Database<'_>) {
    let client = database.connect().await;
    let made = client.batch_execute("CREATE EXTENSION amcheck").await;
    made.expect("amcheck, which comes with PostgreSQL, is there");
    let checked = client
        .query(
            "SELECT bt_index_check(pg_index.indexrelid, true) FROM pg_index \
             JOIN pg_class ON pg_class.oid = pg_index.indexrelid \
             JOIN pg_am ON pg_am.oid = pg_class.relam \
             JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace \
             WHERE pg_am.amname = 'btree' AND pg_index.indisvalid \
             AND pg_namespace.nspname NOT IN ('pg_catalog', 'pg_toast')",
            &[],
        )
        .await;
    assert!(!checked.expect("every index is sound").is_empty());
}

/// That attempts add up, each job was settled once, and counters are those of a recount. Gives how many
/// attempts were lost with their workers.
async fn check(queue: &Queue, expected: &Expected) -> usize {
    let log = events(queue).await;
    for (number, event) in (1..).zip(&log) {
        assert_eq!(event.id, number, "there is a gap");
    }
    let mut ends: BTreeMap<Uuid, usize> = BTreeMap::new();
    let mut starts: BTreeMap<Uuid, usize> = BTreeMap::new();
    for event in &log {
        match event.kind {
            JobEventKind::Completed | JobEventKind::Dead => {
                *ends.entry(event.job).or_default() += 1;
            }
            JobEventKind::Started => *starts.entry(event.job).or_default() += 1,
            _ => {}
        }
    }
    let mut lost = 0;
    for (&id, kind) in expected {
        assert_eq!(
            ends.get(&id),
            Some(&1),
            "{kind} was settled more or less than once"
        );
        let job = queue.job(id).await.expect("it is there");
        let attempts = queue.attempts(id).await.expect("it is there");
        assert_eq!(attempts.len(), starts[&id], "every start has its end");
        let counted: Vec<_> = attempts.iter().filter(|attempt| attempt.counted).collect();
        assert_eq!(counted.len(), job.attempts as usize);
        let numbers: BTreeSet<u32> = counted.iter().map(|attempt| attempt.attempt).collect();
        assert_eq!(numbers, (1..=job.attempts).collect());
        let ours = |status: &str| attempts.iter().filter(|one| one.status == status).count();
        assert_eq!(ours("success"), usize::from(kind != "dead"));
        assert!(ours("failed") <= 1);
        lost += ours("worker_lost");
        let result = queue.result(id).await.expect("it is there");
        assert_eq!(result.is_some(), kind != "dead");
    }
    println!(
        "{} jobs, {lost} attempts lost with their workers",
        expected.len()
    );
    let statistics = queue.statistics(168).await.expect("statistics");
    let mut counts: BTreeMap<JobStatus, u64> = BTreeMap::new();
    for status in JobStatus::ALL {
        let mut filter = Filter {
            status: vec![*status],
            limit: Some(1_000),
            ..Filter::default()
        };
        loop {
            let page = queue.list(&filter).await.expect("a list");
            *counts.entry(*status).or_default() += page.items.len() as u64;
            filter.cursor = page.next;
            if page.next.is_none() {
                break;
            }
        }
    }
    assert_eq!(statistics.by_status, counts);
    assert_eq!(statistics.total, expected.len() as u64);
    lost
}
