//! How many may start in a time.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use chrono::Utc;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::execution::{
    Admission, BoxFuture, Cause, Control, Execute, ExecutionRequest, ExecutionResult, Failure,
    HostError, Rejection, Resolution,
};
use crate::policy::{CurrentPolicy, Policy, Rate, Rates};

/// How many tenants, or skills, without an entry of their own have counts of their own. What comes
/// beyond shares one.
const MAX_KNOWN: usize = 10_000;

/// The largest burst.
const MOST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999);

/// Lets no more start in a time than the policy says: of all, of a tenant, of a skill.
pub(super) struct RateLimits {
    pub policy: CurrentPolicy,
    pub inner: Arc<dyn Execute>,
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

/// The limiters that one request meets in one scope, the shortest time first: what is rejected by a
/// longer one has then used up only what comes back soon.
struct Set {
    rates: Rates,
    limiters: Vec<(Limiter, String)>,
    /// After this time without use, it is as if it were new.
    recovery: Duration,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Nanos>>;

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
            let Some(quota) = Quota::with_period(each.max(Duration::from_nanos(1))) else {
                continue;
            };
            let quota = quota.allow_burst(burst);
            recovery = recovery.max(quota.burst_size_replenished_in());
            let limiter = RateLimiter::direct_with_clock(quota, ticks.clone());
            limiters.push((limiter, format!("{place}.rates.{key}")));
        }
        Set {
            rates,
            limiters,
            recovery,
        }
    }

    /// # Errors
    /// How long to wait, and the rule that says so.
    fn check(&self, ticks: &Ticks) -> Result<(), (Duration, String)> {
        for (limiter, rule) in &self.limiters {
            if let Err(not_until) = limiter.check() {
                return Err((not_until.wait_time_from(ticks.now()), rule.clone()));
            }
        }
        Ok(())
    }
}

