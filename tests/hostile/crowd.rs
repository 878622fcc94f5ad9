//! Many hostile guests at once, and one beside them that behaves well.

use std::time::Duration;

use serde_json::json;
use skillhost::{Cause, Control, ExecutionRequest, Host, Limit, LimitOverrides};
use tokio::task::JoinSet;

use crate::attack::{NONE, runtime};
use crate::handmade::Handmade;
use crate::harness::{
    LATE, Record, builder, cause, check_undisturbed, execute, load, network_path, output, request,
};
use crate::measure::{alone, check_leaves_nothing_but};

/// All of them are stopped, in their time, and one that has little to do gets through beside them.
#[test]
fn a_hundred_spinning_guests() {
    let _alone = alone();
    crowd("spin");
}

#[test]
fn a_hundred_guests_that_keep_the_host_busy() {
    let _alone = alone();
    crowd("now_for_ever");
    crowd("wait_for_ever");
}

/// On the only thread of the runtime, with calls that keep the host busy for long and take hardly any
/// fuel: they hand the thread on in between.
#[test]
fn guests_whose_calls_take_long() {
    let skill = Handmade {
        execute: "(loop $again
            (call $log (i32.const 2) (i32.const 0) (i32.const 4194304)) (br $again)) unreachable"
            .into(),
        ..Handmade::that_calls()
    };
    hand_the_thread_on(async |host| {
        let skill = load(host, &skill).await;
        let logs = ExecutionRequest::new(skill.digest(), json!({}));
        let draws = request(host, "random_for_ever", json!({"bytes": 1 << 20})).await;
        vec![logs, draws]
    });
}

/// The same with calls that each take the host less than a millisecond, and with header fields, of
/// which one call can bring very many.
#[test]
fn guests_whose_calls_are_many() {
    hand_the_thread_on(async |host| {
        let skill = host.load(network_path()).await.expect("it loads");
        let calls = |function: &str, count: u32| {
            ExecutionRequest::new(skill.digest(), json!({"to": function, "count": count}))
                .tool("fields_for_ever")
        };
        vec![
            calls("append", 4_000_000),
            calls("clone", 0),
            calls("entries", 0),
            calls("from-list", 80_000),
            calls("has", 4_000_000),
            calls("set", 2_000),
            request(host, "now_for_ever", json!({})).await,
        ]
    });
}

fn hand_the_thread_on(attacks: impl AsyncFnOnce(&Host) -> Vec<ExecutionRequest>) {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let host = builder().concurrency(2).build().unwrap();
    runtime.block_on(async {
        for request in attacks(&host).await {
            check_undisturbed(&host).await;
            let input = request.input.clone();
            let request = request.limits(LimitOverrides {
                wall_time: Some(Duration::from_millis(1500)),
                ..NONE
            });
            let record = Record::new();
            let control = Control::default().observer(record.clone());
            let hostile = tokio::spawn({
                let host = host.clone();
                async move { host.execute_with(request, control).await }
            });
            record.wait_for("started", 1).await;
            // Each takes many turns, of which there is one in a second where none is handed on.
            for _ in 0..20 {
                check_undisturbed(&host).await;
            }
            assert!(!hostile.is_finished(), "the thread was its own: {input}");
            let result = hostile.await.unwrap().unwrap();
            assert!(matches!(cause(&result), Cause::Timeout { .. }), "{input}");
        }
    });
}

fn crowd(tool: &'static str) {
    let host = builder().concurrency(101).build().unwrap();
    runtime().block_on(check_undisturbed(&host));
    // What is set up once, is set up now.
    runtime().block_on(round(&host, tool));
    // The slots stay warm, with up to 2 MiB each.
    check_leaves_nothing_but(101 * (2 << 20), || runtime().block_on(round(&host, tool)));
}

async fn round(host: &Host, tool: &'static str) {
    let record = Record::new();
    let wall_time = Duration::from_millis(1500);
    let limits = LimitOverrides {
        wall_time: Some(wall_time),
        fuel: Some(u64::MAX),
        ..NONE
    };
    let hostile = request(host, tool, json!({})).await.limits(limits);
    let echo = request(host, "echo", json!({"a": 1})).await;
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (host, request) = (host.clone(), hostile.clone());
        let control = Control::default().observer(record.clone());
        tasks.spawn(async move { host.execute_with(request, control).await.unwrap() });
    }
    record.wait_for("started", 100).await;
    let beside = tokio::spawn({
        let host = host.clone();
        async move { execute(&host, echo).await }
    });
    let result = beside.await.unwrap();
    assert_eq!(output(&result), &json!({"a": 1}));
    assert_eq!(
        record.count("finished timeout"),
        0,
        "they were all still there"
    );
    while let Some(joined) = tasks.join_next().await {
        let result = joined.unwrap();
        let Cause::Timeout { limit, .. } = cause(&result) else {
            panic!("{:?}", result.failure)
        };
        assert_eq!(*limit, Limit::WallTime);
        assert!(result.usage.wall_time < wall_time + LATE);
        assert!(result.usage.fuel > 0, "each had its turns");
    }
    check_undisturbed(host).await;
}
