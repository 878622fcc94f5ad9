//! A skill on disk: a lone component, or a folder with a component, `skill.toml` and `SKILL.md`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::digest::Digest;
use super::document::{Document, DocumentError};
use super::files;
use super::manifest::{Manifest, ManifestError};
use crate::limits::{display_bytes, grouped};
use crate::text::named;

/// The largest `skill.toml` or `SKILL.md`, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// The bytes of a skill, read and identified, but neither compiled nor asked anything.
#[derive(Debug, Clone)]
pub struct Package {
    /// The component.
    pub component: Arc<[u8]>,
    /// The digest of the component alone; the compiled cache goes by it.
    pub component_digest: Digest,
    /// The digest of the skill: of the component and the manifest.
    pub digest: Digest,
    /// What `skill.toml` declares, where there is one.
    pub manifest: Option<Manifest>,
    /// The text of `skill.toml`.
    pub manifest_text: Option<Arc<str>>,
    /// What `SKILL.md` says, where there is one.
    pub document: Option<Document>,
    /// The text of `SKILL.md`.
    pub document_text: Option<Arc<str>>,
    /// What belongs to `SKILL.md`, by its path below the skill's folder, where it does not stand in a folder at
    /// [`path`](Package::path).
    pub files: Arc<BTreeMap<String, Vec<u8>>>,
    /// Where it was read from.
    pub path: Option<PathBuf>,
}

/// A skill that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The file or folder cannot be read.
    #[error("`{}` cannot be read: {source}", shown(path))]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is neither a file nor a folder.
    #[error("`{}` is neither a regular file nor a folder", shown(path))]
    NotAFile {
        /// Which path.
        path: PathBuf,
    },
    /// It is a folder, and none is looked for there.
    #[error("`{}` is a folder, where a file belongs", shown(path))]
    IsAFolder {
        /// Which path.
        path: PathBuf,
    },
    /// A file is too large.
    #[error(
        "`{}` has {} bytes; {} are allowed",
        shown(path),
        grouped(*bytes),
        display_bytes(*allowed)
    )]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        allowed: u64,
    },
    /// The folder has no component.
    #[error(
        "the folder `{}` has no `skill.wasm` and no other single `.wasm` file in it",
        shown(path)
    )]
    NoComponent {
        /// Which folder.
        path: PathBuf,
        /// Whether it has a `Cargo.toml`, and so looks like the source of a skill.
        is_source: bool,
    },
    /// The folder has several components.
    #[error(
        "the folder `{}` has several `.wasm` files in it; name the one to run `skill.wasm`",
        shown(path)
    )]
    SeveralComponents {
        /// Which folder.
        path: PathBuf,
    },
    /// `skill.toml` cannot be used.
    #[error("`{}` cannot be used: {source}", shown(path))]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// `SKILL.md` does not follow the format.
    #[error("`{}` does not follow the Agent Skills format: {source}", shown(path))]
    Document {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: DocumentError,
    },
    /// A file cannot belong to a skill.
    #[error("`{path}` cannot belong to a skill: {reason}")]
    File {
        /// Its path, with control characters escaped.
        path: String,
        /// Why.
        reason: String,
    },
}

/// A path as it stands between backticks: a file in a folder has the name that the skill's author gave it.
fn shown(path: &Path) -> String {
    named(&path.to_string_lossy(), 4_096)
}

