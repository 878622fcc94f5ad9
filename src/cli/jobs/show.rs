//! `skillhost jobs show`: all that is known of one job.

use std::fmt::Write;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};
use skillhost::queue::{Attempt, Due, Job, JobEvent, JobEventKind, JobStatus, Queue, Work};
use skillhost::text::printable;
use skillhost::{ExecutionRequest, Failure, Limit, Limits};

use super::id::resolve_one;
use super::list::what;
use super::moment::{distance, written};
use crate::cli::Session;
use crate::cli::console::{BOLD, DIM, HINT, print, print_json, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::queues::Paused;
use crate::cli::repeated::in_text;
use crate::cli::run::raise;
use crate::cli::table::Table;
use crate::cli::{explain, grants, units};
use skillhost::grant::{
    Capability, Denial, DirectoryGrant, Grants, Mode, Remedy, for_good, shell_word,
};

const EXAMPLES: &str = "\
Examples:
  skillhost jobs show 3f2a9c1e
  skillhost jobs show 3f2a9c1e --json | jq '.result.output'";

/// Show a job: what it does, where it stands, each attempt, and what it came to
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
    /// The job
    #[arg(value_name = "ID")]
    id: String,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Shows a job.
///
/// # Errors
/// Where there is none.
pub fn show(args: &ShowArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    database.with(session, async |queue, _| {
        let id = resolve_one(&queue, &args.id).await?;
        let whole = Whole::read(&queue, id).await?;
        if args.json {
            print_json(
                session.console,
                &json!({
                    "job": whole.job,
                    "attempts": whole.attempts,
                    "history": whole.history,
                    "progress": whole.progress,
                    "result": whole.result,
                }),
            )?;
        } else {
            print(whole.text(queue.now()))?;
        }
        Ok(Exit::Success)
    })
}

/// A job with all that belongs to it.
pub struct Whole {
    /// The job.
    pub job: Job,
    /// Its attempts.
    pub attempts: Vec<Attempt>,
    history: Vec<JobEvent>,
    progress: Option<Value>,
    result: Option<Value>,
    /// What keeps it from starting.
    paused: Vec<Paused>,
}

impl Whole {
    /// Reads a job with all that belongs to it.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn read(queue: &Queue, id: uuid::Uuid) -> anyhow::Result<Self> {
        let job = queue.job(id).await.map_err(explain::queue)?;
        Ok(Whole {
            paused: Paused::of_job(queue, &job).await?,
            job,
            attempts: queue.attempts(id).await.map_err(explain::queue)?,
            history: queue.history(id).await.map_err(explain::queue)?,
            progress: queue.progress(id).await.map_err(explain::queue)?,
            result: queue.result(id).await.map_err(explain::queue)?,
        })
    }

    /// For a person.
    pub fn text(&self, now: DateTime<Utc>) -> String {
        let mut out = String::new();
        let job = &self.job;
        let _ = writeln!(out, "{} {}", styled(BOLD, what(job)), styled(DIM, job.id));
        out.push_str(&self.standing(now).to_string());
        let mut own: &[DirectoryGrant] = &[];
        if let Work::Execution { request } = &job.submitted.work {
            own = &request.grants.directories;
            out.push_str(&asked(request));
        }
        if !self.attempts.is_empty() {
            let _ = writeln!(out, "\n{}", styled(BOLD, "Attempts"));
            for attempt in &self.attempts {
                out.push_str(&told(attempt, own));
            }
        }
        let history: Vec<String> = self.history.iter().filter_map(done).collect();
        if !history.is_empty() {
            let _ = writeln!(out, "\n{}", styled(BOLD, "History"));
            out.push_str(&history.concat());
        }
        if let Some(output) = self.result.as_ref().and_then(|result| result.get("output")) {
            let _ = writeln!(out, "\n{}", styled(BOLD, "Output"));
            let _ = writeln!(out, "  {}", cut(&output.to_string()));
        }
        let hint = self.hint();
        if let Some(hint) = hint {
            let _ = writeln!(out, "\n{}: {}", styled(HINT, "hint"), in_text(&hint));
        }
        out
    }

    fn standing(&self, now: DateTime<Utc>) -> Table {
        let job = &self.job;
        let submitted = &job.submitted;
        let mut table = Table::new(2);
        let mut row = |name: &str, value: String| {
            table.row([name.to_owned(), printable(&value, false).into_owned()]);
        };
        let when = |at: DateTime<Utc>| format!("{} ({})", written(at), distance(at, now));
        let status = match &job.cause {
            Some(cause) => format!("{}: {cause}", job.status),
            None => job.status.to_string(),
        };
        row("status", status);
        row("priority", job.priority.to_string());
        row("queue", job.queue.clone());
        for (name, value) in [("tenant", &job.tenant), ("user", &job.user)] {
            if let Some(value) = value {
                row(name, value.clone());
            }
        }
        row(
            "attempts",
            format!("{} of {}", job.attempts, job.max_attempts),
        );
        if !job.retry.delays_ms.is_empty() && !job.is_terminal() {
            row("retries", format!("after {}", delays(&job.retry.delays_ms)));
        }
        row("submitted", when(job.created_at));
        if job.status.is_waiting() && (job.scheduled_at > now || submitted.due != Due::Now) {
            row("runs", when(job.scheduled_at));
        }
        for paused in &self.paused {
            row("held up", paused.to_string());
        }
        for (name, at) in [
            ("started", job.started_at),
            ("ended", job.completed_at),
            ("deadline", job.deadline),
        ] {
            if let Some(at) = at {
                row(name, when(at));
            }
        }
        if job.cancel_requested && job.status == JobStatus::Running {
            row("cancelled", "asked for".to_owned());
        }
        if let Some(progress) = &self.progress {
            let percent = progress.get("percent").and_then(Value::as_f64);
            let step = progress.get("step").and_then(Value::as_str);
            let percent = percent.map(|percent| format!("{percent:.0} %"));
            let parts = [percent.as_deref(), step];
            let parts: Vec<&str> = parts.into_iter().flatten().collect();
            row("progress", parts.join(" · "));
        }
        if let Some(key) = &submitted.key {
            row("key", key.key.clone());
        }
        if !submitted.tags.is_empty() {
            let tags: Vec<&str> = submitted.tags.iter().map(String::as_str).collect();
            row("tags", tags.join(", "));
        }
        for (key, value) in &submitted.labels {
            row("label", format!("{key} = {value}"));
        }
        if self.job.replayed {
            let replay = self.replay().unwrap_or("another job");
            row("replayed", format!("yes, as {replay}"));
        }
        if let Some(before) = submitted.replay_of {
            row("replays", before.to_string());
        }
        if let Some(schedule) = &submitted.schedule {
            row("schedule", schedule.clone());
        }
        table
    }

    /// The id of the job that does its work once more; of several the last.
    fn replay(&self) -> Option<&str> {
        let mut events = self.history.iter().rev();
        let last = events.find(|event| event.kind == JobEventKind::Replayed)?;
        last.data.get("as")?.as_str()
    }

    fn raise(&self) -> Option<&'static str> {
        raised(self.attempts.last()?.details.get("failure")?)
    }

    fn hint(&self) -> Option<String> {
        let id = super::id::short(&self.job.id);
        let cause = self.job.cause.as_deref().unwrap_or_default();
        match self.job.status {
            JobStatus::Dead if self.job.replayed => Some({
                let shows = self.replay().map_or_else(String::new, |replay| {
                    format!("`skillhost jobs show {replay}` shows what became of that; ")
                });
                format!(
                    "it was replayed already; {shows}`skillhost jobs dead replay {id}` does so once more"
                )
            }),
            JobStatus::Dead => Some(match self.raise() {
                Some(flag) => {
                    format!("`skillhost jobs dead replay {id} {flag}` tries again with more")
                }
                None => format!("`skillhost jobs dead replay {id}` tries again"),
            }),
            JobStatus::Paused if cause == "approval_needed" => {
                Some(format!("`skillhost jobs approve {id}` lets it run"))
            }
            JobStatus::Paused => Some(format!("`skillhost jobs resume {id}` lets it go on")),
            _ if self.paused.is_empty() => None,
            _ => {
                let resume: Vec<String> = self.paused.iter().map(Paused::resume).collect();
                Some(format!("{} lets it start", resume.join(" and ")))
            }
        }
    }
}

