//! People step in. Only within serial transactions.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use super::super::error::QueueError;
use super::super::event::JobEventKind;
use super::super::fair::{Head, rank};
use super::super::job::{JobStatus, Priority};
use super::super::outcome::APPROVAL_NEEDED;
use super::super::store::{EventRow, Flags, Rate, Result, Row, Rows, Scope, ScopeKind, Shared};
use super::super::time::Micros;
use super::super::transition::{Trigger, transition};
use super::settle::{ended, place, release};
use super::{absorb, approve, catch_up};

/// What is done to a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action {
    Cancel,
    Pause,
    Resume,
    Answer {
        approved: bool,
    },
    /// Nobody answered.
    Unanswered,
    Snooze {
        until: Micros,
    },
    SetPriority(Priority),
}

impl Action {
    fn wanted(self) -> &'static str {
        match self {
            Action::Cancel => "cancelled",
            Action::Pause => "paused",
            Action::Resume => "resumed",
            Action::Answer { approved: true } => "approved",
            Action::Answer { approved: false } => "refused",
            Action::Unanswered => "given up",
            Action::Snooze { .. } => "put off",
            Action::SetPriority(_) => "given another priority",
        }
    }
}

/// Takes a waiting job out of line.
pub(crate) async fn unplace(rows: &mut dyn Rows, row: &Row) -> Result<()> {
    if !row.status.is_waiting() {
        return Ok(());
    }
    let head = Head {
        rank: rank(row.due, row.priority),
        seq: row.seq,
    };
    // One of both: whether it was put in line depends on when somebody last looked.
    rows.remove_ready(&[(row.lane, head)]).await?;
    rows.remove_later(&[(row.due, row.seq)]).await
}

/// Does something to jobs, each by itself.
pub(crate) async fn act(
    rows: &mut dyn Rows,
    ids: &[Uuid],
    action: Action,
    note: &Value,
    now: Micros,
) -> Result<Vec<Result<JobStatus>>> {
    let mut found: HashMap<Uuid, Row> = rows
        .jobs(ids)
        .await?
        .into_iter()
        .map(|row| (row.id, row))
        .collect();
    // Once nobody else can change them, so that what happened to them before stands before.
    catch_up(rows, now).await?;
    let mut answers = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(row) = found.remove(id) else {
            answers.push(Err(QueueError::NotFound(*id)));
            continue;
        };
        answers.push(act_on(rows, row, action, note, now).await?);
    }
    Ok(answers)
}

async fn act_on(
    rows: &mut dyn Rows,
    mut row: Row,
    action: Action,
    note: &Value,
    now: Micros,
) -> Result<Result<JobStatus>> {
    let trigger = match action {
        Action::Cancel => Trigger::Cancel,
        Action::Pause => Trigger::Pause,
        Action::Resume => Trigger::Resume,
        Action::Answer { approved } => Trigger::Answer { approved },
        Action::Unanswered => Trigger::Unanswered,
        Action::Snooze { until } => Trigger::Snooze { until },
        Action::SetPriority(priority) => {
            return set_priority(rows, row, priority, note, now).await;
        }
    };
    let Ok(change) = transition(&row.standing(), trigger, now) else {
        return Ok(Err(QueueError::Conflict {
            id: row.id,
            status: row.status,
            wanted: action.wanted(),
        }));
    };
    if change.cancel_requested && row.cancel_requested {
        return Ok(Ok(row.status));
    }
    unplace(rows, &row).await?;
    let asked = row.cause.as_deref() == Some(APPROVAL_NEEDED);
    let (from, kind) = (row.status, change.event);
    row.apply(change, now);
    if action == (Action::Answer { approved: true }) {
        row.flags = row.flags.with(Flags::APPROVED, true);
    }
    let mut shared = Shared::default();
    shared.tally.moved(row.lane, Some(from), Some(row.status));
    ended(&row, &mut shared.tally, now);
    if row.status.is_waiting() {
        shared.places.push(place(&row));
    }
    let mut event = super::event(&row, kind, None, now);
    event.data = noted(&event.data, note);
    shared.events.push(event);
    let changed = [row];
    rows.update_jobs(&changed).await?;
    release(rows, &changed, now).await?;
    absorb(rows, shared, now).await?;
    let row = &changed[0];
    match action {
        Action::Answer { approved } => {
            let by = note["by"].as_str().unwrap_or("somebody");
            approve::job_answered(rows, row.id, approved, by, now).await?;
        }
        _ if asked && row.status.is_terminal() => approve::withdraw(rows, row.id, now).await?,
        _ => {}
    }
    Ok(Ok(row.status))
}

