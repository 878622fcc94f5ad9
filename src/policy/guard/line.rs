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
pub(super) trait Bounds {
    /// Of all.
    fn all(&self) -> u32;
    /// Of a tenant, where that is bounded, and its weight: at least 1.
    fn tenant(&self, tenant: &str) -> (Option<u32>, u32);
    /// Of a skill, where that is bounded.
    fn skill(&self, skill: &str) -> Option<u32>;
}

/// Whoever runs and whoever waits, in one place.
#[derive(Debug)]
pub(super) struct Line<W> {
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
pub(super) struct Whose {
    pub tenant: Arc<str>,
    pub skill: Arc<str>,
}

/// A place among those that wait.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
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

    /// Starts one, where nobody waits and there is room. `None`: it has to wait. Where neither its
    /// tenant nor its skill is bounded it is counted among all only, and `Some(None)` is the answer.
    pub fn start(
        &mut self,
        tenant: &str,
        skill: &str,
        bounds: &impl Bounds,
    ) -> Option<Option<Whose>> {
        if self.waiting > 0 || self.running >= bounds.all() {
            return None;
        }
        let (of_tenant, of_skill) = (bounds.tenant(tenant).0, bounds.skill(skill));
        if of_tenant.is_none() && of_skill.is_none() {
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
        Some(Some(whose))
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
        let had = share.had;
        self.clock = self.clock.max(had);
        self.order.remove(&(had, Arc::clone(&whose.tenant)));
        share.had = had.saturating_add(COST / u64::from(weight.max(1)));
        // It is put back where it now belongs, and taken out again where nobody of it waits.
        self.order.insert((share.had, Arc::clone(&whose.tenant)));
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// At once: of all; of each tenant; of each skill. Weights by tenant, 1 for others.
    struct Fixed(
        u32,
        Option<u32>,
        Option<u32>,
        &'static [(&'static str, u32)],
    );

    impl Bounds for Fixed {
        fn all(&self) -> u32 {
            self.0
        }

        fn tenant(&self, tenant: &str) -> (Option<u32>, u32) {
            let weight = self.3.iter().find(|(name, _)| *name == tenant);
            (self.1, weight.map_or(1, |(_, weight)| *weight))
        }

        fn skill(&self, _: &str) -> Option<u32> {
            self.2
        }
    }

    fn all_wait(line: &mut Line<u32>, bounds: &Fixed, tenants: &[(&str, u32)]) {
        for _ in 0..bounds.0 {
            assert!(line.start("first", "s", bounds).is_some());
        }
        for (tenant, count) in tenants {
            for number in 0..*count {
                assert!(line.start(tenant, "s", bounds).is_none());
                line.wait(tenant, "s", number);
            }
        }
    }

    /// Ends one and starts the next, as often as it goes.
    fn drain(line: &mut Line<u32>, bounds: &Fixed) -> Vec<(String, u32)> {
        let mut order = Vec::new();
        line.finish(None);
        while let Some((number, whose)) = line.next(bounds) {
            order.push((whose.tenant.to_string(), number));
            line.finish(Some(&whose));
        }
        order
    }

    #[test]
    fn tenants_take_turns_and_each_goes_in_order() {
        let bounds = Fixed(1, None, None, &[]);
        let mut line = Line::default();
        all_wait(&mut line, &bounds, &[("a", 4), ("b", 2)]);
        let order = drain(&mut line, &bounds);
        let order: Vec<_> = order.iter().map(|(t, n)| (t.as_str(), *n)).collect();
        assert_eq!(
            order,
            [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("a", 3)]
        );
        assert!(line.shares.is_empty() && line.skills.is_empty());
    }

    #[test]
    fn a_weight_of_three_is_three_times_as_much() {
        let bounds = Fixed(1, None, None, &[("a", 3)]);
        let mut line = Line::default();
        all_wait(&mut line, &bounds, &[("a", 30), ("b", 30)]);
        let order = drain(&mut line, &bounds);
        let of_a = order[..20].iter().filter(|(tenant, _)| tenant == "a");
        assert_eq!(of_a.count(), 15);
    }

