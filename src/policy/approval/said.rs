//! What the rules say of a request, and how it is refused then.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::super::{CurrentPolicy, Policy};
use super::Action;
use crate::execution::{Cause, Control, Event, ExecutionRequest, Failure, Rejection, Resolution};

/// That a request may not simply run.
pub(super) struct Decided {
    /// What the rule is called.
    pub title: String,
    /// Whether it is denied, and not only to be asked about.
    pub denied: bool,
    /// The policy that says so.
    pub policy: Arc<Policy>,
}

/// What the rules say of a request.
pub(super) enum Said {
    Nothing,
    /// It may run, by this rule.
    Allowed(String),
    Not(Decided),
}

impl Said {
    /// Whether no rule says anything of any request.
    pub fn is_nothing(policy: &CurrentPolicy) -> bool {
        let policy = policy.load();
        policy
            .as_ref()
            .is_none_or(|policy| policy.approval.has_none())
    }

    pub fn of(policy: &CurrentPolicy, resolution: &Resolution, tenant: Option<&str>) -> Self {
        let policy = policy.load();
        let Some(policy) = policy.as_ref() else {
            return Said::Nothing;
        };
        match policy.approval.decide(resolution, tenant) {
            (_, None) => Said::Nothing,
            (Action::Allow, Some((number, rule))) => Said::Allowed(rule.title(number)),
            (action, Some((number, rule))) => Said::Not(Decided {
                title: rule.title(number),
                denied: action == Action::Deny,
                policy: Arc::clone(policy),
            }),
        }
    }
}

/// Tells what lets a request run.
pub(super) fn allowed(
    control: &Control,
    request: &ExecutionRequest,
    rule: &str,
    approval: Option<Uuid>,
) {
    if let Some(observer) = &control.observer {
        observer.observe(request.request_id, &Event::Allowed { rule, approval });
    }
}

impl Decided {
    /// What is to be done with a request, and by which rule; `None` where it may run.
    pub fn of(
        policy: &CurrentPolicy,
        resolution: &Resolution,
        tenant: Option<&str>,
    ) -> Option<Self> {
        match Said::of(policy, resolution, tenant) {
            Said::Not(decided) => Some(decided),
            Said::Nothing | Said::Allowed(_) => None,
        }
    }

    /// Whether a policy may ask about anything, or deny it.
    pub fn may_be(policy: &CurrentPolicy) -> bool {
        let policy = policy.load();
        let policy = policy.as_ref();
        policy.is_some_and(|policy| !policy.approval.allows_all())
    }

    pub fn denial(&self) -> Failure {
        let message = format!("not admitted: {} denies it", self.title);
        rejected(Rejection::Refused, None, message, self.title.clone(), None)
    }

    /// That it is asked about, and nobody has been asked.
    pub fn unasked(&self, message: String) -> Failure {
        rejected(Rejection::Approval, None, message, self.title.clone(), None)
    }
}

/// That a request is not admitted, by this rule.
pub(super) fn rejected(
    reason: Rejection,
    retry_at: Option<DateTime<Utc>>,
    message: String,
    rule: String,
    approval: Option<Uuid>,
) -> Failure {
    Failure {
        rule: Some(rule),
        approval,
        ..Failure::new(Cause::Rejected { reason, retry_at }, message)
    }
}
