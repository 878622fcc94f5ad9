//! Guests that talk without end before their tool is called: in a start function, and when they are asked
//! what they are.

use std::sync::Arc;

use skillhost::{Host, LimitOverrides, Limits};

use crate::attack::{Attack, End, NONE, runtime};
use crate::handmade::Handmade;
use crate::load::Load;
use crate::measure::{Held, alone};
use crate::volume::heard;

/// What the guest says, each time.
const SAID: &str = "0123456789";
const TIMES: u64 = 12_000;

/// A skill that can talk in every way: `$log` as before, and with a pointer to what is said and its length
/// `$report`, `$print` and `$print_error`. What is said stands in the text format.
pub fn that_talks(said: &str) -> Handmade {
    let calls = Handmade::that_calls();
    let memory = r#"(memory (export "memory") 128)"#;
    let said = format!(r#"{memory} (data (i32.const 0) "{said}")"#);
    let stream = |name: &str| {
        format!(
            r#"(import "wasi:cli/{name}@0.2.0" (instance ${name}
                (alias outer $skill $output-stream (type $o))
                (export "output-stream" (type $s (eq $o)))
                (export "get-{name}" (func (result (own $s))))))"#
        )
    };
    let lowered = |name: &str| {
        format!(r#"(core func $get-{name} (canon lower (func ${name} "get-{name}")))"#)
    };
    let host = [
        String::from(
            r#"(import "skillhost:skill/progress@1.0.0" (instance $progress
            (export "report" (func (param "percent" (option f64)) (param "step" string)
                (param "details" (option string))))))
        (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
        (alias export $io-error "error" (type $error-of-stream))
        (import "wasi:io/streams@0.2.0" (instance $streams
            (alias outer $skill $error-of-stream (type $e))
            (export "error" (type $error (eq $e)))
            (export "output-stream" (type $s (sub resource)))
            (type $se (variant (case "last-operation-failed" (own $error)) (case "closed")))
            (export "stream-error" (type $stream-error (eq $se)))
            (export "[method]output-stream.blocking-write-and-flush"
                (func (param "self" (borrow $s)) (param "contents" (list u8))
                    (result (result (error $stream-error)))))))
        (alias export $streams "output-stream" (type $output-stream))"#,
        ),
        stream("stdout"),
        stream("stderr"),
        calls.before.replace(memory, &said),
        String::from(
            r#"(core func $report (canon lower (func $progress "report")
            (memory (core memory $heap "memory"))))
        (core func $write (canon lower
            (func $streams "[method]output-stream.blocking-write-and-flush")
            (memory (core memory $heap "memory"))))"#,
        ),
        lowered("stdout"),
        lowered("stderr"),
    ];
    Handmade {
        before: host.concat(),
        with: calls.with.replace(
            r#"(export "log" (func $log))"#,
            r#"(export "log" (func $log)) (export "report" (func $report))
            (export "write" (func $write)) (export "stdout" (func $get-stdout))
            (export "stderr" (func $get-stderr))"#,
        ),
        imports: calls.imports
            + r#"(import "host" "report"
                (func $report (param i32 f64 i32 i32 i32 i32 i32)))
            (import "host" "write" (func $write (param i32 i32 i32 i32)))
            (import "host" "stdout" (func $stdout (result i32)))
            (import "host" "stderr" (func $stderr (result i32)))"#,
        ..calls
    }
}

/// Code that says so many bytes, of which [`SAID`] are the first, so often in each way.
fn talking(times: u64, length: usize) -> String {
    format!(
        "(local $n i32) (local $out i32) (local $err i32)
        (local.set $out (call $stdout)) (local.set $err (call $stderr))
        (loop $more
            (call $log (i32.const 2) (i32.const 0) (i32.const {length}))
            (call $report (i32.const 0) (f64.const 0) (i32.const 0) (i32.const {length})
                (i32.const 0) (i32.const 0) (i32.const 0))
            (call $write (local.get $out) (i32.const 0) (i32.const {length}) (i32.const 1024))
            (call $write (local.get $err) (i32.const 0) (i32.const {length}) (i32.const 1024))
            (br_if $more (i32.lt_u
                (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {times}))))"
    )
}

fn in_start(times: u64) -> Handmade {
    Handmade {
        fields: format!(
            "(func $start {}) (start $start)",
            talking(times, SAID.len())
        ),
        ..that_talks(SAID)
    }
}

const LIMITS: LimitOverrides = LimitOverrides {
    stdout_bytes: Some(25),
    stderr_bytes: Some(7),
    log_bytes: Some(1000),
    progress_bytes: Some(500),
    ..NONE
};

/// Cut and counted as what is said later: of each 26 bytes of a record whole ones fit.
#[test]
fn in_a_start_function() {
    let _alone = alone();
    let (sum, hear) = heard();
    let result = Attack::by(in_start(TIMES))
        .under(LIMITS)
        .watched_by(Arc::new(hear))
        .ends_with(End::Success);
    assert_eq!(result.stdout, "0123456789012345678901234");
    assert_eq!(result.stderr, "0123456");
    let dropped = result.usage.dropped;
    let said = TIMES * SAID.len() as u64;
    assert_eq!(
        (dropped.stdout_bytes, dropped.stderr_bytes),
        (said - 25, said - 7)
    );
    let records = TIMES * (SAID.len() as u64 + 16);
    assert_eq!(
        (dropped.log_bytes, dropped.progress_bytes),
        (records - 38 * 26, records - 19 * 26)
    );
    assert_eq!(*sum.lock().expect("nobody panics here"), (38 + 19) * 26);
}

/// Nobody hears it, and it is held within the limits for what nobody asked for more: it loads, and leaves
/// nothing in what is run later.
#[test]
fn when_it_is_asked_what_it_is() {
    let _alone = alone();
    let skill = Handmade {
        describe: format!("{} i32.const $description", talking(TIMES, SAID.len())),
        ..that_talks(SAID)
    };
    let limits = Limits::default();
    let said = TIMES * SAID.len() as u64;
    assert!(said > limits.stdout_bytes.max(limits.stderr_bytes));
    assert!(said + 16 * TIMES > limits.log_bytes.max(limits.progress_bytes));
    // Without a cache it is asked each time.
    let host = Host::builder().concurrency(1).build().unwrap();
    Load::by(&skill).on(&host).succeeds();
    let (sum, hear) = heard();
    let result = Attack::by(skill)
        .under(LIMITS)
        .watched_by(Arc::new(hear))
        .ends_with(End::Success);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("", ""));
    assert_eq!(result.usage.dropped, Default::default());
    assert_eq!(*sum.lock().expect("nobody panics here"), 0);
}

/// 64 MiB in each way take no more of the host's memory than a word does.
#[test]
fn much_when_it_is_asked_what_it_is() {
    let _alone = alone();
    let skill = |times: u64| Handmade {
        describe: format!("{} i32.const $description", talking(times, 4096)),
        ..that_talks(SAID)
    };
    let peak = |times: u64| {
        let component = skill(times).build();
        let host = Host::builder().concurrency(1).build().unwrap();
        let before = Held::now();
        runtime()
            .block_on(host.load_bytes(component))
            .expect("it loads");
        before.heap_peak()
    };
    // What is set up once, is set up now.
    peak(1);
    let (little, much) = (peak(1), peak(16 << 10));
    assert!(
        much < little + (8 << 20),
        "{much} bytes on the heap, and {little} for little"
    );
    Load::by(&skill(16 << 10)).succeeds();
}
