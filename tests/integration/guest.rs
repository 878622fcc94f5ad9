//! Building what runs in the sandbox.

use std::process::{Command, Output};

const TARGET: &str = "wasm32-wasip2";

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
