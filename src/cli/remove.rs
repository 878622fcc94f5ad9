//! `skillhost remove`: out of the library of skills.

use clap::Args;

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
    /// Which one: NAME, NAME@VERSION where there are several versions, or a digest, as `list` shows it
    #[arg(value_name = "NAME[@VERSION]")]
    skill: String,
}

/// Removes an installed skill.
///
/// # Errors
/// Where there is none of that name, or several versions of it.
pub fn remove(args: &RemoveArgs, session: &Session) -> anyhow::Result<Exit> {
    let library = session.places()?.library();
    let reference = library.reference(&args.skill).map_err(explain::library)?;
    let reference = reference.ok_or_else(|| {
        Complaint::usage(format!("`{}` is no installed skill", args.skill))
            .hint("write NAME, NAME@VERSION, or the first digits of a digest; `skillhost list` shows them")
    })?;
    let removed = library.remove(&reference).map_err(explain::library)?;
    session.console.note(format_args!(
        "{} {}@{} is removed ({})",
        styled(GOOD, "✓"),
        removed.name,
        removed.version,
        removed.digest
    ));
    Ok(Exit::Success)
}
