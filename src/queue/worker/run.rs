//! The loop of a worker.

mod died;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::engine::claim::{Claimed, ClaimedRow, Wanted};
use super::super::engine::lease::report;
use super::super::engine::settle::Ending;
use super::super::engine::tick::{leave, take_strays, tick};
use super::super::error::QueueError;
use super::super::handle::{Queue, answered};
use super::super::job::JobStatus;
use super::super::operation::Operation;
use super::super::store::WorkerRow;
use super::super::time::{micros, span};
use super::attempt::{Bench, Performed, RELEASED};
use super::reports::Reports;
use super::settle::{Ended, Written, message, settle};
use super::{Done, Settings, Settled, WorkerError};

/// How often to look for work where nobody tells of any.
const LOOK: Duration = Duration::from_secs(1);
/// How soon to look again after a claim that did not look everywhere.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a few free places wait for more of them, so that many jobs are taken at a time.
const GATHER: Duration = Duration::from_millis(5);
/// How often to look whether somebody wants a running job cancelled.
const CANCELS: Duration = Duration::from_millis(20);
/// How often to write down how far jobs have come.
const REPORTS: Duration = Duration::from_millis(200);
/// How often to remove what is old.
const PRUNE: Duration = Duration::from_secs(600);

/// How long what was interrupted may take to be given back.
const LAST: Duration = Duration::from_secs(10);

/// The most batches of attempts that ended whose settlement is waited for at a time, where what is
/// settled together costs less.
const BATCHES: usize = 2;

/// Which attempt: the job's number and the claim's. A job can be taken again before its last attempt
/// has been looked at here.
type At = (i64, i64);

struct Running {
    job: Uuid,
    token: CancellationToken,
}

struct Loop {
    settings: Settings,
    bench: Arc<Bench>,
    /// New at every start, and whenever the lease was lost.
    identity: Uuid,
    tasks: JoinSet<Ended>,
    /// Attempts that ended, and are still to be settled.
    ended: Vec<Ended>,
    settling: JoinSet<Written>,
    running: HashMap<At, Running>,
    /// After which queue the next claim begins.
    after: i64,
    /// The last claim did not look everywhere.
    more: bool,
    /// The last claim got all that it asked for: there may be more.
    plenty: bool,
    /// Something changed since the last claim.
    look: bool,
    /// When the last claim was.
    claimed: Instant,
    done: Done,
    broken: Option<String>,
}

pub(super) async fn run(
    mut settings: Settings,
    stop: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
) -> Result<Done, WorkerError> {
    let bench = Arc::new(Bench {
        queue: settings.queue.clone(),
        execute: settings.execute.take(),
        handlers: std::mem::take(&mut settings.handlers),
        callbacks: settings.callbacks.take(),
        interrupted: CancellationToken::new(),
        reports: Reports::default(),
    });
    let mut changed = settings.queue.changes();
    let mut worker = Loop {
        bench,
        identity: Uuid::nil(),
        tasks: JoinSet::new(),
        ended: Vec::new(),
        settling: JoinSet::new(),
        running: HashMap::new(),
        after: 0,
        more: false,
        plenty: true,
        look: true,
        claimed: Instant::now(),
        done: Done::default(),
        broken: None,
        settings,
    };
    worker.register().await?;
    let worked = worker.work(stop, &mut changed).await;
    worker.drain(hurry, &mut changed).await;
    let left = worker.leave().await;
    worked?;
    left?;
    match worker.broken {
        Some(broken) => Err(WorkerError::Host(broken)),
        None => Ok(worker.done),
    }
}

impl Loop {
    fn queue(&self) -> &Queue {
        &self.settings.queue
    }

    /// Becomes somebody.
    async fn register(&mut self) -> Result<(), QueueError> {
        self.identity = Uuid::now_v7();
        let lease = span(self.settings.lease);
        let (id, name) = (self.identity, self.settings.name.clone());
        self.queue()
            .write(move |rows, now| {
                let row = WorkerRow {
                    id,
                    name: name.clone(),
                    started: now,
                    lease_until: now.saturating_add(lease),
                };
                Box::pin(async move { rows.put_worker(&row).await })
            })
            .await
    }

    /// Is nobody any more. What it could not settle goes the way of what dead workers leave.
    async fn leave(&mut self) -> Result<(), QueueError> {
        let id = self.identity;
        self.queue()
            .write(move |rows, now| Box::pin(async move { leave(rows, id, now).await }))
            .await
    }

