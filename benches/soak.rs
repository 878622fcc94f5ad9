//! What a hundred thousand hostile executions leave behind: the process's resident memory after the
//! first thousand and at the end; and half way, as growth that comes to an end is no leak.
//!
//! `cargo bench --bench soak`, with `-- --smoke` to see only whether it works. Each execution must
//! end as its attack does in the hostile suite (`tests/hostile`), and a skill that behaves well runs
//! in between. There is no floor: the first thousand are it. The heap is set up as the command's is.

#[path = "../src/cli/heap.rs"]
mod heap;
mod support;

#[path = "../tests/integration/handmade.rs"]
#[allow(dead_code, reason = "shared with the tests, and each uses its part")]
mod handmade;

use std::sync::Arc;
use std::time::{Duration, Instant};

use handmade::{Answer, Handmade, SPIN, TOOL};
use serde_json::json;
use skillhost::{
    Cause, Control, Event, ExecutionRequest, Host, Limit, LimitOverrides, Skill, Status,
};
use tokio::task::JoinSet;

/// Executions in flight at once.
const AT_ONCE: usize = 8;
/// Executions before the first look at the memory.
const FIRST: usize = 1_000;

fn main() {
    heap::set_up();
    // One of the attacks makes code of the host panic, thousands of times.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panicked| {
        if !panicked.to_string().contains("the embedder's fault") {
            usual(panicked);
        }
    }));
    let executions = support::rounds(100_000);
    let first = FIRST.min(executions / 4);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    let host = Host::builder().build().expect("the host can be set up");
    let soak = runtime.block_on(Soak::new(&host));
    let began = Instant::now();
    runtime.block_on(soak.run(0..first));
    let first_bytes = support::resident_bytes();
    runtime.block_on(soak.run(first..executions / 2));
    let half_bytes = support::resident_bytes();
    runtime.block_on(soak.run(executions / 2..executions));
    let last_bytes = support::resident_bytes();
    let took = began.elapsed();

    let growth = support::ratio(last_bytes as f64, first_bytes as f64);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "resident after {first} hostile executions: {:.1} MiB",
        mib(first_bytes)
    );
    println!(
        "after {executions}: {:.1} MiB, {growth} times that",
        mib(last_bytes)
    );
    println!(
        "{}",
        json!({
            "benchmark": "soak",
            "executions": executions,
            "attacks": soak.attacks.len(),
            "first_bytes": first_bytes,
            "half_bytes": half_bytes,
            "last_bytes": last_bytes,
            "growth": growth,
            "growth_of_second_half": support::ratio(last_bytes as f64, half_bytes as f64),
            "seconds": support::round(took.as_secs_f64()),
            "load": support::load(),
            "target": {"growth": 1.05},
        })
    );
}

struct Soak {
    host: Host,
    attacks: Arc<Vec<(Skill, Attack)>>,
    well: Skill,
}

impl Soak {
    async fn new(host: &Host) -> Self {
        let mut loaded = Vec::new();
        for attack in attacks() {
            let skill = host.load_bytes(attack.skill.build()).await;
            loaded.push((skill.expect("it loads"), attack));
        }
        let well = host.load_bytes(Handmade::default().build()).await;
        Soak {
            host: host.clone(),
            attacks: Arc::new(loaded),
            well: well.expect("it loads"),
        }
    }

    /// Runs the attacks in turn, a few at once, until all of them have ended.
    async fn run(&self, numbers: std::ops::Range<usize>) {
        let mut tasks = JoinSet::new();
        for number in numbers {
            if tasks.len() == AT_ONCE {
                let joined = tasks.join_next().await.expect("there are some");
                joined.expect("it ended as it should");
            }
            let (host, attacks) = (self.host.clone(), Arc::clone(&self.attacks));
            tasks.spawn(async move {
                let (skill, attack) = &attacks[number % attacks.len()];
                attack.run(&host, skill).await;
            });
            if number.is_multiple_of(50) {
                let request = ExecutionRequest::new(self.well.digest(), json!({}));
                let result = self.host.execute(request).await.expect("the host works");
                assert_eq!(result.status, Status::Success, "{:?}", result.failure);
            }
        }
        while let Some(joined) = tasks.join_next().await {
            joined.expect("it ended as it should");
        }
    }
}

struct Attack {
    skill: Handmade,
    limits: LimitOverrides,
    control: Control,
    ends: fn(&Cause) -> bool,
    /// Its future is dropped half way.
    dropped: bool,
}

impl Attack {
    async fn run(&self, host: &Host, skill: &Skill) {
        let request = ExecutionRequest::new(skill.digest(), json!({}))
            .tool(TOOL)
            .limits(self.limits);
        let running = host.execute_with(request, self.control.clone());
        if self.dropped {
            let ended = tokio::time::timeout(Duration::from_millis(1), running).await;
            assert!(ended.is_err(), "it never ends");
            return;
        }
        let result = running.await.expect("the host works");
        match &result.failure {
            Some(failure) => assert!((self.ends)(&failure.cause), "{failure:?}"),
            None => panic!("it was not stopped"),
        }
    }
}

