//! `skillhost serve`: the doors, a worker and the scheduler in one process.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueHint};
use skillhost::audit::AuditSink;
use skillhost::queue::{Queue, Worker};
use skillhost::serve::mcp::{McpServer, McpSettings, Tasks};
use skillhost::serve::{self, Server, Service};
use skillhost::skill::Packages;
use skillhost::{InstalledSkills, parse_duration};
use tokio::net::TcpListener;

use super::approvals::LazyApprovals;
use super::complaint::Complaint;
use super::console::{HINT, print, styled};
use super::database::DatabaseArgs;
use super::exit::Exit;
use super::guards::{self, Guarded};
use super::host::{CommandHost, Settings, installed};
use super::run::TrustArgs;
use super::secrets::SourceArgs;
use super::worker::{at_least, broken, callbacks, signals};
use super::{Session, explain, units};

const EXAMPLES: &str = "\
Examples:
  Serve what is installed, to programs on this machine:
    skillhost serve
  Submit a job, and follow what happens:
    curl -s http://127.0.0.1:7411/v1/jobs -H 'content-type: application/json' \\
        -d '{\"skill\": \"text-stats\", \"input\": {\"text\": \"to be\"}}'
    curl -N http://127.0.0.1:7411/v1/events/stream?after=0
  Serve other machines, which need tokens, behind a proxy that speaks TLS:
    skillhost tokens create --tenant acme --scope execute --scope jobs
    skillhost serve --listen 10.1.2.3:7411 --host skills.example.com
  Several processes on one database:
    skillhost serve --database postgres://jobs@db.example/jobs

Exit codes:
    0  it was told to stop
    2  usage error, or the address cannot be listened on
   70  the queue cannot be used, or the host is broken";

/// How long calls that were cut may take to end.
const TIDYING: Duration = Duration::from_secs(1);
/// What takes no longer to end is not worth a word.
const PROMPT: Duration = Duration::from_millis(300);

/// Serve skills over HTTP and MCP, and do what is in the queue
///
/// Executes skills, takes jobs and does them, and fires schedules: HTTP below /v1, described at
/// /openapi.json, MCP at /mcp. Skills are the installed ones; what is installed or removed meanwhile is
/// noticed within a second, and so is a change of the policy. On an address that other machines can
/// reach, or with --host or --origin, it starts only where there are tokens (`skillhost tokens`). With
/// Ctrl-C or SIGTERM it takes no more, lets what runs finish for the time of --grace, and gives jobs
/// back that have not; a second one does so at once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// Where to listen; port 0 takes one that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7411")]
    listen: String,
    /// A name that clients call this server by, beside localhost and its addresses
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    host: Vec<String>,
    /// An origin whose pages may call from browsers, such as https://app.example.com
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    origin: Vec<String>,
    /// How many jobs it does at once; as many as there are processors unless said; 0 for none
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        value_parser = clap::value_parser!(u32).range(0..=10_000)
    )]
    jobs: Option<u32>,
    /// How many executions may be in flight at once, jobs included; more wait
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        default_value = "256",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    concurrency: u32,
    /// How many connections there may be at once; more wait to be accepted
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        default_value = "1024",
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    connections: u32,
    /// How many of these one address may have; 256 unless said, and all where only this machine can connect
    ///
    /// Behind a proxy on another machine all come from its address: then say as many as --connections.
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    connections_of_one: Option<u32>,
    /// How many requests a second each token may make, or each address without tokens
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        default_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..=10_000_000)
    )]
    rate: u32,
    /// How many requests a minute one address may make with a wrong token, or with none where one is needed, before
    /// it must wait
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        default_value = "30",
        value_parser = clap::value_parser!(u32).range(1..=10_000_000)
    )]
    wrong_tokens: u32,
    /// Offer agents at /mcp a tool to search for tools, and one to call them, rather than each by itself
    #[arg(long)]
    mcp_search: bool,
    /// How long requests, calls and jobs may go on once it was told to stop
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        default_value = "25s",
        value_parser = parse_duration
    )]
    grace: Duration,
    /// Send callbacks, signed with the secret in this file: `whsec_` and base64
    ///
    /// Jobs that were submitted with a callback have their results sent. Without a secret, this is left
    /// to other processes.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    callback_secret: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
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

fn origin(text: &str) -> Result<String, String> {
    let shape = || "write such as https://app.example.com, without a path".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(shape)?;
    match scheme {
        "http" | "https" if !rest.is_empty() && !rest.contains(['/', '?', '#', '@']) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err(shape()),
    }
}

