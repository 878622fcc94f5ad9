//! From one firing to the next, and back.

use std::ops::RangeInclusive;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};

use super::cron::Expression;
use super::zone::Zone;

/// No clock is further from UTC than this, and no gap is longer.
const MARGIN: TimeDelta = TimeDelta::hours(50);

/// The first and the last second that are looked at: 0001-01-03 and 4999-12-30. The clocks of no zone
/// leave the years 1 to 4999 between them.
const SPAN: RangeInclusive<i64> = -62_135_424_000..=95_617_411_200;

/// The first firing after a moment.
pub(super) fn next_after(
    expression: &Expression,
    zone: &Zone,
    moment: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let cron = expression.cron();
    let second = moment.timestamp().max(*SPAN.start());
    let start = within_span(second)?.with_timezone(zone);
    if !expression.times_of_day() {
        let next = cron.find_next_occurrence(&start, false).ok()?;
        return Some(next.to_utc());
    }
    // Along the clock on the wall, whose times follow each other as the moments that they stand for
    // do; several may stand for one.
    let mut wall = start.naive_local();
    loop {
        wall = cron.find_next_occurrence(&wall, false).ok()?;
        let next = stands_for(zone, wall)?;
        if next > moment {
            return Some(next);
        }
    }
}

/// The last firing at a moment or before it.
pub(super) fn last_until(
    expression: &Expression,
    zone: &Zone,
    moment: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let cron = expression.cron();
    let second = moment.timestamp().min(*SPAN.end());
    let start = within_span(second)?.with_timezone(zone);
    if !expression.times_of_day() {
        let last = cron.find_previous_occurrence(&start, true).ok()?;
        return Some(last.to_utc());
    }
    // In an hour that happens a second time, the whole of the first one lies before, also what the
    // clock on the wall has still to show.
    let mut wall = match zone.from_local_datetime(&start.naive_local()) {
        LocalResult::Ambiguous(first, second) => start.naive_local() + (second - first),
        _ => start.naive_local(),
    };
    let mut inclusive = true;
    loop {
        wall = cron.find_previous_occurrence(&wall, inclusive).ok()?;
        inclusive = false;
        let last = stands_for(zone, wall)?;
        if last <= moment {
            return Some(last);
        }
    }
}

fn within_span(second: i64) -> Option<DateTime<Utc>> {
    SPAN.contains(&second)
        .then(|| DateTime::from_timestamp(second, 0))
        .flatten()
}

