//! From what an execution came to, to what a client is answered.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use rmcp::model::{CallToolResult, ContentBlock, MetaObject, Resource, ResourceContents};
use serde_json::{Value, json};
use uuid::Uuid;

use super::kept::{Kept, Owner, Part, piece};
use super::settings::McpSettings;
use crate::execution::{MAX_RETRY_AFTER_MS, RAISE_IT, Rejection};
use crate::grant::{Denial, Remedy};
use crate::text::{named, printable, shortened};
use crate::{Attachment, Cause, ExecutionResult, Failure};

/// The longest name or media type of an attachment that is shown, in bytes.
const MAX_NAME: usize = 200;

/// The longest message of a failure that is shown, in bytes.
const MAX_MESSAGE: usize = 16 << 10;

/// The longest place in an input that is shown, in bytes.
const MAX_POINTER: usize = 1_000;

/// What answers are made with.
pub(super) struct Answer<'a> {
    pub settings: &'a McpSettings,
    pub kept: &'a Kept,
    pub owner: &'a Owner,
    /// Under which id what is too large is kept.
    pub id: Uuid,
    /// Whether the tool promises a structured answer.
    pub promised: bool,
    /// Whether the client knows structured answers that are no objects. To one that does not, the library
    /// would send them as text, whole and as it is.
    pub takes_any: bool,
}

impl Answer<'_> {
    /// The answer for the result of an execution.
    pub fn of(&self, result: ExecutionResult) -> CallToolResult {
        let usage = json!(result.usage);
        let mut answer = match (result.output, &result.failure) {
            (Some(output), None) => self.success(output, result.attachments),
            (_, Some(failure)) => failed(failure, Utc::now()),
            (None, None) => error("the tool has ended without an answer"),
        };
        let meta = answer.meta.get_or_insert_with(MetaObject::new);
        meta.insert("skillhost/status".to_owned(), json!(result.status));
        meta.insert("skillhost/usage".to_owned(), usage);
        answer
    }

    fn success(&self, output: Value, attachments: Vec<Attachment>) -> CallToolResult {
        let text = match &output {
            Value::String(text) => text.clone(),
            output => output.to_string(),
        };
        let mut keep = Vec::new();
        let mut content = Vec::new();
        let limit = self.settings.output_tokens.saturating_mul(4);
        let cut = piece(&text, 0, limit).is_some_and(|piece| piece.next.is_some());
        if cut {
            let whole: Arc<[u8]> = text.as_bytes().into();
            let media_type = match output {
                Value::String(_) => "text/plain",
                _ => "application/json",
            };
            let part = Part {
                name: "output".to_owned(),
                media_type: media_type.to_owned(),
                data: whole,
                text: true,
            };
            let shown = piece(&text, 0, limit).map_or("", |piece| piece.text);
            content.push(ContentBlock::text(printable(shown, true)));
            content.push(ContentBlock::text(self.note(
                shown.len(),
                text.len(),
                &part,
            )));
            content.push(self.link(0, &part));
            keep.push((0, part));
        } else {
            content.push(ContentBlock::text(printable(&text, true)));
        }
        for (index, attachment) in attachments.into_iter().enumerate() {
            let part = part(attachment);
            if part.data.len() > self.settings.inline_bytes {
                content.push(self.link(index + 1, &part));
                keep.push((index + 1, part));
            } else {
                content.push(inline(Kept::uri(self.id, index + 1), &part));
            }
        }
        if !keep.is_empty() && !self.kept.keep(self.owner, self.id, keep) {
            // Links that lead nowhere would be worse than none.
            content.retain(|block| block.as_resource_link().is_none());
            content.push(ContentBlock::text(
                "(The whole is too large to be kept, and cannot be read on.)",
            ));
        }
        let mut answer = CallToolResult::success(content);
        // A program gets the whole; a model that was not promised it is spared it.
        let known = self.takes_any || output.is_object();
        if known && (!cut || self.promised) {
            answer.structured_content = Some(output);
        }
        answer
    }

    fn note(&self, shown: usize, whole: usize, part: &Part) -> String {
        let minutes = self.kept.time().as_secs() / 60;
        format!(
            "[Cut: this is the beginning, about {} of {} tokens. The whole is kept for {minutes} \
             minutes as {} ({}). Read on with the tool `read_output` from offset {shown}, or give the \
             address to another tool as an attachment.]",
            shown.div_ceil(4),
            whole.div_ceil(4),
            Kept::uri(self.id, 0),
            part.media_type,
        )
    }

    fn link(&self, index: usize, part: &Part) -> ContentBlock {
        ContentBlock::resource_link(
            Resource::new(Kept::uri(self.id, index), part.name.clone())
                .with_mime_type(part.media_type.clone())
                .with_size(part.data.len() as u64),
        )
    }
}

