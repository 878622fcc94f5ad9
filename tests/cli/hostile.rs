//! Text of a skill's that would clear the screen, colour what follows, or forge a line of the
//! command's own: nothing of it reaches standard error, or what is shown to people, but as escapes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use skillhost::text::printable;

use crate::handmade::{Description, Handmade};
use crate::harness::Place;

/// Clears the screen, forges lines, writes backwards, is invisible, and ends a quotation.
const EVIL: &str = "\u{1b}[2J\r\nerror: forged\nhint: forged\u{202e}\u{200b}\u{9b}31m\u{7}`\"";

/// Checks that a text can do nothing but be read, and that the command did not say what the skill
/// said.
#[track_caller]
fn check_harmless(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("it is UTF-8");
    assert_eq!(printable(text, true), text, "it must be escaped");
    for line in text.lines() {
        for forged in ["error: forged", "hint: forged"] {
            assert!(!line.starts_with(forged), "{text}");
        }
    }
}

fn run(args: &[&str]) -> Output {
    let place = Place::with_behaviours();
    let mut command = place.command(["run", "behaviours.wasm"]);
    command.args(args).output().expect("the command starts")
}

#[test]
fn what_a_skill_says() {
    for (tool, input, said) in [
        (
            "print",
            json!({"count": 2, "stdout": EVIL, "stderr": EVIL}),
            true,
        ),
        ("log_text", json!({ "text": EVIL }), true),
        (
            "fail",
            json!({"message": EVIL, "code": EVIL, "details": EVIL}),
            true,
        ),
        (
            "fail",
            json!({"message": EVIL, "details": json!({EVIL: EVIL}).to_string()}),
            true,
        ),
        (
            "reject_input",
            json!({"pointer": EVIL, "message": EVIL}),
            true,
        ),
        ("panic", json!({ "message": EVIL }), true),
        ("answer", json!({ "json": format!("{EVIL}") }), false),
        ("answer", json!({ "json": json!([EVIL]).to_string() }), true),
    ] {
        for more in ["-v", "--json", "--color=always"] {
            let input = input.to_string();
            let output = run(&[tool, "-i", &input, more]);
            let colours_off = String::from_utf8(output.stderr).expect("it is UTF-8");
            let stderr = match more {
                "--color=always" => without_our_colours(&colours_off),
                _ => colours_off,
            };
            check_harmless(stderr.as_bytes());
            // It was there, and was shown.
            let shown = stderr.contains("\\u{1b}[2J") || stderr.contains("\\u001b[2J");
            assert_eq!(shown, said, "{tool} {more}: {stderr}");
        }
    }
}

/// The styles that the command itself uses: a number or two, and nothing else.
fn without_our_colours(text: &str) -> String {
    let style = regex::Regex::new("\u{1b}\\[[0-9]{1,2}m").expect("a pattern of ours");
    style.replace_all(text, "").into_owned()
}

/// An attachment's name is its author's, and goes into a message and a file's name.
#[test]
fn what_a_skill_is_called() {
    let evil = Handmade {
        fields: format!(
            "(func $\"{}\" unreachable)",
            "\\1b[2J\\0aerror: forged\\e2\\80\\ae"
        ),
        execute: format!(
            "(call $\"{}\") i32.const $answer",
            "\\1b[2J\\0aerror: forged\\e2\\80\\ae"
        ),
        description: Description {
            description: EVIL.into(),
            tools: vec![("run".into(), evil_schema())],
            ..Handmade::default().description
        },
        ..Handmade::default()
    };
    let place = Place::new();
    place.write("evil.wasm", evil.build());
    for args in [
        &["inspect", "evil.wasm"][..],
        &["inspect", "evil.wasm", "-v"],
        &["run", "evil.wasm", "run", "--dry-run"],
        &["run", "evil.wasm", "run", "--arg", "near=1"],
        &["run", "evil.wasm", "run", "-i", "{}"],
        &[
            "run",
            "evil.wasm",
            "run",
            "-v",
            "-i",
            &json!({EVIL: "x"}).to_string(),
        ],
        &["run", "evil.wasm", "nothing"],
        &["install", "evil.wasm"],
        &["list"],
        &["inspect", "handmade"],
    ] {
        let mut command = place.command([]);
        let output = command.args(args).output().expect("the command starts");
        check_harmless(&output.stdout);
        check_harmless(&output.stderr);
        assert!(output.stdout.len() + output.stderr.len() > 20, "{args:?}");
    }
}

fn evil_schema() -> String {
    json!({
        "type": "object",
        "description": EVIL,
        "properties": {
            EVIL: {"type": "string", "description": EVIL, "default": EVIL},
            format!("near{EVIL}"): {"enum": [EVIL]},
        },
        "required": [EVIL],
        "additionalProperties": false,
    })
    .to_string()
}

