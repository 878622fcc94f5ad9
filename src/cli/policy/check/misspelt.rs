//! Methods of HTTP that are granted, and that no server is likely to know.

use skillhost::grant::{Capability, GrantNames, HttpGrant};
use skillhost::policy::SkillPolicy;

use super::{About, Finding, Kind};

/// What to say of a method that is granted and may be misspelt, and what to do about it.
pub fn said(grant: &HttpGrant) -> Option<(String, String)> {
    let (method, meant) = grant.misspelt()?;
    let message = format!("`{grant}` grants the method `{method}`, which HTTP does not have");
    Some((message, format!("did you mean `{meant}`?")))
}

/// Methods that may have been meant otherwise.
pub(super) fn methods(name: &str, entry: &SkillPolicy, findings: &mut Vec<Finding>) {
    let names = GrantNames::of(&entry.grants);
    for grant in &entry.grants.http {
        let Some((message, hint)) = said(grant) else {
            continue;
        };
        let taken = names.to_revoke(name, Capability::Http, &grant.to_string());
        findings.push(Finding {
            kind: Kind::Misspelt,
            about: About::Skill(name.to_owned()),
            message,
            hint: match taken {
                Some(command) => format!("{hint}; to take it out: `{command}`"),
                None => hint,
            },
        });
    }
}
