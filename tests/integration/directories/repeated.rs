//! Runs that can be repeated: still clocks, and random numbers from a seed.

use serde_json::{Value, json};
use skillhost::grant::{Clock, Grants, Random};
use skillhost::{Attachment, ExecutionRequest, Host};

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
    let ambient = || Grants::default().scratch();
    let grants = |seed| ambient().clock(still).random(Random::Seed(seed));
    let once = behaviour(host(), "ambient", grants(7)).await;
    assert_eq!(once, behaviour(host(), "ambient", grants(7)).await);
    assert_eq!(once["now"], "1767323045.006000000");
    assert_eq!(once["monotonic"], 0);
    assert_eq!(once["left_ms"], 10_000);
    // Whoever is granted nothing is told so at once.
    assert_eq!(once["turns"], 0);
    let other = behaviour(host(), "ambient", grants(8)).await;
    for source in ["random", "insecure", "seed", "request_id"] {
        assert_ne!(once[source], other[source], "{source}");
    }
    // Each file is of the time at which the clock stands still, also where it was set to now.
    let files = once["files"].as_array().expect("a scratch directory");
    for told in files.iter().flat_map(|told| told.as_array().unwrap()) {
        assert_eq!(told, &files[0][0]);
        assert!(told.as_str().unwrap().contains("1767323045"), "{told}");
    }
    // Of each source there is as much as anybody likes to have, whatever is drawn from the others.
    for (drawn, others) in [
        ("random", ["insecure", "seed"]),
        ("insecure", ["random", "seed"]),
    ] {
        let skill = host().load(behaviours_path()).await.unwrap();
        let request = ExecutionRequest::new(skill.digest(), json!({ "drawn": drawn }))
            .tool("ambient")
            .grants(grants(7));
        let result = execute(host(), request).await;
        let after = output(&result);
        assert_ne!(after[drawn], once[drawn]);
        for other in others {
            assert_eq!(after[other], once[other], "{drawn} was drawn from");
        }
    }
    let fresh = behaviour(host(), "ambient", ambient()).await;
    for figure in ["now", "random", "insecure", "seed", "request_id", "files"] {
        assert_ne!(once[figure], fresh[figure], "{figure}");
    }
    assert!(fresh["left_ms"].as_u64().unwrap() <= 10_000);
    // Another request has another id.
    let id = async |request: ExecutionRequest| {
        let request = request.tool("ambient").grants(grants(7));
        output(&execute(host(), request).await)["request_id"].clone()
    };
    let skill = host().load(behaviours_path()).await.unwrap().digest();
    let asked = || ExecutionRequest::new(skill, json!({}));
    assert_eq!(id(asked()).await, once["request_id"]);
    let attached = asked().attach(Attachment::new("a", "text/plain", "b"));
    assert_ne!(id(attached).await, once["request_id"]);
    // With either alone, the id tells neither the time nor chance.
    for grants in [ambient().clock(still), ambient().random(Random::Seed(7))] {
        let first = behaviour(host(), "ambient", grants.clone()).await;
        let second = behaviour(host(), "ambient", grants).await;
        assert_eq!(first["request_id"], second["request_id"]);
        assert_ne!(first["request_id"], once["request_id"]);
    }
}
