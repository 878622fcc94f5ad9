//! Servers that never greet inside TLS, and servers that greet well and then answer without end, or with what
//! is no answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skillhost::{Host, Limit, LimitOverrides, ResourceUsage, Roots};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::answers::responses;
use super::tls::identity;
use super::{
    Connection, Counted, KIB, Server, check_error, counted_by, heard_by, http, network, quiet,
    server, silent, taken_from,
};
use crate::attack::{Attack, DEADLINE, NONE, SHORT, TIMEOUT, builder, met, wall_time};
use crate::measure::alone;
use crate::waiting::check_mostly_in_time;

/// What a greeting counts as, and what comes to no connection (`src/egress/meter.rs`).
const GREETING: u64 = KIB;
/// What comes below TLS beside four times as much as may come inside (`src/egress/meter.rs`).
const BESIDE: u64 = 1 << 20;

/// What a request to this server inside TLS is.
fn input(server: &Server) -> Value {
    let mut input = server.request("/");
    input["scheme"] = json!("https");
    input
}

/// An attack by way of this server inside TLS, which is granted as a whole.
fn over_tls(server: &Arc<Server>, input: Value) -> Attack {
    Attack::from(network(), "request", input)
        .granted(http(&[&format!("https://{}", server.address)]))
        .settled_by(quiet(&[server]))
}

/// A server inside TLS, and a host that trusts it.
struct Trusted {
    server: Arc<Server>,
    host: Host,
}

impl Trusted {
    fn request(&self) -> Attack {
        over_tls(&self.server, input(&self.server)).on(&self.host)
    }
}

/// A server inside TLS, set up like this, that does this with each connection once both have greeted.
fn inside<F, W>(set_up: impl FnOnce(&mut ServerConfig), handler: F) -> Trusted
where
    F: Fn(TlsStream<Counted>) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let (mut config, authority) = identity("127.0.0.1");
    set_up(&mut config);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let handler = Arc::new(handler);
    let host = builder().certificate(authority).build();
    Trusted {
        server: server(move |connection| greet(connection, acceptor.clone(), Arc::clone(&handler))),
        host: host.expect("a host can be set up"),
    }
}

/// The connection counts as open until this is over.
async fn greet<F, W>(connection: Connection, acceptor: TlsAcceptor, handler: Arc<F>)
where
    F: Fn(TlsStream<Counted>) -> W,
    W: Future<Output = ()>,
{
    if let Ok(stream) = acceptor.accept(connection.stream).await {
        handler(stream).await;
    }
}

/// Reads the head of a request.
async fn head(stream: &mut TlsStream<Counted>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
}

/// Sends this inside TLS, and waits until it is taken. Says whether somebody took it.
async fn hand(stream: &mut TlsStream<Counted>, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.get_ref().0.taken().await
}

/// A server that says this, and then that without end, and hears nothing.
fn babbling(begin: &'static [u8], again: &[u8]) -> Arc<Server> {
    let again = again.repeat(1_000);
    server(move |mut connection| {
        let again = again.clone();
        async move {
            connection.send(begin).await;
            while connection.hand(&again).await {}
        }
    })
}

/// No greeting comes in the guest's time, nor in the execution's.
#[track_caller]
fn check_waited_for(server: &Arc<Server>) {
    let mut impatient = input(server);
    impatient["connect_ms"] = json!(500);
    let told = check_error(over_tls(server, impatient), "connect timeout").usage;
    let ended = over_tls(server, input(server))
        .under(wall_time(SHORT))
        .ends_with(TIMEOUT)
        .usage;
    let late = over_tls(server, input(server))
        .deadline(SHORT)
        .ends_with(DEADLINE)
        .usage;
    for usage in [&told, &ended, &late] {
        assert_eq!(
            (usage.http_request_bytes, usage.http_response_bytes),
            (GREETING, 0)
        );
    }
    // It was made, and that nothing came of it changes nothing.
    assert_eq!(told.connections, 1);
    assert!(server.accepted() > 0, "it was never asked");
}

#[test]
fn a_server_that_does_not_greet() {
    let _alone = alone();
    let server = silent();
    check_waited_for(&server);
    check_mostly_in_time(over_tls(&server, input(&server)));
}

