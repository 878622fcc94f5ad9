//! The entries of a directory, fetched a few at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::fs::ReadDir;
use wasmtime_wasi::p2::bindings::filesystem::types::{DirectoryEntry, ErrorCode};

use super::descriptor::{Directory, kind_of};
use super::shared::{Fault, Open, Shared};

/// Entries that are fetched at once. A name has 255 bytes at most, so the host holds at most
/// 16 KiB for each directory that is being read.
const BATCH: usize = 64;

/// A directory that is being read.
pub(super) struct Listing {
    entries: Arc<Mutex<ReadDir>>,
    fetched: VecDeque<Result<DirectoryEntry, ErrorCode>>,
    ended: bool,
    shared: Arc<Shared>,
    _open: Open,
}

impl Listing {
    /// Begins to read a directory.
    pub async fn new(directory: Arc<Directory>) -> Result<Self, Fault> {
        let shared = Arc::clone(&directory.origin.shared);
        let open = shared.open()?;
        let entries = shared.run(move || Ok(directory.dir.entries()?)).await?;
        Ok(Listing {
            entries: Arc::new(Mutex::new(entries)),
            fetched: VecDeque::new(),
            ended: false,
            shared,
            _open: open,
        })
    }

    /// The next entry; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<DirectoryEntry>, Fault> {
        if self.fetched.is_empty() && !self.ended {
            let entries = Arc::clone(&self.entries);
            let fetched = self.shared.run(move || Ok(fetch(&entries))).await?;
            self.ended = fetched.len() < BATCH;
            self.fetched.extend(fetched);
        }
        Ok(self.fetched.pop_front().transpose()?)
    }
}

fn fetch(entries: &Mutex<ReadDir>) -> Vec<Result<DirectoryEntry, ErrorCode>> {
    // A panicking holder has at worst skipped an entry.
    let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
    entries
        .by_ref()
        .take(BATCH)
        .map(|entry| {
            let entry = entry?;
            let type_ = kind_of(entry.file_type()?);
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| ErrorCode::IllegalByteSequence)?;
            Ok(DirectoryEntry { type_, name })
        })
        .collect()
}
