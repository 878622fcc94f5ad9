//! When a job that failed is tried again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::QueueError;
use super::job::names;

/// The most attempts that a job may have.
pub const MAX_ATTEMPTS: u32 = 1_000;

/// What can go wrong with an attempt that it may make sense to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum RetryCause {
    /// The skill, or a handler, says that another try may help.
    RetryableError,
    /// The skill answered with an error, and does not say that another try may help.
    SkillError,
    /// The guest trapped, or code of the host panicked while it served it.
    Trap,
    /// Its wall time was up.
    Timeout,
    /// What the skill answered does not fit what it declares.
    InvalidOutput,
    /// A limit was met: fuel, memory, output or another.
    ResourceExhausted,
    /// Its worker died.
    WorkerLost,
}
names!(RetryCause, "cause to retry on",
    RetryableError => "retryable_error", SkillError => "skill_error", Trap => "trap",
    Timeout => "timeout", InvalidOutput => "invalid_output",
    ResourceExhausted => "resource_exhausted", WorkerLost => "worker_lost");

/// How a job is tried again: exponential back-off, cut at a cap, with jitter.
///
/// The delay before attempt *n* + 1 is `base × factor^(n - 1)`, at most `cap`, of which a random
/// part of up to `jitter` is taken off, so that jobs that failed together do not return together. A
/// delay that the skill asks for goes before that, up to a day.
///
/// ```
/// use skillhost::queue::RetryPolicy;
///
/// let policy = RetryPolicy { max_attempts: 4, jitter: 0.0, ..RetryPolicy::default() };
/// assert_eq!(policy.delays_ms(0), [5_000, 15_000, 45_000]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct RetryPolicy {
    /// How many attempts a job has in all: 1 to 1,000; 5 by default.
    pub max_attempts: u32,
    /// The first delay in milliseconds; 5,000 by default.
    pub base_ms: u64,
    /// By what the delay grows each time: 1 to 100; 3 by default.
    pub factor: f64,
    /// The longest delay in milliseconds; an hour by default.
    pub cap_ms: u64,
    /// Which part of each delay is random: 0 to 1; 0.2 by default.
    pub jitter: f64,
    /// What is tried again. By default what may pass by itself: `retryable_error`, `trap`,
    /// `timeout` and `worker_lost`.
    #[cfg_attr(feature = "serve", schema(value_type = Vec<RetryCause>))]
    pub on: BTreeSet<RetryCause>,
    /// Whether a tool that its author marked destructive and not idempotent is tried again, too. Not
    /// by default: nobody knows how much of it was done.
    pub destructive: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        use RetryCause::{RetryableError, Timeout, Trap, WorkerLost};
        RetryPolicy {
            max_attempts: 5,
            base_ms: 5_000,
            factor: 3.0,
            cap_ms: 3_600_000,
            jitter: 0.2,
            on: BTreeSet::from([RetryableError, Trap, Timeout, WorkerLost]),
            destructive: false,
        }
    }
}

/// A retry policy that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError {
    /// There must be one attempt, and not too many.
    #[error("{0} attempts; a job has 1 to {MAX_ATTEMPTS}")]
    Attempts(u32),
    /// The factor is out of its range.
    #[error("the factor {0} is not between 1 and 100")]
    Factor(f64),
    /// The jitter is out of its range.
    #[error("the jitter {0} is not between 0 and 1")]
    Jitter(f64),
}

impl RetryPolicy {
    /// A policy with so many attempts in all.
    pub fn attempts(max_attempts: u32) -> Self {
        RetryPolicy {
            max_attempts,
            ..RetryPolicy::default()
        }
    }

    /// Says what is wrong with it.
    ///
    /// # Errors
    /// Where a number is out of its range.
    pub fn check(&self) -> Result<(), RetryError> {
        if !(1..=MAX_ATTEMPTS).contains(&self.max_attempts) {
            return Err(RetryError::Attempts(self.max_attempts));
        }
        if !(1.0..=100.0).contains(&self.factor) {
            return Err(RetryError::Factor(self.factor));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(RetryError::Jitter(self.jitter));
        }
        Ok(())
    }

    /// Says what there is in it that nobody should be able to ask for who is not trusted with the queue
    /// and the host: that what may do harm twice is tried again.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] where it asks for that.
    pub fn check_untrusted(&self) -> Result<(), QueueError> {
        match self.destructive {
            true => Err(QueueError::Invalid(
                "what may do harm twice cannot be asked to be tried again here".to_owned(),
            )),
            false => Ok(()),
        }
    }

    /// Every delay in milliseconds, the first being the one before the second attempt. The same
    /// seed gives the same delays.
    pub fn delays_ms(&self, seed: u64) -> Vec<u64> {
        let mut random = seed;
        let mut delay = self.base_ms as f64;
        (1..self.max_attempts)
            .map(|_| {
                let whole = delay.min(self.cap_ms as f64);
                delay = (delay * self.factor).min(self.cap_ms as f64);
                let part = fraction(&mut random) * self.jitter;
                (whole * (1.0 - part)).round() as u64
            })
            .collect()
    }
}

/// A number from 0 to under 1 (SplitMix64: Steele, Lea, Flood, 2014).
fn fraction(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// How one job is tried again, worked out when it was submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Retry {
    /// The policy that holds for it.
    pub policy: RetryPolicy,
    /// Every delay in milliseconds, the first being the one before the second attempt.
    pub delays_ms: Vec<u64>,
}

impl Retry {
    /// The plan for one job.
    pub(crate) fn plan(policy: RetryPolicy, seed: u64) -> Self {
        Retry {
            delays_ms: policy.delays_ms(seed),
            policy,
        }
    }

    /// How long to wait after so many attempts were used up; `None` where there is no other.
    pub fn delay_after(&self, attempts: u32) -> Option<Duration> {
        let index = usize::try_from(attempts.checked_sub(1)?).ok()?;
        self.delays_ms
            .get(index)
            .map(|&delay| Duration::from_millis(delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_jitter_only_takes_off() {
        let policy = RetryPolicy {
            max_attempts: 8,
            base_ms: 1_000,
            factor: 10.0,
            cap_ms: 60_000,
            jitter: 0.0,
            ..RetryPolicy::default()
        };
        let plain = policy.delays_ms(1);
        assert_eq!(plain[..3], [1_000, 10_000, 60_000]);
        assert_eq!(plain.len(), 7);
        let policy = RetryPolicy {
            jitter: 0.5,
            ..policy
        };
        for seed in 0..200 {
            let delays = policy.delays_ms(seed);
            assert_eq!(delays, policy.delays_ms(seed));
            for (delay, whole) in delays.iter().zip(&plain) {
                assert!(delay <= whole && delay * 2 >= *whole, "{delay} of {whole}");
            }
        }
        assert_ne!(policy.delays_ms(1), policy.delays_ms(2));
    }

    #[test]
    fn a_plan_ends_with_the_last_attempt() {
        let retry = Retry::plan(RetryPolicy::attempts(3), 7);
        assert!(retry.delay_after(1).is_some());
        assert!(retry.delay_after(2).is_some());
        assert_eq!(retry.delay_after(3), None);
        assert_eq!(retry.delay_after(0), None);
    }

    #[test]
    fn a_policy_out_of_range_is_refused() {
        assert_eq!(
            RetryPolicy::attempts(0).check(),
            Err(RetryError::Attempts(0))
        );
        let wild = RetryPolicy {
            factor: f64::NAN,
            ..RetryPolicy::default()
        };
        assert!(matches!(wild.check(), Err(RetryError::Factor(_))));
    }
}
