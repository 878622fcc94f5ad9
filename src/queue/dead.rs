//! Jobs that will not be tried again by themselves: to understand, to replay, to discard, to take
//! elsewhere.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::attempt::Attempt;
use super::engine::keep::{Letter, discard, import, resubmit};
use super::engine::submit::Submitted;
use super::error::QueueError;
use super::handle::Queue;
use super::job::{Job, JobStatus, Work};
use super::new_job::{Due, Key, KeyScope, NewJob};
use super::prepare::prepare;
use super::retry::RetryPolicy;
use super::store::{AttemptRow, Flags};
use super::time::micros;
use crate::LimitOverrides;
use crate::skill::{Digest, SkillRef};

type Result<T> = std::result::Result<T, QueueError>;

/// How many are put back in one transaction, so that nobody waits long for it.
const IMPORTED: usize = 500;

/// A dead job with all that it takes to understand it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The job, its request included.
    pub job: Job,
    /// Every attempt, with its failure, usage, limits, grants and digest.
    pub attempts: Vec<Attempt>,
}

/// How to replay a dead job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replay {
    /// Limits to raise, or lower; the others stay as they were requested.
    pub limits: LimitOverrides,
    /// Which version of the skill.
    pub version: ReplayVersion,
    /// How it is tried again; as the dead job unless set.
    pub retry: Option<RetryPolicy>,
    /// Who replays it, for the record; as the dead job unless set.
    pub caller: Option<String>,
}

/// Which version of a skill a replay executes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReplayVersion {
    /// The digest that ran; as the job was submitted where none ran.
    #[default]
    Same,
    /// The one that goes by the skill's name now.
    Current,
}

impl DeadLetter {
    /// The skill that ran last: its name and digest.
    pub fn ran(&self) -> Option<(String, Digest)> {
        self.attempts.iter().rev().find_map(|attempt| {
            let skill = attempt.details.get("skill")?;
            let digest = skill.get("digest")?.as_str()?.parse().ok()?;
            Some((skill.get("name")?.as_str()?.to_owned(), digest))
        })
    }

    /// The job that replays it.
    fn replay(&self, replay: &Replay) -> Result<NewJob> {
        let mut job = self.job.submitted.clone();
        // By whatever it is referred to, it is that skill's in bounds and statistics.
        if job.skill.is_none() {
            job.skill = self.ran().map(|(name, _)| name);
        }
        if let Work::Execution { request } = &mut job.work {
            request.limits = replay.limits.or(&request.limits);
            match (replay.version, self.ran()) {
                (ReplayVersion::Same, Some((_, digest))) => request.skill = digest.into(),
                (ReplayVersion::Same, None) => {}
                (ReplayVersion::Current, ran) => {
                    let name = match (&request.skill, ran) {
                        (_, Some((name, _))) => name,
                        (SkillRef::Name { name, .. }, None) => name.clone(),
                        (SkillRef::Digest(_), None) => {
                            return Err(QueueError::Invalid(format!(
                                "job {} never ran and names its skill by digest alone, so that \
                                 nothing is known of a current version",
                                self.job.id
                            )));
                        }
                    };
                    request.skill = SkillRef::Name {
                        name,
                        version: None,
                    };
                }
            }
        }
        if let Some(retry) = &replay.retry {
            job.retry = Some(retry.clone());
            job.attempts = None;
        }
        let before = job.id;
        Ok(NewJob {
            id: super::new_job::new_id(),
            due: Due::Now,
            deadline: None,
            paused: false,
            // So that two who replay it at once do so once.
            key: Some(Key {
                key: format!("replay:{before}"),
                scope: KeyScope::Unfinished,
            }),
            replay_of: Some(before),
            caller: replay.caller.clone().or(job.caller),
            ..job
        })
    }
}

impl Queue {
    /// A dead job with all that it takes to understand it.
    ///
    /// # Errors
    /// Where there is no such job, or it is not dead.
    pub async fn dead_letter(&self, id: Uuid) -> Result<DeadLetter> {
        let job = self.job(id).await?;
        if job.status != JobStatus::Dead {
            return Err(QueueError::Conflict {
                id,
                status: job.status,
                wanted: "treated as a dead letter",
            });
        }
        let attempts = self.attempts(id).await?;
        Ok(DeadLetter { job, attempts })
    }

