//! What agents are told over HTTP without having asked: what changes.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use serde_json::json;
use skillhost::serve::{Scope, Settings};

use crate::client::{Client, PATIENCE};
use crate::harness::network_path;
use crate::mcp::{Agent, OLDER, ends};
use crate::process::{Home, Serving};
use crate::server::{Wanted, start};

/// Opens a stream of news.
async fn listen(agent: &Agent, client: &Client) -> Response<Incoming> {
    let Some(session) = &agent.session else {
        let all = json!({"notifications": {"toolsListChanged": true}});
        return agent.open("subscriptions/listen", all).await;
    };
    let mut news = client.request("GET", "/mcp", "");
    for (name, value) in [
        ("accept", "text/event-stream"),
        ("mcp-protocol-version", OLDER),
        ("mcp-session-id", session),
    ] {
        news.headers_mut().insert(name, value.parse().unwrap());
    }
    client.open(news).await
}

/// A skill that is installed meanwhile is told of, to clients of either revision.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_what_is_installed_is_told() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--rate", "1000000"]);
    let client = serving.client();
    let older = Agent::older(client.clone()).await;
    let news = listen(&older, &client).await;
    let listening = listen(&Agent::current(client.clone()), &client).await;
    home.run(&["install", network_path().to_str().unwrap()]);
    for stream in [news, listening] {
        let mut body = stream.into_body();
        let mut text = String::new();
        while !text.contains("notifications/tools/list_changed") {
            let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
            let frame = frame.expect("it is told").expect("it goes on").unwrap();
            text += std::str::from_utf8(&frame.into_data().unwrap_or_default()).unwrap();
        }
    }
    let listed = older.result("tools/list", json!({})).await;
    assert!(listed.to_string().contains("network__request"), "{listed}");
    ends(serving).await;
}

/// Streams of news count to those that a tenant may have, and end with the token.
#[tokio::test(flavor = "multi_thread")]
async fn news_is_bounded_and_ends_with_its_token() {
    let mut settings = Settings::default();
    settings.streams = 1;
    settings.keep_alive = Duration::from_millis(20);
    let server = start(Wanted {
        settings,
        ..Wanted::default()
    })
    .await;
    for sessions in [false, true] {
        let client = server.client_of("acme", &[Scope::Execute]).await;
        let agent = match sessions {
            false => Agent::current(client.clone()),
            true => Agent::older(client.clone()).await,
        };
        let first = listen(&agent, &client).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(
            listen(&agent, &client).await.status(),
            StatusCode::TOO_MANY_REQUESTS
        );
        // What is answered takes up none.
        assert_ne!(agent.call("echo", json!({})).await["isError"], true);
        let id = client.token.as_deref().unwrap().split('_').nth(1).unwrap();
        server.service.tokens().revoke(id).await.unwrap();
        let rest = tokio::time::timeout(PATIENCE, first.into_body().collect()).await;
        assert!(rest.expect("it ends").is_ok());
    }
    server.end().await;
}
