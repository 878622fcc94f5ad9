//! How many may start in a time.

use std::collections::{BTreeMap, HashMap};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use chrono::Utc;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::execution::{Cause, Failure, Rejection};
use crate::limits::display_duration;
use crate::policy::{CurrentPolicy, Policy, Rate, Rates};

/// How many tenants, or skills, without an entry of their own have counts of their own. What comes
/// beyond shares one.
const MAX_KNOWN: usize = 10_000;

/// The largest burst.
const MOST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999);

/// Lets no more start in a time than the policy says: of all, of a tenant, of a skill. A request is charged
/// to all of them or to none: what one refuses is given back to the others, and so is what then finds no
/// place or an open circuit.
pub(super) struct RateLimits {
    pub policy: CurrentPolicy,
}

/// The limiters that hold now, and the turn of whoever makes them anew.
#[derive(Default)]
pub(in crate::policy) struct Limits {
    limiters: ArcSwapOption<Limiters>,
    renewing: Mutex<()>,
}

/// The limiters that a policy asks for.
struct Limiters {
    ticks: Ticks,
    policy: Option<Arc<Policy>>,
    general: Arc<Set>,
    tenants: Scope,
    skills: Scope,
}

/// Those of tenants, or of skills.
struct Scope {
    named: HashMap<String, Arc<Set>>,
    each: Arc<Each>,
}

/// For whoever has no entry of its own.
struct Each {
    rates: Rates,
    table: &'static str,
    known: Mutex<HashMap<String, Known>>,
    /// Of those that there is no room for.
    others: Arc<Set>,
}

struct Known {
    set: Arc<Set>,
    used: Instant,
}

/// The limiters that one request meets in one scope.
struct Set {
    rates: Rates,
    limiters: Vec<Limiter>,
    /// After this time without use, it is as if it were new.
    recovery: Duration,
}

/// One rate, and where it stands in the policy.
struct Limiter {
    limiter: RateLimiter<NotKeyed, Charged, Ticks, NoOpMiddleware<Nanos>>,
    charged: Charged,
    /// What one start is charged: the time in which it comes back.
    each: Duration,
    rule: String,
}

/// Until when what has started is charged, in nanoseconds; 0 where nothing has.
/// Every clone is the same.
#[derive(Debug, Default, Clone)]
struct Charged(Arc<AtomicU64>);

impl StateStore for Charged {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut before = self.0.load(Ordering::Acquire);
        loop {
            let (decided, after) = decide(NonZeroU64::new(before).map(|until| until.get().into()))?;
            let after = after.into();
            match self
                .0
                .compare_exchange_weak(before, after, Ordering::Release, Ordering::Acquire)
            {
                Ok(_) => return Ok(decided),
                Err(now) => before = now,
            }
        }
    }
}

impl Charged {
    /// Gives so much of it back. Whatever was charged meanwhile stays.
    fn give_back(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let less = |until: u64| Some(until.saturating_sub(time));
        let _ = self.0.try_update(Ordering::AcqRel, Ordering::Acquire, less);
    }
}

/// Tokio's clock, which tests can pause.
#[derive(Debug, Clone)]
struct Ticks(Instant);

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Set {
    /// `own` stands in the table `place`; what it does not say, `each` does, in `each_place`.
    fn new((own, place): (Rates, &str), (each, each_place): (Rates, &str), ticks: &Ticks) -> Self {
        let rates = own.or(&each);
        let mut limiters = Vec::new();
        let mut recovery = Duration::ZERO;
        for (rate, own, key, period) in [
            (rates.per_second, own.per_second, "per_second", 1),
            (rates.per_minute, own.per_minute, "per_minute", 60),
            (rates.per_hour, own.per_hour, "per_hour", 3_600),
        ] {
            let Some(Rate { at_most, burst }) = rate else {
                continue;
            };
            let place = if own.is_some() { place } else { each_place };
            // A policy that was not parsed may say more.
            let burst = burst.min(MOST);
            let each = Duration::from_secs(period) / at_most.get();
            // Never nothing: a second has more nanoseconds than a rate can have starts.
            let each = each.max(Duration::from_nanos(1));
            let Some(quota) = Quota::with_period(each) else {
                continue;
            };
            let quota = quota.allow_burst(burst);
            recovery = recovery.max(quota.burst_size_replenished_in());
            let charged = Charged::default();
            limiters.push(Limiter {
                limiter: RateLimiter::new(quota, charged.clone(), ticks.clone()),
                charged,
                each,
                rule: format!("{place}.rates.{key}"),
            });
        }
        Set {
            rates,
            limiters,
            recovery,
        }
    }

    /// Charges one start to all of them, or to none.
    ///
    /// # Errors
    /// How long to wait, and the rule that says so.
    fn charge(&self, ticks: &Ticks) -> Result<(), (Duration, String)> {
        for (index, limiter) in self.limiters.iter().enumerate() {
            if let Err(not_until) = limiter.limiter.check() {
                for charged in &self.limiters[..index] {
                    charged.charged.give_back(charged.each);
                }
                let wait = not_until.wait_time_from(ticks.now());
                return Err((wait, limiter.rule.clone()));
            }
        }
        Ok(())
    }

    /// Gives back what one start was charged so long ago, as far as that has not come back by itself.
    fn give_back(&self, since: Duration) {
        for limiter in &self.limiters {
            let left = limiter.each.saturating_sub(since);
            if !left.is_zero() {
                limiter.charged.give_back(left);
            }
        }
    }
}

