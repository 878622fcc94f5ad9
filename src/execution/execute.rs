//! Whatever runs requests.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{ExecutionRequest, ExecutionResult, Failure, Observer, SkillIdentity};
use crate::grant::{Denial, Grants};
use crate::limits::Limits;

/// How a caller holds on to a running execution.
#[derive(Clone, Default)]
pub struct Control {
    /// Cancels the execution. Dropping its future does so as well, but then there is no result.
    pub cancellation: Option<CancellationToken>,
    /// Gets this execution's events, beside the host's own observer.
    pub observer: Option<Arc<dyn Observer>>,
    /// Whether somebody approved this very request, after it had been
    /// [rejected](crate::execution::Rejection::Approval) for want of that. The host itself asks
    /// nobody; this is for what wraps it.
    pub approved: bool,
}

impl Control {
    /// Cancels with this token.
    #[must_use]
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.cancellation = Some(token);
        self
    }

    /// Says that somebody approved this very request.
    #[must_use]
    pub fn approved(mut self, approved: bool) -> Self {
        self.approved = approved;
        self
    }

    /// Sends events here.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("cancellation", &self.cancellation.is_some())
            .field("observer", &self.observer.is_some())
            .field("approved", &self.approved)
            .finish()
    }
}

/// The host itself is broken: the request may be fine, and nothing can be said about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The WebAssembly engine could not be set up.
    #[error("the WebAssembly engine cannot be set up: {0}")]
    Engine(String),
    /// A certificate that was to be trusted is none.
    #[error("a certificate cannot be added: {0}")]
    Certificate(String),
    /// A folder or file of the host's own could not be used.
    #[error("{what} `{path}`: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file or folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something that cannot be, was.
    #[error("internal error: {0}")]
    Internal(String),
}

/// A boxed future, as trait objects need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whatever runs requests: the host, and everything that wraps it.
pub trait Execute: Send + Sync {
    /// Runs one request. A result of any status carries the usage up to its end.
    ///
    /// Dropping the future stops the guest; the observer still gets [`Event::Finished`](super::Event::Finished).
    ///
    /// # Errors
    /// Only where the host itself is broken.
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>>;

    /// Whether the tool that the request names is marked destructive and not idempotent by its
    /// author. A queue does not try such a one again by itself. False where that is not known.
    fn is_destructive(&self, request: &ExecutionRequest) -> bool {
        let _ = request;
        false
    }
}

/// Whether a request would be admitted, and under which conditions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Admission {
    /// Why not, if not.
    pub refusal: Option<Failure>,
    /// The limits that would apply.
    pub limits: Limits,
    /// The skill, where it is loaded.
    pub skill: Option<Arc<SkillIdentity>>,
    /// The tool, where it could be determined.
    pub tool: Option<String>,
    /// What the skill could touch.
    pub grants: Grants,
    /// The part of it that comes from the host's policy; the rest is the request's, or a default.
    pub from_policy: Grants,
    /// What the skill declares and was not granted. It may run without.
    pub missing: Vec<Denial>,
}

impl Admission {
    /// Whether the request would be admitted.
    pub fn is_admitted(&self) -> bool {
        self.refusal.is_none()
    }
}
