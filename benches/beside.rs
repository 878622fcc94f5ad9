//! What two guests that spin cost those that behave well beside them, on two threads: how long
//! after it was asked for a trivial execution is there, at the 99th percentile, when a hundred are
//! asked for at once, and when a hundred tasks ask for one after the other; and how late a guest is
//! stopped that waits. (Beside a hundred that spin: see `deadline`.) The same beside two whose
//! instructions are as slow as can be, which keep a thread until the next look at the clock.
//!
//! `cargo bench --bench beside`, with `-- --smoke` to see only whether it works. The floor is the
//! same without the two that spin, in turn with it.

mod support;
#[path = "support/tasks.rs"]
mod tasks;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use skillhost::{Control, Event, ExecutionRequest, ExecutionResult, LimitOverrides, Status};
use tasks::Tasks;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Guests that behave well, at once.
const WELL: usize = 100;
/// Guests that spin.
const SPINNING: usize = 2;
/// How long the guest waits that is stopped meanwhile, in milliseconds.
const WAITED: u64 = 60;
/// The memory from which the slow ones read, in MiB.
const CHASED: u64 = 32;
/// Beside whom they are.
const CROWDS: [Option<&str>; 3] = [None, Some("spin"), Some("chase")];

fn main() -> ExitCode {
    let bench = Bench(Tasks::new(&support::guest()));
    let mut at_once = Figures::default();
    let mut in_turn = Figures::default();
    let mut waiting = Figures::default();
    for _ in 0..support::rounds(100) {
        for tool in CROWDS {
            let crowd = bench.crowd(tool);
            at_once.of(tool).extend(bench.at_once());
            in_turn.of(tool).extend(bench.in_turn(10));
            waiting.of(tool).push(bench.waiting());
            bench.stop(crowd);
        }
    }
    println!(
        "{WELL} that behave well        alone: p50      p99    beside {SPINNING}: p50      p99    ratio of p99   beside slow ones"
    );
    for (name, figures) in [
        ("all at once", &at_once),
        ("one after the other", &in_turn),
        ("a waiting one, late", &waiting),
    ] {
        println!(
            "{name:20} in µs {:10.0} {:8.0} {:16.0} {:8.0} {:10.2} {:10.2}",
            support::us(support::median(&figures.alone)),
            support::us(support::quantile(&figures.alone, 0.99)),
            support::us(support::median(&figures.beside)),
            support::us(support::quantile(&figures.beside, 0.99)),
            figures.ratio(&figures.beside),
            figures.ratio(&figures.beside_slow),
        );
    }
    support::finish(serde_json::json!({
        "benchmark": "beside",
        "well_behaved": WELL,
        "spinning": SPINNING,
        "at_once": at_once.json(),
        "in_turn": in_turn.json(),
        "waiting_late": waiting.json(),
        "load": support::load(),
        "target": {
            "at_once": {"p99_ratio": support::at_most(3.0)},
            "in_turn": {"p99_ratio": support::at_most(3.0)},
            "waiting_late": {"beside_p99_us": support::at_most(10_000.0)},
        },
    }))
}

/// How long each trivial execution took, from its request to its answer.
#[derive(Default)]
struct Figures {
    alone: Vec<Duration>,
    beside: Vec<Duration>,
    beside_slow: Vec<Duration>,
}

impl Figures {
    fn of(&mut self, tool: Option<&str>) -> &mut Vec<Duration> {
        match tool {
            None => &mut self.alone,
            Some("spin") => &mut self.beside,
            Some(_) => &mut self.beside_slow,
        }
    }

