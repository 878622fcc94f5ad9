//! Workers die, stop and come back.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skillhost::ExecutionRequest;
use skillhost::queue::{JobStatus, Maintenance, NewJob, WorkerError};

use super::cases;
use crate::place::{Gate, Place, Scripted, Working, at_once, good};

cases![
    a_dead_workers_job_is_taken_from_it_and_costs_an_attempt,
    a_worker_that_was_thought_dead_settles_nothing_and_gets_nothing,
    a_job_that_kills_its_workers_is_dead,
    whoever_works_until_nothing_is_left_takes_what_a_dead_worker_had,
    what_may_do_harm_twice_is_not_repeated_after_a_death,
    who_is_told_to_stop_hands_back_what_it_cannot_finish,
    who_is_told_to_stop_lets_others_finish,
    a_broken_host_stops_its_worker_and_costs_no_attempt,
    what_is_destructive_is_not_run_again_where_its_host_broke_meanwhile,
    a_second_start_is_another_worker,
    what_may_do_harm_twice_and_was_cut_short_is_not_given_back,
    a_skill_is_made_ready_before_it_is_asked_what_it_may_do,
    what_cannot_be_made_ready_does_not_run,
];

const LEASE: Duration = Duration::from_secs(3_600);

/// Takes from dead workers what they had.
async fn rescue(place: &Place) {
    place.submit(NewJob::maintenance(Maintenance::Rescue)).await;
    place.work(place.worker().queues(["default"])).await;
}

fn gated() -> NewJob {
    NewJob::custom("gate", Value::Null).queue("gate")
}

async fn a_dead_workers_job_is_taken_from_it_and_costs_an_attempt(place: Place) {
    let mut gate = Gate::new();
    let id = place.submit(gated().retry(at_once(3))).await;
    let dying = Working::start(place.worker().lease(LEASE).handler("gate", gate.deaf()));
    let (_, _pass) = gate.next().await;
    dying.die(&place.queue).await;
    place.clock.advance(LEASE - Duration::from_secs(1));
    rescue(&place).await;
    assert_eq!(place.status(id).await, JobStatus::Running);
    place.clock.advance(Duration::from_secs(1));
    rescue(&place).await;
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Failed, 1));
    assert_eq!(job.cause.as_deref(), Some("worker_lost"));
    place
        .work(place.worker().handler("gate", crate::place::scripted))
        .await;
    let attempts = place.attempts(id).await;
    let ends: Vec<&str> = attempts.iter().map(|one| one.status.as_str()).collect();
    assert_eq!(ends, ["worker_lost", "success"]);
    assert_ne!(attempts[0].worker, attempts[1].worker);
}

async fn a_worker_that_was_thought_dead_settles_nothing_and_gets_nothing(place: Place) {
    let mut gate = Gate::new();
    let id = place.submit(gated().retry(at_once(3))).await;
    // It has room for no more, so that it does not ask for any and is not heard of.
    let worker = place.worker().queues(["gate"]).concurrency(1);
    let slow = Working::start(worker.lease(LEASE).handler("gate", gate.deaf()));
    let (_, pass) = gate.next().await;
    // It renews its lease once as it starts, which may be after the clock went on.
    while place.status(id).await == JobStatus::Running {
        place.clock.advance(LEASE);
        rescue(&place).await;
    }
    // What it got now would be nobody's to rescue.
    let other = place.submit(good().queue("gate")).await;
    pass.send(Ok(json!("too late"))).unwrap();
    let done = slow.stop().await.unwrap();
    assert_eq!(done.completed, 0, "it was refused");
    for (id, status) in [(id, JobStatus::Failed), (other, JobStatus::Pending)] {
        assert_eq!(place.status(id).await, status);
    }
    place
        .work(place.worker().handler("gate", crate::place::scripted))
        .await;
    assert_eq!(place.status(id).await, JobStatus::Completed);
    assert_eq!(
        place.queue.result(id).await.unwrap(),
        Some(json!({"output": null}))
    );
    assert_eq!(place.attempts(id).await.len(), 2);
}

