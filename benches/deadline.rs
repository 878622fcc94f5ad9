//! How long after its deadline a guest is stopped that does all it can to go on: one that spins
//! alone, on fast instructions and on slow ones, one that calls the host for little or for much, one that waits, a
//! hundred that spin at once on two threads, and one inside a bulk memory instruction. And what becomes of a trivial execution beside the hundred.
//!
//! `cargo bench --bench deadline`, with `-- --smoke` to see only whether it works. The floor is
//! native code that looks at the clock all the time: what it is late by is the machine's doing. For
//! the bulk instruction it is the time to write the memory limit once, into fresh memory.

mod support;
#[path = "support/tasks.rs"]
mod tasks;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use skillhost::{Control, ExecutionRequest, ExecutionResult, LimitOverrides, Status};
use tasks::Tasks;

/// Guests that spin at once.
const CROWD: usize = 100;
/// The memory limit of the guest that fills memory, and what it fills of it, in MiB.
const MEMORY: u64 = 64;
const FILLED: u64 = 48;
/// What the guest that waits for its memory reads from, in MiB.
const CHASED: u64 = 32;
/// What the guest that calls the host hands it at a time, in bytes: all that it may.
const TOLD: u64 = 4 << 20;

fn main() -> ExitCode {
    let bench = Bench(Tasks::new(&support::guest()));
    let alone = bench.alone("spin", 0, Duration::from_millis(20));
    let lookups = bench.alone("lookups", CHASED, Duration::from_millis(60));
    let chasing = bench.alone("chase", CHASED, Duration::from_millis(60));
    let asking = bench.alone("ask", 0, Duration::from_millis(20));
    let telling = bench.alone("tell", TOLD, Duration::from_millis(60));
    let waiting = bench.alone("wait", 3_600, Duration::from_millis(20));
    let common = bench.crowd(|_| Duration::ZERO);
    let staggered = bench.crowd(|index| Duration::from_millis(2) * index as u32);
    let beside = bench.beside();
    let bulk = bench.bulk();

    println!("                          ours, by the caller    by usage           native");
    println!("late by, in ms             p50      p99      p99      p50      p99");
    for (name, lateness) in [
        ("alone", &alone),
        ("alone, slow memory", &lookups),
        ("alone, the slowest", &chasing),
        ("short calls", &asking),
        ("long calls", &telling),
        ("waiting", &waiting),
        ("100, one deadline", &common),
        ("100, staggered", &staggered),
        ("bulk instruction", &bulk),
    ] {
        println!("{name:20} {lateness}");
    }
    println!(
        "a trivial execution: {} µs alone, {} µs beside 100 (p99 {} µs)",
        support::us(support::median(&beside.alone)),
        support::us(support::median(&beside.crowded)),
        support::us(support::quantile(&beside.crowded, 0.99)),
    );
    let write = milliseconds(&bulk.native, 0.99).unwrap_or_default();
    support::finish(serde_json::json!({
        "benchmark": "deadline",
        "alone": alone.json(),
        "alone_slow_memory": lookups.json(),
        "alone_slowest": chasing.json(),
        "short_calls": asking.json(),
        "long_calls": telling.json(),
        "waiting": waiting.json(),
        "crowd_one_deadline": common.json(),
        "crowd_staggered": staggered.json(),
        "beside_crowd": {
            "alone_us": support::us(support::median(&beside.alone)),
            "median_us": support::us(support::median(&beside.crowded)),
            "p99_us": support::us(support::quantile(&beside.crowded, 0.99)),
            "longest_us": support::us(support::quantile(&beside.crowded, 1.0)),
            "answered": beside.crowded.len(),
        },
        "bulk": bulk.json(),
        "load": support::load(),
        "target": {
            "alone": {"p99_ms": support::at_most(2.0)},
            "alone_slow_memory": {"p99_ms": support::at_most(2.0)},
            "alone_slowest": {"p99_ms": support::at_most(10.0)},
            "short_calls": {"p99_ms": support::at_most(2.0)},
            "long_calls": {"p99_ms": support::at_most(10.0)},
            "waiting": {"p99_ms": support::at_most(2.0)},
            "crowd_one_deadline": {"p99_ms": support::at_most(10.0)},
            "crowd_staggered": {"p99_ms": support::at_most(10.0)},
            // It still answers: while the others are there, which have 500 ms.
            "beside_crowd": {"p99_us": support::at_most(10_000.0), "longest_us": support::at_most(200_000.0)},
            "bulk": {"p99_ms": support::at_most(write.max(2.0))},
        },
    }))
}

/// By how much the executions of one kind ended late.
#[derive(Default)]
struct Lateness {
    /// By the usage's wall time, where that is the limit and not a deadline.
    inside: Vec<Duration>,
    /// By the caller's clock, from the call to the answer, with all that comes before and after
    /// the guest.
    outside: Vec<Duration>,
    /// Native code in the guests' place.
    native: Vec<Duration>,
}

impl Lateness {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "inside_p99_ms": milliseconds(&self.inside, 0.99),
            "p50_ms": milliseconds(&self.outside, 0.5),
            "p99_ms": milliseconds(&self.outside, 0.99),
            "native_p50_ms": milliseconds(&self.native, 0.5),
            "native_p99_ms": milliseconds(&self.native, 0.99),
            "runs": self.outside.len(),
        })
    }
}

impl std::fmt::Display for Lateness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (times, share) in [
            (&self.outside, 0.5),
            (&self.outside, 0.99),
            (&self.inside, 0.99),
            (&self.native, 0.5),
            (&self.native, 0.99),
        ] {
            match milliseconds(times, share) {
                Some(time) => write!(f, "{time:9.3}")?,
                None => write!(f, "        -")?,
            }
        }
        Ok(())
    }
}

