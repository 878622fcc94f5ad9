//! The arguments that every command has in common, and the list of commands.

use std::ffi::OsString;
use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use clap::builder::{OsStringValueParser, Resettable, Styles, TypedValueParser as _};
use clap::error::ErrorKind;
use clap::{
    ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint,
};

use super::approvals::ApprovalsArgs;
use super::audit::AuditArgs;
use super::completions::CompletionsArgs;
use super::doctor::DoctorArgs;
use super::exit::CODES;
use super::inspect::InspectArgs;
use super::install::InstallArgs;
use super::jobs::JobsArgs;
use super::list::ListArgs;
use super::mcp::McpArgs;
use super::new::NewArgs;
use super::not_empty::NotEmpty;
use super::policy::PolicyArgs;
use super::queues::QueuesArgs;
use super::remove::RemoveArgs;
use super::run::RunArgs;
use super::schedules::SchedulesArgs;
use super::secrets::SecretsArgs;
use super::serve::ServeArgs;
use super::tip;
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
    skillhost run regex-search search --dir notes --arg path=notes \\
        --arg pattern=todo --timeout 2s --memory 16MiB";

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
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
}

impl Cli {
    /// Parses the arguments of this process. Ends it, with code 2, where they are wrong.
    pub fn of_process() -> Self {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let whole = || Self::whole(&arguments).unwrap_or_else(|error| error.exit());
        Self::named(&arguments).unwrap_or_else(whole)
    }

    /// Parses them with all commands.
    fn whole(arguments: &[OsString]) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments).map_err(|error| {
            let is_help = !error.use_stderr()
                || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            if is_help {
                return error;
            }
            // The usage in an error shows what was given, and takes what an environment variable sets
            // for typed.
            let typed = without_variables(Self::command()).try_get_matches_from(arguments);
            let error = match typed {
                Err(typed) if typed.kind() == error.kind() => typed,
                _ => error,
            };
            tip::beside(error, Self::command(), arguments)
        })
    }

    /// Parses them with the command alone that the first of them names: making all commands takes
    /// longer than running a small skill. `None` where that does not go through: then the whole
    /// definition says why, or shows the help.
    fn named(arguments: &[OsString]) -> Option<Self> {
        let name = arguments.get(1)?.to_str()?;
        let definition = GlobalArgs::augment_args(clap::Command::new("skillhost"))
            .subcommand(Command::definition(name)?);
        let matches = definition.try_get_matches_from(arguments).ok()?;
        Self::from_arg_matches(&matches).ok()
    }
}

/// A definition that no environment variable fills in.
fn without_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| argument.env(Resettable::Reset))
        .mut_subcommands(without_variables)
}

/// The bytes of a name in lower case.
const fn lower<const N: usize>(name: &str) -> [u8; N] {
    let mut lower = [0; N];
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    lower
}

