//! Grants are given to a digest.

use std::fs;
use std::io::Read as _;
use std::process::Stdio;

use snapbox::str;

use super::{QUERY, change, granted};
use crate::harness::{check, terminal};

#[test]
fn a_skill_that_changed_loses_its_grants_until_they_are_confirmed() {
    let place = granted();
    change(&place);
    check(
        place.run(QUERY),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: consent `csv-query`: the policy's grants are not confirmed for this digest, sha256:[DIGEST]; since the one that was confirmed: widened directories *: ro → rw; added environment SECRET
hint: see what it wants now with `skillhost policy diff csv-query`, and consent to it with `skillhost policy confirm csv-query`
✗ csv-query 0.1.0 · query · rejected · did not run

"#]],
    );
    let [run, skill, tool, arg, path] = QUERY;
    let said = place.run([run, skill, tool, arg, path, "--dir", "data:/data"]);
    assert!(said.starts_with("exit: 3\n"), "{said}");
    check(
        place.run(["policy", "diff", "csv-query"]),
        str![[r#"
exit: 0
--- stdout
csv-query
  confirmed  0.1.0  sha256:[DIGEST]
  now        0.1.0  sha256:[DIGEST]

What it wants differs
  ↑ widened   directories *: ro → rw
  + added     environment SECRET
--- stderr

"#]],
    );
    check(
        place.run(["policy", "show", "csv-query"]),
        str![[r#"
exit: 0
--- stdout
csv-query@0.1.0
  digest   sha256:[DIGEST]
  consent  missing: it is not run until it is confirmed

Granted by the policy
  nothing until this digest is confirmed: see what it wants now with `skillhost policy diff csv-query`, and consent to it with `skillhost policy confirm csv-query`
  then:
  directory  /data     ro  from [PLACE]/data
  config     max_rows  = 1

Declared, and not granted
  First confirm what is granted already: `skillhost policy confirm csv-query`
  environment SECRET
    grant it for this run with `--env 'SECRET=<VALUE>'`, or for good with `skillhost policy grant csv-query --env 'SECRET=<VALUE>'`; by hand, in the policy under `[skills.csv-query.grants]`: `environment = { SECRET = "<VALUE>" }`, or into the table that is there, or into the list as "SECRET=<VALUE>", and then `skillhost policy confirm csv-query`
--- stderr

"#]],
    );
    // To add a grant is not to consent to the others.
    check(
        place.run(["policy", "grant", "csv-query", "--env", "SECRET=x"]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: what the policy grants to `csv-query` is not confirmed for this digest
hint: see what it wants now with `skillhost policy diff csv-query`, and confirm it with `skillhost policy confirm csv-query` first

"#]],
    );
    check(
        place.run(["policy", "confirm", "csv-query"]),
        str![[r#"
exit: 2
--- stdout
csv-query
  confirmed  0.1.0  sha256:[DIGEST]
  now        0.1.0  sha256:[DIGEST]

What it wants differs
  ↑ widened   directories *: ro → rw
  + added     environment SECRET

It would be granted
  directory  /data     ro  from [PLACE]/data
  config     max_rows  = 1
--- stderr
sha256:[DIGEST], which is confirmed now, will no longer be
error: there is nobody to ask: standard input is no terminal
hint: `--yes` confirms it without asking

"#]],
    );
    check(
        place.answer(["policy", "confirm", "csv-query"], "n\n"),
        str![[r#"
exit: 3
--- stdout
csv-query
  confirmed  0.1.0  sha256:[DIGEST]
  now        0.1.0  sha256:[DIGEST]

What it wants differs
  ↑ widened   directories *: ro → rw
  + added     environment SECRET

It would be granted
  directory  /data     ro  from [PLACE]/data
  config     max_rows  = 1
--- stderr
sha256:[DIGEST], which is confirmed now, will no longer be
Give these grants to csv-query@0.1.0 as it is now? [y/N] not confirmed

"#]],
    );
    let before = place.read("home/policy.toml");
    assert!(place.run(QUERY).starts_with("exit: 3\n"));
    let said = place.answer(["policy", "confirm", "csv-query"], "y\n");
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let now = "csv-query@0.1.0 is now confirmed (sha256:[DIGEST])\n  \
               in its place, sha256:[DIGEST] is no longer confirmed\n";
    assert!(said.contains(now), "{said}");
    assert!(place.run(QUERY).starts_with("exit: 0\n"));
    assert_ne!(place.read("home/policy.toml"), before);
    check(
        place.run(["policy", "confirm", "csv-query", "--yes"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ csv-query@0.1.0 was confirmed already (sha256:[DIGEST])

"#]],
    );
}

/// Nor can a folder be opened that is not there, or that is the host's own, whatever was confirmed.
#[test]
fn a_confirmation_warns_of_folders_that_no_run_can_open() {
    for (folder, why) in [("home", "is the host's own"), ("gone", "cannot be opened")] {
        let place = granted();
        let policy = place.read("home/policy.toml");
        let data = place.path("data").display().to_string();
        let other = policy.replace(&data, &place.path(folder).display().to_string());
        let (grants, _) = other.split_once("[[").expect("it is confirmed");
        place.write("home/policy.toml", grants);
        let said = place.run(["policy", "confirm", "csv-query", "--yes"]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
        let warning = "with this it would be rejected: directory `/data`: ";
        assert!(said.contains(warning), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(place.run(QUERY).starts_with("exit: 3\n"));
        // Nor does it look, to whoever asks what is granted, as if it could be read.
        let said = place.run(["policy", "show", "csv-query"]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
        let (before, table) = said.split_once("directory `/data`: ").expect(&said);
        assert!(before.contains("Granted by the policy"), "{said}");
        assert!(table.contains(why), "{said}");
    }
}

/// What would be rejected with a confirmation is said before it is given, and nothing else is.
#[test]
fn a_confirmation_warns_of_what_would_be_rejected() {
    for other_version in [false, true] {
        let place = granted();
        place.write(
            "csv-query/skill.toml",
            "grants.directories = [{ path = \"*\", mode = \"ro\" }]\n",
        );
        if other_version {
            // Beside it stays what still declares the key, which then is no more than left out here.
            let policy = place.read("home/policy.toml");
            let other = policy.replace("version = \"0.1.0\"", "version = \"0.0.9\"");
            assert_ne!(other, policy);
            place.write("home/policy.toml", other);
        }
        let said = place.run(["policy", "confirm", "csv-query", "--yes"]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
        let warning = "with this it would be rejected: config `max_rows`: in the policy: granted, but not declared";
        assert_eq!(said.contains(warning), !other_version, "{said}");
        assert_eq!(said.contains("warning"), !other_version, "{said}");
        let gone = said.contains("is no longer confirmed");
        assert_eq!(gone, !other_version, "{said}");
        let ran = place.run(QUERY);
        let exit = if other_version {
            "exit: 0\n"
        } else {
            "exit: 3\n"
        };
        assert!(ran.starts_with(exit), "{ran}");
    }
}

#[test]
fn a_stranger_that_calls_itself_the_same_gets_nothing() {
    let place = granted();
    fs::copy(
        place.path("csv-query/skill.wasm"),
        place.path("stranger.wasm"),
    )
    .expect("a file can be copied");
    check(
        place.run(["run", "stranger.wasm", "query", "--arg", "path=/data/a.csv"]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: consent `csv-query`: the policy's grants are not confirmed for this digest, sha256:[DIGEST]; since the one that was confirmed: added anything that is granted, having no skill.toml
hint: see what it wants now with `skillhost policy diff stranger.wasm`, and consent to it with `skillhost policy confirm stranger.wasm`
✗ csv-query 0.1.0 · query · rejected · did not run

"#]],
    );
    check(
        place.run(["policy", "diff", "stranger.wasm"]),
        str![[r#"
exit: 0
--- stdout
csv-query
  confirmed  0.1.0  sha256:[DIGEST]
  now        0.1.0  sha256:[DIGEST]

What it wants differs
  + added     anything that is granted, having no skill.toml
  - removed   directories *: ro
  - removed   limits fuel: 50,000,000,000 units
  - removed   limits wall_time_ms: 1 min
  - removed   config max_rows: default 1000, integer
--- stderr

"#]],
    );
}

/// Mostly a new build wants what the one before it wanted; and some want nothing.
#[test]
fn a_difference_may_be_none_in_what_is_wanted() {
    let place = granted();
    let component = place.path("csv-query/skill.wasm");
    let mut bytes = fs::read(&component).unwrap();
    // A section that says nothing.
    bytes.extend_from_slice(b"\x00\x06\x05build");
    fs::write(&component, bytes).unwrap();
    check(
        place.run(["policy", "diff", "csv-query"]),
        str![[r#"
exit: 0
--- stdout
csv-query
  confirmed  0.1.0  sha256:[DIGEST]
  now        0.1.0  sha256:[DIGEST]

The digest differs, and nothing in what it wants
--- stderr

"#]],
    );
    check(
        place.run(["policy", "diff", "csv-query", "--json"]),
        str![[r#"
exit: 0
--- stdout
{"name":"csv-query","version":"0.1.0","digest":"sha256:[DIGEST]","consent":"missing","confirmed":false,"before":{"digest":"sha256:[DIGEST]","version":"0.1.0"},"changes":[]}
--- stderr

"#]],
    );
    place.add_example("text-stats");
    place.write("text-stats/skill.toml", "");
    check(
        place.run(["policy", "diff", "text-stats"]),
        str![[r#"
exit: 0
--- stdout
text-stats
  now  0.1.0  sha256:[DIGEST]

No digest is confirmed; it wants
  + added     tools count: idempotent, read_only
--- stderr

"#]],
    );
    change(&place);
    check(
        place.run(["policy", "diff", "csv-query", "--json"]),
        str![[r#"
exit: 0
--- stdout
{"name":"csv-query","version":"0.1.0","digest":"sha256:[DIGEST]","consent":"missing","confirmed":false,"before":{"digest":"sha256:[DIGEST]","version":"0.1.0"},"changes":[{"kind":"widened","field":"directories","subject":"*","before":"ro","after":"rw"},{"kind":"added","field":"environment","subject":"SECRET","after":""}]}
--- stderr

"#]],
    );
}

/// Whoever puts a build in the place of another is told before the next run is refused.
#[test]
fn installing_a_changed_skill_says_that_it_is_not_confirmed() {
    let place = granted();
    check(
        place.run(["install", "csv-query"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ csv-query@0.1.0 is now installed (sha256:[DIGEST])

"#]],
    );
    change(&place);
    check(
        place.run(["install", "csv-query", "--replace"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ csv-query@0.1.0 is now installed in the other's place (sha256:[DIGEST])
warning: it is not run until what the policy grants to it is confirmed for this digest: see what it wants now with `skillhost policy diff csv-query`, and consent to it with `skillhost policy confirm csv-query`

"#]],
    );
}

#[test]
fn a_consent_is_in_the_audit() {
    let place = granted();
    change(&place);
    let said = place.run(["policy", "confirm", "csv-query", "--yes"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let shown = place.output(["audit", "show", "--kind", "grant", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("it is JSON");
    let shown = shown.as_array().expect("it is a list");
    for record in shown {
        let caller = record["entry"]["caller"].as_str().expect("it is said");
        assert!(caller.starts_with("uid "), "{record}");
    }
    let last = &shown.last().expect("one")["entry"];
    assert_eq!(last["action"], "confirm", "{last}");
    assert_eq!(last["skill_name"], "csv-query");
    assert!(last["digest"].is_string(), "{last}");
}

/// Whoever is asked and thinks better of it is not kept.
#[test]
fn ctrl_c_ends_the_question() {
    let place = granted();
    change(&place);
    let before = place.read("home/policy.toml");
    let (_person, terminal) = terminal();
    let mut child = place
        .command(["policy", "confirm", "csv-query"])
        .stdin(terminal)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut said = Vec::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    while !said.ends_with(b"[y/N] ") {
        let mut byte = [0];
        stderr.read_exact(&mut byte).expect("it asks");
        said.push(byte[0]);
    }
    let pid = child.id().cast_signed();
    // SAFETY: a signal to a process of ours that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("it is UTF-8");
    assert_eq!(rest, "\nerror: interrupted; nothing was changed\n");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(place.read("home/policy.toml"), before);
}
