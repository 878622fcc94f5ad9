//! What goes wrong, as problem details for HTTP (RFC 9457).

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::execution::{Cause, Failure, HostError, MAX_RETRY_AFTER_MS, Rejection};
use crate::host::{InstallError, LoadError};
use crate::queue::{JobStatus, QueueError};
use crate::serve::token::Unauthorized;
use crate::skill::LibraryError;
use crate::{ExecutionResult, Limits, ResourceUsage, SkillIdentity, Status};

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The kinds of problems: the name in the problem's `type`, the status code, the title.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident => $name:literal, $status:ident, $title:literal;)+) => {
        /// What kind of a problem it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProblemKind {
            $($(#[$doc])* $variant),+
        }

        impl ProblemKind {
            /// Every one of them.
            pub const ALL: &'static [ProblemKind] = &[$(ProblemKind::$variant),+];

            /// The URI that stands for it.
            pub const fn uri(self) -> &'static str {
                match self {
                    $(ProblemKind::$variant => concat!("urn:skillhost:problem:", $name)),+
                }
            }

            /// The status code that goes with it.
            pub const fn status(self) -> StatusCode {
                match self { $(ProblemKind::$variant => StatusCode::$status),+ }
            }

            /// The same for every problem of the kind.
            pub const fn title(self) -> &'static str {
                match self { $(ProblemKind::$variant => $title),+ }
            }
        }
    };
}

kinds! {
    /// A parameter or header does not fit.
    InvalidRequest => "invalid-request", BAD_REQUEST, "The request does not fit";
    /// A token is needed.
    Unauthorized => "unauthorized", UNAUTHORIZED, "A valid token is needed";
    /// The token is not good for this.
    MissingScope => "missing-scope", FORBIDDEN, "The token lacks a scope";
    /// The header `Origin` or `Host` is not one that this server answers.
    ForeignOrigin => "foreign-origin", FORBIDDEN, "Requests from there are not answered";
    /// There is nothing of this name, or it is somebody else's.
    NotFound => "not-found", NOT_FOUND, "There is no such thing";
    /// The method is not one of this resource's.
    MethodNotAllowed => "method-not-allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    /// The request did not come in time.
    RequestTimeout => "request-timeout", REQUEST_TIMEOUT, "The request came too slowly";
    /// It does not go with how things stand.
    Conflict => "conflict", CONFLICT, "It does not go with how things stand";
    /// A request with this idempotency key is going on.
    InProgress => "in-progress", CONFLICT, "A request with this key is going on";
    /// What is after the cursor is not kept any more.
    CursorGone => "cursor-gone", GONE, "What comes after the cursor is no longer kept";
    /// The body is too large.
    TooLarge => "too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The body is of another media type.
    UnsupportedMediaType => "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body is of the wrong type";
    /// The body does not fit.
    InvalidBody => "invalid-body", UNPROCESSABLE_ENTITY, "The body does not fit";
    /// The idempotency key came with another request before.
    KeyReused => "key-reused", UNPROCESSABLE_ENTITY, "The idempotency key was used for another request";
    /// More requests than are allowed.
    TooManyRequests => "too-many-requests", TOO_MANY_REQUESTS, "Too many requests";
    /// The skill cannot be loaded, or is not installed.
    NotLoaded => "not-loaded", NOT_FOUND, "The skill is not there";
    /// What was uploaded is no skill.
    NoSkill => "no-skill", UNPROCESSABLE_ENTITY, "It is no skill that this host can run";
    /// The skill has no such tool.
    UnknownTool => "unknown-tool", UNPROCESSABLE_ENTITY, "The skill has no such tool";
    /// The input does not fit the tool.
    InvalidInput => "invalid-input", UNPROCESSABLE_ENTITY, "The input does not fit the tool";
    /// The skill answered with an error.
    SkillError => "skill-error", UNPROCESSABLE_ENTITY, "The skill answered with an error";
    /// The guest trapped.
    Trap => "trap", UNPROCESSABLE_ENTITY, "The skill trapped";
    /// What the skill answered does not fit what it declares.
    InvalidOutput => "invalid-output", UNPROCESSABLE_ENTITY, "The skill's answer does not fit";
    /// The time was up.
    Timeout => "timeout", UNPROCESSABLE_ENTITY, "The time was up";
    /// It was cancelled.
    Cancelled => "cancelled", CONFLICT, "It was cancelled";
    /// A limit was met.
    ResourceExhausted => "resource-exhausted", UNPROCESSABLE_ENTITY, "A limit was met";
    /// The policy does not admit it.
    Rejected => "rejected", FORBIDDEN, "The policy does not admit it";
    /// Somebody has to approve it first.
    ApprovalNeeded => "approval-needed", FORBIDDEN, "Somebody has to approve it first";
    /// The policy does not admit it now, and will later.
    RejectedForNow => "rejected-for-now", TOO_MANY_REQUESTS, "The policy does not admit it now";
    /// The skill failed too often lately, and is left alone for a while.
    CircuitOpen => "circuit-open", SERVICE_UNAVAILABLE, "The skill failed too often lately";
    /// The server, or what it rests on, cannot serve now.
    Unavailable => "unavailable", SERVICE_UNAVAILABLE, "Not available now";
    /// The server is broken.
    Internal => "internal", INTERNAL_SERVER_ERROR, "The server failed";
}

