//! Installed skills behind a host: loaded when they are needed, and followed as they change.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use skillhost::execution::Phase;
use skillhost::grant::Grants;
use skillhost::limits::Limit;
use skillhost::policy::guard::Guards;
use skillhost::skill::{Library, Package, Packages, SkillRef};
use skillhost::{
    Cause, CompileEvent, CompileSettings, Control, Execute, ExecutionRequest, ExecutionResult,
    Host, InstalledSkills, Status,
};

use tokio_util::sync::CancellationToken;

use crate::handmade::Handmade;
use crate::harness::{builder, cause};

/// How long what was looked up holds, and a little more.
const SECOND: Duration = Duration::from_millis(1_100);

/// A skill of this name and version whose digest depends on `salt`, too.
fn package(name: &str, version: &str, salt: &str) -> Package {
    let mut handmade = Handmade::default();
    handmade.description.name = name.into();
    handmade.description.version = version.into();
    let component = handmade.build();
    let manifest = format!("# {salt}\n");
    Package::from_parts(component, Some(manifest), None).unwrap()
}

async fn install(library: &Library, package: &Package, replace: bool) {
    let host = builder().build().unwrap();
    let skill = host.load_package(package.clone()).await.unwrap();
    library
        .install(package, skill.description(), replace)
        .unwrap();
}

fn skills(library: &Library) -> InstalledSkills {
    InstalledSkills::builder(builder().build().unwrap(), library.clone()).build()
}

async fn run(skills: &InstalledSkills, reference: &str) -> ExecutionResult {
    let reference: SkillRef = reference.parse().unwrap();
    let request = ExecutionRequest::new(reference, json!({}));
    skills.execute(request, Control::default()).await.unwrap()
}

fn names(listing: &skillhost::host::Listing) -> Vec<String> {
    let skills = listing.skills.iter();
    skills
        .map(|skill| format!("{}@{}", skill.identity.name, skill.identity.version))
        .collect()
}

#[tokio::test]
async fn what_is_installed_is_listed_without_being_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    let skills = skills(&library);
    assert!(skills.list().await.unwrap().skills.is_empty());
    install(&library, &package("alpha", "1.0.0", ""), false).await;
    install(&library, &package("alpha", "1.1.0", ""), false).await;
    install(&library, &package("beta", "1.0.0", ""), false).await;
    let listing = skills.refresh().await.unwrap();
    assert_eq!(
        names(&listing),
        ["alpha@1.1.0", "alpha@1.0.0", "beta@1.0.0"]
    );
    let newest: Vec<_> = listing
        .newest()
        .map(|skill| &*skill.identity.version)
        .collect();
    assert_eq!(newest, ["1.1.0", "1.0.0"]);
    assert_eq!(listing.skills[0].description.tools.len(), 1);
    assert!(skills.host().skills().is_empty(), "nothing was loaded");
    // One that was installed before descriptions were kept is asked.
    fs::remove_file(folder.path().join("beta@1.0.0/description.json")).unwrap();
    let other = self::skills(&library);
    let listing = other.list().await.unwrap();
    assert_eq!(listing.skills[2].description.tools.len(), 1);
    assert_eq!(other.host().skills().len(), 1);
}

#[tokio::test]
async fn a_name_means_what_is_installed_now() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    let (old, new) = (
        package("alpha", "1.0.0", "a"),
        package("alpha", "1.0.0", "b"),
    );
    install(&library, &old, false).await;
    let skills = skills(&library);
    let ran = |result: &ExecutionResult| result.skill.as_ref().unwrap().digest;
    assert_eq!(ran(&run(&skills, "alpha").await), old.digest);

    install(&library, &new, true).await;
    skills.refresh().await.unwrap();
    let request = ExecutionRequest::new("alpha", json!({}));
    assert!(skills.resolve(&request).is_err(), "it is not loaded yet");
    assert_eq!(ran(&run(&skills, "alpha").await), new.digest);
    assert_eq!(skills.resolve(&request).unwrap().skill.digest, new.digest);
    let gone = run(&skills, &old.digest.to_string()).await;
    assert_eq!(cause(&gone), &Cause::NotLoaded);

    library.remove(&"alpha".into()).unwrap();
    skills.refresh().await.unwrap();
    assert_eq!(cause(&run(&skills, "alpha").await), &Cause::NotLoaded);
    assert!(skills.resolve(&request).is_err());
    assert!(skills.host().skills().is_empty());
    // One that was added stays.
    skills.add(old.clone()).await.unwrap();
    skills.refresh().await.unwrap();
    let added = run(&skills, &old.digest.to_string()).await;
    assert_eq!(added.status, Status::Success);
}

