//! Server-sent events (`text/event-stream`).

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use uuid::Uuid;

use super::extract::Held;
use super::guard::still;
use super::places::Place;
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use super::told::{self, Teller, Told};
use crate::execution::is_much_with;
use crate::queue::{JobEvent, Queue, QueueError};
use crate::serve::caller::{Caller, Tenancy};
use crate::serve::token::Unauthorized;
use crate::turns::Party;
use crate::turns::aside::aside_if;
use crate::{Control, Event, ExecutionRequest, ExecutionResult, Observer};

/// One event.
pub(super) fn event(id: Option<i64>, kind: &str, data: &impl Serialize) -> Bytes {
    let mut text = String::with_capacity(256);
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    text.push_str("event: ");
    text.push_str(kind);
    text.push_str("\ndata: ");
    // JSON has no line ends of its own outside of white space, and none is written.
    match serde_json::to_string(data) {
        Ok(data) => text.push_str(&data),
        Err(error) => tracing::error!(%error, "an event cannot be written"),
    }
    text.push_str("\n\n");
    text.into()
}

/// A body of events that are sent through a channel. Dropped, it stops whoever sends them.
struct Events {
    received: Received,
    /// One of its tenant's streams.
    _place: Place<Tenancy>,
    keep_alive: Interval,
    sender: AbortHandle,
}

/// Events on their way.
enum Received {
    /// Of an execution: some are left out where they are not taken.
    Execution(Told),
    /// Of jobs: more are read once these were taken.
    Jobs(mpsc::Receiver<Bytes>),
}

impl Received {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match self {
            Received::Execution(told) => told.poll(context),
            Received::Jobs(received) => received.poll_recv(context).map(|bytes| bytes.map(Ok)),
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(received) = self.received.poll(context) {
            self.keep_alive.reset();
            return Poll::Ready(received.map(|bytes| bytes.map(Frame::data)));
        }
        match self.keep_alive.poll_tick(context) {
            // A comment, so that proxies and clients see that it lives.
            Poll::Ready(_) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b":\n\n"))))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A place among the streams of the caller's tenant.
pub(super) fn place(service: &Service, caller: &Caller) -> Result<Place<Tenancy>, Problem> {
    let place = service.inner.streams.take(caller.tenancy.clone());
    place.ok_or_else(|| {
        let most = service.inner.settings.streams;
        let detail = format!("{most} event streams are open, and no more may be");
        Problem::new(ProblemKind::TooManyRequests, detail).retry_after(Duration::from_secs(1))
    })
}

