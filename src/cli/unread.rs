//! A file that a flag names, and that cannot be read.

use std::fs::DirEntry;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use skillhost::grant::shell_word;
use skillhost::text::closest;

use super::complaint::Complaint;

/// How many names of a folder are compared.
const MOST_NAMES: usize = 10_000;

/// Says what could not be read, which flag named it, and what to do. No path is standard input.
pub fn unread(path: Option<&Path>, flag: &str, error: &Error) -> Complaint {
    let name = match path {
        Some(path) => format!("`{}`", path.display()),
        None => "standard input".to_owned(),
    };
    let message = format!("cannot read {name}, which `{flag}` names: {error}");
    Complaint::usage(message).hint(match (path, error.kind()) {
        (None, _) => "send it something with `<` or `|`, or name a file".to_owned(),
        (Some(path), ErrorKind::NotFound) => missing(path),
        (Some(_), ErrorKind::IsADirectory) => "name a file; that is a folder".to_owned(),
        (Some(path), _) => format!(
            "see whose it is, and who may read it: `ls -ld {}`",
            shell_word(&path.to_string_lossy())
        ),
    })
}

fn missing(path: &Path) -> String {
    let is_file = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| !kind.is_dir());
    match (beside(path, is_file), std::env::current_dir()) {
        (Some(close), _) => format!("did you mean `{}`?", close.display()),
        (None, Ok(folder)) if path.is_relative() => {
            format!(
                "a path begins in the folder where you are, `{}`",
                folder.display()
            )
        }
        _ => "name a file that is there".to_owned(),
    }
}

/// What is in the same folder, is one of those that are meant, and has almost that name.
pub fn beside(path: &Path, is_meant: impl Fn(&DirEntry) -> bool) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let folder = match path.parent()? {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    let names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .take(MOST_NAMES)
        .filter_map(Result::ok)
        .filter(is_meant)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let close = closest(name, names.iter().map(String::as_str))?;
    Some(path.with_file_name(close))
}
