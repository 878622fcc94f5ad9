//! `skillhost queues`: what queues, tenants and skills may have.

mod paused;
mod retry;
mod unheard;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::json;
use skillhost::limits::grouped;
use skillhost::parse_duration;
use skillhost::queue::{Bounds, JobStatus, Queue, RetryPolicy, ScopeInfo, ScopeKind};
use skillhost::text::printable;

use crate::cli::Session;
use crate::cli::complaint::Complaint;
use crate::cli::console::{GOOD, print, print_json, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::table::Table;
use crate::cli::{explain, units};
pub use paused::Paused;

const EXAMPLES: &str = "\
Examples:
  skillhost queues list
  skillhost queues pause nightly
  skillhost queues resume nightly
  At most two jobs of a tenant at once, and ten a minute of a skill, over all
  workers:
    skillhost queues bound --tenant acme --concurrency 2
    skillhost queues bound --skill fetch-page --rate 10/1m
  Twice as much for one tenant as for others:
    skillhost queues bound --tenant acme --weight 2
  Eight attempts at each job of a queue, with longer and longer delays:
    skillhost queues retry nightly --attempts 8 --base 1m --factor 2 --cap 1h";

/// Pause and bound queues, tenants and skills, over all workers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct QueuesArgs {
    #[command(subcommand)]
    command: QueuesCommand,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Subcommand)]
enum QueuesCommand {
    /// List queues, tenants or skills: what holds for them, and what they have
    List(ListArgs),
    /// Start no more jobs of a queue, tenant or skill; what runs goes on
    Pause(PauseArgs),
    /// Start jobs of a queue, tenant or skill again
    Resume(PauseArgs),
    /// Bound what a queue, tenant or skill may have
    Bound(BoundArgs),
    Retry(Box<retry::RetryArgs>),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Tenants rather than queues
    #[arg(long, conflicts_with_all = ["skills", "tools"])]
    tenants: bool,
    /// Skills rather than queues
    #[arg(long, conflicts_with = "tools")]
    skills: bool,
    /// Tools that have retries of their own, rather than queues
    #[arg(long)]
    tools: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// One queue, tenant or skill.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ScopeArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = NonEmptyStringValueParser::new())]
    queue: Option<String>,
    /// A tenant rather than a queue
    #[arg(long, value_name = "TENANT", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
    /// A skill rather than a queue, by name
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    skill: Option<String>,
}

#[derive(Debug, Args)]
struct PauseArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Print what holds then as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct BoundArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    bounds: BoundsArgs,
    /// Print what holds then as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct BoundsArgs {
    /// How many of its jobs may run at once, or `none`
    #[arg(long, value_name = "N|none", value_parser = concurrency)]
    concurrency: Option<Most>,
    /// How many of its jobs may start at once, and in which time as many more, such as 10/1m, or `none`
    ///
    /// With 10/1m ten start at once, and then one every 6 s: 10 a minute on average, and up to 19 in the
    /// first minute after a pause.
    #[arg(long, value_name = "N/TIME|none", value_parser = rate)]
    rate: Option<Rate>,
    /// A tenant's part in proportion to others': 1 unless set
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        value_parser = clap::value_parser!(u32).range(1..=1_000)
    )]
    weight: Option<u32>,
}

/// So many, or any number.
#[derive(Debug, Clone, Copy)]
struct Most(Option<u32>);

/// So many in so long, or any number.
#[derive(Debug, Clone, Copy)]
struct Rate(Option<(u32, Duration)>);

