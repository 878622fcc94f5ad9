//! Building a skill from its source, with cargo.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal as _, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use serde::Deserialize;
use signal_hook::SigId;
use signal_hook::consts::SIGINT;
use signal_hook::low_level::{pipe, unregister};

use super::complaint::Complaint;
use super::console::Console;
use super::exit::Exit;
use super::host::Interrupts;
use super::termination::{self, Noted};

/// What skills are built for.
const TARGET: &str = "wasm32-wasip2";

/// How long a program that is told to end may take to do so.
const PATIENCE: Duration = Duration::from_secs(1);

/// Builds the crate in a folder, and gives the path of its component. Cargo's progress goes to
/// standard error.
///
/// # Errors
/// Where there is no Rust, or the crate does not build, or is no skill, or Ctrl-C is pressed meanwhile, or the command is
/// told to end in another way.
pub fn build(folder: &Path, console: Console) -> anyhow::Result<PathBuf> {
    check_manifest(folder)?;
    let watch = Watch::new()?;
    ensure_target(folder, console, &watch)?;
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
    let cargo = watch.start(&mut command);
    let cargo = cargo.map_err(|error| no_rust("cargo", &error))?;
    let mut built = None;
    let status = cargo.until_ended(|message| {
        built = component(message, folder).or(built.take());
    })?;
    watch.end()?;
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
        return check_package(folder, &manifest);
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

/// A package that builds to a component, with what it depends on from the SDK there. What it needs besides takes long to
/// build, and would be built for nothing.
fn check_package(folder: &Path, manifest: &toml::Table) -> anyhow::Result<()> {
    let shown = folder.display();
    let library = manifest.get("lib").and_then(toml::Value::as_table);
    let types = library.and_then(|lib| lib.get("crate-type").or_else(|| lib.get("crate_type")));
    let mut types = types.and_then(toml::Value::as_array).into_iter().flatten();
    if !types.any(|kind| kind.as_str() == Some("cdylib")) {
        let message =
            format!("`{shown}` is the source of no skill: it does not build to a component");
        return Err(Complaint::not_loaded(message)
            .hint("its Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]`")
            .hint("`skillhost new NAME` starts a skill")
            .into());
    }
    let sdk = manifest.get("dependencies").and_then(|all| {
        let path = all.get("skills-sdk")?.get("path")?.as_str()?;
        Some(folder.join(path))
    });
    match sdk.filter(|sdk| !sdk.join("Cargo.toml").exists()) {
        None => Ok(()),
        Some(gone) => {
            let message = format!(
                "`{shown}` depends on an SDK that is gone: `{}`",
                gone.display()
            );
            Err(Complaint::not_loaded(message)
                .hint(
                    "`skillhost new NAME` unpacks this program's SDK again, and the Cargo.toml of what it starts says \
                     where it is",
                )
                .into())
        }
    }
}

/// Makes sure that the standard library for the target is there, and has rustup add it if not.
fn ensure_target(folder: &Path, console: Console, watch: &Watch) -> anyhow::Result<()> {
    let mut command = Command::new(program("RUSTC", "rustc"));
    command
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let rustc = watch.start(&mut command);
    let rustc = rustc.map_err(|error| no_rust("rustc", &error))?;
    let mut library = String::new();
    let status = rustc.until_ended(|line| library.push_str(line))?;
    // Where rustc has something else to say, cargo will say it again.
    if !status.success() || Path::new(library.trim()).is_dir() {
        return Ok(());
    }
    console.note(format_args!(
        "Rust's target {TARGET}, which skills are built for, is missing; trying `rustup target add {TARGET}`"
    ));
    let mut command = Command::new("rustup");
    command
        .args(["target", "add", TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        // Standard output is for results.
        .stdout(io::stderr());
    let added = watch.start(&mut command);
    match added.map(|rustup| rustup.until_ended(|_| ())) {
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

/// Hears of Ctrl-C, and of what else tells the command to end, while programs run.
struct Watch {
    was_pressed: Arc<AtomicBool>,
    noted: Noted,
}

impl Watch {
    fn new() -> anyhow::Result<Self> {
        Ok(Watch {
            was_pressed: Interrupts::early()?,
            noted: Noted::begin()?,
        })
    }

    /// Starts a program. It has a process group of its own, all of which ends where the command is told to end; but not on
    /// a terminal, where it may ask for a password, and what is pressed reaches all that is in the command's group.
    fn start(&self, command: &mut Command) -> io::Result<Program<'_>> {
        let (told, mut handler) = UnixStream::pair()?;
        let mut registered = Vec::new();
        for signal in [SIGINT].iter().chain(termination::signals()) {
            registered.push(Registered(pipe::register(*signal, handler.try_clone()?)?));
        }
        if was_told(&self.was_pressed) {
            // Before anybody listened for it.
            handler.write_all(b"x")?;
        }
        let apart = !io::stdin().is_terminal();
        if apart {
            command.process_group(0);
        }
        Ok(Program {
            child: command.spawn()?,
            apart,
            told,
            registered,
            watch: self,
        })
    }

    /// No program runs any more.
    ///
    /// # Errors
    /// Where the command was told to end.
    fn end(self) -> anyhow::Result<()> {
        let Watch { was_pressed, noted } = self;
        // In this order, so that what is no longer noted ends the process.
        drop(noted);
        unless_told(&was_pressed)
    }
}

/// Whether the command was told to end.
fn was_told(was_pressed: &AtomicBool) -> bool {
    was_pressed.load(Ordering::Relaxed) || termination::came()
}

fn unless_told(was_pressed: &AtomicBool) -> anyhow::Result<()> {
    match was_told(was_pressed) {
        false => Ok(()),
        true => {
            Err(Complaint::new(Exit::Cancelled, "cancelled while the skill was being built").into())
        }
    }
}

/// A program that runs.
struct Program<'w> {
    child: Child,
    /// Whether it has a process group of its own.
    apart: bool,
    told: UnixStream,
    registered: Vec<Registered>,
    watch: &'w Watch,
}

struct Registered(SigId);

impl Drop for Registered {
    fn drop(&mut self) {
        unregister(self.0);
    }
}

impl Program<'_> {
    /// Takes the lines that it writes, and waits until it ends: by itself, or because the command is told to end, of
    /// which it is told, and all that it has started.
    fn until_ended(self, line: impl FnMut(&str)) -> anyhow::Result<ExitStatus> {
        let Program {
            mut child,
            apart,
            mut told,
            registered,
            watch,
        } = self;
        let pid = Pid::from_child(&child);
        let send = move |signal| match apart {
            true => kill_process_group(pid, signal),
            false => kill_process(pid, signal),
        };
        let (running, ended) = mpsc::channel::<()>();
        let ending = thread::Builder::new().spawn(move || {
            // Nothing comes any more once nobody listens to the signals.
            if matches!(told.read(&mut [0]), Ok(1)) {
                end(send, &ended);
            }
        });
        let read = match &ending {
            Ok(_) => read_lines(&mut child, line),
            Err(error) => Err(error.kind().into()),
        };
        if read.is_err() {
            let _ = send(Signal::KILL);
        }
        // In a way that leaves it its number, which its group has, too, until nobody uses that any more.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), options));
        drop(running);
        drop(registered);
        if let Ok(ending) = ending {
            // It does not panic.
            let _ = ending.join();
        }
        let status = child.wait();
        unless_told(&watch.was_pressed)?;
        read?;
        Ok(status?)
    }
}

/// Ends what these signals are sent to: at once where the first process of it has ended, of which `ended` tells, or is late
/// to end.
fn end(send: impl Fn(Signal) -> rustix::io::Result<()>, ended: &mpsc::Receiver<()>) {
    let signal = match termination::came() {
        true => Signal::TERM,
        false => Signal::INT,
    };
    // Whoever has ended already needs not be told.
    let _ = send(signal);
    let _ = ended.recv_timeout(PATIENCE);
    let _ = send(Signal::KILL);
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
        let library =
            |kind: &str| format!("[package]\nname = \"a\"\n[lib]\ncrate-type = [\"{kind}\"]");
        std::fs::write(&manifest, library("cdylib")).unwrap();
        assert!(check_manifest(folder.path()).is_ok());
        for no_skill in ["[package]\nname = \"a\"".to_owned(), library("rlib")] {
            std::fs::write(&manifest, no_skill).unwrap();
            let error = check_manifest(folder.path()).unwrap_err();
            assert!(
                error.to_string().contains("is the source of no skill"),
                "{error}"
            );
        }
    }
}
