//! Workers take jobs.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::super::counters::{Counter, Measure, Tally};
use super::super::event::JobEventKind;
use super::super::fair::{Head, LaneHeads, Pick, QueueHeads, Room, ShareHeads, pick};
use super::super::store::{Body, EventRow, Result, Row, Rows, Scope, ScopeKind, Shared};
use super::super::time::Micros;
use super::super::transition::{Trigger, transition};
use super::absorb::{absorb, place};
use super::catch_up;

/// How many tenants of a queue are looked at, at a time.
const SHARES: usize = 64;
/// How many jobs that have become due are put in line at a time.
const DUE: usize = 1_024;
/// How often a claim looks again where what it had fetched was not enough.
const ROUNDS: usize = 64;

/// A job that a worker has now.
#[derive(Debug, Clone)]
pub(crate) struct ClaimedRow {
    pub row: Row,
    pub body: Body,
    /// How long it was due before.
    pub waited: Micros,
}

/// What a worker asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub worker: Uuid,
    /// How long its claims hold.
    pub lease: Micros,
    /// The queues that it serves; all where `None`.
    pub queues: Option<Vec<String>>,
    /// Which queue is first, so that they take turns.
    pub turn: usize,
    pub most: usize,
}

/// Puts jobs that have become due in line.
pub(crate) async fn promote(rows: &mut dyn Rows, now: Micros) -> Result<()> {
    let due = rows.take_due(now, DUE).await?;
    place(rows, &due, now).await
}

/// Gives a worker jobs that are next; none where its lease expired, for nobody would take them from
/// it again. What gives nothing writes nothing either.
pub(crate) async fn claim(
    rows: &mut dyn Rows,
    wanted: &Wanted,
    now: Micros,
) -> Result<Vec<ClaimedRow>> {
    catch_up(rows, now).await?;
    super::fire::fire(rows, now).await?;
    promote(rows, now).await?;
    for mut scope in rows.scopes_to_reopen(now).await? {
        scope.closed_until = 0;
        rows.update_scope(&scope).await?;
        if scope.kind == ScopeKind::Tenant && !scope.is_closed(now) {
            rows.close_tenant(scope.id, false).await?;
        }
    }
    let mut claimed = Vec::new();
    for _ in 0..ROUNDS {
        let missing = wanted.most.saturating_sub(claimed.len());
        if missing == 0 || !round(rows, wanted, missing, &mut claimed, now).await? {
            break;
        }
    }
    Ok(claimed)
}

/// Looks once, and says whether to look again.
async fn round(
    rows: &mut dyn Rows,
    wanted: &Wanted,
    most: usize,
    claimed: &mut Vec<ClaimedRow>,
    now: Micros,
) -> Result<bool> {
    let mut queues = rows.open_queues(wanted.queues.as_deref()).await?;
    queues.retain(|queue| !queue.is_closed(now));
    if queues.is_empty() {
        return Ok(false);
    }
    let turn = wanted.turn % queues.len();
    queues.rotate_left(turn);
    let mut scopes: HashMap<i64, Scope> = HashMap::new();
    let mut known = Vec::with_capacity(queues.len());
    for queue in queues {
        known.push(queue_heads(rows, &queue, most, &mut scopes, now).await?);
        scopes.insert(queue.id, queue);
    }
    let mut room = room(rows, &scopes, now).await?;
    let before = room.clone();
    let chosen = pick(&known, &mut room, most);
    let until = now.saturating_add(wanted.lease);
    if !chosen.picks.is_empty() && !rows.renew(wanted.worker, until).await? {
        return Ok(false);
    }
    let mut count: HashMap<i64, usize> = HashMap::new();
    for pick in &chosen.picks {
        *count.entry(pick.lane).or_default() += 1;
    }
    // Also lanes that were found empty: their jobs were cancelled or paused since.
    let empty: Vec<i64> = known
        .iter()
        .flat_map(|queue| &queue.shares)
        .flat_map(|share| &share.lanes)
        .filter(|lane| {
            !lane.more && count.get(&lane.lane).copied().unwrap_or(0) == lane.heads.len()
        })
        .map(|lane| lane.lane)
        .collect();
    rows.set_waiting(&empty, false).await?;
    if chosen.picks.is_empty() {
        // Bounds that were met by others are written down, so that the next claim passes them over.
        close(rows, &mut scopes, &before, &room, now).await?;
        let passed = !empty.is_empty() || before.values().any(|&left| left <= 0);
        return Ok(chosen.starved && passed);
    }
    let taken: Vec<(i64, Head)> = chosen
        .picks
        .iter()
        .map(|pick| (pick.lane, pick.head))
        .collect();
    rows.remove_ready(&taken).await?;
    let stale = start(rows, wanted.worker, &chosen.picks, claimed, now).await?;
    // What was not there to be started gives its room back.
    for pick in &stale {
        for scope in pick.scopes {
            if let Some(left) = room.get_mut(&scope) {
                *left += 1;
            }
        }
    }
    let times: Vec<(i64, i64)> = chosen.virtual_times.into_iter().collect();
    rows.set_virtual_time(&times).await?;
    for (queue, clock) in chosen.clocks {
        if let Some(scope) = scopes.get_mut(&queue)
            && scope.clock < clock
        {
            scope.clock = clock;
            rows.update_scope(scope).await?;
        }
    }
    close(rows, &mut scopes, &before, &room, now).await?;
    Ok(chosen.starved || !stale.is_empty())
}

