//! Approvals: asked for, used up, and given. Only within serial transactions, so that one for once is
//! used once, whoever asks.

use serde_json::json;
use uuid::Uuid;

use super::super::error::QueueError;
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
    match step(&found, moment(now)) {
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
        Step::Pending(index) => {
            let mut approval = found.swap_remove(index);
            // Whoever asked first may not wait any more; a job does.
            if approval.wanted.job.is_none() && wanted.job.is_some() {
                approval.wanted.job = wanted.job;
                rows.put_approval(&row(&approval)?).await?;
            }
            Ok(Ok(Answer::Pending(approval)))
        }
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
        found.status = ApprovalStatus::Approved;
        rows.put_approval(&found).await?;
    }
    Ok(())
}

/// Answers; the job that waits for it goes on, or is dead.
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
    rows.put_approval(&row(&after)?).await?;
    if let Some(job) = after.wanted.job {
        go_on(rows, job, decision != Decision::Refuse, by, now).await?;
    }
    Ok(Ok(after))
}

/// Answers for a job, where it waits for that.
async fn go_on(
    rows: &mut dyn Rows,
    job: Uuid,
    approved: bool,
    by: &str,
    now: Micros,
) -> Result<()> {
    let waits = rows.jobs(&[job]).await?.iter().any(waits);
    if waits {
        act(
            rows,
            &[job],
            Action::Answer { approved },
            &json!({"by": by}),
            now,
        )
        .await?;
    }
    Ok(())
}

fn waits(row: &Row) -> bool {
    row.cause.as_deref() == Some(APPROVAL_NEEDED)
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
            rows.put_approval(&row(&after)?).await?;
        }
    }
    Ok(())
}

/// A job will not run any more: nobody need answer for it.
pub(crate) async fn withdraw(rows: &mut dyn Rows, job: Uuid, now: Micros) -> Result<()> {
    for mut found in rows.approvals_of_job(job).await? {
        if found.status == ApprovalStatus::Pending {
            found.until = found.until.min(now);
            rows.put_approval(&found).await?;
        }
    }
    Ok(())
}

/// Lets jobs go on that were answered before they had come to wait.
pub(crate) async fn catch_answers(rows: &mut dyn Rows, most: usize, now: Micros) -> Result<()> {
    for (job, approved) in rows.answered_jobs(most).await? {
        go_on(rows, job, approved, "somebody", now).await?;
    }
    Ok(())
}
