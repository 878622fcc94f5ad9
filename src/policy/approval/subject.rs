//! What an approval is bound to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::execution::{ExecutionRequest, Resolution};

/// SHA-256 over all that an approval names: the skill's digest, the tool, the input as canonical JSON
/// (keys in order, no spaces), the attachments, the tenant, and the grants that the request asks for.
///
/// Reads and writes as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject([u8; 32]);

impl Subject {
    /// That of a request which comes to this.
    pub fn of(request: &ExecutionRequest, resolution: &Resolution) -> Self {
        let mut parts = Parts(Sha256::new());
        parts.add(b"skillhost approval 1");
        parts.add(resolution.skill.digest.to_string().as_bytes());
        parts.add(resolution.tool().name.as_bytes());
        parts.add(canonical(&request.input).as_bytes());
        // What cannot be written as JSON cannot have been granted.
        let grants = serde_json::to_value(&request.grants).unwrap_or_default();
        parts.add(canonical(&grants).as_bytes());
        match &request.tenant {
            Some(tenant) => {
                parts.add(b"tenant");
                parts.add(tenant.as_bytes());
            }
            None => parts.add(b"no tenant"),
        }
        for attachment in &request.attachments {
            parts.add(attachment.name.as_bytes());
            parts.add(attachment.media_type.as_bytes());
            parts.add(&attachment.data);
        }
        Subject(parts.0.finalize().into())
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of these 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Subject(bytes)
    }
}

/// Parts that cannot be taken for others: each behind its length.
struct Parts(Sha256);

impl Parts {
    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }
}

/// JSON with its keys in order, and without spaces.
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::String(name.clone()).to_string());
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not what an approval is bound to; that is 64 hexadecimal digits")]
pub struct ParseSubjectError(String);

impl FromStr for Subject {
    type Err = ParseSubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map(|()| Subject(bytes))
            .map_err(|_| ParseSubjectError(crate::text::shortened(text, 100).into_owned()))
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_is_no_matter_and_all_else_is() {
        let json = |text: &str| canonical(&serde_json::from_str(text).unwrap());
        assert_eq!(
            json(r#"{"b": [1, {"d": 0, "c": "x"}], "a": null}"#),
            r#"{"a":null,"b":[1,{"c":"x","d":0}]}"#
        );
        assert_ne!(json("[1]"), json("[1.0]"));
        assert_ne!(json(r#"["1"]"#), json("[1]"));
        assert_ne!(json("[[1],2]"), json("[[1,2]]"));
    }
}
