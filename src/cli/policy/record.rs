//! Writing changes of the policy down in the audit.

use serde_json::Value;
use skillhost::audit::{Change, Entry, What, Who};
use skillhost::execution::SkillIdentity;
use skillhost::grant::Grants;

use super::text::{fields, subject};
use crate::cli::guards::user;
use crate::cli::{Session, audit};

/// Where changes are written down. Opened before the change is made, so that one which must be written
/// down is not made where it cannot be.
pub struct Record(audit::Written);

impl Record {
    /// The audit of the policy as it is.
    ///
    /// # Errors
    /// Where one is required and cannot be opened.
    pub fn open(session: &Session) -> anyhow::Result<Self> {
        // A policy that is named and not there yet is about to be made.
        let policy = match session.policy_file()?.path().exists() {
            true => session.policy_file()?.read()?.unwrap_or_default(),
            false => skillhost::Policy::default(),
        };
        let written = audit::open_for(&policy, session)?;
        written.ready()?;
        Ok(Record(written))
    }

    /// Writes down what was given, or confirmed, to a skill as it is. Where that fails and need not be, it is said,
    /// and no more than that.
    ///
    /// # Errors
    /// Where it must be written down.
    pub fn given(
        &self,
        action: &str,
        skill: &SkillIdentity,
        grants: &[String],
    ) -> anyhow::Result<()> {
        self.change(Change {
            action,
            skill: &skill.name,
            version: Some(&skill.version),
            digest: Some(skill.digest),
            grants,
            by: None,
        })
    }

    /// Writes down what was taken back from all skills of this name, as [`given`](Record::given) does.
    ///
    /// # Errors
    /// As there.
    pub fn taken(&self, skill: &str, grants: &[String]) -> anyhow::Result<()> {
        self.change(Change {
            action: "revoke",
            skill,
            version: None,
            digest: None,
            grants,
            by: None,
        })
    }

    fn change(&self, change: Change<'_>) -> anyhow::Result<()> {
        let by = std::env::var("USER").ok();
        let entry = Entry {
            who: Who {
                caller: Some(&user()),
                ..Who::default()
            },
            what: What::Grant(Change {
                by: by.as_deref(),
                ..change
            }),
        };
        Ok(self.0.record(&entry)?)
    }
}

/// What is granted, without the values of variables and keys.
pub fn names(grants: &Grants) -> Vec<String> {
    let mut names = Vec::new();
    for (field, value) in fields(grants) {
        match &value {
            Value::Array(list) => {
                for grant in list {
                    names.push(match grant {
                        Value::String(text) if !field.starts_with("env") => {
                            format!("{field} {text}")
                        }
                        grant => format!("{field} {}", subject(grant)),
                    });
                }
            }
            Value::Object(pairs) => {
                names.extend(pairs.keys().map(|key| format!("{field} {key}")));
            }
            other => names.push(format!("{field} {other}")),
        }
    }
    names
}
