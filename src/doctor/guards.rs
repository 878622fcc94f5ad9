//! What the policy puts around an execution: ceilings, turns, rates, circuits.

use std::sync::Arc;

use super::check::{Finding, Kind};
use super::ground::{Ground, Probe, Trouble, ended, met, numbered};
use super::guests::NUMBER;
use super::handmade::{Handmade, SPIN, TOOL};
use crate::execution::{
    BoxFuture, Cause, Control, Execute, ExecutionRequest, ExecutionResult, Rejection, Status,
};
use crate::host::Skill;
use crate::limits::{Limit, LimitOverrides, MIB};
use crate::policy::Policy;
use crate::policy::guard::Guards;

pub(super) const PROBES: &[Probe] = &[
    guard("ceilings", "asking for more memory", |ground| {
        Box::pin(ceilings(ground))
    }),
    guard("concurrency", "one more than may run", |ground| {
        Box::pin(concurrency(ground))
    }),
    guard("rates", "one more than may start", |ground| {
        Box::pin(rates(ground))
    }),
    guard("breaker", "a skill that always fails", |ground| {
        Box::pin(breaker(ground))
    }),
];

const fn guard(
    name: &'static str,
    tried: &'static str,
    probe: for<'g> fn(&'g Ground) -> BoxFuture<'g, Result<Finding, Trouble>>,
) -> Probe {
    Probe {
        kind: Kind::Guard,
        name,
        tried,
        probe,
    }
}

/// The host of the ground with guards around it, under a policy of the probe's own.
struct Guarded<'g> {
    ground: &'g Ground,
    all: Arc<dyn Execute>,
    before: Option<Arc<Policy>>,
}

impl<'g> Guarded<'g> {
    fn new(ground: &'g Ground, policy: &str) -> Result<Self, Trouble> {
        let policy: Policy = policy.parse().map_err(|error| {
            Trouble::Text(format!("the probe's own policy is refused: {error}"))
        })?;
        let before = ground.host.policy();
        ground.host.set_policy(Some(policy));
        let guards = Guards::new(ground.host.current_policy().clone());
        Ok(Guarded {
            ground,
            all: guards.around(Arc::new(ground.host.clone())),
            before,
        })
    }

    async fn run(&self, skill: &Skill, number: u32) -> Result<ExecutionResult, Trouble> {
        self.request(numbered(skill, number)).await
    }

    async fn request(&self, request: ExecutionRequest) -> Result<ExecutionResult, Trouble> {
        let request = request.tool(TOOL);
        Ok(self.all.execute(request, Control::default()).await?)
    }
}

impl Drop for Guarded<'_> {
    fn drop(&mut self) {
        let before = self.before.take().map(|policy| Policy::clone(&policy));
        self.ground.host.set_policy(before);
    }
}

/// Why it was rejected, and whether it is said when to come back.
fn rejected(result: &ExecutionResult) -> Option<(Rejection, bool)> {
    match &result.failure.as_ref()?.cause {
        Cause::Rejected { reason, retry_at } => Some((*reason, retry_at.is_some())),
        _ => None,
    }
}

/// What came of one within the bound and of one past it.
fn judged(
    within: &ExecutionResult,
    past: &ExecutionResult,
    reason: Rejection,
    stopped_by: &str,
) -> Finding {
    if within.status != Status::Success {
        return Finding::unknown(format!("the one within: {}", ended(within)));
    }
    match rejected(past) {
        Some((rejection, true)) if rejection == reason => Finding::holds(stopped_by),
        Some((rejection, false)) if rejection == reason => {
            Finding::broken("it was not said when to come back")
        }
        _ => Finding::broken(format!("it was not rejected: {}", ended(past))),
    }
}

/// A guest that takes as many pages as its number says, and is allowed 64 MiB by its request and
/// 2 MiB by the policy.
async fn ceilings(ground: &Ground) -> Result<Finding, Trouble> {
    const CEILING: u64 = 2 * MIB;
    let guest = Handmade {
        execute: format!(
            "(if (i32.eq (memory.grow {NUMBER}) (i32.const -1)) (then unreachable))
            i32.const $answer"
        ),
        ..Handmade::default()
    };
    let skill = ground.load(&guest).await?;
    let policy = format!("general.ceilings.memory_bytes = {CEILING}");
    let guarded = Guarded::new(ground, &policy)?;
    let asking = |number| {
        numbered(&skill, number).limits(LimitOverrides {
            memory_bytes: Some(64 * MIB),
            ..LimitOverrides::default()
        })
    };
    let within = guarded.request(asking(1)).await?;
    let past = guarded.request(asking(100)).await?;
    if within.status != Status::Success {
        return Ok(Finding::unknown(format!(
            "the one within: {}",
            ended(&within)
        )));
    }
    if met(&past) != Some((Limit::Memory, CEILING)) {
        return Ok(Finding::broken(format!("it got past: {}", ended(&past))));
    }
    let told = past.clamped.iter().any(|clamped| {
        clamped.limit == Limit::Memory && clamped.rule == "general.ceilings.memory_bytes"
    });
    Ok(match told {
        true => Finding::holds("memory"),
        false => Finding::broken("the result does not say that its limit was clamped"),
    })
}

/// Two at the same time, where one may run and none may wait.
async fn concurrency(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        execute: format!("(if {NUMBER} (then {SPIN})) i32.const $answer"),
        ..Handmade::default()
    };
    let skill = ground.load(&guest).await?;
    let guarded = Guarded::new(ground, "general.concurrency = { at_once = 1, waiting = 0 }")?;
    let within = guarded.run(&skill, 0).await?;
    let long = numbered(&skill, 1).limits(LimitOverrides {
        fuel: Some(20_000_000),
        ..LimitOverrides::default()
    });
    let (long, past) = tokio::join!(guarded.request(long), guarded.run(&skill, 0));
    if met(&long?).map(|(limit, _)| limit) != Some(Limit::Fuel) {
        return Ok(Finding::unknown("the one before it did not run"));
    }
    Ok(judged(&within, &past?, Rejection::QueueFull, "its turn"))
}

/// Two, where one may start in an hour.
async fn rates(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground.load(&Handmade::default()).await?;
    let guarded = Guarded::new(ground, "general.rates.per_hour = 1")?;
    let within = guarded.run(&skill, 0).await?;
    let past = guarded.run(&skill, 0).await?;
    Ok(judged(&within, &past, Rejection::Rate, "the rate"))
}

/// One that traps three times, and would not trap the fourth time.
async fn breaker(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = Handmade {
        execute: format!(
            "(if {NUMBER} (then unreachable)) i32.const $answer (; for the breaker ;)"
        ),
        ..Handmade::default()
    };
    let skill = ground.load(&guest).await?;
    let policy = "each_skill.breaker = { minimum = 4, failure_rate = 0.75 }";
    let guarded = Guarded::new(ground, policy)?;
    let within = guarded.run(&skill, 0).await?;
    for _ in 0..3 {
        let failed = guarded.run(&skill, 1).await?;
        if failed.status != Status::Failed {
            return Ok(Finding::unknown(format!(
                "the failing one: {}",
                ended(&failed)
            )));
        }
    }
    let past = guarded.run(&skill, 0).await?;
    Ok(judged(
        &within,
        &past,
        Rejection::CircuitOpen,
        "its circuit",
    ))
}
