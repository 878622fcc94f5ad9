//! A skill that does what it is told, well or badly. One tool for each behaviour; the tool's input
//! says how much of it. It speaks the contract directly, without the SDK, so that nothing stands
//! between a test and the host.

use std::cell::RefCell;
use std::hint::black_box;
use std::io::{Read, Write};

use exports::skillhost::skill::tools::{Attachment, Context, Description, Failure, Guest, Output};
use serde_json::{Value, json};
use skillhost::skill::logging::{Level, log};
use skillhost::skill::types::{Annotations, Error, InvalidInput, Retryable, Tool};
use wasip2::clocks::monotonic_clock;
use wasip2::io::poll;
use wasip2::random::random::get_random_bytes;

wit_bindgen::generate!({
    path: "../../../wit",
    world: "skill",
    generate_all,
});

struct Behaviours;

export!(Behaviours);

/// The behaviours, each a tool of this name.
const TOOLS: &[&str] = &[
    "add_tokens",
    "allocate",
    "ambient",
    "answer",
    "answer_large",
    "attach",
    "chatter",
    "config",
    "context",
    "echo",
    "environment",
    "exit",
    "fail",
    "fail_large",
    "fail_to_retry",
    "list",
    "log",
    "log_after_random",
    "log_large",
    "log_text",
    "many_random",
    "measured_calls",
    "now_for_ever",
    "overflow_the_stack",
    "panic",
    "poll_nothing",
    "pollables",
    "print",
    "print_large",
    "print_raw",
    "print_zeros",
    "progress",
    "random_for_ever",
    "read",
    "read_at_once",
    "reject_input",
    "remember",
    "remove",
    "sleep",
    "spin",
    "stdin",
    "unknown_tool",
    "wait_for_ever",
    "write",
];

impl Guest for Behaviours {
    fn describe() -> Description {
        // Nothing is granted to whoever describes itself.
        assert_eq!(std::env::vars().count(), 0);
        assert!(wasip2::filesystem::preopens::get_directories().is_empty());
        assert!(wasi::config::store::get_all().is_ok_and(|all| all.is_empty()));
        Description {
            name: "behaviours".into(),
            version: "1.2.3".into(),
            description: "Does what it is told, well or badly.".into(),
            tools: TOOLS.iter().map(|name| tool(name)).collect(),
        }
    }

