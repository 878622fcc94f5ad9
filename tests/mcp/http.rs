//! Over HTTP: the official conformance suite, and whose sessions are whose.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::middleware::{self, Next};
use serde_json::{Value, json};
use skillhost::execution::{BoxFuture, Rejection};
use skillhost::serve::mcp::{ChosenSkill, HttpSettings, McpServer, McpSettings};
use skillhost::serve::{Caller, Tenancy};
use skillhost::skill::{Library, Package};
use skillhost::{
    Cause, Control, Execute, ExecutionRequest, ExecutionResult, Failure, Host, HostError,
    InstalledSkills, Resolution,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{alone, conformance_component, run, scenario, scratch};

/// The version of the conformance suite, and of the Node.js that it needs where the system's is older.
const SUITE: &str = "@modelcontextprotocol/conformance@0.1.16";
const NODE: &str = "node@22";

/// Executes nothing that nobody has approved.
struct Asking(InstalledSkills);

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

async fn serve(around: impl FnOnce(InstalledSkills) -> Arc<dyn Execute>) -> SocketAddr {
    let folder = tempfile::tempdir().expect("a folder can be made").keep();
    let cache = scratch().join("mcp-compiled-conformance");
    let host = Host::builder().cache(cache).build().expect("it is set up");
    let skills = InstalledSkills::builder(host, Library::new(folder)).build();
    let component = std::fs::read(conformance_component()).expect("it was built");
    let skill = skills.add(Package::from_bytes(component)).await;
    let skill = skill.expect("it loads");
    let mut settings = McpSettings::default();
    settings.plain_names = true;
    let server = McpServer::builder(around(skills.clone()), skills)
        .only(vec![ChosenSkill::Added {
            skill,
            folder: None,
        }])
        .settings(settings)
        .build();
    let service = server.http(HttpSettings::default());
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

/// Node.js and the suite, installed once from the npm registry.
fn suite() -> &'static (PathBuf, PathBuf) {
    static SUITE_AT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    SUITE_AT.get_or_init(|| {
        let _alone = alone("mcp-conformance");
        let folder = scratch().join("mcp-conformance-0.1.16");
        let ready = folder.join("ready");
        if !ready.exists() {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).expect("a folder can be made");
            std::fs::write(folder.join("package.json"), "{}").expect("it can be written");
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-audit", "--no-fund", SUITE, NODE])
                .current_dir(&folder);
            let missing = "npm is needed for the conformance suite of MCP (Debian: `apt-get install \
                           npm`), and the npm registry";
            let done = run(&mut npm, missing);
            assert!(
                done.status.success(),
                "{missing}\n{}",
                String::from_utf8_lossy(&done.stderr)
            );
            std::fs::write(&ready, "").expect("it can be written");
        }
        let modules = folder.join("node_modules");
        let suite = modules.join("@modelcontextprotocol/conformance/dist/index.js");
        (modules.join("node/bin/node"), suite)
    })
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

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_strangers_cannot_call() {
    let address = server().await;
    for wrong in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let (status, session, answer) = post(address, &[wrong], &initialize()).await;
        assert!(status == 403 || status == 400, "{answer}");
        assert_eq!(session, None);
    }
}
