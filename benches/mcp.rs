//! What the door for agents adds to an execution: a trivial call over MCP, by standard input and output
//! and over HTTP, beside the same call of a trivial `rmcp` server, and the bare execution. By standard
//! input it is `skillhost mcp` as it is installed, with guards and audit; over HTTP it is the door alone
//! (`http`), and `skillhost serve` with all of that (`as_served`). And how long
//! it takes from the start of `skillhost mcp` to its first list, with 20 installed skills.
//!
//! `cargo bench --bench mcp`, with `-- --smoke` to see only whether it works.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};
use serde_json::{Value, json};
use skillhost::doctor::handmade::Handmade;
use skillhost::serve::Caller;
use skillhost::serve::mcp::{HttpSettings, McpServer};
use skillhost::skill::{Library, Package};
use skillhost::{Control, Execute, ExecutionRequest, Host, InstalledSkills};

/// How this program is started again to be the trivial server.
const TRIVIAL: &str = "--trivial";
const SKILLS: usize = 20;
/// The most that a call may cost, beyond the execution, of what it costs of the trivial server.
const TARGET: f64 = 1.2;
const TARGET_LIST_MS: f64 = 50.0;

/// Answers every call with what it was given, and does nothing else.
#[derive(Clone)]
struct Trivial;

impl ServerHandler for Trivial {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let output = Value::Object(request.arguments.unwrap_or_default());
        let mut result = CallToolResult::success(vec![ContentBlock::text(output.to_string())]);
        result.structured_content = Some(output);
        Ok(result.into())
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    if std::env::args().any(|argument| argument == TRIVIAL) {
        runtime.block_on(async {
            let streams = rmcp::transport::stdio_pipes();
            let running = rmcp::serve_server(Trivial, streams).await;
            let _ = running.expect("it begins").waiting().await;
        });
        std::process::exit(0);
    }
    let folder = tempfile::tempdir().expect("a folder");
    runtime.block_on(install(folder.path()));
    let rounds = support::rounds(2_000);

    let bare = runtime.block_on(bare(folder.path(), rounds));
    let mut trivial = Command::new(std::env::current_exe().expect("this program has a path"));
    trivial.arg(TRIVIAL);
    let trivial = Server::start(&mut trivial).calls("echo", rounds);
    let ours = Server::start(&mut skillhost(folder.path())).calls("bench-guest__echo", rounds);
    let stdio = Compared::new("stdio", bare, trivial, ours);
    let (trivial, ours) = runtime.block_on(over_http(folder.path(), rounds));
    let http = Compared::new("http", bare, trivial, ours);
    let served = support::Served::start(folder.path());
    let ours = runtime.block_on(calls_to(served.address, "bench-guest__echo", rounds));
    let as_served = Compared::new("serve", bare, trivial, ours);
    drop(served);

    let list: Vec<Duration> = (0..support::rounds(200).max(3))
        .map(|_| {
            let began = Instant::now();
            let mut server = Server::start(&mut skillhost(folder.path()));
            assert!(server.list() >= SKILLS);
            began.elapsed()
        })
        .collect();
    let list = support::median(&list);
    println!("first list of {SKILLS} skills: {} ms", support::ms(list));
    runtime.shutdown_background();
    support::finish(json!({
        "benchmark": "mcp",
        "bare_us": micros(bare),
        "stdio": stdio.figures(),
        "http": http.figures(),
        "as_served": as_served.figures(),
        "first_list_ms": support::ms(list),
        "target": {
            "stdio": {"added_to_trivial": support::at_most(TARGET)},
            "http": {"added_to_trivial": support::at_most(TARGET)},
            "first_list_ms": support::at_most(TARGET_LIST_MS),
        },
        "load": support::load(),
    }))
}

/// Medians of one call.
struct Compared {
    bare: Duration,
    trivial: Duration,
    ours: Duration,
}

impl Compared {
    fn new(name: &str, bare: Duration, trivial: Duration, ours: Duration) -> Self {
        let compared = Compared {
            bare,
            trivial,
            ours,
        };
        println!(
            "{name:5} {:7.1} µs; trivial {:7.1} µs, bare {:6.1} µs; added to trivial {:.2}",
            micros(ours),
            micros(trivial),
            micros(bare),
            compared.added()
        );
        compared
    }

    /// What the call costs beyond the execution, to what it costs of the trivial server.
    fn added(&self) -> f64 {
        self.ours.saturating_sub(self.bare).as_secs_f64() / self.trivial.as_secs_f64()
    }

    fn figures(&self) -> Value {
        json!({
            "us": micros(self.ours),
            "trivial_us": micros(self.trivial),
            "added_to_trivial": support::round(self.added()),
        })
    }
}

fn micros(time: Duration) -> f64 {
    support::round(time.as_secs_f64() * 1e6)
}

/// A home with the guest of the benchmarks and further skills in it.
async fn install(home: &Path) {
    let library = Library::new(home.join("skills"));
    let host = Host::builder().cache(home.join("compiled")).build();
    let host = host.expect("a host");
    let guest = std::fs::read(support::guest()).expect("it was built");
    let mut packages = vec![Package::from_bytes(guest)];
    for number in 1..SKILLS {
        let mut skill = Handmade::default();
        skill.description.name = format!("skill-{number}");
        packages.push(Package::from_bytes(skill.build()));
    }
    for package in packages {
        let skill = host.load_package(package.clone()).await.expect("it loads");
        let installed = library.install(&package, skill.description(), true);
        installed.expect("it can be installed");
    }
}

