//! The library of installed skills: a folder, with one folder in it for each version of each skill.

mod record;
mod texts;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::description::Description;
use super::digest::{Digest, SkillRef};
use super::package::{Package, PackageError};
use super::replace;
use crate::private::make_folder;
use texts::{files_of, has_texts};

/// The largest description that is read, in bytes: more than one of a skill that was installed has.
const MAX_DESCRIPTION_BYTES: u64 = 64 << 20;

/// The fewest digits of a digest that stand for all of it.
pub(crate) const FEWEST_DIGITS: usize = 8;

/// A folder of installed skills, several versions side by side: `NAME@VERSION/skill.wasm`, with
/// `skill.toml` and `SKILL.md` with its files where the skill has them, `installed.json`, and
/// `description.json`, which is what the skill answered when it was asked what it is.
///
/// Skills are written aside and renamed into place, so that a reader sees one whole or not at all.
#[derive(Debug, Clone)]
pub struct Library {
    folder: PathBuf,
}

/// What tells one state of the library from another, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    folder: (u64, u64),
    /// When something in it last got its name, or lost it.
    pub changed: SystemTime,
}

/// One installed skill: the contents of its `installed.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Installed {
    /// The skill's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub description: String,
    /// The digest of what was installed. What is loaded later must have it still.
    pub digest: Digest,
    /// The component's size in bytes.
    pub component_bytes: u64,
    /// The names of its tools.
    pub tools: Vec<String>,
    /// When it was installed.
    pub installed_at: DateTime<Utc>,
}

