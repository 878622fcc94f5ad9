//! Sockets below HTTP that are silent, and that send and receive without end.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use skillhost::grant::Grants;
use skillhost::{Limit, LimitOverrides};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;

use super::{
    KIB, Server, check_error, check_untouched, heard_by, http, network, quiet, refused_of, runtime,
    server, silent, taken_from,
};
use crate::attack::{Attack, DEADLINE, End, NONE, SHORT, TIMEOUT, met, wall_time};
use crate::harness::output;
use crate::measure::alone;
use crate::waiting::check_mostly_in_time;

/// Long enough to be connected, also on a busy machine.
const A_WHILE: Duration = Duration::from_millis(800);

/// An attack over TCP on this server.
fn over_tcp(server: &Arc<Server>, tool: &'static str) -> Attack {
    let to = server.address.to_string();
    let grant = format!("tcp://{to}").parse().expect("it is a grant");
    Attack::from(network(), tool, json!({"to": to, "count": 1_000}))
        .granted(Grants::default().socket(grant))
        .settled_by(quiet(&[server]))
}

#[test]
fn a_silent_socket() {
    let _alone = alone();
    let result = over_tcp(&silent(), "tcp")
        .under(wall_time(A_WHILE))
        .ends_with(TIMEOUT);
    let usage = result.usage;
    assert_eq!((usage.socket_sent_bytes, usage.socket_read_bytes), (4, 0));
    over_tcp(&silent(), "tcp")
        .deadline(A_WHILE)
        .ends_with(DEADLINE);
    check_mostly_in_time(over_tcp(&silent(), "tcp"));
}

/// A server that nobody gets a connection to: those that it does not take fill its queue, and whoever asks for another
/// hears nothing.
struct Full {
    address: SocketAddr,
    #[allow(dead_code, reason = "held, not used")]
    held: (TcpListener, Vec<TcpStream>),
}

impl Full {
    fn new() -> Self {
        runtime().block_on(async {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket
                .bind(([127, 0, 0, 1], 0).into())
                .expect("a free port");
            let listener = socket.listen(1).expect("it listens");
            let address = listener.local_addr().expect("it has one");
            let mut waiting = Vec::new();
            let next = || tokio::time::timeout(A_WHILE / 2, TcpStream::connect(address));
            while let Ok(connection) = next().await {
                waiting.push(connection.expect("it is there"));
                assert!(waiting.len() < 100, "it never fills");
            }
            Full {
                address,
                held: (listener, waiting),
            }
        })
    }
}

/// Over HTTP, inside TLS, and by a socket.
#[test]
fn a_server_that_takes_no_connection() {
    let _alone = alone();
    let full = Full::new();
    let to = full.address.to_string();
    let granted = |scheme: &str| match scheme {
        "tcp" => Grants::default().socket(format!("tcp://{to}").parse().expect("it is a grant")),
        _ => http(&[&format!("{scheme}://{to}")]),
    };
    for scheme in ["http", "https", "tcp"] {
        let (tool, input) = match scheme {
            "tcp" => ("tcp", json!({ "to": to })),
            _ => (
                "request",
                json!({"scheme": scheme, "authority": to, "path": "/"}),
            ),
        };
        let attack = Attack::from(network(), tool, input.clone()).granted(granted(scheme));
        let result = attack.clone().under(wall_time(SHORT)).ends_with(TIMEOUT);
        assert_eq!(result.usage.socket_sent_bytes, 0, "{scheme}");
        attack.clone().deadline(SHORT).ends_with(DEADLINE);
        if scheme != "tcp" {
            let mut impatient = input;
            impatient["connect_ms"] = json!(50);
            check_error(attack.input(impatient), "connect timeout");
        }
    }
}

#[test]
fn bytes_that_are_sent_without_end() {
    let _alone = alone();
    let limits = LimitOverrides {
        socket_sent_bytes: Some(100 * KIB),
        ..NONE
    };
    let hears = silent();
    // The guest's last piece is the one that does not fit.
    let attack = over_tcp(&hears, "tcp_send");
    let result = heard_by(&hears, attack, 80 * KIB..=100 * KIB)
        .under(limits)
        .ends_with(met(Limit::SocketSentBytes));
    assert_eq!(result.usage.connections, 1);
    // To one that hears nothing, it is the time that is up. Nor does it hear that the guest is gone.
    let over = Arc::new(Notify::new());
    let deaf = server({
        let over = Arc::clone(&over);
        move |connection| {
            let over = Arc::clone(&over);
            async move {
                over.notified().await;
                drop(connection);
            }
        }
    });
    let limits = LimitOverrides {
        socket_sent_bytes: Some(1 << 30),
        ..wall_time(A_WHILE)
    };
    let quiet = quiet(&[&deaf]);
    over_tcp(&deaf, "tcp_send")
        .under(limits)
        .settled_by(move || {
            over.notify_one();
            quiet();
        })
        .ends_with(TIMEOUT);
}

