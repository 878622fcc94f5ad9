//! The same limits while a skill is instantiated and while it describes itself.

use std::time::{Duration, Instant};

use skillhost::execution::Phase;
use skillhost::{Cause, Failure, Host, Limit, LimitOverrides, Limits, LoadError, Status};

use crate::handmade::{Handmade, SPIN};
use crate::harness::{
    LATE, PAGE, builder, cause, check_exhausted, check_undisturbed, host, load, run_tool,
};

const SHORT: Duration = Duration::from_millis(60);

/// Code that breaks a limit by itself, and which one.
const HOSTILE: [(&str, Limit); 8] = [
    (SPIN, Limit::Fuel),
    ("(drop (memory.grow (i32.const 2000)))", Limit::Memory),
    (
        "(drop (table.grow $table (ref.null func) (i32.const 200000)))",
        Limit::TableElements,
    ),
    ("(call $deeper)", Limit::Stack),
    (
        "(loop $more (drop (call $subscribe (i64.const -1))) (br $more))",
        Limit::Handles,
    ),
    (
        "(call $log (i32.const 2) (i32.const 0) (i32.const 8388608))",
        Limit::HostBytes,
    ),
    (
        "(call $block (call $subscribe (i64.const -1)))",
        Limit::WallTime,
    ),
    (
        "(loop $again (drop (call $now)) (br $again))",
        Limit::WallTime,
    ),
];

/// What the hostile code refers to.
const FIELDS: &str = "(table $table 1 funcref) (func $deeper (call $deeper))";

fn in_start(code: &str) -> Handmade {
    Handmade {
        fields: format!("{FIELDS} (func $start {code}) (start $start)"),
        ..Handmade::that_calls()
    }
}

fn in_describe(code: &str) -> Handmade {
    Handmade {
        fields: FIELDS.into(),
        describe: format!("{code} i32.const $description"),
        ..Handmade::that_calls()
    }
}

fn after_describe(code: &str) -> Handmade {
    Handmade {
        fields: FIELDS.into(),
        post_return: code.into(),
        ..Handmade::that_calls()
    }
}

/// Where it is the skill's own doing that it cannot be loaded.
async fn refused(host: &Host, skill: &Handmade) -> Failure {
    let began = Instant::now();
    let error = host
        .load_bytes(skill.build())
        .await
        .expect_err(&skill.text());
    assert!(began.elapsed() < LATE);
    match error {
        LoadError::Describe(failure) => *failure,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn nothing_that_runs_while_loading_is_outside_the_limits() {
    let host = |limits: Limits| builder().default_limits(limits).build().unwrap();
    // Whichever limit is meant, the others are far away.
    let little_time = host(Limits {
        wall_time: Duration::from_millis(200),
        fuel: Limits::ceiling().fuel,
        ..Limits::default()
    });
    let little_else = host(Limits {
        fuel: 10_000_000,
        handles: 100,
        ..Limits::default()
    });
    for (code, expected) in HOSTILE {
        let mut skills = vec![in_start(code), in_describe(code)];
        if !code.contains("(call $") || code.contains("$deeper") {
            // No calls to the host are allowed there.
            skills.push(after_describe(code));
        }
        let host = match expected {
            Limit::WallTime => &little_time,
            _ => &little_else,
        };
        for skill in skills {
            let failure = refused(host, &skill).await;
            let met = match failure.cause {
                Cause::ResourceExhausted { limit, .. } | Cause::Timeout { limit, .. } => limit,
                other => panic!("{code}: {other:?}: {}", failure.message),
            };
            assert_eq!(met, expected, "{code}: {}", failure.message);
        }
    }
    check_undisturbed(&little_else).await;
}

#[tokio::test]
async fn a_guest_that_computes_while_loading_is_stopped_in_time() {
    let host = builder()
        .default_limits(Limits {
            wall_time: SHORT,
            fuel: Limits::ceiling().fuel,
            ..Limits::default()
        })
        .build()
        .unwrap();
    for (skill, phase) in [
        (in_start(SPIN), Phase::Instantiation),
        (in_describe(SPIN), Phase::Run),
        (after_describe(SPIN), Phase::Run),
    ] {
        let failure = refused(&host, &skill).await;
        assert_eq!(
            failure.cause,
            Cause::Timeout {
                limit: Limit::WallTime,
                allowed: 60,
                phase
            }
        );
    }
    check_undisturbed(&host).await;
}

/// The same again, in the instantiation for `execute`: the skill gets by with the default limits,
/// in which it describes itself, but not with those of the request.
#[tokio::test]
async fn nothing_that_runs_in_instantiation_is_outside_the_limits() {
    let limits = LimitOverrides {
        fuel: Some(1_000_000),
        memory_bytes: Some(200 * PAGE),
        table_elements: Some(1000),
        handles: Some(100),
        host_bytes: Some(100_000),
        wall_time: Some(5 * SHORT),
        ..LimitOverrides::default()
    };
    let cases = [
        (
            "(local $n i32) (loop $more
                (br_if $more (i32.lt_u
                    (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000000))))",
            Limit::Fuel,
        ),
        ("(drop (memory.grow (i32.const 100)))", Limit::Memory),
        (
            "(drop (table.grow $table (ref.null func) (i32.const 1000)))",
            Limit::TableElements,
        ),
        (
            "(local $n i32) (loop $more (drop (call $subscribe (i64.const -1)))
                (br_if $more (i32.lt_u
                    (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 200))))",
            Limit::Handles,
        ),
        (
            "(call $log (i32.const 2) (i32.const 0) (i32.const 1000000))",
            Limit::HostBytes,
        ),
        (
            "(call $block (call $subscribe (i64.const 900000000)))",
            Limit::WallTime,
        ),
    ];
    for (code, expected) in cases {
        let skill = load(host(), &in_start(code)).await;
        let result = run_tool(host(), skill.digest(), limits).await;
        match cause(&result) {
            Cause::Timeout { limit, phase, .. } => {
                assert_eq!((*limit, *phase), (expected, Phase::Instantiation));
                assert!(result.usage.instantiation_time >= SHORT);
            }
            _ => {
                check_exhausted(&result, expected, result.limits.get(expected));
            }
        }
        let failure = result.failure.as_ref().unwrap();
        assert!(
            failure.message.contains("while") && failure.message.contains("instantiated"),
            "{}",
            failure.message
        );
        assert_eq!(result.usage.run_time, Duration::ZERO);
        check_undisturbed(host()).await;
    }
}

