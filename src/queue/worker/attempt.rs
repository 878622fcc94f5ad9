//! One attempt, from a claim to its end.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::engine::claim::ClaimedRow;
use super::super::engine::lease::mark_destructive;
use super::super::engine::settle::Ending;
use super::super::handle::Queue;
use super::super::job::{Maintenance, Work};
use super::super::new_job::NewJob;
use super::super::outcome::{HOST_ERROR, HOST_UNAVAILABLE, NO_HOST, NOT_MARKED, Outcome, SHUTDOWN};
use super::super::prepare::MAX_DEPTH;
use super::super::retry::{Retry, RetryPolicy};
use super::super::store::{Flags, Row};
use super::callback::CallbackSender;
use super::details::Details;
use super::handler::{Handler, HandlerFailure, Task};
use super::heard::{Heard, observer};
use super::reports::{Reports, Whose};
use crate::execution::is_much_with;
use crate::skill::depth;
use crate::turns::Party;
use crate::turns::aside::aside_if;
use crate::{Attachment, Cause, Control, Execute, ExecutionRequest, ExecutionResult, HostError};

/// So many bytes of JSON are read in some tenths of a millisecond.
const LARGE: usize = 64 << 10;

/// What attempts have in common.
pub(super) struct Bench {
    pub queue: Queue,
    pub execute: Option<Arc<dyn Execute>>,
    pub handlers: HashMap<String, Arc<dyn Handler>>,
    pub callbacks: Option<CallbackSender>,
    /// Cancelled when the worker has waited long enough.
    pub interrupted: CancellationToken,
    pub reports: Reports,
}

/// How an attempt ended that was given back.
pub(super) const RELEASED: &str = "released";

/// How an attempt ended, and whether the host is broken.
pub(super) struct Performed {
    pub ending: Ending,
    pub broken: Option<String>,
    /// Its skill, or the name of its handler, and its tool, where that is known.
    pub skill: String,
    pub tool: Option<String>,
}

/// What is said of how an attempt ended.
pub(super) struct End {
    pub outcome: Outcome,
    pub status: &'static str,
    pub details: Details,
    pub result: Option<String>,
    pub broken: Option<String>,
}

impl End {
    pub fn new(outcome: Outcome, status: &'static str) -> Self {
        End {
            outcome,
            status,
            details: Details::default(),
            result: None,
            broken: None,
        }
    }

    pub fn failed(message: impl Into<String>, retryable: bool, after: Option<Duration>) -> Self {
        let message = message.into();
        let details = Details::failure(json!({"message": message}));
        let outcome = Outcome::Failed {
            message,
            retryable,
            retry_after_ms: after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        };
        End {
            details,
            ..End::new(outcome, "failed")
        }
    }

    fn released(cause: &'static str) -> Self {
        End {
            details: Details::failure(json!({"message": format!("given back: {cause}")})),
            ..End::new(Outcome::Released { cause }, RELEASED)
        }
    }
}

impl Bench {
    /// Does what was claimed.
    pub async fn perform(
        self: Arc<Self>,
        claimed: ClaimedRow,
        worker: Uuid,
        token: CancellationToken,
    ) -> Performed {
        let ClaimedRow { row, body, waited } = claimed;
        let job = pin!(read(&row, &body.submitted)).await;
        let (skill, tool) = match &job {
            Ok(job) => (job.skill(), job.work.tool().map(str::to_owned)),
            Err(_) => <_>::default(),
        };
        let retry: Result<Retry, _> = serde_json::from_str(&body.retry);
        let (end, retry) = match (job, retry) {
            (Ok(job), Ok(retry)) => {
                let at = At {
                    seq: row.seq,
                    fence: row.fence,
                    worker,
                    attempt: row.attempts + 1,
                    waited: Duration::from_micros(waited.max(0).unsigned_abs()),
                    approved: row.flags.has(Flags::APPROVED),
                    may_repeat: retry.policy.destructive,
                    to_mark: !retry.policy.destructive && !row.flags.has(Flags::DESTRUCTIVE),
                };
                // Pinned where it is made, as awaiting it would move it, and it is large.
                let mut end = pin!(self.work(job, &at, token)).await;
                if row.flags.has(Flags::FORGET) {
                    end.result = None;
                }
                (end, retry)
            }
            (Err(error), _) | (_, Err(error)) => {
                let end = End::failed(format!("the job cannot be read: {error}"), false, None);
                (end, Retry::plan(RetryPolicy::default(), 0))
            }
        };
        let end = self.bounded(end);
        Performed {
            ending: Ending {
                job: row.id,
                seq: row.seq,
                fence: row.fence,
                worker,
                outcome: Arc::new(end.outcome),
                retry: Arc::new(retry),
                status: end.status,
                details: end.details.text(),
                result: end.result.map(Arc::from),
            },
            broken: end.broken,
            skill,
            tool,
        }
    }

