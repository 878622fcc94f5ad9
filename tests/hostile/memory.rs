//! Guests that want more memory than they may have, in every way in which a guest gets any: linear
//! memory, tables, instances, the stack, handles.

use serde_json::json;
use skillhost::execution::Phase;
use skillhost::{Limit, LimitOverrides, Limits};

use crate::attack::{Attack, End, NONE, builder, fuel, memory, met};
use crate::handmade::Handmade;
use crate::harness::{LATE, PAGE};
use crate::load::Load;
use crate::measure::alone;

fn that_runs(execute: &str) -> Handmade {
    Handmade {
        execute: execute.into(),
        ..Handmade::default()
    }
}

#[test]
fn an_allocation_that_is_too_large() {
    let _alone = alone();
    let attack = Attack::with("allocate", json!({"bytes": 8 << 20}));
    let result = attack
        .clone()
        .under(memory(64))
        .ends_with(met(Limit::Memory));
    assert!(result.usage.peak_memory_bytes < 64 * PAGE);
    let result = attack.under(memory(200)).ends_with(End::Success);
    assert!(result.usage.peak_memory_bytes > 8 << 20);
}

/// Page after page, and each of them used.
#[test]
fn growth_without_end() {
    let _alone = alone();
    let skill = that_runs(
        "(loop $more
            (i32.store (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)) (i32.const 1))
            (br $more)) unreachable",
    );
    let result = Attack::by(skill).ends_with(met(Limit::Memory));
    assert_eq!(
        result.usage.peak_memory_bytes,
        Limits::default().memory_bytes
    );
}

/// As much as 32 bits can say, at once.
#[test]
fn growth_to_the_end_of_the_address_space() {
    let _alone = alone();
    for pages in ["65532", "-1"] {
        let skill = that_runs(&format!(
            "(if (i32.ne (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))
            (loop $more (drop (memory.grow (i32.const 1))) (br $more)) unreachable"
        ));
        let result = Attack::by(skill).ends_with(met(Limit::Memory));
        assert!(result.usage.peak_memory_bytes <= Limits::default().memory_bytes);
    }
}

#[test]
fn several_memories_that_are_small_each() {
    let _alone = alone();
    let skill = Handmade {
        fields: "(memory $b 1) (memory $c 1)".into(),
        ..that_runs(
            "(drop (memory.grow $b (i32.const 10))) (drop (memory.grow $c (i32.const 10)))
            i32.const $answer",
        )
    };
    let attack = Attack::by(skill);
    let result = attack.clone().under(memory(26)).ends_with(End::Success);
    assert_eq!(result.usage.peak_memory_bytes, 26 * PAGE);
    let result = attack.under(memory(25)).ends_with(met(Limit::Memory));
    assert_eq!(result.usage.peak_memory_bytes, 16 * PAGE);
}

#[test]
fn as_many_memories_as_a_module_may_have() {
    let _alone = alone();
    let skill = Handmade {
        fields: "(memory 4) ".repeat(99),
        ..Handmade::default()
    };
    let attack = Attack::by(skill);
    attack.clone().under(memory(400)).ends_with(End::Success);
    attack
        .under(memory(399))
        .ends_with(End::Limit(Limit::Memory, Phase::Instantiation));
}

/// What a component merely declares counts before any of its code runs.
#[test]
fn what_is_only_declared() {
    let _alone = alone();
    let cases = [
        (
            Handmade {
                fields: "(memory 100) (memory 101)".into(),
                ..Handmade::default()
            },
            memory(204),
            Limit::Memory,
        ),
        (
            Handmade {
                fields: "(table 300 funcref) (table 300 funcref)".into(),
                ..Handmade::default()
            },
            LimitOverrides {
                table_elements: Some(599),
                ..NONE
            },
            Limit::TableElements,
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
                ..NONE
            },
            Limit::Instances,
        ),
    ];
    for (skill, limits, limit) in cases {
        let attack = Attack::by(skill);
        attack.clone().ends_with(End::Success);
        let result = attack
            .under(limits)
            .ends_with(End::Limit(limit, Phase::Instantiation));
        assert_eq!(result.usage.fuel, 0, "nothing of it has run");
    }
}

