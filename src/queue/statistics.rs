//! What goes on in a queue, in numbers that cost nothing to read.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::counters::{Counter, DEAD, HOURS, Happened, JOBS, Measure, RUN, WAIT, hour, middle};
use super::error::QueueError;
use super::handle::Queue;
use super::job::JobStatus;
use super::store::LaneKey;
use super::time::{HOUR, Micros, SECOND, micros, moment};

/// How many jobs have which status.
pub type Counts = BTreeMap<JobStatus, u64>;

/// What goes on in a queue. Counts are exact; times are taken from a histogram whose buckets are
/// within 3.2 % of what is in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Statistics {
    /// When this was read.
    pub at: DateTime<Utc>,
    /// All jobs that are kept.
    pub total: u64,
    /// How many have which status.
    pub by_status: Counts,
    /// The same by queue.
    pub by_queue: BTreeMap<String, Counts>,
    /// The same by tenant; jobs without one stand under the empty name.
    pub by_tenant: BTreeMap<String, Counts>,
    /// How many are dead of which cause.
    pub dead_by_cause: BTreeMap<String, u64>,
    /// What follows is about the last so many hours: whole ones and the one that goes on.
    pub window_hours: u32,
    /// From when jobs were due to when they started.
    pub wait: Times,
    /// How long attempts took.
    pub run: Times,
    /// Of the jobs that completed or died, the part that completed: 0 to 1.
    pub success_rate: Option<f64>,
    /// Jobs that completed in an hour, on average.
    pub throughput_per_hour: f64,
    /// How long a job has been due that waits, in seconds: the longest, of those that are next in the
    /// line of a queue, tenant and skill. What is put off until later does not count.
    pub oldest_waiting_s: Option<f64>,
    /// Workers whose lease holds.
    pub active_workers: u64,
    /// Who they are.
    pub workers: Vec<WorkerInfo>,
}

/// How long something took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Times {
    /// How often.
    pub count: u64,
    /// On average, in milliseconds. Exact.
    pub average_ms: Option<f64>,
    /// Half of them took no longer, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 99 % of them took no longer, in milliseconds.
    pub p99_ms: Option<f64>,
}

/// A worker that lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct WorkerInfo {
    /// Its identity, new at every start.
    pub id: Uuid,
    /// Its machine and process.
    pub name: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Until when its claims hold, unless it renews them.
    pub lease_until: DateTime<Utc>,
}

/// How many hours of statistics are kept.
pub(crate) const KEPT_HOURS: u32 = 7 * 24;

impl Queue {
    /// What goes on, with times and rates over the last so many hours: 1 to 168.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn statistics(&self, window_hours: u32) -> Result<Statistics, QueueError> {
        let window_hours = window_hours.clamp(1, KEPT_HOURS);
        let now = micros(self.inner.clock.now());
        let lanes: HashMap<i64, LaneKey> = self.reads().lanes().await?.into_iter().collect();
        let counters = self
            .reads()
            .counters(&[JOBS, DEAD, HOURS, WAIT, RUN])
            .await?;
        let mut tally = Tallied::new(now, window_hours);
        for (kind, number, name, value) in counters {
            if let Some(counter) = Counter::from_columns(&kind, number, &name) {
                tally.add(counter, value, &lanes);
            }
        }
        let oldest = self.reads().oldest(now).await?;
        let workers: Vec<WorkerInfo> = self
            .reads()
            .workers(now)
            .await?
            .into_iter()
            .map(|worker| WorkerInfo {
                id: worker.id,
                name: worker.name,
                started_at: moment(worker.started),
                lease_until: moment(worker.lease_until),
            })
            .collect();
        Ok(tally.finish(now, oldest, workers))
    }
}

