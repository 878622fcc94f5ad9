//! Large answers on their way to clients, who may take as long for them as they like.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::problem::{Problem, ProblemKind};

/// What is no larger is not counted: a connection has as much in its buffers.
const LARGE: u64 = 256 << 10;
/// How many bytes are given at a time: copied, so that what a connection still has to send keeps no more than that.
const PIECE: usize = 64 << 10;

/// What answers take together that are not sent yet. Where that is too much, the oldest of whoever has the most is
/// given up, so that nobody who takes answers slowly holds up others. Cheap to clone; every clone is the same.
pub(super) struct Sent<K> {
    most: usize,
    under_way: Arc<Mutex<UnderWay<K>>>,
}

struct UnderWay<K> {
    bytes: usize,
    next: u64,
    /// In the order in which they were begun.
    answers: BTreeMap<u64, Answer<K>>,
}

struct Answer<K> {
    whose: K,
    length: usize,
    bytes: Shared,
}

/// All of an answer; `None` once it was given up.
type Shared = Arc<Mutex<Option<Bytes>>>;

impl<K: Hash + Eq + Clone + Send + 'static> Sent<K> {
    /// So many bytes together.
    pub fn new(most: usize) -> Self {
        let under_way = UnderWay {
            bytes: 0,
            next: 0,
            answers: BTreeMap::new(),
        };
        Sent {
            most,
            under_way: Arc::new(Mutex::new(under_way)),
        }
    }

    /// The same answer, counted where it is large and there as a whole.
    pub async fn counted(&self, whose: &K, response: Response) -> Response {
        let is_large = |length: u64| length > LARGE;
        if !response.body().size_hint().exact().is_some_and(is_large) {
            return response;
        }
        let (parts, body) = response.into_parts();
        let body = match body.collect().await {
            Ok(collected) => Body::new(self.send(whose, collected.to_bytes())),
            Err(error) => {
                tracing::error!(%error, "an answer broke off");
                return Problem::new(ProblemKind::Internal, "the answer broke off").into_response();
            }
        };
        Response::from_parts(parts, body)
    }

    fn send(&self, whose: &K, bytes: Bytes) -> Counted<K> {
        let length = bytes.len();
        let shared: Shared = Arc::new(Mutex::new(Some(bytes)));
        let answer = Answer {
            whose: whose.clone(),
            length,
            bytes: Arc::clone(&shared),
        };
        let mut under_way = lock(&self.under_way);
        let key = under_way.next;
        under_way.next += 1;
        under_way.bytes += length;
        under_way.answers.insert(key, answer);
        let mut given_up = Vec::new();
        while under_way.bytes > self.most {
            match under_way.give_up(key) {
                Some(answer) => given_up.push(answer),
                // It is alone.
                None => break,
            }
        }
        drop(under_way);
        for answer in given_up {
            lock(&answer.bytes).take();
            let length = answer.length;
            tracing::warn!(
                length,
                "an answer that a client took slowly was given up, as answers take too much memory"
            );
        }
        Counted {
            at: 0,
            length,
            bytes: shared,
            key,
            under_way: Arc::clone(&self.under_way),
        }
    }
}

impl<K: Hash + Eq + Clone> UnderWay<K> {
    /// Takes out the oldest but this one of whoever has the most; of all, where that has only this one.
    fn give_up(&mut self, but: u64) -> Option<Answer<K>> {
        let mut of_each: HashMap<&K, usize> = HashMap::new();
        for answer in self.answers.values() {
            *of_each.entry(&answer.whose).or_default() += answer.length;
        }
        let others = || self.answers.iter().filter(|(key, _)| **key != but);
        let most = of_each.iter().max_by_key(|(_, bytes)| **bytes)?.0;
        let oldest = others().find(|(_, answer)| answer.whose == **most);
        let oldest = *oldest.or_else(|| others().next())?.0;
        self.take(oldest)
    }

    fn take(&mut self, key: u64) -> Option<Answer<K>> {
        let answer = self.answers.remove(&key)?;
        self.bytes -= answer.length;
        Some(answer)
    }
}

