//! What becomes of attempts that fail.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use skillhost::ExecutionRequest;
use skillhost::queue::{JobStatus, NewJob, Queue, RetryPolicy};

use super::cases;
use crate::place::{Place, Scripted, answer, at_once, good, job, nested};

cases![
    the_stored_schedule_is_what_is_waited,
    a_delay_that_is_asked_for_goes_before,
    causes_end_where_the_table_says,
    every_attempt_is_kept,
    what_has_no_attempts_left_is_dead,
    a_snooze_costs_no_attempt,
    a_policy_of_the_tool_goes_before_the_queues,
    what_may_do_harm_twice_is_not_repeated,
    a_result_that_is_too_large_is_none,
    a_deadline_passes_in_the_queue,
    who_has_no_handler_leaves_it_to_others_for_a_day,
    the_day_for_a_skill_begins_when_it_is_first_missed,
    what_is_given_back_is_counted_and_nothing_else,
    the_output_of_fire_and_forget_is_not_kept,
    what_is_nested_too_deep_is_kept_as_text_or_refused,
    attempts_can_be_set_and_nothing_else,
];

fn execution() -> NewJob {
    NewJob::execution(ExecutionRequest::new("some", json!({})).tool("one"))
}

fn answering(cause: Value) -> Arc<Scripted> {
    Arc::new(Scripted::new([Ok(cause)]))
}

async fn the_stored_schedule_is_what_is_waited(place: Place) {
    let id = place.submit(job(json!({"retry": "no", "until": 3}))).await;
    let delays = place.job(id).await.retry.delays_ms;
    for (attempts, delay) in (1..).zip(&delays[..2]) {
        place.work(place.worker()).await;
        let job = place.job(id).await;
        assert_eq!((job.status, job.attempts), (JobStatus::Failed, attempts));
        let wait = job.scheduled_at - place.queue.now();
        assert_eq!(wait.num_milliseconds(), i64::try_from(*delay).unwrap());
        place.clock.advance(Duration::from_millis(delay - 1));
        assert_eq!(place.work(place.worker()).await.settled, 0);
        place.clock.advance(Duration::from_millis(1));
    }
    place.work(place.worker()).await;
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Completed, 3));
    assert_eq!(job.retry.delays_ms, delays);
}

async fn a_delay_that_is_asked_for_goes_before(place: Place) {
    let id = place
        .submit(job(json!({"retry": "no", "after_ms": 77_000})))
        .await;
    place.work(place.worker()).await;
    let wait = place.job(id).await.scheduled_at - place.queue.now();
    assert_eq!(wait.num_milliseconds(), 77_000);
}

async fn causes_end_where_the_table_says(place: Place) {
    use JobStatus::{Cancelled, Dead, Failed, Pending};
    let limit = |limit: &str| json!({"kind": "resource_exhausted", "limit": limit, "allowed": 1});
    let table = [
        (
            json!({"kind": "skill_error", "retryable": true}),
            Failed,
            "retryable_error",
            1,
        ),
        (
            json!({"kind": "trap", "trap": "exit", "backtrace": []}),
            Failed,
            "trap",
            1,
        ),
        (
            json!({"kind": "timeout", "limit": "wall_time_ms", "allowed": 1, "phase": "run"}),
            Failed,
            "timeout",
            1,
        ),
        (json!({"kind": "host_panic"}), Failed, "host_panic", 1),
        (
            json!({"kind": "skill_error", "retryable": false}),
            Dead,
            "skill_error",
            1,
        ),
        (
            json!({"kind": "invalid_input", "pointer": ""}),
            Dead,
            "invalid_input",
            1,
        ),
        (
            json!({"kind": "unknown_tool", "available": []}),
            Dead,
            "unknown_tool",
            1,
        ),
        (
            json!({"kind": "invalid_output", "pointer": ""}),
            Dead,
            "invalid_output",
            1,
        ),
        (limit("fuel"), Dead, "fuel", 1),
        (limit("memory_bytes"), Dead, "memory_bytes", 1),
        (limit("output_bytes"), Dead, "output_bytes", 1),
        (
            json!({"kind": "rejected", "reason": "grant"}),
            Dead,
            "rejected",
            1,
        ),
        (
            json!({"kind": "timeout", "limit": "deadline", "allowed": 0, "phase": "run"}),
            Dead,
            "deadline",
            1,
        ),
        (
            json!({"kind": "rejected", "reason": "hook", "retry_at": "2199-01-01T00:00:00Z"}),
            Pending,
            "rejected",
            0,
        ),
        (json!({"kind": "not_loaded"}), Pending, "not_loaded", 0),
        (
            json!({"kind": "cancelled", "phase": "run"}),
            Cancelled,
            "",
            1,
        ),
    ];
    for (cause, status, name, attempts) in table {
        let id = place.submit(execution()).await;
        place
            .work(place.worker().execute(answering(cause.clone())))
            .await;
        let job = place.job(id).await;
        assert_eq!(job.status, status, "{cause}");
        assert_eq!(job.cause.as_deref().unwrap_or_default(), name, "{cause}");
        assert_eq!(job.attempts, attempts, "{cause}");
        let kept = place.attempts(id).await;
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].counted, attempts == 1);
        assert_eq!(kept[0].details["failure"]["kind"], cause["kind"]);
        if !status.is_terminal() {
            place.queue.cancel(&[id]).await.unwrap();
        }
    }
}

