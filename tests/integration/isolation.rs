//! Nothing that one execution leaves behind is there for the next.

use serde_json::json;

use crate::handmade::Handmade;
use crate::harness::NONE;
use crate::harness::{builder, check_undisturbed, execute, load, output, request, run_tool};

/// One slot, so that every execution gets the same place in the pool.
#[tokio::test]
async fn memory_globals_and_output_are_fresh_each_time() {
    let host = builder().concurrency(1).build().unwrap();
    for word in ["first", "second", "third"] {
        let result = execute(
            &host,
            request(&host, "remember", json!({ "word": word })).await,
        )
        .await;
        assert_eq!(output(&result), &json!({"words": [word], "marks": 0}));
        assert_eq!(result.stdout, word);
    }
    // Also after one that did not end by itself.
    let limits = skillhost::LimitOverrides {
        fuel: Some(4_000_000),
        ..NONE
    };
    let stopped = request(&host, "remember", json!({"word": "x"}))
        .await
        .limits(limits);
    let _ = execute(&host, stopped).await;
    let result = execute(
        &host,
        request(&host, "remember", json!({"word": "y"})).await,
    )
    .await;
    assert_eq!(output(&result), &json!({"words": ["y"], "marks": 0}));
}

/// What is in a memory from the beginning, where nobody looks.
const DATA: &str = r#"(data (i32.const 65000) "from the beginning")"#;

/// A guest that looks at memory which no allocator gave it, at tables, and at globals, on both
/// engines.
#[tokio::test]
async fn a_guest_that_looks_finds_zeros() {
    let host = builder().concurrency(1).build().unwrap();
    let looks = Handmade {
        fields: "(table $t 10 100 funcref) (global $g (mut i32) (i32.const 0))
            (func $f) (elem declare func $f)"
            .into(),
        execute: "(local $at i32)
            (if (i32.eq (memory.grow (i32.const 40)) (i32.const -1)) (then unreachable))
            (if (global.get $g) (then unreachable))
            (if (i32.eqz (ref.is_null (table.get $t (i32.const 5)))) (then unreachable))
            (local.set $at (i32.const 196608))
            (loop $next
                (if (i32.load8_u (local.get $at)) (then unreachable))
                (i32.store8 (local.get $at) (i32.const 1))
                (local.set $at (i32.add (local.get $at) (i32.const 512)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 2883584))))
            (global.set $g (i32.const 1))
            (table.set $t (i32.const 5) (ref.func $f))
            i32.const $answer"
            .into(),
        ..Handmade::default()
    };
    let on_demand = Handmade {
        fields: format!("(memory $second 1) {}", looks.fields),
        ..looks.clone()
    };
    // A slot is made what it was in another way for another skill than for the same: of each kind, one with less that is
    // there from the beginning, and one with more.
    let mut skills = Vec::new();
    for (skill, more) in [
        (&looks, ""),
        (&looks, DATA),
        (&on_demand, ""),
        (&on_demand, DATA),
    ] {
        let skill = Handmade {
            fields: format!("{more} {}", skill.fields),
            ..skill.clone()
        };
        skills.push(load(&host, &skill).await.digest());
    }
    for skill in &skills {
        for _ in 0..4 {
            let result = run_tool(&host, *skill, NONE).await;
            assert_eq!(output(&result), &json!({}));
        }
    }
    for (first, second) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        for _ in 0..2 {
            for skill in [skills[first], skills[second]] {
                let result = run_tool(&host, skill, NONE).await;
                assert_eq!(output(&result), &json!({}), "{first}, {second}");
            }
        }
    }
    check_undisturbed(&host).await;
}