impl Package {
    /// Reads a `.wasm` file, or a folder with one. Files next to a lone `.wasm` are not looked at.
    ///
    /// `max_component_bytes` bounds the component; `skill.toml` and `SKILL.md` may have 1 MiB.
    ///
    /// # Errors
    /// See [`PackageError`].
    pub fn read(path: &Path, max_component_bytes: u64) -> Result<Self, PackageError> {
        let kind = std::fs::metadata(path).map_err(|source| io(path, source))?;
        if kind.is_file() {
            let component = read_bounded(path, max_component_bytes)?;
            let mut package = Package::from_bytes(component);
            package.path = Some(path.to_owned());
            return Ok(package);
        }
        if !kind.is_dir() {
            return Err(PackageError::NotAFile {
                path: path.to_owned(),
            });
        }
        let folder = Dir::open_ambient_dir(path, ambient_authority());
        let folder = folder.map_err(|source| io(path, source))?;
        let component = component_in(path)?;
        let component = read_beneath(&folder, &component, max_component_bytes)?;
        let manifest = read_text(&folder, &path.join("skill.toml"))?;
        let document = read_text(&folder, &path.join("SKILL.md"))?;
        let mut package = Package::from_parts(component, manifest, document)
            .map_err(|error| error.in_folder(path))?;
        package.path = Some(path.to_owned());
        Ok(package)
    }

    /// A lone component.
    pub fn from_bytes(component: impl Into<Arc<[u8]>>) -> Self {
        let component = component.into();
        let digest = Digest::of_component(&component);
        Package {
            component,
            component_digest: digest,
            digest,
            manifest: None,
            manifest_text: None,
            document: None,
            document_text: None,
            files: Arc::default(),
            path: None,
        }
    }

    /// With these files beside its `SKILL.md`, by their paths below the skill's folder: such as
    /// `references/units.md`. At most [`MAX_FILES`](super::MAX_FILES) and
    /// [`MAX_FILES_BYTES`](super::MAX_FILES_BYTES), `SKILL.md` among them.
    ///
    /// # Errors
    /// [`PackageError::File`] for one that could not be read again, and for any where there is no `SKILL.md`.
    pub fn with_files(mut self, files: BTreeMap<String, Vec<u8>>) -> Result<Self, PackageError> {
        let refused = |(path, reason): (&str, String)| PackageError::File {
            path: named(path, 512),
            reason,
        };
        let unfit = match &self.document_text {
            Some(document) => files::unfit(document.len(), &files),
            None => files.keys().next().map(|path| {
                (
                    path.as_str(),
                    "there is no `SKILL.md` that refers to it".to_owned(),
                )
            }),
        };
        if let Some(unfit) = unfit {
            return Err(refused(unfit));
        }
        self.files = Arc::new(files);
        Ok(self)
    }

    /// A component with the texts of `skill.toml` and `SKILL.md`, each where there is one.
    ///
    /// # Errors
    /// [`PackageError::Manifest`] or [`PackageError::Document`].
    pub fn from_parts(
        component: impl Into<Arc<[u8]>>,
        manifest: Option<String>,
        document: Option<String>,
    ) -> Result<Self, PackageError> {
        let mut package = Package::from_bytes(component);
        if let Some(text) = manifest {
            let parsed = text.parse().map_err(|source| PackageError::Manifest {
                path: "skill.toml".into(),
                source,
            })?;
            package.manifest = Some(parsed);
            package.digest = package.component_digest.with_manifest(text.as_bytes());
            package.manifest_text = Some(text.into());
        }
        if let Some(text) = document {
            let parsed = text.parse().map_err(|source| PackageError::Document {
                path: "SKILL.md".into(),
                source,
            })?;
            package.document = Some(parsed);
            package.document_text = Some(text.into());
        }
        Ok(package)
    }
}

impl PackageError {
    fn in_folder(self, folder: &Path) -> Self {
        match self {
            PackageError::Manifest { path, source } => PackageError::Manifest {
                path: folder.join(path),
                source,
            },
            PackageError::Document { path, source } => PackageError::Document {
                path: folder.join(path),
                source,
            },
            other => other,
        }
    }
}

fn io(path: &Path, source: std::io::Error) -> PackageError {
    PackageError::Io {
        path: path.to_owned(),
        source,
    }
}

