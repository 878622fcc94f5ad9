//! Approvals, kept for every process.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use skillhost::execution::Decision;
use skillhost::policy::{
    Answer, ApprovalError, ApprovalFilter, ApprovalStatus, Approvals as _, Subject, Wanted,
};
use skillhost::queue::{JobStatus, Maintenance, NewJob, Queue};
use skillhost::{ExecutionRequest, SkillIdentity};
use uuid::Uuid;

use super::cases;
use crate::place::{Place, Scripted};

cases![
    what_was_asked_is_answered_from_elsewhere_and_used_once,
    of_many_who_ask_at_once_one_gets_it,
    one_for_a_time_is_used_until_it_is_over,
    what_was_not_needed_is_given_back,
    questions_are_bounded_and_expire,
    they_are_listed_by_what_they_are,
    whoever_waits_hears_of_an_answer_from_elsewhere,
    the_approval_of_a_job_and_the_job_are_one,
    an_answer_before_a_job_waits_is_not_lost,
    a_job_that_ends_asks_no_more,
    jobs_that_would_run_the_same_are_answered_for_one_by_one,
    an_answer_for_a_time_answers_all_that_ask_the_same,
    a_question_that_nobody_answers_ends_its_job,
];

const DAY: Duration = Duration::from_secs(86_400);

fn wanted(number: u8, tenant: Option<&str>) -> Wanted {
    let request = ExecutionRequest::new("some", json!({}));
    Wanted {
        subject: Subject::from_bytes([number; 32]),
        skill: Arc::new(SkillIdentity {
            name: "some".to_owned(),
            version: "1.0.0".to_owned(),
            digest: skillhost::skill::Digest::of_component(b"some"),
        }),
        tool: "tool".to_owned(),
        tenant: tenant.map(str::to_owned),
        user: None,
        session: None,
        request: request.request_id,
        job: None,
        input: "{\"text\":\"\u{1b}[2J\"}".to_owned(),
        input_bytes: 2,
        attachments: Vec::new(),
        grants: request.grants,
        rule: "approval rule 1".to_owned(),
    }
}

async fn ask(queue: &Queue, wanted: &Wanted) -> Answer {
    let answer = queue.ask(wanted.clone(), DAY, 100).await;
    answer.expect("it can be asked")
}

async fn opened(queue: &Queue, wanted: &Wanted) -> Uuid {
    match ask(queue, wanted).await {
        Answer::Asked(approval) | Answer::Pending(approval) => approval.id,
        other => panic!("{other:?}"),
    }
}

async fn status(place: &Place, id: Uuid) -> ApprovalStatus {
    let approval = place.queue.approval(id).await.expect("it is kept");
    approval.status_at(place.queue.now())
}

async fn what_was_asked_is_answered_from_elsewhere_and_used_once(place: Place) {
    let wanted = wanted(1, Some("acme"));
    let Answer::Asked(first) = ask(&place.queue, &wanted).await else {
        panic!("nobody had been asked");
    };
    let id = first.id;
    assert!(
        matches!(ask(&place.queue, &wanted).await, Answer::Pending(same) if same.id == id),
        "it is the same question"
    );
    let other = place.another().await;
    let kept = other.approval(id).await.expect("any process can read it");
    assert_eq!(kept.wanted, wanted);
    let after = other
        .decide(id, Decision::Once, "ann")
        .await
        .expect("it can be answered");
    assert_eq!(after.status, ApprovalStatus::Approved);
    assert!(matches!(ask(&place.queue, &wanted).await, Answer::Approved(given) if given.id == id));
    assert_eq!(status(&place, id).await, ApprovalStatus::Used);
    assert_ne!(opened(&place.queue, &wanted).await, id);
    let over = place.queue.decide(id, Decision::Refuse, "ann").await;
    assert!(matches!(
        over,
        Err(ApprovalError::Over {
            status: ApprovalStatus::Used,
            ..
        })
    ));
    let nobody = place.queue.decide(Uuid::nil(), Decision::Once, "ann").await;
    assert_eq!(nobody, Err(ApprovalError::NotFound(Uuid::nil())));
}

