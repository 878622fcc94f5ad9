//! Executions at once: with one answer, or with events on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::bounded;
use super::extract::{Answer, Asked, Asks, answered};
use super::idempotency::once;
use super::openapi::Labels;
use super::problem::{Problem, ProblemKind};
use super::state::Service;
use super::stream;
use crate::audit;
use crate::execution::{Clamped, Ran, Rejection, is_much_with};
use crate::grant::Denial;
use crate::serve::caller::{Caller, Scope};
use crate::skill::SkillRef;
use crate::turns::Party;
use crate::turns::aside::{aside_if, let_go};
use crate::turns::interrupt::within;
use crate::turns::threads::Kind;
use crate::{
    Admission, Attachment, Cause, Control, ExecutionRequest, ExecutionResult, LimitOverrides,
    Limits, Observer, SkillIdentity, Status,
};

/// What is to be executed. What it may touch is the policy's to say, and on whose behalf it runs is
/// the token's.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Execution {
    /// The skill: `name`, `name@version`, or `sha256:` and the digest.
    #[schema(value_type = super::openapi::SkillReference)]
    pub skill: SkillRef,
    /// The tool; may be left out where the skill has one only.
    #[serde(default, deserialize_with = "bounded::name")]
    #[schema(max_length = 255)]
    pub tool: Option<String>,
    /// The input: an object that fits the tool's schema.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub input: Map<String, Value>,
    /// Binary data beside the input.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// Limits, under those that the operator allows.
    #[serde(default)]
    pub limits: LimitOverrides,
    /// On whose behalf within the tenant: a person.
    #[serde(default, deserialize_with = "bounded::name")]
    #[schema(max_length = 255)]
    pub user: Option<String>,
    /// The conversation or session that this belongs to.
    #[serde(default, deserialize_with = "bounded::name")]
    #[schema(max_length = 255)]
    pub session: Option<String>,
    /// The moment after which an answer is of no use.
    #[serde(default)]
    pub deadline: Option<DateTime<Utc>>,
    /// Your own notes, which nothing here reads: at most 64, with names of at most 255 characters and values of at most
    /// 1,024.
    #[serde(default, deserialize_with = "bounded::labels")]
    #[schema(value_type = Labels)]
    pub labels: BTreeMap<String, String>,
}

impl Execution {
    /// The request that it comes to for this caller.
    pub fn request(self, caller: &Caller) -> ExecutionRequest {
        let mut request = ExecutionRequest::new(self.skill, Value::Object(self.input));
        request.tool = self.tool;
        request.attachments = self.attachments;
        request.limits = self.limits;
        request.tenant = caller.tenant().map(str::to_owned);
        request.user = self.user;
        request.session = self.session;
        request.deadline = self.deadline;
        request.labels = self.labels;
        request
    }
}

/// Execute a skill
///
/// Answers once it has ended: with the output, or with a problem that says why there is none. Where the
/// header `Accept` asks for `text/event-stream`, it answers at once, with the events `admitted`,
/// `started`, `progress`, `log`, `denied`, and at the end `finished` with the result, whatever its
/// status. A client that takes them too slowly misses some, of which `dropped` says how many. One that goes
/// away, or whose token is revoked or expires meanwhile, stops the skill.
#[utoipa::path(
    post, path = "/v1/executions", tag = "executions",
    params(super::openapi::Idempotent),
    request_body = Execution,
    responses((status = 200, description = "What the tool answered, or the events",
        content((ExecutionResult = "application/json"), (String = "text/event-stream"))))
)]
pub(super) async fn execute(
    State(service): State<Service>,
    asks: Asks,
    headers: HeaderMap,
    asked: Asked<Execution>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Execute)?;
    let request = asked.value.request(caller);
    if wants_events(&headers) {
        if asked.key.is_some() {
            let detail = "an `Idempotency-Key` does not go with `text/event-stream`";
            return Err(Problem::new(ProblemKind::InvalidRequest, detail));
        }
        return stream::execution(&service, caller, request, asked.held);
    }
    let answer = async {
        let execute = &service.inner.execute;
        let (tool, skill) = (request.tool.clone(), request.skill.clone());
        let ran = Arc::new(Ran::default());
        let control = Control::default()
            .caller(caller.name())
            .observer(Arc::clone(&ran) as Arc<dyn Observer>);
        // Nobody knows how much of it was done, and doing it twice may do harm.
        let harms = |skill: SkillRef| {
            let mut asked = ExecutionRequest::new(skill, Value::Null);
            asked.tool.clone_from(&tool);
            execute.is_destructive(&asked)
        };
        let result = match execute.execute(request, control).await {
            Ok(result) => result,
            Err(error) => {
                let problem = Problem::from(error);
                let harms = ran.what_began(&skill).is_some_and(harms);
                return Err(if harms { problem.once() } else { problem });
            }
        };
        if result.failure.is_none() {
            let is_large = is_much_with(result.output.as_ref(), &result.attachments);
            return Ok(answered(caller, is_large, result).await);
        }
        let skill = result.skill.as_ref().map(|skill| skill.digest.into());
        let harms = result.status != Status::Rejected && skill.is_some_and(harms);
        let problem = Problem::of_result(result);
        Err(if harms { problem.once() } else { problem })
    };
    once(&service, caller, asked.key.as_ref(), answer).await
}

