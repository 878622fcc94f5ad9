//! The tail of a chain: its newest lines, until they are put into their file together.
//!
//! While many entries come, each is copied to `0001.tail`, which is mapped into memory, and the head, which
//! is mapped as well, then says how many bytes of the tail count. Both are the system's at once, as after a
//! `write`, and outlive this process, without the system being asked each time.
//!
//! What is mapped is only ever written to, by what is known here: whatever somebody does to the file
//! meanwhile changes nothing of what this process does. To write where there is no room on the disk, or no
//! file any more, would end the process, so there is a tail only on file systems that keep the room which
//! they gave.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::chain::{Found, Position};
use super::folder::{AuditError, Folder, Open, failed, read_head};
use super::head::{Head, TAIL_AT, tail_text};

/// How many bytes a tail has room for.
pub(super) const TAIL_BYTES: usize = 64 << 10;
/// How much of the head's file is mapped: as far as the count of what stands in the tail.
const HEAD_BYTES: usize = TAIL_AT + 8;
/// How often a tail is read anew whose lines were put into their file meanwhile.
const ROUNDS: usize = 100;

/// A tail that is written.
pub(super) struct Tail {
    file: File,
    lines: Mapped,
    head: Mapped,
}

impl Tail {
    /// The tail of a chain whose head is written out; `None` where the file system cannot promise room.
    pub fn make(folder: &Folder, number: u32, head: &File) -> Result<Option<Tail>, AuditError> {
        let path = folder.tail(number);
        let file = folder.open(&path, Open::Write)?;
        let made = move || -> io::Result<Option<Tail>> {
            if !keeps_room(&file)? || !keeps_room(head)? {
                return Ok(None);
            }
            if head.metadata()?.len() < HEAD_BYTES as u64 {
                return Ok(None);
            }
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, TAIL_BYTES as u64) {
                Ok(()) => {}
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            let (lines, head) = (
                Mapped::new(&file, TAIL_BYTES)?,
                Mapped::new(head, HEAD_BYTES)?,
            );
            Ok(Some(Tail { file, lines, head }))
        };
        let made = made().map_err(failed("make", &path));
        if !matches!(made, Ok(Some(_))) {
            let _ = std::fs::remove_file(&path);
        }
        made
    }

    /// Whether its file still stands in its folder, as long as it was made.
    pub fn stands(&self) -> bool {
        let metadata = self.file.metadata();
        metadata.is_ok_and(|metadata| metadata.nlink() > 0 && metadata.len() >= TAIL_BYTES as u64)
    }

    /// Adds a line behind so many bytes, and has it count. False where there is no room for it.
    pub fn add(&mut self, bytes: usize, line: &[u8]) -> bool {
        let end = bytes + line.len();
        let Ok(count) = u32::try_from(end) else {
            return false;
        };
        if !self.lines.copy(bytes, line) {
            return false;
        }
        // After the line, so that whoever is killed in between leaves one that does not count yet.
        self.head.set(TAIL_AT, u64::from_ne_bytes(tail_text(count)));
        true
    }
}

