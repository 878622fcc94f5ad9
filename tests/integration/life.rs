//! The life of an execution: events, cancellation, waiting for a slot, hooks, many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::json;
use skillhost::execution::{Phase, Rejection};
use skillhost::host::Refusal;
use skillhost::{Cause, Control, ExecutionRequest, Host, LimitOverrides, Limits, Status};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::NONE;
use crate::harness::{
    Record, behaviours_path, builder, cause, check_timeout, check_undisturbed, execute, host,
    output, request, run,
};

#[tokio::test]
async fn events_come_in_order() {
    let of_the_host = Record::new();
    let host = builder().observer(of_the_host.clone()).build().unwrap();
    let record = Record::new();
    let request = request(&host, "chatter", json!({"count": 2})).await;
    let control = Control::default().observer(record.clone());
    let result = host.execute_with(request, control).await.unwrap();
    assert_eq!(result.status, Status::Success);
    let expected = [
        "admitted",
        "started",
        "log record 0",
        "progress step",
        "log record 1",
        "progress step",
        "finished success",
    ];
    assert_eq!(record.events(), expected);
    assert_eq!(of_the_host.events(), expected, "and nothing of `describe`");
    assert_eq!(record.usage().unwrap(), result.usage);
}

#[tokio::test]
async fn what_is_not_admitted_is_finished_as_well() {
    let record = Record::new();
    let control = Control::default().observer(record.clone());
    let request = ExecutionRequest::new("nobody", json!({}));
    host().execute_with(request, control).await.unwrap();
    assert_eq!(record.events(), ["finished failed"]);
}

/// How soon a guest is stopped that is cancelled, where other tests leave the machine time for it.
const SOON: Duration = Duration::from_millis(100);
/// How often it is tried whether the machine does.
const TRIES: usize = 10;

#[tokio::test]
async fn a_token_cancels_whatever_the_guest_does() {
    for tool in ["spin", "wait_for_ever", "now_for_ever", "random_for_ever"] {
        let mut took = Vec::new();
        while took.last().is_none_or(|took| *took >= SOON) {
            assert!(took.len() < TRIES, "{tool}: {took:?}");
            took.push(cancelled(tool).await);
        }
        check_undisturbed(host()).await;
    }
}

/// Cancels a guest that does something for ever, and gives the time from then to its result.
async fn cancelled(tool: &str) -> Duration {
    let record = Record::new();
    let token = CancellationToken::new();
    let control = Control::default()
        .cancellation(token.clone())
        .observer(record.clone());
    // It may have to wait for its turn after it has started.
    let input = json!({"bytes": 1 << 20, "log_first": "here"});
    let request = request(host(), tool, input).await;
    let executing = async {
        let result = host().execute_with(request, control).await;
        (result, Instant::now())
    };
    let ((result, ended), cancelled) = tokio::join!(executing, async {
        record.wait_for("log here", 1).await;
        let now = Instant::now();
        token.cancel();
        now
    });
    let result = result.unwrap();
    assert_eq!(
        cause(&result),
        &Cause::Cancelled { phase: Phase::Run },
        "{tool}"
    );
    assert!(
        result.usage.wall_time < Duration::from_secs(3),
        "{tool}: {:?}",
        result.usage
    );
    assert_eq!(
        record.events(),
        ["admitted", "started", "log here", "finished cancelled"]
    );
    ended - cancelled
}

#[tokio::test]
async fn a_token_cancels_what_waits_for_a_slot() {
    let host = builder().concurrency(1).build().unwrap();
    let holder = Hold::of(&host).await;
    let record = Record::new();
    let token = CancellationToken::new();
    let control = Control::default()
        .cancellation(token.clone())
        .observer(record.clone());
    let request = request(&host, "echo", json!({})).await;
    let (result, ()) = tokio::join!(host.execute_with(request.clone(), control.clone()), async {
        record.wait_for("admitted", 1).await;
        token.cancel();
    });
    let result = result.unwrap();
    assert_eq!(
        cause(&result),
        &Cause::Cancelled {
            phase: Phase::Waiting
        }
    );
    assert_eq!(record.events(), ["admitted", "finished cancelled"]);
    assert_eq!(result.usage.wall_time, Duration::ZERO);
    drop(holder);
    // One that was cancelled beforehand.
    let result = host.execute_with(request, control).await.unwrap();
    assert_eq!(
        cause(&result),
        &Cause::Cancelled {
            phase: Phase::Waiting
        }
    );
    check_undisturbed(&host).await;
}

