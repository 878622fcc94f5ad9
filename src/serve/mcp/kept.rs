//! Large outputs, kept so that they can be read on: bounded in number, bytes and time, and each only
//! for whom it was made.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::settings::KeptBounds;
use crate::text::printable;

/// How the address of a kept output begins.
const SCHEME: &str = "skillhost://outputs/";

/// Whose something is: of one session, or over HTTP of one tenant.
pub(super) type Owner = Arc<str>;

/// One piece of an output: the answer itself, or an attachment.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// A name for people.
    pub name: String,
    pub media_type: String,
    pub data: Arc<[u8]>,
    /// Whether it is text.
    pub text: bool,
}

/// The parts of an output that are kept.
struct Output {
    id: Uuid,
    owner: Owner,
    at: Instant,
    bytes: usize,
    parts: Vec<(usize, Part)>,
}

/// What is kept.
pub(super) struct Kept {
    bounds: KeptBounds,
    /// The oldest first.
    outputs: Mutex<VecDeque<Output>>,
}

impl Kept {
    pub fn new(bounds: KeptBounds) -> Self {
        Kept {
            bounds,
            outputs: Mutex::default(),
        }
    }

    /// The address of a part.
    pub fn uri(id: Uuid, index: usize) -> String {
        format!("{SCHEME}{}/{index}", id.simple())
    }

    /// Keeps parts under an id, in the place of what was kept under it. Whether they are small enough
    /// to be kept.
    pub fn keep(&self, owner: &Owner, id: Uuid, parts: Vec<(usize, Part)>) -> bool {
        let bytes = parts.iter().map(|(_, part)| part.data.len()).sum();
        if bytes > self.bounds.bytes || bytes > self.bounds.total_bytes {
            return false;
        }
        let mut outputs = self.lock();
        outputs.retain(|output| output.id != id);
        outputs.push_back(Output {
            id,
            owner: Arc::clone(owner),
            at: Instant::now(),
            bytes,
            parts,
        });
        let (mut count, mut own, mut all) = (0, 0, 0);
        // From the newest on, as long as there is room.
        let mut fits: Vec<bool> = outputs
            .iter()
            .rev()
            .map(|output| {
                all += output.bytes;
                if output.owner == *owner {
                    count += 1;
                    own += output.bytes;
                    own <= self.bounds.bytes
                        && count <= self.bounds.count
                        && all <= self.bounds.total_bytes
                } else {
                    all <= self.bounds.total_bytes
                }
            })
            .collect();
        outputs.retain(|_| fits.pop().unwrap_or_default());
        true
    }

    /// What is kept at an address for this owner.
    pub fn find(&self, owner: &Owner, uri: &str) -> Option<Part> {
        let (id, index) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        let (id, index) = (Uuid::try_parse(id).ok()?, index.parse::<usize>().ok()?);
        let outputs = self.lock();
        let output = outputs
            .iter()
            .find(|output| output.id == id && output.owner == *owner)?;
        let part = output.parts.iter().find(|(number, _)| *number == index)?;
        Some(part.1.clone())
    }

    /// What is kept for an owner: addresses and parts, the newest first.
    pub fn list(&self, owner: &Owner) -> Vec<(String, Part)> {
        let outputs = self.lock();
        let own = outputs.iter().rev().filter(|output| output.owner == *owner);
        own.flat_map(|output| {
            let parts = output.parts.iter();
            parts.map(|(index, part)| (Kept::uri(output.id, *index), part.clone()))
        })
        .collect()
    }

    /// Forgets what was kept for an owner that is gone.
    pub fn forget(&self, owner: &Owner) {
        self.lock().retain(|output| output.owner != *owner);
    }

    /// How long an output stays at most.
    pub fn time(&self) -> Duration {
        self.bounds.time
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Output>> {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        while outputs
            .front()
            .is_some_and(|output| output.at.elapsed() > self.bounds.time)
        {
            outputs.pop_front();
        }
        outputs
    }
}

/// A piece of a text from this byte on, and where it goes on.
pub(super) struct Piece<'t> {
    pub text: &'t str,
    pub next: Option<usize>,
}