/// Makes the list of commands, from which one can be made without the others.
macro_rules! commands {
    ($(#[$attribute:meta])* pub enum Command { $($variant:ident($arguments:ty),)* }) => {
        $(#[$attribute])*
        #[derive(Debug, Subcommand)]
        pub enum Command {
            $($variant($arguments),)*
        }

        impl Command {
            /// How the command of this name is typed, where there is one.
            fn definition(name: &str) -> Option<clap::Command> {
                $({
                    // Each is one word.
                    const LOWER: [u8; stringify!($variant).len()] = lower(stringify!($variant));
                    const NAME: &str = match std::str::from_utf8(&LOWER) {
                        Ok(name) => name,
                        Err(_) => "",
                    };
                    if NAME == name {
                        let command = clap::Command::new(NAME);
                        return Some(<$arguments as Args>::augment_args(command));
                    }
                })*
                None
            }
        }
    };
}

commands! {
/// The commands. What the help says of each stands with its arguments.
pub enum Command {
    Run(Box<RunArgs>),
    Inspect(InspectArgs),
    New(NewArgs),
    Install(InstallArgs),
    List(ListArgs),
    Remove(RemoveArgs),
    Policy(PolicyArgs),
    Secrets(SecretsArgs),
    Approvals(ApprovalsArgs),
    Audit(AuditArgs),
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
}

impl Command {
    /// Whether it goes on for others, who do not see what it says.
    pub fn serves(&self) -> bool {
        matches!(
            self,
            Command::Serve(_) | Command::Mcp(_) | Command::Worker(_)
        )
    }
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
        value_parser = NotEmpty(OsStringValueParser::new().map(PathBuf::from)),
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
        value_parser = NotEmpty(OsStringValueParser::new().map(PathBuf::from)),
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
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// What is wrapped in the middle of an example cannot be pasted.
    #[test]
    fn examples_fit_a_terminal() {
        fn look(command: &clap::Command) {
            let after = command.get_after_help().map(ToString::to_string);
            for line in after.iter().flat_map(|text| text.lines()) {
                assert!(line.len() <= 80, "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(look);
        }
        let mut all = Cli::command();
        all.build();
        look(&all);
    }

    #[test]
    fn each_command_can_be_made_alone() {
        let mut all = Cli::command();
        for command in all.get_subcommands_mut() {
            let mut alone = Command::definition(command.get_name()).unwrap();
            let help = |command: &mut clap::Command| command.render_long_help().to_string();
            assert_eq!(help(&mut alone), help(command));
        }
        assert!(Command::definition("Run").is_none());
        assert!(Command::definition("help").is_none());
    }

    #[test]
    fn an_argument_of_a_tool_is_no_flag() {
        let said = |text: &str| {
            let typed: Vec<OsString> = text.split(' ').map(OsString::from).collect();
            Cli::whole(&typed).unwrap_err().to_string()
        };
        for (typed, usage) in [
            (
                "skillhost run text-stats --text hi",
                "skillhost run [OPTIONS] <SKILL> [TOOL]",
            ),
            (
                "skillhost run text-stats count text=hi",
                "skillhost run [OPTIONS] <SKILL> [TOOL]",
            ),
            (
                "skillhost jobs --database j.db submit text-stats --text=hi",
                "skillhost jobs submit [OPTIONS] [SKILL] [TOOL]",
            ),
        ] {
            let said = said(typed);
            let tips: Vec<&str> = said.lines().filter(|line| line.contains("tip: ")).collect();
            let tip = "  tip: an argument of a tool is given with `--arg text=hi`";
            assert_eq!(tips, [tip], "{said}");
            assert!(said.contains(&format!("\nUsage: {usage}\n")), "{said}");
        }
        for other in [
            "skillhost run text-stats --tiemout 5s",
            "skillhost inspect text-stats --text hi",
            "skillhost run text-stats count more",
        ] {
            assert!(!said(other).contains("--arg"), "{}", said(other));
        }
        for (typed, near) in [
            ("skillhost run text-stats --tiemout 5s", "'--timeout'"),
            ("skillhost run text-stats --mem 5", "'--memory'"),
            ("skillhost schedules add n --zone UTC", "'--time-zone'"),
        ] {
            let said = said(typed);
            assert!(said.contains(near), "{said}");
        }
    }

    #[test]
    fn what_is_taken_back_of_a_kind_has_the_flag_that_granted_it() {
        for flag in ["--storage", "--dir=/data", "--secret=token"] {
            let typed = ["skillhost", "policy", "revoke", "notes", flag].map(OsString::from);
            assert!(Cli::whole(&typed).is_ok(), "{flag}");
        }
        let typed = ["skillhost", "policy", "revoke", "notes", "--al"].map(OsString::from);
        let said = Cli::whole(&typed).unwrap_err().to_string();
        assert!(said.contains("'--all'"), "{said}");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown_again() {
        for typed in [
            "skillhost secrets set token hunter2",
            "skillhost --home d secrets set token -q hunter2",
            "skillhost secrets set token --value=hunter2",
            "skillhost secrets set token --value hunter2",
            "skillhost secrets set token -- --hunter2",
            "skillhost run a --secret-from token=hunter2",
            "skillhost run a --secret-from hunter2",
            "skillhost run a --secret token=hunter2",
            "skillhost policy grant a --secret token=hunter2",
            "skillhost policy grant a --secret hunter2==",
            "skillhost run a --secret-from hunter2=",
        ] {
            let typed: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
            let said = Cli::whole(&typed).unwrap_err().to_string();
            assert!(!said.contains("hunter2"), "{said}");
            let of_set = said.contains("secrets set [OPTIONS] <NAME>")
                && said.contains("is not taken as an argument");
            assert!(of_set || said.contains("'--secret"), "{said}");
        }
        for (typed, shown) in [
            ("skillhost secrets set token --quite", "'--quite'"),
            ("skillhost run a --secret-from token=file:x", "token=file:x"),
            ("skillhost secrets list token", "'token'"),
        ] {
            let typed: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
            let said = Cli::whole(&typed).unwrap_err().to_string();
            assert!(said.contains(shown), "{said}");
        }
    }

    /// Whatever is said of it would stand thousands of lines below.
    #[test]
    fn of_what_is_long_the_beginning_is_shown() {
        let long = "x".repeat(40_000);
        for (typed, why) in [
            (format!("run a --env A={long}"), "bytes; 32768 are allowed"),
            (format!("run a --env {long}"), "nothing is inherited"),
            (format!("run a --fuel {long}"), "is not a count"),
            (format!("run a --arg a:={long}"), "is not JSON"),
            (format!("run a --http {long}"), "longer than 2048 bytes"),
            (format!("run a --{long}"), "unexpected argument"),
            (format!("run a b {long}"), "unexpected argument"),
            (long.clone(), "unrecognized subcommand"),
        ] {
            let typed = format!("skillhost {typed}");
            let typed: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
            let said = Cli::whole(&typed).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains("xxx…"), "{said}");
            assert!(said.len() < 2_000, "{}: {why}", said.len());
        }
    }

    #[test]
    fn short_commands_are_alike_too() {
        for (typed, near) in [
            ("skillhost rn list", Some("'run'")),
            ("skillhost help rn", Some("'run'")),
            ("skillhost mpc", Some("'mcp'")),
            ("skillhost inspec", Some("'inspect'")),
            ("skillhost secrets ste", Some("'set'")),
            ("skillhost xyz", None),
        ] {
            let typed: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
            let said = Cli::whole(&typed).unwrap_err().to_string();
            let tip = said.split_once("a similar subcommand exists: ");
            let told = tip.and_then(|(_, told)| told.lines().next());
            assert_eq!(told, near, "{said}");
        }
    }

    #[test]
    fn one_made_alone_takes_what_it_takes_among_all() {
        let typed = |text: &str| -> Vec<OsString> { text.split(' ').map(OsString::from).collect() };
        for text in [
            "skillhost run a.wasm b --arg c=1 -v --home d --fuel 5M",
            "skillhost run a.wasm --quiet",
            "skillhost jobs dead list",
            "skillhost completions bash --color never",
        ] {
            let named = Cli::named(&typed(text)).unwrap();
            let parsed = Cli::parse_from(typed(text));
            assert_eq!(format!("{named:?}"), format!("{parsed:?}"));
        }
        for text in [
            "skillhost",
            "skillhost --help",
            "skillhost --home d run a.wasm",
            "skillhost run --help",
            "skillhost run a.wasm -q -v",
            "skillhost rnu a.wasm",
        ] {
            assert!(Cli::named(&typed(text)).is_none(), "{text}");
        }
    }
}
