//! What happened to jobs: in batches from a cursor, or as it happens.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::extract::{Answer, Asks, Parameters};
use super::jobs::read::{need_own, page};
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use super::stream::{self, visible};
use crate::queue::{EventBatch, Queue};
use crate::serve::caller::{Caller, Scope, Tenancy};

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Events after this one: the `cursor` of the batch before; 0 is before the first.
    #[param(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    after: Option<i64>,
    /// How many events are looked at, at most; 100 unless set. Fewer are given where some are others'.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Of this job alone.
    job: Option<Uuid>,
}

/// Read a batch of events
///
/// A cursor whose events are no longer kept is gone (410): begin anew at `oldest`, less 1, or at 0. One that is no event's
/// yet is not found (404).
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(Which),
    responses((status = 200, description = "A batch of events", body = EventBatch))
)]
pub(super) async fn list(
    State(service): State<Service>,
    asks: Asks,
    Parameters(which): Parameters<Which>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let after = cursor(which.after.unwrap_or(0))?;
    let limit = page(which.limit)?;
    if let Some(job) = which.job {
        need_own(&service, caller, job).await?;
    }
    let queue = &service.inner.queue;
    let mut batch = queue.events(after, limit).await?;
    if batch.events.is_empty() {
        was(queue, caller, after).await?;
    }
    batch.events = visible(queue, caller, batch.events, which.job).await?;
    Ok(Answer(batch).into_response())
}

fn cursor(after: i64) -> Result<i64, Problem> {
    match after {
        0.. => Ok(after),
        _ => {
            let detail = "a cursor is not negative";
            Err(Problem::new(ProblemKind::InvalidRequest, detail))
        }
    }
}

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// Events after this one; unless set, those that happen from now on. The header `Last-Event-ID`
    /// goes before it.
    #[param(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    after: Option<i64>,
    /// Of this job alone.
    job: Option<Uuid>,
}

/// Follow events as they happen
///
/// As `text/event-stream`: the event's `id` is its cursor, its name the kind, its data the event. A
/// client that comes back with `Last-Event-ID` misses none. Where that is no longer kept, the answer is
/// 410, or in the middle the event `gone`; where there never was such an event, 404. Now and then comes an
/// `id` alone: how far the stream has come past events that are not shown.
#[utoipa::path(
    get, path = "/v1/events/stream", tag = "events",
    params(From, ("last-event-id" = Option<i64>, Header, minimum = 0, maximum = 9_223_372_036_854_775_807_i64,
        description = "The last event that was seen")),
    responses((status = 200, description = "Events, without end",
        content((String = "text/event-stream"))))
)]
pub(super) async fn follow(
    State(service): State<Service>,
    asks: Asks,
    headers: HeaderMap,
    Parameters(from): Parameters<From>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let queue = &service.inner.queue;
    let after = match (headers.get("last-event-id"), from.after) {
        (Some(seen), _) => {
            let seen = seen.to_str().ok().and_then(|seen| seen.trim().parse().ok());
            cursor(seen.unwrap_or(-1))?
        }
        (None, Some(after)) => cursor(after)?,
        (None, None) => queue.last_event().await?,
    };
    if let Some(job) = from.job {
        need_own(&service, caller, job).await?;
    }
    // So that one that has fallen off is told before anything else. One that never was, such as of another database,
    // would wait for as long as it takes until there are as many.
    let next = queue.events(after, 1).await?;
    if next.events.is_empty() {
        was(queue, caller, after).await?;
    }
    stream::jobs(&service, caller, after, from.job)
}

/// Refuses a cursor behind the newest event.
async fn was(queue: &Queue, caller: &Caller, after: i64) -> Result<(), Problem> {
    let last = queue.last_event().await?;
    if after <= last {
        return Ok(());
    }
    // How many there are is nothing to tell a tenant, of whom they are not.
    let newest = match caller.tenancy {
        Tenancy::Everybody => format!("; the newest is {last}"),
        Tenancy::Tenant(_) => String::new(),
    };
    let detail = format!("there is no event {after}{newest}");
    Err(Problem::new(ProblemKind::NotFound, detail))
}
