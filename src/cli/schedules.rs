//! `skillhost schedules`: work that comes up again and again.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use skillhost::queue::Recurring;
use skillhost::queue::schedule::{Missed, Schedule};
use skillhost::text::printable;

use super::Session;
use super::complaint::Complaint;
use super::console::{GOOD, print, print_json, styled};
use super::database::DatabaseArgs;
use super::exit::Exit;
use super::explain;
use super::jobs::{JobArgs, prepared, written};
use super::locate::SKILL_HELP;
use super::run::RequestArgs;
use super::table::Table;

const EXAMPLES: &str = "\
Examples:
  Each working day at nine in the morning, by the clock of Tokyo:
    skillhost schedules add morning '0 9 * * MON-FRI' --time-zone Asia/Tokyo \\
        text-stats --arg text='to be'
  See what there is, and take one away:
    skillhost schedules list
    skillhost schedules remove morning";

/// Submit jobs again and again, by cron expressions
///
/// Any worker fires a schedule, and each firing is made once, however many workers there are.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct SchedulesArgs {
    #[command(subcommand)]
    command: SchedulesCommand,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Subcommand)]
enum SchedulesCommand {
    Add(Box<AddArgs>),
    /// List schedules
    List(ListArgs),
    /// Remove a schedule; jobs that it submitted stay
    Remove(RemoveArgs),
}

/// Add a schedule, or put another in the place of the one of this name
#[derive(Debug, Args)]
struct AddArgs {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: String,
    /// When: minute, hour, day of the month, month, day of the week
    #[arg(value_name = "CRON")]
    cron: String,
    #[arg(value_name = "SKILL", value_hint = ValueHint::AnyPath, help = SKILL_HELP)]
    skill: PathBuf,
    /// The tool; may be left out where the skill has one only
    #[arg(value_name = "TOOL")]
    tool: Option<String>,
    /// The time zone that the expression is read in, such as Europe/Zurich
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// What becomes of firings while no worker ran: skip, run_once or run_all
    #[arg(
        long,
        value_name = "RULE",
        default_value = "run_once",
        value_parser = str::parse::<Missed>
    )]
    missed: Missed,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    job: JobArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// The schedule
    #[arg(value_name = "NAME")]
    name: String,
}

/// Carries one of the commands out.
///
/// # Errors
/// Where the queue cannot be used, or what was typed makes no sense.
pub fn schedules(args: SchedulesArgs, session: &Session) -> anyhow::Result<Exit> {
    let SchedulesArgs { command, database } = args;
    match command {
        SchedulesCommand::Add(args) => add(*args, &database, session),
        SchedulesCommand::List(args) => list(&args, &database, session),
        SchedulesCommand::Remove(args) => remove(&args, &database, session),
    }
}

fn add(args: AddArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    let schedule = Schedule::new(&args.cron, &args.time_zone)
        .map_err(|error| Complaint::usage(error.to_string()))?
        .missed(args.missed);
    let own_time = args.job.delay.is_some() || args.job.at.is_some();
    if own_time || args.job.key.is_some() || args.job.deadline.is_some() {
        let message = "a schedule's jobs have no --delay, --at, --deadline or --key of their own";
        return Err(Complaint::usage(message).into());
    }
    database.with(session, async |queue, mut interrupts| {
        let job = prepared(
            &args.skill,
            args.tool,
            args.request,
            args.job,
            queue.now(),
            session,
            &mut interrupts,
        )
        .await?;
        let added = queue
            .put_schedule(&args.name, schedule, job)
            .await
            .map_err(explain::queue)?;
        session.console.note(format_args!(
            "{} schedule `{}` fires next at {}",
            styled(GOOD, "✓"),
            added.name,
            next(&added)
        ));
        Ok(Exit::Success)
    })
}

fn next(schedule: &Recurring) -> String {
    schedule.next.map_or_else(|| "-".to_owned(), written)
}

fn list(args: &ListArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    database.with(session, async |queue, _| {
        let schedules = queue.schedules(None).await.map_err(explain::queue)?;
        if args.json {
            print_json(session.console, &schedules)?;
            return Ok(Exit::Success);
        }
        if schedules.is_empty() {
            session.console.note("no schedules");
            return Ok(Exit::Success);
        }
        let mut table = Table::new(0);
        table.row(["name", "next", "last", "missed", "what", "when"].map(str::to_owned));
        for schedule in &schedules {
            let mut what = schedule.job.skill();
            if let Some(tool) = schedule.job.work.tool() {
                what = format!("{what} {tool}");
            }
            table.row([
                schedule.name.clone(),
                next(schedule),
                schedule.last.map_or_else(|| "-".to_owned(), written),
                schedule.schedule.missed.to_string(),
                printable(&what, false).into_owned(),
                printable(&schedule.schedule.to_string(), false).into_owned(),
            ]);
        }
        print(table)?;
        Ok(Exit::Success)
    })
}

fn remove(args: &RemoveArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    database.with(session, async |queue, _| {
        queue
            .remove_schedule(&args.name)
            .await
            .map_err(explain::queue)?;
        session.console.note(format_args!(
            "{} schedule `{}` is removed",
            styled(GOOD, "✓"),
            printable(&args.name, false)
        ));
        Ok(Exit::Success)
    })
}
