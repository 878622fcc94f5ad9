//! Grants that are so wide that they name nothing.

use skillhost::grant::GrantNames;
use skillhost::grant::{AddressGrant, Capability};
use skillhost::policy::SkillPolicy;

use super::{About, Finding, Kind};

/// What to say of an address that is granted, where it is too wide.
pub fn said(grant: &AddressGrant) -> Option<String> {
    grant.is_wide().then(|| {
        let has_loopback = ["127.0.0.1", "::1"]
            .iter()
            .filter_map(|address| address.parse().ok())
            .any(|loopback| grant.contains(loopback));
        let first = match has_loopback {
            true => "this machine's loopback, ",
            false => "",
        };
        format!(
            "the addresses `{grant}` are granted: every granted name may lead to {first}addresses that are not public, and \
             to whatever else is there"
        )
    })
}

/// What to do about that.
pub const NARROW: &str = "grant the network that is meant, such as `10.1.0.0/16`";

/// Addresses that let names lead anywhere.
pub(super) fn addresses(name: &str, entry: &SkillPolicy, findings: &mut Vec<Finding>) {
    let names = GrantNames::of(&entry.grants);
    for grant in &entry.grants.addresses {
        let Some(message) = said(grant) else { continue };
        let taken = names.to_revoke(name, Capability::Address, &grant.to_string());
        findings.push(Finding {
            kind: Kind::Wide,
            about: About::Skill(name.to_owned()),
            message,
            hint: match taken {
                Some(command) => format!("{NARROW}; to take it out: `{command}`"),
                None => NARROW.to_owned(),
            },
        });
    }
}
