//! Jobs as this connection wrote them last: who claims or settles them need not read them again.
//!
//! It holds only as long as nobody else writes, which the transaction finds out as it begins; and it is
//! forgotten when a transaction is rolled back.

use std::collections::HashMap;

use super::super::{Body, Row};

/// The most jobs in one of the two parts.
const ROWS: usize = 8_192;
/// The most bytes of bodies in one of the two parts.
const BYTES: usize = 4 << 20;
/// Bodies of more bytes are read again: few of them would turn out all others.
const LARGE: usize = BYTES / 64;

/// Jobs that wait or run. When the young ones have become many they are the old ones, and what was old
/// before is forgotten.
#[derive(Default)]
pub(super) struct Known {
    young: Part,
    old: Part,
}

#[derive(Default)]
struct Part {
    rows: HashMap<i64, Row>,
    bodies: HashMap<i64, Body>,
    /// Of the bodies.
    bytes: usize,
}

impl Known {
    /// Keeps where a job stands.
    pub fn keep(&mut self, row: Row) {
        self.old.rows.remove(&row.seq);
        self.young.rows.insert(row.seq, row);
        self.turn();
    }

    /// Keeps what does not change of a job.
    pub fn keep_body(&mut self, seq: i64, body: &Body) {
        let bytes = bytes(body);
        if bytes > LARGE {
            return;
        }
        if self.young.bodies.insert(seq, body.clone()).is_none() {
            self.young.bytes += bytes;
        }
        self.turn();
    }

    fn turn(&mut self) {
        let young = &self.young;
        if young.rows.len() >= ROWS || young.bodies.len() >= ROWS || young.bytes >= BYTES {
            self.old = std::mem::take(&mut self.young);
        }
    }

    pub fn row(&self, seq: i64) -> Option<&Row> {
        self.young
            .rows
            .get(&seq)
            .or_else(|| self.old.rows.get(&seq))
    }

    pub fn body(&self, seq: i64) -> Option<&Body> {
        let young = self.young.bodies.get(&seq);
        young.or_else(|| self.old.bodies.get(&seq))
    }

    /// Forgets a job.
    pub fn forget(&mut self, seq: i64) {
        for part in [&mut self.young, &mut self.old] {
            part.rows.remove(&seq);
            if let Some(body) = part.bodies.remove(&seq) {
                part.bytes -= bytes(&body);
            }
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = Known::default();
    }
}

fn bytes(body: &Body) -> usize {
    body.submitted.len() + body.retry.len()
}
