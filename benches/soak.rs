//! What a hundred thousand hostile executions leave behind: the process's resident memory after the
//! first thousand and at the end; and half way, as growth that comes to an end is no leak.
//!
//! `cargo bench --bench soak`, with `-- --smoke` to see only whether it works. Each execution must
//! end as its attack does in the hostile suite (`tests/hostile`), and a skill that behaves well runs
//! in between. Some are refused before they run, when they are loaded, each time anew. There is no floor: the first
//! thousand are it. The heap is set up as that of `serve` is.

#[path = "../src/cli/heap.rs"]
mod heap;
mod support;

#[path = "../tests/integration/handmade.rs"]
#[allow(dead_code, reason = "shared with the tests, and each uses its part")]
mod handmade;

#[path = "../tests/integration/guest.rs"]
mod guest;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handmade::{Answer, Description, Handmade, SPIN, TOOL};
use serde_json::{Value, json};
use skillhost::grant::Grants;
use skillhost::secret::{SecretValue, Secrets};
use skillhost::{
    Cause, CompileError, Control, Event, ExecutionRequest, Host, Limit, LimitOverrides, LoadError,
    Skill, Status,
};
use tokio::task::JoinSet;

/// Executions in flight at once.
const AT_ONCE: usize = 8;
/// Executions before the first look at the memory.
const FIRST: usize = 1_000;
/// What stands in requests of one of the attacks, and in the answers to them.
const SECRET: &str = "correct horse battery staple";

fn main() -> ExitCode {
    heap::set_up();
    heap::give_back();
    // One of the attacks makes code of the host panic, thousands of times.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panicked| {
        if !panicked.to_string().contains("the embedder's fault") {
            usual(panicked);
        }
    }));
    let executions = support::rounds(100_000);
    let first = FIRST.min(executions / 4);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let kept = tempfile::tempdir().expect("a folder can be made");
    let value = SecretValue::new(SECRET.to_owned()).expect("it is a value");
    let host = Host::builder()
        .storage(kept.path().join("storage.db"))
        .secrets(Secrets::default().value("token", value))
        .build()
        .expect("the host can be set up");
    let soak = runtime.block_on(Soak::new(&host));
    let began = Instant::now();
    runtime.block_on(soak.run(0..first));
    let first_bytes = support::resident_bytes();
    runtime.block_on(soak.run(first..executions / 2));
    let half_bytes = support::resident_bytes();
    runtime.block_on(soak.run(executions / 2..executions));
    let last_bytes = support::resident_bytes();
    let took = began.elapsed();

    let growth = support::ratio(last_bytes as f64, first_bytes as f64);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "resident after {first} hostile executions: {:.1} MiB",
        mib(first_bytes)
    );
    println!(
        "after {executions}: {:.1} MiB, {growth} times that",
        mib(last_bytes)
    );
    support::finish(json!({
        "benchmark": "soak",
        "executions": executions,
        "attacks": soak.attacks.len() + soak.refused.len(),
        "first_bytes": first_bytes,
        "half_bytes": half_bytes,
        "last_bytes": last_bytes,
        "growth": growth,
        "growth_of_second_half": support::ratio(last_bytes as f64, half_bytes as f64),
        "seconds": support::round(took.as_secs_f64()),
        "load": support::load(),
        "target": {"growth": support::at_most(1.05)},
    }))
}

macro_rules! limit {
    ($limit:ident) => {
        |cause| {
            matches!(
                cause,
                Cause::ResourceExhausted {
                    limit: Limit::$limit,
                    ..
                }
            )
        }
    };
}

struct Soak {
    host: Host,
    attacks: Arc<Vec<(Skill, Attack)>>,
    refused: Arc<Vec<Refused>>,
    well: Skill,
}

impl Soak {
    async fn new(host: &Host) -> Self {
        let mut loaded = Vec::new();
        let attacks = attacks().into_iter().chain(attacks_of_built_guests());
        for attack in attacks {
            let skill = host.load_bytes(attack.skill.component()).await;
            loaded.push((skill.expect("it loads"), attack));
        }
        let well = host.load_bytes(Handmade::default().build()).await;
        Soak {
            host: host.clone(),
            attacks: Arc::new(loaded),
            refused: Arc::new(refused()),
            well: well.expect("it loads"),
        }
    }