/// At most so many bytes of a text from an offset on, counted as it is shown, with escapes in the place of
/// what cannot be; both are moved back to the beginning of a character. `None` where the offset is past
/// the end.
pub(super) fn piece(text: &str, offset: usize, bytes: usize) -> Option<Piece<'_>> {
    if offset > text.len() {
        return None;
    }
    let start = text.floor_char_boundary(offset);
    // At least one character, so that whoever reads on comes to the end.
    let least = text[start..].chars().next().map_or(0, char::len_utf8);
    let mut end = text.floor_char_boundary(start.saturating_add(bytes.max(4)).min(text.len()));
    loop {
        let shown = printable(&text[start..end], true).len();
        if shown <= bytes || end - start <= least {
            break;
        }
        // Each round is shorter: what is shown is more than what may be.
        let fewer = (end - start).saturating_mul(bytes) / shown;
        end = text.floor_char_boundary(start + fewer).max(start + least);
    }
    Some(Piece {
        text: &text[start..end],
        next: (end < text.len()).then_some(end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: usize) -> Vec<(usize, Part)> {
        let part = Part {
            name: "a".into(),
            media_type: "text/plain".into(),
            data: vec![b'a'; bytes].into(),
            text: true,
        };
        vec![(0, part)]
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_in_number_bytes_and_time_and_nobody_elses() {
        let bounds = KeptBounds {
            count: 3,
            bytes: 100,
            total_bytes: 150,
            time: Duration::from_secs(10),
        };
        let kept = Kept::new(bounds);
        let (one, other): (Owner, Owner) = ("one".into(), "other".into());
        let mut last = Uuid::nil();
        for _ in 0..5 {
            last = Uuid::new_v4();
            assert!(kept.keep(&one, last, part(20)));
        }
        assert_eq!(kept.list(&one).len(), 3);
        assert!(kept.find(&one, &Kept::uri(last, 0)).is_some());
        assert!(kept.find(&other, &Kept::uri(last, 0)).is_none());
        assert!(kept.find(&one, &Kept::uri(last, 1)).is_none());
        assert!(kept.find(&one, "skillhost://outputs/../0").is_none());
        assert!(!kept.keep(&one, Uuid::new_v4(), part(101)));
        assert!(kept.keep(&one, Uuid::new_v4(), part(90)));
        assert_eq!(kept.list(&one).len(), 1, "90 bytes leave no room for 20");
        assert!(kept.keep(&other, Uuid::new_v4(), part(100)));
        assert!(
            kept.list(&one).is_empty(),
            "all together it would be too much"
        );
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(kept.list(&other).is_empty());
    }

    #[test]
    fn a_text_is_read_piece_by_piece() {
        let text = "aäaäaäaäaä";
        let (mut offset, mut whole) = (Some(0), String::new());
        while let Some(at) = offset {
            let piece = piece(text, at, 4).unwrap();
            whole.push_str(piece.text);
            offset = piece.next;
        }
        assert_eq!(whole, text);
        assert!(piece(text, 100, 4).is_none());
        assert_eq!(piece("", 0, 4).unwrap().text, "");
    }

    #[test]
    fn a_piece_is_as_long_as_it_is_shown() {
        let text = "\u{1}".repeat(1_000);
        let (mut at, mut pieces) = (0, 0);
        loop {
            let piece = piece(&text, at, 100).unwrap();
            assert!(printable(piece.text, true).len() <= 100);
            pieces += 1;
            match piece.next {
                Some(next) => at = next,
                None => break,
            }
        }
        // `\u{1}` has 5 bytes.
        assert_eq!(pieces, 50);
        assert_eq!(piece(&text, 0, 1).unwrap().text.len(), 1);
    }
}
