//! `skillhost schedules`.

use serde_json::{Value, json};
use snapbox::str;

use crate::harness::{Place, check};

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
