//! The database that the queue is kept in.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::StringValueParser;
use clap::{Args, ValueHint};
use skillhost::queue::{Queue, QueueError};

use super::complaint::Complaint;
use super::exit::Exit;
use super::host::{Interrupts, block_on};
use super::not_empty::NotEmpty;
use super::{Session, explain};

/// Where the queue is.
#[derive(Clone, Default, Args)]
pub struct DatabaseArgs {
    /// Keep jobs in this SQLite file, or in this PostgreSQL database
    ///
    /// Without it, in queue.db in the folder of --home, or of the XDG Base Directory Specification:
    /// usually ~/.local/share/skillhost. The file is made when it is first used.
    #[arg(
        long,
        global = true,
        value_name = "PATH|postgres://…",
        env = "SKILLHOST_DATABASE",
        hide_env_values = true,
        value_parser = NotEmpty(StringValueParser::new()),
        value_hint = ValueHint::FilePath,
        help_heading = "Global options"
    )]
    database: Option<String>,
}

impl fmt::Debug for DatabaseArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may have a password in it.
        let shown = self.database.as_deref().map(shown);
        f.debug_tuple("DatabaseArgs").field(&shown).finish()
    }
}

/// A database as it was named.
#[derive(Clone)]
pub enum Database {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database, by its URL.
    Postgres(String),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::File(path) => write!(f, "{}", path.display()),
            Database::Postgres(url) => f.write_str(&shown(url)),
        }
    }
}

impl Database {
    /// Opens the queue in it.
    ///
    /// # Errors
    /// Where it cannot be used.
    pub async fn open(&self) -> Result<Queue, QueueError> {
        match self {
            Database::File(path) => Queue::open(path),
            Database::Postgres(url) => Queue::connect(url).await,
        }
    }
}

/// What to do where the file of the queue cannot be used.
const ANOTHER_FILE: &str =
    "name another file for the queue with `--database FILE`, or another folder with `--home DIR`";

impl DatabaseArgs {
    /// As the environment has it, for commands that have no use for a queue.
    pub fn of_environment() -> Self {
        DatabaseArgs {
            database: std::env::var("SKILLHOST_DATABASE").ok(),
        }
    }

    /// The database that was named.
    ///
    /// # Errors
    /// Where its name makes no sense.
    pub fn database(&self, session: &Session) -> anyhow::Result<Database> {
        Ok(match self.database.as_deref() {
            None | Some("") => Database::File(session.places()?.queue()),
            Some(url) if is_postgres(url) => Database::Postgres(url.to_owned()),
            Some(other) if other.contains("://") => {
                return Err(Complaint::usage(format!(
                    "`{}` is neither a path nor a postgres:// URL",
                    shown(other)
                ))
                .into());
            }
            // What stands behind it may be a password.
            Some(other) if let Some(scheme) = scheme(other) => {
                let message = format!("`{scheme}:…` is neither a path nor a postgres:// URL");
                let hint =
                    format!("a file of such a name has its folder before it: `./{scheme}:…`");
                return Err(Complaint::usage(message).hint(hint).into());
            }
            Some(path) => {
                let path = Path::new(path);
                is_beside_something(path)?;
                Database::File(path.to_owned())
            }
        })
    }

    /// The file that was named, where one was, so that it means the same in whatever folder.
    ///
    /// # Errors
    /// Where its path cannot be made absolute.
    pub fn file(&self) -> anyhow::Result<Option<String>> {
        Ok(match self.database.as_deref() {
            None | Some("") => None,
            Some(url) if url.contains("://") => None,
            Some(path) => Some(std::path::absolute(path)?.display().to_string()),
        })
    }

    /// The URL that was named, where one was. A password may stand in it: it is not for where other users of
    /// the machine see it, such as the arguments of a process.
    pub fn url(&self) -> Option<&str> {
        self.database.as_deref().filter(|url| url.contains("://"))
    }

    /// Opens the queue.
    ///
    /// # Errors
    /// Where the database cannot be used.
    pub async fn open(&self, session: &Session) -> anyhow::Result<Queue> {
        let database = self.database(session)?;
        database.open().await.map_err(|error| {
            let complaint = explain::queue(error);
            let is_mute = complaint.exit == Exit::Host && complaint.hints.is_empty();
            match database {
                Database::File(_) if is_mute => complaint.hint(ANOTHER_FILE).into(),
                _ => complaint.into(),
            }
        })
    }

    /// Opens the queue and does something with it, on this thread alone.
    ///
    /// # Errors
    /// Where the database cannot be used, or what is done with it fails.
    pub fn with<T>(
        &self,
        session: &Session,
        work: impl AsyncFnOnce(Queue, Interrupts) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        block_on(async |interrupts| {
            let queue = self.open(session).await?;
            let done = work(queue.clone(), interrupts).await;
            // The process may end at once, and whoever waits for this should not have to find out.
            queue.flush().await;
            done
        })
    }
}

/// A file is made where it is not there; a folder only where nobody can have mistyped it.
fn is_beside_something(path: &Path) -> anyhow::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => {
            let message = format!(
                "cannot keep jobs in `{}`: there is no folder `{}`",
                path.display(),
                folder.display()
            );
            Err(Complaint::usage(message)
                .hint(format!(
                    "make it first, if that is meant: `mkdir -p {}`",
                    folder.display()
                ))
                .into())
        }
        _ => Ok(()),
    }
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// What a text begins with that is written like a URL, perhaps without its slashes.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let is_of_one = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_one = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(is_of_one);
    is_one.then_some(scheme)
}

/// What may be shown of the name of a database: of a URL, neither user nor password nor parameters.
fn shown(database: &str) -> String {
    let Some((scheme, rest)) = database.split_once("://") else {
        return database.to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_its_slashes_is_no_path() {
        for (text, expected) in [
            ("postgres:garbage", Some("postgres")),
            ("postgres:/me@host/jobs", Some("postgres")),
            ("sqlite:jobs.db", Some("sqlite")),
            ("jobs.db", None),
            ("./postgres:x", None),
            ("/srv/a:b.db", None),
            (":memory:", None),
        ] {
            assert_eq!(scheme(text), expected, "{text}");
        }
    }

    #[test]
    fn nobody_sees_a_password() {
        for (url, expected) in [
            (
                "postgres://me:p@ss@host:5432/jobs?password=x",
                "postgres://host:5432/jobs",
            ),
            ("postgresql:///jobs", "postgresql:///jobs"),
            ("jobs.db", "jobs.db"),
        ] {
            assert_eq!(shown(url), expected);
        }
        let args = DatabaseArgs {
            database: Some("postgres://me:secret@host/jobs".into()),
        };
        assert!(!format!("{args:?}").contains("secret"));
    }
}
