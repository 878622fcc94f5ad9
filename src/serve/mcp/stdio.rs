//! The protocol over a pair of streams, such as standard input and output.

mod lines;
mod message;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rmcp::model::{JsonRpcMessage, RequestId};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ErrorData, RoleServer};
use tokio::io::{AsyncRead, AsyncWrite, Empty, empty};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use lines::{Line, Lines, Waits};
use message::Read;

/// A line of more bytes is read where it holds up nobody: the library copies its values for each kind of message that it
/// tries, of which there are some twenty.
const READ_AT_ONCE: usize = 4 << 10;

/// As long as so many messages wait for the client to take them, nothing more is read from it.
const UNSENT: usize = 64;
/// How long a client that has closed its end may take to read the next of what is answered already; and, once the
/// library has given up on it as well, to let the output go.
const LAST: Duration = Duration::from_secs(1);
/// How the library begins to tell a client of the current revision what its request has not.
const NO_META: &str = "request _meta is missing";

/// The id of the request that a message is, as far as it can be told.
#[cfg(feature = "serve")]
pub(super) fn id(message: &[u8]) -> Option<RequestId> {
    match lines::Glance::at(message).waits() {
        Waits::For(id) => id,
        Waits::Nobody => None,
    }
}

/// A transport that reads no faster than the client does: one that floods and never reads is not
/// listened to. What is past the bound, or no message, is passed over, and its client told so.
pub(super) struct Paced<R: AsyncRead + Unpin, W: AsyncWrite> {
    lines: Lines<R>,
    /// A large line, which is read where it holds up nothing else.
    reading: Option<JoinHandle<Read>>,
    output: AsyncRwTransport<RoleServer, Empty, W>,
    unsent: Arc<Unsent>,
    /// What is sent beside what the library sends, for as long as there is somebody to read it.
    refusals: JoinSet<()>,
    most: usize,
    /// Whether it was said that a line is no JSON.
    told: bool,
    /// Whether the client has closed its end.
    ended: bool,
    /// Until when it may read the next answer then.
    until: Option<Instant>,
}

#[derive(Default)]
struct Unsent {
    count: AtomicUsize,
    fewer: Notify,
}

impl Unsent {
    /// Waits until there are fewer than so many.
    async fn below(&self, many: usize) {
        while self.count.load(Ordering::Relaxed) >= many {
            self.fewer.notified().await;
        }
    }
}

/// One message that is to be sent.
struct One(Arc<Unsent>);

impl One {
    fn new(unsent: &Arc<Unsent>) -> Self {
        unsent.count.fetch_add(1, Ordering::Relaxed);
        One(Arc::clone(unsent))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.fewer.notify_one();
    }
}

impl<R, W> Paced<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub fn new(read: R, write: W, message_bytes: usize) -> Self {
        Paced {
            lines: Lines::new(read, message_bytes),
            reading: None,
            output: AsyncRwTransport::new_server(empty(), write),
            unsent: Arc::default(),
            refusals: JoinSet::new(),
            most: message_bytes,
            told: false,
            ended: false,
            until: None,
        }
    }

    /// The message in a line, unless that is large: then it is on its way.
    fn take(&mut self, line: Line) -> Option<RxJsonRpcMessage<RoleServer>> {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong(Waits::Nobody) => return None,
            Line::TooLong(Waits::For(id)) => {
                let most = self.most;
                let why = format!("the message has more than {most} bytes, and was not read");
                self.refuse(id, ErrorData::invalid_request(why, None));
                return None;
            }
        };
        if line.len() > READ_AT_ONCE {
            let read = move || message::read(&line);
            self.reading = Some(tokio::task::spawn_blocking(read));
            return None;
        }
        self.tell(message::read(&line))
    }

    /// The message; of what is none, whoever sent it is told so.
    fn tell(&mut self, read: Read) -> Option<RxJsonRpcMessage<RoleServer>> {
        match read {
            Read::Message(message) => return Some(*message),
            Read::Nothing => {}
            Read::Broken(error) => {
                self.note_broken();
                self.refuse(None, error);
            }
            Read::Refused(refused) => {
                for (id, error) in refused {
                    self.refuse(id, error);
                }
            }
        }
        None
    }

    fn refuse(&mut self, id: Option<RequestId>, error: ErrorData) {
        // Whoever reads is interrupted by whoever sends; this is not.
        let refusal = self.send(TxJsonRpcMessage::<RoleServer>::error(error, id));
        self.refusals.spawn(async move {
            let _ = refusal.await;
        });
        while self.refusals.try_join_next().is_some() {}
    }

    /// Tells whoever types here, or pipes something else. Once is enough: a client that floods is not to fill a log
    /// as well.
    fn note_broken(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                "a line of the input is no JSON, and is answered with an error, as others like it will be: a message \
                 is one line with one JSON object"
            );
        }
    }
}

impl<R, W> Transport<RoleServer> for Paced<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = std::io::Error;

    fn send(
        &mut self,
        mut message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let JsonRpcMessage::Error(refused) = &mut message
            && refused.error.message.starts_with(NO_META)
        {
            let more = "; a client of a revision before 2026-07-28 begins with `initialize`";
            refused.error.message.to_mut().push_str(more);
        }
        let one = One::new(&self.unsent);
        let send = self.output.send(message);
        async move {
            let sent = send.await;
            drop(one);
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        while !self.ended {
            if let Some(reading) = &mut self.reading {
                let read = reading.await;
                self.reading = None;
                match read.map(|read| self.tell(read)) {
                    Ok(Some(message)) => return Some(message),
                    Ok(None) => {}
                    Err(error) => tracing::error!("a message could not be read: {error}"),
                }
            }
            self.unsent.below(UNSENT).await;
            // What was read before gets its turn first, or a flood would be taken in whole.
            tokio::task::yield_now().await;
            let message = match self.lines.next().await {
                Ok(Some(line)) => self.take(line),
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                Err(error) => {
                    tracing::error!("the input cannot be read: {error}");
                    self.ended = true;
                    break;
                }
            };
            if message.is_some() {
                return message;
            }
        }
        // Whoever pipes lines in still reads what is said of the last ones. This may be interrupted and begun again.
        loop {
            let until = *self.until.get_or_insert_with(|| Instant::now() + LAST);
            let waiting = self.unsent.count.load(Ordering::Relaxed);
            let fewer = tokio::time::timeout_at(until, self.unsent.below(waiting));
            if waiting == 0 || fewer.await.is_err() {
                return None;
            }
            self.until = None;
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        // Whoever does not read holds the output.
        let closing = tokio::time::timeout(LAST, self.output.close());
        closing.await.unwrap_or(Ok(()))
    }
}
