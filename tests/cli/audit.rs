//! What was written down, and whether it still is.

use std::fs;
use std::os::unix::fs::PermissionsExt;

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
    check(
        place.run(["audit", "verify"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
note: there is no audit in `[PLACE]/home/audit`: nothing was written yet

"#]],
    );
    place.run(ECHO);
    place.run(["run", "behaviours.wasm", "panic"]);
    place.run(["run", "behaviours.wasm", "environment", "--env", "NO=PE=x"]);
    check(
        place.run(["audit", "show", "--kind", "execution"]),
        str![[r#"
exit: 0
--- stdout
time                  tenant  kind       what
[TIME]  -       execution  behaviours@1.2.3 · echo · success
[TIME]  -       execution  behaviours@1.2.3 · panic · failed · trap
[TIME]  -       execution  behaviours@1.2.3 · environment · success
--- stderr

"#]],
    );
    check(
        place.run(["audit", "verify"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ 6 entries in 1 chain, as they were written

"#]],
    );
    check(
        place.run(["audit", "show", "--limit", "2"]),
        str![[r#"
exit: 0
--- stdout
time                  tenant  kind       what
[TIME]  -       execution  behaviours@1.2.3 · panic · failed · trap
[TIME]  -       execution  behaviours@1.2.3 · environment · success
--- stderr
there may be older ones: these are the last 2, and `--limit N` shows more

"#]],
    );
    let file = "home/audit/0001-000001.jsonl";
    let text = place.read(file);
    assert!(!text.contains("very-secret"), "{text}");
    // Somebody was never there.
    fs::write(place.path(file), text.replacen("\"panic\"", "\"echo\"", 1))
        .expect("it can be written");
    check(
        place.run(["audit", "verify"]),
        str![[r#"
exit: 7
--- stdout
changed: 0001-000001.jsonl, line 4: entry 4 was changed, or the one before it was
--- stderr
✗ 6 entries in 1 chain, and 1 finding that cannot be explained by a crash
hint: keep a copy of the folder as evidence; once the folder is moved away, a new chain begins in its place

"#]],
    );
    fs::write(place.path(file), &text).expect("it can be written");
    let lines: Vec<&str> = text.lines().collect();
    fs::write(place.path(file), lines[..lines.len() - 1].join("\n") + "\n")
        .expect("it can be written");
    check(
        place.run(["audit", "verify"]),
        str![[r#"
exit: 7
--- stdout
cut: 0001-000001.jsonl, line 5: entry 6, the last, is missing behind this line
--- stderr
✗ 6 entries in 1 chain, and 1 finding that cannot be explained by a crash
hint: keep a copy of the folder as evidence; once the folder is moved away, a new chain begins in its place

"#]],
    );
    let json = place.output(["audit", "verify", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(json["sound"], false);
    assert_eq!(json["findings"][0]["kind"], "cut");
    assert_eq!(json["findings"][0]["file"], "0001-000001.jsonl");
    // Of a file that is gone, no line is named.
    fs::remove_file(place.path(file)).expect("it is there");
    let said = place.run(["audit", "verify"]);
    assert!(said.starts_with("exit: 7\n"), "{said}");
    for part in [
        "cut: 0001-000001.jsonl: 6 entries, from 1 on, are missing\n",
        "removed: 0001-000001.jsonl: the file is missing\n",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_a_wrong_argument() {
    let place = Place::new();
    check(
        place.run(["audit", "verify", "--folder", "nowhere"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: no audit in `nowhere`: there is no such folder
hint: without `--folder`, it is the one in `[PLACE]/home/audit`

"#]],
    );
    // Nor is one that has nothing of an audit.
    let other = place.path("other");
    fs::create_dir(&other).expect("a folder can be made");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).expect("it is ours");
    place.write("other/notes.txt", "");
    check(
        place.run(["audit", "verify", "--folder", "other"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: no audit in `other`: nothing of one is in it
hint: without `--folder`, it is the one in `[PLACE]/home/audit`

"#]],
    );
    place.write("file", "");
    check(
        place.run(["audit", "show", "--folder", "file"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: no audit in `file`: it is no folder
hint: without `--folder`, it is the one in `[PLACE]/home/audit`

"#]],
    );
}

/// The mode of a link is not what is wrong with it.
#[test]
fn a_link_is_told_from_a_folder_that_is_open() {
    let place = Place::with_behaviours();
    place.write("home/policy.toml", "[audit]\nrequired = true\n");
    let folder = place.path("elsewhere");
    fs::create_dir(&folder).expect("a folder can be made");
    std::os::unix::fs::symlink(&folder, place.path("home/audit")).expect("a link can be made");
    check(
        place.run(["policy", "revoke", "nobody", "--all"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the audit: `[PLACE]/home/audit` is a symbolic link, and no folder
hint: name the folder that it leads to, `[PLACE]/elsewhere`

"#]],
    );
}

#[test]
fn what_is_granted_for_good_is_written_down_without_values() {
    let place = Place::new();
    place.add_example("csv-query");
    place.run(["policy", "grant", "csv-query", "--config", "max_rows=12345"]);
    place.run(["policy", "revoke", "csv-query", "--all"]);
    check(
        place.run(["audit", "show", "--kind", "grant"]),
        str![[r#"
exit: 0
--- stdout
time                  tenant  kind   what
[TIME]  -       grant  csv-query · grant · config max_rows
[TIME]  -       grant  csv-query · revoke · config max_rows · the confirmation of 0.1.0 (sha256:[DIGEST])
--- stderr

"#]],
    );
    let written = place.read("home/audit/0001-000001.jsonl");
    assert!(!written.contains("12345"));
    // Each of them by whom.
    let by = "\"kind\":\"grant\",\"caller\":\"uid ";
    assert_eq!(written.matches(by).count(), 2, "{written}");
}

/// A run by whom, and a job that was refused before it was one.
#[test]
fn who_ran_it_is_written_down_and_what_was_refused_when_it_was_submitted() {
    let place = Place::with_behaviours();
    let deny = "[[approval.rules]]\ntool = 'panic'\naction = 'deny'\n";
    place.write("home/policy.toml", deny);
    place.run(ECHO);
    let said = place.run(["jobs", "submit", "behaviours.wasm", "panic"]);
    assert!(!said.starts_with("exit: 0"), "{said}");
    let shown = place.output(["audit", "show", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("it is JSON");
    let entries = shown.as_array().expect("it is a list");
    let of = |number: usize| &entries[number]["entry"];
    for entry in [1, entries.len() - 1].map(of) {
        let caller = entry["caller"].as_str().expect("it is said");
        assert!(caller.starts_with("uid "), "{entry}");
    }
    let last = of(entries.len() - 1);
    assert_eq!(last["kind"], "execution", "{last}");
    assert_eq!(last["reason"], "refused", "{last}");
    assert_eq!(last["rule"], "approval rule 1", "{last}");
    assert_eq!(last["skill"], of(1)["skill"], "{last}");
    let said = place.run(["audit", "show", "--skill", "behaviours"]);
    let refused = "behaviours@1.2.3 · panic · rejected · refused · approval rule 1\n";
    assert!(said.contains(refused), "{said}");
}

/// A skill that is not known has a line, by whatever it is asked for.
#[test]
fn what_is_asked_of_no_skill_is_written_down() {
    let place = Place::new();
    place.write("broken.wasm", "garbage");
    place.run(["run", "nowhere", "count", "--tenant", "acme"]);
    place.run(["run", "nowhere", "--dry-run"]);
    place.run(["run", "broken.wasm"]);
    place.run(["jobs", "submit", "gone@1.0.0"]);
    let shown = place.output(["audit", "show", "--json", "--kind", "execution"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("it is JSON");
    let entries = shown.as_array().expect("it is a list");
    let asked: Vec<_> = entries.iter().map(|one| &one["entry"]["asked"]).collect();
    assert_eq!(asked, ["nowhere", "broken.wasm", "gone@1.0.0"], "{shown}");
    let first = &entries[0]["entry"];
    assert_eq!(first["cause"], "not_loaded", "{first}");
    assert_eq!(first["tool"], "count", "{first}");
    assert_eq!(first["tenant"], "acme", "{first}");
    assert!(
        first["caller"]
            .as_str()
            .is_some_and(|by| by.starts_with("uid "))
    );
    // Where nothing is to be written down, nothing is.
    place.write("home/policy.toml", "[audit]\nenabled = false\n");
    place.run(["run", "nowhere"]);
    let said = place.run(["audit", "show", "--skill", "nowhere"]);
    assert_eq!(said.matches("nowhere").count(), 1, "{said}");
}

/// As what is asked of those that there are, also with `--no-policy`.
#[test]
fn what_is_asked_of_no_skill_is_written_down_where_runs_are() {
    let place = Place::with_behaviours();
    let [named, usual] = ["named", "home/audit"];
    let elsewhere = format!("[audit]\nfolder = '{}'\n", place.path(named).display());
    let nowhere = "[audit]\nenabled = false\n".to_owned();
    for (policy, flags, folder) in [
        (&elsewhere, &[][..], Some(named)),
        (&elsewhere, &["--no-policy"], Some(usual)),
        (&nowhere, &[], None),
        (&nowhere, &["--no-policy"], Some(usual)),
    ] {
        place.write("home/policy.toml", policy);
        for skill in ["nowhere", "behaviours.wasm"] {
            let mut command = place.command(["run", skill, "echo"]);
            let output = command.args(flags).output();
            output.expect("the command starts");
            let made = [named, usual].map(|folder| place.path(folder).exists());
            let wanted = [named, usual].map(|made| Some(made) == folder);
            assert_eq!(made, wanted, "{skill} {flags:?} {policy}");
            if let Some(folder) = folder {
                let said = place.run(["audit", "show", "--folder", folder]);
                assert_eq!(said.matches(" · echo · ").count(), 1, "{said}");
                fs::remove_dir_all(place.path(folder)).expect("it is there");
            }
        }
    }
    // Nothing is made where nothing is written down.
    fs::remove_file(place.path("home/policy.toml")).expect("it is there");
    place.run(["install", "behaviours.wasm"]);
    place.write(
        "behaviours/Cargo.toml",
        "[package]\nname = \"behaviours\"\n",
    );
    let said = place.run(["run", "behaviours"]);
    crate::harness::says(
        &said,
        &["exit: 2\n", "and the source folder of one as well"],
    );
    assert!(!place.path(usual).exists());
}

/// By its version or its digest as well; and what is found by neither is not passed over.
#[test]
fn entries_of_a_skill_are_found_by_all_that_it_goes_by() {
    let place = Place::with_behaviours();
    place.run(ECHO);
    let shown = place.output(["audit", "show", "--json", "--kind", "execution"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("it is JSON");
    let digest = shown[0]["entry"]["skill"]["digest"].as_str();
    let hex = digest
        .expect("a text")
        .trim_start_matches("sha256:")
        .to_owned();
    for skill in [
        "behaviours@1.2.3",
        &hex,
        &hex[..8],
        &hex[..12].to_uppercase(),
        &format!("sha256:{}", &hex[..8]),
    ] {
        let said = place.run(["audit", "show", "--skill", skill]);
        assert!(
            said.contains("behaviours@1.2.3 · echo · success"),
            "{skill}: {said}"
        );
    }
    // What is granted and confirmed is that version's, and what is taken back is its name's.
    let said = place.run(["policy", "grant", "behaviours.wasm", "--env", "A=b"]);
    assert!(said.starts_with("exit: 0"), "{said}");
    place.run(["policy", "revoke", "behaviours", "A"]);
    place.run(["run", "gone@1.0.0"]);
    let (granted, taken) = ("· grant · environment A\n", "· revoke · A\n");
    for (skill, found) in [
        ("behaviours@1.2.3", &["· echo · success", granted][..]),
        ("behaviours", &["· echo · success", granted, taken]),
        ("gone@1.0.0", &["gone@1.0.0 · failed · not_loaded"]),
        ("gone", &["gone@1.0.0 · failed · not_loaded"]),
    ] {
        let said = place.run(["audit", "show", "--skill", skill]);
        crate::harness::says(&said, found);
        let line = said.lines().filter(|line| line.contains(" · "));
        assert_eq!(line.count(), found.len(), "{skill}: {said}");
    }
    let none = [
        "behaviours@1.2.4",
        "gone@1.0.1",
        "none",
        &hex[..7],
        "ffffffff0",
    ];
    for skill in none {
        let said = place.run(["audit", "show", "--skill", skill]);
        crate::harness::says(&said, &["no entries", "hint: `--skill` takes"]);
    }
}

/// A folder is looked into before anybody is told to close it, or that it is all well.
#[test]
fn a_folder_that_cannot_be_used_is_no_audit_that_is_empty() {
    let place = Place::new();
    let open = place.path("open");
    fs::create_dir(&open).expect("a folder can be made");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("it is ours");
    place.write("open/notes.txt", "");
    for command in ["verify", "show"] {
        let said = place.run(["audit", command, "--folder", "open"]);
        crate::harness::says(
            &said,
            &[
                "exit: 2",
                "error: no audit in `open`: nothing of one is in it",
                "hint: without",
            ],
        );
        assert!(!said.contains("chmod"), "{said}");
    }
    // A policy's is not to be closed to whoever else has files in it.
    let policy = format!("[audit]\nfolder = '{}'\n", open.display());
    place.write("home/policy.toml", policy);
    let said = place.run(["audit", "verify"]);
    crate::harness::says(
        &said,
        &[
            "is open to others (mode 755)\n",
            "hint: it is used for something else",
        ],
    );
    place.write("file", "");
    let policy = format!(
        "[audit]\nfolder = '{}'\n",
        place.path("file/audit").display()
    );
    place.write("home/policy.toml", policy);
    for command in ["verify", "show"] {
        let said = place.run(["audit", command]);
        crate::harness::says(
            &said,
            &[
                "exit: 70",
                "error: the audit: cannot make",
                "hint: name another folder",
            ],
        );
    }
}

/// What was added is told from what was changed, and nothing is made of it that is not so.
#[test]
fn what_was_added_or_cut_is_called_so() {
    let place = Place::with_behaviours();
    for _ in 0..4 {
        place.run(ECHO);
    }
    let file = "home/audit/0001-000001.jsonl";
    let text = place.read(file);
    let lines: Vec<&str> = text.lines().collect();
    let (ahead, behind) = lines.split_at(5);
    let with = |added: &[&str]| [ahead, added, behind].concat().join("\n") + "\n";
    for (text, said) in [
        (
            with(&[r#"{"x":1}"#]),
            "added: 0001-000001.jsonl, line 6: it is no line of the audit, and entry 6 follows what stands before it\n",
        ),
        (
            with(&[lines[4]]),
            "duplicated: 0001-000001.jsonl, line 6: entry 5 stands here a second time\n",
        ),
        (
            text[..text.len() - 9].to_owned(),
            "cut: 0001-000001.jsonl, line 8: it ends in the middle of entry 8\n",
        ),
    ] {
        fs::write(place.path(file), text).expect("it can be written");
        let verified = place.run(["audit", "verify"]);
        let found = verified
            .split_once("--- stdout\n")
            .and_then(|(_, rest)| rest.split_once("--- stderr"));
        assert_eq!(found.expect("both").0, said);
    }
    // However many they are: the first are told, and all are counted.
    fs::write(place.path(file), format!("{text}{}", "\n".repeat(5_000)))
        .expect("it can be written");
    let verified = place.run(["audit", "verify"]);
    assert_eq!(verified.matches("changed: ").count(), 1_000);
    crate::harness::says(
        &verified,
        &[
            "exit: 7\n",
            "line 9: it is no line of the audit\n",
            "\nand 4,001 more\n",
            "✗ 8 entries in 1 chain, and 5,001 findings that cannot be explained by a crash",
        ],
    );
    let json = place.output(["audit", "verify", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(json["chains"][0]["verified"], false, "{json}");
    // Without its head, the chain is counted all the same.
    fs::write(place.path(file), &text).expect("it can be written");
    let json = place.output(["audit", "verify", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(json["chains"][0]["verified"], true, "{json}");
    fs::write(place.path("home/audit/0001.head"), "garbage").expect("it can be written");
    let damaged = place.run(["audit", "verify"]);
    fs::remove_file(place.path("home/audit/0001.head")).expect("it is there");
    let missing = place.run(["audit", "verify"]);
    let json = place.output(["audit", "verify", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(json["chains"][0]["verified"], false, "{json}");
    for said in [damaged, missing] {
        crate::harness::says(
            &said,
            &[
                "exit: 7",
                "the 8 lines of its chain were counted, and not verified",
                "✗ 8 entries in 1 chain",
            ],
        );
    }
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
    check(
        place.run(["audit", "show", "--kind", "nothing"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--kind <KIND>': there is no kind `nothing`; there are execution, approval_asked, approval_decided, grant, policy, secret, breaker, opened, resumed

For more information, try '--help'.

"#]],
    );
}

#[test]
fn an_outcome_that_there_is_none_of_is_said() {
    let place = Place::new();
    check(
        place.run(["audit", "show", "--outcome", "rejectd"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--outcome <STATUS>': `rejectd` is no status; there are success, failed, timeout, cancelled, rejected, resource_exhausted

For more information, try '--help'.

"#]],
    );
}

#[test]
fn an_audit_that_is_required_and_cannot_be_written_rejects() {
    let place = Place::with_behaviours();
    place.write("home/policy.toml", "[audit]\nrequired = true\n");
    assert!(place.run(ECHO).starts_with("exit: 0"));
    fs::remove_dir_all(place.path("home/audit")).expect("it is there");
    place.write("home/audit", "no folder");
    check(
        place.run(ECHO),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: cannot make `[PLACE]/home/audit`: File exists (os error 17)
hint: name another folder: `folder` in `[audit]`, in the policy
✗ behaviours 1.2.3 · echo · rejected · did not run

"#]],
    );
    check(
        place.run(["policy", "revoke", "nobody", "--all"]),
        str![[r#"
exit: 70
--- stdout
--- stderr
error: the audit: cannot make `[PLACE]/home/audit`: File exists (os error 17)

"#]],
    );
    // Where it is not required, that is said, and it runs.
    place.write("home/policy.toml", "");
    check(
        place.run(ECHO),
        str![[r#"
exit: 0
--- stdout
{"text":"very-secret"}
--- stderr
warning: no audit is kept: cannot make `[PLACE]/home/audit`: File exists (os error 17)
hint: name another folder: `folder` in `[audit]`, in the policy
✓ behaviours 1.2.3 · echo · [COST]

"#]],
    );
    place.write("home/policy.toml", "[audit]\nenabled = false\n");
    assert!(!place.run(ECHO).contains("audit"));
}

/// What is in the way is told as it is wherever else it is in the way.
#[test]
fn a_run_that_needs_an_audit_says_what_is_in_its_way() {
    let place = Place::with_text_stats();
    place.write("home/policy.toml", "[audit]\nrequired = true\n");
    let folder = place.path("home/audit");
    fs::create_dir(&folder).expect("a folder can be made");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
    check(
        place.run(["run", "text-stats", "count", "--arg", "text=a"]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: `[PLACE]/home/audit` is open to others (mode 755)
hint: it must be this user's alone: `chmod 700 [PLACE]/home/audit`
✗ text-stats 0.1.0 · count · rejected · did not run

"#]],
    );
}

/// Whoever runs a skill is told, in the command's own words and with what to do.
#[test]
fn a_chain_that_is_damaged_is_told_by_whatever_writes() {
    let place = Place::with_behaviours();
    place.run(ECHO);
    fs::write(place.path("home/audit/0001.head"), "garbage").expect("it can be written");
    let warning = "warning: chain 1 of the audit is damaged, and left as it is; `skillhost audit verify` says what is \
                   wrong with it\n";
    for said in [place.run(ECHO), place.run(["worker", "--until-empty"])] {
        crate::harness::says(&said, &["exit: 0\n", warning]);
        assert!(!said.contains("WARN"), "{said}");
    }
    let [skill, file, tool, rest @ ..] = ECHO;
    let mut quiet = place.command([skill, file, tool, "--quiet"]);
    let output = quiet.args(rest).output().expect("the command starts");
    assert!(!place.said(&output).contains("damaged"));
}
