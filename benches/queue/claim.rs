//! What taking jobs costs, beside what it costs with a thousand waiting.

use std::time::{Duration, Instant};

use serde_json::Value;
use skillhost::queue::{
    Bounds, Done, HandlerFailure, JobStatus, NewJob, Queue, ScopeKind, Worker, WorkerError,
};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::larger::larger;
use super::postgres::Postgres;
use super::through::BATCH;
use super::{Place, support};

/// How many jobs are taken at a time.
const TAKEN: usize = 10;
/// The fewer jobs, and those that a larger backlog in PostgreSQL is made of.
const FEW: usize = 1_000;
/// The more.
const MANY: usize = 1_000_000;
/// Of whom they are, where they are many's.
const TENANTS: usize = 200;

pub fn measure(runtime: &Runtime, server: &Postgres) -> Value {
    let mut figures = serde_json::Map::new();
    for store in ["sqlite", "postgres"] {
        let many = support::rounds(MANY);
        let place = |runtime: &Runtime| match store {
            "sqlite" => Place::sqlite(),
            _ => runtime.block_on(Place::postgres(server)),
        };
        let thousand = runtime.block_on(cost(&place(runtime), FEW.min(many), Backlog::Waiting));
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
    let target: serde_json::Map<_, _> = figures
        .keys()
        .filter(|name| name.ends_with("_ratio"))
        .map(|name| (name.clone(), support::at_most(1.2)))
        .collect();
    figures.insert("target".to_owned(), target.into());
    Value::Object(figures)
}

/// What the million jobs are that stand beside the few that may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backlog {
    /// May start as well, and are many tenants'.
    Waiting,
    Paused,
    /// Of a tenant that has as many running as it may.
    AtTheirCap,
    /// May start as well, and are all of one tenant.
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
    let began = Instant::now();
    let queue = place.queue().await;
    let held = fill(place, &queue, many, backlog).await;
    let few = NewJob::custom("nothing", Value::Null).tenant("few");
    submit(&queue, TAKEN, |_| few.clone()).await;
    println!(
        "claim: {} {many}: made in {:?}",
        backlog.name(),
        began.elapsed()
    );
    let rounds = support::rounds(300);
    let mut claims = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        claims.push(queue.take_and_release(TAKEN).await.expect("taken"));
    }
    let running = u64::from(held.is_some());
    let mut statistics = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let began = Instant::now();
        let found = queue.statistics(24).await.expect("statistics");
        statistics.push(began.elapsed());
        assert!(found.by_status.values().sum::<u64>() as usize >= many);
        assert_eq!(found.by_status.get(&JobStatus::Running), Some(&running));
    }
    if let Some(held) = held {
        held.end().await;
    }
    (support::median(&claims), support::median(&statistics))
}

/// Makes the backlog; what of it goes on running.
async fn fill(place: &Place, queue: &Queue, many: usize, backlog: Backlog) -> Option<Held> {
    let crowd = |number: usize| {
        let crowd = NewJob::custom("nothing", Value::Null);
        match backlog {
            Backlog::Waiting => crowd.tenant(format!("crowd-{}", number % TENANTS)),
            Backlog::NotDue => crowd.tenant("crowd").delay(Duration::from_secs(86_400)),
            _ => NewJob {
                paused: backlog == Backlog::Paused,
                ..crowd.tenant("crowd")
            },
        }
    };
    // A file takes a million in seconds. A server would take minutes, so there some are made as any,
    // and then others like them.
    let first = match place {
        Place::Sqlite(_) => many,
        Place::Postgres(_) => many.min(FEW),
    };
    submit(queue, first, crowd).await;
    if backlog == Backlog::Dead {
        let worker = Worker::builder(queue.clone())
            .concurrency(1024)
            .handler("nothing", |_| async {
                Err(HandlerFailure::permanent("no"))
            })
            .until_empty()
            .build();
        worker.run(std::future::pending()).await.expect("it works");
    }
    if let Place::Postgres(url) = place {
        // Once all of it is in line.
        queue.cancel(&[]).await.expect("taken in");
        larger(url, many / first).await;
    }
    if backlog != Backlog::AtTheirCap {
        return None;
    }
    let bounds = Bounds {
        concurrency: Some(Some(1)),
        ..Bounds::default()
    };
    let bounded = queue.set_bounds(ScopeKind::Tenant, "crowd", bounds);
    bounded.await.expect("bounded");
    Some(Held::start(queue).await)
}

/// A worker that has one job, and goes on having it.
struct Held {
    stop: oneshot::Sender<()>,
    pass: oneshot::Sender<()>,
    working: JoinHandle<Result<Done, WorkerError>>,
}

impl Held {
    async fn start(queue: &Queue) -> Self {
        let (pass, passed) = oneshot::channel::<()>();
        let (came, comes) = oneshot::channel::<()>();
        let once = std::sync::Mutex::new(Some((passed, came)));
        let handler = move |_| {
            let once = once.lock().expect("nobody panicked").take();
            async move {
                let (passed, came) = once.expect("there is one");
                came.send(()).expect("it is waited for");
                // An error is the end, too.
                let _ = passed.await;
                Ok(Value::Null)
            }
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = Worker::builder(queue.clone()).concurrency(1);
        let working = tokio::spawn(worker.handler("nothing", handler).build().run(async {
            let _ = stopped.await;
        }));
        comes.await.expect("it starts");
        Held {
            stop,
            pass,
            working,
        }
    }

    async fn end(self) {
        self.stop.send(()).expect("it works");
        self.pass.send(()).expect("it works");
        let done = self.working.await.expect("no panic").expect("it works");
        assert_eq!(done.completed, 1);
    }
}

async fn submit(queue: &Queue, count: usize, job: impl Fn(usize) -> NewJob) {
    let numbers: Vec<usize> = (0..count).collect();
    for part in numbers.chunks(BATCH * 8) {
        let jobs = part.iter().map(|number| job(*number));
        let jobs = jobs.map(|job| NewJob {
            id: uuid::Uuid::now_v7(),
            ..job
        });
        queue.submit_all(jobs.collect()).await.expect("submitted");
    }
}
