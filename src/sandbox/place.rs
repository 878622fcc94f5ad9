//! The right to run on an engine.

use tokio::sync::{AcquireError, SemaphorePermit};

use super::contract::Component;
use super::mappings::{Taken, needed};

/// A slot of an engine, and the mappings of memory that are needed there.
pub(crate) struct Place<'c> {
    _slot: SemaphorePermit<'c>,
    _mappings: Option<Taken>,
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
        })
    }
}
