//! What is submitted is looked at as the worker will: for its tenant, its user and by its deadline.

use serde_json::{Value, json};

use crate::answers::audited;
use crate::client::{Answer, Client};
use crate::process::{Home, Serving};
use crate::server::behaviour;

/// One tenant may do what the others may not, and another has less.
const POLICY: &str = "[each_tenant]\n\
    over_ceiling = 'reject'\n\
    ceilings.fuel = 10_000_000\n\
    [tenants.trusted]\n\
    ceilings.fuel = 1_000_000_000\n\
    [tenants.small]\n\
    over_ceiling = 'reject'\n\
    ceilings.fuel = 1_000_000\n\
    [[approval.rules]]\n\
    tenant = 'trusted'\n\
    action = 'allow'\n\
    [[approval.rules]]\n\
    name = 'nobody else'\n\
    tool = 'answer'\n\
    action = 'deny'\n";

/// A client with a token of this tenant's.
fn client_of(home: &Home, serving: &Serving, tenant: &str) -> Client {
    let create = ["tokens", "create", "--tenant", tenant, "--scope", "jobs"];
    serving.client().with(home.run(&create).trim())
}

/// By each way in which a job can be submitted.
async fn submitted(client: &Client, job: &Value) -> [Answer; 3] {
    let schedule = json!({"cron": "0 0 1 1 *", "job": job});
    [
        client.post("/v1/jobs", job.clone()).await,
        client.post("/v1/jobs/batch", json!({"jobs": [job]})).await,
        client.call("PUT", "/v1/schedules/yearly", &schedule).await,
    ]
}

fn is_refused(answer: &Answer, reason: &str) {
    assert_eq!(answer.status, 403, "{}", answer.text());
    let problem: Value = serde_json::from_slice(&answer.body).expect("it is JSON");
    assert_eq!(problem["failure"]["reason"], reason, "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_looked_at_for_its_tenant() {
    let home = Home::new();
    home.policy(POLICY);
    let serving = Serving::start(&home, &["--rate", "1000000"]);
    let trusted = client_of(&home, &serving, "trusted");
    let small = client_of(&home, &serving, "small");
    let echo = |fuel: u64| {
        let mut echo = behaviour("echo", json!({}));
        echo["limits"] = json!({"fuel": fuel});
        echo
    };
    let answer = behaviour("answer", json!({"json": "{}"}));
    // What only this tenant may.
    for accepted in submitted(&trusted, &answer).await {
        accepted.json();
    }
    for refused in submitted(&small, &answer).await {
        is_refused(&refused, "refused");
    }
    for accepted in submitted(&trusted, &echo(20_000_000)).await {
        accepted.json();
    }
    // What only this one may not.
    for refused in submitted(&small, &echo(2_000_000)).await {
        is_refused(&refused, "ceiling");
    }
    let entries = audited(&home, "execution");
    let refused: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["outcome"] == "rejected")
        .collect();
    assert_eq!(refused.len(), 6, "{entries:?}");
    for entry in refused {
        assert_eq!(entry["tenant"], "small", "{entry}");
    }
    // What was accepted is what runs.
    let path = "/v1/jobs";
    let one = trusted.post(path, answer).await.json();
    let result = format!(
        "{path}/{}/result?wait_ms=60000",
        one["id"].as_str().unwrap()
    );
    assert_eq!(trusted.get(&result).await.json()["status"], "success");
    assert!(serving.end().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_deadline_is_over_is_not_taken() {
    let home = Home::new();
    let serving = Serving::start(&home, &[]);
    let client = serving.client();
    let mut late = behaviour("echo", json!({}));
    late["deadline"] = json!("2020-01-01T00:00:00Z");
    let answer = client.post("/v1/jobs", late).await;
    assert!(answer.status.is_client_error() || answer.status.is_server_error());
    assert_eq!(client.get("/v1/jobs").await.json()["jobs"], json!([]));
    assert!(serving.end().success());
}

/// The same is told of an execution before it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn whether_it_would_be_admitted_is_told_and_nothing_runs() {
    let home = Home::new();
    home.policy(POLICY);
    let create = [
        "tokens", "create", "--tenant", "small", "--scope", "execute",
    ];
    let token = home.run(&create);
    let serving = Serving::start(&home, &[]);
    let client = serving.client().with(token.trim());
    let check = async |body: Value| client.post("/v1/executions/check", body).await.json();
    let told = check(behaviour("echo", json!({}))).await;
    assert_eq!(told["admitted"], true, "{told}");
    assert_eq!(told["problem"], Value::Null);
    assert_eq!(told["skill"]["name"], "behaviours");
    assert_eq!(told["limits"]["fuel"], 1_000_000);
    let mut over = behaviour("echo", json!({}));
    over["limits"] = json!({"fuel": 2_000_000});
    let told = check(over).await;
    assert_eq!(told["admitted"], false);
    assert_eq!(told["problem"]["failure"]["reason"], "ceiling", "{told}");
    let told = check(behaviour("nothing", json!({}))).await;
    assert_eq!(
        told["problem"]["type"],
        "urn:skillhost:problem:unknown-tool"
    );
    let mut unknown = behaviour("echo", json!({}));
    unknown["skill"] = json!("no-such-skill");
    let told = check(unknown).await;
    assert_eq!(
        (&told["admitted"], &told["skill"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(audited(&home, "execution"), [] as [Value; 0]);
    assert!(serving.end().success());
}
