//! `queues retry`.

use snapbox::str;

use crate::harness::{Place, check};

#[test]
fn retries_are_set_for_a_queue_and_a_tool() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    check(
        place.run([
            "queues",
            "retry",
            "nightly",
            "--attempts",
            "4",
            "--base",
            "1m",
            "--factor",
            "2",
            "--cap",
            "3m",
            "--jitter",
            "0",
        ]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ queue `nightly`: 4 attempts, after 1 min × 2 up to 3 min, jitter 0

"#]],
    );
    // What is left out stays.
    check(
        place.run([
            "queues", "retry", "nightly", "--on", "trap", "--on", "timeout",
        ]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ queue `nightly`: 4 attempts, after 1 min × 2 up to 3 min, jitter 0, on trap and timeout

"#]],
    );
    check(
        place.run([
            "queues",
            "retry",
            "--tool",
            "text-stats/count",
            "--attempts",
            "1",
        ]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ tool `text-stats/count`: 1 attempt

"#]],
    );
    check(
        place.run(["queues", "list"]),
        str![[r#"
exit: 0
--- stdout
queue    state  concurrency  rate  running  waiting  retries
nightly  open   -            -     0        0        4 attempts, after 1 min × 2 up to 3 min, jitter 0, on trap and timeout
--- stderr

"#]],
    );
    check(
        place.run(["queues", "list", "--tools"]),
        str![[r#"
exit: 0
--- stdout
tool              retries
text-stats/count  1 attempt
--- stderr

"#]],
    );
    check(
        place.run(["queues", "list", "--json"]),
        str![[r#"
exit: 0
--- stdout
[{"concurrency":null,"kind":"queue","name":"nightly","paused":false,"rate":null,"retry":{"base_ms":60000,"cap_ms":180000,"destructive":false,"factor":2.0,"jitter":0.0,"max_attempts":4,"on":["trap","timeout"]},"weight":1}]
--- stderr

"#]],
    );
    let delays = |queue: &str| {
        let submitted = place.output([
            "jobs",
            "submit",
            "text-stats",
            "--arg",
            "text=a",
            "--queue",
            queue,
        ]);
        let id = String::from_utf8(submitted.stdout).expect("it is text");
        let shown = place.output(["jobs", "show", id.trim(), "--json"]);
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("it is JSON");
        shown["job"]["retry"]["delays_ms"].clone()
    };
    // The tool's goes first.
    assert_eq!(delays("nightly"), serde_json::json!([]));
    check(
        place.run(["queues", "retry", "--tool", "text-stats/count", "--default"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ tool `text-stats/count`: as the default says

"#]],
    );
    assert_eq!(
        delays("nightly"),
        serde_json::json!([60_000, 120_000, 180_000])
    );
    check(
        place.run(["queues", "retry", "nightly", "--default"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ queue `nightly`: as the default says

"#]],
    );
    assert_eq!(delays("nightly").as_array().map(Vec::len), Some(4));
    check(
        place.run(["queues", "retry", "nightly", "--factor", "0.5"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the retry policy cannot be accepted: the factor 0.5 is not between 1 and 100

"#]],
    );
    let said = place.run(["queues", "retry", "nightly"]);
    assert!(said.starts_with("exit: 2\n"), "nothing is said: {said}");
}
