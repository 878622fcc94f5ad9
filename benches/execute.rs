//! What `Host::execute` adds to a bare wasmtime call: the same component, the same engine settings,
//! a fresh instance each time, on one thread and on two; what the skill's declarations and a policy that
//! grants to others add, where nothing is granted; and what all guards of the policy add.
//!
//! `cargo bench --bench execute`, with `-- --smoke` to see only whether it works.

#[path = "support/bare.rs"]
mod bare;
mod support;

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::skillhost::audit::{Audit, AuditSettings};
use ::skillhost::policy::guard::Guards;
use ::skillhost::policy::{Approving, MemoryApprovals};
use ::skillhost::{Control, Execute, ExecutionRequest, Host, Skill, Status};
use bare::Stops;
use wasmtime::component::Component;

const INPUT: &str = r#"{"text":"to be"}"#;

fn main() -> ExitCode {
    let path = support::guest();
    let host = Host::builder().build().expect("the host can be set up");
    let skill = host.load_blocking(&path).expect("the guest loads");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = guarded(&path, folder.path());
    let (granting, declaring) = granting(&path, folder.path());
    let engine = bare::engine(Stops::ByFuel, true);
    let component = Component::from_file(&engine, &path).expect("the guest compiles");
    let pre = bare::link(&engine, &component);
    let input = INPUT.to_owned();

    // One thread: both in turn, a batch each, so that a slower machine is slower for both.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let (batches, batch) = (support::rounds(200), 100);
    let mut ours = Vec::new();
    let mut floor = Vec::new();
    let mut with_grants = Vec::new();
    let mut with_guards = Vec::new();
    runtime.block_on(async {
        for _ in 0..batches {
            let began = Instant::now();
            for _ in 0..batch {
                black_box(bare::call(&engine, &pre, "echo", &input).await);
            }
            floor.push(began.elapsed() / batch);
            let began = Instant::now();
            for _ in 0..batch {
                execute(&host, &skill).await;
            }
            ours.push(began.elapsed() / batch);
            let began = Instant::now();
            for _ in 0..batch {
                execute(&granting, &declaring).await;
            }
            with_grants.push(began.elapsed() / batch);
            let began = Instant::now();
            for _ in 0..batch {
                execute_guarded(&*guarded, &skill).await;
            }
            with_guards.push(began.elapsed() / batch);
        }
    });
    let (grants_added, grants_added_least) = added_us(&with_grants, &ours);
    let (ours, floor) = (support::median(&ours), support::median(&floor));
    let added = ours.saturating_sub(floor);
    let with_guards = support::median(&with_guards);
    let guards_added = with_guards.saturating_sub(ours);
    println!(
        "one thread:  bare {} µs, execute {} µs, with guards {} µs",
        support::us(floor),
        support::us(ours),
        support::us(with_guards)
    );

    // Two threads: how many a second.
    let span = if support::smoke() {
        Duration::from_millis(20)
    } else {
        Duration::from_millis(500)
    };
    let mut ratios = Vec::new();
    let mut guard_ratios = Vec::new();
    let mut best = (0.0_f64, 0.0_f64, 0.0_f64);
    for _ in 0..if support::smoke() { 1 } else { 9 } {
        let floor = throughput(span, || {
            let (engine, pre, input) = (engine.clone(), pre.clone(), input.clone());
            async move || {
                black_box(bare::call(&engine, &pre, "echo", &input).await);
            }
        });
        let ours = throughput(span, || {
            let (host, skill) = (host.clone(), skill.clone());
            async move || execute(&host, &skill).await
        });
        let with_guards = throughput(span, || {
            let (guarded, skill) = (Arc::clone(&guarded), skill.clone());
            async move || execute_guarded(&*guarded, &skill).await
        });
        ratios.push(floor / ours);
        guard_ratios.push(ours / with_guards);
        best = (best.0.max(floor), best.1.max(ours), best.2.max(with_guards));
    }
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ratios.len() / 2];
    guard_ratios.sort_by(f64::total_cmp);
    let guard_ratio = guard_ratios[guard_ratios.len() / 2];
    println!(
        "two threads: bare {:.0}/s, execute {:.0}/s, with guards {:.0}/s",
        best.0, best.1, best.2
    );
    support::finish(serde_json::json!({
        "benchmark": "execute",
        "bare_us": support::us(floor),
        "execute_us": support::us(ours),
        "added_us": support::us(added),
        "bare_per_second_2": best.0.round(),
        "execute_per_second_2": best.1.round(),
        "ratio_2": support::ratio(ratio, 1.0),
        "grants_added_us": grants_added,
        "grants_added_least_us": grants_added_least,
        "guards_added_us": support::us(guards_added),
        "guards_per_second_2": best.2.round(),
        "guards_ratio_2": support::ratio(guard_ratio, 1.0),
        "target": {
            "added_us": support::at_most(3.0),
            "ratio_2": support::at_most(1.25),
            "grants_added_least_us": support::at_most(0.0),
            // What the median itself may be off by where nothing is added.
            "grants_added_us": support::at_most(0.1),
            "guards_added_us": support::at_most(3.0),
            "guards_ratio_2": support::at_most(1.11),
            // Of the settings of the engine, which both have.
            "bare_us": support::at_most(15.0),
            "bare_per_second_2": support::at_least(90_000.0),
        },
    }))
}

