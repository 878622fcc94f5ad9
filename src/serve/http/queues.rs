//! Queues: paused, and bounded over all workers.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Asked, Asks, Named};
use super::openapi::QueueName;
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::queue::{Bounds, ScopeInfo, ScopeKind};
use crate::serve::caller::Scope;

/// Every queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueList {
    /// By name.
    queues: Vec<ScopeInfo>,
}

/// List queues
#[utoipa::path(
    get, path = "/v1/queues", tag = "queues",
    responses((status = 200, description = "The queues", body = QueueList))
)]
pub(super) async fn list(State(service): State<Service>, asks: Asks) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    let queues = service.inner.queue.scopes(ScopeKind::Queue).await?;
    Ok(Answer(QueueList { queues }).into_response())
}

/// What is to change about a queue. What is left out stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueChange {
    /// Whether none of its jobs start.
    #[serde(default)]
    paused: Option<bool>,
    /// How many may run at once, over all workers; `null` takes the bound away.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    concurrency: Option<Option<u32>>,
    /// How many may start in which period, over all workers; `null` takes the bound away.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Option<NewRate>)]
    rate: Option<Option<NewRate>>,
}

/// How many may start in which period.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRate {
    /// How many.
    #[schema(minimum = 1)]
    count: u32,
    /// The period in milliseconds; at most a year.
    #[schema(minimum = 1, maximum = 31_622_400_000_i64)]
    period_ms: u64,
}

/// Tells `null` from what is not there.
fn there<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Pause, resume or bound a queue
///
/// What runs is not touched. A queue that has had no jobs yet can be bounded, too.
#[utoipa::path(
    patch, path = "/v1/queues/{name}", tag = "queues",
    params(("name" = QueueName, Path, description = "The queue")),
    request_body = QueueChange,
    responses((status = 200, description = "The queue", body = ScopeInfo))
)]
pub(super) async fn change(
    State(service): State<Service>,
    asks: Asks,
    Named(name): Named<String>,
    asked: Asked<QueueChange>,
) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    let is_name = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if !is_name {
        let detail = "a queue's name is 1 to 64 of a-z, A-Z, 0-9, _, - and .";
        return Err(Problem::new(ProblemKind::InvalidRequest, detail));
    }
    let change = asked.value;
    if change.concurrency == Some(Some(0)) {
        let detail = "a bound of 0; pause the queue instead";
        return Err(Problem::new(ProblemKind::InvalidBody, detail).at("/concurrency"));
    }
    let queue = &service.inner.queue;
    let rate = change
        .rate
        .map(|rate| rate.map(|rate| (rate.count, Duration::from_millis(rate.period_ms))));
    let bounds = Bounds {
        concurrency: change.concurrency,
        rate,
        weight: None,
    };
    queue.set_bounds(ScopeKind::Queue, &name, bounds).await?;
    if let Some(paused) = change.paused {
        queue.pause_all(ScopeKind::Queue, &name, paused).await?;
    }
    let queues = queue.scopes(ScopeKind::Queue).await?;
    match queues.into_iter().find(|queue| queue.name == name) {
        Some(queue) => Ok(Answer(queue).into_response()),
        None => Err(Problem::not_found("queue", name)),
    }
}
