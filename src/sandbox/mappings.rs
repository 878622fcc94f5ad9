//! The mappings of memory that instances take which are made on demand. A process may have so many of them; one that
//! has no more cannot allocate memory, and ends. The pool has made its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// What a memory that is made on demand is mapped as: what comes before the data that it begins with, that data, what
/// comes after, what is not used yet, and the guard.
const OF_A_MEMORY: u32 = 5;
/// Its stack, and what the allocator may map for the rest.
const OF_AN_INSTANCE: u32 = 16;

/// The mappings that an execution takes while it lives, at most: of a component with so many memories, where no more
/// than so many instances are allowed, each of which is counted as a memory is.
pub(super) fn needed(memories: u32, instances: u64) -> u32 {
    let memories = memories.min(u32::try_from(instances).unwrap_or(u32::MAX));
    memories
        .saturating_mul(OF_A_MEMORY)
        .saturating_add(OF_AN_INSTANCE)
}

/// What all instances together may take that are made on demand, whoever they are for: half of what the kernel gives a
/// process. Of these no tenant has more than half, so that none is waited for whose executions take all; but for one
/// execution that needs more by itself.
pub(super) struct Mappings {
    most: u32,
    all: Arc<Semaphore>,
    parts: Mutex<HashMap<Option<Box<str>>, Weak<Semaphore>>>,
}

/// Mappings that are taken.
pub(super) struct Taken {
    _of_all: OwnedSemaphorePermit,
    /// The tenant's part is there for as long as something of it is taken.
    _of_part: OwnedSemaphorePermit,
}

impl Mappings {
    /// The process's, however many hosts there are in it.
    pub fn of_process() -> &'static Self {
        /// Linux's default.
        const USUAL: u32 = 65_530;
        static MAPPINGS: OnceLock<Mappings> = OnceLock::new();
        MAPPINGS.get_or_init(|| {
            let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
            let allowed = text.ok().and_then(|text| text.trim().parse().ok());
            Mappings::new(allowed.unwrap_or(USUAL) / 2)
        })
    }

    fn new(most: u32) -> Self {
        Mappings {
            most,
            all: Arc::new(Semaphore::new(most as usize)),
            parts: Mutex::default(),
        }
    }

    /// Takes so many for a tenant, where they are free now.
    ///
    /// # Errors
    /// Where they are not.
    pub fn try_take(&self, tenant: Option<&str>, count: u32) -> Result<Taken, TryAcquireError> {
        let part = self.part(tenant);
        Ok(Taken {
            _of_part: part.try_acquire_many_owned(count.min(self.most_of_a_part()))?,
            _of_all: Arc::clone(&self.all).try_acquire_many_owned(count.min(self.most))?,
        })
    }

    /// Takes so many for a tenant when they are free. What needs more than there are has them alone.
    ///
    /// # Errors
    /// Never: nothing closes them.
    pub async fn take(&self, tenant: Option<&str>, count: u32) -> Result<Taken, AcquireError> {
        let part = self.part(tenant);
        let of_all = Arc::clone(&self.all);
        Ok(Taken {
            _of_part: part
                .acquire_many_owned(count.min(self.most_of_a_part()))
                .await?,
            _of_all: of_all.acquire_many_owned(count.min(self.most)).await?,
        })
    }

    fn most_of_a_part(&self) -> u32 {
        self.most / 2
    }

    fn part(&self, tenant: Option<&str>) -> Arc<Semaphore> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = tenant.map(Box::from);
        if let Some(part) = parts.get(&tenant).and_then(Weak::upgrade) {
            return part;
        }
        // Nobody waits for them, or has any.
        parts.retain(|_, part| part.strong_count() > 0);
        let part = Arc::new(Semaphore::new(self.most_of_a_part() as usize));
        parts.insert(tenant, Arc::downgrade(&part));
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_memories_are_reckoned_with_than_are_allowed() {
        assert_eq!(needed(2, 100), 26);
        assert_eq!(needed(5_000, 100), 516);
        assert_eq!(needed(u32::MAX, u64::MAX), u32::MAX);
    }

    #[tokio::test]
    async fn no_tenant_keeps_another_waiting() {
        let mappings = Mappings::new(100);
        let of_a = mappings.take(Some("a"), 50).await.unwrap();
        assert!(mappings.try_take(Some("a"), 1).is_err());
        let waiting = mappings.take(Some("a"), 10);
        let mut waiting = std::pin::pin!(waiting);
        assert!(polled(&mut waiting).await.is_none());
        // Also where others of the first wait already.
        drop(mappings.try_take(Some("b"), 50).unwrap());
        drop(mappings.try_take(None, 50).unwrap());
        drop(of_a);
        assert!(polled(&mut waiting).await.is_some());
    }

    #[tokio::test]
    async fn what_needs_more_than_there_are_has_them_alone() {
        let mappings = Mappings::new(100);
        let all = mappings.take(Some("a"), u32::MAX).await.unwrap();
        assert!(mappings.try_take(Some("b"), 1).is_err());
        drop(all);
        assert!(mappings.try_take(Some("b"), 1).is_ok());
        assert_eq!(mappings.parts.lock().unwrap().len(), 1, "it is forgotten");
    }

    async fn polled<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
