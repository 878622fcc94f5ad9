//! Many hostile guests at once, and one beside them that behaves well.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use skillhost::{Cause, Control, ExecutionRequest, ExecutionResult, Host, LimitOverrides, Status};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::attack::{NONE, runtime};
use crate::handmade::Handmade;
use crate::harness::{
    Record, builder, cause, check_result, check_timeout, load, network_path, request,
};
use crate::measure::{alone, check_leaves_nothing_but};
use crate::neighbour::Neighbour;
use crate::unyielding::putting_off;
use crate::volume::with_very_many_values;

/// What each of the guests is given: so long that others have their turns meanwhile.
const TIME: Duration = Duration::from_millis(1500);
/// What a slot keeps for the next guest, in bytes.
const WARM: u64 = 2 << 20;

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
            calls("from-list", 2_000),
            calls("has", 4_000_000),
            calls("set", 2_000),
            request(host, "now_for_ever", json!({})).await,
        ]
    });
}

/// They compute for long without coming to a look at the clock, for less than what they would be stopped after, and again and
/// again: others get a thread all the same.
#[test]
fn guests_that_keep_their_threads() {
    /// Some 30 ms of one stretch after the other.
    const SHORT_OF_TOO_LONG: usize = 60;
    let _alone = alone();
    let host = builder().concurrency(20).build().unwrap();
    let round = async || {
        let keeps = load(&host, &putting_off(SHORT_OF_TOO_LONG)).await;
        let request = ExecutionRequest::new(keeps.digest(), json!({})).limits(LimitOverrides {
            wall_time: Some(TIME),
            fuel: Some(u64::MAX),
            ..NONE
        });
        // From the first it is known what they do.
        host.execute(request.clone()).await.unwrap();
        let neighbour = Arc::new(Neighbour::loaded(&host).await);
        let record = Record::new();
        let mut tasks = JoinSet::new();
        let mut running = Vec::new();
        for _ in 0..16 {
            let (host, request) = (host.clone(), request.clone());
            let control = Control::default().observer(record.clone());
            let task = async move { host.execute_with(request, control).await.unwrap() };
            running.push(tasks.spawn(task));
        }
        record.wait_for("started", 16).await;
        let times = times(&host, &neighbour, 20).await;
        running.retain(|task| !task.is_finished());
        let still = running.len();
        let mut stopped = 0;
        while let Some(joined) = tasks.join_next().await {
            let result = joined.unwrap();
            check_result(&result);
            // Where the machine is slower, they are stopped for that.
            match result.status {
                Status::Timeout => check_timeout(&result, TIME),
                _ => {
                    let Cause::Trap { trap, .. } = cause(&result) else {
                        panic!("{:?}", result.failure)
                    };
                    assert_eq!(trap, "did_not_yield");
                    stopped += 1;
                }
            }
        }
        assert!(
            still + stopped > 8,
            "{still} ran still, {stopped} were stopped"
        );
        times[15]
    };
    let least = Cell::new(two_threads().block_on(round()));
    check_leaves_nothing_but(20 * WARM, || {
        least.set(least.get().min(two_threads().block_on(round())));
    });
    assert!(least.get() < Duration::from_millis(20), "{least:?}");
}

