//! The official client of MCP, as it is installed for all tests that use it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The version of the official client that is tested with.
const CLIENT: &str = "mcp==2.3.0";
/// How long anything may take before it is taken to be stuck.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where the tests of all binaries keep what they make once.
pub fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// One at a time, also of several test processes, does what this guards.
pub fn alone(name: &str) -> File {
    let lock = File::create(scratch().join(format!(".{name}-lock"))).expect("a file can be made");
    lock.lock().expect("a file can be locked");
    lock
}

/// Runs a command to its end, within bounds.
pub fn run(command: &mut Command, what: &str) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{what}: {:?}: {error}", command.get_program()));
    let read = |stream: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            let mut stream = stream.expect("it is piped");
            let _ = std::io::Read::read_to_end(&mut stream, &mut all);
            all
        })
    };
    let stdout = read(child.stdout.take().map(|stream| Box::new(stream) as _));
    let stderr = read(child.stderr.take().map(|stream| Box::new(stream) as _));
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("{what} does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Output {
        status,
        stdout: stdout.join().expect("it was read"),
        stderr: stderr.join().expect("it was read"),
    }
}

/// Runs a command that must end well.
pub fn must(command: &mut Command, what: &str) {
    let output = run(command, what);
    assert!(
        output.status.success(),
        "{what}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Python with the official client in it, in a virtual environment that is made once.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let _alone = alone("mcp-client");
        let folder = scratch().join(CLIENT.replace("==", "-"));
        let ready = folder.join("ready");
        let python = folder.join("bin/python");
        if !ready.exists() {
            let _ = fs::remove_dir_all(&folder);
            let missing = "python3 with venv is needed for the tests of MCP, and cannot be started \
                           (Debian: `apt-get install python3-venv`)";
            let mut make = Command::new("python3");
            must(make.args(["-m", "venv"]).arg(&folder), missing);
            let mut install = Command::new(&python);
            install.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]);
            must(
                install.arg(CLIENT),
                "the official client of MCP cannot be installed from PyPI",
            );
            fs::write(&ready, "").expect("a file can be written");
        }
        python
    })
}
