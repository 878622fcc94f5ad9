//! What may run at once, and how often.

use std::time::Duration;

use skillhost::queue::{Bounds, JobStatus, NewJob, QueueError, ScopeKind};

use super::cases;
use crate::place::{Gate, Place, Working, good};

cases![
    a_bound_on_concurrency_holds_over_all_workers,
    a_bound_on_the_rate_holds_over_all_workers,
    what_is_paused_does_not_start_until_it_goes_on,
    tenants_whose_jobs_wait_for_something_else_are_in_nobodys_way,
    a_bound_that_makes_no_sense_is_refused,
    a_clock_that_was_set_back_shuts_nobody_out,
];

/// A bound on each kind of scope, and a job within it.
fn scopes() -> [(ScopeKind, &'static str, NewJob); 3] {
    [
        (ScopeKind::Queue, "bounded", good().queue("bounded")),
        (ScopeKind::Tenant, "acme", good().tenant("acme")),
        (ScopeKind::Skill, "work", good()),
    ]
}

fn copies(job: &NewJob, count: usize) -> Vec<NewJob> {
    let copy = || NewJob {
        id: uuid::Uuid::now_v7(),
        ..job.clone()
    };
    (0..count).map(|_| copy()).collect()
}

async fn completed(place: &Place) -> u64 {
    let statistics = place.queue.statistics(1).await.unwrap();
    statistics.by_status[&JobStatus::Completed]
}

async fn a_bound_on_concurrency_holds_over_all_workers(place: Place) {
    for (kind, name, job) in scopes() {
        let mut bounds = Bounds {
            concurrency: Some(Some(2)),
            ..Bounds::default()
        };
        place.queue.set_bounds(kind, name, bounds).await.unwrap();
        let mut gate = Gate::new();
        let submitted = place.queue.submit_all(copies(&job, 7)).await.unwrap();
        let workers = [place.another().await, place.another().await].map(|queue| {
            let worker = skillhost::queue::Worker::builder(queue).concurrency(8);
            Working::start(worker.handler("work", gate.handler()))
        });
        for _ in 0..3 {
            let passes = [gate.next().await.1, gate.next().await.1];
            let running = place.queue.statistics(1).await.unwrap().by_status[&JobStatus::Running];
            assert_eq!(running, 2, "{kind}");
            assert!(gate.try_next().is_none(), "{kind}");
            for pass in passes {
                pass.send(Ok(serde_json::Value::Null)).unwrap();
            }
        }
        gate.next()
            .await
            .1
            .send(Ok(serde_json::Value::Null))
            .unwrap();
        for one in submitted {
            let ended = place.queue.wait(one.id).await.unwrap();
            assert_eq!(ended.status, JobStatus::Completed);
        }
        for worker in workers {
            worker.stop().await.unwrap();
        }
        bounds.concurrency = Some(None);
        place.queue.set_bounds(kind, name, bounds).await.unwrap();
    }
}

async fn a_bound_on_the_rate_holds_over_all_workers(place: Place) {
    for (kind, name, job) in scopes() {
        let mut bounds = Bounds {
            rate: Some(Some((3, Duration::from_secs(30)))),
            ..Bounds::default()
        };
        place.queue.set_bounds(kind, name, bounds).await.unwrap();
        let before = completed(&place).await;
        place.queue.submit_all(copies(&job, 8)).await.unwrap();
        let done = async || {
            place.work(place.worker()).await;
            place.work(place.worker()).await;
            completed(&place).await - before
        };
        assert_eq!(done().await, 3, "{kind}");
        place.clock.advance(Duration::from_secs(9));
        assert_eq!(done().await, 3, "{kind}");
        place.clock.advance(Duration::from_secs(1));
        assert_eq!(done().await, 4, "{kind}");
        place.clock.advance(Duration::from_secs(600));
        assert_eq!(done().await, 7, "{kind}");
        bounds.rate = Some(None);
        place.queue.set_bounds(kind, name, bounds).await.unwrap();
        assert_eq!(done().await, 8, "{kind}");
    }
}

async fn what_is_paused_does_not_start_until_it_goes_on(place: Place) {
    for (kind, name, job) in scopes() {
        place.queue.pause_all(kind, name, true).await.unwrap();
        let id = place.submit(job).await;
        place.work(place.worker()).await;
        assert_eq!(place.status(id).await, JobStatus::Pending, "{kind}");
        let scopes = place.queue.scopes(kind).await.unwrap();
        let info = scopes.iter().find(|scope| scope.name == name).unwrap();
        assert!(info.paused);
        place.queue.pause_all(kind, name, false).await.unwrap();
        place.work(place.worker()).await;
        assert_eq!(place.status(id).await, JobStatus::Completed, "{kind}");
    }
}

async fn tenants_whose_jobs_wait_for_something_else_are_in_nobodys_way(place: Place) {
    let jobs: Vec<NewJob> = (0..200)
        .map(|number| good().tenant(format!("tenant-{number:03}")))
        .collect();
    let submitted = place.queue.submit_all(jobs).await.unwrap();
    let ids: Vec<uuid::Uuid> = submitted.iter().map(|one| one.id).collect();
    let (paused, rest) = ids.split_at(100);
    let (cancelled, full) = rest.split_at(50);
    place.queue.pause(paused).await.unwrap();
    place.queue.cancel(cancelled).await.unwrap();
    place
        .queue
        .snooze(full, place.queue.now() + chrono::Duration::days(1))
        .await
        .unwrap();
    let last = place.submit(good().tenant("zzz")).await;
    place.work(place.worker()).await;
    assert_eq!(place.status(last).await, JobStatus::Completed);
    place.queue.resume(paused).await.unwrap();
    place.work(place.worker()).await;
    assert_eq!(completed(&place).await, 101);
}

async fn a_bound_that_makes_no_sense_is_refused(place: Place) {
    for bounds in [
        Bounds {
            concurrency: Some(Some(0)),
            ..Bounds::default()
        },
        Bounds {
            weight: Some(0),
            ..Bounds::default()
        },
        Bounds {
            rate: Some(Some((0, Duration::from_secs(1)))),
            ..Bounds::default()
        },
        Bounds {
            rate: Some(Some((1, Duration::MAX))),
            ..Bounds::default()
        },
    ] {
        let refused = place
            .queue
            .set_bounds(ScopeKind::Queue, "default", bounds)
            .await;
        assert!(matches!(refused, Err(QueueError::Invalid(_))));
    }
}

async fn a_clock_that_was_set_back_shuts_nobody_out(place: Place) {
    for (kind, name, job) in scopes() {
        let bounds = Bounds {
            rate: Some(Some((1, Duration::from_secs(30)))),
            ..Bounds::default()
        };
        place.queue.set_bounds(kind, name, bounds).await.unwrap();
        let before = completed(&place).await;
        place.queue.submit_all(copies(&job, 2)).await.unwrap();
        let done = async || {
            place.work(place.worker()).await;
            place.work(place.worker()).await;
            completed(&place).await - before
        };
        assert_eq!(done().await, 1, "{kind}");
        place.clock.set_back(Duration::from_secs(86_400));
        // They were due by the clock as it was.
        let due: Vec<_> = place.queue.list(&Default::default()).await.unwrap().items;
        for job in due.iter().filter(|job| job.status == JobStatus::Pending) {
            let now = place.queue.now();
            place.queue.snooze(&[job.id], now).await.unwrap();
        }
        assert_eq!(done().await, 1, "{kind}");
        place.clock.advance(Duration::from_secs(30));
        assert_eq!(done().await, 2, "{kind}");
        let unbounded = Bounds {
            rate: Some(None),
            ..Bounds::default()
        };
        place.queue.set_bounds(kind, name, unbounded).await.unwrap();
        place.clock.advance(Duration::from_secs(86_400));
    }
}
