//! What comes in.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use skillhost::ExecutionRequest;
use skillhost::queue::{Callback, Filter, JobStatus, Keep, Maintenance, NewJob, QueueError, Work};
use uuid::Uuid;

use super::cases;
use crate::place::{Place, good, job, nested};

cases![
    a_key_makes_a_second_submission_the_same_job_until_it_ended,
    a_key_can_hold_for_a_period,
    a_key_holds_within_one_call_and_within_its_tenant,
    a_batch_is_stored_wholly_or_not_at_all,
    an_id_is_used_once,
    what_cannot_be_accepted_is_refused_with_a_reason,
    a_job_comes_back_as_it_was_submitted,
    large_jobs_are_listed_a_few_at_a_time,
    lists_by_queue_tenant_and_skill_are_whole,
    jobs_that_are_much_once_they_are_read_are_listed_a_few_at_a_time,
    whose_jobs_are_is_said_of_those_that_are_there,
    json_may_be_as_deep_as_it_can_be_read_back,
    what_the_queue_submits_itself_nobody_else_does,
    a_job_is_looked_at_without_being_stored,
    a_batch_is_as_large_as_somebody_likes,
];

async fn a_key_makes_a_second_submission_the_same_job_until_it_ended(place: Place) {
    let first = place.queue.submit(good().key("a")).await.unwrap();
    assert!(!first.existing);
    let second = place.queue.submit(good().key("a")).await.unwrap();
    assert!(second.existing);
    assert_eq!(second.id, first.id);
    place.work(place.worker()).await;
    let third = place.queue.submit(good().key("a")).await.unwrap();
    assert!(!third.existing);
    assert_ne!(third.id, first.id);
    place.queue.cancel(&[third.id]).await.unwrap();
    assert!(!place.queue.submit(good().key("a")).await.unwrap().existing);
}

async fn a_key_can_hold_for_a_period(place: Place) {
    let keyed = || good().key_for("a", Duration::from_secs(60));
    let first = place.submit(keyed()).await;
    place.work(place.worker()).await;
    assert_eq!(place.status(first).await, JobStatus::Completed);
    place.clock.advance(Duration::from_secs(59));
    assert_eq!(place.submit(keyed()).await, first);
    // Also where the job is gone by then.
    let keep = Keep {
        completed: Some(Duration::from_secs(10)),
        ..Keep::default()
    };
    assert_eq!(place.queue.prune(keep).await.unwrap().jobs, 1);
    assert_eq!(place.submit(keyed()).await, first);
    place.clock.advance(Duration::from_secs(2));
    place.queue.prune(keep).await.unwrap();
    assert_ne!(place.submit(keyed()).await, first);
}

async fn a_key_holds_within_one_call_and_within_its_tenant(place: Place) {
    let jobs = vec![
        good().key("a"),
        good().key("b"),
        good().key("a"),
        good().key("a").tenant("other"),
        good(),
        good(),
    ];
    let submitted = place.queue.submit_all(jobs.clone()).await.unwrap();
    let existing: Vec<bool> = submitted.iter().map(|one| one.existing).collect();
    assert_eq!(existing, [false, false, true, false, false, false]);
    assert_eq!(submitted[2].id, submitted[0].id);
    let again: Vec<NewJob> = vec![good().key("b"), good().key("b"), good().key("c")];
    let again = place.queue.submit_all(again).await.unwrap();
    assert_eq!(again[0].id, submitted[1].id);
    assert_eq!(again[1].id, submitted[1].id);
    assert!(!again[2].existing);
    let kept = place.queue.statistics(1).await.unwrap().total;
    assert_eq!(kept, 6);
}

async fn a_batch_is_stored_wholly_or_not_at_all(place: Place) {
    let known = place.submit(good()).await;
    let twice = NewJob {
        id: known,
        ..good()
    };
    for spoiler in [good().queue("no such name!"), twice] {
        let mut jobs: Vec<NewJob> = (0..50).map(|_| good()).collect();
        jobs.push(spoiler);
        let error = place.queue.submit_all(jobs).await.unwrap_err();
        assert!(matches!(error, QueueError::Invalid(_)), "{error}");
    }
    assert_eq!(place.queue.statistics(1).await.unwrap().total, 1);
    let many: Vec<NewJob> = (0..3_000).map(|_| good()).collect();
    place.queue.submit_all(many).await.unwrap();
    assert_eq!(place.queue.statistics(1).await.unwrap().total, 3_001);
}