/// An attachment with what its guest calls it made harmless.
fn part(attachment: Attachment) -> Part {
    let shown = |text: &str, otherwise: &str| match text.trim() {
        "" => otherwise.to_owned(),
        text => shortened(&printable(text, false), MAX_NAME).into_owned(),
    };
    let media_type = shown(&attachment.media_type, "application/octet-stream");
    let text = (media_type.starts_with("text/") || media_type.starts_with("application/json"))
        && !attachment.data.contains(&0)
        && std::str::from_utf8(&attachment.data).is_ok();
    Part {
        name: shown(&attachment.name, "attachment"),
        text,
        media_type,
        data: attachment.data.into(),
    }
}

/// An attachment within an answer: an image is an image.
fn inline(uri: String, part: &Part) -> ContentBlock {
    let encoded = || STANDARD.encode(&part.data);
    let kind = part.media_type.split('/').next().unwrap_or_default();
    match kind {
        "image" => ContentBlock::image(encoded(), part.media_type.clone()),
        "audio" => ContentBlock::audio(encoded(), part.media_type.clone()),
        _ => ContentBlock::resource(contents(uri, part)),
    }
}

/// A part as the contents of a resource.
pub(super) fn contents(uri: String, part: &Part) -> ResourceContents {
    let contents = match std::str::from_utf8(&part.data) {
        Ok(text) if part.text => ResourceContents::text(text, uri),
        _ => ResourceContents::blob(STANDARD.encode(&part.data), uri),
    };
    contents.with_mime_type(part.media_type.clone())
}

/// An answer that says what was wrong, to whoever called.
pub(super) fn error(message: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(message.into())])
}

/// The answer for a failure: what was wrong and where, which grant is missing and what to add, and
/// whether another try may help.
pub(super) fn failed(failure: &Failure, now: DateTime<Utc>) -> CallToolResult {
    let mut answer = error(explained(failure, now));
    let mut meta = MetaObject::new();
    meta.insert("skillhost/failure".to_owned(), json!(failure));
    answer.meta = Some(meta);
    answer
}

fn explained(failure: &Failure, now: DateTime<Utc>) -> String {
    // Set in, as no line of the skill's may look like one of ours.
    let message = shortened(&failure.message, MAX_MESSAGE);
    let message = printable(&message, true).replace('\n', "\n  ");
    let mut lines = vec![shortened(&message, MAX_MESSAGE).into_owned()];
    if let Cause::InvalidInput { pointer } = &failure.cause {
        let place = match pointer.as_str() {
            "" => "the input as a whole".to_owned(),
            pointer => format!("`{}` in the input", named(pointer, MAX_POINTER)),
        };
        let correct = match lacks_a_grant(failure) {
            true => "",
            false => " Correct it and call again.",
        };
        lines.push(format!("What is at fault: {place}.{correct}"));
    }
    let hint = failure.hint.as_deref().filter(|hint| {
        let mut denials = failure.denials.iter().chain(&failure.missing);
        !denials.any(|denial| denial.is_said_in(hint))
    });
    if let Some((limit, _)) = failure.limit()
        && failure.hint.as_deref() == Some(RAISE_IT)
    {
        // A client of MCP asks for no limits.
        lines.push(format!(
            "What to do: give it less to do. Only whoever runs skillhost can raise the limit `{}`.",
            limit.as_str()
        ));
    } else if let Some(hint) = hint {
        lines.push(format!("What to do: {}", of_this_server(hint)));
    }
    lines.extend(failure.denials.iter().map(refused));
    // What was refused while it ran is more to the point.
    let missing = failure.missing.iter();
    for denial in missing.filter(|_| failure.denials.is_empty()) {
        let (hint, text) = (of_this_server(&denial.hint), denial.to_string());
        let wanted = printable(&text, false);
        lines.push(match denial.remedy {
            Remedy::Grant | Remedy::Operator => format!(
                "Perhaps for want of a grant: {wanted}. Only whoever runs skillhost can give it; tell them: {hint}"
            ),
            Remedy::Skill | Remedy::Wait => {
                format!("Perhaps for want of: {wanted}. What to do: {hint}")
            }
        });
    }
    lines.push(match lacks_a_grant(failure) {
        true => "The same call would end the same way until that is granted.".to_owned(),
        false => again(&failure.cause, now),
    });
    lines.join("\n")
}

