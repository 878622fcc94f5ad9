//! How lines hang together: pure.
//!
//! A line is `BODY,"n":NUMBER,"hash":"HASH"}`, and its hash is SHA-256 over the hash of the line before
//! it (32 bytes), its number (8 bytes, the highest first), and SHA-256 of the body. Before the first
//! line stands a hash over the chain's id. So most of the work is done before it is a line's turn.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::line::hex;

/// SHA-256.
pub(super) type Hash = [u8; 32];

const NUMBER: &[u8] = b",\"n\":";
const HASH: &[u8] = b",\"hash\":\"";
const END: &[u8] = b"\"}";

/// Where a chain stands: how many lines there are, and the hash of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub entries: u64,
    pub hash: Hash,
}

impl Position {
    /// Before the first line.
    pub fn start(chain: Uuid) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"skillhost audit 1\n");
        hasher.update(chain.as_bytes());
        Position {
            entries: 0,
            hash: hasher.finalize().into(),
        }
    }

    /// After a line with this body.
    pub fn after(&self, body: &Hash) -> Position {
        let entries = self.entries.saturating_add(1);
        Position {
            entries,
            hash: follow(&self.hash, entries, body),
        }
    }

    /// Behind a line, with its newline, where that is the next.
    pub fn behind(&self, line: &[u8]) -> Option<Position> {
        let found = line.strip_suffix(b"\n").and_then(Found::parse)?;
        found.comes_after(self).then(|| found.position())
    }

    /// How many of these lines come next, one after the other.
    pub fn following(mut self, lines: &[u8]) -> usize {
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        let next = lines.map_while(|line| {
            self = self.behind(line)?;
            Some(())
        });
        next.count()
    }

    /// Ends a line whose body stands in `line` already, with a newline.
    pub fn seal(&self, line: &mut Vec<u8>) {
        use std::io::Write as _;
        line.extend_from_slice(NUMBER);
        // To a `Vec` nothing fails.
        let _ = write!(line, "{}", self.entries);
        line.extend_from_slice(HASH);
        line.extend_from_slice(&hex(&self.hash));
        line.extend_from_slice(END);
        line.push(b'\n');
    }
}

/// SHA-256 of a body.
pub(super) fn digest(body: &[u8]) -> Hash {
    Sha256::digest(body).into()
}

fn follow(before: &Hash, number: u64, body: &Hash) -> Hash {
    let mut all = [0; 72];
    all[..32].copy_from_slice(before);
    all[32..40].copy_from_slice(&number.to_be_bytes());
    all[40..].copy_from_slice(body);
    Sha256::digest(all).into()
}

/// A line as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub number: u64,
    pub hash: Hash,
    /// SHA-256 of the body.
    pub body: Hash,
}

impl Found {
    /// Reads a line without its newline; `None` where it is none of ours.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let rest = line.strip_suffix(END)?;
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(digits, &mut hash).ok()?;
        // As it was written, and no other way.
        if hex(&hash) != *digits {
            return None;
        }
        let rest = rest.strip_suffix(HASH)?;
        let digits = rest
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (rest, digits) = rest.split_at_checked(rest.len() - digits)?;
        let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        if digits.first() == Some(&b'0') {
            return None;
        }
        let body = rest.strip_suffix(NUMBER)?;
        Some(Found {
            number,
            hash,
            body: digest(body),
        })
    }

    /// Whether it is what comes after a line of this hash.
    pub fn follows(&self, before: &Hash) -> bool {
        self.computed(before) == self.hash
    }

    /// Whether it is the next where a chain stands.
    pub fn comes_after(&self, at: &Position) -> bool {
        self.number == at.entries.saturating_add(1) && self.follows(&at.hash)
    }

    /// Where a chain stands behind it.
    pub fn position(&self) -> Position {
        Position {
            entries: self.number,
            hash: self.hash,
        }
    }

    /// The hash that it should have after a line of this hash.
    pub fn computed(&self, before: &Hash) -> Hash {
        follow(before, self.number, &self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_follows_the_one_before_it_and_no_other() {
        let start = Position::start(Uuid::nil());
        let body = b"{\"at\":\"now\",\"kind\":\"x\"";
        let first = start.after(&digest(body));
        let mut line = body.to_vec();
        first.seal(&mut line);
        let text = line.strip_suffix(b"\n").unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(text).is_ok());
        let found = Found::parse(text).unwrap();
        assert_eq!((found.number, found.hash), (1, first.hash));
        assert!(found.follows(&start.hash));
        assert!(!found.follows(&first.hash));
        assert!(!found.follows(&Position::start(Uuid::max()).hash));
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut other = text.to_vec();
                other[at] ^= 1 << bit;
                let holds = Found::parse(&other).is_some_and(|found| found.follows(&start.hash));
                assert!(!holds, "{at} {bit}");
            }
        }
    }
}
