//! Large answers on their way to clients, who may take as long for them as they like.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::problem::{Problem, ProblemKind};

/// What is no larger is not counted: a connection has as much in its buffers.
const LARGE: usize = 256 << 10;
/// How many bytes are given at a time: copied, so that what a connection still has to send keeps no more than that.
const PIECE: usize = 64 << 10;

/// What answers take together that are not sent yet, and large events of streams. Where that is too much, the oldest
/// of whoever has the most is given up, so that nobody who takes answers slowly holds up others. Cheap to clone; every
/// clone is the same.
pub(super) struct Sent<K> {
    most: usize,
    under_way: Arc<Mutex<UnderWay<K>>>,
}

impl<K> Clone for Sent<K> {
    fn clone(&self) -> Self {
        Sent {
            most: self.most,
            under_way: Arc::clone(&self.under_way),
        }
    }
}

struct UnderWay<K> {
    bytes: usize,
    next: u64,
    of_each: HashMap<K, Theirs>,
}

/// What one has under way.
#[derive(Default)]
struct Theirs {
    bytes: usize,
    /// In the order in which they were begun.
    answers: BTreeMap<u64, Answer>,
}

struct Answer {
    length: usize,
    bytes: Shared,
}

/// All of an answer; `None` once it was given up.
type Shared = Arc<Mutex<Option<Bytes>>>;

/// Nothing larger can be sent now: whoever it is for would have more under way than any other, and has nothing that
/// could be given up for it.
#[derive(Debug)]
pub(super) struct Full;

impl Full {
    /// Says so. Where something was done for the answer, nobody is to ask for it again.
    pub fn problem(self, is_safe: bool) -> Problem {
        if is_safe {
            let detail = "the answer is too large while others take theirs: ask again soon";
            return Problem::new(ProblemKind::Unavailable, detail)
                .retry_after(Duration::from_secs(1));
        }
        let detail = "what was asked for was done, and its answer is too large to be given while others take theirs";
        Problem::new(ProblemKind::Internal, detail)
    }
}

impl<K: Hash + Eq + Clone + Send + Unpin + 'static> Sent<K> {
    /// So many bytes together.
    pub fn new(most: usize) -> Self {
        let under_way = UnderWay {
            bytes: 0,
            next: 0,
            of_each: HashMap::new(),
        };
        Sent {
            most,
            under_way: Arc::new(Mutex::new(under_way)),
        }
    }

    /// The same answer, counted where it is large and there as a whole; of one that comes in parts, each that is large.
    /// Where it cannot be sent, it is said whether to ask again is safe: as the request changes nothing, or has an
    /// `Idempotency-Key`, or was not done.
    pub async fn counted(&self, whose: &K, response: Response, is_safe: bool) -> Response {
        let (parts, body) = response.into_parts();
        let body = match body.size_hint().exact() {
            Some(length) if length <= LARGE as u64 => body,
            None => Body::new(Parts {
                body,
                sent: self.clone(),
                whose: whose.clone(),
                part: None,
            }),
            Some(_) => match body.collect().await {
                Ok(collected) => match self.send(whose, collected.to_bytes()) {
                    Ok(counted) => Body::new(counted),
                    Err(full) => {
                        let is_safe = is_safe || !parts.status.is_success();
                        return full.problem(is_safe).into_response();
                    }
                },
                Err(error) => {
                    tracing::error!(%error, "an answer broke off");
                    let problem = Problem::new(ProblemKind::Internal, "the answer broke off");
                    return problem.into_response();
                }
            },
        };
        Response::from_parts(parts, body)
    }

    /// Something that is on its way from here on, and counted where it is large.
    pub fn send(&self, whose: &K, bytes: Bytes) -> Result<Counted<K>, Full> {
        let length = bytes.len();
        let bytes: Shared = Arc::new(Mutex::new(Some(bytes)));
        let counts = match length > LARGE {
            true => Some(self.count(whose, length, Arc::clone(&bytes))?),
            false => None,
        };
        Ok(Counted {
            at: 0,
            length,
            bytes,
            _counts: counts,
        })
    }

    fn count(&self, whose: &K, length: usize, bytes: Shared) -> Result<Counts<K>, Full> {
        let answer = Answer { length, bytes };
        let (key, given_up) = lock(&self.under_way).begin(whose, answer, self.most)?;
        for answer in given_up {
            lock(&answer.bytes).take();
            let length = answer.length;
            tracing::warn!(
                length,
                "an answer that a client took slowly was given up, as answers take too much memory"
            );
        }
        Ok(Counts {
            whose: whose.clone(),
            key,
            under_way: Arc::clone(&self.under_way),
        })
    }
}

