//! What a hint says is what helps.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;

use crate::harness::{Place, guest, says};
use crate::mounts::{may_mount, run_where};

#[test]
fn a_flag_that_stands_elsewhere_or_is_anothers_is_told_so() {
    let place = Place::with_behaviours();
    for (args, tip) in [
        (
            &[
                "jobs",
                "submit",
                "behaviours.wasm",
                "--secret-from",
                "key=env:X",
            ][..],
            "it is the worker's, which runs the job: `skillhost worker --secret-from …`",
        ),
        (
            &["--database", "x.db", "jobs", "list"][..],
            "it belongs to the command that is named: put `--database` behind that",
        ),
        (
            &["run", "--", "-x", "one", "--arg", "a=b"][..],
            "nothing that stands behind `--` is a flag: put `--arg` before it",
        ),
    ] {
        let output = place
            .command([])
            .args(args)
            .output()
            .expect("the command starts");
        let said = place.said(&output);
        assert!(said.starts_with("exit: 2\n"), "{said}");
        assert!(said.contains(tip), "{said}");
        assert!(!said.contains("a similar argument exists"), "{said}");
    }
}

#[test]
fn a_flag_that_is_called_otherwise_elsewhere_is_named() {
    let place = Place::with_behaviours();
    for (typed, flag) in [
        ("--net=https://a.example", "--http"),
        ("--network=https://a.example", "--http"),
        ("--allow-net=https://a.example", "--http"),
        ("--mount=/srv:/data", "--dir"),
        ("--volume=/srv:/data", "--dir"),
        ("--environment=TZ=UTC", "--env"),
        ("--deadline=2s", "--timeout"),
    ] {
        let said = place.run(["run", "behaviours.wasm", typed]);
        assert!(said.starts_with("exit: 2\n"), "{said}");
        let tip = format!("a similar argument exists: '{flag}'");
        assert!(said.contains(&tip), "{said}");
        assert!(!said.contains("--arg"), "{said}");
    }
}

/// What is no text is named, and what a hint repeats of it is what was typed.
#[test]
fn a_path_that_is_no_text_is_named() {
    let place = Place::with_text_stats();
    let odd = |text: &[u8]| OsString::from_vec(text.to_vec());
    let mut command = place.command(["run", "text-stats", "--arg"]);
    let said = place.said(
        &command
            .arg(odd(b"text=\xff"))
            .output()
            .expect("the command starts"),
    );
    assert!(
        said.contains("argument 4 (of `--arg`) is not UTF-8"),
        "{said}"
    );
    // It may be a secret's.
    for (before, argument) in [
        (
            &["run", "text-stats", "--secret-from"][..],
            &b"key=hunter2-\xff-value"[..],
        ),
        (
            &["run", "text-stats"],
            b"--secret-from=key=hunter2-\xff-value",
        ),
        (
            &["jobs", "list", "--database"],
            b"postgres://a:hunter2-\xff-value@host/",
        ),
    ] {
        let mut command = place.command([]);
        let output = command.args(before).arg(odd(argument)).output();
        let said = place.said(&output.expect("the command starts"));
        assert!(!said.contains("hunter2"), "{said}");
        assert!(!said.contains("-value"), "{said}");
    }
    // It is the value of no flag.
    for before in [
        &["run", "text-stats", "--secret-from=key=env:A"][..],
        &["run", "text-stats", "--json"],
        &["run", "text-stats", "--"],
    ] {
        let mut command = place.command([]);
        let output = command.args(before).arg(odd(b"\xff")).output();
        let said = place.said(&output.expect("the command starts"));
        let expected = format!("argument {} is not UTF-8", before.len() + 1);
        assert!(said.contains(&expected), "{said}");
    }
    fs::write(place.path("").join(odd(b"p\xff.toml")), "").expect("a file can be written");
    let mut command = place.command([
        "run",
        "text-stats",
        "--arg",
        "text=a",
        "--scratch",
        "--policy",
    ]);
    let said = place.said(
        &command
            .arg(odd(b"p\xff.toml"))
            .output()
            .expect("the command starts"),
    );
    assert!(said.starts_with("exit: 3\n"), "{said}");
}

