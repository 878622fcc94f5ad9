//! Confirmations of versions that are not installed, beside others that are.

use skillhost::grant::command;
use skillhost::policy::SkillPolicy;
use skillhost::skill::Installed;

use super::{About, Finding, Kind};

/// Versions that are confirmed, and of which others are installed: they may be run from their files, and were perhaps
/// removed.
pub fn not_installed(
    name: &str,
    entry: &SkillPolicy,
    installed: &[Installed],
    findings: &mut Vec<Finding>,
) {
    let installed = installed.iter().filter(|other| other.name == name);
    let installed: Vec<&Installed> = installed.collect();
    if installed.is_empty() || entry.grants.is_empty() {
        return;
    }
    for confirmed in &entry.confirmed {
        let version = confirmed.version.as_deref();
        // To confirm another build of the same version takes its place.
        let is_there = |other: &&Installed| {
            other.digest == confirmed.digest || Some(other.version.as_str()) == version
        };
        if installed.iter().any(is_there) {
            continue;
        }
        let version = version.map_or_else(String::new, |version| format!("version {version}, "));
        findings.push(Finding {
            kind: Kind::Uninstalled,
            about: About::Skill(name.to_owned()),
            message: format!(
                "{version}{}, is confirmed and not installed; its grants hold where it is run from its file",
                confirmed.digest
            ),
            hint: format!(
                "if it is gone, `{}` takes that back",
                command("revoke", &confirmed.digest.to_string())
            ),
        });
    }
}
