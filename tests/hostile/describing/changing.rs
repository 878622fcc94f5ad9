//! Guests that would say something else each time they are asked what they are.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use skillhost::execution::{Phase, Rejection};
use skillhost::{Cause, Host, Limit, Limits, LoadError, Status};

use super::usual;
use crate::attack::{End, builder, runtime};
use crate::handmade::{Description, Handmade};
use crate::load::Load;
use crate::measure::{alone, check_leaves_nothing_but};
use crate::neighbour::Neighbour;

/// Puts what stands in `$time` into the version of the description, as seven digits, and answers.
const VERSION_OF_TIME: &str = "
    (local.set $at (i32.load offset=8 (i32.const $description)))
    (local.set $n (i32.const 7))
    (loop $digit
        (i32.store8 (i32.add (local.get $at) (local.get $n))
            (i32.add (i32.const 48)
                (i32.wrap_i64 (i64.rem_u (local.get $time) (i64.const 10)))))
        (local.set $time (i64.div_u (local.get $time) (i64.const 10)))
        (br_if $digit (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    i32.const $description";

/// It would say another version each time it is asked, from the clock. It cannot, wherever and whenever it is
/// asked: what it is says its digest.
#[test]
fn a_description_that_changes_its_mind() {
    changes_its_mind(
        Handmade::that_calls(),
        "(local.set $time (i64.div_u (call $now) (i64.const 100)))",
        // No time has passed.
        Some("10000000.0.0"),
    );
}

/// The same by the random numbers, which are always the same while it is asked.
#[test]
fn a_description_that_throws_dice() {
    for (interface, function) in [
        ("random", "get-random-u64"),
        ("insecure", "get-insecure-random-u64"),
    ] {
        let skill = Handmade {
            before: format!(
                r#"(import "wasi:random/{interface}@0.2.0" (instance $random
                    (export "{function}" (func (result u64)))))
                (core func $throw (canon lower (func $random "{function}")))"#
            ),
            with: r#"(with "random" (instance (export "throw" (func $throw))))"#.into(),
            imports: r#"(import "random" "throw" (func $throw (result i64)))"#.into(),
            ..Handmade::default()
        };
        changes_its_mind(skill, "(local.set $time (call $throw))", None);
    }
}

/// The same by counting how often it can ask before a timer is over.
#[test]
fn a_description_that_counts_while_it_waits() {
    let calls = Handmade::that_calls();
    let asking = Handmade {
        before: format!(
            r#"{} (core func $ready (canon lower (func $poll "[method]pollable.ready")))"#,
            calls.before.replace(
                r#"(export "[method]pollable.block""#,
                r#"(export "[method]pollable.ready" (func (param "self" (borrow $p)) (result bool)))
                (export "[method]pollable.block""#,
            )
        ),
        with: format!(
            r#"{} (with "asking" (instance (export "ready" (func $ready))))"#,
            calls.with
        ),
        imports: format!(
            r#"{} (import "asking" "ready" (func $ready (param i32) (result i32)))"#,
            calls.imports
        ),
        ..calls
    };
    changes_its_mind(
        asking,
        "(local $p i32) (local.set $p (call $subscribe (i64.const 1000000)))
        (loop $again
            (local.set $time (i64.add (local.get $time) (i64.const 1)))
            (br_if $again (i32.eqz (call $ready (local.get $p)))))",
        // Others get their turn once, whatever a timer is set to.
        Some("10000002.0.0"),
    );
}

/// The memory that this process may have: so many bytes more than it has. As before once this is dropped.
struct Tight(Rlimit);

impl Tight {
    fn with(more: u64) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let data = status
            .lines()
            .find_map(|line| line.strip_prefix("VmData:"))
            .and_then(|data| data.trim().strip_suffix(" kB"))
            .and_then(|data| data.parse::<u64>().ok())
            .expect("it tells what the process has");
        let before = getrlimit(Resource::Data);
        let tight = Rlimit {
            current: Some(data * 1024 + more),
            maximum: before.maximum,
        };
        setrlimit(Resource::Data, tight).expect("it may have less");
        Tight(before)
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        setrlimit(Resource::Data, self.0).expect("it may have as much as before");
    }
}

/// It would be another skill where the machine has little memory left. It is stopped instead, as one that has done
/// nothing wrong, and is asked again by whoever loads it next.
#[test]
fn a_description_that_goes_by_the_memory_that_is_left() {
    let _alone = alone();
    let mebibyte = 1 << 20;
    // 400 MiB; and where there are none, one digit of the version is another.
    let code = "(if (i32.eq (memory.grow (i32.const 6400)) (i32.const -1)) (then
        (i32.store8 (i32.load offset=8 (i32.const $description)) (i32.const 57))))";
    let skill = |describe: String, fields: String| Handmade {
        fields,
        describe,
        ..Handmade::default()
    };
    let asked = skill(format!("{code} i32.const $description"), String::new());
    let starting = skill(
        "i32.const $description".into(),
        format!("(func $start {code}) (start $start)"),
    );
    let tried = |skill: &Handmade| {
        // One in which it was never described.
        let folder = tempfile::tempdir().unwrap();
        let host = builder()
            .cache(folder.path().join("compiled"))
            .default_limits(Limits {
                memory_bytes: 600 * mebibyte,
                ..Limits::default()
            })
            .build()
            .unwrap();
        let neighbour = Neighbour::of(&host);
        let component = skill.build();
        let load = || runtime().block_on(host.load_bytes(component.clone()));
        let tight = Tight::with(150 * mebibyte);
        let loaded = load();
        drop(tight);
        neighbour.check_undisturbed(&host);
        let Err(LoadError::Describe { failure, usage }) = &loaded else {
            panic!("it had the memory, as where the kernel has no such limit: {loaded:?}")
        };
        let Cause::Rejected { reason, .. } = &failure.cause else {
            panic!("{failure:?}")
        };
        assert_eq!(*reason, Rejection::Exhausted);
        assert_eq!(failure.status(), Status::Rejected);
        assert!(!usage.wall_time.is_zero(), "{usage:?}");
        assert!(usage.peak_memory_bytes < 150 * mebibyte, "{usage:?}");
        let loaded = load().unwrap();
        assert_eq!(loaded.identity().version, "0.1.0");
    };
    for skill in [asked, starting] {
        tried(&skill);
        check_leaves_nothing_but(0, || tried(&skill));
    }
}

