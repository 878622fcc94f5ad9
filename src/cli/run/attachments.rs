//! Attachments: files that go in, and files that come out.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use skillhost::Attachment;
use skillhost::text::printable;

use crate::cli::complaint::Complaint;

/// The longest name that a file of ours gets, in bytes. File systems allow 255.
const MAX_NAME: usize = 200;
/// How many files of one name are written side by side.
const MAX_DUPLICATES: u32 = 10_000;

/// An attachment of the input: a file, or where there is no path, standard input.
pub fn incoming(path: Option<&Path>, data: Vec<u8>) -> Attachment {
    let Some(path) = path else {
        return Attachment::new("stdin", "application/octet-stream", data);
    };
    let name = match path.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "attachment".to_owned(),
    };
    let media_type = mime_guess::from_path(path).first_or_octet_stream();
    Attachment::new(name, media_type.essence_str(), data)
}

/// Looks whether attachments can be written to a folder. One that is not there is made when one is written.
///
/// # Errors
/// Where they cannot, or it cannot be made.
pub fn check_out(out: &Path) -> Result<(), Complaint> {
    writable(out).map_err(|error| {
        let what = match out.is_dir() {
            true => "write to",
            false => "make",
        };
        let complaint = Complaint::usage(format!(
            "cannot {what} the folder `{}`: {error}",
            out.display()
        ));
        match out.is_file() {
            true => {
                complaint.hint("that is a file; attachments are written to a folder: --out DIR")
            }
            false => complaint.hint("name a folder that you may make or write to: --out DIR"),
        }
    })
}

/// Whether a folder can be written to, or where it is not there, the nearest around it that is. What is wrong is what
/// the system would say of making it.
fn writable(out: &Path) -> io::Result<()> {
    for folder in out.ancestors() {
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        match fs::metadata(folder) {
            Ok(there) if there.is_dir() => {
                access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
                // Some let nobody make a file in them, whoever it is. This one has no name, or is gone again.
                return tempfile::tempfile_in(folder).map(drop);
            }
            Ok(_) => return Err(Errno::EXIST.into()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) if folder.is_symlink() => return Err(Errno::EXIST.into()),
            Err(_) => {}
        }
    }
    Ok(())
}

/// A folder to which the attachments of an answer are written.
pub struct Outgoing<'a> {
    folder: &'a Path,
    /// The number to try next, of names that were written.
    next: HashMap<String, u32>,
}

impl<'a> Outgoing<'a> {
    /// To this folder.
    pub fn new(folder: &'a Path) -> Self {
        Outgoing {
            folder,
            next: HashMap::new(),
        }
    }

    /// Writes one, and gives the path. The folder is made where it is not there. Nothing that is there is overwritten,
    /// and no link is followed.
    ///
    /// # Errors
    /// Where it cannot be written; `AlreadyExists` where there are 10,000 files of its name.
    pub fn write(&mut self, attachment: &Attachment) -> io::Result<PathBuf> {
        let name = file_name(&attachment.name);
        let first = self.next.get(&name).copied().unwrap_or(1);
        fs::create_dir_all(self.folder)?;
        for number in first..=MAX_DUPLICATES {
            let path = self.folder.join(numbered(&name, number));
            match File::create_new(&path) {
                Ok(mut file) => {
                    self.next.insert(name, number + 1);
                    file.write_all(&attachment.data)?;
                    return Ok(path);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            ErrorKind::AlreadyExists,
            format!("there are {MAX_DUPLICATES} files of that name"),
        ))
    }
}

/// A name that a guest claims, made one that is safe to write to: the last part of a path, nothing
/// that cannot be printed, no dot or space at the ends, no dash at the beginning, and not too long.
fn file_name(claimed: &str) -> String {
    let last = claimed.rsplit(['/', '\\']).next().unwrap_or_default();
    // What `printable` would show as an escape is left out.
    let visible: String = last
        .chars()
        .filter(|c| printable(c.encode_utf8(&mut [0; 4]), false).len() == c.len_utf8())
        .collect();
    // What begins with a `-` is a flag to whoever lists or removes the files.
    let trimmed = visible.trim_matches(['.', ' ']);
    let trimmed = trimmed.trim_start_matches(['-', '.', ' ']);
    if trimmed.is_empty() {
        return "attachment".to_owned();
    }
    let (stem, extension) = split(trimmed);
    let room = MAX_NAME.saturating_sub(extension.len());
    let mut end = stem.len().min(room);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", &stem[..end])
}

/// `picture.png`, `picture-2.png`, …
fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        return name.to_owned();
    }
    let (stem, extension) = split(name);
    format!("{stem}-{number}{extension}")
}

