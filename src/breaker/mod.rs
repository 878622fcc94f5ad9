//! Circuit breakers: what fails too often is left alone for a while, and then tried carefully.
//!
//! A circuit is *closed* while all is well. Where too many of the outcomes within a sliding window
//! are failures it is *open*, and nothing goes through. After a pause it is *half-open*: one at a
//! time is let through as a probe, and another after a pause where that takes longer. Enough good probes
//! close it, a bad one opens it for twice as long.
//!
//! [`Circuit`] is pure: time and randomness are passed in. [`Circuits`] keeps one for each key.

mod circuit;
mod circuits;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use circuit::{Circuit, Pass};
pub use circuits::{Change, Circuits, MAX_CIRCUITS, MAX_OF_ONE};

/// How a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// Everything goes through.
    Closed,
    /// Nothing goes through.
    Open,
    /// One at a time goes through, as a probe.
    HalfOpen,
}

impl CircuitState {
    /// The name in snake case, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            CircuitState::Closed => "closed",
            CircuitState::Open => "open",
            CircuitState::HalfOpen => "half_open",
        }
    }
}

/// A key that is a text, and who asks about it: of all circuits, one has only a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// What the circuit is of.
    pub key: String,
    /// Who asks.
    pub by: String,
}

/// When a circuit opens, and how it closes again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSettings {
    /// How far back outcomes count. At least 1 ms. Default 1 min.
    pub window: Duration,
    /// How many outcomes there must be within the window before a circuit opens. At least 1. Default
    /// 10.
    pub minimum: u32,
    /// The part of them that are failures from which on it opens: above 0, at most 1. Default 0.5.
    pub failure_rate: f64,
    /// How long it is open at first. Up to half as much is added at random, so that what failed
    /// together is not tried together; after a probe that failed it is twice as long, up to 16 times.
    /// Default 30 s.
    pub pause: Duration,
    /// How many good probes close it. At least 1. Default 3.
    pub probes: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        BreakerSettings {
            window: Duration::from_secs(60),
            minimum: 10,
            failure_rate: 0.5,
            pause: Duration::from_secs(30),
            probes: 3,
        }
    }
}

/// Decides whether something may be tried, by how it went before.
///
/// Whoever is given a [`Pass`] hands it back exactly once: with the outcome, or with
/// [`withdraw`](Breaker::withdraw) where there is none, or none that says anything.
pub trait Breaker<K: ?Sized>: Send + Sync {
    /// Whether this may be tried now.
    ///
    /// # Errors
    /// How long to wait before asking again.
    fn allow(&self, key: &K) -> Result<Pass, Duration>;

    /// It went well.
    fn record_success(&self, key: &K, pass: Pass);

    /// It failed, by a fault of its own.
    fn record_failure(&self, key: &K, pass: Pass);

    /// It came to nothing that says how it stands: the input was wrong, or somebody cancelled.
    fn withdraw(&self, key: &K, pass: Pass);

    /// How its circuit stands.
    fn state(&self, key: &K) -> CircuitState;
}
