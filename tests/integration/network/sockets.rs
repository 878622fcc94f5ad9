//! Sockets below HTTP: to granted addresses and ports, and no others.

use serde_json::json;
use skillhost::grant::{Capability, Grants, Remedy};
use skillhost::{Limit, LimitOverrides};
use tokio::net::UdpSocket;

use super::servers::Server;
use super::{Ended, check_undisturbed, run};
use crate::harness::{check_exhausted, host};

async fn pong() -> Server {
    Server::with(|mut connection| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut ping = [0; 4];
        let _ = connection.stream.read_exact(&mut ping).await;
        connection.send("pong").await;
        let _ = connection.stream.shutdown().await;
    })
    .await
}

async fn tool(name: &str, granted: &[&str], to: &str) -> Ended {
    let grants = granted.iter().fold(Grants::default(), |grants, text| {
        grants.socket(text.parse().expect("it is a grant"))
    });
    run(
        host(),
        name,
        grants,
        json!({"to": to}),
        LimitOverrides::default(),
    )
    .await
}

#[tokio::test]
async fn tcp_goes_where_it_is_granted() {
    let server = pong().await;
    let other = pong().await;
    let to = server.address.to_string();
    let grant = format!("tcp://{to}");
    let ended = tool("tcp", &[&grant], &to).await;
    assert_eq!(ended.output()["said"], "pong");
    let usage = &ended.result.usage;
    assert_eq!(usage.connections, 1);
    assert_eq!((usage.socket_sent_bytes, usage.socket_read_bytes), (4, 4));
    assert_eq!(usage.http_request_bytes, 0);
    // The refusal names where it was to go, whatever else is granted.
    for granted in [
        vec![],
        vec![format!("udp://{to}")],
        vec![format!("tcp://{}", other.address)],
    ] {
        let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
        let ended = tool("tcp", &granted, &to).await;
        assert_eq!(ended.output()["error"], "permission denied", "{granted:?}");
        assert_eq!(ended.denial().capability, Capability::Socket);
        assert_eq!(ended.denial().subject, grant);
        let hint = &ended.denial().hint;
        for part in [
            format!("--socket {grant}`"),
            format!("`sockets = [\"{grant}\"]`"),
        ] {
            assert!(hint.contains(&part), "{hint}");
        }
    }
    assert_eq!(server.accepted(), 1);
    assert_eq!(other.accepted(), 0);
    check_undisturbed(host()).await;
}

fn sending(bytes: u64) -> LimitOverrides {
    LimitOverrides {
        socket_sent_bytes: Some(bytes),
        ..Default::default()
    }
}

fn receiving(bytes: u64) -> LimitOverrides {
    LimitOverrides {
        socket_read_bytes: Some(bytes),
        ..Default::default()
    }
}

#[tokio::test]
async fn bytes_of_sockets_are_limited_both_ways() {
    let server = pong().await;
    let to = server.address.to_string();
    let tcp = async |limits| {
        let grant = format!("tcp://{to}").parse().expect("it is a grant");
        let grants = Grants::default().socket(grant);
        run(host(), "tcp", grants, json!({"to": to}), limits).await
    };
    for limits in [sending(4), receiving(4)] {
        assert_eq!(tcp(limits).await.output()["said"], "pong");
    }
    let ended = tcp(sending(3)).await;
    check_exhausted(&ended.result, Limit::SocketSentBytes, 3);
    assert_eq!(ended.result.usage.socket_sent_bytes, 0, "none of them went");
    let ended = tcp(receiving(3)).await;
    check_exhausted(&ended.result, Limit::SocketReadBytes, 3);
    assert_eq!(ended.result.usage.socket_read_bytes, 3);
    check_undisturbed(host()).await;
}

/// Some languages' libraries ask for the addresses of an address.
#[tokio::test]
async fn an_address_is_its_own_address() {
    for (name, address) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1")] {
        let ended = tool("resolve", &["tcp://127.0.0.1:9"], name).await;
        assert_eq!(ended.output()["found"], json!([address]));
        assert!(ended.denials.is_empty());
    }
    let ended = tool("resolve", &["tcp://127.0.0.1:9"], "127.1").await;
    assert_eq!(ended.output()["error"], "access-denied");
    assert_eq!(ended.denial().subject, "127.1");
}

