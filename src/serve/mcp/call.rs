//! Calling a tool.

#![expect(
    deprecated,
    reason = "log records are deprecated in the current revision, and still wanted by clients"
)]

use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, JsonObject, LoggingLevel,
    ProtocolVersion,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::approval::{self, Asked, Subject};
use super::catalog::{Catalog, Entry};
use super::content::{self, Answer};
use super::kept::{Owner, piece};
use super::notify::{self, Wanted};
use super::tasks::Traced;
use super::{Inner, Running, builtin, input};
use crate::execution::{Ask, BoxFuture, Decision, Question, Rejection};
use crate::serve::{Caller, Scope};
use crate::skill::Digest;
use crate::text::{closest, printable, shortened};
use crate::{Cause, Control, ExecutionRequest, ExecutionResult, Failure};

/// A client asks for a task by this entry of `_meta`.
const AS_TASK: &str = "skillhost/task";

/// Who calls, and how it wants to hear of it.
pub(super) struct Who {
    pub caller: Caller,
    pub owner: Owner,
    /// The session, for records.
    pub session: Uuid,
    /// Whether other processes can be asked by the same owner.
    #[cfg_attr(
        not(feature = "serve"),
        allow(dead_code, reason = "only over HTTP can they")
    )]
    pub shared: bool,
    /// From which level on the client wants log records.
    pub level: Option<LoggingLevel>,
}

/// Answers a call of a tool.
///
/// # Errors
/// Only where the call itself breaks the protocol: no such tool. Everything else is an answer that
/// says what was wrong.
pub(super) async fn call(
    server: &Arc<Inner>,
    who: Who,
    mut params: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    if !who.caller.scopes.has(Scope::Execute) {
        let message = "this token may not execute skills: it lacks the scope `execute`";
        return Ok(content::error(message).into());
    }
    let catalog = server.catalog().await?;
    match &*params.name {
        builtin::READ_OUTPUT => {
            return Ok(read_output(server, &who.owner, params.arguments).into());
        }
        builtin::SEARCH if server.settings.search => {
            let (of, arguments) = (Arc::clone(server), params.arguments);
            let search = move || builtin::search(&of, &catalog, arguments);
            return Ok(server.reading(&who.caller, search).await?.into());
        }
        builtin::CALL if server.settings.search => {
            let (name, arguments) = match builtin::unwrap(params.arguments.take()) {
                Ok(inner) => inner,
                Err(message) => return Ok(content::error(message).into()),
            };
            if catalog.find(&name).is_none() {
                return Ok(content::error(unknown(&catalog, &name)).into());
            }
            params.name = name.into();
            params.arguments = Some(arguments);
        }
        _ => {}
    }
    let none = || ErrorData::invalid_params(unknown(&catalog, &params.name), None);
    let entry = catalog.find(&params.name).ok_or_else(none)?;
    let Some(_permit) = server.permit(&who.owner) else {
        let message = format!(
            "{} calls are running already, which is as many as may; call again once one has ended",
            server.settings.concurrent_calls
        );
        return Ok(content::error(message).into());
    };
    let _running = Running::begin(&server.running);
    let gone = match run(server, &who, &params, entry, &context).await? {
        Ran::Answered(answer) => return Ok(answer),
        Ran::Gone(answer) => answer,
    };
    // It was replaced a moment ago. The name of the tool is what the client knows.
    if server.skills.refresh().await.is_ok()
        && let Ok(catalog) = server.catalog().await
        && let Some(now) = catalog.find(&entry.definition.name)
        && now.skill.identity.digest != entry.skill.identity.digest
    {
        return Ok(match run(server, &who, &params, now, &context).await? {
            Ran::Answered(answer) | Ran::Gone(answer) => answer,
        });
    }
    Ok(gone)
}

/// What became of a call of exactly the skill that is offered.
enum Ran {
    Answered(CallToolResponse),
    /// The skill is not there any more. Nothing has run, and nobody was asked.
    Gone(CallToolResponse),
}

fn unknown(catalog: &Catalog, name: &str) -> String {
    let shown = printable(&shortened(name, 200), false).into_owned();
    let names = catalog.tools.iter().map(|entry| &*entry.definition.name);
    match closest(name, names) {
        Some(close) => format!("there is no tool `{shown}`; did you mean `{close}`?"),
        None => format!("there is no tool `{shown}`"),
    }
}

