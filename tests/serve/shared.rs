//! Several processes on one PostgreSQL database: either answers for the other.

use serde_json::json;
use skillhost::ExecutionRequest;
use skillhost::queue::{NewJob, Queue};

use crate::client::Events;
use crate::postgres::Postgres;
use crate::process::{Home, Serving};
use crate::server::behaviour;

#[tokio::test(flavor = "multi_thread")]
async fn either_process_answers_for_the_others_jobs_and_events() {
    let database = Postgres::shared().database().await;
    let url = database.url();
    let home = Home::new();
    // The first takes no jobs: the second does what is submitted to the first.
    let first = Serving::start(&home, &["--database", &url, "--jobs", "0"]);
    let second = Serving::start(&home, &["--database", &url]);
    let (one, two) = (first.client(), second.client());
    let request = two.request("GET", "/v1/events/stream?after=0", "");
    let mut events = Events::of(two.open(request).await);
    let key = [("idempotency-key", "shared")];
    let echo = behaviour("echo", json!({"text": "x"}));
    let submitted = one.call_with("POST", "/v1/jobs", &echo, &key).await.json();
    let id = submitted["id"].as_str().unwrap().to_owned();
    // With the same key, the other process gives the same answer.
    let again = two.call_with("POST", "/v1/jobs", &echo, &key).await;
    assert_eq!(again.json(), submitted);
    loop {
        let event = events.next().await.unwrap();
        assert_eq!(event.data["job"], *id);
        if event.kind == "completed" {
            break;
        }
    }
    for client in [&one, &two] {
        let result = client.get(&format!("/v1/jobs/{id}/result")).await.json();
        assert_eq!(result["status"], "success");
    }
    // A token that is made through the database opens both.
    let create = [
        "tokens",
        "create",
        "--database",
        &url,
        "--tenant",
        "acme",
        "--scope",
        "jobs",
    ];
    let token = home.run(&create).trim().to_owned();
    for client in [one, two] {
        while client.get("/v1/jobs").await.status != 401 {
            tokio::task::yield_now().await;
        }
        let jobs = client.with(&token).get("/v1/jobs").await.json();
        assert_eq!(jobs["jobs"], json!([]));
    }
    assert!(first.end().success());
    assert!(second.end().success());
}

/// The job asks at one process, is approved at another, and runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_for_a_word_gets_it_from_either() {
    let database = Postgres::shared().database().await;
    let url = database.url();
    let queue = Queue::connect(&url).await.unwrap();
    let request = ExecutionRequest::new("behaviours", json!({"text": "x"})).tool("echo");
    let asked = queue.submit(NewJob::execution(request)).await.unwrap();
    wait_for_a_word(&queue).await;
    let home = Home::new();
    let first = Serving::start(&home, &["--database", &url, "--jobs", "0"]);
    let second = Serving::start(&home, &["--database", &url]);
    for client in [first.client(), second.client()] {
        let waiting = client.get("/v1/approvals").await.json();
        assert_eq!(waiting["jobs"][0]["id"], asked.id.to_string());
    }
    let path = format!("/v1/approvals/{}/approve", asked.id);
    let client = first.client();
    let approved = client.post(&path, json!({})).await;
    assert_eq!(approved.json()["status"], "pending");
    let job = queue.wait(asked.id).await.unwrap();
    assert_eq!(job.status.as_str(), "completed");
    let again = client.post(&path, json!({})).await;
    again.problem(409, "conflict");
    assert!(first.end().success());
    assert!(second.end().success());
}

/// An execution asks at one process, and is approved at the other: once before it is tried again, and once
/// while it waits.
#[tokio::test(flavor = "multi_thread")]
async fn an_execution_that_waits_for_a_word_gets_it_from_either() {
    let database = Postgres::shared().database().await;
    let url = database.url();
    let ask = "[[approval.rules]]\ntool = 'answer'\naction = 'ask'\n";
    let homes = [Home::new(), Home::new()];
    homes[0].policy(ask);
    homes[1].policy(&format!("[approval]\nwait = '10m'\n{ask}"));
    let [first, second] = homes
        .each_ref()
        .map(|home| Serving::start(home, &["--database", &url]));
    let (one, two) = (first.client(), second.client());
    for (number, (asks, answers)) in [(&one, &two), (&two, &one)].into_iter().enumerate() {
        let body = behaviour("answer", json!({"json": format!("{{\"a\":{number}}}")}));
        let request = asks.post("/v1/executions", body.clone());
        let approve = async {
            let id = loop {
                let open = answers.get("/v1/approvals").await.json();
                match open["approvals"][0]["id"].as_str() {
                    Some(id) => break id.to_owned(),
                    None => tokio::task::yield_now().await,
                }
            };
            let path = format!("/v1/approvals/{id}/approve");
            answers.post(&path, json!({})).await.json();
        };
        let (answer, ()) = tokio::join!(request, approve);
        let answer = match number {
            0 => {
                answer.problem(403, "approval-needed");
                asks.post("/v1/executions", body.clone()).await
            }
            _ => answer,
        };
        assert_eq!(answer.json()["output"], json!({"a": number}));
        // It was for once, at either.
        for client in [asks, answers] {
            let fields = client.get("/v1/approvals").await.json();
            assert_eq!(fields["approvals"], json!([]), "none is open");
        }
    }
    assert!(first.end().success());
    assert!(second.end().success());
}

/// A worker whose policy wants somebody's word before anything runs takes the job, and puts it aside.
async fn wait_for_a_word(queue: &Queue) {
    use skillhost::execution::{BoxFuture, Rejection};
    use skillhost::queue::Worker;
    use skillhost::{Cause, Control, Execute, ExecutionResult, Failure, HostError, Resolution};
    struct Asks;
    impl Execute for Asks {
        fn execute<'a>(
            &'a self,
            request: ExecutionRequest,
            control: Control,
        ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
            let cause = Cause::Rejected {
                reason: Rejection::Approval,
                retry_at: None,
            };
            let failure = Failure::new(cause, "somebody has to approve it");
            let refused = control.refuse(request, None, failure);
            Box::pin(std::future::ready(Ok(refused)))
        }

        fn resolve(&self, _: &ExecutionRequest) -> Result<Resolution, Failure> {
            Err(Failure::new(Cause::NotLoaded, "it knows no skills"))
        }
    }
    let worker = Worker::builder(queue.clone())
        .execute(std::sync::Arc::new(Asks))
        .until_empty()
        .build();
    worker.run(std::future::pending()).await.expect("it works");
}
