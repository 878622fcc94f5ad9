//! What a session has been asked, by the ids of the requests.
//!
//! The protocol has a client use no id twice in a session. Of two requests of one id, the library takes the answer to
//! one for that to the other, and keeps the stream of one of them for as long as the session; so the second is refused.
//! An id is free again where it is certain that the library has let go of it: once the answer has been read to its end.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use rmcp::model::RequestId;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::untaken::Untaken;
use crate::limits::display_bytes;

/// The longest id of a request, in bytes of JSON. The library keeps it until the request has been answered; clients take
/// a number or a UUID.
const MOST_ID: usize = 256;

/// How many ids of a session may be in use, most of them those of requests that were cancelled or whose client did not
/// wait for the answer.
const MOST_IN_USE: usize = 10_000;

/// How many messages of a session are handed on at once. Each is kept until the library has taken it, also where its
/// client has gone away; further ones wait for that, and go with their clients.
const MOST_HANDED_ON: usize = 4;

/// What a message asks for, as far as it matters to the ids that are in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::serve) struct Asks {
    /// The id of the request that it is, where it is one.
    pub request: Option<RequestId>,
    /// Which request it cancels, where it cancels one.
    pub cancels: Option<Which>,
}

/// Which answer comes to its end before it has been given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::serve) enum Which {
    /// That to this request.
    To(RequestId),
    /// That is not known.
    Any,
}

impl Asks {
    /// What this message asks for.
    ///
    /// # Errors
    /// Why it is not read, for whoever has sent it.
    pub fn of(message: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Message<'m> {
            #[serde(borrow)]
            method: Option<&'m RawValue>,
            #[serde(borrow)]
            id: Option<&'m RawValue>,
            #[serde(borrow)]
            params: Option<&'m RawValue>,
        }
        #[derive(Deserialize)]
        struct Cancelled {
            #[serde(rename = "requestId")]
            request: RequestId,
        }
        if !message.trim_ascii_start().starts_with(b"{") {
            return Ok(Asks::default());
        }
        let (method, id, params) = match serde_json::from_slice(message) {
            Ok(Message {
                method: Some(method),
                id,
                params,
            }) => (method, id, params),
            // Which of the two counts is not known here.
            Err(error) if error.is_data() => {
                return Err("a name stands twice in the message".to_owned());
            }
            _ => return Ok(Asks::default()),
        };
        if id.is_some_and(|id| id.get().len() > MOST_ID) {
            return Err(format!(
                "the `id` of a request has at most {}",
                display_bytes(MOST_ID as u64)
            ));
        }
        let method = serde_json::from_str::<Cow<'_, str>>(method.get());
        let cancels = method.is_ok_and(|method| method == "notifications/cancelled");
        let which = || {
            let params = params.map(|params| serde_json::from_str(params.get()));
            match params {
                Some(Ok(Cancelled { request })) => Which::To(request),
                _ => Which::Any,
            }
        };
        Ok(Asks {
            request: id.and_then(|id| serde_json::from_str(id.get()).ok()),
            cancels: cancels.then(which),
        })
    }
}

/// The ids of a session that are in use.
#[derive(Debug)]
pub(super) struct Asked {
    keys: RandomState,
    uses: Mutex<Uses>,
    places: Arc<Semaphore>,
    elsewhere: Mutex<Elsewhere>,
    /// Cancelled where it takes nothing on any more, or is ended for another reason: nobody reads its streams then.
    pub over: CancellationToken,
}

#[derive(Debug, Default)]
struct Uses {
    /// By the hash of an id, which request has it.
    requests: HashMap<u64, Use>,
    next: u64,
    /// Of requests before this one, an answer may have come to its end without having been given.
    ended_before: u64,
    /// What is being handed on that brings an answer to its end: that to the request of this id, or any.
    ending: Vec<Option<u64>>,
}

#[derive(Debug)]
struct Use {
    number: u64,
    carried_out: bool,
    /// Whether its answer may have come to its end without having been given.
    ended: bool,
}

/// Streams in which somebody reads on, and what answers take that may be in one of them: until there is none.
#[derive(Debug, Default)]
struct Elsewhere {
    streams: usize,
    untaken: Vec<Untaken>,
}

/// Somebody reads on in a stream.
pub(super) struct ReadsOn(Arc<Asked>);

impl Drop for ReadsOn {
    fn drop(&mut self) {
        let mut elsewhere = self.0.elsewhere();
        elsewhere.streams -= 1;
        if elsewhere.streams == 0 {
            let untaken = std::mem::take(&mut elsewhere.untaken);
            drop(elsewhere);
            drop(untaken);
        }
    }
}

/// A request of a session, under way.
#[derive(Debug)]
pub(super) struct Request {
    asked: Arc<Asked>,
    id: u64,
    number: u64,
}

impl Default for Asked {
    fn default() -> Self {
        Asked {
            keys: RandomState::new(),
            uses: Mutex::default(),
            places: Arc::new(Semaphore::new(MOST_HANDED_ON)),
            elsewhere: Mutex::default(),
            over: CancellationToken::new(),
        }
    }
}

