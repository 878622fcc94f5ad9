//! Worker processes that are killed, again and again, while jobs come in.
//!
//! `SKILLHOST_CRASHES=200 cargo test --release --test queue crash` kills 200 of them; without that
//! it is 15. The processes are this program, started again.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use skillhost::queue::{
    Filter, HandlerFailure, JobEventKind, JobStatus, NewJob, Queue, RetryPolicy, Task, Worker,
};

use crate::place::events;

/// Says to a process of ours that it is to work on this database.
const WORKS: &str = "SKILLHOST_TEST_WORKS_ON";
/// Jobs that are submitted for each process that is killed.
const JOBS: usize = 60;
/// So many attempts that a job outlives every death; only what fails by itself is dead.
const ATTEMPTS: u32 = 1_000;

fn crashes() -> usize {
    match std::env::var("SKILLHOST_CRASHES") {
        Ok(count) => count.parse().expect("SKILLHOST_CRASHES is a number"),
        Err(_) => 15,
    }
}

/// Does what its payload says: fails for good, fails the first time, or succeeds.
async fn work(task: Task) -> Result<serde_json::Value, HandlerFailure> {
    // Some take a while, so that a process that is killed has some of them.
    if task.payload["slow"] == json!(true) {
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    match task.payload["kind"].as_str() {
        Some("dead") => Err(HandlerFailure::permanent("as it should")),
        Some("twice") if task.attempt == 1 => Err(HandlerFailure::retryable("once more")),
        _ => Ok(task.payload),
    }
}

/// This test is a worker where the variable says so; else it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_works() {
    let Some(path) = std::env::var_os(WORKS) else {
        return;
    };
    let queue = Queue::open(PathBuf::from(path)).expect("it can be opened");
    println!("\nworks");
    let worker = Worker::builder(queue)
        .concurrency(8)
        .lease(Duration::from_secs(1))
        .handler("work", work)
        .build();
    worker.run(pending()).await.expect("it works");
}

/// A worker process, killed at the latest when this is dropped.
struct Process(Child);

impl Process {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("it is running"))
            .args(["--exact", "--nocapture", "crash::a_process_that_works"])
            .env(WORKS, path)
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

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_however_often_workers_are_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    let queue = Queue::open(&path).expect("it can be opened");
    let mut expected: BTreeMap<uuid::Uuid, String> = BTreeMap::new();
    let mut workers = [Process::start(&path), Process::start(&path)];
    for crash in 0..crashes() {
        let jobs = batch();
        for (job, submitted) in jobs.iter().zip(
            queue
                .submit_all(jobs.clone())
                .await
                .expect("it is acknowledged"),
        ) {
            assert_eq!(job.id, submitted.id);
            let skillhost::queue::Work::Custom { payload, .. } = &job.work else {
                unreachable!("they are custom");
            };
            let kind = payload["kind"].as_str().expect("it has one").to_owned();
            expected.insert(job.id, kind);
        }
        // At some moment while these are done: after so many more were.
        let mut subscription = queue.subscribe(queue.last_event().await.expect("events"));
        let mut left = 7 * crash % 40;
        while left > 0 {
            let batch = tokio::time::timeout(Duration::from_millis(500), subscription.next());
            match batch.await {
                Ok(batch) => left = left.saturating_sub(batch.expect("events").events.len()),
                // All is done, or waits for a lease to expire.
                Err(_) => break,
            }
        }
        workers[crash % 2] = Process::start(&path);
    }
    for (&id, kind) in &expected {
        let ended = tokio::time::timeout(Duration::from_secs(120), queue.wait(id)).await;
        let job = ended.expect("it ends").expect("it is there");
        let status = if kind == "dead" {
            JobStatus::Dead
        } else {
            JobStatus::Completed
        };
        assert_eq!(job.status, status, "{kind}: {:?}", job.cause);
    }
    drop(workers);
    check(&queue, &expected).await;
    drop(queue);
    let database = rusqlite::Connection::open(&path).expect("it can be opened");
    let verdict: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it answers");
    assert_eq!(verdict, "ok");
}

/// That attempts add up, each job was settled once, and counters are those of a recount.
async fn check(queue: &Queue, expected: &BTreeMap<uuid::Uuid, String>) {
    let log = events(queue).await;
    for (number, event) in (1..).zip(&log) {
        assert_eq!(event.id, number, "there is a gap");
    }
    let mut ends: BTreeMap<uuid::Uuid, usize> = BTreeMap::new();
    let mut starts: BTreeMap<uuid::Uuid, usize> = BTreeMap::new();
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
            *counts.entry(*status).or_default() += page.len() as u64;
            let Some(last) = page.last() else { break };
            filter.before = Some(last.id);
        }
    }
    assert_eq!(statistics.by_status, counts);
    assert_eq!(statistics.total, expected.len() as u64);
}
