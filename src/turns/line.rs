//! Who is next: a pure choice.
//!
//! Tenants share what is started in proportion to their weights: of those that wait, the one that has
//! had least so far is next (start-time fair queueing: Goyal, Vin, Cheng, 1996, every start costing
//! the same). A tenant's own requests go in order. The job queue chooses by the same rule among jobs.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// What one start costs a tenant of weight 1.
const COST: u64 = 1_000_000;
/// The most tenants that are remembered without having anything running or waiting.
const MAX_REMEMBERED: usize = 10_000;

/// How many may run at once.
pub(crate) trait Bounds {
    /// Of all.
    fn all(&self) -> u32;
    /// Of a tenant, where that is bounded, and its weight: at least 1.
    fn tenant(&self, tenant: &str) -> (Option<u32>, u32);
    /// Of a skill, where that is bounded.
    fn skill(&self, skill: &str) -> Option<u32>;
}

/// Whoever runs and whoever waits, in one place.
#[derive(Debug)]
pub(crate) struct Line<W> {
    shares: HashMap<Arc<str>, Share<W>>,
    /// The tenants that have somebody waiting, by what they have had.
    order: BTreeSet<(u64, Arc<str>)>,
    skills: HashMap<Arc<str>, Count>,
    running: u32,
    waiting: u32,
    /// What the last that was served had had before: where newcomers begin.
    clock: u64,
    next: u64,
    /// How many shares there may be before those without meaning are forgotten.
    remembered: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    running: u32,
    waiting: u32,
}

#[derive(Debug)]
struct Share<W> {
    had: u64,
    count: Count,
    /// Who waits, by skill, each in order.
    lanes: HashMap<Arc<str>, VecDeque<(u64, W)>>,
}

impl<W> Default for Share<W> {
    fn default() -> Self {
        Share {
            had: 0,
            count: Count::default(),
            lanes: HashMap::new(),
        }
    }
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Line {
            shares: HashMap::new(),
            order: BTreeSet::new(),
            skills: HashMap::new(),
            running: 0,
            waiting: 0,
            clock: 0,
            next: 0,
            remembered: 64,
        }
    }
}

/// For whom something runs or waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whose {
    pub tenant: Arc<str>,
    pub skill: Arc<str>,
}

/// A place among those that wait.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub whose: Whose,
    number: u64,
}

fn key<V>(map: &HashMap<Arc<str>, V>, name: &str) -> Arc<str> {
    match map.get_key_value(name) {
        Some((key, _)) => Arc::clone(key),
        None => Arc::from(name),
    }
}

impl<W> Line<W> {
    pub fn running(&self) -> u32 {
        self.running
    }

    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    pub fn waiting_of_tenant(&self, tenant: &str) -> u32 {
        self.shares
            .get(tenant)
            .map_or(0, |share| share.count.waiting)
    }

    pub fn waiting_of_skill(&self, skill: &str) -> u32 {
        self.skills.get(skill).map_or(0, |count| count.waiting)
    }

    /// Starts one, where there is room for it. `None`: it has to wait. Where nobody waits, and neither its
    /// tenant nor its skill is bounded, it is counted among all only, and `Some(None)` is the answer.
    ///
    /// Nobody who waits may be there for whom there is room, too (see [`next`](Line::next)): then nobody is
    /// overtaken who could have started in its place.
    pub fn start(
        &mut self,
        tenant: &str,
        skill: &str,
        bounds: &impl Bounds,
    ) -> Option<Option<Whose>> {
        if self.running >= bounds.all() {
            return None;
        }
        let ((of_tenant, weight), of_skill) = (bounds.tenant(tenant), bounds.skill(skill));
        if self.waiting == 0 && of_tenant.is_none() && of_skill.is_none() {
            self.running += 1;
            return Some(None);
        }
        let running = self.shares.get(tenant).map_or(0, |one| one.count.running);
        let of_this = self.skills.get(skill).map_or(0, |count| count.running);
        if of_tenant.is_some_and(|most| running >= most)
            || of_skill.is_some_and(|most| of_this >= most)
        {
            return None;
        }
        let whose = self.whose(tenant, skill);
        self.count_start(&whose);
        if self.waiting > 0 {
            // It costs what it would have cost by way of the line.
            self.charge(&whose.tenant, weight);
        }
        Some(Some(whose))
    }

