//! What goes on, in numbers; and the policy.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Answer, Asks, Parameters};
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::queue::{JobStatus, Statistics};
use crate::serve::caller::Scope;

/// How many jobs the caller has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnStatistics {
    /// When this was read.
    at: DateTime<Utc>,
    /// All jobs that are kept.
    total: u64,
    /// How many have which status.
    by_status: BTreeMap<JobStatus, u64>,
    /// The same by queue.
    by_queue: BTreeMap<String, BTreeMap<JobStatus, u64>>,
    /// How many are dead of which cause.
    dead_by_cause: BTreeMap<String, u64>,
}

/// Count your jobs
#[utoipa::path(
    get, path = "/v1/statistics", tag = "statistics",
    responses((status = 200, description = "How many jobs there are", body = OwnStatistics))
)]
pub(super) async fn own(State(service): State<Service>, asks: Asks) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let counts = service.inner.queue.counts_of(caller.tenant()).await?;
    Ok(Answer(OwnStatistics {
        at: service.inner.queue.now(),
        total: counts.by_status.values().sum(),
        by_status: counts.by_status,
        by_queue: counts.by_queue,
        dead_by_cause: counts.dead_by_cause,
    })
    .into_response())
}

/// Over which time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Window {
    /// Times and rates over the last so many hours: 1 to 168; 24 unless set.
    #[param(minimum = 1, maximum = 168)]
    hours: Option<u32>,
}

/// See what goes on in the whole queue
///
/// Counts, waits, run times and workers, over all tenants.
#[utoipa::path(
    get, path = "/v1/statistics/all", tag = "statistics",
    params(Window),
    responses((status = 200, description = "What goes on", body = Statistics))
)]
pub(super) async fn all(
    State(service): State<Service>,
    asks: Asks,
    Parameters(window): Parameters<Window>,
) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    let hours = window.hours.unwrap_or(24);
    if !(1..=168).contains(&hours) {
        let detail = "`hours` is 1 to 168";
        return Err(Problem::new(ProblemKind::InvalidRequest, detail));
    }
    let statistics = service.inner.queue.statistics(hours).await?;
    Ok(Answer(statistics).into_response())
}

/// The policy that holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PolicyView {
    /// The policy, in the form of its file, or nothing where there is none. Values of environment
    /// variables and configuration keys are left out.
    #[schema(value_type = Option<Object>)]
    policy: Option<Value>,
}

/// Read the policy
#[utoipa::path(
    get, path = "/v1/policy", tag = "policy",
    responses((status = 200, description = "The policy", body = PolicyView))
)]
pub(super) async fn policy(
    State(service): State<Service>,
    asks: Asks,
) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    let policy = service.inner.policy.as_ref().and_then(|read| read());
    let policy = match policy {
        Some(policy) => Some(serde_json::to_value(&*policy).map_err(|error| {
            tracing::error!(%error, "the policy cannot be written");
            Problem::new(ProblemKind::Internal, "the policy cannot be written")
        })?),
        None => None,
    };
    let policy = policy.map(without_values);
    Ok(Answer(PolicyView { policy }).into_response())
}

/// The same without values that may be secret.
fn without_values(mut policy: Value) -> Value {
    let Some(skills) = policy.get_mut("skills").and_then(Value::as_object_mut) else {
        return policy;
    };
    for skill in skills.values_mut() {
        for kind in ["environment", "config", "secrets"] {
            let Some(values) = skill
                .get_mut("grants")
                .and_then(|grants| grants.get_mut(kind))
            else {
                continue;
            };
            if let Some(values) = values.as_object_mut() {
                for value in values.values_mut() {
                    *value = Value::String("…".to_owned());
                }
            } else if let Some(values) = values.as_array_mut() {
                for value in values.iter_mut().filter_map(Value::as_object_mut) {
                    value.insert("value".to_owned(), Value::String("…".to_owned()));
                }
            }
        }
    }
    policy
}
