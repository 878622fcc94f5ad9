//! Hostile servers, and guests that are hostile by way of the network. Each test says what stopped
//! it, what it cost, and that the next execution is undisturbed.

use std::time::Duration;

use serde_json::{Value, json};
use skillhost::grant::Grants;
use skillhost::{Limit, LimitOverrides, Status};

use super::servers::Server;
use super::{Ended, check_undisturbed, fetch, http, run};
use crate::harness::{check_exhausted, check_timeout, host};

const KIB: u64 = 1024;
/// The wall time of guests that wait until they are stopped.
const WALL: Duration = Duration::from_millis(400);

fn short() -> LimitOverrides {
    LimitOverrides {
        wall_time: Some(WALL),
        ..Default::default()
    }
}

fn answers(bytes: u64) -> LimitOverrides {
    LimitOverrides {
        http_response_bytes: Some(bytes),
        ..Default::default()
    }
}

async fn request(server: &Server, limits: LimitOverrides) -> Ended {
    run(
        host(),
        "request",
        granted(server),
        server.request("/"),
        limits,
    )
    .await
}

fn granted(server: &Server) -> Grants {
    http(&[&server.grant()])
}

/// Checks that the bytes of answers were what stopped it, at the limit.
async fn check_stopped_by_answers(server: &Server, bytes: u64) {
    let ended = request(server, answers(bytes)).await;
    check_exhausted(&ended.result, Limit::HttpResponseBytes, bytes);
    assert_eq!(ended.result.status, Status::ResourceExhausted);
    assert_eq!(ended.result.usage.http_response_bytes, bytes);
    server.quiet().await;
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn an_endless_body() {
    let begin = "HTTP/1.1 200 OK\r\n\r\n";
    let server = Server::endless(begin, "x".repeat(10_000)).await;
    check_stopped_by_answers(&server, 300 * KIB).await;
    let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = Server::endless(begin, format!("1000\r\n{}\r\n", "x".repeat(4096))).await;
    check_stopped_by_answers(&server, 300 * KIB).await;
}

/// Chunks of one byte are mostly framing, which counts, too.
#[tokio::test]
async fn small_chunks_and_chunk_extensions() {
    let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = Server::endless(begin, "1\r\nx\r\n".repeat(1000)).await;
    check_stopped_by_answers(&server, 64 * KIB).await;
    let server = Server::endless(begin, "1;a=b\r\nx\r\n".repeat(1000)).await;
    let ended = request(&server, answers(64 * KIB)).await;
    // Either what hyper allows of extensions is met first, or the limit.
    match ended.result.status {
        Status::Success => assert_ne!(ended.output()["broken"], Value::Null),
        _ => {
            check_exhausted(&ended.result, Limit::HttpResponseBytes, 64 * KIB);
        }
    }
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn endless_headers_and_one_huge_header() {
    let server = Server::endless("HTTP/1.1 200 OK\r\n", "x-a: b\r\n".repeat(100)).await;
    let ended = request(&server, LimitOverrides::default()).await;
    assert_eq!(ended.output()["error"], "head too large");
    assert!(ended.result.usage.http_response_bytes < 300 * KIB);
    server.quiet().await;
    let server = Server::endless("HTTP/1.1 200 OK\r\nx-a: ", "b".repeat(10_000)).await;
    let ended = request(&server, LimitOverrides::default()).await;
    assert_eq!(ended.output()["error"], "head too large");
    assert!(ended.result.usage.http_response_bytes < 300 * KIB);
    server.quiet().await;
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn endless_informational_answers() {
    let again = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(100);
    let server = Server::endless("HTTP/1.1 100 Continue\r\n\r\n", again).await;
    check_stopped_by_answers(&server, 128 * KIB).await;
}

#[tokio::test]
async fn endless_trailers() {
    let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n";
    let server = Server::endless(begin, "x-a: b\r\n".repeat(100)).await;
    let ended = request(&server, answers(256 * KIB)).await;
    // Hyper bounds trailers itself; if it did not, the limit would.
    match ended.result.status {
        Status::Success => assert_ne!(ended.output()["broken"], Value::Null),
        _ => {
            check_exhausted(&ended.result, Limit::HttpResponseBytes, 256 * KIB);
        }
    }
    assert!(ended.result.usage.http_response_bytes <= 256 * KIB);
    server.quiet().await;
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn a_silent_server() {
    let silent = || Server::with(|mut connection| async move { connection.gone().await });
    let server = silent().await;
    let ended = request(&server, short()).await;
    check_timeout(&ended.result, WALL);
    server.quiet().await;
    // A guest that asked not to wait so long is told.
    let mut input = server.request("/");
    input["first_byte_ms"] = json!(50);
    let ended = fetch(host(), granted(&server), input).await;
    assert_eq!(ended.output()["error"], "response timeout");
    server.quiet().await;
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn a_body_that_stops_half_way() {
    let server = Server::with(|mut connection| async move {
        connection.head().await;
        connection
            .send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
            .await;
        connection.gone().await;
    })
    .await;
    let ended = request(&server, short()).await;
    check_timeout(&ended.result, WALL);
    server.quiet().await;
    let mut input = server.request("/");
    input["between_bytes_ms"] = json!(50);
    let ended = fetch(host(), granted(&server), input).await;
    assert_eq!(ended.output()["broken"], "connection read timeout");
    server.quiet().await;
    check_undisturbed(host()).await;
}

/// A byte now and then keeps every time-out between bytes happy; the deadline holds.
#[tokio::test]
async fn a_server_that_drips() {
    let server = Server::with(|mut connection| async move {
        connection.head().await;
        connection
            .send("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            .await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while connection.send("x").await {
            tick.tick().await;
        }
    })
    .await;
    let mut input = server.request("/");
    input["between_bytes_ms"] = json!(10_000);
    let ended = run(host(), "request", granted(&server), input, short()).await;
    check_timeout(&ended.result, WALL);
    server.quiet().await;
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn lengths_that_lie() {
    for (answer, output) in [
        // More than was promised is not read.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef",
            json!({"body": "abc"}),
        ),
        // Less is an error.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
            json!({"broken": "incomplete HTTP response"}),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
            json!({"broken": "incomplete HTTP response"}),
        ),
        // What can be read in two ways is not read.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            json!({"error": "protocol error"}),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            json!({"error": "protocol error"}),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            json!({"status": 200}),
        ),
        (
            "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
            json!({"error": "protocol error"}),
        ),
        ("nonsense", json!({"error": "protocol error"})),
        ("", json!({"error": "incomplete"})),
    ] {
        let server = Server::answering(answer).await;
        let ended = request(&server, LimitOverrides::default()).await;
        for (key, value) in output.as_object().expect("it is one") {
            assert_eq!(
                &ended.output()[key],
                value,
                "{answer}: {:?}",
                ended.output()
            );
        }
    }
    check_undisturbed(host()).await;
}

/// A guest cannot put a second request, or another host, into the first.
#[tokio::test]
async fn splitting_requests() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for header in [
        ["x", "a\r\nhost: evil.example"],
        ["x\r\nhost", "evil.example"],
        ["host", "evil.example"],
        ["transfer-encoding", "chunked"],
        ["connection", "upgrade"],
        ["upgrade", "websocket"],
        ["content-length", "+1"],
    ] {
        let mut input = server.request("/");
        input["headers"] = json!([header]);
        let ended = fetch(host(), granted(&server), input).await;
        assert_eq!(ended.output()["error"], "internal", "{header:?}");
    }
    let mut input = server.request("/ HTTP/1.1\r\nx: y");
    input["method"] = json!("GET");
    let ended = fetch(host(), granted(&server), input).await;
    assert_eq!(ended.output()["error"], "uri invalid");
    assert_eq!(server.accepted(), 0);
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn a_bomb_of_connections() {
    let server = Server::with(|mut connection| async move {
        connection.head().await;
        connection
            .send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx")
            .await;
        connection.gone().await;
    })
    .await;
    let limits = LimitOverrides {
        connections: Some(3),
        ..Default::default()
    };
    let mut input = server.request("/");
    input["count"] = json!(3);
    let ended = run(host(), "hold", granted(&server), input.clone(), limits).await;
    assert_eq!(ended.output()["open"], 3);
    server.quiet().await;
    input["count"] = json!(50);
    let ended = run(host(), "hold", granted(&server), input, limits).await;
    check_exhausted(&ended.result, Limit::Connections, 3);
    assert!(server.most() <= 3, "{}", server.most());
    server.quiet().await;
    check_undisturbed(host()).await;
}

/// Requests that are let go of at once leave nothing behind.
#[tokio::test]
async fn abandoned_requests() {
    let server = Server::with(|mut connection| async move { connection.gone().await }).await;
    let mut input = server.request("/");
    input["count"] = json!(200);
    let ended = run(
        host(),
        "abandon",
        granted(&server),
        input,
        LimitOverrides::default(),
    )
    .await;
    assert!(
        matches!(
            ended.result.status,
            Status::Success | Status::ResourceExhausted
        ),
        "{:?}",
        ended.result
    );
    assert!(server.most() <= 8, "{}", server.most());
    server.quiet().await;
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn a_bomb_of_uploads() {
    let server = Server::with(|mut connection| async move { connection.gone().await }).await;
    let limits = LimitOverrides {
        http_request_bytes: Some(200 * KIB),
        ..Default::default()
    };
    let mut input = server.request("/");
    input["method"] = json!("POST");
    input["upload_bytes"] = json!(100 * KIB * KIB);
    let ended = run(host(), "request", granted(&server), input, limits).await;
    check_exhausted(&ended.result, Limit::HttpRequestBytes, 200 * KIB);
    assert_eq!(ended.result.usage.http_request_bytes, 200 * KIB);
    server.quiet().await;
    check_undisturbed(host()).await;
}

/// The limit ends an execution that does not look at what became of its request.
#[tokio::test]
async fn a_limit_that_the_guest_ignores() {
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(4096));
    let server = Server::answering(head).await;
    let mut input = server.request("/");
    input["count"] = json!(10);
    let ended = run(host(), "spin", granted(&server), input, answers(KIB)).await;
    check_exhausted(&ended.result, Limit::HttpResponseBytes, KIB);
    check_undisturbed(host()).await;
}

/// The host keeps only so much of what a guest makes of fields.
#[tokio::test]
async fn a_bomb_of_fields() {
    let fields = async |count: u64, kibibytes: u64| {
        let input = json!({"count": count, "kibibytes": kibibytes});
        run(
            host(),
            "fields",
            Grants::default(),
            input,
            LimitOverrides::default(),
        )
        .await
    };
    assert_eq!(fields(100, 8).await.output()["kept"], 100);
    let ended = fields(100_000, 8).await;
    check_exhausted(&ended.result, Limit::Handles, 1000);
    let ended = fields(1, 1024).await;
    check_exhausted(&ended.result, Limit::HttpFieldsBytes, 16 * KIB);
    // More than can be kept, of which the last cannot be sent.
    let input = json!({"to": "set", "count": 100_000});
    let limits = LimitOverrides::default();
    let ended = run(host(), "fields_for_ever", Grants::default(), input, limits).await;
    check_exhausted(&ended.result, Limit::HttpFieldsBytes, 16 * KIB);
    check_undisturbed(host()).await;
}

/// What a guest writes into a request that it never sends is the host's memory, too.
#[tokio::test]
async fn texts_of_any_length() {
    for (bytes, taken) in [
        (10, [true, true, true, true]),
        (100, [false, false, true, true]),
        (10_000, [false, false, false, true]),
        (20_000, [false; 4]),
        (3 << 20, [false; 4]),
    ] {
        let input = json!({ "bytes": bytes });
        let limits = LimitOverrides::default();
        let ended = run(host(), "texts", Grants::default(), input, limits).await;
        let [method, scheme, authority, path] = taken;
        let expected =
            json!({"method": method, "scheme": scheme, "authority": authority, "path": path});
        assert_eq!(ended.output(), &expected, "{bytes}");
    }
}

/// Dropping the future closes what it had open.
#[tokio::test]
async fn an_execution_that_is_dropped() {
    let (sender, mut came) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::with(move |mut connection| {
        let sender = sender.clone();
        async move {
            connection.head().await;
            let _ = sender.send(());
            connection.gone().await;
        }
    })
    .await;
    tokio::select! {
        _ = request(&server, LimitOverrides::default()) => panic!("nothing was answered"),
        _ = came.recv() => {}
    }
    server.quiet().await;
    check_undisturbed(host()).await;
}
