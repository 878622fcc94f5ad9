//! Nothing is granted that is not named.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use snapbox::str;

use crate::harness::{Place, check};

#[test]
fn a_folder_can_be_read_when_it_is_granted() {
    let place = Place::new();
    place.add_example("csv-query");
    place.write("data/a.csv", "n\n1\n2\n");
    check(
        place.run([
            "run",
            "csv-query",
            "query",
            "--dir",
            "data",
            "--arg",
            "path=data/a.csv",
        ]),
        str![[r#"
exit: 0
--- stdout
{"columns":["n"],"rows":[[1],[2]],"rows_matched":2,"rows_read":2,"truncated":false}
--- stderr
✓ csv-query 0.1.0 · query · [COST]

"#]],
    );
    check(
        place.run(["run", "csv-query", "query", "--arg", "path=data/a.csv"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit at `/path`: cannot read `data/a.csv`: no such file, or its directory is not granted (--dir)
hint: the skill wants directory `*`, which was not granted: grant it for this run with `--dir '<HOST>:<GUEST>:ro'`, or for good with `skillhost policy grant csv-query --dir '<HOST>:<GUEST>:ro'`; by hand, in the policy under `[skills.csv-query.grants]`: `directories = ["<HOST>:<GUEST>:ro"]`, or into the list that is there, in place of one for the same guest path, and then `skillhost policy confirm csv-query`; the skill finds what is in it under paths that begin with <GUEST>
✗ csv-query 0.1.0 · query · failed · [COST]

"#]],
    );
}

/// The host does not hear of a path that is below nothing that is granted; that there was none is told.
#[test]
fn a_path_outside_of_what_is_granted_says_what_is() {
    let place = Place::new();
    place.add_example("csv-query");
    place.write("data/a.csv", "n\n1\n2\n");
    let run = |path: &str| {
        place.run([
            "run",
            "csv-query",
            "query",
            "--dir",
            "data:/data",
            "--arg",
            path,
        ])
    };
    check(
        run("path=/date/a.csv"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit at `/path`: cannot read `/date/a.csv`: no such file, or its directory is not granted (--dir)
hint: the skill opened nothing below what it is granted: `/data`; if it was to find a file, give it a path that begins so
✗ csv-query 0.1.0 · query · failed · [COST]

"#]],
    );
    check(
        run("path=/data/b.csv"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit at `/path`: cannot read `/data/b.csv`: no such file, or its directory is not granted (--dir)
hint: the last path that the skill looked for is not there: `b.csv` in `/data`; if that is why, give it another
✗ csv-query 0.1.0 · query · failed · [COST]

"#]],
    );
}

/// A component without a skill.toml declares nothing: what it was seen to look for is said, each once, and a program is
/// told which grant would give it.
#[test]
fn what_a_bare_component_looked_for_is_said() {
    let place = Place::with_behaviours();
    let run = |look_for: &str, flag: &str| {
        let input = format!(r#"{{"message": "no", "look_for": {look_for}}}"#);
        place.run(["run", "behaviours.wasm", "fail", "--input", &input, flag])
    };
    check(
        run(
            r#"{"path": "/data/a.csv", "key": "max_rows"}"#,
            "--color=never",
        ),
        str![[r#"
exit: 1
--- stdout
--- stderr
error: the skill failed: no
hint: the skill looked for a directory, and was granted none; if that is why, grant it for this run with `--dir '<HOST>:<GUEST>:ro'`, or for good with `skillhost policy grant behaviours.wasm --dir '<HOST>:<GUEST>:ro'`; by hand, in the policy under `[skills.behaviours.grants]`: `directories = ["<HOST>:<GUEST>:ro"]`, or into the list that is there, in place of one for the same guest path, and then `skillhost policy confirm behaviours.wasm`; the skill finds what is in it under paths that begin with <GUEST>
hint: the skill wants config `max_rows`, which was not granted: grant it for this run with `--config 'max_rows=<VALUE>'`, or for good with `skillhost policy grant behaviours.wasm --config 'max_rows=<VALUE>'`; by hand, in the policy under `[skills.behaviours.grants]`: `config = { max_rows = "<VALUE>" }`, or into the table that is there, or into the list as "max_rows=<VALUE>", and then `skillhost policy confirm behaviours.wasm`
✗ behaviours 1.2.3 · fail · failed · [COST]

"#]],
    );
    check(
        run(r#"{"key": "max_rows"}"#, "--no-policy"),
        str![[r#"
exit: 1
--- stdout
--- stderr
error: the skill failed: no
hint: the skill asked for the configuration key `max_rows`, which it was not given; if that is why, grant it for this run with `--config 'max_rows=<VALUE>'`
✗ behaviours 1.2.3 · fail · failed · [COST]

"#]],
    );
    let json = run(r#"{"key": "max_rows"}"#, "--json");
    let missing = r#""missing":[{"capability":"config","subject":"max_rows","reason":"the skill asked for the configuration key `max_rows`, which it was not given","remedy":"grant","grant":"max_rows=<VALUE>","#;
    assert!(json.contains(missing), "{json}");
}

/// What is granted for good is of no use where the policy is left out.
#[test]
fn without_the_policy_a_hint_is_for_this_run() {
    let place = Place::new();
    place.add_example("csv-query");
    place.write("data/a.csv", "n\n1\n2\n");
    let run = [
        "run",
        "csv-query",
        "query",
        "--arg",
        "path=/data/a.csv",
        "--no-policy",
    ];
    check(
        place.run(run),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit at `/path`: cannot read `/data/a.csv`: no such file, or its directory is not granted (--dir)
hint: the skill wants directory `*`, which was not granted: grant it for this run with `--dir '<HOST>:<GUEST>:ro'`; the skill finds what is in it under paths that begin with <GUEST>
✗ csv-query 0.1.0 · query · failed · [COST]

"#]],
    );
    let said = place.run(["policy", "grant", "csv-query", "--dir", "data:/data"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    check(
        place.run(run),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit at `/path`: cannot read `/data/a.csv`: no such file, or its directory is not granted (--dir)
hint: the skill wants directory `*`, which was not granted: grant it for this run with `--dir '<HOST>:<GUEST>:ro'`; the skill finds what is in it under paths that begin with <GUEST>; what the policy grants it is left out by `--no-policy`
✗ csv-query 0.1.0 · query · failed · [COST]

"#]],
    );
    let said = place.run(["run", "csv-query", "query", "--no-policy", "--dry-run"]);
    let hint = "    grant it for this run with `--dir '<HOST>:<GUEST>:ro'`; the skill finds what is in it under paths that begin \
                with <GUEST>; what the policy grants it is left out by `--no-policy`\n";
    assert!(said.contains(hint), "{said}");
}

#[test]
fn under_another_path_and_to_write() {
    let place = Place::with_behaviours();
    place.write("data/a.txt", "hello");
    let read = r#"{"path": "/in/a.txt"}"#;
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "read",
            "--dir",
            "data:/in",
            "-q",
            "-i",
            read,
        ]),
        str![[r#"
exit: 0
--- stdout
{"text":"hello"}
--- stderr

"#]],
    );
    let write = r#"{"path": "/in/b.txt", "text": "new"}"#;
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "write",
            "--dir",
            "data:/in",
            "-q",
            "-i",
            write,
        ]),
        str![[r#"
exit: 0
--- stdout
{"error":"Operation not permitted (os error 63)"}
--- stderr

"#]],
    );
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "write",
            "--dir",
            "data:/in:rw",
            "-q",
            "-i",
            write,
        ]),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr

"#]],
    );
    assert_eq!(place.read("data/b.txt"), "new");
}

#[test]
fn a_folder_that_is_not_there() {
    let place = Place::with_behaviours();
    check(
        place.run(["run", "behaviours.wasm", "read", "--dir", "nowhere:/in"]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: directory `/in`: `[PLACE]/nowhere` cannot be opened: No such file or directory (os error 2)
hint: grant a directory that exists and that this user may read
✗ behaviours 1.2.3 · read · rejected · did not run

"#]],
    );
}

/// It is not one that whoever runs the skill has named.
#[test]
fn a_folder_of_the_policys_that_is_gone_is_told_as_such() {
    let place = Place::new();
    place.add_example("regex-search");
    place.write("notes/a.txt", "a\n");
    let said = place.run(["policy", "grant", "regex-search", "--dir", "notes:/notes"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    fs::remove_dir_all(place.path("notes")).expect("it is there");
    let run = [
        "run",
        "regex-search",
        "search",
        "--input",
        r#"{"path":"/notes","pattern":"a"}"#,
    ];
    let said = place.run(run);
    assert!(said.starts_with("exit: 3\n"), "{said}");
    let hint = "; to take it out of the policy: `skillhost policy revoke regex-search /notes`\n";
    for part in ["not admitted: directory `/notes`: in the policy: `", hint] {
        assert!(said.contains(part), "{said}");
    }
    let [run, skill, tool, input, json] = run;
    let said = place.run([run, skill, tool, input, json, "--dry-run"]);
    assert!(said.contains(hint), "{said}");
    // In the place of which another is named for this run.
    let said = place.run([run, skill, tool, input, json, "--dir", "nowhere:/notes"]);
    assert!(
        said.contains("hint: grant a directory that exists and that this user may read\n"),
        "{said}"
    );
}

/// A shell puts the home in the place of `~` only where it stands by itself.
#[test]
fn a_home_that_the_shell_left_as_it_is() {
    let place = Place::with_behaviours();
    check(
        place.run(["run", "behaviours.wasm", "read", "--dir", "~/nowhere:/in"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `~/nowhere` is not a folder that is there: `~` is what the shell puts the home folder for, and it did not
hint: leave `~/` outside of quotation marks and at the beginning of a word, or write `$HOME/`

"#]],
    );
}

/// What the kernel makes up is no folder of anybody's.
#[test]
fn a_folder_of_the_kernel() {
    let place = Place::with_behaviours();
    check(
        place.run(["run", "behaviours.wasm", "read", "--dir", "/proc:/in"]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: directory `/in`: `/proc` is made up by the kernel
hint: grant a directory with files of its own, and none such as `/proc` or `/sys`
✗ behaviours 1.2.3 · read · rejected · did not run

"#]],
    );
}

#[test]
fn a_grant_that_is_none() {
    check(
        Place::new().run(["run", "x", "--dir", "a:b:c"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value for '--dir <HOST[:GUEST][:ro|rw]>': `a:b:c` is not a directory grant: what stands last is no mode: it is `ro` or `rw`; write HOST, HOST:GUEST or HOST:GUEST:ro|rw

For more information, try '--help'.

"#]],
    );
}

/// What is typed is the whole path of one that is there, and another and a guest path would be made of it.
#[test]
fn a_folder_with_a_colon_in_its_name() {
    let place = Place::new();
    place.write("a/secret.txt", "of somebody else");
    place.write("a:b/c.txt", "what was meant");
    for typed in ["a:b", "a:b:rw"] {
        let said = place.run(["run", "x", "--dir", typed]);
        let taken = "there is `a:b`, and it would be taken for `a` under the guest path `b`; a path with a `:` in it is \
                     granted in the policy, as a table: `{ host = \"/srv/a:b\", guest = \"/b\", mode = \"ro\" }`";
        assert!(said.starts_with("exit: 2\n"), "{said}");
        assert!(said.contains(taken), "{said}");
    }
    let said = place.run(["run", "x", "--dir", "a:b:/c"]);
    assert!(said.contains("as a table: `{ host"), "{said}");
    // Where there is none, it is what it always is.
    let said = place.run(["run", "x", "--dir", "a:c"]);
    assert!(!said.contains("as a table"), "{said}");
}

#[test]
fn a_grant_that_the_skill_does_not_declare() {
    let place = Place::with_text_stats();
    check(
        place.run([
            "run",
            "text-stats",
            "--arg",
            "text=a",
            "--dir",
            ".",
            "--env",
            "A=b",
        ]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: directory `.`: granted, but not declared by the skill; environment `A`: granted, but not declared by the skill
hint: the skill's skill.toml declares no directory: leave it out, or add `directories = [{ path = ".", mode = "ro" }]` to `[grants]` there
hint: the skill's skill.toml declares no environment: leave it out, or add `environment = ["A"]` to `[grants]` there
✗ text-stats 0.1.0 · count · rejected · did not run

"#]],
    );
}

#[test]
fn environment_and_configuration() {
    let place = Place::with_behaviours();
    let mut command = place.command(["run", "behaviours.wasm", "environment", "-q"]);
    command.args(["--env", "A=b=c"]).env("SECRET", "x");
    check(
        place.said(&command.output().expect("the command starts")),
        str![[r#"
exit: 0
--- stdout
{"arguments":[],"variables":[["A","b=c"]]}
--- stderr

"#]],
    );
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "config",
            "-q",
            "--config",
            "k=v",
            "-i",
            r#"{"key": "k"}"#,
        ]),
        str![[r#"
exit: 0
--- stdout
{"all":[["k","v"]],"value":"v"}
--- stderr

"#]],
    );
}

#[test]
fn the_environment_is_not_inherited() {
    check(
        Place::new().run(["run", "x", "--env", "HOME"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value 'HOME' for '--env <KEY=VALUE>': nothing is inherited from this environment; write the value out: 'HOME=<VALUE>'

For more information, try '--help'.

"#]],
    );
    check(
        Place::new().run(["run", "x", "--config", "key"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value 'key' for '--config <KEY=VALUE>': write KEY=VALUE

For more information, try '--help'.

"#]],
    );
}

/// What stands in the home is run, grants or is secret: no skill gets at it, whatever is typed.
#[test]
fn the_home_is_never_granted() {
    let place = Place::with_behaviours();
    place.write("home/secrets/token", "x");
    check(
        place.run(["run", "behaviours.wasm", "list", "--dir", "home:/in:rw"]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: directory `/in`: `[PLACE]/home` is the host's own
hint: grant a directory beside it, or a smaller one with nothing of the host's own in it: what the host itself runs, reads and keeps is no skill's
✗ behaviours 1.2.3 · list · rejected · did not run

"#]],
    );
    place.write("elsewhere/policy.toml", "");
    place.write("jobs/readme", "");
    for (granted, policy) in [
        ("home/secrets:/in", "home/policy.toml"),
        ("home/compiled:/in:rw", "home/policy.toml"),
        (".:/in", "home/policy.toml"),
        (".:/in:rw", "home/policy.toml"),
        ("elsewhere:/in:rw", "elsewhere/policy.toml"),
        ("jobs:/in", "elsewhere/policy.toml"),
    ] {
        let args = [
            "run",
            "behaviours.wasm",
            "list",
            "--dir",
            granted,
            "--policy",
            policy,
        ];
        place.write("home/policy.toml", "");
        let output = place
            .command(args)
            .env("SKILLHOST_DATABASE", place.path("jobs/queue.db"))
            .output()
            .expect("the command starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(" is the host's own\n"), "{granted}: {said}");
        assert_eq!(output.status.code(), Some(3), "{granted}");
    }
    // Nor where this program is: what is written there is run next.
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_skillhost"));
    let folder = program.parent().expect("a folder").display();
    let list = [
        "run",
        "behaviours.wasm",
        "list",
        "--arg",
        "path=/in",
        "--dir",
    ];
    for (mode, code) in [("rw", 3), ("ro", 0)] {
        let output = place
            .command(list)
            .arg(format!("{folder}:/in:{mode}"))
            .output()
            .expect("the command starts");
        assert_eq!(output.status.code(), Some(code), "{mode}");
    }
    // A policy beside what a skill works on may be read.
    let said = place.run([
        "run",
        "behaviours.wasm",
        "list",
        "--dir",
        "elsewhere:/in",
        "--policy",
        "elsewhere/policy.toml",
        "--arg",
        "path=/in",
    ]);
    assert!(said.contains("policy.toml"), "{said}");
}

/// What a secret comes from is as secret as the secret.
#[test]
fn the_file_of_a_secret_is_never_granted() {
    let place = Place::with_behaviours();
    for file in ["keys/one", "keys/two", "beside/data"] {
        place.write(file, "value-of-the-file\n");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(place.path(file), mode).expect("a mode");
    }
    let of = |file: &str| format!("file:{}", place.path(file).display());
    let policy = format!("[secrets]\ntoken = \"{}\"\n", of("keys/one"));
    let from = format!("token={}", of("keys/two"));
    let list = ["run", "behaviours.wasm", "list", "--arg", "path=/in"];
    for (policy, more) in [(policy.as_str(), &[][..]), ("", &["--secret-from", &from])] {
        place.write("home/policy.toml", policy);
        for (granted, code) in [("keys:/in", 3), ("beside:/in", 0)] {
            let args = [&list[..], &["--dir", granted], more].concat();
            let output = place
                .command([])
                .args(args)
                .output()
                .expect("the command starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{granted}: {said}");
            assert_eq!(
                said.contains("which is the host's own"),
                code == 3,
                "{said}"
            );
        }
    }
}

/// A program that asks for JSON gets what to add, too.
#[test]
fn what_is_missing_stands_in_the_result() {
    let place = Place::new();
    place.add_example("csv-query");
    let args = [
        "run",
        "csv-query",
        "columns",
        "--json",
        "--arg",
        "path=/a.csv",
    ];
    let output = place.output(args);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let missing = &result["failure"]["missing"];
    assert_eq!(missing[0]["capability"], "directory", "{result}");
    let hint = missing[0]["hint"].as_str().expect("there is one");
    assert!(hint.contains("--dir '<HOST>:<GUEST>:ro'"), "{hint}");
}
