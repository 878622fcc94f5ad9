//! The head of a chain: how far it goes, kept apart from it.

use sha2::Digest as _;
use uuid::Uuid;

use super::chain::{Hash, Position};
use super::line::hex;

/// What a head begins with.
const MARK: &str = "skillhost-audit-1";

/// The longest head, in bytes.
pub(super) const MAX_HEAD: u64 = 1_024;
/// Where it says how many bytes of the tail count: eight hexadecimal digits, which can be set at once.
pub(super) const TAIL_AT: usize = 352;
/// Where older releases said so, which did not say what is lost.
const OLD_TAIL_AT: usize = 288;
/// How long it is before what is lost.
const BEFORE_LOST: usize = 285;
/// How long the digits of a tail are, with the end of the head.
const TAIL_TEXT: usize = 9;

/// Where a chain begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub chain: Uuid,
    /// The first file that is kept, and where the chain stood before it.
    pub first: u32,
    pub before: Position,
    /// The file that is written, and how many bytes of it.
    pub segment: u32,
    pub bytes: u64,
    /// Where the chain stands at the end of that.
    pub at: Position,
    /// How many bytes of the tail come behind that.
    pub tail: u32,
    /// What could not be written behind that, and is told by the next line.
    pub lost: Lost,
}

/// Entries that could not be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub entries: u64,
    /// When the first of them was to be, in microseconds.
    pub since: i64,
}

impl Lost {
    /// One, at that time.
    pub fn one(now: i64) -> Self {
        Lost {
            entries: 1,
            since: now,
        }
    }

    /// These as well.
    pub fn join(&mut self, more: Lost) {
        if self.entries == 0 || more.entries > 0 && more.since < self.since {
            self.since = more.since;
        }
        self.entries = self.entries.saturating_add(more.entries);
    }

    /// What shows that it is as it was written: nothing else tells how many are lost behind a line of this hash.
    fn mark(&self, behind: &Hash) -> [u8; 16] {
        if *self == Lost::default() {
            return [b'0'; 16];
        }
        let mut hasher = sha2::Sha256::new();
        hasher.update(behind);
        hasher.update(self.entries.to_be_bytes());
        hasher.update(self.since.to_be_bytes());
        let digits = hex(&hasher.finalize().into());
        let mut mark = [0; 16];
        mark.copy_from_slice(&digits[..16]);
        mark
    }

    /// When the first was to be written, as it stands in an entry.
    pub fn since(&self) -> String {
        let since = chrono::DateTime::from_timestamp_micros(self.since).unwrap_or_default();
        since.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
    }
}

impl Head {
    /// Of a chain that is to begin.
    pub fn new(chain: Uuid) -> Self {
        let start = Position::start(chain);
        Head {
            chain,
            first: 1,
            before: start,
            segment: 1,
            bytes: 0,
            at: start,
            tail: 0,
            lost: Lost::default(),
        }
    }

