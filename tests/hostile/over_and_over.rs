//! One attack of each family, very often: what one of them leaves behind may be too little to be seen, and is seen in
//! the sum.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skillhost::grant::{Grants, Mode};
use skillhost::secret::{SecretValue, Secrets};
use skillhost::{Event, LimitOverrides, Observer, Status};
use uuid::Uuid;

use crate::attack::{Attack, NONE, OFTEN, builder, fuel, host, memory, runtime, wall_time};
use crate::computing::with_destructor;
use crate::handmade::{Answer, Handmade, SPIN};
use crate::harness::directories_path;
use crate::measure::{alone, check_leaves_nothing_but};
use crate::network;

/// Short, as it is waited for very often.
const A_MOMENT: Duration = Duration::from_millis(5);

#[test]
fn guests_that_compute() {
    let _alone = alone();
    let spins = Attack::by(Handmade {
        execute: SPIN.into(),
        ..Handmade::default()
    });
    let by_fuel = spins.clone().under(fuel(100_000));
    by_fuel.leaves_nothing_over_and_over(Status::ResourceExhausted);
    spins
        .under(wall_time(A_MOMENT))
        .leaves_nothing_over_and_over(Status::Timeout);
}

/// Where the host calls them for something else than their answer.
#[test]
fn guests_that_compute_elsewhere() {
    let _alone = alone();
    let in_the_allocator = Handmade {
        realloc: SPIN.into(),
        ..Handmade::default()
    };
    let afterwards = Handmade {
        post_return: format!("(if (i32.eq (local.get 0) (i32.const $answer)) (then {SPIN}))"),
        ..Handmade::default()
    };
    let drops = "(call $drop (call $new (i32.const 7))) i32.const $answer";
    for skill in [in_the_allocator, afterwards, with_destructor(SPIN, drops)] {
        Attack::by(skill)
            .under(fuel(100_000))
            .leaves_nothing_over_and_over(Status::ResourceExhausted);
    }
}

#[test]
fn guests_that_wait() {
    let _alone = alone();
    Attack::with("wait_for_ever", json!({}))
        .under(wall_time(A_MOMENT))
        .leaves_nothing_over_and_over(Status::Timeout);
}

#[test]
fn guests_that_take_memory() {
    let _alone = alone();
    let grows = "(loop $more (drop (memory.grow (i32.const 1))) (br $more)) unreachable";
    for (execute, fields) in [
        (grows, ""),
        (
            "(call $deeper) i32.const $answer",
            "(func $deeper (call $deeper))",
        ),
    ] {
        Attack::by(Handmade {
            execute: execute.into(),
            fields: fields.into(),
            ..Handmade::default()
        })
        .under(memory(64))
        .leaves_nothing_over_and_over(Status::ResourceExhausted);
    }
}

/// Each has a part of the address space for itself.
#[test]
fn guests_with_many_memories() {
    let _alone = alone();
    Attack::by(crate::mappings::that_has_many_memories())
        .under(LimitOverrides {
            wall_time: Some(A_MOMENT),
            memory_bytes: Some(64 << 20),
            ..NONE
        })
        .leaves_nothing_over_and_over(Status::Timeout);
}

#[test]
fn guests_that_lie() {
    let _alone = alone();
    let usual = || Handmade::default().answer;
    for (answer, status) in [
        (
            Answer {
                json: vec![0xff, 0xfe],
                ..usual()
            },
            Status::Failed,
        ),
        (
            Answer {
                json: vec![b'['; 9_000],
                ..usual()
            },
            Status::Failed,
        ),
        (
            Answer {
                attachments: (8, u32::MAX),
                ..usual()
            },
            Status::Failed,
        ),
    ] {
        Attack::by(Handmade {
            answer,
            ..Handmade::default()
        })
        .leaves_nothing_over_and_over(status);
    }
}

#[test]
fn guests_that_say_much() {
    let _alone = alone();
    Attack::with("chatter", json!({"count": 300})).leaves_nothing_over_and_over(Status::Success);
    Attack::with("print_large", json!({"bytes": 300_000}))
        .leaves_nothing_over_and_over(Status::Success);
    let little = LimitOverrides {
        output_bytes: Some(1_000),
        ..NONE
    };
    Attack::with("answer_large", json!({"bytes": 5_000}))
        .under(little)
        .leaves_nothing_over_and_over(Status::ResourceExhausted);
}

