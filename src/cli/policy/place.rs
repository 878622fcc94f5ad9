//! The policy file.

use std::path::{Path, PathBuf};

use skillhost::Policy;

use crate::cli::complaint::Complaint;
use crate::cli::explain;

/// Where the policy is, or would be.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    path: PathBuf,
    /// Whether the user named it. Then it is a mistake if it is not there.
    named: bool,
}

impl PolicyFile {
    /// One that the user named.
    pub fn named(path: &Path) -> Self {
        PolicyFile {
            path: path.to_owned(),
            named: true,
        }
    }

    /// The one in the folder of the configuration, which need not be there.
    pub fn usual(path: PathBuf) -> Self {
        PolicyFile { path, named: false }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a mistake if it is not there.
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// Reads it; `None` where there is none.
    ///
    /// # Errors
    /// Where it cannot be used, or was named and is not there.
    pub fn read(&self) -> anyhow::Result<Option<Policy>> {
        let policy = Policy::read(&self.path).map_err(explain::policy)?;
        if policy.is_none() && self.named {
            let message = format!("there is no policy `{}`", self.path.display());
            return Err(Complaint::usage(message)
                .hint("`skillhost policy grant --help` says how to make one")
                .into());
        }
        Ok(policy)
    }
}
