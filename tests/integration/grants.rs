//! What a guest may touch: exactly what is granted.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skillhost::execution::Rejection;
use skillhost::grant::{Capability, Denial, Grants, Mode, Remedy};
use skillhost::skill::{Manifest, Package};
use skillhost::{Cause, Event, ExecutionResult, Host, Skill, Status};
use uuid::Uuid;

use crate::harness::{
    behaviours_path, builder, cause, directories_path, execute, host, network_path, output, request,
};

/// Runs one of the behaviours with these grants.
async fn with(grants: &Grants, tool: &str, input: Value) -> Value {
    let request = request(host(), tool, input).await.grants(grants.clone());
    let result = execute(host(), request).await;
    output(&result).clone()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("open")).unwrap();
    fs::write(folder.path().join("open/a.txt"), "a").unwrap();
    fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    folder
}

#[tokio::test]
async fn without_a_grant_nothing_is_visible() {
    let nothing = Grants::default();
    for path in ["/", ".", "/etc", "/etc/hostname", "/proc/self/environ", ""] {
        for tool in ["list", "read"] {
            let answer = with(&nothing, tool, json!({ "path": path })).await;
            assert!(answer["error"].is_string(), "{tool} {path:?}: {answer}");
        }
    }
    let answer = with(&nothing, "environment", json!({})).await;
    assert_eq!(
        answer["variables"],
        json!([]),
        "the host's own does not leak"
    );
    assert_eq!(answer["arguments"], json!([]));
    let answer = with(&nothing, "config", json!({"key": "a"})).await;
    assert_eq!(answer, json!({"value": null, "all": []}));
    let answer = with(&nothing, "stdin", json!({})).await;
    assert_eq!(answer, json!({"bytes": 0}));
}

#[tokio::test]
async fn a_directory_can_be_read() {
    let folder = folder();
    let grants = Grants::default().directory(folder.path().join("open"), "/data", Mode::Ro);
    let answer = with(&grants, "list", json!({"path": "/data"})).await;
    assert_eq!(answer, json!({"names": ["a.txt"]}));
    let answer = with(&grants, "read", json!({"path": "/data/a.txt"})).await;
    assert_eq!(answer, json!({"text": "a"}));
    // But not written to.
    let writes = [
        ("write", json!({"path": "/data/a.txt", "text": "b"})),
        ("write", json!({"path": "/data/new.txt", "text": "b"})),
        ("remove", json!({"path": "/data/a.txt"})),
    ];
    for (tool, input) in writes {
        let answer = with(&grants, tool, input).await;
        assert!(answer["error"].is_string(), "{tool}: {answer}");
    }
    let entries: Vec<_> = fs::read_dir(folder.path().join("open")).unwrap().collect();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        fs::read_to_string(folder.path().join("open/a.txt")).unwrap(),
        "a"
    );
}

#[tokio::test]
async fn a_directory_can_be_written_to_where_that_is_granted() {
    let folder = folder();
    let grants = Grants::default().directory(folder.path().join("open"), "/data", Mode::Rw);
    let answer = with(
        &grants,
        "write",
        json!({"path": "/data/b.txt", "text": "b"}),
    )
    .await;
    assert_eq!(answer, json!({}));
    assert_eq!(
        fs::read_to_string(folder.path().join("open/b.txt")).unwrap(),
        "b"
    );
    assert_eq!(
        with(&grants, "remove", json!({"path": "/data/a.txt"})).await,
        json!({})
    );
    assert!(!folder.path().join("open/a.txt").exists());
}