/// By whatever the skill meets it, and only where that is what was in its way.
#[test]
fn a_full_disk_is_told_as_such() {
    let place = Place::new();
    let skill = guest("directories");
    let skill = skill.to_str().expect("it is UTF-8");
    fs::create_dir_all(place.path("disk")).expect("a folder can be made");
    fs::create_dir_all(place.path("other")).expect("a folder can be made");
    if !may_mount(&place, "disk") {
        return;
    }
    let failed = |calls: &str| {
        let input = format!(r#"{{"fail":true,"calls":[{calls}]}}"#);
        let said = run_where(
            &place,
            // Two pages, and room for the root, `a` and `b`.
            "mount -t tmpfs -o size=8k,nr_inodes=3 none disk && touch disk/a disk/b",
            [
                "run",
                skill,
                "calls",
                "--input",
                &input,
                "--dir",
                "disk:/disk:rw",
                "--dir",
                "other:/other:rw",
            ],
        );
        assert!(said.starts_with("exit: 1\n"), "{said}");
        said
    };
    let said = run_where(
        &place,
        "mount -t tmpfs -o size=4k none disk",
        ["new", "greeter", "--path", "disk/greeter"],
    );
    says(
        &said,
        &[
            "exit: 70\n",
            "cannot write",
            "make room on that disk, or name another folder",
        ],
    );
    const FULL: &str = "the disk is full, or a quota on it, where the skill wrote: make room there";
    const OPEN: &str = r#"{"call":"open","at":0,"path":"a","write":true}"#;
    let stream = r#"{"call":"stream_out","at":2,"bytes":9000}"#;
    for (met, code) in [
        (
            r#"{"call":"write","at":2,"bytes":9000}"#,
            "insufficient-space",
        ),
        (stream, "LastOperationFailed"),
        (
            r#"{"call":"open","at":0,"path":"c","write":true,"create":true}"#,
            "insufficient-space",
        ),
        (
            r#"{"call":"make_directory","at":0,"path":"c"}"#,
            "insufficient-space",
        ),
        (
            r#"{"call":"symlink","at":0,"path":"c","target":"a"}"#,
            "insufficient-space",
        ),
        (
            r#"{"call":"link","at":0,"path":"a","to":0,"new_path":"c"}"#,
            "insufficient-space",
        ),
    ] {
        says(&failed(&format!("{OPEN},{met}")), &[code, FULL]);
        // What it takes away again is no way out.
        let unlink = r#"{"call":"unlink","at":0,"path":"a"}"#;
        says(&failed(&format!("{OPEN},{met},{unlink}")), &[code, FULL]);
        // It wrote elsewhere, or met something else since.
        let elsewhere = r#"{"call":"open","at":1,"path":"x","write":true,"create":true},{"call":"write","at":3,"bytes":1}"#;
        let missing = r#"{"call":"open","at":1,"path":"none"}"#;
        let made = r#"{"call":"make_directory","at":1,"path":"made"},{"call":"remove_directory","at":1,"path":"made"}"#;
        for since in [elsewhere, missing, made] {
            let said = failed(&format!("{OPEN},{met},{since}"));
            says(&said, &[code]);
            assert!(!said.contains(FULL), "{said}");
        }
    }
}

/// Who knows a command by another name is told what it is called here, and not what is spelt like it.
#[test]
fn what_is_called_otherwise_elsewhere_is_told() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    for (args, tip) in [
        (
            &["uninstall", "x"][..],
            "it is called `skillhost remove` here",
        ),
        (&["ls"], "it is called `skillhost list` here"),
        (&["exec", "x"], "it is called `skillhost run` here"),
        (
            &["tokens", "delete", "x"],
            "it is called `skillhost tokens revoke` here",
        ),
        (
            &["secrets", "show", "x"],
            "no command shows the value of a secret; `skillhost secrets list` shows the names",
        ),
        (
            &["list", "text-stats"],
            "`skillhost inspect text-stats` shows one of them",
        ),
        (
            &["jobs", "list", "3f2a"],
            "`skillhost jobs show 3f2a` shows one of them",
        ),
        // Installed, a folder, and a file.
        (
            &["text-stats", "--arg", "text=a"],
            "did you mean `skillhost run text-stats`?",
        ),
        (
            &["./text-stats"],
            "did you mean `skillhost run ./text-stats`?",
        ),
        (
            &["text-stats/skill.wasm"],
            "did you mean `skillhost run text-stats/skill.wasm`?",
        ),
    ] {
        let mut command = place.command([]);
        let output = command.args(args).output().expect("the command starts");
        let said = place.said(&output);
        says(&said, &["exit: 2\n", &format!("\n  tip: {tip}\n")]);
        assert_eq!(said.matches("tip: ").count(), 1, "{said}");
    }
    let neither = place.run(["nothing-of-the-kind"]);
    assert!(!neither.contains("tip: "), "{neither}");
}

#[test]
fn an_argument_in_the_place_of_the_tool_is_told() {
    let place = Place::with_text_stats();
    let hint = "\nhint: an argument of a tool is given with `--arg 'text=to be or not'`\n";
    for args in [
        &["run", "text-stats", "to be or not"][..],
        &["jobs", "submit", "text-stats", "to be or not"],
    ] {
        let mut command = place.command([]);
        let output = command.args(args).output().expect("the command starts");
        says(&place.said(&output), &["exit: 2\n", hint]);
    }
    let a_name = place.run(["run", "text-stats", "cuont"]);
    assert!(!a_name.contains("--arg"), "{a_name}");
}

#[test]
fn what_is_no_skill_is_told_with_what_is_to_be_named() {
    let place = Place::new();
    place.write("README.md", "# It is described here\n");
    says(
        &place.run(["install", "README.md"]),
        &[
            "exit: 6\n",
            "error: cannot load `README.md`: it is not a WebAssembly component\n",
            "hint: name the folder of the skill, or its `.wasm` file\n",
        ],
    );
    says(
        &place.run(["install", "/nope"]),
        &["exit: 6\n", "hint: is the path right?\n"],
    );
    says(
        &place.run(["install", "nope/there"]),
        &["hint: is the path right? It is taken from the folder that this runs in\n"],
    );
}

#[test]
fn a_policy_that_only_says_where_secrets_come_from_grants_nothing() {
    let place = Place::new();
    place.write("policy.toml", "[secrets]\ntoken = \"env:TOKEN\"\n");
    says(
        &place.run(["policy", "show", "--policy", "policy.toml"]),
        &[
            "exit: 0\n",
            "it grants nothing; it says where secrets come from\n",
        ],
    );
}

/// It is the host that opens a directory, before there is anything of the skill.
#[test]
fn a_directory_that_cannot_be_opened_within_the_limit_is_the_hosts_to_open() {
    let place = Place::with_behaviours();
    let folder = place.path("");
    let mut command = place.command(["run", "behaviours.wasm", "echo", "--dir"]);
    let output = command
        .arg(&folder)
        .args(["--limit", "open_files=0"])
        .output()
        .expect("the command starts");
    says(
        &place.said(&output),
        &[
            "exit: 4\n",
            "error: what the skill is granted takes the host more than 0 open files, which is the skill's limit\n",
        ],
    );
}
