//! What the tests share: places to run the command in, skills to run, and a way to look at what it
//! says.

#[path = "../integration/guest.rs"]
mod guest;

pub use guest::{EXAMPLE_SKILLS, NEED_NOT_BE_FAST};

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use regex::Regex;
use snapbox::Assert;

/// Checks that it says each of these, in this order.
#[track_caller]
pub fn says(said: &str, parts: &[&str]) {
    let mut rest = said;
    for part in parts {
        let found = rest.split_once(part);
        let (_, after) = found.unwrap_or_else(|| panic!("no {part:?} in:\n{said}"));
        rest = after;
    }
}

/// Checks what the command said against a snapshot.
pub fn check(actual: impl AsRef<str>, expected: impl snapbox::IntoData) {
    Assert::new()
        .normalize_paths(false)
        .action_env(snapbox::assert::DEFAULT_ACTION_ENV)
        .eq(actual.as_ref(), expected);
}

/// An empty folder to run the command in, with a home of its own. Compiled components are shared.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A place with nothing in it.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let home = folder.path().join("home");
        fs::create_dir(&home).expect("a folder can be made");
        std::os::unix::fs::symlink(compiled(), home.join("compiled")).expect("a link can be made");
        Place { folder }
    }

    /// A place with the component `behaviours.wasm`, which does what it is told.
    pub fn with_behaviours() -> Self {
        let place = Place::new();
        fs::copy(behaviours(), place.path("behaviours.wasm")).expect("a file can be copied");
        place
    }

    /// A place with the folder `text-stats`, a skill with a `skill.toml` and a `SKILL.md`.
    pub fn with_text_stats() -> Self {
        let place = Place::new();
        place.add_example("text-stats");
        place
    }

    /// Adds the folder of a packaged example skill.
    pub fn add_example(&self, name: &str) {
        self.add_other(name, name);
    }

    /// The same, in a folder of another name.
    pub fn add_other(&self, name: &str, folder: &str) {
        let folder = self.path(folder);
        fs::create_dir(&folder).expect("a folder can be made");
        fs::write(folder.join("skill.wasm"), example(name)).expect("a file can be written");
        let source = source(name);
        for file in ["skill.toml", "SKILL.md"] {
            fs::copy(source.join(file), folder.join(file)).expect("a file can be copied");
        }
    }

    /// Adds the folder `data`, with what the examples are tried on.
    pub fn add_data(&self) {
        let data = root().join("example-skills/data");
        std::os::unix::fs::symlink(data, self.path("data")).expect("a link can be made");
    }

    /// A path in this place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and makes the folders that it is in.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a folder can be made");
        }
        fs::write(&path, contents).expect("a file can be written");
        // Whatever the mask is: a policy that a group can write is refused.
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&path, mode).expect("a mode can be set");
    }

    /// The text of a file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file can be read")
    }

    /// The command, with little of this process's environment.
    pub fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skillhost"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("SKILLHOST_HOME", self.path("home"))
            .stdin(Stdio::null());
        for variable in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
        ] {
            if let Some(value) = std::env::var_os(variable) {
                command.env(variable, value);
            }
        }
        command
    }

    /// Runs the command, and gives what it says.
    pub fn run<const N: usize>(&self, args: [&str; N]) -> String {
        self.said(&self.output(args))
    }

    /// Runs the command.
    pub fn output<const N: usize>(&self, args: [&str; N]) -> Output {
        self.command(args).output().expect("the command starts")
    }

    /// Runs the command with something on standard input, and gives what it says.
    pub fn run_with_stdin<const N: usize>(&self, args: [&str; N], stdin: &[u8]) -> String {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        // Dropped at the end of the statement, so that the command sees the end.
        let written = child.stdin.take().expect("it is piped").write_all(stdin);
        written.expect("the command reads");
        self.said(&child.wait_with_output().expect("the command ends"))
    }

    /// Runs the command with a terminal as standard input, at which somebody types an answer.
    pub fn answer<const N: usize>(&self, args: [&str; N], answer: &str) -> String {
        let (mut person, terminal) = terminal();
        // Kept by the terminal until it is read.
        person
            .write_all(answer.as_bytes())
            .expect("a terminal takes what is typed");
        let output = self
            .command(args)
            .stdin(terminal)
            .output()
            .expect("the command starts");
        self.said(&output)
    }

    /// Runs the command at a terminal, at which somebody types an answer: what the command says, and
    /// what the person sees, without colours.
    pub fn at_terminal<const N: usize>(&self, args: [&str; N], answer: &str) -> (String, String) {
        let mut command = self.command(args);
        command.env("NO_COLOR", "1");
        let (output, seen) = watched(command, answer);
        let seen = String::from_utf8_lossy(&seen).replace("\r\n", "\n");
        (self.said(&output), self.steady(&seen))
    }

    /// The text of a file, with what varies replaced.
    pub fn file(&self, name: &str) -> String {
        self.steady(&self.read(name))
    }

    /// Exit code, standard output and standard error, with what varies replaced.
    pub fn said(&self, output: &Output) -> String {
        let code = output.status.code();
        let code = code.map_or("by a signal".to_owned(), |code| code.to_string());
        let stdout = self.steady(&String::from_utf8_lossy(&output.stdout));
        let stderr = self.steady(&String::from_utf8_lossy(&output.stderr));
        format!("exit: {code}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }

    fn steady(&self, text: &str) -> String {
        // Cargo's progress is cargo's.
        const CARGO: [&str; 7] = [
            "Updating",
            "Locking",
            "Downloading",
            "Downloaded",
            "Compiling",
            "Finished",
            "Blocking",
        ];
        let mut steady: String = text
            .split_inclusive('\n')
            .filter(|line| {
                let line = line.trim_start();
                !CARGO.iter().any(|word| line.starts_with(word))
                    && !line.starts_with("Adding ")
                    && !line.starts_with("Downloaded ")
            })
            .collect();
        steady = own_frames(&steady);
        for folder in [
            self.folder.path().to_owned(),
            self.folder.path().canonicalize().expect("it is there"),
        ] {
            steady = steady.replace(&folder.display().to_string(), "[PLACE]");
        }
        for filter in FILTERS {
            steady = replaced(&steady, filter);
        }
        steady
    }
}

/// A text with what a run cost left out.
pub fn without_cost(text: &str) -> String {
    replaced(text, COST)
}

fn replaced(text: &str, (pattern, replacement): (&str, &str)) -> String {
    let pattern = Regex::new(pattern).expect("a pattern of ours");
    pattern.replace_all(text, replacement).into_owned()
}

/// Runs a command at a terminal, at which somebody types an answer: its end with its standard output,
/// which is no terminal, and all that the terminal got.
pub fn watched(mut command: Command, answer: &str) -> (Output, Vec<u8>) {
    use std::io::Read as _;
    let (mut person, terminal) = terminal();
    person
        .write_all(answer.as_bytes())
        .expect("a terminal takes what is typed");
    // It shows what is typed when it comes to it, which is not to be within what the command says.
    let mut seen = Vec::new();
    let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
    while lines(&seen) < lines(answer.as_bytes()) {
        let mut part = [0; 1_024];
        let read = person.read(&mut part).expect("it is open");
        seen.extend_from_slice(&part[..read]);
    }
    command
        .stdin(terminal.try_clone().expect("a file can be had twice"))
        .stderr(terminal)
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    // It holds the terminal open, too.
    drop(command);
    let watching = std::thread::spawn(move || {
        let mut part = [0; 1_024];
        // Once the command is gone, reading fails.
        while let Ok(read @ 1..) = person.read(&mut part) {
            seen.extend_from_slice(&part[..read]);
        }
        seen
    });
    let mut stdout = Vec::new();
    let mut pipe = child.stdout.take().expect("it is piped");
    pipe.read_to_end(&mut stdout).expect("it can be read");
    let status = child.wait().expect("it ends");
    let seen = watching.join().expect("it does not panic");
    let output = Output {
        status,
        stdout,
        stderr: Vec::new(),
    };
    (output, seen)
}

/// A pseudo-terminal: the person's end, and the command's.
pub fn terminal() -> (File, File) {
    let (mut person, mut command) = (-1, -1);
    // SAFETY: both places are valid for writing, and null asks for no name and the usual settings.
    let opened = unsafe {
        libc::openpty(
            &raw mut person,
            &raw mut command,
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were opened just now, and nobody else has them.
    unsafe { (File::from_raw_fd(person), File::from_raw_fd(command)) }
}

/// Leaves out of backtraces what the compiler and the standard library put there.
fn own_frames(text: &str) -> String {
    let mut in_backtrace = false;
    let mut kept = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        in_backtrace &= line.starts_with("    ");
        if !in_backtrace || line.starts_with("    behaviours::") {
            kept.push_str(line);
        }
        in_backtrace |= line == "  in the skill, innermost first:\n";
    }
    kept
}

/// What a run cost, as a person is told.
const COST: (&str, &str) = (
    r"· [\d.]+ (µs|ms|s) · [\d.]+( [kMGT])? fuel · [\d.]+ [KMG]?i?B · [\d,]+ host calls?",
    "· [COST]",
);

/// What varies, and what to put in its place.
const FILTERS: [(&str, &str); 21] = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[TIME]"),
    (r"sha256:[0-9a-f]{64}", "sha256:[DIGEST]"),
    (r"(?m)^([a-z-]+ +\d\S* +)[0-9a-f]{12} ", "${1}[DIGEST] "),
    (r"\[DIGEST\] +[\d.]+ [KM]iB", "[DIGEST]  [SIZE]"),
    COST,
    (
        r"(cpu|instantiation|run|waiting|loading) [\d.]+ (µs|ms|s)",
        "$1 [TIME]",
    ),
    (r"sdk/\d+\.\d+\.\d+-[0-9a-f]{12}", "sdk/[VERSION]"),
    (r"[\d.]+ [KM]iB, once", "[SIZE], once"),
    (r"compiled in [\d.]+ s", "compiled in [TIME]"),
    (r"loaded, after [\d.]+ s", "loaded, after [TIME]"),
    (r"lib\.rs:\d+:\d+", "lib.rs:[LINE]"),
    (
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[ID]",
    ),
    (r"(?m)^(. |)[0-9a-f]{8} ", "${1}[JOB] "),
    (
        r"(before|replay|approve|resume|cancel|job) [0-9a-f]{8}([` ])",
        "$1 [JOB]$2",
    ),
    (r"  \d+ s ago +", "  [AGO]  "),
    (r"\(\d+ s ago\)", "([AGO])"),
    (r"[\d.]+ (?:µs|ms|s) on average, .*", "[TIMES]"),
    (r"· [\d.]+ (?:µs|ms|s)( ·|\n)", "· [TOOK]$1"),
    (r"[\d.]+( [kMGT])? fuel", "[FUEL] fuel"),
    (r"worker [0-9a-f]{8}\b", "worker [WORKER]"),
    (r"(?m)^(  retries +after) .*", "$1 [DELAYS]"),
];

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the skills of the tests are built, for all test binaries.
pub fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests")
}

