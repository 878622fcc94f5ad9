//! What `skillhost mcp config` prints, taken at its word.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::process::{Home, Serving};

/// What is printed for a client, read as JSON.
fn printed(home: &Home, more: &[&str]) -> Value {
    let mut args = vec!["mcp", "config", "json"];
    args.extend(more);
    let text = home.run(&args);
    let text: Value = serde_json::from_str(&text).expect(&text);
    text["mcpServers"]["skillhost"].clone()
}

#[test]
fn a_client_starts_what_was_printed() {
    let home = Home::new();
    std::fs::create_dir(home.0.path().join("other")).unwrap();
    let database = home.0.path().join("other/jobs.db");
    let server = printed(
        &home,
        &[
            "--database",
            database.to_str().unwrap(),
            "--secret-from",
            "token=env:TOKEN",
            "--search",
            "--tenant",
            "acme",
        ],
    );
    let args: Vec<String> = serde_json::from_value(server["args"].clone()).unwrap();
    assert!(args.contains(&"token=env:TOKEN".to_owned()), "{args:?}");
    assert!(args.contains(&"--tenant=acme".to_owned()), "{args:?}");
    assert!(args.contains(&database.display().to_string()), "{args:?}");
    // In another folder, and with nothing of this environment that says where things are.
    let mut child = Command::new(server["command"].as_str().unwrap())
        .args(&args)
        .current_dir("/")
        .env_remove("SKILLHOST_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = |id: u32, method: &str, params: Value| -> Value {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(input, "{message}").unwrap();
        loop {
            let line = lines.next().expect("it answers").unwrap();
            let answer: Value = serde_json::from_str(&line).unwrap();
            if answer["id"] == id {
                return answer["result"].clone();
            }
        }
    };
    let begun = ask(
        1,
        "initialize",
        json!({"protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "0"}}),
    );
    assert_eq!(begun["protocolVersion"], "2025-06-18");
    let found = ask(
        2,
        "tools/call",
        json!({"name": "search_tools", "arguments": {"query": "echo"}}),
    );
    assert!(found.to_string().contains("behaviours__echo"), "{found}");
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_connects_to_what_was_printed() {
    let home = Home::new();
    let create = ["tokens", "create", "--tenant", "acme", "--scope", "execute"];
    let token = home.run(&create).trim().to_owned();
    let serving = Serving::start(&home, &[]);
    let url = format!("http://{}/mcp", serving.address);
    let server = printed(&home, &["--http", &url]);
    assert_eq!(
        (&server["type"], &server["url"]),
        (&json!("http"), &json!(url))
    );
    let begin = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"}}});
    let client = serving.client();
    for (token, status) in [("TOKEN", 401), (token.as_str(), 200)] {
        let mut request = client.request("POST", "/mcp", begin.to_string());
        let headers = request.headers_mut();
        for (name, value) in [
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        for (name, value) in server["headers"].as_object().expect("there are some") {
            let value = value.as_str().expect("it is text").replace("TOKEN", token);
            let name: hyper::header::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        assert_eq!(client.open(request).await.status(), status);
    }
    assert!(serving.end().success());
}
