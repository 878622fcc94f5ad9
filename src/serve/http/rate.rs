//! How often somebody may ask.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::settings::Settings;

/// After how many requests those are forgotten who have not asked for long.
const TIDY: u32 = 4_096;

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// The rates of tokens and addresses.
pub(super) struct Rates {
    tokens: Rate<Arc<str>>,
    peers: Rate<IpAddr>,
    guesses: Rate<IpAddr>,
}

struct Rate<K: Hash + Eq + Clone> {
    limiter: Keyed<K>,
    asked: AtomicU32,
}

impl Rates {
    pub fn new(settings: &Settings) -> Self {
        let quota = Quota::per_second(settings.rate).allow_burst(settings.burst);
        Rates {
            tokens: Rate::new(quota),
            peers: Rate::new(quota),
            guesses: Rate::new(Quota::per_minute(settings.guesses)),
        }
    }

    /// One request by whoever has this token.
    pub fn token(&self, token: &Arc<str>) -> Result<(), Duration> {
        self.tokens.check(token)
    }

    /// One request from this address.
    pub fn peer(&self, peer: IpAddr) -> Result<(), Duration> {
        self.peers.check(&network(peer))
    }

    /// A wrong token from this address, or none where one is needed.
    pub fn guess(&self, peer: IpAddr) -> Result<(), Duration> {
        self.guesses.check(&network(peer))
    }
}

/// What one peer comes from: whoever has one address of a /64 has them all.
pub(super) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

impl<K: Hash + Eq + Clone> Rate<K> {
    fn new(quota: Quota) -> Self {
        Rate {
            limiter: RateLimiter::hashmap(quota),
            asked: AtomicU32::new(0),
        }
    }

    fn check(&self, key: &K) -> Result<(), Duration> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % TIDY == TIDY - 1 {
            self.limiter.retain_recent();
        }
        self.limiter
            .check_key(key)
            .map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn whoever_asks_too_often_waits_and_nobody_else() {
        let rates = Rates::new(&Settings {
            rate: NonZeroU32::MIN,
            burst: NonZeroU32::MIN.saturating_add(1),
            ..Settings::default()
        });
        let peers: [IpAddr; 3] = [
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
            "2001:db8:0:1::1".parse().unwrap(),
        ];
        assert!(rates.peer(peers[0]).is_ok());
        assert!(rates.peer(peers[1]).is_ok());
        let wait = rates.peer(peers[0]).unwrap_err();
        assert!(wait <= Duration::from_secs(1));
        assert!(rates.peer(peers[2]).is_ok());
        assert!(rates.token(&"a".into()).is_ok());
    }
}
