//! What is in a directory changes while a guest uses it.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use skillhost::grant::Mode;

use super::{Folder, answers};

/// Does something over and over, on a thread of its own, until it is dropped.
struct Meanwhile {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Meanwhile {
    fn begin(change: impl Fn(u64) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut turns = 0;
            while !stopped.load(Ordering::Relaxed) {
                change(turns);
                turns += 1;
            }
            turns
        });
        Meanwhile {
            stop,
            thread: Some(thread),
        }
    }

    /// How often it was done.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// What stands at a path changes between a file or directory inside and a way out, as fast as it
/// can, while the guest opens it: the check and the use are one.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_leads_nowhere() {
    let folder = Folder::new();
    fs::create_dir(folder.open("inside")).unwrap();
    fs::write(folder.open("inside/secret.txt"), "harmless").unwrap();
    let open = folder.open("");
    let swap = move |turn: u64| {
        let [aside, place] = ["aside", "place"].map(|name| open.join(name));
        let _ = fs::remove_file(&aside);
        let target = if turn.is_multiple_of(2) {
            "inside"
        } else {
            ".."
        };
        symlink(target, &aside).unwrap();
        fs::rename(&aside, &place).unwrap();
    };
    let meanwhile = Meanwhile::begin(swap);
    let calls = json!([
        {"call": "try", "at": 0, "path": "place/secret.txt", "follow": true, "count": 3_000},
        {"call": "try", "at": 0, "path": "place/secret.txt", "follow": true, "write": true, "count": 3_000},
    ]);
    let answers = answers(folder.granted(Mode::Rw), calls).await;
    assert!(meanwhile.end() > 100);
    let secret = fs::read_to_string(folder.0.path().join("secret.txt")).unwrap();
    assert_eq!(secret, "secret");
    assert_eq!(answers[0]["seen"]["secret"], Value::Null, "{answers:?}");
    assert_ne!(
        answers[0]["seen"]["harmless"],
        Value::Null,
        "there was no race: {answers:?}"
    );
}

/// The same with a FIFO, which must not be waited at even where it comes at the last moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_waits_for_nobody() {
    let folder = Folder::new();
    let open = folder.open("");
    for name in ["fifo-0", "fifo-1"] {
        let made = std::process::Command::new("mkfifo")
            .arg(open.join(name))
            .status();
        assert!(made.unwrap().success());
    }
    let swap = move |turn: u64| {
        let aside = open.join("aside");
        let _ = fs::remove_file(&aside);
        match turn % 2 {
            0 => fs::write(&aside, "harmless").unwrap(),
            _ => fs::hard_link(open.join("fifo-0"), &aside).unwrap(),
        }
        fs::rename(&aside, open.join("place")).unwrap();
    };
    swap(0);
    let meanwhile = Meanwhile::begin(swap);
    let calls = json!([
        {"call": "try", "at": 0, "path": "place", "count": 3_000},
        {"call": "try", "at": 0, "path": "place", "write": true, "count": 3_000},
    ]);
    let answers = answers(folder.granted(Mode::Rw), calls).await;
    assert!(meanwhile.end() > 100);
    for answer in &answers {
        let seen = answer["seen"].as_object().unwrap();
        assert!(
            seen.contains_key("not-permitted"),
            "there was no race: {answers:?}"
        );
    }
}
