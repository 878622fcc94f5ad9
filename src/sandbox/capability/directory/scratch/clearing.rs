//! Removes whatever lies in a folder, however deep and wide, in as many steps as one likes.
//!
//! It lies in a folder of the host's own, under numbers. Of the folder with the first number, the files and
//! the empty folders are removed, and the others moved up beside it, under the next numbers; then it is
//! empty and removed itself, and the next one's turn comes. So each folder is read, moved and removed once,
//! neither the stack nor the number of open files grows with the depth, and nothing is remembered but two
//! numbers. Nobody else can write into the host's own folder, and no link is followed.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, chmod, fchmod, fstat, openat, renameat,
    seek, unlinkat,
};
use rustix::io::Errno;

/// How often folders are gone over in vain, one time after the other. A write that was under way when its
/// guest was stopped may still put something into one.
const ATTEMPTS: u32 = 100;
/// Bytes of a listing that are read at once. A name has at most 255.
const BUFFER: usize = 16 * 1024;

/// A folder whose content is on its way out: how far that is.
#[derive(Debug, Default)]
pub(super) struct Clearing {
    /// The number of the folder whose turn it is.
    first: u64,
    /// The number that the next one gets.
    next: u64,
    /// Where the listing of the first goes on.
    at: u64,
    /// Times that something was left over since anything last went.
    in_vain: u32,
    /// Why it was.
    why: Option<Errno>,
}

impl Clearing {
    /// Of a folder in which there is one with the number 0.
    pub fn of_one() -> Self {
        Clearing {
            next: 1,
            ..Clearing::default()
        }
    }

    /// Removes so much at most: entries that are read, and folders. Returns whether all is gone.
    pub fn step(&mut self, own: BorrowedFd<'_>, most: usize) -> io::Result<bool> {
        let mut left = most;
        while self.first < self.next {
            if left == 0 {
                return Ok(false);
            }
            self.go_on(own, &mut left)?;
        }
        Ok(true)
    }

    /// Takes one entry out of a folder: what is no folder with something in it is gone then, and that has a
    /// number in `own`. Where there is no room for it, it stays.
    pub fn take(
        &mut self,
        own: BorrowedFd<'_>,
        folder: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
    ) -> io::Result<()> {
        let taken = match kind {
            FileType::Directory => match unlinkat(folder, name, AtFlags::REMOVEDIR) {
                Err(error) if error != Errno::NOENT => self.move_up(own, folder, name),
                removed => removed,
            },
            // Not every file system says what it is.
            _ => match unlinkat(folder, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => self.move_up(own, folder, name),
                removed => removed,
            },
        };
        match taken {
            Ok(()) => self.in_vain = 0,
            Err(Errno::NOENT) => {}
            // What goes meanwhile makes room.
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::MLINK)) => self.why = Some(error),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn move_up(
        &mut self,
        own: BorrowedFd<'_>,
        folder: BorrowedFd<'_>,
        name: &CStr,
    ) -> rustix::io::Result<()> {
        let number = self.next.to_string();
        match renameat(folder, name, own, &number) {
            // A folder that is moved is written to.
            Err(Errno::ACCESS) => {
                allow(folder, name)?;
                renameat(folder, name, own, &number)?;
            }
            moved => moved?,
        }
        self.next += 1;
        Ok(())
    }

