//! Asking the person behind a client whether a tool may run.

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction,
    ElicitationSchema, InputRequest, InputRequiredResult,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::call::{Who, is_current};
use super::catalog::Entry;
use super::{Inner, question};
use crate::serve::Scope;
use crate::text::{printable, shortened};

/// Under which name the question is asked.
pub(super) const QUESTION: &str = "approve";
/// How much of the input is shown to whoever is asked, in bytes.
const MAX_SHOWN: usize = 2 << 10;

/// What became of the question.
pub(super) enum Asked {
    /// It may run.
    Approved,
    /// Somebody said no.
    Declined,
    /// The client is to ask, and to call again with the answer.
    First(InputRequiredResult),
    /// The client cannot ask anybody.
    Nobody,
}

/// What makes one call another.
fn fingerprint(params: &CallToolRequestParams, entry: &Entry) -> [u8; 32] {
    let arguments = serde_json::to_vec(&params.arguments).unwrap_or_default();
    let mut hasher = Sha256::new();
    hasher.update(entry.skill.identity.digest.to_string());
    hasher.update([0]);
    hasher.update(entry.tool().name.as_bytes());
    hasher.update([0]);
    hasher.update(&arguments);
    hasher.finalize().into()
}

/// Finds out whether a call may run: from the answer that it brings, or by asking.
///
/// # Errors
/// Where the answer cannot be understood.
pub(super) async fn ask(
    server: &Inner,
    who: &Who,
    params: &CallToolRequestParams,
    entry: &Entry,
    context: &RequestContext<RoleServer>,
) -> Result<Asked, ErrorData> {
    let call = fingerprint(params, entry);
    // Whoever calls for somebody else need not be who may approve.
    if !who.caller.scopes.has(Scope::Approve) {
        return Ok(Asked::Nobody);
    }
    if let (Some(state), Some(answers)) = (&params.request_state, &params.input_responses)
        && question::take(server, who, state, call).await?
    {
        return answered(answers.get(QUESTION));
    }
    if !can_ask(context) {
        return Ok(Asked::Nobody);
    }
    let words = question_of(params, entry)?;
    if is_current(context) {
        let state = question::ask(server, who, call).await?;
        let request = InputRequest::Elicitation(ElicitRequest::new(words));
        let requests = [(QUESTION.to_owned(), request)].into();
        let first = InputRequiredResult::new(Some(requests), Some(state));
        return Ok(Asked::First(first));
    }
    let wait = server.settings.approval_wait;
    let asked = context
        .peer
        .create_elicitation_with_timeout(words, Some(wait));
    tokio::select! {
        asked = asked => match asked {
            Ok(answer) => Ok(meant(&answer)),
            Err(error) => {
                tracing::debug!("an approval could not be asked for: {error}");
                Ok(Asked::Declined)
            }
        },
        () = context.ct.cancelled() => Ok(Asked::Declined),
    }
}

/// Whether there is a person behind the client who can be asked, and may approve.
pub(super) fn is_there(who: &Who, context: &RequestContext<RoleServer>) -> bool {
    who.caller.scopes.has(Scope::Approve) && can_ask(context)
}

/// Whether the client says that it can ask a person.
pub(super) fn can_ask(context: &RequestContext<RoleServer>) -> bool {
    let capabilities = context.client_capabilities();
    capabilities
        .and_then(|capabilities| capabilities.elicitation)
        .is_some_and(|elicitation| elicitation.form.is_some() || elicitation.url.is_none())
}

/// What an answer means that came with a call.
pub(super) fn answered(answer: Option<&Value>) -> Result<Asked, ErrorData> {
    let Some(answer) = answer else {
        let message = format!("inputResponses has no answer to `{QUESTION}`");
        return Err(ErrorData::invalid_params(message, None));
    };
    match serde_json::from_value(answer.clone()) {
        Ok(answer) => Ok(meant(&answer)),
        Err(error) => {
            let message = format!("the answer to `{QUESTION}` cannot be understood: {error}");
            Err(ErrorData::invalid_params(message, None))
        }
    }
}

fn meant(answer: &ElicitResult) -> Asked {
    match answer.action {
        ElicitationAction::Accept => Asked::Approved,
        _ => Asked::Declined,
    }
}

/// The question, as a person reads it. What a stranger wrote stands in it as data.
fn question_of(
    params: &CallToolRequestParams,
    entry: &Entry,
) -> Result<ElicitRequestParams, ErrorData> {
    let arguments = serde_json::to_string(&params.arguments).unwrap_or_default();
    question_about(&entry.skill.identity.name, &entry.tool().name, &arguments)
}

/// The question whether a tool may run with this input.
pub(super) fn question_about(
    skill: &str,
    tool: &str,
    input: &str,
) -> Result<ElicitRequestParams, ErrorData> {
    let input = shortened(&printable(input, false), MAX_SHOWN).into_owned();
    let message = format!(
        "May the tool `{}` of the skill `{}` run? It may change or delete what was there before. Its \
         input: {input}",
        printable(tool, false),
        printable(skill, false),
    );
    let requested_schema = ElicitationSchema::builder()
        .build()
        .map_err(|error| ErrorData::internal_error(error, None))?;
    Ok(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message,
        requested_schema,
    })
}
