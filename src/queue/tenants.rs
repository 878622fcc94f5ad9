//! What belongs to one tenant.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::counters::{Counter, DEAD, JOBS};
use super::error::QueueError;
use super::handle::Queue;
use super::statistics::Counts;
use super::store::LaneKey;

/// How many jobs a tenant has. Exact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantCounts {
    /// How many have which status.
    pub by_status: Counts,
    /// The same by queue.
    pub by_queue: BTreeMap<String, Counts>,
    /// How many are dead of which cause.
    pub dead_by_cause: BTreeMap<String, u64>,
}

impl Queue {
    /// How many jobs this tenant has; of everybody where none is named. Reads no jobs.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn counts_of(&self, tenant: Option<&str>) -> Result<TenantCounts, QueueError> {
        let lanes: HashMap<i64, LaneKey> = self.reads().lanes().await?.into_iter().collect();
        let lanes = |lane: i64| {
            let lane = lanes.get(&lane)?;
            tenant
                .is_none_or(|tenant| lane.tenant == tenant)
                .then_some(lane)
        };
        let mut counts = TenantCounts::default();
        for (kind, number, name, value) in self.reads().counters(&[JOBS, DEAD]).await? {
            let Some(count) = u64::try_from(value).ok().filter(|count| *count > 0) else {
                continue;
            };
            match Counter::from_columns(&kind, number, &name) {
                Some(Counter::Jobs(lane, status)) => {
                    let Some(lane) = lanes(lane) else { continue };
                    *counts.by_status.entry(status).or_default() += count;
                    let queue = counts.by_queue.entry(lane.queue.clone()).or_default();
                    *queue.entry(status).or_default() += count;
                }
                Some(Counter::Dead(lane, cause)) if lanes(lane).is_some() => {
                    *counts.dead_by_cause.entry(cause).or_default() += count;
                }
                _ => {}
            }
        }
        Ok(counts)
    }

    /// Whose these jobs are; those that are not there are left out. Reads nothing else of them.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn tenants(
        &self,
        jobs: &[Uuid],
    ) -> Result<HashMap<Uuid, Option<String>>, QueueError> {
        let found = self.reads().belongings(jobs).await?;
        let tenants = found.into_iter().map(|(job, LaneKey { tenant, .. })| {
            // An empty name is nobody's.
            (job, Some(tenant).filter(|tenant| !tenant.is_empty()))
        });
        Ok(tenants.collect())
    }
}
