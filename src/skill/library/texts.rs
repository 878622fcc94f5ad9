//! What a model reads of a skill: its `SKILL.md` and the files beside it, which are in no digest.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::super::files::SkillFiles;
use super::super::package::Package;
use super::{LibraryError, doing};

/// What belongs to a package's `SKILL.md`.
pub(super) fn files_of(package: &Package) -> Result<Arc<BTreeMap<String, Vec<u8>>>, LibraryError> {
    let folder = package.path.as_deref().filter(|path| path.is_dir());
    match folder {
        _ if package.document_text.is_none() => Ok(Arc::default()),
        None => Ok(Arc::clone(&package.files)),
        Some(folder) => beside(folder)
            .map(Arc::new)
            .map_err(doing("cannot copy the files of", folder)),
    }
}

/// What stands beside the `SKILL.md` in a folder.
fn beside(folder: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let files = SkillFiles::open(folder)?;
    let listed = files.list()?.into_iter().map(|file| file.path);
    listed
        .filter(|path| path != "SKILL.md")
        .map(|path| Ok((path.clone(), files.read(&path)?)))
        .collect()
}

/// Whether this `SKILL.md`, with these files, is what stands in a folder.
pub(super) fn has_texts(
    folder: &Path,
    package: &Package,
    files: &BTreeMap<String, Vec<u8>>,
) -> bool {
    let text = match fs::read_to_string(folder.join("SKILL.md")) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => return false,
    };
    text.as_deref() == package.document_text.as_deref()
        && beside(folder).is_ok_and(|there| there == *files)
}
