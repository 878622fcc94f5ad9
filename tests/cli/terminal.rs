//! Colours only where they are wanted.

use crate::harness::Place;

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
