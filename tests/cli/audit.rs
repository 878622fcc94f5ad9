//! What was written down, and whether it still is.

use std::fs;

use serde_json::Value;
use snapbox::str;

use crate::harness::{Place, check};

const ECHO: [&str; 5] = [
    "run",
    "behaviours.wasm",
    "echo",
    "--arg",
    "text=very-secret",
];

#[test]
fn each_run_is_written_down_and_an_edit_is_named() {
    let place = Place::with_behaviours();
    check(place.run(["audit", "verify"]), str![]);
    place.run(ECHO);
    place.run(["run", "behaviours.wasm", "trap"]);
    place.run(["run", "behaviours.wasm", "environment", "--env", "NO=PE=x"]);
    check(place.run(["audit", "show", "--kind", "execution"]), str![]);
    check(place.run(["audit", "verify"]), str![]);
    let file = "home/audit/0001-000001.jsonl";
    let text = place.read(file);
    assert!(!text.contains("very-secret"), "{text}");
    // Somebody was never there.
    fs::write(place.path(file), text.replacen("\"trap\"", "\"echo\"", 1))
        .expect("it can be written");
    check(place.run(["audit", "verify"]), str![]);
    fs::write(place.path(file), &text).expect("it can be written");
    let lines: Vec<&str> = text.lines().collect();
    fs::write(place.path(file), lines[..lines.len() - 1].join("\n") + "\n")
        .expect("it can be written");
    check(place.run(["audit", "verify"]), str![]);
    let json = place.output(["audit", "verify", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(json["sound"], false);
    assert_eq!(json["findings"][0]["kind"], "cut");
    assert_eq!(json["findings"][0]["file"], "0001-000001.jsonl");
}

#[test]
fn what_is_granted_for_good_is_written_down_without_values() {
    let place = Place::with_text_stats();
    place.run([
        "policy",
        "grant",
        "text-stats",
        "--config",
        "min_length=12345",
    ]);
    place.run(["policy", "revoke", "text-stats", "--all"]);
    check(place.run(["audit", "show", "--kind", "grant"]), str![]);
    assert!(!place.read("home/audit/0001-000001.jsonl").contains("12345"));
}

#[test]
fn entries_are_found_by_what_they_say() {
    let place = Place::with_behaviours();
    place.run(ECHO);
    let count = |args: &[&str]| {
        let mut command = place.command(["audit", "show", "--json"]);
        let output = command.args(args).output().expect("the command starts");
        let found: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        found.as_array().expect("it is a list").len()
    };
    assert_eq!(count(&[]), 2);
    assert_eq!(count(&["--since", "1h", "--outcome", "success"]), 1);
    assert_eq!(count(&["--until", "1h"]), 0);
    assert_eq!(count(&["--skill", "behaviours"]), 1);
    assert_eq!(count(&["--tenant", "acme"]), 0);
    check(place.run(["audit", "show", "--kind", "nothing"]), str![]);
}

#[test]
fn an_audit_that_is_required_and_cannot_be_written_rejects() {
    let place = Place::with_behaviours();
    place.write("home/policy.toml", "[audit]\nrequired = true\n");
    assert!(place.run(ECHO).starts_with("exit: 0"));
    fs::remove_dir_all(place.path("home/audit")).expect("it is there");
    place.write("home/audit", "no folder");
    check(place.run(ECHO), str![]);
    check(place.run(["policy", "revoke", "nobody", "--all"]), str![]);
    // Where it is not required, that is said, and it runs.
    place.write("home/policy.toml", "");
    check(place.run(ECHO), str![]);
    place.write("home/policy.toml", "[audit]\nenabled = false\n");
    assert!(!place.run(ECHO).contains("audit"));
}
