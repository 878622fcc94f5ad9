//! Metrics, for Prometheus. Labels are bounded: whatever a client sends, there are never more series
//! than skills, statuses, limits, queues and circuits.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::circuits::{Circuit, severity};
use super::problem::{Problem, ProblemKind};
use crate::breaker::CircuitState;
use crate::execution::BoxFuture;
use crate::queue::{JobStatus, Queue};
use crate::{
    Admission, Cause, Control, Execute, ExecutionRequest, ExecutionResult, Failure, HostError,
    LimitOverrides, Resolution, Status,
};

/// The most skills, or queues, with series of their own; what comes after them is counted together.
const MOST: usize = 200;
/// The name under which the others are counted.
const OTHERS: &str = "(others)";

type Labels<const N: usize> = [(&'static str, String); N];

/// What is counted.
#[derive(Clone)]
pub(super) struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    executions: Family<Labels<3>, Counter>,
    running: Gauge,
    run: Family<Labels<1>, Histogram, Seconds>,
    wait: Family<Labels<1>, Histogram, Seconds>,
    fuel: Family<Labels<1>, Counter>,
    jobs: Family<Labels<2>, Gauge>,
    circuits: Family<Labels<2>, Gauge>,
    circuit_states: Family<Labels<2>, Gauge>,
    workers: Gauge,
    skills: Mutex<HashSet<String>>,
    /// Held while what was read of the queue is put in and written.
    writing: Mutex<()>,
}

/// Histograms from 100 µs to about 100 s.
#[derive(Debug, Clone)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.000_1, 4.0, 11))
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("skillhost");
        let executions = Family::default();
        registry.register(
            "executions",
            "Executions that ended, by skill, status and the limit that was met",
            executions.clone(),
        );
        let running = Gauge::default();
        registry.register(
            "executions_running",
            "Executions under way",
            running.clone(),
        );
        let run = Family::new_with_constructor(Seconds);
        registry.register(
            "execution_run_seconds",
            "Wall time of executions from instantiation to their end",
            run.clone(),
        );
        let wait = Family::new_with_constructor(Seconds);
        registry.register(
            "execution_wait_seconds",
            "Time before that: in a queue, waiting for a free instance, loading",
            wait.clone(),
        );
        let fuel = Family::default();
        registry.register("fuel", "Fuel that executions consumed", fuel.clone());
        let jobs = Family::default();
        registry.register("jobs", "Jobs by queue and status", jobs.clone());
        let circuits = Family::default();
        registry.register("circuits", "Circuits by kind and state", circuits.clone());
        let circuit_states = Family::default();
        registry.register(
            "circuit_state",
            "How each circuit stands that is not closed: 1 half-open, 2 open; of the first 200",
            circuit_states.clone(),
        );
        let workers = Gauge::default();
        registry.register("workers", "Workers whose lease holds", workers.clone());
        Metrics {
            inner: Arc::new(Inner {
                registry,
                executions,
                running,
                run,
                wait,
                fuel,
                jobs,
                circuits,
                circuit_states,
                workers,
                skills: Mutex::default(),
                writing: Mutex::default(),
            }),
        }
    }

    /// The name under which a skill is counted. Only what ran has one, so that a client cannot make
    /// series by asking for what there is not.
    fn skill(&self, result: Option<&ExecutionResult>) -> String {
        let Some(skill) = result.and_then(|result| result.skill.as_ref()) else {
            return String::new();
        };
        let mut skills = self
            .inner
            .skills
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if skills.contains(&skill.name) {
            return skill.name.clone();
        }
        if skills.len() >= MOST {
            return OTHERS.to_owned();
        }
        skills.insert(skill.name.clone());
        skill.name.clone()
    }

    /// One execution ended; without a result where the host is broken, or nobody waited for it.
    fn ended(&self, result: Option<&ExecutionResult>, took: Duration) {
        let skill = self.skill(result);
        let (status, limit) = match result {
            Some(result) => (result.status, limit(result.failure.as_ref())),
            None => (Status::Cancelled, ""),
        };
        let labels = [
            ("skill", skill.clone()),
            ("status", status.as_str().to_owned()),
            ("limit", limit.to_owned()),
        ];
        self.inner.executions.get_or_create(&labels).inc();
        let labels = [("skill", skill)];
        let (run, wait) = match result {
            Some(result) => {
                let usage = &result.usage;
                self.inner.fuel.get_or_create(&labels).inc_by(usage.fuel);
                let wait = usage.queue_wait + usage.waiting_time + usage.compile_time;
                (usage.wall_time, wait)
            }
            None => (took, Duration::ZERO),
        };
        let seconds = |family: &Family<Labels<1>, Histogram, Seconds>, time: Duration| {
            family.get_or_create(&labels).observe(time.as_secs_f64());
        };
        seconds(&self.inner.run, run);
        seconds(&self.inner.wait, wait);
    }

    /// How the circuits stand, the worst first.
    fn stand(&self, circuits: &[Circuit]) {
        let Inner {
            circuits: counts,
            circuit_states: states,
            ..
        } = &*self.inner;
        counts.clear();
        states.clear();
        for circuit in circuits {
            let kind = circuit.kind.as_str().to_owned();
            let state = circuit.state.as_str().to_owned();
            counts
                .get_or_create(&[("kind", kind), ("state", state)])
                .inc();
        }
        let broken = circuits.iter().take(MOST);
        for circuit in broken.take_while(|circuit| circuit.state != CircuitState::Closed) {
            let labels = [
                ("kind", circuit.kind.as_str().to_owned()),
                ("of", circuit.of.clone()),
            ];
            let state = i64::from(severity(circuit.state));
            states.get_or_create(&labels).set(state);
        }
    }

    /// All of it, as text.
    pub async fn text(&self, queue: &Queue, standing: &[Circuit]) -> Result<String, Problem> {
        let statistics = queue.statistics(1).await?;
        // Two at once would count together.
        let _alone = self
            .inner
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let depth = &self.inner.jobs;
        depth.clear();
        for (number, (name, counts)) in statistics.by_queue.iter().enumerate() {
            let name = if number < MOST { name } else { OTHERS };
            for status in JobStatus::ALL {
                let count = counts.get(status).copied().unwrap_or(0);
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                let labels = [
                    ("queue", name.to_owned()),
                    ("status", status.as_str().to_owned()),
                ];
                depth.get_or_create(&labels).inc_by(count);
            }
        }
        self.stand(standing);
        let workers = i64::try_from(statistics.active_workers).unwrap_or(i64::MAX);
        self.inner.workers.set(workers);
        let mut text = String::new();
        encode(&mut text, &self.inner.registry).map_err(|error| {
            tracing::error!(%error, "the metrics cannot be written");
            Problem::new(ProblemKind::Internal, "the metrics cannot be written")
        })?;
        Ok(text)
    }
}

