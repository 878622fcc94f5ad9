//! Which values are kept, and what the compiler makes of it.

use wasmparser::{Parser, Payload, Validator};

use super::super::super::engine;
use super::super::tests::chain;
use super::super::{FEATURES, functions, put_into};
use super::*;

/// What is kept in a function, as text: `v` and a number for a variable, `t` for what lies on the stack.
fn kept(text: &str) -> Vec<String> {
    let module = wat::parse_str(text).unwrap();
    let mut all = Vec::new();
    let mut in_place = InPlace::default();
    let functions = functions(&module).unwrap();
    let bodies = Parser::new(0)
        .parse_all(&module)
        .filter_map(|payload| match payload.unwrap() {
            Payload::CodeSectionEntry(body) => Some(body),
            _ => None,
        });
    for (body, function) in bodies.zip(functions) {
        let places = in_place.places(&body, function).unwrap();
        assert!(places.is_sorted_by_key(|(at, ..)| *at));
        all.extend(places.iter().map(|(_, keep, _)| match keep {
            Keep::Variable(variable) => format!("v{variable}"),
            Keep::Top => "t".to_owned(),
        }));
    }
    let after = put_into(&module).unwrap().component;
    Validator::new_with_features(FEATURES)
        .validate_all(&after)
        .unwrap();
    all
}

/// In a function with eight variables of each type that is named here, the first three of which are parameters.
fn kept_in(code: &str) -> Vec<String> {
    kept(&format!(
        "(module (memory 1) (func $f) (func $g (param f64 i32 f32) (local f64 f64 f64 i32 i32 i32) {code}))"
    ))
}

/// A variable is kept where other code may come next, if it comes of much; and no other.
#[test]
fn what_may_be_computed_again_is_kept() {
    let neg = |count| chain("f64.neg", 0, count);
    let branch = "(br_if 0 (local.get 1))";
    let one = |value: &str, code: &str| kept_in(&format!("(local.set 3 {value}) {code}"));
    assert_eq!(one(&neg(9), branch), ["v3"]);
    // Little is not, nor what takes long only once.
    assert!(one(&neg(8), branch).is_empty());
    assert!(one(&chain("f64.sqrt", 0, 1), branch).is_empty());
    assert_eq!(one(&chain("f64.sqrt", 0, 2), branch), ["v3"]);
    // Where nothing comes next that could be another way.
    assert!(one(&neg(9), "(call $f) (return)").is_empty());
    assert!(one(&neg(9), "").is_empty());
    assert!(one(&neg(9), "(block (call $f)) (unreachable)").len() == 1);
    // Before whatever may lead elsewhere.
    for next in [
        "(if (local.get 1) (then))",
        "(loop (call $f))",
        "(block (br 0))",
        "(block (block (br_table 0 1 (local.get 1))))",
        "(block)",
    ] {
        assert_eq!(one(&neg(9), next), ["v3"], "{next}");
    }
    // Once, and what comes of it is little.
    let more = format!("{branch}{branch}(local.set 4 {})", chain("f64.neg", 3, 8));
    assert_eq!(one(&neg(9), &format!("{more}{branch}")), ["v3"]);
    // What comes of little by little is not.
    let steps: String = (3..=4)
        .map(|of| format!("(local.set {} {}){branch}", of + 1, chain("f64.neg", of, 5)))
        .collect();
    assert_eq!(one(&neg(5), &format!("{branch}{steps}")), ["v4"]);
    // Only what a variable is last set to.
    assert!(one(&neg(9), &format!("(local.set 3 (f64.const 1)){branch}")).is_empty());
    // What is read from memory, or comes from a call, is there already.
    assert!(one("(f64.load (local.get 1))", branch).is_empty());
    // What is used twice in the same is computed once.
    let twice = "(local.set 3 (f64.add (local.get 3) (local.get 3)))".repeat(7);
    assert!(one("(local.get 0)", &format!("{twice}{branch}")).is_empty());
    let thrice = format!("{twice}{twice}{branch}");
    assert_eq!(one("(local.get 0)", &thrice), ["v3"]);
}

/// A turn of a loop begins with what the one before it left.
#[test]
fn what_a_loop_counts_is_not_kept() {
    let counts = "(local.set 6 (i32.add (local.get 6) (i32.const 1)))";
    let code =
        format!("(loop {counts} (if (local.get 1) (then {counts})) (br_if 0 (local.get 6)))");
    assert!(kept_in(&code.repeat(3)).is_empty());
}

