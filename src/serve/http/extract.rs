//! What is read from a request, every refusal being a [`Problem`].

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::idempotency::IdempotencyKey;
use super::objects::Objects;
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use super::trace::Trace;
use crate::json::{LARGE, measure};
use crate::serve::caller::{Caller, Scope};
use crate::turns::Party;
use crate::turns::aside::aside_if;
use crate::turns::threads::{Kind, Threads};

/// The threads on which large bodies are read: nothing that is done there waits for anything.
pub(super) const READS: Kind = Kind {
    name: "skillhost-read",
    threads: 8,
    each: 4,
    max_waiting: 10_000,
    stack_bytes: None,
};
/// The threads on which is read what may be much of what is kept, such as lists of jobs. Each has some 160 MiB at most
/// ([`Queue::list`](crate::queue::Queue::list)), and is held for as long as the store does not answer.
pub(super) const FETCHES: Kind = Kind {
    name: "skillhost-fetch",
    threads: 4,
    each: 2,
    max_waiting: 10_000,
    stack_bytes: None,
};
/// How long that may take, or to read a large body that is there, with what it waits for a thread.
const PATIENCE: Duration = Duration::from_secs(10);

/// On whose behalf the request comes in, with the scope that it needs checked by
/// [`need`](Asks::need).
#[derive(Debug, Clone)]
pub(super) struct Asks {
    pub caller: Caller,
    pub trace: Trace,
}

impl Asks {
    /// Makes sure that whoever asks may do this.
    pub fn need(&self, scope: Scope) -> Result<&Caller, Problem> {
        if self.caller.scopes.has(scope) {
            return Ok(&self.caller);
        }
        let detail = format!("this needs a token with the scope `{scope}`");
        Err(Problem::new(ProblemKind::MissingScope, detail))
    }
}

impl FromRequestParts<Service> for Asks {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, Problem> {
        // The guard puts it there. Where it did not, nobody gets in.
        let asks = parts.extensions.get::<Asks>().cloned();
        asks.ok_or_else(|| Problem::new(ProblemKind::Internal, "the request was not looked at"))
    }
}

/// A body of JSON.
pub(super) struct Asked<T> {
    pub value: T,
    /// The request's idempotency key, where there is one.
    pub key: Option<IdempotencyKey>,
    /// What the body takes of what all may: given back once this is dropped, so not before what it
    /// asked for was answered.
    pub held: Held,
}

/// A part of what all bodies may have together.
pub(super) type Held = Option<tokio::sync::OwnedSemaphorePermit>;

/// A body that was read.
pub(super) struct Whole {
    pub bytes: Bytes,
    pub held: Held,
}

impl<T: DeserializeOwned + Send + 'static> FromRequest<Service> for Asked<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, service: &Service) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts) {
            return Err(Problem::new(
                ProblemKind::UnsupportedMediaType,
                "the body must be `application/json`, and the header `Content-Type` say so",
            ));
        }
        let key = IdempotencyKey::of(&parts.headers)?;
        let Whole { bytes, mut held } =
            read(body, service, service.inner.settings.body_bytes).await?;
        let caller = parts.extensions.get::<Asks>();
        let caller = caller.map(|asks| asks.caller.clone());
        let (all, many) = (service.clone(), bytes.len());
        let take = move || -> Result<Self, Problem> {
            hold_values(&all, &mut held, measured(&bytes)?)?;
            let value = parse(&bytes)?;
            let key = key.map(|key| key.of_request(&parts.method, parts.uri.path(), &bytes));
            Ok(Asked { value, key, held })
        };
        in_time(service, caller.as_ref(), many, take).await?
    }
}

/// Does what is to be done with so many bytes: where they are many, it is on a thread that holds up nobody, in turns
/// between tenants, and in some time.
pub(super) async fn in_time<T: Send + 'static>(
    service: &Service,
    caller: Option<&Caller>,
    many: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    if many <= LARGE {
        return Ok(work());
    }
    let busy = "the body cannot be read now: there are too many large ones";
    on(&service.inner.reads, caller, busy, work).await
}

/// Asks for what may be much, and reads it, on a thread that holds up nobody, in turns between tenants.
pub(super) async fn fetched<T: Send + 'static>(
    service: &Service,
    caller: &Caller,
    fetch: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let runtime = tokio::runtime::Handle::current();
    let busy = "what is asked for cannot be read now: too much is asked for at once, or its store does not answer";
    let work = move || runtime.block_on(fetch);
    on(&service.inner.fetches, Some(caller), busy, work).await
}

/// Does something on one of these threads, in some time.
async fn on<T: Send + 'static>(
    threads: &Threads,
    caller: Option<&Caller>,
    busy: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let unavailable =
        || Problem::new(ProblemKind::Unavailable, busy).retry_after(Duration::from_secs(1));
    // Whose skill it is about, nobody knows yet.
    let party = Party::of(caller.and_then(Caller::tenant), "");
    let doing = threads.spawn(&party, work).map_err(|error| {
        tracing::error!(%error, "nothing large can be read");
        unavailable()
    })?;
    let done = tokio::time::timeout(PATIENCE, doing).await;
    done.map_err(|_| unavailable())?.map_err(|error| {
        tracing::error!(?error, "something large could not be read");
        Problem::new(ProblemKind::Internal, "it could not be read")
    })
}

/// What the values of a body of JSON take, in bytes; of one that is too much to be read, what is.
pub(super) fn measured(bytes: &[u8]) -> Result<u64, Problem> {
    measure(bytes).map_err(|why| {
        let detail = format!("the body is not read: {why}");
        Problem::new(ProblemKind::InvalidRequest, detail)
    })
}

