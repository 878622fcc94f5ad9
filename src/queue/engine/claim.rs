//! Workers take jobs.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::super::counters::{Counter, Measure, Tally};
use super::super::event::JobEventKind;
use super::super::fair::{Head, LaneHeads, Pick, QueueHeads, Room, ShareHeads, pick};
use super::super::job::CALLBACKS;
use super::super::store::{
    Body, EventRow, Result, Row, Rows, Scope, ScopeKind, Shared, WaitingLane,
};
use super::super::time::Micros;
use super::super::transition::{Trigger, transition};
use super::absorb::{absorb, place};
use super::catch_up;
use super::tick::Died;

/// How many queues are looked at, at a time.
const QUEUES: usize = 64;
/// How many tenants of a queue are looked at, at a time.
const SHARES: usize = 64;
/// How many skills of a tenant in a queue are looked at, at a time.
const LANES: usize = 16;
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

/// What a claim came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claimed {
    pub rows: Vec<ClaimedRow>,
    /// Those that were next, and whose deadline had passed.
    pub died: Vec<Died>,
    /// After which queue to begin the next time, so that they take turns.
    pub after: i64,
    /// Whether there may be more that was not looked at.
    pub more: bool,
}

/// What a worker asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub worker: Uuid,
    /// How long its claims hold.
    pub lease: Micros,
    /// The queues that it serves; all where `None`.
    pub queues: Option<Vec<String>>,
    /// After which queue to begin.
    pub after: i64,
    /// Whether it sends callbacks.
    pub callbacks: bool,
    pub most: usize,
}

/// Puts jobs that have become due in line, and says whether there may be more of them.
async fn promote(rows: &mut dyn Rows, now: Micros) -> Result<bool> {
    let due = rows.take_due(now, DUE).await?;
    place(rows, &due, now).await?;
    Ok(due.len() >= DUE)
}

/// Gives a worker jobs that are next; none where its lease expired, for nobody would take them from
/// it again. What gives nothing writes nothing either.
pub(crate) async fn claim(rows: &mut dyn Rows, wanted: &Wanted, now: Micros) -> Result<Claimed> {
    catch_up(rows, now).await?;
    super::fire::fire(rows, now).await?;
    let more = promote(rows, now).await?;
    for mut scope in rows.scopes_to_reopen(now).await? {
        scope.closed_until = 0;
        rows.update_scope(&scope).await?;
        if scope.kind == ScopeKind::Tenant && !scope.is_closed(now) {
            rows.close_tenant(scope.id, false).await?;
        }
    }
    let mut claimed = Claimed {
        after: wanted.after,
        more,
        ..Claimed::default()
    };
    // Where the queues that are looked at begin, and how often the first of all came again.
    let (mut from, mut around) = (wanted.after, 0);
    for _ in 0..ROUNDS {
        let missing = wanted.most.saturating_sub(claimed.rows.len());
        if missing == 0 {
            return Ok(claimed);
        }
        let queues = window(rows, wanted, from).await?;
        let Some(last) = queues.last().map(|queue| queue.id) else {
            return Ok(claimed);
        };
        let all = queues.len() < QUEUES;
        if round(rows, wanted, queues, missing, &mut claimed, now).await? {
            continue;
        }
        around += usize::from(last <= from);
        if all || around > 1 {
            return Ok(claimed);
        }
        from = last;
    }
    claimed.more = true;
    if claimed.rows.is_empty() {
        claimed.after = from;
    }
    Ok(claimed)
}

/// The queues that are next to be looked at: after this one, and from the first again.
async fn window(rows: &mut dyn Rows, wanted: &Wanted, after: i64) -> Result<Vec<Scope>> {
    let names = wanted.queues.as_deref();
    let mut queues = rows.open_queues(names, after, QUEUES).await?;
    if queues.len() < QUEUES && after > 0 {
        let first = rows.open_queues(names, 0, QUEUES - queues.len()).await?;
        queues.extend(first.into_iter().take_while(|queue| queue.id <= after));
    }
    Ok(queues)
}

