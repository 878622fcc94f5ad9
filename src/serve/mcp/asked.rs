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

use crate::limits::display_bytes;

/// The longest id of a request, in bytes of JSON. The library keeps it until the request has been answered; clients take
/// a number or a UUID.
const MOST_ID: usize = 256;

/// How many ids of a session may be in use, most of them those of requests that were cancelled or whose client did not
/// wait for the answer.
const MOST_IN_USE: usize = 10_000;

/// What a message asks for, as far as it matters to the ids that are in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::serve) struct Asks {
    /// The id of the request that it is, where it is one.
    pub request: Option<RequestId>,
    /// Whether a request is cancelled by it.
    pub cancels: bool,
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
        }
        if !message.trim_ascii_start().starts_with(b"{") {
            return Ok(Asks::default());
        }
        let (method, id) = match serde_json::from_slice(message) {
            Ok(Message {
                method: Some(method),
                id,
            }) => (method, id),
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
        Ok(Asks {
            request: id.and_then(|id| serde_json::from_str(id.get()).ok()),
            cancels: method.is_ok_and(|method| method == "notifications/cancelled"),
        })
    }
}

/// The ids of a session that are in use.
#[derive(Debug, Default)]
pub(super) struct Asked {
    keys: RandomState,
    uses: Mutex<Uses>,
}

#[derive(Debug, Default)]
struct Uses {
    /// By the hash of an id, which request that is, and whether it has been carried out.
    carried_out: HashMap<u64, (u64, bool)>,
    next: u64,
    /// Of requests before this one, an answer may have come to its end without having been given.
    ended_before: u64,
    /// How many messages are being handed on that bring one to its end.
    ending: usize,
}

/// A request of a session, under way.
#[derive(Debug)]
pub(super) struct Request {
    asked: Arc<Asked>,
    id: u64,
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
        if uses.carried_out.contains_key(&id) {
            return Err(NotBegun::InUse);
        }
        if uses.carried_out.len() >= MOST_IN_USE {
            return Err(NotBegun::TooMany);
        }
        let number = uses.next;
        uses.next += 1;
        uses.carried_out.insert(id, (number, false));
        drop(uses);
        let asked = Arc::clone(self);
        Ok(Arc::new(Request { asked, id }))
    }

    /// For as long as something is handed on that brings an answer to its end before it has been given: that its
    /// request is cancelled, or that somebody reads on in it elsewhere.
    pub fn ends_one(self: &Arc<Self>) -> Ending {
        self.lock().ending += 1;
        Ending(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, Uses> {
        // Each change is one call: nothing is ever half done.
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that brings an answer to its end is being handed on.
pub(super) struct Ending(Arc<Asked>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut uses = self.0.lock();
        uses.ending -= 1;
        uses.ended_before = uses.next;
    }
}

impl Request {
    /// Its answer has been read to its end.
    fn is_read(&self) {
        let mut uses = self.asked.lock();
        let ended_before = uses.ended_before;
        let is_over = |(number, carried_out): &(u64, bool)| *carried_out && *number >= ended_before;
        if uses.ending == 0 && uses.carried_out.get(&self.id).is_some_and(is_over) {
            uses.carried_out.remove(&self.id);
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
        let Request { asked, id } = &*self.0;
        if let Some((_, carried_out)) = asked.lock().carried_out.get_mut(id) {
            *carried_out = true;
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
                cancels: false,
            })
        };
        let seven = RequestId::Number(7);
        let said = asks(r#"{"id": 7, "method": "ping"}"#);
        assert_eq!(said, request(seven.clone()));
        let said = asks(r#" {"method": "ping", "\u0069d": 7}"#);
        assert_eq!(said, request(seven));
        let said = asks(r#"{"id": "\u0061", "method": "ping"}"#);
        assert_eq!(said, request(RequestId::String("a".into())));
        for cancels in [
            r#"{"method": "notifications\/cancelled", "params": {"requestId": 7}}"#,
            r#"{"id": {}, "method": "notifications/cancelled"}"#,
        ] {
            let said = asks(cancels).unwrap();
            assert!(said.cancels && said.request.is_none(), "{cancels}");
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
        // It is cancelled, or somebody reads on in it; and what comes after it is not.
        let request = begin(4).unwrap();
        drop(asked.ends_one());
        drop(Carried::out(&request));
        read(&request).await;
        assert_eq!(begin(4).unwrap_err(), NotBegun::InUse);
        let request = begin(5).unwrap();
        drop(Carried::out(&request));
        read(&request).await;
        assert!(begin(5).is_ok());
        // It may be this one until that has been handed on.
        let ending = asked.ends_one();
        let request = begin(6).unwrap();
        drop(Carried::out(&request));
        read(&request).await;
        drop(ending);
        assert_eq!(begin(6).unwrap_err(), NotBegun::InUse);
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
