//! Clocks and randomness: the system's, or such that a run can be repeated exactly.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike as _, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// The clocks that a guest sees, `wasi:clocks`.
///
/// ```
/// use skillhost::grant::Clock;
///
/// assert_eq!("system".parse(), Ok(Clock::System));
/// let still: Clock = "2026-01-02T03:04:05Z".parse()?;
/// assert_eq!(still.to_string(), "2026-01-02T03:04:05Z");
/// # Ok::<(), skillhost::grant::ParseClockError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Clock {
    /// The system's. The default.
    #[default]
    System,
    /// Both clocks stand still, the wall clock at this time and the monotonic one at 0. A timer is over at
    /// once, and one of 2^64 − 1 ns never. Waiting for others, such as a server, takes its time, and
    /// limits of time hold as ever.
    Still(DateTime<Utc>),
}

/// A text that is no clock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a clock; write `system`, or the time at which it stands still, such as \
     `2026-01-01T00:00:00Z` (not before 1970)"
)]
pub struct ParseClockError(String);

impl FromStr for Clock {
    type Err = ParseClockError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "system" {
            return Ok(Clock::System);
        }
        DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.with_timezone(&Utc))
            // East of Greenwich, the last year that can be written ends a little earlier.
            .filter(|time| time.timestamp() >= 0 && time.year() <= 9_999)
            .map(Clock::Still)
            .ok_or_else(|| ParseClockError(text.to_owned()))
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Clock::System => f.write_str("system"),
            Clock::Still(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        }
    }
}

super::as_text!(Clock, ParseClockError, clock);

/// The random numbers that a guest gets, `wasi:random`.
///
/// ```
/// use skillhost::grant::Random;
///
/// assert_eq!("seed:42".parse(), Ok(Random::Seed(42)));
/// assert!("42".parse::<Random>().is_err());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Random {
    /// The system's. The default.
    #[default]
    System,
    /// Always the same, made from this number by ChaCha20 (RFC 8439), also where the guest asks
    /// for what must not be guessed: for tests, not for secrets.
    Seed(u64),
}

/// A text that is no source of random numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a source of random numbers; write `system`, or `seed:N` with a whole number N, at most {most}",
    most = u64::MAX
)]
pub struct ParseRandomError(String);

impl FromStr for Random {
    type Err = ParseRandomError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "system" {
            return Ok(Random::System);
        }
        text.strip_prefix("seed:")
            .and_then(|seed| seed.parse().ok())
            .map(Random::Seed)
            .ok_or_else(|| ParseRandomError(text.to_owned()))
    }
}

impl fmt::Display for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Random::System => f.write_str("system"),
            Random::Seed(seed) => write!(f, "seed:{seed}"),
        }
    }
}

super::as_text!(Random, ParseRandomError, random);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["system", "1970-01-01T00:00:00Z", "2026-01-02T03:04:05.678Z"] {
            assert_eq!(text.parse::<Clock>().unwrap().to_string(), text);
        }
        for text in ["system", "seed:0", "seed:18446744073709551615"] {
            assert_eq!(text.parse::<Random>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "now",
            "2026-01-02",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:00:00-01:00",
        ] {
            assert!(text.parse::<Clock>().is_err(), "{text}");
        }
        for text in ["", "seed", "seed:", "seed:-1", "seed:18446744073709551616"] {
            let error = text.parse::<Random>().unwrap_err().to_string();
            assert!(error.ends_with("at most 18446744073709551615"), "{error}");
        }
    }
}