#[tokio::test]
async fn no_path_leads_out_of_a_directory() {
    let folder = folder();
    let open = folder.path().join("open");
    symlink("../secret.txt", open.join("relative")).unwrap();
    symlink(folder.path().join("secret.txt"), open.join("absolute")).unwrap();
    symlink("..", open.join("up")).unwrap();
    symlink("/", open.join("root")).unwrap();
    let secret = folder.path().join("secret.txt");
    let grants = Grants::default().directory(&open, "/data", Mode::Rw);
    for path in [
        "/data/../secret.txt",
        "/data/open/../../secret.txt",
        "/data/a.txt/../../secret.txt",
        "/data/relative",
        "/data/absolute",
        "/data/up/secret.txt",
        "/data/root/etc/hostname",
        "/data//../secret.txt",
        "../secret.txt",
        "secret.txt",
        secret.to_str().unwrap(),
        "/etc/hostname",
    ] {
        let read = with(&grants, "read", json!({ "path": path })).await;
        assert!(read["error"].is_string(), "{path}: {read}");
        let write = with(&grants, "write", json!({"path": path, "text": "broken"})).await;
        assert!(write["error"].is_string(), "{path}: {write}");
        let _ = with(&grants, "remove", json!({ "path": path })).await;
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret", "{path}");
    }
}

/// Opening one would wait for a writer, on a thread of the host's that nothing interrupts.
#[tokio::test]
async fn a_fifo_does_not_hold_the_host_up() {
    let folder = folder();
    let fifo = folder.path().join("open/fifo");
    let made = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    assert!(made.success());
    let limits = skillhost::LimitOverrides {
        wall_time: Some(std::time::Duration::from_millis(300)),
        ..crate::harness::NONE
    };
    let grants = Grants::default().directory(folder.path().join("open"), "/data", Mode::Rw);
    let request = request(host(), "read", json!({"path": "/data/fifo"}))
        .await
        .grants(grants)
        .limits(limits);
    let result = execute(host(), request).await;
    assert!(output(&result)["error"].is_string(), "{result:?}");
    assert!(result.usage.wall_time < std::time::Duration::from_secs(3));
    crate::harness::check_undisturbed(host()).await;
}

/// However much a guest asks for, the host reads it in pieces.
#[tokio::test]
async fn a_large_read_is_no_large_allocation() {
    let folder = folder();
    let file = fs::File::create(folder.path().join("open/large")).unwrap();
    file.set_len(1 << 40).unwrap();
    let grants = Grants::default().directory(folder.path().join("open"), "/data", Mode::Ro);
    for bytes in [1_u64 << 30, u64::MAX] {
        let input = json!({"name": "large", "bytes": bytes});
        let answer = with(&grants, "read_at_once", input).await;
        for how in ["read", "streamed"] {
            let read = answer[how].as_u64().unwrap();
            assert!((1..=1 << 20).contains(&read), "{how} {bytes}: {answer}");
        }
    }
}

#[tokio::test]
async fn variables_and_configuration_are_what_was_granted() {
    let grants = Grants::default()
        .environment("TZ", "UTC")
        .environment("EMPTY", "")
        .config("rows", "50");
    let answer = with(&grants, "environment", json!({})).await;
    assert_eq!(answer["variables"], json!([["EMPTY", ""], ["TZ", "UTC"]]));
    let answer = with(&grants, "config", json!({"key": "rows"})).await;
    assert_eq!(answer, json!({"value": "50", "all": [["rows", "50"]]}));
    let answer = with(&grants, "config", json!({"key": "other"})).await;
    assert_eq!(answer["value"], Value::Null);
}

/// The behaviours with a `skill.toml`.
async fn declared(host: &Host, manifest: &str) -> Skill {
    let component = fs::read(behaviours_path()).unwrap();
    let package = Package::from_parts(component, Some(manifest.into()), None).unwrap();
    host.load_package(package).await.unwrap()
}

async fn run(
    host: &Host,
    skill: &Skill,
    tool: &str,
    input: Value,
    grants: Grants,
) -> ExecutionResult {
    let request = skillhost::ExecutionRequest::new(skill.digest(), input)
        .tool(tool)
        .grants(grants);
    let admission = host.can_execute(&request);
    let result = execute(host, request).await;
    assert_eq!(admission.refusal, result.failure);
    result
}

