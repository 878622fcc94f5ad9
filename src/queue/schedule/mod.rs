//! When something recurs: a cron expression in a time zone, and what becomes of firings that were
//! missed.
//!
//! Nothing here reads a clock or keeps anything. Whoever keeps a schedule asks [`due`] inside the
//! transaction that records the answer, so that of several workers only one fires.

mod cron;
mod due;
mod name;
mod walk;
mod zone;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use cron::Field;
pub use due::{Firings, LATE, MAX_MISSED, due};
pub use name::{MAX_OWN_NAME, full_name, own_name};

use zone::Zone;

/// A recurring moment: a cron expression, read in a time zone.
///
/// The expression has five fields (minute, hour, day of the month, month, day of the week), or six
/// with seconds before them, or is one of `@hourly`, `@daily` (`@midnight`), `@weekly`, `@monthly`
/// and `@yearly` (`@annually`).
///
/// | in a field | meaning |
/// | --- | --- |
/// | `*`, `5`, `1-5`, `1,15`, `*/10`, `8-18/2` | all, one, a range, a list, every tenth, every second of a range |
/// | `JAN`, `MON` | names of months and days, in either case; Sunday is 0 and 7 |
/// | `L` | the last day of the month; `FRI#L` the last Friday |
/// | `15W` | the weekday closest to the 15th, within its month |
/// | `FRI#2` | the second Friday of the month |
/// | `?` | the same as `*`, for a day |
///
/// Where both days are given, either is enough, as in every cron; with a `+` before the day of the
/// week both must hold: `0 9 1-7 * +MON` is the first Monday of the month.
///
/// # When clocks change
/// What happens depends on whether the seconds, minutes and hours name times of day, or have a `*`
/// among them:
///
/// | | times of day: `30 2 * * *`, `0 2,14 * * *` | with a `*`: `*/15 * * * *`, `0 * * * *` |
/// | --- | --- | --- |
/// | a time that is skipped, as clocks go forward | fires at the first moment after the gap, once | does not fire |
/// | a time that happens twice, as clocks go back | fires the first time only | fires both times |
///
/// So what is to happen daily happens daily, and what is to happen every quarter of an hour does
/// so. In `UTC`, the default, clocks do not change.
///
/// ```
/// use skillhost::queue::schedule::Schedule;
///
/// let schedule = Schedule::new("30 2 * * *", "Europe/Berlin")?;
/// // On 2026-03-29 clocks went from 2:00 to 3:00, which was 01:00 in UTC.
/// let next = schedule.next_after("2026-03-28T12:00:00Z".parse()?);
/// assert_eq!(next, Some("2026-03-29T01:00:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// In JSON, `time_zone` and `missed` may be left out:
///
/// ```
/// use skillhost::queue::schedule::{Missed, Schedule};
///
/// let text = r#"{"cron": "0 9 * * MON-FRI", "time_zone": "Asia/Tokyo", "missed": "skip"}"#;
/// let schedule: Schedule = serde_json::from_str(text)?;
/// assert_eq!(schedule.to_string(), "0 9 * * MON-FRI in Asia/Tokyo");
/// assert_eq!(schedule.missed, Missed::Skip);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Schedule {
    /// What becomes of firings that were missed.
    pub missed: Missed,
    expression: cron::Expression,
    zone: Zone,
}

/// What becomes of firings that were missed: that nobody took within a minute ([`LATE`]), for no
/// worker ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Missed {
    /// They are left out.
    Skip,
    /// The last of them is made up for, unless another one is due anyway. The default.
    #[default]
    RunOnce,
    /// All are made up for, of more than a hundred ([`MAX_MISSED`]) the last hundred.
    RunAll,
}

impl Missed {
    /// All of them.
    pub const ALL: [Missed; 3] = [Missed::Skip, Missed::RunOnce, Missed::RunAll];

    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Missed::Skip => "skip",
            Missed::RunOnce => "run_once",
            Missed::RunAll => "run_all",
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Missed {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        Missed::ALL
            .into_iter()
            .find(|missed| missed.as_str() == text)
            .ok_or_else(|| ScheduleError::Missed(shown(text)))
    }
}

/// What makes a schedule none. Texts in it are fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The expression has too few or too many fields.
    #[error(
        "`{text}` has {found} fields; a cron expression has 5 (minute, hour, day of the month, \
         month, day of the week), or 6 with seconds before them"
    )]
    Fields {
        /// The expression.
        text: String,
        /// How many it has.
        found: usize,
    },
    /// One field is wrong.
    #[error("the {field} `{text}` (field {place}) is not one: write {}", field.hint())]
    Field {
        /// Which field.
        field: Field,
        /// Where it stands, from 1.
        place: usize,
        /// What stands there.
        text: String,
    },
    /// There is no such word.
    #[error("`{text}` is not known{}", did_you_mean(meant))]
    Word {
        /// The word, with its `@`.
        text: String,
        /// What it probably meant.
        meant: Option<String>,
    },
    /// The expression is longer than an expression can be.
    #[error("the cron expression is longer than {} bytes", cron::MAX_TEXT)]
    TooLong,
    /// There is no such day, like 30 February, or no such time in that zone, like an hour that its clocks always skip.
    #[error("`{0}` never happens: there is no such day, or no such time in that zone")]
    Never(String),
    /// There is no such time zone.
    #[error(
        "there is no time zone `{text}`; write a name of the IANA database, such as Europe/Berlin{}",
        did_you_mean(meant)
    )]
    Zone {
        /// The name.
        text: String,
        /// Which one it probably meant.
        meant: Option<String>,
    },
    /// There is no such rule for missed firings.
    #[error("`{0}` is no rule for missed firings: write skip, run_once or run_all")]
    Missed(String),
}