/// The cache that all places share, as compiling takes its time.
fn compiled() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-by-the-command");
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        assert!(made.is_ok() || folder.is_dir(), "{made:?}");
        folder
    })
}

/// The component of `tests/guests/behaviours`, built when it is first asked for.
fn behaviours() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| guest("behaviours"))
}

/// The component of a guest of the tests, built when it is first asked for.
pub fn guest(name: &str) -> PathBuf {
    build("tests/guests", &[name]).remove(0)
}

/// The component of an example skill. All of them are built, by one call to cargo, when one is first
/// asked for, and kept here: what a command builds of a source later is put into their place.
fn example(name: &str) -> &'static [u8] {
    static EXAMPLES: OnceLock<HashMap<&str, Vec<u8>>> = OnceLock::new();
    let examples = EXAMPLES.get_or_init(|| {
        let paths = build("example-skills", &EXAMPLE_SKILLS);
        let read = |path| fs::read(path).expect("it was built");
        EXAMPLE_SKILLS
            .into_iter()
            .zip(paths.into_iter().map(read))
            .collect()
    });
    &examples[name]
}

/// The folder of an example skill's source, for a command that builds it into the folder that all
/// tests build to.
pub fn source(name: &str) -> PathBuf {
    example(name);
    root().join("example-skills").join(name)
}

/// Builds packages of a workspace, and says where their components are.
fn build(workspace: &str, packages: &[&str]) -> Vec<PathBuf> {
    // The integration tests build to the same folder.
    let built = guest::build(&root().join(workspace), packages, &target());
    let path = |package: &&str| built.join(format!("{}.wasm", package.replace('-', "_")));
    packages.iter().map(path).collect()
}
