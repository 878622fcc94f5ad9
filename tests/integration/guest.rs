//! Building what runs in the sandbox.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TARGET: &str = "wasm32-wasip2";

/// Tells cargo that what it builds need not be fast: with all that they depend on, the skills take long to build.
pub const NEED_NOT_BE_FAST: (&str, &str) = ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");

/// The skills of `example-skills`. Built by one call to cargo, they share what they depend on, and so do
/// all test binaries that ask for them in this way.
#[allow(dead_code, reason = "only some of the tests run examples")]
pub const EXAMPLE_SKILLS: [&str; 9] = [
    "csv-query",
    "fetch-page",
    "html-to-markdown",
    "image-tools",
    "json-query",
    "notes",
    "regex-search",
    "template-render",
    "text-stats",
];

/// Builds packages of a workspace, all where none is named, and says in which folder their components are.
/// What several processes build to the same folder, they build one after the other.
pub fn build(workspace: &Path, packages: &[&str], target: &Path) -> PathBuf {
    fs::create_dir_all(target).expect("a folder can be made");
    let lock = File::create(target.join(".build-lock")).expect("a file can be made");
    lock.lock().expect("a file can be locked");
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--release", "--target", TARGET])
        .args(packages.iter().flat_map(|package| ["--package", *package]))
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", target)
        .envs([NEED_NOT_BE_FAST])
        // It reads them as well, and a test has them lead to what does not answer.
        .env_remove("SSL_CERT_FILE")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = with_target(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} {packages:?} cannot be built:\n{said}",
        workspace.display()
    );
    target.join(TARGET).join("release")
}

/// Builds with this command, and once more with the target where that was missing: rustup adds what
/// `rust-toolchain.toml` names only where it may.
fn with_target(mut command: Command) -> Output {
    let mut build = || command.output().expect("cargo can be started");
    let output = build();
    if !String::from_utf8_lossy(&output.stderr).contains("target may not be installed") {
        return output;
    }
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .output();
    assert!(
        added.is_ok_and(|added| added.status.success()),
        "the guests cannot be built: run `rustup target add {TARGET}`"
    );
    build()
}
