//! The records of what is installed, and what is done with a skill whose record cannot be read.

use std::fs;
use std::io;
use std::path::Path;

use super::super::description::Description;
use super::super::digest::SkillRef;
use super::super::package::{Package, PackageError};
use super::super::replace;
use super::{Installed, Library, LibraryError, doing};

/// The largest component that is read to know its digest, in bytes. No host takes one of that size.
const MAX_COMPONENT_BYTES: u64 = 1 << 30;

/// The record of one folder, or `None` where it holds no skill.
pub(super) fn read(folder: &Path) -> Result<Option<Installed>, LibraryError> {
    let path = folder.join("installed.json");
    let broken = |source: io::Error| LibraryError::Record {
        skill: skill_of(folder),
        path: path.clone(),
        source,
    };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(broken(error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| broken(error.into()))
}

/// Which skill a folder is for.
fn skill_of(folder: &Path) -> String {
    let home = replace::home(folder);
    let name = home.as_deref().unwrap_or(folder).file_name();
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// The record of each skill in a folder, or why it cannot be read.
pub(super) fn all(folder: &Path) -> Result<Vec<Result<Installed, LibraryError>>, LibraryError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(doing("cannot read", folder)(error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.map_err(doing("cannot read", folder))?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes()[0] == b'.')
            && !replace::is_still_meant(&path);
        if !hidden {
            all.extend(read(&path).transpose());
        }
    }
    Ok(all)
}

/// Whether a skill without a record that can be read is the one that is to be installed, or is none any more.
pub(super) fn is_the_same(
    folder: &Path,
    package: &Package,
    description: &Description,
) -> Result<(), LibraryError> {
    let component = folder.join("skill.wasm");
    let (installed, new) = match Package::read(folder, MAX_COMPONENT_BYTES) {
        Ok(found) => (found.digest, package.digest),
        // What else is there may be damaged, too.
        Err(_) => match Package::read(&component, MAX_COMPONENT_BYTES) {
            Ok(found) => (found.digest, package.component_digest),
            Err(PackageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(error) => {
                let error = io::Error::other(error);
                return Err(doing("cannot tell which skill is", &component)(error));
            }
        },
    };
    if installed != new {
        return Err(LibraryError::Occupied {
            name: description.name.clone(),
            version: description.version.clone(),
            installed,
            new,
        });
    }
    Ok(())
}

/// The versions of these.
pub(super) fn versions(unreadable: &[LibraryError]) -> impl Iterator<Item = String> {
    unreadable.iter().filter_map(|error| match error {
        LibraryError::Record { skill, .. } => Some(skill.split_once('@')?.1.to_owned()),
        _ => None,
    })
}

impl Library {
    /// The installed skills whose record cannot be read, each as the [`LibraryError::Record`] that says why. No reference
    /// leads to what they hold.
    ///
    /// # Errors
    /// [`LibraryError::Io`].
    pub fn unreadable(&self) -> Result<Vec<LibraryError>, LibraryError> {
        let all = all(&self.folder)?.into_iter();
        Ok(all.filter_map(Result::err).collect())
    }

    /// Those of them that a reference means.
    pub(super) fn unreadable_of(
        &self,
        reference: &SkillRef,
    ) -> Result<Vec<LibraryError>, LibraryError> {
        let mut all = self.unreadable()?;
        all.retain(|error| match error {
            LibraryError::Record { skill, .. } => skill
                .parse()
                .is_ok_and(|whole: SkillRef| is_meant(reference, &whole)),
            _ => false,
        });
        Ok(all)
    }

    /// Removes an installed skill whose record cannot be read, and says which it was, as `name@version`. Of several
    /// versions, one must be named.
    ///
    /// # Errors
    /// [`LibraryError::NotInstalled`], [`LibraryError::Ambiguous`] or [`LibraryError::Io`].
    pub fn remove_unreadable(&self, reference: &SkillRef) -> Result<String, LibraryError> {
        let _alone = self.alone()?;
        let mut found = self.unreadable_of(reference)?;
        match (found.pop(), reference) {
            (Some(LibraryError::Record { skill, .. }), _) if found.is_empty() => {
                self.take_away(&skill)?;
                Ok(skill)
            }
            (Some(last), SkillRef::Name { name, .. }) => {
                found.push(last);
                Err(LibraryError::Ambiguous {
                    name: name.clone(),
                    versions: versions(&found).collect(),
                })
            }
            _ => Err(LibraryError::NotInstalled {
                reference: reference.clone(),
                similar: Vec::new(),
            }),
        }
    }
}

fn is_meant(reference: &SkillRef, whole: &SkillRef) -> bool {
    match (reference, whole) {
        (
            SkillRef::Name { name, version },
            SkillRef::Name {
                name: own_name,
                version: own_version,
            },
        ) => name == own_name && (version.is_none() || version == own_version),
        _ => false,
    }
}