/// What is in line in a queue, as far as a claim of that size needs it.
async fn queue_heads(
    rows: &mut dyn Rows,
    queue: &Scope,
    most: usize,
    scopes: &mut HashMap<i64, Scope>,
    now: Micros,
) -> Result<QueueHeads> {
    let mut shares = rows.open_shares(queue.id, SHARES + 1).await?;
    let more = shares.len() > SHARES;
    shares.truncate(SHARES);
    let tenants: Vec<i64> = shares.iter().map(|share| share.tenant).collect();
    for tenant in rows.scopes(&tenants).await? {
        if tenant.is_closed(now) {
            rows.close_tenant(tenant.id, true).await?;
        }
        scopes.insert(tenant.id, tenant);
    }
    shares.retain(|share| {
        scopes
            .get(&share.tenant)
            .is_some_and(|tenant| !tenant.is_closed(now))
    });
    let ids: Vec<i64> = shares.iter().map(|share| share.id).collect();
    let lanes = rows.waiting_lanes(&ids).await?;
    let skills: BTreeSet<i64> = lanes.iter().map(|lane| lane.skill).collect();
    let skills: Vec<i64> = skills.into_iter().collect();
    for skill in rows.scopes(&skills).await? {
        scopes.insert(skill.id, skill);
    }
    let each = if lanes.len() <= 2 {
        most
    } else {
        (2 * most / lanes.len() + 2).min(most)
    };
    let ids: Vec<i64> = lanes.iter().map(|lane| lane.id).collect();
    let heads = rows.heads(&ids, each + 1).await?;
    let mut by_share: HashMap<i64, Vec<LaneHeads>> = HashMap::new();
    for (lane, mut heads) in lanes.iter().zip(heads) {
        let more = heads.len() > each;
        heads.truncate(each);
        by_share.entry(lane.share).or_default().push(LaneHeads {
            lane: lane.id,
            skill: lane.skill,
            heads,
            more,
        });
    }
    let shares = shares
        .into_iter()
        .map(|share| ShareHeads {
            share: share.id,
            tenant: share.tenant,
            // Who could not start anything meanwhile does not catch up all at once.
            virtual_time: share.virtual_time.max(queue.clock),
            weight: scopes.get(&share.tenant).map_or(1, |tenant| tenant.weight),
            lanes: by_share.remove(&share.id).unwrap_or_default(),
        })
        .collect();
    Ok(QueueHeads {
        queue: queue.id,
        shares,
        more,
    })
}

/// How many more may start, where that is bounded.
async fn room(rows: &mut dyn Rows, scopes: &HashMap<i64, Scope>, now: Micros) -> Result<Room> {
    let bounded: Vec<&Scope> = scopes
        .values()
        .filter(|scope| scope.concurrency.is_some())
        .collect();
    let counters: Vec<Counter> = bounded
        .iter()
        .map(|scope| Counter::Running(scope.id))
        .collect();
    let running = rows.counters(&counters).await?;
    let mut room = Room::new();
    for (scope, running) in bounded.iter().zip(running) {
        if let Some(most) = scope.concurrency {
            room.insert(scope.id, (most - running).max(0));
        }
    }
    for scope in scopes.values() {
        if let Some(rate) = scope.rate {
            let left = rate.room(now);
            room.entry(scope.id)
                .and_modify(|room| *room = (*room).min(left))
                .or_insert(left);
        }
    }
    Ok(room)
}

