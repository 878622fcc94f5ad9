//! How many jobs a queue in a SQLite file does in a second, from submission to settlement, beside
//! bare `rusqlite` writing the same rows in batches of the same size.
//!
//! `cargo bench --bench queue`, with `-- --smoke` to see only whether it works.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::skillhost::queue::{HandlerFailure, NewJob, Queue, Task, Worker};
use ::skillhost::{ExecutionRequest, Host};

/// How many jobs are submitted at a time.
const BATCH: usize = 512;

async fn nothing(_: Task) -> Result<serde_json::Value, HandlerFailure> {
    Ok(serde_json::Value::Null)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let count = support::rounds(200_000).next_multiple_of(BATCH);
    let (mut noop, mut executed) = (Vec::new(), Vec::new());
    for _ in 0..if support::smoke() { 1 } else { 3 } {
        noop.push(runtime.block_on(through(count, None)));
        let host = runtime.block_on(host());
        executed.push(runtime.block_on(through(count / 2, Some(host))));
    }
    println!("no-op: {noop:?}, executed: {executed:?}");
}

async fn host() -> (Host, ExecutionRequest) {
    let host = Host::builder().build().expect("the host can be set up");
    let skill = host.load(support::guest()).await.expect("the guest loads");
    let request =
        ExecutionRequest::new(skill.digest(), serde_json::json!({"text": "to be"})).tool("echo");
    (host, request)
}

/// Jobs a second, from the first submission to the last settlement.
async fn through(count: usize, host: Option<(Host, ExecutionRequest)>) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let queue = Queue::open(folder.path().join("queue.db")).expect("a queue");
    let mut worker = Worker::builder(queue.clone())
        .concurrency(1024)
        .handler("nothing", nothing);
    let mut job = NewJob::custom("nothing", serde_json::Value::Null);
    if let Some((host, request)) = host {
        worker = worker.execute(Arc::new(host));
        job = NewJob::execution(request);
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let working = tokio::spawn(worker.build().run(async {
        let _ = stopped.await;
    }));
    let began = Instant::now();
    let submitting = {
        let queue = queue.clone();
        tokio::spawn(async move {
            for _ in 0..count / BATCH {
                let jobs = (0..BATCH).map(|_| NewJob {
                    id: uuid::Uuid::now_v7(),
                    ..job.clone()
                });
                queue.submit_all(jobs.collect()).await.expect("submitted");
            }
        })
    };
    submitting.await.expect("no panic");
    let submitted = began.elapsed();
    loop {
        let statistics = queue.statistics(1).await.expect("statistics");
        let done = statistics.by_status[&::skillhost::queue::JobStatus::Completed];
        if done as usize == count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!(
        "submitted in {submitted:?}, done in {:?}: {rate:.0}/s",
        began.elapsed()
    );
    let _ = stop.send(());
    println!("{:?}", working.await.expect("no panic").expect("works"));
    rate
}
