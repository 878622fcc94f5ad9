//! The server's clock: all workers have to agree when a lease ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::{Client, Error};

use crate::queue::time::{Clock, micros};

/// How often the server is asked; the quickest answer counts.
const ROUNDS: usize = 5;

/// This machine's clock, set by the server's.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerClock {
    /// How far ahead the server is, in microseconds.
    ahead: Arc<AtomicI64>,
}

impl Clock for ServerClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::microseconds(self.ahead.load(Ordering::Relaxed))
    }
}

impl ServerClock {
    /// Asks the server for the time. What is left of the error is half of what the quickest answer
    /// took.
    pub async fn measure(&self, client: &Client) -> Result<(), Error> {
        let mut best: Option<(i64, i64)> = None;
        for _ in 0..ROUNDS {
            let before = micros(Utc::now());
            let row = client
                .query_one(
                    "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
                    &[],
                )
                .await?;
            let after = micros(Utc::now());
            let server: i64 = row.try_get(0)?;
            let took = (after - before).abs();
            if best.is_none_or(|(quickest, _)| took < quickest) {
                best = Some((took, server - (before + (after - before) / 2)));
            }
        }
        if let Some((_, ahead)) = best {
            self.ahead.store(ahead, Ordering::Relaxed);
        }
        Ok(())
    }
}
