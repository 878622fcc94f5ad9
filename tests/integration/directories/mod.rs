//! `wasi:filesystem`, call by call: what each does, and what a grant, a quota and a limit leave of
//! it. What a hostile guest tries is in `tests/hostile/directories`.

mod apart;
mod repeated;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use skillhost::execution::Phase;
use skillhost::grant::{Capability, Grants, Mode};
use skillhost::{Cause, ExecutionRequest, ExecutionResult, Limit, LimitOverrides, Status};

use crate::harness::NONE;
use crate::harness::{builder, cause, directories_path, execute, host, output};

/// A folder with `open`, which is granted under `/data`, and `secret.txt` beside it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::create_dir(folder.open("")).unwrap();
        fs::write(folder.open("a.txt"), "content").unwrap();
        fs::write(folder.0.path().join("secret.txt"), "secret").unwrap();
        folder
    }

    fn open(&self, path: &str) -> PathBuf {
        self.0.path().join("open").join(path)
    }

    fn granted(&self, mode: Mode) -> Grants {
        Grants::default().directory(self.open(""), "/data", mode)
    }
}

async fn request(grants: Grants, calls: Value) -> ExecutionRequest {
    let skill = host().load(directories_path()).await.expect("it loads");
    ExecutionRequest::new(skill.digest(), json!({ "calls": calls })).grants(grants)
}

async fn run(grants: Grants, limits: LimitOverrides, calls: Value) -> ExecutionResult {
    let request = request(grants, calls).await.limits(limits);
    execute(host(), request).await
}

/// What came of each call.
async fn answers(grants: Grants, calls: Value) -> Vec<Value> {
    let result = run(grants, NONE, calls).await;
    output(&result)["answers"].as_array().unwrap().clone()
}

fn error(name: &str) -> Value {
    json!({ "error": name })
}

/// As POSIX has it: a write of nothing changes nothing, wherever it goes, and so counts nothing.
#[tokio::test]
async fn no_bytes_are_written_anywhere() {
    let folder = Folder::new();
    let far = u64::MAX;
    let result = run(
        folder.granted(Mode::Rw),
        LimitOverrides {
            write_bytes: Some(4),
            ..NONE
        },
        json!([
            {"call": "open", "at": 0, "path": "new", "create": true, "write": true},
            {"call": "write", "at": 1, "bytes": 0, "offset": far},
            {"call": "write", "at": 1, "bytes": 0, "offset": 1_000},
            {"call": "stream_out", "at": 1, "bytes": 0, "offset": far},
            {"call": "stream_out", "at": 1, "bytes": 0, "offset": far, "unflushed": true},
            {"call": "append", "at": 1, "bytes": 0},
            {"call": "stat", "at": 1},
            {"call": "write", "at": 1, "bytes": 4, "offset": 0},
            {"call": "write", "at": 1, "bytes": 0, "offset": far},
            {"call": "stat", "at": 1},
        ]),
    )
    .await;
    let (fine, nothing) = (json!({}), json!({"written": 0}));
    let of_size =
        |size: u64| json!({"type": "DescriptorType::RegularFile", "size": size, "links": 1});
    assert_eq!(
        output(&result)["answers"],
        json!([
            fine,
            nothing,
            nothing,
            fine,
            fine,
            fine,
            of_size(0),
            {"written": 4},
            nothing,
            of_size(4),
        ])
    );
    assert_eq!(result.usage.write_bytes, 4);
}

