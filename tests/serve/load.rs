//! Many requests over many connections, some of which are broken off and some slow, and SIGTERM in the
//! middle: no descriptor and no memory leaks, and nothing is lost.
//!
//! These are 10,000 requests over 200 connections. A short form, with 50 connections:
//! `SKILLHOST_LOAD=1000 cargo test --profile quick --test serve -- load`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skillhost::queue::{Filter, JobStatus};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::process::{Home, Serving};
use crate::server::behaviour;

/// What all clients of the load share.
struct Load {
    address: std::net::SocketAddr,
    left: AtomicUsize,
    /// Jobs that were accepted.
    accepted: std::sync::Mutex<Vec<String>>,
    answered: AtomicU64,
    /// Answers that began, and did not end.
    cut: AtomicU64,
}

impl Load {
    fn next(&self) -> Option<usize> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        taken.ok()
    }
}

/// One connection's requests, until there are none left or the server ends.
async fn client(load: Arc<Load>) {
    'connections: loop {
        let Ok(stream) = TcpStream::connect(load.address).await else {
            return;
        };
        let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else {
            return;
        };
        let driving = tokio::spawn(connection);
        while let Some(number) = load.next() {
            if number % 50 == 7 {
                slow(&load).await;
                continue;
            }
            let (path, body) = match number % 10 {
                0..=2 => ("/v1/jobs", behaviour("echo", json!({"text": number}))),
                3 => ("/v1/executions", behaviour("wait_for_ever", json!({}))),
                _ => ("/v1/executions", behaviour("echo", json!({"text": number}))),
            };
            let request = Request::post(path)
                .header("host", "localhost")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body.to_string())))
                .expect("it is a request");
            let answering = sender.send_request(request);
            if number % 10 == 3 {
                // Its client goes away in the middle, and the connection with it: most of them early, and some once it
                // surely runs, however busy the machine is.
                let after = if number % 100 == 3 { 500 } else { 5 };
                let after = std::time::Duration::from_millis(after);
                let _ = tokio::time::timeout(after, answering).await;
                driving.abort();
                continue 'connections;
            }
            let Ok(answer) = answering.await else { return };
            let status = answer.status();
            let Ok(body) = answer.into_body().collect().await else {
                load.cut.fetch_add(1, Ordering::Relaxed);
                return;
            };
            let body: Value = serde_json::from_slice(&body.to_bytes()).expect("it is JSON");
            load.answered.fetch_add(1, Ordering::Relaxed);
            if path == "/v1/jobs" && status == 202 {
                let id = body["id"].as_str().expect("it has one").to_owned();
                load.accepted.lock().expect("nobody panics").push(id);
            } else {
                assert!(status == 200 || status == 429, "{status}: {body}");
            }
        }
        return;
    }
}

/// A client that begins and does not end.
async fn slow(load: &Load) {
    let Ok(mut stream) = TcpStream::connect(load.address).await else {
        return;
    };
    let head = "POST /v1/executions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{";
    let _ = stream.write_all(head.as_bytes()).await;
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        drop(stream);
    });
}

fn start(
    address: std::net::SocketAddr,
    requests: usize,
    connections: usize,
) -> (Arc<Load>, Vec<tokio::task::JoinHandle<()>>) {
    let load = Arc::new(Load {
        address,
        left: AtomicUsize::new(requests),
        accepted: Default::default(),
        answered: AtomicU64::new(0),
        cut: AtomicU64::new(0),
    });
    let clients = (0..connections).map(|_| tokio::spawn(client(load.clone())));
    let clients = clients.collect();
    (load, clients)
}

/// How many descriptors a process has open, those of the database aside: the queue opens more readers
/// where several read at once, and keeps them.
fn held(process: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("the process is there");
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| !path.to_string_lossy().contains("/queue.db"))
        .count()
}

/// How much memory a process has that is not the file system's, in bytes.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.expect("the process is there");
    let anonymous = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = anonymous.and_then(|text| text.trim().strip_suffix(" kB"));
    let kib: u64 = kib.expect("it is told").parse().expect("it is a number");
    kib << 10
}

/// How much more memory a server may have after as much load as it had before: what the allocator keeps
/// differs by that.
const MORE: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn load_leaks_nothing_and_loses_nothing() {
    let requests = std::env::var("SKILLHOST_LOAD").ok();
    let requests = requests.map_or(10_000, |many| many.parse().expect("it is a number"));
    let connections = if requests >= 10_000 { 200 } else { 50 };
    let home = Home::new();
    let serving = Serving::start(&home, &["--rate", "1000000"]);
    let client = serving.client();
    // What the first requests make for good is made.
    client
        .post("/v1/executions", behaviour("echo", json!({})))
        .await
        .json();
    client.get("/metrics").await;
    let before = held(serving.child.id());

    let mut accepted = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..2 {
        let (load, clients) = start(serving.address, requests / 2, connections);
        for client in clients {
            client.await.expect("it went well");
        }
        assert!(load.answered.load(Ordering::Relaxed) > requests as u64 / 4);
        loop {
            let metrics = client.get("/metrics").await;
            let over = metrics.text().contains("skillhost_executions_running 0\n");
            // Its own connection is one.
            if over && held(serving.child.id()) <= before + 2 {
                break;
            }
            tokio::task::yield_now().await;
        }
        accepted.extend(load.accepted.lock().expect("nobody panics").iter().cloned());
        memory.push(resident(serving.child.id()));
    }
    println!("anonymous memory after each half, in bytes: {memory:?}");
    assert!(memory[1] <= memory[0] + MORE, "{memory:?}");

    // And in the middle of another load, it is told to stop.
    let (load, clients) = start(serving.address, requests, connections);
    while load.answered.load(Ordering::Relaxed) < requests as u64 / 10 {
        tokio::task::yield_now().await;
    }
    let said = tokio::task::spawn_blocking(move || serving.end_and_tell());
    let said = said.await.expect("it ends");
    for client in clients {
        client.await.expect("it went well");
    }
    // What had begun by then was answered, in whole: nothing was stopped but what its client left.
    assert_eq!(load.cut.load(Ordering::Relaxed), 0);
    assert!(!said.contains("cut that took longer"), "{said}");
    let show = [
        "audit",
        "show",
        "--json",
        "--limit",
        "1000000",
        "--outcome",
        "cancelled",
    ];
    let stopped: Vec<Value> = serde_json::from_str(&home.run(&show)).expect("it is JSON");
    assert!(!stopped.is_empty(), "clients went away");
    for record in stopped {
        assert_eq!(record["entry"]["tool"], "wait_for_ever", "{record}");
    }
    accepted.extend(load.accepted.lock().expect("nobody panics").iter().cloned());

    // The next one does what was left.
    let again = Serving::start(&home, &["--rate", "1000000"]);
    let queue = home.queue();
    for id in &accepted {
        let job = queue
            .wait(id.parse().expect("it is an id"))
            .await
            .expect("it is there");
        assert_eq!(job.status, JobStatus::Completed);
    }
    let all = Filter {
        limit: Some(10_000),
        ..Filter::default()
    };
    let kept = queue.list(&all).await.expect("it can be read");
    assert!(kept.items.len() >= accepted.len().min(10_000));
    assert!(again.end().success());
}
