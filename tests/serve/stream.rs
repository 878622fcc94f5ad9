//! Events of jobs: in batches, and as they happen.

use serde_json::json;
use skillhost::queue::Keep;
use skillhost::serve::{Scope, Settings};
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
    let newest = server.queue.last_event().await.unwrap();
    for route in ["/v1/events/stream", "/v1/events"] {
        let path = format!("{route}?after={}", newest + 1);
        let never = client.get(&path).await.problem(404, "not-found");
        let detail = format!("there is no event {}; the newest is {newest}", newest + 1);
        assert_eq!(never["detail"], detail);
    }
    let batch = client.get(&format!("/v1/events?after={newest}")).await;
    assert_eq!(batch.json()["events"], json!([]));
    // The newest itself was, though it is no longer kept.
    let open = client.request("GET", &format!("/v1/events/stream?after={newest}"), "");
    assert_eq!(client.open(open).await.status(), 200);
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

/// Neither that something happens for others is told, nor when, nor how much: but, now and then, where to go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_not_told_at_once_how_far_others_have_come() {
    for keep_alive in [Duration::from_secs(3_600), Duration::from_millis(20)] {
        let mut settings = Settings::default();
        settings.keep_alive = keep_alive;
        let server = start(Wanted {
            settings,
            ..Wanted::default()
        })
        .await;
        let acme = server.client_of("acme", &[Scope::Jobs]).await;
        let other = server.client_of("other", &[Scope::Jobs]).await;
        let request = acme.request("GET", "/v1/events/stream?after=0", "");
        let mut events = Events::of(acme.open(request).await);
        let body = behaviour("echo", json!({}));
        let theirs = other.post("/v1/jobs", body.clone()).await.json();
        let theirs = theirs["id"].as_str().unwrap().parse().unwrap();
        server.queue.wait(theirs).await.unwrap();
        let newest = server.queue.last_event().await.unwrap();
        if keep_alive > Duration::from_secs(1) {
            let own = acme.post("/v1/jobs", body).await.json();
            let (id, event) = events.block().await.unwrap();
            assert_eq!(id, Some(newest + 1));
            assert_eq!(event.expect("it is the first block").1["job"], own["id"]);
        } else {
            while events.last != Some(newest) {
                let (_, event) = events.block().await.unwrap();
                assert_eq!(event, None);
            }
        }
        let path = "/v1/events/stream?after=1000000";
        let never = acme.get(path).await.problem(404, "not-found");
        assert_eq!(never["detail"], "there is no event 1000000");
        server.end().await;
    }
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

/// A stream is nobody's any more once its token is not: at the next event, or the next sign of life.
#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_their_tokens() {
    for keep_alive in [Duration::from_secs(3_600), Duration::from_millis(20)] {
        let mut settings = Settings::default();
        settings.keep_alive = keep_alive;
        let server = start(Wanted {
            settings,
            ..Wanted::default()
        })
        .await;
        let first = server.client_of("acme", &[Scope::Jobs]).await;
        let second = server.client_of("acme", &[Scope::Jobs]).await;
        let request = first.request("GET", "/v1/events/stream", "");
        let mut events = Events::of(first.open(request).await);
        let body = behaviour("echo", json!({}));
        let submitted = second.post("/v1/jobs", body.clone()).await.json();
        let event = events.next().await.unwrap();
        assert_eq!(event.data["job"], submitted["id"]);
        let tokens = server.service.tokens();
        let token = first.token.as_deref().unwrap();
        let id = token.split('_').nth(1).unwrap();
        tokens.revoke(id).await.unwrap();
        if keep_alive > Duration::from_secs(1) {
            second.post("/v1/jobs", body).await.json();
        }
        // What was on its way by then may still come.
        loop {
            let event = events.next().await.expect("it says why it ends");
            if event.kind == "error" {
                assert_eq!(event.data["type"], "urn:skillhost:problem:unauthorized");
                break;
            }
            assert_eq!(event.data["job"], submitted["id"]);
        }
        assert_eq!(events.next().await, None);
        server.end().await;
    }
}

/// A server whose streams soon see whether their token still holds.
async fn beating() -> Running {
    let mut settings = Settings::default();
    settings.keep_alive = Duration::from_millis(20);
    let wanted = Wanted {
        settings,
        ..Wanted::default()
    };
    start(wanted).await
}

/// Whoever came in while no token was needed is not let in any more once one is.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_nobody_end_with_the_first_token() {
    let server = beating().await;
    let mut events = follow(&server, "/v1/events/stream", None).await;
    server.client_of("acme", &[Scope::Jobs]).await;
    let event = events.next().await.unwrap();
    assert_eq!(event.kind, "error");
    assert_eq!(events.next().await, None);
    server.end().await;
}

/// Also those of an execution, whose guest is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn an_execution_that_is_followed_ends_with_its_token() {
    let server = beating().await;
    let client = server.client_of("acme", &[Scope::Execute]).await;
    let mut body = behaviour("wait_for_ever", json!({}));
    body["limits"] = json!({"wall_time_ms": 3_600_000});
    let mut request = client.request("POST", "/v1/executions", body.to_string());
    let headers = request.headers_mut();
    headers.insert("content-type", "application/json".parse().unwrap());
    headers.insert("accept", "text/event-stream".parse().unwrap());
    let mut events = Events::of(client.open(request).await);
    while events.next().await.expect("it starts").kind != "started" {}
    let id = client.token.as_deref().unwrap().split('_').nth(1).unwrap();
    server.service.tokens().revoke(id).await.unwrap();
    let event = events.next().await.expect("it says why it ends");
    assert_eq!(event.kind, "error");
    assert_eq!(event.data["type"], "urn:skillhost:problem:unauthorized");
    assert_eq!(events.next().await, None);
    let operator = server.client_of("other", &[Scope::Administer]).await;
    loop {
        let metrics = operator.get("/metrics").await;
        if metrics.text().contains("skillhost_executions_running 0\n") {
            break;
        }
        tokio::task::yield_now().await;
    }
    server.end().await;
}
