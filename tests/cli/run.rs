//! The ways to name a skill to run.

use snapbox::str;

use crate::harness::{Place, check, root, target};

#[test]
fn a_component() {
    let place = Place::with_behaviours();
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "echo",
            "-i",
            r#"{"a": [1, null]}"#,
        ]),
        str![[r#"
exit: 0
--- stdout
{"a":[1,null]}
--- stderr
✓ behaviours 1.2.3 · echo · [COST]

"#]],
    );
}

#[test]
fn a_folder() {
    let place = Place::with_text_stats();
    check(
        place.run([
            "run",
            "text-stats",
            "--arg",
            "text=to be or not to be",
            "--arg",
            "top=1",
        ]),
        str![[r#"
exit: 0
--- stdout
{"characters":18,"distinct_words":4,"lines":1,"longest_line":{"characters":18,"number":1},"top_words":[{"count":2,"word":"be"}],"words":6}
--- stderr
✓ text-stats 0.1.0 · count · [COST]

"#]],
    );
}

#[test]
fn a_source_folder() {
    let place = Place::new();
    let source = root().join("example-skills/text-stats");
    let mut command = place.command(["run"]);
    command
        .arg(source)
        .args(["--arg", "text=to be", "--arg", "top=0"])
        .env("CARGO_TARGET_DIR", target());
    check(
        place.said(&command.output().expect("the command starts")),
        str![[r#"
exit: 0
--- stdout
{"characters":5,"distinct_words":2,"lines":1,"longest_line":{"characters":5,"number":1},"top_words":[],"words":2}
--- stderr
✓ text-stats 0.1.0 · count · [COST]

"#]],
    );
}

#[test]
fn a_source_that_does_not_build() {
    let place = Place::new();
    place.write(
        "broken/Cargo.toml",
        "[package]\nname = \"broken\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    place.write("broken/src/lib.rs", "fn f() -> u8 { \"no\" }\n");
    let said = place.run(["run", "broken"]);
    assert!(said.contains("mismatched types"), "{said}");
    let end = said.find("error: `broken`").expect("it says so");
    check(
        &said[end..],
        str![[r#"
error: `broken` does not build
  what cargo says about it stands above

"#]],
    );
}

#[test]
fn a_source_that_is_no_component() {
    let place = Place::new();
    place.write(
        "plain/Cargo.toml",
        "[package]\nname = \"plain\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    place.write("plain/src/lib.rs", "");
    check(
        place.run(["run", "plain"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: `plain` builds, but not to a component
hint: its Cargo.toml needs `[lib]` with `crate-type = ["cdylib", "rlib"]`

"#]],
    );
}

#[test]
fn a_workspace_of_sources() {
    let place = Place::new();
    place.write(
        "all/Cargo.toml",
        "[workspace]\nmembers = [\"one\", \"two\"]\n",
    );
    check(
        place.run(["run", "all"]),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: `all` holds a workspace of crates, and is no skill itself
  its crates: one, two
hint: name one of them: `all/one`

"#]],
    );
}

#[test]
fn a_component_beside_its_source() {
    let place = Place::with_text_stats();
    place.write("text-stats/Cargo.toml", "");
    check(
        place.run(["run", "text-stats", "--arg", "text=", "--arg", "top=0"]),
        str![[r#"
exit: 0
--- stdout
{"characters":0,"distinct_words":0,"lines":0,"longest_line":null,"top_words":[],"words":0}
--- stderr
note: `text-stats/skill.wasm` is taken as it is; the source beside it is not built
✓ text-stats 0.1.0 · count · [COST]

"#]],
    );
}

#[test]
fn an_installed_skill() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    std::fs::remove_dir_all(place.path("text-stats")).expect("it can be removed");
    let run = |name: &str| place.run(["run", name, "--arg", "text=a", "--arg", "top=0"]);
    let by_name = run("text-stats");
    check(
        &by_name,
        str![[r#"
exit: 0
--- stdout
{"characters":1,"distinct_words":1,"lines":1,"longest_line":{"characters":1,"number":1},"top_words":[],"words":1}
--- stderr
✓ text-stats 0.1.0 · count · [COST]

"#]],
    );
    assert_eq!(run("text-stats@0.1.0"), by_name);
    let list = place.output(["list", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).expect("it is JSON");
    assert_eq!(run(list[0]["digest"].as_str().expect("a text")), by_name);
}

#[test]
fn a_folder_that_holds_no_skill_does_not_hide_an_installed_one() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    std::fs::remove_dir_all(place.path("text-stats")).expect("it can be removed");
    place.write("text-stats/notes.txt", "no skill");
    let said = place.run(["run", "text-stats", "--arg", "text=a"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
}
