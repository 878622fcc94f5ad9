//! Files that are hostile before any code of theirs runs: not what they say they are, too large, too
//! deep, too slow to compile, or made for another host.

use std::time::Duration;

use skillhost::limits::exact_bytes;
use skillhost::{CompileError, CompileSettings, Host, LoadError, Misfit};
use wasm_encoder::{
    Component, ComponentSection, CustomSection, NestedComponentSection, RawSection,
};

use crate::attack::{Attack, End, builder};
use crate::child;
use crate::handmade::Handmade;
use crate::load::Load;
use crate::measure::alone;
use crate::neighbour::Neighbour;

#[test]
fn what_is_no_component() {
    let _alone = alone();
    let module = wat::parse_str("(module)").unwrap();
    for (bytes, message) in [
        (Vec::new(), "it is empty"),
        (module, "core module"),
        (b"(component)".to_vec(), "WebAssembly text"),
        (b"#!/bin/sh".to_vec(), "does not begin with"),
        (b"\0asm\x0d\0\x02\0".to_vec(), "unknown kind or version"),
        (vec![0; 1 << 20], "does not begin with"),
    ] {
        let error = Load::of(bytes).fails();
        assert!(
            matches!(&error, LoadError::Compile(CompileError::NotAComponent(_))),
            "{error}"
        );
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// Cut off anywhere, it is refused.
#[test]
fn a_component_that_is_truncated() {
    let _alone = alone();
    let component = Handmade::default().build();
    for length in (8..component.len()).step_by(61) {
        let error = Load::of(component[..length].to_vec()).fails();
        assert!(
            matches!(error, LoadError::Compile(_) | LoadError::Misfit(_)),
            "{length}: {error}"
        );
    }
}

/// With any byte changed it is refused, or still a component, and never a crash.
#[test]
fn a_component_that_is_malformed() {
    let _alone = alone();
    let component = Handmade::default().build();
    for at in (0..component.len()).step_by(41) {
        let mut broken = component.clone();
        broken[at] ^= 0x41;
        Load::of(broken).does_no_harm();
    }
}

/// Sections and lists that say they are as long as 32 bits can say.
#[test]
fn a_component_that_lies_about_its_lengths() {
    let _alone = alone();
    for section in 0..=12_u8 {
        for length in [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07"] {
            let mut component = b"\0asm\x0d\0\x01\0".to_vec();
            component.push(section);
            component.extend(length);
            component.extend([0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]);
            let error = Load::of(component).fails();
            assert!(
                matches!(&error, LoadError::Compile(_)),
                "{section}: {error}"
            );
            // As many items as can be said, in a section that is there.
            let mut component = b"\0asm\x0d\0\x01\0".to_vec();
            component.extend([section, 8, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]);
            Load::of(component).does_no_harm();
        }
    }
}

/// Whoever reads such types calls itself for each, and where the stack is used up, the process is ended.
#[test]
fn types_that_stand_deep_within_each_other() {
    let _alone = alone();
    for (of, depth) in [
        (0x41, 101),
        (0x41, 2_000),
        (0x41, 1_000_000),
        (0x42, 1_000_000),
    ] {
        let mut nested = [of, 1, 1].repeat(depth - 1);
        nested.extend([of, 0]);
        let types = RawSection {
            id: 7,
            data: &[&[1], nested.as_slice()].concat(),
        };
        let mut inner = Component::new();
        inner.section(&types);
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&inner));
        let mut behind = Handmade::default().build();
        types.append_to_component(&mut behind);
        for component in [inner.finish(), outer.finish(), behind] {
            let error = Load::of(component).fails();
            assert!(
                matches!(&error, LoadError::Compile(CompileError::TooLarge { what, .. })
                    if *what == "a nesting of types"),
                "{depth}: {error}"
            );
        }
    }
}