/// What the engine keeps for each instance counts as memory: references to functions and passive segments cost a few
/// bytes in the component, once for all its instances. Of globals, which take time to be made, there cannot be so many.
#[test]
fn contexts_of_instances() {
    let _alone = alone();
    let instances = "(core instance (instantiate $e))".repeat(25);
    let nested = format!(
        "(component $c (alias outer 1 $e (core module $e)) {})
        (component $d (alias outer 1 $c (component $c)) {1} {1}) {2}",
        "(core instance (instantiate $e))".repeat(2),
        "(instance (instantiate $c))",
        "(instance (instantiate $d))".repeat(6),
    );
    let exported: String = (0..25_000)
        .map(|n| format!(r#"(func (export "{n}"))"#))
        .collect();
    for instances in [&instances, &nested] {
        let attack = Attack::by(Handmade {
            before: format!("(core module $e {exported}) {instances}"),
            ..Handmade::default()
        });
        let result = attack.clone().ends_with(End::Success);
        assert!(result.usage.peak_memory_bytes > 16 << 20);
        let result = attack
            .under(memory(200))
            .ends_with(End::Limit(Limit::Memory, Phase::Instantiation));
        assert_eq!(result.usage.fuel, 0, "nothing of it has run");
    }
    // What takes long to make or to compute, as nobody looks at the clock, nor at fuel, meanwhile.
    let product = "(global.get 0) i64.mul ".repeat(300_000);
    for fields in [
        "(global i64 (i64.const 1))".repeat(50_000),
        "(data \"\")".repeat(50_000),
        format!("(global i64 (i64.const 3)) (global i64 (global.get 0) {product})"),
    ] {
        for instances in [&instances, &nested] {
            let error = Load::by(&Handmade {
                before: format!("(core module $e {fields}) {instances}"),
                ..Handmade::default()
            })
            .fails();
            let error = error.to_string();
            assert!(error.contains("a number of imports"), "{error}");
        }
    }
}

#[test]
fn tables() {
    let _alone = alone();
    let elements = |table_elements| LimitOverrides {
        table_elements: Some(table_elements),
        ..NONE
    };
    let skill = Handmade {
        fields: "(table $a 10 funcref) (table $b 10 100 funcref)".into(),
        ..that_runs(
            "(if (i32.ne (table.grow $b (ref.null func) (i32.const 91)) (i32.const -1))
                (then unreachable))
            (drop (table.grow $a (ref.null func) (i32.const 30)))
            (drop (table.grow $b (ref.null func) (i32.const 30)))
            i32.const $answer",
        )
    };
    let attack = Attack::by(skill);
    attack.clone().under(elements(80)).ends_with(End::Success);
    attack
        .under(elements(79))
        .ends_with(met(Limit::TableElements));
    // On the engine whose tables are as large as they like.
    for more in ["200000", "9000000"] {
        let skill = Handmade {
            fields: "(table $a 10 funcref) (memory $second 0)".into(),
            ..that_runs(&format!(
                "(drop (table.grow $a (ref.null func) (i32.const {more}))) i32.const $answer"
            ))
        };
        Attack::by(skill).ends_with(met(Limit::TableElements));
    }
}

/// The fill is paid for by the byte, and the memory is counted whole.
#[test]
fn a_fill_of_all_the_memory_there_is() {
    let _alone = alone();
    let skill = that_runs(
        "(drop (memory.grow (i32.const 60)))
        (memory.fill (i32.const 65536) (i32.const 7) (i32.const 3900000))
        i32.const $answer",
    );
    let attack = Attack::by(skill);
    let result = attack.clone().ends_with(End::Success);
    let used = result.usage.fuel;
    assert!((3_900_000..3_901_000).contains(&used), "{used}");
    attack.under(fuel(3_900_000)).ends_with(met(Limit::Fuel));
}

/// One instruction that writes all the memory of the default limit for the first time, begun when
/// the time is nearly up.
#[test]
fn a_fill_that_is_begun_at_the_last_moment() {
    let _alone = alone();
    let skill = that_runs(
        "(drop (memory.grow (i32.const 1000)))
        (loop $again
            (memory.fill (i32.const 196608) (i32.const 7) (i32.const 65000000)) (br $again))
        unreachable",
    );
    for milliseconds in [1, 7, 16] {
        let time = std::time::Duration::from_millis(milliseconds);
        let result = Attack::by(skill.clone())
            .under(crate::attack::wall_time(time))
            .ends_with(crate::attack::TIMEOUT);
        assert!(result.usage.wall_time < time + LATE);
    }
}

/// One such instruction, and then the answer: nobody looks at the clock in between, and it has not succeeded in time.
#[test]
fn a_fill_that_is_the_last_thing_it_does() {
    let _alone = alone();
    let skill = that_runs(
        "(drop (memory.grow (i32.const 1000)))
        (memory.fill (i32.const 196608) (i32.const 7) (i32.const 65000000))
        i32.const $answer",
    );
    let attack = Attack::by(skill);
    let time = std::time::Duration::from_millis(1);
    attack
        .clone()
        .under(crate::attack::wall_time(time))
        .ends_with(crate::attack::TIMEOUT);
    attack
        .under(crate::attack::wall_time(LATE))
        .ends_with(crate::attack::End::Success);
}

#[test]
fn deep_recursion() {
    let _alone = alone();
    let recursion = Handmade {
        fields: "(func $deeper (call $deeper))".into(),
        ..that_runs("(call $deeper) i32.const $answer")
    };
    Attack::by(recursion.clone()).ends_with(met(Limit::Stack));
    Attack::with("overflow_the_stack", json!({})).ends_with(met(Limit::Stack));
    let small = builder().stack_bytes(128 << 10).build().unwrap();
    for attack in [
        Attack::by(recursion),
        Attack::with("overflow_the_stack", json!({})),
    ] {
        let result = attack.on(&small).ends_with(met(Limit::Stack));
        assert_eq!(result.limits.stack_bytes, 128 << 10);
    }
}

/// A single function whose frame is as large as a function's can be: 20,000 variables, all in use
/// at once.
#[test]
fn huge_stack_frames() {
    let _alone = alone();
    let count = 20_000;
    let variables = "i64 ".repeat(count);
    let mut set = String::new();
    let mut sum = String::new();
    for n in 1..=count {
        set += &format!(
            "(local.set {n} (i64.load (i32.wrap_i64 (local.get {}))))",
            n - 1
        );
        sum += &format!("(i64.store (i32.const 8) (local.get {n}))");
    }
    let skill = Handmade {
        fields: format!(
            "(func $deeper (param i64) (local {variables}) {set}
                (call $deeper (local.get {count})) {sum})"
        ),
        ..that_runs("(call $deeper (i64.const 16)) i32.const $answer")
    };
    Attack::by(skill).ends_with(met(Limit::Stack));
}