/// Serves until it is told to stop.
///
/// # Errors
/// Where the queue cannot be used, the address cannot be listened on, or the host is broken.
pub fn serve(args: ServeArgs, session: &Session) -> anyhow::Result<Exit> {
    let settings = Settings {
        // `describe` of a new skill is one more.
        concurrency: Some(args.concurrency.saturating_add(1)),
        secrets: args.sources.secrets(session)?,
        database: Some(args.database.database(session)?),
        callback_secret: args.callback_secret.clone(),
        ..Settings::trusting(&args.trust)?
    };
    let host = CommandHost::open(session, settings)?.host;
    let closing = host.clone();
    let packages = Packages::new(session.places()?.packages());
    packages.sweep();
    let skills = installed(session, host, !args.no_policy)?
        .packages(packages)
        .build();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let policy = skills.host().current_policy().clone();
    let approvals = LazyApprovals::new(&args.database, session)?;
    let inner = Arc::new(skills.clone());
    let guarded = guards::around(inner, policy, approvals, None, session)?;
    let ended = runtime.block_on(run(&args, skills, guarded, session));
    runtime.shutdown_background();
    closing.close_storage();
    ended
}

async fn run(
    args: &ServeArgs,
    skills: InstalledSkills,
    guarded: Guarded,
    session: &Session,
) -> anyhow::Result<Exit> {
    let counted = signals()?;
    let queue = args.database.open(session).await?;
    let audit = guarded.audit.clone();
    let service = service(args, skills.clone(), guarded, queue.clone())?;
    let followed = skills.clone();
    let following = tokio::spawn(async move { followed.follow_policy().await });
    let mcp = mcp(args, skills, &service, audit);
    let listener = listen(args, &service, session).await?;
    let address = listener.local_addr()?;
    let worker = match args.jobs {
        Some(0) => None,
        _ => Some(worker(args, &service, queue)?),
    };
    // One that fails takes the others with it, in order.
    let failed = tokio_util::sync::CancellationToken::new();
    let stop = || {
        let (told, failed) = (at_least(counted.clone(), 1), failed.clone());
        async move {
            tokio::select! {
                () = told => {}
                () = failed.cancelled_owned() => {}
            }
        }
    };
    let hurry = || at_least(counted.clone(), 2);
    let router = serve::guarded(&service, serve::mcp_route(&service, &mcp));
    let server = Server::new(service.clone(), router).grace(args.grace);
    // On standard output, for whoever started it with port 0.
    print(format_args!("listening on http://{address}\n"))?;
    session.console.note("Ctrl-C ends it");
    let serving = server.run(listener, stop(), hurry());
    let working = async {
        let Some(worker) = worker else {
            return Ok(None);
        };
        let done = worker.run_and_hurry(stop(), hurry()).await;
        if done.is_err() {
            failed.cancel();
        }
        done.map(Some)
    };
    let waited = async {
        at_least(counted.clone(), 1).await;
        tokio::time::sleep(PROMPT).await;
        session.console.note(stopping(args.grace));
        std::future::pending::<Infallible>().await
    };
    let (stopped, done) = tokio::select! {
        ended = async { tokio::join!(serving, working) } => ended,
        never = waited => match never {},
    };
    following.abort();
    // Calls that were cut are over in a moment, and then written down.
    let _ = tokio::time::timeout(TIDYING, mcp.idle()).await;
    if stopped.cut > 0 {
        session.console.warn(format_args!(
            "{} cut that took longer than --grace",
            units::counted(stopped.cut as u64, "connection")
        ));
    }
    done.map_err(broken)?;
    Ok(Exit::Success)
}

/// What it waits for once it was told to stop.
fn stopping(grace: Duration) -> String {
    format!(
        "stopping: what runs may finish within {}; Ctrl-C once more stops it at once, and gives jobs back",
        units::duration(grace)
    )
}