fn concurrency(text: &str) -> Result<Most, String> {
    match (text, text.parse()) {
        ("none", _) => Ok(Most(None)),
        (_, Ok(0)) => Err("nothing could run; pause it instead".to_owned()),
        (_, Ok(most)) => Ok(Most(Some(most))),
        (_, Err(_)) => Err(format!("`{text}` is neither a number nor `none`")),
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "none" {
        return Ok(Rate(None));
    }
    let Some((count, period)) = text.split_once('/') else {
        return Err(format!("`{text}` is no rate; write such as 10/1m, or none"));
    };
    let count = count
        .parse()
        .map_err(|_| format!("`{count}` is not a number; write such as 10/1m"))?;
    // `10/m` is how people say it.
    let period = match period.bytes().next() {
        Some(first) if !first.is_ascii_digit() => parse_duration(&format!("1{period}"))?,
        _ => parse_duration(period)?,
    };
    if count == 0 || period.is_zero() {
        return Err("nothing could start; pause it instead".to_owned());
    }
    Ok(Rate(Some((count, period))))
}

impl ScopeArgs {
    fn scope(&self) -> anyhow::Result<(ScopeKind, &str)> {
        let named = [
            (ScopeKind::Queue, &self.queue),
            (ScopeKind::Tenant, &self.tenant),
            (ScopeKind::Skill, &self.skill),
        ];
        named
            .into_iter()
            .find_map(|(kind, name)| Some((kind, name.as_deref()?)))
            .ok_or_else(|| Complaint::usage("no queue, tenant or skill is named").into())
    }
}

/// Carries one of the commands out.
///
/// # Errors
/// Where the queue cannot be used.
pub fn queues(args: QueuesArgs, session: &Session) -> anyhow::Result<Exit> {
    let QueuesArgs { command, database } = args;
    match command {
        QueuesCommand::List(args) => list(&args, &database, session),
        QueuesCommand::Pause(args) => pause(&args, true, &database, session),
        QueuesCommand::Resume(args) => pause(&args, false, &database, session),
        QueuesCommand::Bound(args) => bound(&args, &database, session),
        QueuesCommand::Retry(args) => retry::retry(&args, &database, session),
    }
}

/// Says what was done; for a program, what holds then.
async fn done(
    queue: &Queue,
    session: &Session,
    (kind, name): (ScopeKind, &str),
    json: bool,
    what: &str,
) -> anyhow::Result<Exit> {
    if json {
        let scopes = queue.scopes(kind).await.map_err(explain::queue)?;
        let scope = scopes.into_iter().find(|scope| scope.name == name);
        print_json(session.console, &scope)?;
        return Ok(Exit::Success);
    }
    session.console.note(format_args!(
        "{} {kind} `{}` {what}",
        styled(GOOD, "✓"),
        printable(name, false)
    ));
    Ok(Exit::Success)
}

/// Says that a name may be misspelt.
fn say_unheard(
    (kind, name): (ScopeKind, &str),
    json: bool,
    before: &[ScopeInfo],
    session: &Session,
) {
    if !json && let Some(hint) = unheard::hint(kind, name, before, session) {
        session
            .console
            .note(format_args!("  hint: {}", printable(&hint, false)));
    }
}

fn pause(
    args: &PauseArgs,
    paused: bool,
    database: &DatabaseArgs,
    session: &Session,
) -> anyhow::Result<Exit> {
    let (kind, name) = args.scope.scope()?;
    database.with(session, async |queue, _| {
        let before = queue.scopes(kind).await.map_err(explain::queue)?;
        queue
            .pause_all(kind, name, paused)
            .await
            .map_err(explain::queue)?;
        let what = if paused { "is paused" } else { "goes on" };
        let exit = done(&queue, session, (kind, name), args.json, what).await?;
        say_unheard((kind, name), args.json, &before, session);
        Ok(exit)
    })
}

fn bound(args: &BoundArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    let (kind, name) = args.scope.scope()?;
    if args.bounds.weight.is_some() && kind != ScopeKind::Tenant {
        let message = "a weight is a tenant's: queues take turns, and skills have no part";
        return Err(Complaint::usage(message).into());
    }
    let bounds = Bounds {
        concurrency: args.bounds.concurrency.map(|most| most.0),
        rate: args.bounds.rate.map(|rate| rate.0),
        weight: args.bounds.weight,
    };
    database.with(session, async |queue, _| {
        let before = queue.scopes(kind).await.map_err(explain::queue)?;
        queue
            .set_bounds(kind, name, bounds)
            .await
            .map_err(explain::queue)?;
        let scopes = queue.scopes(kind).await.map_err(explain::queue)?;
        let scope = scopes.iter().find(|scope| scope.name == name);
        let is_bounded =
            scope.is_some_and(|scope| scope.concurrency.is_some() || scope.rate.is_some());
        let what = match is_bounded || args.bounds.weight.is_some() {
            true => "is bounded so",
            false => "is bounded by nothing",
        };
        let exit = done(&queue, session, (kind, name), args.json, what).await?;
        say_unheard((kind, name), args.json, &before, session);
        Ok(exit)
    })
}

fn list(args: &ListArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    let kind = match (args.tenants, args.skills) {
        (true, _) => ScopeKind::Tenant,
        (_, true) => ScopeKind::Skill,
        _ => ScopeKind::Queue,
    };
    database.with(session, async |queue, _| {
        if args.tools {
            let tools = queue.tool_retries().await.map_err(explain::queue)?;
            retry::show_tools(&tools, args.json, session)?;
            return Ok(Exit::Success);
        }
        let mut scopes = queue.scopes(kind).await.map_err(explain::queue)?;
        let retries = match kind {
            ScopeKind::Queue => queue.queue_retries().await.map_err(explain::queue)?,
            _ => BTreeMap::new(),
        };
        with_retries(&mut scopes, &retries);
        if args.json {
            let told: Vec<_> = scopes
                .iter()
                .map(|scope| {
                    let mut told = json!(scope);
                    if kind == ScopeKind::Queue {
                        told["retry"] = json!(retries.get(&scope.name));
                    }
                    told
                })
                .collect();
            print_json(session.console, &told)?;
            return Ok(Exit::Success);
        }
        if scopes.is_empty() {
            session.console.note(format_args!("no {kind}s"));
            return Ok(Exit::Success);
        }
        let statistics = queue.statistics(1).await.map_err(explain::queue)?;
        let waiting = match kind {
            ScopeKind::Queue => Some(&statistics.by_queue),
            ScopeKind::Tenant => Some(&statistics.by_tenant),
            ScopeKind::Skill => None,
        };
        let mut table = Table::new(0);
        let mut heading = vec![kind.as_str(), "state", "concurrency", "rate"];
        if waiting.is_some() {
            heading.extend(["running", "waiting"]);
        }
        heading.extend((kind == ScopeKind::Tenant).then_some("weight"));
        heading.extend((!retries.is_empty()).then_some("retries"));
        table.row(heading.into_iter().map(str::to_owned));
        for scope in scopes {
            let name = if scope.name.is_empty() {
                "-"
            } else {
                &scope.name
            };
            let mut row = vec![
                printable(name, false).into_owned(),
                if scope.paused { "paused" } else { "open" }.to_owned(),
                scope
                    .concurrency
                    .map_or("-".to_owned(), |most| most.to_string()),
                scope.rate.map_or("-".to_owned(), |rate| {
                    let period = Duration::from_millis(rate.period_ms);
                    format!("{} in {}", rate.count, units::duration(period))
                }),
            ];
            if let Some(counts) = waiting {
                let of = |status| {
                    let counts = counts.get(&scope.name)?;
                    counts.get(&status).copied()
                };
                let waiting = [JobStatus::Pending, JobStatus::Failed].map(of);
                row.push(grouped(of(JobStatus::Running).unwrap_or(0)));
                row.push(grouped(waiting.into_iter().flatten().sum()));
            }
            row.extend((kind == ScopeKind::Tenant).then(|| scope.weight.to_string()));
            if !retries.is_empty() {
                let set = retries.get(&scope.name).map(retry::summary);
                row.push(set.unwrap_or_else(|| "-".to_owned()));
            }
            table.row(row);
        }
        print(table)?;
        Ok(Exit::Success)
    })
}

/// Adds queues that have nothing but retries of their own.
fn with_retries(scopes: &mut Vec<ScopeInfo>, retries: &BTreeMap<String, RetryPolicy>) {
    for name in retries.keys() {
        if scopes.iter().all(|scope| scope.name != *name) {
            scopes.push(ScopeInfo {
                kind: ScopeKind::Queue,
                name: name.clone(),
                paused: false,
                concurrency: None,
                rate: None,
                weight: 1,
            });
        }
    }
    scopes.sort_by(|a, b| a.name.cmp(&b.name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_say_them() {
        let read = |text| rate(text).map(|rate| rate.0);
        assert_eq!(read("10/1m"), Ok(Some((10, Duration::from_secs(60)))));
        assert_eq!(read("10/s"), Ok(Some((10, Duration::from_secs(1)))));
        assert_eq!(read("none"), Ok(None));
        for wrong in ["10", "x/1m", "0/1m", "10/", "10/soon"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(concurrency("0").is_err());
    }
}