async fn every_attempt_is_kept(place: Place) {
    let id = place
        .submit(job(json!({"retry": "not yet", "until": 4})).retry(at_once(5)))
        .await;
    place.work(place.worker()).await;
    let attempts = place.attempts(id).await;
    let numbers: Vec<u32> = attempts.iter().map(|one| one.attempt).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let (last, failed) = attempts.split_last().unwrap();
    for attempt in failed {
        assert_eq!(attempt.status, "failed");
        assert_eq!(attempt.details["failure"]["message"], json!("not yet"));
        assert!(attempt.counted);
    }
    assert_eq!(last.status, "success");
    assert_eq!(
        place.queue.result(id).await.unwrap(),
        Some(json!({"output": 4}))
    );
}

async fn what_has_no_attempts_left_is_dead(place: Place) {
    let id = place
        .submit(job(json!({"retry": "no"})).retry(at_once(3)))
        .await;
    place.work(place.worker()).await;
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Dead, 3));
    assert_eq!(job.cause.as_deref(), Some("retryable_error"));
    assert!(!job.can_retry());
}

async fn a_snooze_costs_no_attempt(place: Place) {
    let id = place
        .submit(job(json!({"snooze_ms": 5_000})).retry(at_once(1)))
        .await;
    for _ in 0..3 {
        place.work(place.worker()).await;
        let job = place.job(id).await;
        assert_eq!((job.status, job.attempts), (JobStatus::Pending, 0));
        assert_eq!((job.scheduled_at - place.queue.now()).num_seconds(), 5);
        place.clock.advance(Duration::from_secs(5));
    }
    assert_eq!(place.attempts(id).await.len(), 3);
    // Also for ever.
    let for_ever = place.submit(job(json!({"snooze_ms": u64::MAX}))).await;
    place.work(place.worker()).await;
    assert_eq!(place.status(for_ever).await, JobStatus::Pending);
}

async fn a_policy_of_the_tool_goes_before_the_queues(place: Place) {
    let queue = &place.queue;
    let attempts = |count| RetryPolicy::attempts(count);
    queue
        .set_queue_retry("default", Some(&attempts(7)))
        .await
        .unwrap();
    queue
        .set_tool_retry("some", "one", Some(&attempts(2)))
        .await
        .unwrap();
    let of = async |job: NewJob| place.job(place.submit(job).await).await.max_attempts;
    assert_eq!(of(good()).await, 7);
    assert_eq!(of(good().queue("other")).await, 5);
    assert_eq!(of(execution()).await, 2);
    assert_eq!(of(execution().retry(attempts(9))).await, 9);
    queue.set_tool_retry("some", "one", None).await.unwrap();
    assert_eq!(of(execution()).await, 7);
    assert!(
        queue
            .set_queue_retry("default", Some(&attempts(0)))
            .await
            .is_err()
    );
}