/// Whoever reads such types keeps all that is in them at once, each part in many times the bytes that it is in the file.
#[test]
fn types_of_very_many_parts() {
    let _alone = alone();
    // An instance with so many types `bool`; within another, and each fewer than are too many.
    let many = |count: u32| {
        let mut types = vec![0x42];
        types.extend(leb(count));
        types.extend([1, 0x7f].repeat(count as usize));
        types
    };
    let beside = [vec![0x42, 3], [vec![1], many(70_000)].concat().repeat(3)].concat();
    // Functions of a thousand parameters, which are fewer declarations.
    let function = [
        vec![1, 0x40],
        leb(1_000),
        [1, b'a', 0x7f].repeat(1_000),
        vec![1, 0],
    ]
    .concat();
    let wide = [vec![0x42], leb(300), function.repeat(300)].concat();
    for of in [many(999_999), beside, wide] {
        let types = RawSection {
            id: 7,
            data: &[&[1], of.as_slice()].concat(),
        };
        let mut behind = Handmade::default().build();
        types.append_to_component(&mut behind);
        let error = Load::of(behind).fails();
        assert!(
            matches!(&error, LoadError::Compile(CompileError::TooLarge { what, .. })
                if what.contains("in all its types")),
            "{error}"
        );
    }
}

fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The engine writes a type out at each place that refers to it, and keeps that in memory for as long as the skill is
/// loaded: of a few kilobytes it makes gigabytes. In what is imported, or exported; by long names, or by many.
#[test]
fn types_that_refer_to_each_other_many_times() {
    let _alone = alone();
    let name = "a".repeat(8_000);
    let leaf = |name: &str| {
        format!("(type $t0 (instance (type bool) (export \"a-{name}\" (type (eq 0)))))")
    };
    let tenfold = |leaf: String, levels: usize| {
        let mut types = leaf;
        for level in 1..=levels {
            let ten: String = (0..10)
                .map(|number| format!("(export \"a{number}\" (instance (type 0)))"))
                .collect();
            types += &format!(
                "(type $t{level} (instance (alias outer 1 $t{} (type)) {ten}))",
                level - 1
            );
        }
        types + &format!("(import \"wasi:random/insecure@0.2.0\" (instance (type $t{levels})))")
    };
    let mut groups =
        format!("(type $named bool) (instance $g0 (export \"a-{name}\" (type $named)))");
    for level in 1..=4 {
        let ten: String = (0..10)
            .map(|number| format!("(export \"a{number}\" (instance $g{}))", level - 1))
            .collect();
        groups += &format!("(instance $g{level} {ten})");
    }
    groups += "(export \"zzz\" (instance $g4))";
    let host = compiling_under(4 << 30, Duration::from_secs(60));
    for before in [tenfold(leaf(&name), 4), tenfold(leaf("a"), 5), groups] {
        let skill = Handmade {
            before,
            ..Handmade::default()
        };
        let error = Load::by(&skill)
            .on(&host)
            .fails_within(Duration::from_secs(60));
        assert!(
            matches!(&error, LoadError::Compile(CompileError::Invalid(why))
                if why.contains("with each type written out wherever it is referred to")),
            "{error}"
        );
    }
    // A hundred of them are no more than any skill may have.
    let skill = Handmade {
        before: tenfold(leaf(&name), 2),
        ..Handmade::default()
    };
    Load::by(&skill).on(&host).succeeds();
}

/// The engine takes such code also where it is built without what the code calls, and ends the process where it runs.
#[test]
fn proposals_that_are_not_supported() {
    let _alone = alone();
    let open = "(type $a (sub (func (param i32)))) (type $b (sub (func (param i64))))
        (func $f (type $a))";
    for (fields, execute) in [
        (
            format!("{open} (table $t 1 funcref) (elem (table $t) (i32.const 0) func $f)"),
            "(call_indirect $t (type $b) (i64.const 0) (i32.const 0)) i32.const $answer",
        ),
        (
            format!("{open} (elem declare func $f)"),
            "(drop (ref.test (ref $b) (ref.func $f))) i32.const $answer",
        ),
        (
            "(type $v (func)) (func $f (type $v)) (elem declare func $f)".into(),
            "(call_ref $v (ref.func $f)) i32.const $answer",
        ),
        (
            "(rec (type (func)) (type (func)))".into(),
            "i32.const $answer",
        ),
        ("(type (struct (field i32)))".into(), "i32.const $answer"),
        ("(type (array i8))".into(), "i32.const $answer"),
        (
            "".into(),
            "(drop (ref.i31 (i32.const 1))) i32.const $answer",
        ),
        ("(tag $t)".into(), "(throw $t)"),
        ("(table 1 externref)".into(), "i32.const $answer"),
        ("(memory i64 1)".into(), "i32.const $answer"),
        ("(memory 1 1 shared)".into(), "i32.const $answer"),
        ("(memory 1 (pagesize 1))".into(), "i32.const $answer"),
        (
            "".into(),
            "(drop (i64.add128 (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1))) drop
            i32.const $answer",
        ),
    ] {
        let skill = Handmade {
            fields: fields.clone(),
            execute: execute.into(),
            ..Handmade::default()
        };
        let error = Load::by(&skill).fails();
        assert!(
            matches!(&error, LoadError::Compile(CompileError::Invalid(_))),
            "{fields} {execute}: {error}"
        );
    }
}

