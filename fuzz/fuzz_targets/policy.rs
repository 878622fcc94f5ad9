//! The policy and the manifest, and what they come to together: neither the text of a skill nor that
//! of an operator makes the host panic, what is read can be written and read again, and what is
//! effective is never more than what is declared and granted.

#![no_main]

mod seeds;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use skillhost::SkillIdentity;
use skillhost::grant::{self, Grants};
use skillhost::policy::{Confirmation, Consent, Difference, Policy, Wants};
use skillhost::skill::{Description, Digest, Manifest};

/// What divides the input into a manifest and a policy.
const BORDER: &str = "\n%%%\n";

/// What inputs are made from.
const SEEDS: [&[u8]; 4] = [
    include_bytes!("../corpus/policy/whole.toml"),
    include_bytes!("../corpus/policy/inline.toml"),
    include_bytes!("../corpus/policy/twice.toml"),
    include_bytes!("../corpus/policy/undeclared.toml"),
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    seeds::mutated(&SEEDS, data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (manifest, policy) = text.split_once(BORDER).unwrap_or((text, text));
    let manifest = match manifest.parse::<Manifest>() {
        Ok(manifest) => Some(manifest),
        Err(error) => {
            assert!(!printed(&error.to_string()).contains('\x1b'));
            None
        }
    };
    let policy = match policy.parse::<Policy>() {
        Ok(policy) => policy,
        Err(error) => {
            assert!(!error.to_string().chars().any(char::is_control));
            return;
        }
    };
    let json = serde_json::to_string(&policy).expect("a policy can be written");
    let again: Policy = serde_json::from_str(&json).expect("and be read again");
    assert_eq!(policy, again);
    for name in policy.skills.keys() {
        consent(&policy, name, manifest.as_ref());
    }
});

/// A skill of this name, before it is confirmed and after.
fn consent(policy: &Policy, name: &str, manifest: Option<&Manifest>) {
    let description = Description {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        description: String::new(),
        tools: Vec::new(),
    };
    let skill = SkillIdentity {
        name: name.into(),
        version: "1.0.0".into(),
        digest: Digest::of_component(b"a digest that no input has"),
    };
    let none = Grants::default();
    let wants = Wants::new(manifest, &description);
    let consent = policy.consent(name, &skill.digest);
    let before = policy.effective(&skill, manifest, &description, &none);
    if consent == Consent::Missing {
        let denials = before.expect_err("it is not confirmed");
        assert_eq!(denials.len(), 1);
        printed(&denials[0].hint);
    }
    let mut policy = policy.clone();
    let entry = policy.skills.get_mut(name).expect("it is there");
    if let Some(wanted) = entry.closest("1.0.0").and_then(|one| one.wanted.as_ref()) {
        for change in Difference::between(wanted, &wants).changes {
            assert!(!change.to_string().chars().any(char::is_control));
        }
    }
    entry.confirm(Confirmation {
        digest: skill.digest,
        version: None,
        at: None,
        wanted: Some(wants),
    });
    let granted = entry.grants.clone();
    match policy.effective(&skill, manifest, &description, &none) {
        Ok(effective) => {
            let declared = manifest.map(|manifest| &manifest.grants);
            let (fitting, _) = grant::intersection(declared, &granted);
            assert_eq!(effective.from_policy, fitting);
            // The rest is nothing but the defaults of its configuration.
            let mut rest = effective.grants.except(&fitting);
            rest.config.clear();
            assert!(rest.is_empty(), "{rest:?}");
        }
        Err(denials) => {
            for denial in denials {
                printed(&denial.hint);
            }
        }
    }
    for denial in grant::missing(name, manifest.map(|manifest| &manifest.grants), &none) {
        assert!(!denial.hint.chars().any(char::is_control), "{denial:?}");
    }
}

/// What a person would see.
fn printed(text: &str) -> String {
    skillhost::text::printable(text, true).into_owned()
}
