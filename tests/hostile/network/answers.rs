//! Servers that do not answer, or answer without end, or lie about what they answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skillhost::{Limit, LimitOverrides};

use super::{KIB, Server, answering, by_way_of, check_error, runtime, server, silent, taken_from};
use crate::attack::{Attack, DEADLINE, End, NONE, SHORT, TIMEOUT, met, wall_time};
use crate::harness::output;
use crate::measure::alone;
use crate::waiting::check_mostly_in_time;

pub fn responses(bytes: u64) -> LimitOverrides {
    LimitOverrides {
        http_response_bytes: Some(bytes),
        ..NONE
    }
}

/// Long enough that the head of an answer has come, also on a busy machine.
const A_WHILE: Duration = Duration::from_millis(800);

fn request(server: &Arc<Server>) -> Attack {
    by_way_of(server, "request", server.request("/"))
}

/// One that goes on with this, after that.
fn endless(begin: &'static str, again: impl Into<String>) -> Arc<Server> {
    Arc::new(runtime().block_on(Server::endless(begin, again.into())))
}

/// The bytes of the answer are what stops it, at the limit, and no more of them are taken.
#[track_caller]
fn check_stopped_by_bytes(server: &Arc<Server>, bytes: u64) {
    let result = taken_from(server, request(server), bytes..=bytes)
        .under(responses(bytes))
        .ends_with(met(Limit::HttpResponseBytes));
    assert_eq!(result.usage.http_response_bytes, bytes);
    assert_eq!(result.usage.connections, 1);
}

#[test]
fn a_silent_server() {
    let _alone = alone();
    let server = silent();
    let result = request(&server).under(wall_time(SHORT)).ends_with(TIMEOUT);
    assert_eq!(result.usage.http_response_bytes, 0);
    request(&server).deadline(SHORT).ends_with(DEADLINE);
    check_mostly_in_time(request(&server));
    // A guest that asked not to wait so long is told.
    let mut input = server.request("/");
    input["first_byte_ms"] = json!(50);
    check_error(by_way_of(&server, "request", input), "response timeout");
}

#[test]
fn a_body_that_stops_half_way() {
    let _alone = alone();
    let part = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
    let server = server(move |mut connection| async move {
        connection.head().await;
        connection.send(part).await;
        connection.gone().await;
    });
    let result = request(&server)
        .under(wall_time(A_WHILE))
        .ends_with(TIMEOUT);
    assert_eq!(result.usage.http_response_bytes, part.len() as u64);
    request(&server).deadline(A_WHILE).ends_with(DEADLINE);
    let mut input = server.request("/");
    input["between_bytes_ms"] = json!(50);
    let result = by_way_of(&server, "request", input).ends_with(End::Success);
    assert_eq!(output(&result)["broken"], "connection read timeout");
}

/// A byte now and then keeps every time-out between bytes happy; the deadline holds.
#[test]
fn a_server_that_drips() {
    let _alone = alone();
    let server = server(|mut connection| async move {
        connection.head().await;
        connection
            .send("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            .await;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while connection.send("x").await {
            tick.tick().await;
        }
    });
    let mut input = server.request("/");
    input["between_bytes_ms"] = json!(10_000);
    let result = by_way_of(&server, "request", input)
        .under(wall_time(A_WHILE))
        .ends_with(TIMEOUT);
    assert!(result.usage.http_response_bytes < KIB);
}

/// The same with a head that never ends.
#[test]
fn a_head_that_drips() {
    let _alone = alone();
    let server = server(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\n").await;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while connection.send("x-a: b\r\n").await {
            tick.tick().await;
        }
    });
    let result = request(&server)
        .under(wall_time(A_WHILE))
        .ends_with(TIMEOUT);
    assert!(result.usage.http_response_bytes < KIB);
}

#[test]
fn an_endless_body() {
    let _alone = alone();
    let server = endless("HTTP/1.1 200 OK\r\n\r\n", "x".repeat(10_000));
    check_stopped_by_bytes(&server, 300 * KIB);
    let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = endless(begin, format!("1000\r\n{}\r\n", "x".repeat(4096)));
    check_stopped_by_bytes(&server, 300 * KIB);
}

/// Chunks of one byte are mostly framing, which counts, too.
#[test]
fn chunks_that_are_mostly_framing() {
    let _alone = alone();
    let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = endless(begin, "1\r\nx\r\n".repeat(1000));
    check_stopped_by_bytes(&server, 64 * KIB);
    // Of extensions, so many bytes are read, and the body is broken after that.
    let server = endless(begin, "1;a=b\r\nx\r\n".repeat(1000));
    let attack = taken_from(&server, request(&server), 1..=256 * KIB);
    let result = attack.ends_with(End::Success);
    assert_ne!(output(&result)["broken"], Value::Null);
    assert!(result.usage.http_response_bytes < 256 * KIB);
}

#[test]
fn headers_without_end() {
    let _alone = alone();
    for (begin, again) in [
        // Many of them, one that is huge, and a first line that is.
        ("HTTP/1.1 200 OK\r\n", "x-a: b\r\n".repeat(100)),
        ("HTTP/1.1 200 OK\r\nx-a: ", "b".repeat(10_000)),
        ("HTTP/1.1 200 ", "O".repeat(10_000)),
    ] {
        let server = endless(begin, again);
        let attack = taken_from(&server, request(&server), 1..=300 * KIB);
        let result = check_error(attack, "head too large");
        assert!(result.usage.http_response_bytes < 300 * KIB);
    }
}

#[test]
fn informational_answers_without_end() {
    let _alone = alone();
    let again = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(100);
    let server = endless("HTTP/1.1 100 Continue\r\n\r\n", again);
    check_stopped_by_bytes(&server, 128 * KIB);
}

#[test]
fn trailers_without_end() {
    let _alone = alone();
    let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n";
    let server = endless(begin, "x-a: b\r\n".repeat(100));
    let attack = taken_from(&server, request(&server), 1..=256 * KIB);
    let result = attack.ends_with(End::Success);
    assert_ne!(output(&result)["broken"], Value::Null);
    assert!(result.usage.http_response_bytes < 256 * KIB);
}

/// The limit ends an execution that does not look at what became of its request.
#[test]
fn an_answer_that_the_guest_ignores() {
    let _alone = alone();
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(4096));
    let server = answering(head);
    let mut input = server.request("/");
    input["count"] = json!(10);
    by_way_of(&server, "spin", input)
        .under(responses(KIB))
        .ends_with(met(Limit::HttpResponseBytes));
}

#[test]
fn lengths_that_lie() {
    let _alone = alone();
    for (answer, expected) in [
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
            "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551614\r\n\r\nabc",
            json!({"error": "head too large"}),
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
        let server = answering(answer);
        let result = request(&server).ends_with(End::Success);
        let said = output(&result);
        for (key, value) in expected.as_object().expect("it is one") {
            assert_eq!(&said[key], value, "{answer}: {said:?}");
        }
    }
}
