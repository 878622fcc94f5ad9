//! The SDK that the command carries, and where it is unpacked.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use include_dir::{Dir, DirEntry, include_dir};
use skillhost::skill::Digest;

static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/wit");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/skills-sdk/src");
static SDK_MANIFEST: &str = include_str!("../../../skills-sdk/Cargo.toml");
static MACROS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/skills-sdk/macros/src");
static MACROS_MANIFEST: &str = include_str!("../../../skills-sdk/macros/Cargo.toml");

/// Makes sure that the SDK is unpacked below a folder, and gives the path of its crate. Each
/// version, and each state of one, has a folder of its own; what is missing of it is written again.
///
/// # Errors
/// Where it cannot be written.
pub fn unpacked(folder: &Path) -> anyhow::Result<PathBuf> {
    let files = files();
    let target = folder.join(format!(
        "{}-{}",
        env!("CARGO_PKG_VERSION"),
        fingerprint(&files)
    ));
    let sdk = target.join("skills-sdk");
    let lacking: Vec<_> = files
        .iter()
        .filter(|(path, contents)| {
            !fs::read(target.join(path)).is_ok_and(|there| there == *contents)
        })
        .collect();
    let written = match lacking.len() {
        0 => Ok(()),
        all if all == files.len() => write(&files, folder, &target),
        // Somebody removed or changed a part of it.
        _ => mend(&lacking, folder, &target),
    };
    written.with_context(|| format!("cannot unpack the SDK to `{}`", target.display()))?;
    Ok(sdk)
}

/// Written aside and renamed, so that nobody ever sees half of it.
fn write(files: &[(PathBuf, &[u8])], folder: &Path, target: &Path) -> io::Result<()> {
    // Below the folder of what is kept, where that is not there yet.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let aside = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(folder)?;
    for (path, contents) in files {
        let path = aside.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, contents)?;
    }
    match fs::rename(aside.path(), target) {
        Ok(()) => {
            // It now stands under its own name: nothing is left to clean up.
            let _ = aside.keep();
            Ok(())
        }
        // Another process was faster, and wrote the same.
        Err(_) if target.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes single files again, each aside first.
fn mend(lacking: &[&(PathBuf, &[u8])], folder: &Path, target: &Path) -> io::Result<()> {
    for (path, contents) in lacking {
        let path = target.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let aside = tempfile::NamedTempFile::new_in(folder)?;
        fs::write(aside.path(), contents)?;
        aside.persist(&path).map_err(|error| error.error)?;
    }
    Ok(())
}

/// Every file with its path, in an order that is always the same.
fn files() -> Vec<(PathBuf, &'static [u8])> {
    let mut files = vec![
        (
            PathBuf::from("skills-sdk/Cargo.toml"),
            SDK_MANIFEST.as_bytes(),
        ),
        (
            PathBuf::from("skills-sdk/macros/Cargo.toml"),
            MACROS_MANIFEST.as_bytes(),
        ),
    ];
    for (folder, dir) in [
        ("wit", &WIT),
        ("skills-sdk/src", &SDK),
        ("skills-sdk/macros/src", &MACROS),
    ] {
        collect(Path::new(folder), dir, &mut files);
    }
    files.sort();
    files
}

fn collect(folder: &Path, dir: &Dir<'static>, files: &mut Vec<(PathBuf, &'static [u8])>) {
    for entry in dir.entries() {
        match entry {
            DirEntry::File(file) => files.push((folder.join(file.path()), file.contents())),
            // The paths in a folder begin at the top, too.
            DirEntry::Dir(dir) => collect(folder, dir, files),
        }
    }
}

/// A short digest over paths and contents.
fn fingerprint(files: &[(PathBuf, &[u8])]) -> String {
    let mut all = Vec::new();
    for (path, contents) in files {
        all.extend_from_slice(path.as_os_str().as_encoded_bytes());
        all.push(0);
        all.extend_from_slice(&(contents.len() as u64).to_le_bytes());
        all.extend_from_slice(contents);
    }
    let mut digits = Digest::of_component(&all).hex();
    digits.truncate(12);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files below a folder of the checkout, apart from what is built or tests it.
    fn on_disk(folder: &str) -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = Vec::new();
        let mut open = vec![root.join(folder)];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    found.push(path.strip_prefix(root).unwrap().to_owned());
                }
            }
        }
        found
    }

    #[test]
    fn the_sdk_is_carried_as_it_is_in_the_checkout() {
        let mut expected = vec![
            PathBuf::from("skills-sdk/Cargo.toml"),
            PathBuf::from("skills-sdk/macros/Cargo.toml"),
        ];
        for folder in ["wit", "skills-sdk/src", "skills-sdk/macros/src"] {
            expected.extend(on_disk(folder));
        }
        expected.sort();
        let carried: Vec<PathBuf> = files().into_iter().map(|(path, _)| path).collect();
        assert_eq!(carried, expected);
        for (path, contents) in files() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            assert!(fs::read(&path).unwrap() == contents, "{}", path.display());
        }
    }

    #[test]
    fn it_is_unpacked_once() {
        let folder = tempfile::tempdir().unwrap();
        let sdk = unpacked(folder.path()).unwrap();
        assert!(sdk.join("src/lib.rs").is_file());
        assert!(sdk.join("macros/Cargo.toml").is_file());
        assert!(sdk.join("../wit/skill.wit").is_file());
        let before = fs::metadata(sdk.join("src/lib.rs")).unwrap().modified();
        assert_eq!(unpacked(folder.path()).unwrap(), sdk);
        let after = fs::metadata(sdk.join("src/lib.rs")).unwrap().modified();
        assert_eq!(before.unwrap(), after.unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_lost_of_it_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let sdk = unpacked(folder.path()).unwrap();
        fs::remove_dir_all(sdk.join("src")).unwrap();
        fs::write(sdk.join("../wit/skill.wit"), "").unwrap();
        assert_eq!(unpacked(folder.path()).unwrap(), sdk);
        for (path, contents) in files() {
            assert!(
                fs::read(sdk.join("..").join(&path)).unwrap() == contents,
                "{}",
                path.display()
            );
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
