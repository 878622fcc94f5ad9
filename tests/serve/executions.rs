//! Executions at once.

use serde_json::json;

use crate::client::Events;
use crate::server::{Wanted, behaviour, start};

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_is_answered_with_its_output_and_its_cost() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let request = behaviour("echo", json!({"text": "to be"}));
    let answer = client.post("/v1/executions", request).await;
    let result = answer.json();
    assert_eq!(result["status"], "success");
    assert_eq!(result["skill"]["name"], "behaviours");
    assert!(result["usage"]["fuel"].as_u64().unwrap() > 0);
    assert!(answer.header("traceparent").is_some());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_a_problem_with_the_failure_in_it() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let execute = async |request| client.post("/v1/executions", request).await;

    let problem = execute(behaviour("fail", json!({"message": "no"}))).await;
    let problem = problem.problem(422, "skill-error");
    assert_eq!(problem["failure"]["fault"], "skill");
    assert!(problem["execution"]["usage"]["fuel"].as_u64().unwrap() > 0);

    execute(behaviour("panic", json!({})))
        .await
        .problem(422, "trap");
    execute(behaviour("nothing", json!({})))
        .await
        .problem(422, "unknown-tool");
    execute(json!({"skill": "nobody"}))
        .await
        .problem(404, "not-loaded");
    let mut spins = behaviour("spin", json!({}));
    spins["limits"] = json!({"fuel": 1_000_000});
    let problem = execute(spins).await.problem(422, "resource-exhausted");
    assert_eq!(problem["failure"]["limit"], "fuel");
    let mut waits = behaviour("wait_for_ever", json!({}));
    waits["limits"] = json!({"wall_time_ms": 50});
    let problem = execute(waits).await.problem(422, "timeout");
    assert_eq!(problem["execution"]["status"], "timeout");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_hand_in_grants_or_a_tenant() {
    let server = start(Wanted::default()).await;
    for (field, value) in [
        ("grants", json!({"scratch": true})),
        ("tenant", json!("acme")),
        ("request_id", json!("019a1c5e-0000-7000-8000-000000000000")),
        ("attempt", json!(3)),
    ] {
        let mut request = behaviour("echo", json!({}));
        request[field] = value;
        let answer = server.client().post("/v1/executions", request).await;
        let problem = answer.problem(422, "invalid-body");
        assert!(problem["detail"].as_str().unwrap().contains(field));
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_of_an_execution_on_the_way() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let body = behaviour("chatter", json!({"count": 2})).to_string();
    let mut request = client.request("POST", "/v1/executions", body);
    let headers = request.headers_mut();
    headers.insert("content-type", "application/json".parse().unwrap());
    headers.insert("accept", "text/event-stream".parse().unwrap());
    let mut events = Events::of(client.open(request).await);
    let mut kinds = Vec::new();
    let mut last = None;
    while let Some(event) = events.next().await {
        kinds.push(event.kind.clone());
        last = Some(event);
    }
    let expected = [
        "admitted", "started", "log", "progress", "log", "progress", "finished",
    ];
    assert_eq!(kinds, expected);
    let last = last.unwrap();
    assert_eq!(last.data["status"], "success");
    server.end().await;
}

/// The guest would go on for an hour; the queue of executions is empty once its client has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_stops_the_guest() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    for accept in ["application/json", "text/event-stream"] {
        let mut waits = behaviour("wait_for_ever", json!({}));
        waits["limits"] = json!({"wall_time_ms": 3_600_000});
        let mut request = client.request("POST", "/v1/executions", waits.to_string());
        let headers = request.headers_mut();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert("accept", accept.parse().unwrap());
        let going = client.clone();
        let asked = tokio::spawn(async move {
            let mut events = Events::of(going.open(request).await);
            while events.next().await.is_some() {}
        });
        until_running(&client, 1).await;
        // Its connection goes with it.
        asked.abort();
        assert!(asked.await.is_err());
        drop_connections().await;
        until_running(&client, 0).await;
    }
    let metrics = client.get("/metrics").await;
    assert!(
        metrics.text().contains(r#"status="cancelled""#),
        "{}",
        metrics.text()
    );
    server.end().await;
}

/// The task that drives a connection ends with the last who asks through it.
async fn drop_connections() {
    tokio::task::yield_now().await;
}

async fn until_running(client: &crate::client::Client, many: u32) {
    loop {
        let metrics = client.get("/metrics").await;
        let line = format!("skillhost_executions_running {many}\n");
        if metrics.text().contains(&line) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_continued_where_it_is_one() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("traceparent", parent.as_str()), ("tracestate", "vendor=1")];
    let request = behaviour("echo", json!({"text": "x"}));
    let answer = client
        .call_with("POST", "/v1/jobs", &request, &headers)
        .await;
    let span = answer.header("traceparent").unwrap().to_owned();
    assert!(span.starts_with(&format!("00-{trace}-")) && span != parent);
    let id = answer.json()["id"].as_str().unwrap().parse().unwrap();
    let job = server.queue.job(id).await.unwrap();
    assert_eq!(job.submitted.trace, Some(span));
    assert_eq!(job.submitted.trace_state.as_deref(), Some("vendor=1"));
    let headers = [("traceparent", "00-nothing")];
    let answer = client
        .call_with("GET", "/v1/jobs", &json!({}), &headers)
        .await;
    assert!(!answer.header("traceparent").unwrap().contains("nothing"));
    server.end().await;
}
