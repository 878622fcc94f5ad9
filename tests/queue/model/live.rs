//! Two workers that go on while other things happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use skillhost::queue::{Clock, Queue, Task, Worker};
use uuid::Uuid;

use super::{Checked, LEASE, World, same, seconds};
use crate::place::{Gate, LONG, Pass, TestClock, Working, scripted};

/// More than a clock that ticks is ahead of the others, in seconds; by no chance the clock goes back by
/// just as much.
const AHEAD: u64 = 17;

/// A worker that goes on, and the jobs that it has.
pub struct Live {
    pub working: Working,
    pub jobs: Vec<(Task, Pass)>,
    pub until: DateTime<Utc>,
    /// What it has was taken from it, and may be another's by now.
    pub is_lost: bool,
}

/// Goes on a little whenever it is read, so that one renewal of a lease can be told from another.
struct Ticking(Arc<TestClock>, AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> DateTime<Utc> {
        let more = self.1.fetch_add(1, Ordering::SeqCst);
        self.0.now() + chrono::Duration::microseconds(more)
    }
}

impl World {
    /// One of the two takes jobs, and keeps them.
    pub async fn begin(&mut self, which: usize, most: usize) -> Checked {
        if self.live[which].is_some() {
            return Ok(());
        }
        self.tick().await?;
        let count = self.startable(most);
        if count == 0 {
            return Ok(());
        }
        if self.theirs[which].is_none() {
            let clock = Ticking(self.clock.clone(), AtomicI64::new(0));
            let builder = Queue::builder().clock(Arc::new(clock));
            self.theirs[which] = Some(self.database.open(builder).await);
        }
        let queue = self.theirs[which].clone().expect("it was opened");
        let mut gate = Gate::new();
        // It has room for no more, so that it takes no more.
        let worker = Worker::builder(queue)
            .lease(Duration::from_secs(LEASE))
            .concurrency(count)
            .handler("work", gate.deaf());
        let working = Working::start(worker);
        let mut jobs = Vec::new();
        for _ in 0..count {
            let (task, pass) = gate.next().await;
            self.started(task.job)?;
            jobs.push((task, pass));
        }
        let until = self.renewed(&jobs[count - 1].0).await?;
        self.live[which] = Some(Live {
            working,
            jobs,
            until,
            is_lost: false,
        });
        Ok(())
    }

    /// Until when the lease of a job's worker holds, once it has renewed it, which it does by itself
    /// after it began and then not for a long time.
    async fn renewed(&self, task: &Task) -> Result<DateTime<Utc>, String> {
        let text = |error: skillhost::queue::QueueError| error.to_string();
        let job = self.queue.job(task.job).await.map_err(text)?;
        let claimed = job.started_at.ok_or("it was not started")? + seconds(LEASE);
        let renewed = async {
            loop {
                let statistics = self.queue.statistics(1).await.map_err(text)?;
                let mut workers = statistics.workers.iter();
                let ours = workers.find(|worker| Some(worker.id) == job.worker);
                let until = ours.ok_or("it is nobody")?.lease_until;
                if until > claimed {
                    return Ok::<_, String>(until);
                }
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(LONG, renewed).await;
        waited.map_err(|_| "it does not renew its lease".to_owned())?
    }

    /// One of the two ends what it has: it is heard where its lease holds.
    pub async fn finish(&mut self, which: usize) -> Checked {
        if self.live[which].is_none() {
            return Ok(());
        }
        // Who is told to stop does so, too, at some moment.
        self.tick().await?;
        let Some(live) = self.live[which].take() else {
            return Ok(());
        };
        let now = self.now();
        let (mut settled, mut passes) = (0, Vec::new());
        for (task, pass) in live.jobs {
            if !live.is_lost {
                let mut models = self.jobs.iter_mut();
                let model = models.find(|model| model.id == task.job);
                model.ok_or("a running job is gone")?.run(now);
                settled += 1;
            }
            passes.push((pass, scripted(task).await));
        }
        let done = live.working.finish(|| {
            for (pass, answer) in passes {
                // It may have given it up already.
                let _ = pass.send(answer);
            }
        });
        let done = done.await.map_err(|error| error.to_string())?;
        // Past what its clock is ahead.
        self.advance(AHEAD);
        same("settled", done.settled, settled)
    }

    /// Whether one of the two has it.
    pub fn is_live(&self, id: Uuid) -> bool {
        let mut live = self.live.iter().flatten().filter(|live| !live.is_lost);
        live.any(|live| live.jobs.iter().any(|(task, _)| task.job == id))
    }
}