/// The moment that a time on the wall stands for: of two the first; and where clocks skip it, the
/// first moment after.
fn stands_for(zone: &Zone, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => Some(moment.to_utc()),
        LocalResult::None => {
            let mut before = wall.and_utc().checked_sub_signed(MARGIN)?;
            let mut after = wall.and_utc().checked_add_signed(MARGIN)?;
            // Halved to the second in which the clock goes past that time.
            while after - before > TimeDelta::seconds(1) {
                let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
                if middle.with_timezone(zone).naive_local() < wall {
                    before = middle;
                } else {
                    after = middle;
                }
            }
            Some(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Checks all firings from one moment to another, there and back again.
    fn check(cron: &str, zone: &str, from: &str, until: &str, expected: &[&str]) {
        let expression: Expression = cron.parse().unwrap();
        let zone = Zone::find(zone).unwrap();
        let (from, until) = (moment(from), moment(until));
        let mut found = Vec::new();
        let mut at = from;
        while let Some(next) = next_after(&expression, &zone, at).filter(|next| *next <= until) {
            found.push(next);
            at = next;
        }
        let expected: Vec<_> = expected.iter().map(|text| moment(text)).collect();
        assert_eq!(found, expected, "{cron}");
        let mut back = Vec::new();
        let mut at = until;
        while let Some(last) = last_until(&expression, &zone, at).filter(|last| *last > from) {
            back.push(last);
            at = last - TimeDelta::nanoseconds(1);
        }
        back.reverse();
        assert_eq!(back, expected, "{cron}, backwards");
    }

    /// In Berlin, 2026-03-29 has no time from 2:00 to 3:00 (01:00 in UTC).
    #[test]
    fn a_time_of_day_that_does_not_exist_is_the_first_moment_after() {
        let check = |cron, expected: &[&str]| {
            let (from, until) = ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
            check(cron, "Europe/Berlin", from, until, expected);
        };
        check("30 2 * * *", &["2026-03-29T01:00:00Z"]);
        check("0 2 * * *", &["2026-03-29T01:00:00Z"]);
        check("59 59 2 * * *", &["2026-03-29T01:00:00Z"]);
        check("0 3 * * *", &["2026-03-29T01:00:00Z"]);
        check("59 1 * * *", &["2026-03-29T00:59:00Z"]);
        // Several that fall into one are one.
        check(
            "0,30 1-3 * * *",
            &[
                "2026-03-29T00:00:00Z",
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z",
            ],
        );
    }

    #[test]
    fn an_interval_passes_over_the_gap() {
        check(
            "*/30 1-3 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-29T12:00:00Z",
            &[
                "2026-03-29T00:00:00Z",
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z",
            ],
        );
        check(
            "* 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-29T12:00:00Z",
            &[],
        );
    }

    /// In Berlin, 2026-10-25 has the time from 2:00 to 3:00 twice (00:00 and 01:00 in UTC).
    #[test]
    fn a_time_of_day_that_happens_twice_is_the_first() {
        let check = |cron, expected: &[&str]| {
            let (from, until) = ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z");
            check(cron, "Europe/Berlin", from, until, expected);
        };
        check("30 2 * * *", &["2026-10-25T00:30:00Z"]);
        check("0 2 * * *", &["2026-10-25T00:00:00Z"]);
        check("0 3 * * *", &["2026-10-25T02:00:00Z"]);
        check(
            "0 2,3 * * *",
            &["2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"],
        );
        // Asked in the hour that comes again.
        let expression: Expression = "30 2 * * *".parse().unwrap();
        let berlin = Zone::find("Europe/Berlin").unwrap();
        for at in ["2026-10-25T01:15:00Z", "2026-10-25T01:45:00Z"] {
            let last = last_until(&expression, &berlin, moment(at));
            assert_eq!(last, Some(moment("2026-10-25T00:30:00Z")));
            let next = next_after(&expression, &berlin, moment(at));
            assert_eq!(next, Some(moment("2026-10-26T01:30:00Z")));
        }
    }

    #[test]
    fn an_interval_happens_in_both() {
        check(
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-24T23:30:00Z",
            "2026-10-25T02:00:00Z",
            &[
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00Z",
            ],
        );
    }

    #[test]
    fn odd_clocks() {
        // Half an hour of summer time.
        check(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            "2026-10-04T00:00:00Z",
            &["2026-10-03T15:30:00Z"],
        );
        // A whole day was left out.
        check(
            "0 9 30 12 *",
            "Pacific/Apia",
            "2011-12-01T00:00:00Z",
            "2012-01-30T00:00:00Z",
            &["2011-12-30T10:00:00Z"],
        );
        // Clocks that change at midnight.
        check(
            "@daily",
            "America/Havana",
            "2026-03-07T12:00:00Z",
            "2026-03-08T12:00:00Z",
            &["2026-03-08T05:00:00Z"],
        );
    }

    #[test]
    fn days_of_month_and_week() {
        let check = |cron, expected: &[&str]| {
            check(
                cron,
                "UTC",
                "2026-10-31T12:00:00Z",
                "2026-12-01T12:00:00Z",
                expected,
            );
        };
        check("0 0 L * *", &["2026-11-30T00:00:00Z"]);
        check("0 0 * * FRI#L", &["2026-11-27T00:00:00Z"]);
        check("0 0 * * FRI#2", &["2026-11-13T00:00:00Z"]);
        check("0 0 15W * *", &["2026-11-16T00:00:00Z"]);
        check("0 9 1-7 * +MON", &["2026-11-02T09:00:00Z"]);
        check(
            "0 0 20 * SUN#1",
            &["2026-11-01T00:00:00Z", "2026-11-20T00:00:00Z"],
        );
    }

    #[test]
    fn parts_of_a_second_do_not_repeat_or_lose_a_firing() {
        let expression: Expression = "* * * * * *".parse().unwrap();
        let next =
            |text| next_after(&expression, &Zone::find("UTC").unwrap(), moment(text)).unwrap();
        assert_eq!(next("2026-01-01T00:00:00Z"), moment("2026-01-01T00:00:01Z"));
        assert_eq!(
            next("2026-01-01T00:00:00.9Z"),
            moment("2026-01-01T00:00:01Z")
        );
        let daily: Expression = "0 0 * * *".parse().unwrap();
        let next = |text| next_after(&daily, &Zone::find("UTC").unwrap(), moment(text)).unwrap();
        assert_eq!(
            next("2025-12-31T23:59:59.5Z"),
            moment("2026-01-01T00:00:00Z")
        );
        assert_eq!(
            next("2026-01-01T00:00:00.5Z"),
            moment("2026-01-02T00:00:00Z")
        );
    }

    #[test]
    fn the_ends_of_time() {
        let tokyo = Zone::find("Asia/Tokyo").unwrap();
        for cron in ["0 0 * * *", "* * * * * *"] {
            let cron: Expression = cron.parse().unwrap();
            let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
            assert!(next_after(&cron, &tokyo, first).is_some());
            assert!(last_until(&cron, &tokyo, last).is_some());
            assert_eq!(next_after(&cron, &tokyo, last), None);
            assert_eq!(last_until(&cron, &tokyo, first), None);
            for edge in [*SPAN.start(), *SPAN.end()] {
                let edge = DateTime::from_timestamp(edge, 0).unwrap();
                let _ = next_after(&cron, &tokyo, edge);
                let _ = last_until(&cron, &tokyo, edge);
            }
        }
        let edge = |second| DateTime::from_timestamp(second, 0).unwrap();
        assert_eq!(edge(*SPAN.start()), moment("0001-01-03T00:00:00Z"));
        assert_eq!(edge(*SPAN.end()), moment("4999-12-30T00:00:00Z"));
    }
}
