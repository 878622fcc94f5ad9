//! Executions that wait for somebody's word.

use serde_json::Value;
use snapbox::str;

use crate::harness::{Place, check};

const ASK: &str = "\
[[approval.rules]]
name = 'writers'
tool = 'answer*'
action = 'ask'

[[approval.rules]]
tool = 'trap'
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
    check(place.run(ANSWER), str![]);
    check(place.run(["approvals", "list"]), str![]);
    let list = json(&place, ["approvals", "list", "--json"]);
    let id = list[0]["id"].as_str().expect("it has one").to_owned();
    assert_eq!(list[0]["status"], "pending");
    check(place.run(["approvals", "show", &id]), str![]);
    check(
        place.run(["approvals", "approve", &id[28..], "--by", "ann"]),
        str![],
    );
    check(place.run(ANSWER), str![]);
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
        str![],
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
        str![],
    );
    for _ in 0..2 {
        assert!(place.run(ANSWER).starts_with("exit: 0"));
    }
    let other = place.run(["run", "behaviours.wasm", "answer", "--arg", "json={ }"]);
    assert!(other.starts_with("exit: 3"), "{other}");
    check(
        place.run(["approvals", "refuse", &id, "--by", "ann"]),
        str![],
    );
    check(place.run(ANSWER), str![]);
    check(place.run(["approvals", "list", "--all"]), str![]);
}

#[test]
fn what_a_rule_denies_is_not_asked_about() {
    let place = place();
    check(place.run(["policy", "show"]), str![]);
    check(place.run(["run", "behaviours.wasm", "trap"]), str![]);
    check(place.run(["approvals", "list"]), str![]);
    check(place.run(["approvals", "approve", "12345678"]), str![]);
    let dry = place.run(["run", "behaviours.wasm", "answer", "--dry-run"]);
    assert!(dry.starts_with("exit: 3"), "{dry}");
    assert!(dry.contains("asks for an approval"), "{dry}");
}

#[test]
fn the_person_at_the_terminal_is_asked() {
    let place = place();
    let (said, seen) = place.at_terminal(ANSWER, "y\n");
    check(said, str![]);
    check(seen, str![]);
    let (said, seen) = place.at_terminal(ANSWER, "n\n");
    assert!(said.starts_with("exit: 3"), "{said}");
    assert!(
        seen.contains("the person at the terminal refused it"),
        "{seen}"
    );
    // A refusal holds, and what is nonsense is asked again.
    let (said, _) = place.at_terminal(ANSWER, "y\n");
    assert!(said.starts_with("exit: 3"), "{said}");
    let other = [
        "run",
        "behaviours.wasm",
        "answer",
        "--arg",
        "json=[\"\u{202e}\"]",
    ];
    let (said, seen) = place.at_terminal(other, "what\n10m\n");
    assert!(said.starts_with("exit: 0"), "{said}\n{seen}");
    assert!(seen.contains("`y`, a time such as 10m, or `n`"), "{seen}");
    assert!(
        seen.contains("\\u{202e}") && !seen.contains('\u{202e}'),
        "{seen}"
    );
    assert!(place.run(other).starts_with("exit: 0"));
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
    check(place.run(["approvals", "list"]), str![]);
    let jobs = json(&place, ["jobs", "list", "--json"]);
    let job = jobs[0]["id"].as_str().expect("it has one").to_owned();
    assert_eq!(jobs[0]["cause"], "approval_needed");
    // By the job's id, too.
    check(
        place.run(["approvals", "approve", &job, "--by", "ann"]),
        str![],
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
}
