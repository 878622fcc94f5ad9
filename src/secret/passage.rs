//! Takes values out of bytes that come in pieces.

use zeroize::Zeroizing;

use super::MARKER;
use super::scrub::Scrubber;
use super::spelled::{Begun, LONGEST_ESCAPE, Readings};

/// Bytes on their way through, piece by piece. Of these the last ones wait for what comes next, always the same
/// number, as they may be the beginning of a value.
#[derive(Default)]
pub(crate) struct Passage {
    /// Those that have gone last, then those that wait.
    bytes: Zeroizing<Vec<u8>>,
    /// How many of these have gone. They are kept for what they say of what comes behind: whether that is the rest
    /// of an escape.
    gone: usize,
    /// Of those that wait, the first so many belong to a value that a marker stands for already.
    marked: usize,
    /// Which escapes were begun before all of them.
    begun: Begun,
    /// The first pattern that was found.
    found: Option<usize>,
}

impl Passage {
    /// Takes a piece, and gives what can go on.
    pub fn push(&mut self, scrubber: &Scrubber, piece: &[u8]) -> Vec<u8> {
        self.bytes.extend_from_slice(piece);
        // Whatever begins before that is there as a whole.
        self.pass(scrubber, self.bytes.len().saturating_sub(scrubber.window))
    }

    /// Nothing comes any more: gives what waited.
    pub fn finish(&mut self, scrubber: &Scrubber) -> Vec<u8> {
        self.pass(scrubber, self.bytes.len())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.gone
    }

    /// The name of a secret whose value came by, if one did.
    pub fn found<'s>(&self, scrubber: &'s Scrubber) -> Option<&'s str> {
        self.found.and_then(|found| scrubber.name(found))
    }

    /// Gives what stands before `end`, without values.
    fn pass(&mut self, scrubber: &Scrubber, end: usize) -> Vec<u8> {
        let (bytes, gone) = (&self.bytes, self.gone);
        if end <= gone {
            return Vec::new();
        }
        let readings = Readings::of(bytes, self.begun);
        // Each with whether a marker stands for it already: it does for all that begins among what has gone.
        let mut found = vec![(gone, gone + self.marked, true)];
        for (from, to, pattern) in scrubber.matches(bytes, &readings) {
            if to > gone {
                self.found.get_or_insert(pattern);
                found.push((from.max(gone), to, false));
            }
        }
        found.sort_unstable_by_key(|one| (one.0, !one.2));
        let mut joined: Vec<(usize, usize, bool)> = Vec::new();
        for one in found {
            match joined.last_mut() {
                Some(last) if one.0 < last.1 => last.1 = last.1.max(one.1),
                _ => joined.push(one),
            }
        }
        let mut clean = Vec::with_capacity(end - gone);
        let (mut at, mut marked) = (gone, 0);
        for (from, to, is_marked) in joined {
            if from >= end {
                break;
            }
            clean.extend_from_slice(&bytes[at..from]);
            if !is_marked {
                clean.extend_from_slice(MARKER.as_bytes());
            }
            at = to.min(end);
            marked = to.saturating_sub(end);
        }
        clean.extend_from_slice(&bytes[at..end]);
        let kept = end.saturating_sub(LONGEST_ESCAPE);
        self.marked = marked;
        self.begun = readings.begun(kept);
        self.gone = end - kept;
        self.bytes = Zeroizing::new(bytes[kept..].to_vec());
        clean
    }
}
