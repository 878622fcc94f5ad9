//! How benchmarks say whether a figure is what it should be. The rest of them runs in `.ci/run`.

#[path = "../../benches/support/target.rs"]
mod target;

use serde_json::json;
use target::{at_least, at_most, judge};

#[test]
fn each_figure_is_held_against_its_target() {
    let mut figures = json!({
        "growth": 1.05,
        "share": 0.7,
        "alone": {"p99": 3, "p50": 1},
        "other": null,
        "part": {"ratio": 1.3, "target": {"ratio": at_most(1.2)}},
        "target": {
            "growth": at_most(1.05),
            "share": at_least(0.8),
            "alone": {"p99": at_most(2.0)},
            "other": at_most(1.0),
        },
    });
    let judged = judge(&mut figures);
    assert_eq!(judged.unknown, ["other"]);
    assert_eq!(judged.met(), Some(false));
    assert_eq!(
        judged.missed,
        [
            "alone.p99 is 3, and should be at most 2",
            "share is 0.7, and should be at least 0.8",
            "part.ratio is 1.3, and should be at most 1.2",
        ]
    );
    let target = &figures["target"];
    assert_eq!(target["growth"], json!({"at_most": 1.05, "met": true}));
    assert_eq!(target["share"]["met"], false);
    assert_eq!(target["alone"]["p99"]["met"], false);
    assert!(target["other"]["met"].is_null(), "it was not measured");
    assert_eq!(figures["part"]["target"]["ratio"]["met"], false);
}

/// What could not be measured is not met.
#[test]
fn all_are_met_where_each_was_measured() {
    let of = |figure| {
        let mut figures =
            json!({"a": 1, "b": figure, "target": {"a": at_most(1.0), "b": at_most(2.0)}});
        judge(&mut figures).met()
    };
    assert_eq!(of(json!(2)), Some(true));
    assert_eq!(of(json!(null)), None);
    assert_eq!(of(json!(3)), Some(false));
}

#[test]
#[should_panic(expected = "there is no figure `growht`")]
fn a_target_names_a_figure_that_there_is() {
    judge(&mut json!({"growth": 1, "target": {"growht": at_most(1.05)}}));
}
