//! One tenant sees and touches nothing of another's: tried on every route of the document.

use serde_json::{Value, json};
use skillhost::policy::{ApprovalFilter, Approvals};
use skillhost::serve::{Scope, document};

use crate::client::{Client, Events};
use crate::server::{Running, Wanted, behaviour, start};

/// What stands in everything of the first tenant's.
const MARK: &str = "belongs-to-acme";
/// What concerns the whole server, and needs a scope that a tenant's token is not given.
const OPERATORS: [Scope; 2] = [Scope::Install, Scope::Administer];

/// The first tenant's things.
struct Things {
    waiting: String,
    paused: String,
    dead: String,
    /// What somebody is asked about.
    approval: String,
}

impl Things {
    /// Its jobs.
    fn jobs(&self) -> [&str; 3] {
        [&self.waiting, &self.paused, &self.dead]
    }

    /// Everything of it that has an id.
    fn ids(&self) -> [&str; 4] {
        [&self.waiting, &self.paused, &self.dead, &self.approval]
    }
}

fn marked(tool: &str) -> Value {
    let mut body = behaviour(tool, json!({"text": MARK}));
    body["labels"] = json!({"mark": MARK});
    body["tags"] = json!([MARK]);
    body["user"] = json!(MARK);
    body
}

async fn make(server: &Running, client: &Client) -> Things {
    let submit = async |body: Value| {
        let answer = client.post("/v1/jobs", body).await.json();
        answer["id"].as_str().unwrap().to_owned()
    };
    let mut spins = marked("spin");
    spins["limits"] = json!({"fuel": 1_000_000});
    let dead = submit(spins).await;
    client
        .get(&format!("/v1/jobs/{dead}/result?wait_ms=60000"))
        .await
        .problem(409, "conflict");
    let mut waiting = marked("echo");
    waiting["delay_ms"] = json!(3_600_000);
    let mut paused = marked("echo");
    paused["paused"] = json!(true);
    let schedule = json!({"cron": "0 0 1 1 *", "job": marked("echo")});
    let path = format!("/v1/schedules/{MARK}");
    client.call("PUT", &path, &schedule).await.json();
    Things {
        waiting: submit(waiting).await,
        paused: submit(paused).await,
        dead,
        approval: ask(server).await,
    }
}

/// A question of the first tenant's to whoever answers for what may run.
async fn ask(server: &Running) -> String {
    let digest = format!("sha256:{}", "0".repeat(64));
    let wanted = json!({
        "subject": "0".repeat(64), "tool": "echo", "tenant": "acme", "user": MARK, "rule": MARK,
        "skill": {"name": "behaviours", "version": "1.2.3", "digest": digest},
        "request": uuid::Uuid::now_v7(), "input": "{}", "input_bytes": 2,
    });
    let wanted = serde_json::from_value(wanted).expect("it is one");
    let expires = std::time::Duration::from_secs(3_600);
    let asked = server.queue.ask(wanted, expires, 10).await;
    asked.expect("it can be asked");
    let all = Approvals::approvals(&server.queue, &ApprovalFilter::default()).await;
    all.expect("they can be read")[0].id.to_string()
}

/// All that the first tenant sees.
async fn snapshot(client: &Client, things: &Things) -> Value {
    let mut all = vec![
        client.get("/v1/jobs").await.json(),
        client.get("/v1/schedules").await.json(),
        client.get("/v1/dead-letters").await.json(),
        client.get("/v1/events").await.json(),
        client.get("/v1/approvals").await.json(),
        client.get("/v1/dead-letters/causes").await.json(),
    ];
    for id in things.jobs() {
        all.push(client.get(&format!("/v1/jobs/{id}")).await.json());
    }
    json!(all)
}

/// A body that the operation takes.
fn body(operation: &str) -> Value {
    match operation {
        "post /v1/executions" | "post /v1/executions/check" => behaviour("echo", json!({})),
        "post /v1/jobs" => behaviour("echo", json!({})),
        "post /v1/jobs/batch" => json!({"jobs": [behaviour("echo", json!({}))]}),
        "put /v1/jobs/{id}/priority" => json!({"priority": "low"}),
        "post /v1/jobs/{id}/snooze" => json!({"for_ms": 1}),
        "post /v1/dead-letters/{id}/replay" | "post /v1/approvals/{id}/approve" => json!({}),
        "post /v1/dead-letters/replay" => json!({"tag": MARK}),
        "put /v1/schedules/{name}" => {
            json!({"cron": "0 0 1 1 *", "job": behaviour("echo", json!({}))})
        }
        "patch /v1/queues/{name}"
        | "patch /v1/tenants/{tenant}"
        | "patch /v1/skill-bounds/{skill}" => json!({"paused": true}),
        "post /v1/dead-letters/discard" => json!({"tag": MARK}),
        "post /v1/jobs/prune" => json!({"dead_after_ms": 0}),
        "post /v1/skills" => json!({"component": ""}),
        other => panic!("a new route with a body: say here what `{other}` takes"),
    }
}

