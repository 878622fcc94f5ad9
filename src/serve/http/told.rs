//! Events of an execution on their way to a client that may be slow.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::sent::Counted;
use super::stream::event;
use crate::serve::caller::Tenancy;

/// How many bytes of events may wait for a client; one that is larger by itself may wait alone.
pub(super) const WAITING: usize = 1 << 20;

/// Where events are put in.
#[derive(Clone)]
pub(super) struct Teller {
    sender: mpsc::UnboundedSender<Item>,
    waiting: Arc<AtomicUsize>,
    /// Taken while something is put in, so that what is said of those that are missing stands where they
    /// would have stood.
    turn: Arc<Mutex<()>>,
    /// How many are missing, and have not been told of.
    missing: Arc<AtomicU64>,
}

/// Where they come out.
pub(super) struct Told {
    received: mpsc::UnboundedReceiver<Item>,
    waiting: Arc<AtomicUsize>,
    /// The end, once it has begun to come.
    end: Option<Counted<Tenancy>>,
}

enum Item {
    Event(Bytes),
    /// As large as a result may be.
    End(Counted<Tenancy>),
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
    let told = Told {
        received,
        waiting,
        end: None,
    };
    (teller, told)
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
    pub fn end(&self, end: Counted<Tenancy>) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell_of_missing();
        self.send(Item::End(end));
    }

    fn put(&self, bytes: Bytes) {
        self.tell_of_missing();
        self.waiting.fetch_add(bytes.len(), Ordering::AcqRel);
        self.send(Item::Event(bytes));
    }

    fn tell_of_missing(&self) {
        let missing = self.missing.swap(0, Ordering::Relaxed);
        if missing > 0 {
            self.put(event(None, "dropped", &json!({"events": missing})));
        }
    }

    fn send(&self, item: Item) {
        // Nobody listens any more: then the execution is about to be stopped.
        let _ = self.sender.send(item);
    }
}

impl Told {
    /// The next, or a piece of it.
    ///
    /// # Errors
    /// Where the end was given up, as it was taken too slowly.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(piece) = self.end.as_mut().and_then(Counted::piece) {
                return Poll::Ready(Some(piece));
            }
            match ready!(self.received.poll_recv(context)) {
                Some(Item::Event(bytes)) => {
                    self.waiting.fetch_sub(bytes.len(), Ordering::AcqRel);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Item::End(end)) => self.end = Some(end),
                None => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::super::sent::Sent;
    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_and_what_is_missing_is_said() {
        let (teller, mut told) = told();
        let piece = Bytes::from(vec![b'x'; 100 << 10]);
        for _ in 0..1_000 {
            teller.tell(piece.clone());
        }
        assert!(teller.waiting.load(Ordering::Relaxed) <= WAITING);
        let mut next = async || {
            let next = poll_fn(|context| told.poll(context)).await;
            next.map(|next| next.unwrap())
        };
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
        let sent = Sent::new(0);
        let end = sent.send(&Tenancy::Everybody, Bytes::from_static(b"end"));
        teller.end(end.unwrap());
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
