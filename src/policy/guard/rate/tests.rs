//! How many start, in virtual time.

use super::*;

fn limits(text: &str) -> (RateLimits, CurrentPolicy) {
    let policy = CurrentPolicy::new(Some(text.parse().unwrap()));
    let limits = RateLimits {
        policy: policy.clone(),
    };
    (limits, policy)
}

/// How many of so many start.
fn started(limits: &RateLimits, tenant: &str, skill: &str, tries: u32) -> u32 {
    let started = (0..tries).filter(|_| limits.charge(tenant, skill, Instant::now()).is_ok());
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
    let (wait, rule) = limits.charge("a", "s", Instant::now()).unwrap_err();
    assert_eq!(rule, "each_tenant.rates.per_second");
    assert!(wait > Duration::from_millis(499) && wait <= Duration::from_millis(500));
    tokio::time::advance(wait - Duration::from_millis(1)).await;
    assert!(limits.charge("a", "s", Instant::now()).is_err());
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
        let _ = limits.charge("acme", "s", Instant::now());
        tokio::time::advance(Duration::from_millis(500)).await;
        let _ = limits.charge("acme", "s", Instant::now());
        limits.charge("acme", "s", Instant::now()).unwrap_err()
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
        limits.charge("b", "slow", Instant::now()).unwrap_err().1,
        "skills.slow.rates.per_hour"
    );
    assert_eq!(started(&limits, "a", "fast", 9), 4);
    let (wait, rule) = limits.charge("c", "fast", Instant::now()).unwrap_err();
    assert_eq!(rule, "general.rates.per_hour");
    assert!((719..=720).contains(&wait.as_secs()), "a fifth of an hour");
}

/// What one rate refuses is charged to no other: neither to those of longer times, nor to the tenant,
/// the skill, or all.
#[tokio::test(start_paused = true)]
async fn what_is_refused_uses_up_nothing_of_others() {
    let (limits, _) = limits(
        r#"
        general.rates.per_hour = 10
        each_tenant.rates.per_hour = 4
        skills.slow.rates = { per_second = 5, per_hour = 1 }
        "#,
    );
    assert_eq!(started(&limits, "a", "slow", 50), 1);
    assert_eq!(started(&limits, "b", "slow", 50), 0);
    // The tenants have lost nothing by that, and nor have all.
    assert_eq!(started(&limits, "a", "fast", 50), 3);
    assert_eq!(started(&limits, "b", "fast", 50), 4);
    assert_eq!(started(&limits, "c", "fast", 50), 2, "ten of all");
    // Only the skill's hour is in the way of a tenant that has started nothing.
    assert_eq!(started(&limits, "d", "slow", 50), 0);
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert_eq!(started(&limits, "d", "slow", 50), 1);
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_place_is_given_back_and_never_more_than_it_cost() {
    let (limits, _) = limits("each_tenant.rates.per_minute = { at_most = 6, burst = 2 }");
    let back = |since| {
        with_limiters(&limits.policy, |limiters| {
            limiters.give_back("a", "s", Instant::now() - Duration::from_secs(since));
        });
    };
    assert_eq!(started(&limits, "a", "s", 5), 2);
    back(0);
    assert_eq!(started(&limits, "a", "s", 5), 1);
    // It has come back by itself meanwhile.
    tokio::time::advance(Duration::from_secs(20)).await;
    back(20);
    back(10);
    assert_eq!(started(&limits, "a", "s", 5), 2);
    tokio::time::advance(Duration::from_secs(5)).await;
    back(5);
    tokio::time::advance(Duration::from_millis(4_999)).await;
    assert_eq!(started(&limits, "a", "s", 5), 1);
    assert_eq!(started(&limits, "a", "s", 5), 0);
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
        assert!(
            limits
                .charge(&number.to_string(), "s", Instant::now())
                .is_ok()
        );
    }
    let others = (0..100).filter(|number| {
        limits
            .charge(&format!("x{number}"), "s", Instant::now())
            .is_ok()
    });
    assert_eq!(others.count(), 1);
    let limiters = limits.policy.counted().limiters.limiters.load_full();
    let limiters = limiters.unwrap();
    assert_eq!(limiters.tenants.each.known.lock().unwrap().len(), MAX_KNOWN);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(started(&limits, "x1", "s", 2), 1);
    assert_eq!(limiters.tenants.each.known.lock().unwrap().len(), 1);
}