/// The data of an event with a note in it: each an object as JSON, or nothing.
fn noted(data: &str, note: &Value) -> String {
    let mut all: serde_json::Map<String, Value> = serde_json::from_str(data).unwrap_or_default();
    if let Value::Object(note) = note {
        all.extend(note.clone());
    }
    match all.is_empty() {
        true => String::new(),
        false => Value::Object(all).to_string(),
    }
}

async fn set_priority(
    rows: &mut dyn Rows,
    mut row: Row,
    priority: Priority,
    note: &Value,
    now: Micros,
) -> Result<Result<JobStatus>> {
    if row.status.is_terminal() {
        return Ok(Err(QueueError::Conflict {
            id: row.id,
            status: row.status,
            wanted: Action::SetPriority(priority).wanted(),
        }));
    }
    if row.priority == priority {
        return Ok(Ok(row.status));
    }
    unplace(rows, &row).await?;
    row.priority = priority;
    row.updated = now;
    let mut shared = Shared::default();
    if row.status.is_waiting() {
        shared.places.push(place(&row));
    }
    shared.events.push(EventRow {
        job: row.id,
        kind: JobEventKind::Reprioritized,
        at: now,
        attempt: None,
        data: noted(&serde_json::json!({"priority": priority}).to_string(), note),
    });
    let changed = [row];
    rows.update_jobs(&changed).await?;
    absorb(rows, shared, now).await?;
    Ok(Ok(changed[0].status))
}

/// Bounds on a queue, tenant or skill. What is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ScopeChange {
    pub paused: Option<bool>,
    /// `Some(None)` takes the bound away.
    pub concurrency: Option<Option<i64>>,
    /// How many in how long; `Some(None)` takes the bound away.
    pub rate: Option<Option<(i64, Micros)>>,
    pub weight: Option<i64>,
}

/// Changes the bounds of a queue, tenant or skill.
pub(crate) async fn set_scope(
    rows: &mut dyn Rows,
    kind: ScopeKind,
    name: &str,
    change: ScopeChange,
    now: Micros,
) -> Result<Scope> {
    catch_up(rows, now).await?;
    let mut scope = rows.scope(kind, name).await?;
    if let Some(paused) = change.paused {
        scope.paused = paused;
    }
    if let Some(concurrency) = change.concurrency {
        scope.concurrency = concurrency;
        // The next claim finds out anew.
        scope.full = false;
    }
    if let Some(rate) = change.rate {
        scope.rate = rate.map(|(count, period)| Rate {
            count,
            period,
            arrival: now,
        });
        scope.closed_until = 0;
    }
    if let Some(weight) = change.weight {
        scope.weight = weight;
    }
    rows.update_scope(&scope).await?;
    if kind == ScopeKind::Tenant {
        rows.close_tenant(scope.id, scope.is_closed(now)).await?;
    }
    Ok(scope)
}

impl Rate {
    /// The time that one start takes of the bucket.
    fn each(&self) -> Micros {
        (self.period / self.count.max(1)).max(1)
    }

    /// When the bucket is empty, as it can be by this clock: it was ahead where that is later.
    fn arrival(&self, now: Micros) -> Micros {
        self.arrival.clamp(now, now.saturating_add(self.period))
    }

    /// How many may start now.
    pub fn room(&self, now: Micros) -> i64 {
        ((now + self.period - self.arrival(now)) / self.each()).clamp(0, self.count)
    }

    /// So many start now.
    pub fn take(&mut self, count: i64, now: Micros) {
        self.arrival = self.arrival(now) + count * self.each();
    }

    /// When the next may start, where none may now.
    pub fn next(&self, now: Micros) -> Micros {
        self.arrival(now) - self.period + self.each()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_a_periods_worth_start_and_then_one_at_a_time() {
        let mut rate = Rate {
            count: 10,
            period: 1_000,
            arrival: 0,
        };
        assert_eq!(rate.room(5_000), 10);
        rate.take(10, 5_000);
        assert_eq!(rate.room(5_000), 0);
        assert_eq!(rate.next(5_000), 5_100);
        assert_eq!(rate.room(5_099), 0);
        assert_eq!(rate.room(5_100), 1);
        assert_eq!(rate.room(5_500), 5);
        assert_eq!(rate.room(9_000), 10);
    }

    #[test]
    fn a_clock_that_was_set_back_costs_no_more_than_a_period() {
        let mut rate = Rate {
            count: 10,
            period: 1_000,
            arrival: 0,
        };
        rate.take(10, 1_000_000);
        assert_eq!(rate.room(5_000), 0);
        assert_eq!(rate.next(5_000), 5_100);
        rate.take(0, 5_000);
        assert_eq!(rate.room(5_500), 5);
        assert_eq!(rate.room(6_000), 10);
    }
}
