//! How changes are written that wait for a serial transaction: a compact form of [`Shared`].
//!
//! Two parts, so that whoever counts reads only the tally. Numbers are variable in length (LEB128,
//! signs folded in), texts have their length before them.

use uuid::Uuid;

use super::super::{EventRow, Place, Result, Shared};
use crate::queue::counters::{Counter, Tally};
use crate::queue::error::QueueError;

/// The form that is written. A reader refuses others.
const FORM: u8 = 1;

/// The changes of counters.
pub(super) fn write_tally(tally: &Tally) -> Vec<u8> {
    let mut out = Writer::new();
    out.length(tally.0.len());
    for (counter, by) in &tally.0 {
        let (kind, number, name) = counter.columns();
        out.text(kind);
        out.number(number);
        out.text(&name);
        out.number(*by);
    }
    out.0
}

pub(super) fn read_tally(bytes: &[u8]) -> Result<Tally> {
    let mut read = Reader::new(bytes)?;
    let mut tally = Tally::default();
    for _ in 0..read.length()? {
        let (kind, number, name) = (read.text()?, read.number()?, read.text()?);
        let counter = Counter::from_columns(kind, number, name).ok_or_else(damaged)?;
        tally.add(counter, read.number()?);
    }
    read.end(tally)
}

/// The rest: places and events.
pub(super) fn write_changes(places: &[Place], events: &[EventRow]) -> Vec<u8> {
    let mut out = Writer::new();
    out.length(places.len());
    for place in places {
        out.number(place.seq);
        out.number(place.lane);
        out.text(place.priority.as_str());
        out.number(place.due);
    }
    out.length(events.len());
    for event in events {
        out.0.extend_from_slice(event.job.as_bytes());
        out.text(event.kind.as_str());
        out.number(event.at);
        out.number(event.attempt.map_or(-1, i64::from));
        out.text(&event.data);
    }
    out.0
}

/// Adds what was written to `shared`.
pub(super) fn read_changes(bytes: &[u8], shared: &mut Shared) -> Result<()> {
    let mut read = Reader::new(bytes)?;
    for _ in 0..read.length()? {
        shared.places.push(Place {
            seq: read.number()?,
            lane: read.number()?,
            priority: read.text()?.parse().map_err(|_| damaged())?,
            due: read.number()?,
        });
    }
    for _ in 0..read.length()? {
        shared.events.push(EventRow {
            job: Uuid::from_slice(read.bytes(16)?).map_err(|_| damaged())?,
            kind: read.text()?.parse().map_err(|_| damaged())?,
            at: read.number()?,
            attempt: match read.number()? {
                -1 => None,
                attempt => Some(u32::try_from(attempt).map_err(|_| damaged())?),
            },
            data: read.text()?.to_owned(),
        });
    }
    read.end(())
}

fn damaged() -> QueueError {
    QueueError::Damaged("a row of `inbox` cannot be read".to_owned())
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Writer(vec![FORM])
    }

    fn number(&mut self, value: i64) {
        let mut left = ((value << 1) ^ (value >> 63)) as u64;
        while left >= 0x80 {
            self.0.push(left as u8 | 0x80);
            left >>= 7;
        }
        self.0.push(left as u8);
    }

    fn length(&mut self, length: usize) {
        self.number(i64::try_from(length).unwrap_or(i64::MAX));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn new(bytes: &'b [u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&FORM, rest)) => Ok(Reader(rest)),
            _ => Err(damaged()),
        }
    }

    fn bytes(&mut self, count: usize) -> Result<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(damaged())
    }

    fn length(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| damaged())
    }

    fn text(&mut self) -> Result<&'b str> {
        let length = self.length()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| damaged())
    }

    /// The value, where nothing is left.
    fn end<T>(self, value: T) -> Result<T> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(damaged())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::event::JobEventKind;
    use crate::queue::job::{JobStatus, Priority};

    fn shared() -> Shared {
        let mut shared = Shared::default();
        shared.tally.add(Counter::Jobs(7, JobStatus::Pending), -3);
        shared.tally.add(Counter::Dead(7, "fuel".to_owned()), 1);
        shared.tally.add(Counter::Running(i64::MAX), i64::MIN);
        for due in [
            0,
            -1,
            63,
            64,
            -65,
            i64::MAX,
            i64::MIN,
            1_780_000_000_000_000,
        ] {
            shared.places.push(Place {
                seq: 300,
                lane: 2,
                priority: Priority::High,
                due,
            });
        }
        shared.events.push(EventRow {
            job: Uuid::now_v7(),
            kind: JobEventKind::Failed,
            at: 1_780_000_000_000_000,
            attempt: Some(3),
            data: r#"{"cause":"trap"}"#.to_owned(),
        });
        shared.events.push(EventRow {
            attempt: None,
            data: String::new(),
            ..shared.events[0].clone()
        });
        shared
    }

    #[test]
    fn what_was_put_aside_comes_back() {
        let shared = shared();
        let mut back = Shared {
            tally: read_tally(&write_tally(&shared.tally)).unwrap(),
            ..Shared::default()
        };
        read_changes(&write_changes(&shared.places, &shared.events), &mut back).unwrap();
        assert_eq!(back, shared);
    }

    #[test]
    fn what_is_cut_short_or_has_more_is_damaged() {
        let shared = shared();
        let (tally, changes) = (
            write_tally(&shared.tally),
            write_changes(&shared.places, &shared.events),
        );
        for end in 0..tally.len() {
            assert!(read_tally(&tally[..end]).is_err());
        }
        for end in 0..changes.len() {
            assert!(read_changes(&changes[..end], &mut Shared::default()).is_err());
        }
        let mut more = tally.clone();
        more.push(0);
        assert!(read_tally(&more).is_err());
        let mut other = tally;
        other[0] = 9;
        assert!(read_tally(&other).is_err());
    }
}
