//! What was done to a chain of which something is wrong, by all its lines.

use std::collections::{HashMap, HashSet};

use super::chain::{Found, Hash};
use super::finding::{Finding, FindingKind, Findings, MAX_FINDINGS};
use super::head::Head;
use super::verify::file_name;

/// Every line of a chain, where it stands.
#[derive(Default)]
pub(super) struct Lines {
    pub all: Vec<Line>,
    pub other: Vec<Finding>,
}

/// A line, where it stands.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub segment: u32,
    pub number: u64,
    /// How many bytes it has, with its end.
    pub bytes: u64,
    /// Whether it has one.
    pub is_whole: bool,
    /// What it says, where it is a line of ours.
    pub found: Option<Found>,
}

/// Hashes by number: as they stand there, and as they would have to be.
type Hashes = HashMap<u64, [Option<Hash>; 2]>;

/// Finds out what is wrong with lines.
pub(super) struct Explaining<'a> {
    number: u32,
    head: &'a Head,
    live: bool,
    lines: &'a Lines,
    present: HashSet<u64>,
}

impl<'a> Explaining<'a> {
    /// Of a chain that may be being written.
    pub fn new(number: u32, head: &'a Head, live: bool, lines: &'a Lines) -> Self {
        let present = lines
            .all
            .iter()
            .filter_map(|line| line.found.map(|found| found.number))
            .collect();
        Explaining {
            number,
            head,
            live,
            lines,
            present,
        }
    }

    fn finding(&self, kind: FindingKind, at: (u32, u64), message: String) -> Finding {
        Finding {
            kind,
            file: file_name(self.number, at.0),
            // Of a file that is not there, or is empty, there is none.
            line: (at.1 > 0).then_some(at.1),
            message,
        }
    }

    /// What is wrong.
    pub fn findings(&self) -> Findings {
        let head = self.head;
        let mut findings = Findings::default();
        let mut known = Hashes::new();
        known.insert(head.before.entries, [Some(head.before.hash), None]);
        let mut expected = head.before.entries.saturating_add(1);
        let mut seen: HashSet<u64> = HashSet::new();
        // Those that stand there beside what was written, by their bytes in the last file.
        let mut more: HashSet<usize> = HashSet::new();
        // Of all lines that are no entry the next one is found in one walk.
        let entries = self.lines.all.iter().enumerate();
        let mut entries = entries.filter_map(|(at, line)| Some((at, line.found?)));
        let mut next = entries.next();
        for (index, line) in self.lines.all.iter().enumerate() {
            let at = (line.segment, line.number);
            let Some(found) = line.found else {
                while next.is_some_and(|(at, _)| at < index) {
                    next = entries.next();
                }
                let next = next.map(|(_, found)| found);
                let (kind, message) = no_entry(line, next, expected, &known);
                if kind == FindingKind::Added {
                    more.insert(index);
                } else {
                    expected = expected.saturating_add(1);
                }
                findings.push(self.finding(kind, at, message));
                continue;
            };
            let number = found.number;
            if !seen.insert(number) {
                more.insert(index);
                let message = format!("entry {number} stands here a second time");
                findings.push(self.finding(FindingKind::Duplicated, at, message));
                continue;
            }
            if number != expected {
                self.out_of_order(at, number, expected, &mut findings);
            }
            let before = known.get(&(number - number.min(1))).copied();
            let computed = before.and_then(|[stored, _]| stored.map(|hash| found.computed(&hash)));
            let fits =
                before.is_none_or(|both| both.iter().flatten().any(|hash| found.follows(hash)));
            if !fits {
                let message = format!("entry {number} was changed, or the one before it was");
                findings.push(self.finding(FindingKind::Changed, at, message));
            }
            known.insert(number, [Some(found.hash), computed.filter(|_| !fits)]);
            expected = number.saturating_add(1);
        }
        self.head_fits(&more, &mut findings);
        self.ends(expected, &mut findings);
        findings
    }

