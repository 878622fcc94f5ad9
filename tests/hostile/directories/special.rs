//! What is no file and no directory: looked at, and never opened.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use serde_json::json;
use skillhost::grant::{Grants, Mode};

use super::{Folder, answers, calling, error, fine};
use crate::attack::End;
use crate::measure::alone;

pub fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("it can be started").success());
}

/// What is opened in folders from here on.
#[derive(Clone)]
struct Opened(Arc<OwnedFd>);

impl Opened {
    fn new() -> Self {
        let watches = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        Opened(Arc::new(watches.expect("folders can be watched")))
    }

    /// Until it is removed.
    fn watch(&self, folder: &Path) {
        let watched = inotify::add_watch(&*self.0, folder, WatchFlags::OPEN);
        watched.expect("a folder can be watched");
    }

    /// The names of what was, each once.
    fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&*self.0, &mut buffer);
        while let Ok(event) = events.next() {
            assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
            // The folder itself has none.
            let name = event.file_name().map(|name| name.to_string_lossy());
            names.extend(name.map(Cow::into_owned));
        }
        names
    }
}

/// A FIFO, which whoever opens it waits at until somebody else does; and a socket.
#[test]
fn a_fifo_and_a_socket() {
    let _alone = alone();
    let opened = Opened::new();
    let watching = opened.clone();
    let folder = Folder::with(move |open| {
        make_fifo(&open.join("fifo"));
        // It stays when nobody listens any more.
        drop(UnixListener::bind(open.join("socket")).expect("a socket"));
        std::os::unix::fs::symlink("fifo", open.join("link")).expect("a link");
        watching.watch(open);
    });
    let calls = json!([
        {"call": "open", "at": 0, "path": "fifo"},
        {"call": "open", "at": 0, "path": "fifo", "write": true},
        {"call": "open", "at": 0, "path": "fifo", "write": true, "create": true},
        {"call": "open", "at": 0, "path": "fifo", "write": true, "truncate": true},
        {"call": "open", "at": 0, "path": "link", "follow": true},
        {"call": "open", "at": 0, "path": "socket"},
        {"call": "open", "at": 0, "path": "socket", "write": true},
        {"call": "set_times", "at": 0, "path": "fifo", "follow": true},
        {"call": "stat", "at": 0, "path": "fifo"},
        {"call": "list", "at": 0},
        {"call": "unlink", "at": 0, "path": "fifo"},
        {"call": "open", "at": 0, "path": "a.txt"},
    ]);
    let answers = folder.answers(calls);
    // Not even to be looked at and left again: to open something may set something going.
    assert_eq!(opened.names(), BTreeSet::from(["a.txt".to_owned()]));
    for (number, answer) in answers[..7].iter().enumerate() {
        assert_eq!(answer, &error("not-permitted"), "call {number}");
    }
    assert_eq!(answers[7], fine(), "its times are set without opening it");
    assert_eq!(answers[8]["type"], "DescriptorType::Fifo");
    assert_eq!(answers[9]["entries"], 4);
    assert_eq!(answers[10], fine());
    assert_eq!(folder.left(), ["a.txt 7", "link -> fifo", "socket 0"]);
}

/// Devices, where this user may see them at all. What the kernel makes up cannot be granted.
#[test]
fn devices() {
    let _alone = alone();
    let calls: Vec<_> = ["zero", "null", "random", "full", "tty"]
        .iter()
        .flat_map(|path| {
            [
                json!({"call": "open", "at": 0, "path": path}),
                json!({"call": "open", "at": 0, "path": path, "write": true}),
                json!({"call": "open", "at": 0, "path": path, "follow": true}),
            ]
        })
        .collect();
    let result = calling(json!(calls))
        .granted(Grants::default().directory("/dev", "/dev", Mode::Rw))
        .ends_with(End::Success);
    for (call, answer) in calls.iter().zip(answers(&result)) {
        assert_eq!(answer, error("not-permitted"), "{call}");
    }
}
