//! How a skill stands with the policy.

use std::fmt;

use serde::Serialize;
use skillhost::grant::{Denial, Grants, command};
use skillhost::policy::{Consent, Effective};
use skillhost::text::printable;
use skillhost::{Policy, Skill};

use crate::cli::grants;

/// What the policy gives to a skill.
#[derive(Debug, Serialize)]
pub struct Standing {
    #[serde(skip)]
    name: String,
    /// Whether its digest is confirmed.
    pub consent: Consent,
    /// What it gets, with the defaults of its configuration.
    pub grants: Grants,
    /// The part of it that the policy grants.
    pub from_policy: Grants,
    /// Why it is not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<Denial>,
    /// What it declares, and is not granted.
    pub missing: Vec<Denial>,
}

impl Standing {
    /// Looks it up.
    pub fn new(policy: &Policy, skill: &Skill) -> Self {
        let (identity, manifest) = (skill.identity(), skill.manifest());
        let effective =
            policy.effective(identity, manifest, skill.description(), &Grants::default());
        let (effective, denials) = match effective {
            Ok(effective) => (effective, Vec::new()),
            Err(denials) => (Effective::default(), denials),
        };
        let declared = manifest.map(|manifest| &manifest.grants);
        let missing = skillhost::grant::missing(&identity.name, declared, &effective.from_policy);
        Standing {
            name: identity.name.to_string(),
            consent: policy.consent(&identity.name, &identity.digest),
            grants: effective.grants,
            from_policy: effective.from_policy,
            missing: if denials.is_empty() {
                missing
            } else {
                Vec::new()
            },
            denials,
        }
    }
}

/// Lines that are set in.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for denial in &self.denials {
            writeln!(f, "  {}", printable(&denial.to_string(), false))?;
            writeln!(f, "  hint: {}", printable(&denial.hint, false))?;
        }
        let table = grants::table(&self.from_policy, &Grants::default());
        match (self.denials.is_empty(), table.is_empty()) {
            (true, true) => writeln!(
                f,
                "  nothing; `{}` adds grants",
                command("grant", &self.name)
            ),
            _ => write!(f, "{table}"),
        }
    }
}
