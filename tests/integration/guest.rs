//! Building what runs in the sandbox.

use std::process::{Command, Output};

const TARGET: &str = "wasm32-wasip2";

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

/// Builds with this command, and once more with the target where that was missing: rustup adds what
/// `rust-toolchain.toml` names only where it may.
pub fn build(mut command: Command) -> Output {
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
