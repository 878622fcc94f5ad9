//! Which jobs are listed, and how many at once.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::queue::job::{JobStatus, Kind};

/// Which jobs to list. All that are named must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// One of these statuses; any where empty.
    pub status: Vec<JobStatus>,
    /// This kind.
    pub kind: Option<Kind>,
    /// This queue.
    pub queue: Option<String>,
    /// This tenant.
    pub tenant: Option<String>,
    /// This skill, as the job names it.
    pub skill: Option<String>,
    /// This tag.
    pub tag: Option<String>,
    /// Dead, paused or waiting for this cause.
    pub cause: Option<String>,
    /// Dead ones that were replayed, or that were not; both unless set.
    pub replayed: Option<bool>,
    /// Where to go on with the next page: what [`Page::next`](crate::queue::Page::next) said. It holds also
    /// where jobs were removed meanwhile.
    pub cursor: Option<i64>,
    /// Submitted before this one, which has to be there.
    pub before: Option<Uuid>,
    /// At most so many; 100 unless set, and at most 10,000.
    pub limit: Option<usize>,
}

/// How many bytes of bodies are listed at once, the last job being whole.
pub(crate) const LISTED_BYTES: usize = 32 << 20;
/// Of how many lanes a list is put together from each by itself. What has more lanes is found soon by
/// going through all jobs.
pub(crate) const LISTED_LANES: usize = 256;

/// Part of a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed<T> {
    pub items: Vec<T>,
    /// Whether others come behind them.
    pub more: bool,
}

impl<T> Listed<T> {
    /// Out of as many as there are, up to one more than are wanted.
    pub fn of(mut items: Vec<T>, most: usize) -> Self {
        let more = items.len() > most;
        items.truncate(most);
        Listed { items, more }
    }
}

impl Filter {
    /// How many to give.
    pub(crate) fn most(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, 10_000)
    }

    /// The names of a queue, tenant and skill that are wanted, each beside what joins it.
    pub(crate) fn lanes(&self) -> Vec<(&'static str, &str)> {
        let names = [
            ("queues", &self.queue),
            ("tenants", &self.tenant),
            ("skills", &self.skill),
        ];
        names
            .into_iter()
            .filter_map(|(of, name)| Some((of, name.as_deref()?)))
            .collect()
    }

    /// Whether jobs that fit are better looked for lane by lane than among all of their statuses: of
    /// those that are not over there are few, and an index of them.
    pub(crate) fn by_lane(&self) -> bool {
        let over = |status: &JobStatus| status.is_terminal();
        self.status.is_empty() || self.status.iter().any(over)
    }
}
