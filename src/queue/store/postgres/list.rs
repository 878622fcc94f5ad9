//! Lists of jobs.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::{Filter, Flags, Found, LISTED_BYTES, LISTED_LANES, Listed, Result};
use super::read::{Pool, SCOPES, found, select};
use super::rows::limit;
use crate::queue::job::JobStatus;

/// Jobs that fit, the last first.
pub(super) async fn list(pool: &Pool, filter: &Filter) -> Result<Listed<Found>> {
    let (numbers, mut values) = numbers(filter, lanes_of(pool, filter).await?);
    values.push(Box::new(limit(filter.most())));
    let most = values.len();
    values.push(Box::new(limit(LISTED_BYTES)));
    // How large a body is, is known without reading it.
    let tail = format!(
        "JOIN (SELECT seq, count, row_number() OVER (ORDER BY seq DESC) AS place, \
         sum(octet_length(submitted)) OVER (ORDER BY seq DESC) - octet_length(submitted) \
         AS before FROM (SELECT listed.seq, bodies.submitted, count(*) OVER () AS count \
         FROM ({numbers}) AS listed JOIN bodies ON bodies.seq = listed.seq) AS found) \
         AS sized ON sized.seq = jobs.seq \
         WHERE sized.place <= ${most} AND sized.before < ${} ORDER BY jobs.seq DESC",
        values.len()
    );
    let sql = select(", sized.count", &tail);
    let rows = pool.query(&sql, &references(&values)).await?;
    let more = match rows.first() {
        Some(read) => limit(rows.len()) < read.try_get(27)?,
        None => false,
    };
    let items = rows.iter().map(found).collect::<Result<_>>()?;
    Ok(Listed { items, more })
}

/// Their numbers and ids.
pub(super) async fn ids(pool: &Pool, filter: &Filter) -> Result<Listed<(i64, Uuid)>> {
    let (numbers, values) = numbers(filter, lanes_of(pool, filter).await?);
    let sql = format!(
        "SELECT jobs.seq, jobs.id FROM ({numbers}) AS listed \
         JOIN jobs ON jobs.seq = listed.seq ORDER BY jobs.seq DESC"
    );
    let rows = pool.query(&sql, &references(&values)).await?;
    let items = rows
        .iter()
        .map(|read| Ok((read.try_get(0)?, read.try_get(1)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(Listed::of(items, filter.most()))
}

fn references(values: &[Box<dyn ToSql + Sync + Send>]) -> Vec<&(dyn ToSql + Sync)> {
    let values = values.iter();
    values
        .map(|value| &**value as &(dyn ToSql + Sync))
        .collect()
}

/// The conditions of a filter, and what they are filled with.
fn conditions(filter: &Filter) -> (String, Vec<Box<dyn ToSql + Sync + Send>>) {
    let mut conditions = vec!["true".to_owned()];
    let mut values: Vec<Box<dyn ToSql + Sync + Send>> = Vec::new();
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
            "jobs.kind = $",
            "",
            filter.kind.map(|kind| kind.as_str().to_owned()),
        ),
        ("jobs.cause = $", "", filter.cause.clone()),
        (
            "jobs.seq IN (SELECT seq FROM tags WHERE tag = $",
            ")",
            filter.tag.clone(),
        ),
    ];
    for (start, end, text) in texts {
        if let Some(text) = text {
            values.push(Box::new(text));
            conditions.push(format!("{start}{}{end}", values.len()));
        }
    }
    if let Some(replayed) = filter.replayed {
        let has = if replayed { "<>" } else { "=" };
        conditions.push(format!("jobs.flags & {} {has} 0", Flags::REPLAYED.0));
    }
    if let Some(cursor) = filter.cursor {
        values.push(Box::new(cursor));
        conditions.push(format!("jobs.seq < ${}", values.len()));
    }
    (conditions.join(" AND "), values)
}

/// What asks for the numbers of jobs that fit, the last first: up to one more than are wanted.
fn numbers(
    filter: &Filter,
    lanes: Option<Vec<i64>>,
) -> (String, Vec<Box<dyn ToSql + Sync + Send>>) {
    let (conditions, mut values) = conditions(filter);
    values.push(Box::new(limit(filter.most() + 1)));
    let most = values.len();
    let sql = match lanes {
        None => format!(
            "SELECT jobs.seq FROM jobs WHERE {conditions} ORDER BY jobs.seq DESC LIMIT ${most}"
        ),
        Some(lanes) => {
            let few = filter.by_lane() && lanes.len() <= LISTED_LANES;
            values.push(Box::new(lanes));
            let lanes = values.len();
            match few {
                true => format!(
                    "SELECT seq FROM unnest(${lanes}::bigint[]) AS wanted (lane) CROSS JOIN LATERAL \
                     (SELECT jobs.seq FROM jobs WHERE jobs.lane = wanted.lane AND {conditions} \
                     ORDER BY jobs.seq DESC LIMIT ${most}) AS first \
                     ORDER BY seq DESC LIMIT ${most}"
                ),
                false => format!(
                    "SELECT jobs.seq FROM jobs WHERE {conditions} \
                     AND jobs.lane = ANY(${lanes}::bigint[]) ORDER BY jobs.seq DESC LIMIT ${most}"
                ),
            }
        }
    };
    (sql, values)
}

/// The lanes of a queue, tenant and skill, where one of these is wanted.
async fn lanes_of(pool: &Pool, filter: &Filter) -> Result<Option<Vec<i64>>> {
    let wanted = filter.lanes();
    if wanted.is_empty() {
        return Ok(None);
    }
    let conditions: Vec<String> = wanted
        .iter()
        .zip(1..)
        .map(|((of, _), number)| format!("{of}.name = ${number}"))
        .collect();
    let sql = format!(
        "SELECT lanes.id FROM lanes {SCOPES} WHERE {}",
        conditions.join(" AND ")
    );
    let names: Vec<&(dyn ToSql + Sync)> = wanted
        .iter()
        .map(|(_, name)| name as &(dyn ToSql + Sync))
        .collect();
    let rows = pool.query(&sql, &names).await?;
    let lanes = rows.iter().map(|read| Ok(read.try_get(0)?));
    Ok(Some(lanes.collect::<Result<_>>()?))
}
