//! Compiling in a child process, which is stopped when it takes too much.
//!
//! The child is this test binary itself, told to run the one test that calls `compile_child`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use skillhost::{
    CompileError, CompileSettings, ExecutionRequest, Host, HostBuilder, Isolation, LoadError,
    Status,
};

use crate::handmade::Handmade;
use crate::harness::{behaviours_path, load, run_tool};
use crate::limits::NONE;

#[test]
#[ignore = "the child process of other tests"]
fn the_child() {
    let arguments: Vec<_> = std::env::args_os().collect();
    let code = skillhost::compile_child(arguments[arguments.len() - 3..].to_vec());
    let codes = [0_u8, 1, 2];
    let number = codes.iter().find(|number| ExitCode::from(**number) == code);
    std::process::exit(number.map_or(101, |number| (*number).into()));
}

/// Compiles in a child process, without a cache.
fn builder(memory_bytes: u64, wall_time: Duration) -> HostBuilder {
    let arguments = [
        "compiling::the_child",
        "--exact",
        "--ignored",
        "--nocapture",
    ];
    Host::builder().concurrency(2).compile(CompileSettings {
        isolation: child(
            std::env::current_exe().unwrap(),
            &arguments,
            memory_bytes,
            wall_time,
        ),
        ..CompileSettings::default()
    })
}

fn child(program: PathBuf, arguments: &[&str], memory: u64, time: Duration) -> Isolation {
    let arguments = arguments.iter().map(Into::into).collect();
    let mut isolation = Isolation::child(program, arguments);
    if let Isolation::Child {
        memory_bytes,
        wall_time,
        ..
    } = &mut isolation
    {
        (*memory_bytes, *wall_time) = (memory, time);
    }
    isolation
}

const MINUTE: Duration = Duration::from_secs(60);

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

/// Many functions, of a size that is allowed: seconds of work.
fn much() -> Handmade {
    let body = "(if (i32.load (local.get 0)) (then
        (i32.store (local.get 1) (i32.add (local.get 0) (i32.load (local.get 1))))))";
    let function = format!("(func (param i32 i32) {})", body.repeat(2_000));
    Handmade {
        fields: function.repeat(60),
        ..Handmade::default()
    }
}

#[tokio::test]
async fn a_child_that_takes_too_long_is_killed() {
    let host = builder(4 << 30, Duration::from_millis(100))
        .build()
        .unwrap();
    let component = much().build();
    let began = Instant::now();
    let error = host.load_bytes(component).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(
        matches!(&error, LoadError::Compile(CompileError::Stopped(_))),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "compiling it was stopped: it took longer than 100ms"
    );
}

/// It aborts, or has no room for a thread, depending on where it meets its limit.
#[tokio::test]
async fn a_child_that_takes_too_much_memory_is_stopped() {
    let host = builder(160 << 20, MINUTE).build().unwrap();
    let error = host.load_bytes(much().build()).await.unwrap_err();
    assert!(
        matches!(
            &error,
            LoadError::Compile(CompileError::Stopped(_) | CompileError::Child(_))
        ),
        "{error}"
    );
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
                isolation: child(
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
