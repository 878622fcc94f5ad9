//! What is kept of an approval, and what is decided from it: pure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Subject;
use super::subject::canonical;
use crate::execution::{Decision, ExecutionRequest, Resolution, SkillIdentity};
use crate::grant::Grants;
use crate::text::shortened;

/// The most bytes of an input that are kept to be looked at.
const MAX_SHOWN: usize = 64 << 10;
/// How long an approval holds that is for once.
const ONCE: TimeDelta = TimeDelta::days(1);
/// How long a refusal holds: the same request is not asked about again until then.
const REFUSAL: TimeDelta = TimeDelta::hours(1);
/// How long a question of a job may be answered.
const JOB: Duration = Duration::from_secs(30 * 86_400);

/// What somebody is asked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// What an approval of it is bound to.
    pub subject: Subject,
    /// Exactly which skill.
    pub skill: Arc<SkillIdentity>,
    /// Which of its tools.
    pub tool: String,
    /// On whose behalf: an organisation or account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// On whose behalf: a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The conversation or session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The request that was first asked about.
    pub request: Uuid,
    /// The job that waits for the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Uuid>,
    /// The input as canonical JSON; of one that is longer than 64 KiB, its beginning.
    pub input: String,
    /// How many bytes the input has.
    pub input_bytes: u64,
    /// The attachments, without their bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attached>,
    /// The grants that the request asks for.
    #[serde(default, skip_serializing_if = "Grants::is_empty")]
    pub grants: Grants,
    /// The rule that asks.
    pub rule: String,
}

/// An attachment, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// How many bytes it has.
    pub bytes: u64,
}

impl Wanted {
    /// What is wanted by a request.
    pub fn new(
        request: &ExecutionRequest,
        resolution: &Resolution,
        rule: String,
        job: Option<Uuid>,
    ) -> Self {
        let input = canonical(&request.input);
        Wanted {
            subject: Subject::of(request, resolution),
            skill: Arc::clone(&resolution.skill),
            tool: resolution.tool().name.clone(),
            tenant: request.tenant.clone(),
            user: request.user.clone(),
            session: request.session.clone(),
            request: request.request_id,
            job,
            input_bytes: input.len() as u64,
            input: shortened(&input, MAX_SHOWN).into_owned(),
            attachments: request
                .attachments
                .iter()
                .map(|attachment| Attached {
                    name: shortened(&attachment.name, 256).into_owned(),
                    media_type: shortened(&attachment.media_type, 256).into_owned(),
                    bytes: attachment.data.len() as u64,
                })
                .collect(),
            grants: request.grants.clone(),
            rule,
        }
    }
}

/// An approval, from the question on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: Uuid,
    /// How it stands. See [`Approval::status_at`] for how it stands at some time.
    pub status: ApprovalStatus,
    /// What it is about.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// When it was asked for.
    pub asked_at: DateTime<Utc>,
    /// Until when it stands so: a question can be answered, an approval be used, a refusal holds.
    pub until: DateTime<Utc>,
    /// Whether it holds for one execution only.
    pub once: bool,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<DateTime<Utc>>,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
}

/// How an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// Nobody has answered yet.
    Pending,
    /// It may run.
    Approved,
    /// It may not run.
    Refused,
    /// It was for once, and has run.
    Used,
    /// Its time is over.
    Expired,
}

impl ApprovalStatus {
    /// Every one.
    pub const ALL: [ApprovalStatus; 5] = [
        ApprovalStatus::Pending,
        ApprovalStatus::Approved,
        ApprovalStatus::Refused,
        ApprovalStatus::Used,
        ApprovalStatus::Expired,
    ];

    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ApprovalStatus::Pending => "pending",
            ApprovalStatus::Approved => "approved",
            ApprovalStatus::Refused => "refused",
            ApprovalStatus::Used => "used",
            ApprovalStatus::Expired => "expired",
        }
    }

    /// Whether it can still be answered, or an answer be changed.
    pub fn is_open(self) -> bool {
        !matches!(self, ApprovalStatus::Used | ApprovalStatus::Expired)
    }
}

impl fmt::Display for ApprovalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no status of an approval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no status of an approval; there are pending, approved, refused, used, expired")]
pub struct UnknownStatus(String);

impl std::str::FromStr for ApprovalStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        ApprovalStatus::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