/// What was added, batch by batch: the median, and what it is at least, with 95 % confidence. Where nothing is,
/// which of the two is slower is chance, and that is 0 or less.
fn added_us(with: &[Duration], without: &[Duration]) -> (f64, f64) {
    let mut added: Vec<f64> = with
        .iter()
        .zip(without)
        .map(|(with, without)| with.as_secs_f64() - without.as_secs_f64())
        .collect();
    added.sort_by(f64::total_cmp);
    // Of so many, the place in order that the median is not before.
    let count = added.len() as f64;
    let least = ((count - 1.645 * count.sqrt()) / 2.0).floor().max(0.0);
    let us = |seconds: f64| (seconds * 1e8).round() / 100.0;
    (us(support::middle(&added)), us(added[least as usize]))
}

async fn execute(host: &Host, skill: &Skill) {
    let request =
        ExecutionRequest::new(skill.digest(), serde_json::json!({"text": "to be"})).tool("echo");
    let result = host.execute(request).await.expect("the host works");
    assert_eq!(result.status, Status::Success);
    black_box(result);
}

/// A host with a policy that grants to others, and the guest with a manifest that declares something of each
/// kind, of which nothing is granted.
fn granting(path: &Path, folder: &Path) -> (Host, Skill) {
    let folder = folder.join("declaring");
    std::fs::create_dir(&folder).expect("a folder can be made");
    std::fs::copy(path, folder.join("skill.wasm")).expect("a file can be copied");
    let manifest = r#"
        [grants]
        directories = [{ path = "/data", mode = "rw" }]
        http = ["https://*"]
        sockets = ["tcp://*:5432"]
        secrets = ["token=authorization:Bearer@https://*"]
        environment = ["TZ"]
        scratch = true
        storage = true
    "#;
    std::fs::write(folder.join("skill.toml"), manifest).expect("a file can be written");
    let policy = r#"
        [skills.another.grants]
        http = ["GET https://api.example"]
        environment = { TZ = "UTC" }
    "#;
    let host = Host::builder()
        .policy(policy.parse().expect("it is a policy"))
        .build()
        .expect("the host can be set up");
    let skill = host.load_blocking(&folder).expect("the guest loads");
    (host, skill)
}

/// A host of its own with all guards and an audit around it, and a policy that gives each of them something to do.
fn guarded(path: &Path, folder: &Path) -> Arc<dyn Execute> {
    let policy = r#"
        [general]
        ceilings = { memory_bytes = "256MiB", fuel = 20_000_000_000 }
        concurrency = { at_once = 500 }
        rates.per_second = { at_most = 1_000_000, burst = 1_000_000 }
        [each_tenant]
        concurrency = { at_once = 100 }
        rates.per_second = { at_most = 1_000_000, burst = 1_000_000 }
        [each_skill.breaker]
        [each_host.breaker]
        [[approval.rules]]
        skill = "another"
        action = "ask"
    "#;
    let policy = policy.parse().expect("it is a policy");
    let host = Host::builder()
        .policy(policy)
        .build()
        .expect("the host can be set up");
    host.load_blocking(path).expect("the guest loads");
    let audit = Audit::open(folder.join("audit"), AuditSettings::default());
    let audit = Arc::new(audit.expect("the audit can be opened"));
    let policy = host.current_policy().clone();
    let guards = Guards::new(policy.clone())
        .approval(move |inner| {
            let approvals = Arc::new(MemoryApprovals::default());
            Arc::new(Approving::new(inner, policy, approvals))
        })
        .audit(audit, false);
    guards.around(Arc::new(host))
}

async fn execute_guarded(guarded: &dyn Execute, skill: &Skill) {
    let request = ExecutionRequest::new(skill.digest(), serde_json::json!({"text": "to be"}))
        .tool("echo")
        .tenant("acme");
    let ended = guarded.execute(request, Control::default()).await;
    let result = ended.expect("the host works");
    assert_eq!(result.status, Status::Success);
    black_box(result);
}

/// How many rounds two threads make a second.
fn throughput<F: AsyncFnMut()>(span: Duration, worker: impl Fn() -> F + Sync) -> f64 {
    let began = Instant::now();
    let total: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut round = worker();
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .build()
                        .expect("a runtime");
                    runtime.block_on(async {
                        let mut count = 0_u64;
                        while began.elapsed() < span {
                            for _ in 0..50 {
                                round().await;
                            }
                            count += 50;
                        }
                        count
                    })
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum()
    });
    total as f64 / began.elapsed().as_secs_f64()
}