    /// Runs the attacks in turn, a few at once, until all of them have ended.
    async fn run(&self, numbers: std::ops::Range<usize>) {
        let mut tasks = JoinSet::new();
        for number in numbers {
            if tasks.len() == AT_ONCE {
                let joined = tasks.join_next().await.expect("there are some");
                joined.expect("it ended as it should");
            }
            let (host, attacks) = (self.host.clone(), Arc::clone(&self.attacks));
            let refused = Arc::clone(&self.refused);
            tasks.spawn(async move {
                let number = number % (attacks.len() + refused.len());
                match attacks.get(number) {
                    Some((skill, attack)) => attack.run(&host, skill).await,
                    None => refused[number - attacks.len()].run(&host).await,
                }
            });
            if number.is_multiple_of(50) {
                let request = ExecutionRequest::new(self.well.digest(), json!({}));
                let result = self.host.execute(request).await.expect("the host works");
                assert_eq!(result.status, Status::Success, "{:?}", result.failure);
            }
        }
        while let Some(joined) = tasks.join_next().await {
            joined.expect("it ended as it should");
        }
    }
}

/// What an attack runs.
enum Guest {
    Handmade(Box<Handmade>),
    /// A component of `tests/guests`.
    Built(Vec<u8>),
}

impl Guest {
    fn component(&self) -> Vec<u8> {
        match self {
            Guest::Handmade(handmade) => handmade.build(),
            Guest::Built(component) => component.clone(),
        }
    }
}

/// How an attack ends.
enum Ends {
    Stopped(fn(&Cause) -> bool),
    /// The guest is told that it may not, and says so: the place in its output where it has the error.
    Told(&'static str),
}

struct Attack {
    skill: Guest,
    tool: &'static str,
    input: Value,
    grants: Grants,
    limits: LimitOverrides,
    control: Control,
    ends: Ends,
    /// Its future is dropped half way.
    dropped: bool,
}

impl Attack {
    async fn run(&self, host: &Host, skill: &Skill) {
        let request = ExecutionRequest::new(skill.digest(), self.input.clone())
            .tool(self.tool)
            .grants(self.grants.clone())
            .limits(self.limits);
        let running = host.execute_with(request, self.control.clone());
        if self.dropped {
            let ended = tokio::time::timeout(Duration::from_millis(1), running).await;
            assert!(ended.is_err(), "it never ends");
            return;
        }
        let result = running.await.expect("the host works");
        match (&self.ends, &result.failure) {
            (Ends::Stopped(ends), Some(failure)) => assert!(ends(&failure.cause), "{failure:?}"),
            (Ends::Stopped(_), None) => panic!("it was not stopped: {:?}", result.output),
            (Ends::Told(place), _) => {
                let error = result
                    .output
                    .as_ref()
                    .and_then(|output| output.pointer(place));
                let output = (&result.output, &result.failure);
                assert!(error.is_some_and(Value::is_string), "{output:?}");
            }
        }
    }
}

/// What is no skill, and is found out when it is loaded.
struct Refused {
    component: Vec<u8>,
    refused: fn(&LoadError) -> bool,
}

impl Refused {
    async fn run(&self, host: &Host) {
        let error = match host.load_bytes(self.component.clone()).await {
            Ok(skill) => panic!("it was loaded: {:?}", skill.digest()),
            Err(error) => error,
        };
        assert!((self.refused)(&error), "{error}");
    }
}

/// A module, a component that is cut off, one that wants what there is not, and some that do not say what they are.
fn refused() -> Vec<Refused> {
    let refused =
        |component: Vec<u8>, refused: fn(&LoadError) -> bool| Refused { component, refused };
    let describing = |describe: &str| Handmade {
        describe: describe.into(),
        ..Handmade::default()
    };
    let wants = Handmade {
        before: r#"(import "acme:x/y@0.1.0" (instance (export "f" (func))))"#.into(),
        ..Handmade::default()
    };
    let module = b"\0asm\x01\0\0\0".to_vec();
    let mut half = Handmade::default().build();
    half.truncate(half.len() / 2);
    let no_component =
        |error: &LoadError| matches!(error, LoadError::Compile(CompileError::NotAComponent(_)));
    let cut_off = |error: &LoadError| matches!(error, LoadError::Compile(_) | LoadError::Misfit(_));
    let misfit = |error: &LoadError| matches!(error, LoadError::Misfit(_));
    let trap = |error: &LoadError| {
        let LoadError::Describe { failure, .. } = error else {
            return false;
        };
        matches!(failure.cause, Cause::Trap { .. })
    };
    let lies = |error: &LoadError| {
        matches!(
            error,
            LoadError::Describe { .. } | LoadError::Description(_)
        )
    };
    let mut unnamed = Handmade::default();
    unnamed.description.name = "../a".into();
    vec![
        refused(module, no_component),
        refused(half, cut_off),
        refused(wants.build(), misfit),
        refused(describing("unreachable").build(), trap),
        refused(unnamed.build(), lies),
    ]
}

/// Listens on this machine, and says nothing to whoever comes.
fn silent() -> SocketAddr {
    /// As many connections are kept. There are no more at once.
    const KEPT: usize = 2 * AT_ONCE;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        let mut kept = VecDeque::new();
        for connection in listener.incoming().flatten() {
            kept.push_back(connection);
            if kept.len() > KEPT {
                kept.pop_front();
            }
        }
    });
    address
}

