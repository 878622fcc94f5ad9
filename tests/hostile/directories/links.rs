//! Links, those that the guest makes and those that it finds and carries about.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use skillhost::grant::Mode;

use super::{Folder, answers, error, fine};
use crate::attack::End;
use crate::measure::alone;

/// A link that leads out is not followed by the guest's calls, but might be by whoever reads the
/// directory later.
#[test]
fn links_that_would_lead_out() {
    let _alone = alone();
    let folder = Folder::new();
    for target in [
        "/etc/passwd",
        "../secret.txt",
        "sub/../../secret.txt",
        "..",
        "./..",
        "/proc/self/root",
    ] {
        let calls = json!([{"call": "symlink", "at": 0, "target": target, "path": "link"}]);
        assert_eq!(folder.answers(calls), [error("not-permitted")], "{target}");
        assert_eq!(folder.left(), ["a.txt 7"]);
    }
}

/// Links that lead nowhere where they are made, and are then carried to where they would lead out; and a
/// directory that is carried away beneath a handle on it.
#[test]
fn links_and_handles_that_are_carried_away() {
    let _alone = alone();
    let folder = Folder::new();
    let calls = json!([
        {"call": "make_directory", "at": 0, "path": "a"},
        {"call": "make_directory", "at": 0, "path": "a/b"},
        // From within `a/b` both would stay inside, if a link with `..` could be made at all.
        {"call": "symlink", "at": 0, "target": "../x", "path": "a/b/link"},
        {"call": "symlink", "at": 0, "target": "b", "path": "a/chain"},
        {"call": "symlink", "at": 0, "target": "a/chain", "path": "long"},
        {"call": "open", "at": 0, "path": "long/../../secret.txt", "follow": true},
        {"call": "open", "at": 0, "path": "long/../../../secret.txt", "follow": true},
        // A handle on `a/b`, which is then moved to the top: `../..` from it leads out.
        {"call": "open", "at": 0, "path": "a/b", "directory": true},
        {"call": "rename", "at": 0, "path": "a/b", "to": 0, "new_path": "b"},
        {"call": "open", "at": 1, "path": "../../secret.txt"},
        {"call": "open", "at": 1, "path": "../a.txt"},
        {"call": "stat", "at": 1, "path": ".."},
        {"call": "rename", "at": 1, "path": "../../secret.txt", "to": 0, "new_path": "x"},
        {"call": "symlink", "at": 0, "target": "loop", "path": "loop"},
        {"call": "open", "at": 0, "path": "loop", "follow": true},
    ]);
    let answers = folder.answers(calls);
    for number in [2, 6, 9, 10, 11, 12] {
        assert_eq!(answers[number], error("not-permitted"), "call {number}");
    }
    assert!(answers[5]["error"].is_string(), "{}", answers[5]);
    assert_eq!(answers[14], error("loop"));
    let left = [
        "a.txt 7",
        "a/",
        "a/chain -> b",
        "b/",
        "long -> a/chain",
        "loop -> loop",
    ];
    assert_eq!(folder.left(), left);
}

/// A relative link that is good where it is leads out from the folder above it.
#[test]
fn a_link_that_leads_out_from_elsewhere() {
    let _alone = alone();
    let folder = Folder::with(|open| {
        fs::create_dir_all(open.join("one/two")).expect("a folder");
        fs::create_dir(open.join("two")).expect("a folder");
        for (target, path) in [
            ("../../a.txt", "one/two/file"),
            ("../..", "one/two/top"),
            ("../one/two", "one/down"),
        ] {
            symlink(target, open.join(path)).expect("a link");
        }
    });
    let calls = json!([
        {"call": "open", "at": 0, "path": "one/two/file", "follow": true},
        {"call": "open", "at": 0, "path": "one", "directory": true},
        {"call": "rename", "at": 0, "path": "one/two/file", "to": 0, "new_path": "file"},
        {"call": "rename", "at": 0, "path": "one/two/file", "to": 0, "new_path": "one/file"},
        {"call": "rename", "at": 0, "path": "one/two/top", "to": 0, "new_path": "top"},
        {"call": "rename", "at": 0, "path": "one/two/top/", "to": 0, "new_path": "top"},
        {"call": "rename", "at": 0, "path": "one/two/./top", "to": 0, "new_path": "top"},
        {"call": "rename", "at": 2, "path": "two/top", "to": 0, "new_path": "two/top"},
        {"call": "rename", "at": 2, "path": "two/top", "to": 2, "new_path": "top"},
        {"call": "link", "at": 0, "path": "one/two/file", "to": 0, "new_path": "file"},
        {"call": "link", "at": 2, "path": "two/file", "to": 0, "new_path": "file"},
        // In its own folder it may be called something else.
        {"call": "rename", "at": 0, "path": "one/two/file", "to": 0, "new_path": "one/two/other"},
        {"call": "open", "at": 0, "path": "one/two/other", "follow": true},
    ]);
    let answers = folder.answers(calls);
    for number in [0, 1, 11, 12] {
        assert_eq!(answers[number], fine(), "call {number}");
    }
    for number in (2..11).filter(|number| *number != 5) {
        assert_eq!(answers[number], error("not-permitted"), "call {number}");
    }
    assert!(answers[5]["error"].is_string(), "{}", answers[5]);
    let left = [
        "a.txt 7",
        "one/",
        "one/down -> ../one/two",
        "one/two/",
        "one/two/other -> ../../a.txt",
        "one/two/top -> ../..",
        "two/",
    ];
    assert_eq!(folder.left(), left);
}

