//! Ctrl-C, what else tells the command to end, and readers that go away.

use std::fs;
use std::io::{Error, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use snapbox::str;

use crate::harness::{Place, check, root};

fn start<const N: usize>(place: &Place, args: [&str; N]) -> Child {
    started(place.command(args), libc::SIG_DFL)
}

/// Starts a command with this done about SIGHUP, whatever was done about it where the tests were started.
fn started(mut command: Command, hangup: libc::sighandler_t) -> Child {
    let set = move || {
        // SAFETY: neither is a function that would be called.
        match unsafe { libc::signal(libc::SIGHUP, hangup) } {
            libc::SIG_ERR => Err(Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: what is called between fork and exec may be called by a handler of signals, too.
    unsafe { command.pre_exec(set) }
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts")
}

fn interrupt(child: &Child) {
    send(child, Signal::INT);
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it can be signalled");
}

/// Waits until the skill has said something, and so runs.
fn wait_until_it_runs(child: &mut Child) {
    let stderr = child.stderr.as_mut().expect("it is piped");
    let mut seen = [0; 1];
    stderr.read_exact(&mut seen).expect("it says something");
}

/// How soon after the signal the command is gone, where other tests leave the machine time for it.
const SOON: Duration = Duration::from_secs(1);
/// How often it is tried whether the machine does.
const TRIES: usize = 5;

/// Runs a tool that goes on for ever, and interrupts it: what comes of that, once it came soon.
fn interrupted<const N: usize>(place: &Place, args: [&str; N]) -> Output {
    // So that the time it takes to compile does not matter.
    place.run(["run", "behaviours.wasm", "echo"]);
    let mut took = Vec::new();
    loop {
        let mut child = start(place, args);
        wait_until_it_runs(&mut child);
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        interrupt(&child);
        let output = child.wait_with_output().expect("the command ends");
        let elapsed = began.elapsed();
        took.push(elapsed);
        if elapsed < SOON {
            return output;
        }
        assert!(took.len() < TRIES, "{took:?}: {}", place.said(&output));
    }
}

#[test]
fn a_guest_that_computes_is_cancelled() {
    let place = Place::with_behaviours();
    let args = ["run", "behaviours.wasm", "spin", "--timeout", "60s", "-v"];
    let said = place.said(&interrupted(&place, args));
    let end = said.find("error: ").expect("it says so");
    assert!(said.starts_with("exit: 130\n"), "{said}");
    check(
        &said[end..],
        str![[r#"
error: cancelled while the skill ran
✗ behaviours 1.2.3 · spin · cancelled · [COST]
  cpu [TIME] · instantiation [TIME] · run [TIME] · waiting [TIME] · loading [TIME] · 2 B in · 0 B out

"#]],
    );
}

#[test]
fn a_guest_that_waits_is_cancelled() {
    let place = Place::with_behaviours();
    let args = [
        "run",
        "behaviours.wasm",
        "wait_for_ever",
        "--timeout",
        "60s",
        "-v",
        "--json",
    ];
    let output = interrupted(&place, args);
    assert_eq!(output.status.code(), Some(130));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["status"], "cancelled");
    assert!(
        json["usage"]["wall_time_ms"].as_f64() > Some(100.0),
        "{json}"
    );
}

/// As `timeout` does it, which may send the signal twice: to the process, and to its group. So may the end of a
/// terminal with SIGHUP.
#[test]
fn termination_is_as_ctrl_c_is_but_for_the_exit_code() {
    let place = Place::with_behaviours();
    place.run(["run", "behaviours.wasm", "echo"]);
    let (hangup, terminate) = (Signal::HUP, Signal::TERM);
    for (tool, signals) in [
        ("spin", &[terminate][..]),
        ("wait_for_ever", &[terminate]),
        ("spin", &[terminate, terminate]),
        ("spin", &[hangup]),
        ("wait_for_ever", &[hangup]),
        ("wait_for_ever", &[hangup, hangup, terminate]),
    ] {
        let mut child = start(
            &place,
            ["run", "behaviours.wasm", tool, "--timeout", "60s", "-v"],
        );
        wait_until_it_runs(&mut child);
        std::thread::sleep(Duration::from_millis(300));
        for signal in signals {
            send(&child, *signal);
        }
        let output = child.wait_with_output().expect("the command ends");
        let said = place.said(&output);
        assert!(said.starts_with("exit: 143\n"), "{said}");
        let bill = format!(
            "\nerror: cancelled while the skill ran\n✗ behaviours 1.2.3 · {tool} · cancelled · "
        );
        assert!(said.contains(&bill), "{said}");
    }
    let shown = place.run(["audit", "show", "--kind", "execution"]);
    assert_eq!(shown.matches("· cancelled").count(), 6, "{shown}");
}

/// As below `nohup`.
#[test]
fn a_hangup_that_was_ignored_stays_ignored() {
    let place = Place::with_behaviours();
    place.run(["run", "behaviours.wasm", "echo"]);
    let args = [
        "run",
        "behaviours.wasm",
        "wait_for_ever",
        "--timeout",
        "60s",
        "-v",
    ];
    let mut child = started(place.command(args), libc::SIG_IGN);
    wait_until_it_runs(&mut child);
    std::thread::sleep(Duration::from_millis(300));
    send(&child, Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(child.try_wait().expect("it can be asked"), None);
    send(&child, Signal::TERM);
    let output = child.wait_with_output().expect("the command ends");
    let said = place.said(&output);
    assert!(said.starts_with("exit: 143\n"), "{said}");
}

#[test]
fn a_compilation_is_cancelled() {
    let place = Place::with_behaviours();
    let mut child = start(
        &place,
        ["--home", "empty", "-v", "run", "behaviours.wasm", "echo"],
    );
    // The first thing that it says is that it compiles.
    wait_until_it_runs(&mut child);
    interrupt(&child);
    let output = child.wait_with_output().expect("the command ends");
    let said = place.said(&output);
    let end = said.find("error: ").expect("it says so");
    assert!(said.starts_with("exit: 130\n"), "{said}");
    check(
        &said[end..],
        str![[r#"
error: cancelled while the skill was being loaded, after [TIME]

"#]],
    );
}

const SLOW: &str = r#"
[package]
name = "slow"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[workspace]
"#;

/// Says which process it is, and does not end because it is told to; nor does it go on for ever, should nobody end it.
const WAITS: &str = r#"
unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
}

fn main() {
    // SIGHUP, SIGINT and SIGTERM are ignored.
    for number in [1, 2, 15] {
        unsafe { signal(number, 1) };
    }
    std::fs::write("begun", std::process::id().to_string()).unwrap();
    std::fs::rename("begun", "building").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(60));
}
"#;

/// Whether a process runs: one that has ended may still have its number.
fn runs(process: &str) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        return false;
    };
    // Behind its name, which may have anything in it.
    let state = status.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    !matches!(state, Some("Z" | "X"))
}

/// As a terminal does it, which tells every process of the group; and as `kill` does it, which tells
/// one.
#[test]
fn a_build_is_cancelled() {
    let place = Place::new();
    place.write("slow/Cargo.toml", SLOW);
    place.write("slow/src/lib.rs", "");
    place.write("slow/build.rs", WAITS);
    for (group, signal, code) in [
        (true, Signal::INT, 130),
        (false, Signal::INT, 130),
        (true, Signal::TERM, 143),
        (false, Signal::TERM, 143),
        (false, Signal::HUP, 143),
    ] {
        let mut command = place.command(["run", "slow", "--json"]);
        command.process_group(0);
        let mut child = started(command, libc::SIG_DFL);
        let building = place.path("slow/building");
        while !building.exists() {
            let ended = child.try_wait().expect("it can be asked");
            assert_eq!(ended, None, "it does not build");
            std::thread::sleep(Duration::from_millis(20));
        }
        let process = fs::read_to_string(&building).expect("it can be read");
        fs::remove_file(&building).expect("it can be removed");
        assert!(runs(&process), "{process}");
        match group {
            true => kill_process_group(Pid::from_child(&child), signal),
            false => kill_process(Pid::from_child(&child), signal),
        }
        .expect("it can be signalled");
        let output = child.wait_with_output().expect("the command ends");
        assert_eq!(output.status.code(), Some(code), "{}", place.said(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        assert_eq!(json["status"], "cancelled");
        assert_eq!(
            json["failure"]["message"],
            "cancelled while the skill was being built"
        );
        // It was not built to its end, so that nothing was compiled here.
        assert_eq!(json["usage"]["compile_time_ms"], 0.0, "{json}");
        // Nor does anything go on.
        let began = Instant::now();
        while runs(&process) {
            assert!(began.elapsed() < Duration::from_secs(10), "{signal:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The command, that builds the folder `source` with tools that only say what the real ones would, and gets
/// `behaviours.wasm`.
fn building<const N: usize>(place: &Place, args: [&str; N]) -> Command {
    place.write(
        "source/Cargo.toml",
        "[package]\nname = \"x\"\n[lib]\ncrate-type = [\"cdylib\"]\n",
    );
    let tools = ["rust", "rustup"].map(|folder| root().join("tests/cli/tools").join(folder));
    let mut command = place.command(args);
    command.env(
        "PATH",
        std::env::join_paths(tools).expect("no path has a colon"),
    );
    command
}

/// Waits until the command says a line that begins like this.
fn wait_for_line(child: &mut Child, begin: &str) {
    let stderr = child.stderr.as_mut().expect("it is piped");
    let mut line = Vec::new();
    while !(line.starts_with(begin.as_bytes()) && line.ends_with(b"\n")) {
        if line.ends_with(b"\n") {
            line.clear();
        }
        let mut byte = [0; 1];
        stderr.read_exact(&mut byte).expect("it says more");
        line.extend(byte);
    }
}

#[test]
fn what_was_built_is_cancelled_as_anything_is() {
    let place = Place::with_behaviours();
    place.run(["run", "behaviours.wasm", "echo"]);
    let args = ["run", "source", "wait_for_ever", "--timeout", "60s", "-v"];
    for signal in [Signal::TERM, Signal::HUP] {
        let mut child = started(building(&place, args), libc::SIG_DFL);
        wait_for_line(&mut child, "loaded ");
        std::thread::sleep(Duration::from_millis(300));
        send(&child, signal);
        let output = child.wait_with_output().expect("the command ends");
        let said = place.said(&output);
        assert!(said.starts_with("exit: 143\n"), "{said}");
        let bill = "✗ behaviours 1.2.3 · wait_for_ever · cancelled · ";
        assert!(said.contains(bill), "{said}");
    }
}

/// Building it does not keep what nobody waits for from ending the command.
#[test]
fn termination_ends_what_does_not_act_upon_it_after_a_build() {
    let place = Place::with_behaviours();
    let args = ["jobs", "submit", "source", "echo", "--wait"];
    for signal in [Signal::TERM, Signal::HUP] {
        let mut child = started(building(&place, args), libc::SIG_DFL);
        wait_for_line(&mut child, "warning: no worker is running");
        send(&child, signal);
        let ended = child.wait_with_output().expect("the command ends").status;
        assert_eq!(ended.signal(), Some(signal.as_raw()));
    }
}

#[test]
fn nobody_needs_to_read_to_the_end() {
    let place = Place::with_behaviours();
    let input = r#"{"bytes": 900000}"#;
    let mut child = start(
        &place,
        ["run", "behaviours.wasm", "answer_large", "-i", input],
    );
    // More than a pipe holds, and nobody takes it.
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the command ends");
    check(
        place.said(&output),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ behaviours 1.2.3 · answer_large · [COST]

"#]],
    );
}

#[test]
fn nobody_needs_to_hear_of_errors() {
    let place = Place::new();
    let mut child = start(&place, ["run", "nowhere"]);
    drop(child.stderr.take());
    let output = child.wait_with_output().expect("the command ends");
    assert_eq!(output.status.code(), Some(6));
}
