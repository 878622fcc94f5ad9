//! The time left, for a guest that paces itself.

use std::time::Instant;

use crate::sandbox::contract::bindings::skillhost::skill::deadline;
use crate::sandbox::state::State;

impl deadline::Host for State {
    fn time_left(&mut self) -> u64 {
        let left = self.deadline().saturating_duration_since(Instant::now());
        u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)
    }
}