    /// Takes jobs and does them until `stop` is ready, or nothing is left where that is asked for.
    async fn work(
        &mut self,
        stop: impl Future<Output = ()>,
        changed: &mut watch::Receiver<u64>,
    ) -> Result<(), QueueError> {
        let mut stop = pin!(stop);
        let mut heartbeat = every(self.settings.lease / 3);
        let mut reports = every(REPORTS);
        let mut cancels = every(CANCELS);
        let mut prune = every(PRUNE);
        let mut next_look = Instant::now();
        let mut cancel = false;
        if self.settings.until_empty {
            // What a dead worker left could start now, and is found by that.
            heartbeat.reset();
            self.beat().await?;
        }
        loop {
            if self.broken.is_some() {
                return Ok(());
            }
            // Also where others come first all the time.
            cancel |= changed.has_changed().unwrap_or(true);
            match self.wants() {
                Some(when) if when > Instant::now() => next_look = next_look.min(when),
                Some(_) => {
                    changed.mark_unchanged();
                    // What ends while the claim is on its way may leave something behind it.
                    let alone = self.running.is_empty();
                    next_look = Instant::now()
                        + match self.claim().await? {
                            Some(claimed) => {
                                let idle = claimed == 0 && !self.more && alone;
                                if idle && self.settings.until_empty {
                                    return Ok(());
                                }
                                self.until_next(claimed).await?
                            }
                            // Nobody knows whether there are any.
                            None => LOOK,
                        };
                }
                None => {}
            }
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                // What comes by the clock goes before what comes in a stream.
                _ = heartbeat.tick() => self.beat().await?,
                _ = cancels.tick(), if cancel && !self.running.is_empty() => {
                    cancel = false;
                    self.heed_cancels().await?;
                }
                _ = reports.tick(), if !self.running.is_empty() => self.write_reports(),
                _ = prune.tick() => self.prune(),
                () = self.collect() => {}
                alive = changed.changed() => {
                    if alive.is_err() {
                        return Err(QueueError::Closed);
                    }
                    self.look = true;
                    cancel = true;
                }
                () = sleep_until(next_look) => {
                    self.look = true;
                    cancel = true;
                    next_look = Instant::now() + LOOK;
                }
            }
        }
    }

    /// When to ask for more, if at all: at once where many can be had at a time; a few a little later,
    /// for what runs may run for long.
    fn wants(&self) -> Option<Instant> {
        let free = self.settings.concurrency - self.running.len();
        if free == 0 || !(self.look || self.plenty) {
            return None;
        }
        let enough = (self.settings.concurrency / 4).max(1);
        Some(match free >= enough {
            true => self.claimed,
            false => self.claimed + GATHER,
        })
    }

    /// Takes jobs, and says how many; `None` where the queue could not be asked.
    async fn claim(&mut self) -> Result<Option<usize>, QueueError> {
        let most = self.settings.concurrency - self.running.len();
        self.look = false;
        self.claimed = Instant::now();
        let wanted = Wanted {
            worker: self.identity,
            lease: span(self.settings.lease),
            queues: self.settings.queues.clone(),
            after: self.after,
            callbacks: self.bench.callbacks.is_some(),
            most,
        };
        let (reply, answer) = oneshot::channel();
        self.queue()
            .inner
            .store
            .send(Operation::Claim(wanted, reply));
        let mut answer = pin!(answered(answer));
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer,
                () = self.collect() => {}
            }
        };
        let claimed = match answer {
            // It passes, or somebody makes room: what runs goes on meanwhile.
            Err(error @ (QueueError::Full(_) | QueueError::Unavailable(_))) => {
                tracing::warn!(%error, "no jobs can be taken");
                self.plenty = false;
                return Ok(None);
            }
            claimed => claimed?,
        };
        let Claimed {
            rows,
            died,
            after,
            more,
        } = claimed;
        let count = rows.len();
        self.plenty = count == most;
        (self.after, self.more) = (after, more);
        for claimed in rows {
            self.start(claimed);
        }
        self.died(&died).await;
        Ok(Some(count))
    }

    fn start(&mut self, claimed: ClaimedRow) {
        let token = self.bench.interrupted.child_token();
        let at = (claimed.row.seq, claimed.row.fence);
        let running = Running {
            job: claimed.row.id,
            token: token.clone(),
        };
        self.running.insert(at, running);
        let (bench, worker) = (self.bench.clone(), self.identity);
        let hears = self.settings.on_settled.is_some();
        let attempt = claimed.row.attempts + 1;
        // It is large, and not to be moved about.
        self.tasks.spawn(Box::pin(async move {
            let began = Instant::now();
            let Performed {
                ending,
                broken,
                skill,
                tool,
            } = pin!(bench.perform(claimed, worker, token)).await;
            let told = hears.then(|| {
                Box::new(Settled {
                    job: ending.job,
                    skill,
                    tool,
                    attempt,
                    ended: ending.status,
                    status: JobStatus::Running,
                    message: message(&ending.details),
                    took: began.elapsed(),
                })
            });
            Ended {
                ending,
                broken,
                told,
            }
        }));
    }

    /// How long until it is worth looking again by itself.
    async fn until_next(&self, claimed: usize) -> Result<Duration, QueueError> {
        if self.more {
            return Ok(AGAIN);
        }
        if claimed > 0 {
            return Ok(LOOK);
        }
        let now = micros(self.queue().now());
        Ok(match self.queue().reads().next_due().await {
            Ok(Some(due)) => {
                let wait = Duration::from_micros((due - now).max(0).unsigned_abs());
                // Not at once again, where what is due may not start.
                wait.clamp(Duration::from_millis(1), LOOK)
            }
            _ => LOOK,
        })
    }

    /// Waits until attempts end or are settled, and sees to what comes of it; for ever where there are
    /// none.
    async fn collect(&mut self) {
        tokio::select! {
            Some(written) = self.settling.join_next() => self.written(written),
            Some(ended) = self.tasks.join_next() => {
                self.ended(ended);
                while let Some(ended) = self.tasks.try_join_next() {
                    self.ended(ended);
                }
            }
            else => std::future::pending().await,
        }
        self.settle();
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        match ended {
            Ok(mut ended) => {
                if ended.broken.is_some() {
                    self.broken = ended.broken.take();
                }
                self.ended.push(ended);
            }
            // Nothing is known of which it was: its lease will tell.
            Err(error) => {
                self.broken = Some(format!("an attempt was not brought to its end: {error}"));
            }
        }
    }

    /// Has attempts that ended settled: together, or each by itself, as it costs less.
    fn settle(&mut self) {
        let together = self.queue().inner.store.settles_together();
        if self.ended.is_empty() || together && self.settling.len() >= BATCHES {
            return;
        }
        let ended = std::mem::take(&mut self.ended);
        let batches: Vec<Vec<Ended>> = if together {
            vec![ended]
        } else {
            ended.into_iter().map(|ended| vec![ended]).collect()
        };
        for ended in batches {
            let (endings, told): (Vec<_>, Vec<_>) = ended
                .into_iter()
                .map(|ended| (ended.ending, ended.told))
                .unzip();
            let (queue, endings) = (self.queue().clone(), Arc::new(endings));
            self.settling.spawn(async move {
                let settled = settle(&queue, &endings).await;
                Written {
                    endings,
                    told,
                    settled,
                }
            });
        }
    }

    fn written(&mut self, written: Result<Written, tokio::task::JoinError>) {
        let Written {
            endings,
            told,
            settled,
        } = match written {
            Ok(written) => written,
            Err(error) => {
                self.broken = Some(format!("attempts could not be settled: {error}"));
                return;
            }
        };
        for ((ending, told), settled) in endings.iter().zip(told).zip(settled) {
            self.settled(ending, told, settled);
        }
    }

    fn settled(
        &mut self,
        ending: &Ending,
        told: Option<Box<Settled>>,
        settled: Result<JobStatus, QueueError>,
    ) {
        self.running.remove(&(ending.seq, ending.fence));
        self.bench.reports.ended(ending.seq, ending.fence);
        match settled {
            Ok(status) => {
                if let (Some(hear), Some(told)) = (&self.settings.on_settled, told) {
                    hear(&Settled { status, ..*told });
                }
                self.done.settled += 1;
                self.done.completed += u64::from(status == JobStatus::Completed);
                self.done.died += u64::from(status == JobStatus::Dead);
                self.done.retried += u64::from(status == JobStatus::Failed);
                let back = ending.status == RELEASED && status == JobStatus::Pending;
                self.done.released += u64::from(back);
            }
            Err(error) => tracing::warn!(%error, "an attempt could not be settled"),
        }
    }

    /// Renews the lease, and does what somebody has to do from time to time.
    async fn beat(&mut self) -> Result<(), QueueError> {
        let (id, lease) = (self.identity, span(self.settings.lease));
        let known: Arc<HashSet<At>> = Arc::new(self.running.keys().copied().collect());
        let beat = self
            .queue()
            .write(move |rows, now| {
                let known = known.clone();
                Box::pin(async move {
                    let ours = rows.renew(id, now.saturating_add(lease)).await?;
                    let mut ticked = tick(rows, now).await?;
                    if ours {
                        take_strays(rows, id, &known, &mut ticked, now).await?;
                    }
                    Ok((ours, ticked))
                })
            })
            .await;
        match beat {
            Ok((true, ticked)) => {
                self.look |= ticked.more || ticked.rescued > 0;
                self.died(&ticked.died).await;
                Ok(())
            }
            Ok((false, ticked)) => {
                tracing::warn!("this worker's lease expired; what it had has been taken from it");
                for running in self.running.values() {
                    running.token.cancel();
                }
                self.died(&ticked.died).await;
                self.register().await
            }
            // It may pass before the lease does.
            Err(error @ (QueueError::Full(_) | QueueError::Unavailable(_))) => {
                tracing::warn!(%error, "the lease could not be renewed");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn heed_cancels(&mut self) -> Result<(), QueueError> {
        let wanted = match self.queue().reads().cancels(self.identity).await {
            // It passes; what runs goes on meanwhile.
            Err(error @ (QueueError::Full(_) | QueueError::Unavailable(_))) => {
                tracing::warn!(%error, "the queue cannot be asked what to cancel");
                return Ok(());
            }
            wanted => wanted?,
        };
        for running in self.running.values() {
            if wanted.contains(&running.job) {
                running.token.cancel();
            }
        }
        Ok(())
    }

    /// Writes down how far jobs have come; nobody waits for it.
    fn write_reports(&self) {
        let reports = self.bench.reports.take();
        if reports.is_empty() {
            return;
        }
        let reports = Arc::new(reports);
        let (operation, _) = Operation::other(move |rows, now| {
            let reports = reports.clone();
            Box::pin(async move { report(rows, &reports, now).await })
        });
        self.queue().inner.store.send(operation);
    }

    fn prune(&self) {
        let (queue, keep) = (self.queue().clone(), self.settings.keep);
        tokio::spawn(async move {
            if let Err(error) = queue.prune(keep).await {
                tracing::warn!(%error, "what is old could not be removed");
            }
        });
    }

    /// Lets what runs finish for a while, then interrupts it.
    async fn drain(&mut self, hurry: impl Future<Output = ()>, changed: &mut watch::Receiver<u64>) {
        let mut hurry = pin!(hurry);
        let mut heartbeat = every(self.settings.lease / 3);
        let mut cancels = every(CANCELS);
        let mut reports = every(REPORTS);
        let end = Instant::now() + self.settings.grace;
        let mut cut: Option<Instant> = None;
        // What came in the last moment before.
        let mut look = true;
        let mut told = 0;
        self.settle();
        while !(self.tasks.is_empty() && self.settling.is_empty()) {
            if told != self.running.len() {
                told = self.running.len();
                if let Some(hear) = &self.settings.on_stopping {
                    hear(told);
                }
            }
            tokio::select! {
                () = self.collect() => {}
                () = sleep_until(end), if cut.is_none() => {
                    cut = Some(Instant::now() + LAST);
                    self.bench.interrupted.cancel();
                }
                () = &mut hurry, if cut.is_none() => {
                    cut = Some(Instant::now() + LAST);
                    self.bench.interrupted.cancel();
                }
                // What cannot be written down by now is found out when the lease expires.
                () = sleep_until(cut.unwrap_or(end)), if cut.is_some() => {
                    tracing::warn!(left = self.running.len(), "attempts could not be settled");
                    self.tasks.abort_all();
                    self.settling.abort_all();
                    return;
                }
                _ = cancels.tick() => {
                    if std::mem::take(&mut look) || matches!(changed.has_changed(), Ok(true)) {
                        changed.mark_unchanged();
                        if let Err(error) = self.heed_cancels().await {
                            tracing::warn!(%error, "the queue cannot be asked what to cancel");
                        }
                    }
                }
                _ = reports.tick() => self.write_reports(),
                _ = heartbeat.tick() => {
                    if let Err(error) = self.beat().await {
                        tracing::warn!(%error, "the lease could not be renewed");
                    }
                }
            }
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests;
