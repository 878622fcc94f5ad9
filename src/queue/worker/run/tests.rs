//! Jobs that a worker has by the store's account and not by its own.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::queue::engine::claim::Wanted;
use crate::queue::handle::answered;
use crate::queue::operation::Operation;
use crate::queue::{JobStatus, NewJob, Queue, RetryPolicy, Task, Worker};

/// How long anything may take: long, for machines that have other things to do.
const LONG: Duration = Duration::from_secs(60);

/// Claims a job in a worker's name, whom nobody tells: as if the answer to its claim were lost.
async fn claimed_unheard(queue: &Queue, worker: Uuid) -> Uuid {
    let wanted = Wanted {
        worker,
        lease: 60_000_000,
        most: 1,
        ..Wanted::default()
    };
    let (reply, answer) = oneshot::channel();
    queue.inner.store.send(Operation::Claim(wanted, reply));
    let claimed = answered(answer).await.expect("it can be claimed");
    assert_eq!(claimed.rows.len(), 1);
    claimed.rows[0].row.id
}

#[tokio::test]
async fn a_job_that_its_worker_does_not_know_of_is_taken_from_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let queue = Queue::open(folder.path().join("queue.db")).expect("it opens");
    let at_once = RetryPolicy {
        base_ms: 3_600_000,
        ..RetryPolicy::attempts(2)
    };
    let wait = Arc::new(Notify::new());
    let waiting = wait.clone();
    // It has room for one, and is busy with that.
    let worker = Worker::builder(queue.clone())
        .concurrency(1)
        .lease(Duration::from_secs(1))
        .handler("wait", move |_: Task| {
            let waiting = waiting.clone();
            async move {
                waiting.notified().await;
                Ok(Value::Null)
            }
        })
        .build();
    let (stop, stopped) = oneshot::channel::<()>();
    let working = tokio::spawn(worker.run(async {
        let _ = stopped.await;
    }));
    let busy = NewJob::custom("wait", Value::Null);
    let busy = queue.submit(busy).await.expect("it is accepted").id;
    let identity = tokio::time::timeout(LONG, async {
        let mut events = queue.subscribe(0);
        loop {
            events.next().await.expect("events");
            if let Some(worker) = queue.job(busy).await.expect("it is there").worker {
                return worker;
            }
        }
    });
    let identity = identity.await.expect("it starts");
    let other = NewJob::custom("other", Value::Null).retry(at_once);
    let other = queue.submit(other).await.expect("it is accepted").id;
    assert_eq!(claimed_unheard(&queue, identity).await, other);
    // The worker lives, renews its lease, and finds out.
    let taken = tokio::time::timeout(LONG, async {
        let mut events = queue.subscribe(0);
        loop {
            events.next().await.expect("events");
            let job = queue.job(other).await.expect("it is there");
            if job.status != JobStatus::Running {
                return job;
            }
        }
    });
    let taken = taken.await.expect("it is taken");
    assert_eq!(taken.status, JobStatus::Failed);
    assert_eq!(taken.cause.as_deref(), Some("worker_lost"));
    // What it knows of stays its own.
    let job = queue.job(busy).await.expect("it is there");
    assert_eq!(
        (job.status, job.worker),
        (JobStatus::Running, Some(identity))
    );
    wait.notify_one();
    let _ = stop.send(());
    let done = working.await.expect("it does not panic").expect("it works");
    assert_eq!(done.completed, 1);
}