async fn what_may_do_harm_twice_is_not_repeated(place: Place) {
    let trap = json!({"kind": "trap", "trap": "exit", "backtrace": []});
    let destructive = || {
        Arc::new(Scripted {
            destructive: true,
            ..Scripted::new([Ok(trap.clone())])
        })
    };
    let id = place.submit(execution()).await;
    place.work(place.worker().execute(destructive())).await;
    let job = place.job(id).await;
    assert_eq!(job.status, JobStatus::Dead);
    assert_eq!(job.cause.as_deref(), Some("trap"));
    let bold = RetryPolicy {
        destructive: true,
        ..RetryPolicy::default()
    };
    let id = place.submit(execution().retry(bold)).await;
    place.work(place.worker().execute(destructive())).await;
    assert_eq!(place.status(id).await, JobStatus::Failed);
}

async fn a_result_that_is_too_large_is_none(place: Place) {
    let builder = Queue::builder()
        .clock(place.clock.clone())
        .max_result_bytes(1_000);
    let small = place.database.open(builder).await;
    let large = place.submit(job(json!("x".repeat(1_001)))).await;
    let forgotten = job(json!("x".repeat(1_001))).mode(skillhost::queue::Mode::FireAndForget);
    let forgotten = place.submit(forgotten).await;
    let fits = place.submit(job(json!("x".repeat(900)))).await;
    let worker = skillhost::queue::Worker::builder(small);
    place
        .work(worker.handler("work", crate::place::scripted))
        .await;
    let job = place.job(large).await;
    assert_eq!(job.status, JobStatus::Dead);
    assert_eq!(job.cause.as_deref(), Some("result_too_large"));
    let forgotten = place.job(forgotten).await;
    assert_eq!(forgotten.status, JobStatus::Completed, "it keeps none");
    assert_eq!(place.queue.result(large).await.unwrap(), None);
    assert!(place.queue.result(fits).await.unwrap().is_some());
}

async fn a_deadline_passes_in_the_queue(place: Place) {
    let deadline = place.queue.now() + chrono::Duration::seconds(10);
    let waiting = place
        .submit(good().deadline(deadline).delay(Duration::from_secs(5)))
        .await;
    let ready = place.submit(good().deadline(deadline)).await;
    let paused = place.submit(good().deadline(deadline)).await;
    let failed = place
        .submit(job(json!({"retry": "no", "after_ms": 9_999})).deadline(deadline))
        .await;
    place.queue.pause(&[paused]).await.unwrap();
    place
        .queue
        .pause_all(skillhost::queue::ScopeKind::Queue, "default", true)
        .await
        .unwrap();
    place.clock.advance(Duration::from_secs(10));
    place
        .queue
        .pause_all(skillhost::queue::ScopeKind::Queue, "default", false)
        .await
        .unwrap();
    let working = crate::place::Working::start(place.worker());
    for id in [waiting, ready, paused, failed] {
        let job = place.queue.wait(id).await.unwrap();
        assert_eq!(job.status, JobStatus::Dead);
        assert_eq!(job.cause.as_deref(), Some("deadline"));
        assert_eq!(job.attempts, 0);
    }
    working.stop().await.unwrap();
    // What a worker finds so is counted and told of, though it was no attempt.
    let deadline = place.queue.now() + chrono::Duration::seconds(10);
    let late = place.submit(good().deadline(deadline)).await;
    place.clock.advance(Duration::from_secs(10));
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = told.clone();
    let worker = place.worker().on_settled(move |settled| {
        let told = (settled.job, settled.attempt, settled.ended, settled.status);
        assert_eq!(settled.skill, good().work.skill());
        hear.lock().unwrap().push(told);
    });
    let done = place.work(worker).await;
    assert_eq!((done.settled, done.died), (0, 1));
    assert_eq!(
        *told.lock().unwrap(),
        [(late, 0, "expired", JobStatus::Dead)]
    );
}

async fn who_has_no_handler_leaves_it_to_others_for_a_day(place: Place) {
    let custom = place.submit(NewJob::custom("unknown", Value::Null)).await;
    let skill = place.submit(execution()).await;
    place.work(place.worker()).await;
    for (id, cause) in [(custom, "not_loaded"), (skill, "no_host")] {
        let job = place.job(id).await;
        assert_eq!((job.status, job.attempts), (JobStatus::Pending, 0));
        assert_eq!(job.cause.as_deref(), Some(cause));
    }
    place.clock.advance(Duration::from_secs(86_399));
    place.work(place.worker()).await;
    for id in [custom, skill] {
        assert_eq!(place.status(id).await, JobStatus::Dead);
    }
    // Another worker has it.
    let id = place.submit(NewJob::custom("known", Value::Null)).await;
    place.work(place.worker()).await;
    place.clock.advance(Duration::from_secs(10));
    let knowing = place.worker().handler("known", crate::place::scripted);
    place.work(knowing).await;
    assert_eq!(place.status(id).await, JobStatus::Completed);
    // A time long ago is no reason to give it up at once.
    let long_ago = NewJob::custom("unknown", Value::Null).at(chrono::DateTime::UNIX_EPOCH);
    let id = place.submit(long_ago).await;
    place.work(place.worker()).await;
    assert_eq!(place.status(id).await, JobStatus::Pending);
}

