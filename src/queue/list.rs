//! Jobs, page by page.

use uuid::Uuid;

use super::error::QueueError;
use super::handle::{Queue, job};
use super::job::Job;
use super::store::{Filter, Found};
use crate::json;

/// What the values of the bodies of one list take in memory, in bytes, the last job being whole: a body that is small
/// may take a hundred times as much once it is read.
const LISTED_VALUES: u64 = 128 << 20;

type Result<T> = std::result::Result<T, QueueError>;

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is in it.
    pub items: Vec<T>,
    /// Where the next page begins, as [`Filter::cursor`]; `None` where nothing fits beyond this one.
    pub next: Option<i64>,
}

impl Queue {
    /// Jobs that fit a filter, the last submitted first: as many as are asked for, or fewer where they
    /// are large, so that what was submitted for them comes to 32 MiB, or takes 128 MiB of memory, and one
    /// job more at most. Whether there are others is what [`Page::next`] says, and not how many these are.
    ///
    /// ```no_run
    /// use skillhost::queue::{Filter, Queue};
    ///
    /// # async fn example(queue: Queue) -> Result<(), skillhost::queue::QueueError> {
    /// let mut filter = Filter::default();
    /// loop {
    ///     let page = queue.list(&filter).await?;
    ///     for job in &page.items {
    ///         println!("{} {}", job.id, job.status);
    ///     }
    ///     filter.cursor = page.next;
    ///     if page.next.is_none() {
    ///         break Ok(());
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Where the job is not there before which the page is to begin ([`Filter::before`]), or the store
    /// cannot be read.
    pub async fn list(&self, filter: &Filter) -> Result<Page<Job>> {
        let mut listed = self.reads().list(&self.placed(filter).await?).await?;
        if let Some(over) = too_much(&listed.items) {
            listed.items.truncate(over);
            listed.more = true;
        }
        let next = listed.items.last().map(|last| last.row.seq);
        let next = next.filter(|_| listed.more);
        let items = listed.items.into_iter().map(job).collect::<Result<_>>()?;
        Ok(Page { items, next })
    }

    /// Ids of jobs that fit a filter, the last submitted first.
    ///
    /// # Errors
    /// As [`Queue::list`].
    pub async fn ids(&self, filter: &Filter) -> Result<Page<Uuid>> {
        let listed = self.reads().ids(&self.placed(filter).await?).await?;
        let next = listed.items.last().map(|(seq, _)| *seq);
        let next = next.filter(|_| listed.more);
        let items = listed.items.into_iter().map(|(_, id)| id).collect();
        Ok(Page { items, next })
    }

    /// The filter with a place that does not go by a job: one that is not there would be the end of
    /// every list.
    async fn placed(&self, filter: &Filter) -> Result<Filter> {
        let mut filter = filter.clone();
        if let Some(before) = filter.before.take() {
            let found = self.reads().find(&[before]).await?;
            let seq = found.first().map(|found| found.row.seq);
            let seq = seq.ok_or(QueueError::NotFound(before))?;
            filter.cursor = Some(filter.cursor.map_or(seq, |cursor| cursor.min(seq)));
        }
        Ok(filter)
    }
}

/// The first of these jobs with which they are too much to be read at once.
fn too_much(found: &[Found]) -> Option<usize> {
    let mut taken: u64 = 0;
    found.iter().position(|found| {
        let is_over = taken >= LISTED_VALUES;
        // One that was never measured, such as of this machine's own user, may take any amount.
        let takes = json::measure(found.body.submitted.as_bytes());
        taken = taken.saturating_add(takes.unwrap_or(LISTED_VALUES));
        is_over
    })
}
