//! People step in.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skillhost::queue::{JobEventKind, JobStatus, NewJob, Priority, Queue, QueueError, Worker};
use skillhost::{ExecutionRequest, Status};

use super::cases;
use crate::place::{Gate, Place, Scripted, Working, good};

cases![
    a_place_that_is_free_is_not_kept_from_a_job,
    a_waiting_job_is_cancelled_at_once,
    a_running_job_is_cancelled_also_from_elsewhere,
    who_cancels_and_ends_at_once_is_heard_at_once,
    what_people_did_is_kept_with_who_they_are,
    who_waits_where_nobody_works_waits_no_longer_than_the_deadline,
    a_handler_that_ends_well_all_the_same_completes_its_job,
    a_paused_job_waits_until_it_is_resumed,
    a_job_can_be_put_off,
    a_job_can_wait_for_somebodys_word,
    what_cannot_be_done_says_why,
];

async fn a_waiting_job_is_cancelled_at_once(place: Place) {
    let ids = [
        place.submit(good()).await,
        place.submit(good().delay(Duration::from_secs(60))).await,
    ];
    let answers = place.queue.cancel(&ids).await.unwrap();
    for answer in answers {
        assert_eq!(answer.unwrap(), JobStatus::Cancelled);
    }
    place.clock.advance(Duration::from_secs(61));
    assert_eq!(place.work(place.worker()).await.settled, 0);
    for id in ids {
        let job = place.queue.wait(id).await.unwrap();
        assert_eq!(job.status, JobStatus::Cancelled);
        assert_eq!(job.attempts, 0);
        assert!(job.completed_at.is_some());
    }
}

async fn a_running_job_is_cancelled_also_from_elsewhere(place: Place) {
    let mut gate = Gate::new();
    let working = Working::start(place.worker().handler("gate", gate.handler()));
    for elsewhere in [false, true] {
        let id = place.submit(NewJob::custom("gate", Value::Null)).await;
        let (task, _pass) = gate.next().await;
        assert_eq!(task.job, id);
        let other = if elsewhere {
            place.another().await
        } else {
            place.queue.clone()
        };
        assert_eq!(
            *other.cancel(&[id]).await.unwrap()[0].as_ref().unwrap(),
            JobStatus::Running
        );
        let job = other.wait(id).await.unwrap();
        assert_eq!(job.status, JobStatus::Cancelled);
        let attempts = place.attempts(id).await;
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0].status, "cancelled");
        place.until(id, JobEventKind::CancelRequested).await;
    }
    working.stop().await.unwrap();
}

/// By the times that are written down, of several: most are heard long before anybody would look by
/// themselves.
async fn who_cancels_and_ends_at_once_is_heard_at_once(place: Place) {
    // With the true time.
    let queue = place.database.open(Queue::builder()).await;
    let mut gate = Gate::new();
    let worker = Worker::builder(queue.clone()).handler("gate", gate.handler());
    let working = Working::start(worker);
    let mut took = Vec::new();
    for _ in 0..11 {
        let job = NewJob::custom("gate", Value::Null);
        let id = queue.submit(job).await.unwrap().id;
        let (task, _pass) = gate.next().await;
        assert_eq!(task.job, id);
        // As a process would that does this, and nothing else.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime can be made");
                runtime.block_on(async {
                    let short = place.database.open(Queue::builder()).await;
                    let told = short.cancel(&[id]).await.expect("it can be written");
                    assert!(told[0].is_ok(), "{told:?}");
                });
                runtime.shutdown_background();
            });
        });
        queue.wait(id).await.unwrap();
        let history = queue.history(id).await.unwrap();
        let at = |kind| {
            let event = history.iter().find(|event| event.kind == kind);
            event.expect("it happened").at
        };
        took.push(at(JobEventKind::Cancelled) - at(JobEventKind::CancelRequested));
    }
    working.stop().await.unwrap();
    took.sort();
    let median = took[took.len() / 2];
    assert!(median < chrono::TimeDelta::milliseconds(100), "{took:?}");
}

