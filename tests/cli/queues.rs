//! `queues` and `schedules`.

use serde_json::{Value, json};
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
error: invalid value 'ten' for '--rate <N/TIME|none>': `ten` is no rate; write such as 10/1m, or none

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

#[test]
fn schedules_come_and_go() {
    let place = Place::with_text_stats();
    check(
        place.run(["schedules", "list"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
no schedules

"#]],
    );
    place.run(["install", "text-stats"]);
    check(
        place.run([
            "schedules",
            "add",
            "morning",
            "0 9 * * MON-FRI",
            "text-stats",
            "--time-zone",
            "Asia/Tokyo",
            "--arg",
            "text=a",
        ]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ schedule `morning` fires next at [TIME]

"#]],
    );
    check(
        place.run(["schedules", "list"]),
        str![[r#"
exit: 0
--- stdout
name     next                  last  missed    what              when
morning  [TIME]  -     run_once  text-stats count  0 9 * * MON-FRI in Asia/Tokyo
--- stderr

"#]],
    );
    check(
        place.run([
            "schedules",
            "add",
            "x",
            "0 25 * * *",
            "text-stats",
            "--arg",
            "text=a",
        ]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the hour `25` (field 2) is not one: write 0 to 23, ranges (8-18), lists (6,18), or */2

"#]],
    );
    check(
        place.run([
            "schedules",
            "add",
            "x",
            "0 5 * * *",
            "text-stats",
            "--arg",
            "txet=a",
        ]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit: Additional properties are not allowed ('txet' was unexpected)
hint: did you mean `text`?
hint: its fields are: `min_length`, `text`, `top`

"#]],
    );
    check(
        place.run(["schedules", "show", "morning"]),
        str![[r#"
exit: 0
--- stdout
morning text-stats count
  when      0 9 * * MON-FRI in Asia/Tokyo
  missed    run_once
  next      [TIME]
  priority  normal
  queue     default

Request
  skill  sha256:[DIGEST]
  input  {"text":"a"}
--- stderr

"#]],
    );
    check(
        place.run([
            "schedules",
            "add",
            "morning",
            "@daily",
            "text-stats",
            "--arg",
            "text=b",
        ]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ schedule `morning` fires next at [TIME]
  in place of: text-stats count, 0 9 * * MON-FRI in Asia/Tokyo

"#]],
    );
    let shown = place.output(["schedules", "show", "morning", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        shown["job"]["work"]["request"]["input"],
        json!({"text": "b"})
    );
    check(
        place.run(["schedules", "show", "evening"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: there is no schedule `evening`

"#]],
    );
    check(
        place.run(["schedules", "remove", "morning"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ schedule `morning` is removed

"#]],
    );
    check(
        place.run(["schedules", "remove", "morning"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: there is no schedule `morning`

"#]],
    );
}

/// Two tenants' schedules of one name are two, and each is reached by whose it is.
#[test]
fn a_tenants_schedule_is_its_own() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    for tenant in ["acme", "other"] {
        let added = place.output([
            "schedules",
            "add",
            "morning",
            "0 9 * * MON-FRI",
            "text-stats",
            "--arg",
            "text=a",
            "--tenant",
            tenant,
        ]);
        assert!(added.status.success());
    }
    let listed = || {
        let output = place.output(["schedules", "list"]);
        String::from_utf8(output.stdout).expect("it is text")
    };
    let lines = |text: &str, tenant: &str| {
        let of = |line: &&str| line.starts_with("morning") && line.contains(tenant);
        text.lines().filter(of).count()
    };
    let text = listed();
    assert_eq!(
        (lines(&text, "acme"), lines(&text, "other")),
        (1, 1),
        "{text}"
    );
    check(
        place.run(["schedules", "remove", "morning"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: there is no schedule `morning`

"#]],
    );
    check(
        place.run(["schedules", "remove", "morning", "--tenant", "acme"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ schedule `morning` is removed

"#]],
    );
    let text = listed();
    assert_eq!(
        (lines(&text, "acme"), lines(&text, "other")),
        (0, 1),
        "{text}"
    );
}