#[test]
fn bytes_that_come_without_end() {
    let _alone = alone();
    let server = server(|mut connection| async move {
        let piece = vec![b'x'; 10_000];
        while connection.hand(&piece).await {}
    });
    let limits = LimitOverrides {
        socket_read_bytes: Some(100 * KIB),
        ..NONE
    };
    let attack = over_tcp(&server, "tcp_receive");
    let result = taken_from(&server, attack, 100 * KIB..=100 * KIB)
        .under(limits)
        .ends_with(met(Limit::SocketReadBytes));
    assert_eq!(result.usage.socket_read_bytes, 100 * KIB);
}

#[test]
fn a_bomb_of_sockets() {
    let _alone = alone();
    let server = silent();
    let limits = LimitOverrides {
        connections: Some(5),
        ..NONE
    };
    over_tcp(&server, "tcp_hold")
        .under(limits)
        .ends_with(met(Limit::Connections));
    assert!(server.most() <= 5, "{}", server.most());
}

/// How many datagrams this socket had no room for so far, as the kernel has it.
fn dropped(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/udp").expect("the system is Linux");
    let own = format!(":{port:04X}");
    let is_own = |line: &&str| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|address| address.ends_with(&own))
    };
    let line = table.lines().find(is_own).expect("it is there");
    let last = line.split_whitespace().next_back();
    last.and_then(|count| count.parse().ok()).expect("a number")
}

/// Datagrams are dropped on the way as it may be; they count when they are sent.
#[test]
fn datagrams_without_end() {
    let _alone = alone();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_nonblocking(true).expect("it can be set");
    let address = socket.local_addr().expect("it has one");
    let to = address.to_string();
    let before = Mutex::new(0);
    // On this machine each of them has come when it is sent, or was dropped.
    let settled = move || {
        let came = std::iter::from_fn(|| socket.recv(&mut [0; 2_000]).ok());
        let came = came.map(|bytes| bytes as u64).sum::<u64>();
        let dropped = dropped(address.port());
        let before = std::mem::replace(&mut *before.lock().expect("nobody panics here"), dropped);
        let sent = came + 1_000 * (dropped - before);
        assert!((90 * KIB..=100 * KIB).contains(&sent), "{sent}");
    };
    let grant = format!("udp://{to}").parse().expect("it is a grant");
    let limits = LimitOverrides {
        socket_sent_bytes: Some(100 * KIB),
        ..NONE
    };
    let result = Attack::from(network(), "udp_send", json!({ "to": to }))
        .granted(Grants::default().socket(grant))
        .settled_by(settled)
        .under(limits)
        .ends_with(met(Limit::SocketSentBytes));
    assert!(
        result.usage.socket_sent_bytes > 90 * KIB,
        "{:?}",
        result.usage
    );
}

/// However little each of them carries, and wherever they are to go: a list of very many would take longer to read than
/// anybody may go on.
#[test]
fn a_bomb_of_datagrams() {
    let _alone = alone();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_nonblocking(true).expect("it can be set");
    let to = socket.local_addr().expect("it has one").to_string();
    let at_once = |count: u64| {
        let limits = LimitOverrides {
            host_bytes: Some(64 << 20),
            ..NONE
        };
        Attack::from(network(), "udp_at_once", json!({"to": to, "count": count})).under(limits)
    };
    // As many as are read: they are refused for what they are.
    let (result, _) = refused_of(at_once(10_000), End::Success);
    assert_eq!(output(&result)["error"], "access-denied");
    let granted = format!("udp://{to}").parse().expect("it is a grant");
    for grants in [Grants::default(), Grants::default().socket(granted)] {
        for count in [10_001, 100_000] {
            let result = at_once(count)
                .granted(grants.clone())
                .ends_with(met(Limit::HostBytes));
            assert_eq!(result.usage.socket_sent_bytes, 0);
        }
    }
    let heard = socket.recv(&mut [0; 64]).expect_err("nothing came");
    assert_eq!(heard.kind(), std::io::ErrorKind::WouldBlock);
}

/// By other spellings of an address, to other ports, and by listening.
#[test]
fn sockets_to_elsewhere() {
    let _alone = alone();
    let (granted, other) = (silent(), silent());
    let grant = || {
        let grant = format!("tcp://{}", granted.address);
        Grants::default().socket(grant.parse().expect("it is a grant"))
    };
    let port = other.address.port();
    for (tool, to) in [
        ("tcp", format!("127.0.0.1:{port}")),
        ("tcp", format!("0.0.0.0:{port}")),
        ("tcp", format!("[::1]:{port}")),
        ("tcp", format!("[::ffff:127.0.0.1]:{port}")),
        ("listen", "127.0.0.1:0".to_owned()),
    ] {
        let attack = Attack::from(network(), tool, json!({ "to": to })).granted(grant());
        let (result, _) = refused_of(attack, End::Success);
        assert!(output(&result)["error"].is_string(), "{to}: {result:?}");
        assert_eq!(result.usage.socket_sent_bytes, 0, "{to}");
    }
    check_untouched(&other);
    check_untouched(&granted);
}
