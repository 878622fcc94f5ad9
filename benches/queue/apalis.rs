//! Another queue on this machine in the same run: `apalis-sqlite`, whose SQLite does not link beside
//! ours. Its part is a program of its own, in `benches/apalis`, which `APALIS` names.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skillhost::queue::{JobStatus, NewJob, Worker};
use tokio::runtime::Runtime;

use super::through::BATCH;
use super::{Place, nothing, support};

/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_millis(1);

/// Where its program is, if that was said.
pub fn program() -> Option<PathBuf> {
    std::env::var_os("APALIS").map(PathBuf::from)
}

/// Jobs a second: queued and worked off, ours and of each of its settings, with so many queued; the
/// ratios are ours to its, the middle of those of each round.
pub fn measure(runtime: &Runtime, program: &std::path::Path) -> Value {
    let rounds = if support::smoke() { 1 } else { 5 };
    let mut figures = serde_json::Map::new();
    for jobs in [1_000, 20_000] {
        let count = support::rounds(jobs);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(runtime.block_on(queued_and_worked_off(count)));
            theirs.push(run(program, count));
        }
        let figure = figure(&ours, &theirs);
        println!("apalis: {count}: {figure}");
        // By what was run, which is less where it is only seen whether it works.
        figures.insert(count.to_string(), figure);
    }
    Value::Object(figures)
}

fn figure(ours: &[Value], theirs: &[Value]) -> Value {
    let mut figure = serde_json::Map::new();
    let rates = ["queued_per_second", "worked_off_per_second"];
    let middle = |rate: &dyn Fn(usize) -> f64| {
        let values: Vec<f64> = (0..ours.len()).map(rate).collect();
        support::middle(&values)
    };
    let of = |value: &Value| value.as_f64().expect("a number");
    for rate in rates {
        let ours = middle(&|round| of(&ours[round][rate]));
        figure.insert(format!("ours_{rate}"), ours.into());
    }
    for name in theirs[0].as_object().expect("an object").keys() {
        for rate in rates {
            let its = middle(&|round| of(&theirs[round][name][rate]));
            let ratio = middle(&|round| of(&ours[round][rate]) / of(&theirs[round][name][rate]));
            figure.insert(format!("{name}_{rate}"), its.into());
            let short = rate.trim_end_matches("_per_second");
            figure.insert(
                format!("{name}_{short}_ratio"),
                support::round(ratio).into(),
            );
        }
    }
    Value::Object(figure)
}

/// Its own part, which prints one line of JSON.
fn run(program: &std::path::Path, count: usize) -> Value {
    let output = Command::new(program)
        .arg(count.to_string())
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("APALIS names {}: {error}", program.display()));
    assert!(output.status.success(), "{} failed", program.display());
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// The same with ours: all is queued, and then worked off.
async fn queued_and_worked_off(count: usize) -> Value {
    let place = Place::sqlite();
    let queue = place.queue().await;
    let began = Instant::now();
    let mut left = count;
    while left > 0 {
        let part = left.min(BATCH);
        let jobs = (0..part).map(|_| NewJob::custom("nothing", Value::Null));
        queue.submit_all(jobs.collect()).await.expect("submitted");
        left -= part;
    }
    let queued = count as f64 / began.elapsed().as_secs_f64();
    let worker = Worker::builder(queue.clone())
        .concurrency(1024)
        .handler("nothing", nothing);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let began = Instant::now();
    let working = tokio::spawn(worker.build().run(async {
        // An error is the end, too.
        let _ = stopped.await;
    }));
    loop {
        tokio::time::sleep(LOOK).await;
        let statistics = queue.statistics(1).await.expect("statistics");
        let done = statistics.by_status[&JobStatus::Completed];
        if usize::try_from(done) == Ok(count) {
            break;
        }
    }
    let worked_off = count as f64 / began.elapsed().as_secs_f64();
    stop.send(()).expect("the worker works");
    working.await.expect("no panic").expect("the worker works");
    json!({"queued_per_second": queued.round(), "worked_off_per_second": worked_off.round()})
}
