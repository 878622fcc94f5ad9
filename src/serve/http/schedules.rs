//! Schedules: jobs that come up again and again.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Answer, Asked, Asks, Named, Parameters};
use super::jobs::submit::{Submission, look_at};
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use crate::queue::schedule::{MAX_OWN_NAME, Missed, Schedule, full_name, own_name};
use crate::queue::{Priority, QueueError, Recurring};
use crate::serve::caller::{Caller, Scope, Tenancy};

/// A schedule, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(super) struct ScheduleView {
    /// Its name.
    name: String,
    /// When, as a cron expression.
    cron: String,
    /// The time zone that the expression is read in.
    time_zone: String,
    /// What becomes of firings that nobody took, for no worker ran.
    missed: Missed,
    /// On whose behalf its jobs run.
    tenant: Option<String>,
    /// The name of its jobs' skill.
    skill: String,
    /// Their tool.
    tool: Option<String>,
    /// Their queue.
    queue: String,
    /// How urgent they are.
    priority: Priority,
    /// When it was added.
    created_at: DateTime<Utc>,
    /// When it fired last.
    last: Option<DateTime<Utc>>,
    /// When it fires next.
    next: Option<DateTime<Utc>>,
}

impl From<Recurring> for ScheduleView {
    fn from(recurring: Recurring) -> Self {
        let Recurring {
            name,
            schedule,
            job,
            created_at,
            last,
            next,
        } = recurring;
        ScheduleView {
            name: own_name(&name).to_owned(),
            cron: schedule.cron().to_owned(),
            time_zone: schedule.time_zone().to_owned(),
            missed: schedule.missed,
            skill: job.skill(),
            tool: job.work.tool().map(str::to_owned),
            tenant: job.tenant,
            queue: job.queue,
            priority: job.priority,
            created_at,
            last,
            next,
        }
    }
}

/// Every schedule.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScheduleList {
    /// By name, and then by tenant.
    schedules: Vec<ScheduleView>,
}

/// List schedules
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedules",
    responses((status = 200, description = "The schedules", body = ScheduleList))
)]
pub(super) async fn list(State(service): State<Service>, asks: Asks) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Jobs)?;
    let schedules = service.inner.queue.schedules(caller.tenant()).await?;
    let own = schedules
        .into_iter()
        .filter(|schedule| caller.may_see(schedule.job.tenant.as_deref()));
    let mut schedules: Vec<ScheduleView> = own.map(ScheduleView::from).collect();
    schedules.sort_by(|a, b| (&a.name, &a.tenant).cmp(&(&b.name, &b.tenant)));
    Ok(Answer(ScheduleList { schedules }).into_response())
}

/// When, and what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSchedule {
    /// Minute, hour, day of the month, month, day of the week: such as `0 9 * * MON-FRI`.
    #[schema(value_type = super::openapi::Cron)]
    cron: String,
    /// The time zone that the expression is read in, such as `Europe/Zurich`; `UTC` unless set.
    #[serde(default = "utc")]
    #[schema(value_type = super::openapi::TimeZone)]
    time_zone: String,
    /// What becomes of firings that nobody took, for no worker ran.
    #[serde(default)]
    missed: Missed,
    /// What each firing submits. It has no time, deadline or key of its own.
    job: Submission,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Whose schedule is meant.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// The tenant, for an operator: unless set, one that is no tenant's. A token acts for its own, and
    /// need not say so.
    #[param(min_length = 1, max_length = 255)]
    tenant: Option<String>,
}

impl Whose {
    /// The caller, as who it is whose schedule is meant.
    fn acting(self, caller: &Caller) -> Result<Caller, Problem> {
        match (&caller.tenancy, self.tenant) {
            (_, None) => Ok(caller.clone()),
            (Tenancy::Everybody, Some(tenant)) => Ok(caller.clone().for_tenant(tenant)),
            (Tenancy::Tenant(own), Some(tenant)) if tenant == **own => Ok(caller.clone()),
            (Tenancy::Tenant(_), Some(tenant)) => Err(Problem::not_found("tenant", tenant)),
        }
    }
}