async fn a_job_that_kills_its_workers_is_dead(place: Place) {
    let mut gate = Gate::new();
    let id = place.submit(gated().retry(at_once(3))).await;
    for _ in 0..3 {
        let dying = Working::start(place.worker().lease(LEASE).handler("gate", gate.deaf()));
        let (_, _pass) = gate.next().await;
        dying.die(&place.queue).await;
        place.clock.advance(LEASE);
        rescue(&place).await;
    }
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Dead, 3));
    assert_eq!(job.cause.as_deref(), Some("worker_lost"));
}

async fn whoever_works_until_nothing_is_left_takes_what_a_dead_worker_had(place: Place) {
    let mut gate = Gate::new();
    let id = place.submit(gated().retry(at_once(3))).await;
    let dying = Working::start(place.worker().lease(LEASE).handler("gate", gate.deaf()));
    let (_, _pass) = gate.next().await;
    dying.die(&place.queue).await;
    place.clock.advance(LEASE);
    let worker = place.worker().handler("gate", crate::place::scripted);
    place.work(worker).await;
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Completed, 2));
}

async fn what_may_do_harm_twice_is_not_repeated_after_a_death(place: Place) {
    /// Never answers.
    struct Hanging(tokio::sync::mpsc::UnboundedSender<()>);
    impl skillhost::Execute for Hanging {
        fn execute<'a>(
            &'a self,
            _: ExecutionRequest,
            _: skillhost::Control,
        ) -> crate::place::BoxFuture<'a, Result<skillhost::ExecutionResult, skillhost::HostError>>
        {
            let _ = self.0.send(());
            Box::pin(std::future::pending())
        }

        fn resolve(
            &self,
            request: &ExecutionRequest,
        ) -> Result<skillhost::Resolution, skillhost::Failure> {
            let message = format!("no skill `{}` is loaded", request.skill);
            Err(skillhost::Failure::new(
                skillhost::Cause::NotLoaded,
                message,
            ))
        }

        fn is_destructive(&self, request: &ExecutionRequest) -> bool {
            request.tool.as_deref() == Some("destroy")
        }
    }
    for (tool, status) in [("destroy", JobStatus::Dead), ("look", JobStatus::Failed)] {
        let request = ExecutionRequest::new("some", json!({})).tool(tool);
        let id = place.submit(NewJob::execution(request).queue("gate")).await;
        let (sender, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        let worker = place.worker().lease(LEASE).queues(["gate"]);
        let dying = Working::start(worker.execute(Arc::new(Hanging(sender))));
        arrived.recv().await.unwrap();
        dying.die(&place.queue).await;
        place.clock.advance(LEASE);
        rescue(&place).await;
        let job = place.job(id).await;
        assert_eq!(job.status, status, "{tool}");
        assert_eq!(job.cause.as_deref(), Some("worker_lost"));
    }
}

async fn who_is_told_to_stop_hands_back_what_it_cannot_finish(place: Place) {
    let mut gate = Gate::new();
    let id = place.submit(gated().retry(at_once(1))).await;
    let worker = place
        .worker()
        .grace(Duration::ZERO)
        .handler("gate", gate.handler());
    let working = Working::start(worker);
    let (_, _pass) = gate.next().await;
    let done = working.stop().await.unwrap();
    assert_eq!((done.settled, done.released), (1, 1));
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Pending, 0));
    assert_eq!(job.cause.as_deref(), Some("shutdown"));
    assert!(!place.attempts(id).await[0].counted);
    assert_eq!(place.queue.statistics(1).await.unwrap().active_workers, 0);
}

