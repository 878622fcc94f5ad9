//! `skillhost approvals approve` and `refuse`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};
use skillhost::execution::Decision;
use skillhost::parse_duration;
use skillhost::policy::{Approval, ApprovalError, ApprovalStatus};
use skillhost::queue::Answers;
use uuid::Uuid;

use super::found::{Found, one};
use crate::cli::complaint::{Complaint, show_error, show_hint};
use crate::cli::console::{GOOD, print_json, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::guards::user_name;
use crate::cli::jobs::{replay_of, short};
use crate::cli::{Session, audit, explain, units};

/// Which, and who says so.
#[derive(Debug, Clone, Args)]
struct Which {
    /// Which approvals, or which jobs that wait for one
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

/// Let it run: once, or for a time
#[derive(Debug, Args)]
pub struct ApproveArgs {
    #[command(flatten)]
    which: Which,
    /// As often as it likes for so long, such as 1h, at most 366 days; else once
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = for_time)]
    r#for: Option<Decision>,
}

/// That it may run for a time, as it is typed.
pub fn for_time(text: &str) -> Result<Decision, String> {
    let time = parse_duration(text)?;
    Decision::for_time(time).map_err(|error| error.to_string())
}

/// Do not let it run; takes back an approval that still holds
#[derive(Debug, Args)]
pub struct RefuseArgs {
    #[command(flatten)]
    which: Which,
}

/// An answer that is to be given.
pub struct Decide {
    which: Which,
    decision: Decision,
}

impl ApproveArgs {
    /// What is answered.
    pub fn decide(self) -> Decide {
        Decide {
            which: self.which,
            decision: self.r#for.unwrap_or(Decision::Once),
        }
    }
}

impl RefuseArgs {
    /// What is answered.
    pub fn decide(self) -> Decide {
        Decide {
            which: self.which,
            decision: Decision::Refuse,
        }
    }
}

impl Decide {
    /// Answers for each by itself, and says what became of it.
    ///
    /// # Errors
    /// Where the database cannot be used, or one that is named cannot be told. That some cannot be
    /// answered, or written down where they must be, is said of each, and stands in the exit code.
    pub fn carry_out(self, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
        let written = audit::open(session)?;
        database.with(session, async |queue, _| {
            let answers = written.answers(queue.clone());
            let mut exit = Exit::Success;
            let mut told: Vec<Value> = Vec::new();
            let mut meant = Vec::new();
            for typed in &self.which.id {
                meant.push(one(&queue, typed).await?);
            }
            for found in meant {
                let id = found.id();
                match self.answer(&answers, found).await {
                    Ok(status) => {
                        told.push(json!({"id": id, "status": status}));
                        if !self.which.json {
                            session.console.note(format_args!(
                                "{} {} {}",
                                styled(GOOD, "✓"),
                                short(&id),
                                self.said()
                            ));
                        }
                    }
                    Err(complaint) => {
                        exit = complaint.exit;
                        told.push(json!({"id": id, "error": complaint.message}));
                        show_error(&complaint.message);
                        complaint.hints.iter().for_each(|hint| show_hint(hint));
                    }
                }
            }
            if self.which.json {
                print_json(session.console, &told)?;
            }
            Ok(exit)
        })
    }

    async fn answer(&self, answers: &Answers, found: Found) -> Result<String, Complaint> {
        let by = &self.which.by;
        match found {
            Found::Approval(approval) => {
                let after = answers.decide(approval.id, self.decision, by).await;
                let after = after.map_err(|error| {
                    let complaint = explain::approval(&error);
                    match error {
                        ApprovalError::JobEnded {
                            job,
                            status: "dead",
                        } => complaint.hint(again(&approval, job)),
                        _ => complaint,
                    }
                })?;
                Ok(after.status.to_string())
            }
            Found::Job(job) => {
                let approved = self.decision != Decision::Refuse;
                let answered = answers.answer(&[job.id], approved, by).await;
                let answered = answered.map_err(explain::answer)?;
                match answered.into_iter().next() {
                    Some(Ok(status)) => Ok(status.to_string()),
                    Some(Err(error)) => Err(match replay_of(&error) {
                        Some(hint) => Complaint::usage(error.to_string()).hint(hint),
                        None => Complaint::usage(error.to_string()),
                    }),
                    None => {
                        let message = format!("job {} was not answered for", job.id);
                        Err(Complaint::usage(message))
                    }
                }
            }
        }
    }

    fn said(&self) -> String {
        match self.decision {
            Decision::Once => "may run, once".to_owned(),
            Decision::For(time) => format!("may run for {}", units::duration(time)),
            Decision::Refuse => "may not run".to_owned(),
        }
    }
}

/// How a job that is dead runs all the same. What was refused is refused to its replay, too.
fn again(approval: &Approval, job: Uuid) -> String {
    let replay = format!("`skillhost jobs dead replay {}` tries again", short(&job));
    match approval.status {
        ApprovalStatus::Refused => format!(
            "`skillhost approvals approve {} --for 1h` lets the same run for an hour; then {replay}",
            short(&approval.id)
        ),
        _ => replay,
    }
}
