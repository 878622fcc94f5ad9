//! `skillhost jobs submit`: work for later, or for elsewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueHint};
use serde_json::{Value, json};
use skillhost::queue::{NewJob, Queue, QueueError, Submitted, Work};
use uuid::Uuid;

use super::asked::JobArgs;
use super::end::{Shown, show_end};
use super::id::short;
use super::lines::{self, Line, Numbered, Wrong};
use super::skills::{Skills, unchecked};
use super::watch::{Look, follow, no_worker};
use crate::cli::Session;
use crate::cli::complaint::Complaint;
use crate::cli::console::{print, print_json, say};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::{CODES, Exit};
use crate::cli::explain;
use crate::cli::host::Interrupts;
use crate::cli::locate::SKILL_HELP;
use crate::cli::queues::Paused;
use crate::cli::run::{Asked, RequestArgs, check_out};
use crate::cli::tenant::warn_of_misspelt;

/// How many jobs are submitted in one transaction.
const BATCH: usize = 512;

/// What is asked of one job stands in its line.
const OF_ONE: [&str; 36] = [
    "skill",
    "tool",
    "wait",
    "input",
    "arg",
    "attach",
    "fuel",
    "memory",
    "timeout",
    "output_limit",
    "limit",
    "dir",
    "scratch",
    "storage",
    "secret",
    "http",
    "socket",
    "address",
    "env",
    "config",
    "clock",
    "random",
    "priority",
    "delay",
    "at",
    "queue",
    "attempts",
    "key",
    "deadline",
    "tenant",
    "user",
    "tag",
    "label",
    "callback",
    "forget",
    "paused",
];

const EXAMPLES: &str = "\
Examples:
  Submit a job, and get its id:
    skillhost jobs submit text-stats --arg text='to be or not to be'
  Urgently, under a key, so that a second submission is the same job:
    skillhost jobs submit text-stats -i @input.json --priority high \\
        --key report-17
  Tonight, with more fuel, and three attempts at most:
    skillhost jobs submit ./my-skill --at 2026-01-31T23:00:00+01:00 \\
        --fuel 20G --attempts 3
  Wait for the result, as `run` would print it:
    skillhost jobs submit text-stats --arg text='to be' --wait
  Many: a JSON object a line, with skill, tool, input, and any option under its
  long name:
    echo '{\"skill\": \"text-stats\", \"input\": {\"text\": \"a\"}, \"priority\": \"low\"}' |
        skillhost jobs submit --from -";

/// Submit a job: a tool of a skill, to be run by a worker
///
/// Prints the job's id. What `run` would refuse at once is refused here: an unknown tool, an input
/// that does not fit, a grant that the skill does not declare. An installed skill is submitted by its
/// name, and a worker runs what it has installed by then; write a digest to mean exactly one. A skill
/// that is named by a path is kept for the workers of the same home, for 30 days past its last use.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub struct SubmitArgs {
    #[arg(
        value_name = "SKILL",
        value_hint = ValueHint::AnyPath,
        help = SKILL_HELP
    )]
    skill: Option<PathBuf>,
    /// The tool; may be left out where the skill has one only
    #[arg(value_name = "TOOL", value_parser = NonEmptyStringValueParser::new())]
    tool: Option<String>,
    /// What is asked of the skill.
    #[command(flatten)]
    request: RequestArgs,
    /// What is asked of the job.
    #[command(flatten)]
    job: JobArgs,
    /// Submit a job for each line of a file; of standard input with -
    ///
    /// A line is a JSON object with `skill`, `tool`, `input`, and any option under its long name. All
    /// lines are checked before the first is submitted.
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        conflicts_with_all = OF_ONE,
        help_heading = "Submission"
    )]
    from: Option<PathBuf>,
    /// Do not look at the skill: it is not installed here, but where the workers are
    ///
    /// Values of --arg are then taken as text; write KEY:=JSON for others.
    #[arg(long, help_heading = "Submission")]
    unchecked: bool,
    /// Wait until the job has ended, and print its result and exit as `run` does
    #[arg(long, conflicts_with_all = ["forget", "paused"], help_heading = "Submission")]
    wait: bool,
    /// Write the attachments of the result to this folder; no file that is there is overwritten
    #[arg(
        long,
        value_name = "DIR",
        value_hint = ValueHint::DirPath,
        requires = "wait",
        help_heading = "Submission"
    )]
    out: Option<PathBuf>,
    /// Print what was submitted, or with --wait the whole result, as JSON
    #[arg(long, help_heading = "Submission")]
    json: bool,
}

