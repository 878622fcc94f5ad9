//! Reading beside the writer: connections of their own, on threads that may block.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};
use uuid::Uuid;

use super::super::reads::BY_PEOPLE;
use super::super::{
    Answer, ApprovalQuery, ApprovalRow, AttemptRow, Body, EventRow, Filter, Found, LaneKey, Listed,
    NoteRow, PolicyRow, Reads, Result, ScheduleRow, Scope, ScopeKind, WorkerRow,
};
use super::approvals;
use super::keeping::{OUTLINE, SCHEDULE, schedule};
use super::lines::{SCOPE, scope};
use super::list::{ids, list};
use super::notes::{NOTE, note};
use super::rows::{COLUMNS, limit, name, row, uuid};
use super::{connect, named};
use crate::queue::error::QueueError;
use crate::queue::job::JobStatus;
use crate::queue::time::Micros;

/// The most connections that are kept for the next who reads.
const KEPT: usize = 4;

/// Reads a file.
pub(crate) struct Reader {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Reader {
    pub fn new(path: &Path) -> Self {
        Reader {
            path: path.to_owned(),
            idle: Arc::default(),
        }
    }

    /// Reads on a thread that may block.
    fn read<'a, T: Send + 'static>(
        &'a self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Answer<'a, T> {
        let (path, idle) = (self.path.clone(), self.idle.clone());
        Box::pin(async move {
            let reading = tokio::task::spawn_blocking(move || {
                let taken = idle.lock().ok().and_then(|mut idle| idle.pop());
                let connection = match taken {
                    Some(connection) => connection,
                    None => connect(&path, false)?,
                };
                let found = read(&connection).map_err(|error| named(&path, error));
                if let Ok(mut idle) = idle.lock()
                    && idle.len() < KEPT
                {
                    idle.push(connection);
                }
                found
            });
            reading.await.map_err(|error| {
                QueueError::Internal(format!("reading the queue failed: {error}"))
            })?
        })
    }
}

/// Joins a lane's queue, tenant and skill.
pub(super) const SCOPES: &str = "JOIN scopes AS queues ON queues.id = lanes.queue \
    JOIN scopes AS tenants ON tenants.id = lanes.tenant \
    JOIN scopes AS skills ON skills.id = lanes.skill";

/// What [`found`] reads: a job's state, its body, its queue, tenant and skill.
pub(super) fn select(tail: &str) -> String {
    let columns: Vec<String> = COLUMNS
        .split(", ")
        .map(|column| format!("jobs.{}", column.trim()))
        .collect();
    format!(
        "SELECT {}, bodies.submitted, bodies.retry, queues.name, tenants.name, skills.name, \
         CASE WHEN jobs.cause IS NOT NULL THEN (SELECT substr(json_extract(details, \
         '$.failure.message'), 1, 1000) FROM attempts WHERE job = jobs.seq AND json_valid(details) \
         ORDER BY fence DESC LIMIT 1) END FROM jobs JOIN bodies USING (seq) JOIN lanes ON lanes.id = jobs.lane {SCOPES} {tail}",
        columns.join(", ")
    )
}

pub(super) fn found(read: &SqlRow<'_>) -> rusqlite::Result<Found> {
    Ok(Found {
        row: row(read)?,
        body: Body {
            submitted: read.get(21)?,
            retry: read.get(22)?,
        },
        lane: LaneKey {
            queue: read.get(23)?,
            tenant: read.get(24)?,
            skill: read.get(25)?,
        },
        error: read.get(26)?,
    })
}

const EVENT: &str = "id, job, kind, at, attempt, data";

fn event(read: &SqlRow<'_>) -> rusqlite::Result<(i64, EventRow)> {
    let event = EventRow {
        job: uuid(read, 1)?,
        kind: name(read, 2)?,
        at: read.get(3)?,
        attempt: read.get(4)?,
        data: read.get(5)?,
    };
    Ok((read.get(0)?, event))
}

pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    with: Vec<Sql>,
    read: impl FnMut(&SqlRow<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(rusqlite::params_from_iter(with), read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

impl Reads for Reader {
    fn list<'a>(&'a self, filter: &'a Filter) -> Answer<'a, Listed<Found>> {
        let filter = filter.clone();
        self.read(move |connection| list(connection, &filter))
    }

    fn ids<'a>(&'a self, filter: &'a Filter) -> Answer<'a, Listed<(i64, Uuid)>> {
        let filter = filter.clone();
        self.read(move |connection| ids(connection, &filter))
    }

    fn find<'a>(&'a self, ids: &'a [Uuid]) -> Answer<'a, Vec<Found>> {
        let ids = ids.to_vec();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&select("WHERE jobs.id = ?1"))?;
            let mut jobs = Vec::with_capacity(ids.len());
            for id in ids {
                jobs.extend(statement.query_row([id.as_bytes()], found).optional()?);
            }
            Ok(jobs)
        })
    }

