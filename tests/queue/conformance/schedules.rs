//! Jobs that come up again and again.

use std::time::Duration;

use serde_json::json;
use skillhost::queue::schedule::{Missed, Schedule};
use skillhost::queue::{MAX_SCHEDULED_BYTES, MAX_SCHEDULES, NewJob, QueueError};

use super::cases;
use crate::place::{Place, good, job};

cases![
    a_schedule_fires_once_however_many_workers_there_are,
    schedules_are_read_by_tenant_and_name_and_bounded,
    what_many_schedules_submit_is_bounded,
];

async fn a_schedule_fires_once_however_many_workers_there_are(place: Place) {
    for (name, missed) in [
        ("skip", Missed::Skip),
        ("once", Missed::RunOnce),
        ("all", Missed::RunAll),
    ] {
        let mut schedule = Schedule::new("*/10 * * * *", "UTC").unwrap();
        schedule.missed = missed;
        let job = good().queue(name);
        place.queue.put_schedule(name, schedule, job).await.unwrap();
    }
    let made = async |name: &str| {
        let statistics = place.queue.statistics(1).await.unwrap();
        let counts = statistics.by_queue.get(name);
        counts.map_or(0, |counts| counts.values().sum())
    };
    let workers = async || {
        let (a, b) = (place.another().await, place.another().await);
        let works = [place.queue.clone(), a, b].map(|queue| {
            let worker = skillhost::queue::Worker::builder(queue);
            let worker = worker.handler("work", crate::place::scripted);
            tokio::spawn(worker.until_empty().build().run(std::future::pending()))
        });
        for work in works {
            work.await.unwrap().unwrap();
        }
    };
    workers().await;
    assert_eq!(made("all").await, 0);
    let next = place.queue.schedules(None).await.unwrap()[0].next.unwrap();
    place
        .clock
        .advance((next - place.queue.now()).to_std().unwrap());
    workers().await;
    for name in ["skip", "once", "all"] {
        assert_eq!(made(name).await, 1, "{name}");
    }
    // Nobody worked for 35 minutes.
    place.clock.advance(Duration::from_secs(35 * 60));
    workers().await;
    assert_eq!(made("skip").await, 1);
    assert_eq!(made("once").await, 2);
    assert_eq!(made("all").await, 4);
    place.queue.remove_schedule("all").await.unwrap();
    place.clock.advance(Duration::from_secs(600));
    workers().await;
    assert_eq!(made("all").await, 4);
    assert!(place.queue.remove_schedule("all").await.is_err());
}

async fn schedules_are_read_by_tenant_and_name_and_bounded(place: Place) {
    let schedule = || Schedule::new("0 9 * * *", "UTC").unwrap();
    let put = async |name: String, job: NewJob| {
        let queue = &place.queue;
        queue.put_schedule(&name, schedule(), job).await
    };
    let own = job(json!({"large": "x"})).tenant("acme").queue("own");
    put("own".to_owned(), own.clone()).await.unwrap();
    put("nobodys".to_owned(), good()).await.unwrap();
    let names = async |tenant: Option<&str>| -> Vec<String> {
        let found = place.queue.schedules(tenant).await.unwrap();
        found.into_iter().map(|one| one.name).collect()
    };
    assert_eq!(names(Some("acme")).await, ["own"]);
    assert_eq!(names(Some("other")).await, [""; 0]);
    assert_eq!(names(None).await, ["nobodys", "own"]);
    // Whole where it is named, and without what may be large in a list.
    let whole = place.queue.schedule("own").await.unwrap();
    assert_eq!(whole.job.work, own.work);
    let listed = &place.queue.schedules(Some("acme")).await.unwrap()[0];
    assert_eq!(
        (listed.job.queue.as_str(), listed.job.skill()),
        ("own", "work".to_owned())
    );
    assert_ne!(listed.job.work, own.work);
    let unknown = place.queue.schedule("other").await;
    assert!(matches!(unknown, Err(QueueError::Unknown { .. })));
    for number in 1..MAX_SCHEDULES {
        put(format!("s{number}"), own.clone()).await.unwrap();
    }
    let more = put("more".to_owned(), own.clone()).await;
    assert!(matches!(
        more,
        Err(QueueError::TooMany {
            most: MAX_SCHEDULES,
            ..
        })
    ));
    put("own".to_owned(), own).await.expect("it is replaced");
    put("more".to_owned(), good().tenant("other"))
        .await
        .expect("it is another tenant's");
}

/// Nobody asks for it when a schedule fires, and whoever else submits something waits meanwhile.
async fn what_many_schedules_submit_is_bounded(place: Place) {
    let put = async |name: &str, bytes: usize| {
        let schedule = Schedule::new("0 * * * *", "UTC").unwrap();
        let job = job(json!({"large": "x".repeat(bytes)})).queue("hourly");
        place.queue.put_schedule(name, schedule, job).await
    };
    let refused = put("too-large", MAX_SCHEDULED_BYTES).await.unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains(&format!("{MAX_SCHEDULED_BYTES} are allowed")),
        "{said}"
    );
    for number in 0..100 {
        put(&number.to_string(), 250_000).await.unwrap();
    }
    let others = || job(json!({})).queue("others").tenant("other");
    let hourly = Schedule::new("0 * * * *", "UTC").unwrap();
    let put = place.queue.put_schedule("of-another", hourly, others());
    put.await.unwrap();
    place.clock.advance(Duration::from_secs(3_600));
    let made_in = async |queue: &str| {
        let statistics = place.queue.statistics(1).await.unwrap();
        let counts = statistics.by_queue.get(queue);
        counts.map_or(0, |counts| counts.values().sum::<u64>())
    };
    let made = async || made_in("hourly").await;
    // Each job that is taken is looked for in a transaction of its own.
    let worker = place.worker().queues(["other"]);
    place.work(worker).await;
    let first = made().await;
    assert!((17..100).contains(&first), "{first}");
    // Another tenant does not wait for all of them.
    assert_eq!(made_in("others").await, 1);
    place.work(place.worker()).await;
    assert_eq!(made().await, 100);
}
