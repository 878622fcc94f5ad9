//! Which of the policy's grants a skill gets.

use std::collections::HashSet;

use super::{Difference, Kind, Policy, SkillPolicy, Wants};
use crate::execution::SkillIdentity;
use crate::grant::{self, Capability, Declared, Denial, GrantNames, Grants, Missing, Remedy};
use crate::skill::{Description, Digest, Manifest};
use crate::text::shortened;

/// The changes that a denial names; the command `diff` shows all.
const MAX_CHANGES: usize = 3;

/// Whether the operator has given the policy's grants to a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// The policy grants nothing to a skill of this name, so there is nothing to consent to.
    NotNeeded,
    /// The grants are given to this digest.
    Given,
    /// There are grants for a skill of this name, but not for this digest.
    Missing,
}

impl Consent {
    /// `not_needed`, `given` or `missing`.
    pub fn as_str(self) -> &'static str {
        match self {
            Consent::NotNeeded => "not_needed",
            Consent::Given => "given",
            Consent::Missing => "missing",
        }
    }
}

impl serde::Serialize for Consent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a request may touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective {
    /// Everything.
    pub grants: Grants,
    /// The part of it that comes from the policy.
    pub from_policy: Grants,
}

impl Policy {
    /// Whether the operator has given this name's grants to this digest.
    pub fn consent(&self, name: &str, digest: &Digest) -> Consent {
        match self.skills.get(name) {
            Some(skill) if !skill.grants.is_empty() => match skill.confirmation(digest) {
                Some(_) => Consent::Given,
                None => Consent::Missing,
            },
            _ => Consent::NotNeeded,
        }
    }

    /// What a skill declares, and neither the policy nor the request grants.
    ///
    /// What the policy grants to its name counts whether or not it is confirmed for this digest, and
    /// whatever else is wrong with the request: to grant it once more would help nobody.
    pub fn missing(
        &self,
        skill: &SkillIdentity,
        manifest: Option<&Manifest>,
        requested: &Grants,
    ) -> Vec<Denial> {
        self.missing_if(skill, manifest, requested, &|_| true)
    }