async fn try_operation(
    server: &Running,
    other: &Client,
    things: &Things,
    method: &str,
    path: &str,
    operation: &Value,
) {
    let name = format!("{method} {path}");
    let has_body = operation.get("requestBody").is_some();
    let body = if has_body { body(&name) } else { json!({}) };
    let is_stream = path == "/v1/events/stream";
    let mut paths = Vec::new();
    if path.contains("{id}") {
        paths.extend(things.ids().map(|id| path.replace("{id}", id)));
    } else {
        paths.push(
            path.replace("{name}", MARK)
                .replace("{skill}", "behaviours")
                .replace("{tenant}", "acme"),
        );
    }
    for asked in paths {
        if is_stream {
            stream(server, other, things).await;
            continue;
        }
        let method = method.to_uppercase();
        let answer = match has_body {
            true => other.call(&method, &asked, &body).await,
            false => other.send(other.request(&method, &asked, "")).await,
        };
        let text = answer.text();
        if path.contains("{id}") {
            answer.problem(404, "not-found");
            continue;
        }
        // The name is the other's own in what it asks for; everything else would be the first's.
        let own = path == "/v1/schedules/{name}";
        assert!(own || !text.contains(MARK), "{name}: {text}");
        for id in things.ids() {
            assert!(!text.contains(id), "{name}: {text}");
        }
        if own && method != "PUT" {
            answer.problem(404, "not-found");
        }
    }
}

/// Reads on until something of its own comes.
async fn stream(server: &Running, other: &Client, things: &Things) {
    let request = other.request("GET", "/v1/events/stream?after=0", "");
    let mut events = Events::of(other.open(request).await);
    let own = other.post("/v1/jobs", behaviour("echo", json!({}))).await;
    let own = own.json()["id"].clone();
    loop {
        let event = events.next().await.unwrap();
        for id in things.ids() {
            assert_ne!(event.data["job"], *id);
        }
        if event.data["job"] == own {
            break;
        }
    }
    let _ = server;
    for id in things.jobs() {
        let path = format!("/v1/events/stream?job={id}");
        other.get(&path).await.problem(404, "not-found");
        let path = format!("/v1/events?job={id}");
        other.get(&path).await.problem(404, "not-found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_shows_or_changes_what_is_another_tenants() {
    let server = start(Wanted::default()).await;
    let tenants: Vec<Scope> = Scope::ALL
        .iter()
        .copied()
        .filter(|scope| !OPERATORS.contains(scope))
        .collect();
    let acme = server.client_of("acme", &tenants).await;
    let other = server.client_of("other", &tenants).await;
    let things = make(&server, &acme).await;
    let before = snapshot(&acme, &things).await;
    assert!(before.to_string().contains(MARK));
    assert_eq!(before[4]["approvals"][0]["id"], *things.approval);
    assert_eq!(before[5]["causes"], json!({"fuel": 1}));
    let document = document();
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            try_operation(&server, &other, &things, method, path, operation).await;
            tried += 1;
        }
    }
    assert!(tried > 30);
    let events = |snapshot: &Value| snapshot[3]["events"].clone();
    let after = snapshot(&acme, &things).await;
    assert_eq!(events(&before), events(&after));
    for place in [0, 1, 2, 4, 5, 6, 7, 8] {
        assert_eq!(before[place], after[place]);
    }
    // What is only counted says nothing of the first, either.
    let causes = other.get("/v1/dead-letters/causes").await.json();
    assert_eq!(causes["causes"], json!({}));
    let statistics = other.get("/v1/statistics").await.json();
    assert_eq!(statistics["dead_by_cause"], json!({}));
    assert_eq!(statistics["by_status"]["paused"].as_u64().unwrap_or(0), 0);
    server.end().await;
}

/// What is removed takes its owner with it, and yet its last event is its owner's alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_event_of_what_is_removed_is_its_owners() {
    let server = start(Wanted::default()).await;
    let acme = server.client_of("acme", &[Scope::Jobs]).await;
    let other = server.client_of("other", &[Scope::Jobs]).await;
    let things = make(&server, &acme).await;
    let path = format!("/v1/dead-letters/{}", things.dead);
    let gone = acme.send(acme.request("DELETE", &path, "")).await;
    assert_eq!(gone.status, 204);
    let kinds = async |client: &Client| {
        let batch = client.get("/v1/events?limit=1000").await.json();
        let events = batch["events"].as_array().unwrap().clone();
        let of_it = events
            .into_iter()
            .filter(|event| event["job"] == *things.dead);
        of_it.map(|event| event["kind"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&acme).await, ["discarded"]);
    assert!(kinds(&other).await.is_empty());
    server.end().await;
}

/// Not even the tokens of operators see jobs, results or events of another tenant.
#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_of_one_tenant_reads_no_other_tenants_jobs() {
    let server = start(Wanted::default()).await;
    let acme = server.client_of("acme", &[Scope::Jobs]).await;
    let things = make(&server, &acme).await;
    let other = server.client_of("other", Scope::ALL).await;
    for id in things.jobs() {
        let path = format!("/v1/jobs/{id}");
        other.get(&path).await.problem(404, "not-found");
    }
    for path in [
        "/v1/jobs",
        "/v1/dead-letters/export",
        "/v1/schedules",
        "/v1/events",
        "/v1/approvals",
    ] {
        assert!(!other.get(path).await.text().contains(MARK), "{path}");
    }
    server.end().await;
}