    /// A result that is too large to be kept is none. What did not succeed has none to be kept.
    fn bounded(&self, end: End) -> End {
        let allowed = self.queue.max_result_bytes();
        match &end.result {
            Some(result) if result.len() > allowed && end.outcome.is_success() => {
                let bytes = result.len();
                let message =
                    format!("its result has {bytes} bytes as JSON; {allowed} are allowed");
                End {
                    outcome: Outcome::TooLarge,
                    status: "failed",
                    details: end.details.and("failure", json!({"message": message})),
                    result: None,
                    broken: end.broken,
                }
            }
            _ => end,
        }
    }

    async fn work(&self, mut job: NewJob, at: &At, token: CancellationToken) -> End {
        let tenant = job.tenant.clone();
        // Moved out rather than cloned: inputs can be large.
        let taken = Work::Maintenance {
            task: Maintenance::Rescue,
        };
        let end = match std::mem::replace(&mut job.work, taken) {
            Work::Execution { request } => pin!(self.execute(request, &mut job, at, token)).await,
            Work::Custom { name, payload } => {
                pin!(self.handle(&name, payload, &mut job, at, token)).await
            }
            Work::Maintenance { task } => {
                tokio::select! {
                    end = self.maintain(&task) => end,
                    // What was done of it stays done, and the rest waits for the next time.
                    () = token.cancelled() => End::new(Outcome::Cancelled, "cancelled"),
                }
            }
            Work::Callback { job, callback } => {
                // It is seldom, and large.
                let sending = Box::pin(self.call_back(job, tenant.as_deref(), &callback, at));
                tokio::select! {
                    end = sending => end,
                    // Whether it arrived is not known: it may come twice, under one id.
                    () = token.cancelled() => End::new(Outcome::Cancelled, "cancelled"),
                }
            }
        };
        let ended_well = matches!(end.outcome, Outcome::Done(_));
        if !self.interrupted.is_cancelled() || ended_well || !was_cut(&end.outcome) {
            return end;
        }
        match &end.outcome {
            // Nobody knows how much of it was done.
            Outcome::Executed {
                result,
                destructive: true,
            } if !result.usage.wall_time.is_zero() => End {
                outcome: Outcome::CutShort,
                ..end
            },
            // It is given back, and what ran is told all the same.
            _ => {
                let released = End::released(SHUTDOWN);
                End {
                    details: end.details.merged(released.details),
                    ..released
                }
            }
        }
    }

    async fn execute(
        &self,
        mut request: Box<ExecutionRequest>,
        job: &mut NewJob,
        at: &At,
        token: CancellationToken,
    ) -> End {
        let Some(execute) = &self.execute else {
            return End::released(NO_HOST);
        };
        let tenant = job.tenant.take();
        request.tenant.clone_from(&tenant);
        request.user = job.user.take();
        request.attempt = at.attempt;
        request.queue_wait = at.waited;
        request.deadline = job.deadline;
        let heard = Arc::new(Heard::default());
        let mut control = Control::default()
            .cancellation(token.clone())
            .observer(observer(&self.reports, at.whose(), Arc::clone(&heard)))
            .approved(at.approved)
            .job(job.id);
        control.caller = job.caller.take().map(Into::into);
        let mut asked = ExecutionRequest::new(request.skill.clone(), Value::Null);
        asked.tool.clone_from(&request.tool);
        if at.to_mark {
            // A skill that is not loaded yet cannot say so. Loading one may take long.
            let ready = tokio::select! {
                ready = execute.ready(&asked) => ready,
                () = token.cancelled() => return End::new(Outcome::Cancelled, "cancelled"),
            };
            // It may be there a moment later, and then would run without its mark.
            match ready {
                Ok(()) => {}
                Err(failure) if failure.cause == Cause::HostError => {
                    return End {
                        details: Details::failure(json!(failure)),
                        broken: Some(failure.message),
                        ..End::released(HOST_ERROR)
                    };
                }
                Err(failure) => return executed(control.refuse(*request, None, failure), false),
            }
            if execute.is_destructive(&asked) && !self.mark(at).await {
                return End::released(NOT_MARKED);
            }
        }
        match execute.execute(*request, control).await {
            Ok(result) => {
                // Asked afterwards, and of what ran: before, the skill need not be loaded.
                if let Some(skill) = &result.skill {
                    asked.skill = skill.digest.into();
                }
                let destructive = result.failure.is_some() && execute.is_destructive(&asked);
                let mut end = pin!(ended(result, destructive, tenant.as_deref())).await;
                if let Some(grants) = heard.take_grants() {
                    end.details = end.details.and("grants", grants);
                }
                end
            }
            Err(error) => {
                let message = error.to_string();
                // Other jobs need none of it.
                let is_for_all = !matches!(error, HostError::Unavailable { .. });
                if !is_for_all {
                    tracing::error!("job {}: {message}", job.id);
                }
                let began = heard.what_began(&asked.skill);
                let began = began.map(|skill| asked.skill = skill);
                let end = match is_for_all {
                    // Nobody knows how much of it was done.
                    _ if !at.may_repeat && began.is_some() && execute.is_destructive(&asked) => {
                        End::new(Outcome::CutShort, "failed")
                    }
                    true => End::released(HOST_ERROR),
                    false => End::released(HOST_UNAVAILABLE),
                };
                End {
                    details: Details::failure(json!({"fault": "host", "message": message})),
                    broken: is_for_all.then_some(message),
                    ..end
                }
            }
        }
    }