/// What can go wrong with the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// A file or folder cannot be used.
    #[error("{what} `{path}`: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No such skill is installed.
    #[error("no skill `{reference}` is installed{}", known(similar))]
    NotInstalled {
        /// What was asked for.
        reference: SkillRef,
        /// What is installed under that name, or under a similar one.
        similar: Vec<String>,
    },
    /// Another skill is installed under that name and version.
    #[error(
        "`{name}@{version}` is installed already, with another digest: {installed} there, {new} here"
    )]
    Occupied {
        /// The name.
        name: String,
        /// The version.
        version: String,
        /// The digest that is installed.
        installed: Digest,
        /// The digest that was to be installed.
        new: Digest,
    },
    /// Several versions are installed, and one must be named.
    #[error("several versions of `{name}` are installed ({}); name one", versions.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The versions.
        versions: Vec<String>,
    },
    /// Several installed skills have a digest that begins like that.
    #[error(
        "several installed skills have a digest that begins with `{digits}` ({})",
        found.join(", ")
    )]
    AmbiguousDigest {
        /// The digits that were given.
        digits: String,
        /// Their names, versions and digests.
        found: Vec<String>,
    },
    /// It is the name of an installed skill, and the digest of another begins like that.
    #[error(
        "`{digits}` is the name of an installed skill, and the digest of another begins with it; write `{named}` \
         for the one, `sha256:{digits}` for the other ({})",
        found.join(", ")
    )]
    NameOrDigest {
        /// What was given.
        digits: String,
        /// What the name means, as `name@version`.
        named: String,
        /// The names, versions and digests of the others.
        found: Vec<String>,
    },
    /// What is on disk is not what was installed.
    #[error(
        "`{path}` was changed since it was installed: its digest is {found}, and was {expected}"
    )]
    Changed {
        /// Which skill, as `name@version`.
        skill: String,
        /// Where it is.
        path: PathBuf,
        /// The digest that was installed.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// The record of an installed skill, which says what was installed, cannot be read.
    #[error("the record of the installed skill `{skill}` cannot be read, `{path}`: {source}")]
    Record {
        /// Which skill, as `name@version`.
        skill: String,
        /// Where the record is.
        path: PathBuf,
        /// What the system said, or what is wrong with the text.
        source: io::Error,
    },
    /// It cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// The skills whose name comes closest to this.
fn close(name: &str, all: &[Installed]) -> Vec<String> {
    let close = crate::text::closest(name, all.iter().map(|skill| skill.name.as_str()));
    // To begin alike is not enough: what is proposed may be removed.
    let close = close.filter(|close| {
        let most = name.len().max(close.len()) / 3;
        close.starts_with(name) || strsim::osa_distance(name, close) <= most.max(1)
    });
    all.iter()
        .filter(|skill| Some(skill.name.as_str()) == close)
        .map(|skill| format!("{}@{}", skill.name, skill.version))
        .collect()
}

fn known(similar: &[String]) -> String {
    if similar.is_empty() {
        String::new()
    } else {
        format!(" (there is {})", similar.join(", "))
    }
}

/// Turns an `io::Error` into a [`LibraryError`] that says what was being done, and with what.
fn doing<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LibraryError + 'a {
    move |source| LibraryError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

impl Library {
    /// The library in a folder. The folder is made when the first skill is installed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Library {
            folder: folder.into(),
        }
    }

    /// Installs a skill that has described itself. The same skill a second time changes nothing, unless its `SKILL.md` or
    /// a file beside it is another, or what is on disk no longer is what was installed: then it is written anew.
    ///
    /// Where its record cannot be read, what stands there is known by its own digest; what has none is put right.
    ///
    /// `replace` puts it in the place of another one with its name and version.
    ///
    /// # Errors
    /// [`LibraryError::Occupied`] or [`LibraryError::Io`].
    pub fn install(
        &self,
        package: &Package,
        description: &Description,
        replace: bool,
    ) -> Result<Installed, LibraryError> {
        let (name, version) = (&description.name, &description.version);
        let _alone = self.alone()?;
        let target = self.folder.join(format!("{name}@{version}"));
        let before = match record::read(&target) {
            Err(LibraryError::Record { .. }) => {
                if !replace {
                    record::is_the_same(&target, package, description)?;
                }
                None
            }
            before => before?,
        };
        let files = files_of(package)?;
        if let Some(installed) = before {
            if installed.digest == package.digest {
                if self.is_whole(&installed, &target) && has_texts(&target, package, &files) {
                    return Ok(installed);
                }
            } else if !replace {
                return Err(LibraryError::Occupied {
                    name: name.clone(),
                    version: version.clone(),
                    installed: installed.digest,
                    new: package.digest,
                });
            }
        }
        let installed = Installed {
            name: name.clone(),
            version: version.clone(),
            description: description.description.clone(),
            digest: package.digest,
            component_bytes: package.component.len() as u64,
            tools: description
                .tools
                .iter()
                .map(|tool| tool.name.clone())
                .collect(),
            installed_at: Utc::now(),
        };
        let aside = tempfile::Builder::new()
            .prefix(".installing-")
            .tempdir_in(&self.folder)
            .map_err(doing("cannot write in", &self.folder))?;
        let write = |file: &str, bytes: &[u8]| {
            let path = aside.path().join(file);
            fs::write(&path, bytes).map_err(doing("cannot write", &path))
        };
        write("skill.wasm", &package.component)?;
        if let Some(text) = &package.manifest_text {
            write("skill.toml", text.as_bytes())?;
        }
        if let Some(text) = &package.document_text {
            write("SKILL.md", text.as_bytes())?;
        }
        for (path, content) in files.iter() {
            let target = aside.path().join(path);
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder).map_err(doing("cannot make", folder))?;
            }
            fs::write(&target, content).map_err(doing("cannot write", &target))?;
        }
        let record = serde_json::to_vec_pretty(&installed)
            .map_err(|error| doing("cannot write", &target)(error.into()))?;
        write("installed.json", &record)?;
        let said = serde_json::to_vec(description)
            .map_err(|error| doing("cannot write", &target)(error.into()))?;
        write("description.json", &said)?;
        if target.exists() {
            replace::replace(aside, &target).map_err(doing("cannot replace", &target))?;
        } else {
            fs::rename(aside.path(), &target).map_err(doing("cannot write", &target))?;
            // It now stands under its own name: nothing is left to clean up.
            let _ = aside.keep();
        }
        Ok(installed)
    }

    /// Whether what stands in a folder still is what was installed there.
    fn is_whole(&self, installed: &Installed, folder: &Path) -> bool {
        Package::read(folder, installed.component_bytes)
            .is_ok_and(|package| package.digest == installed.digest)
            && matches!(self.description(installed), Ok(Some(_)))
    }

    /// Waits until no other process changes the library, and keeps others from it for as long as
    /// the answer lives. What a process that was killed has left behind is removed.
    fn alone(&self) -> Result<fs::File, LibraryError> {
        make_folder(&self.folder).map_err(doing("cannot make", &self.folder))?;
        let path = self.folder.join(".lock");
        let lock = fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(doing("cannot write", &path))?;
        lock.lock().map_err(doing("cannot lock", &path))?;
        let entries = fs::read_dir(&self.folder).map_err(doing("cannot read", &self.folder))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            let settled = if name.starts_with(b".installing-") || name.starts_with(b".removing-") {
                Some(fs::remove_dir_all(entry.path()))
            } else {
                replace::settle(&entry.path())
            };
            if let Some(Err(error)) = settled {
                tracing::warn!("`{}` stays behind: {error}", entry.path().display());
            }
        }
        Ok(lock)
    }

    /// Every installed skill, by name and then by version, the newest first. Those whose record cannot be read are
    /// [elsewhere](Library::unreadable).
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn list(&self) -> Result<Vec<Installed>, LibraryError> {
        let mut installed = Vec::new();
        for entry in record::all(&self.folder)? {
            match entry {
                Ok(entry) => installed.push(entry),
                // One that cannot be read must not keep the others from being used.
                Err(error) => tracing::warn!("an installed skill is passed over: {error}"),
            }
        }
        let version = |skill: &Installed| semver::Version::parse(&skill.version).ok();
        installed.sort_by(|a, b| {
            a.name
                .cmp(&b.name)
                .then_with(|| version(b).cmp(&version(a)))
        });
        Ok(installed)
    }

    /// What somebody means who types a text for an installed skill: `name`, `name@version`, a digest, or
    /// the first 8 or more digits of the digest of exactly one, with or without `sha256:`. What may be both a name and
    /// the digits of another skill is neither: whoever names a skill does not choose what others' digits mean.
    ///
    /// `None` where it is none of these; a name or a whole digest need not be installed.
    ///
    /// # Errors
    /// [`LibraryError::AmbiguousDigest`], [`LibraryError::NameOrDigest`] or [`LibraryError::Io`].
    ///
    /// ```
    /// use skillhost::skill::Library;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let library = Library::new("nowhere");
    /// assert_eq!(library.reference("csv-query")?, Some("csv-query".into()));
    /// assert_eq!(library.reference("sha256:0f3a6c2e")?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reference(&self, text: &str) -> Result<Option<SkillRef>, LibraryError> {
        let parsed: Option<SkillRef> = text.parse().ok();
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let is_beginning = (FEWEST_DIGITS..=64).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_beginning || matches!(parsed, Some(SkillRef::Digest(_))) {
            return Ok(parsed);
        }
        let all = self.list()?;
        let named = parsed
            .as_ref()
            .and_then(|name| all.iter().find(|skill| matches(name, skill)));
        let hex = digits.to_ascii_lowercase();
        let begins = |skill: &&Installed| {
            skill.digest.hex().starts_with(&hex)
                && named.is_none_or(|named| named.digest != skill.digest)
        };
        let found: Vec<&Installed> = all.iter().filter(begins).collect();
        let shown = |found: &[&Installed]| {
            let one =
                |skill: &&Installed| format!("{}@{} {}", skill.name, skill.version, skill.digest);
            found.iter().map(one).collect()
        };
        match (named, found.as_slice()) {
            (_, []) => Ok(parsed),
            (Some(named), others) => Err(LibraryError::NameOrDigest {
                digits: hex,
                named: format!("{}@{}", named.name, named.version),
                found: shown(others),
            }),
            (None, [only]) => Ok(Some(only.digest.into())),
            (None, several) => Err(LibraryError::AmbiguousDigest {
                found: shown(several),
                digits: hex,
            }),
        }
    }

    /// The installed skill that a reference means: of a bare name, the highest version.
    ///
    /// # Errors
    /// [`LibraryError::NotInstalled`], with what comes close, [`LibraryError::Record`] or [`LibraryError::Io`].
    pub fn find(&self, reference: &SkillRef) -> Result<Installed, LibraryError> {
        let mut all = self.list()?;
        if !all.iter().any(|skill| matches(reference, skill))
            && let Ok(lock) = fs::File::open(self.folder.join(".lock"))
        {
            // It may just be replaced, on a file system where that takes two steps.
            lock.lock_shared()
                .map_err(doing("cannot lock", &self.folder))?;
            all = self.list()?;
        }
        if let Some(index) = all.iter().position(|skill| matches(reference, skill)) {
            return Ok(all.swap_remove(index));
        }
        if let Some(error) = self.unreadable_of(reference)?.into_iter().next() {
            return Err(error);
        }
        let similar = match reference {
            SkillRef::Name { name, .. } => close(name, &all),
            SkillRef::Digest(_) => Vec::new(),
        };
        Err(LibraryError::NotInstalled {
            reference: reference.clone(),
            similar,
        })
    }

    /// The installed skills of the name that comes closest to something that is no reference to one: `text_stats`,
    /// `Text-Stats`, `text-stats@9`. Each as `name@version`; none where nothing is close.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn similar(&self, typed: &str) -> Result<Vec<String>, LibraryError> {
        let name = typed.split('@').next().unwrap_or_default();
        let name = name.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
        Ok(close(&name, &self.list()?))
    }

    /// Reads an installed skill, and makes sure that it is what was installed.
    ///
    /// # Errors
    /// [`LibraryError::Changed`], or any of [`find`](Library::find) and [`Package::read`].
    pub fn read(
        &self,
        reference: &SkillRef,
        max_component_bytes: u64,
    ) -> Result<Package, LibraryError> {
        let installed = self.find(reference)?;
        let path = self.place(&installed);
        let package = Package::read(&path, max_component_bytes)?;
        if package.digest != installed.digest {
            return Err(LibraryError::Changed {
                skill: format!("{}@{}", installed.name, installed.version),
                path,
                expected: installed.digest,
                found: package.digest,
            });
        }
        Ok(package)
    }

    /// What an installed skill said of itself when it was installed, without reading its component.
    /// `None` where that was not kept, or belongs to another.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn description(&self, installed: &Installed) -> Result<Option<Description>, LibraryError> {
        let path = self.place(installed).join("description.json");
        let mut text = Vec::new();
        let read = fs::File::open(&path)
            .and_then(|file| file.take(MAX_DESCRIPTION_BYTES).read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(doing("cannot read", &path))?,
        };
        let description: Description = serde_json::from_slice(&text)
            .map_err(|error| doing("cannot understand", &path)(error.into()))?;
        let its_own = description.name == installed.name
            && description.version == installed.version
            && description
                .tools
                .iter()
                .map(|tool| &tool.name)
                .eq(&installed.tools);
        Ok(its_own.then_some(description))
    }

    /// The folder of an installed skill: `skill.wasm`, and `skill.toml` and `SKILL.md` where it has
    /// them. It may be gone, or be another's, as soon as it is known.
    pub fn place(&self, installed: &Installed) -> PathBuf {
        let name = format!("{}@{}", installed.name, installed.version);
        replace::place(self.folder.join(name))
    }

    /// What the folder looks like. As long as that stays the same, nothing was installed, replaced
    /// or removed, unless that happened within the same moment of the file system's clock.
    pub(crate) fn look(&self) -> Option<Look> {
        let folder = fs::metadata(&self.folder).ok()?;
        Some(Look {
            folder: (folder.dev(), folder.ino()),
            changed: folder.modified().ok()?,
        })
    }

    /// Removes an installed skill. Of several versions, one must be named.
    ///
    /// # Errors
    /// [`LibraryError::NotInstalled`], [`LibraryError::Ambiguous`], [`LibraryError::Record`] of one that
    /// [`remove_unreadable`](Library::remove_unreadable) removes, or [`LibraryError::Io`].
    pub fn remove(&self, reference: &SkillRef) -> Result<Installed, LibraryError> {
        // Looked for before anything is made in a folder that may not even be there.
        self.find(reference)?;
        let _alone = self.alone()?;
        let installed = self.find(reference)?;
        if let SkillRef::Name { version: None, .. } = reference {
            let all = self.list()?.into_iter();
            let all = all.filter(|skill| skill.name == installed.name);
            let mut versions: Vec<String> = all.map(|skill| skill.version).collect();
            versions.extend(record::versions(&self.unreadable_of(reference)?));
            if versions.len() > 1 {
                return Err(LibraryError::Ambiguous {
                    name: installed.name,
                    versions,
                });
            }
        }
        self.take_away(&format!("{}@{}", installed.name, installed.version))?;
        Ok(installed)
    }

    /// Removes the folder of an installed skill. Nobody else may change the library meanwhile.
    fn take_away(&self, skill: &str) -> Result<(), LibraryError> {
        let path = self.folder.join(skill);
        let aside = self
            .folder
            .join(format!(".removing-{}", uuid::Uuid::now_v7()));
        fs::rename(&path, &aside).map_err(doing("cannot remove", &path))?;
        fs::remove_dir_all(&aside).map_err(doing("cannot remove", &aside))
    }
}

fn matches(reference: &SkillRef, skill: &Installed) -> bool {
    match reference {
        SkillRef::Digest(digest) => skill.digest == *digest,
        SkillRef::Name { name, version } => {
            skill.name == *name
                && version
                    .as_ref()
                    .is_none_or(|version| skill.version == *version)
        }
    }
}

#[cfg(test)]
mod tests;
