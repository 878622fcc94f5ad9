//! The door for agents, as `skillhost serve` has it.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use skillhost::serve::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::answers::audited;
use crate::client::{Client, PATIENCE};
use crate::harness::network_path;
use crate::process::{Home, Serving};
use crate::server::{Wanted, start};

/// The current revision, which has no sessions.
const CURRENT: &str = "2026-07-28";
/// One that has.
pub const OLDER: &str = "2025-06-18";
/// How often it is looked: other tests have the processors, too.
const SOON: Duration = Duration::from_millis(20);

/// A client of the door.
#[derive(Clone)]
pub struct Agent {
    client: Client,
    /// The session, of an older revision.
    pub session: Option<String>,
}

impl Agent {
    pub fn current(client: Client) -> Self {
        Agent {
            client,
            session: None,
        }
    }

    /// One with a session.
    pub async fn older(client: Client) -> Self {
        let mut agent = Agent::current(client);
        let answer = agent.client.open(agent.post(&initialize())).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let session = answer.headers()["mcp-session-id"].to_str().unwrap();
        agent.session = Some(session.to_owned());
        drop(answer.into_body().collect().await);
        let begun = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let answer = agent.client.send(agent.post(&begun)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        agent
    }

    /// A message, as it is sent.
    fn post(&self, message: &Value) -> Request<Full<bytes::Bytes>> {
        let mut request = self.client.request("POST", "/mcp", message.to_string());
        let headers = request.headers_mut();
        let mut set = |name: &'static str, value: &str| {
            headers.insert(name, value.parse().unwrap());
        };
        set("content-type", "application/json");
        set("accept", "application/json, text/event-stream");
        match &self.session {
            Some(session) => {
                set("mcp-session-id", session);
                set("mcp-protocol-version", OLDER);
            }
            None if message["method"] == "initialize" => {}
            None => {
                set("mcp-protocol-version", CURRENT);
                set("mcp-method", message["method"].as_str().unwrap());
                let params = &message["params"];
                let named = ["name", "taskId", "uri"]
                    .iter()
                    .find_map(|name| params[*name].as_str());
                if let Some(name) = named {
                    set("mcp-name", name);
                }
            }
        }
        request
    }

    fn message(&self, method: &str, mut params: Value) -> Value {
        if self.session.is_none() {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(CURRENT);
            let tasks = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = tasks;
        }
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    }

    pub async fn open(&self, method: &str, params: Value) -> Response<Incoming> {
        self.client
            .open(self.post(&self.message(method, params)))
            .await
    }

    /// What is answered, and what is told before.
    async fn ask(&self, method: &str, params: Value) -> (Value, Vec<Value>) {
        self.send(self.post(&self.message(method, params))).await
    }

    async fn send(&self, request: Request<Full<bytes::Bytes>>) -> (Value, Vec<Value>) {
        let answer = self.client.send(request).await;
        let text = answer.text().to_owned();
        let mut messages: Vec<Value> = match answer.header("content-type") {
            Some("application/json") => vec![serde_json::from_str(&text).expect(&text)],
            _ => text
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .filter(|data| !data.trim().is_empty())
                .map(|data| serde_json::from_str(data).expect(&text))
                .collect(),
        };
        let last = messages
            .pop()
            .unwrap_or_else(|| panic!("{}: {text}", answer.status));
        (last, messages)
    }