impl Each {
    fn set(&self, name: &str, ticks: &Ticks, now: Instant) -> Option<Arc<Set>> {
        if self.rates.is_empty() {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = known.get_mut(name) {
            one.used = now;
            return Some(Arc::clone(&one.set));
        }
        if known.len() >= MAX_KNOWN {
            known.retain(|_, one| now - one.used < one.set.recovery);
            if known.len() >= MAX_KNOWN {
                return Some(Arc::clone(&self.others));
            }
        }
        let set = Arc::new(Set::new(
            (self.rates, self.table),
            (self.rates, self.table),
            ticks,
        ));
        let one = Known {
            set: Arc::clone(&set),
            used: now,
        };
        known.insert(name.to_owned(), one);
        Some(set)
    }
}

impl Scope {
    /// Those of before are kept where what they count by is the same.
    fn renewed<'p>(
        before: Option<&Scope>,
        tables: (&'static str, &'static str),
        entries: impl Iterator<Item = (&'p String, Rates)>,
        each: Rates,
        ticks: &Ticks,
    ) -> Self {
        let (table, each_table) = tables;
        let named = entries.filter(|(_, rates)| !rates.is_empty());
        let named = named.map(|(name, rates)| {
            let kept = before.and_then(|before| before.named.get(name));
            let set = match kept {
                Some(set) if set.rates == rates.or(&each) => Arc::clone(set),
                _ => {
                    let place = format!("{table}.{name}");
                    Arc::new(Set::new((rates, &place), (each, each_table), ticks))
                }
            };
            (name.clone(), set)
        });
        Scope {
            named: named.collect(),
            each: match before {
                Some(before) if before.each.rates == each => Arc::clone(&before.each),
                _ => Arc::new(Each {
                    rates: each,
                    table: each_table,
                    known: Mutex::default(),
                    others: Arc::new(Set::new((each, each_table), (each, each_table), ticks)),
                }),
            },
        }
    }

    /// What a name is charged to, where it is to anything.
    fn with<T>(
        &self,
        name: &str,
        ticks: &Ticks,
        now: Instant,
        work: impl FnOnce(&Set) -> T,
    ) -> Option<T> {
        match self.named.get(name) {
            Some(set) => Some(work(set)),
            None => self.each.set(name, ticks, now).map(|set| work(&set)),
        }
    }

    fn charge(&self, name: &str, ticks: &Ticks, now: Instant) -> Result<(), (Duration, String)> {
        self.with(name, ticks, now, |set| set.charge(ticks))
            .unwrap_or(Ok(()))
    }

    fn give_back(&self, name: &str, ticks: &Ticks, charged: Instant) {
        let now = Instant::now();
        self.with(name, ticks, now, |set| set.give_back(now - charged));
    }

    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.each.rates.is_empty()
    }
}

impl Limiters {
    fn renewed(before: Option<&Limiters>, policy: Option<Arc<Policy>>) -> Self {
        let ticks = match before {
            Some(before) => before.ticks.clone(),
            None => Ticks(Instant::now()),
        };
        let none = Policy::default();
        let said = policy.as_deref().unwrap_or(&none);
        let general = said.general.rates;
        let rates = |rules: &BTreeMap<String, crate::policy::Rules>| {
            let rates = rules
                .iter()
                .map(|(name, rules)| (name.clone(), rules.rates));
            rates.collect::<Vec<_>>()
        };
        let tenants = rates(&said.tenants);
        Limiters {
            general: match before {
                Some(before) if before.general.rates == general => Arc::clone(&before.general),
                _ => {
                    let said = (general, "general");
                    Arc::new(Set::new(said, said, &ticks))
                }
            },
            tenants: Scope::renewed(
                before.map(|before| &before.tenants),
                ("tenants", "each_tenant"),
                tenants.iter().map(|(name, rates)| (name, *rates)),
                said.each_tenant.rates,
                &ticks,
            ),
            skills: Scope::renewed(
                before.map(|before| &before.skills),
                ("skills", "each_skill"),
                said.skills.iter().map(|(name, skill)| (name, skill.rates)),
                said.each_skill.rates,
                &ticks,
            ),
            ticks,
            policy,
        }
    }

