//! What can be asked of a job beside what it does.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use skillhost::parse_duration;
use skillhost::queue::callback::{CallbackSettings, Callbacks};
use skillhost::queue::{Callback, MAX_ATTEMPTS, NewJob, Priority};

use super::moment::{Moment, at, moment, written};
use crate::cli::complaint::Complaint;
use crate::cli::explain;
use crate::cli::guards::user;

/// What is asked of a job beside its work.
#[derive(Debug, Default, Args)]
pub struct JobArgs {
    /// How urgent it is: low, normal, high or critical
    #[arg(long, value_name = "PRIORITY", value_parser = str::parse::<Priority>, help_heading = "Job")]
    pub priority: Option<Priority>,
    /// Run it no sooner than so long from now, such as 10m
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        value_parser = parse_duration,
        conflicts_with = "at",
        help_heading = "Job"
    )]
    pub delay: Option<Duration>,
    /// Run it no sooner than then, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = at, help_heading = "Job")]
    pub at: Option<DateTime<Utc>>,
    /// The queue; `default` unless named
    #[arg(long, value_name = "NAME", help_heading = "Job", value_parser = NonEmptyStringValueParser::new())]
    pub queue: Option<String>,
    /// How many attempts it has in all; 5 unless said here, or set for the tool or the queue (`queues retry`)
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ATTEMPTS)),
        help_heading = "Job"
    )]
    pub attempts: Option<u32>,
    /// Submit it once: while a job with this key has not ended, that one is the answer
    #[arg(long, value_name = "KEY", help_heading = "Job", value_parser = NonEmptyStringValueParser::new())]
    pub key: Option<String>,
    /// Let the key hold for so long, whether the job has ended or not
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        value_parser = parse_duration,
        requires = "key",
        help_heading = "Job"
    )]
    pub key_for: Option<Duration>,
    /// The moment after which its result is of no use: a time, or so long from now
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = moment, help_heading = "Job")]
    pub deadline: Option<Moment>,
    /// On whose behalf: an organisation or account
    #[arg(long, value_name = "TENANT", help_heading = "Job", value_parser = NonEmptyStringValueParser::new())]
    pub tenant: Option<String>,
    /// On whose behalf: a person
    #[arg(long, value_name = "USER", help_heading = "Job", value_parser = NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// A word to find it by
    #[arg(long, value_name = "TAG", help_heading = "Job", value_parser = NonEmptyStringValueParser::new())]
    pub tag: Vec<String>,
    /// A note of your own, which nothing here reads
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, help_heading = "Job")]
    pub label: Vec<(String, String)>,
    /// Send the result to this URL, http or https
    #[arg(long, value_name = "URL", help_heading = "Job")]
    pub callback: Option<String>,
    /// Do not keep its output
    #[arg(long, conflicts_with = "callback", help_heading = "Job")]
    pub forget: bool,
    /// Let it wait until it is resumed
    #[arg(long, help_heading = "Job")]
    pub paused: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// Refuses what no worker would send a callback to, as far as its text tells.
fn check_callback(url: &str) -> Result<(), Complaint> {
    let callbacks =
        Callbacks::new(CallbackSettings::default()).map_err(|error| explain::host(&error))?;
    callbacks.check(url).map_err(|error| {
        Complaint::usage(error.to_string()).hint(
            "a callback goes to http:// or https://, and to no address of this machine or a \
             private network",
        )
    })
}

/// Refuses what would be over before it may start.
fn check_due(
    delay: Option<Duration>,
    at: Option<DateTime<Utc>>,
    deadline: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), Complaint> {
    let (flag, due) = match (delay, at) {
        (Some(delay), _) => ("--delay", Moment::In(delay).from(now)),
        (None, Some(at)) => ("--at", at),
        (None, None) => return Ok(()),
    };
    match deadline {
        Some(deadline) if deadline <= due => {
            let message = format!(
                "it would never run: `{flag}` puts it off until {}, and its `--deadline` is {}",
                written(due),
                written(deadline)
            );
            let hint = format!("give it a later `--deadline`, or an earlier `{flag}`");
            Err(Complaint::usage(message).hint(hint))
        }
        _ => Ok(()),
    }
}

impl JobArgs {
    /// The job with all that.
    ///
    /// # Errors
    /// Where it could never run, a label is given twice, or nothing can be sent to the callback's URL.
    pub fn apply(self, mut job: NewJob, now: DateTime<Utc>) -> Result<NewJob, Complaint> {
        use skillhost::queue::Mode;
        job.priority = self.priority.unwrap_or_default();
        if let Some(delay) = self.delay {
            job = job.delay(delay);
        }
        if let Some(at) = self.at {
            job = job.at(at);
        }
        if let Some(queue) = self.queue {
            job.queue = queue;
        }
        job.attempts = self.attempts;
        job = match (self.key, self.key_for) {
            (Some(key), Some(period)) => job.key_for(key, period),
            (Some(key), None) => job.key(key),
            (None, _) => job,
        };
        job.deadline = self.deadline.map(|deadline| deadline.from(now));
        if let Some(deadline) = job.deadline.filter(|deadline| *deadline <= now) {
            let message = format!("the deadline {} is over already", written(deadline));
            return Err(Complaint::usage(message)
                .hint("write a time that is to come, or how long from now, such as 10m"));
        }
        check_due(self.delay, self.at, job.deadline, now)?;
        job.tenant = self.tenant;
        job.user = self.user;
        job.caller = Some(user());
        job.tags = self.tag.into_iter().collect();
        for (key, value) in self.label {
            if job.labels.insert(key.clone(), value).is_some() {
                return Err(Complaint::usage(format!(
                    "the label `{key}` is given twice"
                )));
            }
        }
        if let Some(url) = self.callback {
            check_callback(&url)?;
            job = job.callback(Callback { url, secret: None });
        }
        if self.forget {
            job.mode = Mode::FireAndForget;
        }
        job.paused = self.paused;
        Ok(job)
    }
}
