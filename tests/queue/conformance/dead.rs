//! Dead letters.

use std::sync::Arc;

use serde_json::{Value, json};
use skillhost::queue::{
    DeadLetter, Filter, JobEventKind, JobStatus, NewJob, QueueError, Replay, ReplayVersion,
    RetryPolicy, ScopeKind,
};
use skillhost::skill::SkillRef;
use skillhost::{
    Control, Execute, ExecutionRequest, ExecutionResult, Failure, HostError, LimitOverrides,
    Resolution,
};

use super::cases;
use crate::place::{BoxFuture, Place, Scripted, job};

cases![
    a_dead_letter_is_replayed_as_a_new_job_linked_to_it,
    a_replay_can_raise_limits_and_take_the_current_version,
    a_replay_is_the_same_skills_by_whatever_it_refers_to_it,
    dead_letters_are_discarded_one_by_one,
    dead_letters_go_out_and_come_back_as_they_were,
    a_list_goes_on_where_jobs_were_removed_meanwhile,
    many_dead_letters_come_back,
];

async fn dead(place: &Place) -> uuid::Uuid {
    let id = place
        .submit(job(json!({"fail": "no", "until": 1_000})).tag("kept"))
        .await;
    place.work(place.worker()).await;
    assert_eq!(place.status(id).await, JobStatus::Dead);
    id
}

async fn a_dead_letter_is_replayed_as_a_new_job_linked_to_it(place: Place) {
    let id = dead(&place).await;
    let letter = place.queue.dead_letter(id).await.unwrap();
    assert_eq!(letter.attempts.len(), 1);
    let replay = Replay {
        retry: Some(RetryPolicy::attempts(2)),
        ..Replay::default()
    };
    let first = place.queue.replay(id, &replay).await.unwrap();
    assert!(!first.existing);
    // While it has not ended, it is the answer.
    let second = place.queue.replay(id, &replay).await.unwrap();
    assert!(second.existing);
    assert_eq!(second.id, first.id);
    let job = place.job(first.id).await;
    assert_eq!(job.submitted.replay_of, Some(id));
    assert_eq!(job.max_attempts, 2);
    assert!(job.submitted.tags.contains("kept"));
    assert_eq!(
        place.status(id).await,
        JobStatus::Dead,
        "it stays what it is"
    );
    place.work(place.worker()).await;
    assert!(!place.queue.replay(id, &replay).await.unwrap().existing);
    let replayed = place.events().await.into_iter();
    let replayed = replayed.filter(|event| event.kind == JobEventKind::Replayed);
    assert_eq!(replayed.count(), 2);
    // It is marked, so that it can be left out the next time; what replayed it is not.
    assert!(place.job(id).await.replayed);
    assert!(!place.job(first.id).await.replayed);
    let which = async |replayed: bool| -> Vec<uuid::Uuid> {
        let filter = Filter {
            status: vec![JobStatus::Dead],
            replayed: Some(replayed),
            ..Filter::default()
        };
        let jobs = place.queue.list(&filter).await.unwrap().items;
        jobs.iter().map(|job| job.id).collect()
    };
    assert_eq!(which(true).await, [id]);
    assert_eq!(which(false).await, [first.id]);
    let alive = place.queue.replay(uuid::Uuid::nil(), &replay).await;
    assert!(matches!(alive, Err(QueueError::NotFound(_))));
}

async fn a_replay_can_raise_limits_and_take_the_current_version(place: Place) {
    let fuel = json!({"kind": "resource_exhausted", "limit": "fuel", "allowed": 1});
    let execute = Arc::new(Scripted::new([Ok(fuel), Ok(Value::Null)]));
    let request = ExecutionRequest::new("some", json!({"text": "to be"}));
    let id = place.submit(NewJob::execution(request)).await;
    place.work(place.worker().execute(execute.clone())).await;
    assert_eq!(place.job(id).await.cause.as_deref(), Some("fuel"));
    let replay = Replay {
        limits: LimitOverrides {
            fuel: Some(123_456),
            ..LimitOverrides::default()
        },
        version: ReplayVersion::Current,
        ..Replay::default()
    };
    let again = place.queue.replay(id, &replay).await.unwrap().id;
    place.work(place.worker().execute(execute.clone())).await;
    assert_eq!(place.status(again).await, JobStatus::Completed);
    let calls = execute.calls.lock().unwrap();
    assert_eq!(calls[0].limits.fuel, None);
    assert_eq!(calls[1].limits.fuel, Some(123_456));
    assert_eq!(calls[1].input, calls[0].input);
}

/// Executes as [`Scripted`], and says which skill it was.
struct OfSkill(Scripted, Value);