    pub async fn result(&self, method: &str, params: Value) -> Value {
        let (answer, _) = self.ask(method, params).await;
        assert!(answer["result"].is_object(), "{answer}");
        answer["result"].clone()
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Value {
        let name = format!("behaviours__{tool}");
        let params = json!({"name": name, "arguments": arguments});
        self.result("tools/call", params).await
    }
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": OLDER, "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"}}})
}

/// Waits until so many executions are under way.
pub async fn underway(client: &Client, many: u32) {
    while underway_now(client).await != many {
        tokio::task::yield_now().await;
    }
}

async fn underway_now(client: &Client) -> u32 {
    let metrics = client.get("/metrics").await;
    let mut lines = metrics.text().lines();
    let running = lines.find_map(|line| line.strip_prefix("skillhost_executions_running "));
    running.map_or(0, |many| many.parse().unwrap())
}

pub async fn ends(serving: Serving) {
    let ended = tokio::task::spawn_blocking(move || serving.end());
    let ended = tokio::time::timeout(PATIENCE, ended).await;
    assert!(ended.expect("it ends").unwrap().success());
}

/// Calls are answered; what only waits for news does not hold it up.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_runs_when_it_is_told_to_stop_is_answered() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--grace", "1h", "--rate", "1000000"]);
    let client = serving.client();
    let agents = [
        Agent::current(client.clone()),
        Agent::older(client.clone()).await,
    ];
    let mut news = client.request("GET", "/mcp", "");
    for (name, value) in [
        ("accept", "text/event-stream"),
        ("mcp-protocol-version", OLDER),
        ("mcp-session-id", agents[1].session.as_ref().unwrap()),
    ] {
        news.headers_mut().insert(name, value.parse().unwrap());
    }
    let news = client.open(news).await;
    assert_eq!(news.status(), StatusCode::OK);
    let all = json!({"notifications": {"toolsListChanged": true}});
    let listening = agents[0].open("subscriptions/listen", all).await;
    assert_eq!(listening.status(), StatusCode::OK);
    let calls: Vec<_> = agents
        .iter()
        .cloned()
        .map(|agent| tokio::spawn(async move { agent.call("sleep", json!({"ms": 2_000})).await }))
        .collect();
    underway(&client, 2).await;
    serving.signal(libc::SIGTERM);
    for call in calls {
        let answer = call.await.unwrap();
        assert_ne!(answer["isError"], true, "{answer}");
    }
    for stream in [news, listening] {
        let rest = tokio::time::timeout(PATIENCE, stream.into_body().collect()).await;
        assert!(rest.expect("it ends").is_ok());
    }
    ends(serving).await;
    assert_eq!(audited(&home, "execution").len(), 2);
}

