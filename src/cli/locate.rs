//! From what was typed for `<SKILL>` to the bytes of a skill.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use skillhost::skill::{Installed, LibraryError, Package, PackageError, SkillRef};
use skillhost::{CompileSettings, Fault, LoadError, ResourceUsage};

use super::complaint::Complaint;
use super::places::Places;
use super::unread::beside;
use super::{Session, build, explain};

/// What may be typed for `<SKILL>`, for the help of the commands that take one.
pub const SKILL_HELP: &str = "\
The skill: a `.wasm` file, the folder of a skill (skill.wasm, skill.toml, SKILL.md), the source \
folder of a skill (Cargo.toml; it is built first), or an installed skill by name, name@version or \
digest (its first 8 digits will do). A path goes before a name, but a \
bare name of both a source folder and an installed skill is refused: `./NAME` is the folder, \
NAME@VERSION the other";

/// A skill that was found.
pub struct Located {
    /// The skill.
    pub package: Package,
    /// The name or digest under which it is installed; `None` where a path was typed.
    pub installed: Option<SkillRef>,
}

/// What a skill is wanted for, and so what may have been meant by one that is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// To be used, wherever it is.
    Used,
    /// To be installed: none that is installed already was meant.
    Installed,
}

/// What to do about a path that leads nowhere.
fn is_it_right(path: &Path) -> &'static str {
    match path.is_absolute() {
        true => "is the path right?",
        false => "is the path right? It is taken from the folder that this runs in",
    }
}

/// Finds a skill. A path goes before a name, and a folder that holds no skill does not hide an
/// installed one of its name.
///
/// # Errors
/// What was tried, and what may have been meant.
pub fn locate(skill: &Path, session: &Session) -> anyhow::Result<Package> {
    find(skill, session).map(|located| located.package)
}

/// As [`locate`], for one that is to be installed.
///
/// # Errors
/// As [`locate`].
pub fn locate_new(skill: &Path, session: &Session) -> anyhow::Result<Package> {
    find_for(Wanted::Installed, skill, session).map(|located| located.package)
}

/// As [`locate`], and says where it was found.
///
/// # Errors
/// As [`locate`].
pub fn find(skill: &Path, session: &Session) -> anyhow::Result<Located> {
    find_for(Wanted::Used, skill, session)
}

fn find_for(wanted: Wanted, skill: &Path, session: &Session) -> anyhow::Result<Located> {
    let by_path = |package| Located {
        package,
        installed: None,
    };
    let reason = match fs::metadata(skill) {
        Err(error) if error.kind() == ErrorKind::NotFound => "no such file or folder".to_owned(),
        Err(error) => error.to_string(),
        Ok(metadata) if metadata.is_dir() => {
            let component = skill.join("skill.wasm");
            if skill.join("Cargo.toml").is_file() {
                if !component.is_file() {
                    check_meant(skill, session)?;
                    return from_source(skill, session).map(by_path);
                }
                session.console.note(format_args!(
                    "note: `{}` is taken as it is; the source beside it is not built",
                    component.display()
                ));
            }
            match read(skill) {
                Err(PackageError::NoComponent { .. }) => {
                    "the folder has neither a `.wasm` file nor a Cargo.toml".to_owned()
                }
                package => {
                    return package
                        .map(by_path)
                        .map_err(|error| explain::package(error).into());
                }
            }
        }
        Ok(_) => {
            let package = read(skill).map_err(explain::package)?;
            check_is_component(skill, &package)?;
            return Ok(by_path(package));
        }
    };
    installed(wanted, skill, &reason, session)
}

/// Refuses a file that neither is a component nor is called as one is, such as a README beside it.
fn check_is_component(file: &Path, package: &Package) -> Result<(), Complaint> {
    let is_called_so = file.extension().is_some_and(|ending| ending == "wasm");
    if is_called_so || package.component.starts_with(b"\0asm") {
        return Ok(());
    }
    let message = format!(
        "cannot load `{}`: it is not a WebAssembly component",
        file.display()
    );
    Err(Complaint::not_loaded(message)
        .spent(Fault::Skill, ResourceUsage::default())
        .hint("name the folder of the skill, or its `.wasm` file"))
}

/// Refuses to build a source folder that only happens to have the name of an installed skill: building runs
/// what is written there.
fn check_meant(skill: &Path, session: &Session) -> anyhow::Result<()> {
    let Some(typed) = skill.to_str().filter(|typed| !typed.contains('/')) else {
        return Ok(());
    };
    let library = session.places()?.library();
    let reference = match library.reference(typed) {
        Ok(Some(reference)) => reference,
        Err(error @ LibraryError::NameOrDigest { .. }) => {
            return Err(explain::library(error).into());
        }
        Ok(None) | Err(_) => return Ok(()),
    };
    let most = CompileSettings::default().max_component_bytes;
    let Ok(package) = library.read(&reference, most) else {
        return Ok(());
    };
    let digest = package.digest;
    Err(Complaint::usage(format!(
        "`{typed}` is an installed skill, and the source folder of one as well"
    ))
    .hint(format!(
        "`./{typed}` builds the folder, and takes what comes of it"
    ))
    .hint(match library.find(&reference) {
        Ok(Installed { name, version, .. }) if !typed.contains('@') => {
            format!("`{name}@{version}` is the installed one")
        }
        _ => format!("`{digest}` is the installed one"),
    })
    .into())
}

