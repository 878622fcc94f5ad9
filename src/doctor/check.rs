//! What was tried, and what came of it: pure data.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{display_bytes, grouped};

/// One thing that was tried on this machine with this build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What it is about.
    pub kind: Kind,
    /// The limit by its name in [`Limits`](crate::Limits), the capability by its name in
    /// [`Capability`](crate::grant::Capability), or whatever else is looked at.
    pub name: String,
    /// What was tried, or what the thing is for, in a few words.
    pub tried: String,
    /// What stopped it, or what was found; `None` where nothing did or was.
    pub stopped_by: Option<String>,
    /// How far it got, where that can be counted.
    pub figures: Option<Figures>,
    /// What follows.
    pub verdict: Verdict,
    /// Why it is so, or what follows for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How long it took to find out.
    #[serde(rename = "took_ms", with = "crate::usage::fractional_ms")]
    pub took: Duration,
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A limit of [`Limits`](crate::Limits), or the request's deadline.
    Limit,
    /// What a guest may touch.
    Grant,
    /// What keeps guests from each other and from the host.
    Isolation,
    /// What bounds a component before and while it is compiled.
    Compile,
    /// The compiled cache.
    Cache,
    /// What the policy puts around an execution.
    Guard,
    /// What the operator's policy says.
    Policy,
    /// The kernel and the hardware.
    Machine,
}

impl Kind {
    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Limit => "limit",
            Kind::Grant => "grant",
            Kind::Isolation => "isolation",
            Kind::Compile => "compile",
            Kind::Cache => "cache",
            Kind::Guard => "guard",
            Kind::Policy => "policy",
            Kind::Machine => "machine",
        }
    }
}

/// What follows from a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Holds,
    /// Something is not as it could be: speed suffers, or a second wall is missing. What skillhost
    /// promises holds.
    Warning,
    /// It does not hold.
    Broken,
    /// It could not be tried, so nothing is proven. Counts as not holding.
    Unknown,
    /// There is nothing of the kind here.
    NotApplicable,
}

impl Verdict {
    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::Warning => "warning",
            Verdict::Broken => "broken",
            Verdict::Unknown => "unknown",
            Verdict::NotApplicable => "not_applicable",
        }
    }

    /// Whether what is promised was not shown to hold.
    pub fn is_failure(self) -> bool {
        matches!(self, Verdict::Broken | Verdict::Unknown)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a guest got, and how far it may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// What is counted.
    pub unit: Unit,
    /// The limit.
    pub limit: u64,
    /// How far the guest got.
    pub reached: u64,
    /// By how much that is past the limit.
    pub past: u64,
    /// By how much it may be.
    pub allowance: u64,
}

/// What [`Figures`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Microseconds.
    Microseconds,
    /// Anything else: fuel, elements, handles.
    Count,
}

/// A page of linear memory, in bytes.
pub(super) const PAGE: u64 = 64 << 10;
/// How late a guest may be stopped.
const LATE: Duration = Duration::from_millis(10);

impl Figures {
    /// Bytes: a tenth of the limit past it, or a page, are allowed.
    pub fn bytes(limit: u64, reached: u64) -> Self {
        Figures::new(Unit::Bytes, limit, reached, PAGE.max(limit / 10))
    }

    /// Bytes of which nothing past the limit is allowed.
    pub(super) fn exact_bytes(limit: u64, reached: u64) -> Self {
        Figures::exact(Unit::Bytes, limit, reached)
    }

    /// What cannot overshoot: nothing past the limit is allowed.
    pub fn exact(unit: Unit, limit: u64, reached: u64) -> Self {
        Figures::new(unit, limit, reached, 0)
    }

    /// Time: 10 ms are allowed, or a longer time that something cannot be interrupted for.
    pub fn time(limit: Duration, reached: Duration, uninterrupted: Duration) -> Self {
        let whole = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Figures::new(
            Unit::Microseconds,
            whole(limit),
            whole(reached),
            whole(LATE.max(uninterrupted)),
        )
    }

    fn new(unit: Unit, limit: u64, reached: u64, allowance: u64) -> Self {
        Figures {
            unit,
            limit,
            reached,
            past: reached.saturating_sub(limit),
            allowance,
        }
    }

    /// Whether it got no further than it may.
    pub fn are_within(&self) -> bool {
        self.past <= self.allowance
    }
}

impl Unit {
    /// A value with its unit, to the last digit.
    fn exact(self, value: u64) -> String {
        match self {
            Unit::Bytes => format!("{} B", grouped(value)),
            Unit::Microseconds => format!("{} µs", grouped(value)),
            Unit::Count => grouped(value),
        }
    }

    /// A value with its unit, for a person.
    pub fn display(self, value: u64) -> String {
        match self {
            Unit::Bytes => display_bytes(value),
            Unit::Microseconds if value < 1_000 => format!("{value} µs"),
            Unit::Microseconds => format!("{:.1} ms", value as f64 / 1e3),
            Unit::Count => grouped(value),
        }
    }
}

/// Everything that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of skillhost.
    pub version: String,
    /// Where it ran: kernel, its release, and the architecture.
    pub platform: String,
    /// Whether everything that was tried holds. Warnings do not count against it.
    pub holds: bool,
    /// What was tried, in its order.
    pub checks: Vec<Check>,
    /// How long all of it took.
    #[serde(rename = "took_ms", with = "crate::usage::fractional_ms")]
    pub took: Duration,
}