/// Whether room that a file was given stays its own, also where it is mapped and written to. Not where a
/// copy of a file may share its blocks (XFS, Btrfs): then they are given anew as they are written to.
#[cfg(target_os = "linux")]
fn keeps_room(file: &File) -> io::Result<bool> {
    const EXT4: i128 = 0xEF53;
    const TMPFS: i128 = 0x0102_1994;
    let kind = i128::from(rustix::fs::fstatfs(file)?.f_type);
    Ok([EXT4, TMPFS].contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn keeps_room(_: &File) -> io::Result<bool> {
    Ok(false)
}

/// The beginning of a file, in memory.
struct Mapped {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to this value alone, whichever thread has it.
unsafe impl Send for Mapped {}

impl Mapped {
    fn new(file: &File, bytes: usize) -> io::Result<Mapped> {
        let (access, kind) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the system chooses where, so that nothing of ours is replaced. Nobody gets a reference to
        // what is there, which others may change: it is written to through raw pointers alone.
        let at = unsafe { mmap(std::ptr::null_mut(), bytes, access, kind, file, 0) }?;
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapped { at, bytes })
    }

    fn copy(&mut self, offset: usize, from: &[u8]) -> bool {
        let fits = offset
            .checked_add(from.len())
            .is_some_and(|end| end <= self.bytes);
        if fits {
            // SAFETY: the range lies within what is mapped, as was just looked at, and is no memory of Rust's,
            // so that it does not overlap with `from`.
            unsafe {
                let to = self.at.as_ptr().add(offset);
                std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
            }
        }
        fits
    }

    /// Sets eight bytes at once.
    fn set(&mut self, offset: usize, number: u64) {
        if offset.is_multiple_of(8) && offset + 8 <= self.bytes {
            // SAFETY: within what is mapped, which begins at a page, so that it is aligned; and valid for as
            // long as `self` is. Other processes only ever read it.
            let place = unsafe { AtomicU64::from_ptr(self.at.as_ptr().add(offset).cast()) };
            place.store(number, Ordering::Release);
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new` with this length, and nobody has a pointer to it any more.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}

/// A head, and the tail that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub head: Head,
    /// What the tail's file has, where the head says that there is something in it; `None` where there is no
    /// such file. What stands behind `head.tail` bytes of it does not count.
    pub tail: Option<Vec<u8>>,
}

impl Ended {
    /// Reads both as they were at one moment, also while they are written. `Ok(None)`: the head is none.
    pub fn read(folder: &Folder, number: u32, head: &File) -> Result<Option<Ended>, AuditError> {
        let path = folder.head(number);
        let mut now = read_head(head, &path)?;
        for _ in 0..ROUNDS {
            let Some(head_then) = now else {
                return Ok(None);
            };
            let tail = match head_then.tail {
                0 => None,
                _ => read_tail(folder, number)?,
            };
            now = read_head(head, &path)?;
            // It only grows, as long as nothing else of the head changes.
            let same = now.is_some_and(|now| {
                let tail = head_then.tail;
                Head { tail, ..now } == head_then && now.tail >= tail
            });
            if same || head_then.tail == 0 {
                return Ok(Some(Ended {
                    head: head_then,
                    tail,
                }));
            }
        }
        // Whatever it is, it is not written any more by anybody who goes by the rules.
        Ok(now.map(|head| Ended { head, tail: None }))
    }

    /// Where the chain stands behind what counts of the tail.
    pub fn counted(&self) -> Option<Position> {
        let last = self.lines().strip_suffix(b"\n")?;
        let begins = last.iter().rposition(|byte| *byte == b'\n');
        let last = &last[begins.map_or(0, |at| at + 1)..];
        Some(Found::parse(last)?.position())
    }

    /// What counts of the tail.
    pub fn lines(&self) -> &[u8] {
        let tail = self.tail.as_deref().unwrap_or_default();
        &tail[..tail.len().min(self.head.tail as usize)]
    }

    /// Where the chain stands behind the tail, and the lines of it; one that its writer did not come to have
    /// count is one of them. `None` where they are not as they were written, or the head was made to forget
    /// some of them.
    pub fn follows(&self) -> Option<(Position, &[u8])> {
        let tail = self.tail.as_deref()?;
        let (counted, beyond) = tail.split_at_checked(self.head.tail as usize)?;
        let mut lines = counted.split_inclusive(|byte| *byte == b'\n');
        let at = lines.try_fold(self.head.at, |at, line| at.behind(line))?;
        let next = beyond.split_inclusive(|byte| *byte == b'\n').next();
        match next.and_then(|line| Some((at.behind(line)?, line.len()))) {
            None => Some((at, counted)),
            Some(_) if at.following(beyond) > 1 => None,
            Some((at, length)) => Some((at, &tail[..counted.len() + length])),
        }
    }

    /// What stands behind that.
    pub fn beyond(&self) -> &[u8] {
        let tail = self.tail.as_deref().unwrap_or_default();
        &tail[tail.len().min(self.head.tail as usize)..]
    }
}

/// How many lines stand at the beginning of a tail that come after this, one after the other, though the
/// head says that nothing of it counts.
pub(super) fn forgotten(
    folder: &Folder,
    number: u32,
    after: Position,
) -> Result<usize, AuditError> {
    let tail = read_tail(folder, number)?.unwrap_or_default();
    Ok(after.following(&tail))
}

/// What the tail's file has; `None` where there is none.
pub(super) fn read_tail(folder: &Folder, number: u32) -> Result<Option<Vec<u8>>, AuditError> {
    let path = folder.tail(number);
    let file = match folder.open(&path, Open::Read) {
        Ok(file) => file,
        Err(_) => return Ok(None),
    };
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES as u64)
        .read_to_end(&mut bytes)
        .map_err(failed("read", &path))?;
    Ok(Some(bytes))
}
