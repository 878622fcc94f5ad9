//! Bare clients that write what a queue writes for jobs that do nothing: the same rows, in as many
//! transactions, with nothing decided.

use std::time::Instant;

use super::postgres::Postgres;
use super::through::BATCH;

/// The columns of a job's body and retry plan, as the queue writes them for such a job.
fn body(id: uuid::Uuid) -> String {
    serde_json::json!({
        "id": id, "work": {"kind": "custom", "name": "nothing", "payload": null},
        "priority": "normal", "queue": "default", "due": "now", "mode": "wait",
    })
    .to_string()
}

const RETRY: &str = r#"{"policy":{"max_attempts":5,"base_ms":5000,"factor":3.0,"cap_ms":3600000,"jitter":0.2,"on":["retryable_error","trap","timeout","worker_lost"],"destructive":false},"delays_ms":[4711,14711,41711,104711]}"#;

/// The schema of the queue's file, all its steps: the same tables, with the same indexes.
const SCHEMA: [&str; 4] = [
    include_str!("../../src/queue/store/sqlite/1.sql"),
    include_str!("../../src/queue/store/sqlite/2.sql"),
    include_str!("../../src/queue/store/sqlite/3.sql"),
    include_str!("../../src/queue/store/sqlite/4.sql"),
];

/// Jobs a second through bare `rusqlite`, in a file that is set up as the queue's: a prepared statement
/// for each row.
pub fn sqlite(count: usize) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let connection =
        rusqlite::Connection::open(folder.path().join("floor.db")).expect("a database");
    connection
        .execute_batch(
            "PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL; \
             PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; \
             PRAGMA foreign_keys = OFF; PRAGMA cache_size = -65536; \
             PRAGMA wal_autocheckpoint = 4096;",
        )
        .expect("set up");
    connection.set_prepared_statement_cache_capacity(64);
    for step in SCHEMA {
        connection.execute_batch(step).expect("the schema");
    }
    let worker = uuid::Uuid::now_v7();
    let began = Instant::now();
    for batch in 0..count / BATCH {
        let first = (batch * BATCH) as i64 + 1;
        let events = first * 3;
        write(&connection, |connection| {
            submitted(connection, first, events)
        });
        write(&connection, |connection| {
            claimed(connection, first, events, worker)
        });
        write(&connection, |connection| {
            settled(connection, first, events, worker)
        });
    }
    count as f64 / began.elapsed().as_secs_f64()
}

fn write(
    connection: &rusqlite::Connection,
    rows: impl Fn(&rusqlite::Connection) -> rusqlite::Result<()>,
) {
    connection.execute_batch("BEGIN IMMEDIATE").expect("begun");
    rows(connection).expect("written");
    connection.execute_batch("COMMIT").expect("committed");
}

fn event(
    connection: &rusqlite::Connection,
    id: i64,
    job: &uuid::Uuid,
    kind: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO events (id, job, kind, at, attempt, data) VALUES (?1, ?2, ?3, ?4, 1, '')",
        )?
        .execute(rusqlite::params![
            id,
            job.as_bytes(),
            kind,
            1_700_000_000_000_000_i64
        ])?;
    Ok(())
}

/// The id of a job, known by its number.
fn id(seq: i64) -> uuid::Uuid {
    uuid::Uuid::from_u128(
        0x0190_0000_0000_7000_8000_0000_0000_0000 | (seq as u128) << 80 | seq as u128,
    )
}

