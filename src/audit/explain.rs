//! What was done to a chain of which something is wrong, by all its lines.

use std::collections::{HashMap, HashSet};

use super::chain::{Found, Hash};
use super::finding::{Finding, FindingKind};
use super::head::Head;
use super::verify::file_name;

/// The most findings of one chain that are told one by one.
pub(super) const MAX_FINDINGS: usize = 1_000;

/// Every line of a chain, where it stands.
#[derive(Default)]
pub(super) struct Lines {
    pub all: Vec<(u32, u64, Option<Found>)>,
    pub other: Vec<Finding>,
}

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
            .filter_map(|(_, _, found)| found.map(|found| found.number))
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
    pub fn findings(&self) -> Vec<Finding> {
        let head = self.head;
        let mut findings = Vec::new();
        // Hashes by number: as they stand there, and as they would have to be.
        let mut known: HashMap<u64, [Option<Hash>; 2]> = HashMap::new();
        known.insert(head.before.entries, [Some(head.before.hash), None]);
        let mut expected = head.before.entries.saturating_add(1);
        let mut seen: HashSet<u64> = HashSet::new();
        for &(segment, line, found) in &self.lines.all {
            let at = (segment, line);
            let Some(found) = found else {
                let message = "was changed: it is no line of the audit".to_owned();
                findings.push(self.finding(FindingKind::Changed, at, message));
                expected = expected.saturating_add(1);
                continue;
            };
            let number = found.number;
            if !seen.insert(number) {
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
        let last = self
            .lines
            .all
            .last()
            .map_or((head.segment, 0), |last| (last.0, last.1));
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
        findings
    }

    fn out_of_order(
        &self,
        at: (u32, u64),
        number: u64,
        expected: u64,
        findings: &mut Vec<Finding>,
    ) {
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
