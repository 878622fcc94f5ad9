//! The command compiles in a process of its own, which is limited, and whose end is not the command's.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use snapbox::str;

use crate::handmade::Handmade;
use crate::harness::{Place, check};

/// Many functions, of a size that is allowed: seconds of work.
fn slow_to_compile() -> Handmade {
    let body = "(if (i32.load (local.get 0)) (then
        (i32.store (local.get 1) (i32.add (local.get 0) (i32.load (local.get 1))))))";
    let function = format!("(func (param i32 i32) {})", body.repeat(2_000));
    Handmade {
        fields: function.repeat(100),
        ..Handmade::default()
    }
}

/// The process that the command compiles in, once it has limited itself, with its limits as the kernel
/// shows them.
fn compiler_of(command: &mut Child) -> (Pid, String) {
    let parent = format!("PPid:\t{}\n", command.id());
    let began = Instant::now();
    loop {
        let processes = fs::read_dir("/proc").expect("the system is Linux");
        for process in processes.flatten() {
            // One that is gone meanwhile has none of these files.
            let read =
                |file: &str| fs::read_to_string(process.path().join(file)).unwrap_or_default();
            let arguments = read("cmdline");
            if !arguments.contains("\0compile-component\0") || !read("status").contains(&parent) {
                continue;
            }
            let limits = read("limits");
            let number = process.file_name().to_string_lossy().parse().ok();
            match number.and_then(Pid::from_raw) {
                Some(pid) if LIMITED.iter().all(|name| is_limited(&limits, name)) => {
                    return (pid, limits);
                }
                _ => {}
            }
        }
        let ended = command.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "it ended, and nobody saw it compile");
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it compiles nothing"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What it limits.
const LIMITED: [&str; 3] = ["Max address space", "Max cpu time", "Max core file size"];

fn is_limited(limits: &str, name: &str) -> bool {
    limit(limits, name).is_some_and(|limit| limit != "unlimited")
}

/// The soft limit of a name.
fn limit<'l>(limits: &'l str, name: &str) -> Option<&'l str> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()
}

/// The child is seen at work under the limits that the README names. They are far away, so that one is
/// drawn closer from outside, to where this component meets it.
#[test]
fn a_component_that_takes_too_much_ends_the_process_that_compiles_it_and_no_other() {
    let place = Place::new();
    place.write("slow.wasm", slow_to_compile().build());
    let mut command = place
        .command(["run", "slow.wasm"])
        .env("SKILLHOST_HOME", place.path("fresh"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let (compiler, limits) = compiler_of(&mut command);
    let memory = (4_u64 << 30).to_string();
    assert_eq!(limit(&limits, "Max address space"), Some(&*memory));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let time = (120 * cores).to_string();
    assert_eq!(limit(&limits, "Max cpu time"), Some(&*time));

    let second = Rlimit {
        current: Some(1),
        maximum: Some(120),
    };
    prlimit(Some(compiler), Resource::Cpu, second).expect("it is ours, and at work");
    let output = command.wait_with_output().expect("the command ends");
    check(
        place.said(&output),
        str![[r#"
exit: 6
--- stdout
--- stderr
error: cannot load `slow.wasm`: compiling it was stopped: it ran out of its processor time (signal: 24 (SIGXCPU))
hint: what is smaller takes less: build it with `--release`, and with `opt-level = "s"` and `lto = true`

"#]],
    );
    // Nothing of it is left where the next one would look.
    let kept = fs::read_dir(place.path("fresh/compiled")).expect("it was made");
    let kept: Vec<_> = kept.flatten().map(|entry| entry.file_name()).collect();
    assert!(
        kept.iter()
            .all(|name| name.to_string_lossy().starts_with(".lock")),
        "{kept:?}"
    );
}

/// The child says so, and the command what to do: that is no fault of the skill's.
#[test]
fn a_compiler_that_cannot_write_is_a_broken_host() {
    let place = Place::new();
    place.write("slow.wasm", slow_to_compile().build());
    let mut command = place.command(["run", "slow.wasm"]);
    let mut command = command
        .env("SKILLHOST_HOME", place.path("fresh"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    compiler_of(&mut command);
    fs::remove_dir_all(place.path("fresh/compiled")).expect("it was made");
    let output = command.wait_with_output().expect("the command ends");
    let said = place.said(&output);
    assert!(said.starts_with("exit: 70\n"), "{said}");
    assert!(said.contains("the compiling process failed: "), "{said}");
    assert!(said.contains("hint: is the disk full, "), "{said}");
}
