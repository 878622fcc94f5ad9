//! A large component, as the tools for Python and JavaScript make them (18 MB): how long it takes
//! to compile, to load once it is compiled, and to run as a whole process.
//!
//! `cargo bench --bench large`, with `-- --smoke` to see only whether it works, on a smaller one.
//! The floor of the process is a program that reads the component, hashes it, loads what it was
//! compiled to, and calls it; that of loading is wasmtime's own part of it.

#[path = "support/bare.rs"]
mod bare;
#[path = "support/larger.rs"]
mod larger;
#[path = "support/process.rs"]
mod process;
mod support;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ::skillhost::skill::Package;
use ::skillhost::{CompileSettings, Host};
use bare::Stops;
use process::Taken;
use serde_json::{Value, json};
use wasmtime::component::Component;

const GENERATE: &str = "--generate";
const LOAD: &str = "--load";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [GENERATE, guest, large, ..] => println!("{}", generate(guest.as_ref(), large.as_ref())),
        [LOAD, large, compiled, cache, ..] => println!(
            "{}",
            load(large.as_ref(), compiled.as_ref(), cache.as_ref())
        ),
        _ if process::part() => {}
        _ => return measure(),
    }
    ExitCode::SUCCESS
}

fn measure() -> ExitCode {
    let folder = process::folder("large-bench");
    let large = folder.join("large.wasm");
    let compiled = folder.join("compiled.cwasm");
    let size = support::again(&[
        GENERATE,
        process::text(&support::guest()),
        process::text(&large),
    ]);
    process::compile(&large, &compiled);

    let floor = || process::floor_command(&large, &compiled);
    let skillhost = || process::skillhost_command(&large, &folder.join("home"));
    process::check(&mut floor(), process::INPUT);
    let first = process::check(&mut skillhost(), process::INPUT);
    let [mut bare, mut ours] = [(); 2].map(|()| Taken::default());
    for _ in 0..support::rounds(100) {
        bare.run(&mut floor());
        ours.run(&mut skillhost());
    }
    let load = support::again(&[
        LOAD,
        process::text(&large),
        process::text(&compiled),
        process::text(&folder.join("cache")),
    ]);

    println!("a component of {size} bytes");
    println!(
        "compile: {} s in this process; first `skillhost run`: {:.1} s",
        load["compile_s"],
        first.as_secs_f64()
    );
    println!(
        "load: {} ms, of which wasmtime {} ms",
        load["load_ms"], load["bare_load_ms"]
    );
    println!(
        "whole process: bare {} ms, {} MiB; skillhost run {} ms, {} MiB",
        support::ms(bare.time()),
        bare.peak(),
        support::ms(ours.time()),
        ours.peak(),
    );
    support::finish(json!({
        "benchmark": "large",
        "component_bytes": size,
        "loading": load,
        "first_run_s": support::round(first.as_secs_f64()),
        "bare_process_ms": support::ms(bare.time()),
        "bare_process_peak_mib": bare.peak(),
        "process_ms": support::ms(ours.time()),
        "process_peak_mib": ours.peak(),
        "process_to_bare": ours.to(&bare),
        "load": support::load(),
        "target": {"loading": {"load_ms": support::at_most(5.0)}, "process_to_bare": support::at_most(2.0)},
    }))
}

/// Makes the large component from the small one. Gives its size.
fn generate(guest: &Path, large: &Path) -> Value {
    let guest = std::fs::read(guest).expect("the guest can be read");
    let (code, data) = if support::smoke() {
        (600_000, 200_000)
    } else {
        (14_000_000, 4_000_000)
    };
    let component = larger::larger(&guest, code, data);
    std::fs::write(large, &component).expect("the component can be written");
    json!(component.len())
}

/// Compiles the component, and then loads it again and again from the compiled cache, each time in
/// a fresh host; in turn with wasmtime's part of that.
fn load(large: &Path, compiled: &Path, cache: &Path) -> Value {
    let max = CompileSettings::default().max_component_bytes;
    let package = Package::read(large, max).expect("the component can be read");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let load = || -> Duration {
        let host = Host::builder().cache(cache).concurrency(2).build();
        let host = host.expect("the host can be set up");
        let package = package.clone();
        let began = Instant::now();
        let skill = runtime.block_on(host.load_package(package));
        let took = began.elapsed();
        skill.expect("it loads");
        took
    };
    let compile = load();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..support::rounds(100) {
        let engine = bare::engine(Stops::ByFuel, false);
        let began = Instant::now();
        // SAFETY: this program has just made it with the same engine, in a folder of its own.
        let component = unsafe { Component::deserialize_file(&engine, compiled) };
        let linked = bare::link(&engine, &component.expect("the code can be loaded"));
        bare.push(began.elapsed());
        drop(linked);
        ours.push(load());
    }
    json!({
        "compile_s": support::round(compile.as_secs_f64()),
        "load_ms": support::ms(support::median(&ours)),
        "bare_load_ms": support::ms(support::median(&bare)),
    })
}
