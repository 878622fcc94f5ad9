//! Entries that could not be written, as lines say that were written behind them.

use serde_json::Value;

use super::super::finding::{Finding, FindingKind};
use super::super::head::Head;

/// What the lines of one file say is lacking before them.
#[derive(Default)]
pub(super) struct Lacking {
    entries: u64,
    places: u64,
    /// The first line that says so, and since when.
    first: Option<(u64, String)>,
}

impl Lacking {
    /// Looks at a line.
    pub fn look(&mut self, line: &[u8], number: u64) {
        if !may_tell(line) {
            return;
        }
        let entry: Value = serde_json::from_slice(line).unwrap_or_default();
        let (Some(lost), Some(since)) = (entry["lost"].as_u64(), entry["lost_since"].as_str())
        else {
            return;
        };
        self.entries = self.entries.saturating_add(lost);
        self.places += 1;
        self.first.get_or_insert_with(|| (number, since.to_owned()));
    }

    /// What there is to say of a file.
    pub fn finding(self, file: String) -> Option<Finding> {
        let (line, since) = self.first?;
        let since = crate::text::named(&since, 40);
        let entries = counted(self.entries);
        let message = match self.places {
            1 => format!(
                "{entries} could not be written, from {since} on, and are lacking before this line"
            ),
            places => format!(
                "{entries} could not be written, at {places} places, of which this is the first, from {since} on"
            ),
        };
        Some(finding(file, Some(line), message))
    }
}

/// What no line says yet.
pub(super) fn behind(head: &Head, number: u32) -> Option<Finding> {
    let lost = head.lost;
    let message = format!(
        "{} could not be written, from {} on, and are lacking behind the last line",
        counted(lost.entries),
        lost.since()
    );
    (lost.entries > 0).then(|| finding(format!("{number:04}.head"), None, message))
}

fn finding(file: String, line: Option<u64>, message: String) -> Finding {
    Finding {
        kind: FindingKind::Lost,
        file,
        line,
        message,
    }
}

fn counted(entries: u64) -> String {
    match entries {
        1 => "1 entry".to_owned(),
        more => format!("{more} entries"),
    }
}

/// Whether it is of a kind that says what is lacking. Most lines are not.
fn may_tell(line: &[u8]) -> bool {
    let behind = |rest: &[u8], mark: &[u8]| {
        let at = rest
            .windows(mark.len())
            .take(64)
            .position(|part| part == mark);
        at.map(|at| at + mark.len())
    };
    let Some(at) = behind(line, b",\"kind\":\"") else {
        return false;
    };
    let kind = &line[at..];
    kind.starts_with(b"resumed\"") || kind.starts_with(b"opened\"")
}
