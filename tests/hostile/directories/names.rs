//! Paths that lead out, and names that are no names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skillhost::Event;

use super::{Folder, answers, error, fine};
use crate::attack::{End, check_text};
use crate::measure::alone;

/// Every call there is, with this path in every place that takes one.
fn all_calls(path: impl Into<Value>) -> Value {
    let path = path.into();
    json!([
        {"call": "open", "at": 0, "path": path},
        {"call": "open", "at": 0, "path": path, "follow": true},
        {"call": "open", "at": 0, "path": path, "follow": true, "write": true, "create": true},
        {"call": "open", "at": 0, "path": path, "truncate": true, "write": true},
        {"call": "open", "at": 0, "path": path, "directory": true},
        {"call": "stat", "at": 0, "path": path},
        {"call": "stat", "at": 0, "path": path, "follow": true},
        {"call": "set_times", "at": 0, "path": path},
        {"call": "set_times", "at": 0, "path": path, "follow": true},
        {"call": "read_link", "at": 0, "path": path},
        {"call": "rename", "at": 0, "path": path, "to": 0, "new_path": "x"},
        {"call": "rename", "at": 0, "path": "a.txt", "to": 0, "new_path": path},
        {"call": "link", "at": 0, "path": path, "to": 0, "new_path": "x"},
        {"call": "link", "at": 0, "path": "a.txt", "to": 0, "new_path": path},
        {"call": "symlink", "at": 0, "target": "a.txt", "path": path},
        {"call": "make_directory", "at": 0, "path": path},
        {"call": "unlink", "at": 0, "path": path},
        {"call": "remove_directory", "at": 0, "path": path},
    ])
}

/// Links that are there already, and lead out.
fn links(open: &Path) {
    symlink("../secret.txt", open.join("out")).expect("a link");
    symlink("..", open.join("up")).expect("a link");
    symlink("/etc", open.join("root")).expect("a link");
}

/// What begins with any of these leads out, whatever is done with it.
#[test]
fn paths_that_lead_out() {
    let _alone = alone();
    let folder = Folder::with(links);
    let before = [
        "a.txt 7",
        "out -> ../secret.txt",
        "root -> /etc",
        "up -> ..",
    ];
    let absolute = folder.secret().display().to_string();
    for path in [
        "../secret.txt",
        "./../secret.txt",
        "../open/../secret.txt",
        "up/secret.txt",
        "up/open/../secret.txt",
        "up/open/a.txt",
        "root/hostname",
        "../new",
        "up/new",
        "/etc/hostname",
        "//etc/hostname",
        &absolute,
    ] {
        for (number, answer) in folder.answers(all_calls(path)).iter().enumerate() {
            assert_eq!(answer, &error("not-permitted"), "{path}, call {number}");
        }
        assert_eq!(folder.left(), before);
    }
}

/// A name with a zero in it is another name to the system.
#[test]
fn names_with_a_zero() {
    let _alone = alone();
    let folder = Folder::new();
    for path in ["a.txt\0", "\0", "a.txt\0/../../secret.txt", "new\0.txt"] {
        for (number, answer) in folder.answers(all_calls(path)).iter().enumerate() {
            assert!(
                answer["error"].is_string(),
                "{path:?}, call {number}: {answer}"
            );
        }
        assert_eq!(folder.left(), ["a.txt 7"]);
    }
    // As the target of a link.
    let calls =
        json!([{"call": "symlink", "at": 0, "target": "a\0/../../secret.txt", "path": "link"}]);
    assert!(folder.answers(calls)[0]["error"].is_string());
    assert_eq!(folder.left(), ["a.txt 7"]);
}

#[test]
fn names_of_nothing() {
    let _alone = alone();
    let folder = Folder::new();
    let calls = json!([
        {"call": "open", "at": 0, "path": ""},
        {"call": "make_directory", "at": 0, "path": ""},
        {"call": "unlink", "at": 0, "path": ""},
        {"call": "remove_directory", "at": 0, "path": "."},
        {"call": "rename", "at": 0, "path": ".", "to": 0, "new_path": "x"},
        {"call": "rename", "at": 0, "path": "a.txt", "to": 0, "new_path": ""},
        {"call": "symlink", "at": 0, "target": "", "path": "link"},
    ]);
    for (number, answer) in folder.answers(calls).iter().enumerate() {
        assert!(answer["error"].is_string(), "call {number}: {answer}");
    }
    assert_eq!(folder.left(), ["a.txt 7"]);
}