fn did_you_mean(meant: &Option<String>) -> String {
    match meant {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => String::new(),
    }
}

/// A text from outside, fit for a message.
fn shown(text: &str) -> String {
    let short = crate::text::shortened(text, cron::MAX_TEXT);
    crate::text::printable(&short, false).into_owned()
}

/// 4960-01-01, in seconds.
const LAST_YEARS: i64 = 94_355_280_000;

impl Schedule {
    /// A cron expression, read in a time zone of the IANA database. Missed firings are made up for
    /// once.
    ///
    /// # Errors
    /// What is wrong with the expression, and where; and a time zone that is not known. An
    /// expression that never fires is an error, too.
    pub fn new(cron: &str, time_zone: &str) -> Result<Self, ScheduleError> {
        let schedule = Schedule {
            missed: Missed::default(),
            expression: cron.parse()?,
            zone: Zone::find(time_zone)?,
        };
        // In 28 years without one that is a century, each kind of year is there: of either length, and beginning on
        // each day of the week. What does not happen in these last 40 that are known never does; to look through all
        // three thousand takes a tenth of a second.
        let last = DateTime::from_timestamp(LAST_YEARS, 0).unwrap_or(DateTime::UNIX_EPOCH);
        match schedule.next_after(last) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never(shown(cron.trim()))),
        }
    }

    /// Sets what becomes of missed firings.
    #[must_use]
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// The cron expression, as it was written, with single spaces.
    pub fn cron(&self) -> &str {
        self.expression.text()
    }

    /// The name of the time zone.
    pub fn time_zone(&self) -> &str {
        self.zone.name()
    }

    /// The first firing after a moment; `None` past the year 4999.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        walk::next_after(&self.expression, &self.zone, moment)
    }

    /// The last firing at a moment or before it; `None` before the year 1.
    pub fn last_until(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        walk::last_until(&self.expression, &self.zone, moment)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.cron(), self.time_zone())
    }
}

/// A schedule as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    cron: String,
    #[serde(default = "utc")]
    time_zone: String,
    #[serde(default)]
    missed: Missed,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl TryFrom<Written> for Schedule {
    type Error = ScheduleError;

    fn try_from(written: Written) -> Result<Self, ScheduleError> {
        Ok(Schedule::new(&written.cron, &written.time_zone)?.missed(written.missed))
    }
}

impl From<Schedule> for Written {
    fn from(schedule: Schedule) -> Self {
        Written {
            cron: schedule.cron().to_owned(),
            time_zone: schedule.time_zone().to_owned(),
            missed: schedule.missed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(cron: &str, zone: &str) -> String {
        Schedule::new(cron, zone).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (cron, zone) in [
            ("*/5 * * * *", "UTC"),
            ("0 0 12 * * MON-FRI", "America/New_York"),
            ("@daily", "Asia/Kolkata"),
        ] {
            for missed in Missed::ALL {
                let schedule = Schedule::new(cron, zone).unwrap().missed(missed);
                let text = serde_json::to_string(&schedule).unwrap();
                let again: Schedule = serde_json::from_str(&text).unwrap();
                assert_eq!(again, schedule);
                assert_eq!((again.cron(), again.time_zone()), (cron, zone));
                assert_eq!(missed.to_string().parse(), Ok(missed));
            }
        }
        let short: Schedule = serde_json::from_str(r#"{"cron": " 0  9 * * * "}"#).unwrap();
        assert_eq!(short.to_string(), "0 9 * * * in UTC");
        assert_eq!(short.missed, Missed::RunOnce);
        assert!(serde_json::from_str::<Schedule>(r#"{"cron": "@daily", "zone": "UTC"}"#).is_err());
    }

    #[test]
    fn what_never_happens_is_refused() {
        assert_eq!(
            error("0 0 30 2 *", "UTC"),
            "`0 0 30 2 *` never happens: there is no such day, or no such time in that zone"
        );
        assert!(Schedule::new("0 0 29 2 +MON", "UTC").is_ok());
        assert!(Schedule::new("0 0 31 * MON#5", "UTC").is_ok());
    }

    /// However seldom it is: each day of the year on each day of the week.
    #[test]
    fn what_happens_at_all_is_found() {
        for month in 1..=12 {
            let days = match month {
                2 => 29,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            for (day, weekday) in (1..=31).flat_map(|day| (0..7).map(move |of| (day, of))) {
                let cron = format!("59 59 23 {day} {month} +{weekday}");
                let found = Schedule::new(&cron, "UTC");
                assert_eq!(found.is_ok(), day <= days, "{cron}: {found:?}");
            }
        }
    }

    #[test]
    fn a_misspelt_zone_is_guessed() {
        for (text, meant) in [
            ("Europe/Belin", "Europe/Berlin"),
            ("europe/berlin", "Europe/Berlin"),
            ("Berlin", "Europe/Berlin"),
            ("new york", "America/New_York"),
            ("utc", "UTC"),
        ] {
            let error = error("@daily", text);
            let hint = format!("did you mean `{meant}`?");
            assert!(error.contains(&hint), "{error}");
        }
        assert!(!error("@daily", "x\n").contains("did you mean"));
        assert!(error("@daily", "\u{1b}[2J").contains(r"\u{1b}[2J"));
    }
}