/// Writes down what rates were used up, and which scopes have no room left.
async fn close(
    rows: &mut dyn Rows,
    scopes: &mut HashMap<i64, Scope>,
    before: &Room,
    after: &Room,
    now: Micros,
) -> Result<()> {
    for (id, &left) in after {
        let Some(scope) = scopes.get_mut(id) else {
            continue;
        };
        let used = before.get(id).copied().unwrap_or(left) - left;
        let mut changed = false;
        if let Some(rate) = &mut scope.rate {
            if used > 0 {
                rate.take(used, now);
                changed = true;
            }
            if rate.room(now) == 0 {
                scope.closed_until = rate.next();
                changed = true;
            }
        }
        if let Some(most) = scope.concurrency
            && left <= 0
        {
            let running = rows.counters(&[Counter::Running(*id)]).await?;
            if running.first().is_some_and(|&running| running >= most) {
                scope.full = true;
                changed = true;
            }
        }
        if changed {
            rows.update_scope(scope).await?;
            if scope.kind == ScopeKind::Tenant && scope.is_closed(now) {
                rows.close_tenant(*id, true).await?;
            }
        }
    }
    Ok(())
}

/// Starts what was chosen, and gives back what turned out not to be waiting any more.
async fn start(
    rows: &mut dyn Rows,
    worker: Uuid,
    picks: &[Pick],
    claimed: &mut Vec<ClaimedRow>,
    now: Micros,
) -> Result<Vec<Pick>> {
    let seqs: Vec<i64> = picks.iter().map(|pick| pick.head.seq).collect();
    let found: HashMap<i64, Row> = rows
        .jobs_by_seq(&seqs)
        .await?
        .into_iter()
        .map(|row| (row.seq, row))
        .collect();
    let mut bodies: HashMap<i64, Body> = rows.bodies(&seqs).await?.into_iter().collect();
    let mut stale = Vec::new();
    let mut changed = Vec::with_capacity(picks.len());
    let mut shared = Shared::default();
    let mut running: HashMap<i64, i64> = HashMap::new();
    let mut tally = Tally::default();
    for pick in picks {
        let standing = found.get(&pick.head.seq);
        // A place in line is a hint: the job may have been cancelled or moved since.
        let here = standing.filter(|row| {
            row.lane == pick.lane
                && super::super::fair::rank(row.due, row.priority) == pick.head.rank
        });
        let (Some(row), Some(body)) = (here, bodies.remove(&pick.head.seq)) else {
            stale.push(*pick);
            continue;
        };
        let expired = row.deadline.is_some_and(|deadline| deadline <= now);
        let trigger = if expired {
            Trigger::Expire
        } else {
            Trigger::Claim
        };
        let Ok(change) = transition(&row.standing(), trigger, now) else {
            // By this clock its time has not come, though it had by the one that put it in line.
            if row.status.is_waiting() {
                shared.places.push(super::settle::place(row));
            }
            stale.push(*pick);
            continue;
        };
        let mut row = row.clone();
        let (from, kind) = (row.status, change.event);
        row.apply(change, now);
        if expired {
            super::settle::ended(&row, &mut tally, now);
            shared.tally.moved(row.lane, Some(from), Some(row.status));
            shared.events.push(super::event(&row, kind, None, now));
            changed.push(row);
            stale.push(*pick);
            continue;
        }
        row.fence += 1;
        row.worker = Some(worker);
        row.started = Some(now);
        shared.tally.moved(row.lane, Some(from), Some(row.status));
        for scope in pick.scopes {
            *running.entry(scope).or_default() += 1;
        }
        let waited = now - row.due;
        tally.took(Measure::Wait, now, waited);
        shared.events.push(EventRow {
            job: row.id,
            kind: JobEventKind::Started,
            at: now,
            attempt: Some(row.attempts + 1),
            data: String::new(),
        });
        changed.push(row.clone());
        claimed.push(ClaimedRow { row, body, waited });
    }
    for (scope, by) in running {
        shared.tally.add(Counter::Running(scope), by);
    }
    shared.tally.extend(tally);
    rows.update_jobs(&changed).await?;
    let expired: Vec<Row> = changed
        .into_iter()
        .filter(|row| row.status.is_terminal())
        .collect();
    super::settle::release(rows, &expired, now).await?;
    absorb(rows, shared, now).await?;
    Ok(stale)
}
