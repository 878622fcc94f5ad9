//! `skillhost list`: what is installed.

use clap::Args;
use skillhost::limits::display_bytes;
use skillhost::text::printable;

use super::complaint::{Complaint, show_hint};
use super::console::{print, print_json};
use super::exit::Exit;
use super::table::Table;
use super::{Session, explain};

const EXAMPLES: &str = "\
Examples:
  skillhost list
  skillhost list --json | jq -r '.[].digest'";

/// List the installed skills, the highest version of each first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ListArgs {
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Lists the installed skills.
///
/// # Errors
/// Where the library cannot be read.
pub fn list(args: &ListArgs, session: &Session) -> anyhow::Result<Exit> {
    let places = session.places()?;
    let library = places.library();
    let skills = library.list().map_err(explain::library)?;
    for error in library.unreadable().map_err(explain::library)? {
        let Complaint { message, hints, .. } = explain::library(error);
        session.console.warn(printable(&message, false));
        if !session.console.quiet {
            hints.iter().for_each(|hint| show_hint(hint));
        }
    }
    if args.json {
        print_json(session.console, &skills)?;
        return Ok(Exit::Success);
    }
    if skills.is_empty() {
        session.console.note(format_args!(
            "no skill is installed in `{}`",
            places.skills().display()
        ));
        if !session.console.quiet {
            show_hint("`skillhost install SKILL` installs one");
        }
        return Ok(Exit::Success);
    }
    let mut table = Table::new(0);
    for skill in skills {
        let digest = skill.digest.hex();
        table.row([
            skill.name,
            skill.version,
            digest[..12].to_owned(),
            display_bytes(skill.component_bytes),
            printable(&skill.tools.join(", "), false).into_owned(),
        ]);
    }
    print(table)?;
    Ok(Exit::Success)
}