    /// Counts a start to what a tenant has had.
    fn charge(&mut self, tenant: &Arc<str>, weight: u32) {
        let Some(share) = self.shares.get_mut(tenant) else {
            return;
        };
        let waits = share.count.waiting > 0;
        // Who comes anew begins where the others are.
        let before = match waits {
            true => share.had,
            false => share.had.max(self.clock),
        };
        self.clock = self.clock.max(before);
        if waits {
            self.order.remove(&(share.had, Arc::clone(tenant)));
        }
        share.had = before.saturating_add(COST / u64::from(weight.max(1)));
        if waits {
            self.order.insert((share.had, Arc::clone(tenant)));
        }
    }

    fn whose(&self, tenant: &str, skill: &str) -> Whose {
        Whose {
            tenant: key(&self.shares, tenant),
            skill: key(&self.skills, skill),
        }
    }

    fn count_start(&mut self, whose: &Whose) {
        self.running += 1;
        let share = self.shares.entry(Arc::clone(&whose.tenant)).or_default();
        share.count.running += 1;
        let skill = self.skills.entry(Arc::clone(&whose.skill)).or_default();
        skill.running += 1;
    }

    /// Puts one at the end of its tenant's.
    pub fn wait(&mut self, tenant: &str, skill: &str, waiter: W) -> Ticket {
        let whose = self.whose(tenant, skill);
        let number = self.next;
        self.next += 1;
        self.waiting += 1;
        let clock = self.clock;
        let share = self.shares.entry(Arc::clone(&whose.tenant)).or_default();
        if share.count.waiting == 0 {
            share.had = share.had.max(clock);
            self.order.insert((share.had, Arc::clone(&whose.tenant)));
        }
        share.count.waiting += 1;
        let lane = share.lanes.entry(Arc::clone(&whose.skill)).or_default();
        lane.push_back((number, waiter));
        let count = self.skills.entry(Arc::clone(&whose.skill)).or_default();
        count.waiting += 1;
        Ticket { whose, number }
    }

    /// Takes one that waits out of the line; `None` where it does not wait any more.
    pub fn leave(&mut self, ticket: &Ticket) -> Option<W> {
        let share = self.shares.get_mut(&ticket.whose.tenant)?;
        let lane = share.lanes.get_mut(&ticket.whose.skill)?;
        let at = lane
            .binary_search_by_key(&ticket.number, |(number, _)| *number)
            .ok()?;
        let (_, waiter) = lane.remove(at)?;
        self.waits_no_more(&ticket.whose);
        self.forget();
        Some(waiter)
    }

    /// Counts one less that waits, after it was taken out of its lane.
    fn waits_no_more(&mut self, whose: &Whose) {
        self.waiting -= 1;
        if let Some(share) = self.shares.get_mut(&whose.tenant) {
            share.count.waiting -= 1;
            if share
                .lanes
                .get(&whose.skill)
                .is_some_and(VecDeque::is_empty)
            {
                share.lanes.remove(&whose.skill);
            }
            if share.count.waiting == 0 {
                self.order.remove(&(share.had, Arc::clone(&whose.tenant)));
            }
        }
        if let Some(count) = self.skills.get_mut(&whose.skill) {
            count.waiting -= 1;
            if count.waiting == 0 && count.running == 0 {
                self.skills.remove(&whose.skill);
            }
        }
    }

