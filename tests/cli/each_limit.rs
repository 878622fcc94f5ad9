//! All limits that can be asked for, each given too small on the command line: the skill is stopped or what it says is
//! cut, with the exit code of that, a sentence of what was too much, the flag that raises it, and the cost.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use skillhost::Limit;

use crate::harness::{Place, guest, says};
use crate::network::{page, serve};

/// What comes of too little.
enum End {
    /// The run is stopped, and these parts of a sentence say why.
    Stopped(&'static [&'static str]),
    /// The time is up.
    TimeIsUp,
    /// The run goes on, and what is past the limit of this is dropped.
    Cut(&'static str),
}

use End::{Cut, Stopped, TimeIsUp};

/// What a guest does that needs more of something than it gets.
struct Try {
    value: u64,
    guest: &'static str,
    tool: &'static str,
    input: String,
    grants: Vec<String>,
    end: End,
}

/// The servers that guests of the tests go to.
struct Servers {
    http: SocketAddr,
    sockets: SocketAddr,
}

/// Sends some bytes to whoever connects, and takes what comes, for as long as the test runs.
fn serve_sockets() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let _ = stream.write_all(&[b'x'; 5_000]);
                let mut piece = [0; 4_096];
                while let Ok(1..) = stream.read(&mut piece) {}
            });
        }
    });
    address
}

fn behaviour(value: u64, tool: &'static str, input: &str, end: End) -> Try {
    Try {
        value,
        guest: "behaviours",
        tool,
        input: input.to_owned(),
        grants: Vec::new(),
        end,
    }
}