async fn an_id_is_used_once(place: Place) {
    let one = good();
    let again = one.clone();
    // At the same time, so that both may come into one transaction with others.
    let (first, second, other) = tokio::join!(
        place.queue.submit(one),
        place.queue.submit(again),
        place.queue.submit(good()),
    );
    assert!(other.is_ok());
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let refused = first.err().or(second.err()).unwrap();
    assert!(matches!(refused, QueueError::Invalid(_)), "{refused}");
    assert_eq!(place.queue.statistics(1).await.unwrap().total, 2);
}

/// A job with so many labels.
fn labels(many: usize) -> NewJob {
    (0..many).fold(good(), |job, at| job.label(at.to_string(), "x"))
}

/// A job that executes this tool.
fn executing(tool: String) -> NewJob {
    NewJob::execution(ExecutionRequest::new("probe", json!({})).tool(tool))
}

async fn what_cannot_be_accepted_is_refused_with_a_reason(place: Place) {
    let wrong = [
        good().queue(""),
        good().tenant("a\nb"),
        good().key(""),
        good().tag(""),
        good().delay(Duration::MAX),
        NewJob::custom("", json!(1)),
        NewJob {
            mode: skillhost::queue::Mode::Deferred,
            ..good()
        },
        job(json!("x".repeat(17 << 20))),
        good().attempts(0),
        labels(65),
        good().label("é".repeat(256), ""),
        good().label("x", "é".repeat(1_025)),
        good().user("é".repeat(256)),
        executing("é".repeat(256)),
        good().callback(Callback {
            url: "ftp://example.com/done".to_owned(),
            secret: None,
        }),
    ];
    for one in wrong {
        let error = place.queue.submit(one).await.unwrap_err();
        assert!(
            matches!(error, QueueError::Invalid(_) | QueueError::Retry(_)),
            "{error}"
        );
    }
    let right = [
        labels(64),
        good().label("é".repeat(255), "é".repeat(1_024)),
        good().user("é".repeat(255)),
        executing("é".repeat(255)),
    ];
    for one in right {
        place.queue.check(&one).await.unwrap();
    }
    assert_eq!(place.queue.submit_all(Vec::new()).await.unwrap(), []);
    let missing = place.queue.job(uuid::Uuid::nil()).await.unwrap_err();
    assert!(matches!(missing, QueueError::NotFound(_)));
}

async fn a_job_comes_back_as_it_was_submitted(place: Place) {
    let submitted = good()
        .queue("nightly")
        .tenant("acme")
        .user("ann")
        .tag("report")
        .label("ticket", "7")
        .delay(Duration::from_secs(60));
    let id = place.submit(submitted.clone()).await;
    let job = place.another().await.job(id).await.unwrap();
    assert_eq!(job.submitted, submitted);
    assert_eq!(job.tenant.as_deref(), Some("acme"));
    assert_eq!(job.user.as_deref(), Some("ann"));
    assert_eq!(job.skill.as_deref(), Some("work"));
    assert_eq!(job.status, JobStatus::Pending);
    assert_eq!(
        job.scheduled_at - job.created_at,
        chrono::Duration::seconds(60)
    );
    assert_eq!(job.retry.delays_ms.len(), 4, "the plan is made once");
    let filter = skillhost::queue::Filter {
        tag: Some("report".to_owned()),
        tenant: Some("acme".to_owned()),
        queue: Some("nightly".to_owned()),
        status: vec![JobStatus::Pending],
        ..skillhost::queue::Filter::default()
    };
    assert_eq!(place.queue.list(&filter).await.unwrap().items, [job]);
}

