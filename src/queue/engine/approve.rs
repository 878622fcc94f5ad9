//! Approvals: asked for, used up, and given. Only within serial transactions, so that one for once is
//! used once, whoever asks.

use serde_json::json;
use uuid::Uuid;

use super::super::error::QueueError;
use super::super::job::JobStatus;
use super::super::outcome::APPROVAL_NEEDED;
use super::super::store::{ApprovalRow, Result, Row, Rows};
use super::super::time::{Micros, micros, moment};
use super::control::{Action, act};
use crate::execution::Decision;
use crate::policy::{Answer, Approval, ApprovalError, ApprovalStatus, Step, Wanted, decided, step};

/// What a caller is told, within a transaction that may hold other things.
type Told<T> = std::result::Result<T, ApprovalError>;

/// What is kept of an approval.
pub(crate) fn row(approval: &Approval) -> Result<ApprovalRow> {
    let wanted = &approval.wanted;
    Ok(ApprovalRow {
        id: approval.id,
        subject: wanted.subject,
        status: approval.status,
        tenant: wanted.tenant.clone().unwrap_or_default(),
        skill: wanted.skill.name.clone(),
        job: wanted.job,
        asked: micros(approval.asked_at),
        until: micros(approval.until),
        once: approval.once,
        decided: approval.decided_at.map(micros),
        decided_by: approval.decided_by.clone(),
        awaited: wanted.job.is_some() && approval.status != ApprovalStatus::Used,
        wanted: serde_json::to_string(wanted)
            .map_err(|error| QueueError::Internal(error.to_string()))?,
    })
}

/// An approval, as it is kept.
pub(crate) fn approval(row: ApprovalRow) -> Result<Approval> {
    let wanted: Wanted = serde_json::from_str(&row.wanted)
        .map_err(|error| QueueError::Damaged(format!("approval {}: {error}", row.id)))?;
    Ok(Approval {
        id: row.id,
        status: row.status,
        wanted,
        asked_at: moment(row.asked),
        until: moment(row.until),
        once: row.once,
        decided_at: row.decided.map(moment),
        decided_by: row.decided_by,
    })
}

/// Looks for what was said, uses it up, or opens a question.
pub(crate) async fn ask(
    rows: &mut dyn Rows,
    fresh: &Approval,
    max_pending: u32,
    now: Micros,
) -> Result<Told<Answer>> {
    let wanted = &fresh.wanted;
    let mut found = Vec::new();
    for row in rows.approvals_on(&wanted.subject).await? {
        found.push(approval(row)?);
    }
    match step(&found, wanted.job, moment(now)) {
        Step::Use(index) => {
            let approval = found.swap_remove(index);
            if approval.once {
                let used = Approval {
                    status: ApprovalStatus::Used,
                    ..approval.clone()
                };
                rows.put_approval(&row(&used)?).await?;
            }
            Ok(Ok(Answer::Approved(approval)))
        }
        Step::Refused(index) => Ok(Ok(Answer::Refused(found.swap_remove(index)))),
        Step::Pending(index) => Ok(Ok(Answer::Pending(found.swap_remove(index)))),
        Step::New => {
            let tenant = wanted.tenant.clone().unwrap_or_default();
            let open = rows.pending_approvals(&tenant, now).await?;
            if open >= i64::from(max_pending) {
                return Ok(Err(ApprovalError::Full(max_pending)));
            }
            rows.put_approval(&row(fresh)?).await?;
            Ok(Ok(Answer::Asked(fresh.clone())))
        }
    }
}

/// Gives back what was used up for nothing.
pub(crate) async fn give_back(rows: &mut dyn Rows, id: Uuid) -> Result<()> {
    if let Some(mut found) = rows.approval(id).await?
        && found.status == ApprovalStatus::Used
    {
        // Its job is not paused for it: it finds the approval when it is claimed again.
        found.status = ApprovalStatus::Approved;
        rows.put_approval(&found).await?;
    }
    Ok(())
}

