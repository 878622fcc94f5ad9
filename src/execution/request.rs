//! What goes in.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::{NoContext, Timestamp, Uuid};

use crate::grant::Grants;
use crate::json::is_much;
use crate::limits::LimitOverrides;
use crate::skill::SkillRef;

/// A skill, a tool, its input, and the conditions under which it may run.
///
/// ```
/// use skillhost::ExecutionRequest;
///
/// let request = ExecutionRequest::new("text-stats", serde_json::json!({"text": "to be or not"}))
///     .tool("count")
///     .limits(skillhost::LimitOverrides { fuel: Some(5_000_000), ..Default::default() });
/// assert_eq!(request.attempt, 1);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionRequest {
    /// Identifies the request in events, results and logs. Random and ordered by time (UUID
    /// version 7) unless set.
    #[serde(default = "new_request_id")]
    pub request_id: Uuid,
    /// The skill, by name, name and version, or digest.
    pub skill: SkillRef,
    /// The tool. May be left out where the skill has one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The input: a JSON object that fits the tool's schema.
    #[serde(default = "empty_object")]
    pub input: Value,
    /// Binary data beside the input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Requested limits. They hold under the host's ceiling.
    #[serde(default)]
    pub limits: LimitOverrides,
    /// What the skill may touch.
    #[serde(default)]
    pub grants: Grants,
    /// On whose behalf: an organisation or account. Never shown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// On whose behalf: a person. Never shown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The conversation or session that this belongs to. Never shown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The moment after which an answer is of no use. It covers waiting and compiling, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// Which attempt at the request this is, counted from 1.
    #[serde(default = "one")]
    pub attempt: u32,
    /// Time that the request spent in a queue, reported in the usage.
    #[serde(
        default,
        rename = "queue_wait_ms",
        with = "crate::usage::fractional_ms",
        skip_serializing_if = "Duration::is_zero"
    )]
    pub queue_wait: Duration,
    /// The caller's own notes. The host does not read them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Ordered by time to the millisecond. `Uuid::now_v7` orders within one as well, for which all
/// threads take turns at one lock.
fn new_request_id() -> Uuid {
    Uuid::new_v7(Timestamp::now(NoContext))
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

fn one() -> u32 {
    1
}

impl ExecutionRequest {
    /// A request for the only tool of a skill, with nothing granted and the default limits.
    pub fn new(skill: impl Into<SkillRef>, input: Value) -> Self {
        ExecutionRequest {
            request_id: new_request_id(),
            skill: skill.into(),
            tool: None,
            input,
            attachments: Vec::new(),
            limits: LimitOverrides::default(),
            grants: Grants::default(),
            tenant: None,
            user: None,
            session: None,
            deadline: None,
            attempt: 1,
            queue_wait: Duration::ZERO,
            labels: BTreeMap::new(),
        }
    }

    /// The same but for what may be large: the input, and what is attached to it.
    pub(crate) fn without_data(&self) -> Self {
        let ExecutionRequest {
            request_id,
            skill,
            tool,
            input: _,
            attachments: _,
            limits,
            grants,
            tenant,
            user,
            session,
            deadline,
            attempt,
            queue_wait,
            labels,
        } = self;
        ExecutionRequest {
            request_id: *request_id,
            skill: skill.clone(),
            tool: tool.clone(),
            input: Value::Null,
            attachments: Vec::new(),
            limits: *limits,
            grants: grants.clone(),
            tenant: tenant.clone(),
            user: user.clone(),
            session: session.clone(),
            deadline: *deadline,
            attempt: *attempt,
            queue_wait: *queue_wait,
            labels: labels.clone(),
        }
    }

    /// Names the tool.
    #[must_use]
    pub fn tool(mut self, tool: impl Into<String>) -> Self {
        self.tool = Some(tool.into());
        self
    }

    /// Sets the requested limits.
    #[must_use]
    pub fn limits(mut self, limits: LimitOverrides) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the grants.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// Adds an attachment.
    #[must_use]
    pub fn attach(mut self, attachment: Attachment) -> Self {
        self.attachments.push(attachment);
        self
    }

    /// Sets the tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: DateTime<Utc>) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// Named binary data beside a JSON input or output. In JSON the bytes are base64 (RFC 4648).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Attachment {
    /// A file name. From a guest it is a claim like any other: never use it as a path.
    pub name: String,
    /// The media type, such as `image/png`.
    pub media_type: String,
    /// The bytes.
    #[serde(with = "base64_bytes")]
    #[cfg_attr(feature = "serve", schema(value_type = String, format = Byte))]
    pub data: Vec<u8>,
}

/// Whether it takes long to write, to hash or to drop a value with what is attached to it.
pub(crate) fn is_much_with(value: Option<&Value>, attachments: &[Attachment]) -> bool {
    /// To hash so many bytes takes some tenths of a millisecond.
    const LARGE: u64 = 256 << 10;
    /// What each counts for beside its bytes: to drop one takes as long as to hash these.
    const EACH: u64 = 64;
    let counted = attachments.iter().map(|one| EACH + one.counted_bytes());
    let attached: u64 = counted.sum();
    attached > LARGE || value.is_some_and(is_much)
}

impl Attachment {
    /// An attachment.
    pub fn new(
        name: impl Into<String>,
        media_type: impl Into<String>,
        data: impl Into<Vec<u8>>,
    ) -> Self {
        Attachment {
            name: name.into(),
            media_type: media_type.into(),
            data: data.into(),
        }
    }

    /// What counts towards the byte limits: name, media type and data.
    pub fn counted_bytes(&self) -> u64 {
        (self.name.len() + self.media_type.len() + self.data.len()) as u64
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Attachment({:?}, {:?}, {} bytes)",
            self.name,
            self.media_type,
            self.data.len()
        )
    }
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back_from_json() {
        let request = ExecutionRequest::new("a@1.0.0", serde_json::json!({"x": 1}))
            .tool("t")
            .attach(Attachment::new(
                "a.bin",
                "application/octet-stream",
                [0, 255],
            ));
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(
            serde_json::from_str::<ExecutionRequest>(&json).unwrap(),
            request
        );
        let short: ExecutionRequest = serde_json::from_str(r#"{"skill":"a"}"#).unwrap();
        assert_eq!(short.input, serde_json::json!({}));
        assert!(serde_json::from_str::<ExecutionRequest>(r#"{"skill":"a","inptu":{}}"#).is_err());
    }
}
