//! `secrets`, and runs that use one: the value is at the server, and nowhere in what is said or kept.

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use snapbox::str;

use crate::harness::{Place, check, says, terminal};

const VALUE: &str = "hunter2-hunter2";

/// A server that answers each request with a page of the request's own head. What came is kept.
fn echo() -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    let heard: Arc<Mutex<String>> = Arc::default();
    let heads = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let head = head.join("\n");
            heads.lock().expect("nobody panics here").push_str(&head);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{head}",
                head.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, heard)
}

/// The files below a folder that have the value in them, but for the one that keeps it.
fn files_with_value(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() && !path.is_symlink() {
            let entries = fs::read_dir(&path).expect("it can be read");
            open.extend(entries.map(|entry| entry.expect("it can be read").path()));
        } else if path.is_file() && !path.ends_with("home/secrets") {
            let bytes = fs::read(&path).expect("it can be read");
            if bytes.windows(7).any(|part| part == b"hunter2") {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

fn place() -> Place {
    let place = Place::new();
    place.add_example("fetch-page");
    // Without its skill.toml, which declares one secret only.
    fs::copy(
        place.path("fetch-page/skill.wasm"),
        place.path("fetch.wasm"),
    )
    .expect("a copy");
    place
}

/// Whether a terminal shows what is typed.
fn shows(terminal: &fs::File) -> bool {
    let mut settings = std::mem::MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the place is valid for writing, and is filled where it says so.
    let settings = unsafe {
        assert_eq!(
            libc::tcgetattr(terminal.as_raw_fd(), settings.as_mut_ptr()),
            0
        );
        settings.assume_init()
    };
    settings.c_lflag & libc::ECHO != 0
}

/// The command that asks for the value of a secret at a terminal of its own, once what is typed is not shown.
fn asked(place: &Place) -> (fs::File, fs::File, std::process::Child) {
    let (mut person, terminal) = terminal();
    let mut command = place.command(["secrets", "set", "github"]);
    command
        .stdin(terminal.try_clone().expect("a file can be had twice"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let own = terminal.as_raw_fd();
    // SAFETY: both calls may be made between fork and exec.
    unsafe {
        command.pre_exec(move || {
            // The terminal that Ctrl-C comes from, and that is opened by the name of the process's own.
            if libc::setsid() < 0 || libc::ioctl(own, libc::TIOCSCTTY, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let child = command.spawn().expect("the command starts");
    let mut seen = Vec::new();
    while !seen.ends_with(b"value of github: ") {
        let mut byte = [0];
        person.read_exact(&mut byte).expect("it asks");
        seen.push(byte[0]);
    }
    while shows(&terminal) {
        std::thread::yield_now();
    }
    (person, terminal, child)
}

/// A program that ends by a signal leaves the terminal as it is, and one that does not show what is typed is of no
/// more use.
#[test]
fn ctrl_c_leaves_a_terminal_that_shows_what_is_typed() {
    let place = Place::new();
    let (mut person, terminal, child) = asked(&place);
    person.write_all(b"hunter2\x03").expect("it takes them");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(
        String::from_utf8_lossy(&ended.stderr),
        "\nerror: interrupted; nothing was changed\n"
    );
    assert_eq!(ended.status.code(), Some(130));
    assert!(shows(&terminal), "what is typed is not shown");
    assert!(!place.path("home/secrets").exists(), "something was kept");
}

#[test]
fn a_secret_is_kept_listed_and_removed_and_never_shown() {
    let place = Place::new();
    let set = ["secrets", "set", "github"];
    check(
        place.run_with_stdin(set, b"hunter2-hunter2\n"),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ github is kept

"#]],
    );
    let mode = fs::metadata(place.path("home/secrets"))
        .expect("it is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    check(
        place.run_with_stdin(set, b"hunter2"),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the value is shorter than 8 bytes
hint: a secret is 8 bytes to 8 KiB of visible ASCII; take one that is, or make one with `openssl rand -hex 32`

"#]],
    );
    check(
        place.run_with_stdin(set, b"another-value"),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ github is kept, in place of the one before

"#]],
    );
    check(
        place.run(["secrets", "list", "--json"]),
        str![[r#"
exit: 0
--- stdout
["github"]
--- stderr

"#]],
    );
    check(
        place.run(["secrets", "remove", "githbu"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: no secret `githbu` is kept
hint: did you mean `github`?

"#]],
    );
    check(
        place.run(["secrets", "remove", "github"]),
        str![[r#"
exit: 0
--- stdout
--- stderr
✓ github is forgotten

"#]],
    );
    check(
        place.run(["secrets", "set", "github", "hunter2-hunter2"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: the value of a secret is not taken as an argument: others can see it there, and the shell's history keeps it

  tip: `skillhost secrets set NAME` asks for it without showing it, or takes it from standard input

Usage: skillhost secrets set [OPTIONS] <NAME>

For more information, try '--help'.

"#]],
    );
}

#[test]
fn a_run_uses_it_and_nothing_keeps_it() {
    let place = place();
    let (server, heard) = echo();
    let said = place.run_with_stdin(["secrets", "set", "token"], VALUE.as_bytes());
    assert!(said.starts_with("exit: 0"), "{said}");
    let (url, http) = (format!("url=http://{server}/"), format!("http://{server}"));
    let secret = format!("token=authorization:Bearer@http://{server}");
    let heard_it = || {
        let mut heard = heard.lock().expect("nobody panics here");
        std::mem::take(&mut *heard).contains(&format!("authorization: Bearer {VALUE}"))
    };
    let run = [
        "run",
        "fetch.wasm",
        "--arg",
        &url,
        "--http",
        &http,
        "--secret",
        &secret,
    ];
    for more in [["--json", "-v"], ["-vvv", "--json"]] {
        let args: [&str; 10] = [&run[..], &more[..]].concat().try_into().expect("ten");
        let said = place.run(args);
        assert!(said.contains("authorization: Bearer [secret]"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        assert!(heard_it());
    }
    let submit = [
        "jobs",
        "submit",
        "fetch.wasm",
        "--arg",
        &url,
        "--http",
        &http,
        "--secret",
        &secret,
    ];
    let said = place.run(submit);
    assert!(said.starts_with("exit: 0"), "{said}");
    let said = place.run(["worker", "--until-empty"]);
    assert!(said.contains("1 job completed"), "{said}");
    assert!(heard_it());
    assert_eq!(files_with_value(&place.path("home")), Vec::<String>::new());
}

/// A request that is granted, and stopped all the same, is not said to be not granted.
#[test]
fn a_request_with_a_value_in_it_is_stopped() {
    let place = place();
    let (server, heard) = echo();
    let said = place.run_with_stdin(["secrets", "set", "token"], VALUE.as_bytes());
    assert!(said.starts_with("exit: 0"), "{said}");
    let (url, http) = (
        format!("url=http://{server}/{VALUE}"),
        format!("http://{server}"),
    );
    let secret = format!("token=authorization:Bearer@http://{server}");
    let said = place.run([
        "run",
        "fetch.wasm",
        "--arg",
        &url,
        "--http",
        &http,
        "--secret",
        &secret,
    ]);
    let denied = format!(
        "  denied: secret `token`: the skill wanted to send its value in a request to `{server}`\n"
    );
    says(
        &said,
        &[
            "exit: 1\n",
            "error: the skill failed: the host does not allow `GET http://",
            "/[secret]`: it is not granted, or may not be sent as it is\n",
            &denied,
            "hint: nothing can be granted for that; the host alone puts a secret into a request\n",
        ],
    );
    assert_eq!(*heard.lock().expect("nobody panics here"), "");
}

#[test]
fn the_policy_and_a_flag_say_where_it_comes_from() {
    let place = place();
    let (server, heard) = echo();
    let (url, http) = (format!("url=http://{server}/"), format!("http://{server}"));
    let secret = format!("token=x-key@http://{server}");
    place.write("home/policy.toml", "[secrets]\ntoken = \"env:TOKEN\"\n");
    place.write("token", "value-of-the-file\n");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(place.path("token"), mode).expect("a mode");
    let from = format!("token=file:{}", place.path("token").display());
    let run = [
        "run",
        "fetch.wasm",
        "--arg",
        &url,
        "--http",
        &http,
        "--secret",
        &secret,
    ];
    let ran = |more: &[&str]| {
        let args: [&str; 10] = [&run[..], more].concat().try_into().expect("ten");
        let output = place
            .command(args)
            .env("TOKEN", "value-of-the-variable")
            .output();
        let said = place.said(&output.expect("it starts"));
        assert!(said.contains("x-key: [secret]"), "{said}");
        std::mem::take(&mut *heard.lock().expect("nobody panics here"))
    };
    assert!(ran(&["--color", "never"]).contains("x-key: value-of-the-variable"));
    assert!(ran(&["--secret-from", &from]).contains("x-key: value-of-the-file"));
}

#[test]
fn a_source_for_a_secret_that_is_not_granted_is_warned_of() {
    let place = place();
    let warned = |granted: &[&str]| {
        let mut command = place.command(["run", "fetch.wasm", "--dry-run"]);
        command.args(["--arg", "url=https://a.example"]);
        command
            .args(["--secret-from", "tokne=env:TOKEN"])
            .args(granted);
        let said = place.said(&command.output().expect("it starts"));
        let warnings = said.lines().filter(|line| line.starts_with("warning: "));
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    let begin = "warning: `--secret-from tokne=…` has no effect: no secret of this name is granted";
    let nothing = format!("{begin}, nor any other; `--secret` grants one");
    assert_eq!(warned(&[]), [nothing]);
    let token = [
        "--secret",
        "token=authorization:Bearer@https://a.example",
        "--http",
        "https://a.example",
    ];
    let meant = format!("{begin}; did you mean `token`?");
    assert_eq!(warned(&token), [meant]);
}

#[test]
fn what_is_wrong_says_what_to_do() {
    let place = place();
    let secret = "token=authorization:Bearer@https://a.example";
    check(
        place.run([
            "run",
            "fetch.wasm",
            "--secret",
            secret,
            "--arg",
            "url=https://a.example",
        ]),
        str![[r#"
exit: 3
--- stdout
--- stderr
warning: the secret `token` is granted for `https://a.example/`, and no such request is granted: it goes nowhere; `--http https://a.example/` grants it
error: not admitted: secret `token`: no secret of this name is kept
hint: keep its value with `skillhost secrets set token`, or say where it comes from with `--secret-from token=env:VARIABLE`
✗ fetch-page 0.1.0 · fetch · rejected · did not run

"#]],
    );
    check(
        place.run([
            "run",
            "fetch-page",
            "--secret",
            "other=authorization:Bearer@https://a.example",
            "--arg",
            "url=https://a.example",
        ]),
        str![[r#"
exit: 3
--- stdout
--- stderr
error: not admitted: secret `other=authorization:Bearer@https://a.example/`: granted, but not declared by the skill
hint: the skill declares: `token=authorization:Bearer@https://*/`, `token=authorization:Bearer@http://*/`
✗ fetch-page 0.1.0 · fetch · rejected · did not run

"#]],
    );
    let said = place.run([
        "run",
        "fetch.wasm",
        "--secret-from",
        "token=hunter2-hunter2",
    ]);
    assert!(said.starts_with("exit: 2"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

/// Whoever ends it without a value has not broken anything.
#[test]
fn no_value_is_a_wrong_argument() {
    let place = Place::new();
    let (mut person, _terminal, child) = asked(&place);
    person.write_all(b"\x04").expect("it takes it");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(
        String::from_utf8_lossy(&ended.stderr),
        "\nerror: no value was given for `github`\n"
    );
    assert_eq!(ended.status.code(), Some(2));
}

/// What is written by hand has names like those that are set.
#[test]
fn a_file_that_cannot_be_used_is_told_like_a_policy() {
    let place = Place::new();
    place.write("home/secrets", "# mine\na = 12345678\n");
    let mode = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(place.path("home/secrets"), mode).expect("it is ours");
    };
    mode(0o644);
    let said = place.run(["secrets", "list"]);
    says(
        &said,
        &["exit: 2\n", "hint: close it to others: `chmod 600 "],
    );
    mode(0o600);
    check(
        place.run(["secrets", "list"]),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: line 2 of the file `[PLACE]/home/secrets`: the name of a secret has letters, digits, `_`, `-` and `.` only
hint: write it as NAME=VALUE, without a blank around the `=`, which would be part of one of them

"#]],
    );
}

/// An empty file is no value that is too short.
#[test]
fn nothing_on_standard_input_is_told_as_that() {
    let place = Place::new();
    check(
        place.run_with_stdin(["secrets", "set", "token"], b""),
        str![[r#"
exit: 2
--- stdout
--- stderr
error: nothing came from standard input for `token`
hint: the program before the `|` gave nothing, or the file is empty

"#]],
    );
}
