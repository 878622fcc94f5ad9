//! Long work, as tasks of the protocol that are jobs in the queue, and so survive a restart.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rmcp::ErrorData;
use rmcp::model::{
    CallToolResult, CreateTaskResult, DetailedTask, ElicitRequest, GetTaskResult, InputRequest,
    InputResponses, Task, TaskPayload, TaskStatus,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::Inner;
use super::approval::{self, Asked, Subject};
use super::content::{self, Answer};
use super::kept::Owner;
use crate::audit::AuditSink;
use crate::execution::{BoxFuture, SkillIdentity};
use crate::queue::{AnswerError, Answers, Job, JobStatus, NewJob, Queue, QueueError, Work};
use crate::serve::{Caller, Scope};
use crate::text::{printable, shortened};
use crate::{ExecutionRequest, Failure};

/// The queue that jobs of this door stand in.
pub const TASK_QUEUE: &str = "mcp";
/// The label by which they are known.
const LABEL: &str = "skillhost/door";
/// How often a client should ask how a task stands.
const POLL: Duration = Duration::from_secs(1);
/// How long what became of a task is kept: as long as a queue keeps it by itself.
const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// The trace that a call belongs to, as headers of W3C Trace Context.
pub(super) struct Traced {
    pub parent: String,
    pub state: Option<String>,
}

type Open = Arc<dyn Fn() -> BoxFuture<'static, Result<Queue, String>> + Send + Sync>;

/// The queue that carries tasks, and where it is opened when the first task comes. Workers that take
/// jobs of [`TASK_QUEUE`] do them.
#[derive(Clone)]
pub struct Tasks {
    open: Open,
    queue: Arc<OnceCell<Queue>>,
    audit: Option<(Arc<dyn AuditSink>, bool)>,
}

impl Tasks {
    /// Tasks in a queue that is open.
    pub fn new(queue: Queue) -> Self {
        let opened = queue.clone();
        let tasks = Tasks::when_needed(move || {
            let queue = queue.clone();
            Box::pin(async move { Ok(queue) })
        });
        Tasks {
            queue: Arc::new(OnceCell::new_with(Some(opened))),
            ..tasks
        }
    }

    /// Tasks in a queue that is opened when the first client comes that knows tasks. The same place is
    /// where to start a worker.
    pub fn when_needed(
        open: impl Fn() -> BoxFuture<'static, Result<Queue, String>> + Send + Sync + 'static,
    ) -> Self {
        Tasks {
            open: Arc::new(open),
            queue: Arc::default(),
            audit: None,
        }
    }

    /// Writes answers to the questions of tasks down here. Where it is `required`, nothing is answered
    /// that cannot be.
    #[must_use]
    pub fn audit(mut self, audit: Arc<dyn AuditSink>, required: bool) -> Self {
        self.audit = Some((audit, required));
        self
    }

    fn answers(&self, queue: &Queue) -> Answers {
        let answers = Answers::new(queue.clone());
        match &self.audit {
            Some((audit, required)) => answers.audit(Arc::clone(audit), *required),
            None => answers,
        }
    }

    /// The queue, where it is open already.
    #[cfg(feature = "serve")]
    pub(super) fn opened(&self) -> Option<&Queue> {
        self.queue.get()
    }

    /// The queue.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(super) async fn queue(&self) -> Result<&Queue, String> {
        self.queue.get_or_try_init(|| (self.open)()).await
    }

    /// Submits a call of a tool of the skill of this name as a task.
    ///
    /// # Errors
    /// Why it is not submitted, for whoever called.
    pub(super) async fn submit(
        &self,
        skill: &str,
        request: ExecutionRequest,
        caller: &Caller,
        trace: Option<Traced>,
    ) -> Result<CreateTaskResult, String> {
        let refused = |error: QueueError| format!("the task cannot be submitted: {error}");
        let queue = self.queue().await?;
        let mut job = NewJob::execution(request)
            .queue(TASK_QUEUE)
            .label(LABEL, "mcp")
            .caller(caller.name());
        if let Some(Traced { parent, state }) = trace {
            (job.trace, job.trace_state) = (Some(parent), state);
        }
        // The request has its digest alone.
        job.skill = Some(skill.to_owned());
        if let Some(tenant) = caller.tenant() {
            job = job.tenant(tenant);
        }
        let submitted = queue.submit(job).await.map_err(refused)?;
        let now = time(queue.now());
        let task = Task::new(
            submitted.id.to_string(),
            TaskStatus::Working,
            now.clone(),
            now,
        );
        Ok(CreateTaskResult::new(bounded(task)))
    }

    /// A job that is a task of this caller's.
    async fn job(&self, id: &str, caller: &Caller) -> Result<(&Queue, Job), ErrorData> {
        let unknown = || {
            let id = shortened(id, 100);
            ErrorData::invalid_params(
                format!("there is no task `{}`", printable(&id, false)),
                None,
            )
        };
        let id = Uuid::try_parse(id).map_err(|_| unknown())?;
        let queue = self.queue().await.map_err(internal)?;
        let job = match queue.job(id).await {
            Ok(job) => job,
            Err(QueueError::NotFound(_)) => return Err(unknown()),
            Err(error) => return Err(internal(error)),
        };
        // Somebody else's is answered as one that is not there.
        let own = job.submitted.labels.contains_key(LABEL)
            && job.tenant.as_deref() == caller.tenant()
            && caller.scopes.has(Scope::Execute);
        if !own {
            return Err(unknown());
        }
        Ok((queue, job))
    }

    /// How a task stands.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) async fn get(
        &self,
        server: &Inner,
        owner: &Owner,
        id: &str,
        caller: &Caller,
    ) -> Result<GetTaskResult, ErrorData> {
        let (queue, job) = self.job(id, caller).await?;
        let task = Task::new(
            job.id.to_string(),
            TaskStatus::Working,
            time(job.created_at),
            time(job.updated_at),
        );
        let mut task = bounded(task);
        let payload = match job.status {
            JobStatus::Completed => completed(server, owner, queue, &job).await?,
            JobStatus::Dead => TaskPayload::Completed {
                result: object(&died(queue, &job).await)?,
            },
            JobStatus::Cancelled => TaskPayload::Cancelled,
            JobStatus::Paused if job.waits_for_approval() => TaskPayload::InputRequired {
                input_requests: [(
                    approval::QUESTION.to_owned(),
                    question(server, queue, &job).await?,
                )]
                .into(),
            },
            JobStatus::Pending | JobStatus::Running | JobStatus::Failed | JobStatus::Paused => {
                let progress = queue.progress(job.id).await.map_err(internal)?;
                if let Some(message) = message(&job, progress.as_ref()) {
                    task = task.with_status_message(message);
                }
                TaskPayload::Working
            }
        };
        Ok(GetTaskResult::new(DetailedTask::new(task, payload)))
    }

    /// Takes the answer to a task's question.
    ///
    /// # Errors
    /// Where there is no such task, or the answer cannot be understood.
    pub(super) async fn update(
        &self,
        id: &str,
        answers: &InputResponses,
        caller: &Caller,
    ) -> Result<(), ErrorData> {
        let (queue, job) = self.job(id, caller).await?;
        if !job.waits_for_approval() {
            let message = "the task waits for no answer";
            return Err(ErrorData::invalid_params(message, None));
        }
        if !caller.scopes.has(Scope::Approve) {
            let message = "this token may not approve: it lacks the scope `approve`";
            return Err(ErrorData::invalid_params(message, None));
        }
        let approved = match approval::answered(answers.get(approval::QUESTION))? {
            Asked::Approved => true,
            Asked::Declined => false,
            // Whoever put the question away has not answered it: it is there for the next who asks.
            Asked::Unanswered | Asked::First(_) => return Ok(()),
        };
        let by = caller.name();
        let answers = self.answers(queue).caller(by.as_str());
        match answers.answer(&[job.id], approved, &by).await {
            Ok(answered) => acted(Ok(answered)),
            Err(AnswerError::Queue(error)) => acted(Err(error)),
            Err(AnswerError::Approval(error)) => {
                tracing::error!(%error, "a task cannot be answered for");
                Err(ErrorData::internal_error(error.to_string(), None))
            }
        }
    }

    /// Stops a task. One that has ended stays as it is.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) async fn cancel(&self, id: &str, caller: &Caller) -> Result<(), ErrorData> {
        let (queue, job) = self.job(id, caller).await?;
        if job.is_terminal() {
            return Ok(());
        }
        acted(queue.cancel(&[job.id]).await)
    }
}

