//! Jobs, dead letters, schedules, queues and approvals, by their routes.

use serde_json::{Value, json};
use skillhost::queue::schedule::Schedule;
use skillhost::queue::{NewJob, RetryPolicy, ScopeKind, Work};
use skillhost::serve::Scope;

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
        let Some(next) = page["next"].as_i64() else {
            break;
        };
        path = format!("/v1/jobs?limit=2&cursor={next}");
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

/// A page is shorter where its jobs are large, and leads on all the same.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_large_jobs_lead_on() {
    let server = start(Wanted {
        worker: false,
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    let mut submitted = Vec::new();
    for _ in 0..4 {
        let large = behaviour("echo", json!({"text": "x".repeat(12 << 20)}));
        submitted.push(submit(&client, large).await);
    }
    let first = client.get("/v1/jobs").await.json();
    let mut seen: Vec<Value> = ids(&first);
    assert!(seen.len() < 4);
    let next = first["next"].as_i64().expect("there are more");
    let second = client.get(&format!("/v1/jobs?cursor={next}")).await.json();
    assert_eq!(second["next"], Value::Null);
    seen.extend(ids(&second));
    submitted.reverse();
    assert_eq!(seen, submitted);
    server.end().await;
}

fn ids(page: &Value) -> Vec<Value> {
    let jobs = page["jobs"].as_array().unwrap();
    jobs.iter().map(|job| job["id"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_batch_is_taken_or_none() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let send = async |jobs: Value| client.post("/v1/jobs/batch", json!({"jobs": jobs})).await;
    let good = behaviour("sleep", json!({"ms": 0}));
    let bad = behaviour("nothing", json!({}));
    let problem = send(json!([good, bad])).await;
    let problem = problem.problem(422, "unknown-tool");
    assert_eq!(problem["pointer"], "/jobs/1");
    // Also of one whose like came before it.
    let bad = behaviour("sleep", json!({"ms": "soon"}));
    let problem = send(json!([good, good, bad])).await;
    let problem = problem.problem(422, "invalid-input");
    assert_eq!(problem["pointer"], "/jobs/2/input/ms");
    // Nor where there is none, or are too many.
    for jobs in [vec![], vec![good; 1_001]] {
        let problem = send(json!(jobs)).await;
        let problem = problem.problem(422, "invalid-body");
        assert_eq!(problem["detail"], "a batch has 1 to 1000 jobs");
        assert_eq!(problem["pointer"], "/jobs");
    }
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
    // The first was replayed already.
    let replay_many = async |body: Value| {
        let many = client.post("/v1/dead-letters/replay", body).await.json();
        let jobs = many["jobs"].as_array().unwrap().clone();
        for job in &jobs {
            if let Some(id) = job["id"].as_str() {
                ended(&client, id).await;
            }
        }
        jobs
    };
    let of = |jobs: &[Value]| {
        jobs.iter()
            .map(|job| job["dead"].clone())
            .collect::<Vec<_>>()
    };
    let many = replay_many(json!({"cause": "fuel"})).await;
    assert_eq!(of(&many), [json!(job), json!(second)]);
    let many = replay_many(json!({"cause": "fuel"})).await;
    assert_eq!(many.len(), 2, "those that died of being replayed: {many:?}");
    let many = replay_many(json!({"cause": "fuel", "again": true})).await;
    assert_eq!(many.len(), 7);
    let kept = client.get("/v1/dead-letters?replayed=false").await.json();
    let kept = kept["jobs"].as_array().unwrap();
    assert!(kept.len() == 7 && kept.iter().all(|job| job["replayed"] == false));
    let path = format!("/v1/dead-letters/{second}");
    let gone = client.send(client.request("DELETE", &path, "")).await;
    assert_eq!(gone.status, 204);
    client.get(&path).await.problem(404, "not-found");
    server.end().await;
}

/// What may do harm twice is the operator's to allow, not a client's.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_cannot_ask_for_more_than_a_submission() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let mut spins = behaviour("spin", json!({}));
    spins["limits"] = json!({"fuel": 1_000_000});
    let dead = submit(&client, spins.clone()).await;
    ended(&client, &dead).await;
    let how = json!({"retry": {"destructive": true}});
    spins["retry"] = how["retry"].clone();
    let refused = client.post("/v1/jobs", spins).await;
    refused.problem(422, "invalid-body");
    let path = format!("/v1/dead-letters/{dead}/replay");
    let problem = client.post(&path, how.clone()).await;
    let problem = problem.problem(422, "invalid-body");
    assert_eq!(problem["pointer"], "/retry/destructive");
    let many = json!({"how": how});
    let problem = client.post("/v1/dead-letters/replay", many).await;
    let problem = problem.problem(422, "invalid-body");
    assert_eq!(problem["pointer"], "/how/retry/destructive");
    let kept = client.get("/v1/dead-letters?replayed=true").await.json();
    assert_eq!(kept["jobs"], json!([]));
    server.end().await;
}

/// One of many that cannot be replayed keeps nobody from hearing what became of the others.
#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_replays_is_answered_by_itself() {
    let server = start(Wanted::default()).await;
    let client = server.client();
    let mut spins = behaviour("spin", json!({}));
    spins["limits"] = json!({"fuel": 1_000_000});
    let first = submit(&client, spins.clone()).await;
    let last = submit(&client, spins).await;
    for id in [&first, &last] {
        ended(&client, id).await;
    }
    // From elsewhere, where it never ran: what it names has no other version.
    let mut letter = server
        .queue
        .dead_letter(first.parse().unwrap())
        .await
        .unwrap();
    let id = uuid::Uuid::now_v7();
    (letter.job.id, letter.job.submitted.id) = (id, id);
    letter.attempts.clear();
    if let Work::Execution { request } = &mut letter.job.submitted.work {
        let digest: skillhost::skill::Digest =
            format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        request.skill = digest.into();
    }
    assert_eq!(server.queue.import_dead(vec![letter]).await.unwrap(), 1);
    let body = json!({"how": {"version": "current"}});
    let many = client.post("/v1/dead-letters/replay", body).await;
    let many = many.json();
    let became = |dead: &str| {
        let mut jobs = many["jobs"].as_array().unwrap().iter();
        jobs.find(|job| job["dead"] == dead).unwrap().clone()
    };
    for dead in [&first, &last] {
        assert!(became(dead)["id"].is_string() && became(dead).get("problem").is_none());
    }
    let refused = became(&id.to_string());
    assert_eq!(refused["id"], Value::Null);
    let kind = "urn:skillhost:problem:invalid-body";
    assert_eq!(refused["problem"]["type"], kind);
    assert_eq!(many["next"], Value::Null);
    server.end().await;
}

/// Whoever made it, a schedule is reached by its name and whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn every_schedule_that_is_listed_is_reached() {
    let server = start(Wanted::default()).await;
    let operator = server.client();
    let wanted = json!({"cron": "0 0 1 1 *", "job": behaviour("echo", json!({}))});
    operator
        .call("PUT", "/v1/schedules/mine", &wanted)
        .await
        .json();
    for tenant in ["acme", "other"] {
        let path = format!("/v1/schedules/morning?tenant={tenant}");
        let added = operator.call("PUT", &path, &wanted).await.json();
        assert_eq!(added["name"], "morning");
        assert_eq!(added["tenant"], tenant);
    }
    // By a program, under a bare name.
    let request = skillhost::ExecutionRequest::new("behaviours", json!({})).tool("echo");
    let job = NewJob::execution(request).tenant("acme");
    let yearly = Schedule::new("0 0 1 1 *", "UTC").unwrap();
    let put = server.queue.put_schedule("evening", yearly, job).await;
    put.unwrap();
    let listed = operator.get("/v1/schedules").await.json();
    let listed = listed["schedules"].as_array().unwrap();
    assert_eq!(listed.len(), 4);
    for schedule in listed {
        let name = schedule["name"].as_str().unwrap();
        let path = match schedule["tenant"].as_str() {
            Some(tenant) => format!("/v1/schedules/{name}?tenant={tenant}"),
            None => format!("/v1/schedules/{name}"),
        };
        assert_eq!(operator.get(&path).await.json(), *schedule);
    }
    let acme = server.client_of("acme", &[Scope::Jobs]).await;
    let own = acme.get("/v1/schedules").await.json();
    let own = own["schedules"].as_array().unwrap();
    assert_eq!(own.len(), 2);
    for schedule in own {
        let path = format!("/v1/schedules/{}", schedule["name"].as_str().unwrap());
        assert_eq!(acme.get(&path).await.json(), *schedule);
        // In its place, and not beside it.
        acme.call("PUT", &path, &wanted).await.json();
        let all = acme.get("/v1/schedules").await.json();
        assert_eq!(all["schedules"].as_array().unwrap().len(), 2);
    }
    acme.get("/v1/schedules/morning?tenant=other")
        .await
        .problem(404, "not-found");
    for name in ["morning", "evening"] {
        let path = format!("/v1/schedules/{name}");
        let gone = acme.send(acme.request("DELETE", &path, "")).await;
        assert_eq!(gone.status, 204);
    }
    assert_eq!(server.queue.schedules(None).await.unwrap().len(), 2);
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
    for name in ["a%20b", ".hidden", "t-0123456789abcdef.x"] {
        let path = format!("/v1/schedules/{name}");
        let refused = client.call("PUT", &path, &wanted).await;
        refused.problem(400, "invalid-request");
    }
    let dotted = "/v1/schedules/daily.report";
    client.call("PUT", dotted, &wanted).await.json();
    assert_eq!(client.get(dotted).await.json()["name"], "daily.report");
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
