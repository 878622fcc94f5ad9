//! The tail of a chain, and what of it stands in the last file already.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::super::chain::Found;
use super::super::finding::{Finding, FindingKind};
use super::super::folder::{AuditError, failed, segment_name, tail_name};
use super::super::tail::forgotten;
use super::Reading;

/// The number of a file of a chain that stands for its tail.
pub(super) const TAIL: u32 = u32::MAX;

pub(in crate::audit) fn file_name(chain: u32, segment: u32) -> String {
    match segment {
        TAIL => tail_name(chain),
        _ => segment_name(chain, segment),
    }
}

impl Reading<'_> {
    /// The lines that are not in a file yet.
    pub(super) fn tail(&mut self) {
        let ended = self.ended;
        let Some(tail) = &ended.tail else {
            let message = "the file is missing".to_owned();
            return self.find(FindingKind::Removed, TAIL, None, message);
        };
        if tail.len() < self.head.tail as usize {
            let message = "it is shorter than its head says".to_owned();
            self.find(FindingKind::Cut, TAIL, None, message);
        }
        let changed = |this: &mut Self, line| {
            let message = "is not the line that was written here".to_owned();
            this.find(FindingKind::Changed, TAIL, Some(line), message);
        };
        let mut number = 0;
        for line in ended.lines().split_inclusive(|byte| *byte == b'\n') {
            number += 1;
            let found = line.strip_suffix(b"\n").and_then(Found::parse);
            self.note(TAIL, number, line.len() as u64, found);
            match found {
                Some(found) if found.comes_after(&self.at) => self.at = found.position(),
                _ => {
                    changed(self, number);
                    if self.lines.is_none() {
                        return;
                    }
                    self.at = found.map_or(self.at, |found| found.position());
                }
            }
        }
        if self.live {
            return;
        }
        // Its process may have died before it had one more count, and no more than that.
        if self.at.following(ended.beyond()) > 1 {
            let message = "the head knows nothing of the lines behind this one".to_owned();
            self.tell(Finding {
                kind: FindingKind::Head,
                file: file_name(self.number, TAIL),
                line: Some(number),
                message,
            });
        }
    }

    /// Lines of a tail of which the head says that nothing counts. What stood in it before has other
    /// numbers; one more its process may not have come to have count.
    pub(super) fn forgotten(&mut self) -> Result<(), AuditError> {
        if forgotten(self.folder, self.number, self.head.at)? > 1 {
            self.tell(Finding {
                kind: FindingKind::Head,
                file: file_name(self.number, TAIL),
                line: Some(1),
                message: "the head knows nothing of the lines from this one on".to_owned(),
            });
        }
        Ok(())
    }

    /// What stands in the last file behind what the head knows, where there is a tail: the beginning of that,
    /// where its process died while it put that there.
    pub(super) fn put_there(
        &mut self,
        file: &File,
        segment: u32,
        length: u64,
    ) -> Result<(), AuditError> {
        let path = self.folder.segment(self.number, segment);
        let ended = self.ended;
        let lines = ended.follows().map_or(ended.lines(), |(_, lines)| lines);
        let rest = length.saturating_sub(self.head.bytes);
        let mut same = rest <= lines.len() as u64;
        if same {
            // No more than a tail has room for.
            let mut bytes = vec![0; usize::try_from(rest).unwrap_or_default()];
            file.read_exact_at(&mut bytes, self.head.bytes)
                .map_err(failed("read", &path))?;
            same = lines.starts_with(&bytes);
        }
        if !same {
            let message = "the head knows nothing of what stands at its end".to_owned();
            self.tell(Finding {
                kind: FindingKind::Added,
                file: segment_name(self.number, segment),
                line: None,
                message,
            });
        }
        Ok(())
    }
}