/// From one granted directory to another, by a rename and by a second name.
#[test]
fn a_link_that_is_carried_to_another_directory() {
    let _alone = alone();
    let folder = Folder::with(|open| {
        fs::create_dir_all(open.join("one/two")).expect("a folder");
        symlink("../../a.txt", open.join("one/two/link")).expect("a link");
    });
    let other = tempfile::tempdir().expect("a folder can be made");
    fs::create_dir_all(other.path().join("one/two")).expect("a folder");
    let calls = json!([
        {"call": "rename", "at": 0, "path": "one/two/link", "to": 1, "new_path": "one/two/link"},
        {"call": "link", "at": 0, "path": "one/two/link", "to": 1, "new_path": "one/two/link"},
        // Nor is a file from outside of both.
        {"call": "rename", "at": 0, "path": "../secret.txt", "to": 1, "new_path": "x"},
        {"call": "link", "at": 1, "path": "one/../../secret.txt", "to": 0, "new_path": "x"},
        {"call": "link", "at": 0, "path": "a.txt", "to": 1, "new_path": "one/../../x"},
    ]);
    let grants = folder
        .granted(Mode::Rw)
        .directory(other.path(), "/other", Mode::Rw);
    let result = folder.attack(calls).granted(grants).ends_with(End::Success);
    let answers = answers(&result);
    assert_eq!(answers, vec![error("not-permitted"); 5]);
    let left = ["a.txt 7", "one/", "one/two/", "one/two/link -> ../../a.txt"];
    assert_eq!(folder.left(), left);
    let within = fs::read_dir(other.path().join("one/two")).expect("it is there");
    assert_eq!(within.count(), 0);
}

/// What the links that are found lead to stays what it is; the links themselves are the guest's to move.
#[test]
fn links_that_are_found() {
    let _alone = alone();
    let folder = Folder::with(|open| {
        symlink("../secret.txt", open.join("out")).expect("a link");
        fs::hard_link(open.join("a.txt"), open.join("twice")).expect("a link");
    });
    let calls = json!([
        {"call": "set_times", "at": 0, "path": "out", "follow": true},
        {"call": "link", "at": 0, "path": "out", "to": 0, "new_path": "second"},
        {"call": "stat", "at": 0, "path": "second"},
        {"call": "rename", "at": 0, "path": "out", "to": 0, "new_path": "moved"},
        {"call": "open", "at": 0, "path": "moved", "follow": true},
        {"call": "open", "at": 0, "path": "second", "follow": true, "write": true, "create": true},
        {"call": "link", "at": 0, "path": "second", "to": 0, "new_path": "third", "follow": true},
        {"call": "stat", "at": 0, "path": "twice"},
    ]);
    let answers = folder.answers(calls);
    assert_eq!(answers[0], error("not-permitted"));
    assert_eq!(answers[2]["type"], "DescriptorType::SymbolicLink");
    assert_eq!(answers[4], error("not-permitted"));
    assert_eq!(answers[5], error("not-permitted"));
    assert_eq!(answers[6], error("invalid"));
    assert_eq!(answers[7]["links"], 2);
    let left = [
        "a.txt 7",
        "moved -> ../secret.txt",
        "second -> ../secret.txt",
        "twice 7",
    ];
    assert_eq!(folder.left(), left);
}