/// Looks once, and says whether to look there again.
async fn round(
    rows: &mut dyn Rows,
    wanted: &Wanted,
    mut queues: Vec<Scope>,
    most: usize,
    claimed: &mut Claimed,
    now: Micros,
) -> Result<bool> {
    queues.retain(|queue| !queue.is_closed(now));
    if queues.is_empty() {
        return Ok(false);
    }
    let without = (!wanted.callbacks).then_some(CALLBACKS);
    let mut scopes: HashMap<i64, Scope> = HashMap::new();
    let mut known = Vec::with_capacity(queues.len());
    for queue in queues {
        known.push(queue_heads(rows, &queue, without, most, &mut scopes, now).await?);
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
    let raised = raised(&known, &count);
    rows.raise_low(&raised).await?;
    if chosen.picks.is_empty() {
        // Bounds that were met by others are written down, so that the next claim passes them over.
        close(rows, &mut scopes, &before, &room, now).await?;
        let passed =
            !empty.is_empty() || !raised.is_empty() || before.values().any(|&left| left <= 0);
        return Ok(chosen.starved && passed);
    }
    let taken: Vec<(i64, Head)> = chosen
        .picks
        .iter()
        .map(|pick| (pick.lane, pick.head))
        .collect();
    rows.remove_ready(&taken).await?;
    if let Some(last) = chosen.picks.last() {
        claimed.after = last.scopes[0];
    }
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

/// What is known now of the lowest ranks in lanes: written down only where a share has more lanes
/// than are looked at, for there it decides which.
fn raised(known: &[QueueHeads], taken: &HashMap<i64, usize>) -> Vec<(i64, Micros)> {
    let shares = known.iter().flat_map(|queue| &queue.shares);
    let lanes = shares
        .filter(|share| share.beyond.is_some())
        .flat_map(|share| &share.lanes);
    lanes
        .filter_map(|lane| {
            let taken = taken.get(&lane.lane).copied().unwrap_or(0);
            let first = lane.heads.get(taken).or(lane.heads.last())?;
            (first.rank > lane.low).then_some((lane.lane, first.rank))
        })
        .collect()
}

/// What is in line in a queue, as far as a claim of that size needs it.
async fn queue_heads(
    rows: &mut dyn Rows,
    queue: &Scope,
    without: Option<&str>,
    most: usize,
    scopes: &mut HashMap<i64, Scope>,
    now: Micros,
) -> Result<QueueHeads> {
    let mut shares = rows.open_shares(queue.id, without, SHARES + 1).await?;
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
    let mut lanes = rows.waiting_lanes(&ids, without, LANES + 1).await?;
    let beyond = cut(&mut lanes);
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
            low: lane.low,
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
            beyond: beyond.get(&share.id).copied(),
        })
        .collect();
    Ok(QueueHeads {
        queue: queue.id,
        shares,
        more,
    })
}

/// Takes away the last lane of each share that has more than are looked at; how low those begin.
fn cut(lanes: &mut Vec<WaitingLane>) -> HashMap<i64, Micros> {
    let mut count: HashMap<i64, usize> = HashMap::new();
    let mut beyond = HashMap::new();
    lanes.retain(|lane| {
        let count = count.entry(lane.share).or_default();
        *count += 1;
        if *count > LANES {
            beyond.insert(lane.share, lane.low);
        }
        *count <= LANES
    });
    beyond
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
                // What a clock says that was set back since is put right.
                rate.take(0, now);
                scope.closed_until = rate.next(now);
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
    claimed: &mut Claimed,
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
        claimed.rows.push(ClaimedRow { row, body, waited });
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
    claimed.died.extend(expired.iter().map(|row| Died {
        job: row.id,
        expired: true,
    }));
    super::settle::release(rows, &expired, now).await?;
    absorb(rows, shared, now).await?;
    Ok(stale)
}