/// A component that cannot be loaded is named in a message, and so is what is wrong with it.
#[test]
fn what_cannot_be_loaded() {
    let place = Place::new();
    for description in [
        Description {
            name: EVIL.into(),
            ..Handmade::default().description
        },
        Description {
            version: EVIL.into(),
            ..Handmade::default().description
        },
        Description {
            tools: vec![("a".into(), json!({ "type": EVIL }).to_string())],
            ..Handmade::default().description
        },
    ] {
        let evil = Handmade {
            description,
            ..Handmade::default()
        };
        place.write("evil.wasm", evil.build());
        for command in ["run", "inspect", "install"] {
            let output = place.output([command, "evil.wasm"]);
            assert_ne!(output.status.code(), Some(0));
            check_harmless(&output.stdout);
            check_harmless(&output.stderr);
        }
    }
    place.write("SKILL.md", "");
    place.write(
        "folder/SKILL.md",
        format!("---\nname: \"{EVIL}\"\ndescription: b\n---\n"),
    );
    place.write(
        "folder/skill.toml",
        format!("[limits]\n\"{}\" = 1\n", "\\u001b[2J"),
    );
    place.write("folder/skill.wasm", Handmade::default().build());
    let output = place.output(["run", "folder"]);
    assert_ne!(output.status.code(), Some(0));
    check_harmless(&output.stderr);
}

/// Ways to fail and to say something, each with hostile text, as lines of jobs.
fn hostile_jobs() -> Vec<Value> {
    [
        (
            "fail",
            json!({"message": EVIL, "code": EVIL, "details": EVIL}),
        ),
        ("reject_input", json!({"pointer": EVIL, "message": EVIL})),
        ("panic", json!({ "message": EVIL })),
        ("print", json!({"count": 2, "stdout": EVIL, "stderr": EVIL})),
        ("log_text", json!({ "text": EVIL })),
        ("answer", json!({ "json": format!("{EVIL}") })),
        ("answer", json!({ "json": json!({EVIL: EVIL}).to_string() })),
    ]
    .map(
        |(tool, input)| json!({"skill": "behaviours", "tool": tool, "input": input, "attempts": 1}),
    )
    .into()
}

/// Runs a command to its end, checks what it says, and gives that.
#[track_caller]
fn harmless(place: &Place, args: &[&str]) -> String {
    let (_, said) = ended(place, args);
    assert!(said.len() > 20, "{args:?}");
    said
}

/// The same, with how it ended.
#[track_caller]
fn ended(place: &Place, args: &[&str]) -> (Option<i32>, String) {
    let output = place
        .command([])
        .args(args)
        .output()
        .expect("the command starts");
    check_harmless(&output.stdout);
    check_harmless(&output.stderr);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("it is UTF-8");
    (output.status.code(), said)
}

/// What hostile jobs came to is kept, shown in lists and tables, and written to logs and to the audit.
#[test]
fn what_jobs_came_to() {
    let place = Place::with_behaviours();
    place.run(["install", "behaviours.wasm"]);
    let jobs: Vec<String> = hostile_jobs().iter().map(ToString::to_string).collect();
    place.write("jobs.jsonl", jobs.join("\n"));
    let submitted = place
        .output(["jobs", "submit", "--from", "jobs.jsonl"])
        .stdout;
    let ids = String::from_utf8(submitted).expect("it is text");
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), jobs.len());
    let worked = harmless(
        &place,
        &["worker", "--until-empty", "--concurrency", "1", "-vv"],
    );
    assert!(
        worked.contains("\\u{1b}[2J"),
        "it was there, and was shown: {worked}"
    );
    let mut shown = String::new();
    for id in &ids {
        for command in ["show", "watch"] {
            shown += &harmless(&place, &["jobs", command, id]);
        }
    }
    assert!(
        shown.contains("\\u{1b}[2J"),
        "it was there, and was shown: {shown}"
    );
    for args in [
        &["jobs", "list"][..],
        &["jobs", "stats"],
        &["jobs", "dead", "list"],
        &["jobs", "dead", "list", "--by-cause"],
        &["jobs", "dead", "show", ids[0]],
        &["jobs", "dead", "show", ids[2]],
        &["audit", "show"],
        &["policy", "show", "behaviours"],
    ] {
        harmless(&place, args);
    }
}

/// What stands in a name all the same, in which no control character and no backtick may: it writes backwards, is
/// invisible, and ends a quotation.
const SLY: &str = "A\u{202e}\u{200b}\u{2066}\"'";

