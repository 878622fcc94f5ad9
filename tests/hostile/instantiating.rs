//! Guests that are hostile when they are instantiated for `execute`: they get by with the default
//! limits, in which they describe themselves, but not with those of the request.

use std::time::Duration;

use skillhost::execution::Phase;
use skillhost::{Limit, LimitOverrides};

use crate::attack::{Attack, End, NONE};
use crate::describing::in_start;
use crate::handmade::Handmade;
use crate::harness::PAGE;
use crate::measure::alone;

const LIMITS: LimitOverrides = LimitOverrides {
    fuel: Some(1_000_000),
    memory_bytes: Some(200 * PAGE),
    table_elements: Some(1000),
    handles: Some(100),
    host_bytes: Some(100_000),
    wall_time: Some(Duration::from_millis(300)),
    ..NONE
};

#[track_caller]
fn is_stopped(code: &str, limit: Limit) {
    let result = Attack::by(in_start(code))
        .under(LIMITS)
        .ends_with(End::Limit(limit, Phase::Instantiation));
    let message = result.failure.expect("it failed").message;
    assert!(
        message.contains("while") && message.contains("instantiated"),
        "{message}"
    );
}

#[test]
fn a_long_computation() {
    let _alone = alone();
    is_stopped(
        "(local $n i32) (loop $more
            (br_if $more (i32.lt_u
                (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000000))))",
        Limit::Fuel,
    );
}

#[test]
fn growth() {
    let _alone = alone();
    is_stopped("(drop (memory.grow (i32.const 100)))", Limit::Memory);
    is_stopped(
        "(drop (table.grow $table (ref.null func) (i32.const 1000)))",
        Limit::TableElements,
    );
}

#[test]
fn handles() {
    let _alone = alone();
    is_stopped(
        "(local $n i32) (loop $more (drop (call $subscribe (i64.const -1)))
            (br_if $more (i32.lt_u
                (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 200))))",
        Limit::Handles,
    );
}

#[test]
fn a_call_that_carries_too_much() {
    let _alone = alone();
    is_stopped(
        "(call $log (i32.const 2) (i32.const 0) (i32.const 1000000))",
        Limit::HostBytes,
    );
}

#[test]
fn waiting() {
    let _alone = alone();
    is_stopped(
        "(call $block (call $subscribe (i64.const 900000000)))",
        Limit::WallTime,
    );
}

/// The stack is the host's, and as large when it describes itself: so this one looks how much time it has.
#[test]
fn recursion() {
    let _alone = alone();
    let calls = in_start("");
    let skill = Handmade {
        before: format!(
            r#"(import "skillhost:skill/deadline@1.0.0" (instance $deadline
                (export "time-left" (func (result u64)))))
            {} (core func $left (canon lower (func $deadline "time-left")))"#,
            calls.before
        ),
        with: calls.with.replace(
            r#"(export "log" (func $log))"#,
            r#"(export "log" (func $log)) (export "left" (func $left))"#,
        ),
        imports: format!(
            r#"{} (import "host" "left" (func $left (result i64)))"#,
            calls.imports
        ),
        fields: calls.fields.replace(
            "(func $start )",
            "(func $start (if (i64.lt_u (call $left) (i64.const 5000000000))
                (then (call $deeper))))",
        ),
        ..calls
    };
    let limits = LimitOverrides {
        wall_time: Some(Duration::from_secs(4)),
        ..NONE
    };
    let result = Attack::by(skill)
        .under(limits)
        .ends_with(End::Limit(Limit::Stack, Phase::Instantiation));
    let message = result.failure.expect("it failed").message;
    assert!(message.contains("instantiated"), "{message}");
}
