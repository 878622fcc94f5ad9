//! Brings the tables up to date.

use refinery::{Migration, Runner};
use tokio_postgres::Client;

use super::super::Result;
use super::connect::Connector;
use crate::queue::error::QueueError;

/// The schema, step by step. What was released never changes.
const STEPS: &[(&str, &str)] = &[
    ("V1__queue", include_str!("1.sql")),
    ("V2__approvals", include_str!("2.sql")),
    ("V3__notes", include_str!("3.sql")),
    ("V4__lists", include_str!("4.sql")),
    ("V5__known", include_str!("5.sql")),
];

/// Where refinery notes which steps were taken.
const TABLE: &str = "migrations";

/// Takes the steps that are missing, one process at a time.
pub(super) async fn migrate(client: &mut Client, connector: &Connector) -> Result<()> {
    let target = &connector.target;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if version(client, &target.schema).await? == known {
        return Ok(());
    }
    let lock = target.lock("migrate");
    client
        .execute("SELECT pg_advisory_lock($1)", &[&lock])
        .await?;
    let migrated = migrate_alone(client, connector, known).await;
    // The lock ends with the connection, if it does not end here.
    if let Err(error) = client
        .execute("SELECT pg_advisory_unlock($1)", &[&lock])
        .await
    {
        tracing::debug!(%error, "a lock could not be given back");
    }
    migrated
}

async fn migrate_alone(client: &mut Client, connector: &Connector, known: i64) -> Result<()> {
    let target = &connector.target;
    let found = version(client, &target.schema).await?;
    if found > known {
        return Err(QueueError::TooNew {
            database: target.name(),
            found,
            known,
        });
    }
    if found == known {
        return Ok(());
    }
    let there = client
        .query_opt(
            "SELECT 1 FROM pg_namespace WHERE nspname = $1",
            &[&target.schema],
        )
        .await?
        .is_some();
    if !there {
        // The name was checked: nothing in it needs quoting.
        client
            .batch_execute(&format!("CREATE SCHEMA \"{}\"", target.schema))
            .await?;
    }
    let migrations: Vec<Migration> = STEPS
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| QueueError::Internal(format!("a migration is misnamed: {error}")))?;
    Runner::new(&migrations)
        .set_grouped(true)
        .set_migration_table_name(TABLE)
        .run_async(client)
        .await
        .map_err(|error| {
            QueueError::Unavailable(format!(
                "cannot bring {} up to date: {}",
                target.name(),
                why(&error)
            ))
        })?;
    Ok(())
}

/// What went wrong, in the server's words where it is the server's.
fn why(error: &refinery::Error) -> String {
    use std::error::Error as _;
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<tokio_postgres::Error>() {
            return super::failure::describe(error);
        }
        cause = inner.source();
    }
    error.to_string()
}

/// The last step that was taken; 0 for none.
async fn version(client: &Client, schema: &str) -> Result<i64> {
    let there: bool = client
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_class JOIN pg_namespace \
             ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relname = $2)",
            &[&schema, &TABLE],
        )
        .await?
        .try_get(0)?;
    if !there {
        return Ok(0);
    }
    let found = client
        .query_one(
            &format!("SELECT coalesce(max(version), 0)::bigint FROM \"{schema}\".{TABLE}"),
            &[],
        )
        .await?;
    Ok(found.try_get(0)?)
}
