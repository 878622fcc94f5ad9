//! The host's own folders and files, which no grant reaches: compiled code that is run, the policy that
//! grants, secrets, the queue's tokens and jobs.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode as Bits, OFlags, fstat, openat};

use super::descriptor::Refused;
use super::led::Led;
use super::mounts::Mounts;
use super::scratch::PREFIX;
use crate::grant::{DirectoryGrant, Mode};

/// What tells one file from another.
pub(super) type Identity = (u64, u64);

/// The links that are followed from one path, as many as the kernel follows.
const MAX_LINKS: usize = 40;
/// How deep directories can stand within each other for one of them to be granted: twice what a path
/// can say.
const MAX_DEPTH: usize = 4096;

/// What the policy says now of directories.
#[derive(Debug, Default)]
pub(crate) struct Around {
    /// In which directories skills may write.
    pub written: Vec<PathBuf>,
    /// The files and folders that stand apart because it names them: where secrets are, and the audit.
    pub apart: Vec<PathBuf>,
}

/// The host's own folders and files.
#[derive(Debug)]
pub(crate) struct Apart {
    paths: Vec<(PathBuf, Mode)>,
    /// Whether scratch directories stand apart, too.
    scratch: bool,
    led: Led,
    mounts: Mounts,
}

impl Apart {
    /// What stands apart, with the narrowest mode in which it must not be granted.
    pub fn new(mut paths: Vec<(PathBuf, Mode)>) -> Self {
        let mut seen = BTreeSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        Apart {
            paths,
            scratch: true,
            led: Led::default(),
            mounts: Mounts::default(),
        }
    }

    /// Nothing: for what the host grants of its own accord.
    pub fn nothing() -> Self {
        Apart {
            paths: Vec::new(),
            scratch: false,
            led: Led::default(),
            mounts: Mounts::default(),
        }
    }

    /// Looks whether the directory of a grant, which was opened, is one of the host's own or of `others`, contains one
    /// or lies in one. Blocks.
    ///
    /// Files are told apart by what they are and not by how they are called, so neither links nor other
    /// names of a folder help, nor a part of it that is mounted elsewhere; what is not there yet is looked for where it
    /// would be made. What a link leads to that stands in a folder of the host's own is its own as well.
    ///
    /// # Errors
    /// Why it must not be granted, to stand after the name of the directory; or where it cannot be
    /// looked at.
    pub(super) fn check(
        &self,
        grant: &DirectoryGrant,
        opened: impl AsFd,
        others: &[PathBuf],
    ) -> io::Result<Result<(), Refused>> {
        if self.paths.is_empty() && others.is_empty() && !self.scratch {
            return Ok(Ok(()));
        }
        let opened = opened.as_fd().try_clone_to_owned()?;
        let itself = identity(&opened)?;
        let real = fs::canonicalize(&grant.host)?;
        let table = self.mounts.now()?;
        let within = table.within(&real);
        let mut looked = Looked {
            grant,
            itself,
            around: around(opened)?,
            ways: Ways::default(),
            mounted: |path: &Path| table.meet(&within, path),
        };
        let own = self.paths.iter().map(|(path, mode)| (path, *mode));
        let others = others.iter().map(|path| (path, Mode::Ro));
        for (path, mode) in own.chain(others) {
            if grant.mode < mode {
                continue;
            }
            let found = fs::metadata(path).ok();
            if let Some(why) = looked.at(path, found.as_ref()) {
                return Ok(Err(Refused::Apart(why)));
            }
            // What lies beside a file is nobody's, and what may be read is no folder of the host's own.
            let Some(folder) = found.filter(|found| found.is_dir() && mode == Mode::Ro) else {
                continue;
            };
            let links = match self.led.from(path, &folder) {
                Ok(links) => links,
                Err(error) => match unread(path, &error) {
                    Some(why) => return Ok(Err(Refused::Unread(why))),
                    None => return Err(error),
                },
            };
            for link in &*links {
                // One that is named itself is held to its own mode.
                if self.paths.iter().any(|(path, _)| path == link) {
                    continue;
                }
                if let Some(why) = looked.at(link, fs::metadata(link).ok().as_ref()) {
                    return Ok(Err(Refused::Apart(why)));
                }
            }
        }
        // Those of all hosts of this user, wherever they are.
        let in_scratch = |part: &std::ffi::OsStr| part.to_string_lossy().starts_with(PREFIX);
        Ok(match real.iter().any(in_scratch) {
            true => Err(Refused::Apart(
                "lies in the scratch directories of a host".into(),
            )),
            false => Ok(()),
        })
    }
}

