//! A chain that is written: each line to its file, or while many come, first to its tail.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime};

use chrono::Utc;
use serde_json::json;

use super::chain::{Found, Position, digest};
use super::folder::{AuditError, Folder, Open, failed};
use super::head::{Head, Lost};
use super::line::{Line, MAX_LINE, hex};
use super::tail::{TAIL_BYTES, Tail};
use crate::limits::Limits;

/// The longest body of a line, in bytes: with its number and hash it is one that is read back.
pub(super) const MAX_BODY: usize = MAX_LINE as usize - 256;

/// What is written to. The lock on the head's file says whose it is.
pub(super) struct Chain {
    pub number: u32,
    /// As it stands in its file.
    pub head: Head,
    pub head_file: File,
    pub file: File,
    /// Where the chain stands, with what stands in the tail.
    pub at: Position,
    /// What stands in the tail.
    pub waiting: Vec<u8>,
    pub tail: Option<Tail>,
    /// Whether there can be no tail.
    pub tailless: bool,
    /// Whether what stands in the tail could not be put into the file.
    pub stuck: bool,
    /// Whether nobody empties the tail.
    pub resting: bool,
    pub pace: Pace,
    /// Used again and again: a line, and the head.
    pub text: Vec<u8>,
    pub head_text: Vec<u8>,
    /// Whether something stands in the file behind the head that is to be removed.
    pub torn: bool,
    /// The line that the file is to begin with, where it is not written yet: `Some(None)`, or what the
    /// file before ended with that is no line.
    pub opening: Option<Option<Torn>>,
}

/// What a file ends with that is no line: the file's number, and the length and hash of that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Torn {
    segment: u32,
    bytes: usize,
    digest: [u8; 32],
}

/// How fast lines come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    since: i64,
    lines: u32,
}

impl Pace {
    /// In this time, in microseconds,
    const TIME: i64 = 10_000;
    /// so many lines are many.
    const MANY: u32 = 8;

    /// Whether many come, this one at that time. Once that is so, it stays so.
    fn is_fast(&mut self, now: i64) -> bool {
        if self.lines > Pace::MANY {
            return true;
        }
        if !(0..Pace::TIME).contains(&now.saturating_sub(self.since)) {
            *self = Pace {
                since: now,
                lines: 0,
            };
        }
        self.lines += 1;
        self.lines > Pace::MANY
    }
}

impl Chain {
    /// Adds an entry, behind the line that its file begins with.
    pub fn add(
        &mut self,
        folder: &Folder,
        process: u32,
        body: &[u8],
        digest: &[u8; 32],
        now: i64,
    ) -> Result<(), AuditError> {
        if body.len() > MAX_BODY {
            return Err(AuditError::TooLong { bytes: body.len() });
        }
        if let Some(torn) = self.opening {
            self.opened(folder, process, torn)?;
            self.opening = None;
        }
        if self.stuck {
            self.empty(folder)?;
        }
        let at = self.seal(body, digest);
        if self.pace.is_fast(now) && self.put_aside(folder)? {
            self.at = at;
            return Ok(());
        }
        self.append(folder, at)
    }

    /// Counts entries that could not be written, also in the head: that has its room on the disk.
    pub fn lose(&mut self, folder: &Folder, lost: Lost) {
        self.head.lost.join(lost);
        // Where that fails as well, this process knows of it.
        let _ = self.write_head(folder);
    }

    /// Says that entries can be written again, and how many are lacking before it; those are given.
    pub fn resumed(&mut self, folder: &Folder, process: u32) -> Result<Lost, AuditError> {
        if let Some(torn) = self.opening {
            self.opened(folder, process, torn)?;
            self.opening = None;
        }
        // With that the head is written, which must not say yet that nothing is lost.
        self.empty(folder)?;
        let mut line = Line::default();
        line.begin(Utc::now());
        line.field("process", &process);
        line.field("kind", "resumed");
        let lost = self.make_up(&mut line);
        let at = self.seal(line.bytes(), &digest(line.bytes()));
        let written = self.append(folder, at);
        if written.is_err() {
            self.head.lost = lost;
            let _ = self.write_head(folder);
        }
        written.map(|()| lost)
    }

    /// Has a line say what is lost before it. Once it is written, nothing is.
    fn make_up(&mut self, line: &mut Line) -> Lost {
        let lost = std::mem::take(&mut self.head.lost);
        if lost.entries > 0 {
            line.field("lost", &lost.entries);
            line.field("lost_since", &lost.since());
        }
        lost
    }

