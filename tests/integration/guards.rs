//! What the policy puts around an execution, with real guests behind it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use skillhost::breaker::CircuitState;
use skillhost::execution::{Clamped, Event, Observer, Rejection};
use skillhost::policy::guard::{CircuitSubject, Guards};
use skillhost::{
    Cause, Control, Execute, ExecutionRequest, ExecutionResult, Host, Limit, LimitOverrides,
    Limits, Status,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::harness::{Record, builder, cause, check_result, request};

const MIB: u64 = 1 << 20;

/// A host with all guards around it, under this policy.
fn guarded(policy: &str) -> (Host, Arc<dyn Execute>) {
    let host = builder()
        .policy(policy.parse().expect("it is a policy"))
        .build()
        .expect("a host can be set up");
    let guards = Guards::new(host.current_policy().clone());
    let all = guards.around(Arc::new(host.clone()));
    (host, all)
}

async fn execute(all: &Arc<dyn Execute>, request: ExecutionRequest) -> ExecutionResult {
    let result = all.execute(request, Control::default()).await;
    let result = result.expect("the host is well");
    check_result(&result);
    result
}

/// Runs one of the behaviours for a tenant.
async fn run(
    (host, all): &(Host, Arc<dyn Execute>),
    tenant: &str,
    tool: &str,
    input: Value,
) -> ExecutionResult {
    execute(all, request(host, tool, input).await.tenant(tenant)).await
}

/// Why it was rejected, by which rule, and how long from now it is until another try may help.
#[track_caller]
fn rejection(result: &ExecutionResult) -> (Rejection, String, Option<Duration>) {
    let Cause::Rejected { reason, retry_at } = cause(result) else {
        panic!("not rejected: {result:?}");
    };
    assert_eq!(result.status, Status::Rejected);
    let rule = result
        .failure
        .as_ref()
        .and_then(|failure| failure.rule.clone());
    let wait = retry_at.map(|at| (at - Utc::now()).to_std().unwrap_or_default());
    (*reason, rule.unwrap_or_default(), wait)
}

fn asking(memory_bytes: u64) -> LimitOverrides {
    LimitOverrides {
        memory_bytes: Some(memory_bytes),
        ..LimitOverrides::default()
    }
}

#[tokio::test]
async fn two_tenants_have_different_ceilings() {
    let (host, all) = guarded(
        r#"
        [general]
        ceilings.memory_bytes = "256MiB"
        [tenants.small]
        ceilings.memory_bytes = "8MiB"
        [tenants.strict]
        over_ceiling = "reject"
        ceilings.memory_bytes = "8MiB"
        "#,
    );
    let allocate = json!({"bytes": 20 * MIB});
    let asked = request(&host, "allocate", allocate)
        .await
        .limits(asking(64 * MIB));

    let result = execute(&all, asked.clone().tenant("large")).await;
    assert_eq!(result.status, Status::Success);
    assert_eq!(result.clamped, []);

    let admission = all.can_execute(&asked.clone().tenant("small"));
    assert!(admission.is_admitted());
    let result = execute(&all, asked.clone().tenant("small")).await;
    assert_eq!(result.status, Status::ResourceExhausted);
    assert_eq!(result.limits.memory_bytes, 8 * MIB);
    let clamped = Clamped {
        limit: Limit::Memory,
        asked: 64 * MIB,
        allowed: 8 * MIB,
        rule: "tenants.small.ceilings.memory_bytes".to_owned(),
    };
    assert_eq!(result.clamped, [clamped]);
    assert_eq!(admission.clamped, result.clamped);
    assert_eq!(admission.limits, result.limits);

    let admission = all.can_execute(&asked.clone().tenant("strict"));
    let result = execute(&all, asked.tenant("strict")).await;
    let (reason, rule, wait) = rejection(&result);
    assert_eq!(reason, Rejection::Ceiling);
    assert_eq!(rule, "tenants.strict.ceilings.memory_bytes");
    assert_eq!(wait, None);
    assert_eq!(admission.refusal, result.failure);
}

#[tokio::test]
async fn the_ceiling_of_the_host_is_told_too() {
    let ceiling = Limits {
        handles: 10,
        ..Limits::ceiling()
    };
    let host = builder().ceiling(ceiling).build().unwrap();
    let limits = LimitOverrides {
        handles: Some(20),
        ..LimitOverrides::default()
    };
    let request = request(&host, "echo", json!({})).await.limits(limits);
    let admission = host.can_execute(&request);
    let result = host.execute(request).await.unwrap();
    assert_eq!(result.status, Status::Success);
    assert_eq!(result.clamped.len(), 1);
    assert_eq!(result.clamped[0].rule, "host");
    assert_eq!(result.clamped[0].allowed, 10);
    assert_eq!(admission.clamped, result.clamped);
}

#[tokio::test]
async fn a_policy_that_is_replaced_holds_at_once() {
    let both = guarded("general.ceilings.fuel = 1000");
    let result = run(&both, "a", "allocate", json!({"bytes": MIB})).await;
    assert_eq!(result.status, Status::ResourceExhausted);
    let text = "general.ceilings.fuel = 1000000000\neach_tenant.rates.per_hour = 1";
    both.0.set_policy(Some(text.parse().unwrap()));
    let result = run(&both, "a", "allocate", json!({"bytes": MIB})).await;
    assert_eq!(result.status, Status::Success);
    let result = run(&both, "a", "echo", json!({})).await;
    assert_eq!(rejection(&result).0, Rejection::Rate);
    both.0.set_policy(None);
    let result = run(&both, "a", "echo", json!({})).await;
    assert_eq!(result.status, Status::Success);
}

#[tokio::test]
async fn a_rate_says_when_to_come_back() {
    let both = guarded(
        r#"
        each_tenant.rates.per_minute = { at_most = 6, burst = 2 }
        skills.behaviours.rates.per_hour = 5
        "#,
    );
    let echo = async |tenant: &str| run(&both, tenant, "echo", json!({})).await;
    assert_eq!(echo("a").await.status, Status::Success);
    tokio::time::pause();
    assert_eq!(echo("a").await.status, Status::Success);
    let (reason, rule, wait) = rejection(&echo("a").await);
    assert_eq!(reason, Rejection::Rate);
    assert_eq!(rule, "each_tenant.rates.per_minute");
    let wait = wait.unwrap();
    assert!(wait <= Duration::from_secs(10), "{wait:?}");
    assert_eq!(echo("b").await.status, Status::Success);
    tokio::time::advance(wait + Duration::from_millis(500)).await;
    assert_eq!(echo("a").await.status, Status::Success);
    assert_eq!(echo("b").await.status, Status::Success);
    let (_, rule, wait) = rejection(&echo("c").await);
    assert_eq!(rule, "skills.behaviours.rates.per_hour");
    assert!(wait.unwrap() > Duration::from_secs(600), "{wait:?}");
}

#[tokio::test]
async fn what_is_not_there_is_charged_to_its_tenant_and_what_finds_no_place_to_nobody() {
    let both = guarded(
        r#"
        each_tenant.rates.per_hour = 3
        each_skill.breaker = { minimum = 1 }
        [tenants.none.concurrency]
        at_once = 1
        waiting = 0
        "#,
    );
    let unknown = async |tenant: &str| {
        let request = ExecutionRequest::new("nobody", json!({})).tenant(tenant);
        execute(&both.1, request).await
    };
    for _ in 0..3 {
        assert!(matches!(cause(&unknown("a").await), Cause::NotLoaded));
    }
    let (reason, rule, _) = rejection(&unknown("a").await);
    assert_eq!(reason, Rejection::Rate);
    assert_eq!(rule, "each_tenant.rates.per_hour");
    let result = run(&both, "a", "echo", json!({})).await;
    assert_eq!(rejection(&result).0, Rejection::Rate);
    assert!(matches!(cause(&unknown("b").await), Cause::NotLoaded));

    // One runs, and takes up the only place: the others find none, and cost nothing.
    let hold = request(&both.0, "wait_for_ever", json!({})).await;
    let (record, stop) = (Record::new(), CancellationToken::new());
    let control = Control::default()
        .cancellation(stop.clone())
        .observer(record.clone());
    let holder = {
        let all = Arc::clone(&both.1);
        tokio::spawn(async move { all.execute(hold.tenant("none"), control).await })
    };
    record.wait_for("started", 1).await;
    let echo = async || run(&both, "none", "echo", json!({})).await;
    for _ in 0..10 {
        assert_eq!(rejection(&echo().await).0, Rejection::QueueFull);
    }
    stop.cancel();
    holder.await.unwrap().unwrap();
    // A tenant with three opens the circuit with the first.
    let result = run(&both, "none", "panic", json!({})).await;
    assert_eq!(result.status, Status::Failed);
    for _ in 0..10 {
        assert_eq!(rejection(&echo().await).0, Rejection::CircuitOpen);
    }
    both.0.set_policy(Some(
        "each_tenant.rates.per_hour = 3".parse().expect("a policy"),
    ));
    assert_eq!(echo().await.status, Status::Success, "one of three is left");
    assert_eq!(rejection(&echo().await).0, Rejection::Rate);
}

#[tokio::test]
async fn one_waits_for_another_and_is_told_how_long() {
    let both = guarded("general.concurrency = { at_once = 1, wait_ms = \"1min\" }");
    let (host, all) = (&both.0, &both.1);
    let first = request(host, "wait_for_ever", json!({})).await;
    let second = request(host, "echo", json!({})).await;
    let (record, token) = (Record::new(), CancellationToken::new());
    let control = Control::default()
        .cancellation(token.clone())
        .observer(record.clone());
    let first = {
        let all = Arc::clone(all);
        tokio::spawn(async move { all.execute(first, control).await })
    };
    record.wait_for("started", 1).await;
    let waiting = {
        let all = Arc::clone(all);
        tokio::spawn(async move { all.execute(second, Control::default()).await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    token.cancel();
    assert_eq!(first.await.unwrap().unwrap().status, Status::Cancelled);
    let result = waiting.await.unwrap().unwrap();
    check_result(&result);
    assert_eq!(result.status, Status::Success);
    assert!(result.usage.waiting_time >= Duration::from_millis(10));
}

#[tokio::test]
async fn who_waits_can_be_cancelled_dropped_or_too_late_and_leaves_its_place() {
    let both = guarded("general.concurrency = { at_once = 1, waiting = 1, wait_ms = \"1h\" }");
    let (host, all) = (&both.0, &both.1);
    let echo = request(host, "echo", json!({})).await;
    let hold = request(host, "wait_for_ever", json!({})).await;
    let (record, stop) = (Record::new(), CancellationToken::new());
    let control = Control::default()
        .cancellation(stop.clone())
        .observer(record.clone());
    let holder = {
        let all = Arc::clone(all);
        tokio::spawn(async move { all.execute(hold, control).await })
    };
    record.wait_for("started", 1).await;

    // Cancelled.
    let token = CancellationToken::new();
    let control = Control::default().cancellation(token.clone());
    let waiting = all.execute(echo.clone(), control);
    let (cancelled, full) = tokio::join!(waiting, async {
        let full = execute(all, echo.clone()).await;
        token.cancel();
        full
    });
    assert_eq!(cancelled.unwrap().status, Status::Cancelled);
    let (reason, rule, wait) = rejection(&full);
    assert_eq!(reason, Rejection::QueueFull);
    assert_eq!(rule, "general.concurrency.waiting");
    assert!(wait.is_some());

    // Dropped.
    let dropped = all.execute(echo.clone(), Control::default());
    let dropped = tokio::time::timeout(Duration::from_millis(5), dropped).await;
    assert!(dropped.is_err());

    // Its own deadline.
    let deadline = Utc::now() + Duration::from_millis(10);
    let late = execute(all, echo.clone().deadline(deadline)).await;
    assert_eq!(late.status, Status::Timeout);

    // As long as one may.
    let shorter = "general.concurrency = { at_once = 1, waiting = 1, wait_ms = 50 }";
    host.set_policy(Some(shorter.parse().unwrap()));
    let result = execute(all, echo.clone()).await;
    let (reason, _, wait) = rejection(&result);
    assert_eq!(reason, Rejection::WaitedTooLong);
    assert!(wait.is_some());
    assert!(result.usage.waiting_time >= Duration::from_millis(50));

    // None of them is in the way.
    stop.cancel();
    holder.await.unwrap().unwrap();
    let result = execute(all, echo).await;
    assert_eq!(result.status, Status::Success);
    assert_eq!(result.usage.waiting_time, Duration::ZERO);
}

#[tokio::test]
async fn a_tenant_at_its_bound_is_in_nobodys_way() {
    let both = guarded("each_tenant.concurrency = { at_once = 1, waiting = 0 }");
    let (host, all) = (&both.0, &both.1);
    let hold = request(host, "wait_for_ever", json!({})).await.tenant("a");
    let (record, stop) = (Record::new(), CancellationToken::new());
    let control = Control::default()
        .cancellation(stop.clone())
        .observer(record.clone());
    let holder = {
        let all = Arc::clone(all);
        tokio::spawn(async move { all.execute(hold, control).await })
    };
    record.wait_for("started", 1).await;
    let (reason, rule, _) = rejection(&run(&both, "a", "echo", json!({})).await);
    assert_eq!(reason, Rejection::QueueFull);
    assert_eq!(rule, "each_tenant.concurrency.waiting");
    assert_eq!(
        run(&both, "b", "echo", json!({})).await.status,
        Status::Success
    );
    stop.cancel();
    holder.await.unwrap().unwrap();
    assert_eq!(
        run(&both, "a", "echo", json!({})).await.status,
        Status::Success
    );
}

#[tokio::test]
async fn a_breaker_opens_and_recovers() {
    let both = guarded(
        "each_skill.breaker = { minimum = 3, failure_rate = 0.5, pause_ms = \"10s\", probes = 2 }",
    );
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    both.0
        .breakers()
        .watch(move |change| hears.lock().unwrap().push(change.to));
    let panic = async || run(&both, "a", "panic", json!({})).await;
    let echo = async || run(&both, "a", "echo", json!({})).await;

    // What is not the skill's fault does not count: the input, its limits, the time it was given.
    for _ in 0..5 {
        let wrong = run(&both, "a", "reject_input", json!({})).await;
        assert_eq!(wrong.status, Status::Failed);
        let request = request(&both.0, "spin", json!({}))
            .await
            .limits(LimitOverrides {
                fuel: Some(1_000_000),
                ..LimitOverrides::default()
            });
        assert_eq!(
            execute(&both.1, request).await.status,
            Status::ResourceExhausted
        );
        let request = crate::harness::request(&both.0, "spin", json!({})).await;
        let request = request.limits(LimitOverrides {
            wall_time: Some(Duration::from_millis(1)),
            ..LimitOverrides::default()
        });
        assert_eq!(execute(&both.1, request).await.status, Status::Timeout);
    }
    assert_eq!(echo().await.status, Status::Success);
    tokio::time::pause();
    assert_eq!(panic().await.status, Status::Failed);
    assert_eq!(panic().await.status, Status::Failed);
    let result = echo().await;
    let (reason, rule, wait) = rejection(&result);
    assert_eq!(reason, Rejection::CircuitOpen);
    assert_eq!(rule, "each_skill.breaker");
    let wait = wait.unwrap();
    assert!(
        wait > Duration::from_secs(9) && wait <= Duration::from_secs(15),
        "{wait:?}"
    );
    let standings = both.0.breakers().standings();
    let digest = result.skill.unwrap().digest;
    assert_eq!(standings.len(), 1);
    assert_eq!(standings[0].subject, CircuitSubject::Skill { digest });
    assert_eq!(standings[0].state, CircuitState::Open);
    let admission = both
        .1
        .can_execute(&request(&both.0, "echo", json!({})).await);
    let refusal = admission.refusal.expect("it is not admitted");
    let Cause::Rejected { retry_at, .. } = refusal.cause else {
        panic!("{refusal:?}");
    };
    let left = (retry_at.expect("it passes") - Utc::now()).to_std();
    assert!(left.is_ok_and(|left| left > Duration::from_secs(8)));

    // A bad probe, and it is open for longer.
    tokio::time::advance(wait + Duration::from_secs(1)).await;
    assert_eq!(panic().await.status, Status::Failed);
    let longer = rejection(&echo().await).2.unwrap();
    assert!(longer > Duration::from_secs(19), "{longer:?}");
    // Good ones.
    tokio::time::advance(longer + Duration::from_secs(1)).await;
    assert_eq!(echo().await.status, Status::Success);
    assert_eq!(echo().await.status, Status::Success);
    assert_eq!(both.0.breakers().standings()[0].state, CircuitState::Closed);
    use CircuitState::{Closed, HalfOpen, Open};
    assert_eq!(
        *told.lock().unwrap(),
        [Open, HalfOpen, Open, HalfOpen, Closed]
    );
}

#[tokio::test]
async fn everything_ends_with_one_event_also_where_it_is_rejected() {
    let both = guarded("general.rates.per_hour = 1");
    assert_eq!(
        run(&both, "a", "echo", json!({})).await.status,
        Status::Success
    );
    let record = Record::new();
    let control = Control::default().observer(record.clone());
    let asked = request(&both.0, "echo", json!({})).await;
    let result = both.1.execute(asked, control).await.unwrap();
    check_result(&result);
    assert_eq!(result.tool.as_deref(), Some("echo"));
    assert!(result.skill.is_some());
    assert_eq!(record.events(), ["finished rejected"]);
}

/// A rule is a rule, also where whoever put the guards together set nobody to ask.
#[tokio::test]
async fn what_is_asked_about_does_not_run_where_nobody_can_be_asked() {
    let both = guarded(
        "[[approval.rules]]\ntool = 'echo'\naction = 'ask'\n\
         [[approval.rules]]\ntool = 'answer'\naction = 'deny'\n",
    );
    let result = run(&both, "a", "echo", json!({})).await;
    assert_eq!(rejection(&result).0, Rejection::Approval);
    let admission = both
        .1
        .can_execute(&request(&both.0, "echo", json!({})).await);
    assert!(!admission.is_admitted());
    let answer = json!({"json": "{}"});
    let result = run(&both, "a", "answer", answer.clone()).await;
    assert_eq!(rejection(&result).0, Rejection::Refused);
    // Somebody approved it elsewhere; what is denied stays so.
    for (tool, input, status) in [
        ("echo", json!({}), Status::Success),
        ("answer", answer, Status::Rejected),
    ] {
        let request = request(&both.0, tool, input).await;
        let approved = Control::default().approved(true);
        let result = both.1.execute(request, approved).await.unwrap();
        assert_eq!(result.status, status, "{tool}: {:?}", result.failure);
    }
}

/// Whoever listens hears which rule it was that let a request run.
#[tokio::test]
async fn what_is_allowed_tells_its_rule() {
    #[derive(Default)]
    struct Rules(Mutex<Vec<String>>);
    impl Observer for Rules {
        fn observe(&self, _: Uuid, event: &Event<'_>) {
            if let Event::Allowed { rule, approval } = event {
                assert_eq!(*approval, None);
                let mut rules = self.0.lock().expect("nobody panics here");
                rules.push((*rule).to_owned());
            }
        }
    }
    let both = guarded(
        "[[approval.rules]]\ntool = 'echo'\naction = 'allow'\n\
         [[approval.rules]]\ntool = 'answer'\naction = 'ask'\n",
    );
    for (tool, input, approved, told) in [
        ("echo", json!({}), false, &["approval rule 1"][..]),
        ("answer", json!({"json": "{}"}), true, &["approval rule 2"]),
        ("allocate", json!({"bytes": 10}), false, &[]),
    ] {
        let rules = Arc::new(Rules::default());
        let control = Control::default()
            .approved(approved)
            .observer(rules.clone());
        let request = request(&both.0, tool, input).await;
        let result = both.1.execute(request, control).await.unwrap();
        assert_eq!(result.status, Status::Success, "{tool}");
        let rules = rules.0.lock().expect("nobody panics here");
        assert_eq!(*rules, told, "{tool}");
    }
}

/// A tenant that may have little time does not close a skill to the others.
#[tokio::test]
async fn a_timeout_under_a_tenants_ceiling_says_nothing_of_the_skill() {
    for bound in ["ceilings.wall_time_ms = 20", "defaults.wall_time_ms = 20"] {
        let both = guarded(&format!(
            "each_skill.breaker = {{ minimum = 1 }}\ntenants.hasty.{bound}\n"
        ));
        for _ in 0..3 {
            let result = run(&both, "hasty", "spin", json!({})).await;
            assert_eq!(result.status, Status::Timeout, "{bound}");
        }
        let result = run(&both, "other", "echo", json!({})).await;
        assert_eq!(result.status, Status::Success, "{bound}");
    }
    // What bounds everybody speaks against a skill that does not keep to it.
    let both =
        guarded("each_skill.breaker = { minimum = 1 }\ngeneral.ceilings.wall_time_ms = 20\n");
    let result = run(&both, "hasty", "spin", json!({})).await;
    assert_eq!(result.status, Status::Timeout);
    let result = run(&both, "other", "echo", json!({})).await;
    assert_eq!(rejection(&result).0, Rejection::CircuitOpen);
}
