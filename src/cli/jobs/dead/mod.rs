//! `skillhost jobs dead`: jobs that will not be tried again by themselves.

mod discard;
mod exchange;
mod list;
mod replay;

use clap::{Args, Subcommand};

use crate::cli::Session;
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::jobs::show::{ShowArgs, show};

const EXAMPLES: &str = "\
Examples:
  See how many died of what, and why one of them did:
    skillhost jobs dead list --by-cause
    skillhost jobs dead show 3f2a9c1e
  Try those again that ran out of fuel, with more:
    skillhost jobs dead replay --all --cause fuel --fuel 20G
  Take them elsewhere:
    skillhost jobs dead export --output dead.jsonl
    skillhost jobs dead import dead.jsonl --database other.db";

/// See why jobs are dead, and replay, discard, export or import them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
}

/// What the help says of each stands with its arguments.
#[derive(Debug, Subcommand)]
enum DeadCommand {
    List(list::DeadListArgs),
    Show(ShowArgs),
    Replay(Box<replay::ReplayArgs>),
    Discard(discard::DiscardArgs),
    Export(exchange::ExportArgs),
    Import(exchange::ImportArgs),
}

/// Carries one of the commands out.
///
/// # Errors
/// Where the queue cannot be used, or what was typed makes no sense.
pub fn dead(args: DeadArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    match args.command {
        DeadCommand::List(args) => list::list(&args, database, session),
        DeadCommand::Show(args) => show(&args, database, session),
        DeadCommand::Replay(args) => replay::replay(&args, database, session),
        DeadCommand::Discard(args) => discard::discard(&args, database, session),
        DeadCommand::Export(args) => exchange::export(&args, database, session),
        DeadCommand::Import(args) => exchange::import(&args, database, session),
    }
}
