//! `skillhost policy confirm`: consent to a digest.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use skillhost::Policy;
use skillhost::grant::{Grants, command, intersection};
use skillhost::skill::Digest;
use skillhost::text::printable;

use super::diff::Comparison;
use crate::cli::Session;
use crate::cli::complaint::Complaint;
use crate::cli::console::{BOLD, GOOD, print, say, styled};
use crate::cli::exit::Exit;
use crate::cli::grants;
use crate::cli::locate::SKILL_HELP;
use crate::cli::question::agreed;

const EXAMPLES: &str = "\
Examples:
  skillhost policy confirm csv-query
  skillhost policy confirm csv-query@0.2.0 --yes

Exit codes:
    0  it is confirmed
    2  there is nobody to ask, or nothing to confirm
    3  the answer was no";

/// Give what the policy grants to a skill to the digest that it has now
///
/// Shows how it differs from the one that was confirmed before, and asks. The confirmation takes
/// the place of an earlier one of the same version; those of other versions stay.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfirmArgs {
    #[arg(value_name = "SKILL", value_hint = ValueHint::AnyPath, help = SKILL_HELP)]
    skill: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Confirms a skill.
///
/// # Errors
/// Where there is nothing to confirm, or nobody to ask.
pub fn confirm(args: &ConfirmArgs, session: &Session) -> anyhow::Result<Exit> {
    let file = session.policy_file()?;
    let policy = file.read()?.unwrap_or_default();
    let (on, skill) = super::load_on_host(&args.skill, session)?;
    let name = &*skill.identity().name;
    let granted = granted(&policy, name);
    if granted.is_empty() {
        let message = format!("the policy grants nothing to `{name}`");
        return Err(Complaint::usage(message)
            .hint(format!(
                "`{} --help` says how to grant, which confirms in one go",
                command("grant", &args.skill.to_string_lossy())
            ))
            .into());
    }
    let title = super::title(&skill);
    let digest = skill.digest();
    if policy.skills[name].confirmation(&digest).is_some() {
        session.console.note(format_args!(
            "{} {title} was confirmed already ({digest})",
            styled(GOOD, "✓")
        ));
        return Ok(Exit::Success);
    }
    let declared = skill.manifest().map(|manifest| &manifest.grants);
    let mut entry = policy.skills[name].clone();
    entry.confirm(super::confirmation(&skill));
    let fitting = entry.fitting(name, &digest, declared);
    // What does not fit is warned of; what is left is what it would get.
    let given = match &fitting {
        Ok(given) => given.clone(),
        Err(_) => intersection(declared, &granted).0,
    };
    if !(args.yes && session.console.quiet) {
        print(format_args!(
            "{}\n{}\n{}",
            Comparison::new(&policy, &skill).text(),
            styled(BOLD, "It would be granted"),
            match given.is_empty() {
                true => "  nothing\n".to_owned(),
                false => grants::table(&given, &Grants::default()).to_string(),
            }
        ))?;
        let passed_over = granted.clone().except(&given);
        if fitting.is_ok() && passed_over != Grants::default() {
            print(format_args!(
                "{}\n{}",
                styled(
                    BOLD,
                    "Not this, which it does not declare, and another version does"
                ),
                grants::table(&passed_over, &Grants::default())
            ))?;
        }
    }
    let gone: Vec<Digest> = policy.skills[name]
        .confirmed
        .iter()
        .map(|before| before.digest)
        .filter(|before| entry.confirmation(before).is_none())
        .collect();
    let mut denials = fitting.err().unwrap_or_default();
    on.host.set_policy(Some(policy.clone()));
    let folders = given.directories.iter();
    denials.extend(folders.filter_map(|folder| super::unopenable(&on, folder)));
    for denial in denials {
        session.console.warn(format_args!(
            "with this it would be rejected: {}; {}",
            printable(&denial.to_string(), false),
            printable(&denial.hint, false)
        ));
    }
    if !args.yes {
        for digest in &gone {
            session.console.note(format_args!(
                "{digest}, which is confirmed now, will no longer be"
            ));
        }
    }
    let question = format!("Give these grants to {title} as it is now?");
    if !args.yes && !agreed(&question, "`--yes` confirms it without asking")? {
        say("not confirmed");
        return Ok(Exit::Rejected);
    }
    let record = super::record::Record::open(session)?;
    super::edit::edit(&file, |policy| {
        let changed = Complaint::usage("the policy was changed in the meantime")
            .hint("look at it again, and confirm then");
        match policy.skills.get_mut(name) {
            Some(entry) if entry.grants == granted => {
                entry.confirm(super::confirmation(&skill));
                Ok(())
            }
            _ => Err(changed.into()),
        }
    })?;
    let names = super::record::names(&given);
    record.given("confirm", skill.identity(), &names)?;
    session.console.note(format_args!(
        "{} {title} is now confirmed ({digest})",
        styled(GOOD, "✓")
    ));
    for digest in gone {
        session.console.note(format_args!(
            "  in its place, {digest} is no longer confirmed"
        ));
    }
    Ok(Exit::Success)
}

fn granted(policy: &Policy, name: &str) -> Grants {
    let entry = policy.skills.get(name);
    entry.map_or_else(Grants::default, |entry| entry.grants.clone())
}
