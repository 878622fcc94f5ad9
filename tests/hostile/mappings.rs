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
use crate::neighbour::Neighbour;

/// As many as an engine has slots by default.
const MANY: u32 = 256;

/// It has nearly as many memories as an execution may have instances, with data in the middle of each, and waits for
/// ever.
pub fn that_has_many_memories() -> Handmade {
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

/// The mappings that the kernel gives a process.
fn allowed() -> usize {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .map_or(65_530, |text| text.trim().parse().expect("a number"))
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
    let allowed = allowed();
    let round = async || {
        let skill = load(&host, &that_has_many_memories()).await;
        let mut running = JoinSet::new();
        for at in 0..MANY {
            // No tenant has more than half of them: it takes two to have all.
            let mut request =
                ExecutionRequest::new(skill.digest(), json!({})).limits(LimitOverrides {
                    wall_time: Some(Duration::from_millis(300)),
                    ..NONE
                });
            request.tenant = Some(["one", "other"][at as usize % 2].to_owned());
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
            let usage = &result.usage;
            assert!(usage.fuel > 0 && !usage.wall_time.is_zero(), "{usage:?}");
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

/// One tenant's executions have all that it may have, and as many again wait for them: another tenant's needs mappings,
/// too, and waits for none of those.
#[test]
fn a_tenant_that_takes_all_it_gets() {
    let _alone = alone();
    let host = builder().concurrency(MANY).build().unwrap();
    let neighbour = Neighbour::of(&host);
    let round = async || {
        let many = load(&host, &that_has_many_memories()).await;
        let few = Handmade {
            before: format!(
                "{} (core module $two (memory 1) (memory 1)) (core instance (instantiate $two))",
                Handmade::default().before
            ),
            ..Handmade::default()
        };
        let few = load(&host, &few).await;
        let request = |skill: &skillhost::Skill, tenant: &str| {
            let mut request = ExecutionRequest::new(skill.digest(), json!({}));
            request.tenant = Some(tenant.to_owned());
            request.limits(LimitOverrides {
                wall_time: Some(Duration::from_secs(2)),
                ..NONE
            })
        };
        let mut running = JoinSet::new();
        for _ in 0..MANY / 2 {
            let (host, request) = (host.clone(), request(&many, "flood"));
            running.spawn(async move { execute(&host, request).await });
        }
        // They have begun, as many as get to it: each takes some hundreds of what a tenant may have.
        let part = allowed() / 4;
        let enough = (part / 600).min(MANY as usize / 2) * 300;
        let begun = std::time::Instant::now();
        while mappings() < enough {
            assert!(
                begun.elapsed() < crate::harness::LATE,
                "{} of {enough}",
                mappings()
            );
            tokio::task::yield_now().await;
        }
        let other = execute(&host, request(&few, "other")).await;
        assert_eq!(other.status, skillhost::Status::Success, "{other:?}");
        // The first of the flood are over after two seconds, and those that wait are next.
        assert!(
            other.usage.waiting_time < Duration::from_secs(1),
            "{other:?}"
        );
        assert!(other.usage.fuel > 0, "{other:?}");
        running.abort_all();
        while running.join_next().await.is_some() {}
        neighbour.checked(&host).await;
    };
    runtime().block_on(round());
    check_leaves_nothing_but(0, || runtime().block_on(round()));
}
