//! `skillhost jobs`: work that need not be answered at once.
//!
//! Modules, in the order in which to read them:

mod filter;
mod id;
mod moment;

mod asked;
mod lines;
mod skills;
mod submit;

mod end;
mod list;
mod show;
mod watch;

mod change;
mod prune;
mod stats;

mod dead;

use clap::{Args, Subcommand};

use super::Session;
use super::database::DatabaseArgs;
use super::exit::Exit;
pub use asked::JobArgs;
pub use change::replay_of;
pub use id::short;
pub use list::what;
pub use moment::{Moment, distance, moment, written};
pub use show::{asked, of_own};
pub use submit::prepared;

const EXAMPLES: &str = "\
Examples:
  Submit a job, do what is waiting, and look at it:
    skillhost jobs submit text-stats --arg text='to be or not to be'
    skillhost worker --until-empty
    skillhost jobs list
  Wait for the result, as `run` would print it, while a worker runs elsewhere:
    skillhost jobs submit text-stats --arg text='to be' --wait
  See what went wrong, and try again with more fuel:
    skillhost jobs dead list
    skillhost jobs dead replay --all --cause fuel --fuel 20G

A job is named by its id, or by the end of it: at least 4 characters, looked for
among the last 10,000 jobs. Lists show the last 8.";

/// Submit jobs, and see what becomes of them
///
/// A job is an execution that need not be answered at once. It is kept in a database, and done by a
/// worker (`skillhost worker`), now or later, here or elsewhere. A job that was accepted is not lost.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// What the help says of each stands with its arguments.
#[derive(Debug, Subcommand)]
enum JobsCommand {
    Submit(Box<submit::SubmitArgs>),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Watch(watch::WatchArgs),
    Cancel(change::CancelArgs),
    Pause(change::PauseArgs),
    Resume(change::ResumeArgs),
    Approve(change::ApproveArgs),
    Refuse(change::RefuseArgs),
    Priority(change::PriorityArgs),
    Snooze(change::SnoozeArgs),
    Stats(stats::StatsArgs),
    Prune(prune::PruneArgs),
    Dead(dead::DeadArgs),
}

/// Carries one of the commands out.
///
/// # Errors
/// Where the queue cannot be used, or what was typed makes no sense.
pub fn jobs(args: JobsArgs, session: &Session) -> anyhow::Result<Exit> {
    let JobsArgs { command, database } = args;
    match command {
        JobsCommand::Submit(args) => submit::submit(*args, &database, session),
        JobsCommand::List(args) => list::list(&args, &database, session),
        JobsCommand::Show(args) => show::show(&args, &database, session),
        JobsCommand::Watch(args) => watch::watch(&args, &database, session),
        JobsCommand::Cancel(args) => args.change().carry_out(&database, session),
        JobsCommand::Pause(args) => args.change().carry_out(&database, session),
        JobsCommand::Resume(args) => args.change().carry_out(&database, session),
        JobsCommand::Approve(args) => args.change().carry_out(&database, session),
        JobsCommand::Refuse(args) => args.change().carry_out(&database, session),
        JobsCommand::Priority(args) => args.change().carry_out(&database, session),
        JobsCommand::Snooze(args) => args.change().carry_out(&database, session),
        JobsCommand::Stats(args) => stats::stats(&args, &database, session),
        JobsCommand::Prune(args) => prune::prune(&args, &database, session),
        JobsCommand::Dead(args) => dead::dead(args, &database, session),
    }
}
