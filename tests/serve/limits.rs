//! What a client may not do, and what it is told.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;
use skillhost::serve::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::PATIENCE;
use crate::server::{Wanted, behaviour, start};

fn with(change: impl FnOnce(&mut Settings)) -> Wanted {
    let mut settings = Settings::default();
    change(&mut settings);
    Wanted {
        settings,
        ..Wanted::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_a_problem() {
    let server = start(with(|settings| settings.body_bytes = 10_000)).await;
    let client = server.client();
    client.get("/nothing").await.problem(404, "not-found");
    client
        .get("/v1/jobs/nothing")
        .await
        .problem(400, "invalid-request");
    client
        .get("/v1/jobs?limit=0")
        .await
        .problem(400, "invalid-request");
    client
        .get("/v1/jobs?nothing=1")
        .await
        .problem(400, "invalid-request");
    let id = "019a1c5e-0000-7000-8000-000000000000";
    client
        .get(&format!("/v1/jobs/{id}"))
        .await
        .problem(404, "not-found");
    let answer = client.get("/v1/executions").await;
    answer.problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
    let bare = client.request("POST", "/v1/executions", "{}");
    client
        .send(bare)
        .await
        .problem(415, "unsupported-media-type");
    let large = behaviour("echo", json!({"text": "x".repeat(10_000)}));
    client
        .post("/v1/executions", large)
        .await
        .problem(413, "too-large");
    let mut broken = client.request("POST", "/v1/executions", "{");
    let json = "application/json".parse().unwrap();
    broken.headers_mut().insert("content-type", json);
    client.send(broken).await.problem(400, "invalid-request");
    client
        .post("/v1/executions", json!({}))
        .await
        .problem(422, "invalid-body");
    let wrong = json!({"skill": "../x"});
    client
        .post("/v1/executions", wrong)
        .await
        .problem(422, "invalid-body");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    let server = start(with(|settings| {
        settings.rate = NonZeroU32::MIN;
        settings.burst = NonZeroU32::MIN;
    }))
    .await;
    let client = server.client();
    client.get("/v1/jobs").await.json();
    loop {
        let answer = client.get("/v1/jobs").await;
        if answer.status == 429 {
            let problem = answer.problem(429, "too-many-requests");
            assert!(problem["retry_at"].is_string());
            assert_eq!(answer.header("retry-after"), Some("1"));
            break;
        }
    }
    server.end().await;
}

async fn raw(server: &crate::server::Running, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// All that comes until the other end closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    // It may be reset.
    let _ = read.expect("it is closed");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_cut() {
    let soon = Duration::from_millis(100);
    let server = start(with(|settings| {
        settings.header_timeout = soon;
        settings.body_timeout = soon;
    }))
    .await;
    // A head that does not end, and a connection that says nothing.
    let head = raw(&server, "GET /v1/jobs HTTP/1.1\r\nhost: localhost\r\nx: ").await;
    rest(head).await;
    rest(raw(&server, "").await).await;
    // A body that does not come.
    let body = "POST /v1/executions HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let said = rest(raw(&server, body).await).await;
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!(said.contains("urn:skillhost:problem:request-timeout"));
    server.end().await;
}

/// The guest answers 8 MiB, which no socket's buffers hold, and its client takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_cut() {
    let server = start(with(|settings| {
        settings.write_timeout = Duration::from_millis(100);
        settings.connections = 1;
    }))
    .await;
    let mut large = behaviour("answer_large", json!({"bytes": 16 << 20}));
    large["limits"] = json!({"output_bytes": "32MiB"});
    let body = large.to_string();
    let request = format!(
        "POST /v1/executions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let idle = raw(&server, &request).await;
    // There is one place: the next is served once the one that is idle was cut.
    server.client().get("/healthz").await.json();
    drop(idle);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_bounded() {
    let server = start(with(|settings| settings.header_bytes = 8 << 10)).await;
    let long = "x".repeat(9 << 10);
    let head = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n");
    let said = rest(raw(&server, &head).await).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    let many: String = (0..101).map(|n| format!("x{n}: 1\r\n")).collect();
    let head = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    let said = rest(raw(&server, &head).await).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_connections_and_no_more() {
    let server = start(with(|settings| settings.connections = 2)).await;
    let (first, _second) = (raw(&server, "").await, raw(&server, "").await);
    let client = server.client();
    let third = tokio::spawn(async move { client.get("/healthz").await });
    // The third is not accepted while the two are there.
    assert!(!third.is_finished());
    drop(first);
    assert!(third.await.unwrap().status.is_success());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_together_are_bounded() {
    let server = start(with(|settings| settings.bodies_bytes = 1 << 10)).await;
    let large = behaviour("echo", json!({"text": "x".repeat(2 << 20)}));
    let answer = server.client().post("/v1/executions", large).await;
    answer.problem(503, "unavailable");
    let small = behaviour("echo", json!({"text": "x"}));
    server.client().post("/v1/executions", small).await.json();
    server.end().await;
}