#[tokio::test]
async fn udp_goes_where_it_is_granted() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let to = socket.local_addr().expect("it has one").to_string();
    let answering = tokio::spawn(async move {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            // Somebody else answers first, and is not heard.
            let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
            stranger.send_to(b"forged", from).await.expect("it is sent");
            socket.send_to(b"pong", from).await.expect("it is sent");
        }
    });
    let granted = format!("udp://{to}");
    let ended = tool("udp", &[&granted], &to).await;
    assert_eq!(ended.output()["said"], "pong");
    let usage = &ended.result.usage;
    // Each datagram with its header.
    assert_eq!(usage.socket_sent_bytes, 12);
    assert_eq!(usage.socket_read_bytes, 12);
    for (limits, limit) in [
        (sending(11), Limit::SocketSentBytes),
        (receiving(11), Limit::SocketReadBytes),
    ] {
        let grants = Grants::default().socket(granted.parse().expect("it is a grant"));
        let ended = run(host(), "udp", grants, json!({"to": to}), limits).await;
        check_exhausted(&ended.result, limit, 11);
    }
    let ended = tool("udp_connected", &[&granted], &to).await;
    assert_eq!(ended.output()["said"], "4");
    // The refusal names where it was to go, whatever else is granted, and however it was to go there.
    for tool_name in ["udp", "udp_connected"] {
        for other in [None, Some("udp://127.0.0.1:9"), Some("tcp://127.0.0.1:9")] {
            let ended = tool(tool_name, other.as_slice(), &to).await;
            let error = &ended.output()["error"];
            assert_eq!(error, "permission denied", "{tool_name} {other:?}");
            let denial = ended.denial();
            assert_eq!(denial.subject, granted, "{tool_name} {other:?}");
            let line = format!("`sockets = [\"{granted}\"]`");
            assert!(denial.hint.contains(&line), "{}", denial.hint);
        }
    }
    answering.abort();
}

/// What can be granted is named, and what no grant would change is not.
#[tokio::test]
async fn many_are_reached_by_udp_alone() {
    for name in ["udp", "udp_connected"] {
        let ended = tool(name, &[], "224.0.0.251:5353").await;
        assert_eq!(ended.output()["error"], "permission denied");
        assert_eq!(ended.denial().subject, "udp://224.0.0.251:5353");
    }
    for (name, to) in [
        ("tcp", "224.0.0.251:5353"),
        ("udp", "0.0.0.0:9"),
        ("udp", "10.0.0.1:0"),
        ("udp", "255.255.255.255:9"),
    ] {
        for granted in [&[] as &[&str], &["tcp://127.0.0.1:9", "udp://127.0.0.1:9"]] {
            let ended = tool(name, granted, to).await;
            assert!(ended.output()["error"].is_string(), "{name} {to}");
            assert_eq!(ended.denials, [], "{name} {to} {granted:?}");
        }
    }
}

/// With a socket that is granted to somewhere, and with none.
#[tokio::test]
async fn nobody_listens() {
    for granted in [&["tcp://127.0.0.1:9"] as &[&str], &[]] {
        for to in ["127.0.0.1:0", "0.0.0.0:0"] {
            let ended = tool("listen", granted, to).await;
            assert_eq!(ended.output()["error"], "permission denied");
            let denial = ended.denial();
            assert_eq!(denial.subject, "tcp", "{granted:?} {to}");
            assert!(denial.hint.starts_with("there is no grant"), "{denial:?}");
            assert_eq!(denial.remedy, Remedy::Skill);
        }
    }
    for granted in [&["udp://127.0.0.1:9"] as &[&str], &[]] {
        for to in ["127.0.0.1:9", "0.0.0.0:9", "255.255.255.255:9"] {
            let ended = tool("listen_udp", granted, to).await;
            assert_eq!(ended.output()["error"], "permission denied", "{to}");
            assert_eq!(ended.denial().subject, "udp", "{granted:?} {to}");
        }
    }
}

