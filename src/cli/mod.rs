//! The command line. Nothing below this module knows the argument parser.
//!
//! Arguments are read in two steps: what was typed (`…Args`, made by clap, without effects), and
//! what it means (a plan, checked, ready to be carried out).
//!
//! Modules, in the order in which to read them:

mod args;
mod complaint;
mod console;
mod exit;
mod explain;
mod heap;
mod log;
mod not_empty;
mod places;
mod repeated;
mod termination;
mod tip;

mod build;
mod grants;
mod guards;
mod host;
mod locate;
mod question;
mod tenant;

mod run;

mod inspect;
mod schema;
mod table;
mod units;
mod unread;

mod new;

mod install;
mod list;
mod remove;

mod doctor;
mod policy;
mod secrets;

mod database;

mod approvals;
mod audit;
mod jobs;
mod queues;
mod schedules;
mod worker;

mod mcp;
mod serve;
mod tokens;

mod completions;

use std::process::ExitCode;
use std::time::Duration;

use args::{Cli, Command};
use console::Console;
use exit::Exit;
use places::Places;
use policy::PolicyFile;

pub use host::COMPILE_COMPONENT;

/// What every command is given.
#[derive(Clone)]
struct Session {
    console: Console,
    home: Option<std::path::PathBuf>,
    policy: Option<std::path::PathBuf>,
}

impl Session {
    /// The folders that the command keeps things in.
    fn places(&self) -> anyhow::Result<Places> {
        Places::find(self.home.as_deref())
    }

    /// The policy file, whether it is there or not.
    fn policy_file(&self) -> anyhow::Result<PolicyFile> {
        match &self.policy {
            Some(path) => Ok(PolicyFile::named(path)),
            None => Ok(PolicyFile::usual(self.places()?.policy())),
        }
    }
}

/// How long to wait at the end for what is still on its way into the audit.
const SETTLING: Duration = Duration::from_secs(5);

/// Parses the arguments, carries out the command, and says what went wrong if something did.
pub fn main() -> ExitCode {
    heap::set_up();
    // Ends the process with code 2 where the arguments are wrong.
    let Cli { command, global } = Cli::of_process();
    repeated::remember(std::env::args_os());
    global.color.write_global();
    let session = Session {
        console: Console::new(global.quiet, global.verbose),
        // A variable of the environment that is empty is one that is not set.
        home: global.home.filter(|home| !home.as_os_str().is_empty()),
        policy: global.policy.filter(|file| !file.as_os_str().is_empty()),
    };
    session.console.follow_logs(command.serves());
    if command.serves() {
        heap::give_back();
    }
    let ended = match command {
        Command::Run(args) => run::run(*args, &session),
        Command::Inspect(args) => inspect::inspect(&args, &session),
        Command::New(args) => new::new(&args, &session),
        Command::Install(args) => install::install(&args, &session),
        Command::List(args) => list::list(&args, &session),
        Command::Remove(args) => remove::remove(&args, &session),
        Command::Policy(args) => policy::policy(args, &session),
        Command::Secrets(args) => secrets::secrets(args, &session),
        Command::Approvals(args) => approvals::approvals(args, &session),
        Command::Audit(args) => audit::audit(args, &session),
        Command::Jobs(args) => jobs::jobs(args, &session),
        Command::Worker(args) => worker::worker(args, &session),
        Command::Mcp(args) => mcp::mcp(args, &session),
        Command::Schedules(args) => schedules::schedules(args, &session),
        Command::Queues(args) => queues::queues(args, &session),
        Command::Serve(args) => serve::serve(*args, &session),
        Command::Tokens(args) => tokens::tokens(args, &session),
        Command::Doctor(args) => doctor::doctor(&args, &session),
        Command::Completions(args) => completions::completions(&args),
    };
    // What was cut short may still be on its way into the audit.
    skillhost::audit::settle(SETTLING);
    let exit = ended.unwrap_or_else(|error| complaint::report(&error));
    match exit {
        Exit::Cancelled if termination::came() => Exit::Terminated,
        exit => exit,
    }
    .into()
}
