//! What is mounted, also in two places.
//!
//! A directory that is mounted a second time is the same one under another name, and `..` in it leads to where it is
//! mounted: neither its names nor what it lies in tell that it is, or has in it, a part of something else. The kernel's
//! list of mounts does: each is a part of a file system, and says which.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Where the kernel lists them.
const LIST: &str = "/proc/self/mountinfo";
/// The most of it that is read, in bytes.
const MAX_LIST: u64 = 64 << 20;

/// The mounts, read anew where they have changed.
#[derive(Debug, Default)]
pub(super) struct Mounts(Mutex<Option<(File, Arc<Table>)>>);

impl Mounts {
    /// Those that there are now; none where the system has no list of them. Blocks.
    ///
    /// # Errors
    /// Where there is a list that cannot be read.
    pub fn now(&self) -> io::Result<Arc<Table>> {
        // Either there or not: a panicking holder cannot have left it in between.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((file, table)) = &*kept
            && !has_changed(file)
        {
            return Ok(Arc::clone(table));
        }
        let mut file = match kept.take() {
            Some((file, _)) => file,
            None => match File::open(LIST) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
                Err(error) => return Err(error),
            },
        };
        let mut list = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        (&file).take(MAX_LIST).read_to_end(&mut list)?;
        if list.len() as u64 == MAX_LIST {
            return Err(io::Error::other("there are too many mounts to look at"));
        }
        let table = Arc::new(Table::parse(&list));
        *kept = Some((file, Arc::clone(&table)));
        Ok(table)
    }
}

/// Whether something was mounted or unmounted since the list was last asked. Where that cannot be known, it is read.
fn has_changed(list: &File) -> bool {
    let mut asked = [PollFd::new(list, PollFlags::PRI)];
    let polled = poll(&mut asked, Some(&Timespec::default()));
    !matches!(polled, Ok(0))
}

/// Where something is: on which file system, and where in that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    device: Vec<u8>,
    path: PathBuf,
}

impl Place {
    fn meets(&self, other: &Place) -> bool {
        self.device == other.device
            && (self.path.starts_with(&other.path) || other.path.starts_with(&self.path))
    }
}

#[derive(Debug)]
struct Mount {
    /// What is mounted.
    what: Place,
    /// Under which path.
    at: PathBuf,
}

/// All mounts at one time, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Table {
    mounts: Vec<Mount>,
    /// Whether any file system is mounted in two places: else there are no two names for one thing.
    twice: bool,
}

impl Table {
    fn parse(list: &[u8]) -> Self {
        let lines = list.split(|byte| *byte == b'\n');
        let mounts: Vec<Mount> = lines.filter_map(parse).collect();
        let mut devices: Vec<&[u8]> = mounts.iter().map(|mount| &*mount.what.device).collect();
        devices.sort_unstable();
        let twice = devices.windows(2).any(|two| two[0] == two[1]);
        Table { mounts, twice }
    }

    /// What a directory has in it, by its real path: its own place, and what is mounted below it. Nothing where no file
    /// system is mounted in two places.
    pub fn within(&self, real: &Path) -> Vec<Place> {
        if !self.twice {
            return Vec::new();
        }
        let below = self.mounts.iter();
        let below = below.filter(|mount| mount.at != real && mount.at.starts_with(real));
        let below = below.map(|mount| mount.what.clone());
        self.place(real).into_iter().chain(below).collect()
    }

    /// Whether a file or folder, or where it would be made, is one of those places, has one in it or lies in one.
    /// Blocks.
    pub fn meet(&self, within: &[Place], path: &Path) -> bool {
        if within.is_empty() {
            return false;
        }
        let real = real(path).and_then(|real| self.place(&real));
        real.is_some_and(|real| within.iter().any(|place| place.meets(&real)))
    }

    fn place(&self, real: &Path) -> Option<Place> {
        let around = self
            .mounts
            .iter()
            .filter(|mount| real.starts_with(&mount.at));
        // Of those at one path, the last hides the others.
        let mount = around.max_by_key(|mount| mount.at.components().count())?;
        let rest = real.strip_prefix(&mount.at).ok()?;
        Some(Place {
            device: mount.what.device.clone(),
            path: mount.what.path.join(rest),
        })
    }
}

/// `ID PARENT DEVICE ROOT AT … - TYPE SOURCE …`
fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    let device = words.next()?.to_vec();
    let (mut path, at) = (unescaped(words.next()?), unescaped(words.next()?));
    let mut behind = words.skip_while(|word| *word != b"-").skip(1);
    if let (Some(b"nfs" | b"nfs4"), Some(source)) = (behind.next(), behind.next()) {
        // Of each export of a server the kernel says that it is the whole; which one it is, its source says.
        let exported = source.windows(2).position(|two| two == b":/");
        let exported = exported.map(|colon| unescaped(&source[colon + 1..]));
        let below = path.strip_prefix("/").map(Path::to_owned);
        if let (Some(exported), Ok(below)) = (exported, below) {
            path = exported.join(below);
        }
    }
    Some(Mount {
        what: Place { device, path },
        at,
    })
}

