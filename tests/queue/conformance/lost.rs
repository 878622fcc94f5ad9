//! What is known of an attempt that nobody settled, and what a worker that was thought dead still says.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skillhost::execution::{Progress, SkillIdentity};
use skillhost::grant::Grants;
use skillhost::queue::{JobEventKind, JobStatus, Maintenance, NewJob, Replay, Work};
use skillhost::{Cause, Control, Event, Execute, ExecutionRequest, ExecutionResult, Failure};
use skillhost::{HostError, Limits, Resolution};
use tokio::sync::{Notify, mpsc};

use super::cases;
use crate::place::{BoxFuture, Gate, Place, Scripted, Working, answer, at_once, scripted};

cases![
    what_ran_is_known_of_a_lost_attempt,
    what_ran_is_known_of_an_attempt_that_was_given_back,
    a_worker_that_was_thought_dead_tells_of_no_progress,
    a_worker_that_was_thought_dead_marks_nothing_and_runs_nothing,
];

const LEASE: Duration = Duration::from_secs(3_600);
const DIGEST: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";

/// Takes from dead workers what they had.
async fn rescue(place: &Place) {
    place.submit(NewJob::maintenance(Maintenance::Rescue)).await;
    place.work(place.worker().queues(["default"])).await;
}

/// The worker is alive, and its lease is over. It renews it once as it starts, which may be after the
/// clock went on.
async fn take_from_it(place: &Place, id: uuid::Uuid) {
    while place.status(id).await == JobStatus::Running {
        place.clock.advance(LEASE);
        rescue(place).await;
    }
}

fn execution() -> NewJob {
    let request = ExecutionRequest::new("some", json!({})).tool("work");
    NewJob::execution(request).queue("gate")
}

fn not_loaded(request: &ExecutionRequest) -> Result<Resolution, Failure> {
    let message = format!("no skill `{}` is loaded", request.skill);
    Err(Failure::new(Cause::NotLoaded, message))
}

/// Is admitted, says how far it has come, and runs until it is cancelled.
struct Admitted;

