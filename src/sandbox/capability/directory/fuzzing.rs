//! A way to the path rules without a guest, for the fuzz target `path`.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use super::apart::Apart;
use super::descriptor::{Descriptor, Directory, Origin, Refused, Wanted};
use super::shared::{Fault, Shared};
use crate::grant::{DirectoryGrant, Mode};
use crate::limits::Limits;
use crate::sandbox::capability::{Chatter, Refusals};
use crate::sandbox::disk::Disk;

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
    let grant = DirectoryGrant {
        host: folder.to_owned(),
        guest: "/".into(),
        mode: if write { Mode::Rw } else { Mode::Ro },
    };
    let refusals = Refusals::new(Arc::default(), Chatter::unheard().listeners());
    let shared = Shared::new(Arc::new(Disk::new()), refusals, &Limits::default());
    let origin = Origin {
        shared: Arc::new(shared),
        grant: Arc::new(grant),
    };
    let refused = |fault: Fault| io::Error::other(format!("{fault:?}"));
    let directory = Directory::ambient(origin, &Apart::nothing()).map_err(refused)?;
    let directory = match directory {
        Ok(directory) => directory,
        Err(Refused::Error(error)) => return Err(error),
        Err(Refused::Apart(why)) => return Err(io::Error::other(why)),
        Err(Refused::OfTheKernel) => return Err(io::Error::other("made up by the kernel")),
    };
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