#[tokio::test]
async fn files_are_read_and_written() {
    let folder = Folder::new();
    let answers = answers(
        folder.granted(Mode::Rw),
        json!([
            {"call": "open", "at": 0, "path": "a.txt"},
            {"call": "read", "at": 1, "bytes": 4, "offset": 0},
            {"call": "read", "at": 1, "bytes": 100, "offset": 4},
            {"call": "read", "at": 1, "bytes": 100, "offset": 7},
            {"call": "stream_in", "at": 1, "bytes": 3, "offset": 1},
            {"call": "write", "at": 1, "bytes": 1},
            {"call": "open", "at": 0, "path": "new", "create": true, "write": true},
            {"call": "stream_out", "at": 2, "bytes": 10_000},
            {"call": "append", "at": 2, "bytes": 5},
            {"call": "stream_out", "at": 2, "bytes": 100_000, "offset": 4, "unflushed": true},
            {"call": "write", "at": 2, "bytes": 2, "offset": 1},
            {"call": "stat", "at": 2},
            {"call": "set_size", "at": 2, "bytes": 3},
            {"call": "read", "at": 2, "bytes": 9, "offset": 0},
            {"call": "flags", "at": 1},
            {"call": "flags", "at": 2},
            {"call": "sync", "at": 2},
            {"call": "open", "at": 0, "path": "new", "truncate": true, "write": true},
            {"call": "stat", "at": 3},
        ]),
    )
    .await;
    let fine = json!({});
    let expected = [
        fine.clone(),
        json!({"bytes": 4, "ended": false, "text": "cont"}),
        json!({"bytes": 3, "ended": false, "text": "ent"}),
        json!({"bytes": 0, "ended": true, "text": ""}),
        json!({"total": 6}),
        error("not-permitted"),
        fine.clone(),
        fine.clone(),
        fine.clone(),
        fine.clone(),
        json!({"written": 2}),
        json!({"type": "DescriptorType::RegularFile", "size": 100_004, "links": 1}),
        fine.clone(),
        json!({"bytes": 3, "ended": false, "text": "yxx"}),
        json!({"flags": "DescriptorFlags(READ)"}),
        json!({"flags": "DescriptorFlags(READ | WRITE)"}),
        fine.clone(),
        fine.clone(),
        json!({"type": "DescriptorType::RegularFile", "size": 0, "links": 1}),
    ];
    for (number, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
        assert_eq!(answer, expected, "call {number}");
    }
    assert_eq!(answers.len(), expected.len());
}

#[tokio::test]
async fn directories_are_made_listed_and_removed() {
    let folder = Folder::new();
    let answers = answers(
        folder.granted(Mode::Rw),
        json!([
            {"call": "make_directory", "at": 0, "path": "sub"},
            {"call": "make_directory", "at": 0, "path": "sub"},
            {"call": "open", "at": 0, "path": "sub", "directory": true},
            {"call": "open", "at": 1, "path": "file-{n}", "create": true, "drop": true, "times": 200},
            {"call": "list", "at": 1},
            {"call": "list", "at": 0},
            {"call": "sync", "at": 1},
            {"call": "rename", "at": 1, "path": "file-0", "to": 0, "new_path": "moved"},
            {"call": "link", "at": 0, "path": "moved", "to": 1, "new_path": "second"},
            {"call": "stat", "at": 0, "path": "moved"},
            {"call": "symlink", "at": 0, "target": "sub/second", "path": "link"},
            {"call": "read_link", "at": 0, "path": "link"},
            {"call": "stat", "at": 0, "path": "link"},
            {"call": "stat", "at": 0, "path": "link", "follow": true},
            {"call": "open", "at": 0, "path": "link", "follow": true},
            {"call": "open", "at": 0, "path": "link"},
            {"call": "same", "at": 0, "to": 0},
            {"call": "same", "at": 0, "to": 1},
            {"call": "set_times", "at": 0, "path": "link"},
            {"call": "set_times", "at": 0, "path": "moved"},
            {"call": "remove_directory", "at": 0, "path": "sub"},
            {"call": "unlink", "at": 0, "path": "link"},
            {"call": "unlink", "at": 0, "path": "sub"},
            {"call": "remove_directory", "at": 0, "path": "moved"},
            {"call": "list", "at": 2},
            {"call": "open", "at": 2, "path": "x"},
        ]),
    )
    .await;
    let fine = json!({});
    let of = |number: usize| &answers[number];
    for number in [0, 2, 6, 7, 8, 10, 14, 18, 19, 21] {
        assert_eq!(of(number), &fine, "call {number}");
    }
    assert_eq!(of(1), &error("exist"));
    assert_eq!(of(3), &json!({"after": 200}));
    assert_eq!(of(4)["entries"], 200);
    assert_eq!(
        of(5)["names"],
        json!([
            "a.txt DescriptorType::RegularFile",
            "sub DescriptorType::Directory"
        ])
    );
    assert_eq!(of(9)["links"], 2);
    assert_eq!(of(11), &json!({"target": "sub/second"}));
    assert_eq!(of(12)["type"], "DescriptorType::SymbolicLink");
    assert_eq!(of(13)["type"], "DescriptorType::RegularFile");
    assert_eq!(of(15), &error("loop"));
    assert_eq!(of(16), &json!({"same": true, "hash": true}));
    assert_eq!(of(17), &json!({"same": false, "hash": false}));
    assert_eq!(of(20), &error("not-empty"));
    assert_eq!(of(22), &error("is-directory"));
    assert_eq!(of(23), &error("not-directory"));
    assert_eq!(of(24), &error("not-directory"));
    assert_eq!(of(25), &error("not-directory"));
}

