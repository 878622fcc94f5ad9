//! What the policy puts around an execution: ceilings, turns, rates, circuits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::check::{Finding, Kind};
use super::ground::{Ground, Probe, Trouble, ended, met, numbered};
use super::guests::NUMBER;
use super::handmade::{Handmade, SPIN, TOOL};
use super::http;
use super::limits::network::{asking, no_server};
use crate::execution::{
    BoxFuture, Cause, Control, Event, Execute, ExecutionRequest, ExecutionResult, Observer,
    Rejection, Status,
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
    guard("concurrency", "one more of a tenant", |ground| {
        Box::pin(of_tenant(ground))
    }),
    guard("concurrency", "one more of a skill", |ground| {
        Box::pin(of_skill(ground))
    }),
    guard("fairness", "a tenant that floods", |ground| {
        Box::pin(fairness(ground))
    }),
    guard("rates", "one more than may start", |ground| {
        Box::pin(rates(ground))
    }),
    guard("breaker", "a skill that always fails", |ground| {
        Box::pin(breaker(ground))
    }),
    guard("breaker", "a host that never answers", |ground| {
        Box::pin(host_breaker(ground))
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
        true => Finding::holds(Limit::Memory.as_str()),
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

/// A guest that runs for as long as its fuel lasts where its number is not 0. `salt` makes it another.
fn spinning(salt: &str) -> Handmade {
    Handmade {
        execute: format!("(if {NUMBER} (then {SPIN})) i32.const $answer (; {salt} ;)"),
        ..Handmade::default()
    }
}

/// So much fuel that others come while it runs.
fn long(skill: &Skill) -> ExecutionRequest {
    numbered(skill, 1).limits(LimitOverrides {
        fuel: Some(20_000_000),
        ..LimitOverrides::default()
    })
}

/// Beside one that runs: one past a bound that it shares with it, and one that does not.
async fn beside(
    guarded: &Guarded<'_>,
    running: ExecutionRequest,
    past: ExecutionRequest,
    free: ExecutionRequest,
    stopped_by: &str,
) -> Result<Finding, Trouble> {
    let (running, past, free) = tokio::join!(
        guarded.request(running),
        guarded.request(past),
        guarded.request(free)
    );
    if met(&running?).map(|(limit, _)| limit) != Some(Limit::Fuel) {
        return Ok(Finding::unknown("the one before it did not run"));
    }
    Ok(judged(&free?, &past?, Rejection::QueueFull, stopped_by))
}

/// Where one of each tenant may run and none may wait: two of a tenant, and one of another.
async fn of_tenant(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground.load(&spinning("of a tenant")).await?;
    let policy = "each_tenant.concurrency = { at_once = 1, waiting = 0 }";
    let guarded = Guarded::new(ground, policy)?;
    let short = |tenant: &str| numbered(&skill, 0).tenant(tenant);
    let (past, free) = (short("a"), short("b"));
    beside(
        &guarded,
        long(&skill).tenant("a"),
        past,
        free,
        "its tenant's turn",
    )
    .await
}

/// Where one of each skill may run and none may wait: two of a skill, and one of another.
async fn of_skill(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground.load(&spinning("of a skill")).await?;
    let mut other = spinning("of another");
    other.description.name = "other".into();
    let other = ground.load(&other).await?;
    let policy = "each_skill.concurrency = { at_once = 1, waiting = 0 }";
    let guarded = Guarded::new(ground, policy)?;
    let (past, free) = (numbered(&skill, 0), numbered(&other, 0));
    beside(&guarded, long(&skill), past, free, "its skill's turn").await
}

/// One of a tenant that comes when eight of another wait already, one at a time being run.
async fn fairness(ground: &Ground) -> Result<Finding, Trouble> {
    const FLOOD: usize = 8;
    let skill = ground.load(&spinning("for fairness")).await?;
    let guarded = Guarded::new(ground, "general.concurrency.at_once = 1")?;
    let mut all = tokio::task::JoinSet::new();
    let mut begin = |request: ExecutionRequest, tenant: &'static str| {
        let execute = Arc::clone(&guarded.all);
        let request = request.tool(TOOL).tenant(tenant);
        all.spawn(async move { (tenant, execute.execute(request, Control::default()).await) });
    };
    begin(long(&skill), "flood");
    for _ in 0..FLOOD {
        begin(numbered(&skill, 0), "flood");
    }
    // All of them are there before the other.
    tokio::task::yield_now().await;
    begin(numbered(&skill, 0), "other");
    let mut before = 0;
    while let Some(joined) = all.join_next().await {
        let Ok((tenant, result)) = joined else {
            return Ok(Finding::unknown("one of them did not end"));
        };
        let result = result?;
        match tenant {
            "flood" => before += 1,
            _ if result.status == Status::Success => break,
            _ => {
                return Ok(Finding::broken(format!(
                    "it did not run: {}",
                    ended(&result)
                )));
            }
        }
    }
    all.abort_all();
    Ok(match before <= FLOOD / 2 {
        true => Finding::holds("turns between tenants"),
        false => Finding::broken(format!("{before} of the flood ran before the other")),
    })
}

/// A port where nobody listens, which is asked three times.
async fn host_breaker(ground: &Ground) -> Result<Finding, Trouble> {
    let free = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
    let address = match free.and_then(|listener| listener.local_addr()) {
        Ok(address) => address,
        Err(error) => return Ok(no_server(&error)),
    };
    let Some(grants) = asking(address) else {
        return Ok(Finding::unknown("a grant of the probe's own is refused"));
    };
    let skill = ground.load(&http::guest(&address.to_string())).await?;
    let guarded = Guarded::new(ground, "each_host.breaker = { minimum = 2 }")?;
    let told = Arc::new(AtomicBool::new(false));
    let hears = Arc::clone(&told);
    let observer = move |_: Uuid, event: &Event<'_>| {
        if let Event::Denied { denial } = event
            && denial.reason.contains("failed too often")
        {
            hears.store(true, Ordering::Relaxed);
        }
    };
    let observer: Arc<dyn Observer> = Arc::new(observer);
    for number in 0..3 {
        if told.load(Ordering::Relaxed) {
            return Ok(Finding::broken(format!(
                "left alone after {number} failures"
            )));
        }
        let request = numbered(&skill, 1).tool(TOOL).grants(grants.clone());
        let control = Control::default().observer(Arc::clone(&observer));
        let result = guarded.all.execute(request, control).await?;
        if result.status != Status::Success {
            return Ok(Finding::unknown(format!("the guest: {}", ended(&result))));
        }
    }
    Ok(match told.load(Ordering::Relaxed) {
        true => Finding::holds("its circuit"),
        false => Finding::broken("it was asked a third time"),
    })
}
