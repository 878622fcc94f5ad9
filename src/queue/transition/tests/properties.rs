//! What holds whatever happens; and the drawing.

use std::collections::BTreeSet;

use chrono::DateTime;
use proptest::prelude::*;
use serde_json::Value;

use super::super::super::new_job::NewJob;
use super::super::super::prepare::prepare;
use super::*;

/// Every trigger, with every outcome.
fn with_triggers(mut each: impl FnMut(&str, Trigger<'_>)) {
    let retry = plan();
    for (outcome, _, _) in table() {
        for outcome in [marked_destructive(outcome.clone()), outcome] {
            each(
                "end",
                Trigger::End {
                    outcome: &outcome,
                    retry: &retry,
                },
            );
        }
    }
    for destructive in [true, false] {
        each(
            "lost",
            Trigger::Lost {
                retry: &retry,
                destructive,
            },
        );
    }
    for (name, trigger) in [
        ("claim", Trigger::Claim),
        ("expire", Trigger::Expire),
        ("cancel", Trigger::Cancel),
        ("pause", Trigger::Pause),
        ("resume", Trigger::Resume),
        ("answer", Trigger::Answer { approved: true }),
        ("answer", Trigger::Answer { approved: false }),
        ("answer", Trigger::Unanswered),
        (
            "snooze",
            Trigger::Snooze {
                until: NOW + SECOND,
            },
        ),
    ] {
        each(name, trigger);
    }
}

#[test]
fn each_trigger_is_possible_where_it_makes_sense_and_nowhere_else() {
    use JobStatus::{Failed, Paused, Pending, Running};
    for &status in JobStatus::ALL {
        let mut asked = standing(status);
        asked.cause = Some(APPROVAL_NEEDED.to_owned());
        for (job, waits_for_word) in [(standing(status), false), (asked, true)] {
            with_triggers(|name, trigger| {
                let possible = match name {
                    "claim" | "pause" | "snooze" => matches!(status, Pending | Failed),
                    "expire" => matches!(status, Pending | Failed | Paused),
                    "cancel" => matches!(status, Pending | Failed | Paused | Running),
                    "resume" => status == Paused && !waits_for_word,
                    "answer" => status == Paused && waits_for_word,
                    _ => status == Running,
                };
                let change = transition(&job, trigger, NOW);
                assert_eq!(change.is_ok(), possible, "{name} of a job that is {status}");
                if let Err(impossible) = change {
                    assert_eq!(impossible.status, status);
                }
            });
        }
    }
}

/// The edges of the drawing in ARCHITECTURE.md.
fn drawn() -> BTreeSet<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).expect("it is there");
    let drawing = text
        .split_once("```mermaid\nstateDiagram-v2\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .expect("there is a drawing");
    let mut edges = BTreeSet::new();
    for line in drawing.0.lines().filter(|line| line.contains("-->")) {
        let (edge, _label) = line.split_once(':').unwrap_or((line, ""));
        let (from, to) = edge.split_once("-->").expect("it is an edge");
        let edge = (from.trim().to_owned(), to.trim().to_owned());
        assert!(edges.insert(edge), "drawn twice: {line}");
    }
    edges
}

#[test]
fn the_drawing_is_what_the_function_does() {
    let mut edges = BTreeSet::new();
    for paused in [false, true] {
        let job = NewJob {
            paused,
            ..NewJob::custom("work", Value::Null)
        };
        let prepared = prepare(&job, |_| Default::default(), usize::MAX, NOW).unwrap();
        edges.insert(("[*]".to_owned(), prepared.row.status.to_string()));
    }
    for &status in JobStatus::ALL {
        if status.is_terminal() {
            edges.insert((status.to_string(), "[*]".to_owned()));
        }
        for cause in [None, Some(APPROVAL_NEEDED.to_owned())] {
            for cancel_requested in [false, true] {
                let job = Standing {
                    cause: cause.clone(),
                    cancel_requested,
                    ..standing(status)
                };
                with_triggers(|_, trigger| {
                    if let Ok(change) = transition(&job, trigger, NOW) {
                        edges.insert((status.to_string(), change.status.to_string()));
                    }
                });
            }
        }
    }
    assert_eq!(drawn(), edges);
}

fn any_status() -> impl Strategy<Value = JobStatus> {
    proptest::sample::select(JobStatus::ALL)
}

/// A moment that a clock, a skill or a user could name, also a foolish one.
fn any_moment() -> impl Strategy<Value = Micros> {
    prop_oneof![
        NOW - DAY..NOW + DAY,
        Just(DateTime::<chrono::Utc>::MIN_UTC.timestamp_micros()),
        Just(DateTime::<chrono::Utc>::MAX_UTC.timestamp_micros()),
    ]
}

prop_compose! {
    fn any_standing()(
        status in any_status(),
        cause in proptest::option::of(proptest::sample::select(vec![
            APPROVAL_NEEDED, NOT_LOADED, "trap",
        ])),
        attempts in 0_u32..7,
        max_attempts in 1_u32..7,
        due in any_moment(),
        deadline in proptest::option::of(any_moment()),
        cancel_requested: bool,
        lacking_since in proptest::option::of(any_moment()),
    ) -> Standing {
        Standing {
            status,
            cause: cause.map(str::to_owned),
            attempts,
            max_attempts,
            due,
            deadline,
            cancel_requested,
            lacking_since,
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_some_things_never_do(
        job in any_standing(),
        now in any_moment(),
        asked in proptest::option::of(any::<u64>()),
    ) {
        let retry = plan();
        let mut outcomes = table();
        outcomes.push((executed(Some(skill_error(true, asked))), Row::Again(0), None));
        let mut all: Vec<(Trigger<'_>, Option<Row>)> = Vec::new();
        for (outcome, row, _) in &outcomes {
            all.push((Trigger::End { outcome, retry: &retry }, Some(*row)));
        }
        all.extend([true, false].map(|destructive| {
            (Trigger::Lost { retry: &retry, destructive }, Some(Row::Dead))
        }));
        all.extend([
            Trigger::Claim,
            Trigger::Expire,
            Trigger::Cancel,
            Trigger::Pause,
            Trigger::Resume,
            Trigger::Answer { approved: true },
            Trigger::Answer { approved: false },
            Trigger::Unanswered,
            Trigger::Snooze { until: now },
        ].map(|trigger| (trigger, None)));
        for (trigger, row) in all {
            let Ok(change) = transition(&job, trigger, now) else { continue };
            prop_assert!(!job.status.is_terminal(), "a terminal status was left");
            prop_assert!(change.attempts >= job.attempts, "attempts fell");
            // An attempt is used up where the table says so, and nowhere else.
            let used = match row {
                Some(Row::Back(_) | Row::Ask) | None => 0,
                Some(_) => 1,
            };
            prop_assert_eq!(change.attempts, job.attempts + used);
            if change.cancel_requested {
                prop_assert!(
                    !change.status.is_waiting() && change.status != JobStatus::Paused,
                    "it was to be cancelled, and waits"
                );
            }
            if change.status == JobStatus::Failed && job.status == JobStatus::Running {
                prop_assert!(change.attempts < job.max_attempts, "it has no attempt left");
                prop_assert!(job.deadline.is_none_or(|deadline| change.due < deadline));
            }
            if change.status == JobStatus::Dead {
                prop_assert!(change.cause.is_some(), "nobody knows why it is dead");
            }
            if matches!(change.status, JobStatus::Completed | JobStatus::Cancelled) {
                prop_assert_eq!(&change.cause, &None);
            }
        }
    }
}
