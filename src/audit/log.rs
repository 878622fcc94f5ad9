//! Writing.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::Utc;
use serde_json::json;
use uuid::Uuid;

use super::chain::{Found, Position, digest};
use super::folder::{AuditError, CHAINS, Folder, MAX_CHAINS, Open, chains_text, failed, read_head};
use super::head::Head;
use super::line::{self, Line, MAX_LINE, hex};
use super::{AuditSink, Entry};
use crate::limits::Limits;

/// The longest rest behind the head that is looked at when a chain is taken over.
const MAX_REST: u64 = MAX_LINE;
/// The longest body of a line, in bytes: with its number and hash it is one that is read back.
const MAX_BODY: usize = MAX_LINE as usize - 256;

/// How an audit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditSettings {
    /// A file that has so many bytes is followed by the next. 64 MiB unless set.
    pub max_file_bytes: u64,
    /// Files whose last entry is older are removed, the one that is written aside. 90 days unless
    /// set.
    pub keep: Duration,
}

impl Default for AuditSettings {
    fn default() -> Self {
        AuditSettings {
            max_file_bytes: 64 << 20,
            keep: Duration::from_secs(90 * 86_400),
        }
    }
}

/// An audit in a folder. Many processes may keep one in the same folder: each writes a chain of its
/// own, and takes over one that nobody writes.
///
/// An entry is written before [`record`](AuditSink::record) returns, and not synced: it survives the
/// death of the process, and not that of the machine.
///
/// ```no_run
/// use skillhost::audit::{Audit, AuditSettings, AuditSink, Entry, Secret, What, Who};
///
/// let audit = Audit::open("audit", AuditSettings::default())?;
/// let what = What::Secret(Secret { name: "api-key", host: "api.example.com", skill: None });
/// audit.record(&Entry { who: Who::default(), what })?;
/// let verification = skillhost::audit::verify("audit")?;
/// assert!(verification.is_sound());
/// # Ok::<(), skillhost::audit::AuditError>(())
/// ```
pub struct Audit {
    folder: Folder,
    settings: AuditSettings,
    process: u32,
    chain: Mutex<Chain>,
    /// Whether the last entry could not be written.
    failing: AtomicBool,
}

/// What is written to. The lock on the head's file says whose it is.
struct Chain {
    number: u32,
    head: Head,
    head_file: File,
    file: File,
    /// Used again and again.
    text: Vec<u8>,
    /// Whether something stands in the file behind the head that is to be removed.
    torn: bool,
    /// The line that the file is to begin with, where it is not written yet: `Some(None)`, or what the
    /// file before ended with that is no line.
    opening: Option<Option<Torn>>,
}