macro_rules! limit {
    ($limit:ident) => {
        |cause| {
            matches!(
                cause,
                Cause::ResourceExhausted {
                    limit: Limit::$limit,
                    ..
                }
            )
        }
    };
}

/// Attacks that do what they can in little time.
fn attacks() -> Vec<Attack> {
    let limits = LimitOverrides {
        fuel: Some(1_000_000),
        memory_bytes: Some(4 << 20),
        output_bytes: Some(10_000),
        attachment_bytes: Some(10_000),
        handles: Some(50),
        wall_time: Some(Duration::from_secs(10)),
        ..LimitOverrides::default()
    };
    let attack = |skill: Handmade, ends: fn(&Cause) -> bool| Attack {
        skill,
        limits,
        control: Control::default(),
        ends,
        dropped: false,
    };
    let that_runs = |execute: &str| Handmade {
        execute: execute.into(),
        ..Handmade::that_calls()
    };
    let that_answers = |answer: Answer| Handmade {
        answer,
        ..Handmade::default()
    };
    let usual = || Handmade::default().answer;
    let time_is_up = LimitOverrides {
        wall_time: Some(Duration::from_millis(1)),
        fuel: Some(u64::MAX),
        ..limits
    };
    let roomy = LimitOverrides {
        memory_bytes: Some(16 << 20),
        ..limits
    };
    let panics = |_: uuid::Uuid, event: &Event<'_>| {
        assert!(!matches!(event, Event::Log { .. }), "the embedder's fault");
    };
    let is_timeout: fn(&Cause) -> bool = |cause| matches!(cause, Cause::Timeout { .. });
    let is_trap: fn(&Cause) -> bool = |cause| matches!(cause, Cause::Trap { .. });
    vec![
        attack(Handmade { execute: SPIN.into(), ..Handmade::default() }, limit!(Fuel)),
        attack(Handmade { realloc: SPIN.into(), ..Handmade::default() }, limit!(Fuel)),
        Attack { limits: time_is_up, ..attack(
            Handmade { execute: format!("(nop) {SPIN}"), ..Handmade::default() }, is_timeout) },
        Attack { limits: LimitOverrides { memory_bytes: Some(16 << 20), ..time_is_up }, ..attack(
            that_runs("(call $block (call $subscribe (i64.const -1))) i32.const $answer"),
            is_timeout) },
        Attack { limits: roomy, dropped: true, ..attack(
            that_runs("(nop) (call $block (call $subscribe (i64.const -1))) i32.const $answer"),
            is_timeout) },
        attack(
            Handmade {
                execute: "(loop $more
                    (i32.store (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)) (i32.const 1))
                    (br $more)) unreachable".into(),
                ..Handmade::default()
            },
            limit!(Memory),
        ),
        attack(
            Handmade {
                fields: "(memory $b 1)".into(),
                execute: "(drop (memory.grow $b (i32.const 40)))
                    (memory.fill $b (i32.const 0) (i32.const 7) (i32.const 900000))
                    (drop (memory.grow $b (i32.const 40))) unreachable".into(),
                ..Handmade::default()
            },
            limit!(Memory),
        ),
        attack(
            Handmade {
                fields: "(table $t 1 funcref) (memory $b 1)".into(),
                execute: "(loop $more (drop (table.grow $t (ref.null func) (i32.const 10000)))
                    (br $more)) unreachable".into(),
                ..Handmade::default()
            },
            limit!(TableElements),
        ),
        attack(
            Handmade {
                fields: "(func $deeper (call $deeper))".into(),
                execute: "(call $deeper) i32.const $answer".into(),
                ..Handmade::default()
            },
            limit!(Stack),
        ),
        Attack { limits: roomy, ..attack(
            that_runs("(loop $more (drop (call $subscribe (i64.const -1))) (br $more)) unreachable"),
            limit!(Handles)) },
        Attack { limits: roomy, ..attack(
            that_runs("(call $log (i32.const 2) (i32.const 0) (i32.const 8388608)) unreachable"),
            limit!(HostBytes)) },
        Attack { limits: roomy, ..attack(
            that_runs("(local $n i32) (local.set $n (i32.const 400)) (loop $more
                (call $log (i32.const 2) (i32.const 0) (i32.const 1000))
                (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) unreachable"),
            is_trap) },
        Attack {
            limits: roomy,
            control: Control::default().observer(Arc::new(panics)),
            ..attack(
                that_runs("(call $log (i32.const 2) (i32.const 0) (i32.const 9)) unreachable"),
                |cause| matches!(cause, Cause::HostPanic),
            )
        },
        attack(Handmade { execute: "unreachable".into(), ..Handmade::default() }, is_trap),
        attack(that_answers(Answer { json: vec![0xff, 0xfe], ..usual() }), is_trap),
        attack(that_answers(Answer { attachments: (8, u32::MAX), ..usual() }), is_trap),
        attack(that_answers(Answer { attachments: (0, 3_000), ..usual() }), limit!(Attachments)),
        attack(that_answers(Answer { json: vec![b' '; 30_000], ..usual() }), limit!(Output)),
        attack(that_answers(Answer { json: vec![b'['; 9_000], ..usual() }), |cause| {
            matches!(cause, Cause::InvalidOutput { .. })
        }),
    ]
}
