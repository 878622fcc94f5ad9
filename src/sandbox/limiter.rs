//! Memory, tables and instances, counted over everything in one store.

use wasmtime::ResourceLimiter;

use super::classify::Stop;
use super::settings::TABLE_ELEMENTS;
use crate::limits::{Limit, Limits};

/// A page of memory, in bytes.
const PAGE: u64 = 64 * 1024;
/// The contexts of a component's instances that are not counted as memory, in bytes. Those of a component
/// that is made by Rust or Go are smaller.
const FREE_CONTEXT: u64 = PAGE;

/// Counts what the guest's memories and tables hold in sum, and stops it where that would get past
/// a limit.
pub(super) struct Limiter {
    memory: Sum,
    table: Sum,
    instances: usize,
    must_grow: bool,
}

struct Sum {
    limit: Limit,
    allowed: u64,
    held: u64,
    peak: u64,
    /// What was approved last, and may turn out not to happen.
    pending: u64,
}

impl Limiter {
    /// For a component whose instances' contexts come to so many bytes. They are counted as memory as
    /// far as they are more than a page, in whole pages: the engine makes them without asking.
    pub fn new(limits: &Limits, context_bytes: u64) -> Self {
        let mut memory = Sum::new(Limit::Memory, limits.memory_bytes);
        let more = context_bytes.saturating_sub(FREE_CONTEXT);
        memory.held = more.div_ceil(PAGE).saturating_mul(PAGE);
        Limiter {
            memory,
            table: Sum::new(Limit::TableElements, limits.table_elements),
            instances: usize::try_from(limits.instances).unwrap_or(usize::MAX),
            must_grow: false,
        }
    }

    /// From now on, growth within the limits that the engine cannot make stops the guest. From a −1 it would
    /// see how much memory the machine has left.
    pub fn must_grow(&mut self) {
        self.must_grow = true;
    }

    /// Counts the contexts of its instances, which are about to be made.
    pub fn admit(&mut self) -> Result<(), Stop> {
        self.memory.within(self.memory.held)?;
        self.memory.settle_peak();
        Ok(())
    }

    /// The largest sum of all memories, in bytes.
    pub fn peak_memory_bytes(&self) -> u64 {
        self.memory.peak
    }

    /// What becomes of a guest whose growth failed, and was approved or was not.
    fn after_failure(&self, was_approved: bool) -> wasmtime::Result<()> {
        match self.must_grow && was_approved {
            true => Err(Stop::NoMemory.into()),
            false => Ok(()),
        }
    }
}

impl Sum {
    fn new(limit: Limit, allowed: u64) -> Self {
        Sum {
            limit,
            allowed,
            held: 0,
            peak: 0,
            pending: 0,
        }
    }