/// Whether a client speaks the version of 2026-07-28, or a later one.
pub(super) fn is_current(context: &RequestContext<RoleServer>) -> bool {
    context
        .protocol_version()
        .is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

async fn run(
    server: &Arc<Inner>,
    who: &Who,
    params: &CallToolRequestParams,
    entry: &Entry,
    context: &RequestContext<RoleServer>,
) -> Result<Ran, ErrorData> {
    let answered = |answer: CallToolResult| Ok(Ran::Answered(answer.into()));
    let made = input::request(entry, params.arguments.clone(), &server.kept, &who.owner);
    let mut request = match made {
        Ok(request) => request,
        Err(message) => return answered(content::error(message)),
    };
    request.tenant = who.caller.tenant().map(str::to_owned);
    request.session = Some(who.session.to_string());
    if let Some(task) = as_task(server, who, entry, &request, context).await {
        return Ok(Ran::Answered(task));
    }
    let answer = Answer {
        settings: &server.settings,
        kept: &server.kept,
        owner: &who.owner,
        id: request.request_id,
        promised: entry.tool().output_schema.is_some(),
        takes_any: is_current(context),
    };
    // One that comes back with an answer has been rejected before.
    let brought = approval::brought(server, who, params, entry).await?;
    let decision = match brought {
        Some(Asked::Approved) => Decision::Once,
        Some(Asked::Declined) => Decision::Refuse,
        brought => {
            let person = approval::is_there(who, context).then(|| Arc::new(Person) as Arc<dyn Ask>);
            let control = Control {
                ask: person,
                ..Control::default()
            };
            let result = execute(server, who, entry, request.clone(), context, control).await;
            let result = match result {
                // Whoever has just put the question away is not asked at once again.
                Ok(result) if wants_approval(&result) && brought.is_none() => result,
                Ok(result) if entry.skill.installed && gone(&result) => {
                    return Ok(Ran::Gone(answer.of(result).into()));
                }
                Ok(result) => return answered(answer.of(result)),
                Err(failed) => return answered(failed),
            };
            let subject = Subject {
                name: &entry.skill.identity.name,
                skill: Some(&entry.skill.identity),
                tool: &entry.tool().name,
                is_destructive: entry.tool().annotations.destructive,
                rule: rule(&result),
                tenant: who.caller.tenant(),
                request: Some(&request),
            };
            match approval::ask(server, who, params, entry, &subject, context).await? {
                Asked::Approved => Decision::Once,
                Asked::Declined => Decision::Refuse,
                Asked::First(first) => return Ok(Ran::Answered(first.into())),
                // It waits for an answer, of whomever: how to give one stands in what is answered.
                Asked::Unanswered => return answered(answer.of(result)),
            }
        }
    };
    request.request_id = Uuid::now_v7();
    // What was approved is this skill, by its digest; one that has taken its place meanwhile is not it.
    let said = Said {
        digest: entry.skill.identity.digest,
        tool: entry.tool().name.clone(),
        decision,
        by: who.caller.name(),
    };
    let control = Control::default()
        .ask(Arc::new(said))
        .approved(decision != Decision::Refuse);
    let result = execute(server, who, entry, request, context, control).await;
    answered(match (decision, result) {
        // It was only told, so that it is written down.
        (Decision::Refuse, _) => declined(),
        (_, Ok(result)) => answer.of(result),
        (_, Err(failed)) => failed,
    })
}

fn declined() -> CallToolResult {
    content::error(
        "Whoever was asked did not approve this call. Do not call it again with the same input \
         unless they ask for it.",
    )
}

fn wants_approval(result: &ExecutionResult) -> bool {
    let cause = result.failure.as_ref().map(|failure| &failure.cause);
    matches!(
        cause,
        Some(Cause::Rejected {
            reason: Rejection::Approval,
            ..
        })
    )
}

/// The rule that asks for the approval.
fn rule(result: &ExecutionResult) -> Option<&str> {
    result.failure.as_ref()?.rule.as_deref()
}

/// The person behind the client, who is asked once it is known that an approval is wanted.
struct Person;

impl Ask for Person {
    fn ask<'a>(&'a self, _: Question<'a>) -> BoxFuture<'a, Option<Decision>> {
        Box::pin(std::future::ready(None))
    }

    fn asks_afterwards(&self) -> bool {
        true
    }
}

/// What whoever was asked by the client said of one tool of one skill, which answers for nothing else.
struct Said {
    digest: Digest,
    tool: String,
    decision: Decision,
    by: String,
}

impl Ask for Said {
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Option<Decision>> {
        let asked = question.skill.digest == self.digest && question.tool.name == self.tool;
        Box::pin(std::future::ready(asked.then_some(self.decision)))
    }

    fn who(&self) -> &str {
        &self.by
    }
}

fn gone(result: &ExecutionResult) -> bool {
    let cause = result.failure.as_ref().map(|failure| &failure.cause);
    matches!(cause, Some(Cause::NotLoaded))
}

/// Executes, tells the client what the guest says meanwhile, and stops the guest when the client
/// cancels or is gone.
async fn execute(
    server: &Inner,
    who: &Who,
    entry: &Entry,
    request: ExecutionRequest,
    context: &RequestContext<RoleServer>,
    control: Control,
) -> Result<ExecutionResult, CallToolResult> {
    let wanted = Wanted {
        progress: context.meta.get_progress_token(),
        level: context.meta.log_level().or(who.level),
        logger: entry.skill.identity.name.clone(),
    };
    let mut control = control
        .caller(who.caller.name())
        .cancellation(context.ct.clone());
    let result = match notify::notify(wanted, context.peer.clone()) {
        Some((observer, tell)) => {
            control = control.observer(observer);
            notify::while_telling(server.execute.execute(request, control), tell).await
        }
        None => server.execute.execute(request, control).await,
    };
    result.map_err(|error| {
        tracing::error!("the host is broken: {error}");
        let failure = Failure::new(Cause::HostError, "the host itself is broken");
        content::failed(&failure, chrono::Utc::now())
    })
}

/// Submits the call as a task, where the client knows tasks, and asked for one or the tool may run
/// for long.
async fn as_task(
    server: &Inner,
    who: &Who,
    entry: &Entry,
    request: &ExecutionRequest,
    context: &RequestContext<RoleServer>,
) -> Option<CallToolResponse> {
    let tasks = server.tasks.as_ref()?;
    let knows = context
        .client_capabilities()
        .is_some_and(|capabilities| capabilities.supports_tasks());
    if !knows {
        return None;
    }
    let asked = context.meta.get(AS_TASK) == Some(&Value::Bool(true));
    if !asked {
        server.execute.ready(request).await.ok()?;
        let resolved = server.execute.resolve(request).ok()?;
        if resolved.limits.wall_time <= server.settings.task_after {
            return None;
        }
    }
    let skill = &entry.skill.identity.name;
    let submitted = tasks.submit(skill, request.clone(), &who.caller, trace(context));
    Some(match submitted.await {
        Ok(task) => task.into(),
        Err(message) => content::error(message).into(),
    })
}

/// The trace of a call: that of the message, else that of the request that it came in.
#[cfg(feature = "serve")]
fn trace(context: &RequestContext<RoleServer>) -> Option<Traced> {
    use crate::serve::http::Trace;
    let said = |name: &str| context.meta.get(name).and_then(Value::as_str);
    let trace = Trace::said(said("traceparent"), said("tracestate"));
    let parts = context.extensions.get::<http::request::Parts>();
    let trace = trace.or_else(|| Trace::of_request(&parts?.extensions))?;
    Some(Traced {
        parent: trace.parent.to_string(),
        state: trace.state.as_deref().map(str::to_owned),
    })
}

#[cfg(not(feature = "serve"))]
fn trace(_: &RequestContext<RoleServer>) -> Option<Traced> {
    None
}

/// Reads on in an output that was cut.
fn read_output(server: &Inner, owner: &Owner, arguments: Option<JsonObject>) -> CallToolResult {
    let arguments = arguments.unwrap_or_default();
    let Some(uri) = arguments.get("uri").and_then(Value::as_str) else {
        return content::error("`uri` is missing: the address of a kept output");
    };
    let offset = match arguments.get("offset") {
        None | Some(Value::Null) => 0,
        Some(offset) => match offset
            .as_u64()
            .and_then(|offset| usize::try_from(offset).ok())
        {
            Some(offset) => offset,
            None => return content::error("`offset` is a whole number of bytes"),
        },
    };
    let Some(part) = server.kept.find(owner, uri) else {
        let message = "nothing is kept at that address; it may have been too long ago, or too much \
                       has come since. Call the tool again that gave it.";
        return content::error(message);
    };
    let text = match std::str::from_utf8(&part.data) {
        Ok(text) if part.text => text,
        _ => {
            return content::error(format!(
                "it is no text, but {}; read it as a resource, or attach it to another tool's call",
                part.media_type
            ));
        }
    };
    let Some(piece) = piece(
        text,
        offset,
        server.settings.output_tokens.saturating_mul(4),
    ) else {
        let message = format!("the offset is past the end, which is at {}", text.len());
        return content::error(message);
    };
    let rest = match piece.next {
        Some(next) => format!("[{} bytes in all. Read on from offset {next}.]", text.len()),
        None => "[This is the end.]".to_owned(),
    };
    let blocks = vec![
        rmcp::model::ContentBlock::text(printable(piece.text, true)),
        rmcp::model::ContentBlock::text(rest),
    ];
    let mut answer = CallToolResult::success(blocks);
    answer.structured_content = Some(json!({"text": piece.text, "next": piece.next}));
    answer
}
