//! Events of jobs: in batches, and as they happen.

use serde_json::json;
use skillhost::queue::Keep;
use std::time::Duration;

use crate::client::Events;
use crate::server::{Running, Wanted, behaviour, start};

async fn follow(server: &Running, path: &str, seen: Option<i64>) -> Events {
    let client = server.client();
    let mut request = client.request("GET", path, "");
    if let Some(seen) = seen {
        let seen = seen.to_string().parse().unwrap();
        request.headers_mut().insert("last-event-id", seen);
    }
    Events::of(client.open(request).await)
}

async fn submit(server: &Running) -> String {
    let body = behaviour("echo", json!({}));
    let answer = server.client().post("/v1/jobs", body).await.json();
    answer["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_misses_nothing() {
    let server = start(Wanted::default()).await;
    let mut events = follow(&server, "/v1/events/stream?after=0", None).await;
    let first = submit(&server).await;
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("completed") {
        let event = events.next().await.unwrap();
        assert_eq!(event.data["job"], *first);
        seen.push(event.kind);
    }
    assert_eq!(seen[0], "submitted");
    let last = events.last.unwrap();
    drop(events);
    // While nobody listens.
    let second = submit(&server).await;
    let mut events = follow(&server, "/v1/events/stream", Some(last)).await;
    let event = events.next().await.unwrap();
    assert_eq!((event.id, &*event.kind), (Some(last + 1), "submitted"));
    assert_eq!(event.data["job"], *second);
    let batch = server
        .client()
        .get("/v1/events?after=0&limit=2")
        .await
        .json();
    assert_eq!(batch["events"].as_array().unwrap().len(), 2);
    assert_eq!(batch["cursor"], 2);
    assert_eq!(batch["has_more"], true);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_has_fallen_off_is_told_so() {
    let server = start(Wanted::default()).await;
    let id = submit(&server).await;
    server.queue.wait(id.parse().unwrap()).await.unwrap();
    server
        .queue
        .prune(Keep {
            completed: None,
            dead: None,
            events: Some(Duration::ZERO),
        })
        .await
        .unwrap();
    let client = server.client();
    let gone = client.get("/v1/events?after=0").await;
    let oldest = gone.problem(410, "cursor-gone")["oldest"].as_i64().unwrap();
    client
        .get("/v1/events/stream?after=0")
        .await
        .problem(410, "cursor-gone");
    let batch = client
        .get(&format!("/v1/events?after={}", oldest - 1))
        .await;
    assert_eq!(batch.json()["events"], json!([]));
    client
        .get("/v1/events?after=-1")
        .await
        .problem(400, "invalid-request");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_server_does() {
    let server = start(Wanted::default()).await;
    let mut events = follow(&server, "/v1/events/stream", None).await;
    let client = server.client();
    client.get("/readyz").await.json();
    let ended = tokio::spawn(async move { while events.next().await.is_some() {} });
    assert_eq!(server.end().await.cut, 0);
    ended.await.unwrap();
}
