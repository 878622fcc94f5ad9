//! Open files and directories of a guest's.

use std::ffi::OsString;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use cap_fs_ext::{FollowSymlinks, MetadataExt, OpenOptionsFollowExt, SystemTimeSpec};
use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, ErrorCode};

use super::apart::{Apart, Around};
use super::shared::{Fault, Open, Shared};
use super::way::{self, Astray};
use crate::grant::{DirectoryGrant, Mode};

/// How often a file that comes and goes meanwhile is looked for.
const ATTEMPTS: usize = 16;

/// What a guest's handle stands for.
#[derive(Clone)]
pub(super) enum Descriptor {
    File(Arc<File>),
    Directory(Arc<Directory>),
}

/// By which grant something was opened.
#[derive(Clone)]
pub(super) struct Origin {
    pub shared: Arc<Shared>,
    pub grant: Arc<DirectoryGrant>,
    /// Whether it is the execution's own scratch directory.
    pub is_scratch: bool,
}

pub(super) struct File {
    pub file: Held,
    pub readable: bool,
    pub writable: bool,
    pub origin: Origin,
}

/// An open file. On a disk of this machine it is closed at once. Elsewhere (NFS, FUSE and whatever is
/// not known) closing may first send away what was written, and so happens on a thread that may
/// block.
pub(super) struct Held {
    /// There until it is dropped.
    file: Option<(std::fs::File, Open)>,
    shared: Arc<Shared>,
    closes_at_once: bool,
}

impl Held {
    fn new(file: std::fs::File, open: Open, origin: &Origin) -> Self {
        Held {
            closes_at_once: is_on_this_machine(&file),
            file: Some((file, open)),
            shared: Arc::clone(&origin.shared),
        }
    }
}

impl Deref for Held {
    type Target = std::fs::File;

    fn deref(&self) -> &std::fs::File {
        match &self.file {
            Some((file, _)) => file,
            None => unreachable!("a file is taken only where it is dropped"),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((file, mut open)) = self.file.take()
            && !self.closes_at_once
        {
            open.let_go();
            self.shared.close(move || {
                drop(file);
                drop(open);
            });
        }
    }
}

pub(super) struct Directory {
    pub dir: Dir,
    pub origin: Origin,
    _open: Open,
}

/// Why a directory that is granted cannot be opened.
pub(super) enum Refused {
    Error(io::Error),
    /// It must not be granted, for this reason.
    Apart(String),
    /// Whether it may be granted cannot be seen, for this reason.
    Unread(String),
    /// The kernel makes it up.
    OfTheKernel,
    /// A link of this name leads to it, which skills may have put there.
    Link(OsString),
}

/// Opens the directory of the host's that is granted, unless it is one of those that stand apart, or led to by a
/// link in one of those that skills write in. Blocks.
pub(super) fn open_ambient(
    grant: &DirectoryGrant,
    apart: &Apart,
    around: &Around,
) -> Result<Dir, Refused> {
    let dir = way::open_dir(&grant.host, &around.written).map_err(|astray| match astray {
        Astray::Error(error) => Refused::Error(error),
        Astray::Link(name) => Refused::Link(name),
    })?;
    if is_of_the_kernel(&dir).map_err(Refused::Error)? {
        return Err(Refused::OfTheKernel);
    }
    let checked = apart.check(grant, &dir, &around.apart);
    checked.map_err(Refused::Error)?.map(|()| dir)
}

/// How a guest wants something opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub follow: bool,
    pub read: bool,
    pub write: bool,
    pub create: bool,
    pub exclusive: bool,
    pub truncate: bool,
    pub directory: bool,
}

impl Origin {
    /// Whether anything may be changed there.
    ///
    /// # Errors
    /// Where it may not. The refusal is noted.
    pub fn changeable(&self) -> Result<(), Fault> {
        match self.grant.mode {
            Mode::Rw => Ok(()),
            Mode::Ro => Err(self.shared.read_only(&self.grant)),
        }
    }

    /// What to make of an error that a path led to.
    pub fn fault(&self, error: io::Error, path: &str) -> Fault {
        // cap-std's own refusals have no number, for the system never saw the path, or its number
        // would say something else.
        if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() {
            return self.shared.escape(&self.grant, path);
        }
        error.into()
    }
}