const MANIFEST: &str = r#"
    [grants]
    environment = ["TZ"]
    [[grants.directories]]
    path = "/data"
    mode = "ro"
    [config.rows]
    type = "integer"
    default = 10
    [config.name]
    type = "string"
    [limits]
    fuel = 123_000_000
"#;

#[tokio::test]
async fn what_is_declared_and_granted_holds() {
    let host = builder().build().unwrap();
    let skill = declared(&host, MANIFEST).await;
    let folder = folder();
    let grants = Grants::default()
        .directory(folder.path().join("open"), "/data", Mode::Rw)
        .environment("TZ", "UTC");
    let result = run(
        &host,
        &skill,
        "write",
        json!({"path": "/data/a.txt", "text": "b"}),
        grants.clone(),
    )
    .await;
    assert!(
        output(&result)["error"].is_string(),
        "the narrower mode wins"
    );
    assert_eq!(result.limits.fuel, 123_000_000, "the skill's own limits");
    let result = run(
        &host,
        &skill,
        "read",
        json!({"path": "/data/a.txt"}),
        grants.clone(),
    )
    .await;
    assert_eq!(output(&result), &json!({"text": "a"}));
    let result = run(
        &host,
        &skill,
        "config",
        json!({"key": "rows"}),
        grants.clone(),
    )
    .await;
    assert_eq!(output(&result)["value"], "10", "the declared default");
    let result = run(
        &host,
        &skill,
        "config",
        json!({"key": "rows"}),
        grants.config("rows", "20"),
    )
    .await;
    assert_eq!(output(&result)["value"], "20");

    let request = skillhost::ExecutionRequest::new(skill.digest(), json!({})).tool("echo");
    let missing = host.can_execute(&request).missing;
    let flags = [
        "--dir '<HOST>:/data:ro'",
        "--env 'TZ=<VALUE>'",
        "--config 'name=<VALUE>'",
    ];
    assert_eq!(missing.len(), flags.len());
    for (denial, flag) in missing.iter().zip(flags) {
        let hint = &denial.hint;
        assert!(
            hint.contains(&format!("for this run with `{flag}`")),
            "{hint}"
        );
        let for_good = format!("`skillhost policy grant behaviours {flag}`");
        assert!(hint.contains(&for_good), "{hint}");
    }
    assert_eq!(
        execute(&host, request).await.status,
        Status::Success,
        "it runs without"
    );
}

