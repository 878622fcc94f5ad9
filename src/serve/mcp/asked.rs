//! What a session has been asked and has not answered yet, by the ids of the requests.
//!
//! The protocol has a client use no id twice in a session. The library takes the answer to either of two requests of one
//! id for that to the other, and keeps the stream of one of them for as long as the session; so the second is refused.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use rmcp::model::RequestId;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::limits::display_bytes;

/// The longest id of a request, in bytes of JSON. It is kept until the request has been answered; clients take a number
/// or a UUID.
const MOST_ID: usize = 256;

/// For how long an id is that of a request still, once that has been carried out and nobody waits for its answer: by
/// then, the library has let go of it.
const LINGERS: Duration = Duration::from_secs(5);

/// The id of the request that a message is. What is none, or is no message, has none.
///
/// # Errors
/// Why it is not read, for whoever has sent it.
pub(in crate::serve) fn request_id(message: &[u8]) -> Result<Option<RequestId>, String> {
    #[derive(Deserialize)]
    struct Asks<'m> {
        method: Option<IgnoredAny>,
        #[serde(borrow)]
        id: Option<&'m RawValue>,
    }
    if !message.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    let Asks { method, id } = match serde_json::from_slice(message) {
        Ok(asks) => asks,
        // Which of the two counts is not known here.
        Err(error) if error.is_data() => {
            return Err("a name stands twice in the message".to_owned());
        }
        Err(_) => return Ok(None),
    };
    let Some(id) = id.filter(|_| method.is_some()) else {
        return Ok(None);
    };
    match id.get().len() > MOST_ID {
        true => Err(format!(
            "the `id` of a request has at most {}",
            display_bytes(MOST_ID as u64)
        )),
        false => Ok(serde_json::from_str(id.get()).ok()),
    }
}

/// The requests of a session that have not been answered yet.
#[derive(Debug, Default)]
pub(super) struct Asked {
    keys: RandomState,
    going: Mutex<Going>,
}

#[derive(Debug, Default)]
struct Going {
    /// By the hash of its id, which request it is, and since when it has been carried out.
    requests: HashMap<u64, (u64, Option<Instant>)>,
    next: u64,
    /// Once there are so many, those are looked for that linger no more.
    many: usize,
}

/// A request of a session, under way.
#[derive(Debug)]
pub(super) struct Request {
    asked: Arc<Asked>,
    id: u64,
    number: u64,
}

impl Asked {
    /// Begins with one; `None` where another one of this id has not been answered.
    pub fn begin(self: &Arc<Self>, id: &RequestId) -> Option<Arc<Request>> {
        let id = self.keys.hash_one(id);
        let mut going = self.lock();
        let now = Instant::now();
        let lingers = |over: Option<Instant>| over.is_none_or(|over| now - over < LINGERS);
        if going
            .requests
            .get(&id)
            .is_some_and(|(_, over)| lingers(*over))
        {
            return None;
        }
        if going.requests.len() >= going.many {
            going.requests.retain(|_, (_, over)| lingers(*over));
            going.many = (2 * going.requests.len()).max(64);
        }
        let number = going.next;
        going.next += 1;
        going.requests.insert(id, (number, None));
        drop(going);
        let asked = Arc::clone(self);
        Some(Arc::new(Request { asked, id, number }))
    }

    fn lock(&self) -> MutexGuard<'_, Going> {
        // Each change is one call: nothing is ever half done.
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    /// Its answer has come to its end.
    fn is_answered(&self) {
        let mut going = self.asked.lock();
        let is_this = |(number, _): &(u64, _)| *number == self.number;
        if going.requests.get(&self.id).is_some_and(is_this) {
            going.requests.remove(&self.id);
        }
    }
}

/// It has been carried out. Where somebody waits for the answer, that comes to its end now; where nobody does any more,
/// this is all that tells of it.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    _out: Arc<CarriedOut>,
}

#[derive(Debug)]
struct CarriedOut(Arc<Request>);

impl Carried {
    /// Whatever carries out this request has one, until it has.
    pub fn out(request: &Arc<Request>) -> Self {
        let _out = Arc::new(CarriedOut(Arc::clone(request)));
        Carried { _out }
    }
}

impl Drop for CarriedOut {
    fn drop(&mut self) {
        let Request { asked, id, number } = &*self.0;
        if let Some((one, over)) = asked.lock().requests.get_mut(id)
            && one == number
        {
            *over = Some(Instant::now());
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
            self.request.is_answered();
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
    fn a_request_is_known_by_its_id() {
        let id = |message: &str| request_id(message.as_bytes());
        let number = |number| Ok(Some(RequestId::Number(number)));
        assert_eq!(id(r#"{"id": 7, "method": "ping"}"#), number(7));
        assert_eq!(id(r#" {"method": "ping", "\u0069d": 7}"#), number(7));
        let text = RequestId::String("a".into());
        assert_eq!(id(r#"{"id": "\u0061", "method": "ping"}"#), Ok(Some(text)));
        for none in [
            r#"{"id": 7, "result": {}}"#,
            r#"{"method": "notifications/initialized"}"#,
            r#"{"id": null, "method": "ping"}"#,
            r#"{"id": {}, "method": "ping"}"#,
            "[]",
            "{",
            "",
        ] {
            assert_eq!(id(none), Ok(None), "{none}");
        }
        let twice = id(r#"{"id": 1, "id": 2, "method": "ping"}"#).unwrap_err();
        assert!(twice.contains("twice"), "{twice}");
        let of = |bytes| format!(r#"{{"id": "{}", "method": "ping"}}"#, "x".repeat(bytes));
        assert!(id(&of(MOST_ID - 2)).is_ok());
        let long = id(&of(MOST_ID - 1)).unwrap_err();
        assert!(long.contains("256 B"), "{long}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_is_free_once_its_request_has_been_answered() {
        let asked = Arc::new(Asked::default());
        let id = RequestId::Number(1);
        let answer = |request: &Arc<Request>| Answer {
            body: Full::new(Bytes::from_static(b"{}")).boxed(),
            request: Arc::clone(request),
        };
        let first = asked.begin(&id).unwrap();
        let carried = Carried::out(&first);
        assert!(asked.begin(&id).is_none());
        assert!(asked.begin(&RequestId::String("1".into())).is_some());
        answer(&first).collect().await.unwrap();
        // What carries out an earlier one has nothing to do with this.
        let second = asked.begin(&id).unwrap();
        drop(carried);
        answer(&first).collect().await.unwrap();
        tokio::time::advance(2 * LINGERS).await;
        assert!(asked.begin(&id).is_none());
        // Nobody waits for it.
        let carried = Carried::out(&second);
        drop(carried.clone());
        drop(answer(&second));
        assert!(asked.begin(&id).is_none());
        drop(carried);
        tokio::time::advance(LINGERS / 2).await;
        assert!(asked.begin(&id).is_none());
        tokio::time::advance(LINGERS).await;
        assert!(asked.begin(&id).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_kept_than_have_come_of_late() {
        let asked = Arc::new(Asked::default());
        for number in 0..10_000 {
            let request = asked.begin(&RequestId::Number(number)).unwrap();
            drop(Carried::out(&request));
            tokio::time::advance(LINGERS / 100).await;
        }
        assert!(asked.lock().requests.len() <= 300);
    }
}
