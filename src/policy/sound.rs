//! What must be true of a policy's rules beyond their types.

use std::time::Duration;

use super::{BreakerRules, Concurrency, Policy, Rate, Rates};
use crate::limits::{LimitOverrides, NOTHING_OF_IT};

/// The longest time that a rule may name.
pub(super) const LONGEST: Duration = Duration::from_secs(86_400);
/// The most starts that a rate may name.
pub(super) const MOST: u32 = 1_000_000;
/// The largest weight of a tenant.
pub(super) const HEAVIEST: u32 = 1_000;
/// The longest name of a tenant, in bytes.
const LONGEST_NAME: usize = 256;

/// A rule that makes no sense: where it stands, and why not.
pub(super) struct Unsound {
    pub place: Vec<String>,
    pub message: String,
}

type Checked = Result<(), Unsound>;

fn wrong(place: &[&str], message: impl Into<String>) -> Checked {
    Err(Unsound {
        place: place.iter().map(|part| (*part).to_owned()).collect(),
        message: message.into(),
    })
}

/// Looks at all rules of a policy.
pub(super) fn check(policy: &Policy) -> Checked {
    for name in policy.tenants.keys() {
        if name.is_empty() || name.len() > LONGEST_NAME || name.contains(char::is_control) {
            return wrong(
                &["tenants", name],
                "a tenant's name is 1 to 256 bytes without control characters",
            );
        }
        if name.contains('*') {
            // Taken for a pattern it would bound nobody.
            return wrong(
                &["tenants", name],
                "a tenant stands here by its whole name, and `*` for no others: write an entry for each, or \
                 `[each_tenant]` for all",
            );
        }
    }
    for name in policy.secrets.keys() {
        if let Err(why) = crate::grant::check_secret_name(name) {
            return wrong(&["secrets", name], why);
        }
    }
    let tenants = policy.tenants.iter();
    let tenants = tenants.map(|(name, rules)| (vec!["tenants", name.as_str()], rules, true));
    let rules = [
        (vec!["general"], &policy.general, false),
        (vec!["each_tenant"], &policy.each_tenant, true),
    ];
    for (place, rules, weighed) in rules.into_iter().chain(tenants) {
        concurrency(&place, &rules.concurrency, weighed)?;
        rates(&place, &rules.rates)?;
        limits(&place, &rules.ceilings, &rules.defaults)?;
    }
    let each = &policy.each_skill;
    limits(&["each_skill"], &each.ceilings, &each.defaults)?;
    concurrency(&["each_skill"], &each.concurrency, false)?;
    rates(&["each_skill"], &each.rates)?;
    breaker(&["each_skill", "breaker"], each.breaker.as_ref())?;
    for (name, skill) in &policy.skills {
        concurrency(&["skills", name], &skill.concurrency, false)?;
        rates(&["skills", name], &skill.rates)?;
        limits(&["skills", name], &skill.ceilings, &skill.defaults)?;
        breaker(&["skills", name, "breaker"], skill.breaker.as_ref())?;
    }
    breaker(&["each_host", "breaker"], policy.each_host.breaker.as_ref())
}

fn below<'p>(place: &[&'p str], parts: &[&'p str]) -> Vec<&'p str> {
    place.iter().chain(parts).copied().collect()
}

fn concurrency(place: &[&str], said: &Concurrency, weighed: bool) -> Checked {
    let at = |key| below(place, &["concurrency", key]);
    if let Some(weight) = said.weight {
        if !weighed {
            return wrong(&at("weight"), "only a tenant has a weight");
        }
        if weight.get() > HEAVIEST {
            return wrong(&at("weight"), "a weight is 1 to 1,000");
        }
    }
    time(&at("wait_ms"), said.wait)
}

fn limits(place: &[&str], ceilings: &LimitOverrides, defaults: &LimitOverrides) -> Checked {
    for (key, said) in [("ceilings", ceilings), ("defaults", defaults)] {
        if let Some(limit) = said.nothing_of() {
            return wrong(&below(place, &[key, limit.as_str()]), NOTHING_OF_IT);
        }
    }
    Ok(())
}

fn rates(place: &[&str], said: &Rates) -> Checked {
    for (key, rate) in [
        ("per_second", said.per_second),
        ("per_minute", said.per_minute),
        ("per_hour", said.per_hour),
    ] {
        if let Some(Rate { at_most, burst }) = rate
            && at_most.max(burst).get() > MOST
        {
            let place = below(place, &["rates", key]);
            return wrong(&place, "a rate is 1 to 1,000,000");
        }
    }
    Ok(())
}

fn breaker(place: &[&str], said: Option<&BreakerRules>) -> Checked {
    let Some(said) = said else { return Ok(()) };
    let at = |key| below(place, &[key]);
    if said
        .failure_rate
        .is_some_and(|rate| !(rate > 0.0 && rate <= 1.0))
    {
        return wrong(
            &at("failure_rate"),
            "a failure rate is above 0, and at most 1",
        );
    }
    for (key, given) in [("window_ms", said.window), ("pause_ms", said.pause)] {
        time(&at(key), given)?;
        if given.is_some_and(|given| given.is_zero()) {
            return wrong(&at(key), "this time is at least 1 ms");
        }
    }
    Ok(())
}

fn time(place: &[&str], given: Option<Duration>) -> Checked {
    if given.is_some_and(|given| given > LONGEST) {
        return wrong(place, "this time is at most a day");
    }
    Ok(())
}