/// A guest that may only read is told so, and whoever granted that is told what it wanted.
#[tokio::test]
async fn what_may_only_be_read_is_not_changed() {
    let folder = Folder::new();
    let other = Folder::new();
    let grants = folder
        .granted(Mode::Ro)
        .directory(other.open(""), "/other", Mode::Rw);
    let calls = json!([
        {"call": "open", "at": 0, "path": "a.txt", "write": true},
        {"call": "open", "at": 0, "path": "a.txt", "truncate": true},
        {"call": "open", "at": 0, "path": "b.txt", "create": true},
        {"call": "make_directory", "at": 0, "path": "b"},
        {"call": "remove_directory", "at": 0, "path": "b"},
        {"call": "unlink", "at": 0, "path": "a.txt"},
        {"call": "symlink", "at": 0, "target": "a.txt", "path": "b"},
        {"call": "link", "at": 0, "path": "a.txt", "to": 0, "new_path": "b"},
        {"call": "rename", "at": 0, "path": "a.txt", "to": 0, "new_path": "b"},
        {"call": "set_times", "at": 0, "path": "a.txt"},
        // By a second name, it could be written to.
        {"call": "link", "at": 0, "path": "a.txt", "to": 1, "new_path": "b"},
        {"call": "rename", "at": 0, "path": "a.txt", "to": 1, "new_path": "b"},
        {"call": "rename", "at": 1, "path": "a.txt", "to": 0, "new_path": "b"},
    ]);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hear = Arc::clone(&told);
    let observer = move |_: uuid::Uuid, event: &skillhost::Event<'_>| {
        if let skillhost::Event::Denied { denial } = event {
            hear.lock().unwrap().push((*denial).clone());
        }
    };
    let control = skillhost::Control::default().observer(Arc::new(observer));
    let request = request(grants, calls).await;
    let result = host().execute_with(request, control).await.unwrap();
    for (number, answer) in output(&result)["answers"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        assert_eq!(answer, &error("not-permitted"), "call {number}");
    }
    assert_eq!(fs::read_to_string(folder.open("a.txt")).unwrap(), "content");
    assert_eq!(fs::read_dir(folder.open("")).unwrap().count(), 1);
    assert_eq!(
        (result.usage.created_files, result.usage.write_bytes),
        (0, 0)
    );
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1, "the same is told once: {told:?}");
    assert_eq!(
        (told[0].capability, told[0].subject.as_str()),
        (Capability::Directory, "/data")
    );
    let grant = format!("{}:/data:rw", folder.open("").display());
    assert!(told[0].hint.contains(&grant), "{}", told[0].hint);
}

fn check_exhausted(result: &ExecutionResult, expected: Limit, allowed: u64) {
    assert_eq!(
        result.status,
        Status::ResourceExhausted,
        "{:?}",
        result.failure
    );
    let Cause::ResourceExhausted {
        limit,
        allowed: at,
        requested,
        ..
    } = cause(result)
    else {
        panic!("{:?}", result.failure)
    };
    assert_eq!((*limit, *at), (expected, allowed));
    assert!(requested.unwrap() > allowed, "{requested:?}");
}

/// What fails, or was there before, is not made.
#[tokio::test]
async fn what_is_made_is_counted() {
    let folder = Folder::new();
    let limits = LimitOverrides {
        created_files: Some(5),
        ..NONE
    };
    fs::create_dir(folder.open("directory-0")).unwrap();
    let calls = json!([
        {"call": "make_directory", "at": 0, "path": "directory-0"},
        {"call": "make_directory", "at": 0, "path": "no/such/folder"},
        {"call": "open", "at": 0, "path": "a.txt", "create": true, "drop": true, "times": 20},
        {"call": "open", "at": 0, "path": "no/such/folder", "create": true},
    ]);
    let result = run(folder.granted(Mode::Rw), limits, calls).await;
    assert_eq!(
        (result.status, result.usage.created_files),
        (Status::Success, 0)
    );
}

#[tokio::test]
async fn as_much_as_the_limit_is_written() {
    let folder = Folder::new();
    let limits = LimitOverrides {
        write_bytes: Some(100_000),
        ..NONE
    };
    let open = json!({"call": "open", "at": 0, "path": "big", "create": true, "write": true});
    let calls = json!([open, {"call": "stream_out", "at": 1, "bytes": 100_000}]);
    let result = run(folder.granted(Mode::Rw), limits, calls).await;
    assert_eq!(
        (result.status, result.usage.write_bytes),
        (Status::Success, 100_000)
    );
}

