//! Guests that compute without end, in every place where code of theirs runs, and guests that make
//! much happen with few instructions. (Where no tool runs yet: see `describing` and
//! `instantiating`.)

use std::time::Duration;

use serde_json::json;
use skillhost::execution::Phase;
use skillhost::{Cause, Limit, LimitOverrides, Limits};

use crate::attack::{Attack, End, SHARP, SHORT, TIMEOUT, builder, fuel, late, met, wall_time};
use crate::handmade::{Handmade, SPIN};
use crate::load::Load;
use crate::measure::{alone, time_to_write};

/// Stopped by its fuel where that is the nearer limit, and in time where there is plenty of it.
#[track_caller]
fn is_stopped_by_fuel_and_in_time(skill: Handmade) {
    let attack = Attack::by(skill);
    attack
        .clone()
        .under(fuel(1_000_000))
        .ends_with(met(Limit::Fuel));
    attack.under(wall_time(SHORT)).ends_with(TIMEOUT);
}

pub fn that_runs(execute: &str) -> Handmade {
    Handmade {
        execute: execute.into(),
        ..Handmade::default()
    }
}

#[test]
fn a_loop() {
    let _alone = alone();
    let spin = Attack::with("spin", json!({}));
    let result = spin
        .clone()
        .under(fuel(3_000_000))
        .ends_with(met(Limit::Fuel));
    let Some(Cause::ResourceExhausted { backtrace, .. }) = result.failure.map(|f| f.cause) else {
        unreachable!()
    };
    let names: Vec<String> = backtrace.into_iter().map(|frame| frame.function).collect();
    assert!(names.iter().any(|name| name.contains("spin")), "{names:?}");
    spin.under(wall_time(SHORT)).ends_with(TIMEOUT);
}

/// Neither a loop nor a deeper stack.
#[test]
fn tail_calls() {
    let _alone = alone();
    is_stopped_by_fuel_and_in_time(Handmade {
        fields: "(func $a (result i32) (return_call $b)) (func $b (result i32) (return_call $a))"
            .into(),
        ..that_runs("(call $a)")
    });
}

/// Compiled code looks at its fuel where a function or a turn of a loop begins. Where neither comes for long, the host
/// puts looks into it: it is stopped within 2,000 instructions.
#[test]
fn a_long_body_without_a_loop() {
    let _alone = alone();
    let step = "(global.set $n (i32.add (global.get $n) (i32.const 1)))";
    let skill = Handmade {
        fields: format!(
            "(global $n (mut i32) (i32.const 0))
            (func $long {} (call $log (i32.const 2) (i32.const 0) (i32.const 1)))
            (func $next (call $log (i32.const 2) (i32.const 0) (i32.const 1)))",
            step.repeat(20_000)
        ),
        execute: "(call $long) (call $next) i32.const $answer".into(),
        ..Handmade::that_calls()
    };
    let result = Attack::by(skill)
        .under(fuel(10_000))
        .ends_with(met(Limit::Fuel));
    assert_eq!(result.usage.fuel, 10_000, "as it is reported");
    assert_eq!(result.usage.host_calls, 0, "it does not come to its end");
}

/// Thousands of functions that have called each other return, and each has long code behind its call.
#[test]
fn returns_from_a_deep_recursion() {
    let _alone = alone();
    // What cannot be taken together.
    let step = "(global.set $n (i32.add (i32.mul (global.get $n) (i32.const 3)) (i32.const 7)))";
    let deep = |code: &str| Handmade {
        fields: format!(
            "(global $n (mut i32) (i32.const 1))
            (func $deep (param i32)
                (if (local.get 0)
                    (then (call $deep (i32.sub (local.get 0) (i32.const 1)))))
                {code})"
        ),
        ..that_runs("(call $deep (i32.const 5000)) (i32.const 0)")
    };
    Attack::by(deep(&step.repeat(50_000)))
        .under(wall_time(SHORT))
        .ends_with(TIMEOUT);
    // Nor where each place for a look is jumped over.
    let jumps = format!("(block (br_if 0 (global.get $n)) {})", step.repeat(20));
    let code = format!("{}{jumps}", step.repeat(80)).repeat(600);
    Attack::by(deep(&code))
        .under(wall_time(SHORT))
        .ends_with(TIMEOUT);
}