/// What takes long to compile is refused before.
#[test]
fn a_component_that_is_absurdly_large() {
    let _alone = alone();
    let host = builder()
        .compile(CompileSettings {
            max_component_bytes: 1 << 20,
            max_functions: 1_000,
            max_function_bytes: 10_000,
            ..CompileSettings::default()
        })
        .build()
        .unwrap();
    let large = Handmade {
        fields: format!("(data \"{}\")", "x".repeat(1 << 20)),
        ..Handmade::default()
    };
    let many = Handmade {
        fields: "(func)".repeat(1_000),
        ..Handmade::default()
    };
    let long = Handmade {
        fields: format!("(func {})", "(drop (i32.const 1))".repeat(10_000)),
        ..Handmade::default()
    };
    let size = exact_bytes(large.build().len() as u64);
    assert_ne!(size, "1 MiB");
    for (skill, message) in [
        (
            large,
            format!("it has a size of {size}; 1 MiB are allowed").as_str(),
        ),
        (
            many,
            "it has a number of functions of more than 1,000; 1,000 are allowed",
        ),
        (long, "it has a function of"),
    ] {
        let error = Load::by(&skill).on(&host).fails();
        assert!(
            matches!(&error, LoadError::Compile(CompileError::TooLarge { .. })),
            "{error}"
        );
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// The same without any settings.
#[test]
fn a_component_that_is_larger_than_any_may_be() {
    let _alone = alone();
    let mut large = Handmade::default().build();
    let section = CustomSection {
        name: "large".into(),
        data: vec![0; 64 << 20].into(),
    };
    section.append_to_component(&mut large);
    let many = Handmade {
        fields: "(func)".repeat(200_000),
        ..Handmade::default()
    };
    Load::of(large).fails_as_too_large();
    Load::by(&many).fails_as_too_large();
}

/// Many functions, of a size that is allowed: seconds of work.
fn slow_to_compile() -> Handmade {
    let body = "(if (i32.load (local.get 0)) (then
        (i32.store (local.get 1) (i32.add (local.get 0) (i32.load (local.get 1))))))";
    let function = format!("(func (param i32 i32) {})", body.repeat(2_000));
    Handmade {
        fields: function.repeat(60),
        ..Handmade::default()
    }
}

/// A small function, of which the compiler makes far more than there is: a value that is needed in many places, none of which
/// comes before the others, is computed in each of them.
fn needed_in_many_places() -> Handmade {
    const ROOTS: usize = 3_000;
    const PLACES: usize = 3_000;
    Handmade {
        fields: format!(
            "(global $always (mut i32) (i32.const 1))
            (func $f (param f64) (local $root f64)
                local.get 0 {} local.set $root
                {})",
            "f64.sqrt ".repeat(ROOTS),
            "(if (global.get $always) (then (f64.store (i32.const 0) (local.get $root))))"
                .repeat(PLACES)
        ),
        ..Handmade::default()
    }
}

/// A host that compiles under these limits, and has its neighbour compiled already.
fn compiling_under(memory_bytes: u64, wall_time: Duration) -> Host {
    Neighbour::of(crate::attack::host());
    let settings = child::settings(memory_bytes, wall_time);
    builder().compile(settings).build().unwrap()
}

