//! What is granted is fetched, and nothing else.

use serde_json::json;
use skillhost::LimitOverrides;
use skillhost::grant::{Capability, Grants};

use super::servers::{Answer, Names, Server};
use super::{check_undisturbed, fetch, host_with, http, run, to};
use crate::harness::host;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: 1\r\n\r\nhello";

#[tokio::test]
async fn with_no_grant_the_denial_says_which_line_to_add() {
    let server = Server::answering(OK).await;
    let ended = fetch(host(), Grants::default(), server.request("/page")).await;
    assert_eq!(ended.output()["error"], "denied");
    let denial = ended.denial();
    let grant = format!("GET {}/page", server.grant());
    assert_eq!(denial.capability, Capability::Http);
    assert_eq!(denial.subject, format!("GET {}/page", server.grant()));
    assert!(
        denial.hint.contains(&format!("--http '{grant}'")),
        "{}",
        denial.hint
    );
    assert!(
        denial.hint.contains(&format!("http = [\"{grant}\"]")),
        "{}",
        denial.hint
    );
    assert_eq!(server.accepted(), 0);
    assert_eq!(ended.result.usage.connections, 0);

    // What the hint says is what helps.
    let ended = fetch(host(), http(&[&grant]), server.request("/page")).await;
    assert_eq!(ended.output()["body"], "hello");
    assert!(ended.denials.is_empty());
}