/// Of what the host would hold for them.
#[test]
fn guests_that_bring_much() {
    let _alone = alone();
    let little = LimitOverrides {
        attachment_bytes: Some(3_000),
        ..NONE
    };
    Attack::with("attach", json!({"count": 3, "bytes": 300_000}))
        .under(little)
        .leaves_nothing_over_and_over(Status::ResourceExhausted);
    let fields = json!({"to": "set", "count": 5_000});
    Attack::from(network::network(), "fields_for_ever", fields)
        .leaves_nothing_over_and_over(Status::ResourceExhausted);
}

/// What the host is at when their time is up.
#[test]
fn guests_whose_output_takes_long_to_check() {
    let _alone = alone();
    Attack::by(crate::checking::whose_output_takes_long_to_check())
        .under(wall_time(2 * A_MOMENT))
        .settled_by(crate::checking::checks_are_over)
        .leaves_nothing_over_and_over(Status::Timeout);
}

#[test]
fn guests_that_are_cancelled() {
    let _alone = alone();
    Attack::with("chatter", json!({"count": 300}))
        .cancelled()
        .leaves_nothing_over_and_over(Status::Cancelled);
}

#[test]
fn guests_that_trap_and_that_make_the_host_panic() {
    let _alone = alone();
    Attack::with("panic", json!({})).leaves_nothing_over_and_over(Status::Failed);
    let panics = |_: Uuid, event: &Event<'_>| {
        if matches!(event, Event::Log { .. }) {
            // Without the hook, which would print it each time.
            std::panic::resume_unwind(Box::new("expected by the test"));
        }
    };
    Attack::with("chatter", json!({"count": 3}))
        .watched_by(Arc::new(panics) as Arc<dyn Observer>)
        .leaves_nothing_over_and_over(Status::Failed);
}

#[test]
fn guests_that_use_a_disk() {
    let _alone = alone();
    let calls = json!([
        {"call": "open", "at": 0, "path": "../../etc/passwd"},
        {"call": "make_directory", "at": 0, "path": "new-{n}", "times": 3},
        {"call": "open", "at": 0, "path": "big", "create": true, "write": true},
        {"call": "stream_out", "at": 1, "bytes": 200_000},
    ]);
    let limits = LimitOverrides {
        write_bytes: Some(10_000),
        ..NONE
    };
    Attack::from(directories_path(), "calls", json!({ "calls": calls }))
        .granted(Grants::default().scratch())
        .under(limits)
        .leaves_nothing_over_and_over(Status::ResourceExhausted);
}

#[test]
fn guests_that_keep_too_much() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let host = builder().storage(folder.path().join("storage.db")).build();
    let steps = json!([
        ["set", "", "k", "v"],
        ["fill", "", "big", 5_000],
        ["delete", "", "k"]
    ]);
    let limits = LimitOverrides {
        storage_value_bytes: Some(1_000),
        ..NONE
    };
    let path = directories_path().with_file_name("storage.wasm");
    Attack::from(&path, "do", json!({ "steps": steps }))
        .granted(Grants::default().storage())
        .under(limits)
        .on(&host.expect("a host can be set up"))
        .leaves_nothing_over_and_over(Status::ResourceExhausted);
}

#[test]
fn guests_that_use_the_network() {
    let _alone = alone();
    let server = network::silent();
    let request = |scheme: &str, status: Status, limits: LimitOverrides| {
        let mut input = server.request("/");
        input["scheme"] = json!(scheme);
        network::by_way_of(&server, "request", input)
            .granted(network::http(&[&format!("{scheme}://{}", server.address)]))
            .under(limits)
            .leaves_nothing_over_and_over(status);
    };
    request("http", Status::Timeout, wall_time(A_MOMENT));
    request("https", Status::Timeout, wall_time(A_MOMENT));
    // To what is not granted.
    Attack::from(network::network(), "request", server.request("/"))
        .leaves_nothing_over_and_over(Status::Success);
    // Sockets below it.
    let to = server.address.to_string();
    let grant = format!("tcp://{to}").parse().expect("it is a grant");
    let limits = LimitOverrides {
        connections: Some(2),
        ..NONE
    };
    let quiet = network::quiet(&[&server]);
    Attack::from(
        network::network(),
        "tcp_hold",
        json!({"to": to, "count": 5}),
    )
    .granted(Grants::default().socket(grant))
    .under(limits)
    .settled_by(quiet)
    .leaves_nothing_over_and_over(Status::ResourceExhausted);
}

