//! Reading a cron expression.

use std::fmt;
use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::{ScheduleError, shown};

/// The longest expression, in bytes.
pub(super) const MAX_TEXT: usize = 256;

/// Words that stand for a whole expression.
const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAYS: [&str; 8] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"];

/// A field of a cron expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The second.
    Second,
    /// The minute.
    Minute,
    /// The hour.
    Hour,
    /// The day of the month.
    Day,
    /// The month.
    Month,
    /// The day of the week.
    Weekday,
}

impl Field {
    const ALL: [Field; 6] = [
        Field::Second,
        Field::Minute,
        Field::Hour,
        Field::Day,
        Field::Month,
        Field::Weekday,
    ];

    /// What may stand there.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Field::Second | Field::Minute => "0 to 59, ranges (0-30), lists (0,30), or */15",
            Field::Hour => "0 to 23, ranges (8-18), lists (6,18), or */2",
            Field::Day => "1 to 31, ranges (1-7), lists (1,15), */2, L for the last, or 15W",
            Field::Month => "1 to 12 or JAN to DEC, ranges (JAN-MAR), lists (1,7), or */3",
            Field::Weekday => {
                "0 to 7 or SUN to SAT, ranges (MON-FRI), lists (SAT,SUN), FRI#2 or FRI#L"
            }
        }
    }

    /// The words that may stand there.
    fn words(self) -> &'static [&'static str] {
        match self {
            Field::Second | Field::Minute | Field::Hour => &[],
            Field::Day => &["L", "W"],
            Field::Month => &MONTHS,
            Field::Weekday => &DAYS,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Second => "second",
            Field::Minute => "minute",
            Field::Hour => "hour",
            Field::Day => "day of the month",
            Field::Month => "month",
            Field::Weekday => "day of the week",
        })
    }
}

/// A cron expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expression {
    /// As it was written, with single spaces.
    text: String,
    cron: Cron,
    times_of_day: bool,
}

impl Expression {
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn cron(&self) -> &Cron {
        &self.cron
    }

    /// Whether seconds, minutes and hours name times of day, and have no `*` among them.
    pub fn times_of_day(&self) -> bool {
        self.times_of_day
    }
}

impl FromStr for Expression {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > MAX_TEXT {
            return Err(ScheduleError::TooLong);
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let fields: Vec<&str> = expanded(&text)?.split(' ').collect();
        let count = fields.iter().filter(|field| !field.is_empty()).count();
        if !(5..=6).contains(&count) {
            return Err(ScheduleError::Fields {
                text: shown(&text),
                found: count,
            });
        }
        let kinds = &Field::ALL[6 - count..];
        for (index, (&field, text)) in kinds.iter().zip(&fields).enumerate() {
            if !fits(field, text) {
                return Err(ScheduleError::Field {
                    field,
                    place: index + 1,
                    text: shown(text),
                });
            }
        }
        // Each field was read by itself: together they can only be well.
        let cron = parse(&fields.join(" ")).ok_or(ScheduleError::Fields {
            text: shown(&text),
            found: count,
        })?;
        let times_of_day = !fields[..count - 3].iter().any(|field| field.contains('*'));
        Ok(Expression {
            text,
            cron,
            times_of_day,
        })
    }
}

/// The expression that a word stands for, or the text itself.
fn expanded(text: &str) -> Result<&str, ScheduleError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let known = WORDS
        .iter()
        .find(|(word, _)| text.eq_ignore_ascii_case(word));
    known
        .map(|(_, expression)| *expression)
        .ok_or_else(|| ScheduleError::Word {
            text: shown(text),
            meant: crate::text::closest(text, WORDS.iter().map(|(word, _)| *word))
                .map(str::to_owned),
        })
}

/// Whether a field can be read. The parser takes names of days for months, and a list with nothing
/// in it: these are looked at before.
fn fits(field: Field, text: &str) -> bool {
    let words = text.split(|c: char| !c.is_alphabetic());
    let known = |word: &str| {
        let mut known = field.words().iter();
        word.is_empty() || known.any(|known| known.eq_ignore_ascii_case(word))
    };
    let list = text.strip_prefix('+').unwrap_or(text);
    if !words.into_iter().all(known) || list.split(',').any(str::is_empty) {
        return false;
    }
    let mut probe = ["*"; 6];
    probe[field as usize] = text;
    parse(&probe.join(" ")).is_some()
}

