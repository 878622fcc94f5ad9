//! The policy that holds now, shared by all that go by it.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

use super::Policy;

/// The policy that holds now. Every clone is the same one: a policy that is put in its place holds
/// at once for the host, and for all that wraps it.
///
/// ```
/// use skillhost::policy::{CurrentPolicy, Policy};
///
/// let current = CurrentPolicy::default();
/// let shared = current.clone();
/// assert!(current.get().is_none());
/// shared.set(Some(Policy::default()));
/// assert!(current.get().is_some());
/// ```
#[derive(Clone, Default)]
pub struct CurrentPolicy(Arc<ArcSwapOption<Policy>>);

impl CurrentPolicy {
    /// This policy, or none.
    pub fn new(policy: Option<Policy>) -> Self {
        CurrentPolicy(Arc::new(ArcSwapOption::from_pointee(policy)))
    }

    /// The policy, where there is one.
    pub fn get(&self) -> Option<Arc<Policy>> {
        self.0.load_full()
    }

    /// Puts a policy in the place of the one that held, or takes it away. It holds for requests that
    /// are decided from now on.
    pub fn set(&self, policy: Option<Policy>) {
        self.0.store(policy.map(Arc::new));
    }

    /// Held rather than cloned: threads that decide at the same time then share no counter.
    pub(crate) fn load(&self) -> Guard<Option<Arc<Policy>>> {
        self.0.load()
    }
}

impl fmt::Debug for CurrentPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CurrentPolicy").field(&self.load()).finish()
    }
}