    /// Writes down that an attempt begins that must not be repeated, so that this is known when this
    /// worker dies. False where that could not be written, or the attempt is not ours any more.
    async fn mark(&self, at: &At) -> bool {
        let (seq, fence, worker) = (at.seq, at.fence, at.worker);
        let marked = self
            .queue
            .write(move |rows, _| {
                Box::pin(async move { mark_destructive(rows, seq, fence, worker).await })
            })
            .await;
        marked.unwrap_or_else(|error| {
            tracing::warn!(%error, "an attempt could not be marked as destructive");
            false
        })
    }

    async fn handle(
        &self,
        name: &str,
        payload: Value,
        job: &mut NewJob,
        at: &At,
        token: CancellationToken,
    ) -> End {
        let Some(handler) = self.handlers.get(name) else {
            return End {
                details: Details::failure(json!({
                    "message": format!("this worker has no handler `{name}`"),
                })),
                ..End::new(Outcome::Elsewhere, RELEASED)
            };
        };
        let task = Task {
            job: job.id,
            payload,
            attempt: at.attempt,
            tenant: job.tenant.take(),
            deadline: job.deadline,
            cancellation: token.clone(),
            report: self.reporter(at),
        };
        // On a task of its own: a handler that panics ends no more than its attempt.
        let mut doing = tokio::spawn(handler.handle(task));
        let done = tokio::select! {
            done = &mut doing => done,
            () = token.cancelled() => {
                // It was told, too, and may finish what it holds.
                match tokio::time::timeout(HANDLER_GRACE, &mut doing).await {
                    Ok(done) => done,
                    Err(_) => {
                        doing.abort();
                        return End::new(Outcome::Cancelled, "cancelled");
                    }
                }
            }
        };
        match done {
            Ok(Ok(output)) if depth(&output) > MAX_DEPTH => {
                let message = format!("its output is nested more than {MAX_DEPTH} levels deep");
                End::failed(message, false, None)
            }
            Ok(Ok(output)) => End {
                result: Some(json!({"output": output}).to_string()),
                ..End::new(Outcome::Done(output), "success")
            },
            Ok(Err(_)) if token.is_cancelled() => End::new(Outcome::Cancelled, "cancelled"),
            Ok(Err(HandlerFailure::Failed {
                message,
                retryable,
                retry_after,
            })) => End::failed(message, retryable, retry_after),
            Ok(Err(HandlerFailure::Snooze(after))) => {
                let until = chrono::Duration::from_std(after)
                    .ok()
                    .and_then(|after| self.queue.now().checked_add_signed(after))
                    .unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC);
                End::new(Outcome::Snoozed { until }, "snoozed")
            }
            Err(error) if error.is_panic() => End::failed("the handler panicked", true, None),
            Err(_) => End::released(SHUTDOWN),
        }
    }

    async fn maintain(&self, task: &Maintenance) -> End {
        match self.queue.maintain(task).await {
            Ok(done) => End {
                result: Some(json!({"output": done}).to_string()),
                ..End::new(Outcome::Done(done), "success")
            },
            Err(error) => End::failed(error.to_string(), true, None),
        }
    }

    /// Takes what a job says on its way.
    fn reporter(&self, at: &At) -> Arc<dyn Fn(Value) + Send + Sync> {
        let (reports, whose) = (self.reports.clone(), at.whose());
        Arc::new(move |progress: Value| reports.progress(whose, progress))
    }
}