    #[test]
    fn who_is_held_back_by_its_own_bound_holds_back_nobody() {
        let bounds = Fixed(4, Some(1), None, &[]);
        let mut line = Line::default();
        assert!(line.start("a", "s", &bounds).is_some());
        assert!(line.start("a", "s", &bounds).is_none());
        line.wait("a", "s", 0);
        assert!(line.next(&bounds).is_none());
        line.wait("b", "s", 1);
        let (number, whose) = line.next(&bounds).unwrap();
        assert_eq!((number, &*whose.tenant), (1, "b"));
        // The same of a skill, within one tenant.
        let bounds = Fixed(4, None, Some(1), &[]);
        let mut line = Line::default();
        assert!(line.start("a", "s", &bounds).is_some());
        line.wait("a", "s", 0);
        line.wait("a", "t", 1);
        assert_eq!(line.next(&bounds).unwrap().0, 1);
        assert!(line.next(&bounds).is_none());
    }

    #[test]
    fn who_leaves_is_not_called() {
        let bounds = Fixed(1, None, None, &[]);
        let mut line = Line::default();
        all_wait(&mut line, &bounds, &[("a", 2)]);
        let ticket = line.wait("a", "s", 7);
        assert_eq!(line.leave(&ticket), Some(7));
        assert_eq!(line.leave(&ticket), None);
        assert_eq!(drain(&mut line, &bounds).len(), 2);
    }

    #[test]
    fn the_longest_makes_room_for_others_and_not_for_itself() {
        let bounds = Fixed(1, None, None, &[]);
        let mut line = Line::default();
        all_wait(&mut line, &bounds, &[("a", 5), ("b", 1)]);
        assert_eq!(line.push_out("a", &bounds), None);
        assert_eq!(line.push_out("c", &bounds), Some(4), "the last of a's");
        assert_eq!(line.push_out("b", &bounds), Some(3));
        line.wait("b", "s", 1);
        line.wait("b", "s", 2);
        assert_eq!(line.push_out("b", &bounds), None, "as long as the longest");
        assert_eq!(line.waiting(), 6);
    }

    /// One floods, nine send one each time the last is answered; however many may run at once.
    #[test]
    fn a_flood_takes_no_more_than_its_share() {
        for at_once in [1, 2, 4] {
            let bounds = Fixed(at_once, None, None, &[]);
            let mut line = Line::default();
            let names: Vec<String> = (0..9).map(|number| format!("t{number}")).collect();
            let mut served: HashMap<String, u32> = HashMap::new();
            let mut running: VecDeque<Option<Whose>> = VecDeque::new();
            for number in 0..1_000 {
                match line.start("flood", "s", &bounds) {
                    Some(whose) => running.push_back(whose),
                    None => drop(line.wait("flood", "s", number)),
                }
            }
            for name in &names {
                line.wait(name, "s", 0);
            }
            for _ in 0..1_000 {
                let ended = running.pop_front().unwrap();
                line.finish(ended.as_ref());
                if let Some(whose) = ended.filter(|whose| &*whose.tenant != "flood") {
                    line.wait(&whose.tenant, "s", 0);
                }
                let (_, whose) = line.next(&bounds).unwrap();
                *served.entry(whose.tenant.to_string()).or_default() += 1;
                running.push_back(Some(whose));
            }
            for name in &names {
                let had = served[name];
                assert!((90..=105).contains(&had), "{at_once}: {name} had {had}");
            }
        }
    }

    #[test]
    fn what_is_remembered_of_tenants_is_bounded() {
        let bounds = Fixed(1, None, None, &[]);
        let mut line = Line::default();
        assert!(line.start("a", "s", &bounds).is_some());
        line.wait("a", "s", 0);
        line.wait("a", "s", 0);
        line.finish(None);
        let mut last = line.next(&bounds).unwrap().1;
        for number in 0..5 * MAX_REMEMBERED {
            line.wait(&number.to_string(), "s", 0);
            line.finish(Some(&last));
            last = line.next(&bounds).unwrap().1;
        }
        assert!(line.shares.len() <= 2 * MAX_REMEMBERED);
    }

