//! Results are sent to where they were asked for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::attempt::Attempt;
use super::super::callback::{Callback as Sending, Callbacks, Secret, Verdict};
use super::super::error::QueueError;
use super::super::new_job::{Callback, NewJob};
use super::super::outcome::Outcome;
use super::attempt::{At, Bench, End, RELEASED};
use super::details::Details;

/// Sends callbacks: by which rules, and signed with what.
#[derive(Clone)]
pub struct CallbackSender {
    callbacks: Arc<Callbacks>,
    default: Vec<Secret>,
    named: HashMap<String, Vec<Secret>>,
}

impl CallbackSender {
    /// Sends by these rules, and signs with these secrets: with each, so that one can be changed for
    /// another. Without a secret nothing is sent.
    pub fn new(callbacks: Callbacks, secrets: Vec<Secret>) -> Self {
        CallbackSender {
            callbacks: Arc::new(callbacks),
            default: secrets,
            named: HashMap::new(),
        }
    }

    /// Signs with these where a callback names them.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>, secrets: Vec<Secret>) -> Self {
        self.named.insert(name.into(), secrets);
        self
    }

    fn secrets(&self, name: Option<&str>) -> Option<&[Secret]> {
        let secrets = match name {
            None => &self.default,
            Some(name) => self.named.get(name)?,
        };
        Some(secrets)
            .filter(|secrets| !secrets.is_empty())
            .map(Vec::as_slice)
    }
}

impl fmt::Debug for CallbackSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackSender").finish_non_exhaustive()
    }
}

impl Bench {
    /// Sends what became of a job. `at` tells which attempt at that it is.
    pub(super) async fn call_back(
        &self,
        ended: Uuid,
        tenant: Option<&str>,
        callback: &Callback,
        at: &At,
    ) -> End {
        let Some(sender) = &self.callbacks else {
            return End {
                details: Details::failure(json!({"message": "this worker sends no callbacks"})),
                ..End::new(Outcome::Elsewhere, RELEASED)
            };
        };
        let Some(secrets) = sender.secrets(callback.secret.as_deref()) else {
            let message = match &callback.secret {
                Some(name) => format!("this worker has no secret `{name}` to sign it with"),
                None => "this worker has no secret to sign it with".to_owned(),
            };
            return End {
                details: Details::failure(json!({"message": message})),
                ..End::new(Outcome::Elsewhere, RELEASED)
            };
        };
        let (body, trace, trace_state) = match self.body(ended, tenant).await {
            Ok((body, job)) => (body.to_string(), job.trace, job.trace_state),
            Err(error) => {
                let gone = matches!(error, QueueError::NotFound(_));
                return End::failed(error.to_string(), !gone, None);
            }
        };
        let sending = Sending {
            id: ended,
            url: &callback.url,
            body: body.as_bytes(),
            secrets,
            trace: trace.as_deref(),
            trace_state: trace_state.as_deref(),
        };
        let delivery = sender.callbacks.deliver(sending, self.queue.now()).await;
        let details = Details::default().and("delivery", json!(delivery));
        let end = match delivery.verdict {
            Verdict::Delivered => End {
                result: Some(json!({"output": delivery}).to_string()),
                ..End::new(Outcome::Done(Value::Null), "success")
            },
            Verdict::Retry | Verdict::Stop => {
                let message = delivery.error.clone().unwrap_or_else(|| {
                    let status = delivery
                        .status
                        .map_or(String::new(), |code| code.to_string());
                    format!("it was answered with {status}")
                });
                let again = delivery.verdict == Verdict::Retry;
                let after: Option<Duration> =
                    delivery.delay_before_next(at.attempt, &ended.to_string());
                End::failed(message, again, after)
            }
        };
        End {
            details: details.merged(end.details),
            ..end
        }
    }

    /// What is sent, and what was submitted: that has the trace that it belongs to.
    async fn body(&self, ended: Uuid, tenant: Option<&str>) -> Result<(Value, NewJob), QueueError> {
        let job = self.queue.job(ended).await?;
        // Nobody is told of another's jobs.
        if job.tenant.as_deref() != tenant {
            return Err(QueueError::NotFound(ended));
        }
        let result = self.queue.result(ended).await?;
        let failure = match &result {
            Some(_) => Value::Null,
            None => {
                let attempts = self.queue.attempts(ended).await?;
                let told = attempts.last().and_then(Attempt::told_failure);
                told.unwrap_or_default()
            }
        };
        let body = json!({
            "type": format!("job.{}", job.status),
            "timestamp": job.completed_at,
            "data": {
                "id": job.id,
                "status": job.status,
                "cause": job.cause,
                "attempts": job.attempts,
                "labels": job.submitted.labels,
                "result": result,
                "failure": failure,
            },
        });
        Ok((body, job.submitted))
    }
}
