//! A new job, looked at and written as rows before anybody waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::submit::Prepared;
use super::error::QueueError;
use super::job::{CALLBACKS, JobStatus, Kind, Work};
use super::new_job::{Due, KeyScope, Mode, NewJob};
use super::retry::{Retry, RetryPolicy};
use super::store::{Body, Flags, KeyRow, LaneKey, Row, ScopeKind};
use super::time::{Micros, SECOND, micros};

/// The most tags on a job.
pub(crate) const MAX_TAGS: usize = 20;
/// The most labels on a job.
pub(crate) const MAX_LABELS: usize = 64;
/// The most characters of a label's name, of a tool's, of a user's and of a session's.
pub(crate) const MAX_NAME_CHARS: usize = 255;
/// The most characters of a label's value.
pub(crate) const MAX_VALUE_CHARS: usize = 1_024;
/// The most bytes of a name: of a queue or a tag.
const MAX_NAME: usize = 64;
/// The most bytes of a tenant, a user, a skill's reference or a key.
const MAX_TEXT: usize = 255;
/// How deep JSON may be nested that is kept: what stands around it must fit into the 128 levels that
/// are read back.
pub(crate) const MAX_DEPTH: usize = 100;
/// The most milliseconds that a job may be put off: ten years.
const MAX_DELAY_MS: u64 = 10 * 365 * 86_400_000;

/// The same of a time, with the leap days of any ten years.
const MAX_AWAY_MS: u64 = MAX_DELAY_MS + 3 * 86_400_000;

/// A time to which a job is put off.
///
/// # Errors
/// It is more than ten years away.
pub(super) fn soon_enough(at: Micros, now: Micros) -> Result<Micros, QueueError> {
    let most = now.saturating_add((MAX_AWAY_MS as Micros) * 1_000);
    match at <= most {
        true => Ok(at),
        false => Err(invalid(
            "a time that is more than ten years away".to_owned(),
        )),
    }
}

