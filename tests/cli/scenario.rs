//! The whole of it: a thousand jobs, of which a tenth fail, and two workers, of which one is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use skillhost::queue::{Filter, Job, JobEvent, JobEventKind, JobStatus, Priority, Queue};
use uuid::Uuid;

use crate::harness::Place;

const JOBS: usize = 1_000;
/// How many of them fail in each of the ways.
const EACH: usize = 20;
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// How many a worker does at once.
const AT_ONCE: usize = 4;

/// A job, and how it is to end: its cause, attempts that are used up, and what is said of it.
struct Wanted {
    line: Value,
    dead: Option<(&'static str, u32, &'static str)>,
}

fn wanted(number: usize) -> Wanted {
    let failing = number % 10 == 7;
    let stats = |extra: Value| {
        let mut line = json!({"skill": "text-stats", "input": {"text": "to be or not to be"}});
        merge(&mut line, extra);
        line
    };
    let behaviour = |tool: &str, extra: Value| {
        let mut line = json!({"skill": "behaviours.wasm", "tool": tool});
        merge(&mut line, extra);
        line
    };
    // As the table of retries has them: at once, where the same try would end the same way; after as
    // many attempts as there are, where another may do.
    let (mut line, dead) = match (failing, number / 10 % (JOBS / 10 / EACH)) {
        (true, 0) => (
            stats(json!({"fuel": 1_000})),
            Some(("fuel", 1, "the skill used up its fuel")),
        ),
        (true, 1) => (
            behaviour(
                "fail",
                json!({"input": {"message": "no such order", "code": "c"}}),
            ),
            Some(("skill_error", 1, "no such order")),
        ),
        (true, 2) => (
            behaviour("panic", json!({"input": {"message": "m"}, "attempts": 2})),
            Some(("trap", 2, "trap")),
        ),
        (true, 3) => (
            behaviour(
                "spin",
                json!({"timeout": "50ms", "fuel": "1000G", "attempts": 1}),
            ),
            Some(("timeout", 1, "time")),
        ),
        (true, _) => (
            behaviour("answer", json!({"input": {"json": "no JSON"}})),
            Some(("invalid_output", 1, "")),
        ),
        // Some take a while, so that a worker that is killed has some of them.
        (false, _) if number.is_multiple_of(10) => {
            (behaviour("sleep", json!({"input": {"ms": 50}})), None)
        }
        (false, _) => (stats(json!({})), None),
    };
    let priority = Priority::ALL[number % 4];
    // Not the same to each: one has three times as many as another.
    let tenant = TENANTS[[0, 0, 0, 1, 1, 2][number / 4 % 6]];
    merge(&mut line, json!({"priority": priority, "tenant": tenant}));
    Wanted { line, dead }
}

fn merge(line: &mut Value, more: Value) {
    let (Value::Object(line), Value::Object(more)) = (line, more) else {
        unreachable!("they are objects");
    };
    line.extend(more);
}

/// A worker process whose output is read all the time.
struct Worker(Child);

impl Worker {
    fn start(place: &Place) -> Self {
        let at_once = AT_ONCE.to_string();
        let mut child = place
            .command(["worker", "--lease", "1s", "--concurrency", &at_once])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut lines = lines.map_while(Result::ok);
        assert!(lines.next().expect("it starts").starts_with("working on"));
        std::thread::spawn(move || lines.for_each(drop));
        Worker(child)
    }