/// Reads an installed skill. `reason` is why the path was none.
fn installed(
    wanted: Wanted,
    skill: &Path,
    reason: &str,
    session: &Session,
) -> anyhow::Result<Located> {
    let typed = skill.display();
    let complaint = Complaint::not_loaded(format!("no skill `{typed}` was found"))
        .detail(format!("as a path: {reason}"))
        .spent(Fault::Caller, ResourceUsage::default());
    let places = session.places()?;
    let library = places.library();
    let reference = match skill.to_str() {
        Some(text) => library.reference(text).map_err(explain::library)?,
        None => None,
    };
    let hinted = |complaint: Complaint, similar: &[String], or_else| {
        let (similar, or_else) = match wanted {
            Wanted::Used => (similar, or_else),
            Wanted::Installed => (&[][..], is_it_right(skill)),
        };
        let text = skill.to_str().filter(|_| wanted == Wanted::Used);
        match text.and_then(|text| explain::too_few_digits(text, &library)) {
            Some(digits) => complaint.hint(digits),
            None => explain::similar_or(complaint, &meant(skill, similar), or_else),
        }
    };
    let Some(reference) = reference else {
        if skill
            .to_str()
            .is_some_and(|text| text.starts_with("sha256:"))
        {
            let complaint = complaint.detail(none_of("digest", &places));
            return Err(hinted(complaint, &[], explain::LIST).into());
        }
        let complaint = complaint
            .detail("as an installed skill: it is not a name, name@version or digest of one");
        // Whoever types a separator means a path.
        let similar = match skill.to_str().filter(|text| !text.contains('/')) {
            Some(text) => library.similar(text).map_err(explain::library)?,
            None => Vec::new(),
        };
        return Err(hinted(complaint, &similar, is_it_right(skill)).into());
    };
    match library.read(&reference, CompileSettings::default().max_component_bytes) {
        Ok(package) => Ok(Located {
            package,
            installed: Some(reference),
        }),
        Err(LibraryError::NotInstalled { similar, .. }) => {
            let what = match reference {
                SkillRef::Name { .. } => "name",
                SkillRef::Digest(_) => "digest",
            };
            let complaint = complaint.detail(none_of(what, &places));
            Err(hinted(complaint, &similar, explain::LIST).into())
        }
        Err(LibraryError::Package(error)) => {
            let mut complaint = explain::package(error);
            if let Ok(Installed { name, version, .. }) = library.find(&reference) {
                // What makes a folder a skill's is of no use here.
                complaint.hints = vec![explain::anew(&format!("{name}@{version}"))];
            }
            Err(complaint.into())
        }
        Err(error) => Err(explain::library(error).into()),
    }
}

/// What was most likely meant by what is nowhere: of installed skills those that are similar, or a path beside it.
/// What has a dot or a separator in it, but no version, is a path rather than a name.
fn meant(skill: &Path, similar: &[String]) -> Vec<String> {
    let is_path = skill
        .to_str()
        .is_none_or(|text| text.contains(['/', '.']) && !text.contains('@'));
    if (is_path || similar.is_empty())
        && let Some(path) = beside(skill, |entry| may_be_skill(&entry.path()))
    {
        return vec![path.display().to_string()];
    }
    similar.to_vec()
}

/// Whether it looks like a component, or like the folder of a skill or of its source.
pub fn may_be_skill(path: &Path) -> bool {
    match path.is_dir() {
        true => path.join("skill.wasm").is_file() || path.join("Cargo.toml").is_file(),
        false => path.extension().is_some_and(|ending| ending == "wasm") && path.is_file(),
    }
}

/// That no installed skill has this.
fn none_of(what: &str, places: &Places) -> String {
    let folder = places.skills();
    format!(
        "as an installed skill: none of that {what} in `{}`",
        folder.display()
    )
}

/// How to explain that a skill which was found cannot be loaded.
pub fn explained(package: &Package) -> fn(&str, LoadError) -> Complaint {
    let folder = package.path.as_deref();
    match folder.is_some_and(|folder| folder.join("Cargo.toml").is_file()) {
        true => explain::load_source,
        false => explain::load,
    }
}

/// Builds a skill, and puts its component together with the texts in its source folder.
fn from_source(folder: &Path, session: &Session) -> anyhow::Result<Package> {
    // What is wrong with them is told before anybody waits for a build.
    with_texts(&[][..], folder)?;
    let built = build::build(folder, session.console)?;
    let component = read(&built).map_err(explain::package)?.component;
    with_texts(component, folder)
}

/// A component with the texts that stand in the source folder.
fn with_texts(component: impl Into<Arc<[u8]>>, folder: &Path) -> anyhow::Result<Package> {
    let in_folder = |file: &str| text(&folder.join(file));
    let package = Package::from_parts(component, in_folder("skill.toml")?, in_folder("SKILL.md")?);
    let located = package.map(|package| Package {
        path: Some(folder.to_owned()),
        ..package
    });
    located.map_err(|error| {
        let error = match error {
            PackageError::Manifest { path, source } => PackageError::Manifest {
                path: folder.join(path),
                source,
            },
            PackageError::Document { path, source } => PackageError::Document {
                path: folder.join(path),
                source,
            },
            error => error,
        };
        explain::package(error).into()
    })
}

fn read(path: &Path) -> Result<Package, PackageError> {
    Package::read(path, CompileSettings::default().max_component_bytes)
}

/// The text of a file, where there is one.
fn text(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(explain::package(PackageError::Io {
            path: path.to_owned(),
            source,
        })
        .into()),
    }
}
