//! Jobs a second, from the first submission to the last settlement.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use skillhost::queue::{Keep, NewJob, Worker};
use skillhost::{ExecutionRequest, Host};
use tokio::runtime::Runtime;

use super::postgres::Postgres;
use super::{Place, floor, nothing, support};

/// How many jobs are submitted at a time.
pub const BATCH: usize = 512;

pub fn measure(runtime: &Runtime, server: &Postgres) -> Value {
    let rounds = if support::smoke() { 1 } else { 5 };
    let count = support::rounds(102_400).next_multiple_of(BATCH);
    let few = support::rounds(25_600).next_multiple_of(BATCH);
    let host = runtime.block_on(host());
    let (mut ours, mut bare, mut executed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut on_postgres, mut bare_postgres) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(floor::sqlite(count));
        ours.push(runtime.block_on(through(Place::sqlite(), count, None)));
        executed.push(runtime.block_on(through(Place::sqlite(), count / 2, Some(&host))));
        bare_postgres.push(runtime.block_on(floor::postgres(server, few)));
        let place = runtime.block_on(Place::postgres(server));
        on_postgres.push(runtime.block_on(through(place, few, None)));
    }
    let ratio = |ours: &[f64], bare: &[f64]| {
        let each: Vec<f64> = ours
            .iter()
            .zip(bare)
            .map(|(ours, bare)| ours / bare)
            .collect();
        support::ratio(middle(&each), 1.0)
    };
    let figures = json!({
        "sqlite_per_second": middle(&ours).round(),
        "sqlite_bare_per_second": middle(&bare).round(),
        "sqlite_ratio": ratio(&ours, &bare),
        "sqlite_executed_per_second": middle(&executed).round(),
        "postgres_per_second": middle(&on_postgres).round(),
        "postgres_bare_per_second": middle(&bare_postgres).round(),
        "postgres_ratio": ratio(&on_postgres, &bare_postgres),
        "target": {
            "sqlite_per_second": support::at_least(40_000.0),
            "sqlite_ratio": support::at_least(0.7),
            "sqlite_executed_per_second": support::at_least(20_000.0),
            "postgres_per_second": support::at_least(5_000.0),
        },
    });
    println!("through: {figures}");
    figures
}

fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn host() -> (Arc<Host>, ExecutionRequest) {
    let host = Host::builder().build().expect("the host can be set up");
    let skill = host.load(support::guest()).await.expect("the guest loads");
    let request = ExecutionRequest::new(skill.digest(), json!({"text": "to be"})).tool("echo");
    (Arc::new(host), request)
}

async fn through(place: Place, count: usize, host: Option<&(Arc<Host>, ExecutionRequest)>) -> f64 {
    let queue = place.queue().await;
    let mut worker = Worker::builder(queue.clone())
        .concurrency(1024)
        .keep(Keep {
            completed: None,
            dead: None,
            events: None,
        })
        .handler("nothing", nothing);
    let mut job = NewJob::custom("nothing", Value::Null);
    if let Some((host, request)) = host {
        worker = worker.execute(host.clone());
        job = NewJob::execution(request.clone());
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let working = tokio::spawn(worker.build().run(async {
        // An error is the end, too.
        let _ = stopped.await;
    }));
    let mut last = None;
    let began = Instant::now();
    for _ in 0..count / BATCH {
        let jobs: Vec<NewJob> = (0..BATCH)
            .map(|_| NewJob {
                id: uuid::Uuid::now_v7(),
                ..job.clone()
            })
            .collect();
        last = queue.submit_all(jobs).await.expect("submitted").pop();
    }
    // In one line: once the last has ended, few are left.
    queue.wait(last.expect("a job").id).await.expect("it ends");
    loop {
        let statistics = queue.statistics(1).await.expect("statistics");
        let done = statistics.by_status[&skillhost::queue::JobStatus::Completed];
        if usize::try_from(done) == Ok(count) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    stop.send(()).expect("the worker works");
    working.await.expect("no panic").expect("the worker works");
    rate
}
