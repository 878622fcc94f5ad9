//! From the arguments of a call to a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::JsonObject;
use serde::Deserialize;
use serde_json::Value;

use super::catalog::{ATTACHMENTS, Entry};
use super::kept::{Kept, Owner};
use crate::{Attachment, ExecutionRequest};

/// An attachment as a model gives it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Given {
    name: String,
    #[serde(default, alias = "media_type", alias = "mimeType")]
    media_type: Option<String>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    uri: Option<String>,
}

/// The request for a call of a tool.
///
/// # Errors
/// What is wrong with the attachments, for whoever called.
pub(super) fn request(
    entry: &Entry,
    arguments: Option<JsonObject>,
    kept: &Kept,
    owner: &Owner,
) -> Result<ExecutionRequest, String> {
    let mut arguments = arguments.unwrap_or_default();
    let given = match entry.takes_attachments {
        true => arguments.remove(ATTACHMENTS),
        false => None,
    };
    let digest = entry.skill.identity.digest;
    let request = ExecutionRequest::new(digest, Value::Object(arguments));
    let request = request.tool(&entry.tool().name);
    let attachments = attachments(given, kept, owner)?;
    Ok(attachments
        .into_iter()
        .fold(request, ExecutionRequest::attach))
}

/// The attachments in the arguments of a call.
///
/// # Errors
/// What is wrong with them, for whoever called.
pub(super) fn attachments(
    given: Option<Value>,
    kept: &Kept,
    owner: &Owner,
) -> Result<Vec<Attachment>, String> {
    let given: Vec<Given> = match given {
        None | Some(Value::Null) => Vec::new(),
        Some(given) => serde_json::from_value(given).map_err(|error| {
            format!(
                "`{ATTACHMENTS}` is a list of objects with `name`, `mediaType`, and `data` (base64) or \
                 `uri`: {}",
                crate::text::said_of(&error, 500)
            )
        })?,
    };
    let read = given.into_iter().enumerate().map(|(index, given)| {
        attachment(given, kept, owner).map_err(|why| format!("`/{ATTACHMENTS}/{index}`: {why}"))
    });
    read.collect()
}

fn attachment(given: Given, kept: &Kept, owner: &Owner) -> Result<Attachment, String> {
    match (given.data, given.uri) {
        (Some(data), None) => {
            let bytes = STANDARD
                .decode(data.trim())
                .map_err(|error| format!("`data` is not base64: {error}"))?;
            let media_type = given.media_type;
            let media_type = media_type.unwrap_or_else(|| "application/octet-stream".to_owned());
            Ok(Attachment::new(given.name, media_type, bytes))
        }
        (None, Some(uri)) => {
            let part = kept.find(owner, &uri).ok_or_else(|| {
                "no output is kept at that `uri`; it may have been too long ago".to_owned()
            })?;
            let media_type = given.media_type.unwrap_or(part.media_type);
            Ok(Attachment::new(given.name, media_type, part.data.to_vec()))
        }
        _ => Err("it needs either `data` or `uri`".to_owned()),
    }
}