/// Answers; the job that waits for it goes on, or is dead. What holds for a time answers all that is
/// asked of the same.
pub(crate) async fn decide(
    rows: &mut dyn Rows,
    id: Uuid,
    decision: Decision,
    by: &str,
    now: Micros,
) -> Result<Told<Approval>> {
    let Some(found) = rows.approval(id).await? else {
        return Ok(Err(ApprovalError::NotFound(id)));
    };
    let before = approval(found)?;
    let Some(after) = decided(&before, decision, by, moment(now)) else {
        let status = before.status_at(moment(now));
        return Ok(Err(ApprovalError::Over { id, status }));
    };
    // For a time it is for whatever asks the same.
    if decision == Decision::Once
        && let Some(job) = after.wanted.job
        && let Some(ended) = rows.jobs(&[job]).await?.pop()
        && ended.status.is_terminal()
    {
        let status = ended.status.as_str();
        return Ok(Err(ApprovalError::JobEnded { job, status }));
    }
    answer(rows, &after, by, now).await?;
    if matches!(decision, Decision::For(_)) {
        for found in rows.approvals_on(&after.wanted.subject).await? {
            let found = approval(found)?;
            if found.id != id
                && found.status_at(moment(now)) == ApprovalStatus::Pending
                && let Some(after) = decided(&found, decision, by, moment(now))
            {
                answer(rows, &after, by, now).await?;
            }
        }
    }
    Ok(Ok(after))
}

/// Writes an answer down, and lets the job go on that waits for it. One that does not wait yet, or not
/// any more, is looked for by the next tick.
async fn answer(rows: &mut dyn Rows, after: &Approval, by: &str, now: Micros) -> Result<()> {
    let mut kept = row(after)?;
    rows.put_approval(&kept).await?;
    if let Some(job) = after.wanted.job
        && rows.jobs(&[job]).await?.iter().any(waits)
    {
        let approved = after.status == ApprovalStatus::Approved;
        go_on(rows, job, Action::Answer { approved }, by, now).await?;
        kept.awaited = false;
        rows.put_approval(&kept).await?;
    }
    Ok(())
}

async fn go_on(
    rows: &mut dyn Rows,
    job: Uuid,
    action: Action,
    by: &str,
    now: Micros,
) -> Result<()> {
    act(rows, &[job], action, &json!({"by": by}), now)
        .await
        .map(drop)
}

fn waits(row: &Row) -> bool {
    row.status == JobStatus::Paused && row.cause.as_deref() == Some(APPROVAL_NEEDED)
}

/// Somebody answered for a job: so they did for the approval that it waits for.
pub(crate) async fn job_answered(
    rows: &mut dyn Rows,
    job: Uuid,
    approved: bool,
    by: &str,
    now: Micros,
) -> Result<()> {
    let decision = match approved {
        true => Decision::Once,
        false => Decision::Refuse,
    };
    for found in rows.approvals_of_job(job).await? {
        let found = approval(found)?;
        if found.status_at(moment(now)) == ApprovalStatus::Pending
            && let Some(after) = decided(&found, decision, by, moment(now))
        {
            let mut kept = row(&after)?;
            kept.awaited = false;
            rows.put_approval(&kept).await?;
        }
    }
    Ok(())
}

/// A job will not run any more: nobody need answer for it.
pub(crate) async fn withdraw(rows: &mut dyn Rows, job: Uuid, now: Micros) -> Result<()> {
    for mut found in rows.approvals_of_job(job).await? {
        if found.status == ApprovalStatus::Pending {
            found.until = found.until.min(now);
            found.awaited = false;
            rows.put_approval(&found).await?;
        }
    }
    Ok(())
}

/// Lets jobs go on that were answered before they had come to wait, and ends those whose question
/// nobody answered in time.
pub(crate) async fn catch_answers(rows: &mut dyn Rows, most: usize, now: Micros) -> Result<()> {
    for mut found in rows.awaited_approvals(now, most).await? {
        let Some(id) = found.job else { continue };
        let job = rows.jobs(&[id]).await?.pop();
        match job {
            Some(job) if waits(&job) => {
                let by = found.decided_by.as_deref().unwrap_or("somebody");
                let action = match found.status {
                    ApprovalStatus::Pending => Action::Unanswered,
                    status => Action::Answer {
                        approved: status == ApprovalStatus::Approved,
                    },
                };
                // It may have asked anew since.
                if !another_is_awaited(rows, &found).await? {
                    go_on(rows, id, action, by, now).await?;
                }
            }
            // It may come to wait for it.
            Some(job) if !job.status.is_terminal() => continue,
            _ => {}
        }
        found.awaited = false;
        rows.put_approval(&found).await?;
    }
    Ok(())
}

/// Whether a job waits for another approval than this one.
async fn another_is_awaited(rows: &mut dyn Rows, this: &ApprovalRow) -> Result<bool> {
    let Some(job) = this.job else {
        return Ok(false);
    };
    let all = rows.approvals_of_job(job).await?;
    Ok(all.iter().any(|other| other.id != this.id && other.awaited))
}
