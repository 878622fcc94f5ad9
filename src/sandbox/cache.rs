//! The compiled cache: native code on disk, so that a component is compiled once.
//!
//! Loading compiled code is running it, so only what this user's own host wrote is loaded: the
//! folder belongs to this user and nobody else may enter it, files are written aside and renamed,
//! and an entry whose record does not fit it, in its length or its origin, or was changed, is
//! compiled anew.
//! Another process of the same user could forge an entry; that is outside the promise.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::execution::HostError;
use crate::private::make_folder;
use crate::skill::{Description, Digest};

/// The version of what stands in an entry's record.
const FORMAT: u32 = 4;
/// The largest record, in bytes. A description that does not go in is asked for each time.
const MAX_RECORD: usize = 16 << 20;
/// An entry that was used within this time need not be marked as used again.
const TOUCH_AFTER: Duration = Duration::from_secs(60);

/// What was written aside, or locked, this long ago was left behind: no compilation takes an hour.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// A folder of compiled components.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    max_bytes: u64,
    /// Engine version and settings; part of each entry's name.
    compatibility: u64,
}

/// Held by whoever makes an entry, with its file: there would be one for each component that was ever compiled.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked, and unless another's stands there. One that stays is removed later.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether an open file is the one that stands at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let of = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (open, there) = (file.metadata().map(of), fs::symlink_metadata(path).map(of));
    matches!((open, there), (Ok(open), Ok(there)) if open == there)
}

/// Whether somebody holds the lock of a file.
fn is_locked(path: &Path) -> bool {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let mut options = File::options();
    options.read(true).custom_flags(flags.cast_signed());
    let opened = options.open(path);
    opened.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// What stands beside the code.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    component: Digest,
    compatibility: u64,
    code_bytes: u64,
    /// The bytes of the contexts of all its instances.
    context_bytes: u64,
    /// What the component's `describe` answered, once it was asked: a JSON text, so that its bytes are
    /// those that the digest was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Of all of the above.
    digest: Digest,
}

impl Record {
    /// The digest that the record has unless it was changed.
    fn sealed(&self) -> Digest {
        let mut text = format!(
            "{} {} {:x} {} {}",
            self.format, self.component, self.compatibility, self.code_bytes, self.context_bytes
        );
        if let Some(description) = &self.description {
            text.push('\n');
            text.push_str(description);
        }
        Digest::of_component(text.as_bytes())
    }

    /// Reads a record that nobody changed.
    fn read(path: &Path) -> Option<Self> {
        // Not blocking: opening a FIFO would otherwise wait for a writer.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let file = File::options()
            .read(true)
            .custom_flags(flags.cast_signed())
            .open(path)
            .ok()?;
        if !is_own(&file.metadata().ok()?) {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(MAX_RECORD as u64 + 1)
            .read_to_end(&mut bytes)
            .ok()?;
        if bytes.len() > MAX_RECORD {
            return None;
        }
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        (record.digest == record.sealed()).then_some(record)
    }
}

/// A regular file of this user's that nobody else may write to.
fn is_own(metadata: &fs::Metadata) -> bool {
    metadata.is_file()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o022 == 0
}

/// An entry that fits its record.
pub(crate) struct Entry {
    pub code: PathBuf,
    pub context_bytes: u64,
    pub description: Option<Description>,
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> HostError + 'a {
    move |source| HostError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

impl Cache {
    /// Opens the cache in a folder, which is made with mode 0700 where it is not there.
    ///
    /// # Errors
    /// Where the folder is somebody else's, or others may enter it.
    pub fn open(folder: &Path, max_bytes: u64, compatibility: u64) -> Result<Self, HostError> {
        make_folder(folder).map_err(failed("cannot make the compiled cache", folder))?;
        let metadata =
            fs::metadata(folder).map_err(failed("cannot look at the compiled cache", folder))?;
        let refused = |reason: &str| {
            Err(failed("refuses to use the compiled cache", folder)(
                io::Error::other(reason),
            ))
        };
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return refused("it belongs to another user; name another folder");
        }
        if metadata.mode() & 0o077 != 0 {
            return refused("others may enter it; run `chmod 700` on it, or remove it");
        }
        Ok(Cache {
            folder: folder.to_owned(),
            max_bytes,
            compatibility,
        })
    }