/// Links that lead out or nowhere, and what is no file.
#[test]
fn guests_that_follow_links() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (target, link) in [
        ("/etc/passwd", "out"),
        ("nowhere", "broken"),
        ("loop", "loop"),
    ] {
        std::os::unix::fs::symlink(target, folder.path().join(link)).expect("it can be made");
    }
    let fifo = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).expect("it can be made");
    let open = |path: &str| json!({"call": "open", "at": 0, "path": path});
    let calls = ["out", "broken", "loop", "fifo", "../out"].map(open);
    Attack::from(directories_path(), "calls", json!({ "calls": calls }))
        .granted(Grants::default().directory(folder.path(), "/data", Mode::Rw))
        .leaves_nothing_over_and_over(Status::Success);
}

/// Names that lead inside, answers that lead elsewhere, and datagrams to where nothing may go.
#[test]
fn guests_that_are_led_elsewhere() {
    let _alone = alone();
    let names = network::names(|_, _| network::Answer::addresses(&["127.0.0.1"]));
    let host = network::host_with(&names);
    let server = network::answering(
        "HTTP/1.1 302 Away\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
    );
    Attack::from(
        network::network(),
        "request",
        server.request_by("a.example"),
    )
    .granted(network::http(&[&server.grant_of("a.example")]))
    .on(&host)
    .leaves_nothing_over_and_over(Status::Success);
    let mut follow = server.request("/start");
    follow["count"] = json!(3);
    follow["method"] = json!("GET");
    network::by_way_of(&server, "follow", follow).leaves_nothing_over_and_over(Status::Success);
    Attack::from(
        network::network(),
        "udp_send",
        json!({"to": server.address.to_string()}),
    )
    .leaves_nothing_over_and_over(Status::Success);
}

/// An answer that breaks off, and has a secret in it.
#[test]
fn guests_with_a_secret() {
    let _alone = alone();
    let value = SecretValue::new("correct horse".to_owned()).expect("it is a value");
    let secrets = Secrets::default().value("token", value);
    let host = builder().secrets(secrets).build();
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\ncorrect horse, correct hor";
    let server = network::answering(answer);
    let grant = format!("token=authorization:Bearer@{}", server.grant());
    let grants = network::http(&[&server.grant()]).secret(grant.parse().expect("it is a grant"));
    network::by_way_of(&server, "request", server.request("/"))
        .granted(grants)
        .on(&host.expect("a host can be set up"))
        .leaves_nothing_over_and_over(Status::Success);
}

/// What is refused when it is loaded, each time anew.
#[test]
fn skills_that_are_refused() {
    let _alone = alone();
    let mut half = Handmade::default().build();
    half.truncate(half.len() / 2);
    let traps = Handmade {
        describe: "unreachable".into(),
        ..Handmade::default()
    };
    let components = [b"\0asm\x01\0\0\0".to_vec(), half, traps.build()];
    let load = |times: usize| {
        for component in components.iter().cycle().take(times) {
            let loaded = runtime().block_on(host().load_bytes(component.clone()));
            loaded.expect_err("it is no skill");
        }
    };
    load(OFTEN / 10);
    check_leaves_nothing_but(0, || load(OFTEN));
}

/// What a request may ask for in vain.
#[test]
fn requests_that_are_refused() {
    let _alone = alone();
    let mut nested = Value::Null;
    for _ in 0..200 {
        nested = json!([nested]);
    }
    Attack::with("echo", nested).leaves_nothing_over_and_over(Status::Failed);
    let limits = LimitOverrides {
        input_bytes: Some(100),
        ..NONE
    };
    Attack::with("echo", json!("x".repeat(1_000)))
        .under(limits)
        .leaves_nothing_over_and_over(Status::ResourceExhausted);
}
