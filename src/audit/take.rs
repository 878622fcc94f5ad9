//! Which chain is written: one that nobody writes is taken over, and gone on with behind what its writer left.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use uuid::Uuid;

use super::chain::Found;
use super::folder::{AuditError, CHAINS, Folder, MAX_CHAINS, Open, chains_text, failed, read_head};
use super::head::{Head, Lost};
use super::line::MAX_LINE;
use super::tail::{Ended, forgotten};
use super::writing::{Chain, Pace, segment};

/// The longest rest behind the head that is looked at when a chain is taken over.
const MAX_REST: u64 = MAX_LINE;

impl Chain {
    /// Takes over a chain that nobody writes, or begins one.
    pub fn take(folder: &Folder, process: u32) -> Result<Chain, AuditError> {
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
                    "chain {number} of the audit is damaged, and left as it is; `skillhost audit verify` says what is \
                     wrong with it"
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

    /// Has the head of a chain that nobody writes say that entries are lost; false where there is none that can.
    pub fn lose_aside(folder: &Folder, lost: Lost) -> bool {
        let count = folder.chains().ok().flatten().unwrap_or(0);
        (1..=count.min(MAX_CHAINS)).any(|number| {
            let path = folder.head(number);
            // One that is gone is not made.
            let there = folder
                .open(&path, Open::Read)
                .and_then(|_| folder.open(&path, Open::Write));
            let Ok(head_file) = there else {
                return false;
            };
            if head_file.try_lock().is_err() {
                return false;
            }
            let Ok(Some(mut head)) = read_head(&head_file, &path) else {
                return false;
            };
            head.lost.join(lost);
            let mut text = Vec::new();
            head.write(&mut text);
            let written = head_file.write_all_at(&text, 0).is_ok();
            // A process that is being started meanwhile has the file open, too, for a moment.
            let _ = head_file.unlock();
            written
        })
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
        let Some(ended) = Ended::read(folder, number, &head_file)? else {
            return Ok(None);
        };
        let mut head = ended.head;
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
        let mut rest = Vec::new();
        if length > head.bytes {
            let mut reader = &file;
            std::io::Seek::seek(&mut reader, std::io::SeekFrom::Start(head.bytes))
                .and_then(|_| reader.take(MAX_REST).read_to_end(&mut rest))
                .map_err(failed("read", &segment_path))?;
        }
        let (mut at, mut waiting) = (head.at, Vec::new());
        if head.tail > 0 {
            let Some((end, lines)) = ended.follows() else {
                return Ok(None);
            };
            // Its writer died while it put them into the file: once more.
            if !lines.starts_with(&rest) {
                return Ok(None);
            }
            if !rest.is_empty() {
                file.set_len(head.bytes)
                    .map_err(failed("repair", &segment_path))?;
            }
            at = end;
            waiting = lines.to_vec();
        } else if forgotten(folder, number, head.at)? > 1 {
            // Somebody made the head forget them.
            return Ok(None);
        } else if !rest.is_empty() {
            match rest.strip_suffix(b"\n") {
                // Its writer died between writing the line and the head.
                Some(line) if !line.contains(&b'\n') => match Found::parse(line) {
                    Some(found) if found.number == head.at.entries + 1 => {
                        if !found.follows(&head.at.hash) {
                            return Ok(None);
                        }
                        head.at = found.position();
                        head.bytes = length;
                        at = head.at;
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
            at,
            waiting,
            tail: None,
            tailless: false,
            stuck: false,
            resting: true,
            pace: Pace::default(),
            text: Vec::new(),
            head_text: Vec::new(),
            torn: false,
            opening: None,
        };
        match torn {
            Some(rest) => chain.rotate(folder, process, Some(&rest))?,
            None => chain.opened(folder, process, None)?,
        }
        if ended.head.tail > 0 {
            // All of it is in the file by now.
            let _ = std::fs::remove_file(folder.tail(number));
        }
        Ok(Some(chain))
    }
}
