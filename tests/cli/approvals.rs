//! Executions that wait for somebody's word.

use std::io::{Read as _, Write as _};

use serde_json::Value;
use snapbox::str;

use crate::harness::{Place, check, says, terminal};

const ASK: &str = "\
[[approval.rules]]
name = 'writers'
tool = 'answer*'
action = 'ask'

[[approval.rules]]
tool = 'panic'
action = 'deny'
";

fn place() -> Place {
    let place = Place::with_behaviours();
    place.write("home/policy.toml", ASK);
    place
}

const ANSWER: [&str; 5] = ["run", "behaviours.wasm", "answer", "--arg", "json={}"];

fn json<const N: usize>(place: &Place, args: [&str; N]) -> Value {
    let output = place.output(args);
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

#[test]
fn a_run_waits_for_an_approval_which_is_given_and_used_up() {
    let place = place();
    check(
        place.run(ANSWER),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: approval rule 1 (writers) asks for an approval of it
hint: `skillhost approvals approve [ID]` approves it, once; then try again
✗ behaviours 1.2.3 · answer · rejected · did not run

"#]],
    );
    check(
        place.run(["approvals", "list"]),
        str![[r#"
exit: 0
--- stdout
id        status   tenant  asked    what               input[..]rule
[JOB]  pending  -       [AGO]  behaviours answer  [..]  approval rule 1 (writers)
--- stderr

"#]],
    );
    let list = json(&place, ["approvals", "list", "--json"]);
    let id = list[0]["id"].as_str().expect("it has one").to_owned();
    assert_eq!(list[0]["status"], "pending");
    check(
        place.run(["approvals", "show", &id]),
        str![[r#"
exit: 0
--- stdout
approval [ID]
  status   pending
  rule     approval rule 1 (writers)
  skill    behaviours@1.2.3
  digest   sha256:[DIGEST]
  tool     answer
  request  [ID]
  asked    [TIME]
  until    [TIME]
  input    {"json":"{}"}
--- stderr

"#]],
    );
    check(
        place.run(["approvals", "approve", &id[28..], "--by", "ann"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] may run, once

"#]],
    );
    check(
        place.run(ANSWER),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
✓ behaviours 1.2.3 · answer · [COST]

"#]],
    );
    // Once, and not for another input.
    let again = json(
        &place,
        [
            "run",
            "behaviours.wasm",
            "answer",
            "--arg",
            "json={}",
            "--json",
        ],
    );
    assert_eq!(again["failure"]["reason"], "approval");
    assert_eq!(again["failure"]["rule"], "approval rule 1 (writers)");
    assert_ne!(again["failure"]["approval"], id);
    check(
        place.run(["approvals", "approve", &id, "--by", "ann"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: approval [ID] is used, and cannot be answered any more
hint: run it again: where it needs an approval, one is asked for anew

"#]],
    );
}

#[test]
fn one_for_a_time_is_for_the_same_input_only() {
    let place = place();
    place.run(ANSWER);
    let list = json(&place, ["approvals", "list", "--json"]);
    let id = list[0]["id"].as_str().expect("it has one").to_owned();
    check(
        place.run(["approvals", "approve", &id, "--for", "1h", "--by", "ann"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] may run for 1 h

"#]],
    );
    for _ in 0..2 {
        assert!(place.run(ANSWER).starts_with("exit: 0"));
    }
    let other = place.run(["run", "behaviours.wasm", "answer", "--arg", "json={ }"]);
    assert!(other.starts_with("exit: 3"), "{other}");
    check(
        place.run(["approvals", "refuse", &id, "--by", "ann"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] may not run

"#]],
    );
    check(
        place.run(ANSWER),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: ann refused it
hint: that holds until [TIME]; `skillhost approvals approve [ID]` takes it back
✗ behaviours 1.2.3 · answer · rejected · did not run

"#]],
    );
    check(
        place.run(["approvals", "list", "--all"]),
        str![[r#"
exit: 0
--- stdout
id        status   tenant  asked    what               input[..]rule
[JOB]  pending  -       [AGO]  behaviours answer  [..]  approval rule 1 (writers)
[JOB]  refused  -       [AGO]  behaviours answer  [..]  approval rule 1 (writers)
--- stderr

"#]],
    );
}

#[test]
fn what_a_rule_denies_is_not_asked_about() {
    let place = place();
    check(
        place.run(["policy", "show"]),
        str![[r#"
exit: 0
--- stdout
[PLACE]/home/policy.toml

approval
  1 writers  ask           tool = "answer*"
  2          deny          tool = "panic"
  questions  100 a tenant  wait 0 s, expire after 24 h
--- stderr

"#]],
    );
    check(
        place.run(["run", "behaviours.wasm", "panic"]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: approval rule 2 denies it
hint: the rule stands in the policy `[PLACE]/home/policy.toml`
✗ behaviours 1.2.3 · panic · rejected · did not run

"#]],
    );
    check(
        place.run(["jobs", "submit", "behaviours.wasm", "panic"]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: approval rule 2 denies it
hint: the rule stands in the policy `[PLACE]/home/policy.toml`

"#]],
    );
    check(
        place.run(["approvals", "list"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
no approval waits for an answer; `--all` shows those that have one

"#]],
    );
    check(
        place.run(["approvals", "approve", "12345678"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: no approval's id ends with `12345678`
hint: `skillhost approvals list` shows which there are

"#]],
    );
    let dry = place.run(["run", "behaviours.wasm", "answer", "--dry-run"]);
    assert!(dry.starts_with("exit: 3"), "{dry}");
    assert!(dry.contains("asks for an approval"), "{dry}");
}

/// Whatever they answered, it would not run.
#[test]
fn nobody_is_asked_about_what_is_not_admitted() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    let rule = "[[approval.rules]]\ntool = 'count'\naction = 'ask'\n";
    place.write("home/policy.toml", rule);
    for (flag, value, code, why) in [
        ("--env", "A=1", 3, "not declared by the skill"),
        ("--arg", "top=many", 2, "`/top`"),
        ("--limit", "input_bytes=3", 4, "the limit is 3 B"),
    ] {
        let run = ["run", "text-stats", "--arg", "text=a", flag, value];
        let said = place.run(run);
        says(&said, &[&format!("exit: {code}\n"), why]);
        assert!(!said.contains("approval"), "{said}");
        let list = json(&place, ["approvals", "list", "--all", "--json"]);
        assert_eq!(list.as_array().map(Vec::len), Some(0), "{list}");
    }
    // And they are about the rest.
    let said = place.run(["run", "text-stats", "--arg", "text=a"]);
    says(&said, &["exit: 3\n", "asks for an approval of it"]);
}

/// A time for which none holds is refused, and the question still waits for its answer.
#[test]
fn an_approval_holds_for_no_time_past_its_bounds() {
    let place = place();
    place.run(ANSWER);
    let list = json(&place, ["approvals", "list", "--json"]);
    let id = list[0]["id"].as_str().expect("it has one").to_owned();
    for time in ["0s", "367days", "1000years"] {
        says(
            &place.run(["approvals", "approve", &id, "--for", time]),
            &[
                "exit: 2\n",
                "an approval holds for 1 ms at least, and for 366 days at most",
            ],
        );
    }
    let said = place.run(["approvals", "approve", &id, "--for", "366days"]);
    says(&said, &["exit: 0\n", "may run for 366 days\n"]);
}

#[test]
fn the_person_at_the_terminal_is_asked() {
    let place = place();
    let (said, seen) = place.at_terminal(ANSWER, "y\n");
    check(
        said,
        str![[r#"
exit: 0
--- stdout
{}
--- stderr

"#]],
    );
    check(
        seen,
        str![[r#"
y
answer of behaviours@1.2.3: approval rule 1 (writers)
  digest  sha256:[DIGEST]
  input   {"json":"{}"}
May it run? [y]es, once; a time such as 10m, for that; [N]o, for an hour: ✓ behaviours 1.2.3 · answer · [COST]

"#]],
    );
    let (said, seen) = place.at_terminal(ANSWER, "n\n");
    assert!(said.starts_with("exit: 3"), "{said}");
    assert!(
        seen.contains("the person at the terminal refused it"),
        "{seen}"
    );
    // A refusal holds until it is taken back, and what is nonsense is asked again.
    let (said, seen) = place.at_terminal(ANSWER, "y\n");
    assert!(said.starts_with("exit: 3"), "{said}");
    assert!(
        seen.contains(
            "hint: that holds until [TIME]; `skillhost approvals approve [ID]` takes it back"
        ),
        "{seen}"
    );
    let list = json(&place, ["approvals", "list", "--all", "--json"]);
    let refused = list[0]["id"].as_str().expect("it has one");
    place.run(["approvals", "approve", refused]);
    assert!(place.run(ANSWER).starts_with("exit: 0"));
    let other = [
        "run",
        "behaviours.wasm",
        "answer",
        "--arg",
        "json={\"a\":\"\u{202e}\"}",
    ];
    let (said, seen) = place.at_terminal(other, "what\n0s\n10m\n");
    assert!(said.starts_with("exit: 0"), "{said}\n{seen}");
    let bounds = "for 366 days at most; `y`, a time such as 10m, or `n`";
    assert_eq!(seen.matches(bounds).count(), 1, "{seen}");
    assert!(seen.contains("`y`, a time such as 10m, or `n`"), "{seen}");
    assert!(
        seen.contains("\\u{202e}") && !seen.contains('\u{202e}'),
        "{seen}"
    );
    assert!(place.run(other).starts_with("exit: 0"));
}

/// What comes after a question that was not answered stands on a line of its own.
#[test]
fn whoever_ends_the_question_sees_the_rest_on_its_own_line() {
    let place = place();
    // Ctrl-D, and Ctrl-C.
    for key in [b"\x04", b"\x03"] {
        let (mut person, terminal) = terminal();
        let mut command = place.command(ANSWER);
        command.env("NO_COLOR", "1");
        command.stdin(terminal.try_clone().expect("a file can be had twice"));
        command.stderr(terminal).stdout(std::process::Stdio::null());
        let mut child = command.spawn().expect("the command starts");
        drop(command);
        let mut seen = Vec::new();
        let mut part = [0; 1_024];
        while !String::from_utf8_lossy(&seen).ends_with("[N]o, for an hour: ") {
            let read = person.read(&mut part).expect("it asks");
            seen.extend_from_slice(&part[..read]);
        }
        if key == b"\x03" {
            let pid = child.id().cast_signed();
            // SAFETY: a signal to a process of ours that has not been waited for.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
        } else {
            person
                .write_all(key)
                .expect("a terminal takes what is typed");
        }
        while let Ok(read @ 1..) = person.read(&mut part) {
            seen.extend_from_slice(&part[..read]);
        }
        child.wait().expect("it ends");
        let seen = String::from_utf8_lossy(&seen).replace("\r\n", "\n");
        assert!(seen.contains("[N]o, for an hour: \nerror: "), "{seen}");
    }
}

#[test]
fn a_job_and_its_approval_are_one_thing() {
    let place = place();
    let submit = [
        "jobs",
        "submit",
        "behaviours.wasm",
        "answer",
        "--arg",
        "json={}",
    ];
    place.run(submit);
    place.run(["worker", "--until-empty"]);
    check(
        place.run(["approvals", "list"]),
        str![[r#"
exit: 0
--- stdout
id        status   tenant  asked    what                              input[..]rule
[JOB]  pending  -       [AGO]  behaviours answer (job [..])  [..]  approval rule 1 (writers)
--- stderr

"#]],
    );
    let jobs = json(&place, ["jobs", "list", "--json"]);
    let job = jobs[0]["id"].as_str().expect("it has one").to_owned();
    assert_eq!(jobs[0]["cause"], "approval_needed");
    // By the job's id, too.
    check(
        place.run(["approvals", "approve", &job, "--by", "ann"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ [JOB] may run, once

"#]],
    );
    place.run(["worker", "--until-empty"]);
    let jobs = json(&place, ["jobs", "list", "--json"]);
    assert_eq!(jobs[0]["status"], "completed");
    place.run(submit);
    place.run(["worker", "--until-empty"]);
    let jobs = json(&place, ["jobs", "list", "--json"]);
    let job = jobs[0]["id"].as_str().expect("it has one").to_owned();
    place.run(["jobs", "refuse", &job, "--by", "bob"]);
    let all = json(&place, ["approvals", "list", "--all", "--json"]);
    assert_eq!(all[0]["status"], "refused");
    assert_eq!(all[0]["decided_by"], "bob");
    assert_eq!(all[1]["status"], "used");
    // Both are written down, with the job.
    let decided = ["audit", "show", "--kind", "approval_decided", "--json"];
    let decided = json(&place, decided);
    let seen: Vec<_> = decided
        .as_array()
        .expect("it is a list")
        .iter()
        .map(|record| {
            let entry = &record["entry"];
            assert!(entry["approval"].is_string() && entry["job"].is_string());
            // Whoever ran the command, whatever `--by` says.
            let caller = entry["caller"].as_str().expect("it is said");
            assert!(caller.starts_with("uid "), "{entry}");
            (entry["decision"].clone(), entry["by"].clone())
        })
        .collect();
    let expected = [("approved", "ann"), ("refused", "bob")];
    let expected = expected.map(|(decision, by)| (decision.into(), by.into()));
    assert_eq!(seen, expected);
}

/// What is said of a job once is for nothing else: of one that is dead it is not taken, by either command.
#[test]
fn a_dead_job_is_not_approved_but_replayed() {
    let place = place();
    place.run([
        "jobs",
        "submit",
        "behaviours.wasm",
        "answer",
        "--arg",
        "json={}",
    ]);
    place.run(["worker", "--until-empty"]);
    let jobs = json(&place, ["jobs", "list", "--json"]);
    let job = jobs[0]["id"].as_str().expect("it has one").to_owned();
    let show = place.run(["jobs", "show", &job]);
    let goes_on = "hint: `skillhost approvals approve [ID]` approves it, once; then the job goes on by itself";
    assert!(show.contains(goes_on), "{show}");
    place.run(["jobs", "refuse", &job, "--by", "bob"]);
    check(
        place.run(["jobs", "approve", &job]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: job [ID] is dead, and cannot be approved
hint: `skillhost jobs dead replay [JOB]` tries again

"#]],
    );
    let all = json(&place, ["approvals", "list", "--all", "--json"]);
    let approval = all[0]["id"].as_str().expect("it has one").to_owned();
    check(
        place.run(["approvals", "approve", &approval]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: job [ID] is dead, and cannot be approved
hint: `skillhost approvals approve [JOB] --for 1h` lets the same run for an hour; then `skillhost jobs dead replay [JOB]` tries again

"#]],
    );
    let all = json(&place, ["approvals", "list", "--all", "--json"]);
    assert_eq!(all[0]["status"], "refused");
    // As the hint says.
    let said = place.run(["approvals", "approve", &approval, "--for", "1h"]);
    assert!(said.starts_with("exit: 0"), "{said}");
    place.run(["jobs", "dead", "replay", &job]);
    place.run(["worker", "--until-empty"]);
    let jobs = json(&place, ["jobs", "list", "--json"]);
    assert_eq!(jobs[0]["status"], "completed", "{jobs}");
}

/// What is approved is one folder, and not whichever the same words mean elsewhere.
#[test]
fn an_approval_of_a_folder_is_of_that_folder() {
    let place = place();
    for folder in ["A/d", "B/d"] {
        std::fs::create_dir_all(place.path(folder)).expect("a folder can be made");
    }
    let component = place.path("behaviours.wasm");
    let component = component.to_str().expect("it is a text");
    let run = |folder: &str, dir: &str| {
        let mut command =
            place.command(["run", component, "answer", "--arg", "json={}", "--dir", dir]);
        command.current_dir(place.path(folder));
        place.said(&command.output().expect("it starts"))
    };
    let approve = |folder: &str| {
        let list = json(&place, ["approvals", "list", "--json"]);
        let id = list[0]["id"].as_str().expect("a text").to_owned();
        let shown = place.run(["approvals", "show", &id]);
        says(&shown, &[&format!("from [PLACE]/{folder}\n")]);
        let said = place.run(["approvals", "approve", &id, "--for", "1h", "--by", "ann"]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
    };
    let asked = |said: &str| says(said, &["exit: 3\n", "asks for an approval of it"]);
    asked(&run("A", "d:/data"));
    approve("A/d");
    let said = run("A", "d:/data");
    assert!(said.starts_with("exit: 0\n"), "{said}");
    asked(&run("B", "d:/data"));
    // However it is named.
    let whole = place.path("A/d");
    let said = run("B", &format!("{}:/data", whole.display()));
    assert!(said.starts_with("exit: 0\n"), "{said}");
}

/// Whoever answers sees what it gets besides what it asks for.
#[test]
fn what_the_policy_grants_is_shown_beside_what_is_asked_for() {
    let place = place();
    place.run(ANSWER);
    let id = json(&place, ["approvals", "list", "--json"])[0]["id"].clone();
    let id = id.as_str().expect("a text");
    let title = "what the policy here grants the skill\n";
    let said = place.run(["approvals", "show", id]);
    assert!(!said.contains(title), "{said}");
    let grants = "[skills.behaviours.grants]\ndirectories = ['/srv/notes:/notes:rw']\n";
    place.write("home/policy.toml", format!("{ASK}\n{grants}"));
    let said = place.run(["approvals", "show", id]);
    says(&said, &["exit: 0\n", title, "/srv/notes"]);
}

/// Who says so is known, also where nobody says it.
#[test]
fn who_answers_has_a_name() {
    let place = place();
    place.run(ANSWER);
    let id = json(&place, ["approvals", "list", "--json"])[0]["id"].clone();
    let id = id.as_str().expect("a text");
    let said = place.run(["approvals", "approve", id, "--by", ""]);
    says(&said, &["exit: 2\n", "'--by <WHO>'"]);
    place.run(["approvals", "approve", id]);
    let mut shown = json(&place, ["approvals", "show", id, "--json"]);
    let by = shown["decided_by"].take();
    let by = by.as_str().expect("a text");
    assert!(by.starts_with("uid "), "{by}");
}
