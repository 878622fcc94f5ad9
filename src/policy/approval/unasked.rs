//! An [`Execute`] that lets nothing run that the rules ask about, there being nobody to ask.

use std::sync::Arc;

use super::said::{Decided, Said, allowed};
use crate::execution::{
    Admission, BoxFuture, Control, Execute, ExecutionRequest, ExecutionResult, Failure, HostError,
    Resolution,
};
use crate::limits::LimitOverrides;
use crate::policy::CurrentPolicy;

/// Stands where an approval guard would, so that rules hold also where none was set. What somebody
/// [approved](Control::approved) elsewhere may run, unless it is denied.
pub(in crate::policy) struct Unasked {
    pub policy: CurrentPolicy,
    pub inner: Arc<dyn Execute>,
}

impl Unasked {
    fn refusal(decided: &Decided, approved: bool) -> Option<Failure> {
        if decided.denied {
            return Some(decided.denial());
        }
        let message = format!(
            "not admitted: {} asks for an approval of it, and nobody is asked here",
            decided.title
        );
        let hint =
            "whoever set up this host has to say where approvals are kept: `Guards::approval`";
        (!approved).then(|| decided.unasked(message).hint(hint))
    }
}

impl Execute for Unasked {
    fn execute<'a>(
        &'a self,
        mut request: ExecutionRequest,
        mut control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        if Said::is_nothing(&self.policy) {
            return self.inner.execute(request, control);
        }
        Box::pin(async move {
            let approved = control.approved;
            let resolution = match control.resolve(&*self.inner, &mut request).await {
                Ok(resolution) => resolution,
                Err(failure) => return Ok(control.refuse(request, None, failure)),
            };
            match Said::of(&self.policy, resolution, request.tenant.as_deref()) {
                Said::Nothing => {}
                Said::Allowed(rule) => allowed(&control, &request, &rule, None),
                Said::Not(decided) => match Self::refusal(&decided, approved) {
                    Some(failure) => return Ok(control.refuse(request, None, failure)),
                    None => allowed(&control, &request, &decided.title, None),
                },
            }
            self.inner.execute(request, control).await
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.inner.resolve(request)
    }

    fn can_execute_within(&self, request: &ExecutionRequest, limits: &LimitOverrides) -> Admission {
        let mut admission = self.inner.can_execute_within(request, limits);
        if admission.refusal.is_none()
            && Decided::may_be(&self.policy)
            && let Ok(resolution) = self.inner.resolve(request)
            && let Some(decided) = Decided::of(&self.policy, &resolution, request.tenant.as_deref())
        {
            admission.refusal = Self::refusal(&decided, false);
        }
        admission
    }

    fn hopeless<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Option<Failure>> {
        self.inner.hopeless(request)
    }

    fn ready<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Result<(), Failure>> {
        self.inner.ready(request)
    }

    fn is_destructive(&self, request: &ExecutionRequest) -> bool {
        self.inner.is_destructive(request)
    }
}
