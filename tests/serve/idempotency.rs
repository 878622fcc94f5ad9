//! Requests that come twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use skillhost::Event;
use skillhost::queue::Queue;
use skillhost::serve::Scope;

use crate::harness::builder;
use crate::postgres::Postgres;
use crate::server::{Wanted, behaviour, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_with_the_key_is_answered_as_the_first_was() {
    let ran = Arc::new(AtomicU32::new(0));
    let counted = ran.clone();
    let count = move |_: uuid::Uuid, event: &Event<'_>| {
        if matches!(event, Event::Started) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    };
    let host = builder().observer(Arc::new(count)).build().unwrap();
    let server = start(Wanted {
        host: Some(host),
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    let before = ran.load(Ordering::Relaxed);
    let request = behaviour("echo", json!({"text": "once"}));
    let key = [("idempotency-key", "\"8e03978e\"")];
    let send = async |path, body| client.call_with("POST", path, body, &key).await;
    let first = send("/v1/executions", &request).await;
    let second = send("/v1/executions", &request).await;
    assert_eq!(first.json(), second.json());
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(ran.load(Ordering::Relaxed), before + 1);
    // What went wrong for good is remembered, too.
    let failing = behaviour("fail", json!({}));
    let key = [("idempotency-key", "another")];
    for replayed in [None, Some("true")] {
        let answer = client
            .call_with("POST", "/v1/executions", &failing, &key)
            .await;
        answer.problem(422, "skill-error");
        assert_eq!(answer.header("idempotency-replayed"), replayed);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_belongs_to_one_request_and_one_tenant() {
    let server = start(Wanted::default()).await;
    let scopes = [Scope::Jobs];
    let (acme, other) = (
        server.client_of("acme", &scopes).await,
        server.client_of("other", &scopes).await,
    );
    let key = [("idempotency-key", "one")];
    let request = behaviour("echo", json!({"text": "a"}));
    let mut changed = request.clone();
    changed["priority"] = json!("high");
    let first = acme
        .call_with("POST", "/v1/jobs", &request, &key)
        .await
        .json();
    acme.call_with("POST", "/v1/jobs", &changed, &key)
        .await
        .problem(422, "key-reused");
    let again = acme
        .call_with("POST", "/v1/jobs", &request, &key)
        .await
        .json();
    assert_eq!(first, again);
    let others = other
        .call_with("POST", "/v1/jobs", &request, &key)
        .await
        .json();
    assert_ne!(first["id"], others["id"]);
    for bad in ["", "\"a\"b\"", &"x".repeat(300)] {
        let key = [("idempotency-key", bad)];
        acme.call_with("POST", "/v1/jobs", &request, &key)
            .await
            .problem(400, "invalid-request");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_first_goes_on_the_second_is_told_so() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let mut waits = behaviour("wait_for_ever", json!({}));
    waits["limits"] = json!({"wall_time_ms": 3_600_000});
    let key = [("idempotency-key", "slow")];
    let (going, body) = (client.clone(), waits.clone());
    let first = tokio::spawn(async move {
        let key = [("idempotency-key", "slow")];
        going.call_with("POST", "/v1/executions", &body, &key).await
    });
    loop {
        let metrics = client.get("/metrics").await;
        if metrics.text().contains("skillhost_executions_running 1\n") {
            break;
        }
        tokio::task::yield_now().await;
    }
    let second = client
        .call_with("POST", "/v1/executions", &waits, &key)
        .await;
    second.problem(409, "in-progress");
    assert!(second.header("retry-after").is_some());
    // Nothing was answered, so that it can come again.
    first.abort();
    let _ = first.await;
    let mut short = waits.clone();
    short["limits"] = json!({"wall_time_ms": 10});
    loop {
        let answer = client
            .call_with("POST", "/v1/executions", &short, &key)
            .await;
        if answer.status != 409 && answer.text().contains("urn:skillhost:problem:timeout") {
            break;
        }
        let kind: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(
            ["in-progress", "key-reused"]
                .iter()
                .any(|kind_| kind["type"] == format!("urn:skillhost:problem:{kind_}")),
            "{}",
            answer.text()
        );
    }
    server.end().await;
}

/// Another process would find the answer in the database; so does a server that was started anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_outlives_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let request = behaviour("echo", json!({"text": "a"}));
    let key = [("idempotency-key", "kept")];
    let mut answers = Vec::new();
    for _ in 0..2 {
        let server = start(Wanted {
            queue: Some(skillhost::queue::Queue::open(&path).unwrap()),
            ..Wanted::default()
        })
        .await;
        for path in ["/v1/executions", "/v1/jobs/batch"] {
            let body = match path {
                "/v1/jobs/batch" => json!({"jobs": [request, request]}),
                _ => request.clone(),
            };
            let key = [(key[0].0, path)];
            let answer = server.client().call_with("POST", path, &body, &key).await;
            answers.push(answer.json());
        }
        server.end().await;
    }
    assert_eq!(answers[0], answers[2]);
    assert_eq!(answers[1], answers[3]);
    assert_ne!(answers[1]["jobs"][0]["id"], answers[1]["jobs"][1]["id"]);
}

/// What passes by itself is done again; what would end the same is not.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_would_end_the_same_is_kept() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let mut slow = behaviour("wait_for_ever", json!({}));
    slow["limits"] = json!({"wall_time_ms": 10});
    let mut spins = behaviour("spin", json!({}));
    spins["limits"] = json!({"fuel": 1_000_000});
    for (request, status, kind, kept) in [
        (slow, 422, "timeout", false),
        (
            behaviour("fail_to_retry", json!({})),
            422,
            "skill-error",
            false,
        ),
        (json!({"skill": "nobody"}), 404, "not-loaded", false),
        (behaviour("nothing", json!({})), 422, "unknown-tool", false),
        (behaviour("panic", json!({})), 422, "trap", true),
        (spins, 422, "resource-exhausted", true),
    ] {
        let key = format!("of {kind}");
        let key = [("idempotency-key", &*key)];
        let ask = async || {
            loop {
                let answer = client
                    .call_with("POST", "/v1/executions", &request, &key)
                    .await;
                // A key is given up a moment after its request was answered.
                if answer.status != 409 {
                    answer.problem(status, kind);
                    break answer.header("idempotency-replayed").is_some();
                }
            }
        };
        assert!(!ask().await);
        assert_eq!(ask().await, kept, "{kind}");
    }
    server.end().await;
}

/// Nobody knows how much of it was done, and doing it twice may do harm.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_do_harm_is_not_done_twice() {
    use skillhost::execution::BoxFuture;
    use skillhost::{
        Control, Execute, ExecutionRequest, ExecutionResult, Failure, HostError, Resolution,
    };
    /// As another, every tool of which may do harm; and what is to be echoed breaks it when that is done.
    struct Harmful(Arc<dyn Execute>);
    impl Execute for Harmful {
        fn execute<'a>(
            &'a self,
            request: ExecutionRequest,
            control: Control,
        ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
            Box::pin(async move {
                let breaks = request.tool.as_deref() == Some("echo");
                let ended = self.0.execute(request, control).await?;
                match breaks {
                    true => Err(HostError::Internal("the disk is gone".to_owned())),
                    false => Ok(ended),
                }
            })
        }
        fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
            self.0.resolve(request)
        }
        fn is_destructive(&self, request: &ExecutionRequest) -> bool {
            self.0.resolve(request).is_ok()
        }
    }
    let server = start(Wanted {
        around: |inner| Arc::new(Harmful(inner)),
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    let mut slow = behaviour("wait_for_ever", json!({}));
    slow["limits"] = json!({"wall_time_ms": 10});
    let breaking = behaviour("echo", json!({"text": "to be"}));
    for (request, key, status, kind) in [
        (&slow, "harm", 422, "timeout"),
        (&breaking, "broken", 500, "internal"),
    ] {
        for replayed in [None, Some("true")] {
            let key = [("idempotency-key", key)];
            let answer = client
                .call_with("POST", "/v1/executions", request, &key)
                .await;
            answer.problem(status, kind);
            assert_eq!(answer.header("idempotency-replayed"), replayed, "{kind}");
        }
    }
    server.end().await;
}

/// A clock that goes on when it is told to.
#[derive(Debug, Default)]
struct TestClock(std::sync::atomic::AtomicI64);

impl skillhost::queue::Clock for TestClock {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        let seconds = 1_800_000_000 + self.0.load(Ordering::SeqCst);
        chrono::DateTime::from_timestamp(seconds, 0).expect("it is in range")
    }
}

/// A process that stood still for longer than its claim holds finds the key taken, and leaves it.
async fn a_key_that_was_taken_is_not_taken_back(queue: Queue, clock: Arc<TestClock>) {
    let server = start(Wanted {
        queue: Some(queue),
        worker: false,
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    let key = [("idempotency-key", "taken")];
    let slow = behaviour("sleep", json!({"ms": 4_000}));
    let going = client.clone();
    let first = tokio::spawn(async move {
        let key = [("idempotency-key", "taken")];
        going.call_with("POST", "/v1/executions", &slow, &key).await
    });
    while !client
        .get("/metrics")
        .await
        .text()
        .contains("skillhost_executions_running 1\n")
    {
        assert!(!first.is_finished());
        tokio::task::yield_now().await;
    }
    clock.0.fetch_add(61, Ordering::SeqCst);
    let echo = behaviour("echo", json!({"text": "second"}));
    let send = async || {
        client
            .call_with("POST", "/v1/executions", &echo, &key)
            .await
    };
    let second = send().await.json();
    assert_eq!(first.await.unwrap().json()["status"], "success");
    let third = send().await;
    assert_eq!(third.header("idempotency-replayed"), Some("true"));
    assert_eq!(third.json(), second);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_taken_is_not_taken_back_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::default());
    let queue = Queue::builder()
        .clock(clock.clone())
        .open(folder.path().join("queue.db"))
        .unwrap();
    a_key_that_was_taken_is_not_taken_back(queue, clock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_taken_is_not_taken_back_on_postgres() {
    let database = Postgres::shared().database().await;
    let clock = Arc::new(TestClock::default());
    let builder = Queue::builder().clock(clock.clone());
    let queue = builder.connect(&database.url()).await.unwrap();
    a_key_that_was_taken_is_not_taken_back(queue, clock).await;
}
