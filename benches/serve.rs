//! What the door for HTTP adds: a trivial execution over HTTP, against a hello-world route of the same
//! framework and a bare execution, in the same run, over connections that are kept.
//!
//! What a bare execution costs depends on where it runs: one after the other in a loop (`execute_us`), its
//! caches are warm. So it is timed in place as well (`execute_in_place_us`): what the hello-world route
//! takes longer where it executes before it says hello. `ratio` takes the first, `ratio_in_place` the
//! second: that is what the door itself adds.
//!
//! This is the door alone, on a host: no policy, no audit, no library. The same request to `skillhost
//! serve`, with the installed skills, guards and the audit that whoever starts that has, is timed beside
//! it (`as_served_us`).
//!
//! `cargo bench --bench serve`, with `-- --smoke` to see only whether it works.

mod support;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use skillhost::queue::Queue;
use skillhost::serve::{Server, Service, Settings, router};
use skillhost::{ExecutionRequest, Host, Skill, Status};
use tokio::net::TcpListener;

fn main() -> ExitCode {
    let host = Host::builder().build().expect("the host can be set up");
    let skill = host
        .load_blocking(support::guest())
        .expect("the guest loads");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let queue = Queue::open(folder.path().join("queue.db")).expect("it can be opened");
    let ours = runtime.block_on(ours(host.clone(), queue));
    let address = runtime.block_on(hello(host.clone(), skill.clone()));
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        Connection::new(address, request)
    };
    let (mut hello, mut in_place) = (get("/"), get("/execute"));
    let home = support::home();
    let process = support::Served::start(home.path());
    let body = format!(
        r#"{{"skill":"{}","tool":"echo","input":{{"text":"to be"}}}}"#,
        skill.digest()
    );
    let request = format!(
        "POST /v1/executions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut ours = Connection::new(ours, request.clone());
    let mut served = Connection::new(process.address, request);
    assert!(served.ask().contains(r#""status":"success""#));
    assert!(ours.ask().contains(r#""status":"success""#));
    assert!(hello.ask().ends_with("hello"));
    assert!(in_place.ask().ends_with("hello"));

    // All in turn, a batch each, so that a slower machine is slower for all.
    let (batches, batch) = (support::rounds(200), 100);
    let (mut bare, mut floor, mut over) = (Vec::new(), Vec::new(), Vec::new());
    let (mut as_served, mut both) = (Vec::new(), Vec::new());
    for _ in 0..batches {
        bare.push(time(batch, || {
            runtime.block_on(execute(&host, &skill));
        }));
        floor.push(time(batch, || {
            black_box(hello.ask());
        }));
        both.push(time(batch, || {
            black_box(in_place.ask());
        }));
        over.push(time(batch, || {
            black_box(ours.ask());
        }));
        as_served.push(time(batch, || {
            black_box(served.ask());
        }));
    }
    let (bare, floor, over) = (
        support::median(&bare),
        support::median(&floor),
        support::median(&over),
    );
    let as_served = support::median(&as_served);
    let in_place = support::median(&both).saturating_sub(floor);
    let allowed = bare + floor.mul_f64(1.2);
    let ratio = |execute: Duration| {
        support::ratio(
            over.saturating_sub(execute).as_secs_f64(),
            floor.as_secs_f64(),
        )
    };
    println!(
        "execute {} µs (in place {} µs), hello-world {} µs, execution over HTTP {} µs, by `skillhost \
         serve` {} µs",
        support::us(bare),
        support::us(in_place),
        support::us(floor),
        support::us(over),
        support::us(as_served)
    );
    runtime.shutdown_background();
    support::finish(serde_json::json!({
        "benchmark": "serve",
        "execute_us": support::us(bare),
        "execute_in_place_us": support::us(in_place),
        "hello_us": support::us(floor),
        "over_http_us": support::us(over),
        "as_served_us": support::us(as_served),
        "allowed_us": support::us(allowed),
        "ratio": ratio(bare),
        "ratio_in_place": ratio(in_place),
        "target": {"ratio": support::at_most(1.2)},
    }))
}

fn time(batch: u32, mut once: impl FnMut()) -> Duration {
    let began = Instant::now();
    for _ in 0..batch {
        once();
    }
    began.elapsed() / batch
}

async fn execute(host: &Host, skill: &Skill) {
    let request =
        ExecutionRequest::new(skill.digest(), serde_json::json!({"text": "to be"})).tool("echo");
    let result = host.execute(request).await.expect("the host works");
    assert_eq!(result.status, Status::Success);
    black_box(result);
}

/// The door.
async fn ours(host: Host, queue: Queue) -> SocketAddr {
    let mut settings = Settings::default();
    // The rate is looked at all the same.
    settings.rate = std::num::NonZeroU32::new(1_000_000).expect("it is not 0");
    settings.burst = settings.rate;
    let service = Service::builder(Arc::new(host), queue)
        .settings(settings)
        .build()
        .expect("it can be built");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it listens");
    let server = Server::new(service.clone(), router(&service));
    tokio::spawn(server.run(listener, std::future::pending(), std::future::pending()));
    address
}

/// The framework alone, with a route that says hello and one that executes before.
async fn hello(host: Host, skill: Skill) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it listens");
    let executing = move || {
        let (host, skill) = (host.clone(), skill.clone());
        async move {
            execute(&host, &skill).await;
            "hello"
        }
    };
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/execute", get(executing));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("it can");
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let io = TokioIo::new(stream);
                let _ = http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    address
}

/// A connection on which the same is asked again and again.
struct Connection {
    stream: TcpStream,
    request: String,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(address: SocketAddr, request: String) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("it can");
        Connection {
            stream,
            request,
            buffer: vec![0; 64 << 10],
        }
    }

    /// The whole answer.
    fn ask(&mut self) -> &str {
        self.stream
            .write_all(self.request.as_bytes())
            .expect("it is there");
        let mut read = 0;
        loop {
            read += self
                .stream
                .read(&mut self.buffer[read..])
                .expect("it is there");
            let text = std::str::from_utf8(&self.buffer[..read]).expect("it is text");
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.parse::<usize>().expect("a number"))
                });
                if body.len() == length.expect("it says how long it is") {
                    break;
                }
            }
        }
        std::str::from_utf8(&self.buffer[..read]).expect("it is text")
    }
}