    fn execute(
        tool: String,
        input: String,
        attachments: Vec<Attachment>,
        context: Context,
    ) -> Result<Output, Failure> {
        let input: Value = serde_json::from_str(&input).expect("the host sends JSON");
        let number = |key: &str| input[key].as_u64().unwrap_or_default();
        let text = |key: &str| input[key].as_str().unwrap_or_default().to_owned();
        // So that a test knows that it runs.
        if let Some(first) = input["log_first"].as_str() {
            log(Level::Info, first);
        }
        let answer = match tool.as_str() {
            "add_tokens" => {
                skillhost::skill::tokens::add(number("input"), number("output"));
                skillhost::skill::tokens::add(1, 2);
                json!({})
            }
            "allocate" => json!({"sum": touched(number("bytes") as usize)}),
            "ambient" => {
                // One source is drawn from more often than the others.
                match input["drawn"].as_str() {
                    Some("random") => drop(get_random_bytes(1_000)),
                    Some("insecure") => {
                        drop(wasip2::random::insecure::get_insecure_random_bytes(1_000))
                    }
                    _ => {}
                }
                ambient(&context)
            }
            "answer" => return Ok(plain(text("json"))),
            "answer_large" => return Ok(plain(quoted(number("bytes") as usize))),
            "attach" => {
                let (count, bytes) = (number("count"), number("bytes") as usize);
                return Ok(attached(
                    count,
                    bytes,
                    input["of"].as_str().unwrap_or("\x07"),
                ));
            }
            "chatter" => {
                for at in 0..number("count") {
                    log(Level::Info, &format!("record {at}"));
                    skillhost::skill::progress::report(Some(at as f64), "step", Some("{}"));
                }
                json!({})
            }
            "config" => json!({
                "value": wasi::config::store::get(&text("key")).expect("the store works"),
                "all": wasi::config::store::get_all().expect("the store works"),
            }),
            "context" => json!({
                "request_id": context.request_id,
                "attempt": context.attempt,
                "left_ms": skillhost::skill::deadline::time_left() / 1_000_000,
            }),
            "echo" => {
                return Ok(Output {
                    json: input.to_string(),
                    attachments,
                });
            }
            "environment" => json!({
                "variables": std::env::vars().collect::<Vec<_>>(),
                "arguments": std::env::args().collect::<Vec<_>>(),
            }),
            "exit" => std::process::exit(number("code") as i32),
            "fail" => {
                look_for(&input["look_for"]);
                return Err(Failure::Error(Error {
                    message: text("message"),
                    code: input["code"].as_str().map(str::to_owned),
                    details: input["details"].as_str().map(str::to_owned),
                }));
            }
            "fail_large" => {
                let text = input["text"].as_str().unwrap_or("x");
                return Err(Failure::Error(Error {
                    message: text.repeat(number("bytes") as usize),
                    code: None,
                    details: None,
                }));
            }
            "fail_to_retry" => {
                return Err(Failure::Retryable(Retryable {
                    message: "later".into(),
                    retry_after_ms: input["after_ms"].as_u64(),
                }));
            }
            "list" => listed(&text("path")),
            "log" => {
                for _ in 0..number("count") {
                    log(Level::Warn, &"x".repeat(number("bytes") as usize));
                }
                json!({})
            }
            "log_after_random" => {
                // A call into which the host allocates comes first.
                black_box(get_random_bytes(16));
                log(Level::Info, &"x".repeat(number("bytes") as usize));
                json!({})
            }
            "log_text" => {
                log(Level::Warn, &text("text"));
                json!({})
            }
            "log_large" => {
                log(Level::Info, &"x".repeat(number("bytes") as usize));
                json!({})
            }
            "many_random" => {
                for _ in 0..number("count") {
                    black_box(get_random_bytes(number("bytes")));
                }
                json!({})
            }
            "measured_calls" => {
                for _ in 0..number("count") {
                    black_box(monotonic_clock::now());
                }
                json!({})
            }
            "now_for_ever" => loop {
                black_box(monotonic_clock::now());
            },
            "overflow_the_stack" => json!(deeper(1)),
            "panic" => panic!("told to panic: {}", text("message")),
            "poll_nothing" => {
                poll::poll(&[]);
                json!({})
            }
            "pollables" => {
                let held: Vec<_> = (0..number("count"))
                    .map(|_| monotonic_clock::subscribe_duration(u64::MAX))
                    .collect();
                json!({"held": held.len()})
            }
            "print" => {
                for _ in 0..number("count") {
                    std::io::stdout()
                        .write_all(text("stdout").as_bytes())
                        .expect("stdout takes it");
                    std::io::stderr()
                        .write_all(text("stderr").as_bytes())
                        .expect("stderr takes it");
                }
                std::io::stdout().flush().expect("stdout takes it");
                json!({})
            }
            "print_large" => {
                // All in one call, past what the stream says it would take.
                let stdout = wasip2::cli::stdout::get_stdout();
                let _ = stdout.write(&vec![b'x'; number("bytes") as usize]);
                json!({})
            }
            "print_raw" => {
                let bytes = vec![number("byte") as u8; number("bytes") as usize];
                std::io::stdout()
                    .write_all(&bytes)
                    .expect("stdout takes it");
                std::io::stdout().flush().expect("stdout takes it");
                json!({})
            }
            "print_zeros" => {
                let stdout = wasip2::cli::stdout::get_stdout();
                let _ = stdout.write_zeroes(number("bytes"));
                json!({})
            }
            "progress" => {
                for _ in 0..number("count") {
                    skillhost::skill::progress::report(
                        Some(f64::NAN),
                        &"x".repeat(number("bytes") as usize),
                        None,
                    );
                }
                json!({})
            }
            "random_for_ever" => loop {
                black_box(get_random_bytes(number("bytes")));
            },
            "read" => match std::fs::read_to_string(text("path")) {
                Ok(text) => json!({ "text": text }),
                Err(error) => json!({"error": error.to_string()}),
            },
            "read_at_once" => read_at_once(&text("name"), number("bytes")),
            "reject_input" => {
                return Err(Failure::InvalidInput(InvalidInput {
                    pointer: input["pointer"].as_str().unwrap_or("/a/0").into(),
                    message: input["message"].as_str().unwrap_or("not like this").into(),
                }));
            }
            "remember" => remembered(&text("word")),
            "remove" => match std::fs::remove_file(text("path")) {
                Ok(()) => json!({}),
                Err(error) => json!({"error": error.to_string()}),
            },
            "sleep" => {
                monotonic_clock::subscribe_duration(number("ms") * 1_000_000).block();
                json!({})
            }
            "spin" => spin(),
            "stdin" => {
                let mut read = Vec::new();
                std::io::stdin()
                    .read_to_end(&mut read)
                    .expect("stdin can be read");
                json!({"bytes": read.len()})
            }
            "unknown_tool" => return Err(Failure::UnknownTool),
            "wait_for_ever" => {
                let never = monotonic_clock::subscribe_instant(u64::MAX);
                poll::poll(&[&never]);
                json!({})
            }
            "write" => match std::fs::write(text("path"), text("text")) {
                Ok(()) => json!({}),
                Err(error) => json!({"error": error.to_string()}),
            },
            other => unreachable!("the host checks that {other} is one of the tools"),
        };
        Ok(plain(answer.to_string()))
    }
}

