//! `skillhost queues`.

use snapbox::str;

use crate::harness::{Place, check};

#[test]
fn queues_tenants_and_skills_are_paused_and_bounded() {
    let place = Place::with_text_stats();
    check(
        place.run(["queues", "list"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
no queues

"#]],
    );
    place.run(["install", "text-stats"]);
    let submitted = place.output([
        "jobs",
        "submit",
        "text-stats",
        "--arg",
        "text=a",
        "--queue",
        "nightly",
    ]);
    let job = String::from_utf8(submitted.stdout).expect("it is text");
    let job = job.trim().to_owned();
    check(
        place.run(["queues", "pause", "nightly"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ queue `nightly` is paused

"#]],
    );
    let held = "the queue `nightly` is paused";
    check(
        place.run(["worker", "--until-empty", "--concurrency", "1"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
working on 1 job at a time; Ctrl-C ends it
0 attempts, 0 jobs completed
warning: the queue `nightly` is paused: what waits for it does not start
  hint: `skillhost queues resume nightly` lets it start

"#]],
    );
    // Of another queue than it serves, it says nothing.
    let said = place.run(["worker", "--until-empty", "--queue", "reports"]);
    assert!(!said.contains("paused"), "{said}");
    let shown = place.run(["jobs", "show", &job]);
    assert!(
        shown.contains(&format!("\n  held up    {held}\n")),
        "{shown}"
    );
    let hint = "\nhint: `skillhost queues resume nightly` lets it start\n";
    assert!(shown.contains(hint), "{shown}");
    check(
        place.run(["queues", "list"]),
        str![[r#"
exit: 0
--- stdout
queue    state   concurrency  rate  running  waiting
nightly  paused  -            -     0        1
--- stderr

"#]],
    );
    check(
        place.run([
            "queues",
            "bound",
            "nightly",
            "--concurrency",
            "2",
            "--rate",
            "10/1m",
        ]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ queue `nightly` is bounded so

"#]],
    );
    check(
        place.run(["queues", "bound", "--tenant", "acme", "--weight", "2"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ tenant `acme` is bounded so
  hint: there was no tenant of that name before; is it spelt right?

"#]],
    );
    check(
        place.run(["queues", "list", "--tenants"]),
        str![[r#"
exit: 0
--- stdout
tenant  state  concurrency  rate  running  waiting  weight
-       open   -            -     0        1        1
acme    open   -            -     0        0        2
--- stderr

"#]],
    );
    check(
        place.run(["queues", "pause", "--skill", "text-stats"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ skill `text-stats` is paused

"#]],
    );
    // Whoever waits for one learns that it does not come to it.
    let said = place.run([
        "jobs",
        "submit",
        "text-stats",
        "--arg",
        "text=a",
        "--queue",
        "nightly",
        "--deadline",
        "1s",
        "--wait",
    ]);
    for part in [
        "warning: the queue `nightly` is paused: what waits for it does not start\n",
        "warning: the skill `text-stats` is paused: what waits for it does not start\n",
        "hint: `skillhost queues resume --skill text-stats` lets it start\n",
    ] {
        assert!(said.contains(part), "{said}");
    }
    check(
        place.run(["queues", "list", "--skills"]),
        str![[r#"
exit: 0
--- stdout
skill       state   concurrency  rate
text-stats  paused  -            -
--- stderr

"#]],
    );
    check(
        place.run(["queues", "resume", "--skill", "text-stats"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ skill `text-stats` goes on

"#]],
    );
    check(
        place.run(["queues", "resume", "nightly"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ queue `nightly` goes on

"#]],
    );
    let shown = place.run(["jobs", "show", &job]);
    assert!(!shown.contains("held up"), "{shown}");
    check(
        place.run(["queues", "bound", "nightly", "--rate", "none"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ queue `nightly` is bounded so

"#]],
    );
    check(
        place.run(["queues", "list"]),
        str![[r#"
exit: 0
--- stdout
queue    state  concurrency  rate  running  waiting
nightly  open   2            -     0        1
--- stderr

"#]],
    );
    check(
        place.run([
            "queues",
            "bound",
            "nightly",
            "--rate",
            "none",
            "--concurrency",
            "none",
        ]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ queue `nightly` is bounded by nothing

"#]],
    );
    let said = place.run(["worker", "--until-empty"]);
    assert!(said.ends_with("1 job completed\n"), "{said}");
}

#[test]
fn what_makes_no_sense_is_said() {
    let place = Place::new();
    check(
        place.run(["queues", "pause"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the following required arguments were not provided:
  <QUEUE|--tenant <TENANT>|--skill <NAME>>

Usage: skillhost queues pause <QUEUE|--tenant <TENANT>|--skill <NAME>>

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["queues", "pause", "a", "--tenant", "b"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the argument '[QUEUE]' cannot be used with '--tenant <TENANT>'

Usage: skillhost queues pause <QUEUE|--tenant <TENANT>|--skill <NAME>>

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["queues", "bound", "a", "--concurrency", "0"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value '0' for '--concurrency <N|none>': nothing could run; pause it instead

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["queues", "bound", "a", "--rate", "ten"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--rate <N/TIME|none>': `ten` is no rate; write such as 10/1m, or none

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["queues", "bound", "a", "--weight", "2"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: a weight is a tenant's: queues take turns, and skills have no part

"#]],
    );
}

#[test]
fn a_queue_that_no_job_can_be_in_is_refused() {
    let place = Place::new();
    for args in [
        ["queues", "pause", "a b/ö"].as_slice(),
        &["queues", "bound", "a b/ö", "--concurrency", "1"],
        &["queues", "retry", "a b/ö", "--attempts", "1"],
    ] {
        let output = place.command::<0>([]).args(args).output();
        let said = place.said(&output.expect("the command starts"));
        assert!(said.starts_with("exit: 2\n"), "{said}");
        assert!(said.contains("the queue's name \"a b/ö\""), "{said}");
    }
    check(
        place.run(["queues", "list"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
no queues

"#]],
    );
}

/// A queue can be paused before anything is in it; and a name can be misspelt.
#[test]
fn who_pauses_what_is_not_known_is_told() {
    let place = Place::new();
    let hint = |what: &str| {
        format!("  hint: there was no {what} of that name before; is it spelt right?\n")
    };
    let said = place.run(["queues", "pause", "nigthly"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(said.contains(&hint("queue")), "{said}");
    let said = place.run(["queues", "resume", "--tenant", "acme"]);
    assert!(said.contains(&hint("tenant")), "{said}");
    let said = place.run(["queues", "bound", "nightly", "--concurrency", "2"]);
    let close = "  hint: there was no queue of that name before; did you mean `nigthly`?\n";
    assert!(said.contains(close), "{said}");
    place.add_example("text-stats");
    place.run(["install", "text-stats"]);
    let said = place.run(["queues", "pause", "--skill", "text-stat"]);
    let close = "  hint: no skill of that name is installed; did you mean `text-stats`?\n";
    assert!(said.contains(close), "{said}");
    for known in [["nigthly"].as_slice(), &["--skill", "text-stats"]] {
        let output = place
            .command::<0>([])
            .args(["queues", "pause"])
            .args(known)
            .output();
        let said = place.said(&output.expect("the command starts"));
        assert!(
            said.starts_with("exit: 0\n") && !said.contains("hint"),
            "{said}"
        );
    }
}

#[test]
fn a_program_is_told_what_holds_then() {
    let place = Place::with_text_stats();
    check(
        place.run(["queues", "pause", "nightly", "--json"]),
        str![[r#"
exit: 0
--- stdout
{"kind":"queue","name":"nightly","paused":true,"concurrency":null,"rate":null,"weight":1}
--- stderr

"#]],
    );
    check(
        place.run(["queues", "resume", "nightly", "--json"]),
        str![[r#"
exit: 0
--- stdout
{"kind":"queue","name":"nightly","paused":false,"concurrency":null,"rate":null,"weight":1}
--- stderr

"#]],
    );
    check(
        place.run(["queues", "bound", "nightly", "--rate", "10/1m", "--json"]),
        str![[r#"
exit: 0
--- stdout
{"kind":"queue","name":"nightly","paused":false,"concurrency":null,"rate":{"count":10,"period_ms":60000},"weight":1}
--- stderr

"#]],
    );
    check(
        place.run(["queues", "retry", "nightly", "--attempts", "2", "--json"]),
        str![[r#"
exit: 0
--- stdout
{"kind":"queue","name":"nightly","retry":{"base_ms":5000,"cap_ms":3600000,"destructive":false,"factor":3.0,"jitter":0.2,"max_attempts":2,"on":["retryable_error","trap","timeout","worker_lost"]}}
--- stderr

"#]],
    );
    place.run(["install", "text-stats"]);
    place.run([
        "schedules",
        "add",
        "morning",
        "0 9 * * *",
        "text-stats",
        "--arg",
        "text=a",
    ]);
    check(
        place.run(["schedules", "remove", "morning", "--json"]),
        str![[r#"
exit: 0
--- stdout
{"name":"morning","removed":true,"tenant":null}
--- stderr

"#]],
    );
    place.write("none.jsonl", "");
    check(
        place.run(["jobs", "dead", "import", "none.jsonl", "--json"]),
        str![[r#"
exit: 0
--- stdout
{"existing":0,"imported":0}
--- stderr

"#]],
    );
}

/// The queue that is there from the start is known, also where another was made by a slip before.
#[test]
fn the_queue_that_is_always_there_is_known() {
    let place = Place::new();
    let paused = place.run(["queues", "pause", "default"]);
    assert!(!paused.contains("hint: "), "{paused}");
    let place = Place::new();
    let close = "  hint: there was no queue of that name before; did you mean `default`?\n";
    let first = place.run(["queues", "pause", "defualt"]);
    assert!(first.contains(close), "{first}");
    let resumed = place.run(["queues", "resume", "default"]);
    assert!(!resumed.contains("hint: "), "{resumed}");
    let again = place.run(["queues", "bound", "defuallt", "--concurrency", "2"]);
    let both = "did you mean `default` or `defualt`?\n";
    assert!(again.contains(both), "{again}");
}
