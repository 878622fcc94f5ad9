//! Jobs that do nothing through `apalis-sqlite`: so many are queued, and then worked off.
//!
//! `bench-apalis JOBS` prints one line of JSON: for each setting, jobs a second queued and jobs a
//! second worked off, until the last is noted as done in the database. `cargo bench --bench queue -- apalis`
//! does the same with ours, and sets the two side by side.
//!
//! - `own`: what its documentation shows, with all its defaults: `synchronous=OFF` on the connection
//!   that sets it up, ten jobs to a batch.
//! - `own_large_batches`: the same with as many to a batch as ours has.
//! - `full` and `full_large_batches`: with `synchronous=FULL` on every connection, as ours has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteStorage};
use futures::stream;

/// As many jobs as ours submits and takes at a time.
const BATCH: usize = 512;

/// How often it is looked whether all is done, once all have run.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy)]
struct Setting {
    name: &'static str,
    full: bool,
    batch: Option<usize>,
}

const SETTINGS: [Setting; 4] = [
    Setting {
        name: "own",
        full: false,
        batch: None,
    },
    Setting {
        name: "own_large_batches",
        full: false,
        batch: Some(BATCH),
    },
    Setting {
        name: "full",
        full: true,
        batch: None,
    },
    Setting {
        name: "full_large_batches",
        full: true,
        batch: Some(BATCH),
    },
];

#[tokio::main(worker_threads = 2)]
async fn main() {
    let jobs = std::env::args().nth(1).and_then(|jobs| jobs.parse().ok());
    let Some(jobs) = jobs else {
        eprintln!("usage: bench-apalis JOBS");
        std::process::exit(2);
    };
    let mut figures = serde_json::Map::new();
    for setting in SETTINGS {
        let (queued, worked_off) = measure(setting, jobs).await;
        figures.insert(
            setting.name.to_owned(),
            serde_json::json!({
                "queued_per_second": queued.round(),
                "worked_off_per_second": worked_off.round(),
            }),
        );
    }
    println!("{}", serde_json::Value::Object(figures));
}

async fn pool(setting: Setting, path: &std::path::Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    if !setting.full {
        let pool = SqlitePool::connect_with(options).await.expect("a database");
        SqliteStorage::setup(&pool).await.expect("set up");
        return pool;
    }
    // What `setup` does, but for the durability, and on every connection.
    let options = options
        .pragma("journal_mode", "WAL")
        .pragma("temp_store", "MEMORY")
        .pragma("synchronous", "FULL")
        .pragma("cache_size", "64000")
        .pragma("journal_size_limit", "67108864");
    let pool = SqlitePoolOptions::new()
        .connect_with(options)
        .await
        .expect("a database");
    let migrated = SqliteStorage::migrations().run(&pool).await;
    migrated.expect("set up");
    pool
}

/// Jobs a second: queued, and worked off.
async fn measure(setting: Setting, jobs: usize) -> (f64, f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = pool(setting, &folder.path().join("jobs.db")).await;
    let mut config = Config::default().queue("nothing");
    if let Some(batch) = setting.batch {
        config = config.batch_size(batch);
    }
    let mut backend = SqliteStorage::<u32>::new(&pool).with_config(config);
    let began = Instant::now();
    let mut left = jobs;
    while left > 0 {
        let part = left.min(BATCH);
        let mut batch = stream::iter(vec![0; part]);
        backend.push_stream(&mut batch).await.expect("queued");
        left -= part;
    }
    let queued = jobs as f64 / began.elapsed().as_secs_f64();
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = ran.clone();
    let worker = WorkerBuilder::new("nothing")
        .backend(backend)
        .concurrency(1024)
        .build(move |_: u32| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok::<(), BoxDynError>(()))
        });
    let began = Instant::now();
    let working = tokio::spawn(worker.run());
    loop {
        tokio::time::sleep(LOOK).await;
        if ran.load(Ordering::Relaxed) < jobs {
            continue;
        }
        let done: i64 = sqlx::query_scalar("SELECT count(*) FROM Jobs WHERE status = 'Done'")
            .fetch_one(&pool)
            .await
            .expect("it answers");
        if usize::try_from(done) == Ok(jobs) {
            break;
        }
    }
    let worked_off = jobs as f64 / began.elapsed().as_secs_f64();
    working.abort();
    (queued, worked_off)
}
