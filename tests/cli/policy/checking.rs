//! `policy check`: what does not hold of a policy, or does not fit.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use snapbox::str;

use super::{change, granted};
use crate::harness::{Place, check, says};

#[test]
fn check_finds_what_does_not_fit() {
    let place = granted();
    place.run(["install", "csv-query"]);
    let policy = place.read("home/policy.toml");
    check(
        place.run(["policy", "check"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ the policy `[PLACE]/home/policy.toml` is sound, with grants for 1 skill

"#]],
    );
    // One without grants does not count.
    place.write("home/policy.toml", format!("{policy}\n[skills.other]\n"));
    let said = place.run(["policy", "check"]);
    assert!(
        said.contains("is sound, with grants for 1 skill\n"),
        "{said}"
    );
    let policy = policy.replace(
        "[skills.csv-query.grants]\n",
        "[skills.csv-query.grants]\nenvironment = [\"A=b\"]\n",
    );
    place.write("home/policy.toml", policy);
    fs::rename(place.path("data"), place.path("elsewhere")).expect("it can be renamed");
    change(&place);
    place.run(["install", "csv-query", "--replace"]);
    check(
        place.run(["policy", "check"]),
        str![[r#"
exit: 3
--- stdout
found: csv-query: environment `A`: granted, but not declared by the skill
  hint: the skill declares: `SECRET`; to take it out: `skillhost policy revoke csv-query A`
found: csv-query: `[PLACE]/data` is not a folder that is there
  hint: make it, or take the grant out: `skillhost policy revoke csv-query /data`
found: csv-query: csv-query@0.1.0 is installed and not confirmed (sha256:[DIGEST])
  hint: `skillhost policy diff csv-query@0.1.0` shows what it wants, `skillhost policy confirm csv-query@0.1.0` confirms it
--- stderr
✗ the policy `[PLACE]/home/policy.toml`: 3 found

"#]],
    );
    let output = place.output(["policy", "check", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["sound"], false);
    let kinds: Vec<&str> = json["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|finding| finding["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["grant", "directory", "unconfirmed"]);
}

/// Whoever reads JSON gets some, whatever the policy is like.
#[test]
fn a_policy_that_cannot_be_used_is_a_finding() {
    let place = Place::new();
    place.write("home/policy.toml", "[skills.csv-query\n");
    let output = place.output(["policy", "check", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["sound"], false, "{json}");
    let finding = &json["findings"][0];
    assert_eq!(finding["kind"], "unusable", "{json}");
    assert_eq!(finding["policy"], json["path"], "{json}");
    let message = finding["message"].as_str().expect("a text");
    assert!(message.contains("line 1"), "{message}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("error: "), "{said}");
}

/// Without it nothing runs.
#[test]
fn an_audit_that_is_required_and_cannot_be_kept_is_found() {
    let place = Place::new();
    place.write("home/policy.toml", "[audit]\nrequired = true\n");
    let said = place.run(["policy", "check"]);
    says(&said, &["exit: 0\n", "is sound"]);
    assert!(!place.path("home/audit").exists(), "it is only looked at");
    let folder = place.path("home/audit");
    fs::create_dir(&folder).expect("a folder can be made");
    let mode = |mode| fs::set_permissions(&folder, Permissions::from_mode(mode));
    mode(0o755).expect("it is ours");
    check(
        place.run(["policy", "check"]),
        str![[r#"
exit: 3
--- stdout
found: audit: it is required, and without it nothing runs: `[PLACE]/home/audit` is open to others (mode 755)
  hint: it must be this user's alone: `chmod 700 [PLACE]/home/audit`
--- stderr
✗ the policy `[PLACE]/home/policy.toml`: 1 found

"#]],
    );
    place.write(
        "home/policy.toml",
        "[audit]\nrequired = true\nfolder = '/proc/x/audit'\n",
    );
    let json = place.output(["policy", "check", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(json["findings"][0]["kind"], "audit", "{json}");
    let hint = json["findings"][0]["hint"].as_str().expect("a text");
    assert!(hint.contains("name another folder"), "{hint}");
}

/// One that may be missing is warned of, here as where something runs.
#[test]
fn an_audit_that_is_not_kept_is_warned_of() {
    let place = Place::new();
    let folder = place.path("home/audit");
    fs::create_dir(&folder).expect("a folder can be made");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("it is ours");
    let warning = "warning: audit: nothing that runs is written down: `[PLACE]/home/audit` is open to others (mode 755)\n";
    let hint = "hint: it must be this user's alone: `chmod 700 [PLACE]/home/audit`\n";
    // With a policy, and without one.
    for policy in ["", "[audit]\n"] {
        place.write("home/policy.toml", policy);
        let said = place.run(["policy", "check"]);
        says(&said, &["exit: 0\n", warning, hint]);
        let said = place.run(["policy", "check", "--strict"]);
        says(&said, &["exit: 3\n", warning]);
    }
    fs::remove_file(place.path("home/policy.toml")).expect("it is there");
    let said = place.run(["policy", "check", "--strict"]);
    says(&said, &["exit: 3\n", warning, hint]);
    let said = place.run(["run", "nothing"]);
    says(&said, &["warning: no audit is kept: ", hint]);
    place.write("home/policy.toml", "[audit]\nenabled = false\n");
    let said = place.run(["policy", "check", "--strict"]);
    says(&said, &["exit: 0\n"]);
}

/// Its record is damaged, so that it is not known what it is; but it is there.
#[test]
fn a_skill_whose_record_is_damaged_is_not_taken_for_one_that_is_gone() {
    let place = granted();
    let said = place.run(["install", "csv-query"]);
    assert!(said.starts_with("exit: 0"), "{said}");
    let record = "home/skills/csv-query@0.1.0/installed.json";
    place.write(record, "{");
    let said = place.run(["policy", "check"]);
    says(
        &said,
        &[
            "exit: 3\n",
            "found: csv-query: the record of the installed skill `csv-query@0.1.0` cannot be read",
            "hint: install it anew, which puts it right, or remove it with `skillhost remove csv-query@0.1.0`\n",
        ],
    );
    assert!(
        !said.contains("is installed;") && !said.contains("--all"),
        "{said}"
    );
}

/// Nobody gets the secrets that are kept in it.
#[test]
fn a_file_of_secrets_that_is_open_to_others_is_found() {
    let place = Place::new();
    place.run_with_stdin(["secrets", "set", "token"], b"12345678abc\n");
    let said = place.run(["policy", "check"]);
    says(&said, &["exit: 0\n"]);
    let mode = Permissions::from_mode(0o644);
    fs::set_permissions(place.path("home/secrets"), mode).expect("it is ours");
    // Where none is granted, nothing is refused for that.
    let policies = [
        ("", "exit: 0\n", "warning"),
        (
            "[skills.a.grants]\nstorage = true\n",
            "exit: 3\n",
            "warning",
        ),
        (
            "[skills.a.grants]\nsecrets = ['token=authorization@https://a.example']\n",
            "exit: 3\n",
            "found",
        ),
    ];
    for (policy, exit, what) in policies {
        place.write("home/policy.toml", policy);
        let said = place.run(["policy", "check"]);
        says(&said, &[exit]);
        says(
            &said,
            &[
                &format!("{what}: secrets: none that is kept has a value: "),
                "hint: close it to others: `chmod 600 ",
            ],
        );
    }
}

#[test]
fn grants_that_nobody_gets_are_found() {
    let place = Place::new();
    place.write(
        "home/policy.toml",
        "[skills.gone.grants]\nenvironment = { A = 1 }\n",
    );
    check(
        place.run(["policy", "check"]),
        str![[r#"
exit: 3
--- stdout
found: gone: no digest is confirmed, and no skill of this name is installed: nobody gets these grants
  hint: `skillhost list` shows what is
--- stderr
✗ the policy `[PLACE]/home/policy.toml`: 1 found

"#]],
    );
}

/// Each of them is held against all the others.
#[test]
fn many_grants_are_checked_in_little_time() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    let many: Vec<String> = (0..20_000)
        .map(|number| format!("\"https://h{number}.example.com\""))
        .collect();
    let began = std::time::Instant::now();
    // More than one skill can have.
    place.write(
        "home/policy.toml",
        format!("[skills.text-stats.grants]\nhttp = [{}]\n", many.join(",")),
    );
    let said = place.run(["policy", "check"]);
    says(
        &said,
        &[
            "exit: 2\n",
            "text-stats.grants.http: `*`: more than 256 are granted",
        ],
    );
    // As many as it can, of many skills.
    let skills = many.chunks(256).enumerate().map(|(number, grants)| {
        let name = match number {
            78 => "text-stats".to_owned(),
            number => format!("a{number}"),
        };
        format!("[skills.{name}.grants]\nhttp = [{}]\n", grants.join(","))
    });
    place.write("home/policy.toml", skills.collect::<String>());
    let said = place.run(["policy", "check"]);
    assert!(
        said.starts_with("exit: 3\n"),
        "{}",
        &said[..2_000.min(said.len())]
    );
    let last = "`skillhost policy revoke text-stats https://h19999.example.com/`\n";
    assert!(said.contains(last));
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(60), "{took:?}");
}

/// What is told to take something out does so.
#[test]
fn a_scratch_folder_that_is_not_declared_is_told_once() {
    let place = Place::with_text_stats();
    place.write("text-stats/skill.toml", "");
    place.run(["install", "text-stats"]);
    place.write(
        "home/policy.toml",
        "[skills.text-stats.grants]\nscratch = true\n",
    );
    let out = "`skillhost policy revoke text-stats scratch`\n";
    let said = place.run(["policy", "confirm", "text-stats", "--yes"]);
    says(&said, &["to take it out of the policy: ", out]);
    let said = place.run(["run", "text-stats", "--arg", "text=a"]);
    says(&said, &["exit: 3\n", "to take it out of the policy: ", out]);
    let said = place.run(["policy", "check"]);
    says(
        &said,
        &["exit: 3\n", "found: text-stats: scratch `/scratch`", out],
    );
    assert_eq!(said.matches("scratch `/scratch`").count(), 1, "{said}");
    let said = place.run(["policy", "revoke", "text-stats", "scratch"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
}
