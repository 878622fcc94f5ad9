//! Where PostgreSQL is.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{fetch, program};

/// The variable that names the folder of the programs, or is `fetch` for one to be fetched though this
/// machine has one.
pub const VARIABLE: &str = "SKILLHOST_POSTGRES_BIN";

/// What is needed of PostgreSQL.
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// The folder of PostgreSQL's programs: the one that the environment names, or one of this machine,
/// or one that is fetched.
pub fn find() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        let named = PathBuf::from(named);
        if named.as_os_str() == "fetch" {
            return fetch::unpacked();
        }
        return if has_all(&named) {
            Ok(named)
        } else {
            Err(format!(
                "{VARIABLE} is {}, where there are not all of {PROGRAMS:?}",
                named.display()
            ))
        };
    }
    if let Some(found) = installed() {
        return Ok(found);
    }
    fetch::unpacked().map_err(|error| {
        format!(
            "There is no PostgreSQL here, and these tests need one.\n\
             Install it (apt-get install postgresql), or name the folder of its programs in \
             {VARIABLE}.\nFetching one failed, too: {error}"
        )
    })
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    on_path
        .into_iter()
        .chain(told())
        .chain(below("/usr/lib/postgresql", "bin"))
        .chain(below("/usr", "bin"))
        .chain(below("/opt/homebrew/opt", "bin"))
        .find(|folder| has_all(folder))
}

fn has_all(folder: &Path) -> bool {
    PROGRAMS.iter().all(|name| program(folder, name).is_some())
}

/// What `pg_config` says.
fn told() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim()))
}

/// The folders of versions below this one, the newest first: `/usr/lib/postgresql/17/bin` of Debian,
/// `/usr/pgsql-17/bin` of Red Hat.
fn below(parent: &str, bin: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name
                .trim_start_matches("pgsql-")
                .trim_start_matches("postgresql@");
            Some((version.parse().ok()?, entry.path().join(bin)))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path)| path).collect()
}
