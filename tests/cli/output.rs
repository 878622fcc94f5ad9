//! What a run prints, and where.

use serde_json::Value;
use skillhost::{ExecutionResult, Status};
use snapbox::str;

use crate::harness::{Place, check, says};

/// What `--json` printed: one line, and a result that comes back.
fn result(stdout: &[u8]) -> (Value, ExecutionResult) {
    let text = std::str::from_utf8(stdout).expect("JSON is UTF-8");
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let value = serde_json::from_str(text).expect("it is JSON");
    let result = serde_json::from_str(text).expect("it is a result");
    assert_eq!(serde_json::to_value(&result).expect("it is JSON"), value);
    (value, result)
}

#[test]
fn a_text_is_printed_plain() {
    let place = Place::with_behaviours();
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "answer_large",
            "-i",
            r#"{"bytes": 7}"#,
        ]),
        str![[r#"
exit: 0
--- stdout
xxxxx
--- stderr
✓ behaviours 1.2.3 · answer_large · [COST]

"#]],
    );
}

#[test]
fn json_is_the_whole_result() {
    let place = Place::with_text_stats();
    let output = place.output(["run", "text-stats", "--json", "--arg", "text=a b"]);
    assert_eq!(output.status.code(), Some(0));
    let (json, result) = result(&output.stdout);
    assert_eq!(result.status, Status::Success);
    assert_eq!(json["output"]["words"], 2);
    assert_eq!(json["failure"], Value::Null);
    assert_eq!(json["skill"]["name"], "text-stats");
    assert_eq!(json["skill"]["version"], "0.1.0");
    let digest = json["skill"]["digest"].as_str().expect("there is one");
    assert!(digest.starts_with("sha256:"), "{digest}");
    for figure in [
        "fuel",
        "cpu_time_ms",
        "wall_time_ms",
        "peak_memory_bytes",
        "host_calls",
        "input_bytes",
        "output_bytes",
        "tokens",
    ] {
        assert!(!json["usage"][figure].is_null(), "{figure}: {json}");
    }
    assert_eq!(json["usage"]["input_bytes"], 14);
    assert_eq!(json["limits"]["memory_bytes"], 64 << 20);
}

#[test]
fn json_is_printed_of_failures_too() {
    let place = Place::with_behaviours();
    for (args, code, kind) in [
        (["spin", "--fuel=1k"], 4, "resource_exhausted"),
        (["spin", "--timeout=20ms"], 5, "timeout"),
        (["panic", "--fuel=1G"], 1, "trap"),
        (["nothing", "--fuel=1G"], 2, "unknown_tool"),
        (["read", "--dir=/nowhere/at/all"], 3, "rejected"),
    ] {
        let mut command = place.command(["run", "behaviours.wasm", "--json"]);
        let output = command.args(args).output().expect("the command starts");
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let (json, _) = result(&output.stdout);
        assert_eq!(json["failure"]["kind"], kind);
        let loading = json["usage"]["compile_time_ms"].as_f64();
        assert!(
            loading.is_some_and(|loading| loading > 0.0),
            "{args:?}: {json}"
        );
        assert!(output.stderr.starts_with(b"error: ") || kind == "trap");
    }
}

#[test]
fn json_is_printed_of_what_cannot_be_loaded() {
    let place = Place::new();
    place.write("garbage.wasm", "garbage");
    place.write("torn/skill.toml", "this is none");
    place.write("torn/skill.wasm", "garbage");
    for (skill, loaded, fault) in [
        ("garbage.wasm", true, "skill"),
        ("nowhere.wasm", false, "caller"),
        ("nobody", false, "caller"),
        ("torn", false, "skill"),
    ] {
        let mut command = place.command(["run", skill, "--json", "--fuel", "7"]);
        command.args(["--limit", "stack_bytes=128KiB"]);
        let output = command.output().expect("the command starts");
        assert_eq!(output.status.code(), Some(6));
        let (json, result) = result(&output.stdout);
        assert_eq!(result.status, Status::Failed);
        assert_eq!(json["failure"]["kind"], "not_loaded");
        assert_eq!(json["failure"]["fault"], fault, "{skill}");
        assert_eq!(json["skill"], Value::Null);
        assert_eq!(json["limits"]["fuel"], 7);
        assert_eq!(json["limits"]["stack_bytes"], 128 << 10);
        // Of what was never there, nothing was compiled.
        let compiling = json["usage"]["compile_time_ms"].as_f64();
        assert!(loaded || compiling == Some(0.0), "{compiling:?}");
    }
}

