//! Who gets in.

use std::num::NonZeroU32;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use serde_json::json;
use skillhost::queue::Queue;
use skillhost::serve::{NewToken, Scope, Scopes, Settings, Tokens};

use crate::postgres::{Durability, Postgres, Stop};
use crate::server::{Wanted, behaviour, start};

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_the_operator_until_there_is_a_token() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    client.get("/v1/policy").await.json();
    let token = server.client_of("acme", &[Scope::Jobs]).await;
    let answer = client.get("/v1/jobs").await;
    answer.problem(401, "unauthorized");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    token.get("/v1/jobs").await.json();
    // Also once none is left.
    let id = server.service.tokens().list().await.unwrap()[0].id.clone();
    server.service.tokens().revoke(&id).await.unwrap();
    token.get("/v1/jobs").await.problem(401, "unauthorized");
    client.get("/v1/jobs").await.problem(401, "unauthorized");
    // What is open stays open.
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        client.get(path).await.json();
    }
    server.end().await;
}

/// The first token shuts the door at once, whichever process makes it: that there is none is not kept.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_token_of_another_process_shuts_the_door_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("queue.db");
    let server = start(Wanted {
        queue: Some(Queue::open(&database).expect("it opens")),
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    client.get("/v1/jobs").await.json();
    let token = NewToken {
        name: String::new(),
        tenant: "acme".to_owned(),
        scopes: [Scope::Jobs].into_iter().collect(),
        expires_at: None,
    };
    let elsewhere = Tokens::new(Queue::open(&database).expect("it opens"));
    elsewhere.create(token).await.expect("it can be made");
    client.get("/v1/jobs").await.problem(401, "unauthorized");
    server.end().await;
}

/// An answer that its client does not read is polled no more, wherever it is.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_and_does_not_wait_holds_up_nobody() {
    let server = start(Wanted::default()).await;
    let client = server.client_of("acme", &[Scope::Jobs]).await;
    let tokens = server.service.tokens();
    let mut waited = 0;
    for _ in 0..1_000 {
        // What was looked up holds no longer.
        let token = NewToken {
            name: String::new(),
            tenant: "acme".to_owned(),
            scopes: [Scope::Jobs].into_iter().collect(),
            expires_at: None,
        };
        tokens.create(token).await.expect("it can be made");
        let mut context = Context::from_waker(Waker::noop());
        let mut holds = Box::pin(tokens.holds("nobody"));
        let mut exist = Box::pin(tokens.exist());
        // Either may know already, where another thread was quick.
        let asked = [
            holds.as_mut().poll(&mut context).is_pending(),
            exist.as_mut().poll(&mut context).is_pending(),
        ];
        waited += usize::from(asked.contains(&true));
        let answer = tokio::time::timeout(Duration::from_secs(60), client.get("/v1/jobs"));
        answer.await.expect("it is answered").json();
        drop((holds, exist));
        if waited > 20 {
            break;
        }
    }
    assert!(waited > 0, "neither had to wait for anything");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_door_lets_nobody_in_without_a_token() {
    let server = start(Wanted {
        change: |builder| builder.closed(),
        ..Wanted::default()
    })
    .await;
    server
        .client()
        .get("/v1/jobs")
        .await
        .problem(401, "unauthorized");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_lets_nobody_in_and_guessing_is_slow() {
    let mut settings = Settings::default();
    settings.guesses = NonZeroU32::new(5).unwrap();
    let server = start(Wanted {
        settings,
        ..Wanted::default()
    })
    .await;
    let good = server.client_of("acme", &[Scope::Jobs]).await;
    let token = good.token.clone().unwrap();
    let last = if token.ends_with('A') { 'B' } else { 'A' };
    let wrong = format!("{}{last}", &token[..token.len() - 1]);
    for text in [&wrong[..], "skillhost_x", "", &token[1..]] {
        let answer = server.client().with(text).get("/v1/jobs").await;
        answer.problem(401, "unauthorized");
        assert!(!answer.text().contains(&token));
    }
    for _ in 0..5 {
        server.client().with(&wrong).get("/v1/jobs").await;
    }
    let answer = server.client().with(&wrong).get("/v1/jobs").await;
    let detail = &answer.problem(429, "too-many-requests")["detail"];
    let detail = detail.as_str().expect("it is said").to_owned();
    assert!(detail.contains("without a valid token"), "{detail}");
    // One that shows none counts as one that shows a wrong one.
    let none = server.client().get("/v1/jobs").await;
    assert_eq!(none.problem(429, "too-many-requests")["detail"], *detail);
    // Whoever has a token is not kept out by that.
    good.get("/v1/jobs").await.json();
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_its_scopes_and_its_time() {
    let server = start(Wanted::default()).await;
    let client = server.client_of("acme", &[Scope::Execute]).await;
    let echo = behaviour("echo", json!({}));
    client.post("/v1/executions", echo.clone()).await.json();
    client.get("/v1/skills").await.json();
    for path in [
        "/v1/jobs",
        "/v1/approvals",
        "/v1/policy",
        "/v1/queues",
        "/metrics",
    ] {
        client.get(path).await.problem(403, "missing-scope");
    }
    client
        .post("/v1/jobs", echo)
        .await
        .problem(403, "missing-scope");
    let skill = client.request("DELETE", "/v1/skills/behaviours", "");
    client.send(skill).await.problem(403, "missing-scope");
    let tokens = server.service.tokens();
    let soon = server.queue.now() + chrono::TimeDelta::milliseconds(300);
    let (token, _) = tokens
        .create(NewToken {
            name: "short".into(),
            tenant: "acme".into(),
            scopes: Scopes::all(),
            expires_at: Some(soon),
        })
        .await
        .unwrap();
    let short = server.client().with(token.reveal());
    while server.queue.now() <= soon {
        tokio::task::yield_now().await;
    }
    short.get("/v1/jobs").await.problem(401, "unauthorized");
    server.end().await;
}

/// What was read of the tokens holds for a second; one that another process has made since is known before that.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_another_process_made_is_good_at_once() {
    let server = start(Wanted::default()).await;
    let client = server.client_of("acme", &[Scope::Jobs]).await;
    client.get("/v1/jobs").await.json();
    let read = Instant::now();
    let elsewhere = Tokens::new(server.queue.clone());
    let (token, _) = elsewhere
        .create(NewToken {
            name: "new".into(),
            tenant: "acme".into(),
            scopes: Scopes::all(),
            expires_at: None,
        })
        .await
        .unwrap();
    while read.elapsed() < Duration::from_millis(50) {
        tokio::task::yield_now().await;
    }
    let client = server.client().with(token.reveal());
    client.get("/v1/jobs").await.json();
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_names_of_strangers_are_not_answered() {
    let mut settings = Settings::default();
    settings.hosts.insert("skills.example.com".into());
    settings.origins.insert("https://app.example.com".into());
    let server = start(Wanted {
        settings,
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    let ask = async |host: &str, origin: Option<&str>| {
        let mut request = client.request("GET", "/healthz", "");
        request.headers_mut().insert("host", host.parse().unwrap());
        if let Some(origin) = origin {
            let origin = origin.parse().unwrap();
            request.headers_mut().insert("origin", origin);
        }
        client.send(request).await
    };
    for host in ["localhost:80", "127.0.0.1", "[::1]:1", "skills.example.com"] {
        ask(host, None).await.json();
    }
    for host in [
        "evil.example",
        "evil.example:7411",
        "127.0.0.1.evil.example",
    ] {
        ask(host, None).await.problem(403, "foreign-origin");
    }
    for origin in [
        "null",
        "https://evil.example",
        "http://app.example.com",
        "http://localhost:3000",
    ] {
        ask("localhost", Some(origin))
            .await
            .problem(403, "foreign-origin");
    }
    let allowed = ask("localhost", Some("https://app.example.com")).await;
    allowed.json();
    let header = allowed.header("access-control-allow-origin");
    assert_eq!(header, Some("https://app.example.com"));
    server.end().await;
}

/// A page that may call learns what it may send, and reads what MCP answers with.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_may_call_can_use_every_door() {
    let mut settings = Settings::default();
    settings.origins.insert("https://app.example.com".into());
    let server = start(Wanted {
        settings,
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    let wanted = "authorization, content-type, idempotency-key, last-event-id, traceparent, \
                  tracestate, mcp-method, mcp-name, mcp-session-id, mcp-protocol-version, \
                  mcp-param-region";
    let mut request = client.request("OPTIONS", "/mcp", "");
    for (name, value) in [
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", wanted),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = client.send(request).await;
    assert_eq!(answer.status, 204);
    let allowed = answer.header("access-control-allow-headers").unwrap();
    let allowed = allowed.to_ascii_lowercase();
    let allowed: Vec<&str> = allowed.split(',').map(str::trim).collect();
    for name in wanted.split(',').map(str::trim) {
        assert!(allowed.contains(&name), "{name}: {allowed:?}");
    }
    let methods = answer.header("access-control-allow-methods").unwrap();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        assert!(methods.contains(method));
    }
    let exposed = answer.header("access-control-expose-headers").unwrap();
    for name in ["Mcp-Session-Id", "Mcp-Protocol-Version", "Location"] {
        assert!(exposed.contains(name), "{name}: {exposed}");
    }
    server.end().await;
}

/// It is no fault of whoever has a token that it cannot be looked up.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_makes_no_token_wrong() {
    let postgres = Postgres::start(Durability::None);
    let database = postgres.database().await;
    let queue = Queue::connect(&database.url()).await.unwrap();
    let mut settings = Settings::default();
    settings.guesses = NonZeroU32::new(2).unwrap();
    let server = start(Wanted {
        settings,
        queue: Some(queue),
        worker: false,
        ..Wanted::default()
    })
    .await;
    let acme = server.client_of("acme", &[Scope::Jobs]).await;
    postgres.stop(Stop::Fast);
    // What was looked up a moment ago still holds, and then the job's queue is away: after a while each.
    let get = || acme.get("/v1/jobs");
    let (a, b, c, d, e) = tokio::join!(get(), get(), get(), get(), get());
    for answer in [a, b, c, d, e] {
        answer.problem(503, "unavailable");
    }
    postgres.start_again();
    loop {
        let answer = acme.get("/v1/jobs").await;
        if answer.status == 200 {
            break;
        }
        answer.problem(503, "unavailable");
    }
    server.end().await;
}
