//! Rules about skills and tools that are not there: perhaps not yet, perhaps misspelt.

use skillhost::Policy;
use skillhost::grant::{Grants, command, shell_word};
use skillhost::policy::SkillPolicy;
use skillhost::skill::{Digest, Installed, Library, LibraryError};
use skillhost::text::{closest, named};

use super::{About, Finding, Kind};
use crate::cli::explain;

/// The most bytes of a name that are shown.
const MAX_SHOWN: usize = 100;

/// An entry about a skill that is not installed.
pub fn entry(
    name: &str,
    entry: &SkillPolicy,
    installed: &[Installed],
    findings: &mut Vec<Finding>,
) {
    if !entry.confirmed.is_empty() {
        // The name is right: it is run by its path, or was removed.
        let what = match entry.grants.is_empty() {
            true => "nothing is granted to it",
            false => "its grants hold where it is run from its file",
        };
        findings.push(Finding {
            kind: Kind::Uninstalled,
            about: About::Skill(name.to_owned()),
            message: format!("it is confirmed, and no skill of this name is installed; {what}"),
            hint: format!(
                "if it is gone, `{} --all` takes out all that is said of it",
                command("revoke", name)
            ),
        });
        return;
    }
    let mut bounds = entry.clone();
    bounds.grants = Grants::default();
    let (kind, message) = if !entry.grants.is_empty() {
        let message = "no digest is confirmed, and no skill of this name is installed: nobody gets these grants";
        (Kind::Unconfirmed, message)
    } else if bounds != SkillPolicy::default() {
        let message = "its rules are about a skill that is not installed";
        (Kind::Absent, message)
    } else {
        return;
    };
    findings.push(Finding {
        kind,
        about: About::Skill(name.to_owned()),
        message: message.to_owned(),
        hint: meant(name, installed),
    });
}

/// Installed skills whose record cannot be read, each with its name: they are there, and what they are is not known.
pub struct Unreadable(Vec<(String, LibraryError)>);

impl Unreadable {
    /// # Errors
    /// Where the library cannot be read.
    pub fn of(library: &Library) -> anyhow::Result<Self> {
        let all = library.unreadable().map_err(explain::library)?;
        let named = all.into_iter().filter_map(|error| match &error {
            LibraryError::Record { skill, .. } => {
                let (name, _) = skill.rsplit_once('@')?;
                Some((name.to_owned(), error))
            }
            _ => None,
        });
        Ok(Unreadable(named.collect()))
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// Whether there is one whose name begins so.
    fn begins(&self, begin: &str) -> bool {
        self.0.iter().any(|(name, _)| name.starts_with(begin))
    }

    /// Those that the policy has something to say about.
    pub fn findings(self, policy: &Policy) -> impl Iterator<Item = Finding> {
        let named = |name: &String| {
            let mut rules = policy.approval.rules.iter();
            policy.skills.contains_key(name) || rules.any(|rule| rule.skill.as_ref() == Some(name))
        };
        let meant = self.0.into_iter().filter(move |(name, _)| named(name));
        meant.map(|(name, error)| {
            let (message, hint) = super::told(&explain::library(error).into());
            Finding {
                kind: Kind::Unreadable,
                about: About::Skill(name),
                message,
                hint,
            }
        })
    }
}

/// Rules of approval about a skill that is not installed, or a tool that no installed version of it has.
pub fn rules(
    policy: &Policy,
    installed: &[Installed],
    unreadable: &Unreadable,
    findings: &mut Vec<Finding>,
) {
    let whole = |name: &&String| !name.ends_with('*');
    for (index, rule) in policy.approval.rules.iter().enumerate() {
        let title = rule.title(index + 1);
        let Some(skill) = rule.skill.as_ref().filter(whole) else {
            let begin = rule.skill.as_deref().unwrap_or("*").trim_end_matches('*');
            let all: Vec<&Installed> = installed
                .iter()
                .filter(|other| other.name.starts_with(begin))
                .collect();
            if let Some(tool) = rule.tool.as_ref().filter(whole)
                && !all.is_empty()
                && !all.iter().any(|one| one.tools.contains(tool))
                && !unreadable.begins(begin)
            {
                let of = match begin {
                    "" => String::new(),
                    begin => format!(" whose name begins with `{}`", named(begin, MAX_SHOWN)),
                };
                findings.push(Finding {
                    kind: Kind::Absent,
                    about: About::Table("approval"),
                    message: format!(
                        "{title} is about a tool `{}`, which no skill that is installed{of} has",
                        named(tool, MAX_SHOWN)
                    ),
                    hint: near(tool, &all).unwrap_or_else(|| LIST.to_owned()),
                });
            }
            continue;
        };
        let digest = skill.parse::<Digest>().ok();
        let versions: Vec<&Installed> = installed
            .iter()
            .filter(|other| match digest {
                Some(digest) => other.digest == digest,
                None => other.name == *skill,
            })
            .collect();
        if versions.is_empty() && unreadable.has(skill) {
            continue;
        }
        let (message, hint) = if versions.is_empty() {
            let message = format!("{title} is about a skill that is not installed");
            (message, meant(skill, installed))
        } else if let Some(tool) = rule.tool.as_ref().filter(whole)
            && !versions.iter().any(|version| version.tools.contains(tool))
        {
            let message = format!(
                "{title} is about a tool `{}`, which no installed version of it has",
                named(tool, MAX_SHOWN)
            );
            (message, meant_tool(tool, skill, &versions))
        } else {
            continue;
        };
        findings.push(Finding {
            kind: Kind::Absent,
            about: About::Skill(skill.clone()),
            message,
            hint,
        });
    }
}

/// What shows the skills that are installed.
const LIST: &str = "`skillhost list` shows what is";

/// What to do where no skill of a name is installed.
fn meant(name: &str, installed: &[Installed]) -> String {
    match closest(name, installed.iter().map(|other| other.name.as_str())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => LIST.to_owned(),
    }
}

/// What to do where no version of a skill has a tool.
fn meant_tool(tool: &str, skill: &str, versions: &[&Installed]) -> String {
    near(tool, versions).unwrap_or_else(|| {
        format!(
            "`skillhost inspect {}` shows which it has",
            shell_word(skill)
        )
    })
}

/// The tool of these that may have been meant.
fn near(tool: &str, skills: &[&Installed]) -> Option<String> {
    let tools = skills.iter().flat_map(|one| &one.tools);
    let near = closest(tool, tools.map(String::as_str))?;
    Some(format!("did you mean `{near}`?"))
}