/// Reads from memory that no cache holds, of which each needs what the one before it has read, also by turns with what is
/// quick; writes to where two pages of it meet, also by copying; references to functions, for which compiled code calls
/// into the host; and jumps through a table, or without one, to code that no cache holds. In most runs, as a look at the
/// clock may come at any moment of them: the one that is least late says nothing here.
#[test]
fn the_slowest_instructions_there_are() {
    let _alone = alone();
    // 16 MiB behind the first MiB: each line has the place of another, and they come to all of them.
    let chain = format!(
        "(local.set $p {}(local.get $p){})",
        "(i32.load ".repeat(400),
        ")".repeat(400)
    );
    let chase = Handmade {
        fields: "(global $at (mut i32) (i32.const 0))".into(),
        ..that_runs(&format!(
            "(local $p i32) (local $n i32)
            (drop (memory.grow (i32.const 270)))
            (local.set $p (i32.const 1048576))
            (loop $next
                (global.set $at (i32.and
                    (i32.add (i32.mul (global.get $at) (i32.const 1664525)) (i32.const 1013904223))
                    (i32.const 262143)))
                (i32.store (local.get $p)
                    (i32.add (i32.const 1048576) (i32.mul (global.get $at) (i32.const 64))))
                (local.set $p (i32.load (local.get $p)))
                (br_if $next (i32.lt_u
                    (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 262144))))
            (loop $again {chain} (br $again)) unreachable"
        ))
    };
    // Quick for a while, and then slow.
    let by_turns = Handmade {
        execute: chase.execute.replace(
            &format!("(loop $again {chain} (br $again))"),
            &format!(
                "(loop $again
                    (local.set $n (i32.const 0))
                    (loop $quick (br_if $quick (i32.lt_u
                        (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 300000))))
                    (local.set $n (i32.const 0))
                    (loop $slow {chain} (br_if $slow (i32.lt_u
                        (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 200))))
                    (br $again))"
            ),
        ),
        ..chase.clone()
    };
    assert_ne!(by_turns.execute, chase.execute);
    let references = Handmade {
        fields: "(func $nothing) (elem declare func $nothing)".into(),
        ..that_runs(&format!(
            "(loop $again {} (br $again)) unreachable",
            "(drop (ref.func $nothing))".repeat(400)
        ))
    };
    // Each calls another, until all have been called, in an order that nobody foresees.
    let jumps: String = (0..JUMPS)
        .map(|at| {
            let next = (at * 1_664_525 + 1_013_904_223) % JUMPS;
            format!("(func $jump{at} (return_call_indirect $all (type $v) (i32.const {next})))")
        })
        .collect();
    let all: String = (0..JUMPS).map(|at| format!("$jump{at} ")).collect();
    let scattered = Handmade {
        fields: format!(
            "(type $v (func)) (table $all {JUMPS} funcref) (elem (table $all) (i32.const 0) func {all}) {jumps}"
        ),
        ..that_runs("(call_indirect $all (type $v) (i32.const 0)) unreachable")
    };
    let writes = across_pages(|at| format!("(i32.store (i32.const {at}) (i32.const 1))"));
    let copies = across_pages(|at| {
        let from = (at + 4096 * 1021) % (PAGES << 12) + (1 << 20);
        format!("(memory.copy (i32.const {at}) (i32.const {from}) (i32.const 2))")
    });
    // The same without a table, and with code between them that nobody runs.
    let hops: String = (0..JUMPS)
        .map(|at| {
            let next = (at * 1_664_525 + 1_013_904_223) % JUMPS;
            let between = "(i32.store (i32.const 0) (i32.const 1))".repeat(40);
            format!("(func $hop{at} (return_call $hop{next})) (func {between})")
        })
        .collect();
    let hopping = Handmade {
        fields: hops,
        ..that_runs("(call $hop0) unreachable")
    };
    for skill in [
        chase, by_turns, writes, copies, references, scattered, hopping,
    ] {
        let late = late(&skill, slow(), 12);
        let allowed = SHARP.max(time_to_write(SLOW_MEMORY));
        assert!(
            late[8] <= allowed,
            "late by {late:?}, and {allowed:?} is allowed"
        );
        Attack::by(skill).under(slow()).ends_with(TIMEOUT);
    }
}

