//! `jobs watch` at a terminal, and how far a guest says that it has come.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::TryRecvError;

use rustix::process::{Pid, Signal, kill_process};

use super::{id, json};
use crate::harness::{Place, terminal};

fn interrupt(child: &mut Child) {
    let id = i32::try_from(child.id()).expect("a process id is small");
    let id = Pid::from_raw(id).expect("a process id is not zero");
    kill_process(id, Signal::INT).expect("it can be signalled");
    assert!(child.wait().expect("it ends").success());
}

/// One that waits is where it is, and nobody takes it on.
#[test]
fn who_watches_a_job_that_nobody_does_is_told_so() {
    let place = super::installed();
    let job = id(&place, &["text-stats", "--arg", "text=a"]);
    let mut watch = place
        .command(["jobs", "watch", &job])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let lines = BufReader::new(watch.stderr.take().expect("it is piped")).lines();
    let said: Vec<String> = lines.map_while(Result::ok).take(2).collect();
    watch.kill().expect("it can be ended");
    watch.wait().expect("it ends");
    let [stands, nobody] = &said[..] else {
        panic!("{said:?}");
    };
    assert!(stands.ends_with(" is pending"), "{said:?}");
    assert_eq!(
        nobody,
        "warning: no worker is running; start one with `skillhost worker`, or stop waiting with Ctrl-C: the job stays"
    );
}

/// A real guest, in a worker of another process.
#[test]
fn a_person_at_a_terminal_sees_how_far_running_jobs_have_come() {
    let place = Place::with_behaviours();
    let (mut person, command_end) = terminal();
    let mut watch = place
        .command(["jobs", "watch"])
        .env("TERM", "xterm-256color")
        .stdout(Stdio::piped())
        .stderr(command_end)
        .spawn()
        .expect("the command starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
    // It says nothing before something happens: once it tells of one of these, it watches.
    let (seen, sees) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let first = lines.next();
        let _ = seen.send(());
        let rest: Vec<String> = first
            .into_iter()
            .chain(lines)
            .map_while(Result::ok)
            .collect();
        rest
    });
    while let Err(nothing_yet) = sees.try_recv() {
        assert_eq!(nothing_yet, TryRecvError::Empty, "it ended");
        id(&place, &["behaviours.wasm", "echo", "--paused"]);
    }
    let mut worker = place
        .command(["worker", "--concurrency", "1"])
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    let job = id(
        &place,
        &[
            "behaviours.wasm",
            "chatter",
            "-i",
            r#"{"count": 4000000000}"#,
            "--timeout",
            "10m",
            "--fuel",
            "1000G",
        ],
    );
    let short = &job[28..];
    let (mut said, mut part) = (String::new(), [0; 1_024]);
    while !(said.contains(short) && said.contains("% step")) {
        let read = person.read(&mut part).expect("it watches");
        said.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    // A bar that were drawn before it has its form would flash up as another one.
    assert!(!said.contains("/1000"), "{said:?}");
    let shown = json(&place, ["jobs", "show", &job, "--json"]);
    assert_eq!(shown["progress"]["step"], "step", "{shown}");
    assert!(shown["progress"]["percent"].is_number(), "{shown}");
    let cancelled = place.output(["jobs", "cancel", &job]);
    assert!(cancelled.status.success(), "{}", place.said(&cancelled));
    let ended = place.output(["jobs", "watch", &job]);
    assert_eq!(ended.status.code(), Some(130), "{}", place.said(&ended));
    interrupt(&mut worker);
    // It is read on, so that what is watched does not wait for that.
    let rest = std::thread::spawn(move || {
        let mut rest = Vec::new();
        while let Ok(read @ 1..) = person.read(&mut part) {
            rest.extend_from_slice(&part[..read]);
        }
        String::from_utf8_lossy(&rest).into_owned()
    });
    interrupt(&mut watch);
    let lines = reading.join().expect("it does not panic");
    let of_job = |line: &&String| line.contains(short);
    let told: Vec<&String> = lines.iter().filter(of_job).collect();
    assert!(told[0].contains("submitted"), "{told:?}");
    assert!(told[1].contains("started"), "{told:?}");
    // Progress is the bar's.
    assert!(
        told.iter().all(|line| !line.contains("progress")),
        "{told:?}"
    );
    let rest = rest.join().expect("it does not panic");
    // The bar goes with the job.
    let last = rest.rsplit("% step").next().unwrap_or_default();
    assert!(
        last.contains("\x1b[2K") || last.contains("\x1b[J"),
        "{rest:?}"
    );
}
