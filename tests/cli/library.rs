//! `install`, `list` and `remove`.

use std::fs;

use snapbox::str;

use crate::handmade::{Description, Handmade};
use crate::harness::{Place, check, says};

/// What `list` shows of a digest is enough for every command that takes a skill.
#[test]
fn the_digest_that_list_shows_is_one_to_type() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    let list = place.output(["list"]).stdout;
    let list = String::from_utf8(list).expect("it is UTF-8");
    let digits = list.split_whitespace().nth(2).expect("there are columns");
    for args in [
        ["run", digits, "--arg=text=to be"],
        ["inspect", digits, "--json"],
        ["policy", "show", digits],
    ] {
        let said = place.run(args);
        assert!(said.starts_with("exit: 0\n"), "{args:?}: {said}");
    }
    // Fewer than 8 of them are none, and say what they may be the beginning of.
    let hint = format!(
        "hint: of a digest, the first 8 digits will do, and no fewer: `{digits}` is text-stats@0.1.0\n"
    );
    let whole = format!("sha256:{}", &digits[..7]);
    for (verb, typed, exit) in [
        ("run", &digits[..4], 6),
        ("run", whole.as_str(), 6),
        ("remove", &digits[..7], 6),
        ("remove", whole.as_str(), 2),
    ] {
        let said = place.run([verb, typed]);
        assert!(said.starts_with(&format!("exit: {exit}\n")), "{said}");
        assert!(said.contains(&hint), "{said}");
        assert_eq!(said.matches("hint: ").count(), 1, "{said}");
    }
    let said = place.run(["run", &digits[..3]]);
    assert!(!said.contains("of a digest"), "{said}");
    let said = place.run(["remove", digits]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let said = place.run(["remove", digits]);
    assert!(said.starts_with("exit: 6\n"), "{said}");
    let said = place.run(["remove", "sha256:0123"]);
    assert!(said.starts_with("exit: 2\n"), "{said}");
}

/// A skill chooses its own name, and not what the digits mean that somebody reads of another.
#[test]
fn a_skill_that_is_named_like_anothers_digest_is_not_taken_for_it() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    let list = place.output(["list", "--json"]).stdout;
    let list: serde_json::Value = serde_json::from_slice(&list).expect("it is JSON");
    let digest = list[0]["digest"].as_str().expect("it is a text");
    let all = digest.strip_prefix("sha256:").expect("it begins so");
    for digits in [&all[..12], all] {
        let other = Handmade {
            description: Description {
                name: digits.into(),
                ..Handmade::default().description
            },
            ..Handmade::default()
        };
        place.write("other.wasm", other.build());
        let said = place.run(["install", "other.wasm"]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
        for args in [
            &["run", digits, "--arg=text=a"][..],
            &["inspect", digits],
            &["policy", "show", digits],
            &["policy", "diff", digits],
            &["policy", "confirm", digits],
            &["policy", "grant", digits, "--scratch"],
            &["jobs", "submit", digits, "--arg=text=a"],
            &["mcp", digits],
            &["remove", digits],
        ] {
            let output = place.command([]).args(args).output();
            let output = output.expect("the command starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            let expected = format!(
                "error: `{digits}` is the name of an installed skill, and the digest of another begins with it\n  \
                 {digits}@0.1.0\n  text-stats@0.1.0 {digest}\n\
                 hint: write `{digits}@0.1.0` for the one, `sha256:{digits}` for the other\n"
            );
            assert!(said.ends_with(&expected), "{args:?}: {said}");
        }
        // What the hint says is what each is called.
        let (named, by_digest) = (format!("{digits}@0.1.0"), format!("sha256:{digits}"));
        for (typed, name) in [(&named, digits), (&by_digest, "text-stats")] {
            let inspected = place.output(["inspect", typed, "--json"]).stdout;
            let inspected: serde_json::Value =
                serde_json::from_slice(&inspected).expect("it is JSON");
            assert_eq!(inspected["name"], name, "{typed}");
        }
        let removed = place.run(["remove", &named]);
        assert!(removed.starts_with("exit: 0\n"), "{removed}");
        let said = place.run(["run", digits, "--arg=text=a"]);
        assert!(said.starts_with("exit: 0\n"), "{said}");
    }
}