/// A byte now and then, of a greeting of 16 KiB.
#[test]
fn a_greeting_that_drips() {
    let _alone = alone();
    check_waited_for(&server(|mut connection| async move {
        let begin = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb";
        connection.send(begin).await;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while connection.send(b"\0").await {
            tick.tick().await;
        }
    }));
}

/// What is sent in place of a greeting, without end, is no greeting soon.
#[test]
fn greetings_without_end() {
    let _alone = alone();
    for (begin, again) in [
        // Records with nothing in them, of a greeting and of data.
        (&b""[..], &b"\x16\x03\x03\0\0"[..]),
        (b"", b"\x17\x03\x03\0\0"),
        // Warnings that somebody changed their mind, and a change of the cipher that was never agreed on.
        (b"", b"\x15\x03\x03\0\x02\x01\x5a"),
        (b"", b"\x14\x03\x03\0\x01\x01"),
        // In records of a byte each: a wish to be greeted again, and greetings of 16 MiB and of 64 KiB.
        (b"", b"\x16\x03\x03\0\x01\0"),
        (
            b"\x16\x03\x03\0\x04\x02\xff\xff\xff",
            b"\x16\x03\x03\0\x01\0",
        ),
        (b"\x16\x03\x03\0\x04\x02\0\xff\xff", b"\x16\x03\x03\0\x01\0"),
    ] {
        let server = babbling(begin, again);
        let attack = over_tls(&server, input(&server));
        let result = check_error(taken_from(&server, attack, 1..=BESIDE), "tls");
        let usage = result.usage;
        assert_eq!(
            (usage.http_request_bytes, usage.http_response_bytes),
            (GREETING, 0)
        );
        assert_eq!(usage.connections, 1);
    }
}

/// So many requests that come to no connection, or to no greeting.
#[track_caller]
fn check_counted(attack: impl Fn(Value) -> Attack, mut input: Value) -> ResourceUsage {
    const ALLOWED: u64 = 20;
    input["count"] = json!(100_000);
    let limits = LimitOverrides {
        http_request_bytes: Some(ALLOWED * GREETING),
        ..NONE
    };
    let result = attack(input)
        .under(limits)
        .ends_with(met(Limit::HttpRequestBytes));
    assert_eq!(result.usage.http_request_bytes, ALLOWED * GREETING);
    result.usage
}

