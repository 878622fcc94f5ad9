//! Every limit, met by a guest that breaks it while it runs a tool.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use skillhost::execution::Phase;
use skillhost::{Attachment, Cause, Control, Limit, LimitOverrides, Limits, Status};

use crate::handmade::{Answer, Handmade, SPIN};
use crate::harness::{
    PAGE, Record, builder, cause, check_exhausted, check_timeout, check_undisturbed, execute, host,
    load, output, request, run, run_handmade, run_tool,
};

pub const NONE: LimitOverrides = LimitOverrides {
    fuel: None,
    memory_bytes: None,
    table_elements: None,
    instances: None,
    wall_time: None,
    input_bytes: None,
    output_bytes: None,
    attachment_bytes: None,
    stdout_bytes: None,
    stderr_bytes: None,
    log_bytes: None,
    progress_bytes: None,
    host_bytes: None,
    handles: None,
    open_files: None,
    created_files: None,
    write_bytes: None,
    connections: None,
    http_request_bytes: None,
    http_response_bytes: None,
};
/// Long enough to be well in the middle of things, short enough for a test.
const SHORT: Duration = Duration::from_millis(60);

fn fuel(fuel: u64) -> LimitOverrides {
    LimitOverrides {
        fuel: Some(fuel),
        ..NONE
    }
}

fn memory(pages: u64) -> LimitOverrides {
    LimitOverrides {
        memory_bytes: Some(pages * PAGE),
        ..NONE
    }
}

fn wall_time(wall_time: Duration) -> LimitOverrides {
    LimitOverrides {
        wall_time: Some(wall_time),
        ..NONE
    }
}