    fn belongings<'a>(&'a self, ids: &'a [Uuid]) -> Answer<'a, Vec<(Uuid, LaneKey)>> {
        let ids = ids.to_vec();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT jobs.id, queues.name, tenants.name, skills.name FROM jobs \
                 JOIN lanes ON lanes.id = jobs.lane {SCOPES} WHERE jobs.id = ?1",
            ))?;
            let mut belongings = Vec::with_capacity(ids.len());
            for id in ids {
                let one = statement.query_row([id.as_bytes()], |read| {
                    let lane = LaneKey {
                        queue: read.get(1)?,
                        tenant: read.get(2)?,
                        skill: read.get(3)?,
                    };
                    Ok((uuid(read, 0)?, lane))
                });
                belongings.extend(one.optional()?);
            }
            Ok(belongings)
        })
    }

    fn status(&self, id: Uuid) -> Answer<'_, Option<(JobStatus, Option<Micros>)>> {
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT status, deadline FROM jobs WHERE id = ?1")?;
            let status =
                statement.query_row([id.as_bytes()], |read| Ok((name(read, 0)?, read.get(1)?)));
            Ok(status.optional()?)
        })
    }

    fn attempts(&self, seq: i64) -> Answer<'_, Vec<AttemptRow>> {
        self.read(move |connection| {
            let sql = "SELECT job, fence, number, counted, worker, started, ended, status, details \
                       FROM attempts WHERE job = ?1 ORDER BY fence";
            all(connection, sql, vec![Sql::Integer(seq)], |read| {
                Ok(AttemptRow {
                    job: read.get(0)?,
                    fence: read.get(1)?,
                    number: read.get(2)?,
                    counted: read.get(3)?,
                    worker: uuid(read, 4)?,
                    started: read.get(5)?,
                    ended: read.get(6)?,
                    status: read.get(7)?,
                    details: read.get(8)?,
                })
            })
        })
    }

    fn result(&self, seq: i64) -> Answer<'_, (Option<String>, Option<String>)> {
        self.read(move |connection| {
            let one = |sql: &str| -> Result<Option<String>> {
                let mut statement = connection.prepare_cached(sql)?;
                Ok(statement.query_row([seq], |read| read.get(0)).optional()?)
            };
            Ok((
                one("SELECT result FROM results WHERE seq = ?1")?,
                one("SELECT progress FROM progress WHERE seq = ?1")?,
            ))
        })
    }

    fn events(&self, after: i64, most: usize) -> Answer<'_, Vec<(i64, EventRow)>> {
        self.read(move |connection| {
            let sql = format!("SELECT {EVENT} FROM events WHERE id > ?1 ORDER BY id LIMIT ?2");
            let with = vec![Sql::Integer(after), limit(most)];
            all(connection, &sql, with, event)
        })
    }

    fn history(&self, job: Uuid, most: usize) -> Answer<'_, Vec<(i64, EventRow)>> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT {EVENT} FROM events INDEXED BY events_of_people \
                 WHERE job = ?1 AND {BY_PEOPLE} ORDER BY id DESC LIMIT ?2"
            );
            let with = vec![Sql::Blob(job.as_bytes().to_vec()), limit(most)];
            let mut events = all(connection, &sql, with, event)?;
            events.reverse();
            Ok(events)
        })
    }

    fn event_bounds(&self) -> Answer<'_, (i64, i64)> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT coalesce((SELECT min(id) FROM events), 0), \
                 (SELECT last FROM numbers WHERE name = 'event')",
            )?;
            Ok(statement.query_row([], |read| Ok((read.get(0)?, read.get(1)?)))?)
        })
    }

    fn counters<'a>(
        &'a self,
        kinds: &'a [&'static str],
    ) -> Answer<'a, Vec<(String, i64, String, i64)>> {
        let kinds = kinds.to_vec();
        self.read(move |connection| {
            let mut counters = Vec::new();
            for kind in kinds {
                let sql = "SELECT kind, number, name, value FROM counters WHERE kind = ?1";
                counters.extend(all(
                    connection,
                    sql,
                    vec![Sql::Text(kind.to_owned())],
                    |read| Ok((read.get(0)?, read.get(1)?, read.get(2)?, read.get(3)?)),
                )?);
            }
            Ok(counters)
        })
    }

    fn lanes(&self) -> Answer<'_, Vec<(i64, LaneKey)>> {
        self.read(|connection| {
            let sql = format!(
                "SELECT lanes.id, queues.name, tenants.name, skills.name FROM lanes {SCOPES}"
            );
            all(connection, &sql, Vec::new(), |read| {
                let key = LaneKey {
                    queue: read.get(1)?,
                    tenant: read.get(2)?,
                    skill: read.get(3)?,
                };
                Ok((read.get(0)?, key))
            })
        })
    }

    fn scopes(&self, kind: ScopeKind) -> Answer<'_, Vec<Scope>> {
        self.read(move |connection| {
            let sql = format!("SELECT {SCOPE} FROM scopes WHERE kind = ?1 ORDER BY name");
            let kind = Sql::Text(kind.as_str().to_owned());
            all(connection, &sql, vec![kind], scope)
        })
    }

    fn oldest(&self, now: Micros) -> Answer<'_, Option<Micros>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                // Of each priority: those of another may stand before it, and have come later.
                "SELECT min(due) FROM (SELECT (SELECT due_at FROM jobs INDEXED BY jobs_waiting \
                 WHERE lane = lanes.id AND priority = priorities.column1 \
                 AND status IN ('pending', 'failed') AND due_at <= ?1 \
                 ORDER BY due_at LIMIT 1) AS due FROM lanes CROSS JOIN \
                 (VALUES ('low'), ('normal'), ('high'), ('critical')) AS priorities \
                 WHERE lanes.waiting = 1 \
                 UNION ALL SELECT min(due_at) FROM later WHERE due_at <= ?1)",
            )?;
            Ok(statement.query_row([now], |read| read.get(0))?)
        })
    }

    fn workers(&self, now: Micros) -> Answer<'_, Vec<WorkerRow>> {
        self.read(move |connection| {
            let sql = "SELECT id, name, started, lease_until FROM workers WHERE lease_until > ?1 \
                       ORDER BY started";
            all(connection, sql, vec![Sql::Integer(now)], |read| {
                Ok(WorkerRow {
                    id: uuid(read, 0)?,
                    name: read.get(1)?,
                    started: read.get(2)?,
                    lease_until: read.get(3)?,
                })
            })
        })
    }

    fn cancels(&self, worker: Uuid) -> Answer<'_, Vec<Uuid>> {
        self.read(move |connection| {
            let sql = "SELECT id FROM jobs WHERE worker = ?1 AND cancel_requested = 1";
            let worker = Sql::Blob(worker.as_bytes().to_vec());
            all(connection, sql, vec![worker], |read| uuid(read, 0))
        })
    }

    fn next_due(&self) -> Answer<'_, Option<Micros>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT min(at) FROM (SELECT min(due_at) AS at FROM later UNION ALL \
                 SELECT min(next) FROM schedules WHERE next IS NOT NULL UNION ALL \
                 SELECT min(closed_until) FROM scopes WHERE closed_until > 0)",
            )?;
            Ok(statement.query_row(params![], |read| read.get(0))?)
        })
    }

    fn schedules<'a>(&'a self, tenant: Option<&'a str>) -> Answer<'a, Vec<ScheduleRow>> {
        let tenant = tenant.map(|tenant| Sql::Text(tenant.to_owned()));
        self.read(move |connection| {
            let of = match tenant {
                Some(_) => "WHERE tenant = ?1",
                None => "",
            };
            let sql = format!("SELECT {OUTLINE} FROM schedules {of} ORDER BY name");
            all(connection, &sql, tenant.into_iter().collect(), schedule)
        })
    }

    fn schedule<'a>(&'a self, name: &'a str) -> Answer<'a, Option<ScheduleRow>> {
        let name = name.to_owned();
        self.read(move |connection| {
            let sql = format!("SELECT {SCHEDULE} FROM schedules WHERE name = ?1");
            let mut statement = connection.prepare_cached(&sql)?;
            Ok(statement.query_row([name], schedule).optional()?)
        })
    }

    fn approvals<'a>(&'a self, query: &'a ApprovalQuery) -> Answer<'a, Vec<ApprovalRow>> {
        let (sql, values) = approvals::select(query);
        self.read(move |connection| all(connection, &sql, values, approvals::approval))
    }

    fn approval(&self, id: Uuid) -> Answer<'_, Option<ApprovalRow>> {
        self.read(move |connection| {
            let sql = format!("SELECT {} FROM approvals WHERE id = ?1", approvals::COLUMNS);
            let mut statement = connection.prepare_cached(&sql)?;
            Ok(statement
                .query_row([id.as_bytes()], approvals::approval)
                .optional()?)
        })
    }

    fn policies(&self) -> Answer<'_, Vec<PolicyRow>> {
        self.read(|connection| {
            let sql = "SELECT kind, name, policy FROM policies ORDER BY kind, name";
            all(connection, sql, Vec::new(), |read| {
                Ok(PolicyRow {
                    kind: read.get(0)?,
                    name: read.get(1)?,
                    policy: read.get(2)?,
                })
            })
        })
    }

    fn notes<'a>(&'a self, kind: &'a str, name: Option<&'a str>) -> Answer<'a, Vec<NoteRow>> {
        let kind = kind.to_owned();
        let name = name.map_or(Sql::Null, |name| Sql::Text(name.to_owned()));
        self.read(move |connection| {
            let sql = format!(
                "SELECT {NOTE} FROM notes WHERE kind = ?1 AND (?2 IS NULL OR name = ?2) \
                 ORDER BY name"
            );
            all(connection, &sql, vec![Sql::Text(kind), name], note)
        })
    }
}
