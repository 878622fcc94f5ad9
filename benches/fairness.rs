//! Ten tenants: one floods with 1,000 requests, nine send one each time the last is answered. How
//! much of its share each of the nine gets.
//!
//! `cargo bench --bench fairness`, with `-- --smoke` to see only whether it works.

mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skillhost::policy::guard::Guards;
use skillhost::{Control, Execute, ExecutionRequest, Host, Skill, Status};
use tokio::task::JoinSet;

/// How many send one after the other.
const OTHERS: u32 = 9;

fn main() -> ExitCode {
    let path = support::guest();
    // Nobody is turned away, so that there is a flood to begin with.
    let policy = "general.concurrency = { at_once = 2, waiting = 100000, wait_ms = \"10min\" }";
    let host = Host::builder()
        .policy(policy.parse().expect("it is a policy"))
        .build()
        .expect("the host can be set up");
    let skill = host.load_blocking(&path).expect("the guest loads");
    let guards = Guards::new(host.current_policy().clone());
    let guarded = guards.around(Arc::new(host));
    let span = match support::smoke() {
        true => Duration::from_millis(20),
        false => Duration::from_secs(3),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    let (others, flood) = runtime.block_on(rounds(&guarded, &skill, span));
    let all = flood + others.iter().sum::<u64>();
    let share = all as f64 / f64::from(OTHERS + 1);
    let least = others.iter().min().copied().unwrap_or_default() as f64 / share;
    println!(
        "{all} answered; a tenth is {share:.0}; the nine had {others:?}, the flood {flood}: at least {:.0} % of a share",
        least * 100.0
    );
    support::finish(serde_json::json!({
        "benchmark": "fairness",
        "answered": all,
        "least_share": support::ratio(least, 1.0),
        "target": {"least_share": support::at_least(0.8)},
    }))
}

/// What each of the nine had, and what the one that floods had.
async fn rounds(guarded: &Arc<dyn Execute>, skill: &Skill, span: Duration) -> (Vec<u64>, u64) {
    let end = Instant::now() + span;
    let mut flood = JoinSet::new();
    for _ in 0..1_000 {
        let (guarded, skill) = (Arc::clone(guarded), skill.clone());
        // What is answered is sent again, so that there are always 1,000.
        flood.spawn(async move { served(&*guarded, &skill, "flood", end).await });
    }
    let mut others = JoinSet::new();
    for number in 0..OTHERS {
        let (guarded, skill) = (Arc::clone(guarded), skill.clone());
        others.spawn(async move {
            let tenant = format!("tenant {number}");
            served(&*guarded, &skill, &tenant, end).await
        });
    }
    let others = others.join_all().await;
    (others, flood.join_all().await.into_iter().sum())
}

/// How many are answered, one after the other.
async fn served(guarded: &dyn Execute, skill: &Skill, tenant: &str, end: Instant) -> u64 {
    let mut served = 0;
    while Instant::now() < end {
        // Some milliseconds of work: what ends before anybody else is looked at takes no turn from anybody.
        let input = serde_json::json!({"n": 26});
        let request = ExecutionRequest::new(skill.digest(), input)
            .tool("calls")
            .tenant(tenant);
        let ended = guarded.execute(request, Control::default()).await;
        assert_eq!(ended.expect("the host works").status, Status::Success);
        if Instant::now() < end {
            served += 1;
        }
    }
    served
}