async fn json_may_be_as_deep_as_it_can_be_read_back(place: Place) {
    for depth in [100, 101, 127] {
        let request = ExecutionRequest::new("some", nested(depth));
        for job in [job(nested(depth)), NewJob::execution(request)] {
            let submitted = place.queue.submit(job.clone()).await;
            match (depth, submitted) {
                (100, Ok(submitted)) => {
                    assert_eq!(place.job(submitted.id).await.submitted, job);
                }
                (100, Err(error)) => panic!("{error}"),
                (_, submitted) => {
                    let error = submitted.unwrap_err().to_string();
                    assert!(error.contains("more than 100 levels"), "{error}");
                }
            }
        }
    }
}

async fn what_the_queue_submits_itself_nobody_else_does(place: Place) {
    let done = place.submit(good().tenant("acme")).await;
    place.work(place.worker()).await;
    let callback = Callback {
        url: "https://example.com/done".to_owned(),
        secret: None,
    };
    let work = Work::Callback {
        job: done,
        callback,
    };
    let error = place.queue.submit(NewJob::new(work)).await.unwrap_err();
    assert!(matches!(error, QueueError::Invalid(_)), "{error}");
    // A door looks at more.
    let request = || ExecutionRequest::new("some", json!({}));
    let allowed = NewJob::execution(request()).tenant("acme").tag("a");
    assert!(allowed.check_untrusted().is_ok());
    let mut granted = request();
    granted.grants.scratch = true;
    let named = NewJob {
        skill: Some("other".to_owned()),
        ..NewJob::execution(request())
    };
    for refused in [
        NewJob::maintenance(Maintenance::Vacuum),
        good(),
        NewJob::execution(granted),
        named,
    ] {
        let error = refused.check_untrusted().unwrap_err();
        assert!(matches!(error, QueueError::Invalid(_)), "{error}");
    }
}

async fn large_jobs_are_listed_a_few_at_a_time(place: Place) {
    let large = || job(json!("x".repeat(15 << 20)));
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.insert(0, place.submit(large()).await);
    }
    let mut filter = Filter::default();
    assert_eq!(place.queue.ids(&filter).await.unwrap().items, ids);
    for (expected, more) in [(&ids[..3], true), (&ids[3..], false)] {
        let page = place.queue.list(&filter).await.unwrap();
        let listed: Vec<uuid::Uuid> = page.items.iter().map(|job| job.id).collect();
        assert_eq!(listed, expected);
        assert_eq!(page.next.is_some(), more);
        filter.cursor = page.next;
    }
    // Not even where as many were asked for as came, and the last of them was large.
    let three = Filter {
        limit: Some(3),
        ..Filter::default()
    };
    let page = place.queue.list(&three).await.unwrap();
    assert_eq!((page.items.len(), page.next.is_some()), (3, true));
}

async fn lists_by_queue_tenant_and_skill_are_whole(place: Place) {
    let mut jobs = Vec::new();
    // More lanes than are looked at one by one.
    for number in 0..300 {
        let mut job = good().queue("many").tenant(format!("tenant {number}"));
        if number % 3 == 0 {
            job = job.tag("third");
        }
        jobs.push(job);
    }
    for number in 0..30 {
        let queue = ["a", "b"][number % 2];
        let tenant = ["acme", "other"][number / 2 % 2];
        jobs.push(good().queue(queue).tenant(tenant));
    }
    place.queue.submit_all(jobs).await.unwrap();
    let all = Filter {
        limit: Some(1_000),
        ..Filter::default()
    };
    let all = place.queue.list(&all).await.unwrap();
    assert_eq!((all.items.len(), all.next), (330, None));
    let some = |text: &str| Some(text.to_owned());
    for (queue, tenant, skill, tag) in [
        (some("many"), None, None, None),
        (some("many"), None, None, some("third")),
        (some("many"), some("tenant 7"), None, None),
        (some("a"), None, None, None),
        (None, some("acme"), None, None),
        (some("b"), some("other"), some("work"), None),
        (None, None, some("work"), None),
        (None, some("nobody"), None, None),
        (None, None, some("no skill"), None),
    ] {
        for status in [vec![], vec![JobStatus::Pending], vec![JobStatus::Dead]] {
            let expected: Vec<uuid::Uuid> = all
                .items
                .iter()
                .filter(|job| {
                    queue.as_ref().is_none_or(|queue| *queue == job.queue)
                        && tenant.as_ref().is_none_or(|_| tenant == job.tenant)
                        && skill.as_ref().is_none_or(|_| skill == job.skill)
                        && tag
                            .as_ref()
                            .is_none_or(|tag| job.submitted.tags.contains(tag))
                        && (status.is_empty() || status.contains(&job.status))
                })
                .map(|job| job.id)
                .collect();
            let mut filter = Filter {
                status,
                queue: queue.clone(),
                tenant: tenant.clone(),
                skill: skill.clone(),
                tag: tag.clone(),
                limit: Some(7),
                ..Filter::default()
            };
            let mut found = Vec::new();
            loop {
                let page = place.queue.list(&filter).await.unwrap();
                let ids = place.queue.ids(&filter).await.unwrap();
                let listed: Vec<uuid::Uuid> = page.items.iter().map(|job| job.id).collect();
                assert_eq!((&ids.items, ids.next), (&listed, page.next));
                found.extend(listed);
                filter.cursor = page.next;
                if page.next.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{filter:?}");
        }
    }
}

async fn jobs_that_are_much_once_they_are_read_are_listed_a_few_at_a_time(place: Place) {
    // 420 KB of text, and some 39 MiB of values.
    let wide = json!(vec![json!({"": 0}); 60_000]);
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.insert(0, place.submit(job(wide.clone())).await);
    }
    let mut filter = Filter::default();
    for (expected, more) in [(&ids[..4], true), (&ids[4..], false)] {
        let page = place.queue.list(&filter).await.unwrap();
        let listed: Vec<Uuid> = page.items.iter().map(|job| job.id).collect();
        assert_eq!(listed, expected);
        assert_eq!(page.next.is_some(), more);
        filter.cursor = page.next;
    }
}

