//! The tables in PostgreSQL: of an older release, of a newer one; and what is too large for one
//! message to it.

use serde_json::json;
use skillhost::policy::{ApprovalFilter, Approvals as _};
use skillhost::queue::{JobStatus, NewJob, Queue, QueueError, Worker};

use crate::place::{good, job, scripted};
use crate::postgres::{Database, Postgres};

async fn database() -> Database<'static> {
    let server = tokio::task::spawn_blocking(Postgres::shared).await;
    server.expect("it can be started").database().await
}

/// The steps that were taken.
async fn steps(database: &Database<'_>) -> Vec<i64> {
    let client = database.connect().await;
    let rows = client
        .query(
            "SELECT version::bigint FROM skillhost.migrations ORDER BY version",
            &[],
        )
        .await;
    let rows = rows.expect("it can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

/// What undoes each step, the last first.
const UNDO: [&str; 4] = [
    "DROP INDEX jobs_waiting; DROP TABLE admissions; DROP INDEX events_of_people;",
    "DROP INDEX jobs_of_lane; DROP INDEX jobs_dead_of_lane; DROP INDEX keys_by_until;
     ALTER TABLE jobs DROP COLUMN lacking_since; DROP TABLE callbacks;
     ALTER TABLE schedules DROP COLUMN tenant, DROP COLUMN outline;
     ALTER TABLE approvals DROP COLUMN awaited;",
    "DROP TABLE notes;",
    "DROP TABLE approvals;
     DROP INDEX lanes_waiting; CREATE INDEX lanes_waiting ON lanes (share) WHERE waiting;",
];

/// Tables, columns and indexes: what there is.
async fn shape(database: &Database<'_>) -> Vec<String> {
    let client = database.connect().await;
    let rows = client
        .query(
            "SELECT table_name || '.' || column_name || ' ' || data_type AS what
             FROM information_schema.columns WHERE table_schema = 'skillhost'
             UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'skillhost' ORDER BY what",
            &[],
        )
        .await;
    let rows = rows.expect("it can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Of every release that there was: as if it had left them so.
#[tokio::test]
async fn tables_of_an_older_release_are_brought_up_to_date() {
    for undone in 1..=UNDO.len() {
        brought_up_to_date(undone).await;
    }
}

async fn brought_up_to_date(undone: usize) {
    let database = database().await;
    let queue = Queue::connect(&database.url()).await.expect("it is new");
    let id = queue.submit(good()).await.expect("it is accepted").id;
    drop(queue);
    let now = steps(&database).await;
    assert_eq!(
        now.len(),
        UNDO.len() + 1,
        "each step has something that undoes it"
    );
    let before = shape(&database).await;
    let left = now.len() - undone;
    let client = database.connect().await;
    let olden = client
        .batch_execute(&format!(
            "SET search_path TO skillhost; {} DELETE FROM migrations WHERE version > {left}",
            UNDO[..undone].concat()
        ))
        .await;
    olden.expect("it can be written");
    assert_eq!(steps(&database).await, now[..left]);
    // Several come at once.
    let url = database.url();
    let connects = || Queue::connect(&url);
    let (one, two, three) = tokio::join!(connects(), connects(), connects());
    for queue in [one, two, three] {
        let queue = queue.expect("it can be brought up to date");
        assert_eq!(queue.job(id).await.unwrap().status, JobStatus::Pending);
        let filter = ApprovalFilter::default();
        assert_eq!(queue.approvals(&filter).await.expect("it can be read"), []);
    }
    assert_eq!(steps(&database).await, now);
    assert_eq!(shape(&database).await, before);
}

/// Whatever is usual in a database: what was acknowledged is on the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_durable_also_where_the_database_would_have_it_otherwise() {
    let database = database().await;
    let client = database.connect().await;
    let made = client
        .batch_execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit TO off',
             current_database()); END $$",
        )
        .await;
    made.expect("it is the test's own");
    let row = database.connect().await;
    let row = row.query_one("SHOW synchronous_commit", &[]).await;
    assert_eq!(row.expect("it answers").get::<_, &str>(0), "off");
    let queue = Queue::connect(&database.url()).await.expect("it is new");
    // Whoever writes jobs tells how it commits.
    let told = client
        .batch_execute(
            "CREATE TABLE public.told (how text);
             CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO public.told SELECT current_setting('synchronous_commit');
                 RETURN NULL; END $$;
             CREATE TRIGGER tell AFTER INSERT OR UPDATE ON skillhost.jobs
                 FOR EACH STATEMENT EXECUTE FUNCTION public.tell();",
        )
        .await;
    told.expect("it is the test's own");
    let id = queue.submit(good()).await.expect("it is accepted").id;
    let worker = Worker::builder(queue.clone()).handler("work", scripted);
    let worker = worker.until_empty().build();
    worker.run(std::future::pending()).await.expect("it works");
    assert_eq!(queue.job(id).await.unwrap().status, JobStatus::Completed);
    let rows = client.query("SELECT how FROM public.told", &[]).await;
    let how: Vec<String> = rows
        .expect("it answers")
        .iter()
        .map(|row| row.get(0))
        .collect();
    // Submitted, taken, settled.
    assert!(how.len() >= 3, "{how:?}");
    assert!(how.iter().all(|how| how == "on"), "{how:?}");
}

#[tokio::test]
async fn tables_of_a_newer_release_are_left_alone() {
    let database = database().await;
    let queue = Queue::connect(&database.url()).await.expect("it is new");
    queue.submit(good()).await.expect("it is accepted");
    drop(queue);
    let client = database.connect().await;
    let newer = client
        .batch_execute(
            "INSERT INTO skillhost.migrations (version, name, applied_on, checksum)
             SELECT 99, 'later', applied_on, '0' FROM skillhost.migrations LIMIT 1",
        )
        .await;
    newer.expect("it can be written");
    let before = steps(&database).await;
    let error = Queue::connect(&database.url()).await.err();
    let error = error.expect("it is newer");
    assert!(
        matches!(error, QueueError::TooNew { found: 99, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("use a newer release"), "{error}");
    assert_eq!(steps(&database).await, before);
}

/// More than PostgreSQL takes in one message, which is 1 GiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_may_be_larger_than_a_message() {
    const EACH: usize = 15 << 20;
    let database = database().await;
    let queue = Queue::connect(&database.url()).await.expect("it is new");
    let jobs: Vec<NewJob> = (0..=(1 << 30) / EACH)
        .map(|_| job(json!("x".repeat(EACH))))
        .collect();
    let ids: Vec<uuid::Uuid> = jobs.iter().map(|job| job.id).collect();
    queue.submit_all(jobs).await.expect("it is accepted");
    let statistics = queue.statistics(1).await.expect("statistics");
    assert_eq!(statistics.by_status[&JobStatus::Pending], ids.len() as u64);
    let last = queue.job(ids[ids.len() - 1]).await.expect("it is there");
    assert_eq!(last.submitted.id, ids[ids.len() - 1]);
}

/// What everybody would have to write is put aside in parts, which are taken in one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_large_batch_puts_aside_comes_in_parts() {
    let database = database().await;
    let queue = Queue::connect(&database.url()).await.expect("it is new");
    let mut client = database.connect().await;
    let transaction = client.transaction().await.expect("begun");
    let jobs: Vec<NewJob> = (0..10_000).map(|_| good()).collect();
    let submitted = queue.submit_in(&transaction, jobs).await;
    submitted.expect("it is accepted");
    let row = transaction
        .query_one(
            "SELECT count(*), max(octet_length(changes) + octet_length(tally)) \
             FROM skillhost.inbox",
            &[],
        )
        .await
        .expect("it can be read");
    let (parts, largest): (i64, i32) = (row.get(0), row.get(1));
    assert!(parts > 1, "{parts}");
    assert!(largest < 1 << 20, "{largest}");
    transaction.commit().await.expect("committed");
    let statistics = queue.statistics(1).await.expect("statistics");
    assert_eq!(statistics.by_status[&JobStatus::Pending], 10_000);
    let last = queue.last_event().await.expect("events");
    assert_eq!(last, 10_000);
}
