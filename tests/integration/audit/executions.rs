//! What is written of an execution.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use skillhost::audit::{AuditError, AuditSink, Audited, Entry, What, hashed_input, settle};
use skillhost::execution::{Decision, Rejection};
use skillhost::grant::Grants;
use skillhost::policy::guard::Guards;
use skillhost::policy::{Approvals, Approving, MemoryApprovals, RecordedApprovals};
use skillhost::{
    Cause, Control, Event, Execute, ExecutionRequest, HostError, LimitOverrides, Observer, Status,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{folder, lines, open, sound};
use crate::harness::{Record, builder, directories_path, host, network_path, request};

/// Gathers what is written, and can be broken.
#[derive(Default)]
struct Gathered {
    kinds: Mutex<Vec<&'static str>>,
    broken: Mutex<bool>,
}

impl AuditSink for Gathered {
    fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        if *self.broken.lock().expect("nobody panicked") {
            return Err(AuditError::Elsewhere("the disk is full".to_owned()));
        }
        self.kinds
            .lock()
            .expect("nobody panicked")
            .push(entry.what.kind());
        Ok(())
    }

    fn ready(&self) -> Result<(), AuditError> {
        match *self.broken.lock().expect("nobody panicked") {
            true => Err(AuditError::Elsewhere("the disk is full".to_owned())),
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn each_execution_is_one_line_without_its_input() {
    let (_outer, path) = folder();
    let audit = Arc::new(open(&path));
    let audited = Audited::new(Arc::new(host().clone()), Arc::clone(&audit) as Arc<_>);
    let mut good = request(host(), "echo", json!({"value": "very secret"})).await;
    good.tenant = Some("acme".to_owned());
    good.user = Some("ann".to_owned());
    let id = good.request_id;
    let result = audited
        .execute(good, Control::default())
        .await
        .expect("the host works");
    assert_eq!(result.status, Status::Success, "{:?}", result.failure);
    let bad = request(host(), "no-such-tool", json!({})).await;
    audited
        .execute(bad, Control::default())
        .await
        .expect("the host works");
    let unknown = ExecutionRequest::new("nobody", json!({}));
    audited
        .execute(unknown, Control::default())
        .await
        .expect("the host works");
    let text = fs::read_to_string(path.join("0001-000001.jsonl")).expect("it can be read");
    assert!(!text.contains("very secret"), "{text}");
    let lines = lines(&path);
    assert_eq!(lines.len(), 4);
    let first = &lines[1];
    assert_eq!(first["kind"], "execution");
    assert_eq!(first["request"], json!(id));
    assert_eq!(
        (&first["tenant"], &first["user"]),
        (&json!("acme"), &json!("ann"))
    );
    assert_eq!(
        first["skill"]["digest"],
        json!(result.skill.expect("it ran").digest)
    );
    assert_eq!(first["outcome"], "success");
    assert_eq!(first["usage"]["fuel"], json!(result.usage.fuel));
    assert_eq!(
        first["input"]["bytes"],
        json!(r#"{"value":"very secret"}"#.len())
    );
    assert!(first["output"]["sha256"].is_string());
    assert_eq!(lines[2]["cause"], "unknown_tool");
    assert_eq!(lines[3]["cause"], "not_loaded");
    // There is none, and so the line has what was asked for.
    assert_eq!(lines[3]["asked"], "nobody");
    assert!(lines[3].get("skill").is_none() && first.get("asked").is_none());
    sound(&path);
}

/// Answers with what it is asked, and gathers on which threads that is written down, and of which inputs.
#[derive(Default)]
struct Threads(Mutex<Vec<(String, [u8; 32], bool)>>);

impl AuditSink for Threads {
    fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        let (input, dropped) = match entry.what {
            What::Execution { input, .. } => (input, false),
            What::Dropped { input, .. } => (input, true),
            _ => return Ok(()),
        };
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let mut written = self.0.lock().expect("nobody panicked");
        written.push((thread, input.sha256, dropped));
        Ok(())
    }
}

/// What takes long to hash is hashed on a thread that others do not wait for, and nothing is lost by that.
#[tokio::test]
async fn what_is_large_is_written_down_elsewhere() {
    let threads = Arc::new(Threads::default());
    let sink = Arc::clone(&threads) as Arc<dyn AuditSink>;
    let audited = Audited::new(Arc::new(host().clone()), sink);
    let large = json!({"value": vec![1; 10_000]});
    let mut hashes = Vec::new();
    for value in [json!({"value": 1}), large.clone()] {
        let asked = request(host(), "echo", value).await;
        hashes.push(hashed_input(&asked).sha256);
        let ended = audited.execute(asked, Control::default()).await;
        let result = ended.expect("the host works");
        assert_eq!(result.status, Status::Success, "{:?}", result.failure);
    }
    // Dropped as soon as it is on its way there.
    let asked = request(host(), "echo", large).await;
    let mut executing = audited.execute(asked, Control::default());
    let polled = std::future::poll_fn(|context| {
        std::task::Poll::Ready(executing.as_mut().poll(context).is_pending())
    });
    assert!(polled.await);
    drop(executing);
    assert!(settle(Duration::from_secs(60)));
    let written = threads.0.lock().expect("nobody panicked").clone();
    let aside = "skillhost-aside".to_owned();
    assert_ne!(written[0].0, aside);
    assert_eq!((&written[0].1, written[0].2), (&hashes[0], false));
    assert_eq!(written[1], (aside, hashes[1], false));
    assert_eq!((written[2].1, written[2].2), (hashes[1], true));
    assert_eq!(written.len(), 3);
}

#[tokio::test]
async fn one_that_is_dropped_is_written_down_with_what_it_cost() {
    let (_outer, path) = folder();
    let audit = Arc::new(open(&path));
    let audited = Audited::new(Arc::new(host().clone()), Arc::clone(&audit) as Arc<_>);
    let spinning = request(host(), "spin", json!({})).await;
    let id = spinning.request_id;
    let execution = audited.execute(spinning, Control::default());
    let ended = tokio::time::timeout(Duration::from_millis(200), execution).await;
    assert!(ended.is_err(), "it spins");
    let lines = lines(&path);
    let last = lines.last().expect("there is one");
    assert_eq!(last["request"], json!(id));
    assert_eq!(last["dropped"], true);
    assert_eq!(last["outcome"], "cancelled");
    assert!(
        last["usage"]["fuel"].as_u64().is_some_and(|fuel| fuel > 0),
        "{last}"
    );
}

/// Also with what bounded it, whether it came to run or not.
#[tokio::test]
async fn one_that_is_dropped_says_its_limits() {
    let (_outer, path) = folder();
    let audit: Arc<dyn AuditSink> = Arc::new(open(&path));
    let policy = "[tenants.acme]\nceilings.memory_bytes = '16MiB'\n\
        [general]\nconcurrency.at_once = 1\n";
    let host = builder().policy(policy.parse().expect("a policy")).build();
    let host = host.expect("a host can be set up");
    let guarded = Guards::new(host.current_policy().clone())
        .audit(audit, false)
        .around(Arc::new(host.clone()));
    let spinning = async || {
        let mut spinning = request(&host, "spin", json!({})).await;
        spinning.tenant = Some("acme".to_owned());
        spinning.limits(LimitOverrides {
            memory_bytes: Some(64 << 20),
            ..LimitOverrides::default()
        })
    };
    let record = Record::new();
    let control = Control::default().observer(record.clone());
    let mut runs = guarded.execute(spinning().await, control);
    tokio::select! {
        ended = &mut runs => panic!("it spins: {ended:?}"),
        () = record.wait_for("started", 1) => {}
    }
    // The second waits for its turn.
    let waits = guarded.execute(spinning().await, Control::default());
    assert!(
        tokio::time::timeout(Duration::from_millis(50), waits)
            .await
            .is_err()
    );
    drop(runs);
    let lines = lines(&path);
    let [opened, dropped @ ..] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(opened["kind"], "opened");
    assert_eq!(dropped.len(), 2, "{lines:?}");
    for line in dropped {
        assert_eq!(line["dropped"], true, "{line}");
        assert_eq!(line["limits"]["memory_bytes"], 16 << 20, "{line}");
        assert_eq!(
            line["clamped"],
            json!([{"limit": "memory_bytes", "rule": "tenants.acme.ceilings.memory_bytes"}])
        );
    }
    sound(&path);
}

/// By the library alone, and once, through however many guards.
#[tokio::test]
async fn changes_of_circuits_and_of_the_policy_are_written_down() {
    let (_outer, path) = folder();
    let audit: Arc<dyn AuditSink> = Arc::new(open(&path));
    let policy = "each_skill.breaker = { minimum = 2 }\n";
    let host = builder().policy(policy.parse().expect("a policy")).build();
    let host = host.expect("a host can be set up");
    let current = host.current_policy().clone();
    let doors: Vec<Arc<dyn Execute>> = (0..2)
        .map(|_| {
            Guards::new(current.clone())
                .audit(Arc::clone(&audit), false)
                .around(Arc::new(host.clone()))
        })
        .collect();
    for door in &doors {
        let panics = request(&host, "panic", json!({"message": "no"})).await;
        let result = door.execute(panics, Control::default()).await;
        assert_eq!(result.expect("the host works").status, Status::Failed);
    }
    let of_kind = |kind: &str| {
        let lines = lines(&path).into_iter();
        lines
            .filter(|line| line["kind"] == kind)
            .collect::<Vec<_>>()
    };
    let changes = of_kind("breaker");
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(
        (&changes[0]["from"], &changes[0]["to"]),
        (&json!("closed"), &json!("open"))
    );
    assert!(of_kind("policy").is_empty());
    let other = "general.ceilings.memory_bytes = '16MiB'\n";
    current.set(Some(other.parse().expect("a policy")));
    let policies = of_kind("policy");
    assert_eq!(policies.len(), 1, "{policies:?}");
    assert!(policies[0]["policy"]["sha256"].is_string());
    sound(&path);
}

#[tokio::test]
async fn an_audit_that_is_required_and_cannot_be_written_rejects() {
    let sink = Arc::new(Gathered::default());
    let inner: Arc<dyn Execute> = Arc::new(host().clone());
    let audited = Audited::new(Arc::clone(&inner), Arc::clone(&sink) as Arc<_>).required(true);
    let lenient = Audited::new(inner, Arc::clone(&sink) as Arc<_>);
    let echo = || request(host(), "echo", json!({"value": 1}));
    let run = async |audited: &Audited| {
        let request = echo().await;
        let result = audited.execute(request, Control::default()).await;
        result.expect("the host works")
    };
    assert_eq!(run(&audited).await.status, Status::Success);
    *sink.broken.lock().expect("nobody panicked") = true;
    let result = run(&audited).await;
    let failure = result.failure.expect("it was rejected");
    let Cause::Rejected { reason, retry_at } = failure.cause else {
        panic!("{failure:?}");
    };
    assert_eq!(reason, Rejection::Audit);
    assert!(retry_at.is_some());
    assert_eq!(result.usage.fuel, 0, "nothing ran");
    assert!(!audited.can_execute(&echo().await).is_admitted());
    // Where it is not required, it runs.
    assert_eq!(run(&lenient).await.status, Status::Success);
    *sink.broken.lock().expect("nobody panicked") = false;
    assert_eq!(run(&audited).await.status, Status::Success);
}

/// Whether a disk is full shows only once it is written to.
#[tokio::test]
async fn an_answer_that_cannot_be_written_down_is_withheld() {
    struct Late;
    impl AuditSink for Late {
        fn record(&self, _: &Entry<'_>) -> Result<(), AuditError> {
            Err(AuditError::Elsewhere("the disk is full".to_owned()))
        }
    }
    let audited = Audited::new(Arc::new(host().clone()), Arc::new(Late)).required(true);
    let request = request(host(), "echo", json!({"value": "x"})).await;
    let result = audited
        .execute(request, Control::default())
        .await
        .expect("the host works");
    assert_eq!(result.status, Status::Rejected);
    assert_eq!(result.output, None);
    let failure = result.failure.expect("it was withheld");
    assert!(failure.message.contains("withheld"), "{failure}");
    assert!(result.usage.fuel > 0, "it ran");
}

#[tokio::test]
async fn what_is_cancelled_is_written_down_once() {
    let sink = Arc::new(Gathered::default());
    let audited = Audited::new(Arc::new(host().clone()), Arc::clone(&sink) as Arc<_>);
    let token = CancellationToken::new();
    token.cancel();
    let spinning = request(host(), "spin", json!({})).await;
    let control = Control::default().cancellation(token);
    let result = audited
        .execute(spinning, control)
        .await
        .expect("the host works");
    assert_eq!(result.status, Status::Cancelled);
    assert_eq!(*sink.kinds.lock().expect("nobody panicked"), ["execution"]);
}

/// Whoever keeps the future, as one who waits until all is told, waits for nobody.
#[tokio::test]
async fn what_has_ended_holds_nothing_any_more() {
    struct Deaf;
    impl Observer for Deaf {
        fn observe(&self, _: Uuid, _: &Event<'_>) {}
    }
    // Nothing can be made beneath a file.
    let (outer, _) = folder();
    let file = outer.path().join("file");
    fs::write(&file, "").expect("a file can be written");
    let broken = builder().scratch(file).build();
    let broken = broken.expect("it can be set up");
    broken.load(directories_path()).await.expect("it loads");
    let large = json!({"value": vec![1; 10_000]});
    for (host, tool, input, ends) in [
        (host(), "echo", json!({"value": 1}), true),
        (host(), "echo", large, true),
        (host(), "answer_large", json!({"bytes": 100_000}), true),
        (&broken, "calls", json!({"calls": []}), false),
    ] {
        let sink = Arc::new(Gathered::default());
        let audited = Audited::new(Arc::new(host.clone()), Arc::clone(&sink) as Arc<_>);
        let skill = match ends {
            true => request(host, tool, json!({})).await.skill,
            false => host.skills()[0].digest().into(),
        };
        let asked = ExecutionRequest::new(skill, input).tool(tool);
        let asked = asked.grants(Grants {
            scratch: !ends,
            ..Grants::default()
        });
        let observer = Arc::new(Deaf);
        let heard = Arc::downgrade(&observer);
        let control = Control::default().observer(observer);
        let mut running = audited.execute(asked, control);
        let ended = (&mut running).await;
        assert_eq!(ended.is_ok(), ends, "{tool}: {ended:?}");
        assert!(heard.upgrade().is_none(), "{tool}");
        // And it has its entry, and no other later.
        let kinds = || sink.kinds.lock().expect("nobody panicked").clone();
        assert_eq!(kinds(), ["execution"], "{tool}");
        drop(running);
        assert_eq!(kinds(), ["execution"], "{tool}");
    }
}

#[tokio::test]
async fn a_name_of_any_length_makes_a_line_that_verifies() {
    let (_outer, path) = folder();
    let audit = Arc::new(open(&path));
    let audited = Audited::new(Arc::new(host().clone()), Arc::clone(&audit) as Arc<_>);
    let long = "\u{1}\"".repeat(2 << 20);
    let mut asked = request(host(), &long, json!({})).await;
    asked.tenant = Some(long.clone());
    asked.session = Some(long);
    let ended = audited.execute(asked, Control::default()).await;
    assert_eq!(ended.expect("the host works").status, Status::Failed);
    assert_eq!(lines(&path).len(), 2);
    sound(&path);
}

#[tokio::test]
async fn what_a_broken_host_could_not_do_is_no_cancellation() {
    let (_outer, path) = folder();
    let audit = Arc::new(open(&path));
    // Nothing can be made beneath a file.
    let host = builder().scratch(path.join("0001.head")).build();
    let host = host.expect("it can be set up");
    let skill = host.load(directories_path()).await.expect("it loads");
    let audited = Audited::new(Arc::new(host), Arc::clone(&audit) as Arc<_>);
    let request = ExecutionRequest::new(skill.digest(), json!({"calls": []}))
        .grants(Grants::default().scratch());
    let ended = audited.execute(request, Control::default()).await;
    assert!(
        matches!(ended, Err(HostError::Unavailable { .. })),
        "{ended:?}"
    );
    let lines = lines(&path);
    let last = lines.last().expect("it is written");
    assert_eq!(
        (&last["outcome"], &last["cause"]),
        (&json!("failed"), &json!("host_error"))
    );
    assert_eq!(last["dropped"], json!(null));
    assert_eq!(last["skill"]["digest"], json!(skill.digest()));
    sound(&path);
}

/// What let it run, what was refused to it although it went on, what it got less of, and who asked.
#[tokio::test]
async fn a_success_says_what_let_it_run_and_what_was_refused_to_it() {
    let (_outer, path) = folder();
    let audit: Arc<dyn AuditSink> = Arc::new(open(&path));
    let policy = "general.ceilings.memory_bytes = '16MiB'\n\
        [[approval.rules]]\nname = 'looks'\ntool = 'request'\naction = 'allow'\n\
        [[approval.rules]]\ntool = 'answer'\naction = 'ask'\n";
    let host = builder().policy(policy.parse().expect("a policy")).build();
    let host = host.expect("a host can be set up");
    let network = host.load(network_path()).await.expect("it loads");
    let (current, approvals) = (host.current_policy().clone(), MemoryApprovals::default());
    let (store, written) = (approvals.clone(), Arc::clone(&audit));
    let guarded = Guards::new(current.clone())
        .approval(move |inner| {
            let approving = Approving::new(inner, current, Arc::new(store));
            Arc::new(approving.audit(written))
        })
        .audit(Arc::clone(&audit), false)
        .around(Arc::new(host.clone()));
    let run = async |request: ExecutionRequest, control: Control| {
        let result = guarded.execute(request, control).await;
        result.expect("the host works")
    };
    let asked = json!({"authority": "example.com", "path": "/a?key=x"});
    let asked = ExecutionRequest::new(network.digest(), asked).tool("request");
    let limits = LimitOverrides {
        memory_bytes: Some(64 << 20),
        ..LimitOverrides::default()
    };
    let job = uuid::Uuid::now_v7();
    let control = Control::default().caller("token 0f3a6c2e91b4").job(job);
    let result = run(asked.limits(limits), control).await;
    assert_eq!(result.status, Status::Success, "{:?}", result.failure);
    let line = lines(&path).pop().expect("there is one");
    assert_eq!(line["outcome"], "success");
    assert_eq!(line["allowed_by"], "approval rule 1 (looks)");
    assert_eq!(line["denials"][0]["capability"], "http", "{line}");
    assert!(!line.to_string().contains("key=x"), "{line}");
    assert_eq!(
        line["clamped"],
        json!([{"limit": "memory_bytes", "rule": "general.ceilings.memory_bytes"}])
    );
    assert_eq!(line["caller"], "token 0f3a6c2e91b4");
    assert_eq!(line["job"], json!(job));

    // Once with an approval for once, once with one for a time.
    for decision in [Decision::Once, Decision::For(Duration::from_secs(60))] {
        let answer = || request(&host, "answer", json!({"json": "{}"}));
        let control = Control::default().caller("token 0f3a6c2e91b4");
        let rejected = run(answer().await, control).await;
        let asked = lines(&path);
        let asked = asked.iter().rfind(|line| line["kind"] == "approval_asked");
        assert_eq!(
            asked.expect("it is written")["caller"],
            "token 0f3a6c2e91b4"
        );
        let failure = rejected.failure.expect("it is asked about");
        let id = failure.approval.expect("it names it");
        let recorded = RecordedApprovals::new(Arc::new(approvals.clone()), Arc::clone(&audit));
        let recorded = recorded.caller("token 5d1e9a70c3b2");
        let decided = recorded.decide(id, decision, "ann").await;
        decided.expect("it can be answered");
        let line = lines(&path).pop().expect("there is one");
        assert_eq!(line["kind"], "approval_decided");
        assert_eq!(line["by"], "ann");
        assert_eq!(line["caller"], "token 5d1e9a70c3b2");
        assert_eq!(line["rule"], "approval rule 2");
        assert_eq!(line["tool"], "answer");
        assert!(line["skill"]["digest"].is_string(), "{line}");
        let result = run(answer().await, Control::default()).await;
        assert_eq!(result.status, Status::Success, "{:?}", result.failure);
        let line = lines(&path).pop().expect("there is one");
        assert_eq!(line["allowed_by"], "approval rule 2");
        assert_eq!(line["approval"], json!(id));
    }
    sound(&path);
}