    fn ratio(&self, beside: &[Duration]) -> f64 {
        let p99 = |times| support::us(support::quantile(times, 0.99));
        support::ratio(p99(beside), p99(&self.alone))
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "alone_p50_us": support::us(support::median(&self.alone)),
            "alone_p99_us": support::us(support::quantile(&self.alone, 0.99)),
            "beside_p50_us": support::us(support::median(&self.beside)),
            "beside_p99_us": support::us(support::quantile(&self.beside, 0.99)),
            "beside_slow_p99_us": support::us(support::quantile(&self.beside_slow, 0.99)),
            "p99_ratio": self.ratio(&self.beside),
            "slow_p99_ratio": self.ratio(&self.beside_slow),
            "executions": self.beside.len(),
        })
    }
}

/// Guests that spin until they are stopped.
struct Crowd {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<(ExecutionResult, Instant)>>,
}

struct Bench(Tasks);

impl Bench {
    fn request(&self, tool: &str) -> ExecutionRequest {
        let n = if tool == "chase" { CHASED } else { WAITED };
        let limits = LimitOverrides {
            wall_time: Some(Duration::from_secs(60)),
            fuel: Some(u64::MAX),
            ..Default::default()
        };
        self.0.request(tool, n, limits)
    }

    /// Starts those that compute, and waits until they do.
    fn crowd(&self, tool: Option<&str>) -> Crowd {
        let stop = CancellationToken::new();
        let (started, all_started) = std::sync::mpsc::channel();
        let tools: Vec<&str> = tool.into_iter().cycle().take(SPINNING).collect();
        let tasks = tools
            .iter()
            .map(|tool| {
                let started = started.clone();
                let hear = move |_: uuid::Uuid, event: &Event<'_>| {
                    if matches!(event, Event::Started) {
                        started.send(()).expect("somebody waits");
                    }
                };
                let control = Control::default()
                    .cancellation(stop.clone())
                    .observer(std::sync::Arc::new(hear));
                self.0
                    .runtime
                    .spawn(self.0.start(self.request(tool), control))
            })
            .collect();
        for _ in &tools {
            all_started.recv().expect("each starts");
        }
        Crowd { stop, tasks }
    }

    fn stop(&self, crowd: Crowd) {
        crowd.stop.cancel();
        for task in crowd.tasks {
            let (result, _) = self.join(task);
            assert_eq!(result.status, Status::Cancelled, "it span until then");
        }
    }

    /// How late one is stopped that waits.
    fn waiting(&self) -> Duration {
        let wall_time = Duration::from_millis(10);
        let mut request = self.request("wait");
        request.limits.wall_time = Some(wall_time);
        let (result, _) = self.0.run(request);
        assert_eq!(result.status, Status::Timeout, "{:?}", result.failure);
        result.usage.wall_time - wall_time
    }

    fn join<T>(&self, task: JoinHandle<T>) -> T {
        self.0.runtime.block_on(task).expect("no panic")
    }

    /// A hundred, asked for from outside at the same moment.
    fn at_once(&self) -> Vec<Duration> {
        let tasks: Vec<_> = (0..WELL)
            .map(|_| {
                let request = self.request("echo");
                let asked = Instant::now();
                (asked, self.0.start(request, Control::default()))
            })
            .collect();
        let waited = tasks.into_iter().map(|(asked, task)| {
            let (result, ended) = self.0.runtime.block_on(task);
            assert_eq!(result.status, Status::Success);
            ended - asked
        });
        waited.collect()
    }

    /// A hundred tasks, each of which asks for one after the other, and lets the others go on in
    /// between.
    fn in_turn(&self, times: usize) -> Vec<Duration> {
        let tasks: Vec<_> = (0..WELL)
            .map(|_| {
                let (host, request) = (self.0.host.clone(), self.request("echo"));
                self.0.runtime.spawn(async move {
                    let mut took = Vec::with_capacity(times);
                    for _ in 0..times {
                        let (asked, request) = (Instant::now(), request.clone());
                        tokio::task::yield_now().await;
                        let result = host.execute(request).await.expect("the host works");
                        assert_eq!(result.status, Status::Success);
                        took.push(asked.elapsed());
                    }
                    took
                })
            })
            .collect();
        tasks.into_iter().flat_map(|task| self.join(task)).collect()
    }
}
