//! Why there is no output, and whose fault that is.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Status;
use crate::grant::{Denial, Remedy, first_of, for_good};
use crate::limits::Limit;
use crate::names::names;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Fault {
    /// The input's, or whoever wrote it.
    Input,
    /// The skill's.
    Skill,
    /// Nobody's: a limit was met. A higher one may help.
    Limit,
    /// The operator's rules, or a missing grant.
    Policy,
    /// The host's.
    Host,
    /// The caller's, who cancelled, or named what is not there.
    Caller,
}

names!(Fault, "fault",
    Input => "input", Skill => "skill", Limit => "limit", Policy => "policy", Host => "host",
    Caller => "caller");

/// Why an execution has no output.
///
/// In JSON the cause stands beside the other fields, its kind under `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Failure {
    /// Whose fault it is.
    pub fault: Fault,
    /// What happened, in a sentence. Text from a guest stands in it only inside quotation marks or
    /// after a colon, and with control characters escaped.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What was refused: to the request, or to the guest while it ran. The first of each, and not
    /// more than 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<Denial>,
    /// What the skill looked for while it ran and does not have, where it failed: it may have failed for want of that.
    /// First what it declares and was not granted; then what nobody was asked for, as it has no manifest (`remedy` is
    /// `grant`), or what its manifest lacks (`skill`): a configuration key, a variable, or a directory (`*`) where it has
    /// none. Not more than 20.
    ///
    /// It looked for directories and scratch where it asked which there are, for a configuration key where
    /// it asked for that one or for all, for its environment where it read that (and where it ended with a
    /// trap, named the variable, too), and for a secret where it sent a request that the secret is for, and
    /// its server answered 401 or 403 (of the first 20 such keys and requests). Which variables it read is not to be
    /// seen: what it declares stands first where `message` names it, and one that it does not declare is among them where
    /// `message` speaks of its environment, and has a word that is written like a variable and stands like one that is
    /// wanted (`API_KEY is not set`, `variable TZ`; where `message` names another that the skill declares, like one that is
    /// not there, so that `set API_KEY` will not do). Of requests, sockets and storage it hears at once that they are not
    /// granted: those are among `denials`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Denial>,
    /// The rule of the policy that decided so, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The approval that was asked for, or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Uuid>,
    /// The cause, for programs.
    #[serde(flatten)]
    pub cause: Cause,
}

/// The longest time that a skill can ask to be left alone for, in milliseconds: a day.
pub(crate) const MAX_RETRY_AFTER_MS: u64 = 86_400_000;

/// What is named at most of what is missing.
pub(crate) const MAX_MISSING: usize = 20;

/// What to do about a limit that was met.
pub(crate) const RAISE_IT: &str = "raise that limit, or give it less to do";

/// The cause of a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Cause {
    /// The skill answered with an error.
    SkillError {
        /// Whether the skill says that another try may help.
        retryable: bool,
        /// How long the skill asks to wait before that, in milliseconds; a day at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// The skill's own identifier of the error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// The skill's own details.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Value>,
    },
    /// The guest trapped, exited, or broke the rules of the component model.
    Trap {
        /// What the trap was, such as `unreachable_code_reached` or `integer_division_by_zero`; `exit` where the
        /// guest exited, `contract_violation` where it broke the rules of the component model, `did_not_yield` where
        /// it computed for 200 ms (down to 50 ms in a crowd) without coming to a place where others get their turn,
        /// as code that compilers make does within some milliseconds.
        trap: String,
        /// The guest's frames, innermost first. None where it did not yield.
        backtrace: Vec<Frame>,
    },
    /// The input does not fit.
    InvalidInput {
        /// JSON Pointer (RFC 6901) to the place; empty for the whole.
        pointer: String,
    },
    /// The skill has no such tool, or has several and none was named.
    UnknownTool {
        /// The tools that it has.
        available: Vec<String>,
    },
    /// The output is not JSON, or does not fit the schema that the tool declares.
    InvalidOutput {
        /// JSON Pointer (RFC 6901) to the place; empty for the whole.
        pointer: String,
    },
    /// The skill is not loaded, or could not be.
    NotLoaded,
    /// The wall time was up or the deadline passed.
    Timeout {
        /// [`Limit::WallTime`] or [`Limit::Deadline`].
        limit: Limit,
        /// The wall time in milliseconds; 0 for a deadline.
        allowed: u64,
        /// What was going on.
        phase: Phase,
    },
    /// The caller cancelled.
    Cancelled {
        /// What was going on.
        phase: Phase,
    },
    /// The request was not admitted.
    Rejected {
        /// Why.
        reason: Rejection,
        /// When another try would be admitted, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<DateTime<Utc>>,
    },
    /// A limit was met.
    ResourceExhausted {
        /// Which one.
        limit: Limit,
        /// Its value.
        allowed: u64,
        /// What was asked for, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requested: Option<u64>,
        /// The guest's frames at that point, innermost first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        backtrace: Vec<Frame>,
    },
    /// The host itself is broken. Only in events: the caller gets a
    /// [`HostError`](crate::HostError).
    HostError,
    /// Code of the host panicked while it served this guest. Only this execution is affected.
    HostPanic,
}