/// An error, as RFC 9457 has it. `application/problem+json`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of a problem it is: a URI that stands for it.
    #[serde(rename = "type")]
    #[schema(value_type = String, examples("urn:skillhost:problem:not-found"))]
    kind: &'static str,
    /// The same for every problem of the kind.
    #[schema(value_type = String)]
    title: &'static str,
    /// The status code of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened, in a sentence or two, and what to do about it.
    #[schema(value_type = String)]
    detail: Cow<'static, str>,
    /// JSON Pointer (RFC 6901) to the place in the body that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pointer: Option<String>,
    /// When another try may be admitted; `Retry-After` says it in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_at: Option<DateTime<Utc>>,
    /// Why an execution has no output, for programs; what was refused is in its `denials`, each
    /// with what would change it (`remedy`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure: Option<Box<Failure>>,
    /// How an execution ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    execution: Option<Box<Ended>>,
    /// The status of the job that does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    job_status: Option<JobStatus>,
    /// The oldest event that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    oldest: Option<i64>,
    #[serde(skip)]
    header: Option<(HeaderName, HeaderValue)>,
    /// Whether it must not be done once more, whatever it ended of.
    #[serde(skip)]
    once: bool,
}

/// How an execution ended that has no output.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Ended {
    /// The request's id.
    request_id: Uuid,
    /// How it ended.
    status: Status,
    /// The skill that ran.
    #[schema(value_type = Option<SkillIdentity>)]
    skill: Option<std::sync::Arc<SkillIdentity>>,
    /// The tool that ran, or was to run.
    tool: Option<String>,
    /// What it cost.
    usage: ResourceUsage,
    /// The limits that applied.
    limits: Limits,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem {
            kind: kind.uri(),
            title: kind.title(),
            status: kind.status().as_u16(),
            detail: detail.into(),
            pointer: None,
            retry_at: None,
            failure: None,
            execution: None,
            job_status: None,
            oldest: None,
            header: None,
            once: false,
        }
    }

    /// There is no such thing, or it is somebody else's: which of the two is not told.
    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        let name = name.to_string();
        let name = crate::text::shortened(&name, 200);
        Problem::new(
            ProblemKind::NotFound,
            format!("there is no {what} `{name}`"),
        )
    }

    /// Points at what is wrong in the body.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Says within what the place is that is wrong.
    #[must_use]
    pub(super) fn within(mut self, pointer: &str) -> Self {
        let inner = self.pointer.unwrap_or_default();
        self.pointer = Some(format!("{pointer}{inner}"));
        self
    }

    /// Says where the job stands that does not fit.
    #[must_use]
    pub(super) fn job_status(mut self, status: JobStatus) -> Self {
        self.job_status = Some(status);
        self
    }

    /// Says when another try may be admitted.
    #[must_use]
    pub fn retry_at(mut self, at: DateTime<Utc>) -> Self {
        self.retry_at = Some(at);
        self
    }

    /// Says how long to wait before another try.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let wait = chrono::TimeDelta::from_std(wait).unwrap_or_default();
        self.retry_at(Utc::now() + wait)
    }

    /// Adds a header to the answer.
    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Says that what was done must not be done once more.
    #[must_use]
    pub(super) fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Whether something was done, and would end the same another time, or must not be done twice.
    /// Everything else passes by itself, or was refused before anything was done.
    pub(super) fn is_final(&self) -> bool {
        let cause = self.failure.as_deref().map(|failure| &failure.cause);
        self.once
            || match cause {
                Some(Cause::SkillError {
                    retryable,
                    retry_after_ms,
                    ..
                }) => !retryable && retry_after_ms.is_none(),
                Some(cause) => matches!(
                    cause,
                    Cause::Trap { .. }
                        | Cause::InvalidOutput { .. }
                        | Cause::ResourceExhausted { .. }
                ),
                None => false,
            }
    }

    /// Its status code.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut answer = match serde_json::to_vec(&self) {
            Ok(body) => Response::new(Body::from(body)),
            Err(error) => {
                tracing::error!(%error, "a problem cannot be written");
                Response::new(Body::empty())
            }
        };
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(at) = self.retry_at {
            let wait = (at - Utc::now()).num_milliseconds().max(0);
            headers.insert(RETRY_AFTER, HeaderValue::from((wait + 999) / 1_000));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        answer
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let (kind, retry_at) = match &failure.cause {
            Cause::SkillError { .. } => (ProblemKind::SkillError, None),
            Cause::Trap { .. } => (ProblemKind::Trap, None),
            Cause::InvalidInput { .. } => (ProblemKind::InvalidInput, None),
            Cause::UnknownTool { .. } => (ProblemKind::UnknownTool, None),
            Cause::InvalidOutput { .. } => (ProblemKind::InvalidOutput, None),
            Cause::NotLoaded => (ProblemKind::NotLoaded, None),
            Cause::Timeout { .. } => (ProblemKind::Timeout, None),
            Cause::Cancelled { .. } => (ProblemKind::Cancelled, None),
            Cause::Rejected { reason, retry_at } => (
                match reason {
                    Rejection::Approval => ProblemKind::ApprovalNeeded,
                    Rejection::CircuitOpen => ProblemKind::CircuitOpen,
                    reason if reason.is_temporary() || retry_at.is_some() => {
                        ProblemKind::RejectedForNow
                    }
                    _ => ProblemKind::Rejected,
                },
                *retry_at,
            ),
            Cause::ResourceExhausted { .. } => (ProblemKind::ResourceExhausted, None),
            Cause::HostError | Cause::HostPanic => (ProblemKind::Internal, None),
        };
        let detail = match &failure.hint {
            Some(hint) => format!("{}; {hint}", failure.message),
            None => failure.message.clone(),
        };
        let mut problem = Problem::new(kind, detail);
        problem.retry_at = retry_at;
        if let Cause::SkillError {
            retry_after_ms: Some(wait),
            ..
        } = &failure.cause
        {
            // The sum must be a time, whoever executed it.
            problem = problem.retry_after(Duration::from_millis((*wait).min(MAX_RETRY_AFTER_MS)));
        }
        if let Cause::InvalidInput { pointer } = &failure.cause {
            problem.pointer = Some(format!("/input{pointer}"));
        }
        problem.failure = Some(Box::new(failure));
        problem
    }
}

