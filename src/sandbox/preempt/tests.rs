use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::LazyLock;

use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use super::*;
use crate::sandbox::settings;

/// What exports `run` and `add`, as it is compiled, without looks put into it.
fn compiled(fields: &str) -> (Engine, Component) {
    let mut config = settings::code();
    settings::stack(&mut config, 512 << 10);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
    let text = format!(
        r#"(component
            (core module $m
                {fields}
                (func (export "add") (param f64) (result f64)
                    (f64.add (local.get 0) (f64.const 1))))
            (core instance $i (instantiate $m))
            (func (export "run") (param "deep" u32) (param "x" f64) (result f64)
                (canon lift (core func $i "run")))
            (func (export "add") (param "x" f64) (result f64) (canon lift (core func $i "add"))))"#
    );
    let engine = Engine::new(&config).unwrap();
    let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    (engine, component)
}

/// Functions that have called each other return, and compute long after that: 8 ns for each root, some 1.5 s for all.
fn returning() -> (Engine, Component) {
    compiled(&format!(
        r#"(func $deep (export "run") (param i32 f64) (result f64)
            (if (local.get 0) (then
                (local.set 1 (call $deep (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))))
            local.get 1 {})"#,
        "f64.sqrt ".repeat(50_000)
    ))
}

/// A function that is called for ever, and that hardly does more than put its frame where another would need it.
fn entering() -> (Engine, Component) {
    let (params, values) = ("f64 ".repeat(30), "(f64.const 7)".repeat(30));
    compiled(&format!(
        r#"(func $many (param f64 {params}) (result f64) (local.get 0))
        (func $short (param i32 f64) (result f64)
            (if (local.get 0) (then (return_call $many (local.get 1) {values})))
            (local.get 1))
        (func (export "run") (param i32 f64) (result f64)
            (loop $again
                (local.set 1 (call $short (i32.const 0) (local.get 1)))
                (br $again))
            unreachable)"#
    ))
}

/// A guest that takes that long.
const DEEP: u32 = 4_000;

/// Runs a guest that goes so deep, with so much time: what it came to, and what stopped it. Another one runs after it.
async fn run(
    (engine, component): (Engine, Component),
    deep: u32,
    wall_time: Duration,
    cancelled_after: Option<Duration>,
) -> (wasmtime::Result<f64>, Option<Stop>) {
    begin().unwrap();
    let token = CancellationToken::new();
    let code = Code::of(&component);
    let linker = Linker::new(&engine);
    let store = || {
        let mut store = Store::new(&engine, ());
        store.set_fuel(u64::MAX).unwrap();
        store
    };
    let mut first = store();
    let guest = linker.instantiate_async(&mut first, &component).await;
    let guest = guest.unwrap();
    let guest = guest.get_typed_func::<(u32, f64), (f64,)>(&mut first, "run");
    let guest = guest.unwrap();
    let (result, stop) = {
        let mut called = pin!(guest.call_async(&mut first, (deep, 2.0)));
        if let Some(after) = cancelled_after {
            let token = token.clone();
            std::thread::spawn(move || {
                std::thread::sleep(after);
                token.cancel();
            });
        }
        poll_fn(|context| {
            let now = Instant::now();
            let poll = || called.as_mut().poll(context);
            let (polled, stop) =
                preemptible(&code, now, until(now + wall_time, Some(&token)), poll);
            polled.map(|result| (result, stop))
        })
        .await
    };
    let mut second = store();
    let other = linker.instantiate_async(&mut second, &component).await;
    let other = other.unwrap();
    let other = other.get_typed_func::<(f64,), (f64,)>(&mut second, "add");
    let other = other.unwrap();
    let mut called = pin!(other.call_async(&mut second, (2.0,)));
    let (added, of_other) = poll_fn(|context| {
        let now = Instant::now();
        let poll = || called.as_mut().poll(context);
        let (polled, stop) = preemptible(&code, now, until(now + HOUR, None), poll);
        polled.map(|result| (result, stop))
    })
    .await;
    assert_eq!((added.unwrap(), of_other), ((3.0,), None));
    (result.map(|(x,)| x), stop)
}

fn until(deadline: Instant, cancellation: Option<&CancellationToken>) -> Until<'_> {
    static CONDUCT: LazyLock<Conduct> = LazyLock::new(Conduct::default);
    Until {
        deadline,
        cancellation,
        kept: KEPT,
        times: 1,
        conduct: &CONDUCT,
    }
}