/// Listens on this machine, and gives whoever asks this answer.
fn answering(answer: String) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut reader = BufReader::new(connection);
            let mut line = String::new();
            // The head of a request ends with a line that has nothing in it.
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let _ = reader.into_inner().write_all(answer.as_bytes());
        }
    });
    address
}

/// By way of directories, of storage and of the network, which take more of a guest than is written by hand.
fn attacks_of_built_guests() -> Vec<Attack> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let built = guest::build(&workspace, &[], &target);
    let component = |name: &str| {
        let component = std::fs::read(built.join(name)).expect("it was built");
        Guest::Built(component)
    };
    let limits = LimitOverrides {
        write_bytes: Some(10_000),
        created_files: Some(5),
        wall_time: Some(Duration::from_secs(10)),
        ..LimitOverrides::default()
    };
    let calls = |calls: Value, grants: Grants, ends: Ends| Attack {
        skill: component("directories.wasm"),
        tool: "calls",
        input: json!({ "calls": calls }),
        grants,
        limits,
        control: Control::default(),
        ends,
        dropped: false,
    };
    let server = silent();
    let network =
        |tool: &'static str, input: Value, grants: Grants, limits: LimitOverrides, ends: Ends| {
            Attack {
                skill: component("network.wasm"),
                tool,
                input,
                grants,
                limits,
                control: Control::default(),
                ends,
                dropped: false,
            }
        };
    let asks = |grants: Grants, limits: LimitOverrides, ends: Ends| {
        network(
            "request",
            json!({"authority": server.to_string(), "path": "/"}),
            grants,
            limits,
            ends,
        )
    };
    let http = |to: String| Grants::default().http(to.parse().expect("it is a grant"));
    let is_timeout: fn(&Cause) -> bool = |cause| matches!(cause, Cause::Timeout { .. });
    let elsewhere = answering(format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{server}/\r\ncontent-length: 0\r\n\r\n"
    ));
    // An answer that breaks off, with the secret in it and a part of it at its end.
    let echo = answering(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n{SECRET} {}",
        &SECRET[..SECRET.len() - 1]
    ));
    let secret = format!("token=authorization:Bearer@http://{echo}").parse();
    let socket = format!("tcp://{server}").parse().expect("it is a grant");
    let little_time = LimitOverrides {
        wall_time: Some(Duration::from_millis(20)),
        ..limits
    };
    vec![
        calls(
            json!([
                {"call": "open", "at": 0, "path": "big", "create": true, "write": true},
                {"call": "stream_out", "at": 1, "bytes": 200_000},
            ]),
            Grants::default().scratch(),
            Ends::Stopped(limit!(WriteBytes)),
        ),
        calls(
            json!([{"call": "make_directory", "at": 0, "path": "new-{n}", "times": 9}]),
            Grants::default().scratch(),
            Ends::Stopped(limit!(CreatedFiles)),
        ),
        calls(
            json!([{"call": "open", "at": 0, "path": "../../etc/passwd"}]),
            Grants::default().scratch(),
            Ends::Told("/answers/0/error"),
        ),
        // To a server that never answers, and to one that is not granted.
        asks(
            http(format!("http://{server}")),
            little_time,
            Ends::Stopped(is_timeout),
        ),
        asks(Grants::default(), limits, Ends::Told("/error")),
        // Inside TLS, where nobody greets.
        network(
            "request",
            json!({"scheme": "https", "authority": server.to_string(), "path": "/"}),
            http(format!("https://{server}")),
            little_time,
            Ends::Stopped(is_timeout),
        ),
        // Led on to what is not granted.
        network(
            "follow",
            json!({"authority": elsewhere.to_string(), "path": "/", "count": 5}),
            http(format!("http://{elsewhere}")),
            limits,
            Ends::Told("/last/error"),
        ),
        network(
            "request",
            json!({"authority": echo.to_string(), "path": "/"}),
            http(format!("http://{echo}")).secret(secret.expect("it is a grant")),
            limits,
            Ends::Told("/broken"),
        ),
        network(
            "tcp_hold",
            json!({"to": server.to_string(), "count": 5}),
            Grants::default().socket(socket),
            LimitOverrides {
                connections: Some(2),
                ..limits
            },
            Ends::Stopped(limit!(Connections)),
        ),
        Attack {
            skill: component("storage.wasm"),
            tool: "do",
            input: json!({"steps": [["set", "", "k", "v"], ["delete", "", "k"], ["fill", "", "big", 5_000]]}),
            grants: Grants::default().storage(),
            limits: LimitOverrides {
                storage_value_bytes: Some(1_000),
                ..limits
            },
            control: Control::default(),
            ends: Ends::Stopped(limit!(StorageValueBytes)),
            dropped: false,
        },
    ]
}