/// Calls on a directory that may be written to.
fn calls(value: u64, calls: &str, end: End) -> Try {
    Try {
        value,
        guest: "directories",
        tool: "calls",
        input: format!(r#"{{"calls":[{calls}]}}"#),
        grants: vec!["--dir=data:/data:rw".to_owned()],
        end,
    }
}

fn storage(value: u64, steps: &str, end: End) -> Try {
    Try {
        value,
        guest: "storage",
        tool: "do",
        input: format!(r#"{{"steps":[{steps}]}}"#),
        grants: vec!["--storage".to_owned()],
        end,
    }
}

/// One request with a body.
fn request(value: u64, servers: &Servers, end: End) -> Try {
    let to = servers.http;
    Try {
        value,
        guest: "network",
        tool: "request",
        input: format!(r#"{{"method":"POST","authority":"{to}","path":"/","upload_bytes":5000}}"#),
        grants: vec![format!("--http=POST http://{to}/")],
        end,
    }
}

fn socket(value: u64, tool: &'static str, servers: &Servers, end: End) -> Try {
    let to = servers.sockets;
    Try {
        value,
        guest: "network",
        tool,
        input: format!(r#"{{"to":"{to}","count":2}}"#),
        grants: vec![format!("--socket=tcp://{to}")],
        end,
    }
}

/// How each limit is met.
fn meeting(limit: Limit, servers: &Servers) -> Try {
    match limit {
        Limit::Fuel => behaviour(
            1_000_000,
            "spin",
            "{}",
            Stopped(&["the skill used up its fuel of 1,000,000 units\n"]),
        ),
        Limit::Memory => behaviour(
            8 << 20,
            "allocate",
            r#"{"bytes":50000000}"#,
            Stopped(&["the skill needed ", " MiB) of memory; its limit is 8 MiB\n"]),
        ),
        Limit::TableElements => behaviour(
            1,
            "echo",
            "{}",
            Stopped(&[
                "the skill needed tables of ",
                " elements while it was being instantiated; its limit is 1 element",
            ]),
        ),
        Limit::Instances => behaviour(
            1,
            "echo",
            "{}",
            Stopped(&[
                "the skill consists of more than 1 instance while it was being instantiated, which is its limit",
            ]),
        ),
        Limit::WallTime => behaviour(500, "wait_for_ever", "{}", TimeIsUp),
        Limit::Input => behaviour(
            8,
            "echo",
            r#"{"text":"too long"}"#,
            Stopped(&["the input has 19 B; the limit is 8 B\n"]),
        ),
        Limit::Output => behaviour(
            1_000,
            "answer_large",
            r#"{"bytes":5000}"#,
            Stopped(&["the skill answered with 5,000 B; its limit is 1,000 B\n"]),
        ),
        Limit::Attachments => behaviour(
            64,
            "attach",
            r#"{"count":2,"bytes":100}"#,
            Stopped(&["the skill attached 204 B; its limit is 64 B\n"]),
        ),
        Limit::Stdout => behaviour(
            6,
            "print",
            r#"{"count":5,"stdout":"12345\n","stderr":""}"#,
            Cut("standard output"),
        ),
        Limit::Stderr => behaviour(
            6,
            "print",
            r#"{"count":5,"stdout":"","stderr":"12345\n"}"#,
            Cut("standard error"),
        ),
        Limit::Log => behaviour(40, "log", r#"{"count":5,"bytes":20}"#, Cut("log")),
        Limit::Progress => behaviour(
            40,
            "progress",
            r#"{"count":5,"bytes":20}"#,
            Cut("progress reports"),
        ),
        Limit::HostBytes => behaviour(
            1 << 10,
            "log_large",
            r#"{"bytes":500000}"#,
            Stopped(&[
                "the skill handed the host more than 1 KiB, ",
                "which is its limit\n",
            ]),
        ),
        Limit::Handles => behaviour(
            10,
            "pollables",
            r#"{"count":100}"#,
            Stopped(&["the skill held more than 10 handles at once, which is its limit\n"]),
        ),
        Limit::OpenFiles => calls(
            3,
            r#"{"call":"open","path":"a.txt","times":9}"#,
            Stopped(&["the skill wanted more than 3 open files at once, which is its limit\n"]),
        ),
        Limit::CreatedFiles => calls(
            3,
            r#"{"call":"open","path":"{n}","create":true,"write":true,"drop":true,"times":9}"#,
            Stopped(&["the skill wanted to make more than 3 new files, which is its limit\n"]),
        ),
        Limit::WriteBytes => calls(
            100,
            r#"{"call":"open","path":"a.txt","write":true},{"call":"write","at":1,"bytes":5000}"#,
            Stopped(&["the skill wanted to write more than 100 B to files, which is its limit\n"]),
        ),
        Limit::Connections => socket(
            1,
            "tcp_hold",
            servers,
            Stopped(&["the skill wanted more than 1 connection at once, which is its limit\n"]),
        ),
        Limit::HttpRequestBytes => request(
            1_000,
            servers,
            Stopped(&[
                "the skill's requests over HTTP came to more than 1,000 B, which is its limit\n",
            ]),
        ),
        Limit::HttpResponseBytes => request(
            1_000,
            servers,
            Stopped(&[
                "the answers that the skill got over HTTP came to more than 1,000 B, which is its limit\n",
            ]),
        ),
        Limit::HttpFieldsBytes => Try {
            value: 1_000,
            guest: "network",
            tool: "fields",
            input: r#"{"count":1,"kibibytes":9}"#.to_owned(),
            grants: Vec::new(),
            end: Stopped(&[
                "the skill put more than 1,000 B of header fields together, which is its limit\n",
            ]),
        },
        Limit::SocketSentBytes => socket(
            1_000,
            "tcp_send",
            servers,
            Stopped(&[
                "the skill wanted to send more than 1,000 B on sockets, which is its limit\n",
            ]),
        ),
        Limit::SocketReadBytes => socket(
            1_000,
            "tcp_receive",
            servers,
            Stopped(&["the skill received more than 1,000 B on sockets, which is its limit\n"]),
        ),
        Limit::StorageKeys => storage(
            1,
            r#"["set","","a","1"],["set","","b","2"]"#,
            Stopped(&["the skill wanted to keep more than 1 key, which is its limit\n"]),
        ),
        Limit::StorageBytes => storage(
            100,
            r#"["fill","","a",5000]"#,
            Stopped(&["the skill wanted to keep more than 100 B, which is its limit\n"]),
        ),
        Limit::StorageValueBytes => storage(
            100,
            r#"["fill","","a",5000]"#,
            Stopped(&["the skill wanted to keep a value of more than 100 B, which is its limit\n"]),
        ),
        limit => panic!("nothing here meets the limit `{limit}`"),
    }
}

/// The flag that raises it, up to its value.
fn flag(limit: Limit) -> String {
    match limit {
        Limit::Fuel => "--fuel N".to_owned(),
        Limit::Memory => "--memory SIZE".to_owned(),
        Limit::WallTime => "--timeout TIME".to_owned(),
        Limit::Output => "--output-limit SIZE".to_owned(),
        limit if limit.as_str().ends_with("_bytes") => format!("--limit {limit}=SIZE"),
        limit => format!("--limit {limit}=N"),
    }
}

#[test]
fn each_limit_that_is_too_small_says_so() {
    let place = Place::with_behaviours();
    for name in ["directories", "network", "storage"] {
        std::fs::copy(guest(name), place.path(&format!("{name}.wasm"))).expect("a copy");
    }
    place.write("data/a.txt", "");
    let servers = Servers {
        http: serve(page(&"x".repeat(5_000))),
        sockets: serve_sockets(),
    };
    for limit in Limit::ASKED {
        let Try {
            value,
            guest,
            tool,
            input,
            grants,
            end,
        } = meeting(limit, &servers);
        let mut command = place.command(["run", &format!("{guest}.wasm"), tool, "-i", &input]);
        command.arg(format!("--limit={limit}={value}")).args(grants);
        let said = place.said(&command.output().expect("the command starts"));
        let (code, sentence, ended): (u8, &[&str], &str) = match end {
            Stopped(parts) => (4, parts, "resource exhausted"),
            TimeIsUp => (
                5,
                &["the wall time of 500 ms was up while the skill ran\n"],
                "timeout",
            ),
            Cut(what) => {
                let warning = format!(
                    " of the skill's {what} were dropped, being past the limit; `{}` raises it\n",
                    flag(limit)
                );
                let bill = format!("\n✓ {guest} ");
                let cost = format!(" · {tool} · [COST]");
                says(&said, &["exit: 0\n", "\nwarning: ", &warning]);
                says(&said, &[&bill, &cost]);
                continue;
            }
        };
        says(&said, &[&format!("exit: {code}\n--- stdout\n--- stderr\n")]);
        let mut parts = vec!["\nerror: "];
        parts.extend(sentence);
        let hint = format!(
            "hint: raise the limit with `{}`, or give it less to do\n✗ {guest} ",
            flag(limit)
        );
        // What is too much to be handed in is not run.
        let cost = match limit {
            Limit::Input => "did not run",
            _ => "[COST]",
        };
        let cost = format!(" · {tool} · {ended} · {cost}");
        parts.extend([hint.as_str(), cost.as_str()]);
        says(&said, &parts);
    }
}
