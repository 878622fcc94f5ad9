//! Several versions of a skill, each confirmed by itself.

use crate::harness::Place;

/// Two versions, installed, of which the second declares a variable alone; both are confirmed.
fn two() -> (Place, [String; 2]) {
    let place = super::with_data();
    let grant = [
        "policy",
        "grant",
        "csv-query",
        "--dir",
        "data:/data",
        "--config",
        "max_rows=1",
    ];
    assert!(place.run(grant).starts_with("exit: 0\n"));
    assert!(place.run(["install", "csv-query"]).starts_with("exit: 0\n"));
    let digest = |place: &Place, name: &str| {
        let output = place.output(["inspect", name, "--json"]);
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        said["digest"].as_str().expect("a digest").to_owned()
    };
    let first = digest(&place, "csv-query@0.1.0");
    // The version stands in the component: the same text, of another version, of the same length.
    let component = std::fs::read(place.path("csv-query/skill.wasm")).expect("it is there");
    let other = replaced(&component, b"0.1.0", b"0.2.0");
    std::fs::write(place.path("csv-query/skill.wasm"), other).expect("it can be written");
    place.write("csv-query/skill.toml", "grants.environment = [\"TZ\"]\n");
    let said = place.run(["install", "csv-query"]);
    assert!(said.contains("csv-query@0.2.0 is now installed"), "{said}");
    let second = digest(&place, "csv-query@0.2.0");
    (place, [first, second])
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut all = text.to_vec();
    for at in 0..all.len().saturating_sub(from.len()) {
        // Not within the names of interfaces.
        if all[at..].starts_with(from) && all[at.saturating_sub(1)] != b'@' {
            all[at..at + to.len()].copy_from_slice(to);
        }
    }
    all
}

/// The first grant to a name has all that have it wait to be confirmed, also those that ran before.
#[test]
fn a_grant_says_which_versions_are_not_run_any_more() {
    let (place, _) = two();
    let revoke = ["policy", "revoke", "csv-query", "--all"];
    assert!(place.run(revoke).starts_with("exit: 0\n"));
    let tells = "csv-query@0.1.0, which is installed, is not run any more until it is confirmed";
    let grant = ["policy", "grant", "csv-query@0.2.0", "--env", "TZ=UTC"];
    let said = place.run(grant);
    assert!(said.contains(tells), "{said}");
    let confirm = "`skillhost policy confirm csv-query@0.1.0` confirms it";
    assert!(said.contains(confirm), "{said}");
    // Where a grant is tried, the line before it says that none helps until then.
    let said = place.run(["run", "csv-query@0.1.0", "query", "--dry-run"]);
    let (_, missing) = said
        .split_once("Declared by the skill, and not granted\n")
        .expect(&said);
    assert!(
        missing.starts_with("  First confirm what is granted already: "),
        "{said}"
    );
    // That was so before the next one.
    let said = place.run(["policy", "grant", "csv-query@0.2.0", "--env", "TZ=CET"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(!said.contains("any more"), "{said}");
    // As the hint says.
    let said = place.run(["policy", "confirm", "csv-query@0.1.0", "--yes"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
}

#[test]
fn what_is_confirmed_is_what_this_version_gets_and_can_be_taken_back() {
    let (place, [first, second]) = two();
    let said = place.run(["policy", "confirm", "csv-query@0.2.0", "--yes"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let (_, granted) = said.split_once("It would be granted\n").expect(&said);
    let (given, passed_over) = granted
        .split_once("Not this, which it does not declare")
        .expect(&said);
    assert_eq!(given.trim(), "nothing", "{said}");
    assert!(
        passed_over.contains("directory  /data") && passed_over.contains("max_rows"),
        "{said}"
    );
    // Quietly, without being asked, nothing is said.
    let said = place.run(["policy", "revoke", "csv-query@0.2.0"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(said.contains("taken from csv-query: the confirmation of 0.2.0 (sha256:[DIGEST]); one other digest has what is granted"), "{said}");
    let said = place.run(["policy", "revoke", "csv-query@0.2.0"]);
    assert!(
        said.starts_with("exit: 2\n")
            && said.contains("error: `csv-query@0.2.0` is not confirmed\n"),
        "{said}"
    );
    let said = place.run(["-q", "policy", "confirm", "csv-query@0.2.0", "--yes"]);
    assert_eq!(said, "exit: 0\n--- stdout\n--- stderr\n");
    // What is granted is granted to both, which is said.
    let said = place.run(["policy", "grant", "csv-query@0.2.0", "--env", "TZ=UTC"]);
    assert!(
        said.contains("so is every other version that is confirmed and declares it: 0.1.0"),
        "{said}"
    );
    // Removed, it stays confirmed, which is said and found.
    let said = place.run(["remove", "csv-query@0.1.0"]);
    let take_back = format!(
        "`skillhost policy revoke {}` takes that back",
        "sha256:[DIGEST]"
    );
    assert!(
        said.contains("note: that it is confirmed stays in the policy"),
        "{said}"
    );
    assert!(said.contains(&take_back), "{said}");
    let said = place.run(["policy", "check"]);
    assert!(
        said.contains(
            "note: csv-query: version 0.1.0, sha256:[DIGEST], is confirmed and not installed"
        ),
        "{said}"
    );
    // By what its digest begins with; and with the skill's name.
    let digits = |digest: &str| digest["sha256:".len()..][..8].to_owned();
    let said = place.run(["policy", "revoke", &digits(&first)]);
    assert!(said.contains("the confirmation of 0.1.0"), "{said}");
    let said = place.run(["policy", "check"]);
    assert!(!said.contains("not installed"), "{said}");
    for begin in ["0123abcd", "csv-query 0123abcd"] {
        let mut command = place.command([]);
        let output = command
            .args(["policy", "revoke"])
            .args(begin.split(' '))
            .output();
        let said = place.said(&output.expect("the command starts"));
        assert!(
            said.starts_with("exit: 2\n") && said.contains("is not confirmed"),
            "{said}"
        );
    }
    let said = place.run(["policy", "revoke", "csv-query", &digits(&second)]);
    assert!(
        said.contains("its grants stay in the policy, and no version is confirmed to get them"),
        "{said}"
    );
    let policy = place.read("home/policy.toml");
    assert!(
        policy.contains("TZ") && !policy.contains("confirmed"),
        "{policy}"
    );
    let said = place.run(["policy", "revoke", &first]);
    assert!(
        said.starts_with("exit: 2\n") && said.contains("this digest is not confirmed"),
        "{said}"
    );
    let said = place.run(["policy", "revoke", "csv-query@0.1.0", "TZ"]);
    assert!(
        said.contains("error: what is granted is granted to all versions"),
        "{said}"
    );
}

/// A hint names the version that it is about.
#[test]
fn installing_an_older_version_says_how_to_confirm_that_one() {
    let (place, _) = two();
    let said = place.run(["policy", "confirm", "csv-query@0.2.0", "--yes"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    place.run(["remove", "csv-query@0.1.0"]);
    // The older one again, with another skill.toml.
    place.add_other("csv-query", "older");
    place.write(
        "older/skill.toml",
        "grants.environment = [\"TZ\", \"LANG\"]\n",
    );
    let said = place.run(["install", "older"]);
    assert!(said.contains("csv-query@0.1.0 is now installed"), "{said}");
    assert!(
        said.contains("`skillhost policy confirm csv-query@0.1.0`"),
        "{said}"
    );
}