async fn of_many_who_ask_at_once_one_gets_it(place: Place) {
    let handles = [
        place.queue.clone(),
        place.another().await,
        place.another().await,
    ];
    for round in 0..10 {
        let wanted = wanted(round, None);
        let id = opened(&place.queue, &wanted).await;
        place
            .queue
            .decide(id, Decision::Once, "ann")
            .await
            .expect("it can be answered");
        let asking: Vec<_> = (0..12)
            .map(|number| {
                let (queue, wanted) = (handles[number % handles.len()].clone(), wanted.clone());
                tokio::spawn(async move { ask(&queue, &wanted).await })
            })
            .collect();
        let mut given = 0;
        for asked in asking {
            match asked.await.expect("it does not panic") {
                Answer::Approved(_) => given += 1,
                Answer::Asked(_) | Answer::Pending(_) => {}
                Answer::Refused(approval) => panic!("{approval:?}"),
            }
        }
        assert_eq!(given, 1);
    }
}

async fn one_for_a_time_is_used_until_it_is_over(place: Place) {
    let wanted = wanted(1, None);
    let id = opened(&place.queue, &wanted).await;
    let hour = Decision::For(Duration::from_secs(3_600));
    place
        .queue
        .decide(id, hour, "ann")
        .await
        .expect("it can be answered");
    for _ in 0..3 {
        assert!(matches!(
            ask(&place.queue, &wanted).await,
            Answer::Approved(_)
        ));
    }
    place.clock.advance(Duration::from_secs(3_600));
    assert_eq!(status(&place, id).await, ApprovalStatus::Expired);
    let next = opened(&place.queue, &wanted).await;
    place
        .queue
        .decide(next, Decision::Refuse, "bob")
        .await
        .expect("it can be answered");
    assert!(matches!(
        ask(&place.queue, &wanted).await,
        Answer::Refused(_)
    ));
    // Somebody changes their mind.
    place
        .queue
        .decide(next, hour, "bob")
        .await
        .expect("it can be answered");
    assert!(matches!(
        ask(&place.queue, &wanted).await,
        Answer::Approved(_)
    ));
}

async fn what_was_not_needed_is_given_back(place: Place) {
    let wanted = wanted(1, None);
    let id = opened(&place.queue, &wanted).await;
    place
        .queue
        .decide(id, Decision::Once, "ann")
        .await
        .expect("it can be answered");
    for _ in 0..2 {
        assert!(matches!(
            ask(&place.queue, &wanted).await,
            Answer::Approved(_)
        ));
        place.queue.give_back(id).await.expect("it can be written");
    }
    assert_eq!(status(&place, id).await, ApprovalStatus::Approved);
    place
        .queue
        .give_back(Uuid::nil())
        .await
        .expect("that is no error");
}

async fn questions_are_bounded_and_expire(place: Place) {
    let queue = &place.queue;
    let ask =
        async |number: u8, tenant: Option<&str>| queue.ask(wanted(number, tenant), DAY, 2).await;
    ask(1, Some("acme")).await.expect("there is room");
    ask(2, Some("acme")).await.expect("there is room");
    assert_eq!(ask(3, Some("acme")).await, Err(ApprovalError::Full(2)));
    ask(2, Some("acme")).await.expect("it is there already");
    ask(4, None).await.expect("others have room of their own");
    place.clock.advance(DAY);
    ask(3, Some("acme")).await.expect("the others are over");
    assert_eq!(queue.forget(queue.now()).await, Ok(0));
    assert_eq!(
        queue.forget(queue.now() + TimeDelta::seconds(1)).await,
        Ok(3)
    );
}