/// What to raise for a failure not to come again, where that is a limit that a job can ask for more of.
fn raised(failure: &Value) -> Option<&'static str> {
    if failure.get("rule").is_some() {
        // It has asked for more than the policy allows.
        return None;
    }
    let limit: Limit = serde_json::from_value(failure.get("limit")?.clone()).ok()?;
    let allowed = failure.get("allowed").and_then(Value::as_u64)?;
    // The stack is the worker's, and not the job's.
    let may_be_more = limit != Limit::Stack && allowed < Limits::ceiling().get(limit);
    raise(limit).filter(|_| may_be_more)
}

/// The most characters of a value that is shown.
const MOST: usize = 2_000;

/// A value, cut where it is long.
fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(MOST).collect();
    if shown.len() < text.len() {
        shown.push_str("… (--json has all of it)");
    }
    printable(&shown, false).into_owned()
}

/// What is asked of a skill.
pub fn asked(request: &ExecutionRequest) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "\n{}", styled(BOLD, "Request"));
    let mut table = Table::new(2);
    table.row(["skill".to_owned(), request.skill.to_string()]);
    table.row(["input".to_owned(), cut(&request.input.to_string())]);
    for attachment in &request.attachments {
        table.row([
            "attached".to_owned(),
            format!(
                "{} ({})",
                printable(&attachment.name, false),
                skillhost::limits::display_bytes(attachment.data.len() as u64)
            ),
        ]);
    }
    for (name, value) in units::limits(&request.limits) {
        table.row(["limit".to_owned(), format!("{name} {value}")]);
    }
    out.push_str(&table.to_string());
    out.push_str(&grants::table(&request.grants, &Grants::default()).to_string());
    out
}

