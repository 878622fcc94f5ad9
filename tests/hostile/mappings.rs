//! Guests that use up what the kernel gives a process beside bytes: a memory is mapped in several pieces, of which a
//! process may have 65,530 (Linux's default). One that has them all cannot allocate memory any more, and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use skillhost::{ExecutionRequest, Limit, LimitOverrides};
use tokio::task::JoinSet;

use crate::attack::{NONE, runtime};
use crate::handmade::Handmade;
use crate::harness::{builder, check_undisturbed, execute, load};
use crate::measure::{alone, check_leaves_nothing_but};

/// As many as an engine has slots by default.
const MANY: u32 = 256;

/// It has nearly as many memories as an execution may have instances, with data in the middle of each, and waits for
/// ever.
fn that_has_many_memories() -> Handmade {
    let memories: String = (0..97)
        .map(|at| {
            format!(
                r#"(memory $m{at} 4) (data (memory $m{at}) (i32.const 70000) "x")
                (data (memory $m{at}) (i32.const 200000) "x")"#
            )
        })
        .collect();
    let calls = Handmade::that_calls();
    Handmade {
        before: format!(
            "{} (core module $many {memories}) (core instance $many (instantiate $many))",
            calls.before
        ),
        execute: "(call $block (call $subscribe (i64.const -1))) unreachable".into(),
        ..calls
    }
}

fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    maps.lines().count()
}

/// They run as many at a time as there is room for, the others wait; and whoever needs little runs beside them.
#[test]
fn memories_by_the_ten_thousands() {
    let _alone = alone();
    let host = builder().concurrency(MANY).build().unwrap();
    let allowed: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .map_or(65_530, |text| text.trim().parse().expect("a number"));
    let round = async || {
        let skill = load(&host, &that_has_many_memories()).await;
        let mut running = JoinSet::new();
        for _ in 0..MANY {
            let request = ExecutionRequest::new(skill.digest(), json!({})).limits(LimitOverrides {
                wall_time: Some(Duration::from_millis(300)),
                ..NONE
            });
            let host = host.clone();
            running.spawn(async move { execute(&host, request).await });
        }
        let ended = Arc::new(AtomicBool::new(false));
        let watch = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                let mut most = 0;
                while !ended.load(Ordering::Acquire) {
                    most = most.max(mappings());
                    std::thread::yield_now();
                }
                most
            }
        });
        check_undisturbed(&host).await;
        while let Some(result) = running.join_next().await {
            let result = result.expect("it is not dropped");
            let failure = result.failure.expect("it waits for ever");
            assert_eq!(failure.limit(), Some((Limit::WallTime, 300)), "{failure}");
            check_undisturbed(&host).await;
        }
        ended.store(true, Ordering::Release);
        let most = watch.join().expect("it does not panic");
        assert!(most < allowed / 2 + 5_000, "{most} of {allowed}");
        // Each of them takes some hundreds, so that they did have to wait.
        assert!(most > allowed / 4, "{most} of {allowed}");
    };
    runtime().block_on(round());
    check_leaves_nothing_but(0, || runtime().block_on(round()));
}
