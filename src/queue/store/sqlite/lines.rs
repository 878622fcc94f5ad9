//! Who waits where: scopes, shares, lanes, and the jobs in line.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Row as SqlRow, params};

use super::super::{Lane, LaneKey, Place, Rate, Result, Scope, ScopeKind, ShareRow, WaitingLane};
use super::many::insert;
use super::rows::{limit, name};
use super::{LANES, Sqlite};
use crate::queue::fair::Head;
use crate::queue::time::Micros;

pub(super) const SCOPE: &str = "id, kind, name, paused, concurrency, rate_count, rate_period, rate_arrival, \
    weight, clock, closed_until, \"full\"";

pub(super) fn scope(found: &SqlRow<'_>) -> rusqlite::Result<Scope> {
    let rate = match (found.get(5)?, found.get(6)?, found.get(7)?) {
        (Some(count), Some(period), Some(arrival)) => Some(Rate {
            count,
            period,
            arrival,
        }),
        _ => None,
    };
    Ok(Scope {
        id: found.get(0)?,
        kind: name(found, 1)?,
        name: found.get(2)?,
        paused: found.get(3)?,
        concurrency: found.get(4)?,
        rate,
        weight: found.get(8)?,
        clock: found.get(9)?,
        closed_until: found.get(10)?,
        full: found.get(11)?,
    })
}

fn lane(found: &SqlRow<'_>) -> rusqlite::Result<Lane> {
    Ok(Lane {
        id: found.get(0)?,
        share: found.get(1)?,
        queue: found.get(2)?,
        tenant: found.get(3)?,
        skill: found.get(4)?,
    })
}

impl Sqlite {
    pub(super) fn lanes_now(&mut self, keys: &[LaneKey]) -> Result<Vec<Lane>> {
        keys.iter()
            .map(|key| match self.lanes.get(key) {
                Some(lane) => Ok(*lane),
                None => self.make_lane(key),
            })
            .collect()
    }

    fn make_lane(&mut self, key: &LaneKey) -> Result<Lane> {
        let queue = self.scope_now(ScopeKind::Queue, &key.queue)?.id;
        let tenant = self.scope_now(ScopeKind::Tenant, &key.tenant)?;
        let skill = self.scope_now(ScopeKind::Skill, &key.skill)?.id;
        let closed = tenant.paused || tenant.full || tenant.closed_until > 0;
        self.connection
            .prepare_cached(
                "INSERT INTO shares (queue, tenant, closed) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (queue, tenant) DO NOTHING",
            )?
            .execute(params![queue, tenant.id, closed])?;
        self.connection
            .prepare_cached(
                "INSERT INTO lanes (share, queue, tenant, skill) \
                 SELECT id, queue, tenant, ?3 FROM shares WHERE queue = ?1 AND tenant = ?2 \
                 ON CONFLICT (share, skill) DO NOTHING",
            )?
            .execute(params![queue, tenant.id, skill])?;
        let made = self
            .connection
            .prepare_cached(
                "SELECT lanes.id, share, lanes.queue, lanes.tenant, skill FROM lanes \
                 JOIN shares ON shares.id = lanes.share \
                 WHERE shares.queue = ?1 AND shares.tenant = ?2 AND skill = ?3",
            )?
            .query_row(params![queue, tenant.id, skill], lane)?;
        if self.lanes.len() >= LANES {
            self.lanes.clear();
        }
        self.lanes.insert(key.clone(), made);
        Ok(made)
    }

    pub(super) fn lanes_by_id_now(&mut self, ids: &[i64]) -> Result<Vec<Lane>> {
        let mut lanes = Vec::with_capacity(ids.len());
        for &id in ids {
            if let Some(known) = self.lanes_by_id.get(&id) {
                lanes.push(*known);
                continue;
            }
            let found = self
                .connection
                .prepare_cached("SELECT id, share, queue, tenant, skill FROM lanes WHERE id = ?1")?
                .query_row([id], lane)
                .optional()?;
            if let Some(found) = found {
                if self.lanes_by_id.len() >= LANES {
                    self.lanes_by_id.clear();
                }
                self.lanes_by_id.insert(id, found);
                lanes.push(found);
            }
        }
        Ok(lanes)
    }

