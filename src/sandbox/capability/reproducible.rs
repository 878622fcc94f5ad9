//! Clocks that stand still, and random numbers that are the same each time.

use std::time::Duration;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::execution::Attachment;
use crate::grant::{Clock, Grants, Random};
use crate::skill::Digest;

/// What the clocks say they can tell apart.
const RESOLUTION: Duration = Duration::from_nanos(1);

/// Sets clocks and random numbers as granted. The system's need no setting.
pub(super) fn grant(wasi: &mut WasiCtxBuilder, grants: &Grants) {
    if let Some(Clock::Still(time)) = grants.clock {
        let since = (time - chrono::DateTime::UNIX_EPOCH).to_std();
        wasi.wall_clock(Still(since.unwrap_or_default()))
            .monotonic_clock(Still(Duration::ZERO));
    }
    if let Some(Random::Seed(seed)) = grants.random {
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
/// it, and chance. It is the same for the same skill, tool, input, attachments, clock and seed; `None` where the guest
/// hears its own.
pub fn repeated_id(
    grants: &Grants,
    skill: &Digest,
    tool: &str,
    input: &str,
    attachments: &[Attachment],
) -> Option<Uuid> {
    let clock = grants.clock.unwrap_or_default();
    let random = grants.random.unwrap_or_default();
    if clock == Clock::System && random == Random::System {
        return None;
    }
    let (clock, random) = (clock.to_string(), random.to_string());
    let skill = skill.to_string();
    let mut hasher = Sha256::new();
    let mut put = |part: &[u8]| {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    };
    for part in [&skill, &clock, &random, tool, input] {
        put(part.as_bytes());
    }
    for Attachment {
        name,
        media_type,
        data,
    } in attachments
    {
        put(name.as_bytes());
        put(media_type.as_bytes());
        put(data);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_request_is_in_its_id() {
        let seeded = Grants::default().random(Random::Seed(7));
        let [one, other] = [b"a", b"b"].map(|bytes| Digest::of_component(bytes));
        let attached = |name: &str, data: &[u8]| vec![Attachment::new(name, "text/plain", data)];
        let id = |skill, tool, input, attachments: &[Attachment]| {
            repeated_id(&seeded, skill, tool, input, attachments).unwrap()
        };
        let mut ids = vec![
            id(&one, "t", "{}", &[]),
            id(&other, "t", "{}", &[]),
            id(&one, "u", "{}", &[]),
            id(&one, "t", "[]", &[]),
            id(&one, "t", "{}", &attached("a", b"bc")),
            id(&one, "t", "{}", &attached("ab", b"c")),
            id(&one, "t", "{}", &attached("a", b"bd")),
            id(
                &one,
                "t",
                "{}",
                &[attached("a", b""), attached("b", b"")].concat(),
            ),
        ];
        assert_eq!(ids[4], id(&one, "t", "{}", &attached("a", b"bc")));
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
        let none = repeated_id(&Grants::default(), &one, "t", "{}", &[]);
        assert_eq!(none, None);
    }
}
