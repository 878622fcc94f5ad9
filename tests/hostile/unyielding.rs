//! Guests that do not come back to where they can be stopped: the compiler makes far more work of their code than their
//! instructions say, or puts it where none of them is counted. They are interrupted.

use std::time::Duration;

use skillhost::execution::Phase;
use skillhost::{Limit, LimitOverrides};

use crate::attack::{Attack, End, SHARP, SHORT, TIMEOUT, late, met, wall_time};
use crate::computing::that_runs;
use crate::handmade::Handmade;
use crate::measure::{alone, time_to_write};

/// How many calls wait for what comes back: for longer than any guest may go on.
const DEEP: usize = 4_000;

/// Whatever they do, and in most runs.
#[test]
fn they_are_stopped_in_time() {
    let _alone = alone();
    let allowed = SHARP.max(time_to_write(skillhost::Limits::default().memory_bytes));
    for (what, skill) in [
        ("entering", entering()),
        ("shifting", shifting()),
        ("handing on", handing_on()),
        ("computing ahead", computing_ahead()),
        ("computing again", computing_again()),
        ("computing again in each arm", computing_in_each_arm()),
        ("computing when they are back", putting_off(DEEP)),
        ("going through functions", through_functions()),
    ] {
        let late = late(&skill, wall_time(SHORT), 12);
        assert!(
            late[10] <= allowed,
            "{what}: late by {late:?}, and {allowed:?} is allowed"
        );
        Attack::by(skill).under(wall_time(SHORT)).ends_with(TIMEOUT);
    }
}

/// With plenty of time, it does not keep a thread from others.
#[test]
fn they_are_stopped_with_time_left() {
    let _alone = alone();
    let much = wall_time(Duration::from_secs(60));
    let result = Attack::by(putting_off(DEEP))
        .under(much)
        .ends_with(End::Trap("did_not_yield"));
    let cpu_time = result.usage.cpu_time;
    assert!(cpu_time >= Duration::from_millis(150), "{cpu_time:?}");
    assert!(cpu_time < Duration::from_secs(1), "{cpu_time:?}");
}

#[test]
fn they_are_stopped_where_they_are_cancelled() {
    let _alone = alone();
    let mut skill = putting_off(DEEP);
    skill.execute = format!(
        "(call $log (i32.const 2) (i32.const 0) (i32.const 1)) {}",
        skill.execute
    );
    let skill = Handmade {
        fields: skill.fields,
        execute: skill.execute,
        ..Handmade::that_calls()
    };
    Attack::by(skill)
        .under(wall_time(Duration::from_secs(60)))
        .cancelled()
        .ends_with(End::Cancelled(Phase::Run));
}

/// Also where the host has not even called it.
#[test]
fn they_are_stopped_while_they_are_instantiated() {
    let _alone = alone();
    let time = Duration::from_millis(30);
    // It takes some 80 ms. When it is asked what it is, it comes to its end.
    let skill = Handmade {
        fields: format!(
            "{} (func $start (call $deep (i32.const 125) (f64.const 1.7))) (start $start)",
            putting_off(DEEP).fields
        ),
        ..Handmade::default()
    };
    Attack::by(skill)
        .under(wall_time(time))
        .ends_with(End::Limit(Limit::WallTime, Phase::Instantiation));
}

/// What is counted as an instruction is paid for, however slow it is.
#[test]
fn their_fuel_ends_as_that_of_others() {
    let _alone = alone();
    let little = LimitOverrides {
        fuel: Some(1_000),
        ..crate::attack::NONE
    };
    Attack::by(putting_off(DEEP))
        .under(little)
        .ends_with(met(Limit::Fuel));
}

const FOR_EVER: &str = "(local $x f64)
    (loop $again
        (local.set $x (f64.add (local.get $x) (f64.const 1)))
        (call $f (local.get $x)) (br $again)) unreachable";

/// Calls a function that ends at once, and first moves what each of its many variables is to where a loop of it has them.
fn entering() -> Handmade {
    const VARIABLES: usize = 10_000;
    let sets: String = (1..=VARIABLES)
        .map(|at| format!("(local.set {at} (i64.add (local.get {at}) (i64.const 1)))"))
        .collect();
    Handmade {
        fields: format!(
            "(func $enter (param i32) (local {}) (loop $l (br_if 1 (i32.eqz (local.get 0))) {sets} (br $l)))",
            "i64 ".repeat(VARIABLES)
        ),
        ..that_runs("(loop $again (call $enter (i32.const 0)) (br $again)) unreachable")
    }
}

/// Each turn of a loop shifts all of its thousand values by one.
fn shifting() -> Handmade {
    const VALUES: usize = 1_000;
    Handmade {
        fields: format!(
            "(type $values (func (param {})))
            (func $shift {} (loop $l (type $values) (i64.const 1) (br $l)))",
            "i64 ".repeat(VALUES),
            "(i64.const 2)".repeat(VALUES)
        ),
        ..that_runs("(call $shift) unreachable")
    }
}

/// Functions that give on what others have given them, a thousand values each.
fn handing_on() -> Handmade {
    const VALUES: usize = 1_000;
    const HANDS: usize = 20;
    let hands: String = (1..=HANDS)
        .map(|at| format!("(func $hand{at} (type $values) (call $hand{}))", at - 1))
        .collect();
    Handmade {
        fields: format!(
            "(type $values (func (result {})))
            (func $hand0 (type $values) {}) {hands}",
            "i64 ".repeat(VALUES),
            "(i64.const 2)".repeat(VALUES)
        ),
        ..that_runs(&format!(
            "(loop $again (call $hand{HANDS}) {} (br $again)) unreachable",
            "drop ".repeat(VALUES)
        ))
    }
}