fn component_in(folder: &Path) -> Result<PathBuf, PackageError> {
    let named = folder.join("skill.wasm");
    if named.is_file() {
        return Ok(named);
    }
    let mut found = None;
    for entry in std::fs::read_dir(folder).map_err(|source| io(folder, source))? {
        let path = entry.map_err(|source| io(folder, source))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "wasm")
            && path.is_file()
        {
            if found.is_some() {
                return Err(PackageError::SeveralComponents {
                    path: folder.to_owned(),
                });
            }
            found = Some(path);
        }
    }
    found.ok_or_else(|| PackageError::NoComponent {
        path: folder.to_owned(),
        is_source: folder.join("Cargo.toml").is_file(),
    })
}

/// Reads a regular file of at most `allowed` bytes, to where it is to stay.
fn read_bounded(path: &Path, allowed: u64) -> Result<Arc<[u8]>, PackageError> {
    let is_file = std::fs::metadata(path)
        .map_err(|source| io(path, source))?
        .is_file();
    read_file(path, allowed, is_file, || open(path))
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(not_blocking()).open(path)
}

/// The same of a file in a folder, from which no link leads out.
fn read_beneath(folder: &Dir, path: &Path, allowed: u64) -> Result<Arc<[u8]>, PackageError> {
    let name = path.file_name().map(Path::new).unwrap_or(path);
    let metadata = folder.metadata(name).map_err(|source| io(path, source))?;
    if metadata.is_dir() {
        return Err(PackageError::IsAFolder {
            path: path.to_owned(),
        });
    }
    read_file(path, allowed, metadata.is_file(), || open_in(folder, name))
}

fn open_in(folder: &Dir, name: &Path) -> std::io::Result<File> {
    let mut options = cap_std::fs::OpenOptions::new();
    options.read(true);
    cap_std::fs::OpenOptionsExt::custom_flags(&mut options, not_blocking());
    let opened = folder.open_with(name, &options);
    opened.map(cap_std::fs::File::into_std)
}

