//! Configuration keys, as a skill declares them.

use serde::{Deserialize, Serialize};

/// A configuration key that a skill declares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigKey {
    /// The type of its values.
    #[serde(rename = "type")]
    pub kind: ConfigType,
    /// The value where none is granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// What the key is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The type of a configuration value. Values travel as text; this says what the text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
        let fits = match self.kind {
            ConfigType::String => true,
            ConfigType::Integer => value.parse::<i64>().is_ok(),
            ConfigType::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
            ConfigType::Boolean => matches!(value, "true" | "false"),
        };
        if fits {
            Ok(())
        } else {
            Err(format!("`{value}` is not of type {}", self.kind.as_str()))
        }
    }
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
