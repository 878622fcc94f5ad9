//! What happens on the way, and who hears of it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Clamped, Failure, SkillIdentity, Status};
use crate::grant::{Denial, Grants};
use crate::limits::Limits;
use crate::usage::ResourceUsage;

/// How important a log record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For following every step.
    Trace,
    /// For finding a fault.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is off, and the skill goes on.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// What happened to one request. Text in it is as the guest wrote it: escape it before you show it
/// (see [`text::printable`](crate::text::printable)).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event<'a> {
    /// It will run, under these limits.
    Admitted {
        /// The skill.
        skill: &'a SkillIdentity,
        /// The tool.
        tool: &'a str,
        /// The limits that apply.
        limits: &'a Limits,
        /// What the skill may touch. Not in JSON: values of variables and of the configuration, which
        /// may be secret, stand in it.
        #[serde(skip)]
        grants: &'a Grants,
    },
    /// Some of its limits are lower than what it, or its skill, asked for. May come more than once, from
    /// each that lowers some.
    Clamped {
        /// Which, to what, and by which rule.
        clamped: &'a [Clamped],
    },
    /// A rule of the policy lets it run, at once or with an approval.
    Allowed {
        /// The rule.
        rule: &'a str,
        /// The approval, where it took one that is kept.
        approval: Option<Uuid>,
    },
    /// Instantiation begins.
    Started,
    /// The guest says how far it has come.
    Progress(Progress<'a>),
    /// The guest logged a record.
    Log {
        /// How important it is.
        level: Level,
        /// The text.
        message: Cow<'a, str>,
    },
    /// Something was refused to the guest, which may go on without.
    Denied {
        /// What, and what would change that.
        denial: &'a Denial,
    },
    /// A secret is put into a request of the guest's, which does not see it. Told before it goes out, so
    /// that it can [still be kept](Observer::admits) from that.
    SecretUsed {
        /// The secret's name.
        secret: &'a str,
        /// The header that it went into.
        header: &'a str,
        /// The scheme, host and port that the request goes to.
        to: &'a str,
    },
    /// It ended. Always the last event, also where the future was dropped or nothing ran.
    Finished {
        /// How it ended.
        status: Status,
        /// Why there is no output.
        failure: Option<&'a Failure>,
        /// What it cost.
        usage: &'a ResourceUsage,
    },
}

/// How far an execution has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress<'a> {
    /// From 0 to 100, where known.
    pub percent: Option<f64>,
    /// A few words.
    pub step: Cow<'a, str>,
    /// JSON of the guest's own, where it gave any. Not parsed, and not checked.
    pub details: Option<Cow<'a, str>>,
}

/// Gets the events of executions. Called on the execution's own thread: be quick, and do not block.
///
/// One that panics ends no more than the execution at hand. At what the guest says (a record, a
/// report) that ends with [`Cause::HostPanic`](crate::Cause::HostPanic); at every other event it goes
/// on.
///
/// Any `Fn(Uuid, &Event)` is one:
///
/// ```
/// use std::sync::Arc;
/// use skillhost::{Control, Event};
///
/// let control = Control::default().observer(Arc::new(|id: uuid::Uuid, event: &Event<'_>| {
///     if let Event::Finished { status, .. } = event {
///         println!("{id}: {status}");
///     }
/// }));
/// # let _ = control;
/// ```
pub trait Observer: Send + Sync {
    /// One event of one request.
    fn observe(&self, request_id: Uuid, event: &Event<'_>);

    /// One event that tells of something which is about to happen: a [use of a
    /// secret](Event::SecretUsed). False where it must not; the guest is refused it then. Unless it is
    /// implemented, it observes, and has nothing against it. Whoever wraps another asks that, too.
    fn admits(&self, request_id: Uuid, event: &Event<'_>) -> bool {
        self.observe(request_id, event);
        true
    }
}

impl<F: Fn(Uuid, &Event<'_>) + Send + Sync> Observer for F {
    fn observe(&self, request_id: Uuid, event: &Event<'_>) {
        self(request_id, event);
    }
}