impl Each {
    fn set(&self, name: &str, ticks: &Ticks) -> Option<Arc<Set>> {
        if self.rates.is_empty() {
            return None;
        }
        let now = Instant::now();
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

    fn check(&self, name: &str, ticks: &Ticks) -> Result<(), (Duration, String)> {
        match self.named.get(name) {
            Some(set) => set.check(ticks),
            None => match self.each.set(name, ticks) {
                Some(set) => set.check(ticks),
                None => Ok(()),
            },
        }
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

    /// # Errors
    /// How long to wait, and the rule that says so.
    fn check(&self, tenant: &str, skill: &str) -> Result<(), (Duration, String)> {
        // The tenant's own first: what it may not start uses up nothing of others.
        self.tenants.check(tenant, &self.ticks)?;
        self.skills.check(skill, &self.ticks)?;
        self.general.check(&self.ticks)
    }
}

impl RateLimits {
    fn check(&self, tenant: &str, skill: &str) -> Result<(), (Duration, String)> {
        let Limits { limiters, renewing } = &self.policy.counted().limiters;
        let policy = self.policy.load();
        if let Some(limiters) = &*limiters.load()
            && limiters.go_by(policy.as_ref())
        {
            return limiters.check(tenant, skill);
        }
        let renewed = {
            let _one = renewing.lock().unwrap_or_else(PoisonError::into_inner);
            match limiters.load_full() {
                Some(now) if now.go_by(policy.as_ref()) => now,
                before => {
                    let renewed = Limiters::renewed(before.as_deref(), policy.clone());
                    let renewed = Arc::new(renewed);
                    limiters.store(Some(Arc::clone(&renewed)));
                    renewed
                }
            }
        };
        renewed.check(tenant, skill)
    }
}

impl Execute for RateLimits {
    fn execute<'a>(
        &'a self,
        mut request: ExecutionRequest,
        mut control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        Box::pin(async move {
            let checked = match control.resolve(&*self.inner, &mut request).await {
                Ok(resolution) => {
                    let tenant = request.tenant.as_deref().unwrap_or_default();
                    self.check(tenant, &resolution.skill.name)
                }
                Err(_) => Ok(()),
            };
            if let Err((wait, rule)) = checked {
                let failure = rejection(wait, rule);
                return Ok(control.refuse(request, None, failure));
            }
            self.inner.execute(request, control).await
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.inner.resolve(request)
    }

    fn can_execute(&self, request: &ExecutionRequest) -> Admission {
        self.inner.can_execute(request)
    }

    fn ready<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, ()> {
        self.inner.ready(request)
    }
}

fn rejection(wait: Duration, rule: String) -> Failure {
    let cause = Cause::Rejected {
        reason: Rejection::Rate,
        retry_at: Some(Utc::now() + wait),
    };
    // Rounded up, so that it is enough.
    let shown = Duration::from_millis(u64::try_from(wait.as_millis() + 1).unwrap_or(u64::MAX));
    let message = format!(
        "not admitted: as many have started as `{rule}` allows; the next may in {}",
        humantime::format_duration(shown)
    );
    Failure::new(cause, message)
        .rule(rule)
        .hint("try again then")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> (RateLimits, CurrentPolicy) {
        struct Nothing;
        impl Execute for Nothing {
            fn execute<'a>(
                &'a self,
                _: ExecutionRequest,
                _: Control,
            ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
                Box::pin(async { Err(HostError::Internal("it executes nothing".into())) })
            }

            fn resolve(&self, _: &ExecutionRequest) -> Result<Resolution, Failure> {
                Err(Failure::new(Cause::NotLoaded, "it has nothing"))
            }
        }
        let policy = CurrentPolicy::new(Some(text.parse().unwrap()));
        let limits = RateLimits {
            policy: policy.clone(),
            inner: Arc::new(Nothing),
        };
        (limits, policy)
    }

    /// How many of so many start.
    fn started(limits: &RateLimits, tenant: &str, skill: &str, tries: u32) -> u32 {
        let started = (0..tries).filter(|_| limits.check(tenant, skill).is_ok());
        u32::try_from(started.count()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn each_tenant_has_its_rate_and_is_told_when_to_come_back() {
        let (limits, _) = limits(
            r#"
            each_tenant.rates.per_second = 2
            tenants.acme.rates.per_minute = { at_most = 60, burst = 5 }
            "#,
        );
        assert_eq!(started(&limits, "a", "s", 10), 2);
        assert_eq!(started(&limits, "b", "s", 10), 2, "of its own");
        let (wait, rule) = limits.check("a", "s").unwrap_err();
        assert_eq!(rule, "each_tenant.rates.per_second");
        assert!(wait > Duration::from_millis(499) && wait <= Duration::from_millis(500));
        tokio::time::advance(wait - Duration::from_millis(1)).await;
        assert!(limits.check("a", "s").is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(started(&limits, "a", "s", 10), 1);
        // Two a second hold for it as well.
        assert_eq!(started(&limits, "acme", "s", 10), 2);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(started(&limits, "acme", "s", 10), 2);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            started(&limits, "acme", "s", 10),
            2,
            "five, and one a second"
        );
        let (_, rule) = {
            tokio::time::advance(Duration::from_millis(500)).await;
            let _ = limits.check("acme", "s");
            tokio::time::advance(Duration::from_millis(500)).await;
            let _ = limits.check("acme", "s");
            limits.check("acme", "s").unwrap_err()
        };
        assert_eq!(rule, "each_tenant.rates.per_second");
    }

    #[tokio::test(start_paused = true)]
    async fn skills_and_all_together_have_theirs() {
        let (limits, _) = limits(
            r#"
            general.rates.per_hour = 5
            skills.slow.rates.per_hour = 1
            "#,
        );
        assert_eq!(started(&limits, "a", "slow", 3), 1);
        assert_eq!(
            limits.check("b", "slow").unwrap_err().1,
            "skills.slow.rates.per_hour"
        );
        assert_eq!(started(&limits, "a", "fast", 9), 4);
        let (wait, rule) = limits.check("c", "fast").unwrap_err();
        assert_eq!(rule, "general.rates.per_hour");
        assert!((719..=720).contains(&wait.as_secs()), "a fifth of an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_policy_keeps_the_counts_that_it_does_not_change() {
        let (limits, policy) = limits("tenants.a.rates.per_hour = 2\ntenants.b.rates.per_hour = 2");
        assert_eq!(started(&limits, "a", "s", 5), 2);
        assert_eq!(started(&limits, "b", "s", 5), 2);
        let text = "tenants.a.rates.per_hour = 2\ntenants.b.rates.per_hour = 3";
        policy.set(Some(text.parse().unwrap()));
        assert_eq!(started(&limits, "a", "s", 5), 0);
        assert_eq!(started(&limits, "b", "s", 5), 3);
        policy.set(None);
        assert_eq!(started(&limits, "b", "s", 5), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_who_finds_no_room_is_limited_too() {
        let (limits, _) = limits("each_tenant.rates.per_minute = 1");
        for number in 0..MAX_KNOWN {
            assert!(limits.check(&number.to_string(), "s").is_ok());
        }
        let others = (0..100).filter(|number| limits.check(&format!("x{number}"), "s").is_ok());
        assert_eq!(others.count(), 1);
        let limiters = limits.policy.counted().limiters.limiters.load_full();
        let limiters = limiters.unwrap();
        assert_eq!(limiters.tenants.each.known.lock().unwrap().len(), MAX_KNOWN);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(started(&limits, "x1", "s", 2), 1);
        assert_eq!(limiters.tenants.each.known.lock().unwrap().len(), 1);
    }
}