/// How both are shown.
const EVIL_SHOWN: &str = "\\u{202e}\\u{200b}\\u{9b}31m";
const SLY_SHOWN: &str = "A\\u{202e}\\u{200b}\\u{2066}\"'";

/// Runs a command that is to end like this, checks what it says, and that it says this so often at least.
#[track_caller]
fn shown(place: &Place, args: &[&str], code: i32, texts: &[(&str, usize)]) {
    let (ended, said) = ended(place, args);
    assert_eq!(ended, Some(code), "{args:?}: {said}");
    for (text, times) in texts {
        assert!(said.matches(text).count() >= *times, "{args:?}: {said}");
    }
}

/// A skill in the folder `evil` that says hostile things of itself, and declares this.
fn declares(place: &Place, manifest: &str) {
    let mut evil = Handmade::default();
    evil.description.description = EVIL.into();
    place.write("evil/skill.wasm", evil.build());
    place.write("evil/skill.toml", manifest);
    // A text of YAML, and one of TOML, is escaped as one of JSON is; but YAML has no such character in it.
    let said = json!(EVIL).to_string().replace('\u{9b}', "\\u009b");
    place.write(
        "evil/SKILL.md",
        format!("---\nname: handmade\ndescription: {said}\n---\n{EVIL}\n"),
    );
}

/// What no skill may declare is told with the text that is refused.
#[test]
fn what_cannot_be_declared() {
    let place = Place::new();
    let evil = json!(EVIL);
    for manifest in [
        format!("[grants]\nenvironment = [{evil}]"),
        format!("[grants]\ndirectories = [{{ path = {evil}, mode = \"ro\" }}]"),
        format!("[grants]\nhttp = [{evil}]"),
        format!("[config.{evil}]\ntype = \"string\""),
    ] {
        declares(&place, &manifest);
        for args in [
            &["install", "evil"][..],
            &["policy", "show", "evil"],
            &["policy", "diff", "evil"],
            &["policy", "grant", "evil", "--storage"],
            &["run", "evil", "run", "-i", "{}"],
        ] {
            shown(&place, args, 6, &[(EVIL_SHOWN, 1)]);
        }
    }
    // But for the grant of a secret: who writes no grant there may have written the secret.
    declares(&place, &format!("[grants]\nsecrets = [{evil}]"));
    let (code, said) = ended(&place, &["install", "evil"]);
    assert_eq!(code, Some(6), "{said}");
    assert!(!said.contains(EVIL_SHOWN), "{said}");
}

/// What a skill declares, and what an operator grants it, in what is said of a policy and written to an audit.
#[test]
fn what_a_policy_is_about() {
    let place = Place::new();
    fs::create_dir(place.path("data")).expect("a folder can be made");
    let [evil, name, path, key] =
        [EVIL, SLY, &format!("/{SLY}"), &format!("k{SLY}")].map(|text| json!(text));
    let manifest = |mode: &str, more: &str| {
        format!(
            "[grants]\nenvironment = [{name}, {more}]\n\
             directories = [{{ path = {path}, mode = \"{mode}\", description = {evil} }}]\n\
             [config.{key}]\ntype = \"string\"\ndescription = {evil}\n"
        )
    };
    declares(&place, &manifest("ro", "\"B\""));
    let run = ["run", "evil", "run", "-i", "{}"];
    let dry_run = ["run", "evil", "run", "-i", "{}", "--dry-run"];
    // Each of the three names, as they are declared, and as they are wanted.
    let names: &[(&str, usize)] = &[(SLY_SHOWN, 3)];
    let all: &[(&str, usize)] = &[(SLY_SHOWN, 3), (EVIL_SHOWN, 2)];
    for (args, texts) in [
        (&["install", "evil"][..], &[][..]),
        (&["inspect", "evil"], all),
        (&["policy", "show", "evil"], names),
        (&["policy", "diff", "evil"], names),
        (&dry_run, names),
        (&run, &[]),
    ] {
        shown(&place, args, 0, texts);
    }
    let environment = format!("{SLY}={EVIL}");
    let config = format!("k{SLY}={EVIL}");
    let directory = format!("data:/{SLY}:ro");
    let grants = [
        ["--env", &environment],
        ["--config", &config],
        ["--dir", &directory],
    ];
    let mut granted = vec!["policy", "grant", "evil"];
    granted.extend(grants.as_flattened());
    for (args, texts) in [
        (&granted[..], all),
        (&["policy", "show"], all),
        (&["policy", "show", "evil"], all),
        (&["inspect", "evil"], all),
        (&dry_run, all),
        (&["audit", "show"], names),
    ] {
        shown(&place, args, 0, texts);
    }
    // It wants more, and so has lost that until it is confirmed.
    let more = json!(format!("C{SLY}")).to_string();
    declares(&place, &manifest("rw", &more));
    shown(&place, &run, 3, &[]);
    let differs: &[(&str, usize)] = &[(SLY_SHOWN, 2)];
    for (args, texts) in [
        (&["policy", "diff", "evil"][..], differs),
        (&["policy", "show", "evil"], &[(SLY_SHOWN, 1)]),
        (&["policy", "confirm", "evil", "--yes"], differs),
        (&["policy", "revoke", "handmade", SLY], &[(SLY_SHOWN, 1)]),
        (&["install", "evil", "--replace"], &[]),
        (&["policy", "check"], &[]),
        (&["audit", "show"], names),
    ] {
        shown(&place, args, 0, texts);
    }
    // What is not there to be taken back, or not declared, is what was typed.
    shown(
        &place,
        &["policy", "revoke", "handmade", &format!("no{SLY}")],
        2,
        &[(SLY_SHOWN, 1)],
    );
    shown(
        &place,
        &[
            "run",
            "evil",
            "run",
            "-i",
            "{}",
            "--env",
            &format!("no{SLY}=1"),
        ],
        3,
        &[(SLY_SHOWN, 1)],
    );
    // A policy with such names of its own is sound, and one with what no name may have is not.
    let policy = place.read("home/policy.toml");
    place.write(
        "home/policy.toml",
        format!("{policy}\n[skills.{evil}.grants]\nstorage = true\n"),
    );
    shown(&place, &["policy", "check"], 2, &[(EVIL_SHOWN, 1)]);
}