/// A directory that is granted, held against the host's own files and folders one by one.
struct Looked<'a, M> {
    grant: &'a DirectoryGrant,
    itself: Identity,
    /// All that it lies in.
    around: HashSet<Identity>,
    /// Most of them lie in the same few directories.
    ways: Ways,
    /// Whether a path is in it, or it in that, by what is mounted elsewhere.
    mounted: M,
}

impl<M: Fn(&Path) -> bool> Looked<'_, M> {
    /// Why it must not be granted for this one, of which `found` is what stands there.
    fn at(&mut self, path: &Path, found: Option<&fs::Metadata>) -> Option<String> {
        self.ways.add(path, &mut 0);
        let is_dir = found.is_some_and(fs::Metadata::is_dir);
        let found = found.map(|found| (found.dev(), found.ino()));
        let how = match found {
            Some(found) if found == self.itself && *path == self.grant.host => {
                return Some("is the host's own".into());
            }
            Some(found) if found == self.itself => "is",
            Some(found) if is_dir && self.around.contains(&found) => "lies in",
            _ if self.ways.directories.contains(&self.itself) => "contains",
            _ if (self.mounted)(path) => "reaches, by what is mounted,",
            _ => return None,
        };
        Some(format!(
            "{how} `{}`, which is the host's own",
            path.display()
        ))
    }
}

/// Why nothing can be granted beside a folder of the host's own that this user may not read: whatever is granted may be
/// what a link in it leads to.
fn unread(path: &Path, error: &io::Error) -> Option<String> {
    (error.kind() == io::ErrorKind::PermissionDenied).then(|| {
        format!(
            "may be what a link in `{}` leads to, which is the host's own and cannot be read ({error})",
            path.display()
        )
    })
}

pub(super) fn identity(file: impl AsFd) -> io::Result<Identity> {
    let found = fstat(file)?;
    #[allow(
        clippy::useless_conversion,
        reason = "these have other types on other systems"
    )]
    Ok((found.st_dev.into(), found.st_ino.into()))
}

/// A directory and those that it lies in, up to the root.
pub(super) fn around(opened: OwnedFd) -> io::Result<HashSet<Identity>> {
    let mut found = HashSet::new();
    let mut at = opened;
    for _ in 0..MAX_DEPTH {
        // The root lies in itself.
        if !found.insert(identity(&at)?) {
            return Ok(found);
        }
        at = openat(
            &at,
            "..",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Bits::empty(),
        )?;
    }
    Err(io::Error::other("it lies too deep"))
}

/// Every directory that paths lead through, those in which their links stand and those to which they
/// lead: whoever can write one of them decides what stands at a path. Of what is not there, the
/// directories are those in which it would be made.
#[derive(Default)]
struct Ways {
    directories: HashSet<Identity>,
    /// What was looked at, and with it all that it lies in.
    seen: HashSet<PathBuf>,
}

