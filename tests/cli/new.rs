//! `new`: from nothing to a result.

use std::process::Command;

use snapbox::str;

use crate::harness::{NEED_NOT_BE_FAST, Place, check, root, says, target};

/// The three commands that `new` prints, in an empty folder with a home of its own: the checkout
/// plays no part, as the SDK is unpacked from the binary.
#[test]
fn a_new_skill_builds_tests_and_runs() {
    let place = Place::new();
    check(
        place.run(["new", "word-greeter"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ the skill `word-greeter` is in `word-greeter`; now:
  cd word-greeter
  cargo test
  skillhost run . --arg name=World

"#]],
    );
    let manifest = place.read("word-greeter/Cargo.toml");
    let home = place.path("home").display().to_string();
    assert!(manifest.contains(&home), "{manifest}");
    assert!(
        !manifest.contains(&root().display().to_string()),
        "{manifest}"
    );

    let in_folder = |command: &mut Command| {
        let output = command
            .current_dir(place.path("word-greeter"))
            .env("CARGO_TARGET_DIR", target())
            .envs([NEED_NOT_BE_FAST])
            .output()
            .expect("it starts");
        place.said(&output)
    };
    let tested = in_folder(
        Command::new(env!("CARGO"))
            .arg("test")
            .env_remove("RUSTFLAGS"),
    );
    assert!(tested.starts_with("exit: 0\n"), "{tested}");
    assert!(tested.contains("test result: ok. 2 passed"), "{tested}");
    let ran = in_folder(&mut place.command(["run", ".", "--arg", "name=World"]));
    check(
        ran,
        str![[r#"
exit: 0
--- stdout
{"characters":13,"text":"Hello, World!"}
--- stderr
[word-greeter] info: greeting World
✓ word-greeter 0.1.0 · greet · [COST]

"#]],
    );
    let rude = in_folder(&mut place.command(["run", ".", "--arg", "name=a", "--arg", "times=101"]));
    check(
        rude,
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the input does not fit at `/times`: more than 100 is rude
✗ word-greeter 0.1.0 · greet · failed · [COST]

"#]],
    );
    let inspected = in_folder(&mut place.command(["inspect", "."]));
    assert!(inspected.contains("Tool greet  read-only\n"), "{inspected}");
}

#[test]
fn names_that_are_none() {
    let place = Place::new();
    check(
        place.run(["new", "Word Count"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `Word Count` is no name for a skill
  a name has 1 to 64 of a-z, 0-9 and -, a letter first, and no hyphen last or after another
hint: `word-count` would be one

"#]],
    );
    check(
        place.run(["new", "test"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `test` is no name for a skill's crate
  Rust uses it itself
hint: `test-skill` would be one

"#]],
    );
    check(
        place.run(["new", "a--b"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `a--b` is no name for a skill
  a name has 1 to 64 of a-z, 0-9 and -, a letter first, and no hyphen last or after another
hint: `a-b` would be one

"#]],
    );
    for name in ["schemars", "serde-json", "skills-sdk", "skills-sdk-macros"] {
        let said = place.run(["new", name]);
        let expected = format!("error: `{name}` is no name for a skill's crate\n");
        assert!(said.contains(&expected), "{said}");
    }
    check(
        place.run(["new", "serde"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `serde` is no name for a skill's crate
  a skill depends on a crate of that name
hint: `serde-skill` would be one

"#]],
    );
}

#[test]
fn a_folder_that_is_not_empty() {
    let place = Place::new();
    place.write("mine/notes.txt", "");
    check(
        place.run(["new", "mine"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `mine` is not empty
hint: name another folder with --path DIR

"#]],
    );
    place.write("file", "");
    check(
        place.run(["new", "file"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `file` is there, and is no folder
hint: name another folder with --path DIR

"#]],
    );
    assert!(!place.path("home/sdk").exists());
}

/// A folder that was named wrong is no broken host.
#[test]
fn a_folder_in_which_nothing_can_be_made() {
    let place = Place::new();
    for folder in ["/proc/x", "/sys/y"] {
        let said = place.run(["new", "mine", "--path", folder]);
        says(
            &said,
            &[
                "exit: 2\n--- stdout\n--- stderr\n",
                &format!("error: cannot write `{folder}/Cargo.toml`: "),
                "\nhint: name another folder with --path DIR\n",
            ],
        );
    }
}

#[test]
fn a_home_that_cannot_be_written() {
    let place = Place::new();
    place.write("home/sdk", "no folder");
    let said = place.run(["new", "mine"]);
    says(
        &said,
        &[
            "exit: 70\n",
            "error: cannot unpack the SDK to `[PLACE]/home/sdk/",
            "hint: name another folder for it and the skills with `--home DIR`",
        ],
    );
    assert!(!place.path("mine").exists());
}

#[test]
fn elsewhere_and_with_an_sdk_of_ones_own() {
    let place = Place::new();
    let sdk = root().join("skills-sdk");
    let sdk = sdk.to_str().expect("the checkout's path is Unicode");
    check(
        place.run(["new", "mine", "--path", "deep/er", "--sdk", sdk]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ the skill `mine` is in `deep/er`; now:
  cd deep/er
  cargo test
  skillhost run . --arg name=World

"#]],
    );
    let manifest = place.read("deep/er/Cargo.toml");
    assert!(
        manifest.contains(&format!("path = \"{sdk}\"")),
        "{manifest}"
    );
    assert!(!place.path("home/sdk").exists());
    check(
        place.run(["new", "other", "--sdk", "deep/er"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `deep/er` is not the SDK: its Cargo.toml names another crate
hint: name the folder `skills-sdk`, with its Cargo.toml

"#]],
    );
    check(
        place.run(["new", "other", "--sdk", "nowhere"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: `nowhere` is not the SDK: No such file or directory (os error 2)
hint: name the folder `skills-sdk`, with its Cargo.toml

"#]],
    );
}

/// What it writes is text, and so would lead elsewhere.
#[test]
fn a_path_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = Place::new();
    let home = place
        .path("home")
        .join(std::ffi::OsStr::from_bytes(b"b\xff"));
    for args in [["new", "hello", "--quiet"], ["mcp", "config", "json"]] {
        let mut command = place.command(args);
        command.env("SKILLHOST_HOME", &home);
        let said = place.said(&command.output().expect("it starts"));
        assert!(said.starts_with("exit: 2\n"), "{said}");
        assert!(said.contains("is not UTF-8, as a "), "{said}");
        assert!(said.contains("\nhint: name another"), "{said}");
    }
    assert!(!place.path("hello").exists());
}
