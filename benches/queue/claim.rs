//! What taking jobs costs, beside what it costs with a thousand waiting.

use std::time::Duration;

use serde_json::{Value, json};
use skillhost::queue::{Bounds, HandlerFailure, JobStatus, NewJob, Queue, ScopeKind, Worker};
use tokio::runtime::Runtime;

use super::postgres::Postgres;
use super::through::BATCH;
use super::{Place, support};

/// How many jobs are taken at a time.
const TAKEN: usize = 10;

pub fn measure(runtime: &Runtime, server: &Postgres) -> Value {
    let mut figures = serde_json::Map::new();
    for (store, many) in [("sqlite", 1_000_000), ("postgres", 100_000)] {
        let many = support::rounds(many);
        let place = |runtime: &Runtime| match store {
            "sqlite" => Place::sqlite(),
            _ => runtime.block_on(Place::postgres(server)),
        };
        let thousand = runtime.block_on(cost(&place(runtime), 1_000.min(many), Backlog::Waiting));
        figures.insert(format!("{store}_1000_us"), support::us(thousand.0).into());
        for backlog in Backlog::ALL {
            let (claim, statistics) = runtime.block_on(cost(&place(runtime), many, backlog));
            let name = format!("{store}_{}", backlog.name());
            figures.insert(
                format!("{name}_ratio"),
                support::ratio(claim.as_secs_f64(), thousand.0.as_secs_f64()).into(),
            );
            figures.insert(
                format!("{name}_statistics_ratio"),
                support::ratio(statistics.as_secs_f64(), thousand.1.as_secs_f64()).into(),
            );
            println!("claim: {name} {many}: {claim:?}, {statistics:?} beside {thousand:?}");
        }
    }
    figures.insert("target".to_owned(), json!({"ratio": 1.2}));
    Value::Object(figures)
}

/// What the million jobs are that stand beside the few that may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backlog {
    Waiting,
    Paused,
    AtTheirCap,
    OfOneTenant,
    NotDue,
    Dead,
}

impl Backlog {
    const ALL: [Backlog; 6] = [
        Backlog::Waiting,
        Backlog::Paused,
        Backlog::AtTheirCap,
        Backlog::OfOneTenant,
        Backlog::NotDue,
        Backlog::Dead,
    ];

    fn name(self) -> &'static str {
        match self {
            Backlog::Waiting => "waiting",
            Backlog::Paused => "paused",
            Backlog::AtTheirCap => "at_their_cap",
            Backlog::OfOneTenant => "of_one_tenant",
            Backlog::NotDue => "not_due",
            Backlog::Dead => "dead",
        }
    }
}

/// The median time of taking ten jobs and putting them back, and of reading statistics.
async fn cost(place: &Place, many: usize, backlog: Backlog) -> (Duration, Duration) {
    let queue = place.queue().await;
    let crowd = NewJob::custom("nothing", Value::Null).tenant("crowd");
    let crowd = match backlog {
        Backlog::Paused => NewJob {
            paused: true,
            ..crowd
        },
        Backlog::NotDue => crowd.delay(Duration::from_secs(86_400)),
        _ => crowd,
    };
    submit(&queue, &crowd, many).await;
    match backlog {
        Backlog::AtTheirCap => {
            let bounds = Bounds {
                concurrency: Some(Some(1)),
                ..Bounds::default()
            };
            queue
                .set_bounds(ScopeKind::Tenant, "crowd", bounds)
                .await
                .expect("bounded");
        }
        Backlog::Dead => {
            let worker = Worker::builder(queue.clone())
                .concurrency(1024)
                .handler("nothing", |_| async {
                    Err(HandlerFailure::permanent("no"))
                })
                .until_empty()
                .build();
            worker.run(std::future::pending()).await.expect("it works");
        }
        _ => {}
    }
    let few = NewJob::custom("nothing", Value::Null).tenant("few");
    submit(&queue, &few, TAKEN).await;
    let rounds = support::rounds(300);
    let mut claims = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        claims.push(queue.take_and_release(TAKEN).await.expect("taken"));
    }
    let mut statistics = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let began = std::time::Instant::now();
        let found = queue.statistics(24).await.expect("statistics");
        statistics.push(began.elapsed());
        assert!(found.by_status.values().sum::<u64>() as usize >= many);
        assert_eq!(found.by_status.get(&JobStatus::Running), Some(&0));
    }
    (support::median(&claims), support::median(&statistics))
}

async fn submit(queue: &Queue, job: &NewJob, count: usize) {
    let mut left = count;
    while left > 0 {
        let part = left.min(BATCH * 8);
        let jobs = (0..part).map(|_| NewJob {
            id: uuid::Uuid::now_v7(),
            ..job.clone()
        });
        queue.submit_all(jobs.collect()).await.expect("submitted");
        left -= part;
    }
}
