//! Whose a scratch directory is, how many of whose may wait to be removed, and whose turn it is.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use crate::turns::Party;

/// Directories of one skill for one tenant that may wait to be removed. While there are more, it gets no
/// new one: whoever fills them faster than they can be emptied waits for that, within its own time.
pub(super) const MAX_OF_ONE: usize = 64;
/// Directories of all skills for one tenant.
const MAX_OF_TENANT: usize = 128;
/// Directories of all. Who has none waiting gets one all the same, here and above.
const MAX_IN_ALL: usize = 4_096;

/// Whose a scratch directory is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::sandbox::capability::directory) struct Owner {
    tenant: Option<Arc<str>>,
    skill: Arc<str>,
}

impl Owner {
    pub fn new(tenant: Option<&str>, skill: &str) -> Self {
        Owner {
            tenant: tenant.map(Into::into),
            skill: skill.into(),
        }
    }

    fn party(&self) -> Party {
        Party::of(self.tenant.as_deref(), &self.skill)
    }
}

/// How many of whose wait to be removed, or are being removed.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    of_owners: HashMap<Owner, usize>,
    of_parties: HashMap<Party, usize>,
    all: usize,
}

impl Waiting {
    /// Whether this one may have another directory.
    pub fn has_room_for(&self, owner: &Owner) -> bool {
        let Some(own) = self.of_owners.get(owner) else {
            return true;
        };
        let of_party = self.of_parties.get(&owner.party()).copied();
        *own < MAX_OF_ONE && of_party.unwrap_or(0) < MAX_OF_TENANT && self.all < MAX_IN_ALL
    }

    pub fn is_empty(&self) -> bool {
        self.all == 0
    }

    pub fn add(&mut self, owner: &Owner) {
        *self.of_owners.entry(owner.clone()).or_default() += 1;
        *self.of_parties.entry(owner.party()).or_default() += 1;
        self.all += 1;
    }

    pub fn remove(&mut self, owner: &Owner) {
        one_less(&mut self.of_owners, owner);
        one_less(&mut self.of_parties, &owner.party());
        self.all = self.all.saturating_sub(1);
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// What waits, in turns: of tenants, and of skills that run for none; of one tenant's skills; and of one
/// skill's in the order in which they came.
pub(super) struct Turns<T>(Ring<Party, Ring<Arc<str>, VecDeque<T>>>);

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Turns(Ring::default())
    }
}

impl<T> Turns<T> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, owner: Owner, one: T) {
        self.of(owner).push_back(one);
    }

    /// Puts back what is to go on at its owner's next turn.
    pub fn put_back(&mut self, owner: Owner, one: T) {
        self.of(owner).push_front(one);
    }

    /// The one whose turn it is.
    pub fn next(&mut self) -> Option<T> {
        let of_skill = |skill: &mut VecDeque<T>| (skill.pop_front(), skill.is_empty());
        let of_party = |party: &mut Ring<_, _>| (party.turn(of_skill).flatten(), party.is_empty());
        self.0.turn(of_party).flatten()
    }

    fn of(&mut self, owner: Owner) -> &mut VecDeque<T> {
        self.0.of(owner.party()).of(owner.skill)
    }
}

/// Something for each of some who take turns.
struct Ring<K, V> {
    order: VecDeque<K>,
    of: HashMap<K, V>,
}

