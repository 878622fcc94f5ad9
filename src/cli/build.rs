//! Building a skill from its source, with cargo.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use signal_hook::SigId;
use signal_hook::consts::SIGINT;
use signal_hook::low_level::{pipe, unregister};

use super::complaint::Complaint;
use super::console::Console;
use super::exit::Exit;
use super::host::Interrupts;

/// What skills are built for.
const TARGET: &str = "wasm32-wasip2";

/// Builds the crate in a folder, and gives the path of its component. Cargo's progress goes to
/// standard error.
///
/// # Errors
/// Where there is no Rust, or the crate does not build, or is no skill, or Ctrl-C is pressed meanwhile.
pub fn build(folder: &Path, console: Console) -> anyhow::Result<PathBuf> {
    check_manifest(folder)?;
    ensure_target(folder, console)?;
    let mut command = Command::new(program("CARGO", "cargo"));
    command
        .args(["build", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if console.quiet {
        command.arg("--quiet");
    }
    tracing::debug!("in {}: {command:?}", folder.display());
    let watch = Watch::new()?;
    let cargo = command.spawn().map_err(|error| no_rust("cargo", &error))?;
    let mut built = None;
    let status = watch.until_ended(cargo, |message| {
        built = component(message, folder).or(built.take());
    })?;
    if !status.success() {
        let message = format!("`{}` does not build", folder.display());
        return Err(Complaint::not_loaded(message)
            .detail("what cargo says about it stands above")
            .into());
    }
    built.ok_or_else(|| {
        Complaint::not_loaded(format!(
            "`{}` builds, but not to a component",
            folder.display()
        ))
        .hint("its Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]`")
        .into()
    })
}

/// A crate that is a package, and not only a workspace of packages.
fn check_manifest(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Complaint::not_loaded(format!("`{}` cannot be read: {error}", path.display()))
    })?;
    // What else may be wrong with it, cargo says better.
    let Ok(manifest) = text.parse::<toml::Table>() else {
        return Ok(());
    };
    if manifest.contains_key("package") {
        return Ok(());
    }
    let members = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("members")?.as_array())
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str)
        .collect::<Vec<_>>();
    let complaint = Complaint::not_loaded(format!(
        "`{}` holds a workspace of crates, and is no skill itself",
        folder.display()
    ));
    Err(match members.first() {
        Some(first) => complaint
            .detail(format!("its crates: {}", members.join(", ")))
            .hint(format!(
                "name one of them: `{}`",
                folder.join(first).display()
            )),
        None => complaint,
    }
    .into())
}

/// Makes sure that the standard library for the target is there, and has rustup add it if not.
fn ensure_target(folder: &Path, console: Console) -> anyhow::Result<()> {
    let watch = Watch::new()?;
    let rustc = Command::new(program("RUSTC", "rustc"))
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| no_rust("rustc", &error))?;
    let mut library = String::new();
    let status = watch.until_ended(rustc, |line| library.push_str(line))?;
    // Where rustc has something else to say, cargo will say it again.
    if !status.success() || Path::new(library.trim()).is_dir() {
        return Ok(());
    }
    console.note(format_args!(
        "Rust's target {TARGET}, which skills are built for, is missing; trying `rustup target add {TARGET}`"
    ));
    let watch = Watch::new()?;
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        // Standard output is for results.
        .stdout(io::stderr())
        .spawn();
    match added.map(|rustup| watch.until_ended(rustup, |_| ())) {
        Ok(Err(error)) => Err(error),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(_) => Err(Complaint::not_loaded(format!("Rust's target {TARGET} cannot be added"))
            .detail("what rustup says about it stands above")
            .into()),
        Err(_) => Err(Complaint::not_loaded(format!(
            "Rust's target {TARGET} is missing, and there is no rustup to add it with"
        ))
        .hint(format!(
            "install the standard library for {TARGET} the way Rust was installed, or use https://rustup.rs"
        ))
        .into()),
    }
}

/// Cargo and rustc can be named by the environment, as cargo itself does for what it runs.
fn program(variable: &str, default: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| default.into())
}

/// Hears of Ctrl-C while programs run, for as long as it lives.
struct Watch {
    pressed: UnixStream,
    registered: Registered,
    was_pressed: Arc<AtomicBool>,
}

struct Registered(SigId);

impl Drop for Registered {
    fn drop(&mut self) {
        unregister(self.0);
    }
}

