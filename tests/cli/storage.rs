//! `--storage`: what skills keep, with several processes at it, and one of them killed.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rusqlite::Connection;
use serde_json::{Value, json};
use snapbox::str;

use crate::harness::{Place, check, guest, says};

fn place() -> Place {
    let place = Place::new();
    std::fs::copy(guest("storage"), place.path("storage.wasm")).expect("a copy");
    place
}

fn start<const N: usize>(place: &Place, args: [&str; N]) -> Child {
    place
        .command(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts")
}

#[test]
fn notes_are_there_the_next_time() {
    let place = Place::new();
    place.add_example("notes");
    let add = ["run", "notes", "add", "--arg", "text=Anna prefers mornings"];
    check(
        place.run(add),
        str![[r#"
exit: 1
--- stdout
--- stderr
error: the skill failed: the host grants no storage
  denied: storage `notes`: the skill wanted to keep data, and no storage is granted
hint: grant it for this run with `--storage`, or for good with `skillhost policy grant notes --storage`; by hand, in the policy under `[skills.notes.grants]`: `storage = true`, and then `skillhost policy confirm notes`
✗ notes 0.1.0 · add · failed · [COST]

"#]],
    );
    let said = place.run([
        "run",
        "notes",
        "add",
        "--storage",
        "--arg",
        "text=Anna prefers mornings",
    ]);
    assert!(said.contains(r#""number":1"#), "{said}");
    check(
        place.run(["run", "notes", "find", "--storage", "--arg", "words=anna"]),
        str![[r#"
exit: 0
--- stdout
[{"number":1,"tags":[],"text":"Anna prefers mornings"}]
--- stderr
✓ notes 0.1.0 · find · [COST]

"#]],
    );
    let said = place.run(["run", "notes", "find", "--storage", "--dry-run"]);
    assert!(said.contains("kept for the next time"), "{said}");
    let said = place.run(["policy", "grant", "notes", "--storage"]);
    assert!(said.starts_with("exit: 0"), "{said}");
    let said = place.run(["run", "notes", "find"]);
    assert!(said.contains("Anna prefers mornings"), "{said}");
}

/// Whoever copies it once nobody has it open has all of it.
#[test]
fn an_orderly_end_leaves_one_file() {
    let place = Place::new();
    place.add_example("notes");
    let is_whole = |notes: i64| {
        for beside in ["storage.db-wal", "storage.db-shm"] {
            assert!(!place.path("home").join(beside).exists(), "{beside}");
        }
        std::fs::copy(place.path("home/storage.db"), place.path("copy.db")).expect("a copy");
        let copy = Connection::open(place.path("copy.db")).expect("it is a database");
        let text = "SELECT count(*) FROM entry WHERE value LIKE '%mornings%'";
        let found: i64 = copy
            .query_row(text, [], |row| row.get(0))
            .expect("it is read");
        assert_eq!(found, notes);
    };
    let add = ["notes", "add", "--storage", "--arg", "text=mornings"];
    let run = |command: &[&str]| {
        let mut started = place.command([]);
        let output = started.args(command).args(add).output();
        let said = place.said(&output.expect("it starts"));
        assert!(said.starts_with("exit: 0"), "{said}");
    };
    run(&["run"]);
    is_whole(1);
    run(&["jobs", "submit"]);
    let said = place.run(["worker", "--until-empty"]);
    assert!(said.contains("1 job completed"), "{said}");
    is_whole(2);
    for args in [
        &["install", "notes"][..],
        &["policy", "grant", "notes", "--storage"],
    ] {
        let output = place.command([]).args(args).output();
        let said = place.said(&output.expect("it starts"));
        assert!(said.starts_with("exit: 0"), "{said}");
    }
    served(&place);
    is_whole(3);
    offered(&place);
    is_whole(4);
}

/// Has one added over HTTP, and ends that.
fn served(place: &Place) {
    let mut serving = place
        .command(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut line = String::new();
    BufReader::new(serving.stdout.take().expect("it is piped"))
        .read_line(&mut line)
        .expect("it says where it listens");
    let address = line.trim().strip_prefix("listening on http://");
    let address = address.expect(&line);
    let body = json!({"skill": "notes", "tool": "add", "input": {"text": "mornings"}}).to_string();
    let mut connection = TcpStream::connect(address).expect("it listens");
    write!(
        connection,
        "POST /v1/executions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .expect("it reads");
    let mut answer = String::new();
    let read = connection.read_to_string(&mut answer);
    read.expect("it answers");
    assert!(answer.contains(r#""status":"success""#), "{answer}");
    let id = i32::try_from(serving.id()).expect("it is a number");
    // SAFETY: the process is a child that was not waited for, so that the number is its own.
    assert_eq!(unsafe { libc::kill(id, libc::SIGTERM) }, 0);
    assert!(serving.wait().expect("it ends").success());
}

/// Has one added by a client of MCP, which closes its end then.
fn offered(place: &Place) {
    let mut offering = place
        .command(["mcp"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut client = offering.stdin.take().expect("it is piped");
    let answers = BufReader::new(offering.stdout.take().expect("it is piped"));
    let call = json!({"name": "notes__add", "arguments": {"text": "mornings"}});
    for message in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "0"}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}),
    ] {
        writeln!(client, "{message}").expect("it reads");
    }
    let answer = answers
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.expect("it is text")).expect("JSON"))
        .find(|answer| answer["id"] == 2)
        .expect("it answers");
    assert_ne!(answer["result"]["isError"], true, "{answer}");
    drop(client);
    assert!(offering.wait().expect("it ends").success());
}

/// That is no fault of the skill's, which hears nothing of it.
#[test]
fn a_file_that_is_no_database_breaks_the_host() {
    let place = Place::new();
    place.add_example("notes");
    place.write("home/storage.db", "garbage ".repeat(100));
    let add = [
        "run",
        "notes",
        "add",
        "--storage",
        "--arg",
        "text=Anna prefers mornings",
    ];
    let said = place.run(add);
    says(
        &said,
        &[
            "exit: 70\n--- stdout\n--- stderr\n",
            "error: cannot use the storage of skills `[PLACE]/home/storage.db`: file is not a database\n",
            "hint: ",
        ],
    );
    assert!(!said.contains("the skill failed"), "{said}");
    std::fs::remove_file(place.path("home/storage.db")).expect("it is there");
    let _ = std::fs::remove_file(place.path("home/storage.lock"));
    std::fs::create_dir(place.path("home/storage.db")).expect("a folder can be made");
    let said = place.run(add);
    says(&said, &["exit: 70\n", "/home/storage.db`: Is a directory"]);
    // Whoever keeps nothing is not concerned.
    let said = place.run(["run", "notes", "find", "--arg", "words=anna"]);
    says(&said, &["exit: 1\n", "no storage is granted"]);
}

/// Two processes swap the same value and add to the same number, each a hundred times.
#[test]
fn two_processes_lose_nothing() {
    let place = place();
    let run = [
        "run",
        "storage.wasm",
        "append",
        "--storage",
        "--arg",
        "times:=100",
        "--timeout",
        "60s",
    ];
    let mut both = [start(&place, run), start(&place, run)];
    for process in &mut both {
        let status = process.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
    let connection = Connection::open(place.path("home/storage.db")).expect("it is a database");
    let value = |key: &str| -> Vec<u8> {
        let text = "SELECT value FROM entry WHERE key = ?1";
        connection
            .query_row(text, [key], |row| row.get(0))
            .expect("it is there")
    };
    assert_eq!(value("number"), b"200");
    assert_eq!(value("text"), vec![b'x'; 200]);
}

/// A process is killed while it writes: what is there is whole, and the next goes on.
#[test]
fn a_process_that_is_killed_leaves_it_whole() {
    let place = place();
    for _ in 0..5 {
        let run = [
            "run",
            "storage.wasm",
            "batches",
            "--storage",
            "--timeout",
            "60s",
            "--color",
            "never",
        ];
        let mut process = start(&place, run);
        let mut said = BufReader::new(process.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("under way") {
            line.clear();
            assert!(
                said.read_line(&mut line).expect("it can be read") > 0,
                "it ended"
            );
        }
        process.kill().expect("it can be killed");
        process.wait().expect("it is gone");
        let connection = Connection::open(place.path("home/storage.db")).expect("a database");
        let check: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("it can be checked");
        assert_eq!(check, "ok");
        let text =
            "SELECT count(*), count(DISTINCT value), sum(length(key) + length(value)) FROM entry";
        let (keys, values, bytes): (i64, i64, i64) = connection
            .query_row(text, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .expect("it can be read");
        assert_eq!((keys, values), (4, 1), "all of a batch or none of it");
        let counted: (i64, i64) = connection
            .query_row("SELECT keys, bytes FROM owner", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .expect("it can be read");
        assert_eq!(counted, (keys, bytes), "what is counted is what is there");
    }
    let said = place.run(["run", "storage.wasm", "append", "--storage"]);
    assert!(said.starts_with("exit: 0"), "{said}");
}
