//! `worker`: processes that come and go.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use snapbox::str;

use crate::harness::{Place, check, says};

fn start<const N: usize>(place: &Place, args: [&str; N]) -> Child {
    place
        .command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts")
}

fn send(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).expect("a process id is small");
    let id = Pid::from_raw(id).expect("a process id is not zero");
    kill_process(id, signal).expect("it can be signalled");
}

/// Waits until a worker says so many lines.
fn wait_for_lines(child: &mut Child, many: usize) -> BufReader<std::process::ChildStderr> {
    let stderr = child.stderr.take().expect("it is piped");
    let mut reader = BufReader::new(stderr);
    let mut line = String::new();
    for _ in 0..many {
        line.clear();
        let read = reader.read_line(&mut line).expect("it can be read");
        assert!(read > 0, "it ended");
    }
    reader
}

fn submitted(place: &Place, lines: &str) -> Vec<String> {
    place.write("jobs.jsonl", lines);
    let output = place.output(["jobs", "submit", "--from", "jobs.jsonl"]);
    assert!(output.status.success(), "{}", place.said(&output));
    let stdout = String::from_utf8(output.stdout).expect("it is text");
    stdout.lines().map(str::to_owned).collect()
}

fn stats(place: &Place) -> Value {
    let output = place.output(["jobs", "stats", "--json"]);
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

#[test]
fn one_waits_for_what_another_process_does() {
    let place = Place::with_behaviours();
    let mut worker = start(&place, ["worker", "--concurrency", "1"]);
    let _reader = wait_for_lines(&mut worker, 1);
    let wait = |tool: &str, input: &str| {
        place.run([
            "jobs",
            "submit",
            "behaviours.wasm",
            tool,
            "-i",
            input,
            "--wait",
            "--attempts",
            "1",
        ])
    };
    check(
        wait("echo", r#"{"a": 1}"#),
        str![[r#"
exit: 0
--- stdout
{"a":1}
--- stderr
job [ID]
✓ behaviours 1.2.3 · echo · [COST]

"#]],
    );
    check(
        wait("fail", r#"{"message": "no\u001b[2J", "code": "c"}"#),
        str![[r#"
exit: 1
--- stdout
--- stderr
job [ID]
error: the skill failed: no\u{1b}[2J
  code: c
✗ behaviours 1.2.3 · fail · failed · [COST]

"#]],
    );
    let output = place
        .command(["jobs", "submit", "behaviours.wasm", "spin"])
        .args(["--fuel", "1M", "--wait", "--json"])
        .output()
        .expect("the command starts");
    assert_eq!(output.status.code(), Some(4));
    let result: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(result["status"], "resource_exhausted");
    assert_eq!(result["failure"]["limit"], "fuel");
    send(&worker, Signal::TERM);
    let ended = worker.wait().expect("it ends");
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_worker_that_is_told_to_stop_gives_back_what_runs() {
    let place = Place::with_behaviours();
    let line = r#"{"skill": "behaviours.wasm", "tool": "spin", "timeout": "60s", "fuel": "1000G"}"#;
    let quick = r#"{"skill": "behaviours.wasm", "tool": "echo", "priority": "high"}"#;
    submitted(&place, &format!("{quick}\n{line}\n"));
    let mut worker = start(&place, ["worker", "--concurrency", "1", "--grace", "60s"]);
    // The quick one has ended, and so the other runs next.
    let reader = wait_for_lines(&mut worker, 2);
    send(&worker, Signal::INT);
    // The second one hurries.
    send(&worker, Signal::TERM);
    let rest: Vec<String> = reader.lines().map_while(Result::ok).collect();
    let ended = worker.wait().expect("it ends");
    assert!(ended.success(), "{ended}: {rest:?}");
    let stopping = "stopping: 1 running job may finish within 1 min";
    assert!(
        rest.iter().any(|line| line.starts_with(stopping)),
        "{rest:?}"
    );
    let stats = stats(&place);
    assert_eq!(stats["by_status"]["pending"], 1, "{stats}");
    assert_eq!(stats["by_status"]["completed"], 1, "{stats}");
    assert_eq!(stats["active_workers"], 0, "{stats}");
}

#[test]
fn what_a_killed_worker_had_is_done_by_another() {
    let place = Place::with_behaviours();
    let line = |ms: u32| {
        format!(r#"{{"skill": "behaviours.wasm", "tool": "sleep", "input": {{"ms": {ms}}}}}"#)
            + "\n"
    };
    // The first one takes so long that it is running whenever the worker is killed.
    let ids = submitted(&place, &(line(2_000) + &line(10).repeat(11)));
    assert_eq!(ids.len(), 12);
    let worker = ["worker", "--concurrency", "2", "--lease", "1s"];
    let mut killed = start(&place, worker);
    // It has begun, and has another running.
    let _reader = wait_for_lines(&mut killed, 2);
    send(&killed, Signal::KILL);
    killed.wait().expect("it ends");
    let mut other = start(&place, worker);
    let _other = wait_for_lines(&mut other, 1);
    for id in &ids {
        let output = place.output(["jobs", "watch", id]);
        assert!(output.status.success(), "{}", place.said(&output));
    }
    send(&other, Signal::TERM);
    assert!(other.wait().expect("it ends").success());
    let stats = stats(&place);
    assert_eq!(stats["by_status"]["completed"], 12, "{stats}");
    assert_eq!(stats["active_workers"], 0, "{stats}");
}

/// A guest that computes and one that waits are stopped at once by a word of another process: long before
/// their time is up, by what the queue wrote down.
#[test]
fn a_running_job_is_cancelled_from_another_process() {
    let place = Place::with_behaviours();
    let line = |tool: &str| {
        let line = r#"{"skill": "behaviours.wasm", "timeout": "10m", "fuel": "1000G", "tool": "#;
        format!("{line}\"{tool}\"}}\n")
    };
    let ids = submitted(&place, &(line("spin") + &line("wait_for_ever")));
    let mut worker = start(&place, ["worker", "--concurrency", "2"]);
    let _reader = wait_for_lines(&mut worker, 1);
    let json = |args: [&str; 4]| -> Value {
        let output = place.output(args);
        serde_json::from_slice(&output.stdout).expect("it is JSON")
    };
    while stats(&place)["by_status"]["running"] != 2 {}
    let output = place.output(["jobs", "cancel", &ids[0], &ids[1]]);
    assert!(output.status.success(), "{}", place.said(&output));
    for id in &ids {
        let output = place.output(["jobs", "watch", id]);
        assert_eq!(output.status.code(), Some(130), "{}", place.said(&output));
        let shown = json(["jobs", "show", id, "--json"]);
        assert_eq!(shown["job"]["status"], "cancelled");
        let attempts = shown["attempts"].as_array().expect("a list");
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0]["status"], "cancelled", "{shown}");
        let time = |name: &str| -> chrono::DateTime<chrono::Utc> {
            let text = attempts[0][name].as_str().expect("a time");
            text.parse().expect("a time")
        };
        let took = time("ended_at") - time("started_at");
        assert!(took < chrono::TimeDelta::minutes(5), "{took}");
    }
    send(&worker, Signal::TERM);
    assert!(worker.wait().expect("it ends").success());
}

#[test]
fn what_makes_no_sense_is_said() {
    let place = Place::new();
    check(
        place.run(["worker", "--lease", "10ms"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value '10ms' for '--lease <TIME>': a lease is at least 1s

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["worker", "--stack", "1"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: invalid value '1' for '--stack <SIZE>': the stack can be 64 KiB to 16 MiB large

For more information, try '--help'.

"#]],
    );
    check(
        place.run(["worker", "--until-empty", "--concurrency", "1"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
working on 1 job at a time; Ctrl-C ends it
0 attempts, 0 jobs completed

"#]],
    );
    check(
        place.run(["worker", "--callback-secret", "/nowhere/at-all"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: cannot read `/nowhere/at-all`, which `--callback-secret` names: No such file or directory (os error 2)
hint: name a file that is there

"#]],
    );
}

/// A failure is kept with the job, where clients of other doors read it: it names no path of the host's.
#[test]
fn what_is_kept_of_a_directory_that_is_gone_names_no_path() {
    let place = Place::with_behaviours();
    place.write("of-the-operator/file", "");
    let dir = "of-the-operator:/data:ro";
    let granted = place.output(["policy", "grant", "behaviours.wasm", "--dir", dir]);
    assert!(granted.status.success(), "{}", place.said(&granted));
    let line = r#"{"skill": "behaviours.wasm", "tool": "echo"}"#;
    let id = submitted(&place, line).remove(0);
    std::fs::remove_dir_all(place.path("of-the-operator")).expect("it can be removed");
    let worked = place.output(["worker", "--until-empty"]);
    let log = String::from_utf8_lossy(&worked.stderr);
    assert!(log.contains("of-the-operator"), "the log names it: {log}");
    let shown = place.output(["jobs", "show", &id, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("it is JSON");
    let kept = shown["attempts"][0]["failure"].to_string();
    assert!(kept.contains("/data"), "{shown}");
    assert!(
        !kept.contains("of-the-operator") && !kept.contains("--dir"),
        "{kept}"
    );
}

/// Whoever reads the secret can sign what others then believe.
#[test]
fn the_secret_of_callbacks_is_never_granted() {
    let place = Place::with_behaviours();
    place.write("keys/callbacks", format!("whsec_{}\n", "QUJD".repeat(12)));
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(place.path("keys/callbacks"), mode).expect("a mode");
    let said = place.run([
        "jobs",
        "submit",
        "behaviours.wasm",
        "list",
        "--arg",
        "path=/in",
        "--dir",
        "keys:/in",
    ]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let said = place.run([
        "worker",
        "--until-empty",
        "--callback-secret",
        "keys/callbacks",
    ]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let said = place.run(["jobs", "dead", "list", "--json"]);
    assert!(
        said.contains("what is granted there is the host's own"),
        "{said}"
    );
}

/// What one skill needs of the host's is broken: its job waits until that is mended, and others are done meanwhile.
#[test]
fn a_broken_storage_stops_no_worker() {
    let place = Place::with_behaviours();
    place.add_example("notes");
    place.write("home/storage.db", "garbage ".repeat(100));
    let granted = place.output(["policy", "grant", "notes", "--storage"]);
    assert!(granted.status.success(), "{}", place.said(&granted));
    let add =
        r#"{"skill": "notes", "tool": "add", "input": {"text": "later"}, "priority": "critical"}"#;
    let echo = r#"{"skill": "behaviours.wasm", "tool": "echo"}"#;
    let ids = submitted(&place, &format!("{add}\n{echo}\n"));
    let mut worker = start(&place, ["worker", "--concurrency", "1"]);
    let _reader = wait_for_lines(&mut worker, 1);
    let output = place.output(["jobs", "watch", &ids[1]]);
    assert!(output.status.success(), "{}", place.said(&output));
    let show = || -> Value {
        let shown = place.output(["jobs", "show", &ids[0], "--json"]);
        serde_json::from_slice(&shown.stdout).expect("it is JSON")
    };
    // It was the first to be tried.
    let shown = show();
    let tried = &shown["attempts"][0];
    assert_eq!(
        (&tried["status"], &tried["counted"]),
        (&"released".into(), &false.into())
    );
    let why = tried["failure"]["message"].as_str().expect("a message");
    assert!(
        why.ends_with("storage.db`: file is not a database"),
        "{why}"
    );
    std::fs::remove_file(place.path("home/storage.db")).expect("it is there");
    let output = place.output(["jobs", "watch", &ids[0]]);
    assert!(output.status.success(), "{}", place.said(&output));
    send(&worker, Signal::TERM);
    assert!(worker.wait().expect("it ends").success());
}

/// Without an attempt, too: who waits for it is to see what became of it.
#[test]
fn a_job_whose_deadline_passed_is_told_and_counted() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    submitted(
        &place,
        r#"{"skill": "text-stats", "input": {"text": "a"}, "deadline": "50ms"}"#,
    );
    std::thread::sleep(std::time::Duration::from_millis(100));
    let said = place.run(["worker", "--until-empty", "--concurrency", "1"]);
    says(
        &said,
        &[
            "exit: 0\n",
            "\n✗ [JOB] text-stats · dead · its deadline passed while it waited\n",
            "0 attempts, 0 jobs completed, 1 died (`skillhost jobs dead list`)\n",
        ],
    );
}
