//! Reading beside those who write: a few connections, taken in turn.

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, PoolConfig, RecyclingMethod, Runtime, Timeouts};
use tokio::time::Instant;
use tokio_postgres::Row as SqlRow;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::reads::BY_PEOPLE;
use super::super::{
    Answer, ApprovalQuery, ApprovalRow, AttemptRow, Body, EventRow, Filter, Found, LaneKey, Listed,
    NoteRow, PolicyRow, Reads, Result, ScheduleRow, Scope, ScopeKind, WorkerRow,
};
use super::approvals;
use super::committer::Committer;
use super::connect::Connector;
use super::failure::{Remedy, remedy};
use super::inbox::read_tally;
use super::keeping::{OUTLINE, SCHEDULE, schedule};
use super::lines::{SCOPE, scope};
use super::list::{ids, list};
use super::notes::{NOTE, note};
use super::rows::{COLUMNS, limit, name, row, small};
use crate::queue::error::QueueError;
use crate::queue::job::{JobStatus, Priority};
use crate::queue::time::{Micros, span};

/// The most connections to read with.
const READERS: usize = 4;
/// How long to try where the server cannot be reached.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections for statements that stand for themselves.
#[derive(Clone)]
pub(super) struct Pool(deadpool_postgres::Pool);

impl Pool {
    pub fn new(connector: Connector) -> Result<Self> {
        let config = connector.target.config.clone();
        let fast = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_connect(config, connector, fast);
        let mut pool = PoolConfig::new(READERS);
        pool.timeouts = Timeouts {
            wait: Some(PATIENCE),
            create: Some(PATIENCE),
            recycle: Some(PATIENCE),
        };
        let pool = deadpool_postgres::Pool::builder(manager)
            .config(pool)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| QueueError::Internal(format!("no pool can be made: {error}")))?;
        Ok(Pool(pool))
    }

    /// Asks; again where the connection is lost meanwhile. What is asked may be done twice.
    pub async fn query(&self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<SqlRow>> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (error, again) = match self.0.get().await {
                Err(error) => {
                    let again = matches!(&error, deadpool_postgres::PoolError::Backend(_));
                    (unreachable(error), again)
                }
                Ok(client) => {
                    let asked = async {
                        let statement = client.prepare_cached(sql).await?;
                        client.query(&statement, with).await
                    };
                    match asked.await {
                        Ok(rows) => return Ok(rows),
                        Err(error) => {
                            let remedy = remedy(&error);
                            if remedy == Remedy::Reconnect {
                                drop(deadpool_postgres::Object::take(client));
                            }
                            (error.into(), remedy != Remedy::None)
                        }
                    }
                }
            };
            if !again || Instant::now() >= until {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn unreachable(error: deadpool_postgres::PoolError) -> QueueError {
    match error {
        deadpool_postgres::PoolError::Backend(error) => match QueueError::from(error) {
            QueueError::Internal(what) => QueueError::Unavailable(what),
            other => other,
        },
        other => QueueError::Unavailable(other.to_string()),
    }
}

/// Reads a database.
pub(super) struct Reader {
    pub pool: Pool,
    /// Who takes in what was put aside.
    pub serial: Committer,
}

/// Joins a lane's queue, tenant and skill.
pub(super) const SCOPES: &str = "JOIN scopes AS queues ON queues.id = lanes.queue \
    JOIN scopes AS tenants ON tenants.id = lanes.tenant \
    JOIN scopes AS skills ON skills.id = lanes.skill";

/// What went wrong, by the record of an attempt. To take it out every text of the document is read, and
/// PostgreSQL has no NUL in texts.
const ERROR: &str =
    "left(replace(details, '\\u0000', '\\ufffd')::json #>> '{failure,message}', 1000)";

/// What [`found`] reads: a job's state, its body, its queue, tenant and skill; and more behind it.
pub(super) fn select(more: &str, tail: &str) -> String {
    format!(
        "SELECT {COLUMNS}, bodies.submitted, bodies.retry, queues.name, tenants.name, skills.name, \
         CASE WHEN jobs.cause IS NOT NULL THEN (SELECT {ERROR} FROM attempts \
         WHERE attempts.job = jobs.seq ORDER BY fence DESC LIMIT 1) END {more} FROM jobs JOIN bodies ON bodies.seq = jobs.seq \
         JOIN lanes ON lanes.id = jobs.lane {SCOPES} {tail}"
    )
}

pub(super) fn found(read: &SqlRow) -> Result<Found> {
    Ok(Found {
        row: row(read)?,
        body: Body {
            submitted: read.try_get::<_, &str>(21)?.into(),
            retry: read.try_get::<_, &str>(22)?.into(),
        },
        lane: LaneKey {
            queue: read.try_get(23)?,
            tenant: read.try_get(24)?,
            skill: read.try_get(25)?,
        },
        error: read.try_get(26)?,
    })
}

/// A moment that can be added to.
const FAR: Micros = Micros::MAX / 2;

/// How often a reader has others catch up before it gives what there is.
const CATCH_UPS: usize = 3;

impl Reader {
    /// Sees to it that what was acknowledged has its number among the events.
    async fn catch_up(&self) -> Result<()> {
        for _ in 0..CATCH_UPS {
            let waiting = self.pool.query("SELECT FROM inbox LIMIT 1", &[]).await?;
            if waiting.is_empty() {
                break;
            }
            if !self.serial.catch_up().await {
                break;
            }
        }
        Ok(())
    }

    async fn events_after(&self, after: i64, most: usize) -> Result<Vec<(i64, EventRow)>> {
        let sql = format!("SELECT {EVENT} FROM events WHERE id > $1 ORDER BY id LIMIT $2");
        let rows = self.pool.query(&sql, &[&after, &limit(most)]).await?;
        rows.iter().map(event).collect()
    }
}

const EVENT: &str = "id, job, kind, at, attempt, data";

fn event(read: &SqlRow) -> Result<(i64, EventRow)> {
    let attempt: Option<i64> = read.try_get(4)?;
    let event = EventRow {
        job: read.try_get(1)?,
        kind: name(read, 2)?,
        at: read.try_get(3)?,
        attempt: attempt.map(|_| small(read, 4)).transpose()?,
        data: read.try_get(5)?,
    };
    Ok((read.try_get(0)?, event))
}

impl Reads for Reader {
    fn list<'a>(&'a self, filter: &'a Filter) -> Answer<'a, Listed<Found>> {
        Box::pin(list(&self.pool, filter))
    }

    fn ids<'a>(&'a self, filter: &'a Filter) -> Answer<'a, Listed<(i64, Uuid)>> {
        Box::pin(ids(&self.pool, filter))
    }

    fn find<'a>(&'a self, ids: &'a [Uuid]) -> Answer<'a, Vec<Found>> {
        Box::pin(async move {
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let sql = select(
                "",
                "JOIN unnest($1::uuid[]) WITH ORDINALITY AS asked (asked, place) \
                 ON jobs.id = asked.asked ORDER BY place",
            );
            let rows = self.pool.query(&sql, &[&ids]).await?;
            rows.iter().map(found).collect()
        })
    }

    fn belongings<'a>(&'a self, ids: &'a [Uuid]) -> Answer<'a, Vec<(Uuid, LaneKey)>> {
        Box::pin(async move {
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let sql = format!(
                "SELECT jobs.id, queues.name, tenants.name, skills.name FROM jobs \
                 JOIN lanes ON lanes.id = jobs.lane {SCOPES} WHERE jobs.id = ANY($1::uuid[])"
            );
            let rows = self.pool.query(&sql, &[&ids]).await?;
            let belonging = |read: &SqlRow| {
                let lane = LaneKey {
                    queue: read.try_get(1)?,
                    tenant: read.try_get(2)?,
                    skill: read.try_get(3)?,
                };
                Ok((read.try_get(0)?, lane))
            };
            rows.iter().map(belonging).collect()
        })
    }

    fn status(&self, id: Uuid) -> Answer<'_, Option<(JobStatus, Option<Micros>)>> {
        Box::pin(async move {
            let sql = "SELECT status, deadline FROM jobs WHERE id = $1";
            let rows = self.pool.query(sql, &[&id]).await?;
            rows.first()
                .map(|read| Ok((name(read, 0)?, read.try_get(1)?)))
                .transpose()
        })
    }

    fn attempts(&self, seq: i64) -> Answer<'_, Vec<AttemptRow>> {
        Box::pin(async move {
            let rows = self
                .pool
                .query(
                    "SELECT job, fence, number, counted, worker, started, ended, status, details \
                     FROM attempts WHERE job = $1 ORDER BY fence",
                    &[&seq],
                )
                .await?;
            rows.iter()
                .map(|read| {
                    Ok(AttemptRow {
                        job: read.try_get(0)?,
                        fence: read.try_get(1)?,
                        number: small(read, 2)?,
                        counted: read.try_get(3)?,
                        worker: read.try_get(4)?,
                        started: read.try_get(5)?,
                        ended: read.try_get(6)?,
                        status: read.try_get(7)?,
                        details: read.try_get::<_, &str>(8)?.into(),
                    })
                })
                .collect()
        })
    }

    fn result(&self, seq: i64) -> Answer<'_, (Option<String>, Option<String>)> {
        Box::pin(async move {
            let rows = self
                .pool
                .query(
                    "SELECT (SELECT result FROM results WHERE seq = $1), \
                     (SELECT progress FROM progress WHERE seq = $1)",
                    &[&seq],
                )
                .await?;
            match rows.first() {
                Some(read) => Ok((read.try_get(0)?, read.try_get(1)?)),
                None => Ok((None, None)),
            }
        })
    }

    fn events(&self, after: i64, most: usize) -> Answer<'_, Vec<(i64, EventRow)>> {
        Box::pin(async move {
            let events = self.events_after(after, most).await?;
            if events.len() >= most {
                return Ok(events);
            }
            self.catch_up().await?;
            self.events_after(after, most).await
        })
    }

    fn history(&self, job: Uuid, most: usize) -> Answer<'_, Vec<(i64, EventRow)>> {
        Box::pin(async move {
            self.catch_up().await?;
            let sql = format!(
                "SELECT {EVENT} FROM events WHERE job = $1 AND {BY_PEOPLE} \
                 ORDER BY id DESC LIMIT $2"
            );
            let rows = self.pool.query(&sql, &[&job, &limit(most)]).await?;
            rows.iter().rev().map(event).collect()
        })
    }

    fn event_bounds(&self) -> Answer<'_, (i64, i64)> {
        Box::pin(async move {
            self.catch_up().await?;
            let rows = self
                .pool
                .query(
                    "SELECT coalesce((SELECT min(id) FROM events), 0), \
                     coalesce((SELECT last FROM numbers WHERE name = 'event'), 0)",
                    &[],
                )
                .await?;
            match rows.first() {
                Some(read) => Ok((read.try_get(0)?, read.try_get(1)?)),
                None => Ok((0, 0)),
            }
        })
    }

    fn counters<'a>(
        &'a self,
        kinds: &'a [&'static str],
    ) -> Answer<'a, Vec<(String, i64, String, i64)>> {
        Box::pin(async move {
            // One statement, so that nothing is counted twice or not at all.
            let rows = self
                .pool
                .query(
                    "SELECT kind, number, name, value, NULL::bytea FROM counters \
                     WHERE kind = ANY($1::text[]) \
                     UNION ALL SELECT NULL, NULL, NULL, NULL, tally FROM inbox",
                    &[&kinds],
                )
                .await?;
            let mut counters: BTreeMap<(String, i64, String), i64> = BTreeMap::new();
            for read in &rows {
                let tally: Option<&[u8]> = read.try_get(4)?;
                let Some(tally) = tally else {
                    let counter = (read.try_get(0)?, read.try_get(1)?, read.try_get(2)?);
                    let value: i64 = read.try_get(3)?;
                    *counters.entry(counter).or_default() += value;
                    continue;
                };
                for (counter, by) in read_tally(tally)?.0 {
                    let (kind, number, name) = counter.columns();
                    if kinds.contains(&kind) {
                        *counters.entry((kind.to_owned(), number, name)).or_default() += by;
                    }
                }
            }
            Ok(counters
                .into_iter()
                .map(|((kind, number, name), value)| (kind, number, name, value))
                .collect())
        })
    }

    fn lanes(&self) -> Answer<'_, Vec<(i64, LaneKey)>> {
        Box::pin(async move {
            let rows = self
                .pool
                .query(
                    &format!(
                        "SELECT lanes.id, queues.name, tenants.name, skills.name \
                         FROM lanes {SCOPES}"
                    ),
                    &[],
                )
                .await?;
            rows.iter()
                .map(|read| {
                    let key = LaneKey {
                        queue: read.try_get(1)?,
                        tenant: read.try_get(2)?,
                        skill: read.try_get(3)?,
                    };
                    Ok((read.try_get(0)?, key))
                })
                .collect()
        })
    }

    fn scopes(&self, kind: ScopeKind) -> Answer<'_, Vec<Scope>> {
        Box::pin(async move {
            let sql =
                format!("SELECT {SCOPE} FROM scopes WHERE kind = $1 ORDER BY name COLLATE \"C\"");
            let rows = self.pool.query(&sql, &[&kind.as_str()]).await?;
            rows.iter().map(scope).collect()
        })
    }

    fn oldest(&self, now: Micros) -> Answer<'_, Option<Micros>> {
        Box::pin(async move {
            self.catch_up().await?;
            // Of each priority: those of another may stand before it, and have come later. What a lane's
            // lowest rank rules out is not looked at: there is nothing but remains.
            let priorities: Vec<String> = Priority::ALL
                .iter()
                .map(|priority| format!("('{priority}', {})", span(priority.head_start())))
                .collect();
            let sql = format!(
                "SELECT least((SELECT min(oldest.due_at) FROM lanes CROSS JOIN \
                 (VALUES {}) AS levels (priority, head_start) CROSS JOIN LATERAL \
                 (SELECT due_at FROM jobs WHERE jobs.lane = lanes.id \
                 AND jobs.priority = levels.priority AND jobs.status IN ('pending', 'failed') \
                 AND jobs.due_at >= least(lanes.low, {FAR}) + levels.head_start \
                 AND jobs.due_at <= $1 ORDER BY due_at LIMIT 1) AS oldest WHERE lanes.waiting), \
                 (SELECT min(due_at) FROM later WHERE due_at <= $1 AND due_at >= \
                 (SELECT last FROM numbers WHERE name = 'due')))",
                priorities.join(", ")
            );
            let rows = self.pool.query(&sql, &[&now]).await?;
            match rows.first() {
                Some(read) => Ok(read.try_get(0)?),
                None => Ok(None),
            }
        })
    }

    fn workers(&self, now: Micros) -> Answer<'_, Vec<WorkerRow>> {
        Box::pin(async move {
            let rows = self
                .pool
                .query(
                    "SELECT id, name, started, lease_until FROM workers WHERE lease_until > $1 \
                     ORDER BY started",
                    &[&now],
                )
                .await?;
            rows.iter()
                .map(|read| {
                    Ok(WorkerRow {
                        id: read.try_get(0)?,
                        name: read.try_get(1)?,
                        started: read.try_get(2)?,
                        lease_until: read.try_get(3)?,
                    })
                })
                .collect()
        })
    }

    fn cancels(&self, worker: Uuid) -> Answer<'_, Vec<Uuid>> {
        Box::pin(async move {
            let rows = self
                .pool
                .query(
                    "SELECT id FROM jobs WHERE worker = $1 AND worker IS NOT NULL \
                     AND cancel_requested",
                    &[&worker],
                )
                .await?;
            rows.iter().map(|read| Ok(read.try_get(0)?)).collect()
        })
    }

    fn next_due(&self) -> Answer<'_, Option<Micros>> {
        Box::pin(async move {
            let rows = self
                .pool
                .query(
                    "SELECT least((SELECT min(due_at) FROM later WHERE due_at >= \
                     (SELECT last FROM numbers WHERE name = 'due')), \
                     (SELECT min(next) FROM schedules WHERE next IS NOT NULL), \
                     (SELECT min(closed_until) FROM scopes WHERE closed_until > 0))",
                    &[],
                )
                .await?;
            match rows.first() {
                Some(read) => Ok(read.try_get(0)?),
                None => Ok(None),
            }
        })
    }

    fn schedules<'a>(&'a self, tenant: Option<&'a str>) -> Answer<'a, Vec<ScheduleRow>> {
        Box::pin(async move {
            let sql = format!(
                "SELECT {OUTLINE} FROM schedules WHERE $1::text IS NULL OR tenant = $1 ORDER BY name"
            );
            let rows = self.pool.query(&sql, &[&tenant]).await?;
            rows.iter().map(schedule).collect()
        })
    }

    fn schedule<'a>(&'a self, name: &'a str) -> Answer<'a, Option<ScheduleRow>> {
        Box::pin(async move {
            let sql = format!("SELECT {SCHEDULE} FROM schedules WHERE name = $1");
            let rows = self.pool.query(&sql, &[&name]).await?;
            rows.first().map(schedule).transpose()
        })
    }

    fn approvals<'a>(&'a self, query: &'a ApprovalQuery) -> Answer<'a, Vec<ApprovalRow>> {
        Box::pin(approvals::list(&self.pool, query))
    }

    fn approval(&self, id: Uuid) -> Answer<'_, Option<ApprovalRow>> {
        Box::pin(approvals::one(&self.pool, id))
    }

    fn policies(&self) -> Answer<'_, Vec<PolicyRow>> {
        Box::pin(async move {
            let sql = "SELECT kind, name, policy FROM policies ORDER BY kind, name";
            let rows = self.pool.query(sql, &[]).await?;
            rows.iter()
                .map(|read| {
                    Ok(PolicyRow {
                        kind: read.try_get(0)?,
                        name: read.try_get(1)?,
                        policy: read.try_get(2)?,
                    })
                })
                .collect()
        })
    }

    fn notes<'a>(&'a self, kind: &'a str, name: Option<&'a str>) -> Answer<'a, Vec<NoteRow>> {
        Box::pin(async move {
            let sql = format!(
                "SELECT {NOTE} FROM notes WHERE kind = $1 AND ($2::text IS NULL OR name = $2) \
                 ORDER BY name"
            );
            let rows = self.pool.query(&sql, &[&kind, &name]).await?;
            rows.iter().map(note).collect()
        })
    }
}
