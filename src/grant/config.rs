//! Configuration keys, as a skill declares them.

use serde::{Deserialize, Serialize};

use super::{Capability, Denial};
use crate::text::named;

/// A configuration key that a skill declares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfigKey {
    /// The type of its values.
    #[serde(rename = "type")]
    pub kind: ConfigType,
    /// The value where none is granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("type" = ["string", "number", "boolean"])))]
    pub default: Option<serde_json::Value>,
    /// Whether the skill cannot run without a value. A key with a default always has one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// What the key is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The type of a configuration value. Values travel as text; this says what the text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConfigType {
    /// Any text.
    String,
    /// A whole number from −2^63 to 2^63 − 1.
    Integer,
    /// A decimal number.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl ConfigType {
    /// The name, as in `skill.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            ConfigType::String => "string",
            ConfigType::Integer => "integer",
            ConfigType::Number => "number",
            ConfigType::Boolean => "boolean",
        }
    }
}

impl ConfigKey {
    /// Whether a text is a value of this key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, value: &str) -> Result<(), String> {
        super::check_value(value)?;
        let fits = match self.kind {
            ConfigType::String => true,
            ConfigType::Integer => value.parse::<i64>().is_ok(),
            ConfigType::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
            ConfigType::Boolean => matches!(value, "true" | "false"),
        };
        if fits {
            Ok(())
        } else {
            let (value, kind) = (named(value, 100), self.kind.as_str());
            Err(format!("`{value}` is not of type {kind}"))
        }
    }

    /// Whether the declaration makes sense in itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check_declaration(&self) -> Result<(), String> {
        let Some(default) = &self.default else {
            return Ok(());
        };
        if self.required {
            return Err("a key that is required has no default".into());
        }
        if default.is_array() || default.is_object() || default.is_null() {
            return Err("default: write a text, a number or a boolean".into());
        }
        self.check(&text(default))
            .map_err(|reason| format!("default: {reason}"))
    }
}

/// A key without a default that has no value.
pub(super) fn missing(skill: &str, key: &str, declaration: &ConfigKey) -> Denial {
    let reason = match declaration.required {
        true => "required by the skill, and not granted",
        false => "declared by the skill without a default, and not granted",
    };
    Denial::lacking(
        skill,
        Capability::Config,
        key.to_owned(),
        reason.into(),
        Some(&format!("{key}={}", super::hint::NO_VALUE)),
    )
}

/// A declared default as the text that the guest reads.
pub(super) fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_against_their_type() {
        let key = |kind| ConfigKey {
            kind,
            default: None,
            required: false,
            description: None,
        };
        assert!(key(ConfigType::Integer).check("-3").is_ok());
        assert!(key(ConfigType::Integer).check("3.5").is_err());
        assert!(key(ConfigType::Number).check("3.5").is_ok());
        assert!(key(ConfigType::Number).check("NaN").is_err());
        assert!(key(ConfigType::Boolean).check("yes").is_err());
        assert!(key(ConfigType::String).check("").is_ok());
    }
}