/// What a block left a variable as, or did not, counts behind it, whichever way was gone.
#[test]
fn what_was_left_on_any_way_counts() {
    let five = chain("f64.neg", 0, 5);
    let more = format!(
        "(local.set 4 {}) (br_if 0 (local.get 1))",
        chain("f64.neg", 3, 4)
    );
    let behind = |code: &str| kept_in(&format!("{code} {more}"));
    let set = format!("(local.set 3 {five})");
    let none = "(local.set 3 (f64.const 0))";
    assert_eq!(behind(&set), ["v4"]);
    assert_eq!(behind(&format!("(block {set})")), ["v4"]);
    assert_eq!(
        behind(&format!("{set} (if (local.get 1) (then {none} (return)))")),
        ["v4"]
    );
    // Who leaves the block takes what was there, whatever comes behind it.
    assert_eq!(
        behind(&format!(
            "(block {set} (br_if 0 (local.get 1)) {none} (return))"
        )),
        ["v4"]
    );
    assert_eq!(
        behind(&format!("(if (local.get 1) (then {set}) (else (return)))")),
        ["v4"]
    );
    assert_eq!(
        behind(&format!("(if (local.get 1) (then (return)) (else {set}))")),
        ["v4"]
    );
    assert!(behind(&format!("{set} {none}")).is_empty());
    assert!(behind(&format!("(block (return) {set})")).is_empty());
    // What blocks give, and what they take.
    let given = |code: &str| {
        let kept = behind(&format!("(local.set 3 {code})"));
        // Whatever lies below it on the stack, which counts for itself.
        let below = format!("(f64.const 0) (local.set 3 {code}) {more} drop");
        assert_eq!(kept_in(&below), kept, "{below}");
        let above = format!("{five} {code} drop local.set 3 {more}");
        assert_eq!(kept_in(&above), ["v4"], "{above}");
        kept
    };
    assert_eq!(given(&format!("(block (result f64) {five})")), ["v4"]);
    assert_eq!(
        given(&format!("(block (result f64) (br 0 {five}))")),
        ["v4"]
    );
    assert_eq!(
        given(&format!(
            "(block (result f64) (br_if 0 {five} (local.get 1)) (return))"
        )),
        ["v4"]
    );
    assert_eq!(
        given(&format!(
            "{five} (if (param f64) (result f64) (local.get 1) (then))"
        )),
        ["v4"]
    );
    assert_eq!(
        given(&format!(
            "{five} (if (param f64) (result f64) (local.get 1) (then (return)) (else))"
        )),
        ["v4"]
    );
    assert_eq!(
        given(&format!("{five} (loop (param f64) (result f64))")),
        ["v4"]
    );
    // What nobody comes to takes nothing from what lies there.
    for dead in [
        "(block (result f64) (return) (drop) (br_if 0) (drop) (if (then)) (f64.const 0))",
        "(block (result f64) (block (return) (br_table 0 0)) (f64.const 0))",
        "(block (block (result f64) (unreachable) (local.set 3) (local.set 6)) (drop)) (f64.const 0)",
    ] {
        let kept = kept_in(&format!(
            "{five} (if (local.get 1) (then {dead} drop)) local.set 3 {more}"
        ));
        assert_eq!(kept, ["v4"], "{dead}");
    }
}

/// Of each type there is a global, behind those of the module, which nobody else uses.
#[test]
fn values_of_all_types_are_kept() {
    let ands =
        |get: &str, operator: &str| format!("{get}{}", format!(" {get} {operator}").repeat(9));
    let code: String = [
        (0, "i32.xor"),
        (1, "i64.xor"),
        (2, "f32.add"),
        (3, "f64.add"),
        (4, "v128.xor"),
    ]
    .iter()
    .map(|(of, operator)| {
        format!(
            "(local.set {of} {})",
            ands(&format!("(local.get {of})"), operator)
        )
    })
    .collect();
    let choices = "(select (result funcref) (local.get 5) (local.get 6) (local.get 0))";
    let choose = format!("(local.set 5 {choices})").repeat(9);
    for (imports, globals) in [
        ("", ""),
        (
            "(import \"a\" \"b\" (global i64))",
            "(global i32 (i32.const 1))",
        ),
        (
            "",
            "(table 1 funcref) (tag) (export \"f\" (func $f)) (start $s) (elem func $f) (data \"1\")",
        ),
    ] {
        let text = format!(
            "(module {imports} (memory 1) {} (func $s)
                (func $f (param i32 i64 f32 f64 v128 funcref funcref) {code} {choose} (br_if 0 (local.get 0))))",
            globals.replace("(tag)", "")
        );
        let kept = kept(&text);
        assert_eq!(kept, ["v0", "v1", "v2", "v3", "v4", "v5"], "{globals}");
    }
}

/// What lies on the stack is kept where very much came of it, so that it is not all done behind a look.
#[test]
fn what_takes_long_is_kept_on_the_stack() {
    let stores = |count| {
        kept_in(&format!(
            "(f64.store (i32.const 0) {})",
            chain("f64.neg", 0, count)
        ))
    };
    assert!(stores(256).is_empty());
    assert_eq!(stores(257), ["t"]);
    assert_eq!(stores(257 * 10), ["t"; 10]);
}

/// What the compiler makes of it: a value that is needed in a thousand places is computed once; and of many values that
/// are kept one after the other, none is left out.
#[test]
fn the_compiler_computes_what_is_kept_once() {
    let code = |text: &str| {
        let component = wat::parse_str(format!("(component (core module {text}))")).unwrap();
        let engine = engine::compiler().unwrap();
        let size = |component: &[u8]| engine.precompile_component(component).unwrap().len();
        (
            size(&component),
            size(&put_into(&component).unwrap().component),
        )
    };
    let uses = "(if (global.get $g) (then (f64.store (i32.const 0) (local.get 1))))".repeat(400);
    let repeated = format!(
        "(memory 1) (global $g (mut i32) (i32.const 1))
        (func (param f64) (local f64) (local.set 1 {}) {uses})",
        chain("f64.sqrt", 0, 400)
    );
    let (repeated, kept) = code(&repeated);
    assert!(repeated > 400 * 400 * 4, "{repeated}");
    assert!(kept < 100_000, "{kept}");
    let values: String = (0..40)
        .map(|at| {
            format!(
                "(local.set {} {})",
                at + 1,
                chain(&format!("f64.const {at} f64.mul f64.sqrt"), 0, 20)
            )
        })
        .collect();
    let all: String = (0..40)
        .map(|at| format!("(f64.store (i32.const {at}) (local.get {}))", at + 1))
        .collect();
    let uses = format!("(if (global.get $g) (then {all}))").repeat(40);
    let many = format!(
        "(memory 1) (global $g (mut i32) (i32.const 1))
        (func (param f64) (local {}) {values} {uses})",
        "f64 ".repeat(40)
    );
    let (repeated, kept) = code(&many);
    assert!(repeated > 3 * kept, "{repeated} {kept}");
}