async fn who_is_told_to_stop_lets_others_finish(place: Place) {
    let mut gate = Gate::new();
    let id = place.submit(gated()).await;
    let working = Working::start(
        place
            .worker()
            .concurrency(2)
            .handler("gate", gate.handler()),
    );
    let (task, pass) = gate.next().await;
    let stopping = tokio::spawn(working.stop());
    pass.send(Ok(json!("done"))).unwrap();
    assert_eq!(stopping.await.unwrap().unwrap().completed, 1);
    assert_eq!(place.status(id).await, JobStatus::Completed);
    assert!(!task.cancellation.is_cancelled());
    // Who hurries it does not wait.
    let id = place.submit(gated()).await;
    let worker = place.worker().grace(LEASE).handler("gate", gate.handler());
    let (hurry, hurried) = tokio::sync::oneshot::channel::<()>();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let working = tokio::spawn(worker.build().run_and_hurry(
        async {
            let _ = stopped.await;
        },
        async {
            let _ = hurried.await;
        },
    ));
    let (_, _pass) = gate.next().await;
    stop.send(()).unwrap();
    hurry.send(()).unwrap();
    assert_eq!(working.await.unwrap().unwrap().released, 1);
    assert_eq!(place.status(id).await, JobStatus::Pending);
}

async fn a_broken_host_stops_its_worker_and_costs_no_attempt(place: Place) {
    let request = ExecutionRequest::new("some", json!({}));
    let id = place.submit(NewJob::execution(request)).await;
    let broken = Arc::new(Scripted::new([Err("the engine is gone".to_owned())]));
    let ended = Working::start(place.worker().execute(broken)).ended().await;
    let Err(WorkerError::Host(message)) = ended else {
        panic!("{ended:?}");
    };
    assert!(message.contains("the engine is gone"), "{message}");
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Pending, 0));
    assert_eq!(job.cause.as_deref(), Some("host_error"));
}

async fn what_is_destructive_is_not_run_again_where_its_host_broke_meanwhile(place: Place) {
    for destructive in [true, false] {
        let request = ExecutionRequest::new("some", json!({}));
        let id = place.submit(NewJob::execution(request)).await;
        let execute = Scripted {
            lacks: true,
            destructive,
            ..Scripted::new([Err("it is no database".to_owned())])
        };
        place.work(place.worker().execute(Arc::new(execute))).await;
        let job = place.job(id).await;
        let why = &place.attempts(id).await[0].details["failure"]["message"];
        assert!(why.to_string().contains("it is no database"), "{why}");
        let told = (job.status, job.attempts, job.cause.as_deref());
        match destructive {
            true => assert_eq!(told, (JobStatus::Dead, 1, Some("cut_short"))),
            false => assert_eq!(told, (JobStatus::Pending, 0, Some("host_unavailable"))),
        }
    }
}

async fn a_second_start_is_another_worker(place: Place) {
    for _ in 0..2 {
        place.submit(good()).await;
        place.work(place.worker().name("the same")).await;
    }
    let mut workers = std::collections::BTreeSet::new();
    for event in place.events().await {
        workers.extend(place.attempts(event.job).await.iter().map(|one| one.worker));
    }
    assert_eq!(workers.len(), 2);
}

/// Runs until it is cancelled; destructive once it was made ready.
struct Cut {
    arrived: tokio::sync::mpsc::UnboundedSender<()>,
    ready: std::sync::atomic::AtomicBool,
    destructive: bool,
    /// Why it cannot be made ready.
    unready: Option<skillhost::Failure>,
}

impl Cut {
    fn new(destructive: bool) -> (Arc<Self>, tokio::sync::mpsc::UnboundedReceiver<()>) {
        let (arrived, arrivals) = tokio::sync::mpsc::unbounded_channel();
        let ready = std::sync::atomic::AtomicBool::new(false);
        let cut = Cut {
            arrived,
            ready,
            destructive,
            unready: None,
        };
        (Arc::new(cut), arrivals)
    }
}

