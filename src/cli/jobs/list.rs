//! `skillhost jobs list`: which jobs there are.

use chrono::{DateTime, Utc};
use clap::Args;
use skillhost::queue::{Job, JobStatus};
use skillhost::text::printable;

use super::filter::{FilterArgs, PageArgs};
use super::id::short;
use super::moment::distance;
use crate::cli::Session;
use crate::cli::console::{Console, print, print_json};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::table::Table;

const EXAMPLES: &str = "\
Examples:
  skillhost jobs list
  skillhost jobs list --status failed --status paused --queue nightly
  skillhost jobs list --skill text-stats --json | jq -r '.[].id'";

/// List jobs, the last submitted first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ListArgs {
    /// With this status: pending, running, completed, failed, paused, cancelled or dead; may be given
    /// several times
    #[arg(
        long,
        value_name = "STATUS",
        value_parser = str::parse::<JobStatus>,
        help_heading = "Filter"
    )]
    status: Vec<JobStatus>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    page: PageArgs,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Lists jobs.
///
/// # Errors
/// Where the queue cannot be read.
pub fn list(args: &ListArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    database.with(session, async |queue, _| {
        let jobs = args.filter.page(&queue, &args.status, &args.page).await?;
        if args.json {
            print_json(session.console, &jobs)?;
        } else {
            show(&jobs, args.page.limit, queue.now(), session.console)?;
        }
        Ok(Exit::Success)
    })
}

/// Jobs as a table, and where there may be more.
///
/// # Errors
/// Where it cannot be written.
pub fn show(jobs: &[Job], limit: u32, now: DateTime<Utc>, console: Console) -> std::io::Result<()> {
    let Some(last) = jobs.last() else {
        console.note("no jobs");
        return Ok(());
    };
    let mut table = Table::new(0);
    table.row(
        [
            "id",
            "status",
            "priority",
            "queue",
            "tenant",
            "attempts",
            "submitted",
            "what",
        ]
        .map(str::to_owned),
    );
    for job in jobs {
        let status = match &job.cause {
            Some(cause) => format!("{}: {}", job.status, printable(cause, false)),
            None => job.status.to_string(),
        };
        table.row([
            short(&job.id),
            status,
            job.priority.to_string(),
            job.queue.clone(),
            printable(job.tenant.as_deref().unwrap_or("-"), false).into_owned(),
            format!("{}/{}", job.attempts, job.max_attempts),
            distance(job.created_at, now),
            what(job),
        ]);
    }
    print(table)?;
    if jobs.len() == limit as usize {
        console.note(format_args!(
            "there may be more: `--before {}` shows the next",
            short(&last.id)
        ));
    }
    Ok(())
}

/// The skill and the tool; of other work, its kind.
pub fn what(job: &Job) -> String {
    let skill = job.skill.as_deref().unwrap_or_default();
    let text = match &job.tool {
        Some(tool) => format!("{skill} {tool}"),
        None if skill.is_empty() => job.kind.to_string(),
        None => skill.to_owned(),
    };
    printable(&text, false).into_owned()
}
