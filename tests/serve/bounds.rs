//! What an operator bounds and tidies: tenants, skills, dead letters, and what is old.

use serde_json::{Value, json};
use skillhost::serve::Scope;

use crate::client::Client;
use crate::server::{Wanted, behaviour, start};

async fn submit(client: &Client, job: Value) -> String {
    let accepted = client.post("/v1/jobs", job).await.json();
    accepted["id"].as_str().expect("it has one").to_owned()
}

async fn ended(client: &Client, id: &str) -> Value {
    let path = format!("/v1/jobs/{id}/result?wait_ms=60000");
    client.get(&path).await;
    client.get(&format!("/v1/jobs/{id}")).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_and_skills_are_paused_and_bounded() {
    let server = start(Wanted::default()).await;
    let operator = server.client_of("operators", &[Scope::Administer]).await;
    let acme = server.client_of("acme", &[Scope::Jobs]).await;
    let other = server.client_of("other", &[Scope::Jobs]).await;
    let tenant = "/v1/tenants/acme";
    let change = json!({"paused": true, "concurrency": 3, "weight": 2,
        "rate": {"count": 500, "period_ms": 1000}});
    let changed = operator.call("PATCH", tenant, &change).await.json();
    assert_eq!(
        (&changed["kind"], &changed["name"]),
        (&json!("tenant"), &json!("acme"))
    );
    assert_eq!(changed["weight"], 2);
    assert_eq!(changed["rate"], json!({"count": 500, "period_ms": 1000}));
    // Its jobs wait, and others' do not.
    let waiting = submit(&acme, behaviour("echo", json!({}))).await;
    let theirs = submit(&other, behaviour("echo", json!({}))).await;
    assert_eq!(ended(&other, &theirs).await["status"], "completed");
    let path = format!("/v1/jobs/{waiting}");
    assert_eq!(acme.get(&path).await.json()["status"], "pending");
    let goes_on = json!({"paused": false, "concurrency": null});
    let changed = operator.call("PATCH", tenant, &goes_on).await.json();
    assert_eq!(
        (&changed["concurrency"], &changed["weight"]),
        (&Value::Null, &json!(2))
    );
    assert_eq!(ended(&acme, &waiting).await["status"], "completed");
    let listed = operator.get("/v1/tenants").await.json();
    let listed = listed["tenants"].as_array().expect("it is a list");
    assert!(listed.contains(&changed), "{listed:?}");

    let skill = "/v1/skill-bounds/behaviours";
    let change = json!({"paused": true, "concurrency": 1});
    let changed = operator.call("PATCH", skill, &change).await.json();
    assert_eq!(
        (&changed["kind"], &changed["paused"]),
        (&json!("skill"), &json!(true))
    );
    let waiting = submit(&acme, behaviour("echo", json!({}))).await;
    let listed = operator.get("/v1/skill-bounds").await.json();
    assert!(
        listed["skills"].as_array().unwrap().contains(&changed),
        "{listed}"
    );
    let path = format!("/v1/jobs/{waiting}");
    assert_eq!(acme.get(&path).await.json()["status"], "pending");
    let goes_on = json!({"paused": false});
    operator.call("PATCH", skill, &goes_on).await.json();
    assert_eq!(ended(&acme, &waiting).await["status"], "completed");

    for (path, wrong) in [
        (tenant, json!({"concurrency": 0})),
        (tenant, json!({"weight": 0})),
        (tenant, json!({"weight": 1_001})),
        (skill, json!({"weight": 2})),
        (skill, json!({"rate": {"count": 0, "period_ms": 1}})),
    ] {
        let answer = operator.call("PATCH", path, &wrong).await;
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text());
    }
    for path in ["/v1/skill-bounds/a@1.0.0", "/v1/tenants/a%07"] {
        let answer = operator.call("PATCH", path, &json!({})).await;
        answer.problem(400, "invalid-request");
    }
    // As long as the document says, in bytes.
    let patch = async |name: &str| {
        let path = format!("/v1/tenants/{}", name.replace('ü', "%C3%BC"));
        operator
            .call("PATCH", &path, &json!({"paused": false}))
            .await
    };
    let longest = format!("{}b", "ü".repeat(127));
    assert_eq!(patch(&longest).await.status, 200);
    patch(&format!("{longest}b"))
        .await
        .problem(400, "invalid-request");
    let document = operator.get("/openapi.json").await.json();
    let said = &document["components"]["schemas"]["TenantName"]["description"];
    assert!(
        said.as_str()
            .is_some_and(|said| said.contains("1 to 255 bytes")),
        "{said}"
    );
    // What concerns everybody is not for who is not an operator.
    for path in [tenant, skill] {
        let answer = acme.call("PATCH", path, &json!({"paused": true})).await;
        answer.problem(403, "missing-scope");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_dead_letters_are_discarded_and_no_others() {
    let server = start(Wanted::default()).await;
    let acme = server.client_of("acme", &[Scope::Jobs]).await;
    let other = server.client_of("other", &[Scope::Jobs]).await;
    let mut spins = behaviour("spin", json!({}));
    spins["limits"] = json!({"fuel": 1_000_000});
    let mut tagged = spins.clone();
    tagged["tags"] = json!(["old"]);
    let mut dead = Vec::new();
    for (client, job) in [(&acme, &tagged), (&acme, &spins), (&other, &tagged)] {
        let id = submit(client, job.clone()).await;
        assert_eq!(ended(client, &id).await["status"], "dead");
        dead.push(id);
    }
    let discard = "/v1/dead-letters/discard";
    for wrong in [json!({}), json!({"all": true, "tag": "old"})] {
        acme.post(discard, wrong).await.problem(422, "invalid-body");
    }
    let told = acme.post(discard, json!({"tag": "old"})).await.json();
    assert_eq!(told, json!({"discarded": 1, "next": null}));
    let left = async |client: &Client| {
        let page = client.get("/v1/dead-letters").await.json();
        let jobs = page["jobs"].as_array().unwrap().clone();
        jobs.into_iter()
            .map(|job| job["id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(left(&acme).await, [json!(dead[1])]);
    assert_eq!(left(&other).await, [json!(dead[2])]);
    let told = acme.post(discard, json!({"all": true})).await.json();
    assert_eq!(told["discarded"], 1);
    assert!(left(&acme).await.is_empty());
    assert_eq!(left(&other).await, [json!(dead[2])]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_pruned_by_an_operator() {
    let server = start(Wanted::default()).await;
    let operator = server.client_of("operators", &[Scope::Administer]).await;
    let acme = server.client_of("acme", &[Scope::Jobs]).await;
    let id = submit(&acme, behaviour("echo", json!({}))).await;
    assert_eq!(ended(&acme, &id).await["status"], "completed");
    let prune = "/v1/jobs/prune";
    let now = json!({"completed_after_ms": 0});
    acme.post(prune, now.clone())
        .await
        .problem(403, "missing-scope");
    operator
        .post(prune, json!({}))
        .await
        .problem(422, "invalid-body");
    let kept = json!({"completed_after_ms": 3_600_000, "dead_after_ms": 3_600_000,
        "events_after_ms": 3_600_000});
    assert_eq!(
        operator.post(prune, kept).await.json(),
        json!({"jobs": 0, "events": 0})
    );
    assert_eq!(operator.post(prune, now).await.json()["jobs"], 1);
    acme.get(&format!("/v1/jobs/{id}"))
        .await
        .problem(404, "not-found");
    server.end().await;
}
