//! The files of a skill that a model reads: `SKILL.md`, and what the Agent Skills format puts beside
//! it. Whoever wrote the folder is a stranger: nothing leads out of it, and it is read within bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

use crate::limits::display_bytes;
use crate::text::named;

/// The folders of the Agent Skills format.
const FOLDERS: [&str; 3] = ["assets", "references", "scripts"];
/// The most files of one skill.
pub const MAX_FILES: usize = 512;
/// The most files and folders that are looked at in each of its folders, whether or not they belong to it.
const MAX_LOOKED_AT: usize = MAX_FILES * 4;
/// The most bytes of all files of one skill together.
pub const MAX_FILES_BYTES: u64 = 16 << 20;
/// The most folders in one another.
const MAX_NESTED: usize = 8;
/// The longest path, in bytes.
const MAX_PATH: usize = 512;
/// The longest name that a file system takes, in bytes.
const MAX_NAME: usize = 255;

/// The folder of a skill, as far as a model may read it: `SKILL.md`, and the files in `assets`,
/// `references` and `scripts`. Symbolic links, and whatever is no regular file, are left out.
pub struct SkillFiles {
    folder: Dir,
}

/// One file of a skill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillFile {
    /// Where it is below the skill's folder, with `/` between its parts.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl SkillFiles {
    /// Opens a skill's folder.
    ///
    /// # Errors
    /// Where there is none, or it cannot be opened.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let folder = Dir::open_ambient_dir(folder, ambient_authority())?;
        Ok(SkillFiles { folder })
    }

    /// Its files by their paths, at most [`MAX_FILES`] and [`MAX_FILES_BYTES`]; empty where there is
    /// no `SKILL.md`.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<SkillFile>> {
        let mut found = Vec::new();
        match self.folder.symlink_metadata("SKILL.md") {
            Ok(metadata) if metadata.is_file() => found.push(SkillFile {
                path: "SKILL.md".to_owned(),
                bytes: metadata.len(),
            }),
            _ => return Ok(found),
        }
        for name in FOLDERS {
            let mut looked_at = 0;
            if let Ok(folder) = self.folder.open_dir_nofollow(name) {
                walk(&folder, name, 1, &mut looked_at, &mut found)?;
            }
        }
        found[1..].sort_by(|a, b| a.path.cmp(&b.path));
        let mut left = MAX_FILES_BYTES;
        let within = found.iter().take(MAX_FILES).take_while(|file| {
            let fits = file.bytes <= left;
            left = left.saturating_sub(file.bytes);
            fits
        });
        let within = within.count();
        found.truncate(within);
        Ok(found)
    }

    /// The bytes of a file that [`list`](Self::list) has named.
    ///
    /// # Errors
    /// Where there is no such file, or it is too large.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let (folders, name) = inside(path).ok_or(io::ErrorKind::NotFound)?;
        let mut folder = self.folder.try_clone()?;
        for part in folders {
            folder = folder.open_dir_nofollow(part)?;
        }
        // Not blocking: opening a FIFO would otherwise wait for a writer.
        let flags = rustix::fs::OFlags::NONBLOCK.bits();
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags(i32::try_from(flags).unwrap_or_default())
            .follow(FollowSymlinks::No);
        let file = folder.open_with(name, &options)?;
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILES_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILES_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }
}

impl fmt::Debug for SkillFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkillFiles").finish_non_exhaustive()
    }
}

/// The folders and the name of a file that may belong to a skill.
fn inside(path: &str) -> Option<(Vec<&str>, &str)> {
    let mut folders: Vec<&str> = path.split('/').collect();
    let name = folders.pop()?;
    let is_inside = match folders.first() {
        None => name == "SKILL.md",
        Some(first) => FOLDERS.contains(first) && folders.len() <= MAX_NESTED,
    };
    let plain = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains('\0');
    let all_plain = folders.iter().all(plain) && plain(&name);
    (is_inside && all_plain && path.len() <= MAX_PATH).then_some((folders, name))
}

