//! The server's clock: all workers have to agree when a lease ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_postgres::{Client, Error};

use crate::queue::time::{Clock, Micros, moment, span};

/// How often the server is asked; the quickest answer counts.
const ROUNDS: usize = 5;

/// The server's clock, as it was when the server was last asked and by how much time went by since.
/// This machine's own clock can be set, and so is not looked at: a worker whose machine's clock
/// jumped would take the jobs of all others, whose leases it thought were over.
#[derive(Debug, Clone)]
pub(crate) struct ServerClock(Arc<Mutex<Base>>);

/// What the server said, and when.
#[derive(Debug, Clone, Copy)]
struct Base {
    server: Micros,
    at: Instant,
}

impl Base {
    fn now(self, at: Instant) -> Micros {
        self.server
            .saturating_add(span(at.saturating_duration_since(self.at)))
    }
}

impl Clock for ServerClock {
    fn now(&self) -> DateTime<Utc> {
        let base = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        moment(base.now(Instant::now()))
    }
}

impl ServerClock {
    /// A clock by what the server says.
    pub async fn ask(client: &Client) -> Result<Self, Error> {
        Ok(ServerClock(Arc::new(Mutex::new(asked(client).await?))))
    }

    /// Asks the server once more.
    pub async fn measure(&self, client: &Client) -> Result<(), Error> {
        let base = asked(client).await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = base;
        Ok(())
    }
}

/// Asks the server for the time. What is left of the error is half of what the quickest answer took.
async fn asked(client: &Client) -> Result<Base, Error> {
    let mut best: Option<(Duration, Base)> = None;
    loop {
        for _ in 0..ROUNDS {
            let before = Instant::now();
            let row = client
                .query_one(
                    "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
                    &[],
                )
                .await?;
            let took = before.elapsed();
            let base = Base {
                server: row.try_get(0)?,
                at: before + took / 2,
            };
            if best.is_none_or(|(quickest, _)| took < quickest) {
                best = Some((took, base));
            }
        }
        if let Some((_, base)) = best {
            return Ok(base);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_by_the_time_that_went_by() {
        let at = Instant::now();
        // A server whose clock is nothing like this machine's.
        let base = Base { server: 7, at };
        assert_eq!(base.now(at), 7);
        assert_eq!(base.now(at + Duration::from_secs(5)), 5_000_007);
        let clock = ServerClock(Arc::new(Mutex::new(base)));
        assert!(clock.now() < DateTime::<Utc>::UNIX_EPOCH + chrono::TimeDelta::hours(1));
    }
}
