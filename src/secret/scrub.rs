//! Takes the values of secrets out of bytes, text and JSON, also where they come in pieces.
//!
//! A value is looked for as it is, in small letters, in base64 and in hexadecimal (`form`), and as each of these stands
//! in JSON, in a URL and in HTML, whatever of it is escaped there (`spelled`). What overlaps is taken out together, so that no part of any
//! value stays. The marker is no longer than what it stands for: what was within a limit before still is.
//!
//! Nothing that anybody sees depends on whether something is the *beginning* of a value: who could see that
//! would find the value a character at a time. What waits for what comes next, and what is cut off an end, is
//! always the same number of bytes.

use std::fmt;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use serde_json::Value;

use super::MARKER;
use super::form::{Form, forms};
use super::passage::Passage;
use super::spelled::{Begun, LONGEST_ESCAPE, Readings};
use crate::turns::interrupt::look;

/// How long a value may be for the faster of two automata. To build that takes time with the square of a value's
/// length where it repeats itself: 14 s for 8 KiB of one character.
const LONGEST_IN_DFA: usize = 128;

/// How many bytes are looked through at a time: in a third of a millisecond, so that it can be told to end. No fewer
/// than wait, as those are looked through twice.
const PIECE: usize = 16 << 10;

/// Finds values.
pub(crate) struct Scrubber {
    /// `None` where there is nothing to look for.
    automaton: Option<AhoCorasick>,
    /// What is looked for, and the name of the secret that it is of.
    patterns: Vec<(Form, String)>,
    /// How many bytes at the end of a stream wait for what comes next. No pattern is longer.
    pub(super) window: usize,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber")
            .field("patterns", &self.patterns.len())
            .finish_non_exhaustive()
    }
}

impl Scrubber {
    /// One for these names and values.
    pub fn new<'a>(values: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut patterns: Vec<(Form, String)> = Vec::new();
        let mut longest = 0;
        for (name, value) in values {
            longest = longest.max(value.len());
            for form in forms(value) {
                let known = patterns
                    .iter_mut()
                    .find(|(other, _)| other.bytes == form.bytes);
                match known {
                    Some((other, _)) => other.join(&form),
                    // No shorter than the marker, by the least length of a value.
                    None if form.bytes.len() < MARKER.len() => {}
                    None => patterns.push((form, name.to_owned())),
                }
            }
        }
        // It fails only for more patterns than fit a number of 32 bits.
        let automaton = match patterns.is_empty() {
            true => None,
            // Without a prefilter, which is faster where no pattern begins.
            false => AhoCorasick::builder()
                .prefilter(false)
                .kind((longest > LONGEST_IN_DFA).then_some(AhoCorasickKind::ContiguousNFA))
                .build(patterns.iter().map(|(form, _)| form.bytes.as_slice()))
                .ok(),
        };
        Scrubber {
            automaton,
            patterns,
            window: window(longest),
        }
    }

    /// The name of a secret whose value is in there, if one is. Takes no more memory than a few pieces.
    pub fn find(&self, bytes: &[u8]) -> Option<&str> {
        let automaton = self.automaton.as_ref()?;
        let (mut at, mut begun) = (0, Begun::default());
        let length = self.piece();
        let found = loop {
            // What begins in a piece ends in what may wait behind it.
            let end = (at + length).min(bytes.len());
            let piece = &bytes[at..(end + self.window).min(bytes.len())];
            look(work_of(piece));
            if let Some(found) = automaton.find(piece) {
                break found;
            }
            let readings = Readings::of(piece, begun);
            let mut each = readings.each();
            let found = each.find_map(|reading| automaton.find(reading.bytes.as_slice()));
            if found.is_some() || end == bytes.len() {
                break found?;
            }
            begun = readings.begun(end - at);
            at = end;
        };
        self.name(found.pattern().as_usize())
    }

    fn piece(&self) -> usize {
        PIECE.max(self.window)
    }

    pub(super) fn name(&self, pattern: usize) -> Option<&str> {
        self.patterns.get(pattern).map(|(_, name)| name.as_str())
    }

    /// Every place where a value is, from where to where, with the pattern.
    pub(super) fn matches(&self, bytes: &[u8], readings: &Readings) -> Vec<(usize, usize, usize)> {
        let Some(automaton) = &self.automaton else {
            return Vec::new();
        };
        let mut all = Vec::new();
        let mut search = |read: &[u8], place: &dyn Fn(usize) -> usize| {
            for found in automaton.find_overlapping_iter(read) {
                let pattern = found.pattern().as_usize();
                let (mut from, mut to) = (place(found.start()), place(found.end()));
                let (before, behind) = self.patterns[pattern].0.beside(read, found.range());
                if before {
                    from = place(found.start() - 1);
                    // Where it may be a part of an escape instead, that goes as a whole: a part of it would be none.
                    from = readings.escape(from).unwrap_or(from);
                }
                if behind {
                    to = place(found.end() + 1);
                }
                all.push((from, to, pattern));
            }
        };
        search(bytes, &|at| at);
        for reading in readings.each() {
            search(&reading.bytes, &|at| reading.place(at));
        }
        all
    }

    /// The bytes without values; `None` where there is none in them.
    pub fn bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.find(bytes)?;
        let mut passage = Passage::default();
        let mut clean = Vec::with_capacity(bytes.len());
        for piece in bytes.chunks(self.piece()) {
            look(work_of(piece));
            clean.append(&mut passage.push(self, piece));
        }
        clean.append(&mut passage.finish(self));
        Some(clean)
    }

    /// Takes values out of a text.
    pub fn text(&self, text: &mut String) {
        if let Some(clean) = self.bytes(text.as_bytes()) {
            // Values are ASCII, so what was taken out were whole characters.
            *text = match String::from_utf8(clean) {
                Ok(clean) => clean,
                Err(_) => MARKER.to_owned(),
            };
        }
    }

    /// Takes values out of JSON, also out of its keys and numbers.
    pub fn json(&self, value: &mut Value) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                if self.find(number.to_string().as_bytes()).is_some() {
                    *value = Value::String(MARKER.to_owned());
                }
            }
            Value::String(text) => self.text(text),
            Value::Array(list) => list.iter_mut().for_each(|one| self.json(one)),
            Value::Object(fields) => {
                if fields.keys().any(|key| self.find(key.as_bytes()).is_some()) {
                    let taken = std::mem::take(fields);
                    fields.extend(taken.into_iter().map(|(mut key, value)| {
                        self.text(&mut key);
                        (key, value)
                    }));
                }
                fields.values_mut().for_each(|one| self.json(one));
            }
        }
    }

    /// Cuts off the end of a text that was cut there, as it may have been cut within a value: always as many
    /// bytes, whatever they are. Says how many.
    pub fn cut(&self, text: &mut String) -> usize {
        let end = text.floor_char_boundary(text.len().saturating_sub(self.window));
        let cut = text.len() - end;
        text.truncate(end);
        cut
    }
}

/// What looking through a piece takes, in units of some 20 ns: mostly less than one for each byte.
fn work_of(piece: &[u8]) -> u32 {
    u32::try_from(piece.len())
        .unwrap_or(u32::MAX)
        .saturating_add(1)
}

/// How many bytes wait, where the longest value has so many. In none of its forms is a byte more than sixteen: two
/// digits, each as in `&#x0026;`. Rounded up, so that it tells little of how long the value is.
fn window(longest: usize) -> usize {
    match longest {
        0 => 0,
        longest => (2 * LONGEST_ESCAPE * longest).next_power_of_two(),
    }
}

#[cfg(test)]
mod tests;