/// What a second signal cuts is stopped, and written down.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cut_is_in_the_audit() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--grace", "1h", "--rate", "1000000"]);
    let client = serving.client();
    for agent in [
        Agent::current(client.clone()),
        Agent::older(client.clone()).await,
    ] {
        tokio::spawn(async move {
            let request = agent.message(
                "tools/call",
                json!({"name": "behaviours__sleep", "arguments": {"ms": 8_000}}),
            );
            let answer = agent.client.open(agent.post(&request)).await;
            let _ = answer.into_body().collect().await;
        });
    }
    underway(&client, 2).await;
    serving.signal(libc::SIGTERM);
    while TcpStream::connect(serving.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    ends(serving).await;
    let entries = audited(&home, "execution");
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert!(entries.iter().all(|entry| entry["outcome"] == "cancelled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_listed_called_and_told_of() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--rate", "1000000"]);
    let client = serving.client();
    for agent in [
        Agent::current(client.clone()),
        Agent::older(client.clone()).await,
    ] {
        let listed = agent.result("tools/list", json!({})).await;
        let tools = listed["tools"].as_array().unwrap();
        let echo = tools.iter().find(|tool| tool["name"] == "behaviours__echo");
        assert_eq!(
            echo.expect("it is offered")["description"],
            "Does this: echo."
        );
        let answer = agent.call("echo", json!({"a": 1})).await;
        assert_eq!(answer["structuredContent"], json!({"a": 1}));
        let call = json!({"name": "behaviours__chatter", "arguments": {"count": 3},
            "_meta": {"progressToken": "mine"}});
        let (answer, told) = agent.ask("tools/call", call).await;
        assert_ne!(answer["result"]["isError"], true, "{answer}");
        let told: Vec<&Value> = told
            .iter()
            .filter(|note| note["method"] == "notifications/progress")
            .collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told.iter()
                .all(|note| note["params"]["progressToken"] == "mine")
        );
    }
    // Whoever sees to the server sees the calls.
    let metrics = client.get("/metrics").await;
    let counted = metrics.text().lines().any(|line| {
        line.starts_with("skillhost_executions_total{skill=\"behaviours\"") && line.ends_with(" 4")
    });
    assert!(counted, "{}", metrics.text());
    let entries = audited(&home, "execution");
    assert_eq!(entries.len(), 4);
    assert!(entries.iter().all(|entry| entry["session"].is_string()));
    ends(serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cancelled_stops_the_guest() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--rate", "1000000"]);
    let client = serving.client();
    let slow = json!({"name": "behaviours__sleep", "arguments": {"ms": 9_000}});
    // By going away.
    let agent = Agent::current(client.clone());
    let asked = {
        let (agent, slow) = (agent.clone(), slow.clone());
        tokio::spawn(async move { agent.ask("tools/call", slow).await })
    };
    underway(&client, 1).await;
    asked.abort();
    underway(&client, 0).await;
    // By saying so.
    let agent = Agent::older(client.clone()).await;
    let asked = {
        let (agent, slow) = (agent.clone(), slow.clone());
        tokio::spawn(async move { agent.open("tools/call", slow).await })
    };
    underway(&client, 1).await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": 1, "reason": "enough"}});
    let answer = client.send(agent.post(&cancel)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    underway(&client, 0).await;
    asked.abort();
    let entries = audited(&home, "execution");
    assert_eq!(entries.len(), 2);
    assert!(
        entries.iter().all(|entry| entry["outcome"] == "cancelled"),
        "{entries:?}"
    );
    ends(serving).await;
}

/// The answer to one of two requests of the same id would be taken for that to the other, and the stream of one of them
/// kept for as long as the session.
#[tokio::test(flavor = "multi_thread")]
async fn no_two_requests_of_a_session_have_the_same_id() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--grace", "1h", "--rate", "1000000"]);
    let client = serving.client();
    let agent = Agent::older(client.clone()).await;
    let sleep = json!({"name": "behaviours__sleep", "arguments": {"ms": 8_000},
        "_meta": {"progressToken": 1}});
    let refused = async |message: &Value, says: &str| {
        let answer = agent.client.send(agent.post(message)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let answer: Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!(answer["error"]["code"], -32600, "{answer}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains(says), "{said}");
        answer["id"].clone()
    };
    let ping = agent.message("ping", json!({}));
    let same = "has the same `id`, and has not been answered, or nobody waited for its answer";
    let cancel = |id: u64| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    // Also where nobody waits for the answer any more.
    for (id, waits) in [(100, true), (101, false)] {
        let mut call = agent.message("tools/call", sleep.clone());
        call["id"] = json!(id);
        let call = agent.client.open(agent.post(&call)).await;
        underway(&client, 1).await;
        let call = waits.then_some(call);
        let mut number = ping.clone();
        number["id"] = json!(id);
        assert_eq!(refused(&number, same).await, id);
        // Another session has ids of its own, and so have texts.
        let other = Agent::older(client.clone()).await;
        let (answer, _) = other.send(other.post(&number)).await;
        assert_eq!(answer["result"], json!({}));
        let mut text = ping.clone();
        text["id"] = json!(id.to_string());
        let (answer, _) = agent.send(agent.post(&text)).await;
        assert_eq!(
            (&answer["id"], &answer["result"]),
            (&text["id"], &json!({}))
        );
        // It can be cancelled as ever, and its stream ends; its answer may still be on its way.
        let answer = agent.client.send(agent.post(&cancel(id))).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        underway(&client, 0).await;
        if let Some(call) = call {
            call.into_body().collect().await.unwrap();
        }
        refused(&number, same).await;
    }
    // Of what was answered, it is free.
    for _ in 0..3 {
        agent.result("ping", json!({})).await;
    }
    // What does not end a session does not make it nobody's.
    let mut delete = client.request("DELETE", "/mcp", "");
    for (name, value) in [
        ("mcp-session-id", agent.session.as_deref().unwrap()),
        ("mcp-protocol-version", CURRENT),
    ] {
        delete.headers_mut().insert(name, value.parse().unwrap());
    }
    assert_eq!(
        client.send(delete).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    agent.result("ping", json!({})).await;
    // Whoever reads on in an answer elsewhere brings this one to its end, and not the call.
    let mut call = agent.message("tools/call", sleep.clone());
    call["id"] = json!(102);
    let mut call = agent.client.open(agent.post(&call)).await.into_body();
    underway(&client, 1).await;
    let first = call.frame().await.unwrap().unwrap().into_data().unwrap();
    let first = String::from_utf8(first.to_vec()).unwrap();
    let event = first.lines().find_map(|line| line.strip_prefix("id:"));
    let mut goes_on = client.request("GET", "/mcp", "");
    for (name, value) in [
        ("mcp-session-id", agent.session.as_deref().unwrap()),
        ("accept", "text/event-stream"),
        ("last-event-id", event.expect(&first).trim()),
    ] {
        goes_on.headers_mut().insert(name, value.parse().unwrap());
    }
    let goes_on = client.open(goes_on).await;
    assert_eq!(goes_on.status(), StatusCode::OK);
    call.collect().await.unwrap();
    let mut number = ping.clone();
    number["id"] = json!(102);
    refused(&number, same).await;
    agent.client.send(agent.post(&cancel(102))).await;
    goes_on.into_body().collect().await.unwrap();
    underway(&client, 0).await;
    let mut long = ping;
    long["id"] = json!("x".repeat(255));
    refused(&long, "the `id` of a request has at most 256 B").await;
    // Nothing is left over that would be waited for.
    serving.signal(libc::SIGTERM);
    ends(serving).await;
    let entries = audited(&home, "execution");
    assert_eq!(entries.len(), 3, "{entries:?}");
    assert!(entries.iter().all(|entry| entry["outcome"] == "cancelled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_nothing_of_another() {
    let home = Home::new();
    let create = |tenant: &str| {
        let args = ["tokens", "create", "--tenant", tenant, "--scope", "execute"];
        home.run(&args).trim().to_owned()
    };
    let (one, other) = (create("one"), create("other"));
    let serving = Serving::start(&home, &["--rate", "1000000"]);
    let client = serving.client();
    let nobody = Agent::current(client.clone());
    let refused = nobody.open("tools/list", json!({})).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let (one, other) = (client.with(&one), client.with(&other));
    let agent = Agent::current(one.clone());
    let large = agent.call("answer_large", json!({"bytes": 100_000})).await;
    let links = large["content"].as_array().unwrap();
    let uri = links
        .iter()
        .find_map(|block| block["uri"].as_str())
        .expect("it is kept");
    let call = json!({"name": "behaviours__echo", "arguments": {},
        "_meta": {"skillhost/task": true}});
    let task = agent.result("tools/call", call).await["taskId"].clone();
    let read = json!({"name": "read_output", "arguments": {"uri": uri}});
    let own = agent.result("tools/call", read.clone()).await;
    assert_ne!(own["isError"], true);
    agent.result("tasks/get", json!({"taskId": task})).await;
    let session = Agent::older(one).await;

    let stranger = Agent::current(other.clone());
    assert_eq!(stranger.result("tools/call", read).await["isError"], true);
    let answers = json!({"approve": {"action": "accept"}});
    for (method, params) in [
        ("tasks/get", json!({"taskId": task})),
        ("tasks/cancel", json!({"taskId": task})),
        (
            "tasks/update",
            json!({"taskId": task, "inputResponses": answers}),
        ),
        ("resources/read", json!({"uri": uri})),
    ] {
        let (answer, _) = stranger.ask(method, params).await;
        assert!(answer["error"].is_object(), "{method}: {answer}");
        if method.starts_with("tasks/") {
            let said = answer["error"]["message"].as_str().unwrap();
            assert!(said.starts_with("there is no task"), "{method}: {said}");
        }
    }
    let attached = json!({"_attachments": [{"name": "a", "uri": uri}]});
    let own = agent.call("echo", attached.clone()).await;
    assert_ne!(own["isError"], true, "{own}");
    let refused = stranger.call("echo", attached).await;
    assert_eq!(refused["isError"], true);
    let said = refused["content"][0]["text"].as_str().unwrap();
    assert!(said.contains("no output is kept at that `uri`"), "{said}");
    let listed = stranger.result("resources/list", json!({})).await;
    assert!(!listed.to_string().contains(uri), "{listed}");
    let stolen = Agent {
        client: other,
        ..session
    };
    let answer = stolen.open("tools/list", json!({})).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    ends(serving).await;
}

/// A server that answers each request with its own head.
async fn echo() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.write_all(&head).await.unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_holds_for_calls() {
    let home = Home::new();
    home.policy(
        "general.ceilings.memory_bytes = '16MiB'\n\
         each_skill.breaker = { minimum = 2 }\n\
         [[approval.rules]]\ntool = 'answer'\naction = 'ask'\n",
    );
    let network = network_path();
    home.run(&["install", network.to_str().unwrap()]);
    let server = echo().await;
    let mut keep = home.command(&["secrets", "set", "token"]);
    let mut keep = keep.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = keep.stdin.take().unwrap();
    stdin.write_all(b"hunter2-hunter2\n").unwrap();
    drop(stdin);
    assert!(keep.wait().unwrap().success());
    let (http, secret) = (
        format!("http://{server}"),
        format!("token=authorization:Bearer@http://{server}"),
    );
    home.run(&[
        "policy", "grant", "network", "--http", &http, "--secret", &secret,
    ]);
    let serving = Serving::start(&home, &["--rate", "1000000", "-vvv"]);
    let client = serving.client();
    let agent = Agent::current(client.clone());

    // A secret gets to its server, and back to nobody.
    let ask = json!({"authority": server.to_string(), "path": "/", "text": true});
    let call = json!({"name": "network__request", "arguments": ask});
    let answer = agent.result("tools/call", call).await;
    let text = answer.to_string();
    assert_ne!(answer["isError"], true, "{text}");
    assert!(
        text.contains("Bearer [secret]") && !text.contains("hunter2"),
        "{text}"
    );
    assert_eq!(audited(&home, "secret").len(), 1);

    // A ceiling.
    let answer = agent.call("allocate", json!({"bytes": 100_000_000})).await;
    let failure = &answer["_meta"]["skillhost/failure"];
    assert_eq!(failure["limit"], "memory_bytes", "{answer}");

    // A rule that asks, where nobody can be asked.
    let answer = agent.call("answer", json!({"json": "{}"})).await;
    let failure = &answer["_meta"]["skillhost/failure"];
    assert_eq!(failure["reason"], "approval", "{answer}");

    // A circuit, which whoever sees to the server sees.
    for _ in 0..2 {
        agent.call("panic", json!({"message": "no"})).await;
    }
    let answer = agent.call("echo", json!({})).await;
    let failure = &answer["_meta"]["skillhost/failure"];
    assert_eq!(failure["reason"], "circuit_open", "{answer}");
    let circuits = client.get("/v1/circuits").await.json();
    let first = &circuits["circuits"][0];
    assert_eq!(
        (&first["kind"], &first["of"], &first["state"]),
        (&json!("skill"), &json!("behaviours@1.2.3"), &json!("open"))
    );
    assert_eq!(circuits["by_state"]["open"], 1);
    let hosts = client.get("/v1/circuits?kind=host").await.json();
    assert_eq!(
        hosts["circuits"],
        json!([]),
        "the policy has none for hosts"
    );
    let metrics = client.get("/metrics").await;
    for line in [
        "skillhost_circuit_state{kind=\"skill\",of=\"behaviours@1.2.3\"} 2",
        "skillhost_circuits{kind=\"skill\",state=\"open\"} 1",
    ] {
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }
    assert_eq!(audited(&home, "breaker").len(), 1);
    let said = tokio::task::spawn_blocking(move || serving.end_and_tell());
    let said = said.await.unwrap();
    assert!(said.contains("DEBUG "), "it says much: {said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_searched_where_that_is_wanted() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--mcp-search"]);
    let agent = Agent::current(serving.client());
    let listed = agent.result("tools/list", json!({})).await;
    let names: Vec<&str> = listed["tools"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    assert_eq!(names, ["call_tool", "read_output", "search_tools"]);
    let search = json!({"name": "search_tools", "arguments": {"query": "echo"}});
    let found = agent.result("tools/call", search).await;
    let name = &found["structuredContent"]["tools"][0]["name"];
    assert_eq!(name, "behaviours__echo");
    let call = json!({"name": "call_tool", "arguments": {"name": name, "arguments": {"x": 1}}});
    let answer = agent.result("tools/call", call).await;
    assert_eq!(answer["structuredContent"], json!({"x": 1}));
    ends(serving).await;
}

/// A message is a body like any other.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_bounded_in_bytes_and_time() {
    let mut settings = Settings::default();
    settings.body_timeout = Duration::from_millis(200);
    settings.bodies_bytes = 8 << 20;
    let server = start(Wanted {
        settings,
        ..Wanted::default()
    })
    .await;
    let agent = Agent::current(server.client());
    let arguments = json!({"x": "x".repeat(500_000)});
    let answer = agent.call("echo", arguments).await;
    assert_ne!(answer["isError"], true);
    // More than all bodies may have together.
    let call = json!({"name": "behaviours__echo", "arguments": {"x": "x".repeat(12 << 20)}});
    let message = agent.message("tools/call", call);
    let answer = agent.client.send(agent.post(&message)).await;
    answer.problem(503, "unavailable");
    // A small text that is much once it is read.
    let arguments = json!({"x": vec![json!([0]); 600_000]});
    let call = json!({"name": "behaviours__echo", "arguments": arguments});
    let message = agent.message("tools/call", call);
    let answer = agent.client.send(agent.post(&message)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let refused: Value = serde_json::from_str(answer.text()).unwrap();
    assert_eq!(refused["id"], 1);
    let said = refused["error"]["message"].as_str().unwrap();
    assert!(said.contains("too many values"), "{said}");
    // What is kept for as long as a session or a stream has less room, also of what it is once it is read.
    let mut begins = initialize();
    begins["params"]["clientInfo"]["name"] = json!("x".repeat(65 << 10));
    let mut heavy = initialize();
    heavy["params"]["capabilities"]["experimental"] = json!({"x": vec![json!({"a": 0}); 1_000]});
    let listens = json!({"notifications": {"toolsListChanged": true}, "_meta": {"x/y": vec![json!([0]); 3_000]}});
    let listens = agent.message("subscriptions/listen", listens);
    for message in [begins, heavy, listens] {
        let answer = agent.client.send(agent.post(&message)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let refused: Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!(refused["id"], 1);
        let said = refused["error"]["message"].as_str().unwrap();
        assert!(said.contains("has at most 64 KiB"), "{said}");
    }
    // A stream of news has no message: what stands in the place of one is not read, and takes none of that room.
    let older = Agent::older(server.client()).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut listen = older.post(&json!({"x": "x".repeat(2_200_000)}));
        *listen.method_mut() = hyper::Method::GET;
        let stream = older.client.open(listen).await;
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    let answer = agent.call("echo", json!({"x": "x".repeat(500_000)})).await;
    assert_ne!(answer["isError"], true);
    drop(streams);
    // More than a message may have, as it says itself; and one that does not come.
    for (bytes, status) in [(17 << 20, "413"), (100, "408")] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: {bytes}\r\n\r\n{{",
            server.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.expect("it is not waited for").unwrap();
        let begin = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&begin), "{answer}");
    }
    // Pages of the server's own may call, and those of strangers may not.
    let mut own = agent.post(&agent.message("tools/list", json!({})));
    let origin = format!("http://{}", server.address);
    own.headers_mut().insert("origin", origin.parse().unwrap());
    assert_eq!(agent.client.send(own).await.status, StatusCode::OK);
    let mut other = agent.post(&agent.message("tools/list", json!({})));
    let origin = "https://evil.example".parse().unwrap();
    other.headers_mut().insert("origin", origin);
    let answer = agent.client.send(other).await;
    answer.problem(403, "foreign-origin");
    server.end().await;
}

/// In a session a call goes on where its client hangs up, as that may come again. So does what it takes.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_takes_counts_until_it_is_over() {
    let mut settings = Settings::default();
    // Room for one, with what it takes to read it.
    settings.bodies_bytes = 4 << 20;
    let server = start(Wanted {
        settings,
        ..Wanted::default()
    })
    .await;
    let older = Agent::older(server.client()).await;
    let agent = Agent::current(server.client());
    let large = json!({"name": "behaviours__echo", "arguments": {"x": "x".repeat(900 << 10)}});
    let large = agent.message("tools/call", large);
    let is_let_in = async || agent.client.send(agent.post(&large)).await.status;
    assert_eq!(is_let_in().await, StatusCode::OK);
    let mut call = json!({"name": "behaviours__sleep", "arguments": {"ms": 3_000}});
    call["pad"] = json!("x".repeat(900 << 10));
    // What the one before it took is given back a moment after its answer.
    let (began, answer) = loop {
        let began = std::time::Instant::now();
        let answer = older.open("tools/call", call.clone()).await;
        match answer.status() {
            StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(SOON).await,
            status => {
                assert_eq!(status, StatusCode::OK);
                break (began, answer);
            }
        }
    };
    underway(&agent.client, 1).await;
    for _ in 0..2 {
        assert_eq!(is_let_in().await, StatusCode::SERVICE_UNAVAILABLE);
    }
    // It hangs up: who comes in its place is not let in for that.
    drop(answer);
    let hung_up = std::time::Instant::now();
    loop {
        assert_eq!(is_let_in().await, StatusCode::SERVICE_UNAVAILABLE);
        tokio::time::sleep(SOON).await;
        if hung_up.elapsed() > Duration::from_millis(500) {
            break;
        }
    }
    while is_let_in().await != StatusCode::OK {
        assert!(began.elapsed() < PATIENCE, "it is not given back");
        tokio::time::sleep(SOON).await;
    }
    assert!(began.elapsed() >= Duration::from_secs(3), "it is not over");
    server.end().await;
}

/// A call of the current revision that names a session is not its, and is as long as any. The session takes on others
/// meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_apart_from_its_session_keeps_nobody_waiting() {
    let mut settings = Settings::default();
    settings.body_timeout = Duration::from_millis(200);
    let server = start(Wanted {
        settings,
        ..Wanted::default()
    })
    .await;
    let older = Agent::older(server.client()).await;
    let session = older.session.clone().unwrap();
    let agent = Agent::current(server.client());
    let sleeps = json!({"name": "behaviours__sleep", "arguments": {"ms": 1_000}});
    let message = agent.message("tools/call", sleeps);
    // More than the messages of a session that are handed on at once.
    let mut calls = tokio::task::JoinSet::new();
    for id in 10..16 {
        let agent = Agent::current(server.client());
        let mut message = message.clone();
        message["id"] = json!(id);
        let mut call = agent.post(&message);
        let headers = call.headers_mut();
        headers.insert("mcp-session-id", session.parse().unwrap());
        calls.spawn(async move { agent.send(call).await });
    }
    let mut pings = 0;
    while underway_now(&agent.client).await < 6 {
        tokio::task::yield_now().await;
    }
    while underway_now(&agent.client).await == 6 {
        assert_eq!(older.result("ping", json!({})).await, json!({}));
        pings += 1;
        tokio::time::sleep(SOON).await;
    }
    assert!(pings > 1, "it has to wait for them");
    while let Some(called) = calls.join_next().await {
        let (answer, _) = called.unwrap();
        assert!(answer["result"]["isError"] != true, "{answer}");
        assert!(answer["result"].is_object(), "{answer}");
    }
    assert_eq!(older.result("ping", json!({})).await, json!({}));
    server.end().await;
}

/// A task is a job, and belongs to the trace of the call.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_belongs_to_the_trace_of_its_call() {
    let server = start(Wanted::default()).await;
    let agent = Agent::current(server.client());
    let trace_of = async |header: Option<&str>, said: Option<&str>| {
        let mut params = json!({"name": "behaviours__echo", "arguments": {},
            "_meta": {"skillhost/task": true}});
        if let Some(said) = said {
            params["_meta"]["traceparent"] = json!(said);
            params["_meta"]["tracestate"] = json!("b=2");
        }
        let mut request = agent.post(&agent.message("tools/call", params));
        if let Some(header) = header {
            let headers = request.headers_mut();
            headers.insert("traceparent", header.parse().unwrap());
            headers.insert("tracestate", "a=1".parse().unwrap());
        }
        let (answer, _) = agent.send(request).await;
        let task = answer["result"]["taskId"].as_str().expect("it is a task");
        let job = server.queue.job(task.parse().unwrap()).await.unwrap();
        let trace = job.submitted.trace.expect("it has one");
        (trace, job.submitted.trace_state)
    };
    let (one, other) = (
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "0af7651916cd43dd8448eb211c80319c",
    );
    let parent = |trace: &str| format!("00-{trace}-00f067aa0ba902b7-01");
    let (trace, state) = trace_of(Some(&parent(one)), None).await;
    assert!(trace.starts_with(&format!("00-{one}-")), "{trace}");
    assert_eq!(state.as_deref(), Some("a=1"));
    // What the message itself says goes before what it came in.
    let (trace, state) = trace_of(Some(&parent(one)), Some(&parent(other))).await;
    assert!(trace.starts_with(&format!("00-{other}-")), "{trace}");
    assert_eq!(state.as_deref(), Some("b=2"));
    let (trace, state) = trace_of(None, Some("nothing")).await;
    assert!(!trace.contains(one) && state.is_none(), "{trace}");
    server.end().await;
}
