//! What stopped a guest. Decided once, here, by type; where wasmtime offers only a text, by that,
//! and a test pins it.

use std::io;
use std::time::Duration;

use chrono::Utc;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::FieldMapError;

use crate::execution::{Cause, Failure, Frame, Phase, Rejection, TO_RUN};
use crate::limits::{Limit, Limits, display_bytes};
use crate::sandbox::capability::TooMany;
use crate::sandbox::contract::answer::TooManyAttachments;
use crate::sandbox::exhausted::limit_failure;
use crate::text::{first_line, named, printable, shortened};

/// A stop of our own: travels through wasmtime as the error of a host function or limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    #[error("the {limit} limit of {allowed} was met")]
    Limit {
        limit: Limit,
        allowed: u64,
        requested: Option<u64>,
    },
    #[error("the time is up")]
    TimeIsUp,
    #[error("cancelled")]
    Cancelled,
    /// Growth within the limits that the engine could not make, of a guest that must not see that.
    #[error("there is no memory for it at the moment")]
    NoMemory,
    #[error("a host function panicked")]
    Panicked,
    /// It computed for long without coming to a place where it can be stopped (`preempt.rs`).
    #[error("it did not yield")]
    DidNotYield {
        /// For how long.
        kept: Duration,
    },
}

/// After which time it may be that others have given back what the host has no more of.
const EXHAUSTED: Duration = Duration::from_secs(5);
/// The frames that are kept of a backtrace.
const MAX_FRAMES: usize = 32;
/// The bytes that are kept of a name in it.
const MAX_NAME: usize = 200;
/// The bytes that are kept of each reason that wasmtime gives.
const MAX_REASON: usize = 500;

/// Where the guest was when it stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub phase: Phase,
    pub limits: &'a Limits,
    /// Whether the wall time or the request's own deadline comes first.
    pub time_limit: Limit,
}

pub(super) fn failure(error: &wasmtime::Error, circumstances: Circumstances<'_>) -> Failure {
    let backtrace = || {
        error
            .downcast_ref::<WasmBacktrace>()
            .map(frames)
            .unwrap_or_default()
    };
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return stopped(*stop, circumstances, backtrace());
    }
    if let Some(limit) = met_limit(error) {
        let allowed = circumstances.limits.get(limit);
        return stopped(
            Stop::Limit {
                limit,
                allowed,
                requested: None,
            },
            circumstances,
            backtrace(),
        );
    }
    if circumstances.phase == Phase::Instantiation && is_out_of_memory(error) {
        return no_memory(&format!(
            "there is no memory for it at the moment: {}",
            reasons(error)
        ));
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        // WASI passes on whether it went well, and no number.
        let message = match exit.0 {
            0 => "the skill exited instead of answering",
            _ => "the skill exited with a failure instead of answering",
        };
        return Failure::new(
            Cause::Trap {
                trap: "exit".into(),
                backtrace: backtrace(),
            },
            message,
        );
    }
    let backtrace = backtrace();
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let text = trap.to_string();
        let text = text.strip_prefix("wasm trap: ").unwrap_or(&text);
        let place = match backtrace.iter().find(|frame| !is_plumbing(frame)) {
            Some(frame) => format!(" in `{}`", named(&frame.function, MAX_FUNCTION)),
            None => String::new(),
        };
        let during = match circumstances.phase {
            Phase::Instantiation => " during instantiation",
            _ => "",
        };
        let failure = Failure::new(
            Cause::Trap {
                trap: trap_name(*trap),
                backtrace,
            },
            format!("the skill trapped{during}: {text}{place}"),
        );
        return match trap {
            Trap::UnreachableCodeReached => failure
                .hint("a panic ends like this: what it said stands in the skill's standard error"),
            Trap::MemoryOutOfBounds if is_below_memory(error) => match deepest(&failure) {
                Some(hint) => failure.hint(hint),
                None => failure,
            },
            _ => failure,
        };
    }
    Failure::new(
        Cause::Trap {
            trap: "contract_violation".into(),
            backtrace,
        },
        format!(
            "the skill broke the rules of the component model: {}",
            reasons(error)
        ),
    )
}

/// What wasmtime says. Without the backtrace, which stands beside it. wasmtime shows it by names that are the guest's,
/// and takes them apart at any length: it must not begin with them, which stand in further lines.
fn reasons(error: &wasmtime::Error) -> String {
    let reasons: Vec<String> = error
        .chain()
        .map(|reason| first_line(&reason, MAX_REASON))
        .filter(|reason| reason != "error while executing at wasm backtrace:")
        .collect();
    shortened(&printable(&reasons.join(": "), false), 500).into_owned()
}

