//! Who waits where: scopes, shares, lanes, and the jobs in line.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::Row as SqlRow;

use super::super::{Lane, LaneKey, Place, Rate, Result, Scope, ScopeKind, ShareRow, WaitingLane};
use super::directory::lane;
use super::rows::{column, limit, name};
use super::transaction::{Value, Writing};
use crate::queue::error::QueueError;
use crate::queue::fair::Head;
use crate::queue::time::Micros;

pub(super) const SCOPE: &str = "id, kind, name, paused, concurrency, rate_count, rate_period, \
    rate_arrival, weight, clock, closed_until, \"full\"";

pub(super) fn scope(found: &SqlRow) -> Result<Scope> {
    let rate = match (found.try_get(5)?, found.try_get(6)?, found.try_get(7)?) {
        (Some(count), Some(period), Some(arrival)) => Some(Rate {
            count,
            period,
            arrival,
        }),
        _ => None,
    };
    Ok(Scope {
        id: found.try_get(0)?,
        kind: name(found, 1)?,
        name: found.try_get(2)?,
        paused: found.try_get(3)?,
        concurrency: found.try_get(4)?,
        rate,
        weight: found.try_get(8)?,
        clock: found.try_get(9)?,
        closed_until: found.try_get(10)?,
        full: found.try_get(11)?,
    })
}

fn share(found: &SqlRow) -> Result<ShareRow> {
    Ok(ShareRow {
        id: found.try_get(0)?,
        tenant: found.try_get(1)?,
        virtual_time: found.try_get(2)?,
    })
}

fn head(found: &SqlRow) -> Result<Head> {
    Ok(Head {
        rank: found.try_get(1)?,
        seq: found.try_get(2)?,
    })
}

/// How much a lane's lowest rank must have risen, in jobs that were taken, for it to be written down.
const RISE: usize = 64;

