//! `skillhost run` of a compiled skill as a whole process, from start to exit: its time and its
//! peak of memory.
//!
//! `cargo bench --bench process`, with `-- --smoke` to see only whether it works. The floor is a
//! program that only loads the compiled component and calls it. Beside it stands `wasmtime run` of
//! a command that says hello, with its cache on, where a `wasmtime` of version 48 is on the `PATH`
//! or named by the variable `WASMTIME`.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/process.rs"]
mod process;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use process::Taken;
use serde_json::{Value, json};

fn main() -> ExitCode {
    if process::part() {
        return ExitCode::SUCCESS;
    }
    let guest = support::guest();
    let folder = process::folder("process-bench");
    let compiled = folder.join("compiled.cwasm");
    process::compile(&guest, &compiled);

    let floor = || process::floor_command(&guest, &compiled);
    let skillhost = || process::skillhost_command(&guest, &folder.join("home"));
    process::check(&mut floor(), process::INPUT);
    // The first run compiles.
    process::check(&mut skillhost(), process::INPUT);
    let other = wasmtime().map(|program| Wasmtime::new(program, &folder));

    let [mut bare, mut ours, mut theirs] = [(); 3].map(|()| Taken::default());
    for _ in 0..support::rounds(200) {
        bare.run(&mut floor());
        ours.run(&mut skillhost());
        if let Some(other) = &other {
            theirs.run(&mut other.command());
        }
    }

    let theirs = other.is_some().then_some(theirs);
    for (name, taken) in [
        ("bare", Some(&bare)),
        ("skillhost run", Some(&ours)),
        ("wasmtime run", theirs.as_ref()),
    ] {
        match taken {
            Some(taken) => println!(
                "{name:14} {} ms, {} MiB",
                support::ms(taken.time()),
                taken.peak()
            ),
            None => println!("{name:14} no `wasmtime` of version 48 was found"),
        }
    }
    let figures = |taken: &Taken| {
        json!({
            "ms": support::ms(taken.time()),
            "p99_ms": support::ms(support::quantile(&taken.times, 0.99)),
            "peak_mib": taken.peak(),
        })
    };
    support::finish(json!({
        "benchmark": "process",
        "bare": figures(&bare),
        "skillhost": figures(&ours),
        "wasmtime": theirs.as_ref().map_or(Value::Null, figures),
        "to_bare": ours.to(&bare),
        "to_wasmtime": theirs.as_ref().map(|theirs| ours.to(theirs)),
        "peak_to_wasmtime": theirs.as_ref()
            .map(|theirs| support::ratio(ours.peak(), theirs.peak())),
        "load": support::load(),
        "target": {"to_wasmtime": support::at_most(1.0), "peak_to_wasmtime": support::at_most(1.0)},
    }))
}

/// The program `wasmtime`, of the version that this host is built with.
fn wasmtime() -> Option<PathBuf> {
    let program = std::env::var_os("WASMTIME").map_or_else(|| "wasmtime".into(), PathBuf::from);
    let output = Command::new(&program).arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    version.starts_with("wasmtime 48.").then_some(program)
}

/// `wasmtime run` with a cache of its own.
struct Wasmtime {
    program: PathBuf,
    configuration: PathBuf,
    hello: PathBuf,
}

impl Wasmtime {
    fn new(program: PathBuf, folder: &Path) -> Self {
        let cache = folder.join("wasmtime-cache");
        std::fs::create_dir_all(&cache).expect("a folder can be made");
        let configuration = folder.join("wasmtime.toml");
        let text = format!("[cache]\ndirectory = {:?}\n", process::text(&cache));
        std::fs::write(&configuration, text).expect("the configuration can be written");
        let wasmtime = Wasmtime {
            program,
            configuration,
            hello: support::hello(),
        };
        // The first run compiles.
        process::check(&mut wasmtime.command(), "hello");
        let cached = std::fs::read_dir(&cache).is_ok_and(|mut entries| entries.next().is_some());
        assert!(cached, "`wasmtime run` has not used its cache");
        wasmtime
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let cache = format!("cache-config={}", process::text(&self.configuration));
        command.args(["run", "-C", &cache]).arg(&self.hello);
        command
    }
}
