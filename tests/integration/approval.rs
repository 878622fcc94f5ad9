//! Approval: what runs only once somebody has said so, and never anything else.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use skillhost::audit::{AuditError, AuditSink, Entry};
use skillhost::execution::{Ask, BoxFuture, Decision, Question, Rejection, Resolution};
use skillhost::grant::{Grants, Mode};
use skillhost::policy::guard::Guards;
use skillhost::policy::{
    ApprovalError, ApprovalFilter, ApprovalStatus, Approvals, Approving, CurrentPolicy,
    MemoryApprovals,
};
use skillhost::{
    Attachment, Cause, Control, Execute, ExecutionRequest, ExecutionResult, Failure, HostError,
    LimitOverrides, Policy, Status,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::harness::{Record, behaviours_path, host, request};

/// Everything that may write asks.
const ASK: &str = "[[approval.rules]]\nname = 'writers'\ndestructive = true\naction = 'ask'\n";

/// A host whose policy asks, and where the answers are kept.
struct Place {
    guarded: Arc<dyn Execute>,
    policy: CurrentPolicy,
    approvals: MemoryApprovals,
    now: Arc<Mutex<DateTime<Utc>>>,
    written: Arc<Written>,
}

#[derive(Default)]
struct Written(Mutex<Vec<&'static str>>);

impl AuditSink for Written {
    fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        self.0
            .lock()
            .expect("nobody panicked")
            .push(entry.what.kind());
        Ok(())
    }
}

impl Place {
    fn new(policy: &str) -> Self {
        let policy: Policy = policy.parse().expect("it makes sense");
        let policy = CurrentPolicy::new(Some(policy));
        let now = Arc::new(Mutex::new(Utc::now()));
        let clock = Arc::clone(&now);
        let approvals =
            MemoryApprovals::with_clock(move || *clock.lock().expect("nobody panicked"));
        let written = Arc::new(Written::default());
        let (store, current) = (approvals.clone(), policy.clone());
        let sink = Arc::clone(&written);
        let guarded = Guards::new(policy.clone())
            .approval(move |inner| {
                Arc::new(Approving::new(inner, current, Arc::new(store)).audit(sink))
            })
            .around(Arc::new(host().clone()));
        Place {
            guarded,
            policy,
            approvals,
            now,
            written,
        }
    }

    async fn run(&self, request: ExecutionRequest) -> ExecutionResult {
        self.run_with(request, Control::default()).await
    }

    async fn run_with(&self, request: ExecutionRequest, control: Control) -> ExecutionResult {
        let result = self.guarded.execute(request, control).await;
        result.expect("the host works")
    }

    async fn pending(&self) -> Vec<Uuid> {
        let filter = ApprovalFilter {
            status: vec![ApprovalStatus::Pending],
            ..ApprovalFilter::default()
        };
        let found = self
            .approvals
            .approvals(&filter)
            .await
            .expect("it can be read");
        found.into_iter().map(|approval| approval.id).collect()
    }

    async fn decide(&self, id: Uuid, decision: Decision) {
        let decided = self.approvals.decide(id, decision, "ann").await;
        decided.expect("it can be answered");
    }

    fn pass(&self, time: TimeDelta) {
        *self.now.lock().expect("nobody panicked") += time;
    }
}

/// A call that may write, as far as anybody knows.
async fn answer(json: &str) -> ExecutionRequest {
    request(host(), "answer", json!({"json": json})).await
}

fn rejection(result: &ExecutionResult) -> (Rejection, &Failure) {
    let failure = result.failure.as_ref().expect("it was rejected");
    match failure.cause {
        Cause::Rejected { reason, .. } => (reason, failure),
        _ => panic!("{failure:?}"),
    }
}

#[tokio::test]
async fn what_is_asked_about_runs_once_it_is_approved_and_once_only() {
    let place = Place::new(ASK);
    // What changes nothing is not asked about.
    let echo = request(host(), "echo", json!({})).await;
    assert_eq!(place.run(echo).await.status, Status::Success);
    let result = place.run(answer("{}").await).await;
    let (reason, failure) = rejection(&result);
    assert_eq!(reason, Rejection::Approval);
    assert_eq!(failure.rule.as_deref(), Some("approval rule 1 (writers)"));
    let id = failure.approval.expect("there is one");
    assert!(
        failure
            .hint
            .as_ref()
            .expect("there is one")
            .contains(&id.to_string())
    );
    // The same again opens no second question.
    place.run(answer("{}").await).await;
    assert_eq!(place.pending().await, [id]);
    place.decide(id, Decision::Once).await;
    assert_eq!(place.run(answer("{}").await).await.status, Status::Success);
    let again = place.run(answer("{}").await).await;
    assert_eq!(rejection(&again).0, Rejection::Approval);
    assert_ne!(rejection(&again).1.approval, Some(id));
    let used = place.approvals.approval(id).await.expect("it is kept");
    assert_eq!(used.status, ApprovalStatus::Used);
    assert_eq!(used.decided_by.as_deref(), Some("ann"));
    let over = place.approvals.decide(id, Decision::Once, "ann").await;
    assert!(matches!(over, Err(ApprovalError::Over { .. })));
    let asked = place.written.0.lock().expect("nobody panicked").clone();
    assert_eq!(asked, ["approval_asked", "approval_asked"]);
}

#[tokio::test]
async fn an_approval_is_for_nothing_else() {
    let place = Place::new(ASK);
    let mut wanted = answer("{}").await;
    wanted.tenant = Some("acme".to_owned());
    wanted = wanted
        .attach(Attachment::new("a", "text/plain", *b"one"))
        .grants(Grants::default().environment("TZ", "UTC"));
    place.run(wanted.clone()).await;
    let id = place.pending().await[0];
    place
        .decide(id, Decision::For(Duration::from_secs(600)))
        .await;
    let allowed =
        |request: ExecutionRequest| async { place.run(request).await.status == Status::Success };
    // The same, but for nine bytes that say nothing.
    let mut component = std::fs::read(behaviours_path()).unwrap();
    component.extend_from_slice(b"\x00\x0a\x09elsewhere");
    let another_build = host().load_bytes(component).await.unwrap().digest();
    let mut others = vec![wanted.clone(); 9];
    others[0].input = json!({"json": "{ }"});
    others[1].input = json!({"json": "{}", "more": null});
    others[2].tool = Some("allocate".to_owned());
    others[3].tenant = None;
    others[4].tenant = Some("other".to_owned());
    others[5].attachments[0].data = b"two".to_vec();
    others[6].attachments[0].name = "b".to_owned();
    others[7].grants = Grants::default().environment("TZ", "CET");
    others[8].skill = another_build.into();
    for (number, other) in others.into_iter().enumerate() {
        assert!(!allowed(other).await, "{number}");
    }
    // The same, whoever asks and however often.
    for user in [None, Some("bob".to_owned())] {
        let mut same = wanted.clone();
        same.user = user;
        same.request_id = Uuid::now_v7();
        assert!(allowed(same).await);
    }
    place.pass(TimeDelta::seconds(601));
    assert!(!allowed(wanted).await, "its time is over");
}

#[tokio::test]
async fn the_first_rule_that_matches_holds() {
    let place = Place::new(
        "[[approval.rules]]\ntenant = 'trusted*'\naction = 'allow'\n\
         [[approval.rules]]\nskill = 'behaviours'\ntool = 'answer'\naction = 'deny'\n\
         [[approval.rules]]\naction = 'ask'\n",
    );
    let as_tenant = async |tenant: Option<&str>, tool: &str| {
        let mut request = request(host(), tool, json!({"json": "{}"})).await;
        request.tenant = tenant.map(str::to_owned);
        let admission = place.guarded.can_execute(&request);
        let result = place.run(request).await;
        assert_eq!(admission.is_admitted(), result.status == Status::Success);
        result
    };
    assert_eq!(
        as_tenant(Some("trusted-1"), "answer").await.status,
        Status::Success
    );
    let denied = as_tenant(Some("acme"), "answer").await;
    assert_eq!(rejection(&denied).0, Rejection::Refused);
    assert_eq!(
        rejection(&denied).1.rule.as_deref(),
        Some("approval rule 2")
    );
    assert_eq!(rejection(&denied).1.approval, None);
    let asked = as_tenant(None, "echo").await;
    assert_eq!(rejection(&asked).0, Rejection::Approval);
    assert_eq!(rejection(&asked).1.rule.as_deref(), Some("approval rule 3"));
    // A policy that takes its place holds at once.
    place.policy.set(None);
    let mut request = answer("{}").await;
    request.tenant = Some("acme".to_owned());
    assert_eq!(place.run(request).await.status, Status::Success);
}

#[tokio::test]
async fn a_refusal_holds_and_can_be_taken_back() {
    let place = Place::new(ASK);
    place.run(answer("{}").await).await;
    let id = place.pending().await[0];
    place.decide(id, Decision::Refuse).await;
    let refused = place.run(answer("{}").await).await;
    assert_eq!(rejection(&refused).0, Rejection::Refused);
    assert!(rejection(&refused).1.message.contains("ann refused it"));
    assert!(
        place.pending().await.is_empty(),
        "nobody is asked again at once"
    );
    place
        .decide(id, Decision::For(Duration::from_secs(60)))
        .await;
    assert_eq!(place.run(answer("{}").await).await.status, Status::Success);
    // What was given for a time can be taken back.
    place.decide(id, Decision::Refuse).await;
    assert_eq!(place.run(answer("{}").await).await.status, Status::Rejected);
    place.pass(TimeDelta::hours(2));
    let again = place.run(answer("{}").await).await;
    assert_eq!(rejection(&again).0, Rejection::Approval);
}

#[tokio::test]
async fn a_request_can_wait_for_its_answer() {
    let place = Place::new(&format!("[approval]\nwait = '1h'\n{ASK}"));
    let waiting = place.run(answer("{}").await);
    let answering = async {
        let id = loop {
            match place.pending().await.first() {
                Some(id) => break *id,
                None => tokio::task::yield_now().await,
            }
        };
        place.decide(id, Decision::Once).await;
    };
    let (result, ()) = tokio::join!(waiting, answering);
    assert_eq!(result.status, Status::Success, "{:?}", result.failure);
}

/// What a rule denies by the time of the answer does not run, and the approval stays as it is.
#[tokio::test]
async fn a_rule_that_denies_it_meanwhile_holds() {
    let place = Place::new(&format!("[approval]\nwait = '1h'\n{ASK}"));
    let waiting = place.run(answer("{}").await);
    let answering = async {
        let id = loop {
            match place.pending().await.first() {
                Some(id) => break *id,
                None => tokio::task::yield_now().await,
            }
        };
        place.policy.set(Some(
            "[[approval.rules]]\naction = 'deny'\n"
                .parse()
                .expect("it makes sense"),
        ));
        place.decide(id, Decision::Once).await;
        id
    };
    let (result, id) = tokio::join!(waiting, answering);
    let (reason, failure) = rejection(&result);
    assert_eq!(reason, Rejection::Refused);
    assert_eq!(failure.rule.as_deref(), Some("approval rule 1"));
    let kept = place.approvals.approval(id).await.expect("it is kept");
    assert_eq!(kept.status, ApprovalStatus::Approved);
}

/// One for once lets one of two go that wait for it; the other asks anew, and that is written down.
#[tokio::test]
async fn a_question_that_is_opened_after_waiting_is_in_the_audit() {
    let place = Place::new(&format!("[approval]\nwait = '1h'\n{ASK}"));
    let both = [place.run(answer("{}").await), place.run(answer("{}").await)];
    let [first, second] = both;
    let answering = async {
        let id = loop {
            match place.pending().await.first() {
                Some(id) => break *id,
                None => tokio::task::yield_now().await,
            }
        };
        // Both wait by now: neither waits for anything else.
        tokio::task::yield_now().await;
        place.decide(id, Decision::Once).await;
        id
    };
    let (first, second, id) = tokio::join!(first, second, answering);
    let mut ended = [first, second];
    ended.sort_by_key(|result| result.status != Status::Success);
    assert_eq!(ended[0].status, Status::Success, "{:?}", ended[0].failure);
    let (reason, failure) = rejection(&ended[1]);
    assert_eq!(reason, Rejection::Approval);
    let next = failure.approval.expect("there is one");
    assert_ne!(next, id);
    assert_eq!(place.pending().await, [next]);
    let asked = place.written.0.lock().expect("nobody panicked").clone();
    assert_eq!(asked, ["approval_asked", "approval_asked"]);
}

/// An approval for once is for something that runs: what ends before that leaves it as it was.
#[tokio::test]
async fn what_does_not_start_uses_up_nothing() {
    let place = Place::new(
        "general.concurrency.at_once = 1\n\
         [[approval.rules]]\ntool = 'answer'\naction = 'ask'\n",
    );
    place.run(answer("{}").await).await;
    let id = place.pending().await[0];
    place.decide(id, Decision::Once).await;
    let status = async || {
        let kept = place.approvals.approval(id).await;
        kept.expect("it is kept").status
    };
    let (record, stop) = (Record::new(), CancellationToken::new());
    let hold = request(host(), "wait_for_ever", json!({})).await;
    let control = Control::default()
        .cancellation(stop.clone())
        .observer(record.clone());
    let holder = {
        let guarded = Arc::clone(&place.guarded);
        tokio::spawn(async move { guarded.execute(hold, control).await })
    };
    record.wait_for("started", 1).await;

    // Cancelled while it waits for its turn.
    let token = CancellationToken::new();
    let control = Control::default().cancellation(token.clone());
    let waiting = place.run_with(answer("{}").await, control);
    let (result, ()) = tokio::join!(waiting, async {
        while status().await != ApprovalStatus::Used {
            tokio::task::yield_now().await;
        }
        token.cancel();
    });
    assert_eq!(result.status, Status::Cancelled);
    assert_eq!(status().await, ApprovalStatus::Approved);

    // Too late.
    let late = answer("{}")
        .await
        .deadline(Utc::now() + TimeDelta::milliseconds(20));
    assert_eq!(place.run(late).await.status, Status::Timeout);
    assert_eq!(status().await, ApprovalStatus::Approved);

    // Dropped.
    let request = answer("{}").await;
    let mut dropped = Box::pin(place.run(request));
    tokio::select! {
        biased;
        result = &mut dropped => panic!("{result:?}"),
        () = async {
            while status().await != ApprovalStatus::Used {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    drop(dropped);
    while status().await != ApprovalStatus::Approved {
        tokio::task::yield_now().await;
    }

    stop.cancel();
    holder
        .await
        .expect("it does not panic")
        .expect("the host works");
    // What runs uses it up, also where that fails.
    let fuel = LimitOverrides {
        fuel: Some(1_000),
        ..LimitOverrides::default()
    };
    let failed = place.run(answer("{}").await.limits(fuel)).await;
    assert_eq!(failed.status, Status::ResourceExhausted);
    assert_eq!(status().await, ApprovalStatus::Used);
}

#[tokio::test]
async fn an_approval_outlives_a_host_that_is_broken() {
    struct Broken;

    impl Execute for Broken {
        fn execute<'a>(
            &'a self,
            _: ExecutionRequest,
            _: Control,
        ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
            Box::pin(async { Err(HostError::Internal("it is broken".to_owned())) })
        }

        fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
            host().resolve(request)
        }
    }

    let policy = CurrentPolicy::new(Some(ASK.parse().expect("it makes sense")));
    let approvals = MemoryApprovals::default();
    let approving = Approving::new(Arc::new(Broken), policy, Arc::new(approvals.clone()));
    let request = answer("{}").await;
    let asked = approving.execute(request.clone(), Control::default()).await;
    let asked = asked.expect("it is only rejected");
    let id = rejection(&asked).1.approval.expect("there is one");
    let decided = approvals.decide(id, Decision::Once, "ann").await;
    decided.expect("it can be answered");
    let ended = approving.execute(request, Control::default()).await;
    assert!(ended.is_err());
    let kept = approvals.approval(id).await.expect("it is kept");
    assert_eq!(kept.status, ApprovalStatus::Approved);
}

#[tokio::test(start_paused = true)]
async fn it_does_not_wait_for_ever() {
    let place = Place::new(&format!("[approval]\nwait = '10m'\n{ASK}"));
    let skill = host()
        .load(crate::harness::behaviours_path())
        .await
        .expect("it loads");
    let request = ExecutionRequest::new(skill.digest(), json!({"json": "{}"})).tool("answer");
    let began = tokio::time::Instant::now();
    let result = place.run(request.clone()).await;
    assert_eq!(rejection(&result).0, Rejection::Approval);
    assert_eq!(began.elapsed().as_secs(), 600);
    // Nor past its deadline, nor once it is cancelled.
    let late = request
        .clone()
        .deadline(Utc::now() + TimeDelta::seconds(60));
    let result = place.run(late).await;
    assert_eq!(result.status, Status::Timeout);
    let token = CancellationToken::new();
    token.cancel();
    let result = place
        .run_with(request, Control::default().cancellation(token))
        .await;
    assert_eq!(result.status, Status::Cancelled);
}

#[tokio::test]
async fn a_callback_can_answer() {
    let place = Place::new(ASK);
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let callback = Arc::new(move |question: Question<'_>| {
        counted.fetch_add(1, Ordering::SeqCst);
        assert_eq!(question.tool.name, "answer");
        assert_eq!(question.rule, "approval rule 1 (writers)");
        let decision = match question.request.input["json"].as_str() {
            Some("{}") => Some(Decision::Once),
            Some("[]") => Some(Decision::Refuse),
            _ => None,
        };
        async move { decision }
    });
    let run = async |json: &str| {
        let control = Control::default().ask(Arc::clone(&callback) as Arc<_>);
        place.run_with(answer(json).await, control).await
    };
    assert_eq!(run("{}").await.status, Status::Success);
    assert_eq!(rejection(&run("[]").await).0, Rejection::Refused);
    // Without an answer here, one may come from elsewhere.
    assert_eq!(rejection(&run("{ }").await).0, Rejection::Approval);
    assert_eq!(place.pending().await.len(), 1);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    // A job is paused instead; nobody at this end is asked for it.
    let control = Control::default().ask(callback).job(Uuid::now_v7());
    let job = place.run_with(answer("{  }").await, control).await;
    assert_eq!(rejection(&job).0, Rejection::Approval);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

/// Whoever has no answer leaves it to others for a time; nobody waits for what is asked only afterwards.
#[tokio::test(start_paused = true)]
async fn without_an_answer_here_one_waits_as_the_policy_says() {
    struct Later;
    impl Ask for Later {
        fn ask<'a>(&'a self, _: Question<'a>) -> BoxFuture<'a, Option<Decision>> {
            panic!("nobody is asked here")
        }
        fn asks_afterwards(&self) -> bool {
            true
        }
    }
    let place = Place::new(&format!("[approval]\nwait = '10m'\n{ASK}"));
    let nobody: Arc<dyn Ask> = Arc::new(|_: Question<'_>| async { None });
    for (ask, seconds) in [(nobody, 600), (Arc::new(Later) as Arc<dyn Ask>, 0)] {
        let began = tokio::time::Instant::now();
        let result = place.run_with(answer("{}").await, Control::default().ask(ask));
        assert_eq!(rejection(&result.await).0, Rejection::Approval);
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

#[tokio::test]
async fn an_approval_that_was_not_needed_is_given_back() {
    let place = Place::new(ASK);
    // Whether what is granted is there is looked at only once it is approved.
    let nowhere = Grants::default().directory("/nowhere/at/all", "/data", Mode::Ro);
    let wanted = answer("{}").await.grants(nowhere);
    place.run(wanted.clone()).await;
    let id = place.pending().await[0];
    place.decide(id, Decision::Once).await;
    let rejected = place.run(wanted).await;
    assert_eq!(rejection(&rejected).0, Rejection::Grant);
    let kept = place.approvals.approval(id).await.expect("it is kept");
    assert_eq!(kept.status, ApprovalStatus::Approved);
}

#[tokio::test]
async fn questions_are_bounded_for_each_tenant_and_expire() {
    let place = Place::new(&format!(
        "[approval]\nmax_pending = 2\nexpires = '1h'\n{ASK}"
    ));
    let ask = async |tenant: &str, json: &str| {
        let mut request = answer(json).await;
        request.tenant = Some(tenant.to_owned());
        place.run(request).await
    };
    ask("acme", "1").await;
    ask("acme", "2").await;
    let full = ask("acme", "3").await;
    let failure = full.failure.expect("it was rejected");
    let Cause::Rejected {
        reason: Rejection::Approval,
        retry_at: Some(_),
    } = failure.cause
    else {
        panic!("{failure:?}");
    };
    assert_eq!(failure.approval, None);
    // Another is not kept from asking.
    ask("other", "1").await;
    assert_eq!(place.pending().await.len(), 3);
    place.pass(TimeDelta::minutes(61));
    assert!(place.pending().await.is_empty());
    ask("acme", "3").await;
    assert_eq!(place.pending().await.len(), 1);
    let before = *place.now.lock().expect("nobody panicked");
    assert_eq!(place.approvals.forget(before).await, Ok(3));
}

#[tokio::test]
async fn what_somebody_approved_elsewhere_is_believed_where_nothing_else_is_kept() {
    let place = Place::new(ASK);
    let control = Control::default().approved(true);
    let result = place.run_with(answer("{}").await, control).await;
    assert_eq!(result.status, Status::Success);
    // A rule that denies is not overruled by that.
    place.policy.set(Some(
        "[[approval.rules]]\naction = 'deny'\n"
            .parse()
            .expect("it makes sense"),
    ));
    let control = Control::default().approved(true);
    let result = place.run_with(answer("{}").await, control).await;
    assert_eq!(rejection(&result).0, Rejection::Refused);
}

#[tokio::test]
async fn what_is_not_known_is_not_run() {
    let place = Place::new(ASK);
    let result = place.run(ExecutionRequest::new("nobody", json!({}))).await;
    assert!(matches!(
        result.failure.expect("it failed").cause,
        Cause::NotLoaded
    ));
}

#[test]
fn what_is_wrong_with_a_rule_is_said_with_its_line() {
    for (text, line, says) in [
        ("[approval]\nwait = 'long'", 2, "duration"),
        ("[approval]\nwait = '2d'", 2, "a day at most"),
        ("[approval]\nexpires = '0s'", 2, "longer than nothing"),
        ("[approval]\nmax_pending = 0", 2, "1 to 10,000"),
        (
            "[[approval.rules]]\naction = 'perhaps'",
            2,
            "unknown variant",
        ),
        (
            "[[approval.rules]]\ntool = 'x'",
            1,
            "missing field `action`",
        ),
        (
            "[[approval.rules]]\naction = 'allow'\n[[approval.rules]]\ntool = 'x'\naction = 'ask'",
            3,
            "never reached: rule 1 matches everything",
        ),
        ("[audit]\nenabled = false\nrequired = true", 3, "not kept"),
        ("[audit]\nfolder = 'here'", 2, "not absolute"),
        ("[audit]\nkeep = '1s'", 2, "an hour at least"),
    ] {
        let error = text.parse::<Policy>().expect_err(text);
        assert!(error.message.contains(says), "{text}: {error}");
        assert_eq!(error.line, Some(line), "{text}: {error}");
    }
}