/// Attacks that do what they can in little time.
fn attacks() -> Vec<Attack> {
    let limits = LimitOverrides {
        fuel: Some(1_000_000),
        memory_bytes: Some(4 << 20),
        output_bytes: Some(10_000),
        attachment_bytes: Some(10_000),
        handles: Some(50),
        wall_time: Some(Duration::from_secs(10)),
        ..LimitOverrides::default()
    };
    let attack = |skill: Handmade, ends: fn(&Cause) -> bool| Attack {
        skill: Guest::Handmade(Box::new(skill)),
        tool: TOOL,
        input: json!({}),
        grants: Grants::default(),
        limits,
        control: Control::default(),
        ends: Ends::Stopped(ends),
        dropped: false,
    };
    let that_runs = |execute: &str| Handmade {
        execute: execute.into(),
        ..Handmade::that_calls()
    };
    let that_answers = |answer: Answer| Handmade {
        answer,
        ..Handmade::default()
    };
    let usual = || Handmade::default().answer;
    let time_is_up = LimitOverrides {
        wall_time: Some(Duration::from_millis(1)),
        fuel: Some(u64::MAX),
        ..limits
    };
    let time_is_up_soon = LimitOverrides {
        wall_time: Some(Duration::from_millis(10)),
        memory_bytes: Some(16 << 20),
        ..time_is_up
    };
    let roomy = LimitOverrides {
        memory_bytes: Some(16 << 20),
        ..limits
    };
    let panics = |_: uuid::Uuid, event: &Event<'_>| {
        assert!(!matches!(event, Event::Log { .. }), "the embedder's fault");
    };
    let is_timeout: fn(&Cause) -> bool = |cause| matches!(cause, Cause::Timeout { .. });
    let is_trap: fn(&Cause) -> bool = |cause| matches!(cause, Cause::Trap { .. });
    vec![
        attack(Handmade { execute: SPIN.into(), ..Handmade::default() }, limit!(Fuel)),
        attack(Handmade { realloc: SPIN.into(), ..Handmade::default() }, limit!(Fuel)),
        Attack { limits: time_is_up, ..attack(
            Handmade { execute: format!("(nop) {SPIN}"), ..Handmade::default() }, is_timeout) },
        Attack { limits: LimitOverrides { memory_bytes: Some(16 << 20), ..time_is_up }, ..attack(
            that_runs("(call $block (call $subscribe (i64.const -1))) i32.const $answer"),
            is_timeout) },
        Attack { limits: roomy, dropped: true, ..attack(
            that_runs("(nop) (call $block (call $subscribe (i64.const -1))) i32.const $answer"),
            is_timeout) },
        attack(
            Handmade {
                execute: "(loop $more
                    (i32.store (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)) (i32.const 1))
                    (br $more)) unreachable".into(),
                ..Handmade::default()
            },
            limit!(Memory),
        ),
        attack(
            Handmade {
                fields: "(memory $b 1)".into(),
                execute: "(drop (memory.grow $b (i32.const 40)))
                    (memory.fill $b (i32.const 0) (i32.const 7) (i32.const 900000))
                    (drop (memory.grow $b (i32.const 40))) unreachable".into(),
                ..Handmade::default()
            },
            limit!(Memory),
        ),
        attack(
            Handmade {
                fields: "(table $t 1 funcref) (memory $b 1)".into(),
                execute: "(loop $more (drop (table.grow $t (ref.null func) (i32.const 10000)))
                    (br $more)) unreachable".into(),
                ..Handmade::default()
            },
            limit!(TableElements),
        ),
        attack(
            Handmade {
                fields: "(func $deeper (call $deeper))".into(),
                execute: "(call $deeper) i32.const $answer".into(),
                ..Handmade::default()
            },
            limit!(Stack),
        ),
        Attack { limits: roomy, ..attack(
            that_runs("(loop $more (drop (call $subscribe (i64.const -1))) (br $more)) unreachable"),
            limit!(Handles)) },
        Attack { limits: roomy, ..attack(
            that_runs("(call $log (i32.const 2) (i32.const 0) (i32.const 8388608)) unreachable"),
            limit!(HostBytes)) },
        Attack { limits: roomy, ..attack(
            that_runs("(local $n i32) (local.set $n (i32.const 400)) (loop $more
                (call $log (i32.const 2) (i32.const 0) (i32.const 1000))
                (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) unreachable"),
            is_trap) },
        Attack {
            limits: roomy,
            control: Control::default().observer(Arc::new(panics)),
            ..attack(
                that_runs("(call $log (i32.const 2) (i32.const 0) (i32.const 9)) unreachable"),
                |cause| matches!(cause, Cause::HostPanic),
            )
        },
        attack(Handmade { execute: "unreachable".into(), ..Handmade::default() }, is_trap),
        attack(that_answers(Answer { json: vec![0xff, 0xfe], ..usual() }), is_trap),
        attack(that_answers(Answer { attachments: (8, u32::MAX), ..usual() }), is_trap),
        attack(that_answers(Answer { attachments: (0, 3_000), ..usual() }), limit!(Attachments)),
        attack(that_answers(Answer { json: vec![b' '; 30_000], ..usual() }), limit!(Output)),
        attack(that_answers(Answer { json: vec![b'['; 9_000], ..usual() }), |cause| {
            matches!(cause, Cause::InvalidOutput { .. })
        }),
        // It takes longer to check than there is time.
        Attack { limits: LimitOverrides { output_bytes: Some(1 << 20), ..time_is_up_soon }, ..attack(
            that_takes_long_to_check(), is_timeout) },
        // Mappings of memory are what there is least of.
        Attack { limits: LimitOverrides { memory_bytes: Some(64 << 20), ..time_is_up_soon }, ..attack(
            that_has_many_memories(), is_timeout) },
    ]
}

/// Whether a number is a multiple of a fraction is worked out in exact fractions, of some 300 digits here.
fn that_takes_long_to_check() -> Handmade {
    Handmade {
        memory: r#"(memory (export "memory") 16)"#.into(),
        realloc: "i32.const 900000".into(),
        description: Description {
            output_schema: Some(r#"{"items": {"multipleOf": 0.1}}"#.to_owned()),
            ..Handmade::default().description
        },
        answer: Answer {
            json: format!("[{}]", ["1.7e308"; 50_000].join(",")).into(),
            ..Handmade::default().answer
        },
        ..Handmade::default()
    }
}

/// It waits for ever, and has data in the middle of each of its memories meanwhile.
fn that_has_many_memories() -> Handmade {
    let memory =
        |at: u32| format!(r#"(memory $m{at} 4) (data (memory $m{at}) (i32.const 70000) "x")"#);
    let memories: String = (0..40).map(memory).collect();
    let calls = Handmade::that_calls();
    Handmade {
        before: format!(
            "{} (core module $many {memories}) (core instance $many (instantiate $many))",
            calls.before
        ),
        execute: "(call $block (call $subscribe (i64.const -1))) unreachable".into(),
        ..calls
    }
}