/// What a file ends with that is no line: the file's number, and the length and hash of that.
#[derive(Debug, Clone, Copy)]
struct Torn {
    segment: u32,
    bytes: usize,
    digest: [u8; 32],
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit")
            .field("folder", &self.folder.path())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Audit {
    /// Opens an audit in a folder, and makes that where it is not there.
    ///
    /// # Errors
    /// Where the folder is not this user's alone (mode 0700), or cannot be written.
    pub fn open(folder: impl AsRef<Path>, settings: AuditSettings) -> Result<Audit, AuditError> {
        let folder = Folder::make(folder.as_ref())?;
        let process = std::process::id();
        let mut chain = Chain::take(&folder, process)?;
        chain.forget(&folder, settings.keep);
        Ok(Audit {
            folder,
            settings,
            process,
            chain: Mutex::new(chain),
            failing: AtomicBool::new(false),
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn lock(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, body: &[u8], digest: &[u8; 32]) -> Result<(), AuditError> {
        let mut chain = self.lock();
        let written = chain.add(&self.folder, self.process, body, digest);
        if written.is_ok() && chain.head.bytes >= self.settings.max_file_bytes {
            // What was written stays written: the next entry tries again.
            if let Err(error) = chain.rotate(&self.folder, self.process, None) {
                tracing::warn!(%error, "the next file of the audit cannot be begun yet");
            } else {
                chain.forget(&self.folder, self.settings.keep);
            }
        }
        drop(chain);
        let failing = written.is_err();
        if self.failing.swap(failing, Ordering::Relaxed) != failing {
            match &written {
                Err(error) => tracing::error!(%error, "the audit cannot be written"),
                Ok(()) => tracing::info!("the audit can be written again"),
            }
        }
        written
    }
}

impl AuditSink for Audit {
    fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        line::with(|line| {
            line.begin(Utc::now());
            line.field("process", &self.process);
            entry.write(line);
            self.write(line.bytes(), &digest(line.bytes()))
        })
    }

    fn ready(&self) -> Result<(), AuditError> {
        if !self.failing.load(Ordering::Relaxed) {
            return Ok(());
        }
        // An entry of its own shows whether it works again, and when it did.
        line::with(|line| {
            line.begin(Utc::now());
            line.field("process", &self.process);
            line.field("kind", "resumed");
            self.write(line.bytes(), &digest(line.bytes()))
        })
    }
}

impl Chain {
    /// Takes over a chain that nobody writes, or begins one.
    fn take(folder: &Folder, process: u32) -> Result<Chain, AuditError> {
        let register_path = folder.path().join(CHAINS);
        let register = folder.open(&register_path, Open::Write)?;
        // One process at a time.
        register.lock().map_err(failed("lock", &register_path))?;
        let empty = register
            .metadata()
            .map_err(failed("read", &register_path))?
            .len()
            == 0;
        let count = match empty {
            true => 0,
            // One that is damaged is left as it is; chains are found by looking.
            false => folder.chains().ok().flatten().unwrap_or(MAX_CHAINS),
        };
        for number in 1..=count.min(MAX_CHAINS) {
            let path = folder.head(number);
            let Ok(head_file) = folder.open(&path, Open::Read) else {
                // It is gone: `verify` says so.
                if count == MAX_CHAINS {
                    let head_file = Chain::headed(folder, number)?;
                    return Chain::begin(folder, number, head_file, process);
                }
                continue;
            };
            drop(head_file);
            let head_file = folder.open(&path, Open::Write)?;
            if head_file.try_lock().is_err() {
                continue;
            }
            match Chain::resume(folder, number, head_file, process) {
                Ok(Some(chain)) => return Ok(chain),
                Ok(None) => tracing::warn!(
                    chain = number,
                    "a chain of the audit is damaged, and left as it is: `skillhost audit verify`"
                ),
                Err(error) => return Err(error),
            }
        }
        let number = count + 1;
        if number > MAX_CHAINS {
            return Err(AuditError::Full(folder.path().to_owned()));
        }
        // The head, the register, the first line: whoever dies in between leaves a chain without
        // lines, which is taken over like any other.
        let head_file = Chain::headed(folder, number)?;
        register
            .write_all_at(chains_text(number).as_bytes(), 0)
            .map_err(failed("write", &register_path))?;
        Chain::begin(folder, number, head_file, process)
    }

    /// Begins a chain behind its head.
    fn begin(
        folder: &Folder,
        number: u32,
        head_file: File,
        process: u32,
    ) -> Result<Chain, AuditError> {
        Chain::resume(folder, number, head_file, process)?.ok_or_else(|| AuditError::Unsafe {
            path: folder.head(number),
            reason: "is not as it was written".to_owned(),
        })
    }

    /// The head of a chain that nobody writes, made where there is none.
    fn headed(folder: &Folder, number: u32) -> Result<File, AuditError> {
        let path = folder.head(number);
        let head_file = folder.open(&path, Open::Write)?;
        head_file.lock().map_err(failed("lock", &path))?;
        let length = head_file.metadata().map_err(failed("read", &path))?.len();
        if length == 0 {
            let mut text = Vec::new();
            Head::new(Uuid::now_v7()).write(&mut text);
            head_file
                .write_all_at(&text, 0)
                .map_err(failed("write", &path))?;
        }
        Ok(head_file)
    }

    /// Goes on with a chain; `None` where it is not as its writer left it.
    fn resume(
        folder: &Folder,
        number: u32,
        head_file: File,
        process: u32,
    ) -> Result<Option<Chain>, AuditError> {
        let path = folder.head(number);
        let Some(mut head) = read_head(&head_file, &path)? else {
            return Ok(None);
        };
        let file = match folder.open(&folder.segment(number, head.segment), Open::Append) {
            Ok(file) => file,
            Err(_) if head.bytes == 0 => segment(folder, number, &head)?,
            Err(_) => return Ok(None),
        };
        let segment_path = folder.segment(number, head.segment);
        let length = file
            .metadata()
            .map_err(failed("read", &segment_path))?
            .len();
        let mut torn = None;
        if length < head.bytes || length - head.bytes > MAX_REST {
            return Ok(None);
        }
        if length > head.bytes {
            let mut rest = Vec::new();
            let mut reader = &file;
            std::io::Seek::seek(&mut reader, std::io::SeekFrom::Start(head.bytes))
                .and_then(|_| reader.take(MAX_REST).read_to_end(&mut rest))
                .map_err(failed("read", &segment_path))?;
            match rest.strip_suffix(b"\n") {
                // Its writer died between writing the line and the head.
                Some(line) if !line.contains(&b'\n') => match Found::parse(line) {
                    Some(found) if found.number == head.at.entries + 1 => {
                        if !found.follows(&head.at.hash) {
                            return Ok(None);
                        }
                        head.at = Position {
                            entries: found.number,
                            hash: found.hash,
                        };
                        head.bytes = length;
                    }
                    _ => return Ok(None),
                },
                // Its writer died while it wrote the line.
                None if !rest.contains(&b'\n') => torn = Some(rest),
                _ => return Ok(None),
            }
        }
        let mut chain = Chain {
            number,
            head,
            head_file,
            file,
            text: Vec::new(),
            torn: false,
            opening: None,
        };
        match torn {
            Some(rest) => chain.rotate(folder, process, Some(&rest))?,
            None => chain.opened(folder, process, None)?,
        }
        Ok(Some(chain))
    }

    /// Adds an entry, behind the line that its file begins with.
    fn add(
        &mut self,
        folder: &Folder,
        process: u32,
        body: &[u8],
        digest: &[u8; 32],
    ) -> Result<(), AuditError> {
        if body.len() > MAX_BODY {
            return Err(AuditError::TooLong { bytes: body.len() });
        }
        if let Some(torn) = self.opening {
            self.opened(folder, process, torn)?;
            self.opening = None;
        }
        self.append(folder, body, digest)
    }

    /// Says who writes from here on.
    fn opened(
        &mut self,
        folder: &Folder,
        process: u32,
        torn: Option<Torn>,
    ) -> Result<(), AuditError> {
        let mut line = Line::default();
        line.begin(Utc::now());
        line.field("process", &process);
        line.field("kind", "opened");
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
        self.append(folder, line.bytes(), &digest(line.bytes()))
    }

    /// Adds a line: whole, or not at all.
    fn append(
        &mut self,
        folder: &Folder,
        body: &[u8],
        digest: &[u8; 32],
    ) -> Result<(), AuditError> {
        let path = || folder.segment(self.number, self.head.segment);
        if self.torn {
            self.file
                .set_len(self.head.bytes)
                .map_err(|error| failed("repair", &path())(error))?;
            self.torn = false;
        }
        let at = self.head.at.after(digest);
        self.text.clear();
        self.text.extend_from_slice(body);
        at.seal(&mut self.text);
        if let Err(error) = self.file.write_all(&self.text) {
            let error = failed("write", &path())(error);
            self.torn = self.file.set_len(self.head.bytes).is_err();
            return Err(error);
        }
        let before = self.head;
        self.head.at = at;
        self.head.bytes += self.text.len() as u64;
        self.write_head(folder).inspect_err(|_| {
            // Without its head it would count as none: away with it.
            self.head = before;
            self.torn = self.file.set_len(before.bytes).is_err();
        })
    }

    fn write_head(&mut self, folder: &Folder) -> Result<(), AuditError> {
        self.head.write(&mut self.text);
        self.head_file
            .write_all_at(&self.text, 0)
            .map_err(|error| failed("write", &folder.head(self.number))(error))
    }

    /// Goes on in the next file; `torn`: what stands at the end of this one and is no line.
    fn rotate(
        &mut self,
        folder: &Folder,
        process: u32,
        torn: Option<&[u8]>,
    ) -> Result<(), AuditError> {
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
    fn forget(&mut self, folder: &Folder, keep: Duration) {
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
            self.head.before = Position {
                entries: last.number,
                hash: last.hash,
            };
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
fn segment(folder: &Folder, number: u32, head: &Head) -> Result<File, AuditError> {
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
    let from = length.saturating_sub(MAX_REST);
    let mut rest = vec![0; usize::try_from(length - from).ok()?];
    file.read_exact_at(&mut rest, from).ok()?;
    let end = rest.iter().rposition(|byte| *byte == b'\n')?;
    let start = rest[..end]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    Found::parse(&rest[start..end])
}

#[cfg(test)]
mod tests {
    use super::super::{What, Who, verify};
    use super::*;

    #[test]
    fn a_file_whose_first_line_could_not_be_written_gets_it_later() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("audit");
        let audit = Audit::open(&path, AuditSettings::default()).unwrap();
        {
            // As a rotation leaves it that came as far as the new file.
            let mut chain = audit.lock();
            let next = Head {
                segment: 2,
                bytes: 0,
                ..chain.head
            };
            chain.file = segment(&audit.folder, 1, &next).unwrap();
            chain.head = next;
            chain.write_head(&audit.folder).unwrap();
            chain.opening = Some(None);
        }
        assert!(verify(&path).unwrap().is_sound());
        let what = What::Breaker {
            of: "x",
            from: "closed",
            to: "open",
        };
        let who = Who::default();
        audit.record(&Entry { who, what }).unwrap();
        let verification = verify(&path).unwrap();
        assert!(verification.is_sound(), "{:?}", verification.findings);
        assert_eq!(verification.entries(), 3);
    }

    #[test]
    fn a_line_that_would_not_be_read_back_is_not_written() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("audit");
        let audit = Audit::open(&path, AuditSettings::default()).unwrap();
        let body = vec![b'x'; MAX_BODY + 1];
        let error = audit.write(&body, &digest(&body)).unwrap_err();
        assert!(matches!(error, AuditError::TooLong { .. }), "{error}");
        assert_eq!(verify(&path).unwrap().entries(), 1);
    }
}