impl Problem {
    /// The problem with an execution that has no output.
    pub fn of_result(result: ExecutionResult) -> Self {
        let failure = result.failure.unwrap_or_else(|| {
            // Every result without an output has one.
            Failure::new(Cause::HostPanic, "the execution ended without a reason")
        });
        let mut problem = Problem::from(failure);
        problem.execution = Some(Box::new(Ended {
            request_id: result.request_id,
            status: result.status,
            skill: result.skill,
            tool: result.tool,
            usage: result.usage,
            limits: result.limits,
        }));
        problem
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Self {
        // It may name files of the host: for the log alone.
        tracing::error!(%error, "the host is broken");
        Problem::new(
            ProblemKind::Internal,
            "the host is broken; its log says why",
        )
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let kind = match &error {
            QueueError::Invalid(_) | QueueError::Retry(_) => ProblemKind::InvalidBody,
            QueueError::NotFound(_) | QueueError::Unknown { .. } => ProblemKind::NotFound,
            QueueError::Conflict { .. } | QueueError::TooMany { .. } => ProblemKind::Conflict,
            QueueError::CursorTooOld { .. } => ProblemKind::CursorGone,
            QueueError::Full(_) | QueueError::Unavailable(_) | QueueError::Closed => {
                tracing::warn!(%error, "the queue cannot be used");
                // It may name the database: for the log alone.
                let detail = "the queue cannot be used now; nothing was changed";
                return Problem::new(ProblemKind::Unavailable, detail)
                    .retry_after(Duration::from_secs(1));
            }
            _ => {
                tracing::error!(%error, "the queue failed");
                let detail = "the queue failed; the server's log says why";
                return Problem::new(ProblemKind::Internal, detail);
            }
        };
        let mut problem = Problem::new(kind, error.to_string());
        match error {
            QueueError::Conflict { status, .. } => problem.job_status = Some(status),
            QueueError::CursorTooOld { oldest, .. } => problem.oldest = Some(oldest),
            _ => {}
        }
        problem
    }
}

impl From<Unauthorized> for Problem {
    fn from(error: Unauthorized) -> Self {
        match error {
            Unauthorized::Unavailable(error) => error.into(),
            error => Problem::new(
                ProblemKind::Unauthorized,
                format!("{error}; send one as `Authorization: Bearer TOKEN`"),
            ),
        }
    }
}

impl From<LibraryError> for Problem {
    fn from(error: LibraryError) -> Self {
        let kind = match &error {
            LibraryError::NotInstalled { .. } => ProblemKind::NotFound,
            LibraryError::Ambiguous { .. } | LibraryError::Occupied { .. } => ProblemKind::Conflict,
            _ => {
                tracing::error!(%error, "the library of skills cannot be used");
                let detail = "the library of skills cannot be used; the server's log says why";
                return Problem::new(ProblemKind::Internal, detail);
            }
        };
        Problem::new(kind, error.to_string())
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Host(error) => error.into(),
            error => Problem::new(ProblemKind::NoSkill, error.to_string()),
        }
    }
}

impl From<InstallError> for Problem {
    fn from(error: InstallError) -> Self {
        match error {
            InstallError::Load(error) => error.into(),
            InstallError::Library(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_will_pass_says_when() {
        let failure = Failure::new(
            Cause::Rejected {
                reason: Rejection::Hook,
                retry_at: Some(Utc::now() + chrono::TimeDelta::seconds(30)),
            },
            "later",
        );
        let answer = Problem::from(failure).into_response();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()[CONTENT_TYPE], PROBLEM_JSON);
        let wait: u64 = answer.headers()[RETRY_AFTER]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((29..=30).contains(&wait));
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: std::collections::HashSet<_> =
            ProblemKind::ALL.iter().map(|kind| kind.uri()).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
    }
}
