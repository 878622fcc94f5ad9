//! How jobs are tried again that do not say so themselves: set for a tool or a queue.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::QueueError;
use super::handle::Queue;
use super::new_job::NewJob;
use super::prepare::check_scope;
use super::retry::RetryPolicy;
use super::store::{PolicyRow, ScopeKind};

type Result<T> = std::result::Result<T, QueueError>;

/// What is set, as read a moment ago.
#[derive(Default)]
pub(super) struct Policies {
    read: Option<Instant>,
    by_name: Arc<HashMap<(String, String), Arc<RetryPolicy>>>,
}

/// How long what was read of retry policies holds.
const POLICIES_HOLD: Duration = Duration::from_secs(1);

impl Queue {
    /// Sets how jobs of a queue are tried again that do not say so themselves; `None`: as the
    /// default says. Holds within a second for every process.
    ///
    /// # Errors
    /// Where no queue can have that name, the policy makes no sense, or the store cannot be written.
    pub async fn set_queue_retry(&self, queue: &str, policy: Option<&RetryPolicy>) -> Result<()> {
        check_scope(ScopeKind::Queue, queue)?;
        self.set_policy("queue", queue.to_owned(), policy).await
    }

    /// Sets how executions of a tool are tried again that do not say so themselves; it goes before
    /// what is set for the queue.
    ///
    /// # Errors
    /// As [`Queue::set_queue_retry`].
    pub async fn set_tool_retry(
        &self,
        skill: &str,
        tool: &str,
        policy: Option<&RetryPolicy>,
    ) -> Result<()> {
        check_scope(ScopeKind::Skill, skill)?;
        check_scope(ScopeKind::Skill, tool)?;
        self.set_policy("tool", format!("{skill}/{tool}"), policy)
            .await
    }

    /// How jobs are tried again by what is set for queues, by their names.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn queue_retries(&self) -> Result<BTreeMap<String, RetryPolicy>> {
        self.retries("queue").await
    }

    /// How executions are tried again by what is set for tools: by skill, a slash, and tool.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn tool_retries(&self) -> Result<BTreeMap<String, RetryPolicy>> {
        self.retries("tool").await
    }

    async fn retries(&self, of: &str) -> Result<BTreeMap<String, RetryPolicy>> {
        let rows = self.reads().policies().await?;
        let wanted = rows.into_iter().filter(|row| row.kind == of);
        wanted
            .map(|row| Ok((row.name.clone(), read(&row)?)))
            .collect()
    }

    async fn set_policy(
        &self,
        kind: &'static str,
        name: String,
        policy: Option<&RetryPolicy>,
    ) -> Result<()> {
        let row = match policy {
            Some(policy) => {
                policy.check()?;
                Some(Arc::new(PolicyRow {
                    kind: kind.to_owned(),
                    name: name.clone(),
                    policy: serde_json::to_string(policy)
                        .map_err(|error| QueueError::Internal(error.to_string()))?,
                }))
            }
            None => None,
        };
        let name: Arc<str> = name.into();
        self.write(move |rows, _| {
            let (row, name) = (row.clone(), name.clone());
            Box::pin(async move {
                match row {
                    Some(row) => rows.put_policy(&row).await,
                    None => rows.remove_policy(kind, &name).await.map(drop),
                }
            })
        })
        .await?;
        if let Ok(mut policies) = self.inner.policies.lock() {
            policies.read = None;
        }
        Ok(())
    }

    pub(super) async fn policies(
        &self,
    ) -> Result<Arc<HashMap<(String, String), Arc<RetryPolicy>>>> {
        if let Ok(policies) = self.inner.policies.lock()
            && policies
                .read
                .is_some_and(|read| read.elapsed() < POLICIES_HOLD)
        {
            return Ok(policies.by_name.clone());
        }
        let mut by_name = HashMap::new();
        for row in self.reads().policies().await? {
            let policy = read(&row)?;
            by_name.insert((row.kind, row.name), Arc::new(policy));
        }
        let by_name = Arc::new(by_name);
        if let Ok(mut policies) = self.inner.policies.lock() {
            policies.read = Some(Instant::now());
            policies.by_name = by_name.clone();
        }
        Ok(by_name)
    }
}

fn read(row: &PolicyRow) -> Result<RetryPolicy> {
    let PolicyRow { kind, name, policy } = row;
    serde_json::from_str(policy).map_err(|error| {
        QueueError::Damaged(format!("the retry policy of {kind} `{name}`: {error}"))
    })
}

pub(super) fn policy_for(
    policies: &HashMap<(String, String), Arc<RetryPolicy>>,
    job: &NewJob,
) -> Arc<RetryPolicy> {
    if policies.is_empty() {
        return Arc::default();
    }
    let of_tool = job.work.tool().and_then(|tool| {
        let name = format!("{}/{tool}", job.skill());
        policies.get(&("tool".to_owned(), name))
    });
    of_tool
        .or_else(|| policies.get(&("queue".to_owned(), job.queue.clone())))
        .cloned()
        .unwrap_or_default()
}
