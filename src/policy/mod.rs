//! The operator's policy: what each skill is granted for good, and to which digests; and what holds for
//! limits, concurrency, rates and circuits.
//!
//! Parsing and deciding are pure; only [`Policy::read`] opens a file.

mod approval;
mod audit;
mod bound;
mod consent;
mod current;
mod difference;
mod file;
pub mod guard;
mod parse;
mod rules;
#[cfg(feature = "schema")]
mod schema;
mod sound;
mod wants;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use approval::{
    Action, Answer, Approval, ApprovalError, ApprovalFilter, ApprovalPolicy, ApprovalRule,
    ApprovalStatus, Approvals, Approving, Attached, MemoryApprovals, RecordedApprovals, Subject,
    UnknownStatus, Wanted,
};
#[cfg(feature = "queue")]
pub(crate) use approval::{Step, decided, step};
pub use audit::AuditPolicy;
pub(crate) use consent::in_the_policy;
pub use consent::{Consent, Effective};
pub use current::CurrentPolicy;
pub use difference::{Change, Difference, Kind, UNDECLARED};
pub use file::MAX_POLICY_BYTES;
pub use parse::PolicyError;
pub use rules::{
    BreakerRules, Concurrency, HostRules, OverCeiling, Rate, Rates, Rules, SkillRules,
};
pub use wants::Wants;

use crate::grant::Grants;
use crate::limits::LimitOverrides;
use crate::secret::SecretSource;
use crate::skill::Digest;

/// The contents of a policy file.
///
/// ```
/// use skillhost::policy::{Consent, Policy};
///
/// let policy: Policy = r#"
///     [skills.csv-query.grants]
///     directories = ["/srv/reports:/data:ro"]
///     config = { max_rows = 50 }
///
///     [[skills.csv-query.confirmed]]
///     digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
/// "#.parse()?;
/// let digest = policy.skills["csv-query"].confirmed[0].digest;
/// assert_eq!(policy.consent("csv-query", &digest), Consent::Given);
/// # Ok::<(), skillhost::policy::PolicyError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Policy {
    /// What holds for everything.
    #[serde(skip_serializing_if = "is_default")]
    pub general: Rules,
    /// What holds for each tenant, as far as its own entry does not say otherwise. Requests without a
    /// tenant are one more.
    #[serde(skip_serializing_if = "is_default")]
    pub each_tenant: Rules,
    /// What holds for a tenant, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<String, Rules>,
    /// What holds for each skill, as far as its own entry does not say otherwise.
    #[serde(skip_serializing_if = "is_default")]
    pub each_skill: SkillRules,
    /// What holds for each host that skills send requests to.
    #[serde(skip_serializing_if = "is_default")]
    pub each_host: HostRules,
    /// What is said of each skill, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub skills: BTreeMap<String, SkillPolicy>,
    /// What runs only once somebody has approved it.
    #[serde(skip_serializing_if = "ApprovalPolicy::is_default")]
    pub approval: ApprovalPolicy,
    /// What is written down of what runs.
    #[serde(skip_serializing_if = "AuditPolicy::is_default")]
    pub audit: AuditPolicy,
    /// Where secrets come from, by their names; those that are not named are kept ones.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "secret_sources"))]
    pub secrets: BTreeMap<String, SecretSource>,
}

/// What a policy says of one skill, in all its versions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SkillPolicy {
    /// What it is granted. Host paths are absolute.
    #[serde(skip_serializing_if = "Grants::is_empty")]
    #[cfg_attr(feature = "schema", schemars(transform = crate::grant::pattern::for_good))]
    pub grants: Grants,
    /// The digests that the grants are given to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confirmed: Vec<Confirmation>,
    /// See [`Rules::over_ceiling`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_ceiling: Option<OverCeiling>,
    /// See [`Rules::ceilings`].
    #[serde(skip_serializing_if = "LimitOverrides::is_empty")]
    pub ceilings: LimitOverrides,
    /// See [`SkillRules::defaults`].
    #[serde(skip_serializing_if = "LimitOverrides::is_empty")]
    pub defaults: LimitOverrides,
    /// See [`Rules::concurrency`].
    #[serde(skip_serializing_if = "Concurrency::is_empty")]
    pub concurrency: Concurrency,
    /// See [`Rules::rates`].
    #[serde(skip_serializing_if = "Rates::is_empty")]
    pub rates: Rates,
    /// See [`SkillRules::breaker`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerRules>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A digest to which the operator has given a skill's grants, and what the skill wanted then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The digest.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "String", regex(pattern = "^sha256:[0-9a-f]{64}$"))
    )]
    pub digest: Digest,
    /// The skill's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub at: Option<DateTime<Utc>>,
    /// What the skill wanted then, so that a later version can be compared with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wants>,
}

impl SkillPolicy {
    /// The confirmation of a digest.
    pub fn confirmation(&self, digest: &Digest) -> Option<&Confirmation> {
        self.confirmed
            .iter()
            .find(|confirmed| confirmed.digest == *digest)
    }

    /// Adds a confirmation. It takes the place of an earlier one of the same digest or version;
    /// those of other versions, which may be installed side by side, stay.
    pub fn confirm(&mut self, confirmation: Confirmation) {
        self.confirmed.retain(|other| {
            other.digest != confirmation.digest
                && (other.version.is_none() || other.version != confirmation.version)
        });
        self.confirmed.push(confirmation);
    }

    /// The confirmation that another digest is best compared with: of the same version, else the
    /// latest.
    pub fn closest(&self, version: &str) -> Option<&Confirmation> {
        let same = |confirmed: &&Confirmation| confirmed.version.as_deref() == Some(version);
        // Of several that are equal, the last in the file.
        let latest = self.confirmed.iter().max_by_key(|confirmed| confirmed.at);
        self.confirmed.iter().rev().find(same).or(latest)
    }
}

#[cfg(feature = "schema")]
fn secret_sources(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "pattern": "^(env:[^=]{1,256}$|file:/)" },
    })
}