async fn what_people_did_is_kept_with_who_they_are(place: Place) {
    let id = place.submit(good()).await;
    let (ann, bob) = (place.queue.by("ann"), place.queue.by("bob"));
    ann.pause(&[id]).await.unwrap();
    bob.resume(&[id]).await.unwrap();
    let until = place.queue.now() + chrono::Duration::seconds(30);
    bob.snooze(&[id], until).await.unwrap();
    ann.set_priority(&[id], Priority::High).await.unwrap();
    place.queue.cancel(&[id]).await.unwrap();
    let history = place.queue.history(id).await.unwrap();
    let told: Vec<(JobEventKind, Option<&str>)> = history
        .iter()
        .map(|event| (event.kind, event.data["by"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (JobEventKind::Paused, Some("ann")),
            (JobEventKind::Resumed, Some("bob")),
            (JobEventKind::Snoozed, Some("bob")),
            (JobEventKind::Reprioritized, Some("ann")),
            (JobEventKind::Cancelled, None),
        ]
    );
    assert_eq!(history[3].data["priority"], "high");
    // What workers do is no part of it.
    let other = place.submit(good()).await;
    place.work(place.worker()).await;
    assert_eq!(place.queue.history(other).await.unwrap(), []);
}

async fn who_waits_where_nobody_works_waits_no_longer_than_the_deadline(place: Place) {
    let deadline = place.queue.now() + chrono::Duration::seconds(30);
    let id = place
        .submit(NewJob {
            deadline: Some(deadline),
            ..good()
        })
        .await;
    let waiting = tokio::spawn({
        let queue = place.queue.clone();
        async move { queue.wait(id).await }
    });
    assert_eq!(place.status(id).await, JobStatus::Pending);
    place.clock.advance(Duration::from_secs(31));
    let job = waiting.await.unwrap().unwrap();
    assert_eq!(job.status, JobStatus::Dead);
    assert_eq!(job.cause.as_deref(), Some("deadline"));
    // Who comes after it has passed, too.
    assert_eq!(place.queue.wait(id).await.unwrap().status, JobStatus::Dead);
}

async fn a_handler_that_ends_well_all_the_same_completes_its_job(place: Place) {
    let mut gate = Gate::new();
    let working = Working::start(place.worker().handler("gate", gate.deaf()));
    let id = place.submit(NewJob::custom("gate", Value::Null)).await;
    let (task, pass) = gate.next().await;
    place.queue.cancel(&[id]).await.unwrap();
    task.cancellation.cancelled().await;
    pass.send(Ok(json!("done"))).unwrap();
    assert_eq!(
        place.queue.wait(id).await.unwrap().status,
        JobStatus::Completed
    );
    working.stop().await.unwrap();
}

async fn a_paused_job_waits_until_it_is_resumed(place: Place) {
    let id = place.submit(good()).await;
    let born = place
        .submit(NewJob {
            paused: true,
            ..good()
        })
        .await;
    place.queue.pause(&[id]).await.unwrap();
    place.work(place.worker()).await;
    for id in [id, born] {
        assert_eq!(place.status(id).await, JobStatus::Paused);
    }
    place.queue.resume(&[id, born]).await.unwrap();
    place.work(place.worker()).await;
    for id in [id, born] {
        assert_eq!(place.status(id).await, JobStatus::Completed);
    }
}

async fn a_job_can_be_put_off(place: Place) {
    let id = place.submit(good()).await;
    let until = place.queue.now() + chrono::Duration::seconds(30);
    place.queue.snooze(&[id], until).await.unwrap();
    assert_eq!(place.work(place.worker()).await.settled, 0);
    assert_eq!(place.job(id).await.scheduled_at, until);
    place.clock.advance(Duration::from_secs(30));
    assert_eq!(place.work(place.worker()).await.completed, 1);
}

async fn a_job_can_wait_for_somebodys_word(place: Place) {
    let approval = json!({"kind": "rejected", "reason": "approval"});
    let ask = || Scripted::new([Ok(approval.clone()), Ok(Value::Null)]);
    for (approved, status) in [(true, JobStatus::Completed), (false, JobStatus::Dead)] {
        let execute = Arc::new(ask());
        let id = place
            .submit(NewJob::execution(ExecutionRequest::new("some", json!({}))))
            .await;
        place.work(place.worker().execute(execute.clone())).await;
        let job = place.job(id).await;
        assert_eq!(job.status, JobStatus::Paused);
        assert_eq!(job.cause.as_deref(), Some("approval_needed"));
        assert_eq!(job.attempts, 0);
        let resumed = place.queue.resume(&[id]).await.unwrap();
        assert!(matches!(resumed[0], Err(QueueError::Conflict { .. })));
        // Any process can answer.
        let other = place.another().await;
        other.answer(&[id], approved, "ann").await.unwrap();
        place.work(place.worker().execute(execute.clone())).await;
        let job = place.job(id).await;
        assert_eq!(job.status, status);
        if !approved {
            assert_eq!(job.cause.as_deref(), Some("approval_refused"));
        }
        let told = execute.approved.lock().unwrap().clone();
        assert_eq!(
            told,
            if approved {
                vec![false, true]
            } else {
                vec![false]
            }
        );
        let said = place
            .events()
            .await
            .into_iter()
            .any(|event| event.job == id && event.data["by"] == json!("ann"));
        assert!(said);
    }
    let first = place.attempts(place.events().await[0].job).await;
    assert_eq!(first[0].status, Status::Rejected.as_str());
    assert!(!first[0].counted);
}

async fn what_cannot_be_done_says_why(place: Place) {
    let id = place.submit(good()).await;
    place.work(place.worker()).await;
    let queue = &place.queue;
    let now = queue.now();
    for answer in [
        queue.cancel(&[id]).await,
        queue.pause(&[id]).await,
        queue.resume(&[id]).await,
        queue.answer(&[id], true, "ann").await,
        queue.snooze(&[id], now).await,
    ] {
        let answers = answer.unwrap();
        let refused = answers[0].as_ref().unwrap_err();
        assert!(matches!(refused, QueueError::Conflict { .. }), "{refused}");
    }
    let nobody = queue.cancel(&[uuid::Uuid::nil()]).await.unwrap();
    assert!(matches!(nobody[0], Err(QueueError::NotFound(_))));
}

/// A few free places wait a little for more of them, and not for the jobs that hold the others.
async fn a_place_that_is_free_is_not_kept_from_a_job(place: Place) {
    let mut gate = Gate::new();
    let worker = place.worker().concurrency(8);
    let working = Working::start(worker.handler("gate", gate.handler()));
    let mut held = Vec::new();
    for _ in 0..8 {
        let id = place.submit(NewJob::custom("gate", Value::Null)).await;
        let (task, pass) = gate.next().await;
        assert_eq!(task.job, id);
        held.push(pass);
    }
    drop(held);
    working.stop().await.unwrap();
}
