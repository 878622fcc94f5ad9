//! A circuit for each key, in bounded memory.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{BreakerSettings, Circuit, CircuitState, Pass};

/// The most circuits that are kept. Past it, those are forgotten of which nothing is known, and then
/// closed ones; where all are open, what is new has none.
pub const MAX_CIRCUITS: usize = 10_000;
/// About how many of them one has, of those that outcomes are told by. Past it, closed ones of its own are forgotten,
/// and no others; where all of its own are open, what is new has none.
pub const MAX_OF_ONE: usize = MAX_CIRCUITS / 10;
/// How many locks they are spread over, so that threads seldom meet.
const SHARDS: usize = 16;

/// A change of a circuit's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// How it stood.
    pub from: CircuitState,
    /// How it stands.
    pub to: CircuitState,
}

/// A circuit for each key that outcomes were recorded for. Goes by tokio's clock, which tests can
/// pause.
pub struct Circuits<K> {
    shards: Vec<Mutex<HashMap<K, Kept>>>,
    hasher: RandomState,
}

struct Kept {
    circuit: Circuit,
    /// How it stood when it was last told.
    told: CircuitState,
    /// Who alone has told of outcomes, as a hash. Where that is more than one, it is nobody's.
    of: Option<u64>,
}

impl<K> Default for Circuits<K> {
    fn default() -> Self {
        Circuits {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl<K: Hash + Eq> Circuits<K> {
    fn shard<Q>(&self, key: &Q) -> MutexGuard<'_, HashMap<K, Kept>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        #[allow(clippy::cast_possible_truncation, reason = "less than SHARDS")]
        let at = (self.hasher.hash_one(key) % SHARDS as u64) as usize;
        let shard = &self.shards[at];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Breaker::allow`](super::Breaker::allow). A circuit that turned half-open by it is told.
    ///
    /// # Errors
    /// How long to wait before asking again.
    pub fn allow<Q>(
        &self,
        key: &Q,
        settings: &BreakerSettings,
        change: &mut Option<Change>,
    ) -> Result<Pass, Duration>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut shard = self.shard(key);
        match shard.get_mut(key) {
            None => Ok(Pass::free()),
            Some(kept) => {
                let now = Instant::now().into_std();
                let allowed = kept.circuit.allow(now, settings);
                *change = kept.change(now);
                allowed
            }
        }
    }

    /// What was tried went well. `by` is who tells it, where many do.
    pub fn record_success<Q>(
        &self,
        key: &Q,
        by: Option<&str>,
        pass: Pass,
        settings: &BreakerSettings,
    ) -> Option<Change>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.record(key, by, settings, |circuit, now| {
            circuit.record_success(pass, now, settings);
        })
    }

    /// What was tried failed. `by` is who tells it, where many do.
    pub fn record_failure<Q>(
        &self,
        key: &Q,
        by: Option<&str>,
        pass: Pass,
        settings: &BreakerSettings,
    ) -> Option<Change>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        // Spread evenly, as a hash of nothing under new keys is.
        let random = RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64;
        self.record(key, by, settings, |circuit, now| {
            circuit.record_failure(pass, now, settings, random);
        })
    }

    /// What was tried came to nothing that says anything.
    pub fn withdraw<Q>(&self, key: &Q, pass: Pass)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some(kept) = self.shard(key).get_mut(key) {
            kept.circuit.withdraw(pass);
        }
    }

    /// How its circuit stands.
    pub fn state<Q>(&self, key: &Q) -> CircuitState
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.shard(key).get(key) {
            None => CircuitState::Closed,
            Some(kept) => kept.circuit.state(Instant::now().into_std()),
        }
    }

    /// How long nothing goes through; zero where something may.
    pub fn pause_left<Q>(&self, key: &Q) -> Duration
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.shard(key).get(key) {
            None => Duration::ZERO,
            Some(kept) => kept.circuit.pause_left(Instant::now().into_std()),
        }
    }

    /// Every circuit that is not idle and closed, in no order.
    pub fn states(&self) -> Vec<(K, CircuitState)>
    where
        K: Clone,
    {
        let now = Instant::now().into_std();
        let mut states = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            states.extend(
                shard
                    .iter()
                    .map(|(key, kept)| (key.clone(), kept.circuit.state(now))),
            );
        }
        states
    }

    fn record<Q>(
        &self,
        key: &Q,
        by: Option<&str>,
        settings: &BreakerSettings,
        record: impl FnOnce(&mut Circuit, std::time::Instant),
    ) -> Option<Change>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let now = Instant::now().into_std();
        let of = by.map(|by| self.hasher.hash_one(by));
        let mut shard = self.shard(key);
        if !shard.contains_key(key) {
            if !has_room(&mut shard, of, now, settings) {
                return None;
            }
            let new = Kept {
                circuit: Circuit::new(now),
                told: CircuitState::Closed,
                of,
            };
            shard.insert(key.to_owned(), new);
        }
        let kept = shard.get_mut(key)?;
        if kept.of != of {
            kept.of = None;
        }
        record(&mut kept.circuit, now);
        kept.change(now)
    }
}

impl Kept {
    fn change(&mut self, now: std::time::Instant) -> Option<Change> {
        let to = self.circuit.state(now);
        let from = std::mem::replace(&mut self.told, to);
        (from != to).then_some(Change { from, to })
    }
}

/// Whether there is room for one more of this one's. It is made of circuits of which nothing is known, then of closed
/// ones: where this one has too many, of its own; and where all together are too many, of whoever has the most, and then
/// of all.
fn has_room<K: Hash + Eq>(
    shard: &mut HashMap<K, Kept>,
    of: Option<u64>,
    now: std::time::Instant,
    settings: &BreakerSettings,
) -> bool {
    type Shard<K> = HashMap<K, Kept>;
    let is_own = |kept: &Kept| of.is_some() && kept.of == of;
    let is_full = |shard: &Shard<K>| shard.len() >= MAX_CIRCUITS / SHARDS;
    let has_too_many = |shard: &Shard<K>| {
        let own = shard.values().filter(|kept| is_own(kept));
        own.count() >= MAX_OF_ONE / SHARDS
    };
    if !is_full(shard) && !has_too_many(shard) {
        return true;
    }
    let is_open = |kept: &Kept| kept.circuit.state(now) != CircuitState::Closed;
    shard.retain(|_, kept| !kept.circuit.is_idle(now, settings));
    if has_too_many(shard) {
        shard.retain(|_, kept| !is_own(kept) || is_open(kept));
    }
    if is_full(shard) {
        let mut of_each: HashMap<Option<u64>, usize> = HashMap::new();
        for kept in shard.values().filter(|kept| !is_open(kept)) {
            *of_each.entry(kept.of).or_default() += 1;
        }
        let most = of_each.into_iter().max_by_key(|(_, closed)| *closed);
        if let Some((whose, _)) = most {
            shard.retain(|_, kept| kept.of != whose || is_open(kept));
        }
    }
    if is_full(shard) {
        shard.retain(|_, kept| is_open(kept));
    }
    !is_full(shard) && !has_too_many(shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_key_has_a_circuit_of_its_own_and_changes_are_told_once() {
        let circuits = Circuits::<String>::default();
        let settings = BreakerSettings {
            minimum: 2,
            probes: 1,
            ..BreakerSettings::default()
        };
        let allow = |key: &str| {
            let mut change = None;
            (circuits.allow(key, &settings, &mut change), change)
        };
        let fail = |key: &str| {
            let pass = allow(key).0.unwrap();
            circuits.record_failure(key, None, pass, &settings)
        };
        assert_eq!(fail("a"), None);
        let opened = fail("a").unwrap();
        assert_eq!(opened.to, CircuitState::Open);
        assert!(allow("a").0.is_err());
        assert!(allow("b").0.is_ok());
        assert_eq!(circuits.state("a"), CircuitState::Open);
        assert_eq!(circuits.state("b"), CircuitState::Closed);
        tokio::time::advance(settings.pause * 2).await;
        let (pass, change) = allow("a");
        assert_eq!(change.map(|change| change.to), Some(CircuitState::HalfOpen));
        let closed = circuits.record_success("a", None, pass.unwrap(), &settings);
        assert_eq!(closed.map(|change| change.to), Some(CircuitState::Closed));
        assert_eq!(allow("a").1, None);
    }

    #[tokio::test(start_paused = true)]
    async fn circuits_that_open_together_are_open_for_different_times() {
        let circuits = Circuits::<String>::default();
        let settings = BreakerSettings {
            minimum: 1,
            ..BreakerSettings::default()
        };
        let mut waits: Vec<_> = (0..20)
            .map(|number| {
                let key = number.to_string();
                let _ = circuits.record_failure(key.as_str(), None, Pass::free(), &settings);
                let allowed = circuits.allow(key.as_str(), &settings, &mut None);
                allowed.unwrap_err()
            })
            .collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 10, "{waits:?}");
        assert!(
            waits
                .iter()
                .all(|wait| { (settings.pause..=settings.pause.mul_f64(1.5)).contains(wait) })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_open_circuits_stay() {
        let circuits = Circuits::<String>::default();
        let settings = BreakerSettings {
            minimum: 1,
            ..BreakerSettings::default()
        };
        let _ = circuits.record_failure("bad", None, Pass::free(), &settings);
        for number in 0..3 * MAX_CIRCUITS {
            let key = number.to_string();
            assert_eq!(
                circuits.record_success(key.as_str(), None, Pass::free(), &settings),
                None
            );
        }
        assert!(circuits.states().len() <= MAX_CIRCUITS);
        assert_eq!(circuits.state("bad"), CircuitState::Open);
        for number in 0..2 * MAX_CIRCUITS {
            let key = format!("bad {number}");
            let _ = circuits.record_failure(key.as_str(), None, Pass::free(), &settings);
        }
        assert!(circuits.states().len() <= MAX_CIRCUITS);
        assert_eq!(circuits.state("bad"), CircuitState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_very_many_forgets_its_own() {
        let circuits = Circuits::<String>::default();
        let settings = BreakerSettings {
            minimum: 2,
            ..BreakerSettings::default()
        };
        let fail = |key: &str, by: &str| {
            let change = circuits.record_failure(key, Some(by), Pass::free(), &settings);
            change.map(|change| change.to)
        };
        assert_eq!(fail("good", "one"), None);
        assert_eq!(fail("shared", "other"), None);
        assert_eq!(fail("shared", "one"), Some(CircuitState::Open));
        // Closed ones, and then ones that are open.
        for times in [1, 2] {
            for number in 0..2 * MAX_CIRCUITS {
                let key = format!("{times} {number}");
                for _ in 0..times {
                    fail(&key, "other");
                }
            }
            assert!(circuits.states().len() <= MAX_OF_ONE + 2);
        }
        let states = circuits.states();
        assert!(states.len() > MAX_OF_ONE / 2, "{}", states.len());
        // A failure of the past is known, and another one opens it.
        assert_eq!(fail("good", "one"), Some(CircuitState::Open));
        assert_eq!(circuits.state("shared"), CircuitState::Open);
        // There is as much room for others as before.
        for number in 0..MAX_OF_ONE / 2 {
            fail(&format!("of one {number}"), "one");
        }
        assert!(circuits.states().len() > states.len() + MAX_OF_ONE / 4);
    }
}