async fn the_day_for_a_skill_begins_when_it_is_first_missed(place: Place) {
    let id = place.submit(execution()).await;
    // Nobody works over a long weekend.
    place.clock.advance(Duration::from_secs(4 * 86_400));
    place.work(place.worker()).await;
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Pending, 0));
    assert_eq!(job.cause.as_deref(), Some("no_host"));
    // Something else becomes of it, and the day begins anew.
    place.clock.advance(Duration::from_secs(86_000));
    let failing = json!({"kind": "skill_error", "retryable": true});
    place.work(place.worker().execute(answering(failing))).await;
    assert_eq!(place.status(id).await, JobStatus::Failed);
    place.clock.advance(Duration::from_secs(3_600));
    place.work(place.worker()).await;
    assert_eq!(place.status(id).await, JobStatus::Pending);
    place.clock.advance(Duration::from_secs(86_380));
    place.work(place.worker()).await;
    assert_eq!(place.status(id).await, JobStatus::Pending);
    place.clock.advance(Duration::from_secs(10));
    place.work(place.worker()).await;
    let job = place.job(id).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Dead, 1));
    assert_eq!(job.cause.as_deref(), Some("no_host"));
}

async fn the_output_of_fire_and_forget_is_not_kept(place: Place) {
    let id = place
        .submit(good().mode(skillhost::queue::Mode::FireAndForget))
        .await;
    place.work(place.worker()).await;
    assert_eq!(place.status(id).await, JobStatus::Completed);
    assert_eq!(place.queue.result(id).await.unwrap(), None);
}

async fn what_is_nested_too_deep_is_kept_as_text_or_refused(place: Place) {
    /// Answers with more levels than can be read back.
    struct Deep;
    impl skillhost::Execute for Deep {
        fn execute<'a>(
            &'a self,
            request: ExecutionRequest,
            _: skillhost::Control,
        ) -> crate::place::BoxFuture<'a, Result<skillhost::ExecutionResult, skillhost::HostError>>
        {
            let result = skillhost::ExecutionResult {
                output: Some(nested(127)),
                ..answer(&request, &Value::Null)
            };
            Box::pin(std::future::ready(Ok(result)))
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
    }
    let skill = place.submit(execution()).await;
    let custom = place.submit(NewJob::custom("deep", Value::Null)).await;
    let worker = place.worker().execute(Arc::new(Deep));
    let worker = worker.handler("deep", async |_| Ok(nested(127)));
    place.work(worker).await;
    let result = place.queue.result(skill).await.unwrap().unwrap();
    assert_eq!(result["output"], json!(nested(127).to_string()));
    assert_eq!(place.status(custom).await, JobStatus::Dead);
    let attempts = place.attempts(custom).await;
    let message = attempts[0].details["failure"]["message"].as_str().unwrap();
    assert!(message.contains("more than 100 levels"), "{message}");
}

async fn attempts_can_be_set_and_nothing_else(place: Place) {
    let policy = RetryPolicy {
        base_ms: 77,
        jitter: 0.0,
        factor: 1.0,
        ..RetryPolicy::attempts(7)
    };
    place
        .queue
        .set_tool_retry("some", "one", Some(&policy))
        .await
        .unwrap();
    let job = place.job(place.submit(execution().attempts(3)).await).await;
    assert_eq!(job.max_attempts, 3);
    assert_eq!(job.retry.delays_ms, [77, 77]);
}

async fn what_is_given_back_is_counted_and_nothing_else(place: Place) {
    place.submit(job(json!({"snooze_ms": 60_000}))).await;
    let done = place.work(place.worker()).await;
    assert_eq!((done.settled, done.released), (1, 0));
    place.submit(execution()).await;
    let done = place.work(place.worker()).await;
    assert_eq!((done.settled, done.released), (1, 1));
}
