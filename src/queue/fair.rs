//! Whose job is next: a pure choice.
//!
//! Queues take turns. Within a queue tenants share what is started, in proportion to their weights:
//! the one that has had least so far is next (start-time fair queueing: Goyal, Vin, Cheng, 1996, every
//! start costing the same). A tenant's own jobs go by [rank](Priority::head_start): when they came,
//! the more urgent counting as having come earlier.

use std::collections::HashMap;

use super::job::Priority;
use super::time::{Micros, span};

/// What one start costs a tenant of weight 1.
pub(crate) const COST: i64 = 1_000_000;

/// Where a job stands among its tenant's. Lower comes first.
pub(crate) fn rank(due: Micros, priority: Priority) -> Micros {
    due.saturating_sub(span(priority.head_start()))
}

/// A job that could be next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Head {
    pub rank: Micros,
    pub seq: i64,
}

/// Jobs of one tenant and one skill in one queue, in order.
#[derive(Debug, Clone)]
pub(crate) struct LaneHeads {
    pub lane: i64,
    /// The scope of its skill.
    pub skill: i64,
    /// No job in it has a lower rank.
    pub low: Micros,
    /// The first of them.
    pub heads: Vec<Head>,
    /// Whether there are more.
    pub more: bool,
}

/// One tenant in one queue.
#[derive(Debug, Clone)]
pub(crate) struct ShareHeads {
    pub share: i64,
    /// The scope of its tenant.
    pub tenant: i64,
    /// What it has had so far.
    pub virtual_time: i64,
    /// Its part, against others of its queue: at least 1.
    pub weight: i64,
    pub lanes: Vec<LaneHeads>,
    /// Where there are lanes beyond those: no job in them has a lower rank.
    pub beyond: Option<Micros>,
}

/// One queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueHeads {
    /// The scope of the queue.
    pub queue: i64,
    pub shares: Vec<ShareHeads>,
    /// Whether there are tenants beyond those.
    pub more: bool,
}

/// How many more jobs of a scope may start; what is not in it is not bounded.
pub(crate) type Room = HashMap<i64, i64>;

/// A job that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pick {
    pub head: Head,
    pub lane: i64,
    pub share: i64,
    /// Its queue, tenant and skill.
    pub scopes: [i64; 3],
}

/// The jobs that are next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Picks {
    pub picks: Vec<Pick>,
    /// What each share that was served has had by now.
    pub virtual_times: HashMap<i64, i64>,
    /// What the last share that was served had had before, by queue: where newcomers begin.
    pub clocks: HashMap<i64, i64>,
    /// Whether the choice stopped because it does not know what comes next, and there is more.
    pub starved: bool,
}

/// Chooses up to `most` jobs; counts down `room`.
pub(crate) fn pick(queues: &[QueueHeads], room: &mut Room, most: usize) -> Picks {
    let mut picks = Picks::default();
    // How many heads of each lane are taken, by queue, share and lane.
    let mut taken: Vec<Vec<Vec<usize>>> = queues
        .iter()
        .map(|queue| {
            let lanes = |share: &ShareHeads| vec![0; share.lanes.len()];
            queue.shares.iter().map(lanes).collect()
        })
        .collect();
    let mut open: Vec<usize> = (0..queues.len()).collect();
    while picks.picks.len() < most && !open.is_empty() {
        open.retain(|&index| {
            if picks.picks.len() >= most {
                return true;
            }
            match next(&queues[index], &mut taken[index], room, &mut picks) {
                Next::Picked => true,
                Next::Nothing => false,
                Next::Unknown => {
                    picks.starved = true;
                    false
                }
            }
        });
    }
    picks
}

enum Next {
    Picked,
    Nothing,
    /// The next would be one that was not fetched.
    Unknown,
}

