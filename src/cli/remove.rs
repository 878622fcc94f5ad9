//! `skillhost remove`: out of the library of skills.

use clap::Args;
use skillhost::skill::SkillRef;

use super::complaint::Complaint;
use super::console::{GOOD, styled};
use super::exit::Exit;
use super::{Session, explain};

const EXAMPLES: &str = "\
Examples:
  skillhost remove word-count
  skillhost remove word-count@0.1.0";

/// Remove an installed skill
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RemoveArgs {
    /// Which one: NAME, NAME@VERSION where there are several versions, or a digest
    #[arg(value_name = "NAME[@VERSION]")]
    skill: String,
}

/// Removes an installed skill.
///
/// # Errors
/// Where there is none of that name, or several versions of it.
pub fn remove(args: &RemoveArgs, session: &Session) -> anyhow::Result<Exit> {
    let reference: SkillRef = args.skill.parse().map_err(|_| {
        Complaint::usage(format!("`{}` is no name of a skill", args.skill))
            .hint("write NAME, NAME@VERSION, or a digest as `skillhost list --json` shows it")
    })?;
    let removed = session
        .places()?
        .library()
        .remove(&reference)
        .map_err(explain::library)?;
    session.console.note(format_args!(
        "{} {}@{} is removed ({})",
        styled(GOOD, "✓"),
        removed.name,
        removed.version,
        removed.digest
    ));
    Ok(Exit::Success)
}
