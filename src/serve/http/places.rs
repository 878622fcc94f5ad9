//! How many of a kind one may have at once, so that it leaves some to others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What each has taken, up to so many. Cheap to clone; every clone is the same.
pub(super) struct Places<K> {
    most: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// One of them, given back when it is dropped.
pub(super) struct Place<K: Hash + Eq> {
    whose: K,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Hash + Eq + Clone> Places<K> {
    /// Each may have so many.
    pub fn new(most: usize) -> Self {
        Places {
            most,
            taken: Arc::default(),
        }
    }

    /// One more for somebody who has not got them all.
    pub fn take(&self, whose: K) -> Option<Place<K>> {
        let mut taken = lock(&self.taken);
        let count = taken.get(&whose).copied().unwrap_or(0);
        if count >= self.most {
            return None;
        }
        taken.insert(whose.clone(), count + 1);
        drop(taken);
        Some(Place {
            whose,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        let Some(count) = taken.get_mut(&self.whose) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.whose);
        }
    }
}

fn lock<K>(taken: &Mutex<HashMap<K, usize>>) -> MutexGuard<'_, HashMap<K, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_so_many_and_gives_them_back() {
        let places = Places::new(2);
        let first = places.take("a");
        let second = places.take("a");
        assert!(first.is_some() && second.is_some());
        assert!(places.take("a").is_none());
        let other = places.take("b");
        assert!(other.is_some());
        drop(first);
        assert!(places.take("a").is_some());
        drop((second, other));
        assert!(lock(&places.taken).is_empty(), "who has none is forgotten");
    }
}
