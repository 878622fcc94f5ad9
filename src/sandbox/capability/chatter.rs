//! Logging, progress and token accounting: what a guest says while it runs. Past its limit it is
//! dropped and counted, and the run goes on.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use uuid::Uuid;

use crate::execution::{Event, Level, Observer, Progress};
use crate::limits::Limits;
use crate::sandbox::contract::bindings::skillhost::skill::{logging, progress, tokens};
use crate::sandbox::state::State;
use crate::secret::Held;
use crate::usage::Tokens;

/// What each record counts for beside its text, so that empty ones are not free.
const RECORD_BYTES: u64 = 16;

/// Who hears what one execution says, and how much of it.
pub(in crate::sandbox) struct Chatter {
    listeners: Listeners,
    log: Budget,
    progress: Budget,
    tokens: Tokens,
    /// What must not be passed on, where there is anything.
    secrets: Option<Arc<Held>>,
}

/// The observers of one execution.
#[derive(Clone)]
pub(in crate::sandbox) struct Listeners {
    pub request_id: Uuid,
    /// The host's own, and the request's own.
    pub observers: [Option<Arc<dyn Observer>>; 2],
}

impl Listeners {
    /// Tells them what the host does. An observer that panics does not keep the others from hearing
    /// of it, nor the host from going on: the end of an execution is told while it is dropped, and
    /// a panic there would end the process.
    pub fn tell(&self, event: &Event<'_>) {
        for observer in self.observers.iter().flatten() {
            let heard = catch_unwind(AssertUnwindSafe(|| {
                observer.observe(self.request_id, event);
            }));
            if heard.is_err() {
                tracing::error!(request_id = %self.request_id, "an observer panicked");
            }
        }
    }

    /// Tells all of them of something that is about to happen, and gives whether it may. One that panics
    /// has not said so.
    pub fn ask(&self, event: &Event<'_>) -> bool {
        let mut may = true;
        for observer in self.observers.iter().flatten() {
            let said = catch_unwind(AssertUnwindSafe(|| observer.admits(self.request_id, event)));
            if said.is_err() {
                tracing::error!(request_id = %self.request_id, "an observer panicked");
            }
            may &= said.unwrap_or(false);
        }
        may
    }

    /// Tells them what the guest says. A panic goes on from here: it was made by what the guest
    /// said, and ends its execution (see `Interruptible`).
    fn pass_on(&self, event: &Event<'_>) {
        for observer in self.observers.iter().flatten() {
            observer.observe(self.request_id, event);
        }
    }
}

struct Budget {
    left: u64,
    dropped: u64,
}

impl Budget {
    fn new(allowed: u64) -> Self {
        Budget {
            left: allowed,
            dropped: 0,
        }
    }

    fn spend(&mut self, text_bytes: usize) -> bool {
        let bytes = text_bytes as u64 + RECORD_BYTES;
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                // What is over stays over: a shorter record that comes later does not slip through.
                self.left = 0;
                self.dropped = self.dropped.saturating_add(bytes);
                false
            }
        }
    }
}

impl Chatter {
    pub fn new(listeners: Listeners, limits: &Limits) -> Self {
        Chatter {
            listeners,
            log: Budget::new(limits.log_bytes),
            progress: Budget::new(limits.progress_bytes),
            tokens: Tokens::default(),
            secrets: None,
        }
    }

    /// Takes these secrets out of what is passed on.
    pub fn scrub(&mut self, secrets: &Arc<Held>) {
        self.secrets = Some(Arc::clone(secrets));
    }

    /// A text as it may be passed on.
    fn clean(&self, mut text: String) -> String {
        if let Some(secrets) = &self.secrets {
            secrets.scrubber.text(&mut text);
        }
        text
    }

    /// Nobody listens.
    pub fn unheard() -> Self {
        Chatter {
            listeners: Listeners {
                request_id: Uuid::nil(),
                observers: [None, None],
            },
            log: Budget::new(0),
            progress: Budget::new(0),
            tokens: Tokens::default(),
            secrets: None,
        }
    }

    /// Who hears it.
    pub fn listeners(&self) -> Listeners {
        self.listeners.clone()
    }

    /// Bytes of log records that were dropped.
    pub fn dropped_log_bytes(&self) -> u64 {
        self.log.dropped
    }

    /// Bytes of progress reports that were dropped.
    pub fn dropped_progress_bytes(&self) -> u64 {
        self.progress.dropped
    }

    /// Tokens that the guest has accounted for.
    pub fn tokens(&self) -> Tokens {
        self.tokens
    }
}

impl logging::Host for State {
    fn log(&mut self, level: logging::Level, message: String) {
        let chatter = &mut self.chatter;
        if !chatter.log.spend(message.len()) {
            return;
        }
        let level = match level {
            logging::Level::Trace => Level::Trace,
            logging::Level::Debug => Level::Debug,
            logging::Level::Info => Level::Info,
            logging::Level::Warn => Level::Warn,
            logging::Level::Error => Level::Error,
        };
        chatter.listeners.pass_on(&Event::Log {
            level,
            message: Cow::Owned(chatter.clean(message)),
        });
    }
}

impl progress::Host for State {
    fn report(&mut self, percent: Option<f64>, step: String, details: Option<String>) {
        let bytes = step.len() + details.as_ref().map_or(0, String::len);
        let chatter = &mut self.chatter;
        if !chatter.progress.spend(bytes) {
            return;
        }
        // A percentage is a claim of the guest's like any other: NaN is none, the rest is clamped.
        let percent = percent
            .filter(|percent| !percent.is_nan())
            .map(|p| p.clamp(0.0, 100.0));
        chatter.listeners.pass_on(&Event::Progress(Progress {
            percent,
            step: Cow::Owned(chatter.clean(step)),
            details: details.map(|details| Cow::Owned(chatter.clean(details))),
        }));
    }
}

impl tokens::Host for State {
    fn add(&mut self, input: u64, output: u64) {
        let tokens = &mut self.chatter.tokens;
        tokens.input = tokens.input.saturating_add(input);
        tokens.output = tokens.output.saturating_add(output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_stays_over() {
        let mut budget = Budget::new(40);
        assert!(budget.spend(10));
        assert!(!budget.spend(10));
        assert!(!budget.spend(0));
        assert_eq!(budget.dropped, 26 + 16);
    }
}