/// The log of a server that executes what clients ask for.
#[test]
fn the_log_of_a_server() {
    let place = Place::with_behaviours();
    place.run(["install", "behaviours.wasm"]);
    let log = File::create(place.path("log.txt")).expect("it can be made");
    let mut server = place
        .command(["serve", "--listen", "127.0.0.1:0", "-vv"])
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("the command starts");
    let mut line = String::new();
    let mut lines = BufReader::new(server.stdout.take().expect("it is piped"));
    lines.read_line(&mut line).expect("it is UTF-8");
    let address = line.trim().strip_prefix("listening on http://");
    let address = address.expect(&line);
    let ask_in = |session: &str, path: &str, body: &str| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\n{session}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is UTF-8");
        answer
    };
    let ask = |path: &str, body: &str| ask_in("", path, body);
    for mut request in hostile_jobs() {
        request
            .as_object_mut()
            .expect("it is one")
            .remove("attempts");
        let answer = ask("/v1/executions", &request.to_string());
        // Of a skill that fails it is a problem.
        let is_told = ["200", "422"]
            .iter()
            .any(|status| answer.starts_with(&format!("HTTP/1.1 {status} ")));
        assert!(is_told, "{answer}");
    }
    // What is refused is the client's own text, in a name as in a path.
    for (path, body) in [
        (
            "/v1/executions",
            json!({"skill": EVIL, "input": {}}).to_string(),
        ),
        (
            "/v1/executions",
            json!({"skill": "behaviours", "tool": EVIL, "input": {}}).to_string(),
        ),
        ("/v1/%1b[2J%0d%0aerror:%20forged", "{}".to_owned()),
    ] {
        let answer = ask(path, &body);
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // Of a client of MCP the protocol's own library logs who it says it is, and which of its messages fail.
    let message = |session: &str, id: &Value, method: &str, params: Value| {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let answer = ask_in(session, "/mcp", &message.to_string());
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    };
    let client = json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": EVIL, "version": EVIL},
    });
    let answer = message("", &json!(1), "initialize", client);
    let session = answer
        .lines()
        .find(|line| line.starts_with("mcp-session-id: "));
    let session = format!("{}\r\n", session.expect(&answer));
    let evil = json!(EVIL);
    message(&session, &evil, "tools/call", json!({"name": EVIL}));
    message(&session, &evil, EVIL, json!({}));
    let id = i32::try_from(server.id()).expect("a process id is small");
    let id = Pid::from_raw(id).expect("a process id is not zero");
    kill_process(id, Signal::TERM).expect("it can be signalled");
    server.wait().expect("it ends");
    let said = place.read("log.txt");
    check_harmless(said.as_bytes());
    // What was asked, and whose text it was.
    for asked in ["/v1/executions", "client_info", "response error"] {
        let mut lines = said.lines().filter(|line| line.contains(asked));
        let line = lines.next().expect(&said);
        assert!(
            asked.starts_with('/') || line.contains(EVIL_SHOWN),
            "{said}"
        );
    }
    let audit = harmless(&place, &["audit", "show"]);
    assert!(audit.contains(EVIL_SHOWN), "{audit}");
}
