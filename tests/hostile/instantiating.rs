//! Guests that are hostile when they are instantiated for `execute`: they get by with the default
//! limits, in which they describe themselves, but not with those of the request.

use std::time::Duration;

use skillhost::execution::Phase;
use skillhost::{Limit, LimitOverrides};

use crate::attack::{Attack, End, NONE};
use crate::describing::in_start;
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