fn tool(name: &str) -> Tool {
    let input_schema = match name {
        "sleep" => json!({
            "type": "object",
            "properties": {"ms": {"type": "integer", "minimum": 0}},
            "required": ["ms"],
            "additionalProperties": false,
        }),
        _ => json!({"type": "object"}),
    };
    Tool {
        name: name.into(),
        title: None,
        description: format!("Does this: {name}."),
        input_schema: input_schema.to_string(),
        output_schema: match name {
            "answer" => Some(json!({"type": "object"}).to_string()),
            _ => None,
        },
        annotations: Annotations {
            read_only: Some(name == "echo"),
            destructive: None,
            idempotent: None,
            open_world: Some(false),
        },
    }
}

fn plain(json: String) -> Output {
    Output {
        json,
        attachments: Vec::new(),
    }
}

/// A JSON string of exactly so many bytes, its quotation marks included.
fn quoted(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes.saturating_sub(2)))
}

fn attached(count: u64, bytes: usize, of: &str) -> Output {
    let mut data = of.repeat(bytes.div_ceil(of.len())).into_bytes();
    data.truncate(bytes);
    let attachment = |_| Attachment {
        name: "a".into(),
        media_type: "b".into(),
        data: data.clone(),
    };
    Output {
        json: "{}".into(),
        attachments: (0..count).map(attachment).collect(),
    }
}

/// Memory that was really written to.
fn touched(bytes: usize) -> u64 {
    let memory = black_box(vec![1_u8; bytes]);
    memory
        .iter()
        .step_by(4096)
        .map(|byte| u64::from(*byte))
        .sum()
}

#[inline(never)]
fn spin() -> Value {
    let mut turns = 0_u64;
    loop {
        // A division takes long for the fuel that it costs: the fuel of a default request lasts for seconds.
        turns = black_box(u64::MAX / (black_box(turns) | 1));
    }
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn deeper(depth: u64) -> u64 {
    // Little on the guest's own stack in its memory, so that the host's ends first.
    black_box(depth) + deeper(depth + 1) * 3
}

/// Looks for what may not be there: a file, the environment, a configuration key.
fn look_for(what: &Value) {
    if let Some(path) = what["path"].as_str() {
        black_box(std::fs::metadata(path).is_ok());
    }
    if let Some(variable) = what["variable"].as_str() {
        black_box(std::env::var(variable).is_ok());
    }
    if let Some(key) = what["key"].as_str() {
        black_box(wasi::config::store::get(key).is_ok());
    }
}

/// All that a guest gets from around it without asking for anything by name.
fn ambient(context: &Context) -> Value {
    let now = wasip2::clocks::wall_clock::now();
    json!({
        "request_id": context.request_id,
        "files": file_times(),
        "now": format!("{}.{:09}", now.seconds, now.nanoseconds),
        "monotonic": monotonic_clock::now(),
        "left_ms": skillhost::skill::deadline::time_left() / 1_000_000,
        "random": get_random_bytes(16),
        "insecure": wasip2::random::insecure::get_insecure_random_u64(),
        "seed": format!("{:?}", wasip2::random::insecure_seed::insecure_seed()),
        "turns": turns_of_a_refusal(),
    })
}

/// How often a request that is refused is looked after until it is: a clock, where that takes its time.
fn turns_of_a_refusal() -> u64 {
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{Fields, OutgoingRequest, Scheme};
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Https)).expect("it is one");
    request
        .set_authority(Some("example.com"))
        .expect("it is one");
    let Ok(future) = handle(request, None) else {
        return 0;
    };
    let answered = future.subscribe();
    (0..).find(|_| answered.ready()).expect("it ends")
}

