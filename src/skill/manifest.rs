//! `skill.toml`: what a skill declares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::grant::{ConfigKey, Declared, DeclaredDirectory, HttpGrant, SocketGrant};
use crate::limits::LimitOverrides;
use crate::text::{printable, shortened};

/// The most HTTP requests, and the most sockets, that one skill may declare.
const MAX_NETWORK: usize = 100;

/// The contents of a `skill.toml`.
///
/// ```
/// let manifest: skillhost::skill::Manifest = r#"
///     [[grants.directories]]
///     path = "*"
///     mode = "ro"
///
///     [config.max_rows]
///     type = "integer"
///     default = 1000
///
///     [limits]
///     memory_bytes = "32MiB"
/// "#.parse()?;
/// assert_eq!(manifest.limits.memory_bytes, Some(32 << 20));
/// # Ok::<(), skillhost::skill::ManifestError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Manifest {
    /// What the skill wants to touch.
    pub grants: Declared,
    /// The skill's own default limits.
    pub limits: LimitOverrides,
}

/// A `skill.toml` that cannot be used: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ManifestError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    grants: RawGrants,
    #[serde(default)]
    config: BTreeMap<String, ConfigKey>,
    #[serde(default)]
    limits: LimitOverrides,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGrants {
    directories: Vec<DeclaredDirectory>,
    scratch: bool,
    http: Vec<HttpGrant>,
    sockets: Vec<SocketGrant>,
    environment: Vec<String>,
}

impl std::str::FromStr for Manifest {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let raw: Raw =
            toml::from_str(text).map_err(|error| ManifestError(readable(&error.to_string())))?;
        for directory in &raw.grants.directories {
            if directory.path.is_empty() || directory.path.split('/').any(|part| part == "..") {
                return Err(ManifestError(format!(
                    "grants.directories: the path {:?} is empty or has `..` in it",
                    directory.path
                )));
            }
        }
        let most = raw.grants.http.len().max(raw.grants.sockets.len());
        if most > MAX_NETWORK {
            return Err(ManifestError(format!(
                "grants: {most} of one kind are declared; {MAX_NETWORK} are the most"
            )));
        }
        for (key, declaration) in &raw.config {
            if let Some(default) = &declaration.default {
                let text = match default {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                declaration.check(&text).map_err(|reason| {
                    ManifestError(readable(&format!("config.{key}.default: {reason}")))
                })?;
            }
        }
        Ok(Manifest {
            grants: Declared {
                directories: raw.grants.directories,
                scratch: raw.grants.scratch,
                http: raw.grants.http,
                sockets: raw.grants.sockets,
                environment: raw.grants.environment,
                config: raw.config,
            },
            limits: raw.limits,
        })
    }
}

fn readable(text: &str) -> String {
    shortened(&printable(text.trim_end(), true), 2_000).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Manifest>().unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        assert!(error("[limits]\nmemory = 1").contains("unknown field `memory`"));
        assert!(error("[limits]\nmemory = 1").contains("line 2"));
        assert!(error("[[grants.directories]]\npath = \"../x\"").contains(".."));
        assert!(
            error("[config.n]\ntype = \"integer\"\ndefault = \"x\"").contains("config.n.default")
        );
        assert!(error("[grants]\nhttp = [\"example.com\"]").contains("no scheme"));
        assert!(error("[grants]\nnetwork = true").contains("unknown field `network`"));
    }

    #[test]
    fn an_empty_manifest_declares_nothing() {
        assert_eq!("".parse::<Manifest>().unwrap(), Manifest::default());
    }
}
