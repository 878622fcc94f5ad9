//! What takes grants back.

use crate::harness::{Place, says};

/// What is granted is taken back by the same text, and leaves nothing behind.
#[test]
fn a_grant_is_taken_back_by_the_text_that_it_was_given_by() {
    let place = Place::with_behaviours();
    place.write(
        "home/policy.toml",
        "[skills.behaviours.ceilings]\nfuel = 1_000_000\n",
    );
    let before = place.read("home/policy.toml");
    place.write("data/kept", "");
    let cases = [
        ("--http", "GET http://127.0.0.1:8991"),
        ("--http", "HTTPS://A.example:443"),
        ("--address", "10.1.0.0/16"),
        ("--socket", "tcp://127.0.0.1:080"),
        ("--socket", "udp://[0:0:0:0:0:0:0:1]:53"),
        ("--secret", "token=Authorization:Bearer@https://A.example"),
        ("--dir", "data"),
        ("--dir", "data:/in"),
        ("--dir", "./data:/in/:rw"),
        ("--env", "A=b=c"),
        ("--config", "key=not-told"),
        ("--clock", "2026-01-01T01:00:00+01:00"),
        ("--random", "seed:7"),
    ];
    for (flag, grant) in cases {
        let given = place.run(["policy", "grant", "behaviours.wasm", flag, grant]);
        says(&given, &["exit: 0\n", "is now granted"]);
        let again = place.run(["policy", "grant", "behaviours.wasm", flag, grant]);
        says(&again, &["exit: 0\n", "is already granted"]);
        let taken = place.run(["policy", "revoke", "behaviours", grant]);
        assert!(taken.starts_with("exit: 0\n"), "{taken}");
        assert_eq!(place.read("home/policy.toml"), before);
    }
    let shown = place.run(["audit", "show", "--kind", "grant"]);
    assert_eq!(shown.matches("· grant ·").count(), cases.len(), "{shown}");
    // Values are not written down.
    let written = place.read("home/audit/0001-000001.jsonl");
    assert!(!written.contains("b=c") && !written.contains("not-told"));
}

/// A text that would have granted something else takes nothing back.
#[test]
fn what_is_not_what_was_granted_stays() {
    let place = Place::with_behaviours();
    place.write("data/kept", "");
    place.write("other/kept", "");
    let mut grant = place.command(["policy", "grant", "behaviours.wasm"]);
    grant.args(["--dir", "data:/in", "--env", "A=b", "--config", "A=c"]);
    let said = place.said(&grant.output().expect("the command starts"));
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let before = place.read("home/policy.toml");
    for other in ["other:/in", "data:/in:rw", "data:/out", "A=d", "B=b"] {
        let said = place.run(["policy", "revoke", "behaviours", other]);
        says(&said, &["exit: 2\n", "the policy does not grant `"]);
        assert_eq!(place.read("home/policy.toml"), before);
    }
    // Of two of one name it is the one with this value.
    let said = place.run(["policy", "revoke", "behaviours", "A=c"]);
    says(&said, &["exit: 0\n", "taken from behaviours: A\n"]);
    let left = place.read("home/policy.toml");
    assert!(
        left.contains("A = \"b\"") && !left.contains("config = { A"),
        "{left}"
    );
    // A guest path is one however it is written.
    let said = place.run(["policy", "revoke", "behaviours", "/in/"]);
    says(&said, &["exit: 0\n", "taken from behaviours: /in\n"]);
}

/// Nothing is left of an entry that said no more than this.
#[test]
fn the_last_grant_leaves_no_table() {
    let place = Place::with_behaviours();
    place.write("home/policy.toml", "[general.ceilings]\nfuel = 1_000_000\n");
    place.run(["policy", "grant", "behaviours.wasm", "--env", "A=b"]);
    let said = place.run(["policy", "revoke", "behaviours", "A"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let left = place.read("home/policy.toml");
    assert!(!left.contains("behaviours"), "{left}");
}
