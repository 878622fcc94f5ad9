//! The folder: its files, their names, and who may use them.
//!
//! A chain's files are `0001-000001.jsonl`, `0001-000002.jsonl`, …, `0001.head`, and while many entries come
//! `0001.tail`; `chains` says how many chains there are, so that one that is gone shows.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags};

use super::head::{Head, MAX_HEAD};
use crate::private::{can_be_made, make_folder};

/// The most chains in a folder: as many processes may write at the same time.
pub(super) const MAX_CHAINS: u32 = 9_999;
/// What the file that counts the chains begins with.
const MARK: &str = "skillhost-audit-chains-1 ";
/// Its name.
pub(super) const CHAINS: &str = "chains";

/// Why an audit cannot be kept, or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A file or folder could not be used.
    #[error("cannot {what} `{path}`: {reason}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Others could change the folder, or a file in it.
    #[error("`{path}` {reason}")]
    Unsafe {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// As many processes keep an audit in this folder as may.
    #[error("`{0}` has {MAX_CHAINS} chains, all in use or damaged")]
    Full(PathBuf),
    /// The entry is longer than any that is read back: 1 MiB.
    #[error("an entry of {bytes} bytes is too long")]
    TooLong {
        /// Its length, without number and hash.
        bytes: usize,
    },
    /// It is kept elsewhere, and could not be.
    #[error("{0}")]
    Elsewhere(String),
}

