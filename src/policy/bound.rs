//! Which limits a request gets: its own, or defaults, under the ceilings. Pure.

use super::{OverCeiling, Policy};
use crate::execution::{Cause, Clamped, Failure, Rejection};
use crate::limits::{Limit, LimitOverrides, Limits, Named};

/// What a request gets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Bounded {
    /// What it asks for now.
    pub limits: LimitOverrides,
    /// Where that is less than it, or its skill, asked for.
    pub clamped: Vec<Clamped>,
    /// Whether the wall time is the tenant's own, or less than what was asked for: a time-out then says
    /// nothing of the skill.
    pub time_bounded: bool,
    /// Whether a default of the policy's is more than what applied before, so that the ceilings of
    /// the host have to be asked again.
    pub raised: bool,
}

/// One table of the policy that speaks of limits.
struct Said<'p> {
    /// Where it stands: `general`, `tenants.acme`.
    place: (&'static str, Option<&'p str>),
    over_ceiling: Option<OverCeiling>,
    ceilings: &'p LimitOverrides,
    defaults: &'p LimitOverrides,
    /// The limits that it speaks of.
    named: Named,
}

impl Said<'_> {
    fn rule(&self, limit: Limit) -> String {
        match self.place {
            (table, None) => format!("{table}.ceilings.{}", limit.as_str()),
            (table, Some(name)) => format!("{table}.{name}.ceilings.{}", limit.as_str()),
        }
    }
}

/// The tables of one scope: the entry of a name, and what holds for each that has none.
type Scope<'p> = [Option<Said<'p>>; 2];

macro_rules! said {
    ($table:literal, $name:expr, $rules:expr) => {{
        let rules = $rules;
        let named = rules.ceilings.named().or(rules.defaults.named());
        (!named.is_empty()).then(|| Said {
            place: ($table, $name),
            over_ceiling: rules.over_ceiling,
            ceilings: &rules.ceilings,
            defaults: &rules.defaults,
            named,
        })
    }};
}

fn default_of(scope: &Scope<'_>, limit: Limit) -> Option<u64> {
    scope
        .iter()
        .flatten()
        .find_map(|said| said.defaults.get(limit))
}

impl Policy {
    /// The lowest ceiling that holds for a limit of such requests, and the rule that says so.
    pub(crate) fn ceiling(
        &self,
        tenant: Option<&str>,
        skill: &str,
        limit: Limit,
    ) -> Option<(u64, String)> {
        let scopes = self.scopes(tenant, skill);
        let ceilings = scopes.iter().filter_map(|scope| {
            let mut said = scope.iter().flatten();
            said.find_map(|said| Some((said.ceilings.get(limit)?, said)))
        });
        let (ceiling, said) = ceilings.min_by_key(|(ceiling, _)| *ceiling)?;
        Some((ceiling, said.rule(limit)))
    }