    /// Submits a new job that does what a dead one was to do, and is linked to it. While such a job
    /// has not ended, it is the answer to every further replay. The dead one is marked as
    /// [replayed](Job::replayed).
    ///
    /// # Errors
    /// Where there is no such dead job, or the replay cannot be accepted.
    pub async fn replay(&self, id: Uuid, replay: &Replay) -> Result<Submitted> {
        let letter = self.dead_letter(id).await?;
        let prepared = self.prepare_own(vec![letter.replay(replay)?]).await?;
        let prepared = Arc::new(prepared);
        self.write(move |rows, now| {
            let prepared = prepared.clone();
            Box::pin(async move { resubmit(rows, id, &prepared, now).await })
        })
        .await?
    }

    /// Removes dead jobs, each by itself.
    ///
    /// # Errors
    /// Where the store cannot be written; of each job, where there is no such dead job.
    pub async fn discard(&self, ids: &[Uuid]) -> Result<Vec<Result<()>>> {
        let asked = Arc::new(ids.to_vec());
        let refused = self
            .write(move |rows, now| {
                let ids = asked.clone();
                Box::pin(async move { discard(rows, &ids, now).await })
            })
            .await?;
        let answer = |id: &Uuid| match refused.iter().find(|(other, _)| other == id) {
            None => Ok(()),
            Some((_, None)) => Err(QueueError::NotFound(*id)),
            Some((_, Some(status))) => Err(QueueError::Conflict {
                id: *id,
                status: *status,
                wanted: "discarded: only dead jobs can",
            }),
        };
        Ok(ids.iter().map(answer).collect())
    }

    /// Puts dead letters back that were taken from here or from another queue, as they were; those
    /// whose job is there already are left alone. Gives how many were put back.
    ///
    /// # Errors
    /// Where one of them cannot be accepted: then none is. Where the store cannot be written: some may
    /// have been put back, 500 at a time, and to do it once more goes on with the others.
    pub async fn import_dead(&self, letters: Vec<DeadLetter>) -> Result<usize> {
        let letters = letters
            .into_iter()
            .map(|letter| self.letter(letter))
            .collect::<Result<Vec<_>>>()?;
        let letters = Arc::new(letters);
        let mut count = 0;
        for start in (0..letters.len()).step_by(IMPORTED) {
            let letters = letters.clone();
            count += self
                .write(move |rows, now| {
                    let letters = letters.clone();
                    Box::pin(async move {
                        let end = letters.len().min(start + IMPORTED);
                        import(rows, &letters[start..end], now).await
                    })
                })
                .await?;
        }
        Ok(count)
    }

    fn letter(&self, letter: DeadLetter) -> Result<Letter> {
        let DeadLetter { job, attempts } = letter;
        if job.status != JobStatus::Dead {
            return Err(QueueError::Invalid(format!(
                "job {} is {}, and not dead",
                job.id, job.status
            )));
        }
        job.retry.policy.check()?;
        let policy = job.retry.policy.clone();
        let max_bytes = self.max_job_bytes();
        let mut prepared = prepare(
            &job.submitted,
            |_| Arc::new(policy),
            max_bytes,
            micros(job.created_at),
        )?;
        let row = &mut prepared.row;
        row.status = JobStatus::Dead;
        row.flags = row.flags.with(Flags::REPLAYED, job.replayed);
        row.cause.clone_from(&job.cause);
        row.attempts = job.attempts;
        row.max_attempts = job.max_attempts;
        row.updated = micros(job.updated_at);
        row.due = micros(job.scheduled_at);
        row.started = job.started_at.map(micros);
        row.completed = Some(micros(job.completed_at.unwrap_or(job.updated_at)));
        let attempts = (1..)
            .zip(attempts)
            .map(|(fence, attempt)| AttemptRow {
                job: 0,
                fence,
                number: attempt.attempt,
                counted: attempt.counted,
                worker: attempt.worker,
                started: micros(attempt.started_at),
                ended: micros(attempt.ended_at),
                status: attempt.status,
                details: attempt.details.to_string().into(),
            })
            .collect();
        Ok(Letter {
            row: prepared.row,
            lane: prepared.lane,
            body: prepared.body,
            attempts,
            tags: prepared.tags,
        })
    }
}
