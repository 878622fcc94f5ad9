//! Counts what one execution sends and receives, and says when a limit was met.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::EgressError;
use super::files::{Files, Taken};
use super::resolve::LOOK_UP_FILES;
use crate::limits::{Limit, Limits};

/// The most that is read from a connection at once.
const READ_BYTES: usize = 16 * 1024;
/// What may come below TLS beside four times as much as may come inside: greetings with their
/// certificates, and the frames of many small records.
const ENCRYPTED_BYTES: u64 = 1 << 20;
/// What a greeting inside TLS counts as, and an attempt that came to no connection: about what both sides' packets
/// of a greeting have beside the server's certificates. Else a guest could have the host do either without end.
const GREETING_BYTES: u64 = 1024;
/// What a question to a name server has beside the name.
const QUESTION_BYTES: u64 = 18;
/// How long a request waits for a connection that is being closed. The executor gets round to
/// that soon; who still has none then has too many open.
const PATIENCE: Duration = Duration::from_millis(100);

/// The network's meters of one execution. Every connection counts here, and where a limit was met
/// that is remembered, so that the execution ends with it whatever the guest makes of the error.
pub(crate) struct Meter {
    requests: Mutex<Count>,
    responses: Mutex<Count>,
    /// What came below TLS.
    encrypted: Mutex<Count>,
    sent: Mutex<Count>,
    received: Mutex<Count>,
    places: Arc<Semaphore>,
    /// What all executions have.
    files: Arc<Files>,
    /// Of these, what is given back with the execution.
    for_good: Mutex<Vec<Taken>>,
    /// Whether the log says that there are no more.
    told_of_files: AtomicBool,
    opened: AtomicU64,
    met: OnceLock<Limit>,
    limits: Limits,
}

/// What one execution did in the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Connections that were opened.
    pub connections: u64,
    /// Bytes of HTTP requests, and of the answers to them.
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Bytes sent and received on sockets below HTTP.
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// An attempt to connect. Where it comes to nothing, or is dropped, it counts as bytes of requests do.
pub(super) struct Attempt<'m> {
    meter: &'m Meter,
    is_made: bool,
}

struct Count {
    bytes: u64,
    most: u64,
    /// Of both, what the host has added by itself.
    added: u64,
}

impl Count {
    fn new(most: u64) -> Mutex<Self> {
        Mutex::new(Count {
            bytes: 0,
            most,
            added: 0,
        })
    }

    /// Takes so much, or nothing where that is more than is left.
    fn take(&mut self, bytes: u64) -> bool {
        let fits = bytes <= self.most.saturating_sub(self.bytes);
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Takes so much, or all that is left. Says whether it was enough.
    fn take_up_to(&mut self, bytes: u64) -> bool {
        let fits = self.take(bytes);
        if !fits {
            self.bytes = self.most;
        }
        fits
    }

    fn left(&self) -> usize {
        usize::try_from(self.most.saturating_sub(self.bytes)).unwrap_or(usize::MAX)
    }
}

/// Leave to have one more connection.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _file: Taken,
}

impl Meter {
    /// One that shares nothing with others.
    #[cfg(any(test, feature = "queue"))]
    pub fn new(limits: &Limits) -> Arc<Self> {
        Meter::within(limits, Files::new(u64::MAX))
    }

    /// One whose connections are some of these.
    pub(super) fn within(limits: &Limits, files: Arc<Files>) -> Arc<Self> {
        let places = usize::try_from(limits.connections).unwrap_or(usize::MAX);
        Arc::new(Meter {
            requests: Count::new(limits.http_request_bytes),
            responses: Count::new(limits.http_response_bytes),
            encrypted: Count::new(
                (limits.http_response_bytes.saturating_mul(4)).saturating_add(ENCRYPTED_BYTES),
            ),
            sent: Count::new(limits.socket_sent_bytes),
            received: Count::new(limits.socket_read_bytes),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            files,
            for_good: Mutex::default(),
            told_of_files: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            met: OnceLock::new(),
            limits: *limits,
        })
    }