impl Report {
    /// The checks with this verdict.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(move |check| check.verdict == verdict)
    }
}

/// What came of a probe: a [`Check`] without its title.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// See [`Check::stopped_by`].
    pub stopped_by: Option<String>,
    /// See [`Check::figures`].
    pub figures: Option<Figures>,
    /// See [`Check::verdict`].
    pub verdict: Verdict,
    /// See [`Check::reason`].
    pub reason: Option<String>,
    /// See [`Check::hint`].
    pub hint: Option<String>,
}

impl Finding {
    fn new(verdict: Verdict) -> Self {
        Finding {
            stopped_by: None,
            figures: None,
            verdict,
            reason: None,
            hint: None,
        }
    }

    /// It holds; this is what stopped it, or what was found.
    pub fn holds(stopped_by: impl Into<String>) -> Self {
        Finding {
            stopped_by: Some(stopped_by.into()),
            ..Finding::new(Verdict::Holds)
        }
    }

    /// It is not as it could be, and this follows.
    pub fn warning(found: impl Into<String>, reason: impl Into<String>) -> Self {
        Finding {
            stopped_by: Some(found.into()),
            reason: Some(reason.into()),
            ..Finding::new(Verdict::Warning)
        }
    }

    /// It does not hold, because of this.
    pub fn broken(reason: impl Into<String>) -> Self {
        Finding {
            reason: Some(reason.into()),
            ..Finding::new(Verdict::Broken)
        }
    }

    /// It could not be tried, because of this.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Finding {
            reason: Some(reason.into()),
            ..Finding::new(Verdict::Unknown)
        }
    }

    /// There is nothing of the kind here, because of this.
    pub fn not_applicable(reason: impl Into<String>) -> Self {
        Finding {
            reason: Some(reason.into()),
            ..Finding::new(Verdict::NotApplicable)
        }
    }

    /// Adds how far it got. Too far is broken, whatever stopped it.
    #[must_use]
    pub fn figures(mut self, figures: Figures) -> Self {
        if self.verdict == Verdict::Holds && !figures.are_within() {
            let Figures {
                unit,
                limit,
                reached,
                allowance,
                ..
            } = figures;
            self.verdict = Verdict::Broken;
            self.reason = Some(format!(
                "it got to {}; the limit is {}, and {} past it are allowed",
                unit.exact(reached),
                unit.exact(limit),
                unit.exact(allowance)
            ));
        }
        self.figures = Some(figures);
        self
    }

    /// Adds why it is so.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Adds something to know about what holds.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        match self.verdict {
            Verdict::Holds => self.reason(note),
            _ => self,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The check that it is the outcome of.
    pub fn check(
        self,
        kind: Kind,
        name: impl Into<String>,
        tried: impl Into<String>,
        took: Duration,
    ) -> Check {
        Check {
            kind,
            name: name.into(),
            tried: tried.into(),
            stopped_by: self.stopped_by,
            figures: self.figures,
            verdict: self.verdict,
            reason: self.reason,
            hint: self.hint,
            took,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_or_a_page_past_a_byte_limit_is_allowed() {
        assert!(Figures::bytes(1_000, 1_000 + PAGE).are_within());
        assert!(!Figures::bytes(1_000, 1_001 + PAGE).are_within());
        assert!(Figures::bytes(100 * PAGE, 110 * PAGE).are_within());
        assert!(!Figures::bytes(100 * PAGE, 110 * PAGE + 1).are_within());
    }

    #[test]
    fn ten_milliseconds_or_what_cannot_be_interrupted_are_allowed() {
        let ms = Duration::from_millis;
        assert!(Figures::time(ms(30), ms(40), ms(0)).are_within());
        assert!(!Figures::time(ms(30), ms(41), ms(0)).are_within());
        assert!(Figures::time(ms(30), ms(55), ms(25)).are_within());
        assert!(!Figures::time(ms(30), ms(56), ms(25)).are_within());
    }

    #[test]
    fn what_was_stopped_too_late_is_broken() {
        let finding = Finding::holds("memory").figures(Figures::exact(Unit::Count, 100, 101));
        assert_eq!(finding.verdict, Verdict::Broken);
        assert_eq!(
            finding.reason.as_deref(),
            Some("it got to 101; the limit is 100, and 0 past it are allowed")
        );
        assert_eq!(finding.figures.map(|figures| figures.past), Some(1));
        let finding = Finding::holds("memory").figures(Figures::exact(Unit::Count, 100, 100));
        assert_eq!(finding.verdict, Verdict::Holds);
    }

    #[test]
    fn what_is_not_proven_does_not_hold() {
        assert!(Verdict::Unknown.is_failure() && Verdict::Broken.is_failure());
        assert!(!Verdict::Warning.is_failure() && !Verdict::NotApplicable.is_failure());
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(Unit::Microseconds.display(999), "999 µs");
        assert_eq!(Unit::Microseconds.display(1_234), "1.2 ms");
        assert_eq!(Unit::Bytes.display(65_536), "64 KiB");
    }
}
