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
    /// The same request may run as often as it likes for so long: at most for [`Decision::LONGEST`].
    For(Duration),
    /// It may not run.
    Refuse,
}

/// A time for which no approval holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an approval holds for 1 ms at least, and for 366 days at most")]
pub struct ApprovalTimeError;

impl Decision {
    /// The longest time that an approval holds: 366 days.
    pub const LONGEST: Duration = Duration::from_secs(366 * 86_400);

    /// The same request may run as often as it likes for so long.
    ///
    /// # Errors
    /// A time below a millisecond, or above [`Decision::LONGEST`].
    pub fn for_time(time: Duration) -> Result<Self, ApprovalTimeError> {
        match (Duration::from_millis(1)..=Decision::LONGEST).contains(&time) {
            true => Ok(Decision::For(time)),
            false => Err(ApprovalTimeError),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_holds_for_a_time() {
        let ms = Duration::from_millis(1);
        for time in [ms, Decision::LONGEST] {
            assert_eq!(Decision::for_time(time), Ok(Decision::For(time)));
        }
        for time in [Duration::ZERO, ms / 2, Decision::LONGEST + ms] {
            let said = Decision::for_time(time).unwrap_err().to_string();
            assert!(said.contains("366 days"), "{said}");
        }
        assert_eq!(Decision::LONGEST.as_secs(), 366 * 86_400);
    }
}
