//! A policy file that may change.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{HOLD, lock};
use crate::policy::Policy;

/// Where the policy is, and what its file looked like.
pub(super) struct PolicyFile {
    path: PathBuf,
    required: bool,
    seen: Mutex<Option<(Instant, Option<Look>)>>,
}

/// What tells one state of a file from another.
type Look = (u64, u64, SystemTime);

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
    /// nothing.
    pub fn changed(&self) -> Option<Option<Policy>> {
        {
            let mut seen = lock(&self.seen);
            if seen.as_ref().is_some_and(|(at, _)| at.elapsed() < HOLD) {
                return None;
            }
            let look = std::fs::metadata(&self.path)
                .and_then(|file| Ok((file.ino(), file.len(), file.modified()?)))
                .ok();
            let before = seen.replace((Instant::now(), look));
            if before.is_some_and(|(_, before)| before == look) {
                return None;
            }
        }
        match Policy::read(&self.path) {
            Ok(None) if self.required => {
                tracing::warn!(
                    "there is no policy `{}` any more; it stays as it was",
                    self.path.display()
                );
                None
            }
            Ok(policy) => Some(policy),
            Err(error) => {
                tracing::warn!("the policy cannot be used, and stays as it was: {error}");
                None
            }
        }
    }
}
