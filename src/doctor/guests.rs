//! What the hostile guests have in common: ways to call the host, and to answer with a number.

use std::fmt::Write as _;

use super::handmade::{Answer, Handmade};

/// The number that the request carries, for the guest to go by.
pub(super) const NUMBER: &str = "(local.get 8)";

/// Runs `code` as many times as the request's number says. Local 9 counts them.
pub(super) fn times(code: &str) -> String {
    format!(
        "(local $n i32)
        (loop $more
            (if (i32.lt_u (local.get $n) {NUMBER}) (then
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                {code}
                (br $more))))
        i32.const $answer"
    )
}

/// A memory that guest and host share, and room in it for what the host answers: from 256 KiB on,
/// never taken back. What is below is the guest's.
const SHARED: &str = r#"
    (core module $heap
        (memory (export "memory") 8)
        (global $at (mut i32) (i32.const 262144))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (local $place i32)
            (local.set $place (i32.and (i32.add (global.get $at) (i32.const 7)) (i32.const -8)))
            (global.set $at (i32.add (local.get $place) (local.get 3)))
            (local.get $place)))
    (core instance $heap (instantiate $heap))
    (alias core export $heap "memory" (core memory $memory))
    (alias core export $heap "realloc" (core func $realloc))"#;

/// A function of the host as the guest's core module sees it: its name, and its type.
pub(super) type Lowered<'a> = (&'a str, &'a str);

