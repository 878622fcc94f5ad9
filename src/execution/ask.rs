//! Asking somebody whether a request may run.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BoxFuture, ExecutionRequest, SkillIdentity};
use crate::skill::Tool;

/// What somebody is asked. Texts of the skill's and of the request are anybody's: escape them before
/// you show them (see [`text::printable`](crate::text::printable)).
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The approval that is waited for, by which somebody else may answer meanwhile.
    pub approval: Uuid,
    /// Exactly which skill.
    pub skill: &'a SkillIdentity,
    /// Which of its tools.
    pub tool: &'a Tool,
    /// The request: input, attachments, grants, and on whose behalf.
    pub request: &'a ExecutionRequest,
    /// The rule that asks.
    pub rule: &'a str,
    /// When an answer comes too late.
    pub until: DateTime<Utc>,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// This request may run, once.
    Once,
    /// The same request may run as often as it likes for so long.
    For(Duration),
    /// It may not run.
    Refuse,
}

/// Whoever can be asked whether a request may run. While the answer is waited for, another may come
/// from elsewhere; then the future is dropped.
///
/// Any `Fn(Question) -> impl Future<Output = Option<Decision>>` whose future holds nothing of the
/// question is one:
///
/// ```
/// use std::sync::Arc;
/// use skillhost::Control;
/// use skillhost::execution::{Decision, Question};
///
/// let control = Control::default().ask(Arc::new(|question: Question<'_>| {
///     let harmless = question.tool.name == "list";
///     async move { harmless.then_some(Decision::Once) }
/// }));
/// # let _ = control;
/// ```
pub trait Ask: Send + Sync {
    /// Asks; `None` where there is no answer here: then it is waited for from elsewhere, as long as the
    /// policy says.
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Option<Decision>>;

    /// Whether somebody will be asked once the request was
    /// [rejected](crate::execution::Rejection::Approval) for want of an approval. Then it is rejected at
    /// once, without being asked here and without waiting.
    fn asks_afterwards(&self) -> bool {
        false
    }

    /// Who answers, for the record.
    fn who(&self) -> &str {
        "callback"
    }
}

impl<F, R> Ask for F
where
    F: Fn(Question<'_>) -> R + Send + Sync,
    R: Future<Output = Option<Decision>> + Send + 'static,
{
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Option<Decision>> {
        Box::pin(self(question))
    }
}

impl fmt::Debug for dyn Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ask").field(&self.who()).finish()
    }
}