impl Execute for OfSkill {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        Box::pin(async move {
            let mut result = self.0.execute(request, control).await?;
            result.skill = serde_json::from_value(self.1.clone()).expect("it is a skill");
            Ok(result)
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.0.resolve(request)
    }
}

async fn a_replay_is_the_same_skills_by_whatever_it_refers_to_it(place: Place) {
    let digest = format!("sha256:{}", "5".repeat(64));
    let fuel = json!({"kind": "resource_exhausted", "limit": "fuel", "allowed": 1});
    let skill = json!({"name": "some", "version": "1.2.0", "digest": digest});
    let execute = Arc::new(OfSkill(Scripted::new([Ok(fuel)]), skill));
    // A version is no other skill, and neither is its digest.
    let by_version: SkillRef = "some@1.2.0".parse().unwrap();
    let by_digest: SkillRef = digest.parse().unwrap();
    let mut dead = Vec::new();
    for reference in [by_version, by_digest] {
        let request = ExecutionRequest::new(reference, json!({}));
        dead.push(place.submit(NewJob::execution(request)).await);
    }
    place.work(place.worker().execute(execute)).await;
    let skill = place.job(dead[0]).await.skill;
    assert_eq!(skill.as_deref(), Some("some"));
    let mut replays = Vec::new();
    for id in &dead {
        let replay = place.queue.replay(*id, &Replay::default()).await.unwrap();
        let job = place.job(replay.id).await;
        assert_eq!(job.skill.as_deref(), Some("some"));
        replays.insert(0, replay.id);
    }
    let filter = Filter {
        skill: Some("some".to_owned()),
        status: vec![JobStatus::Pending],
        ..Filter::default()
    };
    assert_eq!(place.queue.ids(&filter).await.unwrap().items, replays);
    // What is paused for the skill is paused for them.
    let paused = place.queue.pause_all(ScopeKind::Skill, "some", true);
    paused.await.unwrap();
    let done = place.work(place.worker()).await;
    assert_eq!(done.settled, 0);
}

async fn dead_letters_are_discarded_one_by_one(place: Place) {
    let id = dead(&place).await;
    let alive = place.submit(job(json!({}))).await;
    let answers = place
        .queue
        .discard(&[id, alive, uuid::Uuid::nil()])
        .await
        .unwrap();
    assert!(answers[0].is_ok());
    assert!(matches!(answers[1], Err(QueueError::Conflict { .. })));
    assert!(matches!(answers[2], Err(QueueError::NotFound(_))));
    assert!(matches!(
        place.queue.job(id).await,
        Err(QueueError::NotFound(_))
    ));
    let statistics = place.queue.statistics(1).await.unwrap();
    assert_eq!(statistics.by_status[&JobStatus::Dead], 0);
    assert!(statistics.dead_by_cause.is_empty());
}

async fn dead_letters_go_out_and_come_back_as_they_were(place: Place) {
    let ids = [dead(&place).await, dead(&place).await];
    place
        .queue
        .replay(ids[0], &Replay::default())
        .await
        .unwrap();
    let mut lines = Vec::new();
    for id in ids {
        let letter = place.queue.dead_letter(id).await.unwrap();
        lines.push(serde_json::to_string(&letter).unwrap());
    }
    let read = || -> Vec<DeadLetter> {
        let letters = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        letters.collect()
    };
    assert_eq!(place.queue.import_dead(read()).await.unwrap(), 0);
    place.queue.discard(&ids[..1]).await.unwrap();
    // One that is named twice comes once.
    let twice: Vec<DeadLetter> = read().into_iter().chain(read()).collect();
    assert_eq!(place.queue.import_dead(twice).await.unwrap(), 1);
    for (id, letter) in ids.into_iter().zip(read()) {
        assert_eq!(place.queue.dead_letter(id).await.unwrap(), letter);
    }
    let statistics = place.queue.statistics(1).await.unwrap();
    assert_eq!(statistics.by_status[&JobStatus::Dead], 2);
    assert_eq!(statistics.dead_by_cause["skill_error"], 2);
}

async fn a_list_goes_on_where_jobs_were_removed_meanwhile(place: Place) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, dead(&place).await);
    }
    let mut filter = Filter {
        status: vec![JobStatus::Dead],
        limit: Some(2),
        ..Filter::default()
    };
    let page = place.queue.ids(&filter).await.unwrap();
    assert_eq!(page.items, ids[..2]);
    // Somebody discards what was seen last, and what would be next.
    place.queue.discard(&ids[1..3]).await.unwrap();
    filter.cursor = page.next;
    let page = place.queue.list(&filter).await.unwrap();
    let listed: Vec<uuid::Uuid> = page.items.iter().map(|job| job.id).collect();
    assert_eq!((listed.as_slice(), page.next), (&ids[3..], None));
    // By a job that is gone, nobody could tell where that was.
    filter.cursor = None;
    filter.before = Some(ids[1]);
    for gone in [
        place.queue.list(&filter).await.map(drop),
        place.queue.ids(&filter).await.map(drop),
    ] {
        assert!(matches!(gone, Err(QueueError::NotFound(id)) if id == ids[1]));
    }
    filter.before = Some(ids[0]);
    assert_eq!(place.queue.ids(&filter).await.unwrap().items, ids[3..]);
}

async fn many_dead_letters_come_back(place: Place) {
    let id = dead(&place).await;
    let letter = place.queue.dead_letter(id).await.unwrap();
    // More than one transaction takes, of several tenants, one of them twice.
    let mut letters: Vec<DeadLetter> = (0..1_200)
        .map(|number| {
            let mut letter = letter.clone();
            letter.job.id = uuid::Uuid::now_v7();
            letter.job.submitted.id = letter.job.id;
            let tenant = Some(format!("tenant {}", number % 3));
            letter.job.tenant.clone_from(&tenant);
            letter.job.submitted.tenant = tenant;
            letter
        })
        .collect();
    letters.push(letters[0].clone());
    letters.push(letter);
    assert_eq!(
        place.queue.import_dead(letters.clone()).await.unwrap(),
        1_200
    );
    assert_eq!(place.queue.import_dead(letters.clone()).await.unwrap(), 0);
    for number in [0, 499, 500, 1_199] {
        let mut wanted = letters[number].clone();
        let found = place.queue.dead_letter(wanted.job.id).await.unwrap();
        // Chance goes by the id.
        wanted.job.retry.clone_from(&found.job.retry);
        assert_eq!(found, wanted);
    }
    let statistics = place.queue.statistics(1).await.unwrap();
    assert_eq!(statistics.by_tenant["tenant 1"][&JobStatus::Dead], 400);
    assert_eq!(statistics.dead_by_cause["skill_error"], 1_201);
}