impl Ways {
    fn add(&mut self, path: &Path, links: &mut usize) {
        let Ok(path) = std::path::absolute(path) else {
            return;
        };
        for part in path.ancestors() {
            if !self.seen.insert(part.to_owned()) {
                return;
            }
            if let Ok(metadata) = fs::metadata(part) {
                let is_new = self.directories.insert((metadata.dev(), metadata.ino()));
                // By its real path, too, which may be another.
                if is_new
                    && let Ok(real) = fs::canonicalize(part)
                    && real != part
                {
                    let real = real.ancestors().filter_map(|part| fs::metadata(part).ok());
                    let real = real.map(|metadata| (metadata.dev(), metadata.ino()));
                    self.directories.extend(real);
                }
            }
            if let Ok(target) = fs::read_link(part) {
                if *links == MAX_LINKS {
                    // Another path may come here with fewer behind it.
                    self.seen.remove(part);
                    continue;
                }
                *links += 1;
                let folder = part.parent().unwrap_or(part);
                self.add(&folder.join(target), links);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Why it is the host's own, where it is.
    fn why(checked: io::Result<Result<(), Refused>>) -> Option<String> {
        match checked.unwrap() {
            Ok(()) => None,
            Err(Refused::Apart(why)) => Some(why),
            Err(_) => panic!("whether it is can be seen"),
        }
    }

    fn refused(own: &Path, mode: Mode, granted: &Path, granted_mode: Mode) -> Option<String> {
        let apart = Apart::new(vec![(own.to_owned(), mode)]);
        let grant = DirectoryGrant {
            host: granted.to_owned(),
            guest: "/data".into(),
            mode: granted_mode,
        };
        let opened = fs::File::open(granted).unwrap();
        let alone = why(apart.check(&grant, &opened, &[]));
        if mode == Mode::Ro {
            let named = Apart::nothing().check(&grant, &opened, &[own.to_owned()]);
            assert_eq!(why(named), alone);
        }
        alone
    }

    #[test]
    fn neither_what_contains_it_nor_what_lies_in_it() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir_all(at("home/own/inner/deeper")).unwrap();
        fs::create_dir_all(at("home/documents")).unwrap();
        let own = at("home/own");
        for (granted, how) in [
            ("home", "contains"),
            ("", "contains"),
            ("home/own", "is"),
            ("home/own/inner/deeper", "lies in"),
            ("home/documents/../own/inner", "lies in"),
        ] {
            for mode in [Mode::Ro, Mode::Rw] {
                let refusal = refused(&own, Mode::Ro, &at(granted), mode);
                assert!(refusal.is_some_and(|why| why.starts_with(how)), "{granted}");
            }
        }
        assert!(refused(&own, Mode::Ro, Path::new("/"), Mode::Ro).is_some());
        assert_eq!(
            refused(&own, Mode::Ro, &at("home/documents"), Mode::Rw),
            None
        );
        // What may be read may not always be written.
        assert_eq!(refused(&own, Mode::Rw, &at("home"), Mode::Ro), None);
        assert!(refused(&own, Mode::Rw, &at("home"), Mode::Rw).is_some());
    }

    #[test]
    fn other_names_do_not_help() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for folder in ["real/own", "links", "further", "other"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        symlink(at("further/on"), at("links/own")).unwrap();
        symlink("../real/own", at("further/on")).unwrap();
        symlink(at("real"), at("other/name")).unwrap();
        // It is known by a link to a link.
        let own = at("links/own");
        for granted in [
            "real",
            "real/own",
            "links",
            "further",
            "other/name",
            "other/name/own",
        ] {
            let refusal = refused(&own, Mode::Ro, &at(granted), Mode::Rw);
            assert!(refusal.is_some(), "{granted}");
        }
        assert_eq!(refused(&own, Mode::Ro, &at("other"), Mode::Rw), None);
    }

    /// What is used of a home whose parts were moved away, and linked.
    #[test]
    fn what_links_in_its_own_folders_lead_to() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for folder in ["home/skills", "out/secrets", "out/probe/deeper", "beside"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        symlink("../out/secrets", at("home/secrets")).unwrap();
        symlink("../../out/probe", at("home/skills/probe@0.1.0")).unwrap();
        fs::write(at("home/file"), "").unwrap();
        symlink("../beside", at("beside/elsewhere")).unwrap();
        let of_home = |granted: &str, mode| {
            let own = ["home", "home/skills", "home/none", "home/file"];
            let own = own.map(|own| (at(own), Mode::Ro));
            let apart = Apart::new(own.into_iter().chain([(at("home"), Mode::Ro)]).collect());
            assert_eq!(apart.paths.len(), 4);
            let host = at(granted);
            let opened = fs::File::open(&host).unwrap();
            let guest = "/data".into();
            let grant = DirectoryGrant { host, guest, mode };
            why(apart.check(&grant, &opened, &[]))
        };
        for (granted, how) in [
            ("out", "contains"),
            ("out/secrets", "is"),
            ("out/probe", "is"),
            ("out/probe/deeper", "lies in"),
        ] {
            for mode in [Mode::Ro, Mode::Rw] {
                let why = of_home(granted, mode).unwrap();
                assert!(why.starts_with(how), "{granted}: {why}");
            }
        }
        assert_eq!(of_home("beside", Mode::Rw), None);
    }

    #[test]
    fn what_is_not_there_yet_and_what_is_a_file() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir_all(at("home/beside")).unwrap();
        fs::write(at("home/file"), "").unwrap();
        for own in ["home/not/there/yet", "home/file"] {
            let own = at(own);
            assert!(refused(&own, Mode::Ro, &at("home"), Mode::Ro).is_some());
            assert_eq!(refused(&own, Mode::Ro, &at("home/beside"), Mode::Ro), None);
        }
    }

    #[test]
    fn scratch_directories_of_other_hosts() {
        let place = tempfile::tempdir().unwrap();
        let scratch = place.path().join(format!("{PREFIX}x/3"));
        fs::create_dir_all(&scratch).unwrap();
        let refusal = refused(Path::new("/nowhere/at/all"), Mode::Ro, &scratch, Mode::Ro);
        assert!(refusal.is_some_and(|why| why.contains("scratch")));
    }
}
