//! A host that fails is left alone for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use skillhost::breaker::{CircuitState, MAX_OF_ONE};
use skillhost::grant::Remedy;
use skillhost::policy::guard::CircuitSubject;
use skillhost::{ExecutionRequest, Host, LimitOverrides, NameServers};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{advance, pause, resume};

use super::servers::{Answer, Names, Server};
use super::{fetch, http, run, to};
use crate::harness::{builder, execute, network_path, output};

const FAILING: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// How a server's circuit stands, where it has one.
fn state(host: &Host, server: &Server) -> Option<CircuitState> {
    let standings = host.breakers().standings();
    let subject = CircuitSubject::Host {
        host: server.address.to_string(),
    };
    let found = standings
        .iter()
        .find(|standing| standing.subject == subject);
    found.map(|standing| standing.state)
}

/// The beginning of an answer.
const PART: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok";

#[tokio::test]
async fn a_host_that_breaks_off_is_left_alone() {
    let policy = "each_host.breaker = { minimum = 2 }";
    let host = builder().policy(policy.parse().unwrap()).build().unwrap();
    let server = Server::with(|mut connection| async move {
        connection.head().await;
        connection.send(PART).await;
        let _ = connection.stream.shutdown().await;
        connection.gone().await;
    })
    .await;
    let grants = http(&[&server.grant()]);
    let send = async || fetch(&host, grants.clone(), server.request("/")).await;
    for _ in 0..2 {
        assert_ne!(state(&host, &server), Some(CircuitState::Open));
        let ended = send().await;
        assert!(ended.output()["broken"].is_string(), "{:?}", ended.result);
    }
    assert_eq!(state(&host, &server), Some(CircuitState::Open));
    let ended = send().await;
    assert!(ended.output()["error"].is_string(), "{:?}", ended.result);
    assert_eq!(server.accepted(), 2, "nothing is sent there");
}

#[tokio::test]
async fn a_host_that_fails_is_left_alone_and_others_are_not() {
    let host = builder()
        .policy("each_host.breaker = { minimum = 2 }".parse().unwrap())
        .build()
        .unwrap();
    let (failing, good) = (
        Server::answering(FAILING).await,
        Server::answering(OK).await,
    );
    let grants = http(&[&failing.grant(), &good.grant()]);
    for _ in 0..2 {
        let ended = fetch(&host, grants.clone(), failing.request("/")).await;
        assert_eq!(ended.output()["status"], 503);
    }
    let ended = fetch(&host, grants.clone(), failing.request("/")).await;
    assert!(ended.output()["error"].is_string(), "{:?}", ended.result);
    let denial = ended.denial();
    assert!(denial.reason.contains("failed too often"), "{denial}");
    assert_eq!(denial.remedy, Remedy::Wait);
    assert!(denial.hint.contains("each_host.breaker"), "{denial}");
    assert_eq!(failing.accepted(), 2, "nothing is sent there");
    let ended = fetch(&host, grants.clone(), good.request("/")).await;
    assert_eq!(ended.output()["body"], "ok");
    assert_eq!(state(&host, &failing), Some(CircuitState::Open));
    assert_eq!(state(&host, &good), Some(CircuitState::Closed));

    // What was not granted says nothing of a host.
    let ended = fetch(&host, http(&[&good.grant()]), failing.request("/")).await;
    assert_eq!(ended.output()["error"], "denied");
    host.set_policy(None);
    let ended = fetch(&host, grants, failing.request("/")).await;
    assert_eq!(ended.output()["status"], 503, "nothing is said any more");
}

