//! Limits under the policy's ceilings.

use std::sync::Arc;

use super::rate::charge_for_nothing;
use crate::execution::{
    Admission, BoxFuture, Cause, Clamped, Control, Event, Execute, ExecutionRequest,
    ExecutionResult, Failure, HostError, Resolution,
};
use crate::limits::LimitOverrides;
use crate::policy::CurrentPolicy;

/// Gives each request the limits that the policy has for its tenant and its skill, under the
/// policy's ceilings. Being the outermost that looks, it also charges for what comes to nothing.
pub(super) struct Ceilings {
    pub policy: CurrentPolicy,
    pub inner: Arc<dyn Execute>,
}

impl Ceilings {
    /// Says of a limit that was met at a ceiling of the policy's that it cannot be raised, and which rule
    /// says so.
    fn name_ceiling(&self, tenant: Option<&str>, skill: &str, failure: &mut Failure) {
        let policy = self.policy.load();
        let ceiling = failure.limit().and_then(|(limit, allowed)| {
            let (ceiling, rule) = policy.as_ref()?.ceiling(tenant, skill, limit)?;
            (allowed >= ceiling).then_some(rule)
        });
        if let Some(rule) = ceiling {
            failure.hint = Some(format!(
                "the policy allows no more, by `{rule}`: give it less to do, or have the ceiling raised"
            ));
            failure.rule = Some(rule);
        }
    }

    /// Sets the limits in the request and in what it comes to, where the policy says something of them.
    fn apply(
        &self,
        request: &mut ExecutionRequest,
        resolution: &mut Resolution,
    ) -> Result<Option<Vec<Clamped>>, Box<Failure>> {
        let policy = self.policy.load();
        let Some(policy) = &*policy else {
            return Ok(None);
        };
        let none = LimitOverrides::default();
        let wished = resolution.wished.as_deref().unwrap_or(&none);
        let bounded = policy.bound(
            request.tenant.as_deref(),
            &resolution.skill.name,
            &request.limits,
            wished,
            &resolution.limits,
        )?;
        let Some(mut bounded) = bounded else {
            return Ok(None);
        };
        request.limits = bounded.limits;
        resolution.time_asked |= bounded.time_bounded;
        if bounded.raised {
            resolution.limits = self.inner.resolve(request)?.limits;
            // Where the host allows still less, it says so itself.
            bounded
                .clamped
                .retain(|clamped| clamped.allowed <= resolution.limits.get(clamped.limit));
        } else {
            for limit in bounded.limits.named().each() {
                if let Some(value) = bounded.limits.get(limit)
                    && value < resolution.limits.get(limit)
                {
                    resolution.limits.set(limit, value);
                }
            }
        }
        Ok(Some(bounded.clamped))
    }
}

impl Execute for Ceilings {
    fn execute<'a>(
        &'a self,
        mut request: ExecutionRequest,
        mut control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        Box::pin(async move {
            let applied = match control.resolve(&*self.inner, &mut request).await {
                Ok(resolution) => self.apply(&mut request, resolution),
                Err(failure) if failure.cause == Cause::HostError => {
                    return Err(HostError::Internal(failure.message));
                }
                // It ends here: further in it might be found meanwhile, and run without its bounds.
                Err(failure) => {
                    let charged = charge_for_nothing(&self.policy, request.tenant.as_deref());
                    let failure = charged.map_or_else(|failure| *failure, |()| failure);
                    // Which skill it was may be known all the same. One that is not loaded is not read for it.
                    let skill = match self.inner.resolve(&request) {
                        Ok(resolution) => Some(resolution.skill),
                        Err(failure) if matches!(failure.cause, Cause::UnknownTool { .. }) => {
                            self.inner.can_execute(&request).skill
                        }
                        Err(_) => None,
                    };
                    let result = control.refuse(request, None, failure);
                    return Ok(ExecutionResult {
                        skill: result.skill.or(skill),
                        ..result
                    });
                }
            };
            match applied {
                Err(failure) => Ok(control.refuse(request, None, *failure)),
                Ok(None) => self.inner.execute(request, control).await,
                Ok(Some(mut clamped)) => {
                    if !clamped.is_empty()
                        && let Some(observer) = &control.observer
                    {
                        let event = Event::Clamped { clamped: &clamped };
                        observer.observe(request.request_id, &event);
                    }
                    let tenant = request.tenant.clone();
                    let mut result = self.inner.execute(request, control).await?;
                    if let (Some(failure), Some(skill)) = (&mut result.failure, &result.skill) {
                        self.name_ceiling(tenant.as_deref(), &skill.name, failure);
                    }
                    if !clamped.is_empty() {
                        clamped.append(&mut result.clamped);
                        result.clamped = clamped;
                    }
                    Ok(result)
                }
            }
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        let mut resolution = self.inner.resolve(request)?;
        let mut request = request.without_data();
        // One that is over a ceiling is rejected when it is executed; what it is, is known.
        let _ = self.apply(&mut request, &mut resolution);
        Ok(resolution)
    }

    fn can_execute_within(&self, request: &ExecutionRequest, limits: &LimitOverrides) -> Admission {
        let mut bounded = ExecutionRequest {
            limits: *limits,
            ..request.without_data()
        };
        let applied = match self.inner.resolve(&bounded) {
            Ok(mut resolution) => self.apply(&mut bounded, &mut resolution),
            Err(_) => Ok(None),
        };
        let mut admission = self.inner.can_execute_within(request, &bounded.limits);
        match applied {
            Ok(clamped) => {
                let clamped = clamped.into_iter().flatten();
                admission.clamped.splice(0..0, clamped).for_each(drop);
            }
            // What is wrong with the request itself is said first.
            Err(failure) => {
                admission.refusal.get_or_insert(*failure);
            }
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