/// The name without its extension, and the extension with its dot, if it is a short one.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= 20 => name.split_at(dot),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_name_never_leaves_the_folder() {
        for (claimed, name) in [
            ("thumbnail.png", "thumbnail.png"),
            ("../../etc/passwd", "passwd"),
            ("/etc/cron.d/job", "job"),
            ("..\\..\\boot.ini", "boot.ini"),
            (".bashrc", "bashrc"),
            ("...", "attachment"),
            ("..", "attachment"),
            ("", "attachment"),
            ("a/", "attachment"),
            (" . a . ", "a"),
            ("a\nb\0c\x1b[31m.txt", "abc[31m.txt"),
            ("evil\u{202e}gnp.exe", "evilgnp.exe"),
            ("Zürich été.txt", "Zürich été.txt"),
            ("-rf", "rf"),
            ("--", "attachment"),
            ("-. a-b", "a-b"),
        ] {
            assert_eq!(file_name(claimed), name, "{claimed:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_and_keeps_its_extension() {
        let name = file_name(&format!("{}.tar", "é".repeat(300)));
        assert!(name.len() <= MAX_NAME, "{}", name.len());
        assert!(name.ends_with("é.tar"));
        assert!(file_name(&format!("a.{}", "b".repeat(300))).len() <= MAX_NAME);
    }

    #[test]
    fn nothing_is_overwritten_and_no_link_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        std::os::unix::fs::symlink(&target, folder.path().join("a.txt")).unwrap();
        let attachment = Attachment::new("x/a.txt", "text/plain", "hello");
        let mut outgoing = Outgoing::new(folder.path());
        let first = outgoing.write(&attachment).unwrap();
        let second = outgoing.write(&attachment).unwrap();
        assert_eq!(first, folder.path().join("a-2.txt"));
        assert_eq!(second, folder.path().join("a-3.txt"));
        let third = Outgoing::new(folder.path()).write(&attachment).unwrap();
        assert_eq!(third, folder.path().join("a-4.txt"));
        assert!(!target.exists());
    }

    #[test]
    fn what_cannot_be_written_to_is_told_before() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::write(path("file"), "").unwrap();
        std::os::unix::fs::symlink(path("nowhere"), path("link")).unwrap();
        for (name, error) in [
            ("", None),
            ("new", None),
            ("new/../newer/newest", None),
            ("file", Some(ErrorKind::AlreadyExists)),
            ("file/new", Some(ErrorKind::NotADirectory)),
            ("link", Some(ErrorKind::AlreadyExists)),
            ("/proc/x", Some(ErrorKind::NotFound)),
        ] {
            let said = writable(&path(name)).map_err(|error| error.kind());
            assert_eq!(said.err(), error, "{name}");
            let made = fs::create_dir_all(path(name)).map_err(|error| error.kind());
            assert_eq!(made.err(), error, "{name}");
        }
    }

    #[test]
    fn the_media_type_follows_from_the_extension() {
        let of = |path: &str| incoming(Some(Path::new(path)), Vec::new());
        assert_eq!(of("a/b.CSV").media_type, "text/csv");
        assert_eq!(of("a/b.CSV").name, "b.CSV");
        assert_eq!(of("photo.jpg").media_type, "image/jpeg");
        assert_eq!(of("b").media_type, "application/octet-stream");
        assert_eq!(incoming(None, vec![1]).name, "stdin");
    }
}
