//! More than a guest may have: open files, new files, bytes, entries and depth.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use skillhost::grant::{Grants, Mode};
use skillhost::{Limit, LimitOverrides};
use tokio::signal::unix::{SignalKind, signal};

use super::{Folder, answers, error};
use crate::attack::{Attack, End, NONE, SHORT, TIMEOUT, builder, met, runtime, wall_time};
use crate::harness::{directories_path, output};
use crate::measure::alone;

#[test]
fn files_that_are_open_at_once() {
    let _alone = alone();
    let folder = Folder::new();
    let limits = LimitOverrides {
        open_files: Some(10),
        ..NONE
    };
    let open = |times: u64, drop: bool| {
        let call = json!({"call": "open", "at": 0, "path": "a.txt", "times": times, "drop": drop});
        folder.attack(json!([call])).under(limits)
    };
    // One is the directory itself.
    open(9, false).ends_with(End::Success);
    open(10, false).ends_with(met(Limit::OpenFiles));
    // Those that are closed do not count.
    open(1_000, true).ends_with(End::Success);
    for held in ["hold_listing", "hold_reader", "hold_writer"] {
        let calls = json!([
            {"call": "open", "at": 0, "path": "a.txt", "write": true},
            {"call": held, "at": if held == "hold_listing" { 0 } else { 1 }, "times": 9},
        ]);
        let attack = folder.attack(calls).under(limits);
        attack.ends_with(met(Limit::OpenFiles));
    }
}

#[test]
fn files_that_are_made() {
    let _alone = alone();
    let folder = Folder::new();
    let limits = LimitOverrides {
        created_files: Some(5),
        ..NONE
    };
    for call in [
        json!({"call": "open", "at": 0, "path": "new-{n}", "create": true, "drop": true, "times": 9}),
        json!({"call": "make_directory", "at": 0, "path": "new-{n}", "times": 9}),
        json!({"call": "symlink", "at": 0, "path": "new-{n}", "target": "a.txt", "times": 9}),
        json!({"call": "link", "at": 0, "path": "a.txt", "to": 0, "new_path": "new-{n}", "times": 9}),
    ] {
        let attack = folder.attack(json!([call])).under(limits);
        let result = attack.ends_with(met(Limit::CreatedFiles));
        assert_eq!(result.usage.created_files, 5);
        assert_eq!(
            folder.left().len(),
            1 + 5,
            "not one more than the limit: {call}"
        );
    }
    // One that is removed was made.
    let turn = [
        json!({"call": "make_directory", "at": 0, "path": "new"}),
        json!({"call": "remove_directory", "at": 0, "path": "new"}),
    ];
    let calls: Vec<_> = turn.iter().cycle().take(18).collect();
    let attack = folder.attack(json!(calls)).under(limits);
    attack.ends_with(met(Limit::CreatedFiles));
    assert_eq!(folder.left(), ["a.txt 7"]);
}

#[test]
fn bytes_that_are_written() {
    let _alone = alone();
    let folder = Folder::new();
    let limits = LimitOverrides {
        write_bytes: Some(100_000),
        ..NONE
    };
    let open = json!({"call": "open", "at": 0, "path": "big", "create": true, "write": true});
    for call in [
        json!({"call": "stream_out", "at": 1, "bytes": 200_000}),
        json!({"call": "stream_out", "at": 1, "bytes": 200_000, "unflushed": true}),
        json!({"call": "append", "at": 1, "bytes": 200_000}),
        json!({"call": "write", "at": 1, "bytes": 30_000, "offset": 0, "times": 9}),
        // Nothing but holes, and yet as large as if it were written.
        json!({"call": "write", "at": 1, "bytes": 1, "offset": 1_000_000}),
        json!({"call": "set_size", "at": 1, "bytes": 1_000_000_000_000_u64}),
        json!({"call": "write", "at": 1, "bytes": 1, "offset": u64::MAX}),
    ] {
        let attack = folder.attack(json!([open, call])).under(limits);
        let result = attack.ends_with(met(Limit::WriteBytes));
        let left = folder.left();
        let size = left.iter().find_map(|one| one.strip_prefix("big "));
        let size: u64 = size.expect("it was made").parse().expect("a number");
        assert!(size <= 100_000, "{size}: {call}");
        assert!(result.usage.write_bytes >= size);
    }
}

/// Says that this process is for one of the tests below.
const BOUNDED: &str = "SKILLHOST_TEST_BOUNDED";

/// The kernel would end the process that makes a file larger than it may: the host's, for what a guest writes.
#[test]
fn files_that_the_kernel_bounds() {
    in_a_process_of_its_own("a_process_whose_files_are_bounded");
}

/// What an embedder has the process do instead, it does.
#[test]
fn files_that_the_kernel_bounds_where_the_embedder_listens() {
    in_a_process_of_its_own("a_process_that_listens_whose_files_are_bounded");
}

