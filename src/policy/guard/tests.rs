//! Turns, in virtual time: nothing here waits for a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::start::Starting;
use crate::execution::{
    BoxFuture, Cause, Control, Execute, ExecutionRequest, ExecutionResult, Failure, HostError,
    Rejection, Resolution, SkillIdentity, Status,
};
use crate::limits::Limits;
use crate::policy::CurrentPolicy;
use crate::skill::{Annotations, Description, Digest, Tool};

/// What one execution takes.
const TAKES: Duration = Duration::from_millis(10);

/// Takes its time, and counts.
#[derive(Default)]
struct Slow {
    running: AtomicU32,
    most: AtomicU32,
    done: AtomicU32,
}

struct Running<'s>(&'s Slow);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Execute for Slow {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        Box::pin(async move {
            let now = self.running.fetch_add(1, Ordering::Relaxed) + 1;
            let _running = Running(self);
            self.most.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(TAKES).await;
            self.done.fetch_add(1, Ordering::Relaxed);
            let failure = Failure::new(Cause::NotLoaded, "it is only waited for");
            let mut result = control.refuse(request, None, failure);
            result.failure = None;
            result.status = Status::Success;
            Ok(result)
        })
    }

    fn resolve(&self, _: &ExecutionRequest) -> Result<Resolution, Failure> {
        Ok(Resolution {
            skill: Arc::new(SkillIdentity {
                name: "slow".into(),
                version: "1.0.0".into(),
                digest: Digest::of_component(b"slow"),
            }),
            description: Arc::new(Description {
                name: "slow".into(),
                version: "1.0.0".into(),
                description: String::new(),
                tools: vec![Tool {
                    name: "wait".into(),
                    title: None,
                    description: String::new(),
                    input_schema: json!({}),
                    output_schema: None,
                    annotations: Annotations::resolve(None, None, None, None),
                    marked_destructive: false,
                }],
            }),
            tool: 0,
            limits: Limits::default(),
            wished: None,
            time_asked: false,
            unreported: Arc::default(),
        })
    }
}

fn turns(policy: &str) -> (Arc<Slow>, Arc<Starting>, CurrentPolicy) {
    let policy = CurrentPolicy::new(Some(policy.parse().unwrap()));
    let slow = Arc::new(Slow::default());
    let turns = Arc::new(Starting::new(&policy, slow.clone()));
    (slow, turns, policy)
}

fn request(tenant: &str) -> ExecutionRequest {
    ExecutionRequest::new("slow", json!({})).tenant(tenant)
}

async fn run(turns: &Starting, tenant: &str) -> ExecutionResult {
    let result = turns.execute(request(tenant), Control::default()).await;
    result.unwrap()
}

fn rejection(result: &ExecutionResult) -> Option<Rejection> {
    match result.failure.as_ref()?.cause {
        Cause::Rejected { reason, .. } => Some(reason),
        _ => None,
    }
}

/// A job that has to wait holds a place of its worker's, which others could have: it gives it back, and comes again soon.
#[tokio::test(start_paused = true)]
async fn a_job_does_not_wait_for_long() {
    let (slow, turns, _) = turns("tenants.flood.concurrency = { at_once = 1, wait_ms = \"1h\" }");
    let began = Instant::now();
    let mut held = turns.execute(request("flood"), Control::default());
    assert!(futures_poll(&mut held).await.is_none(), "it runs");
    // As it would after many that took long: others are told to come back in minutes.
    for _ in 0..3 {
        let control = Control::default().job(uuid::Uuid::now_v7());
        let mut job = turns.execute(request("flood"), control);
        // Of the two that are there to be polled, time goes on for the job alone.
        let result = (&mut job).await.unwrap();
        assert_eq!(rejection(&result), Some(Rejection::WaitedTooLong));
        let Some(Cause::Rejected {
            retry_at: Some(at), ..
        }) = result.failure.map(|f| f.cause)
        else {
            panic!("it is to come back")
        };
        assert!(at <= Utc::now() + chrono::Duration::seconds(10), "{at}");
    }
    assert!(began.elapsed() < Duration::from_millis(200));
    // Whoever is no job waits as long as the policy says.
    let waiting = turns.execute(request("flood"), Control::default());
    let (first, second) = tokio::join!(held, waiting);
    assert_eq!(first.unwrap().status, Status::Success);
    assert_eq!(second.unwrap().status, Status::Success);
    assert_eq!(slow.done.load(Ordering::Relaxed), 2);
}

