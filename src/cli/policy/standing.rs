//! How a skill stands with the policy.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use skillhost::grant::{Capability, Denial, Grants, command, intersection};
use skillhost::policy::Consent;
use skillhost::text::printable;
use skillhost::{Policy, Skill};

use crate::cli::grants::{self, Typed};

/// What the policy gives to a skill.
#[derive(Debug, Serialize)]
pub struct Standing {
    #[serde(skip)]
    typed: String,
    /// Whether its digest is confirmed.
    pub consent: Consent,
    /// What it gets, with the defaults of its configuration where it is run.
    pub grants: Grants,
    /// The part of it that the policy grants.
    pub from_policy: Grants,
    /// What the policy would grant it, were its digest confirmed.
    #[serde(skip_serializing_if = "Grants::is_empty")]
    pub once_confirmed: Grants,
    /// Why it is not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<Denial>,
    /// What it declares, and is not granted.
    pub missing: Vec<Denial>,
}

impl Standing {
    /// Looks it up. `typed` is how the user called it.
    pub fn new(policy: &Policy, skill: &Skill, typed: &Path) -> Self {
        let (identity, manifest) = (skill.identity(), skill.manifest());
        let effective =
            policy.effective(identity, manifest, skill.description(), &Grants::default());
        let (effective, mut denials) = match effective {
            Ok(effective) => (effective, Vec::new()),
            Err(denials) => {
                let granted = policy.granted(identity, manifest, &Grants::default());
                (granted, denials)
            }
        };
        let consent = policy.consent(&identity.name, &identity.digest);
        let declared = manifest.map(|manifest| &manifest.grants);
        let once_confirmed = match policy.skills.get(&identity.name) {
            Some(entry) if matches!(consent, Consent::Missing) => {
                let mut entry = entry.clone();
                entry.confirm(super::confirmation(skill));
                let fitting = entry.fitting(&identity.name, &identity.digest, declared);
                fitting.unwrap_or_else(|not_declared| {
                    denials.extend(not_declared);
                    intersection(declared, &entry.grants).0
                })
            }
            _ => Grants::default(),
        };
        let mut missing = policy.missing(identity, manifest, &Grants::default());
        let hints = Typed::new(&identity.name, typed);
        hints.in_denials(&mut denials);
        hints.in_denials(&mut missing);
        Standing {
            typed: typed.to_string_lossy().into_owned(),
            consent,
            grants: effective.grants,
            from_policy: effective.from_policy,
            once_confirmed,
            missing,
            denials,
        }
    }
}

impl Standing {
    /// What is to be done before it is run, where its digest is not confirmed for what the policy grants to its name.
    pub fn unconfirmed(&self) -> Option<&str> {
        let mut denials = self.denials.iter();
        let consent = denials.find(|denial| denial.capability == Capability::Consent)?;
        Some(&consent.hint)
    }
}

/// Lines that are set in.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for denial in &self.denials {
            if denial.capability == Capability::Consent {
                // Nothing is wrong: there is something to be done.
                let what = printable(&denial.hint, false);
                writeln!(f, "  nothing until this digest is confirmed: {what}")?;
                continue;
            }
            writeln!(
                f,
                "  it would not run: {}",
                printable(&denial.to_string(), false)
            )?;
            writeln!(f, "  hint: {}", printable(&denial.hint, false))?;
        }
        if !self.once_confirmed.is_empty() {
            let table = grants::table(&self.once_confirmed, &Grants::default());
            return write!(f, "  then:\n{table}");
        }
        let table = grants::table(&self.from_policy, &Grants::default());
        match (
            table.is_empty(),
            self.denials.is_empty(),
            self.unconfirmed(),
        ) {
            (true, true, _) => writeln!(
                f,
                "  nothing; `{} --help` says how to grant",
                command("grant", &self.typed)
            ),
            (true, false, None) => writeln!(f, "  nothing"),
            _ => write!(f, "{table}"),
        }
    }
}
