//! What is counted as it happens, so that nobody has to count it later.

use std::collections::BTreeMap;

use super::job::JobStatus;
use super::time::{HOUR, Micros};

/// One number that is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Counter {
    /// Jobs of a lane that have this status.
    Jobs(i64, JobStatus),
    /// Jobs of a lane that are dead of this cause.
    Dead(i64, String),
    /// Jobs of a scope that are running.
    Running(i64),
    /// What happened in an hour (its number since 1970).
    Hour(i64, Happened),
    /// How often something took as long as this bucket says, in an hour.
    Took(i64, Measure, u32),
}

/// What is counted by the hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Happened {
    Submitted,
    Completed,
    Dead,
    Cancelled,
    /// Attempts that were used up and did not complete their job.
    FailedAttempts,
    /// Microseconds that jobs were due before they started, in all.
    WaitTotal,
    /// Microseconds that attempts took, in all.
    RunTotal,
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Measure {
    /// From when a job was due to its start.
    Wait,
    /// From the start of an attempt to its end.
    Run,
}

impl Happened {
    pub const ALL: [Happened; 7] = [
        Happened::Submitted,
        Happened::Completed,
        Happened::Dead,
        Happened::Cancelled,
        Happened::FailedAttempts,
        Happened::WaitTotal,
        Happened::RunTotal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Happened::Submitted => "submitted",
            Happened::Completed => "completed",
            Happened::Dead => "dead",
            Happened::Cancelled => "cancelled",
            Happened::FailedAttempts => "failed_attempts",
            Happened::WaitTotal => "wait_us",
            Happened::RunTotal => "run_us",
        }
    }
}

/// How a counter is spelled in a table: its kind, a number and a text.
impl Counter {
    pub fn columns(&self) -> (&'static str, i64, String) {
        match self {
            Counter::Jobs(lane, status) => (JOBS, *lane, status.as_str().to_owned()),
            Counter::Dead(lane, cause) => (DEAD, *lane, cause.clone()),
            Counter::Running(scope) => (RUNNING, *scope, String::new()),
            Counter::Hour(hour, what) => (HOURS, *hour, what.as_str().to_owned()),
            Counter::Took(hour, Measure::Wait, bucket) => (WAIT, *hour, bucket.to_string()),
            Counter::Took(hour, Measure::Run, bucket) => (RUN, *hour, bucket.to_string()),
        }
    }

    /// The counter that is spelled so.
    pub fn from_columns(kind: &str, number: i64, text: &str) -> Option<Self> {
        Some(match kind {
            JOBS => Counter::Jobs(number, text.parse().ok()?),
            DEAD => Counter::Dead(number, text.to_owned()),
            RUNNING => Counter::Running(number),
            HOURS => {
                let what = Happened::ALL
                    .into_iter()
                    .find(|what| what.as_str() == text)?;
                Counter::Hour(number, what)
            }
            WAIT => Counter::Took(number, Measure::Wait, text.parse().ok()?),
            RUN => Counter::Took(number, Measure::Run, text.parse().ok()?),
            _ => return None,
        })
    }
}

pub(crate) const JOBS: &str = "jobs";
pub(crate) const DEAD: &str = "dead";
pub(crate) const RUNNING: &str = "running";
pub(crate) const HOURS: &str = "hour";
pub(crate) const WAIT: &str = "wait";
pub(crate) const RUN: &str = "run";

/// Changes of counters, summed up.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tally(pub BTreeMap<Counter, i64>);

impl Tally {
    pub fn add(&mut self, counter: Counter, by: i64) {
        *self.0.entry(counter).or_insert(0) += by;
    }

    /// A job of this lane left one status for another; `None` where it came or was removed.
    pub fn moved(&mut self, lane: i64, from: Option<JobStatus>, to: Option<JobStatus>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.add(Counter::Jobs(lane, from), -1);
        }
        if let Some(to) = to {
            self.add(Counter::Jobs(lane, to), 1);
        }
    }

    pub fn happened(&mut self, what: Happened, now: Micros, by: i64) {
        self.add(Counter::Hour(hour(now), what), by);
    }

    /// Something took so long.
    pub fn took(&mut self, measure: Measure, now: Micros, micros: Micros) {
        let micros = micros.max(0);
        let total = match measure {
            Measure::Wait => Happened::WaitTotal,
            Measure::Run => Happened::RunTotal,
        };
        self.happened(total, now, micros);
        self.add(Counter::Took(hour(now), measure, bucket(micros)), 1);
    }

    pub fn extend(&mut self, other: Tally) {
        for (counter, by) in other.0 {
            self.add(counter, by);
        }
    }
}

/// The number of the hour that a moment is in.
pub(crate) fn hour(at: Micros) -> i64 {
    at.div_euclid(HOUR)
}

/// Bits of a number that its bucket keeps, beside the leading one.
const KEPT: u32 = 4;

/// The bucket of a span: exact below 16 µs, then 16 buckets to each power of two, as in an HDR
/// histogram (Tene, 2012).
pub(crate) fn bucket(micros: Micros) -> u32 {
    let value = micros.max(0) as u64;
    let bits = 64 - value.leading_zeros();
    if bits <= KEPT {
        return value as u32;
    }
    let shift = bits - KEPT - 1;
    ((shift + 1) << KEPT) + ((value >> shift) as u32 & ((1 << KEPT) - 1))
}

/// The middle of a bucket, in microseconds: within 1/32 (3.2 %) of everything in it.
pub(crate) fn middle(bucket: u32) -> f64 {
    let exact = 1_u32 << KEPT;
    if bucket < exact {
        return f64::from(bucket);
    }
    let shift = (bucket >> KEPT) - 1;
    let low = f64::from((bucket & (exact - 1)) + exact) * f64::from(shift).exp2();
    low + (f64::from(shift).exp2() - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_as_exact_as_is_said() {
        let mut last = 0;
        for value in (0..4_000_i64).chain((12..62).flat_map(|power| {
            let base = 1_i64 << power;
            [base - 1, base, base + base / 3, base + base / 2]
        })) {
            let error = (middle(bucket(value)) - value as f64).abs();
            assert!(error <= value as f64 / 32.0, "{value}: {error}");
            if value < 4_000 {
                assert!(bucket(value) >= last);
                last = bucket(value);
            }
        }
    }

    #[test]
    fn a_counter_comes_back_from_its_columns() {
        for counter in [
            Counter::Jobs(3, JobStatus::Dead),
            Counter::Dead(3, "fuel".to_owned()),
            Counter::Running(9),
            Counter::Hour(400_000, Happened::WaitTotal),
            Counter::Took(400_000, Measure::Run, 77),
            Counter::Took(400_000, Measure::Wait, 0),
        ] {
            let (kind, number, text) = counter.columns();
            assert_eq!(Counter::from_columns(kind, number, &text), Some(counter));
        }
    }
}
