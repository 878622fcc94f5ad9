//! The time left, for a guest that paces itself.

use crate::sandbox::contract::bindings::skillhost::skill::deadline;
use crate::sandbox::state::State;

impl deadline::Host for State {
    fn time_left(&mut self) -> u64 {
        u64::try_from(State::time_left(self).as_nanos()).unwrap_or(u64::MAX)
    }
}