/// Submits jobs.
///
/// # Errors
/// Where one of them cannot be accepted: then none is.
pub fn submit(
    args: SubmitArgs,
    database: &DatabaseArgs,
    session: &Session,
) -> anyhow::Result<Exit> {
    let many = args.from.is_some();
    let (wait, json, no_look) = (args.wait, args.json, args.unchecked);
    let out = args.out;
    let typed = args.skill.clone().unwrap_or_default();
    let lines = match (args.from, args.skill) {
        (Some(path), _) => lines::read(&path)?,
        (None, Some(skill)) => {
            let line = Line {
                skill,
                tool: args.tool,
                request: args.request,
                job: args.job,
            };
            vec![(0, Ok(line))]
        }
        (None, None) => {
            let hint = "name one, or submit a job for each line of a file with `--from FILE`";
            return Err(Complaint::usage("no skill is named").hint(hint).into());
        }
    };
    if let Some(out) = &out {
        check_out(out)?;
    }
    database.with(session, async |queue, mut interrupts| {
        let now = queue.now();
        let jobs = check(lines, no_look, now, &queue, session, &mut interrupts).await?;
        let after = queue.last_event().await.map_err(explain::queue)?;
        let mut submitted: Vec<Submitted> = Vec::with_capacity(jobs.len());
        for batch in jobs.chunks(BATCH) {
            let answers = queue
                .submit_all(batch.to_vec())
                .await
                .map_err(|error| stopped(error, submitted.len()))?;
            submitted.extend(answers);
        }
        let differing = differing(&queue, &jobs, &submitted).await?;
        if many {
            show_many(&submitted, &differing, json, session)?;
            return Ok(match differing.is_empty() {
                true => Exit::Success,
                false => Exit::Usage,
            });
        }
        let Some(&one) = submitted.first() else {
            return Ok(Exit::Success);
        };
        if differing.contains(&one.id) {
            return Err(not_submitted(one, json, session)?.into());
        }
        show_one(one, wait, json, session)?;
        if !wait {
            return Ok(Exit::Success);
        }
        no_worker(&queue, session).await?;
        let job = queue.job(one.id).await.map_err(explain::queue)?;
        for paused in Paused::of_job(&queue, &job).await? {
            paused.warn(session.console);
        }
        let look = Look::bars_only(session.console);
        let ended = tokio::select! {
            ended = follow(&queue, one.id, after, look) => ended?,
            () = interrupts.next() => {
                say(format_args!("no longer waiting; job {} goes on", one.id));
                return Ok(Exit::Cancelled);
            }
        };
        let shown = Shown {
            json,
            out: out.as_deref(),
            typed: &typed,
        };
        show_end(&queue, &ended, &shown, session.console).await
    })
}

