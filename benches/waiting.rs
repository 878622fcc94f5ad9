//! What executions cost that only wait: a thousand of them in one process, each in a host call. How
//! much memory each holds, and how fast a trivial execution is beside them.
//!
//! `cargo bench --bench waiting`, with `-- --smoke` to see only whether it works. The floor is as
//! many instances of a bare wasmtime, waiting in the same call. Each of the two is measured in a
//! process of its own, so that neither finds memory that the other has left behind.

#[path = "support/bare.rs"]
mod bare;
mod support;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::skillhost::{Control, Event, ExecutionRequest, Host, LimitOverrides, Skill, Status};
use bare::{Bare, SkillPre, Stops};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use wasmtime::Engine;
use wasmtime::component::Component;

/// For how long the guests mean to wait. Nobody lets them.
const SECONDS: u64 = 60;

fn main() -> ExitCode {
    let argument = |name: &str| std::env::args().any(|argument| argument == name);
    let path = support::guest();
    if argument("--ours") {
        println!("{}", ours(&path));
    } else if argument("--bare") {
        println!("{}", floor(&path));
    } else {
        return report(&support::again(&["--ours"]), &support::again(&["--bare"]));
    }
    ExitCode::SUCCESS
}

fn waiting() -> usize {
    if support::smoke() { 100 } else { 1_000 }
}

fn report(ours: &Value, bare: &Value) -> ExitCode {
    for (name, figures) in [("bare", bare), ("ours", ours)] {
        println!(
            "{name}: {} KiB each for {} waiting; trivial {} µs alone, {} µs beside them",
            figures["kib_each"],
            waiting(),
            figures["alone_us"],
            figures["beside_us"],
        );
    }
    println!("ours: all cancelled in {} ms", ours["cancel_ms"]);
    let to_bare = |name: &str| {
        let [ours, bare] = [ours, bare].map(|figures| figures[name].as_f64().unwrap_or(f64::NAN));
        support::round(ours / bare)
    };
    support::finish(json!({
        "benchmark": "waiting",
        "waiting": waiting(),
        "ours": ours,
        "bare": bare,
        "kib_to_bare": to_bare("kib_each"),
        "beside_to_bare": to_bare("beside_us"),
        "load": support::load(),
        "target": {
            "kib_to_bare": support::at_most(1.5),
            // As for the execution alone (`execute`).
            "beside_to_bare": support::at_most(1.5),
            "ours": {"cancel_ms": support::at_most(100.0)},
        },
    }))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime")
}

fn kib_each(before: u64) -> f64 {
    let more = support::resident_bytes().saturating_sub(before);
    support::round(more as f64 / 1024.0 / waiting() as f64)
}

/// The times of a trivial execution alone and beside the others, and the memory of the others.
#[derive(Default)]
struct Figures {
    alone: Vec<Duration>,
    beside: Vec<Duration>,
    ratios: Vec<f64>,
    cancel: Vec<Duration>,
    kib_each: f64,
}

impl Figures {
    /// Alone and then beside the others, which `crowd` starts.
    fn round<C>(&mut self, mut trivial: impl FnMut(), crowd: impl FnOnce() -> C) -> C {
        const TIMES: usize = 1_000;
        let alone = support::times(TIMES, &mut trivial);
        let resident = support::resident_bytes();
        let crowd = crowd();
        if self.ratios.is_empty() {
            self.kib_each = kib_each(resident);
        }
        let beside = support::times(TIMES, &mut trivial);
        let ratio = support::median(&beside).as_secs_f64() / support::median(&alone).as_secs_f64();
        self.alone.extend(alone);
        self.beside.extend(beside);
        self.ratios.push(ratio);
        crowd
    }

    fn json(&self) -> Value {
        json!({
            "kib_each": self.kib_each,
            "alone_us": support::us(support::median(&self.alone)),
            "beside_us": support::us(support::median(&self.beside)),
            "beside_p99_us": support::us(support::quantile(&self.beside, 0.99)),
            "beside_to_alone": support::round(support::middle(&self.ratios)),
            "cancel_ms": (!self.cancel.is_empty())
                .then(|| support::ms(support::median(&self.cancel))),
        })
    }
}

fn ours(path: &Path) -> Value {
    // One slot more than there are waiting: for the trivial one.
    let host = Host::builder()
        .concurrency(1_001)
        .build()
        .expect("the host can be set up");
    let skill = host.load_blocking(path).expect("the guest loads");
    let runtime = runtime();
    let trivial = || {
        let result = runtime.block_on(host.execute(request(&skill, "echo")));
        assert_eq!(result.expect("the host works").status, Status::Success);
    };
    let mut figures = Figures::default();
    for _ in 0..support::rounds(10) {
        let token = CancellationToken::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let crowd = figures.round(trivial, || {
            let crowd: Vec<_> = (0..waiting())
                .map(|_| {
                    let begun = Arc::clone(&begun);
                    let control =
                        Control::default()
                            .cancellation(token.clone())
                            .observer(Arc::new(move |_, event: &Event<'_>| {
                                if matches!(event, Event::Started) {
                                    begun.fetch_add(1, Ordering::Relaxed);
                                }
                            }));
                    let (host, request) = (host.clone(), request(&skill, "wait"));
                    runtime.spawn(async move { host.execute_with(request, control).await })
                })
                .collect();
            settle(&begun);
            crowd
        });
        let began = Instant::now();
        token.cancel();
        for task in crowd {
            let result = runtime.block_on(task).expect("no panic");
            assert_eq!(result.expect("the host works").status, Status::Cancelled);
        }
        figures.cancel.push(began.elapsed());
    }
    figures.json()
}

fn request(skill: &Skill, tool: &str) -> ExecutionRequest {
    let limits = LimitOverrides {
        wall_time: Some(Duration::from_secs(2 * SECONDS)),
        ..Default::default()
    };
    ExecutionRequest::new(skill.digest(), json!({ "n": SECONDS }))
        .tool(tool)
        .limits(limits)
}

fn floor(path: &Path) -> Value {
    let engine = bare::engine(Stops::ByFuel, true);
    let component = Component::from_file(&engine, path).expect("the guest compiles");
    let pre: SkillPre<Bare> = bare::link(&engine, &component);
    let input = format!("{{\"n\":{SECONDS}}}");
    let runtime = runtime();
    let trivial = || {
        runtime.block_on(bare::call(&engine, &pre, "echo", &input));
    };
    let mut figures = Figures::default();
    // The pool has a thousand slots, and the trivial call needs one.
    let waiting = waiting() - 1;
    for _ in 0..support::rounds(10) {
        let begun = Arc::new(AtomicUsize::new(1));
        let crowd = figures.round(trivial, || {
            let crowd: Vec<_> = (0..waiting)
                .map(|_| {
                    let begun = Arc::clone(&begun);
                    let (engine, pre, input): (Engine, _, _) =
                        (engine.clone(), pre.clone(), input.clone());
                    runtime.spawn(async move {
                        begun.fetch_add(1, Ordering::Relaxed);
                        bare::call(&engine, &pre, "wait", &input).await
                    })
                })
                .collect();
            settle(&begun);
            crowd
        });
        for task in crowd {
            task.abort();
            assert!(runtime.block_on(task).is_err(), "it did not wait");
        }
    }
    figures.json()
}

/// Until all have begun, and had the time to come to where they wait.
fn settle(begun: &AtomicUsize) {
    while begun.load(Ordering::Relaxed) < waiting() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(100));
}