/// A guest that can call the host. `before` imports the interfaces and lowers `functions` with the
/// memory `$memory` and the function `$realloc`.
pub(super) fn calling(before: &str, functions: &[Lowered<'_>]) -> Handmade {
    let mut with = String::from(r#"(export "memory" (memory $memory))"#);
    let mut imports = String::from(r#"(import "host" "memory" (memory 8))"#);
    for (name, kind) in functions {
        let _ = write!(with, r#" (export "{name}" (func ${name}))"#);
        let _ = write!(
            imports,
            r#" (import "host" "{name}" (func ${name} {kind}))"#
        );
    }
    Handmade {
        before: format!("{SHARED}{before}"),
        with: format!(r#"(with "host" (instance {with}))"#),
        imports,
        memory: r#"(export "memory" (memory 0))"#.into(),
        ..Handmade::default()
    }
}

/// A guest that calls functions of the host, and answers with a number from 0 to 99: its code
/// leaves it, and [`number()`] reads it. What the code needs is in `$digits`.
pub(super) fn answering(guest: Handmade, code: &str) -> Handmade {
    Handmade {
        execute: format!(
            "(local $code i32) (local $at i32) (local $a i32) (local $b i32)
            {code}
            (local.set $code)
            (local.set $at (i32.load offset=8 (i32.const $answer)))
            (i32.store8 offset=9 (local.get $at)
                (i32.add (i32.const 48) (i32.div_u (local.get $code) (i32.const 10))))
            (i32.store8 offset=10 (local.get $at)
                (i32.add (i32.const 48) (i32.rem_u (local.get $code) (i32.const 10))))
            i32.const $answer"
        ),
        answer: Answer {
            json: br#"{"code":100}"#.into(),
            ..guest.answer
        },
        ..guest
    }
}

/// The number that a guest [`answering`] left.
pub(super) fn number(result: &crate::ExecutionResult) -> Option<u64> {
    result
        .output
        .as_ref()?
        .get("code")?
        .as_u64()?
        .checked_sub(100)
}

/// Clocks, and the logs.
pub(super) fn log() -> Handmade {
    calling(
        r#"
        (import "skillhost:skill/logging@1.0.0" (instance $logging
            (type $l (enum "trace" "debug" "info" "warn" "error"))
            (export "level" (type $level (eq $l)))
            (export "log" (func (param "level" $level) (param "message" string)))))
        (core func $log (canon lower (func $logging "log") (memory $memory)))"#,
        &[("log", "(param i32 i32 i32)")],
    )
}

/// Progress reports.
pub(super) fn progress() -> Handmade {
    calling(
        r#"
        (import "skillhost:skill/progress@1.0.0" (instance $progress
            (export "report" (func (param "percent" (option f64)) (param "step" string)
                (param "details" (option string))))))
        (core func $report (canon lower (func $progress "report") (memory $memory)))"#,
        &[("report", "(param i32 f64 i32 i32 i32 i32 i32)")],
    )
}

/// Standard output or standard error, as `$stream` (which opens it) and `$write` (of a stream, a
/// pointer and a length; the outcome goes to an address).
pub(super) fn stream(which: &str) -> Handmade {
    calling(
        &format!(
            r#"
        (import "wasi:io/error@0.2.0" (instance $io (export "error" (type $e (sub resource)))))
        (alias export $io "error" (type $io-error))
        (import "wasi:io/streams@0.2.0" (instance $streams
            (alias outer $skill $io-error (type $a))
            (export "error" (type $e (eq $a)))
            (export "output-stream" (type $o (sub resource)))
            (type $f (variant (case "last-operation-failed" (own $e)) (case "closed")))
            (export "stream-error" (type $failed (eq $f)))
            (export "[method]output-stream.blocking-write-and-flush" (func
                (param "self" (borrow $o)) (param "contents" (list u8))
                (result (result (error $failed)))))))
        (alias export $streams "output-stream" (type $output-stream))
        (import "wasi:cli/{which}@0.2.0" (instance $cli
            (alias outer $skill $output-stream (type $a))
            (export "output-stream" (type $o (eq $a)))
            (export "get-{which}" (func (result (own $o))))))
        (core func $stream (canon lower (func $cli "get-{which}")))
        (core func $write (canon lower
            (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))"#
        ),
        &[
            ("stream", "(result i32)"),
            ("write", "(param i32 i32 i32 i32)"),
        ],
    )
}

/// Directories: `$directories` (the list goes to an address), `$open`, `$read`, `$put`, `$unlink`,
/// `$symlink`, `$link` and `$rename`, each with the address of the outcome last.
pub(super) fn files() -> Handmade {
    calling(
        r#"
        (import "wasi:filesystem/types@0.2.0" (instance $types
            (export "descriptor" (type $d (sub resource)))
            (type $a (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock"
                "quota" "exist" "file-too-large" "illegal-byte-sequence" "in-progress"
                "interrupted" "invalid" "io" "is-directory" "loop" "too-many-links"
                "message-size" "name-too-long" "no-device" "no-entry" "no-lock"
                "insufficient-memory" "insufficient-space" "not-directory" "not-empty"
                "not-recoverable" "unsupported" "no-tty" "no-such-device" "overflow"
                "not-permitted" "pipe" "read-only" "invalid-seek" "text-file-busy"
                "cross-device"))
            (export "error-code" (type $error (eq $a)))
            (type $b (flags "symlink-follow"))
            (export "path-flags" (type $path-flags (eq $b)))
            (type $c (flags "create" "directory" "exclusive" "truncate"))
            (export "open-flags" (type $open-flags (eq $c)))
            (type $f (flags "read" "write" "file-integrity-sync" "data-integrity-sync"
                "requested-write-sync" "mutate-directory"))
            (export "descriptor-flags" (type $descriptor-flags (eq $f)))
            (export "[method]descriptor.open-at" (func (param "self" (borrow $d))
                (param "path-flags" $path-flags) (param "path" string)
                (param "open-flags" $open-flags) (param "flags" $descriptor-flags)
                (result (result (own $d) (error $error)))))
            (export "[method]descriptor.read" (func (param "self" (borrow $d))
                (param "length" u64) (param "offset" u64)
                (result (result (tuple (list u8) bool) (error $error)))))
            (export "[method]descriptor.write" (func (param "self" (borrow $d))
                (param "buffer" (list u8)) (param "offset" u64)
                (result (result u64 (error $error)))))
            (export "[method]descriptor.unlink-file-at" (func (param "self" (borrow $d))
                (param "path" string) (result (result (error $error)))))
            (export "[method]descriptor.symlink-at" (func (param "self" (borrow $d))
                (param "old-path" string) (param "new-path" string)
                (result (result (error $error)))))
            (export "[method]descriptor.link-at" (func (param "self" (borrow $d))
                (param "old-path-flags" $path-flags) (param "old-path" string)
                (param "new-descriptor" (borrow $d)) (param "new-path" string)
                (result (result (error $error)))))
            (export "[method]descriptor.rename-at" (func (param "self" (borrow $d))
                (param "old-path" string) (param "new-descriptor" (borrow $d))
                (param "new-path" string) (result (result (error $error)))))))
        (alias export $types "descriptor" (type $descriptor))
        (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
            (alias outer $skill $descriptor (type $a))
            (export "descriptor" (type $d (eq $a)))
            (export "get-directories" (func (result (list (tuple (own $d) string)))))))
        (core func $directories (canon lower (func $preopens "get-directories")
            (memory $memory) (realloc $realloc)))
        (core func $open (canon lower (func $types "[method]descriptor.open-at")
            (memory $memory) (realloc $realloc)))
        (core func $read (canon lower (func $types "[method]descriptor.read")
            (memory $memory) (realloc $realloc)))
        (core func $put (canon lower (func $types "[method]descriptor.write")
            (memory $memory) (realloc $realloc)))
        (core func $unlink (canon lower (func $types "[method]descriptor.unlink-file-at")
            (memory $memory) (realloc $realloc)))
        (core func $symlink (canon lower (func $types "[method]descriptor.symlink-at")
            (memory $memory) (realloc $realloc)))
        (core func $link (canon lower (func $types "[method]descriptor.link-at")
            (memory $memory) (realloc $realloc)))
        (core func $rename (canon lower (func $types "[method]descriptor.rename-at")
            (memory $memory) (realloc $realloc)))"#,
        &[
            ("directories", "(param i32)"),
            ("open", "(param i32 i32 i32 i32 i32 i32 i32)"),
            ("read", "(param i32 i64 i64 i32)"),
            ("put", "(param i32 i32 i32 i64 i32)"),
            ("unlink", "(param i32 i32 i32 i32)"),
            ("symlink", "(param i32 i32 i32 i32 i32 i32)"),
            ("link", "(param i32 i32 i32 i32 i32 i32 i32 i32)"),
            ("rename", "(param i32 i32 i32 i32 i32 i32 i32)"),
        ],
    )
}

/// The error codes of `wasi:filesystem`, in their order there.
pub(super) const FILE_ERRORS: [&str; 37] = [
    "access",
    "would-block",
    "already",
    "bad-descriptor",
    "busy",
    "deadlock",
    "quota",
    "exist",
    "file-too-large",
    "illegal-byte-sequence",
    "in-progress",
    "interrupted",
    "invalid",
    "io",
    "is-directory",
    "loop",
    "too-many-links",
    "message-size",
    "name-too-long",
    "no-device",
    "no-entry",
    "no-lock",
    "insufficient-memory",
    "insufficient-space",
    "not-directory",
    "not-empty",
    "not-recoverable",
    "unsupported",
    "no-tty",
    "no-such-device",
    "overflow",
    "not-permitted",
    "pipe",
    "read-only",
    "invalid-seek",
    "text-file-busy",
    "cross-device",
];

/// All variables of the environment, as `$all`: the list goes to an address.
pub(super) fn environment() -> Handmade {
    calling(
        r#"
        (import "wasi:cli/environment@0.2.0" (instance $environment
            (export "get-environment" (func (result (list (tuple string string)))))))
        (core func $all (canon lower (func $environment "get-environment")
            (memory $memory) (realloc $realloc)))"#,
        &[("all", "(param i32)")],
    )
}

/// All keys of the configuration, as `$all`: the outcome goes to an address.
pub(super) fn config() -> Handmade {
    calling(
        r#"
        (import "wasi:config/store@0.2.0-rc.1" (instance $store
            (type $a (variant (case "upstream" string) (case "io" string)))
            (export "error" (type $error (eq $a)))
            (export "get-all" (func
                (result (result (list (tuple string string)) (error $error)))))))
        (core func $all (canon lower (func $store "get-all")
            (memory $memory) (realloc $realloc)))"#,
        &[("all", "(param i32)")],
    )
}
