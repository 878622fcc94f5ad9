//! What can be paused and bounded: queues, tenants, skills.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::engine::control::{ScopeChange, set_scope};
use super::error::QueueError;
use super::handle::Queue;
use super::prepare::check_scope;
use super::store::ScopeKind;
use super::time::span;

type Result<T> = std::result::Result<T, QueueError>;

/// Bounds on a queue, a tenant or a skill. What is left out stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bounds {
    /// How many may run at once, over all workers; `Some(None)` takes the bound away.
    pub concurrency: Option<Option<u32>>,
    /// How many may start in which period, over all workers: so many at once, and then one each time that
    /// a period's part for one has passed; with 10 in a minute, ten at once and one every 6 s. So the first
    /// period can see nearly twice as many, and every period after it sees so many on average. `Some(None)`
    /// takes the bound away.
    pub rate: Option<Option<(u32, Duration)>>,
    /// A tenant's part in proportion to others': 1 unless set.
    pub weight: Option<u32>,
}

/// A queue, tenant or skill that has, or had, jobs or bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct ScopeInfo {
    /// What it is.
    pub kind: ScopeKind,
    /// Its name; empty for jobs without a tenant, or a skill.
    pub name: String,
    /// Whether none of its jobs start.
    pub paused: bool,
    /// How many may run at once, over all workers.
    pub concurrency: Option<u32>,
    /// How many may start, over all workers.
    pub rate: Option<RateInfo>,
    /// A tenant's part in proportion to others'.
    pub weight: u32,
}

/// How many may start at once, and how long it takes until as many have become free again, one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct RateInfo {
    /// How many.
    pub count: u32,
    /// The period in milliseconds.
    pub period_ms: u64,
}

/// The longest period of a rate.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

impl Queue {
    /// Starts no more jobs of a queue, tenant or skill, or goes on. What runs is not touched.
    ///
    /// # Errors
    /// Where no job can be of that name, or the store cannot be written.
    pub async fn pause_all(&self, kind: ScopeKind, name: &str, paused: bool) -> Result<()> {
        let change = ScopeChange {
            paused: Some(paused),
            ..ScopeChange::default()
        };
        self.set_scope(kind, name, change).await
    }

    /// Bounds what a queue, tenant or skill may have, over all workers.
    ///
    /// # Errors
    /// Where no job can be of that name, a bound is 0, a rate's period is longer than a year, or the store cannot be written.
    pub async fn set_bounds(&self, kind: ScopeKind, name: &str, bounds: Bounds) -> Result<()> {
        if bounds.concurrency == Some(Some(0)) {
            return Err(QueueError::Invalid(
                "none at once; pause it instead".to_owned(),
            ));
        }
        if bounds.weight == Some(0) {
            return Err(QueueError::Invalid("a weight of 0".to_owned()));
        }
        if let Some(Some((count, period))) = bounds.rate
            && (count == 0 || period.is_zero())
        {
            return Err(QueueError::Invalid(
                "a rate of nothing; pause it instead".to_owned(),
            ));
        }
        if let Some(Some((_, period))) = bounds.rate
            && period > LONGEST
        {
            return Err(QueueError::Invalid(
                "a rate over more than a year".to_owned(),
            ));
        }
        let change = ScopeChange {
            paused: None,
            concurrency: bounds.concurrency.map(|most| most.map(i64::from)),
            rate: bounds
                .rate
                .map(|rate| rate.map(|(count, period)| (i64::from(count), span(period)))),
            weight: bounds.weight.map(i64::from),
        };
        self.set_scope(kind, name, change).await
    }

    async fn set_scope(&self, kind: ScopeKind, name: &str, change: ScopeChange) -> Result<()> {
        check_scope(kind, name)?;
        let name: Arc<str> = name.into();
        self.write(move |rows, now| {
            let name = name.clone();
            Box::pin(async move { set_scope(rows, kind, &name, change, now).await.map(drop) })
        })
        .await
    }

    /// Every queue, tenant or skill that there is, by name.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn scopes(&self, kind: ScopeKind) -> Result<Vec<ScopeInfo>> {
        let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        let scopes = self.reads().scopes(kind).await?;
        Ok(scopes
            .into_iter()
            .map(|scope| ScopeInfo {
                kind: scope.kind,
                name: scope.name,
                paused: scope.paused,
                concurrency: scope.concurrency.map(number),
                rate: scope.rate.map(|rate| RateInfo {
                    count: number(rate.count),
                    period_ms: (rate.period / 1_000).unsigned_abs(),
                }),
                weight: number(scope.weight),
            })
            .collect())
    }
}
