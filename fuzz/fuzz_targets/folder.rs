//! Loading a folder: `skill.toml`, `SKILL.md`, a component, and the record of a compiled one, each of which may be
//! missing, or a link. Whatever they are, the loader answers with a package of exactly these files or with an error
//! that can be shown, reads nothing outside of the folder, and takes no compiled code whose record does not fit it.

#![no_main]

mod seeds;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use serde_json::Value;
use skillhost::fuzzing::entry_is_taken;
use skillhost::skill::{Digest, Package};

/// What divides the input into files.
const BORDER: &[u8] = b"\n%%%\n";
/// Before what a link leads to, in the place of a file's contents.
const LINK: &[u8] = b"link:";
/// What no loader may read.
const SECRET: &str = "---\nname: secret\ndescription: a secret\n---\nsecret";
/// By what it would show in what is said.
const TOLD: &str = "a secret";
/// The largest component that is read.
const MAX_BYTES: u64 = 4_096;

/// What inputs are made from.
const SEEDS: [&[u8]; 4] = [
    include_bytes!("../corpus/folder/entry.txt"),
    include_bytes!("../corpus/folder/lone.txt"),
    include_bytes!("../corpus/folder/links.txt"),
    include_bytes!("../corpus/folder/whole.txt"),
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    seeds::mutated(&SEEDS, data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    // What the input says itself, the loader may say of it.
    let told = bytes
        .windows(TOLD.len())
        .any(|part| part == TOLD.as_bytes());
    let files = parts(bytes);
    let place = tempfile::tempdir().expect("a folder can be made");
    let folder = place.path().join("skill");
    fs::create_dir(&folder).expect("a folder can be made");
    fs::write(place.path().join("secret"), SECRET).expect("a file can be written");
    for (name, contents) in ["skill.toml", "SKILL.md", "skill.wasm"].iter().zip(&files) {
        put(&folder.join(name), contents);
    }
    match Package::read(&folder, MAX_BYTES) {
        Ok(package) => check(&package, &folder),
        Err(error) => {
            let said = error.to_string();
            assert!(told || !said.contains(TOLD), "{said}");
            let shown = skillhost::text::printable(&said, true);
            assert!(!shown.contains('\x1b'), "{shown}");
        }
    }
    if let [_, _, code, record] = files[..] {
        cached(&place.path().join("compiled"), record, code);
    }
});

fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while parts.len() < 3
        && let Some(at) = rest.windows(BORDER.len()).position(|part| part == BORDER)
    {
        parts.push(&rest[..at]);
        rest = &rest[at + BORDER.len()..];
    }
    parts.push(rest);
    parts
}

/// Makes a file, a link, or nothing where there is nothing to put into it.
fn put(path: &Path, contents: &[u8]) {
    match contents.strip_prefix(LINK) {
        // Some texts are no link's.
        Some(target) => drop(symlink(OsStr::from_bytes(target), path)),
        None if contents.is_empty() => {}
        None => fs::write(path, contents).expect("a file can be written"),
    }
}

/// What was read is what is in the folder.
fn check(package: &Package, folder: &Path) {
    let root = folder.canonicalize().expect("it is there");
    let text = |name: &str| {
        let path = folder.join(name);
        let within = path
            .canonicalize()
            .is_ok_and(|path| path.starts_with(&root));
        within.then(|| fs::read_to_string(path).expect("it was read"))
    };
    let component = fs::read(folder.join("skill.wasm")).expect("it was read");
    assert!(component.len() as u64 <= MAX_BYTES && component != SECRET.as_bytes());
    let (manifest, document) = (text("skill.toml"), text("SKILL.md"));
    let same = Package::from_parts(component, manifest, document).expect("it was read");
    assert_eq!(package.digest, same.digest);
    assert_eq!(package.manifest, same.manifest);
    assert_eq!(package.document.is_some(), same.document.is_some());
}

/// Code is taken only where the record says that it is this component's, and of this length.
fn cached(folder: &Path, record: &[u8], code: &[u8]) {
    let component = Digest::of_component(b"a component");
    let taken = entry_is_taken(folder, &component, record, code).expect("it can be written");
    if taken {
        let record: Value = serde_json::from_slice(record).expect("it was read");
        // Its digits may be large ones.
        let named = record["component"].as_str().map(str::parse::<Digest>);
        assert_eq!(named, Some(Ok(component)));
        assert_eq!(record["code_bytes"], code.len());
        assert_eq!(record["compatibility"], 7);
    }
}
