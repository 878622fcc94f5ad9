//! What a client may not do, and what it is told.

use std::num::NonZeroU32;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skillhost::serve::{Scope, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, PATIENCE};
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

/// What is told of a text is short, however long it is: at each door, and in each place.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_told_in_short() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let long = "\u{202e}`".repeat(100_000);
    for door in ["/v1/executions", "/v1/executions/check", "/v1/jobs"] {
        for (field, value) in [
            ("tool", json!(long)),
            ("user", json!(long)),
            ("session", json!(long)),
            ("labels", json!({"a": long})),
            ("limits", json!({"fuel": long})),
            (long.as_str(), json!(1)),
        ] {
            let mut asked = behaviour("echo", json!({}));
            asked[field] = value;
            let answer = client.post(door, asked).await;
            assert!(answer.body.len() < 3_000, "{}", answer.body.len());
            answer.problem(422, "invalid-body");
        }
        // One that is no longer than it may be, and that no skill has.
        let unknown = behaviour(&"`".repeat(255), json!({}));
        let answer = client.post(door, unknown).await;
        assert!(answer.body.len() < 20_000, "{}", answer.body.len());
    }
    let mut tagged = behaviour("echo", json!({}));
    tagged["tags"] = (0..100_000).map(|at| json!(at.to_string())).collect();
    let answer = client.post("/v1/jobs", tagged).await;
    let problem = answer.problem(422, "invalid-body");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("`tags`: there are more than 20"),
        "{detail}"
    );
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

/// What answers 16 MiB, which no socket's buffers hold.
fn large() -> Value {
    let mut large = behaviour("answer_large", json!({"bytes": 16 << 20}));
    large["limits"] = json!({"output_bytes": "32MiB", "memory_bytes": "256MiB"});
    large
}

