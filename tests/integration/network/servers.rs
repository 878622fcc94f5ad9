//! Servers whose every byte the test decides.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::os::fd::{BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{RecvFlags, SocketAddrAny, getpeername, getsockname, recv};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// What nothing here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A TCP server on a port of its own. It ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    /// Who connected.
    accepted: Mutex<Vec<SocketAddr>>,
    /// What those carry who connected since that was last asked for.
    tallies: Mutex<Vec<Arc<Tally>>>,
    open: AtomicUsize,
    most: AtomicUsize,
    changed: tokio::sync::Notify,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, as the server's side sees it.
pub struct Connection {
    pub stream: Counted,
    heads: Arc<Mutex<Vec<String>>>,
    /// Dropped last, when the connection is closed.
    #[allow(dead_code, reason = "held, not used")]
    open: Open,
}

/// What connections carried, in bytes, as their server counts them: below TLS, where there is TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    pub connections: usize,
    pub heard: u64,
    pub said: u64,
}

/// The same of one connection.
#[derive(Default)]
struct Tally {
    heard: AtomicU64,
    said: AtomicU64,
}

/// A stream whose bytes are counted.
pub struct Counted {
    stream: TcpStream,
    tally: Arc<Tally>,
}

impl Deref for Counted {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        self.tally.heard.fetch_add(bytes as u64, Ordering::SeqCst);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(bytes)) = written {
            self.tally.said.fetch_add(bytes as u64, Ordering::SeqCst);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Counted {
    /// Waits until the other end, which this process has as well, has taken what was sent to it; false where it is gone. Else the
    /// kernel would hold megabytes of it, and what was sent would say nothing of what was taken.
    pub async fn taken(&self) -> bool {
        let (Ok(there), Ok(here)) = (self.stream.peer_addr(), self.stream.local_addr()) else {
            return false;
        };
        let files = std::fs::read_dir("/proc/self/fd").expect("the system is Linux");
        let numbers = files.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok());
        let Some(end) = { numbers }.find(|end| waits(*end, there, here).is_some()) else {
            return false;
        };
        loop {
            match waits(end, there, here) {
                Some(true) => tokio::task::yield_now().await,
                waits => return waits.is_some(),
            }
        }
    }
}

/// Whether bytes wait at an open file, if that is a connection from here to there.
fn waits(file: RawFd, here: SocketAddr, there: SocketAddr) -> Option<bool> {
    // SAFETY: whoever has it keeps it: the kernel is asked about a number, and says so where that is no open file any
    // more, or has become another one, whose addresses are others.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    let address = |told: Option<SocketAddrAny>| SocketAddr::try_from(told?).ok();
    let is_it = address(getsockname(file).ok()) == Some(here)
        && address(getpeername(file).ok().flatten()) == Some(there);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    is_it.then(|| matches!(recv(file, &mut [0_u8; 1], flags), Ok((1.., _))))
}

/// Counts a connection for as long as it is open.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most.fetch_max(open, Ordering::SeqCst);
        Open(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl Connection {
    /// Reads the head of a request.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        self.heads
            .lock()
            .expect("nobody panics here")
            .push(head.clone());
        head
    }

    /// Sends bytes for as long as somebody takes them. Says whether somebody did.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// The same, and waits until it is taken.
    pub async fn hand(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.send(bytes).await && self.stream.taken().await
    }

    /// Waits until the other side is gone.
    pub async fn gone(&mut self) {
        let mut buffer = [0; 1024];
        while matches!(self.stream.read(&mut buffer).await, Ok(1..)) {}
    }
}