    pub(super) fn scope_now(&self, kind: ScopeKind, name: &str) -> Result<Scope> {
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT {SCOPE} FROM scopes WHERE kind = ?1 AND name = ?2"
        ))?;
        let found = select.query_row([kind.as_str(), name], scope).optional()?;
        if let Some(found) = found {
            return Ok(found);
        }
        self.connection
            .prepare_cached("INSERT INTO scopes (kind, name) VALUES (?1, ?2)")?
            .execute([kind.as_str(), name])?;
        Ok(select.query_row([kind.as_str(), name], scope)?)
    }

    pub(super) fn scopes_now(&self, ids: &[i64]) -> Result<Vec<Scope>> {
        let mut select = self
            .connection
            .prepare_cached(&format!("SELECT {SCOPE} FROM scopes WHERE id = ?1"))?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.extend(select.query_row([id], scope).optional()?);
        }
        Ok(found)
    }

    pub(super) fn update_scope_now(&self, scope: &Scope) -> Result<()> {
        let rate = scope.rate;
        self.connection
            .prepare_cached(
                "UPDATE scopes SET paused = ?2, concurrency = ?3, rate_count = ?4, \
                 rate_period = ?5, rate_arrival = ?6, weight = ?7, clock = ?8, closed_until = ?9, \
                 \"full\" = ?10 WHERE id = ?1",
            )?
            .execute(params![
                scope.id,
                scope.paused,
                scope.concurrency,
                rate.map(|rate| rate.count),
                rate.map(|rate| rate.period),
                rate.map(|rate| rate.arrival),
                scope.weight,
                scope.clock,
                scope.closed_until,
                scope.full,
            ])?;
        Ok(())
    }

    pub(super) fn scopes_to_reopen_now(&self, now: Micros) -> Result<Vec<Scope>> {
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT {SCOPE} FROM scopes WHERE closed_until > 0 AND (closed_until <= ?1 \
             OR closed_until > ?1 + coalesce(rate_period, 0)) LIMIT 1000"
        ))?;
        let found = select.query_map([now], scope)?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    pub(super) fn open_queues_now(
        &self,
        names: Option<&[String]>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Scope>> {
        if let Some(names) = names {
            let mut select = self.connection.prepare_cached(&format!(
                "SELECT {SCOPE} FROM scopes AS queue WHERE kind = 'queue' AND name = ?1 \
                 AND id > ?2 AND EXISTS \
                 (SELECT 1 FROM shares WHERE queue = queue.id AND waiting > 0 AND closed = 0)"
            ))?;
            let mut open = Vec::new();
            for name in names {
                open.extend(select.query_row(params![name, after], scope).optional()?);
            }
            open.sort_by_key(|queue| queue.id);
            open.dedup_by_key(|queue| queue.id);
            open.truncate(most);
            return Ok(open);
        }
        // From one open queue to the next, however many others there are.
        let mut next = self.connection.prepare_cached(
            "SELECT queue FROM shares WHERE waiting > 0 AND closed = 0 AND queue > ?1 \
             ORDER BY queue LIMIT 1",
        )?;
        let mut ids: Vec<i64> = Vec::new();
        while ids.len() < most {
            let last = ids.last().copied().unwrap_or(after);
            match next.query_row([last], |found| found.get(0)).optional()? {
                Some(id) => ids.push(id),
                None => break,
            }
        }
        self.scopes_now(&ids)
    }

    pub(super) fn open_shares_now(
        &self,
        queue: i64,
        without: Option<&str>,
        most: usize,
    ) -> Result<Vec<ShareRow>> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, tenant, virtual_time FROM shares \
             WHERE queue = ?1 AND waiting > 0 AND closed = 0 AND EXISTS \
             (SELECT 1 FROM lanes JOIN scopes ON scopes.id = skill \
              WHERE share = shares.id AND lanes.waiting = 1 AND scopes.paused = 0 \
              AND scopes.\"full\" = 0 AND scopes.closed_until = 0 \
              AND (?3 IS NULL OR scopes.name <> ?3)) \
             ORDER BY virtual_time, id LIMIT ?2",
        )?;
        let found = select.query_map(params![queue, limit(most), without], share)?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    pub(super) fn shares_now(&self, ids: &[i64]) -> Result<Vec<ShareRow>> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id, tenant, virtual_time FROM shares WHERE id = ?1")?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.extend(select.query_row([id], share).optional()?);
        }
        Ok(found)
    }

    pub(super) fn set_virtual_time_now(&self, shares: &[(i64, i64)]) -> Result<()> {
        let mut update = self
            .connection
            .prepare_cached("UPDATE shares SET virtual_time = ?2 WHERE id = ?1")?;
        for (share, time) in shares {
            update.execute([share, time])?;
        }
        Ok(())
    }

    pub(super) fn close_tenant_now(&self, tenant: i64, closed: bool) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE shares SET closed = ?2 WHERE tenant = ?1 AND closed <> ?2")?
            .execute(params![tenant, closed])?;
        Ok(())
    }

    pub(super) fn waiting_lanes_now(
        &self,
        shares: &[i64],
        without: Option<&str>,
        most: usize,
    ) -> Result<Vec<WaitingLane>> {
        let mut select = self.connection.prepare_cached(
            "SELECT lanes.id, share, skill, low FROM lanes JOIN scopes ON scopes.id = skill \
             WHERE share = ?1 AND waiting = 1 \
             AND scopes.paused = 0 AND scopes.\"full\" = 0 AND scopes.closed_until = 0 \
             AND (?2 IS NULL OR scopes.name <> ?2) ORDER BY low, lanes.id LIMIT ?3",
        )?;
        let mut lanes = Vec::new();
        for id in shares {
            let found = select.query_map(params![id, without, limit(most)], |found| {
                Ok(WaitingLane {
                    id: found.get(0)?,
                    share: found.get(1)?,
                    skill: found.get(2)?,
                    low: found.get(3)?,
                })
            })?;
            for lane in found {
                lanes.push(lane?);
            }
        }
        Ok(lanes)
    }

    pub(super) fn raise_low_now(&self, lanes: &[(i64, Micros)]) -> Result<()> {
        let mut raise = self
            .connection
            .prepare_cached("UPDATE lanes SET low = ?2 WHERE id = ?1 AND low < ?2")?;
        for (lane, low) in lanes {
            raise.execute([lane, low])?;
        }
        Ok(())
    }

    pub(super) fn heads_now(&self, lanes: &[i64], most: usize) -> Result<Vec<Vec<Head>>> {
        let mut select = self.connection.prepare_cached(
            "SELECT rank, seq FROM ready WHERE lane = ?1 ORDER BY rank, seq LIMIT ?2",
        )?;
        lanes
            .iter()
            .map(|lane| {
                let found = select.query_map(params![lane, limit(most)], |found| {
                    Ok(Head {
                        rank: found.get(0)?,
                        seq: found.get(1)?,
                    })
                })?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .collect()
    }

    pub(super) fn set_waiting_now(&self, lanes: &[i64], waiting: bool) -> Result<Vec<i64>> {
        let mut set = self.connection.prepare_cached(
            "UPDATE lanes SET waiting = ?2 WHERE id = ?1 AND waiting <> ?2 RETURNING share",
        )?;
        let mut count = self.connection.prepare_cached(
            "UPDATE shares SET waiting = waiting + ?2 WHERE id = ?1 RETURNING waiting",
        )?;
        let mut by_share: BTreeMap<i64, i64> = BTreeMap::new();
        for lane in lanes {
            let share = set
                .query_row(params![lane, waiting], |found| found.get::<_, i64>(0))
                .optional()?;
            if let Some(share) = share {
                *by_share.entry(share).or_default() += if waiting { 1 } else { -1 };
            }
        }
        let mut opened = Vec::new();
        for (share, by) in by_share {
            let left: i64 = count.query_row([share, by], |found| found.get(0))?;
            if waiting && left == by {
                opened.push(share);
            }
        }
        Ok(opened)
    }

    pub(super) fn insert_ready_now(&self, ready: &[(i64, Head)]) -> Result<()> {
        insert(
            &self.connection,
            "INSERT OR IGNORE INTO ready (lane, rank, seq)",
            3,
            ready,
            |_| 0,
            |values, (lane, head)| values.give(params![lane, head.rank, head.seq]),
        )?;
        let mut lowest: BTreeMap<i64, i64> = BTreeMap::new();
        for (lane, head) in ready {
            let low = lowest.entry(*lane).or_insert(head.rank);
            *low = head.rank.min(*low);
        }
        // In an empty lane there is nothing lower.
        let mut lower = self.connection.prepare_cached(
            "UPDATE lanes SET low = ?2 WHERE id = ?1 AND (low > ?2 OR (waiting = 0 AND low <> ?2))",
        )?;
        for (lane, low) in lowest {
            lower.execute([lane, low])?;
        }
        Ok(())
    }

    pub(super) fn remove_ready_now(&self, ready: &[(i64, Head)]) -> Result<()> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM ready WHERE lane = ?1 AND rank = ?2 AND seq = ?3")?;
        for (lane, head) in ready {
            delete.execute([*lane, head.rank, head.seq])?;
        }
        Ok(())
    }

    pub(super) fn insert_later_now(&self, places: &[Place]) -> Result<()> {
        let mut insert = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO later (due_at, seq, lane, priority) VALUES (?1, ?2, ?3, ?4)",
        )?;
        for place in places {
            insert.execute(params![
                place.due,
                place.seq,
                place.lane,
                place.priority.as_str()
            ])?;
        }
        Ok(())
    }

    pub(super) fn remove_later_now(&self, places: &[(Micros, i64)]) -> Result<()> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM later WHERE due_at = ?1 AND seq = ?2")?;
        for (due, seq) in places {
            delete.execute([due, seq])?;
        }
        Ok(())
    }

    pub(super) fn take_due_now(&self, now: Micros, most: usize) -> Result<Vec<Place>> {
        let mut select = self.connection.prepare_cached(
            "SELECT due_at, seq, lane, priority FROM later WHERE due_at <= ?1 \
             ORDER BY due_at, seq LIMIT ?2",
        )?;
        let found = select.query_map(params![now, limit(most)], |found| {
            Ok(Place {
                due: found.get(0)?,
                seq: found.get(1)?,
                lane: found.get(2)?,
                priority: name(found, 3)?,
            })
        })?;
        let due: Vec<Place> = found.collect::<rusqlite::Result<_>>()?;
        let taken: Vec<(Micros, i64)> = due.iter().map(|place| (place.due, place.seq)).collect();
        self.remove_later_now(&taken)?;
        Ok(due)
    }
}

fn share(found: &SqlRow<'_>) -> rusqlite::Result<ShareRow> {
    Ok(ShareRow {
        id: found.get(0)?,
        tenant: found.get(1)?,
        virtual_time: found.get(2)?,
    })
}
