//! Clients that the official one would never be: they send what is no message, too much, or never
//! read.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Home, program, skills};

/// A server that is spoken to line by line.
struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut child = Command::new(program())
            .arg("mcp")
            .args(arguments)
            .arg("--home")
            .arg(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Server {
            child,
            input,
            output,
        }
    }

    fn send(&mut self, line: &[u8]) {
        let input = self.input.as_mut().expect("it is open");
        input.write_all(line).expect("it takes it");
        input.write_all(b"\n").expect("it takes it");
    }

    fn ask(&mut self, id: u64, method: &str, params: Value) {
        self.send(request(id, method, &params).as_bytes());
    }

    /// The next line, which must be a message of the protocol.
    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it is UTF-8");
        let message: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line:?} is no message"));
        assert_eq!(message["jsonrpc"], "2.0");
        message
    }

    /// The answer to a request, whatever comes before it.
    fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.next();
            if message["id"] == id {
                return message;
            }
        }
    }

    fn initialize(&mut self) {
        let params = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "hostile", "version": "0"},
        });
        self.ask(0, "initialize", params);
        assert_eq!(
            self.answer(0)["result"]["protocolVersion"],
            "2025-06-18",
            "an older revision is negotiated"
        );
        self.send(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    }

    fn works(&mut self, id: u64) {
        let call = json!({"name": "behaviours__echo", "arguments": {"id": id}});
        self.ask(id, "tools/call", call);
        let answer = self.answer(id);
        assert_eq!(answer["result"]["structuredContent"]["id"], id, "{answer}");
    }

    /// Closes its input, and waits until it has ended by itself.
    fn end(mut self) {
        drop(self.input.take());
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(id: u64, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// It comes back with each report, of which there may be thousands.
#[test]
fn a_token_of_any_length_is_not_repeated() {
    let home = Home::with(&[&skills().behaviours]);
    let mut server = Server::start(&home, &[]);
    server.initialize();
    let call = |token: &str| {
        json!({
            "name": "behaviours__chatter",
            "arguments": {"count": 150},
            "_meta": {"progressToken": token},
        })
    };
    server.ask(1, "tools/call", call(&"x".repeat(3 << 20)));
    let answer = server.next();
    assert_eq!(answer["id"], 1);
    let said = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(
        said.contains("a `progressToken` has at most 1 KiB"),
        "{said}"
    );
    // None is more than all, and each is more than the one before.
    server.ask(2, "tools/call", call("short"));
    let mut last = 0.0;
    let answer = loop {
        let message = server.next();
        let Some(progress) = message["params"]["progress"].as_f64() else {
            break message;
        };
        assert_eq!(message["params"]["progressToken"], "short");
        assert!(
            last < progress && progress <= 100.0,
            "{message}, after {last}"
        );
        last = progress;
    };
    assert_eq!(answer["id"], 2, "{answer}");
    assert!(last > 0.0);
    server.works(3);
    server.end();
}

#[test]
fn what_is_no_message_changes_nothing() {
    let home = Home::with(&[&skills().behaviours]);
    let mut server = Server::start(&home, &["-v"]);
    server.initialize();
    let deep = "[".repeat(100_000);
    for line in [
        &b"this is no JSON"[..],
        b"{}",
        b"[]",
        b"null",
        br#"{"jsonrpc":"2.0","id":7}"#,
        br#"{"jsonrpc":"2.0","id":{"a":1},"method":"tools/list"}"#,
        br#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":7}}"#,
        br#"{"jsonrpc":"2.0","id":9,"method":"nobody/knows"}"#,
        br#"{"jsonrpc":"2.0","id":10,"result":{}}"#,
        b"\xff\xfe\x00",
        deep.as_bytes(),
        b"",
    ] {
        server.send(line);
    }
    server.works(100);
    // A message past the bound is not taken in, and what comes after it is.
    let huge = vec![b'x'; 17 << 20];
    server.send(&huge);
    server.works(101);
    // One that can be told from others is answered.
    let call = json!({"name": "behaviours__echo", "arguments": {"x": "x".repeat(17 << 20)}});
    server.ask(102, "tools/call", call);
    let answer = server.answer(102);
    let said = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("more than 16777216 bytes"), "{answer}");
    server.works(103);
    // Nor one that is much once it is read; one that is only large is.
    for (id, value, told) in [
        (104, json!(vec![json!([0]); 600_000]), "too many values"),
        (105, json!("x".repeat(500_000)), ""),
    ] {
        let call = json!({"name": "behaviours__echo", "arguments": {"x": value}});
        server.ask(id, "tools/call", call);
        let answer = server.answer(id);
        let said = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(said.contains(told), "{said}");
        assert_eq!(answer["result"].is_object(), told.is_empty(), "{said}");
        assert_ne!(answer["result"]["isError"], true, "{answer}");
    }
    server.end();
}

#[test]
fn a_client_that_floods_and_never_reads_is_not_listened_to() {
    const MANY: usize = 20_000;
    let home = Home::with(&[&skills().behaviours]);
    let mut server = Server::start(&home, &[]);
    server.initialize();
    let sent = Arc::new(AtomicUsize::new(0));
    let mut input = server.input.take().expect("it is open");
    let counted = Arc::clone(&sent);
    let flood = std::thread::spawn(move || {
        for id in 1..=MANY {
            let line = request(id as u64, "tools/list", &json!({})) + "\n";
            input.write_all(line.as_bytes()).expect("it takes it");
            counted.fetch_add(1, Ordering::Relaxed);
        }
        input
    });
    // Until nothing more is taken.
    let mut before = usize::MAX;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = sent.load(Ordering::Relaxed);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(before < MANY / 2, "{before} of {MANY} were taken in");
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id()));
    let status = status.expect("it runs");
    let resident = status.lines().find_map(|line| {
        let kilobytes = line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?;
        kilobytes.trim().parse::<u64>().ok()
    });
    let resident = resident.expect("the system says");
    assert!(resident < 400 << 10, "{resident} KiB are in use");
    // Once it reads, everything is answered.
    for _ in 0..MANY {
        assert!(server.next()["result"]["tools"].is_array());
    }
    server.input = Some(flood.join().expect("it ends"));
    server.works(MANY as u64 + 1);
    server.end();
}