impl Cause {
    /// The status that goes with it.
    pub fn status(&self) -> Status {
        match self {
            Cause::SkillError { .. }
            | Cause::Trap { .. }
            | Cause::InvalidInput { .. }
            | Cause::UnknownTool { .. }
            | Cause::InvalidOutput { .. }
            | Cause::NotLoaded
            | Cause::HostError
            | Cause::HostPanic => Status::Failed,
            Cause::Timeout { .. } => Status::Timeout,
            Cause::Cancelled { .. } => Status::Cancelled,
            Cause::Rejected { .. } => Status::Rejected,
            Cause::ResourceExhausted { .. } => Status::ResourceExhausted,
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Cause::SkillError { .. } | Cause::Trap { .. } | Cause::InvalidOutput { .. } => {
                Fault::Skill
            }
            Cause::InvalidInput { .. } | Cause::UnknownTool { .. } => Fault::Input,
            Cause::Timeout { .. } | Cause::ResourceExhausted { .. } => Fault::Limit,
            Cause::Cancelled { .. } => Fault::Caller,
            Cause::Rejected { .. } => Fault::Policy,
            Cause::NotLoaded | Cause::HostError | Cause::HostPanic => Fault::Host,
        }
    }
}

impl Failure {
    /// A failure of this cause, its fault following from it.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Failure {
            fault: cause.fault(),
            message: message.into(),
            hint: None,
            denials: Vec::new(),
            missing: Vec::new(),
            rule: None,
            approval: None,
            cause,
        }
    }

    /// The rejection of a request for its grants. There is at least one denial.
    pub(crate) fn denied(mut denials: Vec<Denial>) -> Self {
        first_of(&mut denials, MAX_MISSING);
        let list: Vec<String> = denials.iter().map(ToString::to_string).collect();
        let hint = denials.first().map(|denial| denial.hint.clone());
        let cause = Cause::Rejected {
            reason: Rejection::Grant,
            retry_at: None,
        };
        Failure {
            hint,
            denials,
            ..Failure::new(cause, format!("not admitted: {}", list.join("; ")))
        }
    }

    /// Adds what was refused to the guest while it ran. Where nothing better is known, the first of
    /// it is what to do something about, and of these the first that something of the operator's changes.
    pub(crate) fn after(mut self, denials: Vec<Denial>) -> Self {
        if denials.is_empty() {
            return self;
        }
        let changeable =
            |denial: &&Denial| matches!(denial.remedy, Remedy::Grant | Remedy::Operator);
        if let Some(first) = denials.iter().find(changeable).or(denials.first())
            && matches!(self.cause, Cause::SkillError { .. } | Cause::Trap { .. })
        {
            self.hint = Some(first.hint.clone());
        }
        self.denials = denials;
        self
    }

    /// Adds what the skill declares, was not granted and looked for. Where nothing better is known, that is what to do
    /// something about.
    pub(crate) fn without(mut self, mut missing: Vec<Denial>) -> Self {
        first_of(&mut missing, MAX_MISSING);
        if let Some(first) = missing.first()
            && self.wants_a_hint()
        {
            self.hint = Some(first.wanted());
        }
        self.missing = missing;
        self
    }

    /// Adds what it was seen to look for in vain, behind what it declares.
    pub(crate) fn found_wanting(mut self, wanting: Vec<Denial>) -> Self {
        self.missing.extend(wanting);
        first_of(&mut self.missing, MAX_MISSING);
        self
    }

    /// Whether the skill failed by itself, and nothing is known that may help.
    pub(crate) fn wants_a_hint(&self) -> bool {
        let by_itself = matches!(self.cause, Cause::SkillError { .. } | Cause::Trap { .. });
        by_itself && self.hint.is_none()
    }

    /// The same for whoever has no command line: no hint has a flag of it.
    pub(crate) fn without_flags(mut self) -> Self {
        let denials = self.denials.iter_mut().chain(&mut self.missing);
        denials.for_each(Denial::without_flag);
        if let Some(other) = self.hint.as_deref().and_then(for_good) {
            self.hint = Some(other);
        }
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the rule of the policy that decided so.
    #[must_use]
    pub fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// The limit that was met, and its value, where it is one that a request can ask for.
    pub fn limit(&self) -> Option<(Limit, u64)> {
        match self.cause {
            Cause::Timeout {
                limit: Limit::Deadline,
                ..
            }
            | Cause::ResourceExhausted {
                limit: Limit::Stack,
                ..
            } => None,
            Cause::Timeout { limit, allowed, .. }
            | Cause::ResourceExhausted { limit, allowed, .. } => Some((limit, allowed)),
            _ => None,
        }
    }

    /// The status that goes with it.
    pub fn status(&self) -> Status {
        self.cause.status()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What was going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Waiting for a free instance, or for the component to be compiled.
    Waiting,
    /// Instantiating the component.
    Instantiation,
    /// Running the tool.
    Run,
}

names!(Phase, "phase",
    Waiting => "waiting", Instantiation => "instantiation", Run => "run");

/// Why a request was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Rejection {
    /// A grant does not fit what the skill declares, or cannot be given.
    Grant,
    /// It asks for more than a ceiling of the policy's allows.
    Ceiling,
    /// The tool runs only after somebody has approved it.
    Approval,
    /// A rule of the policy's denies it, or somebody who was asked refused it.
    Refused,
    /// The policy requires an audit, which cannot be written.
    Audit,
    /// Too many have started lately.
    Rate,
    /// Too many are waiting.
    QueueFull,
    /// It waited for its turn for as long as one may.
    WaitedTooLong,
    /// The host has no more of something for now, such as open files or room for scratch directories.
    Exhausted,
    /// The skill failed too often lately.
    CircuitOpen,
    /// A hook of the embedder's said no.
    Hook,
}