fn acted(answers: Result<Vec<Result<JobStatus, QueueError>>, QueueError>) -> Result<(), ErrorData> {
    let first = answers.map_err(internal)?.into_iter().next();
    match first {
        // It may have ended meanwhile, which whoever asks next will see.
        Some(Err(error)) => {
            tracing::debug!("a task was not changed: {error}");
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn question(server: &Inner, queue: &Queue, job: &Job) -> Result<InputRequest, ErrorData> {
    // What was rejected for the approval says exactly what it is for.
    let attempts = queue.attempts(job.id).await.map_err(internal)?;
    let details = attempts.last().map(|attempt| &attempt.details);
    let skill = details.and_then(|details| {
        serde_json::from_value::<SkillIdentity>(details.get("skill")?.clone()).ok()
    });
    let resolved = skill.as_ref().and_then(|skill| {
        let mut asked = ExecutionRequest::new(skill.digest, Value::Null);
        asked.tool.clone_from(&job.tool);
        server.execute.resolve(&asked).ok()
    });
    let question = approval::question_about(&Subject {
        name: job.skill.as_deref().unwrap_or_default(),
        skill: skill.as_ref(),
        tool: job.tool.as_deref().unwrap_or_default(),
        // What is not known is taken as the more dangerous case.
        is_destructive: resolved.is_none_or(|found| found.tool().annotations.destructive),
        rule: details.and_then(|details| details.pointer("/failure/rule")?.as_str()),
        tenant: job.tenant.as_deref(),
        request: match &job.submitted.work {
            Work::Execution { request } => Some(request),
            _ => None,
        },
    })?;
    Ok(InputRequest::Elicitation(ElicitRequest::new(question)))
}

async fn completed(
    server: &Inner,
    owner: &Owner,
    queue: &Queue,
    job: &Job,
) -> Result<TaskPayload, ErrorData> {
    let result = queue.result(job.id).await.map_err(internal)?;
    let answer = match result.map(serde_json::from_value::<crate::ExecutionResult>) {
        Some(Ok(result)) => {
            let promised = promised(server, job);
            Answer {
                settings: &server.settings,
                kept: &server.kept,
                owner,
                id: job.id,
                promised,
                // Whoever knows tasks does.
                takes_any: true,
            }
            .of(result)
        }
        Some(Err(error)) => return Err(internal(error)),
        None => content::error("it has completed, and its result is not kept any more"),
    };
    Ok(TaskPayload::Completed {
        result: object(&answer)?,
    })
}

/// Whether the tool promises a structured answer, as far as that is known now.
fn promised(server: &Inner, job: &Job) -> bool {
    let Work::Execution { request } = &job.submitted.work else {
        return false;
    };
    match server.execute.resolve(request) {
        Ok(resolution) => resolution.tool().output_schema.is_some(),
        // To be on the safe side, what may have been promised is kept.
        Err(_) => true,
    }
}

/// What is said of a task that will not be tried again.
async fn died(queue: &Queue, job: &Job) -> CallToolResult {
    match job.cause.as_deref() {
        Some("approval_refused") => return content::error("whoever was asked did not approve it"),
        Some("approval_expired") => {
            return content::error("nobody answered in time whether it may run");
        }
        _ => {}
    }
    let attempts = queue.attempts(job.id).await.unwrap_or_default();
    let failure = attempts.last().and_then(|attempt| {
        let failure = attempt.told_failure()?;
        serde_json::from_value::<Failure>(failure).ok()
    });
    match failure {
        Some(failure) => content::failed(&failure, Utc::now()),
        None => {
            let cause = job.cause.as_deref().unwrap_or("unknown");
            content::error(format!(
                "it was not done; the cause: {}",
                printable(cause, false)
            ))
        }
    }
}

fn message(job: &Job, progress: Option<&Value>) -> Option<String> {
    let step = progress.and_then(|progress| {
        let step = progress.get("step")?.as_str()?;
        let percent = progress.get("percent").and_then(Value::as_f64);
        Some(match percent {
            Some(percent) => format!("{percent:.0} %: {step}"),
            None => step.to_owned(),
        })
    });
    let message = match (job.status, step) {
        (JobStatus::Running, Some(step)) => step,
        (JobStatus::Failed, _) => {
            let cause = job.cause.as_deref().unwrap_or("a failure");
            format!("to be tried again after {cause}")
        }
        (JobStatus::Paused, _) => "paused by somebody".to_owned(),
        (JobStatus::Pending, _) => "waiting for a worker".to_owned(),
        _ => return None,
    };
    Some(printable(&shortened(&message, 500), false).into_owned())
}

fn bounded(task: Task) -> Task {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    task.with_ttl_ms(milliseconds(KEPT))
        .with_poll_interval_ms(milliseconds(POLL))
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn object(answer: &CallToolResult) -> Result<rmcp::model::JsonObject, ErrorData> {
    match json!(answer) {
        Value::Object(object) => Ok(object),
        _ => Err(internal("an answer is no object")),
    }
}

fn internal(error: impl std::fmt::Display) -> ErrorData {
    tracing::error!("tasks: {error}");
    ErrorData::internal_error("the queue cannot be used", None)
}