fn next(queue: &QueueHeads, taken: &mut [Vec<usize>], room: &mut Room, picks: &mut Picks) -> Next {
    let has_room = |room: &Room, scope: i64| room.get(&scope).is_none_or(|&left| left > 0);
    if !has_room(room, queue.queue) {
        return Next::Nothing;
    }
    let virtual_time = |picks: &Picks, share: &ShareHeads| {
        picks
            .virtual_times
            .get(&share.share)
            .copied()
            .unwrap_or(share.virtual_time)
    };
    let mut order: Vec<usize> = (0..queue.shares.len())
        .filter(|&index| has_room(room, queue.shares[index].tenant))
        .collect();
    order.sort_by_key(|&index| {
        let share = &queue.shares[index];
        (virtual_time(picks, share), share.share)
    });
    for index in order {
        let share = &queue.shares[index];
        let mut best: Option<(Head, usize)> = None;
        for (at, lane) in share.lanes.iter().enumerate() {
            if !has_room(room, lane.skill) {
                continue;
            }
            match lane.heads.get(taken[index][at]) {
                Some(&head) if best.is_none_or(|(other, _)| head < other) => {
                    best = Some((head, at));
                }
                Some(_) => {}
                None if lane.more => return Next::Unknown,
                None => {}
            }
        }
        match (best, share.beyond) {
            (None, None) => continue,
            // Somebody beyond may come before it.
            (Some((head, _)), Some(beyond)) if head.rank > beyond => return Next::Unknown,
            (None, Some(_)) => return Next::Unknown,
            _ => {}
        }
        let Some((head, at)) = best else { continue };
        taken[index][at] += 1;
        let lane = &share.lanes[at];
        let scopes = [queue.queue, share.tenant, lane.skill];
        for scope in scopes {
            if let Some(left) = room.get_mut(&scope) {
                *left -= 1;
            }
        }
        let had = virtual_time(picks, share);
        picks.clocks.insert(queue.queue, had);
        picks
            .virtual_times
            .insert(share.share, had + COST / share.weight.max(1));
        picks.picks.push(Pick {
            head,
            lane: lane.lane,
            share: share.share,
            scopes,
        });
        return Next::Picked;
    }
    if queue.more {
        Next::Unknown
    } else {
        Next::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(id: i64, virtual_time: i64, weight: i64, ranks: &[Micros]) -> ShareHeads {
        let heads = ranks.iter().map(|&rank| Head {
            rank,
            seq: id * 1_000 + rank,
        });
        ShareHeads {
            share: id,
            tenant: 100 + id,
            virtual_time,
            weight,
            lanes: vec![LaneHeads {
                lane: id,
                skill: 200,
                low: 0,
                heads: heads.collect(),
                more: false,
            }],
            beyond: None,
        }
    }

    fn queue(shares: Vec<ShareHeads>) -> Vec<QueueHeads> {
        vec![QueueHeads {
            queue: 1,
            shares,
            more: false,
        }]
    }

    fn order(picks: &Picks) -> Vec<i64> {
        picks.picks.iter().map(|pick| pick.share).collect()
    }

    #[test]
    fn tenants_take_turns_however_much_one_has_waiting() {
        let queues = queue(vec![
            share(1, 0, 1, &[1, 2, 3, 4, 5, 6]),
            share(2, 0, 1, &[50, 51]),
        ]);
        let picks = pick(&queues, &mut Room::new(), 6);
        assert_eq!(order(&picks), [1, 2, 1, 2, 1, 1]);
    }

    #[test]
    fn a_weight_of_two_is_twice_as_much() {
        let many: Vec<Micros> = (0..9).collect();
        let queues = queue(vec![share(1, 0, 2, &many), share(2, 0, 1, &many)]);
        let picks = pick(&queues, &mut Room::new(), 9);
        assert_eq!(order(&picks).iter().filter(|&&share| share == 1).count(), 6);
    }

    #[test]
    fn bounds_hold_on_queue_tenant_and_skill() {
        let queues = queue(vec![share(1, 0, 1, &[1, 2, 3]), share(2, 0, 1, &[1, 2, 3])]);
        for (scope, expected) in [(1, 2), (101, 2 + 3), (200, 2)] {
            let mut room = Room::from([(scope, 2)]);
            let picks = pick(&queues, &mut room, 10);
            assert_eq!(picks.picks.len(), expected, "{scope}");
            assert_eq!(room[&scope], 0);
            assert!(!picks.starved);
        }
    }

    #[test]
    fn it_stops_where_it_does_not_know_what_is_next() {
        let mut queues = queue(vec![share(1, 0, 1, &[1]), share(2, 0, 1, &[1, 2, 3])]);
        queues[0].shares[0].lanes[0].more = true;
        let picks = pick(&queues, &mut Room::new(), 10);
        assert_eq!(order(&picks), [1, 2]);
        assert!(picks.starved);
    }

    #[test]
    fn it_stops_where_a_lane_that_it_does_not_know_may_be_next() {
        let mut queues = queue(vec![share(1, 0, 1, &[1, 2, 9])]);
        queues[0].shares[0].beyond = Some(5);
        let picks = pick(&queues, &mut Room::new(), 10);
        assert_eq!(order(&picks), [1, 1]);
        assert!(picks.starved);
    }

    #[test]
    fn the_lowest_rank_of_a_tenants_lanes_is_next() {
        let mut one = share(1, 0, 1, &[5, 9]);
        one.lanes.push(LaneHeads {
            lane: 7,
            skill: 201,
            low: 0,
            heads: vec![Head { rank: 6, seq: 1 }],
            more: false,
        });
        let picks = pick(&queue(vec![one]), &mut Room::new(), 3);
        let ranks: Vec<Micros> = picks.picks.iter().map(|pick| pick.head.rank).collect();
        assert_eq!(ranks, [5, 6, 9]);
    }

    #[test]
    fn queues_take_turns() {
        let mut queues = queue(vec![share(1, 0, 1, &[1, 2, 3])]);
        queues.push(QueueHeads {
            queue: 2,
            shares: vec![share(3, 900, 1, &[1, 2, 3])],
            more: false,
        });
        let picks = pick(&queues, &mut Room::new(), 4);
        assert_eq!(order(&picks), [1, 3, 1, 3]);
    }
}