/// An execution that holds a slot until it is dropped.
struct Hold(tokio::task::JoinHandle<()>);

impl Hold {
    async fn of(host: &Host) -> Self {
        let record = Record::new();
        let request = request(host, "wait_for_ever", json!({})).await;
        let (host, control) = (host.clone(), Control::default().observer(record.clone()));
        let task = tokio::spawn(async move {
            let _ = host.execute_with(request, control).await;
        });
        record.wait_for("started", 1).await;
        Hold(task)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Dropped while it waits for a slot, and while it runs: the slot is free again.
#[tokio::test]
async fn dropping_the_future_stops_the_guest_and_frees_its_slot() {
    let host = builder().concurrency(1).build().unwrap();
    let holder = Hold::of(&host).await;
    let record = Record::new();
    let control = Control::default().observer(record.clone());
    let waiting = request(&host, "echo", json!({})).await;
    tokio::select! {
        _ = host.execute_with(waiting, control) => unreachable!("there is no slot"),
        () = record.wait_for("admitted", 1) => {}
    }
    assert_eq!(record.events(), ["admitted", "finished cancelled"]);
    drop(holder);
    check_undisturbed(&host).await;
}

#[tokio::test]
async fn a_hook_may_refuse() {
    let at = Utc::now() + chrono::Duration::hours(1);
    let host = builder()
        .before(move |request, skill| match request.tenant.as_deref() {
            Some("good") => Ok(()),
            Some(_) => Err(Refusal {
                message: format!("not for {}", skill.name),
                retry_at: Some(at),
            }),
            None => Err("no tenant".into()),
        })
        .build()
        .unwrap();
    let request = request(&host, "echo", json!({})).await;
    let refused = |message: &str, retry_at| {
        let cause = Cause::Rejected {
            reason: Rejection::Hook,
            retry_at,
        };
        (format!("not admitted: {message}"), cause)
    };
    for (tenant, expected) in [
        (Some("good"), None),
        (Some("bad"), Some(refused("not for behaviours", Some(at)))),
        (None, Some(refused("no tenant", None))),
    ] {
        let mut request = request.clone();
        request.tenant = tenant.map(str::to_owned);
        let admission = host.can_execute(&request);
        let result = execute(&host, request).await;
        let found = result
            .failure
            .clone()
            .map(|failure| (failure.message, failure.cause));
        assert_eq!(found, expected);
        assert_eq!(admission.refusal, result.failure, "both say the same");
        assert_eq!(
            result.status,
            expected.map_or(Status::Success, |_| Status::Rejected)
        );
    }
}

#[tokio::test]
async fn can_execute_says_what_execute_will_do() {
    let runs = Record::new();
    let host = builder()
        .observer(runs.clone())
        .ceiling(Limits {
            fuel: 77_000_000,
            ..Limits::ceiling()
        })
        .build()
        .unwrap();
    let asked = LimitOverrides {
        fuel: Some(u64::MAX),
        handles: Some(50),
        ..NONE
    };
    let good = request(&host, "echo", json!({})).await.limits(asked);
    let late = good
        .clone()
        .deadline(Utc::now() - chrono::Duration::seconds(1));
    let large = good.clone().limits(LimitOverrides {
        input_bytes: Some(1),
        ..asked
    });
    let requests = [
        late,
        large,
        good.clone(),
        good.clone().tool("ecko"),
        good.clone().tool("sleep"),
        ExecutionRequest::new("nobody", json!({})),
        good.clone()
            .grants(skillhost::grant::Grants::default().directory(
                "/nowhere/at/all",
                "/data",
                skillhost::grant::Mode::Ro,
            )),
    ];
    for request in requests {
        let admission = host.can_execute(&request);
        assert!(
            runs.events().iter().all(|event| event != "started"),
            "it runs nothing"
        );
        let result = host.execute(request).await.unwrap();
        assert_eq!(admission.refusal, result.failure);
        assert_eq!(admission.is_admitted(), result.status == Status::Success);
        assert_eq!(admission.limits, result.limits);
        assert_eq!(admission.skill, result.skill);
        assert_eq!(admission.tool, result.tool);
        runs.clear();
    }
    let admission = host.can_execute(&good);
    assert_eq!(
        (admission.limits.fuel, admission.limits.handles),
        (77_000_000, 50)
    );
}

#[test]
fn a_host_can_be_used_without_a_runtime() {
    let host = builder().build().unwrap();
    let skill = host.load_blocking(behaviours_path()).unwrap();
    let request = |tool: &str, input| ExecutionRequest::new(skill.digest(), input).tool(tool);
    let result = host
        .execute_blocking(request("echo", json!({"a": 1})))
        .unwrap();
    assert_eq!(output(&result), &json!({"a": 1}));
    let limits = LimitOverrides {
        wall_time: Some(Duration::from_millis(50)),
        ..NONE
    };
    for tool in ["spin", "wait_for_ever"] {
        let result = host
            .execute_blocking(request(tool, json!({})).limits(limits))
            .unwrap();
        check_timeout(&result, Duration::from_millis(50));
    }
    // From several threads at once.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let result = host.execute_blocking(request("echo", json!({}))).unwrap();
                assert_eq!(result.status, Status::Success);
            });
        }
    });
}

