//! Jobs that are submitted within a transaction of the caller's own, on PostgreSQL.

use std::time::Duration;

use skillhost::queue::{JobStatus, NewJob, Queue, QueueError, Worker};
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

use crate::place::{LONG, good, scripted};
use crate::postgres::{Database, Postgres};

async fn place() -> (Database<'static>, Queue) {
    let server = tokio::task::spawn_blocking(Postgres::shared).await;
    let database = server.expect("it can be started").database().await;
    let queue = Queue::connect(&database.url()).await;
    (database, queue.expect("it can be reached"))
}

async fn total(queue: &Queue) -> u64 {
    queue.statistics(1).await.expect("statistics").total
}

async fn is_there(queue: &Queue, id: Uuid) -> bool {
    match queue.job(id).await {
        Ok(_) => true,
        Err(QueueError::NotFound(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

/// A connection of the caller's, with a table of its own in a schema of its own.
async fn caller(database: &Database<'_>) -> Client {
    let client = database.connect().await;
    let made = client
        .batch_execute(
            "CREATE SCHEMA shop; SET search_path TO shop, public; CREATE TABLE orders (id int)",
        )
        .await;
    made.expect("it is not there yet");
    client
}

/// Where names are looked up, and that a table of the caller's is found by its name alone.
async fn at_home(client: &impl GenericClient) {
    let row = client.query_one("SHOW search_path", &[]).await;
    let path: String = row.expect("it answers").get(0);
    assert_eq!(path, "shop, public");
    let written = client.execute("INSERT INTO orders VALUES (1)", &[]).await;
    assert_eq!(written.expect("it is there"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_there_once_it_is_committed() {
    let (database, queue) = place().await;
    let mut client = caller(&database).await;
    let transaction = client.transaction().await.expect("begun");
    let jobs: Vec<NewJob> = (0..3).map(|_| good().tag("order")).collect();
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
    let submitted = queue.submit_in(&transaction, jobs).await.expect("accepted");
    let answered: Vec<Uuid> = submitted.iter().map(|one| one.id).collect();
    assert_eq!(answered, ids);
    assert!(submitted.iter().all(|one| !one.existing));
    at_home(&transaction).await;
    assert_eq!(total(&queue).await, 0);
    assert!(!is_there(&queue, ids[0]).await);
    // Others are not held up meanwhile.
    let other = queue.submit(good()).await.expect("accepted").id;
    let work = || {
        let worker = Worker::builder(queue.clone()).handler("work", scripted);
        worker.until_empty().build().run(std::future::pending())
    };
    let done = work().await.expect("it works");
    assert_eq!(done.completed, 1);
    assert_eq!(queue.job(other).await.unwrap().status, JobStatus::Completed);
    transaction.commit().await.expect("committed");
    queue.wake();
    assert_eq!(total(&queue).await, 4);
    let done = work().await.expect("it works");
    assert_eq!(done.completed, 3);
    for id in ids {
        assert_eq!(queue.job(id).await.unwrap().status, JobStatus::Completed);
    }
    at_home(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_what_is_rolled_back() {
    let (database, queue) = place().await;
    let mut client = caller(&database).await;
    let transaction = client.transaction().await.expect("begun");
    let job = good().key("order-1");
    let id = job.id;
    let submitted = queue.submit_in(&transaction, vec![job]).await;
    submitted.expect("accepted");
    transaction.rollback().await.expect("rolled back");
    assert!(!is_there(&queue, id).await);
    assert_eq!(total(&queue).await, 0);
    assert!(queue.events(0, 10).await.unwrap().events.is_empty());
    // Its key is nobody's.
    let again = queue.submit(good().key("order-1")).await.expect("accepted");
    assert!(!again.existing);
    at_home(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_behind_a_savepoint_goes_back_to_it() {
    let (database, queue) = place().await;
    let mut client = caller(&database).await;
    let mut transaction = client.transaction().await.expect("begun");
    let (kept, dropped) = (good(), good().key("k"));
    let (kept_id, dropped_id) = (kept.id, dropped.id);
    let submitted = queue.submit_in(&transaction, vec![kept.clone()]).await;
    submitted.expect("accepted");
    let inner = transaction.savepoint("before").await.expect("begun");
    let submitted = queue.submit_in(&inner, vec![dropped]).await;
    submitted.expect("accepted");
    at_home(&inner).await;
    inner.rollback().await.expect("rolled back");
    at_home(&transaction).await;
    // Also where the server refused it: the id is taken.
    let inner = transaction.savepoint("before").await.expect("begun");
    let refused = queue.submit_in(&inner, vec![kept]).await.unwrap_err();
    assert!(matches!(refused, QueueError::Invalid(_)), "{refused}");
    inner.rollback().await.expect("rolled back");
    at_home(&transaction).await;
    let last = good().key("k");
    let last_id = last.id;
    let submitted = queue.submit_in(&transaction, vec![last]).await;
    assert!(!submitted.expect("accepted")[0].existing);
    transaction.commit().await.expect("committed");
    assert!(is_there(&queue, kept_id).await);
    assert!(is_there(&queue, last_id).await);
    assert!(!is_there(&queue, dropped_id).await);
    assert_eq!(total(&queue).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_the_first_ones_across_transactions() {
    let (database, queue) = place().await;
    let mut client = caller(&database).await;
    let holder = queue.submit(good().key("a")).await.expect("accepted").id;
    for commits in [true, false] {
        let transaction = client.transaction().await.expect("begun");
        let ours = good().key(format!("b-{commits}"));
        let our_id = ours.id;
        let jobs = vec![good().key("a"), ours];
        let submitted = queue.submit_in(&transaction, jobs).await.expect("accepted");
        assert_eq!(submitted[0].id, holder);
        assert!(submitted[0].existing && !submitted[1].existing);
        // Who comes with the same key waits to hear what becomes of it, and others do not.
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.submit(good().key(format!("b-{commits}"))).await }
        });
        let (other, client) = (queue.clone(), database.connect().await);
        let somebody_waits = async {
            let asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                         AND datname = current_database()";
            while client.query_one(asked, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waits = tokio::time::timeout(LONG, somebody_waits).await;
        waits.expect("it waits");
        other.submit(good()).await.expect("accepted");
        assert!(!waiting.is_finished());
        match commits {
            true => transaction.commit().await.expect("committed"),
            false => transaction.rollback().await.expect("rolled back"),
        }
        let waited = waiting.await.expect("no panic").expect("accepted");
        assert_eq!(waited.existing, commits);
        assert_eq!(waited.id == our_id, commits);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_no_part_in_it() {
    let (database, _) = place().await;
    let mut client = caller(&database).await;
    let folder = tempfile::tempdir().expect("a folder");
    let queue = Queue::open(folder.path().join("queue.db")).expect("it can be opened");
    let transaction = client.transaction().await.expect("begun");
    let refused = queue.submit_in(&transaction, vec![good()]).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, QueueError::Invalid(_)), "{refused}");
    // It can go on.
    at_home(&transaction).await;
}
