//! Every limit, met by a guest that breaks it while it runs a tool.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use skillhost::execution::Phase;
use skillhost::{Cause, Control, ExecutionRequest, Limit, LimitOverrides, Limits, Status};

use crate::handmade::Handmade;
use crate::harness::{
    NONE, PAGE, Record, behaviours_path, builder, cause, check_exhausted, check_undisturbed,
    execute, host, load, request, run, run_handmade, run_tool,
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

/// To the unit: a run needs one more than it uses, where its last function is an empty one. What is met is the limit.
#[tokio::test]
async fn a_run_that_ends_on_its_last_unit_of_fuel_succeeds() {
    let skill = load(host(), &Handmade::default()).await.digest();
    let needed = run_tool(host(), skill, NONE).await.usage.fuel;
    let result = run_tool(host(), skill, fuel(needed + 1)).await;
    assert_eq!(result.status, Status::Success);
    assert_eq!(result.usage.fuel, needed);
    for too_little in [needed, needed - 1, 1, 0] {
        let result = run_tool(host(), skill, fuel(too_little)).await;
        check_exhausted(&result, Limit::Fuel, too_little);
        assert_eq!(result.usage.fuel, too_little);
    }
}

/// Fuel is looked at where a function or a turn of a loop begins. So the last function's body is not
/// stopped any more, and what is reported ends at the limit.
#[tokio::test]
async fn what_comes_after_the_last_look_at_the_fuel_is_not_stopped() {
    let skill = Handmade {
        fields: "(global $n (mut i32) (i32.const 0))".into(),
        post_return: "(global.set $n (i32.add (global.get $n) (i32.const 1)))".repeat(100),
        ..Handmade::default()
    };
    let skill = load(host(), &skill).await.digest();
    let all = run_tool(host(), skill, NONE).await.usage.fuel;
    let body = 4 * 100;
    let result = run_tool(host(), skill, fuel(all - body + 1)).await;
    assert_eq!(result.status, Status::Success);
    assert_eq!(result.usage.fuel, all - body + 1);
    let result = run_tool(host(), skill, fuel(all - body)).await;
    check_exhausted(&result, Limit::Fuel, all - body);
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
            // On a fast machine it would use up its fuel before.
            .limits(fuel(Limits::ceiling().fuel))
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
        http_fields_bytes: Some(u64::MAX),
        socket_sent_bytes: Some(u64::MAX),
        socket_read_bytes: Some(u64::MAX),
        storage_bytes: Some(u64::MAX),
        storage_keys: Some(u64::MAX),
        storage_value_bytes: Some(u64::MAX),
    };
    let result = run(&host, "spin", json!({}), asked).await;
    check_exhausted(&result, Limit::Fuel, 5_000_000);
    assert_eq!(result.limits, ceiling);
    let result = run(&host, "allocate", json!({"bytes": 8 << 20}), asked).await;
    check_exhausted(&result, Limit::Memory, 40 * PAGE);
}

/// What one call carries is read by the host in one go, and a deadline waits for that; and behind each
/// handle is memory of the host's. So a skill does not get more of either for itself.
#[tokio::test]
async fn a_skill_gets_no_more_of_the_host_by_its_own_wish() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(behaviours_path(), folder.path().join("skill.wasm")).unwrap();
    let wish = "[limits]
        output_bytes = '64MiB'
        attachment_bytes = '256MiB'
        stdout_bytes = '4MiB'
        stderr_bytes = '4MiB'
        host_bytes = '64MiB'
        handles = 100000
        open_files = 4096
        created_files = 1000000
        connections = 256
        http_fields_bytes = '64KiB'
        table_elements = 1000000
        instances = 1000
        fuel = 20000000000
        memory_bytes = '128MiB'";
    std::fs::write(folder.path().join("skill.toml"), wish).unwrap();
    let host = builder().build().unwrap();
    let skill = host.load(folder.path()).await.unwrap();
    let call = |limits| {
        ExecutionRequest::new(skill.digest(), json!({"bytes": 5 << 20}))
            .tool("log_large")
            .limits(limits)
    };

    let admission = host.can_execute(&call(NONE));
    let default = Limits::default().host_bytes;
    let expected = Limits {
        fuel: 20_000_000_000,
        memory_bytes: 128 << 20,
        ..Limits::default()
    };
    assert_eq!(admission.limits, expected);
    let mut clamped = admission.clamped;
    clamped.sort_by_key(|clamped| clamped.limit.as_str());
    let clamped: Vec<_> = clamped
        .iter()
        .map(|one| (one.limit, one.asked, one.allowed, one.rule.as_str()))
        .collect();
    let cut = [
        (Limit::Attachments, 256 << 20, 16 << 20, "default"),
        (Limit::Connections, 256, 8, "default"),
        (Limit::CreatedFiles, 1_000_000, 1_000, "default"),
        (Limit::Handles, 100_000, 1_000, "default"),
        (Limit::HostBytes, 64 << 20, default, "default"),
        (Limit::HttpFieldsBytes, 64 << 10, 16 << 10, "default"),
        (Limit::Instances, 1_000, 100, "default"),
        (Limit::OpenFiles, 4_096, 64, "default"),
        (Limit::Output, 64 << 20, 1 << 20, "default"),
        (Limit::Stderr, 4 << 20, 64 << 10, "default"),
        (Limit::Stdout, 4 << 20, 64 << 10, "default"),
        (Limit::TableElements, 1_000_000, 100_000, "default"),
    ];
    assert_eq!(clamped, cut);
    let stopped = host.execute(call(NONE)).await.unwrap();
    check_exhausted(&stopped, Limit::HostBytes, default);

    // Whoever asks for the execution may give it more.
    let more = LimitOverrides {
        host_bytes: Some(8 << 20),
        ..NONE
    };
    let clamped = host.can_execute(&call(more)).clamped;
    assert!(clamped.iter().all(|one| one.limit != Limit::HostBytes));
    let result = host.execute(call(more)).await.unwrap();
    assert_eq!(result.status, Status::Success, "{:?}", result.failure);

    // The operator's own default is the measure, also where it is smaller.
    let small = Limits {
        host_bytes: 100_000,
        ..Limits::default()
    };
    let host = builder().default_limits(small).build().unwrap();
    host.load(folder.path()).await.unwrap();
    assert_eq!(host.can_execute(&call(NONE)).limits.host_bytes, 100_000);
}