/// What is summed up on the way.
struct Tallied {
    first_hour: i64,
    window_hours: u32,
    by_status: Counts,
    by_queue: BTreeMap<String, Counts>,
    by_tenant: BTreeMap<String, Counts>,
    dead_by_cause: BTreeMap<String, u64>,
    happened: HashMap<Happened, i64>,
    wait: BTreeMap<u32, i64>,
    run: BTreeMap<u32, i64>,
    /// The first hour that something happened in.
    since: Option<i64>,
}

impl Tallied {
    fn new(now: Micros, window_hours: u32) -> Self {
        Tallied {
            first_hour: hour(now) - i64::from(window_hours) + 1,
            window_hours,
            by_status: JobStatus::ALL.iter().map(|&status| (status, 0)).collect(),
            by_queue: BTreeMap::new(),
            by_tenant: BTreeMap::new(),
            dead_by_cause: BTreeMap::new(),
            happened: HashMap::new(),
            wait: BTreeMap::new(),
            run: BTreeMap::new(),
            since: None,
        }
    }

    fn add(&mut self, counter: Counter, value: i64, lanes: &HashMap<i64, LaneKey>) {
        let count = u64::try_from(value).unwrap_or(0);
        match counter {
            Counter::Jobs(lane, status) if count > 0 => {
                *self.by_status.entry(status).or_default() += count;
                let Some(lane) = lanes.get(&lane) else { return };
                for (map, name) in [
                    (&mut self.by_queue, &lane.queue),
                    (&mut self.by_tenant, &lane.tenant),
                ] {
                    let counts = map.entry(name.clone()).or_default();
                    *counts.entry(status).or_default() += count;
                }
            }
            Counter::Dead(_, cause) if count > 0 => {
                *self.dead_by_cause.entry(cause).or_default() += count;
            }
            Counter::Hour(hour, what) if hour >= self.first_hour => {
                *self.happened.entry(what).or_default() += value;
                self.since = Some(self.since.map_or(hour, |since| since.min(hour)));
            }
            Counter::Took(hour, measure, bucket) if hour >= self.first_hour => {
                let histogram = match measure {
                    Measure::Wait => &mut self.wait,
                    Measure::Run => &mut self.run,
                };
                *histogram.entry(bucket).or_default() += value;
            }
            _ => {}
        }
    }

    fn finish(self, now: Micros, oldest: Option<Micros>, workers: Vec<WorkerInfo>) -> Statistics {
        let happened = |what| self.happened.get(&what).copied().unwrap_or(0).max(0) as f64;
        let completed = happened(Happened::Completed);
        let ended = completed + happened(Happened::Dead);
        let hours = match self.since {
            Some(since) => ((now - since * HOUR) as f64 / HOUR as f64).max(1.0),
            None => 1.0,
        };
        Statistics {
            at: moment(now),
            total: self.by_status.values().sum(),
            wait: times(&self.wait, happened(Happened::WaitTotal)),
            run: times(&self.run, happened(Happened::RunTotal)),
            by_status: self.by_status,
            by_queue: self.by_queue,
            by_tenant: self.by_tenant,
            dead_by_cause: self.dead_by_cause,
            window_hours: self.window_hours,
            success_rate: (ended > 0.0).then(|| completed / ended),
            throughput_per_hour: completed / hours,
            oldest_waiting_s: oldest.map(|since| (now - since).max(0) as f64 / SECOND as f64),
            active_workers: workers.len() as u64,
            workers,
        }
    }
}

fn times(histogram: &BTreeMap<u32, i64>, total_us: f64) -> Times {
    let count: i64 = histogram.values().sum();
    if count <= 0 {
        return Times::default();
    }
    let quantile = |part: f64| {
        let rank = (count as f64 * part).ceil() as i64;
        let mut seen = 0;
        let bucket = histogram.iter().find_map(|(bucket, many)| {
            seen += many;
            (seen >= rank).then_some(*bucket)
        });
        bucket.map(|bucket| middle(bucket) / 1_000.0)
    };
    Times {
        count: count as u64,
        average_ms: Some(total_us / count as f64 / 1_000.0),
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
    }
}
