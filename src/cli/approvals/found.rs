//! What waits, whatever it is: an approval that is kept, or a job that is paused for one.

use chrono::{DateTime, Utc};
use serde::Serialize;
use skillhost::policy::{Approval, ApprovalFilter, ApprovalStatus, Approvals as _};
use skillhost::queue::{Filter, Job, JobStatus, Queue};
use skillhost::text::printable;
use uuid::Uuid;

use crate::cli::complaint::Complaint;
use crate::cli::explain;

/// How much of an id must be typed.
const LEAST: usize = 4;
/// Among how many approvals the end of an id is looked for.
const AMONG: usize = 10_000;
/// The cause of a job that waits for an approval.
const NEEDED: &str = "approval_needed";

/// What waits for somebody's word, or did.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Found {
    /// An approval that is kept.
    Approval(Box<Approval>),
    /// A job of which no approval is kept: whoever ran it asks elsewhere.
    Job(Box<Job>),
}

impl Found {
    /// The id of the one, or of the other.
    pub fn id(&self) -> Uuid {
        match self {
            Found::Approval(approval) => approval.id,
            Found::Job(job) => job.id,
        }
    }

    /// When it was asked for.
    pub fn asked_at(&self) -> DateTime<Utc> {
        match self {
            Found::Approval(approval) => approval.asked_at,
            Found::Job(job) => job.updated_at,
        }
    }
}

/// What is kept, and jobs that wait besides, the last first.
///
/// # Errors
/// Where it cannot be read.
pub async fn all(queue: &Queue, filter: &ApprovalFilter) -> anyhow::Result<Vec<Found>> {
    let now = queue.now();
    let approvals = queue
        .approvals(filter)
        .await
        .map_err(|error| explain::approval(&error))?;
    let pending = filter.status.is_empty() || filter.status.contains(&ApprovalStatus::Pending);
    let mut found: Vec<Found> = Vec::new();
    if pending && filter.job.is_none() && filter.before.is_none() {
        let most = filter.limit.unwrap_or(100);
        let mut waiting = Filter {
            status: vec![JobStatus::Paused],
            cause: Some(NEEDED.to_owned()),
            tenant: filter.tenant.clone(),
            skill: filter.skill.clone(),
            limit: Some(most),
            ..Filter::default()
        };
        // Large ones come a few at a time.
        loop {
            let page = queue.list(&waiting).await.map_err(explain::queue)?;
            for job in page.items {
                if found.len() < most && open_of(queue, job.id, now).await?.is_none() {
                    found.push(Found::Job(Box::new(job)));
                }
            }
            waiting.cursor = page.next;
            if page.next.is_none() || found.len() >= most {
                break;
            }
        }
    }
    found.extend(approvals.into_iter().map(|mut approval| {
        approval.status = approval.status_at(now);
        Found::Approval(Box::new(approval))
    }));
    found.sort_by_key(|found| std::cmp::Reverse(found.asked_at()));
    Ok(found)
}

/// The approval that a job waits for.
async fn open_of(queue: &Queue, job: Uuid, now: DateTime<Utc>) -> anyhow::Result<Option<Approval>> {
    let filter = ApprovalFilter {
        job: Some(job),
        ..ApprovalFilter::default()
    };
    let approvals = queue
        .approvals(&filter)
        .await
        .map_err(|error| explain::approval(&error))?;
    Ok(approvals
        .into_iter()
        .find(|approval| approval.status_at(now) == ApprovalStatus::Pending))
}

/// The one that was meant.
///
/// # Errors
/// Where a text is the id of none, or the end of none or of several.
pub async fn one(queue: &Queue, typed: &str) -> anyhow::Result<Found> {
    let now = queue.now();
    if let Ok(id) = typed.parse::<Uuid>() {
        if let Ok(mut approval) = queue.approval(id).await {
            approval.status = approval.status_at(now);
            return Ok(Found::Approval(Box::new(approval)));
        }
        if let Ok(job) = queue.job(id).await {
            return of_job(queue, job).await;
        }
        return Err(Complaint::usage(format!("there is no approval {id}"))
            .hint("`skillhost approvals list` shows which there are")
            .into());
    }
    let shown = printable(typed, false);
    let end = typed.to_ascii_lowercase();
    let hexadecimal = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    if end.len() < LEAST || !end.bytes().all(hexadecimal) {
        let message = format!("`{shown}` is no approval's id, nor the end of one");
        return Err(Complaint::usage(message)
            .hint("write the id, or its last 4 to 8 characters as in `skillhost approvals list`")
            .into());
    }
    let everything = ApprovalFilter {
        limit: Some(AMONG),
        ..ApprovalFilter::default()
    };
    let mut meant: Vec<Found> = all(queue, &everything)
        .await?
        .into_iter()
        .filter(|found| {
            let ids = match found {
                Found::Approval(approval) => [Some(approval.id), approval.wanted.job],
                Found::Job(job) => [Some(job.id), None],
            };
            ids.iter()
                .flatten()
                .any(|id| id.to_string().ends_with(&end))
        })
        .collect();
    // A job that asked several times waits for one of them.
    if meant.len() > 1 {
        let open = |found: &Found| match found {
            Found::Approval(approval) => approval.status == ApprovalStatus::Pending,
            Found::Job(_) => true,
        };
        if meant.iter().filter(|found| open(found)).count() == 1 {
            meant.retain(open);
        }
    }
    match meant.len() {
        1 => Ok(meant.remove(0)),
        0 => Err(
            Complaint::usage(format!("no approval's id ends with `{shown}`"))
                .hint("`skillhost approvals list` shows which there are")
                .into(),
        ),
        _ => {
            let complaint = Complaint::usage(format!("several approvals' ids end with `{shown}`"));
            let complaint = meant.iter().take(5).fold(complaint, |complaint, found| {
                complaint.detail(found.id().to_string())
            });
            Err(complaint.hint("write more of it").into())
        }
    }
}

async fn of_job(queue: &Queue, job: Job) -> anyhow::Result<Found> {
    Ok(match open_of(queue, job.id, queue.now()).await? {
        Some(approval) => Found::Approval(Box::new(approval)),
        None => Found::Job(Box::new(job)),
    })
}