    /// General, of the tenant, of the skill.
    fn scopes<'p>(&'p self, tenant: Option<&'p str>, skill: &'p str) -> [Scope<'p>; 3] {
        let of_tenant = tenant.and_then(|tenant| self.tenants.get(tenant));
        let of_skill = self.skills.get(skill);
        [
            [said!("general", None, &self.general), None],
            [
                of_tenant.and_then(|rules| said!("tenants", tenant, rules)),
                said!("each_tenant", None, &self.each_tenant),
            ],
            [
                of_skill.and_then(|rules| said!("skills", Some(skill), rules)),
                said!("each_skill", None, &self.each_skill),
            ],
        ]
    }

    /// The limits of a request under the ceilings that hold for its tenant and its skill.
    ///
    /// Of each limit the first that is named counts: by the request, by the policy for the skill, by
    /// the skill itself, by the policy for the tenant, by the policy in general; else what applied
    /// before, which is `resolved`. A wish of the skill's for more of [what is the
    /// host's](Limit::OF_THE_HOST) than what would apply without it does not count.
    ///
    /// `None` where the policy says nothing of the limits of such a request.
    ///
    /// # Errors
    /// Where the request itself asks for more than a ceiling, and the policy says to reject that.
    pub(crate) fn bound(
        &self,
        tenant: Option<&str>,
        skill: &str,
        asked: &LimitOverrides,
        wished: &LimitOverrides,
        resolved: &Limits,
    ) -> Result<Option<Bounded>, Box<Failure>> {
        let scopes = self.scopes(tenant, skill);
        if scopes.iter().flatten().all(Option::is_none) {
            return Ok(None);
        }
        let [general, of_tenant, of_skill] = &scopes;
        let mut bounded = Bounded {
            limits: *asked,
            ..Bounded::default()
        };
        // Of the others, what is asked for is what applies.
        let all = scopes.iter().flatten().flatten();
        let named = all.fold(wished.named(), |named, said| named.or(said.named));
        for limit in named.each() {
            let requested = asked.get(limit);
            let before = resolved.get(limit);
            let for_the_skill = default_of(of_skill, limit);
            let for_others = default_of(of_tenant, limit).or_else(|| default_of(general, limit));
            let wish = wished.get(limit);
            let counts = wish.filter(|wish| {
                !Limit::OF_THE_HOST.contains(&limit) || *wish <= for_others.unwrap_or(before)
            });
            let named = requested.or(for_the_skill).or(counts).or(for_others);
            let mut value = named.unwrap_or(before);
            let mut over = None;
            for scope in &scopes {
                let ceiling = scope
                    .iter()
                    .flatten()
                    .find_map(|said| Some((said, said.ceilings.get(limit)?)));
                let Some((said, ceiling)) = ceiling else {
                    continue;
                };
                let all = named.unwrap_or(before);
                if all > ceiling && requested.is_some() {
                    let what = said.over_ceiling.or(self.general.over_ceiling);
                    if what == Some(OverCeiling::Reject) {
                        return Err(Box::new(rejected(limit, all, ceiling, said.rule(limit))));
                    }
                }
                if value > ceiling {
                    value = ceiling;
                    over = Some(said);
                }
            }
            let rule = match over {
                Some(said) => Some(said.rule(limit)),
                // Where nothing of the policy's applies, the host says so.
                None => (for_the_skill.is_none() && counts.is_none() && for_others.is_some())
                    .then(|| Clamped::BY_DEFAULT.to_owned()),
            };
            if let Some(rule) = rule
                && let Some(asked) = requested.or(wish)
                && asked > value
            {
                bounded.clamped.push(Clamped {
                    limit,
                    asked,
                    allowed: value,
                    rule,
                });
            }
            if limit == Limit::WallTime {
                let of_its_own =
                    |said: &Said<'_>| matches!(said.place.0, "tenants" | "each_tenant");
                bounded.time_bounded = over.is_some_and(of_its_own)
                    || bounded.clamped.iter().any(|clamped| clamped.limit == limit)
                    || (value < before && default_of(of_tenant, limit) == Some(value));
            }
            if requested != Some(value) && (named.is_some() || value != before) {
                bounded.raised |= value > before;
                bounded.limits.set(limit, value);
            }
        }
        Ok(Some(bounded))
    }
}