impl Execute for Admitted {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        Box::pin(async move {
            let skill = SkillIdentity {
                name: "some".to_owned(),
                version: "1.0.0".to_owned(),
                digest: DIGEST.parse().expect("it is a digest"),
            };
            let limits = Limits {
                fuel: 12_345,
                ..Limits::default()
            };
            let mut grants = Grants::default();
            grants.environment.insert("NAME".into(), "hidden".into());
            let observer = control.observer.expect("a worker listens");
            let admitted = Event::Admitted {
                skill: &skill,
                tool: "work",
                limits: &limits,
                grants: &grants,
            };
            observer.observe(request.request_id, &admitted);
            let progress = Progress {
                percent: Some(10.0),
                step: "begun".into(),
                details: None,
            };
            observer.observe(request.request_id, &Event::Progress(progress));
            let token = control.cancellation.expect("a worker can cancel");
            token.cancelled().await;
            let cause = json!({"kind": "cancelled", "phase": "run"});
            let mut result = answer(&request, &cause);
            result.usage.wall_time = Duration::from_millis(1);
            result.limits = limits;
            result.skill = Some(skill.into());
            Ok(result)
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        not_loaded(request)
    }
}

async fn what_ran_is_known_of_a_lost_attempt(place: Place) {
    let id = place.submit(execution().retry(at_once(1))).await;
    let worker = place.worker().lease(LEASE).queues(["gate"]);
    let dying = Working::start(worker.execute(Arc::new(Admitted)));
    // What runs is written down with it.
    place.until(id, JobEventKind::Progress).await;
    dying.die(&place.queue).await;
    place.clock.advance(LEASE);
    rescue(&place).await;
    let letter = place.queue.dead_letter(id).await.expect("it is dead");
    assert_eq!(letter.job.cause.as_deref(), Some("worker_lost"));
    let error = letter
        .job
        .error
        .as_deref()
        .expect("it says what went wrong");
    assert!(error.contains("its worker died"), "{error}");
    let details = &letter.attempts[0].details;
    assert_eq!(details["skill"]["digest"], DIGEST, "{details}");
    assert_eq!(details["skill"]["version"], "1.0.0");
    assert_eq!(details["tool"], "work");
    assert_eq!(details["limits"]["fuel"], 12_345);
    assert!(details["grants"]["environment"]["NAME"].is_string());
    assert!(!details.to_string().contains("hidden"), "{details}");
    let ran = letter.ran().expect("something ran");
    assert_eq!((ran.0.as_str(), ran.1.to_string()), ("some", DIGEST.into()));
    // The same once more is what ran, and not what goes by the name now.
    let replayed = place.queue.replay(id, &Replay::default()).await.unwrap();
    let Work::Execution { request } = place.job(replayed.id).await.submitted.work else {
        panic!("it executes");
    };
    assert_eq!(request.skill.to_string(), DIGEST);
}

async fn what_ran_is_known_of_an_attempt_that_was_given_back(place: Place) {
    let id = place.submit(execution()).await;
    let worker = place.worker().grace(Duration::ZERO).queues(["gate"]);
    let working = Working::start(worker.execute(Arc::new(Admitted)));
    place.until(id, JobEventKind::Progress).await;
    working.stop().await.unwrap();
    let attempts = place.attempts(id).await;
    assert_eq!(attempts[0].status, "released");
    let details = &attempts[0].details;
    assert_eq!(details["skill"]["digest"], DIGEST, "{details}");
    assert_eq!(details["limits"]["fuel"], 12_345);
    assert!(details["usage"].is_object(), "{details}");
    assert!(details["grants"].is_object(), "{details}");
    assert_eq!(details["failure"]["message"], "given back: shutdown");
}

async fn a_worker_that_was_thought_dead_tells_of_no_progress(place: Place) {
    let (mut stale, mut fresh) = (Gate::new(), Gate::new());
    let job = NewJob::custom("gate", Value::Null).queue("gate");
    let id = place.submit(job.retry(at_once(3))).await;
    // They have room for no more, so that they do not ask for any and are not heard of.
    let worker = || place.worker().queues(["gate"]).concurrency(1).lease(LEASE);
    let slow = Working::start(worker().handler("gate", stale.deaf()));
    let (old, old_pass) = stale.next().await;
    take_from_it(&place, id).await;
    let other = Working::start(worker().handler("gate", fresh.deaf()));
    let (new, new_pass) = fresh.next().await;
    assert_eq!((new.job, new.attempt), (id, 2));
    old.progress(99.0, "stale");
    // Each is written down within a fifth of a second, and so is, or is not, what the other says.
    for step in ["one", "two", "three"] {
        new.progress(1.0, step);
        old.progress(99.0, "stale");
        let mut events = place.queue.subscribe(0);
        let is_it = |event: &skillhost::queue::JobEvent| event.data["step"] == *step;
        while !events.next().await.unwrap().events.iter().any(is_it) {}
    }
    let said: Vec<Value> = place
        .events()
        .await
        .into_iter()
        .filter(|event| event.job == id && event.kind == JobEventKind::Progress)
        .map(|event| event.data["step"].clone())
        .collect();
    assert_eq!(said, ["one", "two", "three"]);
    let kept = place.queue.progress(id).await.unwrap().expect("it is kept");
    assert_eq!(kept["step"], "three");
    old_pass.send(Ok(Value::Null)).unwrap();
    new_pass.send(Ok(Value::Null)).unwrap();
    assert_eq!(slow.stop().await.unwrap().completed, 0);
    other.stop().await.unwrap();
    let attempts = place.attempts(id).await;
    assert_eq!(place.status(id).await, JobStatus::Completed, "{attempts:?}");
}

/// Takes long to be made ready; destructive.
struct Slow {
    asked: mpsc::UnboundedSender<()>,
    go_on: Notify,
    ran: mpsc::UnboundedSender<()>,
}

impl Execute for Slow {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        _: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        let _ = self.ran.send(());
        Box::pin(std::future::ready(Ok(answer(&request, &Value::Null))))
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        not_loaded(request)
    }

    fn ready<'a>(&'a self, _: &'a ExecutionRequest) -> BoxFuture<'a, Result<(), Failure>> {
        let _ = self.asked.send(());
        Box::pin(async move {
            self.go_on.notified().await;
            Ok(())
        })
    }

    fn is_destructive(&self, _: &ExecutionRequest) -> bool {
        true
    }
}

async fn a_worker_that_was_thought_dead_marks_nothing_and_runs_nothing(place: Place) {
    let id = place.submit(execution().retry(at_once(3))).await;
    let (asked, mut asks) = mpsc::unbounded_channel();
    let (ran, mut runs) = mpsc::unbounded_channel();
    let execute = Arc::new(Slow {
        asked,
        go_on: Notify::new(),
        ran,
    });
    let worker = || place.worker().queues(["gate"]).concurrency(1).lease(LEASE);
    let slow = Working::start(worker().execute(execute.clone()));
    asks.recv().await.expect("it asks");
    take_from_it(&place, id).await;
    // Another has it, whose tool does no harm twice.
    let other = Working::start(worker().execute(Arc::new(Admitted)));
    place.until(id, JobEventKind::Progress).await;
    execute.go_on.notify_one();
    assert_eq!(slow.stop().await.unwrap().completed, 0);
    assert!(runs.try_recv().is_err(), "it ran what is not its own");
    other.die(&place.queue).await;
    place.clock.advance(LEASE);
    rescue(&place).await;
    // Had it been marked, it would be dead.
    assert_eq!(place.status(id).await, JobStatus::Failed);
    let done = place
        .work(
            place
                .worker()
                .handler("gate", scripted)
                .execute(Arc::new(Scripted::new([Ok(Value::Null)]))),
        )
        .await;
    assert_eq!(done.completed, 1);
}