/// What it is answered does not fit into the pipe, and it goes away.
#[test]
fn a_client_that_closes_its_end_and_never_reads_is_not_waited_for() {
    let home = Home::with(&[&skills().behaviours]);
    let long = "x".repeat(9_000);
    for (version, method) in [("2.0", "nobody/knows"), ("1.0", "ping")] {
        let mut server = Server::start(&home, &[]);
        server.initialize();
        for number in 0..60 {
            let id = format!("{number}{long}");
            let line = json!({"jsonrpc": version, "id": id, "method": method, "params": {}});
            server.send(line.to_string().as_bytes());
        }
        server.end();
    }
}

#[test]
fn no_more_calls_run_at_once_than_may() {
    let home = Home::with(&[&skills().behaviours]);
    let mut server = Server::start(&home, &["--concurrency", "2"]);
    server.initialize();
    server.works(1);
    let call = json!({"name": "behaviours__wait_for_ever", "arguments": {}});
    for id in 2..52 {
        server.ask(id, "tools/call", call.clone());
    }
    for _ in 0..48 {
        let refused = server.next();
        assert_eq!(refused["result"]["isError"], true, "{refused}");
    }
    // A client that is gone takes what runs with it, though it would run for minutes.
    server.end();
}

/// Whoever waits for an answer gets one, to its id, which says what is wrong.
#[test]
fn what_does_not_fit_is_answered_with_why() {
    let home = Home::with(&[&skills().behaviours]);
    let mut server = Server::start(&home, &[]);
    server.ask(1, "tools/list", json!({}));
    let early = server.answer(1);
    let said = early["error"]["message"].as_str().expect("it is refused");
    assert!(said.contains("begins with `initialize`"), "{early}");
    server.initialize();
    for (id, method, params, code, why) in [
        (2, "tools/call", json!({}), -32602, "missing field `name`"),
        (3, "tools/call", json!({"name": 5}), -32602, "`name`: "),
        (
            4,
            "tools/call",
            json!({"name": "behaviours__echo", "arguments": "text"}),
            -32602,
            "`arguments`: ",
        ),
        (5, "tools/call", json!([1]), -32602, "must be an object"),
        (
            6,
            "resources/read",
            json!({}),
            -32602,
            "missing field `uri`",
        ),
        (
            7,
            "logging/setLevel",
            json!({"level": "loud"}),
            -32602,
            "`level`: unknown variant `loud`",
        ),
        (
            8,
            "tools/cal",
            json!({}),
            -32601,
            "there is no method `tools/cal`",
        ),
    ] {
        server.ask(id, method, params);
        let error = &server.answer(id)["error"];
        assert_eq!(error["code"], code, "{error}");
        let message = error["message"].as_str().expect("it is text");
        assert!(message.contains(why), "{message}");
    }
    server.send(br#"{"jsonrpc":"2.0","id":9,"method":"tools/call"}"#);
    assert_eq!(server.answer(9)["error"]["code"], -32602);
    for (line, id, code) in [
        (&b"this is no JSON"[..], Value::Null, -32700),
        (
            br#"{"jsonrpc":"1.0","id":17,"method":"tools/list"}"#,
            json!(17),
            -32600,
        ),
        (br#"{"jsonrpc":"2.0","id":"a"}"#, json!("a"), -32600),
        (
            br#"{"jsonrpc":"2.0","id":1.5,"method":"tools/list"}"#,
            Value::Null,
            -32600,
        ),
        (
            br#"[{"jsonrpc":"2.0","id":18,"method":"tools/list"}]"#,
            json!(18),
            -32600,
        ),
    ] {
        server.send(line);
        let answer = server.next();
        assert_eq!(answer["error"]["code"], code, "{answer}");
        // The protocol has an id there or none, and no `null`.
        assert_eq!(answer.get("id").unwrap_or(&Value::Null), &id, "{answer}");
        assert_eq!(answer.get("id").is_none(), id.is_null(), "{answer}");
    }
    server.works(100);
    server.end();
}

/// A directory that is granted and gone: the client hears neither where it was, nor of a flag that it has not got.
#[test]
fn a_client_hears_nothing_of_where_the_host_has_it() {
    let elsewhere = tempfile::tempdir().unwrap();
    // By itself it declares nothing, and has what it is granted.
    let lone = elsewhere.path().join("lone.wasm");
    std::fs::copy(skills().behaviours.join("skill.wasm"), &lone).unwrap();
    let home = Home::with(&[&lone]);
    let folder = elsewhere.path().join("of-the-operator");
    std::fs::create_dir(&folder).unwrap();
    let host = folder.to_str().unwrap();
    let grant = format!("{host}:/data:ro");
    home.skillhost(&["policy", "grant", "behaviours", "--dir", &grant]);
    std::fs::remove_dir(&folder).unwrap();
    let mut server = Server::start(&home, &[]);
    server.initialize();
    let call = json!({"name": "behaviours__echo", "arguments": {}});
    server.ask(1, "tools/call", call);
    let answer = server.answer(1);
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    let told = answer.to_string();
    assert!(told.contains("/data"), "{told}");
    assert!(!told.contains(host) && !told.contains("--dir"), "{told}");
    server.end();
}