async fn they_are_listed_by_what_they_are(place: Place) {
    let queue = &place.queue;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(opened(queue, &wanted(number, (number < 2).then_some("acme"))).await);
    }
    queue
        .decide(ids[0], Decision::Once, "ann")
        .await
        .expect("it can be answered");
    queue
        .decide(ids[2], Decision::Refuse, "ann")
        .await
        .expect("it can be answered");
    let list = async |filter: ApprovalFilter| -> Vec<Uuid> {
        let found = queue.approvals(&filter).await.expect("it can be read");
        found.into_iter().map(|approval| approval.id).collect()
    };
    let all = ApprovalFilter::default;
    let of = |status| ApprovalFilter {
        status: vec![status],
        ..all()
    };
    assert_eq!(list(all()).await, [ids[3], ids[2], ids[1], ids[0]]);
    assert_eq!(list(of(ApprovalStatus::Pending)).await, [ids[3], ids[1]]);
    assert_eq!(list(of(ApprovalStatus::Approved)).await, [ids[0]]);
    assert_eq!(list(of(ApprovalStatus::Refused)).await, [ids[2]]);
    assert!(list(of(ApprovalStatus::Expired)).await.is_empty());
    let acme = ApprovalFilter {
        tenant: Some("acme".to_owned()),
        ..all()
    };
    assert_eq!(list(acme).await, [ids[1], ids[0]]);
    assert!(
        list(ApprovalFilter {
            skill: Some("other".to_owned()),
            ..all()
        })
        .await
        .is_empty()
    );
    let page = ApprovalFilter {
        before: Some(ids[2]),
        limit: Some(1),
        ..all()
    };
    assert_eq!(list(page).await, [ids[1]]);
    place.clock.advance(DAY + DAY);
    assert_eq!(list(of(ApprovalStatus::Expired)).await.len(), 4);
}

async fn whoever_waits_hears_of_an_answer_from_elsewhere(place: Place) {
    let id = opened(&place.queue, &wanted(1, None)).await;
    let other = place.another().await;
    let waiting = tokio::spawn({
        let queue = place.queue.clone();
        async move { queue.answered(id).await }
    });
    other
        .decide(id, Decision::Once, "ann")
        .await
        .expect("it can be answered");
    let heard = waiting
        .await
        .expect("it does not panic")
        .expect("it is kept");
    assert_eq!(heard.status, ApprovalStatus::Approved);
}

/// A job that waits for an approval, as a guard would have asked for it.
async fn waiting(place: &Place, number: u8) -> (Uuid, Uuid, Arc<Scripted>) {
    let approval = json!({"kind": "rejected", "reason": "approval"});
    let execute = Arc::new(Scripted::new([Ok(approval), Ok(serde_json::Value::Null)]));
    let job = place
        .submit(NewJob::execution(ExecutionRequest::new("some", json!({}))))
        .await;
    let wanted = Wanted {
        job: Some(job),
        ..wanted(number, None)
    };
    let id = opened(&place.queue, &wanted).await;
    place.work(place.worker().execute(execute.clone())).await;
    assert_eq!(place.status(job).await, JobStatus::Paused);
    (job, id, execute)
}

