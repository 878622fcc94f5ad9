//! A policy file that may change.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::time::Instant;

use super::{HOLD, lock};
use crate::policy::Policy;

/// Where the policy is, and what its file looked like.
pub(super) struct PolicyFile {
    path: PathBuf,
    required: bool,
    seen: Mutex<Seen>,
}

/// What was seen of the file.
#[derive(Default)]
struct Seen {
    /// When it was last looked at.
    at: Option<Instant>,
    /// What it looked like when it was last read and could be used.
    look: Option<Option<Look>>,
    /// What was last said against it.
    wrong: Option<String>,
}

/// What tells one state of a file from another. The time of its last change covers who it belongs to and
/// who may write it, too.
#[derive(Clone, Copy, PartialEq)]
struct Look {
    file: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Look {
    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn at(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Look {
            file: (file.dev(), file.ino()),
            bytes: file.len(),
            changed: (file.ctime(), file.ctime_nsec()),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}

impl PolicyFile {
    pub fn new(path: PathBuf) -> Self {
        PolicyFile {
            path,
            required: false,
            seen: Mutex::default(),
        }
    }

    pub fn required(self) -> Self {
        PolicyFile {
            required: true,
            ..self
        }
    }

    /// What is to hold from now on, where the file has changed. One that cannot be used changes
    /// nothing, and is read again and again until it can; nor does one that is gone, where one `holds`:
    /// otherwise whoever moves it aside for a moment would lift every bound.
    pub fn changed(&self, holds: bool) -> Option<Option<Policy>> {
        let look = {
            let mut seen = lock(&self.seen);
            if seen.at.is_some_and(|at| at.elapsed() < HOLD) {
                return None;
            }
            seen.at = Some(Instant::now());
            let look = Look::at(&self.path);
            if seen.look == Some(look) {
                return None;
            }
            look
        };
        let wrong = match Policy::read(&self.path) {
            Ok(None) if self.required || holds => {
                format!("there is no policy `{}` any more", self.path.display())
            }
            // As it is for a moment while somebody writes it in place.
            Ok(_) if holds && look.is_some_and(|look| look.is_empty()) => {
                format!("the policy `{}` is empty", self.path.display())
            }
            Ok(policy) => {
                let mut seen = lock(&self.seen);
                if seen.wrong.is_some() {
                    tracing::warn!("the policy `{}` is used again", self.path.display());
                }
                *seen = Seen {
                    at: Some(Instant::now()),
                    look: Some(look),
                    wrong: None,
                };
                return Some(policy);
            }
            Err(error) => format!("the policy cannot be used: {error}"),
        };
        let mut seen = lock(&self.seen);
        // What made it unusable need not be in the file, such as who may write its folder.
        seen.look = None;
        if seen.wrong.as_ref() != Some(&wrong) {
            tracing::warn!("{wrong}; what held before still holds");
            seen.wrong = Some(wrong);
        }
        None
    }
}
