//! Writing one line: field by field, to a buffer that is used again.

use std::cell::RefCell;
use std::io::{BufRead as _, Read as _};
use std::time::Duration;

use chrono::{DateTime, Timelike as _, Utc};
use serde::Serialize;

use super::entry::{Hashed, changed};
use crate::execution::SkillIdentity;
use crate::limits::Limits;

/// The longest line, in bytes, with its newline.
pub(super) const MAX_LINE: u64 = 1 << 20;

/// A JSON object that is being written.
#[derive(Default)]
pub(super) struct Line {
    bytes: Vec<u8>,
    /// The last second that was written out, so that it need not be again.
    second: Option<(i64, String)>,
    /// The last limits that were written out.
    limits: Option<(Limits, String)>,
    /// The last skill that was written out.
    skill: Option<(SkillIdentity, String)>,
}

thread_local! {
    static LINE: RefCell<Line> = RefCell::default();
}

/// Does something with this thread's buffer.
pub(super) fn with<T>(write: impl FnOnce(&mut Line) -> T) -> T {
    LINE.with(|line| match line.try_borrow_mut() {
        Ok(mut line) => write(&mut line),
        // Somebody's `Serialize` came back here.
        Err(_) => write(&mut Line::default()),
    })
}

impl Line {
    /// Begins a line, with the time.
    pub fn begin(&mut self, now: DateTime<Utc>) {
        self.bytes.clear();
        let seconds = now.timestamp();
        let text = match &self.second {
            Some((at, text)) if *at == seconds => text,
            _ => {
                let text = now.format("%Y-%m-%dT%H:%M:%S").to_string();
                &self.second.insert((seconds, text)).1
            }
        };
        self.bytes.extend_from_slice(b"{\"at\":\"");
        self.bytes.extend_from_slice(text.as_bytes());
        // A leap second counts on.
        self.fraction(now.nanosecond() / 1_000 % 1_000_000, 6);
        self.bytes.extend_from_slice(b"Z\"");
    }

    /// What was written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One field.
    pub fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        let before = self.bytes.len();
        self.name(name);
        if serde_json::to_writer(&mut self.bytes, value).is_err() {
            // Nothing of ours fails; then it is better to lose a field than the line.
            self.bytes.truncate(before);
        }
    }

    /// One field, where there is a value.
    pub fn optional<T: Serialize + ?Sized>(&mut self, name: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    /// A count.
    pub fn count(&mut self, name: &str, count: u64) {
        self.name(name);
        self.number(count);
    }

    /// A time in milliseconds, to a microsecond.
    pub fn milliseconds(&mut self, name: &str, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.name(name);
        self.number(micros / 1_000);
        // Less than 1,000.
        self.fraction((micros % 1_000) as u32, 3);
    }

    /// A text that is somebody else's, cut.
    pub fn text(&mut self, name: &str, text: Option<&str>, most: usize) {
        if let Some(text) = text {
            self.field(name, cut(text, most));
        }
    }

    /// A hash and a size.
    pub fn hashed(&mut self, name: &str, hashed: &Hashed) {
        self.name(name);
        self.bytes.extend_from_slice(b"{\"sha256\":\"");
        self.bytes.extend_from_slice(&hex(&hashed.sha256));
        self.bytes.extend_from_slice(b"\",\"bytes\":");
        self.number(hashed.bytes);
        self.bytes.push(b'}');
    }

    /// Which skill it was.
    pub fn skill(&mut self, skill: &SkillIdentity) {
        let known = self.skill.take();
        let known = match known {
            Some((of, text)) if of == *skill => (of, text),
            _ => (
                skill.clone(),
                serde_json::to_string(skill).unwrap_or_else(|_| "null".to_owned()),
            ),
        };
        self.name("skill");
        self.bytes.extend_from_slice(known.1.as_bytes());
        self.skill = Some(known);
    }

    /// The limits that differ from the defaults.
    pub fn limits(&mut self, limits: &Limits) {
        let known = self.limits.take();
        let known = match known {
            Some((of, text)) if of == *limits => (of, text),
            _ => (*limits, changed(limits)),
        };
        self.name("limits");
        self.bytes.extend_from_slice(known.1.as_bytes());
        self.limits = Some(known);
    }

    /// Begins an object in the object.
    pub fn open(&mut self, name: &str) {
        self.name(name);
        self.bytes.push(b'{');
    }

    /// Ends it.
    pub fn close(&mut self) {
        self.bytes.push(b'}');
    }

    fn name(&mut self, name: &str) {
        if self.bytes.last() != Some(&b'{') {
            self.bytes.push(b',');
        }
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    fn number(&mut self, number: u64) {
        let mut digits = itoa::Buffer::new();
        self.bytes
            .extend_from_slice(digits.format(number).as_bytes());
    }

    /// A point, and a number with so many digits, at most 6.
    fn fraction(&mut self, mut number: u32, digits: usize) {
        let mut text = *b".000000";
        for digit in text[1..=digits].iter_mut().rev() {
            // Below 10.
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.bytes.extend_from_slice(&text[..=digits]);
    }
}

/// 64 hexadecimal digits.
pub(super) fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// At most so many bytes of a text, cut at a character.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Reads to the end of a line. Of one that is longer than any of ours, the rest is passed over.
pub(super) fn next_line(
    mut reader: &mut (impl std::io::BufRead + ?Sized),
    line: &mut Vec<u8>,
) -> std::io::Result<u64> {
    let mut read = (&mut reader).take(MAX_LINE).read_until(b'\n', line)? as u64;
    if read < MAX_LINE || line.last() == Some(&b'\n') {
        return Ok(read);
    }
    line.clear();
    // So that it is no line of ours, and yet has an end if it had one.
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(read);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        read += used as u64;
        if end.is_some() {
            line.push(b'\n');
            return Ok(read);
        }
    }
}
