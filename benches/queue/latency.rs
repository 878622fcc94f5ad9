//! From submission to start on an idle queue.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use skillhost::queue::{HandlerFailure, NewJob, Queue, Task, Worker};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::postgres::Postgres;
use super::{Place, support};

/// How long the queue is left idle before each submission.
const IDLE: Duration = Duration::from_millis(30);

pub fn measure(runtime: &Runtime, server: &Postgres) -> Value {
    let count = support::rounds(300);
    let mut figures = serde_json::Map::new();
    for (name, place) in [
        ("sqlite", Place::sqlite()),
        ("postgres", runtime.block_on(Place::postgres(server))),
    ] {
        let within = runtime.block_on(delays(&place, count, false));
        let between = runtime.block_on(delays(&place, count, true));
        figures.insert(format!("{name}_p50_ms"), quantile(&within, 0.5));
        figures.insert(format!("{name}_p99_ms"), quantile(&within, 0.99));
        figures.insert(format!("{name}_between_p50_ms"), quantile(&between, 0.5));
        figures.insert(format!("{name}_between_p99_ms"), quantile(&between, 0.99));
    }
    figures.insert("commit_p50_ms".to_owned(), quantile(&syncs(count), 0.5));
    let target: serde_json::Map<_, _> =
        ["sqlite", "sqlite_between", "postgres", "postgres_between"]
            .map(|name| (format!("{name}_p99_ms"), support::at_most(10.0)))
            .into_iter()
            .collect();
    figures.insert("target".to_owned(), target.into());
    println!("latency: {}", Value::Object(figures.clone()));
    Value::Object(figures)
}

/// The floor: what it takes to write a page and see it safe, of which each latency has two.
fn syncs(count: usize) -> Vec<f64> {
    use std::io::Write as _;
    let mut file = tempfile::tempfile().expect("a file");
    support::times(count, || {
        file.write_all(&[0; 4096]).expect("written");
        file.sync_data().expect("synced");
    })
    .iter()
    .map(Duration::as_secs_f64)
    .map(|seconds| seconds * 1_000.0)
    .collect()
}

fn quantile(delays: &[f64], part: f64) -> Value {
    let mut delays = delays.to_vec();
    delays.sort_by(f64::total_cmp);
    let rank = ((delays.len() as f64 * part).ceil() as usize).clamp(1, delays.len());
    json!((delays[rank - 1] * 100.0).round() / 100.0)
}

fn now_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is later");
    u64::try_from(since.as_micros()).expect("not that late")
}

/// Milliseconds from just before each submission to the start of its handler.
async fn delays(place: &Place, count: usize, between: bool) -> Vec<f64> {
    let queue = place.queue().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let handler = move |task: Task| {
        let started = started.clone();
        async move {
            let sent = task.payload.as_u64().unwrap_or_default();
            // Nobody listens any more once enough was heard.
            let _ = started.send((now_us().saturating_sub(sent)) as f64 / 1_000.0);
            Ok::<Value, HandlerFailure>(Value::Null)
        }
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = Worker::builder(queue.clone())
        .concurrency(4)
        .handler("mark", handler)
        .build();
    let working = tokio::spawn(worker.run(async {
        let _ = stopped.await;
    }));
    let submitting = if between {
        let (url, program) = (place.url(), std::env::current_exe().expect("a path"));
        tokio::task::spawn_blocking(move || {
            let status = std::process::Command::new(program)
                .args(["latency-submitter", &url, &count.to_string()])
                .status()
                .expect("this program can be started");
            assert!(status.success());
        })
    } else {
        tokio::spawn(async move { submit_to(&queue, count).await })
    };
    let mut delays = Vec::with_capacity(count);
    while delays.len() < count {
        delays.push(starts.recv().await.expect("it starts"));
    }
    submitting.await.expect("no panic");
    stop.send(()).expect("the worker works");
    working.await.expect("no panic").expect("the worker works");
    delays
}

/// What the other process does.
pub async fn submit(url: &str, count: usize) {
    let queue = Queue::at(url).await.expect("a queue");
    submit_to(&queue, count).await;
}

async fn submit_to(queue: &Queue, count: usize) {
    for _ in 0..count {
        let idle = Instant::now();
        while idle.elapsed() < IDLE {
            tokio::time::sleep(IDLE).await;
        }
        let job = NewJob::custom("mark", now_us().into());
        queue.submit(job).await.expect("submitted");
    }
}