    /// Writes it out, always with the same length.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        let number = |out: &mut Vec<u8>, mut number: u64| {
            let mut digits = [b'0'; 20];
            for digit in digits.iter_mut().rev() {
                // Below 10.
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
            out.extend_from_slice(&digits);
            out.push(b' ');
        };
        out.extend_from_slice(MARK.as_bytes());
        out.push(b' ');
        let mut id = [0; 32];
        out.extend_from_slice(self.chain.as_simple().encode_lower(&mut id).as_bytes());
        out.push(b' ');
        number(out, u64::from(self.first));
        number(out, self.before.entries);
        out.extend_from_slice(&hex(&self.before.hash));
        out.push(b' ');
        number(out, u64::from(self.segment));
        number(out, self.bytes);
        number(out, self.at.entries);
        out.extend_from_slice(&hex(&self.at.hash));
        out.push(b' ');
        number(out, self.lost.entries);
        // Before 1970 nothing was written.
        number(out, self.lost.since.unsigned_abs());
        out.extend_from_slice(&self.lost.mark(&self.at.hash));
        out.resize(TAIL_AT, b' ');
        out.extend_from_slice(&tail_text(self.tail));
        out.push(b'\n');
    }

    /// Reads one; `None` where it is none of ours, to the byte.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let words = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
        // As older releases wrote it.
        let is_old = text.len() <= OLD_TAIL_AT + TAIL_TEXT;
        let tail_at = if is_old { OLD_TAIL_AT } else { TAIL_AT };
        let (words, tail) = match words.split_at_checked(tail_at) {
            Some((words, digits)) => (words.trim_end(), u32::from_str_radix(digits, 16).ok()?),
            None => (words, 0),
        };
        let mut words = words.split(' ');
        if words.next()? != MARK {
            return None;
        }
        let chain = Uuid::try_parse(words.next()?).ok()?;
        let first = words.next()?.parse().ok()?;
        let before = position(words.next()?, words.next()?)?;
        let segment = words.next()?.parse().ok()?;
        let bytes = words.next()?.parse().ok()?;
        let at = position(words.next()?, words.next()?)?;
        let lost = match is_old {
            true => Lost::default(),
            false => lost(words.next()?, words.next()?)?,
        };
        let head = Head {
            chain,
            first,
            before,
            segment,
            bytes,
            at,
            tail,
            lost,
        };
        let mut again = Vec::new();
        head.write(&mut again);
        if is_old {
            // Nothing of what is lost, and of the tail as much as there is.
            again.truncate(BEFORE_LOST);
            if text.len() > OLD_TAIL_AT {
                again.resize(OLD_TAIL_AT, b' ');
                again.extend_from_slice(&tail_text(tail));
            }
            again.push(b'\n');
        }
        let begins = first > 1 || before == Position::start(chain);
        (again == text && first >= 1 && segment >= first && begins).then_some(head)
    }
}

/// How many bytes of the tail count, as it stands in the head.
pub(super) fn tail_text(bytes: u32) -> [u8; 8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 8];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

fn lost(entries: &str, since: &str) -> Option<Lost> {
    let (entries, since) = (entries.parse().ok()?, since.parse().ok()?);
    Some(Lost { entries, since })
}

fn position(entries: &str, digits: &str) -> Option<Position> {
    let mut hash: Hash = [0; 32];
    hex::decode_to_slice(digits, &mut hash).ok()?;
    let entries = entries.parse().ok()?;
    Some(Position { entries, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_and_nothing_else_is_one() {
        let mut head = Head::new(Uuid::now_v7());
        let mut text = Vec::new();
        head.write(&mut text);
        let length = text.len();
        head.at.entries = u64::MAX;
        head.bytes = 12;
        head.tail = 0xfedc;
        head.write(&mut text);
        assert_eq!(text.len(), length);
        assert_eq!(Head::parse(&text), Some(head));
        assert_eq!(&text[TAIL_AT..], b"0000fedc\n");
        head.lost.join(Lost::one(12_346));
        head.lost.join(Lost::one(12_345));
        assert_eq!((head.lost.entries, head.lost.since), (2, 12_345));
        head.write(&mut text);
        assert_eq!((text.len(), Head::parse(&text)), (length, Some(head)));
        head.lost = Lost::default();
        head.write(&mut text);
        for wrong in [
            &b""[..],
            b"x\n",
            &text[..length - 1],
            &text[1..],
            &text[..TAIL_AT],
        ] {
            assert_eq!(Head::parse(wrong), None);
        }
        // A number of what is lost that nobody has written is none.
        let mut other = text.clone();
        other[BEFORE_LOST + 20] = b'1';
        assert_eq!(Head::parse(&other), None);
        // Without what is lost, and without a tail, as older releases wrote it.
        let mut old = text[..BEFORE_LOST].to_vec();
        old.resize(OLD_TAIL_AT, b' ');
        old.extend_from_slice(b"0000fedc\n");
        assert_eq!(Head::parse(&old), Some(head));
        old.truncate(BEFORE_LOST);
        old.push(b'\n');
        assert_eq!(Head::parse(&old), Some(Head { tail: 0, ..head }));
    }
}
