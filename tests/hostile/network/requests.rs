//! Guests that ask for too much, or for what is two things at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use skillhost::{Limit, LimitOverrides};

use super::{
    KIB, Server, answering, by_way_of, check_error, check_untouched, heard_by, network, server,
    silent,
};
use crate::attack::{Attack, End, NONE, met};
use crate::harness::output;
use crate::measure::alone;

/// How many connections to this port are open now, as the kernel has it: a server sees only later
/// that one is closed. It tells them piece by piece, and one of them twice where others end meanwhile.
fn open_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("the system is Linux");
    let to = format!(":{port:04X}");
    let from = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (own, remote) = (fields.next()?, fields.next()?);
        (remote.ends_with(&to) && fields.next()? == "01").then_some(own)
    });
    from.collect::<HashSet<_>>().len()
}

/// A server that begins to answer, and never ends; and the most connections to it that were open at
/// once, looked at whenever there is a new one.
fn never_ending() -> (Arc<Server>, Arc<AtomicUsize>) {
    let most = Arc::new(AtomicUsize::new(0));
    let server = server({
        let most = Arc::clone(&most);
        move |mut connection| {
            let port = connection.stream.local_addr().map_or(0, |own| own.port());
            most.fetch_max(open_to(port), Ordering::Relaxed);
            async move {
                connection.head().await;
                connection
                    .send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx")
                    .await;
                connection.gone().await;
            }
        }
    });
    (server, most)
}

#[test]
fn a_bomb_of_connections() {
    let _alone = alone();
    let limits = LimitOverrides {
        connections: Some(3),
        ..NONE
    };
    // Each to a server of its own: what the one before held may be closed a moment after its end.
    let hold = |count: u64, end: End| {
        let (server, most) = never_ending();
        let mut input = server.request("/");
        input["count"] = json!(count);
        let held = by_way_of(&server, "hold", input).under(limits);
        let result = held.ends_with(end);
        assert_eq!(most.load(Ordering::Relaxed), 3);
        result
    };
    let result = hold(3, End::Success);
    assert_eq!(output(&result)["open"], 3);
    hold(50, met(Limit::Connections));
}

/// Requests that are let go of at once leave nothing behind, and never are there more connections than
/// may be open at once.
#[test]
fn requests_that_are_abandoned() {
    let _alone = alone();
    let (server, most) = never_ending();
    let mut input = server.request("/");
    input["count"] = json!(200);
    let result = by_way_of(&server, "abandon", input).ends_with(End::Success);
    assert!(result.usage.connections <= 200, "{:?}", result.usage);
    assert!(server.accepted() > 0, "none of them got so far");
    let most = most.load(Ordering::Relaxed);
    assert!(most as u64 <= result.limits.connections, "{most}");
}

#[test]
fn a_bomb_of_uploads() {
    let _alone = alone();
    let server = silent();
    let limits = LimitOverrides {
        http_request_bytes: Some(200 * KIB),
        ..NONE
    };
    let mut input = server.request("/");
    input["method"] = json!("POST");
    input["upload_bytes"] = json!(100 * KIB * KIB);
    let attack = by_way_of(&server, "request", input);
    let result = heard_by(&server, attack, 200 * KIB..=200 * KIB)
        .under(limits)
        .ends_with(met(Limit::HttpRequestBytes));
    assert_eq!(result.usage.http_request_bytes, 200 * KIB);
}

/// What is sent in many small requests is counted together.
#[test]
fn requests_without_end() {
    let _alone = alone();
    let server = answering("HTTP/1.1 204 No Content\r\n\r\n");
    let limits = LimitOverrides {
        http_request_bytes: Some(2 * KIB),
        ..NONE
    };
    let mut input = server.request("/");
    input["count"] = json!(1_000_000);
    let attack = by_way_of(&server, "many", input);
    let result = heard_by(&server, attack, 2 * KIB..=2 * KIB)
        .under(limits)
        .ends_with(met(Limit::HttpRequestBytes));
    assert_eq!(result.usage.http_request_bytes, 2 * KIB);
    assert!(result.usage.connections < 100, "{:?}", result.usage);
}

