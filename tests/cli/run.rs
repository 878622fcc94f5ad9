//! The ways to name a skill to run.

use snapbox::str;

use crate::harness::{Place, check};

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
