//! Over HTTP: the official conformance suite, and whose sessions are whose.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::middleware::{self, Next};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use skillhost::execution::{BoxFuture, Rejection};
use skillhost::queue::Queue;
use skillhost::serve::mcp::{ChosenSkill, HttpSettings, McpServer, McpService, McpSettings, Tasks};
use skillhost::serve::{Caller, Tenancy};
use skillhost::skill::{Library, Package};
use skillhost::{
    Cause, Control, Execute, ExecutionRequest, ExecutionResult, Failure, Host, HostError,
    InstalledSkills, Resolution,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::harness::{conformance_component, node_modules, run, scenario, scratch};

/// The revision of the protocol without sessions.
const CURRENT: &str = "2026-07-28";

/// The version of the conformance suite.
const SUITE: &str = "@modelcontextprotocol/conformance@0.1.16";

/// Executes nothing that nobody has approved.
pub struct Asking(pub InstalledSkills);

impl Execute for Asking {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        if control.approved {
            return self.0.execute(request, control);
        }
        let cause = Cause::Rejected {
            reason: Rejection::Approval,
            retry_at: None,
        };
        let failure = Failure::new(cause, "not admitted: it needs an approval");
        let refused = control.refuse(request, None, failure);
        Box::pin(std::future::ready(Ok(refused)))
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.0.resolve(request)
    }
}

/// A server of the skill that the suite calls. Who calls is what the header `tenant` says, and the
/// operator without one.
async fn server() -> SocketAddr {
    serve(|skills| Arc::new(skills)).await
}

pub fn host() -> Host {
    let cache = scratch().join("mcp-compiled-conformance");
    Host::builder().cache(cache).build().expect("it is set up")
}

async fn serve(around: impl FnOnce(InstalledSkills) -> Arc<dyn Execute>) -> SocketAddr {
    serve_with(around, None).await
}

async fn serve_with(
    around: impl FnOnce(InstalledSkills) -> Arc<dyn Execute>,
    queue: Option<Queue>,
) -> SocketAddr {
    let service = conformance(around, queue).await;
    let service = service.http(HttpSettings::default());
    let router = axum::Router::new()
        .route_service("/mcp", service)
        .layer(middleware::from_fn(who));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it binds");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
            );
        }
    });
    address
}

/// A server of the tools that the conformance suite asks for.
async fn conformance(
    around: impl FnOnce(InstalledSkills) -> Arc<dyn Execute>,
    queue: Option<Queue>,
) -> McpServer {
    conformance_with(around, queue, McpSettings::default()).await
}

async fn conformance_with(
    around: impl FnOnce(InstalledSkills) -> Arc<dyn Execute>,
    queue: Option<Queue>,
    mut settings: McpSettings,
) -> McpServer {
    let folder = tempfile::tempdir().expect("a folder can be made").keep();
    let skills = InstalledSkills::builder(host(), Library::new(folder)).build();
    let component = std::fs::read(conformance_component()).expect("it was built");
    let skill = skills.add(Package::from_bytes(component)).await;
    let skill = skill.expect("it loads");
    settings.plain_names = true;
    let mut server = McpServer::builder(around(skills.clone()), skills)
        .only(vec![ChosenSkill::Added {
            skill,
            folder: None,
        }])
        .settings(settings);
    if let Some(queue) = queue {
        server = server.tasks(Tasks::new(queue));
    }
    server.build()
}

