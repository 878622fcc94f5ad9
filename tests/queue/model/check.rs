//! That the queue is where the model is.

use std::collections::BTreeMap;

use skillhost::queue::{Filter, JobEventKind, JobStatus};
use uuid::Uuid;

use super::{Checked, World, same};
use crate::place::events;

impl World {
    /// That the queue is where the model is.
    pub async fn check(&mut self) -> Checked {
        let filter = Filter {
            limit: Some(10_000),
            ..Filter::default()
        };
        let listed = self.queue.list(&filter).await;
        let mut real = BTreeMap::new();
        for job in listed.map_err(|error| error.to_string())?.items {
            real.insert(job.id, job);
        }
        let mut counts: BTreeMap<JobStatus, u64> =
            JobStatus::ALL.iter().map(|&status| (status, 0)).collect();
        for model in &mut self.jobs {
            let job = real.get(&model.id).ok_or("a job is lost")?;
            same("status", job.status, model.status)?;
            same("attempts", job.attempts, model.attempts)?;
            if model.status.is_waiting() {
                // By the clock of one that ticks.
                let apart = (job.scheduled_at - model.due).abs();
                if apart < chrono::Duration::milliseconds(500) {
                    model.due = job.scheduled_at;
                }
                same("due", job.scheduled_at, model.due)?;
            }
            if model.status == JobStatus::Running {
                same("cancel", job.cancel_requested, model.cancel_requested)?;
            }
            *counts.entry(model.status).or_default() += 1;
        }
        *counts.entry(JobStatus::Completed).or_default() += self.rescues;
        let statistics = self.queue.statistics(168).await;
        let statistics = statistics.map_err(|error| error.to_string())?;
        same("counts", statistics.by_status, counts)
    }

    /// That each job ended once, and that no event is missing.
    pub async fn check_events(&self) -> Checked {
        let mut ends: BTreeMap<Uuid, usize> = BTreeMap::new();
        for (number, event) in (1..).zip(events(&self.queue).await) {
            same("event", event.id, number)?;
            use JobEventKind::{Cancelled, Completed, Dead};
            if matches!(event.kind, Completed | Cancelled | Dead) {
                *ends.entry(event.job).or_default() += 1;
            }
        }
        for model in &self.jobs {
            let ended = ends.get(&model.id).copied().unwrap_or(0);
            same("ends", ended, usize::from(model.status.is_terminal()))?;
            let attempts = self.queue.attempts(model.id).await;
            let attempts = attempts.map_err(|error| error.to_string())?;
            let counted = attempts.iter().filter(|attempt| attempt.counted).count();
            same("counted", counted, model.attempts as usize)?;
        }
        Ok(())
    }
}
