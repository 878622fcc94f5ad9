//! A way to the path rules without a guest, for the fuzz target `path`.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use super::apart::{Apart, Around};
use super::carry::carry;
use super::descriptor::{Descriptor, Directory, Origin, Refused, Wanted};
use super::shared::{Fault, Shared};
use crate::grant::{DirectoryGrant, Mode};
use crate::limits::Limits;
use crate::sandbox::capability::{Chatter, Refusals};
use crate::sandbox::disk::Disk;
use crate::turns::Party;

/// Opens what a path leads to below a folder, for writing or else for reading, as a guest does that
/// was granted the folder. `None` where it is refused, or not there.
///
/// # Errors
/// Where the folder itself cannot be opened.
pub fn open_below(
    folder: &Path,
    path: &str,
    follow: bool,
    write: bool,
) -> io::Result<Option<fs::File>> {
    let directory = granted(folder, if write { Mode::Rw } else { Mode::Ro })?;
    let wanted = Wanted {
        follow,
        read: true,
        write,
        create: write,
        exclusive: false,
        truncate: false,
        directory: false,
    };
    match directory.open(path, wanted) {
        Ok(Descriptor::File(file)) => Ok(Some(file.as_fd().try_clone_to_owned()?.into())),
        Ok(Descriptor::Directory(directory)) => {
            Ok(Some(directory.dir.as_fd().try_clone_to_owned()?.into()))
        }
        Err(_) => Ok(None),
    }
}

/// Renames what one path leads to below the folder to the other, or links it there, as a guest does that was granted
/// the folder. Whether it was done, and not refused.
///
/// # Errors
/// Where the folder itself cannot be opened.
pub fn carry_below(folder: &Path, old: &str, new: &str, link: bool) -> io::Result<bool> {
    let directory = granted(folder, Mode::Rw)?;
    let carried = carry(
        (&directory, old),
        (&directory, new),
        |from, name, to, other| match link {
            true => from.hard_link(name, to, other),
            false => from.rename(name, to, other),
        },
    );
    Ok(carried.is_ok())
}

/// The folder, granted to nobody in particular.
fn granted(folder: &Path, mode: Mode) -> io::Result<Directory> {
    let grant = DirectoryGrant {
        host: folder.to_owned(),
        guest: "/".into(),
        mode,
    };
    let refusals = Refusals::new(Arc::default(), Chatter::unheard().listeners());
    let shared = Shared::new(
        Arc::new(Disk::new()),
        Party::of(None, ""),
        refusals,
        &Limits::default(),
    );
    let origin = Origin {
        shared: Arc::new(shared),
        grant: Arc::new(grant),
        is_scratch: false,
    };
    let refused = |fault: Fault| io::Error::other(format!("{fault:?}"));
    let directory =
        Directory::ambient(origin, &Apart::nothing(), &Around::default()).map_err(refused)?;
    match directory {
        Ok(directory) => Ok(directory),
        Err(Refused::Error(error)) => Err(error),
        Err(Refused::Apart(why) | Refused::Unread(why)) => Err(io::Error::other(why)),
        Err(Refused::OfTheKernel) => Err(io::Error::other("made up by the kernel")),
        Err(Refused::Link(_)) => Err(io::Error::other("led to by a link")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also where they are mounted below what is granted. What lies above them can be granted to nobody by
    /// the host, as it contains the host's own folders.
    #[test]
    fn what_the_kernel_makes_up_is_not_opened() {
        let root = Path::new("/");
        let opened = |path: &str| {
            assert!(root.join(path).exists(), "{path}");
            open_below(root, path, true, false).unwrap().is_some()
        };
        assert!(opened("etc") && opened("etc/passwd"));
        for path in [
            "proc",
            "proc/self",
            "proc/self/mem",
            "proc/self/environ",
            "proc/self/fd",
            "proc/self/map_files",
            "proc/sys/kernel/hostname",
            "sys",
            "sys/kernel",
        ] {
            assert!(!opened(path), "{path}");
        }
        for folder in ["/proc", "/proc/self/fd", "/sys/kernel"] {
            let error = open_below(Path::new(folder), ".", true, false).unwrap_err();
            assert_eq!(error.to_string(), "made up by the kernel", "{folder}");
        }
    }
}
