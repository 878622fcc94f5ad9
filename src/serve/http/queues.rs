//! Queues, tenants and skills: paused, and bounded over all workers.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Asked, Asks, Named};
use super::openapi::{QueueName, SkillName, TenantName};
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::queue::{Bounds, ScopeInfo, ScopeKind};
use crate::serve::caller::Scope;
use crate::skill::SkillRef;

/// The longest name of a tenant, in bytes.
const MAX_TENANT: usize = 255;
/// What a tenant's part may be.
const WEIGHTS: RangeInclusive<u32> = 1..=1_000;

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

/// Every tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantList {
    /// By name; the empty one has the jobs that are no tenant's.
    tenants: Vec<ScopeInfo>,
}

/// List tenants: what holds for their jobs
#[utoipa::path(
    get, path = "/v1/tenants", tag = "queues",
    responses((status = 200, description = "The tenants", body = TenantList))
)]
pub(super) async fn tenants(
    State(service): State<Service>,
    asks: Asks,
) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    let tenants = service.inner.queue.scopes(ScopeKind::Tenant).await?;
    Ok(Answer(TenantList { tenants }).into_response())
}

/// Every skill that has, or had, jobs or bounds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SkillBoundsList {
    /// By name; the empty one has the jobs that execute none.
    skills: Vec<ScopeInfo>,
}

/// List what holds for the jobs of skills
#[utoipa::path(
    get, path = "/v1/skill-bounds", tag = "queues",
    responses((status = 200, description = "The skills", body = SkillBoundsList))
)]
pub(super) async fn skills(
    State(service): State<Service>,
    asks: Asks,
) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    let skills = service.inner.queue.scopes(ScopeKind::Skill).await?;
    Ok(Answer(SkillBoundsList { skills }).into_response())
}

/// What is to change about a queue or a skill. What is left out stays as it is.
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

/// What is to change about a tenant. What is left out stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantChange {
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
    /// Its part in proportion to others': 1 unless set.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    weight: Option<u32>,
}

impl From<QueueChange> for TenantChange {
    fn from(change: QueueChange) -> Self {
        TenantChange {
            paused: change.paused,
            concurrency: change.concurrency,
            rate: change.rate,
            weight: None,
        }
    }
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
    changed(&service, ScopeKind::Queue, &name, asked.value.into()).await
}

/// Pause, resume or bound a tenant
///
/// What runs is not touched. A tenant that has had no jobs yet can be bounded, too.
#[utoipa::path(
    patch, path = "/v1/tenants/{tenant}", tag = "queues",
    params(("tenant" = TenantName, Path, description = "The tenant")),
    request_body = TenantChange,
    responses((status = 200, description = "The tenant", body = ScopeInfo))
)]
pub(super) async fn change_tenant(
    State(service): State<Service>,
    asks: Asks,
    Named(name): Named<String>,
    asked: Asked<TenantChange>,
) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    if !(1..=MAX_TENANT).contains(&name.len()) || name.contains(char::is_control) {
        let detail =
            format!("a tenant's name is 1 to {MAX_TENANT} bytes, without control characters");
        return Err(Problem::new(ProblemKind::InvalidRequest, detail));
    }
    let change = asked.value;
    if change
        .weight
        .is_some_and(|weight| !WEIGHTS.contains(&weight))
    {
        let detail = format!("a weight is {} to {}", WEIGHTS.start(), WEIGHTS.end());
        return Err(Problem::new(ProblemKind::InvalidBody, detail).at("/weight"));
    }
    changed(&service, ScopeKind::Tenant, &name, change).await
}

/// Pause, resume or bound the jobs of a skill, whichever version
///
/// What runs is not touched. A skill that has had no jobs yet can be bounded, too.
#[utoipa::path(
    patch, path = "/v1/skill-bounds/{skill}", tag = "queues",
    params(("skill" = SkillName, Path, description = "The name of the skill")),
    request_body = QueueChange,
    responses((status = 200, description = "The skill", body = ScopeInfo))
)]
pub(super) async fn change_skill(
    State(service): State<Service>,
    asks: Asks,
    Named(name): Named<String>,
    asked: Asked<QueueChange>,
) -> Result<Response, Problem> {
    asks.need(Scope::Administer)?;
    let is_name = matches!(name.parse(), Ok(SkillRef::Name { version: None, .. }));
    if !is_name {
        let detail = "what is bounded is a skill by its name, without version or digest";
        return Err(Problem::new(ProblemKind::InvalidRequest, detail));
    }
    changed(&service, ScopeKind::Skill, &name, asked.value.into()).await
}

async fn changed(
    service: &Service,
    kind: ScopeKind,
    name: &str,
    change: TenantChange,
) -> Result<Response, Problem> {
    if change.concurrency == Some(Some(0)) {
        let detail = format!("a bound of 0; pause the {kind} instead");
        return Err(Problem::new(ProblemKind::InvalidBody, detail).at("/concurrency"));
    }
    let queue = &service.inner.queue;
    let rate = change
        .rate
        .map(|rate| rate.map(|rate| (rate.count, Duration::from_millis(rate.period_ms))));
    let bounds = Bounds {
        concurrency: change.concurrency,
        rate,
        weight: change.weight,
    };
    queue.set_bounds(kind, name, bounds).await?;
    if let Some(paused) = change.paused {
        queue.pause_all(kind, name, paused).await?;
    }
    let scopes = queue.scopes(kind).await?;
    match scopes.into_iter().find(|scope| scope.name == name) {
        Some(scope) => Ok(Answer(scope).into_response()),
        None => Err(Problem::not_found(kind.as_str(), name)),
    }
}
