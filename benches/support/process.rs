//! Whole processes: the one that is measured, and the floor, which is this very program started
//! again to do nothing but what must be done.

#![allow(
    dead_code,
    reason = "each benchmark is a crate of its own and uses its own part"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::Digest as _;
use wasmtime::component::Component;

use crate::bare::{self, Stops};
use crate::support;

/// The tool that all of them call, and its input.
pub const TOOL: &str = "echo";
pub const INPUT: &str = r#"{"text":"to be"}"#;

const FLOOR: &str = "--floor";
const COMPILE: &str = "--compile";

/// Does the part that this process was started for, where it was started for one.
///
/// What takes much memory is done in processes of its own as well: what Linux reports as the peak
/// of a child is never less than its parent held when it started the child.
pub fn part() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [FLOOR, component, compiled] => floor(component.as_ref(), compiled.as_ref()),
        [COMPILE, component, compiled, ..] => {
            let engine = bare::engine(Stops::ByFuel, false);
            let component = std::fs::read(component).expect("the component can be read");
            let code = engine
                .precompile_component(&component)
                .expect("the component compiles");
            std::fs::write(compiled, code).expect("the code can be written");
            println!("null");
        }
        _ => return false,
    }
    true
}

/// Reads the component, hashes it, loads what it was compiled to, and calls it.
fn floor(component: &Path, compiled: &Path) {
    let component = std::fs::read(component).expect("the component can be read");
    std::hint::black_box(sha2::Sha256::digest(component));
    let engine = bare::engine(Stops::ByFuel, false);
    // SAFETY: this program has just made it with the same engine, in a folder of its own.
    let component = unsafe { Component::deserialize_file(&engine, compiled) };
    let component = component.expect("the code can be loaded");
    let pre = bare::link(&engine, &component);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let output = runtime.block_on(bare::call(&engine, &pre, TOOL, &INPUT.to_owned()));
    println!("{output}");
}

/// Compiles a component for [`floor_command`].
pub fn compile(component: &Path, compiled: &Path) {
    support::again(&[COMPILE, text(component), text(compiled)]);
}

/// The floor.
pub fn floor_command(component: &Path, compiled: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.arg(FLOOR).arg(component).arg(compiled);
    command
}

/// The program `skillhost`, with its things in this folder.
pub fn skillhost_command(component: &Path, home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skillhost"));
    command
        .arg("run")
        .arg(component)
        .args([TOOL, "--input", INPUT, "--home"])
        .arg(home);
    command
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

/// A folder of its own for one benchmark, empty.
pub fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

/// What a process took.
#[derive(Default)]
pub struct Taken {
    pub times: Vec<Duration>,
    pub peaks: Vec<u64>,
}

impl Taken {
    /// Runs a process to its end.
    pub fn run(&mut self, command: &mut Command) {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let began = Instant::now();
        // Waited for below.
        #[allow(clippy::zombie_processes)]
        let child = command.stderr(Stdio::null()).spawn().expect("it starts");
        let pid = child.id().cast_signed();
        let mut status = 0;
        // SAFETY: zeroes are a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both point to what they should, and nobody else waits for this child.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        self.times.push(began.elapsed());
        assert_eq!((waited, status), (pid, 0), "{command:?} failed");
        self.peaks.push(usage.ru_maxrss.unsigned_abs() * 1024);
    }

    pub fn time(&self) -> Duration {
        support::median(&self.times)
    }

    /// In MiB.
    pub fn peak(&self) -> f64 {
        let peaks: Vec<f64> = self.peaks.iter().map(|peak| *peak as f64).collect();
        support::round(support::middle(&peaks) / f64::from(1 << 20))
    }

    /// The median of the ratios of its rounds' times to the other's.
    pub fn to(&self, other: &Taken) -> f64 {
        let ratios: Vec<f64> = self
            .times
            .iter()
            .zip(&other.times)
            .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64())
            .collect();
        support::round(support::middle(&ratios))
    }
}

/// Runs a process and looks at what it prints.
pub fn check(command: &mut Command, expected: &str) -> Duration {
    let began = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let took = began.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let squeezed: String = text.split_whitespace().collect();
    assert!(
        output.status.success() && squeezed == expected.replace(' ', ""),
        "{command:?} printed {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    took
}