/// Runs one of the tests below that are ignored.
fn in_a_process_of_its_own(test: &str) {
    let _alone = alone();
    let output = std::process::Command::new(std::env::current_exe().expect("it has a path"))
        .args([
            format!("directories::quotas::{test}").as_str(),
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(BOUNDED, "yes")
        .output()
        .expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What a file has at most in such a process.
const MOST: u64 = 1 << 20;

/// Has the kernel allow this process no larger ones. The limit stays with the process.
fn bound_the_files() {
    assert!(
        std::env::var_os(BOUNDED).is_some(),
        "it is run by another test"
    );
    let tight = Rlimit {
        current: Some(MOST),
        maximum: getrlimit(Resource::Fsize).maximum,
    };
    setrlimit(Resource::Fsize, tight).expect("it may have less");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_process_that_listens_whose_files_are_bounded() {
    let _alone = alone();
    let mut heard = {
        let _inside = runtime().enter();
        signal(SignalKind::from_raw(libc::SIGXFSZ)).expect("it can be listened for")
    };
    let folder = Folder::new();
    bound_the_files();
    let open = json!({"call": "open", "at": 0, "path": "big", "create": true, "write": true});
    let write = json!({"call": "append", "at": 1, "bytes": MOST + 1});
    let attack = folder.attack(json!([open, write]));
    let result = attack.ends_with(End::Success);
    assert!(answers(&result)[1]["error"].is_string());
    let told = runtime().block_on(async {
        let soon = Duration::from_secs(60);
        tokio::time::timeout(soon, heard.recv()).await
    });
    assert_eq!(told, Ok(Some(())), "its own way with the signal holds");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_process_whose_files_are_bounded() {
    let _alone = alone();
    let folder = Folder::new();
    let storage = tempfile::tempdir().expect("a folder can be made");
    let host = builder().storage(storage.path().join("storage.db")).build();
    let host = host.expect("a host can be set up");
    bound_the_files();
    let open = json!({"call": "open", "at": 0, "path": "big", "create": true, "write": true});
    for call in [
        json!({"call": "stream_out", "at": 1, "bytes": MOST + 1}),
        json!({"call": "append", "at": 1, "bytes": MOST + 1}),
        json!({"call": "write", "at": 1, "bytes": 1, "offset": MOST}),
        json!({"call": "set_size", "at": 1, "bytes": MOST + 1}),
    ] {
        let attack = folder.attack(json!([open, call]));
        let result = attack.ends_with(End::Success);
        assert!(answers(&result)[1]["error"].is_string(), "{call}");
        let left = folder.left();
        let size = left.iter().find_map(|one| one.strip_prefix("big "));
        let size: u64 = size.expect("it was made").parse().expect("a number");
        assert!(size <= MOST, "{size}: {call}");
    }
    let path = directories_path().with_file_name("storage.wasm");
    let fill = |at: u64| json!(["fill", "", format!("key-{at}"), 800_000]);
    let steps: Vec<Value> = (0..6).map(fill).collect();
    let attack = Attack::from(&path, "do", json!({ "steps": steps }))
        .granted(Grants::default().storage())
        .on(&host);
    let result = attack.ends_with(End::Success);
    let kept = output(&result).to_string();
    assert!(kept.contains("error"), "{kept}");
    assert!(fs::metadata(storage.path().join("storage.db")).is_ok_and(|file| file.len() <= MOST));
}

/// What stands in links counts, too.
#[test]
fn links_that_hold_much() {
    let _alone = alone();
    let folder = Folder::new();
    let limits = LimitOverrides {
        write_bytes: Some(10_000),
        ..NONE
    };
    let target = "a/".repeat(1_000);
    let link =
        |n: u32| json!({"call": "symlink", "at": 0, "target": target, "path": format!("link{n}")});
    let calls: Vec<Value> = (0..6).map(link).collect();
    let attack = folder.attack(json!(calls)).under(limits);
    attack.ends_with(met(Limit::WriteBytes));
    let left = folder.left();
    let links = left.iter().filter(|one| one.starts_with("link"));
    assert_eq!(links.count(), 5, "{left:?}");
}

/// What is made and written counts for the execution, wherever it is: of three directories none has as much as the limit,
/// and together they would have more.
#[test]
fn three_directories_together() {
    let _alone = alone();
    let (one, other) = (Folder::new(), Folder::new());
    let scratch = tempfile::tempdir().expect("a folder can be made");
    let host = builder().scratch(scratch.path()).build();
    let host = host.expect("a host can be set up");
    let attack = |calls: Vec<Value>, limits: LimitOverrides| {
        let (one, other) = (Arc::clone(&one), Arc::clone(&other));
        let granted = one.granted(Mode::Rw);
        let granted = granted.directory(other.open(""), "/other", Mode::Rw);
        let clears = host.clone();
        super::calling(json!(calls))
            .granted(granted.scratch())
            .under(limits)
            .settled_by(move || {
                runtime().block_on(clears.cleared());
                one.settle();
                other.settle();
            })
            .on(&host)
    };
    let making = |places: &[u64]| -> Vec<Value> {
        let make =
            |at: &u64| json!({"call": "make_directory", "at": at, "path": "new-{n}", "times": 3});
        places.iter().map(make).collect()
    };
    // Files are opened behind the three directories.
    let writing = |places: &[u64]| -> Vec<Value> {
        let write = |(file, at): (u64, &u64)| {
            [
                json!({"call": "open", "at": at, "path": "big", "create": true, "write": true}),
                json!({"call": "write", "at": file, "bytes": 40_000}),
            ]
        };
        (3_u64..).zip(places).flat_map(write).collect()
    };
    let of_files = LimitOverrides {
        created_files: Some(7),
        ..NONE
    };
    let of_bytes = LimitOverrides {
        write_bytes: Some(100_000),
        ..NONE
    };
    // Whichever comes last: the two that are granted, and the scratch directory.
    for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
        let (two, last) = (&order[..2], order[2]);
        let result = attack(making(two), of_files).ends_with(End::Success);
        assert_eq!(result.usage.created_files, 6);
        let result = attack(making(&order), of_files).ends_with(met(Limit::CreatedFiles));
        assert_eq!(result.usage.created_files, 7);
        for (at, folder) in [(0, &one), (1, &other)] {
            let made = if at == last { 1 } else { 3 };
            assert_eq!(folder.left().len(), 1 + made, "{at} of {order:?}");
        }
        let result = attack(writing(two), of_bytes).ends_with(End::Success);
        assert_eq!(result.usage.write_bytes, 80_000);
        let result = attack(writing(&order), of_bytes).ends_with(met(Limit::WriteBytes));
        assert_eq!(result.usage.write_bytes, 80_000);
        for (at, folder) in [(0, &one), (1, &other)] {
            let bytes = if at == last { 0 } else { 40_000 };
            let left = ["a.txt 7".to_owned(), format!("big {bytes}")];
            assert_eq!(folder.left(), left, "{at} of {order:?}");
        }
    }
}

/// Far more entries than a guest has memory for, were it handed all at once.
#[test]
fn a_directory_with_very_many_entries() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder can be made");
    for number in 0..20_000 {
        let name = format!("{number}-{}", "n".repeat(200));
        fs::write(folder.path().join(name), "").expect("it can be written");
    }
    let granted = || {
        let grants = skillhost::grant::Grants::default();
        grants.directory(folder.path(), "/data", skillhost::grant::Mode::Ro)
    };
    let list = |times: u64| {
        let call = match times {
            1 => json!({"call": "list", "at": 0}),
            _ => json!({"call": "list", "at": 0, "times": times}),
        };
        super::calling(json!([call])).granted(granted())
    };
    let result = list(1).ends_with(End::Success);
    assert_eq!(answers(&result)[0]["entries"], 20_000);
    // Again and again, it is the time that is up.
    list(1_000_000).under(wall_time(SHORT)).ends_with(TIMEOUT);
}

/// One in the other, each opened from the one before: only so many may be open, and what is deeper than
/// a path is long can still be cleared away.
#[test]
fn directories_that_are_nested_deeply() {
    let _alone = alone();
    let folder = Folder::new();
    let calls = json!([{"call": "make_directory", "at": 0, "path": "d"},
        {"call": "open", "at": 0, "path": "d", "directory": true}]);
    let mut deeper = calls.as_array().expect("they are calls").clone();
    for at in 1..40 {
        deeper.push(json!({"call": "make_directory", "at": at, "path": "d".repeat(200)}));
        deeper.push(json!({"call": "open", "at": at, "path": "d".repeat(200), "directory": true}));
    }
    // From the deepest, and in one path that is longer than may be.
    deeper.push(json!({"call": "open", "at": 40, "path": "../".repeat(41)}));
    let path = format!("d/{}", format!("{}/", "d".repeat(200)).repeat(39));
    deeper.push(json!({"call": "open", "at": 0, "path": path, "directory": true}));
    let limits = LimitOverrides {
        open_files: Some(64),
        ..NONE
    };
    let result = folder
        .attack(json!(deeper))
        .under(limits)
        .ends_with(End::Success);
    let told = answers(&result);
    assert_eq!(told[told.len() - 2], error("not-permitted"));
    assert_eq!(told[told.len() - 1], error("name-too-long"));
    assert_eq!(result.usage.created_files, 40);
    let limits = LimitOverrides {
        open_files: Some(20),
        ..NONE
    };
    let attack = folder.attack(json!(deeper)).under(limits);
    let result = attack.ends_with(met(Limit::OpenFiles));
    assert_eq!(result.usage.created_files, 20);
}