impl skillhost::Execute for Cut {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: skillhost::Control,
    ) -> crate::place::BoxFuture<'a, Result<skillhost::ExecutionResult, skillhost::HostError>> {
        let _ = self.arrived.send(());
        Box::pin(async move {
            if let Some(token) = &control.cancellation {
                token.cancelled().await;
            }
            let cause = json!({"kind": "cancelled", "phase": "run"});
            let mut result = crate::place::answer(&request, &cause);
            result.usage.wall_time = Duration::from_millis(1);
            Ok(result)
        })
    }

    fn resolve(
        &self,
        request: &ExecutionRequest,
    ) -> Result<skillhost::Resolution, skillhost::Failure> {
        let message = format!("no skill `{}` is loaded", request.skill);
        Err(skillhost::Failure::new(
            skillhost::Cause::NotLoaded,
            message,
        ))
    }

    fn ready<'a>(
        &'a self,
        _: &'a ExecutionRequest,
    ) -> crate::place::BoxFuture<'a, Result<(), skillhost::Failure>> {
        let order = std::sync::atomic::Ordering::SeqCst;
        Box::pin(async move {
            if let Some(failure) = &self.unready {
                return Err(failure.clone());
            }
            self.ready.store(true, order);
            Ok(())
        })
    }

    fn is_destructive(&self, _: &ExecutionRequest) -> bool {
        self.destructive && self.ready.load(std::sync::atomic::Ordering::SeqCst)
    }
}

async fn what_may_do_harm_twice_and_was_cut_short_is_not_given_back(place: Place) {
    for (destructive, status, cause, attempts) in [
        (true, JobStatus::Dead, "cut_short", 1),
        (false, JobStatus::Pending, "shutdown", 0),
    ] {
        let request = ExecutionRequest::new("some", json!({}));
        let id = place.submit(NewJob::execution(request).queue("cut")).await;
        let (execute, mut arrived) = Cut::new(destructive);
        let worker = place.worker().grace(Duration::ZERO).queues(["cut"]);
        let working = Working::start(worker.execute(execute));
        arrived.recv().await.unwrap();
        working.stop().await.unwrap();
        let job = place.job(id).await;
        assert_eq!((job.status, job.attempts), (status, attempts));
        assert_eq!(job.cause.as_deref(), Some(cause));
        place.queue.cancel(&[id]).await.unwrap();
    }
}

async fn a_skill_is_made_ready_before_it_is_asked_what_it_may_do(place: Place) {
    let request = ExecutionRequest::new("some", json!({}));
    let id = place.submit(NewJob::execution(request).queue("gate")).await;
    let (execute, mut arrived) = Cut::new(true);
    let worker = place.worker().lease(LEASE).queues(["gate"]);
    let dying = Working::start(worker.execute(execute));
    arrived.recv().await.unwrap();
    dying.die(&place.queue).await;
    place.clock.advance(LEASE);
    rescue(&place).await;
    // It was written down before the first attempt that it must not be repeated.
    assert_eq!(place.status(id).await, JobStatus::Dead);
}

async fn what_cannot_be_made_ready_does_not_run(place: Place) {
    use skillhost::{Cause, Failure};
    let unready = async |cause: Cause| {
        let request = ExecutionRequest::new("some", json!({}));
        let job = NewJob::execution(request).queue("gate");
        let id = place.submit(job.retry(at_once(1))).await;
        let (sender, arrived) = tokio::sync::mpsc::unbounded_channel();
        let execute = Arc::new(Cut {
            arrived: sender,
            ready: false.into(),
            destructive: true,
            unready: Some(Failure::new(cause, "it cannot be had")),
        });
        let working = Working::start(place.worker().queues(["gate"]).execute(execute));
        (id, arrived, working)
    };
    // It waits for another worker, which may have it.
    let (id, mut arrived, working) = unready(Cause::NotLoaded).await;
    place
        .until(id, skillhost::queue::JobEventKind::Released)
        .await;
    working.stop().await.unwrap();
    assert!(arrived.try_recv().is_err());
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Pending, 0));
    assert_eq!(job.cause.as_deref(), Some("not_loaded"));
    // A host that is at fault costs no attempt.
    let (id, mut arrived, working) = unready(Cause::HostError).await;
    let ended = working.ended().await;
    assert!(matches!(ended, Err(WorkerError::Host(_))), "{ended:?}");
    assert!(arrived.try_recv().is_err());
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Pending, 0));
    assert_eq!(job.cause.as_deref(), Some("host_error"));
}