#[tokio::test]
async fn what_jobs_need_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path().join("skills"));
    let packages = Packages::new(folder.path().join("packages"));
    let kept = package("alpha", "1.0.0", "");
    install(&library, &kept, false).await;
    let builder = InstalledSkills::builder(builder().build().unwrap(), library.clone());
    let skills = builder.packages(packages).build();
    assert_eq!(run(&skills, "alpha").await.status, Status::Success);
    library.remove(&"alpha".into()).unwrap();
    skills.refresh().await.unwrap();
    assert_eq!(cause(&run(&skills, "alpha").await), &Cause::NotLoaded);
    let replayed = run(&skills, &kept.digest.to_string()).await;
    assert_eq!(replayed.status, Status::Success);
}

/// What is asked before anything is loaded is answered as an execution then ends.
#[tokio::test]
async fn a_skill_that_is_not_loaded_yet_can_be_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    let mut handmade = Handmade::default();
    handmade.description.name = "alpha".into();
    let (tool, _) = handmade.description.tools[0].clone();
    let schema = r#"{"type": "object", "properties": {"n": {"type": "integer"}}}"#;
    handmade.description.tools[0].1 = schema.into();
    let manifest = "[grants]\nenvironment = [\"TZ\"]\n[limits]\nfuel = 123456789\n";
    let alpha = Package::from_parts(handmade.build(), Some(manifest.into()), None).unwrap();
    install(&library, &alpha, false).await;
    let asked = |input| ExecutionRequest::new("alpha", input);
    let zone = Grants::default().environment("TZ", "UTC");
    let other = Grants::default().environment("HOME", "/");
    for (request, admitted) in [
        (asked(json!({"n": 1})), true),
        (asked(json!({"n": 1})).tool(&tool), true),
        (asked(json!({"n": 1})).grants(zone), true),
        (ExecutionRequest::new(alpha.digest, json!({})), true),
        (asked(json!({"n": "one"})), false),
        (asked(json!({})).tool("other"), false),
        (asked(json!({})).grants(other), false),
        (ExecutionRequest::new("beta", json!({})), false),
    ] {
        let skills = skills(&library);
        let before = skills.can_execute(&request);
        assert!(skills.host().skills().is_empty(), "nothing was loaded");
        assert_eq!(before.is_admitted(), admitted, "{before:?}");
        let result = (skills.execute(request.clone(), Control::default()).await).unwrap();
        assert_eq!(before.limits, result.limits);
        let causes = [&before.refusal, &result.failure].map(|failure| {
            let failure = failure.as_ref();
            failure.map(|failure| (failure.cause.clone(), failure.message.clone()))
        });
        assert_eq!(causes[0], causes[1]);
        let _ = skills.ready(&request).await;
        assert_eq!(before, skills.can_execute(&request));
    }
    // Of which nothing was kept, nothing is known: it is made ready first.
    fs::remove_file(folder.path().join("alpha@0.1.0/description.json")).unwrap();
    let skills = skills(&library);
    let request = asked(json!({"n": 1}));
    assert!(!skills.can_execute(&request).is_admitted());
    skills.ready(&request).await.unwrap();
    assert!(skills.can_execute(&request).is_admitted());
}

