//! What stands around an execution: each guard wraps an [`Execute`] in an [`Execute`], so that
//! whoever runs requests gets the same, in any combination.
//!
//! A guard looks at what a request comes to with [`Control::resolve`], which also puts the digest
//! into the request, so that what was looked at is what runs. It rejects with [`Control::refuse`].
//! It goes by the [policy that holds now](CurrentPolicy), and forwards what it has nothing to say
//! about: `resolve`, `ready`, `can_execute`.
//!
//! [`Control::resolve`]: crate::Control::resolve
//! [`Control::refuse`]: crate::Control::refuse

mod ceilings;
mod circuit;
mod concurrency;
mod line;
mod rate;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use super::CurrentPolicy;
use crate::execution::Execute;
use ceilings::Ceilings;
use circuit::CircuitBreaker;
pub use circuit::{Breakers, CircuitChange, CircuitStanding, CircuitSubject};
use concurrency::{Gate, Turns};
use rate::RateLimits;

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
/// use skillhost::{Execute, Host};
///
/// # fn example() -> Result<(), skillhost::HostError> {
/// let host = Host::builder().build()?;
/// let guards = Guards::new(host.breakers().clone()).capacity(1_000);
/// let guarded: Arc<dyn Execute> = guards.around(Arc::new(host));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Guards {
    policy: CurrentPolicy,
    breakers: Breakers,
    capacity: Option<u32>,
    audit: Option<Wrap>,
    approval: Option<Wrap>,
}

impl Guards {
    /// Guards that go by the policy of these circuits, and by each that takes its place.
    ///
    /// The circuits are those of the [host](crate::Host::breakers) that executes in the end: the
    /// ones of skills are looked at here, the ones of hosts where it sends their requests.
    pub fn new(breakers: Breakers) -> Self {
        Guards {
            policy: breakers.policy().clone(),
            breakers,
            capacity: None,
            audit: None,
            approval: None,
        }
    }

    /// The policy that they go by.
    pub fn policy(&self) -> &CurrentPolicy {
        &self.policy
    }

    /// How many executions what is guarded can run at once: see
    /// [`HostBuilder::concurrency`](crate::HostBuilder::concurrency). More than that wait here, in
    /// fair turns between tenants, and not there. Without it, only the policy bounds how many run.
    pub fn capacity(mut self, executions: u32) -> Self {
        self.capacity = Some(executions.max(1));
        self
    }

    /// Puts this outermost, where it sees every end.
    pub fn audit(
        mut self,
        wrap: impl FnOnce(Arc<dyn Execute>) -> Arc<dyn Execute> + Send + 'static,
    ) -> Self {
        self.audit = Some(Box::new(wrap));
        self
    }

    /// Puts this behind the ceilings, and before anything that waits.
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
            breakers,
            capacity,
            audit,
            approval,
        } = self;
        let mut all: Arc<dyn Execute> = Arc::new(CircuitBreaker { breakers, inner });
        all = Arc::new(Turns {
            gate: Gate::new(policy.clone(), capacity),
            inner: all,
        });
        all = Arc::new(RateLimits::new(policy.clone(), all));
        if let Some(approval) = approval {
            all = approval(all);
        }
        all = Arc::new(Ceilings { policy, inner: all });
        match audit {
            Some(audit) => audit(all),
            None => all,
        }
    }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guards")
            .field("policy", &self.policy)
            .field("capacity", &self.capacity)
            .field("audit", &self.audit.is_some())
            .field("approval", &self.approval.is_some())
            .finish()
    }
}
