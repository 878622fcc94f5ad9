//! `skillhost jobs prune`: away with what is old.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use skillhost::parse_duration;
use skillhost::queue::Keep;
use skillhost::skill::Packages;

use crate::cli::Session;
use crate::cli::complaint::Complaint;
use crate::cli::console::{GOOD, print_json, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::explain;
use crate::cli::units::counted;

const EXAMPLES: &str = "\
Examples:
  skillhost jobs prune --completed-after 7d
  skillhost jobs prune --dead-after 90d --events-after 30d

Workers remove by themselves what completed and what happened 7 days ago; dead
jobs stay. With the jobs go skills that were kept for them and that nobody has
needed for 30 days.";

/// Remove jobs that ended long ago
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct PruneArgs {
    /// Completed and cancelled ones that ended longer ago, such as 7d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_duration)]
    completed_after: Option<Duration>,
    /// Dead ones that died longer ago
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_duration)]
    dead_after: Option<Duration>,
    /// Events that are older
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_duration)]
    events_after: Option<Duration>,
    /// Print how many as JSON
    #[arg(long)]
    json: bool,
}

/// Removes what is old.
///
/// # Errors
/// Where the queue cannot be written.
pub fn prune(args: &PruneArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    let ages = [args.completed_after, args.dead_after, args.events_after];
    if ages.iter().all(Option::is_none) {
        return Err(Complaint::usage("nothing is said of what to remove")
            .hint("such as `--completed-after 7d`")
            .into());
    }
    let keep = Keep {
        completed: args.completed_after,
        dead: args.dead_after,
        events: args.events_after,
    };
    let skills = Packages::new(session.places()?.packages()).sweep();
    database.with(session, async |queue, _| {
        let pruned = queue.prune(keep).await.map_err(explain::queue)?;
        if args.json {
            let told = json!({"jobs": pruned.jobs, "events": pruned.events, "skills": skills});
            print_json(session.console, &told)?;
        } else {
            session.console.note(format_args!(
                "{} removed: {}, {}, {}",
                styled(GOOD, "✓"),
                counted(pruned.jobs as u64, "job"),
                counted(pruned.events as u64, "event"),
                counted(skills as u64, "skill")
            ));
        }
        Ok(Exit::Success)
    })
}