/// Ten tenants, one flooding with 1,000 requests, nine sending one each time the last is answered:
/// each of the nine gets at least 80 % of its share.
#[tokio::test(start_paused = true)]
async fn a_flood_leaves_each_tenant_its_share() {
    let (slow, turns, _) = turns("general.concurrency = { at_once = 2, wait_ms = \"1h\" }");
    let mut flood = JoinSet::new();
    for _ in 0..1_000 {
        let turns = Arc::clone(&turns);
        flood.spawn(async move { run(&turns, "flood").await });
    }
    // All of them are there before anybody else.
    tokio::task::yield_now().await;
    let end = Instant::now() + Duration::from_secs(4);
    let mut others = JoinSet::new();
    for number in 0..9 {
        let turns = Arc::clone(&turns);
        others.spawn(async move {
            let tenant = format!("tenant {number}");
            let mut served = 0;
            while Instant::now() < end {
                assert_eq!(run(&turns, &tenant).await.status, Status::Success);
                served += 1;
            }
            served
        });
    }
    let served: Vec<u32> = others.join_all().await;
    // 800 in four seconds, two at a time.
    let share = 800 / 10;
    assert!(
        served.iter().all(|&served| served >= share * 8 / 10),
        "{served:?}"
    );
    assert_eq!(slow.most.load(Ordering::Relaxed), 2);
    flood.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn weights_hold_between_two_that_always_have_more() {
    let (_, turns, _) = turns(
        "general.concurrency = { at_once = 1, wait_ms = \"1h\" }\ntenants.a.concurrency.weight = 3",
    );
    let mut all = JoinSet::new();
    for number in 0..200 {
        let turns = Arc::clone(&turns);
        let tenant = if number % 2 == 0 { "a" } else { "b" };
        all.spawn(async move {
            run(&turns, tenant).await;
            tenant
        });
    }
    let mut first = Vec::new();
    while first.len() < 80 {
        first.push(all.join_next().await.unwrap().unwrap());
    }
    let of_a = first.iter().filter(|tenant| **tenant == "a").count();
    assert!((58..=62).contains(&of_a), "{of_a} of 80");
}

#[tokio::test(start_paused = true)]
async fn when_too_many_wait_the_last_of_the_longest_goes() {
    let (slow, turns, _) = turns("general.concurrency = { at_once = 1, waiting = 10 }");
    let mut flood = JoinSet::new();
    for _ in 0..50 {
        let turns = Arc::clone(&turns);
        flood.spawn(async move { run(&turns, "flood").await });
    }
    tokio::task::yield_now().await;
    assert_eq!(run(&turns, "other").await.status, Status::Success);
    let ended = flood.join_all().await;
    let full = ended
        .iter()
        .filter(|one| rejection(one) == Some(Rejection::QueueFull));
    // One ran, ten waited, and one of them made room.
    assert_eq!(full.count(), 40);
    assert_eq!(slow.done.load(Ordering::Relaxed), 11);
}

/// Who has room starts, whoever waits for what only they lack: no queue is too full for it, and nobody is
/// pushed out for it.
#[tokio::test(start_paused = true)]
async fn who_could_start_is_not_rejected_because_others_wait() {
    let (slow, turns, _) = turns(
        r#"
        general.concurrency = { at_once = 3, waiting = 2 }
        tenants.a.concurrency.at_once = 1
        tenants.b.concurrency = { at_once = 2, waiting = 0 }
        "#,
    );
    let mut of_a = JoinSet::new();
    for _ in 0..3 {
        let turns = Arc::clone(&turns);
        of_a.spawn(async move { run(&turns, "a").await });
    }
    // One runs, two fill the queue behind their own bound.
    tokio::task::yield_now().await;
    assert_eq!(slow.running.load(Ordering::Relaxed), 1);
    let (first, second) = tokio::join!(run(&turns, "b"), run(&turns, "b"));
    for result in [first, second] {
        assert_eq!(result.status, Status::Success, "{result:?}");
        assert_eq!(result.usage.waiting_time, Duration::ZERO);
    }
    assert_eq!(slow.most.load(Ordering::Relaxed), 3);
    for result in of_a.join_all().await {
        assert_eq!(result.status, Status::Success, "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn places_are_given_back_however_it_ends() {
    let (slow, turns, _) = turns("general.concurrency = { at_once = 1, wait_ms = 15 }");
    for round in 0..20 {
        let token = CancellationToken::new();
        let control = Control::default().cancellation(token.clone());
        let mut holder = turns.execute(request("a"), Control::default());
        assert!(futures_poll(&mut holder).await.is_none());
        let mut cancelled = turns.execute(request("b"), control);
        let mut dropped = turns.execute(request("c"), Control::default());
        let late = request("d").deadline(Utc::now() + Duration::from_millis(5));
        let mut late = turns.execute(late, Control::default());
        for waiting in [&mut cancelled, &mut dropped, &mut late] {
            assert!(futures_poll(waiting).await.is_none());
        }
        if round % 2 == 0 {
            token.cancel();
            assert_eq!(cancelled.await.unwrap().status, Status::Cancelled);
            drop(dropped);
            drop(holder);
        } else {
            // It is its turn now, and it goes without having noticed.
            drop(holder);
            drop(cancelled);
            drop(dropped);
            drop(late);
            assert_eq!(run(&turns, "e").await.status, Status::Success);
            continue;
        }
        // It had its turn when the others were gone, or was too late.
        late.await.unwrap();
        assert_eq!(run(&turns, "e").await.status, Status::Success);
    }
    assert_eq!(slow.running.load(Ordering::Relaxed), 0);
    assert_eq!(slow.most.load(Ordering::Relaxed), 1);
}

/// Whoever goes while it waits has started nothing.
#[tokio::test(start_paused = true)]
async fn a_rate_is_given_back_by_who_goes_while_it_waits() {
    let (_, turns, _) = turns(
        "general.concurrency = { at_once = 1, wait_ms = '1h' }\neach_tenant.rates.per_hour = 2\n",
    );
    let mut holder = turns.execute(request("a"), Control::default());
    assert!(futures_poll(&mut holder).await.is_none());
    for _ in 0..10 {
        let mut dropped = turns.execute(request("a"), Control::default());
        assert!(futures_poll(&mut dropped).await.is_none(), "it waits");
    }
    for _ in 0..10 {
        let token = CancellationToken::new();
        let control = Control::default().cancellation(token.clone());
        let mut cancelled = turns.execute(request("a"), control);
        assert!(futures_poll(&mut cancelled).await.is_none(), "it waits");
        token.cancel();
        assert_eq!(cancelled.await.unwrap().status, Status::Cancelled);
    }
    assert_eq!(holder.await.unwrap().status, Status::Success);
    assert_eq!(run(&turns, "a").await.status, Status::Success);
    assert_eq!(
        rejection(&run(&turns, "a").await),
        Some(Rejection::Rate),
        "of two none is left"
    );
}

/// Polls once.
async fn futures_poll<T>(future: &mut BoxFuture<'_, T>) -> Option<T> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(ended) => Some(ended),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_changed_bound_holds_for_those_that_wait() {
    let (slow, turns, policy) = turns("general.concurrency = { at_once = 1, wait_ms = \"1h\" }");
    let mut all = JoinSet::new();
    for _ in 0..20 {
        let turns = Arc::clone(&turns);
        all.spawn(async move { run(&turns, "a").await });
    }
    tokio::time::sleep(TAKES * 2 + TAKES / 2).await;
    assert_eq!(slow.most.load(Ordering::Relaxed), 1);
    policy.set(Some("general.concurrency.at_once = 4".parse().unwrap()));
    all.join_all().await;
    assert_eq!(slow.most.load(Ordering::Relaxed), 4);
    policy.set(None);
    let results = {
        let mut all = JoinSet::new();
        for _ in 0..20 {
            let turns = Arc::clone(&turns);
            all.spawn(async move { run(&turns, "a").await });
        }
        all.join_all().await
    };
    assert_eq!(results.len(), 20);
    assert_eq!(slow.most.load(Ordering::Relaxed), 20);
}

#[tokio::test(start_paused = true)]
async fn waiting_is_reported_and_the_shortest_patience_holds() {
    let (_, turns, _) = turns(
        r#"
        general.concurrency = { at_once = 1, wait_ms = "1min" }
        tenants.hasty.concurrency.wait_ms = 5
        "#,
    );
    let (first, second, hasty) =
        tokio::join!(run(&turns, "a"), run(&turns, "a"), run(&turns, "hasty"));
    assert_eq!(first.usage.waiting_time, Duration::ZERO);
    assert_eq!(second.usage.waiting_time, TAKES);
    assert_eq!(rejection(&hasty), Some(Rejection::WaitedTooLong));
    assert!(hasty.usage.waiting_time >= Duration::from_millis(5));
    let failure = hasty.failure.unwrap();
    assert!(failure.message.contains("for 5 ms"), "{failure}");
}

/// Nobody sends anything and nothing ends: a bound that is raised lets go whoever waits for it.
#[tokio::test(start_paused = true)]
async fn who_waits_hears_of_a_bound_that_is_raised() {
    let (slow, turns, policy) = turns("general.concurrency = { at_once = 1, wait_ms = \"1h\" }");
    let mut first = turns.execute(request("a"), Control::default());
    let mut second = turns.execute(request("a"), Control::default());
    for one in [&mut first, &mut second] {
        assert!(futures_poll(one).await.is_none());
    }
    assert_eq!(slow.running.load(Ordering::Relaxed), 1);
    policy.set(Some("general.concurrency.at_once = 2".parse().unwrap()));
    assert!(futures_poll(&mut second).await.is_none());
    assert_eq!(slow.running.load(Ordering::Relaxed), 2);
}

/// There from the second look on.
#[derive(Default)]
struct Late {
    slow: Slow,
    looks: AtomicU32,
}

impl Execute for Late {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        self.slow.execute(request, control)
    }

    fn ready<'a>(&'a self, _: &'a ExecutionRequest) -> BoxFuture<'a, Result<(), Failure>> {
        let first = self.looks.fetch_add(1, Ordering::Relaxed) == 0;
        let missing = || Failure::new(Cause::NotLoaded, "it cannot be compiled");
        Box::pin(std::future::ready(if first {
            Err(missing())
        } else {
            Ok(())
        }))
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.slow.resolve(request)
    }
}

/// What the outermost guard does not find ends there, with the reason: those further in neither look again
/// nor let it run without its bounds.
#[tokio::test(start_paused = true)]
async fn what_is_not_found_at_first_does_not_run() {
    let late = Arc::new(Late::default());
    let policy = CurrentPolicy::new(Some(
        "general.ceilings.fuel = 10\ngeneral.concurrency.at_once = 1\neach_skill.breaker = {}\n\
         [[approval.rules]]\naction = 'allow'\n"
            .parse()
            .unwrap(),
    ));
    let guarded = super::Guards::new(policy).around(late.clone());
    let result = guarded.execute(request("a"), Control::default()).await;
    let failure = result.unwrap().failure.unwrap();
    assert_eq!(failure.message, "it cannot be compiled");
    assert_eq!(late.looks.load(Ordering::Relaxed), 1);
    assert_eq!(late.slow.done.load(Ordering::Relaxed), 0);
    let result = guarded.execute(request("a"), Control::default()).await;
    assert_eq!(result.unwrap().limits.fuel, 10);
}