/// They compute for some milliseconds without a look at the clock, once, and come to their end; and others come in their
/// place, as many as may. Each would be a guest that has had nothing yet.
#[test]
fn guests_that_keep_their_threads_and_end() {
    /// Some 4 ms of one stretch.
    const SHORT: usize = 8;
    /// How many there are at any moment.
    const MANY: u32 = 40;
    let _alone = alone();
    let host = builder().concurrency(MANY + 1).build().unwrap();
    let round = async || {
        let once = Handmade {
            execute: format!("(call $deep (i32.const {SHORT}) (f64.const 1.7)) i32.const $answer"),
            ..putting_off(SHORT)
        };
        let keeps = load(&host, &once).await;
        let request = ExecutionRequest::new(keeps.digest(), json!({}));
        let ended = CancellationToken::new();
        let executions = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..MANY {
            let (host, request, ended) = (host.clone(), request.clone(), ended.clone());
            let executions = Arc::clone(&executions);
            tasks.spawn(async move {
                while !ended.is_cancelled() {
                    let result = host.execute(request.clone()).await.unwrap();
                    assert_eq!(result.status, Status::Success, "{:?}", result.failure);
                    executions.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let neighbour = Arc::new(Neighbour::loaded(&host).await);
        let before = executions.load(Ordering::Relaxed);
        let times = times(&host, &neighbour, 40).await;
        let after = executions.load(Ordering::Relaxed);
        ended.cancel();
        tasks.join_all().await;
        assert!(
            after > before,
            "they had their turns, too: {before} {after}"
        );
        times[30]
    };
    let least = Cell::new(two_threads().block_on(round()));
    check_leaves_nothing_but(u64::from(MANY + 1) * WARM, || {
        least.set(least.get().min(two_threads().block_on(round())));
    });
    // In turn with all of them, each would take some 80 ms, and as long again each time it waits.
    assert!(least.get() < Duration::from_millis(40), "{least:?}");
}

/// As large as inputs may be, several at once, on the only thread of the runtime: that is written, looked through and let go elsewhere.
#[test]
fn inputs_of_very_many_small_values() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let host = builder().concurrency(5).build().unwrap();
    let (skill, input) = with_very_many_values();
    let neighbour = Arc::new(runtime.block_on(Neighbour::loaded(&host)));
    let round = || {
        let inputs = [(); 4].map(|()| input.clone());
        runtime.block_on(async {
            let skill = load(&host, &skill).await;
            let mut tasks = JoinSet::new();
            for input in inputs {
                let host = host.clone();
                let request = ExecutionRequest::new(skill.digest(), input);
                tasks.spawn(async move { host.execute(request).await.unwrap() });
            }
            let mut times = Vec::new();
            while !tasks.is_empty() {
                times.extend(self::times(&host, &neighbour, 1).await);
                while let Some(ended) = tasks.try_join_next() {
                    let result = ended.unwrap();
                    check_result(&result);
                    assert_eq!(result.status, Status::Success, "{:?}", result.failure);
                    assert!(result.usage.input_bytes > (16 << 20) - 16);
                }
            }
            times.sort();
            // There are very many, of which those that met others' turns are few.
            assert!(times.len() > 20, "{times:?}");
            times[times.len() * 9 / 10]
        })
    };
    let least = Cell::new(round());
    check_leaves_nothing_but(5 * WARM, || least.set(least.get().min(round())));
    assert!(least.get() < Duration::from_millis(20), "{least:?}");
}

fn two_threads() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build();
    runtime.unwrap()
}

/// How long so many executions of the neighbour's take one after the other, each on a thread of the runtime's; the
/// shortest first.
async fn times(host: &Host, neighbour: &Arc<Neighbour>, many: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..many {
        let (host, neighbour) = (host.clone(), Arc::clone(neighbour));
        let began = Instant::now();
        let checked = tokio::spawn(async move { neighbour.checked(&host).await });
        checked.await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    times
}

fn hand_the_thread_on(attacks: impl AsyncFnOnce(&Host) -> Vec<ExecutionRequest>) {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let host = builder().concurrency(2).build().unwrap();
    let attacks = runtime.block_on(attacks(&host));
    let neighbour = runtime.block_on(Neighbour::loaded(&host));
    for request in attacks {
        check_leaves_nothing_but(2 * WARM, || {
            runtime.block_on(beside_others(&host, &neighbour, request.clone()));
        });
    }
}

/// Others have their turns while this runs until its time is up, and after it.
async fn beside_others(host: &Host, neighbour: &Neighbour, request: ExecutionRequest) {
    let input = request.input.clone();
    let request = request.limits(LimitOverrides {
        wall_time: Some(TIME),
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
        neighbour.checked(host).await;
    }
    assert!(!hostile.is_finished(), "the thread was its own: {input}");
    let result = hostile.await.unwrap().unwrap();
    check_out_of_time(&result);
    assert!(result.usage.host_calls > 0, "{:?}", result.usage);
    neighbour.checked(host).await;
}

/// Its time was up, and what it used until then is there.
#[track_caller]
fn check_out_of_time(result: &ExecutionResult) {
    check_result(result);
    assert_eq!(result.status, Status::Timeout);
    check_timeout(result, TIME);
    let usage = &result.usage;
    assert!(usage.fuel > 0, "it had its turns: {usage:?}");
    assert!(usage.peak_memory_bytes > 0, "{usage:?}");
    assert!(
        !usage.cpu_time.is_zero() && !usage.run_time.is_zero(),
        "{usage:?}"
    );
}

fn crowd(tool: &'static str) {
    let host = builder().concurrency(101).build().unwrap();
    let neighbour = Neighbour::of(&host);
    // What is set up once, is set up now.
    runtime().block_on(round(&host, &neighbour, tool));
    // The slots stay warm.
    check_leaves_nothing_but(101 * WARM, || {
        runtime().block_on(round(&host, &neighbour, tool));
    });
}

async fn round(host: &Host, neighbour: &Neighbour, tool: &'static str) {
    let record = Record::new();
    let limits = LimitOverrides {
        wall_time: Some(TIME),
        fuel: Some(u64::MAX),
        ..NONE
    };
    let hostile = request(host, tool, json!({})).await.limits(limits);
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (host, request) = (host.clone(), hostile.clone());
        let control = Control::default().observer(record.clone());
        tasks.spawn(async move { host.execute_with(request, control).await.unwrap() });
    }
    record.wait_for("started", 100).await;
    neighbour.checked(host).await;
    assert_eq!(
        record.count("finished timeout"),
        0,
        "they were all still there"
    );
    while let Some(joined) = tasks.join_next().await {
        check_out_of_time(&joined.unwrap());
    }
    neighbour.checked(host).await;
}
