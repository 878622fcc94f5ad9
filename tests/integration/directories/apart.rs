//! The host's own folders stand apart from all that can be granted.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use skillhost::grant::{Capability, Grants, Mode};
use skillhost::{Cause, ExecutionRequest, Status};

use crate::harness::{builder, cause, directories_path, execute, output};

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
        assert!(reason.ends_with(" is the host's own"), "{reason}");
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
    // What the policy names while the host runs stands apart from then on: a secret's file, and the audit.
    for named in [
        format!(
            "[secrets]\nkey = \"file:{}\"",
            at("home/documents/a.txt").display()
        ),
        format!(
            "[audit]\nfolder = \"{}\"",
            at("home/documents/audit").display()
        ),
    ] {
        host.set_policy(Some(named.parse().unwrap()));
        for mode in [Mode::Ro, Mode::Rw] {
            let result = execute(&host, request("home/documents", mode)).await;
            assert_eq!(result.status, Status::Rejected, "{named}");
            let reason = &result.failure.unwrap().denials[0].reason;
            assert!(reason.contains("which is the host's own"), "{reason}");
        }
        host.set_policy(None);
        let result = execute(&host, request("home/documents", Mode::Ro)).await;
        assert_eq!(result.status, Status::Success, "{named}");
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

/// Whoever may write where a link stands decides where it leads: a grant below a directory that is written in, by
/// the same request or by the policy, is not led out by what a skill has put into its place.
#[tokio::test]
async fn no_grant_is_led_out_by_a_link_that_a_skill_put_there() {
    for by_policy in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir_all(at("open/sub")).unwrap();
        fs::write(at("secret.txt"), "secret").unwrap();
        symlink("..", at("open/found")).unwrap();
        let mut policy = skillhost::Policy::default();
        let may_write = Grants::default().directory(at("open"), "/data", Mode::Rw);
        if by_policy {
            let another = policy.skills.entry("another".into()).or_default();
            another.grants = may_write.clone();
        }
        let host = builder().policy(policy).build().unwrap();
        let skill = host.load(directories_path()).await.unwrap();
        let request = |grants: Grants, calls: Value| {
            ExecutionRequest::new(skill.digest(), json!({ "calls": calls })).grants(grants)
        };
        let rename = |from: &str, to: &str| json!({"call": "rename", "at": 0, "path": from, "to": 0, "new_path": to});
        let calls = json!([rename("sub", "old"), rename("found", "sub")]);
        let result = execute(&host, request(may_write.clone(), calls)).await;
        assert_eq!(output(&result)["answers"], json!([{}, {}]));

        let below = match by_policy {
            true => Grants::default(),
            false => may_write,
        };
        let below = below.directory(at("open/sub"), "/below", Mode::Ro);
        let asked = request(below, json!([]));
        let admission = host.can_execute(&asked);
        let result = execute(&host, asked).await;
        assert_eq!(result.status, Status::Rejected, "{:?}", result.output);
        let failure = result.failure.unwrap();
        let reason = &failure.denials[0].reason;
        assert!(reason.contains("led to by"), "{reason}");
        assert_eq!(admission.refusal, Some(failure));
    }
}