impl<K, V> Default for Ring<K, V> {
    fn default() -> Self {
        Ring {
            order: VecDeque::new(),
            of: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Default> Ring<K, V> {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What is this one's. Whoever is new stands last.
    fn of(&mut self, key: K) -> &mut V {
        if !self.of.contains_key(&key) {
            self.order.push_back(key.clone());
        }
        self.of.entry(key).or_default()
    }

    /// Takes from the one whose turn it is, which then stands last, or nowhere where nothing is left.
    fn turn<R>(&mut self, take: impl FnOnce(&mut V) -> (R, bool)) -> Option<R> {
        let key = self.order.pop_front()?;
        let (taken, is_empty) = take(self.of.get_mut(&key)?);
        if is_empty {
            self.of.remove(&key);
        } else {
            self.order.push_back(key);
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_its_turn() {
        let mut turns = Turns::default();
        let acme = Owner::new(Some("acme"), "one");
        let other = Owner::new(Some("acme"), "other");
        let mill = Owner::new(Some("mill"), "one");
        let nobody = Owner::new(None, "acme");
        for (owner, name) in [
            (&acme, "acme 1"),
            (&acme, "acme 2"),
            (&acme, "acme 3"),
            (&other, "acme's other"),
            (&mill, "mill"),
            (&nobody, "nobody's"),
        ] {
            turns.add(owner.clone(), name);
        }
        let first = turns.next().unwrap();
        assert_eq!(first, "acme 1");
        // It is large, and goes on when it is its owner's turn again, before what came after it.
        turns.put_back(acme, "acme 1, again");
        let order: Vec<_> = std::iter::from_fn(|| turns.next()).collect();
        let expected = [
            "mill",
            "nobody's",
            "acme's other",
            "acme 1, again",
            "acme 2",
            "acme 3",
        ];
        assert_eq!(order, expected);
        assert!(turns.is_empty() && turns.next().is_none());
    }

    /// A giant is gone on with again and again, and meanwhile all others come to their turn.
    #[test]
    fn a_giant_holds_up_nobody() {
        let mut turns = Turns::default();
        let giant = Owner::new(Some("giant"), "one");
        turns.add(giant.clone(), 0);
        let owners: Vec<_> = (1..=5)
            .map(|number| Owner::new(Some(&format!("tenant {number}")), "one"))
            .collect();
        for (owner, number) in owners.iter().zip(1..) {
            turns.add(owner.clone(), number);
        }
        let mut order = Vec::new();
        for _ in 0..8 {
            let one = turns.next().unwrap();
            if one == 0 {
                turns.put_back(giant.clone(), 0);
            }
            order.push(one);
            if order.len() == 6 {
                // Who is new waits for the giant's turn, and for no more of it.
                turns.add(owners[0].clone(), 1);
            }
        }
        assert_eq!(order, [0, 1, 2, 3, 4, 5, 0, 1]);
    }

    #[test]
    fn a_bound_is_its_owners_own() {
        let acme = Owner::new(Some("acme"), "one");
        let acmes_other = Owner::new(Some("acme"), "other");
        let mill = Owner::new(Some("mill"), "one");
        let (nobodys, nobodys_other) = (Owner::new(None, "one"), Owner::new(None, "other"));
        let mut waiting = Waiting::default();
        for _ in 0..MAX_OF_ONE {
            assert!(waiting.has_room_for(&acme));
            waiting.add(&acme);
        }
        for _ in 0..MAX_OF_ONE {
            assert!(waiting.has_room_for(&nobodys));
            waiting.add(&nobodys);
        }
        assert!(!waiting.has_room_for(&acme) && !waiting.has_room_for(&nobodys));
        for owner in [&acmes_other, &mill, &nobodys_other] {
            waiting.add(owner);
            assert!(waiting.has_room_for(owner), "{owner:?}");
            waiting.remove(owner);
        }
        waiting.remove(&acme);
        assert!(waiting.has_room_for(&acme));
    }

    #[test]
    fn who_has_none_gets_one_whatever_there_is() {
        let mut waiting = Waiting::default();
        let skill = |number: usize| Owner::new(Some("acme"), &format!("skill {number}"));
        for number in 0..MAX_OF_TENANT {
            waiting.add(&skill(number));
        }
        // The tenant has all that it may have, and each of its skills some of that.
        assert!(!waiting.has_room_for(&skill(0)));
        assert!(waiting.has_room_for(&skill(MAX_OF_TENANT)));
        let tenant = |number: usize| Owner::new(Some(&format!("tenant {number}")), "one");
        for number in 0..MAX_IN_ALL {
            waiting.add(&tenant(number));
        }
        assert!(!waiting.has_room_for(&tenant(0)));
        assert!(waiting.has_room_for(&tenant(MAX_IN_ALL)));
        // Nothing is kept of those who have none.
        for number in 0..MAX_OF_TENANT {
            waiting.remove(&skill(number));
        }
        for number in 0..MAX_IN_ALL {
            waiting.remove(&tenant(number));
        }
        assert!(waiting.is_empty() && waiting.of_owners.is_empty());
        assert!(waiting.of_parties.is_empty());
    }
}