/// Why files cannot stand beside a `SKILL.md` of so many bytes: what would not be [listed](SkillFiles::list)
/// afterwards. With the path of the first that cannot.
pub(super) fn unfit(
    document_bytes: usize,
    files: &BTreeMap<String, Vec<u8>>,
) -> Option<(&str, String)> {
    let mut bytes = document_bytes as u64;
    // The folders, which are looked at afterwards as the files are.
    let mut around = BTreeSet::new();
    for (number, (path, content)) in files.iter().enumerate() {
        let because = |reason: &str| Some((path.as_str(), reason.to_owned()));
        let folders = match inside(path) {
            Some((folders, name)) if !folders.is_empty() => {
                let hidden = |part: &&str| part.starts_with('.') || part.len() > MAX_NAME;
                if folders.iter().any(hidden) || hidden(&name) {
                    return because("a name begins with a dot, or is longer than 255 bytes");
                }
                folders
            }
            _ => {
                return because(
                    "a file stands in `assets`, `references` or `scripts`, at most 8 folders deep",
                );
            }
        };
        let above = (1..=folders.len()).map(|depth| folders[..depth].join("/"));
        let above: Vec<String> = above.collect();
        if let Some(file) = above.iter().find(|folder| files.contains_key(*folder)) {
            return because(&format!("`{}` is a file", named(file, MAX_PATH)));
        }
        // Those of all folders together: no skill needs as many.
        around.extend(above);
        if around.len() + number > MAX_LOOKED_AT {
            return because("there are too many folders");
        }
        // One is `SKILL.md`.
        if number + 2 > MAX_FILES {
            return because(&format!("a skill has at most {MAX_FILES} files"));
        }
        bytes = bytes.saturating_add(content.len() as u64);
        if bytes > MAX_FILES_BYTES {
            let most = display_bytes(MAX_FILES_BYTES);
            return because(&format!("all files together have at most {most}"));
        }
    }
    None
}