    /// Of that, the part of which this is so.
    pub(crate) fn missing_if(
        &self,
        skill: &SkillIdentity,
        manifest: Option<&Manifest>,
        requested: &Grants,
        which: &dyn Fn(Missing<'_>) -> bool,
    ) -> Vec<Denial> {
        let declared = manifest.map(|manifest| &manifest.grants);
        match self.skills.get(&*skill.name) {
            Some(entry) => {
                let granted = entry.grants.clone().with(requested);
                grant::missing_if(&skill.name, declared, &granted, which)
            }
            None => grant::missing_if(&skill.name, declared, requested, which),
        }
    }

    /// The effective grants of a request: what the skill declares, and the policy or the request
    /// grants. Of two grants for the same guest path, variable or key, the request's holds.
    ///
    /// The policy's grants are for all versions of a skill. One that this version does not declare
    /// is passed over where another confirmed version declares it.
    ///
    /// # Errors
    /// Where the policy has grants for a skill of this name and they are not confirmed for this
    /// digest; and as [`grant::effective`].
    pub fn effective(
        &self,
        skill: &SkillIdentity,
        manifest: Option<&Manifest>,
        description: &Description,
        requested: &Grants,
    ) -> Result<Effective, Vec<Denial>> {
        let declared = manifest.map(|manifest| &manifest.grants);
        let entry = match self.skills.get(&*skill.name) {
            Some(entry) if !entry.grants.is_empty() => entry,
            _ => {
                return Ok(Effective {
                    grants: grant::effective(&skill.name, declared, requested)?,
                    from_policy: Grants::default(),
                });
            }
        };
        if entry.confirmation(&skill.digest).is_none() {
            let wants = Wants::new(manifest, description);
            return Err(vec![unconfirmed(skill, entry, &wants)]);
        }
        let from_policy = entry
            .fitting(&skill.name, &skill.digest, declared)?
            .except(requested);
        let both = from_policy.clone().with(requested);
        Ok(Effective {
            grants: grant::effective(&skill.name, declared, &both)?,
            from_policy,
        })
    }

    /// What is both granted and declared, without defaults, whether or not a skill can run with it: for whoever is
    /// shown why it cannot. Of the policy's, nothing where the digest is not confirmed.
    pub fn granted(
        &self,
        skill: &SkillIdentity,
        manifest: Option<&Manifest>,
        requested: &Grants,
    ) -> Effective {
        let declared = manifest.map(|manifest| &manifest.grants);
        let entry = self.skills.get(&*skill.name);
        let from_policy = entry
            .filter(|entry| entry.confirmation(&skill.digest).is_some())
            .map(|entry| grant::intersection(declared, &entry.grants).0)
            .unwrap_or_default()
            .except(requested);
        let both = from_policy.clone().with(requested);
        Effective {
            grants: grant::intersection(declared, &both).0,
            from_policy,
        }
    }
}

impl SkillPolicy {
    /// The grants that fit what one version declares. One that does not, and that another confirmed version
    /// declares, is left out.
    ///
    /// # Errors
    /// Those that do not fit it, nor any other confirmed version: with them it is rejected.
    pub fn fitting(
        &self,
        name: &str,
        digest: &Digest,
        declared: Option<&Declared>,
    ) -> Result<Grants, Vec<Denial>> {
        let (fitting, denials) = grant::intersection(declared, &self.grants);
        if denials.is_empty() {
            return Ok(fitting);
        }
        let others: Vec<Vec<Denial>> = self
            .confirmed
            .iter()
            .filter(|other| other.digest != *digest)
            .filter_map(|other| other.wanted.as_ref())
            .map(|wanted| grant::intersection(wanted.declared.as_ref(), &self.grants).1)
            .collect();
        let others: Vec<HashSet<_>> = others
            .iter()
            .map(|denials| denials.iter().map(about).collect())
            .collect();
        let names = GrantNames::of(&self.grants);
        let denials: Vec<Denial> = denials
            .into_iter()
            .filter(|denial| others.iter().all(|other| other.contains(&about(denial))))
            .map(|denial| in_the_policy(denial, name, &names))
            .collect();
        if denials.is_empty() {
            Ok(fitting)
        } else {
            Err(denials)
        }
    }
}

/// What stands before the reason of a denial of what the policy grants.
const IN_THE_POLICY: &str = "in the policy: ";

/// A denial, where it is of a grant of the policy's, of which these are the names: says so, and what takes it out.
pub(crate) fn in_the_policy(denial: Denial, skill: &str, names: &GrantNames) -> Denial {
    if denial.reason.starts_with(IN_THE_POLICY) {
        return denial;
    }
    let reason = format!("{IN_THE_POLICY}{}", denial.reason);
    let hint = match names.to_take_out(skill, &denial) {
        Some(command) => format!("{}; to take it out of the policy: `{command}`", denial.hint),
        None => denial.hint,
    };
    Denial {
        reason,
        hint,
        ..denial
    }
}

/// What a grant is that is refused.
fn about(denial: &Denial) -> (Capability, &str) {
    (denial.capability, &denial.subject)
}

/// The policy's grants are given to other digests.
fn unconfirmed(skill: &SkillIdentity, entry: &SkillPolicy, wants: &Wants) -> Denial {
    let mut reason = format!(
        "the policy's grants are not confirmed for this digest, {}",
        skill.digest
    );
    let before = entry.closest(&skill.version);
    let before = before.and_then(|before| before.wanted.as_ref());
    if before.is_some_and(|before| before.declared.is_none()) && wants.declared.is_some() {
        reason.push_str(
            "; the one that was confirmed had no skill.toml, and so wanted all that is granted; this one has one",
        );
    } else if let Some(wanted) = before {
        let difference = Difference::between(wanted, wants);
        let more: Vec<String> = difference
            .changes
            .iter()
            .filter(|change| !matches!(change.kind, Kind::Removed | Kind::Narrowed))
            .map(|change| format!("{} {change}", change.kind.as_str()))
            .map(|change| shortened(&change, 150).into_owned())
            .collect();
        match more.len() {
            0 => reason.push_str("; it wants nothing more than the one that was confirmed"),
            count => {
                let shown = more[..count.min(MAX_CHANGES)].join("; ");
                reason.push_str(&format!("; since the one that was confirmed: {shown}"));
                if count > MAX_CHANGES {
                    reason.push_str(&format!("; and {} more", count - MAX_CHANGES));
                }
            }
        }
    }
    Denial {
        capability: Capability::Consent,
        subject: skill.name.to_string(),
        reason,
        remedy: Remedy::Operator,
        grant: None,
        hint: format!(
            "see what it wants now with `{}`, and consent to it with `{}`",
            grant::command("diff", &skill.name),
            grant::command("confirm", &skill.name)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Mode;
    use crate::policy::Confirmation;

    const MANIFEST: &str = r#"
        grants.environment = ["TZ"]
        grants.directories = [{ path = "/data", mode = "ro" }]
        config.rows = { type = "integer", default = 10 }
    "#;

    fn identity(component: &str, manifest: &str) -> SkillIdentity {
        SkillIdentity {
            name: "words".into(),
            version: "1.0.0".into(),
            digest: Digest::of_component(component.as_bytes()).with_manifest(manifest.as_bytes()),
        }
    }

    fn description() -> Description {
        Description {
            name: "words".into(),
            version: "1.0.0".into(),
            description: String::new(),
            tools: Vec::new(),
        }
    }

    fn confirmation(skill: &SkillIdentity, manifest: &str) -> Confirmation {
        let manifest = manifest.parse().unwrap();
        Confirmation {
            digest: skill.digest,
            version: Some(skill.version.to_string()),
            at: None,
            wanted: Some(Wants::new(Some(&manifest), &description())),
        }
    }

    fn policy(grants: Grants, confirmed: Vec<Confirmation>) -> Policy {
        let mut policy = Policy::default();
        let skill = SkillPolicy {
            grants,
            confirmed,
            ..SkillPolicy::default()
        };
        policy.skills.insert("words".into(), skill);
        policy
    }

    fn effective(
        policy: &Policy,
        skill: &SkillIdentity,
        manifest: &str,
        requested: &Grants,
    ) -> Result<Effective, Vec<Denial>> {
        let manifest = manifest.parse().unwrap();
        policy.effective(skill, Some(&manifest), &description(), requested)
    }

    #[test]
    fn grants_are_given_to_a_digest_not_to_a_name() {
        let skill = identity("a", MANIFEST);
        let policy = policy(
            Grants::default().environment("TZ", "UTC"),
            vec![confirmation(&skill, MANIFEST)],
        );
        let none = Grants::default();
        let given = effective(&policy, &skill, MANIFEST, &none).unwrap();
        assert_eq!(
            given.from_policy,
            Grants::default().environment("TZ", "UTC")
        );
        assert_eq!(given.grants, given.from_policy.clone().config("rows", "10"));
        for (component, manifest) in [
            ("b", MANIFEST),
            ("a", "grants.environment = [\"TZ\", \"SECRET\"]"),
            ("a", ""),
        ] {
            let other = identity(component, manifest);
            for requested in [&none, &Grants::default().environment("TZ", "UTC")] {
                let denials = effective(&policy, &other, manifest, requested).unwrap_err();
                assert_eq!(denials.len(), 1);
                assert_eq!(denials[0].capability, Capability::Consent);
                assert_eq!(denials[0].remedy, Remedy::Operator);
                assert!(denials[0].hint.contains("`skillhost policy confirm words`"));
                assert_eq!(
                    denials[0].reason.contains("added environment SECRET"),
                    manifest.contains("SECRET"),
                    "{}",
                    denials[0].reason
                );
            }
        }
        let mut unnamed = identity("b", MANIFEST);
        unnamed.name = "other".into();
        let given = effective(&policy, &unnamed, MANIFEST, &none).unwrap();
        assert_eq!(given.from_policy, Grants::default());
    }

    #[test]
    fn a_digest_with_a_manifest_does_not_want_more_than_one_without() {
        let before = identity("a", "");
        let before = Confirmation {
            wanted: Some(Wants::new(None, &description())),
            ..confirmation(&before, "")
        };
        let policy = policy(Grants::default().environment("TZ", "UTC"), vec![before]);
        let now = identity("a", MANIFEST);
        let denials = effective(&policy, &now, MANIFEST, &Grants::default()).unwrap_err();
        let reason = &denials[0].reason;
        assert!(reason.contains("had no skill.toml"), "{reason}");
        assert!(!reason.contains("added"), "{reason}");
        let wanted = policy.skills["words"].confirmed[0].wanted.clone().unwrap();
        let manifest = MANIFEST.parse().unwrap();
        let difference = Difference::between(&wanted, &Wants::new(Some(&manifest), &description()));
        assert_eq!(difference.changes[0].kind, Kind::Removed, "{difference:?}");
    }

    #[test]
    fn the_request_goes_before_the_policy() {
        let skill = identity("a", MANIFEST);
        let policy = policy(
            Grants::default()
                .environment("TZ", "UTC")
                .config("rows", "20")
                .directory("/srv", "/data", Mode::Rw),
            vec![confirmation(&skill, MANIFEST)],
        );
        let requested = Grants::default()
            .config("rows", "30")
            .directory("/tmp", "/data", Mode::Ro);
        let given = effective(&policy, &skill, MANIFEST, &requested).unwrap();
        assert_eq!(given.grants, requested.environment("TZ", "UTC"));
        assert_eq!(
            given.from_policy,
            Grants::default().environment("TZ", "UTC")
        );
        let given = effective(&policy, &skill, MANIFEST, &Grants::default()).unwrap();
        assert_eq!(given.grants.directories[0].mode, Mode::Ro, "as declared");
    }

    #[test]
    fn what_is_granted_is_not_missing_whether_or_not_it_is_confirmed() {
        let skill = identity("a", MANIFEST);
        let manifest = MANIFEST.parse().unwrap();
        let grants = Grants::default().environment("TZ", "UTC");
        for confirmed in [Vec::new(), vec![confirmation(&skill, MANIFEST)]] {
            let policy = policy(grants.clone(), confirmed);
            let missing = policy.missing(&skill, Some(&manifest), &Grants::default());
            let subjects: Vec<&str> = missing.iter().map(|one| one.subject.as_str()).collect();
            assert_eq!(subjects, ["/data"]);
            let requested = Grants::default().directory("/tmp", "/data", Mode::Ro);
            assert_eq!(policy.missing(&skill, Some(&manifest), &requested), []);
        }
        let none = Policy::default().missing(&skill, Some(&manifest), &grants);
        assert_eq!(none.len(), 1);
    }

    #[test]
    fn a_grant_for_another_version_is_passed_over_and_a_misspelt_one_is_not() {
        let newer = "grants.environment = [\"TZ\", \"LANG\"]";
        let (one, two) = (identity("a", MANIFEST), identity("b", newer));
        let confirmed = vec![confirmation(&one, MANIFEST), confirmation(&two, newer)];
        let confirmed_before = confirmed.clone();
        let grants = Grants::default().environment("LANG", "C");
        let both = policy(grants.clone(), confirmed);
        let none = Grants::default();
        assert_eq!(
            effective(&both, &one, MANIFEST, &none).unwrap().from_policy,
            none
        );
        assert_eq!(
            effective(&both, &two, newer, &none).unwrap().from_policy,
            grants
        );
        // Whatever it is.
        let newer = "grants.scratch = true\ngrants.storage = true";
        let two = identity("c", newer);
        let confirmed = vec![confirmation(&one, MANIFEST), confirmation(&two, newer)];
        let places = Grants::default().scratch().storage();
        let both = policy(places.clone(), confirmed);
        let given = effective(&both, &one, MANIFEST, &none).unwrap();
        assert_eq!(given.from_policy, none);
        assert_eq!(given.grants, none.clone().config("rows", "10"));
        let given = effective(&both, &two, newer, &none).unwrap();
        assert_eq!(given.from_policy, places);
        let misspelt = policy(grants.environment("LNAG", "C"), confirmed_before);
        let denials = effective(&misspelt, &one, MANIFEST, &none).unwrap_err();
        assert_eq!(denials.len(), 1, "{denials:?}");
        assert_eq!(denials[0].subject, "LNAG");
        assert!(denials[0].hint.contains("policy revoke words LNAG"));
        let undeclared = policy(
            Grants::default().scratch(),
            vec![confirmation(&one, MANIFEST)],
        );
        let denials = effective(&undeclared, &one, MANIFEST, &none).unwrap_err();
        assert_eq!(denials.len(), 1, "{denials:?}");
        assert!(
            denials[0]
                .hint
                .ends_with(": `skillhost policy revoke words scratch`"),
            "{denials:?}"
        );
    }
}
