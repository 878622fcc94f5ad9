//! Components whose instances are counted by hand.

use super::*;

fn bytes(text: &str) -> Result<u64, String> {
    let component = wat::parse_str(text).unwrap();
    context_bytes(&component, &CompileSettings::default()).map_err(|error| error.to_string())
}

const GLOBALS: &str = "(core module $m (global i64 (i64.const 1)) (global i64 (i64.const 2)))";
/// What an instance of it takes.
const ONE: u64 = INSTANCE + 2 * VALUE;

#[test]
fn each_instance_counts_wherever_its_module_comes_from() {
    let instance = "(core instance (instantiate $m))";
    for (text, instances, components) in [
        (GLOBALS.to_owned(), 0, 0),
        (format!("{GLOBALS} {instance} {instance}"), 2, 0),
        // From outside, by an alias.
        (
            format!(
                "{GLOBALS} (component $c (alias outer 1 $m (core module $m)) {instance})
                (instance (instantiate $c)) (instance (instantiate $c))"
            ),
            2,
            2,
        ),
        // As an argument, of a component that is one itself.
        (
            format!(
                r#"{GLOBALS}
                (component $c (import "m" (core module $m)) {instance} {instance})
                (component $d
                    (import "m" (core module $m))
                    (import "c" (component $c (import "m" (core module))))
                    (instance (instantiate $c (with "m" (core module $m))))
                    (instance (instantiate $c (with "m" (core module $m)))))
                (instance (instantiate $d
                    (with "m" (core module $m)) (with "c" (component $c))))"#
            ),
            4,
            3,
        ),
        // Exported by an instance.
        (
            format!(
                r#"(component $c {GLOBALS} (export "m" (core module $m)))
                (instance $i (instantiate $c))
                (alias export $i "m" (core module $m)) {instance}"#
            ),
            1,
            1,
        ),
        // Out of a group of exports.
        (
            format!(
                r#"{GLOBALS} (instance $i (export "m" (core module $m)))
                (alias export $i "m" (core module $n)) (core instance (instantiate $n))"#
            ),
            1,
            0,
        ),
    ] {
        let text = format!("(component {text})");
        let expected = instances * ONE + components * COMPONENT;
        assert_eq!(bytes(&text), Ok(expected), "{text}");
    }
}

#[test]
fn everything_in_a_context_counts() {
    let instance = |fields: &str| {
        bytes(&format!(
            "(component (core module $m {fields}) (core instance (instantiate $m)))"
        ))
        .unwrap()
            - INSTANCE
    };
    assert_eq!(instance(""), 0);
    assert_eq!(instance("(func) (func)"), 0, "nothing refers to them");
    assert_eq!(
        instance(r#"(func (export "a") (export "b"))"#),
        REFERENCE,
        "one function"
    );
    assert_eq!(
        instance("(func $f) (elem func $f $f $f)"),
        SEGMENT + 3 * VALUE + REFERENCE
    );
    assert_eq!(
        instance("(func $f) (global funcref (ref.func $f))"),
        VALUE + REFERENCE
    );
    assert_eq!(instance("(table 5 funcref) (memory 1)"), 2 * STORE);
    assert_eq!(instance(r#"(data "x") (data "y")"#), 2 * SEGMENT);
}

#[test]
fn what_the_engine_makes_for_a_component_counts() {
    let imported = r#"(component
        (core module $a (func (export "f"))) (core instance $i (instantiate $a))
        (core module $m (import "i" "f" (func)))
        (core instance (instantiate $m (with "i" (instance $i)))))"#;
    assert_eq!(bytes(imported), Ok(2 * INSTANCE + 3 * REFERENCE));
    let resources = "(component
        (component $c (type (resource (rep i32))) (type (resource (rep i32))))
        (instance (instantiate $c)))";
    assert_eq!(bytes(resources), Ok(COMPONENT + 2 * RESOURCE));
    let empty = "(component $c) ".to_owned() + &"(instance (instantiate $c))".repeat(1_000);
    assert_eq!(
        bytes(&format!("(component {empty})")),
        Ok(1_000 * COMPONENT)
    );
}

/// Ten levels, each ten times within the next: ten thousand million.
#[test]
fn what_multiplies_is_refused_without_doing_the_work() {
    let mut text = format!("(component $c0 {GLOBALS} (core instance (instantiate $m)))");
    for level in 1..=10 {
        let inner = format!("(instance (instantiate $c{}))", level - 1);
        text += &format!(
            "(component $c{level} (alias outer 1 $c{} (component $c{})) {})",
            level - 1,
            level - 1,
            inner.repeat(10)
        );
    }
    let error = bytes(&format!("(component {text} (instance (instantiate $c10)))"));
    assert_eq!(
        error.unwrap_err(),
        "it has a number of definitions, over all instances, of more than 1,000,000; \
         1,000,000 are allowed"
    );
}

#[test]
fn instances_within_instances_are_bounded() {
    let mut text = "(component $c0)".to_owned();
    for level in 1..=200 {
        let inner = level - 1;
        text += &format!(
            "(component $c{level} (alias outer 1 $c{inner} (component $i))
                (instance (instantiate $i)))"
        );
    }
    let error = bytes(&format!(
        "(component {text} (instance (instantiate $c200)))"
    ));
    assert!(error.unwrap_err().contains("instances within instances"));
}

#[test]
fn what_is_compiled_to_be_run_at_the_start_is_bounded() {
    let values = "(global i32 (i32.add (i32.const 1) (i32.const 2)))".repeat(200_000);
    let error = bytes(&format!("(component (core module {values}))"));
    assert!(error.unwrap_err().contains("initial values"));
}

/// Each takes a few bytes in the file, and much more where it is known.
#[test]
fn more_definitions_than_may_be_are_not_kept() {
    let inside = "(core module $m) (component $c)";
    for one in [
        "(core instance (instantiate $m))",
        "(instance (instantiate $c))",
        "(instance)",
        "(alias outer 0 $c (component))",
        "(type u8)",
    ] {
        let mut text = format!("(component {inside}");
        for _ in 0..1_000_001 {
            text += one;
        }
        text += ")";
        let error = bytes(&text).unwrap_err();
        assert!(error.contains("a number of definitions"), "{one}: {error}");
    }
}

/// Nine hundred instances, each of two thousand imports, make a file of some 160 KB.
#[test]
fn contexts_that_nobody_could_have_are_refused_before_they_are_compiled() {
    let exports: String = (0..2_000)
        .map(|n| format!(r#"(func (export "{n}"))"#))
        .collect();
    let imports: String = (0..2_000)
        .map(|n| format!(r#"(import "p" "{n}" (func))"#))
        .collect();
    let text = format!(
        r#"(component (core module $p {exports}) (core module $q {imports})
        (core instance $i (instantiate $p)) {})"#,
        r#"(core instance (instantiate $q (with "p" (instance $i))))"#.repeat(900)
    );
    let error = bytes(&text).unwrap_err();
    assert!(error.contains("contexts are of"), "{error}");
}
