//! What everybody would have to write, written by one at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::super::counters::Counter;
use super::super::fair::{Head, rank};
use super::super::store::{Place, Result, Rows, ScopeKind, Shared};
use super::super::time::Micros;

/// Counts, puts jobs in line, and gives events their numbers.
pub(crate) async fn absorb(rows: &mut dyn Rows, shared: Shared, now: Micros) -> Result<()> {
    let Shared {
        tally,
        places,
        events,
    } = shared;
    if !events.is_empty() {
        rows.insert_events(&events).await?;
    }
    if !tally.0.is_empty() {
        rows.add_counters(&tally).await?;
        let freed: Vec<i64> = tally
            .0
            .iter()
            .filter_map(|(counter, by)| match counter {
                Counter::Running(scope) if *by < 0 => Some(*scope),
                _ => None,
            })
            .collect();
        reopen(rows, &freed, now).await?;
    }
    place(rows, &places, now).await
}

/// Puts jobs in line, or aside until they are due.
pub(crate) async fn place(rows: &mut dyn Rows, places: &[Place], now: Micros) -> Result<()> {
    let (due, later): (Vec<Place>, Vec<Place>) = places.iter().partition(|place| place.due <= now);
    if !later.is_empty() {
        rows.insert_later(&later).await?;
    }
    if due.is_empty() {
        return Ok(());
    }
    let ready: Vec<(i64, Head)> = due.iter().map(|place| (place.lane, head(place))).collect();
    rows.insert_ready(&ready).await?;
    let lanes: BTreeSet<i64> = due.iter().map(|place| place.lane).collect();
    let lanes: Vec<i64> = lanes.into_iter().collect();
    let opened = rows.set_waiting(&lanes, true).await?;
    if opened.is_empty() {
        return Ok(());
    }
    // Who had nothing in line gets no credit for it.
    let lanes = rows.lanes_by_id(&lanes).await?;
    let queue_of: BTreeMap<i64, i64> = lanes.iter().map(|lane| (lane.share, lane.queue)).collect();
    let queues: BTreeSet<i64> = queue_of.values().copied().collect();
    let queues: Vec<i64> = queues.into_iter().collect();
    let clocks: BTreeMap<i64, i64> = rows
        .scopes(&queues)
        .await?
        .into_iter()
        .map(|queue| (queue.id, queue.clock))
        .collect();
    let behind: Vec<(i64, i64)> = rows
        .shares(&opened)
        .await?
        .into_iter()
        .filter_map(|share| {
            let clock = *clocks.get(queue_of.get(&share.id)?)?;
            (share.virtual_time < clock).then_some((share.id, clock))
        })
        .collect();
    rows.set_virtual_time(&behind).await
}

/// Where a job stands in its lane.
pub(crate) fn head(place: &Place) -> Head {
    Head {
        rank: rank(place.due, place.priority),
        seq: place.seq,
    }
}

/// Opens scopes that had been full.
pub(crate) async fn reopen(rows: &mut dyn Rows, freed: &[i64], now: Micros) -> Result<()> {
    if freed.is_empty() {
        return Ok(());
    }
    for mut scope in rows.scopes(freed).await? {
        if !scope.full {
            continue;
        }
        scope.full = false;
        rows.update_scope(&scope).await?;
        if scope.kind == ScopeKind::Tenant && !scope.is_closed(now) {
            rows.close_tenant(scope.id, false).await?;
        }
    }
    Ok(())
}
