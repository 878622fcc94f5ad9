//! Queues, tenants and skills: what is paused and bounded.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counters::{Counter, RUNNING};
use super::error::QueueError;
use super::handle::Queue;
use super::store::{Scope, ScopeKind};

/// What holds for a queue, a tenant or a skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeInfo {
    /// Which of them it is.
    pub kind: ScopeKind,
    /// Its name. Jobs without a tenant or a skill stand under the empty one.
    pub name: String,
    /// Whether none of its jobs may start.
    pub paused: bool,
    /// How many of its jobs may run at once, over all workers.
    pub concurrency: Option<u32>,
    /// How many of its jobs may start in which period, over all workers.
    pub rate: Option<RateInfo>,
    /// A tenant's part in proportion to others'.
    pub weight: u32,
    /// How many of its jobs run now.
    pub running: u64,
}

/// So many starts in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateInfo {
    /// How many.
    pub count: u32,
    /// In how many milliseconds.
    pub period_ms: u64,
}

impl RateInfo {
    /// In how long.
    pub fn period(&self) -> Duration {
        Duration::from_millis(self.period_ms)
    }
}

impl Queue {
    /// Every queue, tenant or skill that was named in a job or a bound, by name.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn scopes(&self, kind: ScopeKind) -> Result<Vec<ScopeInfo>, QueueError> {
        let counters = self.reads().counters(&[RUNNING]).await?;
        let running: HashMap<i64, i64> = counters
            .into_iter()
            .filter_map(|(kind, number, name, value)| {
                match Counter::from_columns(&kind, number, &name)? {
                    Counter::Running(scope) => Some((scope, value)),
                    _ => None,
                }
            })
            .collect();
        let mut scopes: Vec<ScopeInfo> = self
            .reads()
            .scopes(kind)
            .await?
            .into_iter()
            .map(|scope| ScopeInfo {
                running: running
                    .get(&scope.id)
                    .map_or(0, |&running| u64::try_from(running).unwrap_or(0)),
                ..ScopeInfo::from(scope)
            })
            .collect();
        scopes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(scopes)
    }
}

impl From<Scope> for ScopeInfo {
    fn from(scope: Scope) -> Self {
        let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        ScopeInfo {
            kind: scope.kind,
            name: scope.name,
            paused: scope.paused,
            concurrency: scope.concurrency.map(small),
            rate: scope.rate.map(|rate| RateInfo {
                count: small(rate.count),
                period_ms: u64::try_from(rate.period / 1_000).unwrap_or(0),
            }),
            weight: small(scope.weight),
            running: 0,
        }
    }
}
