//! `skillhost schedules`: work that comes up again and again.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueHint};
use serde_json::json;
use skillhost::queue::schedule::{MAX_OWN_NAME, Missed, Schedule, full_name, own_name};
use skillhost::queue::{Queue, QueueError, Recurring, Work};
use skillhost::text::printable;

use super::Session;
use super::complaint::Complaint;
use super::console::{BOLD, DIM, GOOD, print, print_json, styled};
use super::database::DatabaseArgs;
use super::exit::Exit;
use super::explain;
use super::jobs::{JobArgs, asked, prepared, written};
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
    skillhost schedules show morning
    skillhost schedules remove morning";

/// Submit jobs again and again, by cron expressions
///
/// Any worker fires a schedule, and each firing is made once, however many workers there are.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
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
    /// Show a schedule: when it fires, and what it has done, with its input
    Show(ShowArgs),
    /// Remove a schedule; jobs that it submitted stay
    Remove(RemoveArgs),
}

/// Add a schedule, or put another in the place of the one of this name
#[derive(Debug, Args)]
struct AddArgs {
    /// The schedule's name
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// When: minute, hour, day of the month, month, day of the week
    #[arg(value_name = "CRON")]
    cron: String,
    #[arg(value_name = "SKILL", value_hint = ValueHint::AnyPath, help = SKILL_HELP)]
    skill: PathBuf,
    /// The tool; may be left out where the skill has one only
    #[arg(value_name = "TOOL", value_parser = NonEmptyStringValueParser::new())]
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
struct ShowArgs {
    /// The schedule
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// The tenant whose schedule it is
    #[arg(long, value_name = "TENANT", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
    /// Print all of it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// The schedule
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// The tenant whose schedule it is
    #[arg(long, value_name = "TENANT", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
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
        SchedulesCommand::Show(args) => show(&args, &database, session),
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
            &queue,
            session,
            &mut interrupts,
        )
        .await?;
        let tenant = job.tenant.as_deref();
        if tenant.is_some() && args.name.len() > MAX_OWN_NAME {
            let message = format!("a tenant's schedule has a name of at most {MAX_OWN_NAME} bytes");
            return Err(Complaint::usage(message).into());
        }
        let before = find(&queue, tenant, &args.name).await?;
        let name = match &before {
            Some(found) => found.name.clone(),
            None => full_name(tenant, &args.name),
        };
        let added = queue
            .put_schedule(&name, schedule, job)
            .await
            .map_err(explain::queue)?;
        session.console.note(format_args!(
            "{} schedule `{}` fires next at {}",
            styled(GOOD, "✓"),
            own_name(&added.name),
            next(&added)
        ));
        if let Some(before) = before {
            let before = format!("{}, {}", what(&before), before.schedule);
            session
                .console
                .note(format_args!("  in place of: {}", printable(&before, false)));
        }
        Ok(Exit::Success)
    })
}

/// The schedule that is called so by whose it is: the tenant, or nobody.
async fn find(
    queue: &Queue,
    tenant: Option<&str>,
    name: &str,
) -> anyhow::Result<Option<Recurring>> {
    let full = full_name(tenant, name);
    // One that was submitted by a program may be kept under its bare name.
    for name in [full.as_str(), name] {
        match queue.schedule(name).await {
            Ok(found) if found.job.tenant.as_deref() == tenant => return Ok(Some(found)),
            Ok(_) | Err(QueueError::Unknown { .. }) => {}
            Err(error) => return Err(explain::queue(error).into()),
        }
    }
    Ok(None)
}

/// What it has done: the skill, and the tool.
fn what(schedule: &Recurring) -> String {
    let skill = schedule.job.skill();
    match schedule.job.work.tool() {
        Some(tool) => format!("{skill} {tool}"),
        None => skill,
    }
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
        let with_tenants = schedules.iter().any(|one| one.job.tenant.is_some());
        let mut head = vec!["name", "next", "last", "missed", "what", "when"];
        if with_tenants {
            head.insert(1, "tenant");
        }
        table.row(head.into_iter().map(str::to_owned));
        for schedule in &schedules {
            let mut row = vec![
                own_name(&schedule.name).to_owned(),
                next(schedule),
                schedule.last.map_or_else(|| "-".to_owned(), written),
                schedule.schedule.missed.to_string(),
                printable(&what(schedule), false).into_owned(),
                printable(&schedule.schedule.to_string(), false).into_owned(),
            ];
            if with_tenants {
                let tenant = schedule.job.tenant.as_deref().unwrap_or("-");
                row.insert(1, printable(tenant, false).into_owned());
            }
            table.row(row);
        }
        print(table)?;
        Ok(Exit::Success)
    })
}

fn show(args: &ShowArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    database.with(session, async |queue, _| {
        let found = find(&queue, args.tenant.as_deref(), &args.name).await?;
        let schedule = match found {
            Some(found) => found,
            // It says what is not there.
            None => queue.schedule(&args.name).await.map_err(explain::queue)?,
        };
        if args.json {
            print_json(session.console, &schedule)?;
            return Ok(Exit::Success);
        }
        let mut table = Table::new(2);
        let mut row = |name: &str, value: String| {
            table.row([name.to_owned(), printable(&value, false).into_owned()]);
        };
        row("when", schedule.schedule.to_string());
        row("missed", schedule.schedule.missed.to_string());
        row("next", next(&schedule));
        if let Some(last) = schedule.last {
            row("last", written(last));
        }
        for (name, value) in [
            ("tenant", &schedule.job.tenant),
            ("user", &schedule.job.user),
        ] {
            if let Some(value) = value {
                row(name, value.clone());
            }
        }
        row("priority", schedule.job.priority.to_string());
        row("queue", schedule.job.queue.clone());
        let mut text = format!(
            "{} {}\n{table}",
            styled(BOLD, own_name(&schedule.name)),
            styled(DIM, printable(&what(&schedule), false))
        );
        if let Work::Execution { request } = &schedule.job.work {
            text.push_str(&asked(request));
        }
        print(text)?;
        Ok(Exit::Success)
    })
}

fn remove(args: &RemoveArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    database.with(session, async |queue, _| {
        let found = find(&queue, args.tenant.as_deref(), &args.name).await?;
        // As it is kept, a name is one's own.
        let name = found.map_or_else(|| args.name.clone(), |found| found.name);
        queue.remove_schedule(&name).await.map_err(explain::queue)?;
        if args.json {
            let told = json!({"name": args.name, "tenant": args.tenant, "removed": true});
            print_json(session.console, &told)?;
            return Ok(Exit::Success);
        }
        session.console.note(format_args!(
            "{} schedule `{}` is removed",
            styled(GOOD, "✓"),
            printable(&args.name, false)
        ));
        Ok(Exit::Success)
    })
}