/// Checks every line, and keeps what the jobs will need.
///
/// # Errors
/// What is wrong with each that cannot be accepted.
async fn check(
    lines: Vec<Numbered>,
    no_look: bool,
    now: DateTime<Utc>,
    queue: &Queue,
    session: &Session,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Vec<NewJob>> {
    let tenants: BTreeSet<&str> = lines
        .iter()
        .filter_map(|(_, line)| line.as_ref().ok()?.job.tenant.as_deref())
        .collect();
    if !tenants.is_empty() {
        // What is wrong with the policy is said where it is needed.
        let policy = session.policy_file()?.read().ok().flatten();
        for tenant in tenants {
            warn_of_misspelt(tenant, policy.as_ref(), session.console);
        }
    }
    let mut wrong = Wrong::default();
    let mut skills = match no_look {
        true => None,
        false => Some(Skills::open(session)?),
    };
    let (mut checked, mut jobs) = (Vec::new(), Vec::new());
    for (number, line) in lines {
        let looked = async {
            let Line {
                skill,
                tool,
                request,
                job,
            } = line?;
            let asked = Asked::new(tool, request)?;
            let Some(skills) = &mut skills else {
                let job = unchecked(&skill, asked, job, now)?;
                accepted(queue, &job).await?;
                jobs.push(job);
                return Ok(());
            };
            if number == 0 {
                asked.warn_of_ceiling(session.console);
            }
            let one = skills.check(&skill, asked, job, now, interrupts).await?;
            accepted(queue, &one.job).await?;
            checked.push(one);
            Ok::<_, anyhow::Error>(())
        };
        if let Err(error) = looked.await {
            // Any other is about all of them, and so are Ctrl-C and a database that is away.
            let complaint = error.downcast::<Complaint>()?;
            if matches!(
                complaint.exit,
                Exit::Cancelled | Exit::Terminated | Exit::Host
            ) {
                return Err(complaint.into());
            }
            wrong.add(number, complaint)?;
        }
    }
    wrong.or_none()?;
    if let Some(skills) = &mut skills {
        skills.keep(&checked, now)?;
    }
    jobs.extend(checked.into_iter().map(|checked| checked.job));
    Ok(jobs)
}

/// A job that was checked, and that what it needs is kept for.
///
/// # Errors
/// Where it cannot be accepted.
pub async fn prepared(
    skill: &Path,
    tool: Option<String>,
    request: RequestArgs,
    job: JobArgs,
    queue: &Queue,
    session: &Session,
    interrupts: &mut Interrupts,
) -> anyhow::Result<NewJob> {
    let line = Line {
        skill: skill.to_owned(),
        tool,
        request,
        job,
    };
    let now = queue.now();
    let checked = check(vec![(0, Ok(line))], false, now, queue, session, interrupts).await?;
    let none = || Complaint::usage("no skill is named").into();
    checked.into_iter().next().ok_or_else(none)
}

/// Whether the queue would accept it.
async fn accepted(queue: &Queue, job: &NewJob) -> Result<(), Complaint> {
    queue.check(job).await.map_err(explain::queue)
}

/// A queue that refused a batch, and how many had been submitted before.
fn stopped(error: skillhost::queue::QueueError, before: usize) -> Complaint {
    let complaint = explain::queue(error);
    match before {
        0 => complaint,
        _ => complaint.detail(format!(
            "the first {before} jobs were submitted before that, and the others were not"
        )),
    }
}

/// Jobs that have the key of one that was submitted now, and do something else.
async fn differing(
    queue: &Queue,
    jobs: &[NewJob],
    submitted: &[Submitted],
) -> anyhow::Result<BTreeSet<Uuid>> {
    let mut differing = BTreeSet::new();
    for (job, one) in jobs.iter().zip(submitted) {
        if !one.existing {
            continue;
        }
        match queue.job(one.id).await {
            Ok(found) if !is_same(&found.submitted.work, &job.work) => {
                differing.insert(one.id);
            }
            // Somebody may have removed it meanwhile.
            Ok(_) | Err(QueueError::NotFound(_)) => {}
            Err(error) => return Err(explain::queue(error).into()),
        }
    }
    Ok(differing)
}

/// Whether it calls the same tool of the same skill with the same input.
fn is_same(one: &Work, other: &Work) -> bool {
    match (one, other) {
        (Work::Execution { request: one }, Work::Execution { request: other }) => {
            one.skill == other.skill
                && one.tool == other.tool
                && one.input == other.input
                && one.attachments == other.attachments
        }
        _ => one == other,
    }
}

/// What became of one, for a program.
fn told(one: Submitted, differs: bool) -> Value {
    let Submitted { id, existing } = one;
    match existing {
        true => json!({"id": id, "existing": true, "differs": differs}),
        false => json!({"id": id, "existing": false}),
    }
}

/// One whose key is that of another: whoever reads the answer would take it for its own.
fn not_submitted(one: Submitted, json: bool, session: &Session) -> anyhow::Result<Complaint> {
    if json {
        print_json(session.console, &told(one, true))?;
    }
    let message = "a job with this key had been submitted before, and does something else: this one was not submitted";
    Ok(Complaint::usage(message).hint(format!(
        "`skillhost jobs show {}` shows it; with another `--key` this one is another job",
        short(&one.id)
    )))
}

fn show_one(one: Submitted, wait: bool, json: bool, session: &Session) -> anyhow::Result<()> {
    let Submitted { id, existing } = one;
    match (wait, json) {
        // Standard output is the result's.
        (true, _) => session.console.note(format_args!("job {id}")),
        (false, true) => print_json(session.console, &told(one, false))?,
        (false, false) => print(format_args!("{id}\n"))?,
    }
    if existing {
        session
            .console
            .note("already there: a job with this key had been submitted before");
    }
    Ok(())
}

fn show_many(
    submitted: &[Submitted],
    differing: &BTreeSet<Uuid>,
    json: bool,
    session: &Session,
) -> anyhow::Result<()> {
    use std::fmt::Write;
    let mut text = String::new();
    for one in submitted {
        let _ = match json {
            true => writeln!(text, "{}", told(*one, differing.contains(&one.id))),
            false => writeln!(text, "{}", one.id),
        };
    }
    print(text)?;
    let existing = submitted.iter().filter(|one| one.existing).count();
    let fresh = submitted.len() - existing;
    session.console.note(match existing {
        0 => format!("{fresh} submitted"),
        _ => format!("{fresh} submitted, {existing} already there"),
    });
    for id in differing {
        session.console.warn(format_args!(
            "job {id} had its key before, and does something else than what was to be submitted now, which was not"
        ));
    }
    Ok(())
}
