//! Clocks that stand still, and random numbers that are the same each time.

use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
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

/// The request's id that a guest is told whose clocks or random numbers are not the system's: its own has the time in
/// it, and chance. It is the same for the same tool, input, clock and seed; `None` where the guest hears its own.
pub fn repeated_id(grants: &Grants, tool: &str, input: &str) -> Option<Uuid> {
    if grants.clock == Clock::System && grants.random == Random::System {
        return None;
    }
    let (clock, random) = (grants.clock.to_string(), grants.random.to_string());
    let mut hasher = Sha256::new();
    for part in [&clock, &random, tool, input] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let hash: [u8; 32] = hasher.finalize().into();
    let bytes = hash.first_chunk().copied().unwrap_or_default();
    // Version 8 of RFC 9562: made as one likes.
    Some(uuid::Builder::from_custom_bytes(bytes).into_uuid())
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
