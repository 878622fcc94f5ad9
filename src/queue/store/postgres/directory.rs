//! Queues, tenants, skills and lanes, made when they are first named.
//!
//! They are made at once, in transactions of their own, and never removed: whoever names a new one
//! does not hold up others until its own transaction ends, and what is known of them stays true.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_postgres::Row as SqlRow;

use super::super::{Lane, LaneKey, Result, ScopeKind};
use super::read::Pool;
use crate::queue::error::QueueError;

/// The most lanes to know by heart; more are looked up.
const LANES: usize = 10_000;

/// Finds lanes.
#[derive(Clone)]
pub(super) struct Directory {
    pool: Pool,
    known: Arc<RwLock<HashMap<LaneKey, Lane>>>,
    by_id: Arc<RwLock<HashMap<i64, Lane>>>,
    /// How many jobs were taken out of line since a lane's lowest rank was written down.
    taken: Arc<Mutex<HashMap<i64, usize>>>,
}

impl Directory {
    pub fn new(pool: Pool) -> Self {
        Directory {
            pool,
            known: Arc::default(),
            by_id: Arc::default(),
            taken: Arc::default(),
        }
    }

    /// Lanes for these keys, in their order.
    pub async fn lanes(&self, keys: &[LaneKey]) -> Result<Vec<Lane>> {
        let mut found: HashMap<LaneKey, Lane> = HashMap::with_capacity(keys.len());
        let mut missing: Vec<LaneKey> = Vec::new();
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            for key in keys {
                match known.get(key) {
                    Some(lane) => drop(found.insert(key.clone(), *lane)),
                    None => missing.push(key.clone()),
                }
            }
        }
        if !missing.is_empty() {
            // In one order everywhere.
            missing.sort();
            missing.dedup();
            let mut looked_up = self.look_up(&missing).await?;
            if looked_up.len() < missing.len() {
                self.make(&missing).await?;
                looked_up = self.look_up(&missing).await?;
            }
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= LANES {
                known.clear();
            }
            known.extend(looked_up.iter().map(|(key, lane)| (key.clone(), *lane)));
            drop(known);
            found.extend(looked_up);
        }
        keys.iter()
            .map(|key| {
                found.get(key).copied().ok_or_else(|| {
                    QueueError::Internal("a lane that was made is not there".to_owned())
                })
            })
            .collect()
    }

    async fn look_up(&self, keys: &[LaneKey]) -> Result<HashMap<LaneKey, Lane>> {
        let (queues, tenants, skills) = columns(keys);
        let rows = self
            .pool
            .query(
                "SELECT lanes.id, lanes.share, lanes.queue, lanes.tenant, lanes.skill, \
                 asked.queue, asked.tenant, asked.skill \
                 FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (queue, tenant, skill) \
                 JOIN scopes AS queues ON queues.kind = 'queue' AND queues.name = asked.queue \
                 JOIN scopes AS tenants ON tenants.kind = 'tenant' AND tenants.name = asked.tenant \
                 JOIN scopes AS skills ON skills.kind = 'skill' AND skills.name = asked.skill \
                 JOIN shares ON shares.queue = queues.id AND shares.tenant = tenants.id \
                 JOIN lanes ON lanes.share = shares.id AND lanes.skill = skills.id",
                &[&queues, &tenants, &skills],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let key = LaneKey {
                    queue: row.try_get(5)?,
                    tenant: row.try_get(6)?,
                    skill: row.try_get(7)?,
                };
                Ok((key, lane(row)?))
            })
            .collect()
    }

    async fn make(&self, keys: &[LaneKey]) -> Result<()> {
        let (queues, tenants, skills) = columns(keys);
        self.make_scopes(ScopeKind::Queue, &queues).await?;
        self.make_scopes(ScopeKind::Tenant, &tenants).await?;
        self.make_scopes(ScopeKind::Skill, &skills).await?;
        // A share begins open, whatever its tenant: the next claim closes it, and nobody would open
        // one that was closed for a reason that had gone.
        self.pool
            .query(
                "INSERT INTO shares (queue, tenant) \
                 SELECT DISTINCT queues.id, tenants.id \
                 FROM unnest($1::text[], $2::text[]) AS asked (queue, tenant) \
                 JOIN scopes AS queues ON queues.kind = 'queue' AND queues.name = asked.queue \
                 JOIN scopes AS tenants ON tenants.kind = 'tenant' AND tenants.name = asked.tenant \
                 ORDER BY 1, 2 ON CONFLICT (queue, tenant) DO NOTHING",
                &[&queues, &tenants],
            )
            .await?;
        self.pool
            .query(
                "INSERT INTO lanes (share, queue, tenant, skill) \
                 SELECT shares.id, shares.queue, shares.tenant, skills.id \
                 FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (queue, tenant, skill) \
                 JOIN scopes AS queues ON queues.kind = 'queue' AND queues.name = asked.queue \
                 JOIN scopes AS tenants ON tenants.kind = 'tenant' AND tenants.name = asked.tenant \
                 JOIN scopes AS skills ON skills.kind = 'skill' AND skills.name = asked.skill \
                 JOIN shares ON shares.queue = queues.id AND shares.tenant = tenants.id \
                 ORDER BY 1, 4 ON CONFLICT (share, skill) DO NOTHING",
                &[&queues, &tenants, &skills],
            )
            .await?;
        Ok(())
    }

    /// Makes scopes that are missing.
    pub async fn make_scopes(&self, kind: ScopeKind, names: &[&str]) -> Result<()> {
        self.pool
            .query(
                "INSERT INTO scopes (kind, name) SELECT DISTINCT $1, name \
                 FROM unnest($2::text[]) AS asked (name) WHERE NOT EXISTS \
                 (SELECT FROM scopes WHERE kind = $1 AND scopes.name = asked.name) \
                 ORDER BY 2 ON CONFLICT (kind, name) DO NOTHING",
                &[&kind.as_str(), &names],
            )
            .await?;
        Ok(())
    }

    /// A lane that is known by heart.
    pub fn known_by_id(&self, id: i64) -> Option<Lane> {
        let known = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).copied()
    }

    /// Learns a lane.
    pub fn learn(&self, lane: Lane) {
        let mut known = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= LANES {
            known.clear();
        }
        known.insert(lane.id, lane);
    }

    /// So many were taken out of a lane's line; how many since its lowest rank was written down.
    pub fn taken(&self, lane: i64, count: usize) -> usize {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= LANES {
            taken.clear();
        }
        let since = taken.entry(lane).or_default();
        *since += count;
        *since
    }

    /// A lane's lowest rank was written down.
    pub fn risen(&self, lane: i64) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&lane);
    }
}

fn columns(keys: &[LaneKey]) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
    let queues = keys.iter().map(|key| key.queue.as_str()).collect();
    let tenants = keys.iter().map(|key| key.tenant.as_str()).collect();
    let skills = keys.iter().map(|key| key.skill.as_str()).collect();
    (queues, tenants, skills)
}

/// A lane, from its first five columns.
pub(super) fn lane(row: &SqlRow) -> std::result::Result<Lane, tokio_postgres::Error> {
    Ok(Lane {
        id: row.try_get(0)?,
        share: row.try_get(1)?,
        queue: row.try_get(2)?,
        tenant: row.try_get(3)?,
        skill: row.try_get(4)?,
    })
}
