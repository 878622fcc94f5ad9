//! What two guests that spin cost those that behave well beside them, on two threads: how long
//! after it was asked for a trivial execution is there, at the 99th percentile, when a hundred are
//! asked for at once, and when a hundred tasks ask for one after the other; and how late a guest is
//! stopped that waits. (Beside a hundred that spin: see `deadline`.) The two are of the same skill as the others, and of
//! another one. The same beside two whose instructions are as slow as can be, which keep a thread until the next look at
//! the clock.
//!
//! `cargo bench --bench beside`, with `-- --smoke` to see only whether it works. The floor is the
//! same without the two that spin, in turn with it.

mod support;
#[path = "support/tasks.rs"]
mod tasks;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use skillhost::skill::Package;
use skillhost::{Control, Event, ExecutionRequest, ExecutionResult, LimitOverrides, Skill, Status};
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
#[derive(Clone, Copy)]
enum Beside {
    Nobody,
    /// Two that spin, of the same skill.
    Spinning,
    /// Two that spin, of another skill.
    Others,
    /// Two whose instructions are slow, of the same skill.
    Slow,
}

const CROWDS: [Beside; 4] = [
    Beside::Nobody,
    Beside::Spinning,
    Beside::Others,
    Beside::Slow,
];

fn main() -> ExitCode {
    let bench = Bench::new(&support::guest());
    let mut at_once = Figures::default();
    let mut in_turn = Figures::default();
    let mut waiting = Figures::default();
    for _ in 0..support::rounds(100) {
        for beside in CROWDS {
            let crowd = bench.crowd(beside);
            at_once.of(beside).extend(bench.at_once());
            in_turn.of(beside).extend(bench.in_turn(10));
            waiting.of(beside).push(bench.waiting());
            bench.stop(crowd);
        }
    }
    println!(
        "{WELL} that behave well        alone: p50      p99    beside {SPINNING}: p50      p99    ratio of p99   of another skill   slow ones"
    );
    for (name, figures) in [
        ("all at once", &at_once),
        ("one after the other", &in_turn),
        ("a waiting one, late", &waiting),
    ] {
        println!(
            "{name:20} in µs {:10.0} {:8.0} {:16.0} {:8.0} {:10.2} {:15.2} {:15.2}",
            support::us(support::median(&figures.alone)),
            support::us(support::quantile(&figures.alone, 0.99)),
            support::us(support::median(&figures.beside)),
            support::us(support::quantile(&figures.beside, 0.99)),
            figures.ratio(&figures.beside),
            figures.ratio(&figures.beside_others),
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
            "at_once": {"p99_ratio": support::at_most(3.0), "others_p99_ratio": support::at_most(3.0)},
            "in_turn": {"p99_ratio": support::at_most(3.0), "others_p99_ratio": support::at_most(3.0)},
            "waiting_late": {
                "beside_p99_us": support::at_most(10_000.0),
                "beside_others_p99_us": support::at_most(10_000.0),
            },
        },
    }))
}

/// How long each trivial execution took, from its request to its answer.
#[derive(Default)]
struct Figures {
    alone: Vec<Duration>,
    beside: Vec<Duration>,
    beside_others: Vec<Duration>,
    beside_slow: Vec<Duration>,
}

impl Figures {
    fn of(&mut self, beside: Beside) -> &mut Vec<Duration> {
        match beside {
            Beside::Nobody => &mut self.alone,
            Beside::Spinning => &mut self.beside,
            Beside::Others => &mut self.beside_others,
            Beside::Slow => &mut self.beside_slow,
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
            "beside_others_p99_us": support::us(support::quantile(&self.beside_others, 0.99)),
            "beside_slow_p99_us": support::us(support::quantile(&self.beside_slow, 0.99)),
            "p99_ratio": self.ratio(&self.beside),
            "others_p99_ratio": self.ratio(&self.beside_others),
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

struct Bench {
    tasks: Tasks,
    /// The same guest as another skill.
    other: Skill,
}

impl Bench {
    fn new(guest: &Path) -> Self {
        let tasks = Tasks::new(guest);
        let mut bytes = std::fs::read(guest).expect("the guest can be read");
        // A custom section without anything in it, by the name `x`.
        bytes.extend([0, 2, 1, b'x']);
        let other = tasks.host.load_package_blocking(Package::from_bytes(bytes));
        Bench {
            tasks,
            other: other.expect("the guest loads"),
        }
    }

    fn request(&self, tool: &str) -> ExecutionRequest {
        let n = if tool == "chase" { CHASED } else { WAITED };
        let limits = LimitOverrides {
            wall_time: Some(Duration::from_secs(60)),
            fuel: Some(u64::MAX),
            ..Default::default()
        };
        self.tasks.request(tool, n, limits)
    }

    /// Starts those that compute, and waits until they do.
    fn crowd(&self, beside: Beside) -> Crowd {
        let stop = CancellationToken::new();
        let (started, all_started) = std::sync::mpsc::channel();
        let request = match beside {
            Beside::Nobody => None,
            Beside::Spinning => Some(self.request("spin")),
            Beside::Others => Some(ExecutionRequest {
                skill: self.other.digest().into(),
                ..self.request("spin")
            }),
            Beside::Slow => Some(self.request("chase")),
        };
        let requests: Vec<_> = request.into_iter().cycle().take(SPINNING).collect();
        let many = requests.len();
        let tasks = requests
            .into_iter()
            .map(|request| {
                let started = started.clone();
                let hear = move |_: uuid::Uuid, event: &Event<'_>| {
                    if matches!(event, Event::Started) {
                        started.send(()).expect("somebody waits");
                    }
                };
                let control = Control::default()
                    .cancellation(stop.clone())
                    .observer(std::sync::Arc::new(hear));
                self.tasks.runtime.spawn(self.tasks.start(request, control))
            })
            .collect();
        for _ in 0..many {
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
        let (result, _) = self.tasks.run(request);
        assert_eq!(result.status, Status::Timeout, "{:?}", result.failure);
        result.usage.wall_time - wall_time
    }

    fn join<T>(&self, task: JoinHandle<T>) -> T {
        self.tasks.runtime.block_on(task).expect("no panic")
    }

    /// A hundred, asked for from outside at the same moment.
    fn at_once(&self) -> Vec<Duration> {
        let tasks: Vec<_> = (0..WELL)
            .map(|_| {
                let request = self.request("echo");
                let asked = Instant::now();
                (asked, self.tasks.start(request, Control::default()))
            })
            .collect();
        let waited = tasks.into_iter().map(|(asked, task)| {
            let (result, ended) = self.tasks.runtime.block_on(task);
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
                let (host, request) = (self.tasks.host.clone(), self.request("echo"));
                self.tasks.runtime.spawn(async move {
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
