//! What an execution cost: each figure, on guests whose cost is known.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use skillhost::{
    Attachment, Cause, CompileEvent, Control, ExecutionRequest, Host, LimitOverrides,
    ResourceUsage, Status,
};

use crate::handmade::{Handmade, TOOL};
use crate::harness::NONE;
use crate::harness::{
    PAGE, Record, builder, cause, execute, host, load, request, run, run_handmade, run_tool,
};

fn counting_to(turns: u32) -> Handmade {
    Handmade {
        execute: format!(
            "(local $n i32) (local.set $n (i32.const {turns}))
            (loop $more
                (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            i32.const $answer"
        ),
        ..Handmade::default()
    }
}

/// A turn of that loop has 5 instructions. Tolerance: 20 %.
#[tokio::test]
async fn fuel_is_about_one_unit_for_each_instruction() {
    let few = run_handmade(&counting_to(1_000), NONE).await.usage.fuel;
    let many = run_handmade(&counting_to(101_000), NONE).await.usage.fuel;
    let turn = (many - few) as f64 / 100_000.0;
    assert!((4.0..=6.0).contains(&turn), "{turn}");
}

/// A load costs twelve units, and the address that it takes one more. Tolerance: none, as the two loops differ in nothing
/// else.
#[tokio::test]
async fn fuel_of_a_load_is_twelve_units() {
    let turns: u32 = 10_000;
    let with = |loads: usize| Handmade {
        execute: format!(
            "(local $n i32) (local.set $n (i32.const {turns}))
            (loop $more
                {}
                (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            i32.const $answer",
            "(drop (i32.load (i32.const 0)))".repeat(loads)
        ),
        ..Handmade::default()
    };
    let none = run_handmade(&with(0), NONE).await.usage.fuel;
    let ten = run_handmade(&with(10), NONE).await.usage.fuel;
    assert_eq!(ten - none, u64::from(turns) * 10 * (12 + 1));
}

#[tokio::test]
async fn fuel_is_the_same_each_time() {
    let skill = load(host(), &counting_to(12_345)).await.digest();
    let first = run_tool(host(), skill, NONE).await.usage.fuel;
    for _ in 0..5 {
        assert_eq!(run_tool(host(), skill, NONE).await.usage.fuel, first);
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The test's own thread runs the guest, so its clock says what is right. Tolerance: 10 %, on the
/// side of what the host does around the guest. A busy machine changes neither figure.
#[tokio::test]
async fn cpu_time_is_that_of_the_thread() {
    let limits = LimitOverrides {
        fuel: Some(300_000_000),
        ..NONE
    };
    let request = request(host(), "spin", json!({})).await.limits(limits);
    let before = thread_cpu_time();
    let result = host().execute(request).await.unwrap();
    let spent = thread_cpu_time() - before;
    let measured = result.usage.cpu_time;
    assert!(measured <= spent, "{measured:?} of {spent:?}");
    assert!(measured >= spent.mul_f64(0.9), "{measured:?} of {spent:?}");
    assert!(measured <= result.usage.wall_time + Duration::from_millis(1));
}

/// Two that take turns on one thread are told their own part each. Tolerance: 10 % of the sum, as above; and of the
/// parts, whose guests do the same thing for one unit of fuel and for three, a third of their ratio.
#[tokio::test]
async fn cpu_time_of_guests_that_take_turns_is_their_own() {
    let part = async |fuel| {
        let limits = LimitOverrides {
            fuel: Some(fuel),
            ..NONE
        };
        let request = request(host(), "spin", json!({})).await.limits(limits);
        host().execute(request).await.unwrap().usage
    };
    let before = thread_cpu_time();
    let (one, three) = tokio::join!(part(100_000_000), part(300_000_000));
    let spent = thread_cpu_time() - before;
    let sum = one.cpu_time + three.cpu_time;
    assert!(sum <= spent, "{sum:?} of {spent:?}");
    assert!(sum >= spent.mul_f64(0.9), "{sum:?} of {spent:?}");
    let ratio = three.cpu_time.as_secs_f64() / one.cpu_time.as_secs_f64();
    assert!((2.0..=4.0).contains(&ratio), "{one:?}, {three:?}");
    // They did take turns: while the one ran, the other did about as much.
    assert!(one.wall_time >= one.cpu_time.mul_f64(1.5), "{one:?}");
}

/// Four on two threads, each of which is polled by either, are told their own part each. Tolerance: 10 % of what the two
/// threads have used, and of the parts a third, as above.
#[test]
fn cpu_time_of_guests_on_several_threads_is_their_own() {
    let threads = Arc::new(Mutex::new(Vec::new()));
    let started = Arc::clone(&threads);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || {
            let own = std::fs::read_link("/proc/thread-self").unwrap();
            started.lock().unwrap().push(own);
        })
        .build()
        .unwrap();
    // What the kernel has given each of them, in nanoseconds.
    let used = || {
        let threads = threads.lock().unwrap();
        let used = threads.iter().map(|thread| {
            let path = std::path::Path::new("/proc").join(thread).join("schedstat");
            let text = std::fs::read_to_string(path).unwrap();
            let nanos = text.split(' ').next().unwrap().parse().unwrap();
            Duration::from_nanos(nanos)
        });
        (used.sum::<Duration>(), threads.len())
    };
    let part = |fuel| async move {
        let limits = LimitOverrides {
            fuel: Some(fuel),
            ..NONE
        };
        let request = request(host(), "spin", json!({})).await.limits(limits);
        host().execute(request).await.unwrap().usage
    };
    // Whatever is made once is there.
    runtime.block_on(runtime.spawn(part(1_000))).unwrap();
    let before = used();
    let parts = [100_000_000, 300_000_000, 100_000_000, 300_000_000];
    let tasks = parts.map(|fuel| runtime.spawn(part(fuel)));
    let usages = tasks.map(|task| runtime.block_on(task).unwrap());
    // A thread that has not gone to sleep yet is not told of to the end.
    let mut after = used();
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(5));
        let again = used();
        if std::mem::replace(&mut after, again) == again {
            break;
        }
    }
    // Those for what blocks have done nothing.
    assert!(after.1 >= 2, "{after:?}");
    let spent = after.0 - before.0;
    let sum: Duration = usages.iter().map(|usage| usage.cpu_time).sum();
    assert!(sum <= spent.mul_f64(1.02), "{sum:?} of {spent:?}");
    assert!(sum >= spent.mul_f64(0.9), "{sum:?} of {spent:?}");
    let of = |index: usize| usages[index].cpu_time.as_secs_f64();
    let ratio = (of(1) + of(3)) / (of(0) + of(2));
    assert!((2.0..=4.0).contains(&ratio), "{usages:?}");
}

/// Of half a second asleep, at most a tenth is computing.
#[tokio::test]
async fn a_guest_that_sleeps_uses_wall_time_and_no_cpu_time() {
    let result = run(host(), "sleep", json!({"ms": 500}), NONE).await;
    assert_eq!(result.status, Status::Success);
    assert!(result.usage.wall_time >= Duration::from_millis(500));
    assert!(
        result.usage.cpu_time < Duration::from_millis(50),
        "{:?}",
        result.usage
    );
}

#[tokio::test]
async fn peak_memory_is_exact_to_the_page() {
    for pages in [0, 1, 7, 500] {
        let skill = Handmade {
            execute: format!("(drop (memory.grow (i32.const {pages}))) i32.const $answer"),
            ..Handmade::default()
        };
        let result = run_handmade(&skill, NONE).await;
        assert_eq!(result.usage.peak_memory_bytes, (4 + pages) * PAGE);
    }
}

#[tokio::test]
async fn host_calls_are_counted_exactly() {
    let skill = Handmade {
        execute: "
            (drop (call $now)) (drop (call $now)) (drop (call $now))
            (call $log (i32.const 0) (i32.const 0) (i32.const 1))
            (call $log (i32.const 0) (i32.const 0) (i32.const 1))
            i32.const $answer"
            .into(),
        ..Handmade::that_calls()
    };
    assert_eq!(run_handmade(&skill, NONE).await.usage.host_calls, 5);
    let mut calls = Vec::new();
    for count in [10, 110] {
        let result = run(host(), "measured_calls", json!({ "count": count }), NONE).await;
        calls.push(result.usage.host_calls);
        let result = run(
            host(),
            "many_random",
            json!({"count": count, "bytes": 8}),
            NONE,
        )
        .await;
        calls.push(result.usage.host_calls);
        let result = run(host(), "chatter", json!({ "count": count }), NONE).await;
        calls.push(result.usage.host_calls);
    }
    assert_eq!(calls[3] - calls[0], 100);
    assert_eq!(calls[4] - calls[1], 100);
    assert_eq!(calls[5] - calls[2], 200, "a log and a progress report each");
}

/// Making a pollable, waiting for it, and giving it back: dropping a handle is a call, too.
#[tokio::test]
async fn waiting_is_three_calls() {
    let skill = Handmade {
        execute: "(local $p i32)
            (local.set $p (call $subscribe (i64.const 1000000)))
            (call $block (local.get $p)) (call $drop (local.get $p))
            i32.const $answer"
            .into(),
        ..Handmade::that_calls()
    };
    let calls = run_handmade(&skill, NONE).await.usage.host_calls;
    assert_eq!(calls, 3);
}

#[tokio::test]
async fn bytes_in_and_out_are_exact() {
    let request = request(host(), "echo", json!({"a": "é"}))
        .await
        .attach(Attachment::new("name", "text/plain", *b"12345"))
        .attach(Attachment::new("", "", []));
    let result = execute(host(), request).await;
    let json_bytes = r#"{"a":"é"}"#.len() as u64;
    assert_eq!(result.usage.input_bytes, json_bytes + 4 + 10 + 5);
    assert_eq!(result.usage.output_bytes, result.usage.input_bytes);
    assert_eq!(
        result.attachments[0],
        Attachment::new("name", "text/plain", *b"12345")
    );

    let input = json!({"message": "abc", "code": "de", "details": "f"});
    let result = run(host(), "fail", input, NONE).await;
    assert_eq!(result.usage.output_bytes, 6);
}

#[tokio::test]
async fn tokens_add_up() {
    let result = run(
        host(),
        "add_tokens",
        json!({"input": 10, "output": 20}),
        NONE,
    )
    .await;
    assert_eq!(
        (result.usage.tokens.input, result.usage.tokens.output),
        (11, 22)
    );
    let most = json!({"input": u64::MAX, "output": u64::MAX});
    let result = run(host(), "add_tokens", most, NONE).await;
    assert_eq!(result.usage.tokens.input, u64::MAX, "it does not wrap");
}

/// Waiting, compiling, instantiation and run, each where it belongs.
#[tokio::test]
async fn times_are_split() {
    let host = builder().concurrency(1).build().unwrap();
    let request_of = |input| request(&host, "sleep", input);
    let began = Instant::now();
    let mut queued = request_of(json!({"ms": 0})).await;
    queued.queue_wait = Duration::from_millis(1234);
    let (slow, quick) = tokio::join!(
        execute(&host, request_of(json!({"ms": 200})).await),
        async {
            tokio::task::yield_now().await;
            execute(&host, queued).await
        }
    );
    let elapsed = began.elapsed();
    assert!(
        slow.usage.compile_time > Duration::ZERO,
        "the first to run says what loading took"
    );
    assert_eq!(quick.usage.compile_time, Duration::ZERO);
    assert!(slow.usage.run_time >= Duration::from_millis(200));
    assert_eq!(slow.usage.waiting_time, Duration::ZERO);
    assert!(
        quick.usage.waiting_time >= Duration::from_millis(190),
        "{:?}",
        quick.usage
    );
    assert!(quick.usage.waiting_time + quick.usage.wall_time <= elapsed);
    assert!(quick.usage.instantiation_time > Duration::ZERO);
    assert_eq!(quick.usage.queue_wait, Duration::from_millis(1234));
}

/// What the caller waits for is all there, and nothing more: waiting for a slot, instantiation and the run
/// are what passes on the caller's own clock. Tolerance: none upwards; downwards a tenth, in the best of
/// five, for what the host does around it and a busy machine does to it.
#[tokio::test]
async fn times_add_up_to_what_the_caller_waited() {
    let host = builder().concurrency(1).build().unwrap();
    let time = Duration::from_millis(100);
    let skill = load(&host, &waiting(time, time)).await.digest();
    let timed = async || {
        let request = ExecutionRequest::new(skill, json!({})).tool(TOOL);
        let began = Instant::now();
        let usage = host.execute(request).await.unwrap().usage;
        (usage, began.elapsed())
    };
    let mut best = [f64::INFINITY; 2];
    for _ in 0..5 {
        // One has the slot, and the other waits for it.
        let both = tokio::join!(timed(), timed());
        for (best, (usage, took)) in best.iter_mut().zip([both.0, both.1]) {
            assert_eq!(
                usage.instantiation_time + usage.run_time,
                usage.wall_time,
                "{usage:?}"
            );
            let told = usage.waiting_time + usage.wall_time;
            assert!(told <= took, "{took:?}: {usage:?}");
            assert!(usage.wall_time >= 2 * time, "{usage:?}");
            *best = best.min((took - told).as_secs_f64() / took.as_secs_f64());
        }
        if best.iter().all(|missing| *missing < 0.1) {
            return;
        }
    }
    panic!("not told of what was waited: {best:?}");
}

/// A skill that waits so long in a start function, and so long in its tool.
fn waiting(start: Duration, execute: Duration) -> Handmade {
    let wait = |time: Duration| {
        format!(
            "(call $block (call $subscribe (i64.const {})))",
            time.as_nanos()
        )
    };
    Handmade {
        fields: format!("(func $start {}) (start $start)", wait(start)),
        execute: format!("{} i32.const $answer", wait(execute)),
        ..Handmade::that_calls()
    }
}

/// A wait is never too short, and on a busy machine too long by what that takes. Tolerance: none
/// downwards; upwards the difference of the two, so that no part of one is counted as the other's.
#[tokio::test]
async fn instantiation_and_run_are_told_apart() {
    let (short, long) = (Duration::from_millis(20), Duration::from_millis(600));
    for (start, execute) in [(long, short), (short, long)] {
        let usage = run_handmade(&waiting(start, execute), NONE).await.usage;
        assert!(usage.instantiation_time >= start, "{usage:?}");
        assert!(usage.run_time >= execute, "{usage:?}");
        assert_eq!(
            usage.instantiation_time > usage.run_time,
            start > execute,
            "{usage:?}"
        );
    }
}

/// The same of computing: ten times the work is about ten times the time. Tolerance: a factor of 2, of
/// processor time over fuel, which a busy machine changes little.
#[tokio::test]
async fn computing_in_instantiation_counts_as_computing_does() {
    let turns = 20_000_000;
    let count = format!(
        "(local $n i32) (local.set $n (i32.const {turns}))
        (loop $more
            (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"
    );
    let in_start = Handmade {
        fields: format!("(func $start {count}) (start $start)"),
        ..Handmade::default()
    };
    let in_run = Handmade {
        execute: format!("{count} i32.const $answer"),
        ..Handmade::default()
    };
    let start = run_handmade(&in_start, NONE).await.usage;
    let run = run_handmade(&in_run, NONE).await.usage;
    let fuel = start.fuel as f64 / run.fuel as f64;
    assert!((0.99..1.01).contains(&fuel), "{start:?}, {run:?}");
    let time = start.cpu_time.as_secs_f64() / run.cpu_time.as_secs_f64();
    assert!((0.5..2.0).contains(&time), "{start:?}, {run:?}");
    assert!(start.instantiation_time > start.run_time, "{start:?}");
    assert!(run.run_time > run.instantiation_time, "{run:?}");
}

/// What compiling took is told twice, by the event and by the first execution, where reading, looking at and
/// describing the skill come to it. Tolerance: three times what the event says, as this component does nothing but
/// take long to compile; and never more than was waited for.
#[tokio::test]
async fn the_time_of_compiling_is_what_it_took() {
    let body = "(if (i32.load (local.get 0)) (then
        (i32.store (local.get 1) (i32.add (local.get 0) (i32.load (local.get 1))))))";
    let slow = Handmade {
        fields: format!("(func (param i32 i32) {})", body.repeat(2_000)).repeat(4),
        ..Handmade::default()
    };
    let component = slow.build();
    let folder = tempfile::tempdir().unwrap();
    let took = Arc::new(Mutex::new(Vec::new()));
    let host = || {
        let took = Arc::clone(&took);
        Host::builder()
            .concurrency(1)
            .cache(folder.path().join("compiled"))
            .on_compile(move |event| {
                if let CompileEvent::Finished { took: time, .. } = event {
                    took.lock().expect("nobody panics here").push(*time);
                }
            })
            .build()
            .unwrap()
    };
    let first_run = async |host: &Host| {
        let began = Instant::now();
        let skill = host.load_bytes(component.clone()).await.unwrap().digest();
        let waited = began.elapsed();
        let first = run_tool(host, skill, NONE).await.usage.compile_time;
        let second = run_tool(host, skill, NONE).await.usage.compile_time;
        assert_eq!(second, Duration::ZERO, "nobody is told twice");
        assert!(first <= waited, "{first:?} of {waited:?}");
        first
    };
    let compiling = first_run(&host()).await;
    let told = took.lock().expect("nobody panics here").clone();
    let [told] = told[..] else { panic!("{told:?}") };
    assert!(compiling >= told, "{compiling:?}, and {told:?}");
    assert!(compiling <= told * 3, "{compiling:?}, and {told:?}");
    // Another host takes it from the cache, and says what that took.
    let reading = first_run(&host()).await;
    assert!(
        reading > Duration::ZERO && reading < compiling,
        "{reading:?}"
    );
    assert_eq!(took.lock().expect("nobody panics here").len(), 1);
}

/// Whatever became of it, what it did until then is there.
#[tokio::test]
async fn usage_is_there_on_every_kind_of_failure() {
    let limits = LimitOverrides {
        fuel: Some(50_000_000),
        wall_time: Some(Duration::from_millis(300)),
        memory_bytes: Some(100 * PAGE),
        ..NONE
    };
    for (tool, input) in [
        ("spin", json!({})),
        ("wait_for_ever", json!({})),
        ("allocate", json!({"bytes": 100 << 20})),
        ("panic", json!({})),
        ("exit", json!({"code": 3})),
        ("fail", json!({"message": "x"})),
        ("fail_to_retry", json!({})),
        ("reject_input", json!({})),
        ("unknown_tool", json!({})),
        ("answer", json!({"json": "not JSON"})),
        ("answer_large", json!({"bytes": 1100000})),
        ("overflow_the_stack", json!({})),
    ] {
        let result = run(host(), tool, input, limits).await;
        assert_ne!(result.status, Status::Success, "{tool}");
        check_usage(tool, &result.usage);
    }
}

fn check_usage(what: &str, usage: &ResourceUsage) {
    assert!(usage.fuel > 1000, "{what}: {usage:?}");
    assert!(usage.peak_memory_bytes >= 17 * PAGE, "{what}: {usage:?}");
    assert!(usage.cpu_time > Duration::ZERO, "{what}: {usage:?}");
    assert!(usage.run_time > Duration::ZERO, "{what}: {usage:?}");
    assert!(
        usage.instantiation_time > Duration::ZERO,
        "{what}: {usage:?}"
    );
    assert!(usage.input_bytes > 0, "{what}: {usage:?}");
}

#[tokio::test]
async fn usage_is_there_when_it_is_cancelled_and_when_its_future_is_dropped() {
    // It may have to wait for its turn after it has started: what it did is asked about once it does something.
    let input = json!({"log_first": "here"});
    for tool in ["spin", "wait_for_ever"] {
        let record = Record::new();
        let token = tokio_util::sync::CancellationToken::new();
        let control = Control::default()
            .observer(record.clone())
            .cancellation(token.clone());
        let running = request(host(), tool, input.clone()).await;
        let (result, ()) = tokio::join!(host().execute_with(running, control), async {
            record.wait_for("log here", 1).await;
            token.cancel();
        });
        let result = result.unwrap();
        assert!(matches!(cause(&result), Cause::Cancelled { .. }));
        check_usage(tool, &result.usage);

        let record = Record::new();
        let control = Control::default().observer(record.clone());
        let running = request(host(), tool, input.clone()).await;
        tokio::select! {
            _ = host().execute_with(running, control) => unreachable!("it never ends"),
            () = record.wait_for("log here", 1) => {}
        }
        assert_eq!(
            record.events(),
            ["admitted", "started", "log here", "finished cancelled"]
        );
        check_usage(tool, &record.usage().unwrap());
    }
}

/// What loading took is in the first result, also where nothing ran.
#[tokio::test]
async fn a_refusal_says_what_loading_took() {
    let host = builder().build().unwrap();
    let refused = request(&host, "sleep", json!({})).await;
    let first = execute(&host, refused.clone()).await;
    assert!(matches!(cause(&first), Cause::InvalidInput { .. }));
    assert!(first.usage.compile_time > Duration::ZERO);
    let second = execute(&host, refused).await;
    assert_eq!(second.usage.compile_time, Duration::ZERO);

    // One of the guards around the host refuses.
    let policy = "[tenants.strict]\nover_ceiling = \"reject\"\nceilings.memory_bytes = \"8MiB\"";
    let host = builder().policy(policy.parse().unwrap()).build().unwrap();
    let guards = skillhost::policy::guard::Guards::new(host.current_policy().clone());
    let all = guards.around(std::sync::Arc::new(host.clone()));
    let mut refused = request(&host, "sleep", json!({"ms": 0}))
        .await
        .tenant("strict");
    refused.limits.memory_bytes = Some(64 << 20);
    let first = all.execute(refused, Control::default()).await.unwrap();
    assert_eq!(first.status, Status::Rejected);
    assert!(first.usage.compile_time > Duration::ZERO);
}

/// A guest that was stopped before its first instruction cost nothing but time.
#[tokio::test]
async fn nothing_is_reported_that_was_not_used() {
    let result = execute(host(), ExecutionRequest::new("nobody", json!({}))).await;
    assert_eq!(cause(&result), &Cause::NotLoaded);
    assert_eq!(result.usage, ResourceUsage::default());
    let result = run(host(), "sleep", json!({}), NONE).await;
    assert!(matches!(cause(&result), Cause::InvalidInput { .. }));
    assert_eq!(result.usage.fuel, 0);
}