#[tokio::test]
async fn a_host_that_broke_off_is_asked_again_and_recovers() {
    let policy = "each_host.breaker = { minimum = 2, pause_ms = '1s', probes = 2 }";
    let host = builder().policy(policy.parse().unwrap()).build().unwrap();
    let well = Arc::new(AtomicBool::new(false));
    let server = Server::with({
        let well = Arc::clone(&well);
        move |mut connection| {
            let answer = if well.load(Ordering::SeqCst) {
                OK
            } else {
                PART
            };
            async move {
                connection.head().await;
                connection.send(answer).await;
                let _ = connection.stream.shutdown().await;
                connection.gone().await;
            }
        }
    })
    .await;
    let grants = http(&[&server.grant()]);
    let send = async || fetch(&host, grants.clone(), server.request("/")).await;
    // Of the host's own clock, by which an execution ends as well, none can be passed in.
    let pause_is_over = async || {
        while state(&host, &server) == Some(CircuitState::Open) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    for _ in 0..2 {
        assert!(send().await.output()["broken"].is_string());
    }
    assert_eq!(state(&host, &server), Some(CircuitState::Open));
    // It breaks off once more.
    pause_is_over().await;
    assert_eq!(state(&host, &server), Some(CircuitState::HalfOpen));
    assert!(send().await.output()["broken"].is_string());
    assert_eq!(state(&host, &server), Some(CircuitState::Open));
    assert!(send().await.output()["error"].is_string());
    assert_eq!(server.accepted(), 3, "one probe, and nothing more");
    // Twice as long now; then it is well, and is trusted after two probes.
    well.store(true, Ordering::SeqCst);
    pause_is_over().await;
    for standing in [CircuitState::HalfOpen, CircuitState::Closed] {
        assert_eq!(send().await.output()["body"], "ok");
        assert_eq!(state(&host, &server), Some(standing));
    }
    assert_eq!(send().await.output()["body"], "ok");
}

/// A skill that asks ever new hosts forgets what is known of those, and not what is known of the hosts of others.
#[tokio::test]
async fn a_skill_that_asks_very_many_hosts_takes_no_circuit_of_others() {
    let names = Names::with(|_, _| Answer::addresses(&["127.0.0.1"])).await;
    let host = builder()
        .policy(
            "each_host.breaker = { minimum = 2, window_ms = 3600000 }"
                .parse()
                .unwrap(),
        )
        .name_servers(NameServers::Servers(vec![names.address]))
        .build()
        .unwrap();
    let failing = Server::answering(FAILING).await;
    let other = host
        .load(network_path().with_file_name("redirects.wasm"))
        .await
        .unwrap();
    let other_asks = async || {
        let input = json!({"url": format!("{}/", failing.grant())});
        let request = ExecutionRequest::new(other.digest(), input)
            .tool("follow")
            .grants(http(&[&failing.grant()]));
        let result = execute(&host, request).await;
        assert_eq!(output(&result)["status"], 503);
    };
    other_asks().await;
    assert_eq!(state(&host, &failing), Some(CircuitState::Closed));
    // Each name leads to the next one.
    let leading = Server::with(|mut connection| async move {
        let head = connection.head().await;
        let (number, port) = head
            .lines()
            .find_map(|line| {
                let (number, port) = line
                    .strip_prefix("host: n")?
                    .split_once(".a.example:")?;
                Some((number.parse::<u32>().ok()?, port))
            })
            .expect("it has a number");
        connection
            .send(format!(
                "HTTP/1.1 302 Found\r\nlocation: http://n{}.a.example:{port}/\r\ncontent-length: 0\r\n\r\n",
                number + 1
            ))
            .await;
        let _ = connection.stream.shutdown().await;
        connection.gone().await;
    })
    .await;
    let many = MAX_OF_ONE + MAX_OF_ONE / 4;
    let mut input = leading.request_by("n0.a.example");
    input["count"] = json!(many);
    let limits = LimitOverrides {
        wall_time: Some(Duration::from_secs(600)),
        ..LimitOverrides::default()
    };
    let grants = to(http(&[&leading.grant_of("*.a.example")]), &["127.0.0.1"]);
    let ended = run(&host, "follow", grants, input, limits).await;
    assert_eq!(ended.output()["hops"], many);
    let circuits = host.breakers().standings().len();
    assert!(circuits <= MAX_OF_ONE + 1, "{circuits}");
    // The failure that was before all of that is known, and this is the second one.
    other_asks().await;
    assert_eq!(state(&host, &failing), Some(CircuitState::Open));
}

/// Whatever makes whoever waits give up, a host that is silent for long is not well.
#[tokio::test]
async fn a_host_that_is_silent_is_left_alone() {
    let policy = "each_host.breaker = { minimum = 1 }";
    let host = builder().policy(policy.parse().unwrap()).build().unwrap();
    let asked = Arc::new(Notify::new());
    let server = Server::with({
        let asked = Arc::clone(&asked);
        move |mut connection| {
            let asked = Arc::clone(&asked);
            async move {
                connection.head().await;
                asked.notify_one();
                connection.gone().await;
            }
        }
    })
    .await;
    let grants = http(&[&server.grant()]);
    // Somebody who waits for so long, and is gone.
    let waits = async |time| {
        {
            let sent = fetch(&host, grants.clone(), server.request("/"));
            let mut sent = std::pin::pin!(sent);
            tokio::select! {
                ended = &mut sent => panic!("it is silent: {:?}", ended.result),
                () = asked.notified() => {}
            }
            pause();
            advance(time).await;
        }
        resume();
        server.quiet().await;
        for _ in 0..100 {
            yield_now().await;
        }
    };
    waits(Duration::from_secs(4)).await;
    assert_ne!(state(&host, &server), Some(CircuitState::Open));
    waits(Duration::from_secs(6)).await;
    assert_eq!(state(&host, &server), Some(CircuitState::Open));
    let ended = fetch(&host, grants.clone(), server.request("/")).await;
    assert!(ended.output()["error"].is_string(), "{:?}", ended.result);
    assert_eq!(server.accepted(), 2, "nothing is sent there");
}
