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
use crate::execution::SkillIdentity;
use crate::limits::display_bytes;
use crate::serve::Scope;
use crate::text::{named, printable, shortened};
use crate::{Attachment, ExecutionRequest};

/// Under which name the question is asked.
pub(super) const QUESTION: &str = "approve";
/// How much of the input is shown to whoever is asked, in bytes.
const MAX_SHOWN: usize = 2 << 10;
/// How much of a name is, and how many attachments are.
const MAX_NAME: usize = 200;
const MAX_ATTACHMENTS: usize = 20;

/// What became of the question.
pub(super) enum Asked {
    /// It may run.
    Approved,
    /// Somebody said no.
    Declined,
    /// Nobody said anything: it was put away, or could not be asked. It stays open.
    Unanswered,
    /// The client is to ask, and to call again with the answer.
    First(InputRequiredResult),
}

/// What somebody is asked about.
pub(super) struct Subject<'a> {
    /// The name of the skill.
    pub name: &'a str,
    /// Exactly which one, where that is known.
    pub skill: Option<&'a SkillIdentity>,
    /// Which of its tools.
    pub tool: &'a str,
    /// Whether the tool may delete or overwrite what was there before.
    pub is_destructive: bool,
    /// The rule that asks, where it is known.
    pub rule: Option<&'a str>,
    /// On whose behalf.
    pub tenant: Option<&'a str>,
    /// What is asked for.
    pub request: Option<&'a ExecutionRequest>,
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

/// The answer that a call brings to a question that it was given; `None` where it brings none, or none that
/// was asked for.
///
/// # Errors
/// Where the answer cannot be understood.
pub(super) async fn brought(
    server: &Inner,
    who: &Who,
    params: &CallToolRequestParams,
    entry: &Entry,
) -> Result<Option<Asked>, ErrorData> {
    let (Some(state), Some(answers)) = (&params.request_state, &params.input_responses) else {
        return Ok(None);
    };
    // Whoever calls for somebody else need not be who may approve.
    if !who.caller.scopes.has(Scope::Approve)
        || !question::take(server, who, state, fingerprint(params, entry)).await?
    {
        return Ok(None);
    }
    answered(answers.get(QUESTION)).map(Some)
}

/// Finds out whether a call may run, by asking.
///
/// # Errors
/// Where the question cannot be kept.
pub(super) async fn ask(
    server: &Inner,
    who: &Who,
    params: &CallToolRequestParams,
    entry: &Entry,
    subject: &Subject<'_>,
    context: &RequestContext<RoleServer>,
) -> Result<Asked, ErrorData> {
    if !is_there(who, context) {
        return Ok(Asked::Unanswered);
    }
    let words = question_about(subject)?;
    if is_current(context) {
        let state = question::ask(server, who, fingerprint(params, entry)).await?;
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
                Ok(Asked::Unanswered)
            }
        },
        () = context.ct.cancelled() => Ok(Asked::Unanswered),
    }
}

/// Whether there is a person behind the client who can be asked, and may approve.
pub(super) fn is_there(who: &Who, context: &RequestContext<RoleServer>) -> bool {
    who.caller.scopes.has(Scope::Approve) && can_ask(context)
}

/// Whether the client says that it can ask a person.
fn can_ask(context: &RequestContext<RoleServer>) -> bool {
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
            let error = crate::text::said_of(&error, 500);
            let message = format!("the answer to `{QUESTION}` cannot be understood: {error}");
            Err(ErrorData::invalid_params(message, None))
        }
    }
}

/// Only who says no has refused it. Who puts the question away has said nothing.
fn meant(answer: &ElicitResult) -> Asked {
    match answer.action {
        ElicitationAction::Accept if is_no(answer.content.as_ref()) => Asked::Declined,
        ElicitationAction::Accept => Asked::Approved,
        ElicitationAction::Decline => Asked::Declined,
        _ => Asked::Unanswered,
    }
}

