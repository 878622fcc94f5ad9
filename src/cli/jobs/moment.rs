//! Moments, as people write and read them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use skillhost::parse_duration;

use crate::cli::units;

/// A moment that was typed: written out, or so long from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Then.
    At(DateTime<Utc>),
    /// So long from now.
    In(Duration),
}

impl Moment {
    /// When that is.
    pub fn from(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Moment::At(at) => at,
            Moment::In(after) => TimeDelta::from_std(after)
                .ok()
                .and_then(|after| now.checked_add_signed(after))
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
        }
    }
}

/// Reads `2026-01-31T12:00:00Z`, with any offset.
pub fn at(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .map_err(|_| {
            format!("`{text}` is not a time; write such as 2026-01-31T12:00:00Z or …+01:00")
        })
}

/// Reads a time, or how long from now.
pub fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = at(text) {
        return Ok(Moment::At(at));
    }
    parse_duration(text).map(Moment::In).map_err(|_| {
        format!(
            "`{text}` is neither a time such as 2026-01-31T12:00:00Z nor a duration such as 10m"
        )
    })
}

/// How long ago something was, or in how long it will be.
pub fn distance(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let (past, apart) = match (now - then).to_std() {
        Ok(apart) => (true, apart),
        Err(_) => (false, (then - now).to_std().unwrap_or_default()),
    };
    let text = match apart.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    };
    match past {
        true => format!("{text} ago"),
        false => format!("in {text}"),
    }
}

/// A moment to the second, in UTC.
pub fn written(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// A number of milliseconds.
pub fn milliseconds(value: f64) -> String {
    units::duration(Duration::try_from_secs_f64(value / 1_000.0).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_duration() {
        let now = at("2026-01-31T12:00:00Z").unwrap();
        assert_eq!(moment("2026-01-31T13:00:00+01:00"), Ok(Moment::At(now)));
        assert_eq!(
            moment("10m").unwrap().from(now),
            now + TimeDelta::minutes(10)
        );
        assert!(moment("soon").unwrap_err().contains("neither"));
        assert!(at("10m").unwrap_err().contains("not a time"));
    }

    #[test]
    fn distances_are_short() {
        let now = at("2026-01-31T12:00:00Z").unwrap();
        for (seconds, expected) in [
            (0, "0 s ago"),
            (-5, "5 s ago"),
            (-300, "5 min ago"),
            (-7_200, "2 h ago"),
            (-200_000, "2 d ago"),
            (90, "in 90 s"),
        ] {
            assert_eq!(distance(now + TimeDelta::seconds(seconds), now), expected);
        }
    }
}