fn executing(what: &Value) -> String {
    let body = what.to_string();
    format!(
        "POST /v1/executions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Its client takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_cut() {
    let server = start(with(|settings| {
        settings.write_timeout = Duration::from_millis(100);
        settings.connections = 1;
    }))
    .await;
    let idle = raw(&server, &executing(&large())).await;
    // There is one place: the next is served once the one that is idle was cut.
    server.client().get("/healthz").await.json();
    drop(idle);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_together_are_bounded() {
    let server = start(with(|settings| settings.answers_bytes = 40 << 20)).await;
    for accept in ["application/json", "text/event-stream"] {
        let mut slow = Vec::new();
        for _ in 0..3 {
            let asks = format!("\r\naccept: {accept}\r\nconnection");
            let asks = executing(&large()).replacen("\r\nconnection", &asks, 1);
            let mut one = raw(&server, &asks).await;
            // It is there, and goes no further than the buffers.
            let mut begun = String::new();
            while !begun.contains("\"output\"") {
                let mut piece = [0; 256];
                let read = one.read(&mut piece).await.unwrap();
                assert_ne!(read, 0, "{begun}");
                begun += std::str::from_utf8(&piece[..read]).unwrap();
            }
            assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
            slow.push((begun.len(), one));
        }
        // The first was broken off for the third.
        let mut taken = Vec::new();
        for (begun, one) in slow {
            taken.push(begun + rest(one).await.len());
        }
        let whole = taken.iter().map(|bytes| *bytes > 16 << 20);
        let whole: Vec<bool> = whole.collect();
        assert_eq!(whole, [false, true, true], "{accept}: {taken:?}");
    }
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
    let client = server.client();
    let idle = raw(&server, "").await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut kept, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async || {
        let request = client.request("GET", "/healthz", "");
        kept.ready().await.unwrap();
        let answer = kept.send_request(request).await.unwrap();
        answer.into_body().collect().await.unwrap();
    };
    ask().await;
    let another = client.clone();
    let third = tokio::spawn(async move { another.get("/healthz").await });
    // The third is not accepted while the two are there, however much goes on.
    for _ in 0..200 {
        ask().await;
        assert!(!third.is_finished());
    }
    drop(idle);
    assert!(third.await.unwrap().status.is_success());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_take_all_connections() {
    let server = start(with(|settings| settings.connections_of_one = 2)).await;
    let ask = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = raw(&server, ask).await;
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let said = rest(raw(&server, "").await).await;
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    assert!(said.contains("urn:skillhost:problem:unavailable"));
    drop(held);
    loop {
        // The server hears of their end a moment later.
        let mut stream = raw(&server, ask).await;
        let mut first = [0; 12];
        if stream.read_exact(&mut first).await.is_ok() && &first == b"HTTP/1.1 200" {
            break;
        }
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_does_not_take_all_streams() {
    let server = start(with(|settings| settings.streams = 2)).await;
    let acme = server
        .client_of("acme", &[Scope::Jobs, Scope::Execute])
        .await;
    let other = server.client_of("other", &[Scope::Jobs]).await;
    let open = async |client: &Client| {
        client
            .open(client.request("GET", "/v1/events/stream", ""))
            .await
    };
    let first = open(&acme).await;
    let second = open(&acme).await;
    assert_eq!(
        (first.status(), second.status()),
        (StatusCode::OK, StatusCode::OK)
    );
    acme.get("/v1/events/stream")
        .await
        .problem(429, "too-many-requests");
    // One of an execution is a stream, too.
    let echo = behaviour("echo", json!({}));
    let headers = [("accept", "text/event-stream")];
    acme.call_with("POST", "/v1/executions", &echo, &headers)
        .await
        .problem(429, "too-many-requests");
    acme.post("/v1/executions", echo).await.json();
    assert_eq!(open(&other).await.status(), 200);
    drop(first);
    while open(&acme).await.status() != 200 {
        tokio::task::yield_now().await;
    }
    server.end().await;
}

/// What a request's body takes is not there for others until it was answered.
#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_together_are_bounded() {
    let server = start(with(|settings| settings.bodies_bytes = 3 << 20)).await;
    let client = server.client();
    let large = |tool: &str| {
        let mut large = behaviour(tool, json!({"text": "x".repeat(2 << 20)}));
        large["limits"] = json!({"wall_time_ms": 3_600_000, "input_bytes": "4MiB"});
        large
    };
    let (going, body) = (client.clone(), large("wait_for_ever"));
    let first = tokio::spawn(async move { going.post("/v1/executions", body).await });
    while !client
        .get("/metrics")
        .await
        .text()
        .contains("skillhost_executions_running 1\n")
    {
        assert!(!first.is_finished());
        tokio::task::yield_now().await;
    }
    let refused = client.post("/v1/executions", large("echo")).await;
    refused.problem(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    let small = behaviour("echo", json!({"text": "x"}));
    client.post("/v1/executions", small).await.json();
    first.abort();
    let _ = first.await;
    loop {
        let answer = client.post("/v1/executions", large("nothing")).await;
        if answer.status != 503 {
            answer.problem(422, "unknown-tool");
            break;
        }
    }
    server.end().await;
}

async fn post_text(client: &Client, path: &str, body: String) -> crate::client::Answer {
    let mut request = client.request("POST", path, body);
    let json = "application/json".parse().unwrap();
    request.headers_mut().insert("content-type", json);
    client.send(request).await
}

/// A small text may be much once it is read: it is refused before.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_blows_up_is_refused() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    for (small, many, why) in [
        ("[0]", 1_000_000, "too many values; 1000000 are allowed"),
        (r#"{"":0}"#, 200_000, "too many bytes of memory"),
        (
            r#"{"$serde_json::private::RawValue":"0"}"#,
            1,
            "mean something to the host",
        ),
    ] {
        let list = format!("[{}0]", format!("{small},").repeat(many));
        let one = format!(r#"{{"skill":"behaviours","tool":"echo","input":{{"a":{list}}}}}"#);
        let batch = format!(r#"{{"jobs":[{one}]}}"#);
        for (path, body) in [
            ("/v1/executions", one.clone()),
            ("/v1/executions/check", one.clone()),
            ("/v1/jobs", one),
            ("/v1/jobs/batch", batch),
        ] {
            let answer = post_text(&client, path, body).await;
            let problem = answer.problem(400, "invalid-request");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(why), "{path}: {detail}");
        }
    }
    // What is large, and no more than that, is read.
    let rows = vec![json!({"a": 1, "b": "x"}); 20_000];
    let large = behaviour("echo", json!({"rows": rows}));
    let answer = client.post("/v1/executions", large).await.json();
    assert_eq!(answer["output"]["rows"].as_array().unwrap().len(), 20_000);
    server.end().await;
}

/// What counts of a body is what it takes, once that is more than its text.
#[tokio::test(flavor = "multi_thread")]
async fn what_bodies_take_together_is_bounded() {
    let server = start(with(|settings| settings.bodies_bytes = 80 << 20)).await;
    let client = server.client();
    // Less than 400 KB of text, and more than a third of that.
    let list = format!("[{}0]", r#"{"":0},"#.repeat(55_000));
    let body = |tool: &str| {
        format!(
            r#"{{"skill":"behaviours","tool":"{tool}","input":{{"a":{list}}},"limits":{{"wall_time_ms":3600000}}}}"#
        )
    };
    let mut going = Vec::new();
    for many in 1..=2 {
        let (asks, body) = (client.clone(), body("wait_for_ever"));
        going.push(tokio::spawn(async move {
            post_text(&asks, "/v1/executions", body).await
        }));
        let running = format!("skillhost_executions_running {many}\n");
        while !client.get("/metrics").await.text().contains(&running) {
            assert!(going.iter().all(|going| !going.is_finished()));
            tokio::task::yield_now().await;
        }
    }
    let refused = post_text(&client, "/v1/executions", body("echo")).await;
    refused.problem(503, "unavailable");
    for going in going {
        going.abort();
        let _ = going.await;
    }
    server.end().await;
}