names!(Rejection, "reason for a rejection",
    Grant => "grant", Ceiling => "ceiling", Approval => "approval", Refused => "refused",
    Audit => "audit", Rate => "rate",
    QueueFull => "queue_full", WaitedTooLong => "waited_too_long",
    Exhausted => "exhausted", CircuitOpen => "circuit_open",
    Hook => "hook");

impl Rejection {
    /// Whether it passes by itself.
    pub fn is_temporary(self) -> bool {
        matches!(
            self,
            Rejection::Rate
                | Rejection::QueueFull
                | Rejection::WaitedTooLong
                | Rejection::Exhausted
                | Rejection::CircuitOpen
        )
    }
}

/// One frame of a guest's backtrace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Frame {
    /// The function's name, demangled, or `wasm-function[N]`. Control characters are escaped.
    pub function: String,
    /// The core module's name, where it has one. Control characters are escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The offset of the instruction in the component as it is compiled, in bytes: with the looks at the fuel that the
    /// host puts into long code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_changed_goes_before_what_cannot() {
        let denial = |remedy, hint: &str| Denial {
            capability: crate::grant::Capability::Http,
            subject: String::new(),
            reason: String::new(),
            remedy,
            grant: None,
            hint: hint.into(),
        };
        let trap = || {
            let cause = Cause::Trap {
                trap: "unreachable".into(),
                backtrace: Vec::new(),
            };
            Failure::new(cause, "trapped")
        };
        let skill = || denial(Remedy::Skill, "no grant changes that");
        let grant = || denial(Remedy::Grant, "grant it");
        for (denials, hint) in [
            (vec![skill(), grant()], "grant it"),
            (
                vec![skill(), denial(Remedy::Operator, "confirm it"), grant()],
                "confirm it",
            ),
            (
                vec![skill(), denial(Remedy::Wait, "wait")],
                "no grant changes that",
            ),
        ] {
            let failure = trap().after(denials);
            assert_eq!(failure.hint.as_deref(), Some(hint));
        }
        // A denial that was kept by an earlier version.
        let mut kept = serde_json::to_value(skill()).unwrap();
        assert_eq!(kept["remedy"], "skill");
        kept.as_object_mut().unwrap().remove("remedy");
        let read: Denial = serde_json::from_value(kept).unwrap();
        assert_eq!(read.remedy, Remedy::Grant);
    }

    #[test]
    fn a_failure_reads_flat_in_json_and_comes_back() {
        let failure = Failure::new(
            Cause::ResourceExhausted {
                limit: Limit::Memory,
                allowed: 1,
                requested: Some(2),
                backtrace: Vec::new(),
            },
            "too much",
        )
        .hint("less");
        let json = serde_json::to_value(&failure).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "fault": "limit", "message": "too much", "hint": "less",
                "kind": "resource_exhausted", "limit": "memory_bytes", "allowed": 1, "requested": 2,
            })
        );
        assert_eq!(serde_json::from_value::<Failure>(json).unwrap(), failure);
    }

    /// In JSON, as text, and back.
    fn has_one_name<T>(all: &[T])
    where
        T: Copy + PartialEq + fmt::Debug + fmt::Display + Serialize + std::str::FromStr,
        T::Err: fmt::Debug,
    {
        for one in all {
            let name = one.to_string();
            assert_eq!(
                serde_json::to_value(one).unwrap(),
                Value::from(name.as_str())
            );
            assert_eq!(name.parse::<T>().unwrap(), *one);
        }
        assert!("Nothing".parse::<T>().is_err());
    }

    #[test]
    fn each_has_one_name() {
        has_one_name(Status::ALL);
        has_one_name(Fault::ALL);
        has_one_name(Phase::ALL);
        has_one_name(Rejection::ALL);
        let error = "timed_out".parse::<Status>().unwrap_err().to_string();
        assert!(
            error.starts_with("`timed_out` is no status; there are success, "),
            "{error}"
        );
    }
}
