//! The way to a directory that is granted.
//!
//! Whoever may write in a directory may put a symbolic link there in the place of another one, and so decide where
//! a grant of that one leads. So no link is followed that stands in a directory that skills may write in, or below
//! one: what lies there is found by its own path, or not at all.

use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, openat, readlinkat, statat};

use super::apart::{Identity, around, identity};

/// The links that are followed on one way, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Where a way ends early.
#[derive(Debug)]
pub(super) enum Astray {
    Error(io::Error),
    /// At a link, of this name, that stands where skills may write.
    Link(OsString),
}

impl<E: Into<io::Error>> From<E> for Astray {
    fn from(error: E) -> Self {
        Astray::Error(error.into())
    }
}

/// Opens a directory, following no link in one of those that were `written`. Blocks.
pub(super) fn open_dir(path: &Path, written: &[PathBuf]) -> Result<Dir, Astray> {
    // One that is not there is not written in either.
    let written: HashSet<Identity> = written
        .iter()
        .filter_map(|path| of_path(path).ok())
        .collect();
    if written.is_empty() {
        return Ok(Dir::open_ambient_dir(path, ambient_authority())?);
    }
    let mut way = Way {
        at: root()?,
        within: false,
        written: &written,
    };
    way.arrive()?;
    let mut ahead = VecDeque::new();
    push(&mut ahead, &std::path::absolute(path)?);
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        match way.step(&part)? {
            None => {}
            Some(_) if way.within => return Err(Astray::Link(part)),
            Some(_) if links == MAX_LINKS => return Err(rustix::io::Errno::LOOP.into()),
            Some(target) => {
                links += 1;
                if target.has_root() {
                    way.at = root()?;
                    way.arrive()?;
                }
                push(&mut ahead, &target);
            }
        }
    }
    Ok(Dir::from_std_file(std::fs::File::from(way.at)))
}

/// Where one is on the way.
struct Way<'a> {
    at: OwnedFd,
    /// Whether that is one of those, or below one.
    within: bool,
    written: &'a HashSet<Identity>,
}

impl Way<'_> {
    /// Goes on by one part of a path; a link is not followed, and its target given.
    fn step(&mut self, part: &OsStr) -> io::Result<Option<PathBuf>> {
        if part != ".." {
            let found = statat(&self.at, part, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
                let target = readlinkat(&self.at, part, Vec::new())?;
                return Ok(Some(OsString::from_vec(target.into_bytes()).into()));
            }
        }
        // Where a link has taken its place meanwhile, this fails.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.at = openat(&self.at, part, flags, Mode::empty())?;
        match part == ".." {
            true => self.arrive()?,
            false => self.within |= self.written.contains(&identity(&self.at)?),
        }
        Ok(None)
    }

    /// Finds out anew whether this is below one of those.
    fn arrive(&mut self) -> io::Result<()> {
        let around = around(self.at.as_fd().try_clone_to_owned()?)?;
        self.within = !around.is_disjoint(self.written);
        Ok(())
    }
}

fn root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open("/", flags, Mode::empty())?)
}

fn of_path(path: &Path) -> io::Result<Identity> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    identity(open(path, flags, Mode::empty())?)
}

/// Puts a path before what is ahead already.
fn push(ahead: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(part) => ahead.push_front(part.to_owned()),
            Component::ParentDir => ahead.push_front("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// What is in the directory to which this leads; the name of a link that leads astray.
    fn found(path: &Path, written: &[&Path]) -> Result<Vec<String>, String> {
        let written: Vec<PathBuf> = written.iter().map(|path| path.to_path_buf()).collect();
        match open_dir(path, &written) {
            Ok(dir) => {
                let entries = dir
                    .entries()
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name());
                let mut names: Vec<String> =
                    entries.map(|name| name.into_string().unwrap()).collect();
                names.sort();
                Ok(names)
            }
            Err(Astray::Link(name)) => Err(name.into_string().unwrap()),
            Err(Astray::Error(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn no_link_is_followed_where_skills_may_write() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir_all(at("in/real/deep")).unwrap();
        fs::create_dir_all(at("out/of/it")).unwrap();
        symlink("../out", at("in/relative")).unwrap();
        symlink(at("out"), at("in/absolute")).unwrap();
        symlink("in", at("other")).unwrap();
        symlink("in/real", at("through")).unwrap();
        symlink("in/relative", at("astray")).unwrap();
        let granted = at("in");
        for written in [granted.clone(), at("other"), at("out/../in")] {
            let found = |path: &str| found(&at(path), &[&written]);
            for (path, name) in [
                ("in/relative", "relative"),
                ("in/relative/of", "relative"),
                ("in/absolute", "absolute"),
                ("other/absolute", "absolute"),
                ("out/../in/absolute", "absolute"),
                ("astray", "relative"),
            ] {
                assert_eq!(found(path), Err(name.to_owned()), "{path}");
            }
            // What has no link in it is found, and so is what the operator's own links lead to.
            for path in [
                "in/real",
                "other/real",
                "through",
                "in/real/../real",
                "in/../in/real",
            ] {
                assert_eq!(found(path), Ok(vec!["deep".to_owned()]), "{path}");
            }
            assert_eq!(found("out"), Ok(vec!["of".to_owned()]));
        }
        // Where nobody writes, or elsewhere.
        for written in [&[][..], &[&*at("out")], &[&*at("nowhere")]] {
            let names = found(&at("in/relative"), written);
            assert_eq!(names, Ok(vec!["of".to_owned()]));
        }
        // Whoever may write everywhere.
        let names = found(&at("in/relative"), &[Path::new("/")]);
        assert_eq!(names, Err("relative".to_owned()));
    }

    #[test]
    fn links_that_lead_to_each_other_end() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir(at("in")).unwrap();
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        let Err(Astray::Error(error)) = open_dir(&at("a"), &[at("in")]) else {
            panic!("it ends nowhere");
        };
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::LOOP.raw_os_error())
        );
    }
}