fn milliseconds(times: &[Duration], share: f64) -> Option<f64> {
    (!times.is_empty()).then(|| support::ms(support::quantile(times, share)))
}

struct Beside {
    alone: Vec<Duration>,
    crowded: Vec<Duration>,
}

struct Bench(Tasks);

impl Bench {
    fn request(&self, tool: &str, n: u64, wall_time: Duration) -> ExecutionRequest {
        let limits = LimitOverrides {
            wall_time: Some(wall_time),
            // Time is what stops these guests, and nothing else.
            fuel: Some(10_000_000_000_000),
            memory_bytes: Some(MEMORY << 20),
            ..Default::default()
        };
        self.0.request(tool, n, limits)
    }

    fn start(
        &self,
        request: ExecutionRequest,
    ) -> impl Future<Output = (ExecutionResult, Instant)> + use<> {
        self.0.start(request, Control::default())
    }

    /// One alone, again and again, in turn with native code.
    fn alone(&self, tool: &str, n: u64, wall_time: Duration) -> Lateness {
        let mut lateness = Lateness::default();
        for _ in 0..support::rounds(300) {
            let began = Instant::now();
            let request = self.request(tool, n, wall_time);
            let (result, ended) = self.0.run(request);
            lateness.inside.push(late(&result, wall_time));
            lateness.outside.push(ended - began - wall_time);
            let deadline = Instant::now() + wall_time;
            while Instant::now() < deadline {
                std::hint::spin_loop();
            }
            lateness.native.push(deadline.elapsed());
        }
        lateness
    }

    /// A hundred that spin at once, each until this much past a common moment, in turn with as many
    /// native tasks that hand the thread on every 50 µs.
    fn crowd(&self, longer: impl Fn(usize) -> Duration) -> Lateness {
        let mut lateness = Lateness::default();
        for _ in 0..support::rounds(15) {
            rest();
            let now = (Instant::now(), chrono::Utc::now());
            let deadlines: Vec<Duration> = (0..CROWD)
                .map(|index| Duration::from_millis(250) + longer(index))
                .collect();
            let crowd: Vec<_> = deadlines
                .iter()
                .map(|deadline| {
                    let request = self.request("spin", 0, Duration::from_secs(10));
                    self.start(request.deadline(now.1 + *deadline))
                })
                .collect();
            for (task, deadline) in crowd.into_iter().zip(&deadlines) {
                let (result, ended) = self.0.runtime.block_on(task);
                assert_eq!(result.status, Status::Timeout, "{:?}", result.failure);
                lateness.outside.push(ended - now.0 - *deadline);
            }

            rest();
            let now = Instant::now();
            let crowd: Vec<_> = deadlines
                .iter()
                .map(|deadline| self.0.runtime.spawn(spin_natively(now + *deadline)))
                .collect();
            for task in crowd {
                let late = self.0.runtime.block_on(task).expect("no panic");
                lateness.native.push(late);
            }
        }
        lateness
    }

    /// A trivial execution at a time, as a task from outside, alone and beside a hundred that spin.
    fn beside(&self) -> Beside {
        let mut beside = Beside {
            alone: Vec::new(),
            crowded: Vec::new(),
        };
        let wall_time = Duration::from_millis(500);
        let trivial = || {
            let began = Instant::now();
            let request = self.request("echo", 0, wall_time);
            let (result, ended) = self.0.run(request);
            assert_eq!(result.status, Status::Success);
            ended - began
        };
        for _ in 0..support::rounds(10) {
            for _ in 0..100 {
                beside.alone.push(trivial());
            }
            let began = Instant::now();
            let crowd: Vec<_> = (0..CROWD)
                .map(|_| self.start(self.request("spin", 0, wall_time)))
                .collect();
            // Not counted: those that may have been begun before all of the crowd, or ended after.
            std::thread::sleep(wall_time / 10);
            while began.elapsed() < wall_time * 9 / 10 {
                beside.crowded.push(trivial());
            }
            for task in crowd {
                late(&self.0.runtime.block_on(task).0, wall_time);
            }
        }
        beside
    }

    /// One that fills most of its memory with one instruction, again and again, so that its
    /// deadline nearly always comes during one; each time at another moment of it. In turn with
    /// native code that writes as much memory as the limit allows, once.
    fn bulk(&self) -> Lateness {
        let mut lateness = Lateness::default();
        for round in 0..support::rounds(200) {
            let wall_time = Duration::from_micros(1_000 + 200 * (round as u64 % 100));
            let began = Instant::now();
            let request = self.request("fill", FILLED, wall_time);
            let (result, ended) = self.0.run(request);
            lateness.inside.push(late(&result, wall_time));
            lateness.outside.push(ended - began - wall_time);
            let mut memory = vec![0_u8; (MEMORY as usize) << 20];
            let began = Instant::now();
            black_box(&mut memory).fill(1);
            black_box(&memory);
            lateness.native.push(began.elapsed());
        }
        lateness
    }
}

/// Lets other processes have the machine, so that they do not take it in the midst of a round.
fn rest() {
    std::thread::sleep(Duration::from_millis(150));
}

fn late(result: &ExecutionResult, wall_time: Duration) -> Duration {
    assert_eq!(result.status, Status::Timeout, "{:?}", result.failure);
    result.usage.wall_time - wall_time
}

async fn spin_natively(deadline: Instant) -> Duration {
    loop {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(50) {
            std::hint::spin_loop();
        }
        let late = Instant::now().saturating_duration_since(deadline);
        if !late.is_zero() {
            return late;
        }
        tokio::task::yield_now().await;
    }
}
