//! The path rules: two directory grants, a line each, and then paths of a guest's. The texts of
//! grants read the same again, two grants for one place are told apart by no spelling, and no path
//! leads out of a folder, whatever links are in it, nor by what is renamed and linked in it.

#![no_main]

mod seeds;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use skillhost::fuzzing::{carry_below, open_below};
use skillhost::grant::{self, Declared, DeclaredDirectory, DirectoryGrant, Grants, leads_out};
use tempfile::TempDir;

/// The most paths of one input that are tried.
const MAX_PATHS: usize = 8;

/// What inputs are made from.
const SEEDS: [&[u8]; 5] = [
    include_bytes!("../corpus/path/carry.txt"),
    include_bytes!("../corpus/path/escape.txt"),
    include_bytes!("../corpus/path/links.txt"),
    include_bytes!("../corpus/path/odd.txt"),
    include_bytes!("../corpus/path/wrong.txt"),
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    seeds::mutated(&SEEDS, data, size, max_size, seed)
});

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let mut grant = || {
        lines
            .next()
            .and_then(|line| line.parse::<DirectoryGrant>().ok())
    };
    let (first, second) = (grant(), grant());
    for grant in [&first, &second].into_iter().flatten() {
        let again: DirectoryGrant = grant.to_string().parse().expect("its own text is a grant");
        assert_eq!(&again, grant);
    }
    if let (Some(first), Some(second)) = (&first, &second) {
        together(first, second);
    }
    let tree = Tree::new();
    let paths: Vec<&str> = lines.take(MAX_PATHS).collect();
    for path in &paths {
        tree.try_path(path);
    }
    for pair in paths.windows(2) {
        tree.carry(pair[0], pair[1]);
    }
});

/// What two grants come to: with each other, and with a declaration of the second's path.
fn together(first: &DirectoryGrant, second: &DirectoryGrant) {
    let add = |grants: Grants, one: &DirectoryGrant| {
        grants.directory(&one.host, one.guest.clone(), one.mode)
    };
    let both = add(add(Grants::default(), first), second);
    let merged = add(Grants::default(), first).with(&add(Grants::default(), second));
    let same = merged.directories.len() == 1;
    // Of two for one place, neither may hold beside the other.
    assert_eq!(grant::effective("a", None, &both).is_err(), same);
    if same {
        assert_eq!(&merged.directories[0], second);
    }
    let declared = Declared {
        directories: vec![DeclaredDirectory {
            path: second.guest.clone(),
            mode: second.mode,
            description: None,
        }],
        ..Declared::default()
    };
    let granted = add(Grants::default(), first);
    let (fitting, denials) = grant::intersection(Some(&declared), &granted);
    let any = second.guest == "*";
    assert_eq!(fitting.directories.len(), usize::from(same || any));
    assert_eq!(denials.is_empty(), same || any);
    for directory in &fitting.directories {
        assert_eq!(directory.host, first.host);
        assert_eq!(directory.mode, first.mode.min(second.mode));
    }
    for denial in grant::missing("a", Some(&declared), &Grants::default()) {
        assert!(!denial.hint.chars().any(char::is_control), "{denial:?}");
    }
}

/// `open`, with links of all kinds in it, and `secret` beside it.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Tree(tempfile::tempdir().expect("a folder can be made"));
        let open = tree.open();
        fs::create_dir_all(open.join("dir/below")).expect("a folder can be made");
        fs::create_dir(tree.path("secret")).expect("a folder can be made");
        for file in ["open/a", "open/dir/b", "secret/c"] {
            fs::write(tree.path(file), "x").expect("a file can be written");
        }
        let secret = tree.path("secret");
        for (name, to) in [
            ("in", "dir/b"),
            ("back", "dir/../a"),
            ("out", "../secret"),
            ("up", ".."),
            ("loop", "loop"),
            ("gone", "../secret/new"),
            ("root", "/"),
        ] {
            symlink(to, open.join(name)).expect("a link can be made");
        }
        symlink(secret, open.join("absolute")).expect("a link can be made");
        symlink("../up", open.join("dir/further")).expect("a link can be made");
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn open(&self) -> PathBuf {
        self.path("open")
    }

    fn try_path(&self, path: &str) {
        self.check(path);
        // As the target of a link: one that was there, wherever it leads.
        let link = self.open().join("dir/link");
        if symlink(path, &link).is_ok() {
            for by in ["dir/link", "dir/link/c", "dir/link/../../secret/c"] {
                self.check(by);
            }
            fs::remove_file(&link).expect("it is there");
        }
        // What a guest may not make a link to, by its text alone.
        let climbs = path.split('/').any(|part| part == "..");
        assert_eq!(leads_out(path), path.starts_with('/') || climbs, "{path:?}");
    }

    /// Renames and links what is at one path to another. No link gets to where it leads elsewhere, and nothing
    /// outside changes.
    fn carry(&self, old: &str, new: &str) {
        for link in [true, false] {
            let before = self.climbing();
            let carried = carry_below(&self.open(), old, new, link);
            carried.expect("the folder can be opened");
            for (name, place) in self.climbing() {
                assert!(
                    before.contains(&(name, place)),
                    "{old:?} to {new:?}: a link got elsewhere"
                );
            }
            self.check_outside(old);
        }
    }

    /// The links that have a `..` in what they lead to, each with the folder that it is in, by their numbers.
    fn climbing(&self) -> BTreeSet<(u64, u64)> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.open()];
        while let Some(folder) = folders.pop() {
            let place = fs::metadata(&folder).expect("it is there").ino();
            for entry in fs::read_dir(&folder).expect("it can be read") {
                let entry = entry.expect("it can be read");
                let metadata = entry.metadata().expect("it is there");
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else if let Ok(target) = fs::read_link(entry.path())
                    && target.is_relative()
                    && leads_out(&target.to_string_lossy())
                {
                    found.insert((metadata.ino(), place));
                }
            }
        }
        found
    }

    /// However it is opened, what a path leads to is below the folder, and nothing outside changes.
    fn check(&self, path: &str) {
        for (follow, write) in [(false, false), (true, false), (true, true), (false, true)] {
            let opened = open_below(&self.open(), path, follow, write);
            if let Some(opened) = opened.expect("the folder can be opened") {
                let at = place(&opened);
                assert!(at.starts_with(self.open()), "{path:?} led to {at:?}");
            }
        }
        self.check_outside(path);
    }

    fn check_outside(&self, path: &str) {
        let mut left: Vec<_> = fs::read_dir(self.0.path())
            .expect("it is there")
            .chain(fs::read_dir(self.path("secret")).expect("it is there"))
            .map(|entry| entry.expect("it can be read").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["c", "open", "secret"], "{path:?} made something");
        let secret = self.path("secret/c");
        assert_eq!(fs::metadata(&secret).expect("it is there").nlink(), 1);
        assert_eq!(fs::read(&secret).expect("it can be read"), b"x");
    }
}

/// Where an open file is.
fn place(file: &File) -> PathBuf {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::read_link(link).expect("an open file has a place")
}