#[test]
fn from_installation_to_removal() {
    let place = Place::with_text_stats();
    check(
        place.run(["list"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
no skill is installed in `[PLACE]/home/skills`
hint: `skillhost install SKILL` installs one

"#]],
    );
    check(
        place.run(["install", "text-stats"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ text-stats@0.1.0 is now installed (sha256:[DIGEST])

"#]],
    );
    check(
        place.run(["install", "text-stats"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ text-stats@0.1.0 was installed already (sha256:[DIGEST])

"#]],
    );
    let list = place.run(["list"]);
    assert!(
        list.starts_with("exit: 0\n--- stdout\ntext-stats  0.1.0  "),
        "{list}"
    );
    check(
        place.run(["remove", "text-statz"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `text-statz` is installed
hint: did you mean `text-stats@0.1.0`?

"#]],
    );
    // It only begins like the other.
    check(
        place.run(["remove", "text-chart"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `text-chart` is installed
hint: `skillhost list` shows what is installed

"#]],
    );
    check(
        place.run(["remove", "Text Stats"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `Text Stats` is no installed skill
hint: write NAME, NAME@VERSION, or the first 8 digits of a digest or more; `skillhost list` shows them

"#]],
    );
    check(
        place.run(["remove", "text-stats"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ text-stats@0.1.0 is removed (sha256:[DIGEST])

"#]],
    );
    check(
        place.run(["remove", "text-stats@0.1.0"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: no skill `text-stats@0.1.0` is installed
hint: `skillhost list` shows what is installed

"#]],
    );
}

#[test]
fn a_list_for_programs() {
    let place = Place::with_text_stats();
    check(
        place.run(["list", "--json"]),
        str![[r#"
exit: 0
--- stdout
[]
--- stderr

"#]],
    );
    place.run(["install", "text-stats"]);
    let output = place.output(["list", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json[0]["name"], "text-stats");
    assert_eq!(json[0]["tools"], serde_json::json!(["count"]));
}

#[test]
fn another_build_of_the_same_version() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    // A manifest that asks for something else makes another skill.
    place.write("text-stats/skill.toml", "[limits]\nfuel = 7\n");
    check(
        place.run(["install", "text-stats"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: another skill is installed as `text-stats@0.1.0`
  installed: sha256:[DIGEST]
  this one:  sha256:[DIGEST]
hint: give this one another version, or put it in the other's place with `--replace`

"#]],
    );
    check(
        place.run(["install", "text-stats", "--replace"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ text-stats@0.1.0 is now installed in the other's place (sha256:[DIGEST])

"#]],
    );
}

#[test]
fn what_was_changed_on_disk_is_not_run() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    fs::remove_dir_all(place.path("text-stats")).expect("it can be removed");
    place.write("home/skills/text-stats@0.1.0/skill.toml", "");
    check(
        place.run(["run", "text-stats", "--arg", "text=a"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: `[PLACE]/home/skills/text-stats@0.1.0` was changed since it was installed
  installed: sha256:[DIGEST]
  now:       sha256:[DIGEST]
hint: install it anew, which puts it right, or remove it with `skillhost remove text-stats@0.1.0`

"#]],
    );
}

#[test]
fn what_was_changed_on_disk_is_put_right_by_installing_it() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    let installed = |file: &str| place.path("home/skills/text-stats@0.1.0").join(file);
    let by_name = ["run", "text-stats@0.1.0", "--arg", "text=a", "--quiet"];
    for (file, contents) in [
        ("skill.toml", Some("[limits]\n")),
        ("skill.wasm", Some("")),
        ("skill.wasm", None),
        ("skill.wasm", Some("longer than nothing")),
    ] {
        for replace in [false, true] {
            match contents {
                Some(contents) => fs::write(installed(file), contents),
                None => fs::remove_file(installed(file)),
            }
            .expect("it can be changed");
            let said = place.run(by_name);
            assert!(said.starts_with("exit: 6\n"), "{file}: {said}");
            assert!(
                said.contains(
                    "\nhint: install it anew, which puts it right, or remove it with \
                     `skillhost remove text-stats@0.1.0`\n"
                ),
                "{file}: {said}"
            );
            let said = match replace {
                false => place.run(["install", "text-stats"]),
                true => place.run(["install", "text-stats", "--replace"]),
            };
            assert!(said.starts_with("exit: 0\n"), "{file}: {said}");
            assert!(
                said.contains("text-stats@0.1.0 is installed anew, as what stood there differed ("),
                "{file}: {said}"
            );
            let said = place.run(by_name);
            assert!(said.starts_with("exit: 0\n"), "{file}: {said}");
        }
    }
    let said = place.run(["install", "text-stats"]);
    assert!(said.contains(" was installed already ("), "{said}");
    fs::write(installed("installed.json"), "{").expect("it can be changed");
    let said = place.run(["install", "text-stats", "--replace"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let said = place.run(by_name);
    assert!(said.starts_with("exit: 0\n"), "{said}");
}

#[test]
fn a_record_that_was_damaged_is_told_put_right_and_removed() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    fs::rename(place.path("text-stats"), place.path("source")).expect("it can be renamed");
    let damage = || place.write("home/skills/text-stats@0.1.0/installed.json", "{");
    damage();
    check(
        place.run(["list"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
warning: the record of the installed skill `text-stats@0.1.0` cannot be read, `[PLACE]/home/skills/text-stats@0.1.0/installed.json`: EOF while parsing an object at line 1 column 1
hint: install it anew, which puts it right, or remove it with `skillhost remove text-stats@0.1.0`
no skill is installed in `[PLACE]/home/skills`
hint: `skillhost install SKILL` installs one

"#]],
    );
    let said = place.run(["run", "text-stats", "--arg", "text=a"]);
    says(
        &said,
        &[
            "exit: 6\n",
            "error: the record of the installed skill `text-stats@0.1.0` cannot be read, ",
            "hint: install it anew, which puts it right, or remove it with `skillhost remove text-stats@0.1.0`\n",
        ],
    );
    let said = place.run(["install", "source"]);
    says(
        &said,
        &[
            "exit: 0\n",
            "text-stats@0.1.0 is installed anew, as what stood there was damaged (",
        ],
    );
    let said = place.run(["run", "text-stats", "--arg", "text=a"]);
    says(&said, &["exit: 0\n"]);
    damage();
    check(
        place.run(["remove", "text-stats"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ text-stats@0.1.0 is removed (its record could not be read)

"#]],
    );
    assert!(!place.path("home/skills/text-stats@0.1.0").exists());
}

#[test]
fn of_several_versions_one_is_named() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    // As if another version had been installed.
    let record = place.read("home/skills/text-stats@0.1.0/installed.json");
    place.write(
        "home/skills/text-stats@0.0.9/installed.json",
        record.replace("0.1.0", "0.0.9"),
    );
    check(
        place.run(["list"]),
        str![[r#"
exit: 0
--- stdout
text-stats  0.1.0  [DIGEST]  [SIZE]  count
text-stats  0.0.9  [DIGEST]  [SIZE]  count
--- stderr

"#]],
    );
    check(
        place.run(["remove", "text-stats"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: several versions of `text-stats` are installed
  0.1.0, 0.0.9
hint: name one: `text-stats@0.1.0`

"#]],
    );
    check(
        place.run(["remove", "text-stats@0.0.9"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ text-stats@0.0.9 is removed (sha256:[DIGEST])

"#]],
    );
}

#[test]
fn what_is_no_skill_is_not_installed() {
    let place = Place::new();
    place.write("garbage.wasm", "garbage");
    let said = place.run(["install", "garbage.wasm"]);
    assert!(said.starts_with("exit: 6\n"), "{said}");
    assert!(!place.path("home/skills").exists());
}

/// Only links lead out of a folder.
#[test]
fn a_manifest_that_is_elsewhere_is_told() {
    let place = Place::with_text_stats();
    place.write("skill.toml", "");
    let manifest = place.path("text-stats/skill.toml");
    std::fs::remove_file(&manifest).expect("it is there");
    std::os::unix::fs::symlink("../skill.toml", &manifest).expect("a link can be made");
    check(
        place.run(["inspect", "text-stats"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: `text-stats/skill.toml` is a link that leads out of the skill's folder, and is not read
hint: put the file itself there: what a skill is stands in its folder

"#]],
    );
}

/// Whoever cannot write where the command keeps things is told what to name instead.
#[test]
fn a_home_that_cannot_be_written_is_told_with_what_names_another() {
    let place = Place::new();
    let commands: [&[&str]; 3] = [
        &["jobs", "list"],
        &["approvals", "list"],
        &["tokens", "list"],
    ];
    for args in commands {
        let mut command = place.command(["--home", "/proc/x"]);
        let said = place.said(&command.args(args).output().expect("it starts"));
        assert!(said.starts_with("exit: 70\n"), "{args:?}: {said}");
        let hint = "\nhint: name another file for the queue with `--database FILE`, or another folder with `--home DIR`\n";
        assert!(said.contains(hint), "{args:?}: {said}");
    }
}