/// Why a request is not begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotBegun {
    /// Another one of the same id has not been answered, or nobody waited for its answer.
    InUse,
    /// More ids are in use than a session may have.
    TooMany,
}

impl Asked {
    /// Begins with a request.
    ///
    /// # Errors
    /// Where none of this id may begin.
    pub fn begin(self: &Arc<Self>, id: &RequestId) -> Result<Arc<Request>, NotBegun> {
        let id = self.keys.hash_one(id);
        let mut uses = self.lock();
        if uses.requests.contains_key(&id) {
            return Err(NotBegun::InUse);
        }
        if uses.requests.len() >= MOST_IN_USE {
            return Err(NotBegun::TooMany);
        }
        let number = uses.next;
        uses.next += 1;
        let new = Use {
            number,
            carried_out: false,
            ended: false,
        };
        uses.requests.insert(id, new);
        drop(uses);
        let asked = Arc::clone(self);
        Ok(Arc::new(Request { asked, id, number }))
    }

    /// For as long as something is handed on that brings an answer to its end before it has been given: that its
    /// request is cancelled, or that somebody reads on in it elsewhere.
    pub fn ends(self: &Arc<Self>, which: &Which) -> Ending {
        let which = match which {
            Which::To(id) => Some(self.keys.hash_one(id)),
            Which::Any => None,
        };
        self.lock().ending.push(which);
        let asked = Arc::clone(self);
        Ending { asked, which }
    }

    /// A place for a message that is handed on, until that is done.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// For as long as somebody reads on in the answer to a call, in a stream of its own.
    pub fn reads_on(self: &Arc<Self>) -> ReadsOn {
        self.elsewhere().streams += 1;
        ReadsOn(Arc::clone(self))
    }

    /// An answer was handed to the session. Whoever waits for it holds what it takes, unless that is whoever reads on
    /// elsewhere.
    pub fn has(&self, answer: Untaken) {
        let mut elsewhere = self.elsewhere();
        if elsewhere.streams > 0 && answer.is_of_nobody_else() {
            elsewhere.untaken.push(answer);
        }
    }

    fn elsewhere(&self) -> MutexGuard<'_, Elsewhere> {
        self.elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Uses> {
        // Each change is one call: nothing is ever half done.
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that brings an answer to its end is being handed on.
pub(super) struct Ending {
    asked: Arc<Asked>,
    which: Option<u64>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut uses = self.asked.lock();
        if let Some(at) = uses.ending.iter().position(|one| *one == self.which) {
            uses.ending.swap_remove(at);
        }
        match self.which {
            None => uses.ended_before = uses.next,
            Some(id) => {
                if let Some(one) = uses.requests.get_mut(&id) {
                    one.ended = true;
                }
            }
        }
    }
}

impl Request {
    /// Its answer has been read to its end.
    fn is_read(&self) {
        let mut uses = self.asked.lock();
        let is_ending = uses
            .ending
            .iter()
            .any(|one| one.is_none_or(|id| id == self.id));
        let is_over = uses.requests.get(&self.id).is_some_and(|one| {
            one.number == self.number
                && one.carried_out
                && !one.ended
                && one.number >= uses.ended_before
        });
        if is_over && !is_ending {
            uses.requests.remove(&self.id);
        }
    }
}

/// Whatever carries out a request has one, until it has.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    _out: Arc<CarriedOut>,
}

#[derive(Debug)]
struct CarriedOut(Arc<Request>);

impl Carried {
    /// For what carries out this request.
    pub fn out(request: &Arc<Request>) -> Self {
        let _out = Arc::new(CarriedOut(Arc::clone(request)));
        Carried { _out }
    }
}

impl Drop for CarriedOut {
    fn drop(&mut self) {
        let Request { asked, id, .. } = &*self.0;
        // Until then, no other request has its id.
        if let Some(one) = asked.lock().requests.get_mut(id) {
            one.carried_out = true;
        }
    }
}