    proptest! {
        /// Whatever comes and goes: no bound is passed, nobody who could start is left waiting, and of
        /// two tenants that always wait neither is ever more than one start ahead of its share.
        #[test]
        fn bounds_hold_and_shares_are_fair(
            steps in prop::collection::vec((0_usize..4, 0_usize..3, 0_u8..3), 1..300),
            all in 1_u32..5,
            of_tenant in prop::option::of(1_u32..4),
            of_skill in prop::option::of(1_u32..4),
        ) {
            const TENANTS: [&str; 4] = ["a", "b", "c", "d"];
            const SKILLS: [&str; 3] = ["s", "t", "u"];
            let bounds = Fixed(all, of_tenant, of_skill, &[("a", 2)]);
            let mut line = Line::default();
            let mut running: Vec<(usize, usize, Option<Whose>)> = Vec::new();
            let mut waiting: Vec<Ticket> = Vec::new();
            let place = |names: &[&str], name: &str| {
                names.iter().position(|other| *other == name).unwrap()
            };
            for (tenant, skill, what) in steps {
                match what {
                    0 | 1 => match line.start(TENANTS[tenant], SKILLS[skill], &bounds) {
                        Some(whose) => running.push((tenant, skill, whose)),
                        None => waiting.push(line.wait(TENANTS[tenant], SKILLS[skill], 0)),
                    },
                    _ if tenant == 0 && !waiting.is_empty() => {
                        let ticket = waiting.remove(skill % waiting.len());
                        prop_assert!(line.leave(&ticket).is_some());
                    }
                    _ if !running.is_empty() => {
                        let (_, _, whose) = running.remove(skill % running.len());
                        line.finish(whose.as_ref());
                    }
                    _ => {}
                }
                while let Some((_, whose)) = line.next(&bounds) {
                    let tenant = place(&TENANTS, &whose.tenant);
                    let skill = place(&SKILLS, &whose.skill);
                    let at = waiting.iter().position(|ticket| ticket.whose == whose).unwrap();
                    waiting.remove(at);
                    running.push((tenant, skill, Some(whose)));
                }
                prop_assert!(running.len() <= all as usize);
                let of = |tenant: usize| running.iter().filter(|one| one.0 == tenant).count();
                let on = |skill: usize| running.iter().filter(|one| one.1 == skill).count();
                for tenant in 0..4 {
                    prop_assert!(of_tenant.is_none_or(|most| of(tenant) <= most as usize));
                }
                for skill in 0..3 {
                    prop_assert!(of_skill.is_none_or(|most| on(skill) <= most as usize));
                }
                prop_assert_eq!(line.waiting() as usize, waiting.len());
                prop_assert_eq!(line.running() as usize, running.len());
                for Ticket { whose, .. } in &waiting {
                    let free = running.len() < all as usize
                        && of_tenant.is_none_or(|most| of(place(&TENANTS, &whose.tenant)) < most as usize)
                        && of_skill.is_none_or(|most| on(place(&SKILLS, &whose.skill)) < most as usize);
                    prop_assert!(!free, "{whose:?} could run");
                }
            }
        }

        /// Of tenants that always have something waiting, each gets its weight's part to within one
        /// start for each other tenant.
        #[test]
        fn shares_follow_weights(rounds in 10_u32..400, all in 1_u32..4) {
            let bounds = Fixed(all, None, None, &[("a", 4), ("b", 2)]);
            let mut line = Line::default();
            for _ in 0..all {
                line.start("x", "s", &bounds);
            }
            for name in ["a", "b", "c"] {
                for _ in 0..rounds {
                    line.wait(name, "s", 0);
                }
            }
            let mut had: HashMap<String, f64> = HashMap::new();
            let mut last = None;
            for _ in 0..rounds {
                line.finish(last.as_ref());
                let whose = line.next(&bounds).unwrap().1;
                *had.entry(whose.tenant.to_string()).or_default() += 1.0;
                last = Some(whose);
            }
            for (name, weight) in [("a", 4.0), ("b", 2.0), ("c", 1.0)] {
                let share = f64::from(rounds) * weight / 7.0;
                let had = had.get(name).copied().unwrap_or_default();
                prop_assert!((had - share).abs() <= 3.0, "{name} had {had} of {share}");
            }
        }
    }
}
