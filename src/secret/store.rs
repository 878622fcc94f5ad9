//! Secrets that are kept: a file of this user's alone, a line for each.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{SecretError, SecretValue, read};
use crate::grant::check_secret_name;
use crate::private::make_folder;

/// The largest file, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// What it begins with.
const HEAD: &str = "# secrets of skillhost, for this user alone: NAME=VALUE";

/// Secrets in a file of mode 0600. It is written aside and renamed, by one process at a time; values
/// stand in it as they are, so whoever can read this user's files can read them.
#[derive(Debug, Clone)]
pub struct SecretStore {
    path: PathBuf,
}

impl SecretStore {
    /// Those in this file. Neither it nor its folder need be there before something is kept.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        SecretStore { path: path.into() }
    }

    /// The names, in order.
    ///
    /// # Errors
    /// Where the file cannot be read, or is open to others.
    pub fn names(&self) -> Result<Vec<String>, SecretError> {
        Ok(self.all()?.into_keys().collect())
    }

    /// The value of one, for the host alone.
    pub(super) fn get(&self, name: &str) -> Result<Option<SecretValue>, SecretError> {
        self.all()?.remove(name).map(SecretValue::new).transpose()
    }

    /// Keeps a value under a name. Whether there was one before is returned.
    ///
    /// # Errors
    /// Where the name is none, or the file cannot be written.
    pub fn set(&self, name: &str, value: SecretValue) -> Result<bool, SecretError> {
        check_secret_name(name).map_err(SecretError::Name)?;
        self.change(|all| all.insert(name.to_owned(), value.0).is_some())
    }

    /// Forgets one. Whether there was one is returned.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn remove(&self, name: &str) -> Result<bool, SecretError> {
        if !self.all()?.contains_key(name) {
            return Ok(false);
        }
        self.change(|all| all.remove(name).is_some())
    }

    fn all(&self) -> Result<BTreeMap<String, Zeroizing<String>>, SecretError> {
        let mut all = BTreeMap::new();
        let text = read::contents(&self.path, MAX_BYTES).map_err(|error| match error {
            // Not of one value, but of the file.
            SecretError::Characters | SecretError::TooLong => {
                SecretError::Damaged(self.path.clone())
            }
            error => error,
        })?;
        let Some(text) = text else {
            return Ok(all);
        };
        let lines = (1..).zip(text.lines());
        for (number, line) in lines.filter(|(_, line)| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once('=') else {
                return Err(SecretError::Damaged(self.path.clone()));
            };
            check_secret_name(name).map_err(|reason| SecretError::Line {
                path: self.path.clone(),
                number,
                reason,
            })?;
            all.insert(name.to_owned(), Zeroizing::new(value.to_owned()));
        }
        Ok(all)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Zeroizing<String>>) -> T,
    ) -> Result<T, SecretError> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        make_folder(folder).map_err(self.failed("cannot make the folder of"))?;
        let _lock = self.lock()?;
        let mut all = self.all()?;
        let changed = change(&mut all);
        let length: usize = all
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2)
            .sum();
        let mut text = Zeroizing::new(Vec::with_capacity(HEAD.len() + 1 + length));
        text.extend_from_slice(HEAD.as_bytes());
        text.push(b'\n');
        for (name, value) in &all {
            text.extend_from_slice(name.as_bytes());
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
        if text.len() > MAX_BYTES {
            return Err(SecretError::TooLong);
        }
        self.write(folder, &text)
            .map_err(self.failed("cannot write"))?;
        Ok(changed)
    }

    /// Holds others off until it is dropped. The file stays: to remove it would be to let two in.
    fn lock(&self) -> Result<File, SecretError> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".lock");
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.cast_signed())
            .open(PathBuf::from(name))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(self.failed("cannot lock"))
    }

    /// Written aside and renamed, so that a reader sees the old or the new. What is written aside is
    /// of mode 0600 from its first moment.
    fn write(&self, folder: &Path, text: &[u8]) -> std::io::Result<()> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut aside = tempfile::Builder::new()
            .prefix(".secrets-")
            .tempfile_in(path.parent().unwrap_or(folder))?;
        aside.write_all(text)?;
        aside.as_file().sync_all()?;
        aside.persist(&path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }

    fn failed<'a>(&'a self, what: &'static str) -> impl FnOnce(std::io::Error) -> SecretError + 'a {
        move |source| SecretError::Io {
            what,
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.to_owned()).unwrap()
    }

    #[test]
    fn what_is_kept_is_found_again_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/secrets");
        let store = SecretStore::new(&path);
        assert_eq!(store.names().unwrap(), Vec::<String>::new());
        assert!(!store.set("b", value("with=equals=signs")).unwrap());
        assert!(!store.set("a", value("#not-a-comment")).unwrap());
        assert!(store.set("a", value("12345678")).unwrap());
        assert_eq!(store.names().unwrap(), ["a", "b"]);
        assert_eq!(
            store.get("b").unwrap().unwrap().as_bytes(),
            b"with=equals=signs"
        );
        assert_eq!(store.get("a").unwrap().unwrap().as_bytes(), b"12345678");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(store.remove("a").unwrap());
        assert!(!store.remove("a").unwrap());
        assert!(matches!(
            store.set("a=b", value("12345678")),
            Err(SecretError::Name(_))
        ));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        let store = SecretStore::new(&path);
        store.set("a", value("hunter2hunter2")).unwrap();
        for mode in [0o604, 0o620, 0o640, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = store.get("a").unwrap_err();
            assert!(matches!(error, SecretError::Open { .. }), "{error}");
            assert!(error.hint("a").contains("chmod 600"));
            assert!(store.set("b", value("12345678")).is_err());
            assert!(matches!(read::file(&path), Err(SecretError::Open { .. })));
        }
    }

    #[test]
    fn a_file_holds_a_value_without_its_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (text, expected) in [
            ("12345678", Some("12345678")),
            ("12345678\n", Some("12345678")),
            ("12345678\r\n", Some("12345678")),
            ("1234567\n", None),
            ("12345678\n\n", None),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let read = read::file(&path).ok();
            assert_eq!(
                read.as_ref().map(SecretValue::as_bytes),
                expected.map(str::as_bytes)
            );
        }
    }

    /// What is wrong is the file, and not the right to read it.
    #[test]
    fn a_file_of_something_else_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        let store = SecretStore::new(&path);
        for garbage in [&b"\xff\xfe\x00"[..], b"no line of ours\n"] {
            fs::write(&path, garbage).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = store.names().unwrap_err();
            assert!(matches!(error, SecretError::Damaged(_)), "{error}");
            assert!(error.hint("a").starts_with("put it right"), "{error}");
        }
        let error = read::file(&folder.path().join("missing")).unwrap_err();
        assert!(
            error.to_string().contains("No such file or directory"),
            "{error}"
        );
        assert!(error.hint("a").starts_with("is the path right?"), "{error}");
    }

    /// Of several that write at once, none is lost.
    #[test]
    fn one_writes_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = SecretStore::new(folder.path().join("secrets"));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let store = &store;
                scope.spawn(move || store.set(&format!("s{number}"), value("12345678")).unwrap());
            }
        });
        assert_eq!(store.names().unwrap().len(), 8);
    }
}