/// Takes what a body's values take of what all bodies may have together: of that all at most, so that one alone is let
/// in.
pub(super) fn hold_values(service: &Service, held: &mut Held, heap: u64) -> Result<(), Problem> {
    let heap = usize::try_from(heap).unwrap_or(usize::MAX);
    if heap <= LARGE {
        return Ok(());
    }
    // In whole KiB, as what all may have is.
    let most = service.inner.settings.bodies_bytes >> 10 << 10;
    hold(service, held, heap.min(most))
}

/// Parses a body that was [measured], saying where it does not fit.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = T::deserialize(Objects(&mut reader));
    let parsed = parsed.and_then(|value| reader.end().map(|()| value));
    parsed.map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => ProblemKind::InvalidBody,
            _ => ProblemKind::InvalidRequest,
        };
        // What it quotes of the body is text from a stranger.
        let detail = super::misfit::said::<T>(&error, bytes);
        Problem::new(kind, crate::text::printable(&detail, false).into_owned())
    })
}

fn is_json(parts: &Parts) -> bool {
    let Some(value) = parts.headers.get(CONTENT_TYPE) else {
        return false;
    };
    let Ok(value) = value.to_str() else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Reads a body of at most so many bytes, in the time that it may take.
pub(super) async fn read(body: Body, service: &Service, most: usize) -> Result<Whole, Problem> {
    let patience = service.inner.settings.body_timeout;
    let read = collect(body, service, most);
    match tokio::time::timeout(patience, read).await {
        Ok(read) => read,
        Err(_) => Err(slow(patience)),
    }
}

fn slow(patience: Duration) -> Problem {
    let detail = format!("the body did not come within {} s", patience.as_secs());
    // What is still to come of it would be read as the next request.
    Problem::new(ProblemKind::RequestTimeout, detail).header(
        axum::http::header::CONNECTION,
        axum::http::HeaderValue::from_static("close"),
    )
}

async fn collect(mut body: Body, service: &Service, most: usize) -> Result<Whole, Problem> {
    let too_large = || {
        let detail = format!("a body has at most {most} bytes here");
        Err(Problem::new(ProblemKind::TooLarge, detail))
    };
    let announced = http_body::Body::size_hint(&body);
    if announced.lower() > most as u64 {
        return too_large();
    }
    let mut read = BytesMut::new();
    let mut held: Held = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            let detail = "the body broke off";
            return Err(Problem::new(ProblemKind::InvalidRequest, detail));
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read.len() + data.len() > most {
            return too_large();
        }
        // A small one, or one that is there in a piece, is not worth counting.
        if read.is_empty() && body_ended(&body) {
            return Ok(Whole { bytes: data, held });
        }
        let so_far = read.len() + data.len();
        if let Err(problem) = hold(service, &mut held, so_far) {
            drop(read);
            pass_over(body, most - so_far).await;
            return Err(problem);
        }
        read.extend_from_slice(&data);
    }
    let bytes = read.freeze();
    Ok(Whole { bytes, held })
}

/// Reads on without keeping anything, for a client that is still sending does not see an answer before
/// it is done.
async fn pass_over(mut body: Body, most: usize) {
    let mut left = most;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(bytes) {
            Some(less) => left = less,
            None => return,
        }
    }
}

fn body_ended(body: &Body) -> bool {
    http_body::Body::is_end_stream(body)
}

/// Takes a part of what all bodies may have together.
fn hold(service: &Service, held: &mut Held, bytes: usize) -> Result<(), Problem> {
    let wanted = bytes.div_ceil(1 << 10);
    let has = held.as_ref().map_or(0, |held| held.num_permits());
    if wanted <= has {
        return Ok(());
    }
    // In steps, so that a body of many small pieces does not go there for each.
    let more = u32::try_from((wanted - has).max(64)).unwrap_or(u32::MAX);
    let bodies = std::sync::Arc::clone(&service.inner.bodies);
    let Ok(permit) = bodies.try_acquire_many_owned(more) else {
        let detail = "too many large requests at once";
        let problem = Problem::new(ProblemKind::Unavailable, detail);
        return Err(problem.retry_after(Duration::from_secs(1)));
    };
    match held {
        Some(held) => held.merge(permit),
        None => *held = Some(permit),
    }
    Ok(())
}

/// Parameters behind the `?`.
pub(super) struct Parameters<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Service> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, service).await {
            Ok(Query(value)) => Ok(Parameters(value)),
            Err(rejection) => {
                let detail = rejection.body_text();
                let detail = crate::text::printable(&detail, false).into_owned();
                Err(Problem::new(ProblemKind::InvalidRequest, detail))
            }
        }
    }
}

/// What stands in the path.
pub(super) struct Named<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Service> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, service).await {
            Ok(Path(value)) => Ok(Named(value)),
            Err(rejection) => {
                let detail = rejection.body_text();
                let detail = crate::text::printable(&detail, false).into_owned();
                Err(Problem::new(ProblemKind::InvalidRequest, detail))
            }
        }
    }
}

/// JSON to answer with.
pub(super) struct Answer<T>(pub T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => json(body),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written");
                Problem::new(ProblemKind::Internal, "the answer cannot be written").into_response()
            }
        }
    }
}

/// Answers with what may be large: then it is written, and dropped, where that holds up nobody.
pub(super) async fn answered<T: Serialize + Send + 'static>(
    caller: &Caller,
    is_large: bool,
    value: T,
) -> Response {
    // Whose skill it is of, nobody asks here.
    let party = || Party::of(caller.tenant(), "");
    aside_if(is_large, party, value, |value| {
        Answer(value).into_response()
    })
    .await
}

/// An answer of JSON that is written already.
pub(super) fn json(body: impl Into<Body>) -> Response {
    let mut answer = Response::new(body.into());
    let json = axum::http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

/// The SHA-256 of several texts, each apart from the next.
pub(super) fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
