//! Time zones by name, for `chrono`; the database is that of the crate `jiff`.

use chrono::{DateTime, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, Utc};
use chrono::{Datelike as _, Offset, TimeZone, Timelike as _};
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone as Rules};

use super::{ScheduleError, shown};

/// A time zone of the IANA database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zone(Rules);

impl Zone {
    /// That of this name, written as the database writes it.
    pub fn find(text: &str) -> Result<Self, ScheduleError> {
        let name = text.trim();
        let rules = Rules::get(name).ok();
        match rules.filter(|rules| rules.iana_name() == Some(name)) {
            Some(rules) => Ok(Zone(rules)),
            None => Err(ScheduleError::Zone {
                text: shown(text),
                meant: meant(name),
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    fn offset(&self, offset: jiff::tz::Offset) -> ZoneOffset {
        let fixed = FixedOffset::east_opt(offset.seconds());
        ZoneOffset {
            zone: self.clone(),
            // No clock is a day away from UTC.
            fixed: fixed.unwrap_or_else(|| Utc.fix()),
        }
    }
}

/// How far a zone's clocks are from UTC at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ZoneOffset {
    zone: Zone,
    fixed: FixedOffset,
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.fixed
    }
}

impl TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Self {
        offset.zone.clone()
    }

    fn offset_from_local_date(&self, date: &NaiveDate) -> LocalResult<ZoneOffset> {
        self.offset_from_local_datetime(&date.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, wall: &NaiveDateTime) -> LocalResult<ZoneOffset> {
        let Some(wall) = civil(wall) else {
            return LocalResult::None;
        };
        match self.0.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => LocalResult::Single(self.offset(offset)),
            AmbiguousOffset::Gap { .. } => LocalResult::None,
            AmbiguousOffset::Fold { before, after } => {
                LocalResult::Ambiguous(self.offset(before), self.offset(after))
            }
        }
    }

    fn offset_from_utc_date(&self, date: &NaiveDate) -> ZoneOffset {
        self.offset_from_utc_datetime(&date.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, moment: &NaiveDateTime) -> ZoneOffset {
        let moment: DateTime<Utc> = moment.and_utc();
        // What is beyond the years that are known stands at their end.
        let moment =
            Timestamp::from_second(moment.timestamp()).unwrap_or(match moment.timestamp() {
                ..0 => Timestamp::MIN,
                _ => Timestamp::MAX,
            });
        self.offset(self.0.to_offset(moment))
    }
}

fn civil(wall: &NaiveDateTime) -> Option<civil::DateTime> {
    let part = |part: u32| i8::try_from(part).ok();
    civil::DateTime::new(
        i16::try_from(wall.year()).ok()?,
        part(wall.month())?,
        part(wall.day())?,
        part(wall.hour())?,
        part(wall.minute())?,
        part(wall.second())?,
        i32::try_from(wall.nanosecond() % 1_000_000_000).ok()?,
    )
    .ok()
}

/// The longest name that is compared with those that there are, in bytes.
const MOST_MEANT: usize = 40;

/// The zone that is meant: by another case, by its city alone, or by a slip.
fn meant(text: &str) -> Option<String> {
    // No name is as long. To compare it with all takes a while.
    if text.len() > MOST_MEANT {
        return None;
    }
    let names: Vec<_> = jiff::tz::db().available().collect();
    let names = || names.iter().map(|name| name.as_str());
    let plain = text.replace(' ', "_");
    let city = |name: &str| {
        name.rsplit_once('/')
            .is_some_and(|(_, city)| city.eq_ignore_ascii_case(&plain))
    };
    names()
        .find(|name| name.eq_ignore_ascii_case(&plain))
        .or_else(|| names().find(|name| city(name)))
        .or_else(|| {
            let as_long = |name: &&str| {
                name.len().abs_diff(plain.len()) <= 4
                    || plain.len() >= 8 && name.starts_with(&plain)
            };
            crate::text::closest(&plain, names().filter(as_long))
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(zone: &str, wall: &str) -> LocalResult<String> {
        let zone = Zone::find(zone).unwrap();
        let found = zone.from_local_datetime(&wall.parse().unwrap());
        found.map(|moment| moment.to_utc().to_rfc3339())
    }

    #[test]
    fn clocks_skip_hours_and_show_some_twice() {
        let single = LocalResult::Single("2026-07-01T10:00:00+00:00".to_owned());
        assert_eq!(local("Europe/Berlin", "2026-07-01T12:00:00"), single);
        assert_eq!(
            local("Europe/Berlin", "2026-03-29T02:30:00"),
            LocalResult::None
        );
        let twice = LocalResult::Ambiguous(
            "2026-10-25T00:30:00+00:00".to_owned(),
            "2026-10-25T01:30:00+00:00".to_owned(),
        );
        assert_eq!(local("Europe/Berlin", "2026-10-25T02:30:00"), twice);
    }

    #[test]
    fn the_rules_hold_also_far_from_today() {
        let late = LocalResult::Single("2400-07-01T10:00:00+00:00".to_owned());
        assert_eq!(local("Europe/Berlin", "2400-07-01T12:00:00"), late);
        let zone = Zone::find("Asia/Tokyo").unwrap();
        assert_eq!(
            zone.offset_from_utc_datetime(&NaiveDateTime::MIN)
                .fixed
                .local_minus_utc()
                / 3600,
            9
        );
        assert_eq!(
            zone.offset_from_local_datetime(&NaiveDateTime::MAX),
            LocalResult::None
        );
    }

    #[test]
    fn every_name_is_found_as_it_is_written() {
        for name in jiff::tz::db().available() {
            let zone = Zone::find(name.as_str());
            if let Ok(zone) = zone {
                assert_eq!(zone.name(), name.as_str());
            } else {
                assert_eq!(name.as_str(), "Etc/Unknown");
            }
        }
        for wrong in [
            "europe/berlin",
            "",
            "Europe/",
            "Mars/Base",
            "+01:00",
            "../UTC",
        ] {
            assert!(Zone::find(wrong).is_err(), "{wrong}");
        }
    }
}