/// Refuses what nobody may submit, though the queue itself may, and what was stored may be.
pub(crate) fn check_submitted(job: &NewJob) -> Result<(), QueueError> {
    check_labels(&job.labels).map_err(invalid)?;
    match &job.work {
        Work::Callback { .. } => Err(invalid(
            "callbacks are submitted by the queue itself, together with the end of their job",
        )),
        Work::Execution { request } => {
            check_labels(&request.labels).map_err(invalid)?;
            for (what, name) in [("tool", &request.tool), ("session", &request.session)] {
                if name
                    .as_deref()
                    .is_some_and(|name| !has_at_most(MAX_NAME_CHARS, name))
                {
                    let most = MAX_NAME_CHARS;
                    return Err(invalid(format!(
                        "its {what} has more than {most} characters"
                    )));
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Looks at a job and writes it as rows. `policy` is what holds where the job says nothing.
pub(crate) fn prepare(
    job: &NewJob,
    policy: impl FnOnce(&NewJob) -> Arc<RetryPolicy>,
    max_bytes: usize,
    now: Micros,
) -> Result<Prepared, QueueError> {
    check(job)?;
    let mut policy = match &job.retry {
        Some(policy) => policy.clone(),
        None => (*policy(job)).clone(),
    };
    if let Some(attempts) = job.attempts {
        policy.max_attempts = attempts;
    }
    policy.check()?;
    let scheduled = match job.due {
        Due::Now => now,
        Due::AfterMs(delay) if delay <= MAX_DELAY_MS => now + (delay as Micros) * 1_000,
        Due::AfterMs(delay) => {
            return Err(invalid(format!(
                "a delay of {delay} ms is more than ten years"
            )));
        }
        // A schedule's firing keeps its time; nobody else comes before those who are there already.
        Due::At(at) if job.schedule.is_some() => micros(at),
        Due::At(at) => soon_enough(micros(at), now)?.max(now),
    };
    let flags = Flags::default()
        .with(
            Flags::KEY,
            matches!(&job.key, Some(key) if key.scope == KeyScope::Unfinished),
        )
        .with(Flags::CALLBACK, job.callback.is_some())
        .with(Flags::FORGET, job.mode == Mode::FireAndForget);
    let tenant = job.tenant.clone().unwrap_or_default();
    let lane = LaneKey {
        queue: job.queue.clone(),
        tenant: tenant.clone(),
        skill: job.skill(),
    };
    let key = job.key.as_ref().map(|key| KeyRow {
        tenant,
        key: key.key.clone(),
        job: job.id,
        until: match key.scope {
            KeyScope::Unfinished => None,
            KeyScope::PeriodS(seconds) => {
                let period = Micros::try_from(seconds).unwrap_or(Micros::MAX);
                Some(now.saturating_add(period.saturating_mul(SECOND)))
            }
        },
    });
    let row = Row {
        seq: 0,
        id: job.id,
        lane: 0,
        kind: job.work.kind(),
        status: if job.paused {
            JobStatus::Paused
        } else {
            JobStatus::Pending
        },
        cause: None,
        priority: job.priority,
        attempts: 0,
        max_attempts: policy.max_attempts,
        fence: 0,
        worker: None,
        created: now,
        updated: now,
        scheduled,
        due: scheduled,
        started: None,
        completed: None,
        deadline: job.deadline.map(micros),
        cancel_requested: false,
        flags,
        lacking_since: None,
    };
    let seed = job.id.as_u64_pair();
    let retry = Retry::plan(policy, seed.0 ^ seed.1);
    let body = Body {
        submitted: text(job)?.into(),
        retry: text(&retry)?.into(),
    };
    if body.submitted.len() > max_bytes {
        return Err(invalid(format!(
            "it has {} bytes as JSON; {max_bytes} are allowed",
            body.submitted.len()
        )));
    }
    Ok(Prepared {
        row,
        lane,
        body,
        key,
        tags: job.tags.iter().cloned().collect(),
    })
}

fn text<T: serde::Serialize>(value: &T) -> Result<String, QueueError> {
    serde_json::to_string(value)
        .map_err(|error| invalid(format!("it cannot be written as JSON: {error}")))
}

fn invalid(what: impl Into<String>) -> QueueError {
    QueueError::Invalid(what.into())
}

/// Says what is wrong with the name of a queue.
fn queue_name(name: &str) -> Result<(), String> {
    let is_name = (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    match is_name {
        true => Ok(()),
        false => Err(format!(
            "the queue's name {:?} is not 1 to {MAX_NAME} of a-z, A-Z, 0-9, _, - and .",
            crate::text::shortened(name, 100)
        )),
    }
}

/// Says what is wrong with the name of a tenant, a user, a skill or a key.
fn text_name(what: &str, text: &str) -> Result<(), String> {
    match text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        true => Err(format!(
            "the {what} is not 1 to {MAX_TEXT} bytes without control characters"
        )),
        false => Ok(()),
    }
}

/// Whether a text has at most so many characters. One that is much longer is not looked through.
pub(crate) fn has_at_most(most: usize, text: &str) -> bool {
    text.len() <= most || (text.len() <= 4 * most && text.chars().count() <= most)
}

/// Says what is wrong with a label.
pub(crate) fn check_label(name: &str, value: &str) -> Result<(), String> {
    for (what, text, most) in [
        ("name", name, MAX_NAME_CHARS),
        ("value", value, MAX_VALUE_CHARS),
    ] {
        if !has_at_most(most, text) {
            return Err(format!(
                "the {what} of a label has more than {most} characters"
            ));
        }
    }
    Ok(())
}

/// Says what is wrong with labels.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > MAX_LABELS {
        let many = labels.len();
        return Err(format!("it has {many} labels; {MAX_LABELS} are allowed"));
    }
    labels
        .iter()
        .try_for_each(|(name, value)| check_label(name, value))
}

/// Refuses the name of a queue, tenant or skill that no job can have. Jobs of no tenant, or of no skill,
/// have the empty one.
pub(crate) fn check_scope(kind: ScopeKind, name: &str) -> Result<(), QueueError> {
    let checked = match kind {
        ScopeKind::Queue => queue_name(name),
        _ if name.is_empty() => Ok(()),
        kind => text_name(kind.as_str(), name),
    };
    checked.map_err(QueueError::Invalid)
}

fn check(job: &NewJob) -> Result<(), QueueError> {
    queue_name(&job.queue).map_err(invalid)?;
    let skill = job.skill();
    if skill == CALLBACKS && job.work.kind() != Kind::Callback {
        return Err(invalid(format!("`{CALLBACKS}` names no skill or handler")));
    }
    if let Some(user) = &job.user {
        let fits = !user.is_empty() && has_at_most(MAX_NAME_CHARS, user);
        if !fits || user.chars().any(char::is_control) {
            let most = MAX_NAME_CHARS;
            return Err(invalid(format!(
                "the user is not 1 to {most} characters without control characters"
            )));
        }
    }
    let texts = [
        ("tenant", job.tenant.as_deref()),
        (
            "idempotency key",
            job.key.as_ref().map(|key| key.key.as_str()),
        ),
        (
            "skill",
            Some(skill.as_str()).filter(|skill| !skill.is_empty()),
        ),
    ];
    for (what, text) in texts {
        let Some(text) = text else { continue };
        text_name(what, text).map_err(invalid)?;
    }
    if job.tags.len() > MAX_TAGS {
        return Err(invalid(format!(
            "it has {} tags; {MAX_TAGS} are allowed",
            job.tags.len()
        )));
    }
    if let Some(tag) = job
        .tags
        .iter()
        .find(|tag| tag.is_empty() || tag.len() > MAX_NAME || tag.chars().any(char::is_control))
    {
        return Err(invalid(format!(
            "the tag {:?} is not 1 to {MAX_NAME} bytes without control characters",
            crate::text::shortened(tag, 100)
        )));
    }
    if (job.mode == Mode::Deferred) != job.callback.is_some() {
        return Err(invalid(
            "a job has a callback where its mode is `deferred`, and nowhere else",
        ));
    }
    if let Some(callback) = &job.callback {
        crate::grant::HttpTarget::new("POST", &callback.url)
            .map_err(|error| invalid(format!("its callback's URL cannot be used: {error}")))?;
    }
    let given = match &job.work {
        Work::Execution { request } => Some(("input", &request.input)),
        Work::Custom { payload, .. } => Some(("payload", payload)),
        Work::Maintenance { .. } | Work::Callback { .. } => None,
    };
    if let Some((what, given)) = given
        && crate::skill::depth(given) > MAX_DEPTH
    {
        return Err(invalid(format!(
            "its {what} is nested more than {MAX_DEPTH} levels deep"
        )));
    }
    if let Work::Custom { name, .. } = &job.work
        && name.is_empty()
    {
        return Err(invalid("the name of its handler is empty"));
    }
    Ok(())
}