#[tokio::test]
async fn the_blocking_forms_work_inside_a_runtime() {
    let host = builder().build().unwrap();
    let skill = host.load_blocking(behaviours_path()).unwrap();
    let request = ExecutionRequest::new(skill.digest(), json!({"ms": 5})).tool("sleep");
    let result = host.execute_blocking(request).unwrap();
    assert_eq!(result.status, Status::Success);
    // And the host goes away inside of it.
    drop((skill, host));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_host() {
    let host = builder().concurrency(16).build().unwrap();
    let template = request(&host, "echo", json!({})).await;
    let mut tasks = JoinSet::new();
    for number in 0..500 {
        let (host, mut request) = (host.clone(), template.clone());
        request.input = json!({ "number": number });
        tasks.spawn(async move {
            let result = execute(&host, request).await;
            assert_eq!(output(&result), &json!({ "number": number }));
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap();
    }
}

/// 20 sleepers in two slots: all of them get their turn, and never more than two at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_means_waiting() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let observer = {
        let (running, most) = (running.clone(), most.clone());
        move |_: uuid::Uuid, event: &skillhost::Event<'_>| match event {
            skillhost::Event::Started => {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
            }
            skillhost::Event::Finished { .. } => {
                running.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
    };
    let host = builder()
        .concurrency(2)
        .observer(Arc::new(observer))
        .build()
        .unwrap();
    let template = request(&host, "sleep", json!({"ms": 30})).await;
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let (host, request) = (host.clone(), template.clone());
        tasks.spawn(async move { execute(&host, request).await });
    }
    let mut waited = 0;
    while let Some(joined) = tasks.join_next().await {
        let result = joined.unwrap();
        assert_eq!(result.status, Status::Success, "{:?}", result.failure);
        waited += usize::from(result.usage.waiting_time >= Duration::from_millis(25));
    }
    assert!(waited >= 16, "{waited}");
    let most = most.load(Ordering::SeqCst);
    assert!(
        (1..=3).contains(&most),
        "{most}: the slot is given on a little before the event"
    );
    check_undisturbed(&host).await;
}

#[tokio::test]
async fn an_unloaded_skill_is_gone_and_what_runs_goes_on() {
    let host = builder().build().unwrap();
    let record = Record::new();
    let sleep = request(&host, "sleep", json!({"ms": 50})).await;
    let digest = host.skills()[0].digest();
    let control = Control::default().observer(record.clone());
    let (result, ()) = tokio::join!(host.execute_with(sleep.clone(), control), async {
        record.wait_for("started", 1).await;
        assert_eq!(host.unload(&digest).unwrap().digest(), digest);
        assert!(host.unload(&digest).is_none());
        assert!(host.skill(&"behaviours".parse().unwrap()).is_none());
    });
    assert_eq!(result.unwrap().status, Status::Success);
    assert_eq!(cause(&execute(&host, sleep).await), &Cause::NotLoaded);
    assert!(host.skills().is_empty());
    let result = run(&host, "echo", json!({}), NONE).await;
    assert_eq!(result.status, Status::Success, "it can be loaded again");
}
