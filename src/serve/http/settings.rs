//! How the door for HTTP is set up.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

/// Limits on requests and connections, and which names the server answers to. Each is enforced.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The most bytes of a body; 32 MiB unless set.
    pub body_bytes: usize,
    /// The most bytes of an uploaded skill as it is sent; 128 MiB unless set.
    pub upload_bytes: usize,
    /// The most bytes of bodies at once, over all requests that are being read or answered; 512 MiB
    /// unless set. Of JSON whose values take more memory than its text, those count, up to all of this. A request
    /// that does not fit any more is answered with 503.
    pub bodies_bytes: usize,
    /// The most bytes of large answers at once, and of large events of streams (of more than 256 KiB each), that clients
    /// have not taken yet; 512 MiB unless set. Where a new one does not fit any more, the oldest of the tenant that would
    /// have the most is broken off; where it has no other, the new one is answered with 503, or with 500 where something
    /// was done for it and it has no `Idempotency-Key`.
    pub answers_bytes: usize,
    /// The most bytes of a request's head; 64 KiB unless set.
    pub header_bytes: usize,
    /// The most header fields; 100 unless set.
    pub header_fields: usize,
    /// How long a client may take to send a head, or to begin with the next one; 30 s unless set.
    pub header_timeout: Duration,
    /// How long a client may take to send a body; 60 s unless set. A session of MCP over HTTP has as long to take a message
    /// on.
    pub body_timeout: Duration,
    /// How long a client may take nothing of an answer that is there; 30 s unless set.
    pub write_timeout: Duration,
    /// Connections at once; 1,024 unless set. More wait to be accepted.
    pub connections: usize,
    /// Of these, how many one address may have, or one /64 of IPv6; 256 unless set. More are answered
    /// with 503 and closed. Behind a proxy all come from its address: there it needs all.
    pub connections_of_one: usize,
    /// Event streams that one tenant may have open at once, those of news over MCP included; 256 unless
    /// set. More are answered with 429.
    pub streams: usize,
    /// Requests a second for each token, or each address where there are no tokens; 1,000 unless set.
    pub rate: NonZeroU32,
    /// How many of these may come at once; 2,000 unless set.
    pub burst: NonZeroU32,
    /// Wrong tokens a minute from one address before it must wait; 30 unless set. A request without a token counts,
    /// too, where one is needed.
    pub guesses: NonZeroU32,
    /// Names that the header `Host` may have beside the addresses of this machine and `localhost`.
    /// A page in a browser that had its own name lead here is not answered.
    pub hosts: BTreeSet<String>,
    /// Origins of pages in browsers that may call, such as `https://app.example.com`. None unless set.
    pub origins: BTreeSet<String>,
    /// How long a request with an idempotency key is remembered; a day unless set.
    pub remembered: Duration,
    /// How often an event stream says that it lives where nothing happens, and looks whether its client
    /// would still be let in; 14 s unless set.
    pub keep_alive: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        let rate = |many| NonZeroU32::new(many).unwrap_or(NonZeroU32::MIN);
        Settings {
            body_bytes: 32 * MIB,
            upload_bytes: 128 * MIB,
            bodies_bytes: 512 * MIB,
            answers_bytes: 512 * MIB,
            header_bytes: 64 << 10,
            header_fields: 100,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            connections: 1_024,
            connections_of_one: 256,
            streams: 256,
            rate: rate(1_000),
            burst: rate(2_000),
            guesses: rate(30),
            hosts: BTreeSet::new(),
            origins: BTreeSet::new(),
            remembered: Duration::from_secs(86_400),
            keep_alive: Duration::from_secs(14),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::token::HOLD;

    /// What a stream sees of the tokens when it looks may be as old as that holds.
    #[test]
    fn streams_end_within_15_seconds_of_their_tokens() {
        let longest = Settings::default().keep_alive + HOLD;
        assert!(longest <= Duration::from_secs(15), "{longest:?}");
    }
}
