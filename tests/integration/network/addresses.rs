//! Games with names: what a name leads to is checked, every address of it, each time. What
//! a hostile name leads to is tried in `tests/hostile/network/names.rs`.

use std::net::SocketAddr;

use super::servers::{Answer, Names, Server};
use super::{check_undisturbed, fetch, host_with, http, to};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

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
