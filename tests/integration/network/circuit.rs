//! A host that fails is left alone for a while.

use skillhost::Host;
use skillhost::breaker::CircuitState;
use skillhost::policy::guard::CircuitSubject;
use tokio::io::AsyncWriteExt;

use super::servers::Server;
use super::{fetch, http};
use crate::harness::builder;

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

/// That it recovers is shown by the README's tour (`tests/cli/tour.rs`).
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