/// Whoever asks for a skill may be anybody.
#[tokio::test]
async fn what_is_wrong_with_the_library_is_told_without_naming_files() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    install(&library, &package("alpha", "1.0.0", "a"), false).await;
    let component = folder.path().join("alpha@1.0.0/skill.wasm");
    fs::write(&component, "something else").unwrap();
    let skills = skills(&library);
    let result = run(&skills, "alpha").await;
    assert_eq!(*cause(&result), Cause::NotLoaded);
    let failure = skills.load(&"alpha".parse().unwrap()).await.unwrap_err();
    for message in [result.failure.unwrap().message, failure.message] {
        assert!(message.contains("the host's log says why"), "{message}");
        assert!(!message.contains('/'), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_listens_hears_of_each_change() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    let skills = skills(&library);
    let mut changes = skills.subscribe().await.unwrap();
    assert!(changes.borrow_and_update().skills.is_empty());
    install(&library, &package("alpha", "1.0.0", "a"), false).await;
    changes.changed().await.unwrap();
    let first = changes.borrow_and_update().clone();
    assert_eq!(names(&first), ["alpha@1.0.0"]);
    install(&library, &package("alpha", "1.0.0", "b"), true).await;
    changes.changed().await.unwrap();
    let second = changes.borrow_and_update().clone();
    assert_ne!(first.skills[0].identity, second.skills[0].identity);
    library.remove(&"alpha".into()).unwrap();
    changes.changed().await.unwrap();
    assert!(changes.borrow_and_update().skills.is_empty());
}

fn write_policy(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_changed_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path().join("skills"));
    let path = folder.path().join("policy.toml");
    let host: Host = builder().build().unwrap();
    let skills = InstalledSkills::builder(host, library)
        .policy(&path)
        .build();
    // What is asked for makes no difference: the file is looked at on the way.
    let look = async || {
        run(&skills, "nobody").await;
    };
    look().await;
    assert!(skills.host().policy().is_none());
    write_policy(&path, "[skills.a.grants]\nconfig.x = 1\n");
    tokio::time::advance(SECOND).await;
    look().await;
    assert!(skills.host().policy().unwrap().skills.contains_key("a"));
    write_policy(&path, "this is none");
    tokio::time::advance(SECOND).await;
    look().await;
    assert!(
        skills.host().policy().unwrap().skills.contains_key("a"),
        "it stays"
    );
    // As it is while somebody writes it in place.
    write_policy(&path, "");
    tokio::time::advance(SECOND).await;
    look().await;
    assert!(skills.host().policy().unwrap().skills.contains_key("a"));
    write_policy(&path, "# Nothing is granted any more.\n");
    tokio::time::advance(SECOND).await;
    look().await;
    assert!(skills.host().policy().unwrap().skills.is_empty());
}

/// Whoever moves the file aside, if only for a moment, lifts no bound and answers no question.
#[tokio::test(start_paused = true)]
async fn a_policy_that_is_gone_still_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let deny = "[[approval.rules]]\naction = 'deny'\n";
    // One that is read on the way, and one that was read before.
    for given in [false, true] {
        write_policy(&path, deny);
        let host = builder().build().unwrap();
        if given {
            host.set_policy(Some(deny.parse().unwrap()));
            fs::remove_file(&path).unwrap();
        }
        let current = host.current_policy().clone();
        let library = Library::new(folder.path().join("skills"));
        let skills = InstalledSkills::builder(host, library)
            .policy(&path)
            .build();
        let skill = skills.add(package("a", "1.0.0", "")).await.unwrap();
        let guarded = Guards::new(current).around(Arc::new(skills));
        for _ in 0..3 {
            let request = ExecutionRequest::new(skill.digest(), json!({}));
            let ended = guarded.execute(request, Control::default()).await.unwrap();
            assert_eq!(ended.status, Status::Rejected, "{:?}", ended.failure);
            let _ = fs::remove_file(&path);
            tokio::time::advance(SECOND).await;
        }
    }
}