/// The pages of 4 KiB between which it is written.
const PAGES: u64 = 4096;

/// Writes, for ever, across the ends of pages behind the first MiB, in no order.
fn across_pages(write: impl Fn(u64) -> String) -> Handmade {
    let all: String = (0..PAGES)
        .map(|at| write((1 << 20) + (((at * 2_731 + 1_033) % PAGES + 1) << 12) - 1))
        .collect();
    that_runs(&format!(
        "(drop (memory.grow (i32.const 275))) (loop $again {all} (br $again)) unreachable"
    ))
}

/// How many functions call each other: a power of two.
const JUMPS: u64 = 1 << 14;

/// The memory limit of the slowest guests, in bytes.
const SLOW_MEMORY: u64 = 300 << 16;

fn slow() -> LimitOverrides {
    LimitOverrides {
        memory_bytes: Some(SLOW_MEMORY),
        ..wall_time(SHORT)
    }
}

#[test]
fn calls_through_a_table() {
    let _alone = alone();
    is_stopped_by_fuel_and_in_time(Handmade {
        fields:
            "(type $v (func)) (table $t 1 funcref) (func $nothing) (elem $t (i32.const 0) $nothing)"
                .into(),
        ..that_runs(
            "(loop $again (call_indirect $t (type $v) (i32.const 0)) (br $again)) unreachable",
        )
    });
}

#[test]
fn a_loop_in_the_allocator_that_the_host_calls() {
    let _alone = alone();
    is_stopped_by_fuel_and_in_time(Handmade {
        realloc: SPIN.into(),
        ..Handmade::default()
    });
}

#[test]
fn a_loop_in_the_function_that_the_host_calls_afterwards() {
    let _alone = alone();
    is_stopped_by_fuel_and_in_time(Handmade {
        // `describe` has one, too, and must come back: it has another address.
        post_return: format!("(if (i32.eq (local.get 0) (i32.const $answer)) (then {SPIN}))"),
        ..Handmade::default()
    });
}

