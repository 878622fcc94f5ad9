//! `skillhost jobs watch`: what happens, as it happens.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use skillhost::queue::{Job, JobEvent, JobEventKind, Queue, QueueError};
use skillhost::text::printable;
use uuid::Uuid;

use super::end;
use super::id::{resolve_one, short};
use crate::cli::Session;
use crate::cli::console::{Console, DIM, ERROR, GOOD, print, print_data, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::explain;
use crate::cli::queues::Paused;

const EXAMPLES: &str = "\
Examples:
  skillhost jobs watch
  skillhost jobs watch 3f2a9c1e
  skillhost jobs watch --json | jq -r 'select(.kind == \"dead\").job'

Of one job, the exit code is the one that `run` would have ended with.";

/// Follow one job until it has ended, or all jobs until Ctrl-C
///
/// Shows each event on a line; on a terminal, how far running jobs have come as well.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct WatchArgs {
    /// The job; all jobs unless named
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Print each event as JSON, on a line
    #[arg(long)]
    json: bool,
}

/// Follows jobs.
///
/// # Errors
/// Where the queue cannot be read.
pub fn watch(args: &WatchArgs, database: &DatabaseArgs, session: &Session) -> anyhow::Result<Exit> {
    let console = session.console;
    database.with(session, async |queue, mut interrupts| {
        let after = queue.last_event().await.map_err(explain::queue)?;
        let look = Look::new(console, args.json);
        let Some(typed) = &args.id else {
            tokio::select! {
                ended = follow_all(&queue, after, look) => ended?,
                () = interrupts.next() => {}
            }
            return Ok(Exit::Success);
        };
        let id = resolve_one(&queue, typed).await?;
        let job = queue.job(id).await.map_err(explain::queue)?;
        if !job.is_terminal() {
            console.note(line_of(&job).trim_end());
            no_worker(&queue, session).await?;
        }
        for paused in Paused::of_job(&queue, &job).await? {
            paused.warn(console);
        }
        let ended = tokio::select! {
            ended = follow(&queue, id, after, look) => ended?,
            () = interrupts.next() => return Ok(Exit::Cancelled),
        };
        if !args.json {
            print(line_of(&ended))?;
        }
        Ok(end::exit(&end::result(&queue, &ended).await?))
    })
}

/// Says so where nobody is there to do it, and that whoever does not want to wait for somebody need not.
///
/// # Errors
/// Where the queue cannot be read.
pub async fn no_worker(queue: &Queue, session: &Session) -> anyhow::Result<()> {
    let statistics = queue.statistics(1).await.map_err(explain::queue)?;
    if statistics.active_workers == 0 {
        session
            .console
            .warn("no worker is running; start one with `skillhost worker`, or stop waiting with Ctrl-C: the job stays");
    }
    Ok(())
}

/// Follows one job from a cursor on until it has ended.
///
/// # Errors
/// Where there is no such job, or the queue cannot be read.
pub async fn follow(queue: &Queue, id: Uuid, after: i64, mut look: Look) -> anyhow::Result<Job> {
    let mut events = queue.subscribe(after);
    loop {
        let job = queue.job(id).await.map_err(explain::queue)?;
        if job.is_terminal() {
            // What led to it, where that is not shown yet.
            if look.events {
                let rest = queue.events(events.cursor(), 10_000).await;
                for event in rest.map_err(explain::queue)?.events {
                    if event.job == id {
                        look.show(&event)?;
                    }
                }
            }
            look.clear();
            return Ok(job);
        }
        let next = tokio::select! {
            next = events.next() => next,
            // Also where no worker runs.
            expired = queue.expire(job.deadline) => {
                expired.map_err(explain::queue)?;
                continue;
            }
        };
        match next {
            Ok(batch) => {
                for event in batch.events.iter().filter(|event| event.job == id) {
                    look.show(event)?;
                }
            }
            // Its events are gone; where it stands is not.
            Err(QueueError::CursorTooOld { .. }) => {
                events = queue.subscribe(queue.last_event().await.map_err(explain::queue)?);
            }
            Err(error) => return Err(explain::queue(error).into()),
        }
    }
}

async fn follow_all(queue: &Queue, after: i64, mut look: Look) -> anyhow::Result<()> {
    let mut events = queue.subscribe(after);
    loop {
        let batch = events.next().await.map_err(explain::queue)?;
        for event in &batch.events {
            look.show(event)?;
        }
    }
}

