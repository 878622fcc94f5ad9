//! Who said what may run stands in the audit, whichever way it was said.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skillhost::audit::{AuditError, AuditSink, Entry, What};
use skillhost::execution::{BoxFuture, Rejection};
use skillhost::serve::Settings;
use skillhost::{
    Cause, Control, Execute, ExecutionRequest, ExecutionResult, Failure, HostError, Resolution,
};

use crate::client::Client;
use crate::process::{Home, Serving};
use crate::server::{Wanted, behaviour, start};

const ASK: &str = "[[approval.rules]]\ntool = 'answer'\naction = 'ask'\n";

/// The entries of this kind, the first first.
pub fn audited(home: &Home, kind: &str) -> Vec<Value> {
    let text = home.run(&["audit", "show", "--kind", kind, "--json"]);
    let records: Vec<Value> = serde_json::from_str(&text).expect("it is JSON");
    records
        .into_iter()
        .map(|record| record["entry"].clone())
        .collect()
}

async fn waiting(client: &Client, input: &str) -> String {
    let job = behaviour("answer", json!({"json": input}));
    let job = client.post("/v1/jobs", job).await.json();
    let id = job["id"].as_str().expect("it has one").to_owned();
    let path = format!("/v1/jobs/{id}");
    while client.get(&path).await.json()["status"] != "paused" {
        tokio::task::yield_now().await;
    }
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_over_http_is_in_the_audit() {
    let home = Home::new();
    home.policy(ASK);
    let serving = Serving::start(&home, &["--rate", "1000000"]);
    let client = serving.client();
    let rejected = behaviour("answer", json!({"json": "{}"}));
    let rejected = client.post("/v1/executions", rejected).await;
    let rejected = rejected.problem(403, "approval-needed");
    let first = rejected["failure"]["approval"]
        .as_str()
        .expect("it names it");
    let approve = format!("/v1/approvals/{first}/approve");
    client
        .post(&approve, json!({"for_ms": 60_000}))
        .await
        .json();
    // By the jobs that wait, too.
    let mut jobs = Vec::new();
    for (input, verb) in [("{\"a\":1}", "approve"), ("{\"a\":2}", "refuse")] {
        let job = waiting(&client, input).await;
        let path = format!("/v1/approvals/{job}/{verb}");
        client.post(&path, json!({})).await.json();
        jobs.push(job);
    }
    let entries = audited(&home, "approval_decided");
    let seen: Vec<(&str, &str)> = entries
        .iter()
        .map(|entry| {
            assert_eq!(entry["by"], "operator", "{entry}");
            assert_eq!(entry["caller"], "operator", "{entry}");
            assert!(entry["approval"].is_string(), "{entry}");
            let text = |name: &str| entry[name].as_str().unwrap_or_default();
            (text("decision"), text("job"))
        })
        .collect();
    let expected = [
        ("approved", ""),
        ("approved", jobs[0].as_str()),
        ("refused", jobs[1].as_str()),
    ];
    assert_eq!(seen, expected);
    let asked = audited(&home, "approval_asked");
    let asked: Vec<(&Value, &Value)> = asked
        .iter()
        .map(|entry| (&entry["caller"], &entry["job"]))
        .collect();
    let operator = json!("operator");
    assert_eq!(
        asked,
        [
            (&operator, &Value::Null),
            (&operator, &json!(jobs[0])),
            (&operator, &json!(jobs[1])),
        ]
    );
    assert_eq!(entries[0]["approval"], first);
    assert!(entries[0]["until"].is_string() && entries[1]["until"].is_null());
    assert!(serving.end().success());
}

/// Runs nothing that was not approved, and keeps no approvals.
struct Asking(Arc<dyn Execute>);

impl Execute for Asking {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        if control.approved {
            return self.0.execute(request, control);
        }
        let cause = Cause::Rejected {
            reason: Rejection::Approval,
            retry_at: None,
        };
        let refused = control.refuse(request, None, Failure::new(cause, "not yet"));
        Box::pin(std::future::ready(Ok(refused)))
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.0.resolve(request)
    }

    fn ready<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Result<(), Failure>> {
        self.0.ready(request)
    }
}

/// What was answered.
#[derive(Debug, PartialEq)]
struct Answered {
    decision: String,
    job: String,
    by: String,
    caller: String,
    names_approval: bool,
}

static WRITTEN: Mutex<Vec<Answered>> = Mutex::new(Vec::new());
static BROKEN: Mutex<bool> = Mutex::new(false);

