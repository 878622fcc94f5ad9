//! `skillhost jobs dead replay`: once more.

use clap::Args;
use serde_json::{Value, json};
use skillhost::queue::{
    MAX_ATTEMPTS, Queue, QueueError, Replay, ReplayVersion, RetryPolicy, Submitted,
};
use uuid::Uuid;

use crate::cli::Session;
use crate::cli::complaint::{Complaint, show_error};
use crate::cli::console::{GOOD, HINT, print_json, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::guards::user;
use crate::cli::jobs::filter::{SelectionArgs, no_dead};
use crate::cli::jobs::id::short;
use crate::cli::run::{LimitArgs, limits};

const EXAMPLES: &str = "\
Examples:
  skillhost jobs dead replay 3f2a9c1e
  skillhost jobs dead replay --all --cause fuel --fuel 20G
  skillhost jobs dead replay --all --skill text-stats --current";

/// Try dead jobs again, as new jobs that are linked to the old ones
///
/// A job that is being replayed already is not replayed twice. One that was replayed before stays
/// among the dead, marked so; --all leaves it out.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// With --all: also those that were replayed before
    #[arg(long, requires = "all")]
    again: bool,
    /// Take the version of the skill that goes by its name now, rather than exactly what ran
    #[arg(long)]
    current: bool,
    /// How many attempts they have in all, rather than as many as before
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ATTEMPTS))
    )]
    attempts: Option<u32>,
    /// Limits to raise; the others stay as they were asked for.
    #[command(flatten)]
    limits: LimitArgs,
    /// Print what became of each as JSON
    #[arg(long)]
    json: bool,
}

/// Replays dead jobs.
///
/// # Errors
/// Where the queue cannot be used. That one cannot be replayed is said of it, and the others are.
pub fn replay(
    args: &ReplayArgs,
    database: &DatabaseArgs,
    session: &Session,
) -> anyhow::Result<Exit> {
    let (limits, stack) = limits(&args.limits)?;
    if stack.is_some() {
        return Err(
            Complaint::usage("the size of the stack is the worker's, not the job's")
                .hint("`skillhost worker --stack SIZE`")
                .into(),
        );
    }
    let asks = !limits.is_empty() || args.attempts.is_some() || args.current;
    let how = Replay {
        limits,
        version: match args.current {
            true => ReplayVersion::Current,
            false => ReplayVersion::Same,
        },
        retry: None,
        caller: Some(user()),
    };
    database.with(session, async |queue, _| {
        let which = (!args.again).then_some(false);
        let ids = args.selection.dead(&queue, which).await?;
        if ids.is_empty() {
            let again = !args.again && !args.selection.dead(&queue, Some(true)).await?.is_empty();
            let said = match again {
                true => "no dead jobs that were not replayed before; `--again` takes those, too"
                    .to_owned(),
                false => no_dead(&queue, &args.selection.filter).await?,
            };
            session.console.note(said);
        }
        let mut exit = Exit::Success;
        let mut told: Vec<Value> = Vec::new();
        for id in ids {
            match one(&queue, id, &how, args.attempts).await {
                Ok(Submitted { id: new, existing }) => {
                    if existing && asks {
                        session.console.warn(still_as_before(&new));
                    }
                    told.push(json!({"id": id, "replayed_as": new, "existing": existing}));
                    if !args.json {
                        session.console.note(format_args!(
                            "{} {} is replayed as {new}{}",
                            styled(GOOD, "✓"),
                            short(&id),
                            if existing { ", as it was already" } else { "" }
                        ));
                    }
                }
                Err(error) => {
                    exit = Exit::Usage;
                    told.push(json!({"id": id, "error": error.to_string()}));
                    show_error(&error.to_string());
                }
            }
        }
        if args.json {
            print_json(session.console, &told)?;
        }
        Ok(exit)
    })
}

/// That the replay which there was already is not what is asked for now.
fn still_as_before(replay: &Uuid) -> String {
    let replay = short(replay);
    format!(
        "job {replay} is the replay that was asked for before, and has not ended: the limits, attempts or version that \
         are named now do not hold for it\n  {}: `skillhost jobs cancel {replay}` ends it; then replay again",
        styled(HINT, "hint")
    )
}

async fn one(
    queue: &Queue,
    id: Uuid,
    how: &Replay,
    attempts: Option<u32>,
) -> Result<Submitted, QueueError> {
    let Some(max_attempts) = attempts else {
        return queue.replay(id, how).await;
    };
    let job = queue.job(id).await?;
    let how = Replay {
        retry: Some(RetryPolicy {
            max_attempts,
            ..job.retry.policy
        }),
        ..how.clone()
    };
    queue.replay(id, &how).await
}