async fn whose_jobs_are_is_said_of_those_that_are_there(place: Place) {
    let acmes = place.submit(good().tenant("acme")).await;
    let nobodys = place.submit(good()).await;
    let asked = [nobodys, Uuid::nil(), acmes, acmes];
    let tenants = place.queue.tenants(&asked).await.unwrap();
    let expected = [(acmes, Some("acme".to_owned())), (nobodys, None)];
    assert_eq!(tenants, HashMap::from(expected));
    assert!(place.queue.tenants(&[]).await.unwrap().is_empty());
}

async fn a_job_is_looked_at_without_being_stored(place: Place) {
    let wrong = [
        good().queue("no such name!"),
        job(json!("x".repeat(17 << 20))),
        good().attempts(0),
    ];
    for one in wrong {
        let error = place.queue.check(&one).await.unwrap_err();
        let refused = place.queue.submit(one).await.unwrap_err();
        assert_eq!(error.to_string(), refused.to_string());
    }
    place.queue.check(&good()).await.unwrap();
    assert_eq!(place.queue.statistics(1).await.unwrap().total, 0);
}

async fn a_batch_is_as_large_as_somebody_likes(place: Place) {
    const MANY: usize = 30_000;
    let jobs: Vec<NewJob> = (0..MANY)
        .map(|number| {
            good()
                .tenant(["a", "b", "c"][number % 3])
                .key(number.to_string())
                .tag("many")
        })
        .collect();
    let (first, last) = (jobs[0].id, jobs[MANY - 1].id);
    let submitted = place.queue.submit_all(jobs.clone()).await.unwrap();
    let ids: Vec<uuid::Uuid> = submitted.iter().map(|one| one.id).collect();
    assert!(ids.iter().eq(jobs.iter().map(|job| &job.id)));
    // Nothing is done to one of them before all of what came with it is in line and in the log.
    let cancelled = place.queue.cancel(&[last, first]).await.unwrap();
    assert!(cancelled.iter().all(Result::is_ok));
    let log = place.events().await;
    assert!(log.iter().map(|event| event.id).eq(1..=MANY as i64 + 2));
    let submitted = log.iter().take(MANY).map(|event| event.job);
    assert!(submitted.eq(ids.iter().copied()));
    let again = place.queue.submit_all(jobs[1..3].to_vec()).await.unwrap();
    assert!(again.iter().all(|one| one.existing));
    let statistics = place.queue.statistics(1).await.unwrap();
    assert_eq!(statistics.by_status[&JobStatus::Pending], MANY as u64 - 2);
}
