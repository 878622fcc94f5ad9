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
    let multiplied = |what: &str| {
        let mut text = format!("(component $c0 (core module $m) {what})");
        for level in 1..=10 {
            let inner = format!("(instance (instantiate $c{}))", level - 1);
            text += &format!(
                "(component $c{level} (alias outer 1 $c{} (component $c{})) {})",
                level - 1,
                level - 1,
                inner.repeat(10)
            );
        }
        bytes(&format!("(component {text} (instance (instantiate $c10)))")).unwrap_err()
    };
    assert_eq!(
        multiplied(""),
        "it has a number of definitions, over all instances, of more than 1,000,000; \
         1,000,000 are allowed"
    );
    let error = multiplied("(core instance (instantiate $m))");
    assert!(error.contains("(each 15 times)"), "{error}");
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

/// Two hundred instances, each with references to twenty thousand functions, make a file of some 150 KB.
#[test]
fn contexts_that_nobody_could_have_are_refused_before_they_are_compiled() {
    let referenced: String = (0..20_000).map(|at| format!("{at} ")).collect();
    let text = format!(
        "(component (core module $m {} (elem declare func {referenced})) {})",
        "(func)".repeat(20_000),
        "(core instance (instantiate $m))".repeat(200)
    );
    let error = bytes(&text).unwrap_err();
    assert!(error.contains("contexts are of"), "{error}");
}

