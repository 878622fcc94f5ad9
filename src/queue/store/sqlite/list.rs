//! Lists of jobs.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Row as SqlRow};
use uuid::Uuid;

use super::super::{Filter, Flags, Found, LISTED_BYTES, LISTED_LANES, Listed, Result};
use super::read::{SCOPES, all, found, select};
use super::rows::{limit, uuid};
use crate::queue::job::JobStatus;

/// Jobs that fit, the last first.
pub(super) fn list(connection: &Connection, filter: &Filter) -> Result<Listed<Found>> {
    // All of it as of one moment.
    let reading = connection.unchecked_transaction()?;
    let numbers = Listed::of(numbers(&reading, filter)?, filter.most());
    let mut statement = reading.prepare_cached(&select("WHERE jobs.seq = ?1"))?;
    let mut listed = Listed {
        items: Vec::with_capacity(numbers.items.len()),
        more: numbers.more,
    };
    let mut bytes = 0;
    for (index, seq) in numbers.items.iter().enumerate() {
        let job = statement.query_row([seq], found)?;
        bytes += job.body.submitted.len();
        listed.items.push(job);
        if bytes >= LISTED_BYTES {
            listed.more |= index + 1 < numbers.items.len();
            break;
        }
    }
    Ok(listed)
}

/// Their numbers and ids.
pub(super) fn ids(connection: &Connection, filter: &Filter) -> Result<Listed<(i64, Uuid)>> {
    let reading = connection.unchecked_transaction()?;
    let numbers = Listed::of(numbers(&reading, filter)?, filter.most());
    let mut statement = reading.prepare_cached("SELECT id FROM jobs WHERE seq = ?1")?;
    let mut items = Vec::with_capacity(numbers.items.len());
    for seq in numbers.items {
        items.push((seq, statement.query_row([seq], |read| uuid(read, 0))?));
    }
    Ok(Listed {
        items,
        more: numbers.more,
    })
}

/// The conditions of a filter, and what they are filled with.
fn conditions(filter: &Filter) -> (String, Vec<Sql>) {
    let mut conditions = vec!["1 = 1".to_owned()];
    let mut values = Vec::new();
    if !filter.status.is_empty() {
        // Names of ours, and written out: the planner must see that `completed` is not among them
        // to use the index that leaves it out.
        let names: Vec<String> = filter
            .status
            .iter()
            .map(|status| format!("'{}'", status.as_str()))
            .collect();
        conditions.push(match names.as_slice() {
            [name] => format!("jobs.status = {name}"),
            names => format!("jobs.status IN ({})", names.join(", ")),
        });
        if !filter.status.contains(&JobStatus::Completed) {
            conditions.push("jobs.status <> 'completed'".to_owned());
        }
    }
    let texts = [
        (
            "jobs.kind = ?",
            filter.kind.map(|kind| kind.as_str().to_owned()),
        ),
        ("jobs.cause = ?", filter.cause.clone()),
        (
            "jobs.seq IN (SELECT seq FROM tags WHERE tag = ?)",
            filter.tag.clone(),
        ),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            conditions.push(condition.to_owned());
            values.push(Sql::Text(text));
        }
    }
    if let Some(replayed) = filter.replayed {
        let has = if replayed { "<>" } else { "=" };
        conditions.push(format!("jobs.flags & {} {has} 0", Flags::REPLAYED.0));
    }
    if let Some(cursor) = filter.cursor {
        conditions.push("jobs.seq < ?".to_owned());
        values.push(Sql::Integer(cursor));
    }
    (conditions.join(" AND "), values)
}

/// Lanes of a queue, tenant and skill, and what that is filled with.
fn lanes(filter: &Filter) -> Option<(String, Vec<Sql>)> {
    let wanted = filter.lanes();
    if wanted.is_empty() {
        return None;
    }
    let conditions: Vec<String> = wanted
        .iter()
        .map(|(of, _)| format!("{of}.name = ?"))
        .collect();
    let values = wanted.iter().map(|(_, name)| Sql::Text((*name).to_owned()));
    let sql = format!(
        "SELECT lanes.id FROM lanes {SCOPES} WHERE {}",
        conditions.join(" AND ")
    );
    Some((sql, values.collect()))
}

/// Numbers of jobs that fit, the last first: up to one more than are wanted.
fn numbers(connection: &Connection, filter: &Filter) -> Result<Vec<i64>> {
    let most = filter.most() + 1;
    let (conditions, mut values) = conditions(filter);
    let number = |read: &SqlRow<'_>| read.get(0);
    let mut within = String::new();
    if let Some((sql, names)) = lanes(filter) {
        let few = match filter.by_lane() {
            true => {
                let first = format!("{sql} LIMIT {}", LISTED_LANES + 1);
                all(connection, &first, names.clone(), number)?
            }
            false => Vec::new(),
        };
        if filter.by_lane() && few.len() <= LISTED_LANES {
            let index = match filter.status.as_slice() {
                [JobStatus::Dead] => "jobs_dead_of_lane",
                _ => "jobs_of_lane",
            };
            let sql = format!(
                "SELECT jobs.seq FROM jobs INDEXED BY {index} \
                 WHERE jobs.lane = ? AND jobs.seq > ? AND {conditions} \
                 ORDER BY jobs.seq DESC LIMIT ?"
            );
            return numbers_by_lane(connection, &few, &sql, &values, most);
        }
        // Not by the index on lanes.
        within = format!(" AND +jobs.lane IN ({sql})");
        values.extend(names);
    }
    values.push(limit(most));
    let sql = format!(
        "SELECT jobs.seq FROM jobs WHERE {conditions}{within} ORDER BY jobs.seq DESC LIMIT ?"
    );
    all(connection, &sql, values, number)
}

/// The last that fit of these lanes, by what asks for those of one lane.
fn numbers_by_lane(
    connection: &Connection,
    lanes: &[i64],
    sql: &str,
    values: &[Sql],
    most: usize,
) -> Result<Vec<i64>> {
    let mut found: Vec<i64> = Vec::new();
    for &lane in lanes {
        // What comes before as many others is not wanted.
        let above = match found.len() >= most {
            true => found[most - 1],
            false => -1,
        };
        let mut with = vec![Sql::Integer(lane), Sql::Integer(above)];
        with.extend_from_slice(values);
        with.push(limit(most));
        found.extend(all(connection, sql, with, |read| read.get::<_, i64>(0))?);
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(most);
    }
    Ok(found)
}