fn rejected(limit: Limit, asked: u64, ceiling: u64, rule: String) -> Failure {
    let cause = Cause::Rejected {
        reason: Rejection::Ceiling,
        retry_at: None,
    };
    let message = format!(
        "not admitted: {} is more than `{rule}` allows; {} is the most",
        limit.asked(asked),
        limit.display(ceiling)
    );
    Failure::new(cause, message)
        .rule(rule)
        .hint("ask for no more than that, or have the ceiling raised in the policy")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn policy() -> Policy {
        r#"
        [general]
        ceilings = { memory_bytes = "256MiB", fuel = 5_000 }
        defaults = { fuel = 100, handles = 5 }

        [each_tenant]
        ceilings = { memory_bytes = "64MiB", wall_time_ms = "5s" }

        [tenants.large]
        ceilings.memory_bytes = "1GiB"
        defaults.fuel = 200

        [tenants.strict]
        over_ceiling = "reject"
        ceilings = { memory_bytes = "16MiB" }

        [skills.small]
        ceilings = { output_bytes = 100 }
        defaults = { fuel = 300 }
        "#
        .parse()
        .unwrap()
    }

    #[test]
    fn the_lowest_ceiling_has_a_rule() {
        let policy = policy();
        let ceiling = |tenant, limit| policy.ceiling(tenant, "small", limit);
        let rule = |value, rule: &str| Some((value, rule.to_owned()));
        assert_eq!(
            ceiling(Some("strict"), Limit::Memory),
            rule(16 * MIB, "tenants.strict.ceilings.memory_bytes")
        );
        assert_eq!(
            ceiling(Some("large"), Limit::Memory),
            rule(256 * MIB, "general.ceilings.memory_bytes")
        );
        assert_eq!(
            ceiling(None, Limit::Output),
            rule(100, "skills.small.ceilings.output_bytes")
        );
        assert_eq!(ceiling(Some("strict"), Limit::Handles), None);
    }

    fn asking(limit: Limit, value: u64) -> LimitOverrides {
        let mut asked = LimitOverrides::default();
        asked.set(limit, value);
        asked
    }

    fn bound(
        tenant: Option<&str>,
        skill: &str,
        asked: &LimitOverrides,
        wished: &LimitOverrides,
    ) -> Result<Bounded, Box<Failure>> {
        let resolved = Limits::resolve(&Limits::ceiling(), &[asked, wished], &Limits::default());
        let policy = policy();
        Ok(policy
            .bound(tenant, skill, asked, wished, &resolved)?
            .unwrap())
    }

    #[test]
    fn each_scope_has_its_ceiling_and_the_lowest_holds() {
        let none = LimitOverrides::default();
        let asked = asking(Limit::Memory, 512 * MIB);
        for (tenant, allowed, rule) in [
            (None, 64 * MIB, "each_tenant.ceilings.memory_bytes"),
            (Some("other"), 64 * MIB, "each_tenant.ceilings.memory_bytes"),
            (Some("large"), 256 * MIB, "general.ceilings.memory_bytes"),
        ] {
            let bounded = bound(tenant, "any", &asked, &none).unwrap();
            assert_eq!(bounded.limits.memory_bytes, Some(allowed));
            let clamped = Clamped {
                limit: Limit::Memory,
                asked: 512 * MIB,
                allowed,
                rule: rule.to_owned(),
            };
            assert_eq!(bounded.clamped, [clamped], "{tenant:?}");
        }
        // What an entry does not say, the table for each does.
        let slow = asking(Limit::WallTime, 9_000);
        let bounded = bound(Some("large"), "any", &slow, &none).unwrap();
        assert_eq!(bounded.limits.get(Limit::WallTime), Some(5_000));
        // Nobody asked for the default that is clamped here.
        let bounded = bound(None, "small", &none, &none).unwrap();
        assert_eq!(bounded.limits.output_bytes, Some(100));
        assert_eq!(bounded.clamped, []);
    }

    #[test]
    fn what_a_request_asks_for_may_be_rejected_and_what_a_skill_wishes_is_clamped() {
        let none = LimitOverrides::default();
        let asked = asking(Limit::Memory, 17 * MIB);
        let failure = bound(Some("strict"), "any", &asked, &none).unwrap_err();
        assert_eq!(
            failure.rule.as_deref(),
            Some("tenants.strict.ceilings.memory_bytes")
        );
        assert!(
            failure.message.contains("memory_bytes of 17 MiB"),
            "{failure}"
        );
        let bounded = bound(Some("strict"), "any", &none, &asked).unwrap();
        assert_eq!(bounded.limits.memory_bytes, Some(16 * MIB));
        assert_eq!(bounded.clamped.len(), 1);
        let exactly = asking(Limit::Memory, 16 * MIB);
        let bounded = bound(Some("strict"), "any", &exactly, &none).unwrap();
        assert_eq!(bounded.clamped, []);
    }

    #[test]
    fn the_nearest_default_holds() {
        let none = LimitOverrides::default();
        let wished = asking(Limit::Fuel, 1_000);
        for (tenant, skill, asked, wished, fuel) in [
            (None, "any", &none, &none, 100),
            (Some("large"), "any", &none, &none, 200),
            (Some("large"), "any", &none, &wished, 1_000),
            (Some("large"), "small", &none, &wished, 300),
            (Some("large"), "small", &wished, &none, 1_000),
            (None, "any", &none, &asking(Limit::Fuel, 9_000), 5_000),
        ] {
            let bounded = bound(tenant, skill, asked, wished).unwrap();
            assert_eq!(bounded.limits.fuel, Some(fuel), "{tenant:?} {skill}");
            assert_eq!(bounded.limits.handles, Some(5));
        }
    }

    /// Of what is the host's own work, a skill gets no more by its wish than by the policy's defaults: also
    /// where those are more, or less, than the host's.
    #[test]
    fn a_wish_for_more_of_the_hosts_is_none() {
        let none = LimitOverrides::default();
        let default = Limits::default().handles;
        let policy: Policy = format!(
            "[general]\ndefaults.handles = 5\n[tenants.large]\ndefaults.handles = {}\n\
             [tenants.low]\nceilings.handles = 3\n[skills.own]\ndefaults.handles = 9",
            default + 10
        )
        .parse()
        .unwrap();
        let bound = |tenant, skill, asked: &LimitOverrides, wish| {
            let wished = asking(Limit::Handles, wish);
            let host = Limits::default();
            let counts = wished.of_a_skill(&host);
            let resolved = Limits::resolve(&Limits::ceiling(), &[asked, &counts], &host);
            let bounded = policy.bound(tenant, skill, asked, &wished, &resolved);
            let bounded = bounded.unwrap().unwrap();
            let clamped: Vec<_> = bounded
                .clamped
                .iter()
                .map(|one| (one.asked, &*one.rule))
                .collect();
            let said = format!("{clamped:?}");
            (bounded.limits.handles.unwrap(), said)
        };
        let said = |asked: u64, rule: &str| format!("[({asked}, {rule:?})]");
        for (tenant, skill, wish, allowed, told) in [
            (
                Some("large"),
                "any",
                default + 20,
                default + 10,
                said(default + 20, "default"),
            ),
            (Some("large"), "any", default + 5, default + 5, "[]".into()),
            (Some("large"), "any", 2, 2, "[]".into()),
            (None, "any", 6, 5, said(6, "default")),
            (None, "any", 4, 4, "[]".into()),
            (
                Some("low"),
                "any",
                6,
                3,
                said(6, "tenants.low.ceilings.handles"),
            ),
            (Some("large"), "own", 50, 9, "[]".into()),
        ] {
            let bounded = bound(tenant, skill, &none, wish);
            assert_eq!(bounded, (allowed, told), "{tenant:?} {skill} {wish}");
        }
        // A request may ask for what a skill may not wish for.
        let asked = asking(Limit::Handles, default + 1);
        assert_eq!(bound(None, "any", &asked, 6), (default + 1, "[]".into()));
    }

    #[test]
    fn a_policy_without_limits_changes_nothing() {
        let none = LimitOverrides::default();
        let limits = Limits::default();
        let bounded = Policy::default().bound(Some("a"), "b", &none, &none, &limits);
        assert_eq!(bounded, Ok(None));
    }
}