#[tokio::test]
async fn a_scratch_directory_is_empty_private_and_gone_afterwards() {
    let base = tempfile::tempdir().unwrap();
    let host = builder().scratch(base.path()).build().unwrap();
    let skill = host.load(directories_path()).await.unwrap();
    let request = |calls: Value| {
        ExecutionRequest::new(skill.digest(), json!({ "calls": calls }))
            .grants(Grants::default().scratch())
    };
    let fill = json!([
        {"call": "list", "at": 0},
        {"call": "make_directory", "at": 0, "path": "down"},
        {"call": "open", "at": 0, "path": "down/file", "create": true, "write": true},
        {"call": "stream_out", "at": 1, "bytes": 10_000},
    ]);
    for _ in 0..2 {
        let result = execute(&host, request(fill.clone())).await;
        assert_eq!(output(&result)["granted"], json!(["/scratch"]));
        let answers = &output(&result)["answers"];
        assert_eq!(
            answers[0]["entries"], 0,
            "nothing of the one before: {answers}"
        );
        assert_eq!(answers[3], json!({}));
        assert_eq!(
            (result.usage.created_files, result.usage.write_bytes),
            (2, 10_000)
        );
        host.cleared().await;
        assert_eq!(scratch_left(base.path()), Vec::<PathBuf>::new());
    }
    // Also where it is stopped.
    let mut stopped = request(json!([
        {"call": "make_directory", "at": 0, "path": "{n}", "times": 1_000_000},
    ]));
    stopped.limits.created_files = Some(100);
    let result = execute(&host, stopped).await;
    check_exhausted(&result, Limit::CreatedFiles, 100);
    host.cleared().await;
    assert_eq!(scratch_left(base.path()), Vec::<PathBuf>::new());
    drop((skill, host));
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
}

/// Deep and wide, and of several owners.
#[tokio::test]
async fn whatever_was_made_in_a_scratch_directory_is_gone_afterwards() {
    let base = tempfile::tempdir().unwrap();
    let host = builder().scratch(base.path()).build().unwrap();
    let skill = host.load(directories_path()).await.unwrap();
    let mut calls = vec![
        json!({"call": "make_directory", "at": 0, "path": "{n}", "times": 100}),
        json!({"call": "symlink", "at": 0, "path": "link-{n}", "target": "0", "times": 100}),
    ];
    let mut path = "0".to_owned();
    for _ in 0..200 {
        path.push_str("/1");
        calls.push(json!({"call": "make_directory", "at": 0, "path": path}));
    }
    for tenant in [Some("acme"), Some("mill"), None] {
        let mut request = ExecutionRequest::new(skill.digest(), json!({ "calls": calls }));
        request.tenant = tenant.map(str::to_owned);
        let result = execute(&host, request.grants(Grants::default().scratch())).await;
        assert_eq!(result.usage.created_files, 400, "{:?}", result.failure);
    }
    host.cleared().await;
    assert_eq!(scratch_left(base.path()), Vec::<PathBuf>::new());
    drop((skill, host));
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
}

/// What is in the folders of hosts, but for their locks.
fn scratch_left(base: &Path) -> Vec<PathBuf> {
    let entries = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    let inner = entries(base)
        .into_iter()
        .flat_map(|folder| entries(&folder));
    inner.filter(|path| !path.ends_with("lock")).collect()
}

#[tokio::test]
async fn two_directories_cannot_share_a_path() {
    let folder = Folder::new();
    let twice = folder
        .granted(Mode::Ro)
        .directory(folder.open(""), "/data/", Mode::Ro);
    let scratch = Grants::default()
        .scratch()
        .directory(folder.open(""), "/scratch", Mode::Ro);
    for grants in [twice, scratch] {
        let result = run(grants, NONE, json!([])).await;
        assert_eq!(result.status, Status::Rejected);
        assert_eq!(result.failure.unwrap().denials.len(), 1);
    }
}

/// Nothing is opened for one whose deadline has passed. (That nobody waits for what does not open is
/// tested where that is waited for, in `src/sandbox/run`.)
#[tokio::test]
async fn nothing_is_opened_after_the_deadline() {
    let folder = Folder::new();
    let late = request(folder.granted(Mode::Ro), json!([]))
        .await
        .deadline(chrono::Utc::now() - chrono::Duration::seconds(1));
    let result = execute(host(), late).await;
    assert!(matches!(
        cause(&result),
        Cause::Timeout {
            limit: Limit::Deadline,
            phase: Phase::Waiting,
            ..
        }
    ));
}