/// Paths that no system takes, and names that no directory does: refused before the disk hears of them,
/// or by it.
#[test]
fn names_that_are_too_long() {
    let _alone = alone();
    let folder = Folder::new();
    let (name, path) = ("n".repeat(256), "a/../".repeat(100_000));
    let longest = format!("{}a.txt", "./".repeat(2_045));
    assert_eq!(longest.len(), 4_095);
    let too_long = format!("{}a.txt", "./".repeat(2_046));
    for path in [&name, &path, &too_long] {
        let answers = folder.answers(all_calls(path.as_str()));
        for (number, answer) in answers.iter().enumerate() {
            let length = path.len();
            assert_eq!(answer, &error("name-too-long"), "{length}, call {number}");
        }
        assert_eq!(folder.left(), ["a.txt 7"]);
    }
    let target = "t/".repeat(3_000);
    let calls = json!([
        {"call": "symlink", "at": 0, "target": target, "path": "link"},
        {"call": "open", "at": 0, "path": longest},
    ]);
    assert_eq!(folder.answers(calls), [error("name-too-long"), fine()]);
    assert_eq!(folder.left(), ["a.txt 7"]);
}

/// Names that a terminal would obey, as they come back in what a guest is refused with.
#[test]
fn names_that_are_terminal_escapes() {
    let _alone = alone();
    let folder = Folder::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = {
        let told = Arc::clone(&told);
        move |_: uuid::Uuid, event: &Event<'_>| {
            let mut told = told.lock().expect("nobody panics here");
            match event {
                Event::Admitted { .. } => told.clear(),
                Event::Denied { denial } => told.push((*denial).clone()),
                _ => {}
            }
        }
    };
    let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\n\u{202e}\u{9b}31m";
    let calls = json!([
        {"call": "open", "at": 0, "path": format!("../{hostile}")},
        {"call": "symlink", "at": 0, "target": format!("/{hostile}"), "path": "link"},
        {"call": "open", "at": 0, "path": format!("../{}", hostile.repeat(100))},
        // Made, found and removed, it is a name like any other.
        {"call": "make_directory", "at": 0, "path": hostile},
        {"call": "list", "at": 0},
        {"call": "open", "at": 0, "path": hostile, "write": true},
    ]);
    let result = folder
        .attack(calls)
        .watched_by(Arc::new(hear))
        .ends_with(End::Success);
    let answers = answers(&result);
    assert_eq!(
        answers[..4],
        [
            error("not-permitted"),
            error("not-permitted"),
            error("not-permitted"),
            fine()
        ]
    );
    assert_eq!(answers[4]["entries"], 2);
    assert_eq!(answers[5], error("is-directory"));
    let told = told.lock().expect("nobody panics here");
    assert_eq!(told.len(), 3, "{told:?}");
    for denial in told.iter() {
        for text in [&denial.subject, &denial.reason, &denial.hint] {
            check_text(text);
            assert!(text.len() < 2_000, "{} bytes", text.len());
        }
    }
}

/// Such a name is an error where it is listed, and there is no way to say it.
#[test]
fn names_that_are_no_text() {
    let _alone = alone();
    let folder = Folder::with(|open| {
        let name = open.join(OsStr::from_bytes(b"\xff\xfe"));
        fs::write(name, "").expect("it can be written");
        let to = OsStr::from_bytes(b"\xff");
        symlink(to, open.join("link")).expect("a link");
    });
    let calls = json!([
        {"call": "list", "at": 0},
        {"call": "read_link", "at": 0, "path": "link"},
        {"call": "open", "at": 0, "path": "\u{fffd}\u{fffd}"},
    ]);
    let expected = [
        error("illegal-byte-sequence"),
        error("illegal-byte-sequence"),
        error("no-entry"),
    ];
    assert_eq!(folder.answers(calls), expected);
}

/// The other way round: no call is made with a path that is no text, whatever it would do.
#[test]
fn paths_that_are_no_text() {
    let _alone = alone();
    let folder = Folder::new();
    let path = json!(b"a\xff");
    let target = json!([{"call": "symlink", "at": 0, "target": path, "path": "link"}]);
    for calls in [all_calls(path), target] {
        for call in calls.as_array().expect("they are") {
            let result = folder
                .attack(json!([call]))
                .ends_with(End::Trap("contract_violation"));
            let failure = result.failure.expect("it failed");
            assert!(failure.message.contains("utf-8"), "{call}: {failure}");
            assert_eq!(folder.left(), ["a.txt 7"], "{call}");
        }
    }
}