async fn who(mut request: Request, next: Next) -> axum::response::Response {
    let tenant = request.headers().get("tenant");
    let caller = match tenant.and_then(|tenant| tenant.to_str().ok()) {
        Some("nobody") => return next.run(request).await,
        Some(tenant) => Caller {
            tenancy: Tenancy::Tenant(tenant.into()),
            ..Caller::operator()
        },
        None => Caller::operator(),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Node.js and the suite.
fn suite() -> (PathBuf, PathBuf) {
    let modules = node_modules(SUITE);
    let suite = modules.join("@modelcontextprotocol/conformance/dist/index.js");
    (modules.join("node/bin/node"), suite)
}

/// What fails is exactly what `conformance.yaml` expects to, each with its reason.
#[tokio::test(flavor = "multi_thread")]
async fn the_official_conformance_suite_passes() {
    let (node, suite) = tokio::task::spawn_blocking(suite)
        .await
        .expect("it is there");
    let address = server().await;
    let mut command = Command::new(node);
    command
        .arg(suite)
        .args(["server", "--suite", "all", "--url"])
        .arg(format!("http://{address}/mcp"))
        .arg("--expected-failures")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/conformance.yaml"))
        .current_dir(scratch());
    let done = tokio::task::spawn_blocking(move || run(&mut command, "the conformance suite"));
    let done = done.await.expect("it ends");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(said.contains("tools-call-image"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_needs_an_approval_is_asked_about() {
    let address = serve(|skills| Arc::new(Asking(skills))).await;
    let url = format!("http://{address}/mcp");
    let acted = tokio::task::spawn_blocking(move || {
        scenario("approving", url.as_ref(), scratch());
    });
    acted.await.expect("it ends well");
}

/// Sends one message, and gives the status, the session and what was answered.
async fn post(
    address: SocketAddr,
    headers: &[(&str, &str)],
    message: &Value,
) -> (u16, Option<String>, String) {
    let body = message.to_string();
    let mut request = format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\naccept: application/json, text/event-stream\r\n\
         content-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        if *name == "host" {
            request = request.replace(&format!("host: {address}"), &format!("host: {value}"));
        } else {
            request += &format!("{name}: {value}\r\n");
        }
    }
    request += "\r\n";
    request += &body;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it takes it");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let session = answer.lines().find_map(|line| {
        let line = line.to_ascii_lowercase();
        Some(line.strip_prefix("mcp-session-id: ")?.trim().to_owned())
    });
    (status.expect("there is a status"), session, answer)
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"}}})
}

fn list() -> Value {
    json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_whose_it_is_and_nobody_unknown_is_let_in() {
    let address = server().await;
    let (status, session, _) = post(address, &[("tenant", "one")], &initialize()).await;
    assert_eq!(status, 200);
    let session = session.expect("there is a session");
    let with = |tenant| [("tenant", tenant), ("mcp-session-id", session.as_str())];
    let (status, _, answer) = post(address, &with("one"), &list()).await;
    assert!(
        status == 200 && answer.contains("test_simple_text"),
        "{answer}"
    );
    let (status, _, answer) = post(address, &with("other"), &list()).await;
    assert_eq!(status, 404, "{answer}");
    let (status, _, _) = post(address, &[("tenant", "nobody")], &initialize()).await;
    assert_eq!(status, 401);
    let (status, _, _) = post(address, &[("mcp-session-id", "guessed")], &list()).await;
    assert_eq!(status, 404);
}

type Answer = axum::http::Response<BoxBody<Bytes, Infallible>>;

/// Reads on in an answer, or asks to.
async fn resumed(service: &McpService, session: &str, at: &str) -> Answer {
    let request = begin("GET").header("mcp-session-id", session);
    asked(service, request.header("last-event-id", at), String::new()).await
}

fn begin(method: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
}

/// Hands one message, or without one a request for news, to a service; what is answered is read by whoever asks.
async fn sent(service: &McpService, session: &str, message: Option<Value>) -> Answer {
    let request = begin(if message.is_some() { "POST" } else { "GET" });
    let named = message.as_ref().map_or("", |message| {
        message["params"]["name"].as_str().unwrap_or_default()
    });
    let request = match (session, named) {
        ("", "") => request,
        // The current revision, which has no sessions.
        ("", name) => request
            .header("mcp-protocol-version", CURRENT)
            .header("mcp-method", "tools/call")
            .header("mcp-name", name),
        (session, _) => request.header("mcp-session-id", session),
    };
    let body = message
        .map(|message| message.to_string())
        .unwrap_or_default();
    asked(service, request, body).await
}

async fn asked(
    service: &McpService,
    request: axum::http::request::Builder,
    body: String,
) -> Answer {
    let request = request.extension(Caller::operator());
    let request = request
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let answered = service.clone().oneshot(request);
    // Far more than it may wait.
    let answered = tokio::time::timeout(Duration::from_secs(60), answered);
    answered
        .await
        .expect("it is answered")
        .expect("it cannot fail")
}

/// Begins a session.
async fn begun(service: &McpService) -> String {
    let begun = sent(service, "", Some(initialize())).await;
    let session = begun.headers()["mcp-session-id"]
        .to_str()
        .expect("a text")
        .to_owned();
    begun.into_body().collect().await.expect("it ends");
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let answer = sent(service, &session, Some(initialized)).await;
    assert_eq!(answer.status(), 202);
    session
}

/// What is answered and not read is bounded: also where the client has hung up, and the answer waits in its session
/// behind what is not read there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_read_is_bounded() {
    let mut settings = McpSettings::default();
    settings.untaken.bytes = 10;
    let server = conformance_with(|skills| Arc::new(skills), None, settings).await;
    let mut settings = HttpSettings::default();
    settings.message_timeout = Duration::from_secs(12);
    let service = server.http(settings);
    let mut id = 100;
    let mut call = |session: &str, tool: &str| {
        id += 1;
        let mut message = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": tool, "arguments": {}}});
        if session.is_empty() {
            message["params"]["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": CURRENT,
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let (service, session) = (service.clone(), session.to_owned());
        async move { sent(&service, &session, Some(message)).await }
    };
    let text = async |answer: Answer| {
        let whole = tokio::time::timeout(Duration::from_secs(60), answer.into_body().collect());
        let whole = whole.await.expect("it is answered").expect("it ends");
        String::from_utf8(whole.to_bytes().to_vec()).expect("a text")
    };
    const IMAGE: &str = "test_image_content";
    const OFTEN: Duration = Duration::from_millis(20);
    let is_given = |said: &str| {
        let given = said.contains("image/png");
        assert_eq!(!given, said.contains("wait to be read"), "{said}");
        given
    };
    let (one, other) = (begun(&service).await, begun(&service).await);
    // What was read counts until a moment after that.
    macro_rules! is_soon_given {
        ($session:expr) => {
            let began = Instant::now();
            while !is_given(&text(call($session, IMAGE).await).await) {
                assert!(began.elapsed() < Duration::from_secs(60), "it is kept");
                tokio::time::sleep(OFTEN).await;
            }
        };
    }
    // Until it is certain that there is none.
    macro_rules! is_soon_refused {
        ($session:expr) => {
            let (began, mut refused) = (Instant::now(), 0);
            while refused < 5 {
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "it is not counted"
                );
                refused += 1;
                if is_given(&text(call($session, IMAGE).await).await) {
                    refused = 0;
                }
                tokio::time::sleep(OFTEN).await;
            }
        };
    }
    is_soon_given!(&one);
    // Until it is read, there is none for whoever asks beside it, in whichever session.
    let first = call(&one, IMAGE).await;
    is_soon_refused!(&other);
    is_soon_refused!("");
    assert!(!is_given(&text(call(&one, IMAGE).await).await));
    assert!(is_given(&text(first).await));
    is_soon_given!(&other);
    // Without a session, too; and who hangs up has taken it.
    let first = call("", IMAGE).await;
    is_soon_refused!(&other);
    drop(first);
    is_soon_given!("");
    // Nor does it help to hang up, and to have the answer in another stream.
    let reading_on = loop {
        let called = call(&one, "test_tool_with_logging").await;
        let began = called.into_body().frame().await.expect("it begins");
        let began = began.expect("in order").into_data().expect("data");
        let began = String::from_utf8(began.to_vec()).expect("a text");
        let at = began.lines().find_map(|line| line.strip_prefix("id:"));
        let at = at.expect("it says where it is").trim();
        let stream = resumed(&service, &one, at).await;
        // The call was over before.
        if stream.status() == 200 {
            break stream;
        }
    };
    is_soon_refused!(&other);
    drop(reading_on);
    is_soon_given!(&other);
    // What is told of calls goes to a stream that nobody reads, until there is no room for more, and behind that waits an
    // answer for which its client does not.
    let level = json!({"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel",
        "params": {"level": "debug"}});
    text(sent(&service, &one, Some(level)).await).await;
    let unread = sent(&service, &one, None).await;
    for calls in 0.. {
        assert!(calls < 100, "it takes on what nobody reads");
        let answer = call(&one, "test_tool_with_logging").await;
        assert_eq!(answer.status(), 200);
        let read = tokio::time::timeout(Duration::from_secs(4), answer.into_body().collect());
        if read.await.is_err() {
            break;
        }
    }
    is_soon_refused!(&other);
    // For so long its session takes nothing on, and is over.
    is_soon_given!(&other);
    assert_eq!(call(&one, IMAGE).await.status(), 404);
    drop(unread);
}

/// A session takes nothing on any more where its client does not read what it is sent. What waits for it then does not
/// wait for ever, nor what comes after.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_takes_nothing_on_is_over() {
    let mut settings = HttpSettings::default();
    // Longer than it is looked whether the session goes on.
    settings.message_timeout = Duration::from_secs(8);
    let service = conformance(|skills| Arc::new(skills), None).await;
    let service = service.http(settings);
    let send = async |session: &str, message| sent(&service, session, message).await;
    let session = begun(&service).await;
    let level = json!({"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel",
        "params": {"level": "debug"}});
    let answer = send(&session, Some(level)).await;
    answer.into_body().collect().await.expect("it ends");
    let unread = send(&session, None).await;
    assert_eq!(unread.status(), 200);
    let call = |id: u64| {
        Some(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": "test_tool_with_logging", "arguments": {}}}))
    };
    // What they log goes to the stream that nobody reads, until there is no room for more.
    for id in 10.. {
        assert!(id < 100, "it takes on what nobody reads");
        let answer = send(&session, call(id)).await;
        assert_eq!(answer.status(), 200);
        let read = tokio::time::timeout(Duration::from_secs(5), answer.into_body().collect());
        if read.await.is_err() {
            break;
        }
    }
    // Each is told so, also those for which there is no place to wait for the session in.
    // Large ones are read where it holds up nobody.
    let ping = |id: u64| {
        let pad = "x".repeat(if id.is_multiple_of(2) { 0 } else { 300 << 10 });
        let ping = json!({"jsonrpc": "2.0", "id": id, "method": "ping", "params": {"pad": pad}});
        send(&session, Some(ping))
    };
    let (a, b, c, d, e, f, g, h) = tokio::join!(
        ping(1_000),
        ping(1_001),
        ping(1_002),
        ping(1_003),
        ping(1_004),
        ping(1_005),
        ping(1_006),
        ping(1_007),
    );
    for answer in [a, b, c, d, e, f, g, h] {
        assert_eq!(answer.status(), 404);
        let why = answer
            .into_body()
            .collect()
            .await
            .expect("it ends")
            .to_bytes();
        let why = String::from_utf8_lossy(&why);
        assert!(why.starts_with("the session is over"), "{why}");
    }
    let gone = send(&session, Some(list())).await;
    let why = gone
        .into_body()
        .collect()
        .await
        .expect("it ends")
        .to_bytes();
    assert_eq!(why, "there is no such session");
    // Its streams end.
    let unread = tokio::time::timeout(Duration::from_secs(60), unread.into_body().collect());
    unread.await.expect("it ends").expect("in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_answered_with_why() {
    let address = server().await;
    let (_, session, _) = post(address, &[], &initialize()).await;
    let session = session.expect("there is a session");
    for (method, params, told) in [
        ("tools/call", json!({"name": 5}), "-32602"),
        (
            "tools/call",
            json!({"name": 5}),
            "the params of `tools/call` do not fit: `name`: ",
        ),
        ("resources/read", json!({}), "missing field `uri`"),
        ("tools/cal", json!({}), "there is no method `tools/cal`"),
        (
            "prompts/list",
            json!({}),
            "there is no method `prompts/list`",
        ),
        (
            "prompts/get",
            json!({"name": "x"}),
            "there is no method `prompts/get`",
        ),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "a", "value": "b"}}),
            "there is no method `completion/complete`",
        ),
    ] {
        let message = json!({"jsonrpc": "2.0", "id": 2, "method": method, "params": params});
        let (_, _, answer) = post(address, &[("mcp-session-id", &session)], &message).await;
        assert!(answer.contains(told), "{answer}");
    }
}