/// A host without a pool has room for it, so that a −1 would be another skill.
#[test]
fn a_description_that_goes_by_what_the_pool_has() {
    let _alone = alone();
    let growing = |table: &str| {
        Handmade {
        fields: format!("(table $t {table} funcref)"),
        describe: "(if (i32.ne (table.grow $t (ref.null func) (i32.const 25000)) (i32.const -1)) (then unreachable))
            i32.const $description"
            .into(),
        ..Handmade::default()
    }
    };
    for table in ["0", "1", "1 20000", "1 90000"] {
        Load::by(&growing(table))
            .describing_ends_with(End::Limit(Limit::TableElements, Phase::Run));
    }
    // Its own maximum follows from its bytes.
    Load::by(&growing("1 19999")).succeeds();
}

/// What it finds out by growing past its own maximum follows from its bytes.
#[test]
fn a_description_that_goes_by_its_own_maximum() {
    let _alone = alone();
    let skill = Handmade {
        memory: r#"(memory (export "memory") 4 5)"#.into(),
        describe: "(if (i32.ne (memory.grow (i32.const 2)) (i32.const -1)) (then unreachable))
            i32.const $description"
            .into(),
        ..Handmade::default()
    };
    Load::by(&skill).succeeds();
}

/// Asks it here and there what it is. `code` puts into `$time` what it goes by.
fn changes_its_mind(skill: Handmade, code: &str, version_told: Option<&str>) {
    let _alone = alone();
    let skill = Handmade {
        describe: format!(
            "(local $at i32) (local $n i32) (local $time i64) {code} {VERSION_OF_TIME}"
        ),
        description: Description {
            version: "10000000.0.0".into(),
            ..usual()
        },
        ..skill
    };
    let component = skill.build();
    Load::of(component.clone()).succeeds();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("compiled");
    let cached = || builder().cache(&folder).build().unwrap();
    let version = |host: &Host| {
        let skill = runtime()
            .block_on(host.load_bytes(component.clone()))
            .unwrap();
        (skill.digest(), skill.identity().version.clone())
    };
    let host = cached();
    let first = version(&host);
    assert_eq!(version(&host), first);
    host.unload(&first.0).unwrap();
    assert_eq!(version(&host), first);
    assert_eq!(version(&cached()), first);
    let without_cache = Host::builder().concurrency(1).build().unwrap();
    let other = version(&without_cache);
    assert_eq!(other, first);
    assert_eq!(version(&without_cache), other);
    if let Some(told) = version_told {
        assert_eq!(other.1, told);
    }
}
