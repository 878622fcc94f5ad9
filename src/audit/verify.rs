//! Whether every line is there, as it was written.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use serde_json::Value;

use super::chain::{Found, Hash, Position, digest};
use super::explain::{Explaining, Line, Lines};
use super::finding::{ChainReport, Finding, FindingKind, Findings, MAX_FINDINGS, Verification};
use super::folder::{
    AuditError, CHAINS, Folder, MAX_CHAINS, Open, chain_of, failed, parse_segment, segment_name,
};
use super::head::Head;
use super::line::{hex, next_line};
use super::tail::Ended;

mod counted;
mod lost;
mod tail;

use counted::counted;
use lost::Lacking;
use tail::TAIL;
pub(super) use tail::file_name;

/// How often a chain is read anew that is being written meanwhile.
const ROUNDS: usize = 5;

/// Looks at every file of an audit. It may be written meanwhile.
///
/// # Errors
/// Where the folder cannot be read, or is not this user's alone. What is wrong with what is in it is
/// in the answer.
pub fn verify(folder: impl AsRef<Path>) -> Result<Verification, AuditError> {
    let folder = Folder::at(folder.as_ref())?;
    let mut findings = Vec::new();
    let names = folder.names()?;
    let mut numbers: HashSet<u32> = HashSet::new();
    for name in &names {
        match chain_of(name) {
            Some(number) if (1..=MAX_CHAINS).contains(&number) => drop(numbers.insert(number)),
            _ if name == CHAINS => {}
            _ => findings.push(Finding {
                kind: FindingKind::Foreign,
                file: name.clone(),
                line: None,
                message: "is not a file of the audit".to_owned(),
            }),
        }
    }
    let highest = numbers.iter().max().copied().unwrap_or(0);
    let head_finding = |message: &str| Finding {
        kind: FindingKind::Head,
        file: CHAINS.to_owned(),
        line: None,
        message: message.to_owned(),
    };
    let count = match folder.chains() {
        Ok(Some(count)) => count,
        Ok(None) if numbers.is_empty() => 0,
        Ok(None) => {
            findings.push(head_finding("is missing"));
            highest
        }
        Err(AuditError::Unsafe { reason, .. }) => {
            findings.push(head_finding(&reason));
            highest
        }
        Err(error) => return Err(error),
    };
    // A process that died may have begun one more, and written its first line.
    let untouched = |number| {
        let empty =
            std::fs::symlink_metadata(folder.head(number)).is_ok_and(|head| head.len() == 0);
        let segments = names.iter().filter_map(|name| parse_segment(name));
        empty && !segments.into_iter().any(|(chain, _)| chain == number)
    };
    let begun = |number| {
        let head = folder.read_head(number);
        matches!(head, Ok(Some(head)) if head.at.entries <= 1 && head.segment == 1)
            || untouched(number)
    };
    if highest > count + 1 || (highest == count + 1 && !begun(highest)) {
        findings.push(head_finding("counts fewer chains than there are"));
    }
    let (mut chains, mut more_findings) = (Vec::new(), 0_u64);
    for number in 1..=highest.max(count) {
        if !numbers.contains(&number) {
            findings.push(Finding {
                kind: FindingKind::Removed,
                file: format!("{number:04}.head"),
                line: None,
                message: "the chain is missing, with all its files".to_owned(),
            });
            continue;
        }
        // Its process died before it wrote the head.
        if number > count && untouched(number) {
            continue;
        }
        let (report, found) = chain(&folder, number)?;
        chains.extend(report);
        findings.extend(found.told);
        more_findings = more_findings.saturating_add(found.more);
    }
    Ok(Verification {
        chains,
        findings,
        more_findings,
    })
}

type Looked = (Option<ChainReport>, Findings);

/// Looks at a chain; again, where it was written meanwhile.
fn chain(folder: &Folder, number: u32) -> Result<Looked, AuditError> {
    let mut looked = look(folder, number)?;
    for _ in 1..ROUNDS {
        if !looked.1.are_damage() {
            break;
        }
        let again = look(folder, number)?;
        // What is damaged stays so.
        if again == looked {
            break;
        }
        looked = again;
    }
    Ok(looked)
}

