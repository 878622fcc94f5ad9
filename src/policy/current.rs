//! The policy that holds now, and what is counted by it, shared by all that go by it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwapOption, Guard};

use super::Policy;
use super::guard::{self, Breakers, Counted};
use crate::audit::{AuditSink, Entry, Hashed, What, Who};

/// The policy that holds now. Every clone is the same one: a policy that is put in its place holds
/// at once for the host, and for all that wraps it.
///
/// With it goes what is counted by it: who runs and who waits, what has started lately, and the
/// circuits. So all [guards](crate::policy::guard::Guards) that go by it count together, also where
/// several doors of one process have some of their own.
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
pub struct CurrentPolicy(Arc<Shared>);

#[derive(Default)]
struct Shared {
    policy: ArcSwapOption<Policy>,
    counted: Counted,
    watchers: Mutex<Vec<Watcher>>,
    /// Where changes are written down.
    audits: Mutex<Vec<Arc<dyn AuditSink>>>,
}

type Watcher = Arc<dyn Fn(Option<&Policy>) + Send + Sync>;

impl CurrentPolicy {
    /// This policy, or none.
    pub fn new(policy: Option<Policy>) -> Self {
        let current = CurrentPolicy::default();
        current.set(policy);
        current
    }

    /// The policy, where there is one.
    pub fn get(&self) -> Option<Arc<Policy>> {
        self.0.policy.load_full()
    }

    /// Puts a policy in the place of the one that held, or takes it away. It holds for requests that
    /// are decided from now on; of those that wait for their turn, whoever has it by this one starts.
    pub fn set(&self, policy: Option<Policy>) {
        let policy = policy.map(Arc::new);
        let before = self.0.policy.swap(policy.clone());
        guard::call(self);
        if before == policy {
            return;
        }
        let watchers = self.0.watchers.lock();
        let watchers = watchers.unwrap_or_else(PoisonError::into_inner).clone();
        for watcher in watchers {
            watcher(policy.as_deref());
        }
    }

    /// Tells of each policy that takes the place of another from now on, or that none is there any more.
    /// Called where that happens, so that it should be quick.
    pub fn watch(&self, watcher: impl Fn(Option<&Policy>) + Send + Sync + 'static) {
        let mut watchers = self
            .0
            .watchers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        watchers.push(Arc::new(watcher));
    }

    /// Writes down here each change of a circuit, and that another policy holds, from now on: once, however
    /// often it is asked for. [`Guards::audit`](crate::policy::guard::Guards::audit) asks for it.
    pub fn audit(&self, sink: &Arc<dyn AuditSink>) {
        let mut audits = self.0.audits.lock().unwrap_or_else(PoisonError::into_inner);
        if audits.iter().any(|known| Arc::ptr_eq(known, sink)) {
            return;
        }
        audits.push(Arc::clone(sink));
        drop(audits);
        let written = Arc::clone(sink);
        self.breakers().watch(move |change| {
            let what = What::Breaker {
                of: &change.subject.to_string(),
                from: change.from.as_str(),
                to: change.to.as_str(),
            };
            write(&*written, what);
        });
        let written = Arc::clone(sink);
        self.watch(move |policy| {
            let text = policy.map(serde_json::to_vec).transpose();
            let text = text.ok().flatten().unwrap_or_default();
            write(&*written, What::Policy(Hashed::of(&text)));
        });
    }

    /// How many executions can run at once, whatever the policy says: more than that wait by its
    /// rules. A [host](crate::HostBuilder::concurrency) says so itself. Until somebody does, only the
    /// policy bounds how many run.
    pub fn set_capacity(&self, executions: u32) {
        self.0.counted.set_capacity(executions.max(1));
        guard::call(self);
    }

    /// The circuits that go by it.
    pub fn breakers(&self) -> Breakers {
        Breakers::of(self.clone())
    }

    /// Held rather than cloned: threads that decide at the same time then share no counter.
    pub(crate) fn load(&self) -> Guard<Option<Arc<Policy>>> {
        self.0.policy.load()
    }

    /// What is counted by it.
    pub(super) fn counted(&self) -> &Counted {
        &self.0.counted
    }
}

fn write(audit: &dyn AuditSink, what: What<'_>) {
    let who = Who::default();
    if let Err(error) = audit.record(&Entry { who, what }) {
        tracing::warn!(%error, kind = what.kind(), "a change is not in the audit");
    }
}

impl fmt::Debug for CurrentPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CurrentPolicy").field(&self.load()).finish()
    }
}
