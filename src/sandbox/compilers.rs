//! How many components are compiled at once.
//!
//! Compiling takes up to some gigabytes and minutes for a component that its author made so. Were as many compiled at
//! once as are wanted, a few of those would take all memory. Of the large ones fewer are compiled than of all, so that
//! a component of ordinary size waits for no more than others of that size.

use tokio::runtime::Handle;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, TryAcquireError};
use tokio_util::sync::CancellationToken;

use crate::limits::MIB;

/// A component of more bytes is a large one. Those of languages that bring no interpreter along have up to 2 MB, and
/// compile within some seconds.
const LARGE: u64 = 4 * MIB;

/// The places of those that compile.
pub(super) struct Compilers {
    all: Semaphore,
    large: Semaphore,
}

/// One place, until it is dropped.
pub(super) struct Compiling<'a> {
    _one: SemaphorePermit<'a>,
    _large: Option<SemaphorePermit<'a>>,
}

impl Compilers {
    /// Places for this many; half of them, and one at least, may be taken by large components.
    pub fn new(at_once: u32) -> Self {
        let at_once = at_once.max(1) as usize;
        Compilers {
            all: Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)),
            large: Semaphore::new((at_once / 2).clamp(1, Semaphore::MAX_PERMITS)),
        }
    }

    /// A place for a component of so many bytes, where one is free.
    pub fn free(&self, component_bytes: u64) -> Option<Compiling<'_>> {
        let large = match self.of_large(component_bytes).map(Semaphore::try_acquire) {
            Some(Err(TryAcquireError::NoPermits | TryAcquireError::Closed)) => return None,
            Some(Ok(permit)) => Some(permit),
            None => None,
        };
        Some(Compiling {
            _one: self.all.try_acquire().ok()?,
            _large: large,
        })
    }

    /// Waits for a place, in order; `None` where `unwanted` is cancelled before. Blocks: for a thread of a runtime that
    /// may.
    pub fn next(
        &self,
        component_bytes: u64,
        unwanted: &CancellationToken,
    ) -> Option<Compiling<'_>> {
        let place = async {
            // First, so that who waits for it takes no place of another.
            let large = match self.of_large(component_bytes) {
                Some(large) => Some(large.acquire().await?),
                None => None,
            };
            Ok::<_, AcquireError>(Compiling {
                _one: self.all.acquire().await?,
                _large: large,
            })
        };
        // They are never closed.
        Handle::current()
            .block_on(unwanted.run_until_cancelled(place))?
            .ok()
    }

    fn of_large(&self, component_bytes: u64) -> Option<&Semaphore> {
        (component_bytes > LARGE).then_some(&self.large)
    }
}

#[cfg(test)]
mod tests {
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
    async fn who_waits_goes_on_when_a_place_is_free_or_nobody_wants_it() {
        let compilers = std::sync::Arc::new(Compilers::new(1));
        let held = compilers.free(1).unwrap();
        let waits = |unwanted: CancellationToken| {
            let compilers = std::sync::Arc::clone(&compilers);
            tokio::task::spawn_blocking(move || compilers.next(1, &unwanted).is_some())
        };
        let unwanted = CancellationToken::new();
        let given_up = waits(unwanted.clone());
        let waiting = waits(CancellationToken::new());
        unwanted.cancel();
        assert!(!given_up.await.unwrap());
        assert!(!waiting.is_finished());
        drop(held);
        assert!(waiting.await.unwrap());
    }
}
