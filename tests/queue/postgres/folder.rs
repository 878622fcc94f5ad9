//! The folder of a server, and the user that it belongs to.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{Access, access};

/// What folders of servers begin with.
const PREFIX: &str = "postgres-";
/// The longest path that a socket fits into, with its name in it: 107 bytes on Linux.
const MAX_PATH: usize = 107 - "/.s.PGSQL.5432".len();

/// After this a server whose process has ended was not stopped by its shell: the machine went down.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// A folder that is gone with this, or swept by a later process.
pub struct Folder {
    path: PathBuf,
    user: Option<User>,
    // Held for as long as the folder is in use.
    _lock: File,
}

/// Whom the server runs as where this process is root, as whom PostgreSQL refuses to run.
#[derive(Debug, Clone, Copy)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl Folder {
    /// An empty folder, of the user that the server is to run as.
    pub fn new() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let user = unprivileged()?;
        let base = base(user.is_some())?;
        sweep(&base);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{PREFIX}{}-{number}", std::process::id()));
        let failed = |error| format!("{}: {error}", path.display());
        let lock = File::create(base.join(lock_of(&path))).map_err(failed)?;
        lock.try_lock()
            .map_err(|error| format!("{} is in use: {error}", path.display()))?;
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }?;
        fs::create_dir(&path).map_err(failed)?;
        // Who is let in here can do everything in the databases.
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(failed)?;
        if let Some(user) = user {
            chown(&path, Some(user.uid), Some(user.gid)).map_err(failed)?;
        }
        Ok(Folder {
            path,
            user,
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn user(&self) -> Option<User> {
        self.user
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(self.path.with_file_name(lock_of(&self.path)));
    }
}

/// The name of the file whose lock says that a folder is in use.
fn lock_of(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    format!("{}.lock", name.to_string_lossy())
}

/// Removes the folders of processes that did not get to it. Their servers have ended.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) || !name.ends_with(".lock") {
            continue;
        }
        let held = File::open(&path).is_ok_and(|file| file.try_lock().is_err());
        let folder = path.with_extension("");
        // A shell that is still about to stop its server needs the files.
        let stopping = folder.join("data/postmaster.pid").exists() && age(&path) < PATIENCE;
        if !held && !stopping {
            let _ = fs::remove_dir_all(folder);
            let _ = fs::remove_file(path);
        }
    }
}

/// How long ago a file was made.
fn age(path: &Path) -> Duration {
    let made = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = made.ok().and_then(|made| made.elapsed().ok());
    age.unwrap_or_default()
}

/// Below the target folder where that will do, or the folder for temporary files: another user must
/// be able to get there, and the path of the socket is short.
fn base(for_another_user: bool) -> Result<PathBuf, String> {
    let target = option_env!("CARGO_TARGET_TMPDIR").map(PathBuf::from);
    let places = target.into_iter().chain([std::env::temp_dir()]);
    let tried: Vec<PathBuf> = places
        .filter(|place| fs::create_dir_all(place).is_ok())
        .filter(|place| access(place, Access::WRITE_OK).is_ok())
        .collect();
    let fits = |place: &&PathBuf| {
        let room = place.as_os_str().len() + PREFIX.len() + 20 <= MAX_PATH;
        room && (!for_another_user || place.ancestors().all(lets_others_through))
    };
    tried.iter().find(fits).cloned().ok_or_else(|| {
        format!("PostgreSQL needs a folder that every user can reach; tried {tried:?}")
    })
}

fn lets_others_through(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & 0o001 != 0)
}

/// `postgres`, or `nobody`, where this process is root.
fn unprivileged() -> Result<Option<User>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |name: &str| {
        let fields = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields[0] == name)?;
        Some(User {
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
        })
    };
    user("postgres")
        .or_else(|| user("nobody"))
        .map(Some)
        .ok_or_else(|| "PostgreSQL does not run as root, and there is no user nobody".into())
}