/// An answer that counts until it was sent.
struct Counted<K: Hash + Eq + Clone> {
    at: usize,
    length: usize,
    bytes: Shared,
    key: u64,
    under_way: Arc<Mutex<UnderWay<K>>>,
}

impl<K: Hash + Eq + Clone> http_body::Body for Counted<K> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.at == self.length {
            return Poll::Ready(None);
        }
        let end = (self.at + PIECE).min(self.length);
        let piece = lock(&self.bytes)
            .as_ref()
            .map(|bytes| Bytes::copy_from_slice(&bytes[self.at..end]));
        let Some(piece) = piece else {
            let why = "given up: answers that are taken slowly take too much memory";
            return Poll::Ready(Some(Err(io::Error::other(why))));
        };
        self.at = end;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.length - self.at) as u64)
    }
}

impl<K: Hash + Eq + Clone> Drop for Counted<K> {
    fn drop(&mut self) {
        let taken = lock(&self.under_way).take(self.key);
        // Its bytes are freed without the lock.
        drop(taken);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(fill: u8, length: usize) -> Response {
        Response::new(Body::from(vec![fill; length]))
    }

    const MIB: usize = 1 << 20;

    /// A body that does not say how long it is.
    struct Unknown(Option<Bytes>);

    impl http_body::Body for Unknown {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    async fn taken(response: Response) -> Option<Bytes> {
        let collected = response.into_body().collect().await;
        collected.ok().map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn who_has_the_most_loses_the_oldest() {
        let sent = Sent::new(4 * MIB);
        let slow = sent.counted(&"slow", answer(1, MIB)).await;
        let other = sent.counted(&"other", answer(2, MIB)).await;
        let later = sent.counted(&"slow", answer(3, MIB)).await;
        assert_eq!(slow.body().size_hint().exact(), Some(MIB as u64));
        let last = sent.counted(&"other", answer(4, 3 * MIB / 2)).await;
        assert_eq!(lock(&sent.under_way).bytes, 7 * MIB / 2);
        assert!(taken(other).await.is_none(), "of the one that has the most");
        for (response, fill, length) in [(slow, 1, MIB), (later, 3, MIB), (last, 4, 3 * MIB / 2)] {
            assert_eq!(taken(response).await.unwrap(), vec![fill; length]);
        }
        let left = lock(&sent.under_way);
        assert_eq!((left.bytes, left.answers.len()), (0, 0));
    }

    #[tokio::test]
    async fn one_that_is_alone_is_sent_whatever_its_length() {
        let sent = Sent::new(MIB);
        let slow = sent.counted(&"slow", answer(1, MIB)).await;
        let large = sent.counted(&"large", answer(2, 3 * MIB)).await;
        assert!(taken(slow).await.is_none());
        assert_eq!(taken(large).await.unwrap(), vec![2; 3 * MIB]);
    }

    #[tokio::test]
    async fn what_is_small_or_has_no_length_does_not_count() {
        let sent = Sent::new(0);
        let small = sent.counted(&"a", answer(1, 256 << 10)).await;
        let stream = Response::new(Body::new(Unknown(Some(vec![2; MIB].into()))));
        let stream = sent.counted(&"a", stream).await;
        assert_eq!(lock(&sent.under_way).answers.len(), 0);
        assert_eq!(taken(small).await.unwrap().len(), 256 << 10);
        assert_eq!(taken(stream).await.unwrap().len(), MIB);
    }

    /// What a connection has taken of one that is given up keeps nothing of the rest.
    #[tokio::test]
    async fn what_was_given_up_ends_where_it_is() {
        let sent = Sent::new(MIB);
        let mut slow = sent.counted(&"slow", answer(1, MIB)).await.into_body();
        let first = slow.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), PIECE);
        let _other = sent.counted(&"other", answer(2, MIB)).await;
        assert!(slow.frame().await.unwrap().is_err());
        assert_eq!(lock(&sent.under_way).bytes, MIB);
        drop(slow);
        assert_eq!(lock(&sent.under_way).bytes, MIB);
    }
}