/// What shows where it was to go is no socket: it takes what is set, and tells nothing.
#[tokio::test]
async fn without_a_grant_a_socket_is_none() {
    let server = pong().await;
    let port = server.address.port();
    let to = server.address.to_string();
    let refused = "access-denied";
    let set = |names: &[&'static str]| names.iter().map(|name| (*name, "ok")).collect::<Vec<_>>();
    let ask = |names: &[&'static str]| names.iter().map(|name| (*name, refused)).collect();
    let tcp: [Vec<_>; 2] = [
        set(&[
            "set_keep_alive_enabled",
            "set_keep_alive_idle_time",
            "set_keep_alive_interval",
            "set_keep_alive_count",
            "set_hop_limit",
            "set_receive_buffer_size",
            "set_send_buffer_size",
            "set_listen_backlog_size",
            "start_bind",
            "finish_bind",
        ]),
        ask(&[
            "keep_alive_enabled",
            "keep_alive_idle_time",
            "keep_alive_interval",
            "keep_alive_count",
            "hop_limit",
            "receive_buffer_size",
            "send_buffer_size",
            "local_address",
            "remote_address",
            "start_connect",
            "finish_connect",
            "start_bind_to_a_port",
            "start_listen",
            "finish_listen",
            "accept",
            "shutdown",
        ]),
    ];
    let udp: [Vec<_>; 2] = [
        set(&[
            "set_unicast_hop_limit",
            "set_receive_buffer_size",
            "set_send_buffer_size",
            "start_bind",
            "finish_bind",
            "stream",
            "check_send",
            "send_none",
        ]),
        ask(&[
            "start_bind_to_a_port",
            "unicast_hop_limit",
            "receive_buffer_size",
            "send_buffer_size",
            "local_address",
            "remote_address",
            "send",
            "receive",
            "stream_to_a_port",
        ]),
    ];
    for (name, other, calls, expected) in
        [("tcp_calls", "udp", 40, tcp), ("udp_calls", "tcp", 38, udp)]
    {
        for granted in [vec![], vec![format!("{other}://{to}")]] {
            let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
            let ended = tool(name, &granted, &to).await;
            let output = ended.output();
            let mut said = expected.concat();
            // No grant would change that.
            said.extend(match name {
                "udp_calls" => [
                    ("send_to_nobody", "invalid-argument"),
                    ("stream_to_no_port", "invalid-argument"),
                ],
                _ => [
                    ("start_connect_by_another_family", "invalid-argument"),
                    ("start_connect_to_no_port", "invalid-argument"),
                ],
            });
            let said: serde_json::Map<_, _> = said
                .into_iter()
                .map(|(call, came_to)| (call.to_owned(), came_to.into()))
                .collect();
            assert_eq!(output["said"], serde_json::Value::Object(said), "{name}");
            assert_eq!(
                (&output["family"], &output["again"]),
                (&true.into(), &true.into())
            );
            assert_ne!(output["is_listening"], true);
            let usage = &ended.result.usage;
            assert_eq!((usage.connections, usage.host_calls), (0, calls), "{name}");
            let protocol = &name[..3];
            let mut subjects: Vec<_> = ended
                .denials
                .iter()
                .map(|one| one.subject.as_str())
                .collect();
            subjects.sort_unstable();
            let named = format!("{protocol}://127.0.0.1:{port}");
            assert_eq!(subjects, [protocol, &named], "{name}");
        }
    }
    assert_eq!(server.accepted(), 0);
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn names_are_not_looked_up() {
    let ended = tool("lookup", &["tcp://127.0.0.1:9"], "localhost:80").await;
    assert!(ended.output()["error"].is_string(), "{:?}", ended.output());
    assert_eq!(ended.denial().subject, "localhost");
}

#[tokio::test]
async fn sockets_count_as_connections() {
    let server = pong().await;
    let to = server.address.to_string();
    let limits = LimitOverrides {
        connections: Some(0),
        ..Default::default()
    };
    let grant = format!("tcp://{to}").parse().expect("it is a grant");
    let grants = Grants::default().socket(grant);
    let ended = run(host(), "tcp", grants, json!({"to": to}), limits).await;
    check_exhausted(&ended.result, Limit::Connections, 0);
    assert_eq!(server.accepted(), 0);
}
