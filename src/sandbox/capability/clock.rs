//! `wasi:clocks/monotonic-clock`: timers where the clocks stand still.
//!
//! A guest that counts while it waits has a clock. So where its clocks stand still, a timer is over at once, or never: what
//! a skill says of itself must follow from its bytes, and not from how fast it was asked.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::{self, Duration, Host, Instant};

use super::Own;
use crate::sandbox::state::State;

/// As long as can be said, which stands for ever.
const FOR_EVER: u64 = u64::MAX;

/// Puts ours in the place of wasmtime-wasi's, whose clock it reads.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    // The call is counted where wasmtime-wasi is asked.
    monotonic_clock::add_to_linker::<State, Own>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl Host for State {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        self.clocks().now()
    }

    fn resolution(&mut self) -> wasmtime::Result<Duration> {
        self.clocks().resolution()
    }

    fn subscribe_instant(&mut self, when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        match self.stands_still() && when != FOR_EVER {
            true => self.clocks().subscribe_duration(0),
            false => self.clocks().subscribe_instant(when),
        }
    }

    fn subscribe_duration(
        &mut self,
        duration: Duration,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        match self.stands_still() && duration != FOR_EVER {
            true => self.clocks().subscribe_duration(0),
            false => self.clocks().subscribe_duration(duration),
        }
    }
}
