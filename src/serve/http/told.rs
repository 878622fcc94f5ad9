//! Events of an execution on their way to a client that may be slow.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::stream::event;

/// How many bytes of events may wait for a client; one that is larger by itself may wait alone.
pub(super) const WAITING: usize = 1 << 20;

/// Where events are put in.
#[derive(Clone)]
pub(super) struct Teller {
    sender: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
    /// Taken while something is put in, so that what is said of those that are missing stands where they
    /// would have stood.
    turn: Arc<Mutex<()>>,
    /// How many are missing, and have not been told of.
    missing: Arc<AtomicU64>,
}

/// Where they come out.
pub(super) struct Told {
    received: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

/// A way for the events of one execution.
pub(super) fn told() -> (Teller, Told) {
    let (sender, received) = mpsc::unbounded_channel();
    let waiting = Arc::<AtomicUsize>::default();
    let teller = Teller {
        sender,
        waiting: Arc::clone(&waiting),
        turn: Arc::default(),
        missing: Arc::default(),
    };
    (teller, Told { received, waiting })
}

impl Teller {
    /// Tells of something on the way. It is left out where too much waits already: then the next that is
    /// told comes behind an event `dropped`, with how many `events` were.
    pub fn tell(&self, bytes: Bytes) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.waiting.load(Ordering::Acquire);
        if waiting > 0 && waiting.saturating_add(bytes.len()) > WAITING {
            self.missing.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.put(bytes);
    }

    /// Tells of the end, whatever waits.
    pub fn end(&self, bytes: Bytes) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(bytes);
    }

    fn put(&self, bytes: Bytes) {
        let missing = self.missing.swap(0, Ordering::Relaxed);
        if missing > 0 {
            self.send(event(None, "dropped", &json!({"events": missing})));
        }
        self.send(bytes);
    }

    fn send(&self, bytes: Bytes) {
        self.waiting.fetch_add(bytes.len(), Ordering::AcqRel);
        // Nobody listens any more: then the execution is about to be stopped.
        let _ = self.sender.send(bytes);
    }
}

impl Told {
    /// The next.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let polled = self.received.poll_recv(context);
        if let Poll::Ready(Some(bytes)) = &polled {
            self.waiting.fetch_sub(bytes.len(), Ordering::AcqRel);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_and_what_is_missing_is_said() {
        let (teller, mut told) = told();
        let piece = Bytes::from(vec![b'x'; 100 << 10]);
        for _ in 0..1_000 {
            teller.tell(piece.clone());
        }
        assert!(teller.waiting.load(Ordering::Relaxed) <= WAITING);
        let mut next = async || poll_fn(|context| told.poll(context)).await;
        for _ in 0..10 {
            assert_eq!(next().await.unwrap().len(), piece.len());
        }
        teller.tell(piece.clone());
        let said = next().await.unwrap();
        assert_eq!(said, "event: dropped\ndata: {\"events\":990}\n\n");
        assert_eq!(next().await.unwrap(), piece);
        // One that is larger than all may be is told where nothing else waits, and the end always is.
        let large = Bytes::from(vec![b'x'; 2 * WAITING]);
        teller.tell(large.clone());
        teller.tell(piece);
        teller.end(Bytes::from_static(b"end"));
        drop(teller);
        assert_eq!(next().await.unwrap(), large);
        assert_eq!(
            next().await.unwrap(),
            "event: dropped\ndata: {\"events\":1}\n\n"
        );
        assert_eq!(next().await.unwrap(), "end");
        assert_eq!(next().await, None);
    }
}