/// Also where nothing before the server has looked at them.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_are_read_and_those_that_blow_up_are_not() {
    let address = server().await;
    let (_, session, _) = post(address, &[], &initialize()).await;
    let session = session.expect("there is a session");
    let within = [("mcp-session-id", session.as_str())];
    let mut large = list();
    large["params"] = json!({"_meta": {"x": "x".repeat(1 << 20)}});
    let (status, _, answer) = post(address, &within, &large).await;
    assert_eq!(status, 200, "{answer}");
    large["params"] = json!({"_meta": {"x": vec![json!([0]); 600_000]}});
    let (status, _, answer) = post(address, &within, &large).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("too many values"), "{answer}");
    // What comes back with each report is short.
    large["params"] = json!({"_meta": {"progressToken": "x".repeat(2 << 10)}});
    let (status, _, answer) = post(address, &within, &large).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("has at most 1 KiB"), "{answer}");
    // What is kept for as long as the session has less room.
    let mut begins = initialize();
    begins["params"]["_meta"] = json!({"x": "x".repeat(64 << 10)});
    let (status, session, answer) = post(address, &[], &begins).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(session, None);
    assert!(answer.contains("has at most 64 KiB"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_strangers_cannot_call() {
    let address = server().await;
    for wrong in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let (status, session, answer) = post(address, &[wrong], &initialize()).await;
        assert!(status == 403 || status == 400, "{answer}");
        assert_eq!(session, None);
    }
}

/// A call of the current revision, by a client that can ask somebody.
async fn call(address: SocketAddr, tenant: &str, more: &Value) -> Value {
    let mut params = json!({"name": "test_simple_text", "arguments": {"x": 1}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}});
    for (name, value) in more.as_object().expect("it is one") {
        params[name] = value.clone();
    }
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let headers = [
        ("tenant", tenant),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "test_simple_text"),
    ];
    let (status, _, answer) = post(address, &headers, &message).await;
    assert_eq!(status, 200, "{answer}");
    let found = answer.lines().find_map(|line| {
        let data = line.strip_prefix("data:").unwrap_or(line);
        let message: Value = serde_json::from_str(data.trim()).ok()?;
        message["result"]
            .is_object()
            .then(|| message["result"].clone())
    });
    found.unwrap_or_else(|| panic!("{answer}"))
}

/// Several processes that share a queue share the questions, each of which is answered once.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_at_any_server_of_the_queue() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let open = || Queue::open(folder.path().join("queue.db")).expect("it can be opened");
    let server = async |queue| serve_with(|skills| Arc::new(Asking(skills)), Some(queue)).await;
    let (one, other) = (server(open()).await, server(open()).await);
    let first = call(one, "a", &json!({})).await;
    let state = first["requestState"].as_str().expect("it is asked about");
    let answer = |action: &str| {
        json!({"requestState": state,
            "inputResponses": {"approve": {"action": action, "content": {}}}})
    };
    let made_up = json!({"requestState": "made up",
        "inputResponses": {"approve": {"action": "accept", "content": {}}}});
    for (tenant, with) in [("a", &made_up), ("b", &answer("accept"))] {
        let again = call(other, tenant, with).await;
        assert!(again["requestState"].is_string(), "{again}");
    }
    let done = call(other, "a", &answer("accept")).await;
    assert!(
        done["content"][0]["text"].is_string() && done["isError"] != true,
        "{done}"
    );
    for address in [one, other] {
        let again = call(address, "a", &answer("accept")).await;
        assert!(again["requestState"].is_string(), "only once: {again}");
    }
}