#[tokio::test]
async fn what_is_granted_and_not_declared_is_refused() {
    let host = builder().build().unwrap();
    let skill = declared(&host, MANIFEST).await;
    let folder = folder();
    for (grants, capability, hint) in [
        (
            Grants::default().directory(folder.path(), "/dat", Mode::Ro),
            Capability::Directory,
            "did you mean `HOST:/data`?",
        ),
        (
            Grants::default().environment("HOME", "/root"),
            Capability::Environment,
            "the skill declares: `TZ`",
        ),
        (
            Grants::default().config("row", "1"),
            Capability::Config,
            "did you mean `rows`?",
        ),
        (
            Grants::default().config("rows", "many"),
            Capability::Config,
            "give `rows` a value of type integer",
        ),
    ] {
        let result = run(&host, &skill, "echo", json!({}), grants).await;
        assert_eq!(result.status, Status::Rejected);
        let Cause::Rejected { reason, .. } = cause(&result) else {
            panic!("{:?}", result.failure)
        };
        let denials = &result.failure.as_ref().unwrap().denials;
        assert_eq!((*reason, denials.len()), (Rejection::Grant, 1));
        assert_eq!(denials[0].capability, capability);
        assert_eq!(denials[0].hint, hint);
        assert_eq!(result.failure.as_ref().unwrap().hint.as_deref(), Some(hint));
        assert_eq!(result.usage.fuel, 0);
    }
    let manifest: Manifest = MANIFEST.parse().unwrap();
    assert_eq!(skill.manifest(), Some(&manifest));
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_refused() {
    let folder = folder();
    for host_path in [
        folder.path().join("nowhere"),
        folder.path().join("secret.txt"),
    ] {
        let grants = Grants::default().directory(&host_path, "/data", Mode::Ro);
        let request = request(host(), "echo", json!({})).await.grants(grants);
        let refusal = host().can_execute(&request).refusal.unwrap();
        let result = execute(host(), request).await;
        assert_eq!(result.status, Status::Rejected);
        let failure = result.failure.unwrap();
        assert!(
            failure.message.contains(host_path.to_str().unwrap()),
            "{failure}"
        );
        assert_eq!(refusal.status(), Status::Rejected);
    }
}

/// A skill that fails may have failed for want of what it declares, where it looked for that: its failure
/// names it, with what to add. What it never looked for is no reason.
#[tokio::test]
async fn a_failure_names_what_is_not_granted_and_was_looked_for() {
    let host = builder().build().unwrap();
    let skill = declared(&host, MANIFEST).await;
    let fails = |tool: &str, input: Value, grants: Grants| {
        let request = skillhost::ExecutionRequest::new(skill.digest(), input)
            .tool(tool)
            .grants(grants);
        let host = host.clone();
        async move { execute(&host, request).await.failure.unwrap() }
    };
    let looking = |what: Value| json!({"message": "no", "look_for": what});
    let all = Grants::default;
    for (what, capability, subject) in [
        (json!({"path": "/data/a"}), Capability::Directory, "/data"),
        (json!({"variable": "TZ"}), Capability::Environment, "TZ"),
        (json!({"key": "name"}), Capability::Config, "name"),
    ] {
        let failure = fails("fail", looking(what), all()).await;
        let missing = failure.missing.iter();
        let missing: Vec<_> = missing
            .map(|one| (one.capability, one.subject.as_str()))
            .collect();
        assert_eq!(missing, [(capability, subject)]);
        assert_eq!(failure.denials, [], "nothing was refused to it");
        let json = serde_json::to_value(&failure).unwrap();
        assert_eq!(json["missing"][0]["capability"], capability.as_str());
        let start = format!("the skill wants {capability} `{subject}`");
        let hint = failure.hint.unwrap();
        assert!(hint.starts_with(&start), "{hint}");
    }
    let line = "`skillhost policy grant behaviours --dir '<HOST>:/data:ro'`";
    let failure = fails("fail", looking(json!({"path": "/data/a"})), all()).await;
    assert!(failure.missing[0].hint.contains(line), "{failure:?}");

    // Neither looked for anything, though a panic reads the environment to know how much to say.
    for tool in ["fail", "panic"] {
        let failure = fails(tool, json!({"message": "no"}), all()).await;
        assert_eq!(failure.missing, [], "{tool}");
        assert_eq!(failure.hint, None, "{tool}");
    }
    // What its manifest lacks is its author's to add.
    let other = looking(json!({"key": "other"}));
    let missing = fails("fail", other, all()).await.missing;
    let [other] = missing.as_slice() else {
        panic!("{missing:?}");
    };
    assert_eq!(
        (other.subject.as_str(), other.remedy),
        ("other", Remedy::Skill)
    );
    // One that names what it lacks is believed.
    let failure = fails("panic", json!({"message": "set TZ"}), all()).await;
    assert_eq!(failure.missing[0].subject, "TZ");

    // What is granted is not missing, and what never ran lacks nothing.
    let folder = folder();
    let granted = Grants::default()
        .directory(folder.path().join("open"), "/data", Mode::Ro)
        .environment("TZ", "UTC")
        .config("name", "x");
    let everything = looking(json!({"path": "/data/a", "variable": "TZ", "key": "name"}));
    assert_eq!(fails("fail", everything.clone(), granted).await.missing, []);
    let misspelt = Grants::default().environment("TX", "UTC");
    assert_eq!(fails("fail", everything, misspelt).await.missing, []);
}

/// What it looked for and does not even declare is its author's to add; without a manifest, whoever grants can give it.
#[tokio::test]
async fn a_failure_names_what_was_looked_for_and_is_not_declared() {
    let host = builder().build().unwrap();
    let fails = async |skill: &Skill, look_for: Value, grants: Grants| {
        let input = json!({"message": "no", "look_for": look_for});
        let request = skillhost::ExecutionRequest::new(skill.digest(), input)
            .tool("fail")
            .grants(grants);
        let failure = execute(&host, request).await.failure.unwrap();
        assert_eq!(failure.denials, [], "nothing was refused to it");
        (failure.missing, failure.hint.unwrap_or_default())
    };
    let (path, key) = (json!({"path": "/data/a"}), json!({"key": "other key"}));
    let none = Grants::default;
    let folder = folder();
    let given = || none().directory(folder.path().join("open"), "/other", Mode::Ro);
    // The only one, and the hint has all of it.
    let the_one = |missing: &[Denial], hint: &str| {
        let [one] = missing else {
            panic!("{missing:?}");
        };
        assert!(one.is_said_in(hint), "{one:?}: {hint}");
        assert!(hint.starts_with(&one.reason), "{one:?}: {hint}");
        let json = serde_json::to_value(one).unwrap();
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        ["capability", "subject", "remedy", "grant"].map(text)
    };

    let skill = declared(&host, "[grants]").await;
    let (missing, said) = fails(&skill, path.clone(), none()).await;
    assert_eq!(the_one(&missing, &said), ["directory", "*", "skill", ""]);
    assert!(
        said.contains("the skill's skill.toml declares none"),
        "{said}"
    );
    assert!(
        said.contains(r#"`directories = [{ path = "*", mode = "ro" }]`"#),
        "{said}"
    );
    let (missing, said) = fails(&skill, key.clone(), none()).await;
    assert_eq!(
        the_one(&missing, &said),
        ["config", "other key", "skill", ""]
    );
    assert!(said.contains("a table `[config.\"other key\"]`"), "{said}");
    let unseen = fails(&skill, json!({"variable": "A"}), none()).await;
    assert_eq!(unseen, (vec![], String::new()));
    // Each of several, and the first is the hint.
    let both = json!({"path": "/data/a", "key": "other key"});
    let (missing, said) = fails(&skill, both.clone(), none()).await;
    let capabilities: Vec<_> = missing.iter().map(|one| one.capability).collect();
    assert_eq!(capabilities, [Capability::Config, Capability::Directory]);
    assert!(missing[0].is_said_in(&said), "{said}");

    let bare = host.load(behaviours_path()).await.unwrap();
    let (missing, said) = fails(&bare, path.clone(), none()).await;
    let line = "`skillhost policy grant behaviours --dir '<HOST>:<GUEST>:ro'`";
    let grant = "<HOST>:<GUEST>:ro";
    assert_eq!(the_one(&missing, &said), ["directory", "*", "grant", grant]);
    assert!(said.contains("was granted none"), "{said}");
    assert!(said.contains(line), "{said}");
    // It was granted another, whose path is said; and none where it looked there.
    let (missing, said) = fails(&bare, path, given()).await;
    assert_eq!(missing, []);
    assert!(
        said.contains("nothing below what it is granted: `/other`;"),
        "{said}"
    );
    let there = json!({"path": "/other/a"});
    let (missing, said) = fails(&bare, there, given()).await;
    assert_eq!(missing, []);
    let last = "the last path that the skill looked for is not there: `a` in `/other`; if that is why, give it another";
    assert_eq!(said, last);
    // That it declares another place, of which it says nothing, is no better reason.
    let manifest =
        "grants = { scratch = true, directories = [{ path = \"/other\", mode = \"ro\" }] }";
    let declaring = declared(&host, manifest).await;
    let astray = json!({"path": "/etc/passwd"});
    let (missing, said) = fails(&declaring, astray, given()).await;
    let capabilities: Vec<_> = missing.iter().map(|one| one.capability).collect();
    assert_eq!(capabilities, [Capability::Scratch]);
    assert!(
        said.contains("nothing below what it is granted: `/other`;"),
        "{said}"
    );
    let (missing, said) = fails(&bare, json!({"key": "max_rows"}), none()).await;
    let line = "`skillhost policy grant behaviours --config 'max_rows=<VALUE>'`";
    let grant = "max_rows=<VALUE>";
    assert_eq!(
        the_one(&missing, &said),
        ["config", "max_rows", "grant", grant]
    );
    assert!(
        said.contains("key `max_rows`, which it was not given"),
        "{said}"
    );
    assert!(said.contains(line), "{said}");
    let with_it = none().config("max_rows", "7");
    let given = fails(&bare, json!({"key": "max_rows"}), with_it).await;
    assert_eq!(given, (vec![], String::new()));
    // Its own words say that it is about a variable, and about which.
    let variable = async |skill: &Skill, grants: Grants| {
        let message = "the environment variable API_KEY is not set";
        let input = json!({"message": message, "look_for": {"variable": "API_KEY"}});
        let request = skillhost::ExecutionRequest::new(skill.digest(), input);
        let failed = execute(&host, request.tool("fail").grants(grants)).await;
        let failure = failed.failure.unwrap();
        (failure.missing, failure.hint.unwrap_or_default())
    };
    let (missing, said) = variable(&bare, none()).await;
    let grant = "API_KEY=<VALUE>";
    assert_eq!(
        the_one(&missing, &said),
        ["environment", "API_KEY", "grant", grant]
    );
    let given = variable(&bare, none().environment("API_KEY", "")).await;
    assert_eq!(given, (vec![], String::new()));
    let (missing, said) = variable(&skill, none()).await;
    assert_eq!(
        the_one(&missing, &said),
        ["environment", "API_KEY", "skill", ""]
    );
    // What its message names goes before others that it declares.
    let several = "grants.environment = [\"LANG\", \"API_KEY\", \"TZ\"]";
    let (missing, said) = variable(&declared(&host, several).await, none()).await;
    let subjects: Vec<_> = missing.iter().map(|one| one.subject.as_str()).collect();
    assert_eq!(subjects, ["API_KEY", "LANG", "TZ"]);
    assert!(said.contains("environment `API_KEY`"), "{said}");
    // Also where more are declared than are told.
    let others: Vec<String> = (0..30)
        .map(|at| format!("{:?}", format!("V{at}")))
        .collect();
    let many = format!("grants.environment = [{}, \"API_KEY\"]", others.join(", "));
    let (missing, said) = variable(&declared(&host, &many).await, none()).await;
    assert_eq!(missing[0].subject, "API_KEY");
    assert!(said.contains("environment `API_KEY`"), "{said}");
    // One that it declares, and one that it does not.
    let message = "neither environment variable API_KEY nor environment variable OTHER_KEY is set";
    let input = json!({"message": message, "look_for": {"variable": "API_KEY"}});
    let declaring = declared(&host, "grants.environment = [\"API_KEY\"]").await;
    let request = skillhost::ExecutionRequest::new(declaring.digest(), input);
    let failed = execute(&host, request.tool("fail")).await;
    let missing = failed.failure.unwrap().missing;
    let told: Vec<_> = missing
        .iter()
        .map(|one| (one.subject.as_str(), one.remedy))
        .collect();
    let both_told = [("API_KEY", Remedy::Grant), ("OTHER_KEY", Remedy::Skill)];
    assert_eq!(told, both_told);
    let declaring = declared(&host, "grants.environment = [\"LANG\", \"TZ\"]").await;
    let (missing, said) = variable(&declaring, none()).await;
    let [_, _, undeclared] = missing.as_slice() else {
        panic!("{missing:?}");
    };
    assert_eq!(undeclared.subject, "API_KEY");
    assert!(said.starts_with(&undeclared.reason), "{said}");
    let (missing, _) = fails(&bare, both, none()).await;
    let capabilities: Vec<_> = missing.iter().map(|one| one.capability).collect();
    assert_eq!(capabilities, [Capability::Directory, Capability::Config]);
}

/// What a skill does not declare is no grant's to give, and observers hear that at once.
#[tokio::test]
async fn observers_hear_what_no_grant_changes() {
    let component = fs::read(network_path()).unwrap();
    let manifest = "grants.http = [\"GET http://a.example\"]";
    let package = Package::from_parts(component, Some(manifest.into()), None).unwrap();
    let skill = host().load_package(package).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&told);
    let observer = move |_: Uuid, event: &Event<'_>| {
        if let Event::Denied { denial } = event {
            hear.lock().unwrap().push((*denial).clone());
        }
    };
    let calls = json!({"authority": "b.example", "path": "/x"});
    let request = skillhost::ExecutionRequest::new(skill.digest(), calls).tool("request");
    let control = skillhost::Control::default().observer(Arc::new(observer));
    let result = host().execute_with(request, control).await.unwrap();
    let told = told.lock().unwrap();
    let [denial] = &told[..] else {
        panic!("one: {told:?}\n{result:?}");
    };
    assert_eq!(denial.remedy, Remedy::Skill);
    let line = "`http = [\"GET http://b.example/x\"]` under `[grants]`";
    assert!(
        denial.hint.starts_with("no grant changes that") && denial.hint.contains(line),
        "{denial:?}"
    );
}