    fn go_by(&self, policy: Option<&Arc<Policy>>) -> bool {
        match (&self.policy, policy) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        }
    }

    /// Charges one start to the tenant, the skill and all together, or to none of them. Those that others
    /// share come last, so that not even for a moment do they lose anything to a tenant past its own.
    ///
    /// # Errors
    /// How long to wait, and the rule that says so.
    fn charge(&self, tenant: &str, skill: &str, now: Instant) -> Result<(), (Duration, String)> {
        self.tenants.charge(tenant, &self.ticks, now)?;
        let shared = self.skills.charge(skill, &self.ticks, now);
        let shared = shared.and_then(|()| {
            let charged = self.general.charge(&self.ticks);
            charged.inspect_err(|_| self.skills.give_back(skill, &self.ticks, now))
        });
        shared.inspect_err(|_| self.tenants.give_back(tenant, &self.ticks, now))
    }

    fn give_back(&self, tenant: &str, skill: &str, charged: Instant) {
        self.tenants.give_back(tenant, &self.ticks, charged);
        self.skills.give_back(skill, &self.ticks, charged);
        self.general.give_back(charged.elapsed());
    }

    fn is_empty(&self) -> bool {
        self.general.limiters.is_empty() && self.tenants.is_empty() && self.skills.is_empty()
    }
}

/// Does something with the limiters of the policy that holds now.
fn with_limiters<T>(policy: &CurrentPolicy, work: impl FnOnce(&Limiters) -> T) -> T {
    let Limits { limiters, renewing } = &policy.counted().limiters;
    let now = policy.load();
    if let Some(limiters) = &*limiters.load()
        && limiters.go_by(now.as_ref())
    {
        return work(limiters);
    }
    let renewed = {
        let _one = renewing.lock().unwrap_or_else(PoisonError::into_inner);
        match limiters.load_full() {
            Some(kept) if kept.go_by(now.as_ref()) => kept,
            before => {
                let renewed = Limiters::renewed(before.as_deref(), now.clone());
                let renewed = Arc::new(renewed);
                limiters.store(Some(Arc::clone(&renewed)));
                renewed
            }
        }
    };
    work(&renewed)
}

/// Charges a tenant for a request that comes to nothing, such as one for a skill that is not there: it is
/// looked up and written down all the same.
///
/// # Errors
/// Where its rate is used up.
pub(super) fn charge_for_nothing(
    policy: &CurrentPolicy,
    tenant: Option<&str>,
) -> Result<(), Box<Failure>> {
    let charged = with_limiters(policy, |limiters| {
        let tenant = tenant.unwrap_or_default();
        limiters
            .tenants
            .charge(tenant, &limiters.ticks, Instant::now())
    });
    charged.map_err(|(wait, rule)| Box::new(rejection(wait, rule)))
}

impl RateLimits {
    /// Charges for one start.
    ///
    /// # Errors
    /// How long to wait, and the rule that says so.
    pub fn charge(
        &self,
        tenant: &str,
        skill: &str,
        now: Instant,
    ) -> Result<Charge, (Duration, String)> {
        with_limiters(&self.policy, |limiters| {
            if limiters.is_empty() {
                return Ok(Charge::Nothing);
            }
            limiters.charge(tenant, skill, now)?;
            Ok(Charge::At(now))
        })
    }

    /// Gives back what was charged for one that does not start.
    pub fn give_back(&self, charge: &Charge, tenant: &str, skill: &str) {
        if let Charge::At(since) = charge {
            with_limiters(&self.policy, |limiters| {
                limiters.give_back(tenant, skill, *since);
            });
        }
    }
}

/// Whether something was charged, and when.
#[derive(Debug)]
pub(super) enum Charge {
    Nothing,
    At(Instant),
}

pub(super) fn rejection(wait: Duration, rule: String) -> Failure {
    let cause = Cause::Rejected {
        reason: Rejection::Rate,
        retry_at: Some(Utc::now() + wait),
    };
    // Rounded up, so that it is enough.
    let shown = match wait.as_secs() {
        0 => Duration::from_millis(u64::from(wait.subsec_millis()) + 1),
        seconds => Duration::from_secs(seconds + 1),
    };
    let message = format!(
        "not admitted: as many have started as `{rule}` allows; the next may in {}",
        display_duration(shown)
    );
    Failure::new(cause, message)
        .rule(rule)
        .hint("try again then")
}

#[cfg(test)]
mod tests;