/// How events are shown.
pub struct Look {
    console: Console,
    json: bool,
    /// Whether there is a line for each.
    events: bool,
    bars: MultiProgress,
    running: HashMap<Uuid, ProgressBar>,
}

/// The most bars at a time.
const BARS: usize = 20;

impl Look {
    fn new(console: Console, json: bool) -> Self {
        let bars = MultiProgress::new();
        if !console.stderr_terminal || console.quiet || json {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        Look {
            console,
            json,
            events: true,
            bars,
            running: HashMap::new(),
        }
    }

    /// Nothing but how far it has come, on a terminal.
    pub fn bars_only(console: Console) -> Self {
        Look {
            events: false,
            ..Look::new(console, false)
        }
    }

    fn show(&mut self, event: &JobEvent) -> anyhow::Result<()> {
        self.draw(event);
        if !self.events {
            return Ok(());
        }
        self.bars.suspend(|| match self.json {
            true => print_json_line(self.console, event),
            // On a terminal there is a bar.
            false if event.kind == JobEventKind::Progress && self.console.stderr_terminal => Ok(()),
            false => print(line(event)),
        })?;
        Ok(())
    }

    fn draw(&mut self, event: &JobEvent) {
        if self.bars.is_hidden() {
            return;
        }
        match event.kind {
            JobEventKind::Progress if self.running.len() < BARS => {
                let is_new = !self.running.contains_key(&event.job);
                let bar = self.running.entry(event.job).or_insert_with(|| {
                    // Not seen before it looks as it should: whatever is set of one that is seen draws it.
                    let hidden = ProgressDrawTarget::hidden();
                    ProgressBar::with_draw_target(Some(1_000), hidden)
                        .with_prefix(short(&event.job))
                });
                let percent = event
                    .data
                    .get("percent")
                    .and_then(|percent| percent.as_f64());
                let template = match percent {
                    Some(_) => "{prefix} {bar:24} {percent:>3}% {wide_msg}",
                    None => "{prefix} {spinner} {wide_msg}",
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                bar.set_message(step(event));
                if let Some(percent) = percent {
                    bar.set_position((percent.clamp(0.0, 100.0) * 10.0) as u64);
                }
                if is_new {
                    self.bars.add(bar.clone());
                    bar.enable_steady_tick(Duration::from_millis(100));
                }
            }
            JobEventKind::Progress | JobEventKind::CancelRequested => {}
            _ => {
                if let Some(bar) = self.running.remove(&event.job) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
            }
        }
    }

    fn clear(&mut self) {
        for (_, bar) in self.running.drain() {
            bar.finish_and_clear();
        }
    }
}

fn print_json_line(console: Console, event: &JobEvent) -> std::io::Result<()> {
    let line = serde_json::to_string(event).map_err(std::io::Error::from)?;
    print_data(console, &line)
}

fn step(event: &JobEvent) -> String {
    let step = event.data.get("step").and_then(|step| step.as_str());
    printable(step.unwrap_or_default(), false).into_owned()
}

/// An event for a person.
fn line(event: &JobEvent) -> String {
    let kind = event.kind.as_str().replace('_', " ");
    let kind = match event.kind {
        JobEventKind::Completed => styled(GOOD, kind),
        JobEventKind::Dead | JobEventKind::Failed => styled(ERROR, kind),
        _ => kind,
    };
    let mut parts = vec![
        styled(DIM, event.at.format("%H:%M:%S")),
        short(&event.job),
        kind,
    ];
    if let Some(attempt) = event.attempt {
        parts.push(format!("attempt {attempt}"));
    }
    if let Some(percent) = event
        .data
        .get("percent")
        .and_then(|percent| percent.as_f64())
    {
        parts.push(format!("{percent:.0} %"));
    }
    for field in ["step", "cause", "by", "as", "priority"] {
        if let Some(text) = event.data.get(field).and_then(|value| value.as_str())
            && !text.is_empty()
        {
            parts.push(printable(text, false).into_owned());
        }
    }
    format!("{}\n", parts.join("  "))
}

/// Where a job has come to.
fn line_of(job: &Job) -> String {
    let mut text = format!("{} is {}", short(&job.id), job.status);
    if let Some(cause) = &job.cause {
        text.push_str(&format!(": {}", printable(cause, false)));
    }
    text.push('\n');
    text
}