fn installed(home: &Path) -> InstalledSkills {
    let host = Host::builder().cache(home.join("compiled")).build();
    let library = Library::new(home.join("skills"));
    InstalledSkills::builder(host.expect("a host"), library).build()
}

fn skillhost(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skillhost"));
    command.arg("mcp").arg("--home").arg(home);
    command
}

/// The execution alone.
async fn bare(home: &Path, rounds: usize) -> Duration {
    let skills = installed(home);
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds + rounds / 10 + 1 {
        let request = ExecutionRequest::new("bench-guest", json!({"text": "to be"})).tool("echo");
        let began = Instant::now();
        let result = skills.execute(request, Control::default()).await;
        let took = began.elapsed();
        assert!(result.expect("the host is well").output.is_some());
        if round > rounds / 10 {
            times.push(took);
        }
    }
    support::median(&times)
}

fn message(id: u64, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

fn initialize() -> String {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "bench", "version": "0"}});
    message(0, "initialize", &params)
}

fn call(id: u64, tool: &str) -> String {
    let params = json!({"name": tool, "arguments": {"text": "to be"}});
    message(id, "tools/call", &params)
}

/// A server at the other end of two pipes.
struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut server = Server {
            input: child.stdin.take().expect("it is piped"),
            output: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
        };
        server.ask(&initialize());
        let line = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        writeln!(server.input, "{line}").expect("it takes it");
        server
    }

    fn ask(&mut self, line: &str) -> String {
        let mut line = line.to_owned();
        line.push('\n');
        self.input.write_all(line.as_bytes()).expect("it takes it");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("it answers");
        answer
    }

    fn calls(mut self, tool: &str, rounds: usize) -> Duration {
        let mut id = 0;
        let mut one = || {
            id += 1;
            let line = call(id, tool);
            let began = Instant::now();
            let answer = self.ask(&line);
            let took = began.elapsed();
            assert!(answer.contains(r#""text":"to be""#), "{answer}");
            took
        };
        for _ in 0..rounds / 10 + 1 {
            one();
        }
        let times: Vec<Duration> = (0..rounds).map(|_| one()).collect();
        support::median(&times)
    }

    fn list(&mut self) -> usize {
        let answer = self.ask(&message(1, "tools/list", &json!({})));
        let answer: Value = serde_json::from_str(&answer).expect("it is JSON");
        answer["result"]["tools"].as_array().map_or(0, Vec::len)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same calls over one connection to either server, both in this process.
async fn over_http(home: &Path, rounds: usize) -> (Duration, Duration) {
    let trivial = StreamableHttpService::new(
        || Ok(Trivial),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let skills = installed(home);
    let server = McpServer::builder(Arc::new(skills.clone()), skills).build();
    let ours = server.http(HttpSettings::default());
    let caller = axum::middleware::from_fn(operator);
    let trivial = axum::Router::new().route_service("/mcp", trivial);
    let ours = axum::Router::new()
        .route_service("/mcp", ours)
        .layer(caller);
    let trivial = http_calls(trivial, "echo", rounds).await;
    (trivial, http_calls(ours, "bench-guest__echo", rounds).await)
}

async fn operator(
    mut request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    request.extensions_mut().insert(Caller::operator());
    next.run(request).await
}

async fn http_calls(router: axum::Router, tool: &str, rounds: usize) -> Duration {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("it binds");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let stream = hyper_util::rt::TokioIo::new(stream);
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(stream, service));
        }
    });
    calls_to(address, tool, rounds).await
}

async fn calls_to(address: std::net::SocketAddr, tool: &str, rounds: usize) -> Duration {
    let stream = tokio::net::TcpStream::connect(address).await;
    let stream = stream.expect("it listens");
    let _ = stream.set_nodelay(true);
    let stream = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
        .await
        .expect("it speaks HTTP");
    tokio::spawn(connection);
    let mut session: Option<String> = None;
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds + rounds / 10 + 2 {
        let body = match round {
            0 => initialize(),
            round => call(round as u64, tool),
        };
        let mut request = http::Request::post("/mcp")
            .header("host", address.to_string())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if let Some(session) = &session {
            request = request.header("mcp-session-id", session);
        }
        let request = request.body(Full::new(bytes::Bytes::from(body)));
        sender.ready().await.expect("it is there");
        let began = Instant::now();
        let answer = sender.send_request(request.expect("it is a request")).await;
        let answer = answer.expect("it answers");
        let begun = answer.headers().get("mcp-session-id");
        if let Some(begun) = begun {
            session = begun.to_str().ok().map(str::to_owned);
        }
        let whole = answer.into_body().collect().await.expect("it is whole");
        let took = began.elapsed();
        let text = String::from_utf8_lossy(&whole.to_bytes()).into_owned();
        if round > 0 {
            assert!(text.contains(r#""text":"to be""#), "{text}");
        }
        if round > rounds / 10 + 1 {
            times.push(took);
        }
    }
    support::median(&times)
}
