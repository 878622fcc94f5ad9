//! `Idempotency-Key`: a request that is sent again is answered as it was before
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! The answer is kept beside the jobs, so that any process that shares the queue gives it, also after a
//! restart. While the first request goes on, a second one with its key is told so. Where a process dies
//! in the middle, the key is free again once its claim has passed.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::extract::fingerprint;
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::queue::{Note, Queue};
use crate::serve::caller::Caller;

/// The header.
pub(super) const HEADER: &str = "idempotency-key";
/// The kind of the notes that answers are kept as.
const KIND: &str = "answer";
/// How long a claim on a key holds without being renewed.
const CLAIM: Duration = Duration::from_secs(60);
/// The most bytes of a key.
const MAX_KEY: usize = 255;
/// The most bytes of an answer that is kept.
const MAX_ANSWER: usize = 16 << 20;

/// A request's key, with what the request was.
#[derive(Debug, Clone)]
pub(super) struct IdempotencyKey {
    key: String,
    request: [u8; 32],
}

impl IdempotencyKey {
    /// The key in these headers.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut found = headers.get_all(HEADER).iter();
        let Some(value) = found.next() else {
            return Ok(None);
        };
        let invalid = |what: &'static str| Err(Problem::new(ProblemKind::InvalidRequest, what));
        if found.next().is_some() {
            return invalid("there are several `Idempotency-Key` headers");
        }
        // A structured field's string has quotes around it; many clients leave them out.
        let text = value.to_str().unwrap_or_default().trim();
        let key = match text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
        {
            Some(inside) if !inside.contains(['"', '\\']) => inside,
            Some(_) => return invalid("the `Idempotency-Key` has quotes or backslashes in it"),
            None => text,
        };
        if !(1..=MAX_KEY).contains(&key.len()) {
            return invalid("the `Idempotency-Key` is not 1 to 255 printable ASCII characters");
        }
        Ok(Some(IdempotencyKey {
            key: key.to_owned(),
            request: [0; 32],
        }))
    }

    /// The same with what the request asks for.
    pub fn of_request(self, method: &Method, path: &str, body: &[u8]) -> Self {
        let request = fingerprint(&[method.as_str().as_bytes(), path.as_bytes(), body]);
        IdempotencyKey { request, ..self }
    }

    /// The name that it is kept under: keys of different tenants have nothing to do with each other.
    fn name(&self, caller: &Caller) -> String {
        let tenant = match caller.tenant() {
            Some(tenant) => [b"tenant ".as_slice(), tenant.as_bytes()].concat(),
            None => Vec::new(),
        };
        hex::encode(fingerprint(&[&tenant, self.key.as_bytes()]))
    }

    /// The id of the job, or of the one in this place of many, that a request with this key submits:
    /// the same each time, so that a job is made once also where its answer was never kept.
    pub fn job(&self, caller: &Caller, place: usize) -> Uuid {
        let name = self.name(caller);
        let place = (place as u64).to_le_bytes();
        let hash = fingerprint(&[name.as_bytes(), &self.request, &place]);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// What is kept of a request with a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    /// The fingerprint of the request, in hexadecimal.
    request: String,
    /// Which of the requests with this key it is: another one each time.
    #[serde(default)]
    claim: Uuid,
    /// What it was answered; `None` while it goes on.
    answer: Option<KeptAnswer>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptAnswer {
    status: u16,
    media_type: Option<String>,
    location: Option<String>,
    /// `None` where it was too large to keep.
    body: Option<String>,
}

/// Answers a request: as before where it has a key and came before.
pub(super) async fn once<F>(
    service: &Service,
    caller: &Caller,
    key: Option<&IdempotencyKey>,
    answer: F,
) -> Result<Response, Problem>
where
    F: Future<Output = Result<Response, Problem>>,
{
    let Some(key) = key else { return answer.await };
    let name = key.name(caller);
    let queue = &service.inner.queue;
    let claimed = Kept {
        request: hex::encode(key.request),
        claim: Uuid::now_v7(),
        answer: None,
    };
    let mut claim = Claim {
        queue: queue.clone(),
        name,
        kept: claimed,
        holds: false,
    };
    let until = Some(queue.now() + CLAIM);
    if !queue.add_note(KIND, &claim.note(until)).await? {
        return before(queue, &claim.name, &claim.kept.request).await;
    }
    // Given up where this is dropped in the middle: then nothing was answered.
    claim.holds = true;
    let answered = claim.while_renewed(answer).await?;
    claim.settle(service, answered).await
}

/// That another request with the key has its answer still to come.
fn going_on() -> Problem {
    let detail = "a request with this `Idempotency-Key` is going on; ask again later";
    Problem::new(ProblemKind::InProgress, detail).retry_after(Duration::from_secs(1))
}

/// What was answered before.
async fn before(queue: &Queue, name: &str, request: &str) -> Result<Response, Problem> {
    let Some(note) = queue.note::<Kept>(KIND, name).await? else {
        // It has just ended without an answer.
        return Err(going_on());
    };
    if note.value.request != request {
        let detail = "this `Idempotency-Key` came with another request before; take a new one";
        return Err(Problem::new(ProblemKind::KeyReused, detail));
    }
    let Some(answer) = note.value.answer else {
        return Err(going_on());
    };
    let Some(body) = answer.body else {
        let detail = "this request was answered before, with more than is kept";
        return Err(Problem::new(ProblemKind::Conflict, detail));
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in [
        (axum::http::header::CONTENT_TYPE, answer.media_type),
        (axum::http::header::LOCATION, answer.location),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// A key that is this request's, until another one takes it: that can be where this process stands
/// still for longer than the claim holds. So nothing is done with it but where it still is this one's.
struct Claim {
    queue: Queue,
    name: String,
    /// What is kept while the request goes on.
    kept: Kept,
    /// Whether it is to be given up.
    holds: bool,
}

impl Claim {
    fn note(&self, until: Option<DateTime<Utc>>) -> Note<Kept> {
        let (name, value) = (self.name.clone(), self.kept.clone());
        Note { name, value, until }
    }

    /// What is answered, unless another request takes the key meanwhile: then that one answers for it,
    /// and this one goes no further.
    async fn while_renewed<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, Problem> {
        let mut answer = std::pin::pin!(answer);
        loop {
            if let Ok(answered) = tokio::time::timeout(CLAIM / 3, &mut answer).await {
                return Ok(answered);
            }
            let note = self.note(Some(self.queue.now() + CLAIM));
            match self.queue.change_note(KIND, &note, &self.kept).await {
                Ok(true) => {}
                Ok(false) => {
                    self.holds = false;
                    return Err(going_on());
                }
                Err(error) => {
                    tracing::warn!(%error, "a claim on an idempotency key cannot be renewed");
                }
            }
        }
    }

    /// Keeps what was answered where it would be the same another time. What may pass by itself is not
    /// kept, nor what was refused before anything was done: the request can come again.
    async fn settle(
        mut self,
        service: &Service,
        answered: Result<Response, Problem>,
    ) -> Result<Response, Problem> {
        let response = match answered {
            Err(problem) if !problem.is_final() => {
                // Before it is told, for it may come again at once.
                self.holds = false;
                if let Err(error) = self.queue.remove_note(KIND, &self.note(None)).await {
                    tracing::warn!(%error, "a claim on an idempotency key cannot be given up");
                }
                return Err(problem);
            }
            answered => answered.unwrap_or_else(IntoResponse::into_response),
        };
        let (parts, body) = response.into_parts();
        // It is in memory already.
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => {
                tracing::error!(%error, "an answer broke off");
                return Err(Problem::new(ProblemKind::Internal, "the answer broke off"));
            }
        };
        let text = |name| {
            let value: &HeaderValue = parts.headers.get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let body = (bytes.len() <= MAX_ANSWER)
            .then(|| std::str::from_utf8(&bytes).ok().map(str::to_owned))
            .flatten();
        let answer = KeptAnswer {
            status: parts.status.as_u16(),
            media_type: text(axum::http::header::CONTENT_TYPE),
            location: text(axum::http::header::LOCATION),
            body,
        };
        let mut note = self.note(Some(self.queue.now() + service.inner.settings.remembered));
        note.value.answer = Some(answer);
        // What was done was done: where that cannot be noted, the client is told all the same.
        match self.queue.change_note(KIND, &note, &self.kept).await {
            Ok(kept) => {
                self.holds = false;
                if !kept {
                    tracing::warn!(
                        "another request took the idempotency key of one that stood still"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "an answer cannot be kept for its key"),
        }
        Ok(Response::from_parts(parts, Body::from(bytes)))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.holds {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (queue, note) = (self.queue.clone(), self.note(None));
        runtime.spawn(async move {
            if let Err(error) = queue.remove_note(KIND, &note).await {
                tracing::warn!(%error, "a claim on an idempotency key cannot be given up");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Option<String>, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_str(value).unwrap());
        }
        IdempotencyKey::of(&headers).map(|key| key.map(|key| key.key))
    }

    #[test]
    fn keys_are_read_with_quotes_and_without() {
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&["\"a b\""]).unwrap().as_deref(), Some("a b"));
        assert_eq!(of(&["8e03978e"]).unwrap().as_deref(), Some("8e03978e"));
        for bad in [
            &["a", "b"][..],
            &[""],
            &["\"\""],
            &[&"x".repeat(256)],
            &["\"a\"b\""],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
