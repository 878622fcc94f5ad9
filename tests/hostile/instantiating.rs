//! Guests that are hostile when they are instantiated for `execute`: they get by with the default
//! limits, in which they describe themselves, but not with those of the request. And what whoever asked
//! for it can do meanwhile: cancel it, set a deadline, go away.

use std::time::Duration;

use serde_json::json;
use skillhost::execution::Phase;
use skillhost::{Control, ExecutionRequest, Limit, LimitOverrides, Skill};

use crate::attack::{Attack, End, NONE, ROUNDS, builder, runtime};
use crate::describing::in_start;
use crate::handmade::{Handmade, SPIN, TOOL};
use crate::harness::{LATE, PAGE, Record, load};
use crate::measure::{alone, check_leaves_nothing_but};
use crate::neighbour::Neighbour;

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

/// A skill whose start function does this where it is instantiated for a call, under [`LONG`]: when it
/// describes itself it has more time, and goes on.
fn in_start_of_a_call(code: &str) -> Handmade {
    let calls = in_start("");
    Handmade {
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
            &format!(
                "(func $start (if (i64.lt_u (call $left) (i64.const 5000000000)) (then {code})))"
            ),
        ),
        ..calls
    }
}

/// More than any of these takes, and less than a skill has to describe itself.
const LONG: LimitOverrides = LimitOverrides {
    wall_time: Some(Duration::from_secs(4)),
    fuel: Some(u64::MAX),
    ..NONE
};

/// The stack is the host's, and as large when it describes itself.
#[test]
fn recursion() {
    let _alone = alone();
    let result = Attack::by(in_start_of_a_call("(call $deeper)"))
        .under(LONG)
        .ends_with(End::Limit(Limit::Stack, Phase::Instantiation));
    let message = result.failure.expect("it failed").message;
    assert!(message.contains("instantiated"), "{message}");
}

/// Start functions that never come back: one that computes, and one that waits. Each says before that it
/// is there.
fn that_never_come_back() -> [Handmade; 2] {
    [SPIN, "(call $block (call $subscribe (i64.const -1)))"].map(|code| {
        in_start_of_a_call(&format!(
            "(call $log (i32.const 2) (i32.const 0) (i32.const 1)) {code}"
        ))
    })
}

#[test]
fn being_cancelled() {
    let _alone = alone();
    for skill in that_never_come_back() {
        Attack::by(skill)
            .under(LONG)
            .cancelled()
            .ends_with(End::Cancelled(Phase::Instantiation));
    }
}

#[test]
fn a_deadline_that_passes() {
    let _alone = alone();
    for skill in that_never_come_back() {
        let result = Attack::by(skill)
            .under(LONG)
            .deadline(Duration::from_millis(300))
            .ends_with(End::Limit(Limit::Deadline, Phase::Instantiation));
        assert!(result.usage.wall_time < Duration::from_secs(4));
    }
}

/// Whoever waits for it goes away.
#[test]
fn a_future_that_is_dropped() {
    let _alone = alone();
    let host = builder().build().expect("a host can be set up");
    let neighbour = Neighbour::of(&host);
    let drop_it = |skill: &Skill| {
        let record = Record::new();
        let control = Control::default().observer(record.clone());
        let request = ExecutionRequest::new(skill.digest(), json!({}));
        let request = request.tool(TOOL).limits(LONG);
        runtime().block_on(async {
            tokio::select! {
                _ = host.execute_with(request, control) => panic!("it never ends"),
                () = record.wait_for("log \0", 1) => {}
            }
        });
        // More time is asked for than anybody gets.
        let expected = [
            "admitted",
            "clamped",
            "started",
            "log \0",
            "finished cancelled",
        ];
        assert_eq!(record.events(), expected);
        let usage = record.usage().expect("it is told");
        assert!(usage.fuel > 0 && usage.peak_memory_bytes > 0, "{usage:?}");
        assert!(!usage.cpu_time.is_zero(), "{usage:?}");
        assert!(usage.run_time.is_zero(), "{usage:?}");
        assert_eq!(usage.instantiation_time, usage.wall_time);
        assert!(usage.wall_time < LATE, "{usage:?}");
        neighbour.check_undisturbed(&host);
    };
    for skill in that_never_come_back() {
        let skill = runtime().block_on(load(&host, &skill));
        drop_it(&skill);
        check_leaves_nothing_but(0, || (0..ROUNDS).for_each(|_| drop_it(&skill)));
    }
}