/// The most delays that are shown.
const DELAYS: usize = 8;

/// How long it waits before each further attempt.
fn delays(delays_ms: &[u64]) -> String {
    let shown = delays_ms.iter().take(DELAYS);
    let shown = shown.map(|&ms| units::duration(Duration::from_millis(ms)));
    let mut shown: Vec<String> = shown.collect();
    if delays_ms.len() > DELAYS {
        shown.push(format!("… ({} in all)", delays_ms.len()));
    }
    shown.join(", ")
}

/// What somebody did to it. That it died of an attempt stands there.
fn done(event: &JobEvent) -> Option<String> {
    let text = |field| event.data.get(field).and_then(Value::as_str);
    let by = text("by");
    if event.kind == JobEventKind::Dead && by.is_none() {
        return None;
    }
    let mut parts = vec![event.kind.as_str().replace('_', " ")];
    parts.extend(text("priority").map(|priority| format!("to {priority}")));
    parts.extend(text("cause").map(cut));
    parts.extend(by.map(|by| format!("by {}", cut(by))));
    Some(format!("  {}  {}\n", written(event.at), parts.join(" · ")))
}

/// What to do about a failure for good: another attempt takes no flags for grants. `own` are the folders that the job
/// itself was submitted with.
fn hints(failure: &Failure, own: &[DirectoryGrant]) -> Vec<String> {
    let denials = match failure.denials.is_empty() {
        true => {
            let said = |denial: &&Denial| {
                let hint = failure.hint.as_deref();
                hint.is_some_and(|hint| denial.is_said_in(hint))
            };
            let missing = failure.missing.iter().filter(|denial| !said(denial));
            missing.map(Denial::wanted).collect()
        }
        false => {
            let of = |denial: &Denial| of_own(denial, own).unwrap_or_else(|| denial.hint.clone());
            failure.denials.iter().map(of).collect::<Vec<_>>()
        }
    };
    let mut hints: Vec<String> = failure.hint.iter().cloned().chain(denials).collect();
    for hint in &mut hints {
        if let Some(good) = for_good(hint) {
            *hint = good;
        }
    }
    hints.dedup();
    hints
}