/// The answer to a request, which tells when it has come to its end.
pub(super) struct Answer {
    pub body: BoxBody<Bytes, Infallible>,
    pub request: Arc<Request>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.request.is_read();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[test]
    fn what_a_message_is_is_told_by_its_method_and_id() {
        let asks = |message: &str| Asks::of(message.as_bytes());
        let request = |id| {
            Ok(Asks {
                request: Some(id),
                cancels: None,
            })
        };
        let seven = RequestId::Number(7);
        let said = asks(r#"{"id": 7, "method": "ping"}"#);
        assert_eq!(said, request(seven.clone()));
        let said = asks(r#" {"method": "ping", "\u0069d": 7}"#);
        assert_eq!(said, request(seven));
        let said = asks(r#"{"id": "\u0061", "method": "ping"}"#);
        assert_eq!(said, request(RequestId::String("a".into())));
        let said = asks(r#"{"method": "notifications\/cancelled", "params": {"requestId": 7}}"#);
        let seven = Which::To(RequestId::Number(7));
        assert_eq!(said.unwrap().cancels, Some(seven));
        for any in [
            r#"{"id": {}, "method": "notifications/cancelled"}"#,
            r#"{"method": "notifications/cancelled", "params": {"requestId": 7, "requestId": 8}}"#,
        ] {
            let said = asks(any).unwrap();
            assert_eq!(
                (said.request, said.cancels),
                (None, Some(Which::Any)),
                "{any}"
            );
        }
        for nothing in [
            r#"{"id": 7, "result": {}}"#,
            r#"{"method": "notifications/initialized"}"#,
            r#"{"id": null, "method": "ping"}"#,
            r#"{"id": {}, "method": "ping"}"#,
            r#"{"method": 7}"#,
            "[]",
            "{",
            "",
        ] {
            assert_eq!(asks(nothing), Ok(Asks::default()), "{nothing}");
        }
        let twice = asks(r#"{"id": 1, "id": 2, "method": "ping"}"#).unwrap_err();
        assert!(twice.contains("twice"), "{twice}");
        let of = |bytes| format!(r#"{{"id": "{}", "method": "ping"}}"#, "x".repeat(bytes));
        assert!(asks(&of(MOST_ID - 2)).is_ok());
        let long = asks(&of(MOST_ID - 1)).unwrap_err();
        assert!(long.contains("256 B"), "{long}");
    }

    #[tokio::test]
    async fn an_id_is_free_once_its_answer_has_been_read() {
        let asked = Arc::new(Asked::default());
        let begin = |number| asked.begin(&RequestId::Number(number));
        let read = async |request: &Arc<Request>| {
            let answer = Answer {
                body: Full::new(Bytes::from_static(b"{}")).boxed(),
                request: Arc::clone(request),
            };
            answer.collect().await.unwrap();
        };
        for _ in 0..2 {
            let request = begin(1).unwrap();
            let carried = Carried::out(&request);
            assert_eq!(begin(1).unwrap_err(), NotBegun::InUse);
            drop(carried.clone());
            drop(carried);
            assert_eq!(begin(1).unwrap_err(), NotBegun::InUse);
            read(&request).await;
        }
        assert!(asked.begin(&RequestId::String("2".into())).is_ok());
        // Nobody waits for the answer.
        drop(Carried::out(&begin(2).unwrap()));
        assert_eq!(begin(2).unwrap_err(), NotBegun::InUse);
        // Its stream comes to an end before it does.
        let request = begin(3).unwrap();
        let carried = Carried::out(&request);
        read(&request).await;
        drop(carried);
        assert_eq!(begin(3).unwrap_err(), NotBegun::InUse);
        // It is cancelled, or somebody reads on in it; and what runs beside it and comes after it is not.
        let (request, beside) = (begin(4).unwrap(), begin(5).unwrap());
        drop(asked.ends(&Which::To(RequestId::Number(4))));
        for one in [&request, &beside] {
            drop(Carried::out(one));
            read(one).await;
        }
        assert_eq!(begin(4).unwrap_err(), NotBegun::InUse);
        let request = begin(5).unwrap();
        drop(asked.ends(&Which::Any));
        drop(Carried::out(&request));
        read(&request).await;
        assert_eq!(begin(5).unwrap_err(), NotBegun::InUse);
        let request = begin(6).unwrap();
        drop(Carried::out(&request));
        read(&request).await;
        let again = begin(6).unwrap();
        // It may be this one until that has been handed on.
        for which in [Which::To(RequestId::Number(7)), Which::Any] {
            let ending = asked.ends(&which);
            let request = begin(7).or_else(|_| begin(8)).unwrap();
            drop(Carried::out(&request));
            read(&request).await;
            drop(ending);
        }
        assert_eq!(begin(7).unwrap_err(), NotBegun::InUse);
        assert_eq!(begin(8).unwrap_err(), NotBegun::InUse);
        // An answer that is over says nothing of the next one.
        let carried = Carried::out(&again);
        drop(carried);
        read(&request).await;
        assert_eq!(begin(6).unwrap_err(), NotBegun::InUse);
        drop(again);
    }

    #[tokio::test]
    async fn no_more_are_handed_on_than_may_be() {
        let asked = Asked::default();
        let mut places = Vec::new();
        for _ in 0..MOST_HANDED_ON {
            places.push(asked.place().await.unwrap());
        }
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        let mut next = std::pin::pin!(asked.place());
        assert!(next.as_mut().poll(&mut nobody).is_pending());
        places.pop();
        assert!(next.await.is_some());
    }

    #[test]
    fn no_more_are_in_use_than_may_be() {
        let asked = Arc::new(Asked::default());
        let most = i64::try_from(MOST_IN_USE).unwrap();
        for number in 0..most {
            drop(asked.begin(&RequestId::Number(number)).unwrap());
        }
        let begin = |number| asked.begin(&RequestId::Number(number)).unwrap_err();
        assert_eq!(begin(0), NotBegun::InUse);
        assert_eq!(begin(most), NotBegun::TooMany);
    }
}