/// One that has four times the fuel to its next look comes to it four times later: that is not what others are to be
/// taken for.
#[test]
fn who_has_more_fuel_may_be_later() {
    Known::prepare();
    let now = Instant::now();
    let noted = |times, had| {
        let conduct = Conduct::default();
        let until = Until {
            times,
            conduct: &conduct,
            ..until(now, None)
        };
        until.note(Duration::from_millis(had), now);
        (conduct.pace.is_late(now), conduct.known.is(now))
    };
    assert_eq!([noted(1, 12), noted(1, 13)], [(false, false), (true, true)]);
    assert_eq!(noted(4, 12), (false, false));
    assert_eq!([noted(4, 13), noted(4, 49)], [(true, false); 2]);
    assert_eq!(noted(4, 50), (true, true));
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn what_comes_back_soon_is_left_alone() {
    let (result, stop) = run(returning(), 10, HOUR, None).await;
    assert_eq!((result.unwrap(), stop), (1.0, None));
}

#[tokio::test]
async fn what_does_not_come_back_is_stopped_when_its_time_is_up() {
    let (result, stop) = run(returning(), DEEP, Duration::from_millis(20), None).await;
    assert_eq!(stop, Some(Stop::TimeIsUp));
    // For the engine it is any guest that trapped.
    let error = result.unwrap_err();
    assert!(error.is::<wasmtime::Trap>(), "{error:?}");
}

#[tokio::test]
async fn what_keeps_its_thread_is_stopped_with_time_left() {
    let (result, stop) = run(returning(), DEEP, HOUR, None).await;
    assert_eq!(stop, Some(Stop::DidNotYield { kept: KEPT }));
    assert!(result.is_err());
}

/// Also one that is hardly ever where it can be stopped.
#[tokio::test]
async fn what_keeps_beginning_is_stopped() {
    let (engine, component) = entering();
    let code = Code::of(&component);
    let image = component.image_range();
    let entering = (image.start.addr()..image.end.addr()).filter(|at| code.at(*at) == At::Entering);
    assert!(cfg!(target_arch = "aarch64") || entering.count() > 50);
    let (result, stop) = run((engine, component), 0, HOUR, None).await;
    assert_eq!(stop, Some(Stop::DidNotYield { kept: KEPT }));
    assert!(result.is_err());
}

#[tokio::test]
async fn what_does_not_come_back_is_stopped_where_it_is_cancelled() {
    let (result, stop) = run(returning(), DEEP, HOUR, Some(Duration::from_millis(20))).await;
    assert_eq!(stop, Some(Stop::Cancelled));
    assert!(result.is_err());
}

/// The host's own code is never sent elsewhere, however often it is interrupted.
#[test]
fn the_host_comes_to_its_end() {
    begin().unwrap();
    let (_, component) = returning();
    let code = Code::of(&component);
    let now = Instant::now();
    // Its time is up from the beginning, so that the watch interrupts it.
    let ((), stop) = preemptible(&code, now, until(now, None), || {
        while !was_interrupted() {
            assert!(now.elapsed() < Duration::from_secs(60));
        }
    });
    assert_eq!(stop, None);
}

/// What a guest had the processor for in code of its own is counted, from one interruption to the next.
#[test]
fn what_a_guest_computes_is_counted() {
    let began = Instant::now();
    let kept = Kept::new(began);
    let interrupted = |at, user, wall| {
        let time = |millis| Duration::from_millis(millis);
        let had = kept.interrupted(at, time(user), began + time(wall));
        [had.own, had.all].map(|had| u64::try_from(had.as_millis()).unwrap())
    };
    // The thread had it for others before.
    assert_eq!(interrupted(At::Guest, 1_000, 10), [0, 0]);
    assert_eq!(interrupted(At::Guest, 1_005, 15), [5, 5]);
    assert_eq!(interrupted(At::Entering, 1_010, 20), [10, 10]);
    // That was in the host's.
    assert_eq!(interrupted(At::Elsewhere, 1_040, 50), [10, 40]);
    assert_eq!(interrupted(At::Guest, 1_045, 55), [15, 45]);
    // The thread waited for the processor, or the kernel worked for it.
    assert_eq!(interrupted(At::Guest, 1_046, 90), [16, 46]);
    // The kernel makes up for what it had not counted.
    assert_eq!(interrupted(At::Guest, 1_146, 95), [21, 51]);
    // It was not interrupted for long, and the host may have worked for it.
    assert_eq!(interrupted(At::Guest, 1_346, 295), [71, 251]);
    // Time on the processor does not go back; should it, nothing is counted.
    assert_eq!(interrupted(At::Guest, 1_300, 300), [71, 251]);
}

/// Whether the turn of the closure that asks has been.
fn was_interrupted() -> bool {
    // SAFETY: it is there.
    let turn = unsafe { &*TURN.with(|turn| turn.load(Ordering::Relaxed)) };
    turn.kept.at.load(Ordering::Relaxed) > 0
}

/// The code of some guest.
pub(in crate::sandbox) fn code() -> Code {
    begin().unwrap();
    let (_, component) = entering();
    Code::of(&component)
}

/// Does what a guest's turn would do.
pub(super) fn within_a_turn(work: impl FnOnce()) {
    let code = code();
    let now = Instant::now();
    preemptible(&code, now, until(now + HOUR, None), work);
}

/// One of ours may have lost what was sent with it, and looks like another's then.
#[test]
#[cfg(target_os = "linux")]
fn whoever_sent_the_signal_it_interrupts() {
    within_a_turn(|| {
        // SAFETY: it takes a number, of a signal that is handled.
        assert_eq!(unsafe { libc::raise(libc::SIGURG) }, 0);
        assert!(was_interrupted());
    });
}

#[test]
fn one_guest_within_another_is_the_one_that_counts_until_it_comes_back() {
    let (_, component) = returning();
    let code = Code::of(&component);
    let now = Instant::now();
    let seat = || SEAT.with(|seat| seat.0.deadline.load(Ordering::Relaxed));
    let nanos = |deadline| watch().nanos(deadline);
    let current = || TURN.with(|turn| turn.load(Ordering::Relaxed));
    preemptible(&code, now, until(now + HOUR, None), || {
        let outer = current();
        assert_eq!(seat(), nanos(now + HOUR));
        preemptible(&code, now, until(now + HOUR * 2, None), || {
            assert_ne!(current(), outer);
            assert_eq!(seat(), nanos(now + HOUR * 2));
        });
        assert_eq!((current(), seat()), (outer, nanos(now + HOUR)));
    });
    assert!(current().is_null());
    assert_eq!(SEAT.with(|seat| seat.0.began.load(Ordering::Relaxed)), 0);
}

#[test]
fn the_watch_looks_again_in_time() {
    let watch = Watch {
        began: Instant::now(),
        seats: Mutex::default(),
        asleep: AtomicBool::new(false),
        thread: OnceLock::new(),
    };
    let at = |millis| watch.began + Duration::from_millis(millis);
    assert_eq!(watch.look(at(1_000)), None);
    let seat = |began: u64, deadline: u64| {
        watch.seats().push(Arc::new(Seat {
            // Interrupted to no effect.
            thread: signal::Id::of_this_thread(),
            began: AtomicU64::new(began * 1_000_000),
            deadline: AtomicU64::new(deadline * 1_000_000),
        }));
    };
    seat(0, 5);
    assert_eq!(watch.look(at(1_000)), None, "it runs no guest");
    seat(999, 10_000);
    assert_eq!(watch.look(at(1_000)), Some(TICK));
    seat(999, 1_002);
    assert_eq!(watch.look(at(1_000)), Some(Duration::from_millis(3)));
    assert_eq!(watch.look(at(1_001)), Some(Duration::from_millis(2)));
    assert_eq!(watch.look(at(1_003)), Some(LOOK_AGAIN), "it is late");
}

/// Does in turn whatever a guest can do, and calls in its place a function that takes many more arguments, and one
/// that takes fewer: there the stack is put in order.
const EVERYTHING: &str = r#"(component
    (import "host" (func $host (param "text" string)))
    (core module $heap (memory (export "memory") 1))
    (core instance $heap (instantiate $heap))
    (core func $lowered
        (canon lower (func $host) (memory (core memory $heap "memory"))))
    (core module $d (func (export "drop") (param i32)))
    (core instance $d (instantiate $d))
    (type $r (resource (rep i32) (dtor (core func $d "drop"))))
    (core func $new (canon resource.new $r))
    (core func $drop (canon resource.drop $r))
    (core module $m
        (import "" "host" (func $host (param i32 i32)))
        (import "" "new" (func $new (param i32) (result i32)))
        (import "" "drop" (func $drop (param i32)))
        (memory 1 2)
        (type $unary (func (param i32) (result i32)))
        (table $t 2 20 funcref)
        (elem (table $t) (i32.const 0) func $few)
        (global $n (mut i32) (i32.const 1))
        (func $few (param i32) (result i32)
            (return_call $many (local.get 0) MANY))
        (func $many (param i32 PARAMS) (result i32)
            (return_call $more (local.get 0) MANY MANY MANY))
        (func $more (param i32 PARAMS PARAMS PARAMS) (result i32)
            (return_call $one (local.get 0)))
        (func $one (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
        (func $large (param i32) (result i32) (local LOCALS)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
            (call $large (i32.sub (local.get 0) (i32.const 1))) SUM)
        (func (export "run")
            (loop $again
                (global.set $n (call $few (global.get $n)))
                (global.set $n (call_indirect $t (type $unary) (global.get $n) (i32.const 0)))
                (global.set $n (i32.and (call $large (i32.const 5)) (i32.const 0xff)))
                (i32.store (global.get $n) (i32.load (global.get $n)))
                (memory.fill (i32.const 0) (i32.const 7) (i32.const 100))
                (drop (memory.grow (i32.const 0)))
                (drop (table.grow $t (ref.null func) (i32.const 0)))
                (table.set $t (i32.const 1) (ref.func $few))
                (drop (table.get $t (i32.const 0)))
                (call $drop (call $new (i32.const 7)))
                (call $host (i32.const 0) (i32.const 3))
                (br $again))))
    (core instance $i (instantiate $m (with "" (instance
        (export "host" (func $lowered)) (export "new" (func $new)) (export "drop" (func $drop))))))
    (func (export "run") (canon lift (core func $i "run"))))"#;

/// Signals that come close to each other, each at another place, and each guest ends at the first after its time is up.
#[tokio::test]
async fn a_guest_can_be_stopped_wherever_it_is() {
    begin().unwrap();
    let (engine, _) = returning();
    let values = "(i64.extend_i32_u (local.get 0))".repeat(20);
    let sum: String = (1..=100)
        .map(|at| format!("(local.tee {at} (i32.add (local.get {at}) (local.get 0))) i32.add "))
        .collect();
    let text = EVERYTHING
        .replace("MANY", &values)
        .replace("PARAMS", &"i64 ".repeat(20))
        .replace("LOCALS", &"i32 ".repeat(100))
        .replace("SUM", &sum);
    stopped_anywhere(&engine, &text).await;
}

/// Two components, of which one hands the other a text: what the engine makes for that is interrupted as well.
#[tokio::test]
async fn a_guest_can_be_stopped_between_two_components() {
    begin().unwrap();
    let (engine, _) = returning();
    for encoding in ["utf8", "utf16", "latin1+utf16"] {
        let text = r#"(component
            (import "host" (func $host (param "text" string)))
            (component $other
                (core module $m
                    (memory (export "memory") 2)
                    (func (export "take") (param i32 i32))
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 16))
                (core instance $m (instantiate $m))
                (func (export "take") (param "text" string) (canon lift (core func $m "take")
                    (memory (core memory $m "memory")) (realloc (core func $m "realloc"))
                    string-encoding=ENCODING)))
            (component $one
                (import "take" (func $imported (param "text" string)))
                (core module $heap (memory (export "memory") 1))
                (core instance $heap (instantiate $heap))
                (core func $take (canon lower (func $imported)
                    (memory (core memory $heap "memory")) string-encoding=utf8))
                (core module $m
                    (import "" "take" (func $take (param i32 i32)))
                    (func (export "run")
                        (loop $again (call $take (i32.const 0) (i32.const 9)) (br $again))))
                (core instance $i
                    (instantiate $m (with "" (instance (export "take" (func $take))))))
                (func (export "run") (canon lift (core func $i "run"))))
            (instance $other (instantiate $other))
            (instance $one (instantiate $one (with "take" (func $other "take"))))
            (export "run" (func $one "run")))"#;
        stopped_anywhere(&engine, &text.replace("ENCODING", encoding)).await;
    }
}