impl Directory {
    /// Opens the directory of the host's that is granted, unless it is one of those that stand apart.
    /// Blocks. The inner error is the grant's.
    pub fn ambient(
        origin: Origin,
        apart: &Apart,
        around: &Around,
    ) -> Result<Result<Self, Refused>, Fault> {
        let open = origin.shared.open()?;
        let opened = open_ambient(&origin.grant, apart, around);
        Ok(opened.map(|dir| Directory {
            dir,
            origin,
            _open: open,
        }))
    }

    /// Opens a file or directory in it, or makes a file. Blocks.
    ///
    /// What is there is looked at before it is opened, by a handle that does nothing but name it:
    /// opening a FIFO could wait for ever, and opening a device can do things. The file itself is
    /// then opened by that handle, so that nobody can put something else in its place in between.
    pub fn open(&self, path: &str, wanted: Wanted) -> Result<Descriptor, Fault> {
        let changes = wanted.write || wanted.create || wanted.truncate;
        if changes {
            self.origin.changeable()?;
        }
        let open = self.origin.shared.open()?;
        for _ in 0..ATTEMPTS {
            let found = self.name(path, wanted.follow);
            match found {
                Ok(_) if wanted.create && wanted.exclusive => return Err(ErrorCode::Exist.into()),
                Ok(named) => return self.opened(named, path, wanted, open),
                Err(error) if error.kind() == io::ErrorKind::NotFound && wanted.create => {
                    if let Some(file) = self.make(path, wanted.read)? {
                        return Ok(Descriptor::File(Arc::new(File {
                            file: Held::new(file, open, &self.origin),
                            readable: wanted.read,
                            writable: wanted.write,
                            origin: self.origin.clone(),
                        })));
                    }
                }
                Err(error) => return Err(self.origin.fault(error, path)),
            }
        }
        // Also a link that leads nowhere: what stands at its end is not made.
        Err(ErrorCode::NoEntry.into())
    }

    /// Sets the times of what a path leads to. Blocks. It is not opened for that: it might be a FIFO.
    pub fn set_times(
        &self,
        path: &str,
        accessed: Option<SystemTimeSpec>,
        modified: Option<SystemTimeSpec>,
    ) -> Result<(), Fault> {
        let named = self.name(path, true);
        let named = named.map_err(|error| self.origin.fault(error, path))?;
        let times = Timestamps {
            last_access: timespec(accessed),
            last_modification: timespec(modified),
        };
        let link = format!("/proc/self/fd/{}", named.as_raw_fd());
        Ok(utimensat(CWD, link, &times, AtFlags::empty())?)
    }

    /// A handle that names what stands at a path, and can do nothing else with it.
    fn name(&self, path: &str, follow: bool) -> io::Result<cap_std::fs::File> {
        let follow = match follow {
            true => FollowSymlinks::Yes,
            false => FollowSymlinks::No,
        };
        let mut options = OpenOptions::new();
        options
            .read(true)
            .follow(follow)
            .custom_flags(OFlags::PATH.bits().cast_signed());
        self.dir.open_with(path, &options)
    }

    fn of_the_kernel(&self, path: &str, what: &str) -> Fault {
        let Origin { shared, grant, .. } = &self.origin;
        shared.special(grant, path, what)
    }

