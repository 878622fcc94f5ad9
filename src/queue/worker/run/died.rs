//! What is said of jobs that died without an attempt of this worker.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::super::super::engine::tick::Died;
use super::super::super::handle::job;
use super::super::super::job::JobStatus;
use super::super::Settled;
use super::Loop;

impl Loop {
    /// Counts them, and tells of them as of those that died of an attempt.
    pub(super) async fn died(&mut self, died: &[Died]) {
        self.done.died += died.len() as u64;
        let Some(hear) = self
            .settings
            .on_settled
            .clone()
            .filter(|_| !died.is_empty())
        else {
            return;
        };
        let ids: Vec<Uuid> = died.iter().map(|died| died.job).collect();
        let found = match self.queue().reads().find(&ids).await {
            Ok(found) => found,
            // What became of them is written down all the same.
            Err(error) => {
                tracing::warn!(%error, "jobs that died cannot be read");
                return;
            }
        };
        let expired: HashMap<Uuid, bool> =
            died.iter().map(|died| (died.job, died.expired)).collect();
        for job in found.into_iter().filter_map(|found| job(found).ok()) {
            let (ended, message) = match expired.get(&job.id) {
                Some(false) => ("lost", "its worker died, or lost touch with the queue"),
                _ => ("expired", "its deadline passed while it waited"),
            };
            hear(&Settled {
                job: job.id,
                skill: job.submitted.skill(),
                tool: job.submitted.work.tool().map(str::to_owned),
                attempt: 0,
                ended,
                status: JobStatus::Dead,
                message: Some(message.to_owned()),
                took: Duration::ZERO,
            });
        }
    }
}