    /// Makes the line of a body in `text`; where the chain stands behind it.
    fn seal(&mut self, body: &[u8], digest: &[u8; 32]) -> Position {
        let at = self.at.after(digest);
        self.text.clear();
        self.text.extend_from_slice(body);
        at.seal(&mut self.text);
        at
    }

    /// Adds the line in `text` to the tail, where there can be one and it has room.
    fn put_aside(&mut self, folder: &Folder) -> Result<bool, AuditError> {
        if self.tailless || self.text.len() > TAIL_BYTES {
            return Ok(false);
        }
        if self.waiting.len() + self.text.len() > TAIL_BYTES {
            self.empty(folder)?;
        }
        if self.tail.is_none() {
            let made = Tail::make(folder, self.number, &self.head_file);
            self.tail = made.unwrap_or_else(|error| {
                tracing::warn!(%error, "the audit has no tail, and is slower");
                None
            });
            self.tailless = self.tail.is_none();
        }
        let Some(tail) = &mut self.tail else {
            return Ok(false);
        };
        if !tail.add(self.waiting.len(), &self.text) {
            return Ok(false);
        }
        self.waiting.extend_from_slice(&self.text);
        // It has room for less than 4 GiB.
        self.head.tail = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        Ok(true)
    }

    /// Puts what stands in the tail into its file.
    pub fn empty(&mut self, folder: &Folder) -> Result<(), AuditError> {
        self.stuck = false;
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        let written = self.write_out(folder, &waiting, self.at);
        match &written {
            Ok(()) => waiting.clear(),
            Err(_) => self.stuck = true,
        }
        self.waiting = waiting;
        if self.tail.as_ref().is_some_and(|tail| !tail.stands()) {
            // Somebody removed it, or cut it short: what is put there from now on would be lost with us.
            self.tail = None;
        }
        written
    }

    /// How many bytes the file has, with what is to come into it from the tail.
    pub fn bytes(&self) -> u64 {
        self.head.bytes + self.waiting.len() as u64
    }

    /// Whether somebody is to be roused who empties the tail. Asked once, that is so.
    pub fn rouses(&mut self) -> bool {
        self.resting && !self.waiting.is_empty() && {
            self.resting = false;
            true
        }
    }

    /// Whether nothing stands in the tail, so that whoever empties it may rest.
    pub fn rests(&mut self) -> bool {
        self.resting = self.waiting.is_empty();
        if self.resting {
            self.pace = Pace::default();
        }
        self.resting
    }

    /// Writes each line to the file from now on.
    pub fn do_without_tail(&mut self, folder: &Folder) {
        self.tailless = true;
        // Where that fails, it stays where it is, and the next entry tries again.
        let _ = self.empty(folder);
    }

    /// Nothing more comes.
    pub fn close(&mut self, folder: &Folder, process: u32) {
        if self.head.lost.entries > 0 {
            // Where that fails, the next that writes this chain says so.
            let _ = self.resumed(folder, process);
        }
        if let Err(error) = self.empty(folder) {
            tracing::error!(%error, "the audit cannot be written: its last entries stay in its tail");
        } else if self.tail.take().is_some() {
            let _ = std::fs::remove_file(folder.tail(self.number));
        }
        // A process that is being started meanwhile has the file open, too, for a moment.
        let _ = self.head_file.unlock();
    }

    /// Says who writes from here on.
    pub fn opened(
        &mut self,
        folder: &Folder,
        process: u32,
        torn: Option<Torn>,
    ) -> Result<(), AuditError> {
        // With that the head is written, which must not say yet that nothing is lost.
        self.empty(folder)?;
        let mut line = Line::default();
        line.begin(Utc::now());
        line.field("process", &process);
        line.field("kind", "opened");
        let lost = self.make_up(&mut line);
        line.field("chain", &self.head.chain);
        line.field("version", env!("CARGO_PKG_VERSION"));
        line.field("limits", &Limits::default());
        if let Some(torn) = torn {
            let sha256 = String::from_utf8_lossy(&hex(&torn.digest)).into_owned();
            line.field(
                "torn",
                &json!({"segment": torn.segment, "bytes": torn.bytes, "sha256": sha256}),
            );
        }
        let at = self.seal(line.bytes(), &digest(line.bytes()));
        let written = self.append(folder, at);
        if written.is_err() {
            self.head.lost = lost;
            let _ = self.write_head(folder);
        }
        written
    }