fn look(folder: &Folder, number: u32) -> Result<Looked, AuditError> {
    let head_name = format!("{number:04}.head");
    let about_head = |kind, message: &str| Finding {
        kind,
        file: head_name.clone(),
        line: None,
        message: message.to_owned(),
    };
    let path = folder.head(number);
    let head_file = match folder.open(&path, Open::Read) {
        Ok(file) => file,
        Err(error) if !path.exists() => {
            let _ = error;
            let finding = about_head(FindingKind::Removed, "the head is missing");
            return counted(folder, number, false, finding);
        }
        Err(error) => {
            let finding = about_head(FindingKind::Head, &error.to_string());
            return counted(folder, number, false, finding);
        }
    };
    // A writer holds it for itself.
    let live = head_file.try_lock_shared().is_err();
    if !live {
        let _ = head_file.unlock();
    }
    let Some(ended) = Ended::read(folder, number, &head_file)? else {
        let finding = about_head(FindingKind::Head, "is not as it was written");
        return counted(folder, number, live, finding);
    };
    let head = ended.head;
    let mut reading = Reading {
        folder,
        number,
        head,
        ended: &ended,
        live,
        findings: Findings::default(),
        at: head.before,
        torn: None,
        lines: None,
    };
    reading.strictly()?;
    if reading.findings.are_damage() {
        // Something is wrong: once more, and find out what.
        reading = Reading {
            findings: Findings::default(),
            at: head.before,
            torn: None,
            lines: Some(Lines::default()),
            ..reading
        };
        reading.strictly()?;
        let explained = reading.explained();
        reading.findings = explained;
    }
    let findings = reading.findings;
    let at = match head.tail {
        0 => head.at,
        _ => ended.counted().unwrap_or(head.at),
    };
    let report = ChainReport {
        chain: number,
        verified: !findings.are_damage(),
        entries: at.entries,
        kept: at.entries.saturating_sub(head.before.entries),
        hash: String::from_utf8_lossy(&hex(&at.hash)).into_owned(),
        files: head.segment - head.first + 1,
        live,
    };
    Ok((Some(report), findings))
}

/// A chain that is being read.
struct Reading<'a> {
    folder: &'a Folder,
    number: u32,
    head: Head,
    ended: &'a Ended,
    live: bool,
    findings: Findings,
    at: Position,
    /// What the file before ended with that is no line: its number, length and hash.
    torn: Option<(u32, u64, Hash)>,
    /// Every line, where it is to be found out what is wrong.
    lines: Option<Lines>,
}

