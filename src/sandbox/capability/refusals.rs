//! What was refused to a guest while it ran.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Listeners;
use crate::egress::Told;
use crate::execution::Event;
use crate::grant::{Asker, Denial, first_of};
use crate::secret::Held;

/// The refusals of one execution that are kept, and that observers hear of. A guest may ask for
/// the same thing, or for another, without end.
const MAX_REFUSALS: usize = 20;

/// What is said where there were more than that.
const MORE: &str = "; what was refused after this is not told";

/// Collects refusals. Cloning gives another handle to the same collection.
#[derive(Clone)]
pub(in crate::sandbox) struct Refusals(Arc<Collected>);

struct Collected {
    asker: Arc<Asker>,
    listeners: Listeners,
    denials: Mutex<Vec<Denial>>,
    /// Whether there were others than those.
    more: AtomicBool,
    /// What must not stand in them, where there is anything.
    secrets: OnceLock<Arc<Held>>,
}

/// What it takes to collect refusals. Most executions meet none.
pub(in crate::sandbox) struct LateRefusals {
    asker: Arc<Asker>,
    listeners: Listeners,
    refusals: OnceLock<Refusals>,
}

impl LateRefusals {
    /// None so far, of what this one asks for.
    pub fn new(asker: Arc<Asker>, listeners: Listeners) -> Self {
        LateRefusals {
            asker,
            listeners,
            refusals: OnceLock::new(),
        }
    }

    /// The collection.
    pub fn get(&self) -> &Refusals {
        self.refusals
            .get_or_init(|| Refusals::new(Arc::clone(&self.asker), self.listeners.clone()))
    }

    /// What was refused, each once, in order.
    pub fn take(&self) -> Vec<Denial> {
        let refusals = self.refusals.get();
        refusals.map(Refusals::take).unwrap_or_default()
    }
}

impl Refusals {
    /// None so far, of what this one asks for.
    pub(in crate::sandbox) fn new(asker: Arc<Asker>, listeners: Listeners) -> Self {
        Refusals(Arc::new(Collected {
            asker,
            listeners,
            denials: Mutex::default(),
            more: AtomicBool::new(false),
            secrets: OnceLock::new(),
        }))
    }

    /// Whose they are.
    pub fn asker(&self) -> &Arc<Asker> {
        &self.0.asker
    }

    /// Whether no more of them are told, so that there is no need to make one.
    pub fn is_full(&self) -> bool {
        self.0.more.load(Ordering::Relaxed)
    }

    /// Takes these secrets out of what is refused from now on.
    pub fn scrub(&self, secrets: Arc<Held>) {
        // There is one set of them for an execution.
        let _ = self.0.secrets.set(secrets);
    }

    /// Tells the observers of each secret that is to go into a request, and gives whether it may.
    pub fn told(&self) -> Told {
        let listeners = self.0.listeners.clone();
        Box::new(move |grant, target| {
            let to = format!("{}://{}", target.scheme().as_str(), target.authority());
            listeners.ask(&Event::SecretUsed {
                secret: grant.name(),
                header: grant.header(),
                to: &to,
            })
        })
    }

    /// Something was refused. What was refused before is not told again.
    pub fn add(&self, mut denial: Denial) {
        if let Some(secrets) = self.0.secrets.get() {
            let scrubber = &secrets.scrubber;
            denial.texts().for_each(|text| scrubber.text(text));
        }
        if !self.0.asker.for_operator() {
            denial.without_flag();
        }
        {
            let mut denials = self.lock();
            if denials.contains(&denial) {
                return;
            }
            if denials.len() < MAX_REFUSALS {
                denials.push(denial.clone());
            } else if self.0.more.swap(true, Ordering::Relaxed) {
                return;
            } else {
                denial.reason.push_str(MORE);
            }
        }
        self.0.listeners.tell(&Event::Denied { denial: &denial });
    }

    /// What was refused, each once, in order, as far as that is not too long. Observers are told all.
    pub fn take(&self) -> Vec<Denial> {
        let mut denials = std::mem::take(&mut *self.lock());
        first_of(&mut denials, MAX_REFUSALS);
        if self.0.more.load(Ordering::Relaxed)
            && let Some(last) = denials.last_mut()
        {
            last.reason.push_str(MORE);
        }
        denials
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Denial>> {
        // A list that is only ever added to: a panicking holder left it whole.
        self.0
            .denials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::grant::{Capability, Remedy};

    #[test]
    fn each_is_told_once_and_there_is_an_end() {
        let told = Arc::new(Mutex::new(0));
        let count = Arc::clone(&told);
        let observer = move |_: Uuid, event: &Event<'_>| {
            assert!(matches!(event, Event::Denied { .. }));
            *count.lock().unwrap() += 1;
        };
        let refusals = Refusals::new(
            Arc::default(),
            Listeners {
                request_id: Uuid::nil(),
                observers: [Some(Arc::new(observer)), None],
            },
        );
        for number in 0..1_000 {
            refusals.add(Denial {
                capability: Capability::Directory,
                subject: format!("/{}", number / 2),
                reason: String::new(),
                remedy: Remedy::Grant,
                grant: None,
                hint: String::new(),
            });
        }
        assert!(refusals.is_full());
        let taken = refusals.take();
        assert_eq!(taken.len(), MAX_REFUSALS);
        let last = taken.last().unwrap();
        assert!(!taken[0].reason.contains(MORE) && last.reason.ends_with(MORE));
        // Observers hear of one more, which says so.
        assert_eq!(*told.lock().unwrap(), MAX_REFUSALS + 1);
        // One that is long hides none of the others.
        for number in 0..10 {
            refusals.add(Denial {
                capability: Capability::Directory,
                subject: format!("/{number}"),
                reason: "x".repeat(6 << 10),
                remedy: Remedy::Grant,
                grant: None,
                hint: "x".repeat(6 << 10),
            });
        }
        assert_eq!(refusals.take().len(), 10);
    }
}