#[test]
fn what_the_skill_says_stands_behind_its_name() {
    let place = Place::with_behaviours();
    let input = r#"{"count": 2, "stdout": "a\nerror: forged\n", "stderr": "\u001b[2Jb\r\n"}"#;
    check(
        place.run(["run", "behaviours.wasm", "print", "-i", input]),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
[behaviours] stdout: a
[behaviours] stdout: error: forged
[behaviours] stdout: a
[behaviours] stdout: error: forged
[behaviours] stderr: \u{1b}[2Jb
[behaviours] stderr: \u{1b}[2Jb\r
✓ behaviours 1.2.3 · print · [COST]

"#]],
    );
    check(
        place.run(["run", "behaviours.wasm", "chatter", "-i", r#"{"count": 2}"#]),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
[behaviours] info: record 0
[behaviours] info: record 1
✓ behaviours 1.2.3 · chatter · [COST]

"#]],
    );
}

#[test]
fn quiet_leaves_only_the_output() {
    let place = Place::with_behaviours();
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "chatter",
            "-i",
            r#"{"count": 2}"#,
            "--quiet",
        ]),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr

"#]],
    );
}

#[test]
fn verbose_says_more() {
    let place = Place::with_behaviours();
    // The first time it is compiled, and afterwards not.
    let compiled = place.run(["--home", "empty", "-v", "run", "behaviours.wasm", "echo"]);
    let (compiled, _) = compiled.split_once("loaded").expect("it says so");
    check(
        compiled,
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
compiling a component of [SIZE], once
compiled in [TIME]

"#]],
    );
    place.run(["run", "behaviours.wasm", "echo"]);
    check(
        place.run(["run", "behaviours.wasm", "echo", "-v"]),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
loaded behaviours@1.2.3 (sha256:[DIGEST])
✓ behaviours 1.2.3 · echo · [COST]
  cpu [TIME] · instantiation [TIME] · run [TIME] · waiting [TIME] · loading [TIME] · 2 B in · 2 B out

"#]],
    );
}

/// Each `-v` adds to what was said before, and none of them what only the engine's authors can read.
#[test]
fn each_verbose_says_more() {
    let place = Place::with_behaviours();
    place.write("data/a.txt", "");
    let args = [
        "run",
        "behaviours.wasm",
        "echo",
        "--dir=data:/data",
        "--env=TOKEN=hunter2",
        "--fuel=5M",
    ];
    let said = |more: Option<&str>| {
        let mut command = place.command(args);
        let output = command.args(more).output().expect("the command starts");
        place.said(&output)
    };
    said(None);
    let levels = [None, Some("-v"), Some("-vv"), Some("-vvv")].map(said);
    let lines = levels
        .each_ref()
        .map(|said| said.lines().collect::<Vec<_>>());
    for [less, more] in lines.array_windows() {
        let mut rest = more.iter();
        for line in less {
            assert!(rest.any(|one| one == line), "{line}:\n{more:#?}");
        }
        assert!(less.len() < more.len(), "{more:#?}");
    }
    assert!(lines[3].len() < 50, "{}", levels[3]);
    for line in &lines[3] {
        assert!(
            !line.contains("TRACE") || line.contains("TRACE skillhost::"),
            "{line}"
        );
        assert!(!line.contains("hunter2"), "{line}");
    }
    check(
        &levels[2],
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
TRACE skillhost::sandbox::load: the compiled code is in the cache digest=sha256:[DIGEST]
loaded behaviours@1.2.3 (sha256:[DIGEST])
TRACE skillhost::host::told: limits that apply: fuel of 5,000,000 units, memory_bytes of 64 MiB, table_elements of 100,000 elements, instances of 100, wall_time_ms of 10 s, input_bytes of 16 MiB, output_bytes of 1 MiB, attachment_bytes of 16 MiB, stdout_bytes of 64 KiB, stderr_bytes of 64 KiB, log_bytes of 256 KiB, progress_bytes of 64 KiB, host_bytes of 4 MiB, handles of 1,000, open_files of 64, created_files of 1,000 new files, write_bytes of 64 MiB, connections of 8, http_request_bytes of 1 MiB, http_response_bytes of 16 MiB, http_fields_bytes of 16 KiB, socket_sent_bytes of 1 MiB, socket_read_bytes of 16 MiB, storage_keys of 10,000 keys, storage_bytes of 16 MiB, storage_value_bytes of 1 MiB, stack_bytes of 512 KiB request_id=[ID]
TRACE skillhost::host::told: granted: directory `[PLACE]/data:/data:ro`, environment `TOKEN` request_id=[ID]
✓ behaviours 1.2.3 · echo · [COST]
  cpu [TIME] · instantiation [TIME] · run [TIME] · waiting [TIME] · loading [TIME] · 2 B in · 2 B out

"#]],
    );
}

#[test]
fn tokens_are_part_of_the_cost() {
    let place = Place::with_behaviours();
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "add_tokens",
            "-i",
            r#"{"input": 1200, "output": 5}"#,
        ]),
        str![[r#"
exit: 0
--- stdout
{}
--- stderr
✓ behaviours 1.2.3 · add_tokens · [COST] · 1,201 + 7 tokens

"#]],
    );
}