struct Written;

impl AuditSink for Written {
    fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        self.ready()?;
        if let What::ApprovalDecided(decided) = entry.what {
            WRITTEN.lock().expect("nobody panicked").push(Answered {
                decision: decided.decision.to_owned(),
                job: decided.job.map(|job| job.to_string()).unwrap_or_default(),
                by: decided.by.unwrap_or_default().to_owned(),
                caller: entry.who.caller.unwrap_or_default().to_owned(),
                names_approval: decided.approval.is_some(),
            });
        }
        Ok(())
    }

    fn ready(&self) -> Result<(), AuditError> {
        match *BROKEN.lock().expect("nobody panicked") {
            true => Err(AuditError::Elsewhere("it was told to fail".into())),
            false => Ok(()),
        }
    }
}

/// Also of a job of which no approval is kept; and where it cannot be written, nothing is answered.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_for_a_job_alone_is_in_the_audit() {
    let mut settings = Settings::default();
    settings.rate = NonZeroU32::new(1_000_000).unwrap();
    settings.burst = settings.rate;
    let server = start(Wanted {
        settings,
        around: |inner| Arc::new(Asking(inner)),
        change: |builder| builder.audit(Arc::new(Written), true),
        ..Wanted::default()
    })
    .await;
    let client = server.client();
    let job = waiting(&client, "{}").await;
    let approve = format!("/v1/approvals/{job}/approve");
    *BROKEN.lock().unwrap() = true;
    client
        .post(&approve, json!({}))
        .await
        .problem(503, "unavailable");
    let path = format!("/v1/jobs/{job}");
    assert_eq!(client.get(&path).await.json()["status"], "paused");
    *BROKEN.lock().unwrap() = false;
    client.post(&approve, json!({})).await.json();
    let expected = Answered {
        decision: "approved".to_owned(),
        job: job.clone(),
        by: "operator".to_owned(),
        caller: "operator".to_owned(),
        names_approval: false,
    };
    assert_eq!(*WRITTEN.lock().unwrap(), [expected]);
    let path = format!("/v1/jobs/{job}/result?wait_ms=60000");
    assert_eq!(client.get(&path).await.json()["status"], "success");
    server.end().await;
}

/// Whoever edits the policy by hand leaves a trace, and so does what is refused when it is submitted; and
/// what ran for a job names that, and what was asked for with a token, that.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_past_the_commands_is_in_the_audit() {
    let home = Home::new();
    home.policy("");
    let token = home.run(&[
        "tokens", "create", "--tenant", "acme", "--scope", "execute", "--scope", "jobs",
    ]);
    let token = token
        .lines()
        .find(|line| line.starts_with("skillhost_"))
        .expect(&token);
    let serving = Serving::start(&home, &["--rate", "1000000"]);
    let client = serving.client().with(token.trim());
    client
        .post("/v1/executions", behaviour("echo", json!({})))
        .await
        .json();
    let job = client
        .post("/v1/jobs", behaviour("echo", json!({})))
        .await
        .json();
    let id = job["id"].as_str().expect("it has one");
    let result = client
        .get(&format!("/v1/jobs/{id}/result?wait_ms=60000"))
        .await;
    assert_eq!(result.json()["status"], "success");
    client
        .post("/v1/jobs", behaviour("nothing", json!({})))
        .await
        .problem(422, "unknown-tool");
    let entries = audited(&home, "execution");
    assert_eq!(entries.len(), 3, "{entries:?}");
    let by = format!("token {}", token.split('_').nth(1).expect("it has an id"));
    assert_eq!(entries[0]["caller"], *by);
    assert_eq!(entries[1]["job"], job["id"]);
    assert_eq!(entries[1]["caller"], *by);
    assert_eq!(
        (&entries[2]["caller"], &entries[2]["cause"]),
        (&json!(by), &json!("unknown_tool"))
    );
    assert_eq!(entries[2]["skill"], entries[0]["skill"]);
    assert_eq!(audited(&home, "policy"), [] as [Value; 0]);
    home.policy("general.ceilings.memory_bytes = '16MiB'\n");
    // It is looked at every second, also while nobody asks for anything.
    let entries = loop {
        match audited(&home, "policy") {
            entries if entries.is_empty() => tokio::task::yield_now().await,
            entries => break entries,
        }
    };
    assert!(entries[0]["policy"]["sha256"].is_string(), "{entries:?}");
    assert!(serving.end().success());
}
