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

/// A connection whose bytes are counted, inside TLS where there is TLS: request lines, headers,
/// framing, bodies, trailers, and what comes before and after an answer.
pub(super) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
    buffer: Box<[u8]>,
    _place: Place,
}

impl<S> Metered<S> {
    pub fn new(stream: S, meter: Arc<Meter>, place: Place) -> Self {
        Metered {
            stream,
            meter,
            buffer: vec![0; READ_BYTES].into(),
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
                into.put_slice(read);
                Poll::Ready(Ok(()))
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
mod tests {
    use std::task::Waker;

    use super::*;

    fn meter(limits: Limits) -> Arc<Meter> {
        Meter::new(&limits)
    }

    /// Has no end, and counts what is taken from it.
    struct Endless(u64);

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let bytes = buffer.remaining();
            buffer.put_slice(&vec![b'x'; bytes]);
            self.0 += bytes as u64;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_taken_from_connections_is_bounded() {
        let limit = 100_000;
        let meter = meter(Limits {
            http_response_bytes: limit,
            ..Limits::default()
        });
        // Room for more than is taken at once.
        let mut room = vec![0; 64 * 1024];
        let mut read = |connection: &mut Metered<Endless>| {
            let mut buffer = hyper::rt::ReadBuf::new(&mut room);
            let mut context = Context::from_waker(Waker::noop());
            match Read::poll_read(Pin::new(connection), &mut context, buffer.unfilled()) {
                Poll::Ready(Ok(())) => Some(buffer.filled().len() as u64),
                _ => None,
            }
        };
        let place = meter.place().await.unwrap();
        let mut connection = Metered::new(Endless(0), Arc::clone(&meter), place);
        let mut given = 0;
        while let Some(more) = read(&mut connection) {
            given += more;
        }
        // All but the last piece was handed on, and of that no more was taken than shows that there is more.
        let piece = READ_BYTES as u64;
        assert!((limit - piece..=limit).contains(&given), "{given}");
        assert_eq!(connection.stream.0, limit + 1);
        assert_eq!(meter.met(), Some((Limit::HttpResponseBytes, limit)));
        assert_eq!(meter.read().response_bytes, limit);
        // Another one of the same execution has nothing left.
        let place = meter.place().await.unwrap();
        let mut other = Metered::new(Endless(0), Arc::clone(&meter), place);
        assert_eq!(read(&mut other), None);
        assert_eq!(other.stream.0, 1);
        assert_eq!(meter.read().response_bytes, limit);
    }

    #[tokio::test(start_paused = true)]
    async fn places_come_back_when_connections_close() {
        let meter = meter(Limits {
            connections: 1,
            ..Limits::default()
        });
        drop(meter.place().await.unwrap());
        let place = meter.place().await.unwrap();
        let (second, ()) = tokio::join!(meter.place(), async { drop(place) });
        assert!(second.is_ok());
        assert!(meter.place().await.is_err());
        assert_eq!(meter.met(), Some((Limit::Connections, 1)));
    }

    /// One execution's connections are some of those that all may have.
    #[tokio::test]
    async fn connections_of_all_executions_are_counted_together() {
        let files = Files::new(1 + LOOK_UP_FILES);
        let limits = Limits {
            connections: 1_000,
            ..Limits::default()
        };
        let [one, other] = [(), ()].map(|()| Meter::within(&limits, Arc::clone(&files)));
        let place = one.place().await.unwrap();
        for _ in 0..LOOK_UP_FILES {
            other.place_for_good().unwrap();
        }
        assert!(matches!(other.place().await, Err(EgressError::Busy)));
        assert!(matches!(one.place_for_good(), Err(EgressError::Busy)));
        assert!(matches!(one.to_look_up(), Err(EgressError::Busy)));
        // That is no limit of the execution's.
        assert_eq!((one.met(), other.met()), (None, None));
        assert_eq!(one.read().connections, 0);
        drop(place);
        // One is free, and a look-up takes several.
        assert!(matches!(one.to_look_up(), Err(EgressError::Busy)));
        let _place = one.place().await.unwrap();
        drop(other);
        let looking = one.to_look_up().unwrap();
        assert!(matches!(one.place().await, Err(EgressError::Busy)));
        drop(looking);
        assert!(one.place().await.is_ok());
    }

    #[test]
    fn bytes_of_sockets_are_counted_up_to_their_limit() {
        let meter = meter(Limits {
            socket_sent_bytes: 10,
            socket_read_bytes: 10,
            ..Limits::default()
        });
        assert!(meter.send(8).is_ok());
        meter.not_sent(3);
        assert!(meter.send(5).is_ok());
        assert_eq!(meter.room(), 11);
        assert!(meter.receive(10).is_ok());
        assert_eq!(meter.met(), None);
        assert!(meter.receive(1).is_err());
        assert!(meter.send(1).is_err());
        assert_eq!(meter.met(), Some((Limit::SocketReadBytes, 10)));
        let traffic = meter.read();
        assert_eq!((traffic.sent_bytes, traffic.received_bytes), (10, 10));
    }

    #[test]
    fn looking_a_name_up_sends_bytes() {
        let meter = meter(Limits {
            http_request_bytes: 100,
            ..Limits::default()
        });
        assert!(meter.look_up("a.example").is_ok());
        assert_eq!(meter.read().request_bytes, 54);
        assert!(meter.look_up("a.example").is_err());
        assert_eq!(meter.met(), Some((Limit::HttpRequestBytes, 100)));
        assert_eq!(meter.read().request_bytes, 54);
    }

    #[test]
    fn what_comes_to_nothing_counts_and_so_do_greetings() {
        let meter = meter(Limits {
            http_request_bytes: 3 * GREETING_BYTES + 1,
            ..Limits::default()
        });
        meter.attempt().made();
        let traffic = meter.read();
        assert_eq!((traffic.connections, traffic.request_bytes), (1, 0));
        assert!(meter.greet().is_ok());
        drop(meter.attempt());
        assert_eq!(meter.read().request_bytes, 2 * GREETING_BYTES);
        drop(meter.attempt());
        assert_eq!(meter.met(), None);
        drop(meter.attempt());
        let limit = 3 * GREETING_BYTES + 1;
        assert_eq!(meter.met(), Some((Limit::HttpRequestBytes, limit)));
        assert!(meter.greet().is_err());
        let traffic = meter.read();
        assert_eq!((traffic.connections, traffic.request_bytes), (1, limit));
    }

    #[test]
    fn places_for_good_do_not_come_back() {
        let meter = meter(Limits {
            connections: 2,
            ..Limits::default()
        });
        assert!(meter.place_for_good().is_ok());
        assert!(meter.place_for_good().is_ok());
        assert!(meter.place_for_good().is_err());
        assert_eq!(meter.met(), Some((Limit::Connections, 2)));
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_can_be_none_nobody_waits() {
        let meter = |connections| {
            Meter::new(&Limits {
                connections,
                ..Limits::default()
            })
        };
        let began = tokio::time::Instant::now();
        assert!(meter(0).place().await.is_err());
        assert_eq!(began.elapsed(), Duration::ZERO);
        // One that is taken may be given back.
        let meter = meter(1);
        let taken = meter.place().await;
        assert!(meter.place().await.is_err());
        assert!(began.elapsed() >= PATIENCE);
        drop(taken);
    }
}
