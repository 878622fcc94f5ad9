//! `skillhost jobs cancel`, `pause`, `resume`, `approve`, `refuse`, `priority` and `snooze`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};
use skillhost::parse_duration;
use skillhost::queue::{JobStatus, Priority, Queue, QueueError};

use super::id::{resolve, short};
use super::moment::{self, Moment, at};
use crate::cli::Session;
use crate::cli::complaint::{Complaint, show_error, show_hint};
use crate::cli::console::{GOOD, print_json, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::guards::user_name;
use crate::cli::{audit, explain};

/// Which jobs, who says so, and how it is said what became of them.
#[derive(Debug, Clone, Args)]
struct Which {
    /// Which jobs
    #[arg(value_name = "ID", required = true)]
    id: Vec<String>,
    /// Who says so, for the record; unless it is said, the user of this machine
    #[arg(
        long,
        value_name = "WHO",
        value_parser = NonEmptyStringValueParser::new(),
        default_value_t = user_name(),
        hide_default_value = true
    )]
    by: String,
    /// Print what became of each as JSON
    #[arg(long)]
    json: bool,
}

/// Cancel jobs: a waiting one at once, a running one by stopping it
#[derive(Debug, Args)]
pub struct CancelArgs {
    #[command(flatten)]
    which: Which,
}

/// Let waiting jobs wait until they are resumed
#[derive(Debug, Args)]
pub struct PauseArgs {
    #[command(flatten)]
    which: Which,
}

/// Let paused jobs go on
#[derive(Debug, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    which: Which,
}

/// Let jobs run that wait for somebody's word
#[derive(Debug, Args)]
pub struct ApproveArgs {
    #[command(flatten)]
    which: Which,
}

/// Do not let jobs run that wait for somebody's word: they are dead
#[derive(Debug, Args)]
pub struct RefuseArgs {
    #[command(flatten)]
    which: Which,
}

/// Give jobs another priority
#[derive(Debug, Args)]
pub struct PriorityArgs {
    /// low, normal, high or critical
    #[arg(value_name = "PRIORITY", value_parser = str::parse::<Priority>)]
    priority: Priority,
    #[command(flatten)]
    which: Which,
}

/// Put waiting jobs off
#[derive(Debug, Args)]
pub struct SnoozeArgs {
    #[command(flatten)]
    which: Which,
    /// For so long, such as 10m
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        value_parser = parse_duration,
        required_unless_present = "until",
        conflicts_with = "until"
    )]
    delay: Option<Duration>,
    /// Until then, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = at)]
    until: Option<DateTime<Utc>>,
}

/// What is done to jobs.
enum Action {
    Cancel,
    Pause,
    Resume,
    Answer { approved: bool },
    Priority(Priority),
    Snooze(Moment),
}

/// Something that is done to jobs.
pub struct Change {
    which: Which,
    action: Action,
}

macro_rules! change {
    ($args:ty, $self:ident, $action:expr) => {
        impl $args {
            /// What is done to which jobs.
            pub fn change($self) -> Change {
                Change {
                    action: $action,
                    which: $self.which,
                }
            }
        }
    };
}

change!(CancelArgs, self, Action::Cancel);
change!(PauseArgs, self, Action::Pause);
change!(ResumeArgs, self, Action::Resume);
change!(ApproveArgs, self, Action::Answer { approved: true });
change!(RefuseArgs, self, Action::Answer { approved: false });
change!(PriorityArgs, self, Action::Priority(self.priority));
change!(
    SnoozeArgs,
    self,
    Action::Snooze(match (self.until, self.delay) {
        (Some(until), _) => Moment::At(until),
        (None, delay) => Moment::In(delay.unwrap_or_default()),
    })
);

impl Change {
    /// Does it to each by itself, and says what became of it.
    ///
    /// # Errors
    /// Where the queue cannot be written, or one that is named cannot be told. That it cannot be done
    /// to some is said of each, and the exit code is then that of a usage error.
    pub fn carry_out(self, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
        // An answer is written down; what is done to one's own jobs stands with them.
        let written = match self.action {
            Action::Answer { .. } => Some(audit::open(session)?),
            _ => None,
        };
        database.with(session, async |queue, _| {
            if let Action::Snooze(Moment::At(until)) = &self.action
                && *until <= queue.now()
            {
                let message = format!("the time {} is over already", moment::written(*until));
                let hint = "write a time that is to come; `--delay 10m` is so long from now";
                return Err(Complaint::usage(message).hint(hint).into());
            }
            let ids = resolve(&queue, &self.which.id).await?;
            let answers = match (&self.action, &written) {
                (Action::Answer { approved }, Some(written)) => {
                    let answers = written.answers(queue);
                    let answered = answers.answer(&ids, *approved, &self.which.by).await;
                    answered.map_err(explain::answer)?
                }
                _ => {
                    let queue = queue.by(&self.which.by);
                    self.act(&queue, &ids).await.map_err(explain::queue)?
                }
            };
            let mut exit = Exit::Success;
            let mut told: Vec<Value> = Vec::with_capacity(ids.len());
            for (id, answer) in ids.iter().zip(answers) {
                match answer {
                    Ok(status) => {
                        told.push(json!({"id": id, "status": status}));
                        if !self.which.json {
                            session.console.note(format_args!(
                                "{} {} {}",
                                styled(GOOD, "✓"),
                                short(id),
                                self.said(status.as_str())
                            ));
                        }
                    }
                    Err(error) => {
                        exit = Exit::Usage;
                        told.push(json!({"id": id, "error": error.to_string()}));
                        show_error(&error.to_string());
                        if let (Action::Answer { approved: true }, Some(hint)) =
                            (&self.action, replay_of(&error))
                        {
                            show_hint(&hint);
                        }
                    }
                }
            }
            if self.which.json {
                print_json(session.console, &told)?;
            }
            Ok(exit)
        })
    }

    async fn act(
        &self,
        queue: &Queue,
        ids: &[uuid::Uuid],
    ) -> Result<
        Vec<Result<skillhost::queue::JobStatus, skillhost::queue::QueueError>>,
        skillhost::queue::QueueError,
    > {
        match &self.action {
            Action::Cancel => queue.cancel(ids).await,
            Action::Pause => queue.pause(ids).await,
            Action::Resume => queue.resume(ids).await,
            Action::Answer { approved } => queue.answer(ids, *approved, &self.which.by).await,
            Action::Priority(priority) => queue.set_priority(ids, *priority).await,
            Action::Snooze(until) => queue.snooze(ids, until.from(queue.now())).await,
        }
    }

    fn said(&self, status: &str) -> String {
        match &self.action {
            // It is stopped, and then cancelled.
            Action::Cancel if status == "running" => "is told to stop".to_owned(),
            Action::Priority(priority) => format!("has priority {priority}"),
            Action::Answer { approved: true } => "may run".to_owned(),
            Action::Snooze(_) => "is put off".to_owned(),
            _ => format!("is {status}"),
        }
    }
}

/// How a job runs all the same that is dead, and so cannot be approved.
pub fn replay_of(error: &QueueError) -> Option<String> {
    match error {
        QueueError::Conflict {
            id,
            status: JobStatus::Dead,
            ..
        } => Some(format!(
            "`skillhost jobs dead replay {}` tries again",
            short(id)
        )),
        _ => None,
    }
}
