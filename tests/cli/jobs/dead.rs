//! `jobs dead`.

use snapbox::str;

use super::{id, installed, json, work};
use crate::harness::{Place, check};

/// What it lacked is said as it is where the skill runs at once; no flag gives a replay a grant.
#[test]
fn a_dead_letter_says_which_grant_it_lacked() {
    let place = Place::new();
    place.add_example("csv-query");
    place.run(["install", "csv-query"]);
    let job = id(
        &place,
        &["csv-query", "columns", "--arg", "path=files/a.csv"],
    );
    work(&place);
    let shown = place.run(["jobs", "dead", "show", &job]);
    let hint = "hint: the skill wants directory `*`, which was not granted: grant it with \
                `skillhost policy grant csv-query --dir '<HOST>:<GUEST>:ro'`; by hand, in the policy";
    assert!(shown.contains(hint), "{shown}");
    assert!(!shown.contains("for this run"), "{shown}");
    let listed = place.run(["jobs", "dead", "list"]);
    assert!(listed.contains("…\n"), "{listed}");
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
1 attempt, 0 jobs completed, 1 died (`skillhost jobs dead list`)

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
  1  resource exhausted · [TOOK] · at [TIME] · worker [WORKER] · [FUEL] fuel
     the skill used up its fuel of 1,000 units
     hint: raise that limit, or give it less to do
     text-stats 0.1.0 (sha256:[DIGEST])
     limits: fuel 1,000, memory_bytes 64 MiB, output_bytes 1 MiB, wall_time_ms 5 s

hint: `skillhost jobs dead replay [JOB] --fuel N` tries again with more
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
    // What is asked for now is not what waits.
    check(
        place.run(["jobs", "dead", "replay", &job, "--fuel", "2G"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
warning: job [JOB] is the replay that was asked for before, and has not ended: the limits, attempts or version that are named now do not hold for it
  hint: `skillhost jobs cancel [JOB]` ends it; then replay again
✓ [JOB] is replayed as [ID], as it was already

"#]],
    );
    let replayed = json(&place, ["jobs", "dead", "replay", &job, "--json"]);
    let replay = replayed[0]["replayed_as"].as_str().expect("its id");
    place.run(["jobs", "cancel", replay]);
    let said = place.run(["jobs", "dead", "replay", &job, "--fuel", "2G"]);
    assert!(said.contains("is replayed as [ID]\n"), "{said}");
    let replayed = json(&place, ["jobs", "dead", "replay", &job, "--json"]);
    let replay = replayed[0]["replayed_as"].as_str().expect("its id");
    let shown = json(&place, ["jobs", "show", replay, "--json"]);
    let limit = "/job/submitted/work/request/limits/fuel";
    assert_eq!(
        shown.pointer(limit),
        Some(&2_000_000_000_u64.into()),
        "{shown}"
    );
    work(&place);
    let stats = json(&place, ["jobs", "stats", "--json"]);
    assert_eq!(stats["by_status"]["completed"], 1, "{stats}");
    assert_eq!(stats["dead_by_cause"]["fuel"], 1);
    // It leads to its replay.
    let said = place.run(["jobs", "dead", "show", &job]);
    assert!(said.contains("\n  replayed   yes, as [ID]\n"), "{said}");
    let hint = "hint: it was replayed already; `skillhost jobs show [ID]` shows what became of that; \
                `skillhost jobs dead replay [JOB]` does so once more\n";
    assert!(said.contains(hint), "{said}");
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
    // None of a cause that there is none of: it may be misspelt.
    for said in [
        place.run(["jobs", "dead", "list", "--cause", "fuell"]),
        place.run(["jobs", "dead", "replay", "--all", "--cause", "fuell"]),
        place.run([
            "jobs", "dead", "discard", "--all", "--yes", "--cause", "fuell",
        ]),
    ] {
        check(
            said,
            str![[r#"
exit: 2
--- stdout
--- stderr
error: no job dies of the cause `fuell`
hint: did you mean `fuel`?

"#]],
        );
    }
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
fn no_job_is_taken_for_all() {
    let place = installed();
    for verb in ["replay", "discard"] {
        check(
            place.run(["jobs", "dead", verb]),
            str![[r#"
exit: 2
--- stdout
--- stderr
error: no job is named
hint: name them by their ids, or take all that are dead, or those that a filter holds for, with `--all`

"#]],
        );
    }
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

/// Who takes a misspelling for none would leave them dead.
#[test]
fn a_cause_that_is_misspelt_is_refused() {
    let place = installed();
    let misspelt = |args: &[&str]| {
        let mut command = place.command(["jobs", "dead"]);
        let output = command.args(args).output().expect("the command starts");
        place.said(&output)
    };
    // What a job can die of is none, though it is like another.
    for cause in skillhost::queue::CAUSES {
        let said = misspelt(&["list", "--cause", cause]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
    }
    for command in [
        &["replay", "--all"][..],
        &["discard", "--all"],
        &["list", "--json"],
    ] {
        check(
            misspelt(&[command, &["--cause", "fule"]].concat()),
            str![[r#"
exit: 2
--- stdout
--- stderr
error: no job dies of the cause `fule`
hint: did you mean `fuel`?

"#]],
        );
        // One that none died of is no mistake.
        let none = misspelt(&[command, &["--cause", "deadline"]].concat());
        assert!(none.starts_with("exit: 0\n"), "{none}");
    }
}
