//! Which jobs are meant.

use std::collections::BTreeMap;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use skillhost::Limits;
use skillhost::queue::{CAUSES, Filter, Job, JobStatus, Kind, Queue};
use skillhost::text::{closest, named, printable};

use crate::cli::complaint::Complaint;
use crate::cli::{explain, jobs::id, units};

/// What jobs are filtered by. All that are named must hold.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterArgs {
    /// Of this queue
    #[arg(long, value_name = "NAME", help_heading = "Filter", value_parser = NonEmptyStringValueParser::new())]
    pub queue: Option<String>,
    /// Of this tenant
    #[arg(long, value_name = "TENANT", help_heading = "Filter", value_parser = NonEmptyStringValueParser::new())]
    pub tenant: Option<String>,
    /// Of this skill, by name
    #[arg(long, value_name = "NAME", help_heading = "Filter", value_parser = NonEmptyStringValueParser::new())]
    pub skill: Option<String>,
    /// With this tag
    #[arg(long, value_name = "TAG", help_heading = "Filter", value_parser = NonEmptyStringValueParser::new())]
    pub tag: Option<String>,
    /// Dead, paused or waiting for this cause, such as fuel, trap or skill_error
    #[arg(long, value_name = "CAUSE", help_heading = "Filter")]
    pub cause: Option<String>,
    /// Of this kind: execution, maintenance, custom or callback
    #[arg(long, value_name = "KIND", value_parser = str::parse::<Kind>, help_heading = "Filter")]
    pub kind: Option<Kind>,
}

/// Which page of them.
#[derive(Debug, Clone, Default, Args)]
pub struct PageArgs {
    /// At most so many, the last submitted first
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub limit: u32,
    /// Only those that were submitted before this job: the next page
    #[arg(long, value_name = "ID")]
    pub before: Option<String>,
}

impl FilterArgs {
    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        let texts = [
            &self.queue,
            &self.tenant,
            &self.skill,
            &self.tag,
            &self.cause,
        ];
        texts.iter().all(|text| text.is_none()) && self.kind.is_none()
    }

    /// As the queue wants it.
    pub fn filter(&self, status: &[JobStatus]) -> Filter {
        Filter {
            status: status.to_vec(),
            kind: self.kind,
            queue: self.queue.clone(),
            tenant: self.tenant.clone(),
            skill: self.skill.clone(),
            tag: self.tag.clone(),
            cause: self.cause.clone(),
            ..Filter::default()
        }
    }

    /// One page of the jobs that are meant.
    ///
    /// # Errors
    /// Where the queue cannot be read, or the page begins nowhere.
    pub async fn page(
        &self,
        queue: &Queue,
        status: &[JobStatus],
        page: &PageArgs,
    ) -> anyhow::Result<Vec<Job>> {
        let before = match &page.before {
            Some(before) => Some(id::resolve_one(queue, before).await?),
            None => None,
        };
        let most = page.limit as usize;
        let mut filter = Filter {
            before,
            limit: Some(most),
            ..self.filter(status)
        };
        let mut jobs: Vec<Job> = Vec::new();
        // Large ones come a few at a time.
        loop {
            let page = queue.list(&filter).await.map_err(explain::queue)?;
            jobs.extend(page.items);
            if page.next.is_none() || jobs.len() >= most {
                return Ok(jobs);
            }
            filter.before = None;
            filter.cursor = page.next;
            filter.limit = Some(most - jobs.len());
        }
    }
}

/// That there are no dead jobs of those that are meant; and where there are none of this cause at all, of which there
/// are.
///
/// # Errors
/// Where the cause is a misspelt one, or the queue cannot be read.
pub async fn no_dead(queue: &Queue, filter: &FilterArgs) -> anyhow::Result<String> {
    let Some(cause) = &filter.cause else {
        return Ok(match filter.is_empty() {
            true => "no dead jobs".to_owned(),
            false => "no dead jobs that the filter holds for".to_owned(),
        });
    };
    let statistics = queue.statistics(1).await.map_err(explain::queue)?;
    let causes = &statistics.dead_by_cause;
    check_cause(cause, causes)?;
    if causes.is_empty() {
        return Ok("no dead jobs".to_owned());
    }
    if causes.contains_key(cause) {
        return Ok("no dead jobs that the filter holds for".to_owned());
    }
    let known: Vec<&str> = causes.keys().map(String::as_str).collect();
    Ok(format!(
        "no dead jobs of the cause `{}`; those that there are died of: {}",
        named(cause, 100),
        printable(&known.join(", "), false)
    ))
}

/// Refuses a cause that is a misspelling of one that jobs die of: who takes it for done that there are none would be
/// wrong.
fn check_cause(cause: &str, dead: &BTreeMap<String, u64>) -> Result<(), Complaint> {
    let limits = units::limits(&Limits::default());
    // Those that there are first: of two that are as close, one of them is meant.
    let known: Vec<&str> = (dead.keys().map(String::as_str))
        .chain(CAUSES.iter().copied())
        .chain(limits.iter().map(|(name, _)| name.as_str()))
        .collect();
    match closest(cause, known.iter().copied()) {
        Some(close) if !known.contains(&cause) => {
            let message = format!("no job dies of the cause `{}`", named(cause, 100));
            let hint = format!("did you mean `{}`?", printable(close, false));
            Err(Complaint::usage(message).hint(hint))
        }
        _ => Ok(()),
    }
}

/// Jobs that were named, or all that a filter holds for.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectionArgs {
    /// Which jobs
    #[arg(value_name = "ID", conflicts_with = "all")]
    pub id: Vec<String>,
    /// All of them, or those that the filter holds for
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// How many are looked up at a time.
const PAGE: usize = 1_000;

impl SelectionArgs {
    /// The dead jobs that are meant: of all, those that were replayed, or not, or both.
    ///
    /// # Errors
    /// Where the queue cannot be read, none is named, or one that is named is not there.
    pub async fn dead(
        &self,
        queue: &Queue,
        replayed: Option<bool>,
    ) -> anyhow::Result<Vec<uuid::Uuid>> {
        if !self.all {
            if !self.filter.is_empty() {
                let message = "a filter goes with --all, and not with single jobs";
                return Err(Complaint::usage(message).into());
            }
            if self.id.is_empty() {
                let hint = "name them by their ids, or take all that are dead, or those that a filter holds for, \
                            with `--all`";
                return Err(Complaint::usage("no job is named").hint(hint).into());
            }
            return id::resolve(queue, &self.id).await;
        }
        let mut ids = Vec::new();
        let mut filter = Filter {
            limit: Some(PAGE),
            replayed,
            ..self.filter.filter(&[JobStatus::Dead])
        };
        loop {
            let page = queue.ids(&filter).await.map_err(explain::queue)?;
            ids.extend(page.items);
            filter.cursor = page.next;
            if page.next.is_none() {
                return Ok(ids);
            }
        }
    }
}
