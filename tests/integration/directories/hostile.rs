//! What a guest tries with paths: from where it must not take anything, by links of its own making, and
//! with names that are too long.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use serde_json::{Value, json};
use skillhost::grant::{Capability, Grants, Mode};
use skillhost::{Cause, ExecutionRequest, Status};

use super::{Folder, answers, error};
use crate::harness::{builder, cause, directories_path, execute};

/// What a call begins with leads out, rather than what it makes.
#[tokio::test]
async fn nothing_is_taken_from_outside() {
    let folder = Folder::new();
    symlink("../secret.txt", folder.open("out")).unwrap();
    symlink("..", folder.open("up")).unwrap();
    let secret = folder.0.path().join("secret.txt");
    let before = fs::metadata(&secret).unwrap();
    let absolute = secret.display().to_string();
    for path in [
        "../secret.txt",
        "./../secret.txt",
        "up/secret.txt",
        "up/open/../secret.txt",
        &absolute,
    ] {
        let answers = answers(
            folder.granted(Mode::Rw),
            json!([
                {"call": "rename", "at": 0, "path": path, "to": 0, "new_path": "x"},
                {"call": "link", "at": 0, "path": path, "to": 0, "new_path": "x"},
                {"call": "unlink", "at": 0, "path": path},
                {"call": "read_link", "at": 0, "path": path},
                {"call": "stat", "at": 0, "path": path},
                {"call": "stat", "at": 0, "path": path, "follow": true},
                {"call": "set_times", "at": 0, "path": path},
                {"call": "set_times", "at": 0, "path": path, "follow": true},
                {"call": "remove_directory", "at": 0, "path": path},
                {"call": "open", "at": 0, "path": path, "truncate": true, "write": true},
                {"call": "stat", "at": 0, "path": "x"},
            ]),
        )
        .await;
        let last = answers.len() - 1;
        for (number, answer) in answers[..last].iter().enumerate() {
            assert_eq!(answer, &error("not-permitted"), "{path}, call {number}");
        }
        assert_eq!(answers[last], error("no-entry"), "{path}");
    }
    // The link itself is the guest's to move, and not what stands at its end.
    let calls = json!([
        {"call": "set_times", "at": 0, "path": "out", "follow": true},
        {"call": "link", "at": 0, "path": "out", "to": 0, "new_path": "second"},
        {"call": "stat", "at": 0, "path": "second"},
        {"call": "rename", "at": 0, "path": "out", "to": 0, "new_path": "moved"},
        {"call": "open", "at": 0, "path": "moved", "follow": true},
    ]);
    let answers = answers(folder.granted(Mode::Rw), calls).await;
    assert_eq!(answers[0], error("not-permitted"));
    assert_eq!(answers[2]["type"], "DescriptorType::SymbolicLink");
    assert_eq!(answers[4], error("not-permitted"));
    let after = fs::metadata(&secret).unwrap();
    assert_eq!(after.nlink(), 1);
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
}

/// Links that lead nowhere where they are made, and are then carried to where they would lead out; and a
/// directory that is carried away beneath a handle on it.
#[tokio::test]
async fn links_that_the_guest_makes_do_not_lead_out() {
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
    let answers = answers(folder.granted(Mode::Rw), calls).await;
    let refused = error("not-permitted");
    for number in [2, 6, 9, 10, 11, 12] {
        assert_eq!(answers[number], refused, "call {number}: {answers:?}");
    }
    assert!(answers[5]["error"].is_string(), "{}", answers[5]);
    assert_eq!(answers[14], error("loop"));
    let secret = fs::read_to_string(folder.0.path().join("secret.txt")).unwrap();
    assert_eq!(secret, "secret");
}

