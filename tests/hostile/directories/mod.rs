//! What a guest tries with the directories that it was granted: ways out of them, things in them that are
//! no files, and more than it may have of everything. After each execution the disk is looked at.

mod links;
mod locked;
mod names;
mod quotas;
mod races;
mod scratch;
mod special;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::{Value, json};
use skillhost::ExecutionResult;
use skillhost::grant::{Grants, Mode};

use crate::attack::{Attack, End};
use crate::harness::{directories_path, output};
pub use special::make_fifo;

/// A folder with `open`, which is granted under `/data`, and `secret.txt` beside it.
struct Folder {
    place: tempfile::TempDir,
    /// Puts into `open` what is there before each execution.
    fill: Box<dyn Fn(&Path) + Send + Sync>,
    written: SystemTime,
    /// What the last execution left in `open`.
    left: Mutex<Vec<String>>,
}

const SECRET: &str = "secret";

impl Folder {
    /// One with `a.txt` in it.
    fn new() -> Arc<Self> {
        Folder::with(|_| {})
    }

    /// One with `a.txt` in it, and what this adds.
    fn with(fill: impl Fn(&Path) + Send + Sync + 'static) -> Arc<Self> {
        let place = tempfile::tempdir().expect("a folder can be made");
        let secret = place.path().join("secret.txt");
        fs::write(&secret, SECRET).expect("it can be written");
        let written = fs::metadata(&secret).and_then(|secret| secret.modified());
        let folder = Folder {
            place,
            fill: Box::new(fill),
            written: written.expect("it has a time"),
            left: Mutex::default(),
        };
        folder.put_back();
        Arc::new(folder)
    }

    fn open(&self, path: &str) -> PathBuf {
        self.place.path().join("open").join(path)
    }

    fn secret(&self) -> PathBuf {
        self.place.path().join("secret.txt")
    }

    fn granted(&self, mode: Mode) -> Grants {
        Grants::default().directory(self.open(""), "/data", mode)
    }

    /// Makes `open` what it is before each execution.
    fn put_back(&self) {
        let open = self.open("");
        let _ = fs::remove_dir_all(&open);
        fs::create_dir(&open).expect("a folder can be made");
        fs::write(open.join("a.txt"), "content").expect("it can be written");
        (self.fill)(&open);
    }

    /// Notes what is there, checks that nothing else was touched, and makes everything what it was.
    fn settle(&self) {
        let mut left = Vec::new();
        list(&self.open(""), "", &mut left);
        left.sort();
        *self.left.lock().expect("nobody panics here") = left;
        let beside = fs::read_dir(self.place.path()).expect("it is there");
        assert_eq!(beside.count(), 2, "something was made outside");
        let secret = fs::metadata(self.secret()).expect("it is there");
        assert_eq!(
            (secret.nlink(), secret.modified().expect("it has a time")),
            (1, self.written)
        );
        let text = fs::read_to_string(self.secret()).expect("it is there");
        assert_eq!(text, SECRET);
        self.put_back();
    }

    /// What the last execution left, as text: a path, what is there, and its bytes.
    fn left(&self) -> Vec<String> {
        self.left.lock().expect("nobody panics here").clone()
    }

    /// An attack with these calls, which may write.
    fn attack(self: &Arc<Self>, calls: Value) -> Attack {
        let folder = Arc::clone(self);
        calling(calls)
            .granted(self.granted(Mode::Rw))
            .settled_by(move || folder.settle())
    }

    /// What came of each of these calls, of an attack that is told of its errors.
    #[track_caller]
    fn answers(self: &Arc<Self>, calls: Value) -> Vec<Value> {
        answers(&self.attack(calls).ends_with(End::Success))
    }
}

/// What is in a folder, and in those in it. At most so many: some are deep.
fn list(folder: &Path, begin: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("it is there") {
        let entry = entry.expect("it can be read");
        let name = format!("{begin}{}", entry.file_name().to_string_lossy());
        let is = entry.metadata().expect("it is there");
        if is.is_symlink() {
            let to = fs::read_link(entry.path()).expect("it is a link");
            found.push(format!("{name} -> {}", to.display()));
        } else if is.is_dir() {
            found.push(format!("{name}/"));
            if begin.len() < 200 {
                list(&entry.path(), &format!("{name}/"), found);
            }
        } else {
            found.push(format!("{name} {}", is.len()));
        }
    }
}

/// An attack with these calls.
fn calling(calls: Value) -> Attack {
    Attack::from(directories_path(), "calls", json!({ "calls": calls }))
}

/// What came of each call.
#[track_caller]
fn answers(result: &ExecutionResult) -> Vec<Value> {
    let answers = output(result)["answers"].as_array();
    answers.expect("there are answers").clone()
}

fn error(name: &str) -> Value {
    json!({ "error": name })
}

fn fine() -> Value {
    json!({})
}