/// The limit that was met.
fn limit(failure: Option<&Failure>) -> &'static str {
    match failure.map(|failure| &failure.cause) {
        Some(Cause::ResourceExhausted { limit, .. } | Cause::Timeout { limit, .. }) => {
            limit.as_str()
        }
        _ => "",
    }
}

/// Counts what another executes.
pub(super) struct Measured {
    inner: Arc<dyn Execute>,
    metrics: Metrics,
}

impl Measured {
    pub fn new(inner: Arc<dyn Execute>, metrics: Metrics) -> Self {
        Measured { inner, metrics }
    }
}

/// One execution under way. Dropped in the middle, it counts as cancelled.
struct Underway<'a> {
    metrics: &'a Metrics,
    started: Instant,
    counted: bool,
}

impl<'a> Underway<'a> {
    fn begin(metrics: &'a Metrics) -> Self {
        metrics.inner.running.inc();
        Underway {
            metrics,
            started: Instant::now(),
            counted: false,
        }
    }

    fn end(&mut self, result: Option<&ExecutionResult>) {
        self.counted = true;
        self.metrics.ended(result, self.started.elapsed());
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.metrics.inner.running.dec();
        if !self.counted {
            self.end(None);
        }
    }
}

impl Execute for Measured {
    fn execute<'a>(
        &'a self,
        request: ExecutionRequest,
        control: Control,
    ) -> BoxFuture<'a, Result<ExecutionResult, HostError>> {
        Box::pin(async move {
            let mut underway = Underway::begin(&self.metrics);
            let ended = self.inner.execute(request, control).await;
            match &ended {
                Ok(result) => underway.end(Some(result)),
                Err(_) => underway.counted = true,
            }
            ended
        })
    }

    fn resolve(&self, request: &ExecutionRequest) -> Result<Resolution, Failure> {
        self.inner.resolve(request)
    }

    fn can_execute_within(&self, request: &ExecutionRequest, limits: &LimitOverrides) -> Admission {
        self.inner.can_execute_within(request, limits)
    }

    fn hopeless<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Option<Failure>> {
        self.inner.hopeless(request)
    }

    fn ready<'a>(&'a self, request: &'a ExecutionRequest) -> BoxFuture<'a, Result<(), Failure>> {
        self.inner.ready(request)
    }

    fn is_destructive(&self, request: &ExecutionRequest) -> bool {
        self.inner.is_destructive(request)
    }
}
