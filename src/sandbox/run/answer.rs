//! What a guest answered, before anything of it is read.

use super::super::classify;
use super::super::contract::answer::Text;
use super::super::contract::wit;
use super::super::flight::Flight;
use crate::execution::{Attachment, Cause, Failure, MAX_RETRY_AFTER_MS};
use crate::secret::Scrubber;
use crate::text::{named, printable, shortened};

/// The bytes that are kept of a message of a guest's, before what cannot be shown is escaped.
const MAX_MESSAGE: usize = 8 * 1024;

/// What a guest answered, not yet searched for secrets.
pub(crate) enum Answer {
    /// An output's JSON text, and what is attached to it.
    Output(String, Vec<Attachment>),
    Failure(GuestFailure),
}

/// A failure as a guest states it.
pub(crate) struct GuestFailure {
    failure: wit::Failure,
    /// How long its texts are altogether.
    bytes: u64,
}

impl Answer {
    /// An answer that was taken over, and counts it.
    pub(super) fn of(
        flight: &mut Flight,
        answer: Result<wit::Output, wit::Failure>,
    ) -> Result<Self, Failure> {
        let (json, attachments) = match answer {
            Ok(wit::Output { json, attachments }) => (json.0, attachments.0),
            Err(mut failure) => {
                let bytes = texts(&mut failure).map(|text| text.len() as u64).sum();
                flight.usage.output_bytes = bytes;
                return Ok(Answer::Failure(GuestFailure { failure, bytes }));
            }
        };
        flight.usage.output_bytes = json.len() as u64;
        let attachments =
            attachments.map_err(|error| classify::attachments(&error, &flight.limits))?;
        let attachments: Vec<Attachment> = attachments.into_iter().map(Into::into).collect();
        let attached = attachments.iter().map(Attachment::counted_bytes);
        flight.usage.output_bytes += attached.sum::<u64>();
        Ok(Answer::Output(json, attachments))
    }

    /// How much of it there is to read; where something is searched for, to read and to search.
    pub fn bytes(&self, searched: bool) -> u64 {
        match self {
            Answer::Output(json, attachments) => {
                let attached = attachments.iter().map(Attachment::counted_bytes);
                let attached = if searched { attached.sum() } else { 0 };
                json.len() as u64 + attached
            }
            Answer::Failure(failure) => failure.bytes,
        }
    }
}

impl GuestFailure {
    /// What stands in a result.
    pub fn read(mut self, scrubber: Option<&Scrubber>) -> Failure {
        let Some(scrubber) = scrubber else {
            return skill_failure(self.failure);
        };
        // Before anything of it is cut.
        texts(&mut self.failure).for_each(|text| scrubber.text(text));
        skill_failure(self.failure).scrubbed(scrubber)
    }
}

impl From<Attachment> for wit::Attachment {
    fn from(from: Attachment) -> Self {
        wit::Attachment {
            name: from.name,
            media_type: from.media_type,
            data: from.data,
        }
    }
}

impl From<wit::Attachment> for Attachment {
    fn from(from: wit::Attachment) -> Self {
        Attachment {
            name: from.name,
            media_type: from.media_type,
            data: from.data,
        }
    }
}

/// Every text of a failure.
fn texts(failure: &mut wit::Failure) -> impl Iterator<Item = &mut String> {
    let texts = match failure {
        wit::Failure::UnknownTool => [None, None, None],
        wit::Failure::InvalidInput(input) => {
            [Some(&mut input.pointer), Some(&mut input.message), None]
        }
        wit::Failure::Retryable(retryable) => [Some(&mut retryable.message), None, None],
        wit::Failure::Error(error) => [
            Some(&mut error.message),
            error.code.as_mut(),
            error.details.as_mut(),
        ],
    };
    texts.into_iter().flatten().map(|text| &mut text.0)
}

/// A failure as the guest states it.
fn skill_failure(failure: wit::Failure) -> Failure {
    // Shortened first, as escapes are longer than what they stand for.
    let readable = |text: &str| printable(&shortened(text, MAX_MESSAGE), true).into_owned();
    match failure {
        // Its own fault, and not that of whoever asked for a tool that it described.
        wit::Failure::UnknownTool => Failure::new(
            Cause::SkillError {
                retryable: false,
                retry_after_ms: None,
                code: Some("unknown_tool".to_owned()),
                details: None,
            },
            "the skill says that it has no such tool, though it described it",
        ),
        wit::Failure::InvalidInput(wit::InvalidInput {
            pointer: Text(pointer),
            message: Text(message),
        }) => {
            let pointer = printable(&shortened(&pointer, 1_000), false).into_owned();
            let place = if pointer.is_empty() {
                String::new()
            } else {
                format!(" at `{}`", named(&pointer, 1_000))
            };
            let message = format!("the input does not fit{place}: {}", readable(&message));
            Failure::new(Cause::InvalidInput { pointer }, message)
        }
        wit::Failure::Retryable(wit::Retryable {
            message: Text(message),
            retry_after_ms,
        }) => Failure::new(
            Cause::SkillError {
                retryable: true,
                retry_after_ms: retry_after_ms.map(|after| after.min(MAX_RETRY_AFTER_MS)),
                code: None,
                details: None,
            },
            format!("the skill failed: {}", readable(&message)),
        )
        .hint("the skill says that trying again may help"),
        wit::Failure::Error(wit::Error {
            message: Text(message),
            code,
            details,
        }) => Failure::new(
            Cause::SkillError {
                retryable: false,
                retry_after_ms: None,
                code: code.map(|Text(code)| printable(&shortened(&code, 200), false).into_owned()),
                details: details.map(|Text(text)| {
                    crate::json::parse(&text).unwrap_or(serde_json::Value::String(text))
                }),
            },
            format!("the skill failed: {}", readable(&message)),
        ),
    }
}
