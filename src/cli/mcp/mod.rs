//! `skillhost mcp`: the tools of skills, for agents that speak the Model Context Protocol.

mod config;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueHint};
use skillhost::queue::{Queue, Worker};
use skillhost::serve::Caller;
use skillhost::serve::mcp::{ChosenSkill, McpError, McpServer, McpSettings, TASK_QUEUE, Tasks};
use skillhost::skill::Packages;
use skillhost::{Execute, InstalledSkills, parse_duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::approvals::LazyApprovals;
use super::complaint::Complaint;
use super::database::DatabaseArgs;
use super::exit::Exit;
use super::host::{CommandHost, Interrupts, Settings, installed};
use super::locate::{self, SKILL_HELP};
use super::run::TrustArgs;
use super::secrets::SourceArgs;
use super::tenant::warn_of_misspelt;
use super::termination::Terminations;
use super::{Session, explain, guards};
use config::ConfigArgs;

const EXAMPLES: &str = "\
Examples:
  See what to put into the configuration of a client, such as Claude Code:
    skillhost mcp config claude-code
  Offer all installed skills:
    skillhost mcp
  Offer two, one of them from its source:
    skillhost mcp text-stats ./my-skill
  With hundreds of tools, let the agent search for what it needs:
    skillhost mcp --search

Exit codes:
    0  the client has closed its end, or it was told to stop
    2  usage error
    6  a skill cannot be found, built or loaded
   70  the host is broken, or the output cannot be written";

/// How long a worker may take to give back what it has when the client is gone.
const GRACE: Duration = Duration::from_secs(5);

/// Offer skills to an agent, over the Model Context Protocol (MCP)
///
/// A client starts this itself, and speaks with it by standard input and output. Each tool of each
/// skill is a tool of the client's, named `SKILL__TOOL`, and runs in a fresh sandbox with what the
/// policy grants. Skills that are installed, replaced or removed meanwhile come and go without a
/// restart. Long work runs as a task in the job queue, where the client knows tasks.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct McpArgs {
    #[command(subcommand)]
    command: Option<McpCommand>,
    #[arg(
        value_name = "SKILL",
        value_hint = ValueHint::AnyPath,
        help = format!("{SKILL_HELP}. All installed skills where none is named")
    )]
    skills: Vec<PathBuf>,
    /// Offer a tool to search for tools, and one to call them, rather than each by itself
    #[arg(long)]
    search: bool,
    /// On whose behalf calls run and tasks are done: an organisation or account
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
    /// How many calls may run at once
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=1_000)
    )]
    concurrency: u32,
    /// From how many tokens on, as estimated, an output is cut; the whole can be read on
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(100..)
    )]
    output_tokens: u32,
    /// Tools that may run for longer than this run as tasks, where the client knows tasks
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        default_value = "1m",
        value_parser = parse_duration
    )]
    task_after: Duration,
    #[command(flatten)]
    trust: TrustArgs,
    /// Where secrets come from.
    #[command(flatten)]
    sources: SourceArgs,
    /// Leave the policy out: grant nothing, and bound nothing
    ///
    /// Its ceilings, turns, rates and circuits do not hold then. Refused where the policy has rules of
    /// approval, or requires an audit.
    #[arg(long, help_heading = "Grants")]
    no_policy: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// What can be done beside serving.
#[derive(Debug, Subcommand)]
enum McpCommand {
    Config(ConfigArgs),
}

/// Serves the client at standard input and output until it is gone.
///
/// # Errors
/// Where a skill cannot be loaded, or the host is broken.
pub fn mcp(args: McpArgs, session: &Session) -> anyhow::Result<Exit> {
    if let Some(McpCommand::Config(config)) = &args.command {
        return config::config(config, &args.database, session);
    }
    let settings = Settings {
        // `describe` of a new skill is one more, and so are tasks.
        concurrency: Some(args.concurrency.saturating_mul(2) + 1),
        secrets: args.sources.secrets(session)?,
        database: Some(args.database.database(session)?),
        ..Settings::trusting(&args.trust)?
    };
    let host = CommandHost::open(session, settings)?;
    let packages = Packages::new(session.places()?.packages());
    let skills = installed(session, host.host.clone(), !args.no_policy)?
        .packages(packages.clone())
        .build();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(serve(args, session, &host, skills, &packages));
    runtime.shutdown_background();
    host.host.close_storage();
    ended.map(|()| Exit::Success)
}

