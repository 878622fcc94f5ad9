//! What stands around an execution: each guard wraps an [`Execute`] in an [`Execute`], so that
//! whoever runs requests gets the same, in any combination.
//!
//! A guard looks at what a request comes to with [`Control::resolve`], which also puts the digest
//! into the request, so that what was looked at is what runs. It rejects with [`Control::refuse`].
//! It goes by the [policy that holds now](CurrentPolicy), and forwards what it has nothing to say
//! about: `resolve`, `ready`, `can_execute_within`.
//!
//! [`Control::resolve`]: crate::Control::resolve
//! [`Control::refuse`]: crate::Control::refuse

mod ceilings;
mod circuit;
mod concurrency;
mod rate;
mod start;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::CurrentPolicy;
use super::approval::Unasked;
use crate::audit::{AuditSink, Audited};
use crate::execution::Execute;
use ceilings::Ceilings;
use circuit::Circuits;
pub use circuit::{Breakers, CircuitChange, CircuitStanding, CircuitSubject};
use concurrency::State;
pub(super) use concurrency::call;
use rate::Limits;
use start::Starting;

/// What is counted by a policy: shared by all guards that go by it.
#[derive(Default)]
pub(super) struct Counted {
    circuits: Circuits,
    turns: Mutex<State>,
    limiters: Limits,
    /// How many can run at once; 0 where that is not known.
    capacity: AtomicU32,
}

impl Counted {
    pub fn set_capacity(&self, executions: u32) {
        self.capacity.store(executions, Ordering::Relaxed);
    }

    fn capacity(&self) -> Option<u32> {
        Some(self.capacity.load(Ordering::Relaxed)).filter(|&capacity| capacity > 0)
    }
}

/// Makes one `Execute` of another.
type Wrap = Box<dyn FnOnce(Arc<dyn Execute>) -> Arc<dyn Execute> + Send>;

/// Puts guards around an [`Execute`], in the order that makes sense. From the outside in: audit,
/// ceilings, approval, rates, concurrency, circuit breaker.
///
/// So everything is written down, also what was rejected; nobody is asked to approve what is not
/// allowed anyway; a request that waits for its turn has been approved; and a circuit decides at the
/// last moment.
///
/// ```no_run
/// use std::sync::Arc;
/// use skillhost::policy::guard::Guards;
/// use skillhost::policy::{Approving, MemoryApprovals};
/// use skillhost::{Execute, Host};
///
/// # fn example() -> Result<(), skillhost::HostError> {
/// let host = Host::builder().build()?;
/// let policy = host.current_policy().clone();
/// let (current, approvals) = (policy.clone(), Arc::new(MemoryApprovals::default()));
/// let guarded: Arc<dyn Execute> = Guards::new(policy)
///     .approval(move |inner| Arc::new(Approving::new(inner, current, approvals)))
///     .around(Arc::new(host));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Guards {
    policy: CurrentPolicy,
    /// Where everything is written down, and whether nothing may run that cannot be.
    audit: Option<(Arc<dyn AuditSink>, bool)>,
    approval: Option<Wrap>,
}

impl Guards {
    /// Guards that go by this policy, and by each that takes its place. It is that of the
    /// [host](crate::Host::current_policy) that executes in the end.
    pub fn new(policy: CurrentPolicy) -> Self {
        Guards {
            policy,
            audit: None,
            approval: None,
        }
    }

    /// The policy that they go by.
    pub fn policy(&self) -> &CurrentPolicy {
        &self.policy
    }

    /// Writes every end down here, outermost, and [each change](CurrentPolicy::audit) of the policy and of
    /// its circuits. Where it is `required`, [nothing may run](Audited::required) that cannot be written
    /// down.
    pub fn audit(mut self, sink: Arc<dyn AuditSink>, required: bool) -> Self {
        self.audit = Some((sink, required));
        self
    }

    /// Puts this behind the ceilings, and before anything that waits.
    ///
    /// Without one there is nobody to ask: what the policy's rules ask about is rejected, unless it was
    /// [approved](crate::Control::approved) elsewhere, and so is what they deny.
    pub fn approval(
        mut self,
        wrap: impl FnOnce(Arc<dyn Execute>) -> Arc<dyn Execute> + Send + 'static,
    ) -> Self {
        self.approval = Some(Box::new(wrap));
        self
    }

    /// Puts them around this.
    pub fn around(self, inner: Arc<dyn Execute>) -> Arc<dyn Execute> {
        let Guards {
            policy,
            audit,
            approval,
        } = self;
        let mut all: Arc<dyn Execute> = Arc::new(Starting::new(&policy, inner));
        all = match approval {
            Some(approval) => approval(all),
            None => Arc::new(Unasked {
                policy: policy.clone(),
                inner: all,
            }),
        };
        if let Some((sink, _)) = &audit {
            policy.audit(sink);
        }
        all = Arc::new(Ceilings { policy, inner: all });
        match audit {
            Some((sink, required)) => Arc::new(Audited::new(all, sink).required(required)),
            None => all,
        }
    }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guards")
            .field("policy", &self.policy)
            .field("audit", &self.audit.is_some())
            .field("approval", &self.approval.is_some())
            .finish()
    }
}
