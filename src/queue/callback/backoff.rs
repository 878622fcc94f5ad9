//! When a callback is tried again.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// The delays before the second attempt, the third and so on: ten attempts over three days, those
/// that the specification of Standard Webhooks recommends.
pub const DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(5 * 3_600),
    Duration::from_secs(10 * 3_600),
    Duration::from_secs(14 * 3_600),
    Duration::from_secs(20 * 3_600),
    Duration::from_secs(24 * 3_600),
];
/// The longest that a receiver can put off the next attempt: a day.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Up to which part of a delay is added by chance, as a divisor: a fifth.
const JITTER: u64 = 5;

/// How long to wait after so many attempts at the callback of this id; `None` where there is no
/// other.
///
/// It is what [`DELAYS`] says, or what the receiver asked for where that is longer, and up to a fifth
/// more, so that what failed together does not return together. The same id and attempt give the same
/// delay.
pub fn delay_before(attempts: u32, id: &str, retry_after: Option<Duration>) -> Option<Duration> {
    let index = usize::try_from(attempts.checked_sub(1)?).ok()?;
    let delay = retry_after
        .unwrap_or_default()
        .min(MAX_RETRY_AFTER)
        .max(*DELAYS.get(index)?);
    let chance = Sha256::new()
        .chain_update(attempts.to_be_bytes())
        .chain_update(id)
        .finalize();
    let chance = u64::from(u16::from_be_bytes([chance[0], chance[1]]));
    let most = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX) / JITTER;
    let more = most.saturating_mul(chance) / u64::from(u16::MAX);
    Some(delay + Duration::from_millis(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_end() {
        for (index, whole) in DELAYS.iter().enumerate() {
            let attempts = u32::try_from(index).unwrap() + 1;
            let delay = delay_before(attempts, "a", None).unwrap();
            assert_eq!(delay_before(attempts, "a", None), Some(delay));
            assert!(delay >= *whole && delay <= *whole * 6 / 5, "{delay:?}");
        }
        assert_eq!(delay_before(10, "a", None), None);
        assert_eq!(delay_before(10, "a", Some(Duration::from_secs(1))), None);
        assert_eq!(delay_before(0, "a", None), None);
        assert_ne!(delay_before(9, "a", None), delay_before(9, "b", None));
    }

    #[test]
    fn a_receiver_can_put_it_off_but_not_hurry_it_and_not_for_ever() {
        let asked = |seconds| delay_before(1, "a", Some(Duration::from_secs(seconds))).unwrap();
        assert!(asked(0) >= DELAYS[0]);
        assert!(asked(100) >= Duration::from_secs(100));
        assert!(asked(100) <= Duration::from_secs(120));
        assert!(asked(u64::MAX) <= MAX_RETRY_AFTER * 6 / 5);
    }
}
