//! Whether the server lives, and whether requests should come.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::circuits;
use super::extract::{Answer, Asks};
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::serve::caller::Scope;

/// How long the database may take to answer before the server is not ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// All is well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    #[schema(value_type = String)]
    status: &'static str,
}

/// See whether the server lives
#[utoipa::path(
    get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "It lives", body = Health))
)]
pub(super) async fn live() -> Response {
    Answer(Health { status: "ok" }).into_response()
}

/// See whether requests should come
///
/// Not once it is to stop, nor while the database cannot be reached.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "They should", body = Health))
)]
pub(super) async fn ready(State(service): State<Service>) -> Result<Response, Problem> {
    let unready = |detail: &'static str| Err(Problem::new(ProblemKind::Unavailable, detail));
    if service.inner.stopping.is_cancelled() {
        return unready("the server is to stop");
    }
    match tokio::time::timeout(PATIENCE, service.inner.queue.last_event()).await {
        Ok(Ok(_)) => Ok(Answer(Health { status: "ok" }).into_response()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database cannot be used");
            unready("the database cannot be used")
        }
        Err(_) => unready("the database does not answer"),
    }
}

/// Read the metrics, in the text format of OpenMetrics
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "The metrics",
        content((String = "application/openmetrics-text"))))
)]
pub(super) async fn metrics(
    State(service): State<Service>,
    asks: Asks,
) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    let circuits = circuits::standing(&service).await;
    let metrics = &service.inner.metrics;
    let text = metrics.text(&service.inner.queue, &circuits).await?;
    let mut response = text.into_response();
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}