fn service(
    args: &ServeArgs,
    skills: InstalledSkills,
    guarded: Guarded,
    queue: Queue,
) -> anyhow::Result<Service> {
    let is_local = is_local(&addresses(&args.listen)?);
    let mut settings = serve::Settings::default();
    settings.connections = args.connections as usize;
    settings.connections_of_one = match args.connections_of_one {
        Some(many) => many as usize,
        // A proxy may be there, through which everybody comes.
        None if is_local => settings.connections,
        None => settings.connections_of_one,
    };
    settings.rate = NonZeroU32::new(args.rate).unwrap_or(settings.rate);
    settings.burst = settings
        .rate
        .saturating_mul(NonZeroU32::MIN.saturating_add(1));
    settings.guesses = NonZeroU32::new(args.wrong_tokens).unwrap_or(settings.guesses);
    settings.hosts = args.host.iter().cloned().collect::<BTreeSet<_>>();
    settings.origins = args.origin.iter().cloned().collect::<BTreeSet<_>>();
    let host = skills.host().clone();
    let breakers = host.current_policy().breakers();
    let mut builder = Service::builder(guarded.execute, queue)
        .skills(skills)
        .policy(move || host.policy())
        .breakers(breakers)
        .settings(settings);
    if let Some((audit, required)) = guarded.audit {
        builder = builder.audit(audit, required);
    }
    if !is_own(args, is_local) {
        builder = builder.closed();
    }
    Ok(builder.build().map_err(|error| explain::host(&error))?)
}

/// The door for MCP, whose tasks the worker does with all other jobs.
fn mcp(
    args: &ServeArgs,
    skills: InstalledSkills,
    service: &Service,
    audit: Option<(Arc<dyn AuditSink>, bool)>,
) -> McpServer {
    let mut settings = McpSettings::default();
    settings.concurrent_calls = args.concurrency as usize;
    settings.search = args.mcp_search;
    let mut tasks = Tasks::new(service.queue().clone());
    if let Some((audit, required)) = audit {
        tasks = tasks.audit(audit, required);
    }
    McpServer::builder(service.executor(), skills)
        .settings(settings)
        .tasks(tasks)
        .build()
}

fn addresses(listen: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let found = listen.to_socket_addrs();
    let found: Vec<SocketAddr> = match found {
        Ok(found) => found.collect(),
        Err(error) => {
            return Err(Complaint::usage(format!(
                "`{listen}` is no address to listen on: {error}"
            ))
            .hint("write such as 127.0.0.1:7411 or [::1]:0")
            .into());
        }
    };
    Ok(found)
}

fn is_local(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(|address| address.ip().is_loopback())
}

/// Whether whoever asks is on this machine: a name of its own, or a page that may ask, tells of a proxy
/// before it, or of a browser.
fn is_own(args: &ServeArgs, is_local: bool) -> bool {
    is_local && args.host.is_empty() && args.origin.is_empty()
}

/// Listens, once it is sure that nobody gets in who may not.
async fn listen(
    args: &ServeArgs,
    service: &Service,
    session: &Session,
) -> anyhow::Result<TcpListener> {
    let addresses = addresses(&args.listen)?;
    let is_local = is_local(&addresses);
    let tokens = service.tokens().list().await.map_err(explain::queue)?;
    let now = service.queue().now();
    match tokens.iter().any(|token| token.holds(now)) {
        true => {}
        false if is_own(args, is_local) => {
            if !tokens.is_empty() {
                session.console.warn(format_args!(
                    "no token holds any more, and so nobody is let in\n  {}: make one with `skillhost tokens create`",
                    styled(HINT, "hint")
                ));
            }
        }
        false => {
            let (who, instead) = match is_local {
                false => (
                    format!("`{}` can be reached from other machines", args.listen),
                    ", or listen on 127.0.0.1",
                ),
                true => (
                    "with --host or --origin others than this machine's own programs may ask"
                        .to_owned(),
                    "",
                ),
            };
            let hint = format!("make one with `skillhost tokens create`{instead}");
            let message = format!("{who}, and there is no token that holds");
            return Err(Complaint::usage(message).hint(hint).into());
        }
    }
    TcpListener::bind(addresses.as_slice())
        .await
        .map_err(|error| {
            let message = format!("cannot listen on `{}`: {error}", args.listen);
            let complaint = match error.kind() {
                ErrorKind::AddrInUse => Complaint::usage(message).hint(
                    "another process listens there: end it, or name another port with `--listen`",
                ),
                ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied => {
                    Complaint::usage(message).hint("name another address with `--listen`")
                }
                _ => Complaint::new(Exit::Host, message),
            };
            complaint.into()
        })
}

fn worker(args: &ServeArgs, service: &Service, queue: Queue) -> anyhow::Result<Worker> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut worker = Worker::builder(queue)
        .execute(service.executor())
        .concurrency(args.jobs.map_or(processors, |many| many as usize))
        .grace(args.grace);
    if let Some(path) = &args.callback_secret {
        worker = worker.callbacks(callbacks(path)?);
    }
    Ok(worker.build())
}