impl Writing<'_> {
    pub(super) async fn lanes_now(&mut self, keys: &[LaneKey]) -> Result<Vec<Lane>> {
        let lanes = self.directory.lanes(keys).await?;
        for lane in &lanes {
            self.directory.learn(*lane);
        }
        Ok(lanes)
    }

    pub(super) async fn lanes_by_id_now(&mut self, ids: &[i64]) -> Result<Vec<Lane>> {
        let unknown: Vec<i64> = ids
            .iter()
            .copied()
            .filter(|id| self.directory.known_by_id(*id).is_none())
            .collect();
        let mut found: HashMap<i64, Lane> = HashMap::new();
        if !unknown.is_empty() {
            let rows = self
                .query(
                    "SELECT id, share, queue, tenant, skill FROM lanes WHERE id = ANY($1::bigint[])",
                    &[&unknown],
                )
                .await?;
            for row in &rows {
                let lane = lane(row)?;
                self.directory.learn(lane);
                found.insert(lane.id, lane);
            }
        }
        Ok(ids
            .iter()
            .filter_map(|id| {
                found
                    .get(id)
                    .copied()
                    .or_else(|| self.directory.known_by_id(*id))
            })
            .collect())
    }

    pub(super) async fn scope_now(&mut self, kind: ScopeKind, name: &str) -> Result<Scope> {
        let sql = format!("SELECT {SCOPE} FROM scopes WHERE kind = $1 AND name = $2");
        if let Some(found) = self.query_opt(&sql, &[&kind.as_str(), &name]).await? {
            return scope(&found);
        }
        self.directory.make_scopes(kind, &[name]).await?;
        match self.query_opt(&sql, &[&kind.as_str(), &name]).await? {
            Some(found) => scope(&found),
            None => Err(QueueError::Internal(
                "a scope that was made is not there".to_owned(),
            )),
        }
    }

    pub(super) async fn scopes_now(&mut self, ids: &[i64]) -> Result<Vec<Scope>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {SCOPE} FROM scopes JOIN unnest($1::bigint[]) WITH ORDINALITY \
             AS asked (asked, place) ON id = asked ORDER BY place"
        );
        let found = self.query(&sql, &[&ids]).await?;
        found.iter().map(scope).collect()
    }

    pub(super) async fn update_scope_now(&mut self, scope: &Scope) -> Result<()> {
        let rate = scope.rate;
        let with: Vec<Value> = vec![
            Box::new(scope.id),
            Box::new(scope.paused),
            Box::new(scope.concurrency),
            Box::new(rate.map(|rate| rate.count)),
            Box::new(rate.map(|rate| rate.period)),
            Box::new(rate.map(|rate| rate.arrival)),
            Box::new(scope.weight),
            Box::new(scope.clock),
            Box::new(scope.closed_until),
            Box::new(scope.full),
        ];
        self.send(
            "UPDATE scopes SET paused = $2, concurrency = $3, rate_count = $4, rate_period = $5, \
             rate_arrival = $6, weight = $7, clock = $8, closed_until = $9, \"full\" = $10 \
             WHERE id = $1",
            with,
        )
        .await
    }

    pub(super) async fn scopes_to_reopen_now(&mut self, now: Micros) -> Result<Vec<Scope>> {
        let sql = format!(
            "SELECT {SCOPE} FROM scopes WHERE closed_until > 0 AND (closed_until <= $1 \
             OR closed_until > $1 + coalesce(rate_period, 0)) LIMIT 1000"
        );
        let found = self.query(&sql, &[&now]).await?;
        found.iter().map(scope).collect()
    }

    pub(super) async fn open_queues_now(
        &mut self,
        names: Option<&[String]>,
        after: i64,
        most: usize,
    ) -> Result<Vec<Scope>> {
        let most = limit(most);
        let found = match names {
            Some(names) => {
                let sql = format!(
                    "SELECT {SCOPE} FROM scopes AS queues WHERE kind = 'queue' \
                     AND name = ANY($1::text[]) AND id > $2 AND EXISTS \
                     (SELECT FROM shares WHERE shares.queue = queues.id AND shares.waiting > 0 \
                     AND NOT shares.closed) ORDER BY id LIMIT $3"
                );
                self.query(&sql, &[&names, &after, &most]).await?
            }
            // From one open queue to the next, however many others there are.
            None => {
                let sql = format!(
                    "WITH RECURSIVE open (queue) AS ((SELECT queue FROM shares \
                     WHERE waiting > 0 AND NOT closed AND queue > $1 ORDER BY queue LIMIT 1) \
                     UNION ALL SELECT (SELECT shares.queue FROM shares WHERE shares.waiting > 0 \
                     AND NOT shares.closed AND shares.queue > open.queue \
                     ORDER BY shares.queue LIMIT 1) FROM open WHERE open.queue IS NOT NULL) \
                     SELECT {SCOPE} FROM scopes JOIN (SELECT queue FROM open \
                     WHERE queue IS NOT NULL LIMIT $2) AS first ON first.queue = scopes.id \
                     ORDER BY id"
                );
                self.query(&sql, &[&after, &most]).await?
            }
        };
        found.iter().map(scope).collect()
    }

    pub(super) async fn open_shares_now(
        &mut self,
        queue: i64,
        without: Option<&str>,
        most: usize,
    ) -> Result<Vec<ShareRow>> {
        let found = self
            .query(
                "SELECT id, tenant, virtual_time FROM shares \
                 WHERE queue = $1 AND waiting > 0 AND NOT closed AND EXISTS \
                 (SELECT FROM lanes JOIN scopes ON scopes.id = lanes.skill \
                 WHERE lanes.share = shares.id AND lanes.waiting AND NOT scopes.paused \
                 AND NOT scopes.\"full\" AND scopes.closed_until = 0 \
                 AND ($3::text IS NULL OR scopes.name <> $3::text)) \
                 ORDER BY virtual_time, id LIMIT $2",
                &[&queue, &limit(most), &without],
            )
            .await?;
        found.iter().map(share).collect()
    }

    pub(super) async fn shares_now(&mut self, ids: &[i64]) -> Result<Vec<ShareRow>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let found = self
            .query(
                "SELECT id, tenant, virtual_time FROM shares \
                 JOIN unnest($1::bigint[]) WITH ORDINALITY AS asked (asked, place) \
                 ON id = asked ORDER BY place",
                &[&ids],
            )
            .await?;
        found.iter().map(share).collect()
    }

    pub(super) async fn set_virtual_time_now(&mut self, shares: &[(i64, i64)]) -> Result<()> {
        if shares.is_empty() {
            return Ok(());
        }
        self.send(
            "UPDATE shares SET virtual_time = new.virtual_time \
             FROM unnest($1::bigint[], $2::bigint[]) AS new (id, virtual_time) \
             WHERE shares.id = new.id",
            vec![
                column!(shares, |share| share.0),
                column!(shares, |share| share.1),
            ],
        )
        .await
    }

    pub(super) async fn close_tenant_now(&mut self, tenant: i64, closed: bool) -> Result<()> {
        let with: Vec<Value> = vec![Box::new(tenant), Box::new(closed)];
        self.send(
            "UPDATE shares SET closed = $2 WHERE tenant = $1 AND closed <> $2",
            with,
        )
        .await
    }

    pub(super) async fn waiting_lanes_now(
        &mut self,
        shares: &[i64],
        without: Option<&str>,
        most: usize,
    ) -> Result<Vec<WaitingLane>> {
        if shares.is_empty() {
            return Ok(Vec::new());
        }
        let found = self
            .query(
                "SELECT first.id, asked.share, first.skill, first.low \
                 FROM unnest($1::bigint[]) WITH ORDINALITY AS asked (share, place) \
                 CROSS JOIN LATERAL (SELECT lanes.id, lanes.skill, lanes.low FROM lanes \
                 JOIN scopes ON scopes.id = lanes.skill \
                 WHERE lanes.share = asked.share AND lanes.waiting AND NOT scopes.paused \
                 AND NOT scopes.\"full\" AND scopes.closed_until = 0 \
                 AND ($2::text IS NULL OR scopes.name <> $2::text) \
                 ORDER BY lanes.low, lanes.id LIMIT $3) AS first \
                 ORDER BY place, first.low, first.id",
                &[&shares, &without, &limit(most)],
            )
            .await?;
        found
            .iter()
            .map(|found| {
                Ok(WaitingLane {
                    id: found.try_get(0)?,
                    share: found.try_get(1)?,
                    skill: found.try_get(2)?,
                    low: found.try_get(3)?,
                })
            })
            .collect()
    }

    pub(super) async fn raise_low_now(&mut self, lanes: &[(i64, Micros)]) -> Result<()> {
        if lanes.is_empty() {
            return Ok(());
        }
        self.send(
            "UPDATE lanes SET low = new.low FROM unnest($1::bigint[], $2::bigint[]) \
             AS new (id, low) WHERE lanes.id = new.id AND lanes.low < new.low",
            vec![column!(lanes, |lane| lane.0), column!(lanes, |lane| lane.1)],
        )
        .await
    }

    pub(super) async fn heads_now(&mut self, lanes: &[i64], most: usize) -> Result<Vec<Vec<Head>>> {
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let found = self
            .query(
                "SELECT asked.place, first.rank, first.seq \
                 FROM unnest($1::bigint[]) WITH ORDINALITY AS asked (lane, place) \
                 JOIN lanes ON lanes.id = asked.lane \
                 CROSS JOIN LATERAL (SELECT ready.rank, ready.seq FROM ready \
                 WHERE ready.lane = asked.lane AND ready.rank >= lanes.low \
                 ORDER BY ready.rank, ready.seq LIMIT $2) AS first \
                 ORDER BY asked.place, first.rank, first.seq",
                &[&lanes, &limit(most)],
            )
            .await?;
        let mut heads: Vec<Vec<Head>> = vec![Vec::new(); lanes.len()];
        for found in &found {
            let place: i64 = found.try_get(0)?;
            let lane = usize::try_from(place - 1)
                .ok()
                .and_then(|place| heads.get_mut(place));
            if let Some(lane) = lane {
                lane.push(head(found)?);
            }
        }
        // Below the first there is nothing but remains.
        for (lane, heads) in lanes.iter().zip(&heads) {
            if let Some(first) = heads.first() {
                self.first.insert(*lane, first.rank);
            }
        }
        Ok(heads)
    }

    pub(super) async fn set_waiting_now(
        &mut self,
        lanes: &[i64],
        waiting: bool,
    ) -> Result<Vec<i64>> {
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let sql = "WITH changed AS (UPDATE lanes SET waiting = $2 WHERE id = ANY($1::bigint[]) \
             AND waiting <> $2 RETURNING share), \
             counted AS (SELECT share, count(*) AS many FROM changed GROUP BY share), \
             moved AS (UPDATE shares SET waiting = shares.waiting \
             + CASE WHEN $2 THEN counted.many ELSE -counted.many END \
             FROM counted WHERE shares.id = counted.share \
             RETURNING shares.id, shares.waiting, counted.many) \
             SELECT id FROM moved WHERE $2 AND waiting = many ORDER BY id";
        if !waiting {
            // Nothing was empty before that is not now.
            let with: Vec<Value> = vec![Box::new(lanes.to_vec()), Box::new(waiting)];
            self.send(sql, with).await?;
            return Ok(Vec::new());
        }
        self.wrote = true;
        let found = self.query(sql, &[&lanes, &waiting]).await?;
        found.iter().map(|found| self.get(found, 0)).collect()
    }

    pub(super) async fn insert_ready_now(&mut self, ready: &[(i64, Head)]) -> Result<()> {
        if ready.is_empty() {
            return Ok(());
        }
        self.send(
            "INSERT INTO ready (lane, rank, seq) \
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) \
             ON CONFLICT (lane, rank, seq) DO NOTHING",
            vec![
                column!(ready, |place| place.0),
                column!(ready, |place| place.1.rank),
                column!(ready, |place| place.1.seq),
            ],
        )
        .await?;
        let mut lowest: BTreeMap<i64, i64> = BTreeMap::new();
        for (lane, head) in ready {
            let low = lowest.entry(*lane).or_insert(head.rank);
            *low = head.rank.min(*low);
        }
        for (lane, low) in &lowest {
            if let Some(first) = self.first.get_mut(lane) {
                *first = (*low).min(*first);
            }
        }
        // In an empty lane there is nothing lower.
        self.send(
            "UPDATE lanes SET low = new.low FROM unnest($1::bigint[], $2::bigint[]) \
             AS new (id, low) WHERE lanes.id = new.id AND (lanes.low > new.low \
             OR (NOT lanes.waiting AND lanes.low <> new.low))",
            vec![column!(lowest, |low| *low.0), column!(lowest, |low| *low.1)],
        )
        .await
    }

    pub(super) async fn remove_ready_now(&mut self, ready: &[(i64, Head)]) -> Result<()> {
        if ready.is_empty() {
            return Ok(());
        }
        self.send(
            "DELETE FROM ready USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) \
             AS old (lane, rank, seq) WHERE ready.lane = old.lane AND ready.rank = old.rank \
             AND ready.seq = old.seq",
            vec![
                column!(ready, |place| place.0),
                column!(ready, |place| place.1.rank),
                column!(ready, |place| place.1.seq),
            ],
        )
        .await?;
        // Many taken of a lane: the next claim need not look among their remains.
        let mut taken: BTreeMap<i64, usize> = BTreeMap::new();
        for (lane, _) in ready {
            *taken.entry(*lane).or_default() += 1;
        }
        let rise: Vec<(i64, i64)> = taken
            .iter()
            .filter(|(lane, taken)| self.directory.taken(**lane, **taken) >= RISE)
            .filter_map(|(lane, _)| Some((*lane, *self.first.get(lane)?)))
            .collect();
        for (lane, _) in &rise {
            self.directory.risen(*lane);
        }
        self.raise_low_now(&rise).await
    }

    pub(super) async fn insert_later_now(&mut self, places: &[Place]) -> Result<()> {
        let Some(first) = places.iter().map(|place| place.due).min() else {
            return Ok(());
        };
        self.send(
            "INSERT INTO later (due_at, seq, lane, priority) SELECT DISTINCT ON (1, 2) * FROM \
             unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) \
             ON CONFLICT (due_at, seq) DO UPDATE \
             SET lane = excluded.lane, priority = excluded.priority",
            vec![
                column!(places, |place| place.due),
                column!(places, |place| place.seq),
                column!(places, |place| place.lane),
                column!(places, |place| place.priority.as_str()),
            ],
        )
        .await?;
        let with: Vec<Value> = vec![Box::new(first)];
        self.send(
            "UPDATE numbers SET last = $1 WHERE name = 'due' AND last > $1",
            with,
        )
        .await
    }

    pub(super) async fn remove_later_now(&mut self, places: &[(Micros, i64)]) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        self.send(
            "DELETE FROM later USING unnest($1::bigint[], $2::bigint[]) AS old (due_at, seq) \
             WHERE later.due_at = old.due_at AND later.seq = old.seq",
            vec![
                column!(places, |place| place.0),
                column!(places, |place| place.1),
            ],
        )
        .await
    }

    pub(super) async fn take_due_now(&mut self, now: Micros, most: usize) -> Result<Vec<Place>> {
        let found = self
            .query(
                "WITH due AS (SELECT due_at, seq FROM later WHERE due_at <= $1 AND due_at >= \
                 (SELECT last FROM numbers WHERE name = 'due') \
                 ORDER BY due_at, seq LIMIT $2) \
                 DELETE FROM later USING due WHERE later.due_at = due.due_at \
                 AND later.seq = due.seq \
                 RETURNING later.due_at, later.seq, later.lane, later.priority",
                &[&now, &limit(most)],
            )
            .await?;
        let mut due: Vec<Place> = found
            .iter()
            .map(|found| {
                Ok(Place {
                    due: found.try_get(0)?,
                    seq: found.try_get(1)?,
                    lane: found.try_get(2)?,
                    priority: name(found, 3)?,
                })
            })
            .collect::<Result<_>>()?;
        due.sort_unstable_by_key(|place| (place.due, place.seq));
        if let Some(last) = due.last() {
            self.wrote = true;
            // All before the last that was taken is gone.
            let with: Vec<Value> = vec![Box::new(last.due)];
            self.send(
                "UPDATE numbers SET last = $1 WHERE name = 'due' AND last < $1",
                with,
            )
            .await?;
        }
        Ok(due)
    }
}
