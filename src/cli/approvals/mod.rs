//! `skillhost approvals`: what waits for somebody's word.
//!
//! Modules, in the order in which to read them:

mod found;
mod lazy;

mod list;
mod show;

mod decide;

use clap::{Args, Subcommand};

use super::Session;
use super::database::DatabaseArgs;
use super::exit::Exit;
pub use decide::for_time;
pub use lazy::LazyApprovals;

const EXAMPLES: &str = "\
Examples:
  See what waits, and exactly what it would do:
    skillhost approvals list
    skillhost approvals show 9c1e7d40
  Let it run once, or the same again and again for an hour:
    skillhost approvals approve 9c1e7d40
    skillhost approvals approve 9c1e7d40 --for 1h

An approval is named by its id, or by the end of it: at least 4 characters. A
job that waits for an approval can be named instead. Which executions wait is
said by the rules of the policy, under `approval`; see `skillhost policy
schema`.";

/// See what waits for an approval, and answer
///
/// A rule of the policy can ask for an approval of an execution. It is for exactly this skill by its
/// digest, this tool, this input, this tenant and these grants, once or for a time; nothing else can
/// be run with it. Jobs that wait for one are paused, and go on when it is given.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct ApprovalsArgs {
    #[command(subcommand)]
    command: ApprovalsCommand,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// What the help says of each stands with its arguments.
#[derive(Debug, Subcommand)]
enum ApprovalsCommand {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Approve(decide::ApproveArgs),
    Refuse(decide::RefuseArgs),
}

/// Carries one of the commands out.
///
/// # Errors
/// Where the database cannot be used, or what was typed makes no sense.
pub fn approvals(args: ApprovalsArgs, session: &Session) -> anyhow::Result<Exit> {
    let ApprovalsArgs { command, database } = args;
    match command {
        ApprovalsCommand::List(args) => list::list(&args, &database, session),
        ApprovalsCommand::Show(args) => show::show(&args, &database, session),
        ApprovalsCommand::Approve(args) => args.decide().carry_out(&database, session),
        ApprovalsCommand::Refuse(args) => args.decide().carry_out(&database, session),
    }
}
