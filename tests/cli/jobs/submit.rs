//! `jobs submit`.

use std::fs;

use snapbox::str;

use super::{id, installed, json, work};
use crate::harness::{Place, check};

#[test]
fn what_run_would_refuse_is_refused_at_once() {
    let place = installed();
    check(
        place.run(["jobs", "submit"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: no skill is named
hint: name one, or submit a job for each line of a file with `--from FILE`

"#]],
    );
    check(
        place.run(["jobs", "submit", "text-stats", "cuont"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `text-stats` has no tool `cuont`
hint: did you mean `count`?

"#]],
    );
    check(
        place.run(["jobs", "submit", "text-stats", "--arg", "txet=a"]),
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
        place.run(["jobs", "submit", "text-stat", "--arg", "text=a"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `text-stat` was found
  as a path: no such file or folder
  as an installed skill: none of that name in `[PLACE]/home/skills`
hint: did you mean `text-stats@0.1.0`?

"#]],
    );
    check(
        place.run([
            "jobs",
            "submit",
            "text-stats",
            "--arg",
            "text=a",
            "--http",
            "https://example.com",
        ]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: http `https://example.com/`: granted, but not declared by the skill
hint: the skill's skill.toml declares no http: leave it out, or add `http = ["https://example.com/"]` to `[grants]` there

"#]],
    );
    check(
        place.run([
            "jobs",
            "submit",
            "text-stats",
            "--arg",
            "text=a",
            "--priority",
            "urgent",
        ]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--priority <PRIORITY>': `urgent` is no priority; there are low, normal, high, critical

For more information, try '--help'.

"#]],
    );
    check(
        place.run([
            "jobs",
            "submit",
            "text-stats",
            "--arg",
            "text=a",
            "--queue",
            "a b",
        ]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the job cannot be accepted: the queue's name "a b" is not 1 to 64 of a-z, A-Z, 0-9, _, - and .

"#]],
    );
    check(
        place.run(["jobs", "list"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
no jobs

"#]],
    );
}

#[test]
fn many_at_once_are_all_checked_first() {
    let place = installed();
    let good = r#"{"skill": "text-stats", "input": {"text": "a"}, "priority": "low"}"#;
    place.write(
        "unknown.jsonl",
        format!(
            "{good}\n\n{}\n",
            r#"{"skill": "text-stats", "prioritty": "low"}"#
        ),
    );
    check(
        place.run(["jobs", "submit", "--from", "unknown.jsonl"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: line 3: there is no key `prioritty`
hint: did you mean `priority`?

"#]],
    );
    place.write("broken.jsonl", format!("{good}\n{}\n", r#"{"skill" "a"}"#));
    check(
        place.run(["jobs", "submit", "--from", "broken.jsonl"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: line 2: not JSON, at column 10: expected `:`

"#]],
    );
    place.write(
        "unfit.jsonl",
        format!(
            "{good}\n{}\n",
            r#"{"skill": "text-stats", "input": {"text": 1}}"#
        ),
    );
    check(
        place.run(["jobs", "submit", "--from", "unfit.jsonl"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: line 2: the input does not fit at `/text`: 1 is not of type "string"
hint: `skillhost inspect text-stats` shows what the tool takes

"#]],
    );
    // Whatever is wrong with them, in their order.
    let unfit = r#"{"skill": "text-stats", "input": {"text": 1}}"#;
    let unknown = r#"{"skill": "text-stat", "input": {"text": "a"}}"#;
    place.write(
        "several.jsonl",
        format!("{unfit}\n{good}\n{{\n{unknown}\n{good}\n"),
    );
    check(
        place.run(["jobs", "submit", "--from", "several.jsonl"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: line 1: the input does not fit at `/text`: 1 is not of type "string"
  line 3: not JSON, at column 1: EOF while parsing an object
  line 4: no skill `text-stat` was found
hint: `skillhost inspect text-stats` shows what the tool takes

"#]],
    );
    check(
        place.run(["jobs", "submit", "--from", "unfit.jsonl", "--queue", "x"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the argument '--from <FILE>' cannot be used with '--queue <NAME>'

Usage: skillhost jobs submit --from <FILE> [SKILL] [TOOL]

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["jobs", "list"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
no jobs

"#]],
    );
    let keyed = r#"{"skill": "text-stats", "arg": {"text": "b"}, "key": "k", "tool": "count"}"#;
    let lines = format!("{good}\n{keyed}\n{keyed}\n");
    check(
        place.run_with_stdin(["jobs", "submit", "--from", "-"], lines.as_bytes()),
        str![[r#"
exit: 0
--- stdout
[ID]
[ID]
[ID]
--- stderr
2 submitted, 1 already there

"#]],
    );
    // What only the queue knows is known of every line, too, before the first batch is submitted.
    let nowhere = r#"{"skill": "text-stats", "input": {"text": "a"}, "queue": "a b"}"#;
    place.write(
        "nowhere.jsonl",
        format!("{}{nowhere}\n", format!("{good}\n").repeat(600)),
    );
    check(
        place.run(["jobs", "submit", "--from", "nowhere.jsonl"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: line 601: the job cannot be accepted: the queue's name "a b" is not 1 to 64 of a-z, A-Z, 0-9, _, - and .

"#]],
    );
    let stats = json(&place, ["jobs", "stats", "--json"]);
    assert_eq!(stats["by_status"]["pending"], 2);
    let many = format!("{good}\n");
    place.write("many.jsonl", many.repeat(1_100));
    let said = place.run(["jobs", "submit", "--from", "many.jsonl"]);
    assert!(said.ends_with("1100 submitted\n"), "{said}");
    let stats = json(&place, ["jobs", "stats", "--json"]);
    assert_eq!(stats["by_status"]["pending"], 1_102);
}

#[test]
fn a_skill_that_was_named_by_a_path_is_kept() {
    let place = Place::with_text_stats();
    let job = id(&place, &["./text-stats", "--arg", "text=a"]);
    fs::remove_dir_all(place.path("text-stats")).expect("it can be removed");
    work(&place);
    let shown = json(&place, ["jobs", "show", &job, "--json"]);
    assert_eq!(shown["job"]["status"], "completed", "{shown}");
    // Bounds go by the name, also where the request goes by digest.
    assert_eq!(shown["job"]["skill"], "text-stats");
}

#[test]
fn a_key_makes_a_second_submission_the_same_job() {
    let place = installed();
    let args = ["text-stats", "--arg", "text=a", "--key", "k"];
    let first = id(&place, &args);
    assert_eq!(id(&place, &args), first);
    check(
        place.run([
            "jobs",
            "submit",
            "text-stats",
            "--arg",
            "text=a",
            "--key",
            "k",
        ]),
        str![[r#"
exit: 0
--- stdout
[ID]
--- stderr
already there: a job with this key had been submitted before

"#]],
    );
}

#[test]
fn a_callback_that_no_worker_would_send_is_refused() {
    let place = installed();
    for (url, why) in [
        ("ftp://example.com/done", "cannot be used"),
        ("http://127.0.0.1:8080/done", "not allowed"),
    ] {
        let arguments = [
            "jobs",
            "submit",
            "text-stats",
            "--arg",
            "text=a",
            "--callback",
            url,
        ];
        let said = place.run(arguments);
        assert!(said.starts_with("exit: 2\n"), "{said}");
        assert!(said.contains(why), "{said}");
    }
    let stats = json(&place, ["jobs", "stats", "--json"]);
    assert_eq!(stats["total"], 0, "{stats}");
}

#[test]
fn who_submits_something_else_under_a_key_is_told() {
    let place = installed();
    let submit = |text: &str, json: bool| {
        let mut command =
            place.command(["jobs", "submit", "text-stats", "--key", "k", "--arg", text]);
        if json {
            command.arg("--json");
        }
        place.said(&command.output().expect("the command starts"))
    };
    submit("text=a", false);
    check(
        submit("text=b", false),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: a job with this key had been submitted before, and does something else: this one was not submitted
hint: `skillhost jobs show [..]` shows it; with another `--key` this one is another job

"#]],
    );
    check(
        submit("text=b", true),
        str![[r#"
exit: 2
--- stdout
{"differs":true,"existing":true,"id":"[ID]"}
--- stderr
error: a job with this key had been submitted before, and does something else: this one was not submitted
hint: `skillhost jobs show [..]` shows it; with another `--key` this one is another job

"#]],
    );
    check(
        submit("text=a", true),
        str![[r#"
exit: 0
--- stdout
{"differs":false,"existing":true,"id":"[ID]"}
--- stderr
already there: a job with this key had been submitted before

"#]],
    );
    place.write(
        "jobs.jsonl",
        r#"{"skill": "text-stats", "input": {"text": "c"}, "key": "k"}"#,
    );
    check(
        place.run(["jobs", "submit", "--from", "jobs.jsonl"]),
        str![[r#"
exit: 2
--- stdout
[ID]
--- stderr
0 submitted, 1 already there
warning: job [ID] had its key before, and does something else than what was to be submitted now, which was not

"#]],
    );
}

/// No worker runs, which would end it.
#[test]
fn who_waits_for_a_job_waits_no_longer_than_its_deadline() {
    let place = installed();
    let said = place.run([
        "jobs",
        "submit",
        "text-stats",
        "--arg",
        "text=a",
        "--deadline",
        "1s",
        "--wait",
    ]);
    assert!(said.starts_with("exit: 5\n"), "{said}");
    assert!(
        said.contains("deadline passed before it was done"),
        "{said}"
    );
    let stats = json(&place, ["jobs", "stats", "--json"]);
    assert_eq!(stats["dead_by_cause"]["deadline"], 1, "{stats}");
}

/// A job whose deadline is over would never run.
#[test]
fn a_deadline_that_is_over_is_refused() {
    let place = installed();
    check(
        place.run([
            "jobs",
            "submit",
            "text-stats",
            "--arg",
            "text=a",
            "--deadline",
            "2020-01-01T00:00:00+01:00",
        ]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the deadline [TIME] is over already
hint: write a time that is to come, or how long from now, such as 10m

"#]],
    );
    let jobs = json(&place, ["jobs", "list", "--json"]);
    assert_eq!(jobs, serde_json::json!([]));
}

#[test]
fn a_job_that_is_put_off_past_its_deadline_is_refused() {
    let place = installed();
    let late = |flag: &str, due: &str, deadline: &str| {
        let mut command = place.command(["jobs", "submit", "text-stats", "--arg", "text=a"]);
        command.args([flag, due, "--deadline", deadline]);
        place.said(&command.output().expect("the command starts"))
    };
    check(
        late("--delay", "5s", "1s"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: it would never run: `--delay` puts it off until [TIME], and its `--deadline` is [TIME]
hint: give it a later `--deadline`, or an earlier `--delay`

"#]],
    );
    let at = late("--at", "2999-01-01T00:00:00Z", "10m");
    assert!(
        at.starts_with("exit: 2\n") && at.contains("`--at` puts it off"),
        "{at}"
    );
    let fits = late("--delay", "1s", "10m");
    assert!(fits.starts_with("exit: 0\n"), "{fits}");
}
