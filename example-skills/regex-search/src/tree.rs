//! The files of a directory and of all directories in it.

use std::io::{Error, ErrorKind};
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use skills_sdk::prelude::*;
use walkdir::{DirEntry, WalkDir};

/// A file that was found.
pub struct Found {
    /// Its path: the one that was asked for, and the way from there.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Finds the files in `root` whose names or paths match one of the patterns, in the order of
/// their names. What cannot be read is logged and left out.
pub fn files(
    root: &str,
    patterns: &[String],
    hidden: bool,
    ctx: &Context,
) -> Result<impl Iterator<Item = Found>, Failure> {
    let globs = glob_set(patterns)?;
    std::fs::metadata(root).map_err(|error| unreadable(root, &error))?;
    let root = root.to_owned();
    let entries = WalkDir::new(&root)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(move |entry| hidden || entry.depth() == 0 || !is_hidden(entry));
    Ok(entries.filter_map(move |entry| {
        let found = entry
            .map_err(|error| error.to_string())
            .and_then(|entry| found(&entry, Path::new(&root), &globs));
        found.unwrap_or_else(|error| {
            ctx.warn(error);
            None
        })
    }))
}

fn found(entry: &DirEntry, root: &Path, globs: &GlobSet) -> Result<Option<Found>, String> {
    // A root that is a file is looked at whatever the patterns say.
    let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
    if !entry.file_type().is_file()
        || entry.depth() > 0 && !globs.is_empty() && !globs.is_match(below)
    {
        return Ok(None);
    }
    let path = entry.path().display().to_string();
    let bytes = entry.metadata().map_err(|error| error.to_string())?.len();
    Ok(Some(Found { path, bytes }))
}

fn unreadable(path: &str, error: &Error) -> Failure {
    let reason = match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => {
            "no such directory, or it is not granted (--dir)".to_owned()
        }
        _ => error.to_string(),
    };
    Failure::invalid_input("/path", format!("cannot read `{path}`: {reason}"))
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// A pattern without a slash is one of file names, in whatever directory.
fn glob_set(patterns: &[String]) -> Result<GlobSet, Failure> {
    let mut set = GlobSetBuilder::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let invalid = |error: globset::Error| {
            Failure::invalid_input(format!("/glob/{index}"), error.to_string())
        };
        let anywhere = if pattern.contains('/') {
            pattern.clone()
        } else {
            format!("**/{pattern}")
        };
        set.add(
            GlobBuilder::new(&anywhere)
                .literal_separator(true)
                .build()
                .map_err(invalid)?,
        );
    }
    set.build()
        .map_err(|error| Failure::invalid_input("/glob", error.to_string()))
}
