//! The right to run on an engine.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{AcquireError, SemaphorePermit};

use super::contract::Component;
use super::mappings::{Taken, needed};

/// A slot of an engine, and the mappings of memory that are needed there.
pub(crate) struct Place<'c> {
    _slot: SemaphorePermit<'c>,
    _mappings: Option<Taken>,
    _active: Active<'c>,
}

/// One execution in flight among all.
struct Active<'c>(&'c AtomicU32);

impl<'c> Active<'c> {
    fn one_more(all: &'c AtomicU32) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Active(all)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'c> Place<'c> {
    /// One that is free now, for an execution that may have so many instances.
    pub(super) fn free(
        component: &'c Component,
        tenant: Option<&str>,
        instances: u64,
    ) -> Option<Self> {
        let tier = &component.tier;
        let needed = needed(component.memories, instances);
        let mappings = match tier.mappings {
            Some(mappings) => Some(mappings.try_take(tenant, needed).ok()?),
            None => None,
        };
        Some(Place {
            _slot: tier.slots.try_acquire().ok()?,
            _mappings: mappings,
            _active: Active::one_more(&tier.active),
        })
    }

    /// The next one that becomes free. Whoever waits for mappings has no slot meanwhile.
    pub(super) async fn next(
        component: &'c Component,
        tenant: Option<&str>,
        instances: u64,
    ) -> Result<Self, AcquireError> {
        let tier = &component.tier;
        let needed = needed(component.memories, instances);
        let mappings = match tier.mappings {
            Some(mappings) => Some(mappings.take(tenant, needed).await?),
            None => None,
        };
        Ok(Place {
            _slot: tier.slots.acquire().await?,
            _mappings: mappings,
            _active: Active::one_more(&tier.active),
        })
    }
}