/// Whether a request would be admitted now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Check {
    /// Whether it would.
    admitted: bool,
    /// Why not, if not.
    problem: Option<Problem>,
    /// The skill, where it is there.
    skill: Option<SkillIdentity>,
    /// The tool, where it could be determined.
    tool: Option<String>,
    /// The limits that would apply.
    limits: Limits,
    /// The limits that are lower than what the request, or its skill, asked for.
    clamped: Vec<Clamped>,
    /// What the skill declares and is not granted. It may run without.
    missing: Vec<Denial>,
}

impl From<Admission> for Check {
    fn from(admission: Admission) -> Self {
        Check {
            admitted: admission.is_admitted(),
            problem: admission.refusal.map(Problem::from),
            skill: admission.skill.map(Arc::unwrap_or_clone),
            tool: admission.tool,
            limits: admission.limits,
            clamped: admission.clamped,
            missing: admission.missing,
        }
    }
}

/// Look whether an execution would be admitted
///
/// Calls no tool, asks nobody, and counts as nothing. A skill that is not loaded yet is: it may be compiled, and asked
/// what it is (`describe`), under the limits of the host. What waits or is counted is told as it stands at this
/// moment.
#[utoipa::path(
    post, path = "/v1/executions/check", tag = "executions",
    request_body = Execution,
    responses((status = 200, description = "Whether it would, and if not, why", body = Check))
)]
pub(super) async fn check(
    State(service): State<Service>,
    asks: Asks,
    asked: Asked<Execution>,
) -> Result<Response, Problem> {
    let caller = asks.need(Scope::Execute)?;
    let mut request = asked.value.request(caller);
    // One whose skill cannot be had is looked at all the same, and told so.
    let _ = service.inner.execute.ready(&request).await;
    let admission = admission(&service, &mut request).await;
    if is_much_with(Some(&request.input), &request.attachments) {
        let_go(&Party::of(caller.tenant(), ""), request);
    }
    let admission = admission?;
    Ok(Answer(Check::from(admission)).into_response())
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .find_map(|range| match range {
            "text/event-stream" => Some(true),
            "application/json" | "*/*" => Some(false),
            _ => None,
        })
        .unwrap_or(false)
}