    fn opened(
        &self,
        named: cap_std::fs::File,
        path: &str,
        wanted: Wanted,
        open: Open,
    ) -> Result<Descriptor, Fault> {
        let kind = kind(&named.metadata()?);
        match kind {
            DescriptorType::Directory if wanted.write || wanted.create || wanted.truncate => {
                Err(ErrorCode::IsDirectory.into())
            }
            DescriptorType::Directory if is_of_the_kernel(&named)? => {
                Err(self.of_the_kernel(path, "a directory of the kernel's"))
            }
            DescriptorType::Directory => Ok(Descriptor::Directory(Arc::new(Directory {
                dir: Dir::from_std_file(named.into_std()),
                origin: self.origin.clone(),
                _open: open,
            }))),
            DescriptorType::RegularFile if wanted.directory => Err(ErrorCode::NotDirectory.into()),
            DescriptorType::RegularFile if is_of_the_kernel(&named)? => {
                Err(self.of_the_kernel(path, "a file of the kernel's"))
            }
            DescriptorType::RegularFile => {
                let writable = wanted.write || wanted.truncate;
                let file = std::fs::File::options()
                    .read(wanted.read || !writable)
                    .write(writable)
                    .truncate(wanted.truncate)
                    .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
                    .open(format!("/proc/self/fd/{}", named.as_raw_fd()))?;
                Ok(Descriptor::File(Arc::new(File {
                    file: Held::new(file, open, &self.origin),
                    readable: wanted.read,
                    writable: wanted.write,
                    origin: self.origin.clone(),
                })))
            }
            DescriptorType::SymbolicLink => Err(ErrorCode::Loop.into()),
            other => Err(self.origin.shared.special(
                &self.origin.grant,
                path,
                match other {
                    DescriptorType::Fifo => "a FIFO",
                    DescriptorType::Socket => "a socket",
                    DescriptorType::BlockDevice | DescriptorType::CharacterDevice => "a device",
                    _ => "of an unknown kind",
                },
            )),
        }
    }

    /// Makes a file that is not there; `None` where it came into being meanwhile.
    fn make(&self, path: &str, read: bool) -> Result<Option<std::fs::File>, Fault> {
        self.origin.shared.create()?;
        let mut options = OpenOptions::new();
        options.read(read).write(true).create_new(true);
        match self.dir.open_with(path, &options) {
            Ok(file) => {
                self.origin.shared.had_room();
                Ok(Some(file.into_std()))
            }
            Err(error) => {
                self.origin.shared.not_created();
                match error.kind() {
                    io::ErrorKind::AlreadyExists => Ok(None),
                    _ => Err(self.origin.fault(error, path)),
                }
            }
        }
    }

    /// Has something made in it that counts as a new file.
    pub fn create(
        &self,
        path: &str,
        make: impl FnOnce(&Dir) -> io::Result<()>,
    ) -> Result<(), Fault> {
        self.counting(|| make(&self.dir).map_err(|error| self.origin.fault(error, path)))
    }

    /// The same of what fails in more ways than one.
    pub fn counting(&self, make: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
        self.origin.shared.create()?;
        let shared = &self.origin.shared;
        make()
            .inspect(|()| shared.had_room())
            .inspect_err(|_| shared.not_created())
    }
}

impl Descriptor {
    pub fn origin(&self) -> &Origin {
        match self {
            Descriptor::File(file) => &file.origin,
            Descriptor::Directory(directory) => &directory.origin,
        }
    }

    /// What the system knows of it. Blocks.
    pub fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Descriptor::File(file) => Metadata::from_file(&file.file),
            Descriptor::Directory(directory) => directory.dir.dir_metadata(),
        }
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether a file is on a file system of this machine's, where closing one does not wait.
fn is_on_this_machine(file: &std::fs::File) -> bool {
    // From `linux/magic.h` and the file systems' own: ext2 to ext4, xfs, btrfs, tmpfs, ramfs, overlay,
    // f2fs, zfs, bcachefs, squashfs, erofs, iso9660.
    const MAGIC: [i64; 12] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0x8584_58f6,
        0x794c_7630,
        0xf2f5_2010,
        0x2fc1_2fc1,
        0xca45_1a4e,
        0x7371_7368,
        0xe0f5_e1e2,
        0x9660,
    ];
    rustix::fs::fstatfs(file).is_ok_and(|found| MAGIC.contains(&(found.f_type & 0xffff_ffff)))
}

