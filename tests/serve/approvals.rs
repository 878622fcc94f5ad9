//! What waits for somebody's word, from the question to the answer, through a server with a policy.

use serde_json::{Value, json};

use crate::client::Client;
use crate::process::{Home, Serving};
use crate::server::behaviour;

const ASK: &str = "[[approval.rules]]\nname = 'writers'\ntool = 'answer*'\naction = 'ask'\n";

fn serving(home: &Home) -> Serving {
    home.policy(ASK);
    Serving::start(home, &["--rate", "1000000"])
}

fn answer(text: &str) -> Value {
    behaviour("answer", json!({ "json": text }))
}

/// What was asked for an execution that is not admitted before it was approved.
async fn asked(client: &Client, request: &Value) -> String {
    let refused = client.post("/v1/executions", request.clone()).await;
    let problem = refused.problem(403, "approval-needed");
    let rule = &problem["failure"]["rule"];
    assert_eq!(rule, "approval rule 1 (writers)");
    let id = problem["failure"]["approval"].as_str().unwrap().to_owned();
    let page = client.get("/v1/approvals").await.json();
    let approval = &page["approvals"][0];
    assert_eq!(
        (&approval["id"], &approval["tool"]),
        (&json!(id), &json!("answer"))
    );
    id
}

async fn decide(client: &Client, id: &str, how: &str, body: Value) -> Value {
    let path = format!("/v1/approvals/{id}/{how}");
    client.post(&path, body).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_is_approved_once_for_a_while_or_not() {
    let home = Home::new();
    let serving = serving(&home);
    let client = serving.client();
    let execute = async |request: &Value| client.post("/v1/executions", request.clone()).await;
    let request = answer("{}");

    let id = asked(&client, &request).await;
    // What was not approved yet is asked about once.
    assert_eq!(asked(&client, &request).await, id);
    let once = decide(&client, &id, "approve", json!({})).await;
    assert_eq!(once["id"], *id);
    assert_eq!(execute(&request).await.json()["status"], "success");
    let again = asked(&client, &request).await;
    assert_ne!(again, id);
    let path = format!("/v1/approvals/{id}/approve");
    client.post(&path, json!({})).await.problem(409, "conflict");

    decide(&client, &again, "approve", json!({"for_ms": 3_600_000})).await;
    for _ in 0..2 {
        assert_eq!(execute(&request).await.json()["status"], "success");
    }
    // It is for this input alone.
    let other = answer("{\"a\": 1}");
    let id = asked(&client, &other).await;
    decide(&client, &id, "refuse", json!({})).await;
    let page = client.get("/v1/approvals").await.json();
    assert_eq!(page["approvals"], json!([]));
    let shown = client.get(&format!("/v1/approvals/{id}")).await.json();
    assert_eq!(
        (&shown["id"], &shown["status"]),
        (&json!(id), &json!("refused"))
    );
    for (status, many) in [("refused", 1), ("approved", 1), ("used", 1), ("pending", 0)] {
        let path = format!("/v1/approvals?status={status}");
        let page = client.get(&path).await.json();
        assert_eq!(page["approvals"].as_array().unwrap().len(), many, "{page}");
    }
    let nothing = client.get("/v1/approvals?status=nothing").await;
    nothing.problem(400, "invalid-request");
    execute(&other).await.problem(403, "rejected");
    let path = format!("/v1/approvals/{id}/approve");
    for time in [0, 366 * 86_400_000_u64 + 1] {
        let refused = client.post(&path, json!({ "for_ms": time })).await;
        let problem = refused.problem(422, "invalid-body");
        let said = problem["detail"].as_str().unwrap();
        assert!(said.contains("366 days at most"), "{said}");
    }
    assert!(serving.end().success());
}

/// To answer the question is to answer for the job, and the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_once_it_was_approved() {
    let home = Home::new();
    let serving = serving(&home);
    let client = serving.client();
    for (text, by_job, how) in [
        ("{}", false, "approve"),
        ("{\"a\": 1}", true, "approve"),
        ("{\"a\": 2}", false, "refuse"),
        ("{\"a\": 3}", true, "refuse"),
    ] {
        let job = client.post("/v1/jobs", answer(text)).await.json();
        let job = job["id"].as_str().unwrap();
        let page = loop {
            let page = client.get("/v1/approvals").await.json();
            if page["jobs"] != json!([]) {
                break page;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(page["jobs"][0]["id"], *job);
        assert_eq!(page["next_jobs"], Value::Null);
        let approval = &page["approvals"][0];
        assert_eq!(approval["job"], *job);
        let id = if by_job {
            job
        } else {
            approval["id"].as_str().unwrap()
        };
        decide(&client, id, how, json!({})).await;
        let path = format!("/v1/jobs/{job}/result?wait_ms=60000");
        let ended = client.get(&path).await;
        match how {
            "approve" => assert_eq!(ended.json()["status"], "success"),
            _ => assert_eq!(ended.problem(409, "conflict")["job_status"], "dead"),
        }
    }
    assert!(serving.end().success());
}
