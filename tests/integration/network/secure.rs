//! TLS: a server is who its certificate says, for whoever is trusted.

use serde_json::{Value, json};
use skillhost::{Host, HostError, NameServers, Roots};
use tokio_rustls::rustls::HandshakeKind;

use super::servers::{Answer, Names};
use super::tls::{Secure, server};
use super::{fetch, http, to};
use crate::harness::builder;

async fn ask(host: &Host, server: &Secure, name: &str) -> Value {
    let granted = http(&[&format!("https://{name}:{}", server.port)]);
    let input = json!({
        "scheme": "https", "authority": format!("{name}:{}", server.port), "path": "/",
    });
    let ended = fetch(host, to(granted, &["127.0.0.1"]), input).await;
    ended.output().clone()
}

#[tokio::test]
async fn an_added_authority_is_trusted_for_the_names_it_vouches_for() {
    let names = Names::with(|_, _| Answer::addresses(&["127.0.0.1"])).await;
    let server = server("a.example").await;
    let builder = || builder().name_servers(NameServers::Servers(vec![names.address]));
    for roots in [Roots::Bundled, Roots::Platform, Roots::None] {
        let trusting = builder()
            .roots(roots)
            .certificate(server.authority.clone())
            .build()
            .expect("a host can be set up");
        let answer = ask(&trusting, &server, "a.example").await;
        assert_eq!(answer["body"], "secret", "{roots:?}: {answer}");
        let heard = server.heads().len();
        let answer = ask(&trusting, &server, "b.example").await;
        assert_eq!(answer["error"], "certificate", "{roots:?}");
        let answer = ask(&trusting, &server, "127.0.0.1").await;
        assert_eq!(answer["error"], "certificate", "{roots:?}");
        let plain = builder()
            .roots(roots)
            .build()
            .expect("a host can be set up");
        let answer = ask(&plain, &server, "a.example").await;
        assert_eq!(answer["error"], "certificate", "{roots:?}");
        assert_eq!(server.heads().len(), heard, "it got no byte of any request");
    }
}

/// By the ticket of an earlier one, a server would know whoever comes again.
#[tokio::test]
async fn no_session_is_taken_up_again() {
    let names = Names::with(|_, _| Answer::addresses(&["127.0.0.1"])).await;
    let server = server("a.example").await;
    let host = builder()
        .name_servers(NameServers::Servers(vec![names.address]))
        .certificate(server.authority.clone())
        .build()
        .expect("a host can be set up");
    for _ in 0..3 {
        assert_eq!(ask(&host, &server, "a.example").await["body"], "secret");
    }
    assert_eq!(server.greetings(), [HandshakeKind::Full; 3]);
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart() {
    let server = super::servers::Server::with(|mut connection| async move {
        connection.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        connection.gone().await;
    })
    .await;
    let granted = http(&[&format!("https://{}", server.address)]);
    let mut input = server.request("/");
    input["scheme"] = json!("https");
    let ended = fetch(crate::harness::host(), granted, input).await;
    assert_eq!(ended.output()["error"], "tls");
}

#[test]
fn what_is_no_certificate_is_refused() {
    for pem in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let error = builder().certificate(pem).build().expect_err("it is none");
        assert!(matches!(error, HostError::Certificate(_)), "{error}");
    }
}