async fn stopped_anywhere(engine: &Engine, text: &str) {
    const TIMES: u64 = 4_000;
    let component = Component::new(engine, wat::parse_str(text).unwrap()).unwrap();
    let code = Code::of(&component);
    let mut linker = Linker::new(engine);
    linker
        .root()
        .func_wrap("host", |_, (text,): (String,)| {
            assert_eq!(text.len(), 3);
            Ok(())
        })
        .unwrap();
    let seat = SEAT.with(|seat| Arc::clone(&seat.0));
    let over = Arc::new(AtomicBool::new(false));
    let interrupting = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut pauses = (5_000..15_000_u64).cycle().step_by(7_919);
            while !over.load(Ordering::Relaxed) {
                seat.thread.interrupt();
                // With none between them, the guest would not come on at all.
                let pause = pauses.next().map_or(Duration::ZERO, Duration::from_nanos);
                let began = Instant::now();
                while began.elapsed() < pause {}
            }
        }
    });
    for turn in 0..TIMES {
        let mut store = Store::new(engine, ());
        store.set_fuel(u64::MAX).unwrap();
        let guest = linker.instantiate_async(&mut store, &component).await;
        let guest = guest.unwrap();
        let guest = guest.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        let mut called = pin!(guest.call_async(&mut store, ()));
        let (result, stop) = poll_fn(|context| {
            let now = Instant::now();
            // Up to a quarter of a millisecond.
            let time = Duration::from_nanos(turn * 7_919 % 250_000);
            let poll = || called.as_mut().poll(context);
            let (polled, stop) = preemptible(&code, now, until(now + time, None), poll);
            polled.map(|result| (result, stop))
        })
        .await;
        assert_eq!(stop, Some(Stop::TimeIsUp));
        let error = result.unwrap_err();
        assert!(error.is::<wasmtime::Trap>(), "{error:?}");
    }
    over.store(true, Ordering::Relaxed);
    interrupting.join().unwrap();
}