/// A guest cannot put a second request, or another host, into the first.
#[test]
fn requests_that_are_split() {
    let _alone = alone();
    let server = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
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
        check_error(by_way_of(&server, "request", input), "internal");
    }
    for path in [
        "/ HTTP/1.1\r\nx: y",
        "/ HTTP/1.1",
        "/\u{0}",
        "http://evil.example/",
    ] {
        let attack = by_way_of(&server, "request", server.request(path));
        check_error(attack, "uri invalid");
    }
    for method in ["GET / HTTP/1.1\r\n\r\nPOST", ""] {
        let mut input = server.request("/");
        input["method"] = json!(method);
        check_error(by_way_of(&server, "request", input), "uri invalid");
    }
    check_untouched(&server);
}

/// What is no text gets to nobody, wherever in a request it stands, and is no name to look up.
#[test]
fn requests_of_what_is_no_text() {
    let _alone = alone();
    let server = silent();
    let (name, path) = (json!(b"a\xff"), json!(b"/\xc3"));
    let mut attacks = vec![by_itself("resolve", json!({ "to": name }))];
    for (key, value) in [
        ("authority", name.clone()),
        ("method", name.clone()),
        ("scheme", name.clone()),
        ("headers", json!([[name, "a"]])),
        ("path", path),
    ] {
        let mut input = server.request("/");
        input[key] = value;
        attacks.push(by_way_of(&server, "request", input));
    }
    for attack in attacks {
        let result = attack.ends_with(End::Trap("contract_violation"));
        let failure = result.failure.expect("it failed");
        assert!(failure.message.contains("utf-8"), "{failure}");
        let usage = result.usage;
        assert_eq!((usage.http_request_bytes, usage.connections), (0, 0));
    }
    check_untouched(&server);
}

fn by_itself(tool: &'static str, input: Value) -> Attack {
    Attack::from(network(), tool, input)
}

/// The host keeps only so much of what a guest makes of fields.
#[test]
fn a_bomb_of_fields() {
    let _alone = alone();
    let fields = |count: u64, kibibytes: u64| {
        by_itself("fields", json!({"count": count, "kibibytes": kibibytes}))
    };
    let result = fields(100, 8).ends_with(End::Success);
    assert_eq!(output(&result)["kept"], 100);
    fields(100_000, 8).ends_with(met(Limit::Handles));
    fields(1, 1024).ends_with(met(Limit::HttpFieldsBytes));
    // More than can be kept, of which the last cannot be sent.
    for function in ["set", "from-list"] {
        by_itself("fields_for_ever", json!({"to": function, "count": 5_000}))
            .ends_with(met(Limit::HttpFieldsBytes));
    }
}

/// However much a call may carry, a list of very many items would take longer to read than anybody may go on.
#[test]
fn a_bomb_of_items() {
    let _alone = alone();
    let most = LimitOverrides {
        host_bytes: Some(64 << 20),
        ..NONE
    };
    for function in ["set", "from-list"] {
        let items = by_itself("fields_for_ever", json!({"to": function, "count": 400_000}));
        items.under(most).ends_with(met(Limit::HostBytes));
    }
}

/// What a guest writes into a request that it never sends is the host's memory, too.
#[test]
fn texts_of_any_length() {
    let _alone = alone();
    for (bytes, [method, scheme, authority, path]) in [
        (10, [true, true, true, true]),
        (100, [false, false, true, true]),
        (10_000, [false, false, false, true]),
        (20_000, [false; 4]),
        (3 << 20, [false; 4]),
    ] {
        let result = by_itself("texts", json!({ "bytes": bytes })).ends_with(End::Success);
        let expected =
            json!({"method": method, "scheme": scheme, "authority": authority, "path": path});
        assert_eq!(output(&result), &expected, "{bytes}");
    }
}