/// Paths that no system takes, and names that no directory does: refused before the disk hears of them,
/// or by it.
#[tokio::test]
async fn names_that_are_too_long() {
    let folder = Folder::new();
    let (name, path) = ("n".repeat(256), "a/../".repeat(100_000));
    let longest = format!("{}a.txt", "./".repeat(2_045));
    assert_eq!(longest.len(), 4_095);
    let too_long = format!("{}a.txt", "./".repeat(2_046));
    for path in [&name, &path, &too_long] {
        let calls = json!([
            {"call": "open", "at": 0, "path": path, "create": true},
            {"call": "make_directory", "at": 0, "path": path},
            {"call": "rename", "at": 0, "path": "a.txt", "to": 0, "new_path": path},
            {"call": "rename", "at": 0, "path": path, "to": 0, "new_path": "b"},
            {"call": "link", "at": 0, "path": "a.txt", "to": 0, "new_path": path},
            {"call": "link", "at": 0, "path": path, "to": 0, "new_path": "b"},
            {"call": "symlink", "at": 0, "target": "a.txt", "path": path},
            {"call": "unlink", "at": 0, "path": path},
            {"call": "remove_directory", "at": 0, "path": path},
            {"call": "read_link", "at": 0, "path": path},
            {"call": "stat", "at": 0, "path": path},
            {"call": "set_times", "at": 0, "path": path},
            {"call": "set_times", "at": 0, "path": path, "follow": true},
        ]);
        let answers = answers(folder.granted(Mode::Rw), calls).await;
        for (number, answer) in answers.iter().enumerate() {
            let length = path.len();
            assert_eq!(answer, &error("name-too-long"), "{length}, call {number}");
        }
    }
    let target = "t/".repeat(3_000);
    let calls = json!([
        {"call": "symlink", "at": 0, "target": target, "path": "link"},
        {"call": "open", "at": 0, "path": longest},
    ]);
    let answers = answers(folder.granted(Mode::Rw), calls).await;
    assert_eq!(answers, [error("name-too-long"), json!({})]);
    let names: Vec<_> = fs::read_dir(folder.open("")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

/// The host's own folders are granted to nobody: neither by their names nor by those of what they lie in,
/// of links to them, or of what they contain.
#[tokio::test]
async fn the_hosts_own_folders_are_never_granted() {
    let place = tempfile::tempdir().unwrap();
    let at = |path: &str| place.path().join(path);
    for folder in [
        "home/cache",
        "home/scratch",
        "home/documents",
        "config/here",
    ] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(at("home/documents/a.txt"), "a").unwrap();
    symlink(at("home"), at("link")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(at("home/cache"), fs::Permissions::from_mode(0o700)).unwrap();
    let host = builder()
        .cache(at("home/cache"))
        .scratch(at("home/scratch"))
        .storage(at("kept/storage.db"))
        .never_grant(at("config/here/policy.toml"), Mode::Rw)
        .build()
        .unwrap();
    let skill = host.load(directories_path()).await.unwrap();
    let request = |path: &str, mode: Mode| {
        let grants = Grants::default().directory(at(path), "/data", mode);
        ExecutionRequest::new(skill.digest(), json!({"calls": []})).grants(grants)
    };
    for (path, mode) in [
        ("home", Mode::Ro),
        ("home", Mode::Rw),
        ("home/cache", Mode::Ro),
        ("home/documents/../cache", Mode::Rw),
        ("home/scratch", Mode::Rw),
        ("link", Mode::Rw),
        ("link/cache", Mode::Ro),
        ("", Mode::Rw),
        ("config", Mode::Rw),
        ("config/here", Mode::Rw),
    ] {
        let asked = request(path, mode);
        let admission = host.can_execute(&asked);
        let result = execute(&host, asked).await;
        assert_eq!(result.status, Status::Rejected, "{path}");
        assert!(matches!(cause(&result), Cause::Rejected { .. }));
        let failure = result.failure.unwrap();
        assert_eq!(failure.denials[0].capability, Capability::Directory);
        let reason = &failure.denials[0].reason;
        assert!(reason.contains("which is the host's own"), "{reason}");
        assert_eq!(admission.refusal, Some(failure), "{path}");
    }
    for (path, mode) in [("home/documents", Mode::Rw), ("config/here", Mode::Ro)] {
        let result = execute(&host, request(path, mode)).await;
        assert_eq!(
            result.status,
            Status::Success,
            "{path}: {:?}",
            result.failure
        );
    }
    // What is granted for an execution's own scratch directory lies in one of them, and is given.
    let scratch = ExecutionRequest::new(skill.digest(), json!({"calls": []}))
        .grants(Grants::default().scratch());
    let result = execute(&host, scratch).await;
    assert_eq!(
        result.output.unwrap()["granted"],
        Value::from(vec!["/scratch"])
    );
}