/// The times of a file that is made in the scratch directory, where there is one: as it is made, and after it was set to
/// now.
fn file_times() -> Value {
    use wasip2::filesystem::types::{DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};
    let preopened = wasip2::filesystem::preopens::get_directories();
    let Some((scratch, _)) = preopened.iter().find(|(_, path)| path == "/scratch") else {
        return Value::Null;
    };
    let file = scratch
        .open_at(
            PathFlags::empty(),
            "made",
            OpenFlags::CREATE,
            DescriptorFlags::READ | DescriptorFlags::WRITE,
        )
        .expect("a file can be made");
    let told = || {
        let times = |stat: wasip2::filesystem::types::DescriptorStat| {
            format!(
                "{:?} {:?} {:?}",
                stat.data_access_timestamp,
                stat.data_modification_timestamp,
                stat.status_change_timestamp
            )
        };
        let at = scratch.stat_at(PathFlags::empty(), "made");
        [
            times(file.stat().expect("it is there")),
            times(at.expect("it is there")),
        ]
    };
    let made = told();
    file.set_times(NewTimestamp::Now, NewTimestamp::Now)
        .expect("its times can be set");
    let set = told();
    scratch
        .set_times_at(
            PathFlags::empty(),
            "made",
            NewTimestamp::Now,
            NewTimestamp::Now,
        )
        .expect("its times can be set");
    json!([made, set, told()])
}

/// What an earlier execution left behind, and then something new to leave.
fn remembered(word: &str) -> Value {
    thread_local! {
        static WORDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
    // Also in plain memory: a large block, looked at before it is written.
    let mut block: Vec<u8> = Vec::with_capacity(1 << 20);
    let before = block
        .spare_capacity_mut()
        .iter()
        // SAFETY: WebAssembly memory is always initialised; reading what was there is the point.
        .filter(|byte| unsafe { black_box(byte.as_ptr()).read() } == b'!')
        .count();
    block.resize(1 << 20, b'!');
    black_box(&block);
    print!("{word}");
    std::io::stdout().flush().expect("stdout takes it");
    WORDS.with_borrow_mut(|words| {
        words.push(word.to_owned());
        json!({"words": words, "marks": before})
    })
}

fn listed(path: &str) -> Value {
    match std::fs::read_dir(path) {
        Ok(entries) => {
            let mut names: Vec<String> = entries
                .map(|entry| match entry {
                    Ok(entry) => entry.file_name().to_string_lossy().into_owned(),
                    Err(error) => format!("error: {error}"),
                })
                .collect();
            names.sort();
            json!({ "names": names })
        }
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// Asks for that many bytes of a file in one call.
fn read_at_once(name: &str, bytes: u64) -> Value {
    use wasip2::filesystem::preopens::get_directories;
    use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};

    let (directory, _) = get_directories().remove(0);
    let file = directory
        .open_at(
            PathFlags::empty(),
            name,
            OpenFlags::empty(),
            DescriptorFlags::READ,
        )
        .expect("the file can be opened");
    let read = file.read(bytes, 0).map_or(0, |(read, _)| read.len());
    let stream = file.read_via_stream(0).expect("it can be read as a stream");
    let streamed = stream.blocking_read(bytes).map_or(0, |read| read.len());
    json!({"read": read, "streamed": streamed})
}