/// The threads on which requests are looked at.
pub(super) const LOOKS: Kind = Kind {
    name: "skillhost-look",
    threads: 16,
    each: 8,
    max_waiting: 10_000,
    stack_bytes: None,
};
/// Those on which large ones are: it is computing, for the most part, of which nobody has more than two processors.
pub(super) const LARGE_LOOKS: Kind = Kind {
    name: "skillhost-large",
    threads: 8,
    each: 2,
    max_waiting: 10_000,
    stack_bytes: None,
};
/// How long it may take to look at one, with what it waits for a thread.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a request would be admitted, its skill being [ready](crate::Execute::ready).
async fn admission(
    service: &Service,
    request: &mut ExecutionRequest,
) -> Result<Admission, Problem> {
    // It opens what is granted, and a disk that does not answer holds the thread for as long as that lasts; so there are
    // turns, and nobody has all of them.
    let execute = Arc::clone(&service.inner.execute);
    // There are several ways to say which skill.
    let skill = match execute.resolve(request) {
        Ok(resolution) => resolution.skill.name.to_string(),
        Err(_) => request.skill.to_string(),
    };
    let party = Party::of(request.tenant.as_deref(), &skill);
    let is_large = is_much_with(Some(&request.input), &request.attachments);
    let unread = ExecutionRequest::new(request.skill.clone(), Value::Null);
    let asked = std::mem::replace(request, unread);
    let asked = Looked {
        aside: is_large.then(|| party.clone()),
        request: Some(asked),
    };
    // Nobody waits for longer, and somebody else may have the thread.
    let over = Instant::now() + PATIENCE;
    let look = move || {
        let admission = asked.request.as_ref();
        let admission = admission.map(|asked| within(over, || execute.can_execute(asked)));
        (admission, asked)
    };
    let unavailable = |detail: &'static str| {
        let problem = Problem::new(ProblemKind::Unavailable, detail);
        problem.retry_after(Duration::from_secs(1))
    };
    let threads = match is_large {
        true => &service.inner.large_looks,
        false => &service.inner.looks,
    };
    let looking = threads.spawn(&party, look).map_err(|error| {
        tracing::error!(%error, "whether a request would be admitted cannot be said");
        unavailable("the request cannot be looked at now: there are too many, or no thread for it")
    })?;
    let looked = tokio::time::timeout(PATIENCE, looking).await.map_err(|_| {
        unavailable(
            "the request cannot be looked at now: a disk does not answer, its input takes too long to check, or others of \
             yours are looked at before it",
        )
    })?;
    let failed = || Problem::new(ProblemKind::Internal, "the request could not be looked at");
    let (admission, mut asked) = looked.map_err(|error| {
        tracing::error!(?error, "whether a request would be admitted cannot be said");
        failed()
    })?;
    *request = asked.request.take().ok_or_else(failed)?;
    admission.ok_or_else(failed)
}

/// A request that is looked at. Where it is large, and is dropped wherever that may be, that is done aside.
struct Looked {
    request: Option<ExecutionRequest>,
    /// Whose it is, where it is large.
    aside: Option<Party>,
}

impl Drop for Looked {
    fn drop(&mut self) {
        if let (Some(request), Some(party)) = (self.request.take(), &self.aside) {
            let_go(party, request);
        }
    }
}

/// What is said of an execution before it is kept as a job, its skill being
/// [ready](crate::Execute::ready): what would not be admitted at any time, such as for an input that does
/// not fit, is refused now. What may pass, or wants somebody's word, is not.
pub(super) async fn look(
    service: &Service,
    caller: &Caller,
    request: &mut ExecutionRequest,
) -> Result<Admission, Problem> {
    let admission = admission(service, request).await?;
    match &admission.refusal {
        None => Ok(admission),
        Some(failure) => match &failure.cause {
            Cause::Rejected { reason, retry_at }
                if reason.is_temporary()
                    || retry_at.is_some()
                    || *reason == Rejection::Approval =>
            {
                Ok(admission)
            }
            _ => {
                if let Some(audit) = &service.inner.audit {
                    let control = Control::default().caller(caller.name());
                    let (audit, known) = (Arc::clone(audit), admission.skill.clone());
                    let refusal = failure.clone();
                    let write = move |request: ExecutionRequest| {
                        audit::refused(&*audit, &request, known, &control, &refusal)
                    };
                    let unread = ExecutionRequest::new(request.skill.clone(), Value::Null);
                    let request = std::mem::replace(request, unread);
                    let is_much = is_much_with(Some(&request.input), &request.attachments);
                    let party = || Party::of(caller.tenant(), "");
                    let written = aside_if(is_much, party, request, write).await;
                    if let Err(error) = written {
                        tracing::error!(%error, "what was refused is not in the audit");
                    }
                }
                Err(failure.clone().into())
            }
        },
    }
}