async fn the_approval_of_a_job_and_the_job_are_one(place: Place) {
    // By the approval.
    let (job, id, execute) = waiting(&place, 1).await;
    place
        .queue
        .decide(id, Decision::Once, "ann")
        .await
        .expect("it can be answered");
    assert_eq!(place.status(job).await, JobStatus::Pending);
    place.work(place.worker().execute(execute)).await;
    assert_eq!(place.status(job).await, JobStatus::Completed);
    let (job, id, _) = waiting(&place, 2).await;
    place
        .queue
        .decide(id, Decision::Refuse, "ann")
        .await
        .expect("it can be answered");
    assert_eq!(place.status(job).await, JobStatus::Dead);
    assert_eq!(
        place.job(job).await.cause.as_deref(),
        Some("approval_refused")
    );
    // By the job.
    for (number, approved) in [(3, true), (4, false)] {
        let (job, id, execute) = waiting(&place, number).await;
        let other = place.another().await;
        other
            .answer(&[job], approved, "ann")
            .await
            .expect("it can be answered");
        let kept = place.queue.approval(id).await.expect("it is kept");
        let expected = match approved {
            true => ApprovalStatus::Approved,
            false => ApprovalStatus::Refused,
        };
        assert_eq!(kept.status, expected);
        assert_eq!(kept.decided_by.as_deref(), Some("ann"));
        place.work(place.worker().execute(execute)).await;
        let ended = match approved {
            true => JobStatus::Completed,
            false => JobStatus::Dead,
        };
        assert_eq!(place.status(job).await, ended);
        // It has ended, so that nothing could use another answer.
        let late = place.queue.decide(id, Decision::Once, "ann").await;
        let status = ended.as_str();
        assert_eq!(late, Err(ApprovalError::JobEnded { job, status }));
    }
}

async fn an_answer_before_a_job_waits_is_not_lost(place: Place) {
    let approval = json!({"kind": "rejected", "reason": "approval"});
    let execute = Arc::new(Scripted::new([Ok(approval), Ok(serde_json::Value::Null)]));
    let job = place
        .submit(NewJob::execution(ExecutionRequest::new("some", json!({}))))
        .await;
    let wanted = Wanted {
        job: Some(job),
        ..wanted(1, None)
    };
    let id = opened(&place.queue, &wanted).await;
    // Somebody is quicker than the worker, who pauses the job a moment later.
    place
        .queue
        .decide(id, Decision::Once, "ann")
        .await
        .expect("it can be answered");
    place.work(place.worker().execute(execute.clone())).await;
    // Whichever worker looks after the queue next finds that.
    place.submit(NewJob::maintenance(Maintenance::Rescue)).await;
    place.work(place.worker().execute(execute.clone())).await;
    place.work(place.worker().execute(execute)).await;
    assert_eq!(place.status(job).await, JobStatus::Completed);
}

async fn a_job_that_ends_asks_no_more(place: Place) {
    let (job, id, _) = waiting(&place, 1).await;
    place.queue.cancel(&[job]).await.expect("it can be written");
    assert_eq!(status(&place, id).await, ApprovalStatus::Expired);
}

/// Asks as the guard does, and runs what is approved.
struct Asking {
    queue: Queue,
    ran: std::sync::Mutex<Vec<Uuid>>,
}

impl skillhost::Execute for Asking {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: skillhost::Control,
    ) -> crate::place::BoxFuture<'a, Result<skillhost::ExecutionResult, skillhost::HostError>> {
        Box::pin(async move {
            let wanted = Wanted {
                job: control.job,
                ..wanted(1, None)
            };
            let cause = match ask(&self.queue, &wanted).await {
                Answer::Approved(_) => {
                    let job = control.job.expect("it is a job");
                    self.ran.lock().expect("nobody panicked").push(job);
                    serde_json::Value::Null
                }
                Answer::Refused(_) => json!({"kind": "rejected", "reason": "refused"}),
                Answer::Asked(_) | Answer::Pending(_) => {
                    json!({"kind": "rejected", "reason": "approval"})
                }
            };
            Ok(crate::place::answer(&request, &cause))
        })
    }

    fn resolve(
        &self,
        request: &ExecutionRequest,
    ) -> Result<skillhost::Resolution, skillhost::Failure> {
        Scripted::new([]).resolve(request)
    }

    fn is_destructive(&self, _: &ExecutionRequest) -> bool {
        false
    }
}

