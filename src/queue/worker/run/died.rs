//! What is said of jobs that died without an attempt of this worker.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::super::super::engine::tick::Died;
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
        // There may be a thousand of them, and the body of each may be large.
        let found = match self.queue().reads().belongings(&ids).await {
            Ok(found) => found,
            // What became of them is written down all the same.
            Err(error) => {
                tracing::warn!(%error, "jobs that died cannot be read");
                return;
            }
        };
        let mut skills: HashMap<Uuid, String> = found
            .into_iter()
            .map(|(job, lane)| (job, lane.skill))
            .collect();
        for Died { job, expired } in died {
            let Some(skill) = skills.remove(job) else {
                continue;
            };
            let (ended, message) = match expired {
                false => ("lost", "its worker died, or lost touch with the queue"),
                true => ("expired", "its deadline passed while it waited"),
            };
            hear(&Settled {
                job: *job,
                skill,
                tool: None,
                attempt: 0,
                ended,
                status: JobStatus::Dead,
                message: Some(message.to_owned()),
                took: Duration::ZERO,
            });
        }
    }
}