impl Server {
    /// One that does this with each connection.
    pub async fn with<F, W>(handler: F) -> Self
    where
        F: Fn(Connection) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Server::at(any, handler).await
    }

    /// The same at an address of its own.
    pub async fn at<F, W>(address: SocketAddr, handler: F) -> Self
    where
        F: Fn(Connection) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let counts: Arc<Counts> = Arc::default();
        let task = tokio::spawn({
            let (heads, counts) = (Arc::clone(&heads), Arc::clone(&counts));
            async move {
                // Dropped with the task, and so are the connections.
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, peer)) = listener.accept().await {
                    // What is over does not have to be kept.
                    while connections.try_join_next().is_some() {}
                    let open = Open::new(&counts);
                    let tally: Arc<Tally> = Arc::default();
                    let tallies = &counts.tallies;
                    let mut tallies = tallies.lock().expect("nobody panics here");
                    tallies.push(Arc::clone(&tally));
                    drop(tallies);
                    counts
                        .accepted
                        .lock()
                        .expect("nobody panics here")
                        .push(peer);
                    counts.changed.notify_waiters();
                    connections.spawn(handler(Connection {
                        stream: Counted { stream, tally },
                        heads: Arc::clone(&heads),
                        open,
                    }));
                }
            }
        });
        Server {
            address,
            heads,
            counts,
            task,
        }
    }

    /// One that answers each request with these bytes.
    pub async fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
        Server::with(move |mut connection| {
            let bytes = Arc::clone(&bytes);
            async move {
                connection.head().await;
                connection.send(&*bytes).await;
                let _ = connection.stream.shutdown().await;
                connection.gone().await;
            }
        })
        .await
    }

    /// One that answers with this after the status line, without end, each time when the last of it is taken.
    pub async fn endless(begin: &'static str, again: String) -> Self {
        Server::with(move |mut connection| {
            let again = again.clone();
            async move {
                connection.head().await;
                connection.send(begin).await;
                while connection.hand(&again).await {}
            }
        })
        .await
    }

    /// The grant of this server by its address.
    pub fn grant(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A request to it by its address.
    pub fn request(&self, path: &str) -> Value {
        json!({"authority": self.address.to_string(), "path": path})
    }

    /// A request to it by a name.
    pub fn request_by(&self, name: &str) -> Value {
        json!({"authority": format!("{name}:{}", self.address.port()), "path": "/"})
    }

    /// The grant of a name on this server's port.
    pub fn grant_of(&self, name: &str) -> String {
        format!("http://{name}:{}", self.address.port())
    }

    /// The heads of the requests that came.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("nobody panics here").clone()
    }

    /// How many connections there were.
    pub fn accepted(&self) -> usize {
        self.counts
            .accepted
            .lock()
            .expect("nobody panics here")
            .len()
    }

    /// Connects, and gives from where, and who had by then. Connections are accepted in the order in which they were
    /// made, so that one which waits to be accepted is seen before the check's own.
    async fn knock(&self) -> (SocketAddr, Vec<SocketAddr>) {
        let own = TcpStream::connect(self.address).await.expect("it listens");
        let own = own.local_addr().expect("it has one");
        let accepted = async {
            loop {
                let changed = self.counts.changed.notified();
                let accepted = self
                    .counts
                    .accepted
                    .lock()
                    .expect("nobody panics here")
                    .clone();
                if accepted.contains(&own) {
                    return accepted;
                }
                changed.await;
            }
        };
        let accepted = tokio::time::timeout(PATIENCE, accepted)
            .await
            .expect("a server accepts connections");
        (own, accepted)
    }

    /// Checks that nobody ever connected.
    pub async fn check_untouched(&self) {
        let (own, accepted) = self.knock().await;
        assert_eq!(accepted, [own], "somebody connected");
    }

    /// Waits until no connection is open any more, and gives what those carried that were made since this was last
    /// asked.
    pub async fn carried(&self) -> Carried {
        self.knock().await;
        self.quiet().await;
        let tallies = &self.counts.tallies;
        let mut tallies = std::mem::take(&mut *tallies.lock().expect("nobody panics here"));
        // The last one is the check's own.
        tallies.pop();
        let sum = |count: fn(&Tally) -> &AtomicU64| {
            let counts = tallies.iter().map(|tally| count(tally));
            counts.map(|count| count.load(Ordering::SeqCst)).sum()
        };
        Carried {
            connections: tallies.len(),
            heard: sum(|tally| &tally.heard),
            said: sum(|tally| &tally.said),
        }
    }

    /// How many there were at once, at most.
    pub fn most(&self) -> usize {
        self.counts.most.load(Ordering::SeqCst)
    }

    /// Waits until no connection is open any more.
    pub async fn quiet(&self) {
        let quiet = async {
            loop {
                let changed = self.counts.changed.notified();
                if self.counts.open.load(Ordering::SeqCst) == 0 {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, quiet)
            .await
            .expect("connections are closed when an execution ends");
    }
}

/// What a name server answers.
#[derive(Clone)]
pub enum Answer {
    Addresses(Vec<IpAddr>),
    /// Another name, and its addresses.
    Alias(&'static str, Vec<IpAddr>),
    NoSuchName,
    Silence,
}

impl Answer {
    pub fn addresses(texts: &[&str]) -> Self {
        Answer::Addresses(
            texts
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
        )
    }
}

/// A name server, answered by the test.
pub struct Names {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

impl Names {
    /// Asks the test for the answer to each name, the how manieth time it is asked for.
    pub async fn with(answer: impl Fn(&str, usize) -> Answer + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it has one");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let task = tokio::spawn({
            let asked = Arc::clone(&asked);
            async move {
                let mut buffer = [0; 1500];
                while let Ok((bytes, from)) = socket.recv_from(&mut buffer).await {
                    let (name, kind, end) = question(&buffer[..bytes]);
                    let before = {
                        let mut asked = asked.lock().expect("nobody panics here");
                        let before = asked
                            .iter()
                            .filter(|one| **one == format!("{name} {kind}"))
                            .count();
                        asked.push(format!("{name} {kind}"));
                        before
                    };
                    if let Some(reply) = reply(&buffer[..end], kind, answer(&name, before)) {
                        let _ = socket.send_to(&reply, from).await;
                    }
                }
            }
        });
        Names {
            address,
            asked,
            task,
        }
    }

    /// How many times a name's IPv4 addresses were asked for.
    pub fn asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().expect("nobody panics here");
        asked
            .iter()
            .filter(|one| **one == format!("{name} {A}"))
            .count()
    }
}