async fn serve(
    args: McpArgs,
    session: &Session,
    host: &CommandHost,
    skills: InstalledSkills,
    packages: &Packages,
) -> anyhow::Result<()> {
    let mut settings = McpSettings::default();
    settings.search = args.search;
    settings.concurrent_calls = args.concurrency as usize;
    settings.output_tokens = args.output_tokens as usize;
    settings.task_after = args.task_after;
    let end = CancellationToken::new();
    let current = skills.host().current_policy().clone();
    let approvals = LazyApprovals::new(&args.database, session)?;
    let inner = Arc::new(skills.clone());
    let guards::Guarded { execute, audit } =
        guards::around(inner, current, approvals, None, session)?;
    let work = Work {
        session: session.clone(),
        database: args.database.clone(),
        execute: Arc::clone(&execute),
        concurrency: args.concurrency as usize,
        end: end.clone(),
        running: Arc::default(),
    };
    let running = Arc::clone(&work.running);
    let mut tasks = Tasks::when_needed(move || {
        let work = work.clone();
        Box::pin(async move { work.begin().await })
    });
    if let Some((audit, required)) = audit {
        tasks = tasks.audit(audit, required);
    }
    let mut server = McpServer::builder(execute, skills.clone())
        .settings(settings)
        .tasks(tasks);
    if !args.skills.is_empty() {
        server = server.only(chosen(&args.skills, session, host, &skills, packages).await?);
    }
    let (mut interrupt, mut terminations) =
        (signal(SignalKind::interrupt())?, Terminations::listen()?);
    let server = server.build();
    if std::io::stdin().is_terminal() {
        session.console.note(
            "this speaks MCP, and waits for a client at standard input; `skillhost mcp config` shows how one starts \
             it, and Ctrl-C ends it",
        );
    }
    let caller = Caller::operator().user(guards::user());
    let caller = match args.tenant {
        Some(tenant) => {
            let policy = skills.host().policy();
            warn_of_misspelt(&tenant, policy.as_deref(), session.console);
            caller.for_tenant(tenant)
        }
        None => caller,
    };
    let ended = tokio::select! {
        () = skills.follow_policy() => Ok(()),
        ended = server.serve_stdio(caller) => ended,
        _ = interrupt.recv() => Ok(()),
        () = terminations.next() => Ok(()),
    };
    end.cancel();
    // What ran is stopped by that the client is gone, and then written down.
    let _ = tokio::time::timeout(GRACE, server.idle()).await;
    let running = running
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(running) = running {
        // What it cannot give back in time, others take over once its lease is over.
        let _ = tokio::time::timeout(GRACE, running).await;
    }
    ended.map_err(|error| match error {
        McpError::Write(error) => {
            anyhow::Error::from(error).context("cannot write to standard output")
        }
        error => Complaint::usage(error.to_string()).into(),
    })
}

/// The skills that were named. Those by a path are built, loaded, and kept for tasks.
async fn chosen(
    named: &[PathBuf],
    session: &Session,
    host: &CommandHost,
    skills: &InstalledSkills,
    packages: &Packages,
) -> anyhow::Result<Vec<ChosenSkill>> {
    let mut interrupts = Interrupts::catch()?;
    let mut chosen = Vec::with_capacity(named.len());
    for typed in named {
        let located = locate::find(typed, session)?;
        let package = located.package;
        chosen.push(match located.installed {
            Some(reference) => ChosenSkill::Installed(reference),
            None => {
                host.load(package.clone(), typed, &mut interrupts).await?;
                let kept = packages.keep(&package, SystemTime::now());
                kept.map_err(explain::library)?;
                let folder = package.path.clone().filter(|path| path.is_dir());
                let loaded = skills.add(package).await;
                let skill =
                    loaded.map_err(|error| explain::load(&typed.display().to_string(), error))?;
                ChosenSkill::Added { skill, folder }
            }
        });
    }
    Ok(chosen)
}

/// What does tasks: a worker on the queue, begun when the first is needed.
#[derive(Clone)]
struct Work {
    session: Session,
    database: DatabaseArgs,
    execute: Arc<dyn Execute>,
    concurrency: usize,
    end: CancellationToken,
    /// The worker, once there is one.
    running: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Work {
    async fn begin(self) -> Result<Queue, String> {
        let queue = self.database.open(&self.session).await;
        let queue = queue.map_err(|error| error.to_string())?;
        let worker = Worker::builder(queue.clone())
            .execute(self.execute)
            .queues([TASK_QUEUE])
            .concurrency(self.concurrency)
            .grace(Duration::ZERO)
            .build();
        let end = self.end;
        let running = tokio::spawn(async move {
            if let Err(error) = worker.run(async move { end.cancelled().await }).await {
                tracing::error!("the worker for tasks has ended: {error}");
            }
        });
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(queue)
    }
}
