//! What is in a directory changes while a guest uses it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use skillhost::grant::Mode;
use skillhost::{Event, ExecutionRequest, LimitOverrides, Observer, Status};
use uuid::Uuid;

use super::special::make_fifo;
use super::{Folder, answers, error, fine};
use crate::attack::{Attack, End, NONE, builder, runtime};
use crate::harness::{check_result, directories_path};
use crate::measure::{alone, check_leaves_nothing_but};
use crate::neighbour::Neighbour;

/// Does something over and over, on a thread of its own, while executions run.
struct Meanwhile {
    shared: Arc<(Mutex<Work>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Work {
    wanted: bool,
    over: bool,
    rests: bool,
    turns: u64,
}

impl Meanwhile {
    fn new(change: impl Fn(u64) + Send + 'static) -> Arc<Self> {
        let shared: Arc<(Mutex<Work>, Condvar)> = Arc::default();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (work, changed) = &*shared;
                let lock = || work.lock().expect("nobody panics here");
                loop {
                    let mut held = lock();
                    while !held.wanted && !held.over {
                        held.rests = true;
                        changed.notify_all();
                        held = changed.wait(held).expect("nobody panics here");
                    }
                    if held.over {
                        return;
                    }
                    held.turns += 1;
                    let turn = held.turns;
                    drop(held);
                    change(turn);
                }
            }
        });
        Arc::new(Meanwhile {
            shared,
            thread: Some(thread),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.shared.0.lock().expect("nobody panics here")
    }

    fn begin(&self) {
        let mut work = self.lock();
        (work.wanted, work.rests) = (true, false);
        self.shared.1.notify_all();
    }

    /// Waits until it does nothing.
    fn rest(&self) {
        let mut work = self.lock();
        work.wanted = false;
        while !work.rests {
            work = self.shared.1.wait(work).expect("nobody panics here");
        }
    }

    /// An attack while it works.
    fn during(self: &Arc<Self>, folder: &Arc<Folder>, calls: Value) -> Attack {
        let (folder, rests) = (Arc::clone(folder), Arc::clone(self));
        folder
            .attack(calls)
            .watched_by(Arc::clone(self) as Arc<dyn Observer>)
            .settled_by(move || {
                rests.rest();
                folder.settle();
            })
    }
}

impl Observer for Meanwhile {
    fn observe(&self, _: Uuid, event: &Event<'_>) {
        if let Event::Started = event {
            self.begin();
        }
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.lock().over = true;
        self.shared.1.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

/// What stands at a path changes between a directory inside and a way out, as fast as it can, while the
/// guest opens what is in it: the check and the use are one.
#[test]
fn a_link_that_changes_meanwhile() {
    let _alone = alone();
    let folder = Folder::with(|open| {
        fs::create_dir(open.join("inside")).expect("a folder");
        fs::write(open.join("inside/secret.txt"), "harmless").expect("it can be written");
        symlink("inside", open.join("place")).expect("a link");
    });
    let open = folder.open("");
    let meanwhile = Meanwhile::new(move |turn| {
        let [aside, place] = ["aside", "place"].map(|name| open.join(name));
        let _ = fs::remove_file(&aside);
        let target = ["inside", ".."][(turn % 2) as usize];
        symlink(target, &aside).expect("a link");
        fs::rename(&aside, &place).expect("it can be moved");
    });
    // The secret, what was put in its place, and that it was refused.
    let calls = json!([
        {"call": "try", "at": 0, "path": "place/secret.txt", "follow": true, "count": 500, "until": 2},
        {"call": "try", "at": 0, "path": "place/secret.txt", "follow": true, "write": true,
            "count": 500, "until": 2},
    ]);
    let result = meanwhile.during(&folder, calls).ends_with(End::Success);
    for answer in answers(&result) {
        let seen = answer["seen"].as_object().expect("it is one");
        assert!(seen.contains_key("not-permitted"), "{seen:?}");
        let harmless = |what: &String| !what.contains("secret");
        assert!(seen.keys().all(harmless), "{seen:?}");
    }
}

/// The same with every other call that takes a path: what it does, it does inside or not at all.
#[test]
fn a_link_that_changes_while_anything_is_done_by_way_of_it() {
    let _alone = alone();
    let at = |call: &str, path: &str| json!({"call": call, "at": 0, "path": path, "follow": true});
    let from_to = |call: &str, path: &str, new_path: &str| json!({"call": call, "at": 0, "path": path, "to": 0, "new_path": new_path});
    let mut symlink = at("symlink", "place/new");
    symlink["target"] = json!("a.txt");
    let open = |path: &str, flags: &[&str]| {
        let mut open = at("open", path);
        for flag in flags {
            open[flag] = json!(true);
        }
        open["write"] = json!(true);
        open["drop"] = json!(true);
        open
    };
    // What is below `place` is there inside and outside, but for what is to be made.
    check_inside(
        put_back_inside,
        &[
            (at("unlink", "place/secret.txt"), &["no-entry"]),
            (at("make_directory", "place/new"), &["exist"]),
            // It is empty inside only.
            (at("remove_directory", "place/open"), &["no-entry"]),
            (
                from_to("rename", "place/secret.txt", "taken"),
                &["no-entry"],
            ),
            (
                from_to("rename", "a.txt", "place/secret.txt"),
                &["no-entry"],
            ),
            (
                from_to("link", "place/secret.txt", "taken"),
                &["no-entry", "exist"],
            ),
            (
                from_to("link", "a.txt", "place/new"),
                &["no-entry", "exist"],
            ),
            (symlink, &["exist"]),
            (open("place/new", &["create"]), &[]),
            (open("place/new", &["create", "exclusive"]), &["exist"]),
            (open("place/secret.txt", &["create", "truncate"]), &[]),
            (open("place/secret.txt", &["truncate"]), &["no-entry"]),
            (at("stat", "place/secret.txt"), &[]),
            (at("set_times", "place/secret.txt"), &[]),
        ],
    );
}

/// The same with what only looks: nothing is told of what is outside.
#[test]
fn a_link_that_changes_while_somebody_looks_by_way_of_it() {
    let _alone = alone();
    // A link and a folder that are there on both sides.
    let put_back = |open: &Path| {
        for (folder, target) in [("", "outside"), ("inside/open", HARMLESS)] {
            let link = open.join(folder).join("link");
            if fs::symlink_metadata(&link).is_err() {
                fs::create_dir_all(open.join(folder)).expect("a folder");
                symlink(target, link).expect("a link");
            }
        }
        let secret = open.join("inside/secret.txt");
        if !secret.exists() {
            fs::write(secret, HARMLESS).expect("it can be written");
        }
    };
    let at = |call: &str, path: &str| json!({"call": call, "at": 0, "path": path, "follow": true});
    let open = |path: &str, flag: &str| {
        let mut open = at("open", path);
        open[flag] = json!(true);
        open["look"] = json!(true);
        open["drop"] = json!(true);
        open
    };
    check_inside(
        put_back,
        &[
            (at("read_link", "place/open/link"), &[]),
            (at("hash", "place/secret.txt"), &[]),
            (at("hash", "place/open"), &[]),
            (at("hash", "place"), &[]),
            (open("place/secret.txt", "write"), &[]),
            (open("place/open", "directory"), &[]),
            (open("place", "directory"), &[]),
        ],
    );
}

/// Makes each of these calls over and over, each with the errors that it may meet beside the refusal, until it was
/// carried out by way of `place` while that led inside, and refused while it led out.
#[track_caller]
fn check_inside(
    put_back: impl Fn(&Path) + Clone + Send + Sync + 'static,
    calls: &[(Value, &[&str])],
) {
    let folder = Folder::with({
        let put_back = put_back.clone();
        move |open| {
            fs::create_dir(open.join("inside")).expect("a folder");
            symlink("inside", open.join("place")).expect("a link");
            put_back(open);
        }
    });
    let open = folder.open("");
    let meanwhile = Meanwhile::new(move |turn| {
        put_back(&open);
        let [aside, place] = ["aside", "place"].map(|name| open.join(name));
        let _ = fs::remove_file(&aside);
        let target = ["inside", ".."][(turn % 2) as usize];
        symlink(target, &aside).expect("a link");
        fs::rename(&aside, &place).expect("it can be moved");
    });
    // Which ones they are that are inside, by their own names.
    let own = ["inside", "inside/open", "inside/secret.txt"];
    let own = own.map(|path| json!({"call": "hash", "at": 0, "path": path}));
    for (call, others) in calls {
        let again =
            json!({"call": "again", "each": call, "count": 300, "until": ["{", "not-permitted"]});
        let limits = LimitOverrides {
            created_files: Some(10_000),
            ..NONE
        };
        let mut calls = own.to_vec();
        calls.push(again);
        let attack = meanwhile.during(&folder, json!(calls)).under(limits);
        let result = attack.ends_with(End::Success);
        let answers = answers(&result);
        let (again, own) = answers.split_last().expect("there are answers");
        let seen = again["seen"].as_object().expect("it is one");
        for what in seen.keys() {
            let is_inside = match what.parse::<Value>() {
                // The secret has fewer bytes.
                Ok(told) => {
                    let is_own = |key: &str, is_own: &dyn Fn(&Value) -> bool| {
                        told.get(key).is_none_or(is_own)
                    };
                    is_own("size", &|size| *size == HARMLESS.len())
                        && is_own("target", &|target| *target == HARMLESS)
                        && is_own("hash", &|hash| own.iter().any(|own| own["hash"] == *hash))
                }
                Err(_) => what == "not-permitted" || others.contains(&what.as_str()),
            };
            assert!(is_inside, "{call}: {seen:?}, {own:?}");
        }
    }
}

const HARMLESS: &str = "harmless";

/// Puts back what is there, where it was taken away.
fn put_back_inside(open: &Path) {
    let missing = |path: &str| Some(open.join(path)).filter(|path| !path.exists());
    for file in ["inside/secret.txt", "a.txt"] {
        // It stands there at once with what is in it.
        if let Some(path) = missing(file) {
            let aside = open.join("aside.txt");
            fs::write(&aside, HARMLESS).expect("it can be written");
            fs::rename(aside, path).expect("it can be moved");
        }
    }
    if let Some(path) = missing("inside/open") {
        fs::create_dir(path).expect("a folder");
    }
}

/// The same with a file and a FIFO, which must not be waited at even where it comes at the last moment.
#[test]
fn a_file_that_becomes_a_fifo() {
    let _alone = alone();
    let folder = Folder::with(|open| {
        make_fifo(&open.join("fifo"));
        fs::write(open.join("place"), "harmless").expect("it can be written");
    });
    let open = folder.open("");
    let meanwhile = Meanwhile::new(move |turn| {
        let aside = open.join("aside");
        let _ = fs::remove_file(&aside);
        match turn % 2 {
            0 => fs::write(&aside, "harmless").expect("it can be written"),
            _ => fs::hard_link(open.join("fifo"), &aside).expect("a link"),
        }
        fs::rename(&aside, open.join("place")).expect("it can be moved");
    });
    let calls = json!([
        {"call": "try", "at": 0, "path": "place", "count": 500, "until": 2},
        {"call": "try", "at": 0, "path": "place", "write": true, "count": 500, "until": 2},
    ]);
    let result = meanwhile.during(&folder, calls).ends_with(End::Success);
    for answer in answers(&result) {
        let seen = answer["seen"].as_object().expect("it is one");
        assert!(seen.contains_key("not-permitted"), "{seen:?}");
    }
}

/// A directory is carried out and back while the guest goes up and down in it, until it has found the file
/// beside it, and that it was not there or that the way was refused.
#[test]
fn a_directory_that_is_carried_out_meanwhile() {
    let _alone = alone();
    let folder = Folder::with(|open| {
        fs::create_dir_all(open.join("one/two")).expect("a folder");
        fs::write(open.join("secret.txt"), "harmless").expect("it can be written");
    });
    let open = folder.open("");
    let meanwhile = Meanwhile::new(move |_| {
        // Directly below the granted one, `../..` from it is outside.
        fs::rename(open.join("one/two"), open.join("two")).expect("it can be moved");
        fs::rename(open.join("two"), open.join("one/two")).expect("it can be moved");
    });
    let calls = json!([
        {"call": "try", "at": 0, "path": "one/two/../../secret.txt", "count": 2_000, "until": 2},
        {"call": "try", "at": 0, "path": "one/two/../../secret.txt", "write": true, "count": 2_000,
            "until": 2},
    ]);
    let result = meanwhile.during(&folder, calls).ends_with(End::Success);
    for answer in answers(&result) {
        let seen = answer["seen"].as_object().expect("it is one");
        let known = |what: &String| what != "secret" && !what.is_empty();
        assert!(seen.keys().all(known), "{seen:?}");
        let met = ["no-entry", "not-permitted"];
        assert!(met.iter().any(|what| seen.contains_key(*what)), "{seen:?}");
    }
    assert!(meanwhile.lock().turns > 100);
}

/// One execution puts a link with a `..` in a file's place and takes it away again, while another carries to
/// another folder what is there: the link must not get there.
#[test]
fn a_link_that_takes_a_files_place() {
    let _alone = alone();
    check_not_taken(&[
        call("rename", "sub/x", "taken"),
        call("rename", "taken", "sub/f"),
    ]);
}

/// The same, where the other gives it a second name in another folder.
#[test]
fn a_link_that_takes_the_place_of_a_file_that_gets_a_second_name() {
    let _alone = alone();
    check_not_taken(&[
        call("link", "sub/x", "taken"),
        json!({"call": "read_link", "at": 0, "path": "taken"}),
        json!({"call": "unlink", "at": 0, "path": "taken"}),
    ]);
}

/// Gives something another name.
fn call(call: &str, from: &str, to: &str) -> Value {
    json!({"call": call, "at": 0, "path": from, "to": 0, "new_path": to})
}

/// What these calls take is never the link, whose place is swapped meanwhile with a file's. The first of them takes it.
#[track_caller]
fn check_not_taken(takes: &[Value]) {
    let folder = Folder::with(|open| {
        fs::create_dir(open.join("sub")).expect("it can be made");
        fs::write(open.join("sub/f"), "content").expect("it can be written");
        symlink("../a.txt", open.join("sub/link")).expect("it can be made");
    });
    let swap = [("f", "x"), ("x", "f"), ("link", "x"), ("x", "link")]
        .map(|(from, to)| call("rename", &format!("sub/{from}"), &format!("sub/{to}")));
    let many = |calls: &[Value], times: usize| {
        let calls = std::iter::repeat_n(calls, times).flatten();
        Value::Array(calls.cloned().collect())
    };
    let host = builder()
        .concurrency(2)
        .build()
        .expect("a host can be set up");
    let skill = runtime().block_on(host.load(directories_path()));
    let skill = skill.expect("it loads");
    let request = |calls: Value| {
        ExecutionRequest::new(skill.digest(), json!({ "calls": calls }))
            .tool("calls")
            .grants(folder.granted(Mode::Rw))
    };
    let (swap, take) = (request(many(&swap, 100)), request(many(takes, 200)));
    let neighbour = Neighbour::of(&host);
    let round = || {
        let run = |request: &ExecutionRequest| {
            let result = runtime().block_on(host.execute(request.clone()));
            let result = result.expect("the host is well");
            check_result(&result);
            assert_eq!(result.status, Status::Success, "{:?}", result.failure);
            let usage = &result.usage;
            assert!(usage.fuel > 0 && usage.host_calls > 400, "{usage:?}");
            answers(&result)
        };
        let (_, answers) = std::thread::scope(|scope| {
            let swapping = scope.spawn(|| run(&swap));
            let taking = scope.spawn(|| run(&take));
            (
                swapping.join().expect("it does not panic"),
                taking.join().expect("it does not panic"),
            )
        });
        let found = fs::symlink_metadata(folder.open("taken"));
        assert!(
            !found.is_ok_and(|found| found.is_symlink()),
            "the link was carried out of its folder"
        );
        let is_link = answers.iter().find(|answer| answer["target"].is_string());
        assert_eq!(is_link, None, "the link has a name outside of its folder");
        // Nor was it, and then written over.
        let is_link = |name: &str| fs::read_link(folder.open(name)).is_ok();
        assert!(is_link("sub/link") || is_link("sub/x"), "the link is gone");
        folder.settle();
        neighbour.check_undisturbed(&host);
        answers
    };
    // How often something was carried, and how often that was refused, as the link stood there.
    let (mut taken, mut refused) = (0, 0);
    let mut count = |answers: Vec<Value>| {
        for answer in answers.iter().step_by(takes.len()) {
            taken += u32::from(*answer == fine());
            refused += u32::from(*answer == error("not-permitted"));
        }
        taken > 0 && refused > 0
    };
    let mut met = false;
    check_leaves_nothing_but(0, || {
        for _ in 0..20 {
            met |= count(round());
        }
    });
    // On a busy machine it may be that the two never were at it at the same time.
    let met = met || (0..400).any(|_| count(round()));
    assert!(met, "{taken} times carried, and {refused} times refused");
}
