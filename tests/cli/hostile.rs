//! Text of a skill's that would clear the screen, colour what follows, or forge a line of the
//! command's own: nothing of it reaches standard error, or what is shown to people, but as escapes.

use std::process::Output;

use serde_json::json;
use skillhost::text::printable;

use crate::handmade::{Description, Handmade};
use crate::harness::Place;

/// Clears the screen, forges lines, writes backwards, is invisible, and ends a quotation.
const EVIL: &str = "\u{1b}[2J\r\nerror: forged\nhint: forged\u{202e}\u{200b}\u{9b}31m\u{7}`\"";

/// Checks that a text can do nothing but be read, and that the command did not say what the skill
/// said.
#[track_caller]
fn check_harmless(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("it is UTF-8");
    assert_eq!(printable(text, true), text, "it must be escaped");
    for line in text.lines() {
        for forged in ["error: forged", "hint: forged"] {
            assert!(!line.starts_with(forged), "{text}");
        }
    }
}

fn run(args: &[&str]) -> Output {
    let place = Place::with_behaviours();
    let mut command = place.command(["run", "behaviours.wasm"]);
    command.args(args).output().expect("the command starts")
}

#[test]
fn what_a_skill_says() {
    for (tool, input, said) in [
        (
            "print",
            json!({"count": 2, "stdout": EVIL, "stderr": EVIL}),
            true,
        ),
        ("log_text", json!({ "text": EVIL }), true),
        (
            "fail",
            json!({"message": EVIL, "code": EVIL, "details": EVIL}),
            true,
        ),
        (
            "fail",
            json!({"message": EVIL, "details": json!({EVIL: EVIL}).to_string()}),
            true,
        ),
        (
            "reject_input",
            json!({"pointer": EVIL, "message": EVIL}),
            true,
        ),
        ("panic", json!({ "message": EVIL }), true),
        ("answer", json!({ "json": format!("{EVIL}") }), false),
        ("answer", json!({ "json": json!([EVIL]).to_string() }), true),
    ] {
        for more in ["-v", "--json", "--color=always"] {
            let input = input.to_string();
            let output = run(&[tool, "-i", &input, more]);
            let colours_off = String::from_utf8(output.stderr).expect("it is UTF-8");
            let stderr = match more {
                "--color=always" => without_our_colours(&colours_off),
                _ => colours_off,
            };
            check_harmless(stderr.as_bytes());
            // It was there, and was shown.
            let shown = stderr.contains("\\u{1b}[2J") || stderr.contains("\\u001b[2J");
            assert_eq!(shown, said, "{tool} {more}: {stderr}");
        }
    }
}

/// The styles that the command itself uses: a number or two, and nothing else.
fn without_our_colours(text: &str) -> String {
    let style = regex::Regex::new("\u{1b}\\[[0-9]{1,2}m").expect("a pattern of ours");
    style.replace_all(text, "").into_owned()
}

/// An attachment's name is its author's, and goes into a message and a file's name.
#[test]
fn what_a_skill_is_called() {
    let evil = Handmade {
        fields: format!(
            "(func $\"{}\" unreachable)",
            "\\1b[2J\\0aerror: forged\\e2\\80\\ae"
        ),
        execute: format!(
            "(call $\"{}\") i32.const $answer",
            "\\1b[2J\\0aerror: forged\\e2\\80\\ae"
        ),
        description: Description {
            description: EVIL.into(),
            tools: vec![("run".into(), evil_schema())],
            ..Handmade::default().description
        },
        ..Handmade::default()
    };
    let place = Place::new();
    place.write("evil.wasm", evil.build());
    for args in [
        &["inspect", "evil.wasm"][..],
        &["inspect", "evil.wasm", "-v"],
        &["run", "evil.wasm", "run", "--dry-run"],
        &["run", "evil.wasm", "run", "--arg", "near=1"],
        &["run", "evil.wasm", "run", "-i", "{}"],
        &[
            "run",
            "evil.wasm",
            "run",
            "-v",
            "-i",
            &json!({EVIL: "x"}).to_string(),
        ],
        &["run", "evil.wasm", "nothing"],
        &["install", "evil.wasm"],
        &["list"],
        &["inspect", "handmade"],
    ] {
        let mut command = place.command([]);
        let output = command.args(args).output().expect("the command starts");
        check_harmless(&output.stdout);
        check_harmless(&output.stderr);
        assert!(output.stdout.len() + output.stderr.len() > 20, "{args:?}");
    }
}

fn evil_schema() -> String {
    json!({
        "type": "object",
        "description": EVIL,
        "properties": {
            EVIL: {"type": "string", "description": EVIL, "default": EVIL},
            format!("near{EVIL}"): {"enum": [EVIL]},
        },
        "required": [EVIL],
        "additionalProperties": false,
    })
    .to_string()
}

/// A component that cannot be loaded is named in a message, and so is what is wrong with it.
#[test]
fn what_cannot_be_loaded() {
    let place = Place::new();
    for description in [
        Description {
            name: EVIL.into(),
            ..Handmade::default().description
        },
        Description {
            version: EVIL.into(),
            ..Handmade::default().description
        },
        Description {
            tools: vec![("a".into(), json!({ "type": EVIL }).to_string())],
            ..Handmade::default().description
        },
    ] {
        let evil = Handmade {
            description,
            ..Handmade::default()
        };
        place.write("evil.wasm", evil.build());
        for command in ["run", "inspect", "install"] {
            let output = place.output([command, "evil.wasm"]);
            assert_ne!(output.status.code(), Some(0));
            check_harmless(&output.stdout);
            check_harmless(&output.stderr);
        }
    }
    place.write("SKILL.md", "");
    place.write(
        "folder/SKILL.md",
        format!("---\nname: \"{EVIL}\"\ndescription: b\n---\n"),
    );
    place.write(
        "folder/skill.toml",
        format!("[limits]\n\"{}\" = 1\n", "\\u001b[2J"),
    );
    place.write("folder/skill.wasm", Handmade::default().build());
    let output = place.output(["run", "folder"]);
    assert_ne!(output.status.code(), Some(0));
    check_harmless(&output.stderr);
}
