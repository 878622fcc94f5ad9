//! `jobs`: submitted, listed, shown, changed, dead and replayed.

use std::fs;

use serde_json::Value;
use snapbox::str;

use crate::harness::{Place, check};

/// The only line on standard output.
fn id(place: &Place, args: &[&str]) -> String {
    let output = place
        .command(["jobs", "submit"])
        .args(args)
        .output()
        .expect("the command starts");
    assert!(output.status.success(), "{}", place.said(&output));
    let stdout = String::from_utf8(output.stdout).expect("it is text");
    stdout.trim().to_owned()
}

fn json<const N: usize>(place: &Place, args: [&str; N]) -> Value {
    let output = place.output(args);
    assert!(output.status.success(), "{}", place.said(&output));
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

/// Does what is waiting.
fn work(place: &Place) -> String {
    place.run(["worker", "--until-empty", "--concurrency", "1"])
}

fn installed() -> Place {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    fs::remove_dir_all(place.path("text-stats")).expect("it can be removed");
    place
}

#[test]
fn from_submission_to_the_end() {
    let place = installed();
    let job = id(
        &place,
        &[
            "text-stats",
            "--arg",
            "text=to be",
            "--arg",
            "top=0",
            "--priority",
            "high",
            "--tenant",
            "acme",
            "--tag",
            "report",
            "--label",
            "for=me",
        ],
    );
    check(
        place.run(["jobs", "list"]),
        str![[r#"
exit: 0
--- stdout
id        status   priority  queue    tenant  attempts  submitted  what
[JOB]  pending  high      default  acme    0/5       [AGO]  text-stats count
--- stderr

"#]],
    );
    check(
        work(&place),
        str![[r#"
exit: 0
--- stdout
--- stderr
working on 1 job at a time; Ctrl-C ends it
✓ [JOB] text-stats count · completed · [TOOK]
1 attempt, 1 job completed

"#]],
    );
    check(
        place.run(["jobs", "show", &job[28..]]),
        str![[r#"
exit: 0
--- stdout
text-stats count [ID]
  status     completed
  priority   high
  queue      default
  tenant     acme
  attempts   1 of 5
  submitted  [TIME] ([AGO])
  started    [TIME] ([AGO])
  ended      [TIME] ([AGO])
  tags       report
  label      for = me

Request
  skill  text-stats
  input  {"text":"to be","top":0}

Attempts
  1  success · [TOOK] · at [TIME] · [FUEL] fuel
     text-stats 0.1.0 (sha256:[DIGEST])

Output
  {"characters":5,"distinct_words":2,"lines":1,"longest_line":{"characters":5,"number":1},"top_words":[],"words":2}
--- stderr

"#]],
    );
    let shown = json(&place, ["jobs", "show", &job, "--json"]);
    assert_eq!(shown["job"]["skill"], "text-stats");
    assert_eq!(shown["job"]["submitted"]["labels"]["for"], "me");
    assert_eq!(shown["result"]["output"]["words"], 2);
    check(
        place.run(["jobs", "watch", &job]),
        str![[r#"
exit: 0
--- stdout
[JOB] is completed
--- stderr

"#]],
    );
    let stats = json(&place, ["jobs", "stats", "--json"]);
    assert_eq!(stats["by_status"]["completed"], 1);
    assert_eq!(stats["by_tenant"]["acme"]["completed"], 1);
    check(
        place.run(["jobs", "stats"]),
        str![[r#"
exit: 0
--- stdout
1 job
  pending    0
  running    0
  completed  1
  failed     0
  paused     0
  cancelled  0
  dead       0

By queue
  default  1 completed

By tenant
  acme  1 completed

The last 24 hours
  waited      [TIMES]
  ran         [TIMES]
  completed   100.0 % of those that ended
  throughput  1 an hour

Workers
  none
--- stderr

"#]],
    );
    let tagged = json(&place, ["jobs", "list", "--tag", "report", "--json"]);
    assert_eq!(tagged.as_array().map(Vec::len), Some(1));
    check(
        place.run(["jobs", "list", "--tag", "other"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
no jobs

"#]],
    );
}

#[test]
fn what_run_would_refuse_is_refused_at_once() {
    let place = installed();
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
hint: the skill's skill.toml declares no http

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
error: invalid value 'urgent' for '--priority <PRIORITY>': `urgent` is no priority; there are low, normal, high, critical

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
    check(
        place.run(["jobs", "submit", "--from", "unfit.jsonl", "--queue", "x"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the argument '--from <FILE>' cannot be used with '--queue <NAME>'

Usage: skillhost jobs submit --from <FILE> --home <DIR> [SKILL] [TOOL]

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
fn people_step_in() {
    let place = installed();
    let submit = || id(&place, &["text-stats", "--arg", "text=a"]);
    let (one, two) = (submit(), submit());
    check(
        place.run(["jobs", "pause", &one, &two]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] is paused
✓ [JOB] is paused

"#]],
    );
    check(
        place.run(["jobs", "pause", &one]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: job [ID] is paused, and cannot be paused

"#]],
    );
    check(
        place.run(["jobs", "resume", &one]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] is pending

"#]],
    );
    check(
        place.run(["jobs", "priority", "critical", &one]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] has priority critical

"#]],
    );
    check(
        place.run(["jobs", "snooze", &one, "--delay", "1h"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] is put off

"#]],
    );
    check(
        place.run(["jobs", "approve", &two]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: job [ID] is paused, and cannot be approved

"#]],
    );
    check(
        place.run(["jobs", "cancel", &one, &two]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] is cancelled
✓ [JOB] is cancelled

"#]],
    );
    check(
        place.run(["jobs", "cancel", &one, "--json"]),
        str![[r#"
exit: 2
--- stdout
[{"error":"job [ID] is cancelled, and cannot be cancelled","id":"[ID]"}]
--- stderr
error: job [ID] is cancelled, and cannot be cancelled

"#]],
    );
    check(
        place.run(["jobs", "watch", &one]),
        str![[r#"
exit: 130
--- stdout
[JOB] is cancelled
--- stderr

"#]],
    );
    check(
        place.run(["jobs", "show", "zz"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `zz` is no job's id, nor the end of one
hint: write the id, or its last 4 to 8 characters as in `skillhost jobs list`

"#]],
    );
    check(
        place.run(["jobs", "show", "00000000"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: no job's id ends with `00000000`
hint: `skillhost jobs list` shows which there are; of jobs before the last 10000, write the whole id

"#]],
    );
    check(
        place.run(["jobs", "show", "00000000-0000-7000-8000-000000000000"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: there is no job [ID]
hint: `skillhost jobs list` shows which there are

"#]],
    );
    check(
        place.run(["jobs", "prune", "--completed-after", "0s"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ removed: 2 jobs, 0 events, 0 skills

"#]],
    );
}

#[test]
fn dead_letters_are_explained_replayed_and_taken_elsewhere() {
    let place = installed();
    let job = id(
        &place,
        &["text-stats", "--arg", "text=to be", "--fuel", "1000"],
    );
    check(
        work(&place),
        str![[r#"
exit: 0
--- stdout
--- stderr
working on 1 job at a time; Ctrl-C ends it
✗ [JOB] text-stats count · dead · [TOOK] · the skill used up its fuel of 1,000 units
1 attempt, 0 jobs completed

"#]],
    );
    check(
        place.run(["jobs", "dead", "list"]),
        str![[r#"
exit: 0
--- stdout
id        cause  attempts  died     what              why
[JOB]  fuel   1/5       [AGO]  text-stats count  the skill used up its fuel of 1,000 units
--- stderr

"#]],
    );
    check(
        place.run(["jobs", "dead", "list", "--by-cause"]),
        str![[r#"
exit: 0
--- stdout
  fuel  1
--- stderr

"#]],
    );
    check(
        place.run(["jobs", "dead", "show", &job]),
        str![[r#"
exit: 0
--- stdout
text-stats count [ID]
  status     dead: fuel
  priority   normal
  queue      default
  attempts   1 of 5
  submitted  [TIME] ([AGO])
  started    [TIME] ([AGO])
  ended      [TIME] ([AGO])

Request
  skill  text-stats
  input  {"text":"to be"}
  limit  fuel 1,000

Attempts
  1  resource exhausted · [TOOK] · at [TIME] · [FUEL] fuel
     the skill used up its fuel of 1,000 units
     hint: raise that limit, or give it less to do
     text-stats 0.1.0 (sha256:[DIGEST])
     limits: fuel 1,000, memory_bytes 64 MiB, output_bytes 1 MiB, wall_time_ms 5 s

hint: `skillhost jobs dead replay [JOB]` tries again
--- stderr

"#]],
    );
    check(
        place.run(["jobs", "watch", &job]),
        str![[r#"
exit: 4
--- stdout
[JOB] is dead: fuel
--- stderr

"#]],
    );
    check(
        place.run(["jobs", "dead", "export", "--output", "dead.jsonl"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ 1 exported

"#]],
    );
    check(
        place.run([
            "jobs", "dead", "replay", "--all", "--cause", "fuel", "--fuel", "1G",
        ]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] is replayed as [ID]

"#]],
    );
    check(
        place.run(["jobs", "dead", "replay", &job]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] is replayed as [ID], as it was already

"#]],
    );
    work(&place);
    let stats = json(&place, ["jobs", "stats", "--json"]);
    assert_eq!(stats["by_status"]["completed"], 1, "{stats}");
    assert_eq!(stats["dead_by_cause"]["fuel"], 1);
    // It is not done twice by who replays all twice.
    check(
        place.run(["jobs", "dead", "replay", "--all", "--fuel", "1G"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
no dead jobs that were not replayed before; `--again` takes those, too

"#]],
    );
    let said = place.run(["jobs", "dead", "list"]);
    assert!(said.contains("replayed · the skill used up"), "{said}");
    let said = place.run(["jobs", "dead", "replay", "--all", "--again", "--fuel", "1G"]);
    assert!(said.contains("is replayed as"), "{said}");
    work(&place);
    check(
        place.run(["jobs", "dead", "discard", &job]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: there is nobody to ask: standard input is no terminal
hint: `--yes` removes them without asking

"#]],
    );
    check(
        place.answer(["jobs", "dead", "discard", &job], "n\n"),
        str![[r#"
exit: 3
--- stdout
--- stderr
Remove 1 dead job for good? [y/N] nothing was removed

"#]],
    );
    check(
        place.run(["jobs", "dead", "discard", "--all", "--yes"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ 1 dead job removed

"#]],
    );
    check(
        place.run(["jobs", "dead", "list"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
no dead jobs

"#]],
    );
    check(
        place.run(["--home", "other", "jobs", "dead", "import", "dead.jsonl"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ 1 imported, 0 already there

"#]],
    );
    let there = json(
        &place,
        ["--home", "other", "jobs", "dead", "list", "--json"],
    );
    assert_eq!(there[0]["id"].as_str(), Some(job.as_str()));
    place.write("broken.jsonl", "{}\n");
    check(
        place.run(["jobs", "dead", "import", "broken.jsonl"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: line 1: not a dead letter, at column 2: missing field `job`

"#]],
    );
}

#[test]
fn what_was_replaced_can_be_replayed_as_it_ran() {
    let place = installed();
    let job = id(&place, &["text-stats", "--arg", "text=a", "--fuel", "1000"]);
    work(&place);
    place.run(["remove", "text-stats"]);
    place.run(["jobs", "dead", "replay", &job, "--fuel", "1G"]);
    work(&place);
    let stats = json(&place, ["jobs", "stats", "--json"]);
    assert_eq!(stats["by_status"]["completed"], 1, "{stats}");
}

#[test]
fn a_database_is_named_and_no_password_shown() {
    let place = installed();
    let url = "postgres://me:secret@[::1]:1/jobs?password=secret";
    let said = place.run(["jobs", "list", "--database", url]);
    assert!(!said.contains("secret"), "{said}");
    assert!(said.starts_with("exit: 70\n"), "{said}");
    check(
        place.run(["jobs", "list", "--database", "mysql://a:b@c/d"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `mysql://c/d` is neither a path nor a postgres:// URL

"#]],
    );
    place.write(
        "notes.txt",
        "this is no database at all, and long enough to be read as a head of one",
    );
    let said = place.run(["jobs", "list", "--database", "notes.txt"]);
    assert!(said.starts_with("exit: 70\n"), "{said}");
    check(
        place.run(["jobs", "list", "--database", "folder/jobs.db"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: cannot keep jobs in `folder/jobs.db`: there is no folder `folder`
hint: make it first, if that is meant: `mkdir -p folder`

"#]],
    );
    assert!(!place.path("folder").exists());
    std::fs::create_dir(place.path("folder")).unwrap();
    let said = place.run(["jobs", "list", "--database", "folder"]);
    assert!(said.starts_with("exit: 70\n"), "{said}");
    assert!(
        said.contains("`folder` is a folder, and no database file"),
        "{said}"
    );
    let said = place.run(["jobs", "list", "--database", "folder/jobs.db"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(place.path("folder/jobs.db").is_file());
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
