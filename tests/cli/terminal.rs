//! Colours only where they are wanted, and progress only where somebody watches.

use regex::Regex;

use crate::harness::{Place, watched};

fn stderr<const N: usize>(args: [&str; N], environment: [(&str, &str); 1]) -> String {
    let place = Place::new();
    let mut command = place.command(args);
    let output = command.envs(environment).output();
    String::from_utf8(output.expect("the command starts").stderr).expect("it is UTF-8")
}

#[test]
fn no_colours_when_nobody_watches() {
    let said = stderr(["run", "nowhere"], [("TERM", "xterm-256color")]);
    assert!(said.starts_with("error: "), "{said:?}");
    assert!(!said.contains('\x1b'), "{said:?}");
}

#[test]
fn colours_when_asked_for() {
    let said = stderr(["run", "nowhere", "--color", "always"], [("TERM", "xterm")]);
    assert!(
        said.starts_with("\x1b[1m\x1b[31merror\x1b[0m: "),
        "{said:?}"
    );
}

#[test]
fn never_is_never() {
    let said = stderr(
        ["run", "nowhere", "--color", "never"],
        [("CLICOLOR_FORCE", "1")],
    );
    assert!(!said.contains('\x1b'), "{said:?}");
}

/// What a person at a terminal sees of the command, control characters and all.
fn seen<const N: usize>(place: &Place, args: [&str; N], environment: &[(&str, &str)]) -> String {
    let mut command = place.command(args);
    command.envs(environment.iter().copied());
    let (_, seen) = watched(command, "");
    String::from_utf8(seen).expect("it is UTF-8")
}

const TERMINAL: (&str, &str) = ("TERM", "xterm-256color");

#[test]
fn colours_at_a_terminal() {
    let place = Place::with_behaviours();
    let said = seen(&place, ["run", "nowhere"], &[TERMINAL]);
    assert!(
        said.starts_with("\x1b[1m\x1b[31merror\x1b[0m: "),
        "{said:?}"
    );
    assert!(said.contains("\x1b[36mhint\x1b[0m: "), "{said:?}");
    let said = seen(&place, ["run", "behaviours.wasm", "echo"], &[TERMINAL]);
    assert!(said.contains("\x1b[32m✓\x1b[0m"), "{said:?}");
}

/// As <https://no-color.org> and terminals that know nothing of it ask.
#[test]
fn no_colours_at_a_terminal_that_wants_none() {
    let place = Place::with_behaviours();
    let colours = Regex::new("\x1b\\[[0-9;]*m").expect("a pattern of ours");
    for environment in [&[TERMINAL, ("NO_COLOR", "1")][..], &[("TERM", "dumb")]] {
        for args in [
            ["run", "nowhere", "echo"],
            ["run", "behaviours.wasm", "echo"],
        ] {
            let said = seen(&place, args, environment);
            assert!(said.contains("error: ") || said.contains("✓ "), "{said:?}");
            // Progress may have moved the cursor.
            assert!(!colours.is_match(&said), "{environment:?}: {said:?}");
        }
    }
    let args = ["run", "nowhere", "--color", "never"];
    let said = seen(&place, args, &[TERMINAL]);
    assert!(!said.contains('\x1b'), "{said:?}");
}

/// In a home where nothing is compiled yet.
fn with_a_fresh_home(test: impl FnOnce(&Place, &(&str, &str))) {
    let place = Place::with_behaviours();
    let home = place.path("fresh");
    let home = home.to_str().expect("it is UTF-8");
    test(&place, &("SKILLHOST_HOME", home));
}

const ECHO: [&str; 3] = ["run", "behaviours.wasm", "echo"];

#[test]
fn a_person_at_a_terminal_sees_that_a_component_is_compiled_once() {
    with_a_fresh_home(|place, &home| {
        let mut command = place.command(ECHO);
        command.envs([TERMINAL, home]);
        let (output, seen) = watched(command, "");
        let said = String::from_utf8(seen).expect("it is UTF-8");
        let (line, after) = said.split_once("compiling a component of ").expect(&said);
        assert!(line.len() < 50, "it is the first: {said:?}");
        assert!(after.contains("iB, once · "), "{said:?}");
        // It is gone before the next line comes.
        let (_, cost) = said.rsplit_once('✓').expect(&said);
        let (before, _) = said.rsplit_once('✓').expect(&said);
        assert!(before.contains("\r\x1b[2K"), "{said:?}");
        assert!(!cost.contains("compiling"), "{said:?}");
        // What a program reads has nothing of it.
        assert_eq!(output.stdout, b"{}\n");
        let again = self::seen(place, ECHO, &[TERMINAL, home]);
        assert!(!again.contains("compiling"), "{again:?}");
    });
}

#[test]
fn nobody_who_does_not_watch_sees_that() {
    with_a_fresh_home(|place, &home| {
        let output = place.command(ECHO).envs([TERMINAL, home]).output();
        let output = output.expect("the command starts");
        let said = String::from_utf8(output.stderr).expect("it is UTF-8");
        assert!(said.starts_with("✓ behaviours"), "{said:?}");
        assert!(!said.contains('\x1b') && !said.contains('\r'), "{said:?}");
    });
}

#[test]
fn nobody_who_wants_it_quiet_sees_that() {
    with_a_fresh_home(|place, &home| {
        let quiet = ["run", "behaviours.wasm", "echo", "--quiet"];
        assert_eq!(seen(place, quiet, &[TERMINAL, home]), "");
    });
}

/// A bar that were drawn before it has its form would flash up as another one.
#[test]
fn progress_looks_the_same_from_the_first_moment() {
    let place = Place::with_behaviours();
    let chatter = [
        "run",
        "behaviours.wasm",
        "chatter",
        "-i",
        r#"{"count": 50}"#,
    ];
    let said = seen(&place, chatter, &[TERMINAL]);
    assert!(said.contains("% step"), "{said:?}");
    assert!(!said.contains("/1000"), "{said:?}");
}
