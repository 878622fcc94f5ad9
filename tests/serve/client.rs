//! A small client: one connection for each request, or one that is kept.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// How long anything may take before a test gives up: only where something hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whom to ask, and as whom.
#[derive(Debug, Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub token: Option<String>,
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("it is text")
    }

    /// The body of an answer that went well.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        serde_json::from_slice(&self.body).expect("it is JSON")
    }

    /// The problem that it is, of this kind.
    #[track_caller]
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem: Value = serde_json::from_slice(&self.body).expect("it is JSON");
        assert_eq!(problem["type"], format!("urn:skillhost:problem:{kind}"));
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        problem
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().expect("it is text"))
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Client {
            address,
            token: None,
        }
    }

    /// The same with a token.
    pub fn with(&self, token: &str) -> Self {
        Client {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// A request to which nothing was added but what every request has.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string());
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request
            .body(Full::new(body.into()))
            .expect("it is a request")
    }

    /// Sends a request, and gives the answer as it comes.
    pub async fn open(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .expect("it speaks HTTP");
        tokio::spawn(connection);
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        answer.expect("it answers").expect("it speaks HTTP")
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.open(request).await.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await;
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body
                .expect("it ends")
                .expect("it does not break off")
                .to_bytes(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path, "")).await
    }

    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    pub async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.request(method, path, body.to_string());
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert("content-type", json);
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("it is a name");
            let value = HeaderValue::from_str(value).expect("it is a value");
            request.headers_mut().append(name, value);
        }
        self.send(request).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, &body).await
    }
}

/// Server-sent events as they come.
pub struct Events {
    body: Incoming,
    text: String,
    /// The last id that was set.
    pub last: Option<i64>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: Option<i64>,
    pub kind: String,
    pub data: Value,
}

impl Events {
    pub fn of(answer: Response<Incoming>) -> Self {
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Events {
            body: answer.into_body(),
            text: String::new(),
            last: None,
        }
    }

    /// The next one; `None` at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let (id, Some((kind, data))) = self.block().await? {
                return Some(Event { id, kind, data });
            }
        }
    }

    /// The next block: an event, an id alone, or neither.
    pub async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = parse(block);
                self.text = rest.to_owned();
                self.last = block.0.or(self.last);
                return Some(block);
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let frame = frame.expect("something comes")?;
            let data = frame.ok()?.into_data().ok()?;
            self.text += std::str::from_utf8(&data).expect("it is text");
        }
    }
}

/// An id, and an event's name and data.
pub type Block = (Option<i64>, Option<(String, Value)>);

fn parse(block: &str) -> Block {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
    let id = field("id: ").map(|id| id.parse().expect("it is a number"));
    let event = field("event: ").map(|kind| {
        let data = field("data: ").expect("an event has data");
        let data = serde_json::from_str(data).expect("it is JSON");
        (kind.to_owned(), data)
    });
    (id, event)
}