/// What to do where a folder of the job's own was in the way, which goes before what is granted for good.
pub fn of_own(denial: &Denial, own: &[DirectoryGrant]) -> Option<String> {
    let is_it = |grant: &&DirectoryGrant| {
        denial.capability == Capability::Directory && grant.guest == denial.subject
    };
    let grant = own.iter().find(is_it)?;
    let wider = DirectoryGrant {
        mode: Mode::Rw,
        ..grant.clone()
    };
    (denial.remedy == Remedy::Grant && grant.mode == Mode::Ro).then(|| {
        format!(
            "the job was submitted with `--dir {}`, which goes before what is granted for good: submit it anew, with `--dir {}`",
            shell_word(&grant.to_string()),
            shell_word(&wider.to_string())
        )
    })
}

/// One attempt: how it ended, with what, and what it cost.
fn told(attempt: &Attempt, own: &[DirectoryGrant]) -> String {
    let mut out = String::new();
    let took = (attempt.ended_at - attempt.started_at)
        .to_std()
        .unwrap_or_default();
    let mut parts = vec![
        attempt.status.replace('_', " "),
        units::duration(took),
        format!("at {}", written(attempt.started_at)),
        format!("worker {}", super::id::short(&attempt.worker)),
    ];
    let details = &attempt.details;
    if let Some(fuel) = details.pointer("/usage/fuel").and_then(Value::as_u64) {
        parts.push(format!("{} fuel", units::count(fuel)));
    }
    if !attempt.counted {
        parts.push("not counted".to_owned());
    }
    let _ = writeln!(out, "  {}  {}", attempt.attempt, parts.join(" · "));
    let text = |pointer: &str| {
        let text = details.pointer(pointer).and_then(Value::as_str)?;
        Some(cut(text)).filter(|text| !text.is_empty())
    };
    if let Some(message) = text("/failure/message") {
        let _ = writeln!(out, "     {message}");
    }
    let failure = details.get("failure").cloned();
    let failure = failure.and_then(|failure| serde_json::from_value::<Failure>(failure).ok());
    for hint in failure.iter().flat_map(|failure| hints(failure, own)) {
        let _ = writeln!(
            out,
            "     {}: {}",
            styled(HINT, "hint"),
            in_text(&cut(&hint))
        );
    }
    if let (Some(name), Some(version), Some(digest)) = (
        text("/skill/name"),
        text("/skill/version"),
        text("/skill/digest"),
    ) {
        let _ = writeln!(out, "     {name} {version} ({digest})");
    }
    if let Some(limits) = details.get("limits") {
        let named = ["fuel", "memory_bytes", "wall_time_ms", "output_bytes"];
        let limits: Vec<String> = units::limits(limits)
            .into_iter()
            .filter(|(name, _)| named.contains(&name.as_str()))
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        if !limits.is_empty() {
            let _ = writeln!(out, "     limits: {}", limits.join(", "));
        }
    }
    if let Some(grants) = details.get("grants") {
        let _ = writeln!(out, "     granted: {}", cut(&grants.to_string()));
    }
    if let Some(stderr) = text("/stderr") {
        let _ = writeln!(out, "     stderr: {stderr}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is granted for good does not help a job that was submitted with a grant of its own.
    #[test]
    fn a_folder_of_the_jobs_own_is_to_be_submitted_anew() {
        let denial = Denial {
            capability: Capability::Directory,
            subject: "/data".into(),
            reason: "the skill wanted to write there, and may only read".into(),
            remedy: Remedy::Grant,
            grant: None,
            hint: "grant it for good".into(),
        };
        let own = |mode| {
            Grants::default()
                .directory("/srv/a b", "/data", mode)
                .directories
        };
        assert_eq!(
            of_own(&denial, &own(Mode::Ro)).as_deref(),
            Some(
                "the job was submitted with `--dir '/srv/a b:/data:ro'`, which goes before what is granted for \
                 good: submit it anew, with `--dir '/srv/a b:/data:rw'`"
            )
        );
        assert_eq!(of_own(&denial, &own(Mode::Rw)), None);
        assert_eq!(of_own(&denial, &[]), None);
    }
}