fn submitted(connection: &rusqlite::Connection, first: i64, events: i64) -> rusqlite::Result<()> {
    for at in 0..BATCH as i64 {
        let (seq, id) = (first + at, id(first + at));
        connection
            .prepare_cached(
                "INSERT INTO jobs (seq, id, lane, kind, status, cause, priority, attempts, \
                 max_attempts, fence, worker, created_at, updated_at, scheduled_at, due_at, \
                 started_at, completed_at, deadline, cancel_requested, flags) VALUES (?1, ?2, 1, \
                 'custom', 'pending', NULL, 'normal', 0, 5, 0, NULL, ?3, ?3, ?3, ?3, NULL, NULL, \
                 NULL, 0, 0)",
            )?
            .execute(rusqlite::params![
                seq,
                id.as_bytes(),
                1_700_000_000_000_000_i64 + seq
            ])?;
        connection
            .prepare_cached("INSERT INTO bodies (seq, submitted, retry) VALUES (?1, ?2, ?3)")?
            .execute(rusqlite::params![seq, body(id), RETRY])?;
        connection
            .prepare_cached("INSERT INTO ready (lane, rank, seq) VALUES (1, ?1, ?1)")?
            .execute([seq])?;
        event(connection, events + at, &id, "submitted")?;
    }
    Ok(())
}

fn claimed(
    connection: &rusqlite::Connection,
    first: i64,
    events: i64,
    worker: uuid::Uuid,
) -> rusqlite::Result<()> {
    for at in 0..BATCH as i64 {
        let seq = first + at;
        connection
            .prepare_cached("DELETE FROM ready WHERE lane = 1 AND rank = ?1 AND seq = ?1")?
            .execute([seq])?;
        connection
            .prepare_cached(
                "UPDATE jobs SET status = 'running', fence = 1, worker = ?2, started_at = ?3, \
                 updated_at = ?3 WHERE seq = ?1",
            )?
            .execute(rusqlite::params![
                seq,
                worker.as_bytes(),
                1_700_000_000_000_000_i64
            ])?;
        event(connection, events + BATCH as i64 + at, &id(seq), "started")?;
    }
    Ok(())
}

fn settled(
    connection: &rusqlite::Connection,
    first: i64,
    events: i64,
    worker: uuid::Uuid,
) -> rusqlite::Result<()> {
    for at in 0..BATCH as i64 {
        let seq = first + at;
        connection
            .prepare_cached(
                "UPDATE jobs SET status = 'completed', attempts = 1, worker = NULL, \
                 completed_at = ?2, updated_at = ?2 WHERE seq = ?1",
            )?
            .execute([seq, 1_700_000_000_000_000])?;
        connection
            .prepare_cached(
                "INSERT INTO attempts (job, fence, number, counted, worker, started, ended, \
                 status, details) VALUES (?1, 1, 1, 1, ?2, ?3, ?3, 'success', '{}')",
            )?
            .execute(rusqlite::params![
                seq,
                worker.as_bytes(),
                1_700_000_000_000_000_i64
            ])?;
        connection
            .prepare_cached("INSERT INTO results (seq, result) VALUES (?1, '{\"output\":null}')")?
            .execute([seq])?;
        event(
            connection,
            events + 2 * BATCH as i64 + at,
            &id(seq),
            "completed",
        )?;
    }
    Ok(())
}

/// A value for a statement.
type Given<'a> = &'a (dyn tokio_postgres::types::ToSql + Sync);

