//! `skillhost policy diff`: what a skill wants that it did not want before.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde::Serialize;
use skillhost::policy::{Consent, Difference, Kind};
use skillhost::skill::Digest;
use skillhost::{Policy, Skill, SkillIdentity};

use crate::cli::Session;
use crate::cli::console::{BOLD, DIM, ERROR, GOOD, WARNING, print, print_json, styled};
use crate::cli::exit::Exit;
use crate::cli::locate::SKILL_HELP;
use crate::cli::table::Table;

const EXAMPLES: &str = "\
Examples:
  skillhost policy diff csv-query
  skillhost policy diff ./csv-query --json |
      jq '.changes[] | select(.kind == \"added\")'";

/// Show how a skill differs from the one that was confirmed
///
/// It is compared with the confirmed one of the same version, else with the one that was confirmed
/// last: what its skill.toml declares, its default limits, and its tools.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DiffArgs {
    #[arg(value_name = "SKILL", value_hint = ValueHint::AnyPath, help = SKILL_HELP)]
    skill: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Shows the difference.
///
/// # Errors
/// Where the policy or the skill cannot be used.
pub fn diff(args: &DiffArgs, session: &Session) -> anyhow::Result<Exit> {
    let policy = session.policy_file()?.read()?.unwrap_or_default();
    let skill = super::load(&args.skill, session)?;
    let comparison = Comparison::new(&policy, &skill);
    if args.json {
        print_json(session.console, &comparison)?;
    } else {
        print(comparison.text())?;
    }
    Ok(Exit::Success)
}

/// A skill beside the one that was confirmed.
#[derive(Debug, Serialize)]
pub struct Comparison<'a> {
    #[serde(flatten)]
    skill: &'a SkillIdentity,
    consent: Consent,
    /// Whether exactly this digest is confirmed, whatever is granted.
    confirmed: bool,
    /// What it is compared with; nothing where none is confirmed, and then everything is new.
    before: Option<Before>,
    changes: Difference,
}

#[derive(Debug, Serialize)]
struct Before {
    digest: Digest,
    version: Option<String>,
}

impl<'a> Comparison<'a> {
    /// Compares.
    pub fn new(policy: &Policy, skill: &'a Skill) -> Self {
        let identity = skill.identity();
        let entry = policy.skills.get(&*identity.name);
        let same = entry.and_then(|entry| entry.confirmation(&identity.digest));
        let before = same.or_else(|| entry?.closest(&identity.version));
        let wants = skill.wants();
        Comparison {
            skill: identity,
            consent: policy.consent(&identity.name, &identity.digest),
            confirmed: same.is_some(),
            changes: match before.map(|before| before.wanted.as_ref()) {
                // The digest says that nothing changed, whatever else was noted.
                _ if same.is_some() => Difference::default(),
                Some(Some(wanted)) => Difference::between(wanted, &wants),
                _ => Difference::all(&wants),
            },
            before: before.map(|before| Before {
                digest: before.digest,
                version: before.version.clone(),
            }),
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let SkillIdentity {
            name,
            version,
            digest,
        } = self.skill;
        let mut out = String::new();
        let mut digests = Table::new(2);
        if let Some(before) = &self.before
            && !self.confirmed
        {
            let version = before.version.as_deref().unwrap_or("-");
            digests.row([
                "confirmed".to_owned(),
                skillhost::text::printable(version, false).into_owned(),
                before.digest.to_string(),
            ]);
        }
        let now = if self.confirmed { "confirmed" } else { "now" };
        digests.row([now.to_owned(), version.to_string(), digest.to_string()]);
        let _ = writeln!(out, "{}\n{digests}", styled(BOLD, name));
        let heading = match (&self.before, self.changes.is_empty()) {
            (Some(_), true) if self.confirmed => "Nothing differs",
            (Some(_), true) => "The digest differs, and nothing in what it wants",
            (Some(_), false) => "What it wants differs",
            // Its tools, if nothing else.
            (None, _) => "No digest is confirmed; it wants",
        };
        let _ = writeln!(out, "{}", styled(BOLD, heading));
        for change in &self.changes.changes {
            let (style, mark) = match change.kind {
                Kind::Added => (WARNING, "+"),
                Kind::Widened => (ERROR, "↑"),
                Kind::Changed => (WARNING, "~"),
                Kind::Narrowed => (GOOD, "↓"),
                Kind::Removed => (DIM, "-"),
            };
            let kind = change.kind.as_str();
            let _ = writeln!(out, "  {} {kind:<8}  {change}", styled(style, mark));
        }
        out
    }
}