impl Reading<'_> {
    fn find(&mut self, kind: FindingKind, segment: u32, line: Option<u64>, message: String) {
        let finding = Finding {
            kind,
            file: file_name(self.number, segment),
            line,
            message,
        };
        // Whatever is about lines is found out anew from all of them.
        match &mut self.lines {
            Some(lines) if line.is_none() => lines.other.push(finding),
            Some(_) => {}
            None => self.findings.push(finding),
        }
    }

    /// Keeps a line that has its end, where it is to be found out what is wrong.
    fn note(&mut self, segment: u32, number: u64, bytes: u64, found: Option<Found>) {
        if let Some(lines) = &mut self.lines {
            lines.all.push(Line {
                segment,
                number,
                bytes,
                is_whole: true,
                found,
            });
        }
    }

    /// Every line must be the next. Ends at the first that is not, unless all are to be gathered.
    fn strictly(&mut self) -> Result<(), AuditError> {
        let head = self.head;
        let mut missing = 0;
        for segment in head.first..=head.segment {
            let path = self.folder.segment(self.number, segment);
            let last = segment == head.segment;
            let file = match self.folder.open(&path, Open::Read) {
                Ok(file) => file,
                // It is made a moment later than the head names it.
                Err(_) if !path.exists() && last && head.bytes == 0 => continue,
                Err(_) if !path.exists() => {
                    self.find(
                        FindingKind::Removed,
                        segment,
                        None,
                        "the file is missing".to_owned(),
                    );
                    missing += 1;
                    // A damaged head may name any number.
                    if missing > MAX_FINDINGS {
                        break;
                    }
                    continue;
                }
                Err(error) => {
                    self.find(FindingKind::Changed, segment, None, error.to_string());
                    continue;
                }
            };
            self.segment(&file, segment, last)?;
        }
        // A line that was torn by a crash is no reason not to look.
        if self.lines.is_none() && !self.findings.are_damage() && self.at != head.at {
            let missing = head.at.entries.saturating_sub(self.at.entries);
            self.find(
                FindingKind::Cut,
                head.segment,
                None,
                match missing {
                    0 => "the last line is not the one that the head names".to_owned(),
                    _ => format!("{missing} lines at the end are missing"),
                },
            );
        }
        if let Some(finding) = lost::behind(&head, self.number) {
            self.tell(finding);
        }
        if head.tail > 0 {
            self.tail();
        } else if !self.live {
            self.forgotten()?;
        }
        self.beyond()
    }

    /// A file after the last must be empty, as that of a process that died when it made it.
    fn beyond(&mut self) -> Result<(), AuditError> {
        if self.live {
            return Ok(());
        }
        let next = self.head.segment.saturating_add(1);
        for name in self.folder.names()? {
            let Some((chain, segment)) = parse_segment(&name) else {
                continue;
            };
            if chain != self.number || segment <= self.head.segment {
                continue;
            }
            let length = std::fs::symlink_metadata(self.folder.path().join(&name))
                .map_or(0, |metadata| metadata.len());
            if segment > next || length > 0 {
                let message = "the head knows nothing of this file".to_owned();
                self.find(FindingKind::Added, segment, None, message);
            }
        }
        Ok(())
    }

    fn segment(&mut self, file: &File, segment: u32, last: bool) -> Result<(), AuditError> {
        let path = self.folder.segment(self.number, segment);
        let length = file.metadata().map_err(failed("read", &path))?.len();
        // What a living process is about to write is not to be judged yet.
        let tailed = last && self.head.tail > 0;
        let most = match last && self.live || tailed {
            true => self.head.bytes,
            false => length,
        };
        if tailed && !self.live && length > most {
            self.put_there(file, segment, length)?;
        }
        let mut reader = BufReader::with_capacity(1 << 16, file).take(most);
        let (mut line, mut number, mut offset) = (Vec::new(), 0_u64, 0_u64);
        let mut known = 0;
        let mut lacking = Lacking::default();
        loop {
            line.clear();
            let read = next_line(&mut reader, &mut line).map_err(failed("read", &path))?;
            if read == 0 {
                break;
            }
            number += 1;
            let begins = offset;
            offset += read;
            let whole = line.last() == Some(&b'\n');
            let behind = last && begins >= self.head.bytes;
            if !whole {
                self.unfinished(segment, number, &line, last, behind);
                break;
            }
            if !behind {
                known = offset;
            }
            line.pop();
            let found = Found::parse(&line);
            self.note(segment, number, read, found);
            if number == 1 {
                self.begins_with(&line, segment);
            }
            lacking.look(&line, number);
            if behind && begins > self.head.bytes {
                self.find(
                    FindingKind::Added,
                    segment,
                    Some(number),
                    "the head knows nothing of this line".to_owned(),
                );
                continue;
            }
            match found {
                Some(found)
                    if found.number == self.at.entries.saturating_add(1)
                        && found.follows(&self.at.hash) =>
                {
                    // One line may be ahead of the head, where its process died in between.
                    if !behind {
                        self.at = Position {
                            entries: found.number,
                            hash: found.hash,
                        };
                    }
                }
                _ => {
                    self.find(
                        FindingKind::Changed,
                        segment,
                        Some(number),
                        "is not the line that was written here".to_owned(),
                    );
                    if self.lines.is_none() {
                        return Ok(());
                    }
                    if let Some(found) = found {
                        self.at = Position {
                            entries: found.number,
                            hash: found.hash,
                        };
                    }
                }
            }
        }
        if let Some(finding) = lacking.finding(segment_name(self.number, segment)) {
            self.tell(finding);
        }
        // Of all lines it is told where they are explained.
        if last && known > self.head.bytes && self.lines.is_none() {
            let message = "its head ends in the middle of a line".to_owned();
            self.find(FindingKind::Head, segment, None, message);
        }
        if last && offset < self.head.bytes && self.lines.is_some() {
            // Told by the lines that are missing.
        } else if last && offset < self.head.bytes {
            let message = "it is shorter than its head says".to_owned();
            self.find(FindingKind::Cut, segment, None, message);
        }
        Ok(())
    }

    /// A line without its end, at the end of a file.
    fn unfinished(&mut self, segment: u32, number: u64, line: &[u8], last: bool, behind: bool) {
        if !last {
            // The next file must say so.
            self.torn = Some((segment, line.len() as u64, digest(line)));
            self.tell_torn(segment, number);
        } else if behind {
            self.tell_torn(segment, number);
        } else {
            if let Some(lines) = &mut self.lines {
                lines.all.push(Line {
                    segment,
                    number,
                    bytes: line.len() as u64,
                    is_whole: false,
                    found: None,
                });
            }
            self.find(
                FindingKind::Changed,
                segment,
                Some(number),
                "was cut short".to_owned(),
            );
        }
    }

    /// The first line of a file must say what the file before ended with that is no line.
    fn begins_with(&mut self, line: &[u8], segment: u32) {
        let found = self.torn.take().map(|(of, bytes, hash)| {
            let digits = String::from_utf8_lossy(&hex(&hash)).into_owned();
            (u64::from(of), bytes, digits)
        });
        let entry: Value = serde_json::from_slice(line).unwrap_or_default();
        if entry["chain"].as_str() != Some(&self.head.chain.to_string()) {
            let finding = Finding {
                kind: FindingKind::Head,
                file: format!("{:04}.head", self.number),
                line: None,
                message: format!(
                    "names another chain than {}",
                    segment_name(self.number, segment)
                ),
            };
            self.tell(finding);
        }
        // Of a file that is no longer kept there is nothing to compare.
        let said = torn_before(&entry).filter(|said| said.0 >= u64::from(self.head.first));
        if found == said {
            return;
        }
        let of = said
            .or(found)
            .map_or(segment, |torn| u32::try_from(torn.0).unwrap_or(segment));
        let finding = Finding {
            kind: FindingKind::Changed,
            file: segment_name(self.number, of),
            line: None,
            message: "does not end as the file behind it says".to_owned(),
        };
        self.tell(finding);
    }

    fn tell(&mut self, finding: Finding) {
        match &mut self.lines {
            Some(lines) => lines.other.push(finding),
            None => self.findings.push(finding),
        }
    }

    fn tell_torn(&mut self, segment: u32, number: u64) {
        let finding = Finding {
            kind: FindingKind::Torn,
            file: segment_name(self.number, segment),
            line: Some(number),
            message: "was not finished: its process died while it wrote it".to_owned(),
        };
        self.tell(finding);
    }

    /// What is wrong, by all lines.
    fn explained(&self) -> Findings {
        let Some(lines) = &self.lines else {
            return Findings::default();
        };
        let mut head = self.head;
        let tail = lines.all.iter().filter(|line| line.segment == TAIL);
        head.at.entries = head.at.entries.saturating_add(tail.count() as u64);
        let mut findings = Explaining::new(self.number, &head, self.live, lines).findings();
        findings.extend(lines.other.iter().cloned());
        if !findings.are_damage() {
            // Every line is in order, so it is the head that is not.
            findings.push(Finding {
                kind: FindingKind::Head,
                file: format!("{:04}.head", self.number),
                line: None,
                message: "does not fit the lines".to_owned(),
            });
        }
        findings
    }
}

/// What a line says that a file before ended with: its number, and the length and hash of that.
fn torn_before(entry: &Value) -> Option<(u64, u64, String)> {
    let torn = entry.get("torn")?;
    Some((
        torn["segment"].as_u64()?,
        torn["bytes"].as_u64()?,
        torn["sha256"].as_str()?.to_owned(),
    ))
}