/// Whether the system has no more memory, or no more addresses, for an instance.
fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.chain().any(|reason| {
        let error = match reason.downcast_ref::<Errno>() {
            Some(code) => io::Error::from(*code),
            None => match reason.downcast_ref::<io::Error>() {
                Some(error) => error.kind().into(),
                None => return false,
            },
        };
        error.kind() == io::ErrorKind::OutOfMemory
    })
}

/// The failure of an execution that the host cannot begin, as it has no more of something for now. No reason for the
/// host to stop: others, which need less, may go on.
pub(super) fn exhausted(why: &str) -> Failure {
    tracing::warn!("an execution cannot be begun: {why}");
    let cause = Cause::Rejected {
        reason: Rejection::Exhausted,
        retry_at: Some(Utc::now() + EXHAUSTED),
    };
    Failure::new(cause, format!("not admitted: {why}"))
        .hint("try again in a moment: others hold it now")
}

/// The same of memory, which nobody may hold but a limit on the process's addresses keep from it.
fn no_memory(why: &str) -> Failure {
    let failure = exhausted(why);
    match getrlimit(Resource::As).current {
        Some(limit) => failure.hint(format!(
            "the address space is limited to {}: lift the limit with `ulimit -v unlimited`",
            display_bytes(limit)
        )),
        None => failure,
    }
}

/// The failure for attachments that could not be taken over.
pub(super) fn attachments(error: &wasmtime::Error, limits: &Limits) -> Failure {
    if let Some(too_many) = error.downcast_ref::<TooManyAttachments>() {
        let cause = Cause::InvalidOutput {
            pointer: String::new(),
        };
        return Failure::new(cause, too_many.to_string());
    }
    let limit = match met_limit(error) {
        // As far as the engine tells, it was the answer.
        Some(Limit::Output) => Some(Limit::Attachments),
        other => other,
    };
    let circumstances = Circumstances {
        phase: Phase::Run,
        limits,
        time_limit: Limit::WallTime,
    };
    match limit {
        Some(limit) => limit_failure(limit, limits.get(limit), None, Vec::new(), Phase::Run),
        None => failure(error, circumstances),
    }
}

/// The failure for a stop of our own.
pub(super) fn stopped(
    stop: Stop,
    circumstances: Circumstances<'_>,
    backtrace: Vec<Frame>,
) -> Failure {
    let phase = circumstances.phase;
    match stop {
        Stop::Limit {
            limit,
            allowed,
            requested,
        } => limit_failure(limit, allowed, requested, backtrace, phase),
        Stop::TimeIsUp => timeout(circumstances.time_limit, circumstances.limits, phase),
        Stop::Cancelled => cancelled(phase),
        Stop::NoMemory => no_memory(&stop.to_string()),
        Stop::Panicked => Failure::new(
            Cause::HostPanic,
            "code of the host panicked while it served this skill; other executions go on",
        )
        .hint("this is a fault of the host: please report it with the host's log"),
        Stop::DidNotYield { kept } => Failure::new(
            Cause::Trap {
                trap: "did_not_yield".into(),
                backtrace,
            },
            format!(
                "the skill computed for {} without coming to a place where others get their turn: code that compilers \
                 make comes to one within some milliseconds",
                humantime::format_duration(kept)
            ),
        )
        .hint("on a machine that has much else to do, to try again may help"),
    }
}

fn during(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => TO_RUN,
        Phase::Instantiation => "while the skill was being instantiated",
        Phase::Run => "while the skill ran",
    }
}

pub(super) fn cancelled(phase: Phase) -> Failure {
    let during = during(phase);
    Failure::new(Cause::Cancelled { phase }, format!("cancelled {during}"))
}

pub(super) fn timeout(limit: Limit, limits: &Limits, phase: Phase) -> Failure {
    timeout_during(limit, limits, phase, during(phase))
}

/// The failure of what took too long; `during` says what that was, such as `while the skill ran`.
pub(super) fn timeout_during(limit: Limit, limits: &Limits, phase: Phase, during: &str) -> Failure {
    let allowed = limits.get(limit);
    let cause = Cause::Timeout {
        limit,
        allowed,
        phase,
    };
    match limit {
        Limit::Deadline => Failure::new(cause, format!("the request's deadline passed {during}")),
        _ => Failure::new(
            cause,
            format!(
                "the wall time of {} was up {during}",
                limit.display(allowed)
            ),
        )
        .hint("give it more time, or less to do"),
    }
}