impl Watch {
    /// To be made before the program is started.
    fn new() -> anyhow::Result<Self> {
        let was_pressed = Interrupts::early()?;
        let (pressed, handler) = UnixStream::pair()?;
        Ok(Watch {
            pressed,
            registered: Registered(pipe::register(SIGINT, handler)?),
            was_pressed,
        })
    }

    /// Takes the lines that a program writes, and waits until it ends: by itself, or because of Ctrl-C,
    /// which it is told of also where only this process was. What it has started itself hears of it on a
    /// terminal.
    fn until_ended(self, mut program: Child, line: impl FnMut(&str)) -> anyhow::Result<ExitStatus> {
        // Where the system has no such handles, whoever presses Ctrl-C on a terminal still ends both.
        let handle = pidfd_open(Pid::from_child(&program), PidfdFlags::empty()).ok();
        let Watch {
            mut pressed,
            registered,
            was_pressed,
        } = self;
        thread::spawn(move || {
            // Nothing comes any more once nobody listens to the signal.
            if matches!(pressed.read(&mut [0]), Ok(1))
                && let Some(handle) = handle
            {
                // It may have ended already.
                let _ = pidfd_send_signal(handle, Signal::INT);
            }
        });
        let ended = read_lines(&mut program, line).and_then(|()| program.wait());
        drop(registered);
        if ended.is_err() {
            // It may have ended meanwhile; that there was an error is what is told.
            let _ = program.kill();
            let _ = program.wait();
        }
        match was_pressed.load(Ordering::Relaxed) {
            false => Ok(ended?),
            true => Err(Complaint::new(
                Exit::Cancelled,
                "cancelled while the skill was being built",
            )
            .into()),
        }
    }
}

fn read_lines(program: &mut Child, mut line: impl FnMut(&str)) -> io::Result<()> {
    if let Some(written) = program.stdout.take() {
        for written in BufReader::new(written).split(b'\n') {
            line(&String::from_utf8_lossy(&written?));
        }
    }
    Ok(())
}

fn no_rust(program: &str, error: &io::Error) -> Complaint {
    let complaint = Complaint::not_loaded(format!(
        "cannot build: `{program}` cannot be started: {error}"
    ));
    if error.kind() == ErrorKind::NotFound {
        complaint.hint("building a skill takes Rust: https://rustup.rs")
    } else {
        complaint
    }
}

/// The component that one of cargo's messages names, if it does.
fn component(message: &str, folder: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        #[serde(default)]
        manifest_path: PathBuf,
        target: Option<Target>,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        crate_types: Vec<String>,
    }
    let message: Message = serde_json::from_str(message).ok()?;
    let cdylib = message
        .target
        .is_some_and(|target| target.crate_types.iter().any(|kind| kind == "cdylib"));
    if message.reason != "compiler-artifact" || !cdylib {
        return None;
    }
    // A dependency may be a cdylib, too.
    let manifest = folder.join("Cargo.toml").canonicalize().ok()?;
    if message.manifest_path.canonicalize().ok()? != manifest {
        return None;
    }
    message.filenames.into_iter().find(|file| {
        file.extension()
            .is_some_and(|extension| extension == "wasm")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(folder: &Path, kind: &str, file: &str) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": folder.join("Cargo.toml"),
            "target": {"crate_types": [kind, "rlib"]},
            "filenames": ["/t/libskill.rlib", file],
        })
        .to_string()
    }

    #[test]
    fn only_the_component_of_the_crate_itself_counts() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        for folder in [folder.path(), other.path()] {
            std::fs::write(folder.join("Cargo.toml"), "").unwrap();
        }
        let of = |message: &str| component(message, folder.path());
        let found = of(&message(folder.path(), "cdylib", "/t/skill.wasm"));
        assert_eq!(found, Some("/t/skill.wasm".into()));
        assert_eq!(of(&message(folder.path(), "lib", "/t/skill.wasm")), None);
        assert_eq!(of(&message(folder.path(), "cdylib", "/t/skill.so")), None);
        assert_eq!(of(&message(other.path(), "cdylib", "/t/other.wasm")), None);
        assert_eq!(of(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(of("Compiling…"), None);
    }

    #[test]
    fn a_workspace_is_told_from_a_skill() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        std::fs::write(&manifest, "[workspace]\nmembers = [\"a\", \"b\"]").unwrap();
        let error = check_manifest(folder.path()).unwrap_err();
        let complaint = error.downcast::<Complaint>().unwrap();
        assert_eq!(complaint.details, ["its crates: a, b"]);
        std::fs::write(&manifest, "[package]\nname = \"a\"").unwrap();
        assert!(check_manifest(folder.path()).is_ok());
    }
}
