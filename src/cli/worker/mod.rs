//! `skillhost worker`: does what is in the queue.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueHint};
use skillhost::limits::grouped;
use skillhost::queue::callback::{CallbackSettings, Callbacks, Secret};
use skillhost::queue::{CallbackSender, Done, JobStatus, Queue, Settled, Worker, WorkerError};
use skillhost::skill::Packages;
use skillhost::text::printable;
use skillhost::{Execute, parse_bytes, parse_duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::approvals::LazyApprovals;
use super::complaint::Complaint;
use super::console::{Console, ERROR, GOOD, WARNING, styled};
use super::database::DatabaseArgs;
use super::exit::Exit;
use super::host::{CommandHost, Settings, installed};
use super::jobs::short;
use super::queues::Paused;
use super::run::TrustArgs;
use super::secrets::SourceArgs;
use super::termination::Terminations;
use super::unread::unread;
use super::{Session, explain, guards, units};

const EXAMPLES: &str = "\
Examples:
  Do what comes, until Ctrl-C:
    skillhost worker
  Do what is waiting, eight at a time, and end:
    skillhost worker --until-empty --concurrency 8
  Serve two queues, from a database that other machines use as well:
    skillhost worker --queue nightly --queue reports \\
        --database postgres://jobs@db.example/jobs

Exit codes:
    0  it was told to stop, or nothing was left
    2  usage error
   70  the queue cannot be used, or the host is broken";

/// Do what is in the queue
///
/// Takes jobs, runs each in a fresh sandbox as `run` would, and writes down what it came to. Skills are
/// the installed ones, and those that jobs brought with them; one is loaded when its first job comes.
/// The policy holds, and a change of it within a second. With Ctrl-C or SIGTERM it takes no more, lets
/// what runs finish for the time of --grace, and gives the rest back; a second one does so at once. Of
/// a worker that is killed, others take over what it had once its lease is over.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct WorkerArgs {
    /// How many jobs it does at once; as many as there are processors unless said
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    concurrency: Option<u32>,
    /// Take jobs of this queue only; may be given several times
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    queue: Vec<String>,
    /// How long its claims hold should it die: at least 1s
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "30s", value_parser = lease)]
    lease: Duration,
    /// How long running jobs may go on once it was told to stop
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        default_value = "25s",
        value_parser = parse_duration
    )]
    grace: Duration,
    /// End once nothing is waiting that could start now
    #[arg(long)]
    until_empty: bool,
    /// A name for people; the machine's and the process's number unless given
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// The stack of every guest, such as 1MiB
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = stack)]
    stack: Option<u64>,
    /// Send callbacks, signed with the secret in this file: `whsec_` and base64
    ///
    /// Jobs that were submitted with --callback have their results sent. Without a secret, this worker
    /// leaves that to others.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    callback_secret: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    sources: SourceArgs,
    /// Leave the policy out: grant nothing but what jobs name, and bound nothing
    ///
    /// Its ceilings, turns, rates and circuits do not hold then. Refused where the policy has rules of
    /// approval, or requires an audit.
    #[arg(long, help_heading = "Grants")]
    no_policy: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

fn lease(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        lease if lease < Duration::from_secs(1) => Err("a lease is at least 1s".to_owned()),
        lease => Ok(lease),
    }
}

fn stack(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        bytes if (64 << 10..=16 << 20).contains(&bytes) => Ok(bytes),
        _ => Err("the stack can be 64 KiB to 16 MiB large".to_owned()),
    }
}

/// Works until it is told to stop.
///
/// # Errors
/// Where the queue cannot be used, or the host is broken.
pub fn worker(args: WorkerArgs, session: &Session) -> anyhow::Result<Exit> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let concurrency = args.concurrency.map_or(processors, |many| many as usize);
    let settings = Settings {
        // `describe` of a new skill is one more.
        concurrency: u32::try_from(concurrency + 1).ok(),
        stack_bytes: args.stack,
        secrets: args.sources.secrets(session)?,
        database: Some(args.database.database(session)?),
        callback_secret: args.callback_secret.clone(),
        ..Settings::trusting(&args.trust)?
    };
    let host = CommandHost::open(session, settings)?.host;
    let closing = host.clone();
    let packages = Packages::new(session.places()?.packages());
    packages.sweep();
    let current = host.current_policy().clone();
    let skills = installed(session, host, !args.no_policy)?
        .packages(packages)
        .build();
    let approvals = LazyApprovals::new(&args.database, session)?;
    let followed = skills.clone();
    let guarded = guards::around(Arc::new(skills), current, approvals, None, session)?.execute;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let signals = signals()?;
        let queue = args.database.open(session).await?;
        let looked = queue.clone();
        let callbacks = match &args.callback_secret {
            Some(path) => Some(callbacks(path)?),
            None => None,
        };
        let worker = set_up(
            &args,
            queue,
            concurrency,
            guarded,
            callbacks,
            session.console,
        );
        session.console.note(format_args!(
            "working on {} at a time; Ctrl-C ends it",
            units::counted(concurrency as u64, "job")
        ));
        let (stop, hurry) = (at_least(signals.clone(), 1), at_least(signals, 2));
        let following = tokio::spawn(async move { followed.follow_policy().await });
        let done = worker.run_and_hurry(stop, hurry).await;
        following.abort();
        let done = done.map_err(|error| anyhow::Error::from(broken(error)))?;
        // What is left waits for nobody who works.
        let held = match args.until_empty {
            true => Paused::with_jobs(&looked, &args.queue).await?,
            false => Vec::new(),
        };
        Ok::<_, anyhow::Error>((done, held))
    });
    runtime.shutdown_background();
    closing.close_storage();
    let (done, held) = ended?;
    session.console.note(summary(&done));
    for paused in held {
        paused.warn(session.console);
    }
    Ok(Exit::Success)
}