/// Jobs a second through a bare `tokio-postgres`, the statements of each transaction sent at once.
pub async fn postgres(server: &Postgres, count: usize) -> f64 {
    let database = server.database().await;
    let client = database.connect().await;
    client
        .batch_execute(include_str!("../../src/queue/store/postgres/1.sql"))
        .await
        .expect("the schema");
    let mut statements = Vec::new();
    for text in [
        SUBMIT, SUBMITTED, TAKE, START, STARTED, END, ATTEMPT, RESULT,
    ] {
        statements.push(client.prepare(text).await.expect("prepared"));
    }
    let [
        submit,
        submitted,
        take,
        start,
        started,
        end,
        attempt,
        result,
    ] = <[_; 8]>::try_from(statements).expect("eight");
    let worker = uuid::Uuid::now_v7();
    let now = 1_700_000_000_000_000_i64;
    let began = Instant::now();
    for batch in 0..count / BATCH {
        let first = (batch * BATCH) as i64 + 1;
        let seqs: Vec<i64> = (first..first + BATCH as i64).collect();
        let ids: Vec<uuid::Uuid> = seqs.iter().map(|&seq| id(seq)).collect();
        let bodies: Vec<String> = ids.iter().map(|&id| body(id)).collect();
        let events: Vec<i64> = (0..3).map(|part| first * 3 + part * BATCH as i64).collect();
        let (named, came, ended) = ("submitted", "started", "completed");
        let told = [
            [&events[0] as Given<'_>, &ids, &named, &now],
            [&events[1] as Given<'_>, &ids, &came, &now],
            [&events[2] as Given<'_>, &ids, &ended, &now],
        ];
        let new = [&seqs as Given<'_>, &ids, &bodies, &RETRY, &now];
        let (which, whose) = ([&seqs as Given<'_>], [&seqs as Given<'_>, &worker, &now]);
        let when = [&seqs as Given<'_>, &now];
        let done = tokio::try_join!(
            client.batch_execute("BEGIN"),
            client.execute(&submit, &new),
            client.execute(&submitted, &told[0]),
            client.batch_execute("COMMIT"),
        );
        done.expect("submitted");
        let done = tokio::try_join!(
            client.batch_execute("BEGIN"),
            client.execute(&take, &which),
            client.execute(&start, &whose),
            client.execute(&started, &told[1]),
            client.batch_execute("COMMIT"),
        );
        done.expect("started");
        let done = tokio::try_join!(
            client.batch_execute("BEGIN"),
            client.execute(&end, &when),
            client.execute(&attempt, &whose),
            client.execute(&result, &which),
            client.execute(&started, &told[2]),
            client.batch_execute("COMMIT"),
        );
        done.expect("ended");
    }
    count as f64 / began.elapsed().as_secs_f64()
}

const SUBMIT: &str = "WITH given AS (SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[]) \
    AS given (seq, id, body)), \
    put AS (INSERT INTO jobs (seq, id, lane, kind, status, cause, priority, attempts, max_attempts, \
    fence, worker, created_at, updated_at, scheduled_at, due_at, started_at, completed_at, deadline, \
    cancel_requested, flags) SELECT seq, id, 1, 'custom', 'pending', NULL, 'normal', 0, 5, 0, NULL, \
    $5, $5, $5, $5, NULL, NULL, NULL, false, 0 FROM given), \
    ready AS (INSERT INTO ready (lane, rank, seq) SELECT 1, seq, seq FROM given) \
    INSERT INTO bodies (seq, submitted, retry) SELECT seq, body, $4::text FROM given";
const SUBMITTED: &str = "INSERT INTO events (id, job, kind, at, attempt, data) \
    SELECT $1::bigint + place, job, $3::text, $4::bigint, 1, '' \
    FROM unnest($2::uuid[]) WITH ORDINALITY AS given (job, place)";
const TAKE: &str = "DELETE FROM ready WHERE lane = 1 AND rank = ANY($1::bigint[])";
const START: &str = "UPDATE jobs SET status = 'running', fence = 1, worker = $2::uuid, \
    started_at = $3, updated_at = $3 WHERE seq = ANY($1::bigint[])";
const STARTED: &str = SUBMITTED;
const END: &str = "UPDATE jobs SET status = 'completed', attempts = 1, worker = NULL, \
    completed_at = $2, updated_at = $2 WHERE seq = ANY($1::bigint[])";
const ATTEMPT: &str = "INSERT INTO attempts (job, fence, number, counted, worker, started, ended, \
    status, details) SELECT seq, 1, 1, true, $2::uuid, $3, $3, 'success', '{}' \
    FROM unnest($1::bigint[]) AS given (seq)";
const RESULT: &str = "INSERT INTO results (seq, result) SELECT seq, '{\"output\":null}' \
    FROM unnest($1::bigint[]) AS given (seq)";
