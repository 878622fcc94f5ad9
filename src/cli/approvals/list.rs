//! `skillhost approvals list`: what waits, and what was said.

use chrono::{DateTime, Utc};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use skillhost::policy::{ApprovalFilter, ApprovalStatus};
use skillhost::text::{named, printable};

use super::found::{Found, all};
use crate::cli::Session;
use crate::cli::console::{print, print_json};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::jobs::{distance, short, what};
use crate::cli::table::Table;

/// How much of an input is shown, in bytes: `show` has the rest.
const INPUT: usize = 40;

const EXAMPLES: &str = "\
Examples:
  skillhost approvals list
  skillhost approvals list --all --tenant acme
  skillhost approvals list --json | jq -r '.[].id'";

/// List what waits for an approval, the last first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ListArgs {
    /// With this status: pending, approved, refused, used or expired; may be given several times
    #[arg(long, value_name = "STATUS", value_parser = str::parse::<ApprovalStatus>, help_heading = "Filter")]
    status: Vec<ApprovalStatus>,
    /// Whatever its status
    #[arg(long, conflicts_with = "status", help_heading = "Filter")]
    all: bool,
    /// Of this tenant
    #[arg(long, value_name = "NAME", help_heading = "Filter", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
    /// Of this skill
    #[arg(long, value_name = "NAME", help_heading = "Filter", value_parser = NonEmptyStringValueParser::new())]
    skill: Option<String>,
    /// At most so many
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    limit: u32,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Lists approvals.
///
/// # Errors
/// Where they cannot be read.
pub fn list(args: &ListArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    let status = match (args.all, args.status.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => vec![ApprovalStatus::Pending],
        (false, false) => args.status.clone(),
    };
    let filter = ApprovalFilter {
        status,
        tenant: args.tenant.clone(),
        skill: args.skill.clone(),
        limit: Some(args.limit as usize),
        ..ApprovalFilter::default()
    };
    database.with(session, async |queue, _| {
        let found = all(&queue, &filter).await?;
        if args.json {
            print_json(session.console, &found)?;
        } else if found.is_empty() {
            let of_some = args.tenant.is_some() || args.skill.is_some();
            session
                .console
                .note(match (args.all || !args.status.is_empty(), of_some) {
                    (true, false) => "no approvals",
                    (true, true) => "no such approvals",
                    (false, false) => {
                        "no approval waits for an answer; `--all` shows those that have one"
                    }
                    (false, true) => {
                        "no such approval waits for an answer; `--all` shows those that have one"
                    }
                });
        } else {
            print(table(&found, queue.now()))?;
        }
        Ok(Exit::Success)
    })
}

fn table(found: &[Found], now: DateTime<Utc>) -> Table {
    let mut table = Table::new(0);
    let heads = ["id", "status", "tenant", "asked", "what", "input", "rule"];
    table.row(heads.map(str::to_owned));
    for found in found {
        let cells = match found {
            Found::Approval(approval) => {
                let wanted = &approval.wanted;
                let mut status = approval.status.to_string();
                if approval.status == ApprovalStatus::Approved && !approval.once {
                    status.push_str(&format!(", ends {}", distance(approval.until, now)));
                }
                let mut what = format!("{} {}", wanted.skill.name, wanted.tool);
                if let Some(job) = wanted.job {
                    what.push_str(&format!(" (job {})", short(&job)));
                }
                let tenant = wanted.tenant.as_deref().unwrap_or("-");
                [
                    short(&approval.id),
                    status,
                    printable(tenant, false).into_owned(),
                    distance(approval.asked_at, now),
                    printable(&what, false).into_owned(),
                    named(&wanted.input, INPUT),
                    printable(&wanted.rule, false).into_owned(),
                ]
            }
            Found::Job(job) => [
                short(&job.id),
                "pending".to_owned(),
                printable(job.tenant.as_deref().unwrap_or("-"), false).into_owned(),
                distance(job.updated_at, now),
                format!("{} (job {})", what(job), short(&job.id)),
                "-".to_owned(),
                "-".to_owned(),
            ],
        };
        table.row(cells);
    }
    table
}