/// `looked_at` counts whatever stands there, also what is passed over.
fn walk(
    folder: &Dir,
    path: &str,
    nested: usize,
    looked_at: &mut usize,
    found: &mut Vec<SkillFile>,
) -> io::Result<()> {
    for entry in folder.entries()? {
        *looked_at += 1;
        if *looked_at > MAX_LOOKED_AT {
            return Ok(());
        }
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = format!("{path}/{name}");
        if name.starts_with('.') || path.len() > MAX_PATH {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_file() {
            let bytes = entry.metadata()?.len();
            found.push(SkillFile { path, bytes });
        } else if kind.is_dir() && nested < MAX_NESTED {
            let folder = folder.open_dir_nofollow(&name)?;
            walk(&folder, &path, nested + 1, looked_at, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths(files: &SkillFiles) -> Vec<String> {
        let listed = files.list().unwrap();
        listed.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn folders_without_files_are_not_looked_at_without_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("SKILL.md"), "a").unwrap();
        for number in 0..MAX_FILES * 4 + 10 {
            fs::create_dir_all(folder.path().join(format!("assets/{number}"))).unwrap();
        }
        let files = SkillFiles::open(folder.path()).unwrap();
        let (mut looked_at, mut found) = (0, Vec::new());
        let assets = files.folder.open_dir_nofollow("assets").unwrap();
        walk(&assets, "assets", 1, &mut looked_at, &mut found).unwrap();
        assert_eq!(looked_at, MAX_FILES * 4 + 1);
        assert_eq!(paths(&files), ["SKILL.md"]);
    }

    #[test]
    fn what_belongs_to_it_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let files = SkillFiles::open(folder.path()).unwrap();
        fs::create_dir_all(at("references/more")).unwrap();
        fs::create_dir(at("src")).unwrap();
        for name in [
            "references/a.md",
            "references/more/b.md",
            "src/lib.rs",
            "secret",
        ] {
            fs::write(at(name), name).unwrap();
        }
        assert!(files.list().unwrap().is_empty(), "there is no SKILL.md");
        fs::write(at("SKILL.md"), "text").unwrap();
        symlink("/etc", at("assets")).unwrap();
        symlink("../secret", at("references/link.md")).unwrap();
        let fifo = std::ffi::CString::new(at("references/fifo").to_str().unwrap()).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &*fifo, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(
            paths(&files),
            ["SKILL.md", "references/a.md", "references/more/b.md"]
        );
        assert_eq!(files.read("references/a.md").unwrap(), b"references/a.md");
        for path in [
            "secret",
            "src/lib.rs",
            "references/../secret",
            "references/./a.md",
            "references//a.md",
            "/etc/passwd",
            "assets/passwd",
            "references/link.md",
            "references/fifo",
            "references/more",
            "references",
            "",
            "SKILL.md/",
        ] {
            assert!(files.read(path).is_err(), "{path}");
        }
    }

    #[test]
    fn what_could_not_be_read_again_is_not_taken() {
        let file = |path: &str| (path.to_owned(), b"text".to_vec());
        let unfit = |paths: &[&str]| {
            let files = paths.iter().map(|path| file(path)).collect();
            unfit(4, &files).map(|(path, reason)| (path.to_owned(), reason))
        };
        let deep = format!("assets/{}a", "b/".repeat(7));
        assert_eq!(unfit(&["assets/a", "references/b/c.md", &deep]), None);
        for (paths, at, reason) in [
            (["a.md", "assets/a"], 0, "a file stands in `assets`"),
            (["SKILL.md", "assets/a"], 0, "a file stands in"),
            (["assets/../a", "assets/a"], 0, "a file stands in"),
            (["/etc/passwd", "assets/a"], 0, "a file stands in"),
            (["assets/a//b", "assets/b"], 0, "a file stands in"),
            (
                ["assets/b/b/b/b/b/b/b/b/a", "scripts/a"],
                0,
                "8 folders deep",
            ),
            (["assets/.a", "assets/b"], 0, "begins with a dot"),
            (["assets/a", "assets/a/b"], 1, "`assets/a` is a file"),
        ] {
            let (path, said) = unfit(&paths).unwrap();
            assert_eq!(path, paths[at]);
            assert!(said.contains(reason), "{said}");
        }
        let long = format!("assets/{}", "a".repeat(MAX_NAME + 1));
        assert!(unfit(&[&long]).unwrap().1.contains("longer than 255 bytes"));
        let many: BTreeMap<_, _> = (0..MAX_FILES)
            .map(|at| file(&format!("assets/{at}")))
            .collect();
        let (_, said) = super::unfit(0, &many).unwrap();
        assert_eq!(said, "a skill has at most 512 files");
        // Four folders and more for each file.
        let scattered: BTreeMap<_, _> = (0..420)
            .map(|at| file(&format!("assets/{at}/a/b/c/d/e")))
            .collect();
        let (_, said) = super::unfit(0, &scattered).unwrap();
        assert_eq!(said, "there are too many folders");
        let large = BTreeMap::from([("assets/a".to_owned(), vec![0; MAX_FILES_BYTES as usize])]);
        assert!(super::unfit(0, &large).is_none());
        let (_, said) = super::unfit(1, &large).unwrap();
        assert_eq!(said, "all files together have at most 16 MiB");
    }

    #[test]
    fn there_is_an_end_to_how_much_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("SKILL.md"), "text").unwrap();
        fs::create_dir(folder.path().join("assets")).unwrap();
        for number in 0..MAX_FILES + 10 {
            fs::write(folder.path().join(format!("assets/{number:04}")), "").unwrap();
        }
        let files = SkillFiles::open(folder.path()).unwrap();
        assert_eq!(paths(&files).len(), MAX_FILES);
        let large = fs::File::create(folder.path().join("assets/0000")).unwrap();
        large.set_len(MAX_FILES_BYTES + 1).unwrap();
        assert_eq!(paths(&files), ["SKILL.md"]);
        assert!(files.read("assets/0000").is_err());
    }
}