fn parse(text: &str) -> Option<Cron> {
    CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build()
        .parse(text)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match text.parse::<Expression>() {
            Ok(_) => format!("`{text}` was read"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_wrong_field_is_named_with_its_place() {
        for (text, field) in [
            ("60 * * * *", "minute `60` (field 1)"),
            ("* 24 * * *", "hour `24` (field 2)"),
            ("* * 0 * *", "day of the month `0` (field 3)"),
            ("* * * 13 *", "month `13` (field 4)"),
            ("* * * * 8", "day of the week `8` (field 5)"),
            ("61 * * * * *", "second `61` (field 1)"),
            ("* * * * * MOO", "day of the week `MOO` (field 6)"),
            ("* * * MON *", "month `MON` (field 4)"),
            ("* * * * JAN", "day of the week `JAN` (field 5)"),
            ("MON * * * *", "minute `MON` (field 1)"),
            ("1,,2 * * * *", "minute `1,,2` (field 1)"),
            (", * * * *", "minute `,` (field 1)"),
            ("* * * * +", "day of the week `+` (field 5)"),
            ("*/0 * * * *", "minute `*/0` (field 1)"),
            ("*/x * * * *", "minute `*/x` (field 1)"),
            ("5-1 * * * *", "minute `5-1` (field 1)"),
            ("5/10 * * * *", "minute `5/10` (field 1)"),
            ("-1 * * * *", "minute `-1` (field 1)"),
            ("* * * * MON#6", "day of the week `MON#6` (field 5)"),
            ("L * * * *", "minute `L` (field 1)"),
            ("٣ * * * *", "minute `٣` (field 1)"),
            ("1\u{1b} * * * *", r"minute `1\u{1b}` (field 1)"),
            (
                "99999999999999999999 * * * *",
                "minute `99999999999999999999`",
            ),
        ] {
            let error = error(text);
            assert!(
                error.starts_with(&format!("the {field}")),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn fields_are_counted() {
        for (text, found) in [("", 0), ("* * * *", 4), ("* * * * * * 2027", 7)] {
            assert!(
                error(text).contains(&format!("has {found} fields")),
                "{text}"
            );
        }
        assert_eq!(error(&"*".repeat(300)), ScheduleError::TooLong.to_string());
    }

    #[test]
    fn words_stand_for_expressions() {
        for (word, expression) in WORDS {
            let word: Expression = word.to_uppercase().parse().unwrap();
            let expression: Expression = expression.parse().unwrap();
            assert_eq!(word.cron, expression.cron);
        }
        assert!(error("@dayly").ends_with("did you mean `@daily`?"));
        assert_eq!(error("@reboot"), "`@reboot` is not known");
    }

    #[test]
    fn every_form_that_is_promised_is_read() {
        for text in [
            "* * * * *",
            "5 1-5 1,15 */10 *",
            "0 8-18/2 * jan-mar mon-fri",
            "0 0 L * *",
            "0 0 * * FRI#L",
            "0 0 * * 5L",
            "0 0 15W * *",
            "0 0 * * FRI#2",
            "0 0 ? * 7",
            "0 9 1-7 * +MON",
            "*/10 * * * * *",
        ] {
            assert!(
                text.parse::<Expression>().is_ok(),
                "{text}: {}",
                error(text)
            );
        }
    }

    #[test]
    fn a_star_makes_an_interval_of_times() {
        let times = |text: &str| text.parse::<Expression>().unwrap().times_of_day();
        for text in [
            "30 2 * * *",
            "0 2,14 * * *",
            "0 8-18/2 * * *",
            "1 2 3 * * *",
            "@daily",
        ] {
            assert!(times(text), "{text}");
        }
        for text in ["* 2 * * *", "0 */2 * * *", "* 0 0 * * *", "@hourly"] {
            assert!(!times(text), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[-*/,?@#+ LWlw0-9A-Za-z\u{0}é]{0,40}") {
            let _ = text.parse::<Expression>();
        }
    }
}
