//! `skillhost jobs stats`: what goes on, in numbers.

use std::fmt::Write;

use clap::Args;
use skillhost::limits::grouped;
use skillhost::queue::{Statistics, Times};
use skillhost::text::printable;

use super::moment::{distance, milliseconds};
use crate::cli::Session;
use crate::cli::console::{BOLD, print, print_json, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::explain;
use crate::cli::table::Table;
use crate::cli::units;

const EXAMPLES: &str = "\
Examples:
  skillhost jobs stats
  skillhost jobs stats --hours 1 --json | jq '.by_status.dead'

Counts are exact. Half and 99 % of times are taken from a histogram, to 3.2 %.";

/// Show what goes on: counts by status, queue and tenant, times, rates, workers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatsArgs {
    /// Times and rates over the last so many hours, up to 168
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        default_value_t = 24,
        value_parser = clap::value_parser!(u32).range(1..=168)
    )]
    hours: u32,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Shows statistics.
///
/// # Errors
/// Where the queue cannot be read.
pub fn stats(args: &StatsArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    database.with(session, async |queue, _| {
        let statistics = queue.statistics(args.hours).await.map_err(explain::queue)?;
        if args.json {
            print_json(session.console, &statistics)?;
        } else {
            print(text(&statistics))?;
        }
        Ok(Exit::Success)
    })
}

fn text(statistics: &Statistics) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}",
        styled(BOLD, units::counted(statistics.total, "job"))
    );
    let mut table = Table::new(2);
    for (status, count) in &statistics.by_status {
        table.row([status.to_string(), grouped(*count)]);
    }
    out.push_str(&table.to_string());
    for (heading, counts) in [
        ("By queue", &statistics.by_queue),
        ("By tenant", &statistics.by_tenant),
    ] {
        // Those without a tenant alone tell nothing.
        if counts.keys().all(String::is_empty) {
            continue;
        }
        let _ = writeln!(out, "\n{}", styled(BOLD, heading));
        let mut table = Table::new(2);
        for (name, counts) in counts {
            let name = if name.is_empty() { "-" } else { name };
            let counts: Vec<String> = counts
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(status, count)| format!("{} {status}", grouped(*count)))
                .collect();
            table.row([printable(name, false).into_owned(), counts.join(", ")]);
        }
        out.push_str(&table.to_string());
    }
    if !statistics.dead_by_cause.is_empty() {
        let _ = writeln!(out, "\n{}", styled(BOLD, "Dead by cause"));
        out.push_str(&causes(statistics).to_string());
    }
    let _ = writeln!(
        out,
        "\n{}",
        styled(
            BOLD,
            format_args!(
                "The last {}",
                units::counted(statistics.window_hours.into(), "hour")
            )
        )
    );
    let mut table = Table::new(2);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("waited", times(&statistics.wait));
    row("ran", times(&statistics.run));
    if let Some(rate) = statistics.success_rate {
        row(
            "completed",
            format!("{:.1} % of those that ended", rate * 100.0),
        );
    }
    row(
        "throughput",
        format!("{:.0} an hour", statistics.throughput_per_hour),
    );
    if let Some(oldest) = statistics.oldest_waiting_s {
        let oldest = std::time::Duration::try_from_secs_f64(oldest).unwrap_or_default();
        row("oldest waiting", format!("for {}", units::duration(oldest)));
    }
    out.push_str(&table.to_string());
    let _ = writeln!(out, "\n{}", styled(BOLD, "Workers"));
    let mut table = Table::new(2);
    for worker in &statistics.workers {
        table.row([
            super::short(&worker.id),
            format!("started {}", distance(worker.started_at, statistics.at)),
            printable(&worker.name, false).into_owned(),
        ]);
    }
    if table.is_empty() {
        out.push_str("  none\n");
    }
    out.push_str(&table.to_string());
    out
}

/// Dead jobs by cause.
pub fn causes(statistics: &Statistics) -> Table {
    let mut table = Table::new(2);
    for (cause, count) in &statistics.dead_by_cause {
        table.row([printable(cause, false).into_owned(), grouped(*count)]);
    }
    table
}

fn times(times: &Times) -> String {
    match (times.average_ms, times.p50_ms, times.p99_ms) {
        (Some(average), Some(p50), Some(p99)) => format!(
            "{} on average, {} half of them, {} 99 %",
            milliseconds(average),
            milliseconds(p50),
            milliseconds(p99)
        ),
        _ => "nothing".to_owned(),
    }
}