    /// The head must name an end of a line in the last file, but for what there is `more`.
    fn head_fits(&self, more: &HashSet<usize>, findings: &mut Findings) {
        let mut begins = 0_u64;
        for (index, line) in self.lines.all.iter().enumerate() {
            if line.segment != self.head.segment || more.contains(&index) || !line.is_whole {
                continue;
            }
            let ends = begins.saturating_add(line.bytes);
            if begins < self.head.bytes && ends > self.head.bytes {
                let message = "its head ends in the middle of a line".to_owned();
                findings.push(self.finding(FindingKind::Head, (line.segment, 0), message));
            }
            begins = ends;
        }
    }

    /// Whether there are as many as the head knows, where this entry would be the next.
    fn ends(&self, expected: u64, findings: &mut Findings) {
        let head = self.head;
        let all = &self.lines.all;
        let last = all
            .last()
            .map_or((head.segment, 0), |last| (last.segment, last.number));
        let behind = u64::from(!self.live);
        // Counted rather than gone through: a damaged head may name any number.
        let wanted = head.at.entries.saturating_sub(expected.saturating_sub(1));
        let there = self
            .present
            .iter()
            .filter(|number| (expected..=head.at.entries).contains(number))
            .count();
        let missing = wanted.saturating_sub(there as u64);
        if missing > 0 {
            let message = match missing {
                1 if last.1 == 0 => format!("entry {expected}, the last, is missing"),
                _ if last.1 == 0 => format!("{missing} entries, from {expected} on, are missing"),
                1 => format!("entry {expected}, the last, is missing behind this line"),
                _ => format!(
                    "{missing} entries at the end, from {expected} on, are missing behind this line"
                ),
            };
            findings.push(self.finding(FindingKind::Cut, last, message));
        } else if expected > head.at.entries.saturating_add(1 + behind) {
            let message = format!(
                "the head knows {} entries, and this is the end of {}",
                head.at.entries,
                expected - 1
            );
            findings.push(self.finding(FindingKind::Added, last, message));
        }
    }

    fn out_of_order(&self, at: (u32, u64), number: u64, expected: u64, findings: &mut Findings) {
        if number < expected {
            let message = format!("entry {number} stands behind entry {}", expected - 1);
            findings.push(self.finding(FindingKind::Reordered, at, message));
            return;
        }
        let missing: Vec<u64> = (expected..number)
            .take(MAX_FINDINGS)
            .filter(|number| !self.present.contains(number))
            .collect();
        match (missing.first(), missing.len()) {
            (None, _) => {
                let message = format!("entry {number} stands before entry {expected}");
                findings.push(self.finding(FindingKind::Reordered, at, message));
            }
            (Some(first), 1) => {
                let message = format!("entry {first} is missing before this line");
                findings.push(self.finding(FindingKind::Missing, at, message));
            }
            (Some(first), _) => {
                let message = format!(
                    "entries {first} to {} are missing before this line",
                    number - 1
                );
                findings.push(self.finding(FindingKind::Missing, at, message));
            }
        }
    }
}

/// What became of a line that is none of ours, where this entry is to come, and the next one that is ours is that.
fn no_entry(
    line: &Line,
    next: Option<Found>,
    expected: u64,
    known: &Hashes,
) -> (FindingKind, String) {
    if !line.is_whole {
        let message = format!("it ends in the middle of entry {expected}");
        return (FindingKind::Cut, message);
    }
    let hashes = known.get(&expected.saturating_sub(1));
    let hashes = hashes.into_iter().flatten().flatten();
    let follows =
        |next: &Found| next.number == expected && hashes.clone().any(|hash| next.follows(hash));
    match next.filter(follows) {
        Some(_) => {
            let message = format!(
                "it is no line of the audit, and entry {expected} follows what stands before it"
            );
            (FindingKind::Added, message)
        }
        None => {
            let message = "it is no line of the audit".to_owned();
            (FindingKind::Changed, message)
        }
    }
}
