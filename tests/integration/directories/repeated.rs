//! Runs that can be repeated: still clocks, and random numbers from a seed.

use serde_json::{Value, json};
use skillhost::grant::{Clock, Grants, Random};
use skillhost::{ExecutionRequest, Host};

use crate::harness::{behaviours_path, execute, host, output};

async fn behaviour(host: &Host, tool: &str, grants: Grants) -> Value {
    let skill = host.load(behaviours_path()).await.unwrap();
    let request = ExecutionRequest::new(skill.digest(), json!({}))
        .tool(tool)
        .grants(grants);
    output(&execute(host, request).await).clone()
}

/// Everything by which two runs could be told apart is the same.
#[tokio::test]
async fn a_run_can_be_repeated() {
    let still: Clock = "2026-01-02T03:04:05.006Z".parse().unwrap();
    let grants = |seed| Grants::default().clock(still).random(Random::Seed(seed));
    let once = behaviour(host(), "ambient", grants(7)).await;
    assert_eq!(once, behaviour(host(), "ambient", grants(7)).await);
    assert_eq!(once["now"], "1767323045.006000000");
    assert_eq!(once["monotonic"], 0);
    assert_eq!(once["left_ms"], 10_000);
    let other = behaviour(host(), "ambient", grants(8)).await;
    for source in ["random", "insecure", "seed"] {
        assert_ne!(once[source], other[source], "{source}");
    }
    let fresh = behaviour(host(), "ambient", Grants::default()).await;
    for figure in ["now", "random", "insecure", "seed"] {
        assert_ne!(once[figure], fresh[figure], "{figure}");
    }
    assert!(fresh["left_ms"].as_u64().unwrap() <= 10_000);
}