    /// Goes on with the folder whose turn it is.
    fn go_on(&mut self, own: BorrowedFd<'_>, left: &mut usize) -> io::Result<()> {
        let number = self.first.to_string();
        let folder = match open(own, Path::new(&number)) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => {
                self.went(left);
                return Ok(());
            }
            // Something else was put in its place just before it was moved.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                unlinkat(own, &number, AtFlags::empty())?;
                self.went(left);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if self.at != 0 {
            // Where this fails it is read from its beginning, where nothing is any more.
            let _ = seek(&folder, SeekFrom::Start(self.at));
        }
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut entries = RawDir::new(&folder, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if !is_itself_or_above(name) {
                self.take(own, folder.as_fd(), name, entry.file_type())?;
            }
            self.at = entry.next_entry_cookie();
            *left -= 1;
            if *left == 0 {
                return Ok(());
            }
        }
        self.at = 0;
        match unlinkat(own, &number, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => self.went(left),
            Err(Errno::NOTEMPTY | Errno::EXIST) => self.again(own, &number, left)?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The first is gone.
    fn went(&mut self, left: &mut usize) {
        self.first += 1;
        self.at = 0;
        self.in_vain = 0;
        self.why = None;
        *left = left.saturating_sub(1);
    }

    /// Something is left in the first: its turn comes again, after all others.
    fn again(&mut self, own: BorrowedFd<'_>, number: &str, left: &mut usize) -> io::Result<()> {
        self.in_vain += 1;
        if self.in_vain > ATTEMPTS {
            return Err(self.why.unwrap_or(Errno::NOTEMPTY).into());
        }
        let is_alone = self.first + 1 == self.next;
        if !is_alone && renameat(own, number, own, self.next.to_string()).is_ok() {
            self.first += 1;
            self.next += 1;
        }
        *left = left.saturating_sub(1);
        Ok(())
    }
}

/// Opens a folder of the host's own, or one with a number in it, to read it and to remove what is in it.
pub(super) fn open(own: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(own, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            allow(own, name)?;
            openat(own, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    if !Mode::from_raw_mode(fstat(&folder)?.st_mode).contains(Mode::RWXU) {
        fchmod(&folder, Mode::RWXU)?;
    }
    Ok(folder)
}

/// Lets this user read and write a folder, by what it is and not by its name.
fn allow(folder: BorrowedFd<'_>, name: impl rustix::path::Arg) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = openat(folder, name, flags, Mode::empty())?;
    chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), Mode::RWXU)
}

/// Whether this is how a listing calls the folder itself, or the one above it.
pub(super) fn is_itself_or_above(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::mkdirat;

    use super::*;

    /// Steps that it takes to remove what is below `0`, and what is left.
    fn steps(own: &Path, most: usize) -> usize {
        let handle = File::open(own).unwrap();
        let mut clearing = Clearing::of_one();
        let mut steps = 1;
        while !clearing.step(handle.as_fd(), most).unwrap() {
            steps += 1;
        }
        assert_eq!(fs::read_dir(own).unwrap().count(), 0);
        steps
    }

    /// A chain of folders, with a file in each.
    fn chain(folder: &Path, depth: usize) {
        let mut at: OwnedFd = File::open(folder).unwrap().into();
        for _ in 0..depth {
            let flags = OFlags::CREATE | OFlags::WRONLY;
            openat(&at, "file", flags, Mode::RWXU).unwrap();
            mkdirat(&at, "0", Mode::RWXU).unwrap();
            at = open(at.as_fd(), Path::new("0")).unwrap();
        }
    }

    /// Each entry is read once and each folder removed once, whatever is removed between them: of a listing,
    /// what was read before is never read again.
    #[test]
    fn the_work_is_linear_in_the_entries() {
        for (wide, deep) in [(10, 600), (1_500, 10), (1_500, 600)] {
            let own = tempfile::tempdir().unwrap();
            let top = own.path().join("0");
            fs::create_dir(&top).unwrap();
            for number in 0..wide {
                // Long names, so that the folder is large, and is not made smaller.
                File::create(top.join(format!("{number:0>200}"))).unwrap();
            }
            chain(&top, deep);
            // Beside what is in a folder, two entries stand for itself and for the one above.
            let folders = deep + 1;
            let work = wide + 2 * deep + 3 * folders;
            let most = 200;
            let steps = steps(own.path(), most);
            // At the beginning of a step something may be read again.
            let allowed = work.div_ceil(most - 3) + 1;
            assert!(steps <= allowed, "{wide} {deep}: {steps}, not {allowed}");
            assert!(
                steps >= work / (most + 1),
                "{wide} {deep}: {steps} for {work}"
            );
        }
    }

    #[test]
    fn every_step_gets_on() {
        let own = tempfile::tempdir().unwrap();
        let top = own.path().join("0");
        fs::create_dir_all(top.join("1/0/1")).unwrap();
        fs::write(top.join("1/file"), "x").unwrap();
        chain(&top.join("1/0/1"), 5);
        steps(own.path(), 1);
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "x").unwrap();
        let own = place.path().join("own");
        let top = own.join("0");
        fs::create_dir_all(top.join("inner")).unwrap();
        for folder in [&top, &top.join("inner")] {
            symlink(&outside, folder.join("link")).unwrap();
            symlink("..", folder.join("up")).unwrap();
            symlink("no/such/place", folder.join("broken")).unwrap();
            fs::hard_link(outside.join("file"), folder.join("hard")).unwrap();
            rustix::fs::mknodat(
                File::open(folder).unwrap(),
                "fifo",
                FileType::Fifo,
                Mode::RWXU,
                0,
            )
            .unwrap();
        }
        steps(&own, 1_000);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "x");
    }

    /// A guest that was just being stopped may put a link where a folder was, before it is moved.
    #[test]
    fn what_took_the_place_of_a_folder_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "x").unwrap();
        let own = place.path().join("own");
        fs::create_dir_all(own.join("0")).unwrap();
        symlink(&outside, own.join("1")).unwrap();
        fs::write(own.join("2"), "x").unwrap();
        let mut clearing = Clearing {
            // What would have the number 3 was removed by somebody else.
            next: 4,
            ..Clearing::default()
        };
        let handle = File::open(&own).unwrap();
        assert!(clearing.step(handle.as_fd(), 1_000).unwrap());
        assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
        assert!(outside.join("file").exists());
    }

    #[test]
    fn whatever_the_modes() {
        let own = tempfile::tempdir().unwrap();
        let top = own.path().join("0");
        for mode in [0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600] {
            let folder = top.join(format!("{mode:o}"));
            fs::create_dir_all(folder.join("inner/folder")).unwrap();
            fs::write(folder.join("file"), "x").unwrap();
            for folder in [folder.join("inner"), folder] {
                fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        fs::set_permissions(&top, fs::Permissions::from_mode(0o500)).unwrap();
        steps(own.path(), 7);
    }

    /// A write that was under way puts something into a folder that was read already.
    #[test]
    fn what_comes_late_goes_as_well() {
        let own = tempfile::tempdir().unwrap();
        let top = own.path().join("0");
        fs::create_dir_all(top.join("folder")).unwrap();
        for number in 0..100 {
            fs::write(top.join(number.to_string()), "x").unwrap();
        }
        let handle = File::open(own.path()).unwrap();
        let mut clearing = Clearing::of_one();
        let mut late = 0;
        while !clearing.step(handle.as_fd(), 5).unwrap() {
            // Wherever it is by now.
            for folder in fs::read_dir(own.path()).unwrap().take(5) {
                let folder = folder.unwrap().path();
                if late < 15 {
                    fs::write(folder.join(format!("late-{late}")), "x").unwrap();
                    fs::create_dir(folder.join(format!("late-folder-{late}"))).unwrap();
                    late += 1;
                }
            }
        }
        assert_eq!(late, 15);
        assert_eq!(fs::read_dir(own.path()).unwrap().count(), 0);
    }
}