    /// The limit that was met, if one was, and its value.
    pub fn met(&self) -> Option<(Limit, u64)> {
        let limit = *self.met.get()?;
        Some((limit, self.limits.get(limit)))
    }

    /// Everything that was counted.
    pub fn read(&self) -> Traffic {
        Traffic {
            connections: self.opened.load(Ordering::Relaxed),
            request_bytes: {
                let requests = lock(&self.requests);
                requests.bytes.saturating_sub(requests.added)
            },
            response_bytes: lock(&self.responses).bytes,
            sent_bytes: lock(&self.sent).bytes,
            received_bytes: lock(&self.received).bytes,
        }
    }

    /// Counts the questions for the addresses of a name, of which there are two: one for each version
    /// of IP. They carry to the name's servers what the guest has put into it.
    pub fn look_up(&self, name: &str) -> Result<(), EgressError> {
        let bytes = 2 * (QUESTION_BYTES + name.len() as u64);
        match lock(&self.requests).take(bytes) {
            true => Ok(()),
            false => Err(self.meet(Limit::HttpRequestBytes)),
        }
    }

    /// From here on somebody tries to connect.
    pub(super) fn attempt(&self) -> Attempt<'_> {
        Attempt {
            meter: self,
            is_made: false,
        }
    }

    /// Counts a greeting inside TLS, which comes before anything of a request.
    pub fn greet(&self) -> Result<(), EgressError> {
        match lock(&self.requests).take_up_to(GREETING_BYTES) {
            true => Ok(()),
            false => Err(self.meet(Limit::HttpRequestBytes)),
        }
    }

    /// So many bytes of a request are secrets that the host adds: they count for nothing, as whoever set the limit
    /// would find out by it how long they are.
    pub fn adds(&self, bytes: u64) {
        let mut requests = lock(&self.requests);
        requests.most = requests.most.saturating_add(bytes);
        requests.added = requests.added.saturating_add(bytes);
    }

    /// Counts bytes that are about to be sent on a socket below HTTP.
    pub fn send(&self, bytes: u64) -> Result<(), EgressError> {
        match lock(&self.sent).take(bytes) {
            true => Ok(()),
            false => Err(self.meet(Limit::SocketSentBytes)),
        }
    }

    /// So many of those that were counted were not sent after all.
    pub fn not_sent(&self, bytes: u64) {
        let mut sent = lock(&self.sent);
        sent.bytes = sent.bytes.saturating_sub(bytes);
    }

    /// How much may be read from a socket below HTTP: one byte past what is left shows that there is
    /// more.
    pub fn room(&self) -> usize {
        lock(&self.received).left().saturating_add(1)
    }

    /// Counts bytes that came on a socket below HTTP.
    pub fn receive(&self, bytes: u64) -> Result<(), EgressError> {
        let mut received = lock(&self.received);
        if received.take_up_to(bytes) {
            return Ok(());
        }
        drop(received);
        Err(self.meet(Limit::SocketReadBytes))
    }

    /// Counts bytes that came below TLS.
    pub fn encrypted(&self, bytes: u64) -> Result<(), EgressError> {
        match lock(&self.encrypted).take(bytes) {
            true => Ok(()),
            false => Err(self.meet(Limit::HttpResponseBytes)),
        }
    }

    /// A place for one more connection.
    pub(super) async fn place(&self) -> Result<Place, EgressError> {
        if self.limits.connections == 0 {
            // None is being closed, as there is none.
            return Err(self.meet(Limit::Connections));
        }
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(PATIENCE, place).await else {
            return Err(self.meet(Limit::Connections));
        };
        Ok(Place {
            _permit: permit,
            _file: self.take(1)?,
        })
    }

    /// What looking up a name takes beside a place, until that is over.
    pub(super) fn to_look_up(&self) -> Result<Taken, EgressError> {
        self.take(LOOK_UP_FILES)
    }

    /// So many of the files that all executions may have.
    fn take(&self, count: u64) -> Result<Taken, EgressError> {
        self.files.take(count).ok_or_else(|| {
            // A guest may ask without end.
            if !self.told_of_files.swap(true, Ordering::Relaxed) {
                tracing::warn!("this host has as many connections open for skills as it may");
            }
            EgressError::Busy
        })
    }

    /// Counts a connection that was made.
    fn connected(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A place that is given back with the execution, for a connection whose end the host does not see.
    pub fn place_for_good(&self) -> Result<(), EgressError> {
        let Ok(place) = self.places.try_acquire() else {
            return Err(self.meet(Limit::Connections));
        };
        let file = self.take(1)?;
        place.forget();
        let mut for_good = self.for_good.lock().unwrap_or_else(PoisonError::into_inner);
        for_good.push(file);
        self.connected();
        Ok(())
    }

    fn meet(&self, limit: Limit) -> EgressError {
        // Only the first one is told.
        let _ = self.met.set(limit);
        EgressError::Limit
    }
}

