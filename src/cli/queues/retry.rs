//! `skillhost queues retry`: how jobs are tried again that do not say so themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;
use skillhost::parse_duration;
use skillhost::queue::{MAX_ATTEMPTS, RetryCause, RetryPolicy};
use skillhost::text::printable;

use crate::cli::complaint::Complaint;
use crate::cli::console::{GOOD, print, print_json, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::table::Table;
use crate::cli::units::{counted, duration};
use crate::cli::{Session, explain};

const EXAMPLES: &str = "\
Examples:
  skillhost queues retry nightly --attempts 8 --base 1m --factor 2 --cap 1h
  skillhost queues retry --tool fetch-page/fetch --attempts 3 \\
      --on retryable_error --on timeout
  As the default says again:
    skillhost queues retry nightly --default";

/// Set how jobs of a queue or tool are tried again that do not say so themselves
///
/// What is set for a tool goes before what is set for the queue. What is left out stays as it is. It holds
/// for jobs that are submitted from now on: the delays of a job are reckoned once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RetryArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Print what holds then as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhoseArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = NonEmptyStringValueParser::new())]
    queue: Option<String>,
    /// A tool of a skill rather than a queue
    #[arg(long, value_name = "SKILL/TOOL", value_parser = tool)]
    tool: Option<(String, String)>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct PolicyArgs {
    /// How many attempts a job has in all
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ATTEMPTS))
    )]
    attempts: Option<u32>,
    /// The delay before the second attempt
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_duration)]
    base: Option<Duration>,
    /// By what the delay grows each time: 1 to 100
    #[arg(long, value_name = "NUMBER")]
    factor: Option<f64>,
    /// The longest delay
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_duration)]
    cap: Option<Duration>,
    /// Which part of each delay is random: 0 to 1
    #[arg(long, value_name = "NUMBER")]
    jitter: Option<f64>,
    /// What is tried again, such as trap or timeout; may be given several times
    #[arg(long, value_name = "CAUSE", value_parser = str::parse::<RetryCause>)]
    on: Vec<RetryCause>,
    /// Whether a tool is tried again that is marked destructive and not idempotent
    #[arg(long, value_name = "true|false")]
    destructive: Option<bool>,
    /// As the default says: take away what is set
    #[arg(
        long,
        conflicts_with_all = ["attempts", "base", "factor", "cap", "jitter", "on", "destructive"]
    )]
    default: bool,
}

fn tool(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((skill, tool)) if !skill.is_empty() && !tool.is_empty() => {
            Ok((skill.to_owned(), tool.to_owned()))
        }
        _ => Err("write SKILL/TOOL".to_owned()),
    }
}

impl PolicyArgs {
    /// What holds then; `None`: the default.
    fn over(&self, now: Option<&RetryPolicy>) -> Option<RetryPolicy> {
        if self.default {
            return None;
        }
        let now = now.cloned().unwrap_or_default();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Some(RetryPolicy {
            max_attempts: self.attempts.unwrap_or(now.max_attempts),
            base_ms: self.base.map_or(now.base_ms, ms),
            factor: self.factor.unwrap_or(now.factor),
            cap_ms: self.cap.map_or(now.cap_ms, ms),
            jitter: self.jitter.unwrap_or(now.jitter),
            on: match self.on.is_empty() {
                true => now.on,
                false => self.on.iter().copied().collect(),
            },
            destructive: self.destructive.unwrap_or(now.destructive),
        })
    }
}

/// Sets it.
///
/// # Errors
/// Where it makes no sense, or the queue cannot be written.
pub fn retry(args: &RetryArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    database.with(session, async |queue, _| {
        let (kind, name) = match (&args.whose.queue, &args.whose.tool) {
            (Some(name), _) => ("queue", name.clone()),
            (_, Some((skill, tool))) => ("tool", format!("{skill}/{tool}")),
            (None, None) => return Err(Complaint::usage("no queue or tool is named").into()),
        };
        let set = match kind {
            "queue" => queue.queue_retries().await,
            _ => queue.tool_retries().await,
        };
        let set = set.map_err(explain::queue)?;
        let policy = args.policy.over(set.get(&name));
        let done = match &args.whose.tool {
            Some((skill, tool)) => queue.set_tool_retry(skill, tool, policy.as_ref()).await,
            None => queue.set_queue_retry(&name, policy.as_ref()).await,
        };
        done.map_err(explain::queue)?;
        if args.json {
            let told = json!({"kind": kind, "name": name, "retry": policy});
            print_json(session.console, &told)?;
            return Ok(Exit::Success);
        }
        let what = match &policy {
            Some(policy) => summary(policy),
            None => "as the default says".to_owned(),
        };
        session.console.note(format_args!(
            "{} {kind} `{}`: {what}",
            styled(GOOD, "✓"),
            printable(&name, false)
        ));
        Ok(Exit::Success)
    })
}

/// Tools that have something set, as a table or JSON.
///
/// # Errors
/// Where it cannot be written.
pub fn show_tools(
    tools: &BTreeMap<String, RetryPolicy>,
    json: bool,
    session: &Session,
) -> std::io::Result<()> {
    if json {
        let told: Vec<_> = tools
            .iter()
            .map(|(name, retry)| json!({"kind": "tool", "name": name, "retry": retry}))
            .collect();
        return print_json(session.console, &told);
    }
    if tools.is_empty() {
        session
            .console
            .note("no tools that have something set; `skillhost queues retry --tool` sets it");
        return Ok(());
    }
    let mut table = Table::new(0);
    table.row(["tool", "retries"].map(str::to_owned));
    for (name, policy) in tools {
        table.row([printable(name, false).into_owned(), summary(policy)]);
    }
    print(table)
}

/// A policy on one line; what is as the default has it is left out, the delays aside.
pub fn summary(policy: &RetryPolicy) -> String {
    let default = RetryPolicy::default();
    let mut parts = vec![counted(u64::from(policy.max_attempts), "attempt")];
    if policy.max_attempts > 1 {
        let time = |ms| duration(Duration::from_millis(ms));
        parts.push(format!(
            "after {} × {} up to {}",
            time(policy.base_ms),
            policy.factor,
            time(policy.cap_ms)
        ));
        if policy.jitter != default.jitter {
            parts.push(format!("jitter {}", policy.jitter));
        }
        if policy.on != default.on {
            let on: Vec<&str> = policy.on.iter().map(|cause| cause.as_str()).collect();
            parts.push(format!("on {}", on.join(" and ")));
        }
        if policy.destructive {
            parts.push("destructive ones, too".to_owned());
        }
    }
    parts.join(", ")
}
