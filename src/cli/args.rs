//! The arguments that every command has in common, and the list of commands.

use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::completions::CompletionsArgs;
use super::doctor::DoctorArgs;
use super::exit::CODES;
use super::inspect::InspectArgs;
use super::install::InstallArgs;
use super::jobs::JobsArgs;
use super::list::ListArgs;
use super::mcp::McpArgs;
use super::new::NewArgs;
use super::policy::PolicyArgs;
use super::queues::QueuesArgs;
use super::remove::RemoveArgs;
use super::run::RunArgs;
use super::schedules::SchedulesArgs;
use super::serve::ServeArgs;
use super::tokens::TokensArgs;
use super::worker::WorkerArgs;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default())
    .error(AnsiColor::Red.on_default().bold())
    .valid(AnsiColor::Cyan.on_default().bold())
    .invalid(AnsiColor::Yellow.on_default().bold())
    .context(Style::new().dimmed());

const EXAMPLES: &str = "\
Examples:
  Start a skill, test it, and run it:
    skillhost new hello && cd hello
    cargo test
    skillhost run . --arg name=World
  See what a skill offers, and what it wants:
    skillhost inspect hello.wasm
  Run a tool on files in a folder, with less time and memory than usual:
    skillhost run regex-search search --dir notes --arg path=notes --arg pattern=todo \\
        --timeout 2s --memory 16MiB";

/// Runs agent skills, compiled to WebAssembly components, in a sandbox with limits that hold.
///
/// A skill touches nothing but what it is granted, for the run or in the policy, stops at its
/// limits, and always shows what it cost.
#[derive(Debug, Parser)]
#[command(
    name = "skillhost",
    version,
    styles = STYLES,
    after_help = format!("{EXAMPLES}\n\n{CODES}"),
    infer_long_args = false,
    arg_required_else_help = true,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// The commands. What the help says of each stands with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<RunArgs>),
    Inspect(InspectArgs),
    New(NewArgs),
    Install(InstallArgs),
    List(ListArgs),
    Remove(RemoveArgs),
    Policy(PolicyArgs),
    Jobs(JobsArgs),
    Worker(WorkerArgs),
    Mcp(McpArgs),
    Schedules(SchedulesArgs),
    Queues(QueuesArgs),
    Serve(Box<ServeArgs>),
    Tokens(TokensArgs),
    Doctor(DoctorArgs),
    Completions(CompletionsArgs),
}

/// What holds for every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Keep installed skills, the policy, compiled skills and the SDK in this folder
    ///
    /// Without it, they are in the folders of the XDG Base Directory Specification: usually
    /// ~/.local/share/skillhost, ~/.config/skillhost and ~/.cache/skillhost.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SKILLHOST_HOME",
        hide_env_values = true,
        value_hint = ValueHint::DirPath
    )]
    pub home: Option<PathBuf>,
    /// Take what skills are granted for good from this file
    ///
    /// Without it, from policy.toml in the folder of --home, or of the XDG Base Directory
    /// Specification: usually ~/.config/skillhost. See `skillhost policy --help`.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SKILLHOST_POLICY",
        hide_env_values = true,
        value_hint = ValueHint::FilePath
    )]
    pub policy: Option<PathBuf>,
    /// Say more; twice and three times for still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but errors and results
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help = "When to use colours: auto (on a terminal, unless NO_COLOR is set), always or never"
    )]
    pub color: ColorArg,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorArg {
    /// Makes it hold for all output of this process.
    pub fn write_global(self) {
        match self {
            ColorArg::Auto => anstream::ColorChoice::Auto,
            ColorArg::Always => anstream::ColorChoice::Always,
            ColorArg::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