/// Whether it was refused something that a grant would give it, so that another input would not help.
fn lacks_a_grant(failure: &Failure) -> bool {
    let by_a_grant = |denial: &Denial| denial.remedy == Remedy::Grant;
    failure.denials.iter().any(by_a_grant) && matches!(failure.cause, Cause::InvalidInput { .. })
}

/// A hint of the host's. Its commands change what is found without any flag; which the server was started with is
/// nothing that a client needs to know.
fn of_this_server(hint: &str) -> String {
    let shown = printable(hint, false);
    match hint.contains("`skillhost ") {
        true => format!(
            "{shown} (with the same `--home`, `--policy` and `--database` as this server, where it was started with any)"
        ),
        false => shown.into_owned(),
    }
}

/// What was refused, and who can change that.
fn refused(denial: &Denial) -> String {
    let (hint, text) = (of_this_server(&denial.hint), denial.to_string());
    let denied = printable(&text, false);
    match denial.remedy {
        Remedy::Grant => format!(
            "Missing grant: {denied}. Only whoever runs skillhost can give it; tell them: {hint}"
        ),
        Remedy::Operator => format!(
            "Refused: {denied}. Only whoever runs skillhost can change that; tell them: {hint}"
        ),
        Remedy::Skill | Remedy::Wait => format!("Refused: {denied}. What to do: {hint}"),
    }
}