    /// Growth past the limit ends the execution, rather than handing the guest a −1: what stopped
    /// it is then certain, and not a guess from a later trap.
    fn grow(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Past its own maximum the guest gets its −1 as the specification says, and nothing is
        // counted: that is its business and not a limit of ours.
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.pending = 0;
            return Ok(false);
        }
        let more = (desired as u64).saturating_sub(current as u64);
        let sum = self.held.saturating_add(more);
        self.within(sum)?;
        self.pending = more;
        self.held = sum;
        self.settle_peak();
        Ok(true)
    }

    fn within(&self, sum: u64) -> Result<(), Stop> {
        if sum <= self.allowed {
            return Ok(());
        }
        Err(Stop::Limit {
            limit: self.limit,
            allowed: self.allowed,
            requested: Some(sum),
        })
    }

    fn settle_peak(&mut self) {
        self.peak = self.peak.max(self.held);
    }

    /// Growth failed. Where it was approved it is taken back, and this is true.
    fn failed(&mut self) -> bool {
        let was_approved = self.pending > 0;
        if self.peak == self.held {
            self.peak -= self.pending;
        }
        self.held -= self.pending;
        self.pending = 0;
        was_approved
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.memory.grow(current, desired, maximum)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let was_approved = self.memory.failed();
        self.after_failure(was_approved)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Past what the pool has for it, which a host without a pool has: it would tell the two from each other.
        if self.must_grow && maximum == Some(TABLE_ELEMENTS) && desired > TABLE_ELEMENTS {
            let stop = Stop::Limit {
                limit: Limit::TableElements,
                allowed: TABLE_ELEMENTS as u64,
                requested: Some(desired as u64),
            };
            return Err(stop.into());
        }
        self.table.grow(current, desired, maximum)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let was_approved = self.table.failed();
        self.after_failure(was_approved)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        // Each holds elements, and those are counted; an empty one costs what an instance does.
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(memory_bytes: u64) -> Limiter {
        Limiter::new(
            &Limits {
                memory_bytes,
                ..Limits::default()
            },
            0,
        )
    }

    #[test]
    fn memories_are_summed() {
        let mut limiter = limiter(300);
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        assert!(limiter.memory_growing(0, 150, None).unwrap());
        let error = limiter.memory_growing(100, 200, None).unwrap_err();
        assert!(matches!(
            error.downcast_ref::<Stop>(),
            Some(Stop::Limit {
                limit: Limit::Memory,
                allowed: 300,
                requested: Some(350)
            })
        ));
        assert_eq!(limiter.peak_memory_bytes(), 250);
    }

    #[test]
    fn growth_that_failed_after_all_does_not_count() {
        let mut limiter = limiter(300);
        limiter.memory_growing(0, 100, None).unwrap();
        limiter.memory_growing(100, 300, None).unwrap();
        limiter
            .memory_grow_failed(wasmtime::Error::msg("no"))
            .unwrap();
        assert_eq!(limiter.peak_memory_bytes(), 100);
        assert!(limiter.memory_growing(100, 300, None).unwrap());
        assert_eq!(limiter.peak_memory_bytes(), 300);
    }

    #[test]
    fn contexts_count_as_memory_where_they_are_more_than_a_page() {
        let limits = Limits {
            memory_bytes: 3 * PAGE,
            ..Limits::default()
        };
        let page = 64 * 1024;
        let mut small = Limiter::new(&limits, FREE_CONTEXT);
        small.admit().unwrap();
        assert_eq!(small.peak_memory_bytes(), 0);
        assert!(small.memory_growing(0, 3 * page, None).unwrap());
        let mut larger = Limiter::new(&limits, FREE_CONTEXT + 100);
        larger.admit().unwrap();
        assert_eq!(larger.peak_memory_bytes(), PAGE, "in whole pages");
        larger.memory_growing(0, 3 * page, None).unwrap_err();
        let mut huge = Limiter::new(&limits, FREE_CONTEXT + 3 * PAGE + 1);
        assert!(huge.admit().is_err());
    }

    #[test]
    fn growth_past_the_guests_own_maximum_is_its_business() {
        for must_grow in [false, true] {
            let mut limiter = limiter(300);
            if must_grow {
                limiter.must_grow();
            }
            assert!(!limiter.memory_growing(0, 200, Some(100)).unwrap());
            limiter
                .memory_grow_failed(wasmtime::Error::msg("no"))
                .unwrap();
            assert!(limiter.memory_growing(0, 300, None).unwrap());
        }
    }

    #[test]
    fn growth_that_must_happen_and_does_not_is_a_stop() {
        let mut limiter = limiter(300);
        limiter.must_grow();
        limiter.memory_growing(0, 100, None).unwrap();
        limiter.memory_growing(100, 300, None).unwrap();
        let error = limiter
            .memory_grow_failed(wasmtime::Error::msg("no"))
            .unwrap_err();
        assert_eq!(error.downcast_ref::<Stop>(), Some(&Stop::NoMemory));
        assert_eq!(limiter.peak_memory_bytes(), 100);
        limiter.table_growing(0, 10, None).unwrap();
        let error = limiter.table_grow_failed(wasmtime::Error::msg("no"));
        assert!(error.unwrap_err().is::<Stop>());
    }
}