/// Where it is not the operator who reads them, failures name no path of the host's and no flag of the command.
#[tokio::test]
async fn strangers_hear_of_no_paths_and_no_flags() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().to_str().unwrap().to_owned();
    let manifest = r#"
        grants.directories = [{ path = "*", mode = "rw" }]
        grants.environment = ["TZ"]
    "#;
    let component = fs::read(directories_path()).unwrap();
    for operator in [true, false] {
        let host = builder().for_operator(operator).build().unwrap();
        let package = Package::from_parts(component.clone(), Some(manifest.into()), None).unwrap();
        let skill = host.load_package(package).await.unwrap();
        let file = place.path().join("file");
        fs::write(&file, "content").unwrap();
        let calls = json!({"calls": [{"call": "open", "at": 0, "path": "x", "write": true, "create": true}]});
        let missing = place.path().join("missing");
        for (grants, input) in [
            (
                Grants::default().directory(place.path(), "/data", Mode::Ro),
                calls.clone(),
            ),
            (
                Grants::default().directory(&missing, "/data", Mode::Ro),
                calls.clone(),
            ),
            (
                Grants::default().directory(&file, "/data", Mode::Ro),
                calls.clone(),
            ),
            (Grants::default(), json!({"calls": "not a list"})),
        ] {
            let request = skillhost::ExecutionRequest::new(skill.digest(), input)
                .tool("calls")
                .grants(grants.clone());
            let admission = host.can_execute(&request);
            let told = Arc::new(Mutex::new(String::new()));
            let hear = Arc::clone(&told);
            let observer = move |_: Uuid, event: &Event<'_>| {
                // What is granted is for the operator's own eyes.
                if !matches!(event, Event::Admitted { .. }) {
                    hear.lock().unwrap().push_str(&format!("{event:?}"));
                }
            };
            let control = skillhost::Control::default().observer(Arc::new(observer));
            let result = host.execute_with(request, control).await.unwrap();
            let said = format!(
                "{} {} {}",
                json!(result),
                json!(admission.missing),
                json!(admission.refusal)
            );
            let told = told.lock().unwrap();
            if operator {
                // So that there is something to be left out.
                let told = format!("{said} {told}");
                let flag = told.contains("for this run with `--");
                assert!(told.contains(&path) || flag, "{told}");
                continue;
            }
            assert!(!said.contains(&path), "{said}");
            assert!(!told.contains(&path), "{told}");
            assert!(!said.contains("for this run") && !told.contains("for this run"));
            assert!(!said.contains("with `--"), "{said}");
        }
    }
}
