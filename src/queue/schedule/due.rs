//! Which firings are due.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Missed, Schedule};

/// A firing that nobody took for longer than this was missed: one minute.
pub const LATE: TimeDelta = TimeDelta::minutes(1);
/// The most firings that are made up for at once.
pub const MAX_MISSED: usize = 100;

/// What a schedule fires at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Firings {
    /// The firings that are to be made, in their order, by when they were to happen: at most
    /// [`MAX_MISSED`].
    pub times: Vec<DateTime<Utc>>,
    /// When to ask again: the first firing to come. `None` past the year 4999.
    pub next: Option<DateTime<Utc>>,
    /// Whether firings were left out, by the rule for missed ones.
    pub skipped: bool,
}

/// Says which firings are due at `now`.
///
/// `last` is the moment up to which firings were made before: the `now` of the call before, or when
/// the schedule was added or resumed. With `None` there is nothing to make up for, and only `next`
/// is found. A caller that keeps `now` as `last` in the same transaction as what it does about
/// `times`, and only where `last` is still what it read, makes each firing once, however many ask.
/// Where the clock went back, nothing is due until it is past `last` again.
///
/// A firing is on time for a minute ([`LATE`]), and those are always made. What was missed is
/// subject to [`Missed`].
///
/// ```
/// use skillhost::queue::schedule::{Schedule, due};
///
/// let daily = Schedule::new("0 9 * * *", "UTC")?;
/// let at = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>();
/// // Nobody was there for three days.
/// let firings = due(&daily, Some(at("2026-11-17T09:00:00Z")?), at("2026-11-20T10:00:00Z")?);
/// assert_eq!(firings.times, [at("2026-11-20T09:00:00Z")?]);
/// assert!(firings.skipped);
/// assert_eq!(firings.next, Some(at("2026-11-21T09:00:00Z")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn due(schedule: &Schedule, last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Firings {
    let after = last.unwrap_or(now);
    let mut times = Vec::new();
    let mut skipped = false;
    let mut at = now;
    // From the last one back: how many there were before must not matter.
    while let Some(time) = schedule.last_until(at).filter(|time| *time > after) {
        let on_time = now - time <= LATE;
        let made = on_time
            || match schedule.missed {
                Missed::Skip => false,
                Missed::RunOnce => times.is_empty(),
                Missed::RunAll => true,
            };
        if !made || times.len() == MAX_MISSED {
            skipped = true;
            break;
        }
        times.push(time);
        at = time - TimeDelta::nanoseconds(1);
    }
    times.reverse();
    Firings {
        times,
        next: schedule.next_after(now.max(after)),
        skipped,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn schedule(cron: &str, missed: Missed) -> Schedule {
        Schedule::new(cron, "UTC").unwrap().missed(missed)
    }

    #[test]
    fn on_time_is_on_time_whatever_the_rule() {
        for missed in Missed::ALL {
            let schedule = schedule("0 9 * * *", missed);
            let last = Some(moment("2026-11-20T09:00:30Z"));
            for (now, is_due) in [
                ("2026-11-21T08:59:59.999Z", false),
                ("2026-11-21T09:00:00Z", true),
                ("2026-11-21T09:01:00Z", true),
            ] {
                let firings = due(&schedule, last, moment(now));
                assert_eq!(firings.times.len(), usize::from(is_due), "{missed} {now}");
                assert!(!firings.skipped);
            }
        }
    }

    #[test]
    fn missed_firings_follow_the_rule() {
        let (last, now) = (
            moment("2026-11-16T12:00:00Z"),
            moment("2026-11-20T12:00:00Z"),
        );
        let made = |missed| {
            let firings = due(&schedule("0 9 * * *", missed), Some(last), now);
            assert_eq!(firings.next, Some(moment("2026-11-21T09:00:00Z")));
            (
                firings.times.len(),
                firings.times.last().copied(),
                firings.skipped,
            )
        };
        let newest = Some(moment("2026-11-20T09:00:00Z"));
        assert_eq!(made(Missed::Skip), (0, None, true));
        assert_eq!(made(Missed::RunOnce), (1, newest, true));
        assert_eq!(made(Missed::RunAll), (4, newest, false));
    }

    #[test]
    fn what_is_due_anyway_makes_up_for_what_was_missed() {
        let (last, now) = (
            moment("2026-11-16T12:00:00Z"),
            moment("2026-11-20T09:00:10Z"),
        );
        let firings = due(&schedule("0 9 * * *", Missed::RunOnce), Some(last), now);
        assert_eq!(firings.times, [moment("2026-11-20T09:00:00Z")]);
    }

    #[test]
    fn of_very_many_the_last_hundred_are_made_up_for() {
        let (last, now) = (
            moment("2000-01-01T00:00:00Z"),
            moment("2026-11-20T00:00:00Z"),
        );
        let firings = due(&schedule("* * * * * *", Missed::RunAll), Some(last), now);
        assert_eq!(firings.times.len(), MAX_MISSED);
        assert_eq!(firings.times.last(), Some(&now));
        assert!(firings.skipped);
        assert!(firings.times.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn nothing_is_due_at_first_or_when_the_clock_went_back() {
        let schedule = schedule("* * * * *", Missed::RunAll);
        let now = moment("2026-11-20T09:00:00Z");
        let firings = due(&schedule, None, now);
        assert!(firings.times.is_empty());
        assert_eq!(firings.next, Some(moment("2026-11-20T09:01:00Z")));
        let firings = due(&schedule, Some(moment("2026-11-20T09:30:00Z")), now);
        assert!(firings.times.is_empty());
        assert_eq!(firings.next, Some(moment("2026-11-20T09:31:00Z")));
    }

    /// Expressions, most of them with something in every field.
    fn expressions() -> impl Strategy<Value = String> {
        let part = |from: u32, to: u32| {
            prop_oneof![
                Just("*".to_owned()),
                (from..=to).prop_map(|one| one.to_string()),
                (from..=to, from..=to).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
                (from..=to, from..=to).prop_map(|(a, b)| format!("{a},{b}")),
                (1..=to).prop_map(|step| format!("*/{step}")),
            ]
        };
        // Days that every month has: each of these expressions happens.
        let parts = (
            part(0, 59),
            part(0, 59),
            part(0, 23),
            part(1, 28),
            part(1, 12),
            part(0, 7),
        );
        parts.prop_map(|(s, m, h, d, month, week)| format!("{s} {m} {h} {d} {month} {week}"))
    }

    fn zones() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec![
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "America/Havana",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "Asia/Kathmandu",
        ])
    }

    /// Some moments in the years 2000 to 2040, many of them close to changes of clocks.
    fn moments() -> impl Strategy<Value = DateTime<Utc>> {
        let days = prop_oneof![
            (0_i64..14_600),
            (
                0_i64..40,
                proptest::sample::select(vec![66_i64, 87, 297, 305])
            )
                .prop_map(|(years, day)| years * 36_525 / 100 + day),
        ];
        (days, 0_i64..86_400_000).prop_map(|(days, ms)| {
            moment("2000-01-01T00:00:00Z") + TimeDelta::days(days) + TimeDelta::milliseconds(ms)
        })
    }

    proptest! {
        #[test]
        fn next_comes_after_and_is_found_going_back(
            cron in expressions(), zone in zones(), at in moments(),
        ) {
            let schedule = Schedule::new(&cron, zone).unwrap();
            let first = schedule.next_after(at).unwrap();
            let second = schedule.next_after(first).unwrap();
            prop_assert!(at < first && first < second);
            let before = TimeDelta::nanoseconds(1);
            prop_assert_eq!(schedule.last_until(first), Some(first));
            prop_assert_eq!(schedule.last_until(second), Some(second));
            prop_assert_eq!(schedule.last_until(second - before), Some(first));
            prop_assert!(schedule.last_until(first - before).unwrap() <= at);
        }

        #[test]
        fn no_firing_is_made_twice_or_lost(
            cron in expressions(), zone in zones(), at in moments(),
            steps in proptest::collection::vec(1_i64..200_000, 1..12),
        ) {
            let schedule = Schedule::new(&cron, zone).unwrap().missed(Missed::RunAll);
            let mut made = Vec::new();
            let mut last = at;
            let mut cut = false;
            for step in steps {
                let now = last + TimeDelta::milliseconds(step);
                let firings = due(&schedule, Some(last), now);
                prop_assert!(firings.next.unwrap() > now);
                made.extend(firings.times);
                cut |= firings.skipped;
                last = now;
            }
            prop_assert!(made.is_sorted_by(|a, b| a < b));
            let mut expected = Vec::new();
            let mut from = at;
            while let Some(next) = schedule.next_after(from).filter(|next| *next <= last) {
                expected.push(next);
                from = next;
            }
            prop_assert!(cut || made == expected, "{:?} {:?}", made, expected);
        }
    }
}