/// What takes long to make is refused, as nobody looks at the clock meanwhile.
#[test]
fn more_parts_than_can_be_made_at_once_are_refused() {
    let imports = |count: usize| {
        let names = || 0..count;
        let exports: String = names()
            .map(|n| format!(r#"(func (export "{n}"))"#))
            .collect();
        let imports: String = names()
            .map(|n| format!(r#"(import "p" "{n}" (func))"#))
            .collect();
        let instance = r#"(core instance (instantiate $q (with "p" (instance $i))))"#;
        format!(
            "(core module $p {exports}) (core module $q {imports})
            (core instance $i (instantiate $p)) {}",
            instance.repeat(40)
        )
    };
    let forty_of = |fields: String| {
        let instance = "(core instance (instantiate $m))";
        format!("(core module $m {fields}) {}", instance.repeat(40))
    };
    let globals = |count: usize| forty_of("(global i32 (i32.const 0))".repeat(count));
    // What it takes to compute is 3 bytes for each, and 3 besides.
    let computed = |count: usize| {
        let times = "(global.get 0) i64.mul ".repeat(count);
        let first = "(global i64 (i64.const 7))";
        forty_of(format!("{first} (global i64 (global.get 0) {times})"))
    };
    let placed = |count: usize| {
        let plus = "(global.get 0) i32.add ".repeat(count);
        let first = "(global i32 (i32.const 0)) (table 1 funcref) (func $f)";
        forty_of(format!(
            "{first} (elem (offset (global.get 0) {plus}) func $f)"
        ))
    };
    let data = |count: usize| forty_of("(data \"\")".repeat(count));
    let segments = |count: usize| {
        let segments = "(elem (i32.const 0) func $f)".repeat(count);
        forty_of(format!("(table 1 funcref) (func $f) {segments}"))
    };
    let references = |count: usize| {
        let elements = "$f ".repeat(count);
        forty_of(format!("(func $f) (elem func {elements})"))
    };
    let table = |count: usize| {
        let table = format!("(table {count} funcref (ref.func $f))");
        format!("(core module $m (func $f) {table}) (core instance (instantiate $m))")
    };
    let lowered = |count: usize| {
        let drop = "(core func (canon resource.drop $r))";
        format!("(type $r (resource (rep i32))) {}", drop.repeat(count))
    };
    let resources = |count: usize| "(type (resource (rep i32)))".repeat(count);
    for (fits, not) in [
        (imports(996), imports(997)),
        (globals(3_985), globals(3_986)),
        // 3,983 parts of 64 bytes each, and two globals.
        (computed(84_990), computed(84_992)),
        // 3,970 of them, a global, a segment and what is in it.
        (placed(84_700), placed(84_720)),
        (data(3_985), data(3_986)),
        (segments(284), segments(285)),
        (references(662), references(663)),
        (table(26_664), table(26_665)),
        (table(1), table(4_000_000_000)),
        (lowered(13_333), lowered(13_334)),
        (resources(160_000), resources(160_001)),
    ] {
        assert!(bytes(&format!("(component {fits})")).is_ok());
        let error = bytes(&format!("(component {not})")).unwrap_err();
        assert!(error.contains("imports (four times)"), "{error}");
    }
}

/// Each is copied by code that runs at the start, and nobody looks at how much of it there is.
#[test]
fn data_for_places_that_are_known_late_counts_as_code() {
    let text = |count: usize, offset: &str| {
        format!(
            "(component (core module $m (import \"a\" \"g\" (global $g i32)) (memory 1) {}))",
            format!("(data (offset {offset}) \"x\")").repeat(count)
        )
    };
    let late = "(global.get $g)";
    assert!(bytes(&text(15_000, late)).is_ok());
    let error = bytes(&text(17_000, late)).unwrap_err();
    assert!(error.contains("initial values"), "{error}");
    assert!(bytes(&text(17_000, "(i32.const 0)")).is_ok());
}

/// Where the engine does not know beforehand where one of them goes, it copies all of them.
#[test]
fn data_that_is_copied_with_other_data_counts_as_code() {
    let text = |memory: &str, other: &str, count: usize| {
        format!(
            "(component (core module $m (import \"a\" \"g\" (global $g i32)) {memory} {other} {}))",
            "(data (i32.const 0) \"x\")".repeat(count)
        )
    };
    let far = "(data (i32.const 1100000) \"x\")";
    for (memory, other) in [
        ("(memory 1)", "(data (global.get $g) \"x\")"),
        ("(memory 1)", "(data (i32.const 65536) \"x\")"),
        ("(import \"a\" \"m\" (memory 1))", ""),
        ("(memory 17)", far),
    ] {
        assert!(
            bytes(&text(memory, other, 15_000)).is_ok(),
            "{memory} {other}"
        );
        let error = bytes(&text(memory, other, 17_000)).unwrap_err();
        assert!(
            error.contains("initial values"),
            "{memory} {other}: {error}"
        );
    }
    for (memory, other) in [
        ("(memory 1)", "(data (i32.const 65535) \"x\")"),
        ("(memory 1)", "(data (i32.const 65536) \"\")"),
        // What is between them is no more than there is of data.
        (
            "(memory 17)",
            &format!("{far} (data (i32.const 0) \"{}\")", "x".repeat(551_000)),
        ),
    ] {
        let bytes = bytes(&text(memory, other, 17_000));
        assert!(bytes.is_ok(), "{memory}");
    }
}

/// What is between two bytes of data, or before an element of a table, is in what is compiled.
#[test]
fn what_little_becomes_much_is_bounded() {
    let data =
        "(data (memory $m) (i32.const 0) \"x\") (data (memory $m) (i32.const 1000000) \"x\")";
    let memories = |count: usize| {
        let all: String = (0..count)
            .map(|at| {
                format!(
                    "(memory $m{at} 16) {}",
                    data.replace("$m", &format!("$m{at}"))
                )
            })
            .collect();
        // Of one that is never instantiated as well.
        format!("(component (core module {all}))")
    };
    let tables = |count: usize| {
        format!(
            "(component (core module {}))",
            "(table 1000000 funcref)".repeat(count)
        )
    };
    assert!(bytes(&memories(16)).is_ok());
    assert!(bytes(&tables(2)).is_ok());
    for text in [memories(17), tables(3)] {
        let error = bytes(&text).unwrap_err();
        assert!(error.contains("what is between their parts"), "{error}");
    }
    // As much again as there is of it may be between what is there.
    let dense = format!(
        "(component (core module (memory 600) (data (i32.const 0) \"{}\") (data (i32.const 39000000) \"x\")))",
        "x".repeat(20_000_000)
    );
    assert!(bytes(&dense).is_ok());
}

#[test]
fn more_instances_with_memories_than_can_be_made_soon_are_refused() {
    let text = |fields: &str, count: usize| {
        let instances = "(core instance (instantiate $m))".repeat(count);
        format!("(component (core module $m {fields}) {instances})")
    };
    for (fields, most) in [("(memory 0)", 385), ("", 10_666)] {
        assert!(bytes(&text(fields, most)).is_ok(), "{fields}");
        let error = bytes(&text(fields, most + 1)).unwrap_err();
        assert!(error.contains("(each 15 times)"), "{error}");
    }
}

/// Each is looked at once more in each instance.
#[test]
fn long_names_count_as_further_definitions() {
    let text = |bytes: usize| {
        format!(
            "(component (component $c (core module $m) (export \"{}\" (core module $m))) {})",
            "a".repeat(bytes),
            "(instance (instantiate $c))".repeat(1_000)
        )
    };
    assert!(bytes(&text(60_000)).is_ok());
    let error = bytes(&text(70_000)).unwrap_err();
    assert!(error.contains("a number of definitions"), "{error}");
}

#[test]
fn more_types_than_are_kept_are_refused() {
    let types = |count: usize| "(type (func))".repeat(count);
    let (half, more) = (types(10_000), types(10_001));
    let fits = format!("(component (core module {half}) (core module {half}))");
    assert!(bytes(&fits).is_ok());
    let error = bytes(&format!(
        "(component (core module {half}) (core module {more}))"
    ));
    let error = error.unwrap_err();
    assert!(error.contains("a number of types"), "{error}");
    // Nor in a group, which is one definition.
    let error = bytes(&format!(
        "(component (core module (rec {})))",
        types(20_001)
    ));
    let error = error.unwrap_err();
    assert!(error.contains("a number of types"), "{error}");
}