pub(super) fn failed<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> AuditError + 'a {
    move |error| AuditError::Io {
        what,
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// Whether there is anything of an audit in a folder, whoever can use that.
///
/// # Errors
/// Where it cannot be read.
pub fn is_in(folder: impl AsRef<Path>) -> Result<bool, AuditError> {
    let names = Folder(folder.as_ref().to_owned()).names()?;
    let is_ours = |name: &String| name == CHAINS || chain_of(name).is_some();
    Ok(names.iter().any(is_ours))
}

/// The chain that a file is of, by its name.
pub(super) fn chain_of(name: &str) -> Option<u32> {
    parse_head(name)
        .or_else(|| parse_tail(name))
        .or_else(|| parse_segment(name).map(|(chain, _)| chain))
}

/// A folder that this user alone can use.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes it where it is not there.
    pub fn make(path: &Path) -> Result<Self, AuditError> {
        make_folder(path).map_err(failed("make", path))?;
        Folder::at(path)
    }

    /// One that is there.
    pub fn at(path: &Path) -> Result<Self, AuditError> {
        let metadata = std::fs::symlink_metadata(path).map_err(failed("open", path))?;
        let wrong = |reason: String| AuditError::Unsafe {
            path: path.to_owned(),
            reason,
        };
        if metadata.is_symlink() {
            return Err(wrong("is a symbolic link, and no folder".to_owned()));
        }
        if !metadata.is_dir() {
            return Err(wrong("is no folder".to_owned()));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(wrong(format!(
                "belongs to another user, number {}",
                metadata.uid()
            )));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(wrong(format!(
                "is open to others (mode {:o})",
                metadata.mode() & 0o7777
            )));
        }
        Ok(Folder(path.to_owned()))
    }

    /// Whether one could be used, or made where it is not there; nothing of it is changed.
    pub fn check(path: &Path) -> Result<(), AuditError> {
        match std::fs::symlink_metadata(path) {
            Ok(_) => {
                let folder = Folder::at(path)?;
                let access = Access::WRITE_OK | Access::EXEC_OK;
                rustix::fs::access(&folder.0, access)
                    .map_err(|error| failed("write in", path)(error.into()))
            }
            Err(_) => can_be_made(path).map_err(failed("make", path)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn head(&self, chain: u32) -> PathBuf {
        self.0.join(format!("{chain:04}.head"))
    }

    pub fn tail(&self, chain: u32) -> PathBuf {
        self.0.join(tail_name(chain))
    }

    pub fn segment(&self, chain: u32, segment: u32) -> PathBuf {
        self.0.join(segment_name(chain, segment))
    }

    /// Opens a file of ours; makes it where it is not there.
    pub fn open(&self, path: &Path, kind: Open) -> Result<File, AuditError> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let mut options = OpenOptions::new();
        options
            .read(true)
            .mode(0o600)
            .custom_flags(flags.cast_signed());
        match kind {
            Open::Read => &mut options,
            Open::Write => options.write(true).create(true),
            Open::Append => options.append(true),
            Open::AppendNew => options.append(true).create_new(true),
        };
        let file = options.open(path).map_err(failed("open", path))?;
        let metadata = file.metadata().map_err(failed("open", path))?;
        let reason = if !metadata.is_file() {
            "is not a regular file".to_owned()
        } else if metadata.uid() != rustix::process::geteuid().as_raw() {
            format!("belongs to another user, number {}", metadata.uid())
        } else if metadata.nlink() != 1 {
            "has a second name".to_owned()
        } else {
            return Ok(file);
        };
        Err(AuditError::Unsafe {
            path: path.to_owned(),
            reason,
        })
    }

    /// How many chains there are to be; `None` where nothing says so.
    pub fn chains(&self) -> Result<Option<u32>, AuditError> {
        let path = self.0.join(CHAINS);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(failed("read", &path))?,
        };
        // Whoever made it died before the first chain was begun.
        if text.is_empty() {
            return Ok(Some(0));
        }
        let count = std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.strip_prefix(MARK)?.strip_suffix('\n')?.parse().ok());
        match count {
            Some(count) if count <= MAX_CHAINS && chains_text(count).as_bytes() == text => {
                Ok(Some(count))
            }
            _ => Err(AuditError::Unsafe {
                path,
                reason: "does not say how many chains there are".to_owned(),
            }),
        }
    }

    /// Every file in it, by name.
    pub fn names(&self) -> Result<Vec<String>, AuditError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(failed("read", &self.0))? {
            let entry = entry.map_err(failed("read", &self.0))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Reads the head of a chain: `Ok(None)` where it is none.
    pub fn read_head(&self, chain: u32) -> Result<Option<Head>, AuditError> {
        let path = self.head(chain);
        let file = self.open(&path, Open::Read)?;
        read_head(&file, &path)
    }
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    Read,
    Write,
    Append,
    AppendNew,
}

pub(super) fn read_head(file: &File, path: &Path) -> Result<Option<Head>, AuditError> {
    let mut text = Vec::new();
    let mut file: &File = file;
    io::Seek::rewind(&mut file).map_err(failed("read", path))?;
    file.take(MAX_HEAD)
        .read_to_end(&mut text)
        .map_err(failed("read", path))?;
    Ok(Head::parse(&text))
}

pub(super) fn segment_name(chain: u32, segment: u32) -> String {
    format!("{chain:04}-{segment:06}.jsonl")
}

/// The chain and the number of a file of entries.
pub(super) fn parse_segment(name: &str) -> Option<(u32, u32)> {
    let (chain, segment) = name.strip_suffix(".jsonl")?.split_once('-')?;
    let parsed = (chain.parse().ok()?, segment.parse().ok()?);
    (segment_name(parsed.0, parsed.1) == name).then_some(parsed)
}

pub(super) fn tail_name(chain: u32) -> String {
    format!("{chain:04}.tail")
}

/// The chain of a head.
pub(super) fn parse_head(name: &str) -> Option<u32> {
    let chain: u32 = name.strip_suffix(".head")?.parse().ok()?;
    (format!("{chain:04}.head") == name).then_some(chain)
}

/// The chain of a tail.
pub(super) fn parse_tail(name: &str) -> Option<u32> {
    let chain: u32 = name.strip_suffix(".tail")?.parse().ok()?;
    (tail_name(chain) == name).then_some(chain)
}

pub(super) fn chains_text(count: u32) -> String {
    format!("{MARK}{count:04}\n")
}
