//! `skillhost jobs dead discard`: away with them.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Session;
use crate::cli::complaint::show_error;
use crate::cli::console::{GOOD, print_json, say, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::explain;
use crate::cli::jobs::filter::{SelectionArgs, no_dead};
use crate::cli::question::agreed;
use crate::cli::units::counted;

const EXAMPLES: &str = "\
Examples:
  skillhost jobs dead discard 3f2a9c1e
  skillhost jobs dead discard --all --cause invalid_input --yes

Exit codes:
    0  they are removed
    2  there is nobody to ask, or one of them cannot be removed
    3  the answer was no";

/// Remove dead jobs for good
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DiscardArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print what became of each as JSON
    #[arg(long)]
    json: bool,
}

/// How many are removed in one transaction.
const BATCH: usize = 500;

/// Discards dead jobs.
///
/// # Errors
/// Where the queue cannot be used, or there is nobody to ask.
pub fn discard(
    args: &DiscardArgs,
    database: &DatabaseArgs,
    session: &Session,
) -> anyhow::Result<Exit> {
    database.with(session, async |queue, _| {
        let ids = args.selection.dead(&queue, None).await?;
        if ids.is_empty() {
            session
                .console
                .note(no_dead(&queue, &args.selection.filter).await?);
        } else if !args.yes
            && !agreed(
                &format!("Remove {} for good?", counted(ids.len() as u64, "dead job")),
                "`--yes` removes them without asking",
            )?
        {
            say("nothing was removed");
            return Ok(Exit::Rejected);
        }
        let mut exit = Exit::Success;
        let mut told: Vec<Value> = Vec::new();
        let mut removed = 0_usize;
        for batch in ids.chunks(BATCH) {
            let answers = queue.discard(batch).await.map_err(explain::queue)?;
            for (id, answer) in batch.iter().zip(answers) {
                match answer {
                    Ok(()) => {
                        removed += 1;
                        told.push(json!({"id": id, "discarded": true}));
                    }
                    Err(error) => {
                        exit = Exit::Usage;
                        told.push(json!({"id": id, "error": error.to_string()}));
                        show_error(&error.to_string());
                    }
                }
            }
        }
        if args.json {
            print_json(session.console, &told)?;
        } else if removed > 0 {
            session.console.note(format_args!(
                "{} {} removed",
                styled(GOOD, "✓"),
                counted(removed as u64, "dead job")
            ));
        }
        Ok(exit)
    })
}