#[test]
fn a_panic() {
    let place = Place::with_behaviours();
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "panic",
            "-i",
            r#"{"message": "what now"}"#,
        ]),
        str![[r#"
exit: 1
--- stdout
--- stderr
[behaviours] stderr: thread '<unnamed>' (1) panicked at behaviours/src/lib.rs:[LINE]:
[behaviours] stderr: told to panic: what now
[behaviours] stderr: note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
error: the skill panicked at `behaviours/src/lib.rs:[LINE]`: told to panic: what now
  in the skill, innermost first:
✗ behaviours 1.2.3 · panic · failed · [COST]

"#]],
    );
}

#[test]
fn an_error_of_the_skill() {
    let place = Place::with_behaviours();
    let input = r#"{"message": "no\u001b[31m good", "code": "E1", "details": "{\"a\": 1}"}"#;
    check(
        place.run(["run", "behaviours.wasm", "fail", "-i", input]),
        str![[r#"
exit: 1
--- stdout
--- stderr
error: the skill failed: no\u{1b}[31m good
  code: E1
  details: {"a":1}
✗ behaviours 1.2.3 · fail · failed · [COST]

"#]],
    );
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "fail_to_retry",
            "-i",
            r#"{"after_ms": 1500}"#,
        ]),
        str![[r#"
exit: 1
--- stdout
--- stderr
error: the skill failed: later
hint: the skill says that trying again after 1.5 s may help
✗ behaviours 1.2.3 · fail_to_retry · failed · [COST]

"#]],
    );
    // It may say any number.
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "fail_to_retry",
            "-i",
            r#"{"after_ms": 18446744073709551615}"#,
        ]),
        str![[r#"
exit: 1
--- stdout
--- stderr
error: the skill failed: later
hint: the skill says that trying again after 24 h may help
✗ behaviours 1.2.3 · fail_to_retry · failed · [COST]

"#]],
    );
}

#[test]
fn an_output_that_does_not_fit() {
    let place = Place::with_behaviours();
    check(
        place.run([
            "run",
            "behaviours.wasm",
            "answer",
            "-i",
            r#"{"json": "[1]"}"#,
        ]),
        str![[r#"
exit: 1
--- stdout
--- stderr
error: the skill's output does not fit the schema that it declares: [1] is not of type "object"
✗ behaviours 1.2.3 · answer · failed · [COST]

"#]],
    );
}

/// Whichever command it is.
#[test]
fn an_output_that_cannot_be_written_is_told() {
    let place = Place::with_text_stats();
    place.run(["install", "text-stats"]);
    place.run(["policy", "grant", "text-stats", "--clock", "system"]);
    for args in [
        &["run", "text-stats", "--arg", "text=a"][..],
        &["list"],
        &["list", "--json"],
        &["policy", "show"],
        &["policy", "schema"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut command = place.command([]);
        command.args(args).stdout(full.expect("Linux has it"));
        let said = place.said(&command.output().expect("the command starts"));
        says(
            &said,
            &[
                "exit: 70\n",
                "error: cannot write to standard output\n  caused by: No space left on device",
            ],
        );
    }
    // A folder of its own that cannot be used is told alike, too.
    place.write("file", "");
    let said = place.run(["--home", "file", "list"]);
    says(
        &said,
        &[
            "exit: 70\n",
            "error: cannot read `[PLACE]/file/skills`: ",
            "hint: see whose it is, who may use it, and whether the disk has room: `ls -ld [PLACE]/file/skills`, `df [PLACE]/file/skills`\n",
        ],
    );
}
