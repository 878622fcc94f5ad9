//! Games with names: what a name leads to is checked, every address of it, each time.

use std::net::SocketAddr;

use skillhost::{Limit, LimitOverrides};

use super::servers::{Answer, Names, Server};
use super::{check_undisturbed, fetch, host_with, http, run, to};
use crate::harness::check_exhausted;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Checks that a name that is answered like this leads nowhere.
async fn check_prohibited(answer: Answer, first: &str) {
    let names = Names::with(move |_, _| answer.clone()).await;
    let host = host_with(&names);
    let server = Server::answering(OK).await;
    let granted = http(&[&server.grant_of("a.example")]);
    let ended = fetch(&host, granted, server.request_by("a.example")).await;
    assert_eq!(ended.output()["error"], "address prohibited");
    assert_eq!(ended.denial().subject, first);
    assert_eq!(server.accepted(), 0);
    // Its questions for the name.
    assert_eq!(ended.result.usage.http_request_bytes, 2 * (9 + 18));
    check_undisturbed(&host).await;
}

#[tokio::test]
async fn forms_of_internal_addresses() {
    for address in [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fe80::1",
        "fd00:ec2::254",
    ] {
        check_prohibited(Answer::addresses(&[address]), address).await;
    }
}

#[tokio::test]
async fn several_internal_addresses() {
    check_prohibited(Answer::addresses(&["10.0.0.1", "127.0.0.1"]), "10.0.0.1").await;
}

#[tokio::test]
async fn an_alias_to_the_inside() {
    let address = "127.0.0.1".parse().expect("an address");
    check_prohibited(Answer::Alias("db.internal", vec![address]), "127.0.0.1").await;
}

/// Only the granted one of several addresses is connected to.
#[tokio::test]
async fn a_mix_of_addresses() {
    let names =
        Names::with(|_, _| Answer::addresses(&["127.0.0.9", "10.0.0.1", "127.0.0.1"])).await;
    let host = host_with(&names);
    let server = Server::answering(OK).await;
    let granted = to(http(&[&server.grant_of("a.example")]), &["127.0.0.1"]);
    let ended = fetch(&host, granted, server.request_by("a.example")).await;
    assert_eq!(ended.output()["body"], "ok");
    assert!(ended.denials.is_empty());
}

/// A name that led to a granted address leads to another one the next time.
#[tokio::test]
async fn rebinding() {
    let names = Names::with(|_, before| match before {
        0 => Answer::addresses(&["127.0.0.1"]),
        _ => Answer::addresses(&["127.0.0.2"]),
    })
    .await;
    let host = host_with(&names);
    let server = Server::answering(OK).await;
    let granted = || to(http(&[&server.grant_of("a.example")]), &["127.0.0.1"]);
    let ended = fetch(&host, granted(), server.request_by("a.example")).await;
    assert_eq!(ended.output()["body"], "ok");
    assert_eq!(
        names.asked("a.example"),
        1,
        "what was checked is what is connected to"
    );
    let ended = fetch(&host, granted(), server.request_by("a.example")).await;
    assert_eq!(ended.output()["error"], "address prohibited");
    assert_eq!(ended.denial().subject, "127.0.0.2");
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let names = Names::with(|_, _| Answer::addresses(&["127.0.0.2", "127.0.0.1"])).await;
    let host = host_with(&names);
    // It listens on the second one only.
    let server = Server::answering(OK).await;
    let granted = to(http(&[&server.grant_of("a.example")]), &["127.0.0.0/8"]);
    let ended = fetch(&host, granted, server.request_by("a.example")).await;
    assert_eq!(ended.output()["body"], "ok");
}

#[tokio::test]
async fn names_without_addresses() {
    for (answer, error) in [
        (Answer::NoSuchName, "dns"),
        (Answer::addresses(&[]), "dns"),
        (Answer::Silence, "dns timeout"),
    ] {
        let names = Names::with(move |_, _| answer.clone()).await;
        let host = host_with(&names);
        let to: SocketAddr = "127.0.0.1:9".parse().expect("an address");
        let input = serde_json::json!({
            "authority": format!("a.example:{}", to.port()), "path": "/", "connect_ms": 300,
        });
        let ended = fetch(&host, http(&["http://a.example:9"]), input).await;
        assert_eq!(ended.output()["error"], error);
        assert!(ended.denials.is_empty());
        check_undisturbed(&host).await;
    }
}

/// What a guest asks for can carry what it knows to the servers of a name: so that has a limit.
#[tokio::test]
async fn asking_for_names_without_end() {
    let names = Names::with(|_, _| Answer::NoSuchName).await;
    let host = host_with(&names);
    let limits = LimitOverrides {
        http_request_bytes: Some(10 * 2 * (9 + 18)),
        ..Default::default()
    };
    let input = serde_json::json!({"authority": "a.example:9", "path": "/", "count": 1000});
    let granted = http(&["http://a.example:9"]);
    let ended = run(&host, "many", granted, input, limits).await;
    check_exhausted(&ended.result, Limit::HttpRequestBytes, 540);
    assert_eq!(ended.result.usage.http_request_bytes, 540);
    assert_eq!(names.asked("a.example"), 10);
    check_undisturbed(&host).await;
}

#[tokio::test]
async fn spellings_of_an_address() {
    let names = Names::with(|_, _| Answer::addresses(&["127.0.0.1"])).await;
    let host = host_with(&names);
    let server = Server::answering(OK).await;
    let port = server.address.port();
    for spelling in [
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::ffff:127.0.0.1]",
    ] {
        let input = serde_json::json!({"authority": format!("{spelling}:{port}"), "path": "/"});
        // The grant of another address, and of a name that leads there, is no grant of this one.
        let granted = http(&[
            &format!("http://127.0.0.2:{port}"),
            &server.grant_of("a.example"),
        ]);
        let ended = fetch(&host, granted, input.clone()).await;
        assert_eq!(ended.output()["error"], "denied", "{spelling}");
        let ended = fetch(&host, http(&[&server.grant()]), input).await;
        assert_eq!(ended.output()["body"], "ok", "{spelling}");
    }
}