    /// Starts the next of those that wait, where there is room for any.
    pub fn next(&mut self, bounds: &impl Bounds) -> Option<(W, Whose)> {
        if self.waiting == 0 || self.running >= bounds.all() {
            return None;
        }
        let (tenant, skill, weight) = self.order.iter().find_map(|(_, tenant)| {
            let share = self.shares.get(tenant)?;
            let (most, weight) = bounds.tenant(tenant);
            if most.is_some_and(|most| share.count.running >= most) {
                return None;
            }
            let has_room = |skill: &Arc<str>| {
                bounds.skill(skill).is_none_or(|most| {
                    self.skills.get(skill).map_or(0, |count| count.running) < most
                })
            };
            let first = share
                .lanes
                .iter()
                .filter(|(skill, _)| has_room(skill))
                .filter_map(|(skill, lane)| Some((lane.front()?.0, skill)))
                .min()?;
            Some((Arc::clone(tenant), Arc::clone(first.1), weight))
        })?;
        let whose = Whose { tenant, skill };
        let share = self.shares.get_mut(&whose.tenant)?;
        let (_, waiter) = share.lanes.get_mut(&whose.skill)?.pop_front()?;
        // It is put where it now belongs, and taken out again where nobody of it waits.
        self.charge(&whose.tenant, weight);
        self.count_start(&whose);
        self.waits_no_more(&whose);
        Some((waiter, whose))
    }

    /// Takes out the last that came of the tenant that has most waiting, in proportion to its
    /// weight, where that is not this tenant: to make room for one of its.
    pub fn push_out(&mut self, newcomer: &str, bounds: &impl Bounds) -> Option<W> {
        let length = |tenant: &str, waiting: u32| {
            u64::from(waiting) * COST / u64::from(bounds.tenant(tenant).1.max(1))
        };
        let (longest, tenant) = self
            .order
            .iter()
            .map(|(_, tenant)| (length(tenant, self.waiting_of_tenant(tenant)), tenant))
            .max()?;
        // As it would be once the newcomer waits, too.
        let own = length(newcomer, self.waiting_of_tenant(newcomer) + 1);
        if **tenant == *newcomer || longest <= own {
            return None;
        }
        let tenant = Arc::clone(tenant);
        let share = self.shares.get_mut(&tenant)?;
        let last = share
            .lanes
            .iter()
            .filter_map(|(skill, lane)| Some((lane.back()?.0, skill)))
            .max()?;
        let skill = Arc::clone(last.1);
        let (_, waiter) = share.lanes.get_mut(&skill)?.pop_back()?;
        self.waits_no_more(&Whose { tenant, skill });
        Some(waiter)
    }

    /// One has ended.
    pub fn finish(&mut self, whose: Option<&Whose>) {
        self.running = self.running.saturating_sub(1);
        if let Some(whose) = whose {
            if let Some(share) = self.shares.get_mut(&whose.tenant) {
                share.count.running = share.count.running.saturating_sub(1);
            }
            if let Some(count) = self.skills.get_mut(&whose.skill) {
                count.running = count.running.saturating_sub(1);
                if count.running == 0 && count.waiting == 0 {
                    self.skills.remove(&whose.skill);
                }
            }
        }
        self.forget();
    }

    /// Forgets what tenants have had, where that no longer means anything.
    fn forget(&mut self) {
        if self.waiting == 0 && self.running == 0 {
            if !self.shares.is_empty() {
                self.shares.clear();
            }
            self.clock = 0;
            self.remembered = 64;
        } else if self.shares.len() > self.remembered {
            let clock = self.clock;
            let is_active = |share: &Share<W>| share.count.running > 0 || share.count.waiting > 0;
            self.shares
                .retain(|_, share| is_active(share) || share.had > clock);
            if self.shares.len() > MAX_REMEMBERED {
                self.shares.retain(|_, share| is_active(share));
            }
            self.remembered = (2 * self.shares.len()).max(64);
        }
    }
}

#[cfg(test)]
mod tests;
