//! What it costs a computing guest that it can be stopped: five kernels without any enforcement,
//! with each of wasmtime's two ways alone, and in `Host::execute`, which must not cost more than
//! the cheaper way.
//!
//! `cargo bench --bench enforce`, with `-- --smoke` to see only whether it works. Times are
//! processor time of the one thread on which everything runs; ratios are medians over rounds in
//! which all four take turns.

#[path = "support/bare.rs"]
mod bare;
mod support;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ::skillhost::{ExecutionRequest, Host, Skill, Status};
use bare::{Bare, SkillPre, Stops};
use wasmtime::Engine;
use wasmtime::component::Component;

/// The kernels, each with an input that takes about 100 ms.
const KERNELS: [(&str, u64); 5] = [
    ("calls", 38),
    ("matrix", 400),
    ("hash", 90),
    ("sort", 2_500_000),
    ("strings", 1_000_000),
];
/// How often the epoch passes on. Nobody's deadline is reached by that, but each check reads a
/// counter that another thread writes.
const EPOCH: Duration = Duration::from_millis(10);

/// One way to run a kernel.
enum Way {
    Bare(Engine, SkillPre<Bare>),
    Ours(Host, Skill),
}

impl Way {
    fn bare(stops: Stops, path: &std::path::Path) -> Self {
        let engine = bare::engine(stops, true);
        let component = Component::from_file(&engine, path).expect("the guest compiles");
        let pre = bare::link(&engine, &component);
        Way::Bare(engine, pre)
    }

    /// Runs a kernel. Gives the fuel that it took, where that is known.
    async fn run(&self, kernel: &str, n: u64) -> u64 {
        match self {
            Way::Bare(engine, pre) => {
                black_box(bare::call(engine, pre, kernel, &format!("{{\"n\":{n}}}")).await);
                0
            }
            Way::Ours(host, skill) => {
                let input = serde_json::json!({ "n": n });
                let request = ExecutionRequest::new(skill.digest(), input).tool(kernel);
                let result = host.execute(request).await.expect("the host works");
                assert_eq!(result.status, Status::Success, "{:?}", result.failure);
                result.usage.fuel
            }
        }
    }
}

/// The times of one kernel, round by round: without enforcement, by fuel, by epochs, and ours.
#[derive(Default)]
struct Times {
    processor: [Vec<f64>; 4],
    wall: [Vec<f64>; 4],
    fuel: u64,
}

const NOT: usize = 0;
const FUEL: usize = 1;
const EPOCHS: usize = 2;
const OURS: usize = 3;

/// The median of the ratios of one way's rounds to another's.
fn compare(times: &[Vec<f64>; 4], way: usize, to: usize) -> f64 {
    let ratios: Vec<f64> = times[way]
        .iter()
        .zip(&times[to])
        .map(|(a, b)| a / b)
        .collect();
    support::middle(&ratios)
}

/// Ours to the cheaper one of fuel and epochs.
fn to_cheaper(times: &[Vec<f64>; 4]) -> f64 {
    compare(times, OURS, FUEL).max(compare(times, OURS, EPOCHS))
}

fn main() -> ExitCode {
    let path = support::guest();
    let host = Host::builder().build().expect("the host can be set up");
    let skill = host.load_blocking(&path).expect("the guest loads");
    let ways = [
        Way::bare(Stops::Not, &path),
        Way::bare(Stops::ByFuel, &path),
        Way::bare(Stops::ByEpochs, &path),
        Way::Ours(host, skill),
    ];
    let Way::Bare(by_epochs, _) = &ways[EPOCHS] else {
        unreachable!("it is a bare one");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let ticking = by_epochs.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(EPOCH);
            ticking.increment_epoch();
        }
    });
    let times = runtime.block_on(measure(&ways));

    let mut kernels = serde_json::Map::new();
    let mut columns: [Vec<f64>; 5] = Default::default();
    println!("kernel    none ms   fuel  epochs   ours   ours / cheaper (wall)  µs between checks");
    for ((kernel, _), times) in KERNELS.iter().zip(&times) {
        let none = support::middle(&times.processor[NOT]);
        let [fuel, epochs, ours] =
            [FUEL, EPOCHS, OURS].map(|way| compare(&times.processor, way, NOT));
        let cheaper = to_cheaper(&times.processor);
        let wall = to_cheaper(&times.wall);
        // How long 100,000 units take. The host looks at the clock after some number of them (`sandbox/fuel.rs`).
        let slice = support::middle(&times.processor[OURS]) * 1e6 * 1e5 / times.fuel as f64;
        println!(
            "{kernel:8} {:8.1} {fuel:6.3} {epochs:7.3} {ours:6.3}   {cheaper:6.3} ({wall:.3})  {slice:12.1}",
            none * 1e3,
        );
        for (column, value) in columns.iter_mut().zip([fuel, epochs, ours, cheaper, wall]) {
            column.push(value);
        }
        kernels.insert(
            (*kernel).to_owned(),
            serde_json::json!({
                "none_ms": support::round(none * 1e3),
                "fuel": support::round(fuel),
                "epochs": support::round(epochs),
                "ours": support::round(ours),
                "ours_to_cheaper": support::round(cheaper),
                "us_per_100000_fuel": support::round(slice),
            }),
        );
    }
    let [fuel, epochs, ours, cheaper, wall] = columns
        .each_ref()
        .map(|column| support::geometric_mean(column));
    let worst = columns[3].iter().copied().fold(0.0, f64::max);
    println!("mean              {fuel:6.3} {epochs:7.3} {ours:6.3}   {cheaper:6.3} ({wall:.3})");
    support::finish(serde_json::json!({
        "benchmark": "enforce",
        "kernels": kernels,
        "fuel": support::round(fuel),
        "epochs": support::round(epochs),
        "ours": support::round(ours),
        "ours_to_cheaper": support::round(cheaper),
        "ours_to_cheaper_wall": support::round(wall),
        "ours_to_cheaper_worst": support::round(worst),
        "load": support::load(),
        "target": {
            "ours_to_cheaper": support::at_most(1.07),
            "ours_to_cheaper_worst": support::at_most(1.07),
        },
    }))
}

async fn measure(ways: &[Way; 4]) -> Vec<Times> {
    let mut all = Vec::new();
    for (kernel, n) in KERNELS {
        let mut times = Times::default();
        for way in ways {
            // The first run touches what the later ones find warm.
            way.run(kernel, n.min(20)).await;
        }
        for round in 0..support::rounds(15) {
            for turn in 0..ways.len() {
                let way = (round + turn) % ways.len();
                let began = (support::thread_cpu_time(), Instant::now());
                times.fuel = ways[way].run(kernel, n).await.max(times.fuel);
                let processor = support::thread_cpu_time() - began.0;
                times.processor[way].push(processor.as_secs_f64());
                times.wall[way].push(began.1.elapsed().as_secs_f64());
            }
        }
        all.push(times);
    }
    all
}