#[test]
fn handles_without_end() {
    let _alone = alone();
    let limits = LimitOverrides {
        handles: Some(100),
        ..NONE
    };
    let pollables = |count: u64| Attack::with("pollables", json!({ "count": count }));
    pollables(80).under(limits).ends_with(End::Success);
    pollables(200).under(limits).ends_with(met(Limit::Handles));
    pollables(100_000).ends_with(met(Limit::Handles));

    let own_resources = Handmade {
        before: "(type $r (resource (rep i32))) (core func $new (canon resource.new $r))".into(),
        with: r#"(with "r" (instance (export "new" (func $new))))"#.into(),
        imports: r#"(import "r" "new" (func $new (param i32) (result i32)))"#.into(),
        ..that_runs("(loop $more (drop (call $new (i32.const 7))) (br $more)) unreachable")
    };
    Attack::by(own_resources.clone())
        .under(limits)
        .ends_with(met(Limit::Handles));
    Attack::by(own_resources).ends_with(met(Limit::Handles));
}

/// A stream's handle is a handle like any other.
#[test]
fn streams_without_end() {
    let _alone = alone();
    let skill = Handmade {
        before: r#"
            (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
            (alias export $error "error" (type $error-type))
            (import "wasi:io/streams@0.2.0" (instance $streams
                (export "output-stream" (type (sub resource)))))
            (alias export $streams "output-stream" (type $stream))
            (import "wasi:cli/stdout@0.2.0" (instance $stdout
                (alias outer $skill $stream (type $s))
                (export "output-stream" (type $t (eq $s)))
                (export "get-stdout" (func (result (own $t))))))
            (core func $get (canon lower (func $stdout "get-stdout")))"#
            .into(),
        with: r#"(with "host" (instance (export "get" (func $get))))"#.into(),
        imports: r#"(import "host" "get" (func $get (result i32)))"#.into(),
        ..that_runs("(loop $more (drop (call $get)) (br $more)) unreachable")
    };
    Attack::by(skill).ends_with(met(Limit::Handles));
}