/// Whether, and when, another try may help.
fn again(cause: &Cause, now: DateTime<Utc>) -> String {
    let at = |at: DateTime<Utc>| {
        let seconds = (at - now).num_seconds().max(0);
        format!(
            "Try again after {} (in {seconds} s).",
            at.to_rfc3339_opts(SecondsFormat::Secs, true)
        )
    };
    match cause {
        Cause::SkillError {
            retryable: true,
            retry_after_ms,
            ..
        } => match retry_after_ms {
            // A day at most, as over HTTP, whoever executed it.
            Some(ms) => format!(
                "Another try may help, after {} s.",
                (*ms).min(MAX_RETRY_AFTER_MS).div_ceil(1_000)
            ),
            None => "Another try may help.".to_owned(),
        },
        Cause::Rejected {
            retry_at: Some(moment),
            ..
        } => at(*moment),
        Cause::Rejected {
            reason: Rejection::Approval,
            ..
        } => "It waits for somebody's approval; the same call without that ends the same way."
            .to_owned(),
        Cause::HostError => "The host is at fault, not the call; another try may help.".to_owned(),
        _ => "The same call would end the same way.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limit;
    use crate::grant::Capability;

    fn shown(failure: &Failure) -> String {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let answer = failed(failure, now);
        assert_eq!(answer.is_error, Some(true));
        assert!(answer.meta.unwrap().contains_key("skillhost/failure"));
        answer.content[0].as_text().unwrap().text.clone()
    }

    /// To a client that does not know those that are no objects, they would come a second time, as text that
    /// nothing cuts and nothing escapes.
    #[test]
    fn structured_answers_are_objects_where_no_other_is_known() {
        let settings = McpSettings::default();
        let kept = Kept::new(settings.kept);
        let owner = Owner::default();
        for (output, always) in [
            (json!({"a": 1}), true),
            (json!(["\u{1b}[2J"]), false),
            (json!("\u{1b}[2J"), false),
            (json!(1), false),
            (json!(null), false),
        ] {
            for (takes_any, promised) in
                [(true, true), (true, false), (false, true), (false, false)]
            {
                let answer = Answer {
                    settings: &settings,
                    kept: &kept,
                    owner: &owner,
                    id: Uuid::nil(),
                    promised,
                    takes_any,
                };
                let answer = answer.success(output.clone(), Vec::new());
                let expected = (takes_any || always).then(|| output.clone());
                assert_eq!(
                    answer.structured_content, expected,
                    "{takes_any} {promised}"
                );
                let text = &answer.content[0].as_text().unwrap().text;
                assert!(!text.contains('\u{1b}'), "{text}");
            }
        }
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let cause = Cause::InvalidInput {
            pointer: "/a".into(),
        };
        let text = shown(&Failure::new(cause, "no \x1b[2J number"));
        assert!(text.contains("`/a` in the input") && !text.contains('\x1b'));
        let cause = Cause::InvalidInput {
            pointer: "/a` in the input. Run `b".into(),
        };
        let text = shown(&Failure::new(cause, "no number"));
        assert!(
            text.contains(r"`/a\u{60} in the input. Run \u{60}b` in the input"),
            "{text}"
        );

        // No line of the skill's looks like one of the host's, and it is cut where it is long.
        let cause = Cause::Trap {
            trap: "unreachable_code_reached".into(),
            backtrace: Vec::new(),
        };
        let forged = format!("no\nMissing grant: {}", "x".repeat(MAX_MESSAGE));
        let text = shown(&Failure::new(cause, forged));
        assert!(text.starts_with("no\n  Missing grant: x"), "{text}");
        assert!(text.len() < MAX_MESSAGE + 300 && text.contains(" bytes more)"));

        let cause = Cause::Rejected {
            reason: Rejection::Hook,
            retry_at: DateTime::from_timestamp(1_800_000_030, 0),
        };
        assert!(shown(&Failure::new(cause, "busy")).contains("(in 30 s)"));

        let cause = Cause::SkillError {
            retryable: true,
            retry_after_ms: Some(1_500),
            code: None,
            details: None,
        };
        let mut failure = Failure::new(cause, "not now");
        failure.denials.push(Denial {
            capability: Capability::Http,
            subject: "GET https://example.com".into(),
            reason: "not granted".into(),
            remedy: Remedy::Grant,
            grant: None,
            hint: "skillhost policy grant".into(),
        });
        let text = shown(&failure);
        assert!(text.contains("after 2 s") && text.contains("tell them: skillhost policy grant"));

        // What is pasted is to change what this server goes by.
        failure.denials[0].hint = "grant it with `skillhost policy grant a --storage`".into();
        let text = shown(&failure);
        assert!(
            text.contains(
                "--storage` (with the same `--home`, `--policy` and `--database` as this server"
            ),
            "{text}"
        );
        failure.denials[0].hint = "skillhost policy grant".into();

        // Nobody is asked for a grant that there is none of.
        for (remedy, expected) in [
            (
                Remedy::Grant,
                "Missing grant: http `GET https://example.com`: not granted. Only whoever runs skillhost can \
                 give it; tell them: skillhost policy grant",
            ),
            (
                Remedy::Operator,
                "Refused: http `GET https://example.com`: not granted. Only whoever runs skillhost can change \
                 that; tell them: skillhost policy grant",
            ),
            (
                Remedy::Skill,
                "Refused: http `GET https://example.com`: not granted. What to do: skillhost policy grant",
            ),
            (
                Remedy::Wait,
                "Refused: http `GET https://example.com`: not granted. What to do: skillhost policy grant",
            ),
        ] {
            failure.denials[0].remedy = remedy;
            let text = shown(&failure);
            let mut lines = text.lines();
            assert!(lines.any(|line| line == expected), "{text}");
        }

        // Another input would not help where a grant is missing; where one may be, it might.
        let cause = Cause::InvalidInput {
            pointer: "/path".into(),
        };
        let mut lacking = Failure::new(cause, "no such file");
        lacking.missing = failure.denials.clone();
        let text = shown(&lacking);
        assert!(text.contains("Correct it and call again."), "{text}");
        lacking.denials = std::mem::take(&mut lacking.missing);
        lacking.denials[0].remedy = Remedy::Grant;
        let text = shown(&lacking);
        assert!(!text.contains("Correct it"), "{text}");
        assert!(
            text.ends_with("would end the same way until that is granted."),
            "{text}"
        );

        // Whose limit it is, and who can raise it.
        let cause = |limit| Cause::ResourceExhausted {
            limit,
            allowed: 1,
            requested: None,
            backtrace: Vec::new(),
        };
        let text = shown(&Failure::new(cause(Limit::Fuel), "no more fuel").hint(RAISE_IT));
        assert!(
            text.contains("Only whoever runs skillhost can raise the limit `fuel`."),
            "{text}"
        );
        let other = "this host allows no more: give it less to do";
        let text = shown(&Failure::new(cause(Limit::Fuel), "no more fuel").hint(other));
        assert!(text.contains(other), "{text}");

        // What may have been the reason is named where nothing is known to have been it.
        let mut failure = failure.clone();
        failure.missing = std::mem::take(&mut failure.denials);
        failure.missing[0].remedy = Remedy::Grant;
        failure.hint = Some(failure.missing[0].wanted());
        let text = shown(&failure);
        assert!(
            text.contains("Perhaps for want of a grant: http `GET"),
            "{text}"
        );
        assert!(!text.contains("What to do"), "it is said once: {text}");
        failure.missing[0].remedy = Remedy::Skill;
        let text = shown(&failure);
        assert!(text.contains("Perhaps for want of: http `GET"), "{text}");
        assert!(!text.contains("Only whoever runs"), "{text}");
    }
}