    /// The entry of a component, where there is one that fits its record.
    pub fn find(&self, component: &Digest) -> Option<Entry> {
        let record = Record::read(&self.record_path(component))?;
        let fits = record.format == FORMAT
            && record.component == *component
            && record.compatibility == self.compatibility;
        let code = self.code_path(component);
        let metadata = fs::symlink_metadata(&code).ok()?;
        if !fits || !is_own(&metadata) || metadata.len() != record.code_bytes {
            return None;
        }
        let age = metadata
            .modified()
            .ok()
            .and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age > TOUCH_AFTER)
            && let Ok(file) = File::options().append(true).open(&code)
        {
            // Only tells which entry to remove first; without it the cache works as well.
            let _ = file.set_modified(SystemTime::now());
        }
        Some(Entry {
            code,
            context_bytes: record.context_bytes,
            // One that cannot be read is asked for again.
            description: record
                .description
                .and_then(|text| serde_json::from_str(&text).ok()),
        })
    }

    /// Keeps other threads and processes from making this entry until the lock is dropped; `None`
    /// where another has it.
    pub fn try_lock(&self, component: &Digest) -> Result<Option<Lock>, HostError> {
        // Each entry has its own: whoever shared one with another's skill could hold that up for as long as its own
        // takes to be compiled.
        let path = self.folder.join(format!(".lock-{}", component.hex()));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            // A FIFO is an error, and is not waited for.
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&path)
            .map_err(failed("cannot open", &path))?;
        match file.try_lock() {
            // Whoever had it may have removed the file since it was opened.
            Ok(()) if is_at(&file, &path) => Ok(Some(Lock { file, path })),
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed("cannot lock", &path)(error)),
        }
    }

    /// A file beside the entries to write code to.
    pub fn aside(&self) -> Result<tempfile::TempPath, HostError> {
        tempfile::Builder::new()
            .prefix(".compiling-")
            .tempfile_in(&self.folder)
            .map(tempfile::NamedTempFile::into_temp_path)
            .map_err(failed("cannot write in the compiled cache", &self.folder))
    }

    /// Makes an entry of what was written aside, and makes room for it.
    pub fn insert(
        &self,
        component: &Digest,
        context_bytes: u64,
        aside: tempfile::TempPath,
    ) -> Result<(), HostError> {
        let code = self.code_path(component);
        let write = || -> io::Result<u64> {
            let file = File::open(&aside)?;
            // Code must be on disk before its name is, or a power cut leaves a torn entry.
            file.sync_all()?;
            file.metadata().map(|metadata| metadata.len())
        };
        let code_bytes = write().map_err(failed("cannot write", &code))?;
        // Without a record the old code is not used, so at no moment does one fit the other.
        let record = self.record_path(component);
        match fs::remove_file(&record) {
            Ok(()) => {}
            // It gives way to the new one.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("cannot replace", &record)(error)),
        }
        put(aside, &code).map_err(failed("cannot write", &code))?;
        self.write_record(component, code_bytes, context_bytes, None)?;
        self.make_room(&code);
        Ok(())
    }

    /// Adds what the component's `describe` answered.
    pub fn describe(
        &self,
        component: &Digest,
        context_bytes: u64,
        description: &Description,
    ) -> Result<(), HostError> {
        let code = self.code_path(component);
        match fs::metadata(&code) {
            Ok(metadata) => {
                let description = serde_json::to_string(description)
                    .map_err(|error| failed("cannot write", &code)(error.into()))?;
                let description = Some(description);
                self.write_record(component, metadata.len(), context_bytes, description)
            }
            // Another process has made room of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("cannot look at", &code)(error)),
        }
    }

    fn write_record(
        &self,
        component: &Digest,
        code_bytes: u64,
        context_bytes: u64,
        description: Option<String>,
    ) -> Result<(), HostError> {
        let path = self.record_path(component);
        let mut record = Record {
            format: FORMAT,
            component: *component,
            compatibility: self.compatibility,
            code_bytes,
            context_bytes,
            description,
            digest: *component,
        };
        record.digest = record.sealed();
        let mut write = || -> io::Result<()> {
            let mut text = serde_json::to_vec(&record)?;
            if text.len() > MAX_RECORD {
                record.description = None;
                record.digest = record.sealed();
                text = serde_json::to_vec(&record)?;
            }
            let mut aside = tempfile::Builder::new()
                .prefix(".record-")
                .tempfile_in(&self.folder)?;
            aside.write_all(&text)?;
            put(aside.into_temp_path(), &path)
        };
        write().map_err(failed("cannot write", &path))
    }

    /// Removes the entries that were not used for longest, until the rest is within the bound.
    /// Never the one that was just made. Code that is in use stays mapped after it is removed.
    fn make_room(&self, keep: &Path) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut codes = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let Ok(modified) = metadata.modified() else {
                continue;
            };
            let name = entry.file_name();
            let aside = [".compiling-", ".record-", ".lock-"]
                .iter()
                .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
            if path
                .extension()
                .is_some_and(|extension| extension == "cwasm")
            {
                codes.push((modified, metadata.len(), path));
            } else if aside
                && modified.elapsed().is_ok_and(|age| age > LEFT_BEHIND)
                && !is_locked(&path)
            {
                // Whoever was writing it was killed.
                let _ = fs::remove_file(path);
            }
        }
        codes.sort();
        let mut sum: u64 = codes.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in codes {
            if sum <= self.max_bytes {
                break;
            }
            if path != keep {
                // The record first: code without one is not used.
                let _ = fs::remove_file(path.with_extension("json"));
                if fs::remove_file(&path).is_ok() {
                    sum -= bytes;
                }
            }
        }
    }

    fn code_path(&self, component: &Digest) -> PathBuf {
        self.path(component, "cwasm")
    }

    fn record_path(&self, component: &Digest) -> PathBuf {
        self.path(component, "json")
    }

    fn path(&self, component: &Digest, extension: &str) -> PathBuf {
        self.folder.join(format!(
            "{}-{:016x}.{extension}",
            component.hex(),
            self.compatibility
        ))
    }
}

/// Gives a file that was written aside its name. A folder of that name gives way: nothing in the cache is
/// one.
fn put(aside: tempfile::TempPath, path: &Path) -> io::Result<()> {
    match aside.persist(path) {
        Ok(()) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::IsADirectory => {
            fs::remove_dir_all(path)?;
            error.path.persist(path).map_err(|error| error.error)
        }
        Err(error) => Err(error.error),
    }
}

/// Whether an entry with this record beside this code is taken for a component's, in a cache in this folder; for the
/// fuzz target `folder`.
///
/// # Errors
/// Where the entry cannot be written.
pub fn entry_is_taken(
    folder: &Path,
    component: &Digest,
    record: &[u8],
    code: &[u8],
) -> io::Result<bool> {
    let cache = Cache::open(folder, u64::MAX, 7).map_err(io::Error::other)?;
    let write = |path: PathBuf, bytes: &[u8]| {
        let mut aside = tempfile::NamedTempFile::new_in(folder)?;
        aside.write_all(bytes)?;
        aside.persist(path).map_err(|error| error.error)
    };
    write(cache.record_path(component), record)?;
    write(cache.code_path(component), code)?;
    Ok(cache.find(component).is_some())
}

#[cfg(test)]
mod tests;