/// A skill with a resource whose destructor is this.
pub fn with_destructor(destructor: &str, execute: &str) -> Handmade {
    Handmade {
        before: format!(
            r#"(core module $d (func (export "drop") (param i32) {destructor}))
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
        ..that_runs(execute)
    }
}

#[test]
fn a_loop_in_a_destructor() {
    let _alone = alone();
    is_stopped_by_fuel_and_in_time(with_destructor(
        SPIN,
        "(call $drop (call $new (i32.const 7))) i32.const $answer",
    ));
}

/// It leaves resources behind, for the host to clean up. The host runs nothing of it any more.
#[test]
fn a_loop_in_a_destructor_that_is_left_to_the_host() {
    let _alone = alone();
    let skill = with_destructor(
        SPIN,
        "(drop (call $new (i32.const 7))) (drop (call $new (i32.const 8))) i32.const $answer",
    );
    Attack::by(skill)
        .under(fuel(1_000_000))
        .ends_with(End::Success);
}

/// Bulk instructions, each over and over: few instructions, much to do. They are paid for by the
/// byte or element, so they are stopped like any other loop.
#[test]
fn fills_and_copies() {
    let _alone = alone();
    let much_memory = r#"(memory (export "memory") 900)"#;
    for (instruction, fields) in [
        (
            "(memory.fill (i32.const 196608) (i32.const 7) (i32.const 58000000))",
            "",
        ),
        (
            "(memory.copy (i32.const 196608) (i32.const 29000000) (i32.const 28000000))",
            "",
        ),
        (
            "(memory.init $d (i32.const 196608) (i32.const 0) (i32.const 100000))",
            "data",
        ),
        (
            "(table.fill $t (i32.const 0) (ref.func $f) (i32.const 90000))",
            "",
        ),
        (
            "(table.copy $t $t (i32.const 1) (i32.const 2) (i32.const 90000))",
            "",
        ),
        (
            "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 25000))",
            "elements",
        ),
    ] {
        let segment = match fields {
            "data" => format!("(data $d \"{}\")", "x".repeat(100_000)),
            "elements" => format!("(elem $e func {})", "$f ".repeat(25_000)),
            _ => String::new(),
        };
        is_stopped_by_fuel_and_in_time(Handmade {
            memory: much_memory.into(),
            realloc: "i32.const 131072".into(),
            fields: format!("(table $t 95000 funcref) (func $f) (elem declare func $f) {segment}"),
            ..that_runs(&format!(
                "(loop $again {instruction} (br $again)) unreachable"
            ))
        });
    }
}

/// Instructions that are calls into the engine, and cost one unit of fuel each.
#[test]
fn instructions_that_the_engine_carries_out() {
    let _alone = alone();
    for instruction in [
        "(drop (memory.grow (i32.const 0)))",
        "(drop (table.grow $t (ref.null func) (i32.const 0)))",
        "(drop (table.get $t (i32.const 5)))",
        "(drop (ref.func $f))",
        "(data.drop $d)",
        "(memory.fill (i32.const 0) (i32.const 0) (i32.const 0))",
    ] {
        is_stopped_by_fuel_and_in_time(Handmade {
            fields: "(table $t 10 funcref) (func $f) (elem declare func $f) (data $d \"x\")".into(),
            ..that_runs(&format!(
                "(loop $again {instruction} (br $again)) unreachable"
            ))
        });
    }
}

/// One store in each page, so that nearly every instruction waits for the kernel.
#[test]
fn touching_fresh_memory() {
    let _alone = alone();
    let touch = "(local $at i32)
        (drop (memory.grow (i32.const 15000)))
        (loop $again
            (i32.store (i32.add (i32.const 262144) (local.get $at)) (i32.const 1))
            (local.set $at (i32.and (i32.add (local.get $at) (i32.const 4097)) (i32.const 0x3aff_ffff)))
            (br $again))
        unreachable";
    let limits = LimitOverrides {
        memory_bytes: Some(1 << 30),
        ..wall_time(SHORT)
    };
    Attack::by(that_runs(touch))
        .under(limits)
        .ends_with(TIMEOUT);
}

/// A skill that draws random bytes from the host, which has this code of its own find a place for them, in the middle
/// of the call.
fn that_draws(realloc: &str) -> Handmade {
    Handmade {
        before: format!(
            r#"
            (import "wasi:random/random@0.2.0" (instance $random
                (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
            (core module $list
                (memory (export "memory") 4)
                (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc}))
            (core instance $list (instantiate $list))
            (core func $draw (canon lower (func $random "get-random-bytes")
                (memory (core memory $list "memory")) (realloc (core func $list "realloc"))))"#
        ),
        with: r#"(with "list" (instance (export "draw" (func $draw))))"#.into(),
        imports: r#"(import "list" "draw" (func $draw (param i64 i32)))"#.into(),
        ..that_runs("(call $draw (i64.const 16) (i32.const 0)) i32.const $answer")
    }
}

/// The host is in the middle of a call then, whose answer it cannot hand over.
#[test]
fn in_the_allocator_while_the_host_answers_a_call() {
    let _alone = alone();
    is_stopped_by_fuel_and_in_time(that_draws(SPIN));
    let deeper = "(call $realloc (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";
    for (realloc, end) in [
        (deeper, met(Limit::Stack)),
        ("unreachable", End::Trap("unreachable_code_reached")),
        // Beyond the end of the memory.
        ("i32.const -8", End::Trap("contract_violation")),
        ("i32.const 65536", End::Success),
    ] {
        Attack::by(that_draws(realloc)).ends_with(end);
    }
    // Also where it is asked what it is.
    let describing = |realloc: &str| Handmade {
        describe: "(call $draw (i64.const 16) (i32.const 0)) i32.const $description".into(),
        ..that_draws(realloc)
    };
    for limit in [Limit::Fuel, Limit::WallTime] {
        let limits = Limits {
            fuel: match limit {
                Limit::Fuel => 1_000_000,
                _ => Limits::ceiling().fuel,
            },
            wall_time: SHORT,
            ..Limits::default()
        };
        let host = builder().default_limits(limits).build();
        Load::by(&describing(SPIN))
            .on(&host.expect("a host can be set up"))
            .describing_ends_with(End::Limit(limit, Phase::Run));
    }
    Load::by(&describing("i32.const 65536")).succeeds();
}

/// A skill of two components, of which one hands the other a text. The other wants it in this
/// encoding, so that the engine transcodes it, for hardly any fuel.
pub fn of_two_components(encoding: &str, execute: &str) -> String {
    let skill = Handmade {
        before: r#"
            (import "take" (func $imported (param "text" string)))
            (core module $heap (memory (export "memory") 300))
            (core instance $heap (instantiate $heap))
            (core func $take (canon lower (func $imported)
                (memory (core memory $heap "memory")) string-encoding=utf8))"#
            .into(),
        with: r#"(with "other" (instance (export "take" (func $take))))"#.into(),
        imports: r#"(import "other" "take" (func $take (param i32 i32)))"#.into(),
        ..that_runs(execute)
    };
    format!(
        r#"(component
            (component $other
                (core module $m
                    (memory (export "memory") 600)
                    (func (export "take") (param i32 i32))
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 16))
                (core instance $m (instantiate $m))
                (func (export "take") (param "text" string) (canon lift (core func $m "take")
                    (memory (core memory $m "memory")) (realloc (core func $m "realloc"))
                    string-encoding={encoding})))
            {}
            (instance $other (instantiate $other))
            (instance $one (instantiate $skill (with "take" (func $other "take"))))
            (export "skillhost:skill/tools@1.0.0" (instance $one "skillhost:skill/tools@1.0.0")))"#,
        skill.text()
    )
}

#[test]
fn texts_from_component_to_component() {
    let _alone = alone();
    for encoding in ["utf8", "utf16", "latin1+utf16"] {
        let hand_over = "(loop $again
            (call $take (i32.const 0) (i32.const 19000000)) (br $again)) unreachable";
        let attack = Attack::of(wat::parse_str(of_two_components(encoding, hand_over)).unwrap());
        attack
            .clone()
            .under(fuel(5_000))
            .ends_with(met(Limit::Fuel));
        attack.under(wall_time(SHORT)).ends_with(TIMEOUT);
    }
}

/// Code that runs before the tool does, in the instantiation for this very execution.
#[test]
fn a_long_start_function() {
    let _alone = alone();
    let count = "(local $n i32) (loop $more (br_if $more (i32.lt_u
        (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100000000))))";
    let skill = Handmade {
        fields: format!("(func $start {count}) (start $start)"),
        ..Handmade::default()
    };
    let attack = Attack::by(skill);
    let during = |limit| End::Limit(limit, Phase::Instantiation);
    attack
        .clone()
        .under(fuel(1_000_000))
        .ends_with(during(Limit::Fuel));
    attack
        .under(wall_time(Duration::from_millis(20)))
        .ends_with(during(Limit::WallTime));
}