fn answer(
    service: &Service,
    place: Place<Tenancy>,
    received: Received,
    sender: AbortHandle,
) -> Response {
    let keep_alive = keep_alive(service);
    let mut response = Response::new(Body::new(Events {
        received,
        _place: place,
        keep_alive,
        sender,
    }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn keep_alive(service: &Service) -> Interval {
    let every = service.inner.settings.keep_alive;
    let mut keep_alive = interval_at(tokio::time::Instant::now() + every, every);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keep_alive
}

/// Waits until the caller would not be let in any more: its token was revoked or has expired, or one is
/// needed now. Looks as often as a stream says that it lives.
pub(super) async fn outlived(service: &Service, caller: &Caller) -> Problem {
    let mut look = keep_alive(service);
    loop {
        look.tick().await;
        match still(service, caller).await {
            // Nobody knows just now; it was let in before.
            Ok(()) | Err(Unauthorized::Unavailable(_)) => {}
            Err(error) => return Problem::from(error),
        }
    }
}

impl Observer for Teller {
    fn observe(&self, _: Uuid, told: &Event<'_>) {
        let bytes = match told {
            Event::Admitted { .. } => event(None, "admitted", told),
            Event::Started => event(None, "started", told),
            Event::Progress(_) => event(None, "progress", told),
            Event::Log { .. } => event(None, "log", told),
            Event::Denied { .. } => event(None, "denied", told),
            // Which secrets a host uses is its operator's to know; the result says more than its end.
            // So are the policy's rules.
            Event::SecretUsed { .. }
            | Event::Allowed { .. }
            | Event::Clamped { .. }
            | Event::Finished { .. } => return,
        };
        self.tell(bytes);
    }
}

/// Executes, and tells of it on the way. Where the caller would not be let in any more, the guest is
/// stopped, as by a client that goes away.
///
/// What its body takes is held until it has ended.
pub(super) fn execution(
    service: &Service,
    caller: &Caller,
    request: ExecutionRequest,
    held: Held,
) -> Result<Response, Problem> {
    let place = place(service, caller)?;
    let (teller, told) = told::told();
    let control = Control::default()
        .caller(caller.name())
        .observer(Arc::new(teller.clone()));
    let execute = Arc::clone(&service.inner.execute);
    let (asked, caller) = (service.clone(), caller.clone());
    let task = tokio::spawn(async move {
        let ended = tokio::select! {
            biased;
            ended = execute.execute(request, control) => ended.map_err(Problem::from),
            problem = outlived(&asked, &caller) => Err(problem),
        };
        let failed = |problem: Problem| event(None, "error", &problem);
        let end = match ended {
            Ok(result) => {
                let is_much = is_much_with(result.output.as_ref(), &result.attachments);
                let party = || Party::of(caller.tenant(), "");
                let finished = |result: ExecutionResult| event(None, "finished", &result);
                aside_if(is_much, party, result, finished).await
            }
            Err(problem) => failed(problem),
        };
        let sent = &asked.inner.sent;
        let end = sent.send(&caller.tenancy, end);
        let end = end.or_else(|full| sent.send(&caller.tenancy, failed(full.problem(false))));
        if let Ok(end) = end {
            teller.end(end);
        }
        drop(held);
    });
    let received = Received::Execution(told);
    Ok(answer(service, place, received, task.abort_handle()))
}

/// Follows the events of jobs after a cursor, as long as the caller would be let in.
pub(super) fn jobs(
    service: &Service,
    caller: &Caller,
    after: i64,
    only: Option<Uuid>,
) -> Result<Response, Problem> {
    let place = place(service, caller)?;
    let (sender, received) = mpsc::channel(1);
    let (follows, caller) = (service.clone(), caller.clone());
    let task = tokio::spawn(async move {
        // It ends by itself where nobody listens any more.
        if let Err(last) = follow(&follows, &caller, after, only, &sender).await {
            let _ = sender.send(last).await;
        }
    });
    let received = Received::Jobs(received);
    Ok(answer(service, place, received, task.abort_handle()))
}

/// Sends events until the server stops or nobody listens any more. Gives the last event where it ends of
/// something else.
///
/// How far it has come past events that this caller does not see is said no more often than that the stream
/// lives: said at once, it would tell when something happens for others, and how much.
async fn follow(
    service: &Service,
    caller: &Caller,
    after: i64,
    only: Option<Uuid>,
    sender: &mpsc::Sender<Bytes>,
) -> Result<(), Bytes> {
    let queue = &service.inner.queue;
    let mut subscription = queue.subscribe(after);
    let mut look = keep_alive(service);
    let mut passed = None;
    loop {
        let next = subscription.next();
        let batch = tokio::select! {
            batch = next => Some(batch.map_err(ending)?),
            _ = look.tick() => None,
            () = service.inner.stopping.cancelled() => return Ok(()),
        };
        // A token may have been revoked, or have expired, since this began.
        let still = still(service, caller).await;
        still.map_err(|error| event(None, "error", &Problem::from(error)))?;
        let told = match batch {
            Some(batch) => {
                let cursor = batch.cursor;
                let told = told(queue, caller, batch.events, only).await;
                let told = told.map_err(ending)?;
                passed = told.is_empty().then_some(cursor);
                told
            }
            None => passed.take().map(come_to).unwrap_or_default(),
        };
        if !told.is_empty() && sender.send(told).await.is_err() {
            return Ok(());
        }
    }
}

/// Those of these events that this caller may see.
async fn told(
    queue: &Queue,
    caller: &Caller,
    events: Vec<JobEvent>,
    only: Option<Uuid>,
) -> Result<Bytes, QueueError> {
    let mut text = BytesMut::new();
    for one in visible(queue, caller, events, only).await? {
        text.extend_from_slice(&event(Some(one.id), one.kind.as_str(), &one));
    }
    Ok(text.freeze())
}

/// Where to go on, without an event.
fn come_to(cursor: i64) -> Bytes {
    format!("id: {cursor}\n\n").into()
}

/// Those events that this caller may see, or of this job alone.
pub(super) async fn visible(
    queue: &Queue,
    caller: &Caller,
    mut events: Vec<JobEvent>,
    only: Option<Uuid>,
) -> Result<Vec<JobEvent>, QueueError> {
    if let Some(only) = only {
        events.retain(|event| event.job == only);
    }
    if caller.tenancy == Tenancy::Everybody || events.is_empty() {
        return Ok(events);
    }
    let jobs: HashSet<Uuid> = events.iter().map(|event| event.job).collect();
    let jobs: Vec<Uuid> = jobs.into_iter().collect();
    let tenants = queue.tenants(&jobs).await?;
    events.retain(|event| {
        let tenant = match tenants.get(&event.job) {
            Some(tenant) => tenant.as_deref(),
            // It was removed; what removed it says whose it was.
            None => event.data.get("tenant").and_then(|tenant| tenant.as_str()),
        };
        caller.may_see(tenant)
    });
    Ok(events)
}

fn ending(error: QueueError) -> Bytes {
    let kind = match error {
        QueueError::CursorTooOld { .. } => "gone",
        _ => "error",
    };
    event(None, kind, &Problem::from(error))
}
