//! The self-test: hostile guests, run by this build on this machine, that show that the sandbox
//! holds.
//!
//! Each limit of [`Limits`](crate::Limits) and each capability has a guest, made from text when it
//! is needed, that tries to get past it. Beside it the same guest runs within the limit and must
//! succeed: else one that never starts would look like one that was stopped. The compiled cache and
//! what the kernel and the hardware offer are looked at as well.
//!
//! ```no_run
//! # async fn example() -> Result<(), skillhost::HostError> {
//! let report = skillhost::doctor::Examination::new().run(|check| {
//!     println!("{} {}: {}", check.kind.as_str(), check.name, check.verdict);
//! }).await?;
//! assert!(report.holds);
//! # Ok(())
//! # }
//! ```

mod check;
mod ground;
mod guests;
#[doc(hidden)]
pub mod handmade;
mod http;
mod names;

mod limits;

mod grants;

mod approval;
mod audit;

mod cache;
mod compile;
mod guards;
mod isolation;
mod machine;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::execution::HostError;
use crate::sandbox::Isolation;

pub use check::{Check, Figures, Finding, Kind, Report, Unit, Verdict};
use ground::{Ground, Probe, Trouble};

/// What is tried, in this order.
const PROBES: [&[Probe]; 9] = [
    limits::PROBES,
    grants::PROBES,
    isolation::PROBES,
    compile::PROBES,
    cache::PROBES,
    guards::PROBES,
    approval::PROBES,
    audit::PROBES,
    machine::PROBES,
];

/// What each check is about, and its name, in the order in which they are made. The checks that a
/// caller adds are not among them.
pub fn probes() -> impl Iterator<Item = (Kind, &'static str)> {
    PROBES
        .into_iter()
        .flatten()
        .map(|probe| (probe.kind, probe.name))
}

/// A check of the caller's own.
struct Own {
    kind: Kind,
    name: String,
    tried: String,
    look: Box<dyn FnOnce() -> Finding + Send>,
}

/// What is to be examined, and then the examination.
#[must_use]
pub struct Examination {
    isolation: Isolation,
    concurrency: u32,
    cache: Option<PathBuf>,
    own: Vec<Own>,
}

impl Default for Examination {
    fn default() -> Self {
        Examination::new()
    }
}

impl fmt::Debug for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Examination")
            .field("isolation", &self.isolation)
            .field("concurrency", &self.concurrency)
            .field("cache", &self.cache)
            .field("own", &self.own.len())
            .finish()
    }
}

impl Examination {
    /// Of a host as [`Host::builder`](crate::Host::builder) makes it: one that keeps no compiled
    /// code, compiles in its own process, and has up to 1,000 executions in flight.
    pub fn new() -> Self {
        Examination {
            isolation: Isolation::InProcess,
            concurrency: 1_000,
            cache: None,
            own: Vec::new(),
        }
    }

    /// Looks at this compiled cache. Nothing in it is loaded or changed.
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Tries the limits of this way to compile.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Looks whether there is room for so many executions at once.
    pub fn concurrency(mut self, executions: u32) -> Self {
        self.concurrency = executions.max(1);
        self
    }

    /// Adds a check of the caller's own, such as of the policy file. It comes after all others.
    pub fn and(
        mut self,
        kind: Kind,
        name: impl Into<String>,
        tried: impl Into<String>,
        look: impl FnOnce() -> Finding + Send + 'static,
    ) -> Self {
        self.own.push(Own {
            kind,
            name: name.into(),
            tried: tried.into(),
            look: Box::new(look),
        });
        self
    }

    /// Makes all checks, one after the other, and tells of each when it ends. Takes seconds, and
    /// wants a tokio runtime with time and I/O enabled.
    ///
    /// Guests run in a host of the examination's own and in temporary folders, which are gone
    /// afterwards.
    ///
    /// # Errors
    /// Where no host can be set up, or no temporary folder made.
    pub async fn run(self, mut tell: impl FnMut(&Check)) -> Result<Report, HostError> {
        let began = Instant::now();
        let ground =
            Ground::new(self.isolation, self.concurrency, self.cache).map_err(|trouble| {
                match trouble {
                    Trouble::Host(error) => error,
                    Trouble::Io { path, source } => HostError::Io {
                        what: "cannot use the temporary folder",
                        path,
                        source,
                    },
                    other => HostError::Internal(other.to_string()),
                }
            })?;
        let mut checks = Vec::new();
        for probe in PROBES.into_iter().flatten() {
            let began = Instant::now();
            let finding = match (probe.probe)(&ground).await {
                Ok(finding) => finding,
                Err(trouble) => Finding::unknown(trouble.to_string()),
            };
            let check = finding.check(probe.kind, probe.name, probe.tried, began.elapsed());
            tell(&check);
            checks.push(check);
        }
        for own in self.own {
            let began = Instant::now();
            let finding = (own.look)();
            let check = finding.check(own.kind, own.name, own.tried, began.elapsed());
            tell(&check);
            checks.push(check);
        }
        Ok(report(checks, began.elapsed()))
    }
}

fn report(checks: Vec<Check>, took: Duration) -> Report {
    Report {
        version: env!("CARGO_PKG_VERSION").into(),
        platform: machine::platform(),
        holds: !checks.iter().any(|check| check.verdict.is_failure()),
        checks,
        took,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_fits_its_column() {
        for probe in PROBES.into_iter().flatten() {
            assert!(probe.tried.chars().count() <= 28, "{}", probe.tried);
            assert!(probe.name.len() <= 19, "{}", probe.name);
        }
    }

    #[test]
    fn one_check_that_does_not_hold_is_enough() {
        let check = |finding: Finding| finding.check(Kind::Machine, "a", "b", Duration::ZERO);
        let holds = |findings: &[Finding]| {
            let checks = findings.iter().cloned().map(check).collect();
            report(checks, Duration::ZERO).holds
        };
        let (good, warning) = (Finding::holds("x"), Finding::warning("x", "y"));
        let nothing = Finding::not_applicable("x");
        assert!(holds(&[good.clone(), warning, nothing]));
        assert!(!holds(&[good.clone(), Finding::broken("x")]));
        assert!(!holds(&[good, Finding::unknown("x")]));
    }
}
