//! What a guest carries between its scratch directory and another one that it was granted.

use std::fs;
use std::sync::Arc;

use serde_json::json;
use skillhost::grant::Mode;

use super::{Folder, answers, calling, error, fine};
use crate::attack::{End, builder, runtime};
use crate::measure::alone;

/// Whatever is in scratch is removed in the end, also what the guest may not remove itself: no directory of others gets
/// there, nor by way of one that came from there.
#[test]
fn directories_of_others_that_would_be_removed() {
    let _alone = alone();
    let folder = Folder::with(|open| {
        fs::create_dir(open.join("kept")).expect("a folder");
        fs::write(open.join("kept/file"), "content").expect("a file");
    });
    let scratch = tempfile::tempdir().expect("a folder can be made");
    let host = builder().scratch(scratch.path()).build();
    let host = host.expect("a host can be set up");
    let (settled, clears) = (Arc::clone(&folder), host.clone());
    let result = calling(json!([
        {"call": "make_directory", "at": 1, "path": "own"},
        {"call": "open", "at": 1, "path": "own", "directory": true},
        {"call": "rename", "at": 0, "path": "kept", "to": 1, "new_path": "kept"},
        {"call": "rename", "at": 0, "path": "kept/", "to": 1, "new_path": "kept"},
        {"call": "rename", "at": 0, "path": "./kept", "to": 2, "new_path": "kept"},
        // Were it to leave, what is then put into it could be taken to scratch by the handle.
        {"call": "rename", "at": 1, "path": "own", "to": 0, "new_path": "own"},
        // A file may be removed by whoever may rename it, and an own directory within scratch may be renamed.
        {"call": "rename", "at": 0, "path": "a.txt", "to": 2, "new_path": "a.txt"},
        {"call": "rename", "at": 2, "path": "a.txt", "to": 0, "new_path": "b.txt"},
        {"call": "rename", "at": 1, "path": "own", "to": 1, "new_path": "other"},
        {"call": "rename", "at": 0, "path": "kept", "to": 0, "new_path": "moved"},
    ]))
    .granted(folder.granted(Mode::Rw).scratch())
    .settled_by(move || {
        runtime().block_on(clears.cleared());
        settled.settle();
    })
    .on(&host)
    .ends_with(End::Success);
    let answers = answers(&result);
    for number in [0, 1, 6, 7, 8, 9] {
        assert_eq!(answers[number], fine(), "call {number}");
    }
    for (number, answer) in answers.iter().enumerate().skip(2).take(4) {
        assert_eq!(*answer, error("cross-device"), "call {number}");
    }
    assert_eq!(folder.left(), ["b.txt 7", "moved/", "moved/file 7"]);
}