impl<K: Hash + Eq + Clone> UnderWay<K> {
    /// Puts one more in, of which there may be so many bytes, and gives what is given up for it: the oldest of whoever
    /// has the most then. One that is larger by itself goes on where nothing else is under way.
    fn begin(
        &mut self,
        whose: &K,
        answer: Answer,
        most: usize,
    ) -> Result<(u64, Vec<Answer>), Full> {
        let mut given_up = Vec::new();
        while self.bytes > 0 && self.bytes.saturating_add(answer.length) > most {
            let Some((loses, key)) = self.to_give_up(whose, answer.length) else {
                for (theirs, key, answer) in given_up {
                    self.put(&theirs, key, answer);
                }
                return Err(Full);
            };
            let taken = self.take(&loses, key);
            given_up.extend(taken.map(|answer| (loses, key, answer)));
        }
        let key = self.next;
        self.next += 1;
        self.put(whose, key, answer);
        let given_up = given_up.into_iter().map(|(.., answer)| answer);
        Ok((key, given_up.collect()))
    }

    /// The oldest of whoever has the most, with so much more of one.
    fn to_give_up(&self, whose: &K, more: usize) -> Option<(K, u64)> {
        let of_each = self.of_each.iter().map(|(one, theirs)| {
            let more = if one == whose { more } else { 0 };
            (theirs.bytes.saturating_add(more), one, theirs)
        });
        let (bytes, one, theirs) = of_each.max_by_key(|(bytes, ..)| *bytes)?;
        if bytes < more {
            return None;
        }
        let oldest = theirs.answers.first_key_value()?;
        Some((one.clone(), *oldest.0))
    }

    fn put(&mut self, whose: &K, key: u64, answer: Answer) {
        self.bytes += answer.length;
        let theirs = self.of_each.entry(whose.clone()).or_default();
        theirs.bytes += answer.length;
        theirs.answers.insert(key, answer);
    }
}

impl<K: Hash + Eq> UnderWay<K> {
    fn take(&mut self, whose: &K, key: u64) -> Option<Answer> {
        let theirs = self.of_each.get_mut(whose)?;
        let answer = theirs.answers.remove(&key)?;
        theirs.bytes -= answer.length;
        self.bytes -= answer.length;
        if theirs.answers.is_empty() {
            self.of_each.remove(whose);
        }
        Some(answer)
    }
}

/// What counts until it was sent.
pub(super) struct Counted<K: Hash + Eq> {
    at: usize,
    length: usize,
    bytes: Shared,
    /// Where it counts, if it does.
    _counts: Option<Counts<K>>,
}

/// Its place among what is under way.
struct Counts<K: Hash + Eq> {
    whose: K,
    key: u64,
    under_way: Arc<Mutex<UnderWay<K>>>,
}

impl<K: Hash + Eq> Drop for Counts<K> {
    fn drop(&mut self) {
        let taken = lock(&self.under_way).take(&self.whose, self.key);
        // Its bytes are freed without the lock.
        drop(taken);
    }
}

impl<K: Hash + Eq> Counted<K> {
    /// How many bytes are still to be given.
    pub fn left(&self) -> usize {
        self.length - self.at
    }

    /// The next piece, unless there is none, or it was given up.
    pub fn piece(&mut self) -> Option<io::Result<Bytes>> {
        if self.left() == 0 {
            return None;
        }
        let end = (self.at + PIECE).min(self.length);
        let piece = lock(&self.bytes)
            .as_ref()
            .map(|bytes| Bytes::copy_from_slice(&bytes[self.at..end]));
        let Some(piece) = piece else {
            let why = "given up: answers that are taken slowly take too much memory";
            return Some(Err(io::Error::other(why)));
        };
        self.at = end;
        Some(Ok(piece))
    }
}

impl<K: Hash + Eq + Unpin> http_body::Body for Counted<K> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.piece().map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left() as u64)
    }
}

/// An answer that comes in parts, of which each counts that is large.
struct Parts<K: Hash + Eq> {
    body: Body,
    sent: Sent<K>,
    whose: K,
    part: Option<Counted<K>>,
}