/// Who may write it, or its folder, is not in the file.
#[tokio::test(start_paused = true)]
async fn a_policy_is_read_again_once_it_was_mended() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("settings");
    fs::create_dir(&inside).unwrap();
    let path = inside.join("policy.toml");
    let library = Library::new(folder.path().join("skills"));
    let skills = InstalledSkills::builder(builder().build().unwrap(), library)
        .policy(&path)
        .build();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let granted = async |name: &str| {
        tokio::time::advance(SECOND).await;
        run(&skills, "nobody").await;
        let policy = skills.host().policy();
        policy.is_some_and(|policy| policy.skills.contains_key(name))
    };
    mode(&inside, 0o700);
    write_policy(&path, "[skills.a.grants]\nconfig.x = 1\n");
    mode(&path, 0o666);
    assert!(!granted("a").await, "others can write it");
    mode(&path, 0o600);
    assert!(granted("a").await);
    mode(&inside, 0o777);
    write_policy(&path, "[skills.b.grants]\nconfig.x = 1\n");
    assert!(!granted("b").await, "others can put another in its place");
    mode(&inside, 0o700);
    assert!(granted("b").await);
}

/// Skills behind a host that would compile for a minute; and when it has begun to.
fn slow_to_load(library: &Library) -> (InstalledSkills, std::sync::mpsc::Receiver<()>) {
    let (tell, heard) = std::sync::mpsc::channel();
    let minute = Duration::from_secs(60);
    let isolation =
        crate::child::isolation("/bin/sh".into(), &["-c", "exec sleep 60"], 1 << 30, minute);
    let host = Host::builder()
        .concurrency(2)
        .compile(CompileSettings {
            isolation,
            ..CompileSettings::default()
        })
        .on_compile(move |event| {
            if matches!(event, CompileEvent::Started { .. }) {
                // Whoever listened may have gone.
                let _ = tell.send(());
            }
        })
        .build()
        .unwrap();
    let skills = InstalledSkills::builder(host, library.clone()).build();
    (skills, heard)
}

#[tokio::test]
async fn a_deadline_holds_while_a_skill_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    install(&library, &package("alpha", "1.0.0", ""), false).await;
    let (skills, _heard) = slow_to_load(&library);
    for skills in bare_and_guarded(skills) {
        let mut request = ExecutionRequest::new("alpha", json!({}));
        request.deadline = Some(chrono::Utc::now() + Duration::from_millis(50));
        let result = skills.execute(request, Control::default()).await.unwrap();
        let Cause::Timeout { limit, phase, .. } = cause(&result) else {
            panic!("{result:?}");
        };
        assert_eq!((*limit, *phase), (Limit::Deadline, Phase::Waiting));
    }
}

#[tokio::test]
async fn a_request_can_be_cancelled_while_its_skill_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path());
    install(&library, &package("alpha", "1.0.0", ""), false).await;
    let (skills, heard) = slow_to_load(&library);
    // The second waits for what the first has begun to load.
    let mut heard = Some(heard);
    for skills in bare_and_guarded(skills) {
        let token = CancellationToken::new();
        let cancel = token.clone();
        let control = Control::default().cancellation(token);
        let request = ExecutionRequest::new("alpha", json!({}));
        let executing = tokio::spawn(async move { skills.execute(request, control).await });
        if let Some(heard) = heard.take() {
            let begun = tokio::task::spawn_blocking(move || heard.recv());
            begun.await.unwrap().unwrap();
        }
        cancel.cancel();
        let result = executing.await.unwrap().unwrap();
        let phase = Phase::Waiting;
        assert_eq!(cause(&result), &Cause::Cancelled { phase });
    }
}

/// As they are, and behind guards, which look a skill up first.
fn bare_and_guarded(skills: InstalledSkills) -> [Arc<dyn Execute>; 2] {
    let policy = skills.host().current_policy().clone();
    let guarded = Guards::new(policy).around(Arc::new(skills.clone()));
    [Arc::new(skills), guarded]
}
