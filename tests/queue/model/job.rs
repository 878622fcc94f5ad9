//! A job, as the model has it.

use chrono::{DateTime, Utc};
use skillhost::queue::JobStatus;
use uuid::Uuid;

use super::operation::Script;
use super::{SNOOZE, seconds};

/// What is known of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub id: Uuid,
    pub status: JobStatus,
    pub attempts: u32,
    pub due: DateTime<Utc>,
    pub cancel_requested: bool,
    pub script: Script,
    pub queue: usize,
    pub tenant: usize,
    pub replay_of: Option<Uuid>,
    pub deadline: Option<DateTime<Utc>>,
    pub max_attempts: u32,
    pub backoff: u64,
}

impl Model {
    pub fn fail(&mut self, now: DateTime<Utc>) {
        self.attempts += 1;
        let due = now + seconds(self.backoff);
        if self.attempts >= self.max_attempts || self.deadline.is_some_and(|end| due >= end) {
            self.status = JobStatus::Dead;
        } else if self.cancel_requested {
            self.status = JobStatus::Cancelled;
        } else {
            self.status = JobStatus::Failed;
        }
        if self.status != JobStatus::Dead {
            self.due = due;
        }
    }

    /// One attempt.
    pub fn run(&mut self, now: DateTime<Utc>) {
        let attempt = self.attempts + 1;
        match self.script {
            Script::Until(good) if attempt < good => self.fail(now),
            Script::Succeeds | Script::Until(_) => {
                self.attempts = attempt;
                self.status = JobStatus::Completed;
            }
            Script::Fails => {
                self.attempts = attempt;
                self.status = JobStatus::Dead;
            }
            Script::Snoozes => {
                let due = now + seconds(SNOOZE);
                if self.deadline.is_some_and(|end| due >= end) {
                    self.status = JobStatus::Dead;
                } else {
                    self.status = JobStatus::Pending;
                    self.due = due;
                }
            }
        }
    }
}