/// Jobs that would run the same, each of which waits for its approval; and who executes them.
async fn alike<const N: usize>(place: &Place) -> ([Uuid; N], Arc<Asking>) {
    let execute = Arc::new(Asking {
        queue: place.queue.clone(),
        ran: std::sync::Mutex::default(),
    });
    let mut jobs = [Uuid::nil(); N];
    for job in &mut jobs {
        let request = ExecutionRequest::new("some", json!({}));
        *job = place.submit(NewJob::execution(request)).await;
    }
    place.work(place.worker().execute(execute.clone())).await;
    for job in jobs {
        assert_eq!(place.status(job).await, JobStatus::Paused);
    }
    (jobs, execute)
}

async fn question_of(place: &Place, job: Uuid) -> Uuid {
    let filter = ApprovalFilter {
        job: Some(job),
        ..ApprovalFilter::default()
    };
    let found = place
        .queue
        .approvals(&filter)
        .await
        .expect("it can be read");
    assert_eq!(found.len(), 1);
    found[0].id
}

async fn jobs_that_would_run_the_same_are_answered_for_one_by_one(place: Place) {
    let (jobs, execute) = alike::<4>(&place).await;
    let [first, second, third, fourth] = jobs;
    let work = async || place.work(place.worker().execute(execute.clone())).await;
    // By its approval: it alone goes on, and what is for it is used up by it.
    let id = question_of(&place, second).await;
    let given = place.queue.decide(id, Decision::Once, "ann").await;
    given.expect("it can be answered");
    work().await;
    assert_eq!(place.status(second).await, JobStatus::Completed);
    assert_eq!(status(&place, id).await, ApprovalStatus::Used);
    for other in [first, third, fourth] {
        assert_eq!(place.status(other).await, JobStatus::Paused);
    }
    // One that is cancelled, or refused, takes nobody else's question with it.
    place
        .queue
        .cancel(&[first])
        .await
        .expect("it can be written");
    place
        .queue
        .answer(&[third], false, "ann")
        .await
        .expect("it can be answered");
    assert_eq!(place.status(third).await, JobStatus::Dead);
    let open = question_of(&place, fourth).await;
    assert_eq!(status(&place, open).await, ApprovalStatus::Pending);
    // By the job; what was said of it goes before what was said of another.
    place
        .queue
        .answer(&[fourth], true, "ann")
        .await
        .expect("it can be answered");
    work().await;
    assert_eq!(place.status(fourth).await, JobStatus::Completed);
    assert_eq!(
        *execute.ran.lock().expect("nobody panicked"),
        [second, fourth]
    );
}

async fn an_answer_for_a_time_answers_all_that_ask_the_same(place: Place) {
    let (jobs, execute) = alike::<3>(&place).await;
    let id = question_of(&place, jobs[1]).await;
    let hour = Decision::For(Duration::from_secs(3_600));
    let given = place.queue.decide(id, hour, "ann").await;
    given.expect("it can be answered");
    place.work(place.worker().execute(execute)).await;
    for job in jobs {
        assert_eq!(place.status(job).await, JobStatus::Completed);
    }
}

async fn a_question_that_nobody_answers_ends_its_job(place: Place) {
    let (jobs, execute) = alike::<2>(&place).await;
    let id = question_of(&place, jobs[0]).await;
    let look = async || {
        place.submit(NewJob::maintenance(Maintenance::Rescue)).await;
        place.work(place.worker().execute(execute.clone())).await;
    };
    place.clock.advance(29 * DAY);
    look().await;
    assert_eq!(place.status(jobs[0]).await, JobStatus::Paused);
    let other = question_of(&place, jobs[1]).await;
    let given = place.queue.decide(other, Decision::Once, "ann").await;
    given.expect("it can be answered");
    place.clock.advance(DAY);
    look().await;
    let job = place.job(jobs[0]).await;
    assert_eq!(job.status, JobStatus::Dead);
    assert_eq!(job.cause.as_deref(), Some("approval_expired"));
    assert_eq!(status(&place, id).await, ApprovalStatus::Expired);
    // An answer that came in time and is over by now is asked for anew.
    assert_eq!(place.status(jobs[1]).await, JobStatus::Paused);
}
