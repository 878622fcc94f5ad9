//! Whether something may start now: rates, turns, and circuits, one after the other.
//!
//! They are one guard, as each costs every request a future of its own, through which the request goes in and the
//! result comes out.

use std::sync::Arc;

use tokio::time::Instant;

use super::circuit::{Breakers, judge};
use super::concurrency::{Asked, Gate};
use super::rate::{self, Charge, RateLimits};
use crate::execution::{
    Admission, BoxFuture, Control, Execute, ExecutionRequest, ExecutionResult, Failure, HostError,
    Resolution,
};
use crate::limits::LimitOverrides;
use crate::policy::CurrentPolicy;

/// Lets a request start where its rates have something left, once it is its turn, and as long as the circuit of
/// its skill is not open.
pub(super) struct Starting {
    rates: RateLimits,
    gate: Gate,
    breakers: Breakers,
    inner: Arc<dyn Execute>,
}

impl Starting {
    pub fn new(policy: &CurrentPolicy, inner: Arc<dyn Execute>) -> Self {
        Starting {
            rates: RateLimits {
                policy: policy.clone(),
            },
            gate: Gate {
                policy: policy.clone(),
            },
            breakers: policy.breakers(),
            inner,
        }
    }
}

/// What was charged for a request that has not started: given back where it does not come to that.
struct Charged<'a> {
    rates: &'a RateLimits,
    charge: Charge,
    tenant: &'a str,
    skill: &'a str,
}

impl Charged<'_> {
    /// It starts.
    fn keep(mut self) {
        self.charge = Charge::Nothing;
    }
}

impl Drop for Charged<'_> {
    fn drop(&mut self) {
        self.rates.give_back(&self.charge, self.tenant, self.skill);
    }
}

impl Execute for Starting {
    fn execute<'a>(
        &'a self,
        mut request: ExecutionRequest,
        mut control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        Box::pin(async move {
            let resolution = match control.resolve(&*self.inner, &mut request).await {
                Ok(resolution) => resolution,
                // The outermost of the guards has charged the tenant for it.
                Err(failure) => return Ok(control.refuse(request, None, failure)),
            };
            let (skill, time_asked) = (Arc::clone(&resolution.skill), resolution.time_asked);
            let tenant = request.tenant.as_deref().unwrap_or_default();
            let now = Instant::now();
            let charged = match self.rates.charge(tenant, &skill.name, now) {
                Ok(charge) => Charged {
                    rates: &self.rates,
                    charge,
                    tenant,
                    skill: &skill.name,
                },
                Err((wait, rule)) => {
                    return Ok(control.refuse(request, None, rate::rejection(wait, rule)));
                }
            };
            let turn = match self.gate.ask(tenant, &skill.name, now) {
                Asked::Free => Ok(None),
                Asked::Turn(turn) => Ok(Some(turn)),
                Asked::Full(failure) => Err(failure),
                // Boxed, so that those who need not wait do not carry it along.
                Asked::Wait(turn, patience) => {
                    let called = turn.called(patience, request.deadline, &mut control);
                    Box::pin(called).await.map(Some)
                }
            };
            // Whatever is held is given back when it is dropped, in this order: the pass, then the turn.
            let started = turn.and_then(|turn| Ok((turn, self.breakers.pass(&skill)?)));
            let (_turn, pass) = match started {
                Ok(started) => started,
                Err(failure) => {
                    drop(charged);
                    return Ok(control.refuse(request, None, *failure));
                }
            };
            charged.keep();
            let ended = self.inner.execute(request, control).await;
            if let Some(pass) = pass {
                pass.record(match &ended {
                    Ok(result) => judge(result, time_asked),
                    Err(_) => None,
                });
            }
            ended
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.inner.resolve(request)
    }

    fn can_execute_within(&self, request: &ExecutionRequest, limits: &LimitOverrides) -> Admission {
        let mut admission = self.inner.can_execute_within(request, limits);
        if admission.refusal.is_none()
            && let Some(skill) = &admission.skill
        {
            admission.refusal = self.breakers.refusal(skill);
        }
        admission
    }

    fn hopeless<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Option<Failure>> {
        self.inner.hopeless(request)
    }

    fn ready<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Result<(), Failure>> {
        self.inner.ready(request)
    }
}