/// What a component merely declares counts before any of its code runs.
#[tokio::test]
async fn declared_memories_tables_and_instances_count() {
    let cases = [
        (
            Handmade {
                fields: "(memory 100) (memory 101)".into(),
                ..Handmade::default()
            },
            LimitOverrides {
                memory_bytes: Some(204 * PAGE),
                ..Default::default()
            },
            (Limit::Memory, Some(205 * PAGE)),
        ),
        (
            Handmade {
                fields: "(table 300 funcref) (table 300 funcref)".into(),
                ..Handmade::default()
            },
            LimitOverrides {
                table_elements: Some(599),
                ..Default::default()
            },
            (Limit::TableElements, Some(600)),
        ),
        (
            Handmade {
                before: format!(
                    "(core module $e) {}",
                    "(core instance (instantiate $e))".repeat(60)
                ),
                ..Handmade::default()
            },
            LimitOverrides {
                instances: Some(60),
                ..Default::default()
            },
            (Limit::Instances, None),
        ),
    ];
    for (skill, limits, (limit, requested)) in cases {
        let skill = load(host(), &skill).await;
        let result = run_tool(host(), skill.digest(), LimitOverrides::default()).await;
        assert_eq!(result.status, Status::Success, "{:?}", result.failure);
        let result = run_tool(host(), skill.digest(), limits).await;
        let asked = check_exhausted(&result, limit, result.limits.get(limit));
        assert_eq!(asked, requested);
        assert_eq!(result.usage.fuel, 0, "nothing of it has run");
        check_undisturbed(host()).await;
    }
}

/// And where the default limits are too small for them, the skill cannot even describe itself.
#[tokio::test]
async fn what_is_declared_counts_while_loading() {
    let memory = Handmade {
        memory: r#"(memory (export "memory") 65536)"#.into(),
        ..Handmade::default()
    };
    let table = Handmade {
        fields: "(table 4000000000 funcref)".into(),
        ..Handmade::default()
    };
    let instances = Handmade {
        before: format!(
            "(core module $e) {}",
            "(core instance (instantiate $e))".repeat(900)
        ),
        ..Handmade::default()
    };
    let memories = Handmade {
        fields: "(memory 0) ".repeat(99),
        ..Handmade::default()
    };
    for (skill, limit) in [
        (memory, Limit::Memory),
        (table, Limit::TableElements),
        (instances, Limit::Instances),
    ] {
        let failure = refused(host(), &skill).await;
        let Cause::ResourceExhausted { limit: met, .. } = failure.cause else {
            panic!("{}", failure.message)
        };
        assert_eq!(met, limit);
    }
    // Empty ones cost next to nothing, and are bounded in number like instances.
    load(host(), &memories).await;
    check_undisturbed(host()).await;
}
