//! What the audit and the rules of approval add to an execution: the same host with and without them,
//! on one thread and on two.
//!
//! `cargo bench --bench audit`, with `-- --smoke` to see only whether it works.

mod support;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::skillhost::audit::{Audit, AuditSettings, Audited, verify};
use ::skillhost::policy::{Approving, CurrentPolicy, MemoryApprovals, Policy};
use ::skillhost::{Control, Execute, ExecutionRequest, Host, Skill, Status};

/// Rules of which none asks about the tool at hand.
const POLICY: &str = "
    [[approval.rules]]
    tenant = 'somebody'
    action = 'deny'
    [[approval.rules]]
    tool = 'another'
    action = 'ask'
";

fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("audit");
    let host = Host::builder().build().expect("the host can be set up");
    let skill = host
        .load_blocking(support::guest())
        .expect("the guest loads");
    let bare: Arc<dyn Execute> = Arc::new(host);
    let audit = Audit::open(&path, AuditSettings::default()).expect("it can be opened");
    let audited: Arc<dyn Execute> = Arc::new(Audited::new(Arc::clone(&bare), Arc::new(audit)));
    let policy: Policy = POLICY.parse().expect("it makes sense");
    let ruled: Arc<dyn Execute> = Arc::new(Approving::new(
        Arc::clone(&bare),
        CurrentPolicy::new(Some(policy)),
        Arc::new(MemoryApprovals::default()),
    ));
    let all = [&bare, &audited, &ruled];

    // One thread: each in turn, a batch each, so that a slower machine is slower for all.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let (batches, batch) = (support::rounds(300), 100);
    let mut took = [const { Vec::new() }; 3];
    runtime.block_on(async {
        for _ in 0..batches {
            for (execute, took) in all.iter().zip(&mut took) {
                let began = Instant::now();
                for _ in 0..batch {
                    run(&***execute, &skill).await;
                }
                took.push(began.elapsed() / batch);
            }
        }
    });
    let [bare_us, audited_us, ruled_us] = took.map(|took| support::median(&took));

    // Two threads: how many a second.
    let span = match support::smoke() {
        true => Duration::from_millis(20),
        false => Duration::from_millis(500),
    };
    let mut ratios = Vec::new();
    for _ in 0..if support::smoke() { 1 } else { 9 } {
        let (without, with) = (
            per_second(span, &bare, &skill),
            per_second(span, &audited, &skill),
        );
        ratios.push(with / without);
    }
    ratios.sort_by(f64::total_cmp);
    let verification = verify(&path).expect("it can be read");
    assert!(verification.is_sound());
    support::finish(serde_json::json!({
        "benchmark": "audit",
        "execute_us": support::us(bare_us),
        "audit_added_us": support::us(audited_us.saturating_sub(bare_us)),
        "approval_added_us": support::us(ruled_us.saturating_sub(bare_us)),
        "throughput_2": support::ratio(ratios[ratios.len() / 2], 1.0),
        "entries": verification.entries(),
        "target": {"audit_added_us": support::at_most(2.0), "throughput_2": support::at_least(0.9)},
    }))
}

async fn run(execute: &dyn Execute, skill: &Skill) {
    let request =
        ExecutionRequest::new(skill.digest(), serde_json::json!({"text": "to be"})).tool("echo");
    let result = execute.execute(request, Control::default()).await;
    let result = result.expect("the host works");
    assert_eq!(result.status, Status::Success);
    black_box(result);
}

fn per_second(span: Duration, execute: &Arc<dyn Execute>, skill: &Skill) -> f64 {
    let began = Instant::now();
    let total: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .build()
                        .expect("a runtime");
                    runtime.block_on(async {
                        let mut count = 0_u64;
                        while began.elapsed() < span {
                            for _ in 0..50 {
                                run(&**execute, skill).await;
                            }
                            count += 50;
                        }
                        count
                    })
                })
            })
            .collect();
        let counts = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        counts.sum()
    });
    total as f64 / began.elapsed().as_secs_f64()
}
