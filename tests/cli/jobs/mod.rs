//! `jobs`: from submission to the end.

mod dead;
mod server;
mod submit;
mod watch;

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
  1  success · [TOOK] · at [TIME] · worker [WORKER] · [FUEL] fuel
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
    for args in [
        &["jobs", "snooze", &one, "--until", "2900-01-31T12:00:00Z"][..],
        &[
            "jobs",
            "submit",
            "text-stats",
            "--arg",
            "text=a",
            "--at",
            "2900-01-31T12:00:00Z",
        ],
    ] {
        let output = place.command([]).args(args).output().expect("it starts");
        let said = place.said(&output);
        assert!(said.starts_with("exit: 2\n"), "{said}");
        assert!(said.contains("more than ten years"), "{said}");
    }
    check(
        place.run(["jobs", "snooze", &one, "--until", "2020-01-31T12:00:00Z"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the time [TIME] is over already
hint: write a time that is to come; `--delay 10m` is so long from now

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
fn what_is_kept_of_a_job_is_shown() {
    let place = installed();
    let submit = |more: &[&str]| id(&place, &[&["text-stats", "--arg", "text=a"], more].concat());
    let one = submit(&["--attempts", "3", "--paused"]);
    place.run(["jobs", "resume", &one, "--by", "ann"]);
    place.run(["jobs", "priority", "high", &one, "--by", "bob"]);
    place.run(["jobs", "cancel", &one, "--by", "ann"]);
    check(
        place.run(["jobs", "show", &one]),
        str![[r#"
exit: 0
--- stdout
text-stats count [ID]
  status     cancelled
  priority   high
  queue      default
  attempts   0 of 3
  submitted  [TIME] ([AGO])
  ended      [TIME] ([AGO])

Request
  skill  text-stats
  input  {"text":"a"}

History
  [TIME]  resumed · by ann
  [TIME]  reprioritized · to high · by bob
  [TIME]  cancelled · by ann
--- stderr

"#]],
    );
    let shown = json(&place, ["jobs", "show", &one, "--json"]);
    let delays = shown["job"]["retry"]["delays_ms"].as_array();
    assert_eq!(delays.map(Vec::len), Some(2), "{shown}");
    assert_eq!(shown["history"][0]["kind"], "resumed");
    assert_eq!(shown["history"][0]["data"]["by"], "ann");
    // What went wrong stands with each job in a list, too.
    let failed = submit(&["--fuel", "1000"]);
    work(&place);
    let listed = json(&place, ["jobs", "list", "--status", "dead", "--json"]);
    assert_eq!(listed[0]["id"].as_str(), Some(failed.as_str()));
    assert_eq!(
        listed[0]["error"],
        "the skill used up its fuel of 1,000 units"
    );
    let shown = json(&place, ["jobs", "show", &failed, "--json"]);
    assert_eq!(shown["job"]["error"], listed[0]["error"]);
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
    check(
        place.run(["jobs", "list", "--database", "notes.txt"]),
        str![[r#"
exit: 70
--- stdout
--- stderr
error: the file is no database: `notes.txt`: [..]
hint: `--database` names the file in which jobs are kept; it is made where there is none

"#]],
    );
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
