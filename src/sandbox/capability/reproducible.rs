//! Clocks that stand still, and random numbers that are the same each time.

use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::grant::{Clock, Grants, Random};

/// What the clocks say they can tell apart.
const RESOLUTION: Duration = Duration::from_nanos(1);

/// Sets clocks and random numbers as granted. The system's need no setting.
pub(super) fn grant(wasi: &mut WasiCtxBuilder, grants: &Grants) {
    if let Clock::Still(time) = grants.clock {
        let since = (time - chrono::DateTime::UNIX_EPOCH).to_std();
        wasi.wall_clock(Still(since.unwrap_or_default()))
            .monotonic_clock(Still(Duration::ZERO));
    }
    if let Random::Seed(seed) = grants.random {
        // Each source has a stream of its own: what is drawn from one changes none of the others.
        let source = |stream| {
            let mut source = ChaCha20Rng::seed_from_u64(seed);
            source.set_stream(stream);
            source
        };
        let mut third = source(2);
        let hash_seed = u128::from(third.next_u64()) << 64 | u128::from(third.next_u64());
        wasi.secure_random(source(0))
            .insecure_random(source(1))
            .insecure_random_seed(hash_seed);
    }
}

struct Still(Duration);

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        self.0
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}
