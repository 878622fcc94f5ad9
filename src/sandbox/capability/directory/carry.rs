//! Entries that are given another name: renamed, or linked to.
//!
//! A link with a `..` in it must not get to another folder, from where it may lead out for whoever follows it
//! later. To look at an entry and then to carry it would not do: another execution might put a link in its place
//! in between. So both are done with the folders of both names locked, which all executions of all hosts on this
//! machine do that carry anything into or out of them, and relative to these folders, wherever they are by then.
//!
//! Nor is a directory carried between the scratch directory and another that is granted, as if they were on two file
//! systems. In scratch all is removed in the end, whatever its modes, also what the guest might not remove itself; and
//! by a handle on a directory that has left it, what lies elsewhere would count as its own.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cap_fs_ext::MetadataExt as _;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use super::descriptor::{Directory, Origin};
use super::shared::{Fault, climbs_out};
use crate::grant::leads_out;

/// How long a folder may be locked by somebody else. Executions hold a lock for one call.
const PATIENCE: Duration = Duration::from_millis(100);

/// How many names are tried for what is carried back.
const MOST_NAMES: u32 = 100;

/// A name, and the folder that it is in.
struct Place<'p> {
    folder: Dir,
    name: &'p str,
}

impl<'p> Place<'p> {
    /// Where a path leads to. `None` where it ends with none of an entry's names, such as `..`.
    fn new(directory: &Directory, path: &'p str) -> Result<Option<Self>, Fault> {
        let trimmed = path.trim_end_matches('/');
        let (parent, last) = match trimmed.rsplit_once('/') {
            Some((parent, last)) => (parent, last),
            None => ("", trimmed),
        };
        if climbs_out(path) {
            let Origin { shared, grant, .. } = &directory.origin;
            return Err(shared.escape(grant, path));
        }
        if matches!(last, "" | "." | "..") {
            return Ok(None);
        }
        let parent = match parent {
            "" => ".",
            parent => parent,
        };
        let mut options = OpenOptions::new();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        options.read(true).custom_flags(flags.bits().cast_signed());
        let opened = directory.dir.open_with(parent, &options);
        let folder = opened.map_err(|error| directory.origin.fault(error, path))?;
        Ok(Some(Place {
            folder: Dir::from_std_file(folder.into_std()),
            // With the `/` at its end, which only a directory may have.
            name: &path[trimmed.len() - last.len()..],
        }))
    }

    /// The name without a `/` at its end.
    fn entry(&self) -> &str {
        self.name.trim_end_matches('/')
    }

    /// Whether it is a directory, and no link to one.
    fn is_directory(&self) -> bool {
        let found = self.folder.symlink_metadata(self.entry());
        found.is_ok_and(|found| found.is_dir())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let found = self.folder.dir_metadata()?;
        Ok((found.dev(), found.ino()))
    }
}

/// Gives what is at one path another name: `carry` is given the folder and the name of both. Blocks.
///
/// # Errors
/// Where it is a link with a `..`, which would get to another folder; the refusal is noted. Where it is a directory that
/// would get into scratch or out of it. And where it cannot be carried.
pub(super) fn carry(
    (old, old_path): (&Directory, &str),
    (new, new_path): (&Directory, &str),
    carry: impl Fn(&Dir, &str, &Dir, &str) -> io::Result<()>,
) -> Result<(), Fault> {
    let (from, to) = (Place::new(old, old_path)?, Place::new(new, new_path)?);
    let (Some(from), Some(to)) = (from, to) else {
        // No link has such a name.
        return carry(&old.dir, old_path, &new.dir, new_path)
            .map_err(|error| old.origin.fault(error, old_path));
    };
    let (one, other) = (from.identity()?, to.identity()?);
    // In one order, whoever locks them.
    let mut folders = vec![(one, &from.folder), (other, &to.folder)];
    folders.sort_by_key(|(identity, _)| *identity);
    folders.dedup_by_key(|(identity, _)| *identity);
    let _locked = lock(
        &folders
            .into_iter()
            .map(|(_, folder)| folder)
            .collect::<Vec<_>>(),
    )?;
    if one != other
        && let Ok(target) = from.folder.read_link_contents(from.entry())
    {
        let target = target.to_string_lossy();
        // One that is absolute leads out wherever it is.
        if !target.starts_with('/') && leads_out(&target) {
            return Err(old.origin.shared.leading_out(&old.origin.grant, &target));
        }
    }
    let crosses = old.origin.is_scratch != new.origin.is_scratch;
    if crosses && from.is_directory() {
        return Err(ErrorCode::CrossDevice.into());
    }
    carry(&from.folder, from.name, &to.folder, to.name)
        .map_err(|error| old.origin.fault(error, old_path))?;
    // Another execution may have put it in the place of a file in between. In scratch there are no others.
    if crosses && new.origin.is_scratch && to.is_directory() {
        back(&carry, &to, &from)?;
        return Err(ErrorCode::CrossDevice.into());
    }
    Ok(())
}

/// Carries a directory back to where it was; beside that, where something else is there by now.
fn back(
    carry: impl Fn(&Dir, &str, &Dir, &str) -> io::Result<()>,
    from: &Place<'_>,
    to: &Place<'_>,
) -> io::Result<()> {
    let mut others = (1..=MOST_NAMES).map(|number| format!(".{}.{number}", to.entry()));
    let mut name = to.entry().to_owned();
    loop {
        let Err(error) = carry(&from.folder, from.entry(), &to.folder, &name) else {
            return Ok(());
        };
        match others.next() {
            Some(other) => name = other,
            None => return Err(error),
        }
    }
}

/// Locks folders against all that carry something into or out of them, until what is given is dropped. One that may
/// not be read, or whose file system knows no locks, is not locked.
fn lock(folders: &[&Dir]) -> Result<Vec<OwnedFd>, Fault> {
    let began = Instant::now();
    loop {
        match lock_now(folders) {
            Err(Errno::WOULDBLOCK | Errno::INTR) if began.elapsed() < PATIENCE => {
                sleep(Duration::from_micros(50));
            }
            Err(Errno::WOULDBLOCK) => return Err(ErrorCode::Busy.into()),
            Err(error) => return Err(io::Error::from(error).into()),
            Ok(locked) => return Ok(locked),
        }
    }
}

/// All or none, so that nobody waits with one for another.
fn lock_now(folders: &[&Dir]) -> Result<Vec<OwnedFd>, Errno> {
    let mut locked = Vec::with_capacity(folders.len());
    for folder in folders {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match openat(folder, ".", flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::ACCESS) => continue,
            Err(error) => return Err(error),
        };
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => locked.push(opened),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(locked)
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn folders_are_locked_all_or_none() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            std::fs::create_dir(place.path().join(name)).unwrap();
            Dir::open_ambient_dir(place.path().join(name), ambient_authority()).unwrap()
        };
        let (one, other) = (folder("one"), folder("other"));
        let held = lock_now(&[&other]).unwrap();
        assert_eq!(lock_now(&[&one, &other]).unwrap_err(), Errno::WOULDBLOCK);
        assert_eq!(lock_now(&[&one]).unwrap().len(), 1, "it was given back");
        // Whoever waits for longer is told so.
        assert!(matches!(
            lock(&[&one, &other]),
            Err(Fault::Code(ErrorCode::Busy))
        ));
        drop(held);
        assert_eq!(lock(&[&one, &other]).unwrap().len(), 2);
    }
}
