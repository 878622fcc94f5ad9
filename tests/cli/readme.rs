//! Following what the README says: its very commands, one after the other in one shell, and of each the
//! exit code and the output that it names.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::harness::{NEED_NOT_BE_FAST, Place, root, target, without_cost};

/// What stands between the outputs of two steps. No command says it.
const MARK: &str = "----8<----";

/// One command, and what the README says of it.
pub struct Step {
    pub command: String,
    pub exit: i32,
    /// Each is somewhere in its output, in this order; `…` stands for whatever else is there, and what
    /// a run cost is left out.
    pub says: Vec<String>,
}

/// The section under this heading.
pub fn section(heading: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("it is there");
    let heading = format!("\n## {heading}\n");
    let (_, section) = readme.split_once(&heading).expect("it has the section");
    let (section, _) = section.split_once("\n## ").expect("it is not the last");
    section.to_owned()
}

/// The blocks of a language, without their fences.
pub fn blocks(section: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let block = |part: &str| part.split("```").next().unwrap_or_default().to_owned();
    section.split(&fence).skip(1).map(block).collect()
}

/// The commands of a section.
pub fn steps(section: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let text = blocks(section, "console").concat().replace("\\\n", " ");
    for line in text.lines() {
        let Some(typed) = line.strip_prefix("$ ") else {
            let step = steps.last_mut().expect("an output is that of a command");
            step.says.push(without_cost(line));
            continue;
        };
        let (command, said) = typed.split_once("  #").unwrap_or((typed, ""));
        let exit = said.trim().strip_prefix("exit code ");
        steps.push(Step {
            command: command.trim().to_owned(),
            exit: exit.map_or(0, |code| code.parse().expect("a number")),
            says: Vec::new(),
        });
    }
    steps
}

/// Follows the steps in a place, each as it is typed, after these first lines; checks what each says,
/// and gives all that was said.
pub fn follow(
    place: &Place,
    first: &str,
    steps: &[Step],
    typed: impl Fn(&Step) -> String,
) -> String {
    let mut script = format!("exec 2>&1\n{first}\n");
    for step in steps {
        script.push_str(&typed(step));
        script.push_str(&format!("\ncode=$?; echo; echo '{MARK}' $code\n"));
    }
    place.write("script", &script);
    let output = Command::new("bash")
        .arg("script")
        .current_dir(place.path(""))
        .env_remove("SKILLHOST_POLICY")
        .env_remove("SKILLHOST_DATABASE")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_DIR", target())
        .envs([NEED_NOT_BE_FAST])
        .env("SKILLHOST_HOME", place.path("home"))
        .env("PATH", path())
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let output = without_cost(&String::from_utf8_lossy(&output.stdout));
    let mut rest = output.as_str();
    for step in steps {
        let (said, after) = rest.split_once(MARK).unwrap_or((rest, " none\n"));
        let (code, after) = after.split_once('\n').unwrap_or((after, ""));
        rest = after;
        let exit = step.exit.to_string();
        assert_eq!(code.trim(), exit, "{}\n{output}", step.command);
        let mut left = said;
        for part in step.says.iter().flat_map(|line| line.split('…')) {
            let Some((_, after)) = left.split_once(part) else {
                panic!("`{}` does not say `{part}`:\n{output}", step.command);
            };
            left = after;
        }
    }
    // A server that is not stopped at the end would be there for ever.
    assert!(rest.trim().is_empty(), "{rest}");
    output
}

/// Where the command is found by its name.
fn path() -> std::ffi::OsString {
    let command = PathBuf::from(env!("CARGO_BIN_EXE_skillhost"));
    let folder = command.parent().expect("it is in a folder").to_owned();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(folder).chain(std::env::split_paths(&others));
    std::env::join_paths(all).expect("no folder has a colon in it")
}