impl Attempt<'_> {
    /// It has led to a connection.
    pub fn made(mut self) {
        self.is_made = true;
        self.meter.connected();
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_made && !lock(&self.meter.requests).take_up_to(GREETING_BYTES) {
            // What it was told stays as it is: the execution ends by it.
            self.meter.meet(Limit::HttpRequestBytes);
        }
    }
}

fn lock(count: &Mutex<Count>) -> MutexGuard<'_, Count> {
    // A number: a panicking holder cannot have left it half changed.
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

/// About so much is read before others have their turn: of what a server sends, a little may be much to look at, such as
/// interim responses, of which there may be any number.
const READ_AT_ONCE: usize = 64 * 1024;

/// A connection whose bytes are counted, inside TLS where there is TLS: request lines, headers,
/// framing, bodies, trailers, and what comes before and after an answer.
pub(super) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
    buffer: Box<[u8]>,
    /// What was read since others had their turn, in bytes.
    at_once: usize,
    _place: Place,
}

impl<S> Metered<S> {
    pub fn new(stream: S, meter: Arc<Meter>, place: Place) -> Self {
        Metered {
            stream,
            meter,
            buffer: vec![0; READ_BYTES].into(),
            at_once: 0,
            _place: place,
        }
    }
}

impl<S: AsyncRead + Unpin> Read for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.at_once >= READ_AT_ONCE {
            this.at_once = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Held while reading, which does not wait, so that several connections at once do not
        // each take what is left. One byte more than that shows that there is more.
        let mut count = lock(&this.meter.responses);
        let most = into
            .remaining()
            .min(READ_BYTES)
            .min(count.left().saturating_add(1));
        let mut buffer = ReadBuf::new(&mut this.buffer[..most]);
        match Pin::new(&mut this.stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                let read = buffer.filled();
                if read.len() > count.left() {
                    count.bytes = count.most;
                    drop(count);
                    return Poll::Ready(Err(limit(&this.meter, Limit::HttpResponseBytes)));
                }
                count.bytes += read.len() as u64;
                this.at_once += read.len();
                into.put_slice(read);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                this.at_once = 0;
                Poll::Pending
            }
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let mut count = lock(&this.meter.requests);
        let most = bytes.len().min(count.left());
        if most == 0 && !bytes.is_empty() {
            drop(count);
            return Poll::Ready(Err(limit(&this.meter, Limit::HttpRequestBytes)));
        }
        match Pin::new(&mut this.stream).poll_write(context, &bytes[..most]) {
            Poll::Ready(Ok(written)) => {
                count.bytes += written as u64;
                Poll::Ready(Ok(written))
            }
            other => other,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

fn limit(meter: &Meter, limit: Limit) -> std::io::Error {
    std::io::Error::other(meter.meet(limit))
}

#[cfg(test)]
mod tests;