/// Opening a FIFO would otherwise wait for a writer.
fn not_blocking() -> i32 {
    use rustix::fs::OFlags;
    (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed()
}

fn read_file(
    path: &Path,
    allowed: u64,
    is_file: bool,
    open: impl FnOnce() -> std::io::Result<File>,
) -> Result<Arc<[u8]>, PackageError> {
    let not_a_file = || PackageError::NotAFile {
        path: path.to_owned(),
    };
    // To open a device may do something.
    if !is_file {
        return Err(not_a_file());
    }
    let mut file = open().map_err(|source| io(path, source))?;
    // It may be another by now.
    let metadata = file.metadata().map_err(|source| io(path, source))?;
    let bytes = metadata.len();
    if !metadata.is_file() {
        return Err(not_a_file());
    }
    let too_large = |bytes| PackageError::TooLarge {
        path: path.to_owned(),
        bytes,
        allowed,
    };
    if bytes > allowed {
        return Err(too_large(bytes));
    }
    let length = usize::try_from(bytes).map_err(|_| too_large(bytes))?;
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
    // Nobody else has it yet.
    let place = Arc::get_mut(&mut bytes).unwrap_or_default();
    let read = file.read_exact(place).and_then(|()| file.read(&mut [0]));
    let changed = || io(path, std::io::Error::other("it changed while it was read"));
    match read {
        Ok(0) => Ok(bytes),
        Ok(_) => Err(changed()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(changed()),
        Err(source) => Err(io(path, source)),
    }
}

fn read_text(folder: &Dir, path: &Path) -> Result<Option<String>, PackageError> {
    match read_beneath(folder, path, MAX_TEXT_BYTES) {
        Ok(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(error) => Err(io(path, std::io::Error::new(ErrorKind::InvalidData, error))),
        },
        Err(PackageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_a_folder_is_read() {
        let outside = tempfile::tempdir().unwrap();
        let secret = "---\nname: a\ndescription: b\n---\nsecret\n";
        std::fs::write(outside.path().join("secret"), secret).unwrap();
        for name in ["SKILL.md", "skill.toml", "skill.wasm"] {
            let folder = tempfile::tempdir().unwrap();
            let within = folder.path().join("skill.wasm");
            if name != "skill.wasm" {
                std::fs::write(&within, "").unwrap();
            }
            let link = folder.path().join(name);
            std::os::unix::fs::symlink(outside.path().join("secret"), &link).unwrap();
            let error = Package::read(folder.path(), 1 << 20).unwrap_err();
            assert!(
                matches!(&error, PackageError::Io { path, .. } if *path == link),
                "{error}"
            );
            assert!(!error.to_string().contains("secret"), "{error}");
            // A link to what is in it is as good as that.
            std::fs::remove_file(&link).unwrap();
            std::fs::write(folder.path().join("other"), "").unwrap();
            std::os::unix::fs::symlink("other", &link).unwrap();
            let read = Package::read(folder.path(), 1 << 20);
            assert!(!matches!(read, Err(PackageError::Io { .. })), "{read:?}");
        }
    }

    /// Between the look at it and its opening, a file may become a FIFO.
    #[test]
    fn what_is_swapped_for_a_fifo_holds_nobody_up() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        let (sent, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("skill.wasm");
            mkfifoat(CWD, &path, Mode::RWXU).unwrap();
            let opened = read_file(&path, 10, true, || open(&path));
            let dir = Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
            let name = Path::new("skill.wasm");
            let opened_in = read_file(&path, 10, true, || open_in(&dir, name));
            let _ = sent.send([opened, opened_in]);
        });
        // Without an end, a failure would be that the test never ends.
        let read = ended
            .recv_timeout(std::time::Duration::from_secs(60))
            .unwrap();
        for read in read {
            assert!(
                matches!(read, Err(PackageError::NotAFile { .. })),
                "{read:?}"
            );
        }
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_is_read_whole() {
        let folder = folder(&[
            ("x.wasm", "component"),
            ("skill.toml", "[limits]\nfuel = 1"),
            ("SKILL.md", "---\nname: a\ndescription: b\n---\n"),
        ]);
        let package = Package::read(folder.path(), 100).unwrap();
        assert_eq!(package.manifest.unwrap().limits.fuel, Some(1));
        assert_eq!(package.document.unwrap().name, "a");
        assert_ne!(package.digest, package.component_digest);
        let lone = Package::read(&folder.path().join("x.wasm"), 100).unwrap();
        assert_eq!(lone.digest, package.component_digest);
        assert!(lone.manifest.is_none());
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let read = |folder: &tempfile::TempDir| Package::read(folder.path(), 10).unwrap_err();
        assert!(matches!(
            read(&folder(&[("Cargo.toml", "")])),
            PackageError::NoComponent {
                is_source: true,
                ..
            }
        ));
        assert!(matches!(
            read(&folder(&[("a.wasm", ""), ("b.wasm", "")])),
            PackageError::SeveralComponents { .. }
        ));
        assert!(matches!(
            read(&folder(&[("a.wasm", "0123456789a")])),
            PackageError::TooLarge {
                bytes: 11,
                allowed: 10,
                ..
            }
        ));
        let error = read(&folder(&[("a.wasm", ""), ("skill.toml", "[limit]")]));
        assert!(error.to_string().contains("skill.toml"), "{error}");
        let of_folder = folder(&[("a.wasm", "")]);
        std::fs::create_dir(of_folder.path().join("skill.toml")).unwrap();
        let error = read(&of_folder).to_string();
        assert!(
            error.ends_with("/skill.toml` is a folder, where a file belongs"),
            "{error}"
        );
        assert!(matches!(
            Package::read(Path::new("/nowhere/at/all"), 10),
            Err(PackageError::Io { .. })
        ));
        assert!(matches!(
            Package::read(Path::new("/dev/null"), 10),
            Err(PackageError::NotAFile { .. })
        ));
    }
}