/// A server that ends each greeting has the host begin another, which costs both more than the guest.
#[test]
fn greetings_that_fail_without_end() {
    let _alone = alone();
    let server = server(|mut connection| async move {
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let many = |input: Value| {
        Attack::from(network(), "many", input)
            .granted(http(&[&format!("https://{}", server.address)]))
    };
    // It is for the next one that nothing is left.
    let counted = |input: Value| {
        counted_by(&server, many(input), |carried| {
            assert_eq!(carried.connections, 21, "{carried:?}");
        })
    };
    let usage = check_counted(counted, input(&server));
    assert_eq!(usage.connections, 21);
}

/// The same where nobody is there to greet, whether or not there would be TLS.
#[test]
fn connections_that_are_refused_without_end() {
    let _alone = alone();
    for scheme in ["http", "https"] {
        // A port that nobody listens at any more.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = nobody.local_addr().expect("it has one").to_string();
        drop(nobody);
        let input = json!({"scheme": scheme, "authority": address, "path": "/"});
        let many = |input: Value| {
            Attack::from(network(), "many", input)
                .granted(http(&[&format!("{scheme}://{address}")]))
        };
        assert_eq!(check_counted(many, input).connections, 0);
    }
}

#[test]
fn an_endless_body() {
    let _alone = alone();
    let trusted = inside(
        |_| {},
        |mut stream| async move {
            head(&mut stream).await;
            // Of the last one, it is not known how much was taken.
            let piece = "x".repeat(1_000);
            let mut next = "HTTP/1.1 200 OK\r\n\r\n";
            while hand(&mut stream, next.as_bytes()).await {
                next = &piece;
            }
        },
    );
    // With what TLS has beside, which is less than the page that may be under way.
    let bytes = 300 * KIB;
    let result = taken_from(&trusted.server, trusted.request(), bytes..=bytes)
        .under(responses(bytes))
        .ends_with(met(Limit::HttpResponseBytes));
    assert_eq!(result.usage.http_response_bytes, bytes);
    assert_eq!(result.usage.connections, 1);
}

/// What a guest sends inside TLS ends where it does outside.
#[test]
fn a_bomb_of_uploads() {
    let _alone = alone();
    let trusted = inside(
        |_| {},
        |mut stream| async move {
            let mut buffer = [0; 1024];
            while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
        },
    );
    let mut input = input(&trusted.server);
    input["method"] = json!("POST");
    input["upload_bytes"] = json!(100 * KIB * KIB);
    let limits = LimitOverrides {
        http_request_bytes: Some(200 * KIB),
        ..NONE
    };
    // What was counted and not yet encrypted, some 64 KiB, is not sent any more; what TLS has beside is.
    let attack = trusted.request().input(input);
    let result = heard_by(&trusted.server, attack, 100 * KIB..=210 * KIB)
        .under(limits)
        .ends_with(met(Limit::HttpRequestBytes));
    assert_eq!(result.usage.http_request_bytes, 200 * KIB);
}

/// A record has 22 bytes beside the one that is in it: below TLS there is a limit, too.
#[test]
fn records_of_a_byte_each() {
    let _alone = alone();
    let trusted = inside(
        |_| {},
        |mut stream| async move {
            head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            for sent in 1_u32.. {
                if stream.write_all(b"x").await.is_err() {
                    break;
                }
                if sent % 400 == 0 {
                    stream.get_ref().0.taken().await;
                }
            }
        },
    );
    let bytes = 100 * KIB;
    let below = 4 * bytes + BESIDE;
    let result = taken_from(&trusted.server, trusted.request(), below..=below)
        .under(responses(bytes))
        .ends_with(met(Limit::HttpResponseBytes));
    let came = result.usage.http_response_bytes;
    assert!(came > 0 && 23 * came <= below, "{came}");
    assert_eq!(result.usage.connections, 1);
}

/// In keys that take the place of others there is nothing of an answer, nor in records that nobody can read.
#[test]
fn nothing_but_records_in_place_of_an_answer() {
    let _alone = alone();
    let keys = inside(
        |_| {},
        |mut stream| async move {
            loop {
                let (_, session) = stream.get_mut();
                if session.refresh_traffic_keys().is_err() || stream.flush().await.is_err() {
                    break;
                }
                stream.get_ref().0.taken().await;
            }
        },
    );
    let unreadable = inside(
        |_| {},
        |mut stream| async move {
            let (below, _) = stream.get_mut();
            let records = b"\x17\x03\x03\0\0".repeat(1_000);
            while below.write_all(&records).await.is_ok() {
                below.taken().await;
            }
        },
    );
    for trusted in [keys, unreadable] {
        let attack = taken_from(&trusted.server, trusted.request(), 1..=BESIDE);
        let result = check_error(attack, "incomplete");
        assert_eq!(result.usage.http_response_bytes, 0);
        assert_eq!(result.usage.connections, 1);
    }
}

/// The machine's own certificates stand in a file that does not answer, as one on a network drive that is gone: each
/// request waits for that, and leaves no thread behind. In a process in which it is known where they are.
#[test]
fn certificates_that_cannot_be_read() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let roots = folder.path().join("roots.pem");
    crate::directories::make_fifo(&roots);
    let output = std::process::Command::new(std::env::current_exe().expect("it has a path"))
        .args([
            "network::secure::a_process_without_its_certificates",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("SSL_CERT_FILE", &roots)
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_process_without_its_certificates() {
    let _alone = alone();
    let server = silent();
    let host = builder().roots(Roots::Platform).build();
    let attack = over_tls(&server, input(&server)).on(&host.expect("a host can be set up"));
    attack.clone().under(wall_time(SHORT)).ends_with(TIMEOUT);
    attack.clone().deadline(SHORT).ends_with(DEADLINE);
    let mut impatient = input(&server);
    impatient["connect_ms"] = json!(50);
    check_error(attack.input(impatient), "connect timeout");
}