/// The name, the kind, and where the question ends.
fn question(message: &[u8]) -> (String, u16, usize) {
    let mut at = 12;
    let mut labels = Vec::new();
    while message[at] != 0 {
        let length = message[at] as usize;
        labels.push(String::from_utf8_lossy(&message[at + 1..=at + length]).to_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([message[at + 1], message[at + 2]]);
    (labels.join("."), kind, at + 5)
}

fn reply(question: &[u8], kind: u16, answer: Answer) -> Option<Vec<u8>> {
    // A pointer to the name in the question.
    let asked = vec![0xc0, 12];
    let (code, alias, addresses) = match answer {
        Answer::Silence => return None,
        Answer::NoSuchName => (3, None, Vec::new()),
        Answer::Addresses(addresses) => (0, None, addresses),
        Answer::Alias(name, addresses) => (0, Some(name), addresses),
    };
    let mut records = Vec::new();
    let mut count = 0_u16;
    let mut add = |owner: &[u8], kind: u16, data: &[u8]| {
        records.extend_from_slice(owner);
        records.extend_from_slice(&kind.to_be_bytes());
        // Of the internet, for an hour.
        records.extend_from_slice(&[0, 1, 0, 0, 0x0e, 0x10]);
        records.extend_from_slice(&(data.len() as u16).to_be_bytes());
        records.extend_from_slice(data);
        count += 1;
    };
    let mut owner = asked.clone();
    if let Some(name) = alias {
        let mut encoded = Vec::new();
        for label in name.split('.') {
            encoded.push(label.len() as u8);
            encoded.extend_from_slice(label.as_bytes());
        }
        encoded.push(0);
        add(&asked, CNAME, &encoded);
        owner = encoded;
    }
    for address in addresses {
        match address {
            IpAddr::V4(address) if kind == A => add(&owner, A, &address.octets()),
            IpAddr::V6(address) if kind == AAAA => add(&owner, AAAA, &address.octets()),
            _ => {}
        }
    }
    let mut reply = question[..2].to_vec();
    reply.extend_from_slice(&[0x81, 0x80 | code, 0, 1]);
    reply.extend_from_slice(&count.to_be_bytes());
    reply.extend_from_slice(&[0, 0, 0, 0]);
    reply.extend_from_slice(&question[12..]);
    reply.extend(records);
    Some(reply)
}