fn set_up(
    args: &WorkerArgs,
    queue: Queue,
    concurrency: usize,
    guarded: Arc<dyn Execute>,
    callbacks: Option<CallbackSender>,
    console: Console,
) -> Worker {
    let mut worker = Worker::builder(queue)
        .execute(guarded)
        .concurrency(concurrency)
        .lease(args.lease)
        .grace(args.grace);
    if !console.quiet {
        worker = worker.on_settled(move |settled| console.note(line(settled)));
        let (grace, said) = (args.grace, AtomicBool::new(false));
        worker = worker.on_stopping(move |left| {
            // Where nobody told it to, it ends because nothing is left or the host is broken.
            if !said.swap(true, Ordering::Relaxed) {
                console.note(stopping(left, grace));
            }
        });
    }
    if !args.queue.is_empty() {
        worker = worker.queues(args.queue.iter().cloned());
    }
    if let Some(name) = &args.name {
        worker = worker.name(name);
    }
    if let Some(callbacks) = callbacks {
        worker = worker.callbacks(callbacks);
    }
    if args.until_empty {
        worker = worker.until_empty();
    }
    worker.build()
}

/// What sends callbacks, signed with the secret in a file.
pub fn callbacks(path: &Path) -> anyhow::Result<CallbackSender> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| unread(Some(path), "--callback-secret", &error))?;
    let secret: Secret = text.trim().parse().map_err(|error| {
        // What is wrong with it, and not what it is.
        Complaint::usage(format!("`{}` holds no secret: {error}", path.display()))
    })?;
    let callbacks =
        Callbacks::new(CallbackSettings::default()).map_err(|error| explain::host(&error))?;
    Ok(CallbackSender::new(callbacks, vec![secret]))
}

/// Counts Ctrl-C, and what else tells the command to end, from now on.
pub fn signals() -> anyhow::Result<watch::Receiver<u32>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminations = Terminations::listen()?;
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = interrupt.recv() => {}
                () = terminations.next() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(counted)
}

/// Ready once there were so many.
pub async fn at_least(mut signals: watch::Receiver<u32>, many: u32) {
    if signals.wait_for(|count| *count >= many).await.is_err() {
        // Nobody counts any more, so there will be none.
        std::future::pending().await
    }
}

pub fn broken(error: WorkerError) -> Complaint {
    match error {
        WorkerError::Queue(error) => explain::queue(error),
        error => Complaint::new(Exit::Host, error.to_string()),
    }
}

/// What became of one attempt, or of a job that died without one.
fn line(settled: &Settled) -> String {
    let mark = match settled.status {
        JobStatus::Completed => styled(GOOD, "✓"),
        JobStatus::Dead => styled(ERROR, "✗"),
        _ => styled(WARNING, "·"),
    };
    let mut what = settled.skill.clone();
    if let Some(tool) = &settled.tool {
        what.push(' ');
        what.push_str(tool);
    }
    let mut parts = vec![what];
    let status = match settled.status {
        JobStatus::Failed => "failed, to be tried again",
        JobStatus::Pending => "given back",
        status => status.as_str(),
    };
    parts.push(status.to_owned());
    if settled.attempt > 1 {
        parts.push(format!("attempt {}", settled.attempt));
    }
    if settled.attempt > 0 {
        parts.push(units::duration(settled.took));
    }
    if let Some(message) = &settled.message {
        let cut: String = message.chars().take(200).collect();
        parts.push(cut);
    }
    let parts = parts.join(" · ");
    format!(
        "{mark} {} {}",
        short(&settled.job),
        printable(&parts, false)
    )
}

/// What a worker waits for that was told to stop.
fn stopping(left: usize, grace: Duration) -> String {
    format!(
        "stopping: {} may finish within {}; Ctrl-C once more gives back what is left at once",
        units::counted(left as u64, "running job"),
        units::duration(grace)
    )
}

fn summary(done: &Done) -> String {
    let Done {
        settled,
        completed,
        died,
        retried,
        released,
    } = done;
    let mut text = format!(
        "{}, {} completed",
        units::counted(*settled, "attempt"),
        units::counted(*completed, "job")
    );
    if *died > 0 {
        let died = grouped(*died);
        text.push_str(&format!(", {died} died (`skillhost jobs dead list`)"));
    }
    if *retried > 0 {
        let retried = grouped(*retried);
        text.push_str(&format!(", {retried} to be tried again"));
    }
    if *released > 0 {
        text.push_str(&format!(", {} given back", grouped(*released)));
    }
    text
}
