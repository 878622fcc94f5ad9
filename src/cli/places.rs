//! Where things are kept.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use skillhost::skill::Library;

use super::complaint::Complaint;

/// The folders of the command. None is made before something is put in it.
#[derive(Debug, Clone)]
pub struct Places {
    cache: PathBuf,
    config: PathBuf,
    data: PathBuf,
}

impl Places {
    /// One folder for everything where one is named, else those of the XDG Base Directory
    /// Specification.
    ///
    /// # Errors
    /// Where this user has no home.
    pub fn find(home: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(home) = home {
            // Kept absolute, as a child process or a generated crate may stand elsewhere.
            let home = std::path::absolute(home)?;
            return Ok(Places {
                cache: home.clone(),
                config: home.clone(),
                data: home,
            });
        }
        let base = etcetera::base_strategy::Xdg::new().map_err(|_| {
            Complaint::usage("there is no home folder to keep skills and the cache in")
                .hint("name a folder with `--home DIR` or SKILLHOST_HOME")
        })?;
        Ok(Places {
            cache: base.cache_dir().join("skillhost"),
            config: base.config_dir().join("skillhost"),
            data: base.data_dir().join("skillhost"),
        })
    }

    /// All that there is, for no grant to reach; the policy may be read. Each part by its name as well: it may be a link.
    pub fn all(&self) -> [PathBuf; 12] {
        [
            self.cache.clone(),
            self.config.clone(),
            self.data.clone(),
            self.compiled(),
            self.scratch(),
            self.skills(),
            self.packages(),
            self.audit(),
            self.queue(),
            self.storage(),
            self.secrets(),
            self.sdk(),
        ]
    }

    /// Compiled components. For this user alone: what is in it is run.
    pub fn compiled(&self) -> PathBuf {
        self.cache.join("compiled")
    }

    /// Scratch directories of skills that run.
    pub fn scratch(&self) -> PathBuf {
        self.cache.join("scratch")
    }

    /// Installed skills.
    pub fn skills(&self) -> PathBuf {
        self.data.join("skills")
    }

    /// The library of installed skills.
    pub fn library(&self) -> Library {
        Library::new(self.skills())
    }

    /// What skills are granted for good.
    pub fn policy(&self) -> PathBuf {
        self.config.join("policy.toml")
    }

    /// Skills that jobs were submitted with, or that a worker has run.
    pub fn packages(&self) -> PathBuf {
        self.data.join("packages")
    }

    /// The audit, unless the policy names another folder.
    pub fn audit(&self) -> PathBuf {
        self.data.join("audit")
    }

    /// The queue, unless another database is named.
    pub fn queue(&self) -> PathBuf {
        self.data.join("queue.db")
    }

    /// What skills keep.
    pub fn storage(&self) -> PathBuf {
        self.data.join("storage.db")
    }

    /// Secrets that are kept, for this user alone.
    pub fn secrets(&self) -> PathBuf {
        self.data.join("secrets")
    }

    /// Unpacked versions of the SDK.
    pub fn sdk(&self) -> PathBuf {
        self.data.join("sdk")
    }
}
