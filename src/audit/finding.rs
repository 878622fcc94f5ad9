//! What is found where an audit is verified.

use std::fmt;

use serde::Serialize;

/// What became of an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Each chain, by its number.
    pub chains: Vec<ChainReport>,
    /// What is not as it was written, and what is worth knowing. Of one chain, 1,000 damages are told at most.
    pub findings: Vec<Finding>,
    /// How many damages were found beside those that are told.
    pub more_findings: u64,
}

impl Verification {
    /// Whether nothing was changed, taken away or added since it was written.
    pub fn is_sound(&self) -> bool {
        self.damages() == 0
    }

    /// How many damages were found, those that are not told among them.
    pub fn damages(&self) -> u64 {
        let told = self.findings.iter();
        let told = told.filter(|finding| finding.kind.is_damage()).count();
        self.more_findings.saturating_add(told as u64)
    }

    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.chains.iter().map(|chain| chain.kept).sum()
    }
}

/// How one chain stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// Its number, with which its files' names begin.
    pub chain: u32,
    /// Whether its lines were held against its head, and each is there as it was written; what is not is among the
    /// findings. Where the head does not say how far it goes, lines are only counted, and none is verified.
    pub verified: bool,
    /// How many entries were ever written to it. With `hash`, keep this elsewhere to be sure of all
    /// before it. Of a chain that is not verified it is what its head, or without one its last line, says, and nothing
    /// to keep.
    pub entries: u64,
    /// How many of them are kept.
    pub kept: u64,
    /// The hash of the last, as hexadecimal digits; as `entries`, nothing to keep where it is not verified.
    pub hash: String,
    /// How many files it has.
    pub files: u32,
    /// Whether a process writes it now.
    pub live: bool,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind it is.
    pub kind: FindingKind,
    /// In which file of the folder.
    pub file: String,
    /// In which line of it, counted from 1; where one is missing, that before which it stood.
    pub line: Option<u64>,
    /// The rest, in a sentence.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The most damages of one chain that are told one by one.
pub(super) const MAX_FINDINGS: usize = 1_000;

/// What is found of one chain. Damages that are too many to be told are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub told: Vec<Finding>,
    pub more: u64,
}

impl Findings {
    pub fn push(&mut self, finding: Finding) {
        // Of what is no damage, a file has two at most.
        match finding.kind.is_damage() && self.told.len() >= MAX_FINDINGS {
            true => self.more = self.more.saturating_add(1),
            false => self.told.push(finding),
        }
    }

    /// Whether there is any damage.
    pub fn are_damage(&self) -> bool {
        self.more > 0 || self.told.iter().any(|finding| finding.kind.is_damage())
    }
}

impl Extend<Finding> for Findings {
    fn extend<T: IntoIterator<Item = Finding>>(&mut self, findings: T) {
        findings.into_iter().for_each(|finding| self.push(finding));
    }
}

/// What is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// A line was changed, or is none of ours.
    Changed,
    /// Lines are missing.
    Missing,
    /// A line stands elsewhere than it was written.
    Reordered,
    /// A line stands there twice.
    Duplicated,
    /// Lines at the end are missing.
    Cut,
    /// Lines were added.
    Added,
    /// A file is missing.
    Removed,
    /// The head of a chain, or the count of chains, was changed.
    Head,
    /// The last line was not finished: its process died while it wrote it. No damage.
    Torn,
    /// A file that is not the audit's. No damage.
    Foreign,
    /// Entries could not be written, as on a full disk. Nobody has changed anything, and they are lacking.
    Lost,
}

impl FindingKind {
    /// Whether somebody, or something, did that after it was written.
    pub fn is_damage(self) -> bool {
        !matches!(
            self,
            FindingKind::Torn | FindingKind::Foreign | FindingKind::Lost
        )
    }

    /// The name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            FindingKind::Changed => "changed",
            FindingKind::Missing => "missing",
            FindingKind::Reordered => "reordered",
            FindingKind::Duplicated => "duplicated",
            FindingKind::Cut => "cut",
            FindingKind::Added => "added",
            FindingKind::Removed => "removed",
            FindingKind::Head => "head",
            FindingKind::Torn => "torn",
            FindingKind::Foreign => "foreign",
            FindingKind::Lost => "lost",
        }
    }
}