impl Approval {
    /// A question.
    pub(crate) fn new(wanted: Wanted, expires: Duration, now: DateTime<Utc>) -> Self {
        let open = match wanted.job {
            Some(_) => JOB.max(expires),
            None => expires,
        };
        Approval {
            id: Uuid::now_v7(),
            status: ApprovalStatus::Pending,
            wanted,
            asked_at: now,
            until: after(now, TimeDelta::from_std(open).unwrap_or(TimeDelta::MAX)),
            once: true,
            decided_at: None,
            decided_by: None,
        }
    }

    /// How it stands at this time.
    pub fn status_at(&self, now: DateTime<Utc>) -> ApprovalStatus {
        match self.status {
            ApprovalStatus::Used => ApprovalStatus::Used,
            _ if self.until <= now => ApprovalStatus::Expired,
            status => status,
        }
    }
}

/// What became of asking.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It may run now; where it was for once, that is used up.
    Approved(Approval),
    /// It may not run.
    Refused(Approval),
    /// Nobody had been asked: a question is open from now on.
    Asked(Approval),
    /// Somebody was asked before, and has not answered yet.
    Pending(Approval),
}

/// What is to be done where somebody asks, by what is kept of the same subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The one at this place holds, and is used up if it is for once.
    Use(usize),
    Refused(usize),
    Pending(usize),
    /// Somebody has to be asked.
    New,
}

/// What is to be done where this job asks, or somebody who is none. What was decided last holds; what
/// was decided of the job itself goes before that. A question of a job's, and an approval of it for
/// once, are for that job alone: two jobs that would run the same are two to be answered for.
pub(crate) fn step(found: &[Approval], job: Option<Uuid>, now: DateTime<Utc>) -> Step {
    let own = |approval: &Approval| approval.wanted.job == job;
    let shared = |approval: &Approval| match approval.status {
        ApprovalStatus::Approved => !approval.once,
        status => status == ApprovalStatus::Refused,
    };
    if let Some(step) = answered(found, now, |approval| job.is_some() && own(approval)) {
        return step;
    }
    if let Some(step) = answered(found, now, |approval| own(approval) || shared(approval)) {
        return step;
    }
    match last(found, ApprovalStatus::Pending, now, own) {
        Some((index, _)) => Step::Pending(index),
        None => Step::New,
    }
}

/// What follows from what was decided last of these.
fn answered(
    found: &[Approval],
    now: DateTime<Utc>,
    which: impl Fn(&Approval) -> bool + Copy,
) -> Option<Step> {
    let approved = last(found, ApprovalStatus::Approved, now, which);
    let refused = last(found, ApprovalStatus::Refused, now, which);
    match (approved, refused) {
        (Some((index, approved)), Some((_, refused)))
            if approved.decided_at >= refused.decided_at =>
        {
            Some(Step::Use(index))
        }
        (_, Some((index, _))) => Some(Step::Refused(index)),
        (Some((index, _)), None) => Some(Step::Use(index)),
        (None, None) => None,
    }
}

/// The last of these that stands so.
fn last(
    found: &[Approval],
    status: ApprovalStatus,
    now: DateTime<Utc>,
    which: impl Fn(&Approval) -> bool,
) -> Option<(usize, &Approval)> {
    let standing = found
        .iter()
        .enumerate()
        .filter(|(_, approval)| approval.status_at(now) == status && which(approval));
    standing.max_by_key(|(_, approval)| (approval.decided_at, approval.id))
}

/// How it stands once somebody has said this; `None` where it is too late for that. An answer that was
/// given can be taken back as long as it holds and is not used up.
pub(crate) fn decided(
    approval: &Approval,
    decision: Decision,
    by: &str,
    now: DateTime<Utc>,
) -> Option<Approval> {
    if matches!(
        approval.status_at(now),
        ApprovalStatus::Used | ApprovalStatus::Expired
    ) {
        return None;
    }
    let (status, once, holds) = match decision {
        Decision::Once => (ApprovalStatus::Approved, true, ONCE),
        Decision::For(time) => (
            ApprovalStatus::Approved,
            false,
            TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX),
        ),
        Decision::Refuse => (ApprovalStatus::Refused, true, REFUSAL),
    };
    Some(Approval {
        status,
        once,
        until: after(now, holds),
        decided_at: Some(now),
        decided_by: Some(shortened(by, 256).into_owned()),
        ..approval.clone()
    })
}

fn after(now: DateTime<Utc>, time: TimeDelta) -> DateTime<Utc> {
    // A year is as good as for ever, and can be written down.
    let longest = TimeDelta::from_std(Decision::LONGEST).unwrap_or(TimeDelta::MAX);
    now.checked_add_signed(time.min(longest))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
