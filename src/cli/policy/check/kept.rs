//! What the host keeps for the policy: an audit, and secrets.

use skillhost::Policy;

use super::{About, Finding, Kind, told};
use crate::cli::secrets::kept_can_be_read;
use crate::cli::{Session, audit};

/// An audit that is to be kept, and cannot be.
pub fn audit(policy: &Policy, session: &Session) -> Option<Finding> {
    let error = audit::can_be_kept(policy, session).err()?;
    let (message, hint) = told(&error);
    let (kind, what) = match policy.audit.required {
        true => (Kind::Audit, "it is required, and without it nothing runs"),
        false => (Kind::Unaudited, "nothing that runs is written down"),
    };
    let message = message.strip_prefix("the audit: ").unwrap_or(&message);
    Some(Finding {
        kind,
        about: About::Table("audit"),
        message: format!("{what}: {message}"),
        hint,
    })
}

/// Secrets that are kept, and that nobody gets, as their file cannot be used: in the way where one is granted.
pub fn secrets(policy: &Policy, session: &Session) -> Option<Finding> {
    let (message, hint) = told(&kept_can_be_read(session).err()?);
    let mut entries = policy.skills.values();
    let kind = match entries.any(|entry| !entry.grants.secrets.is_empty()) {
        true => Kind::Store,
        false => Kind::Unneeded,
    };
    Some(Finding {
        kind,
        about: About::Table("secrets"),
        message: format!("none that is kept has a value: {message}"),
        hint,
    })
}
