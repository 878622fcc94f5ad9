//! Moments as the store keeps them: microseconds since 1970, in UTC.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// A moment in microseconds since 1970-01-01T00:00:00Z.
pub(crate) type Micros = i64;

/// One second.
pub(crate) const SECOND: Micros = 1_000_000;
/// One hour.
pub(crate) const HOUR: Micros = 3_600 * SECOND;
/// One day.
pub(crate) const DAY: Micros = 24 * HOUR;

/// A moment as the store keeps it.
pub(crate) fn micros(at: DateTime<Utc>) -> Micros {
    at.timestamp_micros()
}

/// A moment as people read it. Out of chrono's range, which no moment of ours is, it is the epoch.
pub(crate) fn moment(at: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at).unwrap_or_default()
}

/// A span, cut to some 290,000 years.
pub(crate) fn span(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

/// Tells the time. Everything in the queue asks here, so that a test can.
pub trait Clock: Send + Sync {
    /// What time it is.
    fn now(&self) -> DateTime<Utc>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

impl<F: Fn() -> DateTime<Utc> + Send + Sync> Clock for F {
    fn now(&self) -> DateTime<Utc> {
        self()
    }
}
