//! `skillhost jobs dead list`.

use clap::Args;
use skillhost::queue::JobStatus;
use skillhost::text::printable;

use crate::cli::Session;
use crate::cli::console::{print, print_json};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::explain;
use crate::cli::jobs::end::failure;
use crate::cli::jobs::filter::{FilterArgs, PageArgs, no_dead};
use crate::cli::jobs::id::short;
use crate::cli::jobs::list::what;
use crate::cli::jobs::moment::distance;
use crate::cli::jobs::stats::causes;
use crate::cli::table::Table;

/// List dead jobs and why they died, the last submitted first
#[derive(Debug, Args)]
pub struct DeadListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    page: PageArgs,
    /// Count them by cause
    #[arg(
        long,
        conflicts_with_all = ["FilterArgs", "before"]
    )]
    by_cause: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Lists dead jobs.
///
/// # Errors
/// Where the queue cannot be read.
pub fn list(
    args: &DeadListArgs,
    database: &DatabaseArgs,
    session: &Session,
) -> anyhow::Result<Exit> {
    let console = session.console;
    database.with(session, async |queue, _| {
        if args.by_cause {
            let statistics = queue.statistics(1).await.map_err(explain::queue)?;
            match args.json {
                true => print_json(console, &statistics.dead_by_cause)?,
                false if statistics.dead_by_cause.is_empty() => console.note("no dead jobs"),
                false => print(causes(&statistics))?,
            }
            return Ok(Exit::Success);
        }
        let jobs = args
            .filter
            .page(&queue, &[JobStatus::Dead], &args.page)
            .await?;
        // Also for a program, that the cause is a misspelt one.
        let none = match jobs.is_empty() {
            true => Some(no_dead(&queue, &args.filter).await?),
            false => None,
        };
        if args.json {
            print_json(console, &jobs)?;
            return Ok(Exit::Success);
        }
        let Some(last) = jobs.last() else {
            if let Some(none) = none {
                console.note(none);
            }
            return Ok(Exit::Success);
        };
        let mut table = Table::new(0);
        table.row(["id", "cause", "attempts", "died", "what", "why"].map(str::to_owned));
        let now = queue.now();
        for job in &jobs {
            let attempts = queue.attempts(job.id).await.map_err(explain::queue)?;
            let message = attempts
                .last()
                .and_then(|attempt| attempt.details.pointer("/failure/message")?.as_str());
            let mut why = match message {
                Some(message) => cut(message),
                // No attempt tells.
                None => failure(job).message,
            };
            if job.replayed {
                why.insert_str(0, "replayed · ");
            }
            table.row([
                short(&job.id),
                printable(job.cause.as_deref().unwrap_or("-"), false).into_owned(),
                format!("{}/{}", job.attempts, job.max_attempts),
                distance(job.completed_at.unwrap_or(job.updated_at), now),
                what(job),
                printable(&why, false).into_owned(),
            ]);
        }
        print(table)?;
        if jobs.len() == args.page.limit as usize {
            console.note(format_args!(
                "there may be more: `--before {}` shows the next",
                short(&last.id)
            ));
        }
        Ok(Exit::Success)
    })
}

/// The most characters of a message in a table.
const MOST: usize = 100;

/// A message, cut where it is long.
fn cut(message: &str) -> String {
    let mut shown: String = message.chars().take(MOST).collect();
    if shown.len() < message.len() {
        shown.push('…');
    }
    shown
}