/// A path in which blanks and the like stand as `\040`.
fn unescaped(word: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = &behind[3..];
            }
            None => {
                path.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(path).into()
}

/// The real path of something, or of where it would be made.
fn real(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(|above| {
        let rest = path.strip_prefix(above).ok()?;
        let real = fs::canonicalize(above).ok()?;
        Some(match rest.as_os_str().is_empty() {
            true => real,
            false => real.join(rest),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &[&str]) -> Table {
        Table::parse(lines.join("\n").as_bytes())
    }

    #[test]
    fn what_is_mounted_a_second_time_is_the_same() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        for folder in ["home/secrets", "home/a b", "beside"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let shown = root.display();
        let all = |root: &str, at: &str| format!("30 1 8:1 {root} {at} rw - ext4 /dev/sda1 rw");
        let first = all("/", "/");
        let other = "31 1 0:9 / /dev rw - tmpfs tmpfs rw".to_owned();
        for (mounted, granted, meets) in [
            // The home below what is granted; a part of it; and what it lies in.
            (format!("{shown}/home"), "/granted", true),
            (format!("{shown}/home/secrets"), "/granted", true),
            (format!("{shown}"), "/granted", true),
            ("/".to_owned(), "/granted", true),
            // As the kernel writes it.
            (format!("{shown}/home/a\\040b"), "/granted", true),
            // What is granted lies in it, or is above it.
            (format!("{shown}/home/secrets"), "/granted/in/deeper", true),
            (format!("{shown}/home/secrets"), "/", true),
            (format!("{shown}/beside"), "/granted", false),
            (format!("{shown}/home/secrets"), "/elsewhere", false),
        ] {
            let second = all(&mounted, "/granted/in");
            let table = table(&[&first, &other, &second]);
            let within = table.within(Path::new(granted));
            assert_eq!(
                table.meet(&within, &root.join("home")),
                meets,
                "{mounted} {granted}"
            );
            // Also where it is yet to be made.
            let new = root.join("home/secrets/new");
            let part = mounted.ends_with("a\\040b") || granted.ends_with("deeper");
            assert_eq!(
                table.meet(&within, &new),
                meets && !part,
                "{mounted} {granted}"
            );
        }
        // Another file system, and none that is there twice.
        let elsewhere = "32 1 8:2 / /granted/in rw - ext4 /dev/sdb1 rw";
        let once = table(&[&first, &other, elsewhere]);
        assert!(once.within(Path::new("/granted")).is_empty());
        // What is hidden by another mount is not what is found there.
        let hidden = table(&[
            &first,
            &all("/", "/granted"),
            "33 1 8:3 / /granted rw - ext4 /dev/sdc1 rw",
        ]);
        let within = hidden.within(Path::new("/granted/in"));
        assert!(!hidden.meet(&within, &root.join("home")));
    }

    /// Each is told to be the whole of the same file system.
    #[test]
    fn exports_of_one_server_are_told_apart() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("sk")).unwrap();
        let home = root.display();
        for (first, second, granted, meets) in [
            ("srv:/export/home", "srv:/export/data", "/data", false),
            ("srv:/export/home", "srv:/export/home", "/data", true),
            ("srv:/export/home", "srv:/", "/data/export", true),
            ("srv:/export/home", "srv:/", "/data/elsewhere", false),
            (
                "[fe80::1]:/export/home",
                "[fe80::1]:/export",
                "/data/home",
                true,
            ),
            (
                "[fe80::1]:/export/home",
                "[fe80::1]:/export",
                "/data/other",
                false,
            ),
        ] {
            let all = |source: &str, at: &str| {
                format!("30 1 0:45 / {at} rw,relatime shared:1 - nfs4 {source} rw,vers=4.2")
            };
            let table = table(&[&all(first, &home.to_string()), &all(second, "/data")]);
            let within = table.within(Path::new(granted));
            let met = table.meet(&within, &root.join("sk"));
            assert_eq!(met, meets, "{first} {second} {granted}");
        }
    }

    #[test]
    fn the_list_is_that_of_the_system() {
        let mounts = Mounts::default();
        let table = mounts.now().unwrap();
        assert_ne!(Path::new(LIST).exists(), table.mounts.is_empty());
        // Where nothing is mounted meanwhile, it is not read again.
        let now = || mounts.now().unwrap();
        let again = (0..100).any(|_| Arc::ptr_eq(&now(), &now()));
        assert!(again || table.mounts.is_empty());
    }
}
