//! Jobs, dead letters, schedules, queues and approvals, by their routes.

use serde_json::{Value, json};
use skillhost::queue::{RetryPolicy, ScopeKind};

use crate::client::Client;
use crate::server::{Wanted, behaviour, start};

async fn submit(client: &Client, body: Value) -> String {
    let answer = client.post("/v1/jobs", body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), Some(&*format!("/v1/jobs/{id}")));
    id
}

async fn ended(client: &Client, id: &str) -> Value {
    let path = format!("/v1/jobs/{id}/result?wait_ms=60000");
    let answer = client.get(&path).await;
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_submitted_done_and_looked_at() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let mut body = behaviour("echo", json!({"text": "to be"}));
    body["priority"] = json!("high");
    body["tags"] = json!(["report"]);
    body["labels"] = json!({"for": "you"});
    let id = submit(&client, body).await;
    assert_eq!(ended(&client, &id).await["status"], "success");
    let job = client.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(job["status"], "completed");
    assert_eq!(job["priority"], "high");
    assert_eq!(job["input"], json!({"text": "to be"}));
    assert_eq!(job["labels"], json!({"for": "you"}));
    let attempts = client.get(&format!("/v1/jobs/{id}/attempts")).await.json();
    assert_eq!(attempts["attempts"][0]["status"], "success");
    let page = client
        .get("/v1/jobs?status=completed&tag=report")
        .await
        .json();
    assert_eq!(page["jobs"][0]["id"], *id);
    assert_eq!(page["next"], Value::Null);
    let none = client.get("/v1/jobs?tag=other").await.json();
    assert_eq!(none["jobs"], json!([]));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_lead_on() {
    let server = start(Wanted {
        worker: false,
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    let jobs = vec![behaviour("echo", json!({})); 5];
    let batch = client.post("/v1/jobs/batch", json!({"jobs": jobs})).await;
    assert_eq!(batch.status, 202);
    let mut seen = Vec::new();
    let mut path = "/v1/jobs?limit=2".to_owned();
    loop {
        let page = client.get(&path).await.json();
        let jobs = page["jobs"].as_array().unwrap();
        seen.extend(jobs.iter().map(|job| job["id"].clone()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/jobs?limit=2&before={next}");
    }
    let mut submitted: Vec<Value> = batch.json()["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].clone())
        .collect();
    submitted.reverse();
    assert_eq!(seen, submitted);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_batch_is_taken_or_none() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let good = behaviour("echo", json!({}));
    let bad = behaviour("nothing", json!({}));
    let answer = client
        .post("/v1/jobs/batch", json!({"jobs": [good, bad]}))
        .await;
    let problem = answer.problem(422, "unknown-tool");
    assert_eq!(problem["pointer"], "/jobs/1");
    assert_eq!(client.get("/v1/statistics").await.json()["total"], 0);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_steps_in() {
    let server = start(Wanted {
        worker: false,
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    let id = submit(&client, behaviour("echo", json!({}))).await;
    let act = async |action: &str, body: Value| {
        let path = format!("/v1/jobs/{id}/{action}");
        let method = if action == "priority" { "PUT" } else { "POST" };
        client.call(method, &path, &body).await
    };
    let status = |answer: crate::client::Answer| answer.json()["status"].clone();
    assert_eq!(status(act("pause", json!({})).await), "paused");
    act("pause", json!({})).await.problem(409, "conflict");
    assert_eq!(status(act("resume", json!({})).await), "pending");
    let snoozed = act("snooze", json!({"for_ms": 60_000})).await;
    assert_eq!(status(snoozed), "pending");
    act("snooze", json!({})).await.problem(422, "invalid-body");
    let urgent = act("priority", json!({"priority": "critical"})).await;
    assert_eq!(status(urgent), "pending");
    let shown = client.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(shown["priority"], "critical");
    let result = client.get(&format!("/v1/jobs/{id}/result")).await;
    assert_eq!(result.problem(409, "conflict")["job_status"], "pending");
    assert_eq!(status(act("cancel", json!({})).await), "cancelled");
    act("cancel", json!({})).await.problem(409, "conflict");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_stopped() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let mut waits = behaviour("wait_for_ever", json!({}));
    waits["limits"] = json!({"wall_time_ms": 3_600_000});
    let id = submit(&client, waits).await;
    let path = format!("/v1/jobs/{id}");
    while client.get(&path).await.json()["status"] != "running" {
        tokio::task::yield_now().await;
    }
    client
        .post(&format!("{path}/cancel"), json!({}))
        .await
        .json();
    let problem = ended(&client, &id).await;
    assert_eq!(problem["job_status"], "cancelled");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_understood_replayed_and_discarded() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let mut spins = behaviour("spin", json!({}));
    spins["limits"] = json!({"fuel": 1_000_000});
    let first = submit(&client, spins.clone()).await;
    let second = submit(&client, spins).await;
    for id in [&first, &second] {
        assert_eq!(ended(&client, id).await["job_status"], "dead");
    }
    let causes = client.get("/v1/dead-letters/causes").await.json();
    assert_eq!(causes["causes"], json!({"fuel": 2}));
    let letter = client
        .get(&format!("/v1/dead-letters/{first}"))
        .await
        .json();
    assert_eq!(letter["attempts"][0]["failure"]["limit"], "fuel");
    assert!(letter["attempts"][0].get("grants").is_none());
    let export = client
        .get("/v1/dead-letters/export?cause=fuel")
        .await
        .json();
    assert_eq!(export["letters"].as_array().unwrap().len(), 2);
    let path = format!("/v1/dead-letters/{first}/replay");
    let replay = json!({"limits": {"fuel": 2_000_000}, "version": "current"});
    let replayed = client.post(&path, replay).await;
    assert_eq!(replayed.status, 202);
    let job = replayed.json()["id"].as_str().unwrap().to_owned();
    let shown = client.get(&format!("/v1/jobs/{job}")).await.json();
    assert_eq!(shown["replay_of"], *first);
    assert_eq!(shown["limits"]["fuel"], 2_000_000);
    ended(&client, &job).await;
    let many = client
        .post("/v1/dead-letters/replay", json!({"cause": "fuel"}))
        .await;
    assert_eq!(many.json()["jobs"].as_array().unwrap().len(), 3);
    let path = format!("/v1/dead-letters/{second}");
    let gone = client.send(client.request("DELETE", &path, "")).await;
    assert_eq!(gone.status, 204);
    client.get(&path).await.problem(404, "not-found");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_come_and_go() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let path = "/v1/schedules/morning";
    let wanted = json!({
        "cron": "0 9 * * MON-FRI", "time_zone": "Asia/Tokyo",
        "job": behaviour("echo", json!({"text": "good morning"})),
    });
    let added = client.call("PUT", path, &wanted).await.json();
    assert_eq!(added["name"], "morning");
    assert!(added["next"].is_string());
    assert_eq!(client.get(path).await.json(), added);
    let all = client.get("/v1/schedules").await.json();
    assert_eq!(all["schedules"], json!([added]));
    let mut bad = wanted.clone();
    bad["cron"] = json!("61 * * * *");
    client
        .call("PUT", path, &bad)
        .await
        .problem(422, "invalid-body");
    let mut bad = wanted.clone();
    bad["job"]["delay_ms"] = json!(5);
    client
        .call("PUT", path, &bad)
        .await
        .problem(422, "invalid-body");
    client
        .call("PUT", "/v1/schedules/a%20b", &wanted)
        .await
        .problem(400, "invalid-request");
    let gone = client.send(client.request("DELETE", path, "")).await;
    assert_eq!(gone.status, 204);
    client.get(path).await.problem(404, "not-found");
    server.end().await;
}

/// What the operator says of a skill holds for it however a client spells it.
#[tokio::test(flavor = "multi_thread")]
async fn a_skill_is_the_same_by_each_of_its_names() {
    let server = start(Wanted::default()).await;
    let (client, queue) = (server.client(), &server.queue);
    let request = behaviour("echo", json!({}));
    let done = submit(&client, request.clone()).await;
    let result = ended(&client, &done).await;
    let skill = &result["skill"];
    let version = format!("behaviours@{}", skill["version"].as_str().unwrap());
    let digest = skill["digest"].as_str().unwrap().to_owned();
    let pause = async |paused: bool| {
        let paused = queue.pause_all(ScopeKind::Skill, "behaviours", paused);
        paused.await.unwrap();
    };
    pause(true).await;
    let policy = RetryPolicy::attempts(2);
    let set = queue.set_tool_retry("behaviours", "echo", Some(&policy));
    set.await.unwrap();
    let mut ids = Vec::new();
    let mut many = Vec::new();
    for spelled in ["behaviours", &version, &digest] {
        let mut body = request.clone();
        body["skill"] = json!(spelled);
        ids.push(submit(&client, body.clone()).await);
        let schedule = json!({"cron": "0 9 * * *", "job": body});
        let added = client.call("PUT", "/v1/schedules/daily", &schedule).await;
        assert_eq!(added.json()["skill"], "behaviours", "{spelled}");
        many.push(body);
    }
    let batch = client.post("/v1/jobs/batch", json!({"jobs": many})).await;
    for job in batch.json()["jobs"].as_array().unwrap() {
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    let listed = client.get("/v1/jobs?skill=behaviours&status=pending").await;
    let listed = listed.json();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), ids.len());
    for job in listed["jobs"].as_array().unwrap() {
        assert_eq!(job["skill"], "behaviours");
        assert_eq!(job["max_attempts"], 2, "the tool's policy holds");
    }
    pause(false).await;
    for id in &ids {
        assert_eq!(ended(&client, id).await["status"], "success");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_paused_and_bounded() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let path = "/v1/queues/nightly";
    let change = json!({"paused": true, "concurrency": 3, "rate": {"count": 5, "period_ms": 1000}});
    let changed = client.call("PATCH", path, &change).await.json();
    assert_eq!(changed["paused"], true);
    assert_eq!(changed["concurrency"], 3);
    assert_eq!(changed["rate"], json!({"count": 5, "period_ms": 1000}));
    let mut waiting = behaviour("echo", json!({}));
    waiting["queue"] = json!("nightly");
    let id = submit(&client, waiting).await;
    // What comes after it in another queue is done.
    let other = submit(&client, behaviour("echo", json!({}))).await;
    ended(&client, &other).await;
    let shown = client.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(shown["status"], "pending");
    let change = json!({"paused": false, "concurrency": null});
    let changed = client.call("PATCH", path, &change).await.json();
    assert_eq!(changed["concurrency"], Value::Null);
    assert_eq!(changed["rate"]["count"], 5);
    assert_eq!(ended(&client, &id).await["status"], "success");
    client
        .call("PATCH", path, &json!({"concurrency": 0}))
        .await
        .problem(422, "invalid-body");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_goes_nowhere_that_is_not_public() {
    let server = start(Wanted::default()).await;
    for url in [
        "http://127.0.0.1:9/x",
        "https://169.254.169.254/",
        "ftp://a.example/",
        "nothing",
    ] {
        let mut body = behaviour("echo", json!({}));
        body["callback"] = json!(url);
        let answer = server.client().post("/v1/jobs", body).await;
        assert_eq!(
            answer.problem(422, "invalid-body")["pointer"],
            "/callback",
            "{url}"
        );
    }
    server.end().await;
}