/// Whether what came with the answer says no: nothing is asked for, and a client may send a `false` all the
/// same.
fn is_no(content: Option<&Value>) -> bool {
    let fields = content.and_then(Value::as_object);
    fields.is_some_and(|fields| fields.values().any(|value| *value == Value::Bool(false)))
}

/// The question whether this may run, as a person reads it. What a stranger wrote stands in it as data.
pub(super) fn question_about(subject: &Subject<'_>) -> Result<ElicitRequestParams, ErrorData> {
    let requested_schema = ElicitationSchema::builder()
        .build()
        .map_err(|error| ErrorData::internal_error(error, None))?;
    Ok(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: text(subject),
        requested_schema,
    })
}

fn text(subject: &Subject<'_>) -> String {
    let mut text = format!(
        "May the tool `{}` of the skill `{}` run?",
        named(subject.tool, MAX_NAME),
        named(subject.name, MAX_NAME),
    );
    if subject.is_destructive {
        text.push_str(" It may change or delete what was there before.");
    }
    let mut fact = |name: &str, value: &str| {
        let value = printable(&shortened(value, MAX_SHOWN), false).into_owned();
        text.push_str(&format!("\n{name}: {value}"));
    };
    if let Some(rule) = subject.rule {
        fact("Asked by", rule);
    }
    if let Some(skill) = subject.skill {
        fact("Version", &skill.version);
        fact("Digest", &skill.digest.to_string());
    }
    if let Some(tenant) = subject.tenant {
        fact("Tenant", tenant);
    }
    if let Some(request) = subject.request {
        for attachment in request.attachments.iter().take(MAX_ATTACHMENTS) {
            let size = display_bytes(attachment.data.len() as u64);
            let Attachment {
                name, media_type, ..
            } = attachment;
            fact("Attachment", &format!("{name} ({media_type}, {size})"));
        }
        let more = request.attachments.len().saturating_sub(MAX_ATTACHMENTS);
        if more > 0 {
            fact("Attachments", &format!("{more} more"));
        }
        fact("Input", &request.input.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_no_is_a_refusal() {
        let meant = |answer: Value| match answered(Some(&answer)) {
            Ok(Asked::Approved) => "approved",
            Ok(Asked::Declined) => "declined",
            Ok(Asked::Unanswered) => "unanswered",
            _ => "not understood",
        };
        for (answer, expected) in [
            (json!({"action": "accept"}), "approved"),
            (json!({"action": "accept", "content": {}}), "approved"),
            (
                json!({"action": "accept", "content": {"approve": true}}),
                "approved",
            ),
            (
                json!({"action": "accept", "content": {"approve": false}}),
                "declined",
            ),
            (json!({"action": "decline"}), "declined"),
            (json!({"action": "cancel"}), "unanswered"),
            (json!({"action": "what"}), "not understood"),
        ] {
            assert_eq!(meant(answer.clone()), expected, "{answer}");
        }
    }

    #[test]
    fn a_question_names_exactly_what_would_run() {
        let skill = SkillIdentity {
            name: "notes".into(),
            version: "1.2.3".into(),
            digest: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
        };
        let request = ExecutionRequest::new(skill.digest, json!({"text": "\u{1b}[2J"}));
        let request = request.attach(Attachment::new("a.png", "image/png", *b"1234"));
        let mut subject = Subject {
            name: "notes",
            skill: Some(&skill),
            tool: "add",
            is_destructive: false,
            rule: Some("approval rule 1 (writers)"),
            tenant: Some("acme"),
            request: Some(&request),
        };
        let expected = format!(
            "May the tool `add` of the skill `notes` run?\nAsked by: approval rule 1 (writers)\n\
             Version: 1.2.3\nDigest: {}\nTenant: acme\nAttachment: a.png (image/png, 4 B)\n\
             Input: {{\"text\":\"\\u001b[2J\"}}",
            skill.digest
        );
        assert_eq!(text(&subject), expected);
        subject.is_destructive = true;
        assert!(text(&subject).contains("run? It may change or delete what was there before.\n"));
    }
}