    /// Adds the line in `text` to the file, behind what stands in the tail.
    fn append(&mut self, folder: &Folder, at: Position) -> Result<(), AuditError> {
        self.empty(folder)?;
        let line = std::mem::take(&mut self.text);
        let written = self.write_out(folder, &line, at);
        self.text = line;
        written?;
        self.at = at;
        Ok(())
    }

    /// Writes lines to the file, of which the last is that one: all, or none.
    fn write_out(&mut self, folder: &Folder, lines: &[u8], at: Position) -> Result<(), AuditError> {
        let path = || folder.segment(self.number, self.head.segment);
        if self.torn {
            self.file
                .set_len(self.head.bytes)
                .map_err(|error| failed("repair", &path())(error))?;
            self.torn = false;
        }
        if let Err(error) = self.file.write_all(lines) {
            let error = failed("write", &path())(error);
            self.torn = self.file.set_len(self.head.bytes).is_err();
            return Err(error);
        }
        let before = self.head;
        self.head.at = at;
        self.head.bytes += lines.len() as u64;
        self.head.tail = 0;
        self.write_head(folder).inspect_err(|_| {
            // Without its head it would count as none: away with it.
            self.head = before;
            self.torn = self.file.set_len(before.bytes).is_err();
        })
    }

    pub fn write_head(&mut self, folder: &Folder) -> Result<(), AuditError> {
        self.head_text.clear();
        self.head.write(&mut self.head_text);
        self.head_file
            .write_all_at(&self.head_text, 0)
            .map_err(|error| failed("write", &folder.head(self.number))(error))
    }

    /// Goes on in the next file; `torn`: what stands at the end of this one and is no line.
    pub fn rotate(
        &mut self,
        folder: &Folder,
        process: u32,
        torn: Option<&[u8]>,
    ) -> Result<(), AuditError> {
        self.empty(folder)?;
        let before = self.head;
        let next = Head {
            segment: before.segment.saturating_add(1),
            bytes: 0,
            ..before
        };
        // First the file, so that a full disk stops it here; one that is there is of a process that
        // died at this very place.
        let file = segment(folder, self.number, &next)?;
        self.head = next;
        if let Err(error) = self.write_head(folder) {
            self.head = before;
            return Err(error);
        }
        self.file = file;
        let torn = torn.map(|rest| Torn {
            segment: before.segment,
            bytes: rest.len(),
            digest: digest(rest),
        });
        // Should it fail, the next entry writes it first.
        self.opening = Some(torn);
        self.opened(folder, process, torn)?;
        self.opening = None;
        Ok(())
    }

    /// Removes files whose last entry is old, the first first.
    pub fn forget(&mut self, folder: &Folder, keep: Duration) {
        let Some(oldest) = SystemTime::now().checked_sub(keep) else {
            return;
        };
        while self.head.first < self.head.segment {
            let path = folder.segment(self.number, self.head.first);
            let Ok(file) = folder.open(&path, Open::Read) else {
                return;
            };
            let old = file
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|modified| modified < oldest);
            let Some(last) = old.then(|| last_line(&file)).flatten() else {
                return;
            };
            let before = self.head;
            self.head.first += 1;
            self.head.before = last.position();
            // First the head: a file that is too many is no harm.
            if self.write_head(folder).is_err() {
                self.head = before;
                return;
            }
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, "an old file of the audit cannot be removed");
            }
        }
    }
}

/// The file that a head names, which is empty.
pub(super) fn segment(folder: &Folder, number: u32, head: &Head) -> Result<File, AuditError> {
    let path = folder.segment(number, head.segment);
    match folder.open(&path, Open::AppendNew) {
        Ok(file) => Ok(file),
        Err(error) => {
            let file = folder.open(&path, Open::Append)?;
            let length = file.metadata().map_err(failed("read", &path))?.len();
            if length == 0 { Ok(file) } else { Err(error) }
        }
    }
}

/// The last whole line of a file.
fn last_line(file: &File) -> Option<Found> {
    let length = file.metadata().ok()?.len();
    let from = length.saturating_sub(MAX_LINE);
    let mut rest = vec![0; usize::try_from(length - from).ok()?];
    file.read_exact_at(&mut rest, from).ok()?;
    let end = rest.iter().rposition(|byte| *byte == b'\n')?;
    let start = rest[..end]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    Found::parse(&rest[start..end])
}
