//! What a hint says is what helps.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;

use crate::harness::Place;

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
            &b"key=secret-\xff-value"[..],
        ),
        (
            &["run", "text-stats"],
            b"--secret-from=key=secret-\xff-value",
        ),
        (
            &["jobs", "list", "--database"],
            b"postgres://a:secret-\xff-value@host/",
        ),
    ] {
        let mut command = place.command([]);
        let output = command.args(before).arg(odd(argument)).output();
        let said = place.said(&output.expect("the command starts"));
        assert!(
            !said.contains("secret-") || said.contains("secret-from"),
            "{said}"
        );
        assert!(!said.contains("-value"), "{said}");
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