/// The job of a row. One that is large is read where it holds up nobody.
async fn read(row: &Row, submitted: &Arc<str>) -> serde_json::Result<NewJob> {
    // Those of a tenant and a skill stand in one lane.
    let party = || Party::of(None, &format!("lane {}", row.lane));
    let is_large = submitted.len() > LARGE;
    let read = |submitted: Arc<str>| serde_json::from_str(&submitted);
    aside_if(is_large, party, Arc::clone(submitted), read).await
}

/// As [`executed`], where it holds up nobody if it is large.
async fn ended(result: ExecutionResult, destructive: bool, tenant: Option<&str>) -> End {
    let is_much = is_much_with(result.output.as_ref(), &result.attachments);
    let skill = result.skill.clone();
    let skill = skill.as_ref().map_or("", |skill| &*skill.name);
    let party = || Party::of(tenant, skill);
    let write = move |result| executed(result, destructive);
    aside_if(is_much, party, result, write).await
}

/// How long a handler that was cancelled may take to end.
const HANDLER_GRACE: Duration = Duration::from_secs(5);

/// Where an attempt stands.
pub(super) struct At {
    seq: i64,
    fence: i64,
    worker: Uuid,
    pub attempt: u32,
    waited: Duration,
    /// Whether a tool that is destructive may be tried again.
    may_repeat: bool,
    /// Whether it matters if its tool is destructive, and nobody has written that down yet.
    to_mark: bool,
    /// Whether somebody said that it may run.
    approved: bool,
}

impl At {
    fn whose(&self) -> Whose {
        Whose {
            seq: self.seq,
            fence: self.fence,
            worker: self.worker,
        }
    }
}

/// Whether an outcome says no more than that somebody cut it short.
fn was_cut(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Cancelled => true,
        Outcome::Executed { result, .. } => result
            .failure
            .as_ref()
            .is_some_and(|failure| matches!(failure.cause, Cause::Cancelled { .. })),
        _ => false,
    }
}

/// What a guest nested so deep that it could not be read back is kept as its text.
fn flatten(value: &mut Value) {
    if depth(value) > MAX_DEPTH {
        *value = Value::String(value.to_string());
    }
}

fn executed(mut result: ExecutionResult, destructive: bool) -> End {
    if let Some(output) = &mut result.output {
        flatten(output);
    }
    if let Some(Cause::SkillError {
        details: Some(details),
        ..
    }) = result.failure.as_mut().map(|failure| &mut failure.cause)
    {
        flatten(details);
    }
    let mut details = Details::of(&result);
    if let Some(failure) = &result.failure {
        // All that it takes to understand it later.
        let stderr = crate::text::shortened(&result.stderr, 4_096);
        details = details
            .and("failure", json!(failure))
            .and("limits", json!(result.limits))
            .and("stderr", json!(stderr));
    }
    if !result.clamped.is_empty() {
        details = details.and("clamped", json!(result.clamped));
    }
    let status = result.status.as_str();
    let kept = serde_json::to_string(&result).ok();
    let outcome = Outcome::Executed {
        result: Box::new(ExecutionResult {
            // Written down already, and of any size.
            output: None,
            attachments: Vec::<Attachment>::new(),
            ..result
        }),
        destructive,
    };
    End {
        details,
        result: kept,
        ..End::new(outcome, status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::Clamped;
    use crate::{Failure, Limit, Limits};

    #[test]
    fn the_record_says_which_limits_were_clamped() {
        let failure = Failure::new(Cause::NotLoaded, "there is none");
        let request = ExecutionRequest::new("some", Value::Null);
        let mut result = Control::default().refuse(request, None, failure);
        result.limits = Limits::default();
        let clamped = Clamped {
            limit: Limit::Fuel,
            asked: 2,
            allowed: 1,
            rule: Clamped::BY_HOST.to_owned(),
        };
        let details = |result| executed(result, false).details;
        assert_eq!(details(result.clone()).get("clamped"), None);
        result.clamped = vec![clamped.clone()];
        let clamped = json!([clamped]);
        assert_eq!(details(result).get("clamped"), Some(&clamped));
    }
}