#[tokio::test]
async fn a_guest_that_computes_runs_out_of_fuel() {
    let result = run(host(), "spin", json!({}), fuel(3_000_000)).await;
    check_exhausted(&result, Limit::Fuel, 3_000_000);
    assert_eq!(result.usage.fuel, 3_000_000);
    let Cause::ResourceExhausted { backtrace, .. } = cause(&result) else {
        unreachable!()
    };
    assert!(
        backtrace
            .iter()
            .any(|frame| frame.function.contains("spin")),
        "{backtrace:?}"
    );
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn a_run_that_ends_on_its_last_unit_of_fuel_succeeds() {
    let skill = load(host(), &Handmade::default()).await.digest();
    let needed = run_tool(host(), skill, NONE).await.usage.fuel;
    let result = run_tool(host(), skill, fuel(needed + 1)).await;
    assert_eq!(result.status, Status::Success);
    let result = run_tool(host(), skill, fuel(1)).await;
    check_exhausted(&result, Limit::Fuel, 1);
    let result = run_tool(host(), skill, fuel(0)).await;
    check_exhausted(&result, Limit::Fuel, 0);
}

#[tokio::test]
async fn memory_stops_where_its_limit_is() {
    let result = run(host(), "allocate", json!({"bytes": 8 << 20}), memory(64)).await;
    let requested = check_exhausted(&result, Limit::Memory, 64 * PAGE);
    assert!(requested.unwrap() > 8 << 20, "{requested:?}");
    assert!(result.usage.peak_memory_bytes < 64 * PAGE);
    let result = run(host(), "allocate", json!({"bytes": 8 << 20}), memory(200)).await;
    assert_eq!(result.status, Status::Success);
    assert!(result.usage.peak_memory_bytes > 8 << 20);
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn memories_count_in_sum() {
    let skill = Handmade {
        fields: "(memory $b 1) (memory $c 1)".into(),
        execute: "(drop (memory.grow $b (i32.const 10))) (drop (memory.grow $c (i32.const 10)))
            i32.const $answer"
            .into(),
        ..Handmade::default()
    };
    let result = run_handmade(&skill, memory(26)).await;
    assert_eq!(result.status, Status::Success);
    assert_eq!(result.usage.peak_memory_bytes, 26 * PAGE);
    let result = run_handmade(&skill, memory(25)).await;
    let requested = check_exhausted(&result, Limit::Memory, 25 * PAGE);
    assert_eq!(requested, Some(26 * PAGE));
    assert_eq!(result.usage.peak_memory_bytes, 16 * PAGE);
    check_undisturbed(host()).await;
}

/// The memory's own maximum is the guest's business; growth that the engine fails after the limiter
/// approved it does not count either.
#[tokio::test]
async fn growth_that_fails_does_not_count() {
    let own_maximum = Handmade {
        memory: r#"(memory (export "memory") 4 8)"#.into(),
        execute: "(if (i32.ne (memory.grow (i32.const 5)) (i32.const -1)) (then unreachable))
            (if (i32.ne (memory.grow (i32.const 4)) (i32.const 4)) (then unreachable))
            i32.const $answer"
            .into(),
        ..Handmade::default()
    };
    let result = run_handmade(&own_maximum, memory(8)).await;
    assert_eq!(result.status, Status::Success, "{:?}", result.failure);
    assert_eq!(result.usage.peak_memory_bytes, 8 * PAGE);

    // More than 32 bits can address: no engine can do it, and the limit would allow it.
    let beyond = Handmade {
        execute: "(if (i32.ne (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))
            (drop (memory.grow (i32.const 2)))
            i32.const $answer"
            .into(),
        ..Handmade::default()
    };
    let host = builder()
        .ceiling(Limits {
            memory_bytes: 16 << 30,
            ..Limits::ceiling()
        })
        .build()
        .unwrap();
    let skill = load(&host, &beyond).await;
    let result = run_tool(&host, skill.digest(), memory(1 << 17)).await;
    assert_eq!(result.status, Status::Success, "{:?}", result.failure);
    assert_eq!(result.usage.peak_memory_bytes, 6 * PAGE);
}

#[tokio::test]
async fn filling_the_whole_memory_is_paid_for_by_the_byte() {
    let skill = Handmade {
        execute: "(drop (memory.grow (i32.const 60)))
            (memory.fill (i32.const 65536) (i32.const 7) (i32.const 3900000))
            i32.const $answer"
            .into(),
        ..Handmade::default()
    };
    let result = run_handmade(&skill, NONE).await;
    assert_eq!(result.status, Status::Success, "{:?}", result.failure);
    assert!(
        (3_900_000..3_901_000).contains(&result.usage.fuel),
        "{}",
        result.usage.fuel
    );
    let result = run_handmade(&skill, fuel(3_900_000)).await;
    check_exhausted(&result, Limit::Fuel, 3_900_000);
}

#[tokio::test]
async fn table_elements_count_in_sum() {
    let elements = |table_elements| LimitOverrides {
        table_elements: Some(table_elements),
        ..NONE
    };
    let skill = Handmade {
        fields: "(table $a 10 funcref) (table $b 10 100 funcref)".into(),
        execute: "
            (if (i32.ne (table.grow $b (ref.null func) (i32.const 91)) (i32.const -1))
                (then unreachable))
            (drop (table.grow $a (ref.null func) (i32.const 30)))
            (drop (table.grow $b (ref.null func) (i32.const 30)))
            i32.const $answer"
            .into(),
        ..Handmade::default()
    };
    let result = run_handmade(&skill, elements(80)).await;
    assert_eq!(result.status, Status::Success, "{:?}", result.failure);
    let result = run_handmade(&skill, elements(79)).await;
    assert_eq!(check_exhausted(&result, Limit::TableElements, 79), Some(80));
    check_undisturbed(host()).await;
}

/// A guest that spins, one that waits, one that does so by way of `poll`, and two that hardly
/// compute but keep the host busy.
#[tokio::test]
async fn the_wall_time_ends_whatever_the_guest_does() {
    for (tool, input) in [
        ("spin", json!({})),
        ("sleep", json!({"ms": 3_600_000})),
        ("wait_for_ever", json!({})),
        ("now_for_ever", json!({})),
        ("random_for_ever", json!({"bytes": 1 << 20})),
    ] {
        let result = run(host(), tool, input, wall_time(SHORT)).await;
        check_timeout(&result, SHORT);
        let Cause::Timeout { phase, .. } = cause(&result) else {
            unreachable!()
        };
        assert_eq!(*phase, Phase::Run, "{tool}");
        assert!(result.usage.fuel > 0, "{tool}");
        check_undisturbed(host()).await;
    }
}

/// Where no tool's code runs, and still the guest's: the allocator that the host calls, the
/// function it calls afterwards, and the destructor of a resource.
#[tokio::test]
async fn neither_realloc_nor_post_return_nor_a_destructor_is_outside_the_limits() {
    let in_realloc = Handmade {
        realloc: SPIN.into(),
        ..Handmade::default()
    };
    let in_post_return = Handmade {
        // `describe` has one, too, and must come back: it has another address.
        post_return: format!("(if (i32.eq (local.get 0) (i32.const $answer)) (then {SPIN}))"),
        ..Handmade::default()
    };
    let in_a_destructor = Handmade {
        before: format!(
            r#"(core module $d (func (export "drop") (param i32) {SPIN}))
            (core instance $d (instantiate $d))
            (type $r (resource (rep i32) (dtor (core func $d "drop"))))
            (core func $new (canon resource.new $r))
            (core func $drop (canon resource.drop $r))"#
        ),
        with: r#"(with "r" (instance (export "new" (func $new)) (export "drop" (func $drop))))"#
            .into(),
        imports: r#"(import "r" "new" (func $new (param i32) (result i32)))
            (import "r" "drop" (func $drop (param i32)))"#
            .into(),
        execute: "(call $drop (call $new (i32.const 7))) i32.const $answer".into(),
        ..Handmade::default()
    };
    for skill in [in_realloc, in_post_return, in_a_destructor] {
        let result = run_handmade(&skill, fuel(1_000_000)).await;
        check_exhausted(&result, Limit::Fuel, 1_000_000);
        let result = run_handmade(&skill, wall_time(SHORT)).await;
        check_timeout(&result, SHORT);
    }
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn a_deadline_that_has_passed_ends_it_before_it_begins() {
    let record = Record::new();
    let request = request(host(), "echo", json!({}))
        .await
        .deadline(Utc::now() - chrono::Duration::seconds(1));
    let control = Control::default().observer(record.clone());
    let result = host().execute_with(request, control).await.unwrap();
    assert_eq!(
        cause(&result),
        &Cause::Timeout {
            limit: Limit::Deadline,
            allowed: 0,
            phase: Phase::Waiting
        }
    );
    assert_eq!(record.events(), ["finished timeout"]);
    assert_eq!(
        (result.usage.fuel, result.usage.wall_time),
        (0, Duration::ZERO)
    );
}

#[tokio::test]
async fn a_deadline_ends_it_before_its_wall_time_would() {
    for tool in ["spin", "wait_for_ever"] {
        let request = request(host(), tool, json!({}))
            .await
            .deadline(Utc::now() + 5 * SHORT);
        let result = execute(host(), request).await;
        let Cause::Timeout { limit, phase, .. } = cause(&result) else {
            panic!("{:?}", result.failure)
        };
        assert_eq!((*limit, *phase), (Limit::Deadline, Phase::Run));
        assert!(result.usage.wall_time < Duration::from_secs(5));
    }
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn a_deadline_may_pass_while_waiting_for_a_slot() {
    let host = builder().concurrency(1).build().unwrap();
    let record = Record::new();
    let long = request(&host, "wait_for_ever", json!({})).await;
    let short = request(&host, "echo", json!({})).await;
    let holder = tokio::spawn({
        let (host, control) = (host.clone(), Control::default().observer(record.clone()));
        async move { host.execute_with(long, control).await }
    });
    record.wait_for("started", 1).await;
    let short = short.deadline(Utc::now() + SHORT);
    let result = execute(&host, short).await;
    assert_eq!(
        cause(&result),
        &Cause::Timeout {
            limit: Limit::Deadline,
            allowed: 0,
            phase: Phase::Waiting
        }
    );
    assert!(result.usage.waiting_time > Duration::ZERO);
    assert_eq!(result.usage.wall_time, Duration::ZERO);
    holder.abort();
    let _ = holder.await;
    check_undisturbed(&host).await;
}

#[tokio::test]
async fn an_input_that_is_too_large_is_refused_before_anything_runs() {
    let limits = LimitOverrides {
        input_bytes: Some(100),
        ..NONE
    };
    let just = request(host(), "echo", json!({"a": "x".repeat(100 - 8 - 6)}))
        .await
        .attach(Attachment::new("ab", "cd", [1, 2]))
        .limits(limits);
    let result = execute(host(), just.clone()).await;
    assert_eq!(result.status, Status::Success, "{:?}", result.failure);
    assert_eq!(result.usage.input_bytes, 100);
    let result = execute(host(), just.attach(Attachment::new("a", "", []))).await;
    assert_eq!(check_exhausted(&result, Limit::Input, 100), Some(101));
    assert_eq!(
        (result.usage.fuel, result.usage.wall_time),
        (0, Duration::ZERO)
    );
}

#[tokio::test]
async fn an_output_that_is_too_large_is_refused() {
    let limits = LimitOverrides {
        output_bytes: Some(1000),
        ..NONE
    };
    let result = run(host(), "answer_large", json!({"bytes": 1000}), limits).await;
    assert_eq!(result.status, Status::Success);
    assert_eq!(result.usage.output_bytes, 1000);
    let result = run(host(), "answer_large", json!({"bytes": 1001}), limits).await;
    assert_eq!(check_exhausted(&result, Limit::Output, 1000), Some(1001));
    assert_eq!(result.usage.output_bytes, 1001);
    // A failure's texts are an output as well.
    let result = run(host(), "fail_large", json!({"bytes": 1001}), limits).await;
    assert_eq!(check_exhausted(&result, Limit::Output, 1000), Some(1001));
    // So much that it is not even taken over into the host's memory.
    let limits = LimitOverrides {
        memory_bytes: Some(256 << 20),
        ..limits
    };
    let result = run(host(), "answer_large", json!({"bytes": 20 << 20}), limits).await;
    check_exhausted(&result, Limit::Output, 1000);
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn attachments_that_are_too_large_are_refused() {
    let limits = LimitOverrides {
        attachment_bytes: Some(3000),
        ..NONE
    };
    let result = run(host(), "attach", json!({"count": 3, "bytes": 998}), limits).await;
    assert_eq!(result.attachments.len(), 3);
    assert_eq!(result.usage.output_bytes, 3002);
    let result = run(host(), "attach", json!({"count": 3, "bytes": 999}), limits).await;
    assert_eq!(
        check_exhausted(&result, Limit::Attachments, 3000),
        Some(3003)
    );
    check_undisturbed(host()).await;
}

/// 100,000 attachments that all stand at the same 1 MiB: small for the guest, 100 GiB for a host
/// that copies first and counts later.
#[tokio::test]
async fn a_list_that_overlaps_itself_is_not_copied() {
    let skill = Handmade {
        memory: r#"(memory (export "memory") 80)"#.into(),
        execute: "(local $at i32) (local.set $at (i32.const 2000000))
            (loop $next
                (i32.store offset=16 (local.get $at) (i32.const 0))
                (i32.store offset=20 (local.get $at) (i32.const 1048576))
                (local.set $at (i32.add (local.get $at) (i32.const 24)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 4400000))))
            i32.const $answer"
            .into(),
        realloc: "i32.const 0".into(),
        answer: Answer {
            attachments: (2_000_000, 100_000),
            ..Handmade::default().answer
        },
        ..Handmade::default()
    };
    let result = run_handmade(&skill, NONE).await;
    let Cause::ResourceExhausted { limit, .. } = cause(&result) else {
        panic!("{:?}", result.failure)
    };
    assert!(matches!(limit, Limit::Output | Limit::Attachments));
    check_undisturbed(host()).await;
}

/// As many empty attachments as fit in the guest's memory: nothing by their bytes, and yet each of
/// them is something that the host must hold.
#[tokio::test]
async fn empty_attachments_are_not_free() {
    let skill = Handmade {
        memory: r#"(memory (export "memory") 400)"#.into(),
        answer: Answer {
            attachments: (200_000, 700_000),
            ..Handmade::default().answer
        },
        ..Handmade::default()
    };
    let result = run_handmade(&skill, NONE).await;
    assert_eq!(result.status, Status::ResourceExhausted);
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn what_is_printed_past_the_limit_is_dropped_and_counted() {
    let limits = LimitOverrides {
        stdout_bytes: Some(25),
        stderr_bytes: Some(7),
        ..NONE
    };
    let input = json!({"count": 10, "stdout": "0123456789\n", "stderr": "abc"});
    let result = run(host(), "print", input, limits).await;
    assert_eq!(result.status, Status::Success);
    assert_eq!(result.stdout, "0123456789\n0123456789\n012");
    assert_eq!(result.stderr, "abcabca");
    assert_eq!(result.usage.dropped.stdout_bytes, 110 - 25);
    assert_eq!(result.usage.dropped.stderr_bytes, 30 - 7);
}

#[tokio::test]
async fn what_is_logged_and_reported_past_the_limit_is_dropped_and_counted() {
    let limits = LimitOverrides {
        log_bytes: Some(1000),
        progress_bytes: Some(1000),
        ..NONE
    };
    for (tool, event) in [("log", "log"), ("progress", "progress")] {
        let record = Record::new();
        let control = Control::default().observer(record.clone());
        let request = request(host(), tool, json!({"count": 100, "bytes": 9}))
            .await
            .limits(limits);
        let result = host().execute_with(request, control).await.unwrap();
        assert_eq!(result.status, Status::Success, "{:?}", result.failure);
        // Each counts for 16 bytes more.
        assert_eq!(record.count(&format!("{event} xxxxxxxxx")), 40);
        let dropped = result.usage.dropped;
        assert_eq!(dropped.log_bytes + dropped.progress_bytes, 60 * 25);
    }
}

#[tokio::test]
async fn a_host_call_that_carries_too_much_is_refused() {
    let limits = LimitOverrides {
        host_bytes: Some(1 << 20),
        memory_bytes: Some(256 << 20),
        ..NONE
    };
    for tool in ["log_large", "log_after_random", "print_large"] {
        let result = run(host(), tool, json!({"bytes": 1 << 20}), limits).await;
        // A stream may say for itself that it takes less at once.
        if tool != "print_large" {
            assert_eq!(
                result.status,
                Status::Success,
                "{tool}: {:?}",
                result.failure
            );
        }
        let result = run(host(), tool, json!({"bytes": 2 << 20}), limits).await;
        check_exhausted(&result, Limit::HostBytes, 1 << 20);
        check_undisturbed(host()).await;
    }
}

#[tokio::test]
async fn handles_are_counted() {
    let limits = LimitOverrides {
        handles: Some(100),
        ..NONE
    };
    let result = run(host(), "pollables", json!({"count": 80}), limits).await;
    assert_eq!(output(&result), &json!({"held": 80}));
    let result = run(host(), "pollables", json!({"count": 200}), limits).await;
    check_exhausted(&result, Limit::Handles, 100);
    check_undisturbed(host()).await;

    let own_resources = Handmade {
        before: "(type $r (resource (rep i32))) (core func $new (canon resource.new $r))".into(),
        with: r#"(with "r" (instance (export "new" (func $new))))"#.into(),
        imports: r#"(import "r" "new" (func $new (param i32) (result i32)))"#.into(),
        execute: "(loop $more (drop (call $new (i32.const 7))) (br $more)) unreachable".into(),
        ..Handmade::default()
    };
    let result = run_handmade(&own_resources, limits).await;
    check_exhausted(&result, Limit::Handles, 100);
    check_undisturbed(host()).await;
}

#[tokio::test]
async fn the_stack_has_an_end() {
    let small = builder().stack_bytes(128 << 10).build().unwrap();
    for (host, stack) in [(host(), 512 << 10), (&small, 128 << 10)] {
        let result = run(host, "overflow_the_stack", json!({}), NONE).await;
        check_exhausted(&result, Limit::Stack, stack);
        check_undisturbed(host).await;
    }
    let recursion = Handmade {
        fields: "(func $deeper (call $deeper))".into(),
        execute: "(call $deeper) i32.const $answer".into(),
        ..Handmade::default()
    };
    let result = run_handmade(&recursion, NONE).await;
    check_exhausted(&result, Limit::Stack, 512 << 10);
}

#[tokio::test]
async fn what_is_asked_for_past_the_ceiling_is_clamped_and_reported() {
    let ceiling = Limits {
        fuel: 5_000_000,
        memory_bytes: 40 * PAGE,
        wall_time: Duration::from_secs(7),
        ..Limits::ceiling()
    };
    let host = builder().ceiling(ceiling).build().unwrap();
    let asked = LimitOverrides {
        fuel: Some(u64::MAX),
        memory_bytes: Some(u64::MAX),
        wall_time: Some(Duration::MAX),
        table_elements: Some(u64::MAX),
        instances: Some(u64::MAX),
        input_bytes: Some(u64::MAX),
        output_bytes: Some(u64::MAX),
        attachment_bytes: Some(u64::MAX),
        stdout_bytes: Some(u64::MAX),
        stderr_bytes: Some(u64::MAX),
        log_bytes: Some(u64::MAX),
        progress_bytes: Some(u64::MAX),
        host_bytes: Some(u64::MAX),
        handles: Some(u64::MAX),
        open_files: Some(u64::MAX),
        created_files: Some(u64::MAX),
        write_bytes: Some(u64::MAX),
        connections: Some(u64::MAX),
        http_request_bytes: Some(u64::MAX),
        http_response_bytes: Some(u64::MAX),
    };
    let result = run(&host, "spin", json!({}), asked).await;
    check_exhausted(&result, Limit::Fuel, 5_000_000);
    assert_eq!(result.limits, ceiling);
    let result = run(&host, "allocate", json!({"bytes": 8 << 20}), asked).await;
    check_exhausted(&result, Limit::Memory, 40 * PAGE);
}