/// A limit that wasmtime itself watches over.
fn met_limit(error: &wasmtime::Error) -> Option<Limit> {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return Some(Limit::Fuel),
        Some(Trap::StackOverflow) => return Some(Limit::Stack),
        _ => {}
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return Some(Limit::Handles);
    }
    if let Some(FieldMapError::TotalSizeTooBig | FieldMapError::TooManyFields) =
        error.downcast_ref::<FieldMapError>()
    {
        return Some(Limit::HttpFieldsBytes);
    }
    if error.is::<TooMany>() {
        return Some(Limit::HostBytes);
    }
    // wasmtime 48 says these in words only; `tests` pins each of them with a guest.
    // Only of the innermost: what stands around it names the guest's functions.
    let text = first_line(error.root_cause(), MAX_REASON);
    if text.contains("fuel allocated for hostcalls has been exhausted") {
        // Without frames of the guest: it had returned, and its answer was being read.
        return Some(if error.is::<WasmBacktrace>() {
            Limit::HostBytes
        } else {
            Limit::Output
        });
    }
    if text.contains("store handle limit exceeded") {
        return Some(Limit::Handles);
    }
    if text.contains("resource limit exceeded: ") {
        return Some(Limit::Instances);
    }
    None
}

fn frames(backtrace: &WasmBacktrace) -> Vec<Frame> {
    backtrace
        .frames()
        .iter()
        .take(MAX_FRAMES)
        .map(|frame| {
            let function = match frame.func_name() {
                Some(name) => demangled(name),
                None => format!("wasm-function[{}]", frame.func_index()),
            };
            Frame {
                function: readable(&function),
                module: frame.module().name().map(readable),
                offset: frame.module_offset().map(|offset| offset as u64),
            }
        })
        .collect()
}

fn readable(name: &str) -> String {
    // Shortened first, as escapes are longer than what they stand for.
    let name = shortened(name, MAX_NAME);
    shortened(&printable(&name, false), 2 * MAX_NAME).into_owned()
}

/// A symbol as its author wrote it. A hostile name can be long and deep, and stand for one that is far
/// longer, so only a short one is looked at, and only its beginning is made.
fn demangled(name: &str) -> String {
    if name.len() > 1_000 {
        return shortened(name, MAX_NAME).into_owned();
    }
    first_line(&rustc_demangle::demangle(name), MAX_NAME)
}

/// Frames of the standard library's way to a trap: of no interest to who reads the message.
fn is_plumbing(frame: &Frame) -> bool {
    const PREFIXES: [&str; 9] = [
        "core::panicking::",
        "core::option::",
        "core::result::",
        "std::panicking::",
        "std::process::",
        "std::sys::",
        "__rustc::",
        "abort",
        "rust_panic",
    ];
    PREFIXES
        .iter()
        .any(|prefix| frame.function.starts_with(prefix))
        || frame.function.contains("rust_begin_unwind")
        || frame.function.contains("__rust_start_panic")
}

/// Whether it reached for memory just below its beginning. wasmtime 48 says the address in words only;
/// `tests` pins them.
fn is_below_memory(error: &wasmtime::Error) -> bool {
    /// Addresses of 32 bits that are less than 0, by no more than a large frame.
    const BELOW: std::ops::Range<u64> = (4 << 30) - (16 << 20)..4 << 30;
    let mut addresses = error.chain().filter_map(|reason| {
        let text = first_line(&reason, MAX_REASON);
        let digits = text.strip_prefix("memory fault at wasm address 0x")?;
        u64::from_str_radix(digits.split(' ').next()?, 16).ok()
    });
    addresses.any(|address| BELOW.contains(&address))
}

/// The longest name of a function that is shown in a sentence, in bytes.
const MAX_FUNCTION: usize = 1_000;

/// What to look at where a function is in the backtrace again and again, and memory was reached for
/// where the stack ends that a compiler keeps in it. Whether it was that stack nobody tells.
fn deepest(failure: &Failure) -> Option<String> {
    let Cause::Trap { backtrace, .. } = &failure.cause else {
        return None;
    };
    let times = |function: &str| {
        let same = backtrace.iter().filter(|frame| frame.function == function);
        same.count()
    };
    let most = backtrace
        .iter()
        .max_by_key(|frame| times(&frame.function))?;
    let times = times(&most.function);
    (times > 2).then(|| {
        format!(
            "it reached below the beginning of its memory, with `{}` {times} times in the backtrace: it may \
             have called itself too deep for the stack that it keeps there (in Rust 1 MiB, unless it is \
             linked with another `-z stack-size`)",
            named(&most.function, MAX_FUNCTION)
        )
    })
}

fn trap_name(trap: Trap) -> String {
    // The Debug form is the variant's name: `UnreachableCodeReached` becomes
    // `unreachable_code_reached`.
    let mut name = String::new();
    for (index, c) in format!("{trap:?}").chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traps_have_names_in_snake_case() {
        assert_eq!(
            trap_name(Trap::UnreachableCodeReached),
            "unreachable_code_reached"
        );
        assert_eq!(
            trap_name(Trap::IntegerDivisionByZero),
            "integer_division_by_zero"
        );
    }
}