#[tokio::test]
async fn every_byte_on_the_way_counts() {
    let server = Server::answering(OK).await;
    let mut input = server.request("/page?q=1");
    input["headers"] = json!([["x-b", "2"]]);
    let ended = fetch(host(), http(&[&server.grant()]), input).await;
    let output = ended.output();
    assert_eq!(output["status"], 200);
    assert_eq!(
        output["headers"],
        json!([["content-length", "5"], ["x-a", "1"]])
    );
    let head = &server.heads()[0];
    assert!(head.starts_with("GET /page?q=1 HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("host: {}\r\n", server.address)),
        "{head}"
    );
    assert!(head.contains("x-b: 2\r\n"), "{head}");
    let usage = &ended.result.usage;
    assert_eq!(usage.connections, 1);
    assert_eq!(usage.http_request_bytes, head.len() as u64);
    assert_eq!(usage.http_response_bytes, OK.len() as u64);
}

#[tokio::test]
async fn method_path_and_port_are_compared() {
    let server = Server::answering(OK).await;
    let other = Server::answering(OK).await;
    let grants = || http(&[&format!("GET {}/api", server.grant())]);
    for (server, path, method) in [
        (&server, "/api", "POST"),
        (&server, "/apix", "GET"),
        (&server, "/api/../x", "GET"),
        (&server, "/api/%2e%2e/x", "GET"),
        (&server, "/api/..%2fx", "GET"),
        (&other, "/api", "GET"),
    ] {
        let mut input = server.request(path);
        input["method"] = json!(method);
        let ended = fetch(host(), grants(), input).await;
        assert_eq!(ended.output()["error"], "denied", "{method} {path}");
        assert_eq!(ended.denial().capability, Capability::Http);
    }
    assert_eq!(server.accepted() + other.accepted(), 0);
    let ended = fetch(host(), grants(), server.request("/x/../api/%79")).await;
    assert_eq!(ended.output()["status"], 200);
    assert!(
        server.heads()[0].starts_with("GET /api/y "),
        "{:?}",
        server.heads()
    );
}

#[tokio::test]
async fn a_name_is_granted_and_where_it_leads_is_granted_apart() {
    let names = Names::with(|name, _| match name {
        "a.example" => Answer::addresses(&["127.0.0.1"]),
        _ => Answer::NoSuchName,
    })
    .await;
    let host = host_with(&names);
    let server = Server::answering(OK).await;
    let granted = || http(&[&server.grant_of("a.example")]);
    let ended = fetch(&host, granted(), server.request_by("a.example")).await;
    assert_eq!(ended.output()["error"], "address prohibited");
    assert_eq!(ended.denial().capability, Capability::Address);
    assert!(ended.denial().hint.contains("--address 127.0.0.1"));
    assert_eq!(server.accepted(), 0);

    let granted = to(granted(), &["127.0.0.1"]);
    let ended = fetch(&host, granted.clone(), server.request_by("A.EXAMPLE.")).await;
    assert_eq!(ended.output()["body"], "hello");
    let host_header = format!("host: a.example:{}\r\n", server.address.port());
    assert!(
        server.heads()[0].contains(&host_header),
        "{:?}",
        server.heads()
    );

    let ended = fetch(&host, granted, server.request_by("b.example")).await;
    assert_eq!(ended.output()["error"], "denied");
    assert_eq!(
        names.asked("b.example"),
        0,
        "what is not granted is not asked for"
    );
}

#[tokio::test]
async fn names_below_a_name() {
    let names = Names::with(|_, _| Answer::addresses(&["127.0.0.1"])).await;
    let host = host_with(&names);
    let server = Server::answering(OK).await;
    let granted = || to(http(&[&server.grant_of("*.example.com")]), &["127.0.0.1"]);
    for (name, expected) in [
        ("a.example.com", json!("hello")),
        ("b.a.example.com", json!("hello")),
        ("example.com", json!(null)),
        ("aexample.com", json!(null)),
    ] {
        let ended = fetch(&host, granted(), server.request_by(name)).await;
        assert_eq!(ended.output()["body"], expected, "{name}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_the_next_hop_a_request() {
    let inside = Server::answering(OK).await;
    let server = Server::answering(format!(
        "HTTP/1.1 302 Found\r\nlocation: {}/\r\ncontent-length: 0\r\n\r\n",
        inside.grant()
    ))
    .await;
    let granted = http(&[&server.grant()]);
    let ended = fetch(host(), granted.clone(), server.request("/")).await;
    assert_eq!(ended.output()["status"], 302);
    let ended = fetch(host(), granted, inside.request("/")).await;
    assert_eq!(ended.output()["error"], "denied");
    assert_eq!(inside.accepted(), 0);
}

#[tokio::test]
async fn bodies_go_up_and_trailers_come_down() {
    let server = Server::with(|mut connection| async move {
        connection.head().await;
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n\
                       3\r\nabc\r\n0\r\nx: 1\r\n\r\n";
        connection.send(chunked).await;
        connection.gone().await;
    })
    .await;
    let mut input = server.request("/");
    input["method"] = json!("POST");
    input["upload_bytes"] = json!(100_000);
    let ended = fetch(host(), http(&[&server.grant()]), input).await;
    assert_eq!(ended.output()["body"], "abc");
    assert_eq!(ended.output()["trailers"], 1);
    assert!(ended.result.usage.http_request_bytes > 100_000);
}

#[tokio::test]
async fn one_after_the_other_they_need_one_place_only() {
    let server = Server::answering(OK).await;
    let limits = LimitOverrides {
        connections: Some(1),
        ..Default::default()
    };
    let mut input = server.request("/");
    input["count"] = json!(20);
    let ended = run(host(), "many", http(&[&server.grant()]), input, limits).await;
    assert_eq!(ended.output()["statuses"], json!(vec![200; 20]));
    assert_eq!(ended.result.usage.connections, 20);
}

#[tokio::test]
async fn compressed_bodies_are_left_as_they_are() {
    let server = Server::answering(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nxyz",
    )
    .await;
    let ended = fetch(host(), http(&[&server.grant()]), server.request("/")).await;
    assert_eq!(ended.output()["body"], "xyz");
}

#[tokio::test]
async fn odd_urls_and_methods_are_refused() {
    let server = Server::answering(OK).await;
    let grants = http(&[&format!("GET {}", server.grant())]);
    for (authority, method, error) in [
        (format!("user@{}", server.address), "GET", "uri invalid"),
        (
            format!("127.0.0.1@{}", server.address),
            "GET",
            "uri invalid",
        ),
        (server.address.to_string(), "CONNECT", "denied"),
        (server.address.to_string(), "TRACE", "denied"),
        (server.address.to_string(), "get", "method invalid"),
    ] {
        let input = json!({"authority": authority, "path": "/", "method": method});
        let ended = fetch(host(), grants.clone(), input).await;
        assert_eq!(ended.output()["error"], error, "{method} {authority}");
    }
    assert_eq!(server.accepted(), 0);
}

/// Dropping the future closes what it had open.
#[tokio::test]
async fn an_execution_that_is_dropped() {
    let (sender, mut came) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::with(move |mut connection| {
        let sender = sender.clone();
        async move {
            connection.head().await;
            let _ = sender.send(());
            connection.gone().await;
        }
    })
    .await;
    tokio::select! {
        _ = fetch(host(), http(&[&server.grant()]), server.request("/")) => panic!("nothing was answered"),
        _ = came.recv() => {}
    }
    server.quiet().await;
    check_undisturbed(host()).await;
}