#[test]
fn a_component_that_takes_too_long_to_compile() {
    let _alone = alone();
    let host = compiling_under(4 << 30, Duration::from_millis(100));
    for skill in [slow_to_compile(), needed_in_many_places()] {
        let error = Load::by(&skill).on(&host).fails();
        assert!(
            matches!(&error, LoadError::Compile(CompileError::Stopped(_))),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            "compiling it was stopped: it took longer than 100ms"
        );
    }
}

/// The child aborts, or has no room for a thread, depending on where it meets its limit.
#[test]
fn a_component_that_takes_too_much_memory_to_compile() {
    let _alone = alone();
    let host = compiling_under(160 << 20, Duration::from_secs(60));
    for skill in [slow_to_compile(), needed_in_many_places()] {
        let error = Load::by(&skill)
            .on(&host)
            .fails_within(Duration::from_secs(60));
        assert!(
            matches!(
                &error,
                LoadError::Compile(CompileError::Stopped(_) | CompileError::Child(_))
            ),
            "{error}"
        );
    }
}

/// Instances that export one another, more deeply than the validator counts on: it panics. Of where that was,
/// in whose source, nobody hears who sent the component.
#[test]
fn a_component_that_makes_the_compiler_panic() {
    let _alone = alone();
    let mut before = "(component $c (type $t u8) (export \"x\" (type $t)))
        (instance $of-0 (instantiate $c)) (instance $i0 (export \"a\" (instance $of-0)))"
        .to_owned();
    for level in 1..200 {
        before += &format!(
            "(instance $of-{level} (instantiate $c))
            (instance $i{level} (export \"a\" (instance $of-{level}))
                (export \"b\" (instance $i{})))",
            level - 1
        );
    }
    let skill = Handmade {
        before: format!("{before} (export \"chain\" (instance $i199))"),
        ..Handmade::default()
    };
    let in_a_child = compiling_under(4 << 30, Duration::from_secs(60));
    for load in [Load::by(&skill), Load::by(&skill).on(&in_a_child)] {
        let error = load.fails();
        assert!(
            matches!(&error, LoadError::Compile(CompileError::Invalid(_))),
            "{error}"
        );
        let message = error.to_string();
        assert!(message.contains("panicked"), "{message}");
        assert!(
            !message.contains(".rs") && !message.contains('/'),
            "{message}"
        );
    }
}

/// Components in components in components.
#[test]
fn components_that_are_nested_deeply() {
    let _alone = alone();
    // The binary by hand: a parser of text would have to be as deep.
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..2_000 {
        let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
        let mut length = component.len();
        while length >= 0x80 {
            outer.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(&component);
        component = outer;
    }
    let error = Load::of(component).fails();
    assert!(
        matches!(error, LoadError::Compile(_) | LoadError::Misfit(_)),
        "{error}"
    );
}

/// A component whose parts are instantiated ten times, ten times, ten times …: laid out flat it would
/// be ten thousand million instances. It is refused before anything is laid out.
#[test]
fn components_that_multiply() {
    let _alone = alone();
    let mut before = "(core module $m (global i64 (i64.const 1)))
        (component $c0 (alias outer 1 $m (core module $m)) (core instance (instantiate $m)))"
        .to_owned();
    for level in 1..=10 {
        let inner = format!("$c{}", level - 1);
        let instances = format!("(instance (instantiate {inner}))").repeat(10);
        before += &format!(
            "(component $c{level} (alias outer 1 {inner} (component {inner})) {instances})"
        );
    }
    let skill = Handmade {
        before: format!("{before} (instance (instantiate $c10))"),
        ..Handmade::default()
    };
    Load::by(&skill).fails_as_too_large();
}

/// Initial values that must be computed are compiled to one function, which is bounded as any other.
#[test]
fn initial_values_without_end() {
    let _alone = alone();
    let skill = Handmade {
        fields: "(global i32 (i32.add (i32.const 1) (i32.const 2)))".repeat(200_000),
        ..Handmade::default()
    };
    Load::by(&skill).fails_as_too_large();
}

/// Blocks in blocks in blocks. Deep, and still legal: it loads or it is refused, in bounded time.
#[test]
fn code_that_is_nested_deeply() {
    let _alone = alone();
    let nested = "block ".repeat(5_000) + &"end ".repeat(5_000);
    let skill = Handmade {
        fields: format!("(func {nested})"),
        ..Handmade::default()
    };
    // On a thread of its own, whose stack holds what parsing this text takes.
    let component = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(move || skill.build())
        .unwrap()
        .join()
        .unwrap();
    Load::of(component).does_no_harm();
}

#[track_caller]
fn does_not_fit(skill: Handmade, expected: impl Fn(&Misfit) -> bool) {
    let error = Load::by(&skill).fails();
    let LoadError::Misfit(misfit) = &error else {
        panic!("{error}")
    };
    assert!(expected(misfit), "{error}");
}

#[test]
fn imports_that_nobody_offers() {
    let _alone = alone();
    for import in [
        r#"(import "acme:x/y@0.1.0" (instance (export "f" (func))))"#,
        r#"(import "wasi:cli/exit@0.3.0" (instance (export "exit" (func))))"#,
        r#"(import "skillhost:skill/root@1.0.0" (instance (export "f" (func))))"#,
        r#"(import "exec" (func (param "command" string)))"#,
        r#"(import "a-module" (core module))"#,
        r#"(import "a-component" (component))"#,
        r#"(import "a-type" (type (sub resource)))"#,
    ] {
        let skill = Handmade {
            before: import.into(),
            ..Handmade::default()
        };
        does_not_fit(skill, |_| true);
    }
    // Ten thousand of them, of which the message names a few.
    let many = (0..10_000).map(|n| format!(r#"(import "acme:x/y{n}@0.1.0" (instance))"#));
    let skill = Handmade {
        before: many.collect(),
        ..Handmade::default()
    };
    does_not_fit(skill, |_| true);
}

/// The names fit, and what stands behind them does not.
#[test]
fn imports_of_another_shape() {
    let _alone = alone();
    for import in [
        r#"(import "wasi:cli/exit@0.2.0" (instance (export "leave" (func))))"#,
        r#"(import "wasi:cli/exit@0.2.0" (instance
            (export "exit" (func (param "status" string)))))"#,
        r#"(import "skillhost:skill/logging@1.0.0" (instance
            (export "log" (func (param "level" u64) (param "message" string)))))"#,
        r#"(import "wasi:cli/exit@0.2.0" (func))"#,
    ] {
        let skill = Handmade {
            before: import.into(),
            ..Handmade::default()
        };
        does_not_fit(skill, |misfit| matches!(misfit, Misfit::Import { .. }));
    }
}

#[test]
fn exports_of_another_shape() {
    let _alone = alone();
    for text in [
        r#"(component (instance $i) (export "skillhost:skill/tools@1.0.0" (instance $i)))"#,
        "(component)",
        r#"(component (type $t u8) (export "skillhost:skill/tools@1.0.0" (type $t)))"#,
    ] {
        let error = Load::of(wat::parse_str(text).unwrap()).fails();
        assert!(matches!(error, LoadError::Misfit(_)), "{error}");
    }
}

/// Whatever else it exports is never called.
#[test]
fn exports_that_nobody_asked_for() {
    let _alone = alone();
    let skill = Handmade {
        before: r#"(component $more
            (core module $m (func (export "run") unreachable))
            (core instance $m (instantiate $m))
            (func (export "run") (canon lift (core func $m "run"))))
            (instance $more (instantiate $more))
            (export "wasi:cli/run@0.2.0" (instance $more))"#
            .into(),
        ..Handmade::default()
    };
    Attack::by(skill).ends_with(End::Success);
}

/// Parts of WebAssembly that the host leaves off, as its limits do not reach there: shared memory
/// and waiting on it, memories of 64 bits, pages of another size.
#[test]
fn features_that_are_off() {
    let _alone = alone();
    let wait = "(drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))";
    for (fields, execute) in [
        ("(memory $other 1 1 shared)", ""),
        ("(memory $other i64 1)", ""),
        ("(memory $other 1 1 (pagesize 1))", ""),
        ("", wait),
    ] {
        let skill = Handmade {
            fields: fields.into(),
            execute: format!("{execute} i32.const $answer"),
            ..Handmade::default()
        };
        let error = Load::by(&skill).fails();
        assert!(
            matches!(&error, LoadError::Compile(CompileError::Invalid(_))),
            "{fields} {execute}: {error}"
        );
    }
}
