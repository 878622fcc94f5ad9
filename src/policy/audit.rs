//! What the policy says of the audit.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::approval::span;
use crate::audit::AuditSettings;

/// What is written down, where, and for how long.
///
/// ```
/// use skillhost::Policy;
///
/// let policy: Policy = r#"
///     [audit]
///     required = true
///     keep = "365d"
/// "#.parse()?;
/// assert!(policy.audit.required);
/// # Ok::<(), skillhost::policy::PolicyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct AuditPolicy {
    /// Whether an audit is kept. True unless set.
    pub enabled: bool,
    /// Whether nothing may run that cannot be written down. False unless set.
    pub required: bool,
    /// The folder, as an absolute path; `audit` in the folder of the command's data unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// How long entries are kept at least, such as `365d`; 90 days unless set.
    #[serde(with = "span")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub keep: Duration,
    /// How large a file may grow, in bytes, before the next is begun; 64 MiB unless set.
    pub max_file_bytes: u64,
}

impl Default for AuditPolicy {
    fn default() -> Self {
        let AuditSettings {
            max_file_bytes,
            keep,
        } = AuditSettings::default();
        AuditPolicy {
            enabled: true,
            required: false,
            folder: None,
            keep,
            max_file_bytes,
        }
    }
}

impl AuditPolicy {
    /// How it is kept.
    pub fn settings(&self) -> AuditSettings {
        AuditSettings {
            max_file_bytes: self.max_file_bytes,
            keep: self.keep,
        }
    }

    /// Whether nothing is said here.
    pub(crate) fn is_default(&self) -> bool {
        *self == AuditPolicy::default()
    }

    /// What is wrong with it, and in which field.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.required && !self.enabled {
            return Err((
                "required",
                "an audit that is not kept cannot be required".to_owned(),
            ));
        }
        if let Some(folder) = &self.folder
            && !folder.is_absolute()
        {
            return Err((
                "folder",
                format!("the path `{}` is not absolute", folder.display()),
            ));
        }
        if !((64 << 10)..=(1 << 40)).contains(&self.max_file_bytes) {
            return Err((
                "max_file_bytes",
                "a file can have 64 KiB to 1 TiB".to_owned(),
            ));
        }
        if self.keep < Duration::from_secs(3_600) {
            return Err(("keep", "entries are kept for an hour at least".to_owned()));
        }
        Ok(())
    }
}
