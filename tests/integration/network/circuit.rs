//! A host that fails is left alone for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use skillhost::breaker::CircuitState;
use skillhost::policy::guard::CircuitSubject;
use skillhost::{Host, Status};
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

/// What a server does with a request: nothing; a part of an answer, and then nothing; a part of an answer,
/// and an end; a whole answer.
const SILENT: u8 = 0;
const STALLS: u8 = 1;
const BREAKS_OFF: u8 = 2;
const WELL: u8 = 3;

#[tokio::test(start_paused = true)]
async fn a_host_that_hangs_or_breaks_off_is_left_alone_until_it_is_well() {
    let host = builder()
        .policy(
            "each_host.breaker = { minimum = 2, pause_ms = '10s', probes = 2 }"
                .parse()
                .unwrap(),
        )
        .build()
        .unwrap();
    for how in [SILENT, STALLS, BREAKS_OFF] {
        let does = Arc::new(AtomicU8::new(how));
        let server = Server::with({
            let does = Arc::clone(&does);
            move |mut connection| {
                let how = does.load(Ordering::SeqCst);
                async move {
                    connection.head().await;
                    match how {
                        SILENT => {}
                        STALLS | BREAKS_OFF => {
                            let part = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok";
                            connection.send(part).await;
                        }
                        _ => drop(connection.send(OK).await),
                    }
                    if how >= BREAKS_OFF {
                        let _ = connection.stream.shutdown().await;
                    }
                    connection.gone().await;
                }
            }
        })
        .await;
        let grants = http(&[&server.grant()]);
        let send = async || fetch(&host, grants.clone(), server.request("/")).await;
        for sent in 0..2 {
            assert_ne!(state(&host, &server), Some(CircuitState::Open), "{sent}");
            let ended = send().await;
            match how {
                BREAKS_OFF => assert!(ended.output()["error"].is_string(), "{:?}", ended.result),
                _ => assert_eq!(ended.result.status, Status::Timeout, "{how}"),
            }
        }
        assert_eq!(state(&host, &server), Some(CircuitState::Open), "{how}");
        send().await;
        assert_eq!(server.accepted(), 2, "nothing is sent there: {how}");

        // It is well again: two good answers, and it is as it was.
        does.store(WELL, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(16)).await;
        for _ in 0..2 {
            assert_eq!(state(&host, &server), Some(CircuitState::HalfOpen), "{how}");
            assert_eq!(send().await.output()["body"], "ok");
        }
        assert_eq!(state(&host, &server), Some(CircuitState::Closed), "{how}");
    }
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
