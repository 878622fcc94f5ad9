//! Compiling in a child process, which is stopped when it takes too much.
//! (One that takes too much: see `tests/hostile/loading.rs`.)

use std::time::Duration;

use serde_json::json;
use skillhost::{
    CompileError, CompileEvent, CompileSettings, ExecutionRequest, Fault, Host, HostBuilder,
    LoadError, Status,
};

use crate::child::{isolation, settings};
use crate::handmade::Handmade;
use crate::harness::NONE;
use crate::harness::{behaviours_path, load, run_tool};

const MINUTE: Duration = Duration::from_secs(60);

/// Compiles in a child process, without a cache.
fn builder(memory_bytes: u64, wall_time: Duration) -> HostBuilder {
    let settings = settings(memory_bytes, wall_time);
    Host::builder().concurrency(2).compile(settings)
}

#[tokio::test]
async fn a_child_compiles_as_well_as_the_host() {
    let host = builder(4 << 30, MINUTE).build().unwrap();
    let skill = load(&host, &Handmade::default()).await;
    let result = run_tool(&host, skill.digest(), NONE).await;
    assert_eq!(result.status, Status::Success);
    let skill = host.load(behaviours_path()).await.unwrap();
    let request = ExecutionRequest::new(skill.digest(), json!({})).tool("echo");
    assert_eq!(host.execute(request).await.unwrap().status, Status::Success);
}

/// Valid to look at, and not to compile.
fn invalid() -> Vec<u8> {
    let skill = Handmade {
        fields: "(func (result i32) (nop) (i32.const 1) (drop))".into(),
        ..Handmade::default()
    };
    skill.build()
}

#[tokio::test]
async fn a_child_says_what_is_wrong_with_a_component() {
    let host = builder(4 << 30, MINUTE).build().unwrap();
    let error = host.load_bytes(invalid()).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::Compile(CompileError::Invalid(_))),
        "{error}"
    );
    assert!(error.to_string().contains("type mismatch"), "{error}");
}

#[tokio::test]
async fn a_child_that_is_none_is_an_error() {
    for (program, arguments) in [
        ("/nowhere/at/all", &[][..]),
        ("/bin/false", &[]),
        ("/bin/sh", &["-c", "exec sleep 60"]),
    ] {
        let host = Host::builder()
            .concurrency(2)
            .compile(CompileSettings {
                isolation: isolation(
                    program.into(),
                    arguments,
                    1 << 30,
                    Duration::from_millis(300),
                ),
                ..CompileSettings::default()
            })
            .build()
            .unwrap();
        let component = behaviours_path();
        let error = host.load(component).await.unwrap_err();
        assert!(
            matches!(
                &error,
                LoadError::Compile(CompileError::Child(_) | CompileError::Stopped(_))
            ),
            "{program}: {error}"
        );
    }
}

/// Who ends the compiler from outside says nothing about the component.
#[tokio::test]
async fn a_signal_from_elsewhere_is_not_the_components_fault() {
    for (signal, fault, said) in [
        ("KILL", Fault::Host, "something else ended it"),
        ("TERM", Fault::Host, "something else ended it"),
        ("XCPU", Fault::Skill, "it ran out of its processor time"),
    ] {
        let script = format!("ulimit -c 0; kill -{signal} $$; exec sleep 60");
        let host = Host::builder()
            .concurrency(2)
            .compile(CompileSettings {
                isolation: isolation("/bin/sh".into(), &["-c", &script], 1 << 30, MINUTE),
                ..CompileSettings::default()
            })
            .build()
            .unwrap();
        let error = host.load(behaviours_path()).await.unwrap_err();
        assert_eq!(error.fault(), fault, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

/// Nobody waits for it any more: it is killed, and not left to its limits.
#[tokio::test]
async fn a_child_goes_with_the_load_that_started_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("echo $$ > '{}'; exec sleep 600", file.display());
    let host = Host::builder()
        .concurrency(2)
        .compile(CompileSettings {
            isolation: isolation("/bin/sh".into(), &["-c", &script], 1 << 30, MINUTE),
            ..CompileSettings::default()
        })
        .build()
        .unwrap();
    let started = until(|| {
        let text = std::fs::read_to_string(&file).ok()?;
        text.trim_end().parse::<u32>().ok()
    });
    let process = tokio::select! {
        loaded = host.load(behaviours_path()) => panic!("{loaded:?}"),
        process = started => process,
    };
    let process = std::path::PathBuf::from(format!("/proc/{process}"));
    until(|| (!process.exists()).then_some(())).await;
}

/// Each takes up to some gigabytes and minutes.
#[tokio::test]
async fn no_more_are_compiled_at_once_than_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("started");
    std::fs::write(&file, "").unwrap();
    let started = || std::fs::read_to_string(&file).unwrap().lines().count();
    let script = format!("echo >> '{}'; exec sleep 600", file.display());
    let (tell, heard) = std::sync::mpsc::channel();
    let host = Host::builder()
        .compile(CompileSettings {
            at_once: 1,
            isolation: isolation("/bin/sh".into(), &["-c", &script], 1 << 30, MINUTE),
            ..CompileSettings::default()
        })
        .on_compile(move |event| {
            // Whoever listened may have gone.
            let _ = tell.send(event.clone());
        })
        .build()
        .unwrap();
    let load = |component: Vec<u8>| {
        let host = host.clone();
        tokio::spawn(async move { host.load_bytes(component).await.map(drop) })
    };
    let first = load(std::fs::read(behaviours_path()).unwrap());
    until(|| (started() == 1).then_some(())).await;
    let second = load(Handmade::default().build());
    let waiting = until(|| {
        heard
            .try_iter()
            .find(|event| !matches!(event, CompileEvent::Started { .. }))
    });
    let event = waiting.await;
    assert!(matches!(event, CompileEvent::Waiting { .. }), "{event:?}");
    assert_eq!(started(), 1, "the other waits");
    first.abort();
    until(|| (started() == 2).then_some(())).await;
    let event = heard.recv().unwrap();
    assert!(matches!(event, CompileEvent::Waited { .. }), "{event:?}");
    second.abort();
}

/// What is there after a while.
async fn until<T>(look: impl Fn() -> Option<T>) -> T {
    let looking = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(MINUTE / 2, looking)
        .await
        .expect("it happens in time")
}
