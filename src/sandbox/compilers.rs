//! How many components are compiled at once.
//!
//! Compiling takes up to some gigabytes and minutes for a component that its author made so. Were as many compiled at
//! once as are wanted, a few of those would take all memory. Of the large ones fewer are compiled than of all, so that
//! a component of ordinary size waits for no more than others of that size.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::MIB;

/// A component of more bytes is a large one. Those of languages that bring no interpreter along have up to 2 MB, and
/// compile within some seconds.
const LARGE: u64 = 4 * MIB;

/// The places of those that compile.
pub(super) struct Compilers {
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// One place, until it is dropped.
pub(crate) struct Compiling {
    _one: OwnedSemaphorePermit,
    _large: Option<OwnedSemaphorePermit>,
}

impl Compilers {
    /// Places for this many; half of them, and one at least, may be taken by large components.
    pub fn new(at_once: u32) -> Self {
        let places = |many: u32| {
            let many = usize::try_from(many.max(1)).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(many.min(Semaphore::MAX_PERMITS)))
        };
        Compilers {
            all: places(at_once),
            large: places(at_once / 2),
        }
    }

    /// A place for a component of so many bytes, where one is free.
    pub fn free(&self, component_bytes: u64) -> Option<Compiling> {
        let large = match self.of_large(component_bytes) {
            Some(large) => Some(large.try_acquire_owned().ok()?),
            None => None,
        };
        Some(Compiling {
            _one: Arc::clone(&self.all).try_acquire_owned().ok()?,
            _large: large,
        })
    }

    /// Waits for a place, in order. `None` only where the semaphores were closed, which nobody does.
    pub async fn next(&self, component_bytes: u64) -> Option<Compiling> {
        // First, so that who waits for it takes no place of another.
        let large = match self.of_large(component_bytes) {
            Some(large) => Some(large.acquire_owned().await.ok()?),
            None => None,
        };
        Some(Compiling {
            _one: Arc::clone(&self.all).acquire_owned().await.ok()?,
            _large: large,
        })
    }

    fn of_large(&self, component_bytes: u64) -> Option<Arc<Semaphore>> {
        (component_bytes > LARGE).then(|| Arc::clone(&self.large))
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn large_components_leave_places_to_others() {
        let compilers = Compilers::new(4);
        let large = [compilers.free(LARGE + 1), compilers.free(LARGE + 1)];
        assert!(large.iter().all(Option::is_some));
        assert!(compilers.free(LARGE + 1).is_none());
        let small = [compilers.free(LARGE), compilers.free(LARGE)];
        assert!(small.iter().all(Option::is_some));
        assert!(compilers.free(1).is_none());
        drop(large);
        assert!(compilers.free(LARGE + 1).is_some());
    }

    #[test]
    fn there_is_one_place_at_least() {
        for at_once in [0, 1] {
            let compilers = Compilers::new(at_once);
            let one = compilers.free(u64::MAX);
            assert!(one.is_some() && compilers.free(1).is_none());
        }
    }

    #[tokio::test]
    async fn who_waits_goes_on_in_order_when_a_place_is_free() {
        let compilers = Compilers::new(1);
        let held = compilers.free(1).unwrap();
        let mut first = Box::pin(compilers.next(1));
        let mut second = Box::pin(compilers.next(LARGE + 1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(held);
        assert!(second.as_mut().poll(&mut context).is_pending());
        let place = first.await;
        assert!(place.is_some());
        // Whoever goes away leaves its place to the next.
        drop(second);
        drop(place);
        assert!(compilers.free(1).is_some());
    }
}
