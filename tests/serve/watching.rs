//! For whoever watches the server: whether it lives, what goes on, and the policy.

use serde_json::json;
use skillhost::Policy;

use crate::harness::builder;
use crate::server::{Wanted, behaviour, start};

#[tokio::test(flavor = "multi_thread")]
async fn it_says_that_it_lives_and_whether_requests_should_come() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(client.get(path).await.json(), json!({"status": "ok"}));
    }
    server.service.stop();
    client.get("/readyz").await.problem(503, "unavailable");
    // It lives, and answers what is asked.
    assert_eq!(client.get("/healthz").await.json(), json!({"status": "ok"}));
    client.get("/v1/jobs").await.json();
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_is_told_in_numbers() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let mut spins = behaviour("spin", json!({}));
    spins["limits"] = json!({"fuel": 1_000_000});
    for body in [behaviour("echo", json!({})), spins] {
        let job = client.post("/v1/jobs", body).await.json();
        let path = format!(
            "/v1/jobs/{}/result?wait_ms=60000",
            job["id"].as_str().unwrap()
        );
        client.get(&path).await;
    }
    let own = client.get("/v1/statistics").await.json();
    assert_eq!(own["total"], 2);
    assert_eq!(own["by_status"]["completed"], 1);
    assert_eq!(own["by_queue"]["default"]["dead"], 1);
    assert_eq!(own["dead_by_cause"], json!({"fuel": 1}));
    assert!(own["at"].is_string());
    let all = client.get("/v1/statistics/all?hours=1").await.json();
    assert_eq!(all["total"], 2);
    assert_eq!(all["active_workers"], 1);
    for hours in [0, 169] {
        let path = format!("/v1/statistics/all?hours={hours}");
        client.get(&path).await.problem(400, "invalid-request");
    }
    let metrics = client.get("/metrics").await;
    let media_type = metrics.header("content-type").unwrap();
    assert!(media_type.starts_with("application/openmetrics-text; version=1.0.0"));
    let text = metrics.text();
    for line in [
        r#"skillhost_executions_total{skill="behaviours",status="success",limit=""} 1"#,
        r#"skillhost_executions_total{skill="behaviours",status="resource_exhausted",limit="fuel"} 1"#,
        r#"skillhost_jobs{queue="default",status="completed"} 1"#,
        r#"skillhost_jobs{queue="default",status="dead"} 1"#,
        "skillhost_workers 1",
        r#"skillhost_execution_run_seconds_count{skill="behaviours"} 2"#,
        r#"skillhost_execution_wait_seconds_count{skill="behaviours"} 2"#,
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    let number = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        let found = found.unwrap_or_else(|| panic!("{name}\n{text}"));
        found.parse::<f64>().unwrap()
    };
    let fuel = number("skillhost_fuel_total{skill=\"behaviours\"} ");
    // One met its limit, and the other took little.
    assert!((1_000_000.0..20_000_000.0).contains(&fuel), "{fuel}");
    for time in ["run", "wait"] {
        let sum = format!("skillhost_execution_{time}_seconds_sum{{skill=\"behaviours\"}} ");
        assert!(number(&sum) > 0.0, "{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    server.end().await;
}

/// However many read them at once, each reads how many jobs there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn metrics_that_are_read_at_once_do_not_count_together() {
    let server = start(Wanted {
        worker: false,
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    client
        .post("/v1/jobs", behaviour("echo", json!({})))
        .await
        .json();
    let line = r#"skillhost_jobs{queue="default",status="pending"} 1"#;
    let reading: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    let metrics = client.get("/metrics").await;
                    let text = metrics.text();
                    assert!(text.lines().any(|one| one == line), "{text}");
                }
            })
        })
        .collect();
    for reading in reading {
        reading.await.unwrap();
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_shown_without_values() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let none = client.get("/v1/policy").await.json();
    assert_eq!(none, json!({"policy": null}));
    server.end().await;
    let text = "[skills.behaviours.grants]\nconfig.key = 'hidden-value'\n\
                environment.NAME = 'hidden-value'\n";
    let policy: Policy = text.parse().expect("it is one");
    let host = builder().build().expect("a host can be set up");
    host.set_policy(Some(policy));
    let server = start(Wanted {
        host: Some(host),
        ..Wanted::default()
    })
    .await;
    let shown = server.client().get("/v1/policy").await;
    let text = shown.text();
    assert!(text.contains("NAME") && text.contains("key"), "{text}");
    assert!(!text.contains("hidden-value"), "{text}");
    server.end().await;
}