/// Whether it stands in a file system that the kernel makes up: in `/proc`, the memory and the
/// variables of this very process are files, its directories say which files it has open and where its memory
/// lies, and reading others waits for ever.
fn is_of_the_kernel(named: &impl AsFd) -> io::Result<bool> {
    // From `linux/magic.h`: proc, sysfs, debugfs, tracefs, securityfs, bpf, cgroup, cgroup2, selinux,
    // pstore, efivarfs, configfs, fusectl, binfmt_misc, AppArmor, Smack, mqueue, nsfs, pipefs, sockfs, the
    // anonymous ones.
    const MAGIC: [i64; 21] = [
        0x9fa0,
        0x6265_6572,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
        0x0027_e0eb,
        0x6367_7270,
        0xf97c_ff8c,
        0x6165_676c,
        0xde5e_81e4,
        0x6265_6570,
        0x6573_5543,
        0x4249_4e4d,
        0x5a3c_69f0,
        0x4341_5d53,
        0x1980_0202,
        0x6e73_6673,
        0x5049_5045,
        0x534f_434b,
        0x0904_1934,
    ];
    let kind = rustix::fs::fstatfs(named)?.f_type;
    Ok(MAGIC.contains(&(kind as i64 & 0xffff_ffff)))
}

fn timespec(time: Option<SystemTimeSpec>) -> Timespec {
    let nothing_but = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    match time {
        None => nothing_but(UTIME_OMIT),
        Some(SystemTimeSpec::SymbolicNow) => nothing_but(UTIME_NOW),
        Some(SystemTimeSpec::Absolute(time)) => {
            // Times before 1970 cannot be said in WASI.
            let since = time
                .into_std()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            Timespec {
                tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: since.subsec_nanos().into(),
            }
        }
    }
}

/// The kind of thing that it is.
pub(super) fn kind(metadata: &Metadata) -> DescriptorType {
    kind_of(metadata.file_type())
}

/// The kind of thing that it is.
pub(super) fn kind_of(kind: cap_std::fs::FileType) -> DescriptorType {
    use cap_fs_ext::FileTypeExt;
    if kind.is_dir() {
        DescriptorType::Directory
    } else if kind.is_file() {
        DescriptorType::RegularFile
    } else if kind.is_symlink() {
        DescriptorType::SymbolicLink
    } else if kind.is_fifo() {
        DescriptorType::Fifo
    } else if kind.is_socket() {
        DescriptorType::Socket
    } else if kind.is_block_device() {
        DescriptorType::BlockDevice
    } else if kind.is_char_device() {
        DescriptorType::CharacterDevice
    } else {
        DescriptorType::Unknown
    }
}

/// What tells one file from another.
pub(super) fn identity(metadata: &Metadata) -> (u64, u64) {
    (MetadataExt::dev(metadata), MetadataExt::ino(metadata))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;

    use super::*;
    use crate::limits::Limits;
    use crate::sandbox::capability::{Chatter, Refusals};
    use crate::sandbox::disk::Disk;
    use crate::turns::Party;

    #[test]
    fn what_may_block_when_it_is_closed_is_closed_on_another_thread() {
        let refusals = Refusals::new(Arc::default(), Chatter::unheard().listeners());
        let limits = Limits {
            open_files: 1,
            ..Limits::default()
        };
        let shared = Arc::new(Shared::new(
            Arc::new(Disk::new()),
            Party::of(None, "words"),
            refusals,
            &limits,
        ));
        let origin = Origin {
            shared: Arc::clone(&shared),
            grant: Arc::new(DirectoryGrant {
                host: "/".into(),
                guest: "/".into(),
                mode: Mode::Ro,
            }),
            is_scratch: false,
        };
        let (mut there, here) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&there, true).unwrap();
        let file = std::fs::File::from(std::os::fd::OwnedFd::from(here));
        let held = Held::new(file, shared.open().unwrap(), &origin);
        assert!(!held.closes_at_once, "nothing is known of pipes");

        // All threads are taken, so nothing is closed as yet, and nobody waits for it.
        let (release, held_up) = mpsc::channel::<()>();
        let held_up = Arc::new(std::sync::Mutex::new(held_up));
        for _ in 0..64 {
            let held_up = Arc::clone(&held_up);
            shared.close(move || drop(held_up.lock().map(|waiting| waiting.recv())));
        }
        drop(held);
        assert!(shared.open().is_ok(), "the guest has no file open");
        let error = there.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(release);
        rustix::io::ioctl_fionbio(&there, false).unwrap();
        assert_eq!(there.read(&mut [0]).unwrap(), 0, "it is closed");
    }

    #[test]
    fn a_file_on_this_machine_is_closed_at_once() {
        let here = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        assert!(is_on_this_machine(&here));
    }
}
