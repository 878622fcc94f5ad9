//! What hints say to paste.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{by_hand, confirm_as_told};
use crate::handmade::Handmade;
use crate::harness::Place;

/// Of every kind that a skill can declare, the line to write by hand, the command for good and the flag for one run
/// each grant the same.
#[test]
fn what_a_hint_says_of_each_kind_can_be_pasted() {
    let place = Place::new();
    place.write("skill/skill.wasm", Handmade::default().build());
    place.write(
        "skill/skill.toml",
        r#"
        [grants]
        directories = [{ path = "/data", mode = "rw" }]
        scratch = true
        http = ["GET,POST https://*.a.example/a-b", "*://*"]
        sockets = ["tcp://192.0.2.1:9", "udp://*:53"]
        environment = ["TZ", "-O'K"]
        secrets = ["token=authorization:Bearer@https://a.example/"]
        storage = true
        [config.rows]
        type = "integer"
        "#,
    );
    fs::create_dir(place.path("data")).expect("a folder can be made");
    let choices = [
        (
            "<HOST>:ro",
            place.path("data:/data:ro").display().to_string(),
        ),
        (
            "<HOST>:/data",
            place.path("data:/data").display().to_string(),
        ),
        ("<HOST>", "b.example".to_owned()),
        ("<IP>", "192.0.2.2".to_owned()),
        ("<PORT>", "53".to_owned()),
        ("<VALUE>", "7".to_owned()),
    ];
    let chosen = |text: &str| {
        choices
            .iter()
            .fold(text.to_owned(), |text, (open, choice)| {
                text.replace(open, choice)
            })
    };
    let kept = place.run_with_stdin(
        ["secrets", "set", "token"],
        b"correct horse battery staple\n",
    );
    assert!(kept.starts_with("exit: 0\n"), "{kept}");
    let said = place.run(["run", "skill", "--dry-run"]);
    let (_, missing) = said
        .split_once("Declared by the skill, and not granted")
        .expect(&said);
    let hints: Vec<&str> = missing
        .lines()
        .filter(|line| line.contains("grant it for this run"))
        .collect();
    assert_eq!(hints.len(), 11, "{said}");
    let shown = |place: &Place| {
        let shown = place.output(["policy", "show", "handmade", "--json"]);
        let mut shown: Value = serde_json::from_slice(&shown.stdout).expect("it is JSON");
        shown["grants"].take()
    };
    let mut fields = BTreeSet::new();
    for hint in hints {
        let (_, quoted) = hint.split_once("for this run with ").expect(hint);
        let mut quoted = quoted.split('`').skip(1).step_by(2);
        let [flag, for_good] = [(); 2].map(|()| quoted.next().expect(hint));
        let [table, line, confirm] = by_hand(hint);
        fields.insert(line.split(' ').next().expect(hint).to_owned());
        // By hand.
        place.write("home/policy.toml", format!("{table}\n{}\n", chosen(line)));
        confirm_as_told(&place, confirm);
        let written = shown(&place);
        assert!(written.is_object(), "{hint}: {written}");
        // By the command, which a shell takes apart.
        fs::remove_file(place.path("home/policy.toml")).expect("it is there");
        let typed = chosen(for_good).replacen("skillhost", "\"$0\"", 1);
        let run = |typed: &str| {
            let output = Command::new("sh")
                .args(["-c", typed, env!("CARGO_BIN_EXE_skillhost")])
                .current_dir(place.path(""))
                .env("SKILLHOST_HOME", place.path("home"))
                .output();
            place.said(&output.expect("there is a shell"))
        };
        let said = run(&typed);
        assert!(said.starts_with("exit: 0\n"), "{typed}: {said}");
        assert_eq!(shown(&place), written, "{hint}");
        // For one run: it is missing no more, unless it was one of all that was declared.
        fs::remove_file(place.path("home/policy.toml")).expect("it is there");
        let said = run(&format!("\"$0\" run skill --dry-run {}", chosen(flag)));
        assert!(said.starts_with("exit: 0\n"), "{flag}: {said}");
        let is_one_of_all = ["<HOST>/", "<IP>"].iter().any(|open| flag.contains(open));
        let missing = said.matches("grant it for this run").count();
        assert!(missing < 11 || is_one_of_all, "{flag}: {said}");
    }
    let kinds = [
        "config",
        "directories",
        "environment",
        "http",
        "scratch",
        "secrets",
        "sockets",
        "storage",
    ];
    assert!(fields.iter().eq(kinds), "{fields:?}");
}