    /// Whether it has a job at this moment.
    async fn is_busy(&self, queue: &Queue) -> bool {
        let statistics = queue.statistics(1).await.expect("statistics");
        let name = format!(":{}", self.0.id());
        let mut workers = statistics.workers.iter();
        let Some(ours) = workers.find(|worker| worker.name.ends_with(&name)) else {
            return false;
        };
        let running = jobs(queue, &[JobStatus::Running]).await;
        running.iter().any(|job| job.worker == Some(ours.id))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn jobs(queue: &Queue, status: &[JobStatus]) -> Vec<Job> {
    let filter = Filter {
        status: status.to_vec(),
        limit: Some(2 * JOBS),
        ..Filter::default()
    };
    queue.list(&filter).await.expect("a list").items
}

async fn events(queue: &Queue) -> Vec<JobEvent> {
    let (mut all, mut cursor) = (Vec::new(), 0);
    loop {
        let batch = queue.events(cursor, 1_000).await.expect("events");
        all.extend(batch.events);
        cursor = batch.cursor;
        if !batch.has_more {
            return all;
        }
    }
}

fn submit(place: &Place, wanted: &[Wanted]) -> Vec<Uuid> {
    let lines: Vec<String> = wanted.iter().map(|one| one.line.to_string()).collect();
    place.write("jobs.jsonl", lines.join("\n"));
    let output = place.output(["jobs", "submit", "--from", "jobs.jsonl"]);
    assert!(output.status.success(), "{}", place.said(&output));
    let stdout = String::from_utf8(output.stdout).expect("it is text");
    stdout
        .lines()
        .map(|line| line.parse().expect("it is an id"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_jobs_end_as_they_should_though_a_worker_is_killed() {
    let place = Place::with_behaviours();
    place.add_example("text-stats");
    let installed = place.output(["install", "text-stats"]);
    assert!(installed.status.success(), "{}", place.said(&installed));
    let all: Vec<Wanted> = (0..JOBS).map(wanted).collect();
    let ids = submit(&place, &all);
    let queue = Queue::open(place.path("home/queue.db")).expect("it can be opened");

    // Two workers, of which one is killed in the middle.
    let killed = Worker::start(&place);
    let other = Worker::start(&place);
    let settled = async |count: usize| {
        let mut subscription = queue.subscribe(0);
        let mut ended = 0;
        while ended < count {
            let batch = subscription.next().await.expect("events");
            let is_end = |event: &&JobEvent| {
                use JobEventKind::{Completed, Dead};
                matches!(event.kind, Completed | Dead)
            };
            ended += batch.events.iter().filter(is_end).count();
        }
    };
    settled(JOBS / 5).await;
    while !killed.is_busy(&queue).await {}
    drop(killed);
    settled(JOBS).await;

    ended_as_they_should(&queue, &ids, &all).await;
    in_order(&queue, &ids).await;
    explained(&place, &ids, &all);
    replayed(&place, &queue).await;
    drop(other);
}

/// That each ended once and as the table says, and that it cost an attempt where its worker was killed.
async fn ended_as_they_should(queue: &Queue, ids: &[Uuid], all: &[Wanted]) {
    let found = jobs(queue, &[]).await;
    assert_eq!(found.len(), JOBS);
    let by_id: BTreeMap<Uuid, Job> = found.into_iter().map(|job| (job.id, job)).collect();
    let mut lost = 0;
    for (id, wanted) in ids.iter().zip(all) {
        let job = &by_id[id];
        let attempts = queue.attempts(*id).await.expect("it is there");
        let of_worker = attempts.iter().filter(|one| one.status == "worker_lost");
        let of_worker = of_worker.count() as u32;
        lost += of_worker;
        match wanted.dead {
            None => assert_eq!(job.status, JobStatus::Completed, "{job:?}"),
            Some((cause, used, _)) => {
                assert_eq!(job.status, JobStatus::Dead, "{job:?}");
                // The one attempt that there was may have gone with its worker.
                let gone = job.cause.as_deref() == Some("worker_lost");
                assert!(
                    job.cause.as_deref() == Some(cause) || (gone && of_worker > 0),
                    "{cause}: {job:?}"
                );
                let most = job.max_attempts.min(used + of_worker);
                assert_eq!(job.attempts, most, "{cause}: {attempts:?}");
            }
        }
    }
    assert!(lost > 0, "nothing was running when the worker was killed");
}

/// That of each tenant the more urgent were started first, and of those the ones that came first; and
/// that tenants took turns as long as they had any.
async fn in_order(queue: &Queue, ids: &[Uuid]) {
    let place_of: BTreeMap<Uuid, usize> = ids.iter().zip(0..).map(|(id, at)| (*id, at)).collect();
    let found = jobs(queue, &[]).await;
    let by_id: BTreeMap<Uuid, &Job> = found.iter().map(|job| (job.id, job)).collect();
    let mut started = BTreeSet::new();
    let mut first: Vec<Uuid> = Vec::new();
    for event in events(queue).await {
        if event.kind == JobEventKind::Started && started.insert(event.job) {
            first.push(event.job);
        }
    }
    assert_eq!(first.len(), JOBS);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for tenant in TENANTS {
        let theirs = first
            .iter()
            .filter(|id| by_id[id].tenant.as_deref() == Some(tenant));
        let ranks: Vec<_> = theirs
            .map(|id| (std::cmp::Reverse(by_id[id].priority), place_of[id]))
            .collect();
        assert!(ranks.is_sorted(), "{tenant}: {ranks:?}");
        counts.insert(tenant, ranks.len());
    }
    let fewest = *counts.values().min().expect("there are tenants");
    let mut had: BTreeMap<&str, usize> = TENANTS.iter().map(|tenant| (*tenant, 0)).collect();
    for id in &first[..TENANTS.len() * (fewest - AT_ONCE)] {
        let tenant = by_id[id].tenant.as_deref().expect("it has one");
        *had.get_mut(tenant).expect("it is one of them") += 1;
        let (least, most) = (had.values().min(), had.values().max());
        let apart = most.expect("some") - least.expect("some");
        // Less than what one worker asks for at a time.
        assert!(apart <= AT_ONCE, "{had:?}");
    }
}

/// That the list of dead jobs says of each why.
fn explained(place: &Place, ids: &[Uuid], all: &[Wanted]) {
    let output = place.output(["jobs", "dead", "list", "--limit", "1000"]);
    let said = String::from_utf8(output.stdout).expect("it is text");
    let rows: Vec<&str> = said.lines().skip(1).collect();
    let dead = all.iter().filter(|one| one.dead.is_some()).count();
    assert_eq!(rows.len(), dead);
    for (id, wanted) in ids.iter().zip(all) {
        let Some((cause, _, why)) = wanted.dead else {
            continue;
        };
        let text = id.to_string();
        let row = rows.iter().find(|row| row.starts_with(&text[28..]));
        let row = row.unwrap_or_else(|| panic!("{id} is not listed"));
        let explained = (row.contains(cause) && row.contains(why)) || row.contains("worker");
        assert!(explained, "{row}");
    }
}

/// That those that ran out of fuel are completed once they may use more.
async fn replayed(place: &Place, queue: &Queue) {
    let before = jobs(queue, &[JobStatus::Dead]).await;
    let of_fuel = |job: &&Job| job.cause.as_deref() == Some("fuel");
    let count = before.iter().filter(of_fuel).count();
    assert_eq!(count, EACH, "what lost its worker was tried again");
    let output = place.output([
        "jobs", "dead", "replay", "--all", "--cause", "fuel", "--fuel", "1G", "--json",
    ]);
    assert!(output.status.success(), "{}", place.said(&output));
    let replayed: Vec<Value> = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(replayed.len(), count);
    for one in replayed {
        let id = one["replayed_as"].as_str().expect("it is replayed");
        let ended = queue.wait(id.parse().expect("it is an id")).await;
        let job = ended.expect("it is there");
        assert_eq!(job.status, JobStatus::Completed, "{job:?}");
        let result = queue.result(job.id).await.expect("it is there");
        assert_eq!(result.expect("it is kept")["output"]["words"], 6);
    }
}
