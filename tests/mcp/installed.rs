//! What tests use of other languages, as it is installed for all of them: the official client of MCP, and what else is
//! on PyPI or in npm's registry.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The version of the official client that is tested with.
const CLIENT: &str = "mcp==2.3.0";
/// The Node.js that programs of npm's are run by.
const NODE: &str = "node@22";
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
    PYTHON.get_or_init(|| venv(CLIENT).join("bin/python"))
}

/// A virtual environment with a package from PyPI, `NAME==VERSION`, that is made once.
pub fn venv(package: &str) -> PathBuf {
    let name = package.replace("==", "-");
    once(&name, |folder| {
        let missing = "python3 with venv is needed, and cannot be started (Debian: `apt-get install python3-venv`)";
        let mut make = Command::new("python3");
        must(make.args(["-m", "venv"]).arg(folder), missing);
        let mut install = Command::new(folder.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet"]);
        install.args(["--disable-pip-version-check", package]);
        must(
            &mut install,
            &format!("`{package}` cannot be installed from PyPI"),
        );
    })
}

/// The folder `node_modules` with a package of npm's, `NAME@VERSION`, and with Node.js, that is made once. Debian's
/// own may be too old.
pub fn node_modules(package: &str) -> PathBuf {
    let name = package.trim_start_matches('@').replace(['/', '@'], "-");
    let folder = once(&name, |folder| {
        fs::create_dir(folder).expect("a folder can be made");
        fs::write(folder.join("package.json"), "{}").expect("it can be written");
        let missing = format!(
            "npm is needed for `{package}` (Debian: `apt-get install npm`), and npm's registry"
        );
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", package, NODE]);
        must(npm.current_dir(folder), &missing);
    });
    folder.join("node_modules")
}

/// A folder of this name that is made once, by whoever comes first of all tests.
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let _alone = alone(name);
    let folder = scratch().join(name);
    let ready = folder.join("ready");
    if !ready.exists() {
        let _ = fs::remove_dir_all(&folder);
        make(&folder);
        fs::write(&ready, "").expect("a file can be written");
    }
    folder
}
