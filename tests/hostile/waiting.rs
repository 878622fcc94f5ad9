//! Guests that hardly compute and still do not come back: they wait for what never comes, or keep
//! the host busy with calls.

use serde_json::json;
use skillhost::execution::Phase;
use skillhost::{Limit, LimitOverrides};

use crate::attack::{Attack, End, NONE, SHARP, SHORT, TIMEOUT, met, wall_time};
use crate::handmade::Handmade;
use crate::measure::alone;

/// It is no later than it may be in most runs, and not only in the best of some.
#[track_caller]
pub fn check_mostly_in_time(attack: Attack) {
    const RUNS: usize = 12;
    let late = attack.under(wall_time(SHORT)).lateness(TIMEOUT, RUNS);
    assert!(late[RUNS * 3 / 4 - 1] <= SHARP, "{late:?}");
}

fn behaviour_is_stopped_in_time(tool: &'static str, input: serde_json::Value) {
    let result = Attack::with(tool, input)
        .under(wall_time(SHORT))
        .ends_with(TIMEOUT);
    assert!(result.usage.host_calls > 0);
}

#[test]
fn a_clock_that_strikes_in_an_hour() {
    let _alone = alone();
    behaviour_is_stopped_in_time("sleep", json!({"ms": 3_600_000}));
}

#[test]
fn a_clock_that_never_strikes() {
    let _alone = alone();
    behaviour_is_stopped_in_time("wait_for_ever", json!({}));
    check_mostly_in_time(Attack::with("wait_for_ever", json!({})));
}

fn that_calls(execute: &str) -> Handmade {
    Handmade {
        execute: execute.into(),
        ..Handmade::that_calls()
    }
}

/// One that strikes at once, again and again: each time the guest waits, and is woken.
#[test]
fn a_clock_that_always_strikes() {
    let _alone = alone();
    let skill = that_calls(
        "(local $p i32) (loop $again
            (local.set $p (call $subscribe (i64.const 1)))
            (call $block (local.get $p)) (call $drop (local.get $p))
            (br $again)) unreachable",
    );
    Attack::by(skill).under(wall_time(SHORT)).ends_with(TIMEOUT);
}

#[test]
fn cheap_calls_of_the_host() {
    let _alone = alone();
    behaviour_is_stopped_in_time("now_for_ever", json!({}));
}

#[test]
fn dear_calls_of_the_host() {
    let _alone = alone();
    behaviour_is_stopped_in_time("random_for_ever", json!({"bytes": 1 << 20}));
}

/// Each with as much as one call may carry.
#[test]
fn calls_of_the_host_that_carry_much() {
    let _alone = alone();
    let skill = that_calls(
        "(loop $again
            (call $log (i32.const 2) (i32.const 0) (i32.const 4194304)) (br $again)) unreachable",
    );
    Attack::by(skill).under(wall_time(SHORT)).ends_with(TIMEOUT);
}

/// Nor do they keep it from hearing that it was cancelled: it does after the call at hand.
#[test]
fn dear_calls_after_being_cancelled() {
    let _alone = alone();
    let skill = that_calls(
        "(loop $again
            (call $log (i32.const 2) (i32.const 0) (i32.const 4194304)) (br $again)) unreachable",
    );
    let limits = LimitOverrides {
        log_bytes: Some(5 << 20),
        ..NONE
    };
    let result = Attack::by(skill)
        .under(limits)
        .cancelled()
        .ends_with(End::Cancelled(Phase::Run));
    assert_eq!(result.usage.host_calls, 1);
}

/// Made and given back, so that there are never many.
#[test]
fn handles_that_come_and_go() {
    let _alone = alone();
    let skill = that_calls(
        "(loop $again (call $drop (call $subscribe (i64.const -1))) (br $again)) unreachable",
    );
    Attack::by(skill).under(wall_time(SHORT)).ends_with(TIMEOUT);
}

/// A skill that polls a list of this many pollables in one call, all of them the same, that strikes
/// after so many nanoseconds.
fn that_polls(count: u32, nanoseconds: i64) -> Handmade {
    let calls = Handmade::that_calls();
    let end = count * 4;
    Handmade {
        before: format!(
            r#"{}
            (core module $list
                (memory (export "memory") 300)
                (func (export "put") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 8388608))
            (core instance $list (instantiate $list))
            (alias export $poll "poll" (func $poll-list))
            (core func $poll (canon lower (func $poll-list)
                (memory (core memory $list "memory")) (realloc (core func $list "realloc"))))"#,
            calls.before.replace(
                r#"(export "[method]pollable.block""#,
                r#"(export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))
                (export "[method]pollable.block""#,
            )
        ),
        with: format!(
            r#"{} (with "list" (instance (export "poll" (func $poll))
                (export "put" (func $list "put"))))"#,
            calls.with
        ),
        imports: format!(
            r#"{} (import "list" "poll" (func $poll (param i32 i32 i32)))
                (import "list" "put" (func $put (param i32 i32)))"#,
            calls.imports
        ),
        execute: format!(
            "(local $at i32) (local $p i32)
            (local.set $p (call $subscribe (i64.const {nanoseconds})))
            (loop $next
                (call $put (i32.add (i32.const 16) (local.get $at)) (local.get $p))
                (local.set $at (i32.add (local.get $at) (i32.const 4)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const {end}))))
            (loop $again (call $poll (i32.const 16) (i32.const {count}) (i32.const 0)) (br $again))
            unreachable"
        ),
        ..calls
    }
}

#[test]
fn a_long_list_of_clocks() {
    let _alone = alone();
    for nanoseconds in [1, -1] {
        Attack::by(that_polls(900, nanoseconds))
            .under(wall_time(SHORT))
            .ends_with(TIMEOUT);
    }
    // All of them the same, and each counts.
    Attack::by(that_polls(200_000, 1)).ends_with(met(Limit::Handles));
}

#[test]
fn a_list_of_no_clocks() {
    let _alone = alone();
    let result = Attack::with("poll_nothing", json!({})).ends_with(End::Trap("contract_violation"));
    let failure = result.failure.expect("it failed");
    assert!(failure.message.contains("empty poll list"), "{failure}");
}

/// Standard input is closed: whoever reads it finds its end, and does not wait.
#[test]
fn a_stream_that_is_closed() {
    let _alone = alone();
    let result = Attack::with("stdin", json!({})).ends_with(End::Success);
    assert_eq!(result.output, Some(json!({"bytes": 0})));
}
