//! What the benchmarks share: the guest, a look at the arguments, and statistics.

#![allow(
    dead_code,
    reason = "each benchmark is a crate of its own and uses its own part"
)]

mod target;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each benchmark uses its own part")]
pub use target::{at_least, at_most};

/// Whether only to show that the benchmark works: few rounds, and no figure to be trusted.
pub fn smoke() -> bool {
    std::env::args().any(|argument| argument == "--smoke")
        || std::env::var_os("SKILLHOST_BENCH_SMOKE").is_some()
}

/// `n`, or where it is only about whether it works, a hundredth.
pub fn rounds(n: usize) -> usize {
    if smoke() { n.div_ceil(100) } else { n }
}

/// Ends a benchmark: prints its figures as one line of JSON, which is its last, and has the program end with
/// 1 where a figure misses its target, or could not be measured. What is said of a target: see [`target::judge`].
/// Where it is only about whether the benchmark works, nothing is.
pub fn finish(figures: serde_json::Value) -> ExitCode {
    let mut judged = figures.clone();
    let found = target::judge(&mut judged);
    if smoke() {
        println!("{figures}");
        return ExitCode::SUCCESS;
    }
    judged["met"] = found.met().into();
    println!("{judged}");
    for miss in &found.missed {
        eprintln!("missed: {miss}");
    }
    for figure in &found.unknown {
        eprintln!("not measured: {figure}");
    }
    match found.met() {
        Some(true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The guest of the benchmarks, built from source.
pub fn guest() -> PathBuf {
    build("bench_guest.wasm")
}

/// A command that says hello, built from source.
pub fn hello() -> PathBuf {
    build("hello.wasm")
}

/// A home with the guest of the benchmarks installed in it.
pub fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder can be made");
    let mut install = Command::new(env!("CARGO_BIN_EXE_skillhost"));
    install.args(["install", "--quiet"]).arg(guest());
    let done = install.arg("--home").arg(home.path()).status();
    assert!(done.expect("it can be started").success());
    home
}

/// `skillhost serve`, on what is installed in a home, until it is dropped.
pub struct Served {
    child: std::process::Child,
    pub address: std::net::SocketAddr,
}

impl Served {
    pub fn start(home: &std::path::Path) -> Self {
        use std::io::BufRead as _;
        let mut child = Command::new(env!("CARGO_BIN_EXE_skillhost"))
            .args(["serve", "--listen", "127.0.0.1:0", "--jobs", "0"])
            .args(["--rate", "10000000"])
            .arg("--home")
            .arg(home)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it can be started");
        let output = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = std::io::BufReader::new(output).read_line(&mut line);
        read.expect("it says where it listens");
        let address = line.trim().rsplit('/').next().expect("it is a URL");
        let address = address.parse().expect("it is an address");
        Served { child, address }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn build(file: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-guest");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--release",
            "--quiet",
            "--target",
            "wasm32-wasip2",
            "--manifest-path",
        ])
        .arg(root.join("benches/guest/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo can be started");
    assert!(
        built.success(),
        "the guest was not built; is the target there? `rustup target add wasm32-wasip2`"
    );
    target.join("wasm32-wasip2/release").join(file)
}

/// This very program with other arguments, in a process of its own. It is to print JSON in its last
/// line.
pub fn again(arguments: &[&str]) -> serde_json::Value {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(arguments);
    if smoke() {
        command.arg("--smoke");
    }
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("this program can be started");
    assert!(output.status.success(), "{arguments:?} failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).expect("the last line is JSON")
}

/// Runs something a number of times, and gives the time that each round took.
pub fn times(rounds: usize, mut round: impl FnMut()) -> Vec<Duration> {
    (0..rounds)
        .map(|_| {
            let began = Instant::now();
            round();
            began.elapsed()
        })
        .collect()
}

/// The value that a share of the others does not exceed: 0.5 for the median.
pub fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    assert!(!sorted.is_empty(), "nothing was measured");
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
    sorted[index]
}

/// The middle one.
pub fn median(times: &[Duration]) -> Duration {
    quantile(times, 0.5)
}

/// The middle one.
pub fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The geometric mean.
pub fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

/// To the thousandth.
pub fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The processor time that this thread has taken. What else the machine does counts less here than
/// in wall time.
pub fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// How many processes and threads wanted a processor, over the last minute.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or(0.0)
}

/// Microseconds, to the hundredth.
pub fn us(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e8).round() / 100.0
}

/// Milliseconds, to the thousandth.
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A ratio, to the thousandth.
pub fn ratio(a: f64, b: f64) -> f64 {
    (a / b * 1e3).round() / 1e3
}

/// The memory that this process holds, in bytes, with the kernel's tables of its pages.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |line: &str| line.trim().strip_suffix(" kB")?.parse::<u64>().ok();
    status
        .lines()
        .filter_map(|line| match line.split_once(':')? {
            ("VmRSS" | "VmPTE", rest) => kib(rest),
            _ => None,
        })
        .sum::<u64>()
        * 1024
}