/// Calls a function with a loop that ends at once; what nobody comes to within it is computed before it.
fn computing_ahead() -> Handmade {
    const ROOTS: usize = 100_000;
    Handmade {
        fields: format!(
            "(global $never (mut i32) (i32.const 0))
            (func $f (param f64)
                (loop $l
                    (if (global.get $never)
                        (then i32.const 0 local.get 0 {} f64.store))
                    (br_if $l (global.get $never))))",
            "f64.sqrt ".repeat(ROOTS)
        ),
        ..that_runs(FOR_EVER)
    }
}

/// Calls a function that needs a value in many places, none of which comes before the others for the compiler.
fn computing_again() -> Handmade {
    const ROOTS: usize = 1_500;
    const PLACES: usize = 1_500;
    Handmade {
        fields: format!(
            "(global $always (mut i32) (i32.const 1))
            (func $f (param f64) (local $root f64)
                local.get 0 {} local.set $root {})",
            "f64.sqrt ".repeat(ROOTS),
            "(if (global.get $always) (then (f64.store (i32.const 0) (local.get $root))))"
                .repeat(PLACES)
        ),
        ..that_runs(FOR_EVER)
    }
}

/// The same with many values, each of which is taken along by a branch out of many arms that nobody takes.
fn computing_in_each_arm() -> Handmade {
    const VALUES: usize = 60;
    const ARMS: usize = 400;
    let types = "f64 ".repeat(VALUES);
    let values: String = (1..=VALUES)
        .map(|at| {
            let roots = "f64.sqrt ".repeat(30);
            format!("local.get 0 f64.const {at} f64.add {roots}")
        })
        .collect();
    let arms = "global.get $always if (type $along) global.get $never br_if 1 end ".repeat(ARMS);
    Handmade {
        fields: format!(
            "(global $always (mut i32) (i32.const 1)) (global $never (mut i32) (i32.const 0))
            (type $along (func (param {types}) (result {types})))
            (func $f (param f64) (local f64)
                block (result {types}) {values} {arms} {} {} end
                {})",
            "drop ".repeat(VALUES),
            "f64.const 0 ".repeat(VALUES),
            "local.set 1 (f64.store (i32.const 0) (local.get 1)) ".repeat(VALUES)
        ),
        ..that_runs(FOR_EVER)
    }
}

/// A function that calls itself first, and computes what it has paid for only when it is back, with thousands of others
/// that have done so, too.
pub fn putting_off(deep: usize) -> Handmade {
    // Few values for each call, so that little of the stack is taken for each that waits.
    const VALUES: usize = 8;
    const CALLS: usize = 25;
    let values: String = (1..=VALUES * CALLS)
        .map(|at| {
            let roots = "f64.sqrt ".repeat(600);
            format!("local.get 1 f64.const {at} f64.add {roots}")
        })
        .collect();
    Handmade {
        fields: format!(
            "(func $needs (param {}))
            (func $deep (param i32 f64)
                (if (i32.eqz (local.get 0)) (then return))
                {values}
                (call $deep
                    (i32.sub (local.get 0) (i32.const 1)) (f64.add (local.get 1) (f64.const 0.5)))
                {})",
            "f64 ".repeat(VALUES),
            "call $needs ".repeat(CALLS)
        ),
        ..that_runs(&format!(
            "(loop $again (call $deep (i32.const {deep}) (f64.const 1.7)) (br $again)) unreachable"
        ))
    }
}

/// Functions that first move their frames, where nobody is stopped, as each might call another in its place that takes more
/// arguments; and do hardly more.
fn through_functions() -> Handmade {
    const DEEP: usize = 1_000;
    const PARAMS: usize = 30;
    Handmade {
        fields: format!(
            "(func $many (param {}) (result f64) (local.get 0))
            (func $deep (param i32 f64) (result f64)
                (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
                (if (i32.lt_s (local.get 0) (i32.const 0)) (then (return_call $many {})))
                (call $deep (i32.sub (local.get 0) (i32.const 1)) (local.get 1)) f64.sqrt)",
            "f64 ".repeat(PARAMS),
            "(local.get 1)".repeat(PARAMS)
        ),
        ..that_runs(&format!(
            "(loop $again (drop (call $deep (i32.const {DEEP}) (f64.const 1.7))) (br $again)) unreachable"
        ))
    }
}

/// Of what comes to looks by itself nobody is stopped, however long the kernel works for it: here it makes memory, a page for
/// each word that is written.
#[test]
fn what_keeps_its_limits_is_left_alone() {
    const PAGES: usize = 200 << 20 >> 12;
    let _alone = alone();
    let touching = Handmade {
        fields: "(memory $large 1)".into(),
        execute: format!(
            "(local $at i32)
            (drop (memory.grow $large (i32.const 3199)))
            (loop $again
                (i32.store $large (local.get $at) (i32.const 1))
                (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                (br_if $again (i32.lt_u (local.get $at) (i32.const {}))))
            i32.const $answer",
            PAGES << 12
        ),
        ..Handmade::default()
    };
    let much = LimitOverrides {
        memory_bytes: Some(256 << 20),
        ..wall_time(Duration::from_secs(60))
    };
    for _ in 0..3 {
        Attack::by(touching.clone())
            .under(much)
            .ends_with(End::Success);
    }
}
