//! The tour of the policy in the README: its very file and its very commands, one after the other in one
//! shell, and of each command the exit code and the output that the README names.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::harness::{Place, root};

const SECTION: &str = "\n## Ten minutes with a policy\n";
/// What stands between the outputs of two steps. No command says it.
const MARK: &str = "----8<----";

/// One command, and what the README says of it.
struct Step {
    command: String,
    exit: i32,
    /// Each is somewhere in its output, in this order; `…` stands for whatever else is there.
    says: Vec<String>,
}

/// The section, with ports that are free here.
fn section() -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("it is there");
    let (_, section) = readme.split_once(SECTION).expect("it has the tour");
    let (section, _) = section.split_once("\n## ").expect("it is not the last");
    let mut section = section.to_owned();
    // Held until both are known, so that they differ.
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    for (named, free) in ["8765", "7411"].iter().zip(&free) {
        let port = free.local_addr().expect("it has one").port();
        section = section.replace(named, &port.to_string());
    }
    let listen = section
        .split("127.0.0.1:")
        .filter_map(|after| after.split_once("/v1"));
    let (listen, _) = listen.last().expect("it is called");
    section.replace(
        "skillhost serve &",
        &format!("skillhost serve --listen 127.0.0.1:{listen} &"),
    )
}

/// The blocks of a language, without their fences.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let block = |part: &str| part.split("```").next().unwrap_or_default().to_owned();
    section.split(&fence).skip(1).map(block).collect()
}

fn steps(section: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks(section, "console").concat().lines() {
        let Some(typed) = line.strip_prefix("$ ") else {
            let step = steps.last_mut().expect("an output is that of a command");
            step.says.push(line.to_owned());
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

/// What is typed, for a reader who does not look: the id is taken from the list, and instead of waiting for
/// some time it is tried until it works.
fn typed(step: &Step) -> String {
    let Step { command, says, .. } = step;
    if command.contains("9c1e7d40") {
        let first = "sed -n 's/.*\"id\": *\"\\([^\"]*\\)\".*/\\1/p' | head -n 1";
        let id = format!("$(skillhost approvals list --json | {first})");
        return command.replace("9c1e7d40", &id);
    }
    if let Some((before, _)) = command.split_once("; sleep") {
        return before.to_owned();
    }
    let until = |works: &str, command: &str| {
        format!("for try in $(seq 3000); do {works} && break; done; {command}")
    };
    if command == "fetch" && says.iter().any(|line| line.contains("you sent")) {
        return until("fetch > fetched; grep -q 'you sent' fetched", "cat fetched");
    }
    if command.ends_with('&') {
        let port = match command.split_once("--listen ") {
            Some((_, listen)) => listen.trim_end_matches(" &").to_owned(),
            None => "$SERVER".to_owned(),
        };
        let works = format!("curl -s -o /dev/null http://{port}/");
        return format!("{command}\n{}", until(&works, &works));
    }
    command.clone()
}

#[test]
fn the_tour_of_the_policy_goes_as_it_says() {
    let place = Place::new();
    std::fs::create_dir(place.path("example-skills")).expect("a folder can be made");
    for skill in ["text-stats", "notes", "fetch-page"] {
        place.add_example(skill);
        let to = place.path("example-skills").join(skill);
        std::fs::rename(place.path(skill), to).expect("it can be moved");
    }
    let section = section();
    let [policy] = &blocks(&section, "toml")[..] else {
        panic!("there is one policy");
    };
    let [server] = &blocks(&section, "python")[..] else {
        panic!("there is one server");
    };
    place.write("policy", policy);
    place.write("server", server);
    let (_, address) = policy.split_once("http://").expect("it grants a request");
    let (address, _) = address.split_once('"').expect("it ends");
    let steps = steps(&section);
    assert!(steps.len() > 20, "{}", steps.len());
    let mut script = format!("exec 2>&1\nSERVER={address}\n");
    for (number, step) in steps.iter().enumerate() {
        script.push_str(&typed(step));
        script.push_str(&format!("\ncode=$?; echo; echo '{MARK}' $code\n"));
        if number == 0 {
            // What the reader saves, and the cache that all tests share.
            script.push_str("cp policy tour/policy.toml; cp server tour/server.py\n");
            script.push_str("ln -s \"$PWD/home/compiled\" tour/compiled\n");
        }
    }
    place.write("script", &script);
    let output = Command::new("bash")
        .arg("script")
        .current_dir(place.path(""))
        .env_remove("SKILLHOST_POLICY")
        .env_remove("SKILLHOST_DATABASE")
        .env("PATH", path())
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut rest = output.as_str();
    for step in &steps {
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
}

/// Where the command is found by its name.
fn path() -> std::ffi::OsString {
    let command = std::path::Path::new(env!("CARGO_BIN_EXE_skillhost"));
    let folder = command.parent().expect("it is in a folder").to_owned();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(folder).chain(std::env::split_paths(&others));
    std::env::join_paths(all).expect("no folder has a colon in it")
}
