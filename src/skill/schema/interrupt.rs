//! Stopping a check that has begun.
//!
//! The library cannot be interrupted. But it calls whoever has a keyword of their own: so each subschema is given one that
//! is always fulfilled, and that leaves the check by unwinding once it is to end. Where a program is built to abort on
//! panics, a check goes on to its end, which the schema's own bounds set.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jsonschema::{Keyword, ValidationError};
use serde_json::Value;

/// What each subschema is given. A skill's own schema may have it, too, to no effect.
pub(super) const KEYWORD: &str = "skillhost:interrupt";
/// It looks whether it is to end once in so many calls: a call takes some 20 ns to 3 µs.
const LOOK: u32 = 64;

/// Until when a check may go on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Until {
    pub moment: Option<Instant>,
    /// Whether somebody else has said that it is to end.
    pub stopped: Arc<AtomicBool>,
}

impl Until {
    fn is_over(&self) -> bool {
        let is_late = |moment: Instant| moment <= Instant::now();
        self.stopped.load(Ordering::Relaxed) || self.moment.is_some_and(is_late)
    }
}

/// A check was left before its end, as its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted;

/// Why a check is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Interrupted,
    /// A text is too long to be matched.
    TooLong,
}

struct Running {
    until: Until,
    calls: u32,
}

thread_local! {
    /// Of the check on this thread, where it may be interrupted.
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// Runs a check, and leaves it when its time is over.
pub(super) fn until<T>(until: &Until, check: impl FnOnce() -> T) -> Result<T, Left> {
    let running = Running {
        until: until.clone(),
        calls: 0,
    };
    let before = RUNNING.replace(Some(running));
    // The validator is only read, and whatever else the check made is dropped by leaving it.
    let checked = catch_unwind(AssertUnwindSafe(check));
    RUNNING.set(before);
    checked.map_err(|why| match why.downcast::<Left>() {
        Ok(left) => *left,
        Err(panic) => resume_unwind(panic),
    })
}

/// Called again and again by whatever takes long.
pub(super) fn look() {
    let is_over = RUNNING.with_borrow_mut(|running| {
        running.as_mut().is_some_and(|running| {
            running.calls = running.calls.wrapping_add(1);
            running.calls.is_multiple_of(LOOK) && running.until.is_over()
        })
    });
    if is_over && cfg!(panic = "unwind") {
        resume_unwind(Box::new(Left::Interrupted));
    }
}

/// Leaves the check, as it cannot be said whether a text that is so long matches; or says that it does not, where a check
/// cannot be left.
pub(super) fn too_long() -> bool {
    match cfg!(panic = "unwind") {
        true => resume_unwind(Box::new(Left::TooLong)),
        false => false,
    }
}

/// The keyword.
pub(super) struct Look;

impl<'i> Keyword<'i> for Look {
    fn validate(&self, _: &'i Value) -> Result<(), ValidationError<'i>> {
        look();
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        look();
        true
    }
}
