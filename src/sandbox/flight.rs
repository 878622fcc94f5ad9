//! What one execution has used so far, and who hears of its end.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use uuid::Uuid;
use wasmtime::Store;

use super::capability::{Listeners, Removal};
use super::classify;
use super::state::State;
use crate::execution::{Event, Failure, Observer, Phase, Status, moment};
use crate::grant::{Denial, Sought};
use crate::limits::{Limit, Limits};
use crate::secret::Held;
use crate::usage::{DroppedBytes, ResourceUsage};

/// An execution on its way. However it ends, also when it is dropped, its observers hear of the
/// end, with the usage up to there.
pub(crate) struct Flight {
    pub(super) listeners: Listeners,
    pub limits: Limits,
    pub(super) deadline: Option<Instant>,
    pub usage: ResourceUsage,
    /// What was refused to the guest while it ran.
    pub denials: Vec<Denial>,
    /// What the guest looked for, whether or not it was there.
    pub sought: Sought,
    pub(super) phase: Phase,
    /// What the guest wrote to standard output.
    pub stdout: String,
    /// What the guest wrote to standard error.
    pub stderr: String,
    pub(super) store: Option<Store<State>>,
    /// To be removed once the store is gone.
    pub(super) scratch: Option<Removal>,
    /// What must not stand in whatever the guest says, where there is anything.
    pub(crate) secrets: Option<Arc<Held>>,
    /// Since when it waits for what it needs to begin.
    waiting: Option<Instant>,
    pub(super) started: Option<Instant>,
    /// When the guest was started, where it was: also once it has ended.
    pub(super) began: Option<Instant>,
    /// Whether something is done about its answer.
    pub(super) answers: bool,
    pub(super) instantiated: Option<Instant>,
    finished: bool,
}

impl Flight {
    pub fn new(
        request_id: Uuid,
        observers: [Option<Arc<dyn Observer>>; 2],
        limits: Limits,
        deadline: Option<DateTime<Utc>>,
    ) -> Self {
        Flight {
            listeners: Listeners {
                request_id,
                observers,
            },
            deadline: deadline.map(|deadline| moment(deadline).into_std()),
            usage: ResourceUsage::default(),
            denials: Vec::new(),
            sought: Sought::default(),
            phase: Phase::Waiting,
            stdout: String::new(),
            stderr: String::new(),
            limits,
            store: None,
            scratch: None,
            secrets: None,
            waiting: None,
            started: None,
            began: None,
            answers: false,
            instantiated: None,
            finished: false,
        }
    }

    pub fn tell(&self, event: &Event<'_>) {
        self.listeners.tell(event);
    }

    /// The end: tells the observers.
    pub fn finish(&mut self, failure: Option<&Failure>) -> Status {
        let status = failure.map_or(Status::Success, Failure::status);
        self.finished = true;
        self.tell(&Event::Finished {
            status,
            failure,
            usage: &self.usage,
        });
        status
    }

    /// From here on it waits for what it needs to begin.
    pub(super) fn waits(&mut self) {
        self.waiting = Some(Instant::now());
    }

    /// It waits no longer.
    pub(super) fn waited(&mut self) {
        if let Some(since) = self.waiting.take() {
            self.usage.waiting_time += since.elapsed();
        }
    }

    /// Reads the meters of the store of a guest that ended then, and drops it.
    pub(super) fn land(&mut self, ended: Instant) {
        let Some(started) = self.started.take() else {
            return;
        };
        self.usage.wall_time = ended.duration_since(started);
        let instantiated = self.instantiated.unwrap_or(ended);
        self.usage.instantiation_time = instantiated.duration_since(started);
        self.usage.run_time = ended.duration_since(instantiated);
        let Some(mut store) = self.store.take() else {
            return;
        };
        // Fuel is always configured, so reading it cannot fail.
        self.usage.fuel = self
            .limits
            .fuel
            .saturating_sub(store.get_fuel().unwrap_or(0));
        let state = store.data_mut();
        self.scratch = state.directories.take_scratch();
        self.usage.peak_memory_bytes = state.limiter.peak_memory_bytes();
        self.usage.host_calls = state.host_calls;
        self.usage.tokens = state.chatter.tokens();
        self.denials = state.network.take_refusals();
        self.sought = std::mem::take(state.network.sought());
        self.sought.full = state.directories.found_full();
        (self.usage.created_files, self.usage.write_bytes) = state.directories.used();
        let traffic = state.network.used();
        self.usage.connections = traffic.connections;
        self.usage.http_request_bytes = traffic.request_bytes;
        self.usage.http_response_bytes = traffic.response_bytes;
        self.usage.socket_sent_bytes = traffic.sent_bytes;
        self.usage.socket_read_bytes = traffic.received_bytes;
        let (mut stdout, mut stderr) = state.wasi.written();
        if let Some(secrets) = &self.secrets {
            for (text, dropped) in [&mut stdout, &mut stderr] {
                secrets.scrubber.text(text);
                if *dropped > 0 {
                    // It may have been cut within a value. How much more goes tells nobody whether it was.
                    *dropped += secrets.scrubber.cut(text) as u64;
                }
            }
        }
        self.usage.dropped = DroppedBytes {
            stdout_bytes: stdout.1,
            stderr_bytes: stderr.1,
            log_bytes: state.chatter.dropped_log_bytes(),
            progress_bytes: state.chatter.dropped_progress_bytes(),
        };
        (self.stdout, self.stderr) = (stdout.0, stderr.0);
    }

    /// What was done about the guest's answer until now is part of its run.
    pub(super) fn answered(&mut self) {
        let Some(began) = self.began.filter(|_| self.answers) else {
            return;
        };
        self.answers = false;
        let wall_time = began.elapsed();
        self.usage.run_time += wall_time.saturating_sub(self.usage.wall_time);
        self.usage.wall_time = wall_time;
    }

    /// Which comes first: the wall time, or the request's own deadline.
    pub(super) fn ends(&self, started: Instant) -> (Instant, Limit) {
        ends(&self.limits, self.deadline, started)
    }
}

/// When the time is up of what has started at a moment, and by which of the two.
fn ends(limits: &Limits, deadline: Option<Instant>, started: Instant) -> (Instant, Limit) {
    let wall = started + limits.wall_time;
    match deadline {
        Some(deadline) if deadline < wall => (deadline, Limit::Deadline),
        _ => (wall, Limit::WallTime),
    }
}

/// The same of what begins now, and is no execution.
pub(crate) fn ends_from_now(limits: &Limits, deadline: Option<DateTime<Utc>>) -> (Instant, Limit) {
    let deadline = deadline.map(|deadline| moment(deadline).into_std());
    ends(limits, deadline, Instant::now())
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let phase = self.phase;
        self.waited();
        self.land(Instant::now());
        self.answered();
        let failure = classify::cancelled(phase);
        self.finish(Some(&failure));
    }
}