impl<K: Hash + Eq + Clone + Send + Unpin + 'static> http_body::Body for Parts<K> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.part.as_mut().and_then(Counted::piece) {
                return Poll::Ready(Some(piece.map(Frame::data).map_err(axum::Error::new)));
            }
            this.part = None;
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            };
            match frame.into_data() {
                Ok(data) if data.len() > LARGE => match this.sent.send(&this.whose, data) {
                    Ok(part) => this.part = Some(part),
                    Err(Full) => {
                        let why = io::Error::other("too large while others take their answers");
                        return Poll::Ready(Some(Err(axum::Error::new(why))));
                    }
                },
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.part.is_none() && self.body.is_end_stream()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::http::header::RETRY_AFTER;

    use super::*;

    fn answer(fill: u8, length: usize) -> Response {
        Response::new(Body::from(vec![fill; length]))
    }

    const MIB: usize = 1 << 20;

    /// A body that does not say how long it is, with its last part first.
    struct Stream(Vec<Bytes>);

    impl http_body::Body for Stream {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(self.0.pop().map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    async fn taken(response: Response) -> Option<Bytes> {
        let collected = response.into_body().collect().await;
        collected.ok().map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn who_has_the_most_loses_the_oldest() {
        let sent = Sent::new(4 * MIB);
        let slow = sent.counted(&"slow", answer(1, MIB), true).await;
        let other = sent.counted(&"other", answer(2, MIB), true).await;
        let later = sent.counted(&"slow", answer(3, MIB), true).await;
        assert_eq!(slow.body().size_hint().exact(), Some(MIB as u64));
        let last = sent.counted(&"other", answer(4, 3 * MIB / 2), true).await;
        assert_eq!(lock(&sent.under_way).bytes, 7 * MIB / 2);
        assert!(taken(other).await.is_none(), "of the one that has the most");
        for (response, fill, length) in [(slow, 1, MIB), (later, 3, MIB), (last, 4, 3 * MIB / 2)] {
            assert_eq!(taken(response).await.unwrap(), vec![fill; length]);
        }
        let left = lock(&sent.under_way);
        assert_eq!((left.bytes, left.of_each.len()), (0, 0));
    }

    #[tokio::test]
    async fn one_that_is_alone_is_sent_whatever_its_length() {
        let sent = Sent::new(MIB);
        let large = sent.counted(&"large", answer(2, 3 * MIB), true).await;
        assert_eq!(taken(large).await.unwrap(), vec![2; 3 * MIB]);
    }

    /// Nobody loses an answer to one who would have more than they have.
    #[tokio::test]
    async fn whoever_would_have_the_most_and_has_nothing_to_give_up_is_refused() {
        let sent = Sent::new(4 * MIB);
        let mut several = Vec::new();
        for fill in 1..=3 {
            several.push(sent.counted(&"several", answer(fill, MIB), true).await);
        }
        let other = sent.counted(&"other", answer(4, MIB), true).await;
        let refused = sent.counted(&"large", answer(5, 5 * MIB / 2), true).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(RETRY_AFTER));
        // What was done is not to be done again.
        let done = sent.counted(&"large", answer(5, 5 * MIB / 2), false).await;
        assert_eq!(done.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!done.headers().contains_key(RETRY_AFTER));
        assert_eq!(lock(&sent.under_way).bytes, 4 * MIB);
        for (fill, response) in (1..).zip(several) {
            assert_eq!(taken(response).await.unwrap(), vec![fill; MIB]);
        }
        assert_eq!(taken(other).await.unwrap(), vec![4; MIB]);
        let large = sent.counted(&"large", answer(5, 5 * MIB / 2), true).await;
        assert_eq!(taken(large).await.unwrap(), vec![5; 5 * MIB / 2]);
        assert!(lock(&sent.under_way).of_each.is_empty());
    }

    #[tokio::test]
    async fn what_is_small_does_not_count() {
        let sent = Sent::new(0);
        let small = sent.counted(&"a", answer(1, 256 << 10), true).await;
        let stream = Response::new(Body::new(Stream(vec![vec![2; 256 << 10].into()])));
        let stream = sent.counted(&"a", stream, true).await;
        assert!(lock(&sent.under_way).of_each.is_empty());
        assert_eq!(taken(small).await.unwrap().len(), 256 << 10);
        assert_eq!(taken(stream).await.unwrap().len(), 256 << 10);
    }

    /// Of a stream, each part that is large counts from when it is there until it was taken.
    #[tokio::test]
    async fn the_large_parts_of_a_stream_count() {
        let sent = Sent::new(3 * MIB);
        let parts = [vec![1; MIB], vec![2; 10], vec![3; 2 * MIB]];
        let stream = Stream(parts.iter().rev().cloned().map(Bytes::from).collect());
        let stream = sent
            .counted(&"slow", Response::new(Body::new(stream)), true)
            .await;
        let mut stream = stream.into_body();
        let mut next = async || stream.frame().await.unwrap().map(|frame| frame.into_data());
        let mut came = Vec::new();
        while came.len() < MIB {
            assert_eq!(came.is_empty(), lock(&sent.under_way).bytes == 0);
            let piece = next().await.unwrap().unwrap();
            assert!(piece.len() <= PIECE);
            came.extend_from_slice(&piece);
        }
        assert_eq!(came, parts[0]);
        assert_eq!(next().await.unwrap().unwrap(), parts[1]);
        assert_eq!(lock(&sent.under_way).bytes, 0);
        let first = next().await.unwrap().unwrap();
        assert_eq!(first.len(), PIECE);
        assert_eq!(lock(&sent.under_way).bytes, 2 * MIB);
        // It is given up as a whole answer would be.
        let _other = sent.counted(&"other", answer(4, 3 * MIB / 2), true).await;
        assert!(next().await.is_err());
        assert_eq!(lock(&sent.under_way).bytes, 3 * MIB / 2);
    }

    /// What a connection has taken of one that is given up keeps nothing of the rest.
    #[tokio::test]
    async fn what_was_given_up_ends_where_it_is() {
        let sent = Sent::new(MIB);
        let mut slow = sent
            .counted(&"slow", answer(1, MIB), true)
            .await
            .into_body();
        let first = slow.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), PIECE);
        let _other = sent.counted(&"other", answer(2, MIB), true).await;
        assert!(slow.frame().await.unwrap().is_err());
        assert_eq!(lock(&sent.under_way).bytes, MIB);
        drop(slow);
        assert_eq!(lock(&sent.under_way).bytes, MIB);
    }
}