/// The schedule that is called so by whose it is: the caller's tenant's, or nobody's.
async fn find(
    service: &Service,
    caller: &Caller,
    name: &str,
) -> Result<Option<Recurring>, Problem> {
    let full = full_name(caller.tenant(), name);
    // One that was submitted by a program may be kept under its bare name.
    for name in [full.as_str(), name] {
        match service.inner.queue.schedule(name).await {
            Ok(found) if found.job.tenant.as_deref() == caller.tenant() => return Ok(Some(found)),
            Ok(_) | Err(QueueError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Look at a schedule
#[utoipa::path(
    get, path = "/v1/schedules/{name}", tag = "schedules",
    params(("name" = String, Path, description = "The schedule"), Whose),
    responses((status = 200, description = "The schedule", body = ScheduleView))
)]
pub(super) async fn show(
    State(service): State<Service>,
    asks: Asks,
    Named(name): Named<String>,
    Parameters(whose): Parameters<Whose>,
) -> Result<Response, Problem> {
    let caller = whose.acting(asks.need(Scope::Jobs)?)?;
    match find(&service, &caller, &name).await? {
        Some(found) => Ok(Answer(ScheduleView::from(found)).into_response()),
        None => Err(Problem::not_found("schedule", name)),
    }
}

/// Add a schedule, or put another in the place of the one of this name
#[utoipa::path(
    put, path = "/v1/schedules/{name}", tag = "schedules",
    params(("name" = super::openapi::ScheduleName, Path, description = "The schedule"), Whose),
    request_body = NewSchedule,
    responses((status = 200, description = "The schedule", body = ScheduleView))
)]
pub(super) async fn put(
    State(service): State<Service>,
    asks: Asks,
    Named(name): Named<String>,
    Parameters(whose): Parameters<Whose>,
    asked: Asked<NewSchedule>,
) -> Result<Response, Problem> {
    let caller = whose.acting(asks.need(Scope::Jobs)?)?;
    let is_name = (1..=MAX_OWN_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    // A path with `.` or `..` in it leads elsewhere. And a name never looks like one that stands under a
    // tenant's.
    if !is_name || name.starts_with('.') || own_name(&name) != name {
        let detail = format!(
            "a name is 1 to {MAX_OWN_NAME} of a-z, A-Z, 0-9, _, - and ., and does not begin with ."
        );
        return Err(Problem::new(ProblemKind::InvalidRequest, detail));
    }
    let wanted = asked.value;
    let schedule = Schedule::new(&wanted.cron, &wanted.time_zone)
        .map_err(|error| Problem::new(ProblemKind::InvalidBody, error.to_string()))?
        .missed(wanted.missed);
    if wanted.job.has_time() {
        let detail = "a schedule's jobs have no `at`, `delay_ms`, `deadline`, `key` or `paused` of their own";
        return Err(Problem::new(ProblemKind::InvalidBody, detail).at("/job"));
    }
    let job = wanted.job.job(&service.inner.callbacks, &caller);
    let mut job = job.map_err(|problem| problem.within("/job"))?;
    look_at(&service, &caller, &mut job).await?;
    let full = match find(&service, &caller, &name).await? {
        Some(found) => found.name,
        None => full_name(caller.tenant(), &name),
    };
    let added = service.inner.queue.put_schedule(&full, schedule, job);
    Ok(Answer(ScheduleView::from(added.await?)).into_response())
}

/// Remove a schedule
///
/// Jobs that it submitted stay.
#[utoipa::path(
    delete, path = "/v1/schedules/{name}", tag = "schedules",
    params(("name" = String, Path, description = "The schedule"), Whose),
    responses((status = 204, description = "It is removed"))
)]
pub(super) async fn remove(
    State(service): State<Service>,
    asks: Asks,
    Named(name): Named<String>,
    Parameters(whose): Parameters<Whose>,
) -> Result<Response, Problem> {
    let caller = whose.acting(asks.need(Scope::Jobs)?)?;
    let Some(found) = find(&service, &caller, &name).await? else {
        return Err(Problem::not_found("schedule", name));
    };
    service.inner.queue.remove_schedule(&found.name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
