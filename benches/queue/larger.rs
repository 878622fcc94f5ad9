//! A backlog in PostgreSQL that is made larger: of each row that is there, others like it.

/// Makes what there is `times` as many.
pub async fn larger(url: &str, times: usize) {
    if times <= 1 {
        return;
    }
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .expect("the server answers");
    let serving = tokio::spawn(connection);
    let last = client
        .query_one("SELECT max(seq) FROM skillhost.jobs", &[])
        .await
        .expect("it answers");
    let jobs: i64 = last.get(0);
    // The number of a copy is that of its model, and so many thousand more. Its id follows from both.
    let id = "md5({}::text || copy)::uuid";
    let of_job = id.replace("{}", "id");
    let of_event = id.replace("{}", "job");
    let statements = format!(
        "SET search_path TO skillhost; SET synchronous_commit TO off; BEGIN;
         CREATE TEMPORARY TABLE copies AS SELECT copy FROM generate_series(1, {times} - 1) AS copy;
         INSERT INTO bodies SELECT bodies.seq + copy * {jobs},
             replace(submitted, jobs.id::text, ({of_job})::text), retry
             FROM bodies JOIN jobs ON jobs.seq = bodies.seq CROSS JOIN copies;
         INSERT INTO ready SELECT lane, rank, seq + copy * {jobs} FROM ready CROSS JOIN copies;
         INSERT INTO later SELECT due_at, seq + copy * {jobs}, lane, priority
             FROM later CROSS JOIN copies;
         INSERT INTO attempts SELECT job + copy * {jobs}, fence, number, counted, worker, started,
             ended, status, details FROM attempts CROSS JOIN copies;
         INSERT INTO events SELECT id + copy * (SELECT last FROM numbers WHERE name = 'event'),
             {of_event}, kind, at, attempt, data FROM events CROSS JOIN copies;
         INSERT INTO jobs SELECT seq + copy * {jobs}, {of_job}, lane, kind, status, cause, priority,
             attempts, max_attempts, fence, worker, created_at, updated_at, scheduled_at, due_at,
             started_at, completed_at, deadline, cancel_requested, flags FROM jobs CROSS JOIN copies;
         SELECT setval('job_numbers', {jobs} * {times});
         UPDATE numbers SET last = last * {times} WHERE name = 'event';
         UPDATE counters SET value = value * {times};
         COMMIT;"
    );
    client.batch_execute(&statements).await.expect("written");
    // As autovacuum leaves them.
    let tidy = client.batch_execute("VACUUM (ANALYZE)").await;
    tidy.expect("tidied");
    serving.abort();
}
