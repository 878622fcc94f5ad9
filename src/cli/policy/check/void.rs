//! Ceilings that do not hold.

use skillhost::Policy;
use skillhost::limits::{Limit, Limits};
use skillhost::text::printable;

use super::{About, Finding, Kind};

/// Ceilings above the general one, or the host's, which are the ones that hold.
pub fn ceilings(policy: &Policy, findings: &mut Vec<Finding>) {
    let host = Limits::ceiling();
    let each = [
        (
            About::Table("general"),
            "general".to_owned(),
            &policy.general.ceilings,
        ),
        (
            About::Table("each_tenant"),
            "each_tenant".to_owned(),
            &policy.each_tenant.ceilings,
        ),
        (
            About::Table("each_skill"),
            "each_skill".to_owned(),
            &policy.each_skill.ceilings,
        ),
    ];
    let tenants = policy.tenants.iter().map(|(name, rules)| {
        (
            About::Tenant(name.clone()),
            format!("tenants.{name}"),
            &rules.ceilings,
        )
    });
    let skills = policy.skills.iter().map(|(name, rules)| {
        (
            About::Skill(name.clone()),
            format!("skills.{name}"),
            &rules.ceilings,
        )
    });
    for (about, place, ceilings) in each.into_iter().chain(tenants).chain(skills) {
        for limit in Limit::ASKED {
            let Some(own) = ceilings.get(limit) else {
                continue;
            };
            let (of_host, general) = (host.get(limit), policy.general.ceilings.get(limit));
            let (holds, hint) = match general {
                _ if own > of_host => (
                    format!("no request gets more than {}", limit.display(of_host)),
                    "the host's own ceiling is lower: name no more than that, or leave this one out",
                ),
                Some(general) if own > general => (
                    format!("`general.ceilings.{limit}` is {}", limit.display(general)),
                    "the lowest ceiling holds: raise the general one, or leave this one out",
                ),
                _ => continue,
            };
            findings.push(Finding {
                kind: Kind::Void,
                about: about.clone(),
                message: format!(
                    "`{}.ceilings.{limit}` of {} has no effect, as {holds}",
                    printable(&place, false),
                    limit.display(own)
                ),
                hint: hint.to_owned(),
            });
        }
    }
}
